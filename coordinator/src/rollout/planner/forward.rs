//! A rollout on its way: the one box, then wave by wave in batches.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::rollout::{Cause, Exception, WaitingOn};

use super::floors::Floors;
use super::{CLOSED_PER_PLAN, Change, GRANTS_PER_PLAN, Grant, PREPARES_PER_PLAN, Plan, Turn};
use super::{open_grants, retry, unknown_health, updated_in};
use crate::environment::Environment;
use crate::environment::index::{Class, Reach, Wellness};
use crate::environment::member::Lane;
use crate::fleet::Fleet;
use crate::rollout::pacing::Extent;
use crate::rollout::{Rolling, Rollout, Stage};

pub(super) fn roll(
    environment: &Environment,
    rollout: &Rollout,
    rolling: &Rolling,
    fleet: &Fleet,
    now: FleetTime,
    plan: &mut Plan,
) {
    prepare_ahead(environment, rollout, rolling.wave, plan);
    if rolling.wave == 0 {
        one_box(environment, rollout, rolling, fleet, now, plan);
        return;
    }
    let zones = rollout.zones_of(rolling.wave);
    if zones.is_empty() {
        plan.changes.push(Change::Turn(Turn::Bake));
        return;
    }
    Wave { environment, rollout, rolling, zones }.go_on(fleet, now, plan);
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
        Some(Class::Ready(_)) if rolling.has_granted() => plan.changes.push(Change::Turn(Turn::NextBatch)),
        Some(Class::Ready(_)) => {
            // What an earlier rollout has in its hands, in whatever zone, ends first: one zone at a time.
            if let Some(waiting) = open_grants(environment, now) {
                plan.waiting.insert(0, waiting);
                return;
            }
            grant(environment, rollout, std::iter::once(std::iter::once(host)), plan);
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
    } else if let Some(waiting) =
        out_of_reach(environment, &rollout.zones.iter().collect::<Vec<_>>(), fleet, now).filter(holds)
    {
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

/// A wave after the one box.
struct Wave<'a> {
    environment: &'a Environment,
    rollout: &'a Rollout,
    rolling: &'a Rolling,
    zones: &'a [Zone],
}

impl Wave<'_> {
    fn go_on(&self, fleet: &Fleet, now: FleetTime, plan: &mut Plan) {
        let open = open_grants(self.environment, now);
        let health = unknown_health(self.environment);
        let is_quiet = open.is_none() && health.is_none();
        if is_quiet && self.goes_to_another_batch() {
            plan.changes.push(Change::Turn(Turn::NextBatch));
            return;
        }
        // Hosts of the batch that are still at it may be joined up to its size; the next one starts when every
        // one of this batch has ended well and every updated host is known to be well. Hosts in the middle of
        // an earlier change may be in any zone: zones that change at a time wait for them.
        let earlier = self.environment.index().count_all(Class::Finishing) > 0;
        let some_ready = self.zones.iter().any(|zone| self.ready_in(zone).next().is_some());
        if some_ready && health.is_none() && !earlier {
            grant(self.environment, self.rollout, self.zones.iter().map(|zone| self.ready_in(zone)), plan);
            if !plan.grants.is_empty() {
                return;
            }
        }
        if let Some(waiting) = [open, health].into_iter().flatten().next() {
            // Named first: what is being done explains more than what it holds up.
            plan.waiting.insert(0, waiting);
        } else if some_ready {
            // `grant` has said which floor.
        } else if let Some(waiting) = preparing(self.environment, &self.zones_with_room()) {
            plan.waiting.push(waiting);
        } else if let Some(waiting) = out_of_reach(self.environment, &self.zones_with_room(), fleet, now)
            && !matches!(waiting, WaitingOn::Silent { .. })
        {
            // The lost are left out when the last of the zone's hosts have had their turn.
            plan.waiting.push(waiting);
        } else {
            self.end(fleet, plan);
        }
    }

    /// Hosts of a zone that the batch may still take.
    fn room(&self, zone: &Zone) -> u32 {
        let Rolling { wave, batch, .. } = self.rolling;
        let today = self.environment.index().zone(zone).hosts;
        let size = self.rollout.batch_of(zone, *wave, *batch, today);
        size.saturating_sub(self.rolling.granted_in(zone))
    }

    /// Of a stripe only those that have hosts to give; of zones that are for everybody, all.
    fn zones_with_room(&self) -> Vec<&Zone> {
        let is_one_batch = self.rollout.extent(self.rolling.wave) == Extent::OneBatch;
        self.zones.iter().filter(|zone| !is_one_batch || self.room(zone) > 0).collect()
    }

    /// Hosts of a zone that the batch could take now, down ones first.
    fn ready_in(&self, zone: &Zone) -> impl Iterator<Item = &HostId> {
        self.all_ready_in(zone).take(self.room(zone) as usize)
    }

    fn all_ready_in(&self, zone: &Zone) -> impl Iterator<Item = &HostId> {
        let ready = |reach| self.environment.index().hosts(zone, Class::Ready(reach));
        ready(Reach::Down).chain(ready(Reach::Up))
    }

    /// Once every host of this batch has ended: whether others of the wave are ready. A stripe has one batch,
    /// unless all its grants came to nothing: then it has shown nothing.
    fn goes_to_another_batch(&self) -> bool {
        let any = |zone: &&Zone| self.all_ready_in(zone).next().is_some();
        let room = |zone: &&Zone| self.ready_in(zone).next().is_some();
        let is_over = match self.rollout.extent(self.rolling.wave) {
            Extent::Everybody => true,
            Extent::OneBatch => {
                !self.zones.iter().any(|zone| room(&zone)) && !is_proved(self.environment, self.rollout)
            }
        };
        self.rolling.has_granted() && self.zones.iter().any(|zone| any(&zone)) && is_over
    }

    /// Everything that could be done is done: who failed may be tried again, who is left is left out by name,
    /// then the wave bakes.
    fn end(&self, fleet: &Fleet, plan: &mut Plan) {
        let retries = |zone| retry::retries(self.environment, self.rollout, zone, fleet);
        let retries: Vec<Change> = self.zones.iter().flat_map(retries).take(CLOSED_PER_PLAN).collect();
        if !retries.is_empty() {
            plan.changes.extend(retries);
            return;
        }
        if self.rollout.extent(self.rolling.wave) == Extent::Everybody {
            leave_out_the_absent(self.environment, self.zones, plan);
        }
        if !plan.changes.iter().any(|change| matches!(change, Change::Except { .. })) {
            plan.changes.push(Change::Turn(Turn::Bake));
        }
    }
}

