//! The running coordinator: its parts put together, served, and taken down in order.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use houston_common::error::{Code, Refusal};
use houston_common::identity::PrivateKey;
use houston_common::tls::{Address, ClockFloor, Credential, Incoming, ServerSettings};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::ca::Ca;
use crate::config::{Config, shown};
use crate::engine::{self, Ended, Engine};
use crate::files::Files;
use crate::grpc::{self, Shared};
use crate::init::{CA_FILE, CA_KEY_FILE, address};
use crate::prometheus;
use crate::service::catalog;
use crate::store::sled::SledStore;

/// Where the addresses that are listened on are written, in the coordinator's directory.
pub const ADDRESSES_FILE: &str = "addresses";

/// How long calls may go on after a stop was asked for. Held ones end at once; an upload is repeated.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How often the coordinator's own certificate is looked at, at most; short lives are looked at oftener.
const CERTIFICATE_LOOK_MAX: Duration = Duration::from_secs(60);

/// Clients that wait in the kernel to be accepted; those beyond it come again after seconds. Linux allows
/// no more unless it is told to (net.core.somaxconn), and a fleet that comes back at once needs it.
const BACKLOG: u32 = 4096;

/// How often files that nothing refers to are deleted.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);
/// Parts of 256 that are read anew with each round: all of them in five days.
const SCRUBS_PER_ROUND: u32 = 2;
/// Files that were stored or asked for within this are spared: twice the longest push.
const COLLECT_GRACE: Duration = Duration::from_secs(2 * 3600);

/// Where a coordinator listens. Text: what `run` prints when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub agents: SocketAddr,
    pub enrollment: SocketAddr,
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "agents={} enrollment={}", self.agents, self.enrollment)
    }
}

/// A coordinator that holds its store and listens, and does not answer yet.
#[derive(Debug)]
pub struct Coordinator {
    shared: Shared,
    ended: oneshot::Receiver<Ended>,
    files: Files,
    certificates: Certificates,
    mutual: TcpListener,
    enrollment: TcpListener,
    addresses: Addresses,
    connections_max: u32,
    prometheus: Option<prometheus::Url>,
    stop: watch::Sender<bool>,
}

