//! How many connections are open on a listener, and how many of them are one host's.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use houston_common::identity::Peer;
use houston_common::tls::{ConnectInfo, Connection, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Connections of one host. An agent has one; while its network breaks and heals, dead ones linger
/// until the keepalive ends them.
pub const HOST_CONNECTIONS_MAX: u32 = 8;

/// Connections of a listener, up to a limit: those beyond it are closed at once, with a line in the log.
#[derive(Debug)]
pub struct Connections {
    incoming: Incoming,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    room: u32,
    by_host: HashMap<String, u32>,
}

impl Connections {
    pub fn new(incoming: Incoming, max: u32) -> Self {
        Self { incoming, open: Arc::new(Mutex::new(Open { room: max, by_host: HashMap::new() })) }
    }

    fn count(&self, connection: Connection) -> Option<Counted> {
        let info = connection.connect_info();
        let host = info.peer.as_ref().and_then(|certificate| match &certificate.peer {
            Peer::Host(host) => Some(host.to_string()),
            Peer::Operator(_) | Peer::Coordinator => None,
        });
        let place = lock(&self.open).take(host);
        match place {
            Ok(host) => {
                let slot = Slot { open: self.open.clone(), host };
                Some(Counted { connection, _slot: slot })
            }
            Err(why) => {
                tracing::warn!(remote = %info.remote, why, "closed a new connection");
                None
            }
        }
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

/// A connection that is counted for as long as it is open.
#[derive(Debug)]
pub struct Counted {
    connection: Connection,
    _slot: Slot,
}

impl Connected for Counted {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.connection.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
