//! Check-ins and what they bring.

use std::time::Duration;

use super::report::{features, protocol_version};
use super::{
    InvalidField, Wire, distinct, duration, list, name, names, nested, required, required_duration, to_list,
    to_names, value, wall_time,
};
use crate::api::wire;
use crate::assignment::{Assignment, Order, Terms};
use crate::clock::{DURATION_MAX, millis};
use crate::exchange::{CheckIn, CheckInAnswer, HOST_ENVIRONMENTS_MAX};
use crate::id::EnvironmentName;

/// Longest hold of a check-in that a coordinator may ask for: a host that is cut off by something that
/// answers for its peer's TCP must notice within minutes.
pub const HOLD_MAX: Duration = Duration::from_secs(10 * 60);
/// Longest wait that a coordinator may ask an agent for; longer would be an outage that it ordered.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

impl Wire for CheckIn {
    type Message = wire::CheckInRequest;

    fn to_wire(&self) -> wire::CheckInRequest {
        let Self { report, may_hold } = self;
        wire::CheckInRequest { report: Some(report.to_wire()), may_hold: *may_hold }
    }

    fn from_wire(message: wire::CheckInRequest) -> Result<Self, InvalidField> {
        let wire::CheckInRequest { report, may_hold } = message;
        Ok(Self { report: nested("report", report)?, may_hold })
    }
}

impl Wire for CheckInAnswer {
    type Message = wire::CheckInResponse;

    fn to_wire(&self) -> wire::CheckInResponse {
        let Self { protocol, features, hold, retry_after, server_time, assignments, forget, renew_now } =
            self;
        wire::CheckInResponse {
            protocol: *protocol,
            features: features.clone(),
            hold_ms: millis(*hold),
            retry_after_ms: millis(*retry_after),
            server_time_ms: server_time.0,
            assignments: to_list(assignments),
            forget: to_names(forget),
            renew_now: *renew_now,
        }
    }

    fn from_wire(message: wire::CheckInResponse) -> Result<Self, InvalidField> {
        let wire::CheckInResponse {
            protocol,
            features: stated,
            hold_ms,
            retry_after_ms,
            server_time_ms,
            assignments,
            forget,
            renew_now,
        } = message;
        let assignments: Vec<Assignment> = list("assignments", assignments, HOST_ENVIRONMENTS_MAX)?;
        let forget: Vec<EnvironmentName> = names("forget", &forget, HOST_ENVIRONMENTS_MAX)?;
        distinct("assignments", assignments.iter().map(|assignment| &assignment.environment))?;
        let assigned = assignments.iter().map(|assignment| &assignment.environment);
        distinct("forget", assigned.chain(&forget))?;
        Ok(Self {
            protocol: protocol_version("protocol", protocol)?,
            features: features("features", stated)?,
            hold: duration("hold_ms", hold_ms, HOLD_MAX)?,
            retry_after: duration("retry_after_ms", retry_after_ms, RETRY_AFTER_MAX)?,
            server_time: wall_time("server_time_ms", server_time_ms)?,
            assignments,
            forget,
            renew_now,
        })
    }
}

impl Wire for Assignment {
    type Message = wire::Assignment;

    fn to_wire(&self) -> wire::Assignment {
        let Self { environment, stamp, order, release, way_back } = self;
        wire::Assignment {
            environment: environment.to_string(),
            stamp: Some(stamp.to_wire()),
            order: Some(match order {
                Order::Prepare => wire::assignment::Order::Prepare(wire::Nothing {}),
                Order::Activate(terms) => wire::assignment::Order::Activate(terms.to_wire()),
            }),
            release: Some(release.to_wire()),
            way_back: Some(way_back.to_wire()),
        }
    }

    fn from_wire(message: wire::Assignment) -> Result<Self, InvalidField> {
        let wire::Assignment { environment, stamp, order, release, way_back } = message;
        Ok(Self {
            environment: name("environment", &environment)?,
            stamp: nested("stamp", stamp)?,
            order: match required("order", order)? {
                wire::assignment::Order::Prepare(wire::Nothing {}) => Order::Prepare,
                wire::assignment::Order::Activate(terms) => Order::Activate(value("activate", terms)?),
            },
            release: nested("release", release)?,
            way_back: nested("way_back", way_back)?,
        })
    }
}

impl Wire for Terms {
    type Message = wire::Terms;

    fn to_wire(&self) -> wire::Terms {
        let Self { start_within, apply_deadline, health_window } = *self;
        wire::Terms {
            start_within_ms: millis(start_within),
            apply_deadline_ms: millis(apply_deadline),
            health_window_ms: millis(health_window),
        }
    }

    fn from_wire(message: wire::Terms) -> Result<Self, InvalidField> {
        let wire::Terms { start_within_ms, apply_deadline_ms, health_window_ms } = message;
        Ok(Self {
            start_within: required_duration("start_within_ms", start_within_ms, DURATION_MAX)?,
            apply_deadline: required_duration("apply_deadline_ms", apply_deadline_ms, DURATION_MAX)?,
            health_window: duration("health_window_ms", health_window_ms, DURATION_MAX)?,
        })
    }
}
