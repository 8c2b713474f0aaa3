//! What operators see of the state, as plain values.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod rollout;
#[cfg(test)]
mod tests;

pub use rollout::{rollout, summaries};

use std::collections::BTreeMap;
use std::sync::Arc;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::{ReleaseDigest, SettingsDigest};
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, OperatorName, VersionSetName, Zone};
use houston_common::policy::Policy;
use houston_common::release::{Release, Settings, VersionSet};
use houston_common::report::{HealthReport, Phase};
use houston_common::rollout::{Held, WaitingOn};
use houston_common::view::{
    EnvironmentView, HostEnvironmentView, HostView, OperatorView, PackageView, ReleaseView, TokenView,
    VersionSetView, ZoneView,
};

use crate::access::{Operator, Token};
use crate::catalog::{NamedSet, Package};
use crate::environment::{Environment, Live};
use crate::fleet::Entry;
use crate::rollout::ending::updated_in;
use crate::rollout::explain::{explain, held as held_there};
use crate::rollout::gates::GateValues;
use crate::rollout::planner::floors::floor;
use crate::state::State;

/// Version sets that a package's view names; as many fit any list.
const USERS_SHOWN: usize = 1000;
/// What a host in a list is reckoned to have on the wire, in bytes: few are in many environments.
pub(super) const HOST_BYTES: usize = 2048;
/// What any other view is reckoned to have beside its lists.
const VIEW_BYTES: usize = 1024;
/// A name with a digest.
const NAME_BYTES: usize = 128;

pub fn environment(state: &State, environment: &Environment) -> EnvironmentView {
    let definition = &environment.definition;
    EnvironmentView {
        name: definition.name.clone(),
        selector: definition.selector.clone(),
        policy: definition.policy.clone(),
        settings: settings_of(state, &definition.settings).as_ref().clone(),
        baked: state.catalog.view(&definition.baked),
        active: environment.rollout.as_ref().map(|rollout| rollout.id),
        zones: zones(environment),
        bad: definition.bad.iter().map(|release| state.catalog.view(release)).collect(),
    }
}

pub(super) fn environment_bytes(view: &EnvironmentView) -> usize {
    let settings: usize =
        view.settings.0.iter().map(|(key, value)| key.as_str().len() + value.len() + 8).sum();
    let named = view.selector.len() + view.zones.len() + view.bad.len() + view.policy.zone_order.len();
    VIEW_BYTES + settings + named * NAME_BYTES
}

/// Empty settings are nobody's record.
pub(super) fn settings_of(state: &State, digest: &SettingsDigest) -> Arc<Settings> {
    state.catalog.settings(digest).cloned().unwrap_or_default()
}

/// The zones that have hosts, by name, as the active rollout, else the environment's policy, judges them.
fn zones(environment: &Environment) -> Vec<ZoneView> {
    let policy =
        environment.rollout.as_ref().map_or(&environment.definition.policy, |rollout| &rollout.policy);
    let zones = environment.index().zones();
    let updated = |zone: &Zone| {
        environment.rollout.as_ref().map_or(0, |rollout| updated_in(environment, rollout, zone))
    };
    zones.map(|(zone, _)| zone_view(environment, zone, policy, updated(zone))).collect()
}

fn zone_view(environment: &Environment, zone: &Zone, policy: &Policy, updated: u32) -> ZoneView {
    let counts = environment.index().zone(zone);
    let planned = environment
        .rollout
        .as_ref()
        .map_or(counts.in_service, |rollout| rollout.planned.get(zone).copied().unwrap_or_default());
    ZoneView {
        zone: zone.clone(),
        hosts: counts.hosts,
        in_service: counts.in_service,
        available: counts.available,
        floor: policy.zone_floor.map(|share| floor(share, planned, counts)),
        updated,
        moving: counts.moving,
        off_baked: counts.off_baked,
    }
}

/// With the log tails of what failed.
pub fn host(state: &State, entry: &Entry, now: FleetTime) -> HostView {
    let environments = entry.environments.iter().filter_map(|name| {
        let environment = state.environments.get(name)?;
        let live = environment.member(&entry.host.id)?;
        let gates = GateValues::of(state, environment, now);
        let waiting = explain(environment, &state.fleet, &gates, &entry.host.id, now)?;
        Some(host_environment(state, environment, live, waiting))
    });
    let (host, contact) = (&entry.host, &entry.contact);
    HostView {
        id: host.id.clone(),
        zone: host.zone.clone(),
        labels: host.labels.clone(),
        presence: entry.presence(),
        last_seen_ago: contact.last_seen.map(|seen| now.since(seen)),
        drained: host.drained,
        held: held(state, entry, now),
        revoked: host.revoked,
        agent_version: contact.agent_version.clone(),
        platforms: contact.platforms.clone(),
        facts: contact.facts.clone(),
        environments: environments.collect(),
        certificate_expires: host.certificate_expires,
    }
}

