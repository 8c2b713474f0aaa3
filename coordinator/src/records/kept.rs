//! How a value is written, for types that derive no serde themselves.
//!
//! A record type mirrors a type of the decisions (`#[serde(remote)]`: the compiler holds the two to the
//! same fields); [`kept!`] names the pair, and `#[serde(with = "kept")]` finds it, through options,
//! lists and shared pointers too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::millis;
use houston_common::digest::Digest;
use houston_common::error::Code;
use houston_common::policy::Share;
use houston_common::policy::gate::{Days, Number};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) trait Kept: Sized {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
}

macro_rules! kept {
    ($($type:ty as $record:ty),* $(,)?) => {$(
        impl $crate::records::kept::Kept for $type {
            fn keep<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                <$record>::serialize(self, s)
            }

            fn read<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <$record>::deserialize(d)
            }
        }
    )*};
}
pub(super) use kept;

// For `#[serde(with = "kept")]`.
pub(super) fn serialize<T: Kept, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    value.keep(s)
}

pub(super) fn deserialize<'de, T: Kept, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    T::read(d)
}

pub(super) struct Borrowed<'a, T>(pub(super) &'a T);

impl<T: Kept> Serialize for Borrowed<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.keep(s)
    }
}

pub(super) struct Owned<T>(pub(super) T);

impl<'de, T: Kept> Deserialize<'de> for Owned<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::read(d).map(Self)
    }
}

impl<T: Kept> Kept for Option<T> {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Borrowed).serialize(s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<Owned<T>>::deserialize(d)?.map(|owned| owned.0))
    }
}

impl<T: Kept> Kept for Vec<T> {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter().map(Borrowed))
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Owned<T>>::deserialize(d)?.into_iter().map(|owned| owned.0).collect())
    }
}

impl<K: Ord + Serialize + DeserializeOwned, T: Kept> Kept for BTreeMap<K, T> {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter().map(|(key, value)| (key, Borrowed(value))))
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<K, Owned<T>>::deserialize(d)?;
        Ok(read.into_iter().map(|(key, owned)| (key, owned.0)).collect())
    }
}

impl<T: Kept> Kept for Arc<T> {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        T::keep(self, s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::read(d).map(Self::new)
    }
}

impl Kept for Duration {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        millis(*self).serialize(s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u64::deserialize(d).map(Self::from_millis)
    }
}

impl Kept for Days {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.bits().serialize(s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_bits(u8::deserialize(d)?).ok_or_else(|| D::Error::custom("no such days"))
    }
}

impl Kept for Code {
    fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(s)
    }

    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_text(&String::deserialize(d)?).ok_or_else(|| D::Error::custom("no such error code"))
    }
}

macro_rules! kept_as_text {
    ($($type:ty),*) => {$(
        impl Kept for $type {
            fn keep<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }

            fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                from_text(&String::deserialize(d)?)
            }
        }
    )*};
}
kept_as_text!(Digest, Share, Number);

fn from_text<T: FromStr<Err: Display>, E: Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

/// Bytes as base64, for `#[serde(with = "base64")]`.
pub(super) mod base64 {
    use data_encoding::BASE64;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::records) fn serialize<S: Serializer>(
        bytes: &impl AsRef<[u8]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(bytes.as_ref()))
    }

    pub(in crate::records) fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        let bytes = BASE64.decode(String::deserialize(d)?.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("the wrong number of bytes"))
    }
}
