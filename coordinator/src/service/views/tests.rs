use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::command::RolloutAction;
use houston_common::error::Code;
use houston_common::id::Generation;
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Exception, HostState, WaitingOn, Wave};
use houston_common::view::{Presence, WaveStatus};

use super::super::fixture::{World, name, newest, to};
use super::super::{environments, hosts, rollouts};
use super::rollout::host_state;
use crate::environment::member::{Grant, Lane, Step, Told};
use crate::rollout::{Rolling, Stage};

fn failure() -> Failure {
    Failure {
        code: Code::HookExit,
        phase: Phase::Starting,
        package: None,
        message: "exit 1".to_owned(),
        log_tail: "the last words".to_owned(),
    }
}

#[test]
fn an_environment_shows_its_zones_and_what_is_active() {
    let mut world = World::prod();
    let view = environments::get(&world.state, &name("prod")).expect("there");
    assert_eq!((view.baked.name, view.active), (name("v1"), None));
    let zones: Vec<_> = view
        .zones
        .iter()
        .map(|zone| (zone.zone.as_str(), zone.hosts, zone.in_service, zone.available))
        .collect();
    assert_eq!(zones, [("a", 2, 2, 2), ("b", 2, 2, 2), ("c", 2, 2, 2)]);
    let id = world.start(&to("v2")).expect("started");
    assert_eq!(environments::get(&world.state, &name("prod")).expect("there").active, Some(id));
}

#[test]
fn a_host_shows_what_it_runs_and_waits_for() {
    let mut world = World::prod();
    world.later(Duration::from_secs(5));
    let view = hosts::get(&world.state, &name("a1"), world.now).expect("there");
    assert_eq!((view.presence, view.last_seen_ago), (Presence::Seen, Some(Duration::from_secs(5))));
    let [environment] = view.environments.as_slice() else { panic!("{view:?}") };
    assert_eq!(environment.running.as_ref().map(|release| release.name.as_str()), Some("v1"));
    assert_eq!((&environment.waiting, environment.in_service), (&WaitingOn::UpToDate, true));
}

#[test]
fn only_one_hosts_view_has_the_log_tail() {
    let mut world = World::prod();
    world.edit_member("a1", |member| member.failure = Some(failure()));
    let entry = world.state.fleet.get(&name("a1")).expect("there");
    let tail =
        |view: houston_common::view::HostView| view.environments[0].failure.clone().expect("failed").log_tail;
    assert_eq!(tail(super::host(&world.state, entry, world.now)), "the last words");
    assert_eq!(tail(super::host_in_list(&world.state, entry, world.now)), "");
}

#[test]
fn a_rollout_shows_its_waves_and_whoever_is_not_well() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    let v2 = world.release("v2");
    world.edit_active(|rollout| rollout.stage = Stage::Rolling(Rolling::begin(1)));
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Settled;
        member.settled = Some(v2);
    });
    world.edit_member("a2", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Failed;
        member.failure = Some(failure());
    });
    world.edit_member("b1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Excepted(Exception::PrepareFailed);
    });
    let view = rollouts::get(&world.state, &newest(), 17, world.now).expect("there");
    assert_eq!((view.revision, view.hosts, view.updated, view.available, view.floor), (17, 6, 1, 6, 4));
    let waves: Vec<_> = view.waves.iter().map(|wave| (wave.status, wave.hosts, wave.settled)).collect();
    assert_eq!(
        waves,
        [
            (WaveStatus::Done, 1, 1),
            (WaveStatus::Current, 2, 1),
            (WaveStatus::ToCome, 2, 0),
            (WaveStatus::ToCome, 2, 0)
        ]
    );
    assert_eq!(view.waves[1].wave, Wave::Zone(name("a")));
    let notable: Vec<_> = view.notable.iter().map(|host| (host.host.as_str(), host.state)).collect();
    assert_eq!(notable, [("a2", HostState::Failed(Phase::Starting)), ("b1", HostState::Excepted)]);
    assert_eq!(view.exceptions, [(name("b1"), Exception::PrepareFailed)]);
    world.control(newest(), RolloutAction::Pause).expect("paused");
    let view = rollouts::get(&world.state, &newest(), 18, world.now).expect("there");
    assert_eq!(view.waiting, [WaitingOn::Paused { by: "alice".to_owned() }]);
}

