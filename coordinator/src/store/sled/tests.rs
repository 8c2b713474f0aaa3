use houston_common::error::Code;

use super::*;

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: Key::new(key.as_bytes()), value: value.into() }
}

fn create(directory: &Path) -> SledStore {
    SledStore::create(directory, &Snapshot::default()).expect("create")
}

/// fdatasync of a pipe fails, by the kernel's own hand.
fn break_barrier(store: &SledStore) {
    let (reader, _writer) = io::pipe().expect("pipe");
    store.writer.lock().expect("writer").barrier = std::os::fd::OwnedFd::from(reader).into();
}

#[test]
fn after_a_failed_sync_the_store_is_dead_and_a_new_one_finds_all_or_nothing() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = create(directory.path());
    let epoch = store.take_over(Epoch(0)).expect("take over");
    let known = store.commit(epoch, &[put("a", "1"), put("b", "1")]).expect("commit");
    break_barrier(&store);
    let unknown = store.commit(epoch, &[put("a", "2"), put("b", "2")]).expect_err("no sync");
    assert!(matches!(unknown, CommitError::Unknown(StoreError::Io { .. })), "{unknown:?}");
    // A second sync of the same file would succeed; it must not be believed.
    let path = directory.path().join("sled/db");
    store.writer.lock().expect("writer").barrier = File::open(path).expect("db");
    for error in [
        into_store_error(store.commit(epoch, &[put("a", "3")]).expect_err("dead")),
        store.take_over(Epoch(0)).expect_err("dead"),
        store.load().expect_err("dead"),
    ] {
        assert!(matches!(error, StoreError::Dead { .. }), "{error:?}");
        assert_eq!(error.code(), Code::Store);
    }
    drop(store);
    let found = SledStore::open(directory.path()).expect("reopen").load().expect("load");
    let values: Vec<_> = found.records.iter().map(|(_, value)| value.as_slice()).collect();
    assert!(values == [b"1", b"1"] || values == [b"2", b"2"], "{values:?}");
    assert!(found.revision == known || found.revision == Revision(known.0 + 1));
}

#[test]
fn a_database_that_is_older_than_its_witness_is_refused() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = create(directory.path());
    let epoch = store.take_over(Epoch(0)).expect("take over");
    let revision = store.commit(epoch, &[put("a", "1")]).expect("commit");
    drop(store);
    let witness = directory.path().join("sled/acknowledged");
    let (acknowledged, _) = Acknowledged::open(witness.clone()).expect("witness");
    acknowledged.write(Revision(revision.0 + 1)).expect("write");
    let error = SledStore::open(directory.path()).expect_err("lost a commit");
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    assert!(error.refusal().next.contains(&witness.display().to_string()));
    // The way out that it names.
    std::fs::remove_file(witness).expect("remove");
    assert_eq!(SledStore::open(directory.path()).expect("open").load().expect("load").revision, revision);
}

#[test]
fn a_store_whose_making_was_interrupted_does_not_open() {
    let directory = tempfile::tempdir().expect("tempdir");
    let locked = Directory::lock(directory.path()).expect("lock");
    drop(open_database(&locked).expect("open"));
    drop(locked);
    let error = SledStore::open(directory.path()).expect_err("unfinished");
    assert!(matches!(error, StoreError::Unfinished { .. }), "{error}");
}

#[test]
fn a_record_changed_behind_the_stores_back_is_named() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = create(directory.path());
    let epoch = store.take_over(Epoch(0)).expect("take over");
    store.commit(epoch, &[put("host/a", "1"), put("host/b", "1")]).expect("commit");
    let change = |key: &str, bytes: Option<Vec<u8>>| {
        let key = record_key(&Key::new(key.as_bytes()));
        let db = &store.writer.lock().expect("writer").db.0;
        match bytes {
            Some(bytes) => db.insert(key, bytes).map(drop),
            None => db.remove(key).map(drop),
        }
        .expect("sled");
    };
    let intact = seal::seal(&Key::new(*b"host/b"), b"1").0;
    change("host/b", Some([&intact[..intact.len() - 1], b"2"].concat()));
    let error = store.load().expect_err("damaged");
    assert!(error.to_string().contains("host/b"), "{error}");
    // A commit does not paint over it.
    store.commit(epoch, &[put("host/b", "3")]).expect_err("damaged");
    // Sealed well, but not what the last commit left.
    for stale in [Some(seal::seal(&Key::new(*b"host/b"), b"0").0), None] {
        change("host/b", stale);
        let error = store.load().expect_err("stale");
        assert!(error.to_string().contains("missing, or older"), "{error}");
    }
    change("host/b", Some(intact));
    store.load().expect("all is as it was");
}

#[test]
fn no_page_ever_becomes_a_blob() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = create(directory.path());
    let epoch = store.take_over(Epoch(0)).expect("take over");
    // Neighbours of the largest size with the longest keys, put forwards, backwards, over each other, and
    // deleted so that pages merge.
    let key = |n: usize| Key::new(format!("{n:0>width$}", width = super::super::KEY_BYTES_MAX).as_bytes());
    let value = |n: usize| vec![u8::try_from(n % 251).expect("below 251"); super::super::VALUE_BYTES_MAX];
    let all = 60;
    for order in
        [(0..all).collect::<Vec<_>>(), (0..all).rev().collect(), (0..all).map(|n| n * 7 % all).collect()]
    {
        for n in &order {
            store.commit(epoch, &[Change::Put { key: key(*n), value: value(n + 1) }]).expect("put");
        }
        for n in order.iter().filter(|n| *n % 5 != 0) {
            store.commit(epoch, &[Change::Delete { key: key(*n) }]).expect("delete");
        }
        for fifteen in order.chunks(15) {
            let changes: Vec<_> =
                fifteen.iter().map(|n| Change::Put { key: key(*n), value: value(*n) }).collect();
            store.commit(epoch, &changes).expect("put many");
        }
    }
    let blobs = || std::fs::read_dir(directory.path().join("sled/blobs")).expect("blobs").count();
    assert_eq!(blobs(), 0);
    let before = store.load().expect("load");
    assert_eq!(before.records.len(), all);
    drop(store);
    assert_eq!(SledStore::open(directory.path()).expect("open").load().expect("load"), before);
    assert_eq!(blobs(), 0);
}
