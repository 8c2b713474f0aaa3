//! Planners and folds with a bug in them.

use houston_common::clock::FleetTime;
use houston_common::id::RolloutId;
use houston_common::policy::Share;
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::{Exception, WaitingOn};
use houston_coordinator::environment::Environment;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::fleet::Fleet;
use houston_coordinator::rollout::fold::{self, Folded};
use houston_coordinator::rollout::planner::{self, Change, GateValues, Plan, Turn};
use houston_coordinator::rollout::{Rolling, Rollout, Stage};

use super::{BEFORE_HALT, WALL};

/// A member as the bug sees it.
pub(super) struct Seen {
    member: Member,
    report: Option<EnvironmentReport>,
    is_lost: bool,
}

/// The environment as the bug sees it.
pub(super) fn seen(
    environment: &Environment,
    fleet: &Fleet,
    rollout: impl FnOnce(&mut Rollout),
    member: impl Fn(&mut Seen),
) -> Environment {
    let mut seen = Environment::new(environment.definition.clone());
    seen.rollout = environment.rollout.clone();
    if let Some(active) = seen.rollout.as_mut() {
        rollout(active);
    }
    for live in environment.members() {
        let host = live.member.host.clone();
        let is_lost = fleet.get(&host).is_some_and(|entry| entry.contact.lost);
        let mut of = Seen { member: live.member.clone(), report: live.report.clone(), is_lost };
        member(&mut of);
        seen.put_member(of.member, fleet);
        if let Some(report) = of.report {
            seen.set_report(&host, report, fleet);
        }
    }
    seen
}

fn as_it_is(_: &mut Rollout) {}

fn make_healthy(seen: &mut Seen) {
    if let Some(report) = seen.report.as_mut() {
        report.health = HealthReport::Healthy { for_at_least: std::time::Duration::ZERO, passes: 0 };
    }
}

fn active(environment: &Environment) -> Option<RolloutId> {
    environment.rollout.as_ref().map(|rollout| rollout.id)
}

pub(super) fn count_only_disrupted(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    planner::plan(&seen(environment, fleet, as_it_is, make_healthy), fleet, gates, now)
}

pub(super) fn reset_counters(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let own = active(environment);
    let seen = seen(environment, fleet, as_it_is, |seen| {
        let is_own = own.is_some_and(|own| seen.member.lane == Lane::Rollout(own));
        let is_open = seen.member.grant.is_some_and(|grant| grant.deadline > now);
        if is_open && !is_own {
            seen.member.grant = None;
            make_healthy(seen);
        }
    });
    planner::plan(&seen, fleet, gates, now)
}

fn without_floors(rollout: &mut Rollout) {
    rollout.policy.fleet_floor = Share::Hosts(0);
    rollout.policy.zone_floor = None;
}

pub(super) fn grant_over_budget(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    planner::plan(&seen(environment, fleet, without_floors, |_| {}), fleet, gates, now)
}

pub(super) fn drop_lost(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let seen = seen(environment, fleet, as_it_is, |seen| {
        if seen.is_lost && seen.member.grant.take().is_some() {
            seen.member.step = Step::Excepted(Exception::Silent);
        }
    });
    planner::plan(&seen, fleet, gates, now)
}

pub(super) fn wall_clock_bake(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let by_wall = |rollout: &mut Rollout| {
        if let Stage::Baking { since, .. } = &mut rollout.stage {
            // The wall may have jumped ahead since; what it shows stands for what has gone by.
            let jump = WALL.get().saturating_sub(1_700_000_000_000 + 100_000_000);
            since.0 = since.0.saturating_sub(jump);
        }
    };
    planner::plan(&seen(environment, fleet, by_wall, |_| {}), fleet, gates, now)
}

pub(super) fn no_failures_reported(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let own = active(environment);
    let seen = seen(environment, fleet, as_it_is, |seen| {
        let is_own = own.is_some_and(|own| seen.member.lane == Lane::Rollout(own));
        if is_own
            && seen.member.step == Step::Granted
            && seen.member.grant.is_some_and(|grant| !grant.reverting)
        {
            seen.member.grant = None;
            seen.member.step = Step::Settled;
            make_healthy(seen);
        }
    });
    planner::plan(&seen, fleet, gates, now)
}

pub(super) fn write_after_halt(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let plan = planner::plan(environment, fleet, gates, now);
    let Some(rollout) = &environment.rollout else { return plan };
    match &rollout.stage {
        Stage::Rolling(rolling) => {
            BEFORE_HALT.with_borrow_mut(|before| before.insert(rollout.id, rolling.clone()));
            plan
        }
        Stage::Halted => {
            let Some(rolling) = BEFORE_HALT.with_borrow_mut(|before| before.remove(&rollout.id)) else {
                return plan;
            };
            let before = |rollout: &mut Rollout| {
                rollout.stage = Stage::Rolling(Rolling { granted: [].into(), ..rolling });
                (rollout.first_failure, rollout.failures, rollout.exceptions) = (None, 0, 0);
                without_floors(rollout);
            };
            let before = planner::plan(&seen(environment, fleet, before, |_| {}), fleet, gates, now);
            Plan { changes: Vec::new(), ..before }
        }
        _ => plan,
    }
}

