//! The records of packages, version sets and settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use houston_common::clock::WallTime;
use houston_common::digest::TreeDigest;
use houston_common::id::{OperatorName, PackageName, Platform, SettingKey, Version, VersionSetName};
use houston_common::release::{PackageVersion, Settings, VersionSet};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kept::{self, Kept, base64, kept};
use crate::catalog::{NamedSet, Package};

kept!(
    Package as PackageRecord,
    PackageVersion as PackageVersionRecord,
    NamedSet as NamedSetRecord,
    VersionSet as VersionSetRecord,
);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Package", deny_unknown_fields)]
struct PackageRecord {
    #[serde(with = "kept")]
    package: PackageVersion,
    bytes: u64,
    pushed_by: OperatorName,
    pushed_at: WallTime,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PackageVersion", deny_unknown_fields)]
struct PackageVersionRecord {
    name: PackageName,
    version: Version,
    trees: BTreeMap<Platform, TreeDigest>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NamedSet", deny_unknown_fields)]
struct NamedSetRecord {
    name: VersionSetName,
    #[serde(with = "kept")]
    set: Arc<VersionSet>,
    created_by: OperatorName,
    created_at: WallTime,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "VersionSet", deny_unknown_fields)]
struct VersionSetRecord {
    #[serde(with = "kept")]
    packages: Vec<PackageVersion>,
}

/// Values in base64: JSON's escapes can make text six times as long, and the largest settings would
/// not fit into a record any more.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct SettingsRecord(BTreeMap<SettingKey, SettingRecord>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct SettingRecord(#[serde(with = "base64")] Vec<u8>);

impl Kept for Settings {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Self(values) = self;
        let value = |value: &String| SettingRecord(value.as_bytes().to_vec());
        SettingsRecord(values.iter().map(|(key, text)| (key.clone(), value(text))).collect()).serialize(s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let SettingsRecord(values) = SettingsRecord::deserialize(d)?;
        let text = |(key, SettingRecord(bytes))| Ok((key, String::from_utf8(bytes)?));
        let values = values.into_iter().map(text).collect::<Result<_, std::string::FromUtf8Error>>();
        values.map(Self).map_err(serde::de::Error::custom)
    }
}
