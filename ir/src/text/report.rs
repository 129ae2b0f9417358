//! How an error shows a line of the text form.

use std::fmt;

/// Columns of a line that an error shows.
const SHOWN: usize = 120;

/// A message about part of a line, as errors about texts print it: the message, where, the line with the part marked, and a hint.
pub(crate) struct Report<'a> {
    /// What is wrong.
    pub(crate) message: &'a dyn fmt::Display,
    /// Where the line is: `op 5`, `line 3, column 7`.
    pub(crate) place: &'a dyn fmt::Display,
    /// The number in front of the line, if it has one.
    pub(crate) number: Option<usize>,
    /// The line.
    pub(crate) line: &'a str,
    /// What of the line is meant, in characters: first and count.
    pub(crate) span: (usize, usize),
    /// What would mend it.
    pub(crate) hint: Option<&'a str>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.map_or_else(String::new, |n| n.to_string());
        let margin = number.len();
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{:margin$}--> {}", "", self.place)?;
        if !self.line.is_empty() {
            let (line, start, width) = window(self.line, self.span);
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{number} | {line}")?;
            writeln!(f, "{:margin$} | {:start$}{}", "", "", "^".repeat(width))?;
        }
        match self.hint {
            Some(hint) => write!(f, "{:margin$} = hint: {hint}", ""),
            None => Ok(()),
        }
    }
}

/// The part of a long line around the span, tabs and other control characters shown as spaces; and the span in it.
fn window(line: &str, (start, width): (usize, usize)) -> (String, usize, usize) {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let count = line.chars().count();
    if count <= SHOWN {
        let start = start.min(count);
        return (line.chars().map(plain).collect(), start, width.clamp(1, (count - start).max(1)));
    }
    let first = start.saturating_sub(SHOWN / 2).min(count - SHOWN / 2);
    let (before, after) = (if first > 0 { "... " } else { "" }, if first + SHOWN < count { " ..." } else { "" });
    let shown: String = line.chars().skip(first).take(SHOWN).map(plain).collect();
    let room = shown.chars().count();
    let start = (start - first).min(room);
    (format!("{before}{shown}{after}"), before.len() + start, width.clamp(1, (room - start).max(1)))
}
