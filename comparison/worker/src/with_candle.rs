//! candle as a contender: its fused attention for CPUs, and matrix products with a softmax between.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::{rope, rope_thd};
use half::{bf16, f16};

use crate::case::{Case, Elem, Scheme, Tensors};
use crate::{Contender, Failure, Prepared};

/// Which of candle's ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `candle_nn::attention::flash_attn`, in its own layout `[batch, token, head, element]`.
    Flash,
    /// The same with a causal mask, which hides nothing of a single query.
    FlashCausal,
    /// `matmul`, `softmax_last_dim`, `matmul`.
    Matmul,
}

struct WithCandle {
    way: Way,
    case: Case,
    scale: f64,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Cosines and sines, `[token, element / 2]`.
    turns: Option<(Tensor, Tensor)>,
    /// Added to the scores; by matrix products alone.
    mask: Option<Tensor>,
    out: Option<Tensor>,
}

/// Tensors in the layout of that way, outside of the timing.
pub(crate) fn prepare(case: Case, tensors: &Arc<Tensors>, way: Way) -> Result<Prepared, Failure> {
    let elem = dtype(case.elem)?;
    let tensor = |data: &[f32], shape: [usize; 4], first: usize| {
        let tensor = Tensor::from_slice(data, &shape, &Device::Cpu)?.narrow(2, first, shape[2] - first)?;
        let tensor = tensor.to_dtype(elem)?;
        match way {
            Way::Flash | Way::FlashCausal => tensor.transpose(1, 2)?.contiguous(),
            Way::Matmul => tensor.contiguous(),
        }
    };
    let turns = match case.scheme {
        Scheme::Rope => {
            let table = |data: &[f32]| Tensor::from_slice(data, (case.tokens, case.head_dim / 2), &Device::Cpu);
            Some((table(&tensors.cos)?, table(&tensors.sin)?))
        }
        Scheme::None | Scheme::Alibi => None,
    };
    let mask = if way == Way::Matmul { mask(&case)? } else { None };
    let mask = mask.map(|mask| mask.to_dtype(elem)).transpose()?;
    let contender = WithCandle {
        way,
        scale: 1.0 / (case.head_dim as f64).sqrt(),
        q: tensor(&tensors.q, case.q_shape(), 0)?,
        // Without the keys ahead of a window.
        k: tensor(&tensors.k, case.kv_shape(), case.first_key)?,
        v: tensor(&tensors.v, case.kv_shape(), case.first_key)?,
        turns,
        mask,
        out: None,
        case,
    };
    let detail = match way {
        Way::Flash => "flash_attn",
        Way::FlashCausal => "flash_attn, causal",
        Way::Matmul => "matmul, softmax_last_dim, matmul",
    };
    Ok(Prepared { contender: Box::new(contender), compile: None, detail: detail.to_owned() })
}

/// The name that candle has for a type.
fn dtype(elem: Elem) -> Result<DType, Failure> {
    match elem {
        Elem::F32 => Ok(DType::F32),
        Elem::F16 => Ok(DType::F16),
        Elem::Bf16 => Ok(DType::BF16),
        Elem::I8 => Err(Failure("candle has no attention over 8 bits".to_owned())),
    }
}

/// The slopes of ALiBi's paper for a power of two of heads: the only counts the benchmark has.
fn slopes(heads: usize) -> Result<Vec<f64>, Failure> {
    if !heads.is_power_of_two() {
        return Err(Failure(format!("slopes of {heads} heads: only powers of two are known here")));
    }
    Ok((1..=heads).map(|head| (-8.0 * head as f64 / heads as f64).exp2()).collect())
}

