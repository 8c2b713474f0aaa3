//! Domain values from messages and back. Every message is taken apart by naming each of its fields,
//! so that a new field breaks the build here; whatever is missing, unknown or out of range is refused
//! with the path of the field, never replaced by a default.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::WallTime;
use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::id::{RolloutId, is_plain, quoted};

mod assignment;
mod enrollment;
mod fleet_command;
mod gate;
mod package;
mod policy;
mod release;
mod report;
mod rollout;
mod rollout_command;
mod rollout_plan;
mod view;
mod waiting;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use assignment::{HOLD_MAX, RETRY_AFTER_MAX};
pub use enrollment::{CSR_BYTES_MAX, SECRET_BYTES_MAX};
pub use report::{COUNTER_MAX, FACT_CHARS_MAX, FEATURES_MAX, PLATFORMS_MAX};

/// Most characters of one line of prose: a reason, a sentence about a failure.
pub const LINE_CHARS_MAX: usize = 500;
/// Most labels of one host, token or selector.
pub const LABELS_MAX: usize = 64;
/// Most entries of a list that is neither paged nor limited by something of its own.
pub const LIST_MAX: usize = 1000;
/// Most hosts that an answer names where it says how many more there are.
pub const NAMED_HOSTS_MAX: usize = 200;
/// The last millisecond of the year 9999: later is a broken clock.
pub const WALL_TIME_MAX: WallTime = WallTime(253_402_300_799_999);

/// A domain type that has a message of its own.
pub trait Wire: Sized {
    type Message;
    fn to_wire(&self) -> Self::Message;
    fn from_wire(message: Self::Message) -> Result<Self, InvalidField>;
}

/// Which field of a message is refused, and why. The problem's text is safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {path} {problem}")]
pub struct InvalidField {
    pub code: Code,
    /// As in `report.environments[3].stamp.mac`.
    pub path: String,
    pub problem: String,
}

impl InvalidField {
    pub fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { code: Code::Field, path: field.to_owned(), problem: problem.into() }
    }

    /// The same, seen from the message whose `field` is the one that was being read.
    pub fn under(mut self, field: &str) -> Self {
        self.path = if self.path.is_empty() { field.to_owned() } else { format!("{field}.{}", self.path) };
        self
    }
}

impl From<InvalidField> for Refusal {
    fn from(invalid: InvalidField) -> Self {
        let next = "use programs of versions that fit each other, or mend the caller";
        Self::new(invalid.code, invalid.to_string(), next)
    }
}

type Read<T> = Result<T, InvalidField>;

/// A field that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Read<T> {
    value.ok_or_else(|| InvalidField::new(field, "is missing"))
}

/// A message within a message, or an enum's number.
pub fn value<T: Wire>(field: &str, message: T::Message) -> Read<T> {
    T::from_wire(message).map_err(|invalid| invalid.under(field))
}

/// A message within a message that must be there.
pub fn nested<T: Wire>(field: &str, message: Option<T::Message>) -> Read<T> {
    value(field, required(field, message)?)
}

/// A message within a message whose absence means something.
pub fn optional<T: Wire>(field: &str, message: Option<T::Message>) -> Read<Option<T>> {
    message.map(|message| value(field, message)).transpose()
}

pub fn list<T: Wire>(field: &str, messages: Vec<T::Message>, max: usize) -> Read<Vec<T>> {
    at_most(field, messages.len(), max)?;
    messages
        .into_iter()
        .enumerate()
        .map(|(i, message)| T::from_wire(message).map_err(|invalid| invalid.under(&format!("{field}[{i}]"))))
        .collect()
}

pub fn to_list<T: Wire>(values: &[T]) -> Vec<T::Message> {
    values.iter().map(Wire::to_wire).collect()
}

/// A text that its type can tell to be right.
pub fn name<T: FromStr<Err: Display>>(field: &str, text: &str) -> Read<T> {
    text.parse().map_err(|error: T::Err| InvalidField::new(field, format!("is refused: {error}")))
}

pub fn optional_name<T: FromStr<Err: Display>>(field: &str, text: Option<String>) -> Read<Option<T>> {
    text.map(|text| name(field, &text)).transpose()
}

pub fn names<T: FromStr<Err: Display>>(field: &str, texts: &[String], max: usize) -> Read<Vec<T>> {
    at_most(field, texts.len(), max)?;
    texts.iter().enumerate().map(|(i, text)| name(&format!("{field}[{i}]"), text)).collect()
}

pub fn to_names<T: Display>(names: &[T]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub fn error_code(field: &str, text: &str) -> Read<Code> {
    let unknown = || InvalidField::new(field, format!("is the unknown code \"{}\"", quoted(text)));
    Code::from_text(text).ok_or_else(unknown)
}

/// One line that may be empty, of plain characters only.
pub fn line(field: &str, text: String, chars_max: usize) -> Read<String> {
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(InvalidField::new(
            field,
            format!("has {chars} characters; at most {chars_max} are allowed"),
        ));
    }
    match text.chars().find(|c| !is_plain(*c)) {
        Some(c) => Err(InvalidField::new(
            field,
            format!("has the character {}, which must be escaped", c.escape_unicode()),
        )),
        None => Ok(text),
    }
}

