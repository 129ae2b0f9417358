//! The stages from a graph to machine code, run one after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rhumb_ir::Verified;
use rhumb_plugins::{LowerError, Registry, lower};
use thiserror::Error;

use crate::choice::{Choice, choose};
use crate::codegen::{self, Clif, CodegenError, MachineCode};
use crate::dispatch::{DecodeKernel, Form, Kernels};
use crate::plan::{NoDecode, Plan, PlanError};
use crate::problem::recognize;
use crate::rewrite::{Fused, RewriteError, RewriteOptions, fuse};
use crate::target::Target;

/// A stage of compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The user's graph, scheme ops included.
    Graph,
    /// Primitive ops only.
    Lowered,
    /// After rewriting.
    Fused,
    /// Loops, tiles and tables.
    Plan,
    /// CLIF functions.
    Clif,
    /// Machine code, disassembled.
    Assembly,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 6] = [Stage::Graph, Stage::Lowered, Stage::Fused, Stage::Plan, Stage::Clif, Stage::Assembly];

    /// The name that the `rhumb` command uses.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Graph => "ir",
            Stage::Lowered => "lowered",
            Stage::Fused => "fused",
            Stage::Plan => "plan",
            Stage::Clif => "clif",
            Stage::Assembly => "asm",
        }
    }

    /// The content of the stage, in one line.
    pub fn description(self) -> &'static str {
        match self {
            Stage::Graph => "the graph as described, with its position schemes",
            Stage::Lowered => "the graph with schemes expanded into primitive ops",
            Stage::Fused => "the graph after rewriting",
            Stage::Plan => "tables, loops and tiles",
            Stage::Clif => "Cranelift functions",
            Stage::Assembly => "machine code, disassembled",
        }
    }
}

/// Why a graph was not compiled.
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A scheme could not be lowered.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// Rewriting failed.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// The graph has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Code could not be generated.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
}

rhumb_ir::debug_as_display!(CompileError);

/// Options of a compilation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Classes of rewriting rules, and limits.
    pub rewrite: RewriteOptions,
    /// The kernels that calls may take.
    pub kernels: Kernels,
    /// Whether the disassembly is kept with the machine code.
    pub disassemble: bool,
}

/// The time a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The stage that was made.
    pub stage: Stage,
    /// The time it took.
    pub time: Duration,
}

/// The first stage: a graph of primitive ops only, which says all that the kernel will do.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph with schemes expanded.
    pub graph: Verified,
    /// The time it took.
    pub time: Duration,
}

impl Lowered {
    /// The graph with schemes expanded: those it carries, and of those it names alone, the registry's.
    ///
    /// # Errors
    /// [`LowerError`] says which scheme, which op and why.
    pub fn of(graph: &Verified, registry: &Registry) -> Result<Lowered, LowerError> {
        let start = Instant::now();
        Ok(Lowered { graph: lower(graph, registry)?, time: start.elapsed() })
    }
}

/// Every stage of one compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph with schemes expanded.
    pub lowered: Verified,
    /// The graph after rewriting.
    pub fused: Fused,
    /// The candidate of the target that it is compiled for, and why.
    pub choice: Choice,
    /// The plan.
    pub plan: Plan,
    /// The CLIF functions.
    pub clif: Clif,
    /// The machine code.
    pub code: MachineCode,
    /// The kernel that calls of few queries take, or why there is none.
    pub decode: Result<DecodeKernel, NoDecode>,
    /// The time that each stage took.
    pub timings: Vec<Timing>,
}

impl Compiled {
    /// The time of all stages together.
    pub fn time(&self) -> Duration {
        self.timings.iter().map(|timing| timing.time).sum()
    }
}

/// Compiles a graph for the cheapest of the target's candidates; `observer` sees every stage as soon as it is made, printed on demand: the
/// plan with its [`ErrorBound`](crate::error_bound::ErrorBound) and the [`Choice`] beneath it.
///
/// # Errors
/// [`CompileError`] from the stage that failed.
pub fn compile(
    graph: &Verified,
    registry: &Registry,
    target: &Target,
    options: &Options,
    observer: &mut dyn FnMut(Stage, &dyn Fn() -> String),
) -> Result<Compiled, CompileError> {
    observer(Stage::Graph, &|| graph.to_string());
    compile_lowered(Lowered::of(graph, registry)?, target, options, observer)
}

/// As [`compile`], from the second stage on.
///
/// # Errors
/// [`CompileError`] from the stage that failed.
pub fn compile_lowered(
    Lowered { graph: lowered, time }: Lowered,
    target: &Target,
    options: &Options,
    observer: &mut dyn FnMut(Stage, &dyn Fn() -> String),
) -> Result<Compiled, CompileError> {
    let mut timings = vec![Timing { stage: Stage::Lowered, time }];
    observer(Stage::Lowered, &|| lowered.to_string());
    let fused = timed(&mut timings, Stage::Fused, || fuse(&lowered, &options.rewrite))?;
    observer(Stage::Fused, &|| fused.to_string());
    let ((plan, choice), decode) = timed(&mut timings, Stage::Plan, || {
        let problem = Arc::new(recognize(fused.graph())?);
        let (plan, choice) = choose(&problem, target)?;
        let few = fused.few_queries().map(|few| recognize(few).map(Arc::new));
        let decode = DecodeKernel::of((&problem, &plan), few.as_ref(), target, options.kernels);
        Ok::<_, PlanError>(((plan, choice), decode))
    })?;
    let target = choice.target();
    observer(Stage::Plan, &|| format!("{plan}{}{choice}{}", plan.error_bound(), described(&decode)));
    let clif = timed(&mut timings, Stage::Clif, || codegen::emit(&plan, target))?;
    observer(Stage::Clif, &|| clif.to_string());
    let code = timed(&mut timings, Stage::Assembly, || codegen::assemble(&clif, target, options.disassemble))?;
    observer(Stage::Assembly, &|| code.to_string());
    Ok(Compiled { lowered, fused, choice, plan, clif, code, decode, timings })
}

/// The decode kernel in print: which calls take it, and its plan; or why there is none.
fn described(decode: &Result<DecodeKernel, NoDecode>) -> String {
    match decode {
        Ok(kernel) => {
            let DecodeKernel { plan, target, form, .. } = kernel;
            // Of another form, all is another.
            let plan = if matches!(form, Form::Own { .. }) { plan.to_string() } else { plan.schedule_text() };
            format!("decode kernel, for {kernel}: {target}\n{form}{plan}")
        }
        Err(NoDecode::NoAttention) => String::new(),
        Err(reason) => format!("no decode kernel: {reason}\n"),
    }
}

fn timed<T, E>(timings: &mut Vec<Timing>, stage: Stage, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let made = make()?;
    timings.push(Timing { stage, time: start.elapsed() });
    Ok(made)
}