#[test]
fn a_rollout_that_is_over_keeps_its_numbers_and_names() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    world.edit_active(|rollout| rollout.exceptions = 1);
    world.succeed("v2");
    world.edit_member("c2", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Excepted(Exception::Silent);
    });
    let view = rollouts::get(&world.state, &newest(), 1, world.now).expect("there");
    assert_eq!((view.updated, view.waiting.len()), (5, 0));
    assert!(view.waves.iter().all(|wave| wave.status == WaveStatus::Done));
    assert_eq!(view.exceptions, [(name("c2"), Exception::Silent)]);
}

#[test]
fn every_step_is_a_state_of_the_host() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    let told = Told {
        generation: Generation(5),
        terms: Some(houston_common::assignment::Terms {
            start_within: Duration::from_secs(30),
            apply_deadline: Duration::from_secs(600),
            health_window: Duration::from_secs(30),
        }),
        release: world.release("v2"),
        way_back: world.release("v1"),
    };
    let grant = |reverting| Grant {
        generation: Generation(5),
        was_down: false,
        reverting,
        deadline: FleetTime(u64::MAX),
    };
    let cases = [
        (Step::Waiting, None, HostState::Waiting),
        (Step::Preparing, None, HostState::Preparing),
        (Step::Ready, None, HostState::Ready),
        (Step::Granted, Some(false), HostState::Activating(Phase::Ready)),
        (Step::Granted, Some(true), HostState::Reverting),
        (Step::Settled, None, HostState::Settled),
        (Step::Reverted, None, HostState::Reverted),
        (Step::Failed, None, HostState::Failed(Phase::Failed)),
        (Step::TakenBack, None, HostState::TakenBack),
        (Step::Excepted(Exception::Held), None, HostState::Excepted),
    ];
    for (step, reverting, expected) in cases {
        world.edit_member("a1", |member| {
            member.lane = Lane::Rollout(id);
            member.step = step;
            member.told = Some(told);
            member.grant = reverting.map(grant);
        });
        let live = world.prod_environment().member(&name("a1")).expect("there");
        let entry = world.state.fleet.get(&name("a1")).expect("there");
        assert_eq!(host_state(world.active(), live, entry), expected, "{step:?}");
    }
    world.edit_member("a1", |member| member.joined = id);
    let live = world.prod_environment().member(&name("a1")).expect("there");
    let entry = world.state.fleet.get(&name("a1")).expect("there");
    assert_eq!(host_state(world.active(), live, entry), HostState::Outside);
}

#[test]
fn a_granted_host_is_where_its_last_report_has_it() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Granted;
        let deadline = FleetTime(u64::MAX);
        member.grant = Some(Grant { generation: Generation(5), was_down: false, reverting: false, deadline });
    });
    let host = name("a1");
    for (phase, generation, expected) in [
        (Phase::Starting, 5, HostState::Activating(Phase::Starting)),
        (Phase::Proving, 5, HostState::Proving),
        (Phase::Settled, 4, HostState::Activating(Phase::Ready)),
    ] {
        let stamp = world.state.stamp(&host, &name("prod"), Generation(generation));
        let mut report =
            world.prod_environment().member(&host).and_then(|live| live.report.clone()).expect("one");
        report.phase = phase;
        report.stamp = Some(stamp);
        let World { state, .. } = &mut world;
        state.environments.get_mut("prod").expect("prod").set_report(&host, report, &state.fleet);
        let live = world.prod_environment().member(&host).expect("there");
        let entry = world.state.fleet.get(&host).expect("there");
        assert_eq!(host_state(world.active(), live, entry), expected);
    }
}
