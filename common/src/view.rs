//! What operators see: answers of the operator service, as plain values.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::WallTime;
use crate::digest::{SettingsDigest, TreeDigest, VersionSetDigest};
use crate::id::{
    EnvironmentName, GateName, HostId, LabelKey, LabelValue, OperatorName, PackageName, Platform, RolloutId,
    Version, VersionSetName, Zone,
};
use crate::policy::Policy;
use crate::release::{PackageVersion, Settings};
use crate::report::{Facts, Failure, HealthReport, Phase};
use crate::rollout::{Cause, Exception, Held, HostState, RolloutState, WaitingOn, Wave};

/// A release with the name of its version set, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseView {
    pub version_set: VersionSetDigest,
    /// `empty` for the empty set.
    pub name: VersionSetName,
    pub settings: SettingsDigest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentView {
    pub name: EnvironmentName,
    /// Every pair must be among a host's labels. Empty: every host.
    pub selector: BTreeMap<LabelKey, LabelValue>,
    pub policy: Policy,
    pub settings: Settings,
    pub baked: ReleaseView,
    pub active: Option<RolloutId>,
    pub zones: Vec<ZoneView>,
    /// Releases that were taken back here.
    pub bad: Vec<ReleaseView>,
}

/// Counts of an environment's hosts in one zone. A host is in service when it has settled once. Of a rollout
/// that is over, `hosts` and `updated` are what it came to; the rest is today's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneView {
    pub zone: Zone,
    pub hosts: u32,
    pub in_service: u32,
    /// In service and available now.
    pub available: u32,
    /// Hosts that must stay available, if the zone has a floor.
    pub floor: Option<u32>,
    /// Settled on the target of the active rollout.
    pub updated: u32,
    /// Granted now.
    pub moving: u32,
    /// In service, and not on the baked release.
    pub off_baked: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutView {
    pub id: RolloutId,
    pub environment: EnvironmentName,
    pub state: RolloutState,
    pub cause: Option<Cause>,
    /// Why it was stopped first, if that was for another cause.
    pub first_cause: Option<Cause>,
    pub from: ReleaseView,
    pub to: ReleaseView,
    pub started_by: OperatorName,
    /// Why, in the words of whoever started it. May be empty.
    pub reason: String,
    pub started_at: WallTime,
    pub ended_at: Option<WallTime>,
    /// Rises with every change; a watcher asks for what comes after it.
    pub revision: u64,
    pub waves: Vec<WaveView>,
    pub zones: Vec<ZoneView>,
    pub waiting: Vec<WaitingOn>,
    pub hosts: u32,
    pub updated: u32,
    pub failures: u32,
    /// The fleet's floor in hosts, today.
    pub floor: u32,
    /// Today.
    pub available: u32,
    /// Hosts that are not simply waiting or settled and well; at most 200 of them. Once it is over, the few
    /// whose names were kept.
    pub notable: Vec<HostInRollout>,
    pub exceptions: Vec<(HostId, Exception)>,
    /// Hosts that it had not touched and that had turned unhealthy when its failure budget was crossed, some
    /// of them: evidence that something else is broken than the release.
    pub untouched_unwell: Vec<HostId>,
    /// What people have decided about its gates, the newest last; at most 32.
    pub decisions: Vec<GateDecision>,
}

/// A gate that somebody has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateDecision {
    /// A gate of the policy, or `bake`.
    pub gate: GateName,
    /// Absent: before the end. Of a bake: the wave after it.
    pub before: Option<Wave>,
    pub by: OperatorName,
    pub at: WallTime,
    /// In their words. May be empty.
    pub remark: String,
    /// Passed over, where it is approved otherwise.
    pub skipped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveStatus {
    Done,
    Current,
    ToCome,
    /// The change went wrong in it, and went no further.
    Failed,
    /// Somebody stopped the change in it.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveView {
    pub wave: Wave,
    pub status: WaveStatus,
    /// Hosts of the wave, the one box counted in its own.
    pub hosts: u32,
    pub settled: u32,
    /// How long it bakes once its hosts have settled.
    pub bake: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInRollout {
    pub host: HostId,
    pub zone: Zone,
    pub state: HostState,
    pub lost: bool,
    pub held: bool,
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    pub id: HostId,
    pub zone: Zone,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    pub presence: Presence,
    /// Since the last check-in, if there was one since the coordinator started.
    pub last_seen_ago: Option<Duration>,
    pub drained: bool,
    /// Why it takes no change, if it is held. Of penalty boxes, the one that lasts longest.
    pub held: Option<Held>,
    pub revoked: bool,
    pub agent_version: String,
    pub platforms: Vec<Platform>,
    pub facts: Facts,
    pub environments: Vec<HostEnvironmentView>,
    pub certificate_expires: WallTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Not heard of since the coordinator started: unavailable, not lost.
    Unknown,
    Seen,
    Lost,
}

impl Presence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Seen => "seen",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEnvironmentView {
    pub environment: EnvironmentName,
    pub phase: Phase,
    /// What it was last measured to run, if that is a release the coordinator knows.
    pub running: Option<ReleaseView>,
    pub health: HealthReport,
    pub in_service: bool,
    pub detached: bool,
    pub failure: Option<Failure>,
    pub waiting: WaitingOn,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageView {
    pub package: PackageVersion,
    /// Bytes of all files of all trees, each tree counted whole.
    pub bytes: u64,
    pub pushed_by: OperatorName,
    pub pushed_at: WallTime,
    /// Version sets that refer to it.
    pub used_by: Vec<VersionSetName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSetView {
    pub name: VersionSetName,
    pub digest: VersionSetDigest,
    pub packages: Vec<PackageVersion>,
    pub created_by: OperatorName,
    pub created_at: WallTime,
    /// Environments in which it is baked.
    pub baked_in: Vec<EnvironmentName>,
}

/// What an operator may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Viewer,
    Deployer,
    Approver,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Approver, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// A role in all environments, or in one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleBinding {
    pub role: Role,
    /// Absent: all environments, and what belongs to none.
    pub environment: Option<EnvironmentName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorView {
    pub name: OperatorName,
    pub roles: Vec<RoleBinding>,
    pub revoked: bool,
    pub certificate_expires: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// The token's public half: names it in lists and in the audit log.
    pub id: String,
    pub zone: Zone,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    pub uses_left: u32,
    pub expires_in: Duration,
    pub ephemeral: bool,
    pub created_by: OperatorName,
}

/// What to push: a package's tree for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageId {
    pub name: PackageName,
    pub version: Version,
}

/// The answer to `package push`: what the coordinator lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNeed {
    pub platform: Platform,
    pub tree: TreeDigest,
}
