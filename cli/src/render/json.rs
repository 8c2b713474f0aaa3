//! Answers for programs. The keys are a contract: `docs/cli.md` lists them. Times are milliseconds since
//! 1970, durations milliseconds, digests hexadecimal; what is absent is `null`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::release::profile_keys;
use houston_common::clock::Exact;
use houston_common::clock::{WallTime, millis};
use houston_common::command::{AppliedEnvironment, WhoAmI};
use houston_common::id::{LabelKey, LabelValue};
use houston_common::policy::Policy;
use houston_common::policy::gate::{Condition, Days, Gate, time_of_day};
use houston_common::release::PackageVersion;
use houston_common::report::{Failure, HealthReport};
use houston_common::rollout::Held;
use houston_common::view::{
    EnvironmentView, HostEnvironmentView, HostView, OperatorView, PackageView, ReleaseView, RoleBinding,
    TokenView, VersionSetView, ZoneView,
};
use serde_json::{Map, Value, json};

use crate::build::BuiltPackage;
use crate::context::Contexts;

mod rollout;

pub use rollout::{plan, rollout, rollout_summary, waiting_on};

fn text(value: &impl Display) -> Value {
    value.to_string().into()
}

fn texts<T: Display>(values: impl IntoIterator<Item = T>) -> Value {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().into()
}

fn duration(duration: Duration) -> Value {
    millis(duration).into()
}

fn time(time: WallTime) -> Value {
    time.0.into()
}

fn labels(labels: &BTreeMap<LabelKey, LabelValue>) -> Value {
    labels.iter().map(|(key, value)| (key.to_string(), text(value))).collect::<Map<_, _>>().into()
}

/// A list under its name: a top-level array could never get a second key.
pub fn list<T>(name: &str, items: &[T], item: impl Fn(&T) -> Value) -> Value {
    json!({ name: items.iter().map(item).collect::<Vec<_>>() })
}

pub fn contexts(contexts: &Contexts) -> Value {
    let all: Vec<_> = contexts
        .all
        .iter()
        .map(|(name, context)| {
            json!({
                "name": name.as_str(),
                "address": text(&context.address),
                "server_name": context.server_name.as_ref().map(ToString::to_string),
                "credential": context.credential.to_string_lossy(),
                "current": contexts.current.as_ref() == Some(name),
            })
        })
        .collect();
    json!({ "contexts": all })
}

fn role(binding: &RoleBinding) -> Value {
    json!({ "role": binding.role.as_str(), "environment": binding.environment.as_ref().map(ToString::to_string) })
}

pub fn who_am_i(who: &WhoAmI) -> Value {
    json!({
        "operator": text(&who.operator),
        "roles": who.roles.iter().map(role).collect::<Vec<_>>(),
        "coordinator_version": who.coordinator_version,
        "store": text(&who.store),
        "regressed": who.regressed,
        "server_time_ms": time(who.server_time),
    })
}

pub fn token(token: &TokenView) -> Value {
    json!({
        "id": token.id,
        "zone": text(&token.zone),
        "labels": labels(&token.labels),
        "uses_left": token.uses_left,
        "expires_in_ms": duration(token.expires_in),
        "ephemeral": token.ephemeral,
        "created_by": text(&token.created_by),
    })
}

pub fn operator(operator: &OperatorView) -> Value {
    json!({
        "name": text(&operator.name),
        "roles": operator.roles.iter().map(role).collect::<Vec<_>>(),
        "revoked": operator.revoked,
        "certificate_expires_ms": time(operator.certificate_expires),
    })
}

pub fn release(release: &ReleaseView) -> Value {
    json!({
        "version_set": text(&release.name),
        "version_set_digest": text(&release.version_set),
        "settings_digest": text(&release.settings),
    })
}

