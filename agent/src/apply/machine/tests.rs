#![expect(clippy::disallowed_methods, reason = "a table that has changed is written down")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test does not expect fails it")]

use std::fmt::Write as _;

use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, StoreId};
use houston_common::report::Phase;

use super::samples::*;
use super::*;
use crate::apply::boot_time::BootId;
use crate::apply::health::Health;
use crate::apply::steps::StepKind;

/// A state in a few words.
fn brief(state: &State) -> String {
    let mut text = match &state.at {
        At::Idle { failure } => format!("Idle{}", if failure.is_some() { " refused" } else { "" }),
        At::Fetching { retry_at, .. } => {
            format!("Fetching{}", if retry_at.is_some() { " waiting" } else { "" })
        }
        At::LayingOut { .. } => "LayingOut".to_owned(),
        At::Checking { next, .. } => format!("Checking {next}"),
        At::Ready { is_void, .. } => format!("Ready{}", if *is_void { " void" } else { "" }),
        At::Activating(course) => {
            let back = if course.revert.is_some() { "back: " } else { "" };
            let leg = match course.leg {
                Leg::Stopping { next } => format!("Stopping {next}"),
                Leg::Switching => "Switching".to_owned(),
                Leg::Starting { next } => format!("Starting {next}"),
                Leg::Proving { healthy_since, .. } => {
                    format!("Proving{}", if healthy_since.is_some() { " healthy" } else { "" })
                }
                Leg::Resuming { next } => format!("Resuming {next}"),
            };
            let warning = if course.warning.is_some() { " warned" } else { "" };
            format!("{back}{leg}{warning}")
        }
        At::Ended(ended) => {
            let collected = if ended.is_collected { " collected" } else { "" };
            let told = if ended.is_told { " told" } else { "" };
            let cleaning = if ended.cleanup.is_empty() { "" } else { " cleaning" };
            format!("{:?}{cleaning}{collected}{told}", state.phase())
        }
    };
    if let Some(next) = &state.next {
        let _ = write!(text, " +{}", next.assignment.stamp.generation);
    }
    text
}

/// Every state with every event. What the table does not list is refused.
#[test]
fn the_transition_table_is_as_written() {
    let mut table = String::new();
    for (name, state) in states() {
        let _ = writeln!(table, "{name}");
        for (event_name, event) in events() {
            match state.on(event.clone(), at(100)) {
                Ok(next) if next == state => {
                    let _ = writeln!(table, "    {event_name}: unchanged");
                }
                Ok(next) => {
                    let _ = writeln!(table, "    {event_name}: {}", brief(&next));
                }
                Err(Refused::Unexpected { phase, event: refused }) => {
                    assert_eq!((phase, refused), (state.phase(), event.name()));
                }
                Err(refused) => {
                    let _ = writeln!(table, "    {event_name}: REFUSED, {refused}");
                }
            }
        }
    }
    let written = include_str!("table.txt");
    if table != written {
        let path = std::env::temp_dir().join("houston-machine-table.txt");
        std::fs::write(&path, &table).expect("the table as it is");
        panic!("the transition table has changed; it is now in {}", path.display());
    }
}

fn error(state: &State, task: Task) -> Refused {
    state.on(Event::Assigned(task), at(100)).expect_err("refused")
}

#[test]
fn refusals_of_assignments_name_the_numbers() {
    let state = state("Ready, granted");
    let (older, same) = ((Epoch(1), Generation(4)), (Epoch(1), Generation(5)));
    assert_eq!(error(&state, grant(4, NEW, at(100))), Refused::Older { offered: older, floor: same });
    assert_eq!(error(&state, grant(5, NEWER, at(100))), Refused::Different(same));
    assert_eq!(error(&state, prepare(5, NEW, at(100))), Refused::Different(same));
    let mut foreign = grant(6, NEW, at(100));
    foreign.assignment.stamp.store = StoreId([8; 16]);
    let refusal = Refusal::from(error(&state, foreign));
    assert_eq!(refusal.code, Code::StateForeign);
    let mut risen = grant(1, NEW, at(100));
    risen.assignment.stamp.epoch = Epoch(2);
    assert!(state.on(Event::Assigned(risen), at(100)).is_ok(), "a higher epoch comes first");
}

