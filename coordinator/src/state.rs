//! **Decision.** All that the coordinator knows. Every durable change is an [`Edit`], at load and in
//! operation alike, so that what is in memory is always what a restart would read.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod assignment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{
    EnvironmentName, Epoch, Generation, HostId, PackageName, RolloutId, StoreId, Version,
};
use houston_common::release::Settings;

use crate::access::{Access, Operator, Token};
use crate::audit::Audit;
use crate::catalog::{Catalog, NamedSet, Package};
use crate::environment::member::Member;
use crate::environment::{Definition, Environment};
use crate::fleet::{Entry, Fleet, Host};
use crate::rollout::gates::Measurements;
use crate::rollout::{Rollout, outcome};

/// One durable change. Each is one record of the store.
#[expect(
    clippy::large_enum_variant,
    reason = "edits live for one commit; most are members, near the largest"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    Meta(Meta),
    Host(Host),
    ForgetHost(HostId),
    Member(Member),
    ForgetMember(EnvironmentName, HostId),
    Environment(Definition),
    Rollout(Rollout),
    Package(Package),
    ForgetPackage(PackageName, Version),
    VersionSet(NamedSet),
    Settings(Arc<Settings>),
    Token(Token),
    ForgetToken(String),
    Operator(Operator),
    Audit(Audit),
}

/// The store's own facts: one record, in every commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Meta {
    pub store: StoreId,
    /// Under which assignments are stamped.
    pub mac_key: [u8; 32],
    /// The newest ones given out.
    pub generation: Generation,
    pub rollout: RolloutId,
    pub audit: u64,
    /// Fleet time as of the last commit: a restart goes on from here.
    pub checkpoint: FleetTime,
    /// A host has shown a stamp of ours above our own: the store has gone back in time.
    pub regressed: bool,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta")
            .field("store", &self.store)
            .field("generation", &self.generation)
            .field("rollout", &self.rollout)
            .field("audit", &self.audit)
            .field("checkpoint", &self.checkpoint)
            .field("regressed", &self.regressed)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct State {
    pub epoch: Epoch,
    pub meta: Meta,
    pub fleet: Fleet,
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// Rollouts that are over.
    pub history: BTreeMap<RolloutId, Rollout>,
    pub catalog: Catalog,
    pub access: Access,
    /// The newest entries, for listing; all of them are in the store.
    pub audit: std::collections::VecDeque<Audit>,
    /// What queries of gates were answered. Of this process only.
    pub measured: Measurements,
    /// One moment by both clocks: the newest that the writer has seen.
    pub noted: (FleetTime, WallTime),
}

/// Audit entries kept in memory for listing.
pub const AUDIT_IN_MEMORY: usize = 1000;

impl State {
    /// An empty state over `meta`; [`State::load`] takes a snapshot's records in.
    pub fn new(epoch: Epoch, meta: Meta, lost_after: Duration) -> Self {
        Self {
            epoch,
            meta,
            fleet: Fleet::new(lost_after),
            environments: BTreeMap::new(),
            history: BTreeMap::new(),
            catalog: Catalog::default(),
            access: Access::default(),
            audit: std::collections::VecDeque::new(),
            measured: Measurements::new(),
            noted: (FleetTime(0), WallTime(0)),
        }
    }

    /// The wall clock at a moment of the fleet's.
    pub fn wall(&self, now: FleetTime) -> WallTime {
        let (then, wall) = self.noted;
        wall.plus(now.since(then))
    }

    /// Takes a snapshot's records in: hosts and environments first, since members need both.
    pub fn load(&mut self, edits: Vec<Edit>) {
        let now = self.meta.checkpoint;
        let rank = |edit: &Edit| match edit {
            Edit::Meta(_) => 0,
            Edit::Host(_) | Edit::ForgetHost(_) => 1,
            Edit::Environment(_) => 2,
            Edit::Rollout(_) => 3,
            Edit::Member(_) | Edit::ForgetMember(..) => 4,
            Edit::Package(_)
            | Edit::ForgetPackage(..)
            | Edit::VersionSet(_)
            | Edit::Settings(_)
            | Edit::Token(_)
            | Edit::ForgetToken(_)
            | Edit::Operator(_)
            | Edit::Audit(_) => 5,
        };
        let mut edits = edits;
        edits.sort_by_key(rank);
        for edit in edits {
            self.apply(edit, now);
        }
        let names: Vec<EnvironmentName> = self.environments.keys().cloned().collect();
        for name in names {
            self.sync_membership(&name);
        }
    }

