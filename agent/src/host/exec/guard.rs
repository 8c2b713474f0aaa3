//! The guard of one hook: a process between the agent and the hook that sees to it that the hook
//! ends within its time and leaves nothing behind, also if the agent dies.
//!
//! It lies outside the hook's session and group, and every orphan below it becomes its child.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use super::{ANSWER_BYTES_MAX, NotExecuted, Spec, Watch, answer, restore_signals, send, tell};
use crate::host::process::{Exit, ProcessId, descendants, stat};

/// How long killed processes may take to vanish. One in a disk's uninterruptible sleep takes longer,
/// and waiting for it would hold up the host.
const VANISH: Duration = Duration::from_secs(4);

/// How often it is looked whether killed processes are gone.
const LOOK: Duration = Duration::from_millis(5);

/// How a guarded program ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::host) struct Ended {
    pub how: How,
    /// Processes that it had left running, killed by now.
    pub left_behind: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::host) enum How {
    Exit(Exit),
    /// It ran out of time with this many processes, ended by now.
    TimedOut {
        processes: usize,
    },
    NotExecuted(String),
}

pub(super) fn run(spec: Spec, watch: &Watch) {
    let ended = guard(spec, watch).unwrap_or_else(|error| Ended {
        how: How::NotExecuted(format!("its guard failed: {error}")),
        left_behind: 0,
    });
    let _ = send(&mut io::stdout().lock(), &ended);
}

fn guard(spec: Spec, watch: &Watch) -> io::Result<Ended> {
    restore_signals()?;
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // If memory runs out, a hook goes before a service; its children inherit this.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let mut child = Process::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let family = Family { watch };
    let ended = tell_and_wait(&mut child, spec, &family);
    family.end();
    ended
}

fn tell_and_wait(child: &mut Child, spec: Spec, family: &Family<'_>) -> io::Result<Ended> {
    let pid = child.id() as i32;
    if let Some(group) = &family.watch.cgroup {
        // Where this fails, for lack of rights, the walk over descendants must do.
        let _ = group.add(pid);
    }
    if let Some(mut stdin) = child.stdin.take() {
        // If it has died already, its status says so.
        let _ = tell(&mut stdin, &Spec { guard: None, ..spec });
    }
    let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let descriptor = rustix::process::pidfd_open(raw, PidfdFlags::empty())?;
    let timeout = Duration::from_millis(family.watch.timeout_ms);
    match wait(descriptor.as_fd(), timeout)? {
        Waited::Ended => {}
        Waited::ParentGone => return Ok(Ended { how: How::Exit(Exit::Unknown), left_behind: 0 }),
        Waited::TimedOut => {
            let processes = family.members();
            processes.iter().for_each(|process| process.signal(Signal::TERM));
            wait(descriptor.as_fd(), Duration::from_millis(family.watch.grace_ms))?;
            return Ok(Ended { how: How::TimedOut { processes: processes.len() }, left_behind: 0 });
        }
    }
    let exit = ProcessId::of(pid).and_then(ProcessId::reap).unwrap_or(Exit::Unknown);
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    }
    let how = match answer::<NotExecuted>(&text) {
        Some(failure) => How::NotExecuted(failure.not_executed),
        None => How::Exit(exit),
    };
    Ok(Ended { how, left_behind: family.members().len() })
}

enum Waited {
    Ended,
    /// The agent has closed its end: it is gone, or it wants this to end.
    ParentGone,
    TimedOut,
}

fn wait(process: BorrowedFd<'_>, timeout: Duration) -> io::Result<Waited> {
    let until = Instant::now() + timeout;
    let stdin = io::stdin();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Waited::TimedOut);
        }
        let mut fds =
            [PollFd::new(process, PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that the loop does not spin through the last millisecond.
        let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, left) {
            Err(nix::errno::Errno::EINTR) => continue,
            polled => polled?,
        };
        if fds[0].any() == Some(true) {
            return Ok(Waited::Ended);
        }
        if fds[1].any() == Some(true) {
            return Ok(Waited::ParentGone);
        }
    }
}

/// All that the hook has started: its group, where there is one, and the guard's descendants.
struct Family<'a> {
    watch: &'a Watch,
}

impl Family<'_> {
    fn members(&self) -> Vec<ProcessId> {
        let grouped = self.watch.cgroup.iter().flat_map(|group| group.members());
        let grouped = grouped.filter_map(stat).filter(|stat| !stat.ended).map(|stat| stat.id);
        let below = descendants(std::process::id() as i32);
        below
            .into_iter()
            .chain(grouped)
            .map(|id| (id.pid, id))
            .collect::<HashMap<_, _>>()
            .into_values()
            .collect()
    }

    /// Kills whatever is left, and reaps it.
    fn end(&self) {
        let until = Instant::now() + VANISH;
        loop {
            if let Some(group) = &self.watch.cgroup {
                group.kill();
            }
            let members = self.members();
            members.iter().for_each(|process| process.signal(Signal::KILL));
            while matches!(rustix::process::waitpid(None, WaitOptions::NOHANG), Ok(Some(_))) {}
            if members.is_empty() || Instant::now() >= until {
                break;
            }
            std::thread::sleep(LOOK);
        }
        if let Some(group) = &self.watch.cgroup {
            group.remove();
        }
    }
}
