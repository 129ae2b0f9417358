//! What a layer sees, and whether it rotates.

use rhumb_ir::closest;
use serde_json::Value;

use super::error::ConfigError;
use super::family::{Family, Layers, Rotated};
use super::keys::{Given, Keys, count, words};

/// What queries of a layer see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Full,
    Sliding,
    Chunked,
}

/// The names of layers that attend by queries, keys and values alone.
pub(super) const KINDS: &[(&str, Kind)] = &[
    ("full_attention", Kind::Full),
    ("sliding_attention", Kind::Sliding),
    ("chunked_attention", Kind::Chunked),
    // An old name.
    ("attention", Kind::Full),
];

/// The names of layers that do not, and why.
const OTHERS: &[(&str, &str)] = &[
    ("linear_attention", "such layers keep a state in place of keys"),
    ("mamba", "such layers keep a state in place of keys"),
    ("conv", "such layers convolve, and have no keys"),
    ("indexed_attention", "an indexer of its own chooses the keys of each query"),
    ("compressed_sparse_attention", "keys are compressed, and chosen by an indexer"),
    ("heavily_compressed_attention", "keys are compressed"),
    ("window_attention", "such windows are those of images"),
    ("reference_sliding_attention", "keys of another sequence take part"),
];

impl Kind {
    /// Its name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Full => "full_attention",
            Kind::Sliding => "sliding_attention",
            Kind::Chunked => "chunked_attention",
        }
    }
}

impl Layers {
    /// Whether `layer_types` is read.
    pub(super) fn are_typed(self) -> bool {
        !matches!(self, Layers::Full | Layers::Window | Layers::WindowIfUsed | Layers::GptNeo | Layers::Jamba)
    }
}

/// One layer of a model.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) family: &'a Family,
    pub(super) keys: &'a Keys<'a>,
    pub(super) index: u32,
    /// How many there are.
    pub(super) count: u32,
}

