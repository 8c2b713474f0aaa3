//! The operator's command line: what is typed becomes a call of the operator service, and its answer
//! becomes text for people or JSON for programs. `docs/cli.md` is its reference.

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory as _, Parser as _};
use houston_common::error::{Code, Exit, Refusal};

pub mod args;
pub mod build;
mod commands;
pub mod console;
pub mod context;
pub mod demo;
pub mod environment_file;
mod host_name;
pub mod prose;
mod push;
pub mod render;
mod toml_file;
mod usage;
mod watch;

#[cfg(test)]
mod tests;

use args::Arguments;
use console::{Console, Surroundings, plain};
use usage::Reply;

/// What a shell shows for a program that ends by SIGPIPE, as is customary for one whose reader left.
const READER_GONE: u8 = 141;

/// Runs one command. `arguments` begin with the program's name. Returns the process's exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let typed: Vec<_> =
                arguments.iter().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
            return match usage::reply(&error, &Arguments::command(), &typed) {
                Reply::Show(text) => finish(out, &text, Exit::Done),
                Reply::Usage(text) => finish(err, &text, Exit::Usage),
                Reply::Refuse(refusal) => refuse(err, &refusal),
            };
        }
    };
    let console = Console::new(out, err, parsed.global.output, parsed.global.color, surroundings);
    let mut shell = commands::Shell::new(console, &parsed.global, surroundings);
    let ended = runtime().and_then(|runtime| runtime.block_on(commands::perform(parsed.noun, &mut shell)));
    let reader_gone = shell.console.reader_gone;
    match ended {
        Ok(code) => code,
        Err(_) if reader_gone => READER_GONE,
        Err(refusal) => refuse(err, &refusal),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Refusal> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::new(Code::Io, format!("cannot start: {error}"), ""))
}

fn refuse(err: &mut dyn Write, refusal: &Refusal) -> u8 {
    finish(err, &format!("{}\n", plain(&refusal.to_string()).trim_end()), refusal.code.exit())
}

fn finish(stream: &mut dyn Write, text: &str, exit: Exit) -> u8 {
    // Whether or not anybody reads it, the code says how it ended.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    exit as u8
}
