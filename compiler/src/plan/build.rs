//! The plan of a problem for a machine.

use std::sync::Arc;

use rhumb_ir::Verified;

use super::layout::{scratch_layout, tiling};
use super::{Plan, PlanError, Problem};
use crate::abi::FrameLayout;
use crate::machine::Machine;
use crate::problem::recognize;

/// Plans a fused graph for a machine.
///
/// # Errors
/// [`PlanError`] names the op that has no place in the kernels.
pub fn plan(graph: &Verified, machine: Machine) -> Result<Plan, PlanError> {
    Plan::new(Arc::new(recognize(graph)?), machine)
}

impl Plan {
    /// The plan of a problem for a machine.
    ///
    /// # Errors
    /// [`PlanError::TooLong`] if a head dimension takes more scratch memory than code can address.
    pub fn new(problem: Arc<Problem>, machine: Machine) -> Result<Plan, PlanError> {
        let tiling = tiling(machine);
        let scratch = scratch_layout(&problem, &tiling)?;
        let ranks = problem.tensors.iter().map(|tensor| tensor.dims.len());
        let frame = FrameLayout::new(problem.graph.axes().len(), ranks);
        Ok(Plan { problem, machine, tiling, frame, scratch })
    }
}
