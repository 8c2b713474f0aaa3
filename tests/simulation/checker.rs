//! What must always hold, judged after every event from the simulator's own knowledge: what the store
//! took, what the coordinator heard, what the hosts did. Shares no code with the planner or its checker.

mod catalog;
mod grants;
mod plans;
mod restored;
mod rollouts;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::FleetTime;
use houston_common::error::Code;
use houston_common::id::{EnvironmentName, Epoch, Generation, HostId, RolloutId, Zone};
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase, Position, Report};
use houston_coordinator::catalog::Package;
use houston_coordinator::engine::core::Minds;
use houston_coordinator::environment::Definition;
use houston_coordinator::environment::member::{Lane, Member};
use houston_coordinator::fleet::{Hold, Host};
use houston_coordinator::records;
use houston_coordinator::rollout::planner::GateValues;
use houston_coordinator::rollout::{Rollout, Stage};
use houston_coordinator::state::{Edit, Meta, State};
use houston_coordinator::store::Change;

use super::coordinator::{Answer, LOST_AFTER};
use super::planted::Planted;
use catalog::Kept;
use plans::Patience;
use restored::Restored;
use truth::Truth;

pub(super) use plans::{forget as forget_noticed, notice, watched};
pub(super) use truth::Site;

/// Fleets with fewer members are looked at whole after every turn that wrote something.
const MEMBERS_OF_A_LOOK: usize = 40;
/// Members of a fleet for which a look at all of it waits another turn.
const TURNS_PER_MEMBER: usize = 4;

/// A law that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) law: &'static str,
    pub(super) detail: String,
}

/// An environment on a host.
pub(super) type Place = (EnvironmentName, HostId);

#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) violation: Option<Violation>,
    pub(super) stored: Stored,
    heard: Heard,
    histories: BTreeMap<RolloutId, History>,
    /// Every grant that was ever stored.
    grants: BTreeMap<Generation, Granted>,
    truth: Truth,
    kept: Kept,
    patience: Patience,
    restored: Option<Restored>,
    /// Of the process that took the store over last.
    epoch: Epoch,
    turns: usize,
    /// A host's zone was edited: what is bad in one zone alone is no longer bounded by zones.
    pub(super) has_moved: bool,
}

/// What the store holds, read from its commits.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) members: BTreeMap<Place, Member>,
    pub(super) definitions: BTreeMap<EnvironmentName, Definition>,
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    /// Open grants by host.
    open: BTreeMap<HostId, BTreeMap<EnvironmentName, Generation>>,
    meta: Option<Meta>,
    told_max: Generation,
}

/// What the coordinator's process has heard since it started.
#[derive(Debug, Default)]
struct Heard {
    hosts: BTreeMap<HostId, (FleetTime, Position)>,
    reports: BTreeMap<Place, EnvironmentReport>,
    now: FleetTime,
    /// The newest position ever sent by a host.
    newest: BTreeMap<HostId, (u64, u64)>,
    /// The newest end of an activation that the coordinator was told.
    ends: BTreeMap<Place, (Generation, Phase)>,
}

#[derive(Debug, Default)]
struct History {
    baking_since: Option<u64>,
    /// Its hosts when it was created.
    scope: BTreeSet<HostId>,
    /// Hosts granted forward, and those of them that were down before.
    forward: BTreeSet<HostId>,
    was_down: BTreeSet<HostId>,
    /// Hosts that activated the target.
    exposed: BTreeSet<HostId>,
    first_batch: BTreeMap<Zone, u32>,
    /// How often batches had grown when a zone's first host was granted.
    grown: BTreeMap<Zone, u32>,
    /// What each host switched to, repetitions left out.
    switches: BTreeMap<HostId, Vec<Option<houston_common::digest::ReleaseDigest>>>,
}

#[derive(Debug, Clone)]
struct Granted {
    place: Place,
    lane: Lane,
    release: Release,
    taking_back: bool,
    begun: bool,
    /// The host was in service and available, so that the grant took it away from the service, of which
    /// so many may be away.
    took: Option<u32>,
}

impl Stored {
    /// The grant of a host in an environment, as it is from now on.
    fn opened(&mut self, (environment, host): &Place, grant: Option<Generation>) {
        let open = self.open.entry(host.clone()).or_default();
        match grant {
            Some(generation) => open.insert(environment.clone(), generation),
            None => open.remove(environment),
        };
    }
}

