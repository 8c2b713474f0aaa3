//! What people are told of a rollout while it is on and once it is over.

use std::time::Duration;

use houston_common::id::Zone;
use houston_common::report::Phase;
use houston_common::rollout::{Away, Cause, WaitingOn};

use super::host::Manner;
use super::world::{PROD, ROUND, World, name, policy, release};
use crate::environment::member::Step;
use crate::rollout::Stage;
use crate::rollout::ending::Reached;
use crate::rollout::explain::{explain_environment, waiting};

fn nine() -> World {
    World::serving(&[("a", 3), ("b", 3), ("c", 3)], policy())
}

fn explained(world: &World) -> Vec<WaitingOn> {
    explain_environment(world.environment(PROD), &world.state.fleet, &world.gates, world.now)
}

fn granted(world: &mut World) -> String {
    world.until("one is granted", |world| !world.granted().is_empty());
    world.granted().remove(0)
}

#[test]
fn a_granted_host_that_falls_silent_is_named_before_its_deadline() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    let host = granted(&mut world);
    world.until("it is at it", |world| {
        world.environment(PROD).member(&name(&host)).and_then(|live| live.phase_of_grant()).is_some()
    });
    assert!(matches!(world.explain(&host), WaitingOn::Granted { quiet: None, .. }));
    world.host(&host).cut_off = true;
    world.rounds(6);
    let WaitingOn::Granted { quiet: Some(quiet), .. } = world.explain(&host) else {
        panic!("{:?}", world.explain(&host));
    };
    assert!(quiet.last_heard.is_some_and(|ago| ago >= 5 * ROUND), "{quiet:?}");
    assert!(quiet.phase.is_some(), "{quiet:?}");
    let reasons = waiting(world.environment(PROD), &world.state.fleet, &world.gates, world.now);
    let [WaitingOn::Batch { quiet: named, .. }] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert_eq!(named, &[quiet]);
    world.until("it has failed", |world| world.member(&host).step != Step::Granted);
    let failure = world.member(&host).failure.clone().expect("a failure");
    assert_ne!(failure.phase, Phase::Failed, "{failure:?}");
}

#[test]
fn what_a_rollout_came_to_stays_said_when_its_hosts_go_on() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("zone b is on", |world| world.active().is_some_and(|rollout| rollout.reached == 2));
    let bad = world.on(release(1)).into_iter().find(|host| host.starts_with('b')).expect("one in b");
    world.manner(&bad, release(2), Manner::Fails);
    assert_eq!(world.until_over(), Stage::RolledBack);
    let over = world.newest().clone();
    assert_eq!(over.reached, 2);
    let ending = over.ending.expect("it is over");
    assert_eq!((ending.hosts(), ending.updated()), (9, 0));
    let named: Vec<_> = ending.named.iter().map(|named| (named.host.as_str(), named.step)).collect();
    assert_eq!(named, [(bad.as_str(), Step::Reverted)]);
    assert!(ending.named[0].failure.as_ref().is_some_and(|failure| failure.log_tail.is_empty()));
}

#[test]
fn after_an_abort_the_hosts_on_the_other_release_are_counted() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("the one box bakes", |world| {
        world.active().is_some_and(|r| matches!(r.stage, Stage::Baking { .. }))
    });
    world.abort();
    let on = world.on(release(2));
    let [one_box] = on.as_slice() else { panic!("{on:?}") };
    let ending = world.newest().ending.clone().expect("it is over");
    assert_eq!(ending.zones[&name::<Zone>("a")], Reached { hosts: 3, updated: 1 });
    assert_eq!(world.environment(PROD).index().total().off_baked, 1);
    let stays = WaitingOn::OffBaked { hosts: vec![name(one_box)], more: 0 };
    assert_eq!(explained(&world), std::slice::from_ref(&stays));
    assert_eq!(world.explain(one_box), stays);
    world.remove(one_box);
    assert_eq!(explained(&world), []);
    assert_eq!(world.newest().ending.as_ref().map(|ending| ending.updated()), Some(1));
}

#[test]
fn whoever_has_to_catch_up_is_counted_and_is_silent_since_a_restart() {
    let mut world = nine();
    world.host("b2").cut_off = true;
    world.start(release(2), false).expect("started");
    assert_eq!(world.until_over(), Stage::Succeeded);
    let behind = WaitingOn::CatchUp { hosts: vec![name("b2")], more: 0, away: 1 };
    assert_eq!(explained(&world), [behind]);
    world.restart();
    assert_eq!(world.explain("b2"), WaitingOn::NotHeardYet);
    world.rounds(10);
    let waits = world.explain("b2");
    let WaitingOn::Silent { for_about, since_start: true } = waits else { panic!("{waits:?}") };
    assert!(for_about >= Duration::from_secs(90), "{for_about:?}");
}

#[test]
fn a_floor_says_of_each_host_why_it_is_away() {
    let mut world = World::serving(&[("a", 4)], policy());
    world.edit_host("a2", |host| host.drained = true);
    world.start(release(2), false).expect("started");
    world.restart();
    for _ in 0..20 {
        world.poll("a1");
        world.poll("a2");
    }
    let floor = world.waiting().into_iter().find(|waiting| matches!(waiting, WaitingOn::Floor { .. }));
    let Some(WaitingOn::Floor { unavailable, .. }) = floor else { panic!("{:?}", world.waiting()) };
    let away = [("a2", Away::Drained), ("a3", Away::NotHeardYet), ("a4", Away::NotHeardYet)];
    assert_eq!(unavailable, away.map(|(host, away)| (name(host), away)));
}

#[test]
fn the_first_cause_stays_beside_what_an_operator_says_later() {
    let mut world = nine();
    world.start(release(2), false).expect("started");
    world.until("zone a is on", |world| world.active().is_some_and(|rollout| rollout.reached == 1));
    let bad = world.on(release(1)).into_iter().find(|host| host.starts_with('a')).expect("one in a");
    world.manner(&bad, release(2), Manner::Fails);
    world.until("it goes back", |world| world.active().is_some_and(|rollout| rollout.goes_back()));
    let mut rollout = world.newest().clone();
    rollout.because(Cause::RollbackFailed { host: name(&bad) });
    rollout.because(Cause::Operator { name: "ann".to_owned(), reason: String::new() });
    assert!(matches!(rollout.cause, Some(Cause::Operator { .. })));
    assert!(matches!(rollout.first_cause, Some(Cause::FailureBudget { .. })));
}
