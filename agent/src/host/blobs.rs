//! Contents that were fetched and are not laid out yet: `blobs/<digest>`, and `blobs/<digest>.part-…`
//! for what has arrived in part. Manifests of trees to come lie beside them.
//!
//! A blob has its name from the moment that its length and digest were verified. It is not synced by
//! itself, since a release may have a hundred thousand: one sync covers all that a fetch brought. After
//! a crash in between a blob may hold anything, so its length is looked at before it counts as there, and
//! whoever lays it out verifies its digest again; if that fails, [`Blobs::remove_damaged`] finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use houston_common::digest::{FileDigest, Hasher, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::Encoding;
use houston_common::manifest::{MANIFEST_BYTES_MAX, Manifest};
use zstd::stream::read::Decoder;

use super::dir::{Dir, refused, unfinished};

#[cfg(test)]
mod tests;

/// Memory for decoding: 8 MiB, what every decoder is asked to support. The coordinator's frames need less.
const WINDOW_LOG_MAX: u32 = 23;

const COPY_BYTES: usize = 128 << 10;

const MANIFEST: &str = ".manifest";

#[derive(Debug)]
pub struct Blobs {
    path: PathBuf,
    dir: Dir,
}

/// How a file is stored at the coordinator. What has arrived of it is of use only while this is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub encoding: Encoding,
    /// All of its stored bytes.
    pub length: u64,
}

/// The first bytes of a stored file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub stored: Stored,
    pub bytes: u64,
}

impl Stored {
    fn name(self, digest: &FileDigest) -> String {
        let encoding = match self.encoding {
            Encoding::Identity => "identity",
            Encoding::Zstd => "zstd",
        };
        format!("{digest}.part-{encoding}-{}", self.length)
    }

    fn of_name(name: &str) -> Option<(FileDigest, Self)> {
        let (digest, stored) = name.split_once(".part-")?;
        let (encoding, length) = stored.split_once('-')?;
        let encoding = match encoding {
            "identity" => Encoding::Identity,
            "zstd" => Encoding::Zstd,
            _ => return None,
        };
        Some((digest.parse().ok()?, Self { encoding, length: length.parse().ok()? }))
    }
}

impl Blobs {
    pub fn open(state: &Path) -> Result<Self, Refusal> {
        let dir = Dir::open(state).and_then(|dir| dir.ensure("blobs", 0o700));
        let dir = dir.map_err(|e| refused("opening the fetched files", &e))?;
        Ok(Self { path: state.join("blobs"), dir })
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Whether contents of this digest and length are here.
    pub fn has(&self, digest: &FileDigest, length: u64) -> bool {
        self.dir
            .file(digest.to_string())
            .and_then(|file| file.metadata())
            .is_ok_and(|meta| meta.len() == length)
    }

    /// Where contents are, if they are.
    pub fn find(&self, digest: &FileDigest) -> Option<PathBuf> {
        let name = digest.to_string();
        self.dir.file(&name).is_ok().then(|| self.path.join(name))
    }

    /// A manifest that was fetched, verified again.
    pub fn manifest(&self, tree: &TreeDigest) -> Option<Manifest> {
        let bytes = self.dir.read(format!("{tree}{MANIFEST}"), MANIFEST_BYTES_MAX as u64).ok()??;
        Manifest::parse(&bytes).ok().filter(|manifest| manifest.digest() == *tree)
    }

    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), Refusal> {
        self.dir
            .replace(format!("{}{MANIFEST}", manifest.digest()), &manifest.to_bytes())
            .map_err(|e| refused("keeping a manifest", &e))
    }

    /// What has arrived of files that are not here whole.
    pub fn parts(&self) -> Result<BTreeMap<FileDigest, Part>, Refusal> {
        let listing = |e: io::Error| refused("listing the fetched files", &e);
        let mut parts = BTreeMap::new();
        for name in self.dir.names().map_err(listing)? {
            let Some((digest, stored)) = name.to_str().and_then(Stored::of_name) else { continue };
            let bytes = self.dir.file(&name).and_then(|file| file.metadata()).map_err(listing)?.len();
            parts.insert(digest, Part { stored, bytes });
        }
        Ok(parts)
    }

    /// Opens a part for writing at its end.
    pub fn append(&self, digest: &FileDigest, stored: Stored) -> Result<File, Refusal> {
        self.dir.append(stored.name(digest)).map_err(|e| refused("keeping a part of a file", &e))
    }

    pub fn drop_part(&self, digest: &FileDigest, stored: Stored) -> Result<(), Refusal> {
        self.dir.remove(stored.name(digest)).map_err(|e| refused("dropping a part of a file", &e))
    }