/// `[1, 1 or head, query, key that is seen]`: ALiBi's penalty, and minus infinity where the masks hide a key.
fn mask(case: &Case) -> Result<Option<Tensor>, Failure> {
    if !case.causal && case.window.is_none() && case.scheme != Scheme::Alibi {
        return Ok(None);
    }
    let slopes = if case.scheme == Scheme::Alibi { slopes(case.heads)? } else { vec![0.0] };
    let keys = case.tokens - case.first_key;
    let mut data = Vec::with_capacity(slopes.len() * case.queries * keys);
    for slope in &slopes {
        for query in case.tokens - case.queries..case.tokens {
            data.extend((case.first_key..case.tokens).map(|key| {
                let ahead = key > query && (case.causal || case.window.is_some());
                let behind = case.window.is_some_and(|window| query as f64 - key as f64 >= f64::from(window));
                if ahead || behind { f32::NEG_INFINITY } else { (slope * (key as f64 - query as f64)) as f32 }
            }));
        }
    }
    let mask = Tensor::from_vec(data, (1, slopes.len(), case.queries, keys), &Device::Cpu)?;
    if !case.decodes() {
        return Ok(Some(mask));
    }
    // As queries are packed.
    let rows = case.heads / case.kv_heads * case.queries;
    let mask = match slopes.len() {
        1 => mask.repeat((1, rows / case.queries, 1, 1))?.reshape((1, 1, rows, keys))?,
        _ => mask.reshape((1, case.kv_heads, rows, keys))?,
    };
    Ok(Some(mask))
}

impl WithCandle {
    fn flash(&self) -> candle_core::Result<Tensor> {
        let (q, k) = self.turned(rope_thd)?;
        let causal = self.case.causal || self.way == Way::FlashCausal;
        let start = self.case.tokens - self.case.queries;
        let mask = if causal { AttnMask::causal_with_offset(start) } else { AttnMask::None };
        let max_bias = (self.case.scheme == Scheme::Alibi).then_some(8.0);
        let softcap = self.case.softcap.map(|cap| cap as f32);
        let attention = match self.case.elem {
            Elem::Bf16 => flash_attn::<bf16>,
            Elem::F16 => flash_attn::<f16>,
            Elem::F32 | Elem::I8 => flash_attn::<f32>,
        };
        attention(&q, &k, &self.v, self.scale as f32, mask, max_bias, softcap)
    }

    fn matmul(&self) -> candle_core::Result<Tensor> {
        let (q, k) = self.turned(rope)?;
        let (batch, heads, tokens, dim) = q.dims4()?;
        // Few queries are packed: the heads of a group are more queries of one head.
        let (q, k, v) = if self.case.decodes() {
            let kv_heads = self.case.kv_heads;
            (q.reshape((batch, kv_heads, heads / kv_heads * tokens, dim))?, k, self.v.clone())
        } else {
            (q, self.repeated(k)?, self.repeated(self.v.clone())?)
        };
        let mut scores = (q.matmul(&k.t()?)? * self.scale)?;
        if let Some(cap) = self.case.softcap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        if let Some(mask) = &self.mask {
            scores = scores.broadcast_add(mask)?;
        }
        softmax_last_dim(&scores)?.matmul(&v)?.reshape((batch, heads, tokens, dim))
    }

    /// Queries and keys, rotated where the case has RoPE.
    fn turned(
        &self,
        rope: impl Fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let Some((cos, sin)) = &self.turns else { return Ok((self.q.clone(), self.k.clone())) };
        let (start, queries) = (self.case.tokens - self.case.queries, self.case.queries);
        let q = rope(&self.q, &cos.narrow(0, start, queries)?, &sin.narrow(0, start, queries)?)?;
        let k = if self.case.keys_turned { self.k.clone() } else { rope(&self.k, cos, sin)? };
        Ok((q, k))
    }

    /// Keys and values once for each query head of their group, as candle's models do.
    fn repeated(&self, x: Tensor) -> candle_core::Result<Tensor> {
        let group = self.case.heads / self.case.kv_heads;
        if group == 1 {
            return Ok(x);
        }
        let (batch, heads, tokens, dim) = x.dims4()?;
        Tensor::cat(&vec![&x; group], D::Minus2)?.reshape((batch, heads * group, tokens, dim))
    }
}

impl Contender for WithCandle {
    fn run(&mut self) -> Result<(), Failure> {
        // The last output goes first: a program would have dropped it.
        self.out = None;
        self.out = Some(match self.way {
            Way::Flash | Way::FlashCausal => self.flash()?,
            Way::Matmul => self.matmul()?,
        });
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let out = self.out.as_ref().ok_or_else(|| Failure("there is no output before the first run".to_owned()))?;
        // Both ways give [batch, head, token, element].
        Ok(out.to_dtype(DType::F32)?.contiguous()?.flatten_all()?.to_vec1()?)
    }
}
