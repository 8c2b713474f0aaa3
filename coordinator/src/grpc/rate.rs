//! How often something may happen: so much at once, and so much for each second.

use std::collections::HashMap;
use std::hash::Hash;
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

/// One bucket for each of many, and one for all of them together, so that who takes too much takes it
/// from itself first.
#[derive(Debug)]
pub struct Rates<K> {
    each: (u32, Duration),
    keys_max: usize,
    own: Mutex<HashMap<K, (f64, Instant)>>,
    all: Rate,
}

impl<K: Eq + Hash> Rates<K> {
    /// `each` and `all` are a burst, and how often one more comes. At most `keys_max` that have called
    /// lately are told apart; those beyond it have only what all have.
    pub fn new(each: (u32, Duration), all: (u32, Duration), keys_max: usize) -> Self {
        Self { each, keys_max, own: Mutex::default(), all: Rate::new(all.0, all.1) }
    }

    /// Takes one of `key`'s if there is one, and one of all.
    pub fn take(&self, key: K) -> bool {
        self.take_own(key, Instant::now()) && self.all.take()
    }

    fn take_own(&self, key: K, now: Instant) -> bool {
        let (burst, every) = self.each;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.len() >= self.keys_max && !own.contains_key(&key) {
            // A bucket that is full again is as good as none.
            let filled = every * burst;
            own.retain(|_, (_, since)| now.duration_since(*since) < filled);
            if own.len() >= self.keys_max {
                return true;
            }
        }
        let state = own.entry(key).or_insert((f64::from(burst), now));
        let (left, taken) = take(state.0, now.duration_since(state.1), burst, every);
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

    #[test]
    fn who_takes_too_much_takes_it_from_itself() {
        let second = Duration::from_secs(1);
        let rates = Rates::new((2, second), (100, second), 3);
        let now = Instant::now();
        let took = |key, now| rates.take_own(key, now);
        assert!(took("flood", now) && took("flood", now) && !took("flood", now));
        assert!(took("other", now), "another has its own");
        assert!(took("third", now));
        // No more than three are told apart, but nobody is turned away for it.
        assert!((0..5).all(|_| took("fourth", now)) && !took("flood", now));
        // Whose bucket has filled again makes room.
        assert!(took("fifth", now + 2 * second) && rates.own.lock().expect("a map").len() == 1);
        assert!(took("fifth", now + 2 * second) && !took("fifth", now + 2 * second));
    }
}
