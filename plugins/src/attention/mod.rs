//! The usual attention graph, by standard names.

mod error;
mod parts;

use std::fmt;

use rhumb_ir::{Axis, AxisInfo, Elem, Expr, Extent, GraphBuilder, Hook, Site, Verified};

pub use error::BuildError;
pub use parts::AttentionParts;

use crate::scheme::{Cx, Scheme};
use crate::schemes::{Documents, KeyLengths};

/// Builds the usual attention graph.
///
/// Axes: `b` batch, `h` query heads, `g` key/value heads (where they are fewer than query heads; otherwise `h`), `q` queries, `k` keys,
/// `d` elements of a head of query and key, `e` elements of a head of the value. `b`, `q` and `k` are told by each call.
///
/// | binding | type | made by |
/// |---|---|---|
/// | input `q` | `f32[b, h, q, d]` | always |
/// | input `k` | `f32[b, g, k, d]` | always |
/// | input `v` | `f32[b, g, k, e]` | always |
/// | input `q_pos`, `k_pos` | `[q]` or `[b, q]`, `[k]` or `[b, k]` | [`q_positions`](Attention::q_positions), [`k_positions`](Attention::k_positions) |
/// | input `q_offset`, `length` | `i32[]` | [`q_offset_input`](Attention::q_offset_input), [`length_input`](Attention::length_input) |
/// | input `key_lengths` | `i32[b]` | [`key_lengths`](Attention::key_lengths) |
/// | input `q_documents`, `k_documents` | `i32[b, q]`, `i32[b, k]` or without `b` | [`documents`](Attention::documents) |
/// | input `sinks` | `f32[h]` | [`sinks`](Attention::sinks) |
/// | input `bias` | `f32[h, q, k]` or `f32[b, h, q, k]` | [`bias`](Attention::bias) |
/// | output `out` | `f32[b, h, q, e]` | always |
/// | output `lse` | `f32[b, h, q]`, natural logarithm, the sink included | [`lse`](Attention::lse) |
///
/// The score is `scale (q . k)`, then capped, then transformed by schemes and [`score_with`](Attention::score_with) in the order given,
/// then the bias is added, then what masks hide becomes `-inf`. All masks must hold. Query and key are rotated in the order given.
///
/// A score of `-inf` hides its key as a mask does, whatever it comes from: a bias, or a term of one's own. A row whose keys are all hidden,
/// be it by masks, by `-inf` in a bias, or by a term of the query alone that is `-inf`, is 0 in `out` and `-inf` in `lse` (with a sink, the
/// sink's score). NaN or `inf` in a score that a query sees makes NaN of its row; at pairs that masks hide it changes nothing.
pub struct Attention {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    value_dim: u32,
    scale: f64,
    softcap: Option<f64>,
    sink: Option<Sink>,
    lse: bool,
    q_offset: Option<Source>,
    length: Option<Source>,
    q_positions: Option<(Elem, Batch)>,
    k_positions: Option<(Elem, Batch)>,
    key_lengths: bool,
    documents: Option<Batch>,
    bias: Option<Batch>,
    steps: Vec<Step>,
}

/// Whether a tensor is the same for the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// One for all sequences: no batch axis.
    Shared,
    /// One per sequence: the batch axis comes first.
    Each,
}

/// The axes by their names.
#[derive(Clone, Copy)]
struct Axes {
    b: Axis,
    h: Axis,
    g: Axis,
    q: Axis,
    k: Axis,
    d: Axis,
    e: Axis,
}

#[derive(Clone, Copy)]
enum Source {
    Number(i32),
    Input,
}

#[derive(Clone, Copy)]
enum Sink {
    Number(f64),
    Input,
}

type SchemeFn = Box<dyn for<'g> Fn(&AttentionParts<'g>) -> Scheme>;
type ScoreFn = Box<dyn for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g>>;
type MaskFn = Box<dyn for<'g> Fn(&AttentionParts<'g>) -> Expr<'g>>;

enum Step {
    Scheme(Scheme),
    SchemeWith(SchemeFn),
    Score(ScoreFn),
    Mask(MaskFn),
}

impl fmt::Debug for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attention { heads, kv_heads, head_dim, value_dim, .. } = self;
        write!(f, "Attention({heads} heads on {kv_heads}, {head_dim} elements, value {value_dim}")?;
        write!(f, ", {} steps)", self.steps.len())
    }
}

