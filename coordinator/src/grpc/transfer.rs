//! Packages on their way in: manifests first, then the files that are not here yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use houston_common::api::client::STREAM_IDLE_MAX;
use houston_common::api::convert::Wire;
use houston_common::api::status::invalid_field;
use houston_common::api::wire;
use houston_common::command::{FileUpload, FileWanted, PackageStart, Uploaded};
use houston_common::digest::{Digest, FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::Encoding;
use houston_common::manifest::{MANIFEST_BYTES_MAX, Manifest};
use houston_common::release::PackageVersion;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};
use zstd::stream::write::Decoder;

use super::fetch::blocking;
use super::refused;
use crate::files::{Files, Upload};

/// Pushes at once. Each holds a manifest of up to 32 MiB or a compressor, and a thread.
const UPLOADS_MAX: usize = 8;

/// When an operator's program that was not admitted is to come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Pieces that wait for the disk, of at most 64 KiB.
const PIECES_AHEAD: usize = 16;

/// Largest window that a compressed upload may ask us to keep, as a power of two: 128 MiB, what zstd's
/// own tool takes without being told more.
const WINDOW_LOG_MAX: u32 = 27;

/// The one door for bytes that come in.
#[derive(Debug)]
pub struct Transfers {
    files: Files,
    admitted: Arc<Semaphore>,
}

impl Transfers {
    pub fn new(files: Files) -> Self {
        Self { files, admitted: Arc::new(Semaphore::new(UPLOADS_MAX)) }
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.admitted.clone().try_acquire_owned().map_err(|_| {
            let what = format!("{UPLOADS_MAX} uploads are under way");
            let refusal = Refusal::new(Code::Busy, what, "try again when one of them has ended");
            houston_common::api::status::to_status_with_retry(&refusal, RETRY_AFTER)
        })
    }

    /// Stores a package's manifests and says which of their files are not here. E-BUSY, E-FIELD,
    /// E-TREE-…, E-ART-DIGEST, E-ART-MISSING for a tree without a manifest, E-DISK-SPACE.
    pub async fn package_start(
        &self,
        mut stream: Streaming<wire::PackageStartRequest>,
    ) -> Result<Vec<FileWanted>, Status> {
        let _permit = self.admit()?;
        let header = next::<PackageStart, _>(&mut stream).await?;
        let Some(PackageStart::Header(package)) = header else {
            return Err(out_of_order("the header comes first"));
        };
        let trees: BTreeSet<TreeDigest> = package.trees.values().copied().collect();
        let mut current: Option<(TreeDigest, Vec<u8>)> = None;
        while let Some(part) = next::<PackageStart, _>(&mut stream).await? {
            let PackageStart::Manifest { tree, data, last } = part else {
                return Err(out_of_order("there is one header"));
            };
            let (whole, mut text) = current.take().unwrap_or_else(|| (tree, Vec::new()));
            if whole != tree || !trees.contains(&tree) {
                return Err(out_of_order(
                    "a manifest's pieces follow one another, and are of the header's trees",
                ));
            }
            if text.len() + data.len() > MANIFEST_BYTES_MAX {
                let what = format!("the manifest of tree {tree} is above {MANIFEST_BYTES_MAX} bytes");
                return Err(refused(&Refusal::new(Code::TreeLimit, what, "split the package")));
            }
            text.extend_from_slice(&data);
            if last {
                self.store_manifest(tree, text).await.map_err(|refusal| refused(&refusal))?;
            } else {
                current = Some((tree, text));
            }
        }
        if current.is_some() {
            return Err(out_of_order("the last manifest does not end"));
        }
        let files = self.files.clone();
        blocking(move || wanted(&files, &trees)).await.map_err(|refusal| refused(&refusal))
    }

    async fn store_manifest(&self, tree: TreeDigest, text: Vec<u8>) -> Result<(), Refusal> {
        if Digest::of(&text) != *tree.digest() {
            let what = format!("the manifest that was sent is not that of tree {tree}");
            return Err(Refusal::new(Code::FileDigest, what, "build the package again"));
        }
        let files = self.files.clone();
        blocking(move || files.put_manifest(&text).map(drop)).await
    }