impl Layer<'_> {
    /// What its queries see.
    pub(super) fn kind(&self) -> Result<Kind, ConfigError> {
        let last = matches!(self.family.layers, Layers::NthAndLast(_)) && self.index + 1 == self.count;
        if last {
            return Ok(Kind::Full);
        }
        if self.family.layers.are_typed()
            && let Given::Value(list) = self.keys.list(&["layer_types"])?
        {
            return self.named("layer_types", self.entry("layer_types", list)?);
        }
        self.by_rule()
    }

    /// The entry of this layer in a list that has one for each.
    fn entry<'v>(&self, key: &'static str, list: &'v [Value]) -> Result<&'v Value, ConfigError> {
        match list.get(self.index as usize) {
            Some(entry) if list.len() as u64 == u64::from(self.count) => Ok(entry),
            _ => Err(ConfigError::Contradiction {
                first: self.keys.path(key),
                second: self.keys.path("num_hidden_layers"),
                reason: format!("the list has {} entries, and there are {} layers", list.len(), self.count),
            }),
        }
    }

    fn named(&self, key: &'static str, entry: &Value) -> Result<Kind, ConfigError> {
        let path = self.keys.path(&format!("{key}[{}]", self.index));
        let Some(name) = entry.as_str() else {
            let expected = "the name of a kind of layers".to_owned();
            return Err(ConfigError::Type { key: path, found: words(entry), expected });
        };
        if let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) {
            return Ok(*kind);
        }
        if let Some((_, reason)) = OTHERS.iter().find(|(known, _)| *known == name) {
            return Err(ConfigError::Unsupported {
                key: path,
                found: format!("`{name}`"),
                reason: (*reason).to_owned(),
            });
        }
        let known = || KINDS.iter().map(|(name, _)| *name).chain(OTHERS.iter().map(|(name, _)| *name));
        Err(ConfigError::UnknownName {
            key: path,
            what: "kind of layers",
            found: name.chars().take(40).collect(),
            suggestion: closest(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        })
    }

    /// The error that the layer is none of those with queries, keys and values alone.
    fn other(&self, key: &str, name: &'static str) -> ConfigError {
        let reason = OTHERS.iter().find(|(known, _)| *known == name).map_or("it has no keys", |(_, reason)| *reason);
        ConfigError::Unsupported {
            key: self.keys.path(key),
            found: format!("such that layer {} is `{name}`", self.index),
            reason: reason.to_owned(),
        }
    }

    /// What the keys that stand for `layer_types` say.
    fn by_rule(&self) -> Result<Kind, ConfigError> {
        let (keys, i) = (self.keys, self.index);
        let sliding = |slides: bool| if slides { Kind::Sliding } else { Kind::Full };
        let is_nth = |n: u32| (i + 1).is_multiple_of(n);
        let uses_window = || keys.flag_or(&["use_sliding_window"], false);
        Ok(match self.family.layers {
            Layers::Full => Kind::Full,
            Layers::Window | Layers::WindowTyped => sliding(self.window_key()?.is_some()),
            Layers::WindowIfUsed => sliding(uses_window()? && self.window_key()?.is_some()),
            Layers::Typed => return Err(keys.missing("layer_types", "a list of the kinds of layers")),
            Layers::Nth(n) | Layers::NthAndLast(n) => sliding(!is_nth(n)),
            Layers::Every(n) => self.by_pattern(n)?,
            Layers::EveryIfWindow(n) if self.window_key()?.is_some() => self.by_pattern(n)?,
            Layers::EveryIfWindow(_) => Kind::Full,
            Layers::Qwen2(first) => {
                let first = keys.index(&["max_window_layers"])?.value().unwrap_or(first);
                sliding(uses_window()? && self.window_key()?.is_some() && i >= first)
            }
            Layers::Qwen2Moe => {
                let end = keys.index(&["max_window_layers"])?.value().unwrap_or(28);
                sliding(uses_window()? && is_nth_first(i) && i < end)
            }
            Layers::Interval(n) => {
                let n = keys.count(&["full_attention_interval"])?.value().unwrap_or(n);
                if !is_nth(n) {
                    return Err(self.other("full_attention_interval", "linear_attention"));
                }
                Kind::Full
            }
            Layers::Chunked if self.rotates(Kind::Full)? && self.chunk_key()?.is_some() => Kind::Chunked,
            Layers::Chunked => Kind::Full,
            Layers::SmolLm3 => {
                let window = keys.count(&["sliding_window"])?.value();
                sliding(uses_window()? && window.is_some() && !self.rotates(Kind::Full)?)
            }
            Layers::ModernBert => {
                let n = keys.count(&["global_attn_every_n_layers"])?.value().unwrap_or(3);
                sliding(!i.is_multiple_of(n))
            }
            Layers::GptNeo => self.gpt_neo()?,
            Layers::Jamba => {
                let period = keys.count(&["attn_layer_period"])?.value().unwrap_or(8);
                let offset = keys.index(&["attn_layer_offset"])?.value().unwrap_or(4);
                if i % period != offset {
                    return Err(self.other("attn_layer_period", "mamba"));
                }
                Kind::Full
            }
            Layers::Lfm2 => match keys.list(&["full_attn_idxs"])?.value() {
                Some(list) if !list.iter().any(|entry| count(entry) == Some(i)) => {
                    return Err(self.other("full_attn_idxs", "conv"));
                }
                _ => Kind::Full,
            },
            Layers::Indexed => return Err(self.other("model_type", "indexed_attention")),
            Layers::V4 => self.by_ratios()?,
        })
    }

    /// Layers whose keys are not compressed slide; the others are no attention of this kind.
    fn by_ratios(&self) -> Result<Kind, ConfigError> {
        const KEY: &str = "compress_ratios";
        let Some(list) = self.keys.list(&[KEY])?.value() else {
            return Err(self.other("model_type", "heavily_compressed_attention"));
        };
        match list.get(self.index as usize).and_then(count) {
            Some(0) => Ok(Kind::Sliding),
            Some(4) => Err(self.other(KEY, "compressed_sparse_attention")),
            _ => Err(self.other(KEY, "heavily_compressed_attention")),
        }
    }

    /// Every `n`-th layer is full; `sliding_window_pattern` has another `n`, or a letter for each layer: `LLLG`.
    fn by_pattern(&self, n: u32) -> Result<Kind, ConfigError> {
        const KEY: &str = "sliding_window_pattern";
        let expected = "a whole number from 1, or letters L and G";
        let (n, letters) = match self.keys.raw(&[KEY])? {
            Given::Value((_, Value::String(text)))
                if !text.is_empty() && text.chars().all(|c| c == 'L' || c == 'G') =>
            {
                (n, Some(text))
            }
            Given::Value((_, value)) => match count(value).filter(|n| *n > 0) {
                Some(n) => (n, None),
                None => return Err(self.keys.wrong(KEY, value, expected)),
            },
            Given::Absent | Given::Null => (n, None),
        };
        let slides = match letters {
            Some(text) => text.as_bytes()[self.index as usize % text.len()] == b'L',
            None => !(self.index + 1).is_multiple_of(n),
        };
        Ok(if slides { Kind::Sliding } else { Kind::Full })
    }

    /// GPT-Neo's `attention_types`, such as `[[["global", "local"], 12]]`.
    fn gpt_neo(&self) -> Result<Kind, ConfigError> {
        const KEY: &str = "attention_types";
        let expected = "a list of pairs: a list of `global` and `local`, and how often it repeats";
        let Some(list) = self.keys.list(&[KEY])?.value() else {
            return Ok(if self.index.is_multiple_of(2) { Kind::Full } else { Kind::Sliding });
        };
        let wrong = |value: &Value| self.keys.wrong(KEY, value, expected);
        let mut before = 0u64;
        for group in list {
            let pair = group.as_array().map(Vec::as_slice);
            let Some([Value::Array(names), repeats]) = pair else { return Err(wrong(group)) };
            let Some(repeats) = count(repeats).filter(|_| !names.is_empty()) else { return Err(wrong(group)) };
            let end = before + names.len() as u64 * u64::from(repeats);
            if u64::from(self.index) < end {
                let name = &names[((u64::from(self.index) - before) % names.len() as u64) as usize];
                return match name.as_str() {
                    Some("global") => Ok(Kind::Full),
                    Some("local") => Ok(Kind::Sliding),
                    _ => Err(wrong(name)),
                };
            }
            before = end;
        }
        Err(ConfigError::Contradiction {
            first: self.keys.path(KEY),
            second: self.keys.path("num_layers"),
            reason: format!("the list tells {before} layers, and there are {}", self.count),
        })
    }

    /// Whether its queries and keys are rotated, if it sees `kind`.
    pub(super) fn rotates(&self, kind: Kind) -> Result<bool, ConfigError> {
        match self.family.rotated {
            Rotated::All => Ok(true),
            Rotated::Sliding => Ok(kind == Kind::Sliding),
            Rotated::SlidingIfAny => Ok(kind == Kind::Sliding || self.window_key()?.is_none()),
            Rotated::Listed => self.is_listed(),
        }
    }

    /// Whether `no_rope_layers` has a 1 for it.
    fn is_listed(&self) -> Result<bool, ConfigError> {
        const KEY: &str = "no_rope_layers";
        let interval = self.keys.count(&["no_rope_layer_interval"])?.value().unwrap_or(4);
        match self.keys.list(&[KEY])?.value() {
            None | Some([]) => Ok(!(self.index + 1).is_multiple_of(interval)),
            Some(list) => {
                let entry = self.entry(KEY, list)?;
                let rotates = entry.as_bool().or(count(entry).filter(|n| *n < 2).map(|n| n == 1));
                rotates.ok_or_else(|| self.keys.wrong(KEY, entry, "a list of 1, where there is a rotation, and 0"))
            }
        }
    }

    fn window_key(&self) -> Result<Option<u32>, ConfigError> {
        Ok(self.keys.count(&["sliding_window"])?.or_absent(self.family.window))
    }

    fn chunk_key(&self) -> Result<Option<u32>, ConfigError> {
        Ok(self.keys.count(&["attention_chunk_size"])?.or_absent(Some(8192)))
    }

    /// The keys that a window reaches, or a chunk has.
    pub(super) fn reach(&self, kind: Kind) -> Result<i32, ConfigError> {
        let (key, found) = match (self.family.layers, kind) {
            (_, Kind::Chunked) => ("attention_chunk_size", self.chunk_key()?),
            (Layers::GptNeo, _) => ("window_size", self.keys.count(&["window_size"])?.value().or(self.family.window)),
            (Layers::ModernBert, _) => (
                "local_attention",
                self.keys.count(&["local_attention"])?.value().or(self.family.window).map(|w| w / 2),
            ),
            (Layers::Qwen2(_) | Layers::Qwen2Moe | Layers::SmolLm3, _)
                if !self.keys.flag_or(&["use_sliding_window"], false)? =>
            {
                ("use_sliding_window", None)
            }
            _ => ("sliding_window", self.window_key()?),
        };
        // At most 2^30.
        found.map(|n| n as i32).ok_or_else(|| ConfigError::Contradiction {
            first: self.keys.path(key),
            second: self.keys.path("layer_types"),
            reason: format!("layer {} is `{}`, and there is no size of it", self.index, kind.name()),
        })
    }
}

/// Whether a layer is the first of its two.
fn is_nth_first(i: u32) -> bool {
    i.is_multiple_of(2)
}
