//! Declared services: what one is, and when one that has ended is started again.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use houston_common::digest::Digest;
use houston_common::error::Refusal;
use houston_common::id::{EnvironmentName, PackageName, ServiceName};
use houston_common::package::{Command, Limits, Restart};

use super::process::Exit;
use super::variables::{RELEASE, Variables};

pub mod direct;

/// A service of a host. Shown as the name of its unit, which is no key: names may hold dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub environment: EnvironmentName,
    pub package: PackageName,
    pub service: ServiceName,
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "houston-{}-{}-{}", self.environment, self.package, self.service)
    }
}

impl ServiceKey {
    /// For file names: unambiguous, since no name holds a dot.
    pub fn dotted(&self) -> String {
        format!("{}.{}.{}", self.environment, self.package, self.service)
    }

    pub fn from_dotted(text: &str) -> Option<Self> {
        let [environment, package, service] = *text.split('.').collect::<Vec<_>>().as_slice() else {
            return None;
        };
        Some(Self {
            environment: environment.parse().ok()?,
            package: package.parse().ok()?,
            service: service.parse().ok()?,
        })
    }
}

/// All that a runner needs to start a service.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub key: ServiceKey,
    pub command: Command,
    /// The agent's own if absent.
    pub user: Option<String>,
    pub restart: Restart,
    /// TCP.
    pub ports: Vec<u16>,
    pub limits: Limits,
    pub stop_grace: Duration,
    /// Where its package is laid out: its working directory.
    pub tree: PathBuf,
    pub variables: Variables,
}

impl ServiceSpec {
    /// Of all that would make it another process. The release is left out: it changes around a
    /// package that does not, and such a package keeps running.
    pub fn digest(&self) -> Digest {
        let mut text =
            format!("{}\n{:?}\n{:?}\n{:?}\n", self.key.dotted(), self.tree, self.user, self.limits);
        let _ = writeln!(text, "{:?} {:?} {:?}", self.command.program, self.command.arguments, self.ports);
        for (name, value) in self.variables.iter().filter(|(name, _)| *name != RELEASE) {
            let _ = writeln!(text, "{name} {value:?}");
        }
        Digest::of(text.as_bytes())
    }
}

/// What a service does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Running {
        pid: i32,
        /// How often it was started again since the agent knows of it.
        restarts: u32,
    },
    /// It ended and will be started again.
    Restarting {
        exit: Exit,
        restarts: u32,
    },
    /// It ended and stays so, by its `restart`.
    Ended(Exit),
    Stopped,
}

/// Starts, stops and watches services. All calls may block for as long as a stop takes.
pub trait ServiceRunner: Send + Sync {
    /// Starts the service, or leaves it alone if this very spec runs already. Another that runs
    /// under its key is stopped first. `E-SERVICE-START` says why not.
    fn start(&self, spec: &ServiceSpec) -> Result<(), Refusal>;

    /// Ends the service with all its processes; nothing to stop is success.
    /// `E-SERVICE-STOP` if some of it cannot be killed.
    fn stop(&self, key: &ServiceKey, grace: Duration) -> Result<(), Refusal>;

    fn status(&self, key: &ServiceKey) -> Status;

    /// The services that this runner has started on this host and not stopped, also by an earlier agent.
    fn known(&self) -> Result<Vec<ServiceKey>, Refusal>;
}

/// The wait before the first restart; doubled for each one that follows soon.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A service that ran this long has got over its trouble: the backoff begins anew.
const STABLE: Duration = Duration::from_secs(60);

/// At most so many restarts within the window; the next waits until the oldest leaves it. It never
/// gives up, because nobody would be there to start it again when what it waited for is back.
const BURST: usize = 10;
const BURST_WINDOW: Duration = Duration::from_secs(600);

/// The restarts of one service: a decision, handed its time (any clock that only goes forward).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restarts {
    /// How many followed each other soon.
    streak: u32,
    /// When the last ones happened, the oldest first; at most [`BURST`].
    recent: VecDeque<Duration>,
    count: u32,
}

impl Restarts {
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When to start a service again that ended `now` after it `ran` so long; absent if it stays down.
    pub fn after(&self, policy: Restart, exit: Exit, ran: Duration, now: Duration) -> Option<Duration> {
        let again = match policy {
            Restart::Always => true,
            // That nobody knows how it ended is no reason to leave it down.
            Restart::OnFailure => !exit.is_success(),
            Restart::Never => false,
        };
        if !again {
            return None;
        }
        let streak = if ran >= STABLE { 0 } else { self.streak };
        let paced = now + BACKOFF.saturating_mul(1 << streak.min(10)).min(BACKOFF_MAX);
        let burst = (self.recent.len() == BURST).then(|| self.recent[0] + BURST_WINDOW);
        Some(paced.max(burst.unwrap_or(paced)))
    }

    /// Notes a restart at `now`, after a run of this length.
    pub fn note(&mut self, ran: Duration, now: Duration) {
        self.streak = if ran >= STABLE { 1 } else { self.streak + 1 };
        if self.recent.len() == BURST {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of a service that runs for `run` each time.
    fn waits(run: Duration, rounds: usize) -> Vec<u64> {
        let mut restarts = Restarts::default();
        let (mut started, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..rounds {
            let ended = started + run;
            let due = restarts.after(Restart::Always, Exit::Code(1), run, ended).unwrap();
            waits.push((due - ended).as_secs());
            restarts.note(run, due);
            started = due;
        }
        waits
    }

    #[test]
    fn backoff_doubles_to_its_cap_and_bursts_are_limited() {
        assert_eq!(waits(Duration::ZERO, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
        let long = waits(Duration::ZERO, 40);
        for window in long.windows(BURST) {
            // From a restart to the tenth after it.
            assert!(window.iter().sum::<u64>() >= 303, "{window:?}");
        }
        assert_eq!(long[6..12], [60, 60, 60, 60, 298, 60]);
    }

    #[test]
    fn a_stable_run_forgives() {
        assert_eq!(waits(STABLE, 5), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn policies_differ_in_what_they_restart() {
        let restarts = Restarts::default();
        let again = |policy, exit| restarts.after(policy, exit, Duration::ZERO, STABLE).is_some();
        for exit in [Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Unknown] {
            assert!(again(Restart::Always, exit));
            assert!(!again(Restart::Never, exit));
            assert_eq!(again(Restart::OnFailure, exit), exit != Exit::Code(0));
        }
    }

    #[test]
    fn dotted_names_tell_apart_what_dashes_do_not() {
        let key = |environment: &str, package: &str| ServiceKey {
            environment: environment.parse().unwrap(),
            package: package.parse().unwrap(),
            service: "s".parse().unwrap(),
        };
        let (one, two) = (key("a-b", "c"), key("a", "b-c"));
        assert_eq!(one.to_string(), two.to_string());
        assert_ne!(one.dotted(), two.dotted());
        assert_eq!(ServiceKey::from_dotted(&one.dotted()), Some(one));
        assert_eq!(ServiceKey::from_dotted("a.b"), None);
    }
}
