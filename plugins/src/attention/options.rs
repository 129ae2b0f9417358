//! What an attention consists of, and the methods that choose it.

use std::fmt;
use std::rc::Rc;

use rhumb_ir::{Elem, Expr, Length};

use super::parts::AttentionParts;
use super::quantised::Quantised;
use crate::scheme::Scheme;

/// Builds the usual attention graph: [`Attention::heads`] begins, [`Heads::head_dim`] follows, and all other methods are as wanted.
///
/// Axes: `b` batch, `h` query heads, `g` key/value heads (where they are fewer than query heads; otherwise `h`), `q` queries, `k` keys,
/// `d` elements of a head of query and key, `e` elements of a head of the value. `b`, `q` and `k` are told by each call.
///
/// | binding | type | made by |
/// |---|---|---|
/// | input `q` | `f32[b, h, q, d]`, or [of 16 bits](Attention::elem) | always |
/// | input `k` | `f32[b, g, k, d]`, or [of 16 bits or 8](Attention::cache_elem) | always |
/// | input `v` | `f32[b, g, k, e]`, or of 16 bits or 8 | always |
/// | input `k_scale`, `v_scale` | `f32[b, g, k]`, or [of channels](crate::Scales) | [`cache_elem`](Attention::cache_elem) of `i8`, [`scales`](Attention::scales) |
/// | input `k_zero`, `v_zero` | as the scales | [`zero_points`](Attention::zero_points) |
/// | input `q_pos`, `k_pos` | `[q]` or `[b, q]`, `[k]` or `[b, k]` | [`q_positions`](Attention::q_positions), [`k_positions`](Attention::k_positions) |
/// | input `q_offset`, `length` | `i32[]` | [`q_offset_input`](Attention::q_offset_input), [`length_input`](Attention::length_input) |
/// | input `key_lengths` | `i32[b]` | [`key_lengths`](Attention::key_lengths) |
/// | input `q_documents`, `k_documents` | `i32[b, q]`, `i32[b, k]` or without `b` | [`documents`](Attention::documents) |
/// | input `sinks` | `f32[h]` | [`sinks`](Attention::sinks) |
/// | input `bias` | `f32[h, q, k]` or `f32[b, h, q, k]` | [`bias`](Attention::bias) |
/// | output `out` | `f32[b, h, q, e]`, or of 16 bits | always |
/// | output `lse` | `f32[b, h, q]`, natural logarithm, the sink included | [`lse`](Attention::lse) |
///
/// The score is `scale (q . k)`, then capped, then transformed by schemes and [`score_with`](Attention::score_with) in the order given,
/// then the bias is added, then what masks hide becomes `-inf`; the softmax follows, or the weights of
/// [`weights_with`](Attention::weights_with). All masks must hold. Query and key are rotated in the order given.
///
/// A score of `-inf` hides its key as a mask does, whatever it comes from: a bias, or a term of one's own. A row whose keys are all hidden,
/// be it by masks, by `-inf` in a bias, or by a term of the query alone that is `-inf`, is 0 in `out` and `-inf` in `lse` (with a sink, the
/// sink's score). NaN or `inf` in a score that a query sees makes NaN of its row; at pairs that masks hide it changes nothing.
#[derive(Clone)]
pub struct Attention {
    pub(super) heads: i128,
    pub(super) kv_heads: i128,
    pub(super) head_dim: i128,
    pub(super) value_dim: i128,
    pub(super) scale: f64,
    pub(super) softcap: Option<f64>,
    pub(super) weights: Option<ScoreFn>,
    pub(super) sink: Option<Sink>,
    pub(super) lse: bool,
    pub(super) q_offset: Option<Source>,
    pub(super) length: Option<Source>,
    pub(super) q_positions: Option<(Elem, Batch)>,
    pub(super) k_positions: Option<(Elem, Batch)>,
    pub(super) key_lengths: bool,
    pub(super) documents: Option<Batch>,
    pub(super) bias: Option<Batch>,
    pub(super) elems: Elems,
    pub(super) quantised: Quantised,
    pub(super) steps: Vec<Step>,
}

/// Whether a tensor is the same for the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// One for all sequences: no batch axis.
    Shared,
    /// One per sequence: the batch axis comes first.
    Each,
}

/// The element types of the tensors that rows of heads are read from and written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elems {
    pub(super) query: Elem,
    pub(super) key: Elem,
    pub(super) value: Elem,
    pub(super) output: Elem,
}

impl Elems {
    fn all(elem: Elem) -> Elems {
        Elems { query: elem, key: elem, value: elem, output: elem }
    }

