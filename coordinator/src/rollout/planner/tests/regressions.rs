//! What once went wrong, found by the properties or on the way to them, each by its name.

use std::time::Duration;

use houston_common::policy::{OnFailure, Policy, Share};
use houston_common::release::Release;
use houston_common::rollout::{Cause, Exception, WaitingOn};

use super::host::Manner;
use super::world::{PROD, SIDE, World, policy, release};
use crate::environment::member::Step;
use crate::fleet::Hold;
use crate::rollout::Stage;

fn nine() -> World {
    World::serving(&[("a", 3), ("b", 3), ("c", 3)], policy())
}

/// The host heard of its grant after the deadline, and began.
#[test]
fn a_grant_that_has_ended_is_told_to_nobody() {
    let mut world = nine();
    world.edit_policy(|policy| policy.on_failure = OnFailure::Halt);
    world.start(release(2), false).expect("started");
    world.until("one is granted", |world| !world.granted().is_empty());
    let host = world.granted().remove(0);
    world.host(&host).cut_off = true;
    world.until("its grant ends", |world| world.granted().is_empty());
    world.host(&host).cut_off = false;
    world.rounds(20);
    assert_eq!(world.on(release(2)), Vec::<String>::new());
}

/// It had begun a bad release and could not say so; with its record the failure was forgotten, and another
/// host was given the release.
#[test]
fn a_one_box_that_is_removed_before_it_has_answered_is_a_failure() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("one is granted", |world| !world.granted().is_empty());
    let host = world.granted().remove(0);
    world.remove(&host);
    assert_eq!(world.until_over(), Stage::RolledBack);
    let cause = world.newest().cause.clone();
    assert!(
        matches!(&cause, Some(Cause::FailureBudget { host: named, .. }) if named.as_str() == host),
        "{cause:?}"
    );
    assert_eq!(world.on(release(1)).len(), 8);
}

/// Everybody else ran the target already, and the rollout waited for the lost one for ever.
#[test]
fn the_last_host_of_all_is_lost_and_holds_nobody_up() {
    let mut world = nine();
    world.host("c3").cut_off = true;
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.start(release(2), false).expect("started again");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.member("c3").step, Step::Excepted(Exception::Silent));
}

/// Hosts that had missed a change waited in one line, and the first of them for the floor of its zone.
#[test]
fn the_floor_of_one_zone_holds_up_no_catch_up_in_another() {
    let mut world = nine();
    world.edit_policy(|policy| policy.lost_budget = Share::Percent(100));
    world.host("a3").cut_off = true;
    world.host("b3").cut_off = true;
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.edit_policy(|policy| {
        (policy.fleet_floor, policy.zone_floor) = (Share::Hosts(0), Some(Share::Percent(66)));
    });
    world.sick("a1", true);
    world.host("a3").cut_off = false;
    world.host("b3").cut_off = false;
    world.until("b3 has caught up", |world| world.running("b3") == release(2));
    assert_eq!(world.running("a3"), release(1));
}

/// It was taken for done: the slot was given back, and the rollback ended without it.
#[test]
fn a_void_grant_of_the_way_back_is_asked_for_again() {
    let mut world = nine();
    let done = world.start(release(2), false).expect("started");
    world.until_over();
    world.manner("b2", release(1), Manner::VoidOnce);
    world.take_back(done);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(1)).len(), 9);
}

/// The planner granted it, the checker refused the plan, and the rollback halted.
#[test]
fn a_held_host_is_left_out_of_a_rollback_by_name() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("three have it", |world| world.on(release(2)).len() == 3 && world.granted().is_empty());
    let host = world.on(release(2)).remove(0);
    world.edit_host(&host, |host| host.held = Some(Hold::Clone));
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.member(&host).step, Step::Excepted(Exception::Held));
    assert_eq!(world.on(release(2)), std::slice::from_ref(&host));
    world.edit_host(&host, |host| host.held = None);
    world.until("it has caught up", |world| world.on(release(1)).len() == 9);
}

