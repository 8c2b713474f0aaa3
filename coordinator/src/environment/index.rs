//! The members by class, kept as sets, so that the planner finds its next hosts, and every count,
//! without a walk.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::release::Release;

pub use super::class::{Class, Counted, Reach, Wellness};
use super::member::Member;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub hosts: u32,
    pub in_service: u32,
    pub available: u32,
    pub moving: u32,
    pub off_baked: u32,
    /// Health checks that have passed on hosts that the active rollout has updated.
    pub passes: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    classes: BTreeMap<Zone, BTreeMap<Class, BTreeSet<(u64, HostId)>>>,
    zones: BTreeMap<Zone, Counts>,
    total: Counts,
    /// Of all open grants.
    deadlines: BTreeSet<(FleetTime, HostId)>,
    /// Of all hosts that prepare, or do not know whether they are well.
    answers: BTreeSet<(FleetTime, HostId)>,
    /// Members by what they have settled on.
    settled: BTreeMap<Option<Release>, BTreeSet<HostId>>,
    /// Of all hosts in the penalty box, the end of their time.
    boxes: BTreeSet<(FleetTime, HostId)>,
}

type Place = (Zone, Class, u64);

impl Index {
    pub(super) fn enter(&mut self, member: &Member, place: Option<&Place>, counted: Counted) {
        if let Some((zone, class, order)) = place {
            let classes = self.classes.entry(zone.clone()).or_default();
            classes.entry(*class).or_default().insert((*order, member.host.clone()));
            let counts = self.zones.entry(zone.clone()).or_default();
            counts.add(counted);
            self.total.add(counted);
        }
        if counted.member {
            self.settled.entry(counted.settled).or_default().insert(member.host.clone());
        }
        if let Some(deadline) = counted.deadline {
            self.deadlines.insert((deadline, member.host.clone()));
        }
        if let Some(answer_by) = counted.answer_by {
            self.answers.insert((answer_by, member.host.clone()));
        }
        if let Some(boxed_until) = counted.boxed_until {
            self.boxes.insert((boxed_until, member.host.clone()));
        }
    }

    /// The opposite of `enter`, by what was entered: the member may have changed since.
    pub(super) fn withdraw(&mut self, member: &Member, place: Option<&Place>, counted: Counted) {
        let Some((zone, class, order)) = place else { return };
        if let Some(set) = self.classes.get_mut(zone).and_then(|classes| classes.get_mut(class)) {
            set.remove(&(*order, member.host.clone()));
        }
        if let Some(counts) = self.zones.get_mut(zone) {
            counts.subtract(counted);
        }
        self.total.subtract(counted);
        if let Some(hosts) = self.settled.get_mut(&counted.settled)
            && counted.member
        {
            hosts.remove(&member.host);
            if hosts.is_empty() {
                self.settled.remove(&counted.settled);
            }
        }
        if let Some(deadline) = counted.deadline {
            self.deadlines.remove(&(deadline, member.host.clone()));
        }
        if let Some(answer_by) = counted.answer_by {
            self.answers.remove(&(answer_by, member.host.clone()));
        }
        if let Some(boxed_until) = counted.boxed_until {
            self.boxes.remove(&(boxed_until, member.host.clone()));
        }
    }

    pub fn total(&self) -> Counts {
        self.total
    }

    pub fn zone(&self, zone: &Zone) -> Counts {
        self.zones.get(zone).copied().unwrap_or_default()
    }

    /// Zones with members, by name.
    pub fn zones(&self) -> impl Iterator<Item = (&Zone, Counts)> {
        self.zones.iter().filter(|(_, counts)| counts.hosts > 0).map(|(zone, counts)| (zone, *counts))
    }

    /// Members by what they have settled on, those on nothing too.
    pub fn settled(&self) -> impl Iterator<Item = (Option<Release>, &BTreeSet<HostId>)> {
        self.settled.iter().map(|(release, hosts)| (*release, hosts))
    }

    /// Hosts of a class in a zone, in their order.
    pub fn hosts(&self, zone: &Zone, class: Class) -> impl Iterator<Item = &HostId> {
        self.classes
            .get(zone)
            .and_then(|classes| classes.get(&class))
            .into_iter()
            .flatten()
            .map(|(_, host)| host)
    }

    pub fn count(&self, zone: &Zone, class: Class) -> u32 {
        self.classes.get(zone).and_then(|classes| classes.get(&class)).map_or(0, |set| set.len() as u32)
    }

    /// Hosts of a class over all zones, zone by zone.
    pub fn all(&self, class: Class) -> impl Iterator<Item = &HostId> {
        self.classes.values().filter_map(move |classes| classes.get(&class)).flatten().map(|(_, host)| host)
    }

    pub fn count_all(&self, class: Class) -> u32 {
        self.classes.values().filter_map(|classes| classes.get(&class)).map(|set| set.len() as u32).sum()
    }

    /// Hosts whose grant has passed its deadline.
    pub fn overdue(&self, now: FleetTime) -> impl Iterator<Item = &HostId> {
        self.deadlines.iter().take_while(move |(deadline, _)| *deadline <= now).map(|(_, host)| host)
    }

    pub fn next_deadline(&self) -> Option<FleetTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Hosts that should have prepared by now, or should know whether they are well.
    pub fn late(&self, now: FleetTime) -> impl Iterator<Item = &HostId> {
        self.answers.iter().take_while(move |(answer_by, _)| *answer_by <= now).map(|(_, host)| host)
    }

    pub fn next_answer_by(&self) -> Option<FleetTime> {
        self.answers.first().map(|(answer_by, _)| *answer_by)
    }

    /// Hosts whose time in the penalty box is over.
    pub fn served(&self, now: FleetTime) -> impl Iterator<Item = &HostId> {
        self.boxes.iter().take_while(move |(until, _)| *until <= now).map(|(_, host)| host)
    }

    pub fn next_box_end(&self) -> Option<FleetTime> {
        self.boxes.first().map(|(until, _)| *until)
    }

    /// Position of a host within its class and zone, from 0.
    pub fn position(&self, zone: &Zone, class: Class, host: &HostId) -> Option<usize> {
        self.hosts(zone, class).position(|other| other == host)
    }
}

impl Counts {
    fn add(&mut self, counted: Counted) {
        self.hosts += u32::from(counted.member);
        self.in_service += u32::from(counted.in_service);
        self.available += u32::from(counted.available);
        self.moving += u32::from(counted.deadline.is_some());
        self.off_baked += u32::from(counted.off_baked);
        self.passes = self.passes.wrapping_add(counted.passes);
    }

    fn subtract(&mut self, counted: Counted) {
        self.hosts -= u32::from(counted.member);
        self.in_service -= u32::from(counted.in_service);
        self.available -= u32::from(counted.available);
        self.moving -= u32::from(counted.deadline.is_some());
        self.off_baked -= u32::from(counted.off_baked);
        self.passes = self.passes.wrapping_sub(counted.passes);
    }
}
