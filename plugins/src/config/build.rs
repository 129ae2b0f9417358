//! The attention of a layer.

use super::error::ConfigError;
use super::family::{Grows, HeadDim, Kv, Layers, Norm, Scale, Sight, Turns};
use super::keys::Keys;
use super::layers::Kind;
use super::rope::{Rotation, turns};
use super::scaling::{Scaled, Type};
use super::{At, ModelConfig, bias};
use crate::attention::Attention;
use crate::attrs::IntOrValue;
use crate::scheme::Scheme;
use crate::schemes::rope::{Rotary, Yarn};
use crate::schemes::{Causal, Chunked, QkNorm, SlidingWindow, Temperature};

/// The sizes of an attention.
pub(super) struct Shape {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    value_dim: u32,
}

/// A rotation, and what the file says around it.
struct Turned {
    scheme: Scheme,
    /// Whether what turns may get longer or shorter.
    scales: bool,
    /// `llama_4_scaling_beta` and the length that it counts in.
    beta: Option<(f64, i32)>,
    /// The factor on all scores that goes with latent attention.
    magnitude: f64,
}

impl ModelConfig {
    pub(super) fn attention(&self, layer: u32, decoder: bool) -> Result<Attention, ConfigError> {
        let at = self.checked(layer, decoder)?;
        let (family, keys) = (self.family, &at.keys);
        let kind = at.layer(self).kind()?;
        let shape = self.shape(&at)?;
        let turned =
            if turns(family, keys)? && at.layer(self).rotates(kind)? { self.turned(&at, kind, &shape)? } else { None };

        let magnitude = turned.as_ref().map_or(1.0, |turned| turned.magnitude);
        let mut a = Attention::heads(shape.heads)
            .head_dim(shape.head_dim)
            .kv_heads(shape.kv_heads)
            .value_dim(shape.value_dim)
            .scale(self.scale(&at, shape.head_dim)? * magnitude);
        if let Some(default) = family.softcap
            && let Some(cap) = keys.positive(&["attn_logit_softcapping"])?.or_absent(default)
        {
            a = a.softcap(cap);
        }
        if family.sinks {
            a = a.sinks();
        }
        let normed = match family.norm {
            Norm::Nothing => false,
            Norm::Llama4 => turned.is_some() && keys.flag_or(&["use_qk_norm"], true)?,
            Norm::All => true,
        };
        let eps = keys.positive(&["rms_norm_eps"])?.value().unwrap_or(1e-5);
        let norm = normed.then(|| QkNorm::rms().eps(eps));
        // A rotation keeps the norm, unless it has a factor.
        let after = turned.as_ref().is_some_and(|turned| turned.scales);
        if let (Some(norm), false) = (&norm, after) {
            a = a.scheme(*norm);
        }
        a = self.temperature(&at, a, turned.as_ref())?;
        if let Some(turned) = turned {
            a = a.scheme(turned.scheme);
        }
        if let (Some(norm), true) = (norm, after) {
            a = a.scheme(norm);
        }
        a = bias::add(self, &at, a, shape.head_dim, decoder)?;
        self.masked(&at, a, kind, decoder)
    }

    /// Whether what is asked for by `layer` is a decoder's.
    pub(super) fn is_decoder(&self) -> Result<bool, ConfigError> {
        self.at(0).keys.flag_or(&["is_decoder"], false)
    }

    /// The sizes of a layer.
    pub(super) fn shape(&self, at: &At<'_>) -> Result<Shape, ConfigError> {
        let keys = &at.keys;
        let heads = keys.count(HEADS)?.value().unwrap_or(self.family.heads);
        let (head_dim, value_dim) = self.head_dims(at, heads)?;
        let kv_heads = self.kv_heads(at, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(ConfigError::Contradiction {
                first: keys.given(HEADS)?,
                second: keys.given(&["num_key_value_heads", "num_kv_heads"])?,
                reason: format!("{heads} query heads can't share {kv_heads} key/value heads evenly"),
            });
        }
        Ok(Shape { heads, kv_heads, head_dim, value_dim })
    }

