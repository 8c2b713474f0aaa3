//! Probes what runs, for as long as it runs, whatever the worker is in the middle of.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::task::JoinSet;

use super::keeper::Environment;
use super::worker::Message;
use crate::apply::health::{CheckId, ProbeKind, ProbeRun};
use crate::host::probe::{ProbeContext, Probed, probe};
use crate::host::service::ServiceKey;

/// For when there is nothing to watch: the worker tells when there is.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Prober {
    pub own: Environment,
    pub messages: Sender<Message>,
}

impl Prober {
    /// Runs until it is aborted.
    pub async fn run(self) {
        let mut running: JoinSet<(CheckId, Result<(), String>)> = JoinSet::new();
        loop {
            let now = self.own.clock.now();
            for run in self.own.watching.due(now) {
                self.begin(&mut running, run);
            }
            let due = self.own.watching.next_probe().and_then(|next| next.since(now)).unwrap_or(NOTHING_DUE);
            tokio::select! {
                // A permit that comes while nobody waits is kept.
                () = self.own.watched.notified() => {}
                () = tokio::time::sleep(due) => {}
                // Cancel safe: a result that is not taken stays in the set.
                Some(probed) = running.join_next() => {
                    // One that panicked has no result, and its check becomes late.
                    if let Ok((id, result)) = probed {
                        self.own.watching.observe(id, result, self.own.clock.now());
                        self.own.changed.notify_one();
                        if self.messages.send(Message::Probed).is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn begin(&self, running: &mut JoinSet<(CheckId, Result<(), String>)>, run: ProbeRun) {
        let ProbeRun { id, release, package, service, probe: kind, timeout } = run;
        let (linux, environment) = (Arc::clone(&self.own.linux), self.own.name.clone());
        match kind {
            ProbeKind::ProcessRuns => {
                let key = ServiceKey { environment, package: package.file.name.clone(), service };
                running.spawn(async move { (id, linux.process_runs(&key)) });
            }
            ProbeKind::Declared(declared) => {
                let user = (package.file.services.iter())
                    .find(|candidate| candidate.name == service)
                    .and_then(|service| service.user.clone());
                running.spawn(async move {
                    let variables = match linux.variables(&environment, release, &package) {
                        Ok(variables) => variables,
                        Err(refusal) => return (id, Err(refusal.what)),
                    };
                    let context = ProbeContext {
                        runner: linux.runner().clone(),
                        user,
                        tree: linux.state().tree_path(&package.tree),
                        variables,
                        address: linux.address(),
                    };
                    match probe(&declared, timeout, &context).await {
                        Probed::Pass => (id, Ok(())),
                        Probed::Fail(why) => (id, Err(why)),
                    }
                });
            }
        }
    }
}
