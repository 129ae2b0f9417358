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
use crate::abi::MOST_REDUCTIONS;
use crate::plan::Attention;

/// A key: its weight, as a row has it, and where the row of its values begins.
struct Weighed {
    weight: Approx,
    values: [usize; MOST_REDUCTIONS],
}

/// The sums and what they are off by, over the dimensions of what they are written to.
pub(super) fn weighted_sums(sums: &Sums, walk: &Walk<'_>, of: &Attention) -> Result<Vec<Array>, BoundError> {
    let (space, parts) = (walk.space, Parts::of(sums, walk, of)?);
    let made = |dims: &[Axis]| {
        let too_large = || BoundError::TooLarge { line: walk.plan.graph.name.clone(), shape: space.shape(dims) };
        space.filled(dims, Approx::UNKNOWN).ok_or_else(too_large)
    };
    let results = of.reductions.iter().map(|reduction| made(&walk.plan.tensors[reduction.output].dims));
    let mut results = results.collect::<Result<Vec<Array>, BoundError>>()?;
    let outputs: Vec<Array> = results.iter().zip(&of.reductions).map(|(array, sum)| array.without(sum.dim)).collect();
    let mut arrays = vec![&*parts.scores];
    arrays.extend(parts.masks.iter().map(|(mask, _)| mask).chain(&parts.values).map(|array| &**array));
    let keys: Vec<Vec<usize>> = arrays.iter().map(|array| space.offsets(array, &[], of.key)).collect();
    arrays.extend(&outputs);
    let rows: Vec<Axis> = of.outer.iter().copied().chain([of.query]).collect();
    let mut row = Vec::new();
    space.rows(&rows, &arrays, |base, inner| {
        #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
        for query in 0..inner[0].len() {
            let at: Vec<usize> = (0..arrays.len()).map(|n| base[n] + inner[n][query]).collect();
            fill(&mut row, &parts, &at, &keys);
            for (reduction, result) in of.reductions.iter().zip(&mut results) {
                let (index, values) = (reduction.index, &parts.values[reduction.index]);
                let (first, stride) = (at[keys.len() + index], result.stride(reduction.dim));
                let element_stride = values.stride(reduction.dim);
                for element in 0..reduction.length as usize {
                    let value = |key: &Weighed| values.data[key.values[index] + element * element_stride];
                    result.data[first + element * stride] = sum(sums, &row, value);
                }
            }
        }
    });
    Ok(results)
}

/// Fills a row, whose elements begin at `at` in each of the arrays; `keys` tells what each key adds.
fn fill(row: &mut Vec<Weighed>, parts: &Parts, at: &[usize], keys: &[Vec<usize>]) {
    row.clear();
    row.extend((0..keys[0].len()).map(|key| {
        let place = |n: usize| at[n] + keys[n][key];
        let seen = parts.masks.iter().zip(1..).fold(Approx::exact(1.0), |seen, ((mask, negative), n)| {
            let mask = mask.data[place(n)];
            logical(Binary::And, seen, if *negative { mask.not() } else { mask })
        });
        let weight = seen.select(parts.scores.data[place(0)], Approx::exact(0.0));
        Weighed { weight, values: parts.rows_of_values(1 + parts.masks.len(), place) }
    }));
    // A weight of 0 leaves its value out, whatever that is.
    row.retain(|key| key.weight != Approx::exact(0.0));
}

/// A sum and its bound.
fn sum(sums: &Sums, row: &[Weighed], value: impl Fn(&Weighed) -> Approx) -> Approx {
    let (mut x, mut off, mut size, mut special) = (0.0, 0.0, 0.0, 0.0);
    for key in row {
        let (w, v) = (key.weight, value(key));
        if w.is_finite() && v.is_finite() {
            x += w.x * v.x;
            off += w.x.abs() * v.e + v.x.abs() * w.e + w.e * v.e;
            size += w.most() * v.most();
        } else if w.is_exact() && v.is_exact() && w.x != 0.0 && v.x != 0.0 {
            special += w.x * v.x;
        } else {
            return Approx::UNKNOWN;
        }
    }
    // On the way sums are no greater than all magnitudes together.
    let fits = 2.0 * size <= f64::from(f32::MAX);
    if !fits {
        return Approx::UNKNOWN;
    }
    if special != 0.0 {
        return Approx::exact(special);
    }
    let n = sums.products(row.len());
    let rounding = gamma(n) * size + TINY_SUM * (n + 2.0);
    Approx { x, e: (off + rounding) * (1.0 + U) + U * x.abs() + TINY_SUM }
}
