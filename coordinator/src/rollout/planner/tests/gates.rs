//! Gates between waves, from the planner's side: what it does with their values.

use std::time::Duration;

use houston_common::policy::gate::{Before, Condition, Gate};
use houston_common::rollout::{Cause, Closed, WaitingOn};

use super::world::{World, name, policy, release};
use crate::rollout::Stage;
use crate::rollout::gates::Value;

/// Nine hosts, and a gate that nobody has opened.
fn gated(before: Before, within: Option<Duration>) -> World {
    let mut world = World::serving(&[("a", 3), ("b", 3), ("c", 3)], policy());
    let condition = Condition::Evidence { passes: 5 };
    world.edit_policy(|policy| policy.gates = vec![Gate { name: name("proof"), before, condition, within }]);
    world.start(release(2), false).expect("started");
    world
}

fn is_at_the_gate(world: &World) -> bool {
    matches!(world.newest().stage, Stage::Gated { .. })
}

fn set(world: &mut World, value: Value) {
    world.gates.gates.insert(name("proof"), value);
    world.settle();
}

#[test]
fn a_closed_gate_holds_the_wave_and_says_why() {
    let mut world = gated(Before::FirstWave, None);
    world.until("it is at the gate", is_at_the_gate);
    set(&mut world, Value::Closed(Closed::Evidence { passes: 1, of: 5 }));
    world.rounds(50);
    assert_eq!(world.on(release(2)).len(), 1);
    let closed = Closed::Evidence { passes: 1, of: 5 };
    let waiting = world.waiting();
    let expected = |waiting: &WaitingOn| matches!(waiting, WaitingOn::Gate { before: Some(_), closed: why, .. } if *why == closed);
    assert!(waiting.iter().any(expected), "{waiting:?}");
    set(&mut world, Value::Open);
    assert_eq!(world.until_over(), Stage::Succeeded);
}

#[test]
fn a_gate_of_which_nothing_is_known_is_closed() {
    let mut world = gated(Before::FirstWave, None);
    world.until("it is at the gate", is_at_the_gate);
    world.rounds(20);
    let waiting = world.waiting();
    assert!(matches!(&waiting[..], [WaitingOn::Gate { closed: Closed::NotKnown, .. }]), "{waiting:?}");
}

#[test]
fn a_gate_before_each_wave_is_asked_each_time_and_one_before_the_end_once() {
    for (before, times) in [(Before::EachWave, 3), (Before::FirstWave, 1), (Before::End, 1)] {
        let mut world = gated(before, None);
        for time in 0..times {
            world.until("it is at the gate", is_at_the_gate);
            let moved = world.on(release(2)).len();
            let expected = if before == Before::End { 9 } else { [1, 3, 6][time] };
            assert_eq!(moved, expected, "{before:?}");
            set(&mut world, Value::Open);
            world.gates.gates.clear();
        }
        assert_eq!(world.until_over(), Stage::Succeeded, "{before:?}");
    }
}

#[test]
fn a_gate_that_stays_closed_for_too_long_halts_the_rollout() {
    let mut world = gated(Before::FirstWave, Some(Duration::from_secs(300)));
    world.until("it is at the gate", is_at_the_gate);
    world.until("it gives up", |world| world.newest().stage == Stage::Halted);
    assert_eq!(world.newest().cause, Some(Cause::GateClosed { gate: name("proof") }));
    assert_eq!(world.on(release(2)).len(), 1, "nobody is taken back without being asked");
}

/// Nomad 27804 and Argo Rollouts 3843: a deadline went on while somebody had paused it, and passed at once
/// when it was resumed.
#[test]
fn a_gates_deadline_stands_still_while_it_is_paused() {
    let mut world = gated(Before::FirstWave, Some(Duration::from_secs(300)));
    world.until("it is at the gate", is_at_the_gate);
    world.pause();
    world.wait(Duration::from_secs(3600));
    world.rounds(5);
    world.resume();
    world.rounds(2);
    assert!(is_at_the_gate(&world), "{:?}", world.newest().stage);
    set(&mut world, Value::Open);
    assert_eq!(world.until_over(), Stage::Succeeded);
}

#[test]
fn a_host_that_turns_bad_at_the_gate_takes_the_change_back() {
    let mut world = gated(Before::FirstWave, None);
    world.until("it is at the gate", is_at_the_gate);
    let host = world.on(release(2)).remove(0);
    world.sick(&host, true);
    assert_eq!(world.until_over(), Stage::RolledBack);
}
