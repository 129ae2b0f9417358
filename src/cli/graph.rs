//! The graph that a command works on: a file, standard input, or options that build the usual attention.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rhumb::ir::{Op, ParseError, ParseFault};
use rhumb::plugins::{Scheme, warnings};
use rhumb::prelude::*;

use super::CliError;
use super::args::PluginArgs;
use super::output::warn;

/// The heading of the options that build a graph.
const USUAL: &str = "Usual attention";

/// The heading of the options that take the graph from a model.
const MODEL: &str = "Layer of a model";

/// Which graph.
#[derive(Debug, clap::Args)]
pub(super) struct GraphArgs {
    /// A graph in the text form; `-` is standard input. In its place, the options below build the usual attention
    #[arg(value_name = "GRAPH", required_unless_present_any = ["heads", "config"])]
    graph: Option<PathBuf>,
    /// A model's `config.json`; `-` is standard input. The graph is the attention of one of its layers
    #[arg(long, help_heading = MODEL, value_name = "FILE", conflicts_with_all = ["graph", "heads"], requires = "layer")]
    config: Option<PathBuf>,
    /// The layer, counted from 0
    #[arg(long, help_heading = MODEL, value_name = "N", requires = "config")]
    layer: Option<u32>,
    /// The decoder's layer, in a model of an encoder and a decoder
    #[arg(long, help_heading = MODEL, requires = "config")]
    decoder: bool,
    /// Query heads
    #[arg(long, help_heading = USUAL, value_name = "N", conflicts_with = "graph", requires = "head_dim")]
    heads: Option<u32>,
    /// Elements of a head
    #[arg(long, help_heading = USUAL, value_name = "N", conflicts_with = "graph", requires = "heads")]
    head_dim: Option<u32>,
    /// Key/value heads, where they are fewer than query heads
    #[arg(long, help_heading = USUAL, value_name = "N", requires = "heads", conflicts_with = "graph")]
    kv_heads: Option<u32>,
    /// Elements of a head of the value, where they are not as many as the key's
    #[arg(long, help_heading = USUAL, value_name = "N", requires = "heads", conflicts_with = "graph")]
    value_dim: Option<u32>,
    /// Element type of `q`, `k`, `v` and `out`
    #[arg(long, help_heading = USUAL, requires = "heads", conflicts_with = "graph", value_parser = elems(), default_value = "f32")]
    elem: Elem,
    /// Element type of `k` and `v`, where it is not that of `q`; `i8` adds inputs `k_scale` and `v_scale`
    #[arg(long, help_heading = USUAL, requires = "heads", conflicts_with = "graph", value_parser = cache_elems())]
    cache_elem: Option<Elem>,
    /// Zero points of keys and values in `i8`: inputs `k_zero` and `v_zero`
    #[arg(long, help_heading = USUAL, requires = "cache_elem", conflicts_with = "graph")]
    zero_points: bool,
    /// Factor on the scores, in place of 1/sqrt(head dim)
    #[arg(long, help_heading = USUAL, value_name = "X", requires = "heads", conflicts_with = "graph", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Caps scores: X tanh(score / X)
    #[arg(long, help_heading = USUAL, value_name = "X", requires = "heads", conflicts_with = "graph")]
    softcap: Option<f64>,
    /// Reads attention sinks, a score per head, from the input `sinks`
    #[arg(long, help_heading = USUAL, requires = "heads", conflicts_with = "graph")]
    sinks: bool,
    /// Also gives `lse`, the log-sum-exp of each row
    #[arg(long, help_heading = USUAL, conflicts_with = "graph")]
    lse: bool,
    /// A query sees no key after itself
    #[arg(long, help_heading = USUAL, requires = "heads", conflicts_with = "graph")]
    causal: bool,
    /// A query sees the last N keys alone, its own included
    #[arg(long, help_heading = USUAL, value_name = "N", requires = "heads", conflicts_with = "graph", allow_negative_numbers = true)]
    window: Option<i32>,
    /// A position scheme or mask, as in 'rope {base = 500000.0}'; may be given again
    #[arg(long, help_heading = USUAL, value_name = "SPEC", requires = "heads", conflicts_with = "graph")]
    scheme: Vec<String>,
    #[command(flatten)]
    plugins: PluginArgs,
}

impl GraphArgs {
    /// The built-in schemes and those of files.
    pub(super) fn registry(&self) -> Result<Registry, CliError> {
        self.plugins.registry()
    }

    /// The graph. What it does that is most likely not meant goes to standard error.
    pub(super) fn load(&self, registry: &Registry) -> Result<Verified, CliError> {
        let graph = self.graph(registry)?;
        // Where schemes can't be lowered, that is the error of what comes next.
        for warning in warnings(&graph, registry).unwrap_or_default() {
            warn(&warning);
        }
        Ok(graph)
    }

    fn graph(&self, registry: &Registry) -> Result<Verified, CliError> {
        if let (Some(path), Some(layer)) = (&self.config, self.layer) {
            return self.of_model(path, layer);
        }
        match (&self.graph, self.heads, self.head_dim) {
            (None, Some(heads), Some(head_dim)) => self.build(heads, head_dim, registry),
            // The command line has one or the other.
            (path, _, _) => read(path.as_deref().unwrap_or(Path::new("-"))),
        }
    }

