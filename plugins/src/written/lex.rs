//! The lexer of schemes in text.

use rhumb_ir::source::{Span, is_word, number_length, prefix, shorten};

/// A token; text is a slice of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// `score`, `slope`.
    Ident(&'s str),
    /// `12`, `0.5`, `1e-7`: what it means, the parser finds out.
    Number(&'s str),
    /// `"half"`, without the quotes.
    Str(&'s str),
    /// `/// text`, without the slashes.
    Doc(&'s str),
    /// `=`, `<=`, `(`.
    Punct(&'s str),
    /// A string that its line ends inside.
    OpenStr,
    /// Any other character.
    Bad(char),
    /// The end of the text.
    End,
}

/// Punctuation, the longer before what it starts with.
const PUNCTUATION: [&str; 24] = [
    "==", "!=", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "%", "^", "(", ")", "[", "]", "{", "}", ",", ":", ";",
    "|", ".",
];

impl Token<'_> {
    /// How an error names it.
    pub(super) fn describe(self) -> String {
        match self {
            Token::Ident(text) | Token::Number(text) | Token::Punct(text) => format!("`{}`", shorten(text)),
            Token::Str(text) => format!("the string \"{}\"", shorten(text)),
            Token::Doc(_) => "a line of documentation".to_owned(),
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
            Some(c) if c.is_ascii_digit() => {
                let length = number_length(rest);
                (Token::Number(&rest[..length]), length)
            }
            Some('"') => match rest[1..].find(['"', '\n', '\r']) {
                Some(length) if rest[1 + length..].starts_with('"') => (Token::Str(&rest[1..=length]), length + 2),
                _ => (Token::OpenStr, prefix(rest, |c| c != '\n' && c != '\r')),
            },
            Some(_) if is_doc(rest) => {
                let length = prefix(rest, |c| c != '\n');
                (Token::Doc(rest[3..length].trim()), length)
            }
            Some(c) => match PUNCTUATION.into_iter().find(|punct| rest.starts_with(punct)) {
                Some(punct) => (Token::Punct(punct), punct.len()),
                None => (Token::Bad(c), c.len_utf8()),
            },
        };
        self.at += length;
        (token, Span { start, end: self.at })
    }

    /// Skips white space and comments, which go from `//` to the end of the line; `///` is documentation.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.source[self.at..];
            let blank = prefix(rest, char::is_whitespace);
            let rest = &rest[blank..];
            let comment = if rest.starts_with("//") && !is_doc(rest) { prefix(rest, |c| c != '\n') } else { 0 };
            if blank + comment == 0 {
                return;
            }
            self.at += blank + comment;
        }
    }
}

fn is_doc(rest: &str) -> bool {
    rest.starts_with("///") && !rest.starts_with("////")
}
