//! **Decision.** Whether and when a prepare that failed is tried again.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::error::Code;

/// Tries of a prepare that was refused for what it is, not for what is busy: a damaged transfer or a
/// mirror's old copy heals in the second or third, anything else never.
pub const REFUSALS_MAX: u32 = 3;

const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// A minute keeps a fleet of 100,000 hosts, all waiting, below 2,000 calls a second, and a host that waits
/// for disk space not far behind its coming back.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The failed tries of one prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    pub failed: u32,
    /// Those of them that time alone does not heal.
    pub refused: u32,
}

impl Tries {
    /// One more failure: tried again, or (absent) given up.
    pub fn after(self, code: Code) -> Option<Self> {
        let failed = self.failed.saturating_add(1);
        if heals_with_time(code) {
            return Some(Self { failed, ..self });
        }
        let refused = self.refused.saturating_add(1);
        (!is_final(code) && refused < REFUSALS_MAX).then_some(Self { failed, refused })
    }

    /// How long to wait now: anything up to a ceiling that doubles, by `random`, but no less than asked.
    pub fn delay(self, random: u64, asked: Option<Duration>) -> Duration {
        let doublings = self.failed.saturating_sub(1).min(16);
        let ceiling = BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let jittered = Duration::from_millis(random % (houston_common::clock::millis(ceiling) + 1));
        // What is asked is a time from which on; all who were asked must not come at once.
        asked.map_or(jittered, |asked| asked.saturating_add(jittered))
    }
}

/// Whether the same try may succeed later for reasons that lie elsewhere.
fn heals_with_time(code: Code) -> bool {
    matches!(
        code,
        Code::Busy
            | Code::Unreachable
            | Code::Tls
            | Code::Unauthenticated
            | Code::CertificateExpired
            | Code::DiskSpace
            | Code::DiskInodes
    )
}

/// Whether the same try can only fail again: the package and the host do not fit.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::PlatformMissing
            | Code::PackageSyntax
            | Code::PackageKey
            | Code::PackageValue
            | Code::HookMissing
            | Code::HookUser
            | Code::SettingMissing
            | Code::SecretMissing
            | Code::ServiceOwned
            | Code::TreeSyntax
            | Code::TreePath
            | Code::TreeLink
            | Code::TreeType
            | Code::TreeMode
            | Code::TreeDuplicate
            | Code::TreeLimit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_is_tried_for_ever_and_what_is_wrong_three_times() {
        let mut busy = Tries::default();
        for _ in 0..1_000 {
            busy = busy.after(Code::Busy).expect("tried again");
        }
        let mut bad = Tries::default();
        for _ in 1..REFUSALS_MAX {
            bad = bad.after(Code::FileDigest).expect("tried again");
        }
        assert_eq!(bad.after(Code::FileDigest), None);
        assert_eq!(bad.after(Code::DiskSpace).map(|tries| tries.refused), Some(bad.refused));
        assert_eq!(Tries::default().after(Code::PlatformMissing), None);
    }

    #[test]
    fn delays_are_spread_capped_and_no_less_than_asked() {
        let tries = |failed| Tries { failed, refused: 0 };
        for random in [0, 1, 12_345, u64::MAX] {
            assert!(tries(1).delay(random, None) <= BACKOFF_BASE);
            assert!(tries(u32::MAX).delay(random, None) <= BACKOFF_MAX);
            let asked = Duration::from_secs(90);
            assert!(tries(3).delay(random, Some(asked)) >= asked);
        }
        assert_ne!(tries(9).delay(1, None), tries(9).delay(2, None));
    }
}
