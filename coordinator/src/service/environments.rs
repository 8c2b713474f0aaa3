//! What environments are, and changing it.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::Exact;
use houston_common::command::{AppliedEnvironment, ApplyEnvironment, Difference, Page, Paged};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::HOST_ENVIRONMENTS_MAX;
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, Zone, quoted};
use houston_common::policy::Policy;
use houston_common::policy::gate::Condition;
use houston_common::release::{Release, Settings};
use houston_common::view::EnvironmentView;

use super::{Caller, Change, conflict, environment, page, views};
use crate::engine::core::Decided;
use crate::environment::Definition;
use crate::rollout::gates::is_time_zone;
use crate::state::{Edit, State};

/// Makes the environment what the request says; a dry run only answers what that would change.
/// Applying the same again changes nothing. A selector that fits no host is allowed: the answer's
/// `hosts` is 0. E-ZONE-TWICE, E-ZONE-UNKNOWN, E-CFG-VALUE, E-CFG-CONFLICT; E-CONFLICT for another
/// selector while a rollout is active.
pub fn apply(
    state: &State,
    caller: &Caller,
    request: &ApplyEnvironment,
) -> Result<Decided<AppliedEnvironment>, Refusal> {
    acceptable(state, &request.policy)?;
    let before = state.environments.get(&request.name).map(|environment| &environment.definition);
    if let Some(environment) = state.environments.get(&request.name)
        && environment.definition.selector != request.selector
        && let Some(active) = &environment.rollout
    {
        return Err(conflict(active));
    }
    let definition = definition(before, request);
    let reply = AppliedEnvironment {
        created: before.is_none(),
        differences: differences(state, before, request),
        ..selected(state, &definition)?
    };
    if request.dry_run || before == Some(&definition) {
        return Ok(Decided::nothing(reply));
    }
    let mut edits = Vec::new();
    if !state.catalog.has_settings(&definition.settings) {
        edits.push(Edit::Settings(Arc::new(request.settings.clone())));
    }
    edits.push(Edit::Environment(definition));
    let change = Change {
        what: format!("environment.apply {}", request.name),
        why: &request.reason,
        before: written(&reply.differences, |difference| difference.before.as_ref()),
        after: written(&reply.differences, |difference| difference.after.as_ref()),
    };
    Ok(caller.change(edits, change, reply))
}

/// E-ENV-UNKNOWN.
pub fn get(state: &State, name: &EnvironmentName) -> Result<EnvironmentView, Refusal> {
    environment(state, name).map(|environment| views::environment(state, environment))
}

/// By name. E-FIELD for a page token of another list.
pub fn list(state: &State, request: &Page) -> Result<Paged<EnvironmentView>, Refusal> {
    let after: Option<EnvironmentName> = match &request.token {
        Some(token) => Some(token.parse().map_err(|_| super::bad_page(token))?),
        None => None,
    };
    let items = state
        .environments
        .iter()
        .map(|(name, environment)| (name.clone(), views::environment(state, environment)));
    Ok(page(request, items, after.as_ref(), views::environment_bytes, ToString::to_string))
}

fn definition(before: Option<&Definition>, request: &ApplyEnvironment) -> Definition {
    let ApplyEnvironment { name, selector, policy, settings, dry_run: _, reason: _ } = request;
    Definition {
        name: name.clone(),
        selector: selector.clone(),
        policy: policy.clone(),
        settings: settings.digest(),
        baked: before.map_or_else(Release::empty, |before| before.baked),
        bad: before.map(|before| before.bad.clone()).unwrap_or_default(),
        unresolved: before.map(|before| before.unresolved.clone()).unwrap_or_default(),
    }
}

/// E-ZONE-TWICE, E-ZONE-UNKNOWN, E-CFG-VALUE, E-CFG-CONFLICT.
pub(super) fn acceptable(state: &State, policy: &Policy) -> Result<(), Refusal> {
    zone_order(state, policy)?;
    waits(policy)?;
    let windows = policy.gates.iter().filter_map(|gate| match &gate.condition {
        Condition::Window(window) => Some((&gate.name, &window.time_zone)),
        Condition::Approval { .. }
        | Condition::Freeze { .. }
        | Condition::Metric(_)
        | Condition::EveryHost { .. }
        | Condition::Evidence { .. } => None,
    });
    for (gate, zone) in windows {
        if !is_time_zone(zone) {
            let what = format!("policy.gate.{gate}: no time zone \"{}\"", quoted(zone));
            return Err(Refusal::new(Code::ConfigValue, what, "write one as in Europe/Berlin, or UTC"));
        }
    }
    Ok(())
}

