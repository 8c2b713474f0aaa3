//! What each stage of a rollout allows.

use std::time::Duration;

use houston_common::id::{HostId, Zone};
use houston_common::policy::Pacing;
use houston_common::policy::gate::{Before, Gate};
use houston_common::release::Release;
use houston_common::rollout::Exception;
use houston_coordinator::environment::member::{Lane, Step};
use houston_coordinator::rollout::gates::Value;
use houston_coordinator::rollout::{Direction, Rolling, Rollout, Stage};

use super::host::Host;
use super::{Move, Reference, at_most};

/// Zones that change at the same time.
pub(super) fn together(rollout: &Rollout) -> usize {
    match rollout.policy.pacing {
        Pacing::Zonal => rollout.policy.zones_at_once.max(1) as usize,
        Pacing::Striped => rollout.zones.len(),
    }
}

/// The one box, and after it groups of zones, or stripes over all of them.
fn waves(rollout: &Rollout) -> u32 {
    1 + match rollout.policy.pacing {
        Pacing::Zonal => rollout.zones.len().div_ceil(together(rollout)) as u32,
        Pacing::Striped => rollout.stripes,
    }
}

/// The zones of a wave. The one box, wave 0, may be in any.
fn zones_of_wave(rollout: &Rollout, wave: u32) -> &[Zone] {
    if wave == 0 || wave >= waves(rollout) {
        return &[];
    }
    match rollout.policy.pacing {
        Pacing::Zonal => {
            let first = (wave as usize - 1) * together(rollout);
            &rollout.zones[first..rollout.zones.len().min(first + together(rollout))]
        }
        Pacing::Striped => &rollout.zones,
    }
}

/// Every stripe but the last is one batch, and leaves the others to those after it.
fn is_one_batch(rollout: &Rollout, wave: u32) -> bool {
    rollout.policy.pacing == Pacing::Striped && wave < rollout.stripes
}

fn gates_before(rollout: &Rollout, wave: u32) -> impl Iterator<Item = &Gate> {
    let last = waves(rollout);
    rollout.policy.gates.iter().filter(move |gate| match gate.before {
        Before::OneBox => wave == 0,
        Before::FirstWave => wave == 1 && wave < last,
        Before::EachWave => (1..last).contains(&wave),
        Before::End => wave >= last,
    })
}

fn has_granted(rolling: &Rolling) -> bool {
    rolling.granted.values().any(|granted| *granted > 0)
}

impl<'a> Reference<'a> {
    /// Hosts of a zone that are granted together. Hosts that join make it no larger.
    fn batch_size(&self, rollout: &Rollout, zone: &Zone, wave: u32, batch: u32) -> usize {
        let today = self.count(|host| host.member.zone == *zone && !host.member.detached) as u32;
        let at_first = rollout.members.get(zone).copied().unwrap_or(0);
        let grown = match rollout.policy.pacing {
            Pacing::Zonal => rollout.earned + batch - 1,
            Pacing::Striped => wave - 1 + batch - 1,
        };
        rollout.policy.batch_of(at_first.min(today), grown) as usize
    }

    /// Hosts of a zone that the batch can still take, those that the plan has granted left out.
    fn room(&self, rollout: &Rollout, rolling: &Rolling, zone: &Zone) -> usize {
        let is_new = |host: &Host<'a>| host.is_open && host.member.grant.is_none();
        let now = self.count(|host| host.member.zone == *zone && is_new(host));
        let granted = rolling.granted.get(zone).map_or(0, |granted| *granted as usize) + now;
        self.batch_size(rollout, zone, rolling.wave, rolling.batch).saturating_sub(granted)
    }

