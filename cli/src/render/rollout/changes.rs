//! What changed from one view of a rollout to the next, a line each: for pipes, logs and CI.

use houston_common::id::HostId;
use houston_common::rollout::WaitingOn;
use houston_common::view::{HostInRollout, RolloutView, WaveStatus};

use super::picture::{host_state, is_well};
use crate::console::{Paint, plain};
use crate::prose;
use crate::render::{failure, log_tail};

/// Lines of a failed hook's output that are shown when it fails.
pub const LOG_LINES_MAX: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The rollout's own state changed, and not only something within it.
    pub of_state: bool,
    /// One line; a failure is followed by the last lines of its log.
    pub text: String,
}

/// In the order in which people want to read them. Without `before`: what is the case now.
pub fn changes(before: Option<&RolloutView>, now: &RolloutView) -> Vec<Change> {
    let mut found = Vec::new();
    let mut say = |of_state, text: String| found.push(Change { of_state, text });
    for host in failed_since(before, now) {
        let mut text = format!("{} in zone {} failed: {}", host.host, host.zone, reason(host));
        if let Some(failure) = &host.failure {
            let tail = log_tail(failure, LOG_LINES_MAX, Paint(false));
            if !tail.is_empty() {
                text.push('\n');
                text.push_str(tail.trim_end());
            }
        }
        say(false, text);
    }
    for host in unwell_since(before, now) {
        say(false, format!("{} in zone {} is {}", host.host, host.zone, host_state(host)));
    }
    for (host, exception) in &now.exceptions {
        if before.is_none_or(|before| before.exceptions.iter().all(|(other, _)| other != host)) {
            say(false, format!("{host} is left out: {}", prose::exception(*exception)));
        }
    }
    for wave in &now.waves {
        let was = before.and_then(|before| before.waves.iter().find(|other| other.wave == wave.wave));
        if was.map(|was| was.status) == Some(wave.status)
            || (before.is_none() && wave.status == WaveStatus::ToCome)
        {
            continue;
        }
        match wave.status {
            WaveStatus::Done => say(false, format!("{} is done", prose::wave(&wave.wave))),
            WaveStatus::Current => {
                say(
                    false,
                    format!("{} begins: {}", prose::wave(&wave.wave), prose::counted(wave.hosts, "host")),
                );
            }
            WaveStatus::Failed => say(false, format!("{} went wrong", prose::wave(&wave.wave))),
            WaveStatus::Stopped => say(false, format!("{} was stopped", prose::wave(&wave.wave))),
            WaveStatus::ToCome => {}
        }
    }
    if before.is_some_and(|before| before.updated != now.updated) {
        say(false, format!("{} of {} updated", now.updated, now.hosts));
    }
    if before.is_none_or(|before| before.state != now.state) {
        say(true, state_line(now));
    }
    for waiting in &now.waiting {
        let old = before.is_some_and(|before| before.waiting.iter().any(|other| same_wait(other, waiting)));
        if !old {
            say(false, plain(&prose::waiting_on(waiting, &now.environment)));
        }
    }
    found
}

fn state_line(now: &RolloutView) -> String {
    let because = prose::causes(now).map_or_else(String::new, |causes| format!(", because {causes}"));
    plain(&format!(
        "rollout {} of {} ({} → {}) {}{because}",
        now.id,
        now.environment,
        now.from.name,
        now.to.name,
        prose::state_sentence(now.state)
    ))
}

/// The same reason, however far its numbers have moved. Two bakes are not the same one.
fn same_wait(one: &WaitingOn, other: &WaitingOn) -> bool {
    match (one, other) {
        (WaitingOn::Bake { wave: one, .. }, WaitingOn::Bake { wave: other, .. }) => one == other,
        (WaitingOn::Floor { zone: one, .. }, WaitingOn::Floor { zone: other, .. }) => one == other,
        _ => one.as_str() == other.as_str(),
    }
}

/// Hosts that have a failure now and had none.
pub fn failed_since<'a>(before: Option<&RolloutView>, now: &'a RolloutView) -> Vec<&'a HostInRollout> {
    now.notable
        .iter()
        .filter(|host| host.failure.is_some())
        .filter(|host| was(before, &host.host).is_none_or(|was| was.failure != host.failure))
        .collect()
}

/// Hosts without a failure that have become unwell, or unwell in another way.
fn unwell_since<'a>(before: Option<&RolloutView>, now: &'a RolloutView) -> Vec<&'a HostInRollout> {
    let differs = |host: &HostInRollout| {
        was(before, &host.host).is_none_or(|was| {
            (was.state.as_str(), was.lost, was.held) != (host.state.as_str(), host.lost, host.held)
        })
    };
    now.notable.iter().filter(|host| !is_well(host) && host.failure.is_none() && differs(host)).collect()
}

fn was<'a>(before: Option<&'a RolloutView>, host: &HostId) -> Option<&'a HostInRollout> {
    before?.notable.iter().find(|other| other.host == *host)
}

fn reason(host: &HostInRollout) -> String {
    host.failure.as_ref().map_or_else(|| host_state(host), failure)
}
