//! The records of hosts, and of the store itself.

use std::collections::BTreeMap;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{Generation, HostId, LabelKey, LabelValue, OperatorName, RolloutId, StoreId, Zone};
use serde::{Deserialize, Serialize};

use super::kept::{self, base64, kept};
use crate::fleet::{Hold, Host};
use crate::state::Meta;

kept!(Host as HostRecord, Hold as HoldRecord, Meta as MetaRecord);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Host", deny_unknown_fields)]
struct HostRecord {
    id: HostId,
    zone: Zone,
    labels: BTreeMap<LabelKey, LabelValue>,
    #[serde(with = "kept")]
    key: Digest,
    #[serde(with = "base64")]
    key_der: Vec<u8>,
    certificate_expires: WallTime,
    enrolled_at: WallTime,
    ephemeral: bool,
    revoked: bool,
    drained: bool,
    #[serde(with = "kept")]
    held: Option<Hold>,
    /// Counter, nonce.
    start: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hold", rename_all = "snake_case", deny_unknown_fields)]
enum HoldRecord {
    Operator { name: OperatorName, reason: String, until: Option<FleetTime> },
    Clone,
    ForeignAssignment,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Meta", deny_unknown_fields)]
struct MetaRecord {
    store: StoreId,
    #[serde(with = "base64")]
    mac_key: [u8; 32],
    generation: Generation,
    rollout: RolloutId,
    audit: u64,
    checkpoint: FleetTime,
    regressed: bool,
}
