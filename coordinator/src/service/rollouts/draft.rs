//! A rollout before it exists: what it would be, and everything that speaks against it.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{EMPTY_VERSION_SET, StartRollout};
use houston_common::digest::VersionSetDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{HostId, Zone};
use houston_common::policy::{Policy, Share};
use houston_common::release::{Release, VersionSet};

use super::super::catalog::set_named;
use super::super::hosts::resolve;
use super::super::{Caller, conflict, environment, next_rollout};
use super::remember;
use crate::environment::Environment;
use crate::environment::index::Counts;
use crate::environment::member::Member;
use crate::rollout::planner::floors::floor;
use crate::rollout::{Direction, Rollout, Stage, UNWELL_MAX};
use crate::state::{Edit, Meta, State};

/// A rollout as it would be created, with what it rests on.
pub(super) struct Draft<'a> {
    pub(super) environment: &'a Environment,
    pub(super) rollout: Rollout,
    pub(super) superseded: Option<&'a Rollout>,
}

/// Everything that `start` refuses but for want of confirmation.
pub(super) fn draft<'a>(
    state: &'a State,
    caller: &Caller,
    request: &StartRollout,
    now: FleetTime,
) -> Result<Draft<'a>, Refusal> {
    let environment = environment(state, &request.environment)?;
    let definition = &environment.definition;
    let target = Release { version_set: version_set(state, request)?, settings: definition.settings };
    let superseded = environment.rollout.as_ref();
    if let Some(active) = superseded
        && !request.supersede
    {
        return Err(conflict(active));
    }
    let excluded = excluded(state, environment, &request.exclude)?;
    let scope = Scope::of(state, environment, &target, &excluded);
    if scope.hosts == 0 {
        return Err(Refusal::new(
            Code::EnvironmentEmpty,
            format!("no host has the labels that environment {} selects", request.environment),
            "see them with `houston host list`, set them with `houston host label`",
        ));
    }
    if scope.hosts as usize == excluded.len() {
        let what = format!("every host of {} is left out", request.environment);
        return Err(Refusal::new(Code::EnvironmentEmpty, what, "leave out fewer with --exclude"));
    }
    let there_already = same(&target, &definition.baked) && scope.off == 0 && superseded.is_none();
    if there_already && !request.force {
        let what = format!("environment {} runs {} already", request.environment, request.version_set);
        return Err(Refusal::new(Code::NoChange, what, "use --force to roll it out all the same"));
    }
    if definition.bad.contains(&target) && !request.force {
        let what = format!("{} was taken back in {} before", request.version_set, request.environment);
        return Err(Refusal::new(Code::BadVersion, what, "use --force to try it again"));
    }
    if let Some(policy) = &request.policy {
        super::super::environments::acceptable(state, policy)?;
    }
    let policy = request.policy.as_ref().unwrap_or(&definition.policy);
    let policy = pinned_policy(policy, request, &target);
    scope.can_move(&policy)?;
    let mut inherits = definition.unresolved.clone();
    if let Some(superseded) = superseded {
        remember(&mut inherits, superseded.left_behind());
    }
    let zones = scope.zones_in_order(&policy.zone_order);
    let (way_back, id) = (definition.baked, next_rollout(state));
    let rollout = Rollout::new(id, definition.name.clone(), way_back, target, policy, caller.name.clone());
    let unwell_before = unwell(environment);
    let rollout = Rollout { reason: request.reason.clone(), inherits, excluded, unwell_before, ..rollout };
    let rollout = rollout.over(zones, scope.planned(), scope.members()).begun(now);
    Ok(Draft { environment, rollout, superseded })
}

/// The hosts that are meant by name. E-HOST-UNKNOWN, also for one that is none of the environment's.
fn excluded(state: &State, environment: &Environment, named: &[HostId]) -> Result<BTreeSet<HostId>, Refusal> {
    let resolve = |name: &HostId| {
        let host = resolve(state, name.as_str())?;
        match environment.member(&host) {
            Some(live) if !live.member.detached => Ok(host),
            Some(_) | None => Err(Refusal::new(
                Code::HostUnknown,
                format!("host {host} does not belong to environment {}", environment.name()),
                format!("see its hosts with `houston host list --environment {}`", environment.name()),
            )),
        }
    };
    named.iter().map(resolve).collect()
}

/// Hosts in service that are unhealthy: one more than are remembered, if there are so many.
fn unwell(environment: &Environment) -> Vec<HostId> {
    let unwell = environment.members().filter(|live| live.member.in_service() && live.is_unhealthy());
    unwell.map(|live| live.member.host.clone()).take(UNWELL_MAX + 1).collect()
}

/// Takes back what a rollout that had succeeded did, as a new rollout to its way back.
pub(super) fn taking_back(
    state: &State,
    environment: &Environment,
    of: &Rollout,
    caller: &Caller,
    reason: &str,
    wall: WallTime,
) -> Rollout {
    let definition = &environment.definition;
    let scope = Scope::of(state, environment, &of.way_back, &BTreeSet::new());
    let zones = scope.zones_in_order(&definition.policy.zone_order);
    // As carefully as it went forward: what was allowed an outage then is allowed it now.
    let (policy, id) = (of.policy.clone(), next_rollout(state));
    let back = Rollout::new(id, definition.name.clone(), of.target, of.way_back, policy, caller.name.clone());
    Rollout {
        direction: Direction::Back { of: of.id },
        stage: Stage::RollingBack,
        reason: reason.to_owned(),
        started_at: wall,
        ..back
    }
    .over(zones, scope.planned(), scope.members())
}

