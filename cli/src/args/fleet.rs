//! Contexts, tokens, operators, hosts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use houston_common::id::{EnvironmentName, HostId, LabelKey, OperatorName, Zone};
use houston_common::tls::{Address, ServerName};
use houston_common::view::RoleBinding;

use super::{ContextName, Label, Reason, duration, label, role, some_reason};

#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// Enter a coordinator; the first one becomes the current one
    #[command(after_help = "\
The credential is a directory with key.pem, certificate.pem and ca.pem, or one PEM file with all three,
the authority's certificate last. It is copied beside the context file.

Examples:
  houston context add prod --credential ./alice
  houston context add prod --credential alice.pem --address coordinator.example:7400")]
    Add {
        name: ContextName,
        /// Where the coordinator listens [default: what the credential's directory says]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<Address>,
        /// A directory or a PEM file with key, certificate and authority
        #[arg(long, value_name = "DIR|FILE")]
        credential: PathBuf,
        /// The name in the coordinator's certificate, where it is not the address's
        #[arg(long, value_name = "NAME")]
        server_name: Option<ServerName>,
        /// Replace the context if it exists
        #[arg(long)]
        replace: bool,
    },
    /// List the coordinators that this machine knows
    List,
    /// Make a context the current one
    Use { name: ContextName },
    /// Show a context, and whose credential it uses [default: the current one]
    Show { name: Option<ContextName> },
    /// Forget a context and its credential
    Remove {
        name: ContextName,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a join token; its text is shown once
    #[command(after_help = "\
Example:
  houston token create --zone a --label role=web --uses 10 --expires 1h > token

Standard output has the token and nothing else.")]
    Create {
        /// Zone of the hosts that enroll by it
        #[arg(long)]
        zone: Zone,
        /// A label of the hosts that enroll by it; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<Label>,
        /// How many hosts may enroll by it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// How long it can be used
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        expires: Duration,
        /// Its hosts are forgotten when they have been silent for long
        #[arg(long)]
        ephemeral: bool,
        #[command(flatten)]
        reason: Reason,
    },
    /// List the tokens that can still be used
    List,
    /// Make a token unusable
    Revoke {
        /// The token's id, as `token list` shows it
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Enter an operator: makes a key here, has it certified, writes a credential directory
    #[command(after_help = "\
Roles: viewer, deployer, approver, admin; each may do what the ones before it may.

Example:
  houston operator add bob --role deployer@staging --role viewer --directory ./bob")]
    Add {
        name: OperatorName,
        /// What it may do; may be repeated
        #[arg(long = "role", required = true, value_name = "ROLE[@ENVIRONMENT]", value_parser = role)]
        roles: Vec<RoleBinding>,
        /// Where to write key.pem, certificate.pem and ca.pem; must not exist [default: ./NAME]
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        reason: Reason,
    },
    /// List the operators, the revoked ones included
    List,
    /// End an operator's access, open connections included
    Revoke {
        name: OperatorName,
        /// Do it
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        reason: Reason,
    },
}

/// A host, by its id or by the part before the id's random end where that is unique.
#[derive(Debug, Clone, Args)]
pub struct HostChosen {
    /// The host's id, or its part before the random end
    pub host: HostId,
    #[command(flatten)]
    pub reason: Reason,
}

#[derive(Debug, Subcommand)]
pub enum HostVerb {
    /// List hosts
    #[command(after_help = "\
Example:
  houston host list --environment prod --zone a
  houston host list --held")]
    List {
        /// Only those of this environment
        #[arg(long)]
        environment: Option<EnvironmentName>,
        /// Only those of this zone
        #[arg(long)]
        zone: Option<Zone>,
        /// Only those with this label; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<Label>,
        /// Only those that take no change, with why, by whom and for how long still
        #[arg(long)]
        held: bool,
    },
    /// Show one host
    Show {
        /// The host's id, or its part before the random end
        host: HostId,
    },
    /// Set or remove labels, or move the host to another zone
    #[command(after_help = "\
Example:
  houston host label web-1 role=web tier=2 --remove old --zone b")]
    Label {
        /// The host's id, or its part before the random end
        host: HostId,
        /// Labels to set
        #[arg(value_name = "KEY=VALUE", value_parser = label)]
        set: Vec<Label>,
        /// A label to remove; may be repeated
        #[arg(long, value_name = "KEY")]
        remove: Vec<LabelKey>,
        /// The zone that it is in
        #[arg(long)]
        zone: Option<Zone>,
        #[command(flatten)]
        reason: Reason,
    },
    /// Count the host as unavailable and grant it nothing
    Drain(HostChosen),
    /// Use a drained host again
    Undrain(HostChosen),
    /// Let the host take no change; it serves all the same
    #[command(after_help = "\
Example:
  houston host hold web-1 --reason 'we look at its disk' --for 2h

What the host was granted before runs on. `houston host release` ends the hold, and --for does so by itself.")]
    Hold {
        /// The host's id, or its part before the random end
        host: HostId,
        /// Why: whoever asks why the host does not change is told
        #[arg(long, value_name = "TEXT", value_parser = some_reason)]
        reason: String,
        /// How long [default: until it is released]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,
    },
    /// Let the host change again: ends a hold, the penalty box and being left out of a rollout
    Release(HostChosen),
    /// End the host's access; it keeps running what it runs
    Revoke {
        #[command(flatten)]
        chosen: HostChosen,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Revoke the host and forget it
    Remove {
        #[command(flatten)]
        chosen: HostChosen,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}
