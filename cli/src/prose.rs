//! Sentences for people, made from typed reasons: what is waited for, by the numbers, and
//! what would change it. Nothing reads them back.

use std::time::Duration;

use houston_common::clock::Rough;
use houston_common::id::{EnvironmentName, HostId};
use houston_common::rollout::{Cause, Exception, RolloutState, WaitingOn, Wave};

#[cfg(test)]
mod tests;

/// Hosts that a sentence names before it counts the others.
const NAMED_MAX: usize = 3;

/// Two sentences: what is waited for, and what ends the wait.
pub fn waiting_on(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::Prepare { .. }
        | WaitingOn::Batch { .. }
        | WaitingOn::Floor { .. }
        | WaitingOn::Bake { .. }
        | WaitingOn::Health { .. }
        | WaitingOn::OtherEnvironment { .. }
        | WaitingOn::Paused { .. }
        | WaitingOn::Halted { .. }
        | WaitingOn::Regressed => of_rollout(waiting, environment),
        WaitingOn::UpToDate
        | WaitingOn::NothingToRun
        | WaitingOn::Turn { .. }
        | WaitingOn::Queue { .. }
        | WaitingOn::Granted { .. }
        | WaitingOn::Silent { .. }
        | WaitingOn::NotHeardYet
        | WaitingOn::Held { .. }
        | WaitingOn::Detached
        | WaitingOn::Excepted { .. }
        | WaitingOn::JoinedLater { .. }
        | WaitingOn::WentBack { .. } => of_host(waiting, environment),
    }
}

fn of_rollout(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::Prepare { ready, of } => format!(
            "Fetching and checking the release: {ready} of {of} hosts are ready. \
             Nothing that runs is touched until then."
        ),
        WaitingOn::Batch { open, more, deadline_in } => format!(
            "{} may change now and {} not settled yet. The last deadline is in {}; who misses it has failed.",
            hosts(open, *more),
            has(open, *more),
            Rough(*deadline_in)
        ),
        WaitingOn::Floor { zone, available, floor, unavailable } => {
            let place =
                zone.as_ref().map_or_else(|| format!("in {environment}"), |zone| format!("in zone {zone}"));
            let missing = if unavailable.is_empty() {
                "It goes on when more hosts are available.".to_owned()
            } else {
                {
                    let (who, is) =
                        (hosts(unavailable, 0), if unavailable.len() == 1 { "is" } else { "are" });
                    format!("It goes on when {who} {is} well again, drained no more or removed.")
                }
            };
            format!(
                "{available} hosts {place} are available and the floor is {floor}: \
                 one more in change would break it. {missing}"
            )
        }
        WaitingOn::Bake { wave, remaining } => format!(
            "{} must stand for another {} before anything else starts. A failure in that time counts.",
            capital(&of_wave(wave)),
            Rough(*remaining)
        ),
        WaitingOn::Health { hosts: unwell, more } => format!(
            "{} {} been updated and not been seen healthy since. It goes on when the checks there pass, \
             or `houston rollout rollback {environment}` takes the change back.",
            hosts(unwell, *more),
            has(unwell, *more)
        ),
        WaitingOn::OtherEnvironment { host, environment } => format!(
            "{host} is in the middle of a change of {environment}, and a host changes in one environment at a time. \
             Its turn comes when that has settled."
        ),
        WaitingOn::Paused { by } => {
            format!("{by} has paused it. `houston rollout resume {environment}` lets it go on.")
        }
        WaitingOn::Halted { cause } => format!(
            "It is halted, because {}. `houston rollout rollback {environment}` takes it back, \
             `houston rollout abort {environment}` leaves every host as it is.",
            self::cause(cause)
        ),
        WaitingOn::Regressed => "The coordinator's store has gone back in time, so nothing is granted. \
             `houston-coordinator adopt` takes what the hosts run as the truth."
            .to_owned(),
        _ => of_host(waiting, environment),
    }
}

