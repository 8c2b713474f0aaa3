//! The way back: hosts that started the change return, no more zones at a time than forward, floors held, no
//! bakes.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::id::Zone;
use houston_common::rollout::{Exception, WaitingOn};

use super::floors::Floors;
use super::{CLOSED_PER_PLAN, Change, GRANTS_PER_PLAN, Grant, Plan, Turn, open_grants};
use crate::environment::Environment;
use crate::environment::index::{Class, Reach};
use crate::environment::member::Lane;
use crate::fleet::Fleet;
use crate::rollout::Rollout;

pub(super) fn take_back(
    environment: &Environment,
    rollout: &Rollout,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    grant(environment, rollout, &current_zones(environment, rollout), plan);
    if !plan.grants.is_empty() {
        return;
    }
    if let Some(waiting) = open_grants(environment, now) {
        plan.waiting.insert(0, waiting);
        return;
    }
    if !plan.waiting.is_empty() {
        return;
    }
    let index = environment.index();
    if let Some(host) = index.all(Class::ToTakeBack(Reach::Busy)).next() {
        if let Some(elsewhere) = fleet.get(host).and_then(|entry| entry.granted_in.clone()) {
            plan.waiting.push(WaitingOn::OtherEnvironment { host: host.clone(), environment: elsewhere });
        }
        return;
    }
    for host in index.all(Class::ToTakeBack(Reach::Away)).take(CLOSED_PER_PLAN) {
        match fleet.get(host) {
            Some(entry) if !entry.contact.lost => {
                plan.changes.clear();
                plan.waiting.push(WaitingOn::NotHeardYet);
                return;
            }
            _ => plan
                .changes
                .push(Change::Except { host: host.clone(), exception: Exception::LostAfterSettling }),
        }
    }
    let room = CLOSED_PER_PLAN - plan.changes.len();
    let held = index.all(Class::Held).take(room);
    plan.changes.extend(held.map(|host| Change::Except { host: host.clone(), exception: Exception::Held }));
    if plan.changes.is_empty() {
        plan.changes.push(Change::Turn(Turn::EndRollback));
    }
}

/// The zones in which hosts are moving back, then others that have some to move, as many as may change at once.
fn current_zones<'a>(environment: &Environment, rollout: &'a Rollout) -> Vec<&'a Zone> {
    let index = environment.index();
    let is_moving = |zone: &&Zone| index.count(zone, Class::Open) + index.count(zone, Class::Finishing) > 0;
    let has_some = |zone: &&Zone| {
        [Reach::Down, Reach::Up].into_iter().any(|reach| index.count(zone, Class::ToTakeBack(reach)) > 0)
    };
    let known = || rollout.zones.iter();
    let others = known().filter(|zone| !is_moving(zone) && has_some(zone));
    known().filter(is_moving).chain(others).take(rollout.zones_at_once()).collect()
}

fn grant(environment: &Environment, rollout: &Rollout, zones: &[&Zone], plan: &mut Plan) {
    let index = environment.index();
    let moving = index.count_all(Class::Open) + index.count_all(Class::Finishing);
    let size = rollout.policy.rollback_batch.at_most_of(rollout.hosts());
    let room = size.saturating_sub(moving) as usize;
    let destination = rollout.destination();
    let mut floors = Floors::new(environment, &rollout.policy, Some(&rollout.planned));
    let to_move = [Reach::Down, Reach::Up].map(Class::ToTakeBack);
    let hosts = zones.iter().flat_map(|zone| to_move.into_iter().flat_map(|class| index.hosts(zone, class)));
    let mut full: Option<&Zone> = None;
    for host in hosts {
        if plan.grants.len() >= room.min(GRANTS_PER_PLAN) {
            return;
        }
        let Some(live) = environment.member(host).filter(|live| full != Some(&live.member.zone)) else {
            continue;
        };
        // A floor protects a service that stays. Taking the last of it away is bound by batches.
        if live.may_serve()
            && !destination.is_empty()
            && let Err(waiting) = floors.take(live)
        {
            // As on the way forward: those of the next zone may be down.
            if !plan.waiting.contains(&waiting) {
                plan.waiting.push(waiting);
            }
            full = Some(&live.member.zone);
            continue;
        }
        plan.grants.push(Grant {
            host: host.clone(),
            lane: Lane::Rollout(rollout.id),
            release: destination,
            // A rollback is never rolled back: if it fails, the host stops there.
            way_back: destination,
            was_down: false,
            taking_back: true,
        });
    }
}