    /// Each with what it is of, and whether caches hold such rows.
    pub(super) fn each(self) -> [(&'static str, Elem, bool); 4] {
        let Elems { query, key, value, output } = self;
        [("the query", query, false), ("the key", key, true), ("the value", value, true), ("the output", output, false)]
    }
}

/// Where a number comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Number(i32),
    Input,
}

/// Where the score of the sink comes from.
#[derive(Clone, Copy)]
pub(super) enum Sink {
    Number(f64),
    Input,
}

// Shared, so that an attention can be cloned.
pub(super) type SchemeFn = Rc<dyn for<'g> Fn(&AttentionParts<'g>) -> Scheme>;
pub(super) type ScoreFn = Rc<dyn for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g>>;
pub(super) type MaskFn = Rc<dyn for<'g> Fn(&AttentionParts<'g>) -> Expr<'g>>;

/// What is done to query, key, score and mask, in the order given.
#[derive(Clone)]
pub(super) enum Step {
    Scheme(Scheme),
    SchemeWith(SchemeFn),
    Query(ScoreFn),
    Key(ScoreFn),
    Score(ScoreFn),
    Mask(MaskFn),
}

impl Step {
    /// The method that added it, where it has a closure.
    fn method(&self) -> Option<&'static str> {
        match self {
            Step::Scheme(_) => None,
            Step::SchemeWith(_) => Some("scheme_with"),
            Step::Query(_) => Some("query_with"),
            Step::Key(_) => Some("key_with"),
            Step::Score(_) => Some("score_with"),
            Step::Mask(_) => Some("mask_with"),
        }
    }
}

/// What errors call the closure of each step: by its method, and by a number where there are several.
pub(super) fn closures(steps: &[Step]) -> Vec<String> {
    let like = |steps: &[Step], method| steps.iter().filter(|step| step.method() == method).count();
    let called = |(index, step): (usize, &Step)| match step.method() {
        Some(method) if like(steps, Some(method)) > 1 => {
            format!("closure {} of `{method}`", like(&steps[..=index], Some(method)))
        }
        Some(method) => format!("the closure of `{method}`"),
        None => String::new(),
    };
    steps.iter().enumerate().map(called).collect()
}

impl fmt::Debug for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attention { heads, kv_heads, head_dim, value_dim, .. } = self;
        write!(f, "Attention({heads} heads on {kv_heads}, {head_dim} elements, value {value_dim}")?;
        write!(f, ", {} steps)", self.steps.len())
    }
}

/// The query heads of an [`Attention`], made by [`Attention::heads`]: what [`Heads::head_dim`] makes one of.
#[derive(Clone, Copy, Debug)]
#[must_use = "an attention is built once `head_dim` tells the elements of a head"]
pub struct Heads(i128);

impl Heads {
    /// The attention whose query heads and key/value heads have this many elements each.
    pub fn head_dim(self, head_dim: impl Length) -> Attention {
        let (Heads(heads), head_dim) = (self, head_dim.length());
        Attention {
            heads,
            kv_heads: heads,
            head_dim,
            value_dim: head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            softcap: None,
            weights: None,
            sink: None,
            lse: false,
            q_offset: None,
            length: None,
            q_positions: None,
            k_positions: None,
            key_lengths: false,
            documents: None,
            bias: None,
            elems: Elems::all(Elem::F32),
            quantised: Quantised::default(),
            steps: Vec::new(),
        }
    }
}

