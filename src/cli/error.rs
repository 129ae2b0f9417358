//! What can go wrong, and how it is told: `error:`, where, `hint:`.

use std::io;
use std::path::{Path, PathBuf};

use rhumb::compiler::rewrite::RewriteError;
use rhumb::compiler::{CompileError, TargetError};
use rhumb::ir::{InterpError, ParseError};
use rhumb::plugins::{BuildError, ConfigError, RegistryError};
use rhumb::runtime::{CallError, EngineError, InterfaceError, KernelError, ViewError};
use safetensors::SafeTensorError;
use thiserror::Error;

/// What stands in front of a scheme specification in an error.
const SCHEME_MARGIN: usize = "  in scheme '".len();

/// Why a command was not done.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// Standard output can't be written.
    #[error("can't write to standard output: {source}")]
    Output { source: io::Error },
    /// A file can't be read.
    #[error("can't read {what} `{}`: {source}", path.display())]
    Read { what: &'static str, path: PathBuf, source: io::Error },
    /// A file can't be written.
    #[error("can't write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A text that is no graph.
    #[error("{}", located(.source, .file))]
    Parse { file: String, source: ParseError },
    /// A file of schemes that can't be taken.
    #[error("{}", plugin_fault(.file, .source))]
    Plugin { file: PathBuf, source: Box<RegistryError> },
    /// A scheme specification that can't be read.
    #[error("{what}\n  in scheme '{spec}'\n{:1$}^", "", SCHEME_MARGIN + column)]
    SchemeSyntax { spec: String, column: usize, what: String },
    /// A scheme that there is not.
    #[error("{}\n  in scheme '{spec}'", source.finding())]
    Scheme { spec: String, source: Box<RegistryError> },
    /// A name that no scheme has.
    #[error("{}", .0.finding())]
    NoScheme(Box<RegistryError>),
    /// A model's configuration that gives no attention.
    #[error("{}\n  in {file}", source.finding())]
    Config { file: String, source: Box<ConfigError> },
    /// The usual graph can't be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no such engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A stage refused the graph.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The graph has no kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No tensors fit the graph.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The tensors do not fit the graph.
    #[error("{}", call_fault(.0))]
    Call(#[from] CallError),
    /// The tensors can't be viewed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The share of pairs that the mask lets through can't be counted.
    #[error("can't count the pairs that masks let through: {reason}")]
    Count { reason: String },
    /// A file that is no safetensors file, or lies.
    #[error("`{}` is no sound safetensors file: {}", path.display(), format_fault(.source))]
    Format { path: PathBuf, source: SafeTensorError },
    /// An input that the file does not have.
    #[error("`{}` has no tensor `{name}`, which the graph reads as {expected}", path.display())]
    NoTensor { path: PathBuf, name: String, expected: String, suggestion: Option<String>, known: Vec<String> },
    /// A tensor of an element type that the graph does not read.
    #[error("tensor `{name}` of `{}` holds {found}, but the graph reads {expected}", path.display())]
    TensorType { path: PathBuf, name: String, found: String, wanted: String, expected: String },
    /// A length given for an axis that the graph does not have.
    #[error("--dims names axis `{axis}`, which the graph does not have")]
    UnknownAxis { axis: String, suggestion: Option<String>, known: Vec<String> },
    /// A length that disagrees with the graph.
    #[error("--dims says that axis `{axis}` is {given} long, but the graph fixes it at {fixed}")]
    FixedAxis { axis: String, given: usize, fixed: usize },
    /// A length that disagrees with a tensor.
    #[error("--dims says that axis `{axis}` is {given} long, but input `{input}` has {found} there")]
    ClashingAxis { axis: String, given: usize, input: String, found: usize },
    /// A length that nothing tells.
    #[error("nothing tells how long axis `{axis}` is")]
    UntoldAxis { axis: String, example: String },
    /// The head of a plot that there is not.
    #[error("--head {head} is none of the {heads} heads")]
    PlotHead { head: u32, heads: u32 },
    /// A query with fewer keys before it than distances ask for.
    #[error("query {query} has no key at distance {to}")]
    PlotQuery { query: i64, to: i64 },
    /// A map of more queries than keys.
    #[error("a map of {queries} queries and {keys} keys has queries before the first key")]
    PlotQueries { queries: usize, keys: usize },
    /// A patch that the grid does not have.
    #[error("patch {patch} lies outside of a grid of {grid}")]
    PlotPatch { patch: String, grid: String },
    /// A position that is no `i32`.
    #[error("position {position} is beyond those that tokens can have")]
    PlotPosition { position: i64 },
    /// More scores than a plot computes.
    #[error("{heads} heads x {queries} queries x {keys} keys are more than the {most} scores of a plot")]
    PlotSize { heads: u32, queries: usize, keys: usize, most: usize },
    /// A tensor of a scheme that can't be declared so.
    #[error("--input '{name}: ...': {what}")]
    Declared { name: String, what: String },
    /// A value that a scheme names and nothing declares.
    #[error("nothing declares the value `{value}`\n  in scheme '{spec}'")]
    Undeclared { spec: String, value: String, known: Vec<String> },
    /// A tensor that a scheme needs.
    #[error("the scheme takes a tensor as attribute `{attr}`{}\n  in scheme '{spec}'", told(summary))]
    SchemeTensor { spec: String, attr: String, summary: String },
    /// The scores of a plot can't be computed.
    #[error("can't compute the scores: {source}")]
    Interpret { source: InterpError },
    /// Numbers that are too great to be drawn.
    #[error("can't draw a score of {found:e}: the greatest is {most:e}")]
    PlotNumber { found: f64, most: f64 },
    /// A picture without anything in it.
    #[error("there is nothing to draw: none of the {count} scores is finite")]
    PlotNothing { count: usize },
    /// A picture of an unknown format.
    #[error("`{}` ends in neither .svg nor .png", path.display())]
    PlotFormat { path: PathBuf },
    /// A picture that can't be drawn.
    #[error("can't draw the picture: {reason}")]
    Draw { reason: String },
    /// A graph without tiles.
    #[error("the graph has no attention whose tiles could be drawn, or the call has no queries")]
    NoTiles,
    /// An axis that tiles do not lie along.
    #[error("--at names axis `{axis}`, which attentions of the graph do not stand along")]
    TileAxis { axis: String, known: Vec<String> },
    /// An attention that the call does not have.
    #[error("the call has no attention at {at}")]
    TileIndex { at: String },
    /// A tensor that memory does not hold.
    #[error("{what} `{name}` of shape {shape:?} is larger than memory can hold")]
    TooLarge { what: &'static str, name: String, shape: Vec<usize> },
}

impl CliError {
    /// The whole message, as it goes to standard error.
    pub(crate) fn report(&self) -> String {
        let message = match self {
            // The parser's own report starts with `error:` and ends with its hint.
            CliError::Parse { .. } => self.to_string(),
            CliError::Plugin { source, .. } if matches!(**source, RegistryError::Text { .. }) => {
                return self.to_string();
            }
            _ => format!("error: {self}"),
        };
        match self.hint() {
            Some(hint) => format!("{message}\n  hint: {hint}"),
            None => message,
        }
    }

    /// 1 where the input is wrong, 2 where the command line is.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CliError::SchemeSyntax { .. }
            | CliError::Scheme { .. }
            | CliError::NoScheme(_)
            | CliError::Build(_)
            | CliError::Target(_)
            | CliError::Engine(_)
            | CliError::UnknownAxis { .. }
            | CliError::PlotHead { .. }
            | CliError::PlotQuery { .. }
            | CliError::PlotQueries { .. }
            | CliError::PlotPatch { .. }
            | CliError::PlotPosition { .. }
            | CliError::PlotSize { .. }
            | CliError::Declared { .. }
            | CliError::Undeclared { .. }
            | CliError::SchemeTensor { .. }
            | CliError::PlotFormat { .. }
            | CliError::TileAxis { .. }
            | CliError::TileIndex { .. }
            | CliError::FixedAxis { .. }
            | CliError::UntoldAxis { .. } => 2,
            _ => 1,
        }
    }

    /// What would mend it, where the message does not say so itself.
    fn hint(&self) -> Option<String> {
        Some(match self {
            CliError::Output { .. } => "see that the disk has room and the file can be written".to_owned(),
            CliError::Read { what, source, .. } => match source.kind() {
                io::ErrorKind::NotFound if *what == "graph" => {
                    "give a graph's text file, `-` for standard input, --config and --layer, or --heads and --head-dim"
                        .to_owned()
                }
                io::ErrorKind::InvalidData => "give a text file in UTF-8".to_owned(),
                io::ErrorKind::NotFound => "check the path".to_owned(),
                _ => "give a file that can be read".to_owned(),
            },
            CliError::Write { .. } => "give a path in a folder that exists and can be written".to_owned(),
            CliError::SchemeSyntax { .. } => {
                "write a name, and attributes if it takes any, as in 'rope {base = 500000.0}'".to_owned()
            }
            CliError::Scheme { source, .. } | CliError::NoScheme(source) => match &**source {
                RegistryError::Unknown { suggestion: Some(name), .. } => {
                    format!("did you mean `{name}`? `rhumb schemes` lists all")
                }
                RegistryError::Unknown { .. } => "`rhumb schemes` lists all".to_owned(),
                other => other.hint(),
            },
            CliError::Plugin { source, .. } => source.hint(),
            CliError::Config { source, .. } => match **source {
                ConfigError::NoLayer { layers, .. } if layers > 0 => {
                    format!("give --layer a number from 0 to {}", layers - 1)
                }
                _ => source.hint(),
            },
            CliError::Compile(CompileError::Rewrite(RewriteError::NoProof { .. })) => return None,
            CliError::Call(CallError::Extent { order: Some(order), .. }) => {
                format!("store it with its dimensions in the order {order:?}, the first being 0")
            }
            CliError::Call(CallError::Extent { .. }) => {
                "give a tensor of that length, or a graph for this one".to_owned()
            }
            CliError::Format { source, .. } => format_hint(source).to_owned(),
            CliError::NoTensor { suggestion: Some(name), .. } => {
                format!("did you mean `{name}`? rename it to what the graph reads")
            }
            CliError::NoTensor { known, .. } if known.is_empty() => "the file has no tensors at all".to_owned(),
            CliError::NoTensor { known, .. } => format!("the file has {}", list(known)),
            CliError::TensorType { wanted, .. } => format!("convert it to {wanted}"),
            CliError::UnknownAxis { suggestion: Some(name), .. } => format!("did you mean `{name}`?"),
            CliError::UnknownAxis { known, .. } => format!("its axes are {}", list(known)),
            CliError::FixedAxis { axis, .. } => format!("leave `{axis}` out, or change the graph"),
            CliError::ClashingAxis { axis, .. } => format!("leave `{axis}` out, or give other inputs"),
            CliError::UntoldAxis { example, .. } => format!("add --dims {example}"),
            CliError::NoTiles => "give a graph with a softmax over keys, and --dims above 0".to_owned(),
            CliError::TileAxis { known, .. } => format!("they stand along {}", list(known)),
            CliError::TileIndex { .. } => "indices are counted from 0".to_owned(),
            CliError::TooLarge { .. } => "give smaller lengths".to_owned(),
            CliError::Count { .. } => "give smaller lengths".to_owned(),
            _ => return self.plot_hint(),
        })
    }

    /// What would mend a mistake in what a plot is asked for.
    fn plot_hint(&self) -> Option<String> {
        Some(match self {
            CliError::PlotHead { heads, .. } => format!("give one from 0 to {}", heads.saturating_sub(1)),
            CliError::PlotQuery { to, .. } => format!("give --query {to} or more, or lesser --distances"),
            CliError::PlotQueries { keys, .. } => format!("give at most {keys} queries, or more keys"),
            CliError::PlotPatch { .. } => "rows and columns are counted from 0".to_owned(),
            CliError::PlotPosition { .. } => "give a --position nearer to 0, or fewer tokens".to_owned(),
            CliError::PlotSize { .. } => "give fewer heads, or smaller lengths or distances".to_owned(),
            CliError::Undeclared { known, .. } => {
                format!("declare it, as in --input 'table: f32[bucket=32, h]'; known are {}", list(known))
            }
            CliError::SchemeTensor { attr, .. } => {
                format!(
                    "declare one and name it, as in '... {{{attr} = %x}}' --input 'x: f32[n=32, h]'; queries and keys themselves are `%q` and `%k`"
                )
            }
            CliError::PlotNothing { .. } => {
                "look at other --distances, or at a --map: masks may hide all of these".to_owned()
            }
            CliError::PlotNumber { .. } => "give tensors or attributes of smaller numbers".to_owned(),
            CliError::PlotFormat { .. } => "end the file's name in .svg or .png".to_owned(),
            _ => return None,
        })
    }
}

