//! Rollouts, as operators see them.

use super::waiting::REASONS_MAX;
use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, NAMED_HOSTS_MAX, Wire, duration, line, list, name, names, nested,
    optional, required, rollout_id, to_list, to_names, value, wall_time, wire_enum,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::id::HostId;
use crate::report::Phase;
use crate::rollout::{Exception, HostState, RolloutState};
use crate::view::{HostInRollout, RolloutView, WaveStatus, WaveView, ZoneView};

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
wire_enum!(Exception { Silent, LostAfterSettling, DownBefore, PrepareFailed, Held, PassedBy, Excluded });
wire_enum!(WaveStatus { Done, Current, ToCome, Failed, Stopped });

impl Wire for ZoneView {
    type Message = wire::ZoneView;

    fn to_wire(&self) -> wire::ZoneView {
        let Self { zone, hosts, in_service, available, floor, updated, moving, off_baked } = self;
        wire::ZoneView {
            zone: zone.to_string(),
            hosts: *hosts,
            in_service: *in_service,
            available: *available,
            floor: *floor,
            updated: *updated,
            moving: *moving,
            off_baked: *off_baked,
        }
    }

    fn from_wire(message: wire::ZoneView) -> Result<Self, InvalidField> {
        let wire::ZoneView { zone, hosts, in_service, available, floor, updated, moving, off_baked } =
            message;
        Ok(Self {
            zone: name("zone", &zone)?,
            hosts,
            in_service,
            available,
            floor,
            updated,
            moving,
            off_baked,
        })
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

/// Most decisions that a rollout shows.
const DECISIONS_MAX: usize = 32;

impl Wire for RolloutView {
    type Message = wire::RolloutView;

    fn to_wire(&self) -> wire::RolloutView {
        let Self {
            id,
            environment,
            state,
            cause,
            first_cause,
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
            decisions,
            untouched_unwell,
        } = self;
        wire::RolloutView {
            id: id.0,
            environment: environment.to_string(),
            state: state.to_wire(),
            cause: cause.as_ref().map(Wire::to_wire),
            first_cause: first_cause.as_ref().map(Wire::to_wire),
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
            decisions: to_list(decisions),
            untouched_unwell: to_names(untouched_unwell),
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
            first_cause,
            decisions,
            untouched_unwell,
        } = message;
        Ok(Self {
            id: rollout_id("id", id)?,
            environment: name("environment", &environment)?,
            state: value("state", state)?,
            cause: optional("cause", cause)?,
            first_cause: optional("first_cause", first_cause)?,
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
            decisions: list("decisions", decisions, DECISIONS_MAX)?,
            untouched_unwell: names("untouched_unwell", &untouched_unwell, NAMED_HOSTS_MAX)?,
        })
    }
}
