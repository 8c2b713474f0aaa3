//! How an environment is changed: pacing, floors, bakes, budgets. `docs/cli.md` has the file format.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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
    /// One box, then one zone at a time in batches, with a bake after each.
    Zonal,
    // Apollo's `striped` (each batch takes an equal share of every zone) takes its place here.
}

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
    /// Of a zone's hosts, granted together.
    pub batch: Share,
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
    /// Exceptions allowed, of the environment's hosts, at least one host.
    pub lost_budget: Share,
    pub on_failure: OnFailure,
    /// Of the environment's hosts, taken back together.
    pub rollback_batch: Share,
    /// How often a host that failed and went back by itself is granted again in the same rollout, at the
    /// end of its wave. Each failure counts. 0 to [`RETRIES_MAX`].
    pub retries: u32,
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

impl Default for Policy {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            pacing: Pacing::Zonal,
            zone_order: Vec::new(),
            batch: Share::Percent(33),
            fleet_floor: Share::Percent(66),
            zone_floor: None,
            bake: Bakes { one_box: HOUR, first_zone: 12 * HOUR, later_zones: 2 * HOUR },
            health_window: Duration::from_secs(30),
            apply_deadline: Duration::from_secs(600),
            start_within: Duration::from_secs(30),
            failure_budget: Share::Percent(1),
            lost_budget: Share::Percent(5),
            on_failure: OnFailure::Rollback,
            rollback_batch: Share::Percent(33),
            retries: 0,
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
    fn shares_refuse_what_is_out_of_range() {
        for bad in ["", "-1", "101%", "ten", "1e9", "0.5", "%", "1000001", "+5", "5 %"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        for good in ["0", "1", "33%", "0%", "100%"] {
            assert_eq!(good.parse::<Share>().expect(good).to_string(), good);
        }
    }
}
