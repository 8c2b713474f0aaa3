//! One rollout as a picture: header, rail of steps, zones with what is not well in them, and what is
//! waited for. The same for `status` and for each moment of `watch`.

use std::time::Duration;

use houston_common::clock::{Rough, WallTime};
use houston_common::error::Code;
use houston_common::report::Phase;
use houston_common::rollout::{HostState, RolloutState, WaitingOn};
use houston_common::view::{HostInRollout, RolloutView, WaveStatus, WaveView, ZoneView};

use super::{elapsed, state};
use crate::console::{Paint, plain};
use crate::prose;
use crate::render::table::{cut, width};

/// What a picture is drawn into.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Columns and rows. Absent: as much as it takes.
    pub size: Option<(usize, usize)>,
    /// How old the view is.
    pub age: Duration,
    pub now: WallTime,
    pub paint: Paint,
}

/// Columns where there is no terminal to ask.
const COLUMNS_DEFAULT: usize = 100;
/// Hosts in the middle of their change that a zone names; the others are in its counts.
const MOVING_SHOWN_MAX: usize = 4;
/// What people have decided about gates: the last few.
const DECISIONS_SHOWN: usize = 3;
/// Cells of a zone's bar.
const BAR_CELLS: u64 = 12;

/// A line of the tree, and whether it may be left out where there is no room.
struct Branch {
    text: String,
    well: bool,
}

/// Lines without their newlines, each within the frame's columns.
pub fn picture(view: &RolloutView, frame: Frame) -> Vec<String> {
    let columns = frame.size.map_or(COLUMNS_DEFAULT, |(columns, _)| columns);
    let paint = frame.paint;
    let mut head = vec![header(view, frame)];
    let said = if view.reason.is_empty() { String::new() } else { format!(": {}", plain(&view.reason)) };
    head.push(paint.dim(&format!("  started by {}{said}", view.started_by)));
    if let Some(causes) = prose::causes(view) {
        head.push(paint.bad(&format!("  because {}", plain(&causes))));
    }
    if !view.untouched_unwell.is_empty() {
        let names: Vec<&str> = view.untouched_unwell.iter().take(4).map(|host| host.as_str()).collect();
        head.push(paint.warn(&format!(
            "  {} that it had not touched turned unhealthy too ({}{}): look at what they share before you blame {}",
            prose::counted(view.untouched_unwell.len() as u32, "host"),
            names.join(", "),
            if view.untouched_unwell.len() > names.len() { ", …" } else { "" },
            view.to.name
        )));
    }
    let decisions = view.decisions.iter().rev().take(DECISIONS_SHOWN).rev();
    head.extend(decisions.map(|decision| paint.dim(&format!("  {}", plain(&prose::decision(decision))))));
    head.push(String::new());
    head.extend(rail(view, columns, paint));
    head.push(String::new());
    head.push(counts(view, paint));
    let mut foot = Vec::new();
    for waiting in &view.waiting {
        let text = plain(&prose::waiting_on(&prose::aged(waiting, frame.age), &view.environment));
        foot.extend(wrap(&text, columns.saturating_sub(2)).into_iter().map(|line| format!("  {line}")));
    }
    if !foot.is_empty() {
        foot.insert(0, String::new());
    }
    let room = frame.size.map(|(_, rows)| rows.saturating_sub(1 + head.len() + foot.len()));
    let tree = fold(tree(view, paint), room, view);
    head.into_iter().chain(tree).chain(foot).map(|line| cut(&line, columns)).collect()
}

fn header(view: &RolloutView, frame: Frame) -> String {
    let paint = frame.paint;
    let took = elapsed(view.started_at, view.ended_at, frame.now);
    let change = if view.from.name == view.to.name {
        format!("{}, other settings", view.to.name)
    } else {
        format!("{} → {}", view.from.name, view.to.name)
    };
    let (environment, took) = (paint.bold(view.environment.as_str()), Rough(took));
    format!("{environment}  {}  {change}  rollout {}  {took}", state(view.state, paint), view.id)
}

