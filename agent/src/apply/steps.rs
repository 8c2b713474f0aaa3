//! **Decision.** Which hooks and services an activation touches, and in which order.
//!
//! Each phase runs over the whole set before the next: `drain`, then `stop`, then (after the switch)
//! `start`, then (once proved) `resume`, then `cleanup`. `drain` and `stop` go in reverse.
//!
//! Within a package, a stop is its services, last first, and then its `stop` hook; a start is its
//! `start` hook and then its services. So `start` and `stop` bracket the services: what one sets up
//! before they run, the other clears away after they ran. `drain` and `resume` are the hooks that
//! meet running services.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use houston_common::digest::ReleaseDigest;
use houston_common::id::PackageName;
use houston_common::package::{Hook, HookPhase, Service};

use super::deployment::{DeployedPackage, Deployment};

#[cfg(test)]
mod tests;

/// One thing to do to one package. Doing it twice is harmless, but for hooks that say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub release: ReleaseDigest,
    pub package: Arc<DeployedPackage>,
    pub kind: StepKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    Hook(HookPhase, Hook),
    StopService(Service),
    StartService(Service),
}

impl Step {
    /// Whether the step may be begun again after a crash in its middle.
    pub fn may_rerun(&self) -> bool {
        match &self.kind {
            StepKind::Hook(_, hook) => hook.rerun,
            StepKind::StopService(_) | StepKind::StartService(_) => true,
        }
    }

    pub fn is_hook(&self) -> bool {
        matches!(self.kind, StepKind::Hook(..))
    }

    /// The time that its package asks for. A hook that asks for none makes do with what is left.
    pub fn asks_for(&self) -> Duration {
        match &self.kind {
            StepKind::Hook(_, hook) => hook.timeout.unwrap_or_default(),
            StepKind::StopService(service) => service.stop_grace,
            StepKind::StartService(_) => Duration::ZERO,
        }
    }
}

/// As in `the hook "drain" of package web`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let package = &self.package.file.name;
        match &self.kind {
            StepKind::Hook(phase, _) => write!(f, "the hook \"{phase}\" of package {package}"),
            StepKind::StopService(service) => {
                write!(f, "the stop of service {} of package {package}", service.name)
            }
            StepKind::StartService(service) => {
                write!(f, "the start of service {} of package {package}", service.name)
            }
        }
    }
}

/// From what may run to what shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whatever may still run, oldest first; the last is the one whose `drain` and `stop` hooks are due.
    pub from: Vec<Arc<Deployment>>,
    /// Whether all of the last of `from` is known to run, so that what is the same can be left alone.
    pub whole: bool,
    /// Whether the `drain` and `stop` hooks run: not those of a release that was never started.
    pub stop_hooks: bool,
    pub to: Arc<Deployment>,
}

impl Change {
    /// Packages that are stopped or started: all but those that are the same in everything that may
    /// run and in what shall, and that no touched package takes along by `restart_with`.
    pub fn touched(&self) -> BTreeSet<&PackageName> {
        let all = self.from.iter().chain([&self.to]).flat_map(|deployment| &deployment.packages);
        let mut touched: BTreeSet<_> =
            all.map(|package| &package.file.name).filter(|name| !self.is_same(name)).collect();
        loop {
            let taken_along: Vec<_> = (self.to.packages.iter().map(|package| &package.file))
                .filter(|file| !touched.contains(&file.name))
                .filter(|file| file.restart_with.iter().any(|name| touched.contains(name)))
                .map(|file| &file.name)
                .collect();
            if taken_along.is_empty() {
                return touched;
            }
            touched.extend(taken_along);
        }
    }

    fn is_same(&self, name: &PackageName) -> bool {
        let Some(wanted) = self.to.package(name) else { return false };
        let runs_so = |deployment: &Arc<Deployment>| {
            deployment.package(name).is_some_and(|package| package.runs_as(wanted))
        };
        self.whole && self.from.iter().all(runs_so)
    }

    /// The steps of `Stopping`. Of what is older than the last of `from` only services are stopped.
    pub fn stop(&self) -> Vec<Step> {
        let touched = self.touched();
        let mut steps = Vec::new();
        if let (Some(last), true) = (self.from.last(), self.stop_hooks) {
            let drained = last.packages.iter().rev().filter(|package| touched.contains(&package.file.name));
            steps.extend(drained.filter_map(|package| hook_step(last, package, HookPhase::Drain)));
        }
        let mut stopped = BTreeSet::new();
        for (age, deployment) in self.from.iter().rev().enumerate() {
            for package in deployment.packages.iter().rev() {
                if !touched.contains(&package.file.name) {
                    continue;
                }
                for service in package.file.services.iter().rev() {
                    if stopped.insert((&package.file.name, &service.name)) {
                        steps.push(step(deployment, package, StepKind::StopService(service.clone())));
                    }
                }
                if age == 0 && self.stop_hooks {
                    steps.extend(hook_step(deployment, package, HookPhase::Stop));
                }
            }
        }
        steps
    }

    /// The steps of `Starting`.
    pub fn start(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for package in self.touched_packages() {
            steps.extend(hook_step(&self.to, package, HookPhase::Start));
            steps.extend(start_services(&self.to, package));
        }
        steps
    }

    /// The steps after `Proving`.
    pub fn resume(&self) -> Vec<Step> {
        self.touched_packages()
            .filter_map(|package| hook_step(&self.to, package, HookPhase::Resume))
            .collect()
    }

    /// Packages that have a `cleanup` hook to run.
    pub fn to_clean(&self) -> Vec<PackageName> {
        self.touched_packages()
            .filter(|package| package.file.hooks.contains_key(&HookPhase::Cleanup))
            .map(|package| package.file.name.clone())
            .collect()
    }

    /// Starts of the services that the change leaves alone.
    pub fn left_alone(&self) -> Vec<Step> {
        let touched = self.touched();
        (self.to.packages.iter().filter(|package| !touched.contains(&package.file.name)))
            .flat_map(|package| start_services(&self.to, package))
            .collect()
    }

    fn touched_packages(&self) -> impl Iterator<Item = &Arc<DeployedPackage>> {
        let touched = self.touched();
        self.to.packages.iter().filter(move |package| touched.contains(&package.file.name))
    }
}

/// The `check` hooks of every package: the end of prepare.
pub fn check(target: &Deployment) -> Vec<Step> {
    target.packages.iter().filter_map(|package| hook_step(target, package, HookPhase::Check)).collect()
}

/// The `cleanup` hook of one package.
pub fn cleanup(current: &Deployment, package: &PackageName) -> Option<Step> {
    current.package(package).and_then(|package| hook_step(current, package, HookPhase::Cleanup))
}

/// Starts of all services, in order.
pub fn start_all(current: &Deployment) -> Vec<Step> {
    current.packages.iter().flat_map(|package| start_services(current, package)).collect()
}

fn start_services<'a>(
    of: &'a Deployment,
    package: &'a Arc<DeployedPackage>,
) -> impl Iterator<Item = Step> + use<'a> {
    let services = package.file.services.iter();
    services.map(move |service| step(of, package, StepKind::StartService(service.clone())))
}

fn hook_step(of: &Deployment, package: &Arc<DeployedPackage>, phase: HookPhase) -> Option<Step> {
    let hook = package.file.hooks.get(&phase)?;
    Some(step(of, package, StepKind::Hook(phase, hook.clone())))
}

fn step(of: &Deployment, package: &Arc<DeployedPackage>, kind: StepKind) -> Step {
    Step { release: of.release, package: Arc::clone(package), kind }
}
