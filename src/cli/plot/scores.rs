//! Scores by the reference interpreter.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use rhumb::compiler::CompileError;
use rhumb::ir::{Bindings, Tensor, interpret};
use rhumb::plugins::lower;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, OwnedTensor};

use super::super::declared::Declared;
use super::super::error::CliError;
use super::super::random::Random;
use super::super::tensor;
use super::super::tensors::read;
use super::graph::{ScoreGraph, Setting};

/// The most scores of a plot.
const MOST_SCORES: usize = 1 << 22;

/// What queries and keys hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Content {
    /// Zeros where only scores are changed, and by something that does not depend on them; equal elements otherwise
    #[default]
    Auto,
    /// Zeros: what is added to the score
    Zero,
    /// The same in every element, so that q . k = 1
    Equal,
    /// Numbers of a normal distribution over sqrt(head dim)
    Random,
}

/// What scores are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is added to a product of queries and keys.
    Bias,
    /// The whole score.
    Score,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Bias => "bias",
            Kind::Score => "score",
        }
    }
}

/// Where the tensors of schemes come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensors<'a> {
    pub(super) declared: &'a [Declared],
    /// A file that has them all.
    pub(super) file: Option<&'a Path>,
    pub(super) seed: u64,
}

/// The scores of a call, masked: `-inf` where a query does not see a key.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    pub(super) kind: Kind,
    queries: usize,
    keys: usize,
    /// Over heads, queries and keys.
    data: Vec<f64>,
}

impl Scores {
    /// The scores of an attention with these schemes.
    pub(super) fn of(
        setting: &Setting,
        specs: &[String],
        tensors: &Tensors<'_>,
        content: Content,
        registry: &Registry,
    ) -> Result<Scores, CliError> {
        let count = setting.queries.checked_mul(setting.keys).and_then(|n| n.checked_mul(setting.heads as usize));
        if count.is_none_or(|count| count > MOST_SCORES) {
            return Err(CliError::PlotSize {
                heads: setting.heads,
                queries: setting.queries,
                keys: setting.keys,
                most: MOST_SCORES,
            });
        }
        let ScoreGraph { graph, transforms } = ScoreGraph::of(setting, specs, tensors.declared, registry)?;
        let lowered = lower(&graph, registry).map_err(CompileError::Lower)?;
        let declared = declared(setting, &lowered, tensors)?;
        let data = |content| {
            let bindings = bindings(setting, &lowered, &declared, (content, tensors.seed))?;
            let mut outputs = interpret(&lowered, &bindings).map_err(|source| CliError::Interpret { source })?;
            Ok::<_, CliError>(outputs.remove("score").map(|tensor| tensor.data).unwrap_or_default())
        };
        let (kind, data) = match content {
            Content::Auto if transforms => (Kind::Score, data(Content::Equal)?),
            Content::Auto => {
                let (zero, equal) = (data(Content::Zero)?, data(Content::Equal)?);
                // A bias is added to any product alike: here to one of 1.
                let added = zero.iter().zip(&equal).all(|(zero, equal)| is_added(*zero, *equal));
                if added { (Kind::Bias, zero) } else { (Kind::Score, equal) }
            }
            Content::Zero => (Kind::Bias, data(Content::Zero)?),
            Content::Equal | Content::Random => (Kind::Score, data(content)?),
        };
        Ok(Scores { kind, queries: setting.queries, keys: setting.keys, data })
    }

    /// The scores of a head, queries by keys.
    pub(super) fn head(&self, head: u32) -> &[f64] {
        let size = self.queries * self.keys;
        self.data.get(head as usize * size..(head as usize + 1) * size).unwrap_or_default()
    }

    /// A score; NaN for a pair that there is not.
    pub(super) fn at(&self, head: u32, query: usize, key: usize) -> f64 {
        self.head(head).get(query * self.keys + key).copied().unwrap_or(f64::NAN)
    }
}

fn is_added(zero: f64, equal: f64) -> bool {
    zero == equal - 1.0 || (zero + 1.0 - equal).abs() <= 1e-9 * (1.0 + zero.abs()) || zero.is_nan() && equal.is_nan()
}

/// The tensors of schemes: of the file, or as they are declared.
fn declared(setting: &Setting, graph: &Verified, tensors: &Tensors<'_>) -> Result<BTreeMap<String, Tensor>, CliError> {
    let mut made = BTreeMap::new();
    let file = match tensors.file {
        None => BTreeMap::new(),
        Some(path) => {
            let interface = Interface::of(graph)?;
            let is_declared = |name: &str| tensors.declared.iter().any(|declared| declared.name == name);
            let ports: Vec<_> = interface.inputs().iter().filter(|port| is_declared(&port.name)).cloned().collect();
            read(&interface, &ports, path)?
        }
    };
    for (name, shape) in setting.inputs(graph) {
        let Some(declared) = tensors.declared.iter().find(|declared| declared.name == name) else { continue };
        let tensor = match file.get(name) {
            Some(owned) => to_tensor(owned, name)?,
            None => declared.tensor(&shape, tensors.seed, setting.keys.saturating_sub(1))?,
        };
        made.insert(name.to_owned(), tensor);
    }
    Ok(made)
}

fn to_tensor(owned: &OwnedTensor, name: &str) -> Result<Tensor, CliError> {
    tensor::to_tensor(owned).ok_or_else(|| CliError::TooLarge {
        what: "input",
        name: name.to_owned(),
        shape: owned.shape().to_vec(),
    })
}

/// The inputs of a graph, queries and keys with some content.
fn bindings(
    setting: &Setting,
    graph: &Verified,
    declared: &BTreeMap<String, Tensor>,
    (content, seed): (Content, u64),
) -> Result<Bindings, CliError> {
    let mut bindings = Bindings::new();
    for (name, shape) in setting.inputs(graph) {
        let tensor = match (declared.get(name), name) {
            (Some(tensor), _) => tensor.clone(),
            (None, "q_pos") => positions(setting, 0, setting.queries)?,
            (None, "k_pos") => positions(setting, setting.first, setting.keys)?,
            (None, _) => rows(name, &shape, setting.head_dim, (content, seed))?,
        };
        bindings.insert(name.to_owned(), tensor);
    }
    Ok(bindings)
}

/// Positions one after the other, `back` before that of the first query.
fn positions(setting: &Setting, back: usize, count: usize) -> Result<Tensor, CliError> {
    let first = i64::from(setting.position.unwrap_or(0)) - back as i64;
    let of = |place: usize| {
        let position = first + place as i64;
        i32::try_from(position).map_err(|_| CliError::PlotPosition { position })
    };
    let positions = (0..count).map(of).collect::<Result<Vec<i32>, CliError>>()?;
    Ok(Tensor::i32([count], positions))
}

/// Queries or keys.
fn rows(name: &str, shape: &[usize], head_dim: u32, (content, seed): (Content, u64)) -> Result<Tensor, CliError> {
    let scale = 1.0 / f64::from(head_dim).sqrt();
    let mut owned = match content {
        Content::Random => Random::new(seed, name).tensor(name, Elem::F32, shape.to_vec(), 0)?,
        _ => tensor::zeros("input", name, Elem::F32, shape.to_vec())?,
    };
    if content == Content::Equal {
        owned.fill_with(|_| 1.0);
    }
    let mut tensor = to_tensor(&owned, name)?;
    tensor.data.iter_mut().for_each(|x| *x *= scale);
    Ok(tensor)
}
