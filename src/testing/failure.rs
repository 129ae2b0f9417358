//! What a check of a scheme found.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rhumb_compiler::Kernels;
use rhumb_ir::{Attr, Attrs, Hook, InterpError, ParseError};
use rhumb_plugins::{BuildError, LowerError, RegistryError, SchemeError};
use rhumb_runtime::{CallError, EngineError, KernelError, ViewError};
use thiserror::Error;

use super::point::Point;
use super::shape::{Positions, Shape};

/// What a check of a scheme found, and where.
#[derive(Debug, Error)]
#[error("scheme `{scheme}` fails the check of {}{}\n  {finding}", finding.check(), at(*.shape, *.positions, .run.as_ref()))]
pub struct TestFailure {
    /// The scheme.
    pub scheme: String,
    /// The sizes, unless it is so at all of them.
    pub shape: Option<Shape>,
    /// The positions.
    pub positions: Option<Positions>,
    /// The kernel, if it is one's.
    pub run: Option<Run>,
    /// What was found.
    pub finding: Box<Finding>,
}

/// The kernels of a target by one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The target, printed: the machine, lanes and code generator.
    pub target: String,
    /// The schedule.
    pub kernels: Kernels,
}

fn at(shape: Option<Shape>, positions: Option<Positions>, run: Option<&Run>) -> String {
    let shape = shape.map(|shape| format!("\n  at {shape}"));
    let positions = positions.map(|positions| format!(", {positions}"));
    let run = run.map(|Run { target, kernels }| format!("\n  by the {} kernel for {target}", kernels.name()));
    [shape, positions, run].into_iter().flatten().collect()
}

/// A score: of which query and which key, each from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The sequence of the batch.
    pub batch: usize,
    /// The head.
    pub head: u32,
    /// The query.
    pub query: usize,
    /// The key.
    pub key: usize,
}

impl Pair {
    pub(super) fn of(&Point { batch, head, query, key, .. }: &Point<'_>) -> Pair {
        Pair { batch, head, query, key }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { batch, head, query, key } = self;
        write!(f, "batch {batch}, head {head}, query {query}, key {key}")
    }
}

/// An element of a kernel's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The output: `out` or `lse`.
    pub output: &'static str,
    /// The sequence of the batch.
    pub batch: usize,
    /// The head.
    pub head: u32,
    /// The query.
    pub query: usize,
    /// The element of the head; 0 of `lse`.
    pub element: usize,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Element { output, batch, head, query, element } = self;
        write!(f, "`{output}`, batch {batch}, head {head}, query {query}, element {element}")
    }
}

