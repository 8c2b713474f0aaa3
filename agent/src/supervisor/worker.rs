//! Drives one environment on a thread of its own, which may block in a hook for as long as that takes.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use houston_common::assignment::Assignment;
use houston_common::error::Refusal;
use houston_common::id::EnvironmentName;
use houston_common::report::{EnvironmentReport, Failure, Phase};
use tokio::sync::{Notify, oneshot};

use super::turn::Turn;
use super::{Changed, says_the_same};
use crate::apply::boot_time::BootTime;
use crate::apply::driver::{Driver, NotTaken, Wait};
use crate::apply::failure::of_refusal;
use crate::apply::machine::Action;
use crate::boot_clock::BootClock;
use crate::host::linux::{Linux, LinuxEnvironment};

/// What is current is read again this often, for damage that nobody has noticed. It costs a read of the
/// whole release: an hour keeps that below a thousandth of a disk's time for a release of a few GB.
const MEASURE_AGAIN: Duration = Duration::from_secs(3600);

/// A probe that is due is the prober's to begin, in a moment; this keeps the worker from asking when.
const WAIT_MIN: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub enum Message {
    Assign {
        assignment: Assignment,
        sent: BootTime,
        taken: oneshot::Sender<()>,
    },
    /// The coordinator has answered a check-in that told this phase.
    Reported(Phase),
    /// A probe has come to a result.
    Probed,
    /// The host may activate again.
    TurnIsFree,
    /// The environment is gone: remove the record of it, if nothing of it runs here.
    Forget,
    /// The agent stops.
    Stop,
}

#[derive(Debug)]
pub struct Worker {
    pub name: EnvironmentName,
    pub linux: Arc<Linux>,
    pub driver: Driver<LinuxEnvironment>,
    pub clock: BootClock,
    pub inbox: Receiver<Message>,
    pub turn: Arc<Turn>,
    pub published: Arc<Mutex<EnvironmentReport>>,
    /// Tells the prober to look at what there is to watch.
    pub watched: Arc<Notify>,
    pub changed: Changed,
    /// Why the newest assignment was not taken.
    pub refused: Option<Failure>,
}

impl Worker {
    pub fn run(mut self) {
        let mut measured = self.clock.now();
        loop {
            let wait = self.step();
            let now = self.clock.now();
            let wait = match wait {
                Wait::No => Duration::ZERO,
                Wait::Until(then) => then_in(then, now).max(WAIT_MIN),
                Wait::Event => MEASURE_AGAIN,
            };
            if !wait.is_zero() && now.since(measured).is_none_or(|since| since >= MEASURE_AGAIN) {
                self.driver.measure();
                self.publish();
                measured = now;
            }
            let mut next = match self.inbox.recv_timeout(wait.min(MEASURE_AGAIN)) {
                Err(RecvTimeoutError::Disconnected) => return,
                received => received.ok(),
            };
            while let Some(message) = next {
                if self.take(message).is_break() {
                    return;
                }
                next = self.inbox.try_recv().ok();
            }
        }
    }

    fn step(&mut self) -> Wait {
        let is_activating = self.driver.state().is_activating();
        let wants_turn = is_activating || self.driver.state().action() == Action::Begin;
        let may_begin = wants_turn && self.turn.take(&self.name);
        // Whoever collects must know what this environment needs before it begins to need it.
        self.linux.needs(&self.name, self.driver.state().keep());
        let wait = self.driver.step(self.clock.now(), may_begin);
        if may_begin && !self.driver.state().is_activating() {
            self.turn.give_up(&self.name);
        }
        // A new watch may have begun without a new phase to report: on the way back all legs are one.
        self.watched.notify_one();
        self.publish();
        wait
    }

    fn take(&mut self, message: Message) -> ControlFlow<()> {
        let now = self.clock.now();
        match message {
            Message::Assign { assignment, sent, taken } => {
                self.assign(assignment, sent, now);
                // Nobody may be waiting any more.
                let _ = taken.send(());
            }
            Message::Reported(phase) => self.driver.reported(phase, now),
            Message::Probed | Message::TurnIsFree => {}
            Message::Forget if self.driver.state().runs_nothing() => {
                match self.linux.forget(&self.name) {
                    Ok(()) => {
                        tracing::info!(environment = %self.name, "forgotten: it is gone and nothing of it runs")
                    }
                    Err(refusal) => tracing::warn!(environment = %self.name, "{refusal}"),
                }
                return ControlFlow::Break(());
            }
            Message::Forget => {}
            Message::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn assign(&mut self, assignment: Assignment, sent: BootTime, now: BootTime) {
        let stamp = assignment.stamp;
        let refused = self.driver.assign(assignment, sent, now).err().map(|not_taken| {
            let refusal = match not_taken {
                NotTaken::Refused(refused) => Refusal::from(refused),
                NotTaken::Disk(refusal) => refusal,
            };
            of_refusal(&refusal, self.driver.state().phase())
        });
        if let (Some(failure), true) = (&refused, refused != self.refused) {
            let number = format!("{}.{}", stamp.epoch, stamp.generation);
            tracing::warn!(environment = %self.name, number, "an assignment is not taken: {}", failure.message);
        }
        self.refused = refused;
        self.publish();
    }

    fn publish(&mut self) {
        let mut report = self.driver.report(self.clock.now());
        report.failure = report.failure.or_else(|| self.refused.clone());
        {
            let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
            if says_the_same(&published, &report) {
                return;
            }
            *published = report.clone();
        }
        self.linux.show(&report);
        self.changed.notify_one();
    }
}

fn then_in(then: BootTime, now: BootTime) -> Duration {
    then.since(now).unwrap_or_default()
}
