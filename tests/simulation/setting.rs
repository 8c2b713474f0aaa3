//! What a run is to be, beside its seed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::planted::Planted;

#[derive(Debug, Clone, Default)]
pub(super) struct Setting {
    pub(super) size: Size,
    pub(super) planted: Option<Planted>,
    pub(super) telling: Telling,
    /// Sets every host's wall clock wrong, each by another amount.
    pub(super) walls_differ: bool,
    pub(super) left_out: LeftOut,
    /// The run ends then, in simulated milliseconds, whatever has come of it.
    pub(super) ends_at: Option<u64>,
}

/// What is told of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Telling {
    #[default]
    Nothing,
    /// One number, which differs if anything does.
    Trace,
    /// Printed.
    Print,
    /// Kept, line by line.
    Keep,
}

/// How many hosts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Size {
    #[default]
    Small,
    Medium,
    Large,
}

impl Size {
    pub(super) const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }

    /// Fewest and most.
    pub(super) const fn hosts(self) -> (u64, u64) {
        match self {
            Self::Small => (6, 12),
            Self::Medium => (60, 100),
            Self::Large => (2_000, 2_000),
        }
    }

    /// Least and most milliseconds that faults go on for. A large fleet takes as long to roll as a small
    /// one, and each of its minutes costs as much as hours of a small one's.
    pub(super) const fn safety_ms(self) -> (u64, u64) {
        match self {
            Self::Small | Self::Medium => (600_000, 1_400_000),
            Self::Large => (600_000, 1_000_000),
        }
    }

    /// Whether hosts may go one by one: of a large fleet they go in shares.
    pub(super) const fn is_small(self) -> bool {
        matches!(self, Self::Small)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|size| size.name() == text);
        found.ok_or_else(|| format!("\"{text}\" is no size; there are small, medium and large"))
    }
}

/// What a shrunk run does without. As text: `hosts=4,until=600000,0-12,14`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LeftOut {
    /// So many hosts are there at the beginning, and no more.
    pub(super) hosts: Option<u64>,
    /// The faults end then, in simulated milliseconds, if they do not earlier.
    pub(super) until: Option<u64>,
    /// Faults and orders of operators, by their place among all that the seed has.
    pub(super) injections: BTreeSet<usize>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.hosts.map(|hosts| format!("hosts={hosts}")));
        parts.extend(self.until.map(|until| format!("until={until}")));
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for index in &self.injections {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => runs.push((*index, *index)),
            }
        }
        parts.extend(
            runs.iter().map(
                |(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}-{last}") }
                },
            ),
        );
        f.write_str(&parts.join(","))
    }
}

impl FromStr for LeftOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("\"{text}\": {error}"));
        let mut left_out = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("hosts", hosts)) => left_out.hosts = Some(number(hosts)?),
                Some(("until", until)) => left_out.until = Some(number(until)?),
                Some((other, _)) => return Err(format!("\"{other}\" is neither hosts nor until")),
                None => {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    left_out.injections.extend(number(first)? as usize..=number(last)? as usize);
                }
            }
        }
        Ok(left_out)
    }
}

#[test]
fn what_is_left_out_is_read_as_it_is_written() {
    let text = "hosts=4,until=600000,0-2,7,9-10";
    let left_out: LeftOut = text.parse().expect("its own form");
    assert_eq!(left_out.injections, BTreeSet::from([0, 1, 2, 7, 9, 10]));
    assert_eq!(left_out.to_string(), text);
    assert_eq!("".parse(), Ok(LeftOut::default()));
    for wrong in ["host=4", "hosts=x", "3-", "-"] {
        assert!(wrong.parse::<LeftOut>().is_err(), "{wrong}");
    }
}
