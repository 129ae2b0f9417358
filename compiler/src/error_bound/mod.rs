//! The error bound of a kernel: how far its results are from the reference at most, derived from the plan.
//!
//! A kernel computes in single precision but for tables, and the reference in double precision throughout. Rounding is analysed as in
//! Higham, *Accuracy and Stability of Numerical Algorithms* (2nd edition, SIAM 2002), chapters 2 to 4, with the unit roundoff
//! `u = 2^-24`:
//!
//! - An operation gives its exact result on the operands that it has, times `1 + t` with `|t| <= u` (section 2.2); where that is
//!   subnormal, it is off by `2^-150` at most instead (products of pairs of `bf16` take what is subnormal for 0). So what a value is off by follows from what its operands are off by:
//!   `err(a + b) = err a + err b + u |a + b|`, `err(a b) = |a| err b + |b| err a + err a err b + u |a b|` (a running error analysis, section
//!   3.3). A result that single precision holds exactly, of exact operands, is exact.
//! - A sum of products is off by `u` of each product and of each sum on the way, in the order that code forms them (section 3.3). Each product
//!   passes through some `n` roundings; without the values on the way, that is at most `g(n) sum |a b|` with `g(n) = n u / (1 - n u)` (section
//!   3.1, lemma 3.1; section 4.2), which is what is printed. What the factors are off by comes on top.
//! - An elementary function is off by what `codegen/math.rs` states, at a point that is off by as much as its operand: the greatest
//!   difference over that interval.
//! - A comparison whose operands may be on either side, a `floor` that may jump, an index that may be another: all results that these
//!   may give are joined.
//! - Tables in double precision are off by their last rounding, and by 2^-50 of each result before it, which is also for what double
//!   precision makes of the reference and of this analysis.
//!
//! # Scores
//! A score is a sum of terms, of which each is analysed so. Terms of keys alone are summed up in double precision, taken relative to
//! `R`, the greatest that the row sees (a key whose score is `-inf` counts, unless a mask hides it), and added as two numbers of single
//! precision: a score `S` is off by `u |K - R| + 3 u |S - R|` more. The power of 2 is taken of a score's distance from a base, which is at most the greatest score `T` and, when it is taken, at
//! least the score less 8: distances to the bases in turn add up to `T - S + 16` at most, each of which is rounded.
//!
//! Hinges of one number that a kernel sums up in an order of its own are off by what they are in the graph's, and by the roundings of that order:
//! see `hinges.rs`.
//!
//! # Weights
//! If a score is off by `e`, its weight `w = 2^(S - T)` is off by a factor between `2^-e` and `2^e`. The power is off by 1 ulp
//! (`2 u`), each rescaling to another base by as much and a rounding, and there are at most `1 + (T - S) / 8` of them: a kernel's weight is
//! `w' = w + d` with `|d| <= w (exp(e ln 2 + 2 u + 3 u bases) - 1) + 2^-90`, the last for weights below `2^-100`, which are 0.
//!
//! # Averages
//! Let `out = sum w v / sum w`. Then `sum w (v - out) = 0`, and so
//! `sum w' v' / sum w' - out = (sum d (v - out) + sum w' (v' - v)) / sum w'`: an error of all weights by one factor moves nothing, and what
//! is lost of a weight moves the average by the distance of its value from the average alone. The products are summed up with
//! `g(n) sum w' |v'|`, the weights with `g(m)` of their sum; a quotient, a product and the reference's own rounding to `f32` follow. Where
//! weights are not known at all, an average is still between the values that are seen. Weights that are rounded to `bf16` for pairs of it add
//! `2^-8 sum w' |v'|`.
//!
//! # Integers
//! Queries that are multiplied as pairs of integers are rounded to `2^-16` of the greatest element of the row, and the products of integers are
//! exact: a score is off by `2^-16 max|q| sum|k|`, by the roundings of the sum across lanes, and by that of the scale. Weights that are such
//! integers are rounded, each times the scale `s` of its key's row of values `n s`, to `2^-16` of the greatest `w' s` of the key tile: with `m` that
//! greatest, an average is off by `2^-16 sum m |n|` of the sum of weights.
//!
//! A sink is one more key with a value of 0. The log-sum-exp is off by `log2` of the factor that the sum of the weights is off by.
//!
//! # Sums without a softmax
//! `out = sum w v`, where a weight is off by what its score is: see `weighted.rs`.
//!
//! # What hidden keys hold
//! A pair that a mask, or a score of `-inf`, hides takes no part, whatever it holds. A row that sees nothing is 0, and its bound too.
//! Nothing is promised of a row that only scores of `-inf` hide and whose term of the query alone is NaN or `inf`.
//!
//! # Outputs of 16 bits
//! An input of 16 bits is exact. An output is rounded to the nearest by kernel and reference both, and rounding keeps order: what lies
//! between `x - e` and `x + e` is rounded to what lies between these two, rounded. That is one number for most, and two neighbours, `2^-10`
//! of it apart in `f16` and `2^-7` in `bf16`, for those near the middle of two.
//!
//! # Infinities and NaN
//! Where the result is NaN or infinite, for certain the same in the kernel, the bound is 0. Where an overflow of single precision or
//! a choice that may go either way leaves nothing to promise, it is infinite. [`ErrorBound::holds`] compares accordingly.