/// A parser's report that says which file it is about.
fn located(error: &ParseError, file: &str) -> String {
    let ParseError { line, column, .. } = error;
    error.to_string().replacen(&format!("--> line {line}, column {column}"), &format!("--> {file}:{line}:{column}"), 1)
}

/// What is wrong with a file of schemes; some errors name the file themselves.
fn plugin_fault(file: &Path, error: &RegistryError) -> String {
    match error {
        RegistryError::Text { .. } | RegistryError::File { .. } => error.finding(),
        error => format!("{}\n  in {}", error.finding(), file.display()),
    }
}

/// What is wrong with a call, where its own words speak to a programmer.
fn call_fault(error: &CallError) -> String {
    match error {
        CallError::Extent { direction, name, expected, shape, axis, dim, wanted, .. } => format!(
            "{direction} `{name}` has shape {shape:?}, but axis `{axis}` (dimension {dim} of {expected}) is {wanted} long"
        ),
        other => other.to_string(),
    }
}

/// What is wrong with a safetensors file.
fn format_fault(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::HeaderTooSmall => "it ends before its header begins".to_owned(),
        SafeTensorError::InvalidHeaderLength => "its header is said to be longer than the file".to_owned(),
        SafeTensorError::HeaderTooLarge => "its header is said to be longer than headers can be".to_owned(),
        SafeTensorError::InvalidHeader(_) => "its header is not UTF-8".to_owned(),
        SafeTensorError::InvalidHeaderDeserialization(source) | SafeTensorError::JsonError(source) => {
            format!("its header can't be read: {source}")
        }
        SafeTensorError::MetadataIncompleteBuffer => "its last tensor does not end where the file does".to_owned(),
        SafeTensorError::InvalidOffset(name) => format!("tensor `{name}` does not begin where the one before it ends"),
        SafeTensorError::TensorInvalidInfo => "a tensor has more or fewer bytes than its shape and type".to_owned(),
        SafeTensorError::ValidationOverflow => "the shape of a tensor has more elements than can be counted".to_owned(),
        other => other.to_string(),
    }
}

fn format_hint(error: &SafeTensorError) -> &'static str {
    match error {
        SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength
        | SafeTensorError::MetadataIncompleteBuffer => "it may be cut short: copy or write it again",
        SafeTensorError::InvalidOffset(_)
        | SafeTensorError::TensorInvalidInfo
        | SafeTensorError::ValidationOverflow
        | SafeTensorError::MisalignedSlice => {
            "its header contradicts itself: write it again with the safetensors library"
        }
        _ => "give a file that the safetensors library wrote",
    }
}

/// What is documented, behind what it is about.
fn told(summary: &str) -> String {
    if summary.is_empty() { String::new() } else { format!(": {summary}") }
}

fn list(names: &[String]) -> String {
    const MOST: usize = 12;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
