//! What holds of every store. Each law gets a way to open the same data again, as the next process would:
//! the handle before it must be dropped first.

use std::sync::atomic::{AtomicBool, Ordering};

use houston_common::id::Epoch;
use houston_coordinator::store::sled::SledStore;
use houston_coordinator::store::{
    COMMIT_BYTES_MAX, COMMIT_CHANGES_MAX, Change, CommitError, KEY_BYTES_MAX, Key, Revision, Snapshot, Store,
    TooLarge, VALUE_BYTES_MAX,
};
use houston_tests::store::{Fault, MemoryStore};

use super::{Model, Random, delete, is_empty, put, random_changes};

macro_rules! conformance {
    ($($law:ident)*) => {
        mod memory {
            use super::*;
            $(#[test] fn $law() {
                let store = MemoryStore::new();
                super::$law(|| store.reopen());
            })*
        }
        mod sled {
            use super::*;
            $(#[test] fn $law() {
                let directory = tempfile::tempdir().expect("tempdir");
                drop(SledStore::create(directory.path(), &Snapshot::default()).expect("create"));
                super::$law(|| SledStore::open(directory.path()).expect("open"));
            })*
        }
    };
}

conformance! {
    a_new_store_is_empty
    what_is_committed_is_loaded_in_order
    a_commit_replaces_and_deletes
    of_several_changes_of_one_key_the_last_counts
    a_refused_commit_changes_nothing
    limits_hold_at_their_edges
    an_empty_commit_writes_nothing_and_asks_for_the_epoch
    revisions_rise_over_restarts
    an_older_epoch_is_fenced
    an_epoch_that_was_never_given_is_fenced
    taking_over_raises_above_what_hosts_have_proved
    nothing_slips_in_after_a_takeover
    random_changes_equal_the_model
}

fn lead(store: &impl Store) -> Epoch {
    store.take_over(Epoch(0)).expect("take over")
}

fn values(store: &impl Store) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    store
        .load()
        .expect("load")
        .records
        .iter()
        .map(|(key, value)| (text(key.as_bytes()), text(value)))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn a_new_store_is_empty<S: Store>(open: impl Fn() -> S) {
    assert!(is_empty(&open().load().expect("load")));
}

fn what_is_committed_is_loaded_in_order<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    let changes = [put("b", "2"), put("", "0"), put("a", "1"), put("a\0", "x"), put("B", "y")];
    store.commit(epoch, &changes).expect("commit");
    let expected = pairs(&[("", "0"), ("B", "y"), ("a", "1"), ("a\0", "x"), ("b", "2")]);
    assert_eq!(values(&store), expected);
    drop(store);
    assert_eq!(values(&open()), expected);
}

fn a_commit_replaces_and_deletes<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    store.commit(epoch, &[put("a", "long ".repeat(900)), put("b", "1"), put("c", "1")]).expect("commit");
    store.commit(epoch, &[put("a", "2"), delete("b"), delete("never there")]).expect("commit");
    assert_eq!(values(&store), pairs(&[("a", "2"), ("c", "1")]));
    drop(store);
    assert_eq!(values(&open()), pairs(&[("a", "2"), ("c", "1")]));
}

fn of_several_changes_of_one_key_the_last_counts<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    let changes = [put("a", "1"), delete("a"), put("a", "2"), put("b", "1"), delete("b")];
    store.commit(epoch, &changes).expect("commit");
    assert_eq!(values(&store), pairs(&[("a", "2")]));
}

fn a_refused_commit_changes_nothing<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    store.commit(epoch, &[put("a", "1")]).expect("commit");
    let before = store.load().expect("load");
    let too_long = put("z", vec![0; VALUE_BYTES_MAX + 1]);
    store.commit(epoch, &[put("a", "2"), delete("a"), too_long]).expect_err("too large");
    store.commit(Epoch(epoch.0 - 1), &[put("a", "2")]).expect_err("fenced");
    assert_eq!(store.load().expect("load"), before);
    drop(store);
    assert_eq!(open().load().expect("load"), before);
}

fn limits_hold_at_their_edges<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    let mut model = Model::default();
    let mut check = |changes: Vec<Change>, refused: Option<TooLarge>| {
        let result = store.commit(epoch, &changes);
        match refused {
            None => {
                result.expect("within the limits");
                model.apply(&changes);
            }
            Some(limit) => match result {
                Err(CommitError::TooLarge(found)) => assert_eq!(found, limit),
                other => panic!("{limit} should be refused: {other:?}"),
            },
        }
        assert_eq!(store.load().expect("load").records, model.records());
    };
    let many = |count: usize| (0..count).map(|n| put(&format!("n{n}"), "x")).collect::<Vec<_>>();
    check(many(COMMIT_CHANGES_MAX - 1), None);
    check(many(COMMIT_CHANGES_MAX), None);
    check(many(COMMIT_CHANGES_MAX + 1), Some(TooLarge::Changes { count: COMMIT_CHANGES_MAX + 1 }));
    check(vec![put("v", vec![1; VALUE_BYTES_MAX - 1])], None);
    check(vec![put("v", vec![2; VALUE_BYTES_MAX])], None);
    let key = Key::new(*b"v");
    let bytes = VALUE_BYTES_MAX + 1;
    check(vec![put("v", vec![3; bytes])], Some(TooLarge::Value { key, bytes }));
    let long = |bytes: usize| "k".repeat(bytes);
    check(vec![put(&long(KEY_BYTES_MAX), "x")], None);
    let key = Key::new(long(KEY_BYTES_MAX + 1).as_bytes());
    check(vec![delete(&long(KEY_BYTES_MAX + 1))], Some(TooLarge::Key { key }));
    let mut whole: Vec<_> = (0..16).map(|n| put(&format!("{n:x}"), vec![4; VALUE_BYTES_MAX - 1])).collect();
    check(whole.clone(), None);
    whole.push(delete("x"));
    check(whole, Some(TooLarge::Commit { bytes: COMMIT_BYTES_MAX + 1 }));
}

