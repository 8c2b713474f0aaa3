//! The runner for hosts without systemd: containers, a laptop, the demo. Services are processes that
//! the agent starts; they outlive it, and the next agent finds them again.
//!
//! A service's record is on disk before its program runs (the child waits to be told), so no agent
//! that dies in between leaves a process that the next one does not know of.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use houston_common::error::{Code, Refusal};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::Signal;

use super::{Restarts, ServiceKey, ServiceRunner, ServiceSpec, Status};
use crate::host::cgroup::{Cgroup, Cgroups};
use crate::host::dir::{Dir, refused};
use crate::host::exec::{self, ANSWER_BYTES_MAX, Bounds, ExecProgram, NotExecuted, Spec};
use crate::host::process::{self, Exit, ProcessId};

mod log;
mod port;
mod record;
#[cfg(test)]
mod tests;

use record::{RECORD_VERSION, Record, Records};

/// Time to look up a user and to become the program. A user database on the network may be slow.
const EXECUTED_WITHIN: Duration = Duration::from_secs(30);

/// How long killed processes may take to vanish.
const VANISH: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Direct {
    /// `environments/`, for the logs.
    environments: PathBuf,
    records: Records,
    exec: ExecProgram,
    cgroups: Cgroups,
    /// Where the host's services listen.
    address: IpAddr,
    /// Held by whatever starts or stops.
    acting: Mutex<()>,
    table: Mutex<BTreeMap<ServiceKey, Supervised>>,
}

/// A service that should run.
#[derive(Debug, Clone)]
struct Supervised {
    spec: ServiceSpec,
    restarts: Restarts,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Seen running first at this time, if it was looked at yet.
    Running {
        since: Option<Duration>,
    },
    /// It ended, after it `ran` so long.
    Waiting {
        ran: Duration,
        exit: Exit,
        due: Duration,
    },
    Ended(Exit),
}

/// Of a trial's services: nobody waits for their answers any more.
const STOP_ALL_GRACE: Duration = Duration::from_secs(2);

impl Direct {
    /// `state` is the agent's directory, with `environments/` in it.
    pub fn open(state: &Path, exec: ExecProgram, cgroups: Cgroups, address: IpAddr) -> Result<Self, Refusal> {
        let records = Records::open(state).map_err(|e| refused("opening the services' records", &e))?;
        Ok(Self {
            environments: state.join("environments"),
            records,
            exec,
            cgroups,
            address,
            acting: Mutex::default(),
            table: Mutex::default(),
        })
    }

    /// Bounds the logs, and looks after every service that should run: starts again what has ended, by
    /// its policy, unless a start or stop is under way. To be called about every second; `now` is any
    /// clock that only goes forward.
    pub fn tick(&self, now: Duration) {
        self.bound_logs();
        let Ok(_acting) = self.acting.try_lock() else { return };
        let services = self.table().clone();
        for (key, supervised) in services {
            let next = self.supervise(&supervised, now);
            if let Some(entry) = self.table().get_mut(&key) {
                *entry = next;
            }
        }
    }

    fn supervise(&self, service: &Supervised, now: Duration) -> Supervised {
        let mut next = service.clone();
        next.state = match service.state {
            State::Ended(_) => service.state,
            State::Running { since } => match self.exit_of(&service.spec.key) {
                None => State::Running { since: since.or(Some(now)) },
                Some(exit) => {
                    let ran = now.saturating_sub(since.unwrap_or(now));
                    let due = service.restarts.after(service.spec.restart, exit, ran, now);
                    tracing::warn!(service = %service.spec.key, "it {exit}");
                    match due {
                        Some(due) => State::Waiting { ran, exit, due },
                        None => self.stays_down(&service.spec.key, exit),
                    }
                }
            },
            State::Waiting { due, .. } if now < due => service.state,
            State::Waiting { ran, .. } => {
                next.restarts.note(ran, now);
                match self.launch(&service.spec) {
                    Ok(()) => {
                        tracing::info!(service = %service.spec.key, restarts = next.restarts.count(), "started again");
                    }
                    // Seen as an exit by the next tick, with its backoff.
                    Err(refusal) => {
                        tracing::warn!(service = %service.spec.key, %refusal, "not started again")
                    }
                }
                State::Running { since: Some(now) }
            }
        };
        next
    }

    /// The next agent must not take it for one that nobody knows the end of.
    fn stays_down(&self, key: &ServiceKey, exit: Exit) -> State {
        if let Err(error) = self.records.note_exit(key, exit) {
            tracing::warn!(service = %key, %error, "how it ended is not kept");
        }
        State::Ended(exit)
    }

