//! From an address to a channel, with a named reason when there is none.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::failure::{explain, refusal_within, unreachable};
use super::{Address, ClientSettings};
use crate::error::{Code, Refusal, chain};
use crate::identity::{Peer, PeerCertificate};

/// Name lookup, TCP, handshake and the coordinator's first word together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// A dead connection is noticed within the interval and the timeout, idle or not: long polls are
/// silent for longer than most middle boxes remember a connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that may be under way unread, per stream and per connection. An idle agent needs none; 1 MiB
/// carries 10 MB/s over a round trip of 100 ms, and bounds what a coordinator can make a host buffer.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;

impl ClientSettings {
    /// Connects now: E-UNREACHABLE, E-TLS, E-CERT-EXPIRED, E-CERT-CA or E-AUTH says why not. When the
    /// connection breaks later, the channel makes a new one on the next call by itself; if it cannot,
    /// [`refusal_within`] finds the reason in that call's status.
    pub async fn connect(&self, address: &Address) -> Result<Channel, Refusal> {
        let dial = Dial { settings: self.clone(), address: address.clone() };
        endpoint(address)?.connect_with_connector(dial.into_service()).await.map_err(|error| {
            refusal_within(&error).cloned().unwrap_or_else(|| unreachable(address, &chain(&error)))
        })
    }

    /// Connects on the first call. Fails only for an address that cannot be a URI.
    pub fn connect_lazily(&self, address: &Address) -> Result<Channel, Refusal> {
        let dial = Dial { settings: self.clone(), address: address.clone() };
        Ok(endpoint(address)?.connect_with_connector_lazy(dial.into_service()))
    }
}

fn endpoint(address: &Address) -> Result<Endpoint, Refusal> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|error| Refusal::new(Code::Address, format!("{address}: {}", chain(&error)), ""))?;
    Ok(endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

#[derive(Clone)]
struct Dial {
    settings: ClientSettings,
    address: Address,
}

impl Dial {
    fn into_service(
        self,
    ) -> impl tower::Service<
        http::Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = Refusal,
        Future: Send,
    > + Send {
        tower::service_fn(move |_uri| {
            let dial = self.clone();
            async move {
                match tokio::time::timeout(CONNECT_TIME_MAX, dial.open()).await {
                    Ok(opened) => opened.map(TokioIo::new),
                    Err(_) => {
                        let seconds = CONNECT_TIME_MAX.as_secs();
                        Err(unreachable(&dial.address, &format!("no answer within {seconds} s")))
                    }
                }
            }
        })
    }

    async fn open(&self) -> Result<TlsStream<TcpStream>, Refusal> {
        let Self { settings, address } = self;
        let tcp = TcpStream::connect((address.name().to_string(), address.port()))
            .await
            .map_err(|error| unreachable(address, &error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(address, &error.to_string()))?;
        let name = settings.server_name.as_ref().unwrap_or_else(|| address.name()).as_tls().clone();
        let refuse = |error| explain(&error, address, settings.own.as_deref());
        let mut tls = TlsConnector::from(settings.config.clone()).connect(name, tcp).await.map_err(refuse)?;
        self.check_peer(&tls)?;
        // In TLS 1.3 the client is done before the server has looked at the client's certificate. An
        // HTTP/2 server speaks first, so its first bytes say that we were let in; what comes instead
        // of them says why not. The bytes stay where they are.
        match tls.fill_buf().await {
            Ok([]) => Err(refuse(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(tls),
            Err(error) => Err(refuse(error)),
        }
    }

    /// The name in the certificate and its authority are verified. It must also be a coordinator's: an
    /// authority that was given to us may have issued others for the same name.
    fn check_peer(&self, tls: &TlsStream<TcpStream>) -> Result<(), Refusal> {
        let address = &self.address;
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(super::ALPN) {
            let what = format!("{address} does not speak HTTP/2");
            return Err(Refusal::new(Code::Tls, what, "check the port, and that nothing between ends TLS"));
        }
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.map(|der| PeerCertificate::from_der(der).map(|certificate| certificate.peer));
        let holder = match peer {
            Some(Ok(Peer::Coordinator)) => return Ok(()),
            Some(Ok(other)) => other.to_string(),
            Some(Err(error)) => error.to_string(),
            None => "nobody".into(),
        };
        let what = format!("{address} is no coordinator, by its certificate: {holder}");
        Err(Refusal::new(Code::CertificateAuthority, what, "check the address"))
    }
}
