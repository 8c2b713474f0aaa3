use std::time::Duration;

use houston_common::command::{Explain, ListRollouts, RolloutAction, RolloutRef, StartRollout};
use houston_common::error::Code;
use houston_common::id::{HostId, RolloutId};
use houston_common::policy::Share;
use houston_common::rollout::{Cause, RolloutState, WaitingOn, Wave};

use super::super::environments;
use super::super::fixture::{WALL, World, alice, applied, name, newest, refused, to};
use super::{environment_of, explain, find, list, plan};
use crate::environment::member::{Lane, Step};
use crate::rollout::gates::GateValues;
use crate::rollout::{Direction, Rolling, Stage};
use crate::state::Edit;

fn with_policy(world: &mut World, edit: impl FnOnce(&mut houston_common::policy::Policy)) {
    let mut request = applied("prod", &[("env", "prod")]);
    edit(&mut request.policy);
    let decided = environments::apply(&world.state, &alice(), &request).expect("applied");
    world.commit(decided);
}

#[test]
fn a_rollout_pins_its_policy_zones_and_way_back() {
    let mut world = World::prod();
    with_policy(&mut world, |policy| policy.zone_order = vec![name("c")]);
    let id = world.start(&to("v2")).expect("started");
    assert_eq!((id, world.state.meta.rollout), (RolloutId(1), RolloutId(1)));
    let rollout = world.active();
    assert_eq!(rollout.zones, [name("c"), name("a"), name("b")]);
    assert_eq!(rollout.planned.values().copied().collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(
        (rollout.hosts(), rollout.target, rollout.way_back),
        (6, world.release("v2"), world.release("v1"))
    );
    assert_eq!(rollout.state(), RolloutState::Preparing);
    assert_eq!((rollout.started_at, rollout.inherits.as_slice()), (WALL, &[][..]));
    let audit = world.last_audit();
    assert_eq!(audit.what, "rollout.start prod 1");
    assert_eq!((audit.before.as_str(), audit.after.as_str()), ("v1 baked", "to v2, 6 hosts"));
}

#[test]
fn what_is_not_there_cannot_be_started() {
    let mut world = World::prod();
    let told = refused(
        world.start(&StartRollout { environment: name("prdo"), ..to("v2") }),
        Code::EnvironmentUnknown,
    );
    assert!(told.contains("did you mean \"prod\"?"), "{told}");
    for version in ["v3", "v4", "v5", "v6"] {
        world.version_set(version);
    }
    let told = refused(world.start(&to("nine")), Code::VersionSetUnknown);
    assert!(told.contains("newest: v6, v5, v4, v3, v2") && !told.contains("v1"), "{told}");
    world.environment("none", &[("env", "nowhere")]);
    refused(world.start(&StartRollout { environment: name("none"), ..to("v2") }), Code::EnvironmentEmpty);
    assert_eq!(world.state.meta.rollout, RolloutId(0), "nothing was given out");
}

#[test]
fn nothing_is_done_where_everybody_is_there_already() {
    let mut world = World::prod();
    refused(world.start(&to("v1")), Code::NoChange);
    world.start(&StartRollout { force: true, ..to("v1") }).expect("forced");
    let mut world = World::prod();
    let other = world.release("v2");
    world.edit_member("a1", |member| member.settled = Some(other));
    world.start(&to("v1")).expect("one host is off it");
    // Never anything baked, and nothing to run: uninstalling changes nothing.
    let mut world = World::empty();
    world.token("join", "a", 9);
    world.environment("prod", &[]);
    world.host("a1", "a", &[]);
    refused(world.start(&to("empty")), Code::NoChange);
}

#[test]
fn what_was_taken_back_needs_force() {
    let mut world = World::prod();
    let mut definition = world.prod_environment().definition.clone();
    definition.bad.push(world.release("v2"));
    world.state.apply(Edit::Environment(definition), world.now);
    refused(world.start(&to("v2")), Code::BadVersion);
    world.start(&StartRollout { force: true, ..to("v2") }).expect("forced");
}

#[test]
fn an_active_rollout_is_named_and_superseded_on_demand() {
    let mut world = World::prod();
    let first = world.start(&to("v2")).expect("started");
    world.version_set("v3");
    let told = refused(world.start(&to("v3")), Code::Conflict);
    assert!(told.contains("rollout 1 by alice (because) is active in prod since 2027-"), "{told}");
    assert!(told.contains("--supersede") && told.contains("abort"), "{told}");
    let second = world.start(&StartRollout { supersede: true, ..to("v3") }).expect("started");
    let old = &world.state.history[&first];
    assert_eq!((&old.stage, old.ended_at), (&Stage::Superseded { by: second }, Some(WALL)));
    assert_eq!((world.active().id, world.active().inherits.as_slice()), (second, &[first][..]));
    assert_eq!(world.prod_environment().definition.unresolved, [first]);
    assert_eq!(world.active().way_back, world.release("v1"), "still what is baked");
    world.version_set("v4");
    world.start(&StartRollout { supersede: true, ..to("v4") }).expect("started");
    assert_eq!(world.active().inherits, [first, second]);
}

#[test]
fn a_superseding_rollout_counts_hosts_where_they_are_now() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    let mut host = world.state.fleet.get(&name("a1")).expect("there").host.clone();
    host.zone = name("d");
    world.state.apply(Edit::Host(host), world.now);
    assert_eq!(world.member("a1").zone, name("a"), "pinned");
    world.version_set("v3");
    world.start(&StartRollout { supersede: true, ..to("v3") }).expect("started");
    assert_eq!(
        (world.active().zones.len(), world.active().planned[&name::<houston_common::id::Zone>("d")]),
        (4, 1)
    );
    assert_eq!(world.member("a1").zone, name("d"));
}

