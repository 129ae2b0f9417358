//! What is computed: the shape and scheme of a case, and its tensors.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rhumb::prelude::TensorView;
use serde::Deserialize;

use crate::Failure;
use crate::numbers::{Numbers, Stored};

/// The position scheme of a case.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    None,
    Alibi,
    Rope,
}

/// The element type of rows: of queries and outputs, or of keys and values.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Elem {
    F32,
    F16,
    Bf16,
    /// Of keys and values alone.
    I8,
}

impl Elem {
    /// Bytes of an element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Elem::F32 => 4,
            Elem::F16 | Elem::Bf16 => 2,
            Elem::I8 => 1,
        }
    }
}

/// A case as the driver describes it: the queries are the last of its tokens.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Keys.
    pub(crate) tokens: usize,
    pub(crate) queries: usize,
    pub(crate) head_dim: usize,
    /// Of queries and outputs.
    pub(crate) elem: Elem,
    /// Of keys and values.
    pub(crate) cache: Elem,
    pub(crate) causal: bool,
    pub(crate) scheme: Scheme,
    pub(crate) softcap: Option<f64>,
    /// Keys that a query sees, its own the last of them.
    pub(crate) window: Option<i32>,
    /// The first key that a query sees: by the window.
    pub(crate) first_key: usize,
    pub(crate) rope_base: f64,
    /// Whether keys come rotated, and queries alone are left to rotate.
    pub(crate) keys_turned: bool,
}

impl Case {
    /// The same shape and mask without a scheme or softcap, in decode without a mask as well: what the cost of those is held against.
    pub(crate) fn plain(&self) -> Case {
        let causal = self.causal && !self.decodes();
        Case { scheme: Scheme::None, softcap: None, window: None, first_key: 0, causal, ..self.clone() }
    }

    /// The same in single precision.
    pub(crate) fn in_f32(&self) -> Case {
        Case { elem: Elem::F32, cache: Elem::F32, ..self.clone() }
    }

    /// The same cache under queries of single precision.
    pub(crate) fn with_f32_queries(&self) -> Case {
        Case { elem: Elem::F32, ..self.clone() }
    }

    /// Whether queries are fewer than keys.
    pub(crate) fn decodes(&self) -> bool {
        self.queries < self.tokens
    }

    /// `[batch, head, token, element]` of queries and outputs.
    pub(crate) fn q_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.head_dim]
    }

    /// `[batch, head, token, element]` of keys and values.
    pub(crate) fn kv_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.tokens, self.head_dim]
    }
}

/// The tensors of a case, contiguous, `[batch, head, token, element]`.
#[derive(Debug)]
pub(crate) struct Tensors {
    /// Numbers that the case's types hold; of a quantised cache those that it stands for.
    pub(crate) q: Numbers<f32>,
    pub(crate) k: Numbers<f32>,
    pub(crate) v: Numbers<f32>,
    /// The same in the types of the case, where those are others.
    typed: Option<Typed>,
    /// `[token, element / 2]`, for peers that take tables; empty without RoPE.
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "rhumb has tables of its own"))]
    pub(crate) cos: Numbers<f32>,
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "rhumb has tables of its own"))]
    pub(crate) sin: Numbers<f32>,
}

/// Tensors in other types than `f32`.
#[derive(Debug)]
struct Typed {
    q: Stored,
    kv: [Stored; 2],
    /// Of each row of keys and of values, `[batch, head, token]`; none where nothing is quantised.
    scales: [Numbers<f32>; 2],
}

impl Tensors {
    /// Reads `q.f32`, `k.f32`, `v.f32`, with RoPE `cos.f32` and `sin.f32`, and of a quantised cache codes and scales.
    pub(crate) fn read(folder: &Path, case: &Case) -> Result<Arc<Tensors>, Failure> {
        let read = |name: &str, count: usize| Numbers::read(&folder.join(name), count, f32::from_le_bytes);
        let (queries, keys): (usize, usize) = (case.q_shape().iter().product(), case.kv_shape().iter().product());
        let angles = if case.scheme == Scheme::Rope { case.tokens * case.head_dim / 2 } else { 0 };
        let table = |name| if angles == 0 { Ok(Numbers::zeros(0)?) } else { read(name, angles) };
        let [q, k, v] = [read("q.f32", queries)?, read("k.f32", keys)?, read("v.f32", keys)?];
        let typed = if (case.elem, case.cache) == (Elem::F32, Elem::F32) {
            None
        } else {
            let codes = |name: &str| Stored::read_codes(&folder.join(format!("{name}_by_token.i8")), keys);
            let scales = |name: &str| read(&format!("{name}_by_token.f32"), keys / case.head_dim);
            let (kv, scales) = if case.cache == Elem::I8 {
                ([codes("k")?, codes("v")?], [scales("k")?, scales("v")?])
            } else {
                ([Stored::of(case.cache, &k)?, Stored::of(case.cache, &v)?], [Numbers::zeros(0)?, Numbers::zeros(0)?])
            };
            Some(Typed { q: Stored::of(case.elem, &q)?, kv, scales })
        };
        Ok(Arc::new(Tensors { q, k, v, typed, cos: table("cos.f32")?, sin: table("sin.f32")? }))
    }

    /// Queries in single precision or in the case's type.
    pub(crate) fn queries(&self, case: &Case) -> Result<TensorView<'_>, Failure> {
        match &self.typed {
            Some(typed) if case.elem != Elem::F32 => typed.q.view(&case.q_shape()),
            _ => Ok(TensorView::from_slice(&self.q, &case.q_shape())?),
        }
    }

    /// Keys and values, likewise.
    pub(crate) fn keys_and_values(&self, case: &Case) -> Result<[TensorView<'_>; 2], Failure> {
        let shape = case.kv_shape();
        match &self.typed {
            Some(Typed { kv: [k, v], .. }) if case.cache != Elem::F32 => Ok([k.view(&shape)?, v.view(&shape)?]),
            _ => Ok([TensorView::from_slice(&self.k, &shape)?, TensorView::from_slice(&self.v, &shape)?]),
        }
    }

    /// The scales of keys and of values, where the case's are quantised.
    pub(crate) fn scales(&self, case: &Case) -> Option<&[Numbers<f32>; 2]> {
        self.typed.as_ref().filter(|_| case.cache == Elem::I8).map(|typed| &typed.scales)
    }

    /// The words of 32 bits that keys and values in fewer bits fill; nothing where they are of 32 bits.
    pub(crate) fn words(&self) -> Option<[&[u32]; 2]> {
        self.typed.as_ref().map(|typed| typed.kv.each_ref().map(Stored::words))
    }
}

/// Writes an output for the driver's comparison.
pub(crate) fn write(path: &Path, values: &[f32]) -> Result<(), Failure> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(path, bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))
}
