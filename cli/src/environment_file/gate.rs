//! `[[policy.gate]]`: a name, a place, and exactly one condition.

use std::collections::BTreeSet;

use houston_common::clock::WallTime;
use houston_common::error::{Code, Refusal};
use houston_common::id::{GateName, quoted};
use houston_common::policy::gate::{
    Before, Comparison, Condition, Days, FRESH, GATES_MAX, Gate, Metric, PASSES_MAX, QUERY_BYTES_MAX, Window,
    parse_time_of_day,
};

use super::KEYS;
use super::policy::{duration, word};
use crate::toml_file::{Section, Value};

/// The keys of conditions, and how one is read.
type Reader = fn(Value<'_>) -> Result<Condition, Refusal>;
const CONDITIONS: [(&str, Reader); 6] = [
    ("approval", approval),
    ("window", window),
    ("freeze", freeze),
    ("metric", metric),
    ("every_host", every_host),
    ("evidence", evidence),
];

pub(super) fn gates(value: Value<'_>) -> Result<Vec<Gate>, Refusal> {
    let items = value.items("a list of tables")?;
    if items.len() > GATES_MAX {
        let what = format!("{} gates; at most {GATES_MAX} are allowed", items.len());
        return Err(value.refuse_key(Code::ConfigValue, what, ""));
    }
    let mut names = BTreeSet::new();
    let mut gates = Vec::new();
    for item in items {
        let gate = gate(item.section("policy.gate")?.only(KEYS)?)?;
        if gate.name.as_str() == "bake" || !names.insert(gate.name.clone()) {
            let what = format!("a gate cannot be called \"{}\": another wait is", gate.name);
            return Err(item.refuse(Code::ConfigValue, what, "give each gate a name of its own"));
        }
        gates.push(gate);
    }
    Ok(gates)
}

fn gate(section: Section<'_>) -> Result<Gate, Refusal> {
    let name = section.required("name")?;
    let given: Vec<_> =
        CONDITIONS.iter().filter_map(|(key, read)| Some((section.get(key)?, *read))).collect();
    let [(condition, read)] = given[..] else {
        let keys = CONDITIONS.map(|(key, _)| key).join(", ");
        let what = format!("a gate has {} conditions", given.len());
        return Err(name.refuse_key(Code::ConfigValue, what, format!("write exactly one of {keys}")));
    };
    Ok(Gate {
        name: name.parsed::<GateName>(Code::Name)?,
        before: word(section.required("before")?, &Before::ALL.map(|before| (before.as_str(), before)))?,
        condition: read(condition)?,
        within: section.get("within").map(|value| duration(value, 1)).transpose()?,
    })
}

fn approval(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.approval")?.only(KEYS)?;
    let by_another = section.get("by_another").map(Value::flag).transpose()?;
    Ok(Condition::Approval { by_another: by_another.unwrap_or(false) })
}

fn window(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.window")?.only(KEYS)?;
    let time = |key| {
        let value = section.required(key)?;
        parse_time_of_day(value.text()?).ok_or_else(|| {
            let what = format!("{} is \"{}\"", value.name, quoted(value.text().unwrap_or_default()));
            value.refuse(Code::ConfigValue, what, "write hours and minutes as in 09:00, up to 24:00")
        })
    };
    let zone = section.required("time_zone")?;
    // The coordinator asks its own copy again: it is the one that will tell the time.
    if jiff::tz::TimeZone::get(zone.text()?).is_err() {
        let what = format!("no time zone \"{}\"", quoted(zone.text()?));
        return Err(zone.refuse(Code::ConfigValue, what, "write one as in Europe/Berlin, or UTC"));
    }
    Ok(Condition::Window(Window {
        time_zone: zone.text()?.to_owned(),
        days: match section.get("days") {
            Some(value) => days(value)?,
            None => Days::EVERY,
        },
        from: match time("from")? {
            1440 => 0,
            from => from,
        },
        until: match time("until")? {
            0 => 1440,
            until => until,
        },
    }))
}

fn days(value: Value<'_>) -> Result<Days, Refusal> {
    let mut bits = 0;
    for day in value.texts()? {
        let names: Vec<_> = Days::NAMES.into_iter().zip(0..).collect();
        bits |= 1 << word(day, &names)?;
    }
    Days::from_bits(bits)
        .ok_or_else(|| value.refuse(Code::ConfigValue, "days names no day", "leave it out for every day"))
}

fn freeze(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.freeze")?.only(KEYS)?;
    let moment = |key| {
        let value = section.required(key)?;
        moment(value.text()?).ok_or_else(|| {
            let what = format!("{} is \"{}\"", value.name, quoted(value.text().unwrap_or_default()));
            let next = "write 2026-12-20T18:00:00Z, or 2026-12-20T18:00[Europe/Berlin]";
            value.refuse(Code::ConfigValue, what, next)
        })
    };
    let (from, until) = (moment("from")?, moment("until")?);
    if from >= until {
        let what = "the freeze ends before it begins";
        return Err(value.refuse(Code::ConfigConflict, what, "write from before until"));
    }
    Ok(Condition::Freeze { from, until })
}

/// A moment with its offset, or by the clocks of a place.
fn moment(text: &str) -> Option<WallTime> {
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => text.parse::<jiff::Zoned>().ok()?.timestamp(),
    };
    u64::try_from(at.as_millisecond()).ok().map(WallTime)
}

fn metric(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.metric")?.only(KEYS)?;
    let query = section.required("query")?;
    let text = query.text()?;
    if text.trim().is_empty() || text.len() > QUERY_BYTES_MAX {
        let what = format!("the query has {} bytes; 1 to {QUERY_BYTES_MAX} are allowed", text.len());
        return Err(query.refuse(Code::ConfigValue, what, ""));
    }
    let given = Comparison::ALL.into_iter().filter_map(|is| Some((is, section.get(is.as_str())?)));
    let given: Vec<_> = given.collect();
    let [(is, limit)] = given[..] else {
        let keys = Comparison::ALL.map(Comparison::as_str).join(", ");
        let what = format!("a metric has {} limits", given.len());
        return Err(value.refuse_key(Code::ConfigValue, what, format!("write exactly one of {keys}")));
    };
    let number = limit.text_or_number()?.parse();
    Ok(Condition::Metric(Metric {
        query: text.to_owned(),
        is,
        value: number.map_err(|error| limit.refuse(Code::ConfigValue, error, ""))?,
        fresh: section.get("fresh").map(|value| duration(value, 1)).transpose()?.unwrap_or(FRESH),
    }))
}

fn every_host(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.every_host")?.only(KEYS)?;
    Ok(Condition::EveryHost {
        package: section.required("package")?.parsed(Code::Name)?,
        at_least: section.required("at_least")?.parsed(Code::Name)?,
    })
}

fn evidence(value: Value<'_>) -> Result<Condition, Refusal> {
    let section = value.section("policy.gate.evidence")?.only(KEYS)?;
    let passes = section.required("passes")?;
    match passes.text_or_number()?.parse() {
        Ok(count @ 1..=PASSES_MAX) => Ok(Condition::Evidence { passes: count }),
        _ => Err(passes.refuse(
            Code::ConfigValue,
            "passes is no such number",
            format!("1 to {PASSES_MAX} are allowed"),
        )),
    }
}
