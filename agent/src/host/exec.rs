//! How hooks and services are started: through the hidden `houston-agent exec`, which makes itself
//! clean by safe calls and then becomes the program.
//!
//! The child reads what to be as one line of JSON from its standard input and does nothing before it
//! has it whole, so an agent that dies while it starts something starts nothing. Its standard
//! output carries back what a parent must know, as one line of JSON: why the program could not be
//! executed (nothing at all if it was), or how a guarded one ended. Its standard error is where the
//! program's output goes, both of its streams. Settings travel in the environment, which the parent
//! sets to exactly the allow-list; no argument carries anything.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitCode, Stdio};

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::package::{Command, Limits};
use nix::sys::signal::SigSet;
use nix::unistd::User;
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::variables::{PATH, Variables};

mod cause;
pub(super) mod guard;
#[cfg(test)]
pub(crate) mod tests;

/// A command line of `houston.toml` with its paths is a few KiB.
const SPEC_BYTES_MAX: u64 = 1 << 20;

/// A sentence for a person, or a result of two numbers.
pub(super) const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// The child was told nothing: its parent has died.
const EXIT_UNTOLD: u8 = 125;
const EXIT_NOT_EXECUTABLE: u8 = 126;
const EXIT_NOT_FOUND: u8 = 127;

/// How to start the hidden `exec`: a program and its arguments.
#[derive(Debug, Clone)]
pub struct ExecProgram {
    path: PathBuf,
    arguments: Vec<String>,
}

impl ExecProgram {
    /// Of this `houston-agent`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_arguments(path, ["exec".to_owned()])
    }

    pub fn with_arguments(path: impl Into<PathBuf>, arguments: impl Into<Vec<String>>) -> Self {
        Self { path: path.into(), arguments: arguments.into() }
    }

    /// Starts the child; it waits for [`tell`].
    pub(super) fn spawn(&self, variables: &Variables, output: Stdio) -> io::Result<Child> {
        Process::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(variables.iter())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
    }
}

/// What a child is to become.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub directory: PathBuf,
    pub user: Option<String>,
    pub limits: Bounds,
    /// Stay, and see to it that the program ends with all that it starts.
    pub guard: Option<Watch>,
}

/// Resource limits to set; absent ones are inherited.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub open_files: Option<u64>,
    pub processes: Option<u64>,
    /// Of private writable memory.
    pub data_bytes: Option<u64>,
    pub core_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    pub timeout_ms: u64,
    pub grace_ms: u64,
    pub cgroup: Option<Cgroup>,
}

/// Why a program was not executed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotExecuted {
    pub not_executed: String,
    exit: u8,
}

impl Bounds {
    /// A service's limits; those that its group enforces for all of its processes together are left out.
    pub(super) fn of(limits: &Limits, cgroup: Option<&Cgroup>) -> Self {
        let (memory, processes) = cgroup.map_or((false, false), |group| group.limit(limits));
        Self {
            open_files: limits.open_files,
            processes: limits.processes.filter(|_| !processes),
            data_bytes: limits.memory_bytes.filter(|_| !memory),
            core_bytes: limits.core_bytes,
        }
    }

    fn set(&self) -> io::Result<()> {
        let bounds = [
            (Resource::Nofile, self.open_files),
            (Resource::Nproc, self.processes),
            (Resource::Data, self.data_bytes),
            (Resource::Core, self.core_bytes),
        ];
        for (resource, bound) in bounds {
            if bound.is_some() {
                rustix::process::setrlimit(resource, Rlimit { current: bound, maximum: bound })?;
            }
        }
        Ok(())
    }
}

/// Tells a waiting child what to be. It may go on from here.
pub(super) fn tell(to: &mut impl io::Write, spec: &Spec) -> io::Result<()> {
    let mut line = serde_json::to_vec(spec)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// The answer of a child: its last line that is one. Other text may come from a wrapper.
pub(super) fn answer<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Option<T> {
    text.rsplit(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
}

/// The program of a command: a path inside the tree, an absolute path, or a name that is looked up
/// in the fixed path. `E-HOOK-EXEC` if there is none.
pub(super) fn resolve(command: &Command, tree: &Path) -> Result<PathBuf, Refusal> {
    let program = Path::new(&command.program);
    let inside = tree.join(program);
    if command.program.contains('/') || inside.exists() {
        return Ok(inside);
    }
    PATH.split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let what =
                format!("the program \"{}\" is neither in the tree nor in {PATH}", quoted(&command.program));
            Refusal::new(Code::HookExec, what, "name a program that the package has")
        })
}

/// A user of this host; `E-HOOK-USER` if there is none of that name.
pub fn user(name: &str) -> Result<User, Refusal> {
    let found = User::from_name(name).map_err(|error| {
        let what = format!("the user \"{}\" cannot be looked up: {error}", quoted(name));
        Refusal::new(Code::HookUser, what, "check the host's user database")
    })?;
    found.ok_or_else(|| {
        let what = format!("the user \"{}\" does not exist on this host", quoted(name));
        Refusal::new(Code::HookUser, what, "create it on the host, or change houston.toml")
    })
}

