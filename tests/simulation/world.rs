//! The one scheduler: everything that happens, in the order of simulated milliseconds, in one thread.
//! First a phase with faults and an operator, in which nothing wrong may happen; then a phase without,
//! in which everything must come to rest where it was last told to be.

mod ending;
mod nemesis;
mod notes;
mod scenes;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use houston_agent::apply::health::ProbeRun;
use houston_common::clock::WallTime;
use houston_common::error::Code;
use houston_common::id::{EnvironmentName, HostId};
use houston_common::policy::Policy;
use houston_common::report::Report;
use houston_coordinator::engine::core::{Core, Minds};

use super::agent::{Agent, Next};
use super::checker::{self, Checker, Site, Violation};
use super::coordinator::{Answer, Coordinator, HOLD_MS, Input, Turn, Watched, meta};
use super::machine::{Machine, Shared};
use super::name;
use super::network::{Network, Way};
use super::operator::{self, Order, PROD, SIDE};
use super::random::Random;
use super::script::Library;
use super::setting::{Setting, Telling};
use scenes::{Scene, Scenes};

/// What a run came to.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) violation: Option<Violation>,
    pub(super) events: u64,
    pub(super) simulated_ms: u64,
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// How many hosts there were at the beginning.
    pub(super) hosts: u64,
    /// When the faults had ended, if the run came so far.
    pub(super) faults_ended: Option<u64>,
    /// The kinds of all faults and orders that the seed had until then, also of those left out.
    pub(super) injections: Vec<&'static str>,
    /// Where it was asked for.
    pub(super) trace: u64,
    pub(super) lines: Vec<String>,
}

#[derive(Debug)]
enum Event {
    Sync { host: HostId, incarnation: u64 },
    Work { host: HostId, incarnation: u64, environment: EnvironmentName },
    Probe { host: HostId, incarnation: u64, environment: EnvironmentName, run: Box<ProbeRun> },
    ToCoordinator { host: HostId, incarnation: u64, call: u64, report: Box<Report> },
    ToHost { answer: Answer },
    CallTimesOut { host: HostId, incarnation: u64, call: u64 },
    AgentStarts { host: HostId, incarnation: u64 },
    PowerOn { host: HostId, incarnation: u64 },
    CoordinatorStarts,
    Turn { incarnation: u64 },
    HoldEnds { host: HostId, call: u64, incarnation: u64 },
    Operator { environment: EnvironmentName },
    Fault,
    Scene(Scene),
    FaultsEnd,
    Last,
}

struct Node {
    machine: Shared,
    agent: Option<Agent>,
    /// Rises with every start and end of the agent: what belongs to an earlier one is void.
    incarnation: u64,
    /// The agent's death takes the power with it.
    loses_power: bool,
    /// It never comes back.
    is_gone: bool,
}

/// What must come true once the faults have ended.
#[derive(Debug, Default)]
struct Last {
    /// Orders that the coordinator has not taken yet.
    orders: Vec<Order>,
    /// Since when a floor holds an environment up, and whether the operator has allowed an outage then.
    floored: BTreeMap<EnvironmentName, u64>,
    allowed: BTreeSet<EnvironmentName>,
    began: u64,
    deadline: u64,
    /// When all was as it should be, and how many commits there had been.
    at_rest: Option<u64>,
}

pub(super) struct World {
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    events: u64,
    nodes: BTreeMap<HostId, Node>,
    store: Watched,
    coordinator: Option<Coordinator>,
    coordinator_incarnation: u64,
    turn_at: Option<u64>,
    minds: Minds,
    network: Network,
    policies: BTreeMap<EnvironmentName, Policy>,
    library: Rc<Library>,
    checker: Checker,
    setting: Setting,
    wall_offset_ms: i64,
    faults: BTreeMap<&'static str, u64>,
    injections: Vec<&'static str>,
    hosts: u64,
    last: Option<Last>,
    /// Of the wishes of operators, of faults, and of everything else.
    operator: Random,
    nemesis: Random,
    chance: Random,
    scenes: Scenes,
    trace: u64,
    lines: Vec<String>,
}

/// In most runs the first rollouts come to their end before anything goes wrong.
const CALM_MS: u64 = 420_000;
/// A floor that holds for longer than any change of another environment does not give way by itself.
const FLOOR_PATIENCE_MS: u64 = 600_000;
/// How often, in a hundred runs, one host never comes back.
const GONE_PERCENT: u64 = 35;
/// Between two orders of an environment's operator at most.
const ORDER_MS_MAX: u64 = 200_000;
/// What is at rest must stay so for so long.
const REST_MS: u64 = 100_000;
/// By the wall; any will do.
const EPOCH_MS: u64 = 1_700_000_000_000;
const ZONES: usize = 3;

