//! A rollout on its way: the one box, then one zone at a time in batches.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::policy::Pacing;
use houston_common::rollout::{Cause, Exception, WaitingOn};

use super::floors::Floors;
use super::{CLOSED_PER_PLAN, Change, GRANTS_PER_PLAN, Grant, PREPARES_PER_PLAN, Plan, Turn};
use super::{open_grants, retry, unknown_health};
use crate::environment::Environment;
use crate::environment::index::{Class, Reach, Wellness};
use crate::environment::member::Lane;
use crate::fleet::Fleet;
use crate::rollout::{Rolling, Rollout};

pub(super) fn roll(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    match rollout.policy.pacing {
        Pacing::Zonal => zonal(environment, rollout, rolling, fleet, now, plan),
    }
}

fn zonal(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    if rolling.wave == 0 {
        one_box(environment, rollout, rolling, fleet, now, plan);
        return;
    }
    prepare_ahead(environment, rollout, rolling.wave, plan);
    let Some(zone) = rollout.zones.get(rolling.wave as usize - 1) else {
        plan.changes.push(Change::Turn(Turn::Bake));
        return;
    };
    zone_wave(environment, rollout, rolling, zone, fleet, now, plan);
}

/// Wave 0: one host alone. A healthy one where there is one.
fn one_box(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    prepare_zone(environment, rollout, rollout.zones.first(), plan);
    let class = rolling.one_box.as_ref().and_then(|host| environment.member(host)?.class());
    let host = match (&rolling.one_box, class) {
        (Some(_), Some(Class::Updated(Wellness::Well))) => {
            plan.changes.push(Change::Turn(Turn::Bake));
            return;
        }
        (Some(_), Some(Class::Open | Class::Finishing | Class::Updated(_))) => {
            plan.waiting.extend(open_grants(environment, now).or_else(|| unknown_health(environment)));
            return;
        }
        (
            Some(host),
            Some(
                Class::Unprepared(Reach::Up | Reach::Down)
                | Class::Preparing(Reach::Up | Reach::Down)
                | Class::Ready(Reach::Up | Reach::Down),
            ),
        ) => host,
        // Not chosen yet, or out of reach by now: another one.
        _ => {
            match choose_one_box(environment, rollout) {
                Some(host) => plan.changes.push(Change::Turn(Turn::OneBox(host.clone()))),
                None => without_one_box(environment, rollout, fleet, now, plan),
            }
            return;
        }
    };
    match class {
        Some(Class::Unprepared(_)) => {
            plan.changes.retain(
                |change| !matches!(change, Change::Prepare { host: prepared, .. } if prepared == host),
            );
            plan.changes.insert(0, prepare(rollout, host));
        }
        // A grant of this wave came to nothing: void, or its host is gone.
        Some(Class::Ready(_)) if rolling.granted > 0 => plan.changes.push(Change::Turn(Turn::NextBatch)),
        Some(Class::Ready(_)) => {
            // What an earlier rollout has in its hands, in whatever zone, ends first: one zone at a time.
            if let Some(waiting) = open_grants(environment, now) {
                plan.waiting.insert(0, waiting);
                return;
            }
            grant(environment, rollout, vec![host.clone()], plan);
        }
        _ => plan.waiting.push(WaitingOn::Prepare { ready: 0, of: 1 }),
    }
}

/// The first host that could be the one box: available ones of the first zones first. Of hosts that
/// are as good, one that is prepared already.
fn choose_one_box<'a>(environment: &'a Environment, rollout: &Rollout) -> Option<&'a HostId> {
    let index = environment.index();
    [Reach::Up, Reach::Down].into_iter().find_map(|reach| {
        rollout.zones.iter().find_map(|zone| {
            [Class::Ready(reach), Class::Preparing(reach), Class::Unprepared(reach)]
                .into_iter()
                .find_map(|class| index.hosts(zone, class).next())
        })
    })
}