#[test]
fn floors_under_which_nobody_could_move_are_refused() {
    let mut world = World::prod();
    with_policy(&mut world, |policy| policy.fleet_floor = Share::Percent(100));
    let told = refused(world.start(&to("v2")), Code::BudgetAll);
    assert!(told.contains("fleet_floor (100%)") && told.contains("--allow-outage"), "{told}");
    world.start(&StartRollout { allow_outage: true, ..to("v2") }).expect("allowed");
    assert_eq!(
        (world.active().policy.fleet_floor, world.active().policy.zone_floor),
        (Share::Hosts(0), None)
    );
    let mut world = World::prod();
    with_policy(&mut world, |policy| policy.zone_floor = Some(Share::Hosts(2)));
    let told = refused(world.start(&to("v2")), Code::BudgetAll);
    assert!(told.contains("in zone a"), "{told}");
    // A first deploy takes nothing away from a service.
    let hosts: Vec<HostId> =
        world.prod_environment().members().map(|live| live.member.host.clone()).collect();
    for host in hosts {
        world.edit_member(host.as_str(), |member| member.settled = None);
    }
    world.start(&to("v2")).expect("started");
}

#[test]
fn uninstalling_wants_the_plans_hash_or_force() {
    let mut world = World::prod();
    let told = refused(world.start(&to("empty")), Code::Downgrade);
    assert!(told.contains("from 6 hosts of prod"), "{told}");
    let planned = plan(&world.state, &alice(), &to("empty"), world.now).expect("a plan");
    world.start(&StartRollout { plan_hash: Some(planned.plan_hash), ..to("empty") }).expect("confirmed");
    assert!(world.active().target.is_empty());
    assert_eq!(world.active().policy.fleet_floor, Share::Hosts(0), "a floor protects a service that stays");
    let mut world = World::prod();
    world.start(&StartRollout { force: true, ..to("empty") }).expect("forced");
}

