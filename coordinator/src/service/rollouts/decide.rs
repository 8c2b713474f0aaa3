//! Opening a gate by hand: an approval, or passing over any wait.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::DecideGate;
use houston_common::error::{Code, Refusal};
use houston_common::id::{GateName, RolloutId};
use houston_common::policy::gate::{Condition, Gate};

use super::super::{Caller, Change};
use super::find;
use crate::engine::core::Decided;
use crate::rollout::{BAKE, DECISIONS_MAX, Decision, Rollout, Stage};
use crate::state::{Edit, State};

/// Answers with the rollout. What is open already stays so without a change.
/// E-ENV-UNKNOWN, E-ROLLOUT-UNKNOWN, E-ROLLOUT-STATE, E-SELF-APPROVAL, E-FIELD for a skip without a reason.
pub fn decide(
    state: &State,
    caller: &Caller,
    request: &DecideGate,
    now: FleetTime,
    wall: WallTime,
) -> Result<Decided<RolloutId>, Refusal> {
    let DecideGate { rollout, gate, skip, reason } = request;
    let rollout = find(state, rollout)?;
    if *skip && reason.is_empty() {
        return Err(Refusal::new(Code::Field, "a skip must say why", "add --reason"));
    }
    let is_bake = gate.as_ref().is_some_and(|gate| gate.as_str() == BAKE);
    let (name, before, stage) = match &rollout.stage {
        Stage::Baking { wave, .. } if is_bake && *skip => {
            let over = Stage::Baking { wave: *wave, left: Duration::ZERO, since: now };
            (bake_name()?, *wave + 1, over)
        }
        Stage::Gated { before, .. } if !is_bake => {
            if gate.as_ref().is_some_and(|gate| rollout.has_decided(gate, *before)) {
                return Ok(Decided::nothing(rollout.id));
            }
            let gate = chosen(rollout, *before, gate.as_ref(), *skip)?;
            may_open(rollout, caller, gate)?;
            (gate.name.clone(), *before, rollout.stage.clone())
        }
        Stage::Rolling(_)
        | Stage::Baking { .. }
        | Stage::Gated { .. }
        | Stage::RollingBack
        | Stage::Halted
        | Stage::Succeeded
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => return Err(not_waiting(rollout, gate.as_ref())),
    };
    let mut decided = Rollout { stage, ..rollout.clone() };
    decided.decisions.push(Decision {
        gate: name.clone(),
        before,
        by: caller.name.clone(),
        at: wall,
        remark: reason.clone(),
        skipped: *skip,
    });
    let over = decided.decisions.len().saturating_sub(DECISIONS_MAX);
    decided.decisions.drain(..over);
    let word = if *skip { "skip" } else { "approve" };
    let change = Change {
        what: format!("rollout.{word} {} {} {name}", rollout.environment, rollout.id),
        why: reason,
        before: rollout.state().as_str().to_owned(),
        after: format!("{name} is open"),
    };
    Ok(caller.change(vec![Edit::Rollout(decided)], change, rollout.id))
}

fn bake_name() -> Result<GateName, Refusal> {
    BAKE.parse().map_err(|_| Refusal::internal("a bake has no name"))
}

/// The gate that is meant, among those that are waited at.
fn chosen<'a>(
    rollout: &'a Rollout,
    before: u32,
    name: Option<&GateName>,
    skip: bool,
) -> Result<&'a Gate, Refusal> {
    let is_approval = |gate: &Gate| matches!(gate.condition, Condition::Approval { .. });
    let fits = |gate: &&Gate| match name {
        Some(name) => gate.name == *name,
        None => !skip && is_approval(gate),
    };
    let fitting: Vec<&Gate> = rollout.undecided(before).filter(fits).collect();
    match (fitting.as_slice(), name) {
        ([gate], _) if skip || is_approval(gate) => Ok(gate),
        ([gate], _) => Err(Refusal::new(
            Code::RolloutState,
            format!("gate {} is no approval: it opens by itself", gate.name),
            format!("`houston rollout skip {} {}` passes it over", rollout.environment, gate.name),
        )),
        (_, Some(_)) => Err(not_waiting(rollout, name)),
        ([], None) => Err(not_waiting(rollout, None)),
        (_, None) => Err(Refusal::new(
            Code::RolloutState,
            format!("rollout {} waits for more than one approval", rollout.id),
            format!("say which: {}", names(&fitting)),
        )),
    }
}

fn may_open(rollout: &Rollout, caller: &Caller, gate: &Gate) -> Result<(), Refusal> {
    match gate.condition {
        Condition::Approval { by_another: true } if caller.name == rollout.started_by => Err(Refusal::new(
            Code::SelfApproval,
            format!("{} started rollout {}, and gate {} is for another", caller.name, rollout.id, gate.name),
            "ask somebody else with the approver role",
        )),
        Condition::Approval { .. }
        | Condition::Window(_)
        | Condition::Freeze { .. }
        | Condition::Metric(_)
        | Condition::EveryHost { .. }
        | Condition::Evidence { .. } => Ok(()),
    }
}

fn not_waiting(rollout: &Rollout, gate: Option<&GateName>) -> Refusal {
    let Rollout { id, environment, .. } = rollout;
    let what = match gate {
        Some(gate) => format!("rollout {id} of {environment} does not wait at a gate called {gate}"),
        None => format!("rollout {id} of {environment} waits for no approval"),
    };
    let next = match &rollout.stage {
        Stage::Gated { before, .. } => {
            format!("it waits at {}", names(&rollout.undecided(*before).collect::<Vec<_>>()))
        }
        Stage::Baking { .. } => format!("it bakes: `houston rollout skip {environment} {BAKE}` ends that"),
        Stage::Rolling(_)
        | Stage::RollingBack
        | Stage::Halted
        | Stage::Succeeded
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => format!("it is {}", rollout.state().as_str()),
    };
    Refusal::new(Code::RolloutState, what, next)
}

fn names(gates: &[&Gate]) -> String {
    gates.iter().map(|gate| gate.name.as_str()).collect::<Vec<_>>().join(", ")
}
