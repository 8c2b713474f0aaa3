//! What is stored: each [`Edit`] as one record, and each record back as an [`Edit`].
//!
//! A key says what a record is about, a value is JSON: `{"v": 1, "record": {…}}`. Times and durations
//! are milliseconds, bytes are base64, digests hexadecimal. The types here mirror the decisions' types
//! field by field, so that a new field does not compile until its place in the record is decided.
//!
//! - Stored: everything that an `Edit` carries. The key repeats the names in the value, and the two must agree.
//! - Not stored: presence, reports, counts; they come back as hosts check in.
//! - Absence of a record means that the thing does not exist; there are no defaults for absent fields.
//!
//! When the format changes, the version rises, a golden file of the old one stays, and what reads the
//! old one converts.

mod access;
mod catalog;
mod environment;
mod fleet;
mod kept;
mod rollout;
#[cfg(test)]
mod tests;

use houston_common::digest::{SettingsDigest, VersionSetDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, HostId, OperatorName, PackageName, RolloutId, Version};
use serde::{Deserialize, Serialize};

use crate::state::Edit;
use crate::store::{Change, Key};
use kept::{Borrowed, Kept, Owned};

/// Of every record that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record {key} has format {found}; this version reads {VERSION}")]
    Newer { key: Key, found: u32 },
    /// Newer versions may keep more kinds.
    #[error("the record {key} is of a kind that this version does not know")]
    UnknownKind { key: Key },
    #[error("the record {key} cannot be read: {cause}")]
    Invalid { key: Key, cause: String },
    #[error("the record {key} is about {about}")]
    Misplaced { key: Key, about: Key },
}

impl RecordError {
    pub fn key(&self) -> &Key {
        match self {
            Self::Newer { key, .. }
            | Self::UnknownKind { key }
            | Self::Invalid { key, .. }
            | Self::Misplaced { key, .. } => key,
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Newer { .. } | Self::UnknownKind { .. } => Code::StateNewer,
            Self::Invalid { .. } | Self::Misplaced { .. } => Code::Store,
        }
    }

    /// The error as a person meets it.
    pub fn refusal(&self) -> Refusal {
        let next = match self {
            Self::Newer { .. } | Self::UnknownKind { .. } => "run the version that wrote it, or a later one",
            Self::Invalid { .. } | Self::Misplaced { .. } => {
                "bring back the newest copy of the coordinator's directory"
            }
        };
        Refusal::new(self.code(), self.to_string(), next)
    }
}

/// What is written for an edit.
pub fn encode(edit: &Edit) -> Change {
    let key = key(edit);
    match edit {
        Edit::Meta(meta) => put(key, meta),
        Edit::Host(host) => put(key, host),
        Edit::Member(member) => put(key, member),
        Edit::Environment(definition) => put(key, definition),
        Edit::Rollout(rollout) => put(key, rollout),
        Edit::Package(package) => put(key, package),
        Edit::VersionSet(set) => put(key, set),
        Edit::Settings(settings) => put(key, settings),
        Edit::Token(token) => put(key, token),
        Edit::Operator(operator) => put(key, operator),
        Edit::Audit(entry) => put(key, entry),
        Edit::ForgetHost(_) | Edit::ForgetMember(..) | Edit::ForgetPackage(..) | Edit::ForgetToken(_) => {
            Change::Delete { key }
        }
    }
}

/// The edit that makes the record. Refuses what this version did not write exactly so.
pub fn decode(key: &Key, value: &[u8]) -> Result<Edit, RecordError> {
    let kind = key.as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default();
    let edit = match kind {
        b"meta" => Edit::Meta(read(key, value)?),
        b"host" => Edit::Host(read(key, value)?),
        b"member" => Edit::Member(read(key, value)?),
        b"environment" => Edit::Environment(read(key, value)?),
        b"rollout" => Edit::Rollout(read(key, value)?),
        b"package" => Edit::Package(read(key, value)?),
        b"version-set" => Edit::VersionSet(read(key, value)?),
        b"settings" => Edit::Settings(read(key, value)?),
        b"token" => Edit::Token(read(key, value)?),
        b"operator" => Edit::Operator(read(key, value)?),
        b"audit" => Edit::Audit(read(key, value)?),
        _ => return Err(RecordError::UnknownKind { key: key.clone() }),
    };
    let about = self::key(&edit);
    if about == *key { Ok(edit) } else { Err(RecordError::Misplaced { key: key.clone(), about }) }
}

/// Under which key an edit's record is. No name has a slash, so no two things share a key.
pub fn key(edit: &Edit) -> Key {
    match edit {
        Edit::Meta(_) => Key::new(*b"meta"),
        Edit::Host(host) => host_key(&host.id),
        Edit::ForgetHost(host) => host_key(host),
        Edit::Member(member) => member_key(&member.environment, &member.host),
        Edit::ForgetMember(environment, host) => member_key(environment, host),
        Edit::Environment(definition) => text(format!("environment/{}", definition.name)),
        Edit::Rollout(rollout) => rollout_key(rollout.id),
        Edit::Package(package) => package_key(&package.package.name, &package.package.version),
        Edit::ForgetPackage(name, version) => package_key(name, version),
        Edit::VersionSet(set) => version_set_key(&set.set.digest()),
        Edit::Settings(settings) => settings_key(&settings.digest()),
        Edit::Token(token) => token_key(&token.id),
        Edit::ForgetToken(id) => token_key(id),
        Edit::Operator(operator) => operator_key(&operator.name),
        // Twenty digits hold any 64-bit number, so that the order of keys is the order of numbers.
        Edit::Audit(entry) => text(format!("audit/{:020}", entry.sequence)),
    }
}

fn text(key: String) -> Key {
    Key::new(key.into_bytes())
}

fn host_key(host: &HostId) -> Key {
    text(format!("host/{host}"))
}

fn member_key(environment: &EnvironmentName, host: &HostId) -> Key {
    text(format!("member/{environment}/{host}"))
}

fn rollout_key(id: RolloutId) -> Key {
    text(format!("rollout/{:020}", id.0))
}

fn package_key(name: &PackageName, version: &Version) -> Key {
    text(format!("package/{name}/{version}"))
}

fn version_set_key(digest: &VersionSetDigest) -> Key {
    text(format!("version-set/{digest}"))
}

fn settings_key(digest: &SettingsDigest) -> Key {
    text(format!("settings/{digest}"))
}

fn token_key(id: &str) -> Key {
    text(format!("token/{id}"))
}

fn operator_key(name: &OperatorName) -> Key {
    text(format!("operator/{name}"))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    v: u32,
    record: T,
}

/// The part of every envelope, of whatever version, that says which version it is.
#[derive(Deserialize)]
struct AnyVersion {
    v: u32,
}

fn put<T: Kept>(key: Key, value: &T) -> Change {
    let envelope = Envelope { v: VERSION, record: Borrowed(value) };
    #[expect(clippy::expect_used, reason = "plain data with text keys has a JSON form")]
    let value = serde_json::to_vec(&envelope).expect("a record is plain data");
    Change::Put { key, value }
}

fn read<T: Kept>(key: &Key, value: &[u8]) -> Result<T, RecordError> {
    let invalid =
        |error: serde_json::Error| RecordError::Invalid { key: key.clone(), cause: error.to_string() };
    let AnyVersion { v } = serde_json::from_slice(value).map_err(invalid)?;
    if v != VERSION {
        return Err(RecordError::Newer { key: key.clone(), found: v });
    }
    let envelope: Envelope<Owned<T>> = serde_json::from_slice(value).map_err(invalid)?;
    Ok(envelope.record.0)
}
