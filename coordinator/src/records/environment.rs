//! The records of environments and of their members.

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::assignment::Terms;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::{SettingsDigest, VersionSetDigest};
use houston_common::error::Code;
use houston_common::id::{
    EnvironmentName, GateName, Generation, HostId, LabelKey, LabelValue, PackageName, RolloutId, Version,
    Zone,
};
use houston_common::policy::gate::{Before, Comparison, Condition, Days, Gate, Metric, Number, Window};
use houston_common::policy::{Bakes, Growth, OnFailure, Pacing, Policy, Share};
use houston_common::release::Release;
use houston_common::report::{Failure, Phase};
use houston_common::rollout::Exception;
use serde::{Deserialize, Serialize};

use super::kept::{self, kept};
use crate::environment::Definition;
use crate::environment::member::{Grant, Lane, Member, Step, Told};

kept!(
    Definition as DefinitionRecord,
    Policy as PolicyRecord,
    Bakes as BakesRecord,
    Pacing as PacingRecord,
    Growth as GrowthRecord,
    Gate as GateRecord,
    Before as BeforeRecord,
    Condition as ConditionRecord,
    Window as WindowRecord,
    Metric as MetricRecord,
    Comparison as ComparisonRecord,
    OnFailure as OnFailureRecord,
    Release as ReleaseRecord,
    Member as MemberRecord,
    Told as ToldRecord,
    Terms as TermsRecord,
    Grant as GrantRecord,
    Lane as LaneRecord,
    Step as StepRecord,
    Exception as ExceptionRecord,
    Failure as FailureRecord,
    Phase as PhaseRecord,
);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Definition", deny_unknown_fields)]
struct DefinitionRecord {
    name: EnvironmentName,
    selector: BTreeMap<LabelKey, LabelValue>,
    #[serde(with = "kept")]
    policy: Policy,
    settings: SettingsDigest,
    #[serde(with = "kept")]
    baked: Release,
    #[serde(with = "kept")]
    bad: Vec<Release>,
    unresolved: Vec<RolloutId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Policy", deny_unknown_fields)]
struct PolicyRecord {
    #[serde(with = "kept")]
    pacing: Pacing,
    zone_order: Vec<Zone>,
    zones_at_once: u32,
    #[serde(with = "kept")]
    batch: Share,
    #[serde(with = "kept")]
    growth: Option<Growth>,
    #[serde(with = "kept")]
    fleet_floor: Share,
    #[serde(with = "kept")]
    zone_floor: Option<Share>,
    #[serde(with = "kept")]
    bake: Bakes,
    #[serde(with = "kept", rename = "health_window_ms")]
    health_window: Duration,
    #[serde(with = "kept", rename = "apply_deadline_ms")]
    apply_deadline: Duration,
    #[serde(with = "kept", rename = "start_within_ms")]
    start_within: Duration,
    #[serde(with = "kept")]
    failure_budget: Share,
    #[serde(with = "kept")]
    zone_failure_budget: Option<Share>,
    #[serde(with = "kept")]
    lost_budget: Share,
    #[serde(with = "kept")]
    on_failure: OnFailure,
    #[serde(with = "kept")]
    rollback_batch: Share,
    #[serde(with = "kept")]
    gates: Vec<Gate>,
    retries: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Gate", deny_unknown_fields)]
struct GateRecord {
    name: GateName,
    #[serde(with = "kept")]
    before: Before,
    #[serde(with = "kept")]
    condition: Condition,
    #[serde(with = "kept", rename = "within_ms")]
    within: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Before", rename_all = "snake_case")]
enum BeforeRecord {
    OneBox,
    FirstWave,
    EachWave,
    End,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Condition", rename_all = "snake_case", deny_unknown_fields)]
enum ConditionRecord {
    Approval { by_another: bool },
    Window(#[serde(with = "kept")] Window),
    Freeze { from: WallTime, until: WallTime },
    Metric(#[serde(with = "kept")] Metric),
    EveryHost { package: PackageName, at_least: Version },
    Evidence { passes: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Window", deny_unknown_fields)]
struct WindowRecord {
    time_zone: String,
    #[serde(with = "kept")]
    days: Days,
    from: u16,
    until: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Metric", deny_unknown_fields)]
struct MetricRecord {
    query: String,
    #[serde(with = "kept")]
    is: Comparison,
    #[serde(with = "kept")]
    value: Number,
    #[serde(with = "kept", rename = "fresh_ms")]
    fresh: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Comparison", rename_all = "snake_case")]
enum ComparisonRecord {
    AtLeast,
    AtMost,
    Above,
    Below,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Bakes", deny_unknown_fields)]
struct BakesRecord {
    #[serde(with = "kept", rename = "one_box_ms")]
    one_box: Duration,
    #[serde(with = "kept", rename = "first_zone_ms")]
    first_zone: Duration,
    #[serde(with = "kept", rename = "later_zones_ms")]
    later_zones: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pacing", rename_all = "snake_case")]
enum PacingRecord {
    Zonal,
    Striped,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Growth", deny_unknown_fields)]
struct GrowthRecord {
    percent: u16,
    #[serde(with = "kept")]
    most: Share,
    carries: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "OnFailure", rename_all = "snake_case")]
enum OnFailureRecord {
    Rollback,
    Halt,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Release", deny_unknown_fields)]
struct ReleaseRecord {
    version_set: VersionSetDigest,
    settings: SettingsDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Member", deny_unknown_fields)]
struct MemberRecord {
    environment: EnvironmentName,
    host: HostId,
    zone: Zone,
    joined: RolloutId,
    detached: bool,
    #[serde(with = "kept")]
    settled: Option<Release>,
    owes: bool,
    #[serde(with = "kept")]
    told: Option<Told>,
    answer_by: Option<FleetTime>,
    #[serde(with = "kept")]
    grant: Option<Grant>,
    #[serde(with = "kept")]
    lane: Lane,
    #[serde(with = "kept")]
    step: Step,
    started: Option<RolloutId>,
    failures: u32,
    boxed_until: Option<FleetTime>,
    retries: u32,
    #[serde(with = "kept")]
    failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Told", deny_unknown_fields)]
struct ToldRecord {
    generation: Generation,
    #[serde(with = "kept")]
    terms: Option<Terms>,
    #[serde(with = "kept")]
    release: Release,
    #[serde(with = "kept")]
    way_back: Release,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Terms", deny_unknown_fields)]
struct TermsRecord {
    #[serde(with = "kept")]
    start_within: Duration,
    #[serde(with = "kept")]
    apply_deadline: Duration,
    #[serde(with = "kept")]
    health_window: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Grant", deny_unknown_fields)]
struct GrantRecord {
    generation: Generation,
    was_down: bool,
    reverting: bool,
    deadline: FleetTime,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Lane", rename_all = "snake_case")]
enum LaneRecord {
    Standing,
    Rollout(RolloutId),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Step", rename_all = "snake_case")]
enum StepRecord {
    Waiting,
    Preparing,
    Ready,
    Granted,
    Settled,
    Reverted,
    Failed,
    TakingBack,
    TakenBack,
    Excepted(#[serde(with = "kept")] Exception),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Exception", rename_all = "snake_case")]
enum ExceptionRecord {
    Silent,
    LostAfterSettling,
    DownBefore,
    PrepareFailed,
    Held,
    PassedBy,
    Excluded,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Failure", deny_unknown_fields)]
struct FailureRecord {
    #[serde(with = "kept")]
    code: Code,
    #[serde(with = "kept")]
    phase: Phase,
    package: Option<PackageName>,
    message: String,
    log_tail: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Phase", rename_all = "snake_case")]
enum PhaseRecord {
    Idle,
    Fetching,
    LayingOut,
    Ready,
    Stopping,
    Switching,
    Starting,
    Proving,
    Settled,
    Reverting,
    Reverted,
    Failed,
}
