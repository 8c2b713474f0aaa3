//! Why something waits, was halted or taken back.

use std::time::Duration;

use super::{
    InvalidField, LINE_CHARS_MAX, NAMED_HOSTS_MAX, Wire, duration, line, name, names, nested, optional_name,
    required, required_line, rollout_id, to_names, value,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::id::HostId;
use crate::rollout::{Cause, WaitingOn, Wave};

/// Most reasons that one thing waits for at a time.
pub(super) const REASONS_MAX: usize = 64;

impl Wire for Wave {
    type Message = wire::Wave;

    fn to_wire(&self) -> wire::Wave {
        wire::Wave {
            wave: Some(match self {
                Self::OneBox => wire::wave::Wave::OneBox(wire::Nothing {}),
                Self::Zone(zone) => wire::wave::Wave::Zone(zone.to_string()),
            }),
        }
    }

    fn from_wire(message: wire::Wave) -> Result<Self, InvalidField> {
        let wire::Wave { wave } = message;
        match required("wave", wave)? {
            wire::wave::Wave::OneBox(wire::Nothing {}) => Ok(Self::OneBox),
            wire::wave::Wave::Zone(zone) => name("zone", &zone).map(Self::Zone),
        }
    }
}

impl Wire for Cause {
    type Message = wire::Cause;

    fn to_wire(&self) -> wire::Cause {
        use wire::cause::Cause as Message;
        let cause = match self {
            Self::FailureBudget { host, failures, allowed } => {
                let (host, failures, allowed) = (host.to_string(), *failures, *allowed);
                Message::FailureBudget(wire::FailureBudgetCrossed { host, failures, allowed })
            }
            Self::LostBudget { exceptions, allowed } => {
                Message::LostBudget(wire::LostBudgetCrossed { exceptions: *exceptions, allowed: *allowed })
            }
            Self::Operator { name, reason } => {
                Message::Operator(wire::ByOperator { name: name.clone(), reason: reason.clone() })
            }
            Self::RollbackFailed { host } => {
                Message::RollbackFailed(wire::RollbackFailed { host: host.to_string() })
            }
            Self::Law { law } => Message::Law(law.clone()),
        };
        wire::Cause { cause: Some(cause) }
    }

    fn from_wire(message: wire::Cause) -> Result<Self, InvalidField> {
        use wire::cause::Cause as Message;
        let wire::Cause { cause } = message;
        Ok(match required("cause", cause)? {
            Message::FailureBudget(wire::FailureBudgetCrossed { host, failures, allowed }) => {
                Self::FailureBudget { host: name("failure_budget.host", &host)?, failures, allowed }
            }
            Message::LostBudget(wire::LostBudgetCrossed { exceptions, allowed }) => {
                Self::LostBudget { exceptions, allowed }
            }
            Message::Operator(wire::ByOperator { name, reason }) => Self::Operator {
                name: required_line("operator.name", name, LINE_CHARS_MAX)?,
                reason: line("operator.reason", reason, LINE_CHARS_MAX)?,
            },
            Message::RollbackFailed(wire::RollbackFailed { host }) => {
                Self::RollbackFailed { host: name("rollback_failed.host", &host)? }
            }
            Message::Law(law) => Self::Law { law: required_line("law", law, LINE_CHARS_MAX)? },
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
            Self::Batch { open, more, deadline_in } => Message::Batch(wire::WaitingOnBatch {
                open: to_names(open),
                more: *more,
                deadline_in_ms: millis(*deadline_in),
            }),
            Self::Floor { zone, available, floor, unavailable } => Message::Floor(wire::WaitingOnFloor {
                zone: zone.as_ref().map(ToString::to_string),
                available: *available,
                floor: *floor,
                unavailable: to_names(unavailable),
            }),
            Self::Bake { wave, remaining } => Message::Bake(wire::WaitingOnBake {
                wave: Some(wave.to_wire()),
                remaining_ms: millis(*remaining),
            }),
            Self::Health { hosts, more } => {
                Message::Health(wire::WaitingOnHealth { hosts: to_names(hosts), more: *more })
            }
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
            Self::Granted { deadline_in } => Message::GrantedDeadlineInMs(millis(*deadline_in)),
            Self::Silent { for_about } => Message::SilentForAboutMs(millis(*for_about)),
            Self::NotHeardYet => Message::NotHeardYet(nothing),
            Self::Held { reason } => Message::Held(reason.clone()),
            Self::Detached => Message::Detached(nothing),
            Self::Excepted { exception, rollout } => Message::Excepted(wire::WaitingOnExcepted {
                exception: exception.to_wire(),
                rollout: rollout.0,
            }),
            Self::JoinedLater { rollout } => Message::JoinedLaterThan(rollout.0),
            Self::WentBack { rollout } => Message::WentBackIn(rollout.0),
        };
        wire::WaitingOn { waiting_on: Some(waiting_on) }
    }

    fn from_wire(message: wire::WaitingOn) -> Result<Self, InvalidField> {
        use wire::waiting_on::WaitingOn as Message;
        let wire::WaitingOn { waiting_on } = message;
        Ok(match required("waiting_on", waiting_on)? {
            Message::Prepare(wire::WaitingOnPrepare { ready, of }) => Self::Prepare { ready, of },
            Message::Batch(wire::WaitingOnBatch { open, more, deadline_in_ms }) => Self::Batch {
                open: hosts("batch.open", &open)?,
                more,
                deadline_in: duration("batch.deadline_in_ms", deadline_in_ms, DURATION_MAX)?,
            },
            Message::Floor(wire::WaitingOnFloor { zone, available, floor, unavailable }) => Self::Floor {
                zone: optional_name("floor.zone", zone)?,
                available,
                floor,
                unavailable: hosts("floor.unavailable", &unavailable)?,
            },
            Message::Bake(wire::WaitingOnBake { wave, remaining_ms }) => Self::Bake {
                wave: nested("bake.wave", wave)?,
                remaining: duration("bake.remaining_ms", remaining_ms, DURATION_MAX)?,
            },
            Message::Health(wire::WaitingOnHealth { hosts: some, more }) => {
                Self::Health { hosts: hosts("health.hosts", &some)?, more }
            }
            Message::OtherEnvironment(wire::WaitingOnOtherEnvironment { host, environment }) => {
                Self::OtherEnvironment {
                    host: name("other_environment.host", &host)?,
                    environment: name("other_environment.environment", &environment)?,
                }
            }
            Message::PausedBy(by) => Self::Paused { by: required_line("paused_by", by, LINE_CHARS_MAX)? },
            Message::Halted(cause) => Self::Halted { cause: value("halted", cause)? },
            Message::Turn(wire::WaitingOnTurn { wave, current }) => {
                Self::Turn { wave: nested("turn.wave", wave)?, current: nested("turn.current", current)? }
            }
            Message::Queue(wire::WaitingOnQueue { position, batch }) => Self::Queue { position, batch },
            Message::GrantedDeadlineInMs(ms) => {
                Self::Granted { deadline_in: duration("granted_deadline_in_ms", ms, DURATION_MAX)? }
            }
            Message::SilentForAboutMs(ms) => {
                Self::Silent { for_about: duration("silent_for_about_ms", ms, Duration::MAX)? }
            }
            Message::Held(reason) => Self::Held { reason: required_line("held", reason, LINE_CHARS_MAX)? },
            Message::Excepted(wire::WaitingOnExcepted { exception, rollout }) => Self::Excepted {
                exception: value("excepted.exception", exception)?,
                rollout: rollout_id("excepted.rollout", rollout)?,
            },
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

pub(super) fn hosts(field: &str, texts: &[String]) -> Result<Vec<HostId>, InvalidField> {
    names(field, texts, NAMED_HOSTS_MAX)
}
