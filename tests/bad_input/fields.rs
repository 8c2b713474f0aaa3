use bytes::Bytes;
use houston_common::api::convert::{CSR_BYTES_MAX, Wire as _};
use houston_common::api::wire;
use houston_common::error::Code;
use houston_common::id::Platform;
use houston_common::policy::Policy;
use houston_common::report::{Facts, PROTOCOL, Position, Report};
use houston_common::view::Presence;
use houston_tests::coordinator::{Running, join};
use prost::Message;
use tonic::Code as Grpc;

use super::{frame, refusal_of, send};

const CHECK_IN: &str = "/houston.v1.Agent/CheckIn";

/// A report with which nothing is wrong, of one environment.
fn report() -> wire::Report {
    let report = Report {
        protocol: PROTOCOL,
        features: Vec::new(),
        position: Position { start: 1, nonce: 7, sequence: 1 },
        agent_version: "0.1.0".to_owned(),
        platforms: vec![Platform::any()],
        facts: Facts::default(),
        environments: Vec::new(),
        certificate_expires_ms: 1_800_000_000_000,
    };
    let environment = wire::EnvironmentReport {
        environment: "prod".to_owned(),
        stamp: None,
        phase: wire::Phase::Idle.into(),
        running: None,
        health: Some(wire::HealthReport {
            health: Some(wire::health_report::Health::Unknown(wire::Nothing {})),
        }),
        failure: None,
    };
    wire::Report { environments: vec![environment], ..report.to_wire() }
}

fn stamp() -> wire::Stamp {
    wire::Stamp { store: vec![1; 16].into(), epoch: 1, generation: 1, mac: vec![1; 32].into() }
}

fn failure() -> wire::Failure {
    wire::Failure {
        code: "E-HOOK-EXIT".to_owned(),
        phase: wire::Phase::Starting.into(),
        package: None,
        message: "exit 1".to_owned(),
        log_tail: String::new(),
    }
}

fn healthy(for_at_least_ms: u64) -> Option<wire::HealthReport> {
    let health = wire::health_report::Health::Healthy(wire::Healthy { for_at_least_ms, passes: 0 });
    Some(wire::HealthReport { health: Some(health) })
}

/// How a report is spoiled, and which field the refusal names.
type Spoiled = (&'static str, fn(&mut wire::Report), Code, &'static str);

