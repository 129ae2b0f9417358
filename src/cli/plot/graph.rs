//! The graph whose scores are drawn.

use std::collections::BTreeMap;

use rhumb::ir::Op;
use rhumb::plugins::{AttentionParts, RegistryError, Scheme};
use rhumb::prelude::*;

use super::super::error::CliError;
use super::super::graph::parse_spec;
use super::declared::Declared;

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
        let values = values(&parts, declared)?;
        let schemes: Vec<Scheme> =
            specs.iter().map(|spec| scheme(spec, &parts, &values, registry)).collect::<Result<_, _>>()?;
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
        Ok(ScoreGraph { graph: builder.finish().map_err(rhumb::plugins::BuildError::from)?, transforms })
    }
}

/// What schemes can name: values of the attention, and declared tensors.
fn values<'g>(parts: &AttentionParts<'g>, declared: &[Declared]) -> Result<BTreeMap<String, Expr<'g>>, CliError> {
    let site = [
        ("q", parts.query()),
        ("k", parts.key()),
        ("q_pos", parts.q_pos()),
        ("k_pos", parts.k_pos()),
        ("q_index", parts.q_index()),
        ("k_index", parts.k_index()),
        ("length", parts.length()),
    ];
    let mut values: BTreeMap<String, Expr<'g>> =
        site.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for tensor in declared {
        let input = tensor.input(parts)?;
        if values.insert(tensor.name.clone(), input).is_some() {
            let what = "the name is taken: give it another".to_owned();
            return Err(CliError::PlotInput { name: tensor.name.clone(), what });
        }
    }
    Ok(values)
}

/// The scheme of a specification, in whose attributes values stand by name.
fn scheme(
    spec: &str,
    parts: &AttentionParts<'_>,
    values: &BTreeMap<String, Expr<'_>>,
    registry: &Registry,
) -> Result<Scheme, CliError> {
    let names: Vec<&str> = values.keys().map(String::as_str).collect();
    let undeclared = |value: &str| {
        let known = names.iter().map(|name| format!("%{name}")).collect();
        CliError::PlotValue { spec: spec.to_owned(), value: value.to_owned(), known }
    };
    let (name, mut attrs, told) = parse_spec(spec, &names).map_err(|error| match error {
        CliError::SchemeValue { value, .. } => undeclared(&value),
        other => other,
    })?;
    for attr in attrs.values_mut() {
        if let Attr::Value(value) = attr {
            // The text that the specification was read in has values of its own.
            let name = told.get(value.index()).map_or("?", String::as_str);
            *value = values.get(name).ok_or_else(|| undeclared(&format!("%{name}")))?.value();
        }
    }
    let made = registry.make(&name, &attrs).map_err(|source| refused(spec, &name, source, registry))?;
    let unfit = |source| CliError::Build(rhumb::plugins::BuildError::Scheme { scheme: name.clone(), source });
    parts.check(&*made).map_err(unfit)?;
    Ok(made)
}

/// Why a scheme was not made: where a tensor is missing, with a declaration that would give it.
fn refused(spec: &str, name: &str, source: RegistryError, registry: &Registry) -> CliError {
    let missing = match &source {
        RegistryError::Attrs { source: SchemeError::AttrMissing { name, .. }, .. } => Some(name.clone()),
        _ => None,
    };
    let info = registry.info(name).ok();
    let wanted = missing.and_then(|attr| info?.attribute(&attr).cloned());
    match wanted {
        Some(attr) if attr.kind == rhumb::plugins::AttrKind::Value => {
            CliError::PlotTensor { spec: spec.to_owned(), attr: attr.name, summary: attr.doc }
        }
        _ => CliError::Scheme { spec: spec.to_owned(), source: Box::new(source) },
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
