//! **Decision.** The transition table: where each event leads in each state.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::Rough;
use houston_common::error::{Code, Refusal};
use houston_common::report::Failure;

use super::retry::Tries;
use super::{At, Course, Ended, Event, Leg, Outcome, Prepared, Refused, Revert, Running, State, Task};
use crate::apply::boot_time::{BootTime, Timer};
use crate::apply::deployment::Deployment;
use crate::apply::failure::{and_then, failure, of_refusal, of_step};
use crate::apply::health::Health;
use crate::apply::steps::Change;
use crate::host::StepError;

impl State {
    /// Where an event leads, or why it is refused.
    pub fn on(&self, event: Event, now: BootTime) -> Result<Self, Refused> {
        let name = event.name();
        match (&self.at, event) {
            (_, Event::Loaded) => Ok(self.loaded(now)),
            (_, Event::TimePassed) => Ok(self.time_passed(now)),
            (_, Event::Assigned(task)) => self.assigned(task, now),

            (At::Fetching { task, tries, retry_at: None, .. }, Event::Fetched) => {
                Ok(self.with(At::LayingOut { task: task.clone(), tries: *tries }))
            }
            (At::Fetching { task, tries, retry_at: None, .. }, Event::FetchFailed { error, random }) => {
                Ok(self.prepare_failed(task, *tries, &error.refusal, (random, error.retry_after), now))
            }
            (At::LayingOut { task, .. }, Event::LaidOut { target, way_back, from }) => {
                let prepared = Prepared { task: task.clone(), target, way_back };
                Ok(self.measured(from).checking(prepared, 0, now))
            }
            (At::LayingOut { task, tries }, Event::LayOutFailed { refusal, random }) => {
                Ok(self.prepare_failed(task, *tries, &refusal, (random, None), now))
            }
            (At::Checking { prepared, next }, Event::StepDone) => {
                Ok(self.checking(prepared.clone(), next + 1, now))
            }
            (At::Checking { .. }, Event::StepFailed(error)) => Ok(self.check_failed(&error)),
            (At::Ready { prepared, is_void: false }, Event::Begun) if prepared.task.terms().is_some() => {
                Ok(self.begun(prepared, now))
            }

            (At::Activating(course), Event::StepDone) if course.leg.has_steps() => {
                Ok(self.go(course.clone(), course.leg.after_step(), now))
            }
            (At::Activating(course), Event::StepFailed(error)) if course.leg.has_steps() => {
                Ok(self.step_failed(course, &error, now))
            }
            (At::Activating(course), Event::Switched { running }) if course.leg == Leg::Switching => {
                Ok(self.switched(course, running == course.destination().link(), now))
            }
            (At::Activating(course), Event::SwitchFailed(refusal)) if course.leg == Leg::Switching => {
                Ok(self.fail(course, of_refusal(&refusal, self.phase()), now))
            }
            (At::Activating(course), Event::HealthSeen { health, log_tail }) if self.is_proving() => {
                Ok(self.health_seen(course, health, log_tail, now))
            }

            (At::Ended(ended), Event::StepDone) if !ended.cleanup.is_empty() => Ok(self.cleaned(ended, None)),
            (At::Ended(ended), Event::StepFailed(error)) if !ended.cleanup.is_empty() => {
                Ok(self.cleaned(ended, Some(&error)))
            }
            (At::Ended(ended), Event::Collected) if ended.cleanup.is_empty() && !ended.is_collected => {
                Ok(self.with(At::Ended(Ended { is_collected: true, ..ended.clone() })).next_if_told(now))
            }
            (At::Ended(ended), Event::Reported) => {
                Ok(self.with(At::Ended(Ended { is_told: true, ..ended.clone() })).next_if_told(now))
            }

            (_, _) => Err(Refused::Unexpected { phase: self.phase(), event: name }),
        }
    }

    fn with(&self, at: At) -> Self {
        Self { at, ..self.clone() }
    }

    // Assignments.

