//! Scores by the interpreter and by the author's formula, and what attention makes of them.

use rhumb_ir::{Bindings, Verified, interpret};

use super::failure::{Finding, Pair};
use super::point::Point;
use super::shape::{BATCH, Shape, Trial};
use super::subject::{key_data, query_data, value_data};

/// The scores of a graph without scheme ops, over `[batch, head, query, key]`.
pub(super) fn scores(lowered: &Verified, bindings: &Bindings) -> Result<Vec<f64>, Finding> {
    let mut outputs = interpret(lowered, bindings).map_err(Finding::Interpret)?;
    Ok(outputs.remove("score").map(|tensor| tensor.data).unwrap_or_default())
}

/// Calls `see` for each score with its place.
pub(super) fn each(
    trial: &Trial,
    mut see: impl FnMut(usize, &Point<'_>) -> Result<(), Finding>,
) -> Result<(), Finding> {
    let (query, key) = (query_data(&trial.shape), key_data(&trial.shape));
    (0..trial.shape.scores()).try_for_each(|index| see(index, &Point::new(trial, index, &query, &key)))
}

/// Checks that each score is a number that a softmax takes: finite, or `-inf` where the key is hidden.
pub(super) fn are_numbers(trial: &Trial, scores: &[f64]) -> Result<(), Finding> {
    let Some(found) = scores.iter().find(|score| score.is_nan() || **score == f64::INFINITY) else { return Ok(()) };
    each(trial, |index, point| match scores[index] {
        score if score.is_nan() || score == f64::INFINITY => {
            Err(Finding::NoNumber { pair: Pair::of(point), found: *found })
        }
        _ => Ok(()),
    })
}

/// The scores of the formula, which those of the scheme have to be.
pub(super) fn compare(trial: &Trial, scores: &[f64], formula: &dyn Fn(&Point<'_>) -> f64) -> Result<Vec<f64>, Finding> {
    let mut all = Vec::with_capacity(scores.len());
    each(trial, |index, point| {
        let (expected, found) = (formula(point), scores[index]);
        if !close(found, expected) {
            return Err(Finding::Score { pair: Pair::of(point), expected, found });
        }
        all.push(expected);
        Ok(())
    })?;
    Ok(all)
}

/// Equal up to what double precision leaves of angles of some thousands of radians; an infinity is close to itself alone.
pub(super) fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs())))
}

/// What attention makes of scores: the averages of values, and the log-sum-exp of each row.
pub(super) struct Attended {
    pub(super) out: Vec<f64>,
    pub(super) lse: Vec<f64>,
}

/// The attention of scores over the kit's values, in double precision and as it is defined.
pub(super) fn attended(shape: &Shape, scores: &[f64]) -> Attended {
    let (heads, groups) = (shape.heads as usize, shape.kv_heads as usize);
    let (dim, values) = (shape.head_dim as usize, value_data(shape));
    let rows = BATCH * heads * shape.queries;
    let mut attended = Attended { out: vec![0.0; rows * dim], lse: vec![f64::NEG_INFINITY; rows] };
    for row in 0..rows {
        let (batch, head) = (row / shape.queries / heads, row / shape.queries % heads);
        let group = batch * groups + head / (heads / groups);
        let scores = &scores[row * shape.keys..][..shape.keys];
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if most == f64::NEG_INFINITY {
            continue;
        }
        let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
        attended.lse[row] = most + sum.ln();
        let out = &mut attended.out[row * dim..][..dim];
        for (key, score) in scores.iter().enumerate() {
            let weight = (score - most).exp() / sum;
            let value = &values[(group * shape.keys + key) * dim..][..dim];
            out.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
        }
    }
    attended
}
