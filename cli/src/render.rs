//! From views to text for people and to JSON for programs. Pure: what is shown depends on
//! nothing but the view.

use std::collections::BTreeMap;
use std::fmt::Display;

use houston_common::clock::WallTime;
use houston_common::identity::Utc;
use houston_common::report::{Failure, HealthReport, Phase};

use crate::console::{Paint, plain};

pub mod fleet;
pub mod json;
pub mod plan;
pub mod release;
pub mod rollout;
mod table;

pub use table::{Table, cut, width};

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;

/// Bytes for people, in the largest unit that leaves a whole digit: `17 B`, `3.4 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let mut tenths = u128::from(count) * 10;
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, Some(next));
    }
    match unit {
        None => format!("{count} B"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

pub fn time(time: WallTime) -> String {
    Utc(time).to_string()
}

/// `KEY=VALUE` pairs, or a dash.
pub fn labels<K: Display, V: Display>(labels: &BTreeMap<K, V>) -> String {
    joined(labels.iter().map(|(key, value)| format!("{key}={value}")), " ")
}

/// What is there, or a dash.
pub fn joined(items: impl IntoIterator<Item = String>, between: &str) -> String {
    let items: Vec<_> = items.into_iter().collect();
    if items.is_empty() { "-".to_owned() } else { items.join(between) }
}

pub fn health(health: &HealthReport, paint: Paint) -> String {
    match health {
        HealthReport::Unknown => paint.warn("unknown"),
        HealthReport::Healthy { .. } => paint.good("healthy"),
        HealthReport::Unhealthy { reason } => paint.bad(&format!("unhealthy: {}", plain(reason))),
    }
}

/// A failure in one line, without its log.
pub fn failure(failure: &Failure) -> String {
    let package = failure.package.as_ref().map_or_else(String::new, |package| format!(" of {package}"));
    // That it failed is said already.
    let phase = match failure.phase {
        Phase::Failed => String::new(),
        phase => format!(" while {}", phase.as_str()),
    };
    plain(&format!("{}{phase}{package}: {}", failure.code, failure.message)).replace('\n', " ")
}

/// The last lines of a failure's log, indented, equal ones next to each other as one; empty if there is none.
pub fn log_tail(failure: &Failure, lines_max: usize, paint: Paint) -> String {
    let log = plain(failure.log_tail.trim_end());
    let mut lines: Vec<(&str, usize)> = Vec::new();
    for line in log.lines() {
        match lines.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => lines.push((line, 1)),
        }
    }
    let shown = lines.split_off(lines.len().saturating_sub(lines_max));
    let skipped: usize = lines.iter().map(|(_, times)| times).sum();
    let mut text = String::new();
    if skipped > 0 {
        text.push_str(&format!("    {}\n", paint.dim(&format!("({skipped} lines before)"))));
    }
    for (line, times) in shown {
        let times =
            if times > 1 { format!(" {}", paint.dim(&format!("({times} times)"))) } else { String::new() };
        text.push_str(&format!("    {} {line}{times}\n", paint.dim("│")));
    }
    text
}
