//! Walking the whole store: deleting what nothing refers to, and finding what is damaged.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use houston_common::digest::{Digest, FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::manifest::Manifest;

use super::{Files, MANIFESTS, OBJECTS, failed, sync_directory};

/// What a collection deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub manifests: u64,
    pub files: u64,
    /// On disk, of the files.
    pub bytes: u64,
}

impl Files {
    /// Deletes manifests that are not `referenced`, and then files that no remaining manifest names.
    /// Age alone deletes nothing; youth spares: what was stored or said to be here within `grace`, or
    /// since the process started within `grace`, stays. `grace` must exceed the longest push.
    ///
    /// `still_unreferenced` is asked just before each manifest is deleted, with the store locked: it
    /// must not call back into it. Deletes no file if any referenced manifest cannot be read, because
    /// what it names is then unknown.
    pub fn collect(
        &self,
        referenced: &HashSet<TreeDigest>,
        grace: Duration,
        still_unreferenced: impl Fn(&TreeDigest) -> bool,
    ) -> Result<Collected, Refusal> {
        let began = Instant::now();
        let mut collected = Collected::default();
        for (digest, path) in self.manifests_on_disk()? {
            let unreferenced = || !referenced.contains(&digest) && still_unreferenced(&digest);
            if self.delete(&path, digest.digest(), grace, began, unreferenced)?.is_some() {
                collected.manifests += 1;
            }
        }
        let kept = self.files_of_manifests(referenced)?;
        for (digest, path) in self.objects_on_disk()? {
            let unreferenced = || !kept.contains(&digest);
            if let Some(bytes) = self.delete(&path, digest.digest(), grace, began, unreferenced)? {
                collected.files += 1;
                collected.bytes += bytes;
                self.known().verified.remove(&digest);
            }
        }
        self.known().mentioned.retain(|_, at| at.elapsed() < grace);
        let manifests = self.0.root.join(MANIFESTS);
        sync_directory(&manifests).map_err(|error| failed("sync", &manifests, &error))?;
        Ok(collected)
    }

    /// Reads anew what has a digest that begins with this byte, a 256th of everything, and sets aside
    /// what is damaged, in the log by name: its package must be pushed again. Returns how much was read.
    pub fn scrub(&self, first: u8) -> Result<u64, Refusal> {
        let mut checked = 0;
        let mut check = |result: Result<(), Refusal>| match result {
            // Collected meanwhile.
            Err(refusal) if refusal.code == Code::FileMissing => Ok(()),
            Err(refusal) if refusal.code != Code::FileDamaged => Err(refusal),
            Ok(()) | Err(_) => {
                checked += 1;
                Ok(())
            }
        };
        for (digest, _) in self.manifests_on_disk()? {
            if digest.digest().as_bytes()[0] == first {
                check(self.manifest(&digest).map(drop))?;
            }
        }
        for (digest, _) in self.objects_beginning(first)? {
            self.known().verified.remove(&digest);
            check(self.open_stored(&digest).map(drop))?;
        }
        Ok(checked)
    }

    /// Deletes a file unless it was mentioned lately; tells how many bytes it took on disk.
    fn delete(
        &self,
        path: &Path,
        digest: &Digest,
        grace: Duration,
        began: Instant,
        unreferenced: impl Fn() -> bool,
    ) -> Result<Option<u64>, Refusal> {
        let known = self.known();
        let quiet_for = known.quiet_for(digest);
        if quiet_for < grace || quiet_for <= began.elapsed() || !unreferenced() {
            return Ok(None);
        }
        let bytes = fs::symlink_metadata(path).map(|metadata| metadata.len());
        match bytes.and_then(|bytes| fs::remove_file(path).map(|()| bytes)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("delete", path, &error)),
        }
    }

    /// Files named by any manifest that is here. All of `referenced` must be.
    fn files_of_manifests(&self, referenced: &HashSet<TreeDigest>) -> Result<HashSet<FileDigest>, Refusal> {
        let here = self.manifests_on_disk()?.into_iter().map(|(digest, _)| digest);
        let manifests: HashSet<TreeDigest> = here.chain(referenced.iter().copied()).collect();
        let mut files = HashSet::new();
        for digest in manifests {
            let manifest = Manifest::parse(&self.manifest(&digest)?)?;
            files.extend(manifest.files().map(|(_, _, _, file)| file));
        }
        Ok(files)
    }

    fn manifests_on_disk(&self) -> Result<Vec<(TreeDigest, PathBuf)>, Refusal> {
        named_after_digests(&self.0.root.join(MANIFESTS), "")
    }

    fn objects_on_disk(&self) -> Result<Vec<(FileDigest, PathBuf)>, Refusal> {
        let mut objects = Vec::new();
        for first in 0..=u8::MAX {
            objects.extend(self.objects_beginning(first)?);
        }
        Ok(objects)
    }

    fn objects_beginning(&self, first: u8) -> Result<Vec<(FileDigest, PathBuf)>, Refusal> {
        named_after_digests(&self.0.root.join(OBJECTS).join(format!("{first:02x}")), ".zst")
    }
}

/// Anything else in the directory is not ours and is left alone.
fn named_after_digests<T: FromStr>(directory: &Path, suffix: &str) -> Result<Vec<(T, PathBuf)>, Refusal> {
    let mut named = Vec::new();
    for item in fs::read_dir(directory).map_err(|error| failed("list", directory, &error))? {
        let path = item.map_err(|error| failed("list", directory, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(Ok(digest)) = name.and_then(|name| name.strip_suffix(suffix)).map(T::from_str) {
            named.push((digest, path));
        }
    }
    Ok(named)
}
