//! State, hosts and time. Drives plan → check → perform to the end after every event, as the engine
//! does, and keeps every record as the store would.

mod operators;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, Epoch, Generation, HostId, RolloutId, StoreId, Zone};
use houston_common::policy::{Bakes, Policy};
use houston_common::release::{PackageVersion, Release, VersionSet};
use houston_common::report::{EnvironmentReport, Phase, Position};
use houston_common::rollout::{Cause, WaitingOn};

use super::host::{Host, Manner, Task};
use super::laws::Laws;
use super::planted::Planted;
use crate::catalog::NamedSet;
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Definition, Environment, Live};
use crate::fleet::{self, Contact, LOST_AFTER, Order};
use crate::records;
use crate::rollout::explain::explain;
use crate::rollout::perform::{begin_rollback, mark_bad, perform};
use crate::rollout::planner::{GateValues, Plan};
use crate::rollout::{Direction, Pause, Rolling, Rollout, Stage, check};
use crate::state::{Edit, Meta, State};
use crate::store::Key;

/// How far time goes in one round, in which every host checks in once.
pub(super) const ROUND: Duration = Duration::from_secs(10);
/// Plans until an event has had all its consequences. Far above what these small fleets need.
const PLANS_MAX: usize = 300;

pub(super) const PROD: &str = "prod";
/// Selects the hosts that have its label.
pub(super) const SIDE: &str = "side";

#[derive(Debug)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) now: FleetTime,
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) manners: BTreeMap<(HostId, Release), Manner>,
    pub(super) gates: GateValues,
    pub(super) laws: Laws,
    pub(super) planted: Option<Planted>,
    /// Left out of the rollouts that start from now on.
    pub(super) exclude: BTreeSet<HostId>,
    /// As the store has them.
    pub(super) records: BTreeMap<Key, Vec<u8>>,
    /// Everything that hosts have ever said, for saying it again.
    said: Vec<(HostId, Position, Vec<EnvironmentReport>)>,
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

/// The release that runs before anything happens is number 1.
pub(super) fn release(number: u8) -> Release {
    Release { version_set: version_set(number).digest(), ..Release::empty() }
}

fn version_set(number: u8) -> VersionSet {
    let version = name(&number.to_string());
    VersionSet { packages: vec![PackageVersion { name: name("web"), version, trees: BTreeMap::new() }] }
}

/// Short enough for a test's rounds, all different.
pub(super) fn policy() -> Policy {
    let s = Duration::from_secs;
    Policy {
        bake: Bakes { one_box: s(60), first_zone: s(120), later_zones: s(90) },
        apply_deadline: s(170),
        start_within: s(30),
        ..Policy::default()
    }
}

fn definition(name: EnvironmentName, policy: Policy, baked: Release) -> Definition {
    let settings = Release::empty().settings;
    let selector = Default::default();
    Definition { name, selector, policy, settings, baked, bad: Vec::new(), unresolved: Vec::new() }
}

impl World {
    /// Hosts `a1`, `a2`, … in each zone, in the environment `prod`, all of them new.
    pub(super) fn empty(zones: &[(&str, u32)], policy: Policy) -> Self {
        let meta = Meta {
            store: StoreId([1; 16]),
            mac_key: [2; 32],
            generation: Generation(0),
            rollout: RolloutId(0),
            audit: 0,
            checkpoint: FleetTime(0),
            regressed: false,
        };
        let mut world = Self {
            state: State::new(Epoch(1), meta.clone(), LOST_AFTER),
            now: FleetTime(1000),
            hosts: BTreeMap::new(),
            manners: BTreeMap::new(),
            gates: GateValues::default(),
            laws: Laws::default(),
            planted: None,
            exclude: BTreeSet::new(),
            records: BTreeMap::new(),
            said: Vec::new(),
        };
        world.edit(Edit::Meta(meta));
        for number in [0, 1, 2, 3, 4, 101] {
            let set = std::sync::Arc::new(version_set(number));
            let (created_by, created_at) = (name("ann"), WallTime(0));
            world.edit(Edit::VersionSet(NamedSet {
                name: name(&number.to_string()),
                set,
                created_by,
                created_at,
            }));
        }
        for (zone, count) in zones {
            for number in 1..=*count {
                world.edit(Edit::Host(new_host(&format!("{zone}{number}"), zone)));
                world.hosts.insert(name(&format!("{zone}{number}")), Host::default());
            }
        }
        world.edit(Edit::Environment(definition(name(PROD), policy, Release::empty())));
        world
    }

