//! A rollout in progress: what is stored of it. How it goes on is the planner's business.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

pub mod check;
pub mod ending;
pub mod explain;
pub mod fold;
pub mod gates;
pub mod outcome;
pub mod pacing;
pub mod perform;
pub mod planner;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{EnvironmentName, GateName, HostId, OperatorName, RolloutId, Zone};
use houston_common::policy::Policy;
use houston_common::policy::gate::{Before, GATES_MAX, Gate};
use houston_common::release::Release;
use houston_common::rollout::{Cause, RolloutState};

use crate::environment::Environment;
use ending::Ending;

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
    /// Waves after the one box under striped pacing, as many as those hosts need; 0 under zonal.
    pub stripes: u32,
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
    /// How often batches had grown when the wave began, where a zone's size carries into the next.
    pub earned: u32,
    /// Zones of which a batch has proved the release.
    pub proven: BTreeSet<Zone>,
    /// Once it is over.
    pub ending: Option<Ending>,
    /// Hosts that failed, over the whole rollout. Never lowered.
    pub failures: u32,
    /// The same by zone.
    pub failures_in: BTreeMap<Zone, u32>,
    /// A host that failed while a first batch was the newest, where the budget is zero; in a rollback,
    /// a host that could not be taken back.
    pub first_failure: Option<HostId>,
    /// The host that failed last: named when the budget is crossed.
    pub last_failure: Option<HostId>,
    /// Hosts in service that were unhealthy when it began; more than [`UNWELL_MAX`] say that no conclusion
    /// can be drawn.
    pub unwell_before: Vec<HostId>,
    /// Hosts that it had not touched and that had turned unhealthy when its failure budget was crossed, some
    /// of them: evidence that something else is broken than the release.
    pub untouched_unwell: Vec<HostId>,
    pub exceptions: u32,
    /// Earlier rollouts that this one superseded, or that were aborted, with hosts still on their
    /// release: a rollback takes these back too.
    pub inherits: Vec<RolloutId>,
    /// Idempotency key of the request that created it.
    pub request: String,
    /// What people have decided about its gates, the newest last; at most [`DECISIONS_MAX`].
    pub decisions: Vec<Decision>,
    /// Hosts that the operator left out. Whoever of them is released while it is active is in it again.
    pub excluded: BTreeSet<HostId>,
}

/// A gate that somebody has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// A gate of the policy, or [`BAKE`].
    pub gate: GateName,
    /// The wave that it stands before; of a bake, the one after it.
    pub before: u32,
    pub by: OperatorName,
    pub at: WallTime,
    pub remark: String,
    pub skipped: bool,
}

/// Hosts that are remembered as unhealthy.
pub const UNWELL_MAX: usize = 32;
/// The wait that every wave has, as a gate that can be passed over.
pub const BAKE: &str = "bake";
/// Decisions that are kept: those of one wave, twice over.
pub const DECISIONS_MAX: usize = 2 * GATES_MAX;

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
    /// The bakes so far are over; gates before a wave must open. Beyond the last wave: before the end.
    Gated {
        before: u32,
        /// How long it has waited at `since`. A pause stops it.
        waited: Duration,
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
    /// Hosts granted so far in this batch, by zone.
    pub granted: BTreeMap<Zone, u32>,
    /// The host chosen as the one box, while that wave is on.
    pub one_box: Option<HostId>,
}

impl Rolling {
    pub fn begin(wave: u32) -> Self {
        Self { wave, batch: 1, granted: BTreeMap::new(), one_box: None }
    }

    pub fn granted_in(&self, zone: &Zone) -> u32 {
        self.granted.get(zone).copied().unwrap_or_default()
    }

    pub fn has_granted(&self) -> bool {
        self.granted.values().any(|granted| *granted > 0)
    }
}

/// Earlier rollouts kept in [`Rollout::inherits`]. Beyond it, the oldest are forgotten: after so many
/// changes on top of each other nobody expects their hosts to be taken back by name.
pub const INHERITS_MAX: usize = 16;

