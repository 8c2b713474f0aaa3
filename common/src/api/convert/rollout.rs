//! Rollouts, and why something waits.

use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, NAMED_HOSTS_MAX, Wire, duration, line, list, name, names, nested,
    optional, optional_name, required, required_line, rollout_id, to_list, to_names, value, wall_time,
    wire_enum,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::id::HostId;
use crate::report::Phase;
use crate::rollout::{Cause, Exception, HostState, RolloutState, WaitingOn, Wave};
use crate::view::{HostInRollout, RolloutView, WaveStatus, WaveView, ZoneView};

/// Most reasons that one thing waits for at a time.
pub(super) const REASONS_MAX: usize = 64;
/// Most exceptions that a rollout names: five per cent, the lost budget, of twice the largest fleet.
const EXCEPTIONS_MAX: usize = 10_000;

wire_enum!(RolloutState {
    Preparing,
    Rolling,
    Baking,
    Waiting,
    Paused,
    Halted,
    RollingBack,
    Succeeded,
    RolledBack,
    Superseded,
    Aborted,
});
wire_enum!(Exception { Silent, LostAfterSettling, DownBefore, PrepareFailed, Held, Left });
wire_enum!(WaveStatus { Done, Current, ToCome });

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
                Self::Silent { for_about: duration("silent_for_about_ms", ms, std::time::Duration::MAX)? }
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

impl Wire for ZoneView {
    type Message = wire::ZoneView;

    fn to_wire(&self) -> wire::ZoneView {
        let Self { zone, hosts, in_service, available, floor, updated, moving } = self;
        wire::ZoneView {
            zone: zone.to_string(),
            hosts: *hosts,
            in_service: *in_service,
            available: *available,
            floor: *floor,
            updated: *updated,
            moving: *moving,
        }
    }

    fn from_wire(message: wire::ZoneView) -> Result<Self, InvalidField> {
        let wire::ZoneView { zone, hosts, in_service, available, floor, updated, moving } = message;
        Ok(Self { zone: name("zone", &zone)?, hosts, in_service, available, floor, updated, moving })
    }
}

impl Wire for WaveView {
    type Message = wire::WaveView;

    fn to_wire(&self) -> wire::WaveView {
        let Self { wave, status, hosts, settled, bake } = self;
        wire::WaveView {
            wave: Some(wave.to_wire()),
            status: status.to_wire(),
            hosts: *hosts,
            settled: *settled,
            bake_ms: millis(*bake),
        }
    }

    fn from_wire(message: wire::WaveView) -> Result<Self, InvalidField> {
        let wire::WaveView { wave, status, hosts, settled, bake_ms } = message;
        Ok(Self {
            wave: nested("wave", wave)?,
            status: value("status", status)?,
            hosts,
            settled,
            bake: duration("bake_ms", bake_ms, DURATION_MAX)?,
        })
    }
}

/// A host's state as its kind, with a phase where it has one.
fn split(state: HostState) -> (wire::HostStateKind, Option<Phase>) {
    use wire::HostStateKind as Kind;
    match state {
        HostState::Waiting => (Kind::Waiting, None),
        HostState::Preparing => (Kind::Preparing, None),
        HostState::Ready => (Kind::Ready, None),
        HostState::Activating(phase) => (Kind::Activating, Some(phase)),
        HostState::Proving => (Kind::Proving, None),
        HostState::Settled => (Kind::Settled, None),
        HostState::Reverting => (Kind::Reverting, None),
        HostState::Reverted => (Kind::Reverted, None),
        HostState::Failed(phase) => (Kind::Failed, Some(phase)),
        HostState::TakenBack => (Kind::TakenBack, None),
        HostState::Excepted => (Kind::Excepted, None),
        HostState::Outside => (Kind::Outside, None),
    }
}

fn join(kind: i32, phase: Option<Phase>) -> Result<HostState, InvalidField> {
    use wire::HostStateKind as Kind;
    let kind = Kind::try_from(kind).map_err(|_| {
        InvalidField::new("state", format!("has the value {kind}, which this version does not know"))
    })?;
    if kind == Kind::Activating || kind == Kind::Failed {
        let phase = required("phase", phase)?;
        return Ok(if kind == Kind::Failed {
            HostState::Failed(phase)
        } else {
            HostState::Activating(phase)
        });
    }
    if phase.is_some() {
        return Err(InvalidField::new("phase", "does not belong to this state"));
    }
    Ok(match kind {
        Kind::Unspecified | Kind::Activating | Kind::Failed => {
            return Err(InvalidField::new("state", "is missing"));
        }
        Kind::Waiting => HostState::Waiting,
        Kind::Preparing => HostState::Preparing,
        Kind::Ready => HostState::Ready,
        Kind::Proving => HostState::Proving,
        Kind::Settled => HostState::Settled,
        Kind::Reverting => HostState::Reverting,
        Kind::Reverted => HostState::Reverted,
        Kind::TakenBack => HostState::TakenBack,
        Kind::Excepted => HostState::Excepted,
        Kind::Outside => HostState::Outside,
    })
}

