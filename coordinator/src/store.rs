//! Where the fleet's state outlives the process: a whole snapshot out at start, groups of changes in,
//! fenced by an epoch. Keys and values are bytes here; what they mean is decided above.
//!
//! Substituted in tests and, later, by stores that several coordinators share. Every implementation
//! passes the same conformance suite (tests/store_conformance.rs).
//!
//! - What a store holds: records by key, one epoch, one revision.
//! - What it does not hold: when a host was last seen, contents of files, anything that a restart may forget.
//! - Absence of a key means that it was never put, or was deleted; the two look alike.

mod directory;
pub mod export;
mod seal;
pub mod sled;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, quoted};

/// Most changes in one commit: sled's memory grows with its batches, and etcd takes 128 operations in a
/// transaction, of which its store needs some for the epoch and the revision.
pub const COMMIT_CHANGES_MAX: usize = 100;

/// Most bytes of keys and values in one commit: etcd refuses requests above 1.5 MiB.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;

/// Longest value in bytes. The largest records are an environment's policy and a rollout's members of one
/// part; what grows with the fleet is cut into many records above. sled's segment size depends on it.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Longest key in bytes: several names of 64 bytes with a table's tag.
pub const KEY_BYTES_MAX: usize = 512;

/// What a record is known by. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

impl Key {
    /// At most [`KEY_BYTES_MAX`] bytes, or the commit is refused.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.0.escape_ascii().to_string()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Counts the commits of a store, over restarts and restores: each one that writes has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates or replaces.
    Put { key: Key, value: Vec<u8> },
    /// Of a key that is not there: no change, no error.
    Delete { key: Key },
}

impl Change {
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    /// What is kept under the key afterwards, if anything.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }

    /// What it counts towards [`COMMIT_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        self.key().as_bytes().len() + self.value().map_or(0, <[u8]>::len)
    }
}

/// Everything that a store holds, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub epoch: Epoch,
    pub revision: Revision,
    /// By key, ascending, each key once.
    pub records: Vec<(Key, Vec<u8>)>,
}

