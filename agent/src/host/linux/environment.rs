//! What one environment may do to its host.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use houston_common::digest::{ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, PackageName, ServiceName};
use houston_common::package::{PACKAGE_FILE, PACKAGE_FILE_BYTES_MAX, check_tree};
use houston_common::release::{PackageVersion, ReleaseContent};
use houston_common::report::LOG_TAIL_BYTES_MAX;

use super::{Linux, TAIL_LINES, data_owner, key, lock};
use crate::apply::deployment::{DeployedPackage, Deployment};
use crate::apply::journal::RecordFiles;
use crate::host::claims::Claim;
use crate::host::dir::refused;
use crate::host::fetch::{Fetcher, Places};
use crate::host::hook::{Call, GRACE};
use crate::host::release_dir::EnvironmentDir;
use crate::host::service::{ServiceRunner as _, ServiceSpec};
use crate::host::variables::Variables;
use crate::host::{Fetch, FetchError, HookStep, Host, Keep, Record, ServiceStep, StepError, exec, layout};
use crate::random;

#[derive(Debug)]
pub struct LinuxEnvironment {
    linux: Arc<Linux>,
    name: EnvironmentName,
    dir: EnvironmentDir,
    records: RecordFiles,
    fetcher: Fetcher,
    /// A layout has found contents wrong that were taken for good. The next fetch looks at every byte.
    is_in_doubt: bool,
    /// Trees that hold something else than their names say.
    damaged: BTreeSet<TreeDigest>,
}

impl LinuxEnvironment {
    /// Opens an environment, whose directory is made if it is missing.
    pub fn open(linux: Arc<Linux>, name: EnvironmentName) -> Result<Self, Refusal> {
        let dir = linux.state.environment(&name)?;
        Ok(Self {
            records: RecordFiles::open(dir.path())?,
            fetcher: Fetcher::new(linux.runtime.clone()),
            linux,
            name,
            dir,
            is_in_doubt: false,
            damaged: BTreeSet::new(),
        })
    }

    /// Trees to take files from.
    fn sources(&self) -> Result<Vec<TreeDigest>, Refusal> {
        Ok(self.linux.laid_out()?.difference(&self.damaged).copied().collect())
    }

    /// Finds what was taken for good and is not.
    fn resolve_doubt(&mut self, wanted: &[TreeDigest]) -> Result<(), Refusal> {
        let Linux { state, blobs, .. } = &*self.linux;
        let is_damaged = |tree: &TreeDigest| layout::measure(state.trees(), tree) != Ok(*tree);
        self.damaged = self.linux.laid_out()?.into_iter().filter(is_damaged).collect();
        for tree in wanted {
            let manifest = layout::kept_manifest(state.trees(), tree).or_else(|| blobs.manifest(tree));
            let files = manifest.iter().flat_map(|manifest| manifest.files());
            blobs.remove_damaged(files.map(|(_, _, length, digest)| (digest, length)))?;
        }
        self.is_in_doubt = false;
        Ok(())
    }

    fn lay_out_trees(&self, content: &ReleaseContent) -> Result<(), Refusal> {
        let Linux { state, blobs, .. } = &*self.linux;
        for tree in self.linux.trees_of(content)? {
            let manifest = layout::kept_manifest(state.trees(), &tree).or_else(|| blobs.manifest(&tree));
            let manifest = manifest.ok_or_else(|| {
                let what = format!("the manifest of the tree {} is not on this host", tree.short());
                Refusal::new(Code::FileMissing, what, "it is fetched again by the next prepare")
            })?;
            state.lay_out(&manifest, |digest| blobs.find(digest), &self.sources()?)?;
        }
        Ok(())
    }

    /// A release as it lies on this host.
    fn deployment(&self, release: ReleaseDigest, content: &ReleaseContent) -> Result<Deployment, Refusal> {
        let packages =
            content.version_set.packages.iter().map(|package| self.package(content, package).map(Arc::new));
        Ok(Deployment { release, packages: packages.collect::<Result<_, _>>()? })
    }

