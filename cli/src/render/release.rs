//! Packages, version sets and environments for people.

use std::fmt::Write as _;

use houston_common::clock::Rough;
use houston_common::command::AppliedEnvironment;
use houston_common::policy::Policy;
use houston_common::release::PackageVersion;
use houston_common::view::{EnvironmentView, PackageView, VersionSetView, ZoneView};

use super::fleet::release;
use super::{Table, bytes, joined, labels, time};
use crate::build::BuiltPackage;
use crate::console::{Paint, plain};
use crate::prose;

pub fn built(package: &BuiltPackage, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&format!("{}@{}", package.name, package.version)));
    for tree in &package.trees {
        let _ = writeln!(
            text,
            "  {:<12} {}  {} files, {}",
            tree.platform,
            tree.digest.short(),
            tree.manifest.files().count(),
            bytes(tree.manifest.total_bytes())
        );
    }
    text
}

fn id(package: &PackageVersion) -> String {
    format!("{}@{}", package.name, package.version)
}

pub fn packages(packages: &[PackageView], paint: Paint) -> String {
    let mut table = Table::new(&["PACKAGE", "PLATFORMS", "SIZE", "PUSHED BY", "PUSHED", "USED BY"]);
    for view in packages {
        table.row([
            id(&view.package),
            joined(view.package.trees.keys().map(ToString::to_string), " "),
            bytes(view.bytes),
            view.pushed_by.to_string(),
            time(view.pushed_at),
            joined(view.used_by.iter().map(ToString::to_string), " "),
        ]);
    }
    table.to_text("no packages", paint)
}

pub fn version_sets(sets: &[VersionSetView], paint: Paint) -> String {
    let mut table = Table::new(&["VERSION SET", "DIGEST", "CREATED BY", "CREATED", "BAKED IN", "PACKAGES"]);
    for set in sets {
        table.row([
            set.name.to_string(),
            set.digest.short(),
            set.created_by.to_string(),
            time(set.created_at),
            joined(set.baked_in.iter().map(ToString::to_string), " "),
            joined(set.packages.iter().map(id), " "),
        ]);
    }
    table.to_text("no version sets", paint)
}

pub fn version_set(set: &VersionSetView, paint: Paint) -> String {
    let mut text = format!(
        "{}\ndigest   {}\ncreated  {} by {}\nbaked    {}\n",
        paint.bold(set.name.as_str()),
        set.digest,
        time(set.created_at),
        set.created_by,
        joined(set.baked_in.iter().map(ToString::to_string), " ")
    );
    for package in &set.packages {
        let _ = writeln!(text, "  {}", id(package));
        for (platform, tree) in &package.trees {
            let _ = writeln!(text, "    {platform:<12} {}", tree.short());
        }
    }
    text
}

pub fn environments(environments: &[EnvironmentView], paint: Paint) -> String {
    let mut table = Table::new(&["ENVIRONMENT", "HOSTS", "AVAILABLE", "BAKED", "ACTIVE", "SELECTOR"]);
    for view in environments {
        table.row([
            view.name.to_string(),
            sum(&view.zones, |zone| zone.hosts).to_string(),
            sum(&view.zones, |zone| zone.available).to_string(),
            format!("{}{}", view.baked.name, others(view, paint)),
            view.active.map_or_else(|| "-".into(), |rollout| format!("rollout {rollout}")),
            selector(view),
        ]);
    }
    table.to_text("no environments", paint)
}

pub fn sum(zones: &[ZoneView], count: impl Fn(&ZoneView) -> u32) -> u64 {
    zones.iter().map(|zone| u64::from(count(zone))).sum()
}

/// Hosts that are not on the baked release, if there are any.
fn others(view: &EnvironmentView, paint: Paint) -> String {
    match sum(&view.zones, |zone| zone.off_baked) {
        0 => String::new(),
        others => paint.warn(&format!(" ({} on another)", prose::counted(others as u32, "host"))),
    }
}

fn selector(view: &EnvironmentView) -> String {
    if view.selector.is_empty() { "(every host)".into() } else { labels(&view.selector) }
}

