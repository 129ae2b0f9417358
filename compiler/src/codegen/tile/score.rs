//! The score of a query and a key from their product: terms, the key term, masks.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::Mode;
use crate::codegen::error::CodegenError;
use crate::codegen::eval::Eval;
use crate::codegen::vocab::access;
use crate::plan::{Attention, KeyTerm};

/// A register tile of scores in its query tile and key tile.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: Ssa,
    pub(super) count: Ssa,
    /// First key of the register tile, counted from the first key of the key tile.
    pub(super) row: Ssa,
    pub(super) rows: usize,
    /// Whether every row is a key of the tile.
    pub(super) whole: bool,
}

/// The rows of a key term's tables at the outer point, which are contiguous along keys.
#[derive(Clone, Copy)]
pub(super) struct KeyRows {
    pub(super) high: Ssa,
    low: Ssa,
}

impl KeyRows {
    pub(super) fn new(eval: &mut Eval<'_, '_>, attention: &Attention, term: KeyTerm) -> Result<KeyRows, CodegenError> {
        let [high, low] = [term.high, term.low].map(|part| eval.address(part, &[attention.key]));
        Ok(KeyRows { high: high?, low: low? })
    }

    /// The key term of a key, in every lane.
    pub(super) fn splat(eval: &mut Eval<'_, '_>, row: Ssa, key: Ssa) -> Ssa {
        let offset = eval.fb().ins().ishl_imm_u(key, 2);
        let address = eval.fb().ins().iadd(row, offset);
        let (x, ty) = (eval.fb().ins().load(types::F32, access(), address, 0), eval.v.float_type());
        eval.v.splat(x, ty)
    }

    /// The key term of a key relative to references, which come negated.
    pub(super) fn relative(self, eval: &mut Eval<'_, '_>, key: Ssa, reference: Ssa) -> Ssa {
        let high = KeyRows::splat(eval, self.high, key);
        let difference = eval.v.fadd(reference, high);
        let low = KeyRows::splat(eval, self.low, key);
        eval.v.fadd(difference, low)
    }
}

/// A vector of scores; `term` is the key's term relative to the references of the queries.
pub(super) fn score(
    eval: &mut Eval<'_, '_>,
    attention: &Attention,
    mode: Mode,
    term: Option<Ssa>,
) -> Result<Ssa, CodegenError> {
    let mut score = match term {
        Some(term) if attention.terms.is_empty() => term,
        term => {
            let sum = eval.sum(&attention.terms)?;
            term.map_or(sum, |term| eval.v.fadd(sum, term))
        }
    };
    // Last: what a mask hides may be infinite or NaN.
    if mode.masked {
        score = masked(eval, attention, score)?;
    }
    Ok(score)
}

/// A vector where queries see the key, `-inf` where they don't.
pub(super) fn masked(eval: &mut Eval<'_, '_>, attention: &Attention, x: Ssa) -> Result<Ssa, CodegenError> {
    attention.masks.iter().try_fold(x, |x, mask| {
        let seen = eval.emit(mask.value)?;
        let hidden = eval.v.float(f64::NEG_INFINITY);
        let (on_true, on_false) = if mask.negative { (hidden, x) } else { (x, hidden) };
        Ok(eval.v.select_float(seen, on_true, on_false))
    })
}
