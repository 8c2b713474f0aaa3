//! What a rollout would do, said beforehand: from the real planner over the real fleet.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::fmt::Write as _;

use houston_common::clock::FleetTime;
use houston_common::command::{PlannedWave, RolloutPlan, StartRollout};
use houston_common::digest::Digest;
use houston_common::error::Refusal;
use houston_common::id::{HostId, Zone};
use houston_common::policy::Pacing;
use houston_common::rollout::{Exception, Wave};

use super::super::Caller;
use super::super::environments::policy_fields;
use super::draft::{Draft, draft, in_service};
use crate::environment::Environment;
use crate::environment::index::{Class, Reach};
use crate::environment::member::{Lane, Member, Step};
use crate::rollout::Rollout;
use crate::rollout::gates::GateValues;
use crate::rollout::pacing::Extent;
use crate::rollout::planner::floors::floor;
use crate::rollout::planner::{self, Change, Turn};
use crate::state::State;

/// Hosts that a planned wave names.
const FIRST_SHOWN: usize = 200;

/// What `start` would do now, refused for the same reasons, except that nothing needs confirmation.
pub fn plan(
    state: &State,
    caller: &Caller,
    request: &StartRollout,
    now: FleetTime,
) -> Result<RolloutPlan, Refusal> {
    let draft = draft(state, caller, request, now)?;
    let after = supposed(state, &draft);
    let rollout = &draft.rollout;
    let planned = rollout.planned.values().sum();
    Ok(RolloutPlan {
        plan_hash: plan_hash(&draft),
        from: state.catalog.view(&rollout.way_back),
        to: state.catalog.view(&rollout.target),
        waves: waves(state, &after, rollout, now),
        hosts: hosts_to_change(state, &draft),
        floor: floor(rollout.policy.fleet_floor, planned, in_service(planned)),
        supersedes: draft.superseded.map(|superseded| superseded.id),
        excluded: rollout.excluded.iter().cloned().collect(),
    })
}

pub(super) fn hosts_to_change(state: &State, draft: &Draft<'_>) -> u32 {
    let after = supposed(state, draft);
    draft.rollout.zones.iter().map(|zone| to_change(&after, zone).len() as u32).sum()
}

/// Everything that decides what the rollout will do, but not the health of the day.
pub(super) fn plan_hash(draft: &Draft<'_>) -> Digest {
    let Draft { environment, rollout, superseded } = draft;
    let mut text = String::from("houston-plan 1\n");
    let Rollout { target, way_back, .. } = rollout;
    let _ = writeln!(text, "{}\nfrom {}\nto {}", environment.name(), way_back.digest(), target.digest());
    if let Some(superseded) = superseded {
        let _ = writeln!(text, "supersedes {}", superseded.id);
    }
    for (field, value) in policy_fields(&rollout.policy) {
        let _ = writeln!(text, "{field} {value}");
    }
    for zone in &rollout.zones {
        let _ = writeln!(text, "zone {zone}");
    }
    for host in &rollout.excluded {
        let _ = writeln!(text, "exclude {host}");
    }
    for live in environment.members().filter(|live| !live.member.detached) {
        let settled =
            live.member.settled.map_or_else(|| "nothing".to_owned(), |release| release.digest().to_string());
        let _ = writeln!(text, "host {} {} {settled}", live.member.host, live.member.zone);
    }
    Digest::of(text.as_bytes())
}

/// The environment as it would be with the rollout active.
fn supposed(state: &State, draft: &Draft<'_>) -> Environment {
    let Draft { environment, rollout, .. } = draft;
    let mut after = Environment::new(environment.definition.clone());
    after.rollout = Some(rollout.clone());
    for live in environment.members() {
        let Some(entry) = state.fleet.get(&live.member.host) else { continue };
        let mut member = Member { zone: entry.host.zone.clone(), ..live.member.clone() };
        if rollout.excluded.contains(&member.host) {
            (member.lane, member.step) = (Lane::Rollout(rollout.id), Step::Excepted(Exception::Excluded));
        }
        let host = member.host.clone();
        after.put_member(member, &state.fleet);
        if let Some(report) = &live.report {
            after.set_report(&host, report.clone(), &state.fleet);
        }
    }
    after
}

/// The one box as the planner would choose it now, then each zone.
fn waves(state: &State, after: &Environment, rollout: &Rollout, now: FleetTime) -> Vec<PlannedWave> {
    let first =
        planner::plan(after, &state.fleet, &GateValues::of(state, after, now), now).changes.into_iter();
    let mut one_box = first.filter_map(|change| match change {
        Change::Turn(Turn::OneBox(host)) => Some(host),
        Change::Turn(_)
        | Change::Prepare { .. }
        | Change::Late { .. }
        | Change::Except { .. }
        | Change::Overdue { .. }
        | Change::LetOut { .. }
        | Change::Retry { .. } => None,
    });
    let one_box = one_box.next();
    let first_wave = PlannedWave {
        wave: Wave::OneBox,
        hosts: u32::from(one_box.is_some()),
        batch: 1,
        bake: rollout.bake_of(0),
        first: one_box.iter().cloned().collect(),
    };
    let waves = (1..rollout.waves()).map(|wave| {
        let mut hosts: Vec<&HostId> = Vec::new();
        let mut batch = 0;
        for zone in rollout.zones_of(wave) {
            let size = |wave| rollout.batch_of(zone, wave, 1, u32::MAX);
            // Under striped pacing a zone's hosts are shared out to the waves, in their order.
            let before = match rollout.policy.pacing {
                Pacing::Striped => (1..wave).map(size).fold(0, u32::saturating_add),
                Pacing::Zonal => 0,
            };
            let here = match rollout.extent(wave) {
                Extent::OneBatch => size(wave),
                Extent::Everybody => u32::MAX,
            };
            let others = to_change(after, zone).into_iter().filter(|host| Some(*host) != one_box.as_ref());
            hosts.extend(others.skip(before as usize).take(here as usize));
            batch += size(wave);
        }
        PlannedWave {
            wave: rollout.wave(wave),
            hosts: hosts.len() as u32,
            batch,
            bake: rollout.bake_of(wave),
            first: hosts.into_iter().take(FIRST_SHOWN).cloned().collect(),
        }
    });
    std::iter::once(first_wave).chain(waves).collect()
}

/// A zone's hosts that would change, those first that would go first.
fn to_change<'a>(after: &'a Environment, zone: &Zone) -> Vec<&'a HostId> {
    let reaches = [Reach::Down, Reach::Up, Reach::Busy, Reach::Away];
    let classes = reaches
        .into_iter()
        .flat_map(|reach| [Class::Ready(reach), Class::Preparing(reach), Class::Unprepared(reach)]);
    classes.flat_map(|class| after.index().hosts(zone, class)).collect()
}
