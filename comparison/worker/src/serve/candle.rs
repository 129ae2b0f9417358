//! The models and the step of the example `serve` by candle's operations alone.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn, flash_attn_varlen_cpu};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;
use candle_nn::{Linear, Module};
use ndarray::Array2;

use crate::paged::Paged;
use crate::position::{HEAD_DIM, Position};
use crate::step::{Attend, Piece, Pieces, Step};
use crate::transformer::HEADS;

/// Of the models: `examples/data/README.md`.
const EPS: f32 = 1e-5;
const ROPE_BASE: f64 = 10_000.0;
/// By which candle finds ALiBi's slopes of so many heads as a power of two: those of the paper.
const MAX_BIAS: f32 = 8.0;

/// Which attention, between candle's other operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// rhumb's over a cache in pages, as in the example.
    Rhumb,
    /// `flash_attn` for each sequence.
    Flash,
    /// `flash_attn_varlen_cpu` for all sequences at once; their keys and values are packed for it in every step.
    Varlen,
    /// `matmul`, `softmax_last_dim`, `matmul` for each sequence.
    Matmul,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Rhumb, Way::Flash, Way::Varlen, Way::Matmul];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Rhumb => "candle, attention by rhumb",
            Way::Flash => "candle, flash_attn",
            Way::Varlen => "candle, flash_attn_varlen_cpu",
            Way::Matmul => "candle, matmul and softmax",
        }
    }
}

/// A model, and the keys and values of its sequences.
pub(crate) struct Served {
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    position: Position,
    way: Way,
    /// rhumb's sequences, where attention is rhumb's.
    paged: Option<Paged>,
    /// Cosines and sines, `[position, pair]`.
    turns: [Tensor; 2],
    /// Of ALiBi.
    slopes: Option<Tensor>,
}

struct Layer {
    attention_norm: Tensor,
    qkv: [Linear; 3],
    wo: Linear,
    ffn_norm: Tensor,
    w1: Linear,
    w2: Linear,
    w3: Linear,
    /// By the number of the sequence, `[1, token, head, element]`.
    caches: Vec<KvCache>,
}

