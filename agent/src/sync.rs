//! The conversation with the coordinator: one check-in after the other, for as long as the agent runs.
//!
//! Nothing here decides what the host does. With the coordinator gone, for minutes or for ever, the loop
//! goes on trying, and everything else goes on without it.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use houston_common::api::client::AgentClient;
use houston_common::api::status::CallError;
use houston_common::assignment::Stamp;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{CheckIn, CheckInAnswer};
use houston_common::id::Platform;
use houston_common::report::{EnvironmentReport, PROTOCOL, Position, Report};
use tokio::time::{Instant, sleep_until, timeout};

use crate::apply::boot_time::BootTime;
use crate::boot_clock::BootClock;
use crate::start::Start;
use crate::supervisor::{Changed, Supervisor, says_the_same};
use crate::{inventory, random};
use credentials::Credentials;
use pace::{GAP, Outcome, Pace, Pause};
use vouched::Vouched;

pub mod credentials;
pub mod pace;
pub mod renewal;
pub mod vouched;

/// How long a check-in waits for the workers to take in what the last one brought: so that it is not told
/// again what it knows. One in the middle of a hook is not waited for.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// All that the conversation needs.
#[derive(Debug)]
pub struct Sync {
    pub supervisor: Supervisor,
    pub credentials: Credentials,
    pub clock: BootClock,
    /// What certificates are judged by.
    pub vouched: Vouched,
    pub start: Start,
    pub platforms: Vec<Platform>,
    /// The agent's directory.
    pub state: PathBuf,
}

#[derive(Debug)]
struct Conversation {
    own: Sync,
    changed: Changed,
    client: AgentClient,
    pace: Pace,
    sequence: u64,
    /// What the coordinator has answered last.
    told: Vec<EnvironmentReport>,
    /// What it has told last.
    stamps: Vec<Stamp>,
    /// When the last check-in was sent that had news.
    spoke: Option<Instant>,
    /// Why the last check-in failed: said once.
    trouble: Option<Code>,
}

/// What one check-in came to.
struct Sent {
    reports: Vec<EnvironmentReport>,
    at: BootTime,
    since: Instant,
    was_held: bool,
}

/// Checks in until `stop`, then lets the workers end. What runs keeps running.
pub async fn run(own: Sync, stop: impl Future<Output = ()>) -> Result<(), Refusal> {
    let mut conversation = Conversation {
        changed: own.supervisor.changed(),
        client: own.credentials.link().client()?,
        pace: Pace::default(),
        sequence: 0,
        told: Vec::new(),
        stamps: Vec::new(),
        spoke: None,
        trouble: None,
        own,
    };
    {
        // Safe to cancel anywhere: a check-in is idempotent, and assignments come again.
        let talk = pin!(conversation.talk());
        tokio::select! {
            never = talk => match never? {},
            () = stop => {}
        }
    }
    conversation.own.supervisor.stop().await;
    Ok(())
}

impl Conversation {
    async fn talk(&mut self) -> Result<std::convert::Infallible, Refusal> {
        loop {
            if self.own.credentials.renew_if_due(&self.client).await {
                self.client = self.own.credentials.link().client()?;
            }
            let outcome = self.check_in().await;
            self.own.supervisor.prune();
            let pause = self.pace.after(outcome, random::number());
            self.pause(pause).await;
        }
    }

    async fn check_in(&mut self) -> Outcome {
        self.sequence += 1;
        let at = self.own.clock.now();
        let reports = self.own.supervisor.reports(at);
        // News are to be acknowledged, not held.
        let may_hold = self.is_told(&reports);
        let sent = Sent { at, since: Instant::now(), was_held: may_hold, reports };
        if !may_hold {
            self.spoke = Some(sent.since);
        }
        let check_in = CheckIn { report: self.report(&sent.reports), may_hold };
        let client = self.client.clone();
        let mut call = pin!(client.check_in(&check_in, self.pace.hold()));
        let renewal = self.own.credentials.renewal_in();
        loop {
            tokio::select! {
                answered = &mut call => {
                    return match answered {
                        Ok(answer) => self.answered(answer, sent).await,
                        Err(error) => self.failed(&error),
                    };
                }
                // Cancel safe, as is the next one: they only tell that it is time to look.
                () = self.changed.notified(), if may_hold => {
                    if self.has_news() {
                        return Outcome::Withdrawn;
                    }
                }
                () = tokio::time::sleep(renewal), if may_hold => return Outcome::Withdrawn,
            }
        }
    }

