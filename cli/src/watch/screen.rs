//! The lines at the bottom of a terminal that are redrawn in place. What scrolls by above them stays.

use houston_common::error::Refusal;

use crate::console::Console;
use crate::render::{cut, width};

/// What was drawn last: how wide each line is.
#[derive(Debug, Default)]
pub struct Screen {
    drawn: Vec<usize>,
    columns: usize,
}

impl Screen {
    /// Replaces what was drawn last.
    pub fn draw(
        &mut self,
        console: &mut Console<'_>,
        lines: Vec<String>,
        columns: usize,
    ) -> Result<(), Refusal> {
        // The rows that the lines take now are counted by the terminal's width of now.
        self.columns = columns;
        let lines: Vec<_> = lines.iter().map(|line| cut(line, columns.saturating_sub(1))).collect();
        let text = format!("{}{}\n", self.erase(), lines.join("\n"));
        self.drawn = lines.iter().map(|line| width(line)).collect();
        // In one piece, so that no half picture is seen.
        console.write(&text)
    }

    /// Puts text where the picture was; the next picture comes below it.
    pub fn scroll(&mut self, console: &mut Console<'_>, text: &str) -> Result<(), Refusal> {
        let text = format!("{}{text}", self.erase());
        self.drawn.clear();
        console.write(&text)
    }

    /// Back to the first row of what was drawn, and clear from there. A terminal that has become
    /// narrower since has wrapped the lines.
    fn erase(&self) -> String {
        let rows: usize = self.drawn.iter().map(|width| rows_of(*width, self.columns)).sum();
        if rows == 0 { String::new() } else { format!("\u{1b}[{rows}A\r\u{1b}[J") }
    }
}

fn rows_of(width: usize, columns: usize) -> usize {
    width.div_ceil(columns.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use crate::args::{Color, Output};
    use crate::console::Surroundings;

    use super::*;

    #[test]
    fn a_picture_replaces_the_one_before() {
        let surroundings =
            Surroundings { home: None, config_home: None, plain_terminal: true, terminal: || Some((20, 10)) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err, Output::Text, Color::Never, &surroundings);
        let mut screen = Screen::default();
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
        screen.draw(&mut console, lines("one\ntwo"), 20).expect("drawn");
        screen.draw(&mut console, lines("0123456789012345678"), 20).expect("drawn");
        // Half as wide now: the line takes two rows.
        screen.draw(&mut console, lines("three"), 10).expect("drawn");
        screen.scroll(&mut console, "a log\n").expect("scrolled");
        screen.draw(&mut console, lines("four"), 10).expect("drawn");
        let expected = "one\ntwo\n\u{1b}[2A\r\u{1b}[J0123456789012345678\n\u{1b}[2A\r\u{1b}[Jthree\n\u{1b}[1A\r\u{1b}[Ja log\nfour\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
