//! Laws of what hosts do, from the machines themselves.

use std::collections::{BTreeMap, BTreeSet};

use houston_agent::apply::machine::{At, Leg, TELL_WAIT};
use houston_common::digest::ReleaseDigest;
use houston_common::error::Code;
use houston_common::id::{Epoch, Generation, HostId, PackageName};
use houston_common::package::HookPhase;
use houston_common::report::{EnvironmentReport, Phase, Report};
use houston_coordinator::environment::member::{Lane, Member};

use super::{Checker, Place};
use crate::simulation::agent::Stand;
use crate::simulation::machine::{Happened, Machine};
use crate::simulation::script::Manner;

#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Every generation ever stored.
    pub(super) generations: BTreeSet<Generation>,
    pub(super) floors: BTreeMap<Place, (Epoch, Generation)>,
    /// Activations that ended well, with their time.
    settled: BTreeSet<(Place, Generation)>,
    /// When an activation began, and whether the host served then.
    activating: BTreeMap<Place, (bool, Generation)>,
    ended_at: BTreeMap<Place, u64>,
    switched_at: BTreeMap<(Place, Generation), u64>,
    /// Since when a host says that its disk is full, and has room.
    full_since: BTreeMap<Place, u64>,
    hooks: BTreeSet<(Place, Generation, bool, ReleaseDigest, PackageName, HookPhase)>,
}

/// From the return of space to its being noticed: an agent looks again within a minute.
const SPACE_PATIENCE_MS: u64 = 120_000;

/// A machine, and who it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::simulation) struct Site<'a> {
    pub(in crate::simulation) host: &'a HostId,
    pub(in crate::simulation) machine: &'a Machine,
}

impl Checker {
    /// The coordinator has it that the host settled: so it must have.
    pub(super) fn settled(&mut self, member: &Member, generation: Generation) {
        let place = (member.environment.clone(), member.host.clone());
        if !self.truth.settled.contains(&(place, generation)) {
            let detail = format!("{} is taken as settled on {generation} before it is", member.host);
            self.broken("E6 healthy for its window", detail);
        }
    }

    /// A driver has made a step.
    pub(in crate::simulation) fn stepped(
        &mut self,
        site: Site<'_>,
        place: &Place,
        before: Stand,
        after: Stand,
        now: u64,
    ) {
        if let Some(floor) = after.floor {
            self.truth.floors.insert(place.clone(), floor);
        }
        if self.is_restored() {
            return;
        }
        if after.is_activating && !before.is_activating {
            self.began(site, place, after);
        }
        if before.is_activating && !after.is_activating {
            self.truth.activating.remove(place);
            self.truth.ended_at.insert(place.clone(), now);
        }
        if after.phase == Phase::Settled && before.phase != Phase::Settled {
            self.proved(site, place, after, now);
        }
        if after.is_told && !before.is_told {
            self.was_told(place, after, now);
        }
        let had_ended = matches!(before.phase, Phase::Settled | Phase::Reverted | Phase::Failed);
        if had_ended && before.stamp != after.stamp {
            self.was_told(place, before, now);
        }
    }

    fn began(&mut self, site: Site<'_>, place: &Place, stand: Stand) {
        let Some(generation) = stand.stamp.map(|stamp| stamp.generation) else { return };
        self.truth.activating.insert(place.clone(), (site.machine.serves(&place.0), generation));
        match self.grants.get_mut(&generation) {
            Some(granted) if granted.place == *place && !granted.begun => granted.begun = true,
            Some(granted) => {
                let detail = format!("{place:?} begins {generation} of {:?} again", granted.place);
                self.broken("E27 none twice", detail);
            }
            None => self.broken(
                "L4 asks before it disrupts",
                format!("{place:?} begins {generation}, never granted"),
            ),
        }
        self.budget_in_truth(place);
    }

    /// Hosts that serve no more because they were told to change: never more than may be away.
    fn budget_in_truth(&mut self, place: &Place) {
        let (mut away, mut allowed) = (0, 0);
        for ((environment, host), (served, generation)) in &self.truth.activating {
            let known = self.stored.members.contains_key(&(environment.clone(), host.clone()));
            let took = self.grants.get(generation).and_then(|granted| granted.took);
            if let Some(took) = took.filter(|_| *environment == place.0 && *served && known) {
                (away, allowed) = (away + 1, took.max(allowed));
            }
        }
        if away > allowed {
            let detail = format!("{away} hosts of {} away because of us, {allowed} allowed", place.0);
            self.broken("E2 budget in truth", detail);
        }
    }

