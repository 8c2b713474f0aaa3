//! A rollout with its hosts. An active one is read from the index, which knows every host's class; of
//! one that is over the members are counted, since its hosts may have gone on to others.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::FleetTime;
use houston_common::command::RolloutSummary;
use houston_common::id::{EnvironmentName, HostId, RolloutId, Zone};
use houston_common::report::Phase;
use houston_common::rollout::{Exception, HostState, Wave};
use houston_common::view::{HostInRollout, Presence, RolloutView, WaveStatus, WaveView, ZoneView};

use super::super::rollouts::gates;
use super::zone_view;
use crate::environment::index::{Class, Counts, Reach, Wellness};
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};
use crate::fleet::Entry;
use crate::rollout::planner::{self, floors::floor};
use crate::rollout::{Direction, Rollout, Stage};
use crate::state::State;

/// Hosts that a view names because they are not simply waiting or well.
pub const NOTABLE_MAX: usize = 200;
/// Exceptions that a view names.
const EXCEPTIONS_SHOWN: usize = 10_000;

/// `revision` is the state's own, as of before it was read.
pub fn rollout(state: &State, rollout: &Rollout, revision: u64, now: FleetTime) -> RolloutView {
    let environment = state.environments.get(&rollout.environment);
    let is_active = environment.is_some_and(|environment| is_active(environment, rollout));
    let hosts = environment.map(|environment| concerned(environment, rollout)).unwrap_or_default();
    let notable = hosts.iter().filter_map(|live| host_in(state, rollout, live)).take(NOTABLE_MAX);
    let exceptions = hosts.iter().filter_map(|live| exception(rollout, &live.member));
    let zones = environment.map(|environment| zones(environment, rollout)).unwrap_or_default();
    let total = environment.map(|environment| environment.index().total()).unwrap_or_default();
    let waiting = environment
        .filter(|_| is_active)
        .map(|environment| planner::plan(environment, &state.fleet, &gates(state), now).waiting);
    RolloutView {
        id: rollout.id,
        environment: rollout.environment.clone(),
        state: rollout.state(),
        cause: rollout.cause.clone(),
        from: state.catalog.view(&rollout.way_back),
        to: state.catalog.view(&rollout.target),
        started_by: rollout.started_by.clone(),
        reason: rollout.reason.clone(),
        started_at: rollout.started_at,
        ended_at: rollout.ended_at,
        revision,
        waves: waves(environment, rollout, &zones),
        waiting: waiting.unwrap_or_default(),
        hosts: rollout.hosts(),
        updated: if is_active {
            zones.iter().map(|zone| zone.updated).sum()
        } else {
            updated_at_end(rollout, || settled_by(environment, rollout.id))
        },
        failures: rollout.failures,
        floor: fleet_floor(rollout, total),
        available: total.available,
        notable: notable.collect(),
        exceptions: exceptions.take(EXCEPTIONS_SHOWN).collect(),
        zones,
    }
}

/// The rollouts as lines of a list. Each environment's members are counted once.
pub fn summaries(state: &State, rollouts: &[&Rollout]) -> Vec<RolloutSummary> {
    let names: BTreeSet<&EnvironmentName> = rollouts.iter().map(|rollout| &rollout.environment).collect();
    let mut settled: BTreeMap<RolloutId, u32> = BTreeMap::new();
    for live in names.iter().filter_map(|name| state.environments.get(*name)).flat_map(Environment::members) {
        if let (Lane::Rollout(id), Step::Settled) = (live.member.lane, live.member.step) {
            *settled.entry(id).or_default() += 1;
        }
    }
    let summary = |rollout: &&Rollout| {
        let environment = state.environments.get(&rollout.environment);
        let active = environment.filter(|environment| is_active(environment, rollout));
        RolloutSummary {
            id: rollout.id,
            environment: rollout.environment.clone(),
            state: rollout.state(),
            cause: rollout.cause.clone(),
            from: state.catalog.view(&rollout.way_back),
            to: state.catalog.view(&rollout.target),
            started_by: rollout.started_by.clone(),
            reason: rollout.reason.clone(),
            started_at: rollout.started_at,
            ended_at: rollout.ended_at,
            hosts: rollout.hosts(),
            updated: active.map_or_else(
                || updated_at_end(rollout, || settled.get(&rollout.id).copied().unwrap_or_default()),
                |environment| zones(environment, rollout).iter().map(|zone| zone.updated).sum(),
            ),
            failures: rollout.failures,
            exceptions: rollout.exceptions,
        }
    };
    rollouts.iter().map(summary).collect()
}

fn is_active(environment: &Environment, rollout: &Rollout) -> bool {
    environment.rollout.as_ref().is_some_and(|active| active.id == rollout.id)
}

