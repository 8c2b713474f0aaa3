//! How many hosts may be away from the service at once.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use houston_common::id::Zone;
use houston_common::policy::{Policy, Share};
use houston_common::rollout::WaitingOn;

use super::NAMED_MAX;
use crate::environment::index::Counts;
use crate::environment::{Environment, Live};

/// The floors, and what this plan has taken of them so far.
#[derive(Debug)]
pub(super) struct Floors<'a> {
    environment: &'a Environment,
    policy: &'a Policy,
    /// Hosts in service when the change began; today's number if there is no change.
    planned: Option<&'a BTreeMap<Zone, u32>>,
    taken: u32,
    taken_in: BTreeMap<Zone, u32>,
}

impl<'a> Floors<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        policy: &'a Policy,
        planned: Option<&'a BTreeMap<Zone, u32>>,
    ) -> Self {
        Self { environment, policy, planned, taken: 0, taken_in: BTreeMap::new() }
    }

    /// Takes a host that may serve away from the service, if the floors hold without it. One that is
    /// counted as away already is not counted once more.
    pub(super) fn take(&mut self, live: &Live) -> Result<(), WaitingOn> {
        let (zone, cost) = (&live.member.zone, u32::from(live.counts_available()));
        let planned = self.planned;
        let fleet = self.environment.index().total();
        let planned_fleet = planned.map_or(fleet.in_service, |planned| planned.values().sum());
        let least = floor(self.policy.fleet_floor, planned_fleet, fleet);
        let available = fleet.available.saturating_sub(self.taken);
        if available < least + cost {
            return Err(self.refused(None, available, least));
        }
        if let Some(share) = self.policy.zone_floor {
            let counts = self.environment.index().zone(zone);
            let planned_zone =
                planned.map_or(counts.in_service, |planned| planned.get(zone).copied().unwrap_or(0));
            let least = floor(share, planned_zone, counts);
            let available =
                counts.available.saturating_sub(self.taken_in.get(zone).copied().unwrap_or_default());
            if available < least + cost {
                return Err(self.refused(Some(zone.clone()), available, least));
            }
        }
        self.taken += cost;
        *self.taken_in.entry(zone.clone()).or_default() += cost;
        Ok(())
    }

    fn refused(&self, zone: Option<Zone>, available: u32, floor: u32) -> WaitingOn {
        // Only for the reason's text: the walk ends at the first few.
        let unavailable = self
            .environment
            .members()
            .filter(|live| zone.as_ref().is_none_or(|z| *z == live.member.zone))
            .filter_map(|live| Some((live.member.host.clone(), live.away()?)))
            .take(NAMED_MAX)
            .collect();
        WaitingOn::Floor { zone, available, floor, unavailable }
    }
}

/// Hosts that must stay available. The budget is reckoned from the hosts planned with or those in
/// service today, whichever are fewer, so that hosts that join raise no budget. Where nothing was in
/// service there is only today's number: whoever has come into service since could else never move.
pub(crate) fn floor(share: Share, planned: u32, counts: Counts) -> u32 {
    let base = if planned == 0 { counts.in_service } else { planned.min(counts.in_service) };
    let budget = base - share.at_least_of(base).min(base);
    counts.in_service - budget
}
