//! An environment as people write it: one TOML file that says all of it. `docs/cli.md`
//! describes the format.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::{Exact, parse_duration};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, SettingKey, Zone};
use houston_common::policy::{Bakes, OnFailure, Pacing, Policy, RETRIES_MAX, Share};
use houston_common::release::{SETTING_BYTES_MAX, SETTINGS_BYTES_MAX, SETTINGS_MAX, Settings};

use crate::toml_file::{Keys, Section, Source, Value};

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
/// More zones than this in one order is a mistake in a generator.
const ZONE_ORDER_MAX: usize = 64;

const KEYS: &Keys = &[
    ("", &["name", "selector", "settings", "policy"]),
    (
        "policy",
        &[
            "pacing",
            "zone_order",
            "batch",
            "fleet_floor",
            "zone_floor",
            "bake",
            "health_window",
            "apply_deadline",
            "start_within",
            "failure_budget",
            "lost_budget",
            "on_failure",
            "rollback_batch",
            "retries",
        ],
    ),
    ("policy.bake", &["one_box", "first_zone", "later_zones"]),
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
            Some(value) => policy(value.section("policy")?.only(KEYS)?)?,
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

fn policy(section: Section<'_>) -> Result<Policy, Refusal> {
    let default = Policy::default();
    let floor = |key| section.get(key).map(|value| share(value, 0)).transpose();
    let count = |key| section.get(key).map(|value| share(value, 1)).transpose();
    let time = |key| section.get(key).map(|value| duration(value, 1)).transpose();
    let policy = Policy {
        pacing: match section.get("pacing") {
            Some(value) => word(value, &[("zonal", Pacing::Zonal)])?,
            None => default.pacing,
        },
        zone_order: match section.get("zone_order") {
            Some(value) => zone_order(value)?,
            None => default.zone_order,
        },
        batch: count("batch")?.unwrap_or(default.batch),
        fleet_floor: floor("fleet_floor")?.unwrap_or(default.fleet_floor),
        zone_floor: floor("zone_floor")?,
        bake: match section.get("bake") {
            Some(value) => bakes(value.section("policy.bake")?.only(KEYS)?, default.bake)?,
            None => default.bake,
        },
        health_window: time("health_window")?.unwrap_or(default.health_window),
        apply_deadline: time("apply_deadline")?.unwrap_or(default.apply_deadline),
        start_within: time("start_within")?.unwrap_or(default.start_within),
        failure_budget: count("failure_budget")?.unwrap_or(default.failure_budget),
        lost_budget: count("lost_budget")?.unwrap_or(default.lost_budget),
        on_failure: match section.get("on_failure") {
            Some(value) => word(value, &[("rollback", OnFailure::Rollback), ("halt", OnFailure::Halt)])?,
            None => default.on_failure,
        },
        rollback_batch: count("rollback_batch")?.unwrap_or(default.rollback_batch),
        retries: section.get("retries").map(retries).transpose()?.unwrap_or(default.retries),
    };
    refuse_contradictions(section, &policy)?;
    Ok(policy)
}

/// Values that are each allowed and cannot hold together. Only what one key alone cannot show.
fn refuse_contradictions(section: Section<'_>, policy: &Policy) -> Result<(), Refusal> {
    if policy.health_window < policy.apply_deadline {
        return Ok(());
    }
    let what = format!(
        "health_window ({}) is not shorter than apply_deadline ({}): no host could settle in time",
        Exact(policy.health_window),
        Exact(policy.apply_deadline)
    );
    // One of the two is in the file: the defaults do not contradict each other.
    let value = section.get("health_window").or_else(|| section.get("apply_deadline"));
    Err(match value {
        Some(value) => {
            value.refuse(Code::ConfigConflict, what, "shorten health_window or lengthen apply_deadline")
        }
        None => Refusal::internal(what),
    })
}

fn bakes(section: Section<'_>, default: Bakes) -> Result<Bakes, Refusal> {
    let time = |key| section.get(key).map(|value| duration(value, 0)).transpose();
    Ok(Bakes {
        one_box: time("one_box")?.unwrap_or(default.one_box),
        first_zone: time("first_zone")?.unwrap_or(default.first_zone),
        later_zones: time("later_zones")?.unwrap_or(default.later_zones),
    })
}

/// A share of hosts. Batches and budgets of nobody would count as one host, so they are refused.
fn share(value: Value<'_>, least: u32) -> Result<Share, Refusal> {
    let text = value.text_or_number()?;
    let share: Share = text
        .parse()
        .map_err(|error| value.refuse(Code::Budget, format!("{}: {error}", value.name), "write 33% or 2"))?;
    if least > 0 && matches!(share, Share::Hosts(0) | Share::Percent(0)) {
        let what = format!("{} is {share}; 1 to 1000000 hosts or 1% to 100% are allowed", value.name);
        return Err(value.refuse(Code::Budget, what, "write at least 1"));
    }
    Ok(share)
}

fn retries(value: Value<'_>) -> Result<u32, Refusal> {
    let text = value.text_or_number()?;
    text.parse().ok().filter(|retries| *retries <= RETRIES_MAX).ok_or_else(|| {
        let what = format!("retries is {}; 0 to {RETRIES_MAX} are allowed", houston_common::id::quoted(text));
        value.refuse(Code::ConfigValue, what, "write 0 for none")
    })
}

fn duration(value: Value<'_>, least_ms: u128) -> Result<Duration, Refusal> {
    let text = value.text_or_number()?;
    let duration = parse_duration(text).map_err(|error| {
        value.refuse(Code::Duration, format!("{}: {error}", value.name), "write 5s, 5m or 5h")
    })?;
    if duration.as_millis() < least_ms {
        return Err(value.refuse(Code::Duration, format!("{} is 0", value.name), "write 5s, 5m or 5h"));
    }
    Ok(duration)
}

fn word<T: Copy>(value: Value<'_>, words: &[(&str, T)]) -> Result<T, Refusal> {
    let text = value.text()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("{} is \"{}\"", value.name, houston_common::id::quoted(text));
        value.refuse(Code::ConfigValue, what, format!("allowed: {}", words.join(", ")))
    })
}

fn zone_order(value: Value<'_>) -> Result<Vec<Zone>, Refusal> {
    let items = value.texts()?;
    if items.len() > ZONE_ORDER_MAX {
        return Err(value.refuse(
            Code::ConfigValue,
            format!("zone_order has more than {ZONE_ORDER_MAX} zones"),
            "",
        ));
    }
    let mut seen = BTreeSet::new();
    let mut zones = Vec::new();
    for item in items {
        let zone: Zone = item.parsed(Code::Name)?;
        if !seen.insert(zone.clone()) {
            let what = format!("zone_order names the zone \"{zone}\" twice");
            return Err(item.refuse(Code::ZoneTwice, what, "name it once"));
        }
        zones.push(zone);
    }
    Ok(zones)
}
