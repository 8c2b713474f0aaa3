//! The canonical text of a tree. Its digest is the tree's name.
//!
//! ```text
//! houston-tree 1
//! d<TAB>path
//! f<TAB>0644|0755<TAB>length<TAB>sha256<TAB>path
//! l<TAB>target<TAB>path
//! ```
//!
//! One line per entry, sorted by the bytes of the path, each ended by a newline. There is exactly one
//! text for a tree, so reading is strict: whatever a writer would not have written is refused, never
//! dropped or mended. A host lays out only what was read here, hence the rules on paths and links:
//! every parent is an entry, and a link leads to an entry without passing through another link.

use std::collections::HashMap;

use crate::digest::{Digest, FileDigest, TreeDigest};
use crate::error::{Code, Refusal};
use crate::id::quoted;

mod path;
#[cfg(test)]
mod tests;

pub use path::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, check_path};

/// The first line, without its newline.
const HEADER: &str = "houston-tree 1";

/// Most bytes of a manifest's text: every entry that is allowed, with paths of 80 bytes on average.
pub const MANIFEST_BYTES_MAX: usize = 32 << 20;

/// Most entries of a tree. A large Node.js application has 60,000; more is a build directory packed
/// by accident, and would use up a small host's inodes.
pub const ENTRIES_MAX: usize = 200_000;

/// Most bytes of all files of a tree together: more does not reach a fleet within a rollout's patience.
pub const TREE_BYTES_MAX: u64 = 64 << 30;

/// Most links that lead to one another in a row; `libx.so → libx.so.1 → libx.so.1.2` needs two.
const LINK_CHAIN_MAX: usize = 8;

const NEXT: &str = "change the tree and build the package again";

/// A file's permissions; trees carry no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileMode {
    /// 0644
    Plain,
    /// 0755
    Executable,
}

impl FileMode {
    /// The permission bits, as for `chmod`.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "0644",
            Self::Executable => "0755",
        }
    }
}

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the tree's root, components joined by `/`.
    pub path: String,
    pub node: Node,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    File {
        mode: FileMode,
        length: u64,
        digest: FileDigest,
    },
    /// A symbolic link; the target is relative to the link's own directory.
    Link {
        target: String,
    },
}

/// A tree's entries, known to obey every rule above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Sorted by the bytes of the path.
    entries: Vec<Entry>,
    total_bytes: u64,
}

