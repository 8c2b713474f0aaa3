//! A rollout with its hosts. An active one is read from the index, which knows every host's class; one
//! that is over from its own record, since its hosts may have gone on to others.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::cmp::Ordering;

use houston_common::clock::FleetTime;
use houston_common::command::RolloutSummary;
use houston_common::id::{HostId, Zone};
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Cause, Exception, HostState, WaitingOn, Wave};
use houston_common::view::{
    GateDecision, HostInRollout, Presence, RolloutView, WaveStatus, WaveView, ZoneView,
};

use super::zone_view;
use crate::environment::index::{Class, Counts, Reach, Wellness};
use crate::environment::member::{Lane, Step};
use crate::environment::{Environment, Live};
use crate::fleet::Entry;
use crate::rollout::ending::{Ending, Named, Reached, is_notable, updated_in};
use crate::rollout::explain::waiting;
use crate::rollout::gates::GateValues;
use crate::rollout::pacing::Extent;
use crate::rollout::planner::floors::floor;
use crate::rollout::{Decision, Rollout, Stage};
use crate::state::State;

/// Hosts that a view names because they are not simply waiting or well.
pub const NOTABLE_MAX: usize = 200;
/// Exceptions that a view names.
const EXCEPTIONS_SHOWN: usize = 10_000;

/// `revision` is the state's own, as of before it was read.
pub fn rollout(state: &State, rollout: &Rollout, revision: u64, now: FleetTime) -> RolloutView {
    let environment = state.environments.get(&rollout.environment);
    let Parts { zones, waiting, notable, exceptions } = match (environment, &rollout.ending) {
        (None, _) => Parts::default(),
        (Some(environment), None) => under_way(state, environment, rollout, now),
        (Some(environment), Some(ending)) => as_it_ended(environment, rollout, ending),
    };
    let total = environment.map(|environment| environment.index().total()).unwrap_or_default();
    RolloutView {
        id: rollout.id,
        environment: rollout.environment.clone(),
        state: rollout.state(),
        cause: rollout.cause.clone(),
        first_cause: rollout.first_cause.clone(),
        from: state.catalog.view(&rollout.way_back),
        to: state.catalog.view(&rollout.target),
        started_by: rollout.started_by.clone(),
        reason: rollout.reason.clone(),
        started_at: rollout.started_at,
        ended_at: rollout.ended_at,
        revision,
        waves: waves(environment, rollout, &zones),
        waiting,
        hosts: zones.iter().map(|zone| zone.hosts).sum(),
        updated: zones.iter().map(|zone| zone.updated).sum(),
        failures: rollout.failures,
        floor: fleet_floor(rollout, total),
        available: total.available,
        notable,
        exceptions,
        zones,
        untouched_unwell: rollout.untouched_unwell.clone(),
        decisions: rollout.decisions.iter().map(|decision| view_of(rollout, decision)).collect(),
    }
}

fn view_of(rollout: &Rollout, decision: &Decision) -> GateDecision {
    let Decision { gate, before, by, at, remark, skipped } = decision.clone();
    let before = (before < rollout.waves()).then(|| rollout.wave(before));
    GateDecision { gate, before, by, at, remark, skipped }
}

/// What is read from the index of a rollout under way, and from its record of one that is over.
#[derive(Default)]
struct Parts {
    zones: Vec<ZoneView>,
    waiting: Vec<WaitingOn>,
    notable: Vec<HostInRollout>,
    exceptions: Vec<(HostId, Exception)>,
}

fn under_way(state: &State, environment: &Environment, rollout: &Rollout, now: FleetTime) -> Parts {
    let hosts = concerned(environment);
    let notable = hosts.iter().filter_map(|live| host_in(state, rollout, live)).take(NOTABLE_MAX);
    let exceptions = hosts.iter().filter_map(|live| {
        let member = &live.member;
        exception(&member.host, member.step_in(rollout.id))
    });
    // In the order in which they are rolled, then those that only newer hosts have.
    let zones = environment.index().zones().map(|(zone, _)| zone);
    let later = zones.filter(|zone| !rollout.zones.contains(zone));
    let view = |zone| zone_view(environment, zone, &rollout.policy, updated_in(environment, rollout, zone));
    Parts {
        zones: rollout.zones.iter().chain(later).map(view).collect(),
        waiting: waiting(environment, &state.fleet, &GateValues::of(state, environment, now), now),
        notable: notable.collect(),
        exceptions: exceptions.take(EXCEPTIONS_SHOWN).collect(),
    }
}

