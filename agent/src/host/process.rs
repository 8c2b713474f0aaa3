//! Processes of this host, read from `/proc`. A process is known by its id and start time together,
//! since ids are used again.

use std::collections::HashSet;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

/// A process, for as long as the machine is up: no two have both in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It ended while nobody who was told was there.
    Unknown,
}

impl Exit {
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(signal) => write!(f, "was ended by {}", signal_name(*signal)),
            Self::Unknown => f.write_str("ended"),
        }
    }
}

/// `SIGKILL` for 9.
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

/// A line of `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    pub id: ProcessId,
    pub parent: i32,
    pub session: i32,
    /// It has ended and waits to be reaped.
    pub ended: bool,
}

/// A process now; absent if there is none with this id.
pub fn stat(pid: i32) -> Option<Stat> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(Stat {
        id: ProcessId { pid, start: fields.get(19)?.parse().ok()? },
        parent: number(1)?,
        session: number(3)?,
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

/// Every process that runs.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).filter(|stat| !stat.ended).collect()
}

/// Everything that runs below a process, at any depth.
pub fn descendants(of: i32) -> Vec<ProcessId> {
    let all = all();
    let mut family = HashSet::from([of]);
    loop {
        let before = family.len();
        family.extend(
            all.iter().filter(|stat| family.contains(&stat.parent)).map(|s| s.id.pid).collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    family.remove(&of);
    all.iter().map(|stat| stat.id).filter(|id| family.contains(&id.pid)).collect()
}

/// Everything that runs in the session that this process led. If its id has been used again, then
/// the session is somebody else's, and nothing of it is returned.
pub fn session_of(leader: ProcessId) -> Vec<ProcessId> {
    if stat(leader.pid).is_some_and(|now| now.id != leader) {
        return Vec::new();
    }
    all().iter().filter(|stat| stat.session == leader.pid).map(|stat| stat.id).collect()
}

impl ProcessId {
    /// This process as it is now.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| stat.id)
    }

    /// Whether it still runs: not another one with its id, and not one that waits to be reaped.
    pub fn runs(self) -> bool {
        stat(self.pid).is_some_and(|now| now.id == self && !now.ended)
    }

    /// Sends a signal to this very process; nothing happens if it has ended.
    pub fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // The descriptor fixes the process first, then its start time is compared.
        if let Ok(descriptor) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            && Self::of(self.pid) == Some(self)
        {
            let _ = rustix::process::pidfd_send_signal(&descriptor, signal);
        }
    }

    /// How it ended, if it has; `Unknown` if it was not this process's child.
    pub fn reap(self) -> Option<Exit> {
        match stat(self.pid) {
            Some(now) if now.id == self && !now.ended => return None,
            Some(now) if now.id == self => {}
            // Gone; whoever has its id now is somebody else's to wait for.
            _ => return Some(Exit::Unknown),
        }
        let pid = Pid::from_raw(self.pid)?;
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            }),
            Ok(None) | Err(_) => Some(Exit::Unknown),
        }
    }
}

/// What a record of processes is valid for: this boot, and this container if it is in one. Process
/// ids and start times mean nothing beyond it.
pub fn boot() -> io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let first = stat(1).map_or(0, |stat| stat.id.start);
    Ok(format!("{}/{first}", id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_id_is_another_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.runs());
        let earlier = ProcessId { start: id.start - 1, ..id };
        assert!(!earlier.runs());
        earlier.signal(Signal::KILL);
        assert!(session_of(earlier).is_empty());
        assert!(child.try_wait().unwrap().is_none(), "the signal went to another process");
        id.signal(Signal::KILL);
        child.wait().unwrap();
        assert!(!id.runs());
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sh -c 'sleep 60; :'; :"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while descendants(child.id() as i32).len() < 2 {
            assert!(std::time::Instant::now() < deadline, "{:?}", descendants(child.id() as i32));
            std::thread::yield_now();
        }
        descendants(child.id() as i32).into_iter().for_each(|id| id.signal(Signal::KILL));
        child.wait().unwrap();
    }
}
