//! Packages, version sets, environments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use houston_common::command::{ApplyEnvironment, CreateVersionSet, RemovePackage};
use houston_common::error::{Code, Refusal};
use houston_common::id::Platform;
use houston_common::policy::Policy;
use houston_common::view::PackageId;
use serde_json::json;

use super::{DONE, Shell, confirmed, every};
use crate::args::{EnvironmentVerb, PackageVerb, ProfileVerb, TreeArgs, VersionSetVerb};
use crate::build::{BuiltPackage, build};
use crate::environment_file::profile;
use crate::toml_file::{self, Kept, shown};
use crate::{environment_file, prose, push, render};

pub async fn package(verb: PackageVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        PackageVerb::Build(trees) => {
            let built = built(trees)?;
            shell
                .console
                .answer(|| render::json::built(&built), |paint| render::release::built(&built, paint))?;
        }
        PackageVerb::Push { trees, reason } => {
            let built = built(trees)?;
            let client = shell.connect().await?;
            let (view, uploaded) = push::push(&client, &mut shell.console, built, reason.reason).await?;
            let (name, version) = (&view.package.name, &view.package.version);
            shell.console.answer(
                || {
                    let mut answer = render::json::package(&view);
                    answer["uploaded_files"] = uploaded.files.into();
                    answer["uploaded_bytes"] = uploaded.bytes.into();
                    answer
                },
                |paint| {
                    format!(
                        "{} is pushed: {} uploaded, {} of {}\n",
                        paint.bold(&format!("{name}@{version}")),
                        prose::counted(uploaded.files, "file"),
                        render::bytes(uploaded.bytes),
                        render::bytes(view.bytes)
                    )
                },
            )?;
        }
        PackageVerb::List => {
            let client = shell.connect().await?;
            let packages = every(async |page| client.list_packages(&page).await).await?;
            shell.console.answer(
                || render::json::list("packages", &packages, render::json::package),
                |paint| render::release::packages(&packages, paint),
            )?;
        }
        PackageVerb::Remove { package, reason } => {
            let request = RemovePackage { package: package.0, reason: reason.reason };
            shell.connect().await?.remove_package(&request).await?;
            let (name, version) = (request.package.name.as_str(), request.package.version.as_str());
            shell.console.answer(
                || json!({ "name": name, "version": version }),
                |_| format!("{name}@{version} is removed\n"),
            )?;
        }
    }
    Ok(DONE)
}

fn built(trees: TreeArgs) -> Result<BuiltPackage, Refusal> {
    let directories: Vec<(Platform, PathBuf)> =
        trees.trees.into_iter().map(|tree| (tree.platform, tree.directory)).collect();
    build(&directories)
}

/// A host runs one version of a package.
fn refuse_repeated(packages: &[PackageId]) -> Result<(), Refusal> {
    let mut seen = BTreeMap::new();
    for package in packages {
        if let Some(first) = seen.insert(&package.name, &package.version) {
            let (name, second) = (&package.name, &package.version);
            let what = format!("{name}@{first} and {name}@{second} are the same package");
            return Err(Refusal::new(Code::CliValue, what, "name one version of each package"));
        }
    }
    Ok(())
}

pub async fn version_set(verb: VersionSetVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        VersionSetVerb::Create { name, packages, reason } => {
            let packages: Vec<PackageId> = packages.into_iter().map(|package| package.0).collect();
            refuse_repeated(&packages)?;
            let request = CreateVersionSet { name, packages, reason: reason.reason };
            let set = shell.connect().await?.create_version_set(&request).await?;
            shell.console.answer(
                || render::json::version_set(&set),
                |_| format!("version set {} is {}\n", set.name, set.digest.short()),
            )?;
        }
        VersionSetVerb::List => {
            let client = shell.connect().await?;
            let sets = every(async |page| client.list_version_sets(&page).await).await?;
            shell.console.answer(
                || render::json::list("version_sets", &sets, render::json::version_set),
                |paint| render::release::version_sets(&sets, paint),
            )?;
        }
        VersionSetVerb::Show { name } => {
            let set = shell.connect().await?.get_version_set(&name).await?;
            shell.console.answer(
                || render::json::version_set(&set),
                |paint| render::release::version_set(&set, paint),
            )?;
        }
    }
    Ok(DONE)
}

pub async fn environment(verb: EnvironmentVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        EnvironmentVerb::Apply { file, dry_run, yes, reason } => {
            apply(shell, &file, dry_run, yes, reason.reason).await?;
        }
        EnvironmentVerb::List => {
            let client = shell.connect().await?;
            let environments = every(async |page| client.list_environments(&page).await).await?;
            shell.console.answer(
                || render::json::list("environments", &environments, render::json::environment),
                |paint| render::release::environments(&environments, paint),
            )?;
        }
        EnvironmentVerb::Show { environment } => {
            let view = shell.connect().await?.get_environment(&environment).await?;
            shell.console.answer(
                || render::json::environment(&view),
                |paint| render::release::environment(&view, paint),
            )?;
        }
    }
    Ok(DONE)
}

async fn apply(
    shell: &mut Shell<'_>,
    path: &Path,
    dry_run: bool,
    yes: bool,
    reason: String,
) -> Result<(), Refusal> {
    let file = environment_file::parse(&shown(path), &toml_file::read(path, Kept::Anywhere)?)?;
    let client = shell.connect().await?;
    let name = file.name.clone();
    let request = ApplyEnvironment {
        name: file.name,
        selector: file.selector,
        policy: file.policy,
        settings: file.settings,
        dry_run: true,
        reason,
    };
    // What would change is known before anything does.
    let mut applied = client.apply_environment(&request).await?;
    if !dry_run {
        if request.selector.is_empty() {
            confirmed(yes, &format!("{name} selects every host there is or will be"))?;
        }
        if applied.leaving > 0 {
            let leaving = prose::counted(applied.leaving, "host");
            confirmed(yes, &format!("{leaving} would leave {name} and keep running what they run"))?;
        }
        applied = client.apply_environment(&ApplyEnvironment { dry_run: false, ..request }).await?;
    }
    shell.console.answer(
        || render::json::applied(name.as_str(), &applied, dry_run),
        |paint| render::release::applied(name.as_str(), &applied, dry_run, paint),
    )?;
    if applied.hosts == 0 {
        shell.console.note(&format!("{name} selects no host yet"));
    }
    Ok(())
}

/// Profiles come with this program: no coordinator is asked.
pub fn profile(verb: &ProfileVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    let shown: Vec<(&str, String, Policy)> = match verb {
        ProfileVerb::List => profile::ALL.iter().map(told).collect::<Result<_, _>>()?,
        ProfileVerb::Show { name } => vec![told(profile::named(name)?)?],
    };
    let is_list = matches!(verb, ProfileVerb::List);
    shell.console.answer(
        || {
            let objects: Vec<_> = shown
                .iter()
                .map(|(name, about, policy)| render::json::profile(name, about, policy))
                .collect();
            if is_list {
                json!({ "profiles": objects })
            } else {
                objects.into_iter().next().unwrap_or_default()
            }
        },
        |paint| {
            shown
                .iter()
                .map(|(name, about, policy)| render::release::profile(name, about, policy, paint))
                .collect()
        },
    )?;
    Ok(DONE)
}

fn told(profile: &profile::Profile) -> Result<(&'static str, String, Policy), Refusal> {
    Ok((profile.name, profile.about()?, profile.over(Policy::default())?))
}
