//! The store on one machine. The only file that names sled, and all that it takes to contain it:
//!
//! - sled's `flush` is no fsync: every commit ends with our own, on a descriptor of our own.
//! - sled writes large pages to files of their own (`blobs/`), which nobody syncs and whose loss it skips
//!   in silence: segments are large enough that no page of ours ever is.
//! - sled finds some damage and panics, or takes it for a torn write and forgets what follows: panics are
//!   caught, records are sealed, their total is committed with them, and a witness knows the last revision.
//! - sled cannot open with a damaged snapshot file: it is set aside and the open repeated once.
//!
//! A commit is one batch, one flush, one fdatasync. There are no transactions, no other trees, no flusher.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::sled::{Batch, Db, Error};
use houston_common::error::chain;
use houston_common::id::{Epoch, quoted};

use super::directory::{Acknowledged, Directory};
use super::seal::{self, Head, Total};
use super::{
    COMMIT_CHANGES_MAX, Change, CommitError, Key, Revision, Snapshot, Store, StoreError, check_limits,
    check_record,
};

/// sled's default is 1 GiB. The fleet's state lives in the coordinator, not here: this cache serves only
/// the look-up of what a commit replaces. Measured with it: 180 MiB at 300,000 records.
const CACHE_BYTES: u64 = 64 << 20;

/// A page above a quarter of a segment becomes a blob. A leaf is split above 16 records and merged below 4,
/// so it has at most 20: 20 * (64 KiB + 512 B + what sled and the seal add) is 1.3 MiB. A power of two.
const SEGMENT_BYTES: usize = 8 << 20;

/// How long a database that this process has closed may still be held by sled's own threads.
const LEFTOVER_WAIT: Duration = Duration::from_secs(5);
const LEFTOVER_POLL: Duration = Duration::from_millis(5);

/// Under this key the head; under `RECORD` with a record's key that record.
const HEAD: &[u8] = &[0];
const RECORD: u8 = 1;

/// A directory's store. Holds the directory's lock until it is dropped.
#[derive(Debug)]
pub struct SledStore {
    // Before the lock: the database is closed first.
    writer: Mutex<Writer>,
    directory: Directory,
}

#[derive(Debug)]
struct Writer {
    db: Database,
    barrier: File,
    acknowledged: Acknowledged,
    head: Head,
    /// Why nothing is taken any more.
    dead: Option<String>,
}

struct Database(Db);

impl std::fmt::Debug for Database {
    // sled would print every record.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl SledStore {
    /// Makes a store that holds `snapshot`: an empty one for a new fleet, an imported one for a restore.
    /// The directory is made if need be; a store in it is an error, and so is one whose making was
    /// interrupted. The epoch and the revision go on from the snapshot's.
    pub fn create(directory: &Path, snapshot: &Snapshot) -> Result<Self, StoreError> {
        Directory::make(directory)?;
        let directory = Directory::lock(directory)?;
        if directory.database().exists() {
            return Err(StoreError::Exists { directory: directory.path().into() });
        }
        let db = open_database(&directory).map_err(Failed::into_error)?;
        let barrier = open_barrier(&directory)?;
        let mut head = Head { epoch: snapshot.epoch, revision: snapshot.revision, total: Total::default() };
        for records in snapshot.records.chunks(COMMIT_CHANGES_MAX) {
            let mut batch = Batch::default();
            for (key, value) in records {
                check_record(key, value).map_err(|limit| StoreError::Damaged { what: limit.to_string() })?;
                let (bytes, sealed) = seal::seal(key, value);
                head.total.add(&sealed);
                batch.insert(record_key(key), bytes);
            }
            write(&db, &barrier, batch)?;
        }
        let (acknowledged, _) = Acknowledged::open(directory.acknowledged())?;
        acknowledged.write(head.revision)?;
        acknowledged.sync()?;
        sync_names(&directory, &barrier)?;
        // Last: without a head the store is not finished, and does not open.
        let mut batch = Batch::default();
        batch.insert(HEAD, head.seal());
        write(&db, &barrier, batch)?;
        Ok(Self::new(directory, Writer { db, barrier, acknowledged, head, dead: None }))
    }

