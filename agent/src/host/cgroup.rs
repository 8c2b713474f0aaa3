//! Control groups (version 2), where the agent may make them. A process cannot leave its group by
//! forking or by starting a session, so a group is the only complete list of what a hook started.

use std::io;
use std::path::{Path, PathBuf};

use houston_common::digest::Digest;
use houston_common::package::Limits;
use serde::{Deserialize, Serialize};

/// The place for this agent's groups.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    base: Option<PathBuf>,
}

impl Cgroups {
    /// Finds or makes a group for the agent with this state directory below the group that it runs
    /// in. On a host where it may not, groups are not used.
    pub fn open(state: &Path) -> Self {
        let base = own_group().and_then(|own| {
            // Several agents may run on one machine, for a trial.
            let name = format!("houston-{}", Digest::of(state.as_os_str().as_encoded_bytes()).short());
            let base = own.join(name);
            make(&base).ok()?;
            // Only the top group may hold processes and pass controllers on; elsewhere this fails,
            // and limits that need a controller fall back to those of the process.
            for group in [&own, &base] {
                for controller in ["+memory", "+pids"] {
                    let _ = write(&group.join("cgroup.subtree_control"), controller);
                }
            }
            Some(base)
        });
        if base.is_none() {
            tracing::info!(
                "no control group (version 2) can be made here; processes are followed by session"
            );
        }
        Self { base }
    }

    /// None: processes are followed by session and parent.
    pub const fn none() -> Self {
        Self { base: None }
    }

    /// Makes or finds a group. Absent where groups cannot be made.
    pub fn make(&self, name: &str) -> Option<Cgroup> {
        let path = self.base.as_ref()?.join(name);
        make(&path).ok()?;
        Some(Cgroup(path))
    }

    /// A group that exists.
    pub fn find(&self, name: &str) -> Option<Cgroup> {
        let path = self.base.as_ref()?.join(name);
        path.is_dir().then_some(Cgroup(path))
    }

    /// Removes the agent's own group with those in it that are empty: the host forgets this agent.
    pub fn remove(&self) {
        if let Some(base) = &self.base {
            Cgroup(base.clone()).remove();
        }
    }

    /// Kills and removes the groups with this prefix: what an agent left that was killed together
    /// with its hooks' guards. For the start of the agent, before any hook runs.
    pub fn sweep(&self, prefix: &str) {
        let Some(Ok(entries)) = self.base.as_ref().map(std::fs::read_dir) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                let group = Cgroup(entry.path());
                group.kill();
                group.remove();
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Puts a process into the group; its children will be in it too.
    pub fn add(&self, pid: i32) -> io::Result<()> {
        write(&self.0.join("cgroup.procs"), &pid.to_string())
    }

    /// The ids of all processes in the group and in groups below.
    pub fn members(&self) -> Vec<i32> {
        let mut members = Vec::new();
        self.each_group(&mut |group| {
            let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            members.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        });
        members
    }

    /// Ends every process in the group at once.
    pub fn kill(&self) {
        // Since Linux 5.14: nothing can fork away from it.
        if write(&self.0.join("cgroup.kill"), "1").is_err() {
            for pid in self.members().into_iter().filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes the group and those below, if they are empty.
    pub fn remove(&self) {
        self.each_group(&mut |group| {
            let _ = std::fs::remove_dir(group);
        });
    }

    /// Sets limits; says which of memory and processes the host's controllers took.
    pub fn limit(&self, limits: &Limits) -> (bool, bool) {
        let set = |file, value: Option<u64>| {
            value.is_some_and(|value| write(&self.0.join(file), &value.to_string()).is_ok())
        };
        (set("memory.max", limits.memory_bytes), set("pids.max", limits.processes))
    }

    /// The deepest first.
    fn each_group(&self, visit: &mut dyn FnMut(&Path)) {
        fn descend(group: &Path, visit: &mut dyn FnMut(&Path)) {
            for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    descend(&entry.path(), visit);
                }
            }
            visit(group);
        }
        descend(&self.0, visit);
    }
}

/// The directory of the group that this process is in.
fn own_group() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    locate(&mounts, &groups)
}

/// The mount point is never assumed: hosts with version 1 mount version 2 elsewhere.
fn locate(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let fields: Vec<&str> = mount.split(' ').collect();
        let (root, point) = (fields.get(3)?, fields.get(4)?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_where_it_is() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let found = locate(hybrid, "9:name=systemd:/\n0::/a/b\n");
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/a/b")));
        let inner = "41 31 0:38 /box /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(locate(inner, "0::/box\n").as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(locate(inner, "0::/elsewhere\n"), None);
        assert_eq!(locate("40 31 0:37 / /x rw - cgroup cgroup rw\n", "0::/\n"), None);
    }
}
