use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock::WallTime;

/// No certificate of ours is older than this program: 2026-11-01 00:00:00 UTC. To be raised with releases.
pub const BUILD_TIME: WallTime = WallTime(1_793_491_200_000);

/// The time at which certificates are judged: the wall clock, but never earlier than [`BUILD_TIME`]
/// and the newest time that was vouched for. A clock that was set back does not make an expired
/// certificate good. Clones share the floor.
#[derive(Debug, Clone)]
pub struct ClockFloor(Arc<AtomicU64>);

impl ClockFloor {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BUILD_TIME.0)))
    }

    /// Takes in a time that somebody trusted has stated, over an authenticated connection only.
    pub fn raise(&self, seen: WallTime) {
        self.0.fetch_max(seen.0, Ordering::Relaxed);
    }

    pub fn now(&self) -> WallTime {
        WallTime::from_system(SystemTime::now()).max(WallTime(self.0.load(Ordering::Relaxed)))
    }
}

impl Default for ClockFloor {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeProvider for ClockFloor {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.now().0)))
    }
}
