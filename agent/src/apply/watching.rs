//! The watch over what runs, in two hands: the driver begins it anew whenever something else runs, and
//! somebody else probes, who must not wait while the driver is in the middle of a hook.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use houston_common::report::HealthReport;

use super::boot_time::BootTime;
use super::deployment::Deployment;
use super::health::{CheckId, Health, ProbeRun, Watch};

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Watching(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    watch: Option<Watch>,
    /// How many watches there have been.
    number: u64,
    /// Since when there has been nothing that could be unwell.
    quiet_since: Option<BootTime>,
}

/// What there is to watch.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    Services(&'a Arc<Deployment>),
    /// What runs has no services: it is well for as long as it is there.
    Quiet,
    /// Nobody knows: it is about to change, or has not been looked at.
    Nothing,
}

impl Watching {
    /// A new watch begins whenever something else runs, and after every stop in between.
    pub(super) fn turn_to(&self, subject: Subject<'_>, now: BootTime) {
        let mut inner = self.inner();
        let (wanted, is_quiet) = match subject {
            Subject::Services(deployment) => (Some(deployment), false),
            Subject::Quiet => (None, true),
            Subject::Nothing => (None, false),
        };
        inner.quiet_since = is_quiet.then(|| inner.quiet_since.unwrap_or(now));
        if inner.watch.as_ref().map(|watch| &watch.deployment) != wanted {
            inner.number += 1;
            inner.watch = wanted.map(|deployment| Watch::new(inner.number, Arc::clone(deployment), now));
        }
    }

    /// The probes to perform now, each handed out once. Hand each result to [`Watching::observe`].
    pub fn due(&self, now: BootTime) -> Vec<ProbeRun> {
        self.inner().watch.as_mut().map(|watch| watch.due(now)).unwrap_or_default()
    }

    /// What a probe saw: `Err` in words if it failed, was late or made no sense.
    pub fn observe(&self, id: CheckId, result: Result<(), String>, now: BootTime) {
        if let Some(watch) = &mut self.inner().watch {
            watch.observe(id, result, now);
        }
    }

    pub fn health(&self, now: BootTime) -> Health {
        self.inner().watch.as_ref().map_or(Health::Unknown, |watch| watch.health(now))
    }

    /// As the coordinator is told.
    pub fn report(&self, now: BootTime) -> HealthReport {
        let quiet_since = self.inner().quiet_since;
        match quiet_since {
            Some(since) => {
                HealthReport::Healthy { for_at_least: now.since(since).unwrap_or_default(), passes: 0 }
            }
            None => {
                let passes = self.inner().watch.as_ref().map_or(0, Watch::passes);
                self.health(now).report(passes, now)
            }
        }
    }

    /// When a probe is due next.
    pub fn next_probe(&self) -> Option<BootTime> {
        self.inner().watch.as_ref().and_then(Watch::next_probe)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
