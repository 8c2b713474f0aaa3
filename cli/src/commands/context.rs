//! The context file: no coordinator is asked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use houston_common::error::{Code, Refusal};
use houston_common::tls::{Address, ServerName};
use serde_json::json;

use super::{DONE, Shell, confirmed, credential_path};
use crate::args::{ContextName, ContextVerb};
use crate::context::credential::CredentialFiles;
use crate::context::{Context, Contexts, make_directory};
use crate::render;
use crate::toml_file::shown;

/// Beside the context file.
const CREDENTIALS: &str = "credentials";

pub fn perform(verb: ContextVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        ContextVerb::Add { name, address, credential, server_name, replace } => {
            add(shell, &New { name, address, credential, server_name, replace })?;
        }
        ContextVerb::List => {
            let contexts = Contexts::read(shell.contexts_file()?)?;
            shell.console.answer(
                || render::json::contexts(&contexts),
                |paint| render::fleet::contexts(&contexts, paint),
            )?;
        }
        ContextVerb::Use { name } => {
            let file = shell.contexts_file()?;
            let mut contexts = Contexts::read(file)?;
            contexts.choose(Some(&name))?;
            contexts.current = Some(name.clone());
            contexts.write(file)?;
            changed(shell, &name, "is the current context")?;
        }
        ContextVerb::Show { name } => show(shell, name.as_ref())?,
        ContextVerb::Remove { name, yes } => {
            confirmed(yes, "the context's private key goes with it")?;
            remove(shell, &name)?;
        }
    }
    Ok(DONE)
}

struct New {
    name: ContextName,
    address: Option<Address>,
    credential: PathBuf,
    server_name: Option<ServerName>,
    replace: bool,
}

fn add(shell: &mut Shell<'_>, new: &New) -> Result<(), Refusal> {
    let file = shell.contexts_file()?;
    let mut contexts = Contexts::read(file)?;
    if contexts.all.contains_key(&new.name) && !new.replace {
        let what = format!("the context \"{}\" exists already", new.name);
        return Err(Refusal::new(Code::Context, what, "choose another name, or add --replace"));
    }
    let credential = Path::new(CREDENTIALS).join(new.name.as_str());
    let home = file.parent().unwrap_or_else(|| Path::new(""));
    let place = home.join(&credential);
    // Another context file may lie here too, and `--replace` is about this one's contexts alone.
    let is_ours = contexts.all.get(&new.name).is_some_and(|context| context.credential == credential);
    if !is_ours && fs::symlink_metadata(&place).is_ok() {
        let what = format!("{} is there already, and is no context's of {}", shown(&place), shown(file));
        let next = "choose another name, keep this file in a directory of its own, or remove that credential if nobody uses it";
        return Err(Refusal::new(Code::Context, what, next));
    }
    let files = CredentialFiles::read(&new.credential)?;
    files.usable()?;
    let address = match &new.address {
        Some(address) => address.clone(),
        None => CredentialFiles::address(&new.credential)?.ok_or_else(|| {
            Refusal::new(Code::CliMissing, "the credential names no address", "give --address HOST:PORT")
        })?,
    };
    make_directory(&home.join(CREDENTIALS))?;
    // Written whole beside it, then moved: the one that is there stays good until the end.
    let beside = home.join(CREDENTIALS).join(format!(".{}.new", new.name));
    discard(&beside)?;
    files.write(&beside)?;
    if is_ours {
        discard(&place)?;
    }
    fs::rename(&beside, &place)
        .map_err(|error| Refusal::new(Code::Io, format!("cannot write {}: {error}", shown(&place)), ""))?;
    let context = Context { address, server_name: new.server_name.clone(), credential };
    contexts.all.insert(new.name.clone(), context);
    let first = contexts.current.is_none();
    contexts.current.get_or_insert_with(|| new.name.clone());
    contexts.write(file)?;
    changed(shell, &new.name, if first { "is added, and is the current context" } else { "is added" })
}

fn show(shell: &mut Shell<'_>, name: Option<&ContextName>) -> Result<(), Refusal> {
    let file = shell.contexts_file()?;
    let contexts = Contexts::read(file)?;
    let (name, context) = contexts.choose(name.or(shell.context.as_ref()))?;
    let place = credential_path(file, context);
    let (credential, _) = CredentialFiles::read(&place)?.usable()?;
    let certificate = credential.certificate();
    shell.console.answer(
        || {
            json!({
                "name": name.as_str(),
                "address": context.address.to_string(),
                "server_name": context.server_name.as_ref().map(ToString::to_string),
                "credential": place.to_string_lossy(),
                "current": contexts.current.as_ref() == Some(name),
                "identity": certificate.peer.to_string(),
                "certificate_expires_ms": certificate.not_after.0,
            })
        },
        |paint| {
            let server_name = match &context.server_name {
                Some(name) => format!("server name  {name}\n"),
                None => String::new(),
            };
            format!(
                "{}\naddress      {}\n{server_name}credential   {}\nidentity     {}\nuntil        {}\n",
                paint.bold(name.as_str()),
                context.address,
                shown(&place),
                certificate.peer,
                render::time(certificate.not_after)
            )
        },
    )
}

fn remove(shell: &mut Shell<'_>, name: &ContextName) -> Result<(), Refusal> {
    let file = shell.contexts_file()?;
    let mut contexts = Contexts::read(file)?;
    contexts.choose(Some(name))?;
    let removed = contexts.all.remove(name);
    if contexts.current.as_ref() == Some(name) {
        contexts.current = None;
    }
    contexts.write(file)?;
    // Only a credential that `add` has copied is ours to remove.
    let own = Path::new(CREDENTIALS).join(name.as_str());
    if let Some(context) = removed.filter(|context| context.credential == own) {
        discard(&credential_path(file, &context))?;
    }
    changed(shell, name, "is removed")
}

fn changed(shell: &mut Shell<'_>, name: &ContextName, what: &str) -> Result<(), Refusal> {
    shell.console.answer(|| json!({ "name": name.as_str() }), |_| format!("{name} {what}\n"))
}

/// Removes a credential's directory, if there is one.
fn discard(path: &Path) -> Result<(), Refusal> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Refusal::new(Code::Io, format!("cannot remove {}: {error}", shown(path)), ""))
        }
        _ => Ok(()),
    }
}
