//! A model's own `config.json` as attention graphs, layer by layer.
//!
//! [`ModelConfig::from_json`] reads the file of a model in the form of Hugging Face; [`ModelConfig::layer`] gives the [`Attention`] of one of its
//! layers: heads, rotation and its scaling, window, chunk or both ways, scale, cap, sinks, bias. Old spellings (`rope_scaling`, `type`, `rotary_pct`)
//! and new ones (`rope_parameters`, nested by kind of layers, `layer_types`) mean the same, and what a file leaves out is what the code of its
//! family has in its place; how elements pair up is in no key, and comes from the family alone.
//!
//! What is bound to `q` and `k` are queries and keys as they enter the rotation, after norms that come before it; values go to `v`, learned sinks to
//! `sinks` (GPT-OSS), and T5's learned table to `relative_attention_bias`. Where a model clips all three (`clip_qkv`), they are bound clipped. Norms
//! after the rotation are a part of the graph, without learned weights. `out` is what the output projection gets, but for a gate on it (Qwen3-Next,
//! Qwen3.5), which is the caller's.
//!
//! A rotation by several axes (`mrope_section`) is that of text, whose positions are the same on all of them; [`MRope`](crate::MRope) takes the
//! positions of images and video.
//!
//! # What is refused
//!
//! Nothing is guessed. A family that is not in the table, a kind of rotation or of layers that there is not, a key of the wrong type, keys that
//! contradict each other and layers without keys (linear attention, convolutions) are errors that name the key, what was expected, and what reads
//! most like it. So is any key that no family reads and whose name speaks of attention (`rope`, `window`, `head`, `mask`, ...), for most of
//! these change results without a word. All other keys pass: they are about vocabularies, feed-forward layers, training. A key that
//! another family reads passes too: the code of this one does not look at it.
//!
//! ```
//! use rhumb_plugins::ModelConfig;
//!
//! let config = ModelConfig::from_json(
//!     r#"{ "model_type": "gemma2", "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4 }"#,
//! )?;
//! // Every other layer slides, from the first.
//! let sliding = config.layer(0)?.build()?;
//! let full = config.layer(1)?.build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bias;
mod build;
mod error;
mod families;
mod family;
mod keys;
mod known;
mod layers;
mod rope;
mod scaling;

use rhumb_ir::closest;
use serde_json::{Map, Value};

use crate::attention::Attention;

pub use error::ConfigError;

use families::FAMILIES;
use family::{Family, Sight};
use keys::{Given, Keys, words};
use layers::Layer;

/// The configuration of a model: see the [module](self).
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The object that tells of attention.
    map: Map<String, Value>,
    /// Its path, with the dot that keys follow.
    prefix: String,
    family: &'static Family,
    model_type: String,
    layers: u32,
}

impl ModelConfig {
    /// Reads a `config.json`. That of a multimodal model has the keys of its language model under `text_config`.
    ///
    /// # Errors
    /// [`ConfigError`] for a text that is not such a file, an unknown family, and keys that are wrong for all layers.
    pub fn from_json(text: &str) -> Result<ModelConfig, ConfigError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| ConfigError::Json { message: error.to_string() })?;
        let Value::Object(file) = value else {
            return Err(ConfigError::Json { message: format!("it is {}, and should be an object", words(&value)) });
        };
        let outer = Keys::new(&file, "");
        let (map, prefix) = match outer.object(&["text_config"])? {
            Given::Value(text) => (text.clone(), "text_config.".to_owned()),
            Given::Absent | Given::Null => (file.clone(), String::new()),
        };
        let keys = Keys::new(&map, &prefix);
        let own = keys.text(&["model_type"])?.value();
        // Old files of multimodal models name the family outside alone.
        let name = match own.map_or_else(|| outer.text(&["model_type"]), |name| Ok(Given::Value(name)))?.value() {
            Some(name) => name.to_owned(),
            None => return Err(keys.missing("model_type", "the name of a family of models, such as `llama`")),
        };
        let family = family(&keys, &name)?;
        known::check(&keys)?;
        let names = &["num_hidden_layers", "n_layer", "n_layers", "num_layers"];
        let layers = keys.count(names)?.value();
        let layers = layers.ok_or_else(|| keys.missing("num_hidden_layers", "the number of layers"))?;
        let config = ModelConfig { family, model_type: name, layers, prefix: prefix.clone(), map: map.clone() };
        config.shape(&config.at(0))?;
        Ok(config)
    }

    /// The family: `model_type`.
    pub fn model_type(&self) -> &str {
        &self.model_type
    }

    /// The number of layers. Of an encoder with a decoder it is that of the encoder.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// The attention of a layer, counted from 0. Of an encoder with a decoder (T5) it is that of the encoder: see
    /// [`decoder_layer`](ModelConfig::decoder_layer).
    ///
    /// A configuration has no weights. Norms of queries and keys before the rotation are the caller's, with their weights. HunYuan's come after it,
    /// and are in the graph as if their weights were 1: learned ones are to be added, by [`QkNorm::weights`](crate::QkNorm::weights).
    ///
    /// # Errors
    /// [`ConfigError`] for a layer that there is not, and for keys that are wrong for this one.
    pub fn layer(&self, layer: u32) -> Result<Attention, ConfigError> {
        self.attention(layer, self.is_decoder()?)
    }

    /// The attention of a decoder's layer to its own tokens, in a model of an encoder and a decoder; in all others the same as
    /// [`layer`](ModelConfig::layer).
    ///
    /// # Errors
    /// As [`layer`](ModelConfig::layer).
    pub fn decoder_layer(&self, layer: u32) -> Result<Attention, ConfigError> {
        self.attention(layer, true)
    }

    fn at(&self, index: u32) -> At<'_> {
        At { keys: Keys::new(&self.map, &self.prefix), index }
    }

    fn checked(&self, layer: u32, decoder: bool) -> Result<At<'_>, ConfigError> {
        let at = self.at(layer);
        let layers = match self.family.sight {
            Sight::Decoder if decoder => at.keys.count(&["num_decoder_layers"])?.value().unwrap_or(self.layers),
            _ => self.layers,
        };
        if layer < layers { Ok(at) } else { Err(ConfigError::NoLayer { layer, layers }) }
    }
}

/// A layer's place in the file.
struct At<'a> {
    keys: Keys<'a>,
    index: u32,
}

impl At<'_> {
    fn layer<'a>(&'a self, config: &ModelConfig) -> Layer<'a> {
        Layer { family: config.family, keys: &self.keys, index: self.index, count: config.layers }
    }
}

/// The family of a name.
fn family(keys: &Keys<'_>, name: &str) -> Result<&'static Family, ConfigError> {
    let found = FAMILIES.iter().find(|family| family.names.contains(&name));
    found.ok_or_else(|| {
        let known = || FAMILIES.iter().flat_map(|family| family.names.iter().copied());
        ConfigError::UnknownName {
            key: keys.path("model_type"),
            what: "family",
            found: name.chars().take(40).collect(),
            suggestion: closest(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        }
    })
}
