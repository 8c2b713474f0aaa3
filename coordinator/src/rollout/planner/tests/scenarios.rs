//! Whole rollouts, by name.

use std::time::Duration;

use houston_common::id::HostId;
use houston_common::policy::{OnFailure, Share};
use houston_common::release::Release;
use houston_common::rollout::{Cause, Exception, Held, RolloutState, WaitingOn};

use super::host::Manner;
use super::world::{PROD, ROUND, SIDE, World, name, policy, release};
use crate::environment::member::{Lane, Step};
use crate::fleet::Hold;
use crate::rollout::Stage;

const ZONES: [(&str, u32); 3] = [("a", 3), ("b", 3), ("c", 3)];

fn nine() -> World {
    World::serving(&ZONES, policy())
}

/// Rounds until a number of hosts have run a release to its end.
fn until_settled(world: &mut World, count: usize, target: Release) {
    world.until("so many have settled", |world| {
        let settled = |host: &&String| world.member(host).settled == Some(target);
        world.on(target).iter().filter(settled).count() >= count
    });
}

#[test]
fn a_good_rollout_goes_one_box_then_zone_by_zone_with_bakes() {
    let mut world = nine();
    let began = world.now;
    world.start(release(2), false).expect("no rollout is active");
    let mut order: Vec<(String, Duration)> = Vec::new();
    for _ in 0..200 {
        for host in world.granted() {
            if order.iter().all(|(seen, _)| *seen != host) {
                order.push((host, world.now.since(began)));
            }
        }
        if world.active().is_none() {
            break;
        }
        world.round();
    }
    assert_eq!(world.newest().state(), RolloutState::Succeeded);
    assert_eq!(world.on(release(2)).len(), 9);
    assert_eq!(world.environment(PROD).definition.baked, release(2));
    let zones: String = order.iter().map(|(host, _)| &host[..1]).collect();
    assert_eq!(zones, "aaabbbccc");
    let pause = |i: usize| order[i].1 - order[i - 1].1;
    assert!(pause(1) >= policy().bake.one_box, "{order:?}");
    assert!(pause(3) >= policy().bake.first_zone, "{order:?}");
    assert!(pause(6) >= policy().bake.later_zones, "{order:?}");
    assert!(pause(2) < policy().bake.later_zones, "one batch follows another without a bake: {order:?}");
}

#[test]
fn a_bad_release_stops_at_one_box_and_is_taken_back() {
    let mut world = nine();
    for host in world.hosts.keys().cloned().collect::<Vec<_>>() {
        world.manner(host.as_str(), release(2), Manner::Fails);
    }
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::RolledBack);
    let rollout = world.newest();
    assert_eq!((rollout.failures, rollout.exceptions), (1, 0));
    assert!(matches!(rollout.cause, Some(Cause::FailureBudget { failures: 1, allowed: 0, .. })));
    assert_eq!(world.on(release(1)).len(), 9);
    assert_eq!(world.environment(PROD).definition.bad, [release(2)]);
    let moved = |host: &str| world.member(host).step == Step::Reverted;
    assert_eq!(world.hosts.keys().filter(|host| moved(host.as_str())).count(), 1);
}

#[test]
fn a_release_bad_in_one_zone_reaches_only_that_zones_first_batch() {
    let mut world = nine();
    for host in ["b1", "b2", "b3"] {
        world.manner(host, release(2), Manner::Fails);
    }
    world.start(release(2), false).expect("started");
    world.until("it turns", |world| world.active().is_none_or(|rollout| rollout.goes_back()));
    assert_eq!(world.until_over(), Stage::RolledBack);
    let failed = ["b1", "b2", "b3", "c1", "c2", "c3"];
    let failed: Vec<_> =
        failed.into_iter().filter(|host| world.member(host).step == Step::Reverted).collect();
    assert_eq!(failed.len(), 1, "one batch of zone b: {failed:?}");
    assert_eq!(world.on(release(1)).len(), 9);
}

#[test]
fn a_settled_host_that_turns_bad_in_the_bake_takes_back_moved_hosts_only() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 1, release(2));
    let one_box = world.on(release(2)).remove(0);
    world.sick(&one_box, true);
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(release(1)).len(), 9);
    let taken: Vec<_> = world.steps().into_iter().filter(|(_, (_, step))| *step == Step::TakenBack).collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
}

#[test]
fn after_the_first_batches_one_failure_is_within_the_budget() {
    let mut world = World::serving(&[("a", 6)], policy());
    world.start(release(2), false).expect("started");
    // One box, then batches of a third of the zone: the fifth to be granted is in a second batch.
    until_settled(&mut world, 3, release(2));
    let rest: Vec<String> = world.on(release(1));
    world.manner(&rest[0], release(2), Manner::Fails);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.newest().failures, 1);
    assert_eq!(world.on(release(2)).len(), 5);
}

