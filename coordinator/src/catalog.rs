//! What can be deployed: packages, version sets, settings.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::sync::Arc;

use houston_common::clock::WallTime;
use houston_common::digest::{SettingsDigest, VersionSetDigest};
use houston_common::id::{OperatorName, PackageName, Version, VersionSetName};
use houston_common::release::{PackageVersion, Release, ReleaseContent, Settings, VersionSet};
use houston_common::view::ReleaseView;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub package: PackageVersion,
    /// Of all files of all trees, each tree counted whole.
    pub bytes: u64,
    pub pushed_by: OperatorName,
    pub pushed_at: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSet {
    pub name: VersionSetName,
    pub set: Arc<VersionSet>,
    pub created_by: OperatorName,
    pub created_at: WallTime,
}

#[derive(Debug, Default)]
pub struct Catalog {
    pub packages: BTreeMap<(PackageName, Version), Package>,
    sets: BTreeMap<VersionSetDigest, NamedSet>,
    set_names: BTreeMap<VersionSetName, VersionSetDigest>,
    settings: BTreeMap<SettingsDigest, Arc<Settings>>,
}

/// The empty set's name. No other set may have it.
pub const EMPTY_SET_NAME: &str = "empty";

impl Catalog {
    pub fn put_package(&mut self, package: Package) {
        let key = (package.package.name.clone(), package.package.version.clone());
        self.packages.insert(key, package);
    }

    pub fn put_set(&mut self, set: NamedSet) {
        let digest = set.set.digest();
        self.set_names.insert(set.name.clone(), digest);
        self.sets.insert(digest, set);
    }

    pub fn put_settings(&mut self, settings: Arc<Settings>) {
        self.settings.insert(settings.digest(), settings);
    }

    pub fn sets(&self) -> impl Iterator<Item = &NamedSet> {
        self.sets.values()
    }

    pub fn set(&self, digest: &VersionSetDigest) -> Option<&NamedSet> {
        self.sets.get(digest)
    }

    pub fn set_named(&self, name: &VersionSetName) -> Option<&NamedSet> {
        self.set_names.get(name).and_then(|digest| self.sets.get(digest))
    }

    pub fn has_settings(&self, digest: &SettingsDigest) -> bool {
        self.settings.contains_key(digest)
    }

    pub fn settings(&self, digest: &SettingsDigest) -> Option<&Arc<Settings>> {
        self.settings.get(digest)
    }

    /// All that a release's digests name. Absent only if the store has lost a record.
    pub fn content(&self, release: &Release) -> Option<ReleaseContent> {
        let version_set = if release.is_empty() {
            Arc::new(VersionSet::empty())
        } else {
            self.sets.get(&release.version_set)?.set.clone()
        };
        let settings = match self.settings.get(&release.settings) {
            Some(settings) => settings.clone(),
            None if release.settings == Settings::default().digest() => Arc::new(Settings::default()),
            None => return None,
        };
        Some(ReleaseContent { version_set, settings })
    }

    pub fn view(&self, release: &Release) -> ReleaseView {
        ReleaseView {
            version_set: release.version_set,
            name: self.set_name(&release.version_set),
            settings: release.settings,
        }
    }

    fn set_name(&self, digest: &VersionSetDigest) -> VersionSetName {
        let known = self.sets.get(digest).map(|set| set.name.clone());
        let fallback =
            if *digest == VersionSet::empty().digest() { EMPTY_SET_NAME.to_owned() } else { digest.short() };
        known.or_else(|| fallback.parse().ok()).unwrap_or_else(|| unreachable!("a short digest is a name"))
    }
}
