//! The graph of an attention.

use rhumb_ir::{Axis, AxisInfo, Elem, Expr, Extent, GraphBuilder, Hook, Site, Verified};

use super::error::BuildError;
use super::options::{Attention, Batch, Sink, Source, Step};
use super::parts::AttentionParts;
use crate::scheme::{Scheme, SchemeContext};
use crate::schemes::{Documents, KeyLengths};

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

impl Attention {
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
        let parts = self.place(builder, axes, self.q_positions, self.q_offset);
        Ok((AttentionParts { rows: [Some(query), Some(key)], ..parts }, [query, key, value]))
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
        let schemes: Vec<Option<&Scheme>> = self.schemes(&made).collect();
        for (step, scheme) in self.steps.iter().zip(schemes) {
            if let Some(scheme) = scheme {
                checked(scheme, &parts)?;
            }
            key = transformed(&parts, (step, scheme), Hook::Key, key);
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
        AttentionParts { b, h, g, q, k, d, e, site_id, cx: SchemeContext::new(builder, site), rows: [None, None] }
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
        let of_softmax = [("a sink", self.sink.is_some()), ("a log-sum-exp", self.lse)];
        if let Some((what, _)) = of_softmax.into_iter().find(|(_, asked)| self.weights.is_some() && *asked) {
            return Err(BuildError::WithoutSoftmax { what });
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
        for (step, scheme) in self.steps.iter().zip(&schemes) {
            query = transformed(parts, (step, *scheme), Hook::Query, query);
            key = transformed(parts, (step, *scheme), Hook::Key, key);
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

        let mask = self.masks(parts, &schemes);
        if let Some(write) = &self.weights {
            let weights = write(parts, score);
            let weights = mask.map_or(weights, |mask| mask.select(weights, builder.scalar(0.0)));
            parts.output_weighted(weights, value);
            return Ok(());
        }
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

    /// The mask of all steps, key lengths and documents.
    fn masks<'g>(&self, parts: &AttentionParts<'g>, schemes: &[Option<&Scheme>]) -> Option<Expr<'g>> {
        let AttentionParts { b, q, k, .. } = *parts;
        let builder = parts.builder();
        let lengths =
            self.key_lengths.then(|| Scheme::new(KeyLengths::new(builder.input("key_lengths", Elem::I32, [b]))));
        let documents = self.documents.map(|batch| {
            let q_documents = builder.input("q_documents", Elem::I32, batch.dims(b, &[q]));
            Scheme::new(Documents::new(q_documents, builder.input("k_documents", Elem::I32, batch.dims(b, &[k]))))
        });
        let masks = self.steps.iter().zip(schemes).filter_map(|(step, scheme)| match (step, scheme) {
            (_, Some(scheme)) => parts.mask(scheme),
            (Step::Mask(write), None) => Some(write(parts)),
            _ => None,
        });
        let lengths = lengths.as_ref().and_then(|lengths| parts.mask(lengths));
        let documents = documents.as_ref().and_then(|documents| parts.mask(documents));
        masks.chain(lengths).chain(documents).reduce(|a, b| a & b)
    }
}

/// What a step makes of a query or a key.
fn transformed<'g>(
    parts: &AttentionParts<'g>,
    (step, scheme): (&Step, Option<&Scheme>),
    hook: Hook,
    x: Expr<'g>,
) -> Expr<'g> {
    match (step, scheme) {
        (_, Some(scheme)) => parts.apply(scheme, hook, x),
        (Step::Query(write), None) if hook == Hook::Query => write(parts, x),
        (Step::Key(write), None) if hook == Hook::Key => write(parts, x),
        _ => x,
    }
}

fn checked(scheme: &Scheme, cx: &SchemeContext<'_>) -> Result<(), BuildError> {
    cx.check(&**scheme).map_err(|source| BuildError::Scheme { scheme: scheme.name().to_owned(), source })
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
