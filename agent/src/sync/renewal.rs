//! **Decision.** When a certificate is renewed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::{WallTime, millis};
use houston_common::identity::PeerCertificate;

/// A tenth of the life, so that hosts that enrolled together do not renew together.
const JITTER_SHARE: u64 = 10;

/// A try that failed is repeated after this share of the life at most: ten tries before the end.
const RETRY_SHARE: u64 = 20;
const RETRY_MAX: Duration = Duration::from_secs(3600);
const RETRY_MIN: Duration = Duration::from_secs(1);

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub begins: WallTime,
    pub ends: WallTime,
}

impl From<&PeerCertificate> for Life {
    fn from(certificate: &PeerCertificate) -> Self {
        Self { begins: certificate.not_before, ends: certificate.not_after }
    }
}

impl Life {
    const fn ms(self) -> u64 {
        self.ends.0.saturating_sub(self.begins.0)
    }

    /// From half of it on, with jitter. `random` is any number.
    pub const fn renewal(self, random: u64) -> WallTime {
        let half = self.begins.0.saturating_add(self.ms() / 2);
        WallTime(half.saturating_add(random % (self.ms() / JITTER_SHARE + 1)))
    }

    /// How long after a failed try the next one comes. `random` is any number.
    pub fn retry(self, random: u64) -> Duration {
        let half = millis(Duration::from_millis(self.ms() / RETRY_SHARE).clamp(RETRY_MIN, RETRY_MAX)) / 2;
        Duration::from_millis(half + random % (half + 1))
    }

    /// Whether it can only be renewed by the way for expired ones.
    pub fn is_over(self, now: WallTime) -> bool {
        self.ends <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_between_half_and_three_fifths_of_its_life() {
        const DAY_MS: u64 = 24 * 3_600_000;
        for ms in [4_000, DAY_MS, 30 * DAY_MS] {
            let life = Life { begins: WallTime(1_000_000), ends: WallTime(1_000_000 + ms) };
            for random in [0, 1, 77_777_777_777, u64::MAX] {
                let due = life.renewal(random).0 - life.begins.0;
                assert!(due >= ms / 2 && due <= ms * 6 / 10 + 1, "{due} of {ms}");
                assert!(life.retry(random) <= RETRY_MAX && !life.retry(random).is_zero());
            }
            assert!(!life.is_over(WallTime(life.ends.0 - 1)));
            assert!(life.is_over(life.ends));
        }
    }
}