    /// How the service's process ended, if it has. Unknown if that was while no agent ran.
    fn exit_of(&self, key: &ServiceKey) -> Option<Exit> {
        match self.records.of_this_boot(key) {
            Some(record) => record.exit.or_else(|| record.process.reap()),
            None => Some(Exit::Unknown),
        }
    }

    /// Everything that runs of a service: in its group, and in the session of its first process.
    fn members(&self, key: &ServiceKey, record: Option<&Record>) -> Vec<ProcessId> {
        let group = record.and_then(|record| record.cgroup.clone()).or_else(|| self.existing_group(key));
        let grouped = group.iter().flat_map(Cgroup::members).filter_map(process::stat);
        let grouped = grouped.filter(|stat| !stat.ended).map(|stat| stat.id);
        let led = record.filter(|record| record.boot == self.records.boot);
        let led = led.into_iter().flat_map(|record| process::session_of(record.process));
        let mut members: Vec<ProcessId> = grouped.chain(led).collect();
        members.sort_by_key(|process| process.pid);
        members.dedup();
        members
    }

    fn existing_group(&self, key: &ServiceKey) -> Option<Cgroup> {
        self.cgroups.find(&group_name(key))
    }

    /// TERM, the grace, KILL of everything, and the record's removal.
    fn end(&self, key: &ServiceKey, grace: Duration) -> Result<(), Refusal> {
        let record = self.records.read(key);
        let gone = |limit: Duration, each_time: &dyn Fn()| {
            let until = Instant::now() + limit;
            loop {
                if let Some(record) = &record {
                    // A child that nobody reaps stays in its group.
                    let _ = record.process.reap();
                }
                let members = self.members(key, record.as_ref());
                if members.is_empty() || Instant::now() >= until {
                    return members;
                }
                each_time();
                std::thread::sleep(LOOK);
            }
        };
        self.members(key, record.as_ref()).into_iter().for_each(|process| process.signal(Signal::TERM));
        gone(grace, &|| ());
        let group =
            record.as_ref().and_then(|record| record.cgroup.clone()).or_else(|| self.existing_group(key));
        let left = gone(VANISH, &|| {
            if let Some(group) = &group {
                group.kill();
            }
            self.members(key, record.as_ref()).into_iter().for_each(|process| process.signal(Signal::KILL));
        });
        if let Some(process) = left.first() {
            let what =
                format!("{} processes of {key} cannot be killed, the first is {}", left.len(), process.pid);
            return Err(Refusal::new(
                Code::ServiceStop,
                what,
                "look at the host's kernel log for a hanging disk",
            ));
        }
        if let Some(group) = group {
            group.remove();
        }
        self.records.remove(key).map_err(|e| refused(format!("removing the record of {key}"), &e))
    }

    /// Starts the process, after whatever is left of an earlier one has been killed.
    fn launch(&self, spec: &ServiceSpec) -> Result<(), Refusal> {
        let key = &spec.key;
        let starting =
            |what: String| Refusal::new(Code::ServiceStart, what, "see the service's log on the host");
        self.end(key, Duration::ZERO)?;
        port::check_free(key, self.address, &spec.ports)?;
        let program = exec::resolve(&spec.command, &spec.tree).map_err(|refusal| starting(refusal.what))?;
        if let Some(user) = &spec.user {
            exec::user(user)?;
        }
        let io = |e: io::Error| starting(format!("{key} cannot be started: {e}"));
        let log = self.logs(key).and_then(|logs| logs.append(log::name(key))).map_err(io)?;
        let log_from = log.metadata().map_err(io)?.len();
        let cgroup = self.cgroups.make(&group_name(key));
        let mut child = self.exec.spawn(&spec.variables, Stdio::from(log)).map_err(io)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let tell = || {
            let process = ProcessId::of(child.id() as i32).ok_or(io::ErrorKind::NotFound)?;
            let cgroup = cgroup.filter(|group| group.add(process.pid).is_ok());
            let child_spec = Spec {
                program,
                arguments: spec.command.arguments.clone(),
                directory: spec.tree.clone(),
                user: spec.user.clone(),
                limits: Bounds::of(&spec.limits, cgroup.as_ref()),
                guard: None,
            };
            let digest = spec.digest().to_string();
            let (version, boot) = (RECORD_VERSION, self.records.boot.clone());
            let record = Record { version, process, boot, cgroup, digest, log_from, exit: None };
            self.records.write(key, &record)?;
            // From here on the program may run.
            exec::tell(&mut stdin.ok_or(io::ErrorKind::BrokenPipe)?, &child_spec)?;
            why_not_executed(stdout.ok_or(io::ErrorKind::BrokenPipe)?)
        };
        match tell() {
            Ok(None) => Ok(()),
            failed => {
                let _ = child.kill();
                let _ = child.wait();
                self.end(key, Duration::ZERO)?;
                Err(starting(match failed {
                    Ok(words) => format!("{key}: {}", words.unwrap_or_default()),
                    Err(error) => format!("{key} cannot be started: {error}"),
                }))
            }
        }
    }

