//! The agent's configuration: TOML as people write it, made into a [`Config`]. Unknown keys are errors.
//! Everything has a default, so there need not be a file.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::quoted;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

#[cfg(test)]
mod tests;

/// People write and read it; a longer one is the wrong file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Who else may write the file: group and others.
const MODE_OTHERS_WRITE: u32 = 0o022;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub runner: RunnerKind,
    /// Where this host's services listen and are probed; told to them as `HOUSTON_ADDRESS`. Several agents
    /// on one machine have one each, as in 127.0.0.2, so that their services can use the same ports.
    pub address: IpAddr,
    /// What is logged: a level, or directives of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// The state directory may be on a file system that forgets.
    pub state_may_be_lost: bool,
}

/// What starts and supervises services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerKind {
    /// The agent itself.
    Direct,
}

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    runner: Option<String>,
    address: Option<String>,
    log: Option<String>,
    state_may_be_lost: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            runner: RunnerKind::Direct,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            log: "info".to_owned(),
            state_may_be_lost: false,
        }
    }
}

impl Config {
    /// Reads a file. E-CFG-FILE, E-CFG-PERM, E-CFG-SYNTAX, E-CFG-KEY, E-CFG-VALUE.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        Self::parse(&read_text(path)?).map_err(|refusal| {
            let what = format!("{}: {}", shown(path), refusal.what);
            Refusal { what, ..refusal }
        })
    }

    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let Written { runner, address, log, state_may_be_lost } = read_toml(text)?;
        let default = Self::default();
        Ok(Self {
            runner: runner.map_or(Ok(default.runner), |text| parse_runner(&text))?,
            address: address.map_or(Ok(default.address), |text| parse_address(&text))?,
            log: log.map_or(Ok(default.log), parse_log)?,
            state_may_be_lost: state_may_be_lost.unwrap_or(default.state_may_be_lost),
        })
    }
}

fn parse_runner(text: &str) -> Result<RunnerKind, Refusal> {
    match text {
        "direct" => Ok(RunnerKind::Direct),
        _ => Err(value("runner", text, "no runner", "\"direct\" is the only one")),
    }
}

fn parse_address(text: &str) -> Result<IpAddr, Refusal> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err(value("address", text, "no address of a host", "write an IP address, as in 127.0.0.1")),
    }
}

fn parse_log(text: String) -> Result<String, Refusal> {
    match EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(value("log", &text, "no log level", "write error, warn, info, debug or trace")),
    }
}

fn value(key: &str, text: &str, problem: &str, next: &str) -> Refusal {
    Refusal::new(Code::ConfigValue, format!("{key} is \"{}\", which is {problem}", quoted(text)), next)
}

fn read_text(path: &Path) -> Result<String, Refusal> {
    let unreadable = |reason: &dyn Display| {
        let what = format!("cannot read {}: {reason}", shown(path));
        Refusal::new(Code::ConfigFile, what, "name another file, or none for the defaults")
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
    if let Err(error) = text.parse::<toml::Table>() {
        let is_twice = error.message().contains("duplicate key");
        let code = if is_twice { Code::ConfigKey } else { Code::ConfigSyntax };
        return Err(refuse(code, &error, as_written(&error), String::new()));
    }
    toml::from_str(text).map_err(|error| {
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

/// A path, safe to show.
pub(crate) fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