#[test]
fn what_a_new_epoch_stamps_anew_is_not_begun_again() {
    for name in ["Ready, void", "Proving", "Settled, told"] {
        let Some((_, state)) = states().into_iter().find(|(of, _)| *of == name) else {
            panic!("no state {name}")
        };
        let mut anew = grant(5, NEW, at(200));
        anew.assignment.stamp.epoch = Epoch(2);
        let next = state.on(Event::Assigned(anew), at(200)).expect("known");
        assert_eq!(next, State { floor: next.floor, ..state.clone() }, "{name}");
        assert_eq!(next.floor.map(|floor| floor.stamp.order()), Some((Epoch(2), Generation(5))), "{name}");
    }
}

#[test]
fn a_grant_is_void_after_its_time_and_in_another_boot() {
    let granted = state("Ready, granted");
    let is_void = |state: &State| matches!(state.at, At::Ready { is_void: true, .. });
    assert!(granted.on(Event::Begun, at(129)).expect("begins").is_activating());
    assert!(is_void(&granted.on(Event::Begun, at(130)).expect("void")));
    let rebooted = BootTime { boot: BootId(2), ms: 1 };
    assert!(is_void(&granted.on(Event::Begun, rebooted).expect("void")));
    assert!(is_void(&granted.on(Event::Loaded, rebooted).expect("void")));
    assert!(!is_void(&granted.on(Event::Loaded, at(110)).expect("still good")));
    // The same grant again does not revive it, a newer one does without preparing again.
    let void = state("Ready, void");
    let again = void.on(Event::Assigned(grant(5, NEW, at(200))), at(200)).expect("no change");
    assert_eq!(again, void);
    let anew = void.on(Event::Assigned(grant(6, NEW, at(200))), at(200)).expect("taken");
    assert_eq!(anew.action(), Action::Begin);
    assert_eq!(anew.stamp.map(|stamp| stamp.generation), Some(Generation(6)));
}

#[test]
fn a_withdrawal_before_the_point_of_no_return_disturbs_nothing() {
    for name in ["Fetching", "LayingOut", "Checking", "Ready, granted"] {
        let withdrawn = state(name).on(Event::Assigned(prepare(6, OLD, at(100))), at(100)).expect("taken");
        assert_eq!(withdrawn.phase(), Phase::Fetching, "{name}");
        assert_eq!(withdrawn.running, state(name).running);
        let kept = state(name).on(Event::Assigned(prepare(6, NEW, at(100))), at(100)).expect("taken");
        assert_eq!(kept.phase(), state(name).phase(), "{name}: what is prepared is kept");
        assert_ne!(kept.action(), Action::Begin, "{name}");
    }
}

#[test]
fn the_latest_of_the_assignments_that_wait_wins_and_waits_until_the_end_is_told() {
    let state = state("Stopping, next waits");
    let latest = state.on(Event::Assigned(grant(9, NEW, at(100))), at(100)).expect("kept");
    assert_eq!(latest.next.as_ref().map(|task| task.assignment.stamp.generation), Some(Generation(9)));
    assert_eq!(latest.stamp.map(|stamp| stamp.generation), Some(Generation(5)), "still about the first");
    assert_eq!(
        error(&latest, prepare(6, NEWER, at(100))).to_string(),
        "assignment 1.6 is older than 1.9, which was accepted before"
    );

    let mut settled = self::state("Settled");
    settled = settled.on(Event::Assigned(grant(9, NEWER, at(110))), at(110)).expect("kept");
    assert_eq!(settled.phase(), Phase::Settled);
    let told = settled.on(Event::Reported, at(111)).expect("told");
    assert_eq!((told.phase(), told.next.clone()), (Phase::Fetching, None));
    // Nobody listens: it goes on by itself.
    let deadline = settled.deadline().expect("it does not wait for ever");
    assert_eq!(deadline, at(160));
    assert_eq!(settled.on(Event::TimePassed, deadline).expect("goes on").phase(), Phase::Fetching);
}