#[test]
fn hosts_are_left_out_by_name() {
    let mut world = World::prod();
    for id in ["d1-k3f9x", "d2-aaaaa"] {
        world.host(id, "d", &[("env", "prod")]);
    }
    world.host("other", "d", &[]);
    let without =
        |hosts: &[&str]| StartRollout { exclude: hosts.iter().map(|id| name(id)).collect(), ..to("v2") };
    refused(world.start(&without(&["nobody"])), Code::HostUnknown);
    let told = refused(world.start(&without(&["other"])), Code::HostUnknown);
    assert!(told.contains("does not belong to environment prod"), "{told}");
    let all = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"];
    refused(world.start(&without(&all)), Code::EnvironmentEmpty);
    // Once is enough, however it is called.
    let request = without(&["d1", "d1-k3f9x", "b2"]);
    let planned = plan(&world.state, &alice(), &request, world.now).expect("a plan");
    assert_eq!(planned.excluded, [name::<HostId>("b2"), name("d1-k3f9x")]);
    assert_eq!((planned.hosts, planned.waves[0].hosts), (6, 1));
    let whole = plan(&world.state, &alice(), &to("v2"), world.now).expect("a plan");
    assert_ne!(planned.plan_hash, whole.plan_hash);
    refused(
        world.start(&StartRollout { plan_hash: Some(whole.plan_hash), ..request.clone() }),
        Code::PlanChanged,
    );
    world.start(&StartRollout { plan_hash: Some(planned.plan_hash), ..request }).expect("as planned");
    assert!(
        world.last_audit().after.ends_with(" --exclude b2 --exclude d1-k3f9x"),
        "{:?}",
        world.last_audit()
    );
}

#[test]
fn where_only_who_is_left_out_is_behind_there_is_nothing_to_do() {
    let mut world = World::prod();
    world.edit_member("a1", |member| member.settled = None);
    let request = StartRollout { exclude: vec![name("a1")], ..to("v1") };
    refused(world.start(&request), Code::NoChange);
    world.start(&to("v1")).expect("there is a1");
}

#[test]
fn a_plan_is_kept_to_or_refused() {
    let mut world = World::prod();
    let planned = plan(&world.state, &alice(), &to("v2"), world.now).expect("a plan");
    let again = plan(&world.state, &alice(), &to("v2"), world.now).expect("a plan");
    assert_eq!(planned, again);
    assert_eq!((planned.hosts, planned.floor, planned.supersedes), (6, 4, None));
    let waves: Vec<_> =
        planned.waves.iter().map(|wave| (wave.wave.clone(), wave.hosts, wave.first.len())).collect();
    let zone = |zone: &str| Wave::Zones(vec![name(zone)]);
    assert_eq!(waves, [(Wave::OneBox, 1, 1), (zone("a"), 1, 1), (zone("b"), 2, 2), (zone("c"), 2, 2)]);
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    world.host("d1", "d", &[("env", "prod")]);
    refused(world.start(&promised), Code::PlanChanged);
    let planned = plan(&world.state, &alice(), &to("v2"), world.now).expect("a plan");
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    world.start(&promised).expect("as planned");
    // The planner begins with the host that the plan named.
    let first = planned.waves[0].first[0].clone();
    let gates = GateValues::of(&world.state, world.prod_environment(), world.now);
    let now = crate::rollout::planner::plan(world.prod_environment(), &world.state.fleet, &gates, world.now);
    let one_box = crate::rollout::planner::Turn::OneBox(first);
    assert!(now.changes.contains(&crate::rollout::planner::Change::Turn(one_box)), "{now:?}");
}

#[test]
fn a_repeated_request_answers_with_its_rollout() {
    let mut world = World::prod();
    let request = StartRollout { idempotency_key: Some("k1".to_owned()), ..to("v2") };
    let id = world.start(&request).expect("started");
    let entries = world.state.audit.len();
    assert_eq!(world.start(&request).expect("the same"), id);
    world.succeed("v2");
    assert_eq!(world.start(&request).expect("the same, also when it is over"), id);
    assert_eq!(world.state.audit.len(), entries);
    refused(world.start(&StartRollout { force: true, ..request.clone() }), Code::Idempotency);
    refused(world.start(&StartRollout { version_set: name("v1"), ..request }), Code::Idempotency);
}

