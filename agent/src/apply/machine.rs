//! **Decision.** Which step comes next on this host, for one environment. See [`super`] for the diagram.
//!
//! [`State::action`] says what to do now, [`State::on`] where an event leads, [`State::deadline`] when
//! to call even if nothing happens. The transition table is in `transition.rs`.
//!
//! What is decided here, where the words alone do not say it:
//! - The way back is taken once, under the same grant, and has as long again as the way there. If it is
//!   the very release that failed there is none, and the activation ends in `Failed`.
//! - A `drain` or `stop` hook that fails is noted and passed: what is being replaced cannot block its
//!   replacement. A service that cannot be stopped does fail the activation: its port and files are in use.
//! - While a new release is proved, a check that fails reverts at once; `start_grace` and `unhealthy_after`
//!   are the patience that the package asked for. A way back is given until its deadline: there is nothing
//!   better to go to.
//! - A release without services has nothing to prove, and none of its waits for a health window.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::{Assignment, Order, Stamp, Terms};
use houston_common::digest::{Digest, ReleaseDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, PackageName, StoreId};
use houston_common::release::ReleaseContent;
use houston_common::report::{Failure, Phase};

use super::boot_time::{BootTime, Timer};
use super::deployment::Deployment;
use super::health::Health;
use super::steps::{self, Change, Step};
use crate::host::{FetchError, Keep, StepError};

pub mod retry;
mod transition;

#[cfg(test)]
mod laws;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use retry::Tries;

/// How long an ended activation waits to be told to the coordinator before a newer assignment, which has
/// come meanwhile, takes its place. Two holds of a check-in: longer means that nobody listens.
pub const TELL_WAIT: Duration = Duration::from_secs(60);

/// Where an environment stands on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The newest assignment ever accepted. Absent before the first.
    pub floor: Option<Floor>,
    /// Of the assignment that `at` is about. Absent before the first.
    pub stamp: Option<Stamp>,
    /// What may run. While an activation is under way, what ran before it.
    pub running: Running,
    /// Came after the point of no return; its turn is when the activation has ended.
    pub next: Option<Task>,
    pub at: At,
}

/// The newest assignment accepted: nothing below it is, and nothing else with the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    pub stamp: Stamp,
    /// Of all that the assignment says.
    pub fingerprint: Digest,
}

/// What may run on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What `current` names, as far as is known.
    pub current: Arc<Deployment>,
    /// Older ones of which services may still run, oldest first: an activation has failed half way.
    pub leftovers: Vec<Arc<Deployment>>,
    /// Whether all of `current` is known to have been started, so that it can be left alone.
    pub whole: bool,
}

/// An assignment with the time at which the check-in that brought it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub assignment: Assignment,
    pub sent: BootTime,
}

/// A task whose releases are both on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pub task: Task,
    pub target: Arc<Deployment>,
    pub way_back: Arc<Deployment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    Idle {
        /// Why the prepare was given up.
        failure: Option<Failure>,
    },
    Fetching {
        task: Task,
        tries: Tries,
        /// Not before.
        retry_at: Option<BootTime>,
        /// Of the last try.
        failure: Option<Failure>,
    },
    LayingOut {
        task: Task,
        tries: Tries,
    },
    /// The `check` hooks, the last part of laying out.
    Checking {
        prepared: Prepared,
        next: usize,
    },
    Ready {
        prepared: Prepared,
        /// The order was to activate, and came to nothing: the coordinator must be asked again.
        is_void: bool,
    },
    /// From `Stopping` to `Proving`, or `Reverting`.
    Activating(Course),
    /// `Settled`, `Reverted` or `Failed`.
    Ended(Ended),
}

/// An activation under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    pub prepared: Prepared,
    pub terms: Terms,
    /// For the way there, then anew for the way back.
    pub deadline: Timer,
    pub leg: Leg,
    /// Something went wrong that did not stop it.
    pub warning: Option<Failure>,
    /// Set on the way back.
    pub revert: Option<Revert>,
}

/// A part of an activation. `next` counts the steps of the leg that are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    Stopping { next: usize },
    Switching,
    Starting { next: usize },
    Proving { since: BootTime, healthy_since: Option<BootTime> },
    Resuming { next: usize },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    pub cause: Failure,
    /// Whether the release that failed had been started, so that its stop hooks are due.
    pub was_started: bool,
}

