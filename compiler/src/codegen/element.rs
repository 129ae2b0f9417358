//! The elements of a table: what is computed, and how it is stored.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use rhumb_ir::ElemKind;

use super::error::CodegenError;
use super::expr::ExprEmitter;
use super::stored;
use crate::plan::{Source, Storage, Table, TensorId};

/// Computes the element of a step's target at the current point, and stores the one of its second table, if it has one.
pub(super) fn compute(emitter: &mut ExprEmitter<'_, '_>, step: &Table) -> Result<Ssa, CodegenError> {
    match &step.source {
        Source::Value(value) => emitter.emit(*value),
        Source::Sum(terms) => {
            let sum = emitter.sum(terms)?;
            let Some(low) = step.second else { return Ok(sum) };
            let (high, rest) = emitter.v.parts(sum);
            store_to(emitter, low, rest)?;
            Ok(high)
        }
        Source::Cos(angle) | Source::Sin(angle) => {
            let angle = emitter.emit(*angle)?;
            let (sin, cos) = emitter.v.sin_cos(angle);
            if let Some(sines) = step.second {
                store_to(emitter, sines, sin)?;
            }
            Ok(cos)
        }
        Source::Squares { .. } => Err(CodegenError::Unsupported {
            op: emitter.plan.tensors[step.target].name.clone(),
            reason: "squared norms are made row by row",
        }),
    }
}

/// Stores the element of a step's target at the current point.
pub(super) fn store(emitter: &mut ExprEmitter<'_, '_>, step: &Table, x: Ssa) -> Result<(), CodegenError> {
    store_to(emitter, step.target, x)
}

fn store_to(emitter: &mut ExprEmitter<'_, '_>, target: TensorId, x: Ssa) -> Result<(), CodegenError> {
    let address = emitter.address(target, &[])?;
    let double = emitter.v.shape.double;
    let storage = emitter.plan.tensors[target].storage;
    let x = match storage {
        Storage::Of(elem) if double && elem.kind() == ElemKind::Real => emitter.v.demote(x),
        Storage::F64 if !double => emitter.fb().ins().fpromote(types::F64, x),
        Storage::Mask => {
            let wide = emitter.fb().ins().uextend(types::I32, x);
            emitter.fb().ins().ineg(wide)
        }
        Storage::Of(_) | Storage::F64 => x,
    };
    stored::store(emitter.fb(), storage, x, address);
    Ok(())
}
