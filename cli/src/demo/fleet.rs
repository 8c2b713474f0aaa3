//! The demo's processes: a coordinator and the agents, as children that end with this process. Each
//! is given a pipe as its standard input and ends when it closes, so that nothing stays behind even
//! if this process is killed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::policy::Share;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::prober::Target;
use super::releases::{self, Edition};

/// Enrolled hosts check in at once; a machine that is busy building something may take longer.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// One command of the CLI.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// Agents stop their services first: TERM, the service's grace of 2 s, KILL.
const END_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Fleet {
    place: TempDir,
    programs: Programs,
    zones: u32,
    hosts: Vec<DemoHost>,
    /// On which the service listens, at each host's own address.
    port: u16,
    coordinator: Option<Child>,
    agents: Vec<Child>,
    agents_address: String,
    enrollment_address: String,
    context_file: PathBuf,
}

#[derive(Debug, Clone)]
struct DemoHost {
    name: String,
    zone: String,
    address: IpAddr,
}

#[derive(Debug)]
struct Programs {
    houston: PathBuf,
    agent: PathBuf,
    coordinator: PathBuf,
}

impl Programs {
    /// Beside this program, as cargo and packages lay them.
    fn find() -> Result<Self, Refusal> {
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

fn failed(doing: &str, error: &dyn std::error::Error) -> Refusal {
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

impl Fleet {
    pub(super) fn prepare(hosts: u32, zones: u32) -> Result<Self, Refusal> {
        let programs = Programs::find()?;
        let place = tempfile::Builder::new()
            .prefix("houston-demo-")
            .tempdir()
            .map_err(|error| failed("making a temporary directory", &error))?;
        let hosts = (0..hosts)
            .map(|index| {
                let zone = char::from(b'a' + (index % zones) as u8).to_string();
                // The whole of 127.0.0.0/8 is this machine: each host has an address of its own.
                let address = IpAddr::V4(Ipv4Addr::new(127, 0, 77, index as u8 + 1));
                DemoHost { name: format!("{zone}{}", index / zones + 1), zone, address }
            })
            .collect();
        let port = free_port().map_err(|error| failed("finding a free port", &error))?;
        let context_file = place.path().join("contexts.toml");
        Ok(Self {
            place,
            programs,
            zones,
            hosts,
            port,
            coordinator: None,
            agents: Vec::new(),
            agents_address: String::new(),
            enrollment_address: String::new(),
            context_file,
        })
    }

    pub(super) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn address(&self) -> &str {
        &self.agents_address
    }

    pub(super) fn context_file(&self) -> &Path {
        &self.context_file
    }

    pub(super) fn first_host(&self) -> &str {
        &self.hosts[0].name
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |host: &DemoHost| Target {
            zone: host.zone.clone(),
            address: SocketAddr::new(host.address, self.port),
        };
        self.hosts.iter().map(target).collect()
    }

    pub(super) async fn start_coordinator(&mut self) -> Result<(), Refusal> {
        let directory = self.place().join("coordinator");
        let mut init = Command::new(&self.programs.coordinator);
        init.arg("init").arg("--directory").arg(&directory);
        init.args(["--name", "127.0.0.1", "--operator", "demo"]);
        init.args(["--agent-listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0"]);
        ended_well("houston-coordinator init", run(init).await?)?;
        let mut command = Command::new(&self.programs.coordinator);
        command.arg("run").arg("--directory").arg(&directory).arg("--trial");
        command.stdout(Stdio::piped());
        let mut child = self.start(command, "coordinator.log")?;
        let ready = match child.stdout.take() {
            Some(stdout) => BufReader::new(stdout).lines().next_line().await.ok().flatten(),
            None => None,
        };
        self.coordinator = Some(child);
        let ready = ready.ok_or_else(|| self.silent_coordinator())?;
        for word in ready.split_whitespace() {
            match word.split_once('=') {
                Some(("agents", address)) => self.agents_address = address.to_owned(),
                Some(("enrollment", address)) => self.enrollment_address = address.to_owned(),
                _ => {}
            }
        }
        let (address, credential) = (self.agents_address.clone(), directory.join("operators/demo"));
        let credential = credential.display().to_string();
        self.houston(&["context", "add", "demo", "--address", &address, "--credential", &credential]).await?;
        Ok(())
    }

    fn silent_coordinator(&self) -> Refusal {
        let log = fs::read_to_string(self.place().join("coordinator.log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it said nothing");
        Refusal::new(Code::Demo, format!("the coordinator did not start: {}", quoted(last)), "")
    }

    /// A child with a log file, in a process group of its own: Ctrl-C reaches this process alone.
    fn start(&self, mut command: Command, log: &str) -> Result<Child, Refusal> {
        let log =
            fs::File::create(self.place().join(log)).map_err(|error| failed("making a log file", &error))?;
        command
            .stdin(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| failed("starting a program", &error))
    }

    pub(super) async fn start_agents(&mut self) -> Result<(), Refusal> {
        let uses = self.hosts.len().to_string();
        for zone in 0..self.zones {
            let zone = char::from(b'a' + zone as u8).to_string();
            let arguments = ["token", "create", "--zone", &zone, "--uses", &uses, "--label", "role=web"];
            let token = self.json(&arguments).await?;
            let token = token["secret"].as_str().unwrap_or_default().to_owned();
            let hosts: Vec<DemoHost> = self.hosts.iter().filter(|host| host.zone == zone).cloned().collect();
            for host in hosts {
                let agent = self.start_agent(&host, &token).await?;
                self.agents.push(agent);
            }
        }
        self.wait_for_hosts().await
    }

    async fn start_agent(&self, host: &DemoHost, token: &str) -> Result<Child, Refusal> {
        let hosts = self.place().join("hosts");
        fs::create_dir_all(&hosts).map_err(|error| failed("making a directory", &error))?;
        let directory = hosts.join(&host.name);
        let mut enroll = Command::new(&self.programs.agent);
        enroll.arg("enroll").arg("--directory").arg(&directory).args(["--name", &host.name]);
        enroll.args(["--coordinator", &self.enrollment_address]).env("HOUSTON_JOIN_TOKEN", token);
        ended_well("houston-agent enroll", run(enroll).await?)?;
        let config = hosts.join(format!("{}.toml", host.name));
        fs::write(&config, format!("address = \"{}\"\n", host.address))
            .map_err(|error| failed("writing an agent's configuration", &error))?;
        let mut agent = Command::new(&self.programs.agent);
        agent.arg("run").arg("--directory").arg(&directory).arg("--config").arg(&config).arg("--trial");
        self.start(agent, &format!("hosts/{}.log", host.name))
    }

    async fn wait_for_hosts(&self) -> Result<(), Refusal> {
        let deadline = Instant::now() + READY_TIME_MAX;
        loop {
            let hosts = self.json(&["host", "list"]).await?;
            let seen =
                hosts["hosts"].as_array().into_iter().flatten().filter(|host| host["presence"] == "seen");
            if seen.count() == self.hosts.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Refusal::new(
                    Code::Demo,
                    "the agents did not all check in",
                    "look at their logs",
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) fn write_tree(&self, edition: Edition) -> Result<PathBuf, Refusal> {
        let directory = self.place().join(format!("web-{}", edition.version));
        releases::write_tree(&directory, edition, self.port)
            .map_err(|error| failed("writing the demo's service", &error))?;
        Ok(directory)
    }

    /// Bakes and windows of a second or two; everything else as by default.
    pub(super) fn write_environment(&self, floor: Share) -> Result<PathBuf, Refusal> {
        let file = self.place().join("prod.toml");
        let text = format!(
            r#"name = "prod"

[selector]
role = "web"

[settings]
DEMO_PROGRAM = "{}"
GREETING = "Hello"

[policy]
fleet_floor = "{floor}"
health_window = "500ms"
apply_deadline = "30s"

[policy.bake]
one_box = "2s"
first_zone = "1s"
later_zones = "1s"
"#,
            self.programs.houston.display()
        );
        fs::write(&file, text).map_err(|error| failed("writing the environment's file", &error))?;
        Ok(file)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.houston);
        command.args(arguments).env("HOUSTON_CONFIG", &self.context_file).env_remove("HOUSTON_CONTEXT");
        command
    }

    /// Runs a command of the CLI that must succeed.
    pub(super) async fn houston(&self, arguments: &[&str]) -> Result<Output, Refusal> {
        let output = run(self.command(arguments)).await?;
        ended_well(&format!("houston {}", arguments.join(" ")), output)
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> Result<serde_json::Value, Refusal> {
        let output = self.houston(&[arguments, &["--output", "json"]].concat()).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| failed("reading an answer", &error))
    }

    /// Runs a command that speaks for itself, on this terminal or pipe, and returns its exit code.
    pub(super) async fn watch(&self, arguments: &[&str], time_max: Duration) -> Result<i32, Refusal> {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("starting a program", &error))?;
        let status = tokio::time::timeout(time_max, child.wait())
            .await
            .map_err(|_| Refusal::new(Code::Timeout, "the rollout did not come to an end", ""))?
            .map_err(|error| failed("waiting for a program", &error))?;
        Ok(status.code().unwrap_or(-1))
    }

    /// Ends every process that was started, agents first; they stop their services. The directory
    /// goes with this value.
    pub(super) async fn end(mut self) {
        for agent in &mut self.agents {
            drop(agent.stdin.take());
        }
        for agent in &mut self.agents {
            end(agent).await;
        }
        if let Some(mut coordinator) = self.coordinator.take() {
            drop(coordinator.stdin.take());
            end(&mut coordinator).await;
        }
    }
}

async fn end(child: &mut Child) {
    if tokio::time::timeout(END_TIME_MAX, child.wait()).await.is_err()
        && let Some(pid) = child.id()
    {
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

async fn run(mut command: Command) -> Result<Output, Refusal> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(COMMAND_TIME_MAX, command.output())
        .await
        .map_err(|_| Refusal::new(Code::Timeout, "a command did not come to an end", ""))?
        .map_err(|error| failed("starting a program", &error))
}

fn ended_well(what: &str, output: Output) -> Result<Output, Refusal> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it said nothing");
    Err(Refusal::new(Code::Demo, format!("`{}` failed: {}", quoted(what), quoted(said)), ""))
}

/// A port that is free on all of this machine's addresses.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}
