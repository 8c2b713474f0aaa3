//! **Decision.** What must hold of any plan, stated by a second mind: this file shares no code with
//! the planner, reads the hosts' own records rather than classes, and runs before every commit. A
//! plan that breaks a law is not committed; the rollout halts and names the law.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::policy::gate::Gate;
use houston_common::policy::{Pacing, Policy};
use houston_common::report::{HealthReport, Phase};
use houston_common::view::Presence;

use super::gates::Value;
use super::planner::{Change, GateValues, Grant, Plan, Turn};
use super::{Direction, Rolling, Rollout, Stage};
use crate::environment::index::{Class, Reach, Wellness};
use crate::environment::member::{Lane, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Entry, Fleet};

/// A law that a plan broke. The text goes to the operator and to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{law}: {detail}")]
pub struct Violation {
    pub law: &'static str,
    pub detail: String,
}

fn broken<T>(law: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { law, detail: detail.into() })
}

/// Judges a plan by the state before it.
pub fn check(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    plan: &Plan,
    now: FleetTime,
) -> Result<(), Violation> {
    if gates.regressed && !plan.grants.is_empty() {
        return broken("regressed", "a grant while the store has gone back in time");
    }
    let mut seen = BTreeSet::new();
    for grant in &plan.grants {
        if !seen.insert(&grant.host) {
            return broken("one-grant", format!("{} twice in one plan", grant.host));
        }
        may_be_granted(environment, fleet, grant)?;
    }
    floors_hold(environment, fleet, plan)?;
    if let Some(rollout) = &environment.rollout {
        rollout_grants(environment, rollout, plan)?;
        turns(environment, rollout, gates, plan, now)?;
    } else if plan.grants.iter().any(|grant| grant.lane != Lane::Standing) {
        return broken("active", "a grant of a rollout that is not active");
    }
    Ok(())
}

fn may_be_granted(environment: &Environment, fleet: &Fleet, grant: &Grant) -> Result<(), Violation> {
    let host = &grant.host;
    let (Some(entry), Some(live)) = (fleet.get(host), environment.member(host)) else {
        return broken("scope", format!("{host} is no member"));
    };
    if live.member.detached {
        return broken("scope", format!("{host} is detached"));
    }
    if live.member.grant.is_some() || entry.granted_in.is_some() {
        return broken("one-grant", format!("{host} has an open grant"));
    }
    if entry.host.held.is_some() || entry.host.revoked {
        return broken("held", format!("{host} is held"));
    }
    if live.member.boxed_until.is_some() && !grant.taking_back {
        return broken("penalty-box", format!("{host} is in the penalty box"));
    }
    if entry.presence() != Presence::Seen {
        return broken("silent", format!("{host} is not there to be told"));
    }
    Ok(())
}

/// By its own word, which may be older than what it was told last.
fn may_serve(live: &Live, entry: &Entry, environment: &Environment) -> bool {
    let member = &live.member;
    let in_service = !member.detached && matches!(member.settled, Some(release) if !release.is_empty());
    let healthy =
        matches!(live.report.as_ref().map(|report| &report.health), Some(HealthReport::Healthy { .. }));
    let elsewhere = matches!(&entry.granted_in, Some(name) if name != environment.name());
    in_service
        && healthy
        && member.grant.is_none()
        && !elsewhere
        && !entry.host.drained
        && entry.contact.last_seen.is_some()
        && !entry.contact.lost
}

fn is_at_rest(live: &Live) -> bool {
    let Some(report) = &live.report else { return false };
    let on_its_way = matches!(
        report.phase,
        Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Proving | Phase::Reverting
    );
    let said = report.stamp.map(|stamp| stamp.generation);
    let unheard =
        matches!(live.member.told, Some(told) if told.is_activate() && said != Some(told.generation));
    !on_its_way && !unheard
}