    fn package(
        &self,
        content: &ReleaseContent,
        package: &PackageVersion,
    ) -> Result<DeployedPackage, Refusal> {
        let trees = self.linux.state.trees();
        let tree = package.tree_for(&self.linux.platforms).ok_or_else(|| {
            let what = format!("package {} {} has no tree for this host", package.name, package.version);
            Refusal::new(Code::PlatformMissing, what, "build the package for the host's platform too")
        })?;
        let differs = |what: &str| {
            let what = format!("the tree {} of package {} {what}", tree.short(), package.name);
            Refusal::new(Code::TreeDiffers, what, "it is laid out again by the next prepare")
        };
        let manifest = layout::kept_manifest(trees, &tree).ok_or_else(|| differs("has no manifest"))?;
        let text = trees
            .dir(tree.to_string())
            .and_then(|dir| dir.read(PACKAGE_FILE, PACKAGE_FILE_BYTES_MAX as u64))
            .map_err(|e| refused(format!("reading {PACKAGE_FILE} of package {}", package.name), &e))?;
        let file = check_tree(&manifest, &text.ok_or_else(|| differs("has no houston.toml"))?)?;
        if (&file.name, &file.version) != (&package.name, &package.version) {
            let what = format!(
                "the tree of package {} {} says that it is {} {}",
                package.name, package.version, file.name, file.version
            );
            return Err(Refusal::new(Code::PackageValue, what, "build and push the package again"));
        }
        let given = |key| content.settings.0.get(key).cloned();
        let settings = (file.settings.iter())
            .filter_map(|need| Some((need.key.clone(), given(&need.key).or_else(|| need.default.clone())?)))
            .collect();
        Ok(DeployedPackage { tree, file, settings })
    }

    /// Whether the release can run here: settings, secrets, users, and nobody else's services and ports.
    fn check_needs(&self, deployment: &Deployment, content: &ReleaseContent) -> Result<(), Refusal> {
        for package in &deployment.packages {
            let place = self.linux.place(&self.name, deployment.release, &package.file.name);
            Variables::of(&place, &package.file, &content.settings)?;
            let services = package.file.services.iter().filter_map(|service| service.user.as_deref());
            for user in services.chain(package.file.hooks.values().filter_map(|hook| hook.user.as_deref())) {
                exec::user(user)?;
            }
        }
        self.linux.claims.take(&self.name, &claims(&self.name, deployment))
    }

    fn try_lay_out(&mut self, content: &ReleaseContent) -> Result<Deployment, Refusal> {
        let linux = Arc::clone(&self.linux);
        let _files = lock(&linux.files);
        self.lay_out_trees(content)?;
        let release = self.dir.compose(content, &linux.platforms)?;
        let deployment = self.deployment(release, content)?;
        self.check_needs(&deployment, content)?;
        for tree in linux.trees_of(content)? {
            self.damaged.remove(&tree);
        }
        linux.drop_unneeded_blobs(&lock(&linux.keeps), &self.damaged)?;
        Ok(deployment)
    }

    /// Claims of whatever is kept of this environment; absent if some of it cannot be read.
    fn kept_claims(&self, releases: &BTreeSet<ReleaseDigest>) -> Option<BTreeSet<Claim>> {
        let mut kept = BTreeSet::new();
        for release in releases {
            // What is still to be laid out has claimed nothing yet.
            let Ok(content) = self.dir.content(release) else { continue };
            kept.extend(claims(&self.name, &self.deployment(*release, &content).ok()?));
        }
        Some(kept)
    }

    fn spec(&self, step: &ServiceStep<'_>) -> Result<ServiceSpec, Refusal> {
        let ServiceStep { release, package, service, grace } = *step;
        self.dir.data(&package.file.name, data_owner(&package.file))?;
        Ok(ServiceSpec {
            key: key(&self.name, &package.file.name, &service.name),
            command: service.command.clone(),
            user: service.user.clone(),
            restart: service.restart,
            ports: service.ports.clone(),
            limits: service.limits.clone(),
            stop_grace: grace,
            tree: self.linux.state.tree_path(&package.tree),
            variables: self.linux.variables(&self.name, release, package)?,
        })
    }

    fn service_failed(&mut self, step: &ServiceStep<'_>, refusal: Refusal) -> StepError {
        let log_tail = self.log_tail(&step.package.file.name, &step.service.name);
        StepError { code: refusal.code, message: refusal.what, log_tail }
    }
}

fn claims(environment: &EnvironmentName, deployment: &Deployment) -> BTreeSet<Claim> {
    let services = deployment
        .packages
        .iter()
        .flat_map(|package| package.file.services.iter().map(move |service| (&package.file.name, service)));
    services
        .flat_map(|(package, service)| {
            let name = Claim::service(&key(environment, package, &service.name));
            service.ports.iter().map(|port| Claim::Port(*port)).chain([name])
        })
        .collect()
}

fn without_output(refusal: Refusal) -> StepError {
    StepError { code: refusal.code, message: refusal.what, log_tail: String::new() }
}

impl Host for LinuxEnvironment {
    fn read_record(&mut self, record: Record) -> Result<Option<Vec<u8>>, Refusal> {
        self.records.read(record)
    }

    fn write_record(&mut self, record: Record, bytes: &[u8]) -> Result<(), Refusal> {
        self.records.write(record, bytes)
    }

    fn set_record_aside(&mut self, record: Record) -> Result<(), Refusal> {
        self.records.set_aside(record)
    }