    pub fn apply(&mut self, edit: Edit, now: FleetTime) {
        match edit {
            Edit::Meta(meta) => self.meta = meta,
            Edit::Host(host) => self.put_host(host, now),
            Edit::ForgetHost(host) => self.forget_host(&host),
            Edit::Member(member) => self.put_member(member),
            Edit::ForgetMember(environment, host) => {
                if let Some(environment) = self.environments.get_mut(&environment) {
                    environment.remove_member(&host);
                }
                self.fleet.leave(&host, &environment);
                self.recount_host(&host);
            }
            Edit::Environment(definition) => self.put_environment(definition),
            Edit::Rollout(rollout) => self.put_rollout(rollout),
            Edit::Package(package) => self.catalog.put_package(package),
            Edit::ForgetPackage(name, version) => {
                self.catalog.packages.remove(&(name, version));
            }
            Edit::VersionSet(set) => self.catalog.put_set(set),
            Edit::Settings(settings) => self.catalog.put_settings(settings),
            Edit::Token(token) => {
                self.access.tokens.insert(token.id.clone(), token);
            }
            Edit::ForgetToken(id) => {
                self.access.tokens.remove(&id);
            }
            Edit::Operator(operator) => {
                self.access.operators.insert(operator.name.clone(), operator);
            }
            Edit::Audit(entry) => {
                if self.audit.len() == AUDIT_IN_MEMORY {
                    self.audit.pop_front();
                }
                self.audit.push_back(entry);
            }
        }
    }

    /// Sorts a host anew in each of its environments: its presence or record has changed.
    pub fn recount_host(&mut self, host: &HostId) {
        let Some(entry) = self.fleet.get(host) else { return };
        for name in entry.environments.clone() {
            if let Some(environment) = self.environments.get_mut(&name) {
                environment.recount(host, &self.fleet);
            }
        }
    }