impl Attention {
    /// Attention of `heads` query heads with `head_dim` elements each.
    pub fn new(heads: u32, head_dim: u32) -> Attention {
        Attention {
            heads,
            kv_heads: heads,
            head_dim,
            value_dim: head_dim,
            scale: 1.0 / f64::from(head_dim).sqrt(),
            softcap: None,
            sink: None,
            lse: false,
            q_offset: None,
            length: None,
            q_positions: None,
            k_positions: None,
            key_lengths: false,
            documents: None,
            bias: None,
            steps: Vec::new(),
        }
    }

    /// Fewer key/value heads than query heads (GQA; MQA with 1): query head `i` uses key/value head `i / (heads / kv_heads)`.
    #[must_use]
    pub fn kv_heads(self, kv_heads: u32) -> Attention {
        Attention { kv_heads, ..self }
    }

    /// Elements of a head of the value, where they are not as many as the key's.
    #[must_use]
    pub fn value_dim(self, value_dim: u32) -> Attention {
        Attention { value_dim, ..self }
    }

    /// The factor on `q . k` in place of `1 / sqrt(head_dim)`.
    #[must_use]
    pub fn scale(self, scale: f64) -> Attention {
        Attention { scale, ..self }
    }

    /// Caps the scaled score: `cap tanh(score / cap)` (Gemma 2), ahead of schemes, bias and masks.
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
    /// grids count the queries by themselves.
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

    /// Hides keys past the lengths in the input `key_lengths`: see [`KeyLengths`].
    #[must_use]
    pub fn key_lengths(self) -> Attention {
        Attention { key_lengths: true, ..self }
    }

    /// Hides keys of other documents by the ids in the inputs `q_documents` and `k_documents`: see [`Documents`].
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
    /// let graph = Attention::new(8, 64)
    ///     .scheme_with(|cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn scheme_with<S>(mut self, make: impl for<'g> Fn(&AttentionParts<'g>) -> S + 'static) -> Attention
    where
        S: Into<Scheme>,
    {
        self.steps.push(Step::SchemeWith(Box::new(move |cx| make(cx).into())));
        self
    }