/// Whether hosts of every zone that the newest batch has moved run the target. A first batch whose grants were
/// void, or whose hosts were down before, has shown nothing: the next one is the first still.
pub(in crate::rollout) fn is_proved(environment: &Environment, rollout: &Rollout) -> bool {
    let Stage::Rolling(rolling) = &rollout.stage else { return true };
    rolling.wave == 0 || rolling.granted.keys().all(|zone| updated_in(environment, zone) > 0)
}

/// Remembers the zones of the newest batch in which hosts run the target. The one box proves nothing about the
/// zone that it is in.
pub(in crate::rollout) fn note_proven(environment: &Environment, rollout: &mut Rollout) {
    let Stage::Rolling(rolling) = &rollout.stage else { return };
    if rolling.wave > 0 {
        let proven = rolling.granted.keys().filter(|zone| updated_in(environment, zone) > 0).cloned();
        rollout.proven.extend(proven.collect::<Vec<_>>());
    }
}

/// Grants what the floors allow, zone by zone. Hosts that are down come first and cost nothing.
fn grant<'a, Hosts: Iterator<Item = &'a HostId>>(
    environment: &Environment,
    rollout: &Rollout,
    zones: impl Iterator<Item = Hosts>,
    plan: &mut Plan,
) {
    let mut floors = Floors::new(environment, &rollout.policy, Some(&rollout.planned));
    for hosts in zones {
        for host in hosts {
            if plan.grants.len() == GRANTS_PER_PLAN {
                return;
            }
            let Some(live) = environment.member(host) else { continue };
            // A floor protects a service that stays: an uninstall is bound by its batches.
            if live.may_serve()
                && !rollout.target.is_empty()
                && let Err(waiting) = floors.take(live)
            {
                // The fleet's floor is met again in the zones that follow, and is one reason; their first
                // hosts may be down, and then cost nothing.
                if !plan.waiting.contains(&waiting) {
                    plan.waiting.push(waiting);
                }
                break;
            }
            plan.grants.push(Grant {
                was_down: live.is_unhealthy(),
                host: host.clone(),
                lane: Lane::Rollout(rollout.id),
                release: rollout.target,
                way_back: rollout.way_back,
                taking_back: false,
            });
        }
    }
}

