use super::*;
use crate::apply::machine::samples::{content_with, deployment, laid_out};

fn words(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|step| {
            let file = &step.package.file;
            let text = match &step.kind {
                StepKind::Hook(phase, _) => format!("{phase:?}"),
                StepKind::StopService(service) => format!("-{}", service.name),
                StepKind::StartService(service) => format!("+{}", service.name),
            };
            format!("{} {} {text}", file.name, file.version)
        })
        .collect()
}

fn change(from: &str, to: &str) -> Change {
    Change { from: vec![deployment(from)], whole: true, stop_hooks: true, to: deployment(to) }
}

fn touched(change: &Change) -> Vec<&str> {
    change.touched().into_iter().map(PackageName::as_str).collect()
}

#[test]
fn each_phase_runs_over_the_set_before_the_next_and_stops_go_in_reverse() {
    let change = change("conf 1, web 1", "conf 2, web 2");
    assert_eq!(
        words(&change.stop()),
        ["web 1 Drain", "conf 1 Drain", "web 1 -back", "web 1 -front", "web 1 Stop", "conf 1 Stop"]
    );
    assert_eq!(words(&change.start()), ["conf 2 Start", "web 2 Start", "web 2 +front", "web 2 +back"]);
    assert_eq!(words(&change.resume()), ["conf 2 Resume", "web 2 Resume"]);
    assert_eq!(change.to_clean().len(), 2);
    assert_eq!(words(&check(&change.to)), ["conf 2 Check", "web 2 Check"]);
}

#[test]
fn what_is_the_same_is_left_alone_unless_it_restarts_with_what_is_not() {
    let change = change("db 1, web 1, proxy 1", "db 1, web 2, proxy 1");
    assert_eq!(touched(&change), ["proxy", "web"]);
    assert_eq!(words(&change.left_alone()), ["db 1 +main"]);
    assert_eq!(words(&change.start()), ["web 2 Start", "web 2 +front", "web 2 +back", "proxy 1 +main"]);
    assert_eq!(touched(&self::change("db 1, web 1, proxy 1", "db 2, web 1, proxy 1")), ["db"]);
    assert_eq!(touched(&self::change("db 1", "db 1")), Vec::<&str>::new());
}

#[test]
fn other_settings_are_a_change() {
    let to = Arc::new(laid_out(&content_with("db 1, web 1", "debug")));
    let change = Change { to, ..change("db 1, web 1", "") };
    assert_eq!(touched(&change), ["db", "web"]);
}

#[test]
fn packages_that_leave_are_stopped_and_new_ones_started() {
    let change = change("db 1, web 1", "db 1, conf 1");
    assert_eq!(words(&change.stop()), ["web 1 Drain", "web 1 -back", "web 1 -front", "web 1 Stop"]);
    assert_eq!(words(&change.start()), ["conf 1 Start"]);
    assert_eq!(words(&self::change("db 1", "").stop()), ["db 1 -main"]);
    assert_eq!(words(&self::change("db 1", "").start()), Vec::<String>::new());
}

#[test]
fn of_what_is_older_only_services_are_stopped_each_once() {
    let change = Change {
        from: vec![deployment("once 1, web 1"), deployment("web 2")],
        whole: false,
        stop_hooks: true,
        to: deployment("web 1"),
    };
    assert_eq!(
        words(&change.stop()),
        ["web 2 Drain", "web 2 -back", "web 2 -front", "web 2 Stop", "once 1 -main"]
    );
    let never_started = Change { stop_hooks: false, ..change };
    assert!(never_started.stop().iter().all(|step| !step.is_hook()));
}

#[test]
fn only_what_is_known_to_run_is_left_alone() {
    let half = Change { whole: false, ..change("db 1, web 1", "db 1, web 1") };
    assert_eq!(touched(&half), ["db", "web"]);
    // The same package in what shall run and in what failed, but not in what ran before.
    let back =
        Change { from: vec![deployment("web 1"), deployment("web 1, db 1")], ..change("", "web 1, db 1") };
    assert_eq!(touched(&back), ["db"]);
}