impl Served {
    /// The model in a file, with room for so many sequences of up to `longest` tokens; `paged` has them already where attention is rhumb's.
    pub(crate) fn load(
        path: &str,
        position: Position,
        (way, paged): (Way, Option<Paged>),
        [sequences, longest]: [usize; 2],
    ) -> Result<Served, Box<dyn Error>> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let count = tensors.keys().filter(|name| name.ends_with(".wq.weight")).count();
        let layer = |number| Layer::load(&tensors, number, [sequences, longest]);
        let slopes: Vec<f32> = (1..=HEADS).map(|head| (-MAX_BIAS * head as f32 / HEADS as f32).exp2()).collect();
        Ok(Served {
            embeddings: named(&tensors, "tok_embeddings.weight")?,
            layers: (0..count).map(layer).collect::<Result<_, _>>()?,
            norm: named(&tensors, "norm.weight")?,
            position,
            way,
            paged,
            turns: turns(longest)?,
            slopes: match position {
                Position::Alibi => Some(Tensor::new(slopes, &Device::Cpu)?),
                Position::Rope => None,
            },
        })
    }

    /// A step: all layers on the tokens of some pieces.
    pub(crate) fn step(&mut self, pieces: &Pieces) -> Result<Step, Box<dyn Error>> {
        let ids: Vec<u32> = pieces.tokens.iter().map(|token| u32::from(*token)).collect();
        let mut stream = self.embeddings.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let mut time = Duration::ZERO;
        for number in 0..self.layers.len() {
            let x = rms_norm(&stream, &self.layers[number].attention_norm, EPS)?;
            let [wq, wk, wv] = &self.layers[number].qkv;
            let qkv = [wq.forward(&x)?, wk.forward(&x)?, wv.forward(&x)?];
            let start = Instant::now();
            let mixed = match &mut self.paged {
                Some(paged) => by_rhumb(paged, number, pieces, &qkv)?,
                None => self.attend(number, pieces, &qkv)?,
            };
            time += start.elapsed();
            stream = self.layers[number].finish(&stream, &mixed)?;
        }
        let last: Vec<u32> = pieces.last_rows().into_iter().map(u32::try_from).collect::<Result<_, _>>()?;
        let rows = rms_norm(&stream.index_select(&Tensor::new(last, &Device::Cpu)?, 0)?, &self.norm, EPS)?;
        let logits = rows.matmul(&self.embeddings.t()?)?;
        let shape = logits.dims2()?;
        Ok((Array2::from_shape_vec(shape, logits.flatten_all()?.to_vec1()?)?, time))
    }

    /// Keeps the keys and values of all pieces, and gives the rows that attention mixes, `[token, head * element]`.
    fn attend(&mut self, layer: usize, pieces: &Pieces, qkv: &[Tensor; 3]) -> candle_core::Result<Tensor> {
        let mut kept = Vec::new();
        for Piece { sequence, first, len } in pieces.iter() {
            let rows = |of: &Tensor| of.narrow(0, first, len)?.reshape((1, len, HEADS, HEAD_DIM));
            let past = self.layers[layer].caches[sequence].current_seq_len();
            let [q, k] = [self.turned(rows(&qkv[0])?, past)?, self.turned(rows(&qkv[1])?, past)?];
            let (k, v) = self.layers[layer].caches[sequence].append(&k, &rows(&qkv[2])?)?;
            kept.push([q, k, v]);
        }
        if self.way == Way::Varlen {
            return self.varlen(&kept);
        }
        let mixed = kept.iter().map(|qkv| match self.way {
            Way::Matmul => self.matmul(qkv),
            Way::Flash | Way::Varlen | Way::Rhumb => self.flash(qkv),
        });
        Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }

    /// Rows `[1, token, head, element]` from a position on, rotated where the model has RoPE.
    fn turned(&self, rows: Tensor, from: usize) -> candle_core::Result<Tensor> {
        if matches!(self.position, Position::Alibi) {
            return Ok(rows);
        }
        let len = rows.dim(1)?;
        let [cos, sin] = &self.turns;
        rope_thd(&rows, &cos.narrow(0, from, len)?, &sin.narrow(0, from, len)?)
    }

    fn flash(&self, [q, k, v]: &[Tensor; 3]) -> candle_core::Result<Tensor> {
        let mask = AttnMask::causal_with_offset(k.dim(1)? - q.dim(1)?);
        let max_bias = self.slopes.is_some().then_some(MAX_BIAS);
        packed(&flash_attn::<f32>(q, k, v, scale(), mask, max_bias, None)?)
    }

    fn varlen(&self, kept: &[[Tensor; 3]]) -> candle_core::Result<Tensor> {
        let of_all = |index: usize| {
            let rows: Vec<Tensor> = kept.iter().map(|qkv| qkv[index].squeeze(0)).collect::<Result<_, _>>()?;
            let lengths = rows.iter().map(|rows| rows.dim(0)).collect::<candle_core::Result<Vec<_>>>()?;
            Ok::<_, candle_core::Error>((Tensor::cat(&rows, 0)?, lengths))
        };
        let ((q, queries), (k, keys), (v, _)) = (of_all(0)?, of_all(1)?, of_all(2)?);
        let longest = |lengths: &[usize]| lengths.iter().copied().max().unwrap_or(0);
        let counts = |lengths: &[usize]| {
            let lengths: Vec<u32> = lengths.iter().map(|length| *length as u32).collect();
            Tensor::new(lengths, &Device::Cpu)
        };
        let (of_q, of_k) = (counts(&queries)?, counts(&keys)?);
        let (most_q, most_k) = (longest(&queries), longest(&keys));
        let slopes = self.slopes.as_ref();
        let mixed = flash_attn_varlen_cpu(&q, &k, &v, slopes, &of_q, &of_k, most_q, most_k, scale(), true, None, None)?;
        mixed.flatten_from(1)
    }

    fn matmul(&self, qkv: &[Tensor; 3]) -> candle_core::Result<Tensor> {
        let by_head = |of: &Tensor| of.transpose(1, 2)?.contiguous();
        let [q, k, v] = [by_head(&qkv[0])?, by_head(&qkv[1])?, by_head(&qkv[2])?];
        let (queries, keys) = (q.dim(2)?, k.dim(2)?);
        let mut scores = (q.matmul(&k.t()?)? * f64::from(scale()))?;
        if queries > 1 || self.slopes.is_some() {
            scores = scores.broadcast_add(&self.mask(queries, keys)?)?;
        }
        packed(&softmax_last_dim(&scores)?.matmul(&v)?)
    }

    /// `[1, head or 1, query, key]`: ALiBi's penalty, and minus infinity ahead of each query.
    fn mask(&self, queries: usize, keys: usize) -> candle_core::Result<Tensor> {
        let at = |from: usize, to: usize| Tensor::arange(from as f32, to as f32, &Device::Cpu);
        let distance = at(0, keys)?.unsqueeze(0)?.broadcast_sub(&at(keys - queries, keys)?.unsqueeze(1)?)?;
        let hidden = distance.gt(0.0f32)?;
        let bias = match &self.slopes {
            Some(slopes) => slopes.reshape((HEADS, 1, 1))?.broadcast_mul(&distance.unsqueeze(0)?)?,
            None => distance.zeros_like()?.unsqueeze(0)?,
        };
        let never = Tensor::full(f32::NEG_INFINITY, bias.shape(), &Device::Cpu)?;
        hidden.broadcast_as(bias.shape())?.where_cond(&never, &bias)?.unsqueeze(0)
    }
}

