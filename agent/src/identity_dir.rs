//! Who this host is, on disk: `identity/` with the key, which never leaves it, the certificate and the
//! authority's; beside it `host.json`, whose presence says that the host is enrolled.

use std::io;
use std::path::{Path, PathBuf};

use houston_common::error::{Code, Refusal};
use houston_common::exchange::{Enrolled, IssuedCertificate};
use houston_common::id::{HostId, Zone};
use houston_common::identity::{Peer, PrivateKey};
use houston_common::tls::{Address, Credential};
use serde::{Deserialize, Serialize};

use crate::config::shown;
use crate::host::dir::{Dir, refused};
use crate::sync::vouched;

const DIRECTORY: &str = "identity";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const AUTHORITY: &str = "ca.pem";
const HOST: &str = "host.json";

/// A chain of a few certificates; each takes 1 KiB.
const PEM_BYTES_MAX: u64 = 64 << 10;
/// Four names.
const HOST_BYTES_MAX: u64 = 4 << 10;

/// What the coordinator made of this host when it enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    version: u32,
    pub host: HostId,
    pub zone: Zone,
    /// Where the agent service listens.
    pub coordinator: Address,
    /// Where a host whose certificate has expired gets a new one.
    pub enrollment: Address,
}

const VERSION: u32 = 1;

impl HostRecord {
    pub fn new(enrolled: &Enrolled, enrollment: Address) -> Self {
        Self {
            version: VERSION,
            host: enrolled.host.clone(),
            zone: enrolled.zone.clone(),
            coordinator: enrolled.agent_address.clone(),
            enrollment,
        }
    }
}

/// All that the host proves itself with.
#[derive(Debug)]
pub struct Identity {
    pub record: HostRecord,
    pub key: PrivateKey,
    /// PEM: the host's, and what leads from it to the authority's.
    pub certificate_pem: String,
    /// PEM.
    pub authority_pem: String,
    pub credential: Credential,
}

/// The identity's place in an agent's directory.
#[derive(Debug)]
pub struct IdentityDir {
    path: PathBuf,
    directory: Dir,
    identity: Dir,
}

impl IdentityDir {
    /// `state` must exist; what is missing in it is made.
    pub fn open(state: &Path) -> Result<Self, Refusal> {
        let open = || {
            let directory = Dir::open(state)?;
            let identity = directory.ensure(DIRECTORY, 0o700)?;
            Ok(Self { path: state.to_owned(), directory, identity })
        };
        open().map_err(|e: io::Error| {
            let what = format!("the state directory {} cannot be used: {e}", shown(state));
            Refusal::new(Code::State, what, "check that it exists and that the agent may write there")
        })
    }

    /// Where the key is.
    pub fn dir(&self) -> Result<Dir, Refusal> {
        self.directory.dir(DIRECTORY).map_err(|e| refused("opening the host's identity", &e))
    }

    /// Absent before the host has enrolled.
    pub fn record(&self) -> Result<Option<HostRecord>, Refusal> {
        read_record(&self.directory, &self.path)
    }

    /// Refused with E-STATE if the host has not enrolled, E-KEY-PERM if others can read its key.
    pub fn load(&self) -> Result<Identity, Refusal> {
        let record = self.record()?.ok_or_else(|| not_enrolled(&self.path))?;
        let key = PrivateKey::read(&self.path.join(DIRECTORY).join(KEY))?;
        let (certificate_pem, authority_pem) = (self.pem(CERTIFICATE)?, self.pem(AUTHORITY)?);
        let credential = credential(&certificate_pem, &key, &record.host)?;
        Ok(Identity { record, key, certificate_pem, authority_pem, credential })
    }

    /// Writes a whole identity. The record comes last: without it, nothing of the rest counts.
    pub fn save(
        &self,
        key: &PrivateKey,
        issued: &IssuedCertificate,
        record: &HostRecord,
    ) -> Result<(), Refusal> {
        let saving = |e: io::Error| refused("saving the host's identity", &e);
        self.directory.remove(HOST).and_then(|()| self.directory.sync()).map_err(saving)?;
        // What another authority's coordinator has said of the time.
        self.identity.remove(vouched::FILE).map_err(saving)?;
        key.write(&self.path.join(DIRECTORY).join(KEY))?;
        self.save_certificate(issued)?;
        self.save_record(record)
    }

    /// The authority's comes first: it may be a new one, and the old certificate still proves the host.
    pub fn save_certificate(&self, issued: &IssuedCertificate) -> Result<(), Refusal> {
        self.identity
            .replace(AUTHORITY, issued.authority_pem.as_bytes())
            .and_then(|()| self.identity.replace(CERTIFICATE, issued.certificate_pem.as_bytes()))
            .map_err(|e| refused("saving the host's certificate", &e))
    }

    pub fn save_record(&self, record: &HostRecord) -> Result<(), Refusal> {
        let write = || self.directory.replace(HOST, &serde_json::to_vec_pretty(record)?);
        write().map_err(|e: io::Error| refused("saving the host's record", &e))
    }

    fn pem(&self, name: &str) -> Result<String, Refusal> {
        let path = self.path.join(DIRECTORY).join(name);
        let missing = |reason: &dyn std::fmt::Display| {
            let what = format!("cannot read {}: {reason}", shown(&path));
            Refusal::new(Code::Credential, what, "enroll the host again with --force")
        };
        match self.identity.read(name, PEM_BYTES_MAX) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|error| missing(&error)),
            Ok(None) => Err(missing(&"there is no such file")),
            Err(error) => Err(missing(&error)),
        }
    }
}

/// The host of a directory, which is only looked at. E-STATE if there is no such directory, or no host is
/// enrolled in it.
pub fn enrolled(path: &Path) -> Result<HostRecord, Refusal> {
    let directory = Dir::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => not_enrolled(path),
        _ => {
            let what = format!("the state directory {} cannot be opened: {e}", shown(path));
            Refusal::new(Code::State, what, "name a directory that the agent may read")
        }
    })?;
    read_record(&directory, path)?.ok_or_else(|| not_enrolled(path))
}

fn not_enrolled(path: &Path) -> Refusal {
    let what = format!("no host is enrolled in {}", shown(path));
    let next = "enroll one with `houston-agent enroll`, or name its --directory";
    Refusal::new(Code::State, what, next)
}

fn read_record(directory: &Dir, path: &Path) -> Result<Option<HostRecord>, Refusal> {
    let bytes = directory.read(HOST, HOST_BYTES_MAX).map_err(|e| refused("reading the host's record", &e))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let file = shown(&path.join(HOST));
    let record: HostRecord = serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(Code::State, format!("{file} is damaged: {error}"), "enroll the host again with --force")
    })?;
    if record.version > VERSION {
        let what = format!("{file} has format {}, which a newer agent has written", record.version);
        return Err(Refusal::new(Code::StateNewer, what, "install the newer agent again"));
    }
    Ok(Some(record))
}

/// A certificate that was issued, if it is for this host and key.
pub fn credential(pem: &str, key: &PrivateKey, host: &HostId) -> Result<Credential, Refusal> {
    let credential = Credential::from_pem(pem, key)?;
    let holder = &credential.certificate().peer;
    if *holder != Peer::Host(host.clone()) {
        let what = format!("the certificate is for {holder}, not for the host {host}");
        return Err(Refusal::new(Code::Credential, what, "enroll the host again with --force"));
    }
    Ok(credential)
}
