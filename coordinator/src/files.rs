//! The coordinator's files: contents of trees by their SHA-256, compressed once, and manifests.
//!
//! ```text
//! objects/ab/<digest>.zst    a sealed file, see `object`
//! manifests/<digest>         canonical text
//! incoming/                  uploads that have not ended
//! damaged/                   what did not match its name or seal when it was read
//! ```
//!
//! A name appears only after its contents were verified and synced, by one rename. Nothing is served
//! that was not read whole and matched its seal within the last hour; what does not match is set
//! aside and from then on missing, so that the next push of its package mends it.
//!
//! All calls block. One process at a time owns the directory; the coordinator's lock sees to that.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use houston_common::digest::{Digest, FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::manifest::{MANIFEST_BYTES_MAX, Manifest};
use nix::errno::Errno;

mod collect;
mod object;
mod space;
#[cfg(test)]
mod tests;
mod upload;

pub use collect::Collected;
pub use object::Stored;
pub use space::Reserve;
pub use upload::Upload;

const OBJECTS: &str = "objects";
const MANIFESTS: &str = "manifests";
const INCOMING: &str = "incoming";
const DAMAGED: &str = "damaged";

/// How long an object counts as undamaged after it was read whole: so that damage under a file that
/// every host asks for is found while the process runs, at the cost of one read an hour.
const VERIFIED_FOR: Duration = Duration::from_secs(3600);

/// A handle on the store; clones share it.
#[derive(Debug, Clone)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    reserve: Reserve,
    /// Numbers the files in `incoming`.
    uploads: AtomicU64,
    known: Mutex<Known>,
}

/// What this process knows beyond the disk.
#[derive(Debug)]
struct Known {
    opened: Instant,
    /// When a digest was last stored, or said to be here: somebody may be about to refer to it.
    mentioned: HashMap<Digest, Instant>,
    /// When an object's seal was last found good.
    verified: HashMap<FileDigest, Instant>,
    /// Files whose names a power cut may still take away. They do not count as here.
    unsynced: HashSet<Digest>,
}

impl Known {
    /// Time since somebody could have been told of it; since the start, for what this process never told.
    fn quiet_for(&self, digest: &Digest) -> Duration {
        self.mentioned.get(digest).unwrap_or(&self.opened).elapsed()
    }

    fn is_verified(&self, digest: &FileDigest) -> bool {
        self.verified.get(digest).is_some_and(|at| at.elapsed() < VERIFIED_FOR)
    }

    fn mention(&mut self, digest: &Digest) {
        self.mentioned.insert(*digest, Instant::now());
    }
}

