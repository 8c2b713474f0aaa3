use std::time::Duration;

use houston_common::command::{DecideGate, RolloutAction};
use houston_common::error::Code;
use houston_common::policy::Policy;
use houston_common::policy::gate::{Before, Comparison, Condition, Gate, Metric};
use houston_common::rollout::{Closed, RolloutState};

use super::super::super::fixture::{WALL, World, alice, name, newest, refused, to};
use super::super::super::{Caller, rollouts};
use crate::rollout::Stage;
use crate::rollout::gates::{GateValues, Measured, Value};

fn gate(called: &str, condition: Condition) -> Gate {
    Gate { name: name(called), before: Before::OneBox, condition, within: None }
}

/// Started by alice, and waiting at these gates.
fn waiting_at(gates: Vec<Gate>) -> World {
    let mut world = World::prod();
    let request = to("v2");
    let policy = Policy { gates, ..world.prod_environment().definition.policy.clone() };
    world.start(&houston_common::command::StartRollout { policy: Some(policy), ..request }).expect("started");
    assert_eq!(world.active().state(), RolloutState::Waiting);
    world
}

fn decide(
    world: &mut World,
    who: &Caller,
    gate: Option<&str>,
    skip: bool,
    reason: &str,
) -> Result<(), houston_common::error::Refusal> {
    let request = DecideGate { rollout: newest(), gate: gate.map(name), skip, reason: reason.to_owned() };
    let decided = rollouts::decide(&world.state, who, &request, world.now, WALL)?;
    world.commit(decided);
    Ok(())
}

fn bob() -> Caller {
    Caller::new(name("bob"))
}

#[test]
fn an_approval_opens_the_gate_and_stays_with_the_rollout() {
    let mut world = waiting_at(vec![gate("go", Condition::Approval { by_another: true })]);
    refused(decide(&mut world, &alice(), None, false, "mine"), Code::SelfApproval);
    refused(decide(&mut world, &alice(), Some("go"), true, "mine"), Code::SelfApproval);
    assert!(world.active().decisions.is_empty());
    decide(&mut world, &bob(), None, false, "looks good").expect("approved");
    assert_eq!(world.active().undecided(0).count(), 0);
    assert_eq!(world.active().decisions[0].remark, "looks good");
    assert_eq!(world.last_audit().what, "rollout.approve prod 1 go");
    // Again is nothing new.
    decide(&mut world, &bob(), Some("go"), false, "").expect("as before");
    assert_eq!(world.active().decisions.len(), 1);
}

#[test]
fn what_is_not_waited_for_cannot_be_opened() {
    let approval = |called| gate(called, Condition::Approval { by_another: false });
    let mut world = waiting_at(vec![
        approval("one"),
        approval("two"),
        gate("frozen", Condition::Freeze { from: WALL, until: WALL.plus(Duration::from_secs(100)) }),
    ]);
    refused(decide(&mut world, &bob(), None, false, ""), Code::RolloutState);
    refused(decide(&mut world, &bob(), Some("three"), false, ""), Code::RolloutState);
    refused(decide(&mut world, &bob(), Some("frozen"), false, ""), Code::RolloutState);
    refused(decide(&mut world, &bob(), Some("frozen"), true, ""), Code::Field);
    refused(decide(&mut world, &bob(), Some("bake"), true, "now"), Code::RolloutState);
    decide(&mut world, &bob(), Some("frozen"), true, "seen elsewhere").expect("skipped");
    assert!(world.active().decisions[0].skipped);
    world.control(newest(), RolloutAction::Abort).expect("aborted");
    refused(decide(&mut world, &bob(), Some("one"), false, ""), Code::RolloutState);
}

#[test]
fn a_bake_can_be_passed_over_with_a_reason() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    let (left, since) = (Duration::from_secs(3600), world.now);
    world.edit_active(|rollout| rollout.stage = Stage::Baking { wave: 0, left, since });
    refused(decide(&mut world, &bob(), Some("bake"), false, "now"), Code::RolloutState);
    decide(&mut world, &bob(), Some("bake"), true, "the fix cannot wait").expect("skipped");
    assert!(matches!(world.active().stage, Stage::Baking { left: Duration::ZERO, .. }));
    assert_eq!(world.active().decisions[0].before, 1);
}

fn values(world: &World) -> GateValues {
    GateValues::of(&world.state, world.prod_environment(), world.now)
}

#[test]
fn gates_open_by_what_is_known_now() {
    let metric = Metric {
        query: "up".to_owned(),
        is: Comparison::AtLeast,
        value: "0.5".parse().expect("a number"),
        fresh: Duration::from_secs(60),
    };
    let freeze = Condition::Freeze { from: WALL, until: WALL.plus(Duration::from_secs(100)) };
    let every = |at_least: &str| Condition::EveryHost { package: name("web"), at_least: name(at_least) };
    let mut world = waiting_at(vec![
        gate("approval", Condition::Approval { by_another: true }),
        gate("freeze", freeze),
        gate("old", every("0.1")),
        gate("new", every("99")),
        gate("metric", Condition::Metric(metric)),
    ]);
    world.state.noted = (world.now, WALL);
    let value =
        |world: &World, gate: &str| values(world).gates[&name::<houston_common::id::GateName>(gate)].clone();
    assert_eq!(
        value(&world, "approval"),
        Value::Closed(Closed::Approval { not_by: Some(alice().name.clone()) })
    );
    assert_eq!(value(&world, "freeze"), Value::Closed(Closed::Frozen { ends_in: Duration::from_secs(100) }));
    assert!(
        matches!(value(&world, "new"), Value::Closed(Closed::Hosts { more: 1, ref hosts, .. }) if hosts.len() == 5)
    );
    assert!(matches!(value(&world, "metric"), Value::Closed(Closed::MetricUnknown { .. })));
    // An answer opens the gate for as long as it is fresh.
    let key = (name("prod"), name("metric"));
    let answered = |value: &str, at| Measured { at, value: Ok(value.parse().expect("a number")) };
    world.state.measured.insert(key.clone(), answered("0.4", world.now));
    assert!(matches!(value(&world, "metric"), Value::Closed(Closed::Metric { .. })));
    world.state.measured.insert(key, answered("0.5", world.now));
    assert_eq!(value(&world, "metric"), Value::Open);
    world.now = world.now.plus(Duration::from_secs(61));
    assert!(matches!(value(&world, "metric"), Value::Closed(Closed::MetricUnknown { .. })));
    world.now = world.now.plus(Duration::from_secs(40));
    assert_eq!(value(&world, "freeze"), Value::Open, "the wall clock goes on with the fleet's");
    assert!(values(&world).recheck_at.is_some_and(|at| at > world.now));
}

#[test]
fn evidence_is_counted_from_nothing() {
    let mut world = World::prod();
    let proof = Gate { before: Before::FirstWave, ..gate("proof", Condition::Evidence { passes: 1 }) };
    let policy = Policy { gates: vec![proof], ..world.prod_environment().definition.policy.clone() };
    world
        .start(&houston_common::command::StartRollout { policy: Some(policy), ..to("v2") })
        .expect("started");
    let since = world.now;
    world.edit_active(|rollout| {
        rollout.stage = Stage::Gated { before: 1, waited: Duration::ZERO, since };
    });
    let closed = Value::Closed(Closed::Evidence { passes: 0, of: 1 });
    assert_eq!(values(&world).gates.get(&name::<houston_common::id::GateName>("proof")), Some(&closed));
}