    fn report(&self, reports: &[EnvironmentReport]) -> Report {
        Report {
            protocol: PROTOCOL,
            features: Vec::new(),
            position: Position {
                start: self.own.start.counter,
                nonce: self.own.start.nonce,
                sequence: self.sequence,
            },
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            platforms: self.own.platforms.clone(),
            facts: inventory::facts(&self.own.state),
            environments: reports.to_vec(),
            certificate_expires_ms: self.own.credentials.expires().0,
        }
    }

    async fn answered(&mut self, answer: CheckInAnswer, sent: Sent) -> Outcome {
        if self.trouble.take().is_some() {
            tracing::info!("the coordinator answers again");
        }
        self.pace.set_hold(answer.hold);
        self.own.vouched.raise(answer.server_time);
        if answer.renew_now {
            self.own.credentials.renew_now();
        }
        // What was told is acknowledged before what is new is taken.
        self.own.supervisor.reported(&sent.reports);
        self.told = sent.reports;
        let stamps: Vec<Stamp> = answer.assignments.iter().map(|assignment| assignment.stamp).collect();
        let is_early = sent.was_held && sent.since.elapsed() < self.pace.hold() / 2;
        let is_repeated = is_early && stamps.iter().all(|stamp| self.stamps.contains(stamp));
        let mut taken = Vec::new();
        for assignment in answer.assignments {
            match self.own.supervisor.assign(assignment, sent.at) {
                Ok(receiver) => taken.push(receiver),
                Err(refusal) => tracing::error!("{refusal}"),
            }
        }
        if !stamps.is_empty() {
            self.stamps = stamps;
        }
        let all_taken = async {
            for receiver in taken {
                let _ = receiver.await;
            }
        };
        let _ = timeout(TAKEN_WITHIN, all_taken).await;
        for environment in &answer.forget {
            self.own.supervisor.forget(environment);
        }
        Outcome::Answered { retry_after: answer.retry_after, is_repeated }
    }

    fn failed(&mut self, error: &CallError) -> Outcome {
        let code = error.refusal.code;
        if self.trouble != Some(code) {
            tracing::warn!("{}", error.refusal);
            self.trouble = Some(code);
        }
        match code {
            Code::CertificateExpired => {
                self.own.credentials.refused_as_expired();
                Outcome::Failed { retry_after: error.retry_after }
            }
            Code::Unauthenticated | Code::NotYours | Code::HostUnknown => Outcome::Refused,
            _ => Outcome::Failed { retry_after: error.retry_after },
        }
    }

    /// Waits as the pace says, and keeps the gap between two check-ins that follow news of this host.
    async fn pause(&mut self, pause: Pause) {
        let until = Instant::now() + pause.wait;
        while Instant::now() < until && !(pause.ends_with_news && self.has_news()) {
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.changed.notified(), if pause.ends_with_news => {}
            }
        }
        if let (true, Some(spoke)) = (self.has_news(), self.spoke) {
            sleep_until(spoke + GAP).await;
        }
    }

    fn has_news(&self) -> bool {
        !self.is_told(&self.own.supervisor.reports(self.own.clock.now()))
    }

    /// Whether the coordinator knows all this.
    fn is_told(&self, reports: &[EnvironmentReport]) -> bool {
        self.sequence > 1
            && reports.len() == self.told.len()
            && reports.iter().zip(&self.told).all(|(report, told)| says_the_same(report, told))
    }
}
