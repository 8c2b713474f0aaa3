//! Makes a package of directories, one per platform: their manifests, and where the contents lie.
//! Nothing is copied; pushing reads the contents again, and the coordinator digests them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use houston_common::digest::{FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{PackageName, Platform, Version};
use houston_common::manifest::{Entry, Manifest, Node};
use houston_common::package::{PACKAGE_FILE, PACKAGE_FILE_BYTES_MAX, PackageFile, check_tree};

#[cfg(test)]
mod tests;
mod walk;

/// A package that hosts would take, not pushed yet.
#[derive(Debug)]
pub struct BuiltPackage {
    pub name: PackageName,
    pub version: Version,
    /// In the order in which the directories were given; at least one.
    pub trees: Vec<BuiltTree>,
}

#[derive(Debug)]
pub struct BuiltTree {
    pub platform: Platform,
    pub digest: TreeDigest,
    pub manifest: Manifest,
    /// The canonical text, whose SHA-256 is `digest`.
    pub manifest_bytes: Vec<u8>,
    /// What the tree's `houston.toml` says.
    pub package: PackageFile,
    /// Where to read each of the tree's contents; equal files appear once.
    pub contents: BTreeMap<FileDigest, Content>,
}

/// A file on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub path: PathBuf,
    /// Bytes, when it was digested.
    pub length: u64,
}

/// Reads every directory and refuses what a host would refuse, and trees that disagree on name or
/// version. A directory's owners, times and ignore files mean nothing: everything in it is packed.
pub fn build(directories: &[(Platform, PathBuf)]) -> Result<BuiltPackage, Refusal> {
    refuse_repeated(directories)?;
    let mut trees = Vec::new();
    for (platform, root) in directories {
        let tree = build_tree(platform, root)
            .map_err(|refusal| Refusal { what: format!("tree {platform}: {}", refusal.what), ..refusal })?;
        trees.push(tree);
    }
    let (name, version) = agreed(trees.iter().map(|tree| (&tree.platform, &tree.package)))?;
    Ok(BuiltPackage { name, version, trees })
}

fn refuse_repeated(directories: &[(Platform, PathBuf)]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match directories.iter().find(|(platform, _)| !seen.insert(platform)) {
        Some((platform, _)) => {
            let what = format!("platform \"{platform}\" is given twice");
            Err(Refusal::new(Code::CliValue, what, "give one directory per platform"))
        }
        None => Ok(()),
    }
}

/// The name and version that all trees state.
fn agreed<'a>(
    mut trees: impl Iterator<Item = (&'a Platform, &'a PackageFile)>,
) -> Result<(PackageName, Version), Refusal> {
    let Some((first_platform, first)) = trees.next() else {
        return Err(Refusal::new(Code::CliMissing, "a package has at least one tree", "give its directory"));
    };
    for (platform, other) in trees {
        if (&other.name, &other.version) != (&first.name, &first.version) {
            let what = format!(
                "{PACKAGE_FILE} says {} {} for {first_platform}, but {} {} for {platform}",
                first.name, first.version, other.name, other.version
            );
            return Err(Refusal::new(Code::PackageValue, what, "give all trees one name and version"));
        }
    }
    Ok((first.name.clone(), first.version.clone()))
}

fn build_tree(platform: &Platform, root: &Path) -> Result<BuiltTree, Refusal> {
    check_root(root)?;
    let mut entries = Vec::new();
    let mut contents = BTreeMap::new();
    for found in walk::walk(root)? {
        let node = match found.kind {
            walk::Kind::Directory => Node::Directory,
            walk::Kind::Link { target } => Node::Link { target },
            walk::Kind::File => {
                let (mode, length, digest) = walk::read(&found.on_disk)?;
                contents.entry(digest).or_insert(Content { path: found.on_disk, length });
                Node::File { mode, length, digest }
            }
        };
        entries.push(Entry { path: found.path, node });
    }
    let manifest = Manifest::from_entries(entries)?;
    let package = check_tree(&manifest, &package_file(root, &manifest)?)?;
    Ok(BuiltTree {
        platform: platform.clone(),
        digest: manifest.digest(),
        manifest_bytes: manifest.to_bytes(),
        manifest,
        package,
        contents,
    })
}

/// A directory that was not meant is known before all that is in it is read.
fn check_root(root: &Path) -> Result<(), Refusal> {
    let next = format!("name a directory with a {PACKAGE_FILE}");
    let refuse = |code, what: String| Err(Refusal::new(code, format!("{} {what}", walk::shown(root)), next));
    match fs::metadata(root) {
        Err(error) => refuse(Code::CliValue, format!("cannot be read: {error}")),
        Ok(metadata) if !metadata.is_dir() => refuse(Code::CliValue, "is no directory".to_owned()),
        Ok(_) if fs::symlink_metadata(root.join(PACKAGE_FILE)).is_err() => {
            refuse(Code::PackageSyntax, format!("has no {PACKAGE_FILE}"))
        }
        Ok(_) => Ok(()),
    }
}

/// The bytes of `houston.toml`; none if the tree has no such plain file, which `check_tree` refuses.
fn package_file(root: &Path, manifest: &Manifest) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    match manifest.get(PACKAGE_FILE) {
        Some(Node::File { length, .. }) if *length > PACKAGE_FILE_BYTES_MAX as u64 => {
            let what = format!("{PACKAGE_FILE} has more than {PACKAGE_FILE_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::PackageSyntax, what, ""));
        }
        Some(Node::File { length, .. }) => {
            let path = root.join(PACKAGE_FILE);
            // One byte more than expected shows that it grew; more is not read.
            fs::File::open(&path)
                .and_then(|file| file.take(length + 1).read_to_end(&mut bytes))
                .map_err(|error| walk::failed("read", &path, &error))?;
        }
        Some(Node::Directory | Node::Link { .. }) | None => {}
    }
    Ok(bytes)
}
