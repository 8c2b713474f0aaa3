//! **Decision.** The penalty box: a host that fails again and again in an environment takes no change
//! there for a time, and then is tried again.
//!
//! One environment's failures do not box a host in another: what fails is a release on a host, and the
//! other environment has its own release there. A host that is broken altogether fails in each.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::FleetTime;

use super::member::Member;

/// Failures in a row after which a host is boxed. One may be chance and two an unlucky day.
const FAILURES_MIN: u32 = 3;
/// The first time in the box: long enough that a person has been able to look.
const FIRST: Duration = Duration::from_secs(3600);
/// The longest: what a person mends today is tried tomorrow.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long so many failures in a row keep a host in the box. Doubling from failure to failure, with a
/// cap, is how load balancers eject hosts from their pools (the outlier detection of Envoy).
fn time(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(FAILURES_MIN)?;
    // 2^5 is above the cap.
    Some(FIRST.saturating_mul(1 << doublings.min(5)).min(LONGEST))
}

impl Member {
    /// It failed, and that says something about the host.
    pub fn fail_again(&mut self, now: FleetTime) {
        self.failures = self.failures.saturating_add(1);
        self.boxed_until = time(self.failures).map(|time| now.plus(time));
    }

    /// Its last failure was the release's, as turned out later.
    pub fn forgive_last(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        self.boxed_until = None;
    }

    /// It has proved itself, or a person has looked.
    pub fn forgive_all(&mut self) {
        self.failures = 0;
        self.boxed_until = None;
    }

    pub fn is_boxed(&self) -> bool {
        self.boxed_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_the_box_doubles_up_to_a_day() {
        let hours = |failures| time(failures).map(|time| time.as_secs() / 3600);
        assert_eq!(
            [0, 2, 3, 4, 5, 6, 7, 8, 9].map(hours),
            [None, None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(24), Some(24)]
        );
        assert_eq!(hours(u32::MAX), Some(24));
    }
}
