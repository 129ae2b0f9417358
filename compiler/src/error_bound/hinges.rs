//! Hinges of a score, whose sum is computed in another order than that of the graph.
//!
//! What the parts of a score are off by, and what their sum in the order of the graph makes of it, is told as of any. Another order passes
//! through other roundings: of a hinge `w max(a x + b, z)` the sum has `w a x + w b`, `w z`, or what is the greater of both as computed. These
//! are no greater than `|w| (|a x| + |b| + |z|)`, nor farther from the hinge than a rounding of that, and pass through the roundings of the
//! slope, the start and the line of those that do not bend, and one for each that does.

use std::rc::Rc;

use rhumb_ir::{Axis, AxisSet};

use super::approx::{Approx, Precision};
use super::array::Array;
use super::error::BoundError;
use super::units::{TINY_SUM, gamma};
use super::walk::{Seeds, Walk};
use crate::plan::{Attention, Hinges, Number};

/// Roundings beside those of hinges that bend.
const OF_LINE: usize = 8;

/// Roundings that a hinge passes through at most.
pub(super) fn roundings(hinges: &Hinges) -> usize {
    hinges.units.len() + OF_LINE
}

/// Scores without the terms of keys alone.
pub(super) fn scores(walk: &Walk<'_>, of: &Attention, seeds: &Seeds) -> Result<Rc<Array>, BoundError> {
    let scores = walk.sum(&of.terms, Precision::Single, seeds)?;
    let Some(hinges) = &walk.plan.hinges else { return Ok(scores) };
    let graph = &walk.plan.graph;
    let axes = of.terms.iter().fold(graph.ty(hinges.x).axes, |axes, term| graph.join(axes, graph.ty(term.value).axes));
    let dims: Vec<Axis> = axes.iter().collect();
    let varies = |axis: Axis| [of.query, of.key].iter().any(|pairs| graph.varies(AxisSet::EMPTY.with(axis), *pairs));
    let too_large = || walk.too_large(hinges.x);
    let x = walk.value(hinges.x, Precision::Single, seeds)?;
    let mut sizes = walk.space.filled(&dims, Approx::exact(0.0)).ok_or_else(too_large)?;
    for unit in &hinges.units {
        let numbers = [unit.slope, unit.shift, unit.other, unit.weight].map(|number| match number {
            Number::Is(x) => Ok(Rc::new(walk.space.over(&[], vec![Approx::exact(f64::from(x))]))),
            Number::Of(value, _) => walk.value(value, Precision::Single, seeds),
        });
        let [a, b, z, w] = numbers;
        let (a, b, z, mut w) = (a?, b?, z?, w?);
        if let Some(factor) = unit.factor {
            let factor = walk.value(factor, Precision::Single, seeds)?;
            let dims: Vec<Axis> = axes.iter().filter(|axis| !varies(*axis)).collect();
            w = Rc::new(walk.zip(&dims, [&w, &factor], |[w, f]| Precision::Single.mul(w, f)).ok_or_else(too_large)?);
        }
        let added = |[size, x, a, b, z, w]: [Approx; 6]| {
            // Where it is not finite, the hinge is computed as the graph has it.
            let other = if z.is_finite() { z.most() } else { 0.0 };
            Approx::exact(size.x + w.most() * (a.most() * x.most() + b.most() + other))
        };
        sizes = walk.zip(&dims, [&sizes, &x, &a, &b, &z, &w], added).ok_or_else(too_large)?;
    }
    let count = roundings(hinges) as f64;
    let regrouped = walk.zip(&dims, [&scores, &sizes], |[score, size]| match (score.is_finite(), size.x) {
        (false, _) => score,
        (true, size) if size <= f64::from(f32::MAX) => {
            Approx { x: score.x, e: score.e + gamma(count) * size + count * TINY_SUM }
        }
        (true, _) => Approx::UNKNOWN,
    });
    Ok(Rc::new(regrouped.ok_or_else(too_large)?))
}
