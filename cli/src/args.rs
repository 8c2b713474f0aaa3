//! What may be typed. Values become their types here or are refused; meaning and effects come later.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use houston_common::clock::parse_duration;
use houston_common::command::RolloutRef;
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::{EnvironmentName, LabelKey, LabelValue, RolloutId, is_plain, quoted};
use houston_common::view::{Role, RoleBinding};

mod demo;
mod fleet;
mod release;
mod rollout;

pub use demo::{DemoArgs, DemoServiceArgs};
pub use fleet::{ContextVerb, HostChosen, HostVerb, OperatorVerb, TokenVerb};
pub use release::{EnvironmentVerb, PackageArg, PackageVerb, TreeArg, TreeArgs, VersionSetVerb};
pub use rollout::{ChangeArgs, DraftArgs, ExplainArgs, ProfileVerb, RolloutChosen, RolloutVerb, StartArgs};

/// Houston deploys version sets to a fleet, zone by zone, and takes back what goes wrong.
#[derive(Debug, Parser)]
#[command(
    name = "houston",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  houston context add prod --credential ./alice
  houston package push ./build/web
  houston version-set create web-42 web@1.4.2 tls-proxy@3.0.1
  houston environment apply prod.toml
  houston rollout start prod web-42 --watch
  houston explain prod web-1

Exit codes: 0 done, 1 failed or taken back, 2 usage, 3 refused, 4 conflict, 5 unreachable, 6 partial"
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Which coordinator, by its name in the context file [default: the current one]
    #[arg(long, global = true, env = "HOUSTON_CONTEXT", hide_env_values = true, value_name = "NAME")]
    pub context: Option<ContextName>,
    /// The context file [default: ~/.config/houston/contexts.toml]
    #[arg(long, global = true, env = "HOUSTON_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Text for people, or JSON with keys that stay
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// Whether to colour: auto colours on a terminal unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Coordinators that this machine knows
    #[command(subcommand)]
    Context(ContextVerb),
    /// Join tokens for new hosts
    #[command(subcommand)]
    Token(TokenVerb),
    /// People and programs that may give orders
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Machines with an agent
    #[command(subcommand)]
    Host(HostVerb),
    /// Named, versioned files with a tree per platform
    #[command(subcommand)]
    Package(PackageVerb),
    /// Packages that belong together
    #[command(subcommand)]
    VersionSet(VersionSetVerb),
    /// Groups of hosts, and how they are changed
    #[command(subcommand)]
    Environment(EnvironmentVerb),
    /// Changes of an environment, paced
    #[command(subcommand)]
    Rollout(RolloutVerb),
    /// Named ways of rolling out, for `profile` in an environment file and `rollout start --profile`
    #[command(subcommand)]
    Profile(ProfileVerb),
    /// Why an environment, or one host of it, is not changing
    Explain(ExplainArgs),
    /// Who you are to the coordinator, and which one it is
    Whoami,
    /// See it work: a coordinator, a fleet and three releases, on this machine alone
    Demo(DemoArgs),
    /// The service that the demo deploys
    #[command(hide = true)]
    DemoService(DemoServiceArgs),
}

/// The name of an entry of the context file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextName(Box<str>);

impl ContextName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ContextName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ContextName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        // The rule of environments: people name contexts after them, and it is safe in a path.
        match text.parse::<EnvironmentName>() {
            Ok(_) => Ok(Self(text.into())),
            Err(error) => {
                let what = format!("a context's name must match {}, got \"{}\"", error.allowed, error.got);
                Err(Refusal::new(Code::Name, what, ""))
            }
        }
    }
}

/// Why, for the audit log.
#[derive(Debug, Clone, Args)]
pub struct Reason {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = reason)]
    pub reason: String,
}

/// Most characters of a reason: it is one line of a log.
const REASON_CHARS_MAX: usize = 500;

/// A reason that must be given.
fn some_reason(text: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(Code::CliValue, "the reason is empty", "say why"));
    }
    reason(text)
}

fn reason(text: &str) -> Result<String, Refusal> {
    let refuse = |what: String| Err(Refusal::new(Code::CliValue, what, "write one line"));
    if text.chars().count() > REASON_CHARS_MAX {
        return refuse(format!("the reason has more than {REASON_CHARS_MAX} characters"));
    }
    if !text.chars().all(is_plain) {
        return refuse(format!("the reason \"{}\" has characters that are not shown", quoted(text)));
    }
    Ok(text.to_owned())
}

/// `KEY=VALUE`
pub type Label = (LabelKey, LabelValue);

fn label(text: &str) -> Result<Label, Refusal> {
    let Some((key, value)) = text.split_once('=') else {
        let what = format!("\"{}\" is no label", quoted(text));
        return Err(Refusal::new(Code::CliValue, what, "write KEY=VALUE"));
    };
    Ok((named(key)?, named(value)?))
}

fn named<T: FromStr<Err = houston_common::id::InvalidName>>(text: &str) -> Result<T, Refusal> {
    text.parse()
        .map_err(|error: houston_common::id::InvalidName| Refusal::new(Code::Name, error.to_string(), ""))
}

fn duration(text: &str) -> Result<Duration, Refusal> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(Refusal::new(Code::Duration, "a duration of 0 is not possible here", "")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(Refusal::new(Code::Duration, error.to_string(), "write 5s, 5m or 5h")),
    }
}

/// `ROLE` or `ROLE@ENVIRONMENT`
fn role(text: &str) -> Result<RoleBinding, Refusal> {
    let (word, environment) = match text.split_once('@') {
        Some((word, environment)) => (word, Some(named(environment)?)),
        None => (text, None),
    };
    let known = Role::ALL.map(Role::as_str);
    match Role::ALL.into_iter().find(|role| role.as_str() == word) {
        Some(role) => Ok(RoleBinding { role, environment }),
        None => {
            let next = match nearest(word, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("roles: {}", known.join(", ")),
            };
            Err(Refusal::new(Code::CliValue, format!("there is no role \"{}\"", quoted(word)), next))
        }
    }
}

/// A number is a rollout's id, anything else an environment whose newest rollout is meant.
fn rollout_ref(text: &str) -> Result<RolloutRef, Refusal> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse() {
            Ok(id) if id > 0 => Ok(RolloutRef::Id(RolloutId(id))),
            _ => Err(Refusal::new(Code::CliValue, format!("\"{}\" is no rollout's id", quoted(text)), "")),
        };
    }
    named(text).map(RolloutRef::NewestOf)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_rollout_is_a_number_or_an_environment() {
        assert_eq!(rollout_ref("17"), Ok(RolloutRef::Id(RolloutId(17))));
        assert_eq!(rollout_ref("prod"), Ok(RolloutRef::NewestOf("prod".parse().expect("name"))));
        for bad in ["0", "99999999999999999999", "", "Prod", "-1"] {
            assert!(rollout_ref(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_may_be_bound_to_an_environment() {
        let bound = role("deployer@prod").expect("role");
        assert_eq!((bound.role, bound.environment.expect("bound").as_str()), (Role::Deployer, "prod"));
        assert_eq!(role("admin").expect("role").environment, None);
        assert_eq!(
            role("depolyer").expect_err("typing mistake").to_string(),
            "E-CLI-VALUE: there is no role \"depolyer\"; did you mean \"deployer\"?"
        );
    }
}
