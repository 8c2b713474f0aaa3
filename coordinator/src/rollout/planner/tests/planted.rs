//! Bugs that are put in from outside, each shown to be caught by the law that guards against it.

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::policy::{OnFailure, Policy, Share};
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::Cause;

use super::host::Manner;
use super::world::{PROD, World, name, policy, release};
use crate::environment::index::{Class, Wellness};
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Fleet, Hold};
use crate::rollout::planner::{self, Change, GateValues, Grant, Plan, Turn};
use crate::rollout::{Rolling, Rollout, Stage};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// Floors see open grants, and not hosts that are unhealthy.
    CountOnlyDisrupted,
    /// A lost host's open grant is forgotten.
    DropLost,
    /// Time is read from a clock that has jumped.
    CutBake,
    /// A window that starts at the grant and not at the activation.
    WindowFromGrant,
    /// No failure reported is as good as all reported healthy.
    NoNewsIsGoodNews,
    /// The batch was computed before the halt.
    GrantAfterHalt,
    CheckThenInsert,
    LocalGenerations,
    RetryForward,
    RollBackEverybody,
    /// Where to go back to is looked up when it is needed.
    LookUpWayBack,
    RollBackWithoutFloors,
    RollBackTheRollback,
    LastWriterWins,
    StickyHealthy,
    PercentIsComplete,
    RaisePlanned,
    ReleaseTwice,
    SilentContinue,
    /// The time in the box is looked at by the standing lane alone.
    MoveBoxed,
    /// Whoever is left out is named, and moved all the same.
    MoveExcluded,
}

impl Planted {
    /// The planner, with the bug around it.
    pub(super) fn plan(
        planted: Option<Self>,
        environment: &Environment,
        fleet: &Fleet,
        gates: &GateValues,
        now: FleetTime,
    ) -> Plan {
        let Some(planted) = planted else { return planner::plan(environment, fleet, gates, now) };
        let now = if planted == Self::CutBake { now.plus(Duration::from_secs(45)) } else { now };
        let seen = planted.sees(environment, fleet);
        planted.spoils(planner::plan(&seen, fleet, gates, now), environment)
    }

    /// The environment as a buggy planner takes it to be.
    fn sees(self, environment: &Environment, fleet: &Fleet) -> Environment {
        let as_is = |_: &mut Member| {};
        let said = |_: &mut EnvironmentReport| {};
        let well = |report: &mut EnvironmentReport| report.health = healthy();
        let forget_lost = |member: &mut Member| {
            if fleet.get(&member.host).is_some_and(|entry| entry.contact.lost) {
                member.grant = None;
            }
        };
        let prove = |member: &mut Member| {
            if member.grant.take().is_some() {
                member.step = Step::Settled;
            }
        };
        let mut seen = match self {
            Self::CountOnlyDisrupted | Self::NoNewsIsGoodNews => copy(environment, fleet, &as_is, &well),
            Self::DropLost => copy(environment, fleet, &forget_lost, &said),
            Self::WindowFromGrant => copy(environment, fleet, &prove, &well),
            _ => copy(environment, fleet, &as_is, &said),
        };
        let today = seen.index().zones().map(|(zone, counts)| (zone.clone(), counts.in_service)).collect();
        let Some(rollout) = &mut seen.rollout else { return seen };
        match self {
            Self::GrantAfterHalt if rollout.stage == Stage::Halted => {
                rollout.stage = Stage::Rolling(Rolling::begin(1));
                (rollout.first_failure, rollout.failures) = (None, 0);
            }
            Self::RollBackWithoutFloors if rollout.goes_back() => {
                rollout.policy.fleet_floor = Share::Percent(0);
            }
            Self::RaisePlanned => rollout.planned = today,
            _ => {}
        }
        seen.recount_all(fleet);
        seen
    }

