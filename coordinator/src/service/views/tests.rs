use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::command::{Explain, ListRollouts, RolloutAction, RolloutRef};
use houston_common::error::Code;
use houston_common::id::Generation;
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Cause, Exception, HostState, WaitingOn, Wave};
use houston_common::view::{Presence, RolloutView, WaveStatus};

use super::super::fixture::{World, name, newest, to};
use super::super::{environments, hosts, rollouts};
use super::rollout::host_state;
use crate::environment::member::{Grant, Lane, Step, Told};
use crate::rollout::{Rolling, Stage};
use crate::state::Edit;

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
    assert_eq!(view.waves[1].wave, Wave::Zones(vec![name("a")]));
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
    let v2 = world.release("v2");
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Settled;
        member.settled = Some(v2);
    });
    world.edit_member("c2", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Excepted(Exception::PrepareFailed);
        member.failure = Some(failure());
    });
    world.edit_active(|rollout| rollout.reached = 1);
    world.control(newest(), RolloutAction::Abort).expect("aborted");
    let look = |world: &World| rollouts::get(&world.state, &RolloutRef::Id(id), 1, world.now).expect("there");
    let view = look(&world);
    assert_eq!((view.hosts, view.updated, view.waiting.len()), (6, 1, 0));
    let zones = |view: &RolloutView| -> Vec<_> { view.zones.iter().map(|z| (z.hosts, z.updated)).collect() };
    assert_eq!(zones(&view), [(2, 1), (2, 0), (2, 0)]);
    assert_eq!(view.exceptions, [(name("c2"), Exception::PrepareFailed)]);
    assert_eq!(
        view.notable[0].failure.as_ref().map(|failure| failure.log_tail.as_str()),
        Some("the last words")
    );
    let statuses: Vec<_> = view.waves.iter().map(|wave| wave.status).collect();
    assert_eq!(statuses, [WaveStatus::Done, WaveStatus::Stopped, WaveStatus::ToCome, WaveStatus::ToCome]);
    let summary = |world: &World| {
        let all = ListRollouts { environment: None, limit: 9 };
        let rollouts = rollouts::list(&world.state, &all).expect("a list");
        rollouts.into_iter().find(|summary| summary.id == id).map(|one| (one.hosts, one.updated))
    };
    assert_eq!(summary(&world), Some((6, 1)));
    // Its hosts go on to another one, and the exception goes away.
    world.start(&to("v1")).expect("started");
    world.succeed("v1");
    world.state.apply(Edit::ForgetMember(name("prod"), name("c2")), world.now);
    world.state.apply(Edit::ForgetHost(name("c2")), world.now);
    let later = look(&world);
    assert_eq!((later.hosts, later.updated, zones(&later)), (6, 1, zones(&view)));
    assert_eq!(later.exceptions, view.exceptions);
    assert_eq!(later.notable[0].failure.as_ref().map(|failure| failure.log_tail.as_str()), Some(""));
    assert_eq!(summary(&world), Some((6, 1)));
}

#[test]
fn an_environment_counts_who_is_not_on_its_release() {
    let mut world = World::prod();
    let v2 = world.release("v2");
    world.edit_member("b1", |member| member.settled = Some(v2));
    let view = environments::get(&world.state, &name("prod")).expect("there");
    let others: Vec<_> = view.zones.iter().map(|zone| (zone.zone.as_str(), zone.off_baked)).collect();
    assert_eq!(others, [("a", 0), ("b", 1), ("c", 0)]);
}

#[test]
fn a_halted_rollout_says_the_same_of_its_host_and_of_itself() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    let cause = Cause::RollbackFailed { host: name("a1") };
    world.edit_active(|rollout| {
        rollout.stage = Stage::Halted;
        rollout.failures = 2;
        rollout.cause = Some(cause.clone());
    });
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Failed;
        member.failure = Some(failure());
    });
    let explain = |world: &World, host: Option<&str>| {
        let request = Explain { environment: name("prod"), host: host.map(name) };
        rollouts::explain(&world.state, &request, world.now).expect("explained")
    };
    let halted = WaitingOn::Halted { cause };
    assert_eq!(explain(&world, None), std::slice::from_ref(&halted));
    assert_eq!(explain(&world, Some("a1")), [halted]);
    let refusal = world.start(&to("v1")).expect_err("halted").to_string();
    assert!(
        refusal.contains("houston rollout rollback prod") && !refusal.contains("rollout wait"),
        "{refusal}"
    );
    // Beside what else holds it.
    let mut host = world.state.fleet.get(&name("b1")).expect("there").host.clone();
    host.drained = true;
    world.state.apply(Edit::Host(host), world.now);
    let reasons = explain(&world, Some("b1"));
    assert!(matches!(reasons.as_slice(), [WaitingOn::Halted { .. }, WaitingOn::Drained]), "{reasons:?}");
}

#[test]
fn a_host_that_could_not_be_prepared_is_explained_with_its_code() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    let exception = Exception::PrepareFailed;
    world.edit_member("a1", |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Excepted(exception);
        member.failure = Some(failure());
    });
    let view = hosts::get(&world.state, &name("a1"), world.now).expect("there");
    let expected = WaitingOn::Excepted { exception, rollout: id, code: Some(Code::HookExit) };
    assert_eq!(view.environments[0].waiting, expected);
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