/// All calls block on the disk or the network.
pub trait Store: Send + Sync + 'static {
    /// Everything committed so far. A record that is not exactly as it was written is an error, never skipped.
    fn load(&self) -> Result<Snapshot, StoreError>;

    /// Applies all changes, durably, or none. Of several for one key the last one counts.
    ///
    /// `epoch` is the one that [`Store::take_over`] gave; under any other nothing is written. A commit of no
    /// changes asks only whether the epoch still holds, and returns the revision that is there.
    ///
    /// After an error other than `Fenced` and `TooLarge` the caller must not go on with what it believes to
    /// be stored: it ends, and a new process loads.
    fn commit(&self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError>;

    /// Raises the stored epoch, durably, above itself and above `above`, and so fences everyone who held an
    /// earlier one. Called once by each coordinator that starts to lead, and by `adopt` with the highest
    /// epoch that hosts have proved. Opening alone raises nothing, so that a backup deposes nobody.
    ///
    /// After an error the epoch may have been raised; the next call raises it further.
    fn take_over(&self, above: Epoch) -> Result<Epoch, StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody has taken over. Nothing was written.
    #[error("fenced: the store is at epoch {stored}")]
    Fenced { stored: Epoch },
    /// The caller's mistake. Nothing was written.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The changes may be in the store or not, now or later.
    #[error("the result of the commit is unknown")]
    Unknown(#[source] StoreError),
    /// Nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which limit a commit is above.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error("a commit of {count} changes (at most {COMMIT_CHANGES_MAX})")]
    Changes { count: usize },
    #[error("a commit of {bytes} bytes (at most {COMMIT_BYTES_MAX})")]
    Commit { bytes: usize },
    #[error("the key {key} of {} bytes (at most {KEY_BYTES_MAX})", .key.as_bytes().len())]
    Key { key: Key },
    #[error("a value of {bytes} bytes under {key} (at most {VALUE_BYTES_MAX})")]
    Value { key: Key, bytes: usize },
}

/// What every store refuses, so that what one store takes, all take.
pub fn check_limits(changes: &[Change]) -> Result<(), TooLarge> {
    if changes.len() > COMMIT_CHANGES_MAX {
        return Err(TooLarge::Changes { count: changes.len() });
    }
    for change in changes {
        check_record(change.key(), change.value().unwrap_or_default())?;
    }
    let bytes = changes.iter().map(Change::bytes).sum();
    if bytes > COMMIT_BYTES_MAX { Err(TooLarge::Commit { bytes }) } else { Ok(()) }
}

fn check_record(key: &Key, value: &[u8]) -> Result<(), TooLarge> {
    if key.as_bytes().len() > KEY_BYTES_MAX {
        return Err(TooLarge::Key { key: key.clone() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(TooLarge::Value { key: key.clone(), bytes: value.len() });
    }
    Ok(())
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the store in {} is used by {holder}", .directory.display())]
    Locked { directory: PathBuf, holder: String },
    #[error("there is no store in {}", .directory.display())]
    Missing { directory: PathBuf },
    #[error("there is a store in {} already", .directory.display())]
    Exists { directory: PathBuf },
    #[error("the making of the store in {} was interrupted", .directory.display())]
    Unfinished { directory: PathBuf },
    #[error("{what} was written by a newer version ({found}; this one knows {known})")]
    Newer { what: String, found: u8, known: u8 },
    /// Something is not as it was written. Says which record, or which sum.
    #[error("the store is damaged: {what}")]
    Damaged { what: String },
    /// Commits that were acknowledged are gone.
    #[error("the store has lost commits: revision {acknowledged} was acknowledged, {found} is there")]
    Lost { acknowledged: Revision, found: Revision, witness: PathBuf },
    #[error("the store could not be opened ({cause}) and was moved to {}", .quarantine.display())]
    Quarantined { quarantine: PathBuf, cause: String },
    #[error("cannot {operation} the store: {cause}")]
    Io { operation: &'static str, kind: io::ErrorKind, cause: String },
    /// For ever, in this process: after a failed write or sync nobody knows what the disk holds.
    #[error("the store has failed before and takes nothing more: {cause}")]
    Dead { cause: String },
}

impl StoreError {
    fn io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { operation, kind: error.kind(), cause: format!("{}: {error}", path.display()) }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Locked { .. } => Code::Locked,
            Self::Missing { .. } | Self::Exists { .. } | Self::Unfinished { .. } => Code::State,
            Self::Newer { .. } => Code::StateNewer,
            Self::Io { kind: io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, .. } => {
                Code::DiskSpace
            }
            Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::Quarantined { .. }
            | Self::Io { .. }
            | Self::Dead { .. } => Code::Store,
        }
    }

    /// The error as a person meets it.
    pub fn refusal(&self) -> Refusal {
        let next = match self {
            Self::Locked { .. } => "stop that process, or use another directory".into(),
            Self::Missing { .. } => {
                "make one with `houston-coordinator init`, or bring back a copy of the directory".into()
            }
            Self::Exists { directory } => {
                format!("move {} away to keep it, or use another directory", directory.join("sled").display())
            }
            Self::Unfinished { directory } => {
                format!("delete {}, then run the command again", directory.join("sled").display())
            }
            Self::Newer { .. } => "run the version that wrote it, or a later one".into(),
            Self::Damaged { .. } => {
                "move the store away and bring back the newest copy of the directory".into()
            }
            Self::Lost { witness, .. } => format!(
                "bring back the newest copy of the directory, or delete {} to go on with what is left",
                witness.display()
            ),
            Self::Quarantined { .. } => {
                "nothing was deleted; bring back the newest copy of the directory".into()
            }
            Self::Io { .. } if self.code() == Code::DiskSpace => "make space and start again".into(),
            Self::Io { .. } | Self::Dead { .. } => "check the disk, then start again".into(),
        };
        Refusal::new(self.code(), self.to_string(), next)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        error.refusal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, bytes: usize) -> Change {
        Change::Put { key: Key::new(key.as_bytes()), value: vec![7; bytes] }
    }

    #[test]
    fn limits_hold_at_their_edges() {
        for (count, fits) in [(0, true), (99, true), (100, true), (101, false)] {
            let changes: Vec<_> = (0..count).map(|i| put(&format!("{i}"), 1)).collect();
            assert_eq!(check_limits(&changes).is_ok(), fits, "{count} changes");
        }
        for (bytes, fits) in [(VALUE_BYTES_MAX, true), (VALUE_BYTES_MAX + 1, false)] {
            assert_eq!(check_limits(&[put("a", bytes)]).is_ok(), fits, "{bytes} bytes of value");
        }
        for (bytes, fits) in [(KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
            assert_eq!(check_limits(&[put(&"k".repeat(bytes), 0)]).is_ok(), fits, "{bytes} bytes of key");
        }
        let mut changes: Vec<_> = (0..16).map(|i| put(&format!("{i:x}"), VALUE_BYTES_MAX - 1)).collect();
        assert_eq!(check_limits(&changes), Ok(()));
        changes.push(put("", 1));
        assert_eq!(check_limits(&changes), Err(TooLarge::Commit { bytes: COMMIT_BYTES_MAX + 1 }));
    }

    #[test]
    fn a_key_is_shown_without_its_control_characters() {
        assert_eq!(Key::new(*b"h\0\x1b[31m").to_string(), "h\\x00\\x1b[31m");
    }
}