impl World {
    pub(super) fn new(seed: u64, setting: &Setting) -> Self {
        let mut random = Random::new(seed);
        let library = Rc::new(Library::new(&mut random.fork(), ZONES));
        let store = Watched::new(setting.planted);
        Core::create(&store, meta(), &[]).expect("an empty store");
        let mut policies = BTreeMap::new();
        for environment in [PROD, SIDE] {
            policies.insert(name(environment), operator::policy(&mut random.fork(), setting.size));
        }
        Self {
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            events: 0,
            nodes: BTreeMap::new(),
            store,
            coordinator: None,
            coordinator_incarnation: 0,
            turn_at: None,
            minds: checker::watched(setting.planted, setting.size),
            network: Network::new(random.fork()),
            policies,
            library,
            checker: Checker::default(),
            setting: setting.clone(),
            wall_offset_ms: 0,
            faults: BTreeMap::new(),
            injections: Vec::new(),
            hosts: 0,
            last: None,
            operator: random.fork(),
            nemesis: random.fork(),
            chance: random.fork(),
            scenes: Scenes::new(random.fork()),
            trace: 0xcbf2_9ce4_8422_2325,
            lines: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        super::planted::forget();
        checker::forget_noticed();
        self.begin();
        let ends_at = self.setting.ends_at.unwrap_or(u64::MAX);
        while self.checker.violation.is_none()
            && let Some(((at, _), event)) = self.queue.pop_first()
            && at <= ends_at
        {
            self.now = at;
            self.events += 1;
            self.happen(event);
            if self.last.as_ref().is_some_and(|last| last.at_rest.is_some_and(|at| self.now > at + REST_MS)) {
                break;
            }
        }
        let mut faults = self.faults;
        faults.insert("messages dropped", self.network.dropped);
        faults.insert("messages doubled", self.network.doubled);
        Outcome {
            violation: self.checker.violation,
            events: self.events,
            simulated_ms: self.now,
            faults,
            hosts: self.hosts,
            faults_ended: self.last.map(|last| last.began),
            injections: self.injections,
            trace: self.trace,
            lines: self.lines,
        }
    }

    /// Counts a fault or an order that the seed has next. Whether it is left out.
    fn is_left_out(&mut self, kind: &'static str) -> bool {
        let index = self.injections.len();
        self.injections.push(kind);
        self.setting.left_out.injections.contains(&index)
    }

    /// Everything that is there before the first rollout.
    fn begin(&mut self) {
        self.start_coordinator();
        let mut orders = vec![];
        let steady = self.library.versions.iter().filter(|version| version.package.name.as_str() != "web");
        orders.extend(steady.map(|version| Order::Push(version.package.clone())));
        for (set, version) in self.library.sets() {
            orders.push(Order::Push(version.package.clone()));
            orders.push(Order::CreateSet { name: set, package: version.package.clone() });
        }
        orders.extend((0..ZONES).map(|zone| Order::CreateToken { zone }));
        for (environment, policy) in &self.policies {
            let (environment, policy) = (environment.clone(), Box::new(policy.clone()));
            orders.push(Order::Apply { environment, policy, mode: None });
        }
        let (fewest, most) = self.setting.size.hosts();
        let hosts = self.chance.between(fewest, most);
        self.hosts = self.setting.left_out.hosts.unwrap_or(hosts).min(hosts);
        for number in 0..hosts {
            let is_labelled = self.chance.chance(50);
            if number >= self.hosts {
                continue;
            }
            let zone = number as usize % ZONES;
            let (host, suffix) = (name(&format!("h{number}")), format!("{zone}"));
            orders.push(Order::Enroll { host, zone, ephemeral_suffix: suffix.clone() });
            if is_labelled {
                orders.push(Order::Label { host: name(&format!("h{number}-{suffix}")), side: true });
            }
        }
        for order in orders {
            self.order(order);
        }
        let calm = if self.chance.chance(60) { CALM_MS } else { 30_000 };
        for environment in [PROD, SIDE] {
            let first = Order::Start {
                environment: name(environment),
                set: Library::good(self.chance.next()),
                supersede: false,
                force: false,
                allow_outage: false,
                exclude: Vec::new(),
            };
            self.order(first);
            let at = calm + self.operator.below(120_000);
            self.at(at, Event::Operator { environment: name(environment) });
        }
        let first_fault = calm + self.nemesis.below(60_000);
        self.at(first_fault, Event::Fault);
        let (least, most) = self.setting.size.safety_ms();
        let end = calm + self.chance.between(least, most);
        self.set_scenes(calm, end);
        self.at(self.setting.left_out.until.unwrap_or(end).min(end), Event::FaultsEnd);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    fn wall(&self) -> WallTime {
        WallTime((EPOCH_MS + self.now).saturating_add_signed(self.wall_offset_ms))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Sync { host, incarnation } => {
                self.with_agent(&host, incarnation, |agent, now| agent.sync(now));
            }
            Event::Work { host, incarnation, environment } => {
                self.with_agent(&host, incarnation, |agent, now| agent.work(&environment, now));
            }
            Event::Probe { host, incarnation, environment, run } => {
                self.with_agent(&host, incarnation, |agent, now| agent.observe(&environment, &run, now));
            }
            Event::CallTimesOut { host, incarnation, call } => {
                self.with_agent(&host, incarnation, |agent, now| agent.timed_out(call, now));
            }
            Event::ToHost { answer } => {
                let Answer { host, incarnation, call, result } = answer;
                self.with_agent(&host, incarnation, |agent, now| agent.answered(call, result, now));
            }
            Event::ToCoordinator { host, incarnation, call, report } => {
                self.reach_coordinator(host, incarnation, call, report);
            }
            Event::AgentStarts { host, incarnation } => self.start_agent(&host, incarnation),
            Event::PowerOn { host, incarnation } => {
                let Some(node) = self.nodes.get(&host).filter(|node| node.incarnation == incarnation) else {
                    return;
                };
                node.machine.borrow_mut().power_on(self.now);
                self.at(self.now + 500, Event::AgentStarts { host, incarnation });
            }
            Event::CoordinatorStarts => self.start_coordinator(),
            Event::Turn { incarnation } => {
                if incarnation == self.coordinator_incarnation && self.turn_at == Some(self.now) {
                    self.turn();
                }
            }
            Event::HoldEnds { host, call, incarnation } => {
                let current = incarnation == self.coordinator_incarnation;
                let coordinator = self.coordinator.as_mut().filter(|_| current);
                if let Some(answer) = coordinator.and_then(|coordinator| coordinator.hold_ends(&host, call)) {
                    self.send_answer(answer);
                }
            }
            Event::Operator { environment } => self.operate(environment),
            Event::Fault => self.fault(),
            Event::Scene(scene) => self.scene(scene),
            Event::FaultsEnd => self.end_faults(),
            Event::Last => self.last(),
        }
    }

    // Hosts.

    fn with_agent(
        &mut self,
        host: &HostId,
        incarnation: u64,
        act: impl FnOnce(&mut Agent, u64) -> Vec<Next>,
    ) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(host).filter(|node| node.incarnation == incarnation) else {
            return;
        };
        let Some(agent) = node.agent.as_mut() else { return };
        let next = act(agent, now);
        self.follow(host, next);
    }