mod approx;
mod array;
mod error;
mod hinges;
mod order;
mod print;
mod rows;
mod sums;
#[cfg(test)]
mod tests;
mod units;
mod walk;
mod weighted;

use std::collections::BTreeMap;
use std::rc::Rc;

use rhumb_ir::{Elem, Extent, Tensor};

use crate::plan::{Attention, Combiner, Origin, Plan, TensorId};
use approx::{Approx, Precision};
use array::{Array, Space};
pub use error::BoundError;
use sums::{Rounded, Sums};
use units::{TINY_SUM, U};
use walk::{Seeds, Walk};

/// The bound on errors that a plan promises: prints what it is made of, and evaluates for the tensors of a call.
///
/// ```
/// use rhumb_compiler::{Options, Target, compile};
/// use rhumb_plugins::{Attention, Registry};
///
/// let graph = Attention::heads(2).head_dim(8).build()?;
/// let target = Target::named("x86_64-unknown-linux-gnu")?;
/// let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ())?;
/// let bound = compiled.plan.error_bound();
/// assert!(bound.to_string().starts_with("error bound"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ErrorBound<'p> {
    plan: &'p Plan,
    sums: Sums,
}

impl Plan {
    /// The error bound of kernels of this plan.
    pub fn error_bound(&self) -> ErrorBound<'_> {
        let sums = self.attention.as_ref().map(|attention| Sums::of(self, attention));
        ErrorBound {
            plan: self,
            sums: sums.unwrap_or(Sums {
                orders: Vec::new(),
                products: Vec::new(),
                keys: 0,
                least: 0,
                weights: Rounded::No,
                least_sum: 1.0,
            }),
        }
    }
}

