//! What operators ask for, through the production requests, and a seeded script of it.

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{
    ApplyEnvironment, ControlRollout, CreateToken, CreateVersionSet, DecideGate, DrainHost, EditHost,
    HoldHost, HostChange, PackageFinish, RolloutAction, RolloutRef, StartRollout,
};
use houston_common::digest::Digest;
use houston_common::error::Refusal;
use houston_common::id::{EnvironmentName, HostId};
use houston_common::policy::gate::{Before, Condition, Days, Gate, Window};
use houston_common::policy::{Bakes, Growth, OnFailure, Pacing, Policy, Share};
use houston_common::release::{PackageVersion, Settings};
use houston_common::view::PackageId;
use houston_coordinator::engine::core::{Core, Decided};
use houston_coordinator::service::hosts::enrollment;
use houston_coordinator::service::{Caller, access, catalog, environments, hosts, rollouts};
use houston_coordinator::state::{Edit, State};

use super::coordinator::key;
use super::name;
use super::planted::Planted;
use super::random::Random;
use super::script::{Library, STEADY};
use super::scripted::{self, Scripted};
use super::setting::Size;

/// Credentials are judged by wall clocks too; which of them are good is not what is simulated.
const ISSUED: WallTime = WallTime(0);

/// One request.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Push(PackageVersion),
    CreateSet {
        name: String,
        package: PackageVersion,
    },
    Apply {
        environment: EnvironmentName,
        policy: Box<Policy>,
        mode: Option<&'static str>,
    },
    CreateToken {
        zone: usize,
    },
    Enroll {
        host: HostId,
        zone: usize,
        ephemeral_suffix: String,
    },
    Start {
        environment: EnvironmentName,
        set: String,
        supersede: bool,
        force: bool,
        allow_outage: bool,
        exclude: Vec<HostId>,
    },
    Control {
        environment: EnvironmentName,
        action: RolloutAction,
    },
    /// Approve, or pass over the gate of this name.
    Decide {
        environment: EnvironmentName,
        skip: Option<&'static str>,
    },
    Drain {
        host: HostId,
        drained: bool,
    },
    Label {
        host: HostId,
        side: bool,
    },
    Move {
        host: HostId,
        zone: usize,
    },
    Remove {
        host: HostId,
    },
    Hold {
        host: HostId,
        seconds: Option<u64>,
    },
    Release {
        host: HostId,
    },
    Other(Scripted),
}

pub(super) const PROD: &str = "prod";
/// Selects the hosts that have its label.
pub(super) const SIDE: &str = "side";

pub(super) fn zone(index: usize) -> houston_common::id::Zone {
    name(&format!("zone-{}", (b'a' + index as u8) as char))
}

fn token(zone: usize) -> access::TokenParts {
    access::TokenParts { id: format!("token-{zone}"), secret: Digest::of(&[zone as u8]) }
}

