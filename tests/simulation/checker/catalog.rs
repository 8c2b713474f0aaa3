//! Laws of what hosts may be told, and of what must be kept for it.

use std::collections::{BTreeMap, BTreeSet};

use houston_common::digest::{ReleaseDigest, VersionSetDigest};
use houston_common::id::{PackageName, Version};
use houston_common::release::{Release, VersionSet};
use houston_coordinator::environment::member::{Lane, Member};

use super::Checker;

/// What the store holds of packages and version sets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    packages: BTreeSet<(PackageName, Version)>,
    sets: BTreeMap<VersionSetDigest, Vec<(PackageName, Version)>>,
    /// Every release that a host was ever told.
    told: BTreeMap<ReleaseDigest, Release>,
    /// Something was deleted since it was last looked at.
    is_less: bool,
}

impl Kept {
    pub(super) fn package(&mut self, name: PackageName, version: Version) {
        self.packages.insert((name, version));
    }

    pub(super) fn set(&mut self, set: &VersionSet) {
        let packages = set.packages.iter().map(|package| (package.name.clone(), package.version.clone()));
        self.sets.insert(set.digest(), packages.collect());
    }

    pub(super) fn forget(&mut self, name: &str, version: &str) {
        self.packages.retain(|(kept, of)| kept.as_str() != name || of.as_str() != version);
        self.is_less = true;
    }

    /// What the release needs and is not there any more.
    fn missing(&self, release: &Release) -> Option<String> {
        if release.is_empty() {
            return None;
        }
        let Some(packages) = self.sets.get(&release.version_set) else {
            return Some(format!("version set {}", release.version_set));
        };
        let gone = packages.iter().find(|package| !self.packages.contains(package));
        gone.map(|(name, version)| format!("{name} {version}"))
    }
}

impl Checker {
    /// All that hosts run, may go back to, or are on their way to is still there.
    pub(super) fn what_is_used_is_kept(&mut self) {
        if !std::mem::take(&mut self.kept.is_less) {
            return;
        }
        let members = self.stored.members.values().flat_map(|member| {
            let told = member.told.into_iter().flat_map(|told| [told.release, told.way_back]);
            told.chain(member.settled)
        });
        let active = self.stored.rollouts.values().filter(|rollout| !rollout.is_over());
        let rollouts = active.flat_map(|rollout| [rollout.target, rollout.way_back]);
        let baked = self.stored.definitions.values().map(|definition| definition.baked);
        let running = self.heard.reports.values().filter_map(|report| report.running);
        let measured = running.filter_map(|running| self.kept.told.get(&running).copied());
        let used = members.chain(rollouts).chain(baked).chain(measured);
        let missing = used.filter_map(|release| Some((release, self.kept.missing(&release)?))).next();
        if let Some((release, gone)) = missing {
            let detail = format!("{gone} of {} was deleted", release.digest());
            self.broken("E24 nothing in use is deleted", detail);
        }
    }

    /// A host is told something new: what a rollout pinned, or what is baked. There is no other way.
    pub(super) fn told(&mut self, member: &Member) {
        let Some(told) = member.told else { return };
        for release in [told.release, told.way_back] {
            self.kept.told.insert(release.digest(), release);
        }
        let decided = match member.lane {
            Lane::Rollout(id) => self
                .stored
                .rollouts
                .get(&id)
                .is_some_and(|rollout| [rollout.target, rollout.way_back].contains(&told.release)),
            Lane::Standing => self
                .stored
                .definitions
                .get(&member.environment)
                .is_some_and(|definition| definition.baked == told.release),
        };
        if !decided {
            let detail = format!(
                "{} in {} is told {:?}, which nobody decided: {:?}",
                member.host, member.environment, told.release, member.lane
            );
            self.broken("E25 one path", detail);
        }
    }
}
