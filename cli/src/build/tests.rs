use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use houston_common::digest::Digest;
use houston_common::manifest::FileMode;
use nix::sys::stat::Mode;

use super::*;

const PACKAGE: &str = "name = \"hello\"\nversion = \"1.0\"\n";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(package_file: &str) -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        tree.file(PACKAGE_FILE, package_file, 0o644);
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, text: &str, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn build(&self) -> Result<BuiltPackage, Refusal> {
        build(&[(Platform::any(), self.0.path().to_owned())])
    }

    #[track_caller]
    fn refused(&self, code: Code, part: &str) {
        let refusal = self.build().expect_err(part);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.to_string().contains(part), "{refusal}");
        assert!(refusal.to_string().chars().all(houston_common::id::is_plain));
    }
}

#[test]
fn a_directory_becomes_a_manifest_and_contents() {
    let tree = Tree::new(PACKAGE);
    tree.file("bin/app", "app", 0o750);
    tree.file("lib/a", "same", 0o600);
    tree.file("lib/b", "same", 0o664);
    symlink("../bin/app", tree.at("lib/app")).expect("linked");
    fs::hard_link(tree.at("lib/a"), tree.at("lib/hard")).expect("linked");
    fs::create_dir(tree.at("empty")).expect("created");

    let package = tree.build().expect("built");
    assert_eq!((package.name.as_str(), package.version.as_str()), ("hello", "1.0"));
    let [built] = &package.trees[..] else { panic!("one tree") };
    let node = |mode, text: &str| Node::File {
        mode,
        length: text.len() as u64,
        digest: FileDigest(Digest::of(text.as_bytes())),
    };
    let expected = [
        ("bin", Node::Directory),
        ("bin/app", node(FileMode::Executable, "app")),
        ("empty", Node::Directory),
        (PACKAGE_FILE, node(FileMode::Plain, PACKAGE)),
        ("lib", Node::Directory),
        ("lib/a", node(FileMode::Plain, "same")),
        ("lib/app", Node::Link { target: "../bin/app".to_owned() }),
        ("lib/b", node(FileMode::Plain, "same")),
        ("lib/hard", node(FileMode::Plain, "same")),
    ];
    let expected: Vec<Entry> =
        expected.into_iter().map(|(path, node)| Entry { path: path.to_owned(), node }).collect();
    assert_eq!(built.manifest.entries(), expected);
    assert_eq!(built.digest.0, Digest::of(&built.manifest_bytes));
    assert_eq!(built.contents.len(), 3);
    for (digest, content) in &built.contents {
        let bytes = fs::read(&content.path).expect("readable");
        assert_eq!((digest.0, content.length), (Digest::of(&bytes), bytes.len() as u64));
    }
}

#[test]
fn building_twice_gives_one_digest_whatever_the_umask() {
    let (one, two) = (Tree::new(PACKAGE), Tree::new(PACKAGE));
    one.file("a/b", "x", 0o600);
    two.file("a/b", "x", 0o666);
    let digest = |tree: &Tree| tree.build().expect("built").trees[0].digest;
    assert_eq!(digest(&one), digest(&two));
    two.file("a/b", "x", 0o700);
    assert_ne!(digest(&one), digest(&two));
}

#[test]
fn what_a_tree_cannot_carry_is_refused() {
    let tree = Tree::new(PACKAGE);
    nix::unistd::mkfifo(&tree.at("pipe"), Mode::S_IRUSR).expect("made");
    tree.refused(Code::TreeType, "\"pipe\" is a pipe, socket or device");

    let tree = Tree::new(PACKAGE);
    let _listener = UnixListener::bind(tree.at("socket")).expect("bound");
    tree.refused(Code::TreeType, "\"socket\"");

    for mode in [0o4755, 0o2755] {
        let tree = Tree::new(PACKAGE);
        tree.file("bin/su", "x", mode);
        tree.refused(Code::TreeMode, "\"bin/su\"");
    }

    let tree = Tree::new(PACKAGE);
    fs::write(tree.0.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "").expect("written");
    tree.refused(Code::TreePath, "is not UTF-8");

    for name in ["a\nb", "a\\b", ".houston-x", "\u{202e}"] {
        let tree = Tree::new(PACKAGE);
        tree.file(name, "", 0o644);
        tree.refused(Code::TreePath, "any: ");
    }

    let tree = Tree::new(PACKAGE);
    tree.file("Readme", "", 0o644);
    tree.file("README", "", 0o644);
    tree.refused(Code::TreeDuplicate, "only in case");
}

