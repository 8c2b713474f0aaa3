//! The demo's fleet: a coordinator and the agents, with all that they keep in one temporary directory.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::policy::Share;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;

use super::prober::Target;
use super::process::{Programs, Watched, ended_well, failed, run, start};
use super::releases::{self, Edition};

/// Enrolled hosts check in at once; a machine that is busy building something may take longer.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// A service of this machine answers at once or not at all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Fleet {
    place: TempDir,
    programs: Programs,
    zones: u32,
    hosts: Vec<DemoHost>,
    /// On which the service listens, at each host's own address.
    port: u16,
    coordinator: Option<Watched>,
    /// How the coordinator has ended, once it has.
    coordinator_ended: watch::Sender<Option<String>>,
    agents: Vec<Watched>,
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
            coordinator_ended: watch::Sender::new(None),
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

    /// Where `houston` is.
    pub(super) fn programs(&self) -> &Path {
        self.programs.houston.parent().unwrap_or_else(|| Path::new("/"))
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
        let mut child = start(command, &self.place().join("coordinator.log"))?;
        let stdout = child.stdout.take();
        self.coordinator = Some(Watched::new(child, self.coordinator_ended.clone()));
        let ready = match stdout {
            Some(stdout) => BufReader::new(stdout).lines().next_line().await.ok().flatten(),
            None => None,
        };
        let ready = ready
            .ok_or_else(|| without_coordinator(&self.place().join("coordinator.log"), "did not start"))?;
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

    /// Until the coordinator has ended, though nobody here has asked it to.
    pub(super) fn coordinator_ended(&self) -> impl Future<Output = Refusal> + use<> {
        let mut ended = self.coordinator_ended.subscribe();
        let log = self.place().join("coordinator.log");
        async move {
            match ended.wait_for(Option::is_some).await.map(|how| how.clone().unwrap_or_default()) {
                Ok(how) => without_coordinator(&log, &format!("has ended ({how})")),
                Err(_) => std::future::pending().await,
            }
        }
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

    fn hosts_directory(&self) -> PathBuf {
        self.place().join("hosts")
    }

    async fn start_agent(&self, host: &DemoHost, token: &str) -> Result<Watched, Refusal> {
        let hosts = self.hosts_directory();
        fs::create_dir_all(&hosts).map_err(|error| failed("making a directory", &error))?;
        let directory = hosts.join(&host.name);
        let mut enroll = Command::new(&self.programs.agent);
        enroll.arg("enroll").arg("--directory").arg(&directory).args(["--name", &host.name]);
        enroll.args(["--coordinator", &self.enrollment_address]).env("HOUSTON_JOIN_TOKEN", token);
        ended_well("houston-agent enroll", run(enroll).await?)?;
        fs::write(hosts.join(format!("{}.toml", host.name)), format!("address = \"{}\"\n", host.address))
            .map_err(|error| failed("writing an agent's configuration", &error))?;
        let agent = start(self.agent(host), &hosts.join(format!("{}.log", host.name)))?;
        Ok(Watched::new(agent, watch::Sender::new(None)))
    }

    /// An agent that ends with its standard input, and its services with it.
    fn agent(&self, host: &DemoHost) -> Command {
        let hosts = self.hosts_directory();
        let (directory, config) = (hosts.join(&host.name), hosts.join(format!("{}.toml", host.name)));
        let mut agent = Command::new(&self.programs.agent);
        agent.arg("run").arg("--directory").arg(directory).arg("--config").arg(config).arg("--trial");
        agent
    }

    /// The services that are recorded on a host as started and not ended.
    fn services(&self, host: &DemoHost) -> Vec<String> {
        let records = fs::read_dir(self.hosts_directory().join(&host.name).join("services"));
        let names = records.into_iter().flatten().flatten().map(|record| record.file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| !name.starts_with('.')).collect()
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

    /// Ends every process that was started, agents first; they stop their services. Returns what could
    /// not be ended; without any, the directory goes too.
    pub(super) async fn end(mut self) -> Vec<String> {
        let agents = std::mem::take(&mut self.agents).into_iter().map(|agent| tokio::spawn(agent.end()));
        for agent in agents.collect::<Vec<_>>() {
            let _ = agent.await;
        }
        for host in &self.hosts {
            // An agent that was killed has left them. The next one finds them, and ends them as it ends.
            if !self.services(host).is_empty() {
                let _ = run(self.agent(host)).await;
            }
        }
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.end().await;
        }
        let mut left = self.left().await;
        if left.is_empty() {
            let place = self.place.path().to_owned();
            let removed = make_writable(&place).and_then(|()| self.place.close());
            left.extend(removed.err().map(|error| format!("{}: {error}", place.display())));
        } else {
            self.place.disable_cleanup(true);
        }
        left
    }

    /// What still runs, by the hosts' records and by who answers at their addresses.
    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (host, target) in self.hosts.iter().zip(self.targets()) {
            let records = self.hosts_directory().join(&host.name).join("services");
            let recorded = self.services(host).into_iter();
            left.extend(
                recorded.map(|name| format!("a service of {}: {}", host.name, records.join(name).display())),
            );
            let connect = TcpStream::connect(target.address);
            if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_TIME_MAX, connect).await {
                left.push(format!("somebody answers for {} at {}", host.name, target.address));
            }
        }
        left
    }
}

/// Trees are read-only, their directories too: without this only root could remove them.
fn make_writable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

fn without_coordinator(log: &Path, what: &str) -> Refusal {
    let log = fs::read_to_string(log).unwrap_or_default();
    let last = log.lines().last().unwrap_or("it said nothing");
    Refusal::new(Code::Demo, format!("the coordinator {what}; the end of its log: {}", quoted(last)), "")
}

/// A port that is free on all of this machine's addresses.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_tree_can_be_removed_by_whoever_made_it() {
        let place = tempfile::tempdir().expect("directory");
        let tree = place.path().join("trees/web");
        fs::create_dir_all(tree.join("bin")).expect("made");
        let outside = tempfile::tempdir().expect("directory");
        std::os::unix::fs::symlink(outside.path(), tree.join("bin/link")).expect("made");
        let directories = [tree.join("bin"), tree];
        let mode = |path: &PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        for path in &directories {
            fs::set_permissions(path, fs::Permissions::from_mode(0o555)).expect("changed");
        }
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o555)).expect("changed");
        make_writable(place.path()).expect("writable");
        assert_eq!(directories.each_ref().map(mode), [0o700, 0o700]);
        assert_eq!(mode(&outside.path().to_owned()), 0o555, "no link is followed");
        place.close().expect("removed");
    }
}
