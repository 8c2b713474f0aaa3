//! What a host says it is.

use std::time::Duration;

use super::{
    InvalidField, LINE_CHARS_MAX, Wire, at_least_one, at_most, digest, distinct, duration, error_code, line,
    list, name, names, nested, optional, optional_name, required, required_line, to_bytes, to_list, to_names,
    value, wall_time, wire_enum, wrong_length,
};
use crate::api::wire;
use crate::assignment::Stamp;
use crate::clock::millis;
use crate::digest::ReleaseDigest;
use crate::error::Code;
use crate::exchange::HOST_ENVIRONMENTS_MAX;
use crate::id::{Epoch, Generation, Platform, StoreId, Version, is_plain, quoted};
use crate::report::{
    EnvironmentReport, Facts, Failure, HealthReport, LOG_TAIL_BYTES_MAX, Phase, Position, Report,
};

/// A host fits few platforms, and a package is built for few.
pub const PLATFORMS_MAX: usize = 8;
/// Most features that one side states.
pub const FEATURES_MAX: usize = 64;
/// Longest fact, in characters.
pub const FACT_CHARS_MAX: usize = 256;
/// Highest counter that is believed. Counters grow by one: a higher one is a lie or a fault, and must
/// not push a real counter to its end.
pub const COUNTER_MAX: u64 = 1 << 62;

wire_enum!(Phase {
    Idle,
    Fetching,
    LayingOut,
    Ready,
    Stopping,
    Switching,
    Starting,
    Proving,
    Settled,
    Reverting,
    Reverted,
    Failed,
});

impl Wire for Report {
    type Message = wire::Report;

    fn to_wire(&self) -> wire::Report {
        let Self {
            protocol,
            features,
            position,
            agent_version,
            platforms,
            facts,
            environments,
            certificate_expires_ms,
        } = self;
        wire::Report {
            protocol: *protocol,
            features: features.clone(),
            position: Some(position.to_wire()),
            agent_version: agent_version.clone(),
            platforms: to_names(platforms),
            facts: Some(facts.to_wire()),
            environments: to_list(environments),
            certificate_expires_at_ms: *certificate_expires_ms,
        }
    }

    fn from_wire(message: wire::Report) -> Result<Self, InvalidField> {
        let wire::Report {
            protocol,
            features: stated,
            position,
            agent_version,
            platforms: fitting,
            facts,
            environments,
            certificate_expires_at_ms,
        } = message;
        let environments: Vec<EnvironmentReport> = list("environments", environments, HOST_ENVIRONMENTS_MAX)?;
        distinct("environments", environments.iter().map(|report| &report.environment))?;
        Ok(Self {
            protocol: protocol_version("protocol", protocol)?,
            features: features("features", stated)?,
            position: nested("position", position)?,
            agent_version: name::<Version>("agent_version", &agent_version)?.to_string(),
            platforms: platforms("platforms", &fitting)?,
            facts: nested("facts", facts)?,
            environments,
            certificate_expires_ms: wall_time("certificate_expires_at_ms", certificate_expires_at_ms)?.0,
        })
    }
}

pub(super) fn protocol_version(field: &str, version: u32) -> Result<u32, InvalidField> {
    if version == 0 { Err(InvalidField::new(field, "is missing or 0")) } else { Ok(version) }
}

