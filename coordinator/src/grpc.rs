//! The edge: where messages become values and callers are known. The only place of this program that
//! sees generated code.

pub mod access;
mod agent;
mod connections;
mod enrollment;
mod fetch;
mod gate;
mod operator;
mod peer;
mod plan;
mod rate;
mod transfer;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use houston_common::api::status::{to_status, to_status_with_retry};
use houston_common::api::wire::agent_server::AgentServer;
use houston_common::api::wire::enrollment_server::EnrollmentServer;
use houston_common::api::wire::operator_server::OperatorServer;
use houston_common::api::{
    AGENT_REQUEST_BYTES_MAX, ENROLLMENT_REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX, OPERATOR_REQUEST_BYTES_MAX,
};
use houston_common::clock::millis;
use houston_common::error::{Code, Refusal, chain};
use houston_common::exchange::IssuedCertificate;
use houston_common::tls::{Address, ClockFloor, Incoming};
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tonic::Status;
use tonic::transport::Server;

use crate::ca::{Ca, Issued};
use crate::config::Config;
use crate::engine::Engine;
use crate::files::Files;
use agent::AgentService;
use connections::Connections;
pub use connections::HOST_CONNECTIONS_MAX;
use enrollment::EnrollmentService;
use fetch::Fetches;
use gate::{Door, Gate};
use operator::OperatorService;
use peer::HostCaller;
use plan::Plans;
use transfer::Transfers;

/// Calls of one connection at a time: an agent has a check-in, a renewal and two fetches; an operator's
/// program a watch and a few questions.
const STREAMS_MAX: u32 = 32;
/// A stranger has one call.
const STRANGER_STREAMS_MAX: u32 = 2;

/// Most bytes of a request's headers: ours take less than 1 KiB.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Streams that a client may have reset before they were answered; beyond it the connection ends. An
/// agent resets one call a second at most.
const RESETS_MAX: usize = 64;

/// Bytes that a client may send unread, per call and per connection: 10 MB/s at 25 ms for a push, and
/// no more than this for each of ten thousand connections.
const WINDOW_BYTES: u32 = 256 * 1024;

/// A dead connection is noticed within both together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections of strangers: enrollment takes a second, so this many are a fleet that boots.
const STRANGER_CONNECTIONS_MAX: usize = 1000;
/// How long a stranger may stay connected before it is asked to go, and until it has to.
const STRANGER_CONNECTION_AGE: Duration = Duration::from_secs(60);
const STRANGER_CONNECTION_AGE_MAX: Duration = Duration::from_secs(75);

/// When whoever heard E-BUSY is to come back, where nothing better is known.
const BUSY_RETRY: Duration = Duration::from_secs(2);

/// A refusal as a status. The writer is busy, or stops: both pass.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    match refusal.code {
        Code::Busy => to_status_with_retry(refusal, BUSY_RETRY),
        _ => to_status(refusal),
    }
}

/// What the services share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    pub engine: Engine,
    pub ca: Arc<Ca>,
    pub clock: ClockFloor,
    fetches: Arc<Fetches>,
    transfers: Arc<Transfers>,
    plans: Arc<Plans>,
    /// Told that files may have lost their last reference.
    pub collect: Arc<Notify>,
    /// Told to hosts when they enroll.
    agent_address: Address,
    hold: Duration,
    host_certificate_lifetime: Duration,
    operator_certificate_lifetime: Duration,
    stop: Receiver<bool>,
}

impl Shared {
    /// `stop` turns true once, when held calls are to end.
    pub fn new(
        config: &Config,
        agent_address: Address,
        engine: Engine,
        ca: Arc<Ca>,
        files: Files,
        stop: Receiver<bool>,
    ) -> Self {
        Self {
            fetches: Arc::new(Fetches::new(files.clone(), engine.clone(), config.fetches_max)),
            transfers: Arc::new(Transfers::new(files)),
            plans: Arc::default(),
            engine,
            ca,
            clock: ClockFloor::new(),
            collect: Arc::default(),
            agent_address,
            hold: config.hold,
            host_certificate_lifetime: config.host_certificate_lifetime,
            operator_certificate_lifetime: config.operator_certificate_lifetime,
            stop,
        }
    }

    /// Ends when the coordinator stops.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        // Whoever would say so is gone: that is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Whether a host that renews by itself from half-life on has failed to, or has a certificate of
    /// more life than is given now.
    fn must_renew(&self, caller: &HostCaller) -> bool {
        let now = self.clock.now().0;
        let left = caller.expires.0.saturating_sub(now);
        // Without the minutes by which certificates are backdated.
        let given = millis(self.host_certificate_lifetime);
        let life = caller.expires.0.saturating_sub(caller.issued.0).min(given);
        left < life / 4 || left > given
    }

    fn with_authority(&self, issued: Issued) -> IssuedCertificate {
        IssuedCertificate { certificate_pem: issued.chain_pem, authority_pem: self.ca.pem().to_owned() }
    }

    fn gate(&self, door: Door) -> Gate {
        Gate { door, engine: self.engine.clone(), clock: self.clock.clone(), hold: self.hold }
    }
}

/// Serves hosts and operators until `stop` ends, then until their calls have.
pub async fn serve_mutual(
    shared: Shared,
    incoming: Incoming,
    connections_max: u32,
    stop: impl Future<Output = ()>,
) -> Result<(), Refusal> {
    let agent = AgentServer::new(AgentService(shared.clone()))
        .max_decoding_message_size(AGENT_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let operator = OperatorServer::new(OperatorService(shared.clone()))
        .max_decoding_message_size(OPERATOR_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    server()
        .max_concurrent_streams(STREAMS_MAX)
        .layer(shared.gate(Door::Mutual))
        .add_service(agent)
        .add_service(operator)
        .serve_with_incoming_shutdown(Connections::of_known(incoming, connections_max), stop)
        .await
        .map_err(|error| ended(&error))
}

/// Serves strangers, likewise.
pub async fn serve_enrollment(
    shared: Shared,
    incoming: Incoming,
    stop: impl Future<Output = ()>,
) -> Result<(), Refusal> {
    let enrollment = EnrollmentServer::new(EnrollmentService::new(shared.clone()))
        .max_decoding_message_size(ENROLLMENT_REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let connections =
        Connections::of_strangers(incoming, STRANGER_CONNECTIONS_MAX, STRANGER_CONNECTION_AGE_MAX);
    server()
        .max_concurrent_streams(STRANGER_STREAMS_MAX)
        .max_connection_age(STRANGER_CONNECTION_AGE)
        .layer(shared.gate(Door::Enrollment))
        .add_service(enrollment)
        .serve_with_incoming_shutdown(connections, stop)
        .await
        .map_err(|error| ended(&error))
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

fn ended(error: &tonic::transport::Error) -> Refusal {
    Refusal::internal(format!("a listener ended: {}", chain(error)))
}