    /// Opens the store of a directory. Changes nothing in it that could be seen from outside, but that a
    /// database that cannot be opened is moved to `quarantine-<n>`.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = Directory::lock(directory)?;
        let started = Instant::now();
        if !directory.database().exists() {
            return Err(StoreError::Missing { directory: directory.path().into() });
        }
        let (acknowledged, witnessed) = Acknowledged::open(directory.acknowledged())?;
        let db = open_or_quarantine(&directory)?;
        let barrier = open_barrier(&directory)?;
        // What sled renamed while it opened must not come back once there are commits that rely on it.
        sync_names(&directory, &barrier)?;
        let found = guarded("read", || db.0.get(HEAD))?.map(|bytes| Head::unseal(&bytes)).transpose()?;
        let head = match (found, witnessed) {
            (Some(head), Some(acknowledged)) if head.revision < acknowledged => {
                let (found, witness) = (head.revision, directory.acknowledged());
                return Err(StoreError::Lost { acknowledged, found, witness });
            }
            (Some(head), _) => head,
            (None, Some(acknowledged)) if acknowledged > Revision(0) => {
                let (found, witness) = (Revision(0), directory.acknowledged());
                return Err(StoreError::Lost { acknowledged, found, witness });
            }
            (None, _) => return Err(StoreError::Unfinished { directory: directory.path().into() }),
        };
        if witnessed.is_none() {
            tracing::warn!(file = %directory.acknowledged().display(), "the witness of the last commit was missing");
        }
        acknowledged.write(head.revision)?;
        acknowledged.sync()?;
        tracing::info!(revision = %head.revision, took = ?started.elapsed(), "opened the store");
        Ok(Self::new(directory, Writer { db, barrier, acknowledged, head, dead: None }))
    }

    fn new(directory: Directory, writer: Writer) -> Self {
        Self { writer: Mutex::new(writer), directory }
    }

    /// The directory that it lives in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs with the writer, unless it is dead. Whatever panicked while it held the writer killed it.
    fn with_writer<T>(
        &self,
        run: impl FnOnce(&mut Writer) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        let mut writer = self
            .writer
            .lock()
            .map_err(|_: PoisonError<_>| StoreError::Dead { cause: "it panicked".into() })?;
        match &writer.dead {
            Some(cause) => Err(StoreError::Dead { cause: cause.clone() }.into()),
            None => run(&mut writer),
        }
    }
}

impl Store for SledStore {
    fn load(&self) -> Result<Snapshot, StoreError> {
        self.with_writer(|writer| Ok(writer.load()?)).map_err(into_store_error)
    }

    fn commit(&self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError> {
        check_limits(changes)?;
        self.with_writer(|writer| {
            if writer.head.epoch != epoch {
                return Err(CommitError::Fenced { stored: writer.head.epoch });
            }
            if changes.is_empty() { Ok(writer.head.revision) } else { writer.commit(epoch, changes) }
        })
    }

    fn take_over(&self, above: Epoch) -> Result<Epoch, StoreError> {
        self.with_writer(|writer| {
            let epoch = writer.head.epoch.max(above).next();
            writer.commit(epoch, &[]).map(|_| epoch)
        })
        .map_err(into_store_error)
    }
}

fn into_store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Unknown(error) | CommitError::Store(error) => error,
        CommitError::Fenced { .. } | CommitError::TooLarge(_) => {
            StoreError::Dead { cause: format!("it refused its own write: {error}") }
        }
    }
}

impl Writer {
    fn load(&self) -> Result<Snapshot, StoreError> {
        let mut total = Total::default();
        let mut records = Vec::new();
        let mut entries = self.db.0.iter();
        while let Some((stored, bytes)) = guarded("read", || entries.next().transpose())? {
            match stored.split_first() {
                Some((&RECORD, key)) => {
                    let key = Key::new(key);
                    let (value, sealed) = seal::unseal(&key, &bytes)?;
                    total.add(&sealed);
                    records.push((key, value.to_vec()));
                }
                _ if stored == HEAD => {
                    if Head::unseal(&bytes)? != self.head {
                        return Err(damaged("the head record is not the one last written"));
                    }
                }
                _ => return Err(damaged(format!("an unknown key {}", Key::new(&*stored)))),
            }
        }
        if total != self.head.total {
            return Err(damaged("records are missing, or older than the commits that changed them"));
        }
        Ok(Snapshot { epoch: self.head.epoch, revision: self.head.revision, records })
    }

