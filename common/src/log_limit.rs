//! Lines of one kind in the log, which strangers can cause: some in each interval, and the rest counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Enough to see who calls and what is wrong, too few to fill a disk: some MB a day.
const LINES_MAX: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(10);

/// Made to be a static beside the line that it limits.
#[derive(Debug)]
pub struct LogLimit(Mutex<Interval>);

#[derive(Debug)]
struct Interval {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    #[expect(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self(Mutex::new(Interval { since: None, lines: 0, left_out: 0 }))
    }

    /// How many lines were left out since the last one. Absent if this one is to be left out too.
    pub fn admit(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

impl Interval {
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= INTERVAL) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_in_each_interval_and_the_rest_counted() {
        let mut interval = Interval { since: None, lines: 0, left_out: 0 };
        let start = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(interval.admit(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(interval.admit(start + INTERVAL / 2), None);
        }
        assert_eq!(interval.admit(start + INTERVAL), Some(1000));
        assert_eq!(interval.admit(start + INTERVAL), Some(0), "they are told once");
    }
}
