//! How many connections are open on a listener and whose they are, and how long one may be silent or last.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use houston_common::identity::Peer;
use houston_common::log_limit::LogLimit;
use houston_common::tls::{ConnectInfo, Connection, Crowd, Incoming, Place};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Connections of one host. An agent has one; while its network breaks and heals, dead ones linger
/// until the keepalive ends them.
pub const HOST_CONNECTIONS_MAX: u32 = 8;

/// What every HTTP/2 client says first, at once, by its length. Until then the HTTP/2 library knows no
/// limit of its own: neither keepalive nor age.
const PREFACE_BYTES: usize = 24;
const PREFACE_TIME_MAX: Duration = Duration::from_secs(10);

static CLOSED: LogLimit = LogLimit::new();

/// Connections of a listener, up to a limit.
#[derive(Debug)]
pub struct Connections {
    incoming: Incoming,
    room: Room,
}

#[derive(Debug)]
enum Room {
    /// Each peer has a certificate: those beyond the limit are closed at once.
    Known(Arc<Mutex<Open>>),
    /// Nobody has: a newcomer displaces another, and each connection ends at an age.
    Strangers(Crowd, Duration),
}

#[derive(Debug)]
struct Open {
    room: u32,
    by_host: HashMap<String, u32>,
}

impl Connections {
    /// Of peers with certificates.
    pub fn of_known(incoming: Incoming, max: u32) -> Self {
        let open = Open { room: max, by_host: HashMap::new() };
        Self { incoming, room: Room::Known(Arc::new(Mutex::new(open))) }
    }

    /// Of peers without, each for `age_max` at most, whatever it does.
    pub fn of_strangers(incoming: Incoming, max: usize, age_max: Duration) -> Self {
        Self { incoming, room: Room::Strangers(Crowd::new(max), age_max) }
    }

    fn count(&self, connection: Connection) -> Option<Counted> {
        let info = connection.connect_info();
        let (held, age_max) = match &self.room {
            Room::Known(open) => match take(open, &info) {
                Ok(slot) => (Held::Slot { _slot: slot }, None),
                Err(why) => {
                    log_closed(&info, why);
                    return None;
                }
            },
            Room::Strangers(crowd, age_max) => {
                (Held::Place(crowd.enter(info.remote.ip().into())), Some(*age_max))
            }
        };
        Some(Counted::new(connection, held, PREFACE_TIME_MAX, age_max))
    }
}

fn take(open: &Arc<Mutex<Open>>, info: &ConnectInfo) -> Result<Slot, &'static str> {
    let host = info.peer.as_ref().and_then(|certificate| match &certificate.peer {
        Peer::Host(host) => Some(host.to_string()),
        Peer::Operator(_) | Peer::Coordinator => None,
    });
    let host = lock(open).take(host)?;
    Ok(Slot { open: open.clone(), host })
}

fn log_closed(info: &ConnectInfo, why: &str) {
    if let Some(left_out) = CLOSED.admit() {
        tracing::warn!(remote = %info.remote, why, left_out, "closed a connection");
    }
}