fn health(health: &HealthReport) -> Value {
    match health {
        HealthReport::Unknown => json!({ "state": "unknown" }),
        HealthReport::Healthy { for_at_least, passes } => {
            json!({ "state": "healthy", "for_at_least_ms": duration(*for_at_least), "passes": passes })
        }
        HealthReport::Unhealthy { reason } => json!({ "state": "unhealthy", "reason": reason }),
    }
}

pub fn failure(failure: &Failure) -> Value {
    json!({
        "code": failure.code.as_str(),
        "phase": failure.phase.as_str(),
        "package": failure.package.as_ref().map(ToString::to_string),
        "message": failure.message,
        "log_tail": failure.log_tail,
    })
}

pub fn host(host: &HostView) -> Value {
    json!({
        "id": text(&host.id),
        "zone": text(&host.zone),
        "labels": labels(&host.labels),
        "presence": host.presence.as_str(),
        "last_seen_ago_ms": host.last_seen_ago.map(duration),
        "drained": host.drained,
        "held": host.held.as_ref().map(held),
        "revoked": host.revoked,
        "agent_version": host.agent_version,
        "platforms": texts(&host.platforms),
        "facts": {
            "hostname": host.facts.hostname,
            "os": host.facts.os,
            "kernel": host.facts.kernel,
            "cpus": host.facts.cpus,
            "memory_bytes": host.facts.memory_bytes,
            "disk_bytes": host.facts.disk_bytes,
            "disk_free_bytes": host.facts.disk_free_bytes,
        },
        "environments": host.environments.iter().map(host_environment).collect::<Vec<_>>(),
        "certificate_expires_ms": time(host.certificate_expires),
    })
}

/// The kind of hold, and its parameters beside it.
fn held(held: &Held) -> Value {
    let mut object = match held {
        Held::Operator { name, reason, left } => {
            json!({ "by": text(name), "reason": reason, "left_ms": left.map(duration) })
        }
        Held::PenaltyBox { environment, failures, left } => {
            json!({ "environment": text(environment), "failures": failures, "left_ms": duration(*left) })
        }
        Held::Clone | Held::ForeignAssignment | Held::Revoked => json!({}),
    };
    object["kind"] = held.as_str().into();
    object
}

fn host_environment(view: &HostEnvironmentView) -> Value {
    json!({
        "environment": text(&view.environment),
        "phase": view.phase.as_str(),
        "running": view.running.as_ref().map(release),
        "health": health(&view.health),
        "in_service": view.in_service,
        "detached": view.detached,
        "failure": view.failure.as_ref().map(failure),
        "waiting_on": waiting_on(&view.waiting),
    })
}

fn package_version(package: &PackageVersion) -> Value {
    let trees: Map<_, _> =
        package.trees.iter().map(|(platform, tree)| (platform.to_string(), text(tree))).collect();
    json!({ "name": text(&package.name), "version": text(&package.version), "trees": trees })
}

pub fn built(package: &BuiltPackage) -> Value {
    let trees: Vec<_> = package
        .trees
        .iter()
        .map(|tree| {
            json!({
                "platform": text(&tree.platform),
                "digest": text(&tree.digest),
                "files": tree.manifest.files().count(),
                "bytes": tree.manifest.total_bytes(),
            })
        })
        .collect();
    json!({ "name": text(&package.name), "version": text(&package.version), "trees": trees })
}

pub fn package(view: &PackageView) -> Value {
    json!({
        "package": package_version(&view.package),
        "bytes": view.bytes,
        "pushed_by": text(&view.pushed_by),
        "pushed_at_ms": time(view.pushed_at),
        "used_by": texts(&view.used_by),
    })
}

pub fn version_set(set: &VersionSetView) -> Value {
    json!({
        "name": text(&set.name),
        "digest": text(&set.digest),
        "packages": set.packages.iter().map(package_version).collect::<Vec<_>>(),
        "created_by": text(&set.created_by),
        "created_at_ms": time(set.created_at),
        "baked_in": texts(&set.baked_in),
    })
}