/// A zone may be named before its hosts join, by the token that will let them in. In a fleet without
/// hosts nothing is known yet, and every zone is taken.
fn zone_order(state: &State, policy: &Policy) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = policy.zone_order.iter().find(|zone| !seen.insert(*zone)) {
        let what = format!("policy.zone_order names zone \"{twice}\" twice");
        return Err(Refusal::new(Code::ZoneTwice, what, "name each zone once"));
    }
    if state.fleet.is_empty() || policy.zone_order.is_empty() {
        return Ok(());
    }
    let of_hosts = state.fleet.iter().map(|entry| &entry.host.zone);
    let known: BTreeSet<&Zone> =
        of_hosts.chain(state.access.tokens.values().map(|token| &token.zone)).collect();
    let Some(unknown) = policy.zone_order.iter().find(|zone| !known.contains(zone)) else { return Ok(()) };
    let near = houston_common::error::nearest(unknown.as_str(), known.iter().map(|zone| zone.as_str()));
    let next = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "leave it out: zones that are not named follow by name".to_owned(),
    };
    let what = format!("policy.zone_order names zone \"{unknown}\", in which there is no host");
    Err(Refusal::new(Code::ZoneUnknown, what, next))
}

/// Waits that cannot both be kept.
fn waits(policy: &Policy) -> Result<(), Refusal> {
    for (key, wait) in [("apply_deadline", policy.apply_deadline), ("start_within", policy.start_within)] {
        if wait.is_zero() {
            let what = format!("policy.{key} is 0s: no host could ever keep it");
            return Err(Refusal::new(Code::ConfigValue, what, "give hosts some time"));
        }
    }
    let contradiction = |key: &str, wait: Duration, relation: &str| {
        let what = format!(
            "policy.{key} ({}) is {relation} policy.apply_deadline ({}): no host could ever settle",
            Exact(wait),
            Exact(policy.apply_deadline)
        );
        Refusal::new(Code::ConfigConflict, what, format!("lower {key} or raise apply_deadline"))
    };
    if policy.start_within > policy.apply_deadline {
        return Err(contradiction("start_within", policy.start_within, "longer than"));
    }
    if policy.health_window >= policy.apply_deadline {
        return Err(contradiction("health_window", policy.health_window, "not below"));
    }
    Ok(())
}

/// Which hosts the definition fits, beside those that it had. E-LIMIT if a host would then belong to
/// too many environments.
fn selected(state: &State, definition: &Definition) -> Result<AppliedEnvironment, Refusal> {
    let environment = state.environments.get(&definition.name);
    let (mut hosts, mut joining, mut leaving) = (0, 0, 0);
    for entry in state.fleet.iter() {
        let member = environment.and_then(|environment| environment.member(&entry.host.id));
        let belongs = member.is_some_and(|live| !live.member.detached);
        let fits = definition.selects(&entry.host.labels);
        hosts += u32::from(fits);
        joining += u32::from(fits && !belongs);
        leaving += u32::from(belongs && !fits);
        if fits && member.is_none() && entry.environments.len() >= HOST_ENVIRONMENTS_MAX {
            let what = format!(
                "host {} would belong to more than {HOST_ENVIRONMENTS_MAX} environments",
                entry.host.id
            );
            return Err(Refusal::new(Code::Limit, what, "select fewer hosts"));
        }
    }
    Ok(AppliedEnvironment { created: false, differences: Vec::new(), hosts, joining, leaving })
}

fn differences(state: &State, before: Option<&Definition>, request: &ApplyEnvironment) -> Vec<Difference> {
    let old = before
        .map(|before| fields(&before.selector, &before.policy, &views::settings_of(state, &before.settings)));
    let old = old.unwrap_or_default();
    let new = fields(&request.selector, &request.policy, &request.settings);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .map(|field| Difference {
            field: field.clone(),
            before: old.get(field).cloned(),
            after: new.get(field).cloned(),
        })
        .filter(|difference| difference.before != difference.after)
        .collect()
}

fn fields(
    selector: &BTreeMap<LabelKey, LabelValue>,
    policy: &Policy,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let selector = selector.iter().map(|(key, value)| (format!("selector.{key}"), value.to_string()));
    // Told whole: the person who edits them must see what differs, wherever it does.
    let settings = settings.0.iter().map(|(key, value)| (format!("settings.{key}"), value.clone()));
    selector.chain(policy_fields(policy)).chain(settings).collect()
}

/// The policy's fields as the environment file writes them; an unset one is left out.
pub(super) fn policy_fields(policy: &Policy) -> BTreeMap<String, String> {
    let set = policy.fields().into_iter();
    set.filter_map(|(key, value)| Some((format!("policy.{key}"), value?))).collect()
}

fn written(differences: &[Difference], side: impl Fn(&Difference) -> Option<&String>) -> String {
    let fields = differences.iter().filter_map(|difference| {
        side(difference).map(|value| format!("{}={}", difference.field, quoted(value)))
    });
    fields.collect::<Vec<_>>().join(" ")
}