/// The hidden `houston-agent exec`. Returns only if it was a guard or if the program could not be
/// executed.
pub fn run() -> ExitCode {
    let Some(spec) = read_spec() else { return ExitCode::from(EXIT_UNTOLD) };
    if let Some(watch) = spec.guard.clone() {
        guard::run(spec, &watch);
        return ExitCode::SUCCESS;
    }
    // A copy, closed by a successful exec: standard output itself becomes the program's.
    let Ok(answer) = io::stdout().as_fd().try_clone_to_owned() else { return ExitCode::from(EXIT_UNTOLD) };
    let mut answer = File::from(answer);
    let failure = become_program(&spec, &answer);
    // Whoever started this may be gone, and then nobody wants to know.
    let _ = send(&mut answer, &failure);
    ExitCode::from(failure.exit)
}

/// Sends an answer, on a line of its own.
pub(super) fn send(to: &mut impl io::Write, answer: &impl Serialize) -> io::Result<()> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, answer)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

fn read_spec() -> Option<Spec> {
    let mut line = String::new();
    io::stdin().lock().take(SPEC_BYTES_MAX).read_line(&mut line).ok()?;
    // Without its newline the parent died in the middle.
    serde_json::from_str(line.strip_suffix('\n')?).ok()
}

fn become_program(spec: &Spec, answer: &File) -> NotExecuted {
    if let Err(words) = make_clean(spec, answer) {
        return NotExecuted { not_executed: words, exit: EXIT_NOT_EXECUTABLE };
    }
    let error = execute(spec);
    let exit = match error.kind() {
        io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    };
    NotExecuted { not_executed: cause::of(&spec.program, &error), exit }
}

/// Not by the standard library, which hands to a shell whatever the kernel does not know how to run.
fn execute(spec: &Spec) -> io::Error {
    let program = spec.program.as_os_str().as_bytes();
    let words = [program].into_iter().chain(spec.arguments.iter().map(String::as_bytes)).map(CString::new);
    match (CString::new(program), words.collect::<Result<Vec<CString>, _>>()) {
        (Ok(program), Ok(words)) => match nix::unistd::execv(&program, &words) {
            Err(error) => error.into(),
        },
        _ => io::ErrorKind::InvalidInput.into(),
    }
}

/// Session, umask, limits, user, directory, streams, signals and descriptors, in this order: limits
/// need privileges, and the directory is judged by the user.
fn make_clean(spec: &Spec, answer: &File) -> Result<(), String> {
    fn failed<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> String {
        move |error| format!("cannot {what}: {}", error.into())
    }
    rustix::process::setsid().map_err(failed("start a session"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    spec.limits.set().map_err(failed("set the limits"))?;
    if let Some(name) = &spec.user {
        become_user(name)?;
    }
    std::env::set_current_dir(&spec.directory).map_err(failed("enter the package's directory"))?;
    let null = File::open("/dev/null").map_err(failed("open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(failed("exchange standard input"))?;
    drop(null);
    nix::unistd::dup2_stdout(io::stderr()).map_err(failed("exchange standard output"))?;
    restore_signals().map_err(failed("restore signals"))?;
    SigSet::empty().thread_set_mask().map_err(failed("empty the signal mask"))?;
    close_all_but(answer.as_raw_fd()).map_err(failed("close what was inherited"))
}

fn become_user(name: &str) -> Result<(), String> {
    let user = user(name).map_err(|refusal| refusal.what)?;
    if nix::unistd::geteuid() == user.uid && nix::unistd::getegid() == user.gid && !user.uid.is_root() {
        return Ok(());
    }
    let drop = || {
        let login = CString::new(name).map_err(|_| nix::errno::Errno::EINVAL)?;
        nix::unistd::initgroups(&login, user.gid)?;
        nix::unistd::setgid(user.gid)?;
        nix::unistd::setuid(user.uid)
    };
    drop().map_err(|error| format!("cannot become the user \"{}\": {}", quoted(name), error.desc()))
}

/// Signals that an ancestor ignored, or that the Rust runtime ignores (SIGPIPE), would be ignored by
/// the program too. One that has a handler is reset by exec, and a handler can be set without unsafe code.
pub(super) fn restore_signals() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap_or(0);
    // Those that no handler may be set for are not among the ones that one ignores.
    const FORBIDDEN: [i32; 5] = [4, 8, 9, 11, 19];
    let ignored: Vec<i32> =
        (1..=31).filter(|n| mask & (1 << (n - 1)) != 0 && !FORBIDDEN.contains(n)).collect();
    if ignored.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for number in ignored {
        // The handler stays when the stream is dropped.
        drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(number))?);
    }
    Ok(())
}

/// Closes every descriptor but the standard streams and one. Whoever calls it owns no other.
fn close_all_but(spared: RawFd) -> io::Result<()> {
    let numbers: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && *number != spared)
        .collect();
    for number in numbers {
        // The directory itself was among them and is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}
