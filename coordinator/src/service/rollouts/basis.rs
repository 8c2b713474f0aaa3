//! What a plan rests on: everything that decides what the rollout will do, but not the health of the day. Its
//! hash is the promise that a start can be held to; what was hashed is kept for a while, to say what has changed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, HostId, RolloutId, Zone};
use houston_common::release::Release;

use super::super::environments::policy_fields;
use crate::catalog::Catalog;
use crate::environment::Environment;
use crate::rollout::Rollout;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    environment: EnvironmentName,
    way_back: Release,
    target: Release,
    supersedes: Option<RolloutId>,
    policy: BTreeMap<String, String>,
    zones: Vec<Zone>,
    excluded: BTreeSet<HostId>,
    hosts: BTreeMap<HostId, (Zone, Option<Release>)>,
}

/// Names in one line of differences, before the others are counted.
const NAMED_MAX: usize = 5;

impl Basis {
    pub(super) fn of(environment: &Environment, rollout: &Rollout, superseded: Option<&Rollout>) -> Self {
        let Rollout { target, way_back, policy, zones, excluded, .. } = rollout;
        let members = environment.members().map(|live| &live.member).filter(|member| !member.detached);
        let hosts = members.map(|member| (member.host.clone(), (member.zone.clone(), member.settled)));
        Self {
            environment: environment.name().clone(),
            way_back: *way_back,
            target: *target,
            supersedes: superseded.map(|superseded| superseded.id),
            policy: policy_fields(policy),
            zones: zones.clone(),
            excluded: excluded.clone(),
            hosts: hosts.collect(),
        }
    }

    pub(super) fn hash(&self) -> Digest {
        let Self { environment, way_back, target, supersedes, policy, zones, excluded, hosts } = self;
        let mut text = String::from("houston-plan 1\n");
        let _ = writeln!(text, "{environment}\nfrom {}\nto {}", way_back.digest(), target.digest());
        if let Some(id) = supersedes {
            let _ = writeln!(text, "supersedes {id}");
        }
        for (field, value) in policy {
            let _ = writeln!(text, "{field} {value}");
        }
        for zone in zones {
            let _ = writeln!(text, "zone {zone}");
        }
        for host in excluded {
            let _ = writeln!(text, "exclude {host}");
        }
        for (host, (zone, settled)) in hosts {
            let settled =
                settled.map_or_else(|| "nothing".to_owned(), |release| release.digest().to_string());
            let _ = writeln!(text, "host {host} {zone} {settled}");
        }
        Digest::of(text.as_bytes())
    }

    /// What is another way now, a clause each. At least one if the hashes differ.
    pub(super) fn differences(&self, now: &Self, catalog: &Catalog) -> Vec<String> {
        let Self { environment, way_back, target, supersedes, policy, zones, excluded, hosts } = self;
        let mut clauses = Vec::new();
        let mut changed = |what: &str, before: String, after: String| {
            if before != after {
                clauses.push(format!("{what} is {after}, was {before}"));
            }
        };
        changed("the environment", environment.to_string(), now.environment.to_string());
        let set = |release: &Release| catalog.view(release).name.to_string();
        changed("the version set", set(target), set(&now.target));
        let settings = |release: &Release| release.settings.short();
        changed("the digest of the settings", settings(target), settings(&now.target));
        let full = |release: &Release| match set(release) == set(&self.way_back) && release != way_back {
            true => format!("{} with other settings", set(release)),
            false => set(release),
        };
        changed("the way back", full(way_back), full(&now.way_back));
        let active = |id: &Option<RolloutId>| id.map_or("none".to_owned(), |id| format!("rollout {id}"));
        changed("what gives way", active(supersedes), active(&now.supersedes));
        let unset = || "unset".to_owned();
        for key in policy.keys().chain(now.policy.keys().filter(|key| !policy.contains_key(*key))) {
            let value = |of: &BTreeMap<String, String>| of.get(key).cloned().unwrap_or_else(unset);
            changed(key, value(policy), value(&now.policy));
        }
        let left_out =
            [("left out", &now.excluded, excluded), ("not left out any more", excluded, &now.excluded)];
        for (what, these, but) in left_out {
            let hosts: Vec<&HostId> = these.difference(but).collect();
            if !hosts.is_empty() {
                clauses.push(format!("{what}: {}", named(&hosts)));
            }
        }
        clauses.extend(hosts_changed(hosts, &now.hosts));
        if clauses.is_empty() && *zones != now.zones {
            clauses.push("the zones are others, or in another order".to_owned());
        }
        clauses
    }
}

type Hosts = BTreeMap<HostId, (Zone, Option<Release>)>;

fn hosts_changed(before: &Hosts, now: &Hosts) -> Vec<String> {
    let joined = now.keys().filter(|host| !before.contains_key(*host)).collect();
    let left = before.keys().filter(|host| !now.contains_key(*host)).collect();
    let both = || before.iter().filter_map(|(host, was)| Some((host, was, now.get(host)?)));
    let moved = both().filter(|(_, was, is)| was.0 != is.0).map(|(host, ..)| host).collect();
    let changed = both().filter(|(_, was, is)| was.1 != is.1).map(|(host, ..)| host).collect();
    let kinds: [(&str, Vec<&HostId>); 4] = [
        ("joined", joined),
        ("left", left),
        ("in another zone", moved),
        ("settled on another release", changed),
    ];
    let some = kinds.into_iter().filter(|(_, hosts)| !hosts.is_empty());
    some.map(|(what, hosts)| format!("{what}: {}", named(&hosts))).collect()
}

/// The first few, and how many more.
fn named(hosts: &[&HostId]) -> String {
    let first: Vec<&str> = hosts.iter().take(NAMED_MAX).map(|host| host.as_str()).collect();
    let more = match hosts.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", first.join(", "))
}

/// Plans that are remembered, and hosts of all of them together: 30 MB or so.
const PLANS_MAX: usize = 64;
const HOSTS_MAX: usize = 200_000;

/// The latest plans that were shown, in memory alone: after a restart a changed plan is refused as before, with
/// less to say of it.
#[derive(Debug, Default)]
pub struct Shown(VecDeque<(Digest, Arc<Basis>)>);

impl Shown {
    pub fn remember(&mut self, basis: Basis) {
        let hash = basis.hash();
        self.0.retain(|(shown, _)| *shown != hash);
        self.0.push_back((hash, basis.into()));
        let hosts = |plans: &VecDeque<(Digest, Arc<Basis>)>| {
            plans.iter().map(|(_, basis)| basis.hosts.len()).sum::<usize>()
        };
        while self.0.len() > PLANS_MAX || (self.0.len() > 1 && hosts(&self.0) > HOSTS_MAX) {
            self.0.pop_front();
        }
    }

    pub fn find(&self, hash: &Digest) -> Option<Arc<Basis>> {
        self.0.iter().find(|(shown, _)| shown == hash).map(|(_, basis)| basis.clone())
    }
}
