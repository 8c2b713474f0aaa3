//! **Decision.** Which hosts may move next.
//!
//! One call does one kind of thing: it closes overdue grants, or turns the rollout, or grants. The
//! engine calls again until nothing changes, all within one commit, so each rule stays small and
//! what it sees is always the result of the rules before it. Planning the result of a plan that is
//! empty changes nothing.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod back;
pub(crate) mod floors;
mod forward;
mod lane;
pub(super) mod retry;
#[cfg(test)]
mod tests;

pub(super) use forward::{is_proved, note_proven};

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::policy::OnFailure;
use houston_common::release::Release;
use houston_common::rollout::{Cause, Closed, Exception, WaitingOn};

pub use super::gates::GateValues;
use super::gates::Value;
use super::{Rollout, Stage};
use crate::environment::Environment;
use crate::environment::index::{Class, Wellness};
use crate::environment::member::Lane;
use crate::fleet::Fleet;

/// What to do next, and what everything else waits for. Specific enough that carrying it out needs
/// no judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub grants: Vec<Grant>,
    /// Why the rollout and its wave do not go on. Empty if nothing waits, or if something is done.
    pub waiting: Vec<WaitingOn>,
    /// When time alone could change the answer.
    pub wake_at: Option<FleetTime>,
}

impl Plan {
    pub fn does_nothing(&self) -> bool {
        self.changes.is_empty() && self.grants.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Prepare {
        host: HostId,
        lane: Lane,
        release: Release,
        way_back: Release,
    },
    /// The host is left out of the rollout's result, by name.
    Except {
        host: HostId,
        exception: Exception,
    },
    /// The host should have prepared by now, or should know whether it is well.
    Late {
        host: HostId,
    },
    /// The host's grant passed its deadline.
    Overdue {
        host: HostId,
    },
    /// The host's time in the penalty box is over.
    LetOut {
        host: HostId,
    },
    /// The host failed and went back by itself, and is tried again.
    Retry {
        host: HostId,
    },
    Turn(Turn),
}

/// A step of the rollout itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    OneBox(HostId),
    NextBatch,
    Bake,
    /// The gates before this wave are waited at.
    Gate(u32),
    NextWave,
    Halt(Cause),
    RollBack(Cause),
    Succeed,
    EndRollback,
}

/// Permission for one host to activate a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub host: HostId,
    pub lane: Lane,
    pub release: Release,
    pub way_back: Release,
    pub was_down: bool,
    pub taking_back: bool,
}

/// Assignments that one plan changes. With the rollout's own record and the audit entry they stay
/// below the 100 changes of a commit; the rest comes with the next.
const PREPARES_PER_PLAN: usize = 40;
const GRANTS_PER_PLAN: usize = 40;
const CLOSED_PER_PLAN: usize = 40;
/// Hosts that a reason names.
const NAMED_MAX: usize = 5;

pub fn plan(environment: &Environment, fleet: &Fleet, gates: &GateValues, now: FleetTime) -> Plan {
    let mut plan = Plan::default();
    let overdue = environment.index().overdue(now).take(CLOSED_PER_PLAN);
    plan.changes.extend(overdue.map(|host| Change::Overdue { host: host.clone() }));
    let late = environment.index().late(now).take(CLOSED_PER_PLAN - plan.changes.len());
    plan.changes.extend(late.map(|host| Change::Late { host: host.clone() }));
    let served = environment.index().served(now).take(CLOSED_PER_PLAN - plan.changes.len());
    plan.changes.extend(served.map(|host| Change::LetOut { host: host.clone() }));
    if !plan.does_nothing() {
        return plan;
    }
    if gates.regressed {
        plan.waiting.push(WaitingOn::Regressed);
        plan.wake_at = next_due(environment);
        return plan;
    }
    if let Some(rollout) = &environment.rollout {
        go_on(environment, rollout, fleet, gates, now, &mut plan);
    }
    if plan.does_nothing() {
        lane::standing(environment, &mut plan);
    }
    plan.wake_at = plan.wake_at.into_iter().chain(next_due(environment)).min();
    plan
}

/// When time alone ends something of a host.
fn next_due(environment: &Environment) -> Option<FleetTime> {
    let index = environment.index();
    [index.next_deadline(), index.next_answer_by(), index.next_box_end()].into_iter().flatten().min()
}

