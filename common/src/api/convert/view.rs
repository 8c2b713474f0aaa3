//! Hosts, environments, operators and tokens, as operators see them.

use std::time::Duration;

use super::release::{labels, to_labels};
use super::{
    InvalidField, LIST_MAX, PLATFORMS_MAX, Wire, distinct, duration, list, name, names, nested, optional,
    optional_name, rollout_id, to_list, to_names, value, wall_time, wire_enum, word,
};
use crate::api::wire;
use crate::clock::millis;
use crate::exchange::HOST_ENVIRONMENTS_MAX;
use crate::id::Version;
use crate::view::{
    EnvironmentView, HostEnvironmentView, HostView, OperatorView, Presence, Role, RoleBinding, TokenView,
};

/// Most roles of one operator.
pub(super) const ROLES_MAX: usize = 256;
/// Longest public half of a token, longest idempotency key.
pub(super) const WORD_BYTES_MAX: usize = 64;

wire_enum!(Presence { Unknown, Seen, Lost });
wire_enum!(Role { Viewer, Deployer, Approver, Admin });

impl Wire for HostView {
    type Message = wire::HostView;

    fn to_wire(&self) -> wire::HostView {
        let Self {
            id,
            zone,
            labels,
            presence,
            last_seen_ago,
            drained,
            held,
            revoked,
            agent_version,
            platforms,
            facts,
            environments,
            certificate_expires,
        } = self;
        wire::HostView {
            id: id.to_string(),
            zone: zone.to_string(),
            labels: to_labels(labels),
            presence: presence.to_wire(),
            last_seen_ago_ms: last_seen_ago.map(millis),
            drained: *drained,
            held: held.as_ref().map(Wire::to_wire),
            revoked: *revoked,
            agent_version: agent_version.clone(),
            platforms: to_names(platforms),
            facts: Some(facts.to_wire()),
            environments: to_list(environments),
            certificate_expires_at_ms: certificate_expires.0,
        }
    }

    fn from_wire(message: wire::HostView) -> Result<Self, InvalidField> {
        let wire::HostView {
            id,
            zone,
            labels: pairs,
            presence,
            last_seen_ago_ms,
            drained,
            held,
            revoked,
            agent_version,
            platforms,
            facts,
            environments,
            certificate_expires_at_ms,
        } = message;
        if !agent_version.is_empty() {
            name::<Version>("agent_version", &agent_version)?;
        }
        let ago = |ms| duration("last_seen_ago_ms", ms, Duration::MAX);
        Ok(Self {
            id: name("id", &id)?,
            zone: name("zone", &zone)?,
            labels: labels("labels", pairs)?,
            presence: value("presence", presence)?,
            last_seen_ago: last_seen_ago_ms.map(ago).transpose()?,
            drained,
            held: optional("held", held)?,
            revoked,
            agent_version,
            platforms: names("platforms", &platforms, PLATFORMS_MAX)?,
            facts: nested("facts", facts)?,
            environments: list("environments", environments, HOST_ENVIRONMENTS_MAX)?,
            certificate_expires: wall_time("certificate_expires_at_ms", certificate_expires_at_ms)?,
        })
    }
}

impl Wire for HostEnvironmentView {
    type Message = wire::HostEnvironmentView;

    fn to_wire(&self) -> wire::HostEnvironmentView {
        let Self { environment, phase, running, health, in_service, detached, failure, waiting } = self;
        wire::HostEnvironmentView {
            environment: environment.to_string(),
            phase: phase.to_wire(),
            running: running.as_ref().map(Wire::to_wire),
            health: Some(health.to_wire()),
            in_service: *in_service,
            detached: *detached,
            failure: failure.as_ref().map(Wire::to_wire),
            waiting: Some(waiting.to_wire()),
        }
    }

    fn from_wire(message: wire::HostEnvironmentView) -> Result<Self, InvalidField> {
        let wire::HostEnvironmentView {
            environment,
            phase,
            running,
            health,
            in_service,
            detached,
            failure,
            waiting,
        } = message;
        Ok(Self {
            environment: name("environment", &environment)?,
            phase: value("phase", phase)?,
            running: optional("running", running)?,
            health: nested("health", health)?,
            in_service,
            detached,
            failure: optional("failure", failure)?,
            waiting: nested("waiting", waiting)?,
        })
    }
}

