//! What a family adds to its scores.

use rhumb_ir::{Elem, Expr};

use super::error::ConfigError;
use super::family::Bias;
use super::keys::Keys;
use super::{At, ModelConfig};
use crate::attention::{Attention, AttentionParts};
use crate::schemes::{Alibi, AlibiForm};

/// Adds the bias of a layer to an attention of so many heads, of so many elements each.
pub(super) fn add(
    config: &ModelConfig,
    at: &At<'_>,
    a: Attention,
    (heads, head_dim): (u32, u32),
    decoder: bool,
) -> Result<Attention, ConfigError> {
    let keys = &at.keys;
    Ok(match config.family.bias {
        Bias::Nothing => a,
        Bias::Bloom => a.scheme(Alibi::new().form(AlibiForm::Key)),
        Bias::Mpt => mpt(keys, a)?,
        Bias::Falcon if keys.flag_or(&["alibi"], false)? => {
            let slopes: Vec<f64> =
                Alibi::official_slopes(heads).into_iter().map(|slope| f64::from(bf16(slope as f32))).collect();
            let scale = 1.0 / f64::from(head_dim).sqrt();
            a.score_with(move |cx, score| score + falcon(cx, &slopes) * scale)
        }
        Bias::Falcon => a,
        Bias::Buckets => buckets(keys, a, decoder)?,
    })
}

fn mpt(keys: &Keys<'_>, a: Attention) -> Result<Attention, ConfigError> {
    let empty = serde_json::Map::new();
    let path = keys.path("attn_config.");
    let own = keys.object(&["attn_config"])?.value();
    let own = Keys::new(own.unwrap_or(&empty), &path);
    if own.flag_or(&["prefix_lm"], false)? {
        return Err(ConfigError::Unsupported {
            key: own.path("prefix_lm"),
            found: "true".to_owned(),
            reason: "how long the prefix is no key tells".to_owned(),
        });
    }
    if !own.flag_or(&["alibi"], true)? {
        return Ok(a);
    }
    let most = own.positive(&["alibi_bias_max"])?.value().unwrap_or(8.0);
    Ok(a.scheme(Alibi::new().form(AlibiForm::Last).bias_max(most)))
}

/// Falcon's ALiBi, in the precision of its code: slopes have 8 bits, and so have their products with positions.
fn falcon<'g>(cx: &AttentionParts<'g>, slopes: &[f64]) -> Expr<'g> {
    let slope = cx.table(&[cx.h], slopes.to_vec());
    let position = cx.k_pos().cast(Elem::F32);
    let product = slope * position.max(1.0);
    // The last of 8 bits; halves go to the even side.
    let unit = (product.log2().floor() - 7.0).exp2();
    let units = product / unit;
    let (below, half) = (units.floor(), units - units.floor());
    let odd = (below % 2.0).eq(1.0);
    let up = half.gt(0.5) | (half.eq(0.5) & odd);
    let rounded = up.select(below + 1.0, below) * unit;
    position.gt(0.0).select(rounded, 0.0)
}

/// The nearest number of 8 bits, as bf16 has them; halves go to the even side.
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let odd = (bits >> 16) & 1;
    f32::from_bits(bits.wrapping_add(0x7fff + odd) & 0xffff_0000)
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
    let exact = one_way / 2;
    let bucket = move |distance: u32| {
        if distance < exact {
            return distance;
        }
        let far = (f64::from(distance) / f64::from(exact)).ln() / (f64::from(longest) / f64::from(exact)).ln();
        (exact + (far * f64::from(one_way - exact)) as u32).min(one_way - 1)
    };
    let of_distance: Vec<f64> = (0..=longest).map(|distance| f64::from(bucket(distance))).collect();
    Ok(a.score_with(move |cx, score| {
        let builder = cx.builder();
        let (distance_axis, bucket_axis) = (builder.axis_of("distance", longest + 1), builder.axis_of("bucket", count));
        let table = cx.input("relative_attention_bias", Elem::F32, [bucket_axis, cx.h]);
        let ahead = (cx.k_pos() - cx.q_pos()).cast(Elem::I32);
        // A decoder sees nothing ahead.
        let distance = if decoder { (0 - ahead).max(0) } else { ahead.abs() };
        let near = builder.table([distance_axis], of_distance.clone());
        let bucket = near.gather(distance_axis, distance.min(longest as i32)).cast(Elem::I32);
        let bucket = if decoder { bucket } else { ahead.gt(0).select(bucket + one_way as i32, bucket) };
        score + table.gather(bucket_axis, bucket)
    }))
}