pub fn zone(zone: &ZoneView) -> Value {
    json!({
        "zone": text(&zone.zone),
        "hosts": zone.hosts,
        "in_service": zone.in_service,
        "available": zone.available,
        "floor": zone.floor,
        "updated": zone.updated,
        "moving": zone.moving,
        "off_baked": zone.off_baked,
    })
}

pub fn environment(view: &EnvironmentView) -> Value {
    let settings: Map<_, _> =
        view.settings.0.iter().map(|(key, value)| (key.to_string(), value.clone().into())).collect();
    json!({
        "name": text(&view.name),
        "selector": labels(&view.selector),
        "policy": environment_policy(view),
        "settings": settings,
        "baked": release(&view.baked),
        "active_rollout": view.active.map(|rollout| rollout.0),
        "zones": view.zones.iter().map(zone).collect::<Vec<_>>(),
        "bad": view.bad.iter().map(release).collect::<Vec<_>>(),
    })
}

/// With the values that the environment file has, so that they can be put into one; null where one is not set.
fn environment_policy(view: &EnvironmentView) -> Value {
    let mut keys = Map::new();
    let fields = view.policy.fields().into_iter().filter(|(key, _)| !key.starts_with("gate."));
    for (key, value) in fields {
        match key.split_once('.') {
            None => keys.insert(key, value.into()),
            Some((table, key)) => {
                keys.entry(table.to_owned()).or_insert_with(|| json!({}))[key] = value.into();
                None
            }
        };
    }
    keys.insert("zone_order".into(), texts(&view.policy.zone_order));
    keys.insert("zones_at_once".into(), view.policy.zones_at_once.into());
    keys.insert(
        "growth".into(),
        view.policy.growth.map_or(Value::Null, |growth| {
            json!({
                "factor": format!("{}%", growth.percent),
                "most": growth.most.to_string(),
                "carries": growth.carries,
            })
        }),
    );
    keys.insert("gate".into(), view.policy.gates.iter().map(gate).collect::<Vec<_>>().into());
    keys.into()
}

pub fn profile(name: &str, about: &str, policy: &Policy) -> Value {
    let changes: Map<String, Value> =
        profile_keys(policy).into_iter().map(|(key, value)| (key, value.into())).collect();
    json!({ "name": name, "about": about, "changes": changes })
}

fn gate(gate: &Gate) -> Value {
    let condition = match &gate.condition {
        Condition::Approval { by_another } => json!({ "by_another": by_another }),
        Condition::Window(window) => json!({
            "time_zone": window.time_zone,
            "days": (0..7).filter(|day| window.days.contains(*day)).map(|day| Days::NAMES[usize::from(day)]).collect::<Vec<_>>(),
            "from": time_of_day(window.from),
            "until": time_of_day(window.until),
        }),
        Condition::Freeze { from, until } => json!({ "from_at_ms": from.0, "until_at_ms": until.0 }),
        Condition::Metric(metric) => {
            let mut object = json!({ "query": metric.query, "fresh": Exact(metric.fresh).to_string() });
            object[metric.is.as_str()] = metric.value.get().into();
            object
        }
        Condition::EveryHost { package, at_least } => {
            json!({ "package": text(package), "at_least": text(at_least) })
        }
        Condition::Evidence { passes } => json!({ "passes": passes }),
    };
    let mut object = json!({
        "name": text(&gate.name),
        "before": gate.before.as_str(),
        "within": gate.within.map(|within| Exact(within).to_string()),
    });
    object[gate.condition.kind()] = condition;
    object
}

pub fn applied(name: &str, applied: &AppliedEnvironment, dry_run: bool) -> Value {
    let differences: Vec<_> = applied
        .differences
        .iter()
        .map(|difference| {
            json!({ "field": difference.field, "before": difference.before, "after": difference.after })
        })
        .collect();
    json!({
        "name": name,
        "dry_run": dry_run,
        "created": applied.created,
        "differences": differences,
        "hosts": applied.hosts,
        "joining": applied.joining,
        "leaving": applied.leaving,
    })
}
