use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use houston_common::api::client::AgentClient;
use houston_common::api::convert::LABELS_MAX;
use houston_common::clock::{WallTime, millis};
use houston_common::command::{ApplyEnvironment, HostChange};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{EnrollmentProof, EnrollmentRequest};
use houston_common::id::HostId;
use houston_common::identity::request::{csr, new_key, renewal_challenge, sign};
use houston_common::identity::{PrivateKey, certificate_fingerprint};
use houston_common::policy::Policy;
use houston_common::release::Settings;
use houston_common::tls::{ClientSettings, ClockFloor, Credential, Trust};
use houston_common::view::Presence;
use houston_coordinator::ca::Ca;
use houston_coordinator::engine::core::Core;
use houston_coordinator::run::Coordinator;
use houston_coordinator::store::sled::SledStore;
use houston_tests::coordinator::{Host, PATIENCE, Running, join, until};

mod files;
mod process;

/// An environment of every host with the defaults.
pub(crate) fn environment(name: &str) -> ApplyEnvironment {
    ApplyEnvironment {
        name: name.parse().expect("a name"),
        selector: BTreeMap::new(),
        policy: Policy::default(),
        settings: Settings::default(),
        dry_run: false,
        reason: String::new(),
    }
}

fn change(host: &HostId) -> HostChange {
    HostChange { host: host.clone(), reason: "test".to_owned() }
}

