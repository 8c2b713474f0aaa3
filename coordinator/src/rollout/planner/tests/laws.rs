//! The laws, by a third mind: what hosts have said, what was granted and what is stored, watched from
//! outside and walked from scratch each time. Slow, and without a class or a counter of the planner's.

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
use crate::environment::member::{Lane, Member, Step};
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
        let fine = matches!(began.as_slice(), [one] if *one == new || *one == old) || *began == [new, old];
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
                (pinned.zones != rollout.zones || pinned.hosts != rollout.hosts, "E10"),
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
            if rolling.granted != count {
                let detail = format!("{} of {count} slots of a batch are counted", rolling.granted);
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
        let generation = |grant: Option<crate::environment::member::Grant>| grant.map(|grant| grant.generation);
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

    // Plans.

    pub(super) fn planned(&mut self, environment: &Environment, fleet: &Fleet, plan: &Plan) {
        let rollout = environment.rollout.as_ref();
        self.generation = self.given.last().copied().unwrap_or_default();
        self.floors(environment, fleet, plan);
        for grant in &plan.grants {
            self.one_grant(environment, fleet, grant);
        }
        let turns = plan.changes.iter().filter_map(|change| match change {
            Change::Turn(turn) => Some(turn),
            _ => None,
        });
        if let Some(rollout) = rollout {
            turns.for_each(|turn| self.turn(environment, rollout, turn));
            let grants: Vec<&Grant> =
                plan.grants.iter().filter(|grant| matches!(grant.lane, Lane::Rollout(_))).collect();
            if !grants.is_empty() {
                self.rollout_grants(environment, rollout, &grants);
            }
        }
    }

    /// Whether a host serves, by what it said last.
    fn serves(&self, environment: &Environment, fleet: &Fleet, member: &Member) -> bool {
        let healthy = self
            .report(member)
            .is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
        let Some(entry) = fleet.get(&member.host) else { return false };
        let elsewhere = entry.granted_in.as_ref().is_some_and(|name| name != environment.name());
        let lost = entry.contact.lost || entry.contact.last_seen.is_none();
        member.in_service() && healthy && member.grant.is_none() && !entry.host.drained && !elsewhere && !lost
    }

    fn report(&self, member: &Member) -> Option<&EnvironmentReport> {
        self.reports.get(&(member.environment.clone(), member.host.clone()))
    }

    fn floors(&mut self, environment: &Environment, fleet: &Fleet, plan: &Plan) {
        let mut taken: BTreeMap<Zone, u32> = BTreeMap::new();
        for grant in &plan.grants {
            let Some(live) = environment.member(&grant.host) else { continue };
            if grant.release.is_empty() || !self.serves(environment, fleet, &live.member) {
                continue;
            }
            let zone = live.member.zone.clone();
            *taken.entry(zone.clone()).or_default() += 1;
            let rollout = environment.rollout.as_ref().filter(|_| grant.lane != Lane::Standing);
            let policy = rollout.map_or(&environment.definition.policy, |rollout| &rollout.policy);
            let fleet_taken = taken.values().sum();
            self.floor(environment, fleet, rollout, policy.fleet_floor, None, fleet_taken);
            if let Some(share) = policy.zone_floor {
                let zone_taken = taken[&zone];
                self.floor(environment, fleet, rollout, share, Some(&zone), zone_taken);
            }
        }
    }

    fn floor(
        &mut self,
        environment: &Environment,
        fleet: &Fleet,
        rollout: Option<&Rollout>,
        share: Share,
        zone: Option<&Zone>,
        taken: u32,
    ) {
        let (mut in_service, mut serving) = (0, 0);
        for live in environment.members() {
            if zone.is_none_or(|zone| live.member.zone == *zone) && live.member.in_service() {
                in_service += 1;
                serving += u32::from(self.serves(environment, fleet, &live.member));
            }
        }
        let began = rollout.and_then(|rollout| self.planned.get(&rollout.id)).map(|planned| match zone {
            Some(zone) => planned.get(zone).copied().unwrap_or(0),
            None => planned.values().sum(),
        });
        let away = in_service - serving;
        let allowed = |base: u32| base.saturating_sub(share.at_least_of(base));
        let base = if began.unwrap_or(0) == 0 { in_service } else { began.unwrap_or(0).min(in_service) };
        let budget = allowed(base);
        if away + taken <= budget {
            return;
        }
        let detail = format!("{away} away and {taken} more, {budget} allowed, zone {zone:?}");
        self.broke("E1", detail.clone());
        if away >= budget {
            self.broke("E3", detail.clone());
        }
        if rollout.is_some_and(Rollout::goes_back) {
            self.broke("E16", detail.clone());
        }
        if away + taken <= allowed(in_service) {
            self.broke("E21", detail);
        }
    }

    fn one_grant(&mut self, environment: &Environment, fleet: &Fleet, grant: &Grant) {
        let host = &grant.host;
        let (Some(live), Some(entry)) = (environment.member(host), fleet.get(host)) else {
            return self.broke("scope", format!("{host} is no member"));
        };
        if live.member.grant.is_some() || entry.granted_in.is_some() {
            self.broke("one-grant", format!("{host} has an open grant"));
        }
        if live.member.detached || entry.host.held.is_some() || entry.host.revoked {
            self.broke("scope", format!("{host} is detached, held or revoked"));
        }
        let key = (environment.name().clone(), host.clone());
        let Some((before, ground)) = self.explained.get(&key) else { return };
        let now = Ground::of(environment);
        // Another change, other reasons.
        if ground.rollout != now.rollout {
            return;
        }
        let surprise = *before == WaitingOn::NothingToRun
            || matches!(before, WaitingOn::UpToDate | WaitingOn::WentBack { .. }) && !grant.taking_back
            || matches!(before, WaitingOn::Floor { .. })
                && *ground == now
                && !grant.taking_back;
        if surprise {
            let detail = format!("{host} was granted, and before: {before:?}");
            self.broke("explain", detail);
        }
    }

    fn rollout_grants(&mut self, environment: &Environment, rollout: &Rollout, grants: &[&Grant]) {
        match &rollout.stage {
            Stage::Rolling(rolling) if rollout.paused.is_none() => {
                let begins = rolling.granted == 0;
                if begins {
                    self.updated_are_well(environment, rollout);
                }
                if begins && rolling.batch == 1 && rolling.wave > 0 {
                    self.baked(rollout, rolling.wave - 1);
                }
                if grants.iter().any(|grant| grant.taking_back || grant.release != rollout.target) {
                    self.broke("E13", "a forward grant of something else");
                }
                *self.batches.entry((rollout.id, rolling.wave, rolling.batch)).or_default() +=
                    grants.len() as u32;
                self.earlier_zones_are_done(environment, rollout, rolling.wave);
            }
            Stage::RollingBack if rollout.paused.is_none() => {
                for grant in grants {
                    let touched = |id: &RolloutId| {
                        self.touched.get(id).is_some_and(|hosts| hosts.contains_key(&grant.host))
                    };
                    let settled = environment.member(&grant.host).and_then(|live| live.member.settled);
                    let started = match rollout.direction {
                        Direction::Forward => {
                            touched(&rollout.id) || rollout.inherits.iter().any(touched)
                        }
                        Direction::Back { .. } => settled == Some(rollout.way_back),
                    };
                    if !started || !grant.taking_back {
                        self.broke("E14", format!("{} never started the change", grant.host));
                    }
                }
            }
            _ => self.broke("E8", format!("a grant in {:?}", rollout.state())),
        }
        self.one_zone(environment, rollout, grants);
        let wave = rollout.current_wave();
        for grant in grants {
            if grant.way_back != rollout.way_back && !grant.taking_back {
                self.broke("E15", format!("{} would go back to something else", grant.host));
            }
            let touched = self.touched.entry(rollout.id).or_default();
            if !grant.taking_back {
                touched.insert(grant.host.clone(), (wave, Generation(0)));
            }
        }
    }

    fn one_zone(&mut self, environment: &Environment, rollout: &Rollout, grants: &[&Grant]) {
        let open = environment.members().filter(|live| {
            live.member.grant.is_some() && live.member.lane == Lane::Rollout(rollout.id)
        });
        let new = grants.iter().filter_map(|grant| environment.member(&grant.host));
        let zones: BTreeSet<&Zone> = open.chain(new).map(|live| &live.member.zone).collect();
        if zones.len() > 1 {
            self.broke("E4", format!("hosts move in {zones:?}"));
        }
    }

    fn earlier_zones_are_done(&mut self, environment: &Environment, rollout: &Rollout, wave: u32) {
        for live in environment.members() {
            let member = &live.member;
            let earlier = rollout.zones.iter().take((wave as usize).saturating_sub(1)).any(|z| *z == member.zone);
            if earlier && member.in_scope(rollout.id) && !is_done(member, rollout) {
                let detail = format!("{} was left behind: {:?}", member.host, member.step);
                self.broke("E4", detail);
            }
        }
    }

    fn baked(&mut self, rollout: &Rollout, wave: u32) {
        let stood = self.stood[&rollout.id];
        if stood < rollout.bake_of(wave) {
            let detail = format!("wave {wave} stood {stood:?} of {:?}", rollout.bake_of(wave));
            self.broke("E5", detail);
        }
    }

    /// Every host that was moved is known to be well, by its own word about this very grant.
    fn updated_are_well(&mut self, environment: &Environment, rollout: &Rollout) {
        let touched = self.touched.get(&rollout.id).cloned().unwrap_or_default();
        for (host, (wave, _)) in touched {
            let Some(live) = environment.member(&host) else { continue };
            let member = &live.member;
            let ended = matches!(member.step, Step::Reverted | Step::Failed | Step::Excepted(_));
            if !member.in_scope(rollout.id) || ended {
                continue;
            }
            let granted = self.granted.iter().rev().find(|(generation, id)| {
                **id == rollout.id && member.told.is_some_and(|told| told.generation == **generation)
            });
            let report = self.report(member);
            let about = report.and_then(|report| report.stamp).map(|stamp| stamp.generation);
            let fresh = about.is_some() && about == granted.map(|(generation, _)| *generation);
            let settled = report.is_some_and(|report| report.phase == Phase::Settled);
            let health = report.map(|report| report.health.clone());
            let well = matches!(health, Some(HealthReport::Healthy { .. })) && fresh && settled;
            // A grant that was void moved nobody.
            let began = self.activations.contains_key(&(rollout.id, host.clone()));
            if well || member.grant.is_none() && !began {
                continue;
            }
            let detail = format!("{host} is {health:?}, and the rollout goes on");
            match health {
                Some(HealthReport::Unhealthy { .. }) => self.broke("E19", detail.clone()),
                _ => self.broke("E7", detail.clone()),
            }
            if wave == 0 {
                self.broke("E6", detail);
            }
        }
    }

    fn turn(&mut self, environment: &Environment, rollout: &Rollout, turn: &Turn) {
        match turn {
            // A batch that has proved nothing goes by the same number again.
            Turn::NextBatch => self.batches.retain(|(id, ..), _| *id != rollout.id),
            Turn::RollBack(_) => {
                let back = rollout.goes_back() || matches!(rollout.direction, Direction::Back { .. });
                if back || rollout.stage == Stage::Halted {
                    self.broke("E17", "a rollback is rolled back");
                }
            }
            Turn::Succeed => {
                self.baked(rollout, rollout.waves() - 1);
                self.updated_are_well(environment, rollout);
                for live in environment.members() {
                    let member = &live.member;
                    let own = member.lane == Lane::Rollout(rollout.id);
                    let named = own && matches!(member.step, Step::Excepted(_) | Step::Reverted | Step::Failed);
                    let measured = self.report(member).and_then(|report| report.running);
                    let runs = match measured {
                        Some(running) => running == rollout.target.digest(),
                        None => rollout.target.is_empty(),
                    };
                    if member.in_scope(rollout.id) && !runs && !named {
                        let detail = format!("{} neither runs the target nor is named", member.host);
                        self.broke("E20", detail);
                    }
                }
            }
            _ => {}
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
