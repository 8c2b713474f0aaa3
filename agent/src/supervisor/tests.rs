use houston_common::digest::Hasher;
use houston_common::report::Phase;

use super::*;
use crate::host::exec::tests::wait_until;
use crate::host::linux::tests::Bench;

/// A supervisor of what the bench's host has a record of.
fn supervisor(bench: &Bench) -> Supervisor {
    Supervisor::start(Arc::clone(&bench.linux), BootClock::new().expect("a clock")).expect("started")
}

#[tokio::test]
async fn a_worker_that_panics_frees_the_turn_says_so_and_begins_anew() {
    let bench = Bench::new();
    let supervisor = supervisor(&bench);
    let own = supervisor.environment("prod".parse().expect("a name"));
    let other: EnvironmentName = "test".parse().expect("a name");
    let (_messages, inbox) = mpsc::channel();
    let mut tries = 0;
    own.keep_up(&inbox, || {
        tries += 1;
        if tries == 1 {
            assert!(own.turn.take(&own.name));
            panic!("on purpose");
        }
        assert!(own.turn.take(&other), "nobody has the turn");
        let failure = own.published().and_then(|report| report.failure).expect("a failure");
        assert_eq!(failure.code, Code::Internal);
        assert!(failure.message.ends_with("on purpose"), "{}", failure.message);
        Ok(())
    });
    assert_eq!(tries, 2);
    supervisor.stop().await;
}

#[tokio::test]
async fn an_environment_that_cannot_be_loaded_is_told_and_loaded_when_it_can_be() {
    let bench = Bench::new();
    drop(bench.environment("prod"));
    let journal = bench.temp.path().join("environments/prod/journal");
    let mut hasher = Hasher::default();
    hasher.update(b"houston-journal 2\n?");
    std::fs::write(&journal, format!("houston-journal 2 {}\n?", hasher.finish())).expect("written");

    let supervisor = supervisor(&bench);
    let report = || supervisor.reports(supervisor.clock.now()).pop();
    let code = || report()?.failure.map(|failure| failure.code);
    wait_until("it is told", || code() == Some(Code::StateNewer));
    let told = report().expect("a report");
    assert_eq!((told.stamp, told.phase, told.running), (None, Phase::Idle, None));
    assert!(journal.is_file(), "it is left as it is");
    std::fs::remove_file(&journal).expect("removed");
    wait_until("it is loaded", || report().is_some_and(|report| report.failure.is_none()));
    supervisor.stop().await;
}
