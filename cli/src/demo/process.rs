//! The demo's programs and how they are run: as children with a pipe for their standard input, which
//! end when it closes, so that nothing stays behind even if this process is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// One command that ends by itself.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// Agents stop their services first: TERM, the service's grace of 2 s, KILL.
const END_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Programs {
    pub houston: PathBuf,
    pub agent: PathBuf,
    pub coordinator: PathBuf,
}

impl Programs {
    /// Beside this program, as cargo and packages lay them.
    pub(super) fn find() -> Result<Self, Refusal> {
        let houston = std::env::current_exe().map_err(|error| failed("finding this program", &error))?;
        let beside = |name: &str| {
            let path = houston.with_file_name(name);
            let what = format!("there is no {name} beside {}", houston.display());
            let next = "build all programs: cargo build --workspace --profile trial";
            if path.is_file() { Ok(path) } else { Err(Refusal::new(Code::Demo, what, next)) }
        };
        Ok(Self {
            agent: beside("houston-agent")?,
            coordinator: beside("houston-coordinator")?,
            houston: houston.clone(),
        })
    }
}

pub(super) fn failed(doing: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Demo, format!("{doing}: {}", houston_common::error::chain(error)), "")
}

/// Until somebody asks the process to end. Returns what it was.
pub(super) async fn interrupted() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "asked to end",
    }
}

/// A child with a log file, in a process group of its own: Ctrl-C reaches this process alone.
pub(super) fn start(mut command: Command, log: &Path) -> Result<Child, Refusal> {
    let log = fs::File::create(log).map_err(|error| failed("making a log file", &error))?;
    command
        .stdin(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| failed("starting a program", &error))
}

/// Runs a program that ends by itself.
pub(super) async fn run(mut command: Command) -> Result<Output, Refusal> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(COMMAND_TIME_MAX, command.output())
        .await
        .map_err(|_| Refusal::new(Code::Timeout, "a command did not come to an end", ""))?
        .map_err(|error| failed("starting a program", &error))
}

pub(super) fn ended_well(what: &str, output: Output) -> Result<Output, Refusal> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it said nothing");
    Err(Refusal::new(Code::Demo, format!("`{}` failed: {}", quoted(what), quoted(said)), ""))
}

/// A child that a task waits for, so that its end is known at once.
#[derive(Debug)]
pub(super) struct Watched {
    stdin: Option<ChildStdin>,
    pid: Option<u32>,
    /// How it ended.
    ended: watch::Receiver<Option<String>>,
}

impl Watched {
    /// `told` hears how it ended, in words.
    pub(super) fn new(mut child: Child, told: watch::Sender<Option<String>>) -> Self {
        let (stdin, pid, ended) = (child.stdin.take(), child.id(), told.subscribe());
        tokio::spawn(async move {
            let how = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
            told.send_replace(Some(how));
        });
        Self { stdin, pid, ended }
    }

    /// Asks it to end, kills it if it does not, and returns when it has ended.
    pub(super) async fn end(mut self) {
        drop(self.stdin.take());
        let mut ended = self.ended.clone();
        if tokio::time::timeout(END_TIME_MAX, ended.wait_for(Option::is_some)).await.is_err()
            && let Some(pid) = self.pid
        {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            let _ = self.ended.wait_for(Option::is_some).await;
        }
    }
}