fn of_host(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::UpToDate => format!("It runs what it should in {environment}."),
        WaitingOn::NothingToRun => format!(
            "Nothing has succeeded in {environment} yet and no rollout is active. \
             `houston rollout start {environment} VERSION-SET` begins one."
        ),
        WaitingOn::Turn { wave, current } => format!(
            "Its turn comes with {}; {} is on now. \
             `houston rollout status {environment}` shows what is in between.",
            of_wave(wave),
            of_wave(current)
        ),
        WaitingOn::Queue { position: 1, batch } => {
            format!(
                "It is the next in its wave, where {batch} may change at once. It waits for those to settle."
            )
        }
        WaitingOn::Queue { position, batch } => format!(
            "{} hosts come before it in its wave, where {batch} may change at once. It waits for those to settle.",
            position.saturating_sub(1)
        ),
        WaitingOn::Granted { deadline_in } => format!(
            "It may change now, and does so by itself. If it has not settled in {}, it has failed.",
            Rough(*deadline_in)
        ),
        WaitingOn::Silent { for_about } => format!(
            "It has not been heard of for about {}. See whether the machine and houston-agent run, \
             or `houston host remove` it.",
            Rough(*for_about)
        ),
        WaitingOn::NotHeardYet => "It has not been heard of since the coordinator started. \
             Hosts check in within a minute; if it does not, see whether houston-agent runs."
            .to_owned(),
        WaitingOn::Held { reason } => format!(
            "It is held and takes no change: {reason}. `houston host release` ends the hold once the reason is gone."
        ),
        WaitingOn::Detached => format!(
            "The selector of {environment} no longer fits it, so it keeps running what it runs. \
             `houston host label` or a new selector brings it back."
        ),
        WaitingOn::Excepted { exception, rollout } => format!(
            "It was left out of rollout {rollout}: {}. It catches up once that is over and it is well.",
            self::exception(*exception)
        ),
        WaitingOn::JoinedLater { rollout } => format!(
            "It joined while rollout {rollout} was on and gets the baked release first. \
             It gets the new one when that rollout has succeeded."
        ),
        WaitingOn::WentBack { rollout } => format!(
            "It failed in rollout {rollout}, or was taken back with it, and runs what it ran before. \
             A new rollout takes it along."
        ),
        _ => of_rollout(waiting, environment),
    }
}

/// The same, some time after it was said: remaining times shrink, times since grow.
pub fn aged(waiting: &WaitingOn, age: Duration) -> WaitingOn {
    let mut aged = waiting.clone();
    match &mut aged {
        WaitingOn::Batch { deadline_in: left, .. }
        | WaitingOn::Bake { remaining: left, .. }
        | WaitingOn::Granted { deadline_in: left } => *left = left.saturating_sub(age),
        WaitingOn::Silent { for_about } => *for_about += age,
        _ => {}
    }
    aged
}

/// Follows "because".
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::FailureBudget { host, failures, allowed } => format!(
            "{host} failed: {} where {allowed} {} allowed",
            counted(*failures, "failure"),
            if *allowed == 1 { "is" } else { "are" }
        ),
        Cause::LostBudget { exceptions, allowed } => {
            format!("{} left out where {allowed} may be", counted(*exceptions, "host"))
        }
        Cause::Operator { name, reason } if reason.is_empty() => format!("{name} said so"),
        Cause::Operator { name, reason } => format!("{name} said so ({reason})"),
        Cause::RollbackFailed { host } => format!("{host} could not be taken back"),
        Cause::Law { law } => {
            format!("the next step would have broken a law ({law}); this is a bug of Houston")
        }
    }
}

/// Follows a host's name and a colon.
pub const fn exception(exception: Exception) -> &'static str {
    match exception {
        Exception::Silent => "it was silent until its wave had ended",
        Exception::LostAfterSettling => "it was lost after it had settled",
        Exception::DownBefore => "it was down before the change and still is",
        Exception::PrepareFailed => "it could not be prepared",
        Exception::Held => "it was held",
        Exception::Left => "it left in the middle of its change",
    }
}

pub const fn state(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Preparing => "preparing",
        RolloutState::Rolling => "rolling out",
        RolloutState::Baking => "baking",
        RolloutState::Waiting => "waiting",
        RolloutState::Paused => "paused",
        RolloutState::Halted => "halted",
        RolloutState::RollingBack => "rolling back",
        RolloutState::Succeeded => "succeeded",
        RolloutState::RolledBack => "rolled back",
        RolloutState::Superseded => "superseded",
        RolloutState::Aborted => "aborted",
    }
}

/// Follows a rollout's name.
pub fn state_sentence(state: RolloutState) -> String {
    match state {
        RolloutState::Succeeded => "has succeeded".to_owned(),
        RolloutState::RolledBack => "has been taken back".to_owned(),
        RolloutState::Superseded => "gave way to another one".to_owned(),
        RolloutState::Aborted => "was aborted".to_owned(),
        RolloutState::Preparing
        | RolloutState::Rolling
        | RolloutState::Baking
        | RolloutState::Waiting
        | RolloutState::Paused
        | RolloutState::Halted
        | RolloutState::RollingBack => format!("is {}", self::state(state)),
    }
}

pub fn wave(wave: &Wave) -> String {
    match wave {
        Wave::OneBox => "one box".to_owned(),
        Wave::Zone(zone) => format!("zone {zone}"),
    }
}

fn of_wave(wave: &Wave) -> String {
    match wave {
        Wave::OneBox => "the one box".to_owned(),
        Wave::Zone(_) => self::wave(wave),
    }
}

/// `1 host`, `2 hosts`.
pub fn counted(count: u32, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Names the first few and counts the others.
fn hosts(named: &[HostId], more: u32) -> String {
    let shown: Vec<_> = named.iter().take(NAMED_MAX).map(HostId::as_str).collect();
    match (named.len() - shown.len()) as u32 + more {
        0 if shown.is_empty() => "No host".to_owned(),
        0 => shown.join(", "),
        others => format!("{} and {}", shown.join(", "), counted(others, "other")),
    }
}

fn has(named: &[HostId], more: u32) -> &'static str {
    if named.len() as u32 + more == 1 { "has" } else { "have" }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
