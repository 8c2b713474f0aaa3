//! The records of format 1, by field. Changing anything here changes the format: `tests/` has a file of
//! every format ever shipped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::{Assignment, Order, Stamp, Terms};
use houston_common::digest::{Digest, ReleaseDigest, TreeDigest};
use houston_common::error::Code;
use houston_common::id::{
    EnvironmentName, Epoch, Generation, PackageName, Platform, ServiceName, SettingKey, StoreId, Version,
};
use houston_common::package::{
    Command, Health, HealthCheck, Hook, HookPhase, Limits, PackageFile, Probe, Restart, SecretNeed, Service,
    SettingNeed,
};
use houston_common::release::{PackageVersion, ReleaseContent, Settings, VersionSet};
use houston_common::report::{Failure, Phase};
use serde::{Deserialize, Serialize};

use super::stored::{Stored, stored_enum, stored_struct};
use crate::apply::boot_time::{BootId, BootTime, Timer};
use crate::apply::deployment::{DeployedPackage, Deployment};
use crate::apply::machine::retry::Tries;
use crate::apply::machine::{At, Course, Ended, Floor, Leg, Outcome, Prepared, Revert, Running, State, Task};

stored_struct!(State as StateRecord {
    floor: Option<Floor>,
    stamp: Option<Stamp>,
    running: Running,
    next: Option<Task>,
    at: At,
});
stored_struct!(Floor as FloorRecord { stamp: Stamp, fingerprint: Digest });
stored_struct!(Running as RunningRecord {
    current: Arc<Deployment>,
    leftovers: Vec<Arc<Deployment>>,
    whole: bool,
});
stored_enum!(#[expect(clippy::large_enum_variant, reason = "read and written one at a time")] At as AtRecord {
    Idle { failure: Option<Failure> },
    Fetching { task: Task, tries: Tries, retry_at: Option<BootTime>, failure: Option<Failure> },
    LayingOut { task: Task, tries: Tries },
    Checking { prepared: Prepared, next: usize },
    Ready { prepared: Prepared, is_void: bool },
    Activating(course: Course),
    Ended(ended: Ended),
});
stored_struct!(Task as TaskRecord { assignment: Assignment, sent: BootTime });
stored_struct!(Prepared as PreparedRecord {
    task: Task,
    target: Arc<Deployment>,
    way_back: Arc<Deployment>,
});
stored_struct!(Tries as TriesRecord { failed: u32, refused: u32 });
stored_struct!(Course as CourseRecord {
    prepared: Prepared,
    terms: Terms,
    deadline: Timer,
    leg: Leg,
    warning: Option<Failure>,
    revert: Option<Revert>,
});
stored_enum!(Leg as LegRecord {
    Stopping { next: usize },
    Switching,
    Starting { next: usize },
    Proving { since: BootTime, healthy_since: Option<BootTime> },
    Resuming { next: usize },
});
stored_struct!(Revert as RevertRecord { cause: Failure, was_started: bool });
stored_struct!(Ended as EndedRecord {
    outcome: Outcome,
    warning: Option<Failure>,
    way_back: ReleaseDigest,
    cleanup: Vec<PackageName>,
    is_collected: bool,
    since: BootTime,
    is_told: bool,
});
stored_enum!(Outcome as OutcomeRecord {
    Settled,
    Reverted { cause: Failure },
    Failed { cause: Failure },
});
stored_struct!(BootTime as BootTimeRecord { boot: BootId, ms: u64 });
stored_struct!(Timer as TimerRecord { started: BootTime, limit: Duration });
stored_struct!(Failure as FailureRecord {
    code: Code,
    phase: Phase,
    package: Option<PackageName>,
    message: String,
    log_tail: String,
});

stored_struct!(Stamp as StampRecord {
    store: StoreId,
    epoch: Epoch,
    generation: Generation,
    mac: [u8; 32],
});
stored_struct!(Assignment as AssignmentRecord {
    environment: EnvironmentName,
    stamp: Stamp,
    order: Order,
    release: ReleaseContent,
    way_back: ReleaseContent,
});
stored_enum!(Order as OrderRecord { Prepare, Activate(terms: Terms) });
stored_struct!(Terms as TermsRecord {
    start_within: Duration,
    apply_deadline: Duration,
    health_window: Duration,
});
stored_struct!(ReleaseContent as ReleaseContentRecord {
    version_set: Arc<VersionSet>,
    settings: Arc<Settings>,
});
stored_struct!(VersionSet as VersionSetRecord { packages: Vec<PackageVersion> });
stored_struct!(PackageVersion as PackageVersionRecord {
    name: PackageName,
    version: Version,
    trees: BTreeMap<Platform, TreeDigest>,
});

impl Stored for Settings {
    type Record = BTreeMap<SettingKey, String>;
    fn store(&self) -> Self::Record {
        self.0.clone()
    }
    fn restore(record: Self::Record) -> Self {
        Self(record)
    }
}

stored_struct!(Deployment as DeploymentRecord {
    release: ReleaseDigest,
    packages: Vec<Arc<DeployedPackage>>,
});
stored_struct!(DeployedPackage as DeployedPackageRecord {
    tree: TreeDigest,
    file: PackageFile,
    settings: BTreeMap<SettingKey, String>,
});
stored_struct!(PackageFile as PackageFileRecord {
    name: PackageName,
    version: Version,
    hooks: BTreeMap<HookPhase, Hook>,
    services: Vec<Service>,
    settings: Vec<SettingNeed>,
    secrets: Vec<SecretNeed>,
    restart_with: Vec<PackageName>,
});
stored_enum!(#[derive(PartialEq, Eq, PartialOrd, Ord)] HookPhase as HookPhaseRecord { Check, Drain, Stop, Start, Resume, Cleanup });
stored_struct!(Hook as HookRecord {
    command: Command,
    timeout: Option<Duration>,
    user: Option<String>,
    rerun: bool,
});
stored_struct!(Command as CommandRecord { program: String, arguments: Vec<String> });
stored_struct!(Service as ServiceRecord {
    name: ServiceName,
    command: Command,
    user: Option<String>,
    restart: Restart,
    ports: Vec<u16>,
    limits: Limits,
    stop_grace: Duration,
    health: Health,
});
stored_enum!(Restart as RestartRecord { Always, OnFailure, Never });
stored_struct!(Limits as LimitsRecord {
    open_files: Option<u64>,
    processes: Option<u64>,
    memory_bytes: Option<u64>,
    core_bytes: Option<u64>,
});
stored_enum!(Health as HealthRecord { Checks(checks: Vec<HealthCheck>), ProcessOnly });
stored_struct!(HealthCheck as HealthCheckRecord {
    probe: Probe,
    interval: Duration,
    timeout: Duration,
    healthy_after: u32,
    unhealthy_after: u32,
    start_grace: Duration,
});
stored_enum!(Probe as ProbeRecord {
    Http { port: u16, path: String, expect_body: Option<String> },
    Tcp { port: u16 },
    Command(command: Command),
});
stored_struct!(SettingNeed as SettingNeedRecord { key: SettingKey, default: Option<String> });
stored_struct!(SecretNeed as SecretNeedRecord { variable: SettingKey, file: String });
