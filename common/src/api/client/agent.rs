//! The agent service, for the host of the channel's certificate.

use std::time::Duration;

use tonic::transport::Channel;

use super::{CALL_TIME_MAX, ask, next, open};
use crate::api::convert::{InvalidField, Wire as _};
use crate::api::status::CallError;
use crate::api::{MESSAGE_BYTES_MAX, wire};
use crate::digest::{Digest, TreeDigest};
use crate::error::{Code, Refusal};
use crate::exchange::{CheckIn, CheckInAnswer, FileChunk, FileNeed, IssuedCertificate};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};

#[derive(Debug, Clone)]
pub struct AgentClient(wire::agent_client::AgentClient<Channel>);

impl AgentClient {
    pub fn new(channel: Channel) -> Self {
        Self(wire::agent_client::AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A new certificate for the same host. The request is PKCS #10 in DER.
    pub async fn renew(&self, csr: Vec<u8>) -> Result<IssuedCertificate, CallError> {
        let mut client = self.0.clone();
        let request = wire::RenewRequest { csr: csr.into() };
        ask(CALL_TIME_MAX, request, |request| async move { client.renew(request).await }).await
    }

    /// Says what the host is and learns what it should be. `hold` is what the last answer allowed; the
    /// call fails that long and [`CALL_TIME_MAX`] later. Dropping it withdraws it.
    pub async fn check_in(&self, check_in: &CheckIn, hold: Duration) -> Result<CheckInAnswer, CallError> {
        let mut client = self.0.clone();
        let limit = if check_in.may_hold { CALL_TIME_MAX.saturating_add(hold) } else { CALL_TIME_MAX };
        ask(limit, check_in.to_wire(), |request| async move { client.check_in(request).await }).await
    }

    /// A tree's manifest, verified against its digest. E-ART-MISSING, E-ART-DIGEST, E-TREE-….
    pub async fn fetch_manifest(&self, tree: TreeDigest) -> Result<Manifest, CallError> {
        let mut client = self.0.clone();
        let request = wire::FetchManifestRequest { tree: tree.as_bytes().to_vec().into() };
        let mut stream = open(CALL_TIME_MAX, client.fetch_manifest(request)).await?;
        let mut text = Vec::new();
        while let Some(wire::ManifestChunk { data }) = next(&mut stream).await? {
            if data.is_empty() {
                return Err(InvalidField::new("data", "is missing").into());
            }
            if text.len() + data.len() > MANIFEST_BYTES_MAX {
                let what = format!("the manifest of tree {tree} is longer than {MANIFEST_BYTES_MAX} bytes");
                return Err(refused(Code::TreeLimit, what));
            }
            text.extend_from_slice(&data);
        }
        if Digest::of(&text) != *tree.digest() {
            let what = format!("the coordinator sent another manifest than that of tree {tree}");
            return Err(refused(Code::FileDigest, what));
        }
        Manifest::parse(&text).map_err(|refusal| CallError { refusal, retry_after: None, answered: true })
    }

    /// Stored files in the order asked for, at most [`crate::exchange::FETCH_FILES_MAX`]. E-BUSY comes
    /// with a time to come back. What arrives is not verified yet.
    pub async fn fetch_files(&self, files: Vec<FileNeed>) -> Result<FileChunks, CallError> {
        let mut client = self.0.clone();
        let stream = open(CALL_TIME_MAX, client.fetch_files(files.to_wire())).await?;
        Ok(FileChunks { stream, files, current: None })
    }
}

fn refused(code: Code, what: String) -> CallError {
    let refusal =
        Refusal::new(code, what, "fetch it again; if it happens again, check the coordinator's files");
    CallError { refusal, retry_after: None, answered: true }
}

/// Files as they arrive. Each piece continues the one before it, or starts the next file at the offset
/// that was asked for; the stream ends only after the last piece of the last file.
#[derive(Debug)]
pub struct FileChunks {
    stream: tonic::Streaming<wire::FileChunk>,
    files: Vec<FileNeed>,
    current: Option<FileChunk>,
}

impl FileChunks {
    /// The next piece, or none after the last. After an error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<FileChunk>, CallError> {
        let Some(message) = next(&mut self.stream).await? else {
            let finished =
                self.current.as_ref().map_or(0, |last| last.index as usize + usize::from(last.last));
            return if finished == self.files.len() {
                Ok(None)
            } else {
                Err(InvalidField::new("", format!("ends after {finished} of {} files", self.files.len()))
                    .into())
            };
        };
        let chunk = FileChunk::from_wire(message)?;
        check_order(&self.files, self.current.as_ref(), &chunk)?;
        // Kept for its place, not for its bytes.
        self.current =
            Some(FileChunk { data: bytes::Bytes::new(), stored_offset: end(&chunk), ..chunk.clone() });
        Ok(Some(chunk))
    }
}

fn end(chunk: &FileChunk) -> u64 {
    chunk.stored_offset + chunk.data.len() as u64
}

/// Whether `chunk` may follow `before`.
fn check_order(
    files: &[FileNeed],
    before: Option<&FileChunk>,
    chunk: &FileChunk,
) -> Result<(), InvalidField> {
    let out_of_order = |field, wanted: u64, got: u64| {
        Err(InvalidField::new(field, format!("is {got} where {wanted} comes next")))
    };
    if let Some(before) = before.filter(|before| !before.last) {
        if chunk.index != before.index {
            return out_of_order("index", before.index.into(), chunk.index.into());
        }
        if chunk.stored_offset != end(before) {
            return out_of_order("stored_offset", end(before), chunk.stored_offset);
        }
        if (chunk.encoding, chunk.stored_length) != (before.encoding, before.stored_length) {
            return Err(InvalidField::new("encoding", "or stored length changes within a file"));
        }
        return Ok(());
    }
    let index = before.map_or(0, |before| before.index + 1);
    if chunk.index != index {
        return out_of_order("index", index.into(), chunk.index.into());
    }
    let Some(need) = files.get(index as usize) else {
        return Err(InvalidField::new("index", format!("is {index} of {} files", files.len())));
    };
    // A file that was stored anew is shorter than what the host has of the old one: from the start, then.
    if chunk.stored_offset != need.stored_offset && chunk.stored_offset != 0 {
        return out_of_order("stored_offset", need.stored_offset, chunk.stored_offset);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::digest::FileDigest;
    use crate::exchange::Encoding;

    fn chunk(index: u32, stored_offset: u64, data: &'static [u8], last: bool) -> FileChunk {
        FileChunk {
            index,
            stored_offset,
            encoding: Encoding::Zstd,
            stored_length: 10,
            data: Bytes::from_static(data),
            last,
        }
    }

    #[test]
    fn pieces_follow_one_another_without_gaps() {
        let need =
            |stored_offset| FileNeed { digest: FileDigest(Digest::of(b"")), length: 20, stored_offset };
        let files = [need(0), need(4)];
        let place =
            |chunk: &FileChunk| FileChunk { stored_offset: end(chunk), data: Bytes::new(), ..chunk.clone() };
        let (first, last) = (place(&chunk(0, 0, b"abcd", false)), place(&chunk(0, 4, b"efghij", true)));
        for (before, chunk, good) in [
            (None, chunk(0, 0, b"abcd", false), true),
            (None, chunk(1, 4, b"efghij", true), false),
            (None, chunk(0, 4, b"efghij", true), false),
            (Some(&first), chunk(0, 4, b"efghij", true), true),
            (Some(&first), chunk(0, 5, b"fghij", true), false),
            (Some(&first), chunk(0, 0, b"abcd", false), false),
            (Some(&first), chunk(1, 4, b"efghij", true), false),
            (Some(&first), FileChunk { stored_length: 11, ..chunk(0, 4, b"efghij", false) }, false),
            (Some(&last), chunk(1, 4, b"efghij", true), true),
            (Some(&last), chunk(1, 0, b"abcd", false), true),
            (Some(&last), chunk(1, 3, b"d", false), false),
            (Some(&last), chunk(0, 0, b"abcd", false), false),
            (Some(&FileChunk { index: 1, ..last.clone() }), chunk(2, 0, b"abcd", false), false),
        ] {
            assert_eq!(check_order(&files, before, &chunk).is_ok(), good, "{before:?} {chunk:?}");
        }
    }
}
