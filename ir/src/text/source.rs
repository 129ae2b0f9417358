//! What readers of texts have in common: places, how errors show them, and words and numbers.

use std::fmt;

use super::report::Report;

/// Bytes of a text: first, and one past the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Span {
    /// From the start of this to the end of another.
    #[must_use]
    pub fn to(self, end: Span) -> Span {
        Span { start: self.start, end: end.end }
    }
}

/// A span of a text as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// Number of characters on that line, at least 1.
    pub width: usize,
    /// The line's text.
    pub source_line: String,
}

impl Located {
    /// Where a span of `source` stands; its ends are ends of characters.
    pub fn of(source: &str, Span { start, end }: Span) -> Located {
        let before = &source[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        Located {
            line: 1 + before.matches('\n').count(),
            column: 1 + source[line_start..start].chars().count(),
            width: source[start..end.clamp(start, line_end)].chars().count().max(1),
            source_line: source[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }
}

/// Prints an error about a place of a text: what was found, the line with the place marked, and what would mend it.
///
/// # Errors
/// Where `f` can't be written to.
pub fn report(
    f: &mut fmt::Formatter<'_>,
    (line, column, width, source_line): (usize, usize, usize, &str),
    finding: &str,
    hint: &str,
) -> fmt::Result {
    let place = format!("line {line}, column {column}");
    let span = (column.saturating_sub(1), width);
    let report =
        Report { message: &finding, place: &place, number: Some(line), line: source_line, span, hint: Some(hint) };
    write!(f, "{report}")
}

/// Long text in an error ends in `...`.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}

/// Whether names hold a character.
pub fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Bytes at the start of `text` whose characters all pass `test`.
pub fn prefix(text: &str, test: impl Fn(char) -> bool) -> usize {
    text.find(|c| !test(c)).unwrap_or(text.len())
}

/// Bytes of the number that `text` starts with: letters, digits and points, and a sign at the start or behind an exponent's `e`.
pub fn number_length(text: &str) -> usize {
    let mut previous = 'e';
    for (at, c) in text.char_indices() {
        let sign = matches!(c, '-' | '+') && matches!(previous, 'e' | 'E');
        if !(is_word(c) || c == '.' || sign) {
            return at;
        }
        previous = c;
    }
    text.len()
}