    fn fetch(&mut self, release: &ReleaseContent, slice: Duration) -> Result<Fetch, FetchError> {
        let linux = Arc::clone(&self.linux);
        let wanted = linux.trees_of(release)?;
        let _files = lock(&linux.files);
        if self.is_in_doubt {
            self.resolve_doubt(&wanted)?;
        }
        let kept = self.sources()?;
        let places = Places { blobs: &linux.blobs, trees: linux.state.trees(), kept: &kept };
        self.fetcher.fetch(&linux.link, places, &wanted, slice)
    }

    fn lay_out(&mut self, release: &ReleaseContent) -> Result<Deployment, Refusal> {
        self.try_lay_out(release).inspect_err(|refusal| {
            self.is_in_doubt |= matches!(
                refusal.code,
                Code::FileMissing | Code::FileDigest | Code::FileLength | Code::TreeDiffers
            );
        })
    }

    fn run_hook(&mut self, hook: HookStep<'_>) -> Result<(), StepError> {
        let HookStep { release, package, phase, hook, timeout } = hook;
        let file = &package.file;
        self.dir.data(&file.name, data_owner(file)).map_err(without_output)?;
        let variables = self.linux.variables(&self.name, release, package).map_err(without_output)?;
        let tree = self.linux.state.tree_path(&package.tree);
        let call = Call {
            command: &hook.command,
            user: hook.user.as_deref(),
            timeout,
            grace: GRACE,
            tree: &tree,
            variables: &variables,
        };
        let run = self.linux.runner.run(&call).map_err(without_output)?;
        // No service's log has this name: there is a dot more in it.
        if let Err(refusal) = run.save(self.dir.logs(), &format!("{}.hook.{phase}", file.name)) {
            tracing::warn!(environment = %self.name, "{refusal}");
        }
        let name = format!("the hook \"{phase}\" of package {}", file.name);
        run.check(&name, timeout).map_err(|refusal| StepError {
            code: refusal.code,
            message: refusal.what,
            log_tail: run.output.last(TAIL_LINES, LOG_TAIL_BYTES_MAX),
        })
    }

    fn start_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError> {
        let started = self.spec(&service).and_then(|spec| self.linux.services.start(&spec));
        started.map_err(|refusal| self.service_failed(&service, refusal))
    }

    fn stop_service(&mut self, service: ServiceStep<'_>) -> Result<(), StepError> {
        let key = key(&self.name, &service.package.file.name, &service.service.name);
        let stopped = self.linux.services.stop(&key, service.grace);
        stopped.map_err(|refusal| self.service_failed(&service, refusal))
    }

    fn switch(&mut self, to: Option<ReleaseDigest>) -> Result<(), Refusal> {
        self.dir.switch(to.as_ref())
    }

    fn measure(&mut self) -> Result<Deployment, Refusal> {
        match self.dir.measure(self.linux.state.trees())? {
            Some(release) => self.deployment(release, &self.dir.content(&release)?),
            None => Ok(Deployment::nothing()),
        }
    }

    fn log_tail(&mut self, package: &PackageName, service: &ServiceName) -> String {
        self.linux.services.log_tail(&key(&self.name, package, service), TAIL_LINES, LOG_TAIL_BYTES_MAX)
    }

    fn collect(&mut self, keep: &Keep) -> Result<(), Refusal> {
        let linux = Arc::clone(&self.linux);
        let _files = lock(&linux.files);
        let mut keeps = lock(&linux.keeps);
        keeps.insert(self.name.clone(), keep.clone());
        if let Some(unknown) = linux.state.environments()?.iter().find(|name| !keeps.contains_key(*name)) {
            let what = format!("nothing is collected: what the environment \"{unknown}\" needs is not known");
            return Err(Refusal::new(Code::State, what, "see the agent's log for why it was not loaded"));
        }
        let releases = |keep: &Keep| -> BTreeSet<ReleaseDigest> {
            let prepared = keep.contents.iter().map(|content| content.release().digest());
            keep.releases.iter().copied().chain(prepared).collect()
        };
        let keep_releases = keeps.iter().map(|(name, keep)| (name.clone(), releases(keep))).collect();
        let contents = keeps.values().flat_map(|keep| &keep.contents);
        let keep_trees = contents.flat_map(|content| linux.trees_of(content).unwrap_or_default()).collect();
        linux.state.collect(&keep_releases, &keep_trees)?;
        if let Some(kept) = self.kept_claims(&releases(keep)) {
            linux.claims.keep(&self.name, &kept)?;
        }
        linux.drop_unneeded_blobs(&keeps, &self.damaged)
    }

    fn random(&mut self) -> u64 {
        random::number()
    }
}
