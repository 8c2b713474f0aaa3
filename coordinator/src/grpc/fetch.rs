//! Manifests and files on their way to hosts: admitted in bounded number, of a host's own assignments
//! only, as stored bytes from the offset asked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use houston_common::api::client::STREAM_IDLE_MAX;
use houston_common::api::convert::Wire as _;
use houston_common::api::wire;
use houston_common::digest::{FileDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{CHUNK_BYTES_MAX, Encoding, FileChunk, FileNeed};
use houston_common::id::HostId;
use houston_common::manifest::Manifest;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::peer::HostCaller;
use super::refused;
use crate::engine::Engine;
use crate::files::{Files, Stored};
use crate::state::State;

/// Pieces of a stream that wait for the network: with 50 fetches of 64 KiB pieces, 13 MiB.
const PIECES_AHEAD: usize = 4;

/// How often a stream asks whether its host may still have it: revocation reaches it within this.
const RECHECK_AFTER: Duration = Duration::from_secs(30);

/// Trees whose files are remembered. A rollout names a handful; when there are more, all are forgotten.
const TREES_KNOWN_MAX: usize = 64;

/// When a host that was not admitted is to come back: a fetch of a usual release is over by then.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Streams that one host may have at a time: one for each environment that it prepares, in a usual one.
const STREAMS_PER_HOST_MAX: u32 = 4;

/// A streamed answer.
pub type Pieces<M> = ReceiverStream<Result<M, Status>>;

/// The one door to stored bytes.
#[derive(Debug)]
pub struct Fetches {
    files: Files,
    engine: Engine,
    admitted: Arc<Semaphore>,
    /// Streams of each host that has some.
    streams: Arc<Mutex<HashMap<HostId, u32>>>,
    /// Files of trees, as their manifests say. Manifests never change.
    known: Mutex<HashMap<TreeDigest, Arc<HashSet<FileDigest>>>>,
}

impl Fetches {
    /// Admits `max` at once.
    pub fn new(files: Files, engine: Engine, max: u32) -> Self {
        let admitted = Arc::new(Semaphore::new(max as usize));
        Self { files, engine, admitted, streams: Arc::default(), known: Mutex::new(HashMap::new()) }
    }

    /// E-BUSY, E-ART-MISSING. A tree that the host is not told of is missing, for it.
    pub async fn manifest(
        &self,
        caller: &HostCaller,
        tree: TreeDigest,
    ) -> Result<Pieces<wire::ManifestChunk>, Refusal> {
        let permit = self.admit(&caller.host)?;
        if !self.trees(&caller.host).await?.contains(&tree) {
            return Err(missing(&tree.to_string()));
        }
        let files = self.files.clone();
        let text = blocking(move || files.manifest(&tree)).await?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            let _permit = permit;
            let mut text = Bytes::from(text);
            while !text.is_empty() {
                let data = text.split_to(text.len().min(CHUNK_BYTES_MAX));
                let piece = sender.send(Ok(wire::ManifestChunk { data }));
                if !matches!(tokio::time::timeout(STREAM_IDLE_MAX, piece).await, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// E-BUSY, E-ART-MISSING; E-ART-LENGTH and E-ART-DAMAGED may end the stream.
    pub async fn files(
        self: &Arc<Self>,
        caller: &HostCaller,
        needs: Vec<FileNeed>,
    ) -> Result<Pieces<wire::FileChunk>, Refusal> {
        let permit = self.admit(&caller.host)?;
        let trees = self.trees(&caller.host).await?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let stream = FileStream {
            files: self.files.clone(),
            engine: self.engine.clone(),
            caller: caller.clone(),
            sender,
            runtime: Handle::current(),
            checked: Instant::now(),
            _permit: permit,
        };
        let fetches = self.clone();
        let needs = blocking(move || {
            let foreign = fetches.first_foreign(&trees, &needs)?;
            foreign.map_or(Ok(needs), |digest| Err(missing(&digest.to_string())))
        })
        .await?;
        tokio::task::spawn_blocking(move || stream.send(&needs));
        Ok(ReceiverStream::new(receiver))
    }

    /// E-BUSY. A host that holds its streams for ever holds up nobody else.
    fn admit(&self, host: &HostId) -> Result<Permit, Refusal> {
        let busy = |what| Refusal::new(Code::Busy, what, "come back later");
        let of_all = self.admitted.clone().try_acquire_owned();
        let of_all = of_all.map_err(|_| busy("as many hosts fetch as are admitted at once"))?;
        let mut streams = lock(&self.streams);
        let own = streams.entry(host.clone()).or_default();
        if *own >= STREAMS_PER_HOST_MAX {
            return Err(busy("this host fetches as much at once as one host may"));
        }
        *own += 1;
        Ok(Permit { host: host.clone(), streams: self.streams.clone(), _of_all: of_all })
    }

    async fn trees(&self, host: &HostId) -> Result<BTreeSet<TreeDigest>, Refusal> {
        let host = host.clone();
        self.engine.read(move |state, _| assigned_trees(state, &host)).await
    }

    /// A file asked for that is in none of the trees.
    fn first_foreign(
        &self,
        trees: &BTreeSet<TreeDigest>,
        needs: &[FileNeed],
    ) -> Result<Option<FileDigest>, Refusal> {
        let mut own = Vec::with_capacity(trees.len());
        for tree in trees {
            match self.files_of(tree) {
                Ok(files) => own.push(files),
                // Its manifest is gone: none of its files can be asked for by its name.
                Err(refusal) if refusal.code == Code::FileMissing => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let is_foreign = |digest: &FileDigest| !own.iter().any(|files| files.contains(digest));
        Ok(needs.iter().map(|need| need.digest).find(is_foreign))
    }

    fn files_of(&self, tree: &TreeDigest) -> Result<Arc<HashSet<FileDigest>>, Refusal> {
        let known = || lock(&self.known);
        if let Some(files) = known().get(tree) {
            return Ok(files.clone());
        }
        let manifest = Manifest::parse(&self.files.manifest(tree)?)?;
        let files: Arc<HashSet<_>> = Arc::new(manifest.files().map(|(_, _, _, file)| file).collect());
        let mut known = known();
        if known.len() >= TREES_KNOWN_MAX {
            known.clear();
        }
        known.insert(*tree, files.clone());
        Ok(files)
    }
}

/// For as long as a stream goes.
#[derive(Debug)]
struct Permit {
    host: HostId,
    streams: Arc<Mutex<HashMap<HostId, u32>>>,
    _of_all: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        if let Some(own) = streams.get_mut(&self.host) {
            *own -= 1;
            if *own == 0 {
                streams.remove(&self.host);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All trees of all packages that a host is told of, its way back included; those of other platforms
/// too, which are no secret of anybody's.
fn assigned_trees(state: &State, host: &HostId) -> BTreeSet<TreeDigest> {
    let assignments = state.assignments(host);
    let releases = assignments.iter().flat_map(|assignment| [&assignment.release, &assignment.way_back]);
    let packages = releases.flat_map(|release| &release.version_set.packages);
    packages.flat_map(|package| package.trees.values().copied()).collect()
}

/// Work on the disk, away from the threads that serve everybody.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::internal("a task on the disk panicked")),
    }
}

fn missing(digest: &str) -> Refusal {
    let what = format!("no release that this host is told of has {digest}");
    Refusal::new(Code::FileMissing, what, "check in again: the assignment may have changed")
}

/// One stream of files, on a thread of its own for as long as bytes flow.
struct FileStream {
    files: Files,
    engine: Engine,
    caller: HostCaller,
    sender: mpsc::Sender<Result<wire::FileChunk, Status>>,
    runtime: Handle,
    checked: Instant,
    _permit: Permit,
}

/// The other end is gone, or too slow.
struct Gone;

impl FileStream {
    fn send(mut self, needs: &[FileNeed]) {
        for (index, need) in (0u32..).zip(needs) {
            let sent = match self.open(need) {
                Ok(stored) => self.send_file(index, need, &stored),
                Err(refusal) => self.end(&refusal),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn open(&self, need: &FileNeed) -> Result<Stored, Refusal> {
        let stored = self.files.open_stored(&need.digest)?;
        if stored.length == need.length {
            return Ok(stored);
        }
        let what = format!("file {} has {} bytes, not {}", need.digest, stored.length, need.length);
        Err(Refusal::new(Code::FileLength, what, "fetch the manifest again"))
    }

    fn send_file(&mut self, index: u32, need: &FileNeed, stored: &Stored) -> Result<(), Gone> {
        // Who has more than there is has a part of an older copy.
        let mut offset = if need.stored_offset > stored.stored_bytes { 0 } else { need.stored_offset };
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            let read = match stored.read_at(&mut buffer, offset) {
                Ok(read) => read,
                Err(error) => {
                    let what = format!("cannot read stored file {}: {error}", need.digest);
                    return self.end(&Refusal::new(Code::Io, what, "look after the coordinator's disk"));
                }
            };
            let end = offset + read as u64;
            let last = end == stored.stored_bytes;
            let chunk = FileChunk {
                index,
                stored_offset: offset,
                encoding: Encoding::Zstd,
                stored_length: stored.stored_bytes,
                data: Bytes::copy_from_slice(&buffer[..read]),
                last,
            };
            self.recheck()?;
            self.push(Ok(chunk.to_wire()))?;
            if last {
                return Ok(());
            }
            offset = end;
        }
    }

    fn recheck(&mut self) -> Result<(), Gone> {
        if self.checked.elapsed() < RECHECK_AFTER {
            return Ok(());
        }
        self.checked = Instant::now();
        let (host, key) = (self.caller.host.clone(), self.caller.key);
        let may = move |state: &State, _| {
            state.fleet.get(&host).is_some_and(|entry| !entry.host.revoked && entry.host.key == key)
        };
        if let Ok(true) = self.runtime.block_on(self.engine.read(may)) {
            return Ok(());
        }
        let what = format!("the certificate of {} is revoked", self.caller.host);
        self.end(&Refusal::new(Code::Unauthenticated, what, "enroll the host again"))
    }

    /// The last word of the stream.
    fn end(&self, refusal: &Refusal) -> Result<(), Gone> {
        tracing::warn!(host = %self.caller.host, code = %refusal.code, what = refusal.what, "ended a fetch");
        let _ = self.push(Err(refused(refusal)));
        Err(Gone)
    }

    fn push(&self, piece: Result<wire::FileChunk, Status>) -> Result<(), Gone> {
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(STREAM_IDLE_MAX, self.sender.send(piece)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}
