//! The coordinator's configuration: TOML as people write it, read with care and made into a [`Config`].
//! Unknown keys are errors. `init` writes the file that `run --directory` reads.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use houston_common::api::convert::HOLD_MAX;
use houston_common::clock::{DURATION_MAX, Exact, parse_duration};
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::quoted;
use houston_common::tls::{Address, ServerName};
use serde::Deserialize;

use crate::files::Reserve;
use crate::fleet::{HOLD, LOST_AFTER};
use crate::prometheus::Url;

#[cfg(test)]
mod tests;

/// The file's name in the coordinator's directory.
pub const FILE_NAME: &str = "coordinator.toml";

/// People write and read it; a longer one is the wrong file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Who else may write the file: group and others.
const MODE_OTHERS_WRITE: u32 = 0o022;

/// Where it listens unless told otherwise.
pub const AGENT_LISTEN: &str = "0.0.0.0:7400";
pub const ENROLLMENT_LISTEN: &str = "0.0.0.0:7401";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Connections of hosts and operators together. Each idle one costs some 60 KiB, so this many are
/// 600 MiB; a larger fleet raises it with the memory.
const CONNECTIONS_MAX: u32 = 10_000;

/// Fetches admitted at once. Each holds a thread and the uplink's share; beyond fifty they only slow
/// each other down.
const FETCHES_MAX: u32 = 50;

/// All that `run` needs to know. Durations are exact; port 0 lets the kernel choose.
#[derive(Debug, Clone)]
pub struct Config {
    pub directory: PathBuf,
    /// What clients call the coordinator by: its certificate is for these. At least one.
    pub names: Vec<ServerName>,
    pub agent_listen: SocketAddr,
    pub enrollment_listen: SocketAddr,
    /// Told to hosts when they enroll. Absent: the first name with the port that is listened on.
    pub agent_address: Option<Address>,
    /// How long a check-in may be held.
    pub hold: Duration,
    /// Silence after which a host counts as lost.
    pub lost_after: Duration,
    pub host_certificate_lifetime: Duration,
    pub operator_certificate_lifetime: Duration,
    pub coordinator_certificate_lifetime: Duration,
    pub connections_max: u32,
    pub fetches_max: u32,
    /// What uploads leave free on the disk.
    pub reserve: Reserve,
    /// The directory may be on a file system that forgets.
    pub state_may_be_lost: bool,
    /// Whom metric gates ask. Absent: nobody, and they stay closed.
    pub prometheus: Option<Url>,
}

/// As written. Every key but `names` has a default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    directory: Option<PathBuf>,
    names: Vec<String>,
    agent_listen: Option<String>,
    enrollment_listen: Option<String>,
    agent_address: Option<String>,
    hold: Option<String>,
    lost_after: Option<String>,
    host_certificate_lifetime: Option<String>,
    operator_certificate_lifetime: Option<String>,
    coordinator_certificate_lifetime: Option<String>,
    connections_max: Option<u32>,
    fetches_max: Option<u32>,
    reserve_bytes: Option<u64>,
    state_may_be_lost: Option<bool>,
    prometheus: Option<String>,
}

impl Config {
    /// The defaults, for a coordinator that is called by `names`.
    pub fn new(directory: PathBuf, names: Vec<ServerName>) -> Self {
        let listen = |text: &str| -> SocketAddr {
            text.parse().unwrap_or_else(|_| unreachable!("{text} is a socket address"))
        };
        Self {
            directory,
            names,
            agent_listen: listen(AGENT_LISTEN),
            enrollment_listen: listen(ENROLLMENT_LISTEN),
            agent_address: None,
            hold: HOLD,
            lost_after: LOST_AFTER,
            host_certificate_lifetime: 30 * DAY,
            operator_certificate_lifetime: 90 * DAY,
            coordinator_certificate_lifetime: 30 * DAY,
            connections_max: CONNECTIONS_MAX,
            fetches_max: FETCHES_MAX,
            reserve: Reserve::Share,
            state_may_be_lost: false,
            prometheus: None,
        }
    }

