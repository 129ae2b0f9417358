//! The graph that a command works on: a file, standard input, or options that build the usual attention.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rhumb::plugins::warnings;
use rhumb::prelude::*;

use super::CliError;
use super::args::PluginArgs;
use super::declared::Declared;
use super::output::warn;
use super::specs::{Named, Spec};

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
    /// A tensor that a scheme takes, as in 'table: f32[bucket=32, h]', which is an input of the graph: then 't5 {table = %table}' names it. Axes
    /// are b, h, q, k, d, or new ones with a length. Queries and keys themselves are %q and %k
    #[arg(long = "input", help_heading = USUAL, value_name = "NAME: TYPE[AXES]", requires = "scheme", conflicts_with = "graph")]
    declared: Vec<Declared>,
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
        let (mut attention, named) = self.with_schemes(attention, registry)?;
        if let Some(window) = self.window {
            attention = attention.scheme(SlidingWindow::new(window));
        }
        // A causal window hides later keys itself.
        if self.causal && self.window.is_none() {
            attention = attention.scheme(Causal);
        }
        let built = attention.build();
        // What is wrong with a declared tensor comes before what came of it.
        named.fault()?;
        Ok(built?)
    }

    /// Adds the schemes. Those that take tensors find them when the graph is built.
    fn with_schemes(&self, mut attention: Attention, registry: &Registry) -> Result<(Attention, Named), CliError> {
        self.declared.iter().try_for_each(Declared::check_open)?;
        let named = Named::new(&self.declared);
        for spec in &self.scheme {
            let spec = Spec::parse(spec, &self.declared)?;
            // What is wrong with the attributes themselves shows now.
            let made = spec.make(registry)?;
            attention = if spec.takes_values() {
                let (named, registry) = (named.clone(), registry.clone());
                attention
                    .scheme_with(move |parts| named.scheme(&spec, parts, &registry).unwrap_or_else(|| made.clone()))
            } else {
                attention.scheme(made)
            };
        }
        Ok((attention, named))
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
