//! Gates: conditions that must hold before a wave begins, beside the bake of the one before it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::WallTime;
use crate::id::{GateName, PackageName, Version};

/// A named condition. While it is closed, nothing is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    pub name: GateName,
    pub before: Before,
    pub condition: Condition,
    /// How long it may stay closed, pauses left out, before the rollout halts and asks for a person. Absent:
    /// as long as it does.
    pub within: Option<Duration>,
}

/// Where in a rollout a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    OneBox,
    /// The first wave after the one box.
    FirstWave,
    /// Each wave after the one box.
    EachWave,
    /// The end: until it opens, the release is not the baked one.
    End,
}

impl Before {
    pub const ALL: [Self; 4] = [Self::OneBox, Self::FirstWave, Self::EachWave, Self::End];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneBox => "one_box",
            Self::FirstWave => "first_wave",
            Self::EachWave => "each_wave",
            Self::End => "end",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// An approver has said yes, to this wave.
    Approval {
        /// Somebody other than who started the rollout.
        by_another: bool,
    },
    /// It is one of these days, between two times of the day.
    Window(Window),
    /// It is not between two moments.
    Freeze { from: WallTime, until: WallTime },
    /// A query's one value compares well. Without a value, or with a stale one, the gate is closed.
    Metric(Metric),
    /// Every host of the environment, whether it can be reached or not, has settled on a version set with
    /// this package at this version or above.
    EveryHost { package: PackageName, at_least: Version },
    /// So many health checks of updated hosts have passed since those hosts were last unwell.
    Evidence { passes: u64 },
}

impl Condition {
    /// The word for it in the environment file and in JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Window(_) => "window",
            Self::Freeze { .. } => "freeze",
            Self::Metric(_) => "metric",
            Self::EveryHost { .. } => "every_host",
            Self::Evidence { .. } => "evidence",
        }
    }
}

/// Times of the week, by the clocks of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Of the IANA database, as in `Europe/Berlin`.
    pub time_zone: String,
    pub days: Days,
    /// Minutes after midnight, below 1440.
    pub from: u16,
    /// Minutes after midnight, 1 to 1440; if not after `from`, then of the next day.
    pub until: u16,
}

/// Longest name of a time zone, in bytes.
pub const TIME_ZONE_BYTES_MAX: usize = 64;

/// Days of the week; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    pub const NAMES: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    pub const EVERY: Self = Self(0b111_1111);

    /// From a bit for each day, Monday lowest. Absent for no day, or more than seven.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits == 0 || bits > Self::EVERY.0 { None } else { Some(Self(bits)) }
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// `day` counts from Monday, 0.
    pub const fn contains(self, day: u8) -> bool {
        day < 7 && self.0 & (1 << day) != 0
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = (0..7).filter(|day| self.contains(*day)).map(|day| Self::NAMES[usize::from(day)]);
        f.write_str(&named.collect::<Vec<_>>().join(" "))
    }
}

/// Hours and minutes, `09:00`. Minutes after midnight; `24:00` is the day's end.
pub fn parse_time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse::<u16>().ok())?
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
}

/// The opposite of [`parse_time_of_day`].
pub fn time_of_day(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// In the language of whatever answers; its result must be one number.
    pub query: String,
    pub is: Comparison,
    pub value: Number,
    /// An older answer counts as none.
    pub fresh: Duration,
}

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4096;
/// How old an answer may be where the policy does not say.
pub const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Comparison {
    pub const ALL: [Self; 4] = [Self::AtLeast, Self::AtMost, Self::Above, Self::Below];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => "at_least",
            Self::AtMost => "at_most",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    pub fn holds(self, value: Number, limit: Number) -> bool {
        match self {
            Self::AtLeast => value.0 >= limit.0,
            Self::AtMost => value.0 <= limit.0,
            Self::Above => value.0 > limit.0,
            Self::Below => value.0 < limit.0,
        }
    }
}

/// A finite number: what cannot be compared is no answer.
#[derive(Debug, Clone, Copy)]
pub struct Number(f64);

impl Number {
    pub fn new(value: f64) -> Option<Self> {
        // Zero has one sign here, so that equal numbers are the same bits.
        value.is_finite().then_some(Self(value + 0.0))
    }

    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a number, as in 0.99, got \"{0}\"")]
pub struct InvalidNumber(String);

impl FromStr for Number {
    type Err = InvalidNumber;

    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        let invalid = || InvalidNumber(crate::id::quoted(text));
        text.parse().ok().and_then(Self::new).ok_or_else(invalid)
    }
}

/// Gates of one policy.
pub const GATES_MAX: usize = 16;
/// Passing checks that one gate may ask for.
pub const PASSES_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_day_are_read_and_written_alike() {
        for (text, minutes) in [("00:00", 0), ("09:05", 545), ("23:59", 1439), ("24:00", 1440)] {
            assert_eq!((parse_time_of_day(text), time_of_day(minutes).as_str()), (Some(minutes), text));
        }
        for bad in ["", "9:00", "09:60", "24:01", "25:00", "-1:00", "09-00", "09:0a", "+9:00"] {
            assert_eq!(parse_time_of_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_never_none() {
        assert_eq!(Days::from_bits(0), None);
        assert_eq!(Days::from_bits(128), None);
        assert_eq!(Days::from_bits(0b101_0001).expect("days").to_string(), "mon fri sun");
    }

    #[test]
    fn numbers_are_finite_and_zero_is_one() {
        assert_eq!(Number::new(-0.0), Number::new(0.0));
        for bad in ["NaN", "inf", "1e999", "", "1,5", "0x1"] {
            assert!(bad.parse::<Number>().is_err(), "{bad}");
        }
        let number = |text: &str| text.parse::<Number>().expect(text);
        assert_eq!(number("0.990").to_string(), "0.99");
        let holds = Comparison::ALL.map(|is| is.holds(number("1"), number("1")));
        assert_eq!(holds, [true, true, false, false]);
    }
}
