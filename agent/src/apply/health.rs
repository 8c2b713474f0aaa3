//! **Decision.** Whether what runs is well, judged from probes that others perform.
//!
//! No news is bad news: a check that has not answered is unknown, one that stops answering is late,
//! and the whole is healthy only while every check of every service is. What could not be read is a
//! failure like any other: whoever probes hands in `Err`.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::sync::Arc;
use std::time::Duration;

use houston_common::digest::ReleaseDigest;
use houston_common::id::{PackageName, ServiceName};
use houston_common::package::{Health as DeclaredHealth, HealthCheck, Probe};
use houston_common::report::HealthReport;

use super::boot_time::BootTime;
use super::deployment::{DeployedPackage, Deployment};
use super::failure::shown;

#[cfg(test)]
mod tests;

/// How a service that says `process-only` is judged. One look that finds no process is enough: there
/// is nothing else by which a service that dies and is restarted again and again would be noticed.
const PROCESS_PACE: Pace = Pace {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(5),
    healthy_after: 1,
    unhealthy_after: 1,
    start_grace: Duration::ZERO,
};

/// How much later than its interval and timeout allow a result may come on a busy host.
const LATE_SLACK: Duration = Duration::from_secs(5);

/// How what runs is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing to check, or some check has not come to a result yet.
    Unknown,
    /// Every check, without a break since then.
    Healthy { since: BootTime },
    /// A check has stopped answering: nobody knows.
    Late { reason: String },
    /// A check fails.
    Unhealthy { package: PackageName, service: ServiceName, reason: String },
}

impl Health {
    /// As the coordinator is told; `passes` is what [`Watch::passes`] says.
    pub fn report(&self, passes: u64, now: BootTime) -> HealthReport {
        match self {
            Self::Unknown => HealthReport::Unknown,
            Self::Healthy { since } => {
                HealthReport::Healthy { for_at_least: now.since(*since).unwrap_or_default(), passes }
            }
            Self::Late { reason } | Self::Unhealthy { reason, .. } => {
                HealthReport::Unhealthy { reason: reason.clone() }
            }
        }
    }
}

/// Which check of which watch: a result of an earlier watch counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckId {
    watch: u64,
    index: usize,
}

/// A probe to perform now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRun {
    pub id: CheckId,
    pub release: ReleaseDigest,
    pub package: Arc<DeployedPackage>,
    pub service: ServiceName,
    pub probe: ProbeKind,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    Declared(Probe),
    /// The service's process is there.
    ProcessRuns,
}

/// The checks of everything that runs, from one activation or start of the agent to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    number: u64,
    pub deployment: Arc<Deployment>,
    checks: Vec<Watched>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    package: Arc<DeployedPackage>,
    service: ServiceName,
    probe: ProbeKind,
    judge: Judge,
}

impl Watch {
    /// `number` tells this watch from every other of the process.
    pub fn new(number: u64, deployment: Arc<Deployment>, started: BootTime) -> Self {
        let mut checks = Vec::new();
        for package in &deployment.packages {
            for service in &package.file.services {
                let declared = match &service.health {
                    DeclaredHealth::Checks(list) => list
                        .iter()
                        .map(|check| {
                            (ProbeKind::Declared(check.probe.clone()), Judge::new(Pace::of(check), started))
                        })
                        .collect(),
                    DeclaredHealth::ProcessOnly => {
                        vec![(ProbeKind::ProcessRuns, Judge::new(PROCESS_PACE, started))]
                    }
                };
                checks.extend(declared.into_iter().map(|(probe, judge)| Watched {
                    package: Arc::clone(package),
                    service: service.name.clone(),
                    probe,
                    judge,
                }));
            }
        }
        Self { number, deployment, checks }
    }

    /// The probes whose time has come, each handed out once.
    pub fn due(&mut self, now: BootTime) -> Vec<ProbeRun> {
        let (watch, release) = (self.number, self.deployment.release);
        (self.checks.iter_mut().enumerate())
            .filter(|(_, check)| now.has_reached(check.judge.next_probe))
            .map(|(index, check)| {
                check.judge.probe_begins(now);
                ProbeRun {
                    id: CheckId { watch, index },
                    release,
                    package: Arc::clone(&check.package),
                    service: check.service.clone(),
                    probe: check.probe.clone(),
                    timeout: check.judge.pace.timeout,
                }
            })
            .collect()
    }

