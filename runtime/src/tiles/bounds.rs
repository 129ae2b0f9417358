//! Bounds on the scores of whole tiles.

use rhumb_compiler::intervals::{Interval, ScoreProgram};
use rhumb_compiler::plan::{Attention, Plan, Pruning, TensorId};

/// Bounds on the scores of whole tiles.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) score: ScoreProgram,
    pub(super) tables: Pruning,
    /// The factor by which rounding may raise a product of norms.
    slack: f64,
}

impl Bounds {
    pub(super) fn new(plan: &Plan, attention: &Attention) -> Option<Bounds> {
        let length = attention.products.first().map_or(0, |product| product.length);
        let slack = 1.0 + f64::from(length) * f64::from(f32::EPSILON);
        attention.pruning.map(|tables| Bounds { score: ScoreProgram::new(plan, attention), tables, slack })
    }

    /// The tables that the score reads.
    pub(super) fn leaves(&self) -> impl Iterator<Item = TensorId> {
        self.score.leaves()
    }

    /// The tables of squared norms.
    pub(super) fn squares(&self) -> impl Iterator<Item = TensorId> {
        self.tables.keys.into_iter().chain(self.tables.values)
    }

    /// The greatest norm that squared norms allow: never 0.
    pub(super) fn norm(&self, squares: Interval) -> f64 {
        // Elements too small for their squares to be numbers are smaller than this.
        const TINY: f64 = 1e-16;
        let finite = !squares.nan && squares.hi <= f64::from(f32::MAX);
        if finite { squares.hi.sqrt() * self.slack + TINY } else { f64::INFINITY }
    }
}