/// How many hosts ended on the target. Of a success this is known for ever; `settled` counts the hosts
/// that still are where one that was cut short has left them.
fn updated_at_end(rollout: &Rollout, settled: impl FnOnce() -> u32) -> u32 {
    match rollout.stage {
        Stage::Succeeded => {
            rollout.hosts().saturating_sub(rollout.failures).saturating_sub(rollout.exceptions)
        }
        Stage::RolledBack => 0,
        Stage::Rolling(_)
        | Stage::Baking { .. }
        | Stage::RollingBack
        | Stage::Halted
        | Stage::Superseded { .. }
        | Stage::Aborted => settled(),
    }
}

fn settled_by(environment: Option<&Environment>, rollout: RolloutId) -> u32 {
    let members = environment.into_iter().flat_map(Environment::members);
    members.filter(|live| live.member.step_in(rollout) == Step::Settled).count() as u32
}

/// Hosts that must stay available, with those planned with as far as they are still in service.
fn fleet_floor(rollout: &Rollout, total: Counts) -> u32 {
    let planned = rollout.planned.values().sum();
    floor(rollout.policy.fleet_floor, planned, total)
}

/// In the order in which they are rolled, then those that only newer hosts have.
fn zones(environment: &Environment, rollout: &Rollout) -> Vec<ZoneView> {
    let index = environment.index();
    let active = is_active(environment, rollout);
    let later = index.zones().map(|(zone, _)| zone).filter(|zone| !rollout.zones.contains(zone));
    let all = rollout.zones.iter().chain(later);
    let view = |zone: &Zone| {
        let updated = if active {
            updated_in(environment, rollout, zone)
        } else {
            on_target(environment, rollout, zone)
        };
        zone_view(environment, zone, &rollout.policy, updated)
    };
    all.map(view).collect()
}

/// Hosts that are on the target of a rollout that is over, today.
fn on_target(environment: &Environment, rollout: &Rollout, zone: &Zone) -> u32 {
    let on_target = |live: &&Live| live.member.zone == *zone && live.member.settled == Some(rollout.target);
    environment.members().filter(on_target).count() as u32
}

/// Hosts on the target. While they are taken back those count that are still to go; of a rollout that
/// takes back an earlier one, those that are back.
fn updated_in(environment: &Environment, rollout: &Rollout, zone: &Zone) -> u32 {
    let index = environment.index();
    match rollout.direction {
        Direction::Forward if rollout.goes_back() => {
            Reach::ALL.into_iter().map(|reach| index.count(zone, Class::ToTakeBack(reach))).sum()
        }
        Direction::Forward => super::updated_in(environment, zone),
        Direction::Back { .. } => index.count(zone, Class::Ended),
    }
}

fn waves(environment: Option<&Environment>, rollout: &Rollout, zones: &[ZoneView]) -> Vec<WaveView> {
    // Taking back a success has neither waves nor bakes.
    if rollout.direction != Direction::Forward {
        return Vec::new();
    }
    let reached = reached(rollout);
    let view = |index: u32| {
        let wave = rollout.wave(index);
        let of_zone = |zone: &Zone| zones.iter().find(|view| view.zone == *zone);
        let (hosts, settled) = match &wave {
            Wave::OneBox => (1, u32::from(one_box_settled(environment, rollout))),
            Wave::Zone(zone) => of_zone(zone).map(|view| (view.hosts, view.updated)).unwrap_or_default(),
        };
        let status = match reached {
            Some(reached) if index < reached => WaveStatus::Done,
            Some(reached) if index == reached => WaveStatus::Current,
            Some(_) | None => WaveStatus::ToCome,
        };
        WaveView { wave, status, hosts, settled, bake: rollout.bake_of(index) }
    };
    (0..rollout.waves()).map(view).collect()
}

/// The wave that is on; all are done once it has succeeded, and none is on once it goes back or is cut
/// short, when nothing says any more how far it had come.
fn reached(rollout: &Rollout) -> Option<u32> {
    match &rollout.stage {
        Stage::Rolling(_) | Stage::Baking { .. } => Some(rollout.current_wave()),
        Stage::Succeeded => Some(rollout.waves()),
        Stage::RollingBack
        | Stage::Halted
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => None,
    }
}

fn one_box_settled(environment: Option<&Environment>, rollout: &Rollout) -> bool {
    match &rollout.stage {
        Stage::Rolling(rolling) if rolling.wave == 0 => rolling
            .one_box
            .as_ref()
            .and_then(|host| environment?.member(host)?.class())
            .is_some_and(|class| matches!(class, Class::Updated(_))),
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Succeeded => true,
        Stage::RollingBack
        | Stage::Halted
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => false,
    }
}

