//! The directory of a persistent store: who may use it, what was acknowledged, where damage goes.
//!
//! ```text
//! lock                  held for as long as a process uses the store; names that process
//! sled/                 the database's files, and `acknowledged`
//! quarantine-<n>/       a `sled` that could not be opened, untouched
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use houston_common::digest::Digest;
use houston_common::id::quoted;
use rustix::fs::{FlockOperation, flock};

use super::{Revision, StoreError};

const DATABASE: &str = "sled";

/// Longest description of a lock's holder that is read, in bytes.
const HOLDER_BYTES_MAX: u64 = 200;

/// A directory that this process alone uses until it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock ends with the descriptor, however the process ends. The file stays: who deleted it could
    /// let two processes lock two files of one name.
    _lock: File,
}

impl Directory {
    /// Takes a directory that exists.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        if !path.is_dir() {
            return Err(StoreError::Missing { directory: path.into() });
        }
        let name = path.join("lock");
        let io_error = |error: io::Error| StoreError::io("lock", &name, &error);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(io_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // What it says is a courtesy: that it is locked is known without.
                let _ = lock.take(HOLDER_BYTES_MAX).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process".into() } else { quoted(holder.trim()) };
                return Err(StoreError::Locked { directory: path.into(), holder });
            }
            Err(errno) => return Err(io_error(errno.into())),
        }
        lock.set_len(0).map_err(io_error)?;
        writeln!(lock, "process {} since {}", std::process::id(), jiff::Timestamp::now())
            .map_err(io_error)?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Makes the directory if need be, readable by its owner alone: a store holds keys and hashed tokens.
    pub(super) fn make(path: &Path) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| StoreError::io("make", path, &error))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) fn acknowledged(&self) -> PathBuf {
        self.database().join("acknowledged")
    }

    /// Makes the names of all files durable, up to that of this directory.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let database = self.database();
        let parent = self.path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
        let paths = [database.join("blobs"), database, self.path.clone()];
        for path in paths.iter().chain(&parent) {
            File::open(path)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| StoreError::io("sync", path, &error))?;
        }
        Ok(())
    }

    /// Puts sled's snapshots where it does not look for them. They hold nothing that the database file lacks.
    pub(super) fn set_snapshots_aside(&self) -> Result<(), StoreError> {
        let database = self.database();
        let io_error = |error: io::Error| StoreError::io("set a snapshot aside in", &database, &error);
        for entry in fs::read_dir(&database).map_err(io_error)? {
            let name = entry.map_err(io_error)?.file_name();
            if name.as_encoded_bytes().starts_with(b"snap.") {
                let mut aside = std::ffi::OsString::from("aside-");
                aside.push(&name);
                fs::rename(database.join(&name), database.join(aside)).map_err(io_error)?;
            }
        }
        self.sync()
    }

    /// Moves the database away, whole. Returns where it is.
    pub(super) fn quarantine(&self) -> Result<PathBuf, StoreError> {
        let quarantine = (1u64..)
            .map(|n| self.path.join(format!("quarantine-{n}")))
            .find(|path| !path.exists())
            .expect("a directory has fewer entries than numbers");
        fs::rename(self.database(), &quarantine)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(|error| StoreError::io("quarantine", &quarantine, &error))?;
        Ok(quarantine)
    }
}

/// The last revision that was acknowledged, in a file of its own: a witness against a database that comes
/// back sound but older. Bit rot near the end of sled's log does that: it looks like a torn write.
///
/// Written after each durable commit, but not synced: so it may lag behind after a power cut, never lead.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    path: PathBuf,
}

impl Acknowledged {
    const BYTES: usize = 16;

    /// The witness and what it says; nothing, if it is not there or unreadable.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Option<Revision>), StoreError> {
        let io_error = |error: io::Error| StoreError::io("open", &path, &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error)?;
        let mut bytes = [0; Self::BYTES];
        let revision = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Self::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(io_error(error)),
        };
        Ok((Self { file, path }, revision))
    }

    pub(super) fn write(&self, revision: Revision) -> Result<(), StoreError> {
        self.file
            .write_all_at(&Self::encode(revision), 0)
            .map_err(|error| StoreError::io("write", &self.path, &error))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(|error| StoreError::io("sync", &self.path, &error))
    }

    fn encode(revision: Revision) -> [u8; Self::BYTES] {
        let number = revision.0.to_be_bytes();
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&Digest::of(&number).as_bytes()[..8]);
        bytes
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Revision> {
        let revision = Revision(u64::from_be_bytes(*bytes.first_chunk()?));
        (Self::encode(revision) == *bytes).then_some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_says_what_was_written_or_nothing() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("acknowledged");
        let (witness, nothing) = Acknowledged::open(path.clone()).expect("open");
        assert_eq!(nothing, None);
        for revision in [Revision(0), Revision(u64::MAX), Revision(7)] {
            witness.write(revision).expect("write");
            assert_eq!(Acknowledged::open(path.clone()).expect("open").1, Some(revision));
        }
        witness.file.write_all_at(&[1], 0).expect("damage");
        assert_eq!(Acknowledged::open(path).expect("open").1, None);
    }

    #[test]
    fn the_second_one_is_refused_and_told_who_the_first_is() {
        let directory = tempfile::tempdir().expect("tempdir");
        let first = Directory::lock(directory.path()).expect("first");
        let refusal = Directory::lock(directory.path()).expect_err("second").refusal().to_string();
        assert!(refusal.starts_with("E-LOCKED: "), "{refusal}");
        assert!(refusal.contains(&format!("process {} since 20", std::process::id())), "{refusal}");
        drop(first);
        Directory::lock(directory.path()).expect("after the first");
    }

    #[test]
    fn each_quarantine_has_a_place_of_its_own() {
        let directory = tempfile::tempdir().expect("tempdir");
        let locked = Directory::lock(directory.path()).expect("lock");
        for n in 1..=2 {
            fs::create_dir(locked.database()).expect("database");
            assert_eq!(
                locked.quarantine().expect("quarantine"),
                directory.path().join(format!("quarantine-{n}"))
            );
        }
    }
}
