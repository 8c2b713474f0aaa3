//! Why something waits, in sentences.

use std::time::Duration;

use houston_common::clock::Rough;
use houston_common::error::Code;
use houston_common::id::{EnvironmentName, HostId};
use houston_common::rollout::{Away, Closed, Exception, Held, Quiet, WaitingOn};

use super::{capital, counted, of_wave};

/// Hosts that a sentence names before it counts the others.
const NAMED_MAX: usize = 3;

/// Two sentences: what is waited for, and what ends the wait.
pub fn waiting_on(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::Prepare { .. }
        | WaitingOn::Batch { .. }
        | WaitingOn::Floor { .. }
        | WaitingOn::Bake { .. }
        | WaitingOn::Gate { .. }
        | WaitingOn::Health { .. }
        | WaitingOn::OtherEnvironment { .. }
        | WaitingOn::Paused { .. }
        | WaitingOn::Halted { .. }
        | WaitingOn::Regressed => of_rollout(waiting, environment),
        WaitingOn::CatchUp { .. } | WaitingOn::OffBaked { .. } | WaitingOn::HeldHosts { .. } => {
            of_environment(waiting, environment)
        }
        WaitingOn::Granted { .. } | WaitingOn::Silent { .. } => of_silence(waiting, environment),
        WaitingOn::UpToDate
        | WaitingOn::NothingToRun
        | WaitingOn::Turn { .. }
        | WaitingOn::Queue { .. }
        | WaitingOn::NotHeardYet
        | WaitingOn::Held(_)
        | WaitingOn::Detached
        | WaitingOn::Excepted { .. }
        | WaitingOn::JoinedLater { .. }
        | WaitingOn::WentBack { .. }
        | WaitingOn::Retry { .. }
        | WaitingOn::Failed { .. }
        | WaitingOn::Drained => of_host(waiting, environment),
    }
}

fn of_rollout(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::Prepare { ready, of } => format!(
            "Fetching and checking the release: {ready} of {of} hosts are ready. \
             Nothing that runs is touched until then."
        ),
        WaitingOn::Batch { open, more, quiet, deadline_in } => batch(open, *more, quiet, *deadline_in),
        WaitingOn::Floor { zone, available, floor, unavailable } => {
            let place =
                zone.as_ref().map_or_else(|| format!("in {environment}"), |zone| format!("in zone {zone}"));
            let missing = if unavailable.is_empty() {
                "It goes on when more hosts are available.".to_owned()
            } else {
                format!("It goes on when {}.", back_in_service(unavailable))
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
        WaitingOn::Gate { gate, before, closed, halts_in } => {
            super::gate::gate(gate, before.as_ref(), closed, *halts_in, environment)
        }
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
            "It is halted, because {}; `houston rollout status {environment}` shows which hosts and why. \
             `houston rollout rollback {environment}` takes it back, \
             `houston rollout abort {environment}` leaves every host as it is.",
            super::cause(cause)
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
        WaitingOn::NotHeardYet => "It has not been heard of since the coordinator started. \
             Hosts check in within a minute; if it does not, see whether houston-agent runs."
            .to_owned(),
        WaitingOn::Held(why) => takes_no_change(why),
        WaitingOn::Detached => format!(
            "The selector of {environment} no longer fits it, so it keeps running what it runs. \
             `houston host label` or a new selector brings it back."
        ),
        WaitingOn::Excepted { exception: Exception::Excluded, rollout, .. } => format!(
            "It was left out of rollout {rollout} by name, and stays where it is until another rollout takes it \
             along. `houston host release` lets it catch up before that."
        ),
        WaitingOn::Excepted { exception, rollout, code } => format!(
            "It was left out of rollout {rollout}: {}{}. It catches up once that is over and it is well.",
            super::exception(*exception),
            in_brackets(*code)
        ),
        WaitingOn::JoinedLater { rollout } => format!(
            "It joined while rollout {rollout} was on and gets the baked release first. \
             It gets the new one when that rollout has succeeded."
        ),
        WaitingOn::WentBack { rollout } => format!(
            "It failed in rollout {rollout}, or was taken back with it, and runs what it ran before. \
             A new rollout takes it along."
        ),
        WaitingOn::Retry { wave, left } => format!(
            "It failed and went back by itself, and is tried again when the others of {} have had their turn. \
             {} {} left, while the failure budget holds.",
            of_wave(wave),
            if *left == 1 { "1 retry".to_owned() } else { format!("{left} retries") },
            if *left == 1 { "is" } else { "are" }
        ),
        WaitingOn::Failed { rollout, code } => format!(
            "It failed in rollout {rollout}{} and did not come back, so it may run either release, or nothing. \
             `houston host show` says what it failed with; a new rollout takes it along.",
            in_brackets(*code)
        ),
        WaitingOn::Drained => {
            "It is drained: it counts as out of service, and changes in its turn all the same. \
             `houston host undrain` ends that."
                .to_owned()
        }
        _ => of_rollout(waiting, environment),
    }
}

/// A host that should be heard of.
fn of_silence(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::Granted { quiet: Some(quiet), deadline_in } => format!(
            "It may change now, but was {}: see whether houston-agent runs there. \
             If it has not settled in {}, it has failed.",
            heard(quiet),
            Rough(*deadline_in)
        ),
        WaitingOn::Granted { quiet: None, deadline_in } => format!(
            "It may change now, and does so by itself. If it has not settled in {}, it has failed.",
            Rough(*deadline_in)
        ),
        WaitingOn::Silent { for_about, since_start: true } => format!(
            "It has not been heard of since the coordinator started {} ago. \
             See whether the machine and houston-agent run, or `houston host remove` it.",
            Rough(*for_about)
        ),
        WaitingOn::Silent { for_about, since_start: false } => format!(
            "It has not been heard of for about {}. See whether the machine and houston-agent run, \
             or `houston host remove` it.",
            Rough(*for_about)
        ),
        _ => of_host(waiting, environment),
    }
}

