//! Which numbers an attribute takes.

use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeToInclusive};

/// The numbers that an attribute takes: itself if it is a number, each of its elements if it is a list. NaN is never one of them.
///
/// Ranges of Rust convert to one, of integers as of real numbers: `1..`, `0.0..=1.0`, `..=8`.
///
/// ```
/// use rhumb_plugins::AttrRange;
///
/// assert!(AttrRange::from(0.0..=1.0).contains(1.0));
/// assert!(!AttrRange::above(0.0).contains(0.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AttrRange {
    /// Where it begins. The greatest finite numbers as bounds let all finite numbers pass; without a bound, infinities pass too.
    pub least: Bound<f64>,
    /// Where it ends.
    pub most: Bound<f64>,
    /// How many numbers a list has, if that is always the same.
    pub length: Option<usize>,
    /// What such a number is, for errors: `a number of tokens`. For a list, what the list is.
    pub what: Option<String>,
}

impl AttrRange {
    /// All numbers.
    pub fn all() -> AttrRange {
        AttrRange::new(Bound::Unbounded, Bound::Unbounded)
    }

    /// All finite numbers.
    pub fn finite() -> AttrRange {
        (f64::MIN..=f64::MAX).into()
    }

    /// The numbers above `x`, and not `x`.
    pub fn above(x: f64) -> AttrRange {
        AttrRange::new(Bound::Excluded(x), Bound::Unbounded)
    }

    fn new(least: Bound<f64>, most: Bound<f64>) -> AttrRange {
        AttrRange { least, most, length: None, what: None }
    }

    /// With a word for such a number, which errors tell with the bounds: `a number of tokens`.
    #[must_use]
    pub fn of(self, what: impl Into<String>) -> AttrRange {
        AttrRange { what: Some(what.into()), ..self }
    }