    /// What a probe saw. Results of other watches are dropped: they were observed before the activation.
    pub fn observe(&mut self, id: CheckId, result: Result<(), String>, now: BootTime) {
        if id.watch == self.number
            && let Some(check) = self.checks.get_mut(id.index)
        {
            check.judge.observe(result, now);
        }
    }

    pub fn health(&self, now: BootTime) -> Health {
        let mut late = None;
        let mut since = None;
        let mut is_known = !self.checks.is_empty();
        for check in &self.checks {
            match &check.judge.verdict {
                Verdict::Unhealthy { reason } => return check.unhealthy(reason),
                Verdict::Unknown => is_known = false,
                Verdict::Healthy { since: of_check } => {
                    since = Some(since.map_or(*of_check, |since: BootTime| since.latest(*of_check)));
                }
            }
            if check.judge.is_late(now) && late.is_none() {
                late = Some(format!("{}: its check has given no result in time", check.name()));
            }
        }
        match (late, since) {
            (Some(reason), _) => Health::Late { reason },
            (None, Some(since)) if is_known => Health::Healthy { since },
            (None, _) => Health::Unknown,
        }
    }

    /// Results that have passed since the last that did not, all checks together.
    pub fn passes(&self) -> u64 {
        self.checks.iter().map(|check| u64::from(check.judge.passes)).sum()
    }

    /// When a probe is due next.
    pub fn next_probe(&self) -> Option<BootTime> {
        (self.checks.iter()).fold(None, |next, check| BootTime::earliest(next, Some(check.judge.next_probe)))
    }
}

impl Watched {
    fn name(&self) -> String {
        format!("{}/{}", self.package.file.name, self.service)
    }

    fn unhealthy(&self, reason: &str) -> Health {
        Health::Unhealthy {
            package: self.package.file.name.clone(),
            service: self.service.clone(),
            reason: shown(&format!("{}: {reason}", self.name())),
        }
    }
}

/// When a check is made, and how many results make a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    interval: Duration,
    timeout: Duration,
    healthy_after: u32,
    unhealthy_after: u32,
    start_grace: Duration,
}

impl Pace {
    fn of(check: &HealthCheck) -> Self {
        Self {
            interval: check.interval,
            timeout: check.timeout,
            healthy_after: check.healthy_after,
            unhealthy_after: check.unhealthy_after,
            start_grace: check.start_grace,
        }
    }
}

/// Judges the results of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judge {
    pace: Pace,
    /// Failures before this do not count.
    grace_ends: BootTime,
    passes: u32,
    failures: u32,
    verdict: Verdict,
    /// The last result, or the start of the watch.
    heard: BootTime,
    next_probe: BootTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Healthy { since: BootTime },
    Unhealthy { reason: String },
}

impl Judge {
    fn new(pace: Pace, started: BootTime) -> Self {
        Self {
            pace,
            grace_ends: started.plus(pace.start_grace),
            passes: 0,
            failures: 0,
            verdict: Verdict::Unknown,
            heard: started,
            next_probe: started,
        }
    }

    /// A probe whose result never comes is begun again once it is late.
    fn probe_begins(&mut self, now: BootTime) {
        self.next_probe = now.plus(self.pace.timeout).plus(self.pace.interval).plus(LATE_SLACK);
    }

    fn observe(&mut self, result: Result<(), String>, now: BootTime) {
        self.heard = now;
        self.next_probe = now.plus(self.pace.interval);
        match result {
            Ok(()) => {
                self.failures = 0;
                self.passes = self.passes.saturating_add(1);
                let is_healthy = matches!(self.verdict, Verdict::Healthy { .. });
                if !is_healthy && self.passes >= self.pace.healthy_after {
                    self.verdict = Verdict::Healthy { since: now };
                }
            }
            Err(reason) => {
                self.passes = 0;
                if !now.has_reached(self.grace_ends) {
                    return;
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.pace.unhealthy_after {
                    self.verdict = Verdict::Unhealthy { reason };
                }
            }
        }
    }

    /// Silent for as long as enough failures to make it unhealthy would have taken.
    fn is_late(&self, now: BootTime) -> bool {
        let allowed =
            (self.pace.interval + self.pace.timeout).saturating_mul(self.pace.unhealthy_after) + LATE_SLACK;
        now.since(self.heard).is_none_or(|silent| silent > allowed)
    }
}
