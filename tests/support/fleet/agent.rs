//! One host: its agent's process, and what is on its disk.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::package::TRACE;
use super::processes::status;
use super::{Ran, end, processes_with, signal, spawn};

#[derive(Debug)]
pub struct Agent {
    name: String,
    program: PathBuf,
    directory: PathBuf,
    address: Ipv4Addr,
    child: Option<Child>,
}

impl Agent {
    pub(super) fn new(name: &str, program: PathBuf, directory: PathBuf, address: Ipv4Addr) -> Self {
        Self { name: name.to_owned(), program, directory, address, child: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn enrollment(&self, coordinator: &str, token: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("enroll").arg("--directory").arg(&self.directory).args(["--name", &self.name]);
        command.args(["--coordinator", coordinator]).env("HOUSTON_JOIN_TOKEN", token).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Command {
        let config = self.directory.with_extension("toml");
        fs::write(&config, format!("address = \"{}\"\n", self.address)).expect("written");
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--directory").arg(&self.directory).arg("--config").arg(config).arg("--trial");
        command
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        self.child = Some(spawn(self.run(), &self.directory.with_extension("log")));
    }

    /// Starts it beside one that runs, to its end.
    pub fn start_another(&self) -> Ran {
        Ran::new(self.run().stdin(Stdio::null()).output().expect("it runs"))
    }

    /// kill -9. What it started is not asked.
    pub fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }

    pub fn signal(&self, sent: Signal) {
        signal(self.pid(), sent);
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        status(self.pid(), "VmHWM:").expect("its memory")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.with_extension("log")).unwrap_or_default()
    }

    pub fn environment_dir(&self, environment: &str) -> PathBuf {
        self.directory.join("environments").join(environment)
    }

    /// The writable directory of a package.
    pub fn data(&self, environment: &str, package: &str) -> PathBuf {
        self.environment_dir(environment).join("data").join(package)
    }

    /// What hooks and services of `web` in `prod` have written: a line for each beginning and end.
    pub fn trace(&self) -> Vec<String> {
        self.trace_of("prod", "web")
    }

    pub fn trace_of(&self, environment: &str, package: &str) -> Vec<String> {
        let text = fs::read_to_string(self.data(environment, package).join(TRACE)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often this line, or one that begins with it, is in the trace of `web` in `prod`.
    pub fn traced(&self, line: &str) -> usize {
        self.trace().iter().filter(|traced| traced.starts_with(line)).count()
    }

    /// How often it has switched to a release, by its log.
    pub fn switches(&self) -> usize {
        self.log().matches("phase=Switching").count()
    }

    /// Lets a hook of `web` in `prod` wait in its middle until it is let go.
    pub fn hold(&self, hook: &str) {
        fs::write(self.data("prod", "web").join(format!("hold-{hook}")), "").expect("written");
    }

    pub fn let_go(&self, hook: &str) {
        fs::remove_file(self.data("prod", "web").join(format!("hold-{hook}"))).expect("removed");
    }

    /// The process of the service of `web` in `prod`, as the agent has recorded it.
    pub fn service_pid(&self) -> Option<i32> {
        let record = fs::read(self.directory.join("services/prod.web.http")).ok()?;
        let record: Value = serde_json::from_slice(&record).ok()?;
        let pid = record["process"]["pid"].as_i64()? as i32;
        self.processes().contains(&pid).then_some(pid)
    }

    /// Everything that runs for this host: guards, hooks, services, and what they have started.
    pub fn processes(&self) -> Vec<i32> {
        processes_with(&format!("HOUSTON_DATA={}/", self.directory.display()))
    }
}
