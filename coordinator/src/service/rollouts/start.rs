//! Starting a rollout.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{EMPTY_VERSION_SET, StartRollout};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{RolloutId, quoted};
use houston_common::policy::Policy;
use houston_common::release::Release;

use super::super::environments::policy_fields;
use super::super::{Caller, Change, environment};
use super::draft::{Draft, draft, raised};
use super::plan::{hosts_to_change, plan_hash};
use super::remember;
use crate::engine::core::Decided;
use crate::rollout::{Rollout, Stage};
use crate::state::{Edit, State};

/// Starts a rollout of the version set with the environment's own settings. The same request with the
/// same idempotency key again answers with the rollout that it made.
///
/// E-ENV-UNKNOWN, E-VER-UNKNOWN, E-IDEMPOTENCY, E-CONFLICT, E-SELECT-NONE, E-NOOP, E-BAD-VERSION,
/// E-BUDGET-ALL, E-UNINSTALL, E-PLAN-CHANGED.
pub fn start(
    state: &State,
    caller: &Caller,
    request: &StartRollout,
    now: FleetTime,
    wall: WallTime,
) -> Result<Decided<RolloutId>, Refusal> {
    environment(state, &request.environment)?;
    let fingerprint = fingerprint(request);
    if let Some(earlier) = repeated(state, request, &fingerprint)? {
        return Ok(Decided::nothing(earlier.id));
    }
    let mut draft = draft(state, caller, request, now)?;
    confirmed(state, request, &draft)?;
    draft.rollout.request = fingerprint;
    draft.rollout.started_at = wall;
    let Draft { environment, rollout, superseded } = draft;
    let id = rollout.id;
    let mut edits = vec![raised(state)];
    if let Some(superseded) = superseded {
        let mut definition = environment.definition.clone();
        remember(&mut definition.unresolved, superseded.left_behind());
        edits.push(Edit::Environment(definition));
        let mut superseded = superseded.clone();
        superseded.end(Stage::Superseded { by: id }, wall, environment);
        edits.push(Edit::Rollout(superseded));
    }
    let name = |release: &Release| state.catalog.view(release).name;
    let flags =
        [("supersede", request.supersede), ("force", request.force), ("allow-outage", request.allow_outage)];
    let flags = flags.into_iter().filter(|(_, on)| *on).map(|(flag, _)| format!(" --{flag}"));
    let excluded = rollout.excluded.iter().map(|host| format!(" --exclude {host}"));
    let flags: String = flags.chain(excluded).collect();
    let differs = differing(&environment.definition.policy, &rollout.policy);
    let change = Change {
        what: format!("rollout.start {} {id}", request.environment),
        why: &request.reason,
        before: format!("{} baked", name(&rollout.way_back)),
        after: format!("to {}, {} hosts{flags}{differs}", name(&rollout.target), rollout.hosts()),
    };
    edits.push(Edit::Rollout(rollout));
    Ok(caller.change(edits, change, id))
}

/// What of the environment's policy does not hold for this rollout: whoever relaxed it is on record with it.
fn differing(own: &Policy, pinned: &Policy) -> String {
    let (own, pinned) = (policy_fields(own), policy_fields(pinned));
    let keys: BTreeSet<&String> = own.keys().chain(pinned.keys()).collect();
    let differing = keys.into_iter().filter(|key| own.get(*key) != pinned.get(*key));
    let value = |fields: &BTreeMap<String, String>, key: &String| {
        fields.get(key).map_or_else(|| "none".to_owned(), |value| quoted(value))
    };
    differing.map(|key| format!(" {key}={} (not {})", value(&pinned, key), value(&own, key))).collect()
}

/// What an uninstall needs, and what a plan that was looked at promises.
fn confirmed(state: &State, request: &StartRollout, draft: &Draft<'_>) -> Result<(), Refusal> {
    let hash = plan_hash(draft);
    match request.plan_hash {
        Some(promised) if promised == hash => Ok(()),
        Some(_) => Err(Refusal::new(
            Code::PlanChanged,
            format!(
                "the fleet or the policy of {} has changed since that plan was made",
                request.environment
            ),
            format!(
                "look at it again with `houston rollout plan {} {}`",
                request.environment, request.version_set
            ),
        )),
        None if draft.rollout.target.is_empty() && !request.force => {
            let hosts = hosts_to_change(state, draft);
            Err(Refusal::new(
                Code::Downgrade,
                format!(
                    "{EMPTY_VERSION_SET} uninstalls everything from {hosts} hosts of {}",
                    request.environment
                ),
                format!(
                    "look at `houston rollout plan {} {EMPTY_VERSION_SET}` and start what it ends with",
                    request.environment
                ),
            ))
        }
        None => Ok(()),
    }
}

/// The request's key with a digest of all that it asks for. Empty without a key.
fn fingerprint(request: &StartRollout) -> String {
    let StartRollout {
        environment,
        version_set,
        reason,
        supersede,
        force,
        allow_outage,
        idempotency_key,
        plan_hash,
        policy,
        exclude,
    } = request;
    let Some(key) = idempotency_key else { return String::new() };
    let hash = plan_hash.map(|hash| hash.to_string()).unwrap_or_default();
    let policy = policy.as_ref().map(policy_fields).unwrap_or_default();
    let text = format!(
        "houston-request 1\n{environment}\n{version_set}\n{supersede} {force} {allow_outage} {hash}\n{policy:?}\n{exclude:?}\n{reason}"
    );
    format!("{key} {}", Digest::of(text.as_bytes()))
}

/// The rollout that this request made before. E-IDEMPOTENCY if the key was another request's.
fn repeated<'a>(
    state: &'a State,
    request: &StartRollout,
    fingerprint: &str,
) -> Result<Option<&'a Rollout>, Refusal> {
    let Some(key) = &request.idempotency_key else { return Ok(None) };
    let active = state.environments.values().filter_map(|environment| environment.rollout.as_ref());
    let mut all = active.chain(state.history.values().rev());
    let earlier = all.find(|rollout| rollout.request.split(' ').next() == Some(key.as_str()));
    match earlier {
        Some(earlier) if earlier.request != fingerprint => Err(Refusal::new(
            Code::Idempotency,
            format!("the idempotency key \"{key}\" was used for another request: rollout {}", earlier.id),
            "use another key",
        )),
        earlier => Ok(earlier),
    }
}
