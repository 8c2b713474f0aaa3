//! Every plan, judged by the reference planner; and why a rollout waits, and for how long.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::id::{EnvironmentName, RolloutId};
use houston_common::policy::Policy;
use houston_common::rollout::WaitingOn;
use houston_coordinator::engine::core::Minds;
use houston_coordinator::environment::Environment;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::fleet::Fleet;
use houston_coordinator::rollout::planner::{GateValues, Plan};
use houston_coordinator::rollout::{Rollout, Stage, check};

use super::grants::grown;
use super::{Checker, Place, Violation};
use crate::simulation::coordinator::LOST_AFTER;
use crate::simulation::planted::Planted;
use crate::simulation::reference;
use crate::simulation::setting::Size;

thread_local! {
    /// What was found where no checker is at hand: in the middle of a turn.
    static NOTICED: RefCell<Option<Violation>> = const { RefCell::new(None) };
}

pub(in crate::simulation) fn notice(law: &'static str, detail: String) {
    NOTICED.with_borrow_mut(|noticed| {
        noticed.get_or_insert(Violation { law, detail });
    });
}

/// What an earlier run left in memory is nothing to the next.
pub(in crate::simulation) fn forget() {
    NOTICED.take();
}

type CheckFn = fn(&Environment, &Fleet, &GateValues, &Plan, FleetTime) -> Result<(), check::Violation>;

const ALLOWED: &str = "R1 every step is allowed";
const NOTHING_LEFT: &str = "R2 nothing is left to do";
/// Plans between two looks for what is left to do: each walks the hosts many times. Odd, so that two
/// environments take turns.
const LOOK_EVERY: u64 = 201;

/// The minds, and the reference planner beside them. Where a bug is planted that is another law's to find,
/// the reference is silent; in larger fleets it would take too long.
pub(in crate::simulation) fn watched(planted: Option<Planted>, size: Size) -> Minds {
    let minds = planted.map_or_else(Minds::default, Planted::minds);
    if size != Size::Small {
        return minds;
    }
    let check: CheckFn = match planted {
        None => check_and_judge,
        Some(planted) if is_judged(Some(planted)) => judge,
        Some(_) => return minds,
    };
    Minds { check, ..minds }
}

fn is_judged(planted: Option<Planted>) -> bool {
    planted.is_none_or(|planted| planted.laws().iter().any(|law| law.starts_with('R')))
}

fn judge(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    plan: &Plan,
    now: FleetTime,
) -> Result<(), check::Violation> {
    if let Err(detail) = reference::judge(environment, fleet, gates, plan, now) {
        notice(ALLOWED, format!("{}: {detail}", environment.name()));
    }
    Ok(())
}

fn check_and_judge(
    environment: &Environment,
    fleet: &Fleet,
    gates: &GateValues,
    plan: &Plan,
    now: FleetTime,
) -> Result<(), check::Violation> {
    judge(environment, fleet, gates, plan, now)?;
    check::check(environment, fleet, gates, plan, now)
}

/// How a rollout gets on. Going round in circles is no progress: only what was not seen before counts.
#[derive(Debug, Default)]
pub(super) struct Progress {
    rollout: Option<RolloutId>,
    seen: BTreeSet<String>,
    since: FleetTime,
    /// What it has waited for since, each with the longest that the policy lets it take.
    waits: BTreeMap<&'static str, Duration>,
    /// Another process has taken over since.
    is_taken_over: bool,
}

#[derive(Debug, Default)]
pub(super) struct Patience {
    progress: BTreeMap<EnvironmentName, Progress>,
    /// Until when hosts that were told something must have answered, or be given up.
    deadlines: BTreeSet<(FleetTime, Place)>,
    plans: u64,
}

/// From a deadline to the turn of the coordinator that acts on it.
const TURN_SLACK: Duration = Duration::from_secs(15);
/// Beside the waits that have a name: turns, messages on their way, agents that start again.
const WAIT_SLACK: Duration = Duration::from_secs(120);

