use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use houston_common::api::client::{AgentClient, OperatorClient};
use houston_common::api::convert::COUNTER_MAX;
use houston_common::assignment::Stamp;
use houston_common::command::{HoldHost, HostChange};
use houston_common::error::Code;
use houston_common::exchange::{CheckIn, CheckInAnswer};
use houston_common::id::{Epoch, Generation};
use houston_common::report::{EnvironmentReport, HealthReport, Phase, Position};
use houston_common::rollout::Held;
use houston_common::view::Role;
use houston_coordinator::engine::core::Core;
use houston_coordinator::store::sled::SledStore;
use houston_tests::coordinator::{Host, Running};
use tempfile::TempDir;

fn of_prod(stamp: Option<Stamp>) -> EnvironmentReport {
    EnvironmentReport {
        environment: "prod".parse().expect("a name"),
        stamp,
        phase: Phase::Idle,
        running: None,
        health: HealthReport::Unknown,
        failure: None,
    }
}

async fn tell(client: &AgentClient, check_in: &CheckIn) -> CheckInAnswer {
    client.check_in(check_in, Duration::ZERO).await.expect("answered")
}

async fn refused(host: &mut Host, coordinator: &Running, stamp: Stamp) -> Code {
    let check_in = host.report(false, vec![of_prod(Some(stamp))]);
    let answer = host.client(coordinator).await.check_in(&check_in, Duration::ZERO).await;
    answer.expect_err("it never gave that").refusal.code
}

/// The host's next report, from this position and by an agent of this version.
fn at(host: &mut Host, start: u64, nonce: u64, sequence: u64, version: &str) -> CheckIn {
    let mut check_in = host.report(false, Vec::new());
    check_in.report.position = Position { start, nonce, sequence };
    check_in.report.agent_version = version.to_owned();
    check_in
}

/// B43, B45: what is older is answered and changes nothing, however high the newest one is.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_from_the_past_is_answered_and_ignored() {
    let coordinator = Running::start(|_| {}).await;
    let mut web = coordinator.host("web").await;
    let (client, admin) = (web.client(&coordinator).await, coordinator.admin().await);
    let id = web.id.clone();
    let version = async || admin.get_host(&id).await.expect("known").agent_version;
    for (start, sequence, told, known) in [
        (1, 5, "5", "5"),
        (1, 3, "3", "5"),
        (1, 5, "5-again", "5"),
        (1, COUNTER_MAX, "highest", "highest"),
        (1, 1, "1", "highest"),
        // The next start begins anew.
        (2, 1, "2", "2"),
    ] {
        tell(&client, &at(&mut web, start, start, sequence, told)).await;
        assert_eq!(version().await, known, "{start} {sequence}");
    }
    // A start that was over, and another machine's of the same number, are a clone's.
    for (start, nonce) in [(1, 1), (2, 9)] {
        let error = client.check_in(&at(&mut web, start, nonce, 9, "clone"), Duration::ZERO).await;
        assert_eq!(error.expect_err("a clone").refusal.code, Code::Clone, "{start} {nonce}");
    }
    let view = admin.get_host(&id).await.expect("known");
    assert_eq!(view.held, Some(Held::Clone));
    // Which of two machines is the host is for an admin to say; any other hold is not.
    let dora = coordinator.operator("dora", Role::Deployer, None).await;
    let dora = OperatorClient::new(coordinator.connect(Some(&dora)).await.expect("dora connects"));
    let release = HostChange { host: id.clone(), reason: String::new() };
    let hold = HoldHost { host: id.clone(), reason: "odd".to_owned(), duration: None };
    assert_eq!(dora.hold_host(&hold).await.expect_err("it is held").code, Code::HostHeld);
    assert_eq!(dora.release_host(&release).await.expect_err("no admin").code, Code::Role);
    assert_eq!(admin.release_host(&release).await.expect("an admin").held, None);
    dora.hold_host(&hold).await.expect("her own");
    assert_eq!(dora.release_host(&release).await.expect("her own").held, None);
    coordinator.stop().await;
}

/// B43: an environment that the host is in no more, or never was, is no error of the host's.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_environment_is_forgotten_or_left_alone() {
    let coordinator = Running::start(|_| {}).await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    let quiet = web.report(false, vec![of_prod(None)]);
    let answer = tell(&client, &quiet).await;
    assert_eq!(answer.forget.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["prod"]);
    let running = houston_common::release::Release::empty().digest();
    let busy = web.report(false, vec![EnvironmentReport { running: Some(running), ..of_prod(None) }]);
    let answer = tell(&client, &busy).await;
    assert!(answer.forget.is_empty() && answer.assignments.is_empty());
    let view = coordinator.admin().await.get_host(&web.id).await.expect("known");
    assert!(view.held.is_none() && view.environments.is_empty());
    coordinator.stop().await;
}

/// B43: a stamp from the future that this store has not made holds the one host that shows it.
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_was_never_given_holds_the_host_that_shows_it() {
    let coordinator = Running::start(|_| {}).await;
    let (mut web, mut other) = (coordinator.host("web").await, coordinator.host("other").await);
    let admin = coordinator.admin().await;
    let store = admin.who_am_i().await.expect("answered").store;
    let forged =
        Stamp { store, epoch: Epoch(COUNTER_MAX), generation: Generation(COUNTER_MAX), mac: [7; 32] };
    // Of another store it says nothing about this one.
    let foreign = Stamp { store: houston_common::id::StoreId([9; 16]), ..forged };
    tell(&other.client(&coordinator).await, &other.report(false, vec![of_prod(Some(foreign))])).await;
    assert_eq!(refused(&mut web, &coordinator, forged).await, Code::GenerationFuture);
    let held = admin.get_host(&web.id).await.expect("known").held.expect("it is held");
    assert_eq!(held, Held::ForeignAssignment);
    assert_eq!(admin.get_host(&other.id).await.expect("known").held, None);
    assert!(!admin.who_am_i().await.expect("answered").regressed, "one liar does not stop the fleet");
    coordinator.stop().await;
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).expect("made");
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copied");
        }
    }
}

/// B43: one that it has made and does not know of says that the store itself has gone back in time.
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_from_a_lost_future_stops_all_grants() {
    let coordinator = Running::start(|_| {}).await;
    let mut web = coordinator.host("web").await;
    let (directory, config) = coordinator.stop().await;
    // The store's future, which is then lost: it was opened, and gave the host something.
    let future: TempDir = tempfile::tempdir().expect("a directory");
    copy(directory.path(), future.path());
    let mut stamp = None;
    for _ in 0..3 {
        let store = SledStore::open(future.path()).expect("the store");
        let core = Core::open(Arc::new(store), Duration::from_secs(90)).expect("it loads");
        stamp = Some(core.state().stamp(&web.id, &"prod".parse().expect("a name"), Generation(1_000)));
    }
    let coordinator = Running::open(directory, config).await;
    let admin = coordinator.admin().await;
    assert!(!admin.who_am_i().await.expect("answered").regressed);
    // Another host's stamp is as good as a forged one.
    let mut other = coordinator.host("other").await;
    assert_eq!(refused(&mut other, &coordinator, stamp.expect("one")).await, Code::GenerationFuture);
    assert!(!admin.who_am_i().await.expect("answered").regressed);
    assert!(admin.get_host(&other.id).await.expect("known").held.is_some());

    tell(&web.client(&coordinator).await, &web.report(false, vec![of_prod(stamp)])).await;
    assert!(admin.who_am_i().await.expect("answered").regressed);
    assert_eq!(admin.get_host(&web.id).await.expect("known").held, None);
    coordinator.stop().await;
}