/// It was taken for updated by what it had settled on once, and the rollout succeeded without it.
#[test]
fn what_a_host_runs_is_what_it_measures() {
    let mut world = World::serving(&[("a", 1), ("b", 2)], policy());
    world.start(release(3), false).expect("started");
    world.rounds(4);
    let one_box = world.on(release(3)).remove(0);
    world.sick(&one_box, true);
    world.round();
    // The take-back is granted, and the host is silent past its deadline; then it ends well.
    world.wait(Duration::from_secs(89));
    world.round();
    world.wait(Duration::from_secs(91));
    world.until("the rollback is over", |world| world.active().is_none());
    world.start(release(3), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    world.rounds(20);
    assert_eq!(world.on(release(3)).len(), 3);
}

/// Its grant ran out while it fetched what it was thought to have.
#[test]
fn a_disk_wiped_after_it_was_prepared_is_prepared_again() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("b1 is ready", |world| world.member("b1").step == Step::Ready);
    world.wipe("b1");
    world.poll("b1");
    assert_eq!(world.member("b1").step, Step::Preparing);
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!((world.newest().failures, world.on(release(2)).len()), (0, 9));
}

/// It waited for a host to prepare that had been told nothing.
#[test]
fn a_disk_wiped_after_a_void_grant_is_prepared_again() {
    let mut world = World::serving(&[("a", 1)], without_floor());
    world.manner("a1", release(2), Manner::VoidOnce);
    world.start(release(2), false).expect("started");
    world.rounds(2);
    world.pause();
    world.round();
    world.wipe("a1");
    world.round();
    world.resume();
    assert_eq!(world.until_over(), Stage::Succeeded);
}

/// A budget of nothing, where nothing was in service, held everybody who came into service later.
#[test]
fn hosts_that_settle_on_a_superseded_first_release_can_still_move() {
    let mut world = World::empty(&[("a", 3), ("b", 2)], without_floor());
    world.rounds(1);
    world.start(release(1), false).expect("started");
    world.until("one is granted", |world| !world.granted().is_empty());
    world.start(release(2), true).expect("superseding");
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.on(release(2)).len(), 5);
}

/// "Nothing to run" was the reason given, and then it was granted.
#[test]
fn a_new_host_waits_for_the_end_of_a_rollback() {
    let mut world = nine();
    world.join("d1", "d");
    world.start(release(2), false).expect("started");
    world.until("one has it", |world| world.on(release(2)).len() == 1 && world.granted().is_empty());
    world.roll_back();
    let id = world.newest().id;
    assert_eq!(world.explain("d1"), WaitingOn::JoinedLater { rollout: id });
    assert_eq!(world.until_over(), Stage::RolledBack);
    world.until("it serves", |world| world.running("d1") == release(1));
}

/// The record of a member that its host had left came back as a member without a host.
#[test]
fn a_member_does_not_outlive_its_host() {
    let mut world = nine().beside(&["a1"]);
    world.edit_host("a1", |host| host.labels.clear());
    world.wipe("a1");
    world.round();
    world.restart();
    world.remove("a1");
    world.restart();
    assert!(world.environment(SIDE).members().next().is_none());
}

/// A release that no host has ever run must not become the baked one.
#[test]
fn a_rollout_without_a_host_left_waits_for_a_person() {
    let mut world = World::serving(&[("a", 2)], policy());
    world.start(release(2), false).expect("started");
    world.remove("a1");
    world.remove("a2");
    world.rounds(30);
    assert_eq!(world.waiting(), [WaitingOn::NothingToRun]);
    assert_eq!(world.environment(PROD).definition.baked, release(1));
    world.abort();
    assert!(world.active().is_none());
}

/// One that was prepared by the second rollout, and runs the first's release, was not taken back.
#[test]
fn a_host_prepared_by_the_next_rollout_still_has_the_last_one_to_be_taken_back() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("one has it", |world| world.on(release(2)).len() == 1 && world.granted().is_empty());
    let host = world.on(release(2)).remove(0);
    world.start(release(3), true).expect("superseding");
    world.until("it is prepared", |world| world.member(&host).step == Step::Ready);
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.on(release(1)).len(), 9);
}

/// The lane forgot what it owed as soon as it had begun to prepare.
#[test]
fn an_aborted_rollouts_hosts_stay_and_the_others_catch_up() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("one has it", |world| world.on(release(2)).len() == 1 && world.granted().is_empty());
    world.abort();
    world.wipe("c3");
    world.rounds(20);
    assert_eq!((world.on(release(2)).len(), world.on(release(1)).len()), (1, 8));
    assert_eq!(world.on(Release::empty()), Vec::<String>::new());
}

