//! The machine as the agent's driver acts on it. Before or after any effect the agent may die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_agent::apply::deployment::{DeployedPackage, Deployment};
use houston_agent::host::{Fetch, FetchError, HookStep, Host, Keep, Record, ServiceStep, StepError};
use houston_common::clock::millis;
use houston_common::digest::ReleaseDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, Generation, PackageName, ServiceName};
use houston_common::package::HookPhase;
use houston_common::release::ReleaseContent;
use houston_common::report::Phase;

use super::super::planted::Planted;
use super::super::script::Manner;

use super::{Current, Disk, Happened, Machine, Process, Shared, trees};

/// One environment's effects on a machine.
#[derive(Debug, Clone)]
pub(in crate::simulation) struct SimulatedHost {
    pub(in crate::simulation) machine: Shared,
    pub(in crate::simulation) environment: EnvironmentName,
}

/// The agent is dead: what it asks for does not happen, and what it is told it no longer hears.
#[derive(Debug)]
struct Dead;

impl From<Dead> for Refusal {
    fn from(_: Dead) -> Self {
        Self::new(Code::Io, "the agent is dead", "")
    }
}

impl From<Dead> for StepError {
    fn from(_: Dead) -> Self {
        Self { code: Code::Io, message: "the agent is dead".to_owned(), log_tail: String::new() }
    }
}

fn step_error(code: Code, message: &str) -> StepError {
    StepError { code, message: message.to_owned(), log_tail: String::new() }
}

impl SimulatedHost {
    /// One effect, after which, or instead of which, the agent may die.
    fn effect<T>(
        &mut self,
        ms: (u64, u64),
        act: impl FnOnce(&mut Machine, &mut Disk) -> T,
    ) -> Result<T, Dead> {
        let mut machine = self.machine.borrow_mut();
        if machine.is_dead {
            return Err(Dead);
        }
        let dies = machine.fuse == Some(0);
        machine.fuse = machine.fuse.map(|fuse| fuse.saturating_sub(1));
        if dies {
            machine.is_dead = true;
            if !machine.fuse_after {
                return Err(Dead);
            }
        }
        let spent = machine.random.between(ms.0, ms.1);
        machine.spent_ms += spent;
        let mut disk = machine.disk.remove(&self.environment).unwrap_or_default();
        let result = act(&mut machine, &mut disk);
        if let Some((environment, bytes)) = machine.late.take() {
            if dies {
                // The action was, and what was to come before it never is.
            } else if environment == self.environment {
                disk.write(Record::Journal, &bytes);
            } else {
                machine.late = Some((environment, bytes));
            }
        }
        machine.disk.insert(self.environment.clone(), disk);
        machine.check_links();
        if dies { Err(Dead) } else { Ok(result) }
    }

    fn generation(&self) -> Option<Generation> {
        let machine = self.machine.borrow();
        machine.journaled(&self.environment)?.stamp.map(|stamp| stamp.generation)
    }
}

impl Disk {
    fn write(&mut self, record: Record, bytes: &[u8]) {
        self.read.records.insert(record, bytes.to_vec());
        self.durable.records.insert(record, bytes.to_vec());
    }
}

impl Host for SimulatedHost {
    fn read_record(&mut self, record: Record) -> Result<Option<Vec<u8>>, Refusal> {
        let bytes = self.effect((0, 1), |_, disk| disk.read.records.get(&record).cloned())?;
        let planted = self.machine.borrow().planted;
        Ok(bytes.and_then(|bytes| Planted::reread(planted, record, bytes)))
    }

    fn write_record(&mut self, record: Record, bytes: &[u8]) -> Result<(), Refusal> {
        let environment = self.environment.clone();
        let is_late =
            record == Record::Journal && self.machine.borrow().planted == Some(Planted::JournalAfterAction);
        if is_late {
            // Told as written, and written after the action that it was to come before.
            let mut machine = self.machine.borrow_mut();
            if machine.is_dead {
                return Err(Dead.into());
            }
            if let Some((environment, bytes)) = machine.late.replace((environment, bytes.to_vec())) {
                let mut disk = machine.disk.remove(&environment).unwrap_or_default();
                disk.write(Record::Journal, &bytes);
                machine.disk.insert(environment, disk);
            }
            return Ok(());
        }
        Ok(self.effect((1, 20), |_, disk| disk.write(record, bytes))?)
    }