    /// The plan as a buggy planner makes it.
    fn spoils(self, mut plan: Plan, environment: &Environment) -> Plan {
        match self {
            Self::RetryForward => add_grants(&mut plan, environment, |rollout, member| {
                (member.step == Step::Reverted).then_some((rollout.target, false))
            }),
            Self::MoveBoxed => add_grants(&mut plan, environment, |rollout, member| {
                member.is_boxed().then_some((rollout.target, false))
            }),
            Self::MoveExcluded => add_grants(&mut plan, environment, |rollout, member| {
                rollout.excluded.contains(&member.host).then_some((rollout.target, false))
            }),
            Self::RollBackEverybody => add_grants(&mut plan, environment, |rollout, member| {
                let untouched = member.step == Step::Ready || member.step == Step::Waiting;
                (rollout.goes_back() && untouched).then_some((rollout.way_back, true))
            }),
            Self::LookUpWayBack => {
                for grant in &mut plan.grants {
                    let settled = environment.member(&grant.host).and_then(|live| live.member.settled);
                    grant.way_back = settled.filter(|it| *it != grant.release).unwrap_or(release(0));
                }
            }
            Self::RollBackTheRollback => {
                for change in &mut plan.changes {
                    if let Change::Turn(turn) = change
                        && let Turn::Halt(cause @ Cause::RollbackFailed { .. }) = turn
                    {
                        *turn = Turn::RollBack(cause.clone());
                    }
                }
            }
            Self::PercentIsComplete => {
                let updated = environment.index().count_all(Class::Updated(Wellness::Well));
                let enough = updated * 2 >= environment.index().total().hosts;
                if enough && environment.rollout.as_ref().is_some_and(|rollout| !rollout.goes_back()) {
                    plan.waiting.clear();
                    plan.changes = vec![Change::Turn(Turn::Succeed)];
                }
            }
            Self::SilentContinue => plan.waiting.clear(),
            _ => {}
        }
        plan
    }

    /// What the coordinator makes of a report, with the bug around it.
    pub(super) fn heard(planted: Option<Self>, live: &Live, report: EnvironmentReport) -> EnvironmentReport {
        let was_healthy =
            live.report.as_ref().is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
        match planted {
            Some(Self::StickyHealthy) if was_healthy => EnvironmentReport { health: healthy(), ..report },
            // Whatever comes is taken for an answer to what was told last.
            Some(Self::LastWriterWins) => {
                let mut report = report;
                if let (Some(stamp), Some(told)) = (report.stamp.as_mut(), live.member.told) {
                    stamp.generation = told.generation;
                }
                report
            }
            _ => report,
        }
    }
}

fn healthy() -> HealthReport {
    HealthReport::Healthy { for_at_least: Duration::from_secs(30), passes: 10 }
}

/// The environment as a buggy planner sees it.
fn copy(
    environment: &Environment,
    fleet: &Fleet,
    member: &dyn Fn(&mut Member),
    report: &dyn Fn(&mut EnvironmentReport),
) -> Environment {
    let mut copy = Environment::new(environment.definition.clone());
    copy.rollout = environment.rollout.clone();
    for live in environment.members() {
        let mut seen = live.member.clone();
        member(&mut seen);
        copy.put_member(seen, fleet);
        if let Some(mut said) = live.report.clone() {
            report(&mut said);
            copy.set_report(&live.member.host, said, fleet);
        }
    }
    copy
}

/// Grants for hosts that should have none.
fn add_grants(
    plan: &mut Plan,
    environment: &Environment,
    wanted: impl Fn(&Rollout, &Member) -> Option<(Release, bool)>,
) {
    let Some(rollout) = environment.rollout.as_ref().filter(|_| plan.changes.is_empty()) else { return };
    for live in environment.members() {
        let member = &live.member;
        if let Some((release, taking_back)) = wanted(rollout, member)
            && member.grant.is_none()
        {
            plan.grants.push(Grant {
                host: member.host.clone(),
                lane: Lane::Rollout(rollout.id),
                release,
                way_back: rollout.way_back,
                was_down: false,
                taking_back,
            });
        }
    }
}

