use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use houston_common::digest::Digest;

use super::*;

struct Bench {
    temp: tempfile::TempDir,
    trees: Dir,
    contents: HashMap<FileDigest, PathBuf>,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for name in ["trees", "blobs", "outside"] {
            std::fs::create_dir(temp.path().join(name)).unwrap();
        }
        let trees = Dir::open(&temp.path().join("trees")).unwrap();
        Self { temp, trees, contents: HashMap::new() }
    }

    fn file(&mut self, path: &str, mode: FileMode, contents: &[u8]) -> Entry {
        let digest = FileDigest(Digest::of(contents));
        let blob = self.temp.path().join("blobs").join(digest.to_string());
        std::fs::write(&blob, contents).unwrap();
        self.contents.insert(digest, blob);
        Entry { path: path.to_owned(), node: Node::File { mode, length: contents.len() as u64, digest } }
    }

    fn sample(&mut self) -> Manifest {
        let link = |path: &str, target: &str| Entry {
            path: path.to_owned(),
            node: Node::Link { target: target.to_owned() },
        };
        let entries = vec![
            directory("bin"),
            directory("empty"),
            directory("lib"),
            directory("lib/deep"),
            self.file("bin/run", FileMode::Executable, b"#!/bin/sh\n"),
            self.file("lib/deep/data", FileMode::Plain, &vec![7; 300_000]),
            self.file("lib/nothing", FileMode::Plain, b""),
            link("lib/data", "deep/data"),
            link("run", "bin/run"),
        ];
        Manifest::from_entries(entries).unwrap()
    }

    fn lay_out(&self, manifest: &Manifest, kept: &[TreeDigest]) -> Result<TreeDigest, Refusal> {
        lay_out(&self.trees, manifest, |digest| self.contents.get(digest).cloned(), kept)
    }

    fn path(&self, tree: &TreeDigest, path: &str) -> PathBuf {
        self.temp.path().join("trees").join(tree.to_string()).join(path)
    }

    fn damage(&self, tree: &TreeDigest, path: &str, contents: &[u8]) {
        std::fs::write(self.path(tree, path), contents).unwrap();
    }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.to_owned(), node: Node::Directory }
}