/// An activation that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub warning: Option<Failure>,
    /// Kept on the host, to be gone back to.
    pub way_back: ReleaseDigest,
    /// Packages whose `cleanup` hook is still to run, in this order.
    pub cleanup: Vec<PackageName>,
    pub is_collected: bool,
    pub since: BootTime,
    /// Whether the coordinator has answered a report of this end.
    pub is_told: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Settled,
    Reverted { cause: Failure },
    Failed { cause: Failure },
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent has started and found this state.
    Loaded,
    /// A check-in brought an assignment.
    Assigned(Task),
    /// Nothing else: time has passed.
    TimePassed,
    Fetched,
    /// `random` is any number, for jitter.
    FetchFailed { error: FetchError, random: u64 },
    /// `from` is what `current` names, absent if it could not be measured.
    LaidOut { target: Arc<Deployment>, way_back: Arc<Deployment>, from: Option<Arc<Deployment>> },
    LayOutFailed { refusal: Refusal, random: u64 },
    /// The host may begin to activate.
    Begun,
    StepDone,
    StepFailed(StepError),
    /// What `current` names now, recomputed from disk.
    Switched { running: Option<ReleaseDigest> },
    SwitchFailed(Refusal),
    /// `log_tail`: the last output of the service that is unhealthy.
    HealthSeen { health: Health, log_tail: String },
    /// The coordinator has answered a report of this state.
    Reported,
    Collected,
}

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Loaded => "Loaded",
            Self::Assigned(_) => "Assigned",
            Self::TimePassed => "TimePassed",
            Self::Fetched => "Fetched",
            Self::FetchFailed { .. } => "FetchFailed",
            Self::LaidOut { .. } => "LaidOut",
            Self::LayOutFailed { .. } => "LayOutFailed",
            Self::Begun => "Begun",
            Self::StepDone => "StepDone",
            Self::StepFailed(_) => "StepFailed",
            Self::Switched { .. } => "Switched",
            Self::SwitchFailed(_) => "SwitchFailed",
            Self::HealthSeen { .. } => "HealthSeen",
            Self::Reported => "Reported",
            Self::Collected => "Collected",
        }
    }
}

/// What to do now. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing, until an event or the deadline.
    Wait,
    /// Fetch what is missing of both.
    Fetch { release: ReleaseContent, way_back: ReleaseContent },
    /// Lay both out, and measure what is current.
    LayOut { release: ReleaseContent, way_back: ReleaseContent },
    /// Say `Begun` if no other environment of the host is activating. Nothing is disturbed before.
    Begin,
    Run(Step),
    Switch { to: Option<ReleaseDigest> },
    Collect(Keep),
}

/// Why an event is refused; the state stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("assignment {} is older than {}, which was accepted before", Numbers(.offered), Numbers(.floor))]
    Older { offered: (Epoch, Generation), floor: (Epoch, Generation) },
    #[error("assignment {} differs from the one of the same number that was accepted before", Numbers(.0))]
    Different((Epoch, Generation)),
    #[error("an assignment of store {offered} came to a host of store {floor}")]
    ForeignStore { offered: StoreId, floor: StoreId },
    #[error("{event} cannot happen in {phase:?}")]
    Unexpected { phase: Phase, event: &'static str },
}

struct Numbers<'a>(&'a (Epoch, Generation));

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.0, self.0.1)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let (code, next) = match &refused {
            Refused::Older { .. } => (Code::AssignmentOlder, "if the store was restored, run adopt"),
            Refused::Different(_) => (Code::AssignmentDiffers, "if the store was restored, run adopt"),
            Refused::ForeignStore { .. } => (Code::StateForeign, "enroll the host anew to move it"),
            Refused::Unexpected { .. } => (Code::Internal, "please report it with the agent's log"),
        };
        Self::new(code, refused.to_string(), next)
    }
}

impl State {
    /// A host that was never given anything in this environment, and runs `current`.
    pub fn new(current: Arc<Deployment>) -> Self {
        Self {
            floor: None,
            stamp: None,
            running: Running { current, leftovers: Vec::new(), whole: true },
            next: None,
            at: At::Idle { failure: None },
        }
    }

    /// What is left when the journal is lost: what the disk shows and the newest assignment accepted,
    /// which is not begun a second time.
    pub fn rebuilt(current: Arc<Deployment>, floor: Option<Floor>, cause: Failure) -> Self {
        Self {
            floor,
            stamp: floor.map(|floor| floor.stamp),
            running: Running { current, leftovers: Vec::new(), whole: false },
            next: None,
            at: At::Idle { failure: Some(cause) },
        }
    }

    /// With the floor that was recorded apart from this state, where that is higher: the host went down
    /// between accepting an assignment and recording the state it led to.
    #[must_use]
    pub fn with_recorded(self, floor: Option<Floor>) -> Self {
        let order = |floor: &Floor| floor.stamp.order();
        let floor = self.floor.into_iter().chain(floor).max_by_key(order);
        Self { floor, ..self }
    }

