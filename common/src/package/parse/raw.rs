//! `houston.toml` as it is written. Unknown keys are errors everywhere.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub name: Spanned<String>,
    pub version: Spanned<String>,
    #[serde(default)]
    pub restart_with: Vec<Spanned<String>>,
    #[serde(default)]
    pub hooks: Hooks,
    #[serde(default)]
    pub services: Vec<Spanned<Service>>,
    #[serde(default)]
    pub settings: BTreeMap<Spanned<String>, Spanned<Setting>>,
    #[serde(default)]
    pub secrets: BTreeMap<Spanned<String>, Spanned<Secret>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hooks {
    pub check: Option<Spanned<Hook>>,
    pub drain: Option<Spanned<Hook>>,
    pub stop: Option<Spanned<Hook>>,
    pub start: Option<Spanned<Hook>>,
    pub resume: Option<Spanned<Hook>>,
    pub cleanup: Option<Spanned<Hook>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hook {
    pub command: Spanned<Vec<String>>,
    pub timeout: Option<Spanned<String>>,
    pub user: Option<Spanned<String>>,
    #[serde(default = "yes")]
    pub rerun: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub name: Spanned<String>,
    pub command: Spanned<Vec<String>>,
    pub user: Option<Spanned<String>>,
    pub restart: Option<Spanned<String>>,
    #[serde(default)]
    pub ports: Vec<Spanned<i64>>,
    #[serde(default)]
    pub limits: Limits,
    pub stop_grace: Option<Spanned<String>>,
    pub health: Option<Spanned<Health>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub open_files: Option<Spanned<i64>>,
    pub processes: Option<Spanned<i64>>,
    pub memory: Option<Spanned<String>>,
    pub core: Option<Spanned<String>>,
}

/// A word, or a list of checks. Read by hand: an untagged enum would lose positions and messages.
#[derive(Debug)]
pub(super) enum Health {
    Word(String),
    Checks(Vec<Spanned<Check>>),
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrChecks;

        impl<'de> Visitor<'de> for WordOrChecks {
            type Value = Health;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"process-only\" or a list of checks")
            }

            fn visit_str<E>(self, word: &str) -> Result<Health, E> {
                Ok(Health::Word(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Health, A::Error> {
                let mut checks = Vec::new();
                while let Some(check) = list.next_element()? {
                    checks.push(check);
                }
                Ok(Health::Checks(checks))
            }
        }

        deserializer.deserialize_any(WordOrChecks)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub http: Option<Http>,
    pub tcp: Option<Tcp>,
    pub command: Option<Spanned<Vec<String>>>,
    pub interval: Option<Spanned<String>>,
    pub timeout: Option<Spanned<String>>,
    pub healthy_after: Option<Spanned<i64>>,
    pub unhealthy_after: Option<Spanned<i64>>,
    pub start_grace: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub port: Spanned<i64>,
    pub path: Spanned<String>,
    pub expect_body: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tcp {
    pub port: Spanned<i64>,
}

/// Exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    pub required: Option<bool>,
    pub default: Option<String>,
}

/// Read by hand: what stands here by mistake is the secret itself, which serde would repeat.
#[derive(Debug)]
pub(super) enum Secret {
    File(Spanned<String>),
    Inline,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Reference {
            file: Spanned<String>,
        }

        struct ReferenceOrSecret;

        impl<'de> Visitor<'de> for ReferenceOrSecret {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a file")
            }

            fn visit_str<E>(self, _: &str) -> Result<Secret, E> {
                Ok(Secret::Inline)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Secret, E> {
                Ok(Secret::Inline)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                let Reference { file } = Reference::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Secret::File(file))
            }
        }

        deserializer.deserialize_any(ReferenceOrSecret)
    }
}