/// The store's numbers after one more rollout.
pub(super) fn raised(state: &State) -> Edit {
    Edit::Meta(Meta { rollout: next_rollout(state), ..state.meta.clone() })
}

fn version_set(state: &State, request: &StartRollout) -> Result<VersionSetDigest, Refusal> {
    if request.version_set.as_str() == EMPTY_VERSION_SET {
        return Ok(VersionSet::empty().digest());
    }
    set_named(state, &request.version_set).map(|set| set.set.digest())
}

/// Whether two releases ask the same of a host. Nothing is nothing, whatever its settings.
fn same(one: &Release, other: &Release) -> bool {
    one == other || (one.is_empty() && other.is_empty())
}

/// The environment's policy, unless floors are not to hold: where the operator allows an outage, and
/// where taking the service away is what was asked for. Batches and bakes bind both.
fn pinned_policy(policy: &Policy, request: &StartRollout, target: &Release) -> Policy {
    if request.allow_outage || target.is_empty() {
        Policy { fleet_floor: Share::Hosts(0), zone_floor: None, ..policy.clone() }
    } else {
        policy.clone()
    }
}

/// The hosts of a new rollout. A new rollout pins the hosts' zones of today, so the hosts' own count
/// here, and not the ones that a superseded rollout has pinned.
struct Scope<'a> {
    zones: BTreeMap<&'a Zone, ZoneScope>,
    hosts: u32,
    /// Hosts that do not run the target and are not left out.
    off: u32,
}

#[derive(Default)]
struct ZoneScope {
    hosts: u32,
    in_service: u32,
    /// In service, not on the target, and not left out.
    to_move: u32,
}

impl<'a> Scope<'a> {
    fn of(
        state: &'a State,
        environment: &Environment,
        target: &Release,
        excluded: &BTreeSet<HostId>,
    ) -> Self {
        let mut scope = Self { zones: BTreeMap::new(), hosts: 0, off: 0 };
        for live in environment.members().filter(|live| !live.member.detached) {
            let Some(entry) = state.fleet.get(&live.member.host) else { continue };
            let off = is_off(&live.member, target) && !excluded.contains(&live.member.host);
            let zone = scope.zones.entry(&entry.host.zone).or_default();
            zone.hosts += 1;
            zone.in_service += u32::from(live.member.in_service());
            zone.to_move += u32::from(live.member.in_service() && off);
            scope.hosts += 1;
            scope.off += u32::from(off);
        }
        scope
    }

    fn planned(&self) -> BTreeMap<Zone, u32> {
        self.zones.iter().map(|(zone, counts)| (Zone::clone(zone), counts.in_service)).collect()
    }

    fn members(&self) -> BTreeMap<Zone, u32> {
        self.zones.iter().map(|(zone, counts)| (Zone::clone(zone), counts.hosts)).collect()
    }

    /// Those that the policy orders, then the others by name.
    fn zones_in_order(&self, order: &[Zone]) -> Vec<Zone> {
        let named = order.iter().filter(|zone| self.zones.contains_key(zone));
        let others = self.zones.keys().copied().filter(|zone| !order.contains(zone));
        named.chain(others).cloned().collect()
    }

    /// E-BUDGET-ALL if hosts in service must move, and under a floor not one of them ever could.
    fn can_move(&self, policy: &Policy) -> Result<(), Refusal> {
        let stuck = |place: String, key: &str, share: Share, hosts: u32| {
            Refusal::new(
                Code::BudgetAll,
                format!(
                    "under policy.{key} ({share}) none of the {hosts} hosts in service {place} could ever move"
                ),
                format!("lower {key}, or use --allow-outage"),
            )
        };
        let (service, to_move) = self
            .zones
            .values()
            .fold((0, 0), |(service, to_move), zone| (service + zone.in_service, to_move + zone.to_move));
        if to_move > 0 && floor(policy.fleet_floor, service, in_service(service)) >= service {
            return Err(stuck("in the environment".to_owned(), "fleet_floor", policy.fleet_floor, service));
        }
        let Some(share) = policy.zone_floor else { return Ok(()) };
        for (zone, counts) in &self.zones {
            let service = counts.in_service;
            if counts.to_move > 0 && floor(share, service, in_service(service)) >= service {
                return Err(stuck(format!("in zone {zone}"), "zone_floor", share, service));
            }
        }
        Ok(())
    }
}

fn is_off(member: &Member, target: &Release) -> bool {
    member.settled.map_or(!target.is_empty(), |settled| !same(&settled, target))
}

/// Counts of hosts that are all in service and available.
pub(super) fn in_service(hosts: u32) -> Counts {
    Counts { hosts, in_service: hosts, available: hosts, ..Counts::default() }
}
