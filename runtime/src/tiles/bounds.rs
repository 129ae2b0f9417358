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
        self.tables.squares()
    }

    /// The greatest norm that squared norms allow: never 0.
    pub(super) fn norm(&self, squares: Interval) -> f64 {
        // Elements too small for their squares to be numbers are smaller than this.
        const TINY: f64 = 1e-16;
        let finite = !squares.nan && squares.hi <= f64::from(f32::MAX);
        if finite { squares.hi.sqrt() * self.slack + TINY } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use rhumb_compiler::{Options, Target, compile};
    use rhumb_plugins::{Alibi, Attention, Registry};

    use super::*;

    /// The norms of rows are no greater, whatever rounding did to their squares.
    #[test]
    fn norms_are_bounded_from_above() {
        let graph = Attention::heads(1).head_dim(24).scheme(Alibi::new()).build().expect("a graph");
        let target = Target::host().expect("a target");
        let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ());
        let plan = compiled.expect("compiles").plan;
        let bounds = Bounds::new(&plan, plan.attention.as_ref().expect("an attention")).expect("pruning");
        let norm = |hi: f64| bounds.norm(Interval::new(0.0, hi));
        assert!(norm(4.0) > 2.0 && norm(4.0) < 2.001, "{}", norm(4.0));
        assert!(norm(0.0) > 0.0 && norm(0.0) < 1e-10, "{}", norm(0.0));
        assert!(norm(f64::from(f32::MAX)).is_finite());
        assert_eq!(norm(f64::INFINITY), f64::INFINITY);
        assert_eq!(bounds.norm(Interval { nan: true, ..Interval::new(0.0, 4.0) }), f64::INFINITY);
    }
}
