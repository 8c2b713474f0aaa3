//! **Decision.** From the point of no return to the end: there, and back if need be.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::Exact;
use houston_common::error::Code;
use houston_common::report::Failure;

use super::{At, Course, Ended, Leg, Outcome, Prepared, Revert, Running, State};
use crate::apply::boot_time::{BootTime, Timer};
use crate::apply::failure::{and_then, failure, of_step};
use crate::apply::health::Health;
use crate::apply::steps::{Change, Step};
use crate::host::StepError;

impl State {
    /// The point of no return, unless the grant has run out, or its time cannot be enough.
    pub(super) fn begun(&self, prepared: &Prepared, now: BootTime) -> Self {
        let prepared = prepared.clone();
        match prepared.task.terms() {
            Some(terms) if !prepared.task.is_expired(now) => {
                let leg = Leg::Stopping { next: 0 };
                let deadline = Timer::new(now, terms.apply_deadline);
                let course = Course { prepared, terms, deadline, leg, warning: None, revert: None };
                match course.asks_too_much(&self.running) {
                    Some(message) => {
                        let failure = failure(Code::DeadlineShort, self.phase(), &message);
                        self.with(At::Idle { failure: Some(failure) })
                    }
                    None => self.go(course, leg, now),
                }
            }
            _ => self.with(At::Ready { prepared, is_void: true }),
        }
    }

    /// On to a leg, or past it if it has nothing to do, or to the end.
    pub(super) fn go(&self, course: Course, leg: Leg, now: BootTime) -> Self {
        match leg.at_or_after(&course.change(&self.running), now) {
            Some(leg) => self.with(At::Activating(Course { leg, ..course })),
            None => self.arrived(course, now),
        }
    }

    pub(super) fn switched(&self, course: &Course, is_as_wanted: bool, now: BootTime) -> Self {
        if is_as_wanted {
            return self.go(course.clone(), Leg::Starting { next: 0 }, now);
        }
        let message = "what is on the disk after the switch is not the release that was switched to";
        self.fail(course, failure(Code::TreeDiffers, self.phase(), message), now)
    }

    pub(super) fn step_failed(&self, course: &Course, error: &StepError, now: BootTime) -> Self {
        let failure = self.failure_of_step(error);
        let is_passed =
            matches!(course.leg, Leg::Stopping { .. }) && self.step().is_some_and(|step| step.is_hook());
        if is_passed { self.pass(course, failure, now) } else { self.fail(course, failure, now) }
    }

    /// Notes a failure and goes on with the next step.
    pub(super) fn pass(&self, course: &Course, failure: Failure, now: BootTime) -> Self {
        let mut course = course.clone();
        course.warning.get_or_insert(failure);
        let leg = course.leg.after_step();
        self.go(course, leg, now)
    }

    /// Turns back, or gives up if this was the way back or there is none.
    pub(super) fn fail(&self, course: &Course, failure: Failure, now: BootTime) -> Self {
        let mut course = course.clone();
        let cause = match &course.revert {
            Some(revert) => and_then(&revert.cause, &failure),
            None if course.prepared.way_back.release == course.prepared.target.release => failure,
            None => {
                let was_started = course.leg.is_after_switch();
                course.revert = Some(Revert { cause: failure, was_started });
                course.deadline = Timer::new(now, course.terms.apply_deadline);
                return self.go(course, Leg::Stopping { next: 0 }, now);
            }
        };
        let change = course.change(&self.running);
        let mut from = change.from.clone();
        let running = match from.pop() {
            Some(current) if !course.leg.is_after_switch() => {
                Running { current, leftovers: from, whole: false }
            }
            // Whatever ran before has been stopped by then.
            _ => Running { current: Arc::clone(&change.to), leftovers: Vec::new(), whole: false },
        };
        self.end(course, &change, running, Outcome::Failed { cause }, now)
    }

    /// The course is run: the destination runs and is proved.
    fn arrived(&self, mut course: Course, now: BootTime) -> Self {
        let change = course.change(&self.running);
        let running = Running { current: Arc::clone(&change.to), leftovers: Vec::new(), whole: true };
        let outcome = match course.revert.take() {
            None => Outcome::Settled,
            Some(revert) => Outcome::Reverted { cause: revert.cause },
        };
        self.end(course, &change, running, outcome, now)
    }

    fn end(
        &self,
        course: Course,
        change: &Change,
        running: Running,
        outcome: Outcome,
        now: BootTime,
    ) -> Self {
        let is_current = running.current.release == change.to.release;
        let ended = Ended {
            outcome,
            warning: course.warning,
            way_back: course.prepared.way_back.release,
            cleanup: if is_current { change.to_clean() } else { Vec::new() },
            is_collected: false,
            since: now,
            is_told: false,
        };
        Self { running, at: At::Ended(ended), ..self.clone() }
    }

