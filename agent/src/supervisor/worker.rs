//! Drives one environment on a thread of its own, which may block in a hook for as long as that takes.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use houston_common::assignment::Assignment;
use houston_common::error::Refusal;
use houston_common::report::{Failure, Phase};
use tokio::sync::oneshot;

use super::keeper::Environment;
use crate::apply::boot_time::BootTime;
use crate::apply::driver::{Driver, NotTaken, Wait};
use crate::apply::failure::of_refusal;
use crate::apply::machine::Action;
use crate::host::linux::LinuxEnvironment;

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
pub struct Worker<'a> {
    own: &'a Environment,
    inbox: &'a Receiver<Message>,
    driver: Driver<LinuxEnvironment>,
    /// Why the newest assignment was not taken.
    refused: Option<Failure>,
}

impl<'a> Worker<'a> {
    pub fn new(own: &'a Environment, inbox: &'a Receiver<Message>, driver: Driver<LinuxEnvironment>) -> Self {
        Self { own, inbox, driver, refused: None }
    }

    /// Until the environment is forgotten or the agent stops.
    pub fn run(mut self) {
        let mut measured = self.own.clock.now();
        self.publish();
        loop {
            let wait = self.step();
            let now = self.own.clock.now();
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
        let may_begin = wants_turn && self.own.turn.take(&self.own.name);
        // Whoever collects must know what this environment needs before it begins to need it.
        self.own.linux.needs(&self.own.name, self.driver.state().keep());
        let wait = self.driver.step(self.own.clock.now(), may_begin);
        if may_begin && !self.driver.state().is_activating() {
            self.own.turn.give_up(&self.own.name);
        }
        // A new watch may have begun without a new phase to report: on the way back all legs are one.
        self.own.watched.notify_one();
        self.publish();
        wait
    }

    fn take(&mut self, message: Message) -> ControlFlow<()> {
        let now = self.own.clock.now();
        match message {
            Message::Assign { assignment, sent, taken } => {
                self.assign(assignment, sent, now);
                // Nobody may be waiting any more.
                let _ = taken.send(());
            }
            Message::Reported(phase) => self.driver.reported(phase, now),
            Message::Probed | Message::TurnIsFree => {}
            Message::Forget if self.driver.state().runs_nothing() => {
                match self.own.linux.forget(&self.own.name) {
                    Ok(()) => {
                        tracing::info!(environment = %self.own.name, "forgotten: it is gone and nothing of it runs")
                    }
                    Err(refusal) => tracing::warn!(environment = %self.own.name, "{refusal}"),
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
            tracing::warn!(environment = %self.own.name, number, "an assignment is not taken: {}", failure.message);
        }
        self.refused = refused;
        self.publish();
    }

    fn publish(&self) {
        let mut report = self.driver.report(self.own.clock.now());
        report.failure = report.failure.or_else(|| self.refused.clone());
        self.own.publish(report);
    }
}

fn then_in(then: BootTime, now: BootTime) -> Duration {
    then.since(now).unwrap_or_default()
}
