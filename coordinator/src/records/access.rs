//! The records of operators, join tokens and the audit log.

use std::collections::BTreeMap;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, OperatorName, Zone};
use houston_common::view::{Role, RoleBinding};
use serde::{Deserialize, Serialize};

use super::kept::{self, kept};
use crate::access::{Operator, Token};
use crate::audit::Audit;

kept!(
    Operator as OperatorRecord,
    RoleBinding as RoleBindingRecord,
    Role as RoleRecord,
    Token as TokenRecord,
    Audit as AuditRecord,
);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Operator", deny_unknown_fields)]
struct OperatorRecord {
    name: OperatorName,
    #[serde(with = "kept")]
    roles: Vec<RoleBinding>,
    #[serde(with = "kept")]
    key: Digest,
    certificate_expires: WallTime,
    revoked: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RoleBinding", deny_unknown_fields)]
struct RoleBindingRecord {
    #[serde(with = "kept")]
    role: Role,
    environment: Option<EnvironmentName>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "snake_case")]
enum RoleRecord {
    Viewer,
    Deployer,
    Approver,
    Admin,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Token", deny_unknown_fields)]
struct TokenRecord {
    id: String,
    #[serde(with = "kept")]
    secret: Digest,
    zone: Zone,
    labels: BTreeMap<LabelKey, LabelValue>,
    uses_left: u32,
    expires: FleetTime,
    expires_at: WallTime,
    ephemeral: bool,
    created_by: OperatorName,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Audit", deny_unknown_fields)]
struct AuditRecord {
    sequence: u64,
    at: WallTime,
    who: String,
    what: String,
    why: String,
    before: String,
    after: String,
}
