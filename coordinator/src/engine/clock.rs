//! The fleet clock: the last durable checkpoint, and the time since in which this process could listen.
//!
//! A process that was stopped, starved or held up by its disk has heard nobody in that time. To count it
//! would take every host for lost and every grant for overdue, so such a span counts as a short one: it
//! lengthens waits, as a restart does, and never shortens one.

use std::time::{Duration, Instant};

use houston_common::clock::FleetTime;

/// How much longer than meant a span may take and still be counted whole.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct FleetClock {
    checkpoint: FleetTime,
    /// Since the checkpoint, as far as it counts.
    elapsed: Duration,
    read: Instant,
}

impl FleetClock {
    pub fn new(checkpoint: FleetTime, now: Instant) -> Self {
        Self { checkpoint, elapsed: Duration::ZERO, read: now }
    }

    /// As of the last reading.
    pub fn now(&self) -> FleetTime {
        self.checkpoint.plus(self.elapsed)
    }

    /// Reads it anew, after a span that was meant to take no longer than `meant`.
    pub fn read(&mut self, now: Instant, meant: Duration) -> FleetTime {
        let span = now.saturating_duration_since(self.read);
        self.elapsed += if span > meant + SLACK { SLACK } else { span };
        self.read = now;
        self.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nobody_could_be_heard_hardly_counts() {
        let s = Duration::from_secs;
        let start = Instant::now();
        let mut clock = FleetClock::new(FleetTime(1_000), start);
        assert_eq!(clock.read(start + s(10), s(10)), FleetTime(11_000), "a wait that was meant");
        assert_eq!(clock.read(start + s(11), Duration::ZERO), FleetTime(12_000), "some work");
        assert_eq!(clock.read(start + s(611), s(10)), FleetTime(13_000), "it was stopped for ten minutes");
        assert_eq!(clock.read(start + s(615), Duration::ZERO), FleetTime(14_000), "its disk was held up");
        assert_eq!(clock.read(start, s(10)), FleetTime(14_000), "no clock goes back");
    }

    #[test]
    fn spans_below_a_millisecond_add_up() {
        let start = Instant::now();
        let mut clock = FleetClock::new(FleetTime(0), start);
        for step in 1..=10_000 {
            clock.read(start + Duration::from_micros(100) * step, Duration::ZERO);
        }
        assert_eq!(clock.now(), FleetTime(1_000));
    }
}
