//! A store as text: the way between stores and between versions, and what a backup holds.
//!
//! ```text
//! houston-store 1 EPOCH REVISION COUNT
//! KEY VALUE CHECK                          one line per record, by key, ascending
//! end SHA256                               of all bytes before this line
//! ```
//! Keys and values are base64. CHECK is the first 8 hexadecimal digits of the SHA-256 of `KEY VALUE`: it
//! says which line is damaged; the last line says whether anything is.

use std::io::{self, BufRead, Read, Write};

use data_encoding::BASE64;
use houston_common::digest::{Digest, Hasher};
use houston_common::error::{Code, Refusal};
use houston_common::id::Epoch;

use super::{KEY_BYTES_MAX, Key, Revision, Snapshot, VALUE_BYTES_MAX, check_record};

const MAGIC: &str = "houston-store";
const VERSION: u64 = 1;
const CHECK_DIGITS: usize = 8;

/// Longest line in bytes: the largest record in base64, two spaces, the check, the end of the line.
const LINE_BYTES_MAX: u64 = ((KEY_BYTES_MAX + VALUE_BYTES_MAX + 4) / 3 * 4 + 2 + CHECK_DIGITS + 8) as u64;

/// Writes the whole snapshot. Does not flush or sync: the caller knows what `out` is.
pub fn export(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    let mut hasher = Hasher::default();
    let mut line =
        format!("{MAGIC} {VERSION} {} {} {}\n", snapshot.epoch, snapshot.revision, snapshot.records.len());
    hasher.update(line.as_bytes());
    out.write_all(line.as_bytes())?;
    for (key, value) in &snapshot.records {
        line.clear();
        BASE64.encode_append(key.as_bytes(), &mut line);
        line.push(' ');
        BASE64.encode_append(value, &mut line);
        let check = check(&line);
        line.push(' ');
        line.push_str(&check);
        line.push('\n');
        hasher.update(line.as_bytes());
        out.write_all(line.as_bytes())?;
    }
    writeln!(out, "end {}", hasher.finish())
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read line {line}")]
    Read { line: u64, source: io::Error },
    #[error("not an export of a store")]
    NotAnExport,
    #[error("an export of format {found}; this version reads {VERSION}")]
    Newer { found: u64 },
    #[error("line {line} {wrong}")]
    Line { line: u64, wrong: &'static str },
}

impl ImportError {
    pub fn refusal(&self) -> Refusal {
        let (code, next) = match self {
            Self::Newer { .. } => (Code::StateNewer, "use the version that wrote it, or a later one"),
            Self::Read { .. } | Self::NotAnExport | Self::Line { .. } => (Code::Store, "use another backup"),
        };
        Refusal::new(code, format!("the backup cannot be used: {}", houston_common::error::chain(self)), next)
    }
}

impl From<ImportError> for Refusal {
    fn from(error: ImportError) -> Self {
        error.refusal()
    }
}

/// Reads what [`export`] wrote, to its last byte. Anything else is refused, in whole.
pub fn import(input: &mut impl BufRead) -> Result<Snapshot, ImportError> {
    let mut lines = Lines { input, number: 0, hasher: Hasher::default(), line: String::new() };
    lines.advance().map_err(|error| match error {
        ImportError::Line { .. } => ImportError::NotAnExport,
        other => other,
    })?;
    let (mut snapshot, count) = header(&lines.line)?;
    for _ in 0..count {
        lines.advance()?;
        let (key, value) = record(&lines.line).map_err(|wrong| lines.wrong(wrong))?;
        if snapshot.records.last().is_some_and(|(last, _)| *last >= key) {
            return Err(lines.wrong("is out of order"));
        }
        snapshot.records.push((key, value));
    }
    let expected = format!("end {}", lines.hasher.clone().finish());
    lines.advance()?;
    if lines.line != expected {
        return Err(lines.wrong("is not the end with the digest of what comes before"));
    }
    match lines.input.fill_buf() {
        Ok([]) => Ok(snapshot),
        Ok(_) => Err(ImportError::Line { line: lines.number + 1, wrong: "comes after the end" }),
        Err(source) => Err(ImportError::Read { line: lines.number + 1, source }),
    }
}

fn check(text: &str) -> String {
    let mut digits = Digest::of(text.as_bytes()).to_string();
    digits.truncate(CHECK_DIGITS);
    digits
}

/// The snapshot without its records, and how many follow.
fn header(line: &str) -> Result<(Snapshot, u64), ImportError> {
    let mut fields = line.split(' ');
    if fields.next() != Some(MAGIC) {
        return Err(ImportError::NotAnExport);
    }
    let mut number =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).ok_or(ImportError::NotAnExport);
    let version = number()?;
    if version != VERSION {
        return Err(ImportError::Newer { found: version });
    }
    let (epoch, revision, count) = (Epoch(number()?), Revision(number()?), number()?);
    if fields.next().is_some() {
        return Err(ImportError::NotAnExport);
    }
    Ok((Snapshot { epoch, revision, records: Vec::new() }, count))
}