fn counts(view: &RolloutView, paint: Paint) -> String {
    // A floor holds while something is under way.
    let available = match view.state.is_over() {
        true => format!("{} available now", view.available),
        false => format!("{} available, floor {}", view.available, view.floor),
    };
    let below = !view.state.is_over() && view.available < view.floor;
    let available = if below { paint.bad(&available) } else { available };
    let mut text = format!("  {} of {} updated   {available}", view.updated, view.hosts);
    if view.failures > 0 {
        text.push_str(&format!("   {}", paint.bad(&prose::counted(view.failures, "failure"))));
    }
    if !view.exceptions.is_empty() {
        let left_out = format!("{} left out", prose::counted(view.exceptions.len() as u32, "host"));
        text.push_str(&format!("   {}", paint.warn(&left_out)));
    }
    text
}

/// The steps in their order: done, current, to come.
fn rail(view: &RolloutView, columns: usize, paint: Paint) -> Vec<String> {
    let step = |status, text: &str| match status {
        Step::Done => paint.good(&format!("✓ {text}")),
        Step::Current => paint.bold(&format!("● {text}")),
        Step::Broken => paint.bad(&format!("✗ {text}")),
        Step::Stopped => paint.warn(&format!("■ {text}")),
        Step::ToCome => paint.dim(&format!("○ {text}")),
    };
    let mut steps = Vec::new();
    for wave in &view.waves {
        let (itself, bake) = wave_steps(view, wave);
        steps.push(step(itself, &prose::wave(&wave.wave)));
        if !wave.bake.is_zero() {
            steps.push(step(bake, &format!("bake {}", Rough(wave.bake))));
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for text in steps {
        match lines.last_mut() {
            Some(line) if width(line) + 3 + width(&text) <= columns => {
                line.push_str(" ─ ");
                line.push_str(&text);
            }
            Some(_) => lines.push(format!("    {text}")),
            None => lines.push(format!("  {text}")),
        }
    }
    lines
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    Current,
    Broken,
    Stopped,
    ToCome,
}

/// How far a wave and its bake are.
fn wave_steps(view: &RolloutView, wave: &WaveView) -> (Step, Step) {
    let bakes = view.state == RolloutState::Baking
        || view
            .waiting
            .iter()
            .any(|waiting| matches!(waiting, WaitingOn::Bake { wave: on, .. } if *on == wave.wave));
    match wave.status {
        WaveStatus::Done => (Step::Done, Step::Done),
        WaveStatus::ToCome => (Step::ToCome, Step::ToCome),
        WaveStatus::Failed => (Step::Broken, Step::ToCome),
        WaveStatus::Stopped => (Step::Stopped, Step::ToCome),
        WaveStatus::Current if bakes => (Step::Done, Step::Current),
        WaveStatus::Current => (Step::Current, Step::ToCome),
    }
}

fn tree(view: &RolloutView, paint: Paint) -> Vec<Branch> {
    let mut branches = Vec::new();
    let name_width = view.zones.iter().map(|zone| zone.zone.as_str().len()).max().unwrap_or(0);
    for zone in &view.zones {
        branches.push(Branch { text: zone_line(view, zone, name_width, paint), well: true });
        let here = || view.notable.iter().filter(|host| host.zone == zone.zone);
        for host in here().filter(|host| !is_well(host)) {
            branches.push(Branch { text: host_line(host, paint), well: false });
        }
        for host in here().filter(|host| is_well(host) && is_moving(host)).take(MOVING_SHOWN_MAX) {
            branches.push(Branch { text: host_line(host, paint), well: true });
        }
    }
    // A zone may have lost its last host since.
    for host in view.notable.iter().filter(|host| !is_well(host)) {
        if view.zones.iter().all(|zone| zone.zone != host.zone) {
            branches.push(Branch { text: host_line(host, paint), well: false });
        }
    }
    branches
}

fn zone_line(view: &RolloutView, zone: &ZoneView, name_width: usize, paint: Paint) -> String {
    let full = if zone.hosts == 0 { 0 } else { u64::from(zone.updated) * BAR_CELLS / u64::from(zone.hosts) };
    let bar: String = (0..BAR_CELLS).map(|i| if i < full { '█' } else { '░' }).collect();
    let bar = if zone.updated == zone.hosts { paint.good(&bar) } else { bar };
    let mut text = format!("  {:name_width$}  {bar}  {} of {} updated", zone.zone, zone.updated, zone.hosts);
    // What the zone is today is nothing that a rollout of yesterday says.
    if view.state.is_over() {
        return text;
    }
    if zone.moving > 0 {
        text.push_str(&format!(", {} changing", zone.moving));
    }
    if zone.available < zone.in_service {
        text.push_str(&format!(
            ", {}",
            paint.warn(&format!("{} of {} available", zone.available, zone.in_service))
        ));
    }
    if let Some(floor) = zone.floor {
        text.push_str(&format!(", floor {floor}"));
    }
    text
}

/// Whether a host is as it should be at this point.
pub(super) fn is_well(host: &HostInRollout) -> bool {
    let state = matches!(
        host.state,
        HostState::Waiting
            | HostState::Preparing
            | HostState::Ready
            | HostState::Activating(_)
            | HostState::Proving
            | HostState::Settled
            | HostState::TakenBack
            | HostState::Outside
    );
    state && !host.lost && !host.held && host.failure.is_none()
}

fn is_moving(host: &HostInRollout) -> bool {
    matches!(host.state, HostState::Activating(_) | HostState::Proving)
}

/// A host's state in words, overlays included.
pub(super) fn host_state(host: &HostInRollout) -> String {
    let mut text = match host.state {
        // It has not begun, or has said no more than the state.
        HostState::Activating(Phase::Ready) => "activating".to_owned(),
        HostState::Failed(Phase::Failed) => "failed".to_owned(),
        HostState::Activating(phase) => format!("activating ({})", phase.as_str()),
        HostState::Failed(phase) => format!("failed ({})", phase.as_str()),
        HostState::TakenBack => "taken back".to_owned(),
        HostState::Excepted => "left out".to_owned(),
        HostState::Waiting
        | HostState::Preparing
        | HostState::Ready
        | HostState::Proving
        | HostState::Settled
        | HostState::Reverting
        | HostState::Reverted
        | HostState::Outside => host.state.as_str().to_owned(),
    };
    for (overlay, name) in [(host.lost, "lost"), (host.held, "held")] {
        if overlay {
            text.push_str(&format!(", {name}"));
        }
    }
    text
}

fn host_line(host: &HostInRollout, paint: Paint) -> String {
    let mut text = format!("{}  {}", host.host, host_state(host));
    if let Some(failure) = &host.failure {
        let package = failure.package.as_ref().map_or_else(String::new, |package| format!(" {package}:"));
        let code: Code = failure.code;
        text.push_str(&format!("  {code}{package} {}", plain(&failure.message).replace('\n', " ")));
    }
    let text = if is_well(host) { text } else { paint.bad(&text) };
    format!("    └ {text}")
}

/// Makes the tree fit: what is well goes first, and what goes is counted.
fn fold(mut branches: Vec<Branch>, room: Option<usize>, view: &RolloutView) -> Vec<String> {
    let Some(room) = room.filter(|room| branches.len() > *room) else {
        return branches.into_iter().map(|branch| branch.text).collect();
    };
    let room = room.saturating_sub(1);
    let mut left_out = 0;
    while branches.len() > room {
        let Some(at) = branches.iter().rposition(|branch| branch.well) else { break };
        branches.remove(at);
        left_out += 1;
    }
    let unwell = branches.len().saturating_sub(room);
    branches.truncate(room);
    let mut lines: Vec<_> = branches.into_iter().map(|branch| branch.text).collect();
    lines.push(match unwell {
        0 => format!("  … {left_out} more lines, all of them well"),
        _ => format!("  … {unwell} more not well: houston rollout status {}", view.id),
    });
    lines
}

pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
