//! The environments of this host: a worker each, which may block, and a prober each, which does not.
//!
//! Workers share nothing but the host and the turn to activate; what they have come to is published for
//! whoever reports, as values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use houston_common::assignment::Assignment;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::HOST_ENVIRONMENTS_MAX;
use houston_common::id::EnvironmentName;
use houston_common::report::{EnvironmentReport, HealthReport};
use tokio::sync::{Notify, oneshot};

use crate::apply::boot_time::BootTime;
use crate::apply::watching::Watching;
use crate::boot_clock::BootClock;
use crate::host::Keep;
use crate::host::linux::Linux;
use keeper::{Environment, Loaded};
use turn::Turn;
use worker::Message;

mod keeper;
mod prober;
#[cfg(test)]
mod tests;
mod turn;
mod worker;

/// How often services are looked after: a restart is due a second after an exit at the earliest.
const TICK: Duration = Duration::from_secs(1);

/// How long a stop of the agent waits for what its workers are in the middle of. A hook that takes longer
/// is ended with the agent, and the journal says what to do about it.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Tells that something about the host has changed that the coordinator may want to know.
pub type Changed = Arc<Notify>;

#[derive(Debug)]
pub struct Supervisor {
    linux: Arc<Linux>,
    clock: BootClock,
    turn: Arc<Turn>,
    changed: Changed,
    environments: BTreeMap<EnvironmentName, Supervised>,
}

#[derive(Debug)]
struct Supervised {
    own: Environment,
    messages: Sender<Message>,
    worker: JoinHandle<()>,
    prober: tokio::task::JoinHandle<()>,
}

impl Supervisor {
    /// Loads every environment that the host has a record of, and lets them run. To be called within a
    /// runtime, before anything waits for this thread: loading reads every byte of what is current.
    pub fn start(linux: Arc<Linux>, clock: BootClock) -> Result<Self, Refusal> {
        let mut supervisor = Self {
            turn: Arc::default(),
            changed: Changed::default(),
            environments: BTreeMap::new(),
            linux,
            clock,
        };
        let names = supervisor.linux.state().environments()?;
        // What all of them need is known before any of them can collect.
        let loaded: Vec<(Environment, Loaded)> = (names.into_iter().map(|name| supervisor.environment(name)))
            .map(|own| (own.clone(), own.load()))
            .collect();
        for (own, loaded) in loaded {
            if let Ok(driver) = &loaded {
                own.publish(driver.report(clock.now()));
            }
            supervisor.run(own, Some(loaded))?;
        }
        let linux = Arc::clone(&supervisor.linux);
        spawn("houston-services", move || look_after_services(&linux))?;
        Ok(supervisor)
    }

    /// Notified at every change; whether it matters is the reporter's to say.
    pub fn changed(&self) -> Changed {
        Arc::clone(&self.changed)
    }

    /// What is true now of each environment, at most [`HOST_ENVIRONMENTS_MAX`].
    pub fn reports(&self, now: BootTime) -> Vec<EnvironmentReport> {
        let report = |environment: &Supervised| {
            let mut report = environment.own.published()?;
            // The worker may be in the middle of a hook; health goes on.
            report.health = environment.own.watching.report(now);
            Some(report)
        };
        self.environments.values().filter_map(report).take(HOST_ENVIRONMENTS_MAX).collect()
    }

    /// Hands an assignment to its environment; it came with the answer to a check-in that was sent at
    /// `sent`. The receiver learns when it was taken in or refused.
    pub fn assign(
        &mut self,
        assignment: Assignment,
        sent: BootTime,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        let name = assignment.environment.clone();
        if !self.environments.contains_key(&name) {
            if self.environments.len() >= HOST_ENVIRONMENTS_MAX {
                let what = format!(
                    "the host has {HOST_ENVIRONMENTS_MAX} environments already, \"{name}\" is left out"
                );
                return Err(Refusal::new(Code::Limit, what, "take the host out of another environment"));
            }
            // It is new on this host, or of a forgotten one its packages' data alone is left.
            self.linux.needs(&name, Keep::default());
            self.run(self.environment(name.clone()), None)?;
        }
        let (taken, receiver) = oneshot::channel();
        self.send(&name, Message::Assign { assignment, sent, taken });
        Ok(receiver)
    }

    /// The coordinator has answered a check-in with these phases in it.
    pub fn reported(&self, reports: &[EnvironmentReport]) {
        for report in reports {
            self.send(&report.environment, Message::Reported(report.phase));
        }
    }

    /// The coordinator knows the environment no more: its record goes, if nothing of it runs here.
    pub fn forget(&self, name: &EnvironmentName) {
        self.send(name, Message::Forget);
    }

    /// Lets go of workers that have ended: their environment was forgotten.
    pub fn prune(&mut self) {
        self.environments.retain(|_, environment| {
            let has_ended = environment.worker.is_finished();
            if has_ended {
                environment.prober.abort();
            }
            !has_ended
        });
    }

    /// Ends the workers where they are safe to end. What runs keeps running.
    pub async fn stop(self) {
        let until = Instant::now() + STOP_WAIT;
        let mut workers = Vec::new();
        for (_, environment) in self.environments {
            environment.prober.abort();
            let _ = environment.messages.send(Message::Stop);
            workers.push(environment.worker);
        }
        while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn environment(&self, name: EnvironmentName) -> Environment {
        Environment {
            name,
            linux: Arc::clone(&self.linux),
            clock: self.clock,
            turn: Arc::clone(&self.turn),
            watching: Watching::default(),
            watched: Arc::default(),
            changed: Arc::clone(&self.changed),
            published: Arc::default(),
        }
    }

    /// `first` is what a load has come to already; else the environment's thread begins with one.
    fn run(&mut self, own: Environment, first: Option<Loaded>) -> Result<(), Refusal> {
        let (messages, inbox) = mpsc::channel();
        self.turn.join(messages.clone());
        let (kept, probed) = (own.clone(), own.clone());
        let worker = spawn(&format!("houston-{}", own.name), move || kept.keep(&inbox, first))?;
        let prober = tokio::spawn(prober::Prober { own: probed, messages: messages.clone() }.run());
        self.environments.insert(own.name.clone(), Supervised { own, messages, worker, prober });
        Ok(())
    }

    fn send(&self, name: &EnvironmentName, message: Message) {
        // One that was forgotten hears no more.
        if let Some(environment) = self.environments.get(name) {
            let _ = environment.messages.send(message);
        }
    }
}

/// Whether two reports say the same, apart from how long it has been so.
pub fn says_the_same(a: &EnvironmentReport, b: &EnvironmentReport) -> bool {
    let timeless = |report: &EnvironmentReport| {
        let health = match &report.health {
            HealthReport::Healthy { .. } => HealthReport::Healthy { for_at_least: Duration::ZERO, passes: 0 },
            HealthReport::Unknown | HealthReport::Unhealthy { .. } => report.health.clone(),
        };
        EnvironmentReport { health, ..report.clone() }
    };
    timeless(a) == timeless(b)
}

fn look_after_services(linux: &Linux) {
    let started = Instant::now();
    loop {
        std::thread::sleep(TICK);
        linux.services().tick(started.elapsed());
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Refusal> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
        Refusal::new(
            Code::Io,
            format!("no thread can be started: {error}"),
            "raise the host's limit of processes",
        )
    })
}
