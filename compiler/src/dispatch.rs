//! Which kernel a call takes, by its lengths.
//!
//! A graph has a prefill kernel, which takes calls of any lengths, and for the most part a decode kernel, which takes those of few queries
//! in less time. The code of the decode kernel is made when it is first called for.

use std::fmt;

use rhumb_ir::Axis;

use crate::codegen::{self, Clif, CodegenError, MachineCode};
use crate::plan::{Attention, NoDecode, Plan};
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
}

impl DecodeKernel {
    /// The decode kernel of a problem that has a prefill plan, for one of the candidates of a target.
    ///
    /// # Errors
    /// [`NoDecode`] says why there is none.
    pub(crate) fn of(prefill: &Plan, target: &Target, kernels: Kernels) -> Result<DecodeKernel, NoDecode> {
        let mut refused = NoDecode::NotAsked;
        if kernels == Kernels::Prefill {
            return Err(refused);
        }
        // The widest vectors come first.
        for target in target.candidates() {
            match Plan::decode(&prefill.problem, target.machine()) {
                Ok(plan) => {
                    let most_rows = (kernels == Kernels::Cheapest).then(|| most_rows(&plan, prefill));
                    return if most_rows == Some(0) {
                        Err(NoDecode::Costs)
                    } else {
                        Ok(DecodeKernel { plan, target, most_rows })
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
