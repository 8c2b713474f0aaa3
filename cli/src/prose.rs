//! Sentences for people, made from typed reasons: what is waited for, by the numbers, and
//! what would change it. Nothing reads them back.

use houston_common::rollout::{Cause, Exception, RolloutState, Wave};
use houston_common::view::RolloutView;

mod gate;
mod waiting;

pub use gate::decision;
pub use waiting::{aged, held, waiting_on};

#[cfg(test)]
mod tests;

/// Follows "because": the first cause, and what has come to it since. Absent if nothing has gone wrong.
pub fn causes(view: &RolloutView) -> Option<String> {
    let last = cause(view.cause.as_ref()?);
    Some(
        view.first_cause
            .as_ref()
            .map_or_else(|| last.clone(), |first| format!("{}; then {last}", cause(first))),
    )
}

/// Follows "because".
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::FailureBudget { host, failures, allowed, zone } => format!(
            "{host} failed: {}{} where {allowed} {} allowed",
            counted(*failures, "failure"),
            zone.as_ref().map(|zone| format!(" in zone {zone}")).unwrap_or_default(),
            if *allowed == 1 { "is" } else { "are" }
        ),
        Cause::LostBudget { exceptions, allowed } => {
            format!("{} left out where {allowed} may be", counted(*exceptions, "host"))
        }
        Cause::NobodyUpdated { exceptions } => {
            format!("nobody has it: {} left out", counted(*exceptions, "host"))
        }
        Cause::Operator { name, reason } if reason.is_empty() => format!("{name} said so"),
        Cause::Operator { name, reason } => format!("{name} said so ({reason})"),
        Cause::RollbackFailed { host } => format!("{host} could not be taken back"),
        Cause::GateClosed { gate } => format!("gate {gate} stayed closed for too long"),
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
        Exception::PassedBy => "it could not change when its wave was on",
        Exception::Excluded => "it was left out by name",
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
        Wave::Zones(zones) => {
            let names: Vec<&str> = zones.iter().map(|zone| zone.as_str()).collect();
            format!("zone{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
        }
        Wave::Stripe { number, of } => format!("stripe {number} of {of}"),
    }
}

fn of_wave(wave: &Wave) -> String {
    match wave {
        Wave::OneBox => "the one box".to_owned(),
        Wave::Zones(_) | Wave::Stripe { .. } => self::wave(wave),
    }
}

/// `1 host`, `2 hosts`.
pub fn counted(count: u32, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