    /// What is in both ranges, in the words of this one.
    #[must_use]
    pub fn within(self, other: AttrRange) -> AttrRange {
        let narrower = |a: Bound<f64>, b: Bound<f64>, a_is_inner: fn(f64, f64) -> bool| match (a, b) {
            (a, Bound::Unbounded) => a,
            (Bound::Unbounded, b) => b,
            (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y)) if a_is_inner(x, y) || x == y => a,
            (Bound::Included(x) | Bound::Excluded(x), Bound::Excluded(y)) if a_is_inner(x, y) => a,
            (_, b) => b,
        };
        AttrRange {
            least: narrower(self.least, other.least, |x, y| x > y),
            most: narrower(self.most, other.most, |x, y| x < y),
            length: self.length.or(other.length),
            what: self.what.or(other.what),
        }
    }

    /// Whether a number is in it.
    pub fn contains(&self, x: f64) -> bool {
        !self.is_below(x) && !self.is_above(x)
    }

    fn is_below(&self, x: f64) -> bool {
        !match self.least {
            Bound::Included(least) => x >= least,
            Bound::Excluded(least) => x > least,
            Bound::Unbounded => !x.is_nan(),
        }
    }

    fn is_above(&self, x: f64) -> bool {
        !match self.most {
            Bound::Included(most) => x <= most,
            Bound::Excluded(most) => x < most,
            Bound::Unbounded => !x.is_nan(),
        }
    }

    /// The bounds in words, such as `from 1 to 8` or `above 0`, but those that numbers of a machine have anyway.
    pub fn bounds(&self) -> String {
        self.words(is_of_machine)
    }

    fn words(&self, is_left_out: fn(f64) -> bool) -> String {
        let least = match self.least {
            Bound::Included(x) if !is_left_out(x) => Some(format!("from {}", number(x))),
            Bound::Excluded(x) => Some(format!("above {}", number(x))),
            _ => None,
        };
        let from_to = least.as_ref().is_some_and(|least| least.starts_with("from"));
        let to = if from_to { "to" } else { "up to" };
        let most = match self.most {
            Bound::Included(x) if !is_left_out(x) => Some(format!("{to} {}", number(x))),
            Bound::Excluded(x) => Some(format!("below {}", number(x))),
            _ => None,
        };
        match (least, most) {
            (Some(least), Some(most)) if most.starts_with("to") => format!("{least} {most}"),
            (Some(least), Some(most)) => format!("{least} and {most}"),
            (least, most) => least.or(most).unwrap_or_default(),
        }
    }

    /// An integer of the range, in words: for one that is given `outside`, if there is one.
    pub(super) fn integer(&self, outside: Option<f64>) -> String {
        let is_all = self.least == Bound::Included(i32::MIN.into()) && self.most == Bound::Included(i32::MAX.into());
        match outside {
            Some(_) if is_all && self.what.is_none() => "an integer of 32 bits".to_owned(),
            outside => self.phrase("an integer", outside),
        }
    }

    /// A real number of the range, in words.
    pub(super) fn real(&self) -> String {
        self.phrase(if self.is_finite() { "a finite number" } else { "a number" }, None)
    }

    /// A list of numbers of the range, in words.
    pub(super) fn list(&self) -> String {
        let numbers = if self.is_finite() { "finite numbers" } else { "numbers" };
        let plain = match self.length {
            Some(length) => format!("a list of {length} {numbers}"),
            None => format!("a list of {numbers}"),
        };
        self.phrase(&plain, None)
    }

    /// What such a number is, and its bounds; those of a machine too where a number lies outside of one.
    fn phrase(&self, plain: &str, outside: Option<f64>) -> String {
        let is_outside = |end: Bound<f64>| matches!(end, Bound::Included(x) if is_of_machine(x));
        let beyond = outside.is_some_and(|x| {
            (self.is_below(x) && is_outside(self.least)) || (self.is_above(x) && is_outside(self.most))
        });
        let bounds = if beyond { self.words(|_| false) } else { self.bounds() };
        format!("{} {bounds}", self.what.as_deref().unwrap_or(plain)).trim_end().to_owned()
    }

    /// Whether that numbers are finite is to be said: neither infinity is in the range, and a bound in words does not say so.
    fn is_finite(&self) -> bool {
        let open = self.least == Bound::Included(f64::MIN) || self.most == Bound::Included(f64::MAX);
        open && !self.contains(f64::INFINITY) && !self.contains(f64::NEG_INFINITY)
    }
}

/// Whether a bound is one that all numbers of a type have.
fn is_of_machine(bound: f64) -> bool {
    [f64::MIN, f64::MAX, i32::MIN.into(), i32::MAX.into(), u32::MAX.into()].contains(&bound)
}

macro_rules! from_ranges {
    ($($number:ty),+) => {$(
        impl From<RangeInclusive<$number>> for AttrRange {
            fn from(range: RangeInclusive<$number>) -> AttrRange {
                let (least, most) = range.into_inner();
                AttrRange::new(Bound::Included(f64::from(least)), Bound::Included(f64::from(most)))
            }
        }

        impl From<Range<$number>> for AttrRange {
            fn from(range: Range<$number>) -> AttrRange {
                AttrRange::new(Bound::Included(f64::from(range.start)), Bound::Excluded(f64::from(range.end)))
            }
        }

        impl From<RangeFrom<$number>> for AttrRange {
            fn from(range: RangeFrom<$number>) -> AttrRange {
                AttrRange::new(Bound::Included(f64::from(range.start)), Bound::Unbounded)
            }
        }

        impl From<RangeToInclusive<$number>> for AttrRange {
            fn from(range: RangeToInclusive<$number>) -> AttrRange {
                AttrRange::new(Bound::Unbounded, Bound::Included(f64::from(range.end)))
            }
        }
    )+};
}

from_ranges!(i32, f64);

