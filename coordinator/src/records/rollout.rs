//! The record of a rollout.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{EnvironmentName, GateName, HostId, OperatorName, RolloutId, Zone};
use houston_common::policy::Policy;
use houston_common::release::Release;
use houston_common::report::Failure;
use houston_common::rollout::Cause;
use serde::{Deserialize, Serialize};

use super::kept::{self, kept};
use crate::environment::member::Step;
use crate::rollout::ending::{Ending, Named, Reached};
use crate::rollout::{Decision, Direction, Pause, Rolling, Rollout, Stage};

kept!(
    Rollout as RolloutRecord,
    Direction as DirectionRecord,
    Pause as PauseRecord,
    Decision as DecisionRecord,
    Stage as StageRecord,
    Rolling as RollingRecord,
    Cause as CauseRecord,
    Ending as EndingRecord,
    Reached as ReachedRecord,
    Named as NamedRecord,
);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rollout", deny_unknown_fields)]
struct RolloutRecord {
    id: RolloutId,
    environment: EnvironmentName,
    #[serde(with = "kept")]
    target: Release,
    #[serde(with = "kept")]
    way_back: Release,
    #[serde(with = "kept")]
    policy: Policy,
    #[serde(with = "kept")]
    direction: Direction,
    zones: Vec<Zone>,
    planned: BTreeMap<Zone, u32>,
    members: BTreeMap<Zone, u32>,
    stripes: u32,
    started_by: OperatorName,
    reason: String,
    started_at: WallTime,
    ended_at: Option<WallTime>,
    #[serde(with = "kept")]
    stage: Stage,
    #[serde(with = "kept")]
    paused: Option<Pause>,
    #[serde(with = "kept")]
    cause: Option<Cause>,
    #[serde(with = "kept")]
    first_cause: Option<Cause>,
    reached: u32,
    earned: u32,
    proven: BTreeSet<Zone>,
    #[serde(with = "kept")]
    ending: Option<Ending>,
    failures: u32,
    failures_in: BTreeMap<Zone, u32>,
    first_failure: Option<HostId>,
    last_failure: Option<HostId>,
    unwell_before: Vec<HostId>,
    untouched_unwell: Vec<HostId>,
    exceptions: u32,
    inherits: Vec<RolloutId>,
    request: String,
    #[serde(with = "kept")]
    decisions: Vec<Decision>,
    excluded: BTreeSet<HostId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", deny_unknown_fields)]
struct DecisionRecord {
    gate: GateName,
    before: u32,
    by: OperatorName,
    at: WallTime,
    remark: String,
    skipped: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "snake_case", deny_unknown_fields)]
enum DirectionRecord {
    Forward,
    Back { of: RolloutId },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pause", deny_unknown_fields)]
struct PauseRecord {
    by: OperatorName,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Stage", rename_all = "snake_case", deny_unknown_fields)]
enum StageRecord {
    Rolling(#[serde(with = "kept")] Rolling),
    Baking {
        wave: u32,
        #[serde(with = "kept", rename = "left_ms")]
        left: Duration,
        since: FleetTime,
    },
    Gated {
        before: u32,
        #[serde(with = "kept", rename = "waited_ms")]
        waited: Duration,
        since: FleetTime,
    },
    RollingBack,
    Halted,
    Succeeded,
    RolledBack,
    Superseded {
        by: RolloutId,
    },
    Aborted,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rolling", deny_unknown_fields)]
struct RollingRecord {
    wave: u32,
    batch: u32,
    granted: BTreeMap<Zone, u32>,
    one_box: Option<HostId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ending", deny_unknown_fields)]
struct EndingRecord {
    #[serde(with = "kept")]
    zones: BTreeMap<Zone, Reached>,
    #[serde(with = "kept")]
    named: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reached", deny_unknown_fields)]
struct ReachedRecord {
    hosts: u32,
    updated: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Named", deny_unknown_fields)]
struct NamedRecord {
    host: HostId,
    zone: Zone,
    #[serde(with = "kept")]
    step: Step,
    #[serde(with = "kept")]
    failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Cause", rename_all = "snake_case", deny_unknown_fields)]
enum CauseRecord {
    FailureBudget { host: HostId, failures: u32, allowed: u32, zone: Option<Zone> },
    LostBudget { exceptions: u32, allowed: u32 },
    NobodyUpdated { exceptions: u32 },
    Operator { name: String, reason: String },
    RollbackFailed { host: HostId },
    Law { law: String },
    GateClosed { gate: GateName },
}