    /// Wave 0: one host alone, a healthy one where there is one, of the first zone that has one.
    pub(super) fn one_box_allows(&self, step: Move<'_>, rollout: &Rollout, rolling: &Rolling) -> bool {
        let is_free = |host: &Host<'a>| host.is_to_move(rollout) && host.is_free();
        let stands = |host: &&Host<'a>| is_free(host) || host.is_moving(rollout) || host.is_updated(rollout);
        let chosen = rolling.one_box.as_ref().and_then(|id| self.host(id)).filter(stands);
        let is_chosen = |id: &HostId| chosen.is_some_and(|host| host.member.host == *id);
        let is_quiet = !self.any(|host| host.is_moving(rollout) || self.is_unknown(rollout, host));
        let somebody_is_well = self.any(|host| host.is_updated(rollout) && host.is_well());
        let may_come = |host: &Host<'a>| {
            let is_lost_for_good = host.entry.contact.lost && somebody_is_well;
            host.is_to_move(rollout)
                && !host.is_held()
                && (host.is_busy_elsewhere && host.is_heard() || !host.is_heard() && !is_lost_for_good)
        };
        let nobody_can = chosen.is_none() && !self.any(is_free) && is_quiet && !self.any(may_come);
        match step {
            Move::OneBox(id) => self.is(id, |host| {
                let place = |host: &Host<'a>| {
                    (!host.may_serve(), rollout.zones.iter().position(|zone| *zone == host.member.zone))
                };
                let best = self.hosts.iter().filter(|host| is_free(host)).map(place).min();
                chosen.is_none() && is_free(host) && best == Some(place(host))
            }),
            Move::Prepare(id, _) => self.is(id, |host| {
                (is_chosen(id) && self.is_to_prepare(host, rollout))
                    || self.prepares(id, rollout, rolling.wave)
            }),
            Move::Grant(id, _) => self.is(id, |host| {
                let is_ready = is_free(host) && host.step_in(rollout) == Step::Ready;
                let is_first = !has_granted(rolling) && !self.any(|host| host.is_moving(rollout));
                is_chosen(id) && is_ready && is_first && self.floors_hold_in(host, rollout, rollout.target)
            }),
            Move::NextBatch => chosen.is_some_and(|host| {
                is_free(host) && host.step_in(rollout) == Step::Ready && has_granted(rolling)
            }),
            Move::Bake => {
                let is_proved = chosen.is_some_and(|host| host.is_updated(rollout) && host.is_well());
                is_proved || (nobody_can && somebody_is_well)
            }
            Move::Halt => {
                let has_ended = |host: &Host<'a>| {
                    host.is_in(rollout) && !host.is_to_move(rollout) && !host.is_updated(rollout)
                };
                nobody_can && !somebody_is_well && self.any(has_ended)
            }
            _ => false,
        }
    }

    fn is_to_prepare(&self, host: &Host<'a>, rollout: &Rollout) -> bool {
        let is_waiting = matches!(host.step_in(rollout), Step::Waiting | Step::Granted);
        host.is_to_move(rollout) && is_waiting && host.is_heard() && !host.is_held()
    }

    /// A floor protects a service that stays: nothing of it is left when everything is uninstalled.
    fn floors_hold_in(&self, host: &Host<'a>, rollout: &Rollout, to: Release) -> bool {
        to.is_empty() || self.floors_hold(host, &rollout.policy, Some(rollout))
    }

    /// Prepare runs one wave ahead, by as many hosts as the two waves move.
    fn prepares(&self, id: &HostId, rollout: &Rollout, wave: u32) -> bool {
        let one_box = match &rollout.stage {
            Stage::Rolling(rolling) => rolling.one_box.as_ref(),
            _ => None,
        };
        self.is(id, |host| {
            let zone = &host.member.zone;
            let of = [wave, wave + 1].into_iter().filter(|wave| zones_of_wave(rollout, *wave).contains(zone));
            let wanted = of.map(|wave| {
                let is_limited = is_one_batch(rollout, wave);
                if is_limited { self.batch_size(rollout, zone, wave, 1) } else { usize::MAX }
            });
            let wanted = wanted.fold(0, usize::saturating_add);
            // The one box is asked besides.
            let is_asked = |host: &Host<'a>| host.is_asked && Some(&host.member.host) != one_box;
            let has_begun = |host: &Host<'a>| {
                matches!(host.step_in(rollout), Step::Preparing | Step::Ready) && !host.is_held()
            };
            let is_begun = |host: &Host<'a>| host.is_to_move(rollout) && (is_asked(host) || has_begun(host));
            let begun = self.count(|host| host.member.zone == *zone && is_begun(host));
            begun < wanted && self.is_to_prepare(host, rollout)
        })
    }

    pub(super) fn wave_allows(&self, step: Move<'_>, rollout: &Rollout, rolling: &Rolling) -> bool {
        let zones = zones_of_wave(rollout, rolling.wave);
        let is_one_batch = is_one_batch(rollout, rolling.wave);
        let has_room = |host: &Host<'a>| self.room(rollout, rolling, &host.member.zone) > 0;
        let here = |host: &Host<'a>| zones.contains(&host.member.zone) && host.is_to_move(rollout);
        let is_ready = |host: &Host<'a>| here(host) && host.is_free() && host.step_in(rollout) == Step::Ready;
        let is_open = self.any(|host| host.is_moving(rollout));
        let is_unknown = self.any(|host| self.is_unknown(rollout, host));
        let is_quiet = !is_open && !is_unknown;
        let has_begun = has_granted(rolling) || self.any(|host| host.is_open && host.member.grant.is_none());
        // A stripe whose grants have shown nothing is tried again with others.
        let is_proved = rolling
            .granted
            .keys()
            .all(|zone| self.any(|host| host.member.zone == *zone && host.is_updated(rollout)));
        let is_over = !is_one_batch || (!is_proved && !self.any(|host| is_ready(host) && has_room(host)));
        let is_next = is_quiet && has_granted(rolling) && is_over && self.any(is_ready);
        // Nobody is left who could still have a turn in this wave.
        let waits = |host: &Host<'a>| {
            here(host) && !host.is_held() && !host.entry.contact.lost && (!is_one_batch || has_room(host))
        };
        let is_done = is_quiet && !is_next && !self.any(waits);
        let retries = |host: &Host<'a>| zones.contains(&host.member.zone) && host.is_to_retry(rollout);
        let is_end = is_done && !self.any(retries);
        match step {
            Move::Prepare(id, _) => self.prepares(id, rollout, rolling.wave),
            Move::Grant(id, _) => self.is(id, |host| {
                let own = |host: &Host<'a>| {
                    host.member.lane == Lane::Rollout(rollout.id) || host.member.grant.is_none()
                };
                let is_alone = !self.any(|host| host.is_moving(rollout) && !own(host));
                // Those that are down go first in their zone, and cost nothing.
                let is_down = |other: &Host<'a>| {
                    is_ready(other) && other.member.zone == host.member.zone && !other.may_serve()
                };
                is_ready(host)
                    && has_room(host)
                    && (is_one_batch || is_open || !has_begun)
                    && is_alone
                    && (!host.may_serve() || !self.any(is_down))
                    && !is_unknown
                    && !is_next
                    && self.floors_hold_in(host, rollout, rollout.target)
            }),
            Move::NextBatch => is_next,
            Move::Retry(id) => is_done && self.is(id, retries),
            Move::Except(id, Exception::Silent) => {
                is_end && !is_one_batch && self.is(id, |host| here(host) && !host.is_held())
            }
            Move::Except(id, Exception::Held) => {
                is_end && !is_one_batch && self.is(id, |host| here(host) && host.is_held())
            }
            Move::Bake => is_end && (is_one_batch || !self.any(here)),
            _ => false,
        }
    }

    pub(super) fn bake_allows(&self, step: Move<'_>, rollout: &Rollout, wave: u32, is_baked: bool) -> bool {
        let is_over = is_baked && !self.any(|host| self.is_unknown(rollout, host));
        let is_gated = gates_before(rollout, wave + 1).next().is_some();
        match step {
            Move::Prepare(id, _) => self.prepares(id, rollout, wave),
            Move::Gate(before) => is_over && is_gated && before == wave + 1,
            step => is_over && !is_gated && self.entry_allows(step, rollout, wave + 1),
        }
    }

    /// Each gate that nobody has opened by a word must be open at the same time.
    pub(super) fn gate_allows(
        &self,
        step: Move<'_>,
        rollout: &Rollout,
        before: u32,
        stood: Duration,
    ) -> bool {
        let is_decided =
            |gate: &Gate| rollout.decisions.iter().any(|by| by.gate == gate.name && by.before == before);
        let is_shut =
            |gate: &&Gate| !is_decided(gate) && self.gates.gates.get(&gate.name) != Some(&Value::Open);
        let mut shut = gates_before(rollout, before).filter(is_shut).peekable();
        let is_open = shut.peek().is_none();
        if shut.any(|gate| gate.within.is_some_and(|within| within <= stood)) {
            return step == Move::Halt;
        }
        match step {
            Move::Prepare(id, _) => self.prepares(id, rollout, before.saturating_sub(1)),
            step => {
                let is_over = is_open && !self.any(|host| self.is_unknown(rollout, host));
                is_over && self.entry_allows(step, rollout, before)
            }
        }
    }

    /// Nothing stands before the wave, or the end, any more.
    fn entry_allows(&self, step: Move<'_>, rollout: &Rollout, wave: u32) -> bool {
        let is_last = wave >= waves(rollout);
        let is_end = is_last && !self.any(|host| host.is_to_move(rollout));
        let somebody = rollout.target.is_empty() || self.any(|host| host.is_updated(rollout));
        let is_left = |id: &HostId| is_last && self.is(id, |host| host.is_to_move(rollout));
        let is_held = |id: &HostId| self.is(id, Host::is_held);
        match step {
            Move::NextWave => !is_last,
            Move::Except(id, Exception::PassedBy) => is_left(id) && !is_held(id),
            Move::Except(id, Exception::Held) => is_left(id) && is_held(id),
            Move::Halt => is_end && !somebody,
            Move::Succeed => is_end && somebody,
            _ => false,
        }
    }

    /// As many zones at a time as on the way forward, as fast as floors and the rollback's batch allow.
    pub(super) fn way_back_allows(&self, step: Move<'_>, rollout: &Rollout) -> bool {
        let to = match rollout.direction {
            Direction::Forward => rollout.way_back,
            Direction::Back { .. } => rollout.target,
        };
        let is_left = |host: &Host<'a>| host.is_to_take_back(rollout) && !host.is_held();
        let can_go = |host: &Host<'a>| is_left(host) && host.is_free();
        let moving = self.count(|host| host.is_moving(rollout));
        let has = |zone: &Zone, is: &dyn Fn(&Host<'a>) -> bool| {
            self.any(|host| host.member.zone == *zone && is(host))
        };
        let (busy, idle): (Vec<&Zone>, Vec<&Zone>) =
            rollout.zones.iter().partition(|zone| has(zone, &|host| host.is_moving(rollout)));
        let idle = idle.into_iter().filter(|zone| has(zone, &can_go));
        let current: Vec<&Zone> = busy.into_iter().chain(idle).take(together(rollout)).collect();
        let hosts: u32 = rollout.members.values().sum();
        let is_done = moving == 0 && !self.any(|host| is_left(host) && !host.entry.contact.lost);
        match step {
            Move::Grant(id, _) => self.is(id, |host| {
                let is_down = |other: &Host<'a>| {
                    can_go(other) && other.member.zone == host.member.zone && !other.may_serve()
                };
                let is_first = !host.may_serve() || !self.any(is_down);
                can_go(host)
                    && current.contains(&&host.member.zone)
                    && is_first
                    && moving < at_most(rollout.policy.rollback_batch, hosts as usize)
                    && self.floors_hold_in(host, rollout, to)
            }),
            Move::Except(id, Exception::LostAfterSettling) => is_done && self.is(id, is_left),
            Move::Except(id, Exception::Held) => {
                is_done && self.is(id, |host| host.is_to_take_back(rollout) && host.is_held())
            }
            Move::EndRollback => is_done && !self.any(|host| host.is_to_take_back(rollout)),
            _ => false,
        }
    }
}