fn of_environment(waiting: &WaitingOn, environment: &EnvironmentName) -> String {
    match waiting {
        WaitingOn::CatchUp { hosts: behind, more, away } => {
            let all = behind.len() as u32 + more;
            let away = match away {
                0 => String::new(),
                away if *away == all => format!(", and {} not heard of", if all == 1 { "is" } else { "are" }),
                1 => ", and 1 of them is not heard of".to_owned(),
                away => format!(", and {away} of them are not heard of"),
            };
            format!(
                "{} {} still to get the baked release{away}. Each gets it by itself once it can be reached and \
                 the floors allow; `houston explain {environment} HOST` says more.",
                hosts(behind, *more),
                has(behind, *more)
            )
        }
        WaitingOn::OffBaked { hosts: some, more } => format!(
            "{} {} on another release than the baked one, and nothing will change that by itself. \
             `houston environment show {environment}` names the baked one; \
             `houston rollout start {environment} VERSION-SET --force` with that brings everybody to it.",
            hosts(some, *more),
            if some.len() as u32 + more == 1 { "is" } else { "are" }
        ),
        WaitingOn::HeldHosts { hosts: some, more } => format!(
            "{} {} still something to get, and no change reaches who is held or in the penalty box. \
             `houston host list --held` says why and for how long.",
            hosts(some, *more),
            has(some, *more)
        ),
        _ => of_rollout(waiting, environment),
    }
}

fn takes_no_change(why: &Held) -> String {
    let way_out = match why {
        Held::Revoked => "Enroll it again, or `houston host remove` it.",
        Held::Operator { .. } | Held::Clone | Held::ForeignAssignment | Held::PenaltyBox { .. } => {
            "`houston host release` ends that once the reason is gone."
        }
    };
    format!("It takes no change: {}. {way_out}", held(why))
}

