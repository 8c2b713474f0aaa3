//! What a host says it is. A report carries the whole truth, never a change, and may be repeated.

use std::time::Duration;

use crate::assignment::Stamp;
use crate::digest::ReleaseDigest;
use crate::error::Code;
use crate::id::{EnvironmentName, PackageName, Platform};

/// The protocol that this build speaks. A coordinator serves this and the one before.
pub const PROTOCOL: u32 = 1;
pub const PROTOCOL_MIN: u32 = 1;

/// Orders the reports of one host. A start takes the next counter and a random nonce, both durable
/// before the first report, so that two machines with one identity are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1; 0 is refused.
    pub start: u64,
    pub nonce: u64,
    /// From 1 within a start; 0 is refused.
    pub sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub protocol: u32,
    pub features: Vec<String>,
    pub position: Position,
    pub agent_version: String,
    /// Best first; the last is `any`.
    pub platforms: Vec<Platform>,
    pub facts: Facts,
    /// One for each environment that the host knows of.
    pub environments: Vec<EnvironmentReport>,
    /// The revocation-independent part of the certificate's life: when the host's own ends, by the
    /// certificate. Only for display. Milliseconds since 1970.
    pub certificate_expires_ms: u64,
}

/// What sort of machine it is. Never used for decisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Of the file system that holds the agent's state.
    pub disk_bytes: u64,
    pub disk_free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentReport {
    pub environment: EnvironmentName,
    /// Of the newest assignment that the host has accepted. Absent before the first.
    pub stamp: Option<Stamp>,
    pub phase: Phase,
    /// What is active, recomputed from disk. Absent if nothing is.
    pub running: Option<ReleaseDigest>,
    pub health: HealthReport,
    /// The failure that the phase ended in, or that a prepare ended in. With a phase that has not gone wrong
    /// it is a warning, of the phase that it names; it says nothing of health.
    pub failure: Option<Failure>,
}

/// Where the host stands with the assignment named by the report's stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to do, or prepare failed (then the report has a failure).
    Idle,
    Fetching,
    LayingOut,
    /// Prepared. If the stamp's order was to activate, the grant is void: ask again.
    Ready,
    Stopping,
    Switching,
    Starting,
    Proving,
    Settled,
    Reverting,
    Reverted,
    /// The revert failed too, or there was none.
    Failed,
}

impl Phase {
    pub const ALL: [Self; 12] = [
        Self::Idle,
        Self::Fetching,
        Self::LayingOut,
        Self::Ready,
        Self::Stopping,
        Self::Switching,
        Self::Starting,
        Self::Proving,
        Self::Settled,
        Self::Reverting,
        Self::Reverted,
        Self::Failed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching => "fetching",
            Self::LayingOut => "laying-out",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Switching => "switching",
            Self::Starting => "starting",
            Self::Proving => "proving",
            Self::Settled => "settled",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
        }
    }
}

/// The continuing health of what runs. No news is bad news: whoever has no report is not healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthReport {
    /// Nothing runs, or no check has answered yet.
    Unknown,
    Healthy {
        /// Without a break, on the host's boot clock.
        for_at_least: Duration,
        /// Results of health checks that have passed since the last that did not, all checks together.
        /// That they rise is no news.
        passes: u64,
    },
    Unhealthy {
        /// Which check, and what it saw; escaped, at most 500 characters.
        reason: String,
    },
}

/// Most bytes of a hook's or service's last output that a report carries.
pub const LOG_TAIL_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    /// The phase in which it happened.
    pub phase: Phase,
    /// Absent if it concerns the release as a whole.
    pub package: Option<PackageName>,
    /// A sentence; escaped, at most 500 characters.
    pub message: String,
    /// The last output of the hook or service; escaped, at most [`LOG_TAIL_BYTES_MAX`].
    pub log_tail: String,
}
