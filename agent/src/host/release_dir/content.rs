//! A release's content as it is written beside its links.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use houston_common::digest::TreeDigest;
use houston_common::id::{PackageName, Platform, SettingKey, Version};
use houston_common::release::{PackageVersion, ReleaseContent, Settings, VersionSet};
use serde::{Deserialize, Serialize};

/// A reader that does not know the version takes the file for damaged.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    packages: Vec<Package>,
    settings: BTreeMap<SettingKey, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: PackageName,
    version: Version,
    trees: BTreeMap<Platform, TreeDigest>,
}

pub(super) fn write(content: &ReleaseContent) -> io::Result<Vec<u8>> {
    let packages = content.version_set.packages.iter().map(|package| Package {
        name: package.name.clone(),
        version: package.version.clone(),
        trees: package.trees.clone(),
    });
    let written =
        Content { version: VERSION, packages: packages.collect(), settings: content.settings.0.clone() };
    Ok(serde_json::to_vec_pretty(&written)?)
}

/// Absent if it is damaged. That it is the content of the release is the caller's to check.
pub(super) fn read(bytes: &[u8]) -> Option<ReleaseContent> {
    let content: Content = serde_json::from_slice(bytes).ok().filter(|c: &Content| c.version == VERSION)?;
    let packages = content.packages.into_iter().map(|package| PackageVersion {
        name: package.name,
        version: package.version,
        trees: package.trees,
    });
    Some(ReleaseContent {
        version_set: Arc::new(VersionSet { packages: packages.collect() }),
        settings: Arc::new(Settings(content.settings)),
    })
}
