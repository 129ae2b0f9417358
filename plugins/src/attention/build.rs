//! The graph of an attention.

use rhumb_ir::{Axis, AxisInfo, Elem, Expr, Extent, GraphBuilder, Hook, Site, Verified};

use super::error::BuildError;
use super::options::{Attention, Batch, Sink, Source};
use super::parts::AttentionParts;
use super::quantised::{KEY, VALUE, elems, unquantised};
use super::steps::{Steps, written};
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
    /// let (parts, [query, key, value]) = Attention::heads(8).head_dim(64).kv_heads(2).parts(&builder)?;
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
        let query = builder.input("q", self.elems.query, [b, h, q, d]);
        let key = self.quantised.rows(builder, KEY, self.elems.key, [b, g, k, d]);
        let value = self.quantised.rows(builder, VALUE, self.elems.value, [b, g, k, e]);
        let parts = self.place(builder, axes, Offsets { queries: self.q_offset, keys: None });
        Ok((AttentionParts { rows: [Some(query), Some(key)], ..parts }, [query, key, value]))
    }

    /// The graph that transforms keys before they are cached: input `k`, `f32[b, g, k, d]`, and `k_pos` or `q_offset` where these are
    /// inputs; output `k_out`, `f32[b, g, k, d]`, the key after the key hooks of all schemes. Attention over such a cache leaves the key
    /// alone, as [`Rope::query_only`](crate::Rope::query_only) does. Both have the element type of keys ([`key_elem`](Attention::key_elem)), and `f32` where
    /// that is of 8 bits: a cache quantises what it is given.
    ///
    /// Where the keys stand has to be told, by [`k_positions`](Attention::k_positions), or by [`q_offset`](Attention::q_offset) or
    /// [`q_offset_input`](Attention::q_offset_input), which are the index of the first of them: 0 for keys from the first token on.
    ///
    /// # Errors
    /// As [`build`](Attention::build), and [`BuildError::NoKeyPositions`].
    pub fn key_graph(&self) -> Result<Verified, BuildError> {
        self.check()?;
        if self.k_positions.is_none() && self.q_offset.is_none() {
            return Err(BuildError::NoKeyPositions);
        }
        let builder = GraphBuilder::new("keys");
        // Nothing tells the number of queries, and nothing depends on it.
        let axes @ Axes { b, g, k, d, .. } = self.axes(&builder, Extent::Static(1));
        let elem = unquantised(self.elems.key);
        let key = builder.input("k", elem, [b, g, k, d]);
        let of_keys = Attention { q_positions: None, ..self.clone() };
        let offsets = Offsets { queries: Some(Source::Number(0)), keys: self.q_offset };
        let parts = of_keys.place(&builder, axes, offsets);
        let steps = Steps::of(&self.steps, &parts)?;
        let [key] = steps.transformed(&parts, [(Hook::Key, key)])?;
        builder.output_as("k_out", elem, key, [b, g, k, d]);
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
        offsets: Offsets,
    ) -> AttentionParts<'g> {
        let positions = |name, axis, given: Option<(Elem, Batch)>| {
            given.map(|(elem, batch)| builder.input(name, elem, batch.dims(b, &[axis])))
        };
        let q_pos = positions("q_pos", q, self.q_positions);
        let k_pos = positions("k_pos", k, self.k_positions);
        let keys = builder.size(k).label("keys");
        let offset = match offsets.queries {
            None => keys - builder.size(q),
            Some(source) => source.expr(builder, "q_offset"),
        };
        let first_key = match offsets.keys {
            None | Some(Source::Number(0)) => None,
            Some(source) => Some(source.expr(builder, "q_offset")),
        };
        let tokens = first_key.map_or(keys, |first| keys + first);
        let length = self.length.map_or(tokens, |source| source.expr(builder, "length"));
        let q_index = (builder.iota(q) + offset).label("q_index");
        let k_index = first_key.map_or(builder.iota(k), |first| builder.iota(k) + first).label("k_index");
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
        let (cx, out) = (SchemeContext::new(builder, site), self.elems.output);
        AttentionParts { b, h, g, q, k, d, e, site_id, cx, rows: [None, None], out }
    }

    fn check(&self) -> Result<(), BuildError> {
        let sizes = [
            ("the number of heads", self.heads),
            ("the number of key/value heads", self.kv_heads),
            ("the head dimension", self.head_dim),
            ("the value's head dimension", self.value_dim),
        ];
        let possible = 1..=i128::from(i32::MAX);
        if let Some((what, found)) = sizes.into_iter().find(|(_, size)| !possible.contains(size)) {
            return Err(BuildError::Size { what, found });
        }
        if self.heads % self.kv_heads != 0 {
            return Err(BuildError::Groups { heads: self.heads, kv_heads: self.kv_heads });
        }
        let fits = |(_, elem, cached): &(&str, Elem, bool)| elems(*cached).any(|of| of == *elem);
        if let Some((what, found, cached)) = self.elems.each().into_iter().find(|rows| !fits(rows)) {
            return Err(BuildError::Element { what, found, cached });
        }
        if let Some(what) = self.quantised.unused([self.elems.key, self.elems.value]) {
            return Err(BuildError::Unscaled { what, key: self.elems.key, value: self.elems.value });
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

    fn fill<'g>(&self, parts: &AttentionParts<'g>, [query, key, value]: [Expr<'g>; 3]) -> Result<(), BuildError> {
        let AttentionParts { b, h, q, k, .. } = *parts;
        let builder = parts.builder();
        let steps = Steps::of(&self.steps, parts)?;
        let [query, key] = steps.transformed(parts, [(Hook::Query, query), (Hook::Key, key)])?;
        let mut score = (query.dot(key, parts.d) * self.scale).label("score");
        if let Some(cap) = self.softcap {
            score = (score / cap).tanh() * cap;
        }
        [score] = steps.transformed(parts, [(Hook::Score, score)])?;
        if let Some(batch) = self.bias {
            score = score + builder.input("bias", Elem::F32, batch.dims(b, &[h, q, k]));
        }

        let mask = self.masks(parts, &steps)?;
        if let Some(write) = &self.weights {
            let weights = written(parts, "the closure of `weights_with`", Elem::F32, || write(parts, score))?;
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
    fn masks<'g>(&self, parts: &AttentionParts<'g>, steps: &Steps<'_>) -> Result<Option<Expr<'g>>, BuildError> {
        let AttentionParts { b, q, k, .. } = *parts;
        let builder = parts.builder();
        let lengths =
            self.key_lengths.then(|| Scheme::new(KeyLengths::new(builder.input("key_lengths", Elem::I32, [b]))));
        let documents = self.documents.map(|batch| {
            let q_documents = builder.input("q_documents", Elem::I32, batch.dims(b, &[q]));
            Scheme::new(Documents::new(q_documents, builder.input("k_documents", Elem::I32, batch.dims(b, &[k]))))
        });
        let masks = steps.masks(parts)?.into_iter();
        let lengths = lengths.as_ref().and_then(|lengths| parts.mask(lengths));
        let documents = documents.as_ref().and_then(|documents| parts.mask(documents));
        Ok(masks.chain(lengths).chain(documents).reduce(|a, b| a & b))
    }
}

/// Where the first query and the first key stand; `None` is at the end, and at the start.
#[derive(Clone, Copy)]
struct Offsets {
    queries: Option<Source>,
    keys: Option<Source>,
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