/// Names of features, `[a-z0-9-]{1,63}`, none twice.
pub(super) fn features(field: &str, features: Vec<String>) -> Result<Vec<String>, InvalidField> {
    at_most(field, features.len(), FEATURES_MAX)?;
    distinct(field, &features)?;
    let fits = |feature: &String| {
        (1..=63).contains(&feature.len())
            && feature.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    match features.iter().find(|feature| !fits(feature)) {
        Some(odd) => {
            Err(InvalidField::new(field, format!("must match [a-z0-9-]{{1,63}}, got \"{}\"", quoted(odd))))
        }
        None => Ok(features),
    }
}

fn platforms(field: &str, texts: &[String]) -> Result<Vec<Platform>, InvalidField> {
    let platforms = at_least_one(field, names(field, texts, PLATFORMS_MAX)?)?;
    distinct(field, &platforms)?;
    if platforms.last() == Some(&Platform::any()) {
        Ok(platforms)
    } else {
        Err(InvalidField::new(field, "does not end with \"any\""))
    }
}

/// A counter that starts at 1.
fn counter(field: &str, number: u64, code: Code) -> Result<u64, InvalidField> {
    let problem = match number {
        0 => "is missing or 0",
        1..=COUNTER_MAX => return Ok(number),
        _ => "is higher than a counter can get",
    };
    Err(InvalidField { code, ..InvalidField::new(field, problem) })
}

impl Wire for Position {
    type Message = wire::Position;

    fn to_wire(&self) -> wire::Position {
        let Self { start, nonce, sequence } = *self;
        wire::Position { start, nonce, sequence }
    }

    fn from_wire(message: wire::Position) -> Result<Self, InvalidField> {
        let wire::Position { start, nonce, sequence } = message;
        Ok(Self {
            start: counter("start", start, Code::Sequence)?,
            nonce,
            sequence: counter("sequence", sequence, Code::Sequence)?,
        })
    }
}

impl Wire for Facts {
    type Message = wire::Facts;

    fn to_wire(&self) -> wire::Facts {
        let Self { hostname, os, kernel, cpus, memory_bytes, disk_bytes, disk_free_bytes } = self;
        wire::Facts {
            hostname: hostname.clone(),
            os: os.clone(),
            kernel: kernel.clone(),
            cpus: *cpus,
            memory_bytes: *memory_bytes,
            disk_bytes: *disk_bytes,
            disk_free_bytes: *disk_free_bytes,
        }
    }

    fn from_wire(message: wire::Facts) -> Result<Self, InvalidField> {
        let wire::Facts { hostname, os, kernel, cpus, memory_bytes, disk_bytes, disk_free_bytes } = message;
        Ok(Self {
            hostname: line("hostname", hostname, FACT_CHARS_MAX)?,
            os: line("os", os, FACT_CHARS_MAX)?,
            kernel: line("kernel", kernel, FACT_CHARS_MAX)?,
            cpus,
            memory_bytes,
            disk_bytes,
            disk_free_bytes,
        })
    }
}

impl Wire for EnvironmentReport {
    type Message = wire::EnvironmentReport;

    fn to_wire(&self) -> wire::EnvironmentReport {
        let Self { environment, stamp, phase, running, health, failure } = self;
        wire::EnvironmentReport {
            environment: environment.to_string(),
            stamp: stamp.as_ref().map(Wire::to_wire),
            phase: phase.to_wire(),
            running: running.map(|digest| to_bytes(digest.as_bytes())),
            health: Some(health.to_wire()),
            failure: failure.as_ref().map(Wire::to_wire),
        }
    }

    fn from_wire(message: wire::EnvironmentReport) -> Result<Self, InvalidField> {
        let wire::EnvironmentReport { environment, stamp, phase, running, health, failure } = message;
        Ok(Self {
            environment: name("environment", &environment)?,
            stamp: optional("stamp", stamp)?,
            phase: value("phase", phase)?,
            running: running.map(|bytes| digest("running", &bytes)).transpose()?.map(ReleaseDigest),
            health: nested("health", health)?,
            failure: optional("failure", failure)?,
        })
    }
}

impl Wire for Stamp {
    type Message = wire::Stamp;

    fn to_wire(&self) -> wire::Stamp {
        let Self { store, epoch, generation, mac } = self;
        wire::Stamp {
            store: store.0.to_vec().into(),
            epoch: epoch.0,
            generation: generation.0,
            mac: to_bytes(mac),
        }
    }

    fn from_wire(message: wire::Stamp) -> Result<Self, InvalidField> {
        let wire::Stamp { store, epoch, generation, mac } = message;
        let too_high = || InvalidField::new("epoch", "is higher than a counter can get");
        Ok(Self {
            store: store_id("store", &store)?,
            epoch: if epoch > COUNTER_MAX { return Err(too_high()) } else { Epoch(epoch) },
            generation: Generation(counter("generation", generation, Code::Field)?),
            mac: mac.as_ref().try_into().map_err(|_| wrong_length("mac", mac.len(), 32))?,
        })
    }
}

pub(super) fn store_id(field: &str, bytes: &[u8]) -> Result<StoreId, InvalidField> {
    StoreId::try_from_slice(bytes).ok_or_else(|| wrong_length(field, bytes.len(), 16))
}

impl Wire for HealthReport {
    type Message = wire::HealthReport;

    fn to_wire(&self) -> wire::HealthReport {
        use wire::health_report::Health;
        let health = match self {
            Self::Unknown => Health::Unknown(wire::Nothing {}),
            Self::Healthy { for_at_least, passes } => {
                Health::Healthy(wire::Healthy { for_at_least_ms: millis(*for_at_least), passes: *passes })
            }
            Self::Unhealthy { reason } => Health::Unhealthy(wire::Unhealthy { reason: reason.clone() }),
        };
        wire::HealthReport { health: Some(health) }
    }

    fn from_wire(message: wire::HealthReport) -> Result<Self, InvalidField> {
        use wire::health_report::Health;
        let wire::HealthReport { health } = message;
        Ok(match required("health", health)? {
            Health::Unknown(wire::Nothing {}) => Self::Unknown,
            Health::Healthy(wire::Healthy { for_at_least_ms, passes }) => Self::Healthy {
                for_at_least: duration("healthy.for_at_least_ms", for_at_least_ms, UPTIME_MAX)?,
                passes,
            },
            Health::Unhealthy(wire::Unhealthy { reason }) => {
                Self::Unhealthy { reason: required_line("unhealthy.reason", reason, LINE_CHARS_MAX)? }
            }
        })
    }
}

/// No machine has run for a hundred years.
const UPTIME_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

impl Wire for Failure {
    type Message = wire::Failure;

    fn to_wire(&self) -> wire::Failure {
        let Self { code, phase, package, message, log_tail } = self;
        wire::Failure {
            code: code.to_string(),
            phase: phase.to_wire(),
            package: package.as_ref().map(ToString::to_string),
            message: message.clone(),
            log_tail: log_tail.clone(),
        }
    }

    fn from_wire(message: wire::Failure) -> Result<Self, InvalidField> {
        let wire::Failure { code, phase, package, message, log_tail: tail } = message;
        Ok(Self {
            code: error_code("code", &code)?,
            phase: value("phase", phase)?,
            package: optional_name("package", package)?,
            message: required_line("message", message, LINE_CHARS_MAX)?,
            log_tail: log_tail("log_tail", tail)?,
        })
    }
}

fn log_tail(field: &str, text: String) -> Result<String, InvalidField> {
    let text = super::text(field, text, LOG_TAIL_BYTES_MAX)?;
    match text.chars().find(|c| !(is_plain(*c) || matches!(c, '\n' | '\t'))) {
        Some(c) => {
            let problem = format!("has the character {}, which must be escaped", c.escape_unicode());
            Err(InvalidField::new(field, problem))
        }
        None => Ok(text),
    }
}
