//! The laws, by a third mind: what hosts have said, what was granted and what is stored, watched from
//! outside and walked from scratch each time. Slow, and without a class or a counter of the planner's.

mod plans;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::id::{EnvironmentName, Generation, HostId, RolloutId, Zone};
use houston_common::policy::{Policy, Share};
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::rollout::WaitingOn;

use crate::environment::Environment;
use crate::environment::index::{Class, Counts, Index, Reach, Wellness};
use crate::environment::member::{self, Lane, Member, Step};
use crate::fleet::Fleet;
use crate::rollout::check::Violation;
use crate::rollout::explain::explain;
use crate::rollout::planner::{Change, GateValues, Grant, Plan, Turn};
use crate::rollout::{Direction, Rollout, Stage};
use crate::state::{Edit, State};

/// What a reason depends on: the change under way, and what floors are reckoned from.
#[derive(Debug, Clone, PartialEq)]
struct Ground {
    rollout: Option<RolloutId>,
    counts: Counts,
    policy: Policy,
}

impl Ground {
    fn of(environment: &Environment) -> Self {
        Self {
            rollout: environment.rollout.as_ref().map(|rollout| rollout.id),
            counts: environment.index().total(),
            policy: environment.definition.policy.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Laws {
    broken: Vec<(&'static str, String)>,
    /// What the production checker refused, in a world with a planted bug.
    refused: BTreeSet<&'static str>,
    /// The last report of each host since the coordinator started.
    reports: BTreeMap<(EnvironmentName, HostId), EnvironmentReport>,
    /// Rollouts as they were when they began.
    pinned: BTreeMap<RolloutId, Rollout>,
    /// Hosts in service when a rollout, or its rollback, began.
    planned: BTreeMap<RolloutId, BTreeMap<Zone, u32>>,
    unfinished: BTreeMap<RolloutId, EnvironmentName>,
    granted: BTreeMap<Generation, RolloutId>,
    /// Hosts that a rollout has granted, with the wave and the generation of the last forward grant.
    touched: BTreeMap<RolloutId, BTreeMap<HostId, (u32, Generation)>>,
    batches: BTreeMap<(RolloutId, u32, u32), u32>,
    /// Waves that have been granted a host.
    begun: BTreeSet<(RolloutId, u32)>,
    /// Time since a rollout's last grant began or ended, pauses left out.
    stood: BTreeMap<RolloutId, Duration>,
    /// All that were given out, and the newest of them when the last plan was made.
    given: BTreeSet<Generation>,
    generation: Generation,
    activations: BTreeMap<(RolloutId, HostId), Vec<Release>>,
    /// What each member was told it waits for, and on what ground.
    explained: BTreeMap<(EnvironmentName, HostId), (WaitingOn, Ground)>,
}

impl Laws {
    pub(super) fn broke(&mut self, law: &'static str, detail: impl Into<String>) {
        self.broken.push((law, detail.into()));
    }

    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    pub(super) fn broken(&self) -> BTreeSet<&'static str> {
        self.broken.iter().map(|(law, _)| *law).collect()
    }

    pub(super) fn refused_by_check(&self) -> &BTreeSet<&'static str> {
        &self.refused
    }

    pub(super) fn must_hold(&self) {
        assert!(self.broken.is_empty(), "laws broken: {:#?}", self.broken);
    }

    pub(super) fn refused(&mut self, violation: &Violation) {
        self.refused.insert(violation.law);
    }

    pub(super) fn restarted(&mut self) {
        self.reports.clear();
        self.explained.clear();
    }

    pub(super) fn waited(&mut self, wait: Duration, paused: bool) {
        if !paused {
            for stood in self.stood.values_mut() {
                *stood += wait;
            }
        }
    }

    pub(super) fn reported(&mut self, host: &HostId, report: &EnvironmentReport) {
        self.reports.insert((report.environment.clone(), host.clone()), report.clone());
    }

    /// A host began to run a release under a grant.
    pub(super) fn activated(&mut self, host: &HostId, generation: Generation, release: Release) {
        let Some(rollout) = self.granted.get(&generation) else { return };
        let Some(pinned) = self.pinned.get(rollout) else { return };
        let (new, old) = (pinned.target, pinned.way_back);
        let began = self.activations.entry((*rollout, host.clone())).or_default();
        if began.last() != Some(&release) {
            began.push(release);
        }
        // Forward first, and forward again as often as the policy says, each time from where it was.
        let attempts = began.iter().filter(|release| **release == new).count() as u32;
        let known = began.iter().all(|release| [new, old].contains(release));
        let fine = *began == [old] || known && began[0] == new && attempts <= 1 + pinned.policy.retries;
        if !fine {
            let detail = format!("{host} was moved {} times in rollout {rollout}", began.len());
            self.broke("E13", detail);
        }
    }

    // Records.

    pub(super) fn edit(&mut self, before: &State, edit: &Edit) {
        match edit {
            Edit::Rollout(rollout) => self.edit_rollout(before, rollout),
            Edit::Member(member) => self.edit_member(before, member),
            _ => {}
        }
    }

    fn edit_rollout(&mut self, before: &State, rollout: &Rollout) {
        let in_service = || {
            let mut planned: BTreeMap<Zone, u32> = BTreeMap::new();
            for live in before.environments[&rollout.environment].members() {
                if live.member.in_service() {
                    *planned.entry(live.member.zone.clone()).or_default() += 1;
                }
            }
            planned
        };
        let known = before.rollout(rollout.id);
        if rollout.goes_back() && known.is_none_or(|known| !known.goes_back()) {
            self.planned.insert(rollout.id, in_service());
        }
        if let Some(pinned) = self.pinned.get(&rollout.id) {
            let moved = [
                (pinned.target != rollout.target, "E10"),
                (pinned.way_back != rollout.way_back, "E15"),
                (pinned.policy != rollout.policy, "E10"),
                (pinned.zones != rollout.zones || pinned.members != rollout.members, "E10"),
            ];
            for (_, law) in moved.into_iter().filter(|(moved, _)| *moved) {
                self.broke(law, format!("rollout {} changed what it had pinned", rollout.id));
            }
        } else {
            self.pinned.insert(rollout.id, rollout.clone());
            self.planned.entry(rollout.id).or_insert_with(in_service);
            self.stood.insert(rollout.id, Duration::ZERO);
        }
        if rollout.is_over() {
            self.unfinished.remove(&rollout.id);
        } else {
            self.unfinished.insert(rollout.id, rollout.environment.clone());
        }
        let active = self.unfinished.values().filter(|name| **name == rollout.environment).count();
        if active > 1 {
            self.broke("E9", format!("{active} rollouts are active in {}", rollout.environment));
        }
        if let Stage::Rolling(rolling) = &rollout.stage {
            let count = self.batches.get(&(rollout.id, rolling.wave, rolling.batch)).copied().unwrap_or(0);
            let counted: u32 = rolling.granted.values().sum();
            if counted != count {
                let detail = format!("{counted} of {count} slots of a batch are counted");
                self.broke("E22", detail);
            }
        }
    }

    fn edit_member(&mut self, before: &State, member: &Member) {
        let environment = before.environments.get(&member.environment);
        let known = environment.and_then(|environment| environment.member(&member.host));
        let (told, grant) = known.map_or((None, None), |live| (live.member.told, live.member.grant));
        if let Some(newest) = member.told.filter(|newest| told.is_none_or(|told| told != *newest)) {
            let first = self.given.insert(newest.generation);
            if !first || newest.generation <= self.generation {
                let detail = format!("{} after {}", newest.generation, self.generation);
                self.broke("E11", detail);
            }
        }
        let generation = |grant: Option<member::Grant>| grant.map(|grant| grant.generation);
        if generation(grant) != generation(member.grant) {
            if grant.is_some() && member.grant.is_some() {
                self.broke("E22", format!("{} was granted twice", member.host));
            }
            let id = match (member.grant, grant, member.lane) {
                (Some(new), _, Lane::Rollout(id)) => {
                    self.granted.insert(new.generation, id);
                    Some(id)
                }
                (None, Some(old), _) => self.granted.get(&old.generation).copied(),
                _ => None,
            };
            if let Some(stood) = id.and_then(|id| self.stood.get_mut(&id)) {
                *stood = Duration::ZERO;
            }
            let elsewhere = before.fleet.get(&member.host).and_then(|entry| entry.granted_in.as_ref());
            if member.grant.is_some() && elsewhere.is_some_and(|name| *name != member.environment) {
                self.broke("one-grant", format!("{} has grants in two environments", member.host));
            }
        }
    }

    // Rest.

    /// After everything that follows from an event has been done.
    pub(super) fn at_rest(
        &mut self,
        state: &State,
        gates: &GateValues,
        now: FleetTime,
        plan: impl Fn(&str) -> Plan,
    ) {
        for (name, environment) in &state.environments {
            self.counts_hold(environment, &state.fleet);
            let plan = plan(name.as_str());
            if plan.does_nothing() && environment.rollout.is_some() && plan.waiting.is_empty() {
                let stage = environment.rollout.as_ref().map(|rollout| &rollout.stage);
                self.broke("E28", format!("nothing happens in {name} without a reason: {stage:?}"));
            }
            let ground = Ground::of(environment);
            for live in environment.members() {
                let key = (name.clone(), live.member.host.clone());
                match explain(environment, &state.fleet, gates, &live.member.host, now) {
                    Some(waiting) => {
                        self.makes_sense(environment, &live.member, &waiting);
                        self.explained.insert(key, (waiting, ground.clone()));
                    }
                    None => self.broke("E28", format!("{key:?} is not explained")),
                }
            }
        }
    }

    fn makes_sense(&mut self, environment: &Environment, member: &Member, waiting: &WaitingOn) {
        let rollout = environment.rollout.as_ref().filter(|rollout| member.in_scope(rollout.id));
        let baked = environment.definition.baked;
        let pending = match rollout {
            Some(rollout) if rollout.goes_back() || rollout.stage == Stage::Halted => false,
            Some(rollout) => !is_done(member, rollout),
            None => member.owes && !member.detached && !baked.is_empty() && member.settled != Some(baked),
        };
        let silent = matches!(waiting, WaitingOn::UpToDate | WaitingOn::NothingToRun);
        if pending && silent || member.grant.is_some() != matches!(waiting, WaitingOn::Granted { .. }) {
            let explained = member.detached && *waiting == WaitingOn::Detached;
            if !explained {
                let detail = format!("{} waits, and the reason is {waiting:?}: {member:?}", member.host);
                self.broke("E28", detail);
            }
        }
    }

    fn counts_hold(&mut self, environment: &Environment, fleet: &Fleet) {
        let mut anew = Environment::new(environment.definition.clone());
        anew.rollout = environment.rollout.clone();
        let mut open = 0;
        for live in environment.members() {
            anew.put_member(live.member.clone(), fleet);
            if let Some(report) = &live.report {
                anew.set_report(&live.member.host, report.clone(), fleet);
            }
            open += u32::from(live.member.grant.is_some());
        }
        anew.recount_all(fleet);
        let (kept, counted) = (census(environment.index()), census(anew.index()));
        if kept != counted {
            self.broke("index", format!("kept {kept:#?}\ncounted {counted:#?}"));
        }
        if environment.index().total().moving != open {
            self.broke("E22", format!("{open} grants are open, another number is kept"));
        }
    }
}

/// Whether a host has no more to do in a rollout.
fn is_done(member: &Member, rollout: &Rollout) -> bool {
    let own = member.lane == Lane::Rollout(rollout.id);
    let ended = matches!(
        member.step,
        Step::Settled | Step::Reverted | Step::Failed | Step::TakenBack | Step::Excepted(_)
    );
    member.grant.is_none() && (member.settled == Some(rollout.target) || own && ended)
}

type Census = (BTreeMap<(Zone, Class), Vec<HostId>>, Vec<(Zone, Counts)>, Counts, Vec<HostId>);

fn census(index: &Index) -> Census {
    let mut classes = vec![
        Class::Held,
        Class::Excluded,
        Class::Open,
        Class::Finishing,
        Class::Ended,
        Class::LaneOpen,
        Class::Rest,
    ];
    classes.extend([Wellness::Well, Wellness::Unknown, Wellness::Lost].map(Class::Updated));
    for class in [
        Class::Unprepared,
        Class::Preparing,
        Class::Ready,
        Class::ToTakeBack,
        Class::LaneUnprepared,
        Class::LanePreparing,
        Class::LaneReady,
    ] {
        classes.extend(Reach::ALL.map(class));
    }
    let zones: Vec<(Zone, Counts)> = index.zones().map(|(zone, counts)| (zone.clone(), counts)).collect();
    let mut hosts = BTreeMap::new();
    for (zone, _) in &zones {
        for class in &classes {
            let here: Vec<HostId> = index.hosts(zone, *class).cloned().collect();
            if !here.is_empty() {
                hosts.insert((zone.clone(), *class), here);
            }
        }
    }
    let deadlines = index.overdue(FleetTime(u64::MAX)).cloned().collect();
    (hosts, zones, index.total(), deadlines)
}
