use std::os::unix::fs::FileExt as _;
use std::thread;

use houston_common::manifest::{Entry, FileMode, Node};

use super::*;

const RESERVE: Reserve = Reserve::Bytes(0);
const LONG: Duration = Duration::from_secs(3600);

struct Store {
    directory: tempfile::TempDir,
    files: Files,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path(), RESERVE).expect("opened");
        Self { directory, files }
    }

    /// As after a restart: what the process knew is gone.
    fn reopened(self) -> Self {
        let Self { directory, files } = self;
        drop(files);
        let files = Files::open(directory.path(), RESERVE).expect("opened");
        Self { directory, files }
    }

    fn put(&self, contents: &[u8]) -> FileDigest {
        let digest = digest_of(contents);
        let mut upload = self.files.put_file(digest, contents.len() as u64).expect("started");
        for chunk in contents.chunks(1000) {
            upload.write(chunk).expect("written");
        }
        upload.finish().expect("stored");
        digest
    }

    fn put_tree(&self, contents: &[&[u8]]) -> TreeDigest {
        let files = contents.iter().map(|contents| (self.put(contents), contents.len()));
        self.files.put_manifest(&manifest_of(files.collect()).to_bytes()).expect("stored")
    }

    /// What a host would get.
    fn get(&self, digest: &FileDigest) -> Result<Vec<u8>, Refusal> {
        let stored = self.files.open_stored(digest)?;
        let mut stream = vec![0; usize::try_from(stored.stored_bytes).expect("small")];
        assert_eq!(stored.read_at(&mut stream, 0).expect("read"), stream.len());
        let contents = zstd::decode_all(&stream[..]).expect("a zstd stream");
        assert_eq!(contents.len() as u64, stored.length);
        Ok(contents)
    }

    fn in_directory(&self, name: &str) -> usize {
        fs::read_dir(self.directory.path().join(name)).expect("listed").count()
    }
}

fn digest_of(contents: &[u8]) -> FileDigest {
    FileDigest(Digest::of(contents))
}

fn manifest_of(files: Vec<(FileDigest, usize)>) -> Manifest {
    let entry = |(i, (digest, length)): (usize, (FileDigest, usize))| Entry {
        path: format!("f{i}"),
        node: Node::File { mode: FileMode::Plain, length: length as u64, digest },
    };
    Manifest::from_entries(files.into_iter().enumerate().map(entry).collect()).expect("valid")
}

/// Neither constant nor compressible; the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Code {
    result.expect_err("refused").code
}

#[test]
fn what_is_put_is_served_after_a_restart_too() {
    let store = Store::new();
    let contents = [Vec::new(), b"x".to_vec(), vec![b'a'; 1 << 20], noise((1 << 20) + 7)];
    let digests: Vec<FileDigest> = contents.iter().map(|contents| store.put(contents)).collect();
    let store = store.reopened();
    for (digest, contents) in digests.iter().zip(&contents) {
        assert!(store.files.has(digest).expect("looked"));
        assert_eq!(store.get(digest).expect("served"), *contents);
        // The file as it lies on disk is what `zstd -d` reads.
        let raw = fs::read(store.files.object_path(digest)).expect("read");
        assert_eq!(zstd::decode_all(&raw[..]).expect("a zstd stream"), *contents);
    }
    assert_eq!(store.in_directory(INCOMING), 0);
}

#[test]
fn a_stream_can_be_taken_up_at_any_offset() {
    let store = Store::new();
    let contents = noise(300_000);
    let stored = store.files.open_stored(&store.put(&contents)).expect("served");
    let mut stream = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stored.read_at(&mut buffer, stream.len() as u64).expect("read") {
            0 => break,
            n => stream.extend(&buffer[..n]),
        }
    }
    assert_eq!(stream.len() as u64, stored.stored_bytes);
    assert_eq!(zstd::decode_all(&stream[..]).expect("a zstd stream"), contents);
    assert_eq!(stored.read_at(&mut buffer, u64::MAX).expect("past the end"), 0);
}

#[test]
fn missing_names_each_missing_file_once_in_order() {
    let store = Store::new();
    let here = store.put(b"here");
    let (a, b) = (digest_of(b"a"), digest_of(b"b"));
    assert_eq!(store.files.missing(&[b, here, a, b, here]).expect("looked"), [b, a]);
    assert_eq!(code(store.files.open_stored(&a)), Code::FileMissing);
    assert_eq!(code(store.files.manifest(&TreeDigest(a.0))), Code::FileMissing);
}