    /// Reads a file. E-CFG-FILE, E-CFG-PERM, E-CFG-SYNTAX, E-CFG-KEY, E-CFG-VALUE, E-CFG-CONFLICT.
    /// Without a `directory` in it, its own is meant.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let text = read_text(path)?;
        let own = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::parse(&text, own.unwrap_or_else(|| Path::new("."))).map_err(|refusal| {
            let what = format!("{}: {}", shown(path), refusal.what);
            Refusal { what, ..refusal }
        })
    }

    /// Reads the text of a file that lies in the directory `own`.
    pub fn parse(text: &str, own: &Path) -> Result<Self, Refusal> {
        let written: Written = read_toml(text)?;
        let names = written.names.iter().map(|name| name.parse().map_err(|refusal| at("names", refusal)));
        let defaults =
            Self::new(written.directory.unwrap_or_else(|| own.to_owned()), names.collect::<Result<_, _>>()?);
        let config = Self {
            agent_listen: listen("agent_listen", written.agent_listen, defaults.agent_listen)?,
            enrollment_listen: listen(
                "enrollment_listen",
                written.enrollment_listen,
                defaults.enrollment_listen,
            )?,
            agent_address: match written.agent_address {
                Some(text) => Some(text.parse().map_err(|refusal| at("agent_address", refusal))?),
                None => None,
            },
            hold: duration("hold", written.hold, defaults.hold)?,
            lost_after: duration("lost_after", written.lost_after, defaults.lost_after)?,
            host_certificate_lifetime: duration(
                "host_certificate_lifetime",
                written.host_certificate_lifetime,
                defaults.host_certificate_lifetime,
            )?,
            operator_certificate_lifetime: duration(
                "operator_certificate_lifetime",
                written.operator_certificate_lifetime,
                defaults.operator_certificate_lifetime,
            )?,
            coordinator_certificate_lifetime: duration(
                "coordinator_certificate_lifetime",
                written.coordinator_certificate_lifetime,
                defaults.coordinator_certificate_lifetime,
            )?,
            connections_max: written.connections_max.unwrap_or(defaults.connections_max),
            fetches_max: written.fetches_max.unwrap_or(defaults.fetches_max),
            reserve: written.reserve_bytes.map_or(defaults.reserve, Reserve::Bytes),
            state_may_be_lost: written.state_may_be_lost.unwrap_or(defaults.state_may_be_lost),
            prometheus: written.prometheus.as_deref().map(str::parse).transpose()?,
            ..defaults
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses values that no coordinator could run with. For those who change a config in place.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.names.is_empty() {
            return Err(value(
                "names",
                "is empty",
                "name what clients connect to: a DNS name or an IP address",
            ));
        }
        if self.hold > HOLD_MAX {
            return Err(value("hold", &format!("is above {}", Exact(HOLD_MAX)), ""));
        }
        for (key, number) in [("connections_max", self.connections_max), ("fetches_max", self.fetches_max)] {
            if number == 0 {
                return Err(value(key, "is 0: nobody could get in", ""));
            }
        }
        if self.lost_after <= self.hold {
            let what = format!(
                "lost_after ({}) is not above hold ({}): a host whose check-in is held would count as lost",
                Exact(self.lost_after),
                Exact(self.hold)
            );
            return Err(Refusal::new(Code::ConfigConflict, what, "three holds are a good lost_after"));
        }
        Ok(())
    }

    /// The file's text for a new coordinator. [`Config::parse`] reads it back.
    pub fn to_text(names: &[ServerName], agent_listen: SocketAddr, enrollment_listen: SocketAddr) -> String {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!(
            "# What clients call this coordinator by: its certificate is for these names.\n\
             names = [{}]\n\
             # Hosts and operators connect here, with certificates.\n\
             agent_listen = \"{agent_listen}\"\n\
             # New machines connect here, with join tokens.\n\
             enrollment_listen = \"{enrollment_listen}\"\n",
            names.join(", ")
        )
    }
}

fn read_text(path: &Path) -> Result<String, Refusal> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        let what = format!("cannot read {}: {reason}", shown(path));
        Refusal::new(
            Code::ConfigFile,
            what,
            "name the file, or make a coordinator with `houston-coordinator init`",
        )
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is not a plain file"));
    }
    if metadata.mode() & MODE_OTHERS_WRITE != 0 {
        let what = format!("{} has mode {:04o}: others can write it", shown(path), metadata.mode() & 0o777);
        return Err(Refusal::new(Code::ConfigPermission, what, format!("chmod go-w {}", shown(path))));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(&format_args!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))
}

fn read_toml(text: &str) -> Result<Written, Refusal> {
    let refuse = |code: Code, error: &toml::de::Error, what: String, next: String| {
        let place = error.span().map_or_else(String::new, |span| place(text, span.start));
        Refusal::new(code, format!("{place}{what}"), next)
    };
    let as_written = |error: &toml::de::Error| {
        let line = error.span().map_or("", |span| line(text, span.start));
        format!("{}: \"{}\"", quoted(error.message()), quoted(line))
    };
    if let Err(error) = toml::from_str::<toml::Table>(text) {
        let twice = error.message().contains("duplicate key");
        let code = if twice { Code::ConfigKey } else { Code::ConfigSyntax };
        return Err(refuse(code, &error, as_written(&error), String::new()));
    }
    toml::from_str(text).map_err(|error| {
        if error.message().starts_with("missing field") {
            return refuse(Code::ConfigKey, &error, quoted(error.message()), String::new());
        }
        let Some(rest) = error.message().strip_prefix("unknown field `") else {
            return refuse(Code::ConfigValue, &error, as_written(&error), String::new());
        };
        let (key, rest) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let next = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known here: {}", known.join(", ")),
        };
        refuse(Code::ConfigKey, &error, format!("there is no key \"{}\"", quoted(key)), next)
    })
}

/// The line in which a byte is.
fn line(text: &str, byte: usize) -> &str {
    let number = text.get(..byte).unwrap_or(text).matches('\n').count();
    text.lines().nth(number).unwrap_or_default().trim()
}

/// Line and column of a byte, from 1, for the front of a message.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: ")
}

fn at(key: &str, refusal: Refusal) -> Refusal {
    Refusal::new(Code::ConfigValue, format!("{key}: {}", refusal.what), refusal.next)
}

fn value(key: &str, problem: &str, next: &str) -> Refusal {
    Refusal::new(Code::ConfigValue, format!("{key} {problem}"), next)
}

fn listen(key: &str, text: Option<String>, default: SocketAddr) -> Result<SocketAddr, Refusal> {
    let Some(text) = text else { return Ok(default) };
    text.parse().map_err(|_| {
        let problem = format!("is \"{}\", not IP:PORT", quoted(&text));
        value(key, &problem, "write 0.0.0.0:7400 to listen on every address")
    })
}

fn duration(key: &str, text: Option<String>, default: Duration) -> Result<Duration, Refusal> {
    let Some(text) = text else { return Ok(default) };
    let duration = parse_duration(&text)
        .map_err(|error| value(key, &format!("is refused: {error}"), "write 5s, 5m or 5h"))?;
    if duration.is_zero() {
        return Err(value(key, "is 0", &format!("write at least 1ms, at most {}", Exact(DURATION_MAX))));
    }
    Ok(duration)
}

pub(crate) fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
