//! Steering a rollout: pause, resume, abort, take back.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{ControlRollout, RolloutAction};
use houston_common::error::{Code, Refusal};
use houston_common::id::RolloutId;
use houston_common::rollout::Cause;

use super::super::{Caller, Change, environment};
use super::draft::{raised, taking_back};
use super::{find, newest_of, remember};
use crate::engine::core::Decided;
use crate::environment::Environment;
use crate::rollout::perform::{begin_rollback, mark_bad};
use crate::rollout::{Direction, Pause, Rollout, Stage};
use crate::state::{Edit, State};

/// Answers with the rollout that results. What has been done already is done again without a change.
/// E-ENV-UNKNOWN, E-ROLLOUT-UNKNOWN, E-ROLLOUT-STATE.
pub fn control(
    state: &State,
    caller: &Caller,
    request: &ControlRollout,
    now: FleetTime,
    wall: WallTime,
) -> Result<Decided<RolloutId>, Refusal> {
    let rollout = find(state, &request.rollout)?;
    let environment = environment(state, &rollout.environment)?;
    let control = Control { state, caller, environment, rollout, reason: &request.reason };
    match request.action {
        RolloutAction::Pause => control.pause(now),
        RolloutAction::Resume => control.resume(now),
        RolloutAction::Abort => control.abort(wall),
        RolloutAction::Rollback => control.roll_back(wall),
    }
}

struct Control<'a> {
    state: &'a State,
    caller: &'a Caller,
    environment: &'a Environment,
    rollout: &'a Rollout,
    reason: &'a str,
}

