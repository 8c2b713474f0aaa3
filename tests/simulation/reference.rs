//! What may be done next in an environment, by a third mind: slow, and obviously right. It walks all hosts
//! for every question, and shares no code with the planner or its checker. Every step of a plan must be
//! allowed here; and where the planner does nothing, nothing that is allowed may be left.

mod host;
mod waves;

use houston_common::clock::FleetTime;
use houston_common::id::{HostId, Zone};
use houston_common::policy::{OnFailure, Policy, Share};
use houston_common::release::Release;
use houston_common::rollout::Exception;
use houston_coordinator::environment::Environment;
use houston_coordinator::environment::member::{Lane, Step};
use houston_coordinator::fleet::Fleet;
use houston_coordinator::rollout::planner::{Change, GateValues, Grant, Plan, Turn};
use houston_coordinator::rollout::{Direction, Rollout, Stage};

use host::Host;

/// One step of a plan, without what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move<'a> {
    Overdue(&'a HostId),
    Late(&'a HostId),
    LetOut(&'a HostId),
    Retry(&'a HostId),
    Except(&'a HostId, Exception),
    Prepare(&'a HostId, Lane),
    Grant(&'a HostId, Lane),
    OneBox(&'a HostId),
    NextBatch,
    Bake,
    Gate(u32),
    NextWave,
    Succeed,
    EndRollback,
    Halt,
    GoBack,
}

struct Reference<'a> {
    environment: &'a Environment,
    hosts: Vec<Host<'a>>,
    gates: &'a GateValues,
    now: FleetTime,
}

/// Rounded down, at least one.
fn at_most(share: Share, of: usize) -> usize {
    let share = match share {
        Share::Hosts(hosts) => hosts as usize,
        Share::Percent(percent) => of * usize::from(percent) / 100,
    };
    share.max(1)
}

/// Hosts that may be away, of so many: what a floor, rounded up, leaves.
fn away_at_most(floor: Share, of: usize) -> usize {
    let floor = match floor {
        Share::Hosts(hosts) => hosts as usize,
        Share::Percent(percent) => (of * usize::from(percent)).div_ceil(100),
    };
    of.saturating_sub(floor)
}

impl<'a> Reference<'a> {
    fn new(environment: &'a Environment, fleet: &'a Fleet, gates: &'a GateValues, now: FleetTime) -> Self {
        let hosts = environment.members().filter_map(|live| {
            let entry = fleet.get(&live.member.host)?;
            Some(Host::new(live, entry, environment.name(), environment.rollout.as_ref()))
        });
        let hosts = hosts.collect();
        Self { environment, hosts, gates, now }
    }

    fn host(&self, id: &HostId) -> Option<&Host<'a>> {
        self.hosts.iter().find(|host| host.member.host == *id)
    }

    fn is(&self, id: &HostId, is: impl FnOnce(&Host<'a>) -> bool) -> bool {
        self.host(id).is_some_and(is)
    }

    fn any(&self, is: impl Fn(&Host<'a>) -> bool) -> bool {
        self.hosts.iter().any(is)
    }

    fn count(&self, is: impl Fn(&Host<'a>) -> bool) -> usize {
        self.hosts.iter().filter(|host| is(host)).count()
    }

    /// Whether the service stands it that this host goes away too.
    fn floors_hold(&self, moved: &Host<'a>, policy: &Policy, rollout: Option<&Rollout>) -> bool {
        let holds = |zone: Option<&Zone>, floor: Share| {
            let there = |host: &Host<'a>| zone.is_none_or(|zone| host.member.zone == *zone);
            let serving = self.count(|host| there(host) && host.in_service());
            let is_away = |host: &Host<'a>| !host.is_available() || host.member.host == moved.member.host;
            let away = self.count(|host| there(host) && host.in_service() && is_away(host));
            let planned = rollout.map(|rollout| match zone {
                Some(zone) => rollout.planned.get(zone).map_or(0, |hosts| *hosts as usize),
                None => rollout.planned.values().map(|hosts| *hosts as usize).sum(),
            });
            let planned = planned.filter(|planned| *planned > 0).unwrap_or(serving);
            away <= away_at_most(floor, planned.min(serving))
        };
        let zone = Some(&moved.member.zone);
        !moved.may_serve()
            || (holds(None, policy.fleet_floor) && policy.zone_floor.is_none_or(|floor| holds(zone, floor)))
    }

    /// What must be done before all else, since too much has gone wrong.
    fn verdict(&self, rollout: &Rollout) -> Option<Move<'a>> {
        let updated = self.count(|host| host.is_updated(rollout));
        let hosts: u32 = rollout.members.values().sum();
        let too_many = rollout.failures as usize > at_most(rollout.policy.failure_budget, updated);
        let zone_has_too_many = |(zone, failures): (&Zone, &u32)| {
            let updated = self.count(|host| host.member.zone == *zone && host.is_updated(rollout));
            let share = rollout.policy.zone_failure_budget;
            share.is_some_and(|share| *failures as usize > at_most(share, updated))
        };
        let too_many = too_many || rollout.failures_in.iter().any(zone_has_too_many);
        let is_late = match rollout.stage {
            Stage::RollingBack => return rollout.first_failure.as_ref().map(|_| Move::Halt),
            Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } => {
                rollout.first_failure.is_some() || (too_many && rollout.last_failure.is_some())
            }
            _ => return None,
        };
        let too_many_left_out =
            rollout.exceptions as usize > at_most(rollout.policy.lost_budget, hosts as usize);
        match rollout.policy.on_failure {
            OnFailure::Rollback if is_late => Some(Move::GoBack),
            OnFailure::Halt if is_late => Some(Move::Halt),
            _ => too_many_left_out.then_some(Move::Halt),
        }
    }

    fn allows(&self, step: Move<'_>) -> bool {
        let active = self.environment.rollout.as_ref();
        match (step, active) {
            (Move::Overdue(host), _) => {
                self.is(host, |host| host.member.grant.is_some_and(|grant| grant.deadline <= self.now))
            }
            (Move::Late(host), _) => self.is(host, |host| {
                let is_unknown = |rollout: &Rollout| self.is_unknown(rollout, host);
                let prepares = host.member.step == Step::Preparing && !host.is_open;
                host.member.answer_by.is_some_and(|answer_by| answer_by <= self.now)
                    && (prepares || active.is_some_and(is_unknown))
            }),
            (Move::LetOut(host), _) => {
                self.is(host, |host| host.member.boxed_until.is_some_and(|until| until <= self.now))
            }
            _ if self.gates.regressed => false,
            (Move::Prepare(host, Lane::Standing) | Move::Grant(host, Lane::Standing), _) => {
                self.is(host, |host| self.lane_allows(step, host))
            }
            (_, None) => false,
            (_, Some(rollout)) => self.rollout_allows(step, rollout),
        }
    }

    fn lane_allows(&self, step: Move<'_>, host: &Host<'a>) -> bool {
        let definition = &self.environment.definition;
        let is_wanted = host.is_to_catch_up(self.environment) && host.is_heard();
        let is_told = |host: &Host<'a>, step| host.is_told_in_lane(definition.baked, step);
        if matches!(step, Move::Prepare(..)) {
            return is_wanted && !is_told(host, Step::Ready) && !is_told(host, Step::Preparing);
        }
        let inside =
            |host: &Host<'a>| self.environment.rollout.as_ref().is_some_and(|rollout| host.is_in(rollout));
        let moving = self.count(|host| host.is_open && host.member.lane == Lane::Standing && !inside(host));
        let size = at_most(definition.policy.batch, self.count(|host| !host.member.detached));
        is_wanted
            && host.is_free()
            && is_told(host, Step::Ready)
            && moving < size
            && self.floors_hold(host, &definition.policy, None)
    }

    /// Updated, there, and not known to be well: it holds every batch, bake and wave.
    fn is_unknown(&self, rollout: &Rollout, host: &Host<'a>) -> bool {
        let goes_forward = rollout.stage != Stage::RollingBack;
        goes_forward && host.is_updated(rollout) && !host.entry.contact.lost && !host.is_well()
    }

    fn rollout_allows(&self, step: Move<'_>, rollout: &Rollout) -> bool {
        if let Some(verdict) = self.verdict(rollout) {
            return step == verdict;
        }
        let lost = |host: &HostId| self.is(host, |host| host.is_updated(rollout) && host.entry.contact.lost);
        match (step, &rollout.stage) {
            (Move::Except(host, Exception::LostAfterSettling), stage) if *stage != Stage::RollingBack => {
                lost(host)
            }
            (Move::Except(host, Exception::Excluded), _) => {
                self.is(host, |host| host.is_to_leave_out(rollout))
            }
            _ if rollout.paused.is_some() => false,
            (_, Stage::Rolling(rolling)) if rolling.wave == 0 => self.one_box_allows(step, rollout, rolling),
            (_, Stage::Rolling(rolling)) => self.wave_allows(step, rollout, rolling),
            (_, Stage::Baking { wave, left, since }) => {
                let is_baked = self.now.since(*since) >= *left;
                self.bake_allows(step, rollout, *wave, is_baked)
            }
            (_, Stage::Gated { before, waited, since }) => {
                self.gate_allows(step, rollout, *before, *waited + self.now.since(*since))
            }
            (_, Stage::RollingBack) => self.way_back_allows(step, rollout),
            _ => false,
        }
    }

    /// What a grant must say besides the host.
    fn is_as_it_must_be(&self, grant: &Grant) -> bool {
        let Some(host) = self.host(&grant.host) else { return false };
        let settled = host.member.settled.unwrap_or_else(Release::empty);
        let (release, way_back) = match (grant.lane, &self.environment.rollout) {
            (Lane::Standing, _) => (self.environment.definition.baked, settled),
            (Lane::Rollout(id), Some(rollout)) if rollout.id == id => {
                match (&rollout.stage, rollout.direction) {
                    (Stage::RollingBack, Direction::Forward) => (rollout.way_back, rollout.way_back),
                    (_, Direction::Back { .. }) => (rollout.target, rollout.target),
                    _ => (rollout.target, rollout.way_back),
                }
            }
            (Lane::Rollout(_), _) => return false,
        };
        (grant.release, grant.way_back) == (release, way_back)
    }
}

fn move_of(change: &Change) -> Move<'_> {
    match change {
        Change::Prepare { host, lane, .. } => Move::Prepare(host, *lane),
        Change::Except { host, exception } => Move::Except(host, *exception),
        Change::Late { host } => Move::Late(host),
        Change::LetOut { host } => Move::LetOut(host),
        Change::Retry { host } => Move::Retry(host),
        Change::Overdue { host } => Move::Overdue(host),
        Change::Turn(Turn::OneBox(host)) => Move::OneBox(host),
        Change::Turn(Turn::NextBatch) => Move::NextBatch,
        Change::Turn(Turn::Bake) => Move::Bake,
        Change::Turn(Turn::Gate(before)) => Move::Gate(*before),
        Change::Turn(Turn::NextWave) => Move::NextWave,
        Change::Turn(Turn::Halt(_)) => Move::Halt,
        Change::Turn(Turn::RollBack(_)) => Move::GoBack,
        Change::Turn(Turn::Succeed) => Move::Succeed,
        Change::Turn(Turn::EndRollback) => Move::EndRollback,
    }
}

/// The first step of a plan that is not allowed.
pub(super) fn judge(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    plan: &Plan,
    now: FleetTime,
) -> Result<(), String> {
    let mut reference = Reference::new(environment, fleet, gates, now);
    for change in &plan.changes {
        if !reference.allows(move_of(change)) {
            return Err(format!("{change:?} is not allowed"));
        }
        if let Change::Prepare { host: asked, lane: Lane::Rollout(_), .. } = change {
            let hosts = reference.hosts.iter_mut().filter(|host| host.member.host == *asked);
            hosts.for_each(|host| host.is_asked = true);
        }
    }
    for grant in &plan.grants {
        if !reference.allows(Move::Grant(&grant.host, grant.lane)) || !reference.is_as_it_must_be(grant) {
            return Err(format!("{grant:?} is not allowed"));
        }
        let granted = reference.hosts.iter_mut().find(|host| host.member.host == grant.host);
        granted.into_iter().for_each(|host| host.is_open = true);
    }
    Ok(())
}

/// Something that is allowed, where the planner finds nothing to do.
pub(super) fn left_to_do(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    now: FleetTime,
) -> Option<String> {
    let reference = Reference::new(environment, fleet, gates, now);
    let lanes = [Some(Lane::Standing), environment.rollout.as_ref().map(|rollout| Lane::Rollout(rollout.id))];
    let next = environment.rollout.as_ref().map_or(0, |rollout| rollout.current_wave() + 1);
    let turns = [
        Move::Gate(next),
        Move::NextBatch,
        Move::Bake,
        Move::NextWave,
        Move::Succeed,
        Move::EndRollback,
        Move::Halt,
        Move::GoBack,
    ];
    let of_host = |id| {
        let of_lane = move |lane| [Move::Prepare(id, lane), Move::Grant(id, lane)];
        let excepted = Exception::ALL.map(|exception| Move::Except(id, exception));
        let lanes = lanes.iter().flatten().copied().flat_map(of_lane);
        let own = [Move::Overdue(id), Move::Late(id), Move::LetOut(id), Move::Retry(id), Move::OneBox(id)];
        own.into_iter().chain(excepted).chain(lanes)
    };
    let hosts = reference.hosts.iter().flat_map(|host| of_host(&host.member.host).collect::<Vec<_>>());
    let is_due = |step: &Move<'_>| match step {
        // One that is perhaps in the middle of something may be moved, and has no right to it.
        Move::Grant(id, _)
            if reference.host(id).is_some_and(|host| host.may_serve() && !host.is_at_rest()) =>
        {
            false
        }
        step => reference.allows(*step),
    };
    let left = hosts.chain(turns).find(is_due)?;
    Some(format!("{left:?} is allowed, and nothing is done"))
}
