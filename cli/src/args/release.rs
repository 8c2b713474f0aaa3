//! Packages, version sets, environments.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, Platform, VersionSetName, quoted};
use houston_common::view::PackageId;

use super::{Reason, named};

/// `DIR`, or `PLATFORM=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeArg {
    pub platform: Platform,
    pub directory: PathBuf,
}

impl FromStr for TreeArg {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        // A directory whose name has a `=` is written with a `./` before it.
        match text.split_once('=') {
            Some((platform, directory)) if !platform.contains('/') => {
                Ok(Self { platform: named(platform)?, directory: directory.into() })
            }
            _ => Ok(Self { platform: Platform::any(), directory: text.into() }),
        }
    }
}

/// `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageArg(pub PackageId);

impl FromStr for PackageArg {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let Some((name, version)) = text.split_once('@') else {
            let what = format!("\"{}\" is no package version", quoted(text));
            return Err(Refusal::new(Code::CliValue, what, "write NAME@VERSION"));
        };
        Ok(Self(PackageId { name: named(name)?, version: named(version)? }))
    }
}

#[derive(Debug, Clone, Args)]
pub struct TreeArgs {
    /// A directory with a houston.toml, for all platforms or for one (linux-amd64=DIR)
    #[arg(required = true, value_name = "[PLATFORM=]DIR")]
    pub trees: Vec<TreeArg>,
}

#[derive(Debug, Subcommand)]
pub enum PackageVerb {
    /// Check directories as a host would, and show the package that they make; pushes nothing
    #[command(after_help = "\
Example:
  houston package build linux-amd64=./out/amd64 linux-arm64=./out/arm64")]
    Build(TreeArgs),
    /// Build, and upload what the coordinator lacks
    #[command(after_help = "\
Example:
  houston package push ./build/web --reason 'release 1.4.2'")]
    Push {
        #[command(flatten)]
        trees: TreeArgs,
        #[command(flatten)]
        reason: Reason,
    },
    /// List packages
    List,
    /// Remove a package version that no version set refers to
    Remove {
        #[arg(value_name = "NAME@VERSION")]
        package: PackageArg,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(Debug, Subcommand)]
pub enum VersionSetVerb {
    /// Name a list of packages, in the order in which their services start
    #[command(after_help = "\
Example:
  houston version-set create web-42 tls-proxy@3.0.1 web@1.4.2")]
    Create {
        name: VersionSetName,
        #[arg(required = true, value_name = "NAME@VERSION")]
        packages: Vec<PackageArg>,
        #[command(flatten)]
        reason: Reason,
    },
    /// List version sets, newest first
    List,
    /// Show one version set
    Show { name: VersionSetName },
}

#[derive(Debug, Subcommand)]
pub enum EnvironmentVerb {
    /// Make an environment what a file says, and show what changes
    #[command(after_help = "\
A change of policy or settings takes effect with the next rollout.

Example:
  houston environment apply prod.toml --dry-run")]
    Apply {
        file: PathBuf,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Apply also where hosts leave the environment, or where every host is selected
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reason: Reason,
    },
    /// List environments
    List,
    /// Show one environment
    Show { environment: EnvironmentName },
}
