//! `houston-agent`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use houston_agent::config::Config;
use houston_agent::enroll::{self, Request};
use houston_agent::host::exec::{self, ExecProgram};
use houston_agent::run::{self, Leave};
use houston_agent::{inventory, status};
use houston_common::disk::require_lasting;
use houston_common::error::{Code, Refusal};
use houston_common::id::HostId;
use houston_common::tls::Address;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

/// Long enough for a sentence that a probe of a command still has to say; nothing depends on it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Probes of commands and name lookups; each waits for something else.
const BLOCKING_THREADS_MAX: usize = 64;

/// Runs on every host: pulls what the host should run, applies it, proves it healthy.
#[derive(Debug, Parser)]
#[command(name = "houston-agent", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make this machine a host of a coordinator.
    Enroll(Enroll),
    /// Run the agent of an enrolled host.
    Run {
        #[command(flatten)]
        state: State,
        /// TOML. Without it the defaults hold.
        #[arg(long)]
        config: Option<PathBuf>,
        /// For demos and tests: ends when its standard input does, and stops its services.
        #[arg(long, hide = true)]
        trial: bool,
    },
    /// What this host believes, from its files.
    Status {
        #[command(flatten)]
        state: State,
    },
    /// Starts hooks and services. For the agent itself.
    #[command(hide = true)]
    Exec,
}

#[derive(Debug, Args)]
struct State {
    /// The agent's state.
    #[arg(long, default_value = "/var/lib/houston")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct Enroll {
    #[command(flatten)]
    state: State,
    /// HOST:PORT of the coordinator's enrollment listener.
    #[arg(long)]
    coordinator: Address,
    /// The join token. Other users of this machine can see arguments: prefer --token-file or
    /// HOUSTON_JOIN_TOKEN.
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the join token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The name that the host would like; by default the machine's own.
    #[arg(long)]
    name: Option<HostId>,
    /// Replace a host that has enrolled here before. What runs keeps running.
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Exec => return exec::run(),
        Verb::Enroll(asked) => enroll_host(asked),
        Verb::Run { state, config, trial } => run_agent(&state.directory, config.as_deref(), trial),
        Verb::Status { state } => status::status(&state.directory),
    };
    match done {
        Ok(text) => {
            // Whoever closed it does not want it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            let _ = writeln!(std::io::stderr(), "{refusal}");
            ExitCode::from(refusal.code.exit() as u8)
        }
    }
}

fn enroll_host(asked: Enroll) -> Result<String, Refusal> {
    log("warn");
    let request = Request {
        token: token(asked.token, asked.token_file.as_deref())?.parse()?,
        coordinator: asked.coordinator,
        suggested_host: asked.name.or_else(inventory::suggested_host),
        force: asked.force,
    };
    let directory = asked.state.directory;
    let record = runtime()?.block_on(enroll::enroll(&directory, request))?;
    Ok(format!("enrolled as {} in zone {}\n", record.host, record.zone))
}

fn token(given: Option<String>, file: Option<&Path>) -> Result<String, Refusal> {
    if let Some(path) = file {
        return std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read the join token's file {}: {error}", path.display());
            Refusal::new(Code::ConfigFile, what, "name a file that holds the token alone")
        });
    }
    given.or_else(|| std::env::var("HOUSTON_JOIN_TOKEN").ok()).ok_or_else(|| {
        let next = "give it by --token-file or in HOUSTON_JOIN_TOKEN; `houston token create` makes one";
        Refusal::new(Code::CliMissing, "there is no join token", next)
    })
}

fn run_agent(directory: &Path, config: Option<&Path>, trial: bool) -> Result<String, Refusal> {
    let config = config.map_or_else(|| Ok(Config::default()), Config::read)?;
    log(&config.log);
    if !trial && !config.state_may_be_lost {
        require_lasting(directory)?;
    }
    // This very program, also after another has been installed in its place.
    let exec = ExecProgram::new("/proc/self/exe");
    let runtime = runtime()?;
    let ran = runtime.block_on(async {
        let failed = |error| Refusal::internal(format!("signals cannot be heard: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = parent_gone(), if trial => {}
            }
            tracing::info!("stopping");
        };
        let leave = if trial { Leave::Nothing } else { Leave::Services };
        run::run(directory, &config, exec, leave, stop).await
    });
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    ran.map(|()| String::new())
}

/// Until the other end of standard input is closed: whoever started this is gone, however it ended.
async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}

fn runtime() -> Result<tokio::runtime::Runtime, Refusal> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| Refusal::internal(format!("no runtime: {error}")))
}

fn log(directives: &str) {
    use std::io::IsTerminal as _;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
