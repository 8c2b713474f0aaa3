use houston_common::exchange::CHUNK_BYTES_MAX;

use super::*;
use crate::files::Reserve;

fn contents() -> Vec<u8> {
    (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

fn pieces(digest: FileDigest, length: u64, encoding: Encoding, stream: &[u8]) -> Vec<Option<FileUpload>> {
    let chunks = stream.chunks(CHUNK_BYTES_MAX);
    let count = chunks.len();
    let piece = |(i, data): (usize, &[u8])| {
        Some(FileUpload {
            digest,
            length,
            encoding,
            data: Bytes::copy_from_slice(data),
            last: i + 1 == count,
        })
    };
    chunks.enumerate().map(piece).collect()
}

fn store(files: &Files, pieces: Vec<Option<FileUpload>>) -> Result<Uploaded, Refusal> {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).expect("room");
    }
    drop(sender);
    store_files(files, receiver)
}

#[test]
fn files_are_stored_whatever_their_encoding() {
    let directory = tempfile::tempdir().expect("directory");
    let files = Files::open(directory.path(), Reserve::Bytes(0)).expect("files");
    let contents = contents();
    let (first, second) = contents.split_at(300_000);
    let mut sent = Vec::new();
    for (part, encoding) in [(first, Encoding::Identity), (second, Encoding::Zstd)] {
        let digest = FileDigest(Digest::of(part));
        let stream = match encoding {
            Encoding::Identity => part.to_vec(),
            Encoding::Zstd => zstd::encode_all(part, 3).expect("compress"),
        };
        sent.extend(pieces(digest, part.len() as u64, encoding, &stream));
    }
    sent.push(None);
    let uploaded = store(&files, sent.clone()).expect("stored");
    assert_eq!(uploaded, Uploaded { files: 2, bytes: contents.len() as u64 });
    for part in [first, second] {
        assert!(files.has(&FileDigest(Digest::of(part))).expect("look"));
    }
    assert_eq!(store(&files, sent).expect("taken and dropped"), Uploaded { files: 0, bytes: 0 });
}

#[test]
fn what_is_wrong_is_not_stored() {
    let directory = tempfile::tempdir().expect("directory");
    let files = Files::open(directory.path(), Reserve::Bytes(0)).expect("files");
    let contents = contents();
    let length = contents.len() as u64;
    let digest = FileDigest(Digest::of(&contents));
    let good = pieces(digest, length, Encoding::Identity, &contents);
    let packed = zstd::encode_all(&contents[..], 3).expect("compress");
    let bomb = zstd::encode_all(&vec![0; 50 << 20][..], 3).expect("compress");
    let mut mixed = good.clone();
    if let Some(Some(piece)) = mixed.get_mut(1) {
        piece.digest = FileDigest(Digest::of(b"another"));
    }
    let ended = |mut pieces: Vec<Option<FileUpload>>| {
        pieces.push(None);
        pieces
    };
    let cases = [
        ("broken off", good[..3].to_vec(), Code::FileLength),
        ("ended early", ended(good[..3].to_vec()), Code::FileLength),
        ("too short", ended(pieces(digest, length + 1, Encoding::Identity, &contents)), Code::FileLength),
        ("too long", ended(pieces(digest, length - 1, Encoding::Identity, &contents)), Code::FileLength),
        (
            "other contents",
            ended(pieces(FileDigest(Digest::of(b"other")), length, Encoding::Identity, &contents)),
            Code::FileDigest,
        ),
        ("two files at once", ended(mixed), Code::Field),
        ("no zstd", ended(pieces(digest, length, Encoding::Zstd, &contents)), Code::FileDigest),
        (
            "half of a frame",
            ended(pieces(digest, length, Encoding::Zstd, &packed[..packed.len() / 2])),
            Code::FileLength,
        ),
        ("a bomb", ended(pieces(digest, 1000, Encoding::Zstd, &bomb)), Code::FileLength),
    ];
    for (what, pieces, code) in cases {
        let refusal = store(&files, pieces).expect_err(what);
        assert_eq!(refusal.code, code, "{what}: {refusal}");
        assert!(!files.has(&digest).expect("look"), "{what}");
    }
    let left = std::fs::read_dir(directory.path().join("incoming")).expect("list").count();
    assert_eq!(left, 0, "nothing half done stays");
}