#[test]
fn a_tree_on_disk_is_what_its_manifest_says() {
    let mut bench = Bench::new();
    let manifest = bench.sample();
    let tree = bench.lay_out(&manifest, &[]).unwrap();
    assert_eq!(measure(&bench.trees, &tree).unwrap(), manifest.digest());
    assert_eq!(kept_manifest(&bench.trees, &tree).unwrap(), manifest);
    let mode = |path| std::fs::metadata(bench.path(&tree, path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("bin/run"), mode("lib/nothing"), mode("lib/deep")], [0o755, 0o644, 0o555]);
    assert_eq!(std::fs::read(bench.path(&tree, "run")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(bench.lay_out(&manifest, &[]).unwrap(), tree, "twice is harmless");
    assert_eq!(bench.trees.names().unwrap().len(), 2, "the tree and its manifest");
}

#[test]
fn equal_files_come_from_kept_trees() {
    let mut bench = Bench::new();
    let first = bench.sample();
    let kept = bench.lay_out(&first, &[]).unwrap();
    bench.contents.clear();
    let mut entries = first.entries().to_vec();
    entries.push(bench.file("new", FileMode::Plain, b"new"));
    let second = Manifest::from_entries(entries).unwrap();
    let tree = bench.lay_out(&second, &[kept]).unwrap();
    assert_eq!(measure(&bench.trees, &tree).unwrap(), second.digest());
    // Not a hard link: writing through one tree leaves the other alone.
    bench.damage(&tree, "lib/deep/data", b"x");
    assert_eq!(measure(&bench.trees, &kept).unwrap(), kept);
}

#[test]
fn a_damaged_kept_tree_is_not_believed() {
    let mut bench = Bench::new();
    let first = bench.sample();
    let kept = bench.lay_out(&first, &[]).unwrap();
    bench.damage(&kept, "lib/deep/data", &vec![8; 300_000]);
    let mut entries = first.entries().to_vec();
    entries.push(directory("more"));
    let second = Manifest::from_entries(entries).unwrap();
    let tree = bench.lay_out(&second, &[kept]).unwrap();
    assert_eq!(measure(&bench.trees, &tree).unwrap(), second.digest(), "taken from the contents instead");
    remove_tree(&bench.trees, &tree).unwrap();
    bench.contents.clear();
    assert_eq!(bench.lay_out(&second, &[kept]).unwrap_err().code, Code::FileMissing);
}

#[test]
fn wrong_contents_are_refused_and_leave_nothing() {
    let mut bench = Bench::new();
    let manifest = bench.sample();
    let (_, _, _, digest) = manifest.files().find(|(path, ..)| *path == "lib/deep/data").unwrap();
    for wrong in [vec![9; 300_000], vec![7; 299_999], vec![7; 300_001], Vec::new()] {
        std::fs::write(&bench.contents[&digest], &wrong).unwrap();
        let refusal = bench.lay_out(&manifest, &[]).unwrap_err();
        assert_eq!(refusal.code, Code::FileDigest, "{refusal}");
        assert!(refusal.what.contains("lib/deep/data"), "{refusal}");
        assert!(bench.trees.names().unwrap().is_empty());
    }
}

#[test]
fn a_damaged_tree_is_noticed_and_laid_out_again() {
    let mut bench = Bench::new();
    let manifest = bench.sample();
    let tree = bench.lay_out(&manifest, &[]).unwrap();
    let changes: [&dyn Fn(); 5] = [
        &|| bench.damage(&tree, "bin/run", b"#!/bin/no\n"),
        &|| {
            std::fs::set_permissions(bench.path(&tree, "bin/run"), std::fs::Permissions::from_mode(0o777))
                .unwrap()
        },
        &|| {
            std::fs::set_permissions(bench.path(&tree, "bin"), std::fs::Permissions::from_mode(0o755))
                .unwrap();
            std::fs::write(bench.path(&tree, "bin/more"), "").unwrap();
        },
        &|| {
            std::fs::set_permissions(bench.path(&tree, "bin"), std::fs::Permissions::from_mode(0o755))
                .unwrap();
            std::fs::remove_file(bench.path(&tree, "bin/run")).unwrap();
        },
        &|| {
            std::fs::set_permissions(bench.path(&tree, "empty"), std::fs::Permissions::from_mode(0o755))
                .unwrap();
            nix::unistd::mkfifo(&bench.path(&tree, "empty/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        change();
        assert_ne!(measure(&bench.trees, &tree).ok(), Some(tree), "{number}");
        bench.lay_out(&manifest, &[]).unwrap();
        assert_eq!(measure(&bench.trees, &tree).unwrap(), tree, "{number}");
    }
    assert_eq!(bench.trees.names().unwrap().len(), 2);
}

#[test]
fn swapping_directories_for_links_leads_nothing_outside() {
    let mut bench = Bench::new();
    let mut entries = vec![directory("a"), directory("a/b")];
    for number in 0..200 {
        entries.push(bench.file(&format!("a/b/{number:03}"), FileMode::Executable, b"payload"));
        // Back and forth, so that directories are opened anew.
        entries.push(bench.file(&format!("a/{number:03}"), FileMode::Executable, b"payload"));
        entries.push(directory(&format!("a/b/d{number:03}")));
    }
    let manifest = Manifest::from_entries(entries).unwrap();
    let (trees, outside) = (bench.temp.path().join("trees"), bench.temp.path().join("outside"));
    std::fs::create_dir(outside.join("b")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir(&trees).unwrap().flatten() {
                    let (a, aside) = (entry.path().join("a"), entry.path().join("aside"));
                    if std::fs::rename(&a, &aside).is_ok() {
                        let _ = std::os::unix::fs::symlink(&outside, &a);
                        let _ = std::fs::remove_file(&a);
                        let _ = std::fs::rename(&aside, &a);
                    }
                }
            }
        });
        for _ in 0..20 {
            if let Ok(tree) = bench.lay_out(&manifest, &[]) {
                let _ = remove_tree(&bench.trees, &tree);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let names = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
    assert_eq!((names(&outside), names(&outside.join("b"))), (1, 0), "something landed outside");
}

#[test]
fn removing_a_tree_follows_no_link() {
    let mut bench = Bench::new();
    let manifest = bench.sample();
    let tree = bench.lay_out(&manifest, &[]).unwrap();
    let precious = bench.temp.path().join("outside/precious");
    std::fs::write(&precious, "p").unwrap();
    std::fs::set_permissions(bench.path(&tree, ""), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(bench.temp.path().join("outside"), bench.path(&tree, "evil")).unwrap();
    remove_tree(&bench.trees, &tree).unwrap();
    assert_eq!(std::fs::read(&precious).unwrap(), b"p");
    assert!(bench.trees.names().unwrap().is_empty());
    remove_tree(&bench.trees, &tree).unwrap();
}

#[test]
fn space_is_asked_for_with_a_tenth_and_a_reserve() {
    let needed = 1_000 + 100 + RESERVE_BYTES;
    assert_eq!(shortage(1_000, 0, needed, u64::MAX), None);
    assert_eq!(shortage(1_000, 0, needed - 1, u64::MAX).unwrap().code, Code::DiskSpace);
    let needed = 10 + 1 + RESERVE_INODES;
    assert_eq!(shortage(0, 10, u64::MAX, needed), None);
    assert_eq!(shortage(0, 10, u64::MAX, needed - 1).unwrap().code, Code::DiskInodes);
    assert_eq!(shortage(u64::MAX, 0, u64::MAX, u64::MAX), None, "no overflow");
}