impl Wire for EnvironmentView {
    type Message = wire::EnvironmentView;

    fn to_wire(&self) -> wire::EnvironmentView {
        let Self { name, selector, policy, settings, baked, active, zones, bad } = self;
        wire::EnvironmentView {
            name: name.to_string(),
            selector: to_labels(selector),
            policy: Some(policy.to_wire()),
            settings: Some(settings.to_wire()),
            baked: Some(baked.to_wire()),
            active: active.map(|id| id.0),
            zones: to_list(zones),
            bad: to_list(bad),
        }
    }

    fn from_wire(message: wire::EnvironmentView) -> Result<Self, InvalidField> {
        let wire::EnvironmentView {
            name: environment,
            selector,
            policy,
            settings,
            baked,
            active,
            zones,
            bad,
        } = message;
        Ok(Self {
            name: name("name", &environment)?,
            selector: labels("selector", selector)?,
            policy: nested("policy", policy)?,
            settings: nested("settings", settings)?,
            baked: nested("baked", baked)?,
            active: active.map(|id| rollout_id("active", id)).transpose()?,
            zones: list("zones", zones, LIST_MAX)?,
            bad: list("bad", bad, LIST_MAX)?,
        })
    }
}

impl Wire for RoleBinding {
    type Message = wire::RoleBinding;

    fn to_wire(&self) -> wire::RoleBinding {
        let Self { role, environment } = self;
        wire::RoleBinding { role: role.to_wire(), environment: environment.as_ref().map(ToString::to_string) }
    }

    fn from_wire(message: wire::RoleBinding) -> Result<Self, InvalidField> {
        let wire::RoleBinding { role, environment } = message;
        Ok(Self { role: value("role", role)?, environment: optional_name("environment", environment)? })
    }
}

/// Roles, none twice.
pub(super) fn roles(field: &str, roles: Vec<wire::RoleBinding>) -> Result<Vec<RoleBinding>, InvalidField> {
    let roles: Vec<RoleBinding> = list(field, roles, ROLES_MAX)?;
    distinct(
        field,
        roles.iter().map(|RoleBinding { role, environment }| match environment {
            Some(environment) => format!("{} in {environment}", role.as_str()),
            None => role.as_str().to_owned(),
        }),
    )?;
    Ok(roles)
}

impl Wire for OperatorView {
    type Message = wire::OperatorView;

    fn to_wire(&self) -> wire::OperatorView {
        let Self { name, roles, revoked, certificate_expires } = self;
        wire::OperatorView {
            name: name.to_string(),
            roles: to_list(roles),
            revoked: *revoked,
            certificate_expires_at_ms: certificate_expires.0,
        }
    }

    fn from_wire(message: wire::OperatorView) -> Result<Self, InvalidField> {
        let wire::OperatorView { name: operator, roles: bindings, revoked, certificate_expires_at_ms } =
            message;
        Ok(Self {
            name: name("name", &operator)?,
            roles: roles("roles", bindings)?,
            revoked,
            certificate_expires: wall_time("certificate_expires_at_ms", certificate_expires_at_ms)?,
        })
    }
}

impl Wire for TokenView {
    type Message = wire::TokenView;

    fn to_wire(&self) -> wire::TokenView {
        let Self { id, zone, labels, uses_left, expires_in, ephemeral, created_by } = self;
        wire::TokenView {
            id: id.clone(),
            zone: zone.to_string(),
            labels: to_labels(labels),
            uses_left: *uses_left,
            expires_in_ms: millis(*expires_in),
            ephemeral: *ephemeral,
            created_by: created_by.to_string(),
        }
    }

    fn from_wire(message: wire::TokenView) -> Result<Self, InvalidField> {
        let wire::TokenView { id, zone, labels: pairs, uses_left, expires_in_ms, ephemeral, created_by } =
            message;
        Ok(Self {
            id: word("id", id, WORD_BYTES_MAX)?,
            zone: name("zone", &zone)?,
            labels: labels("labels", pairs)?,
            uses_left,
            expires_in: duration("expires_in_ms", expires_in_ms, super::fleet_command::TOKEN_LIFE_MAX)?,
            ephemeral,
            created_by: name("created_by", &created_by)?,
        })
    }
}