/// What a check of a scheme found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Finding {
    /// There is no shape to try.
    #[error("there is no shape to try the scheme at; give `shapes` one at least")]
    NoShapes,
    /// The attention around the scheme can't be built.
    #[error("the graph can't be built: {0}")]
    Build(BuildError),
    /// The scheme refuses the sizes.
    #[error("the scheme refuses: {0}\n  hint: {hint}; sizes of one's own are given by `shapes`", hint = .0.hint())]
    Check(SchemeError),
    /// The scheme does not lower.
    #[error("the graph does not lower: {0}\n  hint: {hint}", hint = .0.hint())]
    Lower(LowerError),
    /// The lowered graph can't be computed.
    #[error("the lowered graph can't be computed: {0}")]
    Interpret(InterpError),

    /// A hook that the scheme implements, and does not list.
    #[error(
        "the scheme implements the {} hook and does not list it: it is never called\n  hint: list the hook in the declaration, \
         beside {}", hook.name(), names(.listed)
    )]
    Unlisted {
        /// The hook.
        hook: Hook,
        /// The hooks that it lists.
        listed: Vec<Hook>,
    },
    /// A hook that the scheme lists, and at which it does nothing.
    #[error(
        "the scheme lists the {} hook and does nothing there, at any shape\n  hint: implement `PositionScheme::{}`, or leave the hook \
         out of the declaration", hook.name(), hook.name()
    )]
    Idle {
        /// The hook.
        hook: Hook,
    },
    /// A hook that `hooks` tells, and the declaration does not.
    #[error("`hooks` tells the {} hook, which the declaration does not: it has {}", hook.name(), names(.declared))]
    Undeclared {
        /// The hook.
        hook: Hook,
        /// Those of the declaration.
        declared: Vec<Hook>,
    },

    /// The registry does not make the scheme.
    #[error("the registry does not make the scheme from its own attributes: {0}")]
    Registry(RegistryError),
    /// The registry makes another scheme.
    #[error("the scheme with attributes {before:?} comes back from the registry with {after:?}")]
    RoundTrip {
        /// What the scheme told.
        before: Attrs,
        /// What the scheme made of that tells.
        after: Attrs,
    },
    /// A scheme that does more than its attributes tell, or something else.
    #[error(
        "the scheme is not what it is written as: the registry's, made from what `attributes` tells, {attrs:?}, lowers to \
         another graph; `attributes` has to tell all that the hooks read, and the registry has to read all of it\n  \
         as given:   {given}\n  as written: {written}"
    )]
    Written {
        /// What it tells.
        attrs: Attrs,
        /// The first line of the lowered graph that differs; empty if it ends before.
        given: String,
        /// The same line of the graph that is read from text.
        written: String,
    },
    /// The scheme lowers, and the registry's, made from what its attributes tell, does not.
    #[error("the graph lowers, and does not once it is read from its text: {0}")]
    LowerWritten(LowerError),
    /// An attribute that is declared but not read, or not told again.
    #[error("the registry's scheme, made with {given:?} for attribute `{attribute}`, does not tell the same of itself")]
    Unread {
        /// The attribute.
        attribute: String,
        /// What was given.
        given: Attr,
    },
    /// The printed graph does not parse.
    #[error("the printed graph does not parse: {error}\n{text}")]
    Parse {
        /// The graph.
        text: String,
        /// What is wrong.
        error: Box<ParseError>,
    },
    /// The printed graph parses to another.
    #[error("the graph\n{before}\nprints as\n{after}\nonce parsed")]
    Print {
        /// The graph.
        before: String,
        /// What was parsed, printed.
        after: String,
    },

    /// A score that differs from the author's.
    #[error("{pair}: expected a score of {expected}, found {found}")]
    Score {
        /// Which score.
        pair: Pair,
        /// The author's score.
        expected: f64,
        /// The scheme's.
        found: f64,
    },
    /// A score that is NaN or infinite, and of which a softmax makes NaN.
    #[error("{pair}: the score is {found}; a score is a finite number, or `-inf` where the key is hidden")]
    NoNumber {
        /// Which score.
        pair: Pair,
        /// The score.
        found: f64,
    },

    /// A score that changes when all positions shift.
    #[error("{pair}: a score of {before} becomes {after} when all positions shift by {shift}")]
    Shift {
        /// Which score.
        pair: Pair,
        /// The shift.
        shift: i32,
        /// The score before.
        before: f64,
        /// The score after.
        after: f64,
    },
    /// A score that changes when query and key change places.
    #[error("{pair}: a score of {score} becomes {swapped} when the query and the key change places")]
    Asymmetry {
        /// Which score.
        pair: Pair,
        /// The score.
        score: f64,
        /// The score of the key as the query.
        swapped: f64,
    },
    /// A score that grows with the distance.
    #[error(
        "{pair}: the same key has a score of {near_score} at a distance of {near} and of {far_score} at {far}, which is farther"
    )]
    Growth {
        /// Which score: that of the farther key.
        pair: Pair,
        /// The distance of the nearer key behind the query.
        near: f64,
        /// Its score.
        near_score: f64,
        /// The distance of the farther key.
        far: f64,
        /// Its score.
        far_score: f64,
    },
    /// A later key that is seen.
    #[error("{pair}: the key comes after the query and has a score of {found}, expected `-inf`")]
    Later {
        /// Which score.
        pair: Pair,
        /// The score.
        found: f64,
    },
    /// Values of the graph that the scheme reads.
    #[error("the scheme reads values of the graph beside queries, keys and positions: {}", .names.join(", "))]
    Parameters {
        /// Inputs of the graph and attributes that are values.
        names: Vec<String>,
    },

    /// There is no engine for the target.
    #[error("there is no engine: {0}")]
    Engine(EngineError),
    /// The compiler refuses the graph.
    #[error("the compiler refuses the graph: {0}")]
    Compile(Box<KernelError>),
    /// A tensor that its elements do not fill.
    #[error("tensor `{tensor}`: {source}")]
    View {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: Box<ViewError>,
    },
    /// The kernel refuses the tensors.
    #[error("the call is refused: {0}")]
    Call(Box<CallError>),
    /// A scheme op that lowering left.
    #[error("a scheme op is left in the fused graph: {op}")]
    Unfused {
        /// The op, printed.
        op: String,
    },
    /// A tensor over queries and keys that the kernel makes.
    #[error("table `{tensor}` of the plan is over queries and keys ({reason}): it is as large as all scores of a head")]
    Materialised {
        /// The table.
        tensor: String,
        /// Why it is made.
        reason: String,
    },
    /// A result that is farther from the interpreter's than the kernel promises.
    #[error("{at}: expected {expected} as the interpreter has it, found {found}, off by more than {bound:e}{}", promise(*.promised))]
    Kernel {
        /// Which element.
        at: Element,
        /// The interpreter's.
        expected: f32,
        /// The kernel's.
        found: f32,
        /// What it may be off by.
        bound: f32,
        /// Whether that is what the kernel promises. Where it promises nothing, the kit holds it to a hundredth.
        promised: bool,
    },
    /// A result that is farther from the author's than the kernel promises.
    #[error("{at}: expected {expected} by the formula, found {found}, off by more than {slack:e}")]
    KernelFormula {
        /// Which element.
        at: Element,
        /// The author's.
        expected: f64,
        /// The kernel's.
        found: f32,
        /// What it may be off by.
        slack: f64,
    },
    /// Golden vectors that could not be written.
    #[error("{path} can't be written: {source}", path = .path.display())]
    Goldens {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl Finding {
    /// Which check it was.
    pub fn check(&self) -> &'static str {
        match self {
            Finding::NoShapes | Finding::Build(_) | Finding::Check(_) => "its attention",
            Finding::Lower(_) | Finding::Interpret(_) => "its mathematics",
            Finding::Unlisted { .. } | Finding::Idle { .. } | Finding::Undeclared { .. } => "its hooks",
            Finding::Registry(_) | Finding::RoundTrip { .. } | Finding::Written { .. } => "its written form",
            Finding::LowerWritten(_) | Finding::Unread { .. } => "its written form",
            Finding::Parse { .. } | Finding::Print { .. } => "its text",
            Finding::Score { .. } => "its formula",
            Finding::NoNumber { .. } => "scores that are numbers",
            Finding::Shift { .. } => "shift invariance",
            Finding::Asymmetry { .. } => "symmetry",
            Finding::Growth { .. } => "decay",
            Finding::Later { .. } => "causality",
            Finding::Parameters { .. } => "freedom of parameters",
            Finding::Engine(_) | Finding::Compile(_) | Finding::View { .. } | Finding::Call(_) => "compilation",
            Finding::Unfused { .. } | Finding::Materialised { .. } => "fusion",
            Finding::Kernel { .. } => "kernels against the interpreter",
            Finding::KernelFormula { .. } => "kernels against the formula",
            Finding::Goldens { .. } => "golden vectors",
        }
    }
}

fn names(hooks: &[Hook]) -> String {
    let names: Vec<String> = hooks.iter().map(|hook| format!("`{}`", hook.name())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn promise(promised: bool) -> &'static str {
    if promised { ", which the kernel promises" } else { "; the kernel promises nothing here" }
}