/// Why a host takes no change: in all its environments, else where it does not for the longest time.
fn held(state: &State, entry: &Entry, now: FleetTime) -> Option<Held> {
    let environments = entry.environments.iter().filter_map(|name| state.environments.get(name));
    let boxed = environments.filter_map(|environment| environment.member(&entry.host.id));
    let longest = || boxed.max_by_key(|live| live.member.boxed_until);
    // That its access was ended is said beside it.
    let own = entry.held(now).filter(|held| *held != Held::Revoked);
    own.or_else(|| held_there(longest()?, entry, now).filter(|held| *held != Held::Revoked))
}

/// Without log tails: a page of hosts must fit one message.
pub fn host_in_list(state: &State, entry: &Entry, now: FleetTime) -> HostView {
    let mut view = host(state, entry, now);
    for failure in view.environments.iter_mut().filter_map(|environment| environment.failure.as_mut()) {
        failure.log_tail.clear();
    }
    view
}

fn host_environment(
    state: &State,
    environment: &Environment,
    live: &Live,
    waiting: WaitingOn,
) -> HostEnvironmentView {
    let (member, report) = (&live.member, live.report.as_ref());
    let running = report.and_then(|report| report.running);
    // The report is newer than the record, which keeps what it failed with.
    let failure = report.and_then(|report| report.failure.clone()).or_else(|| member.failure.clone());
    HostEnvironmentView {
        environment: environment.name().clone(),
        phase: report.map_or(Phase::Idle, |report| report.phase),
        running: running.and_then(|running| known_release(state, environment, live, running)),
        health: report.map_or(HealthReport::Unknown, |report| report.health.clone()),
        in_service: member.in_service(),
        detached: member.detached,
        failure,
        waiting,
    }
}

/// The release of this digest, if it is one that the host could have been told to run here.
fn known_release(
    state: &State,
    environment: &Environment,
    live: &Live,
    digest: ReleaseDigest,
) -> Option<ReleaseView> {
    let told = live.member.told.iter().flat_map(|told| [told.release, told.way_back]);
    let rollout = environment.rollout.iter().flat_map(|rollout| [rollout.target, rollout.way_back]);
    let definition = &environment.definition;
    let mut releases = told
        .chain(live.member.settled)
        .chain(rollout)
        .chain([definition.baked])
        .chain(definition.bad.iter().copied());
    releases.find(|release| release.digest() == digest).map(|release| state.catalog.view(&release))
}

pub fn package(package: &Package, mut used_by: Vec<VersionSetName>) -> PackageView {
    used_by.truncate(USERS_SHOWN);
    let Package { package, bytes, pushed_by, pushed_at } = package;
    PackageView {
        package: package.clone(),
        bytes: *bytes,
        pushed_by: pushed_by.clone(),
        pushed_at: *pushed_at,
        used_by,
    }
}

pub(super) fn package_bytes(view: &PackageView) -> usize {
    VIEW_BYTES + (view.used_by.len() + view.package.trees.len()) * NAME_BYTES
}

pub fn version_set(state: &State, set: &NamedSet) -> VersionSetView {
    let digest = set.set.digest();
    VersionSetView {
        name: set.name.clone(),
        digest,
        packages: set.set.packages.clone(),
        created_by: set.created_by.clone(),
        created_at: set.created_at,
        baked_in: baked_in(state, |baked| baked.version_set == digest),
    }
}

/// The set that exists everywhere: made by nobody, at no time.
pub fn empty_set(state: &State, name: VersionSetName) -> VersionSetView {
    let created_by: Option<OperatorName> = "houston".parse().ok();
    VersionSetView {
        name,
        digest: VersionSet::empty().digest(),
        packages: Vec::new(),
        created_by: created_by.unwrap_or_else(|| unreachable!("a plain word is a name")),
        created_at: WallTime(0),
        baked_in: baked_in(state, Release::is_empty),
    }
}

fn baked_in(state: &State, is: impl Fn(&Release) -> bool) -> Vec<EnvironmentName> {
    let environments = state.environments.values();
    environments
        .filter(|environment| is(&environment.definition.baked))
        .map(|environment| environment.name().clone())
        .collect()
}

pub(super) fn version_set_bytes(view: &VersionSetView) -> usize {
    let trees: usize = view.packages.iter().map(|package| package.trees.len() + 1).sum();
    VIEW_BYTES + (trees + view.baked_in.len()) * NAME_BYTES
}

pub fn operator(operator: &Operator) -> OperatorView {
    let Operator { name, roles, key: _, certificate_expires, revoked } = operator;
    OperatorView {
        name: name.clone(),
        roles: roles.clone(),
        revoked: *revoked,
        certificate_expires: *certificate_expires,
    }
}

pub fn token(token: &Token, now: FleetTime, wall: WallTime) -> TokenView {
    let Token { id, secret: _, zone, labels, uses_left, expires, expires_at, ephemeral, created_by } = token;
    TokenView {
        id: id.clone(),
        zone: zone.clone(),
        labels: labels.clone(),
        uses_left: *uses_left,
        expires_in: expires.since(now).min(expires_at.since(wall)),
        ephemeral: *ephemeral,
        created_by: created_by.clone(),
    }
}

pub(super) fn labels_text(labels: &BTreeMap<LabelKey, LabelValue>) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(" ")
}