#[test]
fn two_failures_are_above_the_budget() {
    let mut world = World::serving(&[("a", 9)], policy());
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 4, release(2));
    for host in world.on(release(1)) {
        world.manner(&host, release(2), Manner::Fails);
    }
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(release(1)).len(), 9);
    assert!(matches!(world.newest().cause, Some(Cause::FailureBudget { failures: 2, allowed: 1, .. })));
}

#[test]
fn a_lost_host_is_an_exception_by_name_and_catches_up_afterwards() {
    let mut world = nine();
    world.host("b2").cut_off = true;
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.member("b2").step, Step::Excepted(Exception::Silent));
    assert_eq!(world.newest().exceptions, 1);
    assert_eq!(world.on(release(2)).len(), 8);
    assert!(matches!(world.explain("b2"), WaitingOn::Silent { .. }), "{:?}", world.explain("b2"));
    world.host("b2").cut_off = false;
    world.until("it has caught up", |world| world.on(release(2)).len() == 9);
    world.rounds(2);
    assert_eq!(world.explain("b2"), WaitingOn::UpToDate);
    assert_eq!(world.member("b2").lane, Lane::Standing);
}

#[test]
fn a_host_silent_while_granted_fails_at_its_deadline() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("one is granted", |world| !world.granted().is_empty());
    let host = world.granted().remove(0);
    let granted_at = world.now;
    world.host(&host).cut_off = true;
    world.until("its grant ends", |world| world.granted().is_empty());
    let whole = policy().start_within + policy().apply_deadline;
    let took = world.now.since(granted_at);
    assert!(took + ROUND >= whole && took <= whole + ROUND, "{took:?} of {whole:?}");
    assert_eq!(world.newest().failures, 1);
    // It cannot be told to go back: the rollback ends with it named.
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.member(&host).step, Step::Excepted(Exception::LostAfterSettling));
}

#[test]
fn a_held_host_takes_no_change_and_is_named() {
    let mut world = nine();
    world.edit_host("a1", |host| host.held = Some(Hold::Clone));
    world.start(release(2), false).expect("started");
    assert_eq!(world.explain("a1"), WaitingOn::Held(Held::Clone));
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.member("a1").step, Step::Excepted(Exception::Held));
    assert_eq!(world.running("a1"), release(1));
    world.edit_host("a1", |host| host.held = None);
    world.until("it has caught up", |world| world.running("a1") == release(2));
}

#[test]
fn a_pause_stops_the_bake_and_no_deadline() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("it bakes", |world| world.newest().state() == RolloutState::Baking);
    world.rounds(2);
    world.pause();
    assert!(matches!(world.waiting()[..], [WaitingOn::Paused { .. }]));
    world.rounds(60);
    assert_eq!(world.on(release(2)).len(), 1);
    world.resume();
    world.rounds(1);
    assert!(world.waiting().iter().any(|waiting| matches!(waiting, WaitingOn::Bake { .. })));
    world.until("the next is granted", |world| !world.granted().is_empty());
    // The deadline of a granted host runs on while it is paused.
    let host = world.granted().remove(0);
    world.host(&host).cut_off = true;
    world.pause();
    world.until("it has failed", |world| world.granted().is_empty());
    assert_eq!(world.newest().failures, 1);
    assert_eq!(world.newest().state(), RolloutState::Paused);
    world.resume();
    assert_eq!(world.until_over(), Stage::RolledBack);
}

#[test]
fn superseding_needs_nobody_healthy_and_a_rollback_takes_inherited_hosts_back() {
    let mut world = nine();
    world.edit_policy(|policy| policy.on_failure = OnFailure::Halt);
    let first = world.start(release(2), false).expect("started");
    until_settled(&mut world, 1, release(2));
    let one_box = world.on(release(2)).remove(0);
    world.sick(&one_box, true);
    world.until("it halts", |world| world.newest().stage == Stage::Halted);
    assert_eq!(world.start(release(3), false), Err(first));
    world.manner(&one_box, release(3), Manner::Hangs);
    let second = world.start(release(3), true).expect("superseding");
    assert_eq!(world.state.rollout(first).expect("kept").stage, Stage::Superseded { by: second });
    until_settled(&mut world, 1, release(3));
    assert_ne!(world.on(release(3)), std::slice::from_ref(&one_box), "a healthy host is the one box");
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(release(1)).len(), 9);
    assert_eq!(world.member(&one_box).step, Step::TakenBack);
}

