//! The one writer: a thread that owns the fleet's state. Inputs are applied one at a time, planned and
//! committed in groups; replies leave after the commit. A commit that fails, or whose result is
//! unknown, ends the process: a restart reads what is true.

mod clock;
pub mod core;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use houston_common::assignment::Assignment;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, GateName, HostId};
use houston_common::policy::gate::Number;
use houston_common::report::{EnvironmentReport, Report};
use tokio::sync::{mpsc, oneshot, watch};

use self::clock::FleetClock;
use self::core::{Core, Decided};
use crate::rollout::gates::Measured;
use crate::state::State;

/// Inputs that may wait for the writer; beyond it callers wait. A few commits' worth.
const INPUTS_MAX: usize = 1024;
/// The fleet clock's elapsed time is kept this often while something waits on it, so that a restart
/// in the middle of a bake loses no more.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// Silence is judged once nobody waits to be heard; with inputs that never end, after this long.
const JUDGE_EVERY: Duration = Duration::from_secs(10);

/// What the writer answers to a check-in.
#[derive(Debug)]
pub struct CheckedIn {
    /// All of the host's assignments. Absent if it has them already.
    pub assignments: Option<Vec<Assignment>>,
}

type Reply = Box<dyn FnOnce(&Core) + Send>;
type Work = Box<dyn FnOnce(&mut Core, FleetTime, WallTime) -> Option<Reply> + Send>;

enum Input {
    Work(Work),
    CheckIn(Box<CheckIn>),
}

struct CheckIn {
    host: HostId,
    key: Digest,
    report: Report,
    may_hold: bool,
    reply: oneshot::Sender<Result<CheckedIn, Refusal>>,
}

/// A way to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inputs: mpsc::Sender<Input>,
    revision: watch::Receiver<u64>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("revision", &*self.revision.borrow()).finish_non_exhaustive()
    }
}

/// How the writer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Every handle is gone.
    Stopped,
    /// The store cannot be believed any more.
    StoreFailed(String),
}

