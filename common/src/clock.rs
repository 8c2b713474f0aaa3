//! The fleet clock's instants (DESIGN: decisions are handed `now`). Deliberately no `now()` here.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds of fleet time since the store was made. It stands still while no coordinator runs
/// and never goes back, so that a restart or a clock jump can lengthen a wait but never shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FleetTime(pub u64);

impl FleetTime {
    pub const fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long since `earlier`; zero if that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since 1970 by somebody's wall clock. For display, certificates and time windows only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    pub const fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long since `earlier`; zero if that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn from_system(time: std::time::SystemTime) -> Self {
        Self(time.duration_since(std::time::UNIX_EPOCH).map_or(0, millis))
    }
}

/// Whole milliseconds, saturating.
pub const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a duration as 500ms, 30s, 10m, 12h or 2d, got \"{0}\"")]
pub struct InvalidDuration(String);

/// Longest duration that people may write: a bake of a year is a typing mistake.
pub const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `500ms`, `30s`, `10m`, `12h`, `2d`: a whole number with one unit, at most a year. `0s` is allowed.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(crate::id::quoted(text));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    let duration = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(invalid)?);
    if duration > DURATION_MAX { Err(invalid()) } else { Ok(duration) }
}

/// A duration as `parse_duration` reads it back, in the largest unit that is exact.
#[derive(Debug, Clone, Copy)]
pub struct Exact(pub Duration);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = millis(self.0);
        for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if ms > 0 && ms.is_multiple_of(unit_ms) {
                return write!(f, "{}{unit}", ms / unit_ms);
            }
        }
        if ms == 0 { f.write_str("0s") } else { write!(f, "{ms}ms") }
    }
}

/// A duration for people: its two largest units, as in `1h 5m`, `42s`, `0s`. Begun seconds count, so that
/// what is not over never reads as nothing.
#[derive(Debug, Clone, Copy)]
pub struct Rough(pub Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = millis(self.0).div_ceil(1000);
        let (d, h, m, s) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
        match (d, h, m) {
            (0, 0, 0) => write!(f, "{s}s"),
            (0, 0, _) if s == 0 => write!(f, "{m}m"),
            (0, 0, _) => write!(f, "{m}m {s}s"),
            (0, _, 0) => write!(f, "{h}h"),
            (0, _, _) => write!(f, "{h}h {m}m"),
            (_, 0, _) => write!(f, "{d}d"),
            _ => write!(f, "{d}d {h}h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_with_one_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("2d", 172_800_000)] {
            let duration = parse_duration(text).expect(text);
            assert_eq!(millis(duration), ms);
            assert_eq!(parse_duration(&Exact(duration).to_string()), Ok(duration));
        }
        for bad in ["", "5", "5 minutes", "-1s", "1y", "1.5h", "s", "99999999999999999999s", "367d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rough_durations_read_like_speech() {
        for (s, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3_900, "1h 5m"), (90_000, "1d 1h")]
        {
            assert_eq!(Rough(Duration::from_secs(s)).to_string(), text);
        }
    }
}
