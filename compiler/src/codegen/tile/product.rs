//! The register tile of products that scores and averages are made of.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::bf16;
use super::even::Even;
use super::prefetch::Asks;
use super::query_tile::{Mode, Tile};
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::range_loop;
use crate::codegen::vocab::{access, by_name};
use crate::machine::LANE_BYTES;

/// Where the scalars of the rows lie.
pub(super) enum Rows {
    /// This many rows at even distances.
    Even { first: Ssa, distance: Ssa, count: usize },
    /// Each row at an address of its own.
    Each(Vec<Ssa>),
}

/// What a scalar and each lane of a vector hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Factors {
    /// A number of single precision.
    Singles,
    /// Pairs of `bf16`: both products of a pair are added.
    Pairs,
}

/// Which elements of the vectors take no part.
#[derive(Clone, Copy)]
pub(super) enum Guard {
    /// Those below 0: weights of a softmax that are marked so.
    Marked,
    /// Zeros.
    Zero,
}

impl Guard {
    /// What weights of a tile leave out in this mode, if anything.
    pub(super) fn of(tile: Tile<'_>, mode: Mode) -> Option<Guard> {
        mode.guarded.then_some(if tile.of_softmax() { Guard::Marked } else { Guard::Zero })
    }

    /// `added` where a weight counts, the `sum` before it where it does not.
    pub(super) fn kept(self, emitter: &mut ExprEmitter<'_, '_>, weight: Ssa, (sum, added): (Ssa, Ssa)) -> Ssa {
        let zero = emitter.v.float(0.0);
        let condition = match self {
            Guard::Marked => FloatCC::LessThan,
            Guard::Zero => FloatCC::Equal,
        };
        let left_out = emitter.v.fcmp(condition, weight, zero);
        emitter.v.select_float(left_out, sum, added)
    }
}

/// A register tile of products: rows of scalars that step together, times `columns` vectors.
pub(super) struct ProductTile {
    pub(super) factors: Factors,
    pub(super) rows: Rows,
    pub(super) row_step: Ssa,
    pub(super) vectors: Ssa,
    pub(super) vector_step: i64,
    pub(super) columns: usize,
    pub(super) iterations: Ssa,
    /// Which products are left out, whatever their scalars hold; none if all count.
    pub(super) guard: Option<Guard>,
    /// The number of partial sums that are formed side by side, and the bytes of vectors from one to the next.
    pub(super) chains: usize,
    pub(super) chain_bytes: i64,
    /// What is asked for meanwhile: a row after so many iterations.
    pub(super) asks: Option<(Asks, usize)>,
}

impl ProductTile {
    /// The sums, row-major.
    pub(super) fn emit(&self, emitter: &mut ExprEmitter<'_, '_>) -> Vec<Ssa> {
        let (mut carried, count, even) = match &self.rows {
            Rows::Each(rows) => (rows.clone(), rows.len(), None),
            Rows::Even { first, distance, count } => {
                let even = Even::new(emitter, *first, *distance, *count);
                (even.pointers.clone(), *count, Some(even))
            }
        };
        // The pointers of each chain, then its sums.
        let pointers = carried.len();
        let skipped = emitter.fb().ins().imul(self.iterations, self.row_step);
        for chain in 1..self.chains {
            for pointer in 0..pointers {
                let before = carried[(chain - 1) * pointers + pointer];
                carried.push(emitter.fb().ins().iadd(before, skipped));
            }
        }
        let (held, sums) = (carried.len(), count * self.columns);
        carried.extend((0..self.chains * sums).map(|_| emitter.v.float(0.0)));
        let length = emitter.fb().ins().imul_imm_s(self.iterations, self.vector_step);
        let end = emitter.fb().ins().iadd(self.vectors, length);
        let body = |emitter: &mut ExprEmitter<'_, '_>, vectors: Ssa, carried: &[Ssa]| {
            let (rows, before) = carried.split_at(held);
            let mut after = before.to_vec();
            for (chain, sums) in after.chunks_mut(sums).enumerate() {
                let rows = &rows[chain * pointers..(chain + 1) * pointers];
                let rows = match &even {
                    None => rows.to_vec(),
                    Some(even) => even.addresses(emitter, rows),
                };
                self.iteration(emitter, vectors, chain as i64 * self.chain_bytes, &rows, sums);
            }
            let mut next: Vec<Ssa> = rows.iter().map(|row| emitter.fb().ins().iadd(*row, self.row_step)).collect();
            next.extend(after);
            next
        };
        let done = match self.asks {
            None => range_loop(emitter, self.vectors, end, self.vector_step, &carried, body),
            Some((asks, between)) => {
                let all = carried.len();
                carried.push(asks.from);
                let step = between as i64 * self.vector_step;
                let mut done = range_loop(emitter, self.vectors, end, step, &carried, |emitter, vectors, carried| {
                    let until = emitter.fb().ins().iadd_imm_s(vectors, step);
                    let until = emitter.v.smin(until, end);
                    let row = carried[all];
                    let mut done = range_loop(emitter, vectors, until, self.vector_step, &carried[..all], body);
                    done.push(asks.one(emitter, row));
                    done
                });
                done.truncate(all);
                done
            }
        };
        let mut chains = done[held..].chunks(sums);
        let first = chains.next().unwrap_or_default().to_vec();
        chains.fold(first, |sums, more| sums.iter().zip(more).map(|(a, b)| emitter.v.fadd(*a, *b)).collect())
    }

    fn iteration(&self, emitter: &mut ExprEmitter<'_, '_>, vectors: Ssa, offset: i64, rows: &[Ssa], sums: &mut [Ssa]) {
        let pairs = self.factors == Factors::Pairs;
        let float = emitter.v.float_type();
        let ty = if pairs { emitter.v.int_type() } else { float };
        let width = (LANE_BYTES * emitter.v.shape.lanes) as i32;
        let columns = 0..self.columns as i32;
        let columns: Vec<Ssa> =
            columns.map(|c| emitter.fb().ins().load(ty, access(), vectors, offset as i32 + width * c)).collect();
        for (r, &address) in rows.iter().enumerate() {
            let scalar = match self.factors {
                Factors::Singles => emitter.fb().ins().load(types::F32, access(), address, 0),
                Factors::Pairs => emitter.fb().ins().load(types::I32, access(), address, 0),
            };
            let splat = emitter.v.splat(scalar, ty);
            for (c, &column) in columns.iter().enumerate() {
                let sum = &mut sums[r * self.columns + c];
                if pairs {
                    let (column, splat) = match self.guard {
                        Some(_) => bf16::seen(emitter, column, splat),
                        None => (column, splat),
                    };
                    *sum = by_name(emitter.fb(), clif_wide::DOT_BF16, &[*sum, column, splat], float);
                    continue;
                }
                let added = emitter.v.fma(splat, column, *sum);
                *sum = match self.guard {
                    Some(guard) => guard.kept(emitter, column, (*sum, added)),
                    None => added,
                };
            }
        }
    }
}
