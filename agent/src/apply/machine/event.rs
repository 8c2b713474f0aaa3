//! **Decision.** What happens to the machine, what it wants done, and why it refuses.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::sync::Arc;

use houston_common::digest::ReleaseDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, StoreId};
use houston_common::release::ReleaseContent;
use houston_common::report::Phase;

use super::Task;
use crate::apply::deployment::Deployment;
use crate::apply::health::Health;
use crate::apply::steps::Step;
use crate::host::{FetchError, Keep, StepError};

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent has started and found this state.
    Loaded,
    /// A check-in brought an assignment.
    Assigned(Task),
    /// Nothing else: time has passed.
    TimePassed,
    Fetched,
    /// `random` is any number, for jitter.
    FetchFailed {
        error: FetchError,
        random: u64,
    },
    /// `from` is what `current` names, absent if it could not be measured.
    LaidOut {
        target: Arc<Deployment>,
        way_back: Arc<Deployment>,
        from: Option<Arc<Deployment>>,
    },
    LayOutFailed {
        refusal: Refusal,
        random: u64,
    },
    /// The host may begin to activate.
    Begun,
    StepDone,
    StepFailed(StepError),
    /// What `current` names now, recomputed from disk.
    Switched {
        running: Option<ReleaseDigest>,
    },
    SwitchFailed(Refusal),
    /// `log_tail`: the last output of the service that is unhealthy.
    HealthSeen {
        health: Health,
        log_tail: String,
    },
    /// The coordinator has answered a report of this state.
    Reported,
    Collected,
}

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loaded => "Loaded",
            Self::Assigned(_) => "Assigned",
            Self::TimePassed => "TimePassed",
            Self::Fetched => "Fetched",
            Self::FetchFailed { .. } => "FetchFailed",
            Self::LaidOut { .. } => "LaidOut",
            Self::LayOutFailed { .. } => "LayOutFailed",
            Self::Begun => "Begun",
            Self::StepDone => "StepDone",
            Self::StepFailed(_) => "StepFailed",
            Self::Switched { .. } => "Switched",
            Self::SwitchFailed(_) => "SwitchFailed",
            Self::HealthSeen { .. } => "HealthSeen",
            Self::Reported => "Reported",
            Self::Collected => "Collected",
        }
    }
}

/// What to do now. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and short-lived")]
pub enum Action {
    /// Nothing, until an event or the deadline.
    Wait,
    /// Fetch what is missing of both.
    Fetch {
        release: ReleaseContent,
        way_back: ReleaseContent,
    },
    /// Lay both out, and measure what is current.
    LayOut {
        release: ReleaseContent,
        way_back: ReleaseContent,
    },
    /// Say `Begun` if no other environment of the host is activating. Nothing is disturbed before.
    Begin,
    Run(Step),
    Switch {
        to: Option<ReleaseDigest>,
    },
    Collect(Keep),
}

/// Why an event is refused; the state stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("assignment {} is older than {}, which was accepted before", Numbers(.offered), Numbers(.floor))]
    Older { offered: (Epoch, Generation), floor: (Epoch, Generation) },
    #[error("assignment {} differs from the one of the same number that was accepted before", Numbers(.0))]
    Different((Epoch, Generation)),
    #[error("an assignment of store {offered} came to a host of store {floor}")]
    ForeignStore { offered: StoreId, floor: StoreId },
    #[error("{event} cannot happen in {phase:?}")]
    Unexpected { phase: Phase, event: &'static str },
}

struct Numbers<'a>(&'a (Epoch, Generation));

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.0, self.0.1)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let (code, next) = match &refused {
            Refused::Older { .. } => (Code::AssignmentOlder, "if the store was restored, run adopt"),
            Refused::Different(_) => (Code::AssignmentDiffers, "if the store was restored, run adopt"),
            Refused::ForeignStore { .. } => (Code::StateForeign, "enroll the host anew to move it"),
            Refused::Unexpected { .. } => (Code::Internal, "please report it with the agent's log"),
        };
        Self::new(code, refused.to_string(), next)
    }
}
