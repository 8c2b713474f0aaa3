//! Lays trees out and measures them.
//!
//! A tree is made whole under a name of its own and renamed to its digest at the end, so a directory
//! with a digest for a name is complete. What it holds is still never believed from its name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use houston_common::digest::{FileDigest, Hasher, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::manifest::{Entry, FileMode, MANIFEST_BYTES_MAX, Manifest, Node, PATH_BYTES_MAX};
use rustix::fs::FileType;

use super::dir::{Dir, refused, unfinished};

#[cfg(test)]
mod tests;

/// Nothing is to be added to a directory of a tree.
const DIRECTORY_MODE: u32 = 0o555;

/// Left free on the disk by a layout, so that the journal and the services' own files have room.
const RESERVE_BYTES: u64 = 64 << 20;
const RESERVE_INODES: u64 = 1024;

/// Large enough that system calls do not matter, small enough for any host.
const COPY_BYTES: usize = 128 << 10;

/// Lays a tree out as `trees/<digest>`, durable on return, and returns the digest. Does nothing if
/// the tree is there and measures right; one that does not is replaced.
///
/// Contents come from equal files of the `kept` trees, else from `contents`, which names a verified
/// file for a digest. All of them are verified again while they are copied.
pub fn lay_out(
    trees: &Dir,
    manifest: &Manifest,
    contents: impl Fn(&FileDigest) -> Option<PathBuf>,
    kept: &[TreeDigest],
) -> Result<TreeDigest, Refusal> {
    let digest = manifest.digest();
    let name = digest.to_string();
    if trees.kind(&name).map_err(|e| refused("looking for a tree", &e))?.is_some()
        && measure(trees, &digest).is_ok_and(|measured| measured == digest)
        && trees.kind(manifest_name(&digest)).is_ok_and(|kind| kind.is_some())
    {
        return Ok(digest);
    }
    check_space(trees, blocks(manifest), manifest.entries().len() as u64 + 2)?;
    let fresh = unfinished(OsStr::new(&name));
    let made = fill(trees, &fresh, manifest, &contents, kept).and_then(|()| {
        let place = |e: io::Error| refused("putting a tree into its place", &e);
        trees.replace(manifest_name(&digest), &manifest.to_bytes()).map_err(place)?;
        if trees.kind(&name).map_err(place)?.is_some() {
            let aside = unfinished(OsStr::new(&name));
            trees.rename(&name, &aside).map_err(place)?;
            // What still runs from it keeps its open files.
            trees.remove(&aside).map_err(place)?;
        }
        trees.rename(&fresh, &name).and_then(|()| trees.sync()).map_err(place)
    });
    if made.is_err() {
        let _ = trees.remove(&fresh);
    }
    made.map(|()| digest)
}

/// Refuses if the disk has not `bytes` and `inodes`, a tenth more and the reserve.
pub fn check_space(dir: &Dir, bytes: u64, inodes: u64) -> Result<(), Refusal> {
    let free = dir.statvfs().map_err(|e| refused("asking for free space", &e))?;
    // File systems without a fixed number of inodes report 0 of 0.
    let inodes_free = if free.f_files == 0 { u64::MAX } else { free.f_favail };
    shortage(bytes, inodes, free.f_bavail.saturating_mul(free.f_frsize), inodes_free).map_or(Ok(()), Err)
}

fn shortage(bytes: u64, inodes: u64, bytes_free: u64, inodes_free: u64) -> Option<Refusal> {
    let with_reserve = |wanted: u64, reserve| wanted.saturating_add(wanted / 10).saturating_add(reserve);
    let bytes_wanted = with_reserve(bytes, RESERVE_BYTES);
    let inodes_wanted = with_reserve(inodes, RESERVE_INODES);
    if bytes_wanted > bytes_free {
        let what = format!("{bytes_wanted} bytes are needed (reserve included), {bytes_free} are free");
        return Some(Refusal::new(Code::DiskSpace, what, "free space on the host's disk"));
    }
    if inodes_wanted > inodes_free {
        let what = format!("{inodes_wanted} inodes are needed (reserve included), {inodes_free} are free");
        return Some(Refusal::new(Code::DiskInodes, what, "remove files on the host's disk"));
    }
    None
}

/// Bytes on disk, as if nothing could be shared.
fn blocks(manifest: &Manifest) -> u64 {
    const BLOCK: u64 = 4096;
    manifest.files().map(|(_, _, length, _)| length.div_ceil(BLOCK) * BLOCK).sum::<u64>()
        + manifest.entries().len() as u64 * BLOCK / 8
}

/// Where the manifest of a laid-out tree is kept: beside it, so that the tree holds nothing else.
fn manifest_name(digest: &TreeDigest) -> String {
    format!("{digest}.manifest")
}

