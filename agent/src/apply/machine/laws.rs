//! What must hold after any events in any order.

use proptest::prelude::*;

use super::samples::*;
use houston_common::digest::ReleaseDigest;
use houston_common::error::Code;
use houston_common::report::Phase;

use super::*;
use crate::apply::boot_time::BootId;
use crate::apply::journal::{read_state, write_state};
use crate::apply::steps::StepKind;
use crate::host::FetchError;

/// An event, how much time passes before it, and whether the host boots in between.
#[derive(Debug, Clone)]
struct Happening {
    event: usize,
    wait_ms: u64,
    reboots: bool,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let wait = prop_oneof![4 => 0..2_000_u64, 1 => 0..60_000_u64, 1 => Just(700_000)];
    let one = (0..1_000_usize, wait, prop::bool::weighted(0.03))
        .prop_map(|(event, wait_ms, reboots)| Happening { event, wait_ms, reboots });
    prop::collection::vec(one, 1..120)
}

/// What the world would say to the state's action, well or badly, or something out of place.
fn event(state: &State, choice: usize, generation: &mut u64, now: BootTime) -> Event {
    let assigned = |generation: u64, choice: usize| {
        let releases = [OLD, NEW, NEWER, "", "once 1, web 4"];
        let (release, way_back) = (releases[choice % 5], releases[choice / 5 % 5]);
        let order = if choice.is_multiple_of(3) { Order::Prepare } else { Order::Activate(TERMS) };
        Event::Assigned(Task { assignment: assignment(generation, order, release, way_back), sent: now })
    };
    let goes_well = !choice.is_multiple_of(8);
    match choice {
        0..40 => {
            *generation += 1;
            return assigned(*generation, choice);
        }
        40..50 => return assigned(*generation, choice),
        50..60 => return Event::TimePassed,
        60..100 => return events().swap_remove(choice % events().len()).1,
        100..110 => return Event::Reported,
        _ => {}
    }
    match state.action() {
        Action::Fetch { .. } if goes_well => Event::Fetched,
        Action::Fetch { .. } => {
            let code = if choice.is_multiple_of(16) { Code::Busy } else { Code::FileDigest };
            let error = FetchError { refusal: refusal(code), retry_after: None };
            Event::FetchFailed { error, random: choice as u64 }
        }
        Action::LayOut { release, way_back } => Event::LaidOut {
            target: Arc::new(laid_out(&release)),
            way_back: Arc::new(laid_out(&way_back)),
            from: goes_well.then(|| Arc::clone(&state.running.current)),
        },
        Action::Begin => Event::Begun,
        Action::Run(_) if goes_well => Event::StepDone,
        Action::Run(_) => Event::StepFailed(step_error()),
        Action::Switch { to } if goes_well => Event::Switched { running: to },
        Action::Switch { .. } => Event::SwitchFailed(refusal(Code::Io)),
        Action::Collect(_) => Event::Collected,
        Action::Wait if state.is_proving() && goes_well => {
            healthy(BootTime { ms: now.ms.saturating_sub(40_000), ..now })
        }
        Action::Wait if state.is_proving() => unhealthy(),
        Action::Wait => Event::TimePassed,
    }
}

fn disturbs(action: &Action) -> bool {
    match action {
        Action::Switch { .. } => true,
        Action::Run(step) => match &step.kind {
            StepKind::Hook(phase, _) => *phase != houston_common::package::HookPhase::Check,
            StepKind::StopService(_) | StepKind::StartService(_) => true,
        },
        Action::Wait | Action::Fetch { .. } | Action::LayOut { .. } | Action::Begin | Action::Collect(_) => {
            false
        }
    }
}

/// The coordinator has the next word.
fn may_wait_for_ever(state: &State) -> bool {
    match &state.at {
        At::Idle { .. } => true,
        At::Ready { prepared, is_void } => *is_void || prepared.task.terms().is_none(),
        At::Ended(_) => state.next.is_none(),
        At::Fetching { .. } | At::LayingOut { .. } | At::Checking { .. } | At::Activating(_) => false,
    }
}

