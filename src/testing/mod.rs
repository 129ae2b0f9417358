//! The test kit for authors of schemes: one call that says whether a scheme is what its author means it to be, down to machine code.
//!
//! [`SchemeTest`] tries a scheme at many shapes: odd numbers of tokens, one query, long rows, heads that share keys, numbers of heads that are
//! no powers of two. The batch has two sequences, whose positions differ and are nothing like the indices: what reads the one for the other
//! is found. [`SchemeTest::run`] checks, in this order,
//!
//! - that the hooks that the scheme lists are those at which it does something;
//! - that the scheme's graph survives its text form; and with a registry, that the scheme is what it is written as (the registry's, made from
//!   its attributes, lowers to the same graph), and that its entry reads what it declares;
//! - that every score is a number, and the one of the author's formula, by the interpreter;
//! - what is claimed: that scores [stay as they are when positions shift](SchemeTest::shift_invariant), that a query and a key [can change
//!   places](SchemeTest::symmetric), that scores [do not grow with the distance](SchemeTest::decays), that [no later
//!   key](SchemeTest::causal) is seen, that there are [no parameters](SchemeTest::parameter_free);
//! - that the compiler takes it, by every schedule there is, for every code generator and lane count of this machine (at the last of the shapes;
//!   at the others for one of them in turn); that nothing of it is left in the fused kernel but arithmetic, and no tensor is made over queries
//!   and keys; and that each kernel's results are the interpreter's within [`Kernel::error_bound`](rhumb_runtime::Kernel::error_bound), and
//!   those of the formula.
//!
//! The first that does not hold is the error: which check, at which sizes, by which kernel, of which query and key, what was expected and what
//! was found.
//!
//! ```
//! use rhumb::prelude::*;
//! use rhumb::testing::SchemeTest;
//!
//! let slopes = |heads| Alibi::official_slopes(heads);
//! SchemeTest::new(&Registry::standard(), Alibi::new)
//!     .agrees_with(move |p| p.score() - slopes(p.heads)[p.head as usize] * (p.q_pos - p.k_pos))
//!     .shift_invariant()
//!     .parameter_free()
//!     .run()?;
//! # Ok::<(), rhumb::testing::TestFailure>(())
//! ```
//!
//! The page `docs/writing-a-scheme.md` of the repository goes the whole way, from a formula to a kernel.

mod failure;
mod goldens;
mod hooks;
mod kernels;
mod point;
mod properties;
mod samples;
mod scores;
mod shape;
mod subject;
mod tensors;
mod written;

use std::path::{Path, PathBuf};

use rhumb_compiler::Target;
use rhumb_ir::{Tensor, Verified};
use rhumb_plugins::{AttentionParts, Registry, Scheme, lower};

pub use failure::{Element, Finding, Pair, Run, TestFailure};
pub use point::Point;
pub use shape::{Positions, Shape};

use kernels::{Engines, Turn};
use properties::Claims;
use shape::{SHAPES, Trial};
use subject::{Outputs, Rows, Subject};

type Formula<'a> = Box<dyn Fn(&Point<'_>) -> f64 + 'a>;

/// Checks of one scheme: see the [module](self).
#[must_use = "nothing is checked until `run`"]
pub struct SchemeTest<'a> {
    registry: Option<&'a Registry>,
    subject: Subject<'a>,
    shapes: Option<Vec<Shape>>,
    targets: Vec<Target>,
    formula: Option<Formula<'a>>,
    claims: Claims,
    goldens: Option<PathBuf>,
}

impl<'a> SchemeTest<'a> {
    /// Checks of the scheme that `make` makes; `registry` has its entry, or is `None` for a scheme without one, of which nothing is written.
    pub fn new<S>(registry: impl Into<Option<&'a Registry>>, make: impl Fn() -> S + 'a) -> SchemeTest<'a>
    where
        S: Into<Scheme>,
    {
        SchemeTest::with_inputs(registry, move |_| make())
    }

