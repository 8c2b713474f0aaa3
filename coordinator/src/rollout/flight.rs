//! **Decision.** Flies a rollout before it is started: the planner over a copy of its environment, with
//! model hosts and a clock that jumps from one event to the next. There is no second mind here: what comes
//! next is planned, performed and folded by the very functions that do it in earnest.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

mod log;
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::{DURATION_MAX, FleetTime, WallTime};
use houston_common::id::{EnvironmentName, Generation, HostId, RolloutId, Zone};
use houston_common::plan::{Flown, WhatIf};

use super::planner::{self, GateValues, Plan};
use super::{Rollout, Stage, fold, perform};
use crate::environment::Environment;
use crate::environment::member::Member;
use crate::fleet::Host;
use crate::state::{Edit, State};
use log::Log;
pub use model::{Expected, Model};
use model::{Word, report};

/// Plans made and reports heard, over all flights of one plan. A flight takes a little more than two for each
/// host, so that some twenty thousand hosts are flown whole and with every fault, in the seconds that a caller waits.
pub const STEPS_MAX: u32 = 200_000;

/// From where and when a rollout is flown.
#[derive(Debug, Clone, Copy)]
pub struct Departure<'a> {
    pub environment: &'a EnvironmentName,
    pub now: FleetTime,
    pub wall: WallTime,
}

/// Flies the rollout that is active in the copy. `steps` is what is left of [`STEPS_MAX`]. Absent if there
/// is none.
pub fn fly(state: State, from: Departure<'_>, model: &Model<'_>, steps: &mut u32) -> Option<Landed> {
    let environment = state.environments.get(from.environment)?;
    let id = environment.rollout.as_ref()?.id;
    let log = Log::new(environment, from.now);
    let mut flight = Flight { state, from, model, id, now: from.now, to_come: BTreeMap::new(), told: 0, log };
    flight.board();
    let (last, cut_short) = flight.run(steps);
    let Flight { mut state, log, now, .. } = flight;
    let rollout = state.rollout(id)?.clone();
    let environment = state.environments.remove(from.environment)?;
    Some(Landed { log, last, cut_short, now, environment, rollout })
}

/// A flight that is over.
#[derive(Debug)]
pub struct Landed {
    log: Log,
    last: Plan,
    cut_short: bool,
    now: FleetTime,
    environment: Environment,
    rollout: Rollout,
}

impl Landed {
    /// The zone where most hosts would meet a fault that is the zone's own: those of its first grants.
    pub fn worst_zone(&self) -> Option<Zone> {
        self.log.worst_zone()
    }

    pub fn flown(self) -> Flown {
        // A halt is no wait: its cause says more.
        let stuck = !self.cut_short && !self.rollout.is_over() && self.rollout.stage != Stage::Halted;
        let waiting = if stuck { self.last.waiting } else { Vec::new() };
        self.log.flown(&self.environment, &self.rollout, waiting, self.cut_short, self.now)
    }

    /// Absent if no host met the fault.
    pub fn what_if(self, model: &Model<'_>) -> Option<WhatIf> {
        self.log.what_if(model.fault.cloned()?, &self.rollout, self.cut_short, self.now)
    }
}

struct Flight<'a> {
    state: State,
    from: Departure<'a>,
    model: &'a Model<'a>,
    id: RolloutId,
    now: FleetTime,
    /// By time; what falls into one moment in the order in which it was set off.
    to_come: BTreeMap<(FleetTime, u64), Event>,
    /// Events so far.
    told: u64,
    log: Log,
}

#[derive(Debug)]
enum Event {
    /// What the host says of the assignment of this generation, unless it has been told something else.
    Says { host: HostId, generation: Generation, word: Word },
    /// Another environment's change of the host has ended.
    Freed(HostId),
}

