//! The penalty box, exclusions and retries.

use std::time::Duration;

use houston_common::policy::Share;
use houston_common::rollout::{Exception, Held, WaitingOn};

use super::host::Manner;
use super::world::{PROD, World, name, policy, release};
use crate::environment::member::{Lane, Step};
use crate::rollout::Stage;
use crate::rollout::explain::explain_environment;

const ZONES: [(&str, u32); 3] = [("a", 3), ("b", 3), ("c", 3)];
const HOUR: Duration = Duration::from_secs(3600);

fn nine() -> World {
    World::serving(&ZONES, policy())
}

/// Failures in a row, and the time left in the box.
fn boxed(world: &World, host: &str) -> Option<(u32, Duration)> {
    match world.explain(host) {
        WaitingOn::Held(Held::PenaltyBox { failures, left, .. }) => Some((failures, left)),
        _ => None,
    }
}

/// The hosts are silent until the last zone is beyond its first batch, and are there again then.
fn come_late(world: &mut World, hosts: &[&str]) {
    for host in hosts {
        world.host(host).cut_off = true;
    }
    world.until("the last zone is beyond its first batch", |world| {
        matches!(&world.newest().stage, Stage::Rolling(rolling) if rolling.wave == 3 && rolling.batch > 1)
    });
    for host in hosts {
        world.host(host).cut_off = false;
    }
}

#[test]
fn a_host_that_fails_again_and_again_is_boxed_for_longer_and_longer() {
    let mut world = nine();
    world.manner("d1", release(1), Manner::Fails);
    world.join("d1", "d");
    world.until("it is boxed", |world| boxed(world, "d1").is_some());
    let (failures, left) = boxed(&world, "d1").expect("boxed");
    assert!(failures == 3 && left <= HOUR && left > HOUR - Duration::from_secs(60), "{failures} {left:?}");
    let generation = world.member("d1").told.expect("told").generation;
    world.rounds(60);
    assert_eq!(world.member("d1").told.expect("told").generation, generation, "it is left alone");
    world.restart();
    world.rounds(1);
    world.wait(HOUR);
    world.until("it is boxed again", |world| boxed(world, "d1").is_some());
    let (failures, left) = boxed(&world, "d1").expect("boxed");
    assert!(failures == 4 && left > HOUR, "{failures} {left:?}");
    world.manner("d1", release(1), Manner::Well);
    world.wait(2 * HOUR);
    world.until("it serves", |world| world.running("d1") == release(1) && world.granted().is_empty());
    assert_eq!((world.member("d1").failures, world.member("d1").boxed_until), (0, None));
    world.laws.must_hold();
}

#[test]
fn a_boxed_host_is_freed_by_hand() {
    let mut world = nine();
    world.manner("d1", release(1), Manner::PrepareFails);
    world.join("d1", "d");
    world.until("it is boxed", |world| boxed(world, "d1").is_some());
    world.manner("d1", release(1), Manner::Well);
    world.release("d1");
    world.until("it serves", |world| world.running("d1") == release(1));
}

#[test]
fn failures_that_rollouts_bear_box_a_host() {
    let mut world = nine();
    for (number, failures) in [(2, 1), (3, 2), (4, 3)] {
        world.manner("c3", release(number), Manner::Fails);
        world.start(release(number), false).expect("started");
        come_late(&mut world, &["c3"]);
        assert_eq!(world.until_over(), Stage::Succeeded);
        assert_eq!((world.member("c3").step, world.member("c3").failures), (Step::Reverted, failures));
    }
    assert_eq!(boxed(&world, "c3").map(|(failures, _)| failures), Some(3));
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.member("c3").step, Step::Excepted(Exception::Held));
    world.wait(HOUR);
    world.until("it has caught up", |world| world.running("c3") == release(2));
    world.laws.must_hold();
}

#[test]
fn what_a_rollout_is_stopped_for_boxes_nobody() {
    let mut world = World::serving(&[("a", 3), ("b", 3), ("c", 4)], policy());
    world.edit_policy(|policy| policy.lost_budget = Share::Percent(50));
    for host in ["a1", "a2", "a3"] {
        world.manner(host, release(2), Manner::Fails);
    }
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert!(["a1", "a2", "a3"].iter().all(|host| world.member(host).failures == 0));
    // Two that fail beyond the first batch: one is borne, and the one that crosses the budget is forgiven.
    for host in ["c3", "c4"] {
        world.manner(host, release(3), Manner::Fails);
    }
    world.start(release(3), false).expect("started");
    come_late(&mut world, &["c3", "c4"]);
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.newest().failures, 2);
    assert_eq!(world.member("c3").failures + world.member("c4").failures, 1);
    world.laws.must_hold();
}