    fn commit(&mut self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError> {
        let revision = Revision(self.head.revision.0 + 1);
        // Nothing is written before `apply`, so until then an error leaves the store as it is.
        let (batch, head) = self.batch(epoch, revision, changes)?;
        if let Err(error) = self.apply(batch, revision) {
            self.dead = Some(chain(&error));
            return Err(CommitError::Unknown(error));
        }
        self.head = head;
        Ok(revision)
    }

    fn batch(
        &self,
        epoch: Epoch,
        revision: Revision,
        changes: &[Change],
    ) -> Result<(Batch, Head), StoreError> {
        let last_wins: BTreeMap<_, _> = changes.iter().map(|change| (change.key(), change.value())).collect();
        let mut total = self.head.total;
        let mut batch = Batch::default();
        for (key, value) in last_wins {
            let stored = record_key(key);
            if let Some(old) = guarded("read", || self.db.0.get(&stored))? {
                total.remove(&seal::unseal(key, &old)?.1);
            }
            match value {
                Some(value) => {
                    let (bytes, sealed) = seal::seal(key, value);
                    total.add(&sealed);
                    batch.insert(stored, bytes);
                }
                None => batch.remove(stored),
            }
        }
        let head = Head { epoch, revision, total };
        batch.insert(HEAD, head.seal());
        Ok((batch, head))
    }

    fn apply(&self, batch: Batch, revision: Revision) -> Result<(), StoreError> {
        write(&self.db, &self.barrier, batch)?;
        self.acknowledged.write(revision)
    }
}

/// Durable when it returns: handed to the kernel by sled, and to the disk by us.
fn write(db: &Database, barrier: &File, batch: Batch) -> Result<(), StoreError> {
    guarded("write", || db.0.apply_batch(batch))?;
    guarded("flush", || db.0.flush())?;
    barrier.sync_data().map_err(|error| StoreError::io("sync", Path::new("sled/db"), &error))
}

/// A second descriptor of the file that sled writes: syncing it syncs the file.
fn open_barrier(directory: &Directory) -> Result<File, StoreError> {
    let path = directory.database().join("db");
    File::open(&path).map_err(|error| StoreError::io("open", &path, &error))
}

/// Makes durable what sled only wrote: its parameters, the end of its log, the names of its files.
fn sync_names(directory: &Directory, barrier: &File) -> Result<(), StoreError> {
    let parameters = directory.database().join("conf");
    let io_error = |error: io::Error| StoreError::io("sync", &parameters, &error);
    File::open(&parameters).and_then(|file| file.sync_all()).map_err(io_error)?;
    barrier.sync_all().map_err(io_error)?;
    directory.sync()
}

fn record_key(key: &Key) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.as_bytes().len());
    stored.push(RECORD);
    stored.extend_from_slice(key.as_bytes());
    stored
}

fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged { what: what.into() }
}

/// Why sled failed: by damage that it found, or for a reason that has nothing to do with what is stored.
#[derive(Debug)]
enum Failed {
    Damage(String),
    Other(StoreError),
}

impl Failed {
    fn of(operation: &'static str, error: Error) -> Self {
        match error {
            Error::Io(error)
                if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Self::Other(StoreError::Io { operation, kind: error.kind(), cause: error.to_string() })
            }
            // Made with other parameters, or its `conf` is damaged: to open it anyway would destroy it.
            Error::Unsupported(cause) => Self::Other(StoreError::Io {
                operation,
                kind: io::ErrorKind::Unsupported,
                cause: quoted(&cause),
            }),
            Error::Io(_)
            | Error::Corruption { .. }
            | Error::ReportableBug(_)
            | Error::CollectionNotFound(_) => Self::Damage(error.to_string()),
        }
    }

    fn into_error(self) -> StoreError {
        match self {
            Self::Damage(what) => StoreError::Damaged { what },
            Self::Other(error) => error,
        }
    }
}

/// Calls sled, which panics on some damage where it should return an error.
fn guarded<T>(operation: &'static str, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    catching(operation, call).map_err(Failed::into_error)
}

fn catching<T>(operation: &'static str, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, Failed> {
    // Unwind safe: after an error nobody looks at the database again.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Failed::of(operation, error)),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
            Err(Failed::Damage(format!("sled panicked: {}", quoted(said))))
        }
    }
}

fn open_database(directory: &Directory) -> Result<Database, Failed> {
    let config = ::sled::Config::new()
        .path(directory.database())
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let deadline = Instant::now() + LEFTOVER_WAIT;
    loop {
        match catching("open", || config.open()) {
            // The directory is ours, so it can only be a thread of ours that sled has yet to end.
            Err(Failed::Other(StoreError::Io { cause, .. }))
                if cause.contains("could not acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(LEFTOVER_POLL);
            }
            result => return result.map(Database),
        }
    }
}

fn open_or_quarantine(directory: &Directory) -> Result<Database, StoreError> {
    let first = match open_database(directory) {
        Ok(db) => return Ok(db),
        Err(Failed::Other(error)) => return Err(error),
        Err(Failed::Damage(cause)) => cause,
    };
    tracing::warn!(cause = first, "the store did not open; trying without sled's snapshot file");
    directory.set_snapshots_aside()?;
    match open_database(directory) {
        Ok(db) => Ok(db),
        Err(Failed::Other(error)) => Err(error),
        Err(Failed::Damage(cause)) => {
            Err(StoreError::Quarantined { quarantine: directory.quarantine()?, cause })
        }
    }
}

#[cfg(test)]
mod tests;
