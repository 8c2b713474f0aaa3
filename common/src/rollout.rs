//! The states of a rollout and of a host within it, and why something waits. Prose is made from
//! these at the edge, never stored and never parsed.

mod waiting;

use std::time::Duration;

use crate::id::{EnvironmentName, GateName, HostId, OperatorName, PackageName, Version, Zone};
use crate::policy::gate::{Comparison, Number};
use crate::report::Phase;

pub use waiting::WaitingOn;

/// What an operator sees a rollout to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolloutState {
    Preparing,
    Rolling,
    Baking,
    /// On a gate other than a bake.
    Waiting,
    Paused,
    Halted,
    RollingBack,
    Succeeded,
    RolledBack,
    Superseded,
    Aborted,
}

impl RolloutState {
    pub const ALL: [Self; 11] = [
        Self::Preparing,
        Self::Rolling,
        Self::Baking,
        Self::Waiting,
        Self::Paused,
        Self::Halted,
        Self::RollingBack,
        Self::Succeeded,
        Self::RolledBack,
        Self::Superseded,
        Self::Aborted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Rolling => "rolling",
            Self::Baking => "baking",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::RollingBack => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
        }
    }

    /// Whether nothing more comes. A halted rollout is not at its end: it holds the environment
    /// until somebody rolls back, aborts or supersedes it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack | Self::Superseded | Self::Aborted)
    }
}

/// What an operator sees a host to be within a rollout. `lost` and `held` are overlays beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    Waiting,
    Preparing,
    Ready,
    /// With the phase last reported, if any since the grant.
    Activating(Phase),
    Proving,
    Settled,
    Reverting,
    Reverted,
    Failed(Phase),
    /// Settled, then taken back by a grant of the rollback.
    TakenBack,
    /// Left out by name; see its exception.
    Excepted,
    /// Not a part of this rollout.
    Outside,
}

impl HostState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Activating(_) => "activating",
            Self::Proving => "proving",
            Self::Settled => "settled",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Failed(_) => "failed",
            Self::TakenBack => "taken_back",
            Self::Excepted => "excepted",
            Self::Outside => "outside",
        }
    }
}

/// Why a host is left out of a rollout's result. Counted against floors and the lost budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exception {
    /// Silent before its grant, until its wave ended.
    Silent,
    /// Lost after it had settled.
    LostAfterSettling,
    /// Down before its grant, and still down after the change.
    DownBefore,
    /// Could not be prepared.
    PrepareFailed,
    /// Held by an operator or by Houston.
    Held,
    /// It could not change when its wave was on, and could again when that was over.
    PassedBy,
    /// Left out by the operator who started the rollout. Not counted against the lost budget.
    Excluded,
}

impl Exception {
    pub const ALL: [Self; 7] = [
        Self::Silent,
        Self::LostAfterSettling,
        Self::DownBefore,
        Self::PrepareFailed,
        Self::Held,
        Self::PassedBy,
        Self::Excluded,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::LostAfterSettling => "lost_after_settling",
            Self::DownBefore => "down_before",
            Self::PrepareFailed => "prepare_failed",
            Self::Held => "held",
            Self::PassedBy => "passed_by",
            Self::Excluded => "excluded",
        }
    }
}

/// Why a rollout was halted or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// More failures than the budget allows; the host that crossed it. `zone` absent: that of the whole
    /// rollout.
    FailureBudget { host: HostId, failures: u32, allowed: u32, zone: Option<Zone> },
    /// More exceptions than the lost budget allows.
    LostBudget { exceptions: u32, allowed: u32 },
    /// Every host was left out: what nobody has run must not become the baked release.
    NobodyUpdated { exceptions: u32 },
    /// A person said so.
    Operator { name: String, reason: String },
    /// A host could not be taken back.
    RollbackFailed { host: HostId },
    /// A plan broke a law of the checker. A bug: nothing was committed.
    Law { law: String },
    /// A gate stayed closed for longer than the policy lets it.
    GateClosed { gate: GateName },
}

/// Why a gate is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Nobody has approved yet. `not_by` must not.
    Approval {
        not_by: Option<OperatorName>,
    },
    Window {
        opens_in: Duration,
    },
    Frozen {
        ends_in: Duration,
    },
    /// The query's value does not compare well.
    Metric {
        value: Number,
        is: Comparison,
        wanted: Number,
    },
    /// There is no value, or only a stale one: a sentence.
    MetricUnknown {
        problem: String,
    },
    /// These hosts have not settled on the version.
    Hosts {
        package: PackageName,
        at_least: Version,
        hosts: Vec<HostId>,
        more: u32,
    },
    Evidence {
        passes: u64,
        of: u64,
    },
    /// It has not been looked at yet.
    NotKnown,
}

impl Closed {
    /// The stable name of the reason in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Window { .. } => "window",
            Self::Frozen { .. } => "frozen",
            Self::Metric { .. } => "metric",
            Self::MetricUnknown { .. } => "metric_unknown",
            Self::Hosts { .. } => "hosts",
            Self::Evidence { .. } => "evidence",
            Self::NotKnown => "not_known",
        }
    }
}

/// Why a host in service does not count as available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Away {
    Lost,
    /// Nothing has been heard of it since the coordinator started.
    NotHeardYet,
    /// It may disrupt itself now, here or in another environment.
    Changing,
    Drained,
    Unhealthy,
    /// It says that it is well, and may be in the middle of a change that has been closed.
    Finishing,
}

impl Away {
    pub const ALL: [Self; 6] =
        [Self::Lost, Self::NotHeardYet, Self::Changing, Self::Drained, Self::Unhealthy, Self::Finishing];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::NotHeardYet => "not_heard_yet",
            Self::Changing => "changing",
            Self::Drained => "drained",
            Self::Unhealthy => "unhealthy",
            Self::Finishing => "finishing",
        }
    }
}

/// A granted host that should have checked in by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    pub host: HostId,
    /// How long ago it was last heard of. Absent: not since the coordinator started.
    pub last_heard: Option<Duration>,
    /// What it did then, if it said so.
    pub phase: Option<Phase>,
}

/// Why a host takes no change. It serves all the same, and a grant that is open runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// An operator said so. `left` absent: until it is released.
    Operator { name: OperatorName, reason: String, left: Option<Duration> },
    /// Two machines speak with its identity.
    Clone,
    /// It shows an assignment that this store never gave.
    ForeignAssignment,
    /// Its certificate is revoked.
    Revoked,
    /// It failed again and again in this environment, and is tried again when `left` is over.
    PenaltyBox { environment: EnvironmentName, failures: u32, left: Duration },
}

impl Held {
    /// The stable name of the reason in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Operator { .. } => "operator",
            Self::Clone => "clone",
            Self::ForeignAssignment => "foreign_assignment",
            Self::Revoked => "revoked",
            Self::PenaltyBox { .. } => "penalty_box",
        }
    }
}

/// A part of a rollout that ends in a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wave {
    OneBox,
    /// In the order in which they are rolled; one, unless the policy lets several change at once.
    Zones(Vec<Zone>),
    /// Counted from 1.
    Stripe {
        number: u32,
        of: u32,
    },
}
