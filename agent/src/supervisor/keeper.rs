//! Keeps one environment going on a thread of its own: loads it there, since that reads every byte of what
//! is current, and begins anew after a load that failed or a worker that panicked, each time later.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;
use houston_common::package::Restart;
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use tokio::sync::Notify;

use super::turn::Turn;
use super::worker::{Message, Worker};
use super::{Changed, says_the_same};
use crate::apply::driver::Driver;
use crate::apply::failure::of_refusal;
use crate::apply::watching::Watching;
use crate::boot_clock::BootClock;
use crate::host::Host as _;
use crate::host::linux::{Linux, LinuxEnvironment};
use crate::host::process::Exit;
use crate::host::service::Restarts;

/// One environment, as its thread, its prober and whoever reports share it.
#[derive(Debug, Clone)]
pub struct Environment {
    pub name: EnvironmentName,
    pub linux: Arc<Linux>,
    pub clock: BootClock,
    pub turn: Arc<Turn>,
    pub watching: Watching,
    /// Tells the prober to look at what there is to watch.
    pub watched: Arc<Notify>,
    pub changed: Changed,
    /// Absent as long as nobody has read what the disk holds.
    pub published: Arc<Mutex<Option<EnvironmentReport>>>,
}

pub type Loaded = Result<Driver<LinuxEnvironment>, Refusal>;

impl Environment {
    pub fn load(&self) -> Loaded {
        let host = self.host()?;
        let driver = Driver::load(self.name.clone(), host)?.watched_by(self.watching.clone());
        self.linux.needs(&self.name, driver.state().keep());
        Ok(driver)
    }

    pub fn publish(&self, report: EnvironmentReport) {
        {
            let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
            if published.as_ref().is_some_and(|published| says_the_same(published, &report)) {
                return;
            }
            *published = Some(report.clone());
        }
        self.linux.show(&report);
        self.changed.notify_one();
    }

    pub fn published(&self) -> Option<EnvironmentReport> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs until the environment is forgotten or the agent stops. `first` is what a load has come to
    /// already.
    pub fn keep(&self, inbox: &Receiver<Message>, mut first: Option<Loaded>) {
        self.keep_up(inbox, || {
            let driver = first.take().unwrap_or_else(|| self.load())?;
            Worker::new(self, inbox, driver).run();
            Ok(())
        });
    }

    /// Drives until that ends well, and anew after every other end.
    pub(super) fn keep_up(&self, inbox: &Receiver<Message>, mut drive: impl FnMut() -> Result<(), Refusal>) {
        let (clock, mut restarts) = (Instant::now(), Restarts::default());
        loop {
            let began = clock.elapsed();
            let refusal = match catch_unwind(AssertUnwindSafe(&mut drive)) {
                Ok(Ok(())) => return,
                Ok(Err(refusal)) => refusal,
                Err(payload) => panicked(&*payload),
            };
            // The others are none the worse for it, but nothing is collected while it is unknown.
            self.turn.give_up(&self.name);
            tracing::error!(environment = %self.name, "it is loaded again later: {refusal}");
            self.publish_failed(&refusal);
            let (now, ran) = (clock.elapsed(), clock.elapsed().saturating_sub(began));
            let due = restarts.after(Restart::Always, Exit::Unknown, ran, now).unwrap_or(now);
            if wait(inbox, due.saturating_sub(now)).is_break() {
                return;
            }
            restarts.note(ran, clock.elapsed());
        }
    }

    /// What was said last still holds: it is on the disk. Before anything was, only what runs can be said.
    /// Nothing is, where the disk cannot be read: to say that nothing runs would be a guess.
    fn publish_failed(&self, refusal: &Refusal) {
        let unloaded = || {
            let running = self.host().ok()?.measure().ok()?.link();
            let (environment, health) = (self.name.clone(), HealthReport::Unknown);
            let phase = Phase::Idle;
            Some(EnvironmentReport { environment, stamp: None, phase, running, health, failure: None })
        };
        if let Some(report) = self.published().or_else(unloaded) {
            let failure = Some(of_refusal(refusal, report.phase));
            self.publish(EnvironmentReport { failure, ..report });
        }
    }

    fn host(&self) -> Result<LinuxEnvironment, Refusal> {
        LinuxEnvironment::open(Arc::clone(&self.linux), self.name.clone())
    }
}

/// Waits so long; broken off when the agent stops. Assignments that come meanwhile come again.
fn wait(inbox: &Receiver<Message>, wait: Duration) -> ControlFlow<()> {
    let until = Instant::now() + wait;
    loop {
        match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> Refusal {
    let words = payload.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a word");
    let what = format!("the agent has failed in the middle of its work: {words}");
    Refusal::new(Code::Internal, what, "please report it with the agent's log")
}
