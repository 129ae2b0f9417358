//! Sums across lanes, by shuffles in one order: within each quarter of a vector lanes 0 and 2, lanes 1 and 3, and both; then the quarters in
//! halves.

use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use crate::codegen::expr::ExprEmitter;

/// Lanes of a quarter, and vectors of a set.
const QUARTER: usize = 4;

/// What two values of a lane become.
pub(super) type Join<'a, 'f> = dyn Fn(&mut ExprEmitter<'a, 'f>, Ssa, Ssa) -> Ssa;

/// Sums across the lanes of sets of four vectors, up to as many sets as a vector has quarters: a vector whose quarters have the four sums of
/// each set, the last set again where there are fewer.
pub(super) fn sums_of_fours<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    sets: &[[Ssa; QUARTER]],
    add: &Join<'a, 'f>,
) -> Ssa {
    let within = sets.iter().map(|set| within_quarters(emitter, *set, add)).collect();
    by_quarters(emitter, within, add)
}

/// The quarters of a vector of sets, each a vector of four lanes.
pub(super) fn quarter(emitter: &mut ExprEmitter<'_, '_>, x: Ssa, number: usize) -> Ssa {
    if emitter.plan.machine.lanes == QUARTER {
        return x;
    }
    let first = (QUARTER * number) as u8;
    let lanes = [first, first + 1, first + 2, first + 3];
    emitter.v.permute((x, x), &lanes, types::F32X4)
}

/// All lanes of a vector joined, in the first lane and others.
pub(super) fn joined<'a, 'f>(emitter: &mut ExprEmitter<'a, 'f>, x: Ssa, join: &Join<'a, 'f>) -> Ssa {
    let within = within_quarters(emitter, [x; QUARTER], join);
    let all = by_quarters(emitter, vec![within], join);
    let first = quarter(emitter, all, 0);
    emitter.fb().ins().extractlane(first, 0)
}

/// The lanes of each quarter joined: those of the first vector in its first lane, and so on.
fn within_quarters<'a, 'f>(
    emitter: &mut ExprEmitter<'a, 'f>,
    [a, b, c, d]: [Ssa; QUARTER],
    join: &Join<'a, 'f>,
) -> Ssa {
    let ([low, high], [first, second]) = ([[0, 4, 1, 5], [2, 6, 3, 7]], [[0, 1, 4, 5], [2, 3, 6, 7]]);
    let pair = |emitter: &mut ExprEmitter<'a, 'f>, a: Ssa, b: Ssa, [one, other]: [[u8; QUARTER]; 2]| {
        let (one, other) = (in_quarters(emitter, (a, b), one), in_quarters(emitter, (a, b), other));
        join(emitter, one, other)
    };
    let ab = pair(emitter, a, b, [low, high]);
    let cd = if (a, b) == (c, d) { ab } else { pair(emitter, c, d, [low, high]) };
    pair(emitter, ab, cd, [first, second])
}

/// The same lanes of each quarter, 0 to 3 of the first vector and 4 to 7 of the second.
fn in_quarters(emitter: &mut ExprEmitter<'_, '_>, (a, b): (Ssa, Ssa), pattern: [u8; QUARTER]) -> Ssa {
    let (lanes, ty) = (emitter.plan.machine.lanes as u8, emitter.v.float_type());
    let of_quarter = |quarter: u8| pattern.map(|lane| lane / 4 * lanes + 4 * quarter + lane % 4);
    let order: Vec<u8> = (0..lanes / 4).flat_map(of_quarter).collect();
    emitter.v.permute((a, b), &order, ty)
}

/// The quarters of each vector joined, and those of all vectors in one.
fn by_quarters<'a, 'f>(emitter: &mut ExprEmitter<'a, 'f>, mut vectors: Vec<Ssa>, join: &Join<'a, 'f>) -> Ssa {
    let quarters = emitter.plan.machine.lanes / QUARTER;
    // Quarters that each set still has.
    let mut parts = quarters;
    while parts > 1 {
        let half = parts / 2;
        let pairs = vectors.chunks(2).map(|pair| {
            let (a, b) = (pair[0], *pair.get(1).unwrap_or(&pair[0]));
            let [low, high] = [0, half].map(|from| {
                let of_vector = |start: usize| {
                    let sets = (0..quarters).step_by(parts);
                    sets.flat_map(move |set| (0..half).map(move |part| start + set + from + part))
                };
                let chosen = of_vector(0).chain(of_vector(quarters));
                chosen.flat_map(|quarter| (0..QUARTER).map(move |lane| (QUARTER * quarter + lane) as u8)).collect()
            });
            let [low, high]: [Vec<u8>; 2] = [low, high];
            let ty = emitter.v.float_type();
            let (low, high) = (emitter.v.permute((a, b), &low, ty), emitter.v.permute((a, b), &high, ty));
            join(emitter, low, high)
        });
        vectors = pairs.collect();
        parts = half;
    }
    vectors[0]
}
