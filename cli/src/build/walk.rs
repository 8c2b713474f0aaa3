//! What a directory holds: names, kinds, links' targets and contents. Follows no link below the root.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use houston_common::digest::{FileDigest, Hasher};
use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::manifest::{ENTRIES_MAX, FileMode, TREE_BYTES_MAX, check_path};
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

/// Large enough that system calls cost nothing beside SHA-256.
const READ_BYTES: usize = 256 << 10;

const NEXT: &str = "take it out of the directory, or pack another one";

/// An entry below the root.
pub(super) struct Found {
    /// Relative to the root, as the manifest will name it.
    pub path: String,
    pub on_disk: PathBuf,
    pub kind: Kind,
}

pub(super) enum Kind {
    Directory,
    File,
    Link { target: String },
}

/// Everything below `root`, in no particular order. Paths are allowed ones, so the depth is bounded.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, Refusal> {
    let mut found = Vec::new();
    let mut total_bytes: u64 = 0;
    let mut directories = vec![(String::new(), root.to_owned())];
    while let Some((prefix, directory)) = directories.pop() {
        for item in fs::read_dir(&directory).map_err(|error| failed("list", &directory, &error))? {
            let on_disk = item.map_err(|error| failed("list", &directory, &error))?.path();
            let path = tree_path(&prefix, &on_disk)?;
            let metadata =
                fs::symlink_metadata(&on_disk).map_err(|error| failed("look at", &on_disk, &error))?;
            let kind = match judge(metadata.mode()).map_err(|(code, what)| refused(code, &path, what))? {
                Seen::Directory => {
                    directories.push((path.clone(), on_disk.clone()));
                    Kind::Directory
                }
                Seen::File(_) => {
                    // Summed before anything is read: a sparse file could claim more than a day of reading.
                    total_bytes = total_bytes.saturating_add(metadata.len());
                    Kind::File
                }
                Seen::Link => Kind::Link { target: link_target(&path, &on_disk)? },
            };
            found.push(Found { path, on_disk, kind });
            if found.len() > ENTRIES_MAX || total_bytes > TREE_BYTES_MAX {
                let limits = format!("{ENTRIES_MAX} entries or {} GiB", TREE_BYTES_MAX >> 30);
                let what = format!("directory {} has more than {limits}", shown(root));
                return Err(Refusal::new(Code::TreeLimit, what, "pack only what a host needs"));
            }
        }
    }
    Ok(found)
}

fn tree_path(prefix: &str, on_disk: &Path) -> Result<String, Refusal> {
    let name = on_disk.file_name().unwrap_or_default();
    let not_utf8 = || refused(Code::TreePath, &on_disk.to_string_lossy(), "is not UTF-8");
    let name = name.to_str().ok_or_else(not_utf8)?;
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    check_path(&path).map_err(|what| refused(Code::TreePath, &path, &what))?;
    Ok(path)
}

fn link_target(path: &str, on_disk: &Path) -> Result<String, Refusal> {
    let target = fs::read_link(on_disk).map_err(|error| failed("read the link", on_disk, &error))?;
    target
        .into_os_string()
        .into_string()
        .map_err(|_| refused(Code::TreeLink, path, "is a link whose target is not UTF-8"))
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Directory,
    File(FileMode),
    Link,
}

/// What a tree makes of a file's type and permission bits. A directory's bits mean nothing in a tree,
/// which nobody writes into; those of a file must not be lost silently.
fn judge(st_mode: u32) -> Result<Seen, (Code, &'static str)> {
    let kind = SFlag::from_bits_truncate(st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFDIR {
        Ok(Seen::Directory)
    } else if kind == SFlag::S_IFLNK {
        Ok(Seen::Link)
    } else if kind != SFlag::S_IFREG {
        Err((Code::TreeType, "is a pipe, socket or device"))
    } else if st_mode & 0o7000 != 0 {
        Err((Code::TreeMode, "is setuid, setgid or sticky"))
    } else if st_mode & 0o100 != 0 {
        Ok(Seen::File(FileMode::Executable))
    } else {
        Ok(Seen::File(FileMode::Plain))
    }
}

/// Mode, length and digest of a file, all from the one opened.
pub(super) fn read(path: &Path) -> Result<(FileMode, u64, FileDigest), Refusal> {
    // Not a link, and without waiting if a pipe has taken its place meanwhile.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| failed("open", path, &error))?;
    let metadata = file.metadata().map_err(|error| failed("look at", path, &error))?;
    let changed = || {
        let what = format!("{} changed while it was read", shown(path));
        Refusal::new(Code::FileLength, what, "build again when nothing writes into the directory")
    };
    let Ok(Seen::File(mode)) = judge(metadata.mode()) else { return Err(changed()) };
    let (length, digest) = digest(&mut file, metadata.len()).map_err(|error| failed("read", path, &error))?;
    if length == metadata.len() { Ok((mode, length, digest)) } else { Err(changed()) }
}

/// Digests until the end, or until there is more than `expected`.
fn digest(file: &mut fs::File, expected: u64) -> io::Result<(u64, FileDigest)> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut length = 0;
    while length <= expected {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((length, FileDigest(hasher.finish())))
}

fn refused(code: Code, path: &str, what: &str) -> Refusal {
    Refusal::new(code, format!("\"{}\" {what}", quoted(path)), NEXT)
}

pub(super) fn failed(action: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::Io, format!("cannot {action} {}: {error}", shown(path)), "")
}

pub(super) fn shown(path: &Path) -> String {
    format!("\"{}\"", quoted(&path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_directories_and_links_without_special_bits() {
        assert_eq!(judge(0o040_755), Ok(Seen::Directory));
        assert_eq!(judge(0o042_775), Ok(Seen::Directory));
        assert_eq!(judge(0o120_777), Ok(Seen::Link));
        for plain in [0o100_644, 0o100_600, 0o100_666, 0o100_000, 0o100_655, 0o100_611] {
            assert_eq!(judge(plain), Ok(Seen::File(FileMode::Plain)));
        }
        for executable in [0o100_755, 0o100_700, 0o100_777, 0o100_100] {
            assert_eq!(judge(executable), Ok(Seen::File(FileMode::Executable)));
        }
        for special in [0o104_755, 0o102_755, 0o101_755, 0o106_644] {
            assert_eq!(judge(special).map_err(|(code, _)| code), Err(Code::TreeMode));
        }
        // Pipe, character device, block device, socket, and a type that does not exist.
        for odd in [0o010_644, 0o020_644, 0o060_644, 0o140_644, 0o000_644, 0o110_644] {
            assert_eq!(judge(odd).map_err(|(code, _)| code), Err(Code::TreeType));
        }
    }
}
