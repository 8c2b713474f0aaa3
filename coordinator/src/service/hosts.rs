//! Hosts: changing what the coordinator holds of them. How they come in is in `enrollment`.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

pub mod enrollment;
#[cfg(test)]
mod tests;

use houston_common::clock::{Exact, FleetTime};
use houston_common::command::{DrainHost, EditHost, HoldHost, HostChange, HostFilter, ListHosts, Paged};
use houston_common::error::{Code, Refusal, nearest};
use houston_common::exchange::HOST_ENVIRONMENTS_MAX;
use houston_common::id::{HostId, quoted};
use houston_common::rollout::Exception;
use houston_common::view::HostView;

use super::{Caller, Change, active, bad_page, conflict, environment, page, views};
use crate::engine::core::Decided;
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Entry, Hold, Host};
use crate::state::{Edit, State};

/// Labels of one host: people and selectors use a handful.
pub const LABELS_MAX: usize = 64;
/// Hosts named when a name fits several.
const CANDIDATES_SHOWN: usize = 5;
/// Hosts that a mistyped name is compared with: a hint must not hold up the writer in a large fleet.
const COMPARED_MAX: usize = 2000;

/// The host that a person means: an id, or what comes before its random suffix if only one host is
/// called so. E-HOST-UNKNOWN.
pub fn resolve(state: &State, text: &str) -> Result<HostId, Refusal> {
    entry(state, text).map(|entry| entry.host.id.clone())
}

fn entry<'a>(state: &'a State, text: &str) -> Result<&'a Entry, Refusal> {
    if let Some(entry) = text.parse().ok().and_then(|id| state.fleet.get(&id)) {
        return Ok(entry);
    }
    let begun = state.fleet.beginning(text);
    let mut called: Vec<&Entry> = begun.filter(|entry| before_suffix(&entry.host.id) == Some(text)).collect();
    if called.len() == 1 {
        return Ok(called.remove(0));
    }
    let (what, next) = if called.is_empty() {
        let near = || state.fleet.iter().take(COMPARED_MAX);
        let ids = near().map(|entry| entry.host.id.as_str());
        let names = near().filter_map(|entry| before_suffix(&entry.host.id));
        let next = match nearest(text, names.chain(ids)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "list them with `houston host list`".to_owned(),
        };
        (format!("no host \"{}\"", quoted(text)), next)
    } else {
        let mut shown: Vec<&str> =
            called.iter().take(CANDIDATES_SHOWN).map(|entry| entry.host.id.as_str()).collect();
        if called.len() > CANDIDATES_SHOWN {
            shown.push("…");
        }
        let what = format!("{} hosts are called \"{}\"", called.len(), quoted(text));
        (what, format!("say which: {}", shown.join(", ")))
    };
    Err(Refusal::new(Code::HostUnknown, what, next))
}

fn before_suffix(id: &HostId) -> Option<&str> {
    id.as_str().rsplit_once('-').map(|(name, _)| name)
}

/// E-HOST-UNKNOWN.
pub fn get(state: &State, host: &HostId, now: FleetTime) -> Result<HostView, Refusal> {
    entry(state, host.as_str()).map(|entry| views::host(state, entry, now))
}

/// By id, without log tails. E-ENV-UNKNOWN; E-FIELD for a page token of another list.
pub fn list(state: &State, request: &ListHosts, now: FleetTime) -> Result<Paged<HostView>, Refusal> {
    let ListHosts { filter, page: which } = request;
    if let Some(name) = &filter.environment {
        environment(state, name)?;
    }
    let after: Option<HostId> = match &which.token {
        Some(token) => Some(token.parse().map_err(|_| bad_page(token))?),
        None => None,
    };
    let fitting = state.fleet.iter().filter(|entry| fits(state, filter, entry));
    let items = fitting.map(|entry| (entry.host.id.clone(), entry));
    let Paged { items, next } =
        page(which, items, after.as_ref(), |_| views::HOST_BYTES, ToString::to_string);
    let items = items.into_iter().map(|entry| views::host_in_list(state, entry, now)).collect();
    Ok(Paged { items, next })
}

fn fits(state: &State, filter: &HostFilter, entry: &Entry) -> bool {
    let HostFilter { environment, zone, labels, held } = filter;
    let boxed = || memberships_of(state, entry).any(|(_, live)| live.member.is_boxed());
    environment.as_ref().is_none_or(|environment| entry.environments.contains(environment))
        && zone.as_ref().is_none_or(|zone| *zone == entry.host.zone)
        && labels.iter().all(|(key, value)| entry.host.labels.get(key) == Some(value))
        && (!held || entry.host.held.is_some() || boxed())
}

/// The environments that a host belongs to, with its record there.
fn memberships_of<'a>(state: &'a State, entry: &Entry) -> impl Iterator<Item = (&'a Environment, &'a Live)> {
    let environments = entry.environments.iter().filter_map(|name| state.environments.get(name));
    environments.filter_map(|environment| Some((environment, environment.member(&entry.host.id)?)))
}

