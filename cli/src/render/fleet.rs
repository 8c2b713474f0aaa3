//! Contexts, tokens, operators and hosts for people.

use std::fmt::Write as _;

use houston_common::clock::Rough;
use houston_common::command::WhoAmI;
use houston_common::id::EnvironmentName;
use houston_common::report::Phase;
use houston_common::rollout::Held;
use houston_common::view::{
    HostEnvironmentView, HostView, OperatorView, Presence, ReleaseView, RoleBinding, TokenView,
};

use super::{Table, bytes, failure, health, joined, labels, log_tail, time};
use crate::console::{Paint, plain};
use crate::context::Contexts;
use crate::prose;

/// Lines of a failed hook's output that `host show` prints.
const LOG_LINES_MAX: usize = 40;

pub fn contexts(contexts: &Contexts, paint: Paint) -> String {
    let mut table = Table::new(&["", "NAME", "ADDRESS", "CREDENTIAL"]);
    for (name, context) in &contexts.all {
        let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        let credential = plain(&context.credential.to_string_lossy());
        table.row([mark.into(), name.to_string(), context.address.to_string(), credential]);
    }
    table.to_text("no contexts", paint)
}

pub fn role(binding: &RoleBinding) -> String {
    match &binding.environment {
        Some(environment) => format!("{}@{environment}", binding.role.as_str()),
        None => binding.role.as_str().to_owned(),
    }
}

pub fn who_am_i(who: &WhoAmI, paint: Paint) -> String {
    let mut text = format!(
        "operator     {}\nroles        {}\ncoordinator  {}\nstore        {}\ntime         {}\n",
        paint.bold(who.operator.as_str()),
        joined(who.roles.iter().map(role), " "),
        plain(&who.coordinator_version),
        who.store,
        time(who.server_time)
    );
    if who.regressed {
        text.push_str(
            &paint
                .bad("the store has gone back in time: nothing is granted until `houston-coordinator adopt`"),
        );
        text.push('\n');
    }
    text
}

/// What a token is good for. Never the secret, which is the whole answer: it may go into a file.
pub fn created_token(token: &TokenView) -> String {
    format!(
        "for {} in zone {}, labels {}, within {}; it is not shown again",
        prose::counted(token.uses_left, "host"),
        token.zone,
        labels(&token.labels),
        Rough(token.expires_in)
    )
}

pub fn tokens(tokens: &[TokenView], paint: Paint) -> String {
    let mut table = Table::new(&["ID", "ZONE", "USES LEFT", "EXPIRES IN", "KIND", "CREATED BY", "LABELS"]);
    for token in tokens {
        table.row([
            plain(&token.id),
            token.zone.to_string(),
            token.uses_left.to_string(),
            Rough(token.expires_in).to_string(),
            if token.ephemeral { "ephemeral".into() } else { "lasting".into() },
            token.created_by.to_string(),
            labels(&token.labels),
        ]);
    }
    table.to_text("no tokens", paint)
}

pub fn operators(operators: &[OperatorView], paint: Paint) -> String {
    let mut table = Table::new(&["NAME", "ROLES", "STATE", "CERTIFICATE UNTIL"]);
    for operator in operators {
        table.row([
            operator.name.to_string(),
            joined(operator.roles.iter().map(role), " "),
            if operator.revoked { paint.bad("revoked") } else { "active".into() },
            time(operator.certificate_expires),
        ]);
    }
    table.to_text("no operators", paint)
}

pub fn release(release: &ReleaseView) -> String {
    format!("{} ({}, settings {})", release.name, release.version_set.short(), release.settings.short())
}

pub fn hosts(hosts: &[HostView], environment: Option<&EnvironmentName>, paint: Paint) -> String {
    let mut table = Table::new(&["HOST", "ZONE", "STATE", "SEEN", "RUNS", "LABELS"]);
    for host in hosts {
        let runs =
            host.environments.iter().filter(|view| environment.is_none_or(|name| *name == view.environment));
        table.row([
            host.id.to_string(),
            host.zone.to_string(),
            host_state(host, paint),
            host.last_seen_ago.map_or_else(|| "-".into(), |ago| format!("{} ago", Rough(ago))),
            joined(runs.map(|view| runs_in(view, paint)), " "),
            labels(&host.labels),
        ]);
    }
    table.to_text("no hosts", paint)
}