/// One commit's changes, with what was before.
struct Commit {
    members: Vec<(Option<Member>, Member)>,
    rollouts: Vec<(Option<Rollout>, Rollout)>,
}

impl Checker {
    fn broken(&mut self, law: &'static str, detail: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { law, detail: detail.into() });
        }
    }

    /// The store took these changes at once, from the process of this epoch, at the simulated time `now`.
    pub(super) fn committed(&mut self, epoch: Epoch, changes: &[Change], now: u64) {
        if epoch < self.epoch {
            let detail =
                format!("{epoch} wrote {} changes after {} had taken over", changes.len(), self.epoch);
            self.broken("E12 fencing", detail);
        }
        if self.restored.is_some() {
            return self.committed_after_restore(changes);
        }
        let commit = self.apply(changes);
        for (before, member) in &commit.members {
            self.member_changed(before.as_ref(), member);
            self.stored_of_member(before.as_ref(), member);
        }
        for (before, rollout) in &commit.rollouts {
            self.rollout_changed(before.as_ref(), rollout, &commit, now);
            self.stored_of_rollout(rollout);
        }
        self.what_is_used_is_kept();
        if !commit.rollouts.is_empty() {
            self.one_active_each();
        }
        let mut granted: Vec<&Member> = commit
            .members
            .iter()
            .filter(|(before, after)| {
                let was = before.as_ref().and_then(|member| member.grant).map(|grant| grant.generation);
                after.grant.is_some_and(|grant| was != Some(grant.generation))
            })
            .map(|(_, after)| after)
            .collect();
        granted.sort_by_key(|member| member.grant.map(|grant| grant.generation));
        for member in granted {
            self.granted(member);
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Commit {
        let mut commit = Commit { members: Vec::new(), rollouts: Vec::new() };
        for change in changes {
            let Some(value) = change.value() else {
                self.forget(&String::from_utf8_lossy(change.key().as_bytes()));
                continue;
            };
            match records::decode(change.key(), value).expect("a record that was just written") {
                Edit::Meta(meta) => self.meta_changed(meta),
                Edit::Host(host) => {
                    if let Some(hold @ (Hold::Clone | Hold::ForeignAssignment)) = &host.held {
                        self.broken("S17 no false clone", format!("{} is held: {hold:?}", host.id));
                    }
                    self.stored.hosts.insert(host.id.clone(), host);
                }
                Edit::Member(member) => {
                    let place = (member.environment.clone(), member.host.clone());
                    self.stored.opened(&place, member.grant.map(|grant| grant.generation));
                    commit.members.push((self.stored.members.insert(place, member.clone()), member));
                }
                Edit::Environment(definition) => {
                    self.stored.definitions.insert(definition.name.clone(), definition);
                }
                Edit::Rollout(rollout) => {
                    commit.rollouts.push((self.stored.rollouts.insert(rollout.id, rollout.clone()), rollout));
                }
                Edit::Package(Package { package, .. }) => self.kept.package(package.name, package.version),
                Edit::VersionSet(set) => self.kept.set(&set.set),
                _ => {}
            }
        }
        commit
    }

    fn forget(&mut self, key: &str) {
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            ["host", host] => {
                let host: HostId = super::name(host);
                self.stored.hosts.remove(&host);
                self.heard.hosts.remove(&host);
            }
            ["member", environment, host] => {
                let place = (super::name(environment), super::name(host));
                self.stored.opened(&place, None);
                self.stored.members.remove(&place);
                self.heard.reports.remove(&place);
                self.forget_deadlines(&place);
            }
            ["package", name, version] => self.kept.forget(name, version),
            _ => {}
        }
    }

    fn meta_changed(&mut self, meta: Meta) {
        if let Some(before) = &self.stored.meta
            && (meta.generation < before.generation
                || meta.rollout < before.rollout
                || meta.audit < before.audit)
        {
            self.broken("E11 monotone generations", format!("{before:?} became {meta:?}"));
        }
        if meta.regressed && self.restored.is_none() {
            self.broken("E26 no false regress", "the store is said to have gone back in time");
        }
        self.stored.meta = Some(meta);
    }

    fn one_active_each(&mut self) {
        let mut active: BTreeMap<EnvironmentName, RolloutId> = BTreeMap::new();
        let mut twice = None;
        for rollout in self.stored.rollouts.values().filter(|rollout| !rollout.is_over()) {
            if let Some(other) = active.insert(rollout.environment.clone(), rollout.id) {
                twice = Some(format!("{other} and {} in {}", rollout.id, rollout.environment));
            }
        }
        if let Some(detail) = twice {
            self.broken("E9 one active rollout", detail);
        }
    }

    /// A turn of the coordinator begins.
    pub(super) fn turns(&mut self, now: FleetTime) {
        self.heard.now = now;
    }

    /// The coordinator took a report in, or refused it.
    pub(super) fn heard(&mut self, host: &HostId, report: &Report, result: Result<(), Code>, now: FleetTime) {
        if result.is_err() {
            return;
        }
        self.heard_after_restore(report);
        let position = report.position;
        let newest = self.heard.hosts.get(host).map(|(_, position)| (position.start, position.sequence));
        if newest.is_some_and(|newest| (position.start, position.sequence) <= newest) {
            return;
        }
        self.heard.hosts.insert(host.clone(), (now, position));
        // What a report leaves out is not known any more.
        for name in self.stored.definitions.keys() {
            if !report.environments.iter().any(|of| of.environment == *name) {
                self.heard.reports.remove(&(name.clone(), host.clone()));
            }
        }
        for report in &report.environments {
            let place = (report.environment.clone(), host.clone());
            if let (Some(stamp), Phase::Settled | Phase::Reverted | Phase::Failed) =
                (report.stamp, report.phase)
            {
                self.heard.ends.insert(place.clone(), (stamp.generation, report.phase));
            }
            if self.stored.members.contains_key(&place) {
                self.heard.reports.insert(place, report.clone());
            }
        }
    }

    /// A process of the coordinator has loaded the store.
    pub(super) fn coordinator_started(&mut self, state: &State, now: FleetTime) {
        self.epoch = state.epoch;
        self.taken_over(now);
        self.heard.hosts.clear();
        self.heard.reports.clear();
        self.heard.now = now;
        for (place, member) in &self.stored.members.clone() {
            let loaded =
                state.environments.get(&place.0).and_then(|environment| environment.member(&place.1));
            let loaded = loaded.map(|live| (live.member.grant, live.member.told, live.member.step));
            if loaded != Some((member.grant, member.told, member.step)) {
                self.broken("E27 crash points", format!("{place:?}: stored {member:?}, loaded {loaded:?}"));
            }
        }
    }

    /// A turn of the coordinator is over, and all of it is stored. What walks the whole fleet is not done
    /// in each of them, but so often that a turn's part of it does not grow with the fleet.
    pub(super) fn turned(
        &mut self,
        state: &State,
        minds: &Minds,
        planted: Option<Planted>,
        now: FleetTime,
        has_committed: bool,
    ) {
        self.heard.now = now;
        if self.restored.is_some() {
            return self.turned_after_restore(state);
        }
        self.hear_notices();
        self.deadlines_hold(now);
        self.turns += 1;
        let members = self.stored.members.len();
        let is_looked_at = has_committed && members < MEMBERS_OF_A_LOOK;
        if !is_looked_at && !self.turns.is_multiple_of(1 + members / TURNS_PER_MEMBER) {
            return;
        }
        for (name, environment) in &state.environments {
            self.counts_hold(name, environment.index().total());
            let looks = members < MEMBERS_OF_A_LOOK && self.looks(planted);
            if environment.rollout.is_none() && !looks {
                continue;
            }
            let gates = GateValues::of(state, environment, now);
            let plan = (minds.plan)(environment, &state.fleet, &gates, now);
            if let Some(rollout) = &environment.rollout
                && plan.does_nothing()
                && plan.waiting.is_empty()
            {
                self.broken(
                    "E28 always explained",
                    format!("rollout {} of {name} waits for nothing", rollout.id),
                );
            }
            self.plans_hold(environment, &state.fleet, &gates, (&plan, looks), now);
        }
        let stale: Vec<String> = self
            .heard
            .hosts
            .iter()
            .filter(|(host, _)| self.stored.hosts.contains_key(*host))
            .filter_map(|(host, (_, position))| {
                let known = state.fleet.get(host)?.contact.sequence;
                (known != position.sequence).then(|| format!("{host}: {known}, not {}", position.sequence))
            })
            .collect();
        if !stale.is_empty() {
            self.broken("E18 reports fold", stale.join(", "));
        }
        let differing = self.heard.reports.iter().find(|((environment, host), report)| {
            let live = state.environments.get(environment).and_then(|environment| environment.member(host));
            live.is_some_and(|live| live.report.as_ref() != Some(*report))
        });
        if let Some((place, report)) = differing {
            let detail = format!("{place:?}: its newest report is {:?} {:?}", report.phase, report.stamp);
            self.broken("E18 reports fold", detail);
        }
    }

    /// What the coordinator answers is stored.
    pub(super) fn answered(&mut self, answer: &Answer) {
        if self.restored.is_some() {
            return;
        }
        for assignment in answer.result.iter().flatten() {
            let place = (assignment.environment.clone(), answer.host.clone());
            let stored = self.stored.members.get(&place).and_then(|member| member.told);
            if stored.is_none_or(|told| told.generation != assignment.stamp.generation) {
                let detail = format!("{place:?} is told {:?}, stored is {stored:?}", assignment.stamp);
                self.broken("E27 stored before sent", detail);
            }
        }
    }

    /// Whether the host serves as far as the coordinator can know; grants above `newest` not counted.
    fn is_available(&self, member: &Member, newest: Generation) -> bool {
        let open = self.stored.open.get(&member.host);
        let granted = open.is_some_and(|open| open.values().any(|generation| *generation <= newest));
        let drained = self.stored.hosts.get(&member.host).is_none_or(|host| host.drained);
        let is_well = self.is_known_well(&member.environment, &member.host);
        member.in_service() && !granted && !drained && is_well && self.has_ended(member, newest)
    }

    /// Heard of in time, and healthy by its own last word.
    fn is_known_well(&self, environment: &EnvironmentName, host: &HostId) -> bool {
        let heard = self.heard.hosts.get(host).is_some_and(|(at, _)| at.plus(LOST_AFTER) > self.heard.now);
        let report = self.heard.reports.get(&(environment.clone(), host.clone()));
        heard && report.is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }))
    }

    /// Whatever it was told to do to itself, up to `newest`, it has ended, by its own last word.
    fn has_ended(&self, member: &Member, newest: Generation) -> bool {
        let report = self.heard.reports.get(&(member.environment.clone(), member.host.clone()));
        let said = report.and_then(|report| report.stamp).map(|stamp| stamp.generation);
        let told = member.told.filter(|told| told.is_activate() && told.generation <= newest);
        let is_unheard = told.is_some_and(|told| said != Some(told.generation));
        let is_on_its_way = report.is_some_and(|report| {
            use Phase::{Proving, Reverting, Starting, Stopping, Switching};
            matches!(report.phase, Stopping | Switching | Starting | Proving | Reverting)
        });
        !is_unheard && !is_on_its_way
    }

    fn members_of(&self, environment: &EnvironmentName) -> impl Iterator<Item = &Member> {
        self.stored.members.iter().filter(move |((name, _), _)| name == environment).map(|(_, member)| member)
    }

    fn counts_hold(
        &mut self,
        name: &EnvironmentName,
        counts: houston_coordinator::environment::index::Counts,
    ) {
        let in_service = self.members_of(name).filter(|member| member.in_service()).count() as u32;
        let moving = self.members_of(name).filter(|member| member.grant.is_some()).count() as u32;
        let available =
            self.members_of(name).filter(|member| self.is_available(member, Generation(u64::MAX))).count()
                as u32;
        if (in_service, available, moving) != (counts.in_service, counts.available, counts.moving) {
            let detail = format!(
                "{name}: {counts:?}, but in service {in_service}, available {available}, moving {moving}"
            );
            self.broken("E22 slots conserved", detail);
        }
    }

    pub(super) fn active(&self, environment: &EnvironmentName) -> Option<&Rollout> {
        self.stored
            .rollouts
            .values()
            .find(|rollout| rollout.environment == *environment && !rollout.is_over())
    }

    /// A host's agent sends a report.
    pub(super) fn sent(&mut self, host: &HostId, report: &Report) {
        let position = (report.position.start, report.position.sequence);
        let newest = self.heard.newest.insert(host.clone(), position);
        if newest.is_some_and(|newest| position <= newest) {
            self.broken("A16 positions rise", format!("{host}: {position:?} after {newest:?}"));
        }
    }

    pub(super) fn floor_of(&self, place: &Place) -> Option<(Epoch, Generation)> {
        self.truth.floors.get(place).copied()
    }
}

/// Whether hosts are still to be moved by the rollout.
fn is_rolling(rollout: &Rollout) -> bool {
    matches!(rollout.stage, Stage::Rolling(_) | Stage::Baking { .. })
}

impl Checker {
    /// A law of the end: everything comes to rest, and stays there.
    pub(super) fn broken_at_rest(&mut self, law: &'static str, detail: String) {
        self.broken(law, detail);
    }
}
