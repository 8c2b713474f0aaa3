//! One simulated machine: a disk that forgets what was not synced, processes that end with the power,
//! and services that behave as their release's script says. What the checkers call the truth is read here.

mod host;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use houston_agent::apply::deployment::{DeployedPackage, Deployment};
use houston_agent::apply::journal;
use houston_agent::host::Record;
use houston_common::digest::{ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, Generation, PackageName};
use houston_common::package::HookPhase;

use super::planted::Planted;
use super::random::Random;
use super::script::{Library, Manner};

pub(super) use host::SimulatedHost;

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
    /// Until then the disk has no room for what is fetched and laid out.
    pub(super) full_until: u64,
    /// It was full, and is for ever, where that bug is planted.
    is_latched: bool,
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
        undoes: bool,
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
            full_until: 0,
            is_latched: false,
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

    /// Refuses what needs room, while there is none.
    fn room(&mut self) -> Result<(), Refusal> {
        let is_full = self.now < self.full_until;
        self.is_latched |= is_full && self.planted == Some(Planted::LatchFull);
        if is_full || self.is_latched {
            return Err(Refusal::new(Code::DiskSpace, "the disk is full", ""));
        }
        Ok(())
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
            let is_whole = disk.read.releases.get(&current.release).is_some_and(|whole| {
                let mut packages = whole.packages.iter();
                whole.packages.len() == current.trees.len()
                    && packages.all(|package| current.trees.get(&package.file.name) == Some(&package.tree))
            });
            if !is_whole {
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
