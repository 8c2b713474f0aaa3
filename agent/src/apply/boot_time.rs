//! Time on one host: the boot clock, which counts suspend and knows no wall, with the boot that it
//! belongs to. Deliberately no `now()` here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use houston_common::clock::millis;

/// One boot of the kernel, from `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub u128);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is 32 hexadecimal digits, with or without hyphens")]
pub struct InvalidBootId;

impl FromStr for BootId {
    type Err = InvalidBootId;

    fn from_str(text: &str) -> Result<Self, InvalidBootId> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidBootId);
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| InvalidBootId)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Milliseconds since a boot. Times of different boots cannot be compared, so that a reboot makes a
/// wait longer, never shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootTime {
    pub boot: BootId,
    pub ms: u64,
}

impl BootTime {
    pub const fn plus(self, wait: Duration) -> Self {
        Self { boot: self.boot, ms: self.ms.saturating_add(millis(wait)) }
    }

    /// How long since `earlier`, zero if that lies ahead. Absent if that was in another boot.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        (self.boot == earlier.boot).then(|| Duration::from_millis(self.ms.saturating_sub(earlier.ms)))
    }

    /// Whether `deadline` is now or past. Never of a deadline of another boot.
    pub fn has_reached(self, deadline: Self) -> bool {
        self.boot == deadline.boot && self.ms >= deadline.ms
    }

    /// The later of the two; `self` if they are of different boots.
    pub fn latest(self, other: Self) -> Self {
        if other.has_reached(self) { other } else { self }
    }

    /// The earlier of two deadlines, where there are any.
    pub fn earliest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) if a.has_reached(b) => Some(b),
            (Some(a), _) => Some(a),
            (None, b) => b,
        }
    }
}

/// A time that something may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    pub started: BootTime,
    pub limit: Duration,
}

impl Timer {
    pub const fn new(started: BootTime, limit: Duration) -> Self {
        Self { started, limit }
    }

    pub const fn deadline(self) -> BootTime {
        self.started.plus(self.limit)
    }

    pub fn has_passed(self, now: BootTime) -> bool {
        now.has_reached(self.deadline())
    }

    /// What is left; the whole limit if the timer is of another boot.
    pub fn left(self, now: BootTime) -> Duration {
        now.since(self.started).map_or(self.limit, |spent| self.limit.saturating_sub(spent))
    }

    /// After a reboot the whole time starts anew; else the timer runs on.
    #[must_use]
    pub fn reloaded(self, now: BootTime) -> Self {
        if self.started.boot == now.boot { self } else { Self::new(now, self.limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u128, ms: u64) -> BootTime {
        BootTime { boot: BootId(boot), ms }
    }

    #[test]
    fn another_boot_reaches_no_deadline_and_starts_the_time_anew() {
        let timer = Timer::new(at(1, 1_000), Duration::from_secs(10));
        assert!(!timer.has_passed(at(1, 10_999)));
        assert!(timer.has_passed(at(1, 11_000)));
        assert!(!timer.has_passed(at(2, u64::MAX)));
        assert_eq!(at(2, 5).since(at(1, 1)), None);
        assert_eq!(timer.reloaded(at(2, 7)).deadline(), at(2, 10_007));
        assert_eq!(timer.reloaded(at(1, 7_000)), timer);
        assert_eq!(timer.left(at(1, 4_000)), Duration::from_secs(7));
        assert_eq!(timer.left(at(2, 4_000)), Duration::from_secs(10));
    }

    #[test]
    fn boot_ids_are_read_as_the_kernel_writes_them() {
        let id: BootId = "1b4e28ba-2fa1-11d2-883f-0016d3cca427\n".parse().expect("boot id");
        assert_eq!(id.to_string(), "1b4e28ba2fa111d2883f0016d3cca427");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1b4e", "g".repeat(32).as_str(), &"+".repeat(32)] {
            assert_eq!(bad.parse::<BootId>(), Err(InvalidBootId));
        }
    }
}
