//! Rollouts and reasons for programs.

use houston_common::command::{PlannedWave, RolloutPlan, RolloutSummary};
use houston_common::id::HostId;
use houston_common::report::Phase;
use houston_common::rollout::{Cause, Closed, HostState, Quiet, WaitingOn, Wave};
use houston_common::view::{GateDecision, HostInRollout, RolloutView, WaveStatus, WaveView};
use serde_json::{Value, json};

use super::{duration, failure, held, release, text, texts, time, zone};

pub fn rollout(view: &RolloutView) -> Value {
    let exceptions: Vec<_> = view
        .exceptions
        .iter()
        .map(|(host, exception)| json!({ "host": text(host), "exception": exception.as_str() }))
        .collect();
    json!({
        "id": view.id.0,
        "environment": text(&view.environment),
        "state": view.state.as_str(),
        "cause": view.cause.as_ref().map(cause),
        "first_cause": view.first_cause.as_ref().map(cause),
        "from": release(&view.from),
        "to": release(&view.to),
        "started_by": text(&view.started_by),
        "reason": view.reason,
        "started_at_ms": time(view.started_at),
        "ended_at_ms": view.ended_at.map(time),
        "revision": view.revision,
        "waves": view.waves.iter().map(wave_view).collect::<Vec<_>>(),
        "zones": view.zones.iter().map(zone).collect::<Vec<_>>(),
        "waiting_on": view.waiting.iter().map(waiting_on).collect::<Vec<_>>(),
        "hosts": view.hosts,
        "updated": view.updated,
        "failures": view.failures,
        "floor": view.floor,
        "available": view.available,
        "notable": view.notable.iter().map(host_in_rollout).collect::<Vec<_>>(),
        "exceptions": exceptions,
        "untouched_unwell": texts(&view.untouched_unwell),
        "decisions": view.decisions.iter().map(decision).collect::<Vec<_>>(),
    })
}

pub fn plan(plan: &RolloutPlan) -> Value {
    let wave = |planned: &PlannedWave| {
        json!({
            "wave": wave(&planned.wave),
            "hosts": planned.hosts,
            "batch": planned.batch,
            "bake_ms": duration(planned.bake),
            "first": texts(&planned.first),
        })
    };
    json!({
        "plan_hash": text(&plan.plan_hash),
        "from": release(&plan.from),
        "to": release(&plan.to),
        "waves": plan.waves.iter().map(wave).collect::<Vec<_>>(),
        "hosts": plan.hosts,
        "floor": plan.floor,
        "supersedes": plan.supersedes.map(|id| id.0),
        "excluded": texts(&plan.excluded),
    })
}

pub fn rollout_summary(rollout: &RolloutSummary) -> Value {
    json!({
        "id": rollout.id.0,
        "environment": text(&rollout.environment),
        "state": rollout.state.as_str(),
        "cause": rollout.cause.as_ref().map(cause),
        "from": release(&rollout.from),
        "to": release(&rollout.to),
        "started_by": text(&rollout.started_by),
        "reason": rollout.reason,
        "started_at_ms": time(rollout.started_at),
        "ended_at_ms": rollout.ended_at.map(time),
        "hosts": rollout.hosts,
        "updated": rollout.updated,
        "failures": rollout.failures,
        "exceptions": rollout.exceptions,
    })
}

/// `one_box`, `zones` with their names, or `stripe` with its number.
fn wave(wave: &Wave) -> Value {
    match wave {
        Wave::OneBox => json!({ "kind": "one_box" }),
        Wave::Zones(zones) => json!({ "kind": "zones", "zones": texts(zones) }),
        Wave::Stripe { number, of } => json!({ "kind": "stripe", "number": number, "of": of }),
    }
}

fn wave_view(view: &WaveView) -> Value {
    let status = match view.status {
        WaveStatus::Done => "done",
        WaveStatus::Current => "current",
        WaveStatus::ToCome => "to_come",
        WaveStatus::Failed => "failed",
        WaveStatus::Stopped => "stopped",
    };
    json!({
        "wave": wave(&view.wave),
        "status": status,
        "hosts": view.hosts,
        "settled": view.settled,
        "bake_ms": duration(view.bake),
    })
}

fn host_in_rollout(host: &HostInRollout) -> Value {
    let phase = match host.state {
        HostState::Activating(phase) | HostState::Failed(phase) => Some(phase.as_str()),
        HostState::Waiting
        | HostState::Preparing
        | HostState::Ready
        | HostState::Proving
        | HostState::Settled
        | HostState::Reverting
        | HostState::Reverted
        | HostState::TakenBack
        | HostState::Excepted
        | HostState::Outside => None,
    };
    json!({
        "host": text(&host.host),
        "zone": text(&host.zone),
        "state": host.state.as_str(),
        "phase": phase,
        "lost": host.lost,
        "held": host.held,
        "failure": host.failure.as_ref().map(failure),
    })
}

fn cause(cause: &Cause) -> Value {
    match cause {
        Cause::FailureBudget { host, failures, allowed, zone } => json!({
            "kind": "failure_budget",
            "host": text(host),
            "failures": failures,
            "allowed": allowed,
            "zone": zone.as_ref().map(text),
        }),
        Cause::LostBudget { exceptions, allowed } => {
            json!({ "kind": "lost_budget", "exceptions": exceptions, "allowed": allowed })
        }
        Cause::NobodyUpdated { exceptions } => json!({ "kind": "nobody_updated", "exceptions": exceptions }),
        Cause::Operator { name, reason } => json!({ "kind": "operator", "name": name, "reason": reason }),
        Cause::RollbackFailed { host } => json!({ "kind": "rollback_failed", "host": text(host) }),
        Cause::GateClosed { gate } => json!({ "kind": "gate_closed", "gate": text(gate) }),
        Cause::Law { law } => json!({ "kind": "law", "law": law }),
    }
}

