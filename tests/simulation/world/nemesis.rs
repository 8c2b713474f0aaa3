//! Faults, as they are done to the world.

use houston_common::id::HostId;

use super::{Event, World};
use crate::simulation::faults::Fault;
use crate::simulation::network::Weather;

/// Between two faults at most.
const FAULT_MS_MAX: u64 = 60_000;
/// A fault of a host is one of up to so many in a hundred.
const HOSTS_PER_FAULT: u64 = 100;

impl World {
    pub(super) fn fault(&mut self) {
        if self.last.is_some() {
            return;
        }
        let at = self.now + self.nemesis.between(1_000, FAULT_MS_MAX);
        self.at(at, Event::Fault);
        let hosts: Vec<HostId> = self.nodes.keys().cloned().collect();
        let fault = Fault::next(&mut self.nemesis);
        // In a larger fleet a fault of a host is one of several hosts.
        let several = 1 + self.nemesis.below(1 + hosts.len() as u64 / HOSTS_PER_FAULT);
        let count = if fault.is_of_a_host() { several } else { 1 };
        let is_left_out = self.is_left_out(fault.name());
        for _ in 0..count {
            let Some(host) = self.nemesis.pick(&hosts).cloned() else { return };
            if !is_left_out {
                self.fault_of(fault, &host);
            }
        }
    }

    fn fault_of(&mut self, fault: Fault, host: &HostId) {
        *self.faults.entry(fault.name()).or_default() += 1;
        if self.setting.walls_differ && matches!(fault, Fault::WallJump { .. }) {
            return;
        }
        // Wall clocks are no part of what happens.
        if !matches!(fault, Fault::WallJump { .. }) {
            self.note(|| format!("fault {fault:?} {host}"));
        }
        match fault {
            Fault::KillCoordinator { down_ms } => self.end_coordinator(down_ms),
            Fault::StoreFails { after, fault } => self.store.fail_after(after, fault),
            Fault::KillAgent { fuse, fuse_after } => self.kill_agent(host, fuse, fuse_after, false),
            Fault::CutPower { fuse, fuse_after } => self.kill_agent(host, fuse, fuse_after, true),
            Fault::CutHost { up_ms, down_ms } => self.network.cut(host, self.now + up_ms, self.now + down_ms),
            Fault::CutZone { up_ms, down_ms } => {
                let zone = self.nodes.get(host).map(|node| node.machine.borrow().zone);
                for (host, node) in &self.nodes {
                    if Some(node.machine.borrow().zone) == zone {
                        self.network.cut(host, self.now + up_ms, self.now + down_ms);
                    }
                }
            }
            Fault::Weather { drop_percent, double_percent, delay_ms_max } => {
                self.network.weather = Weather { drop_percent, double_percent, delay_ms_max };
            }
            Fault::Sick { ms } => {
                if let Some(node) = self.nodes.get(host) {
                    node.machine.borrow_mut().sick_until = self.now + ms;
                }
            }
            Fault::WallJump { ms } => {
                self.wall_offset_ms = ms;
                if let Some(node) = self.nodes.get(host) {
                    node.machine.borrow_mut().wall_offset_ms = ms;
                }
            }
        }
    }

    pub(super) fn kill_agent(
        &mut self,
        host: &HostId,
        fuse: Option<u32>,
        fuse_after: bool,
        loses_power: bool,
    ) {
        let Some(node) = self.nodes.get_mut(host).filter(|node| node.agent.is_some()) else { return };
        node.loses_power = loses_power;
        if fuse.is_none() {
            return self.agent_ends(host);
        }
        let mut machine = node.machine.borrow_mut();
        (machine.fuse, machine.fuse_after) = (fuse, fuse_after);
    }
}
