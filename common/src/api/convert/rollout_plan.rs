//! What a rollout is to be, and what it would do.

use super::view::WORD_BYTES_MAX;
use super::waiting::hosts;
use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, Wire, digest, distinct, duration, line, list, name, names,
    nested, optional, rollout_id, to_bytes, to_list, to_names, word,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::command::{EXCLUDED_MAX, PlannedWave, RolloutPlan, StartRollout};
use crate::id::HostId;

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
        let Self { plan_hash, from, to, waves, hosts, floor, supersedes, excluded } = self;
        wire::PlanRolloutResponse {
            plan_hash: to_bytes(plan_hash.as_bytes()),
            from: Some(from.to_wire()),
            to: Some(to.to_wire()),
            waves: to_list(waves),
            hosts: *hosts,
            floor: *floor,
            supersedes: supersedes.map(|id| id.0),
            excluded: to_names(excluded),
        }
    }

    fn from_wire(message: wire::PlanRolloutResponse) -> Result<Self, InvalidField> {
        let wire::PlanRolloutResponse { plan_hash, from, to, waves, hosts, floor, supersedes, excluded } =
            message;
        Ok(Self {
            plan_hash: digest("plan_hash", &plan_hash)?,
            from: nested("from", from)?,
            to: nested("to", to)?,
            waves: list("waves", waves, LIST_MAX)?,
            hosts,
            floor,
            supersedes: supersedes.map(|id| rollout_id("supersedes", id)).transpose()?,
            excluded: names("excluded", &excluded, EXCLUDED_MAX)?,
        })
    }
}

impl Wire for PlannedWave {
    type Message = wire::PlannedWave;

    fn to_wire(&self) -> wire::PlannedWave {
        let Self { wave, hosts, batch, bake, first } = self;
        wire::PlannedWave {
            wave: Some(wave.to_wire()),
            hosts: *hosts,
            batch: *batch,
            bake_ms: millis(*bake),
            first: to_names(first),
        }
    }

    fn from_wire(message: wire::PlannedWave) -> Result<Self, InvalidField> {
        let wire::PlannedWave { wave, hosts: all, batch, bake_ms, first } = message;
        Ok(Self {
            wave: nested("wave", wave)?,
            hosts: all,
            batch,
            bake: duration("bake_ms", bake_ms, DURATION_MAX)?,
            first: hosts("first", &first)?,
        })
    }
}
