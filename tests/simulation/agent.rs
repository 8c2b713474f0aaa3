//! The agent's process on one machine: a production driver for each environment, and check-ins by the
//! rules of docs/protocol.md. It answers every call with what is to happen next; the world does it.

use std::collections::{BTreeMap, VecDeque};

use houston_agent::apply::boot_time::{BootId, BootTime};
use houston_agent::apply::driver::{Driver, NotTaken, Wait};
use houston_agent::apply::health::{CheckId, ProbeRun};
use houston_agent::apply::machine::At;
use houston_agent::apply::watching::Watching;
use houston_common::assignment::{Assignment, Stamp};
use houston_common::digest::ReleaseDigest;
use houston_common::error::Code;
use houston_common::id::{EnvironmentName, Epoch, Generation, Platform};
use houston_common::report::{EnvironmentReport, Facts, HealthReport, PROTOCOL, Phase, Position, Report};

use super::machine::{Shared, SimulatedHost};
use super::planted::Planted;
use super::random::Random;

/// What is to happen because of what the agent did.
#[derive(Debug)]
pub(super) enum Next {
    Send {
        call: u64,
        report: Box<Report>,
    },
    CallTimesOut {
        call: u64,
        at: u64,
    },
    Sync {
        at: u64,
    },
    Work {
        environment: EnvironmentName,
        at: u64,
    },
    Probe {
        environment: EnvironmentName,
        run: Box<ProbeRun>,
        at: u64,
    },
    /// The driver has made a step.
    Turned {
        environment: EnvironmentName,
        before: Stand,
        after: Stand,
    },
    Refused {
        environment: EnvironmentName,
        error: String,
    },
    /// It died in the middle of an effect.
    Died,
}

/// Where a driver stands, for the checkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) phase: Phase,
    pub(super) stamp: Option<Stamp>,
    pub(super) floor: Option<(Epoch, Generation)>,
    pub(super) is_activating: bool,
    /// An activation has ended, and the agent holds that the coordinator knows.
    pub(super) is_told: bool,
}

/// A change on the host is told at most this often.
const CHANGE_TOLD_EVERY_MS: u64 = 1_000;
/// A call that is not answered is given up so long after the coordinator's hold.
const CALL_MS_MAX: u64 = 40_000;
const BACKOFF_MS_MAX: u64 = 30_000;
/// How often, in a hundred, a probe takes its time, so that something may happen in between. The others
/// see at once what they see, which saves an event for each.
const SLOW_PROBE_PERCENT: u64 = 15;

#[derive(Debug)]
pub(super) struct Agent {
    machine: Shared,
    start: u64,
    nonce: u64,
    sequence: u64,
    workers: BTreeMap<EnvironmentName, Worker>,
    call: Option<Call>,
    calls: u64,
    last_sent: Option<u64>,
    next_at: u64,
    sync_at: Option<u64>,
    failures: u32,
    random: Random,
    planted: Option<Planted>,
}

#[derive(Debug)]
struct Worker {
    driver: Driver<SimulatedHost>,
    busy_until: u64,
    /// The earliest turn that is planned.
    wake_at: Option<u64>,
    inbox: VecDeque<Input>,
    /// The driver's own, to see when its next probe is due.
    watching: Watching,
    /// What was news of it last.
    essence: Option<Essence>,
}

#[derive(Debug)]
enum Input {
    Assign(Box<Assignment>, BootTime),
    Reported(Phase),
    Observed(CheckId, Result<(), String>),
}

/// The check-in that is under way.
#[derive(Debug)]
struct Call {
    id: u64,
    sent: BootTime,
    said: Vec<EnvironmentReport>,
}

/// What of a report is news when it changes.
type Essence = (Option<Stamp>, Phase, Option<ReleaseDigest>, u8, Option<Code>);

