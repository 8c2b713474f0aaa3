//! Laws of each grant, at the moment when it is stored.

use std::collections::BTreeSet;

use houston_common::id::{Generation, Zone};
use houston_common::policy::{Pacing, Policy, Share};
use houston_coordinator::environment::member::{self, Lane, Member, Step};
use houston_coordinator::rollout::{Direction, Rolling, Rollout, Stage};

use super::{Checker, Granted};

/// Hosts that may be away, of so many, under a floor.
fn budget(share: Share, of: u32) -> u32 {
    of.saturating_sub(share.at_least_of(of))
}

/// How often batches have grown by now.
pub(super) fn grown(rollout: &Rollout, rolling: &Rolling) -> u32 {
    match rollout.policy.pacing {
        Pacing::Zonal => rollout.earned + rolling.batch - 1,
        Pacing::Striped => (rolling.wave + rolling.batch).saturating_sub(2),
    }
}

impl Checker {
    pub(super) fn member_changed(&mut self, before: Option<&Member>, after: &Member) {
        let Some(told) = after.told else { return };
        if before.and_then(|member| member.told).is_none_or(|before| before.generation != told.generation) {
            if self.truth.generations.contains(&told.generation) {
                self.broken("E11 monotone generations", format!("{} is given out twice", told.generation));
            }
            self.truth.generations.insert(told.generation);
            self.told(after);
            self.stored.told_max = self.stored.told_max.max(told.generation);
        }
        if let Some(grant) = before.and_then(|member| member.grant)
            && after.grant.map(|grant| grant.generation) != Some(grant.generation)
        {
            self.closed_for_a_reason(after, grant);
        }
        let closed = before.and_then(|member| member.grant).filter(|_| after.grant.is_none());
        let was = before.map(|member| member.step);
        // A grant to go back that was void leaves the host where it was, which is settled too.
        let ended_well = matches!(
            (was, after.step),
            (Some(Step::Granted), Step::Settled) | (Some(Step::TakingBack), Step::TakenBack)
        );
        if let Some(grant) = closed
            && ended_well
            && told.generation == grant.generation
        {
            self.settled(after, grant.generation);
        }
    }

    /// A grant ends by the word of a host that has taken it, or something newer, or at its deadline. A host
    /// that speaks and hears nothing would else be granted anew with each word, for ever.
    fn closed_for_a_reason(&mut self, member: &Member, grant: member::Grant) {
        let place = (member.environment.clone(), member.host.clone());
        let said = self.heard.reports.get(&place).and_then(|report| report.stamp);
        let is_said = said.is_some_and(|stamp| stamp.generation >= grant.generation);
        if !is_said && grant.deadline > self.heard.now {
            let detail = format!("{place:?}: {} is closed, and nobody said so: {said:?}", grant.generation);
            self.broken("L10 no livelock", detail);
        }
    }

    /// A new grant is stored.
    pub(super) fn granted(&mut self, member: &Member) {
        let (Some(grant), Some(told)) = (member.grant, member.told) else { return };
        let place = (member.environment.clone(), member.host.clone());
        let taking_back = member.step == Step::TakingBack;
        let granted = Granted {
            place,
            lane: member.lane,
            release: told.release,
            taking_back,
            begun: false,
            took: None,
        };
        if self.grants.insert(grant.generation, granted).is_some() {
            self.broken("E27 none twice", format!("{} is granted twice", grant.generation));
        }
        let open = self.stored.open.get(&member.host);
        let elsewhere =
            open.and_then(|open| open.keys().find(|environment| **environment != member.environment));
        if let Some(other) = elsewhere {
            let detail = format!("{} is granted in {other} and in {}", member.host, member.environment);
            self.broken("one open grant per host", detail);
        }
        self.takes_changes(member, taking_back);
        let rollout = match member.lane {
            Lane::Rollout(id) => self.stored.rollouts.get(&id).cloned(),
            Lane::Standing => None,
        };
        let policy = match (&rollout, self.stored.definitions.get(&member.environment)) {
            (Some(rollout), _) => rollout.policy.clone(),
            (None, Some(definition)) => definition.policy.clone(),
            (None, None) => return,
        };
        if !told.release.is_empty() && self.is_available(member, Generation(grant.generation.0 - 1)) {
            let allowed = self.floors_hold(member, &policy, rollout.as_ref(), grant.generation);
            self.grants.entry(grant.generation).and_modify(|granted| granted.took = Some(allowed));
        }
        if let Some(rollout) = rollout {
            self.granted_in(member, &rollout, grant.generation, grant.was_down);
        }
    }

    /// Nobody is granted who is held, boxed or left out. What a commit holds is of one moment.
    fn takes_changes(&mut self, member: &Member, taking_back: bool) {
        let is_held = self.stored.hosts.get(&member.host).is_some_and(|host| host.held.is_some());
        let is_boxed = member.boxed_until.is_some() && !taking_back;
        let left_out = |rollout: &Rollout| {
            member.lane == Lane::Rollout(rollout.id) && rollout.excluded.contains(&member.host)
        };
        if is_held || is_boxed || self.stored.rollouts.values().any(left_out) {
            let detail = format!("{} is granted: held {is_held}, boxed {is_boxed}", member.host);
            self.broken("a hold is a barrier", detail);
        }
    }

