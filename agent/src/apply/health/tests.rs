use std::time::Duration;

use super::*;
use crate::apply::boot_time::BootId;
use crate::apply::machine::samples::{at, check, deployment};

fn judge() -> Judge {
    Judge::new(Pace::of(&check(80)), at(0))
}

fn fail(judge: &mut Judge, seconds: u64) {
    judge.observe(Err("503".to_owned()), at(seconds));
}

fn pass(judge: &mut Judge, seconds: u64) {
    judge.observe(Ok(()), at(seconds));
}

#[test]
fn it_takes_enough_results_in_a_row() {
    let mut judge = judge();
    pass(&mut judge, 1);
    assert_eq!(judge.verdict, Verdict::Unknown);
    pass(&mut judge, 6);
    assert_eq!(judge.verdict, Verdict::Healthy { since: at(6) });
    fail(&mut judge, 20);
    fail(&mut judge, 25);
    pass(&mut judge, 30);
    fail(&mut judge, 35);
    fail(&mut judge, 40);
    assert_eq!(judge.verdict, Verdict::Healthy { since: at(6) }, "never three in a row");
    fail(&mut judge, 45);
    assert_eq!(judge.verdict, Verdict::Unhealthy { reason: "503".to_owned() });
    pass(&mut judge, 50);
    assert!(matches!(judge.verdict, Verdict::Unhealthy { .. }), "one pass is not enough");
    pass(&mut judge, 55);
    assert_eq!(judge.verdict, Verdict::Healthy { since: at(55) }, "healthy anew");
}

#[test]
fn failures_during_the_start_do_not_count() {
    let mut judge = judge();
    for second in 0..10 {
        fail(&mut judge, second);
    }
    assert_eq!(judge.verdict, Verdict::Unknown);
    for second in 10..13 {
        fail(&mut judge, second);
    }
    assert!(matches!(judge.verdict, Verdict::Unhealthy { .. }));
}

fn watch(number: u64) -> Watch {
    Watch::new(number, deployment("web 1"), at(0))
}

#[test]
fn every_check_of_every_service_counts_and_silence_is_no_health() {
    let mut watch = watch(1);
    assert_eq!(watch.health(at(0)), Health::Unknown);
    let due = watch.due(at(0));
    assert_eq!(due.iter().map(|run| run.service.as_str()).collect::<Vec<_>>(), ["front", "back"]);
    assert_eq!(due[1].probe, ProbeKind::ProcessRuns);
    assert!(watch.due(at(0)).is_empty(), "handed out once");
    watch.observe(due[0].id, Ok(()), at(1));
    watch.observe(due[1].id, Ok(()), at(2));
    assert_eq!(watch.health(at(2)), Health::Unknown, "front needs a second pass");
    assert_eq!(watch.next_probe(), Some(at(4)), "back's interval");
    watch.observe(due[0].id, Ok(()), at(7));
    watch.observe(due[1].id, Ok(()), at(8));
    assert_eq!(watch.health(at(9)), Health::Healthy { since: at(7) }, "the check that came last");
    assert_eq!(
        watch.health(at(9)).report(watch.passes(), at(9)),
        HealthReport::Healthy { for_at_least: Duration::from_secs(2), passes: watch.passes() }
    );
    // back says nothing for 1 * (2 + 5) + 5 seconds.
    assert!(matches!(watch.health(at(20)), Health::Healthy { .. }));
    assert!(matches!(watch.health(at(21)), Health::Late { .. }));
    assert!(matches!(watch.health(at(21)).report(watch.passes(), at(21)), HealthReport::Unhealthy { .. }));
    let elsewhere = BootTime { boot: BootId(2), ms: 9_000 };
    assert!(matches!(watch.health(elsewhere), Health::Late { .. }));
    watch.observe(due[1].id, Err("no process".to_owned()), at(22));
    let Health::Unhealthy { package, service, reason } = watch.health(at(22)) else { panic!("{watch:?}") };
    assert_eq!(
        (package.as_str(), service.as_str(), reason.as_str()),
        ("web", "back", "web/back: no process")
    );
}

#[test]
fn results_of_an_earlier_watch_count_for_nothing() {
    let id = watch(1).due(at(0))[1].id;
    let mut second = watch(2);
    second.observe(id, Err("no process".to_owned()), at(1));
    assert_eq!(second, watch(2));
}

#[test]
fn a_probe_that_never_answers_is_begun_again() {
    let mut watch = watch(1);
    watch.due(at(0));
    assert!(watch.due(at(11)).is_empty());
    assert_eq!(watch.due(at(12)).len(), 2, "2 + 5 + 5 seconds for both");
}

#[test]
fn reasons_are_bounded_and_plain() {
    let mut watch = watch(1);
    let id = watch.due(at(0))[1].id;
    watch.observe(id, Err("\u{1b}[2J".repeat(1_000)), at(1));
    let Health::Unhealthy { reason, .. } = watch.health(at(1)) else { panic!("{watch:?}") };
    assert!(reason.chars().count() <= 500 && reason.chars().all(houston_common::id::is_plain), "{reason}");
}
