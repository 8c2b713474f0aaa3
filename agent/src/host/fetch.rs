//! Brings what a release needs and this host lacks: manifests first, then the missing contents, many in
//! one stream. What has come is never fetched again, and what has come in part goes on where it ended.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use houston_common::api::client::{AgentClient, FileChunks};
use houston_common::api::status::CallError;
use houston_common::digest::{FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{Encoding, FETCH_FILES_MAX, FileChunk, FileNeed};
use houston_common::manifest::Manifest;
use tokio::runtime::Handle;

use super::blobs::{Blobs, Part, Stored};
use super::dir::{Dir, refused};
use super::{Fetch, FetchError, layout};
use crate::link::Link;

#[cfg(test)]
mod tests;

/// More stored bytes than this for contents of a length are refused: what zstd makes of noise, and room
/// for a frame's header.
const fn stored_bytes_max(length: u64) -> u64 {
    length.saturating_add(length / 128).saturating_add(4096)
}

impl From<CallError> for FetchError {
    fn from(error: CallError) -> Self {
        Self { refusal: error.refusal, retry_after: error.retry_after }
    }
}

impl From<Refusal> for FetchError {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, retry_after: None }
    }
}

/// The files of these manifests that are nowhere on the host, each once.
fn missing(manifests: &[Manifest], is_here: impl Fn(&FileDigest, u64) -> bool) -> Vec<(FileDigest, u64)> {
    let mut seen = HashSet::new();
    let files = manifests.iter().flat_map(Manifest::files).map(|(_, _, length, digest)| (digest, length));
    files.filter(|(digest, length)| seen.insert(*digest) && !is_here(digest, *length)).collect()
}

/// Fetches for one environment. Its connection is its own, so that bytes never delay a check-in, and
/// lasts only as long as there is something to fetch.
#[derive(Debug)]
pub struct Fetcher {
    runtime: Handle,
    client: Option<AgentClient>,
}

/// Where contents and trees are on the host.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub blobs: &'a Blobs,
    pub trees: &'a Dir,
    /// Trees that are laid out and not known to be damaged.
    pub kept: &'a [TreeDigest],
}

impl Fetcher {
    /// `runtime` must be driven by another thread: fetching blocks its own.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, client: None }
    }

    /// Brings what is missing of these trees, for about `slice`.
    pub fn fetch(
        &mut self,
        link: &Link,
        places: Places<'_>,
        wanted: &[TreeDigest],
        slice: Duration,
    ) -> Result<Fetch, FetchError> {
        let until = Instant::now() + slice;
        let runtime = self.runtime.clone();
        let fetched = runtime.block_on(self.run(link, places, wanted, until));
        if !matches!(fetched, Ok(Fetch::Partial)) {
            self.client = None;
        }
        fetched
    }

    async fn run(
        &mut self,
        link: &Link,
        places: Places<'_>,
        wanted: &[TreeDigest],
        until: Instant,
    ) -> Result<Fetch, FetchError> {
        let Places { blobs, trees, kept } = places;
        let mut manifests = Vec::new();
        for tree in wanted {
            let known = layout::kept_manifest(trees, tree).or_else(|| blobs.manifest(tree));
            manifests.push(match known {
                Some(manifest) => manifest,
                None => {
                    let manifest = self.client(link)?.fetch_manifest(*tree).await?;
                    blobs.put_manifest(&manifest)?;
                    manifest
                }
            });
        }
        let kept_manifests = kept.iter().filter_map(|tree| layout::kept_manifest(trees, tree));
        let reusable: HashSet<FileDigest> = kept_manifests
            .flat_map(|manifest| manifest.files().map(|file| file.3).collect::<Vec<_>>())
            .collect();
        let files =
            missing(&manifests, |digest, length| reusable.contains(digest) || blobs.has(digest, length));
        if files.is_empty() {
            return Ok(Fetch::Complete);
        }
        let unfinished = manifests.iter().filter(|manifest| !kept.contains(&manifest.digest()));
        let laid_out: u64 = unfinished.map(Manifest::total_bytes).sum();
        let fetched: u64 = files.iter().map(|(_, length)| length).sum();
        layout::check_space(blobs.dir(), laid_out.saturating_add(fetched), files.len() as u64)?;
        let client = self.client(link)?;
        let received = receive_all(&client, blobs, &files, until).await;
        blobs.sync()?;
        received
    }

    fn client(&mut self, link: &Link) -> Result<AgentClient, Refusal> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = link.client()?;
        self.client = Some(client.clone());
        Ok(client)
    }
}