/// It had not said a word about its ended grant, was taken to be down, and so cost nothing to move.
#[test]
fn a_host_that_may_serve_costs_what_one_that_serves_does() {
    let policy = Policy { fleet_floor: Share::Percent(34), on_failure: OnFailure::Halt, ..policy() };
    let mut world = World::serving(&[("a", 1), ("b", 2)], policy);
    world.start(release(2), false).expect("started");
    world.rounds(2);
    let host = world.granted().remove(0);
    // Everybody is silent until its deadline is over; then it alone is heard of.
    world.wait(Duration::from_secs(190));
    world.poll(&host);
    world.roll_back();
    assert!(world.granted().is_empty());
    world.until("the rollback is over", |world| world.active().is_none());
    assert_eq!(world.on(release(1)).len(), 3);
}

/// It held the rollout, with a reason and without an end.
#[test]
fn a_host_that_does_not_know_whether_it_is_well_fails_in_time() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("one has it", |world| world.on(release(2)).len() == 1 && world.granted().is_empty());
    let host = world.on(release(2)).remove(0);
    world.dazed(&host, true);
    world.rounds(3);
    assert!(matches!(&world.waiting()[..], [.., WaitingOn::Health { .. }]), "{:?}", world.waiting());
    world.dazed(&host, false);
    world.rounds(3);
    assert_eq!(world.member(&host).answer_by, None, "it knows again");
    world.dazed(&host, true);
    world.until("it is taken back", |world| world.newest().stage == Stage::RollingBack);
    world.dazed(&host, false);
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.newest().failures, 1);
}

/// Only a disk with nothing on it was noticed.
#[test]
fn a_host_with_an_old_image_has_left_the_service_and_is_brought_back() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("three have it", |world| world.on(release(2)).len() == 3 && world.granted().is_empty());
    world.reimage("a2", release(7));
    assert_eq!(world.until_over(), Stage::Succeeded);
    assert_eq!(world.newest().exceptions, 1);
    world.until("it has caught up", |world| world.running("a2") == release(2));
}

/// Hosts that joined made the batches of the running rollout larger.
#[test]
fn hosts_that_join_make_no_batch_larger() {
    let policy = Policy { batch: Share::Percent(50), fleet_floor: Share::Percent(0), ..policy() };
    let mut world = World::serving(&[("a", 1), ("b", 4)], policy);
    world.start(release(2), false).expect("started");
    world.until("zone a is done", |world| world.newest().current_wave() == 1);
    for number in 5..13 {
        world.join(&format!("b{number}"), "b");
    }
    world.until("they serve", |world| world.environment(PROD).index().total().in_service == 13);
    let mut most = 0;
    for _ in 0..200 {
        if world.newest().current_wave() == 2 {
            most = most.max(world.granted().len());
        }
        if world.active().is_none() {
            break;
        }
        world.round();
    }
    assert_eq!((world.newest().stage.clone(), most), (Stage::Succeeded, 2));
}

/// It had been told to prepare what was then taken back, could not, and stopped the rollback for that.
#[test]
fn a_host_that_cannot_prepare_what_is_taken_back_holds_nobody_up() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.round();
    let Stage::Rolling(rolling) = &world.newest().stage else { panic!("it rolls") };
    let one_box = rolling.one_box.as_ref().expect("chosen").to_string();
    let other = ["a1", "a2", "a3"].into_iter().find(|host| *host != one_box).expect("another of zone a");
    world.manner(other, release(2), Manner::PrepareFails);
    world.host(other).cut_off = true;
    world.until("the one box has it", |world| world.on(release(2)) == [one_box.clone()]);
    assert_eq!(world.member(other).step, Step::Preparing);
    world.host(other).cut_off = false;
    world.roll_back();
    assert_eq!(world.until_over(), Stage::RolledBack);
    assert_eq!(world.member(other).step, Step::Waiting);
    assert_eq!(world.on(release(1)).len(), 9);
}

fn without_floor() -> Policy {
    Policy { fleet_floor: Share::Percent(0), ..policy() }
}
