//! The state directory's trees and environments: releases, the switch between them, the packages'
//! data, and collection of what nothing refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use houston_common::digest::{FileDigest, ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, PackageName, Platform};
use houston_common::manifest::Manifest;
use houston_common::release::ReleaseContent;

use super::dir::{Dir, UNFINISHED, refused, unfinished};
use super::layout;

mod content;
#[cfg(test)]
mod tests;

/// From a release's directory to the trees.
const TREES_FROM_RELEASE: &str = "../../../../trees";

/// Everything of a release but its files. The dot keeps it apart from every package's name.
const CONTENT: &str = "release.json";

/// Twice what the largest release's text can be: 64 packages with their trees, 256 settings of 4 KiB.
const CONTENT_BYTES_MAX: u64 = 4 << 20;

/// The agent's directory on a host.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    trees: Dir,
    environments: Dir,
    /// Held while trees are laid out or collected: collection takes unfinished ones for left over.
    trees_change: Mutex<()>,
}

impl StateDir {
    /// Opens the directory, which must exist, and makes what it needs in it.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let open = || {
            let path = path.canonicalize()?;
            let dir = Dir::open(&path)?;
            let (trees, environments) = (dir.ensure("trees", 0o755)?, dir.ensure("environments", 0o755)?);
            Ok(Self { path, trees, environments, trees_change: Mutex::new(()) })
        };
        open().map_err(|e: io::Error| {
            let what = format!("the state directory {} cannot be used: {e}", path.display());
            Refusal::new(Code::State, what, "check that it exists and that the agent may write there")
        })
    }

    /// Absolute, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn trees(&self) -> &Dir {
        &self.trees
    }

    /// See [`layout::lay_out`].
    pub fn lay_out(
        &self,
        manifest: &Manifest,
        contents: impl Fn(&FileDigest) -> Option<PathBuf>,
        kept: &[TreeDigest],
    ) -> Result<TreeDigest, Refusal> {
        let _change = self.lock_trees();
        layout::lay_out(&self.trees, manifest, contents, kept)
    }

    /// Where a laid-out tree is.
    pub fn tree_path(&self, tree: &TreeDigest) -> PathBuf {
        self.path.join("trees").join(tree.to_string())
    }

    /// Opens an environment's directory, made first if it is missing.
    pub fn environment(&self, name: &EnvironmentName) -> Result<EnvironmentDir, Refusal> {
        let open = || {
            let dir = self.environments.ensure(name.as_str(), 0o755)?;
            Ok(EnvironmentDir {
                path: self.path.join("environments").join(name.as_str()),
                releases: dir.ensure("releases", 0o755)?,
                data: dir.ensure("data", 0o755)?,
                logs: dir.ensure("logs", 0o750)?,
                dir,
            })
        };
        open().map_err(|e: io::Error| refused(format!("opening the environment \"{name}\" on disk"), &e))
    }

    /// Every environment that the host has a directory for.
    pub fn environments(&self) -> Result<Vec<EnvironmentName>, Refusal> {
        parsed_names(&self.environments).map_err(|e| refused("listing the environments on disk", &e))
    }

    /// Removes releases and trees that nothing refers to.
    ///
    /// Kept are `keep_releases`, what any environment's `current` leads to whatever the caller says,
    /// the trees of all those, and `keep_trees` (what is being prepared and has no release yet).
    pub fn collect(
        &self,
        keep_releases: &BTreeMap<EnvironmentName, BTreeSet<ReleaseDigest>>,
        keep_trees: &BTreeSet<TreeDigest>,
    ) -> Result<Collected, Refusal> {
        let _change = self.lock_trees();
        let mut collected = Collected::default();
        let mut trees_kept = keep_trees.clone();
        for name in self.environments()? {
            let environment = self.environment(&name)?;
            let mut keep = keep_releases.get(&name).cloned().unwrap_or_default();
            keep.extend(environment.current()?);
            collected.releases += environment.collect(&keep)?;
            for release in keep {
                // A release that cannot be read hides its trees, so nothing may be taken for unused.
                trees_kept.extend(environment.trees_of(&release)?);
            }
        }
        let removing = |e: io::Error| refused("collecting trees", &e);
        remove_unfinished(&self.trees).map_err(removing)?;
        for name in self.trees.names().map_err(removing)? {
            let text = name.to_string_lossy();
            let Ok(tree) = TreeDigest::from_str(text.trim_end_matches(".manifest")) else { continue };
            if !trees_kept.contains(&tree) {
                layout::remove_tree(&self.trees, &tree)?;
                collected.trees.insert(tree);
            }
        }
        Ok(collected)
    }

    fn lock_trees(&self) -> MutexGuard<'_, ()> {
        self.trees_change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a collection removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub releases: usize,
    pub trees: BTreeSet<TreeDigest>,
}