/// A number as a reader sees it: whole ones without a fraction, very large and very small ones with an exponent.
pub(super) fn number(x: f64) -> String {
    if x == 0.0 || (1e-5..1e15).contains(&x.abs()) { format!("{x}") } else { format!("{x:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_what_is_in_them() {
        let finite = |range: AttrRange| range.within(AttrRange::finite());
        let ints = |range: AttrRange| range.within((i32::MIN..=i32::MAX).into());
        let found = [
            AttrRange::all().real(),
            AttrRange::finite().real(),
            finite(AttrRange::above(0.0)).real(),
            finite((0.5..).into()).real(),
            finite((0.0..=1.0).into()).real(),
            finite((0.0..1.0).into()).list(),
            finite((..=1e300).into()).list(),
            AttrRange { most: Bound::Included(2.0), length: Some(2), ..AttrRange::above(0.0) }.list(),
            ints(AttrRange::all()).integer(None),
            ints(AttrRange::all()).integer(Some(1e10)),
            ints((1..).into()).integer(Some(0.0)),
            ints((1..).into()).integer(Some(1e10)),
            ints(AttrRange::from(1..=8).of("a number of tokens")).integer(Some(9.0)),
            ints(AttrRange::all().of("a number of tokens")).integer(Some(-1e10)),
        ];
        let expected = [
            "a number",
            "a finite number",
            "a finite number above 0",
            "a finite number from 0.5",
            "a number from 0 to 1",
            "a list of numbers from 0 and below 1",
            "a list of finite numbers up to 1e300",
            "a list of 2 numbers above 0 and up to 2",
            "an integer",
            "an integer of 32 bits",
            "an integer from 1",
            "an integer from 1 to 2147483647",
            "a number of tokens from 1 to 8",
            "a number of tokens from -2147483648 to 2147483647",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn bounds_of_machine_numbers_go_without_saying() {
        let ranges = [(1..=i32::MAX).into(), (i32::MIN..=8).into(), AttrRange::finite(), (0.0..=1.0).into()];
        assert_eq!(ranges.map(|range| range.bounds()), ["from 1", "up to 8", "", "from 0 to 1"]);
    }

    #[test]
    fn bounds_are_in_ranges_or_not() {
        let numbers = [f64::NEG_INFINITY, f64::MIN, -1.0, 0.0, 1.0, 2.0, f64::MAX, f64::INFINITY];
        let of = |range: AttrRange| numbers.map(|x| u8::from(range.contains(x)));
        assert_eq!(of(AttrRange::all()), [1; 8]);
        assert_eq!(of(AttrRange::finite()), [0, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(of(AttrRange::above(0.0)), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(of((0..2).into()), [0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(of((0..=2).into()), [0, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(of((..=0.0).into()), [1, 1, 1, 1, 0, 0, 0, 0]);
        assert!(
            ![AttrRange::all(), AttrRange::finite(), AttrRange::above(0.0), (..=0.0).into(), (0.0..).into()]
                .iter()
                .any(|range| range.contains(f64::NAN))
        );
    }

    #[test]
    fn the_narrower_bound_of_two_ranges_holds() {
        let (wide, narrow) = (AttrRange::from(0.0..=8.0), AttrRange::from(1.0..4.0));
        assert_eq!(wide.clone().within(narrow.clone()), narrow);
        assert_eq!(narrow.clone().within(wide.clone()), narrow);
        assert_eq!(wide.clone().within(AttrRange::all()), wide);
        assert_eq!(AttrRange::all().within(wide.clone()), wide);
        // Of a bound that is in one and not in the other, it is in neither's part.
        let (with, without) = (AttrRange::from(0.0..), AttrRange::above(0.0));
        assert_eq!(with.clone().within(without.clone()), without);
        assert_eq!(without.clone().within(with), without);
        // Words and lengths are the first that there are.
        let (tokens, pair) = (AttrRange::all().of("tokens"), AttrRange { length: Some(2), ..AttrRange::all() });
        let both = tokens.clone().within(pair.clone());
        assert_eq!((both.what.as_deref(), both.length), (Some("tokens"), Some(2)));
        assert_eq!(both, pair.within(tokens));
    }
}