#[test]
fn links_that_leave_are_refused_and_never_followed() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "x").expect("written");
    for target in [outside.path().to_str().expect("UTF-8"), "../outside", "missing", "."] {
        let tree = Tree::new(PACKAGE);
        symlink(target, tree.at("link")).expect("linked");
        tree.refused(Code::TreeLink, "\"link\"");
    }
    let tree = Tree::new(PACKAGE);
    fs::rename(tree.at(PACKAGE_FILE), tree.at("other.toml")).expect("renamed");
    symlink("other.toml", tree.at(PACKAGE_FILE)).expect("linked");
    tree.refused(Code::PackageSyntax, "not a plain file");
}

#[test]
fn a_file_that_claims_more_than_a_tree_may_hold_is_not_read() {
    let tree = Tree::new(PACKAGE);
    let file = fs::File::create(tree.at("sparse")).expect("created");
    file.set_len(houston_common::manifest::TREE_BYTES_MAX).expect("a sparse file");
    tree.refused(Code::TreeLimit, "64 GiB");
}

#[test]
fn the_package_file_is_checked_as_on_a_host() {
    let tree = Tree::new(PACKAGE);
    fs::remove_file(tree.at(PACKAGE_FILE)).expect("removed");
    tree.refused(Code::PackageSyntax, "has no houston.toml");

    Tree::new("name = \"hello\"\n").refused(Code::PackageValue, "version");
    Tree::new(&format!("{PACKAGE}{}", "#".repeat(PACKAGE_FILE_BYTES_MAX)))
        .refused(Code::PackageSyntax, "65536");

    let tree = Tree::new(&format!("{PACKAGE}[hooks.start]\ncommand = [\"bin/start\"]\n"));
    tree.refused(Code::HookMissing, "is not in the tree");
    tree.file("bin/start", "", 0o644);
    tree.refused(Code::HookMissing, "is not executable");
    tree.file("bin/start", "", 0o755);
    tree.build().expect("built");
}

#[test]
fn trees_of_a_package_agree() {
    let (one, two) = (Tree::new(PACKAGE), Tree::new(&PACKAGE.replace("1.0", "1.1")));
    let platform = |text: &str| text.parse::<Platform>().expect("a platform");
    let path = |tree: &Tree| tree.0.path().to_owned();
    let code = |directories: &[(Platform, PathBuf)]| build(directories).map_err(|refusal| refusal.code).err();

    let (amd, arm) = (platform("linux-amd64"), platform("linux-arm64"));
    let package = build(&[(arm.clone(), path(&one)), (amd.clone(), path(&one))]).expect("built");
    assert_eq!(package.trees.iter().map(|tree| &tree.platform).collect::<Vec<_>>(), [&arm, &amd]);
    assert_eq!(code(&[(amd.clone(), path(&one)), (arm, path(&two))]), Some(Code::PackageValue));
    assert_eq!(code(&[(amd.clone(), path(&one)), (amd.clone(), path(&one))]), Some(Code::CliValue));
    assert_eq!(code(&[]), Some(Code::CliMissing));
    assert_eq!(code(&[(amd.clone(), one.at("none"))]), Some(Code::CliValue));
    assert_eq!(code(&[(amd, one.at(PACKAGE_FILE))]), Some(Code::CliValue));
}
