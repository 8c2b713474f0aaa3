//! What a flight took down on its way.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::api::convert::{LIST_MAX, NAMED_HOSTS_MAX};
use houston_common::clock::FleetTime;
use houston_common::id::{GateName, HostId, Zone};
use houston_common::plan::{
    BATCHES_SHOWN_MAX, Fault, Flown, PlannedBatch, PlannedCapacity, PlannedWait, PlannedWave, WhatIf,
};
use houston_common::rollout::{Exception, WaitingOn, Wave};

use super::{Model, floor_of};
use crate::environment::Environment;
use crate::environment::member::{Lane, Step};
use crate::rollout::planner::{Change, Plan, Turn};
use crate::rollout::{Rollout, Stage};

/// Hosts that all batches together name: with the longest names they take some 1.5 MB of the answer's 4.
const BATCH_HOSTS_NAMED_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct Log {
    began: FleetTime,
    waves: Vec<PlannedWave>,
    /// Without a zone: the fleet's.
    capacity: BTreeMap<Option<Zone>, PlannedCapacity>,
    named: usize,
    /// When hosts of a zone were granted first, and how many were at that moment.
    first_granted: BTreeMap<Zone, (FleetTime, u32)>,
    /// Also who is tried again is one host.
    hosts_met: BTreeSet<HostId>,
    /// Gates that were assumed to be open.
    assumed_open: BTreeSet<GateName>,
    met: Option<FleetTime>,
    stopped: Option<FleetTime>,
}

impl Log {
    pub(super) fn new(environment: &Environment, now: FleetTime) -> Self {
        let mut log = Self {
            began: now,
            waves: Vec::new(),
            capacity: BTreeMap::new(),
            named: 0,
            first_granted: BTreeMap::new(),
            hosts_met: BTreeSet::new(),
            assumed_open: BTreeSet::new(),
            met: None,
            stopped: None,
        };
        log.count(environment);
        log
    }

    /// Something is about to be done.
    pub(super) fn planned(
        &mut self,
        environment: &Environment,
        rollout: &Rollout,
        plan: &Plan,
        model: &Model<'_>,
        now: FleetTime,
    ) {
        for change in &plan.changes {
            if let Change::Turn(Turn::RollBack(_) | Turn::Halt(_)) = change {
                self.stopped.get_or_insert(now);
            }
        }
        let own = plan.grants.iter().filter(|grant| grant.lane == Lane::Rollout(rollout.id));
        for grant in own.filter(|grant| !grant.taking_back) {
            self.granted(rollout, &grant.host, now);
            let Some(live) = environment.member(&grant.host) else { continue };
            let zone = &live.member.zone;
            let (at, hosts) = self.first_granted.entry(zone.clone()).or_insert((now, 0));
            *hosts += u32::from(*at == now);
            if model.is_bad_on(grant.lane, zone) {
                self.hosts_met.insert(grant.host.clone());
                self.met.get_or_insert(now);
            }
        }
    }

    pub(super) fn assumed_open(&mut self, gates: Vec<GateName>) {
        self.assumed_open.extend(gates);
    }

    /// Nothing is left to do before `until`.
    pub(super) fn rests(
        &mut self,
        environment: &Environment,
        rollout: &Rollout,
        waiting: &[WaitingOn],
        now: FleetTime,
        until: FleetTime,
    ) {
        self.count(environment);
        for (zone, capacity) in self.capacity.iter_mut().filter(|(_, capacity)| capacity.floor.is_none()) {
            capacity.floor = floor_of(environment, rollout, zone.as_ref());
        }
        let began = self.began;
        let Some(wave) = self.wave(rollout, now) else { return };
        wave.ends = until.since(began);
        // The first reason is what is being done; the others are what that holds up.
        let Some(waiting) = waiting.first().filter(|_| until > now) else { return };
        let lasts = until.since(now);
        match wave.waits.iter_mut().find(|wait| wait.waiting.as_str() == waiting.as_str()) {
            Some(wait) => wait.lasts += lasts,
            None => wave.waits.push(PlannedWait { waiting: waiting.clone(), lasts }),
        }
    }

