//! How an environment is changed: pacing, floors, bakes, budgets. `docs/cli.md` has the file format.

mod fields;
pub mod gate;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use fields::Field;

use self::gate::Gate;
use crate::id::Zone;

/// A part of some hosts: a count, or a percentage in whole per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Hosts(u32),
    /// 0 to 100.
    Percent(u8),
}

impl Share {
    /// Rounded up: for floors.
    pub fn at_least_of(self, hosts: u32) -> u32 {
        match self {
            Self::Hosts(n) => n,
            Self::Percent(p) => (u64::from(hosts) * u64::from(p)).div_ceil(100) as u32,
        }
    }

    /// Rounded down, at least 1: for batches and budgets.
    pub fn at_most_of(self, hosts: u32) -> u32 {
        match self {
            Self::Hosts(n) => n.max(1),
            Self::Percent(p) => ((u64::from(hosts) * u64::from(p) / 100) as u32).max(1),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a share as a percentage from 0% to 100% or as a whole number of hosts, got \"{0}\"")]
pub struct InvalidShare(String);

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let invalid = || InvalidShare(crate::id::quoted(text));
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(invalid());
            }
            digits.parse::<u32>().map_err(|_| invalid())
        };
        match text.strip_suffix('%') {
            Some(digits) => match number(digits)? {
                percent @ 0..=100 => Ok(Self::Percent(percent as u8)),
                _ => Err(invalid()),
            },
            None => match number(text)? {
                hosts @ 0..=1_000_000 => Ok(Self::Hosts(hosts)),
                _ => Err(invalid()),
            },
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(n) => write!(f, "{n}"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// One box, then zone by zone in batches, with a bake after each.
    Zonal,
    /// One box, then stripe by stripe, with a bake after each: a stripe is one batch, an equal share of
    /// every zone. Apollo's way.
    Striped,
}

/// How batches grow, as those before them prove the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// A batch has so many per cent of the hosts of the one before, and at least one more: 101 to 1000.
    pub percent: u16,
    /// No batch is larger, but for the first where that is.
    pub most: Share,
    /// Whether a zone begins with the size that the zones before it have earned, not with the first.
    pub carries: bool,
}

/// Per cent that a batch may grow to.
pub const GROWTH_PERCENT_MAX: u16 = 1000;
/// More zones at once than this is a mistake in a generator.
pub const ZONES_AT_ONCE_MAX: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    Rollback,
    Halt,
}

/// Pinned by a rollout when it is created; an edit applies to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub pacing: Pacing,
    /// Zones in this order first; the others follow by name.
    pub zone_order: Vec<Zone>,
    /// Zones that change at a time under `zonal`, forward and back: 1 to [`ZONES_AT_ONCE_MAX`].
    pub zones_at_once: u32,
    /// Of each zone's hosts, granted together.
    pub batch: Share,
    /// Absent: every batch is as large as the first.
    pub growth: Option<Growth>,
    /// Of the environment's hosts in service, available at every moment.
    pub fleet_floor: Share,
    /// The same for each zone, if set.
    pub zone_floor: Option<Share>,
    pub bake: Bakes,
    pub health_window: Duration,
    pub apply_deadline: Duration,
    pub start_within: Duration,
    /// Failures allowed beyond the first batches: the larger of one host and this share of those updated.
    pub failure_budget: Share,
    /// The same for each zone, of those updated there, if set.
    pub zone_failure_budget: Option<Share>,
    /// Exceptions allowed, of the environment's hosts, at least one host.
    pub lost_budget: Share,
    pub on_failure: OnFailure,
    /// Of the environment's hosts, taken back together.
    pub rollback_batch: Share,
    /// How often a host that failed and went back by itself is granted again in the same rollout, at the
    /// end of its wave. Each failure counts. 0 to [`RETRIES_MAX`].
    pub retries: u32,
    /// At most [`gate::GATES_MAX`], each with a name of its own.
    pub gates: Vec<Gate>,
}

/// Most retries: what does not work five times more does not by a sixth, and each of them costs the
/// host's service an activation.
pub const RETRIES_MAX: u32 = 5;

/// How long each kind of wave must stand before the next starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bakes {
    pub one_box: Duration,
    pub first_zone: Duration,
    pub later_zones: Duration,
}

impl Policy {
    /// Hosts of a zone in one batch, after so many larger ones have been earned.
    pub fn batch_of(&self, hosts: u32, earned: u32) -> u32 {
        let first = self.batch.at_most_of(hosts);
        let Some(growth) = self.growth else { return first };
        let most = growth.most.at_most_of(hosts).max(first);
        let mut size = first;
        for _ in 0..earned {
            if size >= most {
                break;
            }
            let grown = u64::from(size) * u64::from(growth.percent) / 100;
            size = (grown.min(u64::from(most)) as u32).max(size + 1);
        }
        size
    }
}

impl Default for Policy {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            pacing: Pacing::Zonal,
            zone_order: Vec::new(),
            zones_at_once: 1,
            batch: Share::Percent(33),
            growth: None,
            fleet_floor: Share::Percent(66),
            zone_floor: None,
            bake: Bakes { one_box: HOUR, first_zone: 12 * HOUR, later_zones: 2 * HOUR },
            health_window: Duration::from_secs(30),
            apply_deadline: Duration::from_secs(600),
            start_within: Duration::from_secs(30),
            failure_budget: Share::Percent(1),
            zone_failure_budget: None,
            lost_budget: Share::Percent(5),
            on_failure: OnFailure::Rollback,
            rollback_batch: Share::Percent(33),
            retries: 0,
            gates: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_round_up_and_batches_round_down_to_at_least_one() {
        let third = Share::Percent(33);
        assert_eq!((third.at_least_of(3), third.at_most_of(3)), (1, 1));
        assert_eq!((Share::Percent(66).at_least_of(9), third.at_most_of(9)), (6, 2));
        assert_eq!(Share::Percent(0).at_least_of(100), 0);
        assert_eq!(Share::Percent(100).at_least_of(u32::MAX), u32::MAX);
    }

    #[test]
    fn batches_grow_from_one_to_the_next_and_no_further_than_they_may() {
        let growing = |batch, percent, most| Policy {
            batch,
            growth: Some(Growth { percent, most, carries: false }),
            ..Policy::default()
        };
        let sizes = |policy: &Policy, hosts| (0..6).map(|earned| policy.batch_of(hosts, earned)).collect();
        let doubling: Vec<u32> = sizes(&growing(Share::Hosts(1), 200, Share::Percent(33)), 30);
        assert_eq!(doubling, [1, 2, 4, 8, 9, 9]);
        // A small step is at least one host, and the first batch may be larger than any later one could be.
        let slowly: Vec<u32> = sizes(&growing(Share::Hosts(2), 110, Share::Percent(100)), 30);
        assert_eq!(slowly, [2, 3, 4, 5, 6, 7]);
        let first: Vec<u32> = sizes(&growing(Share::Percent(50), 200, Share::Hosts(2)), 30);
        assert_eq!(first, [15; 6]);
        assert_eq!(Policy::default().batch_of(30, 7), 9);
        assert_eq!(
            growing(Share::Hosts(1), 1000, Share::Percent(100)).batch_of(u32::MAX, u32::MAX),
            u32::MAX
        );
    }

    #[test]
    fn shares_refuse_what_is_out_of_range() {
        for bad in ["", "-1", "101%", "ten", "1e9", "0.5", "%", "1000001", "+5", "5 %"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        for good in ["0", "1", "33%", "0%", "100%"] {
            assert_eq!(good.parse::<Share>().expect(good).to_string(), good);
        }
    }
}
