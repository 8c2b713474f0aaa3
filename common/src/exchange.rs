//! What a host and the coordinator say to each other beside reports and assignments: enrollment,
//! check-ins, files. `docs/protocol.md` has the meaning.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::assignment::Assignment;
use crate::clock::WallTime;
use crate::digest::FileDigest;
use crate::id::{EnvironmentName, HostId, Zone};
use crate::report::Report;
use crate::tls::Address;

/// Most environments that one host belongs to, and reports.
pub const HOST_ENVIRONMENTS_MAX: usize = 16;

/// What a machine shows to be issued a host's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentRequest {
    /// PKCS #10 in DER.
    pub csr: Vec<u8>,
    pub proof: EnrollmentProof,
}

#[derive(Clone, PartialEq, Eq)]
pub enum EnrollmentProof {
    /// For a new host.
    JoinToken { secret: String, suggested_host: Option<HostId> },
    /// For an enrolled host whose certificate ended while it was away. The signature, by the enrolled
    /// key, is over [`crate::identity::request::renewal_challenge`].
    ExpiredCertificate { certificate: Vec<u8>, signature: Vec<u8>, signed_at: WallTime },
}

impl fmt::Debug for EnrollmentProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinToken { secret: _, suggested_host } => {
                f.debug_struct("JoinToken").field("suggested_host", suggested_host).finish_non_exhaustive()
            }
            Self::ExpiredCertificate { certificate: _, signature: _, signed_at } => {
                f.debug_struct("ExpiredCertificate").field("signed_at", signed_at).finish_non_exhaustive()
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub host: HostId,
    pub certificate: IssuedCertificate,
    pub zone: Zone,
    /// Where the agent service listens.
    pub agent_address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// PEM: the certificate, and what leads from it to the authority's.
    pub certificate_pem: String,
    /// PEM: the authority's own.
    pub authority_pem: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckIn {
    pub report: Report,
    /// Whether the coordinator may keep the call until there is news.
    pub may_hold: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckInAnswer {
    pub protocol: u32,
    pub features: Vec<String>,
    /// How long the next check-in may be held.
    pub hold: Duration,
    /// How long to wait before the next check-in; the jitter is the agent's.
    pub retry_after: Duration,
    pub server_time: WallTime,
    /// All of the host. An environment that the host knows of and that is neither here nor in `forget`
    /// is detached: it stays as it is.
    pub assignments: Vec<Assignment>,
    /// Environments that are gone and run nothing on the host: it may remove its record of them.
    pub forget: Vec<EnvironmentName>,
    /// The certificate is to be renewed now, whatever its age.
    pub renew_now: bool,
}

/// Most files that one call fetches.
pub const FETCH_FILES_MAX: usize = 1000;

/// Most bytes of one piece of a file or manifest: small beside a message's limit and a host's memory,
/// large beside its framing.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A file that a host lacks, or has a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNeed {
    pub digest: FileDigest,
    /// Of the contents, decoded, by the manifest.
    pub length: u64,
    /// Stored bytes that the host has already.
    pub stored_offset: u64,
}

/// How stored bytes encode a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    /// One frame. Decoding stops at the length that the manifest names.
    Zstd,
}

/// A piece of a stored file on its way to a host. A file's pieces follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChunk {
    /// Which of the files asked for, from 0.
    pub index: u32,
    pub stored_offset: u64,
    pub encoding: Encoding,
    /// All stored bytes of the file. If it differs from what a host remembers, its partial copy is void.
    pub stored_length: u64,
    /// At most [`CHUNK_BYTES_MAX`]. Empty only in a last piece.
    pub data: Bytes,
    pub last: bool,
}
