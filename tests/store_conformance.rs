//! One suite over every store, then what only the persistent one must stand: kills, damage, two at once.

use std::collections::BTreeMap;
use std::path::Path;

use houston_common::id::Epoch;
use houston_coordinator::store::{Change, Key, Snapshot};

mod laws;
mod persistent;

fn put(key: &str, value: impl AsRef<[u8]>) -> Change {
    Change::Put { key: Key::new(key.as_bytes()), value: value.as_ref().to_vec() }
}

fn delete(key: &str) -> Change {
    Change::Delete { key: Key::new(key.as_bytes()) }
}

/// Random enough to reach odd corners, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// What a store must hold after the same changes.
#[derive(Debug, Default)]
struct Model(BTreeMap<Key, Vec<u8>>);

impl Model {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change.value() {
                Some(value) => self.0.insert(change.key().clone(), value.to_vec()),
                None => self.0.remove(change.key()),
            };
        }
    }

    fn records(&self) -> Vec<(Key, Vec<u8>)> {
        self.0.clone().into_iter().collect()
    }
}

/// A few changes to a few keys, of very different sizes.
fn random_changes(random: &mut Random) -> Vec<Change> {
    (0..1 + random.below(12))
        .map(|_| {
            let length = random.below(4);
            let key = Key::new(random.bytes(length).iter().map(|byte| byte % 5).collect::<Vec<_>>());
            let length = [0, 1, 40, 300, 5_000][random.below(5)];
            if random.below(4) == 0 {
                Change::Delete { key }
            } else {
                Change::Put { key, value: random.bytes(length) }
            }
        })
        .collect()
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copy");
        }
    }
}

fn is_empty(snapshot: &Snapshot) -> bool {
    *snapshot == Snapshot { epoch: Epoch(0), ..Snapshot::default() }
}
