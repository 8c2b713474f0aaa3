//! A rollout in progress: what is stored of it. How it goes on is the planner's business.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

pub mod check;
pub mod ending;
pub mod explain;
pub mod flight;
pub mod fold;
pub mod outcome;
pub mod perform;
pub mod planner;
pub mod times;

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{EnvironmentName, HostId, OperatorName, RolloutId, Zone};
use houston_common::policy::Policy;
use houston_common::release::Release;
use houston_common::rollout::{Cause, RolloutState, Wave};

use crate::environment::Environment;
use ending::Ending;
use times::Times;

/// One paced change of one environment to one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub id: RolloutId,
    pub environment: EnvironmentName,
    pub target: Release,
    /// Pinned at creation: what was baked then.
    pub way_back: Release,
    /// Pinned at creation.
    pub policy: Policy,
    pub direction: Direction,
    /// In the order in which they are rolled.
    pub zones: Vec<Zone>,
    /// Hosts in service when it began (again when a rollback begins), per zone. A budget is reckoned
    /// from these or from today's number, whichever is smaller: hosts that join raise no budget.
    pub planned: BTreeMap<Zone, u32>,
    /// Hosts in its scope when it was created, per zone. Batches are reckoned from these or from today's
    /// number, whichever is smaller.
    pub members: BTreeMap<Zone, u32>,
    pub started_by: OperatorName,
    pub reason: String,
    pub started_at: WallTime,
    pub ended_at: Option<WallTime>,
    pub stage: Stage,
    pub paused: Option<Pause>,
    pub cause: Option<Cause>,
    /// Why it was stopped first, if that was for another cause.
    pub first_cause: Option<Cause>,
    /// The last wave that was begun. 0 is the one box.
    pub reached: u32,
    /// Once it is over.
    pub ending: Option<Ending>,
    /// Hosts that failed, over the whole rollout. Never lowered.
    pub failures: u32,
    /// A host that failed while a first batch was the newest, where the budget is zero; in a rollback,
    /// a host that could not be taken back.
    pub first_failure: Option<HostId>,
    /// The host that failed last: named when the budget is crossed.
    pub last_failure: Option<HostId>,
    pub exceptions: u32,
    /// Earlier rollouts that this one superseded, or that were aborted, with hosts still on their
    /// release: a rollback takes these back too.
    pub inherits: Vec<RolloutId>,
    /// How long its hosts took to prepare, from being told to being heard to be ready.
    pub prepares: Times,
    /// How long its hosts took from their grant to being heard to have settled, on the way forward.
    pub activations: Times,
    /// Idempotency key of the request that created it.
    pub request: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward,
    /// Takes back a rollout that had succeeded, at the rollback's rate and without bakes.
    Back {
        of: RolloutId,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub by: OperatorName,
    pub reason: String,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    Rolling(Rolling),
    Baking {
        /// Index of the wave that bakes.
        wave: u32,
        /// What is left of the bake at `since`. A pause stops it.
        left: Duration,
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

/// A wave whose hosts are being granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rolling {
    /// Index into the waves: 0 is the one box.
    pub wave: u32,
    /// From 1 within the wave.
    pub batch: u32,
    /// Hosts granted so far in this batch.
    pub granted: u32,
    /// The host chosen as the one box, while that wave is on.
    pub one_box: Option<HostId>,
}

impl Rolling {
    pub fn begin(wave: u32) -> Self {
        Self { wave, batch: 1, granted: 0, one_box: None }
    }
}

/// Earlier rollouts kept in [`Rollout::inherits`]. Beyond it, the oldest are forgotten: after so many
/// changes on top of each other nobody expects their hosts to be taken back by name.
pub const INHERITS_MAX: usize = 16;

impl Rollout {
    /// It is halted or taken back. What went wrong first stays known beside what an operator says later.
    pub fn because(&mut self, cause: Cause) {
        if let Some(before) = self.cause.replace(cause) {
            self.first_cause.get_or_insert(before);
        }
    }

    /// Ends it, with what it has come to. `environment` is the one in which it is still active.
    pub fn end(&mut self, stage: Stage, wall: WallTime, environment: &Environment) {
        self.ending = Some(Ending::of(self, environment));
        self.stage = stage;
        self.ended_at = Some(wall);
        self.paused = None;
    }

    pub fn is_over(&self) -> bool {
        match self.stage {
            Stage::Succeeded | Stage::RolledBack | Stage::Superseded { .. } | Stage::Aborted => true,
            Stage::Rolling(_) | Stage::Baking { .. } | Stage::RollingBack | Stage::Halted => false,
        }
    }

    /// Number of waves: the one box and each zone.
    pub fn waves(&self) -> u32 {
        self.zones.len() as u32 + 1
    }

    pub fn wave(&self, index: u32) -> Wave {
        match index.checked_sub(1).and_then(|zone| self.zones.get(zone as usize)) {
            None => Wave::OneBox,
            Some(zone) => Wave::Zone(zone.clone()),
        }
    }

    /// The wave that a zone's hosts belong to.
    pub fn wave_of(&self, zone: &Zone) -> u32 {
        self.zones.iter().position(|z| z == zone).map_or(0, |index| index as u32 + 1)
    }

    pub fn current_wave(&self) -> u32 {
        match &self.stage {
            Stage::Rolling(rolling) => rolling.wave,
            Stage::Baking { wave, .. } => *wave,
            Stage::RollingBack
            | Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => self.waves(),
        }
    }

    pub fn bake_of(&self, wave: u32) -> Duration {
        match wave {
            0 => self.policy.bake.one_box,
            1 => self.policy.bake.first_zone,
            _ => self.policy.bake.later_zones,
        }
    }

    pub fn state(&self) -> RolloutState {
        let held_up = self.paused.is_some();
        match &self.stage {
            Stage::Succeeded => RolloutState::Succeeded,
            Stage::RolledBack => RolloutState::RolledBack,
            Stage::Superseded { .. } => RolloutState::Superseded,
            Stage::Aborted => RolloutState::Aborted,
            Stage::Halted => RolloutState::Halted,
            Stage::Rolling(_) | Stage::Baking { .. } | Stage::RollingBack if held_up => RolloutState::Paused,
            Stage::Rolling(rolling) if rolling.wave == 0 && rolling.granted == 0 => RolloutState::Preparing,
            Stage::Rolling(_) => RolloutState::Rolling,
            Stage::Baking { .. } => RolloutState::Baking,
            Stage::RollingBack => RolloutState::RollingBack,
        }
    }

    /// Whether a wave's first batch is the newest thing: the one box, its bake included, or the first
    /// batch of a zone. Until it has ended well, no failure is allowed.
    pub fn is_first_batch(&self) -> bool {
        match &self.stage {
            Stage::Rolling(rolling) => rolling.wave == 0 || rolling.batch == 1,
            Stage::Baking { wave, .. } => *wave == 0,
            Stage::RollingBack
            | Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => false,
        }
    }

    /// Whether hosts are being taken back: a rollback, or a rollout that is one.
    pub fn goes_back(&self) -> bool {
        self.stage == Stage::RollingBack
    }

    /// Where granted hosts go now.
    pub fn destination(&self) -> Release {
        match self.direction {
            Direction::Forward if self.goes_back() => self.way_back,
            Direction::Forward | Direction::Back { .. } => self.target,
        }
    }

    /// Rollouts whose hosts nobody cares for any more once this one is cut short: itself, what it had
    /// taken over, and what it was taking back.
    pub fn left_behind(&self) -> impl Iterator<Item = RolloutId> {
        let of = match self.direction {
            Direction::Back { of } => Some(of),
            Direction::Forward => None,
        };
        self.inherits.iter().copied().chain([self.id]).chain(of)
    }

    /// Hosts in its scope when it was created.
    pub fn hosts(&self) -> u32 {
        self.members.values().sum()
    }

    /// The failures that the whole rollout may have, given how many hosts it has updated.
    pub fn failures_allowed(&self, updated: u32) -> u32 {
        self.policy.failure_budget.at_most_of(updated)
    }

    pub fn exceptions_allowed(&self) -> u32 {
        self.policy.lost_budget.at_most_of(self.hosts())
    }

    /// Whether a host moved by rollout `id` counts as moved by this change.
    pub fn covers(&self, id: RolloutId) -> bool {
        self.id == id || self.inherits.contains(&id)
    }
}
