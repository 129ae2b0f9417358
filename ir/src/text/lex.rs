//! The lexer of the text form.

use super::source::{Span, is_word, number_length, prefix, shorten};

/// A token; text is a slice of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// `softmax`, `h`.
    Ident(&'s str),
    /// `%scores`, `%12`: the part after `%`.
    Value(&'s str),
    /// `@0`: the part after `@`.
    Site(&'s str),
    /// `"out"`, quotes included.
    Str(&'s str),
    /// `12`, `-0.5`, `1e-7`, `-inf`; what it means, the parser finds out.
    Number(&'s str),
    /// One of `= : , . ? [ ] { }`.
    Punct(char),
    /// A string that its line ends inside.
    OpenStr,
    /// Any other character.
    Bad(char),
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// How an error names it.
    pub(super) fn describe(self) -> String {
        match self {
            Token::Ident(text) | Token::Number(text) => format!("`{}`", shorten(text)),
            Token::Value(text) => format!("`%{}`", shorten(text)),
            Token::Site(text) => format!("`@{}`", shorten(text)),
            Token::Str(text) => format!("the string {}", shorten(text)),
            Token::Punct(c) => format!("`{c}`"),
            Token::OpenStr => "a string without an end".to_owned(),
            Token::Bad(c) => format!("the character {c:?}"),
            Token::End => "the end of the text".to_owned(),
        }
    }
}

/// Splits the text into tokens, one at a time.
pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str) -> Lexer<'s> {
        Lexer { source, at: if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 } }
    }

    pub(super) fn next(&mut self) -> (Token<'s>, Span) {
        self.skip_blank();
        let start = self.at;
        let rest = &self.source[start..];
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let length = prefix(rest, is_word);
                (Token::Ident(&rest[..length]), length)
            }
            Some('%') => {
                let length = prefix(&rest[1..], |c| is_word(c) || c == '.');
                (Token::Value(&rest[1..=length]), 1 + length)
            }
            Some('@') => {
                let length = prefix(&rest[1..], is_word);
                (Token::Site(&rest[1..=length]), 1 + length)
            }
            Some('"') => match string_length(rest) {
                Some(length) => (Token::Str(&rest[..length]), length),
                None => (Token::OpenStr, prefix(rest, |c| c != '\n' && c != '\r')),
            },
            Some(c) if c.is_ascii_digit() || c == '-' => {
                let length = number_length(rest);
                if length == 1 && c == '-' { (Token::Bad(c), 1) } else { (Token::Number(&rest[..length]), length) }
            }
            Some(c @ ('=' | ':' | ',' | '.' | '?' | '[' | ']' | '{' | '}')) => (Token::Punct(c), 1),
            Some(c) => (Token::Bad(c), c.len_utf8()),
        };
        self.at += length;
        (token, Span { start, end: self.at })
    }

    /// Skips white space and comments, which go from `//` to the end of the line.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.source[self.at..];
            let blank = prefix(rest, char::is_whitespace);
            let comment = if rest[blank..].starts_with("//") { prefix(&rest[blank..], |c| c != '\n') } else { 0 };
            if blank + comment == 0 {
                return;
            }
            self.at += blank + comment;
        }
    }
}

/// Bytes of the string that `text` starts with, quotes included; `None` if its line ends first.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' | '\r' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The text that a string token stands for, or the first escape that means nothing.
pub(super) fn unquote(token: &str) -> Result<String, String> {
    let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (c, length) = match escape.chars().next() {
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some('0') => ('\0', 1),
            Some(c @ ('\\' | '"' | '\'')) => (c, 1),
            Some('u') => unicode(escape).ok_or_else(|| shorten(&rest[at..]))?,
            Some(c) => return Err(format!("\\{c}")),
            None => return Err("\\".to_owned()),
        };
        text.push(c);
        rest = &escape[length..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of `u{1f600}` and the bytes of that text.
fn unicode(escape: &str) -> Option<(char, usize)> {
    let digits = escape.strip_prefix("u{")?;
    let end = digits.find('}').filter(|end| (1..=6).contains(end))?;
    let c = char::from_u32(u32::from_str_radix(&digits[..end], 16).ok()?)?;
    Some((c, 2 + end + 1))
}