    fn assigned(&self, task: Task, now: BootTime) -> Result<Self, Refused> {
        let offered = task.floor();
        if let Some(floor) = &self.floor {
            let (new, old) = (&offered.stamp, &floor.stamp);
            if new.store != old.store {
                return Err(Refused::ForeignStore { offered: new.store, floor: old.store });
            }
            if new.order() < old.order() {
                return Err(Refused::Older { offered: new.order(), floor: old.order() });
            }
            if new.order() == old.order() && offered != *floor {
                return Err(Refused::Different(new.order()));
            }
            let next = self.next.as_ref().map(|task| task.assignment.stamp);
            if *new == *old && (self.stamp == Some(*new) || next == Some(*new)) {
                return Ok(self.clone());
            }
        }
        let accepted = Self { floor: Some(offered), ..self.clone() };
        let is_busy = match &self.at {
            At::Activating(_) => true,
            At::Ended(ended) => !(ended.is_collected && ended.is_told),
            At::Idle { .. }
            | At::Fetching { .. }
            | At::LayingOut { .. }
            | At::Checking { .. }
            | At::Ready { .. } => false,
        };
        Ok(if is_busy { Self { next: Some(task), ..accepted } } else { accepted.take(task, now) })
    }

    /// Turns to a task. What has been prepared for the same releases is kept.
    fn take(self, task: Task, now: BootTime) -> Self {
        let is_same = |old: &Task| {
            let (old, new) = (&old.assignment, &task.assignment);
            old.release == new.release && old.way_back == new.way_back
        };
        let stamp = Some(task.assignment.stamp);
        let at = match &self.at {
            At::Fetching { task: old, tries, retry_at, failure } if is_same(old) => {
                At::Fetching { task, tries: *tries, retry_at: *retry_at, failure: failure.clone() }
            }
            At::LayingOut { task: old, tries } if is_same(old) => At::LayingOut { task, tries: *tries },
            At::Checking { prepared, next } if is_same(&prepared.task) => {
                At::Checking { prepared: Prepared { task, ..prepared.clone() }, next: *next }
            }
            At::Ready { prepared, .. } if is_same(&prepared.task) => {
                ready(Prepared { task, ..prepared.clone() }, now)
            }
            At::Idle { .. }
            | At::Fetching { .. }
            | At::LayingOut { .. }
            | At::Checking { .. }
            | At::Ready { .. }
            | At::Activating(_)
            | At::Ended(_) => {
                At::Fetching { task, tries: Tries::default(), retry_at: None, failure: None }
            }
        };
        Self { at, stamp, next: None, ..self }
    }

    /// Takes the task that waits, once the coordinator knows how the activation ended.
    fn next_if_told(self, now: BootTime) -> Self {
        match (&self.at, &self.next) {
            (At::Ended(ended), Some(next)) if ended.is_collected && ended.is_told => {
                let next = next.clone();
                self.take(next, now)
            }
            _ => self,
        }
    }

    // Prepare.

    fn prepare_failed(
        &self,
        task: &Task,
        tries: Tries,
        refusal: &Refusal,
        (random, asked): (u64, Option<Duration>),
        now: BootTime,
    ) -> Self {
        let failure = Some(of_refusal(refusal, self.phase()));
        self.with(match tries.after(refusal.code) {
            Some(tries) => {
                let retry_at = Some(now.plus(tries.delay(random, asked)));
                At::Fetching { task: task.clone(), tries, retry_at, failure }
            }
            None => At::Idle { failure },
        })
    }

    /// What is known to run is what was measured; where that is a surprise, nothing is taken as given.
    fn measured(&self, from: Option<Arc<Deployment>>) -> Self {
        let running = match from {
            Some(from) if *from == *self.running.current => self.running.clone(),
            Some(from) => Running { current: from, leftovers: self.running.all(), whole: false },
            None => Running { whole: false, ..self.running.clone() },
        };
        Self { running, ..self.clone() }
    }

    fn checking(&self, prepared: Prepared, next: usize, now: BootTime) -> Self {
        let state = self.with(At::Checking { prepared, next });
        match (state.step(), state.at) {
            (None, At::Checking { prepared, .. }) => self.with(ready(prepared, now)),
            (_, at) => self.with(at),
        }
    }