fn as_it_ended(environment: &Environment, rollout: &Rollout, ending: &Ending) -> Parts {
    let later = ending.zones.keys().filter(|zone| !rollout.zones.contains(zone));
    let view = |zone: &Zone| {
        let Reached { hosts, updated } = ending.zones.get(zone).copied().unwrap_or_default();
        ZoneView { hosts, ..zone_view(environment, zone, &rollout.policy, updated) }
    };
    let host = |named: &Named| HostInRollout {
        host: named.host.clone(),
        zone: named.zone.clone(),
        state: at_step(named.step, named.failure.as_ref()),
        lost: false,
        held: false,
        failure: named.failure.as_ref().map(|failure| with_log(environment, rollout, named, failure)),
    };
    let named = ending.named.iter().filter_map(|named| exception(&named.host, named.step));
    // All of these are known, however few names were kept.
    let excluded =
        rollout.excluded.iter().filter(|host| ending.named.iter().all(|named| named.host != **host));
    let excluded = excluded.map(|host| (host.clone(), Exception::Excluded));
    Parts {
        zones: rollout.zones.iter().chain(later).map(view).collect(),
        waiting: Vec::new(),
        notable: ending.named.iter().map(host).collect(),
        exceptions: named.chain(excluded).collect(),
    }
}

/// The log's tail is not kept for ever, but for as long as the host has not gone on to something else.
fn with_log(environment: &Environment, rollout: &Rollout, named: &Named, failure: &Failure) -> Failure {
    let member = environment.member(&named.host).map(|live| &live.member);
    let same = member.filter(|member| member.lane == Lane::Rollout(rollout.id));
    let log = same.and_then(|member| member.failure.as_ref()).filter(|kept| kept.code == failure.code);
    Failure { log_tail: log.map(|kept| kept.log_tail.clone()).unwrap_or_default(), ..failure.clone() }
}

/// The rollouts as lines of a list: from counts that are kept, without a walk.
pub fn summaries(state: &State, rollouts: &[&Rollout]) -> Vec<RolloutSummary> {
    let summary = |rollout: &&Rollout| {
        let (hosts, updated) = match (&rollout.ending, state.environments.get(&rollout.environment)) {
            (Some(ending), _) => (ending.hosts(), ending.updated()),
            (None, Some(environment)) => {
                let zones = environment.index().zones();
                let updated = zones.map(|(zone, _)| updated_in(environment, rollout, zone)).sum();
                (environment.index().total().hosts, updated)
            }
            (None, None) => (rollout.hosts(), 0),
        };
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
            hosts,
            updated,
            failures: rollout.failures,
            // Those that the operator left out are counted apart from the ones that the lost budget judges.
            exceptions: rollout.exceptions + rollout.excluded.len() as u32,
        }
    };
    rollouts.iter().map(summary).collect()
}

/// Hosts that must stay available, with those planned with as far as they are still in service.
fn fleet_floor(rollout: &Rollout, total: Counts) -> u32 {
    let planned = rollout.planned.values().sum();
    floor(rollout.policy.fleet_floor, planned, total)
}

fn waves(environment: Option<&Environment>, rollout: &Rollout, zones: &[ZoneView]) -> Vec<WaveView> {
    if !rollout.has_waves() {
        return Vec::new();
    }
    let reached = reached(rollout);
    let view = |index: u32| {
        let wave = rollout.wave(index);
        let (hosts, settled) = match &wave {
            Wave::OneBox => (1, u32::from(one_box_settled(environment, rollout))),
            Wave::Zones(of) => {
                let views = || zones.iter().filter(|view| of.contains(&view.zone));
                (views().map(|view| view.hosts).sum(), views().map(|view| view.updated).sum())
            }
            Wave::Stripe { .. } => in_stripe(rollout, index, zones),
        };
        let status = match index.cmp(&reached) {
            Ordering::Less => WaveStatus::Done,
            Ordering::Equal => status_of_reached(rollout),
            Ordering::Greater => WaveStatus::ToCome,
        };
        WaveView { wave, status, hosts, settled, bake: rollout.bake_of(index) }
    };
    (0..rollout.waves()).map(view).collect()
}

