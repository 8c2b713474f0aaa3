//! Gates: their conditions, why one is closed, and what people have decided.

use std::time::Duration;

use super::{
    InvalidField, LINE_CHARS_MAX, NAMED_HOSTS_MAX, Wire, between, duration, line, name, names, optional,
    optional_name, required, required_duration, required_line, text, to_names, value, wall_time, wire_enum,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::id::{GateName, OperatorName};
use crate::policy::gate::{
    Before, Comparison, Condition, Days, Gate, Metric, Number, PASSES_MAX, QUERY_BYTES_MAX,
    TIME_ZONE_BYTES_MAX, Window,
};
use crate::rollout::{Closed, WaitingOn, Wave};
use crate::view::GateDecision;

wire_enum!(Comparison { AtLeast, AtMost, Above, Below });

wire_enum!(Before { OneBox, FirstWave, EachWave, End });

fn number(field: &str, value: f64) -> Result<Number, InvalidField> {
    Number::new(value)
        .ok_or_else(|| InvalidField::new(field, format!("is {value}, which is no finite number")))
}

impl Wire for Gate {
    type Message = wire::Gate;

    fn to_wire(&self) -> wire::Gate {
        let Self { name, before, condition, within } = self;
        wire::Gate {
            name: name.to_string(),
            before: before.to_wire(),
            within_ms: within.map(millis),
            condition: Some(to_condition(condition)),
        }
    }

    fn from_wire(message: wire::Gate) -> Result<Self, InvalidField> {
        let wire::Gate { name: gate, before, within_ms, condition } = message;
        Ok(Self {
            name: name("name", &gate)?,
            before: value("before", before)?,
            condition: from_condition(required("condition", condition)?)?,
            within: within_ms.map(|ms| required_duration("within_ms", ms, DURATION_MAX)).transpose()?,
        })
    }
}

fn to_condition(condition: &Condition) -> wire::gate::Condition {
    use wire::gate::Condition as Message;
    match condition {
        Condition::Approval { by_another } => {
            Message::Approval(wire::ApprovalGate { by_another: *by_another })
        }
        Condition::Window(Window { time_zone, days, from, until }) => Message::Window(wire::WindowGate {
            time_zone: time_zone.clone(),
            days: days.bits().into(),
            from: (*from).into(),
            until: (*until).into(),
        }),
        Condition::Freeze { from, until } => {
            Message::Freeze(wire::FreezeGate { from_ms: from.0, until_ms: until.0 })
        }
        Condition::Metric(Metric { query, is, value, fresh }) => Message::Metric(wire::MetricGate {
            query: query.clone(),
            is: is.to_wire(),
            value: value.get(),
            fresh_ms: millis(*fresh),
        }),
        Condition::EveryHost { package, at_least } => {
            let (package, at_least) = (package.to_string(), at_least.to_string());
            Message::EveryHost(wire::EveryHostGate { package, at_least })
        }
        Condition::Evidence { passes } => Message::EvidencePasses(*passes),
    }
}

fn from_condition(message: wire::gate::Condition) -> Result<Condition, InvalidField> {
    use wire::gate::Condition as Message;
    Ok(match message {
        Message::Approval(wire::ApprovalGate { by_another }) => Condition::Approval { by_another },
        Message::Window(window) => Condition::Window(from_window(window)?),
        Message::Freeze(wire::FreezeGate { from_ms, until_ms }) => {
            let (from, until) =
                (wall_time("freeze.from_ms", from_ms)?, wall_time("freeze.until_ms", until_ms)?);
            if until <= from {
                return Err(InvalidField::new("freeze.until_ms", "is not after from_ms"));
            }
            Condition::Freeze { from, until }
        }
        Message::Metric(wire::MetricGate { query, is, value: limit, fresh_ms }) => {
            if query.trim().is_empty() {
                return Err(InvalidField::new("metric.query", "is missing"));
            }
            Condition::Metric(Metric {
                query: text("metric.query", query, QUERY_BYTES_MAX)?,
                is: value("metric.is", is)?,
                value: number("metric.value", limit)?,
                fresh: required_duration("metric.fresh_ms", fresh_ms, DURATION_MAX)?,
            })
        }
        Message::EveryHost(wire::EveryHostGate { package, at_least }) => Condition::EveryHost {
            package: name("every_host.package", &package)?,
            at_least: name("every_host.at_least", &at_least)?,
        },
        Message::EvidencePasses(passes @ 1..=PASSES_MAX) => Condition::Evidence { passes },
        Message::EvidencePasses(passes) => {
            let problem = format!("is {passes}; 1 to {PASSES_MAX} are allowed");
            return Err(InvalidField::new("evidence_passes", problem));
        }
    })
}

fn from_window(message: wire::WindowGate) -> Result<Window, InvalidField> {
    let wire::WindowGate { time_zone, days, from, until } = message;
    let days = u8::try_from(days).ok().and_then(Days::from_bits);
    Ok(Window {
        time_zone: required_line("window.time_zone", time_zone, TIME_ZONE_BYTES_MAX)?,
        days: days.ok_or_else(|| InvalidField::new("window.days", "is not 1 to 127"))?,
        from: between("window.from", from, 0, 1439)? as u16,
        until: between("window.until", until, 1, 1440)? as u16,
    })
}

/// What [`WaitingOn::Gate`] holds.
pub(super) fn to_waiting(
    gate: &GateName,
    before: Option<&Wave>,
    closed: &Closed,
    halts_in: Option<Duration>,
) -> wire::WaitingOnGate {
    wire::WaitingOnGate {
        gate: gate.to_string(),
        before: before.map(Wire::to_wire),
        halts_in_ms: halts_in.map(millis),
        closed: Some(to_closed(closed)),
    }
}

pub(super) fn from_waiting(message: wire::WaitingOnGate) -> Result<WaitingOn, InvalidField> {
    let wire::WaitingOnGate { gate, before, halts_in_ms, closed } = message;
    Ok(WaitingOn::Gate {
        gate: name("gate.gate", &gate)?,
        before: optional("gate.before", before)?,
        closed: from_closed(required("gate.closed", closed)?)?,
        halts_in: halts_in_ms.map(|ms| duration("gate.halts_in_ms", ms, DURATION_MAX)).transpose()?,
    })
}

fn to_closed(closed: &Closed) -> wire::waiting_on_gate::Closed {
    use wire::waiting_on_gate::Closed as Message;
    match closed {
        Closed::Approval { not_by } => {
            Message::ApprovalNotBy(not_by.as_ref().map(ToString::to_string).unwrap_or_default())
        }
        Closed::Window { opens_in } => Message::OpensInMs(millis(*opens_in)),
        Closed::Frozen { ends_in } => Message::FrozenForMs(millis(*ends_in)),
        Closed::Metric { value, is, wanted } => {
            Message::Metric(wire::MetricClosed { value: value.get(), is: is.to_wire(), wanted: wanted.get() })
        }
        Closed::MetricUnknown { problem } => Message::MetricUnknown(problem.clone()),
        Closed::Hosts { package, at_least, hosts, more } => Message::Hosts(wire::HostsClosed {
            package: package.to_string(),
            at_least: at_least.to_string(),
            hosts: to_names(hosts),
            more: *more,
        }),
        Closed::Evidence { passes, of } => {
            Message::Evidence(wire::EvidenceClosed { passes: *passes, of: *of })
        }
        Closed::NotKnown => Message::NotKnown(wire::Nothing {}),
    }
}

fn from_closed(message: wire::waiting_on_gate::Closed) -> Result<Closed, InvalidField> {
    use wire::waiting_on_gate::Closed as Message;
    let wait = |field, ms| duration(field, ms, Duration::MAX);
    Ok(match message {
        Message::ApprovalNotBy(by) => {
            let by: Option<OperatorName> =
                optional_name("gate.approval_not_by", Some(by).filter(|by| !by.is_empty()))?;
            Closed::Approval { not_by: by }
        }
        Message::OpensInMs(ms) => Closed::Window { opens_in: wait("gate.opens_in_ms", ms)? },
        Message::FrozenForMs(ms) => Closed::Frozen { ends_in: wait("gate.frozen_for_ms", ms)? },
        Message::Metric(wire::MetricClosed { value: last, is, wanted }) => Closed::Metric {
            value: number("gate.metric.value", last)?,
            is: value("gate.metric.is", is)?,
            wanted: number("gate.metric.wanted", wanted)?,
        },
        Message::MetricUnknown(problem) => {
            Closed::MetricUnknown { problem: required_line("gate.metric_unknown", problem, LINE_CHARS_MAX)? }
        }
        Message::Hosts(wire::HostsClosed { package, at_least, hosts, more }) => Closed::Hosts {
            package: name("gate.hosts.package", &package)?,
            at_least: name("gate.hosts.at_least", &at_least)?,
            hosts: names("gate.hosts.hosts", &hosts, NAMED_HOSTS_MAX)?,
            more,
        },
        Message::Evidence(wire::EvidenceClosed { passes, of }) => Closed::Evidence { passes, of },
        Message::NotKnown(wire::Nothing {}) => Closed::NotKnown,
    })
}

impl Wire for GateDecision {
    type Message = wire::GateDecision;

    fn to_wire(&self) -> wire::GateDecision {
        let Self { gate, before, by, at, remark, skipped } = self;
        wire::GateDecision {
            gate: gate.to_string(),
            before: before.as_ref().map(Wire::to_wire),
            by: by.to_string(),
            at_ms: at.0,
            remark: remark.clone(),
            skipped: *skipped,
        }
    }

    fn from_wire(message: wire::GateDecision) -> Result<Self, InvalidField> {
        let wire::GateDecision { gate, before, by, at_ms, remark, skipped } = message;
        Ok(Self {
            gate: name("gate", &gate)?,
            before: optional("before", before)?,
            by: name("by", &by)?,
            at: wall_time("at_ms", at_ms)?,
            remark: line("remark", remark, LINE_CHARS_MAX)?,
            skipped,
        })
    }
}
