//! What only a store on a disk must stand.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use houston_common::error::Code;
use houston_common::id::Epoch;
use houston_coordinator::store::sled::SledStore;
use houston_coordinator::store::{Change, Snapshot, Store, StoreError, VALUE_BYTES_MAX, export};

use super::{Model, Random, copy_directory, put, random_changes};

/// Names the directory to the process that is to be killed. Without it that test has nothing to do.
const CHILD_DIRECTORY: &str = "HOUSTON_TEST_STORE_TO_KILL";
/// A child that nobody kills ends by itself.
const CHILD_COMMITS_MAX: u64 = 20_000;

/// Every commit writes its number under all keys: so a torn one shows. Some are as large as a commit may be,
/// and so lie in several of the file's segments.
fn numbered(number: u64) -> Vec<Change> {
    let (keys, length) = match number % 8 {
        0 => (15, VALUE_BYTES_MAX),
        1 | 5 => (100, 2_000),
        _ => (15, 8),
    };
    (0..keys)
        .map(|key| {
            let mut value = number.to_be_bytes().to_vec();
            value.resize(length, number.to_le_bytes()[0]);
            put(&format!("{key:03}"), value)
        })
        .collect()
}

#[test]
fn commits_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let store = SledStore::open(Path::new(&directory)).expect("open");
    let epoch = store.take_over(Epoch(0)).expect("take over");
    let first = store.load().expect("load").revision.0;
    for _ in first..first + CHILD_COMMITS_MAX {
        let next = store.commit(epoch, &[]).expect("empty").0 + 1;
        let revision = store.commit(epoch, &numbered(next)).expect("commit");
        println!("\nacknowledged {revision}");
    }
}

#[test]
fn after_kill_9_every_acknowledged_commit_is_there_and_none_is_torn() {
    let directory = tempfile::tempdir().expect("tempdir");
    drop(SledStore::create(directory.path(), &Snapshot::default()).expect("create"));
    let mut random = Random(9);
    let mut model = Model::default();
    let mut known = 0;
    for round in 0..25 {
        let last = kill_after(directory.path(), 1 + random.below(60));
        let snapshot = open_and_load(directory.path()).expect("open");
        let found = snapshot.revision.0;
        assert!(found == last || found == last + 1, "round {round}: acknowledged {last}, found {found}");
        // The first write of each round is the take-over.
        for number in known + 2..=found {
            model.apply(&numbered(number));
        }
        known = found;
        // Not by `assert_eq`, which would print megabytes.
        assert!(snapshot.records == model.records(), "round {round}: not what revision {found} wrote");
    }
}

/// Runs a child that commits, kills it at an acknowledgement, and returns the last one that it told.
fn kill_after(directory: &Path, acknowledgements: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["store_conformance::persistent::commits_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut last = None;
    let mut count = 0;
    for line in lines {
        let Some(number) = line.strip_prefix("acknowledged ") else { continue };
        last = Some(number.parse().expect("a number"));
        count += 1;
        if count == acknowledgements {
            child.kill().expect("kill");
        }
    }
    child.wait().expect("wait");
    assert!(count >= acknowledgements, "the child ended by itself after {count}");
    last.expect("an acknowledgement")
}

/// A store with some history, closed.
fn filled(directory: &Path) -> Snapshot {
    let store = SledStore::create(directory, &Snapshot::default()).expect("create");
    let epoch = store.take_over(Epoch(0)).expect("take over");
    let mut random = Random(3);
    for _ in 0..60 {
        store.commit(epoch, &random_changes(&mut random)).expect("commit");
    }
    store.load().expect("load")
}

fn open_and_load(directory: &Path) -> Result<Snapshot, StoreError> {
    SledStore::open(directory)?.load()
}

#[test]
fn a_flipped_byte_anywhere_is_an_error_or_makes_no_difference() {
    let original = tempfile::tempdir().expect("tempdir");
    let expected = filled(original.path());
    let length = used_bytes(&original.path().join("sled/db"));
    let mut random = Random(11);
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..80).map(|_| random.next() % length).chain([0, 1, 4, length - 1]) {
        let copy = tempfile::tempdir().expect("tempdir");
        copy_directory(original.path(), copy.path());
        flip(&copy.path().join("sled/db"), at);
        match open_and_load(copy.path()) {
            Ok(found) => {
                assert_eq!(found, expected, "byte {at} of {length}: other data, and no error");
                harmless += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), Code::Store, "byte {at}: {error}");
                assert!(!error.refusal().next.is_empty());
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "too few flips hit anything: {refused} refused, {harmless} harmless");
}