    fn follow(&mut self, host: &HostId, next: Vec<Next>) {
        self.watch_machine(host);
        for next in next {
            let Some(node) = self.nodes.get(host) else { return };
            let (incarnation, machine) = (node.incarnation, node.machine.clone());
            match next {
                Next::Sync { at } => self.at(at, Event::Sync { host: host.clone(), incarnation }),
                Next::Work { environment, at } => {
                    self.at(at, Event::Work { host: host.clone(), incarnation, environment });
                }
                Next::Probe { environment, run, at } => {
                    self.at(at, Event::Probe { host: host.clone(), incarnation, environment, run });
                }
                Next::CallTimesOut { call, at } => {
                    self.at(at, Event::CallTimesOut { host: host.clone(), incarnation, call });
                }
                Next::Send { call, report } => {
                    self.checker.said(Site { host, machine: &machine.borrow() }, &report, self.now);
                    self.checker.sent(host, &report);
                    for at in self.network.deliveries(host, Way::Up, self.now) {
                        let (host, report) = (host.clone(), report.clone());
                        self.at(at, Event::ToCoordinator { host, incarnation, call, report });
                    }
                }
                Next::Turned { environment, before, after } => {
                    if before.phase != after.phase || before.stamp != after.stamp {
                        let generation = after.stamp.map(|stamp| stamp.generation.0);
                        self.note(|| {
                            format!(
                                "{host} {environment}: {:?} -> {:?} at {generation:?}",
                                before.phase, after.phase
                            )
                        });
                    }
                    let place = (environment, host.clone());
                    let machine = machine.borrow();
                    self.checker.stepped(Site { host, machine: &machine }, &place, before, after, self.now);
                }
                Next::Refused { environment, error } => {
                    self.checker.refused(&(environment, host.clone()), &error);
                }
                Next::Died => self.agent_ends(host),
            }
        }
    }