/// The longest that a wait may take by itself; absent where an operator has the way out.
fn longest(waiting: &WaitingOn, policy: &Policy) -> Option<Duration> {
    // A failed step may be undone, for as long again, and its report take two holds.
    let grant = policy.start_within + 2 * policy.apply_deadline + Duration::from_secs(60);
    match waiting {
        WaitingOn::Prepare { .. } => Some(3 * policy.apply_deadline),
        WaitingOn::Batch { .. } | WaitingOn::OtherEnvironment { .. } => Some(grant),
        WaitingOn::Bake { .. } => {
            let bakes = policy.bake;
            [bakes.one_box, bakes.first_zone, bakes.later_zones].into_iter().max()
        }
        WaitingOn::Health { .. } => Some(policy.apply_deadline + LOST_AFTER),
        WaitingOn::NotHeardYet => Some(LOST_AFTER),
        // One that nothing bounds waits for a person, or for the world.
        WaitingOn::Gate { gate, halts_in: Some(_), .. } => {
            policy.gates.iter().find(|of| of.name == *gate).and_then(|of| of.within)
        }
        _ => None,
    }
}

impl Checker {
    /// What was noticed in the middle of a turn.
    pub(super) fn hear_notices(&mut self) {
        if let Some(Violation { law, detail }) = NOTICED.take() {
            self.broken(law, detail);
        }
    }

    /// Whether it is time to look for what is left to do.
    pub(super) fn looks(&mut self, planted: Option<Planted>) -> bool {
        self.patience.plans += 1;
        is_judged(planted) && self.patience.plans.is_multiple_of(LOOK_EVERY)
    }

    /// Whether what an environment waits for is bounded; and, if it is time, whether nothing is left to do.
    pub(super) fn plans_hold(
        &mut self,
        environment: &Environment,
        fleet: &Fleet,
        gates: &GateValues,
        (plan, looks): (&Plan, bool),
        now: FleetTime,
    ) {
        if looks
            && plan.does_nothing()
            && let Some(left) = reference::left_to_do(environment, fleet, gates, now)
        {
            self.broken(NOTHING_LEFT, format!("{}: {left}; {:?}", environment.name(), plan.waiting));
        }
        if let Some(rollout) = &environment.rollout {
            let is_lost = |member: &Member| {
                fleet.get(&member.host).is_some_and(|entry| entry.contact.lost) && member.in_scope(rollout.id)
            };
            let waits_for_lost = environment.members().any(|live| is_lost(&live.member));
            self.gets_on(rollout, plan, waits_for_lost, now);
        }
    }

    /// The same at the end of a run.
    pub(in crate::simulation) fn nothing_is_left(
        &mut self,
        environment: &Environment,
        fleet: &Fleet,
        planted: Option<Planted>,
        now: FleetTime,
    ) {
        if is_judged(planted)
            && let Some(left) = reference::left_to_do(environment, fleet, &GateValues::default(), now)
        {
            self.broken(NOTHING_LEFT, format!("{}: {left}", environment.name()));
        }
    }

    fn gets_on(&mut self, rollout: &Rollout, plan: &Plan, waits_for_lost: bool, now: FleetTime) {
        let definitions = self.stored.definitions.values();
        let policies = || definitions.clone().map(|definition| &definition.policy).chain([&rollout.policy]);
        let progress = self.patience.progress.entry(rollout.environment.clone()).or_default();
        let longest = |waiting: &WaitingOn| policies().map(|policy| longest(waiting, policy)).max().flatten();
        for waiting in &plan.waiting {
            let Some(longest) = longest(waiting) else {
                (progress.since, progress.is_taken_over) = (now, false);
                progress.waits.clear();
                return;
            };
            progress.waits.insert(waiting.as_str(), longest);
        }
        let patience: Duration = progress.waits.values().sum::<Duration>() + WAIT_SLACK;
        if now.since(progress.since) > patience {
            let is_fix = !rollout.inherits.is_empty() || rollout.stage == Stage::RollingBack;
            let law = match (progress.is_taken_over, waits_for_lost, is_fix) {
                (true, ..) => "L7 fail-over",
                (_, true, _) => "L3 lost agents",
                (.., true) => "L5 a fix supersedes",
                _ => "L2 no silent stall",
            };
            let waited = now.since(progress.since);
            let waits = &progress.waits;
            let detail = format!(
                "rollout {} has not got on for {waited:?}, though {waits:?} is all that it waited for: {:?}",
                rollout.id, plan.waiting
            );
            self.broken(law, detail);
        }
    }

