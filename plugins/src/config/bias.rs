//! What a family adds to its scores.

use rhumb_ir::Elem;

use super::error::ConfigError;
use super::family::Bias;
use super::keys::Keys;
use super::{At, ModelConfig, known};
use crate::attention::Attention;
use crate::schemes::{Alibi, AlibiForm, T5};

/// Adds the bias of a layer to an attention with heads of so many elements.
pub(super) fn add(
    config: &ModelConfig,
    at: &At<'_>,
    a: Attention,
    head_dim: u32,
    decoder: bool,
) -> Result<Attention, ConfigError> {
    let keys = &at.keys;
    Ok(match config.family.bias {
        Bias::Nothing => a,
        Bias::Bloom => a.scheme(Alibi::new().form(AlibiForm::Key)),
        Bias::Mpt => mpt(keys, a)?,
        Bias::Falcon if keys.flag_or(&["alibi"], false)? => a.scheme(Alibi::falcon(head_dim)),
        Bias::Falcon => a,
        Bias::Buckets => buckets(keys, a, decoder)?,
    })
}

fn mpt(keys: &Keys<'_>, a: Attention) -> Result<Attention, ConfigError> {
    let empty = serde_json::Map::new();
    let path = keys.path("attn_config.");
    let own = keys.object(&["attn_config"])?.value();
    let own = Keys::new(own.unwrap_or(&empty), &path);
    known::check_mpt(&own)?;
    if !own.flag_or(&["alibi"], true)? {
        return Ok(a);
    }
    let most = own.positive(&["alibi_bias_max"])?.value().unwrap_or(8.0);
    Ok(a.scheme(Alibi::new().form(AlibiForm::Last).bias_max(most)))
}

/// T5's: a learned number for each head and each bucket of distances, the input `relative_attention_bias`, `f32[bucket, h]`.
fn buckets(keys: &Keys<'_>, a: Attention, decoder: bool) -> Result<Attention, ConfigError> {
    const COUNT: &str = "relative_attention_num_buckets";
    const LONGEST: &str = "relative_attention_max_distance";
    let count = keys.count(&[COUNT])?.value().unwrap_or(32);
    let longest = keys.count(&[LONGEST])?.value().unwrap_or(128);
    // Of one direction; half of them are of one distance each.
    let one_way = if decoder { count } else { count / 2 };
    if one_way < 2 || longest <= one_way / 2 || longest > 1 << 16 {
        let expected = format!("above {}, half of the buckets of one direction, and at most {}", one_way / 2, 1 << 16);
        return Err(ConfigError::Range { key: keys.path(LONGEST), found: longest.to_string(), expected });
    }
    Ok(a.scheme_with(move |cx| {
        let bucket = cx.builder().axis_of("bucket", count);
        let bias = T5::new(cx.input("relative_attention_bias", Elem::F32, [bucket, cx.h])).buckets(count, longest);
        if decoder { bias.causal() } else { bias }
    }))
}
