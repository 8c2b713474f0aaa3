//! One simulated machine: a disk that forgets what was not synced, processes that end with the power,
//! and services that behave as their release's script says. What the checkers call the truth is read here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use houston_agent::apply::deployment::{DeployedPackage, Deployment};
use houston_agent::apply::journal;
use houston_agent::host::{Fetch, FetchError, HookStep, Host, Keep, Record, ServiceStep, StepError};
use houston_common::clock::millis;
use houston_common::digest::{ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, Generation, PackageName, ServiceName};
use houston_common::package::HookPhase;
use houston_common::release::ReleaseContent;

use super::planted::Planted;
use super::random::Random;
use super::script::{Library, Manner};

pub(super) type Shared = Rc<RefCell<Machine>>;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) zone: usize,
    pub(super) now: u64,
    /// Counts boots; its clock begins anew with each.
    pub(super) boot: u64,
    pub(super) booted_at: u64,
    /// Of the machine's own wall clock. Nothing may depend on it.
    pub(super) wall_offset_ms: i64,
    /// Whether services come back at boot without the agent, as under systemd.
    boots_services: bool,
    pub(super) library: Rc<Library>,
    pub(super) disk: BTreeMap<EnvironmentName, Disk>,
    /// Of agent starts; durable, with the nonce of the last one.
    pub(super) starts: u64,
    services: BTreeMap<(EnvironmentName, PackageName), Process>,
    /// Services fail until then, whatever release they are of.
    pub(super) sick_until: u64,
    /// The agent dies in the effect after so many more.
    pub(super) fuse: Option<u32>,
    /// Whether the effect in which it dies still happens.
    pub(super) fuse_after: bool,
    /// The agent has died in an effect; nothing it does happens any more.
    pub(super) is_dead: bool,
    spent_ms: u64,
    random: Random,
    pub(super) planted: Option<Planted>,
    /// What happened since it was last asked, for the checkers.
    pub(super) happened: Vec<Happened>,
    /// A record that is written late, where that bug is planted.
    late: Option<(EnvironmentName, Vec<u8>)>,
}

/// What the checkers watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happened {
    Switched {
        environment: EnvironmentName,
        to: Option<ReleaseDigest>,
        generation: Option<Generation>,
    },
    Hook {
        environment: EnvironmentName,
        release: ReleaseDigest,
        package: PackageName,
        phase: HookPhase,
        rerun: bool,
        generation: Option<Generation>,
    },
    /// Something that must never be.
    Wrong {
        law: &'static str,
        detail: String,
    },
}

/// What an environment has on the disk, as it is read now and as it would be after a power cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    read: Contents,
    pub(super) durable: Contents,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) records: BTreeMap<Record, Vec<u8>>,
    pub(super) releases: BTreeMap<ReleaseDigest, Deployment>,
    /// What is linked: a release, with the tree of each package.
    pub(super) current: Option<Current>,
    /// Names that are started at boot.
    enabled: BTreeSet<PackageName>,
    fetched: BTreeSet<ReleaseDigest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) release: ReleaseDigest,
    pub(super) trees: BTreeMap<PackageName, TreeDigest>,
}

#[derive(Debug, Clone)]
struct Process {
    tree: TreeDigest,
    manner: Manner,
    since: u64,
}

impl Machine {
    pub(super) fn new(
        zone: usize,
        library: Rc<Library>,
        mut random: Random,
        planted: Option<Planted>,
    ) -> Shared {
        let boots_services = random.chance(50);
        Rc::new(RefCell::new(Self {
            zone,
            now: 0,
            boot: 1,
            booted_at: 0,
            wall_offset_ms: 0,
            boots_services,
            library,
            disk: BTreeMap::new(),
            starts: 0,
            services: BTreeMap::new(),
            sick_until: 0,
            fuse: None,
            fuse_after: false,
            is_dead: false,
            spent_ms: 0,
            random,
            planted,
            happened: Vec::new(),
            late: None,
        }))
    }

    /// The agent's process is gone, with all that it had in memory.
    pub(super) fn lose_agent(&mut self) {
        (self.fuse, self.late) = (None, None);
    }

    pub(super) fn take_spent(&mut self) -> u64 {
        std::mem::take(&mut self.spent_ms)
    }

    /// The power is gone: what was not synced is lost, and nothing runs.
    pub(super) fn cut_power(&mut self) {
        for disk in self.disk.values_mut() {
            disk.read = disk.durable.clone();
        }
        self.services.clear();
    }

    pub(super) fn power_on(&mut self, now: u64) {
        (self.now, self.booted_at, self.boot) = (now, now, self.boot + 1);
        if !self.boots_services {
            return;
        }
        let mut started = Vec::new();
        for (environment, disk) in &self.disk {
            let Some(current) = &disk.read.current else { continue };
            for package in &disk.read.enabled {
                let deployed =
                    disk.read.releases.get(&current.release).and_then(|release| release.package(package));
                started.extend(deployed.map(|deployed| (environment.clone(), Rc::new((**deployed).clone()))));
            }
        }
        for (environment, package) in started {
            let process = self.process(&package);
            self.services.insert((environment, package.file.name.clone()), process);
        }
    }

