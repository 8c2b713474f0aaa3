//! Uploads a package: manifests first, then only the files that the coordinator lacks.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use houston_common::api::client::OperatorClient;
use houston_common::command::{FileUpload, FileWanted, PackageFinish, Uploaded};
use houston_common::digest::FileDigest;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{CHUNK_BYTES_MAX, Encoding};
use houston_common::release::PackageVersion;
use houston_common::view::PackageView;
use tokio::sync::mpsc;

use crate::build::{BuiltPackage, Content};
use crate::console::Console;
use crate::render;
use crate::toml_file::shown;

/// Pieces on their way: enough to keep the network busy while the next file is read, 1 MiB at most.
const PIECES_AHEAD: usize = 16;
/// Small against the network's time, and most of what higher levels save.
const ZSTD_LEVEL: i32 = 3;
/// Often enough to see that it moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// In a pipe, where each is a line of a log.
const PROGRESS_LINE_EVERY: Duration = Duration::from_secs(10);

/// Pushes a package. Says what was uploaded beside what the package is now.
pub async fn push(
    client: &OperatorClient,
    console: &mut Console<'_>,
    built: BuiltPackage,
    reason: String,
) -> Result<(PackageView, Uploaded), Refusal> {
    let mut package = PackageVersion { name: built.name, version: built.version, trees: BTreeMap::new() };
    let (mut manifests, mut contents) = (BTreeMap::new(), BTreeMap::new());
    for tree in built.trees {
        package.trees.insert(tree.platform, tree.digest);
        manifests.insert(tree.digest, Bytes::from(tree.manifest_bytes));
        contents.extend(tree.contents);
    }
    let wanted = client.package_start(&package, manifests).await?;
    let uploaded = if wanted.is_empty() {
        Uploaded { files: 0, bytes: 0 }
    } else {
        upload(client, console, files(&wanted, &contents)?).await?
    };
    let view = client.package_finish(&PackageFinish { package, reason }).await?;
    Ok((view, uploaded))
}

/// Where the wanted files lie.
fn files(
    wanted: &[FileWanted],
    contents: &BTreeMap<FileDigest, Content>,
) -> Result<Vec<(FileDigest, Content)>, Refusal> {
    let find = |wanted: &FileWanted| match contents.get(&wanted.digest) {
        Some(content) => Ok((wanted.digest, content.clone())),
        None => Err(Refusal::internal(format!(
            "the coordinator wants a file that no manifest names: {}",
            wanted.digest
        ))),
    };
    wanted.iter().map(find).collect()
}

#[derive(Debug, Default)]
struct Sent {
    files: AtomicU32,
    bytes: AtomicU64,
}

async fn upload(
    client: &OperatorClient,
    console: &mut Console<'_>,
    files: Vec<(FileDigest, Content)>,
) -> Result<Uploaded, Refusal> {
    let total = (files.len() as u32, files.iter().map(|(_, content)| content.length).sum::<u64>());
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let sent = Arc::new(Sent::default());
    let counted = Arc::clone(&sent);
    let reading = tokio::task::spawn_blocking(move || send_all(&files, &sender, &counted));
    let started = Instant::now();
    let in_place = console.terminal().is_some();
    let every = if in_place { PROGRESS_EVERY } else { PROGRESS_LINE_EVERY };
    // The first one later: a short upload says nothing but that it is done.
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut answer = std::pin::pin!(client.upload_files(pieces));
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            _ = tick.tick() => {
                let so_far = (sent.files.load(Ordering::Relaxed), sent.bytes.load(Ordering::Relaxed));
                let line = render::release::progress((so_far.0, total.0), (so_far.1, total.1), started.elapsed());
                if in_place { console.progress(&line) } else { console.note(&line) }
            }
        }
    };
    if in_place {
        console.progress("");
    }
    // A file that could not be read is the cause of whatever the coordinator made of its absence.
    let read = reading.await.map_err(|error| Refusal::internal(format!("reading files ended: {error}")))?;
    read.and(answer)
}