#[test]
fn a_first_deploy_is_taken_back_to_nothing() {
    let mut world = World::empty(&[("a", 2), ("b", 2)], policy());
    world.rounds(1);
    assert_eq!(world.explain("a1"), WaitingOn::NothingToRun);
    world.start(release(1), false).expect("started");
    until_settled(&mut world, 2, release(1));
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(Release::empty()).len(), 4);
    assert_eq!(world.environment(PROD).index().total().in_service, 0);
}

#[test]
fn a_first_deploy_reaches_everybody() {
    let mut world = World::empty(&[("a", 2), ("b", 2)], policy());
    world.rounds(1);
    world.start(release(1), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.environment(PROD).index().total().in_service, 4);
}

#[test]
fn a_rollback_that_fails_halts_and_asks_for_a_person() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 3, release(2));
    let stuck = world.on(release(2)).remove(0);
    world.manner(&stuck, release(1), Manner::FailsBack);
    world.roll_back();
    world.until("it halts", |world| world.newest().stage == Stage::Halted);
    let rollout = world.newest().clone();
    assert_eq!(rollout.cause, Some(Cause::RollbackFailed { host: name(&stuck) }));
    world.rounds(30);
    assert_eq!(world.newest().stage, Stage::Halted);
    assert!(world.granted().is_empty());
    // A fix supersedes it.
    world.start(release(3), true).expect("superseding");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(3)).len(), 9);
}

#[test]
fn a_rollout_that_succeeded_is_taken_back_by_a_new_one() {
    let mut world = nine();
    let done = world.start(release(2), false).expect("started");
    world.until_over();
    world.take_back(done);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(1)).len(), 9);
    assert_eq!(world.environment(PROD).definition.baked, release(1));
}

#[test]
fn a_host_in_two_environments_never_has_two_grants() {
    let mut world = nine().beside(&["a1", "a2", "a3"]);
    // Whatever `side` owes its hosts goes by the lane, at the same time as the rollout of `prod`.
    let members: Vec<_> = world.environment(SIDE).members().map(|live| live.member.host.clone()).collect();
    for host in &members {
        world.host(host.as_str()).places.get_mut(SIDE).expect("a place").running = Release::empty();
    }
    world.start(release(2), false).expect("started");
    let mut both_busy = 0;
    for _ in 0..200 {
        world.round();
        both_busy += u32::from(world.environment(SIDE).index().total().moving > 0);
        if world.active().is_none() {
            break;
        }
    }
    assert_eq!(world.newest().stage, Stage::Succeeded);
    assert!(both_busy > 0, "the lane has moved nobody meanwhile");
    world.until("the lane is done", |world| world.environment(SIDE).index().total().in_service == 3);
}

#[test]
fn a_host_that_joins_gets_the_baked_release_first_and_holds_nobody_up() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 1, release(2));
    world.join("a4", "a");
    world.join("d1", "d");
    world.round();
    assert_eq!(world.explain("d1"), WaitingOn::JoinedLater { rollout: world.newest().id });
    world.until("they serve", |world| world.running("a4") == release(1) && world.running("d1") == release(1));
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.until("they have caught up", |world| world.on(release(2)).len() == 11);
}

#[test]
fn a_granted_host_that_is_removed_is_a_failure_and_gives_its_slot_back_once() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 4, release(2));
    world.until("another moves", |world| !world.granted().is_empty());
    let host = world.granted().remove(0);
    world.remove(&host);
    world.remove(&host);
    assert_eq!(world.newest().failures, 1);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(2)).len(), 8);
}

#[test]
fn a_wiped_disk_gets_the_baked_release_again() {
    let mut world = nine();
    world.wipe("b1");
    world.until("it is back", |world| world.running("b1") == release(1));
    world.rounds(3);
    assert_eq!(world.environment(PROD).index().total().available, 9);
}

#[test]
fn a_disk_wiped_after_its_turn_is_an_exception_and_holds_nobody_up() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    until_settled(&mut world, 4, release(2));
    let host = world.on(release(2)).remove(0);
    world.wipe(&host);
    world.until("it is left out", |world| world.newest().exceptions == 1);
    assert_eq!(world.member(&host).step, Step::Excepted(Exception::LostAfterSettling));
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.until("it has caught up", |world| world.on(release(2)).len() == 9);
}