    fn kv_heads(&self, at: &At<'_>, heads: u32) -> Result<u32, ConfigError> {
        let keys = &at.keys;
        let given = |name: &'static str, default: u32| {
            Ok::<_, ConfigError>(keys.count(&[name])?.or_absent(Some(default)).unwrap_or(heads))
        };
        const KEY: &str = "num_key_value_heads";
        let one = keys.flag_or(&["multi_query"], true)?;
        Ok(match self.family.kv {
            Kv::Same => heads,
            Kv::Heads => {
                let kv_heads = given(KEY, heads)?;
                if self.family.turns == Turns::Latent && kv_heads != heads {
                    return Err(ConfigError::Contradiction {
                        first: keys.path("num_key_value_heads"),
                        second: keys.path("num_attention_heads"),
                        reason: "latent attention gives each query head a key of its own".to_owned(),
                    });
                }
                kv_heads
            }
            Kv::Of(n) => {
                let of_full = match self.family.head_dim {
                    HeadDim::Global => self.global(at)?.1,
                    _ => None,
                };
                of_full.map_or_else(|| given(KEY, n), Ok)?
            }
            // The code of the new architecture gives each query head a copy of its group's key.
            Kv::Falcon if keys.flag_or(&["new_decoder_architecture"], false)? => heads,
            Kv::Falcon if !one => given("num_kv_heads", heads)?,
            Kv::MultiQuery if !one => heads,
            Kv::Falcon | Kv::MultiQuery => 1,
        })
    }

    /// What Gemma 4's full layers have of their own: elements of a head, and key/value heads.
    fn global(&self, at: &At<'_>) -> Result<(Option<u32>, Option<u32>), ConfigError> {
        let keys = &at.keys;
        if let Some(layers) = keys.object(&["per_layer_config"])?.value() {
            let (path, name) = (keys.path(&format!("per_layer_config.{}.", at.index)), at.index.to_string());
            let Some(own) = layers.get(&name) else { return Ok((None, None)) };
            let Some(own) = own.as_object() else {
                return Err(keys.wrong(&format!("per_layer_config.{name}"), own, "an object"));
            };
            let own = Keys::new(own, &path);
            return Ok((own.count(&["head_dim"])?.value(), own.count(&["num_key_value_heads"])?.value()));
        }
        if at.layer(self).kind()? != Kind::Full {
            return Ok((None, None));
        }
        let shared = keys.flag_or(&["attention_k_eq_v"], false)?;
        let kv_heads = keys.count(&["num_global_key_value_heads"])?.value().filter(|_| shared);
        Ok((Some(keys.count(&["global_head_dim"])?.value().unwrap_or(512)), kv_heads))
    }

    /// Elements of a head of query and key, and of the value.
    fn head_dims(&self, at: &At<'_>, heads: u32) -> Result<(u32, u32), ConfigError> {
        let keys = &at.keys;
        let own = || keys.count(&["head_dim"]);
        let one = |n: u32| (n, n);
        Ok(match self.family.head_dim {
            HeadDim::Of(n) => one(match own()?.or_absent(Some(n)) {
                Some(n) => n,
                None => divided(keys, heads)?,
            }),
            HeadDim::Hidden => one(match own()?.value() {
                Some(n) => n,
                None => divided(keys, heads)?,
            }),
            HeadDim::Divided => {
                let n = divided(keys, heads)?;
                match own()?.value() {
                    Some(other) if other != n => {
                        return Err(ConfigError::Contradiction {
                            first: keys.path("head_dim"),
                            second: keys.path("hidden_size"),
                            reason: format!("the code of the family divides the hidden size, which gives {n}"),
                        });
                    }
                    _ => one(n),
                }
            }
            HeadDim::DKv(n) => one(keys.count(&["d_kv"])?.value().unwrap_or(n)),
            HeadDim::Latent(pass, turn, value) => {
                let of = |name, default| Ok::<_, ConfigError>(keys.count(&[name])?.value().unwrap_or(default));
                let both = of("qk_nope_head_dim", pass)? + of("qk_rope_head_dim", turn)?;
                if of("qk_head_dim", both)? != both {
                    return Err(ConfigError::Contradiction {
                        first: keys.path("qk_head_dim"),
                        second: keys.path("qk_nope_head_dim"),
                        reason: format!("with `qk_rope_head_dim` the elements of a query come to {both}"),
                    });
                }
                (both, of("v_head_dim", value)?)
            }
            HeadDim::Global => one(match self.global(at)?.0 {
                Some(n) => n,
                None => own()?.value().unwrap_or(256),
            }),
        })
    }

    /// The rotation of a layer, if the file does not say that there is none.
    fn turned(&self, at: &At<'_>, kind: Kind, shape: &Shape) -> Result<Option<Turned>, ConfigError> {
        let (family, keys) = (self.family, &at.keys);
        let Some(rotation) = Rotation::read(family, keys, kind)? else { return Ok(None) };
        let scaled = Scaled { rotation: &rotation, model: keys, told: family.told };
        let how = scaled.kind()?;
        let (start, dim) = self.block(keys, &rotation, how, shape.head_dim)?;
        let pairing = match family.turns {
            Turns::Latent if !keys.flag_or(&["rope_interleave"], true)? => rhumb_ir::Pairing::Half,
            _ => family.pairing,
        };
        let whole = start == 0 && dim == shape.head_dim;
        let rotary = Rotary {
            base: rotation.theta,
            offset: IntOrValue::Int(0),
            pairing,
            rotary_dim: (!whole).then_some(dim),
            start,
            ..Rotary::default()
        };
        let scheme = scaled.scheme(rotary, dim / 2)?;
        let own = rotation.keys();
        let beta = match family.grows {
            Grows::Beta => Some((scaled.needed("llama_4_scaling_beta")?, scaled.trained(how)?)),
            Grows::Nothing | Grows::Llama4 => None,
        };
        let magnitude = match own.number(&["mscale_all_dim"])?.value() {
            Some(all) if family.turns == Turns::Latent && how != Type::Default && all != 0.0 => {
                Yarn::magnitude(scaled.needed("factor")?, all).powi(2)
            }
            _ => 1.0,
        };
        let scales = matches!(how, Type::Yarn | Type::LongRope);
        Ok(Some(Turned { scheme, scales, beta, magnitude }))
    }

    /// The elements of a head that turn: the first, and how many.
    fn block(&self, keys: &Keys<'_>, rotation: &Rotation, how: Type, head_dim: u32) -> Result<(u32, u32), ConfigError> {
        let share = (f64::from(head_dim) * rotation.partial) as u32;
        let (key, start, dim) = match self.family.turns {
            Turns::Fixed => ("rotary_dim", 0, keys.count(&["rotary_dim"])?.value().unwrap_or(64)),
            Turns::Latent => {
                let dim = keys.count(&["qk_rope_head_dim"])?.value();
                let HeadDim::Latent(_, default, _) = self.family.head_dim else { return Ok((0, head_dim)) };
                let dim = dim.unwrap_or(default);
                ("qk_rope_head_dim", head_dim.saturating_sub(dim), dim)
            }
            Turns::Tail => ("qk_rope_head_dim", head_dim.saturating_sub(share), share),
            // Its share is that of pairs of the whole head.
            _ if how == Type::Proportional => ("head_dim", 0, head_dim),
            Turns::Nothing | Turns::Share | Turns::UnlessAlibi if rotation.partial == 1.0 => ("head_dim", 0, head_dim),
            Turns::Nothing | Turns::Share | Turns::UnlessAlibi => ("partial_rotary_factor", 0, share),
        };
        if dim < 2 || !dim.is_multiple_of(2) || dim > head_dim {
            let found = match key {
                "partial_rotary_factor" => format!("{}: {dim} of {head_dim} elements would turn", rotation.partial),
                _ => dim.to_string(),
            };
            let expected = format!("what lets an even number of elements turn, from 2 to {head_dim}");
            return Err(ConfigError::Range { key: keys.path(key), found, expected });
        }
        Ok((start, dim))
    }

    fn scale(&self, at: &At<'_>, head_dim: u32) -> Result<f64, ConfigError> {
        let keys = &at.keys;
        let by_dim = 1.0 / f64::from(head_dim).sqrt();
        Ok(match self.family.scale {
            Scale::HeadDim => by_dim,
            Scale::PreAttention(default) => {
                1.0 / keys.positive(&["query_pre_attn_scalar"])?.value().unwrap_or(default).sqrt()
            }
            Scale::One => 1.0,
            Scale::Multiplier => keys.number(&["attention_multiplier"])?.value().unwrap_or(1.0),
            Scale::Gpt2 => {
                let scale = if keys.flag_or(&["scale_attn_weights"], true)? { by_dim } else { 1.0 };
                let by_layer = keys.flag_or(&["scale_attn_by_inverse_layer_idx"], false)?;
                if by_layer { scale / (f64::from(at.index) + 1.0) } else { scale }
            }
            Scale::Mpt => match keys.object(&["attn_config"])?.value() {
                Some(own) => {
                    let path = keys.path("attn_config.");
                    Keys::new(own, &path).positive(&["softmax_scale"])?.value().unwrap_or(by_dim)
                }
                None => by_dim,
            },
        })
    }

    /// Queries that grow with their position.
    fn temperature(&self, at: &At<'_>, a: Attention, turned: Option<&Turned>) -> Result<Attention, ConfigError> {
        let keys = &at.keys;
        let temperature = match (self.family.grows, turned) {
            (Grows::Llama4, None) if keys.flag_or(&["attn_temperature_tuning"], true)? => {
                let rate = keys.number(&["attn_scale"])?.value().unwrap_or(0.1);
                // At most 2^30.
                Temperature::llama4(keys.count(&["floor_scale"])?.value().unwrap_or(8192) as i32).rate(rate)
            }
            (Grows::Beta, Some(Turned { beta: Some((beta, unit)), .. })) => Temperature::new(*unit).rate(*beta),
            _ => return Ok(a),
        };
        Ok(a.scheme(temperature))
    }

    fn masked(&self, at: &At<'_>, a: Attention, kind: Kind, decoder: bool) -> Result<Attention, ConfigError> {
        let layer = at.layer(self);
        // Files of embedding models turn causality off. Chunks, and GPT-Neo, are causal all the same.
        let off = !at.keys.flag_or(&["is_causal"], true)?;
        let off = off && kind != Kind::Chunked && self.family.layers != Layers::GptNeo;
        let (both, halved) = match self.family.sight {
            Sight::Causal => (off, None),
            Sight::Both => (true, None),
            Sight::Flag => (off || at.keys.flag_or(&["use_bidirectional_attention"], false)?, None),
            Sight::FlagHalved(more) => {
                let flag = self.sees_both(at)?;
                (off || flag, Some(more).filter(|_| flag))
            }
            Sight::Decoder => (!decoder, None),
        };
        let each_way = |reach: i32| halved.map_or(reach, |more| reach / 2 + more);
        Ok(match (kind, both) {
            (Kind::Full, true) => a,
            (Kind::Full, false) => a.scheme(Causal),
            (Kind::Sliding, false) => a.scheme(SlidingWindow::new(layer.reach(kind)?)),
            (Kind::Sliding, true) => a.scheme(SlidingWindow::new(each_way(layer.reach(kind)?)).symmetric()),
            (Kind::Chunked, true) => a.scheme(Chunked::new(layer.reach(kind)?)),
            (Kind::Chunked, false) => a.scheme(Chunked::new(layer.reach(kind)?)).scheme(Causal),
        })
    }

    /// Gemma 3 and 4: a flag, or `all`; with `vision`, text is causal.
    fn sees_both(&self, at: &At<'_>) -> Result<bool, ConfigError> {
        const KEY: &str = "use_bidirectional_attention";
        match at.keys.raw(&[KEY])?.value() {
            Some((_, value)) if value == "all" => Ok(true),
            Some((_, value)) if value == "vision" => Ok(false),
            Some((key, value)) => {
                value.as_bool().ok_or_else(|| at.keys.wrong(key, value, "true, false, \"all\" or \"vision\""))
            }
            None => Ok(false),
        }
    }
}

/// The names of the number of query heads, and of the elements of all of them.
const HEADS: &[&str] = &["num_attention_heads", "n_head", "n_heads", "num_heads"];
const HIDDEN: &[&str] = &["hidden_size", "n_embd", "d_model", "n_embed"];

/// The hidden size over the heads.
fn divided(keys: &Keys<'_>, heads: u32) -> Result<u32, ConfigError> {
    let hidden = keys.count(HIDDEN)?.value();
    let hidden = hidden.ok_or_else(|| keys.missing("hidden_size", "elements of all heads, or `head_dim`"))?;
    if hidden.is_multiple_of(heads) {
        return Ok(hidden / heads);
    }
    Err(ConfigError::Contradiction {
        first: keys.given(HIDDEN)?,
        second: keys.given(HEADS)?,
        reason: format!("{hidden} elements can't be shared by {heads} heads evenly, and there is no `head_dim`"),
    })
}