    /// The rollout of this number, active or over.
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        let active = || self.environments.values().filter_map(|environment| environment.rollout.as_ref());
        self.history.get(&id).or_else(|| active().find(|rollout| rollout.id == id))
    }

    fn put_host(&mut self, host: Host, now: FleetTime) {
        let id = host.id.clone();
        self.fleet.put(host, now);
        for name in self.environments.keys().cloned().collect::<Vec<_>>() {
            self.sync_member(&name, &id);
        }
        self.recount_host(&id);
    }

    fn forget_host(&mut self, host: &HostId) {
        let environments = self.fleet.get(host).map(|entry| entry.environments.clone()).unwrap_or_default();
        for name in environments {
            if let Some(environment) = self.environments.get_mut(&name) {
                environment.remove_member(host);
            }
        }
        self.fleet.remove(host);
    }

    fn put_member(&mut self, member: Member) {
        let (host, name) = (member.host.clone(), member.environment.clone());
        // A record that has outlived its host is nobody's.
        if self.fleet.get(&host).is_none() {
            return;
        }
        let Some(environment) = self.environments.get_mut(&name) else { return };
        let granted = member.grant.is_some();
        environment.put_member(member, &self.fleet);
        self.fleet.join(&host, &name);
        let was = self.fleet.get(&host).and_then(|entry| entry.granted_in.clone());
        match (granted, was) {
            (true, was) if was.as_ref() != Some(&name) => {
                self.fleet.set_granted_in(&host, Some(name));
                self.recount_host(&host);
            }
            (false, Some(was)) if was == name => {
                self.fleet.set_granted_in(&host, None);
                self.recount_host(&host);
            }
            _ => {}
        }
    }

    fn put_environment(&mut self, definition: Definition) {
        let name = definition.name.clone();
        match self.environments.get_mut(&name) {
            Some(environment) => environment.definition = definition,
            None => {
                self.environments.insert(name.clone(), Environment::new(definition));
            }
        }
        self.sync_membership(&name);
    }

    fn put_rollout(&mut self, rollout: Rollout) {
        let Some(environment) = self.environments.get_mut(&rollout.environment) else { return };
        let name = rollout.environment.clone();
        if rollout.is_over() {
            let was_active = environment.rollout.as_ref().is_some_and(|active| active.id == rollout.id);
            if was_active {
                environment.rollout = None;
            }
            self.history.insert(rollout.id, rollout);
            if was_active {
                self.sync_membership(&name);
            }
            return;
        }
        let before = environment.rollout.replace(rollout);
        let now = environment.rollout.as_ref();
        // What every member is sorted by.
        let of = |rollout: &Rollout| (rollout.id, rollout.goes_back(), rollout.excluded.clone());
        if before.as_ref().map(of) != now.map(of) {
            environment.recount_all(&self.fleet);
        }
    }

    /// Brings the members of an environment in line with its selector and the hosts' zones.
    fn sync_membership(&mut self, name: &EnvironmentName) {
        let hosts: Vec<HostId> = self.fleet.iter().map(|entry| entry.host.id.clone()).collect();
        for host in hosts {
            self.sync_member(name, &host);
        }
        if let Some(environment) = self.environments.get_mut(name) {
            environment.recount_all(&self.fleet);
        }
    }

    /// One host's membership, as its labels and zone have it now. A zone stays pinned while a
    /// rollout is active. What was ever told something and is selected no more is detached.
    fn sync_member(&mut self, name: &EnvironmentName, host: &HostId) {
        let (Some(environment), Some(entry)) = (self.environments.get_mut(name), self.fleet.get(host)) else {
            return;
        };
        let selected = environment.definition.selects(&entry.host.labels);
        let pinned = environment.rollout.is_some();
        let mut member = match environment.member(host) {
            Some(live) => live.member.clone(),
            None if !selected => return,
            None => Member::new(name.clone(), host.clone(), entry.host.zone.clone(), RolloutId(0)),
        };
        if !selected && member.told.is_none() && member.settled.is_none() {
            environment.remove_member(host);
            self.fleet.leave(host, name);
            return;
        }
        member.detached = !selected;
        if !pinned {
            member.zone = entry.host.zone.clone();
        }
        self.put_member(member);
    }

    /// All that goes with a host that is forgotten.
    pub fn forgetting(&self, entry: &Entry) -> Vec<Edit> {
        let host = &entry.host.id;
        let mut edits = Vec::new();
        for environment in entry.environments.iter().filter_map(|name| self.environments.get(name)) {
            let turn = environment.rollout.as_ref().zip(environment.member(host));
            edits.extend(
                turn.and_then(|(rollout, live)| outcome::forgotten(&live.member, rollout)).map(Edit::Rollout),
            );
            edits.push(Edit::ForgetMember(environment.name().clone(), host.clone()));
        }
        edits.push(Edit::ForgetHost(host.clone()));
        edits
    }

    /// The memberships that a host with these labels has or gains: written with the host's record,
    /// so that a restart knows that it joined in the middle of a rollout.
    pub fn memberships(&self, host: &Host) -> Vec<Member> {
        let environments = self.environments.values();
        environments
            .filter(|environment| environment.definition.selects(&host.labels))
            .map(|environment| {
                let active = environment.rollout.as_ref().map_or(RolloutId(0), |rollout| rollout.id);
                match environment.member(&host.id).map(|live| live.member.clone()) {
                    // It comes back: to an active rollout it is one that joined later.
                    Some(member) if member.detached => {
                        Member { detached: false, joined: member.joined.max(active), ..member }
                    }
                    Some(member) => member,
                    None => {
                        Member::new(environment.name().clone(), host.id.clone(), host.zone.clone(), active)
                    }
                }
            })
            .collect()
    }
}