    /// What must be done now.
    pub fn action(&self) -> Action {
        match &self.at {
            At::Idle { .. } | At::Fetching { retry_at: Some(_), .. } => Action::Wait,
            At::Fetching { task, retry_at: None, .. } => {
                let Assignment { release, way_back, .. } = task.assignment.clone();
                Action::Fetch { release, way_back }
            }
            At::LayingOut { task, .. } => {
                let Assignment { release, way_back, .. } = task.assignment.clone();
                Action::LayOut { release, way_back }
            }
            At::Ready { prepared, is_void } => {
                if prepared.task.terms().is_some() && !is_void { Action::Begin } else { Action::Wait }
            }
            At::Checking { .. } => self.step().map_or(Action::Wait, Action::Run),
            At::Activating(course) => match (course.leg, self.step()) {
                (Leg::Switching, _) => Action::Switch { to: course.change(&self.running).to.link() },
                (_, Some(step)) => Action::Run(step),
                (_, None) => Action::Wait,
            },
            At::Ended(ended) => match self.step() {
                Some(step) => Action::Run(step),
                None if !ended.is_collected => Action::Collect(self.keep()),
                None => Action::Wait,
            },
        }
    }

    /// When to call [`State::on`] even if nothing happens. Every state that waits has one, but those in
    /// which the coordinator has the next word.
    pub fn deadline(&self) -> Option<BootTime> {
        match &self.at {
            At::Idle { .. } | At::LayingOut { .. } | At::Checking { .. } => None,
            At::Fetching { retry_at, .. } => *retry_at,
            At::Ready { prepared, is_void } => {
                let terms = prepared.task.terms().filter(|_| !is_void)?;
                Some(prepared.task.sent.plus(terms.start_within))
            }
            At::Activating(course) => {
                let proved = match course.leg {
                    Leg::Proving { healthy_since, .. } => {
                        healthy_since.map(|since| since.plus(course.terms.health_window))
                    }
                    Leg::Stopping { .. } | Leg::Switching | Leg::Starting { .. } | Leg::Resuming { .. } => {
                        None
                    }
                };
                BootTime::earliest(Some(course.deadline.deadline()), proved)
            }
            At::Ended(ended) => self.next.as_ref().map(|_| ended.since.plus(TELL_WAIT)),
        }
    }

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
        (self.phase(), failure.cloned())
    }
}

impl Task {
    /// What the grant says, if it is one.
    pub fn terms(&self) -> Option<Terms> {
        match self.assignment.order {
            Order::Prepare => None,
            Order::Activate(terms) => Some(terms),
        }
    }

    /// Whether it is a grant whose time to begin is over.
    pub fn is_expired(&self, now: BootTime) -> bool {
        self.terms().is_some_and(|terms| {
            self.sent.boot != now.boot || now.has_reached(self.sent.plus(terms.start_within))
        })
    }

    /// Of all that the assignment says.
    pub fn floor(&self) -> Floor {
        let Assignment { environment, stamp, order, release, way_back } = &self.assignment;
        let order = match order {
            Order::Prepare => "prepare".to_owned(),
            Order::Activate(Terms { start_within, apply_deadline, health_window }) => {
                format!("activate {start_within:?} {apply_deadline:?} {health_window:?}")
            }
        };
        let (release, way_back) = (release.release().digest(), way_back.release().digest());
        let text = format!("houston-assignment 1\n{environment}\n{order}\n{release}\n{way_back}\n");
        Floor { stamp: *stamp, fingerprint: Digest::of(text.as_bytes()) }
    }
}

impl Running {
    /// Everything that may run, oldest first, each release once.
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        let mut all: Vec<Arc<Deployment>> = Vec::new();
        for deployment in self.leftovers.iter().chain([&self.current]) {
            all.retain(|older| older.release != deployment.release);
            all.push(Arc::clone(deployment));
        }
        all
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

impl Course {
    /// Where it is going now: there or back.
    pub fn destination(&self) -> &Arc<Deployment> {
        if self.revert.is_some() { &self.prepared.way_back } else { &self.prepared.target }
    }

    /// What the course changes, given what ran before it.
    pub fn change(&self, before: &Running) -> Change {
        let (target, mut from) = (&self.prepared.target, before.all());
        if let Some(revert) = &self.revert {
            // The last is the one that `current` names. A target that was never started counts too: what
            // it would have changed has been stopped.
            if revert.was_started {
                from.retain(|deployment| deployment.release != target.release);
                from.push(Arc::clone(target));
            } else if from.iter().all(|deployment| deployment.release != target.release) {
                from.insert(0, Arc::clone(target));
            }
        }
        Change {
            from,
            whole: before.whole,
            stop_hooks: self.revert.as_ref().is_none_or(|revert| revert.was_started),
            to: Arc::clone(self.destination()),
        }
    }
}