impl Engine {
    /// Starts the writer on a thread of its own. The receiver tells when and why it ends.
    pub fn start(core: Core) -> std::io::Result<(Self, oneshot::Receiver<Ended>)> {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let (revision_sender, revision) = watch::channel(core.revision());
        let (ended_sender, ended) = oneshot::channel();
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let writer = Writer::new(core, revision_sender);
            let _ = ended_sender.send(writer.run(receiver));
        })?;
        Ok((Self { inputs, revision }, ended))
    }

    /// Rises with every commit.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Takes a report in. With `may_hold` the answer waits for news; drop the future to give up.
    pub async fn check_in(
        &self,
        host: HostId,
        key: Digest,
        report: Report,
        may_hold: bool,
    ) -> Result<CheckedIn, Refusal> {
        let (reply, answer) = oneshot::channel();
        let check_in = CheckIn { host, key, report, may_hold, reply };
        self.inputs.send(Input::CheckIn(Box::new(check_in))).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Decides a change against the state and commits it; the reply comes after the commit.
    pub async fn command<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&State, FleetTime) -> Result<Decided<T>, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |core, now, wall| {
            let result = core.command(now, wall, decide);
            Some(Box::new(move |_: &Core| drop(reply.send(result))))
        });
        self.inputs.send(Input::Work(work)).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads committed state.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, FleetTime) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |_, now, _| {
            Some(Box::new(move |core: &Core| drop(reply.send(look(core.state(), now)))))
        });
        self.inputs.send(Input::Work(work)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

impl Engine {
    /// Tells what a gate's query was answered.
    pub async fn measured(
        &self,
        environment: EnvironmentName,
        gate: GateName,
        value: Result<Number, String>,
    ) -> Result<(), Refusal> {
        let work: Work = Box::new(move |core, now, _| {
            core.measured(environment, gate, Measured { at: now, value });
            None
        });
        self.inputs.send(Input::Work(work)).await.map_err(|_| stopping())
    }
}

fn stopping() -> Refusal {
    Refusal::new(Code::Busy, "the coordinator is stopping", "try again")
}

/// A check-in that waits for news, with what the host said it has.
struct Held {
    has: Vec<EnvironmentReport>,
    reply: oneshot::Sender<Result<CheckedIn, Refusal>>,
}

struct Writer {
    core: Core,
    revision: watch::Sender<u64>,
    held: HashMap<HostId, Held>,
    clock: FleetClock,
    checkpointed: Instant,
    judged: Instant,
}

impl Writer {
    fn new(core: Core, revision: watch::Sender<u64>) -> Self {
        let now = Instant::now();
        let clock = FleetClock::new(core.state().meta.checkpoint, now);
        Self { core, revision, held: HashMap::new(), clock, checkpointed: now, judged: now }
    }

    fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> Ended {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return Ended::StoreFailed(error.to_string()),
        };
        loop {
            self.clock.read(Instant::now(), Duration::ZERO);
            let patience = self.patience();
            let first = runtime.block_on(async { tokio::time::timeout(patience, inputs.recv()).await });
            let now = self.clock.read(Instant::now(), patience);
            let wall = WallTime::from_system(SystemTime::now());
            let mut replies = Vec::new();
            let mut answers = Vec::new();
            match first {
                Ok(None) => return Ended::Stopped,
                Ok(Some(input)) => {
                    self.apply(input, now, wall, &mut replies, &mut answers);
                    while !self.core.is_full()
                        && let Ok(input) = inputs.try_recv()
                    {
                        self.apply(input, now, wall, &mut replies, &mut answers);
                    }
                }
                Err(_) => {}
            }
            // Who waits here to be heard is not silent.
            if inputs.is_empty() || self.judged.elapsed() >= JUDGE_EVERY {
                self.core.tick(now, wall);
                self.judged = Instant::now();
            }
            if let Err(error) = self.commit(now, wall, replies, answers) {
                return Ended::StoreFailed(houston_common::error::chain(&error));
            }
        }
    }

    /// How long to wait for an input before time itself is one.
    fn patience(&self) -> Duration {
        let wake = self.core.wake_at().map_or(CHECKPOINT_EVERY, |at| at.since(self.clock.now()));
        wake.clamp(Duration::from_millis(1), CHECKPOINT_EVERY)
    }

    fn apply(
        &mut self,
        input: Input,
        now: FleetTime,
        wall: WallTime,
        replies: &mut Vec<Reply>,
        answers: &mut Vec<CheckIn>,
    ) {
        match input {
            Input::Work(work) => replies.extend(work(&mut self.core, now, wall)),
            Input::CheckIn(check_in) => {
                let CheckIn { host, key, report, .. } = &*check_in;
                match self.core.check_in(host, key, report, now, wall) {
                    Ok(()) => answers.push(*check_in),
                    Err(refusal) => {
                        // The refusal may rest on something that is only now being written.
                        let reply = check_in.reply;
                        replies.push(Box::new(move |_| drop(reply.send(Err(refusal)))));
                    }
                }
            }
        }
    }

    fn commit(
        &mut self,
        now: FleetTime,
        wall: WallTime,
        replies: Vec<Reply>,
        answers: Vec<CheckIn>,
    ) -> Result<(), crate::store::CommitError> {
        let before = self.core.revision();
        let news = self.core.commit(now, wall)?;
        if self.core.revision() != before {
            self.checkpointed = Instant::now();
        } else if self.core.is_waiting() && self.checkpointed.elapsed() >= CHECKPOINT_EVERY {
            self.core.checkpoint(now)?;
            self.checkpointed = Instant::now();
        }
        for reply in replies {
            reply(&self.core);
        }
        for check_in in answers {
            self.answer(check_in);
        }
        for host in news {
            if let Some(held) = self.held.remove(&host)
                && let Some(held) = self.tell(&host, held)
            {
                // Something about the host has changed, but nothing that it must be told.
                self.held.insert(host, held);
            }
        }
        self.revision.send_if_modified(|revision| {
            let changed = *revision != self.core.revision();
            *revision = self.core.revision();
            changed
        });
        Ok(())
    }

    fn answer(&mut self, check_in: CheckIn) {
        let CheckIn { host, report, may_hold, reply, .. } = check_in;
        let held = Held { has: report.environments, reply };
        if may_hold && !self.core.state().has_news(&host, &held.has) {
            // The call that it replaces ends with nothing new.
            if let Some(earlier) = self.held.insert(host, held) {
                let _ = earlier.reply.send(Ok(CheckedIn { assignments: None }));
            }
            return;
        }
        if let Some(held) = self.tell(&host, held) {
            let _ = held.reply.send(Ok(CheckedIn { assignments: None }));
        }
    }

    /// Answers with what is new to the host; gives the call back if nothing is.
    fn tell(&mut self, host: &HostId, held: Held) -> Option<Held> {
        let state = self.core.state();
        let refusal = match state.fleet.get(host) {
            None => Some(core::unknown_host(host)),
            Some(entry) => entry.host.revoked.then(|| core::revoked(host)),
        };
        if let Some(refusal) = refusal {
            let _ = held.reply.send(Err(refusal));
            return None;
        }
        if state.has_news(host, &held.has) {
            let assignments = Some(state.assignments(host));
            let _ = held.reply.send(Ok(CheckedIn { assignments }));
            return None;
        }
        Some(held).filter(|held| !held.reply.is_closed())
    }
}

/// Opens the store and starts the writer over it.
pub fn open(
    store: Arc<dyn crate::store::Store>,
    lost_after: Duration,
) -> Result<(Engine, oneshot::Receiver<Ended>), Refusal> {
    let core = Core::open(store, lost_after)?;
    Engine::start(core).map_err(|error| Refusal::internal(format!("no thread for the writer: {error}")))
}
