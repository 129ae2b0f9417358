//! The scheme of a rotation that a file tells.

use rhumb_ir::closest;

use super::error::ConfigError;
use super::family::Told;
use super::keys::{Given, Keys, count, words};
use super::known::unknown;
use super::rope::Rotation;
use crate::scheme::Scheme;
use crate::schemes::rope::{DynamicNtk, Llama3Rope, LongRope, ProportionalRope, Rope, Rotary, Yarn};

/// The keys that a rotation may have.
const READ: &[&str] = &[
    "alpha",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "finetuned",
    "high_freq_factor",
    "llama_4_scaling_beta",
    "long_factor",
    "long_mscale",
    "low_freq_factor",
    "max_position_embeddings",
    "mrope_interleaved",
    "mrope_section",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "short_factor",
    "short_mscale",
    "truncate",
    "type",
];

/// The kinds of rotation, by their names in files.
const TYPES: &[(&str, Type)] = &[
    ("default", Type::Default),
    ("linear", Type::Linear),
    ("dynamic", Type::Dynamic),
    ("yarn", Type::Yarn),
    ("longrope", Type::LongRope),
    ("llama3", Type::Llama3),
    ("proportional", Type::Proportional),
    // Old names.
    ("su", Type::LongRope),
    ("mrope", Type::Default),
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Type {
    Default,
    Linear,
    Dynamic,
    Yarn,
    LongRope,
    Llama3,
    Proportional,
}

/// A rotation with the keys of the model around it.
pub(super) struct Scaled<'a> {
    pub(super) rotation: &'a Rotation,
    pub(super) model: &'a Keys<'a>,
    pub(super) told: Told,
}