    fn set_record_aside(&mut self, record: Record) -> Result<(), Refusal> {
        Ok(self.effect((1, 5), |_, disk| {
            disk.read.records.remove(&record);
            disk.durable.records.remove(&record);
        })?)
    }

    fn fetch(&mut self, release: &ReleaseContent, slice: Duration) -> Result<Fetch, FetchError> {
        let digest = release.release().digest();
        let dead = |Dead| FetchError { refusal: Dead.into(), retry_after: None };
        self.effect((50, 4_000), |machine, disk| {
            if disk.read.fetched.contains(&digest) {
                return Ok(Fetch::Complete);
            }
            machine.room().map_err(|refusal| FetchError { refusal, retry_after: None })?;
            match machine.random.below(20) {
                0 => Err(FetchError {
                    refusal: Refusal::new(Code::Unreachable, "the coordinator does not answer", ""),
                    retry_after: None,
                }),
                1 => Err(FetchError {
                    refusal: Refusal::new(Code::Busy, "come back later", ""),
                    retry_after: Some(slice),
                }),
                2..=6 => Ok(Fetch::Partial),
                _ => {
                    disk.read.fetched.insert(digest);
                    disk.durable.fetched.insert(digest);
                    Ok(Fetch::Complete)
                }
            }
        })
        .map_err(dead)?
    }

    fn lay_out(&mut self, release: &ReleaseContent) -> Result<Deployment, Refusal> {
        let laid_out = self.effect((20, 1_500), |machine, disk| {
            if !disk.read.fetched.contains(&release.release().digest()) {
                return Err(Refusal::new(Code::FileMissing, "its contents are not here", ""));
            }
            machine.room()?;
            let mut packages = Vec::new();
            for package in &release.version_set.packages {
                let tree = package.tree_for(&[houston_common::id::Platform::any()]);
                let file = tree.and_then(|tree| Some((tree, machine.library.file(&tree)?.clone())));
                let Some((tree, file)) = file else {
                    return Err(Refusal::new(Code::PlatformMissing, "no tree", ""));
                };
                let value = |need: &houston_common::package::SettingNeed| {
                    let given = release.settings.0.get(&need.key).cloned();
                    (need.key.clone(), given.or_else(|| need.default.clone()).unwrap_or_default())
                };
                let settings = file.settings.iter().map(value).collect();
                packages.push(std::sync::Arc::new(DeployedPackage { tree, file, settings }));
            }
            let deployment = Deployment { release: release.release().digest(), packages };
            for contents in [&mut disk.read, &mut disk.durable] {
                contents.releases.insert(deployment.release, deployment.clone());
            }
            Ok(deployment)
        });
        laid_out?
    }

    fn run_hook(&mut self, hook: HookStep<'_>) -> Result<(), StepError> {
        let journaled = self.machine.borrow().journaled(&self.environment);
        let generation = journaled.as_ref().and_then(|state| state.stamp).map(|stamp| stamp.generation);
        // What happens now undoes an activation: it is the second attempt of its generation.
        let undoes = journaled.is_some_and(|state| state.phase() == Phase::Reverting);
        let environment = self.environment.clone();
        let ran = self.effect((100, 1_500), |machine, _| {
            machine.happened.push(Happened::Hook {
                environment,
                release: hook.release,
                package: hook.package.file.name.clone(),
                phase: hook.phase,
                rerun: hook.hook.rerun,
                generation,
                undoes,
            });
            match (machine.library.manner(&hook.package.tree), hook.phase) {
                (Manner::StartHangs, HookPhase::Start) => {
                    machine.spent_ms += millis(hook.timeout);
                    Err(step_error(Code::HookTimeout, "the hook did not end"))
                }
                (Manner::CheckRefuses, HookPhase::Check) | (Manner::StopFails, HookPhase::Stop) => {
                    Err(step_error(Code::HookExit, "the hook ended with 1"))
                }
                _ => Ok(()),
            }
        });
        ran?
    }