/// One environment on this host.
#[derive(Debug)]
pub struct EnvironmentDir {
    path: PathBuf,
    dir: Dir,
    releases: Dir,
    data: Dir,
    logs: Dir,
}

impl EnvironmentDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the journal and the floor.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub fn logs(&self) -> &Dir {
        &self.logs
    }

    /// Makes a release's directory: a link for each package to the host's tree of it, and the
    /// content. The trees must be laid out. Durable on return; does nothing if it is there.
    pub fn compose(
        &self,
        content: &ReleaseContent,
        platforms: &[Platform],
    ) -> Result<ReleaseDigest, Refusal> {
        let digest = content.release().digest();
        let name = digest.to_string();
        let composing = |e: io::Error| refused(format!("composing the release {}", digest.short()), &e);
        let mut links = Vec::new();
        for package in &content.version_set.packages {
            let tree = package.tree_for(platforms).ok_or_else(|| {
                let what = format!("package {} {} has no tree for this host", package.name, package.version);
                Refusal::new(Code::PlatformMissing, what, "build the package for the host's platform too")
            })?;
            links.push((package.name.as_str(), format!("{TREES_FROM_RELEASE}/{tree}")));
        }
        if self.content(&digest).is_ok_and(|found| found == *content) && self.has_links(&name, &links) {
            return Ok(digest);
        }
        let fresh = unfinished(OsStr::new(&name));
        let make = || {
            let release = self.releases.make(&fresh, 0o755)?;
            for (package, target) in &links {
                release.make_link(target, package)?;
            }
            release.replace(CONTENT, &content::write(content)?)?;
            // A damaged one is replaced. `current` leads to a name, so it dangles for this moment only.
            self.releases.remove(&name)?;
            self.releases.rename(&fresh, &name)?;
            self.releases.sync()
        };
        make().map_err(composing)?;
        Ok(digest)
    }

    fn has_links(&self, release: &str, links: &[(&str, String)]) -> bool {
        self.releases.dir(release).is_ok_and(|dir| {
            links.iter().all(
                |(package, target)| matches!(dir.read_link(package), Ok(Some(found)) if found == **target),
            )
        })
    }

    /// Makes a release the active one by one rename, or none with the last one's link removed.
    /// Durable on return: only now may it be told.
    pub fn switch(&self, release: Option<&ReleaseDigest>) -> Result<(), Refusal> {
        let Some(release) = release else {
            return self
                .dir
                .remove("current")
                .and_then(|()| self.dir.sync())
                .map_err(|e| refused("removing the link to the active release", &e));
        };
        let switching = |e: io::Error| refused(format!("switching to the release {}", release.short()), &e);
        self.releases.dir(release.to_string()).map_err(switching)?;
        let fresh = unfinished(OsStr::new("current"));
        self.dir.make_link(format!("releases/{release}"), &fresh).map_err(switching)?;
        self.dir.rename(&fresh, "current").and_then(|()| self.dir.sync()).map_err(|e| {
            let _ = self.dir.remove(&fresh);
            switching(e)
        })
    }

    /// Which release the switch leads to: read from the link, not from what was asked for.
    pub fn current(&self) -> Result<Option<ReleaseDigest>, Refusal> {
        let target = self.dir.read_link("current").map_err(|e| refused("reading the active release", &e))?;
        let Some(target) = target else { return Ok(None) };
        let digest = target.to_str().and_then(|text| text.strip_prefix("releases/")?.parse().ok());
        digest.map(Some).ok_or_else(|| {
            let what = format!("the link {} leads elsewhere", self.path.join("current").display());
            Refusal::new(Code::TreeDiffers, what, "remove the link; the next activation sets it again")
        })
    }

    /// What a release on disk holds, verified against its digest.
    pub fn content(&self, release: &ReleaseDigest) -> Result<ReleaseContent, Refusal> {
        let bytes = self
            .releases
            .dir(release.to_string())
            .and_then(|dir| dir.read(CONTENT, CONTENT_BYTES_MAX))
            .map_err(|e| refused(format!("reading the release {}", release.short()), &e))?;
        bytes
            .and_then(|bytes| content::read(&bytes))
            .filter(|content| content.release().digest() == *release)
            .ok_or_else(|| differs(release, "has a damaged content file"))
    }

    /// What is active, recomputed from every byte on disk: the release's content, its links, the
    /// trees that they lead to. `E-TREE-DIFF` if any of it is not what the release names.
    pub fn measure(&self, trees: &Dir) -> Result<Option<ReleaseDigest>, Refusal> {
        let Some(current) = self.current()? else { return Ok(None) };
        let content = self.content(&current)?;
        let links = self.links(&current)?;
        if links.len() != content.version_set.packages.len() {
            return Err(differs(&current, "has links for other packages"));
        }
        for package in &content.version_set.packages {
            let tree = links
                .get(&package.name)
                .filter(|tree| package.trees.values().any(|known| known == *tree))
                .ok_or_else(|| {
                    differs(&current, &format!("has a wrong link for package {}", package.name))
                })?;
            if layout::measure(trees, tree)? != *tree {
                return Err(differs(&current, &format!("has other files in package {}", package.name)));
            }
        }
        Ok(Some(content.release().digest()))
    }

    /// The tree of each package of a release on disk.
    pub fn links(&self, release: &ReleaseDigest) -> Result<BTreeMap<PackageName, TreeDigest>, Refusal> {
        let reading = |e: io::Error| refused(format!("reading the release {}", release.short()), &e);
        let dir = self.releases.dir(release.to_string()).map_err(reading)?;
        let mut links = BTreeMap::new();
        for package in parsed_names::<PackageName>(&dir).map_err(reading)? {
            let target = dir.read_link(package.as_str()).map_err(reading)?.unwrap_or_default();
            let tree = Path::new(&target)
                .strip_prefix(TREES_FROM_RELEASE)
                .ok()
                .and_then(|tree| tree.to_str()?.parse().ok())
                .ok_or_else(|| differs(release, &format!("has a wrong link for package {package}")))?;
            links.insert(package, tree);
        }
        Ok(links)
    }

    /// The directory that a package may write to, made if it is missing. It belongs to `owner`, a
    /// user of the host, if one is named and the agent may give it away.
    pub fn data(&self, package: &PackageName, owner: Option<&str>) -> Result<PathBuf, Refusal> {
        let making = |e: io::Error| refused(format!("making the data directory of package {package}"), &e);
        let dir = self.data.ensure(package.as_str(), 0o750).map_err(making)?;
        if let Some(owner) = owner {
            let user = super::exec::user(owner)?;
            let (uid, gid) = (
                rustix::process::Uid::from_raw(user.uid.as_raw()),
                rustix::process::Gid::from_raw(user.gid.as_raw()),
            );
            let now = rustix::fs::fstat(&dir).map_err(|e| making(e.into()))?;
            if now.st_uid != uid.as_raw() {
                rustix::fs::fchown(&dir, Some(uid), Some(gid)).map_err(|e| making(e.into()))?;
            }
        }
        Ok(self.path.join("data").join(package.as_str()))
    }

    /// Trees of a release; none if the release is not on disk.
    fn trees_of(&self, release: &ReleaseDigest) -> Result<BTreeSet<TreeDigest>, Refusal> {
        match self.releases.kind(release.to_string()) {
            Ok(None) => Ok(BTreeSet::new()),
            _ => Ok(self.links(release)?.into_values().collect()),
        }
    }

    fn collect(&self, keep: &BTreeSet<ReleaseDigest>) -> Result<usize, Refusal> {
        let collecting = |e: io::Error| refused("collecting releases", &e);
        remove_unfinished(&self.releases).map_err(collecting)?;
        let mut removed = 0;
        for release in parsed_names::<ReleaseDigest>(&self.releases).map_err(collecting)? {
            if !keep.contains(&release) {
                self.releases.remove(release.to_string()).map_err(collecting)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn differs(release: &ReleaseDigest, what: &str) -> Refusal {
    let what = format!("the release {} on disk {what}", release.short());
    Refusal::new(Code::TreeDiffers, what, "it is composed again by the next prepare")
}

fn remove_unfinished(dir: &Dir) -> io::Result<()> {
    let left = |name: &OsString| name.to_string_lossy().starts_with(UNFINISHED);
    dir.names()?.into_iter().filter(left).try_for_each(|name| dir.remove(name))
}

/// The names in a directory that are of this kind.
fn parsed_names<T: FromStr>(dir: &Dir) -> io::Result<Vec<T>> {
    Ok(dir.names()?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}
