//! The end of a run: nothing goes wrong any more, and everything must come to rest.

use houston_common::id::{EnvironmentName, HostId};
use houston_common::policy::Policy;
use houston_common::rollout::{Closed, WaitingOn};
use houston_coordinator::rollout::planner::GateValues;

use super::{Event, FLOOR_PATIENCE_MS, GONE_PERCENT, Last, World, ZONES};
use crate::simulation::coordinator::LOST_AFTER;
use crate::simulation::operator::Order;
use crate::simulation::script::Library;

/// Batches of all zones, and hosts of the standing lane: the smallest share that is drawn is a fifth, and
/// a floor leaves a seventh.
const TURNS_OF_SHARES: u64 = 60;

impl World {
    /// From now on nothing goes wrong, and every environment is given a release that is good.
    pub(super) fn end_faults(&mut self) {
        // After the store was brought back only a person could go on.
        if self.last.is_some() {
            return;
        }
        self.note(|| "faults end".to_owned());
        self.network.heal();
        let mut orders = Vec::new();
        for (host, node) in &mut self.nodes {
            let mut machine = node.machine.borrow_mut();
            (machine.fuse, machine.sick_until, machine.full_until) = (None, 0, 0);
            node.loses_power = false;
            let Some(stored) = self.checker.stored.hosts.get(host) else { continue };
            if stored.drained {
                orders.push(Order::Drain { host: host.clone(), drained: false });
            }
            if stored.held.is_some() {
                orders.push(Order::Release { host: host.clone() });
            }
        }
        let is_gone = self.nemesis.chance(GONE_PERCENT);
        let patience = if is_gone && !self.is_left_out("host gone") { self.lose_one_host() } else { 1_000 };
        for (environment, policy) in &self.policies {
            let mut policy = Box::new(policy.clone());
            // Nobody is in a hurry any more.
            policy.gates.iter_mut().for_each(|gate| gate.within = None);
            orders.push(Order::Apply { environment: environment.clone(), policy, mode: Some("fine") });
            let is_empty = !self
                .checker
                .stored
                .members
                .values()
                .any(|member| member.environment == *environment && !member.detached);
            if is_empty {
                continue;
            }
            orders.push(Order::Start {
                environment: environment.clone(),
                set: Library::good(self.operator.next()),
                supersede: true,
                force: true,
                allow_outage: false,
                exclude: Vec::new(),
            });
        }
        orders.reverse();
        self.last =
            Some(Last { orders, began: self.now, deadline: self.now + self.bound_ms(), ..Last::default() });
        self.at(self.now + patience, Event::Last);
    }

    /// One host never comes back. How long it takes until everybody knows.
    pub(super) fn lose_one_host(&mut self) -> u64 {
        let hosts: Vec<HostId> = self.nodes.keys().cloned().collect();
        if let Some(node) = self.nemesis.pick(&hosts).and_then(|host| self.nodes.get_mut(host)) {
            (node.agent, node.is_gone) = (None, true);
            node.incarnation += 1;
            node.machine.borrow_mut().cut_power();
        }
        LOST_AFTER.as_millis() as u64 + 30_000
    }

    /// Within this all must be at rest: every wait that the policies name, for each host in turn, and
    /// patience for what was under way.
    pub(super) fn bound_ms(&self) -> u64 {
        // Of a large fleet shares go, not hosts.
        let turns = if self.setting.size.is_small() { self.nodes.len() as u64 } else { TURNS_OF_SHARES };
        let of_policy = |policy: &Policy| {
            let bakes = policy.bake.one_box + policy.bake.first_zone + policy.bake.later_zones * ZONES as u32;
            let host = policy.start_within + policy.apply_deadline;
            (bakes + host * (turns as u32 + 3)).as_millis() as u64
        };
        2 * self.policies.values().map(of_policy).sum::<u64>() + FLOOR_PATIENCE_MS + 900_000
    }

