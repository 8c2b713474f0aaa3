//! What a rollout is to be, and what it would do.

use super::view::WORD_BYTES_MAX;
use super::waiting::{REASONS_MAX, hosts};
use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, NAMED_HOSTS_MAX, Wire, digest, distinct, duration, line, list,
    name, names, nested, optional, optional_name, required, rollout_id, to_bytes, to_list, to_names, value,
    word,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::command::{EXCLUDED_MAX, StartRollout};
use crate::id::HostId;
use crate::plan::{
    BATCHES_SHOWN_MAX, Fault, Flown, ModelTime, PlannedBatch, PlannedCapacity, PlannedWait, PlannedWave,
    RolloutPlan, WHAT_IFS_MAX, WhatIf,
};
use crate::policy::gate::GATES_MAX;

impl Wire for StartRollout {
    type Message = wire::StartRolloutRequest;

    fn to_wire(&self) -> wire::StartRolloutRequest {
        let Self {
            environment,
            version_set,
            reason,
            supersede,
            force,
            allow_outage,
            idempotency_key,
            plan_hash,
            policy,
            exclude,
        } = self;
        wire::StartRolloutRequest {
            environment: environment.to_string(),
            version_set: version_set.to_string(),
            reason: reason.clone(),
            supersede: *supersede,
            force: *force,
            allow_outage: *allow_outage,
            idempotency_key: idempotency_key.clone(),
            plan_hash: plan_hash.map(|hash| to_bytes(hash.as_bytes())),
            policy: policy.as_ref().map(Wire::to_wire),
            exclude: to_names(exclude),
        }
    }

    fn from_wire(message: wire::StartRolloutRequest) -> Result<Self, InvalidField> {
        let wire::StartRolloutRequest {
            environment,
            version_set,
            reason,
            supersede,
            force,
            allow_outage,
            idempotency_key,
            plan_hash,
            policy,
            exclude,
        } = message;
        let exclude: Vec<HostId> = names("exclude", &exclude, EXCLUDED_MAX)?;
        distinct("exclude", &exclude)?;
        Ok(Self {
            environment: name("environment", &environment)?,
            version_set: name("version_set", &version_set)?,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
            supersede,
            force,
            allow_outage,
            idempotency_key: idempotency_key
                .map(|key| word("idempotency_key", key, WORD_BYTES_MAX))
                .transpose()?,
            plan_hash: plan_hash.map(|hash| digest("plan_hash", &hash)).transpose()?,
            policy: optional("policy", policy)?,
            exclude,
        })
    }
}

impl Wire for RolloutPlan {
    type Message = wire::PlanRolloutResponse;

    fn to_wire(&self) -> wire::PlanRolloutResponse {
        let Self { plan_hash, from, to, hosts, supersedes, excluded, flown, prepare, activation, what_ifs } =
            self;
        wire::PlanRolloutResponse {
            plan_hash: to_bytes(plan_hash.as_bytes()),
            from: Some(from.to_wire()),
            to: Some(to.to_wire()),
            hosts: *hosts,
            supersedes: supersedes.map(|id| id.0),
            flown: Some(flown.to_wire()),
            prepare: Some(prepare.to_wire()),
            activation: Some(activation.to_wire()),
            what_ifs: to_list(what_ifs),
            excluded: to_names(excluded),
        }
    }

    fn from_wire(message: wire::PlanRolloutResponse) -> Result<Self, InvalidField> {
        let wire::PlanRolloutResponse {
            plan_hash,
            from,
            to,
            hosts,
            supersedes,
            flown,
            prepare,
            activation,
            what_ifs,
            excluded,
        } = message;
        Ok(Self {
            plan_hash: digest("plan_hash", &plan_hash)?,
            from: nested("from", from)?,
            to: nested("to", to)?,
            hosts,
            supersedes: supersedes.map(|id| rollout_id("supersedes", id)).transpose()?,
            flown: nested("flown", flown)?,
            prepare: nested("prepare", prepare)?,
            activation: nested("activation", activation)?,
            what_ifs: list("what_ifs", what_ifs, WHAT_IFS_MAX)?,
            excluded: names("excluded", &excluded, EXCLUDED_MAX)?,
        })
    }
}

