//! What one host is to the reference planner, from its own records alone.

use houston_common::id::EnvironmentName;
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::Exception;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::environment::{Environment, Live};
use houston_coordinator::fleet::Entry;
use houston_coordinator::rollout::{Direction, Rollout, Stage};

pub(super) struct Host<'a> {
    pub(super) member: &'a Member,
    pub(super) report: Option<&'a EnvironmentReport>,
    pub(super) entry: &'a Entry,
    /// It has a grant, of before or of the plan that is judged.
    pub(super) is_open: bool,
    pub(super) is_busy_elsewhere: bool,
    /// By its own measurement.
    pub(super) runs_target: bool,
    /// The rollout that it is in takes its change back, or left it out by name.
    pub(super) goes_back: bool,
    pub(super) is_excluded: bool,
    /// Told to prepare by the plan that is judged.
    pub(super) is_asked: bool,
}

impl<'a> Host<'a> {
    pub(super) fn new(
        live: &'a Live,
        entry: &'a Entry,
        environment: &EnvironmentName,
        rollout: Option<&Rollout>,
    ) -> Self {
        let target = rollout.map(|rollout| rollout.target.digest());
        let is_in = |rollout: &&Rollout| !live.member.detached && live.member.joined < rollout.id;
        let own = rollout.filter(is_in);
        let report = live.report.as_ref();
        let running = report.and_then(|report| report.running);
        Self {
            member: &live.member,
            report,
            entry,
            is_open: live.member.grant.is_some(),
            is_busy_elsewhere: entry.granted_in.as_ref().is_some_and(|name| name != environment),
            runs_target: running.is_some() && running == target,
            goes_back: own.is_some_and(|rollout| rollout.stage == Stage::RollingBack),
            is_excluded: own.is_some_and(|rollout| rollout.excluded.contains(&live.member.host)),
            is_asked: false,
        }
    }

    pub(super) fn is_heard(&self) -> bool {
        self.entry.contact.last_seen.is_some() && !self.entry.contact.lost
    }

    /// The penalty box keeps it from what is new, and not from the way back.
    pub(super) fn is_held(&self) -> bool {
        let is_boxed = self.member.boxed_until.is_some() && !self.goes_back;
        self.entry.host.held.is_some() || self.entry.host.revoked || is_boxed
    }

    /// It can be told to change now.
    pub(super) fn is_free(&self) -> bool {
        self.is_heard() && !self.is_busy_elsewhere && !self.is_held()
    }

    pub(super) fn in_service(&self) -> bool {
        !self.member.detached && self.member.settled.is_some_and(|release| !release.is_empty())
    }

