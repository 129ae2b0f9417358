//! What an author claims of a scheme beside its formula.

use std::collections::BTreeSet;

use rhumb_ir::{Attr, Verified};
use rhumb_plugins::{PositionScheme, Registry, lower};

use super::failure::{Finding, Pair};
use super::scores::{close, each, scores};
use super::shape::{Positions, Shape, Trial};
use super::subject::{Outputs, Rows, Subject};

/// Shifts that scores are compared at.
const SHIFTS: [i32; 4] = [1, 37, 4096, -12];

/// The most keys of an attention that is computed once more with queries and keys in each other's place.
const MOST_SWAPPED: usize = 150;

/// What is claimed.
#[derive(Clone, Copy, Default)]
pub(super) struct Claims {
    pub(super) shift_invariant: bool,
    pub(super) symmetric: bool,
    pub(super) decays: bool,
    pub(super) causal: bool,
    pub(super) parameter_free: bool,
}

impl Claims {
    /// Checks all that is claimed, at one trial whose graph lowers to `lowered` and has these scores.
    pub(super) fn check(
        &self,
        (subject, trial): (&Subject<'_>, &Trial),
        scheme: &dyn PositionScheme,
        lowered: &Verified,
        scores: &[f64],
    ) -> Result<(), Finding> {
        if self.parameter_free {
            parameters(scheme, lowered)?;
        }
        if self.causal {
            causal(trial, scores)?;
        }
        if self.shift_invariant && trial.positions == Positions::Given {
            shifted((subject, trial), lowered, scores)?;
        }
        if self.decays {
            decays((subject, trial), lowered)?;
        }
        if self.symmetric && trial.shape.keys <= MOST_SWAPPED {
            symmetric(subject, trial)?;
        }
        Ok(())
    }
}

/// No input of the graph but those of any attention.
fn parameters(scheme: &dyn PositionScheme, lowered: &Verified) -> Result<(), Finding> {
    let usual = ["q", "k", "v", "q_pos", "k_pos"];
    let inputs = lowered.inputs().map(|(name, _)| name).filter(|name| !usual.contains(name)).map(str::to_owned);
    let values = scheme.attributes().into_iter().filter(|(_, attr)| matches!(attr, Attr::Value(_)));
    // An attribute may be called as the input that it is.
    let names: BTreeSet<String> = inputs.chain(values.map(|(name, _)| name)).collect();
    let names: Vec<String> = names.into_iter().collect();
    if names.is_empty() { Ok(()) } else { Err(Finding::Parameters { names }) }
}

fn causal(trial: &Trial, scores: &[f64]) -> Result<(), Finding> {
    each(trial, |index, point| match scores[index] {
        found if point.k_index > point.q_index && found != f64::NEG_INFINITY => {
            Err(Finding::Later { pair: Pair::of(point), found })
        }
        _ => Ok(()),
    })
}

fn shifted((subject, trial): (&Subject<'_>, &Trial), lowered: &Verified, before: &[f64]) -> Result<(), Finding> {
    for shift in SHIFTS {
        let after = scores(lowered, &subject.bindings(trial, Rows::Random, shift))?;
        each(trial, |index, point| match (before[index], after[index]) {
            (before, after) if close(before, after) => Ok(()),
            (before, after) => Err(Finding::Shift { pair: Pair::of(point), shift, before, after }),
        })?;
    }
    Ok(())
}

/// The scores of the square attention of these heads, and those where queries and keys have changed places.
fn symmetric(subject: &Subject<'_>, trial: &Trial) -> Result<(), Finding> {
    let square = Trial { shape: trial.shape.square(), ..*trial };
    let Shape { queries: tokens, .. } = square.shape;
    let (graph, _) = subject.graph(&square, Outputs::Scores)?;
    let lowered = lower(&graph, &Registry::empty()).map_err(Finding::Lower)?;
    let before = scores(&lowered, &subject.bindings(&square, Rows::Random, 0))?;
    let after = scores(&lowered, &subject.bindings(&square, Rows::Swapped, 0))?;
    each(&square, |index, point| {
        let swapped = (index / (tokens * tokens)) * tokens * tokens + point.key * tokens + point.query;
        match (before[index], after[swapped]) {
            (score, swapped) if close(score, swapped) => Ok(()),
            (score, swapped) => Err(Finding::Asymmetry { pair: Pair::of(point), score, swapped }),
        }
    })
}

/// Scores of the same query and the same key at all positions: of keys at the query's position and behind it, one that is farther has no
/// greater score.
fn decays((subject, trial): (&Subject<'_>, &Trial), lowered: &Verified) -> Result<(), Finding> {
    let keys = trial.shape.keys;
    let scores = scores(lowered, &subject.bindings(trial, Rows::Alike, 0))?;
    let mut row: Vec<(f64, f64, usize)> = Vec::new();
    each(trial, |index, point| {
        if point.key == 0 {
            row.clear();
        }
        if point.k_pos <= point.q_pos {
            row.push((point.q_pos - point.k_pos, scores[index], point.key));
        }
        if point.key + 1 < keys {
            return Ok(());
        }
        row.sort_by(|a, b| a.0.total_cmp(&b.0));
        let grows = row.windows(2).find(|pair| pair[1].1 > pair[0].1 && !close(pair[0].1, pair[1].1));
        grows.map_or(Ok(()), |pair| {
            let [(near, near_score, _), (far, far_score, key)] = [pair[0], pair[1]];
            let at = Pair { key, ..Pair::of(point) };
            Err(Finding::Growth { pair: at, near, near_score, far, far_score })
        })
    })
}