#[test]
fn a_pause_stops_the_bake() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    let left = Duration::from_secs(100);
    let since = world.now;
    world.edit_active(|rollout| rollout.stage = Stage::Baking { wave: 0, left, since });
    world.later(Duration::from_secs(30));
    world.control(newest(), RolloutAction::Pause).expect("paused");
    assert_eq!(world.active().state(), RolloutState::Paused);
    let entries = world.state.audit.len();
    world.control(newest(), RolloutAction::Pause).expect("done already");
    assert_eq!(world.state.audit.len(), entries);
    world.later(Duration::from_secs(1000));
    world.control(newest(), RolloutAction::Resume).expect("resumed");
    let now = world.now;
    let baking = Stage::Baking { wave: 0, left: Duration::from_secs(70), since: now };
    assert_eq!((&world.active().stage, &world.active().paused), (&baking, &None));
}

#[test]
fn an_aborted_rollout_is_unresolved() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    world.control(newest(), RolloutAction::Abort).expect("aborted");
    assert!(world.prod_environment().rollout.is_none());
    assert_eq!(world.state.history[&id].ended_at, Some(WALL));
    assert_eq!(world.prod_environment().definition.unresolved, [id]);
    world.version_set("v3");
    world.start(&to("v3")).expect("started");
    assert_eq!(world.active().inherits, [id], "its hosts are taken back too");
    let told = refused(world.control(RolloutRef::Id(id), RolloutAction::Resume), Code::RolloutState);
    assert!(
        told.contains("is aborted: it cannot be resumed") && told.contains("rollout 2 came after it"),
        "{told}"
    );
}

#[test]
fn a_running_rollout_is_taken_back_and_marked_bad() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    world.edit_active(|rollout| rollout.stage = Stage::Rolling(Rolling::begin(1)));
    world.control(newest(), RolloutAction::Pause).expect("paused");
    assert_eq!(world.control(newest(), RolloutAction::Rollback).expect("taken back"), id);
    assert_eq!(world.active().state(), RolloutState::RollingBack);
    let cause = Cause::Operator { name: "alice".to_owned(), reason: "because".to_owned() };
    assert_eq!(world.active().cause, Some(cause));
    assert_eq!(world.prod_environment().definition.bad, [world.release("v2")]);
    let again = world.state.audit.len();
    world.control(newest(), RolloutAction::Rollback).expect("done already");
    assert_eq!(world.state.audit.len(), again);
    // Halted on its way back: it goes on.
    world.edit_active(|rollout| {
        rollout.stage = Stage::Halted;
        rollout.first_failure = Some(name("a1"));
    });
    refused(world.control(newest(), RolloutAction::Pause), Code::RolloutState);
    let told = refused(world.control(newest(), RolloutAction::Resume), Code::RolloutState);
    assert!(told.contains("is halted") && told.contains("taken back or aborted"), "{told}");
    world.control(newest(), RolloutAction::Rollback).expect("goes on");
    assert_eq!((world.active().state(), &world.active().first_failure), (RolloutState::RollingBack, &None));
}

#[test]
fn a_success_is_taken_back_by_a_new_rollout() {
    let mut world = World::prod();
    let v1 = world.release("v1");
    let id = world.start(&to("v2")).expect("started");
    world.succeed("v2");
    let back = world.control(newest(), RolloutAction::Rollback).expect("taken back");
    assert_eq!((back, world.state.meta.rollout), (RolloutId(2), RolloutId(2)));
    let rollout = world.active();
    assert_eq!((rollout.direction, &rollout.stage), (Direction::Back { of: id }, &Stage::RollingBack));
    assert_eq!((rollout.target, rollout.way_back, rollout.hosts()), (v1, world.release("v2"), 6));
    assert_eq!((rollout.zones.len(), rollout.started_at), (3, WALL));
    assert_eq!(world.prod_environment().definition.bad, [world.release("v2")]);
    let told = refused(world.control(newest(), RolloutAction::Rollback), Code::RolloutState);
    assert!(told.contains("takes back an earlier one"), "{told}");
    // The planner finds hosts to take back at once.
    let gates = GateValues::of(&world.state, world.prod_environment(), world.now);
    let now = crate::rollout::planner::plan(world.prod_environment(), &world.state.fleet, &gates, world.now);
    assert!(!now.grants.is_empty(), "{now:?}");
    assert!(now.grants.iter().all(|grant| grant.release == v1 && grant.taking_back));
}