impl Layer {
    fn load(
        tensors: &HashMap<String, Tensor>,
        number: usize,
        [sequences, longest]: [usize; 2],
    ) -> Result<Layer, Box<dyn Error>> {
        let of = |part: &str| named(tensors, &format!("layers.{number}.{part}.weight"));
        let linear = |part: &str| Ok::<_, Box<dyn Error>>(Linear::new(of(part)?, None));
        Ok(Layer {
            attention_norm: of("attention_norm")?,
            qkv: [linear("wq")?, linear("wk")?, linear("wv")?],
            wo: linear("wo")?,
            ffn_norm: of("ffn_norm")?,
            w1: linear("w1")?,
            w2: linear("w2")?,
            w3: linear("w3")?,
            caches: (0..sequences).map(|_| KvCache::new(1, longest)).collect(),
        })
    }

    /// Adds what attention mixed, then the feed-forward block.
    fn finish(&self, stream: &Tensor, mixed: &Tensor) -> candle_core::Result<Tensor> {
        let stream = (stream + self.wo.forward(mixed)?)?;
        let x = rms_norm(&stream, &self.ffn_norm, EPS)?;
        let hidden = (self.w1.forward(&x)?.silu()? * self.w3.forward(&x)?)?;
        stream + self.w2.forward(&hidden)?
    }
}

/// rhumb's attention of all pieces. Rows are copied from candle's tensors and back.
fn by_rhumb(paged: &mut Paged, layer: usize, pieces: &Pieces, qkv: &[Tensor; 3]) -> Result<Tensor, Box<dyn Error>> {
    let rows = |of: &Tensor| {
        let rows = Array2::from_shape_vec(of.dims2()?, of.flatten_all()?.to_vec1()?)?;
        Ok::<_, Box<dyn Error>>(rows)
    };
    let qkv = [rows(&qkv[0])?, rows(&qkv[1])?, rows(&qkv[2])?];
    let mut mixed = Array2::zeros(qkv[0].dim());
    paged.attend(layer, pieces, &qkv, &mut mixed)?;
    let shape = mixed.dim();
    Ok(Tensor::from_vec(mixed.into_raw_vec_and_offset().0, shape, &Device::Cpu)?)
}

fn scale() -> f32 {
    1.0 / (HEAD_DIM as f32).sqrt()
}

/// `[1, head, token, element]` as rows of all heads.
fn packed(mixed: &Tensor) -> candle_core::Result<Tensor> {
    mixed.transpose(1, 2)?.squeeze(0)?.contiguous()?.flatten_from(1)
}

/// Cosines and sines of so many positions, computed in double precision and rounded once.
fn turns(positions: usize) -> candle_core::Result<[Tensor; 2]> {
    let pairs = HEAD_DIM / 2;
    let angle = |at: usize| (at / pairs) as f64 * ROPE_BASE.powf(-((at % pairs) as f64) / pairs as f64);
    let angles: Vec<f64> = (0..positions * pairs).map(angle).collect();
    let angles = Tensor::from_vec(angles, (positions, pairs), &Device::Cpu)?;
    Ok([angles.cos()?.to_dtype(DType::F32)?, angles.sin()?.to_dtype(DType::F32)?])
}

fn named(tensors: &HashMap<String, Tensor>, name: &str) -> Result<Tensor, Box<dyn Error>> {
    tensors.get(name).cloned().ok_or_else(|| format!("the model has no tensor `{name}`").into())
}