    /// Checks of a scheme that takes values of the graph: inputs that `make` adds and [`input`](SchemeTest::input) binds.
    pub fn with_inputs<S>(
        registry: impl Into<Option<&'a Registry>>,
        make: impl for<'g> Fn(&AttentionParts<'g>) -> S + 'a,
    ) -> SchemeTest<'a>
    where
        S: Into<Scheme>,
    {
        SchemeTest {
            registry: registry.into(),
            subject: Subject::new(Box::new(move |cx| make(cx).into())),
            shapes: None,
            targets: Vec::new(),
            formula: None,
            claims: Claims::default(),
            goldens: None,
        }
    }

    /// The tensor bound to an input that the scheme was given, at each shape. The batch has two sequences.
    ///
    /// Kernels read it in single precision. They are held to the formula too where its numbers are numbers of single precision, and to the
    /// interpreter always.
    pub fn input(mut self, name: &str, tensor: impl Fn(&Shape) -> Tensor + 'a) -> SchemeTest<'a> {
        self.subject.bind(name, Box::new(tensor));
        self
    }

    /// Tries these shapes in place of the usual ones.
    ///
    /// The usual ones have as many heads as a list among the scheme's attributes has numbers, where they do not fit otherwise: slopes of 12
    /// heads are tried at 12 heads.
    pub fn shapes(self, shapes: &[Shape]) -> SchemeTest<'a> {
        SchemeTest { shapes: Some(shapes.to_vec()), ..self }
    }

    /// Compiles for these targets in place of all that this machine can be; where it is one, at every shape.
    pub fn targets(self, targets: &[Target]) -> SchemeTest<'a> {
        SchemeTest { targets: targets.to_vec(), ..self }
    }

    /// Compares every score with this function of one query and one key: the score, or `-inf` where the query does not attend.
    pub fn agrees_with(self, formula: impl Fn(&Point<'_>) -> f64 + 'a) -> SchemeTest<'a> {
        SchemeTest { formula: Some(Box::new(formula)), ..self }
    }

    /// Claims that scores stay as they are when the positions of all queries and keys shift alike.
    pub fn shift_invariant(mut self) -> SchemeTest<'a> {
        self.claims.shift_invariant = true;
        self
    }

    /// Claims that a score stays as it is when the query and the key change places, with their positions. It is for schemes without inputs over
    /// queries or keys, which the kit does not exchange.
    pub fn symmetric(mut self) -> SchemeTest<'a> {
        self.claims.symmetric = true;
        self
    }

    /// Claims that the score of a query and the same key does not grow as the key moves backwards from the query's position. With
    /// [`symmetric`](SchemeTest::symmetric) it does not grow forwards either.
    pub fn decays(mut self) -> SchemeTest<'a> {
        self.claims.decays = true;
        self
    }

    /// Claims that no query attends to a token after it.
    pub fn causal(mut self) -> SchemeTest<'a> {
        self.claims.causal = true;
        self
    }

    /// Claims that the scheme has no learned parameters: it reads no value of the graph but queries, keys and positions.
    pub fn parameter_free(mut self) -> SchemeTest<'a> {
        self.claims.parameter_free = true;
        self
    }

    /// Writes golden vectors to this folder once all checks have passed: for each shape that is not empty a file of tensors in the form of
    /// [safetensors](https://docs.rs/safetensors), and a line in `manifest.json` that says what they are. Lines of other cases stay.
    ///
    /// A file holds what the attention is given (`q`, `k`, `v`, positions, inputs), and `out` and `lse` as the formula has them, or without a
    /// formula the interpreter, computed in double precision and stored in single.
    pub fn goldens(self, folder: impl AsRef<Path>) -> SchemeTest<'a> {
        SchemeTest { goldens: Some(folder.as_ref().to_owned()), ..self }
    }

    /// Runs the checks.
    ///
    /// # Errors
    /// The first [`TestFailure`].
    pub fn run(&self) -> Result<(), TestFailure> {
        let trials = self.trials();
        let Some(first) = trials.first() else { return Err(self.failure(None, None, Finding::NoShapes)) };
        hooks::check(&self.subject, &trials).map_err(|(trial, finding)| self.failure(trial, None, *finding))?;
        let engines = Engines::new(&self.targets).map_err(|error| self.failure(None, None, Finding::Engine(error)))?;
        let mut cases = Vec::new();
        for (number, trial) in trials.iter().enumerate() {
            // Every target at the last shape. At the others one, for a few trials on end: those of one graph come together.
            let everywhere = trial.positions == Positions::Given && number + 2 == trials.len();
            let turn = if everywhere { Turn::All } else { engines.turn(number / 3) };
            let checked = self.at(trial, (&engines, turn));
            cases.extend(checked.map_err(|(run, finding)| self.failure(Some(*trial), run, *finding))?);
        }
        let Some(folder) = &self.goldens else { return Ok(()) };
        let written = goldens::write(folder, &cases);
        written.map_err(|(path, source)| self.failure(Some(*first), None, Finding::Goldens { path, source }))
    }

    /// Shapes with positions of their own, and the last of them with indices for positions too.
    fn trials(&self) -> Vec<Trial> {
        let shapes = match &self.shapes {
            Some(shapes) => shapes.clone(),
            None => SHAPES.iter().map(|shape| self.subject.fitted(shape)).collect(),
        };
        let given = shapes.iter().map(|shape| Trial { shape: *shape, positions: Positions::Given });
        let indices = shapes.last().map(|shape| Trial { shape: *shape, positions: Positions::Indices });
        given.chain(indices).collect()
    }

    fn at(
        &self,
        trial: &Trial,
        (engines, turn): (&Engines, Turn),
    ) -> Result<Option<goldens::Case>, (Option<Run>, Box<Finding>)> {
        let of_no_kernel = |finding| (None, Box::new(finding));
        let (graph, scheme) = self.subject.graph(trial, Outputs::Scores).map_err(of_no_kernel)?;
        let lowered = self.written(&graph, &scheme).map_err(of_no_kernel)?;
        let bindings = self.subject.bindings(trial, Rows::Random, 0);
        let found = scores::scores(&lowered, &bindings).map_err(of_no_kernel)?;
        scores::are_numbers(trial, &found).map_err(of_no_kernel)?;
        let expected = match &self.formula {
            Some(formula) => scores::compare(trial, &found, formula).map_err(of_no_kernel)?,
            None => found.clone(),
        };
        self.claims.check((&self.subject, trial), &*scheme, &lowered, &found).map_err(of_no_kernel)?;
        let (graph, _) = self.subject.graph(trial, Outputs::Attention).map_err(of_no_kernel)?;
        let attended = scores::attended(&trial.shape, &expected);
        let off = engines.check(turn, (&graph, &trial.shape), &bindings, &attended)?;
        let writes = self.goldens.is_some() && trial.shape.scores() > 0;
        let case = || goldens::Case::new(trial, &*scheme, self.formula.is_some(), (&bindings, &attended), off);
        writes.then(case).transpose().map_err(of_no_kernel)
    }

    /// The lowered graph, checked against what is written of the scheme.
    fn written(&self, graph: &Verified, scheme: &Scheme) -> Result<Verified, Finding> {
        if let Some(registry) = self.registry {
            written::made_again(registry, &**scheme)?;
            written::entry(registry, &**scheme, graph)?;
        }
        let parsed = written::text_round_trip(graph)?;
        // The graph carries the scheme.
        let lowered = lower(graph, &Registry::empty()).map_err(Finding::Lower)?;
        written::text_round_trip(&lowered)?;
        if let Some(registry) = self.registry {
            written::written(registry, &**scheme, &lowered, &parsed)?;
        }
        Ok(lowered)
    }

    fn failure(&self, trial: Option<Trial>, run: Option<Run>, finding: Finding) -> TestFailure {
        let scheme = self.subject.scheme(&trial.map_or(SHAPES[0], |trial| trial.shape));
        TestFailure {
            scheme: scheme.map_or_else(|_| "?".to_owned(), |scheme| scheme.name().to_owned()),
            shape: trial.map(|trial| trial.shape),
            positions: trial.map(|trial| trial.positions),
            run,
            finding: Box::new(finding),
        }
    }
}