impl Attention {
    /// Attention of this many query heads. [`Heads::head_dim`] tells the elements of each, and comes next:
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Causal, Rope};
    ///
    /// // 32 query heads on 8 key/value heads, of 128 elements each.
    /// let attention = Attention::heads(32).head_dim(128).kv_heads(8).scheme(Rope::new()).scheme(Causal);
    /// # attention.build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    pub fn heads(heads: impl Length) -> Heads {
        Heads(heads.length())
    }

    /// The element type of `q`, `k`, `v` and `out`, in place of `f32`: [`Elem::F16`] and [`Elem::Bf16`] take half the memory. What is read
    /// is widened, what is computed stays in single precision, and `out` is rounded when it is written. `lse` stays `f32`. On machines with
    /// AVX512_BF16, weights of `bf16` values are rounded to `bf16` where `out` is `bf16` too.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // A cache of keys and values in 16 bits, under queries and results in 32.
    /// let graph = Attention::heads(32)
    ///     .head_dim(128)
    ///     .kv_heads(8)
    ///     .key_elem(Elem::Bf16)
    ///     .value_elem(Elem::Bf16)
    ///     .scheme(Causal)
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn elem(self, elem: Elem) -> Attention {
        Attention { elems: Elems::all(elem), ..self }
    }

    /// The element type of `q`: see [`elem`](Attention::elem).
    #[must_use]
    pub fn query_elem(self, query: Elem) -> Attention {
        Attention { elems: Elems { query, ..self.elems }, ..self }
    }

    /// The element type of `k`, and of `k_out` of a [graph of keys alone](Attention::key_graph): see [`elem`](Attention::elem).
    #[must_use]
    pub fn key_elem(self, key: Elem) -> Attention {
        Attention { elems: Elems { key, ..self.elems }, ..self }
    }

    /// The element type of `v`: see [`elem`](Attention::elem).
    #[must_use]
    pub fn value_elem(self, value: Elem) -> Attention {
        Attention { elems: Elems { value, ..self.elems }, ..self }
    }

    /// The element type of `out`: see [`elem`](Attention::elem).
    #[must_use]
    pub fn output_elem(self, output: Elem) -> Attention {
        Attention { elems: Elems { output, ..self.elems }, ..self }
    }

    /// Fewer key/value heads than query heads (GQA; MQA with 1): query head `i` uses key/value head `i / (heads / kv_heads)`.
    #[must_use]
    pub fn kv_heads(self, kv_heads: impl Length) -> Attention {
        Attention { kv_heads: kv_heads.length(), ..self }
    }

    /// Elements of a head of the value, where they are not as many as the key's.
    #[must_use]
    pub fn value_dim(self, value_dim: impl Length) -> Attention {
        Attention { value_dim: value_dim.length(), ..self }
    }

    /// The factor on `q . k` in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Attention {
        Attention { scale, ..self }
    }

    /// Caps the scaled score: `cap tanh(score / cap)` (Gemma 2), ahead of schemes, bias and masks. The scheme
    /// [`Softcap`](crate::Softcap) does so at its place among others, after a bias.
    #[must_use]
    pub fn softcap(self, cap: f64) -> Attention {
        Attention { softcap: Some(cap), ..self }
    }

    /// Attention sinks (GPT-OSS): the input `sinks` has an extra score per head that takes part in the softmax's sum alone.
    #[must_use]
    pub fn sinks(self) -> Attention {
        Attention { sink: Some(Sink::Input), ..self }
    }

    /// The same sink for all heads; 0 is the off-by-one softmax.
    #[must_use]
    pub fn sink(self, score: f64) -> Attention {
        Attention { sink: Some(Sink::Number(score)), ..self }
    }

    /// Also gives `lse`, the log-sum-exp of each row.
    #[must_use]
    pub fn lse(self) -> Attention {
        Attention { lse: true, ..self }
    }

    /// The index of the first query, in place of bottom-right alignment (`keys - queries`). In cross attention give 0 where masks or
    /// grids count the queries by themselves. In a [graph of keys alone](Attention::key_graph), which has those of the same tokens, it is
    /// the index of the first key.
    #[must_use]
    pub fn q_offset(self, offset: i32) -> Attention {
        Attention { q_offset: Some(Source::Number(offset)), ..self }
    }

    /// The index of the first query from the input `q_offset`.
    #[must_use]
    pub fn q_offset_input(self) -> Attention {
        Attention { q_offset: Some(Source::Input), ..self }
    }

    /// The number of tokens so far, in place of the number of keys.
    #[must_use]
    pub fn length(self, length: i32) -> Attention {
        Attention { length: Some(Source::Number(length)), ..self }
    }

    /// The number of tokens so far from the input `length`.
    #[must_use]
    pub fn length_input(self) -> Attention {
        Attention { length: Some(Source::Input), ..self }
    }

    /// Positions of queries from the input `q_pos` (`i32` or `f32`), in place of their indices.
    #[must_use]
    pub fn q_positions(self, elem: Elem, batch: Batch) -> Attention {
        Attention { q_positions: Some((elem, batch)), ..self }
    }

    /// Positions of keys from the input `k_pos` (`i32` or `f32`), in place of their indices.
    #[must_use]
    pub fn k_positions(self, elem: Elem, batch: Batch) -> Attention {
        Attention { k_positions: Some((elem, batch)), ..self }
    }

    /// Hides keys past the lengths in the input `key_lengths`: see [`KeyLengths`](crate::KeyLengths).
    #[must_use]
    pub fn key_lengths(self) -> Attention {
        Attention { key_lengths: true, ..self }
    }

    /// Hides keys of other documents by the ids in the inputs `q_documents` and `k_documents`: see [`Documents`](crate::Documents).
    #[must_use]
    pub fn documents(self, batch: Batch) -> Attention {
        Attention { documents: Some(batch), ..self }
    }

    /// Adds the input `bias` to the score. `-inf` in it hides a pair, and a row of `-inf` gives 0 in `out` and `-inf` in `lse`.
    #[must_use]
    pub fn bias(self, batch: Batch) -> Attention {
        Attention { bias: Some(batch), ..self }
    }

    /// Adds a scheme or a mask. The graph carries it, and is compiled by it; what is written of it is for readers and the text form.
    #[must_use]
    pub fn scheme(mut self, scheme: impl Into<Scheme>) -> Attention {
        self.steps.push(Step::Scheme(scheme.into()));
        self
    }

    /// Adds a scheme that takes values of the graph, such as inputs:
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::{Attention, PrefixLm};
    ///
    /// // A prefix of each sequence, bound at each call.
    /// let graph = Attention::heads(8)
    ///     .head_dim(64)
    ///     .scheme_with(|cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn scheme_with<S>(mut self, make: impl for<'g> Fn(&AttentionParts<'g>) -> S + 'static) -> Attention
    where
        S: Into<Scheme>,
    {
        self.steps.push(Step::SchemeWith(Rc::new(move |cx| make(cx).into())));
        self
    }

    /// Transforms the score by an expression of one's own, of any elementwise ops: it stays in the loop over queries and keys. What it adds
    /// that is the same for all keys costs nothing there; where that is `-inf`, the row is hidden.
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // A penalty that grows with the logarithm of the distance.
    /// let graph = Attention::heads(8)
    ///     .head_dim(64)
    ///     .score_with(|cx, score| score - 0.5 * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
    ///     .scheme(Causal)
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn score_with(
        mut self,
        score: impl for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g> + 'static,
    ) -> Attention {
        self.steps.push(Step::Score(Rc::new(score)));
        self
    }

    /// Transforms the query at its place among the schemes: `f32[b, h, q, d]`. See [`key_with`](Attention::key_with).
    #[must_use]
    pub fn query_with(
        mut self,
        query: impl for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g> + 'static,
    ) -> Attention {
        self.steps.push(Step::Query(Rc::new(query)));
        self
    }

    /// Transforms the key at its place among the schemes: `f32[b, g, k, d]`.
    ///
    /// ```
    /// use rhumb_ir::{Elem, Pairing};
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // A rotation whose pairs turn by one angle a token, each half as far as the one before it.
    /// let pairs = 32;
    /// let turns: Vec<f64> = (0..pairs).map(|pair| 0.5f64.powi(pair)).collect();
    /// let (of_queries, of_keys) = (turns.clone(), turns);
    /// let graph = Attention::heads(8)
    ///     .head_dim(64)
    ///     .query_with(move |cx, query| {
    ///         let pair = cx.axis("pair", 32);
    ///         let angle = cx.q_pos().cast(Elem::F32) * cx.builder().table([pair], of_queries.clone());
    ///         query.rotate(angle, cx.d, pair, Pairing::Half, 0)
    ///     })
    ///     .key_with(move |cx, key| {
    ///         let pair = cx.axis("pair", 32);
    ///         let angle = cx.k_pos().cast(Elem::F32) * cx.builder().table([pair], of_keys.clone());
    ///         key.rotate(angle, cx.d, pair, Pairing::Half, 0)
    ///     })
    ///     .scheme(Causal)
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn key_with(mut self, key: impl for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g> + 'static) -> Attention {
        self.steps.push(Step::Key(Rc::new(key)));
        self
    }

    /// Weighs values by an expression of the score in place of the softmax: `out = sum w v`, and nothing is normalised. The score comes as
    /// schemes left it; keys that masks hide have weight 0. Such an attention has no sink and no log-sum-exp.
    ///
    /// Sigmoid attention (Ramapuram et al., *Theory, Analysis, and Best Practices for Sigmoid Self-Attention*, 2024) shifts the score by the
    /// logarithm of the number of keys:
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::{Attention, Causal, Rope};
    ///
    /// let graph = Attention::heads(8)
    ///     .head_dim(64)
    ///     .scheme(Rope::new())
    ///     .scheme(Causal)
    ///     .weights_with(|cx, score| (score - cx.builder().size(cx.k).cast(Elem::F32).log()).sigmoid())
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn weights_with(
        mut self,
        weights: impl for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g> + 'static,
    ) -> Attention {
        self.weights = Some(Rc::new(weights));
        self
    }

    /// Adds a mask by a predicate of one's own: a `bool` expression, true where the query attends to the key.
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // The first four keys, and of the others every third.
    /// let graph = Attention::heads(8)
    ///     .head_dim(64)
    ///     .mask_with(|cx| cx.k_index().lt(4) | (cx.k_index() % 3).eq(0))
    ///     .scheme(Causal)
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn mask_with(mut self, mask: impl for<'g> Fn(&AttentionParts<'g>) -> Expr<'g> + 'static) -> Attention {
        self.steps.push(Step::Mask(Rc::new(mask)));
        self
    }
}
