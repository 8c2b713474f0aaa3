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
//! - What packages ask for must fit into the deadline, there and back, or nothing is begun: a hook that is
//!   cut off half way, though it kept its word, would be worse than none.
//! - A release without services has nothing to prove, and none of its waits for a health window.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::{Assignment, Order, Stamp, Terms};
use houston_common::digest::{Digest, ReleaseDigest};
use houston_common::id::PackageName;
use houston_common::report::Failure;

use super::boot_time::{BootTime, Timer};
use super::deployment::Deployment;
use super::steps::Change;
use retry::Tries;

mod activate;
mod event;
mod prepare;
pub mod retry;
mod transition;
mod view;

pub use event::{Action, Event, Refused};

#[cfg(test)]
mod laws;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

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
#[expect(clippy::large_enum_variant, reason = "there is one for each environment")]
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
                if prepared.task.terms().is_some() && !is_void {
                    Action::Begin
                } else {
                    Action::Wait
                }
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

impl Course {
    /// Where it is going now: there or back.
    pub fn destination(&self) -> &Arc<Deployment> {
        if self.revert.is_some() { &self.prepared.way_back } else { &self.prepared.target }
    }

    /// What the course changes, given what ran before it.
    pub fn change(&self, before: &Running) -> Change {
        match &self.revert {
            None => {
                let (from, to) = (before.all(), Arc::clone(&self.prepared.target));
                Change { from, whole: before.whole, stop_hooks: true, to }
            }
            Some(revert) => self.change_back(before, revert.was_started),
        }
    }

    /// What the way back changes.
    fn change_back(&self, before: &Running, was_started: bool) -> Change {
        let (target, mut from) = (&self.prepared.target, before.all());
        // The last is the one that `current` names. A target that was never started counts too: what it
        // would have changed has been stopped.
        if was_started {
            from.retain(|deployment| deployment.release != target.release);
            from.push(Arc::clone(target));
        } else if from.iter().all(|deployment| deployment.release != target.release) {
            from.insert(0, Arc::clone(target));
        }
        let to = Arc::clone(&self.prepared.way_back);
        Change { from, whole: before.whole, stop_hooks: was_started, to }
    }
}
