//! The real host: what its environments share, and (in [`environment`]) the effects that each may have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use houston_common::digest::{FileDigest, ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, HostId, PackageName, Platform, ServiceName, Zone};
use houston_common::manifest::Manifest;
use houston_common::package::PackageFile;
use houston_common::release::{ReleaseContent, Settings};
use houston_common::report::{EnvironmentReport, HealthReport};
use tokio::runtime::Handle;

use super::blobs::Blobs;
use super::cgroup::Cgroups;
use super::claims::Claims;
use super::dir::{Dir, refused};
use super::exec::ExecProgram;
use super::hook::Runner;
use super::release_dir::StateDir;
use super::service::direct::Direct;
use super::service::{ServiceKey, ServiceRunner as _, Status};
use super::variables::{Place, Variables};
use super::{Keep, layout};
use crate::apply::deployment::DeployedPackage;
use crate::link::Link;

pub mod environment;

#[cfg(test)]
pub(crate) mod tests;

pub use environment::LinuxEnvironment;

/// In an environment's directory: a line for people.
pub const HEALTH: &str = "health";

/// Of a hook's or service's last output, as a report carries it.
const TAIL_LINES: usize = 50;

/// What the environments of a host share.
#[derive(Debug)]
pub struct Linux {
    host: HostId,
    zone: Zone,
    address: IpAddr,
    platforms: Vec<Platform>,
    state: StateDir,
    blobs: Blobs,
    claims: Claims,
    runner: Runner,
    services: Direct,
    link: Arc<Link>,
    runtime: Handle,
    /// Held while trees and fetched files change, so that nothing is collected that was just found to be
    /// there. A fetch gives it back after each slice.
    files: Mutex<()>,
    /// What each environment needs. None may be missing when something is collected.
    keeps: Mutex<BTreeMap<EnvironmentName, Keep>>,
}

/// Which host this is and where its services listen.
#[derive(Debug, Clone)]
pub struct Site {
    pub host: HostId,
    pub zone: Zone,
    pub address: IpAddr,
    /// Best first; the last is `any`.
    pub platforms: Vec<Platform>,
}

impl Linux {
    /// Opens an agent's directory and ends what hooks of an earlier agent have left. `exec` starts the
    /// hidden `houston-agent exec`; `runtime` is driven by a thread that none of the effects blocks.
    pub fn open(
        directory: &Path,
        site: Site,
        exec: ExecProgram,
        link: Arc<Link>,
        runtime: Handle,
    ) -> Result<Self, Refusal> {
        let state = StateDir::open(directory)?;
        let root = Dir::open(state.path()).map_err(|e| refused("opening the state directory", &e))?;
        let cgroups = Cgroups::open(state.path());
        let runner = Runner { exec: exec.clone(), cgroups: cgroups.clone() };
        runner.sweep();
        Ok(Self {
            blobs: Blobs::open(state.path())?,
            claims: Claims::open(&root)?,
            services: Direct::open(state.path(), exec, cgroups, site.address)?,
            host: site.host,
            zone: site.zone,
            address: site.address,
            platforms: site.platforms,
            state,
            runner,
            link,
            runtime,
            files: Mutex::default(),
            keeps: Mutex::default(),
        })
    }

    pub fn state(&self) -> &StateDir {
        &self.state
    }

    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// Supervision: to be called about every second; see [`Direct::tick`].
    pub fn services(&self) -> &Direct {
        &self.services
    }

    /// Says what an environment needs from now on. To be said before anything is done for it.
    pub fn needs(&self, environment: &EnvironmentName, keep: Keep) {
        lock(&self.keeps).insert(environment.clone(), keep);
    }

    /// Why a service's process does not run, if it does not.
    pub fn process_runs(&self, key: &ServiceKey) -> Result<(), String> {
        match self.services.status(key) {
            Status::Running { .. } => Ok(()),
            Status::Restarting { exit, restarts } => {
                Err(format!("it {exit} and is started again (so far {restarts} times)"))
            }
            Status::Ended(exit) => Err(format!("it {exit} and stays down, by its restart policy")),
            Status::Stopped => Err("it does not run".to_owned()),
        }
    }

    /// The environment of a package's hooks, services and probes.
    pub fn variables(
        &self,
        environment: &EnvironmentName,
        release: ReleaseDigest,
        package: &DeployedPackage,
    ) -> Result<Variables, Refusal> {
        let place = self.place(environment, release, &package.file.name);
        Variables::of(&place, &package.file, &Settings(package.settings.clone()))
    }

    fn place(&self, environment: &EnvironmentName, release: ReleaseDigest, package: &PackageName) -> Place {
        let environment_path = self.state.path().join("environments").join(environment.as_str());
        Place {
            host: self.host.clone(),
            zone: self.zone.clone(),
            environment: environment.clone(),
            release,
            data: environment_path.join("data").join(package.as_str()),
            address: self.address,
        }
    }

