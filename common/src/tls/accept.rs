//! Accepted connections, each past its handshake, as a stream that tonic serves.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::ServerSettings;
use super::crowd::{Crowd, Place};
use crate::identity::PeerCertificate;
use crate::log_limit::LogLimit;

/// Handshakes that may be under way at once on one listener. One costs about a millisecond of a core
/// and some tens of KiB, so that this many are a quarter of a second of work and below 20 MiB. Whoever
/// comes when all are under way displaces one, as [`Crowd`] says.
pub const HANDSHAKES_MAX: usize = 256;

/// What each has before it is displaced: a client speaks at once, and a flood that opens a connection for
/// each that is closed turns no faster than this. Beyond 2500 in a second clients wait in the kernel's
/// queue.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(100);

/// The first message follows the connection at once; lost twice on its way, it is here after 3 s.
const HELLO_TIME_MAX: Duration = Duration::from_secs(4);

/// What comes after it takes a round trip; who needs longer is not there.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

static REFUSED: LogLimit = LogLimit::new();

/// Wait after a failed accept. The usual cause is a lack of file descriptors, which passes only when
/// other connections end; trying at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who called, for every request of a connection: an extension of tonic's requests.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// The certificate that the handshake has verified. None only on the enrollment listener.
    pub peer: Option<Arc<PeerCertificate>>,
    pub remote: SocketAddr,
}

/// A stream of connections that are past their handshake. Accepts only while it is polled; dropping
/// it closes the listener and every unfinished handshake. It never ends and yields no errors: a
/// client that fails is logged, and is nobody else's concern.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    settings: watch::Receiver<ServerSettings>,
    handshakes: JoinSet<Option<Connection>>,
    crowd: Crowd,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Takes a listener that is bound, and the settings that each connection is accepted under: those
    /// last sent when it arrives.
    pub fn new(listener: TcpListener, settings: watch::Receiver<ServerSettings>) -> Self {
        let crowd = Crowd::new(HANDSHAKES_MAX);
        Self { listener, settings, handshakes: JoinSet::new(), crowd, pause: None }
    }

    /// Starts a handshake for everybody who waits, while there is room or somebody to displace. Then it is
    /// pending.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(wait) = self.crowd.wait(HANDSHAKE_GRACE, Instant::now()) {
                self.pause = Some(Box::pin(tokio::time::sleep(wait)));
                continue;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((tcp, remote)) => {
                    let settings = self.settings.borrow().clone();
                    let place = self.crowd.enter(remote.ip().into());
                    self.handshakes.spawn(handshake(tcp, remote, settings, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_RETRY)));
                }
            }
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let _ = self.poll_accept(cx);
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(connection)))) => return Poll::Ready(Some(Ok(connection))),
                Poll::Ready(Some(Ok(None))) => {}
                Poll::Ready(Some(Err(error))) => tracing::error!(%error, "a handshake panicked"),
                // An empty set reports its end; new clients wake us through the listener.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn handshake(
    tcp: TcpStream,
    remote: SocketAddr,
    settings: ServerSettings,
    place: Place,
) -> Option<Connection> {
    let refused = |reason: &str| {
        if let Some(left_out) = REFUSED.admit() {
            let reason = crate::id::quoted(reason);
            tracing::warn!(%remote, reason, left_out, "refused a client's handshake");
        }
    };
    let tls = match negotiate(tcp, settings, place).await {
        Ok(tls) => tls,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            // Load balancers and monitors connect just to see whether somebody listens.
            tracing::debug!(%remote, "a client left during its handshake");
            return None;
        }
        Err(error) => {
            refused(&error.to_string());
            return None;
        }
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = match certificate.map(|der| PeerCertificate::from_der(der)).transpose() {
        Ok(peer) => peer.map(Arc::new),
        Err(error) => {
            refused(&error.to_string());
            return None;
        }
    };
    Some(Connection { tls, info: ConnectInfo { peer, remote } })
}

/// A handshake for as long as it has its place.
async fn negotiate(
    tcp: TcpStream,
    settings: ServerSettings,
    mut place: Place,
) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp);
    let hello = while_held(&mut place, HELLO_TIME_MAX, hello).await?;
    place.has_spoken();
    while_held(&mut place, HANDSHAKE_TIME_MAX, hello.into_stream(settings.0)).await
}

async fn while_held<T>(
    place: &mut Place,
    time_max: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    tokio::select! {
        done = tokio::time::timeout(time_max, step) => done?,
        () = std::future::poll_fn(|cx| place.poll_lost(cx)) => {
            Err(io::Error::other("it made room for a newcomer"))
        }
    }
}

/// One accepted connection with what is known about its other end.
#[derive(Debug)]
pub struct Connection {
    tls: TlsStream<TcpStream>,
    info: ConnectInfo,
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
