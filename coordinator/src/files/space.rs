//! Room on the disk. The store of the fleet's state usually lies on the same disk and must never find
//! it full, so files leave a reserve.

use std::path::Path;

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;

use super::failed;

/// Smallest reserve: a day of the store's growth, and its snapshot.
const RESERVE_BYTES_MIN: u64 = 256 << 20;
/// Largest: on a disk of many terabytes, 5 % would be wasted.
const RESERVE_BYTES_MAX: u64 = 16 << 30;
/// Inodes left for everything else on the disk.
const RESERVE_INODES: u64 = 1000;

/// How much of the disk uploads leave free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// 5 % of the disk, at least 256 MiB and at most 16 GiB.
    Share,
    Bytes(u64),
}

impl Reserve {
    fn bytes(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Share => (disk_bytes / 20).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Refuses if `wanted` bytes more would eat into the reserve of the disk that holds `root`.
pub(super) fn require(root: &Path, reserve: &Reserve, wanted: u64) -> Result<(), Refusal> {
    let disk =
        rustix::fs::statvfs(root).map_err(|error| failed("ask for the space of", root, &error.into()))?;
    let has_inodes = disk.f_files == 0 || disk.f_favail >= RESERVE_INODES;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let reserve = reserve.bytes(disk.f_blocks.saturating_mul(disk.f_frsize));
    let at = quoted(&root.to_string_lossy());
    let next = "collect packages that nothing refers to, or enlarge the disk";
    if !has_inodes {
        let what =
            format!("{} inodes are free under \"{at}\", {RESERVE_INODES} are kept back", disk.f_favail);
        return Err(Refusal::new(Code::DiskInodes, what, next));
    }
    if !fits(free, reserve, wanted) {
        let what =
            format!("{wanted} bytes wanted under \"{at}\", {free} are free, {reserve} of them are kept back");
        return Err(Refusal::new(Code::DiskSpace, what, next));
    }
    Ok(())
}

fn fits(free: u64, reserve: u64, wanted: u64) -> bool {
    free.checked_sub(reserve).is_some_and(|usable| wanted <= usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_left() {
        for (free, reserve, wanted, expected) in [
            (100, 10, 89, true),
            (100, 10, 90, true),
            (100, 10, 91, false),
            (9, 10, 0, false),
            (10, 10, 0, true),
            (u64::MAX, 0, u64::MAX, true),
            (100, u64::MAX, 1, false),
        ] {
            assert_eq!(fits(free, reserve, wanted), expected, "{free} {reserve} {wanted}");
        }
    }

    #[test]
    fn the_share_is_bounded_on_both_sides() {
        assert_eq!(Reserve::Share.bytes(1 << 30), RESERVE_BYTES_MIN);
        assert_eq!(Reserve::Share.bytes(100 << 30), 5 << 30);
        assert_eq!(Reserve::Share.bytes(100 << 40), RESERVE_BYTES_MAX);
        assert_eq!(Reserve::Bytes(7).bytes(100 << 40), 7);
    }
}
