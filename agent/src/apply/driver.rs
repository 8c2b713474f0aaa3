//! Performs what the machine of one environment decides, one effect at a time.
//!
//! The driver reads no clock and starts no thread: whoever owns it hands in the time and whatever comes
//! from outside, and calls [`Driver::step`] until it is told to wait. Production does so on a thread that
//! may block; the simulator does so with its own time. Every state is durable before the driver holds it,
//! so whatever the driver does, says or reports is what it would do, say and report after a crash.

use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::Assignment;
use houston_common::digest::ReleaseDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;
use houston_common::package::HOOK_TIMEOUT_DEFAULT;
use houston_common::release::ReleaseContent;
use houston_common::report::{EnvironmentReport, Phase};

use super::boot_time::BootTime;
use super::deployment::Deployment;
use super::failure::of_refusal;
use super::health::{CheckId, Health, ProbeRun};
use super::journal;
use super::machine::{Action, Event, State, Task};
use super::steps::{Step, StepKind};
use super::watching::{Subject, Watching};
use crate::host::{Fetch, HookStep, Host, Record, ServiceStep, StepError};

mod load;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

/// A fetch returns after this long, so that a newer assignment need not wait for a large release.
const FETCH_SLICE: Duration = Duration::from_secs(5);

/// Until a journal that could not be written is written again. Short, as the host may be half way.
const JOURNAL_RETRY: Duration = Duration::from_secs(5);

/// What a step leaves to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// There is more to do: step again, with the time that it is then.
    No,
    /// Step again then, or when something has happened.
    Until(BootTime),
    /// Step again when something has happened.
    Event,
}

/// Why an assignment was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error(transparent)]
    Refused(#[from] super::machine::Refused),
    /// It may be offered again: nothing of it was kept.
    #[error(transparent)]
    Disk(Refusal),
}

/// One environment on this host.
#[derive(Debug)]
pub struct Driver<H> {
    environment: EnvironmentName,
    host: H,
    /// Durable, once `is_recorded`.
    state: State,
    /// Whether the journal holds the state. Only at the start it may not; no floor is written before.
    is_recorded: bool,
    /// What the last effect came to; not durable yet.
    pending: Option<Event>,
    /// Whether the agent has just started, and has not yet seen to what should run. Nothing is probed
    /// before: what a reboot has stopped is not unhealthy, it is stopped.
    is_new: bool,
    watching: Watching,
    /// What `current` was found to name when it was last looked at.
    measured: Option<ReleaseDigest>,
    /// The journal cannot be written, so nothing may be done.
    blocked: Option<Refusal>,
}

impl<H: Host> Driver<H> {
    /// Takes an assignment that a check-in brought, which was sent at `sent`. Repeating one is harmless.
    /// If the same answer also acknowledges a report, call [`Driver::reported`] first.
    pub fn assign(&mut self, assignment: Assignment, sent: BootTime, now: BootTime) -> Result<(), NotTaken> {
        self.take_pending(now).map_err(NotTaken::Disk)?;
        let next = self.state.on(Event::Assigned(Task { assignment, sent }), now)?;
        self.adopt(next, now).map_err(NotTaken::Disk)
    }

    /// The coordinator has answered a report that had this phase.
    pub fn reported(&mut self, phase: Phase, now: BootTime) {
        if self.pending.is_none() && self.state.phase() == phase {
            // Refused wherever nothing waits to be told; a disk that cannot note it will be told again.
            if let Ok(next) = self.state.on(Event::Reported, now) {
                let _ = self.adopt(next, now);
            }
        }
    }

    /// The probes to perform now, on any thread. Hand each result to [`Driver::observe`].
    pub fn probes(&mut self, now: BootTime) -> Vec<ProbeRun> {
        self.watching.due(now)
    }

    /// What a probe saw: `Err` in words if it failed, was late or made no sense.
    pub fn observe(&mut self, id: CheckId, result: Result<(), String>, now: BootTime) {
        self.watching.observe(id, result, now);
    }

    /// Does at most one thing. To be called whenever something has come in. `may_begin` says whether the
    /// environment may activate now: at most one of a host does at a time. What it was doing it goes on with
    /// in any case.
    pub fn step(&mut self, now: BootTime, may_begin: bool) -> Wait {
        match self.try_step(now, may_begin) {
            Ok(wait) => {
                self.blocked = None;
                wait
            }
            Err(refusal) => {
                tracing::error!(environment = %self.environment, "{refusal}");
                self.blocked = Some(refusal);
                Wait::Until(now.plus(JOURNAL_RETRY))
            }
        }
    }