    /// Makes a blob of a part that has all its stored bytes. If they do not decode to `length` bytes of
    /// `digest`, nothing is kept: E-ART-LENGTH, E-ART-DIGEST.
    pub fn complete(&self, digest: &FileDigest, length: u64, stored: Stored) -> Result<(), Refusal> {
        let part = self.dir.file(stored.name(digest)).map_err(|e| refused("reading a part of a file", &e))?;
        let put = self.put(digest, length, stored.encoding, part);
        self.drop_part(digest, stored)?;
        put
    }

    /// Makes a blob of all stored bytes of a file. No more than `length` bytes and one are decoded.
    pub fn put(
        &self,
        digest: &FileDigest,
        length: u64,
        encoding: Encoding,
        stored: impl Read,
    ) -> Result<(), Refusal> {
        let name = digest.to_string();
        let fresh = unfinished(name.as_ref());
        let write = || -> Result<(), Refusal> {
            let writing = |e: io::Error| refused("keeping a fetched file", &e);
            let file = self.dir.create(&fresh).map_err(writing)?;
            match encoding {
                Encoding::Identity => copy_verified(stored, file, digest, length)?,
                Encoding::Zstd => {
                    let mut decoder = Decoder::new(stored).map_err(writing)?.single_frame();
                    decoder.window_log_max(WINDOW_LOG_MAX).map_err(writing)?;
                    copy_verified(decoder, file, digest, length)?;
                }
            }
            self.dir.rename(&fresh, &name).map_err(writing)
        };
        write().inspect_err(|_| {
            let _ = self.dir.remove(&fresh);
        })
    }

    /// Makes durable all that was put here.
    pub fn sync(&self) -> Result<(), Refusal> {
        rustix::fs::syncfs(&self.dir).map_err(|e| refused("syncing the fetched files", &e.into()))
    }

    /// Removes whatever is none of these, with all that is unfinished.
    pub fn keep(
        &self,
        contents: &BTreeSet<FileDigest>,
        manifests: &BTreeSet<TreeDigest>,
    ) -> Result<(), Refusal> {
        let removing = |e: io::Error| refused("removing fetched files", &e);
        for name in self.dir.names().map_err(removing)? {
            let text = name.to_string_lossy();
            let is_kept = match text.strip_suffix(MANIFEST) {
                Some(tree) => tree.parse().is_ok_and(|tree| manifests.contains(&tree)),
                None => {
                    let digest = text.split_once(".part-").map_or(&*text, |(digest, _)| digest);
                    digest.parse().is_ok_and(|digest| contents.contains(&digest))
                }
            };
            if !is_kept {
                self.dir.remove(&name).map_err(removing)?;
            }
        }
        Ok(())
    }

    /// Removes those of these blobs that are not what their names say.
    pub fn remove_damaged(&self, files: impl IntoIterator<Item = (FileDigest, u64)>) -> Result<(), Refusal> {
        for (digest, length) in files {
            let Ok(file) = self.dir.file(digest.to_string()) else { continue };
            if copy_verified(file, io::sink(), &digest, length).is_err() {
                self.dir.remove(digest.to_string()).map_err(|e| refused("removing a damaged file", &e))?;
            }
        }
        Ok(())
    }
}

/// Copies what must be `length` bytes of `digest`, and reads no more than one byte beyond.
fn copy_verified(
    source: impl Read,
    mut target: impl io::Write,
    digest: &FileDigest,
    length: u64,
) -> Result<(), Refusal> {
    let next = "it is fetched again; if it happens again, check the coordinator's files";
    let wrong = |code, what: String| Refusal::new(code, format!("the file {} {what}", digest.short()), next);
    let mut source = source.take(length.saturating_add(1));
    let (mut hasher, mut copied) = (Hasher::default(), 0);
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(length).unwrap_or(COPY_BYTES) + 1)];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(wrong(Code::FileDigest, format!("cannot be decoded: {error}"))),
        };
        copied += read as u64;
        hasher.update(&buffer[..read]);
        target.write_all(&buffer[..read]).map_err(|e| refused("keeping a fetched file", &e))?;
    }
    if copied != length {
        let what = if copied > length {
            format!("is longer than {length} bytes")
        } else {
            format!("has {copied} bytes, not {length}")
        };
        return Err(wrong(Code::FileLength, what));
    }
    if FileDigest(hasher.finish()) != *digest {
        return Err(wrong(Code::FileDigest, "has other contents than its digest names".to_owned()));
    }
    Ok(())
}
