//! **Decision.** Whether the gates before a wave are open, from what is known now: the hosts' records, the
//! answers of whoever was asked, and the time of day. The planner is handed the result as values.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod version;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{EnvironmentName, GateName, HostId, PackageName, Version};
use houston_common::policy::gate::{Condition, Gate, Metric, Number};
use houston_common::release::Release;
use houston_common::rollout::Closed;

use super::{Rollout, Stage};
use crate::environment::Environment;
use crate::state::State;
pub use window::is_time_zone;
use window::{Opening, opening};

/// What the planner is told of gates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateValues {
    /// The store has gone back in time: nothing is granted until it is adopted.
    pub regressed: bool,
    /// Of the gates that the active rollout waits at. One that is missing is closed.
    pub gates: BTreeMap<GateName, Value>,
    /// When time alone could open one.
    pub recheck_at: Option<FleetTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Open,
    Closed(Closed),
}

/// What a query was answered last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub at: FleetTime,
    /// A sentence if there was no number.
    pub value: Result<Number, String>,
}

/// Answers by gate. Known to the process only: after a start nothing is measured, and gates are closed.
pub type Measurements = BTreeMap<(EnvironmentName, GateName), Measured>;

/// Evidence and hosts come in with reports that change nothing else: looked at anew this often while a gate
/// waits for them.
const RECHECK_EVERY: Duration = Duration::from_secs(5);
/// Hosts that a reason names.
const NAMED_MAX: usize = 5;

impl GateValues {
    pub fn of(state: &State, environment: &Environment, now: FleetTime) -> Self {
        let mut values = Self { regressed: state.meta.regressed, ..Self::default() };
        let Some(rollout) = &environment.rollout else { return values };
        let Stage::Gated { before, .. } = rollout.stage else { return values };
        for gate in rollout.undecided(before) {
            let seen = Seen { state, environment, rollout, now, wall: state.wall(now) };
            let value = seen.value(gate);
            let recheck = match &value {
                Value::Open | Value::Closed(Closed::Approval { .. } | Closed::NotKnown) => None,
                Value::Closed(Closed::Window { opens_in: wait } | Closed::Frozen { ends_in: wait }) => {
                    Some(*wait)
                }
                Value::Closed(
                    Closed::Metric { .. }
                    | Closed::MetricUnknown { .. }
                    | Closed::Hosts { .. }
                    | Closed::Evidence { .. },
                ) => Some(RECHECK_EVERY),
            };
            let recheck = recheck.map(|wait| now.plus(wait.max(Duration::from_millis(1))));
            values.recheck_at = [values.recheck_at, recheck].into_iter().flatten().min();
            values.gates.insert(gate.name.clone(), value);
        }
        values
    }
}

struct Seen<'a> {
    state: &'a State,
    environment: &'a Environment,
    rollout: &'a Rollout,
    now: FleetTime,
    wall: WallTime,
}

impl Seen<'_> {
    fn value(&self, gate: &Gate) -> Value {
        let closed = match &gate.condition {
            Condition::Approval { by_another } => {
                let not_by = by_another.then(|| self.rollout.started_by.clone());
                Some(Closed::Approval { not_by })
            }
            Condition::Window(window) => match opening(window, self.wall) {
                Some(Opening::Open) => None,
                Some(Opening::Opens(at)) => Some(Closed::Window { opens_in: at.since(self.wall) }),
                None => Some(Closed::NotKnown),
            },
            Condition::Freeze { from, until } => (*from <= self.wall && self.wall < *until)
                .then(|| Closed::Frozen { ends_in: until.since(self.wall) }),
            Condition::Metric(metric) => self.metric(gate, metric),
            Condition::EveryHost { package, at_least } => self.behind(package, at_least),
            Condition::Evidence { passes: of } => {
                let passes = self.environment.index().total().passes;
                (passes < *of).then_some(Closed::Evidence { passes, of: *of })
            }
        };
        closed.map_or(Value::Open, Value::Closed)
    }

    fn metric(&self, gate: &Gate, metric: &Metric) -> Option<Closed> {
        let unknown = |problem: String| Some(Closed::MetricUnknown { problem });
        let key = (self.environment.name().clone(), gate.name.clone());
        let Some(Measured { at, value }) = self.state.measured.get(&key) else {
            return unknown("nobody has answered yet".to_owned());
        };
        let age = self.now.since(*at);
        match value {
            Err(problem) => unknown(problem.clone()),
            Ok(_) if age > metric.fresh => unknown(format!("the last answer is {} s old", age.as_secs())),
            Ok(value) if metric.is.holds(*value, metric.value) => None,
            Ok(value) => Some(Closed::Metric { value: *value, is: metric.is, wanted: metric.value }),
        }
    }

    /// Hosts that have settled on less, or on nothing: by release, of which there are few.
    fn behind(&self, package: &PackageName, at_least: &Version) -> Option<Closed> {
        let behind = || {
            let releases = self.environment.index().settled();
            releases
                .filter(|(release, _)| !self.has(release.as_ref(), package, at_least))
                .map(|(_, hosts)| hosts)
        };
        let count: usize = behind().map(std::collections::BTreeSet::len).sum();
        let hosts: Vec<HostId> = behind().flatten().take(NAMED_MAX).cloned().collect();
        (count > 0).then(|| Closed::Hosts {
            package: package.clone(),
            at_least: at_least.clone(),
            more: (count - hosts.len()) as u32,
            hosts,
        })
    }

    fn has(&self, release: Option<&Release>, package: &PackageName, at_least: &Version) -> bool {
        let set = release.and_then(|release| self.state.catalog.set(&release.version_set));
        let of = set.and_then(|set| set.set.packages.iter().find(|other| other.name == *package));
        of.is_some_and(|other| !version::is_before(&other.version, at_least))
    }
}

/// Queries that open gates wait for: asked again and again while they do.
pub fn queries(state: &State) -> Vec<(EnvironmentName, GateName, Metric)> {
    let gated = state.environments.values().filter_map(|environment| {
        let rollout = environment.rollout.as_ref()?;
        let Stage::Gated { before, .. } = rollout.stage else { return None };
        Some((environment.name(), rollout, before))
    });
    gated
        .flat_map(|(name, rollout, before)| {
            rollout.undecided(before).filter_map(move |gate| match &gate.condition {
                Condition::Metric(metric) => Some((name.clone(), gate.name.clone(), metric.clone())),
                Condition::Approval { .. }
                | Condition::Window(_)
                | Condition::Freeze { .. }
                | Condition::EveryHost { .. }
                | Condition::Evidence { .. } => None,
            })
        })
        .collect()
}