/// The manifest that a kept tree was laid out from, verified against the tree's digest; absent if
/// it is missing or damaged. Says what the tree should hold, not what it does.
pub fn kept_manifest(trees: &Dir, digest: &TreeDigest) -> Option<Manifest> {
    let bytes = trees.read(manifest_name(digest), MANIFEST_BYTES_MAX as u64).ok()??;
    let manifest = Manifest::parse(&bytes).ok()?;
    (manifest.digest() == *digest).then_some(manifest)
}

/// Removes a tree with its manifest. It vanishes from its name first, so a crash leaves no half of it.
pub fn remove_tree(trees: &Dir, digest: &TreeDigest) -> Result<(), Refusal> {
    let name = digest.to_string();
    let gone = |e: io::Error| refused(format!("removing the tree {}", digest.short()), &e);
    if trees.kind(&name).map_err(gone)?.is_some() {
        let aside = unfinished(OsStr::new(&name));
        trees.rename(&name, &aside).and_then(|()| trees.remove(&aside)).map_err(gone)?;
    }
    trees.remove(manifest_name(digest)).map_err(gone)
}

/// A directory of the tree that is being made, kept open for the next entry, which is mostly beside.
struct Parent {
    path: String,
    dir: Dir,
}

fn fill(
    trees: &Dir,
    fresh: &OsStr,
    manifest: &Manifest,
    contents: &impl Fn(&FileDigest) -> Option<PathBuf>,
    kept: &[TreeDigest],
) -> Result<(), Refusal> {
    let reuse = Reuse::of(trees, kept);
    let making = |e: io::Error| refused("laying out a tree", &e);
    let root = trees.make(fresh, 0o700).map_err(making)?;
    let mut parent = Parent { path: String::new(), dir: trees.dir(fresh).map_err(making)? };
    for Entry { path, node } in manifest.entries() {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if parent.path != above {
            parent = Parent { path: above.to_owned(), dir: descend(&root, above).map_err(making)? };
        }
        let at = |e: io::Error| refused(format!("laying out \"{}\"", quoted(path)), &e);
        match node {
            Node::Directory => drop(parent.dir.make(name, 0o700).map_err(at)?),
            Node::Link { target } => parent.dir.make_link(target, name).map_err(at)?,
            Node::File { mode, length, digest } => {
                let file = parent.dir.create(name).map_err(at)?;
                write_file(&file, path, *length, digest, &reuse, contents)?;
                let mode = rustix::fs::Mode::from_raw_mode(mode.bits());
                rustix::fs::fchmod(&file, mode).map_err(|e| at(e.into()))?;
            }
        }
    }
    for Entry { path, node } in manifest.entries() {
        if *node == Node::Directory {
            descend(&root, path).and_then(|dir| dir.set_mode(DIRECTORY_MODE)).map_err(making)?;
        }
    }
    root.set_mode(DIRECTORY_MODE).map_err(making)?;
    // One sync of the file system, not one per file: thousands of small files would be a journal
    // commit each. It covers contents and names, and reports write-back errors (since Linux 5.8)
    // that happened after this descriptor was opened, before the first byte was written.
    rustix::fs::syncfs(&root).map_err(|e| making(e.into()))
}

/// Opens a directory of a tree by one name at a time; `""` is the tree's root.
fn descend(root: &Dir, path: &str) -> io::Result<Dir> {
    let mut at: Option<Dir> = None;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = Some(at.as_ref().unwrap_or(root).dir(name)?);
    }
    at.map_or_else(|| rustix::io::fcntl_dupfd_cloexec(root, 3).map(Dir::from).map_err(io::Error::from), Ok)
}

/// The files of kept trees by digest.
struct Reuse {
    roots: Vec<Dir>,
    files: HashMap<FileDigest, (usize, String)>,
}

impl Reuse {
    fn of(trees: &Dir, kept: &[TreeDigest]) -> Self {
        let mut reuse = Self { roots: Vec::new(), files: HashMap::new() };
        for digest in kept {
            let Some(manifest) = kept_manifest(trees, digest) else { continue };
            let Ok(root) = trees.dir(digest.to_string()) else { continue };
            for (path, _, _, file) in manifest.files() {
                reuse.files.entry(file).or_insert_with(|| (reuse.roots.len(), path.to_owned()));
            }
            reuse.roots.push(root);
        }
        reuse
    }

    fn open(&self, digest: &FileDigest) -> Option<File> {
        let (root, path) = self.files.get(digest)?;
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        descend(&self.roots[*root], above).ok()?.file(name).ok()
    }
}

