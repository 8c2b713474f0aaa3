//! What happens now and then in a run, beside the everyday faults and orders: a process is paused and comes
//! back after another has taken over, hosts join in crowds, a disk fills up, the store is brought back from
//! a copy, a plan is looked at and started later.

use houston_common::command::EMPTY_VERSION_SET;
use houston_coordinator::store::{Snapshot, Store as _};

use super::{Event, Last, World, ZONES};
use crate::simulation::coordinator::{Coordinator, Turn};
use crate::simulation::name;
use crate::simulation::operator::{Order, PROD, SIDE};
use crate::simulation::random::Random;
use crate::simulation::script::Library;
use crate::simulation::scripted::{self, Scripted};

#[derive(Debug, Clone)]
pub(super) enum Scene {
    Pause,
    Resume,
    Crowd,
    DiskFull,
    Look,
    Give(Scripted),
    Remove,
    Uninstall,
    Backup,
    Restore,
}

#[derive(Debug)]
pub(super) struct Scenes {
    random: Random,
    paused: Option<Coordinator>,
    backup: Option<Snapshot>,
}

/// In a hundred runs, those in which the store is brought back from a copy.
const RESTORED_PERCENT: u64 = 15;

impl Scenes {
    pub(super) fn new(random: Random) -> Self {
        Self { random, paused: None, backup: None }
    }
}

impl World {
    /// Draws what is to happen between the two times.
    pub(super) fn set_scenes(&mut self, from: u64, until: u64) {
        let is_small = self.setting.size.is_small();
        let random = &mut self.scenes.random;
        let mut scenes = Vec::new();
        let often = [
            (Scene::Pause, 40),
            (Scene::Pause, 40),
            (Scene::Crowd, 40),
            (Scene::DiskFull, 50),
            (Scene::DiskFull, 50),
            (Scene::Look, 60),
            (Scene::Look, 60),
            (Scene::Look, 60),
            (Scene::Remove, 50),
            (Scene::Remove, 50),
            (Scene::Uninstall, 40),
        ];
        for (scene, percent) in often {
            if random.chance(percent) {
                scenes.push((random.between(from, until), scene));
            }
        }
        // It ends a run: too much is lost of the few that are larger.
        if random.chance(RESTORED_PERCENT) && is_small {
            let backup = random.between(from, until);
            scenes.push((backup, Scene::Backup));
            scenes.push((backup + random.between(60_000, 600_000), Scene::Restore));
        }
        for (at, scene) in scenes {
            self.at(at, Event::Scene(scene));
        }
    }

    pub(super) fn scene(&mut self, scene: Scene) {
        if let Scene::Resume = scene {
            return self.resume();
        }
        if self.last.is_some() {
            return;
        }
        *self.faults.entry(scene.name()).or_default() += 1;
        self.note(|| format!("scene {}", scene.name()));
        let environment = name(if self.scenes.random.chance(70) { PROD } else { SIDE });
        match scene {
            Scene::Pause => self.pause(),
            Scene::Resume => {}
            Scene::Crowd => {
                for number in 0..self.scenes.random.between(2, 6) {
                    let zone = self.scenes.random.below(ZONES as u64) as usize;
                    let suffix = format!("{:08x}", self.scenes.random.next() as u32);
                    let host = name(&format!("crowd{number}"));
                    self.order(Order::Enroll { host, zone, ephemeral_suffix: suffix });
                }
            }
            Scene::DiskFull => {
                let hosts: Vec<_> = self.nodes.values().map(|node| node.machine.clone()).collect();
                let ms = self.scenes.random.between(20_000, 400_000);
                if let Some(machine) = self.scenes.random.pick(&hosts) {
                    machine.borrow_mut().full_until = self.now + ms;
                }
            }
            Scene::Look => {
                let is_empty = self.scenes.random.chance(25);
                let any = Library::good(self.scenes.random.next());
                let set = if is_empty { EMPTY_VERSION_SET.to_owned() } else { any };
                let later = self.now + self.scenes.random.between(1_000, 60_000);
                let Some(coordinator) = &self.coordinator else { return };
                let (now, wall) = (coordinator.fleet_time(self.now), self.wall());
                let state = coordinator.core.state();
                if let Some(order) = scripted::look(state, &environment, &set, now, wall) {
                    self.at(later, Event::Scene(Scene::Give(order)));
                }
            }
            Scene::Give(order) => self.order(Order::Other(order)),
            Scene::Remove => {
                let versions = &self.library.versions;
                let package = self.scenes.random.pick(versions).map(|version| version.package.clone());
                package
                    .into_iter()
                    .for_each(|package| self.order(Order::Other(Scripted::RemovePackage(package))));
            }
            Scene::Uninstall => self.order(Order::Other(Scripted::Uninstall { environment })),
            Scene::Backup => self.scenes.backup = self.store.load().ok(),
            Scene::Restore => self.restore(),
        }
    }

    /// The process stops for a while, with what it has in its hands; soon another takes over.
    fn pause(&mut self) {
        let takes_over = self.now + self.scenes.random.between(500, 15_000);
        let comes_back = takes_over + self.scenes.random.between(1_000, 120_000);
        let Some(coordinator) = self.coordinator.take() else { return };
        self.scenes.paused = Some(coordinator);
        self.coordinator_incarnation += 1;
        self.turn_at = None;
        self.at(takes_over, Event::CoordinatorStarts);
        self.at(comes_back, Event::Scene(Scene::Resume));
    }

    /// It comes back, believes that it still leads, and does what it would have done.
    fn resume(&mut self) {
        let (now, wall) = (self.now, self.wall());
        // Nobody may have taken over yet: then it leads still, and ends like any other.
        let Some(mut paused) = self.scenes.paused.take() else { return };
        self.note(|| "the paused coordinator is back".to_owned());
        let Turn { answers, has_died, .. } = paused.turn(now, wall);
        let fleet = paused.fleet_time(now);
        let is_fenced = has_died || paused.core.checkpoint(fleet).is_err();
        self.note_commits();
        if !is_fenced && self.checker.epoch() > paused.core.state().epoch {
            self.checker.broken_at_rest("E12 fencing", "a paused process wrote after its time".to_owned());
        }
        answers.into_iter().for_each(|answer| self.send_answer(answer));
    }

    /// All hosts can be heard, nothing else goes wrong, and the store is what it was some time ago.
    fn restore(&mut self) {
        let Some(backup) = self.scenes.backup.take() else { return };
        self.network.heal();
        for node in self.nodes.values_mut() {
            let mut machine = node.machine.borrow_mut();
            (machine.fuse, machine.sick_until, machine.full_until) = (None, 0, 0);
            node.loses_power = false;
        }
        self.end_coordinator(1_000);
        self.scenes.paused = None;
        self.checker.restored(&backup);
        self.store = self.store.restored(backup);
        // The run ends once this has stood for a while.
        self.last = Some(Last { deadline: u64::MAX, at_rest: Some(self.now), ..Last::default() });
    }
}

impl Scene {
    const fn name(&self) -> &'static str {
        match self {
            Self::Pause | Self::Resume => "coordinator paused",
            Self::Crowd => "hosts join in a crowd",
            Self::DiskFull => "disk full",
            Self::Look | Self::Give(_) => "start by a plan",
            Self::Remove => "package removed",
            Self::Uninstall => "uninstall without a plan",
            Self::Backup => "store copied",
            Self::Restore => "store brought back",
        }
    }
}