impl Order {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Push(_) => "push",
            Self::CreateSet { .. } => "create set",
            Self::Apply { .. } => "apply",
            Self::CreateToken { .. } => "create token",
            Self::Enroll { .. } => "enroll",
            Self::Start { .. } => "start",
            Self::Control { .. } => "control",
            Self::Decide { .. } => "decide",
            Self::Hold { .. } => "hold",
            Self::Drain { .. } => "drain",
            Self::Label { .. } => "label",
            Self::Move { .. } => "move",
            Self::Remove { .. } => "remove",
            Self::Release { .. } => "release",
            Self::Other(_) => "other",
        }
    }

    /// Gives the order to the coordinator. What came of it, in words.
    pub(super) fn give(
        &self,
        core: &mut Core,
        now: FleetTime,
        wall: WallTime,
        planted: Option<Planted>,
    ) -> Result<String, String> {
        if let (Self::Start { .. }, Some(Planted::CheckThenInsert)) = (self, planted) {
            return self.start_twice(core, now, wall).map_err(|refusal| refusal.to_string());
        }
        if let Self::Other(order) = self {
            return order.give(core, now, wall, planted).map_err(|refusal| refusal.to_string());
        }
        let result = core.command(now, wall, |state, now| {
            let mut decided = self.decide(state, now, wall)?;
            if let (Self::Apply { environment, .. }, Some(Planted::EditInPlace)) = (self, planted) {
                decided.edits.extend(scripted::edited_in_place(state, environment));
            }
            Ok(decided)
        });
        result.map_err(|refusal| refusal.to_string())
    }

    /// Two requests at once, both judged before either is done.
    fn start_twice(&self, core: &mut Core, now: FleetTime, wall: WallTime) -> Result<String, Refusal> {
        let first = self.decide(core.state(), now, wall)?;
        let mut second = self.decide(core.state(), now, wall)?;
        for edit in &mut second.edits {
            match edit {
                Edit::Rollout(rollout) if !rollout.is_over() => rollout.id = rollout.id.next(),
                Edit::Meta(meta) => meta.rollout = meta.rollout.next(),
                _ => {}
            }
        }
        core.command(now, wall, |_, _| Ok(first))?;
        core.command(now, wall, |_, _| Ok(second))
    }

    fn decide(&self, state: &State, now: FleetTime, wall: WallTime) -> Result<Decided<String>, Refusal> {
        let caller = Caller::new(name("alice"));
        let reason = String::new();
        match self {
            Self::Push(package) => {
                let request = PackageFinish { package: package.clone(), reason };
                catalog::commit_package(state, &caller, &request, 1, wall).map(done)
            }
            Self::CreateSet { name: set, package } => {
                let id = |package: &PackageVersion| PackageId {
                    name: package.name.clone(),
                    version: package.version.clone(),
                };
                let steady = PackageId { name: name(STEADY), version: name("1") };
                let request =
                    CreateVersionSet { name: name(set), packages: vec![steady, id(package)], reason };
                catalog::create_set(state, &caller, &request, wall).map(done)
            }
            Self::Apply { environment, policy, mode } => {
                environments::apply(state, &caller, &applied(environment, policy, *mode)).map(done)
            }
            Self::CreateToken { zone: index } => {
                let request = CreateToken {
                    zone: zone(*index),
                    labels: BTreeMap::new(),
                    uses: 1000,
                    valid_for: Duration::from_secs(30 * 24 * 3600),
                    ephemeral: false,
                    reason,
                };
                access::create_token(state, &caller, &request, token(*index), now, ISSUED).map(done)
            }
            Self::Enroll { host, zone, ephemeral_suffix } => {
                let token = token(*zone);
                let request = enrollment::Enrollment {
                    token: token.id,
                    secret: token.secret,
                    suggested: Some(host.clone()),
                    suffix: ephemeral_suffix.clone(),
                    key: key(&format!("{host}-{ephemeral_suffix}")),
                    key_der: vec![1],
                    certificate_expires: ISSUED,
                };
                enrollment::enroll(state, &request, now, ISSUED).map(done)
            }
            Self::Start { environment, set, supersede, force, allow_outage, exclude } => {
                let request = StartRollout {
                    environment: environment.clone(),
                    version_set: name(set),
                    reason,
                    supersede: *supersede,
                    force: *force,
                    allow_outage: *allow_outage,
                    idempotency_key: None,
                    plan_hash: None,
                    policy: None,
                    exclude: exclude.clone(),
                };
                rollouts::start(state, &caller, &request, None, now, wall).map(done)
            }
            Self::Control { environment, action } => {
                let rollout = RolloutRef::NewestOf(environment.clone());
                let request = ControlRollout { rollout, action: *action, reason };
                rollouts::control(state, &caller, &request, now, wall).map(done)
            }
            Self::Decide { environment, skip } => {
                let rollout = RolloutRef::NewestOf(environment.clone());
                let (gate, is_skip) = (skip.map(name), skip.is_some());
                let request = DecideGate { rollout, gate, skip: is_skip, reason: "seen".to_owned() };
                rollouts::decide(state, &caller, &request, now, wall).map(done)
            }
            Self::Drain { host, drained } => {
                let request = DrainHost { host: host.clone(), drained: *drained, reason };
                hosts::drain(state, &caller, &request).map(done)
            }
            Self::Label { host, side } => hosts::edit(state, &caller, &labelled(host, *side)).map(done),
            Self::Move { host, zone: to } => {
                let request = EditHost { zone: Some(zone(*to)), ..labelled(host, false) };
                let request = EditHost { remove_labels: Vec::new(), ..request };
                hosts::edit(state, &caller, &request).map(done)
            }
            Self::Remove { host } => {
                let request = HostChange { host: host.clone(), reason };
                hosts::remove(state, &caller, &request).map(done)
            }
            Self::Hold { host, seconds } => {
                let (reason, duration) = ("odd".to_owned(), seconds.map(Duration::from_secs));
                let request = HoldHost { host: host.clone(), reason, duration };
                hosts::hold(state, &caller, &request, now).map(done)
            }
            Self::Release { host } => {
                let request = HostChange { host: host.clone(), reason };
                hosts::release(state, &caller, &request).map(done)
            }
            Self::Other(order) => order.decide(state, now, wall),
        }
    }
}

pub(super) fn done<T: std::fmt::Debug>(decided: Decided<T>) -> Decided<String> {
    let Decided { edits, note, reply } = decided;
    Decided { edits, note, reply: format!("{reply:?}") }
}

fn applied(environment: &EnvironmentName, policy: &Policy, mode: Option<&str>) -> ApplyEnvironment {
    let selector = if environment.as_str() == SIDE {
        BTreeMap::from([(name(SIDE), name("yes"))])
    } else {
        BTreeMap::new()
    };
    ApplyEnvironment {
        name: environment.clone(),
        selector,
        policy: policy.clone(),
        settings: Settings(mode.map(|mode| (name("MODE"), mode.to_owned())).into_iter().collect()),
        dry_run: false,
        reason: String::new(),
    }
}

fn labelled(host: &HostId, side: bool) -> EditHost {
    let set_labels = if side { BTreeMap::from([(name(SIDE), name("yes"))]) } else { BTreeMap::new() };
    let remove_labels = if side { Vec::new() } else { vec![name(SIDE)] };
    EditHost { host: host.clone(), zone: None, set_labels, remove_labels, reason: String::new() }
}