/// Follows "It takes no change:", or stands in a list.
pub fn held(held: &Held) -> String {
    match held {
        Held::Operator { name, reason, left } => {
            let left = left.map_or_else(String::new, |left| format!(" for another {}", Rough(left)));
            format!("{name} holds it{left} ({reason})")
        }
        Held::Clone => "two machines speak with its identity".to_owned(),
        Held::ForeignAssignment => "it shows an assignment that this store never gave".to_owned(),
        Held::Revoked => "its certificate is revoked".to_owned(),
        Held::PenaltyBox { environment, failures, left } => format!(
            "it failed {failures} times in a row in {environment} and is tried again in {}",
            Rough(*left)
        ),
    }
}

fn batch(open: &[HostId], more: u32, quiet: &[Quiet], deadline_in: Duration) -> String {
    let (who, has, left) = (hosts(open, more), has(open, more), Rough(deadline_in));
    let then = if quiet.is_empty() {
        format!("The last deadline is in {left}; who misses it has failed.")
    } else {
        let quiet: Vec<_> =
            quiet.iter().map(|quiet| format!("{} was {}", quiet.host, heard(quiet))).collect();
        let quiet = quiet.join("; ");
        format!("{quiet}: see whether houston-agent runs there; the last deadline is in {left}.")
    };
    format!("{who} may change now and {has} not settled yet. {then}")
}

/// The same, some time after it was said: remaining times shrink, times since grow.
pub fn aged(waiting: &WaitingOn, age: Duration) -> WaitingOn {
    let mut aged = waiting.clone();
    match &mut aged {
        WaitingOn::Batch { deadline_in: left, .. }
        | WaitingOn::Bake { remaining: left, .. }
        | WaitingOn::Granted { deadline_in: left, .. }
        | WaitingOn::Held(Held::Operator { left: Some(left), .. } | Held::PenaltyBox { left, .. }) => {
            *left = left.saturating_sub(age);
        }
        WaitingOn::Silent { for_about, .. } => *for_about += age,
        WaitingOn::Gate { closed, halts_in, .. } => {
            if let Closed::Window { opens_in: left } | Closed::Frozen { ends_in: left } = closed {
                *left = left.saturating_sub(age);
            }
            *halts_in = halts_in.map(|left| left.saturating_sub(age));
        }
        _ => {}
    }
    let quiet = match &mut aged {
        WaitingOn::Batch { quiet, .. } => quiet.as_mut_slice(),
        WaitingOn::Granted { quiet, .. } => quiet.as_mut_slice(),
        _ => &mut [],
    };
    for heard in quiet.iter_mut().filter_map(|quiet| quiet.last_heard.as_mut()) {
        *heard += age;
    }
    aged
}

/// Follows "was".
fn heard(quiet: &Quiet) -> String {
    let phase = quiet.phase.map_or_else(String::new, |phase| format!(", while {}", phase.as_str()));
    match quiet.last_heard {
        Some(ago) => format!("last heard of {} ago{phase}", Rough(ago)),
        None => "not heard of since the coordinator started".to_owned(),
    }
}

/// What must become of hosts that are not available, those in the same way together.
fn back_in_service(unavailable: &[(HostId, Away)]) -> String {
    let mut ways: Vec<(&str, Vec<HostId>)> = Vec::new();
    for (host, away) in unavailable {
        let way = match away {
            Away::Lost => "heard of again or removed",
            Away::NotHeardYet => "heard of, as not yet since the coordinator started",
            Away::Changing | Away::Finishing => "through with a change",
            Away::Drained => "drained no more",
            Away::Unhealthy => "well again",
        };
        match ways.iter_mut().find(|(other, _)| *other == way) {
            Some((_, hosts)) => hosts.push(host.clone()),
            None => ways.push((way, vec![host.clone()])),
        }
    }
    let said = ways.iter().map(|(way, some)| {
        format!("{} {} {way}", hosts(some, 0), if some.len() == 1 { "is" } else { "are" })
    });
    said.collect::<Vec<_>>().join(", or ")
}

fn in_brackets(code: Option<Code>) -> String {
    code.map_or_else(String::new, |code| format!(" ({code})"))
}

/// Names the first few and counts the others.
pub(super) fn hosts(named: &[HostId], more: u32) -> String {
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
