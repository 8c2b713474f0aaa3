//! A policy as the environment file writes it.

use std::fmt;

use super::gate::{Condition, Gate, time_of_day};
use super::{Growth, OnFailure, Pacing, Policy};
use crate::clock::Exact;
use crate::id::{Zone, quoted};
use crate::identity::Utc;

impl Pacing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zonal => "zonal",
            Self::Striped => "striped",
        }
    }
}

impl OnFailure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Halt => "halt",
        }
    }
}

/// A key of `[policy]`, as in `bake.one_box`, and its value; absent if it is not set.
pub type Field = (String, Option<String>);

impl Policy {
    /// Every key, in the file's order; each gate as `gate.NAME` with a sentence.
    pub fn fields(&self) -> Vec<Field> {
        let Self {
            pacing,
            zone_order,
            zones_at_once,
            batch,
            growth,
            fleet_floor,
            zone_floor,
            bake,
            health_window,
            apply_deadline,
            start_within,
            failure_budget,
            zone_failure_budget,
            lost_budget,
            on_failure,
            rollback_batch,
            retries,
            gates,
        } = self;
        let order: Vec<&str> = zone_order.iter().map(Zone::as_str).collect();
        let growth = |of: fn(&Growth) -> String| growth.as_ref().map(of);
        let mut fields = vec![
            ("pacing", Some(pacing.as_str().to_owned())),
            ("zone_order", Some(order.join(" ")).filter(|order| !order.is_empty())),
            ("zones_at_once", Some(zones_at_once.to_string())),
            ("batch", Some(batch.to_string())),
            ("growth.factor", growth(|growth| format!("{}%", growth.percent))),
            ("growth.most", growth(|growth| growth.most.to_string())),
            ("growth.carries", growth(|growth| growth.carries.to_string())),
            ("fleet_floor", Some(fleet_floor.to_string())),
            ("zone_floor", zone_floor.map(|floor| floor.to_string())),
        ];
        let times = [
            ("bake.one_box", bake.one_box),
            ("bake.first_zone", bake.first_zone),
            ("bake.later_zones", bake.later_zones),
            ("health_window", *health_window),
            ("apply_deadline", *apply_deadline),
            ("start_within", *start_within),
        ];
        fields.extend(times.map(|(key, time)| (key, Some(Exact(time).to_string()))));
        fields.extend([
            ("failure_budget", Some(failure_budget.to_string())),
            ("zone_failure_budget", zone_failure_budget.map(|budget| budget.to_string())),
            ("lost_budget", Some(lost_budget.to_string())),
            ("on_failure", Some(on_failure.as_str().to_owned())),
            ("rollback_batch", Some(rollback_batch.to_string())),
            ("retries", Some(retries.to_string())),
        ]);
        let gates = gates.iter().map(|gate| (format!("gate.{}", gate.name), Some(gate.to_string())));
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(gates).collect()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name: _, before, condition, within } = self;
        write!(f, "before {}: {condition}", before.as_str())?;
        within.map_or(Ok(()), |within| write!(f, ", within {}", Exact(within)))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { by_another: false } => f.write_str("approval"),
            Self::Approval { by_another: true } => f.write_str("approval by another than who started"),
            Self::Window(window) => write!(
                f,
                "{} {}-{} {}",
                window.days,
                time_of_day(window.from),
                time_of_day(window.until),
                window.time_zone
            ),
            Self::Freeze { from, until } => write!(f, "not from {} until {}", Utc(*from), Utc(*until)),
            Self::Metric(metric) => {
                let (is, fresh) = (metric.is.as_str().replace('_', " "), Exact(metric.fresh));
                write!(f, "{} is {is} {}, no older than {fresh}", quoted(&metric.query), metric.value)
            }
            Self::EveryHost { package, at_least } => {
                write!(f, "every host has {package} at least at {at_least}")
            }
            Self::Evidence { passes } => write!(f, "{passes} passed health checks of updated hosts"),
        }
    }
}
