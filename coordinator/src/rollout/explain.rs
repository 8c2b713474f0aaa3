//! **Decision.** Why one host is not updated, and when its turn comes: from the same classes that the
//! planner picks from.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::id::HostId;
use houston_common::rollout::{Cause, Exception, WaitingOn};

use super::planner::{self, GateValues};
use super::{Rollout, Stage};
use crate::environment::index::{Class, LANE_FAILURES_MAX, Reach, Wellness};
use crate::environment::member::{Lane, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Entry, Fleet};

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
        return WaitingOn::Granted { deadline_in: grant.deadline.since(now) };
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
        (Some(Class::Held), _) => held(entry),
        (Some(Class::Updated(Wellness::Well)), _) => WaitingOn::UpToDate,
        (Some(Class::Updated(Wellness::Unknown | Wellness::Lost)), _) => unreachable(entry, now)
            .unwrap_or(WaitingOn::Health { hosts: vec![live.member.host.clone()], more: 0 }),
        (Some(Class::Ended), Some(rollout)) => ended(rollout, live),
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
        let cause = rollout.cause.clone().unwrap_or(Cause::Law { law: "unknown".to_owned() });
        return WaitingOn::Halted { cause };
    }
    if let Some(pause) = &rollout.paused {
        return WaitingOn::Paused { by: pause.by.to_string() };
    }
    let (own, current) = (rollout.wave_of(&live.member.zone), rollout.current_wave());
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

fn queue(environment: &Environment, rollout: &Rollout, live: &Live) -> WaitingOn {
    let index = environment.index();
    let zone = &live.member.zone;
    let classes: [fn(Reach) -> Class; 1] =
        [if rollout.goes_back() { Class::ToTakeBack } else { Class::Ready }];
    let before: usize = classes
        .iter()
        .flat_map(|class| [class(Reach::Down), class(Reach::Up)])
        .take_while(|class| Some(*class) != live.class())
        .map(|class| index.count(zone, class) as usize)
        .sum();
    let within = live.class().and_then(|class| index.position(zone, class, &live.member.host)).unwrap_or(0);
    let batch = match &rollout.stage {
        Stage::Rolling(rolling) => rolling.batch,
        Stage::Baking { .. }
        | Stage::RollingBack
        | Stage::Halted
        | Stage::Succeeded
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => 1,
    };
    WaitingOn::Queue { position: (before + within) as u32 + 1, batch }
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

fn ended(rollout: &Rollout, live: &Live) -> WaitingOn {
    match live.member.step {
        Step::Excepted(exception) => WaitingOn::Excepted { exception, rollout: rollout.id },
        Step::Reverted | Step::TakenBack => WaitingOn::WentBack { rollout: rollout.id },
        Step::Failed => WaitingOn::Halted {
            cause: Cause::FailureBudget {
                host: live.member.host.clone(),
                failures: rollout.failures,
                allowed: rollout.failures,
            },
        },
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
    if entry.host.held.is_some() || entry.host.revoked {
        return held(entry);
    }
    if member.settled == Some(baked) {
        return WaitingOn::UpToDate;
    }
    if baked.is_empty() {
        return WaitingOn::NothingToRun;
    }
    if member.lane_failures >= LANE_FAILURES_MAX {
        return WaitingOn::Held {
            reason: format!("it failed {} times to get the baked release", member.lane_failures),
        };
    }
    // A rollback has no business with it; the standing lane has, when the rollback has ended.
    if let Some(rollout) = environment.rollout.as_ref().filter(|rollout| rollout.goes_back()) {
        return WaitingOn::JoinedLater { rollout: rollout.id };
    }
    match (member.lane, member.step) {
        (Lane::Rollout(rollout), Step::Reverted | Step::Failed | Step::TakenBack) => {
            WaitingOn::WentBack { rollout }
        }
        (Lane::Rollout(rollout), Step::Excepted(exception)) => WaitingOn::Excepted { exception, rollout },
        (
            Lane::Standing | Lane::Rollout(_),
            Step::Waiting
            | Step::Preparing
            | Step::Ready
            | Step::Granted
            | Step::Settled
            | Step::Reverted
            | Step::Failed
            | Step::TakingBack
            | Step::TakenBack
            | Step::Excepted(Exception::Silent),
        ) => WaitingOn::NothingToRun,
        (Lane::Standing, Step::Excepted(_)) => WaitingOn::NothingToRun,
    }
}

fn held(entry: &Entry) -> WaitingOn {
    let revoked = entry.host.revoked.then(|| "its certificate is revoked".to_owned());
    let reason = entry.host.held.clone().or(revoked).unwrap_or_default();
    WaitingOn::Held { reason }
}

fn unreachable(entry: &Entry, now: FleetTime) -> Option<WaitingOn> {
    match (entry.contact.lost, entry.contact.last_seen) {
        (false, Some(_)) => None,
        (false, None) => Some(WaitingOn::NotHeardYet),
        (true, seen) => {
            Some(WaitingOn::Silent { for_about: seen.map_or(Duration::ZERO, |seen| now.since(seen)) })
        }
    }
}
