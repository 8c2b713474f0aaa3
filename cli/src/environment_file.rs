//! An environment as people write it: one TOML file that says all of it. `docs/cli.md`
//! describes the format.

use std::collections::BTreeMap;

use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, SettingKey};
use houston_common::policy::Policy;
use houston_common::release::{SETTING_BYTES_MAX, SETTINGS_BYTES_MAX, SETTINGS_MAX, Settings};

use crate::toml_file::{Keys, Section, Source, Value};

mod gate;
mod policy;
pub mod profile;
#[cfg(test)]
mod tests;

/// What a file says an environment is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    pub name: EnvironmentName,
    /// Every pair must be among a host's labels. Empty: every host.
    pub selector: BTreeMap<LabelKey, LabelValue>,
    pub settings: Settings,
    /// What the file leaves out is as by default.
    pub policy: Policy,
}

/// As many labels as a host may have.
const SELECTOR_MAX: usize = 64;
pub(crate) const KEYS: &Keys = &[
    ("", &["name", "selector", "settings", "policy"]),
    (
        "policy",
        &[
            "profile",
            "pacing",
            "zone_order",
            "zones_at_once",
            "batch",
            "growth",
            "fleet_floor",
            "zone_floor",
            "bake",
            "health_window",
            "apply_deadline",
            "start_within",
            "failure_budget",
            "zone_failure_budget",
            "lost_budget",
            "on_failure",
            "rollback_batch",
            "gate",
            "retries",
        ],
    ),
    ("policy.bake", &["one_box", "first_zone", "later_zones"]),
    ("policy.growth", &["factor", "most", "carries"]),
    (
        "policy.gate",
        &["name", "before", "within", "approval", "window", "freeze", "metric", "every_host", "evidence"],
    ),
    ("policy.gate.approval", &["by_another"]),
    ("policy.gate.window", &["time_zone", "days", "from", "until"]),
    ("policy.gate.freeze", &["from", "until"]),
    ("policy.gate.metric", &["query", "at_least", "at_most", "above", "below", "fresh"]),
    ("policy.gate.every_host", &["package", "at_least"]),
    ("policy.gate.evidence", &["passes"]),
];

/// Reads a file's text; `name` is what complaints call the file.
pub fn parse(name: &str, text: &str) -> Result<EnvironmentFile, Refusal> {
    let source = Source { name, text };
    let document = source.parse()?;
    let root = Section::root(source, &document).only(KEYS)?;
    Ok(EnvironmentFile {
        name: root.required("name")?.parsed(Code::Name)?,
        // Required, so that nobody takes every host by leaving something out.
        selector: selector(root.required("selector")?.section("selector")?)?,
        settings: match root.get("settings") {
            Some(value) => settings(value, value.section("settings")?)?,
            None => Settings::default(),
        },
        policy: match root.get("policy") {
            Some(value) => policy::read(value.section("policy")?.only(KEYS)?)?,
            None => Policy::default(),
        },
    })
}

fn selector(section: Section<'_>) -> Result<BTreeMap<LabelKey, LabelValue>, Refusal> {
    let mut labels = BTreeMap::new();
    for entry in section.entries() {
        if labels.len() == SELECTOR_MAX {
            return Err(entry.refuse_key(Code::ConfigValue, format!("more than {SELECTOR_MAX} labels"), ""));
        }
        labels.insert(entry.parsed_key()?, entry.parsed(Code::Name)?);
    }
    Ok(labels)
}

fn settings(whole: Value<'_>, section: Section<'_>) -> Result<Settings, Refusal> {
    let mut settings: BTreeMap<SettingKey, String> = BTreeMap::new();
    let mut bytes = 0;
    for entry in section.entries() {
        let (key, value): (SettingKey, _) = (entry.parsed_key()?, entry.text()?);
        if value.len() > SETTING_BYTES_MAX {
            let what = format!("{key} has {} bytes; at most {SETTING_BYTES_MAX} are allowed", value.len());
            return Err(entry.refuse(Code::ConfigValue, what, "put files into a package"));
        }
        if value.contains('\0') {
            return Err(entry.refuse(Code::ConfigValue, format!("{key} has a NUL"), ""));
        }
        bytes += key.as_str().len() + value.len();
        settings.insert(key, value.to_owned());
    }
    if settings.len() > SETTINGS_MAX || bytes > SETTINGS_BYTES_MAX {
        let what = format!(
            "[settings] has {} keys and {bytes} bytes; at most {SETTINGS_MAX} and {SETTINGS_BYTES_MAX} are allowed",
            settings.len()
        );
        return Err(whole.refuse_key(Code::ConfigValue, what, "put files into a package"));
    }
    Ok(Settings(settings))
}