/// Floors, reckoned as budgets of unavailable hosts from the counters of the zones touched.
fn floors_hold(environment: &Environment, fleet: &Fleet, plan: &Plan) -> Result<(), Violation> {
    let mut taken: BTreeMap<&Zone, u32> = BTreeMap::new();
    for grant in &plan.grants {
        let (Some(entry), Some(live)) = (fleet.get(&grant.host), environment.member(&grant.host)) else {
            continue;
        };
        if may_serve(live, entry, environment) && !grant.release.is_empty() {
            // One that may be in the middle of something is among those away already.
            *taken.entry(&live.member.zone).or_default() += u32::from(is_at_rest(live));
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    let rollout = environment.rollout.as_ref();
    let of_rollout = plan.grants.iter().any(|grant| grant.lane != Lane::Standing);
    let rollout = rollout.filter(|_| of_rollout);
    let policy = rollout.map_or(&environment.definition.policy, |rollout| &rollout.policy);
    let total = environment.index().total();
    let planned = rollout.map(|rollout| rollout.planned.values().sum()).filter(|planned| *planned > 0);
    let away = total.in_service - total.available + taken.values().sum::<u32>();
    let base = planned.unwrap_or(total.in_service).min(total.in_service);
    let budget = base.saturating_sub(policy.fleet_floor.at_least_of(base));
    if away > budget {
        return broken("fleet-floor", format!("{away} hosts away from the service, {budget} allowed"));
    }
    let Some(share) = policy.zone_floor else { return Ok(()) };
    for (zone, taken) in taken {
        let counts = environment.index().zone(zone);
        let planned = rollout.and_then(|rollout| rollout.planned.get(zone).copied()).filter(|n| *n > 0);
        let base = planned.unwrap_or(counts.in_service).min(counts.in_service);
        let budget = base.saturating_sub(share.at_least_of(base));
        let away = counts.in_service - counts.available + taken;
        if away > budget {
            return broken("zone-floor", format!("{away} hosts of {zone} away, {budget} allowed"));
        }
    }
    Ok(())
}

fn rollout_grants(environment: &Environment, rollout: &Rollout, plan: &Plan) -> Result<(), Violation> {
    let grants: Vec<&Grant> = plan.grants.iter().filter(|grant| grant.lane != Lane::Standing).collect();
    if grants.is_empty() {
        return Ok(());
    }
    if grants.iter().any(|grant| grant.lane != Lane::Rollout(rollout.id)) {
        return broken("active", "a grant of a rollout that is not active");
    }
    if rollout.paused.is_some() {
        return broken("paused", "a grant while the rollout is paused");
    }
    zones_at_a_time(environment, rollout, &grants)?;
    match &rollout.stage {
        Stage::Rolling(rolling) => {
            let updated = updated(environment);
            if rollout.first_failure.is_some() || rollout.failures > rollout.failures_allowed(updated) {
                return broken("failure-budget", "a grant above the failure budget");
            }
            if rollout.zone_over_budget(|zone| updated_in(environment, zone)).is_some() {
                return broken("failure-budget", "a grant above a zone's failure budget");
            }
            for grant in &grants {
                has_a_turn(environment, rollout, grant)?;
            }
            batches(environment, rollout, rolling, &grants)?;
            Ok(())
        }
        Stage::RollingBack => {
            let started = |grant: &Grant| {
                environment.member(&grant.host).is_some_and(|live| has_started(rollout, live))
            };
            if grants.iter().any(|grant| grant.release != rollout.destination() || !started(grant)) {
                return broken("untouched", "a rollback touches a host that did not start the change");
            }
            let size = rollout.policy.rollback_batch.at_most_of(rollout.hosts());
            // Joins that the standing lane had granted before are none of the rollback's.
            let moving = [Class::Open, Class::Finishing].map(|class| environment.index().count_all(class));
            if moving.into_iter().sum::<u32>() + grants.len() as u32 > size {
                return broken("rollback-batch", format!("more than {size} hosts moving at once"));
            }
            Ok(())
        }
        Stage::Baking { .. } => broken("bake", "a grant in the middle of a bake"),
        Stage::Gated { .. } => broken("gate", "a grant while gates are waited at"),
        Stage::Halted => broken("halt", "a grant after the halt"),
        Stage::Succeeded | Stage::RolledBack | Stage::Superseded { .. } | Stage::Aborted => {
            broken("active", "a grant after the end")
        }
    }
}

/// Under zonal pacing no more zones change than may at once, whatever hosts of them are in the middle of.
fn zones_at_a_time(environment: &Environment, rollout: &Rollout, grants: &[&Grant]) -> Result<(), Violation> {
    let at_once = match rollout.policy.pacing {
        Pacing::Zonal => rollout.policy.zones_at_once as usize,
        Pacing::Striped => return Ok(()),
    };
    let mut zones: BTreeSet<&Zone> =
        grants.iter().filter_map(|grant| zone_of(environment, &grant.host)).collect();
    if zones.len() > at_once {
        return broken("one-zone", format!("grants in {} zones", zones.len()));
    }
    let moving = environment.index().zones().map(|(zone, _)| zone);
    zones.extend(moving.filter(|zone| open_in(environment, rollout, zone)));
    if zones.len() > at_once {
        return broken("one-zone", "a grant while another zone is in the middle of the change");
    }
    Ok(())
}

/// No zone has more hosts in a batch than the policy says of those that it began with, and none that is not in
/// the wave has any.
fn batches(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    grants: &[&Grant],
) -> Result<(), Violation> {
    let mut taken: BTreeMap<&Zone, u32> = BTreeMap::new();
    for zone in grants.iter().filter_map(|grant| zone_of(environment, &grant.host)) {
        *taken.entry(zone).or_default() += 1;
    }
    if rolling.wave == 0 {
        let hosts = taken.values().chain(rolling.granted.values()).sum::<u32>();
        return if hosts > 1 { broken("batch", format!("{hosts} hosts in the one box")) } else { Ok(()) };
    }
    let Policy { pacing, zones_at_once, .. } = &rollout.policy;
    for (zone, taken) in taken {
        let place = rollout.zones.iter().position(|other| other == zone);
        let wave = place.map(|place| place as u32 / zones_at_once + 1);
        if *pacing == Pacing::Zonal && wave != Some(rolling.wave) {
            return broken("wave", "a grant outside of the current wave");
        }
        let grown = rollout.earned
            + (rolling.batch - 1)
            + if *pacing == Pacing::Striped { rolling.wave - 1 } else { 0 };
        let began_with = rollout.members.get(zone).copied().unwrap_or(0);
        let size = rollout.policy.batch_of(environment.index().zone(zone).hosts.min(began_with), grown);
        let hosts = taken + rolling.granted.get(zone).copied().unwrap_or(0);
        if hosts > size {
            return broken("batch", format!("{hosts} hosts of {zone} in one batch, {size} allowed"));
        }
    }
    Ok(())
}

/// It goes to the target, was not left out, and has not had its turn in this rollout, nor more retries than
/// the policy has.
fn has_a_turn(environment: &Environment, rollout: &Rollout, grant: &Grant) -> Result<(), Violation> {
    if grant.release != rollout.target || grant.taking_back {
        return broken("destination", "a grant of something other than the target");
    }
    if rollout.excluded.contains(&grant.host) {
        return broken("excluded", format!("{} was left out by name", grant.host));
    }
    let Some(member) = environment.member(&grant.host).map(|live| &live.member) else { return Ok(()) };
    let ended = matches!(member.step, Step::Settled | Step::Reverted | Step::Failed | Step::Excepted(_));
    let own = member.lane == Lane::Rollout(rollout.id);
    if own && (ended || member.retries > rollout.policy.retries) {
        return broken("attempts", format!("{} again without a retry", grant.host));
    }
    Ok(())
}

fn updated(environment: &Environment) -> u32 {
    let updated = [Wellness::Well, Wellness::Unknown, Wellness::Lost].map(Class::Updated);
    updated.into_iter().map(|class| environment.index().count_all(class)).sum()
}

fn updated_in(environment: &Environment, zone: &Zone) -> u32 {
    let updated = [Wellness::Well, Wellness::Unknown, Wellness::Lost].map(Class::Updated);
    updated.into_iter().map(|class| environment.index().count(zone, class)).sum()
}

fn zone_of<'a>(environment: &'a Environment, host: &HostId) -> Option<&'a Zone> {
    environment.member(host).map(|live| &live.member.zone)
}

