//! What an action may do to a machine.
//!
//! The [`Host`] trait is where the world begins: the machine of [`crate::apply`] decides, its driver
//! calls these few effects. It has two implementations, the real one and the simulator's; that second
//! one is its reason to exist. The journal's records are effects among the others, so that a simulator
//! can cut the power between any two and lose whatever was not yet durable.

use std::time::Duration;

use houston_common::digest::ReleaseDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{PackageName, ServiceName};
use houston_common::package::{Hook, HookPhase, Service};
use houston_common::release::ReleaseContent;

use crate::apply::deployment::{DeployedPackage, Deployment};

pub mod blobs;
pub mod cgroup;
pub mod claims;
pub mod dir;
pub mod exec;
pub mod fetch;
pub mod hook;
pub mod layout;
pub mod linux;
pub mod output;
pub mod probe;
pub mod process;
pub mod release_dir;
pub mod service;
pub mod variables;

/// The effects that one environment may have on its host. All of them block; each may be repeated
/// after a crash, and repeating it is harmless (hooks are the exception that the machine minds).
pub trait Host {
    /// The whole record, absent if it was never written. Fails only if the disk does.
    fn read_record(&mut self, record: Record) -> Result<Option<Vec<u8>>, Refusal>;

    /// Replaces the whole record. Durable once this returns; after a crash in its middle either the
    /// old or the new one is read, whole.
    fn write_record(&mut self, record: Record, bytes: &[u8]) -> Result<(), Refusal>;

    /// Keeps an unreadable record under another name for people, and lets it be written anew.
    fn set_record_aside(&mut self, record: Record) -> Result<(), Refusal>;

    /// Fetches and verifies what is missing of a release, for about `slice` at most, so that newer
    /// orders are heard in between. What is there is never fetched again.
    fn fetch(&mut self, release: &ReleaseContent, slice: Duration) -> Result<Fetch, FetchError>;

    /// Lays out a release whose contents are all here: checks space, platform, package files, settings,
    /// secrets and claims of services and ports, and makes the release's directory. Disturbs nothing.
    fn lay_out(&mut self, release: &ReleaseContent) -> Result<Deployment, Refusal>;

    /// Runs a hook to its end or until `timeout`; then nothing of it is left running.
    fn run_hook(&mut self, hook: HookStep<'_>) -> Result<(), StepError>;

    /// Starts a service, also at every boot from now on. Does nothing if it was started like this in this
    /// boot and not stopped since: whether one that has ended runs again is its restart policy's business.
    fn start_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError>;

    /// Stops a service of that name, whichever release started it, and keeps it from coming back at
    /// boot. Does nothing if it does not run.
    fn stop_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError>;

    /// Lets `current` name this laid out release, or nothing. Durable once this returns: data, rename
    /// and directory are synced.
    fn switch(&mut self, to: Option<ReleaseDigest>) -> Result<(), Refusal>;

    /// What `current` names, every tree's digest recomputed from disk; [`Deployment::nothing`] if it
    /// names nothing. Refused if it is not what its name says.
    fn measure(&mut self) -> Result<Deployment, Refusal>;

    /// The end of a service's output, escaped. Empty if there is none.
    fn log_tail(&mut self, package: &PackageName, service: &ServiceName) -> String;

    /// Removes what nothing needs: this environment's releases but those kept, then contents and trees
    /// that no release of any environment on the host refers to.
    fn collect(&mut self, keep: &Keep) -> Result<(), Refusal>;

    /// For jitter. Need not be secret.
    fn random(&mut self) -> u64;
}

/// The records that a host keeps of one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// The machine's state.
    Journal,
    /// The newest assignment accepted, apart from the journal: it must outlive damage to that.
    Floor,
}

impl Record {
    pub const ALL: [Self; 2] = [Self::Journal, Self::Floor];

    /// Its file's name, and the first word in it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Floor => "floor",
        }
    }
}

/// How far a fetch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    Complete,
    /// The slice is over: call again.
    Partial,
}

/// Why a fetch did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct FetchError {
    pub refusal: Refusal,
    /// Not before this has passed, where the coordinator says so.
    pub retry_after: Option<Duration>,
}

/// A hook or service that did not do as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StepError {
    pub code: Code,
    /// A sentence.
    pub message: String,
    /// Its last output.
    pub log_tail: String,
}

/// A hook to run: its program, working directory and settings are the package's in that release.
#[derive(Debug, Clone, Copy)]
pub struct HookStep<'a> {
    pub release: ReleaseDigest,
    pub package: &'a DeployedPackage,
    pub phase: HookPhase,
    pub hook: &'a Hook,
    /// The hook's own or the default, or what is left to the activation if that is less.
    pub timeout: Duration,
}

/// A service to start or stop.
#[derive(Debug, Clone, Copy)]
pub struct ServiceStep<'a> {
    pub release: ReleaseDigest,
    pub package: &'a DeployedPackage,
    pub service: &'a Service,
    /// Of a stop, from TERM to KILL: the service's own, or what is left to the activation if that is less.
    pub grace: Duration,
}

/// What must not be collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// What runs, or may be gone back to.
    pub releases: Vec<ReleaseDigest>,
    /// What is being prepared, laid out or not.
    pub contents: Vec<ReleaseContent>,
}
