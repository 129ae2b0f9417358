//! The scheme that is checked, the graphs around it, and the tensors they are bound to.

use rhumb_ir::{Attr, Bindings, Elem, Expr, GraphBuilder, Hook, Tensor, Verified};
use rhumb_plugins::{Attention, AttentionParts, Batch, Registry, Scheme, lower};
use rhumb_random::Rng;

use super::failure::Finding;
use super::shape::{BATCH, Positions, Shape, Trial};

type Make<'a> = Box<dyn for<'g> Fn(&AttentionParts<'g>) -> Scheme + 'a>;
type Bind<'a> = Box<dyn Fn(&Shape) -> Tensor + 'a>;

/// The scheme that is checked.
pub(super) struct Subject<'a> {
    make: Make<'a>,
    inputs: Vec<(String, Bind<'a>)>,
}

/// What queries and keys hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Numbers of their own.
    Random,
    /// Those of the keys and the queries.
    Swapped,
    /// The same for all queries, and for all keys.
    Alike,
}

/// What a graph tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// `score`, masked.
    Scores,
    /// `out` and `lse`.
    Attention,
}

impl<'a> Subject<'a> {
    pub(super) fn new(make: Make<'a>) -> Subject<'a> {
        Subject { make, inputs: Vec::new() }
    }

    pub(super) fn bind(&mut self, name: &str, tensor: Bind<'a>) {
        self.inputs.push((name.to_owned(), tensor));
    }

    /// The attention that a scheme is tried in, and the scheme.
    pub(super) fn placed<'g>(
        &self,
        builder: &'g GraphBuilder,
        trial: &Trial,
    ) -> Result<(AttentionParts<'g>, [Expr<'g>; 3], Scheme), Finding> {
        let Shape { heads, kv_heads, head_dim, .. } = trial.shape;
        let mut attention = Attention::heads(heads).head_dim(head_dim).kv_heads(kv_heads);
        if trial.positions == Positions::Given {
            attention = attention.q_positions(Elem::I32, Batch::Each).k_positions(Elem::I32, Batch::Each);
        }
        let (parts, inputs) = attention.parts(builder).map_err(Finding::Build)?;
        let scheme = (self.make)(&parts);
        Ok((parts, inputs, scheme))
    }

    /// The scheme, made for some sizes.
    pub(super) fn scheme(&self, shape: &Shape) -> Result<Scheme, Finding> {
        let builder = GraphBuilder::new("scheme_test");
        let trial = Trial { shape: *shape, positions: Positions::Given };
        self.placed(&builder, &trial).map(|(_, _, scheme)| scheme)
    }

    /// A graph around the scheme.
    pub(super) fn graph(&self, trial: &Trial, outputs: Outputs) -> Result<(Verified, Scheme), Finding> {
        let builder = GraphBuilder::new("scheme_test");
        let (parts, [query, key, value], scheme) = self.placed(&builder, trial)?;
        parts.check(&*scheme).map_err(Finding::Check)?;
        let query = parts.apply(&scheme, Hook::Query, query);
        let key = parts.apply(&scheme, Hook::Key, key);
        let score = query.dot(key, parts.d) * trial.shape.scale();
        let score = parts.apply(&scheme, Hook::Score, score);
        let score = parts.mask(&scheme).map_or(score, |mask| score.mask(mask));
        match outputs {
            Outputs::Scores => builder.output("score", score, [parts.b, parts.h, parts.q, parts.k]),
            Outputs::Attention => {
                parts.output(score, value, None);
                parts.output_lse(score, None);
            }
        }
        let graph = builder.finish().map_err(|error| Finding::Build(error.into()))?;
        Ok((graph, scheme))
    }

    /// The shape, or where the scheme does not fit it the same with as many heads as one of its lists has numbers: slopes of 12 heads are
    /// tried at 12 heads.
    pub(super) fn fitted(&self, shape: &Shape) -> Shape {
        let fits = |shape: &Shape| {
            let graph = self.graph(&Trial { shape: *shape, positions: Positions::Given }, Outputs::Scores);
            graph.is_ok_and(|(graph, _)| lower(&graph, &Registry::empty()).is_ok())
        };
        if fits(shape) {
            return *shape;
        }
        let Ok(scheme) = self.scheme(shape) else { return *shape };
        let lengths = scheme.attributes().into_iter().filter_map(|(name, attr)| match attr {
            Attr::List(list) if scheme.info().attribute(&name)?.range.length.is_none() => {
                u32::try_from(list.len()).ok()
            }
            _ => None,
        });
        let mut with_heads = lengths.filter(|heads| *heads > 0).map(|heads| shape.with_heads(heads));
        with_heads.find(fits).unwrap_or(*shape)
    }

    /// What the graph is bound to: the batch has two sequences.
    pub(super) fn bindings(&self, trial: &Trial, rows: Rows, shift: i32) -> Bindings {
        let shape = &trial.shape;
        let (queries, keys) = match rows {
            Rows::Random => (query_data(shape), key_data(shape)),
            Rows::Swapped => (key_data(shape), query_data(shape)),
            Rows::Alike => (repeated(1, shape.query_shape()), repeated(2, shape.key_shape())),
        };
        let mut bindings = Bindings::from([
            ("q".to_owned(), Tensor::f32(shape.query_shape(), queries)),
            ("k".to_owned(), Tensor::f32(shape.key_shape(), keys)),
            ("v".to_owned(), Tensor::f32(shape.key_shape(), value_data(shape))),
        ]);
        if trial.positions == Positions::Given {
            let positions = |first: i64, n: usize| {
                let of = move |batch| (first..first + n as i64).map(move |i| trial.position(batch, i) as i32 + shift);
                Tensor::i32([BATCH, n], (0..BATCH).flat_map(of))
            };
            bindings.insert("q_pos".to_owned(), positions(shape.first_query(), shape.queries));
            bindings.insert("k_pos".to_owned(), positions(0, shape.keys));
        }
        for (name, bind) in &self.inputs {
            bindings.insert(name.clone(), bind(shape));
        }
        bindings
    }
}

pub(super) fn query_data(shape: &Shape) -> Vec<f64> {
    noise(1, shape.query_shape().iter().product())
}

pub(super) fn key_data(shape: &Shape) -> Vec<f64> {
    noise(2, shape.key_shape().iter().product())
}

pub(super) fn value_data(shape: &Shape) -> Vec<f64> {
    noise(3, shape.key_shape().iter().product())
}

/// One row for all tokens.
fn repeated(seed: u64, shape: [usize; 4]) -> Vec<f64> {
    let [batch, heads, tokens, dim] = shape;
    noise(seed, dim).into_iter().cycle().take(batch * heads * tokens * dim).collect()
}

/// Numbers from -1 to 1, the same for a seed, each a number of single precision.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| f64::from((2.0 * rng.unit() - 1.0) as f32)).collect()
}