    fn of_model(&self, path: &Path, layer: u32) -> Result<Verified, CliError> {
        let (text, file) = text_of(path, "configuration")?;
        let refused = |source| CliError::Config { file: file.clone(), source: Box::new(source) };
        let config = ModelConfig::from_json(&text).map_err(refused)?;
        let attention = if self.decoder { config.decoder_layer(layer) } else { config.layer(layer) };
        let attention = attention.map_err(refused)?;
        Ok(if self.lse { attention.lse() } else { attention }.build()?)
    }

    fn build(&self, heads: u32, head_dim: u32, registry: &Registry) -> Result<Verified, CliError> {
        let mut attention = Attention::heads(heads).head_dim(head_dim).elem(self.elem);
        if let Some(elem) = self.cache_elem {
            attention = attention.cache_elem(elem);
        }
        if self.zero_points {
            attention = attention.zero_points();
        }
        if let Some(kv_heads) = self.kv_heads {
            attention = attention.kv_heads(kv_heads);
        }
        if let Some(value_dim) = self.value_dim {
            attention = attention.value_dim(value_dim);
        }
        if let Some(scale) = self.scale {
            attention = attention.scale(scale);
        }
        if let Some(softcap) = self.softcap {
            attention = attention.softcap(softcap);
        }
        if self.sinks {
            attention = attention.sinks();
        }
        if self.lse {
            attention = attention.lse();
        }
        for spec in &self.scheme {
            attention = attention.scheme(scheme(spec, registry)?);
        }
        if let Some(window) = self.window {
            attention = attention.scheme(SlidingWindow::new(window));
        }
        // A causal window hides later keys itself.
        if self.causal && self.window.is_none() {
            attention = attention.scheme(Causal);
        }
        Ok(attention.build()?)
    }
}

fn elems() -> impl TypedValueParser<Value = Elem> {
    one_of(false)
}

fn cache_elems() -> impl TypedValueParser<Value = Elem> {
    one_of(true)
}

fn one_of(cached: bool) -> impl TypedValueParser<Value = Elem> {
    // The parser lets no other names through.
    PossibleValuesParser::new(Attention::elems(cached).map(Elem::name))
        .map(move |name| Attention::elems(cached).find(|elem| elem.name() == name).unwrap_or(Elem::F32))
}

fn read(path: &Path) -> Result<Verified, CliError> {
    let (text, file) = text_of(path, "graph")?;
    Graph::parse(&text).map_err(|source| CliError::Parse { file, source })
}

/// The text of a file or, for `-`, of standard input; and what errors call it.
fn text_of(path: &Path, what: &'static str) -> Result<(String, String), CliError> {
    let unreadable = |source| CliError::Read { what, path: path.to_owned(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok((text, "standard input".to_owned()));
    }
    Ok((fs::read_to_string(path).map_err(unreadable)?, path.display().to_string()))
}

/// The scheme of a specification: a name, and its attributes as the text form has them.
fn scheme(spec: &str, registry: &Registry) -> Result<Scheme, CliError> {
    let (name, attrs, _) = parse_spec(spec, &[])?;
    if attrs.values().any(|attr| matches!(attr, Attr::Value(_))) {
        return Err(CliError::SchemeValue { spec: spec.to_owned(), value: "%0".to_owned() });
    }
    registry.make(&name, &attrs).map_err(|source| CliError::Scheme { spec: spec.to_owned(), source: Box::new(source) })
}

/// Reads a specification with the parser of graphs, as an op of a graph around it: the name and the attributes of a scheme, and the names of
/// values by their number. Attributes may name `values`, and no others.
pub(super) fn parse_spec(spec: &str, values: &[&str]) -> Result<(String, Attrs, Vec<String>), CliError> {
    const BEFORE: &str = "graph spec
axis q = ?
axis k = ?
axis d = 2
%0 = iota q
%1 = iota k
%2 = size k
site @0 { query = q, key = k, dim = d, q_pos = %0, k_pos = %1, q_index = %0, k_index = %1, length = %2 }
";
    // One line, so that a column of the text is a column of the specification.
    let spec = spec.replace(['\n', '\r'], " ");
    let wrong = |column, what| CliError::SchemeSyntax { spec: spec.clone(), column, what };
    let (name, attrs) = spec.split_at(spec.find('{').unwrap_or(spec.len()));
    let (before_attrs, name) = (name.chars().count(), name.trim());
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let what = if name.is_empty() { "there is no scheme".to_owned() } else { format!("`{name}` names no scheme") };
        return Err(wrong(0, what));
    }
    let op = format!("%mask = scheme {name}.mask @0 ");
    let known: String = values.iter().map(|name| format!("%{name} = const 0.0 : f32\n")).collect();
    let text = format!("{BEFORE}{known}{op}{attrs}\noutput \"mask\" = %mask : bool[q, k]\n");
    let graph = Graph::parse(&text).map_err(|ParseError { line, column, fault, .. }| match *fault {
        ParseFault::Unknown { what: "value", name, .. } => CliError::SchemeValue { spec: spec.clone(), value: name },
        // What is missing at the end of a line is missed on the next.
        _ if line > BEFORE.lines().count() + values.len() + 1 => {
            wrong(spec.chars().count(), "the attributes lack a `}`".to_owned())
        }
        fault => wrong((column + before_attrs).saturating_sub(op.len() + 1), fault.finding()),
    })?;
    let found = graph.nodes().iter().find_map(|node| match &node.op {
        Op::Scheme { scheme, attrs, .. } => Some((scheme.clone(), attrs.clone())),
        _ => None,
    });
    let (name, attrs) = found.unwrap_or_default();
    Ok((name, attrs, graph.value_names()))
}