fn essence(report: &EnvironmentReport) -> Essence {
    let health = match report.health {
        HealthReport::Unknown => 0,
        HealthReport::Healthy { .. } => 1,
        HealthReport::Unhealthy { .. } => 2,
    };
    let failure = report.failure.as_ref().map(|failure| failure.code);
    (report.stamp, report.phase, report.running, health, failure)
}

impl Agent {
    /// Starts on a machine that is on, with what its disk says. Absent if it dies while it loads.
    pub(super) fn start(machine: &Shared, now: u64, mut random: Random) -> (Option<Self>, Vec<Next>) {
        let environments: Vec<EnvironmentName> = {
            let mut on = machine.borrow_mut();
            on.now = now;
            on.is_dead = false;
            if on.planted != Some(Planted::StartsInMemory) || on.starts == 0 {
                on.starts += 1;
            }
            let known = on.disk.iter().filter(|(_, disk)| !disk.durable.records.is_empty());
            known.map(|(name, _)| name.clone()).collect()
        };
        let (start, planted) = (machine.borrow().starts, machine.borrow().planted);
        let mut agent = Self {
            machine: machine.clone(),
            start,
            nonce: random.next(),
            sequence: 0,
            workers: BTreeMap::new(),
            call: None,
            calls: 0,
            last_sent: None,
            next_at: now + random.below(1_000),
            sync_at: None,
            failures: 0,
            random,
            planted,
        };
        let mut next = Vec::new();
        for environment in environments {
            if !agent.load(&environment, now, &mut next) {
                return (None, next);
            }
        }
        agent.plan_sync(agent.next_at, &mut next);
        (Some(agent), next)
    }

    /// Whether the environment's driver could be loaded: if not, the agent is dead.
    fn load(&mut self, environment: &EnvironmentName, now: u64, next: &mut Vec<Next>) -> bool {
        let host = SimulatedHost { machine: self.machine.clone(), environment: environment.clone() };
        let Ok(driver) = Driver::load(environment.clone(), host) else {
            next.push(Next::Died);
            return false;
        };
        let spent = self.machine.borrow_mut().take_spent();
        let watching = Watching::default();
        let worker = Worker {
            driver: driver.watched_by(watching.clone()),
            busy_until: now + spent,
            wake_at: None,
            inbox: VecDeque::new(),
            watching,
            essence: None,
        };
        self.workers.insert(environment.clone(), worker);
        self.wake(environment, now, next);
        true
    }

    pub(super) fn stand(&self, environment: &EnvironmentName) -> Option<Stand> {
        self.workers.get(environment).map(|worker| stand(&worker.driver))
    }

