//! What a state directory lies on.

use std::path::Path;

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use crate::error::{Code, Refusal};
use crate::id::quoted;

/// Magic numbers that the library has no name for, from linux/magic.h and the kernel's file systems.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const CIFS_MAGIC: FsType = FsType(0xff53_4d42);
const SMB2_MAGIC: FsType = FsType(0xfe53_4d42);

/// E-STATE if the directory, or the first one above it that exists, lies in memory or on another machine:
/// a reboot takes state away there, and renames and locks are not what they are on a disk.
pub fn require_lasting(directory: &Path) -> Result<(), Refusal> {
    let there = directory.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        statfs(path).ok()
    });
    // Who cannot be asked is found out by the first file that cannot be written.
    let Some(kind) = there.map(|there| there.filesystem_type()).and_then(fleeting) else { return Ok(()) };
    let shown = quoted(&directory.to_string_lossy());
    Err(Refusal::new(
        Code::State,
        format!(
            "the state directory {shown} is on {kind}, which does not keep what a machine must not forget"
        ),
        "use a directory on a disk, or write state_may_be_lost = true into the configuration",
    ))
}

fn fleeting(kind: FsType) -> Option<&'static str> {
    match kind {
        TMPFS_MAGIC => Some("a file system in memory (tmpfs)"),
        RAMFS_MAGIC => Some("a file system in memory (ramfs)"),
        NFS_SUPER_MAGIC => Some("a network file system (NFS)"),
        SMB_SUPER_MAGIC | CIFS_MAGIC | SMB2_MAGIC => Some("a network file system (SMB)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_place_for_state() {
        let refusal = require_lasting(Path::new("/dev/shm/houston/not/there/yet")).expect_err("tmpfs");
        assert_eq!(refusal.code, Code::State);
        assert!(refusal.what.contains("tmpfs"), "{refusal}");
        assert!(fleeting(NFS_SUPER_MAGIC).is_some() && fleeting(FsType(0xef53)).is_none());
    }
}