fn check_transition(before: &State, after: &State, now: BootTime) {
    if after.is_activating() && !before.is_activating() {
        let At::Ready { prepared, is_void: false } = &before.at else { panic!("begun from {before:?}") };
        let terms = prepared.task.terms().expect("a grant");
        let spent = now.since(prepared.task.sent).expect("the same boot");
        assert!(spent < terms.start_within, "begun after {spent:?}");
    }
    if disturbs(&after.action()) {
        assert!(matches!(after.at, At::Activating(_) | At::Ended(_)), "{after:?}");
    }
    if after.action() == Action::Wait && !may_wait_for_ever(after) {
        assert!(after.deadline().is_some(), "waits for ever: {after:?}");
    }
    let order = |state: &State| state.floor.map(|floor| floor.stamp.order());
    assert!(order(after) >= order(before), "the floor has sunk");
    if after.phase() == Phase::Reverting && before.phase() == Phase::Reverting {
        assert_eq!(after.stamp, before.stamp, "one revert for one grant");
    }
    let bytes = write_state(after).expect("written");
    assert_eq!(read_state(&bytes).as_ref(), Ok(after));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_for_any_events(happenings in happenings()) {
        let mut state = State::new(deployment(OLD));
        let mut now = at(0);
        let mut generation = 1;
        // Of each grant, what was switched to.
        let mut switches: Vec<(Stamp, Vec<Option<ReleaseDigest>>)> = Vec::new();
        for happening in happenings {
            now = now.plus(Duration::from_millis(happening.wait_ms));
            if happening.reboots {
                now = BootTime { boot: BootId(now.boot.0 + 1), ms: 5_000 };
                let loaded = state.on(Event::Loaded, now).expect("never refused");
                check_transition(&state, &loaded, now);
                state = loaded;
            }
            let event = event(&state, happening.event, &mut generation, now);
            let (action, is_switched) = (state.action(), matches!(event, Event::Switched { .. }));
            let Ok(next) = state.on(event, now) else { continue };
            if let (Action::Switch { to }, true) = (action, is_switched) {
                let stamp = state.stamp.expect("assigned");
                match switches.last_mut() {
                    Some((of, list)) if *of == stamp => list.push(to),
                    _ => switches.push((stamp, vec![to])),
                }
            }
            check_transition(&state, &next, now);
            state = next;
        }
        for (index, (stamp, list)) in switches.iter().enumerate() {
            assert!(list.len() <= 2, "{stamp:?}: {list:?}");
            assert!(switches[..index].iter().all(|(other, _)| other != stamp), "activated twice: {stamp:?}");
        }
    }

    #[test]
    fn a_reboot_shortens_no_wait(index in 0..states().len(), waited_ms in 0..40_000_u64, boot_ms in 0..1_000_000_u64) {
        let (name, state) = states().swap_remove(index);
        // A grant that has not begun is void instead: nothing is waited for.
        prop_assume!(name != "Ready, granted" && name != "Fetching, waiting");
        let before = at(100).plus(Duration::from_millis(waited_ms));
        let rebooted = BootTime { boot: BootId(2), ms: boot_ms };
        let left = |state: &State, now: BootTime| {
            let until = |deadline: BootTime| deadline.since(now).expect("the same boot");
            state.time_left(now).or_else(|| state.deadline().map(until))
        };
        let loaded = state.on(Event::Loaded, rebooted).expect("loaded");
        assert!(left(&loaded, rebooted) >= left(&state, before), "{name}");
        if let At::Activating(Course { leg: Leg::Proving { since, healthy_since }, .. }) = loaded.at {
            assert_eq!((since, healthy_since), (rebooted, None));
        }
    }

    #[test]
    fn events_of_another_state_never_panic(index in 0..states().len(), event in 0..events().len(), ms in 0..2_000_000_u64, boot in 1..3_u128) {
        let (_, state) = states().swap_remove(index);
        let (_, event) = events().swap_remove(event);
        let now = BootTime { boot: BootId(boot), ms };
        if let Ok(next) = state.on(event, now) {
            let _ = (next.action(), next.deadline(), next.report(), next.should_run(), next.keep(), next.watched());
        }
    }
}
