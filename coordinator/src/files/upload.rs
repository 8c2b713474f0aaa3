//! Storing one file: digested, compressed and sealed as it arrives.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use houston_common::digest::{FileDigest, Hasher};
use houston_common::error::{Code, Refusal};
use houston_common::manifest::TREE_BYTES_MAX;
use zstd::stream::write::Encoder;

use super::{Files, Temporary, failed, object, space};

/// Beyond it, time grows faster than size shrinks: 0.27 GB/s in at a ratio of 2.4.
const COMPRESSION_LEVEL: i32 = 3;

/// How often the room left is looked at again, in bytes received: others write to the disk too.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// An upload that has not ended. Dropping it leaves nothing behind.
pub struct Upload {
    files: Files,
    digest: FileDigest,
    length: u64,
    received: u64,
    hasher: Hasher,
    encoder: Encoder<'static, Sealing>,
    temporary: Temporary,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?}, {} of {} bytes)", self.digest, self.received, self.length)
    }
}

impl Upload {
    pub(super) fn start(files: Files, digest: FileDigest, length: u64) -> Result<Self, Refusal> {
        if length > TREE_BYTES_MAX {
            let what = format!("file {digest} has {length} bytes, above the {TREE_BYTES_MAX} of a tree");
            return Err(Refusal::new(Code::FileLength, what, ""));
        }
        space::require(&files.0.root, &files.0.reserve, length)?;
        let (temporary, file) = files.temporary()?;
        let encoder =
            start_stream(file, &digest, length).map_err(|error| failed("write", &temporary.0, &error))?;
        Ok(Self { files, digest, length, received: 0, hasher: Hasher::default(), encoder, temporary })
    }

    /// The next bytes of the file. After a refusal the upload is of no more use: drop it.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        let received = self.received + chunk.len() as u64;
        if received > self.length {
            let what =
                format!("file {} has more than the {} bytes that were named", self.digest, self.length);
            return Err(Refusal::new(Code::FileLength, what, CHANGED));
        }
        if self.received / SPACE_CHECK_BYTES != received / SPACE_CHECK_BYTES {
            space::require(&self.files.0.root, &self.files.0.reserve, 0)?;
        }
        self.received = received;
        self.hasher.update(chunk);
        self.encoder.write_all(chunk).map_err(|error| failed("write", &self.temporary.0, &error))
    }

    /// Verifies, syncs and names the file. When this returns, it is stored durably.
    pub fn finish(self) -> Result<(), Refusal> {
        let Self { files, digest, length, received, hasher, encoder, temporary } = self;
        if received < length {
            let what = format!("file {digest} ended after {received} of {length} bytes");
            return Err(Refusal::new(Code::FileLength, what, CHANGED));
        }
        let got = hasher.finish();
        if got != *digest.digest() {
            let what = format!("expected file {digest}, got contents with digest {got}");
            return Err(Refusal::new(Code::FileDigest, what, CHANGED));
        }
        end_stream(encoder, length).map_err(|error| failed("write", &temporary.0, &error))?;
        // Other bytes than were verified before, if it was here already.
        files.known().verified.remove(&digest);
        files.publish(temporary, &files.object_path(&digest), &got, std::iter::once(got))
    }
}

const CHANGED: &str = "if the file changed after it was built, build the package again";

fn start_stream(mut file: File, digest: &FileDigest, length: u64) -> io::Result<Encoder<'static, Sealing>> {
    file.write_all(&[0; object::SEAL_BYTES])?;
    let sealing = Sealing { file, hasher: object::seal_hasher(digest, length) };
    let mut encoder = Encoder::new(sealing, COMPRESSION_LEVEL)?;
    encoder.set_pledged_src_size(Some(length))?;
    Ok(encoder)
}

fn end_stream(encoder: Encoder<'static, Sealing>, length: u64) -> io::Result<()> {
    let Sealing { file, hasher } = encoder.finish()?;
    file.write_all_at(&object::encode(length, &hasher.finish()), 0)?;
    file.sync_all()
}

/// Digests the zstd stream on its way to the disk.
struct Sealing {
    file: File,
    hasher: Hasher,
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
