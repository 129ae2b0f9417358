//! Kernels of an attention with the scheme, at each target and by each schedule, against the interpreter and the formula.

use rhumb_compiler::plan::Plan;
use rhumb_compiler::{Kernels, Target};
use rhumb_ir::{Bindings, Graph, Op, Verified};
use rhumb_runtime::{Engine, EngineError, ErrorBound, Kernel};

use super::failure::{Element, Finding, Run};
use super::scores::Attended;
use super::shape::{BATCH, Shape};
use super::tensors::{Inputs, Results};

/// What a result may be off by where a kernel promises nothing, relative to it and to 1.
const UNPROMISED: f64 = 1e-2;
/// How far a formula's result may be from the interpreter's, which is rounded to single precision: relative to it and to 1.
const ROUNDED: f64 = 1e-6;

/// The schedules there are.
const SCHEDULES: [Kernels; 2] = [Kernels::Prefill, Kernels::Decode];

/// An engine for each target and each schedule.
pub(super) struct Engines(Vec<[(Run, Engine); 2]>);

/// For which targets a graph is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// For all.
    All,
    /// For one, each in its turn.
    One(usize),
}

/// The most that results of kernels were off by.
#[derive(Clone, Copy, Default)]
pub(super) struct Off {
    pub(super) out: f64,
    pub(super) lse: f64,
}

impl Engines {
    /// The turn of a trial that is one of several.
    pub(super) fn turn(&self, number: usize) -> Turn {
        Turn::One(number % self.0.len().max(1))
    }

    /// Of these targets, or of all that this machine can be.
    pub(super) fn new(targets: &[Target]) -> Result<Engines, EngineError> {
        let host = if targets.is_empty() { Target::host()?.candidates() } else { Vec::new() };
        let mut engines = Vec::new();
        for target in targets.iter().chain(&host) {
            let engine = |kernels| {
                let engine = Engine::builder().target(target.clone()).threads(1).kernels(kernels).build()?;
                Ok::<_, EngineError>((Run { target: target.to_string(), kernels }, engine))
            };
            let [prefill, decode] = SCHEDULES.map(engine);
            engines.push([prefill?, decode?]);
        }
        Ok(Engines(engines))
    }

    /// Compiles and runs a graph by both schedules for the targets whose turn it is, and holds the results to what is expected.
    pub(super) fn check(
        &self,
        turn: Turn,
        (graph, shape): (&Verified, &Shape),
        bindings: &Bindings,
        attended: &Attended,
    ) -> Result<Off, (Option<Run>, Box<Finding>)> {
        let inputs = Inputs::of(bindings).map_err(|finding| (None, Box::new(finding)))?;
        let Some([(_, first), _]) = self.0.first() else { return Ok(Off::default()) };
        let reference = first.reference(graph).map_err(|error| (None, Box::new(Finding::Compile(Box::new(error)))))?;
        let mut interpreted = Results::of(shape);
        interpreted.run(shape, reference.call(), &inputs).map_err(|finding| (None, Box::new(finding)))?;
        let mut most = Off::default();
        let has_turn = |index: usize| turn == Turn::All || turn == Turn::One(index);
        let engines = self.0.iter().enumerate().filter(|(index, _)| has_turn(*index)).flat_map(|(_, engines)| engines);
        for (run, engine) in engines {
            let at = |finding| (Some(run.clone()), Box::new(finding));
            let kernel = engine.compile(graph).map_err(|error| at(Finding::Compile(Box::new(error))))?;
            // Without a kernel of its own the decode schedule is that of prefill, which has run.
            if run.kernels == Kernels::Decode && kernel.decode().is_err() {
                continue;
            }
            fused(kernel.plan()).map_err(at)?;
            if let Ok(decode) = kernel.decode() {
                fused(&decode.plan).map_err(at)?;
            }
            let expected = Expected { interpreted: &interpreted, attended: inputs.exact.then_some(attended) };
            let off = expected.hold(&kernel, shape, &inputs).map_err(at)?;
            most = Off { out: most.out.max(off.out), lse: most.lse.max(off.lse) };
        }
        Ok(most)
    }
}

/// Checks that nothing of the scheme is left but arithmetic, and that no tensor is made over queries and keys.
fn fused(plan: &Plan) -> Result<(), Finding> {
    scheme_op(&plan.graph)?;
    let [queries, keys] = ["q", "k"].map(|name| plan.graph.axis_named(name));
    for table in &plan.tables {
        let Some(tensor) = plan.tensors.get(table.target) else { continue };
        if tensor.dims.iter().any(|axis| Some(*axis) == queries) && tensor.dims.iter().any(|axis| Some(*axis) == keys) {
            return Err(Finding::Materialised { tensor: tensor.name.clone(), reason: table.reason.to_owned() });
        }
    }
    Ok(())
}

fn scheme_op(graph: &Graph) -> Result<(), Finding> {
    match graph.values().find(|value| matches!(graph.op(*value), Op::Scheme { .. })) {
        Some(value) => Err(Finding::Unfused { op: graph.line(value) }),
        None => Ok(()),
    }
}

/// What results are held to.
struct Expected<'e> {
    interpreted: &'e Results,
    /// By the formula, where the kernel is given the very numbers that the formula has.
    attended: Option<&'e Attended>,
}