#[test]
fn an_old_hook_that_fails_is_passed_and_said_but_a_service_that_stays_is_not() {
    let stopping = state("Stopping");
    assert!(stopping.step().is_some_and(|step| step.is_hook()), "drain of web");
    let passed = stopping.on(Event::StepFailed(step_error()), at(101)).expect("passed");
    assert_eq!(brief(&passed), "Stopping 1 warned");
    let (phase, warning) = passed.report();
    assert_eq!(
        (phase, warning.map(|w| (w.code, w.phase))),
        (Phase::Stopping, Some((Code::HookExit, Phase::Stopping)))
    );
    let reverting = passed.on(Event::StepFailed(step_error()), at(101)).expect("reverts");
    assert_eq!(brief(&reverting), "back: Stopping 0 warned");
    // Never started: nothing of the new release is stopped by its hooks, and all that was stopped starts.
    let At::Activating(course) = &reverting.at else { panic!("{reverting:?}") };
    let change = course.change(&reverting.running);
    assert!(change.stop().iter().all(|step| !step.is_hook()));
    assert_eq!(change.start().len(), 3);
}

#[test]
fn health_counts_only_after_the_activation_and_without_a_break() {
    let proving = state("Proving");
    let seen = |state: &State, event: Event, seconds| state.on(event, at(seconds)).expect("seen");
    let early = seen(&proving, healthy(at(1)), 129);
    assert_eq!(brief(&early), "Proving healthy");
    assert_eq!(early.deadline(), Some(at(130)), "counted from the activation, not from before");
    let broken = seen(&early, Event::HealthSeen { health: Health::Unknown, log_tail: String::new() }, 129);
    assert_eq!(brief(&broken), "Proving");
    let again = seen(&broken, healthy(at(130)), 159);
    assert_eq!(brief(&again), "Proving healthy");
    assert_eq!(brief(&seen(&again, healthy(at(130)), 160)), "Resuming 0");
    let restarted = seen(&again, Event::Loaded, 159);
    assert_eq!(brief(&restarted), "Proving", "nobody looked while the agent was away");
    let reverting = seen(&again, unhealthy(), 140);
    let failure = reverting.report().1.expect("failure");
    assert_eq!((failure.code, failure.phase), (Code::Unhealthy, Phase::Proving));
    assert_eq!((failure.package, failure.log_tail.as_str()), (Some(package("web")), "no\n"));
    // The way back is given until its deadline.
    assert_eq!(brief(&seen(&state("Back: proving"), unhealthy(), 140)), "back: Proving");
}

#[test]
fn deadlines_turn_back_once_and_then_give_up() {
    let late = state("Proving").on(Event::TimePassed, at(700)).expect("late");
    assert_eq!(late.phase(), Phase::Reverting);
    assert_eq!(late.report().1.map(|failure| failure.code), Some(Code::Unhealthy));
    assert_eq!(late.deadline(), Some(at(1_300)), "as long again");
    assert_eq!(
        state("Starting").on(Event::TimePassed, at(700)).expect("late").report().1.map(|f| f.code),
        Some(Code::ApplyDeadline)
    );
    let failed = late.on(Event::TimePassed, at(1_300)).expect("late again");
    let (phase, failure) = failed.report();
    assert_eq!(phase, Phase::Failed);
    let failure = failure.expect("failure");
    assert_eq!(failure.code, Code::Unhealthy);
    assert!(failure.message.contains("the way back failed too: E-DEADLINE"), "{}", failure.message);
    assert!(!failed.running.whole);
}

