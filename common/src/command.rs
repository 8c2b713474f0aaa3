//! What operators ask, and the answers that no view has: the other half of `view`. Every request
//! that changes something has a `reason` for the audit log, which may be empty.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::digest::{Digest, FileDigest, TreeDigest};
use crate::exchange::Encoding;
use crate::id::{
    EnvironmentName, GateName, HostId, LabelKey, LabelValue, OperatorName, RolloutId, StoreId,
    VersionSetName, Zone,
};
use crate::policy::Policy;
use crate::release::{PackageVersion, Settings};
use crate::rollout::{Cause, RolloutState, Wave};
use crate::view::{PackageId, ReleaseView, RoleBinding, TokenView};

/// The name of the version set that exists everywhere and uninstalls.
pub const EMPTY_VERSION_SET: &str = "empty";

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// 1 to [`PAGE_MAX`].
    pub size: u32,
    /// What the page before said comes next. Opaque to the caller. Absent: the first page.
    pub token: Option<String>,
}

/// Most entries of a page.
pub const PAGE_MAX: u32 = 1000;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// In the list's order. May be fewer than asked for while more are to come.
    pub items: Vec<T>,
    /// Absent: these were the last.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhoAmI {
    pub operator: OperatorName,
    pub roles: Vec<RoleBinding>,
    pub coordinator_version: String,
    pub store: StoreId,
    /// The store has gone back in time; nothing is granted until `adopt`.
    pub regressed: bool,
    pub server_time: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateToken {
    pub zone: Zone,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Hosts that may enroll by it, 1 to 10,000.
    pub uses: u32,
    /// At most 30 days.
    pub valid_for: Duration,
    /// Whether its hosts are forgotten when they have been silent for long.
    pub ephemeral: bool,
    pub reason: String,
}

