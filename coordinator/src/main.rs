//! Arguments in, exit code out.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use houston_common::disk::require_lasting;
use houston_common::error::{Code, Refusal};
use houston_common::id::{OperatorName, quoted};
use houston_common::tls::ServerName;
use houston_coordinator::config::{AGENT_LISTEN, Config, ENROLLMENT_LISTEN, FILE_NAME};
use houston_coordinator::init::{Init, init};
use houston_coordinator::run::{Addresses, run};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The coordinator: keeps the status of every host, and paces each change over the fleet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new coordinator in an empty directory, with its first operator.
    Init {
        #[arg(long)]
        directory: PathBuf,
        /// What clients call it by: a DNS name or an IP address. May be given several times.
        #[arg(long = "name", required = true)]
        names: Vec<ServerName>,
        /// The first operator: its credential is left in operators/NAME.
        #[arg(long)]
        operator: OperatorName,
        /// Where hosts and operators connect.
        #[arg(long, default_value = AGENT_LISTEN)]
        agent_listen: SocketAddr,
        /// Where new machines connect.
        #[arg(long, default_value = ENROLLMENT_LISTEN)]
        enroll_listen: SocketAddr,
    },
    /// Runs it, until SIGTERM or SIGINT.
    Run {
        /// Reads this file.
        #[arg(long, required_unless_present = "directory", conflicts_with = "directory")]
        config: Option<PathBuf>,
        /// Reads coordinator.toml in this directory.
        #[arg(long)]
        directory: Option<PathBuf>,
        /// Instead of the file's. Port 0: any that is free.
        #[arg(long)]
        agent_listen: Option<SocketAddr>,
        #[arg(long)]
        enroll_listen: Option<SocketAddr>,
        /// For demos and tests: ends when its standard input does.
        #[arg(long, hide = true)]
        trial: bool,
    },
}

/// How long what still runs may hold up the exit.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    // Whatever is made here is nobody else's to read, also by those who make it with no mode in mind.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match log().and_then(|()| execute(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            let _ = writeln!(std::io::stderr(), "{refusal}");
            ExitCode::from(refusal.code.exit() as u8)
        }
    }
}

/// To standard error, as much as HOUSTON_LOG says.
fn log() -> Result<(), Refusal> {
    let filter = match std::env::var_os("HOUSTON_LOG").filter(|text| !text.is_empty()) {
        None => EnvFilter::new("info"),
        Some(text) => {
            let text = text.to_string_lossy();
            EnvFilter::try_new(&text).map_err(|_| {
                let what = format!("HOUSTON_LOG is \"{}\", which is no log level", quoted(&text));
                Refusal::new(Code::ConfigValue, what, "write error, warn, info, debug or trace")
            })?
        }
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    subscriber.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    Ok(())
}

fn execute(command: Command) -> Result<(), Refusal> {
    match command {
        Command::Init { directory, names, operator, agent_listen, enroll_listen } => {
            let wanted = Init { directory, names, operator, agent_listen, enrollment_listen: enroll_listen };
            let credential = init(&wanted, SystemTime::now())?;
            let (directory, credential) = (wanted.directory.display(), credential.display());
            let _ = writeln!(std::io::stdout(), "credential={credential}");
            let _ = writeln!(
                std::io::stderr(),
                "run it:      houston-coordinator run --directory {directory}\n\
                 speak to it: houston context add NAME --credential {credential}"
            );
            Ok(())
        }
        Command::Run { config, directory, agent_listen, enroll_listen, trial } => {
            let file = config.or_else(|| directory.map(|directory| directory.join(FILE_NAME)));
            let mut config = Config::read(&file.unwrap_or_default())?;
            config.agent_listen = agent_listen.unwrap_or(config.agent_listen);
            config.enrollment_listen = enroll_listen.unwrap_or(config.enrollment_listen);
            if !trial && !config.state_may_be_lost {
                require_lasting(&config.directory)?;
            }
            raise_descriptor_limit();
            serve(&config, trial)
        }
    }
}

fn serve(config: &Config, trial: bool) -> Result<(), Refusal> {
    let failed = |what: &str, error: &std::io::Error| Refusal::internal(format!("{what}: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("no threads", &error))?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed("no signals", &error))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed("no signals", &error))?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = parent_gone(), if trial => {}
            }
        };
        run(config, announce, stop).await
    });
    runtime.shutdown_timeout(EXIT_TIME_MAX);
    result
}

/// Until the other end of standard input is closed: whoever started this is gone, however it ended.
async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}

/// The one line that programs wait for.
fn announce(addresses: Addresses) {
    tracing::info!(%addresses, "ready");
    let mut stdout = std::io::stdout();
    // Nobody has to listen.
    let _ = writeln!(stdout, "ready {addresses}").and_then(|()| stdout.flush());
}

/// Every connection takes a descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