    fn check_failed(&self, error: &StepError) -> Self {
        self.with(At::Idle { failure: Some(self.failure_of_step(error)) })
    }

    // Activation.

    /// The point of no return, unless the grant has run out.
    fn begun(&self, prepared: &Prepared, now: BootTime) -> Self {
        let prepared = prepared.clone();
        match prepared.task.terms() {
            Some(terms) if !prepared.task.is_expired(now) => {
                let leg = Leg::Stopping { next: 0 };
                let deadline = Timer::new(now, terms.apply_deadline);
                let course = Course { prepared, terms, deadline, leg, warning: None, revert: None };
                self.go(course, leg, now)
            }
            _ => self.with(At::Ready { prepared, is_void: true }),
        }
    }

    /// On to a leg, or past it if it has nothing to do, or to the end.
    fn go(&self, course: Course, leg: Leg, now: BootTime) -> Self {
        match leg.at_or_after(&course.change(&self.running), now) {
            Some(leg) => self.with(At::Activating(Course { leg, ..course })),
            None => self.arrived(course, now),
        }
    }

    fn switched(&self, course: &Course, is_as_wanted: bool, now: BootTime) -> Self {
        if is_as_wanted {
            return self.go(course.clone(), Leg::Starting { next: 0 }, now);
        }
        let message = "what is on the disk after the switch is not the release that was switched to";
        self.fail(course, failure(Code::TreeDiffers, self.phase(), message), now)
    }

    fn step_failed(&self, course: &Course, error: &StepError, now: BootTime) -> Self {
        let failure = self.failure_of_step(error);
        let is_passed = matches!(course.leg, Leg::Stopping { .. }) && self.step().is_some_and(|step| step.is_hook());
        if is_passed { self.pass(course, failure, now) } else { self.fail(course, failure, now) }
    }

    /// Notes a failure and goes on with the next step.
    fn pass(&self, course: &Course, failure: Failure, now: BootTime) -> Self {
        let mut course = course.clone();
        course.warning.get_or_insert(failure);
        let leg = course.leg.after_step();
        self.go(course, leg, now)
    }

