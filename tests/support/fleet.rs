//! A fleet of real processes on this machine: a coordinator, agents, and the services that they run,
//! in a temporary directory and on loopback addresses of their own. Everything ends with the value.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

#[path = "fleet/agent.rs"]
mod agent;
#[path = "fleet/package.rs"]
mod package;
#[path = "fleet/processes.rs"]
mod processes;

pub use agent::Agent;
pub use package::{Hook, Package};
pub use processes::{end, processes_with, signal};

/// Longest that anything may take here: two cores that also build something are slow.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(40);

/// Quick hosts: a check-in is held for a second, and six seconds of silence are a loss.
pub const QUICK_LOST_AFTER: Duration = Duration::from_secs(6);
pub const QUICK: &str = "hold = \"1s\"\nlost_after = \"6s\"\n";

/// What most environments here have in common: bakes, windows and deadlines of a test. The files of
/// environments follow it with what they change.
pub const POLICY: &str = "batch = \"2\"\nfleet_floor = \"25%\"\nhealth_window = \"500ms\"\n\
    apply_deadline = \"60s\"\nstart_within = \"20s\"\n";
pub const NO_BAKES: &str = "[policy.bake]\none_box = \"0s\"\nfirst_zone = \"0s\"\nlater_zones = \"0s\"\n";

/// Of all programs of a fleet, the one by which an operator speaks.
#[derive(Debug)]
pub struct Fleet {
    place: TempDir,
    programs: PathBuf,
    /// The first three numbers of every address here.
    subnet: [u8; 3],
    /// On which the services listen, at each host's own address.
    pub port: u16,
    config: String,
    coordinator: Option<Child>,
    /// Where the coordinator listens, from its first start on.
    agents_address: String,
    enrollment_address: String,
    agents: BTreeMap<String, Agent>,
}

/// Asks until the answer is there. Panics, saying what never happened, when [`PATIENCE`] ends.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(LOOK);
    }
}

/// How a command of the CLI ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// That it ended so, and said this code on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, error: &str) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.starts_with(&format!("{error}: ")), "{self:?}");
        &self.stderr
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Where cargo puts the programs: beside the directory of this test's own binary.
fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("this test");
    let directory = own.parent().and_then(Path::parent).expect("the target directory").to_owned();
    for name in ["houston", "houston-agent", "houston-coordinator"] {
        let program = directory.join(name);
        assert!(
            program.is_file(),
            "there is no {}: build the programs first, cargo build --workspace --profile trial",
            program.display()
        );
    }
    directory
}

/// A /24 of 127.0.0.0/8 that no other fleet of this moment has: 250 * 250 of them, by process and count.
fn subnet() -> [u8; 3] {
    static FLEETS: AtomicU32 = AtomicU32::new(0);
    // A test binary has a few dozen fleets; the next process's begin beyond them.
    let number = std::process::id().wrapping_mul(41).wrapping_add(FLEETS.fetch_add(1, Ordering::Relaxed));
    let number = number % (250 * 250);
    [127, (number / 250) as u8 + 1, (number % 250) as u8 + 1]
}

impl Fleet {
    /// A coordinator, with `config` beside what `init` writes, and these many hosts in each zone, named
    /// by zone and number (`a1`), with the label `role=web`. All of them have checked in.
    pub fn start(zones: &[(&str, u32)], config: &str) -> Self {
        let mut fleet = Self::with_coordinator(config);
        for (zone, hosts) in zones {
            let token = fleet.token(zone, *hosts);
            for number in 1..=*hosts {
                fleet.enroll(&format!("{zone}{number}"), &token);
            }
        }
        for agent in fleet.agents.values_mut() {
            agent.start();
        }
        fleet.wait_until_seen(&fleet.names());
        fleet
    }

    pub fn with_coordinator(config: &str) -> Self {
        let subnet = subnet();
        let place = tempfile::Builder::new().prefix("houston-e2e-").tempdir().expect("a directory");
        // Free on every address of the machine, so that it is free on the hosts'.
        let probe = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = probe.local_addr().expect("its address").port();
        drop(probe);
        let mut fleet = Self {
            place,
            programs: programs(),
            subnet,
            port,
            config: config.to_owned(),
            coordinator: None,
            agents_address: String::new(),
            enrollment_address: String::new(),
            agents: BTreeMap::new(),
        };
        fleet.init();
        fleet.start_coordinator();
        let credential = fleet.coordinator_dir().join("operators/ada");
        fleet.add_context("ada", &credential);
        fleet
    }

    pub fn place(&self) -> &Path {
        self.place.path()
    }

    pub fn coordinator_dir(&self) -> PathBuf {
        self.place().join("coordinator")
    }

