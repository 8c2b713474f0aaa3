//! From views to text for people and to JSON for programs. Pure: what is shown depends on
//! nothing but the view.

use std::collections::BTreeMap;
use std::fmt::Display;

use houston_common::clock::WallTime;
use houston_common::identity::Utc;
use houston_common::report::{Failure, HealthReport};

use crate::console::{Paint, plain};

pub mod fleet;
pub mod json;
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
    plain(&format!("{} while {}{package}: {}", failure.code, failure.phase.as_str(), failure.message))
        .replace('\n', " ")
}

/// The last lines of a failure's log, indented; empty if there is none.
pub fn log_tail(failure: &Failure, lines_max: usize, paint: Paint) -> String {
    let log = plain(failure.log_tail.trim_end());
    let lines: Vec<_> = log.lines().collect();
    let skipped = lines.len().saturating_sub(lines_max);
    let mut text = String::new();
    if skipped > 0 {
        text.push_str(&format!("    {}\n", paint.dim(&format!("({skipped} lines before)"))));
    }
    for line in &lines[skipped..] {
        text.push_str(&format!("    {} {line}\n", paint.dim("│")));
    }
    text
}