impl Rollout {
    /// One that has done nothing yet, over no hosts yet.
    pub fn new(
        id: RolloutId,
        environment: EnvironmentName,
        way_back: Release,
        target: Release,
        policy: Policy,
        started_by: OperatorName,
    ) -> Self {
        Self {
            id,
            environment,
            target,
            way_back,
            policy,
            direction: Direction::Forward,
            zones: Vec::new(),
            planned: BTreeMap::new(),
            members: BTreeMap::new(),
            stripes: 0,
            started_by,
            reason: String::new(),
            started_at: WallTime(0),
            ended_at: None,
            stage: Stage::Rolling(Rolling::begin(0)),
            paused: None,
            cause: None,
            first_cause: None,
            reached: 0,
            earned: 0,
            proven: BTreeSet::new(),
            ending: None,
            failures: 0,
            failures_in: BTreeMap::new(),
            first_failure: None,
            last_failure: None,
            unwell_before: Vec::new(),
            untouched_unwell: Vec::new(),
            exceptions: 0,
            inherits: Vec::new(),
            request: String::new(),
            decisions: Vec::new(),
            excluded: BTreeSet::new(),
        }
    }

    /// Over hosts of these zones, in their order: so many of each are in service, and in scope.
    pub fn over(self, zones: Vec<Zone>, planned: BTreeMap<Zone, u32>, members: BTreeMap<Zone, u32>) -> Self {
        let over = Self { zones, planned, members, ..self };
        Self { stripes: over.stripes_needed(), ..over }
    }

    /// Where it begins: at the gates before the one box, if it has any.
    pub fn begun(self, now: FleetTime) -> Self {
        let is_gated = self.gates_before(0).next().is_some();
        let stage = if is_gated {
            Stage::Gated { before: 0, waited: Duration::ZERO, since: now }
        } else {
            Stage::Rolling(Rolling::begin(0))
        };
        Self { stage, ..self }
    }

    /// The gates that stand before a wave, or before the end.
    pub fn gates_before(&self, wave: u32) -> impl Iterator<Item = &Gate> {
        self.policy.gates.iter().filter(move |gate| match gate.before {
            Before::OneBox => wave == 0,
            Before::FirstWave => wave == 1 && wave < self.waves(),
            Before::EachWave => wave > 0 && wave < self.waves(),
            Before::End => wave >= self.waves(),
        })
    }

    /// Those of them that nobody has opened.
    pub fn undecided(&self, before: u32) -> impl Iterator<Item = &Gate> {
        self.gates_before(before).filter(move |gate| !self.has_decided(&gate.name, before))
    }

    pub fn has_decided(&self, gate: &GateName, before: u32) -> bool {
        self.decisions.iter().any(|decision| decision.gate == *gate && decision.before == before)
    }

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
            Stage::Rolling(_)
            | Stage::Baking { .. }
            | Stage::Gated { .. }
            | Stage::RollingBack
            | Stage::Halted => false,
        }
    }

    pub fn current_wave(&self) -> u32 {
        match &self.stage {
            Stage::Rolling(rolling) => rolling.wave,
            Stage::Baking { wave, .. } => *wave,
            Stage::Gated { before, .. } => before.saturating_sub(1),
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
            Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } | Stage::RollingBack
                if held_up =>
            {
                RolloutState::Paused
            }
            Stage::Gated { .. } => RolloutState::Waiting,
            Stage::Rolling(rolling) if rolling.wave == 0 && !rolling.has_granted() => RolloutState::Preparing,
            Stage::Rolling(_) => RolloutState::Rolling,
            Stage::Baking { .. } => RolloutState::Baking,
            Stage::RollingBack => RolloutState::RollingBack,
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

    /// The first zone with more failures than it may have by itself, and how many those are. `updated` says
    /// how many hosts of a zone are.
    pub fn zone_over_budget(&self, updated: impl Fn(&Zone) -> u32) -> Option<(&Zone, u32, u32)> {
        let share = self.policy.zone_failure_budget?;
        self.failures_in.iter().find_map(|(zone, failures)| {
            let allowed = share.at_most_of(updated(zone));
            (*failures > allowed).then_some((zone, *failures, allowed))
        })
    }

    pub fn exceptions_allowed(&self) -> u32 {
        self.policy.lost_budget.at_most_of(self.hosts())
    }

    /// Whether a host moved by rollout `id` counts as moved by this change.
    pub fn covers(&self, id: RolloutId) -> bool {
        self.id == id || self.inherits.contains(&id)
    }
}