/// A token with its secret, which is told once.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedToken {
    pub secret: String,
    pub token: TokenView,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeToken {
    /// The token's public half.
    pub id: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddOperator {
    pub name: OperatorName,
    /// Sorted, at least one.
    pub roles: Vec<RoleBinding>,
    /// PKCS #10 in DER.
    pub csr: Vec<u8>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeOperator {
    pub name: OperatorName,
    pub reason: String,
}

/// Which hosts to list: those that fit all that is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFilter {
    pub environment: Option<EnvironmentName>,
    pub zone: Option<Zone>,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Only those that take no change: held, or in a penalty box.
    pub held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListHosts {
    pub filter: HostFilter,
    pub page: Page,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditHost {
    pub host: HostId,
    /// Absent: as it is.
    pub zone: Option<Zone>,
    pub set_labels: BTreeMap<LabelKey, LabelValue>,
    /// None of them in `set_labels`, none twice.
    pub remove_labels: Vec<LabelKey>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainHost {
    pub host: HostId,
    pub drained: bool,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldHost {
    pub host: HostId,
    /// Never empty: it is what others are told.
    pub reason: String,
    /// Absent: until it is released.
    pub duration: Option<Duration>,
}

/// For what needs no more: remove, release, revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    pub host: HostId,
    pub reason: String,
}

/// A file that the coordinator lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileWanted {
    pub digest: FileDigest,
    /// Of the contents, decoded.
    pub length: u64,
}

/// A part of the request that begins a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageStart {
    /// Comes first, once.
    Header(PackageVersion),
    /// Comes after it: the next bytes of one of its trees' manifests.
    Manifest { tree: TreeDigest, data: Bytes, last: bool },
}

/// A piece of a file on its way to the coordinator. A file's pieces follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUpload {
    pub digest: FileDigest,
    /// Of the contents, decoded.
    pub length: u64,
    pub encoding: Encoding,
    /// Empty only in a last piece.
    pub data: Bytes,
    pub last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    pub files: u32,
    /// Of their contents, decoded.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFinish {
    pub package: PackageVersion,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovePackage {
    pub package: PackageId,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVersionSet {
    /// Never [`EMPTY_VERSION_SET`].
    pub name: VersionSetName,
    /// In the order in which their services start; at least one, no name twice.
    pub packages: Vec<PackageId>,
    pub reason: String,
}

/// What an environment is to be, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyEnvironment {
    pub name: EnvironmentName,
    pub selector: BTreeMap<LabelKey, LabelValue>,
    pub policy: Policy,
    pub settings: Settings,
    /// Only say what would change.
    pub dry_run: bool,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEnvironment {
    pub created: bool,
    pub differences: Vec<Difference>,
    /// Hosts that the selector fits.
    pub hosts: u32,
    pub joining: u32,
    /// Hosts that it no longer fits: they are detached.
    pub leaving: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As in `policy.batch`.
    pub field: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRollout {
    pub environment: EnvironmentName,
    /// [`EMPTY_VERSION_SET`] uninstalls. The settings are the environment's own.
    pub version_set: VersionSetName,
    pub reason: String,
    pub supersede: bool,
    pub force: bool,
    pub allow_outage: bool,
    /// Makes the request safe to repeat: 1 to 64 of `[A-Za-z0-9_-]`.
    pub idempotency_key: Option<String>,
    /// Start only if this is still the plan.
    pub plan_hash: Option<Digest>,
    /// For this rollout alone, whole. Absent: the environment's.
    pub policy: Option<Policy>,
    /// Hosts to leave out, as people name them; none twice. At most [`EXCLUDED_MAX`].
    pub exclude: Vec<HostId>,
}

/// Hosts that one rollout leaves out by name. More than a few are a matter of labels, and every one of
/// them is in the rollout's record, which holds a few KiB.
pub const EXCLUDED_MAX: usize = 64;

/// What a rollout would do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPlan {
    pub plan_hash: Digest,
    pub from: ReleaseView,
    pub to: ReleaseView,
    pub waves: Vec<PlannedWave>,
    /// Hosts that would change.
    pub hosts: u32,
    /// The fleet's floor in hosts.
    pub floor: u32,
    pub supersedes: Option<RolloutId>,
    /// Left out by name.
    pub excluded: Vec<HostId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWave {
    pub wave: Wave,
    pub hosts: u32,
    /// Hosts that are granted together.
    pub batch: u32,
    pub bake: Duration,
    /// Some of its hosts, at most 200, those that go first.
    pub first: Vec<HostId>,
}

/// Which rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutRef {
    Id(RolloutId),
    NewestOf(EnvironmentName),
}

/// Longest time that a question for a rollout is held.
pub const ROLLOUT_WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRollout {
    pub rollout: RolloutRef,
    /// Answer once the revision is above this. Absent: at once.
    pub after_revision: Option<u64>,
    /// At most [`ROLLOUT_WAIT_MAX`].
    pub wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRollouts {
    pub environment: Option<EnvironmentName>,
    /// 1 to [`PAGE_MAX`].
    pub limit: u32,
}

/// A rollout as a line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutSummary {
    pub id: RolloutId,
    pub environment: EnvironmentName,
    pub state: RolloutState,
    pub cause: Option<Cause>,
    pub from: ReleaseView,
    pub to: ReleaseView,
    pub started_by: OperatorName,
    pub reason: String,
    pub started_at: WallTime,
    pub ended_at: Option<WallTime>,
    pub hosts: u32,
    pub updated: u32,
    pub failures: u32,
    pub exceptions: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutAction {
    Pause,
    Resume,
    /// Ends it, and leaves every host as it is.
    Abort,
    Rollback,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRollout {
    pub rollout: RolloutRef,
    pub action: RolloutAction,
    pub reason: String,
}

/// Opens a gate that a rollout waits at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecideGate {
    pub rollout: RolloutRef,
    /// `bake` is the bake. Absent: the one approval that is waited for.
    pub gate: Option<GateName>,
    /// Pass it over, whatever it is; otherwise it is approved, and must be an approval.
    pub skip: bool,
    /// The remark that stays with the rollout. A skip must have one.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    pub environment: EnvironmentName,
    /// Absent: the environment as a whole.
    pub host: Option<HostId>,
}
