//! From clap's complaint about what was typed to a refusal with a code and the nearest match.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use houston_common::clock::InvalidDuration;
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::{InvalidName, quoted};

/// What to do instead of running a command.
#[derive(Debug)]
pub enum Reply {
    /// Help or version that was asked for.
    Show(String),
    /// Usage for somebody who said too little.
    Usage(String),
    Refuse(Refusal),
}

/// `typed` are the arguments without the program's name.
pub fn reply(error: &Error, root: &Command, typed: &[String]) -> Reply {
    let refusal = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Reply::Show(error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return Reply::Usage(error.to_string()),
        ErrorKind::InvalidSubcommand => unknown_command(error, root, typed),
        ErrorKind::MissingSubcommand => {
            Refusal::new(Code::CliVerb, "the command is not complete", known_commands(root, typed))
        }
        ErrorKind::UnknownArgument => unknown_argument(error, root, typed),
        ErrorKind::MissingRequiredArgument => {
            let what = format!("{} missing", missing(&strings(error, ContextKind::InvalidArg)));
            Refusal::new(Code::CliMissing, what, usage(root, typed))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => wrong_value(error, typed),
        ErrorKind::ArgumentConflict => {
            let what = match strings(error, ContextKind::PriorArg).first() {
                Some(other) => format!("{} cannot be used with {other}", argument(error)),
                None => format!("{} cannot be used twice", argument(error)),
            };
            Refusal::new(Code::CliFlag, what, usage(root, typed))
        }
        _ => {
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Refusal::new(Code::CliValue, quoted(first), usage(root, typed))
        }
    };
    Reply::Refuse(refusal)
}

fn unknown_command(error: &Error, root: &Command, typed: &[String]) -> Refusal {
    let wanted = strings(error, ContextKind::InvalidSubcommand).pop().unwrap_or_default();
    let here = deepest(root, typed);
    let near = nearest(&wanted, shown_commands(here));
    let next = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => known_commands(root, typed),
    };
    Refusal::new(Code::CliVerb, format!("unknown command \"{}\"", quoted(&wanted)), next)
}

fn known_commands(root: &Command, typed: &[String]) -> String {
    let here = deepest(root, typed);
    let known: Vec<_> = shown_commands(here).collect();
    format!("commands of {}: {}", here.get_name(), known.join(", "))
}

fn shown_commands(here: &Command) -> impl Iterator<Item = &str> {
    here.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name)
}

fn unknown_argument(error: &Error, root: &Command, typed: &[String]) -> Refusal {
    let wanted = argument(error);
    if !wanted.starts_with('-') {
        let what = format!("unexpected argument \"{}\"", quoted(&wanted));
        return Refusal::new(Code::CliValue, what, usage(root, typed));
    }
    let here = deepest(root, typed);
    let flags: Vec<String> = [root, here]
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter_map(|flag| flag.get_long().map(|long| format!("--{long}")))
        .chain(["--help".to_owned()])
        .collect();
    let next = match nearest(&wanted, flags.iter().map(String::as_str)) {
        Some(near) if near == wanted => format!("write it after \"{}\"", here.get_name()),
        Some(near) => format!("did you mean \"{near}\"?"),
        None => usage(root, typed),
    };
    Refusal::new(Code::CliFlag, format!("unknown flag \"{}\"", quoted(&wanted)), next)
}

fn wrong_value(error: &Error, typed: &[String]) -> Refusal {
    let (argument, value) = (argument(error), strings(error, ContextKind::InvalidValue).pop());
    let from = origin(&argument, typed);
    if let Some(cause) = std::error::Error::source(error) {
        let known = if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            Some(refusal.clone())
        } else if let Some(name) = cause.downcast_ref::<InvalidName>() {
            Some(Refusal::new(Code::Name, name.to_string(), ""))
        } else {
            cause
                .downcast_ref::<InvalidDuration>()
                .map(|duration| Refusal::new(Code::Duration, duration.to_string(), ""))
        };
        return match known {
            Some(refusal) => Refusal { what: format!("{}{from}", refusal.what), ..refusal },
            None => {
                let value = quoted(&value.unwrap_or_default());
                let what = format!("{argument} is \"{value}\"{from}: {}", quoted(&cause.to_string()));
                Refusal::new(Code::CliValue, what, "")
            }
        };
    }
    match value {
        Some(value) if !value.is_empty() => {
            let what = format!("{argument} is \"{}\"{from}", quoted(&value));
            let allowed = strings(error, ContextKind::ValidValue);
            let next = match nearest(&value, allowed.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("allowed: {}", allowed.join(", ")),
            };
            Refusal::new(Code::CliValue, what, next)
        }
        _ => Refusal::new(Code::CliFlag, format!("{argument} lacks its value"), "write it after the flag"),
    }
}

/// Names the environment variable, if that is where the value comes from.
fn origin(argument: &str, typed: &[String]) -> &'static str {
    let flag = argument.split(' ').next().unwrap_or_default();
    if typed.iter().any(|text| text.split('=').next() == Some(flag)) {
        return "";
    }
    match flag {
        "--context" => " (from HOUSTON_CONTEXT)",
        "--config" => " (from HOUSTON_CONFIG)",
        _ => "",
    }
}

/// The command that was being read: as many of the words as name one.
fn deepest<'a>(root: &'a Command, typed: &[String]) -> &'a Command {
    let mut here = root;
    for word in typed.iter().filter(|word| !word.starts_with('-')) {
        match here.find_subcommand(word) {
            Some(command) => here = command,
            None if here.has_subcommands() => {}
            None => break,
        }
    }
    here
}

fn argument(error: &Error) -> String {
    strings(error, ContextKind::InvalidArg).into_iter().next().unwrap_or_default()
}

fn missing(arguments: &[String]) -> String {
    match arguments {
        [one] => format!("{one} is"),
        several => format!("{} are", several.join(", ")),
    }
}

/// How the command is written that was being read. clap's own line would name what was typed besides.
fn usage(root: &Command, typed: &[String]) -> String {
    let mut root = root.clone();
    root.build();
    let text = deepest(&root, typed).clone().render_usage().to_string();
    let words: Vec<_> = text.trim_start_matches("Usage:").split_whitespace().collect();
    format!("usage: {}", words.join(" "))
}

fn strings(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
