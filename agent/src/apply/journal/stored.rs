//! How domain types become records. Decisions and vocabulary derive no serde; each type that is stored
//! has a record type of its own, made by the macros here, whose field names are the format.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::millis;
use houston_common::digest::{Digest, ReleaseDigest, TreeDigest};
use houston_common::error::Code;
use houston_common::id::{
    EnvironmentName, Epoch, Generation, PackageName, Platform, ServiceName, SettingKey, StoreId, Version,
};
use houston_common::report::Phase;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::apply::boot_time::BootId;

pub(super) trait Stored {
    type Record: Serialize + DeserializeOwned;
    fn store(&self) -> Self::Record;
    fn restore(record: Self::Record) -> Self;
}

/// A struct whose record has the same fields.
macro_rules! stored_struct {
    ($domain:ty as $record:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $record { $($field: <$type as Stored>::Record),* }

        impl Stored for $domain {
            type Record = $record;
            fn store(&self) -> $record {
                let Self { $($field),* } = self;
                $record { $($field: Stored::store($field)),* }
            }
            fn restore(record: $record) -> Self {
                Self { $($field: Stored::restore(record.$field)),* }
            }
        }
    };
}

/// An enum whose record has the same variants.
macro_rules! stored_enum {
    ($(#[$attribute:meta])* $domain:ty as $record:ident { $(
        $variant:ident $(($inner:ident: $inner_type:ty))? $({ $($field:ident: $type:ty),* $(,)? })?
    ),* $(,)? }) => {
        #[derive(Serialize, Deserialize)]
        $(#[$attribute])*
        #[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
        pub(super) enum $record { $(
            $variant $((<$inner_type as Stored>::Record))? $({ $($field: <$type as Stored>::Record),* })?
        ),* }

        impl Stored for $domain {
            type Record = $record;
            fn store(&self) -> $record {
                match self { $(
                    Self::$variant $(($inner))? $({ $($field),* })? =>
                        $record::$variant $((Stored::store($inner)))? $({ $($field: Stored::store($field)),* })?
                ),* }
            }
            fn restore(record: $record) -> Self {
                match record { $(
                    $record::$variant $(($inner))? $({ $($field),* })? =>
                        Self::$variant $((Stored::restore($inner)))? $({ $($field: Stored::restore($field)),* })?
                ),* }
            }
        }
    };
}

pub(super) use {stored_enum, stored_struct};

/// What has a text or number form that is a contract already.
macro_rules! as_it_is {
    ($($type:ty)*) => { $(
        impl Stored for $type {
            type Record = Self;
            fn store(&self) -> Self {
                self.clone()
            }
            fn restore(record: Self) -> Self {
                record
            }
        }
    )* };
}

as_it_is! { bool u16 u32 u64 usize String }
as_it_is! { EnvironmentName Epoch Generation PackageName Platform ServiceName SettingKey StoreId Version }
as_it_is! { ReleaseDigest TreeDigest }

/// What is stored as a text that is checked when it is read.
macro_rules! as_text {
    ($domain:ty as $record:ident, $write:expr, $read:expr) => {
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub(super) struct $record(String);

        impl TryFrom<String> for $record {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, &'static str> {
                let read: fn(&str) -> Option<$domain> = $read;
                read(&text).map(|_| Self(text)).ok_or(concat!("not a ", stringify!($domain)))
            }
        }

        impl From<$record> for String {
            fn from(record: $record) -> String {
                record.0
            }
        }

        impl Stored for $domain {
            type Record = $record;
            fn store(&self) -> $record {
                let write: fn(&$domain) -> String = $write;
                $record(write(self))
            }
            fn restore(record: $record) -> Self {
                let read: fn(&str) -> Option<$domain> = $read;
                match read(&record.0) {
                    Some(value) => value,
                    None => unreachable!("a record's text was checked when it was made"),
                }
            }
        }
    };
}

type Bytes32 = [u8; 32];

as_text!(Bytes32 as HexRecord, |bytes| Digest::from_bytes(*bytes).to_string(), |text| {
    text.parse().ok().map(|digest: Digest| *digest.as_bytes())
});
as_text!(Digest as DigestRecord, Digest::to_string, |text| text.parse().ok());
as_text!(Code as CodeRecord, |code| code.as_str().to_owned(), Code::from_text);
as_text!(Phase as PhaseRecord, |phase| phase.as_str().to_owned(), |text| {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == text)
});
as_text!(BootId as BootIdRecord, BootId::to_string, |text| text.parse().ok());

/// Milliseconds.
impl Stored for Duration {
    type Record = u64;
    fn store(&self) -> u64 {
        millis(*self)
    }
    fn restore(record: u64) -> Self {
        Self::from_millis(record)
    }
}

impl<T: Stored> Stored for Option<T> {
    type Record = Option<T::Record>;
    fn store(&self) -> Self::Record {
        self.as_ref().map(T::store)
    }
    fn restore(record: Self::Record) -> Self {
        record.map(T::restore)
    }
}

impl<T: Stored> Stored for Vec<T> {
    type Record = Vec<T::Record>;
    fn store(&self) -> Self::Record {
        self.iter().map(T::store).collect()
    }
    fn restore(record: Self::Record) -> Self {
        record.into_iter().map(T::restore).collect()
    }
}

impl<T: Stored> Stored for Arc<T> {
    type Record = T::Record;
    fn store(&self) -> Self::Record {
        T::store(self)
    }
    fn restore(record: Self::Record) -> Self {
        Self::new(T::restore(record))
    }
}

impl<K: Stored<Record: Ord> + Ord, V: Stored> Stored for BTreeMap<K, V> {
    type Record = BTreeMap<K::Record, V::Record>;
    fn store(&self) -> Self::Record {
        self.iter().map(|(key, value)| (key.store(), value.store())).collect()
    }
    fn restore(record: Self::Record) -> Self {
        record.into_iter().map(|(key, value)| (K::restore(key), V::restore(value))).collect()
    }
}
