//! How an environment is changed.

use super::{
    InvalidField, LABELS_MAX, Wire, between, distinct, duration, list, names, nested, optional, required,
    required_duration, to_list, to_names, value, wire_enum,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::id::Zone;
use crate::policy::gate::{GATES_MAX, Gate};
use crate::policy::{
    Bakes, GROWTH_PERCENT_MAX, Growth, OnFailure, Pacing, Policy, RETRIES_MAX, Share, ZONES_AT_ONCE_MAX,
};

wire_enum!(Pacing { Zonal, Striped });
wire_enum!(OnFailure { Rollback, Halt });

/// Most hosts that a share counts: the same as what people may write.
const SHARE_HOSTS_MAX: u32 = 1_000_000;

impl Wire for Share {
    type Message = wire::Share;

    fn to_wire(&self) -> wire::Share {
        wire::Share {
            share: Some(match *self {
                Self::Hosts(hosts) => wire::share::Share::Hosts(hosts),
                Self::Percent(percent) => wire::share::Share::Percent(percent.into()),
            }),
        }
    }

    fn from_wire(message: wire::Share) -> Result<Self, InvalidField> {
        let wire::Share { share } = message;
        match required("share", share)? {
            wire::share::Share::Hosts(hosts) => between("hosts", hosts, 0, SHARE_HOSTS_MAX).map(Self::Hosts),
            wire::share::Share::Percent(percent) => match u8::try_from(percent) {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(InvalidField::new("percent", format!("is {percent}; 0 to 100 are allowed"))),
            },
        }
    }
}

impl Wire for Growth {
    type Message = wire::Growth;

    fn to_wire(&self) -> wire::Growth {
        let Self { percent, most, carries } = self;
        wire::Growth { percent: (*percent).into(), most: Some(most.to_wire()), carries: *carries }
    }

    fn from_wire(message: wire::Growth) -> Result<Self, InvalidField> {
        let wire::Growth { percent, most, carries } = message;
        let percent = between("percent", percent, 101, GROWTH_PERCENT_MAX.into())? as u16;
        Ok(Self { percent, most: nested("most", most)?, carries })
    }
}

impl Wire for Policy {
    type Message = wire::Policy;

    fn to_wire(&self) -> wire::Policy {
        let Self {
            pacing,
            zone_order,
            zones_at_once,
            batch,
            growth,
            fleet_floor,
            zone_floor,
            bake: Bakes { one_box, first_zone, later_zones },
            health_window,
            apply_deadline,
            start_within,
            failure_budget,
            zone_failure_budget,
            lost_budget,
            on_failure,
            rollback_batch,
            gates,
            retries,
        } = self;
        wire::Policy {
            pacing: pacing.to_wire(),
            zone_order: to_names(zone_order),
            zones_at_once: *zones_at_once,
            batch: Some(batch.to_wire()),
            growth: growth.as_ref().map(Wire::to_wire),
            fleet_floor: Some(fleet_floor.to_wire()),
            zone_floor: zone_floor.as_ref().map(Wire::to_wire),
            bake_one_box_ms: millis(*one_box),
            bake_first_zone_ms: millis(*first_zone),
            bake_later_zones_ms: millis(*later_zones),
            health_window_ms: millis(*health_window),
            apply_deadline_ms: millis(*apply_deadline),
            start_within_ms: millis(*start_within),
            failure_budget: Some(failure_budget.to_wire()),
            zone_failure_budget: zone_failure_budget.as_ref().map(Wire::to_wire),
            lost_budget: Some(lost_budget.to_wire()),
            on_failure: on_failure.to_wire(),
            rollback_batch: Some(rollback_batch.to_wire()),
            gates: to_list(gates),
            retries: *retries,
        }
    }

    fn from_wire(message: wire::Policy) -> Result<Self, InvalidField> {
        let wire::Policy {
            pacing,
            zone_order,
            zones_at_once,
            batch,
            growth,
            fleet_floor,
            zone_floor,
            bake_one_box_ms,
            bake_first_zone_ms,
            bake_later_zones_ms,
            health_window_ms,
            apply_deadline_ms,
            start_within_ms,
            failure_budget,
            zone_failure_budget,
            lost_budget,
            on_failure,
            rollback_batch,
            gates,
            retries,
        } = message;
        let gates: Vec<Gate> = list("gates", gates, GATES_MAX)?;
        distinct("gates", gates.iter().map(|gate| &gate.name).collect::<Vec<_>>())?;
        if gates.iter().any(|gate| gate.name.as_str() == "bake") {
            return Err(InvalidField::new("gates", "a gate is called bake, which another wait is"));
        }
        let zone_order: Vec<Zone> = names("zone_order", &zone_order, LABELS_MAX)?;
        distinct("zone_order", &zone_order)?;
        Ok(Self {
            pacing: value("pacing", pacing)?,
            zone_order,
            zones_at_once: between("zones_at_once", zones_at_once, 1, ZONES_AT_ONCE_MAX)?,
            batch: nested("batch", batch)?,
            growth: optional("growth", growth)?,
            fleet_floor: nested("fleet_floor", fleet_floor)?,
            zone_floor: optional("zone_floor", zone_floor)?,
            bake: Bakes {
                one_box: duration("bake_one_box_ms", bake_one_box_ms, DURATION_MAX)?,
                first_zone: duration("bake_first_zone_ms", bake_first_zone_ms, DURATION_MAX)?,
                later_zones: duration("bake_later_zones_ms", bake_later_zones_ms, DURATION_MAX)?,
            },
            health_window: duration("health_window_ms", health_window_ms, DURATION_MAX)?,
            apply_deadline: required_duration("apply_deadline_ms", apply_deadline_ms, DURATION_MAX)?,
            start_within: required_duration("start_within_ms", start_within_ms, DURATION_MAX)?,
            failure_budget: nested("failure_budget", failure_budget)?,
            zone_failure_budget: optional("zone_failure_budget", zone_failure_budget)?,
            lost_budget: nested("lost_budget", lost_budget)?,
            on_failure: value("on_failure", on_failure)?,
            rollback_batch: nested("rollback_batch", rollback_batch)?,
            gates,
            retries: between("retries", retries, 0, RETRIES_MAX)?,
        })
    }
}