#[test]
fn a_boxed_host_is_taken_back_all_the_same() {
    let mut world = nine();
    for (number, end) in [(2, Stage::Succeeded), (3, Stage::Succeeded)] {
        world.manner("c3", release(number), Manner::Fails);
        world.start(release(number), false).expect("started");
        come_late(&mut world, &["c3"]);
        assert_eq!(world.until_over(), end);
    }
    world.manner("c3", release(3), Manner::Well);
    world.manner("c3", release(4), Manner::FailsBack);
    world.start(release(4), false).expect("started");
    come_late(&mut world, &["c3"]);
    world.until("it has failed", |world| world.member("c3").step == Step::Failed);
    assert!(world.member("c3").is_boxed());
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.member("c3").step, Step::TakenBack);
    world.laws.must_hold();
}

#[test]
fn an_excluded_host_stays_where_it_is_until_it_is_released() {
    let mut world = nine();
    world.edit_policy(|policy| policy.lost_budget = Share::Percent(1));
    world.exclude = ["b1", "b2"].map(name).into();
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.member("b1").step, Step::Excepted(Exception::Excluded));
    assert_eq!(world.newest().exceptions, 0, "the operator said so");
    world.rounds(60);
    assert_eq!(world.on(release(1)), ["b1", "b2"]);
    let WaitingOn::Excepted { exception: Exception::Excluded, .. } = world.explain("b1") else {
        panic!("{:?}", world.explain("b1"));
    };
    let all = explain_environment(world.environment(PROD), &world.state.fleet, &world.gates, world.now);
    assert_eq!(all, [WaitingOn::OffBaked { hosts: ["b1", "b2"].map(name).to_vec(), more: 0 }]);
    world.release("b1");
    world.until("it has caught up", |world| world.running("b1") == release(2));
    world.rounds(20);
    assert_eq!(world.on(release(1)), ["b2"]);
    world.exclude.clear();
    world.start(release(3), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(3)).len(), 9);
    world.laws.must_hold();
}

#[test]
fn an_excluded_host_that_is_released_is_in_the_rollout_again() {
    let mut world = nine();
    world.exclude = ["c1"].map(name).into();
    world.start(release(2), false).expect("started");
    world.rounds(3);
    assert_eq!(world.member("c1").step, Step::Excepted(Exception::Excluded));
    world.release("c1");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!((world.member("c1").step, world.on(release(2)).len()), (Step::Settled, 9));
    world.laws.must_hold();
}

#[test]
fn an_excluded_host_is_left_alone_by_the_rollback_too() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("zone a is done", |world| world.newest().current_wave() == 2);
    world.exclude = ["a1"].map(name).into();
    world.start(release(3), true).expect("started");
    world.rounds(2);
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(release(2)), ["a1"]);
    world.laws.must_hold();
}

/// `c3` fails once in the last zone, beyond its first batch.
fn with_retries(retries: u32, budget: Share) -> World {
    let mut world = nine();
    world.edit_policy(|policy| (policy.retries, policy.failure_budget) = (retries, budget));
    world.manner("c3", release(2), Manner::Fails);
    world.start(release(2), false).expect("started");
    come_late(&mut world, &["c3"]);
    world
}

#[test]
fn a_host_that_failed_is_tried_again_at_the_end_of_its_wave() {
    let mut world = with_retries(2, Share::Hosts(1));
    world.until("it has gone back", |world| world.member("c3").failures == 1);
    assert_eq!(world.newest().current_wave(), 3);
    world.until("it is tried again", |world| world.member("c3").retries == 1);
    world.manner("c3", release(2), Manner::Well);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!((world.member("c3").step, world.newest().failures), (Step::Settled, 1));
    assert_eq!(world.on(release(2)).len(), 9);
    world.laws.must_hold();
}

#[test]
fn each_failed_attempt_counts_against_the_budget() {
    let mut world = with_retries(2, Share::Hosts(1));
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!((world.newest().failures, world.member("c3").retries), (2, 1));
    world.laws.must_hold();
}

#[test]
fn there_are_no_more_retries_than_the_policy_has() {
    let mut world = with_retries(1, Share::Hosts(5));
    assert_eq!(world.until_over(), Stage::Succeeded);
    let member = world.member("c3");
    assert_eq!((member.step, member.retries, world.newest().failures), (Step::Reverted, 1, 2));
    assert_eq!(member.lane, Lane::Rollout(world.newest().id));
    world.laws.must_hold();
}

#[test]
fn a_host_that_will_be_tried_again_says_so() {
    let mut world = with_retries(2, Share::Hosts(5));
    // Another one is at it for long: the end of the wave is not reached.
    world.manner("c2", release(2), Manner::Hangs);
    let waits = |world: &World| matches!(world.explain("c3"), WaitingOn::Retry { left: 2, .. });
    world.until("it waits for its next turn, or has had it", |world| {
        waits(world) || world.member("c3").retries > 0
    });
    assert!(waits(&world) || world.member("c3").retries > 0);
    world.until_over();
    world.laws.must_hold();
}
