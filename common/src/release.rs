//! Version sets, settings and releases: what is deployed, by digest.
//!
//! Each digest is SHA-256 over a canonical text whose first line names the format, so that no text
//! of one kind can be taken for another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use crate::digest::{Digest, ReleaseDigest, SettingsDigest, TreeDigest, VersionSetDigest};
use crate::id::{PackageName, Platform, SettingKey, Version};

/// One immutable package: a tree for each platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageVersion {
    pub name: PackageName,
    pub version: Version,
    pub trees: BTreeMap<Platform, TreeDigest>,
}

impl PackageVersion {
    /// The tree for a host: the first of its platforms that the package has.
    pub fn tree_for(&self, platforms: &[Platform]) -> Option<TreeDigest> {
        platforms.iter().find_map(|platform| self.trees.get(platform)).copied()
    }
}

/// More packages than this in one set is a mistake in somebody's generator.
pub const PACKAGES_MAX: usize = 64;

/// A closed, ordered list of packages that belong together. Its name is kept beside it and is no
/// part of its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionSet {
    /// In the order in which their services start. No name twice.
    pub packages: Vec<PackageVersion>,
}

impl VersionSet {
    /// The set that exists everywhere: it uninstalls.
    pub const fn empty() -> Self {
        Self { packages: Vec::new() }
    }

    pub fn digest(&self) -> VersionSetDigest {
        let mut text = String::from("houston-version-set 1\n");
        for package in &self.packages {
            let _ = writeln!(text, "package {} {}", package.name, package.version);
            for (platform, tree) in &package.trees {
                let _ = writeln!(text, "tree {platform} {tree}");
            }
        }
        VersionSetDigest(Digest::of(text.as_bytes()))
    }
}

/// Longest value of a setting, in bytes: settings are parameters, not files.
pub const SETTING_BYTES_MAX: usize = 4096;
/// Most keys of one settings document.
pub const SETTINGS_MAX: usize = 256;
/// Most bytes of all keys and values together: a check-in's answer carries two documents for each of
/// a host's environments, and must fit into one message.
pub const SETTINGS_BYTES_MAX: usize = 32 * 1024;

/// An environment's keys and values: an immutable document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings(pub BTreeMap<SettingKey, String>);

impl Settings {
    pub fn digest(&self) -> SettingsDigest {
        let mut text = String::from("houston-settings 1\n");
        for (key, value) in &self.0 {
            // The length makes values with newlines unambiguous.
            let _ = writeln!(text, "{key} {} {value}", value.len());
        }
        SettingsDigest(Digest::of(text.as_bytes()))
    }
}

/// The pair that a host prepares, activates and goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub version_set: VersionSetDigest,
    pub settings: SettingsDigest,
}

/// Asked for wherever a host's share in a floor is counted: digested once.
static NOTHING: LazyLock<Release> = LazyLock::new(|| Release {
    version_set: VersionSet::empty().digest(),
    settings: Settings::default().digest(),
});

impl Release {
    /// Nothing: the empty version set with empty settings. The way back of a first rollout.
    pub fn empty() -> Self {
        *NOTHING
    }

    /// Whether it runs nothing, whatever its settings.
    pub fn is_empty(&self) -> bool {
        self.version_set == NOTHING.version_set
    }

    pub fn digest(&self) -> ReleaseDigest {
        let text = format!("houston-release 1\n{}\n{}\n", self.version_set, self.settings);
        ReleaseDigest(Digest::of(text.as_bytes()))
    }
}

/// A release with all that its digests name: what a host is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseContent {
    pub version_set: Arc<VersionSet>,
    pub settings: Arc<Settings>,
}

impl ReleaseContent {
    pub fn empty() -> Self {
        Self { version_set: Arc::new(VersionSet::empty()), settings: Arc::new(Settings::default()) }
    }

    pub fn release(&self) -> Release {
        Release { version_set: self.version_set.digest(), settings: self.settings.digest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_apart_what_differs() {
        let package = |version: &str| PackageVersion {
            name: "web".parse().expect("name"),
            version: version.parse().expect("version"),
            trees: BTreeMap::from([(Platform::any(), TreeDigest(Digest::of(b"tree")))]),
        };
        let one = VersionSet { packages: vec![package("1")] };
        let two = VersionSet { packages: vec![package("2")] };
        assert_ne!(one.digest(), two.digest());
        assert_ne!(one.digest(), VersionSet::empty().digest());
        assert!(Release::empty().is_empty());
    }

    #[test]
    fn settings_with_newlines_are_unambiguous() {
        let settings = |pairs: &[(&str, &str)]| {
            Settings(pairs.iter().map(|(k, v)| (k.parse().expect("key"), (*v).to_owned())).collect())
        };
        assert_ne!(settings(&[("A", "1\nB 1 2")]).digest(), settings(&[("A", "1"), ("B", "2")]).digest());
    }
}
