//! Who makes room when more have come than there are places for: strangers, of whom nothing is known
//! but their address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future as _;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Where a connection comes from, as far as one party holds it: an IPv4 address, or the /64 in which
/// an IPv6 host picks addresses as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// A bounded number of places. Nobody is turned away: when all are taken, a newcomer gets the place
/// that the source with the most has held longest, without a word if there is such a one. Whoever is
/// there in earnest speaks at once and is through within a few round trips, so what is silent or old is
/// dead; and a source that floods takes from itself before it takes from others. A source that many
/// share loses nothing by it while there is room.
#[derive(Debug, Clone)]
pub struct Crowd {
    max: usize,
    places: Arc<Mutex<Places>>,
}

/// When somebody entered, and what is dropped when their place is lost.
type Holder = (Instant, oneshot::Sender<Infallible>);

/// Whether the holder has spoken, and the number of its place. The lowest makes room first.
type Rank = (bool, u64);

/// A place in a crowd; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    rank: Rank,
    source: Source,
    places: Arc<Mutex<Places>>,
    held: Option<oneshot::Receiver<Infallible>>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: usize,
    /// Each source's places, those of the silent first, then oldest first. What is dropped here is lost
    /// to its holder.
    by_source: HashMap<Source, BTreeMap<Rank, Holder>>,
}

impl Crowd {
    pub fn new(max: usize) -> Self {
        Self { max, places: Arc::default() }
    }

    /// How long until the next newcomer displaces nobody who has been here for less than `grace`. Absent
    /// if that is so now.
    pub fn wait(&self, grace: Duration, now: Instant) -> Option<Duration> {
        let places = lock(&self.places);
        if places.taken < self.max {
            return None;
        }
        let (source, rank) = places.displaced()?;
        let (entered, _) = places.by_source.get(&source)?.get(&rank)?;
        grace.checked_sub(now.duration_since(*entered)).filter(|wait| !wait.is_zero())
    }

    /// Takes a place, somebody else's if none is free.
    pub fn enter(&self, source: Source) -> Place {
        let (holds, held) = oneshot::channel();
        let mut places = lock(&self.places);
        if places.taken >= self.max
            && let Some((source, rank)) = places.displaced()
        {
            places.leave(source, rank);
        }
        let rank = (false, places.next);
        places.next += 1;
        places.taken += 1;
        places.by_source.entry(source).or_default().insert(rank, (Instant::now(), holds));
        Place { rank, source, places: self.places.clone(), held: Some(held) }
    }
}

impl Places {
    /// The first place of the source that has the most; among equals, the first of all.
    fn displaced(&self) -> Option<(Source, Rank)> {
        let first = self.by_source.iter().filter_map(|(source, own)| {
            let (rank, _) = own.first_key_value()?;
            Some((own.len(), Reverse(*rank), *source))
        });
        first.max_by_key(|(count, rank, _)| (*count, *rank)).map(|(_, rank, source)| (source, rank.0))
    }

    fn leave(&mut self, source: Source, rank: Rank) {
        let Some(own) = self.by_source.get_mut(&source) else { return };
        if own.remove(&rank).is_some() {
            self.taken -= 1;
        }
        if own.is_empty() {
            self.by_source.remove(&source);
        }
    }
}

impl Place {
    /// Says that the holder is not silent.
    pub fn has_spoken(&mut self) {
        let spoken = (true, self.rank.1);
        if let Some(own) = lock(&self.places).by_source.get_mut(&self.source)
            && let Some(holder) = own.remove(&self.rank)
        {
            own.insert(spoken, holder);
        }
        self.rank = spoken;
    }

    /// Ready once the place is somebody else's.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.as_mut().is_some_and(|held| Pin::new(held).poll(cx).is_pending()) {
            return Poll::Pending;
        }
        self.held = None;
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places).leave(self.source, self.rank);
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    // Each change is made of steps that cannot panic.
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().expect("an address").into()
    }

    fn is_lost(place: &mut Place) -> bool {
        place.poll_lost(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn who_has_the_most_makes_room_with_its_oldest() {
        let crowd = Crowd::new(4);
        let mut early = crowd.enter(source("192.0.2.1"));
        let mut flood: Vec<Place> = (0..3).map(|_| crowd.enter(source("192.0.2.2"))).collect();
        assert!(!flood.iter_mut().any(is_lost), "there is room for all");
        for lost in 0..50 {
            flood.push(crowd.enter(source("192.0.2.2")));
            assert!(is_lost(&mut flood[lost]) && !is_lost(&mut flood[lost + 1]));
        }
        let mut late = crowd.enter(source("192.0.2.3"));
        assert!(!is_lost(&mut early) && !is_lost(&mut late), "others lose nothing");
        assert_eq!(flood.iter_mut().map(is_lost).filter(|lost| !lost).count(), 2);
        // One each but for the flood's two; then it is the oldest of all.
        let more: Vec<Place> = ["192.0.2.4", "192.0.2.5"].map(|address| crowd.enter(source(address))).into();
        assert!(is_lost(&mut early) && !is_lost(&mut late));
        drop((flood, more, late, early));
        let places = lock(&crowd.places);
        assert!(places.taken == 0 && places.by_source.is_empty(), "who has left is forgotten");
    }

    #[test]
    fn a_newcomer_waits_until_who_makes_room_has_had_its_time() {
        let grace = Duration::from_secs(60);
        let crowd = Crowd::new(2);
        let _first = crowd.enter(source("192.0.2.1"));
        assert_eq!(crowd.wait(grace, Instant::now()), None, "there is room");
        let second = crowd.enter(source("192.0.2.1"));
        assert!(crowd.wait(grace, Instant::now()).is_some_and(|wait| wait <= grace));
        assert_eq!(crowd.wait(grace, Instant::now() + grace), None);
        drop(second);
        assert_eq!(crowd.wait(grace, Instant::now()), None, "there is room again");
    }

    #[test]
    fn the_silent_make_room_before_who_has_spoken() {
        let crowd = Crowd::new(3);
        let [mut speaks, mut silent, mut other] =
            ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|address| crowd.enter(source(address)));
        speaks.has_spoken();
        let mut newcomer = crowd.enter(source("192.0.2.1"));
        assert!(is_lost(&mut silent) && !is_lost(&mut speaks));
        silent.has_spoken();
        assert!(is_lost(&mut silent), "too late");
        newcomer.has_spoken();
        let _next = crowd.enter(source("192.0.2.3"));
        assert!(
            is_lost(&mut speaks) && !is_lost(&mut other),
            "whoever has the most, also if all have spoken"
        );
        assert!(!is_lost(&mut newcomer));
    }

    #[test]
    fn places_that_are_given_back_are_free() {
        let crowd = Crowd::new(1);
        drop(crowd.enter(source("192.0.2.1")));
        let mut stays = crowd.enter(source("192.0.2.1"));
        assert!(!is_lost(&mut stays));
        let _next = crowd.enter(source("192.0.2.1"));
        assert!(is_lost(&mut stays) && is_lost(&mut stays), "it may be asked again");
    }

    #[test]
    fn addresses_that_one_party_picks_from_are_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