async fn receive_all(
    client: &AgentClient,
    blobs: &Blobs,
    files: &[(FileDigest, u64)],
    until: Instant,
) -> Result<Fetch, FetchError> {
    let parts = blobs.parts()?;
    for batch in files.chunks(FETCH_FILES_MAX) {
        let needs = batch.iter().map(|(digest, length)| FileNeed {
            digest: *digest,
            length: *length,
            stored_offset: parts.get(digest).map_or(0, |part| part.bytes),
        });
        let needs: Vec<FileNeed> = needs.collect();
        let mut chunks = client.fetch_files(needs.clone()).await?;
        if !receive(&mut chunks, blobs, &needs, &parts, until).await? {
            return Ok(Fetch::Partial);
        }
    }
    Ok(Fetch::Complete)
}

/// Takes files in until the stream ends (true) or the time is over, but at least one piece: a slow
/// coordinator must not make every slice end with nothing.
async fn receive(
    chunks: &mut FileChunks,
    blobs: &Blobs,
    needs: &[FileNeed],
    parts: &BTreeMap<FileDigest, Part>,
    until: Instant,
) -> Result<bool, FetchError> {
    let mut receiving: Option<Receiving> = None;
    while let Some(chunk) = chunks.next().await? {
        let Some(need) = needs.get(chunk.index as usize) else {
            return Err(Refusal::internal("a piece of a file that was not asked for").into());
        };
        let mut file = match receiving.take() {
            Some(file) => file,
            None => match Receiving::begin(blobs, need, parts.get(&need.digest), &chunk)? {
                Some(file) => file,
                // The part is dropped; the next try starts at the file's beginning.
                None => return Ok(false),
            },
        };
        file.take(blobs, need, &chunk)?;
        if !chunk.last {
            receiving = Some(file);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A file of which pieces arrive.
#[derive(Debug)]
struct Receiving {
    stored: Stored,
    /// Where its pieces are kept; absent until there is more than one.
    part: Option<File>,
}

impl Receiving {
    /// Absent if what the host has of the file is of an older storing, and is dropped.
    fn begin(
        blobs: &Blobs,
        need: &FileNeed,
        part: Option<&Part>,
        first: &FileChunk,
    ) -> Result<Option<Self>, Refusal> {
        let stored = Stored { encoding: first.encoding, length: first.stored_length };
        let is_possible = match stored.encoding {
            Encoding::Identity => stored.length == need.length,
            Encoding::Zstd => stored.length <= stored_bytes_max(need.length),
        };
        if !is_possible {
            let what =
                format!("{} stored bytes cannot be those of a file of {} bytes", stored.length, need.length);
            return Err(length_refused(need, &what));
        }
        if let Some(part) = part {
            if first.stored_offset == 0 && part.bytes > 0 || part.stored != stored {
                blobs.drop_part(&need.digest, part.stored)?;
            }
            if first.stored_offset > 0 && part.stored != stored {
                return Ok(None);
            }
        }
        let part = if first.stored_offset > 0 { Some(blobs.append(&need.digest, stored)?) } else { None };
        Ok(Some(Self { stored, part }))
    }

    fn take(&mut self, blobs: &Blobs, need: &FileNeed, chunk: &FileChunk) -> Result<(), Refusal> {
        let end = chunk.stored_offset.saturating_add(chunk.data.len() as u64);
        if end > self.stored.length || (chunk.last && end != self.stored.length) {
            return Err(length_refused(need, &format!("its pieces end at {end} of {}", self.stored.length)));
        }
        // Most files are one piece, and never touch the disk in stored form.
        if chunk.last && self.part.is_none() {
            return blobs.put(&need.digest, need.length, self.stored.encoding, &*chunk.data);
        }
        let mut part = match self.part.take() {
            Some(part) => part,
            None => blobs.append(&need.digest, self.stored)?,
        };
        part.write_all(&chunk.data).map_err(|e| refused("keeping a part of a file", &e))?;
        if chunk.last {
            return blobs.complete(&need.digest, need.length, self.stored);
        }
        self.part = Some(part);
        Ok(())
    }
}

fn length_refused(need: &FileNeed, what: &str) -> Refusal {
    let what = format!("the file {} does not fit its length: {what}", need.digest.short());
    Refusal::new(
        Code::FileLength,
        what,
        "it is fetched again; if it happens again, check the coordinator's files",
    )
}