impl Wire for Flown {
    type Message = wire::Flown;

    fn to_wire(&self) -> wire::Flown {
        let Self {
            waves,
            lasts,
            state,
            cause,
            waiting,
            cut_short,
            capacity,
            left_out,
            left_out_more,
            assumed_open,
        } = self;
        wire::Flown {
            waves: to_list(waves),
            lasts_ms: millis(*lasts),
            state: state.to_wire(),
            cause: cause.as_ref().map(Wire::to_wire),
            waiting: to_list(waiting),
            cut_short: *cut_short,
            capacity: to_list(capacity),
            left_out: to_list(left_out),
            left_out_more: *left_out_more,
            assumed_open: to_names(assumed_open),
        }
    }

    fn from_wire(message: wire::Flown) -> Result<Self, InvalidField> {
        let wire::Flown {
            waves,
            lasts_ms,
            state,
            cause,
            waiting,
            cut_short,
            capacity,
            left_out,
            left_out_more,
            assumed_open,
        } = message;
        Ok(Self {
            waves: list("waves", waves, LIST_MAX)?,
            lasts: duration("lasts_ms", lasts_ms, DURATION_MAX)?,
            state: value("state", state)?,
            cause: optional("cause", cause)?,
            waiting: list("waiting", waiting, REASONS_MAX)?,
            cut_short,
            capacity: list("capacity", capacity, LIST_MAX)?,
            left_out: list("left_out", left_out, NAMED_HOSTS_MAX)?,
            left_out_more,
            assumed_open: names("assumed_open", &assumed_open, GATES_MAX)?,
        })
    }
}

impl Wire for PlannedWave {
    type Message = wire::PlannedWave;

    fn to_wire(&self) -> wire::PlannedWave {
        let Self { wave, begins, ends, hosts, batches, first, waits } = self;
        wire::PlannedWave {
            wave: Some(wave.to_wire()),
            begins_ms: millis(*begins),
            ends_ms: millis(*ends),
            hosts: *hosts,
            batches: *batches,
            first: to_list(first),
            waits: to_list(waits),
        }
    }

    fn from_wire(message: wire::PlannedWave) -> Result<Self, InvalidField> {
        let wire::PlannedWave { wave, begins_ms, ends_ms, hosts, batches, first, waits } = message;
        Ok(Self {
            wave: nested("wave", wave)?,
            begins: duration("begins_ms", begins_ms, DURATION_MAX)?,
            ends: duration("ends_ms", ends_ms, DURATION_MAX)?,
            hosts,
            batches,
            first: list("first", first, BATCHES_SHOWN_MAX)?,
            waits: list("waits", waits, REASONS_MAX)?,
        })
    }
}

impl Wire for PlannedBatch {
    type Message = wire::PlannedBatch;

    fn to_wire(&self) -> wire::PlannedBatch {
        let Self { number, begins, hosts, first } = self;
        wire::PlannedBatch {
            number: *number,
            begins_ms: millis(*begins),
            hosts: *hosts,
            first: to_names(first),
        }
    }

    fn from_wire(message: wire::PlannedBatch) -> Result<Self, InvalidField> {
        let wire::PlannedBatch { number, begins_ms, hosts: all, first } = message;
        Ok(Self {
            number,
            begins: duration("begins_ms", begins_ms, DURATION_MAX)?,
            hosts: all,
            first: hosts("first", &first)?,
        })
    }
}

impl Wire for PlannedWait {
    type Message = wire::PlannedWait;

    fn to_wire(&self) -> wire::PlannedWait {
        let Self { waiting, lasts } = self;
        wire::PlannedWait { waiting: Some(waiting.to_wire()), lasts_ms: millis(*lasts) }
    }

