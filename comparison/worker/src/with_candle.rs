//! candle as a contender: its fused attention for CPUs, and matrix products with a softmax between.

use std::sync::Arc;

use candle_core::{D, Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::{rope, rope_thd};

use crate::case::{Case, Scheme, Tensors};
use crate::{Contender, Failure, Prepared};

/// Which of candle's ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `candle_nn::attention::flash_attn`, in its own layout `[batch, token, head, element]`.
    Flash,
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
    let tensor = |data: &[f32], shape: [usize; 4]| {
        let tensor = Tensor::from_slice(data, &shape, &Device::Cpu)?;
        match way {
            Way::Flash => tensor.transpose(1, 2)?.contiguous(),
            Way::Matmul => Ok(tensor),
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
    let contender = WithCandle {
        way,
        scale: 1.0 / (case.head_dim as f64).sqrt(),
        q: tensor(&tensors.q, case.q_shape())?,
        k: tensor(&tensors.k, case.kv_shape())?,
        v: tensor(&tensors.v, case.kv_shape())?,
        turns,
        mask,
        out: None,
        case,
    };
    let detail = match way {
        Way::Flash => "flash_attn",
        Way::Matmul => "matmul, softmax_last_dim, matmul",
    };
    Ok(Prepared { contender: Box::new(contender), compile: None, detail: detail.to_owned() })
}

/// The slopes of ALiBi's paper for a power of two of heads: the only counts the benchmark has.
fn slopes(heads: usize) -> Result<Vec<f64>, Failure> {
    if !heads.is_power_of_two() {
        return Err(Failure(format!("slopes of {heads} heads: only powers of two are known here")));
    }
    Ok((1..=heads).map(|head| (-8.0 * head as f64 / heads as f64).exp2()).collect())
}

/// `[1, 1 or head, query, key]`: ALiBi's penalty, and minus infinity where causal attention does not look.
fn mask(case: &Case) -> Result<Option<Tensor>, Failure> {
    if !case.causal && case.scheme != Scheme::Alibi {
        return Ok(None);
    }
    let slopes = if case.scheme == Scheme::Alibi { slopes(case.heads)? } else { vec![0.0] };
    let mut data = Vec::with_capacity(slopes.len() * case.tokens * case.tokens);
    for slope in &slopes {
        for query in 0..case.tokens {
            data.extend((0..case.tokens).map(|key| {
                if case.causal && key > query {
                    f32::NEG_INFINITY
                } else {
                    (slope * (key as f64 - query as f64)) as f32
                }
            }));
        }
    }
    Ok(Some(Tensor::from_vec(data, (1, slopes.len(), case.tokens, case.tokens), &Device::Cpu)?))
}

impl WithCandle {
    fn flash(&self) -> candle_core::Result<Tensor> {
        let (q, k) = match &self.turns {
            Some((cos, sin)) => (rope_thd(&self.q, cos, sin)?, rope_thd(&self.k, cos, sin)?),
            None => (self.q.clone(), self.k.clone()),
        };
        let mask = if self.case.causal { AttnMask::causal() } else { AttnMask::None };
        let max_bias = (self.case.scheme == Scheme::Alibi).then_some(8.0);
        let softcap = self.case.softcap.map(|cap| cap as f32);
        flash_attn::<f32>(&q, &k, &self.v, self.scale as f32, mask, max_bias, softcap)
    }

    fn matmul(&self) -> candle_core::Result<Tensor> {
        let (q, k) = match &self.turns {
            Some((cos, sin)) => (rope(&self.q, cos, sin)?, rope(&self.k, cos, sin)?),
            None => (self.q.clone(), self.k.clone()),
        };
        let (k, v) = (self.repeated(k)?, self.repeated(self.v.clone())?);
        let mut scores = (q.matmul(&k.t()?)? * self.scale)?;
        if let Some(cap) = self.case.softcap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        if let Some(mask) = &self.mask {
            scores = scores.broadcast_add(mask)?;
        }
        softmax_last_dim(&scores)?.matmul(&v)
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
            Way::Flash => self.flash()?,
            Way::Matmul => self.matmul()?,
        });
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let out = self.out.as_ref().ok_or_else(|| Failure("there is no output before the first run".to_owned()))?;
        // Both ways give [batch, head, token, element].
        Ok(out.contiguous()?.flatten_all()?.to_vec1()?)
    }
}
