//! **Decision.** What operators and joining hosts ask for: each request is judged against the state, and
//! comes to the edits that carry it out, with one audit entry, or to a refusal and no edits. Who may
//! ask is judged before, by the table of the edge. Secrets and random suffixes are handed in.
//!
//! A change answers with the name of what it made or changed; its view is read after the commit, when
//! planning has been done too.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

pub mod access;
pub mod catalog;
pub mod environments;
pub mod hosts;
pub mod rollouts;
pub mod views;

#[cfg(test)]
mod fixture;

use houston_common::command::{PAGE_MAX, Page, Paged};
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::{EnvironmentName, OperatorName, RolloutId, quoted};

use crate::engine::core::{Decided, Note};
use crate::environment::Environment;
use crate::rollout::{Rollout, Stage};
use crate::state::{Edit, State};

/// The operator who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: OperatorName,
}

impl Caller {
    pub fn new(name: OperatorName) -> Self {
        Self { name }
    }

    fn change<T>(&self, edits: Vec<Edit>, change: Change<'_>, reply: T) -> Decided<T> {
        let Change { what, why, before, after } = change;
        let who = format!("operator/{}", self.name);
        let note =
            Note { who, what, why: why.to_owned(), before: shortened(before), after: shortened(after) };
        Decided { edits, note: Some(note), reply }
    }
}

/// What the audit log says of a change, beside who made it.
struct Change<'a> {
    what: String,
    why: &'a str,
    before: String,
    after: String,
}

/// Longest text that an audit entry keeps of what was before or after, in characters: records hold a
/// few KiB.
const AUDIT_CHARS_MAX: usize = 1000;

fn shortened(text: String) -> String {
    match text.char_indices().nth(AUDIT_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Names shown as known when one was not found.
const KNOWN_SHOWN_MAX: usize = 10;

fn environment<'a>(state: &'a State, name: &EnvironmentName) -> Result<&'a Environment, Refusal> {
    state.environments.get(name).ok_or_else(|| {
        let near = nearest(name.as_str(), state.environments.keys().map(EnvironmentName::as_str));
        let next = match near {
            Some(near) => format!("did you mean \"{near}\"? {}", known_environments(state)),
            None => known_environments(state),
        };
        Refusal::new(Code::EnvironmentUnknown, format!("no environment \"{name}\""), next)
    })
}

fn known_environments(state: &State) -> String {
    let names = state.environments.keys().map(EnvironmentName::as_str);
    let mut shown: Vec<&str> = names.take(KNOWN_SHOWN_MAX + 1).collect();
    if shown.is_empty() {
        return "make one with `houston environment apply`".to_owned();
    }
    if shown.len() > KNOWN_SHOWN_MAX {
        shown[KNOWN_SHOWN_MAX] = "…";
    }
    format!("known: {}", shown.join(", "))
}

/// Another rollout is active: which one, whose, and how to go on.
fn conflict(active: &Rollout) -> Refusal {
    let reason =
        if active.reason.is_empty() { String::new() } else { format!(" ({})", quoted(&active.reason)) };
    let started = houston_common::identity::Utc(active.started_at);
    // A halted one waits for a person: who waits for it waits for nothing.
    let way = if active.stage == Stage::Halted {
        "take it back with `houston rollout rollback"
    } else {
        "wait for it with `houston rollout wait"
    };
    Refusal::new(
        Code::Conflict,
        format!(
            "rollout {} by {}{reason} is active in {} since {started}; it is {}",
            active.id,
            active.started_by,
            active.environment,
            active.state().as_str()
        ),
        format!(
            "{way} {0}`, end it with `houston rollout abort {0}`, or start yours with --supersede",
            active.environment
        ),
    )
}

/// Active in the environment of this name, if it is there and something is.
fn active<'a>(state: &'a State, name: &EnvironmentName) -> Option<&'a Rollout> {
    state.environments.get(name).and_then(|environment| environment.rollout.as_ref())
}

/// The number that the next rollout gets.
fn next_rollout(state: &State) -> RolloutId {
    state.meta.rollout.next()
}

/// Most bytes that a page is reckoned to have: half of what a message may carry.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The page after `after`, of items in the order of their keys. `bytes` reckons an item's size on the
/// wire; a page holds at least one item.
fn page<K: Ord, T>(
    request: &Page,
    items: impl Iterator<Item = (K, T)>,
    after: Option<&K>,
    bytes: impl Fn(&T) -> usize,
    token: impl Fn(&K) -> String,
) -> Paged<T> {
    let size = request.size.clamp(1, PAGE_MAX) as usize;
    let mut rest = items.skip_while(|(key, _)| after.is_some_and(|after| key <= after)).peekable();
    let (mut shown, mut last, mut total) = (Vec::new(), None, 0);
    while shown.len() < size && (shown.is_empty() || total < PAGE_BYTES_MAX) {
        let Some((key, item)) = rest.next() else { break };
        total += bytes(&item);
        last = Some(key);
        shown.push(item);
    }
    let next = rest.peek().and(last).map(|key| token(&key));
    Paged { items: shown, next }
}

fn bad_page(token: &str) -> Refusal {
    let what = format!("page.token is \"{}\", which no page of this list ended with", quoted(token));
    Refusal::new(Code::Field, what, "start with the first page")
}
