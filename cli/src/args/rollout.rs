//! Rollouts, and why they wait.

use std::time::Duration;

use clap::{Args, Subcommand};
use houston_common::command::RolloutRef;
use houston_common::digest::Digest;
use houston_common::id::{EnvironmentName, GateName, HostId, VersionSetName};

use super::{Reason, duration, rollout_ref};

#[derive(Debug, Clone, Args)]
pub struct RolloutChosen {
    /// An environment, for its newest rollout, or a rollout's number
    #[arg(value_name = "ENVIRONMENT|ID", value_parser = rollout_ref)]
    pub rollout: RolloutRef,
}

#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    pub chosen: RolloutChosen,
    #[command(flatten)]
    pub reason: Reason,
}

/// What a rollout would be.
#[derive(Debug, Clone, Args)]
pub struct DraftArgs {
    pub environment: EnvironmentName,
    /// What the environment is to run, with its own settings
    pub version_set: VersionSetName,
    /// Let a rollout that is active give way to this one
    #[arg(long)]
    pub supersede: bool,
    /// Offer again what runs already, or what was taken back
    #[arg(long)]
    pub force: bool,
    /// Let floors make way where otherwise no host could ever change
    #[arg(long)]
    pub allow_outage: bool,
    /// Roll out in this way, laid over the environment's policy; see `houston profile list`
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// A key of the policy for this rollout alone, as in batch=2 or bake.one_box=5m; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub keys: Vec<String>,
    /// A host to leave out, by its id or the part before the random end; may be repeated
    #[arg(long, value_name = "HOST")]
    pub exclude: Vec<HostId>,
}

#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub draft: DraftArgs,
    /// Start only what `rollout plan` has shown: the hash at its end
    #[arg(long, value_name = "HASH")]
    pub plan: Option<Digest>,
    /// Makes the command safe to repeat: a second one with the same key starts nothing
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Watch it
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Show what a rollout would do, wave by wave, and change nothing
    #[command(after_help = "\
Example:
  houston rollout plan prod web-42
  houston rollout start prod web-42 --plan HASH")]
    Plan(DraftArgs),
    /// Start a rollout of a version set
    #[command(after_help = "\
Example:
  houston rollout start prod web-42 --watch --reason 'release 42'")]
    Start(StartArgs),
    /// Show a rollout
    Status(RolloutChosen),
    /// Follow a rollout to its end
    #[command(after_help = "\
On a terminal the picture is redrawn in place; in a pipe there is one line per change.
Ctrl-C ends the watching, not the rollout.

Exit codes: 0 succeeded, 6 succeeded but for hosts that are named, 1 anything else")]
    Watch(RolloutChosen),
    /// Wait for a rollout's end, with one line per change of its state: for CI
    #[command(after_help = "\
Example:
  houston rollout wait prod --timeout 2h

Exit codes: 0 succeeded, 6 succeeded but for hosts that are named, 1 anything else or too late")]
    Wait {
        #[command(flatten)]
        chosen: RolloutChosen,
        /// Give up after this long [default: never]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Stop new grants, bakes and gates; what has begun goes on
    Pause(ChangeArgs),
    /// End a pause
    Resume(ChangeArgs),
    /// End a rollout and leave every host as it is
    Abort(ChangeArgs),
    /// Take a rollout back to what ran before it
    Rollback(ChangeArgs),
    /// Approve what a rollout waits for
    #[command(after_help = "\
Example:
  houston rollout approve prod --reason 'looked at the graphs'")]
    Approve {
        #[command(flatten)]
        change: ChangeArgs,
        /// Which gate [default: the one approval that is waited for]
        #[arg(long)]
        gate: Option<GateName>,
    },
    /// Pass over a gate, or the bake, that a rollout waits for
    #[command(after_help = "\
Examples:
  houston rollout skip prod bake --reason 'the fix cannot wait'
  houston rollout skip prod office-hours --reason 'agreed with the team'")]
    Skip {
        #[command(flatten)]
        chosen: RolloutChosen,
        /// A gate of the policy, or bake
        gate: GateName,
        /// Why; stays with the rollout
        #[arg(long)]
        reason: String,
    },
    /// List rollouts, newest first
    List {
        /// Only those of this environment
        environment: Option<EnvironmentName>,
        /// How many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  houston explain prod
  houston explain prod web-1")]
pub struct ExplainArgs {
    pub environment: EnvironmentName,
    /// The host's id, or its part before the random end [default: the environment as a whole]
    pub host: Option<HostId>,
}

/// Named ways of rolling out.
#[derive(Debug, Subcommand)]
pub enum ProfileVerb {
    /// List them, from the slowest to the fastest
    List,
    /// Show what one changes of the default policy
    Show { name: String },
}