fn open_in(environment: &Environment, rollout: &Rollout, zone: &Zone) -> bool {
    // The class only finds candidates; each is judged by its own record.
    environment.index().hosts(zone, Class::Open).any(|host| {
        environment
            .member(host)
            .is_some_and(|live| live.member.grant.is_some() && live.member.lane == Lane::Rollout(rollout.id))
    })
}

fn has_started(rollout: &Rollout, live: &Live) -> bool {
    match rollout.direction {
        Direction::Forward => match live.member.started {
            Some(id) => id == rollout.id || rollout.inherits.contains(&id),
            None => false,
        },
        Direction::Back { .. } => live.member.settled == Some(rollout.way_back),
    }
}

fn turns(
    environment: &Environment,
    rollout: &Rollout,
    gates: &GateValues,
    plan: &Plan,
    now: FleetTime,
) -> Result<(), Violation> {
    for change in &plan.changes {
        let Change::Turn(turn) = change else { continue };
        if !plan.grants.is_empty() && !matches!(turn, Turn::NextBatch | Turn::OneBox(_)) {
            return broken("one-thing", "a turn of the rollout beside grants");
        }
        match turn {
            Turn::NextBatch | Turn::Bake => {
                if environment.index().zones().any(|(zone, _)| open_in(environment, rollout, zone)) {
                    return broken(
                        "batch",
                        "a batch or a bake before every host of the last batch has ended",
                    );
                }
            }
            Turn::NextWave | Turn::Succeed => {
                let is_open = |gate: &Gate| gates.gates.get(&gate.name) == Some(&Value::Open);
                match rollout.stage {
                    Stage::Baking { left, since, .. } if now.since(since) < left => {
                        return broken("bake", "the bake was cut short");
                    }
                    Stage::Baking { wave, .. } if rollout.gates_before(wave + 1).next().is_some() => {
                        return broken("gate", "gates were passed by");
                    }
                    Stage::Baking { .. } => {}
                    Stage::Gated { before, .. } if !rollout.undecided(before).all(is_open) => {
                        return broken("gate", "a closed gate was passed");
                    }
                    Stage::Gated { .. } => {}
                    Stage::Rolling(_)
                    | Stage::RollingBack
                    | Stage::Halted
                    | Stage::Succeeded
                    | Stage::RolledBack
                    | Stage::Superseded { .. }
                    | Stage::Aborted => return broken("bake", "a wave or an end without a bake"),
                }
                if environment.index().count_all(Class::Updated(Wellness::Unknown)) > 0 {
                    return broken("health", "a bake's end while an updated host is not known to be well");
                }
                if *turn == Turn::Succeed {
                    complete(environment, rollout)?;
                }
            }
            Turn::EndRollback => {
                let reachable = [Reach::Up, Reach::Down].map(Class::ToTakeBack);
                if reachable.into_iter().any(|class| environment.index().count_all(class) > 0) {
                    return broken("complete", "the end of a rollback with hosts still to take back");
                }
            }
            Turn::Halt(_) | Turn::RollBack(_) | Turn::OneBox(_) | Turn::Gate(_) => {}
        }
    }
    Ok(())
}

/// Complete means all: every host in scope runs the target, or is named. The one walk over the
/// members, once per rollout.
fn complete(environment: &Environment, rollout: &Rollout) -> Result<(), Violation> {
    for live in environment.members() {
        let member = &live.member;
        if member.detached || member.joined >= rollout.id {
            continue;
        }
        let own = member.lane == Lane::Rollout(rollout.id);
        let named = own && matches!(member.step, Step::Excepted(_) | Step::Reverted | Step::Failed);
        if member.settled != Some(rollout.target) && !named {
            return broken("complete", format!("{} neither runs the target nor is named", member.host));
        }
    }
    Ok(())
}
