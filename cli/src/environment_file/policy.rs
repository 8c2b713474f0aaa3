//! `[policy]`: what it leaves out is as in the profile that it names, or by default.

use std::collections::BTreeSet;
use std::time::Duration;

use houston_common::clock::{Exact, parse_duration};
use houston_common::error::{Code, Refusal};
use houston_common::id::Zone;
use houston_common::policy::{
    Bakes, GROWTH_PERCENT_MAX, Growth, OnFailure, Pacing, Policy, RETRIES_MAX, Share, ZONES_AT_ONCE_MAX,
};

use super::gate::gates;
use super::{KEYS, profile};
use crate::toml_file::{Section, Value};

/// More zones than this in one order is a mistake in a generator.
const ZONE_ORDER_MAX: usize = 64;

pub(super) fn read(section: Section<'_>) -> Result<Policy, Refusal> {
    let base = match section.get("profile") {
        Some(value) => profile::named(value.text()?)
            .map_err(|refusal| value.refuse(Code::ConfigValue, refusal.what, refusal.next))?
            .over(Policy::default())?,
        None => Policy::default(),
    };
    read_over(section, base)
}

/// The policy that `base` is with what the section says.
pub(super) fn read_over(section: Section<'_>, base: Policy) -> Result<Policy, Refusal> {
    let floor = |key| section.get(key).map(|value| share(value, 0)).transpose();
    let count = |key| section.get(key).map(|value| share(value, 1)).transpose();
    let time = |key| section.get(key).map(|value| duration(value, 1)).transpose();
    let policy = Policy {
        pacing: match section.get("pacing") {
            Some(value) => {
                word(value, &[Pacing::Zonal, Pacing::Striped].map(|pacing| (pacing.as_str(), pacing)))?
            }
            None => base.pacing,
        },
        zone_order: match section.get("zone_order") {
            Some(value) => zone_order(value)?,
            None => base.zone_order,
        },
        zones_at_once: match section.get("zones_at_once") {
            Some(value) => whole(value, 1, ZONES_AT_ONCE_MAX)?,
            None => base.zones_at_once,
        },
        batch: count("batch")?.unwrap_or(base.batch),
        growth: match section.get("growth") {
            Some(value) => Some(growth(value.section("policy.growth")?.only(KEYS)?)?),
            None => base.growth,
        },
        fleet_floor: floor("fleet_floor")?.unwrap_or(base.fleet_floor),
        zone_floor: floor("zone_floor")?.or(base.zone_floor),
        bake: match section.get("bake") {
            Some(value) => bakes(value.section("policy.bake")?.only(KEYS)?, base.bake)?,
            None => base.bake,
        },
        health_window: time("health_window")?.unwrap_or(base.health_window),
        apply_deadline: time("apply_deadline")?.unwrap_or(base.apply_deadline),
        start_within: time("start_within")?.unwrap_or(base.start_within),
        failure_budget: count("failure_budget")?.unwrap_or(base.failure_budget),
        zone_failure_budget: count("zone_failure_budget")?.or(base.zone_failure_budget),
        lost_budget: count("lost_budget")?.unwrap_or(base.lost_budget),
        on_failure: match section.get("on_failure") {
            Some(value) => {
                word(value, &[OnFailure::Rollback, OnFailure::Halt].map(|choice| (choice.as_str(), choice)))?
            }
            None => base.on_failure,
        },
        rollback_batch: count("rollback_batch")?.unwrap_or(base.rollback_batch),
        retries: section.get("retries").map(retries).transpose()?.unwrap_or(base.retries),
        gates: match section.get("gate") {
            Some(value) => gates(value)?,
            None => base.gates,
        },
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

fn growth(section: Section<'_>) -> Result<Growth, Refusal> {
    let factor = section.required("factor")?;
    let text = factor.text_or_number()?;
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    let Some(percent @ 101..=GROWTH_PERCENT_MAX) = percent else {
        let what = format!("{} is \"{}\"", factor.name, houston_common::id::quoted(text));
        let next = format!("write 150% for half as many again; 101% to {GROWTH_PERCENT_MAX}% are allowed");
        return Err(factor.refuse(Code::ConfigValue, what, next));
    };
    Ok(Growth {
        percent,
        most: share(section.required("most")?, 1)?,
        carries: match section.get("carries") {
            Some(value) => value.flag()?,
            None => false,
        },
    })
}

fn whole(value: Value<'_>, least: u32, most: u32) -> Result<u32, Refusal> {
    let text = value.text_or_number()?;
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let what = format!("{} is \"{}\"", value.name, houston_common::id::quoted(text));
            Err(value.refuse(Code::ConfigValue, what, format!("{least} to {most} are allowed")))
        }
    }
}

fn retries(value: Value<'_>) -> Result<u32, Refusal> {
    let text = value.text_or_number()?;
    text.parse().ok().filter(|retries| *retries <= RETRIES_MAX).ok_or_else(|| {
        let what = format!("retries is {}; 0 to {RETRIES_MAX} are allowed", houston_common::id::quoted(text));
        value.refuse(Code::ConfigValue, what, "write 0 for none")
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

pub(super) fn duration(value: Value<'_>, least_ms: u128) -> Result<Duration, Refusal> {
    let text = value.text_or_number()?;
    let duration = parse_duration(text).map_err(|error| {
        value.refuse(Code::Duration, format!("{}: {error}", value.name), "write 5s, 5m or 5h")
    })?;
    if duration.as_millis() < least_ms {
        return Err(value.refuse(Code::Duration, format!("{} is 0", value.name), "write 5s, 5m or 5h"));
    }
    Ok(duration)
}

pub(super) fn word<T: Copy>(value: Value<'_>, words: &[(&str, T)]) -> Result<T, Refusal> {
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