impl Files {
    /// Opens the store in `root`, making it if it is not there, and forgets unfinished uploads.
    pub fn open(root: &Path, reserve: Reserve) -> Result<Self, Refusal> {
        let refuse = |error: io::Error| {
            let what =
                format!("the files in \"{}\" cannot be used: {error}", quoted(&root.to_string_lossy()));
            Refusal::new(Code::State, what, "give the coordinator a directory that it may write")
        };
        make_directories(root).map_err(refuse)?;
        for leftover in fs::read_dir(root.join(INCOMING)).map_err(refuse)? {
            fs::remove_file(leftover.map_err(refuse)?.path()).map_err(refuse)?;
        }
        let known = Known {
            opened: Instant::now(),
            mentioned: HashMap::new(),
            verified: HashMap::new(),
            unsynced: HashSet::new(),
        };
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            reserve,
            uploads: AtomicU64::new(0),
            known: Mutex::new(known),
        })))
    }

    /// Whether the file is here. What is said to be here is spared by [`Self::collect`] for its grace.
    pub fn has(&self, digest: &FileDigest) -> Result<bool, Refusal> {
        self.is_here(&self.object_path(digest), digest.digest())
    }

    pub fn has_manifest(&self, digest: &TreeDigest) -> Result<bool, Refusal> {
        self.is_here(&self.manifest_path(digest), digest.digest())
    }

    /// Those that are not here, each once, in the order given.
    pub fn missing(&self, digests: &[FileDigest]) -> Result<Vec<FileDigest>, Refusal> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for digest in digests {
            if seen.insert(digest) && !self.has(digest)? {
                missing.push(*digest);
            }
        }
        Ok(missing)
    }

    /// Starts storing a file of this length in bytes, uncompressed. Refuses if the disk has not room
    /// for it even if it does not compress.
    pub fn put_file(&self, digest: FileDigest, length: u64) -> Result<Upload, Refusal> {
        Upload::start(self.clone(), digest, length)
    }

    /// Stores a manifest. Its files may come later; those that are here are spared by
    /// [`Self::collect`] from now on.
    pub fn put_manifest(&self, bytes: &[u8]) -> Result<TreeDigest, Refusal> {
        let manifest = Manifest::parse(bytes)?;
        let digest = TreeDigest(Digest::of(bytes));
        space::require(&self.0.root, &self.0.reserve, bytes.len() as u64)?;
        let (temporary, mut file) = self.temporary()?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("write", &temporary.0, &error))?;
        let also = manifest.files().map(|(_, _, _, file)| *file.digest());
        let mentioned = std::iter::once(*digest.digest()).chain(also);
        self.publish(temporary, &self.manifest_path(&digest), digest.digest(), mentioned)?;
        Ok(digest)
    }

    /// A manifest's text, verified.
    pub fn manifest(&self, digest: &TreeDigest) -> Result<Vec<u8>, Refusal> {
        let path = self.manifest_path(digest);
        let file = open(&path, digest.digest())?;
        let metadata = file.metadata().map_err(|error| failed("look at", &path, &error))?;
        let mut bytes = Vec::new();
        match file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes) {
            Ok(_) if Digest::of(&bytes) == *digest.digest() => Ok(bytes),
            Ok(_) => Err(self.set_aside(&path, &metadata)?),
            Err(error) if is_medium_error(&error) => Err(self.set_aside(&path, &metadata)?),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// A file in its stored form, which was read whole and matched its seal within the last hour. The
    /// first call for a file takes the time to read it.
    pub fn open_stored(&self, digest: &FileDigest) -> Result<Stored, Refusal> {
        let path = self.object_path(digest);
        let file = open(&path, digest.digest())?;
        let metadata = file.metadata().map_err(|error| failed("look at", &path, &error))?;
        let verified = self.known().is_verified(digest);
        match object::read(file, &metadata, digest, !verified) {
            Ok(Some(stored)) => {
                if !verified {
                    self.known().verified.insert(*digest, Instant::now());
                }
                Ok(stored)
            }
            Ok(None) => Err(self.set_aside(&path, &metadata)?),
            Err(error) if is_medium_error(&error) => Err(self.set_aside(&path, &metadata)?),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    fn is_here(&self, path: &Path, digest: &Digest) -> Result<bool, Refusal> {
        // Mentioned under the lock that deletion takes: it is not deleted between the look and the answer.
        let mut known = self.known();
        match fs::symlink_metadata(path) {
            Ok(_) if known.unsynced.contains(digest) => Ok(false),
            Ok(_) => {
                known.mention(digest);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look at", path, &error)),
        }
    }

    /// Moves a damaged file out of the way and says so. Leaves it if another has taken its place.
    fn set_aside(&self, path: &Path, damaged: &Metadata) -> Result<Refusal, Refusal> {
        let name = path.file_name().unwrap_or_default();
        let shown = quoted(&name.to_string_lossy());
        let _known = self.known();
        let same = fs::symlink_metadata(path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (damaged.dev(), damaged.ino()));
        if same {
            fs::rename(path, self.0.root.join(DAMAGED).join(name))
                .map_err(|error| failed("set aside", path, &error))?;
            tracing::error!(code = %Code::FileDamaged, file = shown, "a stored file was damaged and is set aside");
        }
        let what = format!("stored file {shown} was damaged on disk and is set aside");
        Ok(Refusal::new(Code::FileDamaged, what, "push its package again, and look after the disk"))
    }

    /// Gives a synced temporary file its name, durably, and mentions what must now be spared.
    fn publish(
        &self,
        temporary: Temporary,
        path: &Path,
        digest: &Digest,
        mentioned: impl Iterator<Item = Digest>,
    ) -> Result<(), Refusal> {
        {
            let mut known = self.known();
            fs::rename(&temporary.0, path).map_err(|error| failed("rename", path, &error))?;
            known.unsynced.insert(*digest);
            mentioned.for_each(|digest| known.mention(&digest));
        }
        let parent = path.parent().unwrap_or(&self.0.root);
        // If that fails it stays uncounted: who needs it stores it again.
        sync_directory(parent).map_err(|error| failed("sync", parent, &error))?;
        self.known().unsynced.remove(digest);
        Ok(())
    }

    fn temporary(&self) -> Result<(Temporary, File), Refusal> {
        let number = self.0.uploads.fetch_add(1, Ordering::Relaxed);
        let path = self.0.root.join(INCOMING).join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("create", &path, &error))?;
        Ok((Temporary(path), file))
    }

    fn object_path(&self, digest: &FileDigest) -> PathBuf {
        let name = digest.to_string();
        self.0.root.join(OBJECTS).join(&name[..2]).join(format!("{name}.zst"))
    }

    fn manifest_path(&self, digest: &TreeDigest) -> PathBuf {
        self.0.root.join(MANIFESTS).join(digest.to_string())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change under the lock is one insertion or removal: a panic leaves nothing half done.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file in `incoming`: removed when dropped, unless it was renamed away.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn make_directories(root: &Path) -> io::Result<()> {
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(root)?;
    for name in [OBJECTS, MANIFESTS, INCOMING, DAMAGED] {
        make(&root.join(name))?;
    }
    // All at once, so that no upload has to make and sync one.
    for first in 0..=u8::MAX {
        make(&root.join(OBJECTS).join(format!("{first:02x}")))?;
    }
    sync_directory(&root.join(OBJECTS))?;
    sync_directory(root)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn open(path: &Path, digest: &Digest) -> Result<File, Refusal> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let what = format!("the coordinator has no file or manifest {digest}");
            Refusal::new(Code::FileMissing, what, "push its package again")
        }
        _ => failed("open", path, &error),
    })
}

/// The disk cannot give back what was written: as good as damaged.
fn is_medium_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

fn failed(action: &str, path: &Path, error: &io::Error) -> Refusal {
    let what = format!("cannot {action} \"{}\": {error}", quoted(&path.to_string_lossy()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(Code::DiskSpace, what, "free space on the coordinator's disk")
        }
        _ => Refusal::new(Code::Io, what, ""),
    }
}
