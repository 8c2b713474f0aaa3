//! A host of the test's world: takes assignments and goes through an activation step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::assignment::{Assignment, Order, Stamp};
use houston_common::error::Code;
use houston_common::id::{EnvironmentName, Generation};
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, Failure, HealthReport, Phase};

/// What comes of a host's attempt at a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Well,
    /// Fails while proving, and goes back.
    Fails,
    /// Fails while proving, and on the way back too.
    FailsBack,
    /// Never gets further than stopping.
    Hangs,
    /// Does not begin in time, once: the grant is void.
    VoidOnce,
    PrepareFails,
}

#[derive(Debug, Default)]
pub(super) struct Host {
    /// Neither hears nor acts nor reports.
    pub(super) cut_off: bool,
    pub(super) sequence: u64,
    pub(super) places: BTreeMap<EnvironmentName, Place>,
}

/// An assignment, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) generation: Generation,
    pub(super) activate: bool,
    pub(super) release: Release,
    way_back: Release,
}

impl From<&Assignment> for Task {
    fn from(assignment: &Assignment) -> Self {
        Self {
            generation: assignment.stamp.generation,
            activate: matches!(assignment.order, Order::Activate(_)),
            release: assignment.release.release(),
            way_back: assignment.way_back.release(),
        }
    }
}

/// A host in one environment.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) told: Option<Task>,
    pub(super) phase: Phase,
    pub(super) running: Release,
    pub(super) sick: bool,
    /// Does not know whether what it runs is well.
    pub(super) dazed: bool,
    failure: Option<Failure>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            told: None,
            phase: Phase::Idle,
            running: Release::empty(),
            sick: false,
            dazed: false,
            failure: None,
        }
    }
}

/// Something that disturbed the host: a release that it began to run.
pub(super) type Activation = Option<Release>;

impl Place {
    /// Does the next thing. `manner` is what comes of attempts at a release.
    pub(super) fn step(&mut self, told: Option<Task>, manner: impl Fn(Release) -> Manner) -> Activation {
        let generation = |told: Option<Task>| told.map(|told| told.generation);
        if self.is_free() && told.is_some() && generation(told) != generation(self.told) {
            return self.take(told?, &manner);
        }
        let told = self.told?;
        let manner = manner(told.release);
        match self.phase {
            Phase::Fetching if manner == Manner::PrepareFails => {
                self.phase = Phase::Idle;
                self.failure = Some(failure(Code::PlatformMissing, Phase::Fetching));
            }
            Phase::Fetching if told.activate => return self.stop(told),
            Phase::Fetching => self.phase = Phase::Ready,
            Phase::Stopping if manner != Manner::Hangs => {
                self.phase = Phase::Proving;
                self.running = told.release;
                self.sick = false;
            }
            Phase::Proving if matches!(manner, Manner::Fails | Manner::FailsBack) => {
                self.phase = Phase::Reverting;
                self.failure = Some(failure(Code::Unhealthy, Phase::Proving));
            }
            Phase::Proving => self.phase = Phase::Settled,
            Phase::Reverting if manner == Manner::FailsBack => {
                self.phase = Phase::Failed;
                self.sick = true;
            }
            Phase::Reverting => {
                self.phase = Phase::Reverted;
                self.running = told.way_back;
                return Some(told.way_back);
            }
            _ => {}
        }
        None
    }

    fn take(&mut self, told: Task, manner: &impl Fn(Release) -> Manner) -> Activation {
        let ready =
            self.phase == Phase::Ready && self.told.is_some_and(|before| before.release == told.release);
        self.told = Some(told);
        self.failure = None;
        if told.activate && manner(told.release) == Manner::VoidOnce {
            self.phase = Phase::Ready;
        } else if told.activate && ready {
            return self.stop(told);
        } else {
            self.phase = Phase::Fetching;
        }
        None
    }

    fn stop(&mut self, told: Task) -> Activation {
        self.phase = Phase::Stopping;
        Some(told.release)
    }

    fn is_free(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Proving | Phase::Reverting
        )
    }

    pub(super) fn report(&self, environment: EnvironmentName, stamp: Option<Stamp>) -> EnvironmentReport {
        let health = if !self.is_free() || self.running.is_empty() || self.dazed {
            HealthReport::Unknown
        } else if self.sick {
            HealthReport::Unhealthy { reason: "the check said no".to_owned() }
        } else {
            HealthReport::Healthy { for_at_least: Duration::from_secs(30), passes: 10 }
        };
        EnvironmentReport {
            environment,
            stamp,
            phase: self.phase,
            running: Some(self.running.digest()).filter(|_| !self.running.is_empty()),
            health,
            failure: self.failure.clone(),
        }
    }
}

fn failure(code: Code, phase: Phase) -> Failure {
    Failure { code, phase, package: None, message: "it said no".to_owned(), log_tail: String::new() }
}
