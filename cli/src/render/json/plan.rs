//! What a rollout would do, for programs.

use houston_common::plan::{
    Fault, Flown, ModelTime, PlannedBatch, PlannedCapacity, PlannedWait, PlannedWave, RolloutPlan, WhatIf,
};
use serde_json::{Value, json};

use super::rollout::{cause, excepted, waiting_on, wave};
use super::{duration, release, text, texts};

pub fn plan(plan: &RolloutPlan) -> Value {
    let RolloutPlan {
        plan_hash,
        from,
        to,
        hosts,
        supersedes,
        excluded,
        flown,
        prepare,
        activation,
        what_ifs,
    } = plan;
    let Flown {
        waves,
        lasts,
        state,
        cause: why,
        waiting,
        cut_short,
        capacity,
        left_out,
        left_out_more,
        assumed_open,
    } = flown;
    json!({
        "plan_hash": text(plan_hash),
        "from": release(from),
        "to": release(to),
        "hosts": hosts,
        "supersedes": supersedes.map(|id| id.0),
        "excluded": texts(excluded),
        "waves": waves.iter().map(planned_wave).collect::<Vec<_>>(),
        "lasts_ms": duration(*lasts),
        "state": state.as_str(),
        "cause": why.as_ref().map(cause),
        "waiting_on": waiting.iter().map(waiting_on).collect::<Vec<_>>(),
        "cut_short": cut_short,
        "capacity": capacity.iter().map(planned_capacity).collect::<Vec<_>>(),
        "left_out": left_out.iter().map(excepted).collect::<Vec<_>>(),
        "left_out_more": left_out_more,
        "assumed_open": texts(assumed_open),
        "prepare": model_time(prepare),
        "activation": model_time(activation),
        "what_ifs": what_ifs.iter().map(what_if).collect::<Vec<_>>(),
    })
}

/// There is nothing to do: no plan, in the form of one.
pub fn no_plan() -> Value {
    json!({ "plan_hash": null, "hosts": 0, "waves": [] })
}

fn planned_wave(planned: &PlannedWave) -> Value {
    let PlannedWave { wave: which, begins, ends, hosts, batches, first, waits } = planned;
    let batch = |batch: &PlannedBatch| {
        let PlannedBatch { number, begins, hosts, first } = batch;
        json!({
            "number": number,
            "begins_ms": duration(*begins),
            "hosts": hosts,
            "first": texts(first),
        })
    };
    let wait = |PlannedWait { waiting, lasts }: &PlannedWait| json!({ "waiting_on": waiting_on(waiting), "lasts_ms": duration(*lasts) });
    json!({
        "wave": wave(which),
        "begins_ms": duration(*begins),
        "ends_ms": duration(*ends),
        "hosts": hosts,
        "batches": batches,
        "first": first.iter().map(batch).collect::<Vec<_>>(),
        "waits": waits.iter().map(wait).collect::<Vec<_>>(),
    })
}

fn planned_capacity(capacity: &PlannedCapacity) -> Value {
    let PlannedCapacity { zone, available, lowest, floor } = capacity;
    json!({ "zone": zone.as_ref().map(text), "available": available, "lowest": lowest, "floor": floor })
}

fn model_time(time: &ModelTime) -> Value {
    let ModelTime { half, nine_in_ten, taken_from } = time;
    json!({
        "half_ms": duration(*half),
        "nine_in_ten_ms": duration(*nine_in_ten),
        "taken_from": taken_from,
    })
}

fn what_if(what_if: &WhatIf) -> Value {
    let WhatIf { fault, hosts_met, met, stops_after, back_after, state, cut_short, capacity } = what_if;
    let fault = match fault {
        Fault::AtOnce => json!({ "kind": "at_once" }),
        Fault::InZone(zone) => json!({ "kind": "in_zone", "zone": text(zone) }),
        Fault::Late { after } => json!({ "kind": "late", "after_ms": duration(*after) }),
    };
    json!({
        "fault": fault,
        "hosts_met": hosts_met,
        "met_ms": duration(*met),
        "stops_after_ms": stops_after.map(duration),
        "back_after_ms": back_after.map(duration),
        "state": state.as_str(),
        "cut_short": cut_short,
        "capacity": capacity.iter().map(planned_capacity).collect::<Vec<_>>(),
    })
}