impl Expected<'_> {
    fn hold(&self, kernel: &Kernel, shape: &Shape, inputs: &Inputs) -> Result<Off, Finding> {
        let (mut made, mut bounds) = (Results::of(shape), Results::of(shape));
        made.run(shape, kernel.call(), inputs)?;
        let promise = kernel.error_bound();
        bounds.run(shape, promise.call(), inputs)?;
        let Results { out, lse } = &self.interpreted;
        let of = |pick: fn(&Attended) -> &Vec<f64>| self.attended.map(|attended| pick(attended).as_slice());
        let dim = shape.head_dim as usize;
        Ok(Off {
            out: output(shape, ("out", dim), (&made.out, out, &bounds.out), of(|attended| &attended.out))?,
            lse: output(shape, ("lse", 1), (&made.lse, lse, &bounds.lse), of(|attended| &attended.lse))?,
        })
    }
}

/// Holds one output to the kernel's bound, and tells how far it was off.
fn output(
    shape: &Shape,
    (name, dim): (&'static str, usize),
    (made, interpreted, bounds): (&[f32], &[f32], &[f32]),
    formula: Option<&[f64]>,
) -> Result<f64, Finding> {
    let mut most = 0.0f64;
    for (index, ((&found, &expected), &bound)) in made.iter().zip(interpreted).zip(bounds).enumerate() {
        let promised = bound.is_finite();
        let bound = if promised { bound } else { (UNPROMISED * (1.0 + f64::from(expected).abs())) as f32 };
        if !ErrorBound::holds(found, expected, bound) {
            let at = Element::of(shape, (name, dim), index);
            return Err(Finding::Kernel { at, expected, found, bound, promised });
        }
        let Some(formula) = formula.map(|formula| formula[index]) else { continue };
        let off = if f64::from(found) == formula { 0.0 } else { (f64::from(found) - formula).abs() };
        let slack = f64::from(bound) + ROUNDED * (1.0 + formula.abs());
        if off > slack || off.is_nan() {
            let at = Element::of(shape, (name, dim), index);
            return Err(Finding::KernelFormula { at, expected: formula, found, slack });
        }
        most = most.max(off);
    }
    Ok(most)
}

impl Element {
    /// The element at an index of an output over batch, heads, queries and `dim` elements.
    fn of(shape: &Shape, (output, dim): (&'static str, usize), index: usize) -> Element {
        let (row, element) = (index / dim, index % dim);
        let (group, query) = (row / shape.queries, row % shape.queries);
        debug_assert!(group < BATCH * shape.heads as usize);
        let heads = shape.heads as usize;
        Element { output, batch: group / heads, head: (group % heads) as u32, query, element }
    }
}

#[cfg(test)]
mod tests {
    use rhumb_plugins::{Attention, Causal};

    use super::*;

    const SHAPE: Shape = Shape { heads: 3, kv_heads: 1, head_dim: 2, queries: 2, keys: 4 };

    fn held(found: f32, bound: f32, formula: Option<f64>) -> String {
        let mut made = vec![0.5f32; 24];
        // Batch 1, head 2, query 0, element 1.
        made[21] = found;
        let formula = formula.map(|at| (0..24).map(|index| if index == 21 { at } else { 0.5 }).collect::<Vec<_>>());
        let found = output(&SHAPE, ("out", 2), (&made, &[0.5; 24], &[bound; 24]), formula.as_deref());
        found.map_or_else(|finding| format!("{}: {finding}", finding.check()), |most| format!("within {most:.3}"))
    }

    #[test]
    fn results_are_held_to_what_kernels_promise() {
        assert_eq!(held(0.625, 0.25, None), "within 0.000");
        assert_eq!(held(0.625, 0.25, Some(0.5)), "within 0.125");
        assert_eq!(held(0.503, f32::INFINITY, None), "within 0.000");
        insta::assert_snapshot!(held(0.625, 0.0625, Some(0.5)), @"kernels against the interpreter: `out`, batch 1, head 2, query 0, element 1: expected 0.5 as the interpreter has it, found 0.625, off by more than 6.25e-2, which the kernel promises");
        insta::assert_snapshot!(held(0.75, f32::INFINITY, None), @"kernels against the interpreter: `out`, batch 1, head 2, query 0, element 1: expected 0.5 as the interpreter has it, found 0.75, off by more than 1.5e-2; the kernel promises nothing here");
        insta::assert_snapshot!(held(f32::NAN, 0.25, None), @"kernels against the interpreter: `out`, batch 1, head 2, query 0, element 1: expected 0.5 as the interpreter has it, found NaN, off by more than 2.5e-1, which the kernel promises");
        insta::assert_snapshot!(held(0.5, 0.25, Some(1.0)), @"kernels against the formula: `out`, batch 1, head 2, query 0, element 1: expected 1 by the formula, found 0.5, off by more than 2.50002e-1");
        assert!(held(0.5, 0.25, Some(f64::NAN)).starts_with("kernels against the formula"));
    }

    #[test]
    fn scheme_ops_that_are_left_are_found() {
        let graph = Attention::heads(2).head_dim(8).scheme(Causal).build().expect("a graph");
        let found = scheme_op(&graph).expect_err("it is not lowered").to_string();
        assert!(found.starts_with("a scheme op is left in the fused graph: ") && found.contains("causal"), "{found}");
        let lowered = rhumb_plugins::lower(&graph, &rhumb_plugins::Registry::empty()).expect("lowers");
        assert!(scheme_op(&lowered).is_ok());
    }
}
