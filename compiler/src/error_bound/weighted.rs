//! Sums of values weighed by scores themselves, one row at a time.
//!
//! Let `out = sum w v`. What a weight or a value is off by moves the sum by `|v| err w + |w| err v + err w err v`, and each product passes
//! through the roundings of its sum: `g(n) sum |w v|` more.

use rhumb_ir::{Axis, Binary};

use super::approx::{Approx, logical};
use super::array::Array;
use super::error::BoundError;
use super::rows::Parts;
use super::sums::Sums;
use super::units::{TINY_SUM, U, gamma};
use super::walk::Walk;
use crate::plan::Attention;

/// A key: its weight, as a row has it, and where the row of its values begins.
struct Weighed {
    weight: Approx,
    values: usize,
}

/// Bounds of the sums, over the dimensions of the output; none if the values are not asked for.
pub(super) fn weighted_sum(sums: &Sums, walk: &Walk<'_>, of: &Attention) -> Result<Option<Array>, BoundError> {
    let Some(reduction) = &of.reduction else { return Ok(None) };
    let (space, parts) = (walk.space, Parts::of(sums, walk, of)?);
    let dims = &walk.plan.tensors[reduction.output].dims;
    let too_large = || BoundError::TooLarge { line: walk.plan.graph.name.clone(), shape: space.shape(dims) };
    let mut sum = space.filled(dims, Approx::UNKNOWN).ok_or_else(too_large)?;
    let outputs = sum.without(reduction.dim);
    let mut arrays = vec![&*parts.scores, &*parts.values];
    arrays.extend(parts.masks.iter().map(|(mask, _)| &**mask));
    let keys: Vec<Vec<usize>> = arrays.iter().map(|array| space.offsets(array, &[], of.key)).collect();
    arrays.push(&outputs);
    let rows: Vec<Axis> = of.outer.iter().copied().chain([of.query]).collect();
    let (stride, element_stride) = (sum.stride(reduction.dim), parts.values.stride(reduction.dim));
    let mut row = Vec::new();
    space.rows(&rows, &arrays, |base, inner| {
        #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
        for query in 0..inner[0].len() {
            let at: Vec<usize> = (0..arrays.len()).map(|n| base[n] + inner[n][query]).collect();
            fill(&mut row, &parts, &at, &keys);
            for element in 0..reduction.length as usize {
                let value = |key: &Weighed| parts.values.data[key.values + element * element_stride];
                sum.data[at[keys.len()] + element * stride] = Approx::exact(bound(sums, &row, value));
            }
        }
    });
    Ok(Some(sum))
}

/// Fills a row, whose elements begin at `at` in each of the arrays; `keys` tells what each key adds.
fn fill(row: &mut Vec<Weighed>, parts: &Parts, at: &[usize], keys: &[Vec<usize>]) {
    row.clear();
    row.extend((0..keys[0].len()).map(|key| {
        let place = |n: usize| at[n] + keys[n][key];
        let seen = parts.masks.iter().zip(2..).fold(Approx::exact(1.0), |seen, ((mask, negative), n)| {
            let mask = mask.data[place(n)];
            logical(Binary::And, seen, if *negative { mask.not() } else { mask })
        });
        let weight = seen.select(parts.scores.data[place(0)], Approx::exact(0.0));
        Weighed { weight, values: place(1) }
    }));
    // A weight of 0 leaves its value out, whatever that is.
    row.retain(|key| key.weight != Approx::exact(0.0));
}

/// The bound of one sum.
fn bound(sums: &Sums, row: &[Weighed], value: impl Fn(&Weighed) -> Approx) -> f64 {
    let (mut x, mut off, mut size, mut special) = (0.0, 0.0, 0.0, false);
    for key in row {
        let (w, v) = (key.weight, value(key));
        if w.is_finite() && v.is_finite() {
            x += w.x * v.x;
            off += w.x.abs() * v.e + v.x.abs() * w.e + w.e * v.e;
            size += w.most() * v.most();
        } else if w.is_exact() && v.is_exact() && w.x != 0.0 && v.x != 0.0 {
            special = true;
        } else {
            return f64::INFINITY;
        }
    }
    // On the way sums are no greater than all magnitudes together.
    let fits = 2.0 * size <= f64::from(f32::MAX);
    if !fits {
        return f64::INFINITY;
    }
    if special {
        return 0.0;
    }
    let n = sums.products(row.len());
    let rounding = gamma(n) * size + TINY_SUM * (n + 2.0);
    (off + rounding) * (1.0 + U) + U * x.abs() + TINY_SUM
}