    pub(super) fn health_seen(
        &self,
        course: &Course,
        health: Health,
        log_tail: String,
        now: BootTime,
    ) -> Self {
        let Leg::Proving { since, .. } = course.leg else { return self.clone() };
        let healthy_since = match health {
            // Only what was observed after the activation counts.
            Health::Healthy { since: observed } => Some(since.latest(observed)),
            Health::Unhealthy { package, reason, .. } if course.revert.is_none() => {
                let error = StepError { code: Code::Unhealthy, message: reason, log_tail };
                return self.fail(course, of_step(&error, self.phase(), &package), now);
            }
            Health::Unhealthy { .. } | Health::Late { .. } | Health::Unknown => None,
        };
        let held = healthy_since.and_then(|since| now.since(since));
        if held.is_some_and(|held| held >= course.terms.health_window) {
            return self.go(course.clone(), Leg::Resuming { next: 0 }, now);
        }
        let leg = Leg::Proving { since, healthy_since };
        self.with(At::Activating(Course { leg, ..course.clone() }))
    }

    /// The next `cleanup` hook, after one whose failure changes nothing.
    pub(super) fn cleaned(&self, ended: &Ended, error: Option<&StepError>) -> Self {
        let mut ended = ended.clone();
        if let Some(error) = error {
            ended.warning.get_or_insert(self.failure_of_step(error));
        }
        ended.cleanup.remove(0);
        self.with(At::Ended(ended))
    }
}

impl Course {
    /// Why the deadline cannot be kept if everything takes the time that its package asks for.
    fn asks_too_much(&self, before: &Running) -> Option<String> {
        let Prepared { target, way_back, .. } = &self.prepared;
        let back = (way_back.release != target.release).then(|| self.change_back(before, true));
        let ways = [("the activation", Some(self.change(before))), ("its way back", back)];
        ways.into_iter().find_map(|(way, change)| {
            let change = change?;
            let steps: Vec<Step> = [change.stop(), change.start(), change.resume()].concat();
            let window = if change.to.has_services() { self.terms.health_window } else { Duration::ZERO };
            let asked = steps.iter().map(Step::asks_for).fold(window, Duration::saturating_add);
            let longest = steps.iter().max_by_key(|step| step.asks_for())?;
            (asked > self.terms.apply_deadline).then(|| {
                format!(
                    "{way} may take {} by the timeouts of its packages and the health window, its apply \
                     deadline is {}; the longest is {}, {}",
                    Exact(asked),
                    Exact(self.terms.apply_deadline),
                    longest,
                    Exact(longest.asks_for())
                )
            })
        })
    }
}

impl Leg {
    pub(super) const fn has_steps(self) -> bool {
        match self {
            Self::Stopping { .. } | Self::Starting { .. } | Self::Resuming { .. } => true,
            Self::Switching | Self::Proving { .. } => false,
        }
    }

    pub(super) const fn is_after_switch(self) -> bool {
        match self {
            Self::Stopping { .. } | Self::Switching => false,
            Self::Starting { .. } | Self::Proving { .. } | Self::Resuming { .. } => true,
        }
    }

    pub(super) const fn after_step(self) -> Self {
        match self {
            Self::Stopping { next } => Self::Stopping { next: next + 1 },
            Self::Starting { next } => Self::Starting { next: next + 1 },
            Self::Resuming { next } => Self::Resuming { next: next + 1 },
            Self::Switching | Self::Proving { .. } => self,
        }
    }

    /// This leg if it has something left to do, else the next one that has; absent at the end.
    pub(super) fn at_or_after(self, change: &Change, now: BootTime) -> Option<Self> {
        let (is_due, after) = match self {
            Self::Stopping { next } => (next < change.stop().len(), Self::Switching),
            Self::Switching => (true, Self::Starting { next: 0 }),
            Self::Starting { next } => {
                (next < change.start().len(), Self::Proving { since: now, healthy_since: None })
            }
            Self::Proving { .. } => (change.to.has_services(), Self::Resuming { next: 0 }),
            Self::Resuming { next } => return (next < change.resume().len()).then_some(self),
        };
        if is_due { Some(self) } else { after.at_or_after(change, now) }
    }

    /// No health seen before the agent was away counts; after a reboot nothing does.
    pub(super) fn reloaded(self, now: BootTime) -> Self {
        match self {
            Self::Proving { since, .. } => {
                let since = if since.boot == now.boot { since } else { now };
                Self::Proving { since, healthy_since: None }
            }
            Self::Stopping { .. } | Self::Switching | Self::Starting { .. } | Self::Resuming { .. } => self,
        }
    }
}
