//! **Decision.** Turns a plan into records. Without choices: everything was decided in the plan.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::assignment::Terms;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::error::Code;
use houston_common::id::{Generation, HostId};
use houston_common::policy::Policy;
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Cause, Exception};

use super::planner::{Change, Grant, Plan, Turn, is_proved, note_proven};
use super::{Direction, Rolling, Rollout, Stage, UNWELL_MAX, fold, outcome};
use crate::environment::index::{Class, Reach};
use crate::environment::member::{self, Lane, Member, Step, Told};
use crate::environment::{BAD_MAX, Definition, Environment, Live};
use crate::fleet::{Entry, Fleet};
use crate::state::Edit;

/// The records that a plan changes.
#[derive(Debug, Default)]
pub struct Performed {
    pub members: Vec<Member>,
    pub rollout: Option<Rollout>,
    pub definition: Option<Definition>,
    /// Turns of the rollout, for the audit log.
    pub turns: Vec<Turn>,
}

impl Performed {
    /// In the order in which they apply: the definition before the rollout, since members are sorted by it
    /// when that ends.
    pub fn edits(self) -> impl Iterator<Item = Edit> {
        let Self { members, rollout, definition, turns: _ } = self;
        let members = members.into_iter().map(Edit::Member);
        members.chain(definition.map(Edit::Environment)).chain(rollout.map(Edit::Rollout))
    }
}

/// `generation` is the newest one given out; it is raised for every assignment.
pub fn perform(
    environment: &Environment,
    fleet: &Fleet,
    plan: &Plan,
    generation: &mut Generation,
    now: FleetTime,
    wall: WallTime,
) -> Performed {
    let mut work = Work {
        environment,
        members: BTreeMap::new(),
        rollout: environment.rollout.clone(),
        definition: environment.definition.clone(),
        generation,
    };
    let mut turns = Vec::new();
    for change in &plan.changes {
        match change {
            Change::Prepare { host, lane, release, way_back } => {
                let told =
                    Told { generation: work.next(), terms: None, release: *release, way_back: *way_back };
                let answer_by = now.plus(prepare_time(&work.policy(*lane)));
                let Some(member) = work.member(host) else { continue };
                member.told = Some(told);
                // A host that is taken back says why for as long as the rollout is looked at.
                if member.lane != *lane {
                    member.failure = None;
                    member.retries = 0;
                }
                member.lane = *lane;
                member.step = Step::Preparing;
                member.answer_by = Some(answer_by);
            }
            Change::Except { host, exception } => work.except(host, *exception),
            Change::Overdue { host } => work.overdue(host, fleet, now),
            Change::Late { host } => work.late(host, fleet, now),
            Change::LetOut { host } => {
                if let Some(member) = work.member(host) {
                    member.boxed_until = None;
                }
            }
            Change::Retry { host } => {
                if let Some(member) = work.member(host) {
                    member.step = Step::Waiting;
                    member.retries += 1;
                }
            }
            Change::Turn(turn) => {
                work.turn(turn, now, wall);
                turns.push(turn.clone());
            }
        }
    }
    for grant in &plan.grants {
        work.grant(grant, now);
    }
    Performed {
        members: work.members.into_values().collect(),
        rollout: work.rollout.filter(|rollout| Some(rollout) != environment.rollout.as_ref()),
        definition: Some(work.definition).filter(|definition| *definition != environment.definition),
        turns,
    }
}

struct Work<'a> {
    environment: &'a Environment,
    members: BTreeMap<HostId, Member>,
    rollout: Option<Rollout>,
    definition: Definition,
    generation: &'a mut Generation,
}