#[test]
fn an_upload_that_is_not_what_was_named_leaves_nothing() {
    let store = Store::new();
    let named = digest_of(b"named");
    let start = |length| store.files.put_file(named, length).expect("started");

    let mut wrong = start(5);
    wrong.write(b"other").expect("written");
    let refusal = wrong.finish().expect_err("wrong contents");
    assert_eq!(refusal.code, Code::FileDigest);
    assert!(
        refusal.what.contains(&named.to_string()) && refusal.what.contains(&digest_of(b"other").to_string())
    );

    let mut long = start(4);
    assert_eq!(code(long.write(b"named")), Code::FileLength);
    drop(long);
    let mut late = start(5);
    late.write(b"named").expect("written");
    assert_eq!(code(late.write(b"!")), Code::FileLength);
    drop(late);
    let mut short = start(6);
    short.write(b"named").expect("written");
    assert_eq!(code(short.finish()), Code::FileLength);
    assert_eq!(code(start(1).finish()), Code::FileLength);
    assert_eq!(code(start(0).finish()), Code::FileDigest);
    let mut broken_off = start(5);
    broken_off.write(b"nam").expect("written");
    assert_eq!(store.in_directory(INCOMING), 1);
    drop(broken_off);
    assert_eq!(code(store.files.put_file(named, u64::MAX)), Code::FileLength);

    assert_eq!(store.in_directory(INCOMING), 0);
    assert!(!store.files.has(&named).expect("looked"));
}

#[test]
fn a_crash_in_an_upload_leaves_nothing_after_the_restart() {
    let store = Store::new();
    let mut upload = store.files.put_file(digest_of(b"abc"), 3).expect("started");
    upload.write(b"ab").expect("written");
    // Never dropped, as in a crash.
    std::mem::forget(upload);
    assert_eq!(store.in_directory(INCOMING), 1);
    let store = store.reopened();
    assert_eq!(store.in_directory(INCOMING), 0);
    assert!(!store.files.has(&digest_of(b"abc")).expect("looked"));
}

#[test]
fn uploads_of_one_file_at_the_same_time_all_succeed() {
    let store = Store::new();
    let contents = noise(200_000);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.put(&contents));
        }
    });
    assert_eq!(store.get(&digest_of(&contents)).expect("served"), contents);
    assert_eq!(store.in_directory(INCOMING), 0);
}

#[test]
fn a_flipped_bit_in_any_byte_is_found_before_it_is_served() {
    let contents = b"some contents, short enough to flip every byte of what is stored";
    let mut store = Store::new();
    let digest = store.put(contents);
    let path = store.files.object_path(&digest);
    let length = fs::metadata(&path).expect("there").len();
    for at in 0..length {
        store = store.reopened();
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at).expect("written");
        assert_eq!(code(store.files.open_stored(&digest)), Code::FileDamaged, "byte {at}");
        assert_eq!(code(store.files.open_stored(&digest)), Code::FileMissing);
        assert_eq!(store.files.missing(&[digest]).expect("looked"), [digest]);
        assert_eq!(store.put(contents), digest);
        assert_eq!(store.get(&digest).expect("mended by a push"), contents);
    }
    assert_eq!(store.in_directory(DAMAGED), 1);
}

#[test]
fn truncated_extended_and_exchanged_files_are_damaged() {
    let store = Store::new();
    let contents = noise(10_000);
    let other = store.files.object_path(&store.put(b"other"));
    for damage in 0..4 {
        let digest = store.put(&contents);
        let path = store.files.object_path(&digest);
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        let length = file.metadata().expect("there").len();
        match damage {
            0 => file.set_len(0).expect("truncated"),
            1 => file.set_len(length - 1).expect("truncated"),
            2 => file.set_len(length + 1).expect("extended"),
            _ => drop(fs::copy(&other, &path).expect("copied")),
        }
        assert_eq!(code(store.files.open_stored(&digest)), Code::FileDamaged, "damage {damage}");
    }
}

#[test]
fn a_scrub_finds_damage_under_what_was_verified() {
    let store = Store::new();
    let (good, bad) = (store.put(b"good"), store.put(b"bad"));
    let tree = store.put_tree(&[b"good"]);
    let manifest = store.files.put_manifest(&manifest_of(vec![(bad, 3)]).to_bytes()).expect("stored");
    store.get(&bad).expect("verified");
    let damage = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("opened");
        file.write_all_at(b"?", file.metadata().expect("there").len() - 1).expect("written");
    };
    damage(&store.files.object_path(&bad));
    damage(&store.files.manifest_path(&manifest));
    let checked = (0..=u8::MAX).map(|first| store.files.scrub(first).expect("scrubbed")).sum::<u64>();
    assert_eq!(checked, 4);
    assert_eq!(store.files.missing(&[good, bad]).expect("looked"), [bad]);
    assert!(store.files.has_manifest(&tree).expect("looked"));
    assert_eq!(code(store.files.manifest(&manifest)), Code::FileMissing);
}

#[test]
fn manifests_are_verified_when_put_and_when_read() {
    let store = Store::new();
    let bytes = manifest_of(vec![(digest_of(b"a"), 1)]).to_bytes();
    let digest = store.files.put_manifest(&bytes).expect("stored");
    assert_eq!(digest.0, Digest::of(&bytes));
    assert_eq!(store.files.manifest(&digest).expect("read"), bytes);
    assert_eq!(code(store.files.put_manifest(b"houston-tree 1\nd\t../a\n")), Code::TreePath);
    fs::write(store.files.manifest_path(&digest), b"houston-tree 1\n").expect("written");
    assert_eq!(code(store.files.manifest(&digest)), Code::FileDamaged);
    assert!(!store.files.has_manifest(&digest).expect("looked"));
    assert_eq!(store.in_directory(INCOMING), 0);
}

