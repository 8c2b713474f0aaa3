//! Rollouts: finding and reading them. Starting one is in `start`, steering one in `control`.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod control;
mod decide;
mod draft;
mod plan;
mod start;
#[cfg(test)]
mod tests;

pub use control::control;
pub use decide::decide;
pub use plan::plan;
pub use start::start;

use houston_common::clock::FleetTime;
use houston_common::command::{Explain, ListRollouts, PAGE_MAX, RolloutRef, RolloutSummary};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, RolloutId};
use houston_common::rollout::WaitingOn;
use houston_common::view::RolloutView;

use super::{environment, hosts, views};
use crate::rollout::Rollout;
use crate::rollout::explain::{explain as explain_host, explain_environment};
use crate::rollout::planner::GateValues;
use crate::state::State;

/// The environment that the rollout is of: what the caller's roles are judged by before it is steered.
/// E-ENV-UNKNOWN, E-ROLLOUT-UNKNOWN.
pub fn environment_of(state: &State, rollout: &RolloutRef) -> Result<EnvironmentName, Refusal> {
    match rollout {
        RolloutRef::NewestOf(name) => environment(state, name).map(|environment| environment.name().clone()),
        RolloutRef::Id(_) => find(state, rollout).map(|rollout| rollout.environment.clone()),
    }
}

/// E-ENV-UNKNOWN, E-ROLLOUT-UNKNOWN.
pub fn find<'a>(state: &'a State, rollout: &RolloutRef) -> Result<&'a Rollout, Refusal> {
    match rollout {
        RolloutRef::Id(id) => state.rollout(*id).ok_or_else(|| {
            let what = format!("no rollout {id}");
            Refusal::new(Code::RolloutUnknown, what, "list them with `houston rollout list`")
        }),
        RolloutRef::NewestOf(name) => {
            environment(state, name)?;
            newest_of(state, name).ok_or_else(|| {
                let what = format!("environment {name} has had no rollout");
                Refusal::new(Code::RolloutUnknown, what, "start one with `houston rollout start`")
            })
        }
    }
}

fn newest_of<'a>(state: &'a State, name: &EnvironmentName) -> Option<&'a Rollout> {
    super::active(state, name)
        .or_else(|| state.history.values().rev().find(|rollout| rollout.environment == *name))
}

/// `revision` is the state's own, as of before it was read. E-ENV-UNKNOWN, E-ROLLOUT-UNKNOWN.
pub fn get(
    state: &State,
    rollout: &RolloutRef,
    revision: u64,
    now: FleetTime,
) -> Result<RolloutView, Refusal> {
    find(state, rollout).map(|rollout| views::rollout(state, rollout, revision, now))
}

/// Newest first. E-ENV-UNKNOWN.
pub fn list(state: &State, request: &ListRollouts) -> Result<Vec<RolloutSummary>, Refusal> {
    let ListRollouts { environment: of, limit } = request;
    if let Some(name) = of {
        environment(state, name)?;
    }
    let mut active: Vec<&Rollout> =
        state.environments.values().filter_map(|environment| environment.rollout.as_ref()).collect();
    active.sort_by_key(|rollout| std::cmp::Reverse(rollout.id));
    let mut active = active.into_iter().peekable();
    let mut over = state.history.values().rev().peekable();
    let newest_first = std::iter::from_fn(move || match (active.peek(), over.peek()) {
        (Some(one), Some(other)) if one.id < other.id => over.next(),
        (Some(_), _) => active.next(),
        (None, _) => over.next(),
    });
    let of_environment =
        newest_first.filter(|rollout| of.as_ref().is_none_or(|of| rollout.environment == *of));
    let shown: Vec<&Rollout> = of_environment.take((*limit).min(PAGE_MAX) as usize).collect();
    Ok(views::summaries(state, &shown))
}

/// Why nothing happens in an environment, or on one host of it. E-ENV-UNKNOWN, E-HOST-UNKNOWN.
pub fn explain(state: &State, request: &Explain, now: FleetTime) -> Result<Vec<WaitingOn>, Refusal> {
    let environment = environment(state, &request.environment)?;
    let gates = GateValues::of(state, environment, now);
    let Some(host) = &request.host else {
        return Ok(explain_environment(environment, &state.fleet, &gates, now));
    };
    let host = hosts::resolve(state, host.as_str())?;
    match explain_host(environment, &state.fleet, &gates, &host, now) {
        Some(waiting) => {
            let drained = state.fleet.get(&host).is_some_and(|entry| entry.host.drained);
            Ok([waiting].into_iter().chain(drained.then_some(WaitingOn::Drained)).collect())
        }
        None => Err(Refusal::new(
            Code::HostUnknown,
            format!("host {host} does not belong to environment {}", request.environment),
            format!("see its labels with `houston host show {host}`"),
        )),
    }
}

/// Adds to the rollouts whose hosts may still be on their release; the oldest are forgotten beyond the limit.
fn remember(unresolved: &mut Vec<RolloutId>, ids: impl IntoIterator<Item = RolloutId>) {
    for id in ids {
        if !unresolved.contains(&id) {
            unresolved.push(id);
        }
    }
    let over = unresolved.len().saturating_sub(crate::rollout::INHERITS_MAX);
    unresolved.drain(..over);
}
