//! A stored file: a zstd stream behind a seal. The seal is a zstd frame that decoders skip, so that
//! `zstd -d` reads an object as it lies there, and `sha256sum` of that is the object's name.
//!
//! | bytes | |
//! |---|---|
//! | 4 | magic of a skippable frame, little-endian |
//! | 4 | 44, little-endian: what follows in this frame |
//! | 4 | `hou1` |
//! | 8 | length of the contents, little-endian |
//! | 32 | SHA-256 over the contents' digest, the length as above, and the zstd stream |

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;

use houston_common::digest::{Digest, FileDigest, Hasher};

pub(super) const SEAL_BYTES: usize = 52;

/// Magic, size of the rest, and our own mark with its version.
const MARK: [u8; 12] = *b"\x50\x2a\x4d\x18\x2c\x00\x00\x00hou1";

/// Large enough that system calls cost nothing beside SHA-256.
const READ_BYTES: usize = 256 << 10;

/// An open stored file. It stays readable when the file is collected meanwhile.
#[derive(Debug)]
pub struct Stored {
    file: File,
    /// Bytes of the zstd stream.
    pub stored_bytes: u64,
    /// Bytes of the contents.
    pub length: u64,
    /// Names exactly these stored bytes. Offsets into a stream with another seal mean something else.
    pub seal: Digest,
}

impl Stored {
    /// Fills `buffer` from `offset` in the zstd stream; fewer bytes only at its end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.stored_bytes.saturating_sub(offset);
        if left == 0 {
            return Ok(0);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_exact_at(&mut buffer[..wanted], SEAL_BYTES as u64 + offset)?;
        Ok(wanted)
    }

    /// Reads the whole stream and tells whether it is what was sealed.
    fn matches(&self, digest: &FileDigest) -> io::Result<bool> {
        let mut hasher = seal_hasher(digest, self.length);
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        loop {
            match self.read_at(&mut buffer, offset)? {
                0 => return Ok(hasher.finish() == self.seal),
                n => {
                    hasher.update(&buffer[..n]);
                    offset += n as u64;
                }
            }
        }
    }
}

/// Takes what the seal says of itself; `None` if there is no seal, or the stream does not match it.
pub(super) fn read(
    file: File,
    metadata: &Metadata,
    digest: &FileDigest,
    verify: bool,
) -> io::Result<Option<Stored>> {
    let Some(stored_bytes) = metadata.len().checked_sub(SEAL_BYTES as u64) else { return Ok(None) };
    let mut seal = [0; SEAL_BYTES];
    file.read_exact_at(&mut seal, 0)?;
    let Some((length, seal)) = decode(&seal) else { return Ok(None) };
    let stored = Stored { file, stored_bytes, length, seal };
    Ok(if !verify || stored.matches(digest)? { Some(stored) } else { None })
}

/// Digests what a seal covers; the zstd stream is to follow.
pub(super) fn seal_hasher(digest: &FileDigest, length: u64) -> Hasher {
    let mut hasher = Hasher::default();
    hasher.update(digest.as_bytes());
    hasher.update(&length.to_le_bytes());
    hasher
}

pub(super) fn encode(length: u64, seal: &Digest) -> [u8; SEAL_BYTES] {
    let mut bytes = [0; SEAL_BYTES];
    bytes[..12].copy_from_slice(&MARK);
    bytes[12..20].copy_from_slice(&length.to_le_bytes());
    bytes[20..].copy_from_slice(seal.as_bytes());
    bytes
}

fn decode(bytes: &[u8; SEAL_BYTES]) -> Option<(u64, Digest)> {
    let (length, seal) = bytes.strip_prefix(&MARK)?.split_first_chunk()?;
    Some((u64::from_le_bytes(*length), Digest::try_from_slice(seal).ok()?))
}
