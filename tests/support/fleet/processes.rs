//! Looking at processes, and ending those that were started here.

use std::fs;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// kill -9, and its end.
pub fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A process that has ended already is none the worse.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Processes, zombies left out, whose environment holds the text.
pub fn processes_with(text: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(text.as_bytes()))
    };
    pids.filter(has).collect()
}

/// A number of `/proc/<pid>/status`.
pub(super) fn status<T: std::str::FromStr>(pid: i32, field: &str) -> Option<T> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}