/// Hosts of these zones that are being prepared and can be reached.
fn preparing(environment: &Environment, zones: &[&Zone]) -> Option<WaitingOn> {
    let count = |class: fn(Reach) -> Class| -> u32 {
        let of = |zone: &Zone| -> u32 {
            [Reach::Up, Reach::Down].map(|reach| environment.index().count(zone, class(reach))).iter().sum()
        };
        zones.iter().copied().map(of).sum()
    };
    let (not_yet, ready) = (count(Class::Unprepared) + count(Class::Preparing), count(Class::Ready));
    (not_yet > 0).then_some(WaitingOn::Prepare { ready, of: not_yet + ready })
}

/// Hosts of these zones that cannot be told anything now. That they are silent is only said if nobody is left
/// who may be heard of soon.
fn out_of_reach(
    environment: &Environment,
    zones: &[&Zone],
    fleet: &Fleet,
    now: FleetTime,
) -> Option<WaitingOn> {
    let of = |reach| {
        let classes = [Class::Unprepared(reach), Class::Preparing(reach), Class::Ready(reach)];
        zones.iter().flat_map(move |zone| {
            classes.into_iter().flat_map(move |class| environment.index().hosts(zone, class))
        })
    };
    if let Some(host) = of(Reach::Busy).next()
        && let Some(elsewhere) = fleet.get(host).and_then(|entry| entry.granted_in.clone())
    {
        return Some(WaitingOn::OtherEnvironment { host: host.clone(), environment: elsewhere });
    }
    let mut silence = None;
    for entry in of(Reach::Away).filter_map(|host| fleet.get(host)) {
        if !entry.contact.lost {
            return Some(WaitingOn::NotHeardYet);
        }
        let since_start = entry.contact.last_seen.is_none();
        silence = Some(WaitingOn::Silent { for_about: entry.silence(now), since_start });
    }
    silence
}

/// Those that could not be reached in their zone's turn, and those that are held, by name.
fn leave_out_the_absent(environment: &Environment, zones: &[Zone], plan: &mut Plan) {
    let index = environment.index();
    let classes = [Class::Unprepared(Reach::Away), Class::Preparing(Reach::Away), Class::Ready(Reach::Away)];
    let of = |class| zones.iter().flat_map(move |zone| index.hosts(zone, class));
    let silent = classes.into_iter().flat_map(of).map(|host| (host, Exception::Silent));
    let held = of(Class::Held).map(|host| (host, Exception::Held));
    for (host, exception) in silent.chain(held).take(CLOSED_PER_PLAN) {
        plan.changes.push(Change::Except { host: host.clone(), exception });
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
    for zone in &rollout.zones {
        let index = environment.index();
        let of = |class: fn(Reach) -> Class| -> u32 {
            Reach::ALL.map(|reach| index.count(zone, class(reach))).iter().sum()
        };
        let wanted = wanted(rollout, zone, wave, index.zone(zone).hosts)
            .saturating_add(wanted(rollout, zone, wave + 1, index.zone(zone).hosts))
            .saturating_sub(of(Class::Preparing) + of(Class::Ready));
        let room = PREPARES_PER_PLAN.saturating_sub(plan.changes.len()).min(wanted as usize);
        let hosts = [Reach::Up, Reach::Down, Reach::Busy]
            .into_iter()
            .flat_map(|reach| index.hosts(zone, Class::Unprepared(reach)));
        plan.changes.extend(hosts.take(room).map(|host| prepare(rollout, host)));
    }
}

/// Hosts of a zone that a wave is for.
fn wanted(rollout: &Rollout, zone: &Zone, wave: u32, today: u32) -> u32 {
    match rollout.extent(wave) {
        _ if !rollout.zones_of(wave).contains(zone) => 0,
        Extent::OneBatch => rollout.batch_of(zone, wave, 1, today),
        Extent::Everybody => u32::MAX,
    }
}

fn prepare(rollout: &Rollout, host: &HostId) -> Change {
    Change::Prepare {
        host: host.clone(),
        lane: Lane::Rollout(rollout.id),
        release: rollout.target,
        way_back: rollout.way_back,
    }
}