fn go_on(
    environment: &Environment,
    rollout: &Rollout,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
    plan: &mut Plan,
) {
    if let Some(turn) = judge(environment, rollout) {
        plan.changes.push(Change::Turn(turn));
        return;
    }
    // A host that was lost after it had settled is named, and stays counted.
    let index = environment.index();
    let lost = index.all(Class::Updated(Wellness::Lost)).map(|host| (host, Exception::LostAfterSettling));
    let excluded = index.all(Class::Excluded).map(|host| (host, Exception::Excluded));
    let named = lost.chain(excluded).take(CLOSED_PER_PLAN);
    plan.changes.extend(named.map(|(host, exception)| Change::Except { host: host.clone(), exception }));
    if !plan.does_nothing() {
        return;
    }
    if let Stage::Halted = rollout.stage {
        let cause = rollout.cause.clone().unwrap_or(Cause::Law { law: "unknown".to_owned() });
        plan.waiting.push(WaitingOn::Halted { cause });
        return;
    }
    if let Some(pause) = &rollout.paused {
        plan.waiting.push(WaitingOn::Paused { by: pause.by.to_string() });
        return;
    }
    match &rollout.stage {
        Stage::Rolling(rolling) => forward::roll(environment, rollout, rolling, fleet, now, plan),
        Stage::Baking { wave, left, since } => {
            forward::prepare_ahead(environment, rollout, *wave, plan);
            bake(environment, rollout, *wave, *left, *since, now, plan);
        }
        Stage::Gated { before, waited, since } => {
            forward::prepare_ahead(environment, rollout, before.saturating_sub(1), plan);
            gated(environment, rollout, *before, *waited + now.since(*since), gates, now, plan);
        }
        Stage::RollingBack => back::take_back(environment, rollout, fleet, now, plan),
        Stage::Halted | Stage::Succeeded | Stage::RolledBack | Stage::Superseded { .. } | Stage::Aborted => {}
    }
}

/// Whether the rollout has gone wrong: its failures and exceptions against their budgets.
fn judge(environment: &Environment, rollout: &Rollout) -> Option<Turn> {
    match rollout.stage {
        Stage::RollingBack => {
            let host = rollout.first_failure.clone()?;
            return Some(Turn::Halt(Cause::RollbackFailed { host }));
        }
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } => {}
        Stage::Halted | Stage::Succeeded | Stage::RolledBack | Stage::Superseded { .. } | Stage::Aborted => {
            return None;
        }
    }
    let crossed = |host: HostId, failures, allowed, zone| {
        let cause = Cause::FailureBudget { host, failures, allowed, zone };
        match rollout.policy.on_failure {
            OnFailure::Rollback => Turn::RollBack(cause),
            OnFailure::Halt => Turn::Halt(cause),
        }
    };
    if let Some(host) = &rollout.first_failure {
        return Some(crossed(host.clone(), rollout.failures, 0, None));
    }
    let allowed = rollout.failures_allowed(updated(environment));
    if rollout.failures > allowed
        && let Some(host) = &rollout.last_failure
    {
        return Some(crossed(host.clone(), rollout.failures, allowed, None));
    }
    if let Some((zone, failures, allowed)) = rollout.zone_over_budget(|zone| updated_in(environment, zone))
        && let Some(host) = &rollout.last_failure
    {
        return Some(crossed(host.clone(), failures, allowed, Some(zone.clone())));
    }
    if rollout.exceptions > rollout.exceptions_allowed() {
        let allowed = rollout.exceptions_allowed();
        return Some(Turn::Halt(Cause::LostBudget { exceptions: rollout.exceptions, allowed }));
    }
    None
}

const UPDATED: [Class; 3] =
    [Class::Updated(Wellness::Well), Class::Updated(Wellness::Unknown), Class::Updated(Wellness::Lost)];

fn updated(environment: &Environment) -> u32 {
    UPDATED.into_iter().map(|class| environment.index().count_all(class)).sum()
}

fn updated_in(environment: &Environment, zone: &Zone) -> u32 {
    UPDATED.into_iter().map(|class| environment.index().count(zone, class)).sum()
}