    /// The same, and release 1 is baked, runs everywhere and is well.
    pub(super) fn serving(zones: &[(&str, u32)], policy: Policy) -> Self {
        let mut world = Self::empty(zones, policy.clone());
        world.serve(PROD);
        world
    }

    /// Adds the environment `side` over some hosts, that runs release 101 everywhere.
    pub(super) fn beside(mut self, hosts: &[&str]) -> Self {
        for host in hosts {
            let mut record = self.host_record(host);
            record.labels.insert(name("side"), name("yes"));
            self.edit(Edit::Host(record));
        }
        let mut definition = definition(name(SIDE), policy(), Release::empty());
        definition.selector.insert(name("side"), name("yes"));
        self.edit(Edit::Environment(definition));
        self.serve(SIDE);
        self
    }

    fn serve(&mut self, environment: &str) {
        let baked = if environment == PROD { release(1) } else { release(101) };
        let mut definition = self.environment(environment).definition.clone();
        definition.baked = baked;
        let members: Vec<Member> =
            self.environment(environment).members().map(|live| live.member.clone()).collect();
        for member in members {
            let host = self.hosts.get_mut(&member.host).expect("a host");
            let place = host.places.entry(name(environment)).or_default();
            (place.running, place.phase) = (baked, Phase::Settled);
            self.edit(Edit::Member(Member { settled: Some(baked), owes: false, ..member }));
        }
        self.edit(Edit::Environment(definition));
        self.poll_all();
    }

    // What is there.

    pub(super) fn environment(&self, environment: &str) -> &Environment {
        &self.state.environments[environment]
    }

    pub(super) fn active(&self) -> Option<&Rollout> {
        self.environment(PROD).rollout.as_ref()
    }

    /// The newest rollout, active or over.
    pub(super) fn newest(&self) -> &Rollout {
        self.state.rollout(self.state.meta.rollout).expect("a rollout")
    }

    pub(super) fn member(&self, host: &str) -> &Member {
        &self.environment(PROD).member(&name(host)).expect("a member").member
    }

    pub(super) fn running(&self, host: &str) -> Release {
        self.hosts[host].places.get(PROD).map_or_else(Release::empty, |place| place.running)
    }

    /// Hosts of `prod` that run a release.
    pub(super) fn on(&self, release: Release) -> Vec<String> {
        let runs = |id: &&HostId| self.running(id.as_str()) == release;
        self.hosts.keys().filter(runs).map(ToString::to_string).collect()
    }

    /// Hosts of `prod` with an open grant.
    pub(super) fn granted(&self) -> Vec<String> {
        let members = self.environment(PROD).members().map(|live| &live.member);
        members.filter(|member| member.grant.is_some()).map(|member| member.host.to_string()).collect()
    }

    pub(super) fn explain(&self, host: &str) -> WaitingOn {
        explain(self.environment(PROD), &self.state.fleet, &self.gates, &name(host), self.now)
            .expect("a member")
    }

    pub(super) fn waiting(&self) -> Vec<WaitingOn> {
        self.plan_of(PROD).waiting
    }

    pub(super) fn host_record(&self, host: &str) -> fleet::Host {
        self.state.fleet.get(&name(host)).expect("a host").host.clone()
    }

    // What happens to hosts.

    pub(super) fn host(&mut self, host: &str) -> &mut Host {
        self.hosts.get_mut(host).expect("a host")
    }

    pub(super) fn manner(&mut self, host: &str, release: Release, manner: Manner) {
        self.manners.insert((name(host), release), manner);
    }

    /// What a host runs turns bad, or well again.
    pub(super) fn sick(&mut self, host: &str, sick: bool) {
        self.host(host).places.entry(name(PROD)).or_default().sick = sick;
    }

