//! The variables that a package is given: settings by value, secrets by the path of their file.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{SETTING_DEFAULT_BYTES_MAX, Source, VARIABLES_MAX, raw};
use crate::error::{Code, Refusal};
use crate::id::{SettingKey, is_plain, quoted};
use crate::package::{SecretNeed, SettingNeed};

/// Longest path that the kernel takes.
const HOST_PATH_BYTES_MAX: usize = 4095;

pub(super) fn settings(
    source: &Source<'_>,
    settings: BTreeMap<Spanned<String>, Spanned<raw::Setting>>,
) -> Result<Vec<SettingNeed>, Refusal> {
    let mut needs = Vec::new();
    for (key, setting) in settings {
        let at = setting.span();
        let need = SettingNeed { key: variable(source, &key)?, default: default_of(source, setting)? };
        needs.push(need);
        source.at_most(&needs, VARIABLES_MAX, "settings", at)?;
    }
    Ok(needs)
}

fn default_of(source: &Source<'_>, setting: Spanned<raw::Setting>) -> Result<Option<String>, Refusal> {
    let at = setting.span();
    match setting.into_inner() {
        raw::Setting { required: Some(true), default: None } => Ok(None),
        raw::Setting { required: None | Some(false), default: Some(text) } => {
            if text.len() > SETTING_DEFAULT_BYTES_MAX {
                return Err(
                    source.value(at, format!("a default is at most {SETTING_DEFAULT_BYTES_MAX} bytes"))
                );
            }
            if !text.chars().all(is_plain) {
                return Err(source.value(at, "a default has a control, invisible or direction character"));
            }
            Ok(Some(text))
        }
        _ => Err(source.value(at, "a setting has either required = true or a default")),
    }
}

pub(super) fn secrets(
    source: &Source<'_>,
    secrets: BTreeMap<Spanned<String>, Spanned<raw::Secret>>,
    settings: &[SettingNeed],
) -> Result<Vec<SecretNeed>, Refusal> {
    let mut needs = Vec::new();
    for (key, secret) in secrets {
        let variable = variable(source, &key)?;
        if settings.iter().any(|setting| setting.key == variable) {
            return Err(source.value(key.span(), format!("{variable} is a setting and a secret")));
        }
        needs.push(SecretNeed { variable, file: secret_file(source, secret)? });
        source.at_most(&needs, VARIABLES_MAX, "secrets", key.span())?;
    }
    Ok(needs)
}

/// Whatever is no path may be the secret itself, so it is not repeated.
fn secret_file(source: &Source<'_>, secret: Spanned<raw::Secret>) -> Result<String, Refusal> {
    let at = secret.span();
    let next = "write { file = \"/path\" }, and put the secret into that file on each host";
    let refuse = |at, what: String| Err(source.refuse(Code::PackageValue, at, what, next));
    let raw::Secret::File(file) = secret.into_inner() else {
        return refuse(at, "a secret is named by its file, never written here".to_owned());
    };
    let at = file.span();
    let file = file.into_inner();
    let Some(inside) = file.strip_prefix('/') else {
        return refuse(at, "a secret's file is no absolute path".to_owned());
    };
    let odd = inside.split('/').any(|component| matches!(component, "" | "." | ".."));
    if odd || file.len() > HOST_PATH_BYTES_MAX || !file.chars().all(is_plain) {
        let what = format!(
            "a secret's file is a path without \".\" and \"..\", of plain characters, not \"{}\"",
            quoted(&file)
        );
        return refuse(at, what);
    }
    Ok(file)
}

/// A variable of the hooks' and services' environment that a package may name.
fn variable(source: &Source<'_>, key: &Spanned<String>) -> Result<SettingKey, Refusal> {
    let parsed: SettingKey =
        key.get_ref().parse().map_err(|error| source.refuse(Code::HookEnvironment, key.span(), error, ""))?;
    if is_reserved(parsed.as_str()) {
        let what = format!("{parsed} is set by the host or changes how programs are loaded");
        return Err(source.refuse(Code::HookEnvironment, key.span(), what, "choose another name"));
    }
    Ok(parsed)
}

/// Variables that the agent or systemd set themselves, and those that make the loader, the C library
/// or a shell run code that the tree does not name.
pub fn is_reserved(variable: &str) -> bool {
    const PREFIXES: [&str; 5] = ["HOUSTON_", "LD_", "BASH_", "GLIBC_", "SYSTEMD_"];
    const NAMES: [&str; 20] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PWD",
        "IFS",
        "ENV",
        "CDPATH",
        "SHELLOPTS",
        "BASHOPTS",
        "PS4",
        "GCONV_PATH",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "INVOCATION_ID",
    ];
    PREFIXES.iter().any(|prefix| variable.starts_with(prefix)) || NAMES.contains(&variable)
}