fn quiet(quiet: &Quiet) -> Value {
    json!({
        "host": text(&quiet.host),
        "last_heard_ms": quiet.last_heard.map(duration),
        "phase": quiet.phase.map(Phase::as_str),
    })
}

/// Why a gate is closed: `why`, and its parameters beside it.
fn closed(closed: &Closed) -> Value {
    let mut object = match closed {
        Closed::Approval { not_by } => json!({ "not_by": not_by.as_ref().map(text) }),
        Closed::Window { opens_in } => json!({ "opens_in_ms": duration(*opens_in) }),
        Closed::Frozen { ends_in } => json!({ "ends_in_ms": duration(*ends_in) }),
        Closed::Metric { value, is, wanted } => {
            json!({ "value": value.get(), "is": is.as_str(), "wanted": wanted.get() })
        }
        Closed::MetricUnknown { problem } => json!({ "problem": problem }),
        Closed::Hosts { package, at_least, hosts, more } => json!({
            "package": text(package),
            "at_least": text(at_least),
            "hosts": texts(hosts),
            "more": more,
        }),
        Closed::Evidence { passes, of } => json!({ "passes": passes, "of": of }),
        Closed::NotKnown => json!({}),
    };
    object["why"] = closed.as_str().into();
    object
}

fn decision(decision: &GateDecision) -> Value {
    json!({
        "gate": text(&decision.gate),
        "before": decision.before.as_ref().map(wave),
        "by": text(&decision.by),
        "at_ms": decision.at.0,
        "remark": decision.remark,
        "skipped": decision.skipped,
    })
}

/// The reason's name, and its parameters beside it.
pub fn waiting_on(waiting: &WaitingOn) -> Value {
    let mut object = parameters(waiting);
    object["reason"] = waiting.as_str().into();
    object
}

fn parameters(waiting: &WaitingOn) -> Value {
    let hosts = |hosts: &[HostId]| texts(hosts);
    match waiting {
        WaitingOn::Prepare { ready, of } => json!({ "ready": ready, "of": of }),
        WaitingOn::Batch { open, more, quiet: silent, deadline_in } => json!({
            "open": hosts(open),
            "more": more,
            "quiet": silent.iter().map(quiet).collect::<Vec<_>>(),
            "deadline_in_ms": duration(*deadline_in),
        }),
        WaitingOn::Floor { zone, available, floor, unavailable } => json!({
            "zone": zone.as_ref().map(ToString::to_string),
            "available": available,
            "floor": floor,
            "unavailable": unavailable
                .iter()
                .map(|(host, away)| json!({ "host": text(host), "away": away.as_str() }))
                .collect::<Vec<_>>(),
        }),
        WaitingOn::Bake { wave: on, remaining } => {
            json!({ "wave": wave(on), "remaining_ms": duration(*remaining) })
        }
        WaitingOn::Gate { gate, before, closed: why, halts_in } => json!({
            "gate": text(gate),
            "before": before.as_ref().map(wave),
            "closed": closed(why),
            "halts_in_ms": halts_in.map(duration),
        }),
        WaitingOn::Health { hosts: unwell, more } => json!({ "hosts": hosts(unwell), "more": more }),
        WaitingOn::OtherEnvironment { host, environment } => {
            json!({ "host": text(host), "environment": text(environment) })
        }
        WaitingOn::Paused { by } => json!({ "by": by }),
        WaitingOn::Halted { cause: why } => json!({ "cause": cause(why) }),
        WaitingOn::Turn { wave: own, current } => json!({ "wave": wave(own), "current": wave(current) }),
        WaitingOn::Queue { position, batch } => json!({ "position": position, "batch": batch }),
        WaitingOn::Granted { quiet: silent, deadline_in } => {
            json!({ "deadline_in_ms": duration(*deadline_in), "quiet": silent.as_ref().map(quiet) })
        }
        WaitingOn::Silent { for_about, since_start } => {
            json!({ "for_about_ms": duration(*for_about), "since_start": since_start })
        }
        WaitingOn::CatchUp { hosts: behind, more, away } => {
            json!({ "hosts": hosts(behind), "more": more, "away": away })
        }
        WaitingOn::OffBaked { hosts: some, more } | WaitingOn::HeldHosts { hosts: some, more } => {
            json!({ "hosts": hosts(some), "more": more })
        }
        WaitingOn::Held(why) => json!({ "held": held(why) }),
        WaitingOn::Excepted { exception, rollout, code } => {
            json!({ "exception": exception.as_str(), "rollout": rollout.0, "code": code.as_ref().map(text) })
        }
        WaitingOn::Failed { rollout, code } => {
            json!({ "rollout": rollout.0, "code": code.as_ref().map(text) })
        }
        WaitingOn::Retry { wave: own, left } => json!({ "wave": wave(own), "left": left }),
        WaitingOn::JoinedLater { rollout } | WaitingOn::WentBack { rollout } => {
            json!({ "rollout": rollout.0 })
        }
        WaitingOn::Regressed
        | WaitingOn::UpToDate
        | WaitingOn::NothingToRun
        | WaitingOn::NotHeardYet
        | WaitingOn::Detached
        | WaitingOn::Drained => json!({}),
    }
}
