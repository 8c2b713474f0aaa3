//! What each host is told, made from the records; and whose stamps are ours.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use hmac::{Hmac, KeyInit, Mac};
use houston_common::assignment::{Assignment, Order, Stamp};
use houston_common::id::{EnvironmentName, Epoch, Generation, HostId};
use houston_common::report::EnvironmentReport;
use sha2::Sha256;

use super::State;
use crate::environment::member::{Member, Told};

impl State {
    /// Everything that a host is told, over all its environments.
    pub fn assignments(&self, host: &HostId) -> Vec<Assignment> {
        let Some(entry) = self.fleet.get(host) else { return Vec::new() };
        entry.environments.iter().filter_map(|name| self.assignment(host, name)).collect()
    }

    fn assignment(&self, host: &HostId, name: &EnvironmentName) -> Option<Assignment> {
        let environment = self.environments.get(name)?;
        let member = &environment.member(host)?.member;
        let told = open(member)?;
        let order = told.terms.map_or(Order::Prepare, Order::Activate);
        Some(Assignment {
            environment: name.clone(),
            stamp: self.stamp(host, name, told.generation),
            order,
            release: self.catalog.content(&told.release)?,
            way_back: self.catalog.content(&told.way_back)?,
        })
    }

    /// Whether a report shows that the host has not taken its newest assignments yet.
    pub fn has_news(&self, host: &HostId, reports: &[EnvironmentReport]) -> bool {
        let Some(entry) = self.fleet.get(host) else { return false };
        entry.environments.iter().any(|name| {
            let told = self
                .environments
                .get(name)
                .and_then(|environment| environment.member(host))
                .and_then(|live| open(&live.member));
            let report = reports.iter().find(|report| report.environment == *name);
            let said = report.and_then(|report| report.stamp).map(|stamp| stamp.order());
            told.is_some_and(|told| self.is_news(&told, said))
        })
    }

    fn is_news(&self, told: &Told, said: Option<(Epoch, Generation)>) -> bool {
        // The epoch may have risen since the host was told; the generation names the assignment.
        said.is_none_or(|(_, generation)| generation != told.generation)
    }

    pub fn stamp(&self, host: &HostId, environment: &EnvironmentName, generation: Generation) -> Stamp {
        let mut stamp = Stamp { store: self.meta.store, epoch: self.epoch, generation, mac: [0; 32] };
        stamp.mac = self.mac(host, environment, &stamp).finalize().into_bytes().into();
        stamp
    }

    /// Whether this store made the stamp for this host and environment, whatever it remembers of it.
    pub fn made(&self, host: &HostId, environment: &EnvironmentName, stamp: &Stamp) -> bool {
        stamp.store == self.meta.store && self.mac(host, environment, stamp).verify_slice(&stamp.mac).is_ok()
    }

    fn mac(&self, host: &HostId, environment: &EnvironmentName, stamp: &Stamp) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.meta.mac_key).expect("any key length");
        mac.update(b"houston-stamp 1\n");
        mac.update(&stamp.store.0);
        mac.update(&stamp.epoch.0.to_be_bytes());
        mac.update(&stamp.generation.0.to_be_bytes());
        // Names have no newline, so the two cannot run into each other.
        mac.update(host.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(environment.as_str().as_bytes());
        mac
    }
}

/// What a host may still be told. A grant that has ended is no permission any more: who has not begun
/// by then must not begin, however late it hears of it.
fn open(member: &Member) -> Option<Told> {
    member.told.filter(|told| !told.is_activate() || member.grant.is_some())
}
