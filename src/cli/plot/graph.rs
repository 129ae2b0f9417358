//! The graph whose scores are drawn.

use rhumb::ir::Op;
use rhumb::plugins::{BuildError, Scheme};
use rhumb::prelude::*;

use super::super::declared::Declared;
use super::super::error::CliError;
use super::super::specs::{Spec, Values};

/// The sizes of an attention, and where its queries stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) heads: u32,
    pub(super) head_dim: u32,
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Index of the first query.
    pub(super) first: usize,
    /// Its position, where that is not its index.
    pub(super) position: Option<i32>,
    /// Tokens so far, where these are not the keys.
    pub(super) length: Option<i32>,
}

/// A graph with one output, `score`, over batch, heads, queries and keys.
#[derive(Debug)]
pub(super) struct ScoreGraph {
    pub(super) graph: Verified,
    /// Whether a scheme transforms queries or keys.
    pub(super) transforms: bool,
}

impl ScoreGraph {
    /// The scores of an attention with these schemes, by their hooks: queries and keys transformed, multiplied, changed, masked.
    pub(super) fn of(
        setting: &Setting,
        specs: &[String],
        declared: &[Declared],
        registry: &Registry,
    ) -> Result<ScoreGraph, CliError> {
        let builder = GraphBuilder::new("scores");
        let Setting { heads, head_dim, first, position, length, .. } = *setting;
        let first = i32::try_from(first).map_err(|_| setting.too_large())?;
        let mut attention = Attention::heads(heads).head_dim(head_dim).value_dim(1).q_offset(first);
        if let Some(length) = length {
            attention = attention.length(length);
        }
        if position.is_some() {
            attention = attention.q_positions(Elem::I32, Batch::Shared).k_positions(Elem::I32, Batch::Shared);
        }
        let (parts, [mut query, mut key, _]) = attention.parts(&builder)?;
        let values = Values::of(&parts, declared)?;
        let scheme = |spec: &String| {
            let made = Spec::parse(spec, declared)?.scheme(&values, registry)?;
            let unfit = |source| CliError::Build(BuildError::Scheme { scheme: made.name().to_owned(), source });
            parts.check(&*made).map_err(unfit)?;
            Ok(made)
        };
        let schemes = specs.iter().map(scheme).collect::<Result<Vec<Scheme>, CliError>>()?;
        for scheme in &schemes {
            query = parts.apply(scheme, Hook::Query, query);
            key = parts.apply(scheme, Hook::Key, key);
        }
        let score = schemes.iter().fold(query.dot(key, parts.d), |x, scheme| parts.apply(scheme, Hook::Score, x));
        let mask = schemes.iter().filter_map(|scheme| parts.mask(scheme)).reduce(|a, b| a & b);
        let score = mask.map_or(score, |mask| score.mask(mask));
        builder.output("score", score, [parts.b, parts.h, parts.q, parts.k]);
        let rows = [Hook::Query, Hook::Key];
        let transforms = schemes.iter().any(|scheme| rows.iter().any(|hook| scheme.hooks().contains(hook)));
        Ok(ScoreGraph { graph: builder.finish().map_err(BuildError::from)?, transforms })
    }
}

impl Setting {
    pub(super) fn too_large(&self) -> CliError {
        let shape = vec![self.heads as usize, self.queries, self.keys];
        CliError::TooLarge { what: "plot", name: "score".to_owned(), shape }
    }

    /// The length of each axis of a tensor that the graph reads.
    pub(super) fn shape(&self, graph: &Verified, dims: &[Axis]) -> Vec<usize> {
        let length = |axis: &Axis| match (graph.static_extent(*axis), graph.axis(*axis).name.as_str()) {
            (Some(length), _) => length as usize,
            (None, "q") => self.queries,
            (None, "k") => self.keys,
            // The batch.
            (None, _) => 1,
        };
        dims.iter().map(length).collect()
    }

    /// The inputs of a graph by name, with their shapes.
    pub(super) fn inputs<'v>(&self, graph: &'v Verified) -> impl Iterator<Item = (&'v str, Vec<usize>)> {
        let setting = *self;
        graph.nodes().iter().filter_map(move |node| match &node.op {
            Op::Input { name, dims, .. } => Some((name.as_str(), setting.shape(graph, dims))),
            _ => None,
        })
    }
}