fn an_empty_commit_writes_nothing_and_asks_for_the_epoch<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    let revision = store.commit(epoch, &[put("a", "1")]).expect("commit");
    assert_eq!(store.commit(epoch, &[]).expect("empty"), revision);
    assert_eq!(store.load().expect("load").revision, revision);
    lead(&store);
    let fenced = store.commit(epoch, &[]).expect_err("somebody leads");
    assert!(matches!(fenced, CommitError::Fenced { .. }), "{fenced}");
}

fn revisions_rise_over_restarts<S: Store>(open: impl Fn() -> S) {
    let (mut last, mut last_epoch) = (Revision(0), Epoch(0));
    for round in 0..4 {
        let store = open();
        let loaded = store.load().expect("load");
        assert_eq!((loaded.revision, loaded.epoch), (last, last_epoch));
        let epoch = lead(&store);
        assert!(epoch > last_epoch);
        let after = store.load().expect("load").revision;
        assert!(after > last, "a take-over is a write");
        last = after;
        for _ in 0..round {
            // The same changes again are a commit as well.
            let revision = store.commit(epoch, &[put("a", "1")]).expect("commit");
            assert!(revision > last);
            last = revision;
        }
        last_epoch = epoch;
    }
}

fn an_older_epoch_is_fenced<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let first = lead(&store);
    store.commit(first, &[put("a", "first")]).expect("commit");
    let second = lead(&store);
    let fenced = store.commit(first, &[put("a", "late")]).expect_err("an older epoch");
    assert!(matches!(fenced, CommitError::Fenced { stored } if stored == second), "{fenced}");
    store.commit(second, &[put("b", "second")]).expect("commit");
    drop(store);
    // Durable: the fence holds after a restart, before anybody takes over again.
    let store = open();
    store.commit(first, &[put("a", "late")]).expect_err("an older epoch");
    assert_eq!(values(&store), pairs(&[("a", "first"), ("b", "second")]));
}

fn an_epoch_that_was_never_given_is_fenced<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let epoch = lead(&store);
    for wrong in [Epoch(0), epoch.next(), Epoch(u64::MAX)] {
        let fenced = store.commit(wrong, &[put("a", "x")]).expect_err("never given");
        assert!(matches!(fenced, CommitError::Fenced { stored } if stored == epoch), "{fenced}");
    }
    assert_eq!(values(&store), []);
}

fn taking_over_raises_above_what_hosts_have_proved<S: Store>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.take_over(Epoch(41)).expect("take over"), Epoch(42));
    assert_eq!(store.take_over(Epoch(7)).expect("take over"), Epoch(43));
    drop(store);
    assert_eq!(open().take_over(Epoch(0)).expect("take over"), Epoch(44));
}

fn nothing_slips_in_after_a_takeover<S: Store>(open: impl Fn() -> S) {
    let store = open();
    for _ in 0..10 {
        let old = lead(&store);
        let (writing, deposed) = (AtomicBool::new(false), AtomicBool::new(false));
        let (at_takeover, acknowledged) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut acknowledged = 0;
                let mut late = 0;
                while late < 100 {
                    late += usize::from(deposed.load(Ordering::Acquire));
                    match store.commit(old, &[put("n", (acknowledged + 1).to_string())]) {
                        Ok(_) => acknowledged += 1,
                        Err(CommitError::Fenced { .. }) => return acknowledged,
                        Err(error) => panic!("{error}"),
                    }
                    writing.store(true, Ordering::Release);
                }
                panic!("an old epoch writes on");
            });
            while !writing.load(Ordering::Acquire) && !writer.is_finished() {
                std::thread::yield_now();
            }
            lead(&store);
            let at_takeover = values(&store);
            deposed.store(true, Ordering::Release);
            (at_takeover, writer.join().expect("writer"))
        });
        assert_eq!(at_takeover, pairs(&[("n", &acknowledged.to_string())]));
        assert_eq!(values(&store), at_takeover);
    }
}

fn random_changes_equal_the_model<S: Store>(open: impl Fn() -> S) {
    let mut random = Random(7);
    let mut model = Model::default();
    for _ in 0..6 {
        let store = open();
        let epoch = lead(&store);
        assert_eq!(store.load().expect("load").records, model.records());
        for _ in 0..40 {
            let changes = random_changes(&mut random);
            store.commit(epoch, &changes).expect("commit");
            model.apply(&changes);
        }
        assert_eq!(store.load().expect("load").records, model.records());
    }
    assert!(model.0.len() > 20, "the model has seen enough");
}

/// The memory's faults are what they say, or every test that asks for one proves nothing.
#[test]
fn the_memory_stores_faults_do_what_they_say() {
    for (fault, applied) in
        [(Fault::Refused, false), (Fault::UnknownApplied, true), (Fault::UnknownLost, false)]
    {
        let store = MemoryStore::new();
        let epoch = lead(&store);
        store.fail_after(1, fault);
        store.commit(epoch, &[put("a", "1")]).expect("before the fault");
        let error = store.commit(epoch, &[put("a", "2")]).expect_err("the fault");
        assert_eq!(matches!(error, CommitError::Unknown(_)), fault != Fault::Refused);
        store.commit(epoch, &[put("a", "3")]).expect_err("dead");
        store.load().expect_err("dead");
        let next = store.reopen();
        assert_eq!(values(&next), pairs(&[("a", if applied { "2" } else { "1" })]));
        next.commit(epoch, &[put("a", "4")]).expect("the next process is well");
    }
}