#[test]
fn a_flipped_byte_in_the_other_files_is_an_error_or_makes_no_difference() {
    let original = tempfile::tempdir().expect("tempdir");
    filled(original.path());
    // Opened once more, so that there is a snapshot file.
    let expected = open_and_load(original.path()).expect("load");
    for entry in fs::read_dir(original.path().join("sled")).expect("files") {
        let entry = entry.expect("entry");
        let name = entry.file_name();
        if name == "db" || name == "blobs" {
            continue;
        }
        let length = entry.metadata().expect("metadata").len();
        assert!(length > 0, "{name:?}");
        for at in (0..length).step_by(usize::try_from(length / 20).expect("small").max(1)) {
            let copy = tempfile::tempdir().expect("tempdir");
            copy_directory(original.path(), copy.path());
            flip(&copy.path().join("sled").join(&name), at);
            match open_and_load(copy.path()) {
                Ok(found) => assert_eq!(found, expected, "byte {at} of {name:?}"),
                Err(error) => assert_eq!(error.code(), Code::Store, "byte {at} of {name:?}: {error}"),
            }
        }
    }
}

/// Up to where the file was written: the rest of its last segment is padding.
fn used_bytes(db: &Path) -> u64 {
    let bytes = fs::read(db).expect("db");
    let padding = bytes.iter().rev().take_while(|byte| **byte == *bytes.last().expect("bytes")).count();
    (bytes.len() - padding) as u64
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
}

fn snapshot_files(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory.join("sled"))
        .expect("files")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"snap.")))
        .collect()
}

#[test]
fn a_truncated_or_emptied_snapshot_file_is_set_aside() {
    let directory = tempfile::tempdir().expect("tempdir");
    filled(directory.path());
    let expected = open_and_load(directory.path()).expect("load");
    for keep in [0, 7, 40] {
        let snapshots = snapshot_files(directory.path());
        assert!(!snapshots.is_empty(), "sled has a snapshot file");
        for path in snapshots {
            File::options().write(true).open(path).and_then(|file| file.set_len(keep)).expect("truncate");
        }
        assert_eq!(open_and_load(directory.path()).expect("recovered"), expected, "{keep} bytes kept");
    }
    // And it takes commits as before.
    let store = SledStore::open(directory.path()).expect("open");
    let epoch = store.take_over(Epoch(0)).expect("take over");
    store.commit(epoch, &[put("after", "all")]).expect("commit");
}

#[test]
fn a_database_that_cannot_be_opened_is_quarantined_whole_and_never_replaced_by_an_empty_one() {
    let directory = tempfile::tempdir().expect("tempdir");
    let expected = filled(directory.path());
    let parameters = directory.path().join("sled/conf");
    let intact = fs::read(&parameters).expect("conf");
    fs::write(&parameters, b"no parameters at all").expect("damage");
    let error = SledStore::open(directory.path()).expect_err("damaged");
    let StoreError::Quarantined { quarantine, .. } = &error else { panic!("{error:?}") };
    assert!(error.refusal().to_string().starts_with("E-STORE: "), "{}", error.refusal());
    let again = SledStore::open(directory.path()).expect_err("nothing is there");
    assert!(matches!(again, StoreError::Missing { .. }), "{again:?}");
    // Nothing was lost by it: mended and put back, it opens.
    fs::write(quarantine.join("conf"), intact).expect("mend");
    fs::rename(quarantine, directory.path().join("sled")).expect("put back");
    assert_eq!(open_and_load(directory.path()).expect("load"), expected);
}

#[test]
fn a_second_opener_is_refused() {
    let directory = tempfile::tempdir().expect("tempdir");
    let first = SledStore::create(directory.path(), &Snapshot::default()).expect("create");
    for error in [
        SledStore::open(directory.path()).expect_err("open"),
        SledStore::create(directory.path(), &Snapshot::default()).expect_err("create"),
    ] {
        let text = error.refusal().to_string();
        assert!(text.starts_with("E-LOCKED: ") && text.contains(&std::process::id().to_string()), "{text}");
    }
    drop(first);
    let exists = SledStore::create(directory.path(), &Snapshot::default()).expect_err("there is one");
    assert!(matches!(exists, StoreError::Exists { .. }), "{exists}");
    SledStore::open(directory.path()).expect("open");
}

#[test]
fn no_store_is_made_by_opening() {
    let directory = tempfile::tempdir().expect("tempdir");
    for path in [directory.path().to_owned(), directory.path().join("deeper")] {
        let error = SledStore::open(&path).expect_err("nothing there");
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert_eq!(error.code(), Code::State);
    }
}

#[test]
fn an_export_restores_the_store_and_its_counters() {
    let original = tempfile::tempdir().expect("tempdir");
    let expected = filled(original.path());
    let mut text = Vec::new();
    export::export(&open_and_load(original.path()).expect("load"), &mut text).expect("export");
    let restored = tempfile::tempdir().expect("tempdir");
    let path = restored.path().join("new");
    let store = SledStore::create(&path, &export::import(&mut &text[..]).expect("import")).expect("create");
    assert_eq!(store.load().expect("load"), expected);
    drop(store);
    let store = SledStore::open(&path).expect("open");
    let epoch = store.take_over(Epoch(0)).expect("take over");
    assert!(epoch > expected.epoch);
    assert!(store.commit(epoch, &[put("new", "x")]).expect("commit") > expected.revision);
}
