use houston_common::digest::Digest;

use super::*;

fn blobs() -> (tempfile::TempDir, Blobs) {
    let temp = tempfile::tempdir().expect("directory");
    let blobs = Blobs::open(temp.path()).expect("blobs");
    (temp, blobs)
}

fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest(Digest::of(bytes))
}

fn names(blobs: &Blobs) -> Vec<String> {
    blobs.dir().names().expect("names").iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("encoded")
}

#[test]
fn contents_are_kept_only_if_they_are_what_was_named() {
    let (_temp, blobs) = blobs();
    let bytes = b"contents".repeat(1000);
    let (name, length) = (digest(&bytes), bytes.len() as u64);
    for (encoding, stored) in [(Encoding::Identity, bytes.clone()), (Encoding::Zstd, zstd(&bytes))] {
        blobs.put(&name, length, encoding, &*stored).expect("put");
        assert!(blobs.has(&name, length) && !blobs.has(&name, length + 1));
        let path = blobs.find(&name).expect("path");
        assert_eq!(std::fs::read(path).expect("read"), bytes);
    }
    let other = digest(b"other");
    for (encoding, stored, length, code) in [
        (Encoding::Identity, bytes.clone(), length, Code::FileDigest),
        (Encoding::Zstd, zstd(&bytes), length - 1, Code::FileLength),
        (Encoding::Zstd, zstd(&bytes), length + 1, Code::FileLength),
        (Encoding::Zstd, b"no frame".to_vec(), length, Code::FileDigest),
        (Encoding::Zstd, zstd(&bytes)[..20].to_vec(), length, Code::FileDigest),
        (Encoding::Identity, Vec::new(), length, Code::FileLength),
    ] {
        assert_eq!(blobs.put(&other, length, encoding, &*stored).expect_err("refused").code, code);
    }
    assert_eq!(names(&blobs), [name.to_string()], "nothing is left of what was refused");
}

#[test]
fn a_bomb_is_decoded_to_the_named_length_and_no_further() {
    let (_temp, blobs) = blobs();
    let bomb = zstd(&vec![0; 256 << 20]);
    let refusal = blobs.put(&digest(b""), 1000, Encoding::Zstd, &*bomb).expect_err("refused");
    assert_eq!(refusal.code, Code::FileLength);
    assert_eq!(names(&blobs), Vec::<String>::new());
}

#[test]
fn parts_are_found_again_and_completed() {
    let (temp, blobs) = blobs();
    let bytes = b"contents".repeat(1000);
    let (name, length) = (digest(&bytes), bytes.len() as u64);
    let encoded = zstd(&bytes);
    let stored = Stored { encoding: Encoding::Zstd, length: encoded.len() as u64 };
    let append = |blobs: &Blobs, piece: &[u8]| {
        io::Write::write_all(&mut blobs.append(&name, stored).expect("part"), piece).expect("written");
    };
    append(&blobs, &encoded[..10]);
    let blobs = Blobs::open(temp.path()).expect("opened by the next agent");
    assert_eq!(blobs.parts().expect("parts"), BTreeMap::from([(name, Part { stored, bytes: 10 })]));
    assert!(!blobs.has(&name, length));
    append(&blobs, &encoded[10..]);
    blobs.complete(&name, length, stored).expect("completed");
    assert!(blobs.has(&name, length));
    assert!(blobs.parts().expect("parts").is_empty());
    // One that is damaged is dropped, so that it starts anew.
    append(&blobs, &encoded[1..]);
    append(&blobs, b"x");
    blobs.complete(&name, length, stored).expect_err("damaged");
    assert!(blobs.parts().expect("parts").is_empty());
}

#[test]
fn only_what_is_referred_to_is_kept_and_damage_is_found() {
    let (_temp, blobs) = blobs();
    let files: Vec<FileDigest> = [b"one", b"two", b"six"].map(|bytes| digest(bytes)).to_vec();
    for (file, bytes) in files.iter().zip([b"one", b"two", b"six"]) {
        blobs.put(file, 3, Encoding::Identity, &bytes[..]).expect("put");
    }
    let stored = Stored { encoding: Encoding::Identity, length: 3 };
    blobs.append(&digest(b"ten"), stored).expect("part");
    let manifest = Manifest::from_entries(Vec::new()).expect("manifest");
    blobs.put_manifest(&manifest).expect("manifest");
    assert_eq!(blobs.manifest(&manifest.digest()), Some(manifest.clone()));
    blobs.keep(&BTreeSet::from([files[0], files[1]]), &BTreeSet::from([manifest.digest()])).expect("kept");
    assert_eq!(names(&blobs).len(), 3);
    assert!(!blobs.has(&files[2], 3));
    std::fs::write(blobs.find(&files[0]).expect("path"), "ONE").expect("damage");
    blobs.remove_damaged([(files[0], 3), (files[1], 3)]).expect("looked at");
    assert!(!blobs.has(&files[0], 3) && blobs.has(&files[1], 3));
    blobs.keep(&BTreeSet::new(), &BTreeSet::new()).expect("nothing kept");
    assert_eq!(names(&blobs), Vec::<String>::new());
}