    /// HOST:PORT of hosts and operators.
    pub fn agents_address(&self) -> &str {
        &self.agents_address
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    fn init(&self) {
        const COORDINATOR: u8 = 250;
        let (directory, address) = (self.coordinator_dir(), self.address(COORDINATOR).to_string());
        let listen = format!("{address}:0");
        let mut init = Command::new(self.programs.join("houston-coordinator"));
        init.arg("init").arg("--directory").arg(&directory).args(["--name", &address]);
        init.args(["--operator", "ada", "--agent-listen", &listen, "--enroll-listen", &listen]);
        let made = Ran::new(init.output().expect("it runs"));
        assert_eq!(made.code, 0, "{made:?}");
        let file = directory.join("coordinator.toml");
        let text = fs::read_to_string(&file).expect("what init wrote");
        fs::write(file, text + &self.config + "reserve_bytes = 0\n").expect("written");
    }

    /// Starts the coordinator; from the second time on it listens where it did before.
    pub fn start_coordinator(&mut self) {
        let mut command = Command::new(self.programs.join("houston-coordinator"));
        command.arg("run").arg("--directory").arg(self.coordinator_dir()).arg("--trial");
        if !self.agents_address.is_empty() {
            command.args(["--agent-listen", &self.agents_address]);
            command.args(["--enroll-listen", &self.enrollment_address]);
        }
        command.stdout(Stdio::piped());
        let mut child = spawn(command, &self.place().join("coordinator.log"));
        let stdout = child.stdout.take().expect("its output");
        self.coordinator = Some(child);
        let ready = BufReader::new(stdout).lines().next().expect("a line").expect("UTF-8");
        for word in ready.split_whitespace() {
            match word.split_once('=') {
                Some(("agents", address)) => self.agents_address = address.to_owned(),
                Some(("enrollment", address)) => self.enrollment_address = address.to_owned(),
                _ => assert_eq!(word, "ready", "{ready}"),
            }
        }
    }

    /// kill -9.
    pub fn kill_coordinator(&mut self) {
        end(self.coordinator.take().expect("it runs"));
    }

    /// SIGSTOP, as when its machine is held up, or SIGCONT.
    pub fn signal_coordinator(&self, sent: Signal) {
        let coordinator = self.coordinator.as_ref().expect("it runs");
        signal(coordinator.id() as i32, sent);
    }

    pub fn add_context(&self, name: &str, credential: &Path) {
        let credential = credential.display().to_string();
        let address = self.agents_address.as_str();
        self.ok(&["context", "add", name, "--address", address, "--credential", &credential]);
    }

    fn token(&self, zone: &str, uses: u32) -> String {
        let uses = uses.to_string();
        let token = self.json(&["token", "create", "--zone", zone, "--uses", &uses, "--label", "role=web"]);
        token["secret"].as_str().expect("a secret").to_owned()
    }

    /// Makes a machine a host, without starting its agent.
    fn enroll(&mut self, name: &str, token: &str) {
        let address = self.address(self.agents.len() as u8 + 1);
        let directory = self.place().join("hosts").join(name);
        let agent = Agent::new(name, self.programs.join("houston-agent"), directory, address);
        let enrolled = Ran::new(agent.enrollment(&self.enrollment_address, token).output().expect("it runs"));
        assert_eq!(enrolled.code, 0, "{enrolled:?}");
        self.agents.insert(name.to_owned(), agent);
    }

    /// A copy of a host's disk in another machine; its agent is not started.
    pub fn clone_disk(&mut self, of: &str, name: &str) {
        let address = self.address(self.agents.len() as u8 + 1);
        let directory = self.place().join("hosts").join(name);
        let from = self.agent_ref(of).directory();
        let copied = Command::new("cp").arg("-a").arg(from).arg(&directory).status().expect("cp");
        assert!(copied.success());
        let agent = Agent::new(name, self.programs.join("houston-agent"), directory, address);
        self.agents.insert(name.to_owned(), agent);
    }

    /// Enrolls a machine again, as another host.
    pub fn enroll_anew(&mut self, name: &str, zone: &str) {
        let token = self.token(zone, 1);
        let mut enrollment = self.agent_ref(name).enrollment(&self.enrollment_address, &token);
        let enrolled = Ran::new(enrollment.arg("--force").output().expect("it runs"));
        assert_eq!(enrolled.code, 0, "{enrolled:?}");
    }

    pub fn names(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    pub fn agent(&mut self, name: &str) -> &mut Agent {
        self.agents.get_mut(name).expect("a host of this fleet")
    }

    pub fn agent_ref(&self, name: &str) -> &Agent {
        &self.agents[name]
    }

    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// Until the coordinator has heard of each of them since it started.
    pub fn wait_until_seen(&self, names: &[String]) {
        until("the hosts check in", || {
            let is_seen = |name: &String| self.presence(name) == "seen";
            names.iter().all(is_seen).then_some(())
        });
    }

    /// Until the coordinator has heard of a host after this call, which is more than that it was seen.
    pub fn wait_until_heard(&self, name: &str) {
        let called = Instant::now();
        until(&format!("{name} is heard of"), || {
            let ago = self.host(name)["last_seen_ago_ms"].as_u64()?;
            (Duration::from_millis(ago) < called.elapsed()).then_some(())
        });
    }

    /// `unknown`, `seen` or `lost`.
    pub fn presence(&self, name: &str) -> String {
        self.host(name)["presence"].as_str().expect("a presence").to_owned()
    }

    pub fn host(&self, name: &str) -> Value {
        self.json(&["host", "show", name])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("houston"));
        command.args(arguments).env("HOUSTON_CONFIG", self.place().join("contexts.toml"));
        command.env_remove("HOUSTON_CONTEXT").stdin(Stdio::null());
        command
    }

    /// Runs a command of the CLI.
    pub fn houston(&self, arguments: &[&str]) -> Ran {
        Ran::new(self.command(arguments).output().expect("it runs"))
    }

    /// Starts one, to be waited for with [`Fleet::wait`].
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    }

