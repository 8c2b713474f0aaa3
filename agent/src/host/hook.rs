//! Runs one hook, or the command of one probe, to its end: guarded, bounded, in a group of its own
//! where the host allows it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use houston_common::clock::{Exact, millis};
use houston_common::error::{Code, Refusal};
use houston_common::package::{Command, Limits};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags};

use super::cgroup::{Cgroup, Cgroups};
use super::dir::{Dir, refused};
use super::exec::guard::{Ended, How};
use super::exec::{self, ANSWER_BYTES_MAX, Bounds, ExecProgram, Spec, Watch};
use super::output::Output;
use super::process::{Exit, signal_name};
use super::variables::Variables;

#[cfg(test)]
mod tests;

/// From TERM to KILL of all that a hook has started.
pub const GRACE: Duration = Duration::from_secs(10);

/// What the guard may need beyond the hook's time, before it is taken for dead itself.
const GUARD_MARGIN: Duration = Duration::from_secs(10);

/// Enough for builds of caches and the like; a fork bomb or a leak of descriptors ends here.
const LIMITS: Limits =
    Limits { open_files: Some(4096), processes: Some(4096), memory_bytes: None, core_bytes: Some(0) };

/// After the end of a hook its last output is in the pipe, which is not larger than this.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Begins the names of the groups of hooks; see [`Runner::sweep`].
const GROUP_PREFIX: &str = "hook-";

/// Runs hooks.
#[derive(Debug, Clone)]
pub struct Runner {
    pub exec: ExecProgram,
    pub cgroups: Cgroups,
}

/// What to run, and as what.
#[derive(Debug)]
pub struct Call<'a> {
    pub command: &'a Command,
    /// The agent's own if absent.
    pub user: Option<&'a str>,
    pub timeout: Duration,
    pub grace: Duration,
    /// The package's tree: where the program is looked up, and its working directory.
    pub tree: &'a Path,
    pub variables: &'a Variables,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookOutcome {
    Ok,
    Exit(i32),
    /// As in `SIGSEGV`.
    Signal(String),
    /// It ran out of time; so many processes were ended.
    TimedOut {
        killed: usize,
    },
    /// Why, in a sentence.
    NotExecutable(String),
}

/// A hook that has ended, with everything that it had started.
#[derive(Debug)]
pub struct HookRun {
    pub outcome: HookOutcome,
    pub output: Output,
    /// Processes that were left running although the hook had ended; killed by now.
    pub left_behind: usize,
}

impl Runner {
    /// Runs it to its end or to its timeout. Blocks for `timeout`, `grace` and a few seconds at
    /// most. Refused if it could not be tried at all; how it went is the outcome.
    pub fn run(&self, call: &Call<'_>) -> Result<HookRun, Refusal> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let program = match exec::resolve(call.command, call.tree) {
            Ok(program) => program,
            Err(refusal) => return Ok(HookRun::not_executable(refusal.what)),
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = self.cgroups.make(&format!("{GROUP_PREFIX}{}-{number}", std::process::id()));
        let spec = Spec {
            program,
            arguments: call.command.arguments.clone(),
            directory: call.tree.to_owned(),
            user: call.user.map(str::to_owned),
            limits: Bounds::of(&LIMITS, cgroup.as_ref()),
            guard: Some(Watch {
                timeout_ms: millis(call.timeout),
                grace_ms: millis(call.grace),
                cgroup: cgroup.clone(),
            }),
        };
        let ran = self.run_guarded(&spec, call);
        if let Some(group) = cgroup {
            // The guard has done this already, unless the hook ended the guard.
            end_group(&group);
        }
        ran.map_err(|e| refused(format!("running \"{}\"", spec.program.display()), &e))
    }

    /// Ends what hooks of an earlier agent have left, if both it and their guards were killed. For
    /// the start of the agent.
    pub fn sweep(&self) {
        self.cgroups.sweep(GROUP_PREFIX);
    }

    fn run_guarded(&self, spec: &Spec, call: &Call<'_>) -> io::Result<HookRun> {
        let (reader, writer) = io::pipe()?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let mut guard = self.exec.spawn(call.variables, Stdio::from(writer))?;
        // Closing this end tells the guard to end everything: it stays open until the guard has ended.
        let mut stdin = guard.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let deadline = Instant::now() + call.timeout + call.grace + GUARD_MARGIN;
        let told = exec::tell(&mut stdin, spec);
        let mut output = Output::default();
        let watched = told.and_then(|()| read_until_end(&guard, reader, deadline, &mut output));
        if !matches!(watched, Ok(true)) {
            let _ = guard.kill();
        }
        let status = guard.wait()?;
        drop(stdin);
        if !watched? {
            return Ok(HookRun { outcome: HookOutcome::TimedOut { killed: 1 }, output, left_behind: 0 });
        }
        let mut text = Vec::new();
        if let Some(stdout) = guard.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
        }
        let (outcome, left_behind) = match exec::answer::<Ended>(&text) {
            Some(ended) => (HookOutcome::of(ended.how), ended.left_behind),
            // A hook with the agent's rights may kill its guard. Whatever it was up to, it did not end well.
            None => {
                use std::os::unix::process::ExitStatusExt as _;
                let signal = status.signal().map_or_else(|| "its guard ended".to_owned(), signal_name);
                (HookOutcome::Signal(signal), 0)
            }
        };
        Ok(HookRun { outcome, output, left_behind })
    }
}