    /// Stores files as their pieces come. E-BUSY, E-FIELD, E-ART-…, E-DISK-SPACE; files that were
    /// stored before stay.
    pub async fn upload_files(&self, mut stream: Streaming<wire::FileUpload>) -> Result<Uploaded, Status> {
        let permit = self.admit()?;
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let files = self.files.clone();
        let storing = tokio::spawn(blocking(move || {
            let _permit = permit;
            store_files(&files, receiver)
        }));
        let received = receive(&mut stream, pieces).await;
        let stored = storing.await.unwrap_or_else(|_| Err(Refusal::internal("storing files panicked")));
        // What the stream broke with comes first: that it ends in the middle of a file is its consequence.
        received?;
        stored.map_err(|refusal| refused(&refusal))
    }

    /// Bytes of a package whose trees are all here, each tree counted whole. E-ART-MISSING.
    pub async fn complete(&self, package: &PackageVersion) -> Result<u64, Refusal> {
        let (files, trees) = (self.files.clone(), package.trees.clone());
        let name = format!("{} {}", package.name, package.version);
        blocking(move || {
            let mut bytes: u64 = 0;
            for tree in trees.values() {
                // Spares it from collection until the package refers to it.
                files.has_manifest(tree)?;
                let manifest = Manifest::parse(&files.manifest(tree)?)?;
                bytes = bytes.saturating_add(manifest.total_bytes());
            }
            let missing = wanted(&files, &trees.values().copied().collect())?;
            if missing.is_empty() {
                return Ok(bytes);
            }
            let what = format!("{} files of package {name} are not stored", missing.len());
            Err(Refusal::new(Code::FileMissing, what, "push the package again"))
        })
        .await
    }
}

/// The next part of a stream, or nothing at its end. A sender that pauses for too long has left.
async fn next<D, M>(stream: &mut Streaming<M>) -> Result<Option<D>, Status>
where
    D: Wire<Message = M>,
{
    match tokio::time::timeout(STREAM_IDLE_MAX, stream.message()).await {
        Ok(message) => message?.map(D::from_wire).transpose().map_err(invalid_field),
        Err(_) => {
            let what = format!("nothing was sent for {} s", STREAM_IDLE_MAX.as_secs());
            Err(refused(&Refusal::new(Code::Timeout, what, "check the network, then push again")))
        }
    }
}

/// Hands pieces on until the stream ends well. The channel ends with this, however it ends.
async fn receive(
    stream: &mut Streaming<wire::FileUpload>,
    pieces: mpsc::Sender<Option<FileUpload>>,
) -> Result<(), Status> {
    while let Some(piece) = next::<FileUpload, _>(stream).await? {
        if pieces.send(Some(piece)).await.is_err() {
            // Storing has ended: its result says why.
            return Ok(());
        }
    }
    let _ = pieces.send(None).await;
    Ok(())
}

fn out_of_order(rule: &str) -> Status {
    let what = format!("the parts of the request are out of order: {rule}");
    refused(&Refusal::new(Code::Field, what, "use programs of versions that fit each other"))
}

/// Files of these trees that are not here, each once.
fn wanted(files: &Files, trees: &BTreeSet<TreeDigest>) -> Result<Vec<FileWanted>, Refusal> {
    let mut lengths: BTreeMap<FileDigest, u64> = BTreeMap::new();
    for tree in trees {
        let manifest = Manifest::parse(&files.manifest(tree)?)?;
        lengths.extend(manifest.files().map(|(_, _, length, digest)| (digest, length)));
    }
    let digests: Vec<FileDigest> = lengths.keys().copied().collect();
    let missing = files.missing(&digests)?.into_iter();
    Ok(missing.map(|digest| FileWanted { digest, length: lengths[&digest] }).collect())
}