impl Control<'_> {
    fn pause(&self, now: FleetTime) -> Result<Decided<RolloutId>, Refusal> {
        let stage = match &self.rollout.stage {
            // What has gone by of the bake stays gone by.
            Stage::Baking { wave, left, since } => {
                Stage::Baking { wave: *wave, left: left.saturating_sub(now.since(*since)), since: now }
            }
            Stage::Gated { before, waited, since } => {
                Stage::Gated { before: *before, waited: *waited + now.since(*since), since: now }
            }
            Stage::Rolling(_) | Stage::RollingBack => self.rollout.stage.clone(),
            Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => return Err(self.not_now("paused")),
        };
        if self.rollout.paused.is_some() {
            return Ok(Decided::nothing(self.rollout.id));
        }
        let pause = Pause { by: self.caller.name.clone(), reason: self.reason.to_owned() };
        let paused = Rollout { stage, paused: Some(pause), ..self.rollout.clone() };
        Ok(self.changed("rollout.pause", "paused", vec![Edit::Rollout(paused)]))
    }

    fn resume(&self, now: FleetTime) -> Result<Decided<RolloutId>, Refusal> {
        let stage = match &self.rollout.stage {
            Stage::Baking { wave, left, .. } => Stage::Baking { wave: *wave, left: *left, since: now },
            Stage::Gated { before, waited, .. } => {
                Stage::Gated { before: *before, waited: *waited, since: now }
            }
            Stage::Rolling(_) | Stage::RollingBack => self.rollout.stage.clone(),
            Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => return Err(self.not_now("resumed")),
        };
        if self.rollout.paused.is_none() {
            return Ok(Decided::nothing(self.rollout.id));
        }
        let resumed = Rollout { stage, paused: None, ..self.rollout.clone() };
        let after = resumed.state().as_str();
        Ok(self.changed("rollout.resume", after, vec![Edit::Rollout(resumed)]))
    }

    fn abort(&self, wall: WallTime) -> Result<Decided<RolloutId>, Refusal> {
        if self.rollout.stage == Stage::Aborted {
            return Ok(Decided::nothing(self.rollout.id));
        }
        if self.rollout.is_over() {
            return Err(self.not_now("aborted"));
        }
        let mut definition = self.environment.definition.clone();
        remember(&mut definition.unresolved, self.rollout.left_behind());
        let mut aborted = self.rollout.clone();
        aborted.end(Stage::Aborted, wall, self.environment);
        let edits = vec![Edit::Environment(definition), Edit::Rollout(aborted)];
        Ok(self.changed("rollout.abort", "aborted", edits))
    }

    fn roll_back(&self, wall: WallTime) -> Result<Decided<RolloutId>, Refusal> {
        match (&self.rollout.stage, self.rollout.direction) {
            (Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. }, Direction::Forward)
            | (Stage::Halted, _) => Ok(self.turn_back()),
            (Stage::RollingBack, Direction::Forward) if self.rollout.paused.is_none() => {
                Ok(Decided::nothing(self.rollout.id))
            }
            (Stage::Succeeded, Direction::Forward) if self.is_newest() => Ok(self.take_back(wall)),
            (
                Stage::Rolling(_)
                | Stage::Baking { .. }
                | Stage::Gated { .. }
                | Stage::RollingBack
                | Stage::Succeeded
                | Stage::RolledBack
                | Stage::Superseded { .. }
                | Stage::Aborted,
                Direction::Forward | Direction::Back { .. },
            ) => Err(self.not_now("taken back")),
        }
    }

    /// The active rollout goes back, or goes on going back.
    fn turn_back(&self) -> Decided<RolloutId> {
        let (mut rollout, mut definition) = (self.rollout.clone(), self.environment.definition.clone());
        begin_rollback(&mut rollout, self.environment);
        rollout.paused = None;
        rollout
            .because(Cause::Operator { name: self.caller.name.to_string(), reason: self.reason.to_owned() });
        mark_bad(&mut definition, &rollout);
        let edits = vec![Edit::Environment(definition), Edit::Rollout(rollout)];
        self.changed("rollout.roll_back", "rolling_back", edits)
    }

    /// It had succeeded: a new rollout takes it back.
    fn take_back(&self, wall: WallTime) -> Decided<RolloutId> {
        let back = taking_back(self.state, self.environment, self.rollout, self.caller, self.reason, wall);
        let (id, mut definition) = (back.id, self.environment.definition.clone());
        let cause = Cause::Operator { name: self.caller.name.to_string(), reason: self.reason.to_owned() };
        let back = Rollout { cause: Some(cause), ..back };
        mark_bad(&mut definition, &back);
        // From this moment: hosts that join, and the way back of whatever supersedes this, must not be
        // what is being taken away.
        definition.baked = back.target;
        let edits = vec![raised(self.state), Edit::Environment(definition), Edit::Rollout(back)];
        let decided = self.changed("rollout.roll_back", &format!("rolling back by rollout {id}"), edits);
        Decided { reply: id, ..decided }
    }

    fn is_newest(&self) -> bool {
        newest_of(self.state, self.environment.name()).is_some_and(|newest| newest.id == self.rollout.id)
    }

    fn changed(&self, what: &str, after: &str, edits: Vec<Edit>) -> Decided<RolloutId> {
        let change = Change {
            what: format!("{what} {} {}", self.rollout.environment, self.rollout.id),
            why: self.reason,
            before: self.rollout.state().as_str().to_owned(),
            after: after.to_owned(),
        };
        self.caller.change(edits, change, self.rollout.id)
    }

    fn not_now(&self, done: &str) -> Refusal {
        let Rollout { id, environment, .. } = self.rollout;
        let state = self.rollout.state().as_str();
        let back = matches!(self.rollout.direction, Direction::Back { .. });
        let what = format!(
            "rollout {id} of {environment} is {state}{}: it cannot be {done}",
            if back { ", and takes back an earlier one" } else { "" }
        );
        Refusal::new(Code::RolloutState, what, self.possible())
    }

    /// What can be done with a rollout that is where this one is.
    fn possible(&self) -> String {
        let environment = &self.rollout.environment;
        let start = format!("`houston rollout start {environment} VERSION-SET`");
        match &self.rollout.stage {
            _ if self.rollout.paused.is_some() => "it can be resumed or aborted".to_owned(),
            Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } => {
                "it can be paused, taken back or aborted".to_owned()
            }
            Stage::RollingBack => format!("it can be paused or aborted, or superseded by {start}"),
            Stage::Halted => format!("it can be taken back or aborted, or superseded by {start}"),
            Stage::Succeeded if self.is_newest() && self.rollout.direction == Direction::Forward => {
                "it can be taken back".to_owned()
            }
            Stage::Succeeded | Stage::RolledBack | Stage::Superseded { .. } | Stage::Aborted => {
                match newest_of(self.state, environment) {
                    Some(newest) if newest.id != self.rollout.id => {
                        format!("rollout {} came after it; or start one with {start}", newest.id)
                    }
                    _ => format!("start another one with {start}"),
                }
            }
        }
    }
}
