//! What a program printed, in bounded memory: its beginning, its end, and how much lay between.

use std::collections::VecDeque;
use std::fmt::Write as _;

use houston_common::id::is_plain;

/// The first lines say what was attempted, the last ones why it ended; 64 KiB of both fit a report's
/// page and a thousand hosts' worth fits a coordinator.
const HEAD_BYTES: usize = 32 << 10;
const TAIL_BYTES: usize = 32 << 10;

#[derive(Debug, Default, Clone)]
pub struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes that were printed between head and tail.
    cut: u64,
}

impl Output {
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(TAIL_BYTES)..];
        let overflow = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..overflow);
        self.tail.extend(kept);
        self.cut += (overflow + rest.len() - kept.len()) as u64;
    }

    /// Bytes that were printed but not kept.
    pub fn cut_bytes(&self) -> u64 {
        self.cut
    }

    /// All that was kept, safe for a terminal: invalid UTF-8 as `\xNN`, control and direction
    /// characters escaped, but for newlines and tabs.
    pub fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.cut == 0 {
            return escape(&[self.head.as_slice(), &tail].concat());
        }
        let mut text = escape(&self.head);
        let _ = write!(text, "\n(cut {})\n", Size(self.cut));
        text + &escape(&tail)
    }

    /// The end of the text: at most `lines` lines and `bytes` bytes.
    pub fn last(&self, lines: usize, bytes: usize) -> String {
        last(&self.text(), lines, bytes).to_owned()
    }
}

/// The end of a text: at most `lines` lines and `bytes` bytes, whole characters.
pub fn last(text: &str, lines: usize, bytes: usize) -> &str {
    let text = text.trim_end_matches('\n');
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let text = &text[start..];
    let newlines = text.rmatch_indices('\n');
    let cut = newlines.map(|(at, _)| at + 1).nth(lines.saturating_sub(1)).unwrap_or(0);
    &text[cut..]
}

/// Bytes made safe to show; see [`Output::text`].
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\n' || c == '\t' || is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// An amount of bytes for people.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
        match units.into_iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => write!(f, "{}.{} {name}", self.0 / unit, self.0 % unit * 10 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut output = Output::default();
        output.push(b"one\n");
        output.push(b"two\n");
        assert_eq!(output.text(), "one\ntwo\n");
        assert_eq!(output.cut_bytes(), 0);
    }

    #[test]
    fn a_flood_keeps_head_tail_and_count() {
        for piece in [1, 7, 4096, 100_000, 1_000_000] {
            let mut output = Output::default();
            let flood: Vec<u8> = (0..1_000_000u32).map(|i| b'a' + (i % 26) as u8).collect();
            flood.chunks(piece).for_each(|chunk| output.push(chunk));
            assert_eq!(output.head, flood[..HEAD_BYTES]);
            assert!(output.tail.iter().eq(&flood[flood.len() - TAIL_BYTES..]), "{piece}");
            assert_eq!(output.cut_bytes(), 1_000_000 - (HEAD_BYTES + TAIL_BYTES) as u64);
            assert!(output.text().contains("\n(cut 934.4 kB)\n"));
        }
    }

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        let mut output = Output::default();
        output.push("ok\t\u{1b}[31m\r\u{202e}\u{9b}\0".as_bytes());
        output.push(b"\xff\xc3");
        let text = output.text();
        assert_eq!(text, "ok\t\\u{1b}[31m\\u{d}\\u{202e}\\u{9b}\\u{0}\\xff\\xc3");
    }

    #[test]
    fn the_last_lines_are_bounded_in_both_ways() {
        assert_eq!(last("a\nb\nc\n", 2, 100), "b\nc");
        assert_eq!(last("a\nb", 5, 100), "a\nb");
        assert_eq!(last("aaaäb", 5, 2), "b");
        assert_eq!(last("", 5, 2), "");
    }
}