    pub(super) fn dazed(&mut self, host: &str, dazed: bool) {
        self.host(host).places.entry(name(PROD)).or_default().dazed = dazed;
    }

    /// Somebody has put an old image on its disk.
    pub(super) fn reimage(&mut self, host: &str, release: Release) {
        self.host(host).places.entry(name(PROD)).or_default().running = release;
    }

    /// A new disk.
    pub(super) fn wipe(&mut self, host: &str) {
        for place in self.host(host).places.values_mut() {
            *place = super::host::Place::default();
        }
    }

    /// One host acts once and checks in.
    pub(super) fn poll(&mut self, host: &str) {
        let id: HostId = name(host);
        let Some(entry) = self.state.fleet.get(&id) else { return };
        let environments = entry.environments.clone();
        let assignments = self.state.assignments(&id);
        let Some(host) = self.hosts.get_mut(&id).filter(|host| !host.cut_off) else { return };
        let mut reports = Vec::new();
        for environment in environments {
            let place = host.places.entry(environment.clone()).or_default();
            let told = assignments.iter().find(|told| told.environment == environment).map(Task::from);
            let manner = |release| *self.manners.get(&(id.clone(), release)).unwrap_or(&Manner::Well);
            let was = place.told.map(|told| told.generation);
            if let Some(release) = place.step(told, manner) {
                let generation = place.told.map(|told| told.generation).unwrap_or_default();
                self.laws.activated(&id, generation, release);
            }
            let taken = place.told.filter(|told| Some(told.generation) != was && told.activate);
            if let Some(told) = taken
                && manner(told.release) == Manner::VoidOnce
            {
                self.manners.remove(&(id.clone(), told.release));
            }
            let stamp = place.told.map(|told| self.state.stamp(&id, &environment, told.generation));
            reports.push(place.report(environment, stamp));
        }
        host.sequence += 1;
        let position = Position { start: 1, nonce: 7, sequence: host.sequence };
        self.said.push((id.clone(), position, reports.clone()));
        self.check_in(&id, position, reports);
    }

    /// An old report arrives once more.
    pub(super) fn say_again(&mut self, index: usize) {
        if self.said.is_empty() {
            return;
        }
        let (host, position, reports) = self.said[index % self.said.len()].clone();
        self.check_in(&host, position, reports);
    }

    /// Everything that hosts have said arrives once more.
    pub(super) fn say_again_all(&mut self) {
        for index in 0..self.said.len() {
            self.say_again(index);
        }
    }

    fn check_in(&mut self, host: &HostId, position: Position, reports: Vec<EnvironmentReport>) {
        match self.state.fleet.order_of(host, position) {
            Order::Old if self.planted != Some(Planted::LastWriterWins) => return,
            Order::Clone => panic!("{host} taken for a clone"),
            Order::NewStart => {
                let Some(entry) = self.state.fleet.get(host) else { return };
                let start = Some((position.start, position.nonce));
                self.edit(Edit::Host(fleet::Host { start, ..entry.host.clone() }));
            }
            Order::Next | Order::Old => {}
        }
        let contact = Contact { sequence: position.sequence, ..Contact::default() };
        if self.state.fleet.heard_of(host, self.now, contact) {
            self.state.recount_host(host);
        }
        for report in reports {
            self.laws.reported(host, &report);
            self.fold(host, report);
        }
        self.settle();
    }

    fn fold(&mut self, host: &HostId, report: EnvironmentReport) {
        let Some(environment) = self.state.environments.get_mut(&report.environment) else { return };
        let Some(live) = environment.member(host) else { return };
        let report = Planted::heard(self.planted, live, report);
        environment.set_report(host, report.clone(), &self.state.fleet);
        let Some(live) = environment.member(host) else { return };
        let folded =
            crate::rollout::fold::fold(&live.member, environment.rollout.as_ref(), &report, self.now);
        if let Some(rollout) = folded.rollout {
            self.edit(Edit::Rollout(rollout));
        }
        if let Some(member) = folded.member {
            self.edit(Edit::Member(member));
        }
    }

    // Time.

