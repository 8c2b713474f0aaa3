//! Where answers go: text or JSON, coloured or not. Everything that comes from elsewhere passes
//! [`plain`] before it is written.

use std::io::{self, Write};
use std::path::PathBuf;

use houston_common::error::{Code, Refusal};
use houston_common::id::is_plain;
use serde_json::Value;

use crate::args::{Color, Output};

/// What the process knows of the world around it. Nothing else here reads the environment, except the
/// two variables that belong to flags.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub home: Option<PathBuf>,
    /// XDG_CONFIG_HOME.
    pub config_home: Option<PathBuf>,
    /// NO_COLOR, or a terminal that is `dumb`.
    pub plain_terminal: bool,
    /// The size of the terminal that standard output is, in columns and rows; absent for a pipe or file.
    pub terminal: fn() -> Option<(usize, usize)>,
}

impl Surroundings {
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME").filter(|path| path.is_absolute()),
            plain_terminal: set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
            terminal: terminal_size,
        }
    }
}

fn terminal_size() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !rustix::termios::isatty(&stdout) {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    // A terminal that does not say how large it is gets the classic one.
    Some(match (size.ws_col, size.ws_row) {
        (0, _) | (_, 0) => (80, 24),
        (columns, rows) => (columns.into(), rows.into()),
    })
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }
}

/// Text from elsewhere as it may be written to a terminal: lines stay, tabs become spaces, every
/// other control, invisible or direction character is escaped.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            c if is_plain(c) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// The two streams, and how to write to them.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    pub output: Output,
    pub paint: Paint,
    terminal: fn() -> Option<(usize, usize)>,
    /// Whoever read the output has gone: there is nobody to complain to.
    pub reader_gone: bool,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("output", &self.output).finish_non_exhaustive()
    }
}

impl<'a> Console<'a> {
    pub fn new(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        output: Output,
        color: Color,
        surroundings: &Surroundings,
    ) -> Self {
        let terminal = surroundings.terminal;
        let paint = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal().is_some() && !surroundings.plain_terminal,
        };
        Self { out, err, output, paint: Paint(paint && output == Output::Text), terminal, reader_gone: false }
    }

    /// The terminal's columns and rows, if people look at the output as it comes.
    pub fn terminal(&self) -> Option<(usize, usize)> {
        (self.terminal)().filter(|_| self.output == Output::Text)
    }

    /// Answers a command, in the form that was asked for.
    pub fn answer(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Refusal> {
        let answer = match self.output {
            Output::Text => text(self.paint),
            Output::Json => format!("{:#}\n", json()),
        };
        self.write(&answer)
    }

    /// One of several answers: JSON goes on a line of its own.
    pub fn event(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Refusal> {
        let answer = match self.output {
            Output::Text => text(self.paint),
            Output::Json => format!("{}\n", json()),
        };
        self.write(&answer)
    }

    pub fn write(&mut self, text: &str) -> Result<(), Refusal> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| {
            self.reader_gone = error.kind() == io::ErrorKind::BrokenPipe;
            Refusal::new(Code::Io, format!("cannot write the answer: {error}"), "")
        })
    }

    /// A remark that the next one replaces; an empty one removes it.
    pub fn progress(&mut self, text: &str) {
        // As for `note`.
        let _ = write!(self.err, "\r{}\u{1b}[K", plain(text)).and_then(|()| self.err.flush());
    }

    /// A remark for the person, never a part of the answer.
    pub fn note(&mut self, text: &str) {
        // There is nowhere to report that standard error cannot be written to.
        let _ = writeln!(self.err, "{}", plain(text)).and_then(|()| self.err.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(plain("a\u{1b}[2J\r\u{202e}b\tc\n"), "a\\u{1b}[2J\\u{d}\\u{202e}b    c\n");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Paint(true).bad("x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint(false).bad("x"), "x");
    }
}