    /// Opened by names, since a hook with the agent's rights may put links there.
    fn logs(&self, key: &ServiceKey) -> io::Result<Dir> {
        Dir::open(&self.environments)?.ensure(key.environment.as_str(), 0o755)?.ensure("logs", 0o750)
    }

    /// Of every service that may run, also of one that is being stopped: its grace may be minutes.
    fn bound_logs(&self) {
        for key in self.records.keys().unwrap_or_default() {
            if let Err(error) = self.logs(&key).and_then(|logs| log::rotate(&logs, &key)) {
                tracing::warn!(service = %key, %error, "its log cannot be bounded");
            }
        }
    }

    /// The end of what a service has printed since it was last started: at most `lines` lines and `bytes` bytes, safe to show.
    pub fn log_tail(&self, key: &ServiceKey, lines: usize, bytes: usize) -> String {
        let from = self.records.read(key).map_or(0, |record| record.log_from);
        self.logs(key).and_then(|logs| log::tail(&logs, key, from, lines, bytes)).unwrap_or_default()
    }

    /// Stops every service that was ever started from this state directory.
    pub fn stop_all(&self) -> Result<(), Refusal> {
        let mut ended = Ok(());
        for key in self.known()? {
            ended = ended.and(self.stop(&key, STOP_ALL_GRACE));
        }
        ended
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<ServiceKey, Supervised>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self) -> MutexGuard<'_, ()> {
        self.acting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServiceRunner for Direct {
    fn start(&self, spec: &ServiceSpec) -> Result<(), Refusal> {
        let _acting = self.act();
        let record = self.records.of_this_boot(&spec.key);
        let was_started = record.as_ref().is_some_and(|record| record.digest == spec.digest().to_string());
        if !was_started {
            if record.is_some_and(|record| record.process.runs()) {
                self.end(&spec.key, spec.stop_grace)?;
            }
            self.launch(spec)?;
        }
        let mut table = self.table();
        match table.get_mut(&spec.key) {
            Some(entry) if was_started => entry.spec = spec.clone(),
            // Where it has ended meanwhile, the next tick sees that, and its policy decides.
            _ => {
                let state = State::Running { since: None };
                let entry = Supervised { spec: spec.clone(), restarts: Restarts::default(), state };
                table.insert(spec.key.clone(), entry);
            }
        }
        Ok(())
    }

    fn stop(&self, key: &ServiceKey, grace: Duration) -> Result<(), Refusal> {
        let _acting = self.act();
        self.table().remove(key);
        self.end(key, grace)
    }

    fn status(&self, key: &ServiceKey) -> Status {
        let supervised = self.table().get(key).cloned();
        let running = self.records.running(key);
        let restarts = supervised.as_ref().map_or(0, |service| service.restarts.count());
        match (running, supervised.map(|service| service.state)) {
            (Some(record), _) => Status::Running { pid: record.process.pid, restarts },
            (None, Some(State::Ended(exit))) => Status::Ended(exit),
            (None, Some(State::Waiting { exit, .. })) => Status::Restarting { exit, restarts },
            (None, Some(State::Running { .. })) => Status::Restarting { exit: Exit::Unknown, restarts },
            (None, None) => Status::Stopped,
        }
    }

    fn known(&self) -> Result<Vec<ServiceKey>, Refusal> {
        self.records.keys().map_err(|e| refused("listing the services' records", &e))
    }
}

fn group_name(key: &ServiceKey) -> String {
    format!("service-{}", key.dotted())
}

/// Waits until the child has become its program, and returns why if it has not.
fn why_not_executed(mut stdout: std::process::ChildStdout) -> io::Result<Option<String>> {
    use std::os::fd::AsFd as _;
    let until = Instant::now() + EXECUTED_WITHIN;
    let mut text = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, left) {
            Err(nix::errno::Errno::EINTR) | Ok(0) => continue,
            polled => polled?,
        };
        let mut piece = vec![0; 4096];
        let read = stdout.read(&mut piece)?;
        text.extend_from_slice(&piece[..read]);
        if read == 0 || text.len() as u64 > ANSWER_BYTES_MAX {
            return Ok(exec::answer::<NotExecuted>(&text).map(|failure| failure.not_executed));
        }
    }
}
