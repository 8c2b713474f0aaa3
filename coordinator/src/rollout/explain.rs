//! **Decision.** Why one host is not updated, and when its turn comes: from the same classes that the
//! planner picks from.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::error::Code;
use houston_common::id::HostId;
use houston_common::rollout::{Cause, Exception, Held, Quiet, WaitingOn};

use super::planner::{self, GateValues};
use super::{Rollout, Stage};
use crate::environment::index::{Class, Reach, Wellness};
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Entry, Fleet, HOLD};

/// Silence after which a granted host is said to be quiet: a hold, and half of one for the next call to
/// arrive. Where hosts are lost sooner, half of that.
const QUIET_AFTER: Duration = Duration::from_millis(HOLD.as_millis() as u64 * 3 / 2);
/// Hosts that a reason names.
const NAMED_MAX: usize = 5;

/// What the planner waits for, and who of those it waits for has gone quiet.
pub fn waiting(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Vec<WaitingOn> {
    let mut waiting = planner::plan(environment, fleet, gates, now).waiting;
    for waiting in &mut waiting {
        if let WaitingOn::Batch { quiet, .. } = waiting {
            let index = environment.index();
            let granted = index.all(Class::Open).chain(index.all(Class::Finishing));
            let found = granted.filter_map(|host| quiet_host(environment.member(host)?, fleet, now));
            *quiet = found.take(NAMED_MAX).collect();
        }
    }
    waiting
}

/// Why nothing more happens in the environment: what its rollout waits for, and who is not where it is.
pub fn explain_environment(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Vec<WaitingOn> {
    let mut reasons = waiting(environment, fleet, gates, now);
    reasons.extend(catch_up(environment));
    if environment.rollout.is_none() {
        reasons.extend(off_baked(environment, fleet, now));
    }
    reasons
}

/// Hosts of the standing lane.
fn catch_up(environment: &Environment) -> Option<WaitingOn> {
    let index = environment.index();
    let kinds: [fn(Reach) -> Class; 3] = [Class::LaneUnprepared, Class::LanePreparing, Class::LaneReady];
    let of = |reach: Reach| kinds.into_iter().map(move |kind| kind(reach));
    let count = |reach| of(reach).map(|class| index.count_all(class)).sum::<u32>();
    let (open, away) = (index.count_all(Class::LaneOpen), count(Reach::Away));
    let all = open + Reach::ALL.into_iter().map(count).sum::<u32>();
    // Who cannot be reached explains more than who is at it.
    let classes = of(Reach::Away).chain([Class::LaneOpen]);
    let classes = classes.chain([Reach::Busy, Reach::Down, Reach::Up].into_iter().flat_map(of));
    let hosts: Vec<HostId> = classes.flat_map(|class| index.all(class)).take(NAMED_MAX).cloned().collect();
    (all > 0).then(|| WaitingOn::CatchUp { more: all - hosts.len() as u32, hosts, away })
}

/// Hosts that an aborted or superseded rollout has left where they are. The walk is for one answer to one
/// person, and only where the counts say that there are some.
fn off_baked(environment: &Environment, fleet: &Fleet, now: FleetTime) -> Vec<WaitingOn> {
    if environment.index().total().off_baked == 0 {
        return Vec::new();
    }
    let is_held =
        |live: &&Live| fleet.get(&live.member.host).is_some_and(|entry| held(live, entry, now).is_some());
    let stays = environment.members().filter(|live| stays_off_baked(environment, live));
    let (kept, others): (Vec<&Live>, Vec<&Live>) = stays.partition(is_held);
    let named = |of: &[&Live]| -> (Vec<HostId>, u32) {
        let hosts = of.iter().take(NAMED_MAX).map(|live| live.member.host.clone()).collect();
        (hosts, of.len().saturating_sub(NAMED_MAX) as u32)
    };
    let ((held_hosts, more_held), (hosts, more)) = (named(&kept), named(&others));
    let held = WaitingOn::HeldHosts { hosts: held_hosts, more: more_held };
    let off = WaitingOn::OffBaked { hosts, more };
    [(!kept.is_empty()).then_some(held), (!others.is_empty()).then_some(off)].into_iter().flatten().collect()
}

fn stays_off_baked(environment: &Environment, live: &Live) -> bool {
    live.member.in_service()
        && live.member.settled != Some(environment.definition.baked)
        && live.class() == Some(Class::Rest)
}

fn quiet_host(live: &Live, fleet: &Fleet, now: FleetTime) -> Option<Quiet> {
    let entry = fleet.get(&live.member.host)?;
    let silence = entry.silence(now);
    (silence > QUIET_AFTER.min(fleet.lost_after() / 2)).then(|| Quiet {
        host: live.member.host.clone(),
        last_heard: entry.contact.last_seen.map(|_| silence),
        phase: live.phase_of_grant(),
    })
}

/// Absent if the host is no member of the environment.
pub fn explain(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    host: &HostId,
    now: FleetTime,
) -> Option<WaitingOn> {
    let (live, entry) = (environment.member(host)?, fleet.get(host)?);
    Some(explain_member(environment, fleet, gates, live, entry, now))
}

fn explain_member(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    live: &Live,
    entry: &Entry,
    now: FleetTime,
) -> WaitingOn {
    if live.member.detached {
        return WaitingOn::Detached;
    }
    if let Some(grant) = live.member.grant {
        let quiet = quiet_host(live, fleet, now);
        return WaitingOn::Granted { quiet, deadline_in: grant.deadline.since(now) };
    }
    let rollout = environment.rollout.as_ref().filter(|rollout| live.member.in_scope(rollout.id));
    match (live.class(), rollout) {
        (
            Some(
                Class::Unprepared(reach)
                | Class::Preparing(reach)
                | Class::Ready(reach)
                | Class::ToTakeBack(reach),
            ),
            Some(rollout),
        ) => in_rollout(environment, rollout, fleet, gates, live, entry, reach, now),
        (Some(Class::LaneUnprepared(reach) | Class::LanePreparing(reach) | Class::LaneReady(reach)), _) => {
            in_lane(environment, fleet, gates, live, entry, reach, now)
        }
        (Some(Class::Held), _) => held(live, entry, now).map_or(WaitingOn::NothingToRun, WaitingOn::Held),
        (Some(Class::Updated(Wellness::Well)), _) => WaitingOn::UpToDate,
        (Some(Class::Updated(Wellness::Unknown | Wellness::Lost)), _) => unreachable(entry, now)
            .unwrap_or(WaitingOn::Health { hosts: vec![live.member.host.clone()], more: 0 }),
        (Some(Class::Excluded), Some(rollout)) => {
            WaitingOn::Excepted { exception: Exception::Excluded, rollout: rollout.id, code: None }
        }
        (Some(Class::Ended), Some(rollout)) => {
            retry(rollout, live, entry).unwrap_or_else(|| ended(rollout, live))
        }
        _ => at_rest(environment, live, entry, now),
    }
}

#[expect(clippy::too_many_arguments, reason = "the planner's own inputs and the host's two halves")]
fn in_rollout(
    environment: &Environment,
    rollout: &Rollout,
    fleet: &Fleet,
    gates: &GateValues,
    live: &Live,
    entry: &Entry,
    reach: Reach,
    now: FleetTime,
) -> WaitingOn {
    if let (Reach::Away, Some(waiting)) = (reach, unreachable(entry, now)) {
        return waiting;
    }
    if let (Reach::Busy, Some(elsewhere)) = (reach, &entry.granted_in) {
        return WaitingOn::OtherEnvironment {
            host: live.member.host.clone(),
            environment: elsewhere.clone(),
        };
    }
    if gates.regressed {
        return WaitingOn::Regressed;
    }
    if rollout.stage == Stage::Halted {
        return halted(rollout);
    }
    if let Some(pause) = &rollout.paused {
        return WaitingOn::Paused { by: pause.by.to_string() };
    }
    let (own, current) = (own_wave(environment, rollout, live), rollout.current_wave());
    if !rollout.goes_back() && own != current {
        // The one box's wave is everybody's until it is chosen; the chosen host waits like a batch.
        let is_one_box = matches!(&rollout.stage, Stage::Rolling(rolling) if rolling.one_box.as_ref() == Some(&live.member.host));
        if !is_one_box {
            return WaitingOn::Turn { wave: rollout.wave(own), current: rollout.wave(current) };
        }
    }
    if !matches!(live.class(), Some(Class::Ready(_) | Class::ToTakeBack(_))) {
        return WaitingOn::Prepare { ready: 0, of: 1 };
    }
    // Its wave is on and it is ready: what holds the wave holds it.
    let plan = planner::plan(environment, fleet, gates, now);
    let floor = plan.waiting.into_iter().find(|waiting| matches!(waiting, WaitingOn::Floor { .. }));
    floor.unwrap_or_else(|| queue(environment, rollout, live))
}

/// The wave in which the host would change, as things are now.
fn own_wave(environment: &Environment, rollout: &Rollout, live: &Live) -> u32 {
    let ready = [Class::Ready(Reach::Down), Class::Ready(Reach::Up)];
    let zone = &live.member.zone;
    let before = match live.class() {
        Some(Class::Ready(_)) => hosts_before(environment, live, &ready),
        // Those that are ready go before one that is not.
        _ => ready.iter().map(|class| environment.index().count(zone, *class)).sum(),
    };
    rollout.wave_of(zone, before)
}

/// Hosts of its zone in these classes that come before the host, which is in one of them.
fn hosts_before(environment: &Environment, live: &Live, classes: &[Class]) -> u32 {
    let (index, zone) = (environment.index(), &live.member.zone);
    let earlier = classes.iter().take_while(|class| Some(**class) != live.class());
    let before: u32 = earlier.map(|class| index.count(zone, *class)).sum();
    let within = live.class().and_then(|class| index.position(zone, class, &live.member.host)).unwrap_or(0);
    before + within as u32
}

fn queue(environment: &Environment, rollout: &Rollout, live: &Live) -> WaitingOn {
    let class = if rollout.goes_back() { Class::ToTakeBack } else { Class::Ready };
    let before = hosts_before(environment, live, &[class(Reach::Down), class(Reach::Up)]);
    let batch = match &rollout.stage {
        Stage::Rolling(rolling) => rolling.batch,
        Stage::Baking { .. }
        | Stage::Gated { .. }
        | Stage::RollingBack
        | Stage::Halted
        | Stage::Succeeded
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => 1,
    };
    WaitingOn::Queue { position: before + 1, batch }
}

fn in_lane(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    live: &Live,
    entry: &Entry,
    reach: Reach,
    now: FleetTime,
) -> WaitingOn {
    if let (Reach::Away, Some(waiting)) = (reach, unreachable(entry, now)) {
        return waiting;
    }
    if let (Reach::Busy, Some(elsewhere)) = (reach, &entry.granted_in) {
        return WaitingOn::OtherEnvironment {
            host: live.member.host.clone(),
            environment: elsewhere.clone(),
        };
    }
    if gates.regressed {
        return WaitingOn::Regressed;
    }
    match &environment.rollout {
        Some(rollout) => WaitingOn::JoinedLater { rollout: rollout.id },
        None if matches!(live.class(), Some(Class::LaneReady(_))) => {
            let plan = planner::plan(environment, fleet, gates, now);
            let floor = plan.waiting.into_iter().find(|waiting| matches!(waiting, WaitingOn::Floor { .. }));
            floor.unwrap_or(WaitingOn::Queue { position: 1, batch: 1 })
        }
        None => WaitingOn::Prepare { ready: 0, of: 1 },
    }
}

fn halted(rollout: &Rollout) -> WaitingOn {
    let cause = rollout.cause.clone().unwrap_or(Cause::Law { law: "unknown".to_owned() });
    WaitingOn::Halted { cause }
}

fn code(member: &Member) -> Option<Code> {
    member.failure.as_ref().map(|failure| failure.code)
}

/// It is tried again, if its wave is on.
fn retry(rollout: &Rollout, live: &Live, entry: &Entry) -> Option<WaitingOn> {
    let Stage::Rolling(rolling) = &rollout.stage else { return None };
    let is_on = rollout.zones_of(rolling.wave).contains(&live.member.zone);
    let left = planner::retry::left(rollout, live, entry);
    (is_on && left > 0).then(|| WaitingOn::Retry { wave: rollout.wave(rolling.wave), left })
}

fn ended(rollout: &Rollout, live: &Live) -> WaitingOn {
    match live.member.step {
        Step::Excepted(exception) => {
            WaitingOn::Excepted { exception, rollout: rollout.id, code: code(&live.member) }
        }
        Step::Reverted | Step::TakenBack => WaitingOn::WentBack { rollout: rollout.id },
        Step::Failed if rollout.stage == Stage::Halted => halted(rollout),
        Step::Failed => WaitingOn::Failed { rollout: rollout.id, code: code(&live.member) },
        Step::Waiting | Step::Preparing | Step::Ready | Step::Granted | Step::Settled | Step::TakingBack => {
            WaitingOn::UpToDate
        }
    }
}

fn at_rest(environment: &Environment, live: &Live, entry: &Entry, now: FleetTime) -> WaitingOn {
    let (member, baked) = (&live.member, environment.definition.baked);
    if let Some(waiting) = unreachable(entry, now) {
        return waiting;
    }
    if let Some(held) = held(live, entry, now) {
        return WaitingOn::Held(held);
    }
    if member.settled == Some(baked) {
        return WaitingOn::UpToDate;
    }
    if baked.is_empty() {
        return WaitingOn::NothingToRun;
    }
    // A rollback has no business with it; the standing lane has, when the rollback has ended.
    if let Some(rollout) = environment.rollout.as_ref().filter(|rollout| rollout.goes_back()) {
        return WaitingOn::JoinedLater { rollout: rollout.id };
    }
    match (member.lane, member.step) {
        (Lane::Rollout(rollout), Step::Reverted | Step::TakenBack) => WaitingOn::WentBack { rollout },
        (Lane::Rollout(rollout), Step::Failed) => WaitingOn::Failed { rollout, code: code(member) },
        (Lane::Rollout(rollout), Step::Excepted(exception)) => {
            WaitingOn::Excepted { exception, rollout, code: code(member) }
        }
        _ if stays_off_baked(environment, live) => {
            WaitingOn::OffBaked { hosts: vec![member.host.clone()], more: 0 }
        }
        _ => WaitingOn::NothingToRun,
    }
}

/// Why a host takes no change in an environment: the host's own hold, or its time in the penalty box.
pub fn held(live: &Live, entry: &Entry, now: FleetTime) -> Option<Held> {
    let member = &live.member;
    let in_box = || {
        let left = member.boxed_until?.since(now);
        Some(Held::PenaltyBox { environment: member.environment.clone(), failures: member.failures, left })
    };
    entry.held(now).or_else(in_box)
}

fn unreachable(entry: &Entry, now: FleetTime) -> Option<WaitingOn> {
    match (entry.contact.lost, entry.contact.last_seen) {
        (false, Some(_)) => None,
        (false, None) => Some(WaitingOn::NotHeardYet),
        (true, seen) => {
            Some(WaitingOn::Silent { for_about: entry.silence(now), since_start: seen.is_none() })
        }
    }
}