    /// Budgets in hosts, counted anew from every member's record and report. How many of the fleet may be
    /// away.
    fn floors_hold(
        &mut self,
        member: &Member,
        policy: &Policy,
        rollout: Option<&Rollout>,
        newest: Generation,
    ) -> u32 {
        let rollback = rollout.is_some_and(|rollout| rollout.stage == Stage::RollingBack);
        let law = if rollback { "E16 rollback obeys floors" } else { "E1 budget at grant" };
        let all: Vec<&Member> =
            self.members_of(&member.environment).filter(|other| other.in_service()).collect();
        let away = |zone: Option<&Zone>| {
            let of = all.iter().filter(|other| zone.is_none_or(|zone| other.zone == *zone));
            let (mut hosts, mut away) = (0, 0);
            for other in of {
                hosts += 1;
                away += u32::from(!self.is_available(other, newest));
            }
            (hosts, away)
        };
        let planned = |zone: Option<&Zone>| {
            let rollout = rollout?;
            // Where nothing was in service when it began, there is only today's number.
            Some(match zone {
                Some(zone) => rollout.planned.get(zone).copied().unwrap_or(0),
                None => rollout.planned.values().sum(),
            })
            .filter(|planned| *planned > 0)
        };
        let zone_floor = policy.zone_floor.map(|share| (Some(&member.zone), share));
        let (mut found, mut only_by_joins) = (None, true);
        for (zone, share) in [(None, policy.fleet_floor)].into_iter().chain(zone_floor) {
            let (hosts, away) = away(zone);
            let allowed = budget(share, planned(zone).unwrap_or(hosts).min(hosts));
            if away > allowed {
                only_by_joins &= away <= budget(share, hosts);
                let place = zone.map_or("the fleet".to_owned(), ToString::to_string);
                found = Some(format!(
                    "{} granted: {away} of {hosts} away in {place}, {allowed} allowed",
                    member.host
                ));
            }
        }
        let hosts = all.len() as u32;
        let allowed = budget(policy.fleet_floor, planned(None).unwrap_or(hosts).min(hosts));
        if let Some(detail) = found {
            self.broken(if only_by_joins { "E21 membership" } else { law }, detail);
        }
        allowed
    }

    fn granted_in(&mut self, member: &Member, rollout: &Rollout, newest: Generation, was_down: bool) {
        let host = &member.host;
        if rollout.stage == Stage::Halted || rollout.is_over() {
            self.broken(
                "E8 halt is a barrier",
                format!("{host} granted by {} in {:?}", rollout.id, rollout.stage),
            );
        }
        if rollout.paused.is_some() {
            self.broken("paused", format!("{host} granted by {} while it is paused", rollout.id));
        }
        let open: Vec<Member> = self
            .members_of(&member.environment)
            .filter(|other| {
                other.lane != Lane::Standing && other.grant.is_some_and(|grant| grant.generation < newest)
            })
            .cloned()
            .collect();
        let zones: BTreeSet<&Zone> = open.iter().map(|other| &other.zone).chain([&member.zone]).collect();
        let Policy { pacing, zones_at_once, .. } = &rollout.policy;
        if *pacing == Pacing::Zonal && zones.len() > *zones_at_once as usize {
            let detail = format!("{host} in {} is granted while hosts of {zones:?} are open", member.zone);
            self.broken("E4 one zone", detail);
        }
        let Some(told) = member.told else { return };
        let forward = member.step != Step::TakingBack;
        let is_in_scope = self.histories.entry(rollout.id).or_default().scope.contains(host);
        if !is_in_scope {
            self.broken(
                "E21 membership",
                format!("{host} joined after {} began, and is granted", rollout.id),
            );
        }
        if forward {
            if told.release != rollout.target || told.way_back != rollout.way_back {
                self.broken("E15 way back pinned", format!("{host} is told {told:?} by {rollout:?}"));
            }
            let grown = self.grown_when_the_zone_began(member, rollout);
            let size = self.batch_size(member, rollout, grown);
            let history = self.histories.entry(rollout.id).or_default();
            history.forward.insert(host.clone());
            if was_down {
                history.was_down.insert(host.clone());
            }
            let first = history.first_batch.entry(member.zone.clone()).or_default();
            *first = (*first).max(size);
            return;
        }
        if told.release != rollout.destination() {
            self.broken(
                "E15 way back pinned",
                format!("{host} is taken back to {:?} by {rollout:?}", told.release),
            );
        }
        let moved = |id| {
            self.histories.get(id).is_some_and(|history: &super::History| history.forward.contains(host))
        };
        let touched = match rollout.direction {
            Direction::Forward => moved(&rollout.id) || rollout.inherits.iter().any(moved),
            Direction::Back { .. } => true,
        };
        if !touched {
            self.broken(
                "E14 untouched stays",
                format!("{host} is taken back by {} and had not started it", rollout.id),
            );
        }
        let size = rollout.policy.rollback_batch.at_most_of(rollout.hosts());
        if open.len() as u32 + 1 > size {
            self.broken(
                "E16 rollback obeys its rate",
                format!("{} hosts at once, {size} allowed", open.len() + 1),
            );
        }
    }

    /// How often batches had grown when the zone's first host was granted.
    fn grown_when_the_zone_began(&mut self, member: &Member, rollout: &Rollout) -> u32 {
        let grown = match &rollout.stage {
            Stage::Rolling(rolling) => grown(rollout, rolling),
            _ => 0,
        };
        let history = self.histories.entry(rollout.id).or_default();
        *history.grown.entry(member.zone.clone()).or_insert(grown)
    }

    fn batch_size(&self, member: &Member, rollout: &Rollout, grown: u32) -> u32 {
        let hosts =
            self.members_of(&member.environment).filter(|other| other.zone == member.zone && !other.detached);
        let began_with = rollout.members.get(&member.zone).copied().unwrap_or_default();
        rollout.policy.batch_of(began_with.min(hosts.count() as u32), grown)
    }
}
