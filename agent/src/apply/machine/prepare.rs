//! **Decision.** Assignments, and what comes before the point of no return.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::Stamp;
use houston_common::error::Refusal;

use super::retry::Tries;
use super::{At, Prepared, Refused, Running, State, Task};
use crate::apply::boot_time::BootTime;
use crate::apply::deployment::Deployment;
use crate::apply::failure::of_refusal;
use crate::host::StepError;

impl State {
    pub(super) fn assigned(&self, task: Task, now: BootTime) -> Result<Self, Refused> {
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
            // A coordinator that has taken over stamps what it finds anew, under its own epoch. What the
            // generation names stays the same, and a grant that was used once is not given a second time.
            let next = self.next.as_ref().map(|task| task.assignment.stamp);
            let is_same = |known: &Stamp| known.generation == new.generation;
            if offered.fingerprint == floor.fingerprint
                && is_same(old)
                && [self.stamp, next].iter().flatten().any(is_same)
            {
                return Ok(Self { floor: Some(offered), ..self.clone() });
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
    pub(super) fn take(self, task: Task, now: BootTime) -> Self {
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
            | At::Ended(_) => At::Fetching { task, tries: Tries::default(), retry_at: None, failure: None },
        };
        Self { at, stamp, next: None, ..self }
    }

    /// Takes the task that waits, once the coordinator knows how the activation ended.
    pub(super) fn next_if_told(self, now: BootTime) -> Self {
        match (&self.at, &self.next) {
            (At::Ended(ended), Some(next)) if ended.is_collected && ended.is_told => {
                let next = next.clone();
                self.take(next, now)
            }
            _ => self,
        }
    }

    pub(super) fn prepare_failed(
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
    pub(super) fn measured(&self, from: Option<Arc<Deployment>>) -> Self {
        let running = match from {
            Some(from) if *from == *self.running.current => self.running.clone(),
            Some(from) => Running { current: from, leftovers: self.running.all(), whole: false },
            None => Running { whole: false, ..self.running.clone() },
        };
        Self { running, ..self.clone() }
    }

    pub(super) fn checking(&self, prepared: Prepared, next: usize, now: BootTime) -> Self {
        let state = self.with(At::Checking { prepared, next });
        match (state.step(), state.at) {
            (None, At::Checking { prepared, .. }) => self.with(ready(prepared, now)),
            (_, at) => self.with(at),
        }
    }

    pub(super) fn check_failed(&self, error: &StepError) -> Self {
        self.with(At::Idle { failure: Some(self.failure_of_step(error)) })
    }
}

/// Prepared; a grant among it may have run out by now.
pub(super) fn ready(prepared: Prepared, now: BootTime) -> At {
    let is_void = prepared.task.is_expired(now);
    At::Ready { prepared, is_void }
}