impl Work<'_> {
    fn next(&mut self) -> Generation {
        *self.generation = self.generation.next();
        *self.generation
    }

    fn member(&mut self, host: &HostId) -> Option<&mut Member> {
        let live = self.environment.member(host)?;
        Some(self.members.entry(host.clone()).or_insert_with(|| live.member.clone()))
    }

    fn grant(&mut self, grant: &Grant, now: FleetTime) {
        let generation = self.next();
        let policy = self.policy(grant.lane);
        let terms = Terms {
            start_within: policy.start_within,
            apply_deadline: policy.apply_deadline,
            health_window: policy.health_window,
        };
        let deadline = now.plus(policy.start_within).plus(policy.apply_deadline);
        let Some(member) = self.member(&grant.host) else { return };
        let zone = member.zone.clone();
        member.told =
            Some(Told { generation, terms: Some(terms), release: grant.release, way_back: grant.way_back });
        member.grant =
            Some(member::Grant { generation, was_down: grant.was_down, reverting: false, deadline });
        member.lane = grant.lane;
        member.step = if grant.taking_back { Step::TakingBack } else { Step::Granted };
        if let (Lane::Rollout(_), Some(Rollout { stage: Stage::Rolling(rolling), .. })) =
            (grant.lane, self.rollout.as_mut())
        {
            *rolling.granted.entry(zone).or_default() += 1;
        }
    }

    /// Pinned by the rollout, or the environment's own.
    fn policy(&self, lane: Lane) -> Policy {
        match (lane, &self.rollout) {
            (Lane::Rollout(_), Some(rollout)) => rollout.policy.clone(),
            (Lane::Rollout(_) | Lane::Standing, _) => self.definition.policy.clone(),
        }
    }

    /// A host that cannot finish preparing (a full disk, a release that it does not take), or does not say
    /// whether it is well, holds nobody up. One that is not there is asked again when it is.
    fn late(&mut self, host: &HostId, fleet: &Fleet, now: FleetTime) {
        let seen = fleet.get(host).is_some_and(Entry::is_seen);
        let mut rollout = self.rollout.take();
        if let Some(member) = self.member(host) {
            member.answer_by = None;
            match (member.step, rollout.as_mut()) {
                (Step::Settled, Some(rollout)) => {
                    let what = "the host does not say whether it is well";
                    outcome::turn_bad(member, rollout, failure(Code::Unhealthy, what));
                }
                (_, rollout) if seen => {
                    let what = "the host did not get ready in time";
                    fold::prepare_failed(member, rollout, Some(failure(Code::ApplyDeadline, what)), now);
                }
                _ => member.step = Step::Waiting,
            }
        }
        self.rollout = rollout;
    }

    fn except(&mut self, host: &HostId, exception: Exception) {
        let Some(mut rollout) = self.rollout.take() else { return };
        if let Some(member) = self.member(host) {
            outcome::except(member, &mut rollout, exception);
        }
        self.rollout = Some(rollout);
    }

    fn overdue(&mut self, host: &HostId, fleet: &Fleet, now: FleetTime) {
        let lost = fleet.get(host).is_some_and(|entry| entry.contact.lost);
        let reported = self.environment.member(host).and_then(Live::phase_of_grant);
        let mut rollout = self.rollout.take();
        if let Some(member) = self.member(host) {
            match rollout.as_mut() {
                // A host that is lost on the way back holds nobody up: it is named.
                Some(rollout)
                    if member.step == Step::TakingBack
                        && lost
                        && member.lane == Lane::Rollout(rollout.id) =>
                {
                    member.grant = None;
                    outcome::except(member, rollout, Exception::LostAfterSettling);
                }
                _ => {
                    let (code, message) = if lost {
                        (Code::HostLost, "the host has been silent past its deadline")
                    } else {
                        (Code::ApplyDeadline, "the activation has missed its deadline")
                    };
                    let phase = reported.unwrap_or(Phase::Ready);
                    let failure = Failure { phase, ..failure(code, message) };
                    outcome::end_failed(member, rollout.as_mut(), Some(failure), now);
                }
            }
        }
        self.rollout = rollout;
    }

    /// The failure that crosses a budget beyond the first batches counted toward the penalty box; now it
    /// is the release's.
    fn forgive(&mut self, cause: &Cause) {
        let later = self.rollout.as_ref().is_some_and(|rollout| rollout.first_failure.is_none());
        if let (Cause::FailureBudget { host, .. }, true) = (cause, later)
            && let Some(member) = self.member(host)
        {
            member.forgive_last();
        }
    }

    fn turn(&mut self, turn: &Turn, now: FleetTime, wall: WallTime) {
        if let Turn::Halt(cause) | Turn::RollBack(cause) = turn {
            self.forgive(cause);
        }
        let Some(rollout) = self.rollout.as_mut() else { return };
        match turn {
            Turn::OneBox(host) => {
                if let Stage::Rolling(rolling) = &mut rollout.stage {
                    rolling.one_box = Some(host.clone());
                }
            }
            Turn::NextBatch => {
                let proved = is_proved(self.environment, rollout);
                note_proven(self.environment, rollout);
                if let Stage::Rolling(rolling) = &mut rollout.stage {
                    rolling.batch += u32::from(proved || rolling.batch > 1);
                    rolling.granted.clear();
                }
            }
            Turn::Bake => {
                let wave = rollout.current_wave();
                note_proven(self.environment, rollout);
                if let Stage::Rolling(rolling) = &rollout.stage {
                    rollout.earned = rollout.earned_after(rolling);
                }
                rollout.stage = Stage::Baking { wave, left: rollout.bake_of(wave), since: now };
            }
            Turn::Gate(before) => {
                rollout.stage = Stage::Gated { before: *before, waited: Duration::ZERO, since: now };
            }
            Turn::NextWave => {
                rollout.reached = if let Stage::Gated { before, .. } = rollout.stage {
                    before
                } else {
                    rollout.current_wave() + 1
                };
                rollout.stage = Stage::Rolling(Rolling::begin(rollout.reached));
            }
            Turn::Halt(cause) => {
                rollout.untouched_unwell = untouched_unwell(self.environment, rollout, cause);
                rollout.stage = Stage::Halted;
                rollout.because(cause.clone());
            }
            Turn::RollBack(cause) => {
                rollout.untouched_unwell = untouched_unwell(self.environment, rollout, cause);
                begin_rollback(rollout, self.environment);
                rollout.because(cause.clone());
                mark_bad(&mut self.definition, rollout);
            }
            Turn::Succeed => {
                rollout.end(Stage::Succeeded, wall, self.environment);
                self.definition.baked = rollout.target;
                self.definition.bad.retain(|bad| *bad != rollout.target);
                self.definition.unresolved.clear();
            }
            Turn::EndRollback => {
                self.definition.unresolved.clear();
                match rollout.direction {
                    Direction::Forward => rollout.end(Stage::RolledBack, wall, self.environment),
                    Direction::Back { .. } => {
                        rollout.end(Stage::Succeeded, wall, self.environment);
                        self.definition.baked = rollout.target;
                    }
                }
            }
        }
    }
}

