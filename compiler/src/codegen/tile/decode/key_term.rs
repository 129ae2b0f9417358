//! The key terms of a row: from tables, or computed for each key tile, in double precision and in two parts as tables have them.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa};

use super::rows::{Rows, scratch};
use crate::codegen::doubles::{fixed, vectors};
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::tile::score::KeyRows;
use crate::codegen::vocab::access;
use crate::machine::LANE_BYTES;
use crate::plan::{KeyTerm, Leaves, Source, Table, range};

/// The key terms of the row at the point, of the key tile at least.
pub(super) fn key_rows(
    emitter: &mut ExprEmitter<'_, '_>,
    rows: Rows<'_>,
    term: KeyTerm,
) -> Result<KeyRows, CodegenError> {
    match &rows.decode.key_term {
        Some(table) => computed(emitter, rows, table),
        None => KeyRows::new(emitter, rows.tile.attention, term),
    }
}

/// Computes the key terms of the key tile, up to the end of a vector.
fn computed(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, table: &Table) -> Result<KeyRows, CodegenError> {
    let key = rows.tile.attention.key;
    let (Source::Sum(terms), Some(leaves)) = (&table.source, Leaves::of(emitter.plan, table, key)) else {
        return Err(CodegenError::Unsupported {
            op: emitter.plan.tensors[table.target].name.clone(),
            reason: "a key term that is no sum of products is made as a table",
        });
    };
    let count = rows.whole_vectors(emitter);
    let end = emitter.fb().ins().iadd(rows.first_key, count);
    let before = emitter.lane_bytes(rows.first_key);
    let high = scratch(emitter, emitter.plan.scratch.key_terms);
    let high = emitter.fb().ins().isub(high, before);
    let low = (LANE_BYTES * emitter.plan.tiling.keys) as i64;
    let low = emitter.fb().ins().iadd_imm_s(high, low);
    let is_finite = range(emitter.plan, terms).is_finite();
    let mut result = Ok(());
    emitter.in_doubles(|emitter| {
        let fixed = match fixed(emitter, &leaves) {
            Ok(fixed) => fixed,
            Err(error) => return result = Err(error),
        };
        vectors(emitter, (key, &leaves, &fixed), (rows.first_key, end), |emitter, index| {
            result = emitter.sum(terms).map(|sum| {
                let parts = if is_finite { emitter.v.parts_of_finite(sum) } else { parts(emitter, sum) };
                let offset = emitter.lane_bytes(index);
                for (part, row) in parts.into_iter().zip([high, low]) {
                    let place = emitter.fb().ins().iadd(row, offset);
                    emitter.fb().ins().store(access(), part, place, 0);
                }
            });
        });
    });
    result.map(|()| KeyRows { high, low })
}

/// Both parts of numbers, in single precision.
fn parts(emitter: &mut ExprEmitter<'_, '_>, sum: Ssa) -> [Ssa; 2] {
    let (high, rest) = emitter.v.parts(sum);
    [high, rest].map(|part| emitter.v.demote(part))
}