#[test]
fn collection_is_by_reference() {
    let store = Store::new();
    let keep = store.put_tree(&[b"shared", b"kept"]);
    let drop = store.put_tree(&[b"shared", b"dropped"]);
    let orphan = store.put(b"orphan");
    let [shared, kept, dropped] = [&b"shared"[..], b"kept", b"dropped"].map(digest_of);
    let store = store.reopened();

    let collected = store.files.collect(&HashSet::from([keep]), Duration::ZERO, |_| true).expect("collected");
    assert_eq!((collected.manifests, collected.files), (1, 2));
    assert!(collected.bytes > 0);
    assert_eq!(store.files.missing(&[shared, kept, dropped, orphan]).expect("looked"), [dropped, orphan]);
    assert!(store.files.has_manifest(&keep).expect("looked"));
    assert!(!store.files.has_manifest(&drop).expect("looked"));

    let nothing = store.files.collect(&HashSet::from([keep]), Duration::ZERO, |_| true).expect("collected");
    assert_eq!(nothing, Collected::default());
    let all = store.files.collect(&HashSet::new(), Duration::ZERO, |_| true).expect("collected");
    assert_eq!((all.manifests, all.files), (1, 2));
}

#[test]
fn collection_spares_what_came_or_was_mentioned_lately() {
    let store = Store::new();
    store.put_tree(&[b"a", b"b"]);
    let nothing = HashSet::new();
    let collect = |store: &Store| store.files.collect(&nothing, LONG, |_| true).expect("collected");
    assert_eq!(collect(&store), Collected::default());
    // What was told before a restart is not known after it, so the grace begins anew.
    let store = store.reopened();
    assert_eq!(collect(&store), Collected::default());

    // A grace that is over for the start and not for what was mentioned since.
    let grace = Duration::from_millis(200);
    let over = Instant::now() + grace;
    while Instant::now() < over {
        thread::yield_now();
        assert!(store.files.has(&digest_of(b"a")).expect("looked"));
    }
    let collected = store.files.collect(&nothing, grace, |_| true).expect("collected");
    assert_eq!((collected.manifests, collected.files), (1, 1));
    assert_eq!(store.files.missing(&[digest_of(b"a"), digest_of(b"b")]).expect("looked"), [digest_of(b"b")]);
}

#[test]
fn collection_asks_again_just_before_it_deletes() {
    let store = Store::new();
    let tree = store.put_tree(&[b"a"]);
    let store = store.reopened();
    // The set was read before a package with this tree was registered.
    let collected =
        store.files.collect(&HashSet::new(), Duration::ZERO, |digest| *digest != tree).expect("collected");
    assert_eq!(collected, Collected::default());
    assert!(store.files.has(&digest_of(b"a")).expect("looked"));
}

#[test]
fn collection_deletes_no_file_when_a_referenced_manifest_is_gone() {
    let store = Store::new();
    let tree = store.put_tree(&[b"a"]);
    let path = store.files.manifest_path(&tree);
    let store = store.reopened();
    fs::write(&path, b"damaged").expect("written");
    let referenced = HashSet::from([tree]);
    for code_expected in [Code::FileDamaged, Code::FileMissing] {
        let result = store.files.collect(&referenced, Duration::ZERO, |_| true);
        assert_eq!(code(result), code_expected);
    }
    assert!(store.files.has(&digest_of(b"a")).expect("looked"));
}

#[test]
fn uploads_leave_the_reserve() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::open(directory.path(), Reserve::Bytes(u64::MAX)).expect("opened");
    assert_eq!(code(files.put_file(digest_of(b"a"), 1)), Code::DiskSpace);
    assert_eq!(code(files.put_manifest(b"houston-tree 1\n")), Code::DiskSpace);
    assert_eq!(fs::read_dir(directory.path().join(INCOMING)).expect("listed").count(), 0);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    assert_eq!(code(Files::open(&file, RESERVE)), Code::State);
}

#[test]
fn handles_may_move_between_threads() {
    fn may_move<T: Send + 'static>() {}
    fn may_be_shared<T: Send + Sync + Clone + 'static>() {}
    may_move::<Upload>();
    may_move::<Stored>();
    may_be_shared::<Files>();
}

/// It was said to be here before its name was durable, and a power cut could take it away again.
#[test]
fn a_file_whose_name_may_be_lost_does_not_count_as_here() {
    let store = Store::new();
    let digest = store.put(b"contents");
    store.files.known().unsynced.insert(*digest.digest());
    assert_eq!(store.files.missing(&[digest]).expect("looked"), [digest]);
    store.put(b"contents");
    assert!(store.files.has(&digest).expect("looked"));
}
