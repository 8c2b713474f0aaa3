use bytes::Bytes;
use houston_common::digest::Digest;
use houston_common::manifest::{Entry, FileMode, Node};

use super::*;

struct Bench {
    _temp: tempfile::TempDir,
    blobs: Blobs,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("directory");
        Self { blobs: Blobs::open(temp.path()).expect("blobs"), _temp: temp }
    }

    /// Receives these pieces as a stream would bring them; false if the file is to be asked for anew.
    fn receive(&self, need: &FileNeed, chunks: &[FileChunk]) -> Result<bool, Refusal> {
        let parts = self.blobs.parts()?;
        let Some(mut file) = Receiving::begin(&self.blobs, need, parts.get(&need.digest), &chunks[0])? else {
            return Ok(false);
        };
        chunks.iter().try_for_each(|chunk| file.take(&self.blobs, need, chunk))?;
        Ok(true)
    }

    fn need(&self, bytes: &[u8]) -> FileNeed {
        let digest = FileDigest(Digest::of(bytes));
        let parts = self.blobs.parts().expect("parts");
        let stored_offset = parts.get(&digest).map_or(0, |part| part.bytes);
        FileNeed { digest, length: bytes.len() as u64, stored_offset }
    }
}

/// The stored bytes from an offset on, in pieces.
fn chunks(stored: &[u8], encoding: Encoding, offset: usize, piece: usize) -> Vec<FileChunk> {
    let mut at = offset;
    let mut chunks = Vec::new();
    loop {
        let end = (at + piece).min(stored.len());
        let last = end == stored.len();
        chunks.push(FileChunk {
            index: 0,
            stored_offset: at as u64,
            encoding,
            stored_length: stored.len() as u64,
            data: Bytes::copy_from_slice(&stored[at..end]),
            last,
        });
        if last {
            return chunks;
        }
        at = end;
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length.div_ceil(32)).flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes()).take(length).collect()
}

#[test]
fn files_come_whole_in_pieces_and_resumed() {
    for length in [0, 1, 1000, 200_000] {
        let bytes = noise(length);
        let stored = zstd::encode_all(&*bytes, 3).expect("encoded");
        for piece in [1 << 20, 64 << 10, 100] {
            let bench = Bench::new();
            let need = bench.need(&bytes);
            let all = chunks(&stored, Encoding::Zstd, 0, piece);
            if all.len() > 1 {
                let cut = all.len() / 2;
                assert_eq!(bench.receive(&need, &all[..cut]), Ok(true));
                let need = bench.need(&bytes);
                assert_eq!(need.stored_offset, (cut * piece) as u64);
                let rest = chunks(&stored, Encoding::Zstd, cut * piece, piece);
                assert_eq!(bench.receive(&need, &rest), Ok(true));
            } else {
                assert_eq!(bench.receive(&need, &all), Ok(true));
            }
            assert!(bench.blobs.has(&need.digest, need.length), "{length} in pieces of {piece}");
            assert!(bench.blobs.parts().expect("parts").is_empty());
        }
    }
}

#[test]
fn all_but_the_last_word_is_here() {
    let bench = Bench::new();
    let bytes = noise(1000);
    let mut pieces = chunks(&bytes, Encoding::Identity, 0, 1000);
    pieces[0].last = false;
    assert_eq!(bench.receive(&bench.need(&bytes), &pieces), Ok(true));
    let need = bench.need(&bytes);
    assert_eq!(need.stored_offset, 1000);
    assert_eq!(bench.receive(&need, &chunks(&bytes, Encoding::Identity, 1000, 1000)), Ok(true));
    assert!(bench.blobs.has(&need.digest, 1000));
}

#[test]
fn a_file_that_was_stored_anew_starts_anew() {
    let bytes = noise(100_000);
    let (old, new) = (zstd::encode_all(&*bytes, 3).expect("old"), bytes.clone());
    // The coordinator goes on at the offset that was asked for, or from the start.
    for offset in [30_000, 0] {
        let bench = Bench::new();
        assert_eq!(
            bench.receive(&bench.need(&bytes), &chunks(&old, Encoding::Zstd, 0, 30_000)[..1]),
            Ok(true)
        );
        let need = bench.need(&bytes);
        assert_eq!(need.stored_offset, 30_000);
        let goes_on = bench.receive(&need, &chunks(&new, Encoding::Identity, offset, 64 << 10));
        assert_eq!(goes_on, Ok(offset == 0));
        if offset > 0 {
            assert_eq!(bench.need(&bytes).stored_offset, 0, "the old part is of no use");
            assert_eq!(
                bench.receive(&bench.need(&bytes), &chunks(&new, Encoding::Identity, 0, 64 << 10)),
                Ok(true)
            );
        }
        assert!(bench.blobs.has(&need.digest, need.length));
    }
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let bench = Bench::new();
    let bytes = noise(1000);
    let good = chunks(&bytes, Encoding::Identity, 0, 600);
    let need = bench.need(&bytes);
    let code = |chunks: Vec<FileChunk>| bench.receive(&need, &chunks).expect_err("refused").code;
    let with = |change: &dyn Fn(&mut FileChunk)| {
        let mut chunks = good.clone();
        chunks.iter_mut().for_each(change);
        chunks
    };
    assert_eq!(code(with(&|chunk| chunk.stored_length = 999)), Code::FileLength, "not the named length");
    assert_eq!(code(with(&|chunk| chunk.last = true)), Code::FileLength, "too short");
    let huge = |chunk: &mut FileChunk| (chunk.encoding, chunk.stored_length) = (Encoding::Zstd, 1 << 40);
    assert_eq!(code(with(&huge)), Code::FileLength, "too much for the named length");
    let long = FileChunk { stored_offset: 600, ..good[0].clone() };
    assert_eq!(code(vec![good[0].clone(), long]), Code::FileLength, "too long");
    let mut wrong = chunks(&noise(1001)[1..], Encoding::Identity, 0, 600);
    wrong[1].last = true;
    bench
        .blobs
        .keep(&std::collections::BTreeSet::new(), &std::collections::BTreeSet::new())
        .expect("emptied");
    assert_eq!(code(wrong), Code::FileDigest, "other contents");
    assert!(bench.blobs.parts().expect("parts").is_empty() && !bench.blobs.has(&need.digest, 1000));
}

#[test]
fn each_missing_file_is_needed_once() {
    let manifest = |files: &[(&str, &[u8])]| {
        let entries = files.iter().map(|(path, bytes)| Entry {
            path: (*path).to_owned(),
            node: Node::File {
                mode: FileMode::Plain,
                length: bytes.len() as u64,
                digest: FileDigest(Digest::of(bytes)),
            },
        });
        Manifest::from_entries(entries.collect()).expect("manifest")
    };
    let manifests =
        [manifest(&[("a", b"one"), ("b", b"two"), ("c", b"one")]), manifest(&[("a", b"two"), ("z", b"3")])];
    let here = FileDigest(Digest::of(b"3"));
    let needed: Vec<_> = missing(&manifests, |digest, _| *digest == here);
    let digests = [b"one", b"two"].map(|bytes| (FileDigest(Digest::of(bytes)), 3));
    assert_eq!(needed, digests);
}
