//! Bugs that are put in from outside, each shown to be caught by the law that guards against it.

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::Cause;

use super::host::Manner;
use super::world::{PROD, World, policy, release};
use crate::environment::index::{Class, Reach};
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};
use crate::fleet::Fleet;
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
        let honest = || planner::plan(environment, fleet, gates, now);
        let seen = |see: &dyn Fn(&mut Environment)| {
            let mut seen = copy(environment, fleet, &|_| {}, &|_, _| {});
            see(&mut seen);
            seen.recount_all(fleet);
            planner::plan(&seen, fleet, gates, now)
        };
        match planted {
            Some(Self::CountOnlyDisrupted | Self::NoNewsIsGoodNews) => {
                let seen = copy(environment, fleet, &|_| {}, &|_, report| report.health = healthy());
                planner::plan(&seen, fleet, gates, now)
            }
            Some(Self::DropLost) => {
                let lost = |member: &mut Member| {
                    if fleet.get(&member.host).is_some_and(|entry| entry.contact.lost) {
                        member.grant = None;
                    }
                };
                planner::plan(&copy(environment, fleet, &lost, &|_, _| {}), fleet, gates, now)
            }
            Some(Self::CutBake) => {
                planner::plan(environment, fleet, gates, now.plus(Duration::from_secs(45)))
            }
            Some(Self::WindowFromGrant) => {
                let proven = |member: &mut Member| {
                    if member.grant.take().is_some() {
                        member.step = Step::Settled;
                    }
                };
                let well = |_: &Live, report: &mut EnvironmentReport| report.health = healthy();
                planner::plan(&copy(environment, fleet, &proven, &well), fleet, gates, now)
            }
            Some(Self::GrantAfterHalt) => seen(&|environment| {
                if let Some(rollout) = environment.rollout.as_mut().filter(|it| it.stage == Stage::Halted) {
                    rollout.stage = Stage::Rolling(Rolling::begin(1));
                    (rollout.first_failure, rollout.failures) = (None, 0);
                }
            }),
            Some(Self::RollBackWithoutFloors) => seen(&|environment| {
                if let Some(rollout) = environment.rollout.as_mut().filter(|it| it.goes_back()) {
                    rollout.policy.fleet_floor = houston_common::policy::Share::Percent(0);
                }
            }),
            Some(Self::RaisePlanned) => seen(&|environment| {
                let today = environment.index().zones().map(|(zone, counts)| (zone.clone(), counts.in_service));
                let today = today.collect();
                if let Some(rollout) = &mut environment.rollout {
                    rollout.planned = today;
                }
            }),
            Some(Self::RetryForward) => {
                add_grants(honest(), environment, |rollout, member| {
                    (member.step == Step::Reverted).then_some((rollout.target, false))
                })
            }
            Some(Self::RollBackEverybody) => add_grants(honest(), environment, |rollout, member| {
                let untouched = member.step == Step::Ready || member.step == Step::Waiting;
                (rollout.goes_back() && untouched).then_some((rollout.way_back, true))
            }),
            Some(Self::LookUpWayBack) => {
                let mut plan = honest();
                for grant in &mut plan.grants {
                    grant.way_back = environment.member(&grant.host).map_or(grant.way_back, |live| {
                        live.member.settled.filter(|settled| *settled != grant.release).unwrap_or(release(0))
                    });
                }
                plan
            }
            Some(Self::RollBackTheRollback) => {
                let mut plan = honest();
                for change in &mut plan.changes {
                    if let Change::Turn(turn) = change
                        && let Turn::Halt(cause @ Cause::RollbackFailed { .. }) = turn
                    {
                        *turn = Turn::RollBack(cause.clone());
                    }
                }
                plan
            }
            Some(Self::PercentIsComplete) => {
                let mut plan = honest();
                let updated = environment.index().count_all(Class::Updated(crate::environment::index::Wellness::Well));
                let baking = |rollout: &Rollout| matches!(rollout.stage, Stage::Baking { wave, .. } if wave + 1 == rollout.waves());
                if environment.rollout.as_ref().is_some_and(baking) && updated * 10 >= environment.index().total().hosts * 5 {
                    plan.waiting.clear();
                    plan.changes = vec![Change::Turn(Turn::Succeed)];
                }
                plan
            }
            Some(Self::SilentContinue) => Plan { waiting: Vec::new(), ..honest() },
            Some(
                Self::CheckThenInsert
                | Self::LocalGenerations
                | Self::LastWriterWins
                | Self::StickyHealthy
                | Self::ReleaseTwice,
            )
            | None => honest(),
        }
    }

    /// What the coordinator makes of a report, with the bug around it.
    pub(super) fn heard(planted: Option<Self>, live: &Live, report: EnvironmentReport) -> EnvironmentReport {
        let was_healthy = live
            .report
            .as_ref()
            .is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
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
    HealthReport::Healthy { for_at_least: Duration::from_secs(30) }
}

/// The environment as a buggy planner sees it.
fn copy(
    environment: &Environment,
    fleet: &Fleet,
    member: &dyn Fn(&mut Member),
    report: &dyn Fn(&Live, &mut EnvironmentReport),
) -> Environment {
    let mut copy = Environment::new(environment.definition.clone());
    copy.rollout = environment.rollout.clone();
    for live in environment.members() {
        let mut seen = live.member.clone();
        member(&mut seen);
        copy.put_member(seen, fleet);
        if let Some(mut said) = live.report.clone() {
            report(live, &mut said);
            copy.set_report(&live.member.host, said, fleet);
        }
    }
    copy
}

/// Grants for hosts that should have none.
fn add_grants(
    mut plan: Plan,
    environment: &Environment,
    wanted: impl Fn(&Rollout, &Member) -> Option<(houston_common::release::Release, bool)>,
) -> Plan {
    let Some(rollout) = environment.rollout.as_ref().filter(|_| plan.changes.is_empty()) else { return plan };
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
    plan
}