/// Any that makes sense, with waits of seconds and minutes.
pub(super) fn policy(random: &mut Random, size: Size) -> Policy {
    let seconds = |random: &mut Random, least, most| Duration::from_secs(random.between(least, most));
    let floors = [66, 66, 50, 75, 80, 85].map(Share::Percent);
    let few = if size.is_small() { [Share::Hosts(1), Share::Hosts(2)] } else { [20, 25].map(Share::Percent) };
    let batches = [Share::Percent(33), Share::Percent(50), few[0], few[1], Share::Percent(100)];
    let budgets = [Share::Percent(1), Share::Percent(1), Share::Hosts(2), Share::Percent(20)];
    let growth = Growth { percent: 200, most: Share::Percent(50), carries: random.chance(50) };
    Policy {
        pacing: if random.chance(30) { Pacing::Striped } else { Pacing::Zonal },
        zones_at_once: if random.chance(20) { 2 } else { 1 },
        growth: random.chance(30).then_some(growth),
        zone_failure_budget: random.chance(20).then_some(Share::Hosts(1)),
        batch: *random.pick(&batches).expect("some"),
        fleet_floor: *random.pick(&floors).expect("some"),
        zone_floor: random.chance(30).then_some(Share::Percent(50)),
        bake: Bakes {
            one_box: seconds(random, 20, 80),
            first_zone: seconds(random, 25, 110),
            later_zones: seconds(random, 15, 60),
        },
        health_window: seconds(random, 8, 25),
        apply_deadline: seconds(random, 60, 240),
        start_within: seconds(random, 15, 40),
        failure_budget: *random.pick(&budgets).expect("some"),
        lost_budget: if random.chance(40) { Share::Percent(5) } else { Share::Percent(40) },
        on_failure: if random.chance(75) { OnFailure::Rollback } else { OnFailure::Halt },
        rollback_batch: *random.pick(&batches).expect("some"),
        gates: gates(random),
        retries: if random.chance(30) { random.between(1, 2) as u32 } else { 0 },
        ..Policy::default()
    }
}

fn gates(random: &mut Random) -> Vec<Gate> {
    let mut gates = Vec::new();
    let places = Before::ALL;
    let mut gate = |random: &mut Random, called: &str, percent, condition| {
        if random.chance(percent) {
            let before = *random.pick(&places).expect("some");
            // Before the one box nobody has evidence; and what is long in coming is no fault.
            let is_evidence = matches!(condition, Condition::Evidence { .. });
            let before = if is_evidence && before == Before::OneBox { Before::FirstWave } else { before };
            let within =
                (random.chance(30) && !is_evidence).then(|| Duration::from_secs(random.between(60, 900)));
            gates.push(Gate { name: name(called), before, condition, within });
        }
    };
    gate(random, "approval", 15, Condition::Approval { by_another: false });
    gate(random, "evidence", 15, Condition::Evidence { passes: 30 });
    let window = Window { time_zone: "UTC".to_owned(), days: Days::EVERY, from: 0, until: 1440 };
    gate(random, "window", 10, Condition::Window(window));
    gates
}

/// What an operator does next in an environment, given its state. Mostly sensible, sometimes not.
pub(super) fn next(
    random: &mut Random,
    environment: &EnvironmentName,
    policy: &Policy,
    is_active: bool,
    hosts: &[HostId],
) -> Order {
    let environment = environment.clone();
    let host = random.pick(hosts).cloned().expect("some host");
    let control = |action| Order::Control { environment: environment.clone(), action };
    match random.below(100) {
        0..45 => Order::Start {
            environment,
            set: Library::any(random),
            // Drawn whatever the state, so that what comes later is the same in a shrunk run.
            supersede: random.chance(40) && is_active,
            force: random.chance(40),
            allow_outage: random.chance(4),
            exclude: if random.chance(15) { vec![host] } else { Vec::new() },
        },
        45..52 => control(RolloutAction::Pause),
        52..64 => control(RolloutAction::Resume),
        64..67 => control(RolloutAction::Abort),
        67..73 => control(RolloutAction::Rollback),
        73..75 => {
            let skip = *random.pick(&[None, None, Some("approval"), Some("evidence")]).expect("some");
            Order::Decide { environment, skip }
        }
        75..78 => {
            let mode = *random.pick(&[None, Some("fine"), Some("bad")]).expect("some");
            Order::Apply { environment, policy: Box::new(policy.clone()), mode }
        }
        78..85 => Order::Drain { host, drained: random.chance(40) },
        85..90 => Order::Label { host, side: random.chance(70) },
        90..92 => Order::Move { host, zone: random.below(3) as usize },
        92..93 => Order::Remove { host },
        93..95 => Order::Release { host },
        95..97 => Order::Hold { host, seconds: random.chance(60).then(|| random.between(30, 900)) },
        _ => Order::Enroll {
            host: name("new"),
            zone: random.below(3) as usize,
            ephemeral_suffix: format!("{:08x}", random.next() as u32),
        },
    }
}
