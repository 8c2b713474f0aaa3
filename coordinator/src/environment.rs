//! **Decision.** An environment with its members, and counts of them that are kept as they change,
//! so that no decision walks the fleet.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

pub mod class;
pub mod index;
pub mod member;
pub mod penalty;

use std::collections::BTreeMap;

use houston_common::id::{EnvironmentName, HostId, LabelKey, LabelValue, RolloutId, Zone};
use houston_common::policy::Policy;
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::Away;

use crate::fleet::{Entry, Fleet};
use crate::rollout::Rollout;
use index::{Class, Index};
use member::Member;

/// What is stored of an environment, its members and rollouts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub name: EnvironmentName,
    /// Every pair must be among a host's labels. Empty: every host.
    pub selector: BTreeMap<LabelKey, LabelValue>,
    pub policy: Policy,
    pub settings: houston_common::digest::SettingsDigest,
    /// The release whose rollout succeeded last. The empty one before the first.
    pub baked: Release,
    /// Releases that were taken back here, newest last.
    pub bad: Vec<Release>,
    /// Rollouts that ended without success or rollback, with hosts still on their release.
    pub unresolved: Vec<RolloutId>,
}

/// Bad releases remembered per environment; the oldest is forgotten first.
pub const BAD_MAX: usize = 32;

impl Definition {
    pub fn selects(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

#[derive(Debug)]
pub struct Environment {
    pub definition: Definition,
    /// The active one.
    pub rollout: Option<Rollout>,
    members: BTreeMap<HostId, Live>,
    index: Index,
}

/// A member with what is known of it since the coordinator started.
#[derive(Debug, Clone)]
pub struct Live {
    pub member: Member,
    /// The last report about this environment. Absent until the host checks in.
    pub report: Option<EnvironmentReport>,
    /// Where the index has it.
    class: Option<(Zone, Class, u64)>,
    counted: index::Counted,
}

impl Live {
    /// As counted when it was last sorted.
    pub fn counts_available(&self) -> bool {
        self.counted.available
    }

    /// Why it does not count as available, if it is in service.
    pub fn away(&self) -> Option<Away> {
        self.counted.away
    }

    /// Whether moving it may take it away from the service. A host that says it is healthy, and may be
    /// in the middle of an ended grant, counts as away for the floors, and is moved only if they hold.
    pub fn may_serve(&self) -> bool {
        self.counted.may_serve
    }

    /// By its own measurement.
    pub fn runs(&self, release: &Release) -> bool {
        self.report.as_ref().is_some_and(|report| report.running == Some(release.digest()))
    }

    /// How far it is with its open grant, if it has spoken of that.
    pub fn phase_of_grant(&self) -> Option<Phase> {
        let grant = self.member.grant?;
        let report = self.report.as_ref()?;
        report.stamp.filter(|stamp| stamp.generation == grant.generation).map(|_| report.phase)
    }

    /// In service, and known to be unwell: moving it costs nothing, and says little about the release.
    pub fn is_unhealthy(&self) -> bool {
        self.member.in_service()
            && self
                .report
                .as_ref()
                .is_some_and(|report| matches!(report.health, HealthReport::Unhealthy { .. }))
    }

    pub fn class(&self) -> Option<Class> {
        self.class.as_ref().map(|(_, class, _)| *class)
    }
}

impl Environment {
    pub fn new(definition: Definition) -> Self {
        Self { definition, rollout: None, members: BTreeMap::new(), index: Index::default() }
    }

    pub fn name(&self) -> &EnvironmentName {
        &self.definition.name
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn member(&self, host: &HostId) -> Option<&Live> {
        self.members.get(host)
    }

    pub fn members(&self) -> impl Iterator<Item = &Live> {
        self.members.values()
    }

    /// Puts a member in, or a new record of it, and counts it where it belongs now.
    pub fn put_member(&mut self, member: Member, fleet: &Fleet) {
        let host = member.host.clone();
        if let Some(live) = self.members.get_mut(&host) {
            live.member = member;
        } else {
            let live = Live { member, report: None, class: None, counted: index::Counted::default() };
            self.members.insert(host.clone(), live);
        }
        self.recount(&host, fleet);
    }

    pub fn set_report(&mut self, host: &HostId, report: EnvironmentReport, fleet: &Fleet) {
        if let Some(live) = self.members.get_mut(host) {
            live.report = Some(report);
            self.recount(host, fleet);
        }
    }

    /// The host has stopped speaking of this environment. Returns whether that was news.
    pub fn clear_report(&mut self, host: &HostId, fleet: &Fleet) -> bool {
        let Some(live) = self.members.get_mut(host) else { return false };
        let had = live.report.take().is_some();
        if had {
            self.recount(host, fleet);
        }
        had
    }

    pub fn remove_member(&mut self, host: &HostId) {
        if let Some(live) = self.members.remove(host) {
            self.index.withdraw(&live.member, live.class.as_ref(), live.counted);
        }
    }

    /// Sorts one member anew after something about it or its host has changed.
    pub fn recount(&mut self, host: &HostId, fleet: &Fleet) {
        let (Some(live), Some(entry)) = (self.members.get_mut(host), fleet.get(host)) else { return };
        let sorted = class::sort(&self.definition, self.rollout.as_ref(), live, entry);
        let class = Some((live.member.zone.clone(), sorted.class, sorted.order));
        // Most reports change nothing that is counted.
        if live.class == class && live.counted == sorted.counted {
            return;
        }
        self.index.withdraw(&live.member, live.class.as_ref(), live.counted);
        (live.class, live.counted) = (class, sorted.counted);
        self.index.enter(&live.member, live.class.as_ref(), live.counted);
    }

    /// Sorts all members anew: when a rollout begins, ends or turns, or the definition changes.
    pub fn recount_all(&mut self, fleet: &Fleet) {
        self.index = Index::default();
        for live in self.members.values_mut() {
            let Some(entry) = fleet.get(&live.member.host) else { continue };
            let sorted = class::sort(&self.definition, self.rollout.as_ref(), live, entry);
            live.class = Some((live.member.zone.clone(), sorted.class, sorted.order));
            live.counted = sorted.counted;
            self.index.enter(&live.member, live.class.as_ref(), live.counted);
        }
    }

    /// Whether a host serves here now, reckoned from the host alone.
    pub fn is_available(&self, live: &Live, entry: &Entry) -> bool {
        class::is_available(&self.definition, live, entry)
    }
}
