//! The records of hosts, and of the store itself.

use std::collections::BTreeMap;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{Generation, HostId, LabelKey, LabelValue, RolloutId, StoreId, Zone};
use serde::{Deserialize, Serialize};

use super::kept::{self, base64, kept};
use crate::fleet::Host;
use crate::state::Meta;

kept!(Host as HostRecord, Meta as MetaRecord);

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
    held: Option<String>,
    /// Counter, nonce.
    start: Option<(u64, u64)>,
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
