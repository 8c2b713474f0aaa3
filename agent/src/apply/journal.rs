//! The machine's state on disk: two records, each one file that is replaced whole.
//!
//! A record is one line that says what follows, `houston-journal 1 <sha-256>`, and then JSON. The checksum
//! is over the first two words, a newline and the JSON.
//! A higher number is a later format, which is converted forward when read; a number above ours was
//! written by a newer agent, and nothing is done to it. Anything else that cannot be read is damage.
//!
//! What absence means: without a journal nothing is under way; what runs is measured. Without a floor
//! (or with a damaged one) the journal's own holds; if both are damaged there is none, and the first
//! assignment that comes is taken, because only the coordinator itself can bring one, and it sends its
//! newest. The report then has no stamp, which tells the coordinator that the host has forgotten.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use houston_common::digest::{Digest, Hasher};
use houston_common::error::{Code, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::machine::{Floor, State};
use crate::host::Record;
use stored::Stored;

mod record;
mod stored;
#[cfg(test)]
mod tests;

/// The format that this build writes.
const VERSION: u32 = 1;

/// A state names at most a handful of releases of 64 packages of a few KiB.
const RECORD_BYTES_MAX: u64 = 32 << 20;

/// Freed when the disk is full, so that an activation under way can still be recorded: six times the
/// journal of a release of two packages, which is 10 KB. A very large set's may not fit; then nothing is
/// done until there is room.
const RESERVE_BYTES: usize = 64 << 10;
const RESERVE: &str = "reserve";

/// More damaged records than this are not kept: the first ones say most.
const DAMAGED_MAX: u32 = 10;

/// Why a record was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has format {0}, which a newer agent has written")]
    Newer(u32),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

pub fn write_state(state: &State) -> Result<Vec<u8>, Refusal> {
    encode(Record::Journal, &state.store())
}

pub fn read_state(bytes: &[u8]) -> Result<State, Unreadable> {
    decode(Record::Journal, bytes).map(State::restore)
}

pub fn write_floor(floor: &Floor) -> Result<Vec<u8>, Refusal> {
    encode(Record::Floor, &floor.store())
}

pub fn read_floor(bytes: &[u8]) -> Result<Floor, Unreadable> {
    decode(Record::Floor, bytes).map(Floor::restore)
}

fn encode(record: Record, value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    let body = serde_json::to_vec(value)
        .map_err(|e| Refusal::internal(format!("the {} cannot be written as JSON: {e}", record.name())))?;
    let kind = format!("houston-{}", record.name());
    let mut bytes = format!("{kind} {VERSION} {}\n", checksum(&kind, VERSION, &body)).into_bytes();
    bytes.extend(body);
    Ok(bytes)
}

/// Covers the version, so that damage to it is not taken for a newer agent's record.
fn checksum(kind: &str, version: u32, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(format!("{kind} {version}\n").as_bytes());
    hasher.update(body);
    hasher.finish()
}

fn decode<T: DeserializeOwned>(record: Record, bytes: &[u8]) -> Result<T, Unreadable> {
    let damaged = |what: &str| Unreadable::Damaged(what.to_owned());
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let (header, body) = (&bytes[..end], &bytes[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| damaged("its first line is not text"))?;
    let words: Vec<&str> = header.split(' ').collect();
    let [kind, version, written] = words[..] else {
        return Err(damaged("its first line has not three words"));
    };
    if kind.strip_prefix("houston-") != Some(record.name()) {
        return Err(damaged("its first line names another kind of record"));
    }
    let version = version.parse().map_err(|_| damaged("its version is no number"))?;
    if checksum(kind, version, body).to_string() != written {
        return Err(damaged("its checksum is not that of its contents"));
    }
    match version {
        VERSION => serde_json::from_slice(body).map_err(|e| Unreadable::Damaged(e.to_string())),
        newer if newer > VERSION => Err(Unreadable::Newer(newer)),
        _ => Err(damaged("there is no such version")),
    }
}

/// The records of one environment as files of a directory that only the agent can write to.
#[derive(Debug)]
pub struct RecordFiles {
    directory: PathBuf,
}

impl RecordFiles {
    /// The directory must exist. A reserve that cannot be made for lack of space is made later.
    pub fn open(directory: &Path) -> Result<Self, Refusal> {
        let files = Self { directory: directory.to_owned() };
        files.sync().map_err(|e| files.refused("cannot be opened", &e))?;
        files.fill_reserve();
        Ok(files)
    }

    /// The whole record; absent if there is no file.
    pub fn read(&self, record: Record) -> Result<Option<Vec<u8>>, Refusal> {
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(self.directory.join(record.name()))?;
            let mut bytes = Vec::new();
            // What is longer than allowed is cut, and then its checksum is wrong.
            file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.refused(&format!("{}: the record cannot be read", record.name()), &e)),
        }
    }

    /// Replaces the record. Durable once this returns: file, rename and directory are synced. A disk that
    /// is full is given the reserve and tried once more; any other error is final, and a failed sync is
    /// never repeated on the same file.
    pub fn write(&self, record: Record, bytes: &[u8]) -> Result<(), Refusal> {
        self.with_reserve(|| self.replace(record, bytes))
            .map_err(|e| self.refused(&format!("{}: the record cannot be written", record.name()), &e))
    }

    /// Renames the record to `<name>.damaged-<n>`, or over the last of those if there are too many.
    pub fn set_aside(&self, record: Record) -> Result<(), Refusal> {
        let name = |n| self.directory.join(format!("{}.damaged-{n}", record.name()));
        let free = (1..DAMAGED_MAX).find(|n| !name(*n).exists()).unwrap_or(DAMAGED_MAX);
        std::fs::rename(self.directory.join(record.name()), name(free))
            .and_then(|()| self.sync())
            .map_err(|e| self.refused(&format!("{}: the record cannot be set aside", record.name()), &e))
    }

    fn replace(&self, record: Record, bytes: &[u8]) -> io::Result<()> {
        let (temporary, place) = (self.temporary(record.name()), self.directory.join(record.name()));
        let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &place));
        if written.is_err() {
            // What is left of it would keep the disk full.
            let _ = std::fs::remove_file(&temporary);
        }
        written.and_then(|()| self.sync())
    }

    fn with_reserve(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        let written = match write() {
            Err(e) if is_full(&e) => {
                match std::fs::remove_file(self.directory.join(RESERVE)) {
                    Ok(()) => {
                        tracing::warn!(directory = %self.directory.display(), "the disk is full: using the reserve")
                    }
                    Err(_) => return Err(e),
                }
                write()
            }
            written => written,
        };
        if written.is_ok() {
            self.fill_reserve();
        }
        written
    }

    fn fill_reserve(&self) {
        let (temporary, reserve) = (self.temporary(RESERVE), self.directory.join(RESERVE));
        if reserve.metadata().is_ok_and(|meta| meta.len() == RESERVE_BYTES as u64) {
            return;
        }
        // Written, not only allocated: a file system that compresses or makes holes would keep nothing.
        let noise: Vec<u8> =
            (0..RESERVE_BYTES / 32).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes()).collect();
        if let Err(e) = write_new(&temporary, &noise).and_then(|()| std::fs::rename(&temporary, &reserve)) {
            let _ = std::fs::remove_file(&temporary);
            tracing::warn!(directory = %self.directory.display(), "no reserve for the journal: {e}");
        }
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".{name}.new"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn refused(&self, what: &str, error: &io::Error) -> Refusal {
        let code = if is_full(error) { Code::DiskSpace } else { Code::Io };
        let what = format!("{}: {what}: {error}", self.directory.display());
        Refusal::new(code, what, "the host goes on by itself once its disk can be written")
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes a file that did not exist, synced. Whatever has the name is removed first, a link as a link.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