/// A bug, the law that must catch it, and what happens meanwhile.
type Case = (Planted, &'static str, fn() -> World, fn(&mut World));

fn nine() -> World {
    World::serving(&[("a", 3), ("b", 3), ("c", 3)], policy())
}

fn with(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = policy();
    change(&mut policy);
    World::serving(&[("a", 3), ("b", 3), ("c", 3)], policy)
}

/// Batches of a whole zone, so that floors alone hold hosts back.
fn wide() -> World {
    with(|policy| {
        (policy.batch, policy.rollback_batch) = (Share::Percent(100), Share::Percent(100));
        policy.fleet_floor = Share::Percent(80);
    })
}

/// A zone in one batch, and much time for it.
fn unhurried() -> World {
    with(|policy| {
        (policy.batch, policy.apply_deadline) = (Share::Percent(100), Duration::from_secs(900));
    })
}

fn one_zone() -> World {
    World::serving(&[("a", 6)], policy())
}

fn without_floor() -> World {
    let policy = Policy { fleet_floor: Share::Percent(0), ..policy() };
    World::serving(&[("a", 6)], policy)
}

fn halting() -> World {
    with(|policy| policy.on_failure = OnFailure::Halt)
}

fn start(world: &mut World) {
    world.start(release(2), false).expect("no rollout is active");
}

fn rounds(world: &mut World, rounds: u32) {
    for _ in 0..rounds {
        if !world.laws.is_broken() {
            world.round();
        }
    }
}

fn all_manner(world: &mut World, manner: Manner) {
    for host in world.hosts.keys().map(ToString::to_string).collect::<Vec<_>>() {
        world.manner(&host, release(2), manner);
    }
}

const CASES: [Case; 21] = [
    (Planted::CountOnlyDisrupted, "E1", nine, |world| {
        for host in ["a1", "b1", "c1"] {
            world.sick(host, true);
        }
        world.round();
        start(world);
        rounds(world, 30);
    }),
    (Planted::DropLost, "E4", unhurried, |world| {
        start(world);
        world
            .until("a zone moves", |world| world.newest().current_wave() == 1 && !world.granted().is_empty());
        let host = world.granted().remove(0);
        world.host(&host).cut_off = true;
        // Its deadline is far; its zone is left meanwhile.
        rounds(world, 40);
    }),
    (Planted::CutBake, "E5", nine, |world| {
        start(world);
        rounds(world, 40);
    }),
    (Planted::WindowFromGrant, "E6", nine, |world| {
        all_manner(world, Manner::Hangs);
        start(world);
        rounds(world, 30);
    }),
    (Planted::NoNewsIsGoodNews, "E7", nine, |world| {
        start(world);
        world.until("it bakes", |world| {
            world.newest().current_wave() == 0
                && world.granted().is_empty()
                && world.on(release(2)).len() == 1
        });
        let one_box = world.on(release(2)).remove(0);
        // What it runs can no longer be probed.
        world.host(&one_box).places.get_mut(PROD).expect("a place").phase = Phase::Stopping;
        world.manner(&one_box, release(2), Manner::Hangs);
        rounds(world, 40);
    }),
    (Planted::GrantAfterHalt, "E8", halting, |world| {
        all_manner(world, Manner::Fails);
        start(world);
        rounds(world, 30);
    }),
    (Planted::CheckThenInsert, "E9", nine, |world| {
        start(world);
        let _ = world.start(release(3), false);
    }),
    (Planted::LocalGenerations, "E11", nine, |world| {
        start(world);
        rounds(world, 30);
    }),
    (Planted::RetryForward, "E13", one_zone, |world| {
        start(world);
        world.until("first batches are done", |world| world.on(release(2)).len() >= 4);
        let last = world.on(release(1)).pop().expect("one is left");
        world.manner(&last, release(2), Manner::Fails);
        rounds(world, 60);
    }),
    (Planted::RollBackEverybody, "E14", without_floor, |world| {
        start(world);
        rounds(world, 6);
        world.roll_back();
        rounds(world, 20);
    }),
    (Planted::LookUpWayBack, "E15", nine, |world| {
        world.edit_host("a1", |host| host.held = Some(Hold::Clone));
        start(world);
        rounds(world, 10);
        world.abort();
        let _ = world.start(release(3), false);
        rounds(world, 20);
    }),
    (Planted::RollBackWithoutFloors, "E16", wide, |world| {
        start(world);
        rounds(world, 40);
        world.roll_back();
        rounds(world, 20);
    }),
    (Planted::RollBackTheRollback, "E17", nine, |world| {
        start(world);
        rounds(world, 8);
        let one_box = world.on(release(2)).remove(0);
        world.manner(&one_box, release(1), Manner::FailsBack);
        world.roll_back();
        rounds(world, 20);
    }),
    (Planted::LastWriterWins, "E18", nine, |world| {
        start(world);
        world.until("one is granted", |world| !world.granted().is_empty());
        rounds(world, 1);
        let before = world.records.clone();
        world.say_again_all();
        if world.records != before {
            world.laws.broke("E18", "what was said before was taken for news");
        }
    }),
    (Planted::StickyHealthy, "E19", nine, |world| {
        start(world);
        world.until("one has settled", |world| world.on(release(2)).len() == 1 && world.granted().is_empty());
        let one_box = world.on(release(2)).remove(0);
        world.sick(&one_box, true);
        rounds(world, 40);
    }),
    (Planted::PercentIsComplete, "E20", nine, |world| {
        start(world);
        rounds(world, 120);
    }),
    (Planted::RaisePlanned, "E21", wide, |world| {
        start(world);
        for number in 1..=6 {
            world.join(&format!("d{number}"), "d");
        }
        rounds(world, 40);
    }),
    (Planted::ReleaseTwice, "E22", nine, |world| {
        start(world);
        world
            .until("a zone moves", |world| world.newest().current_wave() == 1 && !world.granted().is_empty());
        let host = world.granted().remove(0);
        world.remove(&host);
    }),
    (Planted::SilentContinue, "E28", nine, |world| {
        start(world);
        rounds(world, 10);
    }),
    (Planted::MoveBoxed, "scope", nine, |world| {
        world.manner("d1", release(1), Manner::Fails);
        world.join("d1", "d");
        rounds(world, 40);
        start(world);
        rounds(world, 10);
    }),
    (Planted::MoveExcluded, "scope", nine, |world| {
        world.exclude = [name("a1")].into();
        start(world);
        rounds(world, 10);
    }),
];

/// Plans that the production checker must refuse, by its own laws. What it is not asked about (reports,
/// records, reasons) is for the laws here alone.
const REFUSED: [(Planted, &str); 11] = [
    (Planted::CountOnlyDisrupted, "fleet-floor"),
    (Planted::DropLost, "one-zone"),
    (Planted::CutBake, "bake"),
    (Planted::GrantAfterHalt, "halt"),
    (Planted::RollBackEverybody, "untouched"),
    (Planted::RollBackWithoutFloors, "fleet-floor"),
    (Planted::PercentIsComplete, "bake"),
    (Planted::RaisePlanned, "fleet-floor"),
    (Planted::RetryForward, "attempts"),
    (Planted::MoveBoxed, "penalty-box"),
    (Planted::MoveExcluded, "excluded"),
];

#[test]
fn each_planted_bug_is_caught_by_its_law() {
    let mut missed = Vec::new();
    for (planted, law, make, happen) in CASES {
        // Without the bug the same events break no law: what is caught is the bug.
        happen(&mut make());
        let mut world = make();
        world.planted = Some(planted);
        happen(&mut world);
        let (broken, refused) = (world.laws.broken(), world.laws.refused_by_check());
        println!("{planted:?} → caught by {broken:?}; the checker names {refused:?}");
        if !broken.contains(law) {
            missed.push((planted, law));
        }
        let unrefused = REFUSED.iter().filter(|(bug, law)| *bug == planted && !refused.contains(law));
        missed.extend(unrefused.copied());
    }
    assert!(missed.is_empty(), "not caught by the law that guards against it: {missed:?}");
}