const REPORTS: &[Spoiled] = &[
    // B45
    ("B45 no position", |r| r.position = None, Code::Field, "report.position"),
    ("B45 sequence 0", |r| part(&mut r.position).sequence = 0, Code::Sequence, "report.position.sequence"),
    (
        "B45 sequence 2^64-1",
        |r| part(&mut r.position).sequence = u64::MAX,
        Code::Sequence,
        "report.position.sequence",
    ),
    (
        "B45 sequence 2^62+1",
        |r| part(&mut r.position).sequence = (1 << 62) + 1,
        Code::Sequence,
        "position.sequence",
    ),
    ("B45 start 0", |r| part(&mut r.position).start = 0, Code::Sequence, "report.position.start"),
    ("B45 start 2^64-1", |r| part(&mut r.position).start = u64::MAX, Code::Sequence, "report.position.start"),
    // B46
    ("B46 phase 0", |r| r.environments[0].phase = 0, Code::Field, "report.environments[0].phase"),
    ("B46 phase 99", |r| r.environments[0].phase = 99, Code::Field, "report.environments[0].phase"),
    ("B46 phase -1", |r| r.environments[0].phase = -1, Code::Field, "report.environments[0].phase"),
    ("B46 protocol 0", |r| r.protocol = 0, Code::Field, "report.protocol"),
    ("B46 no version", |r| r.agent_version.clear(), Code::Field, "report.agent_version"),
    ("B46 no platform", |r| r.platforms.clear(), Code::Field, "report.platforms"),
    ("B46 an empty platform", |r| r.platforms = vec![String::new()], Code::Field, "report.platforms[0]"),
    ("B46 no facts", |r| r.facts = None, Code::Field, "report.facts"),
    ("B46 no name", |r| r.environments[0].environment.clear(), Code::Field, "environments[0].environment"),
    ("B46 a way out", |r| r.environments[0].environment = "../a".into(), Code::Field, "[0].environment"),
    ("B46 no health", |r| r.environments[0].health = None, Code::Field, "environments[0].health"),
    (
        "B46 no kind of health",
        |r| r.environments[0].health = Some(wire::HealthReport { health: None }),
        Code::Field,
        "environments[0].health.health",
    ),
    (
        "B46 no store",
        |r| r.environments[0].stamp = Some(wire::Stamp { store: Bytes::new(), ..stamp() }),
        Code::Field,
        "stamp.store",
    ),
    (
        "B46 generation 0",
        |r| r.environments[0].stamp = Some(wire::Stamp { generation: 0, ..stamp() }),
        Code::Field,
        "stamp.generation",
    ),
    (
        "B46 a short MAC",
        |r| r.environments[0].stamp = Some(wire::Stamp { mac: vec![1; 31].into(), ..stamp() }),
        Code::Field,
        "stamp.mac",
    ),
    (
        "B46 an unknown code",
        |r| r.environments[0].failure = Some(wire::Failure { code: "E-NONE".into(), ..failure() }),
        Code::Field,
        "failure.code",
    ),
    (
        "B46 no sentence",
        |r| r.environments[0].failure = Some(wire::Failure { message: String::new(), ..failure() }),
        Code::Field,
        "failure.message",
    ),
    // B48
    (
        "B48 a text of 64 KiB",
        |r| part(&mut r.facts).hostname = "x".repeat(64 << 10),
        Code::Field,
        "facts.hostname",
    ),
    ("B48 a name of 64 KiB", |r| r.environments[0].environment = "x".repeat(64 << 10), Code::Field, "prod"),
    (
        "B48 17 environments",
        |r| r.environments = vec![r.environments[0].clone(); 17],
        Code::Field,
        "report.environments",
    ),
    (
        "B48 one twice",
        |r| r.environments = vec![r.environments[0].clone(); 2],
        Code::Field,
        "report.environments",
    ),
    ("B48 a feature twice", |r| r.features = vec!["a".into(); 2], Code::Field, "report.features"),
    // B53
    (
        "B53 healthy for ever",
        |r| r.environments[0].health = healthy(u64::MAX),
        Code::Field,
        "healthy.for_at_least_ms",
    ),
    (
        "B53 a long log",
        |r| {
            r.environments[0].failure =
                Some(wire::Failure { log_tail: "x".repeat((16 << 10) + 1), ..failure() })
        },
        Code::Field,
        "failure.log_tail",
    ),
    (
        "B53 a log that moves the cursor",
        |r| r.environments[0].failure = Some(wire::Failure { log_tail: "\u{1b}[2J".into(), ..failure() }),
        Code::Field,
        "failure.log_tail",
    ),
    ("B53 a fact in two lines", |r| part(&mut r.facts).os = "a\nb".into(), Code::Field, "facts.os"),
    // B54
    ("B54 the year 1970", |r| r.certificate_expires_at_ms = 0, Code::Field, "certificate_expires_at_ms"),
    (
        "B54 the end of time",
        |r| r.certificate_expires_at_ms = u64::MAX,
        Code::Field,
        "certificate_expires_at_ms",
    ),
    // B65
    ("B65 SHA-1", |r| r.environments[0].running = Some(vec![1; 20].into()), Code::Field, "[0].running"),
    ("B65 no digest", |r| r.environments[0].running = Some(Bytes::new()), Code::Field, "[0].running"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_refused_by_the_field_that_is_wrong_and_changes_nothing() {
    let coordinator = Running::start(|_| {}).await;
    let mut web = coordinator.host("web").await;
    let channel = coordinator.connect(Some(&web.credential)).await.expect("the host connects");
    let none = frame(&wire::CheckInRequest { report: None, may_hold: false });
    let refusal =
        refusal_of("B46 no report", &send(&channel, CHECK_IN, &[], none).await, Grpc::InvalidArgument);
    assert!(refusal.code == Code::Field && refusal.what.contains("field report "), "{refusal}");
    for (what, spoil, code, field) in REPORTS {
        let mut report = report();
        spoil(&mut report);
        let body = frame(&wire::CheckInRequest { report: Some(report), may_hold: false });
        let refusal = refusal_of(what, &send(&channel, CHECK_IN, &[], body).await, Grpc::InvalidArgument);
        assert_eq!(refusal.code, *code, "{what}: {refusal}");
        let field = if *field == "prod" { "environments[0].environment" } else { field };
        assert!(refusal.what.contains(field), "{what}: {refusal}");
        assert!(refusal.what.len() < 400, "{what}: {refusal}");
    }
    let admin = coordinator.admin().await;
    assert_eq!(admin.get_host(&web.id).await.expect("known").presence, Presence::Unknown);
    // The same without anything wrong.
    let body = frame(&wire::CheckInRequest { report: Some(report()), may_hold: false });
    assert_eq!(send(&channel, CHECK_IN, &[], body).await.code(), Grpc::Ok);
    assert_eq!(admin.get_host(&web.id).await.expect("known").presence, Presence::Seen);
    let client = web.client(&coordinator).await;
    // B63: the versions of both sides, and which one to update.
    let mut newer = web.report(false, Vec::new());
    newer.report.protocol = PROTOCOL + 2;
    let error = client.check_in(&newer, std::time::Duration::ZERO).await.expect_err("too new");
    assert_eq!(error.refusal.code, Code::Protocol);
    let (what, next) = (error.refusal.what, error.refusal.next);
    assert!(
        what.contains(&format!("protocol {}", PROTOCOL + 2)) && what.contains("the coordinator 1 to"),
        "{what}"
    );
    assert_eq!(next, "update the coordinator");
    coordinator.stop().await;
}

/// A part that the right message has.
fn part<T>(part: &mut Option<T>) -> &mut T {
    part.as_mut().expect("it is there")
}

fn operator(call: &str) -> String {
    format!("/houston.v1.Operator/{call}")
}

fn label() -> wire::Label {
    wire::Label { key: "role".into(), value: "web".into() }
}

fn token() -> wire::CreateTokenRequest {
    wire::CreateTokenRequest {
        zone: "a".into(),
        labels: vec![label()],
        uses: 1,
        valid_for_ms: 1000,
        ephemeral: false,
        reason: String::new(),
    }
}

fn environment() -> wire::ApplyEnvironmentRequest {
    wire::ApplyEnvironmentRequest {
        name: "prod".into(),
        selector: vec![label()],
        policy: Some(Policy::default().to_wire()),
        settings: Some(wire::Settings { settings: Vec::new() }),
        dry_run: false,
        reason: String::new(),
    }
}

fn start() -> wire::StartRolloutRequest {
    wire::StartRolloutRequest {
        environment: "prod".into(),
        version_set: "v1".into(),
        reason: String::new(),
        supersede: false,
        force: false,
        allow_outage: false,
        idempotency_key: None,
        plan_hash: None,
        policy: None,
        exclude: Vec::new(),
    }
}

fn new_operator() -> wire::AddOperatorRequest {
    let role = wire::RoleBinding { role: wire::Role::Viewer.into(), environment: None };
    wire::AddOperatorRequest {
        name: "bob".into(),
        roles: vec![role],
        csr: vec![0x30, 0].into(),
        reason: String::new(),
    }
}

fn hosts() -> wire::ListHostsRequest {
    wire::ListHostsRequest::default()
}

fn edit() -> wire::EditHostRequest {
    wire::EditHostRequest { host: "a".into(), set_labels: vec![label()], ..Default::default() }
}

fn finish() -> wire::PackageFinishRequest {
    let tree = wire::PlatformTree { platform: "any".into(), tree: vec![1; 32].into() };
    let package = wire::PackageVersion { name: "web".into(), version: "1".into(), trees: vec![tree] };
    wire::PackageFinishRequest { package: Some(package), reason: String::new() }
}

fn set() -> wire::CreateVersionSetRequest {
    wire::CreateVersionSetRequest { name: "v1".into(), packages: vec![id()], reason: String::new() }
}

fn control() -> wire::ControlRolloutRequest {
    let action = wire::RolloutAction::Pause.into();
    wire::ControlRolloutRequest { rollout: newest(), action, reason: String::new() }
}

fn id() -> wire::PackageId {
    wire::PackageId { name: "web".into(), version: "1".into() }
}

fn newest() -> Option<wire::RolloutRef> {
    let rollout = Some(wire::rollout_ref::Rollout::NewestOf("prod".into()));
    Some(wire::RolloutRef { rollout })
}

/// A message that is right but for one thing, as a body.
fn with<M: Message>(mut message: M, spoil: fn(&mut M)) -> Vec<u8> {
    spoil(&mut message);
    frame(&message)
}

/// A call, its body, and the field that it is refused for.
type Row = (&'static str, Vec<u8>, &'static str);

fn about_access() -> Vec<Row> {
    vec![
        ("CreateToken", with(token(), |m| m.zone.clear()), "zone"),
        ("CreateToken", with(token(), |m| m.zone = "A".into()), "zone"),
        ("CreateToken", with(token(), |m| m.uses = 0), "uses"),
        ("CreateToken", with(token(), |m| m.uses = 10_001), "uses"),
        ("CreateToken", with(token(), |m| m.valid_for_ms = 0), "valid_for_ms"),
        ("CreateToken", with(token(), |m| m.valid_for_ms = u64::MAX), "valid_for_ms"),
        // A list of pairs with a key twice.
        ("CreateToken", with(token(), |m| m.labels = vec![label(); 2]), "labels"),
        ("CreateToken", with(token(), |m| m.labels = vec![label(); 65]), "labels"),
        ("CreateToken", with(token(), |m| m.reason = "x".repeat(501)), "reason"),
        ("CreateToken", with(token(), |m| m.reason = "a\u{202e}b".into()), "reason"),
        ("RevokeToken", frame(&wire::RevokeTokenRequest::default()), "id"),
        ("AddOperator", with(new_operator(), |m| m.name.clear()), "name"),
        ("AddOperator", with(new_operator(), |m| m.roles.clear()), "roles"),
        ("AddOperator", with(new_operator(), |m| m.roles[0].role = 0), "roles[0].role"),
        ("AddOperator", with(new_operator(), |m| m.roles[0].role = 9), "roles[0].role"),
        ("AddOperator", with(new_operator(), |m| m.csr.clear()), "csr"),
        ("AddOperator", with(new_operator(), |m| m.csr = vec![0; CSR_BYTES_MAX + 1].into()), "csr"),
        ("ListHosts", frame(&wire::ListHostsRequest::default()), "page"),
        ("ListHosts", with(hosts(), |m| m.page = Some(wire::Page { size: 0, token: None })), "page.size"),
        ("ListHosts", with(hosts(), |m| m.page = Some(wire::Page { size: 1001, token: None })), "page.size"),
        (
            "ListHosts",
            with(hosts(), |m| m.page = Some(wire::Page { size: 1, token: Some("A".into()) })),
            "page.token",
        ),
        ("GetHost", frame(&wire::GetHostRequest { host: "../a".into() }), "host"),
        ("EditHost", with(edit(), |m| m.remove_labels = vec!["role".into()]), "labels"),
    ]
}

fn about_releases() -> Vec<Row> {
    vec![
        ("PackageFinish", with(finish(), |m| m.package = None), "package"),
        ("PackageFinish", with(finish(), |m| part(&mut m.package).trees.clear()), "package.trees"),
        (
            "PackageFinish",
            with(finish(), |m| part(&mut m.package).trees[0].tree = vec![1; 20].into()),
            "trees[0].tree",
        ),
        ("CreateVersionSet", with(set(), |m| m.packages.clear()), "packages"),
        ("CreateVersionSet", with(set(), |m| m.packages = vec![id(); 2]), "packages"),
        ("CreateVersionSet", with(set(), |m| m.name.clear()), "name"),
        ("GetVersionSet", frame(&wire::GetVersionSetRequest { name: "a b".into() }), "name"),
        ("ApplyEnvironment", with(environment(), |m| m.policy = None), "policy"),
        ("ApplyEnvironment", with(environment(), |m| m.settings = None), "settings"),
        ("ApplyEnvironment", with(environment(), |m| part(&mut m.policy).pacing = 0), "policy.pacing"),
        ("ApplyEnvironment", with(environment(), |m| part(&mut m.policy).pacing = 7), "policy.pacing"),
        (
            "ApplyEnvironment",
            with(environment(), |m| part(&mut m.policy).on_failure = 0),
            "policy.on_failure",
        ),
        ("ApplyEnvironment", with(environment(), |m| part(&mut m.policy).batch = None), "policy.batch"),
        (
            "ApplyEnvironment",
            with(environment(), |m| part(&mut m.policy).apply_deadline_ms = 0),
            "apply_deadline_ms",
        ),
        (
            "ApplyEnvironment",
            with(environment(), |m| part(&mut m.policy).bake_one_box_ms = u64::MAX),
            "bake_one_box_ms",
        ),
        ("StartRollout", with(start(), |m| m.environment = "..".into()), "environment"),
        ("StartRollout", with(start(), |m| m.idempotency_key = Some(String::new())), "idempotency_key"),
        ("StartRollout", with(start(), |m| m.plan_hash = Some(vec![1; 31].into())), "plan_hash"),
        ("GetRollout", frame(&wire::GetRolloutRequest::default()), "rollout"),
        (
            "GetRollout",
            with(wire::GetRolloutRequest { rollout: newest(), ..Default::default() }, |m| m.wait_ms = 30_001),
            "wait_ms",
        ),
        ("ControlRollout", with(control(), |m| m.action = 0), "action"),
        ("ControlRollout", with(control(), |m| m.action = 5), "action"),
        ("ControlRollout", with(control(), |m| m.rollout = None), "rollout"),
        ("ListRollouts", frame(&wire::ListRolloutsRequest { environment: None, limit: 0 }), "limit"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_refused_by_the_field_that_is_wrong_and_changes_nothing() {
    let coordinator = Running::start(|_| {}).await;
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    for (call, body, field) in about_access().into_iter().chain(about_releases()) {
        let what = format!("{call} {field}");
        let refusal =
            refusal_of(&what, &send(&channel, &operator(call), &[], body).await, Grpc::InvalidArgument);
        assert_eq!(refusal.code, Code::Field, "{what}: {refusal}");
        assert!(refusal.what.contains(field), "{what}: {refusal}");
    }
    let status = send(&channel, &operator("AddOperator"), &[], frame(&new_operator())).await;
    assert_eq!(refusal_of("no certificate request", &status, Grpc::InvalidArgument).code, Code::Csr);
    let admin = coordinator.admin().await;
    assert_eq!(admin.list_tokens().await.expect("listed").len(), 0);
    assert_eq!(admin.list_operators().await.expect("listed").len(), 1);
    let page = houston_common::command::Page { size: 10, token: None };
    assert_eq!(admin.list_environments(&page).await.expect("listed").items.len(), 0);
    // The same without anything wrong.
    assert_eq!(send(&channel, &operator("CreateToken"), &[], frame(&token())).await.code(), Grpc::Ok);
    assert_eq!(
        send(&channel, &operator("ApplyEnvironment"), &[], frame(&environment())).await.code(),
        Grpc::Ok
    );
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_asks_for_is_checked_like_what_operators_do() {
    let coordinator = Running::start(|_| {}).await;
    let web = coordinator.host("web").await;
    let host = coordinator.connect(Some(&web.credential)).await.expect("the host connects");
    let file = |digest: usize| wire::FileNeed { digest: vec![1; digest].into(), length: 1, stored_offset: 0 };
    let fetch = |files| frame(&wire::FetchFilesRequest { files });
    let calls: [(&str, Vec<u8>, Grpc, Code, &str); 8] = [
        (
            "FetchManifest",
            frame(&wire::FetchManifestRequest::default()),
            Grpc::InvalidArgument,
            Code::Field,
            "tree",
        ),
        (
            "FetchManifest",
            frame(&wire::FetchManifestRequest { tree: vec![1; 20].into() }),
            Grpc::InvalidArgument,
            Code::Field,
            "tree",
        ),
        // B41: what it was not told of does not exist for it.
        (
            "FetchManifest",
            frame(&wire::FetchManifestRequest { tree: vec![1; 32].into() }),
            Grpc::NotFound,
            Code::FileMissing,
            "this host",
        ),
        ("FetchFiles", fetch(Vec::new()), Grpc::InvalidArgument, Code::Field, "files"),
        ("FetchFiles", fetch(vec![file(32); 1001]), Grpc::InvalidArgument, Code::Field, "files"),
        ("FetchFiles", fetch(vec![file(16)]), Grpc::InvalidArgument, Code::Field, "files[0].digest"),
        ("FetchFiles", fetch(vec![file(32)]), Grpc::NotFound, Code::FileMissing, "this host"),
        ("Renew", frame(&wire::RenewRequest::default()), Grpc::InvalidArgument, Code::Field, "csr"),
    ];
    for (call, body, grpc, code, part) in calls {
        let status = send(&host, &format!("/houston.v1.Agent/{call}"), &[], body).await;
        let refusal = refusal_of(call, &status, grpc);
        assert!(refusal.code == code && refusal.what.contains(part), "{call}: {refusal}");
    }
    coordinator.stop().await;
}

/// B57: what a stranger shows is read with care, and uses up no token.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_asks_for_is_checked_before_its_token() {
    let coordinator = Running::start(|_| {}).await;
    let trust = houston_common::tls::Trust::Authorities(&coordinator.ca);
    let clock = houston_common::tls::ClockFloor::new();
    let settings = houston_common::tls::ClientSettings::new(trust, None, &clock).expect("settings");
    let stranger = settings.connect(&coordinator.enrollment()).await.expect("strangers connect");
    let secret = coordinator.token(1).await;
    let proof = |secret: &str| {
        Some(wire::enroll_request::Proof::JoinToken(wire::JoinToken {
            secret: secret.to_owned(),
            suggested_host: None,
        }))
    };
    let enroll = |csr: Vec<u8>, proof| frame(&wire::EnrollRequest { csr: csr.into(), proof });
    let requests: [(&str, Vec<u8>, Grpc, Code); 7] = [
        ("no request", enroll(Vec::new(), proof(&secret)), Grpc::InvalidArgument, Code::Field),
        (
            "a long request",
            enroll(vec![0x30; CSR_BYTES_MAX + 1], proof(&secret)),
            Grpc::InvalidArgument,
            Code::Field,
        ),
        (
            "a request of 1 MB",
            enroll(vec![0x30; 1 << 20], proof(&secret)),
            Grpc::ResourceExhausted,
            Code::Limit,
        ),
        ("no certificate request", enroll(vec![0x30; 100], proof(&secret)), Grpc::InvalidArgument, Code::Csr),
        ("no proof", enroll(vec![0x30; 100], None), Grpc::InvalidArgument, Code::Field),
        ("no secret", enroll(vec![0x30; 100], proof("")), Grpc::InvalidArgument, Code::Field),
        (
            "a long secret",
            enroll(vec![0x30; 100], proof(&"x".repeat(257))),
            Grpc::InvalidArgument,
            Code::Field,
        ),
    ];
    for (what, body, grpc, code) in requests {
        let refusal =
            refusal_of(what, &send(&stranger, "/houston.v1.Enrollment/Enroll", &[], body).await, grpc);
        assert_eq!(refusal.code, code, "{what}: {refusal}");
        assert!(!refusal.to_string().contains(&secret), "{what}: the secret is not told");
    }
    // None of them has used the token up.
    let key = houston_common::identity::request::new_key().expect("a key");
    let joined = coordinator.stranger().await.enroll(&join(&key, &secret, None)).await;
    joined.expect("the token is still good");
    coordinator.stop().await;
}
