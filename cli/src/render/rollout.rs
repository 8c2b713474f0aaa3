//! Rollouts for people: the picture of one, what changed since the last picture, and how it ended.

use std::fmt::Write as _;
use std::time::Duration;

use houston_common::clock::{Rough, WallTime};
use houston_common::command::{RolloutPlan, RolloutSummary};
use houston_common::error::{Code, Exit, Refusal};
use houston_common::id::EnvironmentName;
use houston_common::rollout::{RolloutState, WaitingOn};
use houston_common::view::RolloutView;

use super::{Table, joined, time};
use crate::console::{Paint, plain};
use crate::prose;

mod changes;
mod picture;

pub use changes::{Change, changes, failed_since};
pub use picture::{Frame, picture, wrap};

/// One character for a state, so that a look is enough.
pub const fn glyph(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Preparing | RolloutState::Waiting => "◌",
        RolloutState::Rolling => "●",
        RolloutState::Baking => "◔",
        RolloutState::Paused => "‖",
        RolloutState::RollingBack | RolloutState::RolledBack => "↺",
        RolloutState::Succeeded => "✓",
        RolloutState::Halted | RolloutState::Superseded | RolloutState::Aborted => "✗",
    }
}

/// A state's glyph and word, coloured by how bad it is.
pub fn state(state: RolloutState, paint: Paint) -> String {
    let text = format!("{} {}", glyph(state), prose::state(state));
    match state {
        RolloutState::Succeeded => paint.good(&text),
        RolloutState::Paused | RolloutState::Superseded | RolloutState::Aborted => paint.warn(&text),
        RolloutState::Halted | RolloutState::RollingBack | RolloutState::RolledBack => paint.bad(&text),
        RolloutState::Preparing | RolloutState::Rolling | RolloutState::Baking | RolloutState::Waiting => {
            paint.bold(&text)
        }
    }
}

/// How long it has run, or ran.
pub fn elapsed(started: WallTime, ended: Option<WallTime>, now: WallTime) -> Duration {
    Duration::from_millis(ended.unwrap_or(now).0.saturating_sub(started.0))
}

pub fn list(rollouts: &[RolloutSummary], now: WallTime, paint: Paint) -> String {
    let mut table = Table::new(&[
        "ID",
        "ENVIRONMENT",
        "STATE",
        "CHANGE",
        "UPDATED",
        "FAILED",
        "STARTED",
        "TOOK",
        "BY",
        "REASON",
    ]);
    for rollout in rollouts {
        table.row([
            rollout.id.to_string(),
            rollout.environment.to_string(),
            outcome(rollout, paint),
            format!("{} → {}", rollout.from.name, rollout.to.name),
            format!("{} of {}", rollout.updated, rollout.hosts),
            rollout.failures.to_string(),
            time(rollout.started_at),
            Rough(elapsed(rollout.started_at, rollout.ended_at, now)).to_string(),
            rollout.started_by.to_string(),
            joined([plain(&rollout.reason)].into_iter().filter(|reason| !reason.is_empty()), ""),
        ]);
    }
    table.to_text("no rollouts", paint)
}

fn outcome(rollout: &RolloutSummary, paint: Paint) -> String {
    let text = state(rollout.state, paint);
    if rollout.state == RolloutState::Succeeded && rollout.exceptions > 0 {
        return format!("{text} {}", paint.warn(&format!("({} left out)", rollout.exceptions)));
    }
    text
}

/// Hosts of a wave that a plan names.
const PLANNED_SHOWN: usize = 5;

/// What a rollout would do, and the command that does exactly this.
pub fn plan(environment: &EnvironmentName, plan: &RolloutPlan, paint: Paint) -> String {
    let change = format!("{} → {}", plan.from.name, plan.to.name);
    let hosts = prose::counted(plan.hosts, "host");
    let mut text = format!("{} {change}: {hosts} would change\n\n", paint.bold(environment.as_str()));
    let mut table = Table::new(&["WAVE", "HOSTS", "AT ONCE", "FIRST", "BAKE"]);
    for planned in &plan.waves {
        let shown = planned.first.iter().take(PLANNED_SHOWN).map(ToString::to_string);
        let more = (planned.hosts as usize).saturating_sub(planned.first.len().min(PLANNED_SHOWN));
        let more = (more > 0).then(|| format!("{more} more"));
        table.row([
            prose::wave(&planned.wave),
            planned.hosts.to_string(),
            planned.batch.min(planned.hosts).to_string(),
            joined(shown.chain(more), ", "),
            Rough(planned.bake).to_string(),
        ]);
    }
    text.push_str(&table.to_text("nothing would change", paint));
    let floor = prose::counted(plan.floor, "host");
    let _ = writeln!(text, "\nAt least {floor} stay available at every moment.");
    if let Some(id) = plan.supersedes {
        let _ = writeln!(text, "Rollout {id}, which is active, gives way to it.");
    }
    let mut flags = plan.supersedes.map_or_else(String::new, |_| " --supersede".to_owned());
    if !plan.excluded.is_empty() {
        let hosts = joined(plan.excluded.iter().map(ToString::to_string), ", ");
        let _ = writeln!(text, "Left out by name, and counted as available while they are: {hosts}.");
        flags.extend(plan.excluded.iter().map(|host| format!(" --exclude {host}")));
    }
    let (set, hash) = (&plan.to.name, plan.plan_hash);
    let _ =
        writeln!(text, "Start exactly this: houston rollout start {environment} {set}{flags} --plan {hash}");
    text
}

