//! Packages and version sets.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use houston_common::clock::WallTime;
use houston_common::command::{
    CreateVersionSet, EMPTY_VERSION_SET, PackageFinish, Page, Paged, RemovePackage,
};
use houston_common::digest::TreeDigest;
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::{PackageName, Version, VersionSetName};
use houston_common::release::{PACKAGES_MAX, PackageVersion, VersionSet};
use houston_common::view::{PackageId, PackageView, VersionSetView};

use super::{Caller, Change, bad_page, page, views};
use crate::catalog::{NamedSet, Package};
use crate::engine::core::Decided;
use crate::state::{Edit, State};

/// Version sets shown when one was not found.
const NEWEST_SHOWN: usize = 5;

/// Enters a package whose trees, of `bytes` bytes, are all stored: the caller has seen to that. The same
/// contents again change nothing. E-PACKAGE-EXISTS.
pub fn commit_package(
    state: &State,
    caller: &Caller,
    request: &PackageFinish,
    bytes: u64,
    wall: WallTime,
) -> Result<Decided<PackageId>, Refusal> {
    let PackageFinish { package, reason } = request;
    let id = PackageId { name: package.name.clone(), version: package.version.clone() };
    if let Some(there) = state.catalog.packages.get(&(id.name.clone(), id.version.clone())) {
        if there.package.trees == package.trees {
            return Ok(Decided::nothing(id));
        }
        return Err(Refusal::new(
            Code::PackageExists,
            format!("{} {} exists with other contents, pushed by {}", id.name, id.version, there.pushed_by),
            "packages never change: push yours as another version",
        ));
    }
    let change = Change {
        what: format!("package.push {} {}", id.name, id.version),
        why: reason,
        before: String::new(),
        after: trees_text(package),
    };
    let entered =
        Package { package: package.clone(), bytes, pushed_by: caller.name.clone(), pushed_at: wall };
    Ok(caller.change(vec![Edit::Package(entered)], change, id))
}

/// E-PACKAGE-UNKNOWN, E-PACKAGE-IN-USE.
pub fn remove_package(
    state: &State,
    caller: &Caller,
    request: &RemovePackage,
) -> Result<Decided<()>, Refusal> {
    let PackageId { name, version } = &request.package;
    let there = package(state, name, version)?;
    let users = users(state).remove(&(name, version)).unwrap_or_default();
    if let Some(first) = users.first() {
        let more = users.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Refusal::new(
            Code::PackageInUse,
            format!("version set {first}{more} names {name} {version}"),
            "what a version set names is kept",
        ));
    }
    let change = Change {
        what: format!("package.remove {name} {version}"),
        why: &request.reason,
        before: trees_text(&there.package),
        after: String::new(),
    };
    Ok(caller.change(vec![Edit::ForgetPackage(name.clone(), version.clone())], change, ()))
}

/// E-PACKAGE-UNKNOWN.
pub fn get_package(state: &State, id: &PackageId) -> Result<PackageView, Refusal> {
    let there = package(state, &id.name, &id.version)?;
    let used_by = users(state).remove(&(&id.name, &id.version)).unwrap_or_default();
    Ok(views::package(there, used_by))
}

/// By name and version. E-FIELD for a page token of another list.
pub fn list_packages(state: &State, request: &Page) -> Result<Paged<PackageView>, Refusal> {
    let after: Option<(PackageName, Version)> = match &request.token {
        Some(token) => Some(package_key(token).ok_or_else(|| bad_page(token))?),
        None => None,
    };
    let mut users = users(state);
    let items = state.catalog.packages.iter().map(|(key, package)| {
        let used_by = users.remove(&(&key.0, &key.1)).unwrap_or_default();
        (key.clone(), views::package(package, used_by))
    });
    Ok(page(request, items, after.as_ref(), views::package_bytes, |(name, version)| {
        format!("{name} {version}")
    }))
}

fn package_key(token: &str) -> Option<(PackageName, Version)> {
    let (name, version) = token.split_once(' ')?;
    Some((name.parse().ok()?, version.parse().ok()?))
}