    pub(super) fn wait(&mut self, wait: Duration) {
        let paused = self.active().is_some_and(|rollout| rollout.paused.is_some());
        self.laws.waited(wait, paused);
        self.now = self.now.plus(wait);
        for host in self.state.fleet.newly_lost(self.now) {
            self.state.recount_host(&host);
        }
        self.settle();
    }

    pub(super) fn poll_all(&mut self) {
        for host in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.poll(host.as_str());
        }
    }

    pub(super) fn round(&mut self) {
        self.poll_all();
        self.wait(ROUND);
    }

    pub(super) fn rounds(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.round();
        }
    }

    /// Rounds until something holds; fails with what everything waits for if it never does.
    pub(super) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        const ROUNDS_MAX: u32 = 400;
        for _ in 0..ROUNDS_MAX {
            if holds(self) || self.laws.is_broken() {
                return;
            }
            self.round();
        }
        panic!("never {what}; waiting: {:?}, rollout: {:#?}", self.waiting(), self.active());
    }

    pub(super) fn until_over(&mut self) -> Stage {
        self.until("over", |world| world.active().is_none());
        self.newest().stage.clone()
    }

    // The engine's part.

    fn edit(&mut self, edit: Edit) {
        self.laws.edit(&self.state, &edit);
        let change = records::encode(&edit);
        match change.value() {
            Some(value) => self.records.insert(change.key().clone(), value.to_vec()),
            None => self.records.remove(change.key()),
        };
        self.state.apply(edit, self.now);
    }

    fn plan_of(&self, environment: &str) -> Plan {
        Planted::plan(self.planted, self.environment(environment), &self.state.fleet, &self.gates, self.now)
    }

    /// Plans every environment until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for environment in self.state.environments.keys().cloned().collect::<Vec<_>>() {
            let settled = (0..PLANS_MAX).any(|_| !self.plan_once(environment.as_str()));
            assert!(settled || self.laws.is_broken(), "{environment} is planned without end");
        }
        let mut laws = std::mem::take(&mut self.laws);
        laws.at_rest(&self.state, &self.gates, self.now, |environment| self.plan_of(environment));
        self.laws = laws;
        if self.planted.is_none() {
            self.laws.must_hold();
        }
    }

    fn plan_once(&mut self, environment: &str) -> bool {
        let plan = self.plan_of(environment);
        if plan.does_nothing() || self.laws.is_broken() {
            return false;
        }
        let (env, fleet) = (&self.state.environments[environment], &self.state.fleet);
        if let Err(violation) = check::check(env, fleet, &self.gates, &plan, self.now) {
            assert!(self.planted.is_some(), "check refuses the planner's own plan: {violation}\n{plan:#?}");
            self.laws.refused(&violation);
        }
        self.laws.planned(env, fleet, &plan);
        let mut generation = self.state.meta.generation;
        if self.planted == Some(Planted::LocalGenerations) {
            generation = Generation(generation.0 % 5);
        }
        let performed = perform(env, fleet, &plan, &mut generation, self.now, WallTime(self.now.0));
        let meta = Meta { generation, checkpoint: self.now, ..self.state.meta.clone() };
        self.edit(Edit::Meta(meta));
        for member in performed.members {
            self.edit(Edit::Member(member));
        }
        if let Some(definition) = performed.definition {
            self.edit(Edit::Environment(definition));
        }
        if let Some(rollout) = performed.rollout {
            self.edit(Edit::Rollout(rollout));
        }
        true
    }

    /// The number of a member's step in the active rollout, as text, for messages.
    pub(super) fn steps(&self) -> BTreeMap<String, (Lane, Step)> {
        let members = self.environment(PROD).members().map(|live| &live.member);
        members.map(|member| (member.host.to_string(), (member.lane, member.step))).collect()
    }
}

fn new_host(id: &str, zone: &str) -> fleet::Host {
    fleet::Host {
        id: name(id),
        zone: name(zone),
        labels: BTreeMap::new(),
        key: Digest::of(id.as_bytes()),
        key_der: Vec::new(),
        certificate_expires: WallTime(0),
        enrolled_at: WallTime(0),
        ephemeral: false,
        revoked: false,
        drained: false,
        held: None,
        start: None,
    }
}
