//! Packages, version sets, settings, labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    InvalidField, LABELS_MAX, PLATFORMS_MAX, Wire, at_least_one, at_most, digest, distinct, list, name,
    nested, text, to_bytes, to_list,
};
use crate::api::wire;
use crate::digest::{SettingsDigest, TreeDigest, VersionSetDigest};
use crate::id::{LabelKey, LabelValue};
use crate::release::{
    PACKAGES_MAX, PackageVersion, ReleaseContent, SETTING_BYTES_MAX, SETTINGS_BYTES_MAX, SETTINGS_MAX,
    Settings, VersionSet,
};
use crate::view::ReleaseView;

impl Wire for PackageVersion {
    type Message = wire::PackageVersion;

    fn to_wire(&self) -> wire::PackageVersion {
        let Self { name, version, trees } = self;
        wire::PackageVersion {
            name: name.to_string(),
            version: version.to_string(),
            trees: trees
                .iter()
                .map(|(platform, tree)| wire::PlatformTree {
                    platform: platform.to_string(),
                    tree: to_bytes(tree.as_bytes()),
                })
                .collect(),
        }
    }

    fn from_wire(message: wire::PackageVersion) -> Result<Self, InvalidField> {
        let wire::PackageVersion { name: package, version, trees } = message;
        at_most("trees", trees.len(), PLATFORMS_MAX)?;
        distinct("trees", trees.iter().map(|tree| &tree.platform))?;
        let trees = at_least_one("trees", trees)?
            .into_iter()
            .enumerate()
            .map(|(i, wire::PlatformTree { platform, tree })| {
                let field = |part| format!("trees[{i}].{part}");
                let platform = name(&field("platform"), &platform)?;
                Ok((platform, TreeDigest(digest(&field("tree"), &tree)?)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name("name", &package)?, version: name("version", &version)?, trees })
    }
}

impl Wire for VersionSet {
    type Message = wire::VersionSet;

    fn to_wire(&self) -> wire::VersionSet {
        let Self { packages } = self;
        wire::VersionSet { packages: to_list(packages) }
    }

    fn from_wire(message: wire::VersionSet) -> Result<Self, InvalidField> {
        let wire::VersionSet { packages } = message;
        let packages: Vec<PackageVersion> = list("packages", packages, PACKAGES_MAX)?;
        distinct("packages", packages.iter().map(|package| &package.name))?;
        Ok(Self { packages })
    }
}

impl Wire for Settings {
    type Message = wire::Settings;

    fn to_wire(&self) -> wire::Settings {
        let settings = self.0.iter();
        wire::Settings {
            settings: settings
                .map(|(key, value)| wire::Setting { key: key.to_string(), value: value.clone() })
                .collect(),
        }
    }

    fn from_wire(message: wire::Settings) -> Result<Self, InvalidField> {
        let wire::Settings { settings } = message;
        at_most("settings", settings.len(), SETTINGS_MAX)?;
        distinct("settings", settings.iter().map(|setting| &setting.key))?;
        let bytes: usize = settings.iter().map(|setting| setting.key.len() + setting.value.len()).sum();
        if bytes > SETTINGS_BYTES_MAX {
            let problem = format!("has {bytes} bytes; at most {SETTINGS_BYTES_MAX} are allowed");
            return Err(InvalidField::new("settings", problem));
        }
        let read = |wire::Setting { key, value }| {
            Ok((name("settings.key", &key)?, text("settings.value", value, SETTING_BYTES_MAX)?))
        };
        settings.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl Wire for ReleaseContent {
    type Message = wire::ReleaseContent;

    fn to_wire(&self) -> wire::ReleaseContent {
        let Self { version_set, settings } = self;
        wire::ReleaseContent { version_set: Some(version_set.to_wire()), settings: Some(settings.to_wire()) }
    }

    fn from_wire(message: wire::ReleaseContent) -> Result<Self, InvalidField> {
        let wire::ReleaseContent { version_set, settings } = message;
        Ok(Self {
            version_set: Arc::new(nested("version_set", version_set)?),
            settings: Arc::new(nested("settings", settings)?),
        })
    }
}

impl Wire for ReleaseView {
    type Message = wire::ReleaseView;

    fn to_wire(&self) -> wire::ReleaseView {
        let Self { version_set, name, settings } = self;
        wire::ReleaseView {
            version_set: to_bytes(version_set.as_bytes()),
            name: name.to_string(),
            settings: to_bytes(settings.as_bytes()),
        }
    }

    fn from_wire(message: wire::ReleaseView) -> Result<Self, InvalidField> {
        let wire::ReleaseView { version_set, name: set_name, settings } = message;
        Ok(Self {
            version_set: VersionSetDigest(digest("version_set", &version_set)?),
            name: name("name", &set_name)?,
            settings: SettingsDigest(digest("settings", &settings)?),
        })
    }
}

/// Labels, no key twice.
pub(super) fn labels(
    field: &str,
    labels: Vec<wire::Label>,
) -> Result<BTreeMap<LabelKey, LabelValue>, InvalidField> {
    at_most(field, labels.len(), LABELS_MAX)?;
    distinct(field, labels.iter().map(|label| &label.key))?;
    labels
        .into_iter()
        .map(|wire::Label { key, value }| {
            Ok((name(&format!("{field}.key"), &key)?, name(&format!("{field}.value"), &value)?))
        })
        .collect()
}

pub(super) fn to_labels(labels: &BTreeMap<LabelKey, LabelValue>) -> Vec<wire::Label> {
    labels.iter().map(|(key, value)| wire::Label { key: key.to_string(), value: value.to_string() }).collect()
}
