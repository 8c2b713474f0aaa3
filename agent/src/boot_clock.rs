//! The clock that decisions are handed: time since the boot, suspend included. No wall clock can move it.

use std::io;

use houston_common::error::{Code, Refusal};
use rustix::time::{ClockId, clock_gettime};

use crate::apply::boot_time::{BootId, BootTime};

#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    boot: BootId,
}

impl BootClock {
    pub fn new() -> Result<Self, Refusal> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Refusal::new(
                Code::Io,
                format!("the kernel does not say which boot this is: {error}"),
                "mount /proc",
            )
        };
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error: io::Error| unreadable(&error))?;
        let boot = text.parse().map_err(|error| unreadable(&error))?;
        Ok(Self { boot })
    }

    pub fn now(self) -> BootTime {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        BootTime { boot: self.boot, ms: seconds.saturating_mul(1000) + nanoseconds / 1_000_000 }
    }
}