/// Labels and zone. A zone is pinned while a rollout is active over the host. E-HOST-UNKNOWN, E-LIMIT,
/// E-CONFLICT, E-HOST-BUSY.
pub fn edit(state: &State, caller: &Caller, request: &EditHost) -> Result<Decided<HostId>, Refusal> {
    let EditHost { host, zone, set_labels, remove_labels, reason } = request;
    let before = entry(state, host.as_str())?;
    let mut after = before.host.clone();
    after.labels.retain(|key, _| !remove_labels.contains(key));
    after.labels.extend(set_labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    if let Some(zone) = zone {
        after.zone = zone.clone();
    }
    if after == before.host {
        return Ok(Decided::nothing(after.id));
    }
    if after.labels.len() > LABELS_MAX {
        let what = format!(
            "{} would have {} labels, at most {LABELS_MAX} are allowed",
            after.id,
            after.labels.len()
        );
        return Err(Refusal::new(Code::Limit, what, "remove some"));
    }
    let members = memberships(state, before, &after)?;
    let change = Change {
        what: format!("host.edit {}", after.id),
        why: reason,
        before: place_text(&before.host),
        after: place_text(&after),
    };
    let id = after.id.clone();
    let edits = std::iter::once(Edit::Host(after)).chain(members).collect();
    Ok(caller.change(edits, change, id))
}

/// The member records that change with the host's labels and zone.
fn memberships(state: &State, before: &Entry, after: &Host) -> Result<Vec<Edit>, Refusal> {
    let mut edits = Vec::new();
    let mut environments = before.environments.len();
    for mut member in state.memberships(after) {
        let environment = state.environments.get(&member.environment);
        let had = environment.and_then(|environment| environment.member(&after.id)).map(|live| &live.member);
        match had {
            None => environments += 1,
            // It comes back, and no rollout has pinned its zone.
            Some(had) if had.detached => member.zone = after.zone.clone(),
            Some(_) if after.zone == before.host.zone => {}
            Some(_) => match active(state, &member.environment) {
                Some(active) => return Err(conflict(active)),
                None => member.zone = after.zone.clone(),
            },
        }
        if had != Some(&member) {
            edits.push(Edit::Member(member));
        }
    }
    if environments > HOST_ENVIRONMENTS_MAX {
        let what = format!("{} would belong to {environments} environments", after.id);
        let next = format!("at most {HOST_ENVIRONMENTS_MAX} are allowed");
        return Err(Refusal::new(Code::Limit, what, next));
    }
    for name in &before.environments {
        let Some(environment) = state.environments.get(name) else { continue };
        let Some(live) = environment.member(&after.id) else { continue };
        if environment.definition.selects(&after.labels) {
            continue;
        }
        if live.member.grant.is_some() {
            let what = format!("{} is in the middle of a change of {name}, which it would leave", after.id);
            return Err(Refusal::new(Code::HostBusy, what, "try again when that has ended"));
        }
        edits.push(if live.member.told.is_none() && live.member.settled.is_none() {
            Edit::ForgetMember(name.clone(), after.id.clone())
        } else {
            Edit::Member(Member { detached: true, ..live.member.clone() })
        });
    }
    Ok(edits)
}

fn place_text(host: &Host) -> String {
    format!("zone {}, labels {}", host.zone, views::labels_text(&host.labels))
}

/// A drained host counts as unavailable. E-HOST-UNKNOWN.
pub fn drain(state: &State, caller: &Caller, request: &DrainHost) -> Result<Decided<HostId>, Refusal> {
    let DrainHost { host, drained, reason } = request;
    let before = &entry(state, host.as_str())?.host;
    if before.drained == *drained {
        return Ok(Decided::nothing(before.id.clone()));
    }
    let word = |drained: bool| if drained { "drained" } else { "in use" }.to_owned();
    let change = Change {
        what: format!("host.{} {}", if *drained { "drain" } else { "undrain" }, before.id),
        why: reason,
        before: word(before.drained),
        after: word(*drained),
    };
    let after = Host { drained: *drained, ..before.clone() };
    Ok(caller.change(vec![Edit::Host(after)], change, before.id.clone()))
}

/// The host takes no change until it is released, or for as long as is said; it serves all the same, and
/// what it was granted before runs on. A later hold replaces an earlier one. E-HOST-UNKNOWN, E-HOST-HELD.
pub fn hold(
    state: &State,
    caller: &Caller,
    request: &HoldHost,
    now: FleetTime,
) -> Result<Decided<HostId>, Refusal> {
    let HoldHost { host, reason, duration } = request;
    let before = &entry(state, host.as_str())?.host;
    if let Some(hold @ (Hold::Clone | Hold::ForeignAssignment)) = &before.held {
        let what = format!("{} is held already: {}", before.id, hold_text(hold));
        let next = "see to that first; `houston host release` ends it";
        return Err(Refusal::new(Code::HostHeld, what, next));
    }
    let until = duration.map(|duration| now.plus(duration));
    let hold = Hold::Operator { name: caller.name.clone(), reason: reason.clone(), until };
    if before.held.as_ref() == Some(&hold) {
        return Ok(Decided::nothing(before.id.clone()));
    }
    let term = match duration {
        Some(duration) => format!("for {}", Exact(*duration)),
        None => "until it is released".to_owned(),
    };
    let change = Change {
        what: format!("host.hold {}", before.id),
        why: reason,
        before: before.held.as_ref().map(hold_text).unwrap_or_default(),
        after: term,
    };
    let after = Host { held: Some(hold), ..before.clone() };
    Ok(caller.change(vec![Edit::Host(after)], change, before.id.clone()))
}

fn hold_text(hold: &Hold) -> String {
    match hold {
        Hold::Operator { name, reason, .. } => format!("held by {name}: {reason}"),
        Hold::Clone => "two machines speak with its identity".to_owned(),
        Hold::ForeignAssignment => "it shows an assignment that this store never gave".to_owned(),
    }
}

/// Ends whatever keeps the host from changes: a hold, penalty boxes, and exclusions, so that the standing
/// lane brings it the baked release, or the active rollout takes it along. E-HOST-UNKNOWN.
pub fn release(state: &State, caller: &Caller, request: &HostChange) -> Result<Decided<HostId>, Refusal> {
    let before = entry(state, request.host.as_str())?;
    let host = &before.host;
    let mut ended: Vec<String> = Vec::new();
    let mut edits: Vec<Edit> = Vec::new();
    if let Some(hold) = &host.held {
        ended.push(hold_text(hold));
        edits.push(Edit::Host(unheld(host)));
    }
    for (environment, live) in memberships_of(state, before) {
        let name = environment.name();
        if live.member.failures > 0 {
            ended.push(format!("failed {} times in a row in {name}", live.member.failures));
        }
        if let Some(rollout) = environment.rollout.as_ref().filter(|all| all.excluded.contains(&host.id)) {
            let mut rollout = rollout.clone();
            rollout.excluded.remove(&host.id);
            edits.push(Edit::Rollout(rollout));
        }
        let mut member = live.member.clone();
        member.forgive_all();
        if member.step == Step::Excepted(Exception::Excluded) {
            ended.push(format!("left out of a rollout of {name}"));
            (member.lane, member.step) = (Lane::Standing, Step::Waiting);
        }
        if member != live.member {
            edits.push(Edit::Member(member));
        }
    }
    if edits.is_empty() {
        return Ok(Decided::nothing(host.id.clone()));
    }
    let change = Change {
        what: format!("host.release {}", host.id),
        why: &request.reason,
        before: ended.join("; "),
        after: String::new(),
    };
    Ok(caller.change(edits, change, host.id.clone()))
}

/// Whether the host is held because another machine may speak for it. E-HOST-UNKNOWN.
pub fn is_in_doubt(state: &State, host: &HostId) -> Result<bool, Refusal> {
    let held = &entry(state, host.as_str())?.host.held;
    Ok(matches!(held, Some(Hold::Clone | Hold::ForeignAssignment)))
}

/// Of a clone it is forgotten which start of the agent was the newest: of two machines with one identity,
/// the first to check in from now on is the host.
fn unheld(host: &Host) -> Host {
    match host.held {
        Some(Hold::Clone | Hold::ForeignAssignment) => Host { held: None, start: None, ..host.clone() },
        Some(Hold::Operator { .. }) | None => Host { held: None, ..host.clone() },
    }
}

/// Ends a host's access; it keeps running what it runs. E-HOST-UNKNOWN.
pub fn revoke(state: &State, caller: &Caller, request: &HostChange) -> Result<Decided<HostId>, Refusal> {
    let host = &entry(state, request.host.as_str())?.host;
    if host.revoked {
        return Ok(Decided::nothing(host.id.clone()));
    }
    let change = Change {
        what: format!("host.revoke {}", host.id),
        why: &request.reason,
        before: format!("key {}", host.key),
        after: "revoked".to_owned(),
    };
    let after = Host { revoked: true, ..host.clone() };
    Ok(caller.change(vec![Edit::Host(after)], change, host.id.clone()))
}

/// Revokes and forgets a host. A grant that was open is gone with its record, and counts as a failure of its
/// rollout. E-HOST-UNKNOWN.
pub fn remove(state: &State, caller: &Caller, request: &HostChange) -> Result<Decided<()>, Refusal> {
    let there = entry(state, request.host.as_str())?;
    let host = &there.host;
    let change = Change {
        what: format!("host.remove {}", host.id),
        why: &request.reason,
        before: place_text(host),
        after: String::new(),
    };
    Ok(caller.change(state.forgetting(there), change, ()))
}