/// Hosts that turned unhealthy since the rollout began, and that it had not come to yet. A release cannot have
/// broken them. The walk is over the hosts that are down and to come, once in a rollout that has failed.
fn untouched_unwell(environment: &Environment, rollout: &Rollout, cause: &Cause) -> Vec<HostId> {
    if !matches!(cause, Cause::FailureBudget { .. }) || rollout.unwell_before.len() > UNWELL_MAX {
        return rollout.untouched_unwell.clone();
    }
    let to_come = [Class::Unprepared, Class::Preparing, Class::Ready].map(|class| class(Reach::Down));
    let down = to_come.into_iter().flat_map(|class| environment.index().all(class));
    let turned = down.filter(|host| {
        let live = environment.member(host);
        live.is_some_and(|live| live.member.in_service() && live.is_unhealthy())
            && !rollout.unwell_before.contains(host)
    });
    turned.take(UNWELL_MAX).cloned().collect()
}

/// How long a host may take to fetch, lay out and check: three times what it may take to activate, since
/// it disturbs nobody. Beyond it the rollout goes on without the host.
pub(super) fn prepare_time(policy: &Policy) -> Duration {
    policy.apply_deadline.saturating_mul(3)
}

fn failure(code: Code, message: &str) -> Failure {
    let (message, log_tail) = (message.to_owned(), String::new());
    Failure { code, phase: Phase::Failed, package: None, message, log_tail }
}

/// From now on hosts go back; the budget is reckoned from the hosts in service at this moment.
pub fn begin_rollback(rollout: &mut Rollout, environment: &Environment) {
    rollout.stage = Stage::RollingBack;
    rollout.first_failure = None;
    rollout.planned =
        environment.index().zones().map(|(zone, counts)| (zone.clone(), counts.in_service)).collect();
}

/// What is taken back is not offered again without `--force`.
pub fn mark_bad(definition: &mut Definition, rollout: &Rollout) {
    let bad = match rollout.direction {
        Direction::Forward => rollout.target,
        Direction::Back { .. } => rollout.way_back,
    };
    definition.bad.retain(|other| *other != bad);
    // Offered again by force over itself: what runs everywhere is not bad for that.
    if rollout.target == rollout.way_back {
        return;
    }
    definition.bad.push(bad);
    let over = definition.bad.len().saturating_sub(BAD_MAX);
    definition.bad.drain(..over);
}