impl Manifest {
    /// Reads a canonical text; any other is refused, with the number of the entry that is wrong, from 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(too_many_bytes(bytes.len()));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| syntax(format!("manifest is not UTF-8 at byte {}", error.valid_up_to())))?;
        let body = text
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or_else(|| syntax(format!("manifest does not start with the line \"{HEADER}\"")))?;
        let mut entries: Vec<Entry> = Vec::new();
        for (index, line) in body.split_inclusive('\n').enumerate() {
            let number = index + 1;
            if number > ENTRIES_MAX {
                return Err(too_many_entries());
            }
            let line = line
                .strip_suffix('\n')
                .ok_or_else(|| syntax(format!("manifest entry {number} has no newline at its end")))?;
            let entry = read_entry(line)
                .map_err(|what| syntax(format!("manifest entry {number} \"{}\" {what}", quoted(line))))?;
            if entries.last().is_some_and(|last| last.path > entry.path) {
                return Err(refused(Code::TreeSyntax, number, &entry.path, "is not in the order of paths"));
            }
            entries.push(entry);
        }
        Self::checked(entries)
    }

    /// A tree of these entries, in any order. Entry numbers in refusals count in the order of paths.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, Refusal> {
        if entries.len() > ENTRIES_MAX {
            return Err(too_many_entries());
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Self::checked(entries)?;
        let length = manifest.to_bytes().len();
        if length > MANIFEST_BYTES_MAX { Err(too_many_bytes(length)) } else { Ok(manifest) }
    }

    /// Takes sorted entries if they obey the rules.
    fn checked(entries: Vec<Entry>) -> Result<Self, Refusal> {
        let mut total_bytes: u64 = 0;
        for (index, entry) in entries.iter().enumerate() {
            let number = index + 1;
            check_path(&entry.path).map_err(|what| refused(Code::TreePath, number, &entry.path, &what))?;
            if let Node::File { length, .. } = entry.node {
                total_bytes = total_bytes
                    .checked_add(length)
                    .filter(|total| *total <= TREE_BYTES_MAX)
                    .ok_or_else(|| {
                        let what = format!("brings the tree above {} GiB", TREE_BYTES_MAX >> 30);
                        refused(Code::TreeLimit, number, &entry.path, &what)
                    })?;
            }
        }
        refuse_duplicates(&entries)?;
        let manifest = Self { entries, total_bytes };
        manifest.refuse_orphans()?;
        manifest.refuse_stray_links()?;
        Ok(manifest)
    }

    fn refuse_orphans(&self) -> Result<(), Refusal> {
        for (index, entry) in self.entries.iter().enumerate() {
            let Some((parent, _)) = entry.path.rsplit_once('/') else { continue };
            if self.get(parent) != Some(&Node::Directory) {
                let what = format!("has no entry for its directory \"{}\"", quoted(parent));
                return Err(refused(Code::TreePath, index + 1, &entry.path, &what));
            }
        }
        Ok(())
    }

    fn refuse_stray_links(&self) -> Result<(), Refusal> {
        for (index, entry) in self.entries.iter().enumerate() {
            let Node::Link { target } = &entry.node else { continue };
            self.check_link(&entry.path, target).map_err(|what| {
                let what = format!("is a link to \"{}\", {what}", quoted(target));
                refused(Code::TreeLink, index + 1, &entry.path, &what)
            })?;
        }
        Ok(())
    }

    fn check_link(&self, path: &str, target: &str) -> Result<(), &'static str> {
        let mut at = path::resolve(path, target)?;
        for _ in 0..LINK_CHAIN_MAX {
            if at.is_empty() {
                return Ok(());
            }
            // That the path is an entry means that its parents are directories: no link is passed through.
            match self.get(&at).ok_or("which is not in the tree or lies behind another link")? {
                Node::Directory | Node::File { .. } => return Ok(()),
                Node::Link { target } => at = path::resolve(&at, target)?,
            }
        }
        Err("which leads through too many links")
    }

    /// The canonical text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        for Entry { path, node } in &self.entries {
            match node {
                Node::Directory => text.extend(["d\t", path, "\n"]),
                Node::File { mode, length, digest } => {
                    text.push_str(&format!("f\t{}\t{length}\t{digest}\t{path}\n", mode.as_str()));
                }
                Node::Link { target } => text.extend(["l\t", target, "\t", path, "\n"]),
            }
        }
        text.into_bytes()
    }

    pub fn digest(&self) -> TreeDigest {
        TreeDigest(Digest::of(&self.to_bytes()))
    }

    /// In the order of the paths' bytes: a directory comes before what is in it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files together; equal files count each time.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Path, mode, length in bytes and digest of every file, in the order of paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, FileMode, u64, FileDigest)> {
        self.entries.iter().filter_map(|entry| match entry.node {
            Node::File { mode, length, digest } => Some((entry.path.as_str(), mode, length, digest)),
            Node::Directory | Node::Link { .. } => None,
        })
    }

    /// What is at exactly this path; links are not followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let index = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[index].node)
    }

    /// What a path leads to when links are followed, in its middle and at its end.
    pub fn follow(&self, path: &str) -> Option<&Node> {
        let mut path = path.to_owned();
        // A link's target passes through no link, so every round brings the path nearer to its end.
        for _ in 0..PATH_BYTES_MAX {
            let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
            let link = ends.filter_map(|end| match self.get(&path[..end])? {
                Node::Link { target } => Some((end, target)),
                Node::Directory | Node::File { .. } => None,
            });
            let Some((end, target)) = link.min_by_key(|(end, _)| *end) else { return self.get(&path) };
            let reached = path::resolve(&path[..end], target).ok()?;
            let rest = path[end..].trim_start_matches('/');
            path = [reached.as_str(), rest]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/");
        }
        None
    }
}

/// One line, taken apart; its path and target are not judged yet.
fn read_entry(line: &str) -> Result<Entry, &'static str> {
    let fields: Vec<&str> = line.split('\t').collect();
    let (node, path) = match fields[..] {
        ["d", path] => (Node::Directory, path),
        ["l", target, path] => (Node::Link { target: target.to_owned() }, path),
        ["f", mode, length, digest, path] => {
            let mode = read_mode(mode)?;
            let length = read_length(length).ok_or("has a length that is not a plain number")?;
            let digest =
                digest.parse().map_err(|_| "has a digest that is not 64 lower-case hexadecimal digits")?;
            (Node::File { mode, length, digest }, path)
        }
        _ => return Err("is not a directory, file or link"),
    };
    Ok(Entry { path: path.to_owned(), node })
}

fn read_mode(text: &str) -> Result<FileMode, &'static str> {
    [FileMode::Plain, FileMode::Executable]
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or("has a mode other than 0644 and 0755")
}

fn read_length(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Paths that differ only in ASCII case are one path on some file systems, so they count as one.
fn refuse_duplicates(entries: &[Entry]) -> Result<(), Refusal> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let number = index + 1;
        if let Some(first) = seen.insert(entry.path.to_ascii_lowercase(), number) {
            let what = if entries[first - 1].path == entry.path {
                format!("has the path of entry {first}")
            } else {
                format!("differs from entry {first} only in case")
            };
            return Err(refused(Code::TreeDuplicate, number, &entry.path, &what));
        }
    }
    Ok(())
}

fn refused(code: Code, number: usize, path: &str, what: &str) -> Refusal {
    Refusal::new(code, format!("manifest entry {number} \"{}\" {what}", quoted(path)), NEXT)
}

fn syntax(what: String) -> Refusal {
    Refusal::new(Code::TreeSyntax, what, "build the package again")
}

fn too_many_entries() -> Refusal {
    Refusal::new(Code::TreeLimit, format!("the tree has more than {ENTRIES_MAX} entries"), NEXT)
}

fn too_many_bytes(bytes: usize) -> Refusal {
    Refusal::new(Code::TreeLimit, format!("the manifest has {bytes} bytes, above {MANIFEST_BYTES_MAX}"), NEXT)
}
