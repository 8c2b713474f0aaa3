//! Packages whose hooks and services write down what happens to them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// In a package's data directory: `drain 1.0.0 begin`, `drain 1.0.0 end`, `serve 1.0.0`.
pub(super) const TRACE: &str = "trace";

/// A hook that writes its beginning and its end, waits while there is a file `hold-<phase>` in the
/// package's data directory, and does more where it is told to.
#[derive(Debug, Clone)]
pub struct Hook {
    pub phase: &'static str,
    /// Lines of shell, between the beginning and the end.
    pub body: String,
    pub timeout: &'static str,
    pub rerun: bool,
}

impl Hook {
    pub fn new(phase: &'static str, body: &str) -> Self {
        Self { phase, body: body.to_owned(), timeout: "10s", rerun: true }
    }
}

/// A version of a small web service.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: &'static str,
    pub version: String,
    /// It runs, and says that it is not well.
    pub is_broken: bool,
    pub hooks: Vec<Hook>,
    /// Lines of shell before the service starts.
    pub before_serving: &'static str,
    /// Added to the fleet's port, for packages that run beside each other.
    pub port_offset: u16,
}

impl Package {
    /// A good version of `web` with every hook that an activation calls.
    pub fn web(version: &str) -> Self {
        let hooks = ["drain", "stop", "start", "resume", "cleanup"].map(|phase| Hook::new(phase, ""));
        Self {
            name: "web",
            version: version.to_owned(),
            is_broken: false,
            hooks: hooks.into(),
            before_serving: "",
            port_offset: 0,
        }
    }

    pub fn broken(version: &str) -> Self {
        Self { is_broken: true, ..Self::web(version) }
    }

    /// With this hook instead of its own.
    #[must_use]
    pub fn with(mut self, hook: Hook) -> Self {
        self.hooks.retain(|old| old.phase != hook.phase);
        self.hooks.push(hook);
        self
    }

    pub(super) fn write(&self, directory: &Path, port: u16) {
        for part in ["bin", "hooks"] {
            fs::create_dir_all(directory.join(part)).expect("a directory");
        }
        let (name, version, port) = (self.name, &self.version, port + self.port_offset);
        let before = self.before_serving;
        let mut file = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        for Hook { phase, body, timeout, rerun } in &self.hooks {
            let _ = write!(
                file,
                "[hooks.{phase}]\ncommand = [\"hooks/{phase}\"]\ntimeout = \"{timeout}\"\nrerun = {rerun}\n"
            );
            let script = format!(
                "#!/bin/sh\necho '{phase} {version} begin' >> \"$HOUSTON_DATA/{TRACE}\"\n\
                 while [ -e \"$HOUSTON_DATA/hold-{phase}\" ]; do sleep 0.05; done\n{body}\n\
                 echo '{phase} {version} end' >> \"$HOUSTON_DATA/{TRACE}\"\n"
            );
            executable(&directory.join("hooks").join(phase), &script);
        }
        let _ = write!(
            file,
            "[[services]]\nname = \"http\"\ncommand = [\"bin/serve\"]\nports = [{port}]\nstop_grace = \"2s\"\n\
             [[services.health]]\nhttp = {{ port = {port}, path = \"/healthz\", expect_body = \"ok\" }}\n\
             interval = \"100ms\"\ntimeout = \"2s\"\nunhealthy_after = 5\nstart_grace = \"5s\"\n\
             [settings]\nDEMO_PROGRAM = {{ required = true }}\nGREETING = {{ default = \"Hello\" }}\n"
        );
        fs::write(directory.join("houston.toml"), file).expect("written");
        let broken = if self.is_broken { " --broken" } else { "" };
        let serve = format!(
            "#!/bin/sh\necho 'serve {version}' >> \"$HOUSTON_DATA/{TRACE}\"\n{before}\n\
             exec \"$DEMO_PROGRAM\" demo-service --listen \"$HOUSTON_ADDRESS:{port}\" --version {version} \
             --greeting \"$GREETING\" --drain-file \"$HOUSTON_DATA/drain\"{broken}\n"
        );
        executable(&directory.join("bin/serve"), &serve);
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}