impl Wire for HostInRollout {
    type Message = wire::HostInRollout;

    fn to_wire(&self) -> wire::HostInRollout {
        let Self { host, zone, state, lost, held, failure } = self;
        let (kind, phase) = split(*state);
        wire::HostInRollout {
            host: host.to_string(),
            zone: zone.to_string(),
            state: kind.into(),
            phase: phase.as_ref().map(Wire::to_wire),
            lost: *lost,
            held: *held,
            failure: failure.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(message: wire::HostInRollout) -> Result<Self, InvalidField> {
        let wire::HostInRollout { host, zone, state, phase, lost, held, failure } = message;
        Ok(Self {
            host: name("host", &host)?,
            zone: name("zone", &zone)?,
            state: join(state, optional("phase", phase)?)?,
            lost,
            held,
            failure: optional("failure", failure)?,
        })
    }
}

impl Wire for (HostId, Exception) {
    type Message = wire::ExceptedHost;

    fn to_wire(&self) -> wire::ExceptedHost {
        let (host, exception) = self;
        wire::ExceptedHost { host: host.to_string(), exception: exception.to_wire() }
    }

    fn from_wire(message: wire::ExceptedHost) -> Result<Self, InvalidField> {
        let wire::ExceptedHost { host, exception } = message;
        Ok((name("host", &host)?, value("exception", exception)?))
    }
}

impl Wire for RolloutView {
    type Message = wire::RolloutView;

    fn to_wire(&self) -> wire::RolloutView {
        let Self {
            id,
            environment,
            state,
            cause,
            from,
            to,
            started_by,
            reason,
            started_at,
            ended_at,
            revision,
            waves,
            zones,
            waiting,
            hosts,
            updated,
            failures,
            floor,
            available,
            notable,
            exceptions,
        } = self;
        wire::RolloutView {
            id: id.0,
            environment: environment.to_string(),
            state: state.to_wire(),
            cause: cause.as_ref().map(Wire::to_wire),
            from: Some(from.to_wire()),
            to: Some(to.to_wire()),
            started_by: started_by.to_string(),
            reason: reason.clone(),
            started_at_ms: started_at.0,
            ended_at_ms: ended_at.map(|time| time.0),
            revision: *revision,
            waves: to_list(waves),
            zones: to_list(zones),
            waiting: to_list(waiting),
            hosts: *hosts,
            updated: *updated,
            failures: *failures,
            floor: *floor,
            available: *available,
            notable: to_list(notable),
            exceptions: to_list(exceptions),
        }
    }

    fn from_wire(message: wire::RolloutView) -> Result<Self, InvalidField> {
        let wire::RolloutView {
            id,
            environment,
            state,
            cause,
            from,
            to,
            started_by,
            reason,
            started_at_ms,
            ended_at_ms,
            revision,
            waves,
            zones,
            waiting,
            hosts,
            updated,
            failures,
            floor,
            available,
            notable,
            exceptions,
        } = message;
        Ok(Self {
            id: rollout_id("id", id)?,
            environment: name("environment", &environment)?,
            state: value("state", state)?,
            cause: optional("cause", cause)?,
            from: nested("from", from)?,
            to: nested("to", to)?,
            started_by: name("started_by", &started_by)?,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
            started_at: wall_time("started_at_ms", started_at_ms)?,
            ended_at: ended_at_ms.map(|ms| wall_time("ended_at_ms", ms)).transpose()?,
            revision,
            waves: list("waves", waves, LIST_MAX)?,
            zones: list("zones", zones, LIST_MAX)?,
            waiting: list("waiting", waiting, REASONS_MAX)?,
            hosts,
            updated,
            failures,
            floor,
            available,
            notable: list("notable", notable, NAMED_HOSTS_MAX)?,
            exceptions: list("exceptions", exceptions, EXCEPTIONS_MAX)?,
        })
    }
}
