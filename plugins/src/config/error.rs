//! What is wrong with a model's configuration.

use thiserror::Error;

use crate::error::quoted;

/// Why a configuration gives no attention. Keys are told by their path from the top of the file: `text_config.rope_parameters.factor`.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A text that is not JSON.
    Json {
        /// What the reader of JSON found, and where.
        message: String,
    },
    /// A key that can't be done without.
    Missing {
        /// The key.
        key: String,
        /// What it takes.
        expected: String,
        /// A key of the file that reads like it.
        suggestion: Option<String>,
    },
    /// A value of another type.
    Type {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What it takes.
        expected: String,
    },
    /// A value out of range.
    Range {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// The range.
        expected: String,
    },
    /// A name that there is not: of a model, of a kind of rotation, of a kind of layer.
    UnknownName {
        /// The key.
        key: String,
        /// What is named.
        what: &'static str,
        /// The name.
        found: String,
        /// The known name that reads most like it.
        suggestion: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A key that speaks of attention, and that nobody here knows.
    UnknownKey {
        /// The key.
        key: String,
        /// The known key that reads most like it.
        suggestion: Option<String>,
    },
    /// Keys that contradict each other.
    Contradiction {
        /// One key.
        first: String,
        /// The other.
        second: String,
        /// How.
        reason: String,
    },
    /// What has no attention of queries, keys and values alone.
    Unsupported {
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// Why there is no graph of it.
        reason: String,
    },
    /// A layer that the model does not have.
    NoLayer {
        /// The layer asked for.
        layer: u32,
        /// How many there are.
        layers: u32,
    },
}

rhumb_ir::display_with_hint!(ConfigError);

impl ConfigError {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            ConfigError::Json { message } => format!("the configuration is not JSON: {message}"),
            ConfigError::Missing { key, .. } => format!("key `{key}` is missing"),
            ConfigError::Type { key, found, .. } => format!("key `{key}` can't be {found}"),
            ConfigError::Range { key, found, .. } => format!("key `{key}` can't be {found}"),
            ConfigError::UnknownName { key, what, found, .. } => format!("key `{key}`: there is no {what} `{found}`"),
            ConfigError::UnknownKey { key, .. } => {
                format!("key `{key}` is unknown, and may change what attention computes")
            }
            ConfigError::Contradiction { first, second, reason } => {
                format!("keys `{first}` and `{second}` contradict each other: {reason}")
            }
            ConfigError::Unsupported { key, found, reason } => format!("key `{key}` is {found}: {reason}"),
            ConfigError::NoLayer { layer, layers } => {
                format!("there is no layer {layer}: the model has {layers}, counted from 0")
            }
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            ConfigError::Json { .. } => "give the `config.json` of a model".to_owned(),
            ConfigError::Missing { suggestion: Some(found), key, .. } => {
                format!("did you mean `{key}` by `{found}`?")
            }
            ConfigError::Missing { key, expected, suggestion: None } => format!("add `{key}`: {expected}"),
            ConfigError::Type { expected, .. } | ConfigError::Range { expected, .. } => format!("give {expected}"),
            ConfigError::UnknownName { suggestion: Some(name), .. } => format!("did you mean `{name}`?"),
            ConfigError::UnknownName { known, .. } => format!("known are {}", quoted(known)),
            ConfigError::UnknownKey { suggestion: Some(name), .. } => format!("did you mean `{name}`?"),
            ConfigError::UnknownKey { key, .. } => {
                format!("leave `{key}` out if it changes nothing in the scores of this model")
            }
            ConfigError::Contradiction { first, second, .. } => {
                format!("leave out `{first}` or `{second}`, or make them agree")
            }
            ConfigError::Unsupported { .. } => {
                "build the graph of this layer by `Attention` or `GraphBuilder`".to_owned()
            }
            ConfigError::NoLayer { layers: 0, .. } => "give a model with layers".to_owned(),
            ConfigError::NoLayer { layers, .. } => format!("give a layer from 0 to {}", layers - 1),
        }
    }
}