    pub(super) fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.workers.keys()
    }

    fn boot_time(&self, now: u64) -> BootTime {
        let machine = self.machine.borrow();
        // A boot takes a moment before the agent starts.
        BootTime { boot: BootId(u128::from(machine.boot)), ms: now - machine.booted_at + 5_000 }
    }

    fn wake(&mut self, environment: &EnvironmentName, at: u64, next: &mut Vec<Next>) {
        let Some(worker) = self.workers.get_mut(environment) else { return };
        let at = at.max(worker.busy_until);
        if worker.wake_at.is_none_or(|planned| planned > at) {
            worker.wake_at = Some(at);
            next.push(Next::Work { environment: environment.clone(), at });
        }
    }

    fn plan_sync(&mut self, at: u64, next: &mut Vec<Next>) {
        if self.sync_at.is_none_or(|planned| planned > at) {
            self.sync_at = Some(at);
            next.push(Next::Sync { at });
        }
    }

    /// The driver's planned turn. One that was planned before an earlier one is void.
    pub(super) fn work(&mut self, environment: &EnvironmentName, now: u64) -> Vec<Next> {
        let mut next = Vec::new();
        if let Some(worker) = self.workers.get_mut(environment)
            && worker.wake_at == Some(now)
        {
            worker.wake_at = None;
            if worker.busy_until > now {
                self.wake(environment, now, &mut next);
            } else {
                self.take_turn(environment, now, &mut next);
            }
        }
        next
    }

    /// Takes what has come in, and makes one step.
    fn take_turn(&mut self, environment: &EnvironmentName, now: u64, next: &mut Vec<Next>) {
        let boot = self.boot_time(now);
        let others_activate = self
            .workers
            .iter()
            .any(|(name, worker)| name != environment && worker.driver.state().is_activating());
        let Some(worker) = self.workers.get_mut(environment) else { return };
        self.machine.borrow_mut().now = now;
        let before = stand(&worker.driver);
        while let Some(input) = worker.inbox.pop_front() {
            match input {
                Input::Assign(assignment, sent) => {
                    if let Err(NotTaken::Refused(error)) = worker.driver.assign(*assignment, sent, boot) {
                        let (environment, error) = (environment.clone(), error.to_string());
                        next.push(Next::Refused { environment, error });
                    }
                }
                Input::Reported(phase) => worker.driver.reported(phase, boot),
                Input::Observed(check, result) => worker.driver.observe(check, result, boot),
            }
        }
        let wait = worker.driver.step(boot, !others_activate);
        if self.machine.borrow().is_dead {
            next.push(Next::Died);
            return;
        }
        let mut has_seen = false;
        for run in worker.driver.probes(boot) {
            if self.random.chance(SLOW_PROBE_PERCENT) {
                let at = now + self.random.between(5, 300);
                next.push(Next::Probe { environment: environment.clone(), run: Box::new(run), at });
            } else {
                let result = self.machine.borrow().probe(environment, &run.package);
                worker.driver.observe(run.id, result, boot);
                has_seen = true;
            }
        }
        let after = stand(&worker.driver);
        worker.busy_until = now + self.machine.borrow_mut().take_spent();
        // What is being proved goes on by what was seen; what runs has only its next probe to wait for.
        let at = match wait {
            Wait::No => Some(worker.busy_until.max(now + 1)),
            _ if has_seen && after.phase == Phase::Proving => Some(now + 1),
            Wait::Until(_) | Wait::Event => {
                let next = BootTime::earliest(worker.driver.state().deadline(), worker.watching.next_probe());
                next.map(|time| now + time.ms.saturating_sub(boot.ms).max(1))
            }
        };
        let before_that = worker.essence.replace(essence(&worker.driver.report(boot)));
        let is_news = before_that != worker.essence;
        if let Some(at) = at {
            self.wake(environment, at, next);
        }
        if before.is_activating && !after.is_activating {
            for other in self.workers.keys().cloned().collect::<Vec<_>>() {
                self.wake(&other, now + 1, next);
            }
        }
        if before != after {
            next.push(Next::Turned { environment: environment.clone(), before, after });
        }
        if is_news {
            self.plan_sync(now + 1, next);
        }
    }

    pub(super) fn observe(&mut self, environment: &EnvironmentName, run: &ProbeRun, now: u64) -> Vec<Next> {
        let mut next = Vec::new();
        let result = {
            let mut machine = self.machine.borrow_mut();
            machine.now = now;
            machine.probe(environment, &run.package)
        };
        let Some(worker) = self.workers.get_mut(environment) else { return next };
        worker.inbox.push_back(Input::Observed(run.id, result));
        if worker.busy_until > now {
            self.wake(environment, now, &mut next);
        } else {
            self.take_turn(environment, now, &mut next);
        }
        next
    }

    /// Time to check in, or to see whether what the held call said is still true.
    pub(super) fn sync(&mut self, now: u64) -> Vec<Next> {
        let mut next = Vec::new();
        if self.sync_at != Some(now) {
            return next;
        }
        self.sync_at = None;
        let said = self.reports(now);
        match &self.call {
            Some(call) if call.said.iter().map(essence).eq(said.iter().map(essence)) => return next,
            Some(_) => {
                let at = self.last_sent.map_or(now, |sent| sent + CHANGE_TOLD_EVERY_MS);
                if at > now {
                    self.plan_sync(at, &mut next);
                    return next;
                }
            }
            None if self.next_at > now => {
                self.plan_sync(self.next_at, &mut next);
                return next;
            }
            None => {}
        }
        self.send(said, now, &mut next);
        next
    }

    fn reports(&self, now: u64) -> Vec<EnvironmentReport> {
        let boot = self.boot_time(now);
        self.workers.values().map(|worker| worker.driver.report(boot)).collect()
    }

    fn send(&mut self, said: Vec<EnvironmentReport>, now: u64, next: &mut Vec<Next>) {
        self.sequence += 1;
        self.calls += 1;
        self.last_sent = Some(now);
        let wall = now.saturating_add_signed(self.machine.borrow().wall_offset_ms);
        let report = Report {
            protocol: PROTOCOL,
            features: Vec::new(),
            position: Position { start: self.start, nonce: self.nonce, sequence: self.sequence },
            agent_version: "1".to_owned(),
            platforms: vec![Platform::any()],
            facts: Facts::default(),
            environments: said.clone(),
            certificate_expires_ms: wall + 30 * 24 * 3_600_000,
        };
        if self.planted == Some(Planted::FireAndForget) {
            self.acknowledge(&said, now, next);
        }
        let call = self.calls;
        self.call = Some(Call { id: call, sent: self.boot_time(now), said });
        next.push(Next::Send { call, report: Box::new(report) });
        next.push(Next::CallTimesOut { call, at: now + CALL_MS_MAX });
    }

    fn acknowledge(&mut self, said: &[EnvironmentReport], now: u64, next: &mut Vec<Next>) {
        for report in said {
            if let Some(worker) = self.workers.get_mut(&report.environment) {
                worker.inbox.push_back(Input::Reported(report.phase));
                self.wake(&report.environment, now, next);
            }
        }
    }

    /// The coordinator has answered: with assignments, or with a refusal.
    pub(super) fn answered(&mut self, id: u64, answer: Result<Vec<Assignment>, Code>, now: u64) -> Vec<Next> {
        let mut next = Vec::new();
        let Some(call) = self.call.take_if(|call| call.id == id) else { return next };
        match answer {
            Ok(assignments) => {
                self.failures = 0;
                self.acknowledge(&call.said, now, &mut next);
                for assignment in assignments {
                    let environment = assignment.environment.clone();
                    if !self.workers.contains_key(&environment) && !self.load(&environment, now, &mut next) {
                        return next;
                    }
                    if let Some(worker) = self.workers.get_mut(&environment) {
                        worker.inbox.push_back(Input::Assign(Box::new(assignment), call.sent));
                        self.wake(&environment, now, &mut next);
                    }
                }
                self.next_at = now + self.random.below(500);
            }
            Err(code) => {
                let patience =
                    if matches!(code, Code::Unreachable | Code::Busy) { self.backoff() } else { 60_000 };
                self.next_at = now + patience;
            }
        }
        self.plan_sync(self.next_at, &mut next);
        next
    }

    pub(super) fn timed_out(&mut self, id: u64, now: u64) -> Vec<Next> {
        let mut next = Vec::new();
        if self.call.take_if(|call| call.id == id).is_some() {
            self.next_at = now + self.backoff();
            self.plan_sync(self.next_at, &mut next);
        }
        next
    }

    /// Full jitter under a ceiling that doubles.
    fn backoff(&mut self) -> u64 {
        self.failures = (self.failures + 1).min(16);
        self.random.below((1_000 << self.failures).min(BACKOFF_MS_MAX))
    }
}

fn stand(driver: &Driver<SimulatedHost>) -> Stand {
    let state = driver.state();
    Stand {
        phase: state.phase(),
        stamp: state.stamp,
        floor: state.floor.map(|floor| floor.stamp.order()),
        is_activating: state.is_activating(),
        is_told: matches!(&state.at, At::Ended(ended) if ended.is_told),
    }
}
