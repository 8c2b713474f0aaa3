//! Names and numbers that identify things. Text from people or the network becomes one of these at
//! the edge or is refused; none of them can hold anything that is unsafe in a path or on a terminal.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no name. Carries the text escaped and cut, so that it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must match {allowed}, got \"{got}\"")]
pub struct InvalidName {
    pub kind: &'static str,
    pub allowed: &'static str,
    pub got: String,
}

/// Longest piece of somebody's text that an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 120;

/// Somebody's text made safe to show: control, format and direction characters escaped, cut to 120 characters.
pub fn quoted(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == QUOTE_CHARS_MAX {
            out.push('…');
            break;
        }
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

/// Whether a character may reach a terminal or a log as it is: no control characters, no
/// invisible ones, none that change the direction of text.
pub fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+_~-".contains(&b))
}

fn is_setting_key(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_operator(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".@_-".contains(&b))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $allowed:literal, $valid:ident) => {
        $(#[$doc])*
        // Shared: names are keys of most that is known, and are copied far more often than made.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { kind: $kind, allowed: $allowed, got: quoted(text) })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A host, for ever: given at enrollment, never given again, also when the host is removed.
    HostId, "a host id", "[a-z0-9-]{1,63}", is_label
);
name!(
    /// A failure domain.
    Zone, "a zone", "[a-z0-9-]{1,63}", is_label
);
name!(GateName, "a gate's name", "[a-z0-9-]{1,63}", is_label);
name!(EnvironmentName, "an environment name", "[a-z0-9-]{1,63}", is_label);
name!(PackageName, "a package name", "[a-z0-9-]{1,63}", is_label);
name!(ServiceName, "a service name", "[a-z0-9-]{1,63}", is_label);
name!(VersionSetName, "a version set's name", "[A-Za-z0-9.+_~-]{1,64}", is_version);
name!(Version, "a version", "[A-Za-z0-9.+_~-]{1,64}", is_version);
name!(
    /// `any`, or an operating system with an architecture, as in `linux-amd64`.
    Platform, "a platform", "[a-z0-9-]{1,63}", is_label
);
name!(LabelKey, "a label's key", "[a-z0-9-]{1,63}", is_label);
name!(LabelValue, "a label's value", "[A-Za-z0-9.+_~-]{1,64}", is_version);
name!(SettingKey, "a setting's key", "[A-Za-z_][A-Za-z0-9_]{0,62}", is_setting_key);
name!(OperatorName, "an operator's name", "[a-z0-9.@_-]{1,63}", is_operator);

impl Platform {
    /// The platform that fits every host.
    pub fn any() -> Self {
        Self("any".into())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A term of leadership over a store, raised by every coordinator that takes it and by `adopt`.
    Epoch
);
number!(
    /// From one counter in the store: every change of an assignment takes a new one. 0 means none.
    Generation
);
number!(
    /// Numbers rollouts over the whole store, from 1.
    RolloutId
);

/// Which store an assignment comes from: 16 random bytes made at `init`. Text: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    pub fn try_from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

impl Serialize for StoreId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| Self::try_from_slice(&bytes))
            .ok_or_else(|| serde::de::Error::custom("a store id is 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_is_unsafe_in_a_path_or_on_a_terminal() {
        let long = "a".repeat(64);
        for bad in ["", "-a", "A", "a/b", "..", "a\0", "a\nb", "a\u{202e}b", "ä", "a b", &long] {
            let error = bad.parse::<EnvironmentName>().expect_err(bad);
            assert!(error.to_string().chars().all(is_plain), "{error}");
        }
        for good in ["a", "prod", "web-1", "9", &"a".repeat(63)] {
            assert_eq!(good.parse::<EnvironmentName>().expect(good).as_str(), good);
        }
    }

    #[test]
    fn versions_never_look_like_paths() {
        for bad in ["..", ".", "-1", "1/2", "", "1 2"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!("1.2.3-rc.1+build~5".parse::<Version>().is_ok());
    }

    #[test]
    fn quoted_text_is_cut_and_escaped() {
        assert_eq!(quoted("a\u{1b}[31m"), "a\\u{1b}[31m");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), QUOTE_CHARS_MAX + 1);
    }
}