/// Names a list of packages. The same name with the same contents again changes nothing.
/// E-NAME, E-FIELD, E-LIMIT, E-PACKAGE-UNKNOWN, E-VER-EXISTS.
pub fn create_set(
    state: &State,
    caller: &Caller,
    request: &CreateVersionSet,
    wall: WallTime,
) -> Result<Decided<VersionSetName>, Refusal> {
    let CreateVersionSet { name, packages, reason } = request;
    if name.as_str() == EMPTY_VERSION_SET {
        let what = format!("the name \"{EMPTY_VERSION_SET}\" belongs to the set that uninstalls");
        return Err(Refusal::new(Code::Name, what, "choose another name"));
    }
    let set = VersionSet { packages: contents(state, packages)? };
    let digest = set.digest();
    if let Some(there) = state.catalog.set_named(name) {
        if there.set.digest() == digest {
            return Ok(Decided::nothing(name.clone()));
        }
        let what = format!("version set {name} exists with other contents, created by {}", there.created_by);
        return Err(Refusal::new(
            Code::VersionSetExists,
            what,
            "version sets never change: choose another name",
        ));
    }
    if let Some(same) = state.catalog.set(&digest) {
        let what = format!("version set {} has the same contents", same.name);
        return Err(Refusal::new(Code::VersionSetExists, what, format!("use {}", same.name)));
    }
    let change = Change {
        what: format!("version_set.create {name}"),
        why: reason,
        before: String::new(),
        after: packages
            .iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let named = NamedSet {
        name: name.clone(),
        set: Arc::new(set),
        created_by: caller.name.clone(),
        created_at: wall,
    };
    Ok(caller.change(vec![Edit::VersionSet(named)], change, name.clone()))
}

fn contents(state: &State, packages: &[PackageId]) -> Result<Vec<PackageVersion>, Refusal> {
    if packages.is_empty() {
        let next = format!("the set without packages is \"{EMPTY_VERSION_SET}\" and exists already");
        return Err(Refusal::new(Code::Field, "the version set names no package", next));
    }
    if packages.len() > PACKAGES_MAX {
        let what =
            format!("the version set names {} packages, at most {PACKAGES_MAX} are allowed", packages.len());
        return Err(Refusal::new(Code::Limit, what, "split it over several environments"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = packages.iter().find(|package| !seen.insert(&package.name)) {
        let what = format!("the version set names package \"{}\" twice", twice.name);
        return Err(Refusal::new(Code::Field, what, "name one version of each package"));
    }
    let known = packages.iter().map(|id| package(state, &id.name, &id.version));
    known.map(|known| known.map(|known| known.package.clone())).collect()
}

/// E-VER-UNKNOWN.
pub fn get_set(state: &State, name: &VersionSetName) -> Result<VersionSetView, Refusal> {
    if name.as_str() == EMPTY_VERSION_SET {
        return Ok(views::empty_set(state, name.clone()));
    }
    set_named(state, name).map(|set| views::version_set(state, set))
}

/// Newest first; the empty set, which is no older than any, is left out. E-FIELD for a page token of
/// another list.
pub fn list_sets(state: &State, request: &Page) -> Result<Paged<VersionSetView>, Refusal> {
    let after: Option<(Reverse<WallTime>, VersionSetName)> = match &request.token {
        Some(token) => Some(set_key(token).ok_or_else(|| bad_page(token))?),
        None => None,
    };
    let items = newest_first(state).into_iter().map(|(key, set)| (key, views::version_set(state, set)));
    let token = |(at, name): &(Reverse<WallTime>, VersionSetName)| format!("{} {name}", at.0.0);
    Ok(page(request, items, after.as_ref(), views::version_set_bytes, token))
}

fn set_key(token: &str) -> Option<(Reverse<WallTime>, VersionSetName)> {
    let (at, name) = token.split_once(' ')?;
    Some((Reverse(WallTime(at.parse().ok()?)), name.parse().ok()?))
}

fn newest_first(state: &State) -> BTreeMap<(Reverse<WallTime>, VersionSetName), &NamedSet> {
    state.catalog.sets().map(|set| ((Reverse(set.created_at), set.name.clone()), set)).collect()
}

/// E-VER-UNKNOWN, with the nearest name and the newest ones. The empty set is nobody's record: it is
/// not found here.
pub(super) fn set_named<'a>(state: &'a State, name: &VersionSetName) -> Result<&'a NamedSet, Refusal> {
    state.catalog.set_named(name).ok_or_else(|| {
        let newest: Vec<&str> =
            newest_first(state).values().take(NEWEST_SHOWN).map(|set| set.name.as_str()).collect();
        let near = nearest(name.as_str(), state.catalog.sets().map(|set| set.name.as_str()));
        let newest = if newest.is_empty() {
            "there is none: make one with `houston version-set create`".to_owned()
        } else {
            format!("newest: {}", newest.join(", "))
        };
        let next = match near {
            Some(near) => format!("did you mean \"{near}\"? {newest}"),
            None => newest,
        };
        Refusal::new(Code::VersionSetUnknown, format!("no version set \"{name}\""), next)
    })
}

fn package<'a>(state: &'a State, name: &PackageName, version: &Version) -> Result<&'a Package, Refusal> {
    let packages = &state.catalog.packages;
    packages.get(&(name.clone(), version.clone())).ok_or_else(|| {
        let versions =
            || packages.keys().filter(|(other, _)| other == name).map(|(_, version)| version.as_str());
        let next = if versions().next().is_none() {
            match nearest(name.as_str(), packages.keys().map(|(name, _)| name.as_str())) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "push it with `houston package push`".to_owned(),
            }
        } else {
            match nearest(version.as_str(), versions()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "list its versions with `houston package list`".to_owned(),
            }
        };
        Refusal::new(Code::PackageUnknown, format!("no package {name} {version}"), next)
    })
}

/// The names of the version sets that name each package.
fn users(state: &State) -> BTreeMap<(&PackageName, &Version), Vec<VersionSetName>> {
    let mut users: BTreeMap<_, Vec<VersionSetName>> = BTreeMap::new();
    for set in state.catalog.sets() {
        for package in &set.set.packages {
            users.entry((&package.name, &package.version)).or_default().push(set.name.clone());
        }
    }
    users
}

/// Trees that must be kept: those of every package and of every version set, and so of everything
/// that any host is told.
pub fn referenced_trees(state: &State) -> HashSet<TreeDigest> {
    let packages = state.catalog.packages.values().map(|package| &package.package);
    let in_sets = state.catalog.sets().flat_map(|set| &set.set.packages);
    packages.chain(in_sets).flat_map(|package| package.trees.values().copied()).collect()
}

fn trees_text(package: &PackageVersion) -> String {
    let trees = package.trees.iter().map(|(platform, tree)| format!("{platform} {tree}"));
    trees.collect::<Vec<_>>().join(", ")
}