    /// What the coordinator is told.
    pub fn report(&self, now: BootTime) -> EnvironmentReport {
        let (phase, failure) = self.state.report();
        EnvironmentReport {
            environment: self.environment.clone(),
            stamp: self.state.stamp,
            phase,
            running: self.measured,
            health: self.watching.report(now),
            failure: self.blocked.as_ref().map(|refusal| of_refusal(refusal, phase)).or(failure),
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// With a watch that somebody else has too, who probes while the driver is busy.
    #[must_use]
    pub fn watched_by(self, watching: Watching) -> Self {
        Self { watching, ..self }
    }

    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Looks at the disk again, for the next reports.
    pub fn measure(&mut self) {
        self.measured = self.host.measure().ok().and_then(|deployment| deployment.link());
    }

    fn try_step(&mut self, now: BootTime, may_begin: bool) -> Result<Wait, Refusal> {
        // One thing at a time: whoever steps can tell what a step has led to before the next one blocks.
        if self.pending.is_some() {
            return self.take_pending(now).map(|()| Wait::No);
        }
        if std::mem::take(&mut self.is_new) {
            self.start_what_should_run();
            self.watch_what_runs(now);
            return Ok(Wait::No);
        }
        if self.state.is_proving() {
            let event = self.health_event(now);
            self.take(event, now)?;
        }
        self.take(Event::TimePassed, now)?;
        match self.state.action() {
            Action::Wait => Ok(self.wait()),
            Action::Begin if !may_begin => Ok(self.wait()),
            Action::Begin => self.take(Event::Begun, now).map(|()| Wait::No),
            action => {
                self.pending = self.perform(action, now);
                Ok(Wait::No)
            }
        }
    }

    /// Probes have their own time: it counts here only where health decides what comes next.
    fn wait(&self) -> Wait {
        BootTime::earliest(self.state.deadline(), self.watching.next_probe()).map_or(Wait::Event, Wait::Until)
    }

    fn health_event(&mut self, now: BootTime) -> Event {
        let health = self.watching.health(now);
        let log_tail = match &health {
            Health::Unhealthy { package, service, .. } => self.host.log_tail(package, service),
            Health::Unknown | Health::Healthy { .. } | Health::Late { .. } => String::new(),
        };
        Event::HealthSeen { health, log_tail }
    }

    fn take_pending(&mut self, now: BootTime) -> Result<(), Refusal> {
        let Some(event) = self.pending.clone() else { return Ok(()) };
        self.take(event, now)?;
        self.pending = None;
        Ok(())
    }

    /// Nothing else may do so after a reboot. What does not start is for its health to tell.
    fn start_what_should_run(&mut self) {
        for step in self.state.should_run() {
            if let Err(error) = perform_step(&mut self.host, &step, Duration::MAX) {
                tracing::warn!(environment = %self.environment, package = %step.package.file.name, "{error}");
            }
        }
    }

    /// Takes an event of our own. That it is refused would be a bug; the state then stays as it is.
    fn take(&mut self, event: Event, now: BootTime) -> Result<(), Refusal> {
        match self.state.on(event, now) {
            Ok(next) => self.adopt(next, now),
            Err(refused) => {
                tracing::error!(environment = %self.environment, "{refused}");
                Ok(())
            }
        }
    }

    /// Makes a state durable, and then ours. The floor comes first: it is the promise not to go back.
    fn adopt(&mut self, next: State, now: BootTime) -> Result<(), Refusal> {
        if next != self.state || !self.is_recorded {
            if let Some(floor) = next.floor.filter(|floor| self.state.floor != Some(*floor)) {
                self.host.write_record(Record::Floor, &journal::write_floor(&floor)?)?;
            }
            self.host.write_record(Record::Journal, &journal::write_state(&next)?)?;
            if next.phase() != self.state.phase() {
                let (phase, failure) = next.report();
                tracing::info!(environment = %self.environment, ?phase, failure = ?failure.map(|f| f.message));
            }
            self.state = next;
            self.is_recorded = true;
        }
        self.watch_what_runs(now);
        Ok(())
    }

    fn watch_what_runs(&mut self, now: BootTime) {
        let is_whole = self.measured == self.state.running.current.link();
        let subject = match self.state.watched() {
            _ if self.is_new => Subject::Nothing,
            Some(deployment) => Subject::Services(deployment),
            None if self.state.is_activating() || !is_whole => Subject::Nothing,
            None => Subject::Quiet,
        };
        self.watching.turn_to(subject, now);
    }

    /// Performs an action; what it came to, or nothing if it is not done yet.
    fn perform(&mut self, action: Action, now: BootTime) -> Option<Event> {
        match action {
            Action::Wait | Action::Begin => None,
            Action::Fetch { release, way_back } => self.fetch(&release, &way_back),
            Action::LayOut { release, way_back } => Some(self.lay_out(&release, &way_back)),
            Action::Run(step) => {
                let time_left = self.state.time_left(now).unwrap_or(Duration::MAX);
                Some(match perform_step(&mut self.host, &step, time_left) {
                    Ok(()) => Event::StepDone,
                    Err(error) => Event::StepFailed(error),
                })
            }
            Action::Switch { to } => Some(self.switch(to)),
            Action::Collect(keep) => {
                if let Err(refusal) = self.host.collect(&keep) {
                    tracing::warn!(environment = %self.environment, "{refusal}");
                }
                Some(Event::Collected)
            }
        }
    }

    fn fetch(&mut self, release: &ReleaseContent, way_back: &ReleaseContent) -> Option<Event> {
        for content in [release, way_back] {
            match self.host.fetch(content, FETCH_SLICE) {
                Ok(Fetch::Complete) => {}
                Ok(Fetch::Partial) => return None,
                Err(error) => {
                    self.make_room(&error.refusal);
                    return Some(Event::FetchFailed { error, random: self.host.random() });
                }
            }
        }
        Some(Event::Fetched)
    }

    fn lay_out(&mut self, release: &ReleaseContent, way_back: &ReleaseContent) -> Event {
        let laid_out =
            self.host.lay_out(release).and_then(|target| Ok((target, self.host.lay_out(way_back)?)));
        match laid_out {
            Ok((target, way_back)) => {
                let from = match self.host.measure() {
                    Ok(from) => {
                        self.measured = from.link();
                        Some(Arc::new(from))
                    }
                    Err(refusal) => {
                        tracing::error!(environment = %self.environment, "what is current: {refusal}");
                        self.measured = None;
                        None
                    }
                };
                Event::LaidOut { target: Arc::new(target), way_back: Arc::new(way_back), from }
            }
            Err(refusal) => {
                self.make_room(&refusal);
                Event::LayOutFailed { refusal, random: self.host.random() }
            }
        }
    }

    fn switch(&mut self, to: Option<ReleaseDigest>) -> Event {
        let measured = self.host.switch(to).and_then(|()| self.host.measure());
        self.measured = measured.as_ref().ok().and_then(Deployment::link);
        match measured {
            Ok(deployment) => Event::Switched { running: deployment.link() },
            Err(refusal) => Event::SwitchFailed(refusal),
        }
    }

    /// Frees what nothing needs, where that is what is missing.
    fn make_room(&mut self, refusal: &Refusal) {
        if matches!(refusal.code, Code::DiskSpace | Code::DiskInodes)
            && let Err(refusal) = self.host.collect(&self.state.keep())
        {
            tracing::warn!(environment = %self.environment, "{refusal}");
        }
    }
}

fn perform_step(host: &mut impl Host, step: &Step, time_left: Duration) -> Result<(), StepError> {
    let (release, package) = (step.release, &*step.package);
    match &step.kind {
        StepKind::Hook(phase, hook) => {
            let timeout = hook.timeout.unwrap_or(HOOK_TIMEOUT_DEFAULT).min(time_left);
            host.run_hook(HookStep { release, package, phase: *phase, hook, timeout })
        }
        StepKind::StopService(service) => {
            let grace = service.stop_grace.min(time_left);
            host.stop_service(ServiceStep { release, package, service, grace })
        }
        StepKind::StartService(service) => {
            let grace = service.stop_grace.min(time_left);
            host.start_service(ServiceStep { release, package, service, grace })
        }
    }
}
