//! **Decision.** How long something took on many hosts, in a record that does not grow: an exponential
//! histogram, as in Prometheus' native ones with schema 0, and the extremes, which make up for its coarse
//! buckets where all hosts are alike.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::millis;

/// From a quarter of a second to two hours, which no apply deadline of sense exceeds; what is shorter or
/// longer is in the first or the last.
pub const BUCKETS: usize = 16;
const FIRST_MS: u64 = 250;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// Bucket 0 ends at 250 ms, each further one at twice the end of the one before.
    pub counts: [u32; BUCKETS],
    /// Of all; zero if there are none.
    pub least: Duration,
    pub most: Duration,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let one =
            Self { counts: std::array::from_fn(|i| u32::from(i == bucket(time))), least: time, most: time };
        self.merge(&one);
    }

    pub fn merge(&mut self, other: &Self) {
        match (self.count(), other.count()) {
            (_, 0) => return,
            (0, _) => self.least = other.least,
            _ => self.least = self.least.min(other.least),
        }
        self.most = self.most.max(other.most);
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    pub fn count(&self) -> u32 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What this many of a thousand took at most; within a bucket as if its times were spread evenly. Absent
    /// if there are none.
    pub fn quantile(&self, per_mille: u32) -> Option<Duration> {
        let rank = (u64::from(self.count()) * u64::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut before = 0;
        for (i, count) in self.counts.iter().enumerate() {
            let count = u64::from(*count);
            if before + count < rank {
                before += count;
                continue;
            }
            let (least, most) = (millis(self.least), millis(self.most));
            let low = if i == 0 { 0 } else { end_ms(i - 1) }.clamp(least, most);
            let high = if i + 1 == BUCKETS { most } else { end_ms(i) }.clamp(least, most);
            return Some(Duration::from_millis(low + (high - low) * (rank - before) / count));
        }
        None
    }
}

fn bucket(time: Duration) -> usize {
    (0..BUCKETS - 1).find(|i| millis(time) < end_ms(*i)).unwrap_or(BUCKETS - 1)
}

fn end_ms(bucket: usize) -> u64 {
    FIRST_MS << bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        ms.into_iter().for_each(|ms| times.add(Duration::from_millis(ms)));
        times
    }

    fn at(times: &Times, per_mille: u32) -> u64 {
        millis(times.quantile(per_mille).expect("there are some"))
    }

    #[test]
    fn hosts_that_are_alike_are_told_exactly() {
        let times = of([33_000; 20]);
        assert_eq!((at(&times, 0), at(&times, 500), at(&times, 1000)), (33_000, 33_000, 33_000));
        assert_eq!(times.count(), 20);
        assert_eq!(Times::default().quantile(500), None);
    }

    #[test]
    fn a_quantile_is_right_within_its_bucket() {
        let all: Vec<u64> = (1..=1000).map(|n| n * 100).collect();
        let times = of(all.iter().copied());
        for per_mille in [1, 100, 500, 900, 990, 1000] {
            let (told, exact) = (at(&times, per_mille), all[per_mille as usize - 1]);
            assert!(told < exact * 2 && exact < told * 2, "{per_mille}: {told} for {exact}");
        }
        assert_eq!(at(&times, 1000), 100_000, "no more than the most");
        let quantiles: Vec<u64> = (0..=1000).map(|per_mille| at(&times, per_mille)).collect();
        assert!(quantiles.is_sorted());
    }

    #[test]
    fn what_is_too_short_or_too_long_is_counted_too() {
        let times = of([0, 1, 86_400_000]);
        assert_eq!((times.counts[0], times.counts[BUCKETS - 1]), (2, 1));
        assert_eq!((at(&times, 0), at(&times, 1000)), (125, 86_400_000));
    }

    #[test]
    fn summaries_add_up() {
        let mut one = of([1_000, 2_000]);
        one.merge(&of([40]));
        one.merge(&Times::default());
        assert_eq!(one, of([40, 2_000, 1_000]));
        let mut none = Times::default();
        none.merge(&one);
        assert_eq!(none, one);
    }
}