    pub(super) fn says_healthy(&self) -> bool {
        self.report.is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }))
    }

    /// Its last report is later than all that it was told to do to itself, and it does nothing of it.
    pub(super) fn is_at_rest(&self) -> bool {
        use Phase::{Proving, Reverting, Starting, Stopping, Switching};
        let Some(report) = self.report else { return false };
        let moves = matches!(report.phase, Stopping | Switching | Starting | Proving | Reverting);
        let said = report.stamp.map(|stamp| stamp.generation);
        let told = self.member.told.filter(|told| told.terms.is_some());
        !moves && told.is_none_or(|told| said == Some(told.generation))
    }

    /// It serves by its own word: to move it would take it away.
    pub(super) fn may_serve(&self) -> bool {
        let is_free = self.is_heard() && !self.is_open && !self.is_busy_elsewhere;
        is_free && self.in_service() && !self.entry.host.drained && self.says_healthy()
    }

    pub(super) fn is_available(&self) -> bool {
        self.may_serve() && self.is_at_rest()
    }

    pub(super) fn is_in(&self, rollout: &Rollout) -> bool {
        !self.member.detached && self.member.joined < rollout.id
    }

    pub(super) fn step_in(&self, rollout: &Rollout) -> Step {
        if self.member.lane == Lane::Rollout(rollout.id) { self.member.step } else { Step::Waiting }
    }

    /// In the hands of the rollout, or of something before it, of which the end must come first.
    pub(super) fn is_moving(&self, rollout: &Rollout) -> bool {
        self.is_in(rollout) && self.is_open
    }

    /// It runs the target: it was granted it here, or ran it already and is well.
    pub(super) fn is_updated(&self, rollout: &Rollout) -> bool {
        let ran_it = self.member.settled == Some(rollout.target) && self.runs_target && self.is_available();
        let has_begun =
            !matches!(self.step_in(rollout), Step::Waiting | Step::Preparing | Step::Ready | Step::Granted);
        let is_settled = self.step_in(rollout) == Step::Settled;
        self.is_in(rollout) && !self.is_open && (is_settled || (ran_it && !has_begun && !self.is_excluded))
    }

    pub(super) fn is_well(&self) -> bool {
        let runs_nothing = self.member.settled.is_some_and(|release| release.is_empty());
        self.is_heard() && (self.says_healthy() || runs_nothing)
    }

    /// Its turn in the rollout is still to come.
    pub(super) fn is_to_move(&self, rollout: &Rollout) -> bool {
        let is_waiting =
            matches!(self.step_in(rollout), Step::Waiting | Step::Preparing | Step::Ready | Step::Granted);
        self.is_in(rollout) && !self.is_open && !self.is_excluded && is_waiting && !self.is_updated(rollout)
    }

    /// It was left out by name, and that is not written at it yet.
    pub(super) fn is_to_leave_out(&self, rollout: &Rollout) -> bool {
        use Step::{Granted, Preparing, Ready, Waiting};
        let is_waiting = matches!(self.step_in(rollout), Waiting | Preparing | Ready | Granted);
        self.is_excluded && !self.is_open && is_waiting && !self.goes_back
    }

    /// It failed, went back by itself, and has tries left.
    pub(super) fn is_to_retry(&self, rollout: &Rollout) -> bool {
        let has_failed = self.is_in(rollout) && !self.is_open && self.step_in(rollout) == Step::Reverted;
        has_failed && self.is_heard() && !self.is_held() && self.member.retries < rollout.policy.retries
    }

    pub(super) fn has_started(&self, rollout: &Rollout) -> bool {
        match rollout.direction {
            Direction::Forward => {
                self.member.started.is_some_and(|id| id == rollout.id || rollout.inherits.contains(&id))
            }
            Direction::Back { .. } => self.member.settled == Some(rollout.way_back),
        }
    }

    /// The change is on it, and nobody has named it as one that it cannot be taken from.
    pub(super) fn is_to_take_back(&self, rollout: &Rollout) -> bool {
        let is_done = match self.step_in(rollout) {
            Step::Reverted | Step::TakenBack => true,
            Step::Failed => rollout.direction != Direction::Forward,
            Step::Excepted(_) => {
                rollout.direction != Direction::Forward || !self.is_heard() || self.is_held()
            }
            _ => false,
        };
        self.is_in(rollout) && !self.is_open && !self.is_excluded && !is_done && self.has_started(rollout)
    }

    /// The standing lane owes it the baked release, or has some to give.
    pub(super) fn is_to_catch_up(&self, environment: &Environment) -> bool {
        let (definition, member) = (&environment.definition, self.member);
        let outside = environment.rollout.as_ref().is_none_or(|rollout| !self.is_in(rollout));
        let has_failed =
            member.lane != Lane::Standing && matches!(member.step, Step::Reverted | Step::Failed);
        let is_unresolved = member.started.is_some_and(|id| definition.unresolved.contains(&id));
        outside
            && !(self.is_open || member.detached || self.is_held())
            && (!definition.baked.is_empty() || self.in_service())
            && member.settled != Some(definition.baked)
            && (member.owes || !(has_failed || is_unresolved))
            && member.step != Step::Excepted(Exception::Excluded)
    }

    pub(super) fn is_told_in_lane(&self, baked: Release, step: Step) -> bool {
        let is_told = self.member.told.is_some_and(|told| told.release == baked);
        is_told && self.member.lane == Lane::Standing && self.member.step == step
    }
}