fn write_file(
    file: &File,
    path: &str,
    length: u64,
    digest: &FileDigest,
    reuse: &Reuse,
    contents: &impl Fn(&FileDigest) -> Option<PathBuf>,
) -> Result<(), Refusal> {
    let at = |e: io::Error| refused(format!("writing \"{}\"", quoted(path)), &e);
    // A kept tree may have been damaged since; then the contents are needed after all.
    if let Some(source) = reuse.open(digest)
        && copy_verified(&source, file, length, digest).map_err(at)?
    {
        return Ok(());
    }
    let Some(blob) = contents(digest) else {
        let what = format!("the contents of \"{}\" ({}) are not on this host", quoted(path), digest.short());
        return Err(Refusal::new(Code::FileMissing, what, "they are fetched again by the next prepare"));
    };
    let source = File::open(&blob).map_err(at)?;
    if copy_verified(&source, file, length, digest).map_err(at)? {
        return Ok(());
    }
    let what = format!("the contents of \"{}\" are not those of {}", quoted(path), digest.short());
    Err(Refusal::new(Code::FileDigest, what, "they are fetched again by the next prepare"))
}

/// Makes `target` equal to `source` by sharing blocks or by copying; false (and `target` empty) if
/// it is not of this length and digest. Reads at most one byte more than `length`.
fn copy_verified(source: &File, mut target: &File, length: u64, digest: &FileDigest) -> io::Result<bool> {
    let right = source.metadata()?.len() == length && {
        if rustix::fs::ioctl_ficlone(target, source).is_ok() {
            // What counts is what the target holds now.
            target.rewind()?;
            digest_of(target, length, |_| Ok(()))? == Some(*digest)
        } else {
            digest_of(source, length, |bytes| target.write_all(bytes))? == Some(*digest)
        }
    };
    if !right {
        target.set_len(0)?;
        target.rewind()?;
    }
    Ok(right)
}

/// The digest of a file, each piece passed on too; absent if it is longer or shorter than `length`.
fn digest_of(
    file: &File,
    length: u64,
    mut pass: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Option<FileDigest>> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(length).unwrap_or(COPY_BYTES) + 1)];
    let mut reader = file.take(length.saturating_add(1));
    let mut seen = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                seen += read as u64;
                if seen > length {
                    return Ok(None);
                }
                hasher.update(&buffer[..read]);
                pass(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((seen == length).then(|| FileDigest(hasher.finish())))
}

/// What the directory `trees/<tree>` holds, recomputed from every byte of it. Equal to `tree` if it
/// is undamaged. Refused with `E-TREE-DIFF` if it is missing or holds what no tree can.
pub fn measure(trees: &Dir, tree: &TreeDigest) -> Result<TreeDigest, Refusal> {
    let differs = |what: String| {
        let what = format!("the tree {} {what}", tree.short());
        Refusal::new(Code::TreeDiffers, what, "it is laid out again by the next prepare")
    };
    let root = trees.dir(tree.to_string()).map_err(|e| differs(format!("cannot be opened: {e}")))?;
    let mut entries = Vec::new();
    collect_entries(&root, "", &mut entries).map_err(differs)?;
    let manifest = Manifest::from_entries(entries).map_err(|refusal| differs(refusal.what))?;
    Ok(manifest.digest())
}

fn collect_entries(dir: &Dir, above: &str, entries: &mut Vec<Entry>) -> Result<(), String> {
    for name in dir.names().map_err(|e| format!("cannot be listed at \"{}\": {e}", quoted(above)))? {
        let name = name.to_str().ok_or("has a name that is not UTF-8")?;
        let path = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        if path.len() > PATH_BYTES_MAX {
            return Err("has a path that is too long".to_owned());
        }
        let at = |e: io::Error| format!("cannot be read at \"{}\": {e}", quoted(&path));
        let (kind, mode) = dir.kind(name).map_err(at)?.ok_or("changes while it is measured")?;
        let node = match kind {
            FileType::Directory => Node::Directory,
            FileType::Symlink => Node::Link { target: link_target(dir, name).map_err(at)? },
            FileType::RegularFile => {
                let mode = [FileMode::Plain, FileMode::Executable]
                    .into_iter()
                    .find(|known| known.bits() == mode)
                    .ok_or_else(|| format!("has mode {mode:o} at \"{}\"", quoted(&path)))?;
                let file = dir.file(name).map_err(at)?;
                let length = file.metadata().map_err(at)?.len();
                let digest = digest_of(&file, length, |_| Ok(())).map_err(at)?;
                Node::File { mode, length, digest: digest.ok_or("changes while it is measured")? }
            }
            _ => return Err(format!("has a special file at \"{}\"", quoted(&path))),
        };
        let below = matches!(node, Node::Directory).then(|| dir.dir(name)).transpose().map_err(at)?;
        entries.push(Entry { path: path.clone(), node });
        if let Some(below) = below {
            collect_entries(&below, &path, entries)?;
        }
    }
    Ok(())
}

fn link_target(dir: &Dir, name: &str) -> io::Result<String> {
    let target = dir.read_link(name)?.ok_or(io::ErrorKind::NotFound)?;
    target.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}