async fn checks_in(client: &AgentClient, host: &mut Host) -> Result<(), Refusal> {
    let report = host.report(false, Vec::new());
    Ok(client.check_in(&report, Duration::ZERO).await.map(drop)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_becomes_a_host_and_is_seen() {
    let coordinator = Running::start(|config| config.hold = Duration::from_millis(300)).await;
    let (mut web, other) = (coordinator.host("web").await, coordinator.host("web").await);
    assert!(web.id.as_str().starts_with("web-") && web.id != other.id, "{} {}", web.id, other.id);
    assert_eq!(web.enrolled.zone.as_str(), "a");
    assert_eq!(web.enrolled.agent_address.port(), coordinator.agents().port());

    let client = web.client(&coordinator).await;
    let answer = client.check_in(&web.report(false, Vec::new()), Duration::ZERO).await.expect("answered");
    assert_eq!((answer.hold, answer.renew_now), (Duration::from_millis(300), false));
    // Without news a held call is answered when the hold ends, not before.
    let started = std::time::Instant::now();
    let answer = client.check_in(&web.report(true, Vec::new()), answer.hold).await.expect("answered");
    assert!(answer.assignments.is_empty());
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());

    let admin = coordinator.admin().await;
    let seen = admin.get_host(&web.id).await.expect("known");
    assert_eq!((seen.presence, seen.zone.as_str()), (Presence::Seen, "a"));
    // A host speaks for itself alone.
    assert_eq!(admin.get_host(&other.id).await.expect("known").presence, Presence::Unknown);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_lets_one_in_however_many_race() {
    const RACERS: usize = 100;
    let coordinator = Running::start(|_| {}).await;
    let token = coordinator.token(1).await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..RACERS {
        let stranger = coordinator.stranger().await;
        let request = join(&new_key().expect("a key"), &token, Some("racer"));
        racers.spawn(async move {
            loop {
                match stranger.enroll(&request).await {
                    Err(error) if error.refusal.code == Code::Busy => {
                        let pause = error.retry_after.expect("told when to come back");
                        assert!(pause > Duration::ZERO);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    result => {
                        return result.map(|enrolled| enrolled.host).map_err(|error| error.refusal.code);
                    }
                }
            }
        });
    }
    let results = tokio::time::timeout(PATIENCE, racers.join_all()).await.expect("all are answered");
    let winners: Vec<&HostId> = results.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|code| *code == Code::Token));
    let page = houston_common::command::Page { size: 100, token: None };
    let list = houston_common::command::ListHosts { filter: Default::default(), page };
    let hosts = coordinator.admin().await.list_hosts(&list).await.expect("listed");
    assert_eq!(hosts.items.iter().map(|host| &host.id).collect::<Vec<_>>(), winners);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_tells_its_holder_nothing_and_the_audit_log_why() {
    let coordinator = Running::start(|_| {}).await;
    let (token, used) = (coordinator.token(1).await, coordinator.token(1).await);
    let stranger = coordinator.stranger().await;
    let key = new_key().expect("a key");
    stranger.enroll(&join(&key, &used, None)).await.expect("the first use");
    let parts: Vec<&str> = token.split('.').collect();
    let tampered = [
        used.clone(),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(64)),
        format!("{}.{}.{}.{}", parts[0], parts[1], "0000000000", parts[3]),
        "houston-join-1.guess".to_owned(),
        "guess".to_owned(),
    ];
    let mut refusals = Vec::new();
    for token in &tampered {
        let error = stranger.enroll(&join(&new_key().expect("a key"), token, None)).await.expect_err(token);
        refusals.push(error.refusal);
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(refusals[0].code, Code::Token);
    // It was not used up by those who tried.
    stranger.enroll(&join(&new_key().expect("a key"), &token, None)).await.expect("still good");

    let (directory, _) = coordinator.stop().await;
    let store = SledStore::open(directory.path()).expect("the store");
    let core = Core::open(Arc::new(store), Duration::from_secs(90)).expect("it loads");
    let reasons: Vec<&str> = core.state().audit.iter().map(|entry| entry.why.as_str()).collect();
    for reason in ["used up", "wrong secret", "never made"] {
        assert!(reasons.iter().any(|why| why.contains(reason)), "{reason}: {reasons:?}");
    }
    let secret = parts[3];
    let kept = format!("{:?}", core.state());
    assert!(!kept.contains(secret), "the secret is kept nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others_are_refused() {
    let coordinator = Running::start(|_| {}).await;
    let web = coordinator.host("web").await;
    // An authority of one's own that names the same host.
    let (foreign, _) = Ca::create(SystemTime::now()).expect("an authority");
    let (key, request) = houston_common::identity::request::new_key_and_csr().expect("a key");
    let hour = Duration::from_secs(3600);
    let issued = foreign.issue_host(&request, &web.id, hour, SystemTime::now()).expect("issued");
    let forged = Credential::from_pem(&issued.chain_pem, &key).expect("a credential");
    let refusal = coordinator.connect(Some(&forged)).await.expect_err("not our authority's");
    assert!(
        matches!(refusal.code, Code::CertificateAuthority | Code::Unauthenticated | Code::Tls),
        "{refusal}"
    );
    // The coordinator's own certificate would do for a server, never for a client. Nor does a removed host's.
    let client = web.client(&coordinator).await;
    let admin = coordinator.admin().await;
    admin.remove_host(&change(&web.id)).await.expect("removed");
    let refusal = client.renew(csr(&web.key).expect("a request")).await.expect_err("it is gone").refusal;
    assert_eq!(refusal.code, Code::HostUnknown, "{refusal}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_enrolled_key_alone() {
    let coordinator = Running::start(|_| {}).await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    let other = new_key().expect("a key");
    let refusal = client.renew(csr(&other).expect("a request")).await.expect_err("another key").refusal;
    assert_eq!(refusal.code, Code::Csr, "{refusal}");
    let issued = client.renew(csr(&web.key).expect("a request")).await.expect("renewed");
    let renewed = Credential::from_pem(&issued.certificate_pem, &web.key).expect("a credential");
    assert_ne!(renewed.certificate().serial, web.credential.certificate().serial);
    web.credential = renewed;
    let client = web.client(&coordinator).await;
    checks_in(&client, &mut web).await.expect("the new one is good");
    coordinator.stop().await;
}

fn der(pem: &str) -> Vec<u8> {
    let end = pem.find("-----END").expect("an end");
    let base64: String = pem[..end].lines().filter(|line| !line.starts_with("-----")).collect();
    data_encoding::BASE64.decode(base64.as_bytes()).expect("base64")
}

fn renewal(
    host: &Host,
    signer: &PrivateKey,
    requested: &PrivateKey,
    signed_at: WallTime,
) -> EnrollmentRequest {
    let csr = csr(requested).expect("a request");
    let signature = sign(signer, &renewal_challenge(&host.id, &csr, signed_at)).expect("a signature");
    let certificate = der(&host.enrolled.certificate.certificate_pem);
    EnrollmentRequest {
        csr,
        proof: EnrollmentProof::ExpiredCertificate { certificate, signature, signed_at },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_away_too_long_comes_back_by_its_key() {
    let coordinator =
        Running::start(|config| config.host_certificate_lifetime = Duration::from_secs(4)).await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    // Expiry reaches the connection that is open, and is announced before.
    let asked = Arc::new(AtomicBool::new(false));
    until("the certificate expires", || {
        let report = web.report(false, Vec::new());
        let (client, asked) = (client.clone(), Arc::clone(&asked));
        async move {
            match client.check_in(&report, Duration::ZERO).await {
                Ok(answer) => {
                    asked.fetch_or(answer.renew_now, Ordering::SeqCst);
                    None
                }
                Err(error) => {
                    assert_eq!(error.refusal.code, Code::CertificateExpired);
                    Some(())
                }
            }
        }
    })
    .await;
    assert!(asked.load(Ordering::SeqCst), "it was asked to renew before its certificate ended");
    // A handshake judges by whole seconds.
    let refusal =
        until("no new one is let in", async || coordinator.connect(Some(&web.credential)).await.err()).await;
    assert_eq!(refusal.code, Code::CertificateExpired, "{refusal}");

    let stranger = coordinator.stranger().await;
    let now = WallTime::from_system(SystemTime::now());
    let other = new_key().expect("a key");
    for (what, request) in [
        ("signed by another key", renewal(&web, &other, &web.key, now)),
        ("for another key", renewal(&web, &web.key, &other, now)),
        ("all of another key", renewal(&web, &other, &other, now)),
    ] {
        let error = stranger.enroll(&request).await.expect_err(what);
        assert_eq!(error.refusal.code, Code::Token, "{what}");
    }
    let old = WallTime(now.0 - 11 * 60 * 1000);
    let error = stranger.enroll(&renewal(&web, &web.key, &web.key, old)).await.expect_err("signed long ago");
    assert_eq!(error.refusal.code, Code::CertificateExpired);

    let enrolled = stranger.enroll(&renewal(&web, &web.key, &web.key, now)).await.expect("it comes back");
    assert_eq!(enrolled.host, web.id);
    web.credential =
        Credential::from_pem(&enrolled.certificate.certificate_pem, &web.key).expect("a credential");
    let client = web.client(&coordinator).await;
    checks_in(&client, &mut web).await.expect("the new one is good");

    let admin = coordinator.admin().await;
    admin.revoke_host(&change(&web.id)).await.expect("revoked");
    let error = stranger.enroll(&renewal(&web, &web.key, &web.key, now)).await.expect_err("revoked");
    assert_eq!(error.refusal.code, Code::Token);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_reaches_a_held_check_in() {
    let coordinator = Running::start(|config| {
        config.hold = Duration::from_secs(300);
        config.lost_after = Duration::from_secs(900);
    })
    .await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    let (report, held_by) = (web.report(true, Vec::new()), client.clone());
    let held = tokio::spawn(async move { held_by.check_in(&report, Duration::from_secs(300)).await });
    let admin = coordinator.admin().await;
    until("the check-in is held", async || {
        let view = admin.get_host(&web.id).await.expect("known");
        (view.presence == Presence::Seen).then_some(())
    })
    .await;
    assert!(!held.is_finished());
    admin.revoke_host(&change(&web.id)).await.expect("revoked");
    let answer = tokio::time::timeout(PATIENCE, held).await.expect("at once").expect("no panic");
    let refusal = answer.expect_err("it may not call any more").refusal;
    assert!(matches!(refusal.code, Code::Unauthenticated | Code::HostUnknown), "{refusal}");
    let refusal = checks_in(&client, &mut web).await.expect_err("nor again");
    assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_who_is_held_and_a_restart_knows_them() {
    let coordinator = Running::start(|config| {
        config.hold = Duration::from_secs(300);
        config.lost_after = Duration::from_secs(900);
    })
    .await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    let report = web.report(true, Vec::new());
    let held = tokio::spawn(async move { client.check_in(&report, Duration::from_secs(300)).await });
    let admin = coordinator.admin().await;
    until("the check-in is held", async || {
        let view = admin.get_host(&web.id).await.expect("known");
        (view.presence == Presence::Seen).then_some(())
    })
    .await;
    let (directory, config) = coordinator.stop().await;
    let answer = tokio::time::timeout(PATIENCE, held).await.expect("answered").expect("no panic");
    assert!(answer.expect("an answer, not a broken connection").retry_after > Duration::ZERO);

    let coordinator = Running::open(directory, config).await;
    let view = coordinator.admin().await.get_host(&web.id).await.expect("known");
    assert_eq!(view.presence, Presence::Unknown);
    let refusal = Coordinator::open(&coordinator.config).await.expect_err("one at a time");
    assert_eq!(refusal.code, Code::Locked, "{refusal}");
    let client = web.client(&coordinator).await;
    checks_in(&client, &mut web).await.expect("it is known");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinators_own_certificate_outlives_its_life() {
    let life = Duration::from_secs(4);
    let coordinator = Running::start(|config| config.coordinator_certificate_lifetime = life).await;
    let (ada, ca) = (coordinator.ada(), &coordinator.ca);
    // To whoever judges by this time, the certificate that it began with has expired.
    let later = ClockFloor::new();
    let now = WallTime::from_system(SystemTime::now());
    later.raise(WallTime(now.0 + millis(life) + 1_000));
    let known = ClientSettings::new(Trust::Authorities(ca), Some(&ada), &later).expect("settings");
    let pin = Trust::Fingerprint(certificate_fingerprint(ca).expect("a fingerprint"));
    let stranger = ClientSettings::new(pin, None, &later).expect("settings");
    for (settings, address) in [(known, coordinator.agents()), (stranger, coordinator.enrollment())] {
        until("a certificate that lives longer", async || {
            // Each connection judges the certificate that is shown then.
            coordinator.connect(Some(&ada)).await.expect("a certificate that is good");
            coordinator.stranger().await;
            settings.connect(&address).await.ok().map(drop)
        })
        .await;
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environments_admin_may_not_take_hosts_from_others() {
    let coordinator = Running::start(|_| {}).await;
    let admin = coordinator.admin().await;
    admin.apply_environment(&environment("staging")).await.expect("made");
    admin.apply_environment(&environment("prod")).await.expect("made");
    let bob = coordinator.operator("bob", houston_common::view::Role::Admin, Some("staging")).await;
    let bob = houston_common::api::client::OperatorClient::new(
        coordinator.connect(Some(&bob)).await.expect("connects"),
    );
    let mut staging = environment("staging");
    staging.settings.0.insert("COLOR".parse().expect("a key"), "blue".to_owned());
    bob.apply_environment(&staging).await.expect("its own settings");
    staging.selector.insert("role".parse().expect("a key"), "web".parse().expect("a value"));
    assert!(staging.selector.len() <= LABELS_MAX);
    assert_eq!(bob.apply_environment(&staging).await.expect_err("a selector").code, Code::Role);
    assert_eq!(bob.apply_environment(&environment("prod")).await.expect_err("not its own").code, Code::Role);
    assert_eq!(bob.apply_environment(&environment("new")).await.expect_err("a new one").code, Code::Role);
    let page = houston_common::command::Page { size: 10, token: None };
    let seen = bob.list_environments(&page).await.expect("listed").items;
    assert_eq!(seen.iter().map(|environment| environment.name.as_str()).collect::<Vec<_>>(), ["staging"]);
    coordinator.stop().await;
}
