//! **Decision.** What is known of the hosts themselves, over all environments.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, HostId, LabelKey, LabelValue, OperatorName, Platform, Zone};
use houston_common::report::{Facts, Position};
use houston_common::rollout::Held;
use houston_common::view::Presence;

/// Silence after which a host is lost: three holds.
pub const LOST_AFTER: Duration = Duration::from_secs(90);
/// How long a check-in may be held.
pub const HOLD: Duration = Duration::from_secs(30);
/// A host enrolled by an ephemeral token is forgotten after this much silence.
pub const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// What is stored of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub id: HostId,
    pub zone: Zone,
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// SHA-256 of the enrolled public key: only its holder may renew.
    pub key: Digest,
    /// The public key itself (DER), for renewing a certificate that has expired.
    pub key_der: Vec<u8>,
    pub certificate_expires: WallTime,
    pub enrolled_at: WallTime,
    pub ephemeral: bool,
    pub revoked: bool,
    pub drained: bool,
    /// Why it takes no change. It still serves.
    pub held: Option<Hold>,
    /// Start counter and nonce of the newest start heard of, to tell clones apart.
    pub start: Option<(u64, u64)>,
}

/// Why a host as a whole takes no change. Penalty boxes are its members'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// `until` absent: until it is released.
    Operator { name: OperatorName, reason: String, until: Option<FleetTime> },
    /// Two machines speak with its identity.
    Clone,
    /// It shows an assignment that this store never gave.
    ForeignAssignment,
}

impl Hold {
    /// When it ends by itself.
    pub fn until(&self) -> Option<FleetTime> {
        match self {
            Self::Operator { until, .. } => *until,
            Self::Clone | Self::ForeignAssignment => None,
        }
    }
}

/// What is known of a host since this coordinator started. Never stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contact {
    pub last_seen: Option<FleetTime>,
    pub lost: bool,
    pub sequence: u64,
    pub agent_version: String,
    pub platforms: Vec<Platform>,
    pub facts: Facts,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub host: Host,
    pub contact: Contact,
    /// When it was loaded or enrolled.
    pub known_since: FleetTime,
    /// Environment in which the host has an open grant. At most one over all its environments.
    pub granted_in: Option<EnvironmentName>,
    /// Environments that it is, or was, a member of.
    pub environments: BTreeSet<EnvironmentName>,
}

impl Entry {
    pub fn presence(&self) -> Presence {
        match (self.contact.lost, self.contact.last_seen) {
            (true, _) => Presence::Lost,
            (false, None) => Presence::Unknown,
            (false, Some(_)) => Presence::Seen,
        }
    }

    /// Since it was last heard of; since the coordinator has known it, if that was never.
    pub fn silence(&self, now: FleetTime) -> Duration {
        now.since(self.contact.last_seen.unwrap_or(self.known_since))
    }

    /// Why it takes no change in any environment.
    pub fn held(&self, now: FleetTime) -> Option<Held> {
        let held = self.host.held.as_ref().map(|hold| match hold {
            Hold::Operator { name, reason, until } => {
                let left = until.map(|until| until.since(now));
                Held::Operator { name: name.clone(), reason: reason.clone(), left }
            }
            Hold::Clone => Held::Clone,
            Hold::ForeignAssignment => Held::ForeignAssignment,
        });
        held.or_else(|| self.host.revoked.then_some(Held::Revoked))
    }

    /// Whether it answers: only such a host can be told anything.
    pub fn is_seen(&self) -> bool {
        self.presence() == Presence::Seen
    }
}

/// What a host's report says about its own order among reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first of a new start: the host record changes.
    NewStart,
    /// The next one.
    Next,
    /// A duplicate or a late one: it says nothing new.
    Old,
    /// Two machines speak as one host.
    Clone,
}

#[derive(Debug, Default)]
pub struct Fleet {
    hosts: BTreeMap<HostId, Entry>,
    /// Check-ins in the order of their arrival, so that silence is found from the front without a
    /// walk over the fleet. An entry is stale when the host was heard of since.
    heard: VecDeque<(FleetTime, HostId)>,
    keys: BTreeMap<Digest, BTreeSet<HostId>>,
    /// Holds that end by themselves.
    holds: BTreeSet<(FleetTime, HostId)>,
    lost_after: Duration,
}

impl Fleet {
    pub fn new(lost_after: Duration) -> Self {
        Self { lost_after, ..Self::default() }
    }

    pub fn get(&self, id: &HostId) -> Option<&Entry> {
        self.hosts.get(id)
    }

    /// Hosts that enrolled with this key.
    pub fn with_key(&self, key: &Digest) -> impl Iterator<Item = &Entry> {
        self.keys.get(key).into_iter().flatten().filter_map(|id| self.hosts.get(id))
    }