fn record(line: &str) -> Result<(Key, Vec<u8>), &'static str> {
    let (record, found) = line.rsplit_once(' ').ok_or("is not a record")?;
    if found != check(record) {
        return Err("does not fit its check");
    }
    let (key, value) = record.split_once(' ').ok_or("is not a record")?;
    let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| "is not base64");
    let (key, value) = (Key::new(decode(key)?), decode(value)?);
    check_record(&key, &value).map_err(|_| "has a key or value above the limit")?;
    Ok((key, value))
}

struct Lines<'a, R> {
    input: &'a mut R,
    number: u64,
    /// Over all whole lines so far.
    hasher: Hasher,
    line: String,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next line, without its end, into `line`.
    fn advance(&mut self) -> Result<(), ImportError> {
        self.line.clear();
        self.number += 1;
        let read = self.input.by_ref().take(LINE_BYTES_MAX).read_line(&mut self.line);
        match read {
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(self.wrong("is not text"));
            }
            Err(source) => return Err(ImportError::Read { line: self.number, source }),
        }
        self.hasher.update(self.line.as_bytes());
        match self.line.pop() {
            Some('\n') => Ok(()),
            Some(_) => Err(self.wrong("is too long, or cut off")),
            None => Err(self.wrong("is missing")),
        }
    }

    fn wrong(&self, wrong: &'static str) -> ImportError {
        ImportError::Line { line: self.number, wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let record = |key: &[u8], value: &[u8]| (Key::new(key), value.to_vec());
        Snapshot {
            epoch: Epoch(3),
            revision: Revision(1234),
            records: vec![record(b"", b""), record(b"\0\xff", b"\n binary \0"), record(b"a", &[9; 300])],
        }
    }

    fn exported(snapshot: &Snapshot) -> Vec<u8> {
        let mut out = Vec::new();
        export(snapshot, &mut out).expect("a vector takes everything");
        out
    }

    #[test]
    fn what_is_exported_comes_back() {
        let largest = Snapshot {
            records: vec![(Key::new(vec![0xff; KEY_BYTES_MAX]), vec![0xfe; VALUE_BYTES_MAX])],
            ..snapshot()
        };
        for snapshot in [Snapshot::default(), snapshot(), largest] {
            assert_eq!(import(&mut &exported(&snapshot)[..]).expect("import"), snapshot);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let good = exported(&snapshot());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            import(&mut &bad[..]).expect_err("flipped");
        }
        for cut in 0..good.len() {
            import(&mut &good[..cut]).expect_err("cut");
        }
        import(&mut &[&good[..], b"x"].concat()[..]).expect_err("longer");
    }

    #[test]
    fn the_damaged_line_is_named() {
        let mut bad = exported(&snapshot());
        let third = bad.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).expect("lines").0 + 1;
        bad[third] = b'B';
        assert_eq!(import(&mut &bad[..]).expect_err("damaged").to_string(), "line 3 does not fit its check");
    }

    #[test]
    fn records_must_ascend_and_formats_be_known() {
        let mut twice = snapshot();
        twice.records.swap(1, 2);
        assert_eq!(
            import(&mut &exported(&twice)[..]).expect_err("order").to_string(),
            "line 4 is out of order"
        );
        let newer = import(&mut &b"houston-store 2 whatever\n"[..]).expect_err("newer");
        assert!(matches!(newer, ImportError::Newer { found: 2 }));
        assert_eq!(newer.refusal().code, Code::StateNewer);
        for other in [&b"PK\x03\x04"[..], b"", b"\n", b"houston-store 1 2 3\n", &[b'x'; 200_000]] {
            let error = import(&mut &other[..]).expect_err("no export");
            assert!(matches!(error, ImportError::NotAnExport), "{error}");
        }
    }
}