    fn start_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError> {
        let environment = self.environment.clone();
        let started = self.effect((20, 300), |machine, disk| {
            let package = service.package;
            if machine.library.manner(&package.tree) == Manner::StartFails {
                return Err(step_error(Code::ServiceStart, "it cannot be executed"));
            }
            let process = machine.process(package);
            for contents in [&mut disk.read, &mut disk.durable] {
                contents.enabled.insert(package.file.name.clone());
            }
            let place = (environment, package.file.name.clone());
            let same = |running: &Process| running.tree == process.tree && running.manner == process.manner;
            if !machine.services.get(&place).is_some_and(same) {
                machine.services.insert(place, process);
            }
            Ok(())
        });
        started?
    }

    fn stop_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError> {
        let place = (self.environment.clone(), service.package.file.name.clone());
        Ok(self.effect((20, 3_000), |machine, disk| {
            machine.services.remove(&place);
            for contents in [&mut disk.read, &mut disk.durable] {
                contents.enabled.remove(&place.1);
            }
        })?)
    }

    fn switch(&mut self, to: Option<ReleaseDigest>) -> Result<(), Refusal> {
        let generation = self.generation();
        let environment = self.environment.clone();
        let planted = self.machine.borrow().planted;
        let target = self.effect((0, 1), |_, disk| to.and_then(|to| disk.read.releases.get(&to).cloned()))?;
        if to.is_some() && target.is_none() {
            return Err(Refusal::new(Code::FileMissing, "the release is not laid out", ""));
        }
        let current = target.map(|target| Current { release: target.release, trees: trees(&target) });
        if planted == Some(Planted::LinksOneByOne)
            && let Some(current) = &current
        {
            for (package, tree) in &current.trees {
                self.effect((1, 10), |_, disk| {
                    for contents in [&mut disk.read, &mut disk.durable] {
                        let links = contents.current.get_or_insert_with(|| Current {
                            release: current.release,
                            trees: BTreeMap::new(),
                        });
                        links.trees.insert(package.clone(), *tree);
                    }
                })?;
            }
        }
        Ok(self.effect((1, 40), |machine, disk| {
            disk.read.current.clone_from(&current);
            if planted != Some(Planted::SwitchNotSynced) {
                disk.durable.current.clone_from(&current);
            }
            machine.happened.push(Happened::Switched { environment, to, generation });
        })?)
    }

    fn measure(&mut self) -> Result<Deployment, Refusal> {
        self.effect((5, 200), |_, disk| {
            let Some(current) = &disk.read.current else { return Ok(Deployment::nothing()) };
            match disk.read.releases.get(&current.release) {
                Some(release) if trees(release) == current.trees => Ok(release.clone()),
                _ => Err(Refusal::new(Code::TreeDiffers, "what is current is not what its name says", "")),
            }
        })?
    }

    fn log_tail(&mut self, _: &PackageName, _: &ServiceName) -> String {
        String::new()
    }

    fn collect(&mut self, keep: &Keep) -> Result<(), Refusal> {
        Ok(self.effect((5, 300), |machine, disk| {
            let named: BTreeSet<ReleaseDigest> = keep
                .releases
                .iter()
                .copied()
                .chain(keep.contents.iter().map(|content| content.release().digest()))
                .collect();
            for contents in [&mut disk.read, &mut disk.durable] {
                contents.releases.retain(|release, _| named.contains(release));
                contents.fetched.retain(|release| named.contains(release));
            }
            let current = disk.read.current.as_ref();
            if let Some(current) =
                current.filter(|current| !disk.read.releases.contains_key(&current.release))
            {
                let detail = format!("what is current was collected: {}", current.release);
                machine.happened.push(Happened::Wrong { law: "A12 way back kept", detail });
            }
        })?)
    }

    fn random(&mut self) -> u64 {
        self.machine.borrow_mut().random.next()
    }
}