impl Coordinator {
    /// Opens everything. E-LOCKED, E-STATE, E-STORE, E-CREDENTIAL, E-CFG-VALUE for an address that
    /// cannot be listened on.
    pub async fn open(config: &Config) -> Result<Self, Refusal> {
        config.check()?;
        let ca = Arc::new(read_ca(&config.directory)?);
        let opened = config.clone();
        let opening = tokio::task::spawn_blocking(move || open_state(&opened)).await;
        let (engine, ended, files) =
            opening.map_err(|_| Refusal::internal("opening the store panicked"))??;
        let certificates = Certificates::issue(ca.clone(), config)?;
        let (mutual, agents) = listen("agent_listen", config.agent_listen).await?;
        let (enrollment, enrollment_address) = listen("enrollment_listen", config.enrollment_listen).await?;
        let addresses = Addresses { agents, enrollment: enrollment_address };
        let told: Address = match &config.agent_address {
            Some(told) => told.clone(),
            None => address(&config.names[0], agents.port()).parse()?,
        };
        write_addresses(&config.directory, &addresses)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared::new(config, told, engine, ca, files.clone(), stopped);
        let (connections_max, prometheus) = (config.connections_max, config.prometheus.clone());
        Ok(Self {
            shared,
            ended,
            files,
            certificates,
            mutual,
            enrollment,
            addresses,
            connections_max,
            prometheus,
            stop,
        })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown` ends, or the store fails: E-STORE, and nothing more is answered.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Refusal> {
        let Self {
            shared,
            mut ended,
            files,
            certificates,
            mutual,
            enrollment,
            connections_max,
            prometheus,
            stop,
            ..
        } = self;
        let mut upkeep = JoinSet::new();
        let [for_mutual, for_enrollment] = certificates.receivers();
        upkeep.spawn(certificates.renew(shared.clock.clone()));
        upkeep.spawn(collect_files(shared.clone(), files));
        upkeep.spawn(prometheus::ask_for_gates(shared.engine.clone(), prometheus));
        let (mutual, enrollment) =
            (Incoming::new(mutual, for_mutual), Incoming::new(enrollment, for_enrollment));
        let mut hosts =
            tokio::spawn(grpc::serve_mutual(shared.clone(), mutual, connections_max, stopped(&stop)));
        let mut strangers = tokio::spawn(grpc::serve_enrollment(shared.clone(), enrollment, stopped(&stop)));
        let result = tokio::select! {
            why = &mut ended => Err(store_failed(why)),
            served = &mut hosts => Err(server_ended(served)),
            served = &mut strangers => Err(server_ended(served)),
            () = shutdown => Ok(()),
        };
        // Every connection is told, and held calls are answered.
        stop.send_replace(true);
        upkeep.shutdown().await;
        drop(shared);
        if result.is_ok() {
            tracing::info!("stopping");
            wind_down(hosts, strangers, ended).await;
        }
        result
    }
}

type Serving = JoinHandle<Result<(), Refusal>>;

/// Waits for calls to end and for the writer to finish its last commit.
async fn wind_down(mut hosts: Serving, mut strangers: Serving, ended: oneshot::Receiver<Ended>) {
    let calls = async {
        let _ = tokio::join!(&mut hosts, &mut strangers);
    };
    if tokio::time::timeout(STOP_TIME_MAX, calls).await.is_err() {
        tracing::warn!("some calls did not end in time");
        hosts.abort();
        strangers.abort();
    }
    if tokio::time::timeout(STOP_TIME_MAX, ended).await.is_err() {
        tracing::warn!("the writer did not end in time");
    }
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + use<> {
    let mut stop = stop.subscribe();
    async move {
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

fn store_failed(why: Result<Ended, oneshot::error::RecvError>) -> Refusal {
    let why = match why {
        Ok(Ended::StoreFailed(why)) => why,
        Ok(Ended::Stopped) | Err(_) => return Refusal::internal("the writer has ended"),
    };
    let next = "look at the disk, then start the coordinator again: it goes on from what is stored";
    Refusal::new(Code::Store, format!("the store failed: {why}"), next)
}

fn server_ended(served: Result<Result<(), Refusal>, tokio::task::JoinError>) -> Refusal {
    match served {
        Ok(Err(refusal)) => refusal,
        Ok(Ok(())) | Err(_) => Refusal::internal("a listener has ended"),
    }
}

/// Opens and serves. `ready` is told the addresses once they are listened on.
pub async fn run(
    config: &Config,
    ready: impl FnOnce(Addresses),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Refusal> {
    let coordinator = Coordinator::open(config).await?;
    ready(coordinator.addresses());
    coordinator.serve(shutdown).await
}

fn open_state(config: &Config) -> Result<(Engine, oneshot::Receiver<Ended>, Files), Refusal> {
    // The store first: its lock is the coordinator's.
    let store = Arc::new(SledStore::open(&config.directory)?);
    let files = Files::open(&config.directory.join("files"), config.reserve)?;
    let (engine, ended) = engine::open(store, config.lost_after)?;
    Ok((engine, ended, files))
}

fn read_ca(directory: &Path) -> Result<Ca, Refusal> {
    let path = directory.join(CA_FILE);
    let pem = fs::read_to_string(&path).map_err(|error| {
        let what = format!("cannot read the authority's certificate {}: {error}", shown(&path));
        Refusal::new(Code::State, what, "make a coordinator with `houston-coordinator init`")
    })?;
    Ca::load(&pem, &PrivateKey::read(&directory.join(CA_KEY_FILE))?, SystemTime::now())
}

async fn listen(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Refusal> {
    let bound = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        std::io::Result::Ok((listener, bound))
    };
    bound.await.map_err(|error| {
        let what = format!("{key}: cannot listen on {address}: {error}");
        Refusal::new(Code::ConfigValue, what, "name another address, or stop who listens there")
    })
}

/// Whole or not at all: who reads it while a coordinator starts sees the old one's or the new one's.
fn write_addresses(directory: &Path, addresses: &Addresses) -> Result<(), Refusal> {
    let (path, beside) = (directory.join(ADDRESSES_FILE), directory.join("addresses.new"));
    let text = format!("agents={}\nenrollment={}\n", addresses.agents, addresses.enrollment);
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|error| Refusal::new(Code::Io, format!("cannot write {}: {error}", shown(&path)), ""))
}

/// The coordinator's own certificate, with a new key each time. It is never on the disk: the authority
/// is at hand to issue another.
#[derive(Debug)]
struct Certificates {
    ca: Arc<Ca>,
    names: Vec<houston_common::tls::ServerName>,
    lifetime: Duration,
    current: Credential,
    mutual: watch::Sender<ServerSettings>,
    enrollment: watch::Sender<ServerSettings>,
}

impl Certificates {
    fn issue(ca: Arc<Ca>, config: &Config) -> Result<Self, Refusal> {
        let (names, lifetime) = (config.names.clone(), config.coordinator_certificate_lifetime);
        let (current, [mutual, enrollment]) = issue(&ca, &names, lifetime, &ClockFloor::new())?;
        let (mutual, enrollment) = (watch::Sender::new(mutual), watch::Sender::new(enrollment));
        Ok(Self { ca, names, lifetime, current, mutual, enrollment })
    }

    fn receivers(&self) -> [watch::Receiver<ServerSettings>; 2] {
        [self.mutual.subscribe(), self.enrollment.subscribe()]
    }

    /// Renews from half-life on, for ever. New connections get the new certificate; old ones live on.
    async fn renew(mut self, clock: ClockFloor) {
        let pause = (self.lifetime / 8).clamp(Duration::from_millis(100), CERTIFICATE_LOOK_MAX);
        loop {
            tokio::time::sleep(pause).await;
            if clock.now() < self.current.certificate().half_life() {
                continue;
            }
            match issue(&self.ca, &self.names, self.lifetime, &clock) {
                Ok((credential, [mutual, enrollment])) => {
                    tracing::info!(serial = %credential.certificate().serial, "renewed the coordinator's certificate");
                    self.current = credential;
                    self.mutual.send_replace(mutual);
                    self.enrollment.send_replace(enrollment);
                }
                Err(refusal) => {
                    tracing::error!(code = %refusal.code, what = refusal.what, "cannot renew the coordinator's certificate");
                }
            }
        }
    }
}

fn issue(
    ca: &Ca,
    names: &[houston_common::tls::ServerName],
    lifetime: Duration,
    clock: &ClockFloor,
) -> Result<(Credential, [ServerSettings; 2]), Refusal> {
    let (issued, key) = ca.issue_coordinator(names, lifetime, SystemTime::now())?;
    let credential = Credential::from_pem(&issued.chain_pem, &key)?;
    let mutual = ServerSettings::mutual(&credential, ca.pem(), clock)?;
    let enrollment = ServerSettings::enrollment(&credential, clock)?;
    Ok((credential, [mutual, enrollment]))
}

/// Deletes files that nothing refers to, and reads some of the others anew: every hour, and after a package
/// was removed.
async fn collect_files(shared: Shared, files: Files) {
    // Another part after each start, so that none is always too late.
    let mut part =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u8;
    loop {
        let _ = tokio::time::timeout(COLLECT_EVERY, shared.collect.notified()).await;
        let engine = shared.engine.clone();
        let Ok(referenced) = engine.read(|state, _| catalog::referenced_trees(state)).await else { return };
        let (files, runtime) = (files.clone(), tokio::runtime::Handle::current());
        let collecting = tokio::task::spawn_blocking(move || {
            // A package may have been entered since. If nobody can tell, nothing is deleted.
            let still = |tree: &_| {
                let tree = *tree;
                let look = engine.read(move |state, _| !catalog::referenced_trees(state).contains(&tree));
                runtime.block_on(look).unwrap_or(false)
            };
            let collected = files.collect(&referenced, COLLECT_GRACE, still)?;
            for _ in 0..SCRUBS_PER_ROUND {
                part = part.wrapping_add(1);
                files.scrub(part)?;
            }
            Ok::<_, Refusal>((collected, part))
        });
        match collecting.await {
            Ok(Ok((collected, next))) => {
                part = next;
                if collected.manifests + collected.files > 0 {
                    let (trees, files, bytes) = (collected.manifests, collected.files, collected.bytes);
                    tracing::info!(trees, files, bytes, "deleted what nothing refers to");
                }
            }
            Ok(Err(refusal)) => {
                tracing::error!(code = %refusal.code, what = refusal.what, "cannot collect files");
            }
            Err(_) => tracing::error!("collecting files panicked"),
        }
    }
}
