//! TOML that people write: read with care, and walked so that every complaint names file, line and
//! column. Unknown keys are errors.

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;

use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::quoted;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// People write and read these files; a longer one is the wrong file.
pub const FILE_BYTES_MAX: u64 = 256 << 10;

/// Who else may write a file: group and others.
const MODE_OTHERS_WRITE: u32 = 0o022;

/// Whose file it is decides how it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Shared, as from a repository.
    Anywhere,
    /// The operator's own: nobody else may be able to change it.
    Private,
}

/// The text of a file. Refuses what is no plain file, too long, not UTF-8, or open to others.
pub fn read(path: &Path, kept: Kept) -> Result<String, Refusal> {
    let unreadable = |reason: &dyn Display| {
        Refusal::new(Code::ConfigFile, format!("cannot read {}: {reason}", shown(path)), "")
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(unreadable(&"it is not a plain file"));
    }
    if kept == Kept::Private && metadata.mode() & MODE_OTHERS_WRITE != 0 {
        let what = format!("{} has mode {:04o}: others can write it", shown(path), metadata.mode() & 0o777);
        return Err(Refusal::new(Code::ConfigPermission, what, format!("chmod 600 {}", shown(path))));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(&format_args!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        unreadable(&format_args!("it is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    })
}

/// A path, safe to show.
pub fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A text, and the name that complaints about it use.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// E-CFG-SYNTAX with the line that is wrong, or E-CFG-KEY for a key written twice.
    pub fn parse(self) -> Result<Spanned<DeTable<'a>>, Refusal> {
        DeTable::parse(self.text).map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            if error.message() == "duplicate key" {
                let key = quoted(self.text.get(at.clone()).unwrap_or_default());
                return self.refuse(
                    Code::ConfigKey,
                    at,
                    format!("the key \"{key}\" is there twice"),
                    "keep one",
                );
            }
            let line = quoted(self.line(&at).trim());
            self.refuse(Code::ConfigSyntax, at, format!("{}: \"{line}\"", quoted(error.message())), "")
        })
    }

    pub fn refuse(
        self,
        code: Code,
        at: Range<usize>,
        what: impl Display,
        next: impl Into<String>,
    ) -> Refusal {
        Refusal::new(code, format!("{what} at {}", self.place(&at)), next)
    }

    /// `FILE:LINE:COLUMN`, both from 1, columns in characters.
    fn place(self, at: &Range<usize>) -> String {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    fn line(self, at: &Range<usize>) -> &'a str {
        let number = self.text.get(..at.start).unwrap_or(self.text).matches('\n').count();
        self.text.split('\n').nth(number).unwrap_or_default()
    }
}

/// One table of a document, in which only known keys may stand.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    source: Source<'a>,
    /// As in `policy.bake`; empty for the document itself.
    path: &'a str,
    table: &'a DeTable<'a>,
    at: (usize, usize),
}

/// The keys of each section of a kind of document: to say where a misplaced one belongs.
pub type Keys = [(&'static str, &'static [&'static str])];

impl<'a> Section<'a> {
    pub fn root(source: Source<'a>, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self { source, path: "", table: document.get_ref(), at: (0, 0) }
    }

    /// Refuses keys that are not among this section's own.
    pub fn only(self, all: &Keys) -> Result<Self, Refusal> {
        let known = all.iter().find(|(path, _)| *path == self.path).map_or(&[][..], |(_, keys)| keys);
        match self.table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
            None => Ok(self),
            Some(key) => Err(self.unknown(key, known, all)),
        }
    }

    fn unknown(self, key: &Spanned<toml::de::DeString<'_>>, known: &[&str], all: &Keys) -> Refusal {
        let name = key.get_ref().as_ref();
        let elsewhere = all.iter().find(|(_, keys)| keys.contains(&name)).map(|(path, _)| *path);
        let next = match (elsewhere, nearest(name, known.iter().copied())) {
            (Some(""), _) => format!("{name} stands above all sections"),
            (Some(path), _) => format!("it belongs in [{path}]"),
            (None, Some(near)) => format!("did you mean \"{near}\"?"),
            (None, None) => format!("known here: {}", known.join(", ")),
        };
        let here = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
        let what = format!("there is no key \"{}\"{here}", quoted(name));
        self.source.refuse(Code::ConfigKey, key.span(), what, next)
    }

    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(self.value(name, value))
    }

    /// All of its keys, sorted.
    pub fn entries(self) -> impl Iterator<Item = Value<'a>> {
        self.table.iter().map(move |(name, value)| self.value(name, value))
    }

    pub fn required(self, key: &str) -> Result<Value<'a>, Refusal> {
        self.get(key).ok_or_else(|| {
            let here = if self.path.is_empty() { "the file".into() } else { format!("[{}]", self.path) };
            let at = self.at.0..self.at.1;
            self.source.refuse(Code::ConfigValue, at, format!("{here} lacks the key \"{key}\""), "add it")
        })
    }

    fn value(self, name: &'a Spanned<toml::de::DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            source: self.source,
            name: name.get_ref(),
            key_at: (name.span().start, name.span().end),
            value,
        }
    }
}

