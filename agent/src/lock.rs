//! At most one agent acts on a state directory. The kernel holds the lock, for as long as the process
//! lives, so a crash leaves none behind and a reused process id cannot be mistaken for a holder.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use houston_common::clock::{Rough, WallTime, millis};
use houston_common::error::{Code, Refusal};
use rustix::fs::FlockOperation;

use crate::config::shown;

const FILE: &str = "lock";

/// The owner's alone.
const MODE: u32 = 0o600;

/// Who only looks holds it for microseconds; a third of a second is beyond any of that, and no wait for a
/// person who started a second agent.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// Two numbers.
const NOTE_BYTES_MAX: u64 = 64;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory that exists. E-LOCKED names the holder.
    pub fn take(directory: &Path) -> Result<Self, Refusal> {
        let unusable = |error: io::Error| {
            let what = format!("the state directory {} cannot be locked: {error}", shown(directory));
            Refusal::new(Code::State, what, "check that it exists and that the agent may write there")
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(directory.join(FILE))
            .map_err(unusable)?;
        // Whoever can open it can lock it, and keep the agent from starting.
        file.set_permissions(Permissions::from_mode(MODE)).map_err(unusable)?;
        match Self::try_for_a_moment(&file) {
            Ok(()) => {
                // For people only: who holds the lock is the kernel's to say.
                let now = WallTime::from_system(SystemTime::now());
                file.set_len(0)
                    .and_then(|()| writeln!(file, "{} {}", std::process::id(), now.0))
                    .map_err(unusable)?;
                Ok(Self { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Self::held(directory, &file)),
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Who only looks whether it is held holds it for a moment too.
    fn try_for_a_moment(file: &File) -> Result<(), rustix::io::Errno> {
        for _ in 0..LOOKS {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(BETWEEN_LOOKS),
                result => return result,
            }
        }
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether some agent holds the lock now.
    pub fn is_held(directory: &Path) -> bool {
        File::open(directory.join(FILE)).is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    fn held(directory: &Path, file: &File) -> Refusal {
        let mut note = String::new();
        let _ = file.take(NOTE_BYTES_MAX).read_to_string(&mut note);
        let mut numbers = note.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
        let holder = match (numbers.next(), numbers.next()) {
            // The note is of who took it last; it may be long gone.
            (Some(pid), Some(since)) if Path::new("/proc").join(pid.to_string()).exists() => {
                let now =
                    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
                format!("process {pid}, for {}", Rough(Duration::from_millis(now.saturating_sub(since))))
            }
            _ => "another process".to_owned(),
        };
        let what = format!("the state directory {} is in use by {holder}", shown(directory));
        Refusal::new(Code::Locked, what, "stop that agent first, or use another directory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let temp = tempfile::tempdir().expect("directory");
        let first = Lock::take(temp.path()).expect("lock");
        let refusal = Lock::take(temp.path()).expect_err("locked");
        assert_eq!(refusal.code, Code::Locked);
        assert!(refusal.what.contains(&format!("process {}, for ", std::process::id())), "{refusal}");
        assert!(Lock::is_held(temp.path()));
        let mode = std::fs::metadata(temp.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, MODE, "nobody else can hold it");
        drop(first);
        assert!(!Lock::is_held(temp.path()));
        Lock::take(temp.path()).expect("free again");
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused() {
        let temp = tempfile::tempdir().expect("directory");
        assert_eq!(Lock::take(&temp.path().join("none")).expect_err("none").code, Code::State);
    }
}
