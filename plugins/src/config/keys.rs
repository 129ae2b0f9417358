//! Reads the keys of a JSON object: by any of their names, of a type, in a range, with errors that tell the path.

use rhumb_ir::closest;
use serde_json::{Map, Value};

use super::error::ConfigError;

/// The largest count or length that a configuration may have.
const MOST: u32 = 1 << 30;

/// An object, and where it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// The path of the object, with the dot that keys follow.
    prefix: &'a str,
}

/// A key that may be left out, or be `null`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Given<T> {
    Absent,
    Null,
    Value(T),
}

impl<T> Given<T> {
    /// The value; where the key is left out `default`, where it is `null` nothing.
    pub(super) fn or_absent(self, default: Option<T>) -> Option<T> {
        match self {
            Given::Absent => default,
            Given::Null => None,
            Given::Value(x) => Some(x),
        }
    }

    /// The value, if there is one.
    pub(super) fn value(self) -> Option<T> {
        self.or_absent(None)
    }
}

impl<'a> Keys<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, prefix: &'a str) -> Keys<'a> {
        Keys { map, prefix }
    }

    /// The path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// All keys, with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// The value of a key by the first of its names that is there. Where several are there, they have to say the same.
    pub(super) fn raw(&self, names: &[&'static str]) -> Result<Given<(&'static str, &'a Value)>, ConfigError> {
        let mut found = Given::Absent;
        for name in names {
            found = match (self.map.get(*name), found) {
                (None, found) | (Some(Value::Null), found @ Given::Value(_)) => found,
                (Some(Value::Null), _) => Given::Null,
                (Some(value), Given::Value((first, other))) if value != other => {
                    return Err(ConfigError::Contradiction {
                        first: self.path(first),
                        second: self.path(name),
                        reason: "they are two names of one key".to_owned(),
                    });
                }
                (Some(_), found @ Given::Value(_)) => found,
                (Some(value), _) => Given::Value((*name, value)),
            };
        }
        Ok(found)
    }

    /// The path of the key that is there, of the names that it may have.
    pub(super) fn given(&self, names: &[&'static str]) -> Result<String, ConfigError> {
        let first = names.first().copied().unwrap_or_default();
        let name = self.raw(names)?.value().map_or(first, |(name, _)| name);
        Ok(self.path(name))
    }

    /// The value of a key, read by `read`, which says what it takes where it does not take this.
    fn read<T>(
        &self,
        names: &[&'static str],
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Given<T>, ConfigError> {
        Ok(match self.raw(names)? {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Value((name, value)) => match read(value) {
                Some(x) => Given::Value(x),
                None => return Err(self.wrong(name, value, expected)),
            },
        })
    }

    /// The error that a value is not what a key takes.
    pub(super) fn wrong(&self, key: &str, value: &Value, expected: &str) -> ConfigError {
        let (key, expected) = (self.path(key), expected.to_owned());
        match value {
            Value::Number(number) => ConfigError::Range { key, found: number.to_string(), expected },
            other => ConfigError::Type { key, found: words(other), expected },
        }
    }

    /// The error that a key is not there.
    pub(super) fn missing(&self, key: &'static str, expected: &str) -> ConfigError {
        let near = closest(key, self.map.keys().map(String::as_str)).filter(|found| *found != key);
        ConfigError::Missing {
            key: self.path(key),
            expected: expected.to_owned(),
            suggestion: near.map(|found| self.path(found)),
        }
    }

    /// A whole number from 1.
    pub(super) fn count(&self, names: &[&'static str]) -> Result<Given<u32>, ConfigError> {
        self.read(names, "a whole number from 1", |value| count(value).filter(|n| *n > 0))
    }

    /// A whole number from 0.
    pub(super) fn index(&self, names: &[&'static str]) -> Result<Given<u32>, ConfigError> {
        self.read(names, "a whole number from 0", count)
    }

    /// A number.
    pub(super) fn number(&self, names: &[&'static str]) -> Result<Given<f64>, ConfigError> {
        self.read(names, "a finite number", number)
    }

    /// A number above 0.
    pub(super) fn positive(&self, names: &[&'static str]) -> Result<Given<f64>, ConfigError> {
        self.read(names, "a finite number above 0", |value| number(value).filter(|x| *x > 0.0))
    }

    /// `true` or `false`; older files have 1 and 0 too, and any other count for `true`.
    pub(super) fn flag(&self, names: &[&'static str]) -> Result<Given<bool>, ConfigError> {
        self.read(names, "true or false", |value| value.as_bool().or(value.as_u64().map(|n| n != 0)))
    }

    /// A flag, and what it is where the key is left out or `null`.
    pub(super) fn flag_or(&self, names: &[&'static str], default: bool) -> Result<bool, ConfigError> {
        Ok(self.flag(names)?.value().unwrap_or(default))
    }

    /// A text.
    pub(super) fn text(&self, names: &[&'static str]) -> Result<Given<&'a str>, ConfigError> {
        self.read(names, "a text", Value::as_str)
    }

    /// A list.
    pub(super) fn list(&self, names: &[&'static str]) -> Result<Given<&'a [Value]>, ConfigError> {
        self.read(names, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A list of numbers above 0.
    pub(super) fn numbers(&self, names: &[&'static str]) -> Result<Given<Vec<f64>>, ConfigError> {
        self.read(names, "a list of finite numbers above 0", |value| {
            value.as_array()?.iter().map(|x| number(x).filter(|x| *x > 0.0)).collect()
        })
    }

    /// An object.
    pub(super) fn object(&self, names: &[&'static str]) -> Result<Given<&'a Map<String, Value>>, ConfigError> {
        self.read(names, "an object", Value::as_object)
    }
}

/// A count as any writer of JSON has it: `8` or `8.0`.
pub(super) fn count(value: &Value) -> Option<u32> {
    let whole = |x: f64| (x.fract() == 0.0 && (0.0..=f64::from(MOST)).contains(&x)).then_some(x as u32);
    match value.as_u64() {
        Some(n) => u32::try_from(n).ok().filter(|n| *n <= MOST),
        None => value.as_f64().and_then(whole),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite())
}

/// A value as a reader of an error sees it.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(x) => x.to_string(),
        Value::Number(x) => x.to_string(),
        Value::String(x) if x.chars().count() > 40 => "a long text".to_owned(),
        Value::String(x) => format!("the text \"{}\"", x.escape_debug()),
        Value::Array(x) => format!("a list of {}", x.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}
