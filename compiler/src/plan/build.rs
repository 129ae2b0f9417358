//! The plan of a problem for a machine.

use std::sync::Arc;

use rhumb_ir::Verified;

use super::distance::by_distance;
use super::hinges::Hinges;
use super::layout::scratch_layout;
use super::turned::products_by_distance;
use super::{Bf16Pairs, Integers, Plan, PlanError, Problem, Runs, Schedule, Tiling};
use crate::abi::FrameLayout;
use crate::machine::Machine;
use crate::problem::recognize;

/// Plans a fused graph for a machine.
///
/// # Errors
/// [`PlanError`] names the op that has no place in the kernels.
pub fn plan(graph: &Verified, machine: Machine) -> Result<Plan, PlanError> {
    Plan::new(&Arc::new(recognize(graph)?), machine)
}

impl Plan {
    /// The plan of a problem by a schedule.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(super) fn with(
        (problem, bf16_pairs, integers): (Arc<Problem>, Bf16Pairs, Integers),
        machine: Machine,
        schedule: Schedule,
        tiling: Tiling,
    ) -> Result<Plan, PlanError> {
        let (by_distance, by_runs, products_by_distance) = if schedule.computes_by_distance() {
            let by_runs = Runs::of(&problem, &tiling, machine.lanes);
            (by_distance(&problem, &by_runs.values), by_runs, products_by_distance(&problem))
        } else {
            (Vec::new(), Runs::default(), Vec::new())
        };
        let made = [&by_distance[..], &by_runs.values].concat();
        let hinges = schedule.computes_by_distance().then(|| Hinges::of(&problem, &made)).flatten();
        // The sum of the products has a row of its own.
        let distances = by_distance.len() + usize::from(!products_by_distance.is_empty());
        let values = (distances, by_runs.values.len(), hinges.as_ref().map_or(0, Hinges::bytes));
        let scratch = scratch_layout(&problem, &tiling, (machine, &schedule, (bf16_pairs, integers), values))?;
        let ranks = problem.tensors.iter().map(|tensor| tensor.dims.len());
        let frame = FrameLayout::new(problem.graph.axes().len(), ranks);
        Ok(Plan {
            problem,
            machine,
            schedule,
            tiling,
            by_distance,
            products_by_distance,
            by_runs,
            hinges,
            bf16_pairs,
            integers,
            frame,
            scratch,
        })
    }
}
