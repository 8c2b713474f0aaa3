//! Refusals across the wire: a gRPC status whose metadata carries the code, what is wrong and the next
//! step, so that the caller shows the very refusal that the coordinator made.

use std::fmt::Write as _;
use std::time::Duration;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code as Grpc, Status, TimeoutExpired};

use crate::clock::millis;
use crate::error::{Code, Exit, Refusal};
use crate::id::{is_plain, quoted};
use crate::tls::refusal_within;

use super::convert::{InvalidField, RETRY_AFTER_MAX};

const CODE: &str = "houston-code";
const WHAT: &str = "houston-what";
const NEXT: &str = "houston-next";
const RETRY_AFTER_MS: &str = "houston-retry-after-ms";

/// Longest text in one metadata value, in bytes before encoding. An HTTP/2 peer takes 16 KiB of headers
/// by default; encoding makes three of one byte.
const TEXT_BYTES_MAX: usize = 2000;
const SLOW: &str = "check the network and the coordinator's load";
/// The part of a refusal that tools without Houston's metadata show.
const MESSAGE_CHARS_MAX: usize = 200;

/// How a call failed, for callers that come back by themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct CallError {
    pub refusal: Refusal,
    /// When the coordinator wants to be asked again, if it said so; the jitter is the caller's.
    pub retry_after: Option<Duration>,
    /// Whether the coordinator itself answered. If not, nobody knows whether it acted.
    pub answered: bool,
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        error.refusal
    }
}

impl From<InvalidField> for CallError {
    /// An answer that breaks the protocol.
    fn from(invalid: InvalidField) -> Self {
        let what = format!("the coordinator's answer is not understood: {invalid}");
        let refusal = Refusal::new(invalid.code, what, "use programs of versions that fit each other");
        Self { refusal, retry_after: None, answered: true }
    }
}

/// A refusal as the coordinator sends it.
pub fn to_status(refusal: &Refusal) -> Status {
    let Refusal { code, what, next } = refusal;
    let mut metadata = MetadataMap::new();
    for (key, text) in [(CODE, code.as_str()), (WHAT, what), (NEXT, next)] {
        if let Ok(value) = AsciiMetadataValue::try_from(encode(text)) {
            metadata.insert(key, value);
        }
    }
    let message: String = format!("{code}: {what}").chars().take(MESSAGE_CHARS_MAX).collect();
    Status::with_metadata(grpc_code(*code), message, metadata)
}

/// `refusal`, with when to come back.
pub fn to_status_with_retry(refusal: &Refusal, retry_after: Duration) -> Status {
    let mut status = to_status(refusal);
    status.metadata_mut().insert(RETRY_AFTER_MS, millis(retry_after).into());
    status
}

/// A message that was refused at the edge.
pub fn invalid_field(invalid: InvalidField) -> Status {
    to_status(&invalid.into())
}

/// What a request was refused with that the gRPC library could not read. It calls what a caller has
/// sent wrongly an internal error, which somebody would have to look into. Absent for every status that
/// says something else, and for our own.
pub fn unreadable_request(status: &Status) -> Option<Refusal> {
    if status.metadata().contains_key(CODE) {
        return None;
    }
    let said = quoted(status.message());
    match status.code() {
        Grpc::OutOfRange => {
            Some(Refusal::new(Code::Limit, format!("the request is too large: {said}"), "send less at once"))
        }
        Grpc::Internal => Some(Refusal::new(
            Code::Field,
            format!("the request is not understood: {said}"),
            "use programs of versions that fit each other, or mend the caller",
        )),
        _ => None,
    }
}

/// What a caller makes of a status, wherever it comes from.
pub fn from_status(status: &Status) -> CallError {
    let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok()).map(decode);
    let retry_after = text(RETRY_AFTER_MS)
        .and_then(|ms| ms.parse().ok())
        .map(|ms| Duration::from_millis(ms).min(RETRY_AFTER_MAX));
    let (refusal, answered) = match text(CODE) {
        Some(code) => {
            let (what, next) = (text(WHAT).unwrap_or_default(), text(NEXT).unwrap_or_default());
            (read_refusal(&code, what, next, status.code()), true)
        }
        None => without_refusal(status),
    };
    CallError { refusal, retry_after, answered }
}

fn read_refusal(code: &str, what: String, next: String, grpc: Grpc) -> Refusal {
    match Code::from_text(code) {
        Some(code) => Refusal::new(code, what, next),
        // A newer coordinator has codes that this program does not know: their kind is in the status.
        None => Refusal::new(nearest_code(grpc), format!("{}: {what}", quoted(code)), next),
    }
}