    /// Tells the checker what the machine's effects were.
    fn watch_machine(&mut self, host: &HostId) {
        let Some(node) = self.nodes.get(host) else { return };
        let machine = node.machine.clone();
        let happened = std::mem::take(&mut machine.borrow_mut().happened);
        for what in happened {
            self.note(|| format!("{host} {what:?}"));
            self.checker.happened(Site { host, machine: &machine.borrow() }, what, self.now);
        }
    }

    fn join(&mut self, host: HostId, zone: usize) {
        let machine = Machine::new(zone, self.library.clone(), self.chance.fork(), self.setting.planted);
        if self.setting.walls_differ {
            let years = self.nodes.len() as i64 - 4;
            machine.borrow_mut().wall_offset_ms = years * 365 * 24 * 3_600_000 * 2;
        }
        self.nodes.insert(
            host.clone(),
            Node { machine, agent: None, incarnation: 1, loses_power: false, is_gone: false },
        );
        let at = self.now + self.chance.between(100, 3_000);
        self.at(at, Event::AgentStarts { host, incarnation: 1 });
    }

    fn start_agent(&mut self, host: &HostId, incarnation: u64) {
        let random = self.chance.fork();
        let Some(node) = self.nodes.get_mut(host).filter(|node| node.incarnation == incarnation) else {
            return;
        };
        let (agent, next) = Agent::start(&node.machine, self.now, random);
        node.agent = agent;
        self.note(|| format!("{host} agent starts"));
        self.follow(host, next);
        let Some(node) = self.nodes.get(host) else { return };
        let Some(agent) = &node.agent else { return };
        let machine = node.machine.borrow();
        for environment in agent.environments() {
            if let Some(stand) = agent.stand(environment) {
                let place = (environment.clone(), host.clone());
                self.checker.loaded(&place, stand, Site { host, machine: &machine });
            }
        }
    }

    /// The agent's process ends, and with it perhaps the power.
    fn agent_ends(&mut self, host: &HostId) {
        let (down, pause) = (self.chance.between(10_000, 200_000), self.chance.between(1_000, 5_000));
        let now = self.now;
        let Some(node) = self.nodes.get_mut(host) else { return };
        node.agent = None;
        node.incarnation += 1;
        let loses_power = std::mem::take(&mut node.loses_power);
        let (incarnation, machine) = (node.incarnation, node.machine.clone());
        {
            let mut machine = machine.borrow_mut();
            machine.lose_agent();
            if loses_power {
                machine.cut_power();
            }
            self.checker.crashed(Site { host, machine: &machine });
        }
        self.note(|| format!("{host} agent ends{}", if loses_power { " with the power" } else { "" }));
        let host = host.clone();
        if loses_power {
            self.at(now + down, Event::PowerOn { host, incarnation });
        } else {
            self.at(now + pause, Event::AgentStarts { host, incarnation });
        }
    }

    // The coordinator.

    fn order(&mut self, order: Order) {
        if let Some(coordinator) = self.coordinator.as_mut() {
            coordinator.inputs.push_back(Input::Order(order));
            self.turn_soon(self.now);
        }
    }

    fn turn_soon(&mut self, at: u64) {
        if self.turn_at.is_none_or(|planned| planned > at) {
            self.turn_at = Some(at);
            self.at(at, Event::Turn { incarnation: self.coordinator_incarnation });
        }
    }

    fn reach_coordinator(&mut self, host: HostId, incarnation: u64, call: u64, report: Box<Report>) {
        // A connection ends with its process.
        if self.nodes.get(&host).is_none_or(|node| node.incarnation != incarnation) {
            return;
        }
        let pause = self.chance.below(10);
        match self.coordinator.as_mut() {
            Some(coordinator) => {
                coordinator.inputs.push_back(Input::CheckIn { host, incarnation, call, report });
                self.turn_soon(self.now + pause);
            }
            None => self.send_answer(Answer { host, incarnation, call, result: Err(Code::Unreachable) }),
        }
    }

    fn send_answer(&mut self, answer: Answer) {
        for at in self.network.deliveries(&answer.host, Way::Down, self.now) {
            let Answer { host, incarnation, call, result } = &answer;
            let (host, result) = (host.clone(), result.clone());
            let answer = Answer { host, incarnation: *incarnation, call: *call, result };
            self.at(at, Event::ToHost { answer });
        }
    }

    fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        self.store = self.store.reopen();
        self.coordinator_incarnation += 1;
        self.turn_at = None;
        let started = Coordinator::start(self.store.clone(), self.minds, self.setting.planted, self.now);
        let Some(coordinator) = started else {
            self.at(self.now + 1_000, Event::CoordinatorStarts);
            return;
        };
        self.note(|| "coordinator starts".to_owned());
        super::planted::coordinator_started();
        self.note_commits();
        self.checker.coordinator_started(coordinator.core.state(), coordinator.fleet_time(self.now));
        self.coordinator = Some(coordinator);
        self.turn_soon(self.now);
    }

    fn end_coordinator(&mut self, down_ms: u64) {
        if self.coordinator.take().is_some() {
            self.note(|| "coordinator ends".to_owned());
            self.store.kill();
            self.coordinator_incarnation += 1;
            self.turn_at = None;
            self.at(self.now + down_ms, Event::CoordinatorStarts);
        }
    }

    fn turn(&mut self) {
        let wall = self.wall();
        super::planted::set_wall(wall);
        self.turn_at = None;
        let now = self.now;
        let Some(coordinator) = self.coordinator.as_mut() else { return };
        let turn = coordinator.turn(now, wall);
        let (fleet, wake) = (coordinator.fleet_time(now), coordinator.wake_at(now));
        let has_more = !coordinator.inputs.is_empty();
        let Turn { answers, heard, orders, held, has_died } = turn;
        self.checker.turns(fleet);
        for (host, report, result) in heard {
            self.checker.heard(&host, &report, result, fleet);
        }
        let has_committed = self.note_commits();
        for (order, result) in orders {
            self.ordered(order, result, has_died);
        }
        if has_died {
            let down = self.chance.between(500, 20_000);
            self.end_coordinator(down);
            return;
        }
        if let Some(coordinator) = &self.coordinator {
            let planted = self.setting.planted;
            self.checker.turned(coordinator.core.state(), &self.minds, planted, fleet, has_committed);
        }
        for answer in answers {
            self.checker.answered(&answer);
            self.send_answer(answer);
        }
        let incarnation = self.coordinator_incarnation;
        for (host, call) in held {
            self.at(now + HOLD_MS, Event::HoldEnds { host, call, incarnation });
        }
        self.turn_soon(if has_more { now } else { wake });
    }

    /// What came of an order; what it made is put into the world.
    fn ordered(&mut self, order: Order, result: Result<String, String>, has_died: bool) {
        // A refusal's text may have wall times in it; its code says enough.
        let came_to = result.as_ref().map_err(|refusal| refusal.split(':').next().unwrap_or_default());
        self.note(|| format!("order {order:?}: {came_to:?}{}", if has_died { ", and then?" } else { "" }));
        if let (Order::Enroll { host, zone, ephemeral_suffix }, Ok(_)) = (&order, &result) {
            let host: HostId = name(&format!("{host}-{ephemeral_suffix}"));
            if !has_died || self.checker.stored.hosts.contains_key(&host) {
                self.join(host, *zone);
            }
        }
        if let (Order::Move { .. }, Ok(_)) = (&order, &result) {
            self.checker.has_moved = true;
        }
        if let Some(last) = self.last.as_mut() {
            match (order, result) {
                (order, Ok(_)) if has_died => last.orders.push(order),
                (_, Ok(_)) => {}
                // Under its floors no host could move: the way out that the refusal names.
                (Order::Start { environment, set, .. }, Err(_)) => {
                    last.orders.push(Order::Start {
                        environment,
                        set,
                        supersede: true,
                        force: true,
                        allow_outage: true,
                        exclude: Vec::new(),
                    });
                }
                (_, Err(_)) => {}
            }
        }
    }

    fn operate(&mut self, environment: EnvironmentName) {
        if self.last.is_some() {
            return;
        }
        let hosts: Vec<HostId> = self.nodes.keys().cloned().collect();
        let is_active = self.checker.active(&environment).is_some();
        if let Some(policy) = self.policies.get(&environment).filter(|_| !hosts.is_empty()) {
            let order = operator::next(&mut self.operator, &environment, policy, is_active, &hosts);
            if !self.is_left_out(order.kind()) {
                self.order(order);
            }
        }
        let at = self.now + self.operator.between(5_000, ORDER_MS_MAX);
        self.at(at, Event::Operator { environment });
    }
}

/// Runs a seed.
pub(super) fn run(seed: u64, setting: &Setting) -> Outcome {
    World::new(seed, setting).run()
}
