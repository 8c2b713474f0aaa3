//! A store in memory, with faults on request: what the simulation runs on, and what says, beside sled,
//! what a store is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use houston_common::id::Epoch;
use houston_coordinator::store::{
    Change, CommitError, Key, Revision, Snapshot, Store, StoreError, check_limits,
};

/// What happens to a write instead of what should. After each of them this process's handle is dead, as a
/// real store is; [`MemoryStore::reopen`] gives the next process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and the caller is told so.
    Refused,
    /// The result is unknown, and it is written.
    UnknownApplied,
    /// The result is unknown, and nothing is written.
    UnknownLost,
}

/// One process's handle. Clones are the same process; what is stored is shared with every reopened one.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    process: Arc<Mutex<Process>>,
}

#[derive(Debug, Default)]
struct Disk {
    epoch: Epoch,
    revision: Revision,
    records: BTreeMap<Key, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Process {
    dead: bool,
    faults: VecDeque<Option<Fault>>,
}

impl MemoryStore {
    /// An empty store with a first process.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a store restored from `snapshot` would hold.
    pub fn restored(snapshot: Snapshot) -> Self {
        let Snapshot { epoch, revision, records } = snapshot;
        let disk = Disk { epoch, revision, records: records.into_iter().collect() };
        Self { disk: Arc::new(Mutex::new(disk)), process: Arc::default() }
    }

    /// Another process over the same records: the next one after a crash, or a second one at the same time.
    pub fn reopen(&self) -> Self {
        Self { disk: self.disk.clone(), process: Arc::default() }
    }

    /// The next write of this process that would have been done fails so.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_after(0, fault);
    }

    /// As [`Self::fail_next`], after `writes` that succeed.
    pub fn fail_after(&self, writes: usize, fault: Fault) {
        let mut process = lock(&self.process);
        process.faults.clear();
        process.faults.extend(std::iter::repeat_n(None, writes));
        process.faults.push_back(Some(fault));
    }

    /// From now on this process's handle takes nothing.
    pub fn kill(&self) {
        lock(&self.process).dead = true;
    }

    /// How many commits wrote something, over all processes: the number of the last one.
    pub fn revision(&self) -> Revision {
        lock(&self.disk).revision
    }

    /// Writes, or does what was asked for instead.
    fn write(
        process: &mut Process,
        disk: &mut Disk,
        write: impl FnOnce(&mut Disk),
    ) -> Result<Revision, CommitError> {
        let fault = process.faults.pop_front().flatten();
        process.dead = fault.is_some();
        let failed = || StoreError::Damaged { what: format!("a fault was asked for: {fault:?}") };
        if fault == Some(Fault::Refused) {
            return Err(CommitError::Store(failed()));
        }
        if fault == Some(Fault::UnknownLost) {
            return Err(CommitError::Unknown(failed()));
        }
        disk.revision.0 += 1;
        write(disk);
        if fault.is_some() { Err(CommitError::Unknown(failed())) } else { Ok(disk.revision) }
    }

    fn alive(&self) -> Result<MutexGuard<'_, Process>, StoreError> {
        let process = lock(&self.process);
        if process.dead { Err(StoreError::Dead { cause: "it failed before".into() }) } else { Ok(process) }
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Snapshot, StoreError> {
        let _process = self.alive()?;
        let disk = lock(&self.disk);
        let records = disk.records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Snapshot { epoch: disk.epoch, revision: disk.revision, records })
    }

    fn commit(&self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError> {
        check_limits(changes)?;
        let mut process = self.alive()?;
        // Held from the check to the write: else somebody could take over in between.
        let mut disk = lock(&self.disk);
        if disk.epoch != epoch {
            return Err(CommitError::Fenced { stored: disk.epoch });
        }
        if changes.is_empty() {
            return Ok(disk.revision);
        }
        Self::write(&mut process, &mut disk, |disk| {
            for change in changes {
                match change.value() {
                    Some(value) => disk.records.insert(change.key().clone(), value.to_vec()),
                    None => disk.records.remove(change.key()),
                };
            }
        })
    }

    fn take_over(&self, above: Epoch) -> Result<Epoch, StoreError> {
        let mut process = self.alive()?;
        let mut disk = lock(&self.disk);
        let epoch = disk.epoch.max(above).next();
        let written = Self::write(&mut process, &mut disk, |disk| disk.epoch = epoch);
        match written {
            Ok(_) => Ok(epoch),
            Err(CommitError::Store(error) | CommitError::Unknown(error)) => Err(error),
            Err(error) => unreachable!("a take-over is neither fenced nor large: {error}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}