impl Scaled<'_> {
    fn keys(&self) -> Keys<'_> {
        self.rotation.keys()
    }

    /// The kind of rotation.
    pub(super) fn kind(&self) -> Result<Type, ConfigError> {
        let (new, old) = (self.named("rope_type")?, self.named("type")?);
        match (new, old) {
            (Some(new), Some(old)) if new != old => Err(ConfigError::Contradiction {
                first: self.keys().path("rope_type"),
                second: self.keys().path("type"),
                reason: "they are two names of one key".to_owned(),
            }),
            (None, None) if self.is_scaled() => Err(self.missing(
                "rope_type",
                "the kind of rotation that the other keys are about, such as `linear` or `yarn`",
            )),
            (new, old) => Ok(new.or(old).unwrap_or(Type::Default)),
        }
    }

    /// Whether there are keys that only a kind of rotation other than the plain one reads.
    fn is_scaled(&self) -> bool {
        const PLAIN: &[&str] =
            &["max_position_embeddings", "mrope_interleaved", "mrope_section", "partial_rotary_factor", "rope_theta"];
        self.keys()
            .iter()
            .any(|(key, value)| READ.contains(&key.as_str()) && !PLAIN.contains(&key.as_str()) && !value.is_null())
    }

    fn named(&self, key: &'static str) -> Result<Option<Type>, ConfigError> {
        let keys = self.keys();
        let Some(found) = keys.text(&[key])?.value() else { return Ok(None) };
        if found == "axial" {
            return Err(ConfigError::Unsupported {
                key: keys.path(key),
                found: "axial".to_owned(),
                reason: "such rotations are those of images, which each model builds in its own way: see `Rope2d`"
                    .to_owned(),
            });
        }
        match TYPES.iter().find(|(name, _)| *name == found) {
            Some((_, Type::Yarn)) if matches!(self.told, Told::Phi3) => Ok(Some(Type::LongRope)),
            Some((_, kind)) => Ok(Some(*kind)),
            None => Err(ConfigError::UnknownName {
                key: keys.path(key),
                what: "rotation",
                found: found.chars().take(40).collect(),
                suggestion: closest(found, TYPES.iter().map(|(name, _)| *name)).map(str::to_owned),
                known: TYPES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            }),
        }
    }

    /// The scheme that turns what `rotary` says, of a head of so many elements.
    pub(super) fn scheme(&self, rotary: Rotary, pairs: u32) -> Result<Scheme, ConfigError> {
        let keys = self.keys();
        for (key, _) in keys.iter() {
            if !READ.contains(&key.as_str()) {
                return Err(unknown(&keys, key, READ));
            }
        }
        self.check_sections(pairs)?;
        let kind = self.kind()?;
        Ok(match kind {
            Type::Default => Rope::new().with(rotary).into(),
            Type::Linear => Rope::new().factor(self.needed("factor")?).with(rotary).into(),
            // HunYuan's, whose base does not grow with the length.
            Type::Dynamic if keys.positive(&["alpha"])? != Given::Absent => {
                Rope::new().ntk(self.needed("alpha")?).with(rotary).into()
            }
            Type::Dynamic => DynamicNtk::new(self.needed("factor")?, self.longest()?).with(rotary).into(),
            Type::Yarn => self.yarn()?.with(rotary).into(),
            Type::LongRope => self.longrope(pairs)?.with(rotary).into(),
            Type::Llama3 => {
                let (low, high) = (self.needed("low_freq_factor")?, self.needed("high_freq_factor")?);
                if low >= high {
                    return Err(ConfigError::Range {
                        key: keys.path("high_freq_factor"),
                        found: high.to_string(),
                        expected: format!("a number above `low_freq_factor`, {low}"),
                    });
                }
                let rope = Llama3Rope::new().factor(self.needed("factor")?).turns(low, high);
                rope.train_length(self.trained(kind)?).with(rotary).into()
            }
            Type::Proportional => {
                let factor = keys.positive(&["factor"])?.value().unwrap_or(1.0);
                let share = keys.number(&["partial_rotary_factor"])?.value().unwrap_or(1.0);
                ProportionalRope::new(share).factor(factor).with(rotary).into()
            }
        })
    }

    fn yarn(&self) -> Result<Yarn, ConfigError> {
        let keys = self.keys();
        let train = self.trained(Type::Yarn)?;
        let ratio = || Ok(f64::from(self.longest()?) / f64::from(train));
        let factor = match keys.positive(&["factor"])? {
            Given::Value(factor) => factor,
            Given::Null => ratio()?,
            Given::Absent => {
                return Err(
                    self.missing("factor", "a number above 0, or null for the longest context over that trained on")
                );
            }
        };
        let beta = |name, default: f64| {
            Ok::<_, ConfigError>(keys.number(&[name])?.value().filter(|x| *x != 0.0).unwrap_or(default))
        };
        let mut yarn = Yarn::new(factor, train).betas(beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?);
        if !keys.flag_or(&["truncate"], true)? {
            yarn = yarn.untruncated();
        }
        if let (Some(mscale), Some(all)) =
            (keys.number(&["mscale"])?.value(), keys.number(&["mscale_all_dim"])?.value())
        {
            yarn = yarn.mscales(mscale, all);
        }
        Ok(match keys.positive(&["attention_factor"])?.value() {
            Some(factor) => yarn.attention_factor(factor),
            None => yarn,
        })
    }

    fn longrope(&self, pairs: u32) -> Result<LongRope, ConfigError> {
        let keys = self.keys();
        let list = |name: &'static str| {
            let expected = format!("a list of {pairs} numbers above 0, one for each pair");
            let list = keys.numbers(&[name])?.value().ok_or_else(|| self.missing(name, &expected))?;
            if list.len() as u64 == u64::from(pairs) {
                return Ok(list);
            }
            Err(ConfigError::Range { key: keys.path(name), found: format!("a list of {}", list.len()), expected })
        };
        let train = self.trained(Type::LongRope)?;
        let rope = LongRope::new(train, list("short_factor")?, list("long_factor")?);
        let ratio = || Ok::<_, ConfigError>(f64::from(self.longest()?) / f64::from(train));
        let factor = match keys.positive(&["factor"])?.value() {
            Some(factor) => factor,
            None => ratio()?,
        };
        let scales = (keys.positive(&["short_mscale"])?.value(), keys.positive(&["long_mscale"])?.value());
        let attention_factor = match scales {
            (None, None) => keys.positive(&["attention_factor"])?.value(),
            (Some(short), Some(long)) if short == long => Some(short),
            (short, long) => {
                return Err(ConfigError::Unsupported {
                    key: keys.path("long_mscale"),
                    found: format!("{}, and `short_mscale` {}", number(long), number(short)),
                    reason: "the attention factor would go by the length of the call".to_owned(),
                });
            }
        };
        let rope = rope.factor(factor);
        Ok(match attention_factor {
            Some(factor) => rope.attention_factor(factor),
            None => rope,
        })
    }

    /// A number above 0 that the kind of rotation can't do without.
    pub(super) fn needed(&self, name: &'static str) -> Result<f64, ConfigError> {
        let keys = self.keys();
        keys.positive(&[name])?.value().ok_or_else(|| self.missing(name, "a finite number above 0"))
    }

    /// The error that a key is not there. Another key of a rotation is no misspelling of it.
    fn missing(&self, key: &'static str, expected: &str) -> ConfigError {
        let known = |found: &String| READ.iter().any(|name| self.keys().path(name) == *found);
        match self.keys().missing(key, expected) {
            ConfigError::Missing { key, expected, suggestion } => {
                ConfigError::Missing { key, expected, suggestion: suggestion.filter(|found| !known(found)) }
            }
            other => other,
        }
    }

    /// The longest context.
    fn longest(&self) -> Result<i32, ConfigError> {
        let names = &["max_position_embeddings", "n_positions", "max_seq_len"];
        let longest = self.model.count(names)?.value();
        let longest =
            longest.ok_or_else(|| self.model.missing("max_position_embeddings", "the longest context, in tokens"))?;
        // At most 2^30.
        Ok(longest as i32)
    }

    /// The length trained on: for scalings that go by it, what the model says beats what the rotation says, and the longest context stands in.
    pub(super) fn trained(&self, kind: Type) -> Result<i32, ConfigError> {
        const KEY: &str = "original_max_position_embeddings";
        let own = self.keys().count(&[KEY])?.value();
        if !matches!(kind, Type::Yarn | Type::LongRope | Type::Llama3) {
            return own.map(|n| n as i32).ok_or_else(|| self.missing(KEY, "the length trained on, in tokens"));
        }
        let outer = self.model.count(&[KEY])?.value().filter(|_| !self.rotation.nested);
        let outer = outer.or(if matches!(self.told, Told::Phi3) { Some(4096) } else { None });
        outer.or(own).map_or_else(|| self.longest(), |n| Ok(n as i32))
    }

    /// Checks that the sections of a rotation by several axes add up to its pairs.
    fn check_sections(&self, pairs: u32) -> Result<(), ConfigError> {
        let keys = self.keys();
        let Some(list) = keys.list(&["mrope_section"])?.value() else { return Ok(()) };
        let expected = format!("a list of three whole numbers that add up to {pairs}, the pairs that turn");
        let sections: Option<Vec<u32>> = list.iter().map(count).collect();
        let fits =
            |list: &Vec<u32>| list.len() == 3 && list.iter().map(|n| u64::from(*n)).sum::<u64>() == u64::from(pairs);
        if sections.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let found = if list.len() > 8 {
            format!("a list of {}", list.len())
        } else {
            let items: Vec<String> = list.iter().map(words).collect();
            format!("[{}]", items.join(", "))
        };
        Err(ConfigError::Range { key: keys.path("mrope_section"), found, expected })
    }
}

fn number(x: Option<f64>) -> String {
    x.map_or_else(|| "none".to_owned(), |x| x.to_string())
}