    /// Leaves the health of an environment where `houston-agent status` finds it. Not synced: it is of no
    /// use after a crash.
    pub fn show(&self, report: &EnvironmentReport) {
        let directory = self.state.path().join("environments").join(report.environment.as_str());
        let (new, place) = (directory.join(".health.new"), directory.join(HEALTH));
        let written =
            std::fs::write(&new, shown_health(&report.health)).and_then(|()| std::fs::rename(&new, &place));
        if let Err(error) = written {
            tracing::debug!(environment = %report.environment, "its health is not shown: {error}");
        }
    }

    /// Removes an environment that is gone and runs nothing here. Data that its packages have written
    /// stays: it outlives releases, and nobody has said that it may go.
    pub fn forget(&self, environment: &EnvironmentName) -> Result<(), Refusal> {
        let _files = lock(&self.files);
        let forgetting =
            |e: std::io::Error| refused(format!("forgetting the environment \"{environment}\""), &e);
        self.claims.keep(environment, &BTreeSet::new())?;
        let open = || {
            let environments = Dir::open(self.state.path())?.dir("environments")?;
            let own = environments.dir(environment.as_str())?;
            let mut has_data = false;
            for name in own.names()? {
                if name == "data" && has_files(&own.dir("data")?)? {
                    has_data = true;
                } else {
                    own.remove(&name)?;
                }
            }
            if has_data {
                own.sync()
            } else {
                environments.remove(environment.as_str()).and_then(|()| environments.sync())
            }
        };
        open().map_err(forgetting)?;
        // Where data stays, so does the directory, and it needs nothing.
        lock(&self.keeps).insert(environment.clone(), Keep::default());
        Ok(())
    }

    /// The trees of a release on this host, in the set's order. E-PLATFORM if a package has none for it.
    fn trees_of(&self, content: &ReleaseContent) -> Result<Vec<TreeDigest>, Refusal> {
        let packages = content.version_set.packages.iter();
        let tree = |package: &houston_common::release::PackageVersion| {
            package.tree_for(&self.platforms).ok_or_else(|| {
                let what = format!("package {} {} has no tree for this host", package.name, package.version);
                Refusal::new(Code::PlatformMissing, what, "build the package for the host's platform too")
            })
        };
        packages.map(tree).collect()
    }

    /// Trees that are laid out, by their names.
    fn laid_out(&self) -> Result<BTreeSet<TreeDigest>, Refusal> {
        let names = self.state.trees().names().map_err(|e| refused("listing the trees", &e))?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Removes fetched files that no release in preparation still has to be laid out from. Trees that are
    /// known to be damaged count as not laid out.
    fn drop_unneeded_blobs(
        &self,
        keeps: &BTreeMap<EnvironmentName, Keep>,
        damaged: &BTreeSet<TreeDigest>,
    ) -> Result<(), Refusal> {
        let laid_out: BTreeSet<TreeDigest> = self.laid_out()?.difference(damaged).copied().collect();
        let wanted: BTreeSet<TreeDigest> = (keeps.values().flat_map(|keep| &keep.contents))
            .flat_map(|content| self.trees_of(content).unwrap_or_default())
            .filter(|tree| !laid_out.contains(tree))
            .collect();
        let manifest =
            |tree| self.blobs.manifest(tree).or_else(|| layout::kept_manifest(self.state.trees(), tree));
        let manifests: Vec<Manifest> = wanted.iter().filter_map(manifest).collect();
        let files: BTreeSet<FileDigest> =
            manifests.iter().flat_map(Manifest::files).map(|(_, _, _, digest)| digest).collect();
        self.blobs.keep(&files, &wanted)
    }
}

fn shown_health(health: &HealthReport) -> String {
    match health {
        HealthReport::Unknown => "unknown\n".to_owned(),
        HealthReport::Healthy { .. } => "healthy\n".to_owned(),
        HealthReport::Unhealthy { reason } => format!("unhealthy: {reason}\n"),
    }
}

fn has_files(directory: &Dir) -> std::io::Result<bool> {
    for name in directory.names()? {
        match directory.dir(&name) {
            Ok(below) if !has_files(&below)? => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Who may write a package's data: the user of its first service that has one, else of its first hook.
fn data_owner(file: &PackageFile) -> Option<&str> {
    let services = file.services.iter().filter_map(|service| service.user.as_deref());
    let hooks = file.hooks.values().filter_map(|hook| hook.user.as_deref());
    services.chain(hooks).next()
}

fn key(environment: &EnvironmentName, package: &PackageName, service: &ServiceName) -> ServiceKey {
    ServiceKey { environment: environment.clone(), package: package.clone(), service: service.clone() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