impl ErrorBound<'_> {
    /// Whether a kernel's element keeps what the bound promises: it is the reference's, or both are NaN, or they are no farther apart than
    /// the bound. An infinite bound promises nothing.
    pub fn holds(kernel: f32, reference: f32, bound: f32) -> bool {
        let same = kernel == reference || (kernel.is_nan() && reference.is_nan());
        same || bound == f32::INFINITY || (f64::from(kernel) - f64::from(reference)).abs() <= f64::from(bound)
    }

    /// A bound for every element of every output: the most that a kernel's result, as it is stored, is off from the reference's, as that
    /// is stored. `lengths` are those of the graph's axes, in order; static ones may be left out at the end.
    ///
    /// It takes a few times what the reference takes.
    ///
    /// # Errors
    /// [`BoundError`] where an input is missing or does not fit, or the call is too large.
    pub fn evaluate(
        &self,
        lengths: &[usize],
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, BoundError> {
        let graph = &self.plan.graph;
        let length = |(n, axis): (usize, &rhumb_ir::AxisInfo)| match axis.extent {
            Extent::Static(length) => length as usize,
            Extent::Dynamic => lengths.get(n).copied().unwrap_or(0),
        };
        let lengths: Vec<usize> = graph.axes().iter().enumerate().map(length).collect();
        let space = Space { graph, lengths: &lengths };
        let mut walk = Walk::new(self.plan, space, inputs)?;
        if let Some(attention) = &self.plan.attention {
            self.attend(&mut walk, attention)?;
        }
        walk.make(true)?;
        let reductions = self.plan.attention.iter().flat_map(|attention| &attention.reductions);
        let written: Vec<TensorId> = reductions.map(|reduction| reduction.output).collect();
        let mut bounds = BTreeMap::new();
        for (id, tensor) in self.plan.tensors.iter().enumerate() {
            let Origin::Output(index) = tensor.origin else { continue };
            let elem = graph.outputs()[index].elem;
            let value = walk.tensor(id)?;
            let data = match written.contains(&id) {
                // The reference's rounding is in it.
                true => value.data.iter().map(|bound| in_memory(elem, *bound)).collect(),
                false => self.stored(space, (&tensor.dims, elem), &value)?,
            };
            bounds.insert(tensor.name.clone(), Tensor { elem: Elem::F32, shape: space.shape(&tensor.dims), data });
        }
        Ok(bounds)
    }

    /// Makes what the attention gives.
    fn attend(&self, walk: &mut Walk<'_>, attention: &Attention) -> Result<(), BoundError> {
        let results = if attention.combiner == Combiner::Sum {
            weighted::weighted_sums(&self.sums, walk, attention)?
        } else {
            let bounded = rows::attention(&self.sums, walk, attention)?;
            if let Some(log_sum) = attention.log_sum() {
                let mut seeds = Seeds::new();
                seeds.insert(log_sum.leaf, Rc::new(bounded.log_sum));
                let value = walk.value(log_sum.value, Precision::Double, &seeds)?;
                walk.store(log_sum.output, &value);
            }
            bounded.averages
        };
        for (reduction, result) in attention.reductions.iter().zip(results) {
            walk.keep(reduction.output, result);
        }
        Ok(())
    }

    /// Bounds of a value that is stored over some dimensions, the reference's rounding to `f32` included.
    fn stored(
        &self,
        space: Space<'_>,
        (dims, elem): (&[rhumb_ir::Axis], Elem),
        value: &Array,
    ) -> Result<Vec<f64>, BoundError> {
        let too_large = || BoundError::TooLarge { line: "an output".to_owned(), shape: space.shape(dims) };
        let mut data = Vec::new();
        data.try_reserve_exact(space.count(dims).ok_or_else(too_large)?).map_err(|_| too_large())?;
        space.rows(dims, &[value], |base, inner| {
            data.extend(inner[0].iter().map(|i| {
                let Approx { x, e } = value.data[base[0] + i];
                let e = match e {
                    0.0 => 0.0,
                    e if e.is_finite() => e + U * x.abs() + TINY_SUM,
                    _ => f64::INFINITY,
                };
                in_memory(elem, Approx { x, e })
            }));
        });
        Ok(data)
    }
}

/// The bound of a value that kernel and reference both round to an element type: of 16 bits, neighbours may come of what is next to nothing.
fn in_memory(elem: Elem, Approx { x, e }: Approx) -> f64 {
    if !elem.is_stored_only() || e == 0.0 || !e.is_finite() {
        return e;
    }
    let [least, greatest] = [x - e, x + e].map(|x| elem.rounded(x));
    if least == greatest { 0.0 } else { greatest - least }
}