/// Why something waits, one paragraph per reason.
pub fn explanation(waiting: &[WaitingOn], environment: &EnvironmentName) -> String {
    if waiting.is_empty() {
        return format!("Nothing waits in {environment}.\n");
    }
    let mut text = String::new();
    for waiting in waiting {
        let _ = writeln!(text, "{}", plain(&prose::waiting_on(waiting, environment)));
    }
    text
}

/// Whether a watcher has nothing more to wait for. A halted rollout needs a person first.
pub fn is_at_rest(view: &RolloutView) -> bool {
    view.state.is_over() || view.state == RolloutState::Halted
}

/// What a rollout that is at rest came to: a summary with the exit code, or the refusal to end with.
pub fn ending(view: &RolloutView) -> Result<(String, Exit), Refusal> {
    let subject = format!("rollout {} of {}", view.id, view.environment);
    let because = prose::causes(view).map_or_else(String::new, |causes| format!(": {}", plain(&causes)));
    let status = format!("see houston rollout status {}", view.id);
    match view.state {
        RolloutState::Succeeded if left_out(view) == 0 => {
            let hosts = prose::counted(view.updated, "host");
            Ok((format!("{subject} succeeded: {hosts} on {}\n", view.to.name), Exit::Done))
        }
        RolloutState::Succeeded => {
            let mut text = format!(
                "{subject} succeeded on {}, but not everywhere: {} left out\n",
                view.to.name,
                prose::counted(left_out(view), "host")
            );
            name_exceptions(view, &mut text);
            Ok((text, Exit::Partial))
        }
        RolloutState::RolledBack => {
            let what = format!("{subject} was taken back to {}{because}", view.from.name);
            Err(Refusal::new(Code::RolledBack, what, status))
        }
        RolloutState::Halted => {
            let what = format!("{subject} is halted{because}");
            let next =
                format!("houston rollout rollback {0}, or houston rollout abort {0}", view.environment);
            Err(Refusal::new(Code::Halted, what, next))
        }
        RolloutState::Aborted => Ok((
            format!("{subject} was aborted{because}: {} of {} hosts updated\n", view.updated, view.hosts),
            Exit::Failed,
        )),
        RolloutState::Superseded => {
            Ok((format!("{subject} gave way to another one{because}\n"), Exit::Failed))
        }
        RolloutState::Preparing
        | RolloutState::Rolling
        | RolloutState::Baking
        | RolloutState::Waiting
        | RolloutState::Paused
        | RolloutState::RollingBack => {
            Ok((format!("{subject} {}\n", prose::state_sentence(view.state)), Exit::Done))
        }
    }
}

/// What steering a rollout has led to, at once: with who is left out of what is over, and what stays where
/// it is.
pub fn controlled(view: &RolloutView) -> (String, Exit) {
    let RolloutView { id, environment, from, to, .. } = view;
    let mut text = format!(
        "rollout {id} of {environment} ({} → {}) {}",
        from.name,
        to.name,
        prose::state_sentence(view.state)
    );
    let left_out = view.exceptions.len() as u32;
    if matches!(view.state, RolloutState::RolledBack | RolloutState::Succeeded) && left_out > 0 {
        let _ = writeln!(text, ", but not everywhere: {} left out", prose::counted(left_out, "host"));
        name_exceptions(view, &mut text);
        return (text, Exit::Partial);
    }
    text.push('\n');
    // What takes back an earlier one has no waves: who is not back yet is on what it came from.
    let (stay, on, other) = if view.waves.is_empty() {
        (view.hosts - view.updated.min(view.hosts), from, to)
    } else {
        (view.updated, to, from)
    };
    if view.state == RolloutState::Aborted && stay > 0 {
        let (hosts, stay, it) = match stay {
            1 => ("1 host".to_owned(), "stays", "it"),
            more => (prose::counted(more, "host"), "stay", "them"),
        };
        let start = format!("houston rollout start {environment} {} --force", other.name);
        let _ = writeln!(text, "{hosts} {stay} on {}; `{start}` brings {it} back", on.name);
    }
    (text, Exit::Done)
}

fn name_exceptions(view: &RolloutView, text: &mut String) {
    for (host, exception) in &view.exceptions {
        let _ = writeln!(text, "  {host}: {}", prose::exception(*exception));
    }
}

/// Hosts that a success did not reach; not all of them may be named.
fn left_out(view: &RolloutView) -> u32 {
    view.hosts.saturating_sub(view.updated).max(view.exceptions.len() as u32)
}