    fn process(&self, package: &DeployedPackage) -> Process {
        let mut manner = self.library.manner(&package.tree);
        if package.settings.iter().any(|(key, value)| key.as_str() == "MODE" && value == "bad") {
            manner = Manner::SickAtOnce;
        }
        Process { tree: package.tree, manner, since: self.now }
    }

    /// Whether a process of this manner does its work here, now.
    fn is_well(&self, process: &Process) -> bool {
        let manner_is_well = match process.manner {
            Manner::SickAtOnce => false,
            Manner::SickIn(zone) => zone != self.zone,
            Manner::SickAfter(ms) => self.now < process.since + ms,
            Manner::Fine
            | Manner::StartFails
            | Manner::StartHangs
            | Manner::CheckRefuses
            | Manner::StopFails => true,
        };
        manner_is_well && self.now >= self.sick_until
    }

    /// Whether every service of what is current runs, and is well. False where nothing is current.
    pub(super) fn serves(&self, environment: &EnvironmentName) -> bool {
        let Some(current) = self.disk.get(environment).and_then(|disk| disk.read.current.as_ref()) else {
            return false;
        };
        current.trees.iter().all(|(package, tree)| {
            let process = self.services.get(&(environment.clone(), package.clone()));
            process.is_some_and(|process| process.tree == *tree && self.is_well(process))
        })
    }

    /// How what runs behaves.
    pub(super) fn runs(&self, environment: &EnvironmentName) -> impl Iterator<Item = Manner> {
        let own = self.services.iter().filter(move |((of, _), _)| of == environment);
        own.map(|(_, process)| process.manner)
    }

    /// How the packages of a release behave, if it is laid out here.
    pub(super) fn manners_of(&self, release: &ReleaseDigest) -> Vec<Manner> {
        let laid_out = self.disk.values().find_map(|disk| disk.read.releases.get(release));
        let packages = laid_out.into_iter().flat_map(|deployment| &deployment.packages);
        packages.map(|package| self.process(package).manner).collect()
    }

    /// What is linked and survives a power cut.
    pub(super) fn durable_release(&self, environment: &EnvironmentName) -> Option<ReleaseDigest> {
        let current = self.disk.get(environment).and_then(|disk| disk.durable.current.as_ref());
        current.map(|current| current.release)
    }

    /// What a probe of a service sees.
    pub(super) fn probe(
        &self,
        environment: &EnvironmentName,
        package: &DeployedPackage,
    ) -> Result<(), String> {
        if self.planted == Some(Planted::HealthyByDefault) {
            return Ok(());
        }
        let process = self.services.get(&(environment.clone(), package.file.name.clone()));
        match process {
            Some(process) if process.tree == package.tree && self.is_well(process) => Ok(()),
            Some(_) => Err("it answers 500".to_owned()),
            None => Err("nobody listens".to_owned()),
        }
    }

    /// Looks at the disk: what is linked must be one whole release.
    pub(super) fn check_links(&mut self) {
        let mut mixed = Vec::new();
        for (environment, disk) in &self.disk {
            let Some(current) = &disk.read.current else { continue };
            let whole = disk.read.releases.get(&current.release).map(trees);
            if whole.as_ref() != Some(&current.trees) {
                mixed.push(format!("{environment}: what is current is no whole release: {current:?}"));
            }
        }
        self.happened
            .extend(mixed.into_iter().map(|detail| Happened::Wrong { law: "A1 whole sets", detail }));
    }

    /// The journal's state, as it would be read after a power cut.
    pub(super) fn journaled(
        &self,
        environment: &EnvironmentName,
    ) -> Option<houston_agent::apply::machine::State> {
        let bytes = self.disk.get(environment)?.durable.records.get(&Record::Journal)?;
        journal::read_state(bytes).ok()
    }
}

fn trees(deployment: &Deployment) -> BTreeMap<PackageName, TreeDigest> {
    deployment.packages.iter().map(|package| (package.file.name.clone(), package.tree)).collect()
}

/// One environment's effects on a machine.
#[derive(Debug, Clone)]
pub(super) struct SimulatedHost {
    pub(super) machine: Shared,
    pub(super) environment: EnvironmentName,
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
        let generation = self.generation();
        let environment = self.environment.clone();
        let ran = self.effect((100, 1_500), |machine, _| {
            machine.happened.push(Happened::Hook {
                environment,
                release: hook.release,
                package: hook.package.file.name.clone(),
                phase: hook.phase,
                rerun: hook.hook.rerun,
                generation,
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
