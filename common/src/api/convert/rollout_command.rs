//! What operators ask about environments and rollouts.

use super::release::{labels, to_labels};
use super::waiting::REASONS_MAX;
use super::{
    InvalidField, LINE_CHARS_MAX, LIST_MAX, Wire, between, duration, line, list, name, nested, optional,
    optional_name, required, required_line, rollout_id, text, to_list, value, wall_time, wire_enum,
};
use crate::api::wire;
use crate::clock::millis;
use crate::command::{
    AppliedEnvironment, ApplyEnvironment, ControlRollout, DecideGate, Difference, Explain, GetRollout,
    ListRollouts, PAGE_MAX, ROLLOUT_WAIT_MAX, RolloutAction, RolloutRef, RolloutSummary,
};
use crate::release::SETTING_BYTES_MAX;
use crate::rollout::WaitingOn;

/// Longest path of a field that differs.
const FIELD_CHARS_MAX: usize = 256;

wire_enum!(RolloutAction { Pause, Resume, Abort, Rollback });

impl Wire for ApplyEnvironment {
    type Message = wire::ApplyEnvironmentRequest;

    fn to_wire(&self) -> wire::ApplyEnvironmentRequest {
        let Self { name, selector, policy, settings, dry_run, reason } = self;
        wire::ApplyEnvironmentRequest {
            name: name.to_string(),
            selector: to_labels(selector),
            policy: Some(policy.to_wire()),
            settings: Some(settings.to_wire()),
            dry_run: *dry_run,
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::ApplyEnvironmentRequest) -> Result<Self, InvalidField> {
        let wire::ApplyEnvironmentRequest { name: environment, selector, policy, settings, dry_run, reason } =
            message;
        Ok(Self {
            name: name("name", &environment)?,
            selector: labels("selector", selector)?,
            policy: nested("policy", policy)?,
            settings: nested("settings", settings)?,
            dry_run,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for AppliedEnvironment {
    type Message = wire::ApplyEnvironmentResponse;

    fn to_wire(&self) -> wire::ApplyEnvironmentResponse {
        let Self { created, differences, hosts, joining, leaving } = self;
        wire::ApplyEnvironmentResponse {
            created: *created,
            differences: to_list(differences),
            hosts: *hosts,
            joining: *joining,
            leaving: *leaving,
        }
    }

    fn from_wire(message: wire::ApplyEnvironmentResponse) -> Result<Self, InvalidField> {
        let wire::ApplyEnvironmentResponse { created, differences, hosts, joining, leaving } = message;
        Ok(Self {
            created,
            differences: list("differences", differences, LIST_MAX)?,
            hosts,
            joining,
            leaving,
        })
    }
}

impl Wire for Difference {
    type Message = wire::Difference;

    fn to_wire(&self) -> wire::Difference {
        let Self { field, before, after } = self.clone();
        wire::Difference { field, before, after }
    }

    fn from_wire(message: wire::Difference) -> Result<Self, InvalidField> {
        let wire::Difference { field, before, after } = message;
        let value =
            |path, value: Option<String>| value.map(|value| text(path, value, SETTING_BYTES_MAX)).transpose();
        Ok(Self {
            field: required_line("field", field, FIELD_CHARS_MAX)?,
            before: value("before", before)?,
            after: value("after", after)?,
        })
    }
}

impl Wire for RolloutRef {
    type Message = wire::RolloutRef;

    fn to_wire(&self) -> wire::RolloutRef {
        use wire::rollout_ref::Rollout;
        wire::RolloutRef {
            rollout: Some(match self {
                Self::Id(id) => Rollout::Id(id.0),
                Self::NewestOf(environment) => Rollout::NewestOf(environment.to_string()),
            }),
        }
    }

    fn from_wire(message: wire::RolloutRef) -> Result<Self, InvalidField> {
        use wire::rollout_ref::Rollout;
        let wire::RolloutRef { rollout } = message;
        match required("rollout", rollout)? {
            Rollout::Id(id) => rollout_id("id", id).map(Self::Id),
            Rollout::NewestOf(environment) => name("newest_of", &environment).map(Self::NewestOf),
        }
    }
}

impl Wire for GetRollout {
    type Message = wire::GetRolloutRequest;

    fn to_wire(&self) -> wire::GetRolloutRequest {
        let Self { rollout, after_revision, wait } = self;
        wire::GetRolloutRequest {
            rollout: Some(rollout.to_wire()),
            after_revision: *after_revision,
            wait_ms: millis(*wait),
        }
    }

    fn from_wire(message: wire::GetRolloutRequest) -> Result<Self, InvalidField> {
        let wire::GetRolloutRequest { rollout, after_revision, wait_ms } = message;
        Ok(Self {
            rollout: nested("rollout", rollout)?,
            after_revision,
            wait: duration("wait_ms", wait_ms, ROLLOUT_WAIT_MAX)?,
        })
    }
}

impl Wire for ListRollouts {
    type Message = wire::ListRolloutsRequest;

    fn to_wire(&self) -> wire::ListRolloutsRequest {
        let Self { environment, limit } = self;
        wire::ListRolloutsRequest {
            environment: environment.as_ref().map(ToString::to_string),
            limit: *limit,
        }
    }

    fn from_wire(message: wire::ListRolloutsRequest) -> Result<Self, InvalidField> {
        let wire::ListRolloutsRequest { environment, limit } = message;
        Ok(Self {
            environment: optional_name("environment", environment)?,
            limit: between("limit", limit, 1, PAGE_MAX)?,
        })
    }
}

impl Wire for Vec<RolloutSummary> {
    type Message = wire::ListRolloutsResponse;

    fn to_wire(&self) -> wire::ListRolloutsResponse {
        wire::ListRolloutsResponse { rollouts: to_list(self) }
    }

    fn from_wire(message: wire::ListRolloutsResponse) -> Result<Self, InvalidField> {
        let wire::ListRolloutsResponse { rollouts } = message;
        list("rollouts", rollouts, PAGE_MAX as usize)
    }
}

impl Wire for RolloutSummary {
    type Message = wire::RolloutSummary;

    fn to_wire(&self) -> wire::RolloutSummary {
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
            hosts,
            updated,
            failures,
            exceptions,
        } = self;
        wire::RolloutSummary {
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
            hosts: *hosts,
            updated: *updated,
            failures: *failures,
            exceptions: *exceptions,
        }
    }

    fn from_wire(message: wire::RolloutSummary) -> Result<Self, InvalidField> {
        let wire::RolloutSummary {
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
            hosts,
            updated,
            failures,
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
            hosts,
            updated,
            failures,
            exceptions,
        })
    }
}

impl Wire for ControlRollout {
    type Message = wire::ControlRolloutRequest;

    fn to_wire(&self) -> wire::ControlRolloutRequest {
        let Self { rollout, action, reason } = self;
        wire::ControlRolloutRequest {
            rollout: Some(rollout.to_wire()),
            action: action.to_wire(),
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::ControlRolloutRequest) -> Result<Self, InvalidField> {
        let wire::ControlRolloutRequest { rollout, action, reason } = message;
        Ok(Self {
            rollout: nested("rollout", rollout)?,
            action: value("action", action)?,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for DecideGate {
    type Message = wire::DecideGateRequest;

    fn to_wire(&self) -> wire::DecideGateRequest {
        let Self { rollout, gate, skip, reason } = self;
        wire::DecideGateRequest {
            rollout: Some(rollout.to_wire()),
            gate: gate.as_ref().map(ToString::to_string),
            skip: *skip,
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::DecideGateRequest) -> Result<Self, InvalidField> {
        let wire::DecideGateRequest { rollout, gate, skip, reason } = message;
        Ok(Self {
            rollout: nested("rollout", rollout)?,
            gate: optional_name("gate", gate)?,
            skip,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for Explain {
    type Message = wire::ExplainRequest;

    fn to_wire(&self) -> wire::ExplainRequest {
        let Self { environment, host } = self;
        wire::ExplainRequest {
            environment: environment.to_string(),
            host: host.as_ref().map(ToString::to_string),
        }
    }

    fn from_wire(message: wire::ExplainRequest) -> Result<Self, InvalidField> {
        let wire::ExplainRequest { environment, host } = message;
        Ok(Self { environment: name("environment", &environment)?, host: optional_name("host", host)? })
    }
}

/// What `Explain` answers.
impl Wire for Vec<WaitingOn> {
    type Message = wire::ExplainResponse;

    fn to_wire(&self) -> wire::ExplainResponse {
        wire::ExplainResponse { waiting_on: to_list(self) }
    }

    fn from_wire(message: wire::ExplainResponse) -> Result<Self, InvalidField> {
        let wire::ExplainResponse { waiting_on } = message;
        list("waiting_on", waiting_on, REASONS_MAX)
    }
}