    /// Turns back, or gives up if this was the way back or there is none.
    fn fail(&self, course: &Course, failure: Failure, now: BootTime) -> Self {
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
            Some(current) if !course.leg.is_after_switch() => Running { current, leftovers: from, whole: false },
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

    fn end(&self, course: Course, change: &Change, running: Running, outcome: Outcome, now: BootTime) -> Self {
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

    fn health_seen(&self, course: &Course, health: Health, log_tail: String, now: BootTime) -> Self {
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
    fn cleaned(&self, ended: &Ended, error: Option<&StepError>) -> Self {
        let mut ended = ended.clone();
        if let Some(error) = error {
            ended.warning.get_or_insert(self.failure_of_step(error));
        }
        ended.cleanup.remove(0);
        self.with(At::Ended(ended))
    }

    // Time.

    fn time_passed(&self, now: BootTime) -> Self {
        match &self.at {
            At::Fetching { task, tries, retry_at: Some(retry_at), failure } if now.has_reached(*retry_at) => {
                let (task, failure) = (task.clone(), failure.clone());
                self.with(At::Fetching { task, tries: *tries, retry_at: None, failure })
            }
            At::Ready { prepared, is_void: false } => self.with(ready(prepared.clone(), now)),
            At::Activating(course) if course.deadline.has_passed(now) => {
                let limit = Rough(course.deadline.limit);
                let failure = if self.is_proving() {
                    let window = Rough(course.terms.health_window);
                    let message = format!("it was not healthy for {window} without a break within {limit}");
                    failure(Code::Unhealthy, self.phase(), &message)
                } else {
                    let message = format!("the activation was not done within {limit}");
                    failure(Code::ApplyDeadline, self.phase(), &message)
                };
                self.fail(course, failure, now)
            }
            At::Ended(ended) if self.deadline().is_some_and(|deadline| now.has_reached(deadline)) => {
                self.with(At::Ended(Ended { is_told: true, ..ended.clone() })).next_if_told(now)
            }
            At::Idle { .. }
            | At::Fetching { .. }
            | At::LayingOut { .. }
            | At::Checking { .. }
            | At::Ready { .. }
            | At::Activating(_)
            | At::Ended(_) => self.clone(),
        }
    }

    /// The agent was away. Times of another boot start anew, grants of another boot are void, health is
    /// unknown, and a hook that must not run twice was interrupted.
    fn loaded(&self, now: BootTime) -> Self {
        let is_interrupted = self.step().is_some_and(|step| !step.may_rerun());
        match &self.at {
            At::Fetching { task, tries, retry_at, failure } => {
                let retry_at = retry_at.filter(|retry_at| retry_at.boot == now.boot);
                let (task, failure) = (task.clone(), failure.clone());
                self.with(At::Fetching { task, tries: *tries, retry_at, failure })
            }
            At::Ready { prepared, is_void: false } => self.with(ready(prepared.clone(), now)),
            At::Checking { .. } if is_interrupted => self.check_failed(&interrupted()),
            At::Activating(course) => {
                let course =
                    Course { deadline: course.deadline.reloaded(now), leg: course.leg.reloaded(now), ..course.clone() };
                if !is_interrupted {
                    return self.with(At::Activating(course));
                }
                let failure = self.failure_of_step(&interrupted());
                match course.leg {
                    Leg::Stopping { .. } if course.revert.is_some() => self.pass(&course, failure, now),
                    Leg::Stopping { .. }
                    | Leg::Switching
                    | Leg::Starting { .. }
                    | Leg::Proving { .. }
                    | Leg::Resuming { .. } => self.fail(&course, failure, now),
                }
            }
            At::Ended(ended) => {
                let since = if ended.since.boot == now.boot { ended.since } else { now };
                let ended = Ended { since, ..ended.clone() };
                if is_interrupted { self.cleaned(&ended, Some(&interrupted())) } else { self.with(At::Ended(ended)) }
            }
            At::Idle { .. } | At::LayingOut { .. } | At::Checking { .. } | At::Ready { .. } => self.clone(),
        }
    }

    /// A failure of the step that is under way.
    fn failure_of_step(&self, error: &StepError) -> Failure {
        match self.step() {
            Some(step) => of_step(error, self.phase(), &step.package.file.name),
            None => failure(error.code, self.phase(), &error.message),
        }
    }
}

/// Prepared; a grant among it may have run out by now.
fn ready(prepared: Prepared, now: BootTime) -> At {
    let is_void = prepared.task.is_expired(now);
    At::Ready { prepared, is_void }
}

fn interrupted() -> StepError {
    StepError {
        code: Code::HookInterrupted,
        message: "the agent or the host stopped while the hook ran, and it says rerun = false".to_owned(),
        log_tail: String::new(),
    }
}

impl Leg {
    const fn has_steps(self) -> bool {
        match self {
            Self::Stopping { .. } | Self::Starting { .. } | Self::Resuming { .. } => true,
            Self::Switching | Self::Proving { .. } => false,
        }
    }

    const fn is_after_switch(self) -> bool {
        match self {
            Self::Stopping { .. } | Self::Switching => false,
            Self::Starting { .. } | Self::Proving { .. } | Self::Resuming { .. } => true,
        }
    }

    const fn after_step(self) -> Self {
        match self {
            Self::Stopping { next } => Self::Stopping { next: next + 1 },
            Self::Starting { next } => Self::Starting { next: next + 1 },
            Self::Resuming { next } => Self::Resuming { next: next + 1 },
            Self::Switching | Self::Proving { .. } => self,
        }
    }

    /// This leg if it has something left to do, else the next one that has; absent at the end.
    fn at_or_after(self, change: &Change, now: BootTime) -> Option<Self> {
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
    fn reloaded(self, now: BootTime) -> Self {
        match self {
            Self::Proving { since, .. } => {
                let since = if since.boot == now.boot { since } else { now };
                Self::Proving { since, healthy_since: None }
            }
            Self::Stopping { .. } | Self::Switching | Self::Starting { .. } | Self::Resuming { .. } => self,
        }
    }
}