pub(super) fn roll_back_everybody(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let rollout = environment.rollout.as_ref().filter(|rollout| rollout.stage == Stage::RollingBack);
    let id = rollout.map(|rollout| rollout.id);
    let seen = seen(environment, fleet, as_it_is, |seen| {
        if let Some(id) = id
            && seen.member.grant.is_none()
            && seen.member.in_service()
            && matches!(seen.member.step_in(id), Step::Waiting | Step::Preparing | Step::Ready)
        {
            (seen.member.lane, seen.member.step) = (Lane::Rollout(id), Step::Settled);
            seen.member.started = Some(id);
        }
    });
    planner::plan(&seen, fleet, gates, now)
}

pub(super) fn look_up_way_back(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    for grant in plan.grants.iter_mut().filter(|grant| grant.lane != Lane::Standing && !grant.taking_back) {
        let settled = environment.member(&grant.host).and_then(|live| live.member.settled);
        grant.way_back = settled.unwrap_or_else(Release::empty);
    }
    plan
}

pub(super) fn rollback_skips_budget(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let relaxed = |rollout: &mut Rollout| {
        if rollout.stage == Stage::RollingBack {
            without_floors(rollout);
            rollout.policy.rollback_batch = Share::Percent(100);
        }
    };
    planner::plan(&seen(environment, fleet, relaxed, |_| {}), fleet, gates, now)
}

pub(super) fn recursive_rollback(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let blind = |rollout: &mut Rollout| {
        if rollout.stage == Stage::RollingBack {
            rollout.first_failure = None;
        }
    };
    planner::plan(&seen(environment, fleet, blind, |_| {}), fleet, gates, now)
}

pub(super) fn sticky_healthy(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let own = active(environment);
    let seen = seen(environment, fleet, as_it_is, |seen| {
        if own.is_some_and(|own| seen.member.step_in(own) == Step::Settled) {
            make_healthy(seen);
        }
    });
    planner::plan(&seen, fleet, gates, now)
}

pub(super) fn percent_is_enough(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let Some(rollout) = &environment.rollout else { return plan };
    let settled = environment.members().filter(|live| live.member.settled == Some(rollout.target)).count();
    for change in &mut plan.changes {
        if *change == Change::Turn(Turn::NextWave) && settled * 100 >= environment.members().count() * 40 {
            *change = Change::Turn(Turn::Succeed);
        }
    }
    plan
}

pub(super) fn silent_continue(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    Plan { waiting: Vec::new(), ..planner::plan(environment, fleet, gates, now) }
}

pub(super) fn hash_order(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let grants: std::collections::HashMap<_, _> =
        plan.grants.drain(..).map(|grant| (grant.host.clone(), grant)).collect();
    plan.grants = grants.into_values().collect();
    let (prepares, others): (Vec<_>, Vec<_>) =
        plan.changes.into_iter().partition(|change| matches!(change, Change::Prepare { .. }));
    let prepares: std::collections::HashMap<String, Change> =
        prepares.into_iter().map(|change| (format!("{change:?}"), change)).collect();
    plan.changes = prepares.into_values().chain(others).collect();
    plan
}

pub(super) fn lose_wake_up(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    Plan { wake_at: None, ..planner::plan(environment, fleet, gates, now) }
}

pub(super) fn thresholds_on_timer(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let is_time = (now.0 / 1_000).is_multiple_of(30);
    let blind = |rollout: &mut Rollout| {
        if !is_time {
            (rollout.first_failure, rollout.failures) = (None, 0);
        }
    };
    planner::plan(&seen(environment, fleet, blind, |_| {}), fleet, gates, now)
}

pub(super) fn wait_for_all(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let is_left_out = |change: &Change| matches!(change, Change::Except { exception: Exception::Silent, .. });
    if plan.changes.iter().any(is_left_out) {
        plan.changes.retain(|change| !is_left_out(change));
        plan.waiting.push(WaitingOn::NotHeardYet);
    }
    plan
}

pub(super) fn health_before_fix(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let is_sick = environment
        .members()
        .any(|live| live.member.in_service() && live.member.grant.is_none() && !live.counts_available());
    if is_sick && plan.grants.iter().any(|grant| grant.lane != Lane::Standing) {
        plan.grants.clear();
        plan.waiting.push(WaitingOn::NotHeardYet);
    }
    plan
}

pub(super) fn window_at_grant(
    member: &Member,
    rollout: Option<&Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) -> Folded {
    let mut report = report.clone();
    if report.phase == Phase::Proving {
        report.phase = Phase::Settled;
    }
    fold::fold(member, rollout, &report, now)
}

pub(super) fn retry_forward(
    member: &Member,
    rollout: Option<&Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) -> Folded {
    let mut folded = fold::fold(member, rollout, report, now);
    if let Some(member) = folded.member.as_mut().filter(|member| member.step == Step::Reverted) {
        member.step = Step::Waiting;
    }
    if let Some(rollout) = folded.rollout.as_mut() {
        (rollout.first_failure, rollout.failures) = (None, 0);
    }
    folded
}

pub(super) fn fold_healthy(
    member: &Member,
    rollout: Option<&Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) -> Folded {
    let mut report = report.clone();
    if report.phase == Phase::Settled {
        report.health = HealthReport::Healthy { for_at_least: std::time::Duration::ZERO, passes: 0 };
    }
    fold::fold(member, rollout, &report, now)
}