#[test]
fn a_drained_host_counts_as_away() {
    let mut world = World::serving(&[("a", 3)], policy());
    world.edit_host("a1", |host| host.drained = true);
    world.start(release(2), false).expect("started");
    // Of three hosts one may be away, and one is. The one box is a host that serves.
    world.rounds(60);
    assert_eq!(world.on(release(2)), Vec::<String>::new());
    assert!(
        world
            .waiting()
            .iter()
            .any(|waiting| matches!(waiting, WaitingOn::Floor { available: 2, floor: 2, .. })),
        "{:?}",
        world.waiting()
    );
    let waits = world.explain("a2");
    assert!(matches!(waits, WaitingOn::Floor { .. } | WaitingOn::Queue { .. }), "{waits:?}");
    world.edit_host("a1", |host| host.drained = false);
    assert_eq!(world.until_over(), Stage::Succeeded);
}

#[test]
fn a_floor_holds_while_hosts_are_unhealthy_and_those_move_first() {
    let mut world = nine();
    for host in ["a1", "b1", "c1"] {
        world.sick(host, true);
    }
    world.rounds(1);
    world.start(release(2), false).expect("started");
    // 9 × 66 % rounds up to 6: three are away, nobody who serves may move, the one box neither.
    world.rounds(40);
    assert_eq!(world.on(release(2)), Vec::<String>::new());
    assert!(world.waiting().iter().any(|waiting| matches!(waiting, WaitingOn::Floor { .. })));
    world.sick("c1", false);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(2)).len(), 9);
}

#[test]
fn a_zone_floor_holds_for_its_zone() {
    let mut policy = policy();
    policy.zone_floor = Some(Share::Percent(100));
    let mut world = World::serving(&ZONES, policy);
    world.start(release(2), false).expect("started");
    world.rounds(40);
    assert_eq!(world.on(release(2)), Vec::<String>::new());
    let floor =
        world.waiting().into_iter().find(|waiting| matches!(waiting, WaitingOn::Floor { zone: Some(_), .. }));
    assert!(floor.is_some(), "{:?}", world.waiting());
    // Allowing the outage is a new rollout under an edited policy.
    world.edit_policy(|policy| (policy.zone_floor, policy.fleet_floor) = (None, Share::Percent(0)));
    world.start(release(2), true).expect("superseding");
    assert_eq!(world.until_over(), Stage::Succeeded);
}

#[test]
fn a_host_that_cannot_prepare_is_an_exception() {
    let mut world = nine();
    world.manner("b3", release(2), Manner::PrepareFails);
    world.start(release(2), false).expect("started");
    world.until("it is left out", |world| world.newest().exceptions == 1);
    assert_eq!(world.member("b3").step, Step::Excepted(Exception::PrepareFailed));
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!((world.running("b3"), world.newest().exceptions), (release(1), 1));
    assert_eq!(world.on(release(2)).len(), 8);
}

#[test]
fn exceptions_above_the_lost_budget_halt() {
    let mut world = nine();
    for host in ["b1", "b2"] {
        world.manner(host, release(2), Manner::PrepareFails);
    }
    world.start(release(2), false).expect("started");
    world.until("it halts", |world| world.newest().stage == Stage::Halted);
    assert_eq!(world.newest().cause, Some(Cause::LostBudget { exceptions: 2, allowed: 1 }));
}

#[test]
fn a_void_grant_is_asked_for_again() {
    let mut world = nine();
    for host in ["a1", "a2", "a3", "c2"] {
        world.manner(host, release(2), Manner::VoidOnce);
    }
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!((world.newest().failures, world.on(release(2)).len()), (0, 9));
}

#[test]
fn a_host_that_was_down_before_and_stays_down_is_no_failure() {
    let mut world = nine();
    world.sick("b1", true);
    world.manner("b1", release(2), Manner::Fails);
    world.start(release(2), false).expect("started");
    let left_out = Step::Excepted(Exception::DownBefore);
    world.until("it is left out", |world| world.member("b1").step == left_out);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.newest().failures, 0);
}

#[test]
fn a_host_that_is_already_there_is_not_moved() {
    let mut world = nine();
    let first = world.start(release(2), false).expect("started");
    until_settled(&mut world, 2, release(2));
    world.abort();
    assert!(world.environment(PROD).definition.unresolved.contains(&first));
    let there = world.on(release(2));
    let told: Vec<_> = there.iter().map(|host| world.member(host).told).collect();
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(there.iter().map(|host| world.member(host).told).collect::<Vec<_>>(), told);
}