/// Hosts that a person would want to see, what is worst first: of an active rollout by class, without a
/// walk over those that wait or are well.
fn concerned<'a>(environment: &'a Environment, rollout: &Rollout) -> Vec<&'a Live> {
    let failed = |live: &&Live| {
        let member = &live.member;
        matches!(member.step, Step::Reverted | Step::Failed | Step::Excepted(_))
            || (member.step == Step::TakenBack && member.failure.is_some())
    };
    if !is_active(environment, rollout) {
        let own = environment.members().filter(|live| live.member.lane == Lane::Rollout(rollout.id));
        return own.filter(failed).collect();
    }
    let index = environment.index();
    let of = |classes: Vec<Class>| {
        classes.into_iter().flat_map(|class| index.all(class)).filter_map(|host| environment.member(host))
    };
    let reaches = |class: fn(Reach) -> Class| Reach::ALL.map(class).to_vec();
    let mut hosts: Vec<&Live> = of(vec![Class::Ended]).filter(failed).collect();
    hosts.extend(of(reaches(Class::ToTakeBack)).filter(failed));
    hosts.extend(of(vec![
        Class::Open,
        Class::Finishing,
        Class::Updated(Wellness::Lost),
        Class::Updated(Wellness::Unknown),
        Class::Held,
        Class::Unprepared(Reach::Away),
        Class::Preparing(Reach::Away),
        Class::Ready(Reach::Away),
    ]));
    hosts
}

fn host_in(state: &State, rollout: &Rollout, live: &Live) -> Option<HostInRollout> {
    let entry = state.fleet.get(&live.member.host)?;
    Some(HostInRollout {
        host: live.member.host.clone(),
        zone: live.member.zone.clone(),
        state: host_state(rollout, live, entry),
        lost: entry.presence() == Presence::Lost,
        held: entry.host.held.is_some() || entry.host.revoked,
        failure: live.member.failure.clone(),
    })
}

fn exception(rollout: &Rollout, member: &Member) -> Option<(HostId, Exception)> {
    match member.step_in(rollout.id) {
        Step::Excepted(exception) => Some((member.host.clone(), exception)),
        Step::Waiting
        | Step::Preparing
        | Step::Ready
        | Step::Granted
        | Step::Settled
        | Step::Reverted
        | Step::Failed
        | Step::TakingBack
        | Step::TakenBack => None,
    }
}

/// What the host is within the rollout: from its record, and while it is at it from its last report.
pub(super) fn host_state(rollout: &Rollout, live: &Live, entry: &Entry) -> HostState {
    let member = &live.member;
    if !member.in_scope(rollout.id) {
        return HostState::Outside;
    }
    let of_rollout = match member.lane {
        Lane::Rollout(id) => rollout.covers(id) && (id == rollout.id || rollout.goes_back()),
        Lane::Standing => false,
    };
    if !of_rollout {
        return match live.class() {
            _ if rollout.is_over() => HostState::Outside,
            Some(Class::Updated(_)) => HostState::Settled,
            _ if rollout.goes_back() => HostState::Outside,
            _ => HostState::Waiting,
        };
    }
    match member.step {
        Step::Waiting => HostState::Waiting,
        Step::Preparing => HostState::Preparing,
        Step::Ready => HostState::Ready,
        Step::Granted | Step::TakingBack => at_it(live, entry),
        Step::Settled => HostState::Settled,
        Step::Reverted => HostState::Reverted,
        Step::Failed => {
            HostState::Failed(member.failure.as_ref().map_or(Phase::Failed, |failure| failure.phase))
        }
        Step::TakenBack => HostState::TakenBack,
        Step::Excepted(_) => HostState::Excepted,
    }
}

/// A granted host, as far as its last report says. What was reported of an earlier assignment says nothing.
fn at_it(live: &Live, entry: &Entry) -> HostState {
    let Some(grant) = live.member.grant else { return HostState::Waiting };
    let report = live.report.as_ref().filter(|_| entry.contact.last_seen.is_some());
    let phase = report
        .filter(|report| report.stamp.is_some_and(|stamp| stamp.generation == grant.generation))
        .map_or(Phase::Ready, |report| report.phase);
    match phase {
        _ if grant.reverting => HostState::Reverting,
        Phase::Reverting => HostState::Reverting,
        Phase::Proving => HostState::Proving,
        Phase::Idle
        | Phase::Fetching
        | Phase::LayingOut
        | Phase::Ready
        | Phase::Stopping
        | Phase::Switching
        | Phase::Starting
        | Phase::Settled
        | Phase::Reverted
        | Phase::Failed => HostState::Activating(phase),
    }
}