pub fn environment(view: &EnvironmentView, paint: Paint) -> String {
    let mut text = format!(
        "{}\nselector  {}\nbaked     {}{}\nactive    {}\n",
        paint.bold(view.name.as_str()),
        selector(view),
        release(&view.baked),
        others(view, paint),
        view.active.map_or_else(|| "-".into(), |rollout| format!("rollout {rollout}")),
    );
    if !view.bad.is_empty() {
        let bad = joined(view.bad.iter().map(|release| release.name.to_string()), " ");
        let _ = writeln!(text, "bad       {}", paint.bad(&bad));
    }
    text.push('\n');
    text.push_str(&zones(&view.zones, paint));
    if !view.settings.0.is_empty() {
        let _ = writeln!(text, "\n{}", paint.dim("settings"));
        for (key, value) in &view.settings.0 {
            let _ = writeln!(text, "  {key} = {}", one_line(value));
        }
    }
    let _ = writeln!(text, "\n{}", paint.dim("policy"));
    for (key, value) in view.policy.fields() {
        let _ = writeln!(text, "  {key:<19} {}", value.as_deref().unwrap_or("-"));
    }
    text
}

pub fn zones(zones: &[ZoneView], paint: Paint) -> String {
    let mut table = Table::new(&["ZONE", "HOSTS", "IN SERVICE", "AVAILABLE", "FLOOR", "NOT ON BAKED"]);
    for zone in zones {
        table.row([
            zone.zone.to_string(),
            zone.hosts.to_string(),
            zone.in_service.to_string(),
            if zone.available < zone.in_service {
                paint.warn(&zone.available.to_string())
            } else {
                zone.available.to_string()
            },
            zone.floor.map_or_else(|| "-".into(), |floor| floor.to_string()),
            if zone.off_baked > 0 { paint.warn(&zone.off_baked.to_string()) } else { "-".into() },
        ]);
    }
    table.to_text("no hosts", paint)
}

/// A profile, with what of the default policy it changes.
pub fn profile(name: &str, about: &str, policy: &Policy, paint: Paint) -> String {
    let mut text = format!("{}  {about}\n", paint.bold(name));
    for (key, value) in profile_keys(policy) {
        let _ = writeln!(text, "  {key:<19} {value}");
    }
    text
}

/// What a policy has that the default one has not.
pub fn profile_keys(policy: &Policy) -> Vec<(String, String)> {
    let default = Policy::default().fields();
    let changed = policy.fields().into_iter().filter(|field| !default.contains(field));
    changed.map(|(key, value)| (key, value.unwrap_or_else(|| "-".into()))).collect()
}

/// What `environment apply` changed, or would change.
pub fn applied(name: &str, applied: &AppliedEnvironment, dry_run: bool, paint: Paint) -> String {
    let mut text = match (applied.created, applied.differences.is_empty(), dry_run) {
        (true, _, true) => format!("{name} would be created\n"),
        (true, _, false) => format!("{name} is created\n"),
        (false, true, _) => format!("{name} is so already\n"),
        (false, false, true) => format!("{name} would change\n"),
        (false, false, false) => format!("{name} is changed\n"),
    };
    for difference in &applied.differences {
        let line = match (&difference.before, &difference.after) {
            (Some(before), Some(after)) => {
                format!("{}  {} → {}", difference.field, one_line(before), one_line(after))
            }
            (None, Some(after)) => paint.good(&format!("{}  + {}", difference.field, one_line(after))),
            (Some(before), None) => paint.bad(&format!("{}  - {}", difference.field, one_line(before))),
            (None, None) => difference.field.clone(),
        };
        let _ = writeln!(text, "  {line}");
    }
    let mut hosts = format!("  {} selected", prose::counted(applied.hosts, "host"));
    if applied.joining > 0 {
        let _ = write!(hosts, ", {} of them new", applied.joining);
    }
    if applied.leaving > 0 {
        let _ = write!(hosts, ", {} no longer", applied.leaving);
    }
    text.push_str(&hosts);
    text.push('\n');
    text
}

/// A value that may have lines, on one.
fn one_line(value: &str) -> String {
    plain(value).replace('\n', "\\n")
}

/// How far an upload is.
pub fn progress(files: (u32, u32), sent: (u64, u64), took: std::time::Duration) -> String {
    let percent = if sent.1 == 0 { 100 } else { u128::from(sent.0) * 100 / u128::from(sent.1) };
    format!(
        "{percent:>3} %  {} of {}, {} of {} files, {}",
        bytes(sent.0),
        bytes(sent.1),
        files.0,
        files.1,
        Rough(took)
    )
}
