//! A release as it lies on this host, ready to be started or stopped without network or parsing.

use std::collections::BTreeMap;
use std::sync::Arc;

use houston_common::digest::{ReleaseDigest, TreeDigest};
use houston_common::id::{PackageName, SettingKey};
use houston_common::package::PackageFile;
use houston_common::release::Release;

/// A laid out release: its packages in the set's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub release: ReleaseDigest,
    pub packages: Vec<Arc<DeployedPackage>>,
}

/// A package of a release, with the tree for this host. Its name is the package file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedPackage {
    pub tree: TreeDigest,
    pub file: PackageFile,
    /// The values of the settings that it declares, defaults filled in.
    pub settings: BTreeMap<SettingKey, String>,
}

impl Deployment {
    /// What a host runs that was never given anything.
    pub fn nothing() -> Self {
        Self { release: Release::empty().digest(), packages: Vec::new() }
    }

    pub fn package(&self, name: &PackageName) -> Option<&Arc<DeployedPackage>> {
        self.packages.iter().find(|package| package.file.name == *name)
    }

    pub fn has_services(&self) -> bool {
        self.packages.iter().any(|package| !package.file.services.is_empty())
    }

    /// What `current` links to: absent if there is nothing to run.
    pub fn link(&self) -> Option<ReleaseDigest> {
        (!self.packages.is_empty()).then_some(self.release)
    }
}

impl DeployedPackage {
    /// Whether `other` runs exactly as this one does.
    pub fn runs_as(&self, other: &Self) -> bool {
        self.tree == other.tree && self.settings == other.settings
    }
}