    fn proved(&mut self, site: Site<'_>, place: &Place, stand: Stand, now: u64) {
        let Some(generation) = stand.stamp.map(|stamp| stamp.generation) else { return };
        self.truth.settled.insert((place.clone(), generation));
        let Some(granted) = self.grants.get(&generation) else { return };
        let policy = match granted.lane {
            Lane::Rollout(id) => self.stored.rollouts.get(&id).map(|rollout| rollout.policy.clone()),
            Lane::Standing => {
                self.stored.definitions.get(&place.0).map(|definition| definition.policy.clone())
            }
        };
        let since = self.truth.switched_at.get(&(place.clone(), generation)).copied();
        if let (Some(policy), Some(since), false) = (policy, since, granted.release.is_empty())
            && now - since < policy.health_window.as_millis() as u64
        {
            let detail = format!("{place:?} settled {} ms after the switch", now - since);
            self.broken("E6 healthy for its window", detail);
        }
        let bad = site.machine.runs(&place.0).find(|manner| match manner {
            Manner::SickAtOnce => true,
            Manner::SickIn(zone) => *zone == site.machine.zone,
            _ => false,
        });
        if let Some(bad) = bad {
            self.broken("A15 no news is bad news", format!("{place:?} settled on what is {bad:?}"));
        }
    }

    /// An end gives way to the next assignment only once it is told, or nobody listens.
    fn was_told(&mut self, place: &Place, before: Stand, now: u64) {
        let generation = before.stamp.map(|stamp| stamp.generation);
        let told = self.heard.ends.get(place).is_some_and(|(told, _)| Some(*told) >= generation);
        let waited =
            self.truth.ended_at.get(place).is_none_or(|ended| now - ended >= TELL_WAIT.as_millis() as u64);
        if !told && !waited && generation.is_some_and(|generation| self.grants.contains_key(&generation)) {
            self.broken("A16 reports survive", format!("{place:?} never told how {generation:?} ended"));
        }
    }

    pub(in crate::simulation) fn happened(&mut self, site: Site<'_>, happened: Happened, now: u64) {
        if self.is_restored() {
            return;
        }
        match happened {
            Happened::Wrong { law, detail } => self.broken(law, format!("{}: {detail}", site.host)),
            Happened::Hook { environment, release, package, phase, rerun, generation, undoes } => {
                let Some(generation) = generation else { return };
                let place = (environment, site.host.clone());
                let detail = format!("{place:?}: {phase} of {package} starts twice under {generation}");
                if !self.truth.hooks.insert((place, generation, undoes, release, package, phase)) && !rerun {
                    self.broken("A4 hooks not repeated", detail);
                }
            }
            Happened::Switched { environment, to, generation } => {
                let Some(generation) = generation else { return };
                let place = (environment, site.host.clone());
                self.truth.switched_at.insert((place.clone(), generation), now);
                self.switched(site, &place, to, generation);
            }
        }
    }

    fn switched(&mut self, site: Site<'_>, place: &Place, to: Option<ReleaseDigest>, generation: Generation) {
        let Some(granted) = self.grants.get(&generation).cloned() else {
            return self
                .broken("L4 asks before it disrupts", format!("{place:?} switches under {generation}"));
        };
        let Lane::Rollout(id) = granted.lane else { return };
        let Some(rollout) = self.stored.rollouts.get(&id).cloned() else { return };
        let link =
            |release: houston_common::release::Release| (!release.is_empty()).then(|| release.digest());
        let (target, back) = (link(rollout.target), link(rollout.way_back));
        let history = self.histories.entry(id).or_default();
        let switches = history.switches.entry(site.host.clone()).or_default();
        if switches.last() != Some(&to) {
            switches.push(to);
        }
        let seen_back = switches.iter().position(|release| *release == back);
        let after_back = seen_back.map_or(&[][..], |at| &switches[at..]);
        let again = after_back.iter().filter(|release| **release == target).count() as u32;
        let forward = rollout.direction == houston_coordinator::rollout::Direction::Forward;
        if forward && target != back && again > rollout.policy.retries {
            let detail = format!("{} in rollout {id}: {switches:?}", site.host);
            return self.broken("E13 no flapping", detail);
        }
        if to == target && forward && !granted.taking_back {
            history.exposed.insert(site.host.clone());
            self.exposure_is_bounded(site, &rollout);
        }
    }

