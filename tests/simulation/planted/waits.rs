//! Planners and folds that wait for what never comes, or that do not wait where they must.

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::id::HostId;
use houston_common::policy::Share;
use houston_common::report::{EnvironmentReport, Report};
use houston_common::rollout::{Exception, WaitingOn};
use houston_coordinator::environment::Environment;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::fleet::Fleet;
use houston_coordinator::rollout::fold::{self, Folded};
use houston_coordinator::rollout::planner::{self, Change, GateValues, Grant, Plan, Turn};
use houston_coordinator::rollout::{Rollout, Stage};
use houston_coordinator::state::State;

use super::BEGUN_HERE;
use super::minds::seen;

pub(super) fn percent_of_today(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let today = |rollout: &mut Rollout| {
        for (zone, counts) in environment.index().zones() {
            rollout.planned.insert(zone.clone(), counts.in_service);
            rollout.members.insert(zone.clone(), counts.hosts);
        }
    };
    planner::plan(&seen(environment, fleet, today, |_| {}), fleet, gates, now)
}

pub(super) fn trust_the_store(
    environment: &Environment,
    fleet: &Fleet,
    _: &GateValues,
    now: FleetTime,
) -> Plan {
    planner::plan(environment, fleet, &GateValues::default(), now)
}

pub(super) fn wait_for_promotion(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let Some(rollout) = &environment.rollout else { return plan };
    let is_promotion =
        |change: &Change| *change == Change::Turn(Turn::NextWave) && rollout.current_wave() == 1;
    if plan.changes.iter().any(is_promotion) {
        plan.changes.clear();
        plan.waiting.push(WaitingOn::Bake { wave: rollout.wave(1), remaining: Duration::ZERO });
        plan.wake_at = Some(now.plus(Duration::from_secs(10)));
    }
    plan
}

pub(super) fn wave_in_memory(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    let Some(rollout) = &environment.rollout else { return plan };
    let knows = BEGUN_HERE.with_borrow_mut(|begun| {
        if matches!(&rollout.stage, Stage::Rolling(rolling) if rolling.wave == 0) {
            begun.insert(rollout.id);
        }
        begun.contains(&rollout.id)
    });
    if !knows && matches!(rollout.stage, Stage::Rolling(_) | Stage::Baking { .. }) {
        plan.changes
            .retain(|change| !matches!(change, Change::Turn(Turn::NextBatch | Turn::NextWave | Turn::Bake)));
        plan.grants.retain(|grant| grant.lane == Lane::Standing);
        plan.waiting.push(WaitingOn::NotHeardYet);
    }
    plan
}

pub(super) fn forget_the_lane(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    plan.grants.retain(|grant| grant.lane != Lane::Standing);
    let is_passed_by = |grant: &Grant| !grant.taking_back && grant.host.as_str().starts_with("h1-");
    for grant in plan.grants.extract_if(.., |grant| is_passed_by(grant)) {
        plan.changes.push(Change::Except { host: grant.host, exception: Exception::PassedBy });
    }
    plan
}

pub(super) fn head_of_line(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    if plan.changes.iter().any(|change| matches!(change, Change::Overdue { .. })) {
        plan.changes.clear();
        plan.waiting.push(WaitingOn::NotHeardYet);
        plan.wake_at = Some(now.plus(Duration::from_secs(10)));
    }
    plan
}

pub(super) fn one_host_more(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let more = |rollout: &mut Rollout| {
        rollout.policy.batch = match rollout.policy.batch {
            Share::Hosts(hosts) => Share::Hosts(hosts + 1),
            Share::Percent(percent) => Share::Percent((percent + 34).min(100)),
        };
    };
    planner::plan(&seen(environment, fleet, more, |_| {}), fleet, gates, now)
}

pub(super) fn forget_the_end(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Plan {
    let mut plan = planner::plan(environment, fleet, gates, now);
    if plan.changes.contains(&Change::Turn(Turn::Succeed)) {
        plan.changes.clear();
        plan.waiting.push(WaitingOn::NotHeardYet);
    }
    plan
}

pub(super) fn grant_on_each_poll(
    member: &Member,
    rollout: Option<&Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) -> Folded {
    let mut folded = fold::fold(member, rollout, report, now);
    let said = report.stamp.map(|stamp| stamp.generation);
    if folded.member.is_none()
        && let (Some(grant), Lane::Rollout(_), Step::Granted) = (member.grant, member.lane, member.step)
        && said != Some(grant.generation)
    {
        folded.member = Some(Member { grant: None, step: Step::Ready, ..member.clone() });
    }
    folded
}

/// What a host shows beyond what the store remembers is taken for what the store told it last.
pub(in crate::simulation) fn as_the_store_has_it(state: &State, host: &HostId, report: &mut Report) {
    for of in &mut report.environments {
        let environment = state.environments.get(&of.environment);
        let told = environment.and_then(|environment| environment.member(host)?.member.told);
        if let (Some(stamp), Some(told)) = (of.stamp.as_mut(), told)
            && (stamp.generation > state.meta.generation || stamp.epoch > state.epoch)
        {
            (stamp.generation, stamp.epoch) = (told.generation, state.epoch);
        }
    }
}
