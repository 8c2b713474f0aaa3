//! The demo's package, in three versions: small trees, written as a person would write them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What is told apart in the three versions.
#[derive(Debug, Clone, Copy)]
pub struct Edition {
    pub version: &'static str,
    pub broken: bool,
}

pub const FIRST: Edition = Edition { version: "1.0.0", broken: false };
pub const SECOND: Edition = Edition { version: "2.0.0", broken: false };
pub const THIRD: Edition = Edition { version: "3.0.0", broken: true };

/// Writes the tree of one version. `port` is the same on every host: each has an address of its own.
pub fn write_tree(directory: &Path, edition: Edition, port: u16) -> io::Result<()> {
    fs::create_dir_all(directory.join("bin"))?;
    fs::create_dir_all(directory.join("hooks"))?;
    fs::write(directory.join("houston.toml"), package_file(edition.version, port))?;
    let broken = if edition.broken { " --broken" } else { "" };
    let serve = format!(
        "#!/bin/sh\n\
         exec \"$DEMO_PROGRAM\" demo-service --listen \"$HOUSTON_ADDRESS:{port}\" \\\n  \
           --version {} --greeting \"$GREETING\" --drain-file \"$HOUSTON_DATA/drain\"{broken}\n",
        edition.version
    );
    executable(&directory.join("bin/serve"), &serve)?;
    let check = "#!/bin/sh\n\
         # May this version run here? Changes nothing.\n\
         test -x \"$DEMO_PROGRAM\" || { echo \"there is no program $DEMO_PROGRAM\" >&2; exit 1; }\n";
    executable(&directory.join("hooks/check"), check)?;
    let drain = "#!/bin/sh\n\
         # Out of the load balancer, and a moment for open requests.\n\
         touch \"$HOUSTON_DATA/drain\"\n\
         sleep 0.1\n";
    executable(&directory.join("hooks/drain"), drain)?;
    executable(&directory.join("hooks/resume"), "#!/bin/sh\nrm -f \"$HOUSTON_DATA/drain\"\n")
}

fn package_file(version: &str, port: u16) -> String {
    format!(
        r#"name = "web"
version = "{version}"

[hooks.check]
command = ["hooks/check"]
timeout = "10s"

[hooks.drain]
command = ["hooks/drain"]
timeout = "10s"

[hooks.resume]
command = ["hooks/resume"]
timeout = "10s"

[[services]]
name = "http"
command = ["bin/serve"]
ports = [{port}]
stop_grace = "2s"

[[services.health]]
http = {{ port = {port}, path = "/healthz", expect_body = "ok" }}
interval = "200ms"
timeout = "1s"
unhealthy_after = 3
start_grace = "2s"

[settings]
DEMO_PROGRAM = {{ required = true }}
GREETING = {{ default = "Hello" }}
"#
    )
}

fn executable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