    /// What fails everywhere reaches one host; what fails in a zone reaches its first batch.
    fn exposure_is_bounded(&mut self, site: Site<'_>, rollout: &houston_coordinator::rollout::Rollout) {
        let Some(history) = self.histories.get(&rollout.id) else { return };
        let manners: Vec<Manner> = site.machine.manners_of(&rollout.target.digest());
        if manners.iter().all(|manner| !manner.is_bad_everywhere() && !matches!(manner, Manner::SickIn(_))) {
            return;
        }
        let exposed: Vec<&HostId> =
            history.exposed.iter().filter(|host| !history.was_down.contains(*host)).collect();
        if manners.iter().any(|manner| manner.is_bad_everywhere()) && exposed.len() > 1 {
            let detail = format!("{} reached {exposed:?} with what is {manners:?}", rollout.id);
            return self.broken("E7 bounded exposure", detail);
        }
        let sick = |host: &HostId| {
            let zone = self.stored.hosts.get(host).map(|host| host.zone.clone());
            manners.iter().any(|manner| {
                matches!(manner, Manner::SickIn(index) if zone == Some(crate::simulation::operator::zone(*index)))
            })
        };
        let first_batch = history.first_batch.values().copied().max().unwrap_or(1);
        let hit = exposed.iter().filter(|host| sick(host)).count() as u32;
        if hit > first_batch && !self.has_moved {
            let detail =
                format!("{} reached {hit} hosts of the bad zone, first batch {first_batch}", rollout.id);
            self.broken("E7 bounded exposure", detail);
        }
    }

    /// What a report says is measured, and survives a power cut.
    pub(in crate::simulation) fn said(&mut self, site: Site<'_>, report: &Report, now: u64) {
        for said in &report.environments {
            self.space_returns(site, said, now);
            let durable = site.machine.durable_release(&said.environment);
            let ended = matches!(said.phase, Phase::Settled | Phase::Reverted);
            if ended && said.running != durable {
                let detail = format!("{} says it runs {:?}, durable is {durable:?}", site.host, said.running);
                self.broken("A2 durable before told", detail);
            }
        }
    }

    /// A host that waits for space goes on by itself once there is some.
    fn space_returns(&mut self, site: Site<'_>, said: &EnvironmentReport, now: u64) {
        let place = (said.environment.clone(), site.host.clone());
        let is_full = said.failure.as_ref().is_some_and(|failure| failure.code == Code::DiskSpace);
        if said.phase != Phase::Fetching || !is_full || now < site.machine.full_until {
            self.truth.full_since.remove(&place);
            return;
        }
        let since = *self.truth.full_since.entry(place.clone()).or_insert(now);
        if now - since > SPACE_PATIENCE_MS {
            self.broken("L8 space returns", format!("{place:?} has had room for {} ms", now - since));
        }
    }

    /// The agent is gone, or the power: the journal and the disk must agree.
    pub(in crate::simulation) fn crashed(&mut self, site: Site<'_>) {
        self.truth.full_since.retain(|(_, host), _| host != site.host);
        for (environment, disk) in &site.machine.disk {
            let Some(state) = site.machine.journaled(environment) else { continue };
            let current = disk.durable.current.as_ref().map(|current| current.release);
            let (old, detail) =
                (state.running.current.link(), format!("{} in {environment}: {current:?}", site.host));
            let agrees = match &state.at {
                At::Activating(course) => {
                    let (target, back) = (course.prepared.target.link(), course.prepared.way_back.link());
                    match (course.leg, &course.revert) {
                        (Leg::Stopping { .. }, None) => current == old,
                        (Leg::Switching, None) => current == old || current == target,
                        (Leg::Starting { .. } | Leg::Proving { .. } | Leg::Resuming { .. }, None) => {
                            current == target
                        }
                        (Leg::Stopping { .. } | Leg::Switching, Some(_)) => {
                            current == old || current == target || current == back
                        }
                        (_, Some(_)) => current == back,
                    }
                }
                _ => current == old,
            };
            if !agrees {
                self.broken(
                    "A3 journal and disk agree",
                    format!("{detail}, the journal is in {:?}", state.phase()),
                );
            }
        }
    }

    /// The agent has loaded: what it accepted before, it knows.
    pub(in crate::simulation) fn loaded(&mut self, place: &Place, stand: Stand, site: Site<'_>) {
        // It may have died after its end was in the journal, and before anybody saw it.
        if let (Phase::Settled, Some(stamp)) = (stand.phase, stand.stamp) {
            self.truth.settled.insert((place.clone(), stamp.generation));
        }
        if stand.floor < self.floor_of(place) {
            let detail = format!("{place:?}: {:?}, had accepted {:?}", stand.floor, self.floor_of(place));
            self.broken("A5 monotone acceptance", detail);
        }
        if let (true, Some(stamp)) = (stand.is_activating, stand.stamp) {
            let began = (site.machine.serves(&place.0), stamp.generation);
            self.truth.activating.entry(place.clone()).or_insert(began);
        } else {
            self.truth.activating.remove(place);
        }
    }

    pub(in crate::simulation) fn refused(&mut self, place: &Place, error: &str) {
        // What a store that has gone back in time says is refused, as it must be.
        if self.is_restored() {
            return;
        }
        self.broken("A5 monotone acceptance", format!("{place:?} refused an assignment: {error}"));
    }
}
