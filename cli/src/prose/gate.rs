//! Gates in sentences.

use std::time::Duration;

use houston_common::clock::Rough;
use houston_common::id::{EnvironmentName, GateName};
use houston_common::identity::Utc;
use houston_common::rollout::{Closed, Wave};
use houston_common::view::GateDecision;

use super::of_wave;
use super::waiting::hosts;

/// What is waited for, and what ends the wait.
pub(super) fn gate(
    gate: &GateName,
    before: Option<&Wave>,
    why: &Closed,
    halts_in: Option<Duration>,
    environment: &EnvironmentName,
) -> String {
    let what = format!("Gate {gate} before {} is closed: {}.", place(before), closed(why));
    let skip = format!("`houston rollout skip {environment} {gate} --reason TEXT`");
    let next = match why {
        Closed::Approval { .. } => {
            format!("`houston rollout approve {environment} --gate {gate}` opens it")
        }
        Closed::Window { .. } | Closed::Frozen { .. } => format!("It opens by itself, or by {skip}"),
        Closed::Metric { .. }
        | Closed::MetricUnknown { .. }
        | Closed::Hosts { .. }
        | Closed::Evidence { .. } => {
            format!("It opens by itself when that has changed, or by {skip}")
        }
        Closed::NotKnown => "It is looked at in a moment".to_owned(),
    };
    match halts_in {
        Some(left) => format!("{what} {next}; in {} the rollout halts for it.", Rough(left)),
        None => format!("{what} {next}."),
    }
}

fn place(before: Option<&Wave>) -> String {
    before.map_or_else(|| "the end".to_owned(), of_wave)
}

fn closed(why: &Closed) -> String {
    match why {
        Closed::Approval { not_by: None } => "nobody has approved yet".to_owned(),
        Closed::Approval { not_by: Some(who) } => format!("somebody other than {who} must approve"),
        Closed::Window { opens_in } => format!("its window opens in {}", Rough(*opens_in)),
        Closed::Frozen { ends_in } => format!("changes are frozen for another {}", Rough(*ends_in)),
        Closed::Metric { value, is, wanted } => {
            format!("its metric is {value}, and must be {} {wanted}", is.as_str().replace('_', " "))
        }
        Closed::MetricUnknown { problem } => format!("its metric has no value: {problem}"),
        Closed::Hosts { package, at_least, hosts: behind, more } => {
            format!("{} lack {package} at {at_least} or above", hosts(behind, *more))
        }
        Closed::Evidence { passes, of } => format!("{passes} of {of} health checks have passed"),
        Closed::NotKnown => "nobody has looked yet".to_owned(),
    }
}

/// One line: who opened what, and why.
pub fn decision(decision: &GateDecision) -> String {
    let GateDecision { gate, before, by, at, remark, skipped } = decision;
    let done = if *skipped { "skipped" } else { "approved" };
    let remark = if remark.is_empty() { String::new() } else { format!(": {remark}") };
    format!("{by} {done} {gate} before {}, {}{remark}", place(before.as_ref()), Utc(*at))
}
