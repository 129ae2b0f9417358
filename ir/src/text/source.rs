//! Places in a text, for errors about it.

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

/// Long text in an error ends in `...`.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}