/// A status that no Houston program made: the transport, or the gRPC library on either side.
fn without_refusal(status: &Status) -> (Refusal, bool) {
    if let Some(refusal) = refusal_within(status) {
        return (refusal.clone(), false);
    }
    let message = quoted(status.message());
    let (what, next) = match status.code() {
        // What tonic makes of a deadline, on either side.
        Grpc::Cancelled if status.message() == TimeoutExpired(()).to_string() => {
            ("the coordinator did not answer in time".to_owned(), SLOW)
        }
        // Of a fresh connection this may also be a refused certificate.
        Grpc::Unavailable | Grpc::Cancelled | Grpc::Unknown => (
            format!("the connection to the coordinator broke: {message}"),
            "check the network, that the coordinator runs, and that it accepts this certificate",
        ),
        Grpc::DeadlineExceeded => ("the coordinator did not answer in time".to_owned(), SLOW),
        Grpc::Unimplemented => (
            format!("the coordinator does not know this call: {message}"),
            "check the address and port, and that the coordinator is not older than this program",
        ),
        Grpc::ResourceExhausted | Grpc::OutOfRange => (format!("a message is too large: {message}"), ""),
        _ => (format!("the coordinator answered {:?}: {message}", status.code()), ""),
    };
    let answered = !matches!(
        status.code(),
        Grpc::Unavailable | Grpc::Cancelled | Grpc::Unknown | Grpc::DeadlineExceeded
    );
    (Refusal::new(nearest_code(status.code()), what, next), answered)
}

/// A call that had no answer in time.
pub(super) fn timed_out(limit: Duration) -> CallError {
    let what = format!("the coordinator did not answer within {} s", limit.as_secs());
    let refusal = Refusal::new(Code::Unreachable, what, SLOW);
    CallError { refusal, retry_after: None, answered: false }
}

/// The gRPC status of a refusal: what tools and proxies without our codes go by.
pub fn grpc_code(code: Code) -> Grpc {
    match code {
        Code::Unauthenticated | Code::Token | Code::CertificateExpired | Code::CertificateAuthority => {
            Grpc::Unauthenticated
        }
        Code::Role | Code::NotYours => Grpc::PermissionDenied,
        Code::Field | Code::Sequence | Code::Csr => Grpc::InvalidArgument,
        Code::HostUnknown
        | Code::EnvironmentUnknown
        | Code::PackageUnknown
        | Code::VersionSetUnknown
        | Code::RolloutUnknown
        | Code::OperatorUnknown
        | Code::FileMissing => Grpc::NotFound,
        Code::PackageExists
        | Code::VersionSetExists
        | Code::OperatorExists
        | Code::Idempotency
        | Code::NoChange => Grpc::AlreadyExists,
        Code::Conflict | Code::PlanChanged => Grpc::Aborted,
        Code::Limit | Code::Busy => Grpc::ResourceExhausted,
        Code::Unreachable | Code::Tls => Grpc::Unavailable,
        Code::Timeout => Grpc::DeadlineExceeded,
        Code::Internal | Code::Store => Grpc::Internal,
        Code::FileDigest | Code::FileLength => Grpc::InvalidArgument,
        other => match other.exit() {
            Exit::Usage => Grpc::InvalidArgument,
            _ => Grpc::FailedPrecondition,
        },
    }
}

/// The code whose exit fits a status best, where the real one is not known.
fn nearest_code(grpc: Grpc) -> Code {
    match grpc {
        Grpc::Unauthenticated => Code::Unauthenticated,
        Grpc::PermissionDenied => Code::Role,
        Grpc::InvalidArgument | Grpc::NotFound => Code::Field,
        Grpc::AlreadyExists | Grpc::Aborted => Code::Conflict,
        Grpc::ResourceExhausted | Grpc::OutOfRange => Code::Limit,
        Grpc::FailedPrecondition => Code::RolloutState,
        Grpc::Unimplemented => Code::Protocol,
        Grpc::Unavailable | Grpc::Cancelled | Grpc::Unknown | Grpc::DeadlineExceeded => Code::Unreachable,
        Grpc::Ok | Grpc::Internal | Grpc::DataLoss => Code::Internal,
    }
}

