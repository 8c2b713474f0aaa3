//! Why something waits, was halted or taken back.

use std::time::Duration;

use super::{
    InvalidField, LINE_CHARS_MAX, NAMED_HOSTS_MAX, Wire, between, duration, error_code, gate, line, list,
    name, names, nested, optional, optional_name, required, required_line, rollout_id, to_list, to_names,
    value, wire_enum,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::error::Code;
use crate::id::HostId;
use crate::policy::ZONES_AT_ONCE_MAX;
use crate::rollout::{Away, Cause, Held, Quiet, WaitingOn, Wave};

/// Most reasons that one thing waits for at a time.
pub(super) const REASONS_MAX: usize = 64;

impl Wire for Wave {
    type Message = wire::Wave;

    fn to_wire(&self) -> wire::Wave {
        wire::Wave {
            wave: Some(match self {
                Self::OneBox => wire::wave::Wave::OneBox(wire::Nothing {}),
                Self::Zones(zones) => wire::wave::Wave::Zones(wire::ZonesWave { zones: to_names(zones) }),
                Self::Stripe { number, of } => {
                    wire::wave::Wave::Stripe(wire::StripeWave { number: *number, of: *of })
                }
            }),
        }
    }

    fn from_wire(message: wire::Wave) -> Result<Self, InvalidField> {
        let wire::Wave { wave } = message;
        match required("wave", wave)? {
            wire::wave::Wave::OneBox(wire::Nothing {}) => Ok(Self::OneBox),
            wire::wave::Wave::Zones(wire::ZonesWave { zones }) => {
                names("zones.zones", &zones, ZONES_AT_ONCE_MAX as usize).map(Self::Zones)
            }
            wire::wave::Wave::Stripe(wire::StripeWave { number, of }) => {
                Ok(Self::Stripe { number: between("stripe.number", number, 1, of)?, of })
            }
        }
    }
}

impl Wire for Cause {
    type Message = wire::Cause;

    fn to_wire(&self) -> wire::Cause {
        use wire::cause::Cause as Message;
        let cause = match self {
            Self::FailureBudget { host, failures, allowed, zone } => {
                let (host, failures, allowed) = (host.to_string(), *failures, *allowed);
                let zone = zone.as_ref().map(ToString::to_string);
                Message::FailureBudget(wire::FailureBudgetCrossed { host, failures, allowed, zone })
            }
            Self::LostBudget { exceptions, allowed } => {
                Message::LostBudget(wire::LostBudgetCrossed { exceptions: *exceptions, allowed: *allowed })
            }
            Self::NobodyUpdated { exceptions } => {
                Message::NobodyUpdated(wire::NobodyUpdated { exceptions: *exceptions })
            }
            Self::Operator { name, reason } => {
                Message::Operator(wire::ByOperator { name: name.clone(), reason: reason.clone() })
            }
            Self::RollbackFailed { host } => {
                Message::RollbackFailed(wire::RollbackFailed { host: host.to_string() })
            }
            Self::Law { law } => Message::Law(law.clone()),
            Self::GateClosed { gate } => Message::GateClosed(gate.to_string()),
        };
        wire::Cause { cause: Some(cause) }
    }

    fn from_wire(message: wire::Cause) -> Result<Self, InvalidField> {
        use wire::cause::Cause as Message;
        let wire::Cause { cause } = message;
        Ok(match required("cause", cause)? {
            Message::FailureBudget(wire::FailureBudgetCrossed { host, failures, allowed, zone }) => {
                Self::FailureBudget {
                    host: name("failure_budget.host", &host)?,
                    failures,
                    allowed,
                    zone: optional_name("failure_budget.zone", zone)?,
                }
            }
            Message::LostBudget(wire::LostBudgetCrossed { exceptions, allowed }) => {
                Self::LostBudget { exceptions, allowed }
            }
            Message::NobodyUpdated(wire::NobodyUpdated { exceptions }) => Self::NobodyUpdated { exceptions },
            Message::Operator(wire::ByOperator { name, reason }) => Self::Operator {
                name: required_line("operator.name", name, LINE_CHARS_MAX)?,
                reason: line("operator.reason", reason, LINE_CHARS_MAX)?,
            },
            Message::RollbackFailed(wire::RollbackFailed { host }) => {
                Self::RollbackFailed { host: name("rollback_failed.host", &host)? }
            }
            Message::GateClosed(gate) => Self::GateClosed { gate: name("gate_closed", &gate)? },
            Message::Law(law) => Self::Law { law: required_line("law", law, LINE_CHARS_MAX)? },
        })
    }
}

wire_enum!(Away { Lost, NotHeardYet, Changing, Drained, Unhealthy, Finishing });

impl Wire for (HostId, Away) {
    type Message = wire::AwayHost;

    fn to_wire(&self) -> wire::AwayHost {
        let (host, away) = self;
        wire::AwayHost { host: host.to_string(), away: away.to_wire() }
    }

    fn from_wire(message: wire::AwayHost) -> Result<Self, InvalidField> {
        let wire::AwayHost { host, away } = message;
        Ok((name("host", &host)?, value("away", away)?))
    }
}

impl Wire for Quiet {
    type Message = wire::QuietHost;

    fn to_wire(&self) -> wire::QuietHost {
        let Self { host, last_heard, phase } = self;
        wire::QuietHost {
            host: host.to_string(),
            last_heard_ms: last_heard.map(millis),
            phase: phase.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(message: wire::QuietHost) -> Result<Self, InvalidField> {
        let wire::QuietHost { host, last_heard_ms, phase } = message;
        let ago = |ms| duration("last_heard_ms", ms, Duration::MAX);
        Ok(Self {
            host: name("host", &host)?,
            last_heard: last_heard_ms.map(ago).transpose()?,
            phase: optional("phase", phase)?,
        })
    }
}

impl Wire for Held {
    type Message = wire::Held;

    fn to_wire(&self) -> wire::Held {
        use wire::held::Held as Message;
        let nothing = wire::Nothing {};
        let held = match self {
            Self::Operator { name, reason, left } => Message::Operator(wire::HeldByOperator {
                name: name.to_string(),
                reason: reason.clone(),
                left_ms: left.map(millis),
            }),
            Self::Clone => Message::Clone(nothing),
            Self::ForeignAssignment => Message::ForeignAssignment(nothing),
            Self::Revoked => Message::Revoked(nothing),
            Self::PenaltyBox { environment, failures, left } => Message::PenaltyBox(wire::PenaltyBox {
                environment: environment.to_string(),
                failures: *failures,
                left_ms: millis(*left),
            }),
        };
        wire::Held { held: Some(held) }
    }

    fn from_wire(message: wire::Held) -> Result<Self, InvalidField> {
        use wire::held::Held as Message;
        let wire::Held { held } = message;
        Ok(match required("held", held)? {
            Message::Operator(wire::HeldByOperator { name: operator, reason, left_ms }) => Self::Operator {
                name: name("operator.name", &operator)?,
                reason: line("operator.reason", reason, LINE_CHARS_MAX)?,
                left: left_ms.map(|ms| duration("operator.left_ms", ms, DURATION_MAX)).transpose()?,
            },
            Message::Clone(wire::Nothing {}) => Self::Clone,
            Message::ForeignAssignment(wire::Nothing {}) => Self::ForeignAssignment,
            Message::Revoked(wire::Nothing {}) => Self::Revoked,
            Message::PenaltyBox(wire::PenaltyBox { environment, failures, left_ms }) => Self::PenaltyBox {
                environment: name("penalty_box.environment", &environment)?,
                failures,
                left: duration("penalty_box.left_ms", left_ms, DURATION_MAX)?,
            },
        })
    }
}

impl Wire for WaitingOn {
    type Message = wire::WaitingOn;

    fn to_wire(&self) -> wire::WaitingOn {
        use wire::waiting_on::WaitingOn as Message;
        let nothing = wire::Nothing {};
        let waiting_on = match self {
            Self::Prepare { ready, of } => {
                Message::Prepare(wire::WaitingOnPrepare { ready: *ready, of: *of })
            }
            Self::Batch { open, more, quiet, deadline_in } => {
                Message::Batch(to_batch(open, *more, quiet, *deadline_in))
            }
            Self::Floor { zone, available, floor, unavailable } => Message::Floor(wire::WaitingOnFloor {
                zone: zone.as_ref().map(ToString::to_string),
                available: *available,
                floor: *floor,
                unavailable: to_list(unavailable),
            }),
            Self::Bake { wave, remaining } => {
                let (wave, remaining_ms) = (Some(wave.to_wire()), millis(*remaining));
                Message::Bake(wire::WaitingOnBake { wave, remaining_ms })
            }
            Self::Gate { gate, before, closed, halts_in } => {
                Message::Gate(gate::to_waiting(gate, before.as_ref(), closed, *halts_in))
            }
            Self::Health { hosts, more } => Message::Health(to_hosts(hosts, *more)),
            Self::OtherEnvironment { host, environment } => {
                let (host, environment) = (host.to_string(), environment.to_string());
                Message::OtherEnvironment(wire::WaitingOnOtherEnvironment { host, environment })
            }
            Self::Paused { by } => Message::PausedBy(by.clone()),
            Self::Halted { cause } => Message::Halted(cause.to_wire()),
            Self::Regressed => Message::Regressed(nothing),
            Self::UpToDate => Message::UpToDate(nothing),
            Self::NothingToRun => Message::NothingToRun(nothing),
            Self::Turn { wave, current } => Message::Turn(wire::WaitingOnTurn {
                wave: Some(wave.to_wire()),
                current: Some(current.to_wire()),
            }),
            Self::Queue { position, batch } => {
                Message::Queue(wire::WaitingOnQueue { position: *position, batch: *batch })
            }
            Self::CatchUp { hosts, more, away } => {
                Message::CatchUp(wire::WaitingOnCatchUp { hosts: to_names(hosts), more: *more, away: *away })
            }
            Self::OffBaked { hosts, more } => Message::OffBaked(to_hosts(hosts, *more)),
            Self::HeldHosts { hosts, more } => Message::HeldHosts(to_hosts(hosts, *more)),
            Self::Granted { quiet, deadline_in } => Message::Granted(wire::WaitingOnGranted {
                deadline_in_ms: millis(*deadline_in),
                quiet: quiet.as_ref().map(Wire::to_wire),
            }),
            Self::Silent { for_about, since_start } => Message::Silent(wire::WaitingOnSilent {
                for_about_ms: millis(*for_about),
                since_start: *since_start,
            }),
            Self::NotHeardYet => Message::NotHeardYet(nothing),
            Self::Held(held) => Message::Held(held.to_wire()),
            Self::Detached => Message::Detached(nothing),
            Self::Excepted { exception, rollout, code } => {
                let (exception, rollout, code) = (exception.to_wire(), rollout.0, to_code(*code));
                Message::Excepted(wire::WaitingOnExcepted { exception, rollout, code })
            }
            Self::JoinedLater { rollout } => Message::JoinedLaterThan(rollout.0),
            Self::WentBack { rollout } => Message::WentBackIn(rollout.0),
            Self::Failed { rollout, code } => {
                Message::Failed(wire::WaitingOnFailed { rollout: rollout.0, code: to_code(*code) })
            }
            Self::Retry { wave, left } => {
                Message::Retry(wire::WaitingOnRetry { wave: Some(wave.to_wire()), left: *left })
            }
            Self::Drained => Message::Drained(nothing),
        };
        wire::WaitingOn { waiting_on: Some(waiting_on) }
    }

    fn from_wire(message: wire::WaitingOn) -> Result<Self, InvalidField> {
        use wire::waiting_on::WaitingOn as Message;
        let wire::WaitingOn { waiting_on } = message;
        Ok(match required("waiting_on", waiting_on)? {
            Message::Prepare(wire::WaitingOnPrepare { ready, of }) => Self::Prepare { ready, of },
            Message::Batch(wire::WaitingOnBatch { open, more, deadline_in_ms, quiet }) => Self::Batch {
                open: hosts("batch.open", &open)?,
                more,
                quiet: list("batch.quiet", quiet, NAMED_HOSTS_MAX)?,
                deadline_in: duration("batch.deadline_in_ms", deadline_in_ms, DURATION_MAX)?,
            },
            Message::Floor(wire::WaitingOnFloor { zone, available, floor, unavailable }) => Self::Floor {
                zone: optional_name("floor.zone", zone)?,
                available,
                floor,
                unavailable: list("floor.unavailable", unavailable, NAMED_HOSTS_MAX)?,
            },
            Message::Bake(wire::WaitingOnBake { wave, remaining_ms }) => Self::Bake {
                wave: nested("bake.wave", wave)?,
                remaining: duration("bake.remaining_ms", remaining_ms, DURATION_MAX)?,
            },
            Message::Gate(gate) => gate::from_waiting(gate)?,
            Message::Health(some) => named("health", some, |hosts, more| Self::Health { hosts, more })?,
            Message::OtherEnvironment(message) => other_environment(message)?,
            Message::PausedBy(by) => Self::Paused { by: required_line("paused_by", by, LINE_CHARS_MAX)? },
            Message::Halted(cause) => Self::Halted { cause: value("halted", cause)? },
            Message::Turn(wire::WaitingOnTurn { wave, current }) => {
                Self::Turn { wave: nested("turn.wave", wave)?, current: nested("turn.current", current)? }
            }
            Message::Queue(wire::WaitingOnQueue { position, batch }) => Self::Queue { position, batch },
            Message::CatchUp(wire::WaitingOnCatchUp { hosts: some, more, away }) => {
                Self::CatchUp { hosts: hosts("catch_up.hosts", &some)?, more, away }
            }
            Message::OffBaked(some) => {
                named("off_baked", some, |hosts, more| Self::OffBaked { hosts, more })?
            }
            Message::Granted(wire::WaitingOnGranted { deadline_in_ms, quiet }) => Self::Granted {
                quiet: optional("granted.quiet", quiet)?,
                deadline_in: duration("granted.deadline_in_ms", deadline_in_ms, DURATION_MAX)?,
            },
            Message::Silent(wire::WaitingOnSilent { for_about_ms, since_start }) => Self::Silent {
                for_about: duration("silent.for_about_ms", for_about_ms, Duration::MAX)?,
                since_start,
            },
            Message::Held(held) => Self::Held(value("held", held)?),
            Message::HeldHosts(some) => {
                named("held_hosts", some, |hosts, more| Self::HeldHosts { hosts, more })?
            }
            Message::Excepted(message) => excepted(message)?,
            Message::Failed(wire::WaitingOnFailed { rollout, code }) => Self::Failed {
                rollout: rollout_id("failed.rollout", rollout)?,
                code: optional_code("failed.code", code)?,
            },
            Message::Retry(wire::WaitingOnRetry { wave, left }) => {
                Self::Retry { wave: nested("retry.wave", wave)?, left }
            }
            Message::Drained(wire::Nothing {}) => Self::Drained,
            Message::JoinedLaterThan(id) => {
                Self::JoinedLater { rollout: rollout_id("joined_later_than", id)? }
            }
            Message::WentBackIn(id) => Self::WentBack { rollout: rollout_id("went_back_in", id)? },
            Message::Regressed(wire::Nothing {}) => Self::Regressed,
            Message::UpToDate(wire::Nothing {}) => Self::UpToDate,
            Message::NothingToRun(wire::Nothing {}) => Self::NothingToRun,
            Message::NotHeardYet(wire::Nothing {}) => Self::NotHeardYet,
            Message::Detached(wire::Nothing {}) => Self::Detached,
        })
    }
}

fn to_batch(open: &[HostId], more: u32, quiet: &[Quiet], deadline_in: Duration) -> wire::WaitingOnBatch {
    let (open, quiet, deadline_in_ms) = (to_names(open), to_list(quiet), millis(deadline_in));
    wire::WaitingOnBatch { open, more, quiet, deadline_in_ms }
}

fn to_hosts(hosts: &[HostId], more: u32) -> wire::WaitingOnHosts {
    wire::WaitingOnHosts { hosts: to_names(hosts), more }
}

fn named(
    field: &str,
    message: wire::WaitingOnHosts,
    make: impl Fn(Vec<HostId>, u32) -> WaitingOn,
) -> Result<WaitingOn, InvalidField> {
    let wire::WaitingOnHosts { hosts: some, more } = message;
    Ok(make(hosts(&format!("{field}.hosts"), &some)?, more))
}

fn other_environment(message: wire::WaitingOnOtherEnvironment) -> Result<WaitingOn, InvalidField> {
    let wire::WaitingOnOtherEnvironment { host, environment } = message;
    Ok(WaitingOn::OtherEnvironment {
        host: name("other_environment.host", &host)?,
        environment: name("other_environment.environment", &environment)?,
    })
}

fn excepted(message: wire::WaitingOnExcepted) -> Result<WaitingOn, InvalidField> {
    let wire::WaitingOnExcepted { exception, rollout, code } = message;
    Ok(WaitingOn::Excepted {
        exception: value("excepted.exception", exception)?,
        rollout: rollout_id("excepted.rollout", rollout)?,
        code: optional_code("excepted.code", code)?,
    })
}

fn to_code(code: Option<Code>) -> Option<String> {
    code.map(|code| code.to_string())
}

fn optional_code(field: &str, code: Option<String>) -> Result<Option<Code>, InvalidField> {
    code.map(|code| error_code(field, &code)).transpose()
}

pub(super) fn hosts(field: &str, texts: &[String]) -> Result<Vec<HostId>, InvalidField> {
    names(field, texts, NAMED_HOSTS_MAX)
}