/// How many hosts a stripe has, and how many of them are updated: stripes are filled one after the other.
fn in_stripe(rollout: &Rollout, wave: u32, zones: &[ZoneView]) -> (u32, u32) {
    let of = |view: &ZoneView| {
        let size = |wave| rollout.batch_of(&view.zone, wave, 1, u32::MAX);
        let before: u32 = (1..wave).map(size).fold(0, u32::saturating_add);
        let to_come = view.hosts.saturating_sub(before);
        let hosts = match rollout.extent(wave) {
            Extent::OneBatch => size(wave).min(to_come),
            Extent::Everybody => to_come,
        };
        (hosts, view.updated.saturating_sub(before).min(hosts))
    };
    zones.iter().map(of).fold((0, 0), |(hosts, settled), (h, s)| (hosts + h, settled + s))
}

/// The wave that is on, or was the last one begun; beyond the last once it has succeeded.
fn reached(rollout: &Rollout) -> u32 {
    match &rollout.stage {
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } | Stage::Succeeded => {
            rollout.current_wave()
        }
        Stage::RollingBack
        | Stage::Halted
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => rollout.reached,
    }
}

fn status_of_reached(rollout: &Rollout) -> WaveStatus {
    let went_wrong = match rollout.first_cause.as_ref().or(rollout.cause.as_ref()) {
        Some(
            Cause::FailureBudget { .. }
            | Cause::LostBudget { .. }
            | Cause::NobodyUpdated { .. }
            | Cause::RollbackFailed { .. },
        ) => true,
        Some(Cause::Operator { .. } | Cause::Law { .. } | Cause::GateClosed { .. }) | None => false,
    };
    match &rollout.stage {
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } | Stage::Succeeded => {
            WaveStatus::Current
        }
        _ if went_wrong => WaveStatus::Failed,
        Stage::RollingBack
        | Stage::Halted
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => WaveStatus::Stopped,
    }
}

fn one_box_settled(environment: Option<&Environment>, rollout: &Rollout) -> bool {
    match &rollout.stage {
        Stage::Rolling(rolling) if rolling.wave == 0 => rolling
            .one_box
            .as_ref()
            .and_then(|host| environment?.member(host)?.class())
            .is_some_and(|class| matches!(class, Class::Updated(_))),
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } | Stage::Succeeded => true,
        Stage::RollingBack
        | Stage::Halted
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => rollout.reached > 0,
    }
}

/// Hosts that a person would want to see, what is worst first: by class, without a walk over those that
/// wait or are well.
fn concerned(environment: &Environment) -> Vec<&Live> {
    let failed = |live: &&Live| is_notable(&live.member);
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
        Class::Excluded,
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
        held: entry.host.held.is_some() || entry.host.revoked || live.member.is_boxed(),
        failure: live.member.failure.clone(),
    })
}

fn exception(host: &HostId, step: Step) -> Option<(HostId, Exception)> {
    match step {
        Step::Excepted(exception) => Some((host.clone(), exception)),
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
        Step::Granted | Step::TakingBack => at_it(live, entry),
        Step::Waiting
        | Step::Preparing
        | Step::Ready
        | Step::Settled
        | Step::Reverted
        | Step::Failed
        | Step::TakenBack
        | Step::Excepted(_) => at_step(member.step, member.failure.as_ref()),
    }
}

fn at_step(step: Step, failure: Option<&Failure>) -> HostState {
    match step {
        Step::Waiting => HostState::Waiting,
        Step::Preparing => HostState::Preparing,
        Step::Ready => HostState::Ready,
        Step::Granted | Step::TakingBack => HostState::Activating(Phase::Ready),
        Step::Settled => HostState::Settled,
        Step::Reverted => HostState::Reverted,
        Step::Failed => HostState::Failed(failure.map_or(Phase::Failed, |failure| failure.phase)),
        Step::TakenBack => HostState::TakenBack,
        Step::Excepted(_) => HostState::Excepted,
    }
}

/// A granted host, as far as its last report says. What was reported of an earlier assignment says nothing.
fn at_it(live: &Live, entry: &Entry) -> HostState {
    let Some(grant) = live.member.grant else { return HostState::Waiting };
    let reported = live.phase_of_grant().filter(|_| entry.contact.last_seen.is_some());
    let phase = reported.unwrap_or(Phase::Ready);
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