    pub(super) fn last(&mut self) {
        let is_up = self.coordinator.is_some();
        let Some(last) = self.last.as_mut() else { return };
        if is_up && let Some(order) = last.orders.pop() {
            self.at(self.now + 1_000, Event::Last);
            return self.order(order);
        }
        let look = if self.setting.size.is_small() { 5_000 } else { 10_000 };
        self.at(self.now + look, Event::Last);
        let Some(last) = self.last.as_ref() else { return };
        let (deadline, was_at_rest) = (last.deadline, last.at_rest);
        self.allow_outages();
        self.approve();
        self.free_the_boxed();
        let unrest = self.unrest();
        match (unrest, was_at_rest) {
            (None, None) => {
                self.note(|| "all is at rest".to_owned());
                self.nothing_is_left();
                if let Some(last) = self.last.as_mut() {
                    last.at_rest = Some(self.now);
                }
            }
            (Some(why), Some(_)) => self.checker.broken_at_rest("L1 and stays", why),
            (Some(why), None) if self.now > deadline => {
                self.checker.broken_at_rest("L1 everything converges", why)
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    /// The reference planner comes to the same end.
    fn nothing_is_left(&mut self) {
        let Some(coordinator) = &self.coordinator else { return };
        let (state, now) = (coordinator.core.state(), coordinator.fleet_time(self.now));
        for environment in state.environments.values() {
            self.checker.nothing_is_left(environment, &state.fleet, self.setting.planted, now);
        }
    }

    /// Why an environment waits, by the coordinator's own plan.
    pub(super) fn waiting(&self, environment: &EnvironmentName) -> Vec<WaitingOn> {
        let Some(coordinator) = &self.coordinator else { return Vec::new() };
        let state = coordinator.core.state();
        let Some(environment) = state.environments.get(environment) else { return Vec::new() };
        let now = coordinator.fleet_time(self.now);
        let gates = GateValues::of(state, environment, now);
        (self.minds.plan)(environment, &state.fleet, &gates, now).waiting
    }

    /// Sick hosts of zones to come can use up a floor. The wait has a name, and an operator a way out.
    pub(super) fn allow_outages(&mut self) {
        for environment in self.policies.keys().cloned().collect::<Vec<_>>() {
            let waiting = self.waiting(&environment);
            let is_floored = waiting.iter().any(|waiting| matches!(waiting, WaitingOn::Floor { .. }));
            let Some(last) = self.last.as_mut() else { return };
            if !is_floored {
                last.floored.remove(&environment);
                continue;
            }
            let since = *last.floored.entry(environment.clone()).or_insert(self.now);
            if self.now > since + FLOOR_PATIENCE_MS && last.allowed.insert(environment.clone()) {
                let set = Library::good(1);
                last.orders.push(Order::Start {
                    environment,
                    set,
                    supersede: true,
                    force: true,
                    allow_outage: true,
                    exclude: Vec::new(),
                });
            }
        }
    }

    /// In the end somebody says yes to whatever waits for that, and passes over what nothing else would open.
    fn approve(&mut self) {
        for environment in self.policies.keys().cloned().collect::<Vec<_>>() {
            let answer = |waiting: &WaitingOn| match waiting {
                WaitingOn::Gate { closed: Closed::Approval { .. }, .. } => Some(None),
                // Before the one box there is nobody who could give evidence.
                WaitingOn::Gate { closed: Closed::Evidence { passes: 0, .. }, .. } => Some(Some("evidence")),
                _ => None,
            };
            let answer = self.waiting(&environment).iter().find_map(answer);
            if let (Some(skip), Some(last)) = (answer, self.last.as_mut())
                && last.orders.is_empty()
            {
                last.orders.push(Order::Decide { environment, skip });
            }
        }
    }

    /// A host may have failed once too often while the faults lasted. Nobody waits for hours.
    fn free_the_boxed(&mut self) {
        let members = self.checker.stored.members.values();
        let boxed: Vec<HostId> =
            members.filter(|member| member.is_boxed()).map(|member| member.host.clone()).collect();
        if let Some(last) = self.last.as_mut().filter(|last| last.orders.is_empty()) {
            last.orders.extend(boxed.into_iter().map(|host| Order::Release { host }));
        }
    }

    /// What is not yet as it was last told to be, if anything.
    pub(super) fn unrest(&self) -> Option<String> {
        if self.last.as_ref().is_some_and(|last| !last.orders.is_empty()) || self.coordinator.is_none() {
            return Some("the coordinator was not there".to_owned());
        }
        for (name, definition) in &self.checker.stored.definitions {
            let is_there = |host: &HostId| self.nodes.get(host).is_some_and(|node| !node.is_gone);
            let mut members =
                self.checker.stored.members.values().filter(|member| member.environment == *name);
            if !members.any(|member| !member.detached && is_there(&member.host)) {
                continue;
            }
            if let Some(rollout) = self.checker.active(name) {
                let waiting = self.waiting(name);
                return Some(format!(
                    "{name}: rollout {} is {:?} {:?}, {waiting:?}",
                    rollout.id, rollout.stage, rollout.cause
                ));
            }
            let members = self.checker.stored.members.values();
            for member in members.filter(|member| member.environment == *name && !member.detached) {
                let Some(node) = self.nodes.get(&member.host).filter(|node| !node.is_gone) else { continue };
                let machine = node.machine.borrow();
                let runs = machine.durable_release(name);
                let wanted = definition.baked.digest();
                let is_there = definition.baked.is_empty() || (runs == Some(wanted) && machine.serves(name));
                if !is_there || member.settled != Some(definition.baked) {
                    return Some(format!(
                        "{name}: {} runs {runs:?}, not {wanted:?}: {member:?}",
                        member.host
                    ));
                }
            }
        }
        None
    }
}
