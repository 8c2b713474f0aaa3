//! What a rollout would do, said beforehand: from the real planner over the real fleet, flown in a copy.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::StartRollout;
use houston_common::digest::Digest;
use houston_common::error::Refusal;
use houston_common::id::{EnvironmentName, Zone};
use houston_common::plan::{Fault, RolloutPlan, WhatIf};
use houston_common::view::ReleaseView;

use super::super::Caller;
use super::basis::Basis;
use super::draft::draft;
use super::start::edits;
use crate::rollout::flight::{self, Departure, Expected, Landed, Model};
use crate::rollout::times::Times;
use crate::rollout::{Direction, Rollout, Stage};
use crate::state::{Edit, State};

/// Latest successful rollouts whose times a plan reckons with: enough to be many hosts, and not of long ago.
const HISTORY_MAX: usize = 5;
/// Where there is no history: a minute to fetch and lay out; ten seconds to stop and start, beside the health window.
const PREPARE_ASSUMED: Duration = Duration::from_secs(60);
const ACTIVATION_ASSUMED: Duration = Duration::from_secs(10);
/// The late fault: an hour is what a memory leak or a nightly job takes to show, and longer than a quick bake.
const LATE: Duration = Duration::from_secs(3600);

/// A rollout that can be flown: with a copy of all that it concerns, so that the flight needs nobody's time.
#[derive(Debug)]
pub struct Grounded {
    copy: State,
    /// What `start` would change.
    edits: Vec<Edit>,
    rollout: Rollout,
    superseded: Option<Rollout>,
    from: ReleaseView,
    to: ReleaseView,
    hosts: u32,
    prepares: Times,
    activations: Times,
    now: FleetTime,
    wall: WallTime,
}

/// What `start` would do now, refused for the same reasons, except that nothing needs confirmation. Costs the
/// caller a copy of the environment's members.
pub fn plan(
    state: &State,
    caller: &Caller,
    request: &StartRollout,
    now: FleetTime,
    wall: WallTime,
) -> Result<Grounded, Refusal> {
    let draft = draft(state, caller, request, now)?;
    let rollout = draft.rollout.clone();
    let copy = state.only(&rollout.environment);
    let (prepares, activations) = history(state, &rollout.environment);
    Ok(Grounded {
        copy: copy.ok_or_else(|| Refusal::internal("a draft without its environment"))?,
        from: state.catalog.view(&rollout.way_back),
        to: state.catalog.view(&rollout.target),
        hosts: draft.off,
        superseded: draft.superseded.cloned(),
        edits: edits(state, draft, wall),
        rollout,
        prepares,
        activations,
        now,
        wall,
    })
}

/// What hosts took in the environment's latest rollouts that succeeded.
fn history(state: &State, environment: &EnvironmentName) -> (Times, Times) {
    let (mut prepares, mut activations) = (Times::default(), Times::default());
    let latest = state.history.values().rev().filter(|rollout| {
        rollout.environment == *environment
            && rollout.stage == Stage::Succeeded
            && rollout.direction == Direction::Forward
    });
    for rollout in latest.take(HISTORY_MAX) {
        prepares.merge(&rollout.prepares);
        activations.merge(&rollout.activations);
    }
    (prepares, activations)
}

impl Grounded {
    fn basis(&self) -> Basis {
        let environment = &self.copy.environments[&self.rollout.environment];
        Basis::of(environment, &self.rollout, self.superseded.as_ref())
    }

    /// What `start` compares with the plan that was read.
    pub fn plan_hash(&self) -> Digest {
        self.basis().hash()
    }

    /// Flies it, and once for each way in which it could fail. Takes its time: seconds for ten thousand hosts.
    pub fn fly(mut self) -> Result<(Basis, RolloutPlan), Refusal> {
        let basis = self.basis();
        for edit in std::mem::take(&mut self.edits) {
            self.copy.apply(edit, self.now);
        }
        let model = self.model();
        let mut steps = flight::STEPS_MAX;
        let landed = self.fly_once(&model, &mut steps);
        let landed = landed.ok_or_else(|| Refusal::internal("a draft that does not become active"))?;
        let what_ifs = self.what_ifs(&model, landed.worst_zone(), &mut steps);
        let plan = RolloutPlan {
            plan_hash: basis.hash(),
            from: self.from,
            to: self.to,
            hosts: self.hosts,
            supersedes: self.superseded.map(|superseded| superseded.id),
            excluded: self.rollout.excluded.into_iter().collect(),
            flown: landed.flown(),
            prepare: model.prepare.view(),
            activation: model.activation.view(),
            what_ifs,
        };
        Ok((basis, plan))
    }

    fn model(&self) -> Model<'static> {
        let policy = &self.rollout.policy;
        let deadline = policy.apply_deadline;
        let assumed = ACTIVATION_ASSUMED.saturating_add(policy.health_window).min(deadline);
        Model {
            rollout: self.rollout.id,
            prepare: Expected::new(self.prepares.clone(), deadline, PREPARE_ASSUMED.min(deadline)),
            activation: Expected::new(self.activations.clone(), deadline, assumed),
            fault: None,
        }
    }

    fn fly_once(&self, model: &Model<'_>, steps: &mut u32) -> Option<Landed> {
        let environment = &self.rollout.environment;
        let from = Departure { environment, now: self.now, wall: self.wall };
        flight::fly(self.copy.only(environment)?, from, model, steps)
    }

    fn what_ifs(&self, model: &Model<'_>, worst_zone: Option<Zone>, steps: &mut u32) -> Vec<WhatIf> {
        // Where nothing runs nothing can fail.
        if self.rollout.target.is_empty() {
            return Vec::new();
        }
        let in_zone = worst_zone.map(Fault::InZone);
        let faults = [Some(Fault::AtOnce), in_zone, Some(Fault::Late { after: LATE })].into_iter().flatten();
        let what_ifs = faults.filter_map(|fault| {
            let model = Model { fault: Some(&fault), ..model.clone() };
            self.fly_once(&model, steps)?.what_if(&model)
        });
        what_ifs.collect()
    }
}
