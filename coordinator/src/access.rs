//! Who may speak to the coordinator: operators with their roles, and tokens for joining hosts.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, OperatorName, Zone};
use houston_common::view::{Role, RoleBinding};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    pub name: OperatorName,
    pub roles: Vec<RoleBinding>,
    /// SHA-256 of the public key: only this key speaks as the operator.
    pub key: Digest,
    pub certificate_expires: WallTime,
    pub revoked: bool,
}

impl Operator {
    /// Whether one of the roles reaches `role`, in the environment or everywhere. `None` asks for
    /// what belongs to no environment.
    pub fn may(&self, role: Role, environment: Option<&EnvironmentName>) -> bool {
        !self.revoked
            && self.roles.iter().any(|binding| {
                binding.role >= role
                    && (binding.environment.is_none() || binding.environment.as_ref() == environment)
            })
    }

    /// Whether one of the roles reaches `role` somewhere: enough to list and look.
    pub fn may_somewhere(&self, role: Role) -> bool {
        !self.revoked && self.roles.iter().any(|binding| binding.role >= role)
    }
}

/// A join token as it is kept: its secret only as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The public half: names it in lists and in the audit log.
    pub id: String,
    pub secret: Digest,
    pub zone: Zone,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    pub uses_left: u32,
    /// It ends at the earlier of two times: the fleet's clock stands still while the coordinator does,
    /// and wall clocks can be set back.
    pub expires: FleetTime,
    pub expires_at: WallTime,
    pub ephemeral: bool,
    pub created_by: OperatorName,
}

impl Token {
    pub fn has_expired(&self, now: FleetTime, wall: WallTime) -> bool {
        self.expires <= now || self.expires_at <= wall
    }
}

#[derive(Debug, Default)]
pub struct Access {
    pub operators: BTreeMap<OperatorName, Operator>,
    pub tokens: BTreeMap<String, Token>,
}
