//! What each stage of a rollout allows.

use houston_common::id::{HostId, Zone};
use houston_common::release::Release;
use houston_common::rollout::Exception;
use houston_coordinator::environment::member::{Lane, Step};
use houston_coordinator::rollout::{Direction, Rolling, Rollout};

use super::host::Host;
use super::{Move, Reference, at_most};

/// The zones of a wave. The one box, wave 0, may be in any.
fn zones_of_wave(rollout: &Rollout, wave: u32) -> &[Zone] {
    let index = (wave as usize).checked_sub(1);
    index.and_then(|index| rollout.zones.get(index)).map_or(&[], std::slice::from_ref)
}

impl<'a> Reference<'a> {
    /// Hosts of a zone that are granted together. Hosts that join make it no larger.
    fn batch_size(&self, rollout: &Rollout, zone: &Zone) -> usize {
        let today = self.count(|host| host.member.zone == *zone && !host.member.detached);
        let at_first = rollout.members.get(zone).map_or(0, |hosts| *hosts as usize);
        at_most(rollout.policy.batch, at_first.min(today))
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
                let is_near = rollout.zones.first() == Some(&host.member.zone) || is_chosen(id);
                self.is_to_prepare(host, rollout) && is_near
            }),
            Move::Grant(id, _) => self.is(id, |host| {
                let is_ready = is_free(host) && host.step_in(rollout) == Step::Ready;
                let is_first = rolling.granted == 0 && !self.any(|host| host.is_moving(rollout));
                is_chosen(id) && is_ready && is_first && self.floors_hold_in(host, rollout, rollout.target)
            }),
            Move::NextBatch => chosen.is_some_and(|host| {
                is_free(host) && host.step_in(rollout) == Step::Ready && rolling.granted > 0
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

    /// Prepare runs one wave ahead.
    fn prepares(&self, id: &HostId, rollout: &Rollout, wave: u32) -> bool {
        let near = [zones_of_wave(rollout, wave), zones_of_wave(rollout, wave + 1)].concat();
        self.is(id, |host| near.contains(&host.member.zone) && self.is_to_prepare(host, rollout))
    }

    pub(super) fn wave_allows(&self, step: Move<'_>, rollout: &Rollout, rolling: &Rolling) -> bool {
        let zones = zones_of_wave(rollout, rolling.wave);
        let here = |host: &Host<'a>| zones.contains(&host.member.zone) && host.is_to_move(rollout);
        let is_ready = |host: &Host<'a>| here(host) && host.is_free() && host.step_in(rollout) == Step::Ready;
        let is_open = self.any(|host| host.is_moving(rollout));
        let is_unknown = self.any(|host| self.is_unknown(rollout, host));
        let own =
            |host: &Host<'a>| host.member.lane == Lane::Rollout(rollout.id) || host.member.grant.is_none();
        // Nobody is left who could still have a turn in this wave.
        let waits = |host: &Host<'a>| here(host) && !host.is_held() && !host.entry.contact.lost;
        let is_done = !is_open && !is_unknown && !self.any(waits);
        match step {
            Move::Prepare(id, _) => self.prepares(id, rollout, rolling.wave),
            Move::Grant(id, _) => self.is(id, |host| {
                let now = self.count(|host| host.is_open && host.member.grant.is_none());
                let granted = rolling.granted as usize + now;
                let fits = granted == 0 || (is_open && granted < self.batch_size(rollout, &host.member.zone));
                let is_alone = !self.any(|host| host.is_moving(rollout) && !own(host));
                // Those that are down go first, and cost nothing.
                let is_first = !host.may_serve() || !self.any(|host| is_ready(host) && !host.may_serve());
                is_ready(host)
                    && fits
                    && is_alone
                    && is_first
                    && !is_unknown
                    && self.floors_hold_in(host, rollout, rollout.target)
            }),
            Move::NextBatch => self.any(is_ready) && !is_open && !is_unknown && rolling.granted > 0,
            Move::Except(id, Exception::Silent) => {
                is_done && self.is(id, |host| here(host) && !host.is_held())
            }
            Move::Except(id, Exception::Held) => is_done && self.is(id, |host| here(host) && host.is_held()),
            Move::Bake => is_done && !self.any(here),
            _ => false,
        }
    }

    pub(super) fn bake_allows(&self, step: Move<'_>, rollout: &Rollout, wave: u32, is_baked: bool) -> bool {
        let is_over = is_baked && !self.any(|host| self.is_unknown(rollout, host));
        let is_last = wave as usize >= rollout.zones.len();
        let is_end = is_over && is_last && !self.any(|host| host.is_to_move(rollout));
        let somebody = rollout.target.is_empty() || self.any(|host| host.is_updated(rollout));
        let is_left = |id: &HostId| is_over && is_last && self.is(id, |host| host.is_to_move(rollout));
        let is_held = |id: &HostId| self.is(id, Host::is_held);
        match step {
            Move::Prepare(id, _) => self.prepares(id, rollout, wave),
            Move::NextWave => is_over && !is_last,
            Move::Except(id, Exception::PassedBy) => is_left(id) && !is_held(id),
            Move::Except(id, Exception::Held) => is_left(id) && is_held(id),
            Move::Halt => is_end && !somebody,
            Move::Succeed => is_end && somebody,
            _ => false,
        }
    }

    /// One zone at a time, as fast as floors and the rollback's batch allow.
    pub(super) fn way_back_allows(&self, step: Move<'_>, rollout: &Rollout) -> bool {
        let to = match rollout.direction {
            Direction::Forward => rollout.way_back,
            Direction::Back { .. } => rollout.target,
        };
        let is_left = |host: &Host<'a>| host.is_to_take_back(rollout) && !host.is_held();
        let can_go = |host: &Host<'a>| is_left(host) && host.is_free();
        let moving = self.count(|host| host.is_moving(rollout));
        let has = |zone: &&Zone, is: &dyn Fn(&Host<'a>) -> bool| {
            self.any(|host| host.member.zone == **zone && is(host))
        };
        let current = rollout.zones.iter().find(|zone| has(zone, &|host| host.is_moving(rollout)));
        let current = current.or_else(|| rollout.zones.iter().find(|zone| has(zone, &can_go)));
        let hosts: u32 = rollout.members.values().sum();
        let is_done = moving == 0 && !self.any(|host| is_left(host) && !host.entry.contact.lost);
        match step {
            Move::Grant(id, _) => self.is(id, |host| {
                let is_down =
                    |host: &Host<'a>| can_go(host) && Some(&host.member.zone) == current && !host.may_serve();
                let is_first = !host.may_serve() || !self.any(is_down);
                can_go(host)
                    && Some(&host.member.zone) == current
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
