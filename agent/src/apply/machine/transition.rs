//! **Decision.** The transition table: where each event leads in each state.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::Rough;
use houston_common::error::Code;
use houston_common::report::Failure;

use super::prepare::ready;
use super::{At, Course, Ended, Event, Leg, Prepared, Refused, State};
use crate::apply::boot_time::BootTime;
use crate::apply::failure::{failure, of_refusal, of_step};
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

    pub(super) fn with(&self, at: At) -> Self {
        Self { at, ..self.clone() }
    }

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
                let course = Course {
                    deadline: course.deadline.reloaded(now),
                    leg: course.leg.reloaded(now),
                    ..course.clone()
                };
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
                if is_interrupted {
                    self.cleaned(&ended, Some(&interrupted()))
                } else {
                    self.with(At::Ended(ended))
                }
            }
            At::Idle { .. } | At::LayingOut { .. } | At::Checking { .. } | At::Ready { .. } => self.clone(),
        }
    }

    /// A failure of the step that is under way.
    pub(super) fn failure_of_step(&self, error: &StepError) -> Failure {
        match self.step() {
            Some(step) => of_step(error, self.phase(), &step.package.file.name),
            None => failure(error.code, self.phase(), &error.message),
        }
    }
}

fn interrupted() -> StepError {
    StepError {
        code: Code::HookInterrupted,
        message: "the agent or the host stopped while the hook ran, and it says rerun = false".to_owned(),
        log_tail: String::new(),
    }
}