#[test]
fn without_another_release_to_go_back_to_it_ends_in_failed() {
    let mut task = grant(5, NEW, at(100));
    task.assignment.way_back = task.assignment.release.clone();
    let prepared = |state: State| {
        let laid = Event::LaidOut {
            target: deployment(NEW),
            way_back: deployment(NEW),
            from: Some(deployment(OLD)),
        };
        [Event::Assigned(task.clone()), Event::Fetched, laid, Event::StepDone, Event::Begun]
            .into_iter()
            .fold(state, |state, event| state.on(event, at(100)).expect("taken"))
    };
    let starting = steps(&prepared(State::new(deployment(OLD))), 4)
        .on(Event::Switched { running: deployment(NEW).link() }, at(100))
        .expect("switched");
    let failed = starting.on(Event::StepFailed(step_error()), at(100)).expect("failed");
    assert_eq!(failed.phase(), Phase::Failed);
    assert_eq!((failed.running.current.release, failed.running.whole), (deployment(NEW).release, false));
}

#[test]
fn what_a_failed_activation_may_have_left_is_stopped_by_the_next() {
    let failed = state("Back: stopping").on(Event::TimePassed, at(700)).expect("failed");
    assert_eq!(failed.phase(), Phase::Failed);
    let releases: Vec<_> = failed.running.all().iter().map(|deployment| deployment.release).collect();
    assert_eq!(releases, [deployment(OLD).release, deployment(NEW).release]);
    let change = Change {
        from: failed.running.all(),
        whole: failed.running.whole,
        stop_hooks: true,
        to: deployment(NEWER),
    };
    assert_eq!(
        change.touched().len(),
        2,
        "nothing is taken as running, not even what is the same everywhere"
    );
}

#[test]
fn a_hook_that_must_not_run_twice_is_never_begun_again() {
    let task = |way_back: &str| {
        let order = Order::Activate(TERMS);
        Task { assignment: assignment(5, order, "once 2", way_back), sent: at(100) }
    };
    let laid = Event::LaidOut {
        target: deployment("once 2"),
        way_back: deployment("once 1"),
        from: Some(deployment("once 1")),
    };
    let mut state = State::new(deployment("once 1"));
    let mut seen = Vec::new();
    let switched = |state: &State| match &state.at {
        At::Activating(course) => Event::Switched { running: course.destination().link() },
        _ => panic!("{state:?}"),
    };
    for event in [Event::Assigned(task("once 1")), Event::Fetched, laid] {
        state = state.on(event, at(100)).expect("taken");
    }
    loop {
        if let Some(step) = state.step().filter(|step| step.is_hook()) {
            assert!(!step.may_rerun());
            let loaded = state.on(Event::Loaded, at(101)).expect("loaded");
            assert_ne!(loaded.step(), Some(step), "in {}", brief(&state));
            seen.push(format!("{} -> {}", brief(&state), brief(&loaded)));
        }
        let event = match state.action() {
            Action::Begin => Event::Begun,
            Action::Run(_) => Event::StepDone,
            Action::Switch { .. } => switched(&state),
            Action::Collect(_) => break,
            Action::Wait if state.is_proving() => {
                state = state.on(healthy(at(100)), at(101)).expect("healthy");
                state = state.on(healthy(at(100)), at(130)).expect("proved");
                continue;
            }
            action => panic!("{action:?}"),
        };
        state = state.on(event, at(100)).expect("taken");
    }
    assert_eq!(
        seen,
        [
            "Checking 0 -> Idle refused",
            "Stopping 0 -> back: Stopping 0",
            "Stopping 2 -> back: Stopping 0",
            "Starting 0 -> back: Stopping 0",
            "Resuming 0 -> back: Stopping 0",
            "Settled cleaning -> Settled",
        ]
    );
}