    pub fn wait(child: Child) -> Ran {
        Ran::new(child.wait_with_output().expect("it ends"))
    }

    /// Runs a command that must end well.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.houston(arguments);
        assert_eq!(ran.code, 0, "houston {}: {ran:?}", arguments.join(" "));
        ran
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.ok(&[arguments, &["--output", "json"]].concat()).json()
    }

    /// Pushes a package, and names a version set after it: `web-1.0.0`.
    pub fn push(&self, package: &Package) -> String {
        let name = format!("{}-{}", package.name, package.version);
        let directory = self.place().join("packages").join(&name);
        package.write(&directory, self.port);
        self.ok(&["package", "push", &directory.display().to_string()]);
        let id = format!("{}@{}", package.name, package.version);
        self.ok(&["version-set", "create", &name, &id]);
        name
    }

    /// Makes an environment of the hosts with `role=web` what `policy` says: lines of the table
    /// `[policy]`, and tables after it.
    pub fn environment(&self, name: &str, greeting: &str, policy: &str) {
        let file = self.place().join(format!("{name}.toml"));
        let program = self.programs.join("houston").display().to_string();
        let text = format!(
            "name = \"{name}\"\n[selector]\nrole = \"web\"\n[settings]\nDEMO_PROGRAM = \"{program}\"\n\
             GREETING = \"{greeting}\"\n[policy]\n{policy}"
        );
        fs::write(&file, text).expect("written");
        self.ok(&["environment", "apply", &file.display().to_string(), "--yes"]);
    }

    /// Starts a rollout, and returns its number.
    #[track_caller]
    pub fn begin_rollout(&self, environment: &str, set: &str) -> u64 {
        self.json(&["rollout", "start", environment, set])["id"].as_u64().expect("a number")
    }

    /// Waits for the end of an environment's newest rollout. The exit code says how it ended.
    pub fn end_of_rollout(&self, environment: &str) -> Ran {
        let patience = format!("{}s", PATIENCE.as_secs());
        self.houston(&["rollout", "wait", environment, "--timeout", &patience])
    }

    /// A whole rollout that must end with this exit code.
    #[track_caller]
    pub fn roll(&self, environment: &str, set: &str, code: i32) {
        self.begin_rollout(environment, set);
        let ran = self.end_of_rollout(environment);
        assert_eq!(ran.code, code, "{set}: {ran:?}\n{}", self.status(environment));
    }

    /// Until every host has ended the last hook of a version of `web` in `prod`. Its rollout is over a
    /// moment before: a host settles, and then cleans up.
    pub fn wait_until_cleaned(&self, version: &str) {
        let line = format!("cleanup {version} end");
        let is_clean = |agent: &Agent| agent.traced(&line) > 0;
        until(&line, || self.agents().all(is_clean).then_some(()));
    }

    pub fn status(&self, environment: &str) -> Value {
        self.json(&["rollout", "status", environment])
    }

    /// The reasons that a host, or an environment as a whole, is given.
    pub fn reasons(&self, environment: &str, host: Option<&str>) -> Vec<String> {
        let arguments: Vec<&str> = ["explain", environment].into_iter().chain(host).collect();
        let answer = self.json(&arguments);
        let reasons = answer["waiting_on"].as_array().expect("reasons");
        reasons.iter().map(|waiting| waiting["reason"].as_str().expect("a reason").to_owned()).collect()
    }

    pub fn coordinator_log(&self) -> String {
        fs::read_to_string(self.place().join("coordinator.log")).unwrap_or_default()
    }

    fn show_logs(&self) {
        const LINES: usize = 12;
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        };
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "--- coordinator\n{}", tail(&self.coordinator_log()));
        for agent in self.agents.values() {
            let _ = writeln!(stderr, "--- {}\n{}", agent.name(), tail(&agent.log()));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        for agent in self.agents.values_mut() {
            agent.kill();
        }
        if let Some(coordinator) = self.coordinator.take() {
            end(coordinator);
        }
        // Services outlive their agents; whatever has a host's data directory in its environment is of
        // this fleet.
        let ours = format!("HOUSTON_DATA={}/", self.place().display());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = processes_with(&ours);
            left.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
            if left.is_empty() || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A child that ends with this process, in a process group of its own.
fn spawn(mut command: Command, log: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    command.stdin(Stdio::piped()).stderr(log).process_group(0).spawn().expect("it starts")
}
