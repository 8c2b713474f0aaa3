//! The coordinators that this machine knows: a file of names and addresses, with each one's credential
//! in a directory beside it. Both are for the operator's eyes only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use houston_common::error::{Code, Refusal, nearest};
use houston_common::tls::{Address, ServerName};

use crate::args::ContextName;
use crate::toml_file::{self, Kept, Keys, Section, Source, Value, shown};

pub mod credential;

#[cfg(test)]
mod tests;

/// One coordinator, as one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub address: Address,
    /// The name in its certificate, where it is not the address's.
    pub server_name: Option<ServerName>,
    /// A directory, or a PEM file. A relative one starts at the context file's directory.
    pub credential: PathBuf,
}

/// What the context file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contexts {
    /// One of `all`, or nothing.
    pub current: Option<ContextName>,
    pub all: BTreeMap<ContextName, Context>,
}

const KEYS: &Keys =
    &[("", &["current", "contexts"]), ("contexts.NAME", &["address", "server_name", "credential"])];

const MODE_FILE: u32 = 0o600;
const MODE_DIRECTORY: u32 = 0o700;

impl Contexts {
    /// Reads the file; one that does not exist knows nobody.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        if fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(Self::default());
        }
        Self::parse(&shown(path), &toml_file::read(path, Kept::Private)?)
    }

    pub fn parse(name: &str, text: &str) -> Result<Self, Refusal> {
        let source = Source { name, text };
        let document = source.parse()?;
        let root = Section::root(source, &document).only(KEYS)?;
        let mut all = BTreeMap::new();
        if let Some(contexts) = root.get("contexts") {
            for entry in contexts.section("contexts")?.entries() {
                let section = entry.section("contexts.NAME")?.only(KEYS)?;
                let context = Context {
                    address: section.required("address")?.checked()?,
                    server_name: section.get("server_name").map(Value::checked).transpose()?,
                    credential: section.required("credential")?.text()?.into(),
                };
                all.insert(entry.checked_key()?, context);
            }
        }
        let current = match root.get("current") {
            None => None,
            Some(value) => {
                let name: ContextName = value.checked()?;
                if !all.contains_key(&name) {
                    let what = format!("current names \"{name}\", which is not in [contexts]");
                    return Err(value.refuse(Code::ConfigConflict, what, "houston context use NAME"));
                }
                Some(name)
            }
        };
        Ok(Self { current, all })
    }

    /// The text that `parse` reads back.
    pub fn to_text(&self) -> String {
        let mut text = String::from("# Kept by `houston context`.\n");
        if let Some(current) = &self.current {
            let _ = writeln!(text, "current = {}", quote(current.as_str()));
        }
        for (name, context) in &self.all {
            let _ = writeln!(text, "\n[contexts.{name}]\naddress = {}", quote(&context.address.to_string()));
            if let Some(name) = &context.server_name {
                let _ = writeln!(text, "server_name = {}", quote(&name.to_string()));
            }
            let _ = writeln!(text, "credential = {}", quote(&context.credential.to_string_lossy()));
        }
        text
    }

    /// Replaces the file whole, mode 0600.
    pub fn write(&self, path: &Path) -> Result<(), Refusal> {
        let failed = |error: std::io::Error| {
            Refusal::new(Code::Io, format!("cannot write {}: {error}", shown(path)), "")
        };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        make_directory(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(MODE_FILE)).map_err(failed)?;
        file.write_all(self.to_text().as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map(drop).map_err(|error| failed(error.error))
    }

    /// The named context, or the current one.
    pub fn choose(&self, wanted: Option<&ContextName>) -> Result<(&ContextName, &Context), Refusal> {
        const ADD: &str = "houston context add NAME --credential DIR";
        let Some(wanted) = wanted.or(self.current.as_ref()) else {
            let (what, next) = if self.all.is_empty() {
                ("this machine knows no coordinator", ADD.to_owned())
            } else {
                ("no context is the current one", "houston context use NAME, or --context NAME".to_owned())
            };
            return Err(Refusal::new(Code::Context, what, next));
        };
        self.all.get_key_value(wanted).ok_or_else(|| {
            let names: Vec<_> = self.all.keys().map(ContextName::as_str).collect();
            let next = match nearest(wanted.as_str(), names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if names.is_empty() => ADD.to_owned(),
                None => format!("known: {}", names.join(", ")),
            };
            Refusal::new(Code::Context, format!("there is no context \"{wanted}\""), next)
        })
    }
}

/// Makes a directory and those above it, for its owner only.
pub fn make_directory(path: &Path) -> Result<(), Refusal> {
    DirBuilder::new().recursive(true).mode(MODE_DIRECTORY).create(path).map_err(|error| {
        Refusal::new(Code::Io, format!("cannot make the directory {}: {error}", shown(path)), "")
    })
}

/// A TOML text in quotes. JSON's escapes are among TOML's.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
