//! **Decision.** What a state means to those who watch it, report it and clean up around it.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::report::{Failure, Phase};

use super::{At, Course, Ended, Leg, Outcome, State, Task};
use crate::apply::boot_time::BootTime;
use crate::apply::deployment::Deployment;
use crate::apply::steps::{self, Step};
use crate::host::Keep;

impl State {
    /// The step that is under way, where the state is one of steps.
    pub fn step(&self) -> Option<Step> {
        match &self.at {
            At::Checking { prepared, next } => steps::check(&prepared.target).into_iter().nth(*next),
            At::Activating(course) => {
                let change = course.change(&self.running);
                match course.leg {
                    Leg::Stopping { next } => change.stop().into_iter().nth(next),
                    Leg::Starting { next } => change.start().into_iter().nth(next),
                    Leg::Resuming { next } => change.resume().into_iter().nth(next),
                    Leg::Switching | Leg::Proving { .. } => None,
                }
            }
            At::Ended(ended) => {
                let package = ended.cleanup.first()?;
                steps::cleanup(&self.running.current, package)
            }
            At::Idle { .. } | At::Fetching { .. } | At::LayingOut { .. } | At::Ready { .. } => None,
        }
    }

    /// What is left to the activation; absent outside of one.
    pub fn time_left(&self, now: BootTime) -> Option<Duration> {
        if let At::Activating(course) = &self.at { Some(course.deadline.left(now)) } else { None }
    }

    /// Whether the host is disturbed or about to be, past the point of no return.
    pub fn is_activating(&self) -> bool {
        matches!(self.at, At::Activating(_))
    }

    /// Whether nothing runs, and nothing is under way that could change it.
    pub fn runs_nothing(&self) -> bool {
        let is_at_rest = matches!(self.at, At::Idle { .. } | At::Ended(Ended { is_collected: true, .. }));
        is_at_rest
            && self.next.is_none()
            && self.running.all().iter().all(|deployment| deployment.packages.is_empty())
    }

    /// Whether health decides what comes next.
    pub fn is_proving(&self) -> bool {
        matches!(self.at, At::Activating(Course { leg: Leg::Proving { .. }, .. }))
    }

    /// What must be well now, if anything is meant to run as a whole.
    pub fn watched(&self) -> Option<&Arc<Deployment>> {
        let deployment = match &self.at {
            At::Activating(course) => match course.leg {
                Leg::Proving { .. } | Leg::Resuming { .. } => course.destination(),
                Leg::Stopping { .. } | Leg::Switching | Leg::Starting { .. } => return None,
            },
            At::Idle { .. }
            | At::Fetching { .. }
            | At::LayingOut { .. }
            | At::Checking { .. }
            | At::Ready { .. }
            | At::Ended(_) => &self.running.current,
        };
        deployment.has_services().then_some(deployment)
    }

    /// The starts of all services that should run now. To be repeated when the agent starts: after a
    /// reboot nothing else may start them. No hook is among them.
    pub fn should_run(&self) -> Vec<Step> {
        let At::Activating(course) = &self.at else { return steps::start_all(&self.running.current) };
        let change = course.change(&self.running);
        match course.leg {
            Leg::Stopping { .. } | Leg::Switching => change.left_alone(),
            Leg::Starting { next } => {
                let started = change.start().into_iter().take(next).filter(|step| !step.is_hook());
                change.left_alone().into_iter().chain(started).collect()
            }
            Leg::Proving { .. } | Leg::Resuming { .. } => steps::start_all(&change.to),
        }
    }

    /// What must stay on the host.
    pub fn keep(&self) -> Keep {
        let mut keep = Keep::default();
        keep.releases.extend(self.running.all().iter().map(|deployment| deployment.release));
        let mut tasks: Vec<&Task> = self.next.iter().collect();
        match &self.at {
            At::Fetching { task, .. } | At::LayingOut { task, .. } => tasks.push(task),
            At::Checking { prepared, .. } | At::Ready { prepared, .. } => tasks.push(&prepared.task),
            At::Activating(course) => tasks.push(&course.prepared.task),
            At::Ended(ended) => keep.releases.push(ended.way_back),
            At::Idle { .. } => {}
        }
        for task in tasks {
            keep.contents.extend([task.assignment.release.clone(), task.assignment.way_back.clone()]);
        }
        keep
    }

    pub fn phase(&self) -> Phase {
        match &self.at {
            At::Idle { .. } => Phase::Idle,
            At::Fetching { .. } => Phase::Fetching,
            At::LayingOut { .. } | At::Checking { .. } => Phase::LayingOut,
            At::Ready { .. } => Phase::Ready,
            At::Activating(Course { revert: Some(_), .. }) => Phase::Reverting,
            At::Activating(course) => course.leg.phase(),
            At::Ended(ended) => match ended.outcome {
                Outcome::Settled => Phase::Settled,
                Outcome::Reverted { .. } => Phase::Reverted,
                Outcome::Failed { .. } => Phase::Failed,
            },
        }
    }

    /// What the coordinator is told: the phase that the assignment of [`State::stamp`] is in, and the one
    /// failure that matters. With a phase that has not gone wrong, the failure is a warning.
    pub fn report(&self) -> (Phase, Option<Failure>) {
        let failure = match &self.at {
            At::Idle { failure } | At::Fetching { failure, .. } => failure.as_ref(),
            At::LayingOut { .. } | At::Checking { .. } | At::Ready { .. } => None,
            At::Activating(course) => {
                course.revert.as_ref().map(|revert| &revert.cause).or(course.warning.as_ref())
            }
            At::Ended(ended) => match &ended.outcome {
                Outcome::Settled => ended.warning.as_ref(),
                Outcome::Reverted { cause } | Outcome::Failed { cause } => Some(cause),
            },
        };
        // A host that is ready and says so under a grant says that the grant is void.
        let is_about_to_begin =
            matches!(&self.at, At::Ready { prepared, is_void: false } if prepared.task.terms().is_some());
        let phase = if is_about_to_begin { Phase::LayingOut } else { self.phase() };
        (phase, failure.cloned())
    }
}

impl Leg {
    const fn phase(self) -> Phase {
        match self {
            Self::Stopping { .. } => Phase::Stopping,
            Self::Switching => Phase::Switching,
            Self::Starting { .. } => Phase::Starting,
            Self::Proving { .. } | Self::Resuming { .. } => Phase::Proving,
        }
    }
}