impl Open {
    fn take(&mut self, host: Option<String>) -> Result<Option<String>, &'static str> {
        let room = self.room.checked_sub(1).ok_or("as many are open as are allowed")?;
        if let Some(host) = &host {
            let own = self.by_host.entry(host.clone()).or_default();
            if *own == HOST_CONNECTIONS_MAX {
                return Err("the host has too many");
            }
            *own += 1;
        }
        self.room = room;
        Ok(host)
    }

    fn give_back(&mut self, host: Option<&String>) {
        self.room += 1;
        let Some(host) = host else { return };
        if let Some(own) = self.by_host.get_mut(host) {
            *own -= 1;
            if *own == 0 {
                self.by_host.remove(host);
            }
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Each change is made of steps that cannot panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Connections {
    type Item = io::Result<Counted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.incoming).poll_next(cx) {
                Poll::Ready(Some(Ok(connection))) => {
                    if let Some(counted) = self.count(connection) {
                        return Poll::Ready(Some(Ok(counted)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// A place among the open connections; dropping it gives it back.
#[derive(Debug)]
struct Slot {
    open: Arc<Mutex<Open>>,
    host: Option<String>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.open).give_back(self.host.as_ref());
    }
}

#[derive(Debug)]
enum Held {
    Slot { _slot: Slot },
    Place(Place),
}

/// A connection that is counted for as long as it is open, and ends by itself when it may not go on:
/// whatever is tried with it then fails, also where its peer neither sends nor reads.
#[derive(Debug)]
pub struct Counted<C = Connection> {
    connection: C,
    held: Held,
    /// Until the preface is there: how much is missing, and how long it may.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    age: Option<Pin<Box<Sleep>>>,
}

impl<C: Connected<ConnectInfo = ConnectInfo> + Unpin> Counted<C> {
    fn new(connection: C, held: Held, preface_time_max: Duration, age_max: Option<Duration>) -> Self {
        let timer = |after| Box::pin(tokio::time::sleep(after));
        let preface = Some((PREFACE_BYTES, timer(preface_time_max)));
        Self { connection, held, preface, age: age_max.map(timer) }
    }

    /// Refused once the connection is to end. Else the task is woken when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_over = |timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>| timer.as_mut().poll(cx).is_ready();
        let why = if self.preface.as_mut().is_some_and(|(_, timer)| is_over(timer, cx)) {
            "it did not begin to speak HTTP/2"
        } else if self.age.as_mut().is_some_and(|timer| is_over(timer, cx)) {
            "it has lasted as long as it may"
        } else if let Held::Place(place) = &mut self.held
            && place.poll_lost(cx).is_ready()
        {
            "it made room for a newcomer"
        } else {
            return Ok(());
        };
        log_closed(&self.connection.connect_info(), why);
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    fn has_read(&mut self, bytes: usize) {
        self.preface = match self.preface.take() {
            Some((missing, timer)) if bytes < missing => Some((missing - bytes, timer)),
            Some(_) => {
                if let Held::Place(place) = &mut self.held {
                    place.has_spoken();
                }
                None
            }
            None => None,
        };
    }
}

impl<C: Connected> Connected for Counted<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

impl<C> AsyncRead for Counted<C>
where
    C: AsyncRead + Connected<ConnectInfo = ConnectInfo> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.connection).poll_read(cx, buf);
        self.has_read(buf.filled().len() - before);
        polled
    }
}

impl<C> AsyncWrite for Counted<C>
where
    C: AsyncWrite + Connected<ConnectInfo = ConnectInfo> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    /// A connection without a network, and without TLS.
    #[derive(Debug)]
    struct Pipe(DuplexStream);

    impl Connected for Pipe {
        type ConnectInfo = ConnectInfo;

        fn connect_info(&self) -> ConnectInfo {
            ConnectInfo { peer: None, remote: "192.0.2.1:1".parse().expect("an address") }
        }
    }

    impl AsyncRead for Pipe {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3600);

    /// A connection of a crowd of one, and its other end.
    fn stranger(crowd: &Crowd, preface: Duration, age: Duration) -> (Counted<Pipe>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let near = Pipe(near);
        let place = Held::Place(crowd.enter(near.connect_info().remote.ip().into()));
        (Counted::new(near, place, preface, Some(age)), far)
    }

    async fn why<T: std::fmt::Debug>(ends: impl Future<Output = io::Result<T>>) -> String {
        let ended = tokio::time::timeout(Duration::from_secs(30), ends).await.expect("it ends");
        ended.expect_err("it may not go on").to_string()
    }

    #[tokio::test]
    async fn who_never_begins_to_speak_is_let_go() {
        let (mut near, mut far) = stranger(&Crowd::new(1), SOON, NEVER);
        far.write_all(&[0; PREFACE_BYTES - 1]).await.expect("written");
        near.read_exact(&mut [0; PREFACE_BYTES - 1]).await.expect("what there is");
        assert!(why(near.read_u8()).await.contains("HTTP/2"));

        let (mut near, mut far) = stranger(&Crowd::new(1), NEVER, NEVER);
        far.write_all(&[0; PREFACE_BYTES]).await.expect("written");
        near.read_exact(&mut [0; PREFACE_BYTES]).await.expect("the preface");
        assert!(near.preface.is_none(), "whoever has begun may be silent");
    }

    #[tokio::test]
    async fn an_age_reaches_who_neither_sends_nor_reads() {
        let (mut near, _far) = stranger(&Crowd::new(1), NEVER, SOON);
        assert!(why(near.read_u8()).await.contains("lasted"));
        let (mut near, _far) = stranger(&Crowd::new(1), NEVER, SOON);
        assert!(why(near.write_all(&[0; 1000])).await.contains("lasted"), "nobody reads it");
        assert!(why(near.shutdown()).await.contains("lasted"), "nothing is waited for");
    }

    #[tokio::test]
    async fn a_newcomer_ends_the_connection_that_it_displaces() {
        let crowd = Crowd::new(1);
        let (mut near, _far) = stranger(&crowd, NEVER, NEVER);
        let (_newcomer, _) = stranger(&crowd, NEVER, NEVER);
        assert!(why(near.read_u8()).await.contains("newcomer"));
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let mut open = Open { room: HOST_CONNECTIONS_MAX + 2, by_host: HashMap::new() };
        let host = Some("web-1".to_owned());
        for _ in 0..HOST_CONNECTIONS_MAX {
            open.take(host.clone()).expect("room");
        }
        assert!(open.take(host.clone()).is_err(), "one host must not take every place");
        open.take(Some("web-2".to_owned())).expect("room for another");
        open.take(None).expect("room for an operator");
        assert!(open.take(None).is_err());
        open.give_back(host.as_ref());
        open.take(host.clone()).expect("room again");
        for _ in 0..HOST_CONNECTIONS_MAX {
            open.give_back(host.as_ref());
        }
        assert!(!open.by_host.contains_key("web-1"), "who has left is forgotten");
    }
}