/// No host can be the one box now: everything is done already, or nobody can be reached.
fn without_one_box(
    environment: &Environment,
    rollout: &Rollout,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    let index = environment.index();
    let nobody_is_updated = index.count_all(Class::Updated(Wellness::Well)) == 0;
    // Where hosts run the target already, those that are lost are left out at the end of their zone's wave.
    let holds = |waiting: &WaitingOn| nobody_is_updated || !matches!(waiting, WaitingOn::Silent { .. });
    if let Some(waiting) = open_grants(environment, now).or_else(|| unknown_health(environment)) {
        plan.waiting.push(waiting);
    } else if let Some(waiting) = out_of_reach(environment, None, fleet, now).filter(holds) {
        plan.waiting.push(waiting);
    } else if !nobody_is_updated {
        plan.changes.push(Change::Turn(Turn::Bake));
    } else if index.count_all(Class::Ended) > 0 {
        // Every host was left out: a release that no host has ever run must not become the baked one.
        let exceptions = rollout.exceptions;
        plan.changes.push(Change::Turn(Turn::Halt(Cause::NobodyUpdated { exceptions })));
    } else if let Some(host) = index.all(Class::Held).next() {
        plan.waiting
            .push(WaitingOn::HeldHosts { hosts: vec![host.clone()], more: index.count_all(Class::Held) - 1 });
    } else {
        plan.waiting.push(WaitingOn::NothingToRun);
    }
}

fn zone_wave(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    zone: &Zone,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    let index = environment.index();
    // Hosts of the batch that are still at it may be joined up to its size; the next batch starts
    // when every one of this batch has ended well and every updated host is known to be well.
    let open = open_grants(environment, now);
    let health = unknown_health(environment);
    let size = batch_size(environment, rollout, zone);
    // Hosts in the middle of an earlier change may be in any zone: one zone at a time waits for them.
    let earlier = index.count_all(Class::Finishing) > 0;
    let fresh = !earlier && (rolling.granted == 0 || (open.is_some() && rolling.granted < size));
    let ready = |reach| index.hosts(zone, Class::Ready(reach));
    let some_ready = ready(Reach::Down).chain(ready(Reach::Up)).next().is_some();
    if some_ready && health.is_none() && open.is_none() && rolling.granted > 0 {
        plan.changes.push(Change::Turn(Turn::NextBatch));
        return;
    }
    if some_ready && health.is_none() && fresh {
        let room = (size - rolling.granted.min(size)) as usize;
        let hosts = ready(Reach::Down).chain(ready(Reach::Up)).take(room).cloned().collect();
        grant(environment, rollout, hosts, plan);
        if !plan.grants.is_empty() {
            return;
        }
    }
    let held_up = [open, health].into_iter().flatten().next();
    if let Some(waiting) = held_up {
        // Named first: what is being done explains more than what it holds up.
        plan.waiting.insert(0, waiting);
    } else if some_ready {
        // `grant` has said which floor.
    } else if let Some(waiting) = preparing(environment, zone) {
        plan.waiting.push(waiting);
    } else if let Some(waiting) = out_of_reach(environment, Some(zone), fleet, now) {
        plan.waiting.push(waiting);
    } else {
        end_wave(environment, rollout, zone, fleet, plan);
    }
}

/// Hosts of a zone that are granted together.
fn batch_size(environment: &Environment, rollout: &Rollout, zone: &Zone) -> u32 {
    let began_with = rollout.members.get(zone).copied().unwrap_or_default();
    rollout.policy.batch.at_most_of(began_with.min(environment.index().zone(zone).hosts))
}

/// Grants what the floors allow. Hosts that are down come first and cost nothing.
fn grant(environment: &Environment, rollout: &Rollout, hosts: Vec<HostId>, plan: &mut Plan) {
    let mut floors = Floors::new(environment, &rollout.policy, Some(&rollout.planned));
    for host in hosts.into_iter().take(GRANTS_PER_PLAN) {
        let Some(live) = environment.member(&host) else { continue };
        // A floor protects a service that stays: an uninstall is bound by its batches.
        if live.may_serve()
            && !rollout.target.is_empty()
            && let Err(waiting) = floors.take(live)
        {
            plan.waiting.push(waiting);
            return;
        }
        plan.grants.push(Grant {
            was_down: live.is_unhealthy(),
            host,
            lane: Lane::Rollout(rollout.id),
            release: rollout.target,
            way_back: rollout.way_back,
            taking_back: false,
        });
    }
}

/// Hosts of the zone that are being prepared and can be reached.
fn preparing(environment: &Environment, zone: &Zone) -> Option<WaitingOn> {
    let index = environment.index();
    let count = |class: fn(Reach) -> Class| {
        [Reach::Up, Reach::Down].into_iter().map(|reach| index.count(zone, class(reach))).sum::<u32>()
    };
    let (not_yet, ready) = (count(Class::Unprepared) + count(Class::Preparing), count(Class::Ready));
    (not_yet > 0).then_some(WaitingOn::Prepare { ready, of: not_yet + ready })
}