    /// Transforms the score by an expression of one's own, of any elementwise ops: it stays in the loop over queries and keys. What it adds
    /// that is the same for all keys costs nothing there; where that is `-inf`, the row is hidden.
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // A penalty that grows with the logarithm of the distance.
    /// let graph = Attention::new(8, 64)
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
        self.steps.push(Step::Score(Box::new(score)));
        self
    }

    /// Adds a mask by a predicate of one's own: a `bool` expression, true where the query attends to the key.
    ///
    /// ```
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // The first four keys, and of the others every third.
    /// let graph = Attention::new(8, 64)
    ///     .mask_with(|cx| cx.k_index().lt(4) | (cx.k_index() % 3).eq(0))
    ///     .scheme(Causal)
    ///     .build()?;
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn mask_with(mut self, mask: impl for<'g> Fn(&AttentionParts<'g>) -> Expr<'g> + 'static) -> Attention {
        self.steps.push(Step::Mask(Box::new(mask)));
        self
    }

    /// Builds the graph.
    ///
    /// # Errors
    /// [`BuildError`] for sizes or numbers out of range, schemes that do not fit, and expressions that are not well formed.
    pub fn build(&self) -> Result<Verified, BuildError> {
        let builder = GraphBuilder::new("attention");
        let (parts, inputs) = self.parts(&builder)?;
        self.fill(&parts, inputs)?;
        Ok(builder.finish()?)
    }

    /// The axes and the site of this attention in a graph of one's own, and its inputs `q`, `k` and `v`; schemes, masks and options of
    /// the score are left to the caller.
    ///
    /// ```
    /// use rhumb_ir::{GraphBuilder, Hook};
    /// use rhumb_plugins::{Attention, Causal, Rope, Scheme};
    ///
    /// let builder = GraphBuilder::new("squared");
    /// let (parts, [query, key, value]) = Attention::new(8, 64).kv_heads(2).parts(&builder)?;
    /// let (rope, causal) = (Scheme::new(Rope::new()), Scheme::new(Causal));
    /// let score = parts.apply(&rope, Hook::Query, query).dot(parts.apply(&rope, Hook::Key, key), parts.d);
    /// let score = score * score * 0.125;
    /// let score = parts.mask(&causal).map_or(score, |mask| score.mask(mask));
    /// parts.output(score, value, None);
    /// let graph = builder.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] for sizes or numbers out of range.
    pub fn parts<'g>(&self, builder: &'g GraphBuilder) -> Result<(AttentionParts<'g>, [Expr<'g>; 3]), BuildError> {
        self.check()?;
        let axes @ Axes { b, h, g, q, k, d, e } = self.axes(builder, Extent::Dynamic);
        let query = builder.input("q", Elem::F32, [b, h, q, d]);
        let key = builder.input("k", Elem::F32, [b, g, k, d]);
        let value = builder.input("v", Elem::F32, [b, g, k, e]);
        Ok((self.place(builder, axes, self.q_positions, self.q_offset), [query, key, value]))
    }

    /// The graph that transforms keys before they are cached: input `k`, `f32[b, g, k, d]`, and `k_pos` if positions are given; output
    /// `k_out`, `f32[b, g, k, d]`, the key after the key hooks of all schemes. Attention over such a cache leaves the key alone, as
    /// [`Rope::query_only`](crate::Rope::query_only) does.
    ///
    /// # Errors
    /// As [`build`](Attention::build).
    pub fn key_graph(&self) -> Result<Verified, BuildError> {
        self.check()?;
        let builder = GraphBuilder::new("keys");
        // Nothing tells the number of queries, and nothing depends on it.
        let axes @ Axes { b, g, k, d, .. } = self.axes(&builder, Extent::Static(1));
        let mut key = builder.input("k", Elem::F32, [b, g, k, d]);
        let parts = self.place(&builder, axes, None, Some(Source::Number(0)));
        let made = self.made(&parts);
        for scheme in self.schemes(&made).flatten() {
            checked(scheme, &parts)?;
            key = parts.apply(scheme, Hook::Key, key);
        }
        builder.output("k_out", key, [b, g, k, d]);
        Ok(builder.finish()?)
    }

    fn axes(&self, builder: &GraphBuilder, queries: Extent) -> Axes {
        let (b, h) = (builder.axis("b"), builder.axis_of("h", self.heads));
        let g = if self.kv_heads == self.heads { h } else { builder.groups("g", self.kv_heads, h) };
        let q = builder.declare(AxisInfo { name: "q".to_owned(), extent: queries, groups: None });
        let (k, d) = (builder.axis("k"), builder.axis_of("d", self.head_dim));
        Axes { b, h, g, q, k, d, e: builder.axis_of("e", self.value_dim) }
    }

    /// The site: where positions, indices and the length come from.
    fn place<'g>(
        &self,
        builder: &'g GraphBuilder,
        Axes { b, h, g, q, k, d, e }: Axes,
        q_positions: Option<(Elem, Batch)>,
        q_offset: Option<Source>,
    ) -> AttentionParts<'g> {
        let positions = |name, axis, given: Option<(Elem, Batch)>| {
            given.map(|(elem, batch)| builder.input(name, elem, batch.dims(b, &[axis])))
        };
        let q_pos = positions("q_pos", q, q_positions);
        let k_pos = positions("k_pos", k, self.k_positions);
        let keys = builder.size(k).label("keys");
        let offset = match q_offset {
            None => keys - builder.size(q),
            Some(source) => source.expr(builder, "q_offset"),
        };
        let length = self.length.map_or(keys, |source| source.expr(builder, "length"));
        let q_index = (builder.iota(q) + offset).label("q_index");
        let k_index = builder.iota(k).label("k_index");
        let site = Site {
            query: q,
            key: k,
            head: Some(h),
            dim: d,
            q_pos: q_pos.unwrap_or(q_index).value(),
            k_pos: k_pos.unwrap_or(k_index).value(),
            q_index: q_index.value(),
            k_index: k_index.value(),
            length: length.value(),
        };
        let site_id = builder.site(site);
        AttentionParts { b, h, g, q, k, d, e, site_id, cx: Cx::new(builder, site) }
    }

    /// Schemes that are made for one graph, each in the place of its step.
    fn made(&self, parts: &AttentionParts<'_>) -> Vec<Option<Scheme>> {
        let make = |step: &Step| if let Step::SchemeWith(make) = step { Some(make(parts)) } else { None };
        self.steps.iter().map(make).collect()
    }

    /// The scheme of each step, where it has one.
    fn schemes<'a>(&'a self, made: &'a [Option<Scheme>]) -> impl Iterator<Item = Option<&'a Scheme>> {
        self.steps.iter().zip(made).map(|(step, made)| match (step, made) {
            (Step::Scheme(scheme), _) | (_, Some(scheme)) => Some(scheme),
            _ => None,
        })
    }

    fn check(&self) -> Result<(), BuildError> {
        let sizes = [
            ("the number of heads", self.heads),
            ("the number of key/value heads", self.kv_heads),
            ("the head dimension", self.head_dim),
            ("the value's head dimension", self.value_dim),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(BuildError::Zero { what });
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(BuildError::Groups { heads: self.heads, kv_heads: self.kv_heads });
        }
        if !self.scale.is_finite() {
            return Err(BuildError::Number { what: "the scale", found: self.scale, expected: "a finite number" });
        }
        if let Some(cap) = self.softcap
            && !(cap > 0.0 && cap.is_finite())
        {
            return Err(BuildError::Number { what: "the softcap", found: cap, expected: "a finite number above 0" });
        }
        if let Some(Sink::Number(sink)) = self.sink
            && !sink.is_finite()
        {
            return Err(BuildError::Number { what: "the sink", found: sink, expected: "a finite number" });
        }
        Ok(())
    }

    fn fill<'g>(
        &self,
        parts: &AttentionParts<'g>,
        [mut query, mut key, value]: [Expr<'g>; 3],
    ) -> Result<(), BuildError> {
        let AttentionParts { b, h, q, k, .. } = *parts;
        let builder = parts.builder();

        let made = self.made(parts);
        let schemes: Vec<Option<&Scheme>> = self.schemes(&made).collect();
        for scheme in schemes.iter().flatten() {
            checked(scheme, parts)?;
        }
        for scheme in schemes.iter().flatten() {
            query = parts.apply(scheme, Hook::Query, query);
            key = parts.apply(scheme, Hook::Key, key);
        }
        let mut score = (query.dot(key, parts.d) * self.scale).label("score");
        if let Some(cap) = self.softcap {
            score = (score / cap).tanh() * cap;
        }
        for (step, scheme) in self.steps.iter().zip(&schemes) {
            score = match (step, scheme) {
                (_, Some(scheme)) => parts.apply(scheme, Hook::Score, score),
                (Step::Score(write), None) => write(parts, score),
                _ => score,
            };
        }
        if let Some(batch) = self.bias {
            score = score + builder.input("bias", Elem::F32, batch.dims(b, &[h, q, k]));
        }

        let lengths =
            self.key_lengths.then(|| Scheme::new(KeyLengths::new(builder.input("key_lengths", Elem::I32, [b]))));
        let documents = self.documents.map(|batch| {
            let q_documents = builder.input("q_documents", Elem::I32, batch.dims(b, &[q]));
            Scheme::new(Documents::new(q_documents, builder.input("k_documents", Elem::I32, batch.dims(b, &[k]))))
        });
        let masks = self.steps.iter().zip(&schemes).filter_map(|(step, scheme)| match (step, scheme) {
            (_, Some(scheme)) => parts.mask(scheme),
            (Step::Mask(write), None) => Some(write(parts)),
            _ => None,
        });
        let lengths = lengths.as_ref().and_then(|lengths| parts.mask(lengths));
        let documents = documents.as_ref().and_then(|documents| parts.mask(documents));
        let mask = masks.chain(lengths).chain(documents).reduce(|a, b| a & b);
        if let Some(mask) = mask {
            score = score.mask(mask).label("masked");
        }

        let sink = self.sink.map(|sink| match sink {
            Sink::Number(sink) => builder.scalar(sink),
            Sink::Input => builder.input("sinks", Elem::F32, [h]),
        });
        parts.output(score, value, sink);
        if self.lse {
            parts.output_lse(score, sink);
        }
        Ok(())
    }
}

fn checked(scheme: &Scheme, cx: &Cx<'_>) -> Result<(), BuildError> {
    scheme.check(cx).map_err(|source| BuildError::Scheme { scheme: scheme.name().to_owned(), source })
}

impl Batch {
    fn dims(self, b: Axis, rest: &[Axis]) -> Vec<Axis> {
        let first = (self == Batch::Each).then_some(b);
        first.into_iter().chain(rest.iter().copied()).collect()
    }
}

impl Source {
    fn expr<'g>(self, builder: &'g GraphBuilder, name: &str) -> Expr<'g> {
        match self {
            Source::Number(x) => builder.int(x),
            Source::Input => builder.input(name, Elem::I32, []),
        }
    }
}
