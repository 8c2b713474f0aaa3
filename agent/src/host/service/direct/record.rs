//! What is on disk of each service that was started, so that the next agent finds it again.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::cgroup::Cgroup;
use crate::host::dir::Dir;
use crate::host::process::{self, Exit, ProcessId};
use crate::host::service::ServiceKey;

const RECORD_BYTES_MAX: u64 = 64 << 10;

/// A process that was started and not stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub version: u32,
    pub process: ProcessId,
    /// What the process id is valid for; see [`process::boot`].
    pub boot: String,
    pub cgroup: Option<Cgroup>,
    /// [`crate::host::service::ServiceSpec::digest`].
    pub digest: String,
    /// Where its log begins: the file holds what earlier starts have printed too.
    pub log_from: u64,
    /// How it ended, if it stays down: the next agent was not there to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
}

pub(super) const RECORD_VERSION: u32 = 1;

#[derive(Debug)]
pub(super) struct Records {
    pub directory: Dir,
    /// This boot.
    pub boot: String,
}

impl Records {
    /// In the agent's directory.
    pub fn open(state: &Path) -> io::Result<Self> {
        Ok(Self { directory: Dir::open(state)?.ensure("services", 0o700)?, boot: process::boot()? })
    }

    /// The record of a service, of any boot; a damaged one is none, and what it named is found by its group.
    pub fn read(&self, key: &ServiceKey) -> Option<Record> {
        let bytes = self.directory.read(key.dotted(), RECORD_BYTES_MAX).ok()??;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.version == RECORD_VERSION).then_some(record)
    }

    /// Of a service that was started in this boot and not stopped since, whether or not it has ended.
    pub fn of_this_boot(&self, key: &ServiceKey) -> Option<Record> {
        self.read(key).filter(|record| record.boot == self.boot)
    }

    pub fn running(&self, key: &ServiceKey) -> Option<Record> {
        self.of_this_boot(key).filter(|record| record.process.runs())
    }

    /// Durable on return.
    pub fn write(&self, key: &ServiceKey, record: &Record) -> io::Result<()> {
        self.directory.replace(key.dotted(), &serde_json::to_vec(record)?)
    }

    /// Keeps how a service has ended that stays down.
    pub fn note_exit(&self, key: &ServiceKey, exit: Exit) -> io::Result<()> {
        match self.of_this_boot(key) {
            Some(record) if record.exit.is_none() => self.write(key, &Record { exit: Some(exit), ..record }),
            _ => Ok(()),
        }
    }

    pub fn remove(&self, key: &ServiceKey) -> io::Result<()> {
        self.directory.remove(key.dotted()).and_then(|()| self.directory.sync())
    }

    pub fn keys(&self) -> io::Result<Vec<ServiceKey>> {
        let names = self.directory.names()?;
        Ok(names.iter().filter_map(|name| ServiceKey::from_dotted(name.to_str()?)).collect())
    }
}
