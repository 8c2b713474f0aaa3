//! Faults, as they are done to the world.

use houston_common::id::HostId;

use super::{Event, World};
use crate::simulation::faults::Fault;
use crate::simulation::network::Weather;

impl World {
    pub(super) fn fault(&mut self) {
        if self.last.is_some() {
            return;
        }
        let at = self.now + self.nemesis.between(1_000, 90_000);
        self.at(at, Event::Fault);
        let hosts: Vec<HostId> = self.nodes.keys().cloned().collect();
        let (fault, host) = (Fault::next(&mut self.nemesis), self.nemesis.pick(&hosts).cloned());
        let Some(host) = host else { return };
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
            Fault::KillAgent { fuse, fuse_after } => self.kill_agent(&host, fuse, fuse_after, false),
            Fault::CutPower { fuse, fuse_after } => self.kill_agent(&host, fuse, fuse_after, true),
            Fault::CutHost { up_ms, down_ms } => {
                self.network.cut(&host, self.now + up_ms, self.now + down_ms)
            }
            Fault::CutZone { up_ms, down_ms } => {
                let zone = self.nodes.get(&host).map(|node| node.machine.borrow().zone);
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
                if let Some(node) = self.nodes.get(&host) {
                    node.machine.borrow_mut().sick_until = self.now + ms;
                }
            }
            Fault::WallJump { ms } => {
                self.wall_offset_ms = ms;
                if let Some(node) = self.nodes.get(&host) {
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
