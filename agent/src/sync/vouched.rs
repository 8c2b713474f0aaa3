//! The newest time that the coordinator has vouched for, kept over restarts: a clock that was set back while
//! the agent was down does not make an expired certificate good either.

use std::io;
use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::error::Refusal;
use houston_common::tls::ClockFloor;

use crate::host::dir::{Dir, refused};

/// In `identity/`: milliseconds since 1970. It belongs to the authority, and goes with it.
pub const FILE: &str = "clock";
const FILE_BYTES_MAX: u64 = 32;

/// Certificates live for days: an hour less is near enough, and a write an hour costs nothing.
const KEEP_EVERY: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Vouched {
    directory: Dir,
    floor: ClockFloor,
    kept: WallTime,
}

impl Vouched {
    /// Raises the floor to what was kept in `identity/`. A damaged file must not keep services down: then
    /// certificates are judged as by a host that has just enrolled, until its next check-in.
    pub fn open(directory: Dir, floor: ClockFloor) -> Result<Self, Refusal> {
        let bytes = directory.read(FILE, FILE_BYTES_MAX);
        let bytes = bytes.map_err(|e: io::Error| refused("reading the newest time vouched for", &e))?;
        let kept = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().parse().map(WallTime));
        let kept = match kept.transpose() {
            Ok(kept) => kept.unwrap_or(WallTime(0)),
            Err(error) => {
                tracing::error!("the newest time vouched for is damaged and left out: {error}");
                WallTime(0)
            }
        };
        floor.raise(kept);
        Ok(Self { directory, floor, kept })
    }

    /// Takes in a time that the coordinator has told over an authenticated connection.
    pub fn raise(&mut self, seen: WallTime) {
        self.floor.raise(seen);
        if seen < self.kept.plus(KEEP_EVERY) {
            return;
        }
        match self.directory.replace(FILE, format!("{}\n", seen.0).as_bytes()) {
            Ok(()) => self.kept = seen,
            Err(error) => tracing::warn!(%error, "the newest time vouched for is not kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use houston_common::clock::millis;

    use super::*;

    #[test]
    fn what_was_vouched_for_outlives_the_agent_and_is_written_once_an_hour() {
        let temp = tempfile::tempdir().expect("directory");
        let open = || {
            let floor = ClockFloor::new();
            let dir = Dir::open(temp.path()).expect("open");
            (Vouched::open(dir, floor.clone()).expect("vouched"), floor)
        };
        let ahead = WallTime(4_000_000_000_000);
        let hour = millis(KEEP_EVERY);
        let (mut vouched, floor) = open();
        assert!(floor.now() < ahead);
        for seen in [ahead, WallTime(ahead.0 + hour - 1), WallTime(ahead.0 - hour)] {
            vouched.raise(seen);
        }
        assert_eq!(floor.now(), WallTime(ahead.0 + hour - 1));
        assert_eq!(open().1.now(), ahead, "written once");
        vouched.raise(WallTime(ahead.0 + hour));
        assert_eq!(open().1.now(), WallTime(ahead.0 + hour));
        std::fs::write(temp.path().join(FILE), "soon").expect("damaged");
        assert!(open().1.now() < ahead);
    }
}