    fn from_wire(message: wire::PlannedWait) -> Result<Self, InvalidField> {
        let wire::PlannedWait { waiting, lasts_ms } = message;
        Ok(Self {
            waiting: nested("waiting", waiting)?,
            lasts: duration("lasts_ms", lasts_ms, DURATION_MAX)?,
        })
    }
}

impl Wire for PlannedCapacity {
    type Message = wire::PlannedCapacity;

    fn to_wire(&self) -> wire::PlannedCapacity {
        let Self { zone, available, lowest, floor } = self;
        let zone = zone.as_ref().map(ToString::to_string);
        wire::PlannedCapacity { zone, available: *available, lowest: *lowest, floor: *floor }
    }

    fn from_wire(message: wire::PlannedCapacity) -> Result<Self, InvalidField> {
        let wire::PlannedCapacity { zone, available, lowest, floor } = message;
        Ok(Self { zone: optional_name("zone", zone)?, available, lowest, floor })
    }
}

impl Wire for ModelTime {
    type Message = wire::ModelTime;

    fn to_wire(&self) -> wire::ModelTime {
        let Self { half, nine_in_ten, taken_from } = self;
        wire::ModelTime {
            half_ms: millis(*half),
            nine_in_ten_ms: millis(*nine_in_ten),
            taken_from: *taken_from,
        }
    }

    fn from_wire(message: wire::ModelTime) -> Result<Self, InvalidField> {
        let wire::ModelTime { half_ms, nine_in_ten_ms, taken_from } = message;
        Ok(Self {
            half: duration("half_ms", half_ms, DURATION_MAX)?,
            nine_in_ten: duration("nine_in_ten_ms", nine_in_ten_ms, DURATION_MAX)?,
            taken_from,
        })
    }
}

impl Wire for Fault {
    type Message = wire::Fault;

    fn to_wire(&self) -> wire::Fault {
        use wire::fault::Fault as Message;
        wire::Fault {
            fault: Some(match self {
                Self::AtOnce => Message::AtOnce(wire::Nothing {}),
                Self::InZone(zone) => Message::InZone(zone.to_string()),
                Self::Late { after } => Message::LateMs(millis(*after)),
            }),
        }
    }

    fn from_wire(message: wire::Fault) -> Result<Self, InvalidField> {
        use wire::fault::Fault as Message;
        let wire::Fault { fault } = message;
        match required("fault", fault)? {
            Message::AtOnce(wire::Nothing {}) => Ok(Self::AtOnce),
            Message::InZone(zone) => name("in_zone", &zone).map(Self::InZone),
            Message::LateMs(ms) => duration("late_ms", ms, DURATION_MAX).map(|after| Self::Late { after }),
        }
    }
}

impl Wire for WhatIf {
    type Message = wire::WhatIf;

    fn to_wire(&self) -> wire::WhatIf {
        let Self { fault, hosts_met, met, stops_after, back_after, state, cut_short, capacity } = self;
        wire::WhatIf {
            fault: Some(fault.to_wire()),
            hosts_met: *hosts_met,
            met_ms: millis(*met),
            stops_after_ms: stops_after.map(millis),
            back_after_ms: back_after.map(millis),
            state: state.to_wire(),
            cut_short: *cut_short,
            capacity: to_list(capacity),
        }
    }

    fn from_wire(message: wire::WhatIf) -> Result<Self, InvalidField> {
        let wire::WhatIf {
            fault,
            hosts_met,
            met_ms,
            stops_after_ms,
            back_after_ms,
            state,
            cut_short,
            capacity,
        } = message;
        let after = |field, ms: Option<u64>| ms.map(|ms| duration(field, ms, DURATION_MAX)).transpose();
        Ok(Self {
            fault: nested("fault", fault)?,
            hosts_met,
            met: duration("met_ms", met_ms, DURATION_MAX)?,
            stops_after: after("stops_after_ms", stops_after_ms)?,
            back_after: after("back_after_ms", back_after_ms)?,
            state: value("state", state)?,
            cut_short,
            capacity: list("capacity", capacity, LIST_MAX)?,
        })
    }
}
