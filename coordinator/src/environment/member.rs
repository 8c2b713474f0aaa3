//! A host in an environment: what is stored of the pair.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::assignment::Terms;
use houston_common::clock::FleetTime;
use houston_common::id::{EnvironmentName, Generation, HostId, RolloutId, Zone};
use houston_common::release::Release;
use houston_common::report::Failure;
use houston_common::rollout::Exception;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub environment: EnvironmentName,
    pub host: HostId,
    /// The host's zone, as it was when the active rollout began.
    pub zone: Zone,
    /// The rollout that was active when the host joined; 0 if none. A rollout's scope is the hosts
    /// that joined before it.
    pub joined: RolloutId,
    /// The selector fits the host no longer: it is shown, and keeps running what it runs.
    pub detached: bool,
    /// What it settled on last. Present and not empty: it is in service.
    pub settled: Option<Release>,
    /// It has not got the baked release, and gets it by the standing lane.
    pub owes: bool,
    /// The newest assignment.
    pub told: Option<Told>,
    /// Until when it should have prepared; or, settled and not knowing of its health, should know again.
    pub answer_by: Option<FleetTime>,
    /// Permission to disrupt itself, not yet ended by a report or a deadline.
    pub grant: Option<Grant>,
    pub lane: Lane,
    pub step: Step,
    /// The rollout whose change may be on its disk, until it is taken back or overtaken by another.
    /// Only such a host has something to be taken back.
    pub started: Option<RolloutId>,
    /// Failures in a row, over rollouts and the standing lane, as far as they speak of the host.
    pub failures: u32,
    /// It is in the penalty box for so many: until then it takes no change.
    pub boxed_until: Option<FleetTime>,
    /// How often it has been tried again in its rollout.
    pub retries: u32,
    /// Of the last failed step, with the log's tail cut to [`LOG_KEPT_BYTES_MAX`].
    pub failure: Option<Failure>,
}

/// What a record keeps of a failing hook's output: records hold a few KiB.
pub const LOG_KEPT_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub generation: Generation,
    /// Of an order to activate; absent if the order is to prepare. Kept, so that an assignment never
    /// changes under its generation.
    pub terms: Option<Terms>,
    pub release: Release,
    pub way_back: Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub generation: Generation,
    /// It was in service and unavailable already: if it stays down, that is no failure.
    pub was_down: bool,
    /// A report said that it is on its way back: the failure is counted, the grant is open still.
    pub reverting: bool,
    /// Silence or work until then is a failure.
    pub deadline: FleetTime,
}

/// On whose behalf the host's step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Joins and catch-ups.
    Standing,
    Rollout(RolloutId),
}

/// How far the host is in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Waiting,
    Preparing,
    Ready,
    /// The grant is open.
    Granted,
    Settled,
    /// Failed, and went back by itself.
    Reverted,
    /// Failed, and did not come back: it may run either release, or nothing.
    Failed,
    /// Granted again, to be taken back.
    TakingBack,
    TakenBack,
    Excepted(Exception),
}

impl Member {
    pub fn new(environment: EnvironmentName, host: HostId, zone: Zone, joined: RolloutId) -> Self {
        Self {
            environment,
            host,
            zone,
            joined,
            detached: false,
            settled: None,
            owes: true,
            told: None,
            answer_by: None,
            grant: None,
            lane: Lane::Standing,
            step: Step::Waiting,
            started: None,
            failures: 0,
            boxed_until: None,
            retries: 0,
            failure: None,
        }
    }

    pub fn in_service(&self) -> bool {
        !self.detached && self.settled.is_some_and(|release| !release.is_empty())
    }

    /// Its step in the given rollout; `Waiting` if it has none there yet.
    pub fn step_in(&self, rollout: RolloutId) -> Step {
        if self.lane == Lane::Rollout(rollout) { self.step } else { Step::Waiting }
    }

    pub fn in_scope(&self, rollout: RolloutId) -> bool {
        self.joined < rollout && !self.detached
    }
}

impl Told {
    pub fn is_activate(&self) -> bool {
        self.terms.is_some()
    }
}