#[test]
fn only_the_newest_success_is_taken_back() {
    let mut world = World::prod();
    let first = world.start(&to("v2")).expect("started");
    world.succeed("v2");
    world.version_set("v3");
    world.start(&to("v3")).expect("started");
    let told = refused(world.control(RolloutRef::Id(first), RolloutAction::Rollback), Code::RolloutState);
    assert!(told.contains("rollout 1 of prod is succeeded: it cannot be taken back"), "{told}");
    refused(world.control(RolloutRef::Id(first), RolloutAction::Abort), Code::RolloutState);
    refused(world.control(RolloutRef::Id(RolloutId(9)), RolloutAction::Abort), Code::RolloutUnknown);
}

#[test]
fn rollouts_are_found_and_listed_newest_first() {
    let mut world = World::prod();
    refused(find(&world.state, &newest()), Code::RolloutUnknown);
    assert_eq!(environment_of(&world.state, &newest()).expect("prod"), name("prod"));
    let first = world.start(&to("v2")).expect("started");
    world.succeed("v2");
    assert_eq!(find(&world.state, &newest()).expect("there").id, first);
    world.version_set("v3");
    let second = world.start(&to("v3")).expect("started");
    assert_eq!(find(&world.state, &newest()).expect("there").id, second);
    assert_eq!(environment_of(&world.state, &RolloutRef::Id(first)).expect("prod"), name("prod"));
    let mut request = ListRollouts { environment: Some(name("prod")), limit: 10 };
    let all = list(&world.state, &request).expect("a list");
    assert_eq!(
        all.iter().map(|rollout| (rollout.id, rollout.updated)).collect::<Vec<_>>(),
        [(second, 0), (first, 6)]
    );
    request.limit = 1;
    assert_eq!(list(&world.state, &request).expect("a list").len(), 1);
    request.environment = Some(name("nope"));
    refused(list(&world.state, &request), Code::EnvironmentUnknown);
}

#[test]
fn waiting_is_explained_for_the_environment_and_for_one_host() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    world.control(newest(), RolloutAction::Pause).expect("paused");
    let mut request = Explain { environment: name("prod"), host: None };
    let paused = WaitingOn::Paused { by: "alice".to_owned() };
    assert_eq!(explain(&world.state, &request, world.now).expect("explained"), std::slice::from_ref(&paused));
    request.host = Some(name("a1"));
    assert_eq!(explain(&world.state, &request, world.now).expect("explained"), [paused]);
    world.host("other", "a", &[]);
    request.host = Some(name("other"));
    let told = refused(explain(&world.state, &request, world.now), Code::HostUnknown);
    assert!(told.contains("does not belong to environment prod"), "{told}");
}

#[test]
fn a_rollback_of_hosts_left_by_an_aborted_one_reaches_them() {
    let mut world = World::prod();
    let first = world.start(&to("v2")).expect("started");
    let v2 = world.release("v2");
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(first);
        member.step = Step::Settled;
        member.started = Some(first);
        member.settled = Some(v2);
    });
    world.control(newest(), RolloutAction::Abort).expect("aborted");
    world.version_set("v3");
    world.start(&to("v3")).expect("started");
    world.control(newest(), RolloutAction::Rollback).expect("taken back");
    let gates = GateValues::of(&world.state, world.prod_environment(), world.now);
    let now = crate::rollout::planner::plan(world.prod_environment(), &world.state.fleet, &gates, world.now);
    assert_eq!(now.grants.iter().map(|grant| grant.host.as_str()).collect::<Vec<_>>(), ["a1"], "{now:?}");
}
