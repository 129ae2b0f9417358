//! How a layer rotates: what `rope_parameters`, `rope_scaling` and the keys around them say.

use serde_json::{Map, Value, json};

use super::error::ConfigError;
use super::family::{DefaultScaling, Family, Told, Turns};
use super::keys::{Given, Keys};
use super::layers::{KINDS, Kind};

/// What a file says of the rotation of one kind of layers.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    map: Map<String, Value>,
    prefix: String,
    /// Base of the frequencies.
    pub(super) theta: f64,
    /// The share of a head that turns.
    pub(super) partial: f64,
    /// Whether the file has an object for each kind of layers.
    pub(super) nested: bool,
}

impl Rotation {
    /// The rotation of a kind of layers of a family; `None` where the file says that there is none.
    pub(super) fn read(family: &Family, keys: &Keys<'_>, kind: Kind) -> Result<Option<Rotation>, ConfigError> {
        match family.told {
            Told::ByKind { full, sliding, scales_all } => {
                let (theta, scaled) = match kind {
                    Kind::Sliding => (sliding, scales_all),
                    _ => ((Some(full.0), full.1), true),
                };
                by_kind(family, keys, kind, theta, scaled).map(Some)
            }
            Told::V4 => v4(family, keys, kind),
            Told::Plain | Told::Phi3 | Told::NeoX | Told::Default(_) => plain(family, keys, kind),
            Told::Fixed => {
                let (theta, partial) = (family.theta, family.partial);
                Ok(Some(Rotation { map: Map::new(), prefix: keys.path(""), theta, partial, nested: false }))
            }
        }
    }