    /// Something of a rollout was stored.
    pub(super) fn stored_of_rollout(&mut self, rollout: &Rollout) {
        let mark = format!("{:?} {} {}", rollout.stage, rollout.failures, rollout.exceptions);
        self.mark(rollout, mark);
        let Stage::Rolling(rolling) = &rollout.stage else { return };
        for (zone, granted) in rolling.granted.iter().filter(|_| rolling.wave > 0) {
            let began_with = rollout.members.get(zone).copied().unwrap_or_default();
            let size = rollout.policy.batch_of(began_with, grown(rollout, rolling));
            if *granted > size {
                let detail = format!("{granted} of {zone} in one batch of {}, {size} allowed", rollout.id);
                self.broken("E21 membership", detail);
            }
        }
    }

    pub(super) fn stored_of_member(&mut self, before: Option<&Member>, after: &Member) {
        let place = (after.environment.clone(), after.host.clone());
        for (member, is_there) in before.map(|before| (before, false)).into_iter().chain([(after, true)]) {
            let prepares = member.step == Step::Preparing && member.grant.is_none();
            let answer = member.answer_by.filter(|_| prepares);
            for deadline in member.grant.map(|grant| grant.deadline).into_iter().chain(answer) {
                let entry = (deadline, place.clone());
                if is_there {
                    self.patience.deadlines.insert(entry);
                } else {
                    self.patience.deadlines.remove(&entry);
                }
            }
        }
        if let Lane::Rollout(id) = after.lane
            && let Some(rollout) = self.stored.rollouts.get(&id).filter(|rollout| !rollout.is_over()).cloned()
        {
            let batch = match &rollout.stage {
                Stage::Rolling(rolling) => (rolling.wave, rolling.batch),
                _ => (rollout.waves(), 0),
            };
            self.mark(&rollout, format!("{} {:?} {batch:?} {}", after.host, after.step, after.retries));
        }
    }

    pub(super) fn forget_deadlines(&mut self, of: &Place) {
        self.patience.deadlines.retain(|(_, place)| place != of);
    }

    fn mark(&mut self, rollout: &Rollout, mark: String) {
        let now = self.heard.now;
        let progress = self.patience.progress.entry(rollout.environment.clone()).or_default();
        if progress.rollout != Some(rollout.id) {
            *progress = Progress { rollout: Some(rollout.id), since: now, ..Progress::default() };
        }
        if progress.seen.insert(mark) {
            (progress.since, progress.is_taken_over) = (now, false);
            progress.waits.clear();
        }
    }

    /// A process that knows nothing of its own has taken over: hosts must be heard of anew.
    pub(super) fn taken_over(&mut self, now: FleetTime) {
        for progress in self.patience.progress.values_mut() {
            (progress.since, progress.is_taken_over) = (now, true);
            progress.waits.clear();
        }
    }

    /// No host keeps others waiting beyond its own deadline.
    pub(super) fn deadlines_hold(&mut self, now: FleetTime) {
        if let Some((deadline, place)) = self.patience.deadlines.first()
            && deadline.plus(TURN_SLACK) < now
        {
            let detail = format!("{place:?} was due {:?} ago, and is still waited for", now.since(*deadline));
            self.broken("L11 one bad host", detail);
        }
    }
}
