//! Columns for people.

use crate::console::Paint;

/// Rows under a head, each column as wide as its widest cell; the last is not padded.
#[derive(Debug, Clone)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Cells may be coloured. A row has as many cells as the head.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// The table, or `nothing` if it has no rows.
    pub fn to_text(&self, nothing: &str, paint: Paint) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let cell_width = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |cell| width(cell));
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| {
                self.rows.iter().map(|row| cell_width(row, i)).max().unwrap_or(0).max(self.head[i].len())
            })
            .collect();
        let head: Vec<String> = self.head.iter().map(|title| paint.dim(title)).collect();
        std::iter::once(&head).chain(&self.rows).map(|row| line(row, &widths)).collect()
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, column) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell)) + 2));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Columns that a text takes on a terminal, colours not counted. Characters that may be wide count
/// as wide: a line that is cut too early is better than one that wraps.
pub fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => while chars.next().is_some_and(|c| c != 'm') {},
            '\u{1100}'.. if !is_drawing(c) => columns += 2,
            _ => columns += 1,
        }
    }
    columns
}

/// Punctuation, arrows, box drawing and shapes, which are narrow.
const fn is_drawing(c: char) -> bool {
    matches!(c, '\u{2000}'..='\u{2bff}')
}

/// As much of a text as fits into `columns`, colours kept whole.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut out, mut used, mut coloured) = (String::new(), 0, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            out.push(c);
            coloured = true;
            for c in chars.by_ref() {
                out.push(c);
                if c == 'm' {
                    break;
                }
            }
            continue;
        }
        let next = width(c.encode_utf8(&mut [0; 4]));
        if used + next + 1 > columns {
            break;
        }
        used += next;
        out.push(c);
    }
    out.push('…');
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_their_colours() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row([Paint(true).good("a"), "up".into()]);
        table.row(["longer".into(), "down".into()]);
        assert_eq!(
            table.to_text("none", Paint(false)),
            "NAME    STATE\n\u{1b}[32ma\u{1b}[0m       up\nlonger  down\n"
        );
        assert_eq!(Table::new(&["NAME"]).to_text("no hosts", Paint(false)), "no hosts\n");
    }

    #[test]
    fn texts_are_cut_to_the_columns_there_are() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut(&Paint(true).bad("abcdef"), 4), "\u{1b}[31mabc…\u{1b}[0m");
        assert_eq!(width("日本"), 4);
        assert_eq!(width("● a → b"), 7);
        assert!(width(&cut("日本語", 4)) <= 4);
    }
}