/// One line that says something.
pub fn required_line(field: &str, text: String, chars_max: usize) -> Read<String> {
    if text.is_empty() { Err(InvalidField::new(field, "is missing")) } else { line(field, text, chars_max) }
}

/// A word of ASCII letters, digits, `_` and `-`: a token's public half, an idempotency key.
pub fn word(field: &str, text: String, bytes_max: usize) -> Read<String> {
    let fits = (1..=bytes_max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits {
        Ok(text)
    } else {
        let problem = format!("must match [A-Za-z0-9_-]{{1,{bytes_max}}}, got \"{}\"", quoted(&text));
        Err(InvalidField::new(field, problem))
    }
}

/// A text of any characters but NUL.
pub fn text(field: &str, text: String, bytes_max: usize) -> Read<String> {
    if text.len() > bytes_max {
        let problem = format!("has {} bytes; at most {bytes_max} are allowed", text.len());
        Err(InvalidField::new(field, problem))
    } else if text.contains('\0') {
        Err(InvalidField::new(field, "has a NUL"))
    } else {
        Ok(text)
    }
}

/// Milliseconds.
pub fn duration(field: &str, ms: u64, max: Duration) -> Read<Duration> {
    let duration = Duration::from_millis(ms);
    if duration > max {
        let problem = format!("is {ms} ms; at most {} ms are allowed", max.as_millis());
        Err(InvalidField::new(field, problem))
    } else {
        Ok(duration)
    }
}

/// Milliseconds, at least one.
pub fn required_duration(field: &str, ms: u64, max: Duration) -> Read<Duration> {
    if ms == 0 { Err(InvalidField::new(field, "is missing or 0")) } else { duration(field, ms, max) }
}

/// Milliseconds since 1970.
pub fn wall_time(field: &str, ms: u64) -> Read<WallTime> {
    match WallTime(ms) {
        WallTime(0) => Err(InvalidField::new(field, "is missing or 0")),
        time if time > WALL_TIME_MAX => Err(InvalidField::new(field, "lies after the year 9999")),
        time => Ok(time),
    }
}

pub fn digest(field: &str, bytes: &[u8]) -> Read<Digest> {
    Digest::try_from_slice(bytes).map_err(|_| wrong_length(field, bytes.len(), 32))
}

pub fn to_bytes(digest: &[u8; 32]) -> Bytes {
    Bytes::copy_from_slice(digest)
}

/// Bytes that must be there, up to a limit.
pub fn blob(field: &str, bytes: &Bytes, max: usize) -> Read<Vec<u8>> {
    match bytes.len() {
        0 => Err(InvalidField::new(field, "is missing")),
        length if length > max => {
            Err(InvalidField::new(field, format!("has {length} bytes; at most {max} are allowed")))
        }
        _ => Ok(bytes.to_vec()),
    }
}

/// A number from a range.
pub fn between(field: &str, number: u32, min: u32, max: u32) -> Read<u32> {
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(InvalidField::new(field, format!("is {number}; {min} to {max} are allowed")))
    }
}

pub fn rollout_id(field: &str, id: u64) -> Read<RolloutId> {
    if id == 0 { Err(InvalidField::new(field, "is missing or 0")) } else { Ok(RolloutId(id)) }
}

fn at_most(field: &str, length: usize, max: usize) -> Read<()> {
    if length > max {
        Err(InvalidField::new(field, format!("has {length} entries; at most {max} are allowed")))
    } else {
        Ok(())
    }
}

fn at_least_one<T>(field: &str, values: Vec<T>) -> Read<Vec<T>> {
    if values.is_empty() { Err(InvalidField::new(field, "is empty")) } else { Ok(values) }
}

/// Refuses what is said twice.
fn distinct<K: Ord + Display>(field: &str, keys: impl IntoIterator<Item = K>) -> Read<()> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if let Some(key) = seen.replace(key) {
            return Err(InvalidField::new(field, format!("has \"{}\" twice", quoted(&key.to_string()))));
        }
    }
    Ok(())
}

fn wrong_length(field: &str, length: usize, wanted: usize) -> InvalidField {
    if length == 0 {
        InvalidField::new(field, "is missing")
    } else {
        InvalidField::new(field, format!("has {length} bytes instead of {wanted}"))
    }
}

/// Both directions of an enum whose message has the same variants, and an unspecified one.
macro_rules! wire_enum {
    ($domain:ident { $($variant:ident),* $(,)? }) => {
        impl $crate::api::convert::Wire for $domain {
            type Message = i32;

            fn to_wire(&self) -> i32 {
                match self {
                    $(Self::$variant => $crate::api::wire::$domain::$variant.into(),)*
                }
            }

            fn from_wire(number: i32) -> Result<Self, $crate::api::convert::InvalidField> {
                use $crate::api::wire::$domain as Message;
                match Message::try_from(number) {
                    $(Ok(Message::$variant) => Ok(Self::$variant),)*
                    Ok(Message::Unspecified) => Err($crate::api::convert::InvalidField::new("", "is missing")),
                    Err(_) => Err($crate::api::convert::InvalidField::new(
                        "",
                        format!("has the value {number}, which this version does not know"),
                    )),
                }
            }
        }
    };
}
use wire_enum;