/// Reads until the guard has ended (true) or the deadline is over. Whoever still holds the other end
/// of the pipe by then is not waited for.
fn read_until_end(
    guard: &Child,
    mut reader: io::PipeReader,
    deadline: Instant,
    output: &mut Output,
) -> io::Result<bool> {
    let pid = Pid::from_raw(guard.id() as i32).ok_or(io::ErrorKind::InvalidInput)?;
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    let mut open = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        if open {
            fds.push(PollFd::new(reader.as_fd(), PollFlags::POLLIN));
        }
        let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, left) {
            Err(nix::errno::Errno::EINTR) => continue,
            polled => polled?,
        };
        let (is_over, readable) =
            (fds[0].any() == Some(true), fds.get(1).and_then(PollFd::any) == Some(true));
        if is_over {
            let mut drained = 0;
            while open && drained < DRAIN_BYTES_MAX {
                match read_some(&mut reader, &mut buffer, output)? {
                    Some(read) if read > 0 => drained += read,
                    _ => open = false,
                }
            }
            return Ok(true);
        }
        if readable && read_some(&mut reader, &mut buffer, output)? == Some(0) {
            open = false;
        }
    }
}

/// Bytes read, 0 at the end, absent if there is nothing now.
fn read_some(
    reader: &mut io::PipeReader,
    buffer: &mut [u8],
    output: &mut Output,
) -> io::Result<Option<usize>> {
    match reader.read(buffer) {
        Ok(read) => {
            output.push(&buffer[..read]);
            Ok(Some(read))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn end_group(group: &Cgroup) {
    let until = Instant::now() + Duration::from_secs(4);
    while !group.members().is_empty() && Instant::now() < until {
        group.kill();
        std::thread::sleep(Duration::from_millis(5));
    }
    group.remove();
}

impl HookOutcome {
    fn of(how: How) -> Self {
        match how {
            How::Exit(Exit::Code(0)) => Self::Ok,
            How::Exit(Exit::Code(code)) => Self::Exit(code),
            How::Exit(Exit::Signal(signal)) => Self::Signal(signal_name(signal)),
            How::Exit(Exit::Unknown) => Self::Signal("an unknown signal".to_owned()),
            How::TimedOut { processes } => Self::TimedOut { killed: processes },
            How::NotExecuted(words) => Self::NotExecutable(words),
        }
    }
}

impl HookRun {
    fn not_executable(words: String) -> Self {
        Self { outcome: HookOutcome::NotExecutable(words), output: Output::default(), left_behind: 0 }
    }

    /// The failure, if it was one. `name` says which hook, as in `the hook "start" of package web`.
    pub fn check(&self, name: &str, timeout: Duration) -> Result<(), Refusal> {
        let (code, what, next) = match &self.outcome {
            HookOutcome::Ok => return Ok(()),
            HookOutcome::Exit(n) => (Code::HookExit, format!("{name} exited with {n}"), "see its output"),
            HookOutcome::Signal(signal) => {
                (Code::HookSignal, format!("{name} was ended by {signal}"), "see its output")
            }
            HookOutcome::TimedOut { killed } => (
                Code::HookTimeout,
                format!("{name} did not end within {}; killed {killed} processes", Exact(timeout)),
                "see its output; it runs without a terminal, so it must not ask",
            ),
            HookOutcome::NotExecutable(words) => {
                (Code::HookExec, format!("{name}: {words}"), "correct the package")
            }
        };
        Err(Refusal::new(code, what, next))
    }

    /// Keeps the output in an environment's `logs/` as `<name>.log`, the one before as `<name>.log.1`.
    pub fn save(&self, logs: &Dir, name: &str) -> Result<(), Refusal> {
        let file = format!("{name}.log");
        let save = || {
            if logs.kind(&file)?.is_some() {
                logs.rename(&file, format!("{file}.1"))?;
            }
            let mut text = Vec::new();
            writeln!(text, "{:?}; left behind: {}", self.outcome, self.left_behind)?;
            text.extend_from_slice(self.output.text().as_bytes());
            logs.replace(&file, &text)
        };
        save().map_err(|e: io::Error| refused(format!("keeping the output of {name}"), &e))
    }
}