/// Percent-encodes all but visible ASCII, and `%` itself. Cuts at a character's end.
fn encode(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let mut out = String::with_capacity(end);
    for byte in text[..end].bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Undoes [`encode`]. Whatever was sent, the result is safe to show.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = if first == b'%' { after.split_at_checked(2) } else { None };
        match escaped.and_then(|(digits, after)| Some((hex(digits)?, after))) {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    let mut out = String::new();
    for c in String::from_utf8_lossy(&bytes).chars() {
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

fn hex(digits: &[u8]) -> Option<u8> {
    let all_digits = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_code_crosses_with_an_error_status() {
        for code in Code::ALL {
            let refusal = Refusal::new(*code, "no environment \"prdö\" 100%", "did you mean \"prod\"?");
            let status = to_status(&refusal);
            assert_ne!(status.code(), Grpc::Ok, "{code}");
            let error = from_status(&status);
            assert_eq!((error.refusal, error.retry_after, error.answered), (refusal, None, true));
        }
    }

    #[test]
    fn statuses_are_those_that_the_protocol_promises() {
        for (code, grpc) in [
            (Code::Unauthenticated, Grpc::Unauthenticated),
            (Code::Role, Grpc::PermissionDenied),
            (Code::NotYours, Grpc::PermissionDenied),
            (Code::HostUnknown, Grpc::NotFound),
            (Code::Sequence, Grpc::InvalidArgument),
            (Code::Limit, Grpc::ResourceExhausted),
            (Code::Busy, Grpc::ResourceExhausted),
            (Code::Idempotency, Grpc::AlreadyExists),
            (Code::Protocol, Grpc::FailedPrecondition),
        ] {
            assert_eq!(grpc_code(code), grpc, "{code}");
        }
    }

    #[test]
    fn the_time_to_come_back_crosses_and_is_bounded() {
        let busy = Refusal::new(Code::Busy, "50 hosts fetch", "");
        let status = to_status_with_retry(&busy, Duration::from_millis(1_500));
        assert_eq!(from_status(&status).retry_after, Some(Duration::from_millis(1_500)));
        let status = to_status_with_retry(&busy, Duration::MAX);
        assert_eq!(from_status(&status).retry_after, Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn codes_of_a_newer_coordinator_keep_their_kind_and_their_name() {
        let mut status = to_status(&Refusal::new(Code::Conflict, "what", "next"));
        status.metadata_mut().insert(CODE, AsciiMetadataValue::from_static("E-FROM-TOMORROW"));
        let refusal = from_status(&status).refusal;
        assert_eq!(refusal.code, Code::Conflict);
        assert_eq!(refusal.what, "E-FROM-TOMORROW: what");
    }

    #[test]
    fn statuses_of_the_transport_say_that_nobody_answered() {
        for (status, code, answered) in [
            (Status::unavailable("tcp connect error"), Code::Unreachable, false),
            (Status::cancelled("operation was canceled"), Code::Unreachable, false),
            (Status::unknown("transport error"), Code::Unreachable, false),
            (Status::deadline_exceeded(""), Code::Unreachable, false),
            (Status::unimplemented("grpc.Health"), Code::Protocol, true),
            (Status::out_of_range("decoded message too large"), Code::Limit, true),
        ] {
            let error = from_status(&status);
            assert_eq!((error.refusal.code, error.answered), (code, answered), "{status:?}");
        }
    }

    #[test]
    fn a_deadline_is_named_as_one() {
        for status in [Status::cancelled(TimeoutExpired(()).to_string()), Status::deadline_exceeded("")] {
            assert!(from_status(&status).refusal.what.contains("in time"), "{status:?}");
        }
    }

    #[test]
    fn hostile_metadata_is_safe_to_show() {
        let mut status = to_status(&Refusal::internal("x"));
        for hostile in ["%1b[31m", "%", "%2", "%zz", "%ff%fe", "%E2%80%AE", "%+1"] {
            let value = AsciiMetadataValue::try_from(hostile).expect("ASCII");
            status.metadata_mut().insert(WHAT, value);
            let shown = from_status(&status).refusal.what;
            assert!(shown.chars().all(is_plain), "{shown:?}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_crosses_unchanged(text in "\\PC{0,300}") {
            let plain: String = text.chars().filter(|c| is_plain(*c)).collect();
            let refusal = Refusal::new(Code::Field, plain.clone(), plain);
            prop_assert_eq!(from_status(&to_status(&refusal)).refusal, refusal);
        }

        #[test]
        fn long_text_is_cut_at_a_character(text in "[aä€😀]{0,3000}") {
            let refusal = Refusal::new(Code::Field, text.clone(), "");
            let what = from_status(&to_status(&refusal)).refusal.what;
            prop_assert!(text.starts_with(&what) && what.len() + 4 > text.len().min(TEXT_BYTES_MAX));
        }
    }
}
