use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use houston_common::digest::Digest;
use houston_common::manifest::{Entry, FileMode, Node};
use houston_common::release::{PackageVersion, Settings, VersionSet};

use super::*;

struct Bench {
    temp: tempfile::TempDir,
    state: StateDir,
    environment: EnvironmentDir,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(temp.path()).unwrap();
        let environment = state.environment(&name("prod")).unwrap();
        Self { temp, state, environment }
    }

    fn tree(&self, contents: &str) -> TreeDigest {
        let digest = FileDigest(Digest::of(contents.as_bytes()));
        let node = Node::File { mode: FileMode::Plain, length: contents.len() as u64, digest };
        let manifest = Manifest::from_entries(vec![Entry { path: "file".to_owned(), node }]).unwrap();
        let blob = self.temp.path().join("blob");
        std::fs::write(&blob, contents).unwrap();
        self.state.lay_out(&manifest, |_| Some(blob.clone()), &[]).unwrap()
    }

    /// A release of package `web` with this file, composed.
    fn release(&self, contents: &str) -> (ReleaseDigest, TreeDigest) {
        let tree = self.tree(contents);
        (self.environment.compose(&content("web", tree), &[Platform::any()]).unwrap(), tree)
    }

    fn file(&self, tree: &TreeDigest) -> PathBuf {
        self.state.tree_path(tree).join("file")
    }
}

fn name(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

fn content(package: &str, tree: TreeDigest) -> ReleaseContent {
    let package = PackageVersion {
        name: package.parse().unwrap(),
        version: "1".parse().unwrap(),
        trees: BTreeMap::from([(Platform::any(), tree)]),
    };
    ReleaseContent {
        version_set: Arc::new(VersionSet { packages: vec![package] }),
        settings: Arc::new(Settings(BTreeMap::from([("A".parse().unwrap(), "1\n\u{0}2".to_owned())]))),
    }
}

#[test]
fn a_release_is_composed_switched_to_and_measured() {
    let bench = Bench::new();
    assert_eq!(bench.environment.current().unwrap(), None);
    assert_eq!(bench.environment.measure(bench.state.trees()).unwrap(), None);
    let (one, tree) = bench.release("one");
    assert_eq!(bench.environment.content(&one).unwrap(), content("web", tree));
    bench.environment.switch(Some(&one)).unwrap();
    bench.environment.switch(Some(&one)).unwrap();
    assert_eq!(bench.environment.current().unwrap(), Some(one));
    assert_eq!(bench.environment.measure(bench.state.trees()).unwrap(), Some(one));
    let reached = bench.environment.path().join("current/web/file");
    assert_eq!(std::fs::read_to_string(reached).unwrap(), "one");
    bench.environment.switch(None).unwrap();
    bench.environment.switch(None).unwrap();
    assert_eq!(bench.environment.current().unwrap(), None);
}

#[test]
fn measuring_believes_no_name() {
    let bench = Bench::new();
    let (one, tree) = bench.release("one");
    let (two, _) = bench.release("two");
    bench.environment.switch(Some(&one)).unwrap();
    std::fs::write(bench.file(&tree), "ONE").unwrap();
    let refusal = bench.environment.measure(bench.state.trees()).unwrap_err();
    assert_eq!(refusal.code, Code::TreeDiffers, "{refusal}");
    std::fs::write(bench.file(&tree), "one").unwrap();
    bench.environment.measure(bench.state.trees()).unwrap();
    // The content of another release under this one's name.
    let releases = bench.environment.path().join("releases");
    let copy = |from: &ReleaseDigest, to: &ReleaseDigest| {
        std::fs::copy(
            releases.join(from.to_string()).join(CONTENT),
            releases.join(to.to_string()).join(CONTENT),
        )
    };
    copy(&two, &one).unwrap();
    assert_eq!(bench.environment.measure(bench.state.trees()).unwrap_err().code, Code::TreeDiffers);
    assert_eq!(bench.release("one").0, one, "composing mends it");
    assert_eq!(bench.environment.measure(bench.state.trees()).unwrap(), Some(one));
}

#[test]
fn a_package_may_have_any_name_and_must_fit_the_host() {
    let bench = Bench::new();
    let tree = bench.tree("x");
    for package in ["settings", "release", "current", "releases"] {
        let release = bench.environment.compose(&content(package, tree), &[Platform::any()]).unwrap();
        bench.environment.switch(Some(&release)).unwrap();
        assert_eq!(bench.environment.measure(bench.state.trees()).unwrap(), Some(release));
    }
    let other: Platform = "linux-riscv64".parse().unwrap();
    let refusal = bench.environment.compose(&content("web", tree), &[other]).unwrap_err();
    assert_eq!(refusal.code, Code::PlatformMissing);
}

#[test]
fn every_observer_sees_a_whole_release() {
    let bench = Bench::new();
    let releases = [bench.release("one").0, bench.release("two").0];
    bench.environment.switch(Some(&releases[0])).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                let text =
                    std::fs::read_to_string(bench.environment.path().join("current/web/file")).unwrap();
                assert!(["one", "two"].contains(&text.as_str()));
                seen += 1;
            }
            seen
        });
        for turn in 0..200 {
            bench.environment.switch(Some(&releases[turn % 2])).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(observer.join().unwrap() > 0);
    });
}

