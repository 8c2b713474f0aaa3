//! A service's health checks.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{Source, command, duration, port, raw};
use crate::error::{Code, Refusal};
use crate::id::quoted;
use crate::package::{Health, HealthCheck, Probe};

/// Each runs for as long as the service does.
const CHECKS_MAX: usize = 16;

const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Faster probing measures the prober.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Slower probing sees nothing within an activation's deadline.
const INTERVAL_MAX: Duration = Duration::from_secs(5 * 60);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The default deadline of a whole activation.
const START_GRACE_MAX: Duration = Duration::from_secs(10 * 60);

const HEALTHY_AFTER_DEFAULT: u32 = 2;
const UNHEALTHY_AFTER_DEFAULT: u32 = 3;
const THRESHOLD_MAX: u32 = 100;
/// Longest time that a check may take to say anything: the default deadline of a whole activation.
const VERDICT_MAX: Duration = Duration::from_secs(10 * 60);

const HTTP_PATH_BYTES_MAX: usize = 1024;
const EXPECT_BODY_BYTES_MAX: usize = 1024;

/// `at` is the service's place, for when it says nothing about its health.
pub(super) fn of(
    source: &Source<'_>,
    health: Option<Spanned<raw::Health>>,
    service: &str,
    at: Range<usize>,
) -> Result<Health, Refusal> {
    let none = |at| {
        let next = "add [[services.health]] or say health = \"process-only\"";
        let what = format!("service \"{}\" declares no health check", quoted(service));
        source.refuse(Code::HealthNone, at, what, next)
    };
    let Some(health) = health else { return Err(none(at)) };
    let at = health.span();
    match health.into_inner() {
        raw::Health::Word(word) if word == "process-only" => Ok(Health::ProcessOnly),
        raw::Health::Word(word) => {
            let what = format!("health is \"process-only\" or a list of checks, not \"{}\"", quoted(&word));
            Err(source.refuse(Code::HealthValue, at, what, ""))
        }
        raw::Health::Checks(checks) if checks.is_empty() => Err(none(at)),
        raw::Health::Checks(checks) if checks.len() > CHECKS_MAX => {
            let what = format!("{} health checks, at most {CHECKS_MAX} are allowed", checks.len());
            Err(source.refuse(Code::HealthValue, at, what, ""))
        }
        raw::Health::Checks(checks) => {
            let checks: Result<_, _> = checks.into_iter().map(|check| check_of(source, check)).collect();
            Ok(Health::Checks(checks?))
        }
    }
}

fn check_of(source: &Source<'_>, check: Spanned<raw::Check>) -> Result<HealthCheck, Refusal> {
    let at = check.span();
    let raw::Check {
        http,
        tcp,
        command: words,
        interval,
        timeout,
        healthy_after,
        unhealthy_after,
        start_grace,
    } = check.into_inner();
    let probe = match (http, tcp, words) {
        (Some(http), None, None) => http_probe(source, http)?,
        (None, Some(tcp), None) => Probe::Tcp { port: port(source, &tcp.port, Code::HealthValue)? },
        (None, None, Some(words)) => Probe::Command(command(source, &words)?),
        _ => {
            let what = "a health check has exactly one of http, tcp and command";
            return Err(source.refuse(Code::HealthValue, at, what, ""));
        }
    };
    let within = |text: Option<Spanned<String>>, key, default, least, most| match text {
        Some(text) => duration(source, &text, Code::HealthValue, key, least..=most),
        None => Ok(default),
    };
    let check = HealthCheck {
        probe,
        interval: within(interval, "interval", INTERVAL_DEFAULT, INTERVAL_MIN, INTERVAL_MAX)?,
        timeout: within(timeout, "timeout", TIMEOUT_DEFAULT, TIMEOUT_MIN, TIMEOUT_MAX)?,
        healthy_after: threshold(source, healthy_after, "healthy_after", HEALTHY_AFTER_DEFAULT)?,
        unhealthy_after: threshold(source, unhealthy_after, "unhealthy_after", UNHEALTHY_AFTER_DEFAULT)?,
        start_grace: within(start_grace, "start_grace", Duration::ZERO, Duration::ZERO, START_GRACE_MAX)?,
    };
    let probes = check.healthy_after.max(check.unhealthy_after);
    if (check.interval + check.timeout).saturating_mul(probes) > VERDICT_MAX {
        let what = format!("{probes} probes at this interval and timeout can take longer than 10m");
        return Err(source.refuse(
            Code::HealthValue,
            at,
            what,
            "shorten the interval or lower the thresholds",
        ));
    }
    Ok(check)
}

fn http_probe(source: &Source<'_>, http: raw::Http) -> Result<Probe, Refusal> {
    let path = http.path.get_ref();
    // A path and not a URL: probes go to the host itself, whatever the file says.
    let valid = path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= HTTP_PATH_BYTES_MAX
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !valid {
        let what = format!("an http path starts with one \"/\" and is plain ASCII, not \"{}\"", quoted(path));
        return Err(source.refuse(Code::HealthValue, http.path.span(), what, ""));
    }
    if let Some(text) = &http.expect_body
        && !(1..=EXPECT_BODY_BYTES_MAX).contains(&text.get_ref().len())
    {
        let what = format!("expect_body has 1 to {EXPECT_BODY_BYTES_MAX} bytes");
        return Err(source.refuse(Code::HealthValue, text.span(), what, ""));
    }
    Ok(Probe::Http {
        port: port(source, &http.port, Code::HealthValue)?,
        path: http.path.into_inner(),
        expect_body: http.expect_body.map(Spanned::into_inner),
    })
}

fn threshold(
    source: &Source<'_>,
    number: Option<Spanned<i64>>,
    key: &str,
    default: u32,
) -> Result<u32, Refusal> {
    let Some(number) = number else { return Ok(default) };
    u32::try_from(*number.get_ref()).ok().filter(|n| (1..=THRESHOLD_MAX).contains(n)).ok_or_else(|| {
        let what = format!("{key} is 1 to {THRESHOLD_MAX}, not {}", number.get_ref());
        source.refuse(Code::HealthValue, number.span(), what, "")
    })
}