    /// Its keys.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys::new(&self.map, &self.prefix)
    }

    fn new(
        keys: &Keys<'_>,
        (map, prefix): (Map<String, Value>, String),
        default: (Option<&'static str>, f64),
        (share, partial): (&'static str, f64),
    ) -> Result<Rotation, ConfigError> {
        let mut rotation = Rotation { map, prefix, theta: 0.0, partial: 0.0, nested: false };
        let own = rotation.keys();
        let (own_theta, own_partial) = (own.positive(&["rope_theta"])?, own.number(&[SHARE])?);
        let outer = match default.0 {
            Some(key) => keys.positive(&[key])?,
            None => Given::Absent,
        };
        let (key, share) = match own_partial.value() {
            Some(own_share) => (own.path(SHARE), own_share),
            None => (keys.path(share), keys.number(&[share])?.value().unwrap_or(partial)),
        };
        if !(0.0..=1.0).contains(&share) {
            let expected = "a number from 0 to 1".to_owned();
            return Err(ConfigError::Range { key, found: share.to_string(), expected });
        }
        rotation.theta = own_theta.value().or(outer.value()).unwrap_or(default.1);
        rotation.partial = share;
        Ok(rotation)
    }
}

/// The key of the share of a head that turns.
const SHARE: &str = "partial_rotary_factor";

/// The name of an object of the configuration, and what is in it.
type Named = (&'static str, Map<String, Value>);

/// The object that is told in full, and its path: `rope_scaling` wins, as in the code of models. Empty ones are not there.
fn told(keys: &Keys<'_>) -> Result<Option<Named>, ConfigError> {
    for name in ["rope_scaling", "rope_parameters"] {
        if let Given::Value(map) = keys.object(&[name])?
            && !map.is_empty()
        {
            return Ok(Some((name, map.clone())));
        }
    }
    Ok(None)
}

/// The entry of a kind of layers, where there is one for each kind: `Null` for one that does not rotate.
fn entry(map: &Map<String, Value>, prefix: &str, name: &'static str) -> Result<Given<Map<String, Value>>, ConfigError> {
    Ok(match Keys::new(map, prefix).object(&[name])? {
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Value(map) => Given::Value(map.clone()),
    })
}

fn is_nested(map: &Map<String, Value>) -> bool {
    KINDS.iter().any(|(name, _)| map.contains_key(*name))
}

fn plain(family: &Family, keys: &Keys<'_>, kind: Kind) -> Result<Option<Rotation>, ConfigError> {
    let default = match family.told {
        Told::Default(scaling) => Some(("rope_parameters", default_scaling(scaling, keys)?)),
        _ => None,
    };
    let (name, map) = told(keys)?.or(default).unwrap_or_default();
    let mut prefix = keys.path(&format!("{name}."));
    let theta = match (family.told, kind) {
        (Told::Default(DefaultScaling::Gemma4), Kind::Full) => 1e6,
        _ => family.theta,
    };
    let mut nested = false;
    if !family.layers.are_typed() && is_nested(&map) {
        return Err(ConfigError::Type {
            key: keys.path(name),
            found: "an object with a rotation for each kind of layers".to_owned(),
            expected: "one rotation for all layers, as the code of the family reads it".to_owned(),
        });
    }
    let map = if family.layers.are_typed() && is_nested(&map) {
        nested = true;
        let of_kind = entry(&map, &prefix, kind.name())?;
        let missing = Keys::new(&map, &prefix).missing(kind.name(), "the rotation of these layers, or null");
        prefix = format!("{prefix}{}.", kind.name());
        match of_kind {
            Given::Absent => return Err(missing),
            Given::Null => return Ok(None),
            Given::Value(map) => map,
        }
    } else {
        map
    };
    let (base, share) = match family.told {
        Told::NeoX => ("rotary_emb_base", "rotary_pct"),
        _ => ("rope_theta", SHARE),
    };
    let rotation = Rotation::new(keys, (map, prefix), (Some(base), theta), (share, family.partial))?;
    Ok(Some(Rotation { nested, ..rotation }))
}

/// The rotation of a family that has one for each kind of layers: old files have `rope_scaling` for some of them, and bases of their own.
fn by_kind(
    family: &Family,
    keys: &Keys<'_>,
    kind: Kind,
    theta: (Option<&'static str>, f64),
    scaled: bool,
) -> Result<Rotation, ConfigError> {
    let given = keys.object(&["rope_parameters"])?.value().cloned().unwrap_or_default();
    if !given.is_empty() && !is_nested(&given) {
        return Err(ConfigError::Type {
            key: keys.path("rope_parameters"),
            found: "one rotation for all layers".to_owned(),
            expected: "an object with one for each kind of layers: `full_attention` and `sliding_attention`".to_owned(),
        });
    }
    let mut prefix = keys.path(&format!("rope_parameters.{}.", kind.name()));
    let mut map = entry(&given, &keys.path("rope_parameters."), kind.name())?.value().unwrap_or_default();
    if let (true, Given::Value(old)) = (scaled, keys.object(&["rope_scaling"])?) {
        prefix = keys.path("rope_scaling.");
        map.extend(old.clone());
    }
    let rotation = Rotation::new(keys, (map, prefix), theta, (SHARE, family.partial))?;
    Ok(Rotation { nested: true, ..rotation })
}

/// DeepSeek-V4's: sliding layers have the one called `main`.
fn v4(family: &Family, keys: &Keys<'_>, kind: Kind) -> Result<Option<Rotation>, ConfigError> {
    if kind != Kind::Sliding {
        return Ok(None);
    }
    let partial = match (keys.count(&["qk_rope_head_dim"])?.value(), keys.count(&["head_dim"])?.value()) {
        (Some(turning), head_dim) => f64::from(turning) / f64::from(head_dim.unwrap_or(512)),
        (None, _) => family.partial,
    };
    let given = keys.object(&["rope_parameters"])?.value().cloned().unwrap_or_default();
    let map = entry(&given, &keys.path("rope_parameters."), "main")?.value().unwrap_or_default();
    let prefix = keys.path("rope_parameters.main.");
    Rotation::new(keys, (map, prefix), (Some("rope_theta"), family.theta), (SHARE, partial)).map(Some)
}

/// The scaling of a model whose file does not tell it, as its class has it.
fn default_scaling(scaling: DefaultScaling, keys: &Keys<'_>) -> Result<Map<String, Value>, ConfigError> {
    let value = match scaling {
        DefaultScaling::GptOss => json!({
            "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
            "original_max_position_embeddings": 4096,
        }),
        DefaultScaling::Ministral3 => json!({
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
        }),
        DefaultScaling::Mistral4 => json!({
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 128.0, "original_max_position_embeddings": 8192,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
        }),
        // The base of an old file is none of the class' scaling.
        DefaultScaling::Apertus => json!({
            "rope_type": "llama3", "rope_theta": 1.2e7, "factor": 8.0, "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        }),
        DefaultScaling::Gemma4 => json!({
            "sliding_attention": { "rope_type": "default", "rope_theta": 1e4 },
            "full_attention": { "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6 },
        }),
    };
    match value {
        Value::Object(map) => Ok(map),
        other => Err(keys.wrong("rope_parameters", &other, "an object")),
    }
}

/// Whether anything of a head turns.
pub(super) fn turns(family: &Family, keys: &Keys<'_>) -> Result<bool, ConfigError> {
    match family.turns {
        Turns::Nothing => Ok(false),
        Turns::UnlessAlibi => Ok(!keys.flag_or(&["alibi"], false)?),
        Turns::Share | Turns::Fixed | Turns::Tail | Turns::Latent => Ok(true),
    }
}
