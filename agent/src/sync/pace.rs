//! **Decision.** How long to wait before the next check-in.
//!
//! In calm a host calls once a hold. After an outage, of whatever length, all hosts come back spread over
//! two holds, which is a hold on average: so the coordinator sees no more calls in a second than twice
//! those of calm. (A first wait of one hold would do worse: those who come back at once and those who
//! come back late then meet.) Only a host that has just started, and knows of no crowd that it could be
//! part of, begins with shorter waits.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::millis;

/// Until the coordinator has dictated another.
pub const HOLD_DEFAULT: Duration = Duration::from_secs(30);

/// A hold below this would make every wait nothing.
const HOLD_MIN: Duration = Duration::from_secs(1);

/// Between two check-ins that say that something has changed.
pub const GAP: Duration = Duration::from_secs(1);

const FIRST_WAIT: Duration = Duration::from_secs(1);

/// For a host that the coordinator will not have. Only a person can change its mind.
const REFUSED_HOLDS: u32 = 20;

/// What became of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered {
        /// What the coordinator asks for.
        retry_after: Duration,
        /// At once, though it was allowed to wait, and with nothing that the host did not know: what it
        /// is told it will take in later.
        is_repeated: bool,
    },
    /// Given up by the host, which has something new to say.
    Withdrawn,
    Failed {
        retry_after: Option<Duration>,
    },
    /// The identity is not accepted any more. A host that is held comes back as after an outage: its hold
    /// may be ended any time.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub wait: Duration,
    /// Whether news of this host end it. Never those of an outage: a host that fails is in a crowd.
    pub ends_with_news: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    hold: Duration,
    /// Since the start, before the first answer.
    failures: u32,
    was_answered: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { hold: HOLD_DEFAULT, failures: 0, was_answered: false }
    }
}

impl Pace {
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// How long the coordinator will hold check-ins from now on.
    pub fn set_hold(&mut self, hold: Duration) {
        self.hold = hold.max(HOLD_MIN);
    }

    /// The wait that follows. `random` is any number.
    pub fn after(&mut self, outcome: Outcome, random: u64) -> Pause {
        match outcome {
            Outcome::Answered { retry_after, is_repeated } => {
                self.was_answered = true;
                if !retry_after.is_zero() {
                    let wait = retry_after + up_to(retry_after.min(self.hold), random);
                    Pause { wait, ends_with_news: false }
                } else if is_repeated {
                    Pause { wait: self.hold / 2 + up_to(self.hold / 2, random), ends_with_news: true }
                } else {
                    Pause { wait: Duration::ZERO, ends_with_news: true }
                }
            }
            Outcome::Withdrawn => Pause { wait: Duration::ZERO, ends_with_news: true },
            Outcome::Failed { retry_after } => {
                let wait = retry_after.unwrap_or_default().saturating_add(up_to(self.ceiling(), random));
                self.failures = self.failures.saturating_add(1);
                Pause { wait, ends_with_news: false }
            }
            Outcome::Refused => {
                let half = self.hold.saturating_mul(REFUSED_HOLDS / 2);
                Pause { wait: half + up_to(half, random), ends_with_news: false }
            }
        }
    }

    fn ceiling(&self) -> Duration {
        let most = self.hold.saturating_mul(2);
        if self.was_answered { most } else { FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(most) }
    }
}

/// Anything up to `most`.
fn up_to(most: Duration, random: u64) -> Duration {
    Duration::from_millis(random % (millis(most) + 1))
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeMap, BinaryHeap};

    use super::*;

    /// A sequence that looks random and is the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 20
        }
    }

    const AGENTS: usize = 10_000;
    const OUTAGE_BEGINS: u64 = 100_000;

    /// The most calls in any second from the start of an outage of this length on, in milliseconds.
    fn most_calls_per_second(outage: u64) -> u64 {
        let hold = millis(HOLD_DEFAULT);
        let mut numbers = Numbers(outage);
        let mut paces = vec![Pace { was_answered: true, ..Pace::default() }; AGENTS];
        let outage = OUTAGE_BEGINS..OUTAGE_BEGINS + outage;
        // When each agent calls next; all are in calm, spread over a hold.
        let mut calls: BinaryHeap<_> =
            (0..AGENTS).map(|agent| Reverse((numbers.next() % hold, agent))).collect();
        let mut seconds: BTreeMap<u64, u64> = BTreeMap::new();
        while let Some(Reverse((now, agent))) = calls.pop() {
            if now > outage.end + 5 * hold {
                break;
            }
            if now >= outage.start {
                *seconds.entry(now / 1000).or_default() += 1;
            }
            let (ends, outcome) = if outage.contains(&now) {
                (now, Outcome::Failed { retry_after: None })
            } else if now < outage.start && now + hold > outage.start {
                // Its held call breaks with all the others.
                (outage.start, Outcome::Failed { retry_after: None })
            } else {
                (now + hold, Outcome::Answered { retry_after: Duration::ZERO, is_repeated: false })
            };
            let pause = paces[agent].after(outcome, numbers.next());
            calls.push(Reverse((ends + millis(pause.wait), agent)));
        }
        seconds.into_values().max().expect("calls")
    }

    #[test]
    fn an_outage_of_any_length_ends_without_a_herd() {
        let steady = AGENTS as u64 / HOLD_DEFAULT.as_secs();
        for outage in [1, 500, 5_000, 15_000, 29_000, 45_000, 60_000, 3_600_000] {
            let most = most_calls_per_second(outage);
            assert!(most <= 2 * steady, "{most} calls in a second after {outage} ms, {steady} in calm");
        }
    }

    #[test]
    fn what_the_coordinator_asks_for_is_kept_and_news_do_not_shorten_it() {
        for random in [0, 1, 99_999, u64::MAX] {
            let mut pace = Pace::default();
            let asked = Duration::from_secs(90);
            let answered = Outcome::Answered { retry_after: asked, is_repeated: false };
            for outcome in [answered, Outcome::Failed { retry_after: Some(asked) }] {
                let pause = pace.after(outcome, random);
                assert!(pause.wait >= asked && pause.wait <= 2 * asked, "{pause:?}");
                assert!(!pause.ends_with_news);
            }
        }
    }

    #[test]
    fn a_start_is_quick_and_its_waits_grow_to_two_holds() {
        let mut pace = Pace::default();
        let longest: Vec<u64> = (0..8)
            .map(|_| {
                let ceiling = pace.ceiling();
                let pause = pace.after(Outcome::Failed { retry_after: None }, u64::MAX);
                assert!(pause.wait <= ceiling);
                ceiling.as_secs()
            })
            .collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn who_is_refused_comes_back_seldom_and_who_has_nothing_to_learn_waits() {
        let mut pace = Pace::default();
        pace.set_hold(Duration::ZERO);
        assert_eq!(pace.hold(), HOLD_MIN);
        pace.set_hold(Duration::from_secs(30));
        let refused = pace.after(Outcome::Refused, 0);
        assert!(refused.wait >= Duration::from_secs(300) && !refused.ends_with_news);
        let repeated = Outcome::Answered { retry_after: Duration::ZERO, is_repeated: true };
        let pause = pace.after(repeated, 0);
        assert!(pause.wait >= Duration::from_secs(15) && pause.ends_with_news);
        let answered = Outcome::Answered { retry_after: Duration::ZERO, is_repeated: false };
        assert_eq!(pace.after(answered, u64::MAX).wait, Duration::ZERO);
    }
}