#[test]
fn services_to_look_after_when_the_agent_starts() {
    let names = |state: &State| -> Vec<String> {
        let starts = state.should_run();
        assert!(starts.iter().all(|step| !step.is_hook()));
        starts
            .iter()
            .map(|step| match &step.kind {
                StepKind::StartService(service) => {
                    format!("{}/{}", step.package.file.name, service.name)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(names(&state("Idle")), ["db/main", "web/front", "web/back"]);
    assert_eq!(names(&state("Stopping")), ["db/main"]);
    assert_eq!(names(&state("Starting")), ["db/main"]);
    assert_eq!(names(&steps(&state("Starting"), 2)), ["db/main", "web/front"]);
    assert_eq!(names(&state("Proving")), ["db/main", "web/front", "web/back"]);
}

#[test]
fn what_may_be_gone_back_to_is_kept() {
    for (name, state) in states() {
        let keep = state.keep();
        assert!(keep.releases.contains(&state.running.current.release), "{name}");
        if let At::Ended(ended) = &state.at {
            assert!(keep.releases.contains(&ended.way_back), "{name}");
        }
        if state.is_activating() {
            assert_eq!(keep.contents.last(), Some(&content(OLD)), "{name}");
        }
    }
}

#[test]
fn a_surprise_on_the_disk_is_believed_and_nothing_is_left_alone() {
    let surprised = state("LayingOut").on(laid(NEW, NEWER), at(100)).expect("laid out");
    assert_eq!(surprised.running.current, deployment(NEWER));
    assert_eq!(surprised.running.leftovers, [deployment(OLD)]);
    assert!(!surprised.running.whole);
}

/// The state after a grant to go from `from` to `target` and back, in this time, with or without the
/// timeouts of its hooks.
fn begun(from: &str, target: &str, seconds: u64, has_timeouts: bool) -> State {
    let lay_out = |packages: &str| {
        let mut laid_out = laid_out(&content(packages));
        for package in laid_out.packages.iter_mut().filter(|_| !has_timeouts) {
            Arc::make_mut(package).file.hooks.values_mut().for_each(|hook| hook.timeout = None);
        }
        Arc::new(laid_out)
    };
    let terms = Terms { apply_deadline: Duration::from_secs(seconds), ..TERMS };
    let assignment = assignment(5, Order::Activate(terms), target, from);
    let (target, way_back) = (lay_out(target), lay_out(from));
    let events = [
        Event::Assigned(Task { assignment, sent: at(100) }),
        Event::Fetched,
        Event::LaidOut { target, way_back: Arc::clone(&way_back), from: Some(Arc::clone(&way_back)) },
        Event::StepDone,
        Event::Begun,
    ];
    events.into_iter().fold(State::new(way_back), |state, event| state.on(event, at(100)).expect("taken"))
}

#[test]
fn what_packages_ask_for_must_fit_into_the_deadline_there_and_back() {
    for (from, target, has_timeouts, asked, way) in [
        // The stop of web: two hooks and two services. Its start: two hooks and the health window.
        (OLD, NEW, true, 140 + 150, "the activation"),
        ("db 1", NEW, true, 140 + 30, "its way back"),
        (OLD, NEW, false, 20 + 30, "the activation"),
    ] {
        let enough = begun(from, target, asked, has_timeouts);
        assert!(enough.is_activating(), "{from} to {target}: {:?}", enough.report());
        let short = begun(from, target, asked - 1, has_timeouts);
        let (phase, failure) = short.report();
        let failure = failure.expect("a failure");
        assert_eq!((phase, failure.code), (Phase::Idle, Code::DeadlineShort));
        assert!(failure.message.starts_with(way), "{}", failure.message);
        assert!(has_timeouts != failure.message.contains("is the stop of service"), "{}", failure.message);
        assert_eq!(short.action(), Action::Wait, "nothing is disturbed");
    }
}

#[test]
fn a_warning_is_told_until_the_next_assignment() {
    let mut state = state("Stopping");
    state = state.on(Event::StepFailed(step_error()), at(100)).expect("passed");
    state = steps(&state, 3);
    state = state.on(Event::Switched { running: deployment(NEW).link() }, at(100)).expect("switched");
    state = steps(&state, 3).on(healthy(at(100)), at(130)).expect("well");
    state = steps(&steps(&state, 1), 1).on(Event::Collected, at(130)).expect("collected");
    let told = state.on(Event::Reported, at(130)).expect("told");
    let (phase, failure) = told.report();
    let failure = failure.expect("a warning");
    assert_eq!((phase, failure.phase, failure.code), (Phase::Settled, Phase::Stopping, Code::HookExit));
    let next = told.on(Event::Assigned(prepare(6, NEWER, at(131))), at(131)).expect("taken");
    assert_eq!(next.report(), (Phase::Fetching, None));
}