    /// The wave that is on, if the rollout goes forward.
    fn wave(&mut self, rollout: &Rollout, now: FleetTime) -> Option<&mut PlannedWave> {
        if !matches!(rollout.stage, Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. }) {
            return None;
        }
        let wave = rollout.wave(rollout.current_wave());
        let at = match self.waves.iter().position(|planned| planned.wave == wave) {
            Some(at) => at,
            None => {
                self.waves.push(begun(wave, now.since(self.began)));
                self.waves.len() - 1
            }
        };
        self.waves.get_mut(at)
    }

    fn granted(&mut self, rollout: &Rollout, host: &HostId, now: FleetTime) {
        let begins = now.since(self.began);
        let names = self.named < BATCH_HOSTS_NAMED_MAX;
        let number = match &rollout.stage {
            Stage::Rolling(rolling) => rolling.batch,
            Stage::Baking { .. }
            | Stage::Gated { .. }
            | Stage::RollingBack
            | Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => 1,
        };
        let Some(wave) = self.wave(rollout, now) else { return };
        wave.hosts += 1;
        if number > wave.batches {
            wave.batches = number;
            if wave.first.len() < BATCHES_SHOWN_MAX {
                wave.first.push(PlannedBatch { number, begins, hosts: 0, first: Vec::new() });
            }
        }
        let Some(batch) = wave.first.iter_mut().find(|batch| batch.number == number) else { return };
        batch.hosts += 1;
        if names && batch.first.len() < NAMED_HOSTS_MAX {
            batch.first.push(host.clone());
            self.named += 1;
        }
    }

    fn count(&mut self, environment: &Environment) {
        let index = environment.index();
        let zones = index.zones().map(|(zone, counts)| (Some(zone.clone()), counts.available));
        for (zone, available) in zones.chain([(None, index.total().available)]) {
            let fresh = PlannedCapacity { zone: zone.clone(), available, lowest: available, floor: None };
            let capacity = self.capacity.entry(zone).or_insert(fresh);
            capacity.lowest = capacity.lowest.min(available);
        }
    }

    /// Of zones that are alike the last: most has to be taken back by then.
    pub(super) fn worst_zone(&self) -> Option<Zone> {
        let worst = self.first_granted.iter().max_by_key(|(_, (at, hosts))| (*hosts, *at));
        worst.map(|(zone, _)| zone.clone())
    }

    /// `waiting` is what it waits for at its end, if it is stuck there.
    pub(super) fn flown(
        self,
        environment: &Environment,
        rollout: &Rollout,
        waiting: Vec<WaitingOn>,
        cut_short: bool,
        now: FleetTime,
    ) -> Flown {
        let left_out = environment.members().filter_map(|live| match live.member.step_in(rollout.id) {
            Step::Excepted(Exception::Excluded) => None,
            Step::Excepted(exception) => Some((live.member.host.clone(), exception)),
            Step::Waiting
            | Step::Preparing
            | Step::Ready
            | Step::Granted
            | Step::Settled
            | Step::Reverted
            | Step::Failed
            | Step::TakingBack
            | Step::TakenBack => None,
        });
        let mut left_out: Vec<_> = left_out.collect();
        let left_out_more = left_out.len().saturating_sub(NAMED_HOSTS_MAX) as u32;
        left_out.truncate(NAMED_HOSTS_MAX);
        Flown {
            waves: self.waves.into_iter().take(LIST_MAX).collect(),
            lasts: now.since(self.began),
            state: rollout.state(),
            cause: rollout.cause.clone(),
            waiting,
            cut_short,
            capacity: self.capacity.into_values().take(LIST_MAX).collect(),
            left_out,
            left_out_more,
            assumed_open: self.assumed_open.into_iter().collect(),
        }
    }

    /// Absent if no host met the fault.
    pub(super) fn what_if(
        self,
        fault: Fault,
        rollout: &Rollout,
        cut_short: bool,
        now: FleetTime,
    ) -> Option<WhatIf> {
        let met = self.met?;
        Some(WhatIf {
            fault,
            hosts_met: self.hosts_met.len() as u32,
            met: met.since(self.began),
            stops_after: self.stopped.map(|stopped| stopped.since(met)),
            back_after: (rollout.stage == Stage::RolledBack).then(|| now.since(met)),
            state: rollout.state(),
            cut_short,
            capacity: self.capacity.into_values().take(LIST_MAX).collect(),
        })
    }
}

fn begun(wave: Wave, begins: Duration) -> PlannedWave {
    let (first, waits) = (Vec::new(), Vec::new());
    PlannedWave { wave, begins, ends: begins, hosts: 0, batches: 0, first, waits }
}
