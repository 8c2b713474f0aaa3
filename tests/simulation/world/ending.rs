//! The end of a run: nothing goes wrong any more, and everything must come to rest.

use houston_common::id::{EnvironmentName, HostId};
use houston_common::policy::Policy;
use houston_common::rollout::WaitingOn;
use houston_coordinator::rollout::planner::GateValues;

use super::{Event, FLOOR_PATIENCE_MS, GONE_PERCENT, Last, World, ZONES};
use crate::simulation::coordinator::LOST_AFTER;
use crate::simulation::operator::Order;
use crate::simulation::script::Library;

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
            if self.checker.stored.hosts.contains_key(host) {
                orders.push(Order::Drain { host: host.clone(), drained: false });
            }
        }
        let patience = if self.nemesis.chance(GONE_PERCENT) { self.lose_one_host() } else { 1_000 };
        for (environment, policy) in &self.policies {
            let policy = Box::new(policy.clone());
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
            });
        }
        orders.reverse();
        self.last = Some(Last { orders, deadline: self.now + self.bound_ms(), ..Last::default() });
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
        let hosts = self.nodes.len() as u64;
        let of_policy = |policy: &Policy| {
            let bakes = policy.bake.one_box + policy.bake.first_zone + policy.bake.later_zones * ZONES as u32;
            let host = policy.start_within + policy.apply_deadline;
            (bakes + host * (hosts as u32 + 3)).as_millis() as u64
        };
        2 * self.policies.values().map(of_policy).sum::<u64>() + FLOOR_PATIENCE_MS + 900_000
    }

    pub(super) fn last(&mut self) {
        self.at(self.now + 1_000, Event::Last);
        let is_up = self.coordinator.is_some();
        let Some(last) = self.last.as_mut() else { return };
        if is_up && let Some(order) = last.orders.pop() {
            return self.order(order);
        }
        let (deadline, was_at_rest) = (last.deadline, last.at_rest);
        self.allow_outages();
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
        let gates = GateValues { regressed: state.meta.regressed };
        (self.minds.plan)(environment, &state.fleet, &gates, coordinator.fleet_time(self.now)).waiting
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
                });
            }
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
