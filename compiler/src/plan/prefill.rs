//! The prefill schedule: many queries, whose tiles take turns at key tiles.

use std::sync::Arc;

use super::layout::tiling;
use super::place::load_rows;
use super::{Bf16Pairs, Integers, Loaded, Plan, PlanError, Problem, Schedule, TensorId};
use crate::machine::{LANE_BYTES, Machine};
use crate::rewrite::Regime;

/// What is decided of a prefill kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prefill {
    /// Tables of rows that are not made: rows are computed for each key tile, once for the query tiles that take turns at it.
    pub loaded: Vec<Loaded>,
}

impl Plan {
    /// The plan of a problem for a machine, for any number of queries.
    ///
    /// # Errors
    /// [`PlanError::TooLong`] if a head dimension takes more scratch memory than code can address.
    pub fn new(problem: &Arc<Problem>, machine: Machine) -> Result<Plan, PlanError> {
        let (mut problem, bf16_pairs) = Bf16Pairs::of(problem, machine);
        let schedule = Schedule::Prefill(Prefill { loaded: load_rows(&mut problem, Regime::ManyQueries, true) });
        Plan::with((problem, bf16_pairs, Integers::default()), machine, schedule, tiling(machine))
    }

    /// Whether a function of its own makes rows of a key tile, which those that add it to query tiles read.
    pub fn loads_rows(&self) -> bool {
        let pairs = self.bf16_pairs.factor.is_some() || self.bf16_pairs.values;
        matches!(&self.schedule, Schedule::Prefill(prefill) if pairs || !prefill.loaded.is_empty())
    }

    /// Where in the scratch memory the rows of a tensor are that are made so, and the bytes from one to the next; none of other tensors.
    pub(crate) fn loaded_rows(&self, tensor: TensorId) -> Option<(usize, usize)> {
        let Schedule::Prefill(prefill) = &self.schedule else { return None };
        let mut place = self.scratch.loaded_rows;
        for loaded in &prefill.loaded {
            let pitch = loaded.row_bytes(self, self.machine);
            if loaded.table.target == tensor {
                return Some((place, pitch));
            }
            place += self.tiling.keys * pitch;
        }
        None
    }
}

impl Loaded {
    /// Bytes of a row in single precision, which ends with a whole vector.
    pub(super) fn row_bytes(&self, problem: &Problem, machine: Machine) -> usize {
        let length = self.table.inner.and_then(|dim| problem.graph.static_extent(dim)).unwrap_or(0);
        LANE_BYTES * (length as usize).next_multiple_of(machine.lanes)
    }
}