impl Flight<'_> {
    /// What is under way already, and comes to its end in the model's time from now.
    fn board(&mut self) {
        let environment = &self.state.environments[self.from.environment];
        let members: Vec<Member> = environment.members().map(|live| live.member.clone()).collect();
        for member in members {
            let Some(entry) = self.state.fleet.get(&member.host).filter(|entry| entry.is_seen()) else {
                continue;
            };
            if entry.granted_in.as_ref().is_some_and(|elsewhere| elsewhere != self.from.environment) {
                let after = self.model.activation.on(&member.host);
                self.later(after, Event::Freed(member.host.clone()));
            }
            self.tell(&member);
        }
    }

    /// Until the rollout is over, or waits for a person: with the last plan, and whether it was cut short.
    fn run(&mut self, steps: &mut u32) -> (Plan, bool) {
        let last = self.from.now.plus(DURATION_MAX);
        loop {
            let environment = &self.state.environments[self.from.environment];
            let active = environment.rollout.as_ref().filter(|rollout| rollout.id == self.id);
            let Some(rollout) = active else { return (Plan::default(), false) };
            let regressed = self.state.meta.regressed;
            let (gates, assumed) = GateValues::supposed(regressed, rollout, self.now, self.wall());
            self.log.assumed_open(assumed);
            let plan = planner::plan(environment, &self.state.fleet, &gates, self.now);
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                return (plan, true);
            }
            if !plan.does_nothing() {
                self.log.planned(environment, rollout, &plan, self.model, self.now);
                self.perform(&plan);
                continue;
            }
            let events = self.to_come.first_key_value().map(|((at, _), _)| *at);
            let fleet = &self.state.fleet;
            let wakes = [plan.wake_at, fleet.next_loss(), fleet.next_hold_end()].into_iter().flatten();
            let next = events.into_iter().chain(wakes.filter(|at| *at > self.now)).min();
            let until = next.unwrap_or(self.now).min(last);
            self.log.rests(environment, rollout, &plan.waiting, self.now, until);
            if next.is_none() || rollout.stage == Stage::Halted {
                return (plan, false);
            }
            self.now = until;
            if next.is_some_and(|next| next > last) {
                return (plan, true);
            }
            self.hear(steps);
        }
    }

    fn wall(&self) -> WallTime {
        self.from.wall.plus(self.now.since(self.from.now))
    }

    fn perform(&mut self, plan: &Plan) {
        let environment = &self.state.environments[self.from.environment];
        let mut generation = self.state.meta.generation;
        let wall = self.wall();
        let performed =
            perform::perform(environment, &self.state.fleet, plan, &mut generation, self.now, wall);
        self.state.meta.generation = generation;
        let before = |member: &Member| environment.member(&member.host).and_then(|live| live.member.told);
        let told: Vec<Member> =
            performed.members.iter().filter(|member| member.told != before(member)).cloned().collect();
        for edit in performed.edits() {
            self.state.apply(edit, self.now);
        }
        told.iter().for_each(|member| self.tell(member));
    }

    /// Sets off what the host will say of what it was told.
    fn tell(&mut self, member: &Member) {
        let Some(told) = member.told else { return };
        if let Some((word, after)) = self.model.answer(member) {
            self.later(after, Event::Says { host: member.host.clone(), generation: told.generation, word });
        }
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.told += 1;
        self.to_come.insert((self.now.plus(after), self.told), event);
    }

    /// All that happens at this moment, before anything is planned: as the engine takes a group of inputs.
    fn hear(&mut self, steps: &mut u32) {
        for host in self.state.fleet.newly_lost(self.now) {
            self.state.recount_host(&host);
        }
        while let Some(host) = self.state.fleet.hold_over(self.now).cloned() {
            let Some(entry) = self.state.fleet.get(&host) else { break };
            let released = Host { held: None, ..entry.host.clone() };
            self.state.apply(Edit::Host(released), self.now);
        }
        while let Some(event) = self.to_come.first_entry().filter(|event| event.key().0 <= self.now) {
            *steps = steps.saturating_sub(1);
            match event.remove() {
                Event::Says { host, generation, word } => self.says(&host, generation, word),
                Event::Freed(host) => {
                    self.state.fleet.set_granted_in(&host, None);
                    self.state.recount_host(&host);
                }
            }
        }
    }

    fn says(&mut self, host: &HostId, generation: Generation, word: Word) {
        let Some(environment) = self.state.environments.get_mut(self.from.environment) else { return };
        let Some(live) = environment.member(host) else { return };
        let Some(told) = live.member.told.filter(|told| told.generation == generation) else { return };
        let next = self.model.next(&live.member, word);
        let report = report(live, &told, word, self.state.meta.store, self.state.epoch);
        environment.set_report(host, report.clone(), &self.state.fleet);
        let folded = environment
            .member(host)
            .map(|live| fold::fold(&live.member, environment.rollout.as_ref(), &report, self.now))
            .unwrap_or_default();
        let edits = folded.rollout.map(Edit::Rollout).into_iter().chain(folded.member.map(Edit::Member));
        for edit in edits {
            self.state.apply(edit, self.now);
        }
        if let Some((word, after)) = next {
            self.later(after, Event::Says { host: host.clone(), generation, word });
        }
    }
}

fn floor_of(environment: &Environment, rollout: &Rollout, zone: Option<&Zone>) -> Option<u32> {
    let index = environment.index();
    match zone {
        None => {
            let planned = rollout.planned.values().sum();
            Some(planner::floors::floor(rollout.policy.fleet_floor, planned, index.total()))
        }
        Some(zone) => rollout.policy.zone_floor.map(|share| {
            let planned = rollout.planned.get(zone).copied().unwrap_or(0);
            planner::floors::floor(share, planned, index.zone(zone))
        }),
    }
}
