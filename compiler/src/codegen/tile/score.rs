//! The score of a query and a key from their product: terms, the key term, masks.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::query_tile::Mode;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::vocab::access;
use crate::plan::{Attention, Combiner, KeyTerm};

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
    pub(super) low: Ssa,
}

impl KeyRows {
    pub(super) fn new(
        emitter: &mut ExprEmitter<'_, '_>,
        attention: &Attention,
        term: KeyTerm,
    ) -> Result<KeyRows, CodegenError> {
        let [high, low] = [term.high, term.low].map(|part| emitter.address(part, &[attention.key]));
        Ok(KeyRows { high: high?, low: low? })
    }

    /// The key term of a key, in every lane.
    pub(super) fn splat(emitter: &mut ExprEmitter<'_, '_>, row: Ssa, key: Ssa) -> Ssa {
        let offset = emitter.lane_bytes(key);
        let address = emitter.fb().ins().iadd(row, offset);
        let (x, ty) = (emitter.fb().ins().load(types::F32, access(), address, 0), emitter.v.float_type());
        emitter.v.splat(x, ty)
    }

    /// The high parts of the key terms of successive keys.
    pub(super) fn high_lanes(self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Ssa {
        KeyRows::lanes(emitter, self.high, key)
    }

    /// A row of tables from a key on, which is padded: the last vector may pass its end.
    fn lanes(emitter: &mut ExprEmitter<'_, '_>, row: Ssa, key: Ssa) -> Ssa {
        let offset = emitter.lane_bytes(key);
        let address = emitter.fb().ins().iadd(row, offset);
        let ty = emitter.v.float_type();
        emitter.fb().ins().load(ty, access(), address, 0)
    }

    /// As [`KeyRows::relative`], of successive keys.
    pub(super) fn relative_lanes(self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa, reference: Ssa) -> Ssa {
        let high = KeyRows::lanes(emitter, self.high, key);
        let difference = emitter.v.fadd(reference, high);
        let low = KeyRows::lanes(emitter, self.low, key);
        emitter.v.fadd(difference, low)
    }

    /// The key term of a key relative to references, which come negated.
    pub(super) fn relative(self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa, reference: Ssa) -> Ssa {
        let high = KeyRows::splat(emitter, self.high, key);
        let difference = emitter.v.fadd(reference, high);
        let low = KeyRows::splat(emitter, self.low, key);
        emitter.v.fadd(difference, low)
    }
}

/// A vector of scores, of the key's term relative to the references of the queries and of the sum of hinges, where there are such.
pub(super) fn score(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    mode: Mode,
    (term, hinges): (Option<Ssa>, Option<Ssa>),
) -> Result<Ssa, CodegenError> {
    let terms = emitter.plan.terms_beside_hinges(attention);
    let sum = if terms.is_empty() { None } else { Some(emitter.sum(terms)?) };
    let parts = [sum, hinges, term].into_iter().flatten();
    let sum = parts.reduce(|sum, part| emitter.v.fadd(sum, part));
    let mut score = match sum {
        Some(sum) => sum,
        None => emitter.v.float(0.0),
    };
    // Last: what a mask hides may be infinite or NaN.
    if mode.masked {
        let hidden = if attention.combiner == Combiner::Sum { 0.0 } else { f64::NEG_INFINITY };
        score = masked(emitter, attention, score, hidden)?;
    }
    Ok(score)
}

/// A vector where queries see the key, `hidden` where they don't.
pub(super) fn masked(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    x: Ssa,
    hidden: f64,
) -> Result<Ssa, CodegenError> {
    attention.masks.iter().try_fold(x, |x, mask| {
        let seen = emitter.emit(mask.value)?;
        let hidden = emitter.v.float(hidden);
        let (on_true, on_false) = if mask.negative { (hidden, x) } else { (x, hidden) };
        Ok(emitter.v.select_float(seen, on_true, on_false))
    })
}