fn bake(
    environment: &Environment,
    rollout: &Rollout,
    wave: u32,
    left: Duration,
    since: FleetTime,
    now: FleetTime,
    plan: &mut Plan,
) {
    let remaining = left.saturating_sub(now.since(since));
    let health = unknown_health(environment);
    if !remaining.is_zero() {
        plan.waiting.push(WaitingOn::Bake { wave: rollout.wave(wave), remaining });
        plan.wake_at = Some(since.plus(left));
    }
    if let Some(waiting) = health {
        plan.waiting.push(waiting);
    }
    // What is still being prepared ahead does not hold the bake's end.
    if !plan.waiting.is_empty() {
        return;
    }
    if rollout.gates_before(wave + 1).next().is_some() {
        plan.changes.push(Change::Turn(Turn::Gate(wave + 1)));
    } else {
        enter(environment, rollout, wave + 1, plan);
    }
}

/// Gates before a wave, of which each must be open at the same time. `stood`: how long they were waited at.
fn gated(
    environment: &Environment,
    rollout: &Rollout,
    before: u32,
    stood: Duration,
    gates: &GateValues,
    now: FleetTime,
    plan: &mut Plan,
) {
    for gate in rollout.undecided(before) {
        let closed = match gates.gates.get(&gate.name) {
            Some(Value::Open) => continue,
            Some(Value::Closed(closed)) => closed.clone(),
            None => Closed::NotKnown,
        };
        let halts_in = gate.within.map(|within| within.saturating_sub(stood));
        if halts_in.is_some_and(|left| left.is_zero()) {
            let cause = Cause::GateClosed { gate: gate.name.clone() };
            plan.changes = vec![Change::Turn(Turn::Halt(cause))];
            plan.waiting.clear();
            return;
        }
        let wake_at = halts_in.map(|left| now.plus(left));
        plan.wake_at = [plan.wake_at, gates.recheck_at, wake_at].into_iter().flatten().min();
        let wave = (before < rollout.waves()).then(|| rollout.wave(before));
        plan.waiting.push(WaitingOn::Gate { gate: gate.name.clone(), before: wave, closed, halts_in });
    }
    plan.waiting.extend(unknown_health(environment));
    if plan.waiting.is_empty() {
        enter(environment, rollout, before, plan);
    }
}

/// What was before it is baked, and its gates are open: the wave begins, or the rollout has succeeded.
fn enter(environment: &Environment, rollout: &Rollout, wave: u32, plan: &mut Plan) {
    if wave < rollout.waves() {
        plan.changes.push(Change::Turn(Turn::NextWave));
        return;
    }
    forward::leave_out_the_rest(environment, plan);
    if plan.changes.iter().any(|change| matches!(change, Change::Except { .. })) {
        return;
    }
    // A release that no host has ever run must not become the baked one.
    let nobody = updated(environment) == 0 && !rollout.target.is_empty();
    let exceptions = rollout.exceptions;
    plan.changes.push(Change::Turn(if nobody {
        Turn::Halt(Cause::NobodyUpdated { exceptions })
    } else {
        Turn::Succeed
    }));
}

/// Updated hosts that are not known to be healthy: they hold every batch, bake and wave.
fn unknown_health(environment: &Environment) -> Option<WaitingOn> {
    let class = Class::Updated(Wellness::Unknown);
    let count = environment.index().count_all(class);
    let hosts: Vec<HostId> = environment.index().all(class).take(NAMED_MAX).cloned().collect();
    (count > 0).then(|| WaitingOn::Health { more: count - hosts.len() as u32, hosts })
}

/// Open grants, of the rollout or of something before it, that must end first.
fn open_grants(environment: &Environment, now: FleetTime) -> Option<WaitingOn> {
    let index = environment.index();
    let count = index.count_all(Class::Open) + index.count_all(Class::Finishing);
    let open = index.all(Class::Open).chain(index.all(Class::Finishing));
    let hosts: Vec<HostId> = open.take(NAMED_MAX).cloned().collect();
    let deadline_in = index.next_deadline().map_or(Duration::ZERO, |deadline| deadline.since(now));
    (count > 0).then(|| WaitingOn::Batch {
        more: count - hosts.len() as u32,
        open: hosts,
        quiet: Vec::new(),
        deadline_in,
    })
}