    /// Hosts whose id begins so.
    pub fn beginning(&self, start: &str) -> impl Iterator<Item = &Entry> {
        let from = (Bound::Included(start), Bound::Unbounded);
        let hosts = self.hosts.range::<str, _>(from).map(|(_, entry)| entry);
        hosts.take_while(move |entry| entry.host.id.as_str().starts_with(start))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.hosts.values()
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    pub fn lost_after(&self) -> Duration {
        self.lost_after
    }

    /// Takes a stored host in. `now` starts its silence: what is loaded is unknown, not lost.
    pub fn put(&mut self, host: Host, now: FleetTime) {
        self.keys.entry(host.key).or_default().insert(host.id.clone());
        self.forget_hold(&host.id);
        if let Some(until) = host.held.as_ref().and_then(Hold::until) {
            self.holds.insert((until, host.id.clone()));
        }
        if let Some(entry) = self.hosts.get_mut(&host.id) {
            // A host keeps the key that it enrolled with.
            entry.host = host;
        } else {
            self.heard.push_back((now, host.id.clone()));
            let entry = Entry {
                host,
                contact: Contact::default(),
                known_since: now,
                granted_in: None,
                environments: BTreeSet::new(),
            };
            self.hosts.insert(entry.host.id.clone(), entry);
        }
    }

    fn forget_hold(&mut self, id: &HostId) {
        let hold = self.hosts.get(id).and_then(|entry| entry.host.held.as_ref());
        if let Some(until) = hold.and_then(Hold::until) {
            self.holds.remove(&(until, id.clone()));
        }
    }

    pub fn remove(&mut self, id: &HostId) {
        self.forget_hold(id);
        if let Some(entry) = self.hosts.remove(id)
            && let Some(hosts) = self.keys.get_mut(&entry.host.key)
        {
            hosts.remove(id);
            if hosts.is_empty() {
                self.keys.remove(&entry.host.key);
            }
        }
    }

    pub fn join(&mut self, id: &HostId, environment: &EnvironmentName) {
        if let Some(entry) = self.hosts.get_mut(id)
            && !entry.environments.contains(environment)
        {
            entry.environments.insert(environment.clone());
        }
    }

    pub fn leave(&mut self, id: &HostId, environment: &EnvironmentName) {
        if let Some(entry) = self.hosts.get_mut(id) {
            entry.environments.remove(environment);
            if entry.granted_in.as_ref() == Some(environment) {
                entry.granted_in = None;
            }
        }
    }

    pub fn set_granted_in(&mut self, id: &HostId, environment: Option<EnvironmentName>) {
        if let Some(entry) = self.hosts.get_mut(id) {
            entry.granted_in = environment;
        }
    }

    /// Where a report stands among the host's others.
    pub fn order_of(&self, id: &HostId, position: Position) -> Order {
        let Some(entry) = self.hosts.get(id) else { return Order::Old };
        match entry.host.start {
            None => Order::NewStart,
            Some((start, _)) if position.start > start => Order::NewStart,
            // A copied disk starts from the copied counter: its starts fall behind, or collide with
            // another nonce. A late duplicate of an earlier start cannot be told from it by the
            // counter alone, but TLS keeps one connection's calls in order and an agent never sends
            // a new start before its last call of the old one has failed.
            Some((start, _)) if position.start < start => Order::Clone,
            Some((_, nonce)) if position.nonce != nonce => Order::Clone,
            Some(_) if position.sequence <= entry.contact.sequence => Order::Old,
            Some(_) => Order::Next,
        }
    }

    /// Notes that a host was heard of. Returns whether its presence has changed.
    pub fn heard_of(&mut self, id: &HostId, now: FleetTime, contact: Contact) -> bool {
        let Some(entry) = self.hosts.get_mut(id) else { return false };
        let before = entry.presence();
        entry.contact = Contact { last_seen: Some(now), lost: false, ..contact };
        self.heard.push_back((now, id.clone()));
        before != Presence::Seen
    }

    /// Hosts whose silence has lasted `lost_after`, each once, now marked lost.
    pub fn newly_lost(&mut self, now: FleetTime) -> Vec<HostId> {
        let mut lost = Vec::new();
        while let Some((heard, _)) = self.heard.front() {
            if heard.plus(self.lost_after) > now {
                break;
            }
            let Some((heard, id)) = self.heard.pop_front() else { break };
            let Some(entry) = self.hosts.get_mut(&id) else { continue };
            let stale = entry.contact.last_seen.is_some_and(|seen| seen > heard);
            if !stale && !entry.contact.lost {
                entry.contact.lost = true;
                lost.push(id);
            }
        }
        lost
    }

    /// The first host whose hold is over, by its time.
    pub fn hold_over(&self, now: FleetTime) -> Option<&HostId> {
        self.holds.first().filter(|(until, _)| *until <= now).map(|(_, host)| host)
    }

    /// When the next hold ends by itself.
    pub fn next_hold_end(&self) -> Option<FleetTime> {
        self.holds.first().map(|(until, _)| *until)
    }

    /// When the next host could become lost.
    pub fn next_loss(&self) -> Option<FleetTime> {
        self.heard.front().map(|(heard, _)| heard.plus(self.lost_after))
    }
}
