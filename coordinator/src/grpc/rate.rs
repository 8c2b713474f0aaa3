//! How often something may happen: so much at once, and so much for each second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of permissions that fills with time. Clockwork apart, it decides by numbers alone.
#[derive(Debug)]
pub struct Rate {
    burst: u32,
    every: Duration,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    /// Starts full, with `burst`; one more comes `every` so long.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, state: Mutex::new((f64::from(burst), Instant::now())) }
    }

    /// Takes one if there is one.
    pub fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (left, taken) = take(state.0, now.duration_since(state.1), self.burst, self.every);
        *state = (left, now);
        taken
    }
}

fn take(left: f64, since: Duration, burst: u32, every: Duration) -> (f64, bool) {
    let filled = (left + since.as_secs_f64() / every.as_secs_f64()).min(f64::from(burst));
    if filled >= 1.0 { (filled - 1.0, true) } else { (filled, false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_for_each_interval() {
        let every = Duration::from_millis(50);
        let mut left = 3.0;
        let mut took = |since| {
            let (next, taken) = take(left, since, 3, every);
            left = next;
            taken
        };
        for _ in 0..3 {
            assert!(took(Duration::ZERO));
        }
        assert!(!took(Duration::ZERO));
        assert!(!took(Duration::from_millis(30)));
        assert!(took(Duration::from_millis(30)), "what has filled in small parts counts");
        assert!(!took(Duration::from_millis(10)));
        for _ in 0..3 {
            assert!(took(Duration::from_secs(3600)), "never more than the burst");
        }
    }
}
