//! A package: an immutable name, version and one tree per platform. Each tree has a `houston.toml`
//! at its root that says how the package is started, stopped and proved. `docs/package.md` is the
//! reference for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::digest::{Digest, FileDigest};
use crate::error::{Code, Refusal};
use crate::id::{PackageName, ServiceName, SettingKey, Version, quoted};
use crate::manifest::{FileMode, Manifest, Node};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{
    COMMAND_BYTES_MAX, PACKAGE_FILE_BYTES_MAX, PORTS_MAX, RESTART_WITH_MAX, SERVICES_MAX,
    SETTING_DEFAULT_BYTES_MAX, VARIABLES_MAX, is_reserved,
};

/// The file at the root of every tree.
pub const PACKAGE_FILE: &str = "houston.toml";

/// What a tree's own `houston.toml` says, if the tree can keep its word: the bytes are the file that
/// the manifest names, they are valid, and every hook, service and probe that is a program of the
/// tree is there and executable. Build and hosts ask this same question, so that a build refuses what
/// a host would refuse.
pub fn check_tree(manifest: &Manifest, package_file: &[u8]) -> Result<PackageFile, Refusal> {
    let next = format!("put a plain file {PACKAGE_FILE} at the root of the tree");
    match manifest.get(PACKAGE_FILE) {
        Some(Node::File { length, digest, .. }) => {
            if *length != package_file.len() as u64 || *digest != FileDigest(Digest::of(package_file)) {
                let what = format!("{PACKAGE_FILE} is not the file that the manifest names");
                return Err(Refusal::new(Code::FileDigest, what, "build the package again"));
            }
        }
        Some(_) => {
            return Err(Refusal::new(
                Code::PackageSyntax,
                format!("{PACKAGE_FILE} is not a plain file"),
                next,
            ));
        }
        None => {
            return Err(Refusal::new(Code::PackageSyntax, format!("the tree has no {PACKAGE_FILE}"), next));
        }
    }
    let package = PackageFile::parse(package_file)?;
    package.validate_against(manifest)?;
    Ok(package)
}

/// What a tree's `houston.toml` says, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    pub name: PackageName,
    pub version: Version,
    pub hooks: BTreeMap<HookPhase, Hook>,
    /// In the order in which they start; stopped in reverse.
    pub services: Vec<Service>,
    pub settings: Vec<SettingNeed>,
    pub secrets: Vec<SecretNeed>,
    /// Packages of the same set whose change restarts this one too.
    pub restart_with: Vec<PackageName>,
}

impl PackageFile {
    /// Reads the text of a `houston.toml`. A refusal says line and column.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        parse::parse(text)
    }

    /// Refuses a command whose program should be in the tree and is not there, or is not executable.
    /// Programs of the host cannot be judged here.
    pub fn validate_against(&self, manifest: &Manifest) -> Result<(), Refusal> {
        for (phase, hook) in &self.hooks {
            check_program(&hook.command, manifest, || format!("hook \"{phase}\""))?;
        }
        for service in &self.services {
            check_program(&service.command, manifest, || format!("service \"{}\"", service.name))?;
            let Health::Checks(checks) = &service.health else { continue };
            for check in checks {
                let Probe::Command(command) = &check.probe else { continue };
                check_program(command, manifest, || {
                    format!("a health check of service \"{}\"", service.name)
                })?;
            }
        }
        Ok(())
    }
}

fn check_program(command: &Command, manifest: &Manifest, whose: impl Fn() -> String) -> Result<(), Refusal> {
    let program = &command.program;
    let refuse = |what: &str, next: &str| {
        let what = format!("{} names \"{}\", which {what}", whose(), quoted(program));
        Err(Refusal::new(Code::HookMissing, what, next))
    };
    if program.starts_with('/') || (!program.contains('/') && manifest.get(program).is_none()) {
        return Ok(());
    }
    match manifest.follow(program) {
        None => refuse("is not in the tree", "add it to the tree or correct the path"),
        Some(Node::File { mode: FileMode::Executable, .. }) => Ok(()),
        Some(Node::File { mode: FileMode::Plain, .. }) => {
            refuse("is not executable", "make it executable (chmod +x)")
        }
        Some(Node::Directory | Node::Link { .. }) => refuse("is not a file", "name a program"),
    }
}

/// When a hook runs. The order here is the order of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPhase {
    /// Ends prepare. May refuse, changes nothing.
    Check,
    /// Starts `Stopping`: take the host out of traffic.
    Drain,
    Stop,
    Start,
    /// Follows `Proving`: bring the host back into traffic.
    Resume,
    /// On entering `Settled`, `Reverted` or `Failed`.
    Cleanup,
}

impl HookPhase {
    /// Its key in `houston.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Resume => "resume",
            Self::Cleanup => "cleanup",
        }
    }
}

impl fmt::Display for HookPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub command: Command,
    /// At most [`HOOK_TIMEOUT_MAX`]. Absent, it is [`HOOK_TIMEOUT_DEFAULT`], or what is left to the
    /// activation if that is less.
    pub timeout: Option<Duration>,
    /// The agent's own user if absent.
    pub user: Option<String>,
    /// Whether the hook may run again after a crash in its middle. If not, the crash reverts.
    pub rerun: bool,
}

/// A program with its arguments. A relative program with a `/` (or without one, if the tree has it)
/// is a path inside the tree; anything else is looked up in a fixed PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: String,
    pub arguments: Vec<String>,
}

pub const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// An hour: longer work does not belong into the middle of an activation.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: ServiceName,
    pub command: Command,
    pub user: Option<String>,
    pub restart: Restart,
    /// TCP ports that it listens on: claimed on the host, so that two environments cannot share one.
    pub ports: Vec<u16>,
    pub limits: Limits,
    /// After TERM, until KILL of the whole cgroup.
    pub stop_grace: Duration,
    pub health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// Resource limits of a service; absent means the host's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub open_files: Option<u64>,
    pub processes: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub core_bytes: Option<u64>,
}

/// How a service is known to be well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Every check must pass.
    Checks(Vec<HealthCheck>),
    /// Its process runs; said in so many words by `health = "process-only"`.
    ProcessOnly,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// From the end of one probe to the start of the next.
    pub interval: Duration,
    pub timeout: Duration,
    /// Passes in a row after which the check holds.
    pub healthy_after: u32,
    /// Failures in a row after which the check fails.
    pub unhealthy_after: u32,
    /// Failures this soon after a start do not count.
    pub start_grace: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET on the loopback address; any 2xx passes, redirects do not.
    Http {
        port: u16,
        path: String,
        expect_body: Option<String>,
    },
    Tcp {
        port: u16,
    },
    /// Passes if it exits 0 within the timeout.
    Command(Command),
}

/// A setting that the package is given in its hooks' and services' environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingNeed {
    pub key: SettingKey,
    /// If absent, an environment without the key fails prepare.
    pub default: Option<String>,
}

/// A file that must be on the host; its path is given in the variable. Houston never reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNeed {
    /// The environment variable that carries the path.
    pub variable: SettingKey,
    /// Absolute path on the host.
    pub file: String,
}