/// Hosts that take no change: why, by whom, and for how long still.
pub fn held_hosts(hosts: &[HostView], paint: Paint) -> String {
    let mut table = Table::new(&["HOST", "ZONE", "STATE", "BY", "LEFT", "WHY"]);
    for host in hosts {
        let Some(held) = &host.held else { continue };
        let (by, left, why) = match held {
            Held::Operator { name, reason, left } => (name.to_string(), *left, plain(reason)),
            Held::Clone | Held::ForeignAssignment | Held::Revoked => {
                ("houston".to_owned(), None, prose::held(held))
            }
            Held::PenaltyBox { left, .. } => ("houston".to_owned(), Some(*left), prose::held(held)),
        };
        let left = left.map_or_else(|| "until released".to_owned(), |left| Rough(left).to_string());
        table.row([host.id.to_string(), host.zone.to_string(), host_state(host, paint), by, left, why]);
    }
    table.to_text("no host is held", paint)
}

/// `ENVIRONMENT:RELEASE`, with the phase while something is under way and where it ended badly. A host that
/// has come back to what it ran is well, whatever failed before: `host show` has the failure.
fn runs_in(view: &HostEnvironmentView, paint: Paint) -> String {
    let running = view.running.as_ref().map_or("-", |release| release.name.as_str());
    let text = format!("{}:{running}", view.environment);
    let in_phase = || format!("{text}({})", view.phase.as_str());
    match view.phase {
        Phase::Failed | Phase::Reverting => paint.bad(&in_phase()),
        Phase::Fetching
        | Phase::LayingOut
        | Phase::Stopping
        | Phase::Switching
        | Phase::Starting
        | Phase::Proving => in_phase(),
        Phase::Idle | Phase::Ready | Phase::Settled | Phase::Reverted if view.detached => {
            paint.dim(&format!("{text}(detached)"))
        }
        Phase::Idle | Phase::Ready | Phase::Settled | Phase::Reverted => text,
    }
}

/// The most important thing about a host, in a word.
fn host_state(host: &HostView, paint: Paint) -> String {
    match host {
        HostView { revoked: true, .. } => paint.bad("revoked"),
        HostView { held: Some(Held::PenaltyBox { .. }), .. } => paint.bad("boxed"),
        HostView { held: Some(_), .. } => paint.bad("held"),
        HostView { presence: Presence::Lost, .. } => paint.bad("lost"),
        HostView { drained: true, .. } => paint.warn("drained"),
        HostView { presence: Presence::Unknown, .. } => paint.warn("unknown"),
        HostView { presence: Presence::Seen, .. } => paint.good("seen"),
    }
}

pub fn host(host: &HostView, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("host", paint.bold(host.id.as_str()));
    line("zone", host.zone.to_string());
    line("labels", labels(&host.labels));
    line("state", host_state(host, paint));
    if let Some(held) = &host.held {
        line("held", plain(&prose::held(held)));
    }
    line(
        "seen",
        host.last_seen_ago
            .map_or_else(|| "not since the coordinator started".into(), |ago| format!("{} ago", Rough(ago))),
    );
    if !host.agent_version.is_empty() {
        let facts = &host.facts;
        line("agent", plain(&host.agent_version));
        line("platforms", joined(host.platforms.iter().map(ToString::to_string), " "));
        line("system", plain(&format!("{}, {}, {}", facts.hostname, facts.os, facts.kernel)));
        line(
            "machine",
            format!(
                "{} CPUs, {} memory, {} of {} disk free",
                facts.cpus,
                bytes(facts.memory_bytes),
                bytes(facts.disk_free_bytes),
                bytes(facts.disk_bytes)
            ),
        );
    }
    line("certificate", format!("until {}", time(host.certificate_expires)));
    for view in &host.environments {
        text.push_str(&host_environment(view, paint));
    }
    text
}

fn host_environment(view: &HostEnvironmentView, paint: Paint) -> String {
    let running = view.running.as_ref().map_or_else(|| "nothing".to_owned(), release);
    let standing = match (view.detached, view.in_service) {
        (true, _) => "detached",
        (false, true) => "in service",
        (false, false) => "not in service",
    };
    let mut text = format!(
        "\n{}  {}, {standing}\n  runs     {running}\n  health   {}\n  waiting  {}\n",
        paint.bold(view.environment.as_str()),
        view.phase.as_str(),
        health(&view.health, paint),
        plain(&prose::waiting_on(&view.waiting, &view.environment)),
    );
    if let Some(failed) = &view.failure {
        let _ = writeln!(text, "  failure  {}", paint.bad(&failure(failed)));
        text.push_str(&log_tail(failed, LOG_LINES_MAX, paint));
    }
    text
}