/// Reads, compresses and hands over each file. Ends early, without an error of its own, when nobody
/// takes the pieces any more.
fn send_all(
    files: &[(FileDigest, Content)],
    sender: &mpsc::Sender<FileUpload>,
    sent: &Sent,
) -> Result<(), Refusal> {
    for (digest, content) in files {
        let mut pieces = Pieces { digest: *digest, length: content.length, pending: VecDeque::new(), sender };
        match send(content, &mut pieces, sent) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => {
                let what = format!("cannot read {}: {error}", shown(&content.path));
                return Err(Refusal::new(Code::Io, what, "build and push again"));
            }
        }
        sent.files.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn send(content: &Content, pieces: &mut Pieces<'_>, sent: &Sent) -> io::Result<()> {
    // One byte more than expected shows the coordinator that the file has grown; more is not read.
    let mut file = File::open(&content.path)?.take(content.length.saturating_add(1));
    let mut encoder = zstd::stream::write::Encoder::new(&mut *pieces, ZSTD_LEVEL)?;
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        encoder.write_all(&buffer[..read])?;
        sent.bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
    encoder.finish()?;
    pieces.end()
}

/// Cuts what is written into pieces of one file.
struct Pieces<'a> {
    digest: FileDigest,
    length: u64,
    pending: VecDeque<u8>,
    sender: &'a mpsc::Sender<FileUpload>,
}

impl Pieces<'_> {
    fn hand_over(&mut self, bytes: usize, last: bool) -> io::Result<()> {
        let data: Vec<u8> = self.pending.drain(..bytes).collect();
        let piece = FileUpload {
            digest: self.digest,
            length: self.length,
            encoding: Encoding::Zstd,
            data: data.into(),
            last,
        };
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&mut self) -> io::Result<()> {
        self.hand_over(self.pending.len(), true)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend(bytes);
        while self.pending.len() > CHUNK_BYTES_MAX {
            self.hand_over(CHUNK_BYTES_MAX, false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use houston_common::digest::Digest;

    use super::*;

    /// The pieces of files with these contents, in the order in which they were sent.
    fn pieces_of(contents: &[Vec<u8>]) -> (Vec<FileUpload>, Result<(), Refusal>) {
        let directory = tempfile::tempdir().expect("directory");
        let files: Vec<_> = contents
            .iter()
            .enumerate()
            .map(|(i, bytes)| {
                let path = directory.path().join(i.to_string());
                std::fs::write(&path, bytes).expect("written");
                (FileDigest(Digest::of(bytes)), Content { path, length: bytes.len() as u64 })
            })
            .collect();
        let (sender, mut receiver) = mpsc::channel(1);
        let reading = std::thread::spawn(move || send_all(&files, &sender, &Sent::default()));
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            pieces.push(piece);
        }
        (pieces, reading.join().expect("no panic"))
    }

    #[test]
    fn files_arrive_whole_in_pieces_that_fit() {
        // Random enough not to compress into one piece.
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(3 * CHUNK_BYTES_MAX + 17)
        .collect();
        let contents = [noise, Vec::new(), b"hello".to_vec()];
        let (pieces, ended) = pieces_of(&contents);
        assert_eq!(ended, Ok(()));
        let mut rest = pieces.as_slice();
        for bytes in &contents {
            let end = rest.iter().position(|piece| piece.last).expect("a last piece") + 1;
            let (of_this, others) = rest.split_at(end);
            rest = others;
            let mut stored = Vec::new();
            for piece in of_this {
                assert_eq!((piece.digest, piece.length), (FileDigest(Digest::of(bytes)), bytes.len() as u64));
                assert!(piece.data.len() <= CHUNK_BYTES_MAX && (piece.last || !piece.data.is_empty()));
                stored.extend_from_slice(&piece.data);
            }
            assert_eq!(&zstd::stream::decode_all(stored.as_slice()).expect("one frame"), bytes);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let (sender, _receiver) = mpsc::channel(1);
        let content = Content { path: "/nowhere/file".into(), length: 1 };
        let refusal = send_all(&[(FileDigest(Digest::of(b"")), content)], &sender, &Sent::default())
            .expect_err("missing");
        assert!(refusal.what.contains("/nowhere/file"), "{refusal}");
    }

    #[test]
    fn sending_ends_when_nobody_takes_the_pieces() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let content = Content { path: file.path().into(), length: 0 };
        assert_eq!(send_all(&[(FileDigest(Digest::of(b"")), content)], &sender, &Sent::default()), Ok(()));
    }
}