#[test]
fn collection_spares_what_is_referred_to() {
    let bench = Bench::new();
    let (current, current_tree) = bench.release("current");
    let (back, back_tree) = bench.release("back");
    let (old, old_tree) = bench.release("old");
    let preparing = bench.tree("preparing");
    bench.environment.switch(Some(&current)).unwrap();
    let other = bench.state.environment(&name("test")).unwrap();
    let shared = other.compose(&content("web", old_tree), &[Platform::any()]).unwrap();
    other.switch(Some(&shared)).unwrap();
    std::fs::create_dir(bench.temp.path().join("trees/.new-left-1-1")).unwrap();
    let keep = BTreeMap::from([(name("prod"), BTreeSet::from([back]))]);
    let collected = bench.state.collect(&keep, &BTreeSet::from([preparing])).unwrap();
    // `old` is gone as a release of prod, but its tree runs in test.
    assert_eq!(collected, Collected { releases: 1, trees: BTreeSet::new() });
    assert!(bench.environment.content(&old).is_err());
    for tree in [current_tree, back_tree, old_tree, preparing] {
        assert_eq!(layout::measure(bench.state.trees(), &tree).unwrap(), tree);
    }
    other.switch(None).unwrap();
    let collected = bench.state.collect(&BTreeMap::new(), &BTreeSet::new()).unwrap();
    assert_eq!(collected.trees, BTreeSet::from([back_tree, old_tree, preparing]));
    assert_eq!(bench.environment.measure(bench.state.trees()).unwrap(), Some(current), "never what runs");
    assert_eq!(bench.state.trees().names().unwrap().len(), 2);
}

#[test]
fn data_outlives_releases_and_belongs_to_its_user() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new();
    let package: PackageName = "web".parse().unwrap();
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let owner = if own.uid.is_root() { "nobody" } else { &own.name };
    let data = bench.environment.data(&package, Some(owner)).unwrap();
    std::fs::write(data.join("state"), "s").unwrap();
    let wanted = super::super::exec::user(owner).unwrap().uid.as_raw();
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), wanted);
    bench.state.collect(&BTreeMap::new(), &BTreeSet::new()).unwrap();
    assert_eq!(bench.environment.data(&package, Some(owner)).unwrap(), data);
    assert_eq!(std::fs::read_to_string(data.join("state")).unwrap(), "s");
    let refusal = bench.environment.data(&package, Some("no-such-user")).unwrap_err();
    assert_eq!(refusal.code, Code::HookUser);
    // A link in its place is not followed.
    std::fs::remove_dir_all(&data).unwrap();
    std::os::unix::fs::symlink("/etc", &data).unwrap();
    assert!(bench.environment.data(&package, Some(owner)).is_err());
}
