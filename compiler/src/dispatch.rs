//! Which kernel a call takes, by its lengths.
//!
//! A graph has a prefill kernel, which takes calls of any lengths, and for the most part a decode kernel, which takes those of few queries
//! in less time. The code of the decode kernel is made when it is first called for. Where calls of few queries cost less by a form of the
//! graph of their own, the decode kernel computes that.

use std::fmt;
use std::sync::Arc;

use rhumb_ir::Axis;

use crate::codegen::{self, Clif, CodegenError, MachineCode};
use crate::machine::Machine;
use crate::plan::{Attention, NoDecode, Plan, PlanError, Problem};
use crate::target::Target;

/// Kernels that calls may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// For each call the one that costs less.
    #[default]
    Cheapest,
    /// The prefill kernel alone.
    Prefill,
    /// The decode kernel for calls of any lengths, where the graph has one.
    Decode,
}

impl Kernels {
    /// All choices.
    pub const ALL: [Kernels; 3] = [Kernels::Cheapest, Kernels::Prefill, Kernels::Decode];

    /// The name that the `rhumb` command uses.
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Cheapest => "cheapest",
            Kernels::Prefill => "prefill",
            Kernels::Decode => "decode",
        }
    }
}

/// The decode kernel of a graph.
#[derive(Clone, Debug)]
pub struct DecodeKernel {
    /// Its plan.
    pub plan: Plan,
    /// What it is compiled for.
    pub target: Target,
    /// The most rows that it takes: queries, each of as many heads as share keys and values; none if it takes any number.
    pub most_rows: Option<usize>,
    /// Which form of the graph it computes.
    pub form: Form,
}

/// The form of a graph that a decode kernel computes. It prints, with the price of the one that is not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// That of the prefill kernel: there is no other.
    Only,
    /// One of its own, which takes these cycles for a key in a call of one query.
    Own {
        /// Its cycles.
        cycles: f64,
        /// Those that the form of the prefill kernel would take.
        shared: f64,
    },
    /// That of the prefill kernel, which takes these cycles for a key in a call of one query.
    Shared {
        /// Its cycles.
        cycles: f64,
        /// Those that the other form would take.
        own: f64,
    },
    /// That of the prefill kernel: the other, which rewriting has for few queries, has no plan.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Nothing, where there is one form.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Only => Ok(()),
            Form::Own { cycles, shared } => writeln!(
                f,
                "  the form for few queries: {cycles:.1} cycles a key for one query, where that for many takes {shared:.1}"
            ),
            Form::Shared { cycles, own } => writeln!(
                f,
                "  the form for many queries: {cycles:.1} cycles a key for one query, where that for few takes {own:.1}"
            ),
            Form::Refused { reason } => {
                writeln!(f, "  the form for many queries; that for few has no plan: {reason}")
            }
        }
    }
}

impl DecodeKernel {
    /// The decode kernel of a graph that has a prefill plan, for one of the candidates of a target; `own` is the problem of the form for few
    /// queries, if that is another.
    ///
    /// # Errors
    /// [`NoDecode`] says why there is none.
    pub(crate) fn of(
        prefill: &Plan,
        own: Option<&Result<Arc<Problem>, PlanError>>,
        target: &Target,
        kernels: Kernels,
    ) -> Result<DecodeKernel, NoDecode> {
        let mut refused = NoDecode::NotAsked;
        if kernels == Kernels::Prefill {
            return Err(refused);
        }
        // The widest vectors come first.
        for target in target.candidates() {
            match of_form(&prefill.problem, own, target.machine()) {
                Ok((plan, form)) => {
                    let most_rows = (kernels == Kernels::Cheapest).then(|| most_rows(&plan, prefill));
                    return if most_rows == Some(0) {
                        Err(NoDecode::Costs)
                    } else {
                        Ok(DecodeKernel { plan, target, most_rows, form })
                    };
                }
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// Whether it takes a call of these lengths.
    pub fn takes(&self, length: impl Fn(Axis) -> usize) -> bool {
        let Some(most) = self.most_rows else { return true };
        let rows = |attention: &Attention| length(attention.query).saturating_mul(attention.queries_per_position());
        self.plan.attention.as_ref().is_some_and(|attention| rows(attention) <= most)
    }

    /// Its machine code; with `disassemble`, with the disassembly.
    ///
    /// # Errors
    /// [`CodegenError`] if an op can't be emitted.
    pub fn compile(&self, disassemble: bool) -> Result<MachineCode, CodegenError> {
        codegen::assemble(&self.emit()?, &self.target, disassemble)
    }

    /// Its CLIF functions.
    ///
    /// # Errors
    /// [`CodegenError`] if an op can't be emitted.
    pub fn emit(&self) -> Result<Clif, CodegenError> {
        codegen::emit(&self.plan, &self.target)
    }
}

/// The plan of the form that costs less for one query; of equals, of the form that prefill has.
fn of_form(
    shared: &Arc<Problem>,
    own: Option<&Result<Arc<Problem>, PlanError>>,
    machine: Machine,
) -> Result<(Plan, Form), NoDecode> {
    let shared = Plan::decode(shared, machine);
    let own = match own {
        None => return Ok((shared?, Form::Only)),
        Some(Err(error)) => return Ok((shared?, Form::Refused { reason: error.to_string() })),
        Some(Ok(own)) => Plan::decode(own, machine),
    };
    match (own, shared) {
        (Ok(own), Ok(shared)) => {
            let [of_own, of_shared] = [&own, &shared].map(Plan::step_cycles);
            Ok(if of_own < of_shared {
                (own, Form::Own { cycles: of_own, shared: of_shared })
            } else {
                (shared, Form::Shared { cycles: of_shared, own: of_own })
            })
        }
        (Ok(own), Err(_)) => {
            let cycles = own.step_cycles();
            Ok((own, Form::Own { cycles, shared: f64::INFINITY }))
        }
        (Err(reason), shared) => Ok((shared?, Form::Refused { reason: reason.to_string() })),
    }
}

/// The most rows for which a plan of the decode schedule costs no more than one of prefill.
fn most_rows(decode: &Plan, prefill: &Plan) -> usize {
    let costs_less = |rows: &usize| decode.key_cycles(*rows) <= prefill.key_cycles(*rows);
    (1..=decode.tiling.queries()).rev().find(costs_less).unwrap_or(0)
}

/// The calls that it takes.
impl fmt::Display for DecodeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(attention) = &self.plan.attention else { return Ok(()) };
        let query = &self.plan.graph.axis(attention.query).name;
        match self.most_rows {
            None => write!(f, "calls of any number of queries"),
            Some(most) => {
                let queries = most / attention.queries_per_position().max(1);
                write!(f, "calls of up to {queries} along `{query}`")
            }
        }
    }
}