#[test]
fn a_host_that_leaves_the_selector_keeps_what_it_runs() {
    let mut world = nine().beside(&["a1", "b1"]);
    world.edit_host("b1", |host| host.labels.clear());
    let side = world.environment(SIDE);
    assert!(side.member(&name("b1")).expect("shown").member.detached);
    assert_eq!(side.index().total().in_service, 1);
    world.edit_host("b1", |host| drop(host.labels.insert(name("side"), name("yes"))));
    assert!(!world.environment(SIDE).member(&name("b1")).expect("shown").member.detached);
    world.rounds(2);
    assert_eq!(world.environment(SIDE).index().total().available, 2);
}

#[test]
fn a_host_that_comes_back_into_the_selector_meanwhile_joins_later() {
    let mut world = nine();
    for host in ["a1", "a2", "a3", "b1", "b2", "c1"] {
        world.edit_host(host, |host| drop(host.labels.insert(name("role"), name("web"))));
    }
    world.select("role", "web");
    assert!(world.member("b3").detached);
    world.start(release(2), false).expect("started");
    world.until("the last zone moves", |world| world.newest().current_wave() == 3);
    world.edit_host("b3", |host| drop(host.labels.insert(name("role"), name("web"))));
    assert!(matches!(world.explain("b3"), WaitingOn::JoinedLater { .. } | WaitingOn::UpToDate));
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.until("it has caught up", |world| world.running("b3") == release(2));
}

#[test]
fn a_lane_host_that_keeps_failing_is_left_alone() {
    let mut world = nine();
    world.manner("d1", release(1), Manner::Fails);
    world.join("d1", "d");
    world.rounds(60);
    assert_eq!(world.member("d1").failures, 3);
    assert!(matches!(world.explain("d1"), WaitingOn::Held(_)), "{:?}", world.explain("d1"));
    assert!(world.granted().is_empty());
}

#[test]
fn reports_that_come_late_or_twice_change_nothing() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    let mut again = 1;
    for _ in 0..80 {
        world.poll_all();
        for _ in 0..5 {
            again = (again * 7919 + 13) % 4001;
            let before = world.records.clone();
            world.say_again(again);
            assert_eq!(world.records, before);
        }
        world.wait(ROUND);
    }
    assert_eq!(world.newest().stage, Stage::Succeeded);
}

#[test]
fn a_store_that_went_back_in_time_grants_nothing() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.gates.regressed = true;
    world.rounds(20);
    assert_eq!(world.on(release(2)), Vec::<String>::new());
    assert_eq!(world.waiting(), [WaitingOn::Regressed]);
    assert_eq!(world.explain("a1"), WaitingOn::Regressed);
    world.gates.regressed = false;
    assert_eq!(world.until_over(), Stage::Succeeded);
}

/// A restart in the middle of anything loses no grant and gives none twice.
#[test]
fn a_restart_at_any_moment_changes_no_result() {
    for (bad, end) in [(None, Stage::Succeeded), (Some("b2"), Stage::RolledBack)] {
        for rounds in (0..60).step_by(3) {
            let mut world = nine();
            for host in ["b1", "b2", "b3"].into_iter().filter(|_| bad.is_some()) {
                world.manner(host, release(2), Manner::Fails);
            }
            world.start(release(2), false).expect("started");
            world.rounds(rounds);
            let (granted, stage) = (world.granted(), world.newest().stage.clone());
            let steps = world.steps();
            world.restart();
            assert_eq!((world.granted(), &world.newest().stage), (granted, &stage), "after {rounds} rounds");
            assert_eq!(world.steps(), steps, "after {rounds} rounds");
            let waits = world.explain("c1");
            assert!(matches!(waits, WaitingOn::NotHeardYet | WaitingOn::Granted { .. }), "{waits:?}");
            if world.active().is_some() {
                assert_eq!(world.until_over(), end, "after {rounds} rounds");
            }
            world.rounds(2);
            assert_eq!(world.on(if bad.is_some() { release(1) } else { release(2) }).len(), 9);
        }
    }
}

/// Nomad 12940: what was broken was not the release.
#[test]
fn untouched_hosts_that_turn_bad_meanwhile_are_told_as_evidence() {
    let mut world = nine();
    world.sick("c1", true);
    world.rounds(2);
    world.start(release(2), false).expect("started");
    world.until("a zone moves", |world| world.newest().current_wave() == 1 && !world.granted().is_empty());
    let host = world.on(release(2)).remove(0);
    for untouched in ["c2", "c3"] {
        world.sick(untouched, true);
    }
    world.poll_all();
    world.sick(&host, true);
    world.until("it goes back", |world| world.newest().goes_back() || world.newest().is_over());
    let mut told: Vec<&str> = world.newest().untouched_unwell.iter().map(HostId::as_str).collect();
    told.sort_unstable();
    assert_eq!(told, ["c2", "c3"], "c1 was unwell before");
}