/// Takes pieces until there are no more. `None` is the end of the stream, as against a broken one.
fn store_files(files: &Files, mut pieces: mpsc::Receiver<Option<FileUpload>>) -> Result<Uploaded, Refusal> {
    let mut uploaded = Uploaded { files: 0, bytes: 0 };
    let mut current: Option<Incoming> = None;
    loop {
        match pieces.blocking_recv() {
            Some(Some(piece)) => {
                let mut incoming = match current.take() {
                    Some(incoming) => incoming.follow(&piece)?,
                    None => Incoming::start(files, &piece)?,
                };
                incoming.write(&piece.data)?;
                if piece.last {
                    let length = incoming.length;
                    if incoming.finish()? {
                        uploaded.files += 1;
                        uploaded.bytes = uploaded.bytes.saturating_add(length);
                    }
                } else {
                    current = Some(incoming);
                }
            }
            Some(None) if current.is_none() => return Ok(uploaded),
            Some(None) | None => {
                return Err(Refusal::new(
                    Code::FileLength,
                    "the upload ended in the middle of a file",
                    "push again",
                ));
            }
        }
    }
}

/// A file whose pieces are coming.
struct Incoming {
    digest: FileDigest,
    length: u64,
    encoding: Encoding,
    sink: Sink,
}

enum Sink {
    /// It is here already: taken and dropped.
    Nowhere,
    Plain(Upload),
    Zstd(Decoder<'static, Decoded>),
}

impl Incoming {
    fn start(files: &Files, piece: &FileUpload) -> Result<Self, Refusal> {
        let FileUpload { digest, length, encoding, .. } = *piece;
        let sink = if files.has(&digest)? {
            Sink::Nowhere
        } else {
            let upload = files.put_file(digest, length)?;
            match encoding {
                Encoding::Identity => Sink::Plain(upload),
                Encoding::Zstd => Sink::Zstd(decoder(upload)?),
            }
        };
        Ok(Self { digest, length, encoding, sink })
    }

    fn follow(self, piece: &FileUpload) -> Result<Self, Refusal> {
        if (self.digest, self.length, self.encoding) == (piece.digest, piece.length, piece.encoding) {
            return Ok(self);
        }
        let what = format!("a piece of another file comes before the end of file {}", self.digest);
        Err(Refusal::new(Code::Field, what, "use programs of versions that fit each other"))
    }

    fn write(&mut self, data: &Bytes) -> Result<(), Refusal> {
        match &mut self.sink {
            Sink::Nowhere => Ok(()),
            Sink::Plain(upload) => upload.write(data),
            Sink::Zstd(decoder) => {
                io::Write::write_all(decoder, data).map_err(|error| undecoded(decoder, &error))
            }
        }
    }

    /// Whether it is stored now and was not before.
    fn finish(self) -> Result<bool, Refusal> {
        match self.sink {
            Sink::Nowhere => Ok(false),
            Sink::Plain(upload) => upload.finish().map(|()| true),
            Sink::Zstd(mut decoder) => {
                io::Write::flush(&mut decoder).map_err(|error| undecoded(&mut decoder, &error))?;
                decoder.into_inner().upload.finish().map(|()| true)
            }
        }
    }
}

/// Where decoded bytes go: an upload takes no more than the length that was named, so that nothing
/// small grows large here.
struct Decoded {
    upload: Upload,
    refusal: Option<Refusal>,
}

impl io::Write for Decoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.upload.write(bytes).map(|()| bytes.len()).map_err(|refusal| {
            self.refusal = Some(refusal);
            io::ErrorKind::Other.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decoder(upload: Upload) -> Result<Decoder<'static, Decoded>, Refusal> {
    let fail = |error: io::Error| Refusal::internal(format!("no decoder: {error}"));
    let mut decoder = Decoder::new(Decoded { upload, refusal: None }).map_err(fail)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(fail)?;
    Ok(decoder)
}

fn undecoded(decoder: &mut Decoder<'static, Decoded>, error: &io::Error) -> Refusal {
    decoder.get_mut().refusal.take().unwrap_or_else(|| {
        let what = format!("a compressed file cannot be decoded: {error}");
        Refusal::new(Code::FileDigest, what, "build and push the package again")
    })
}

#[cfg(test)]
mod tests;