/// A key's value, with where both stand.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    source: Source<'a>,
    pub name: &'a str,
    key_at: (usize, usize),
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub fn refuse(self, code: Code, what: impl Display, next: impl Into<String>) -> Refusal {
        self.source.refuse(code, self.value.span(), what, next)
    }

    pub fn refuse_key(self, code: Code, what: impl Display, next: impl Into<String>) -> Refusal {
        self.source.refuse(code, self.key_at.0..self.key_at.1, what, next)
    }

    fn wrong_type(self, wanted: &str) -> Refusal {
        let got = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refuse(Code::ConfigValue, format!("{} is {got}, not {wanted}", quoted(self.name)), "")
    }

    pub fn text(self) -> Result<&'a str, Refusal> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("a text in quotes"))
    }

    /// A text in quotes, or the digits of a whole number as they are written.
    pub fn text_or_number(self) -> Result<&'a str, Refusal> {
        match self.value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str()),
            // As it is written, so that whoever parses it can quote it.
            DeValue::Float(number) => Ok(number.as_str()),
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self
                .value
                .get_ref()
                .as_str()
                .ok_or_else(|| self.wrong_type("a text in quotes or a whole number")),
        }
    }

    pub fn flag(self) -> Result<bool, Refusal> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    pub fn texts(self) -> Result<Vec<Self>, Refusal> {
        self.items("a list of texts")?.into_iter().map(|item| item.text().map(|_| item)).collect()
    }

    /// What a list holds; `wanted` is what a complaint says it should be.
    pub fn items(self, wanted: &str) -> Result<Vec<Self>, Refusal> {
        let DeValue::Array(items) = self.value.get_ref() else { return Err(self.wrong_type(wanted)) };
        Ok(items.iter().map(|value| Self { value, ..self }).collect())
    }

    pub fn section(self, path: &'a str) -> Result<Section<'a>, Refusal> {
        let DeValue::Table(table) = self.value.get_ref() else { return Err(self.wrong_type("a table")) };
        Ok(Section { source: self.source, path, table, at: self.key_at })
    }

    /// The text as a type that can tell whether it is right.
    pub fn parsed<T: FromStr<Err: Display>>(self, code: Code) -> Result<T, Refusal> {
        self.text()?
            .parse()
            .map_err(|error: T::Err| self.refuse(code, format!("{}: {error}", quoted(self.name)), ""))
    }

    /// The same for types that refuse with a code of their own.
    pub fn checked<T: FromStr<Err = Refusal>>(self) -> Result<T, Refusal> {
        self.text()?.parse().map_err(|refusal: Refusal| self.refuse(refusal.code, refusal.what, refusal.next))
    }

    /// The same for the key.
    pub fn checked_key<T: FromStr<Err = Refusal>>(self) -> Result<T, Refusal> {
        self.name
            .parse()
            .map_err(|refusal: Refusal| self.refuse_key(refusal.code, refusal.what, refusal.next))
    }

    /// The key as a type that can tell whether it is right.
    pub fn parsed_key<T: FromStr<Err: Display>>(self) -> Result<T, Refusal> {
        self.name.parse().map_err(|error: T::Err| self.refuse_key(Code::Name, error, ""))
    }
}