/// Hosts, of one zone or of all, that cannot be told anything now but may be soon.
fn out_of_reach(
    environment: &Environment,
    zone: Option<&Zone>,
    fleet: &Fleet,
    now: FleetTime,
) -> Option<WaitingOn> {
    let index = environment.index();
    let hosts = |class: Class| -> Vec<&HostId> {
        match zone {
            Some(zone) => index.hosts(zone, class).collect(),
            None => index.all(class).collect(),
        }
    };
    let classes = [Class::Unprepared, Class::Preparing, Class::Ready];
    let busy = classes.iter().find_map(|class| hosts(class(Reach::Busy)).first().copied());
    if let Some(host) = busy
        && let Some(elsewhere) = fleet.get(host).and_then(|entry| entry.granted_in.clone())
    {
        return Some(WaitingOn::OtherEnvironment { host: host.clone(), environment: elsewhere });
    }
    let away = classes.iter().flat_map(|class| hosts(class(Reach::Away)));
    let mut silence = None;
    for host in away {
        let Some(entry) = fleet.get(host) else { continue };
        if !entry.contact.lost {
            return Some(WaitingOn::NotHeardYet);
        }
        let since_start = entry.contact.last_seen.is_none();
        silence = Some(WaitingOn::Silent { for_about: entry.silence(now), since_start });
    }
    // In a zone's wave the lost are left out at its end; with no wave begun there is nothing to end.
    silence.filter(|_| zone.is_none())
}

/// Everything that could be done in the zone is done: who failed may be tried again, who is left is left
/// out by name, then it bakes.
fn end_wave(environment: &Environment, rollout: &Rollout, zone: &Zone, fleet: &Fleet, plan: &mut Plan) {
    let retries = retry::retries(environment, rollout, zone, fleet);
    if !retries.is_empty() {
        plan.changes.extend(retries);
        return;
    }
    let index = environment.index();
    let classes = [Class::Unprepared(Reach::Away), Class::Preparing(Reach::Away), Class::Ready(Reach::Away)];
    let silent = classes.into_iter().flat_map(|class| index.hosts(zone, class));
    let silent = silent.map(|host| (host, Exception::Silent));
    let held = index.hosts(zone, Class::Held).map(|host| (host, Exception::Held));
    for (host, exception) in silent.chain(held).take(CLOSED_PER_PLAN) {
        plan.changes.push(Change::Except { host: host.clone(), exception });
    }
    if !plan.changes.iter().any(|change| matches!(change, Change::Except { .. })) {
        plan.changes.push(Change::Turn(Turn::Bake));
    }
}

/// Before the end: hosts that were passed by (a disk that was replaced after its zone's wave, say) are
/// named; the standing lane takes care of them.
pub(super) fn leave_out_the_rest(environment: &Environment, plan: &mut Plan) {
    let index = environment.index();
    let passed_by = Reach::ALL
        .into_iter()
        .flat_map(|reach| [Class::Unprepared(reach), Class::Preparing(reach), Class::Ready(reach)])
        .flat_map(|class| index.all(class))
        .map(|host| (host, Exception::PassedBy));
    let held = index.all(Class::Held).map(|host| (host, Exception::Held));
    for (host, exception) in passed_by.chain(held).take(CLOSED_PER_PLAN) {
        plan.changes
            .retain(|change| !matches!(change, Change::Prepare { host: prepared, .. } if prepared == host));
        plan.changes.push(Change::Except { host: host.clone(), exception });
    }
}

/// Prepare runs one wave ahead: the current wave's hosts and the next one's.
pub(super) fn prepare_ahead(environment: &Environment, rollout: &Rollout, wave: u32, plan: &mut Plan) {
    let current = (wave as usize).checked_sub(1);
    prepare_zone(environment, rollout, current.and_then(|zone| rollout.zones.get(zone)), plan);
    prepare_zone(environment, rollout, rollout.zones.get(wave as usize), plan);
}

fn prepare_zone(environment: &Environment, rollout: &Rollout, zone: Option<&Zone>, plan: &mut Plan) {
    let Some(zone) = zone else { return };
    let room = PREPARES_PER_PLAN.saturating_sub(plan.changes.len());
    let hosts = [Reach::Up, Reach::Down, Reach::Busy]
        .into_iter()
        .flat_map(|reach| environment.index().hosts(zone, Class::Unprepared(reach)));
    plan.changes.extend(hosts.take(room).map(|host| prepare(rollout, host)));
}

fn prepare(rollout: &Rollout, host: &HostId) -> Change {
    Change::Prepare {
        host: host.clone(),
        lane: Lane::Rollout(rollout.id),
        release: rollout.target,
        way_back: rollout.way_back,
    }
}
