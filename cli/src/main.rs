//! `houston`.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use houston_cli::console::Surroundings;

fn main() -> ExitCode {
    let (mut out, mut err) = (stdout().lock(), stderr().lock());
    ExitCode::from(houston_cli::run(std::env::args_os(), &Surroundings::of_process(), &mut out, &mut err))
}
