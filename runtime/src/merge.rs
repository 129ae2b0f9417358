//! Attentions over parts of the keys, merged to the attention over all of them.

use rhumb_ir::Elem;
use smallvec::SmallVec;

use crate::limits::MAX_RANK;
use crate::overlap::overlap;
use crate::view::{TensorView, TensorViewMut};

/// The attention of some queries over a part of the keys.
#[derive(Clone, Copy, Debug)]
pub struct Partial<'a> {
    /// The averages of values, rows of the value head last: `[b, h, q, e]`, say.
    pub out: TensorView<'a>,
    /// The log-sum-exp of each row of scores, by the natural logarithm: `[b, h, q]`. `-inf` where a row sees no key of the part.
    pub lse: TensorView<'a>,
}

/// Partial results that can't be merged.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// No partial results.
    #[error("there are no partial results to merge; pass one at least")]
    None,
    /// A tensor that is not of 32-bit floats.
    #[error("`{tensor}` of {whose} holds {found}; results are merged in f32")]
    Elem {
        /// `out` or `lse`.
        tensor: &'static str,
        /// Whose it is: the result's, or a partial one's by its number.
        whose: Whose,
        /// What it holds.
        found: Elem,
    },
    /// A tensor of another shape.
    #[error(
        "`{tensor}` of {whose} has shape {found:?}, where {expected:?} is expected; all `out` have the shape of the result, all `lse` that without the last dimension"
    )]
    Shape {
        /// `out` or `lse`.
        tensor: &'static str,
        /// Whose it is.
        whose: Whose,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that it must have.
        expected: Vec<usize>,
    },
    /// The result has no rows.
    #[error("the result has no dimension; `out` has at least that of the value head, which is its last")]
    Scalar,
    /// The result lies where a partial result or its other half does.
    #[error("`{tensor}` of the result shares memory with `{other}` of {whose}; give the result memory of its own")]
    Overlap {
        /// `out` or `lse`.
        tensor: &'static str,
        /// What it shares memory with.
        other: &'static str,
        /// Whose that is.
        whose: Whose,
    },
}

/// Whose a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The result's.
    Result,
    /// That of the partial result with this number, from 0.
    Partial(usize),
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whose::Result => f.write_str("the result"),
            Whose::Partial(number) => write!(f, "partial result {number}"),
        }
    }
}

/// Prints as it displays: `main` and `unwrap` show this.
impl std::fmt::Debug for MergeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Merges attentions over parts of the keys: `out = sum(exp(lse_i - lse) out_i)`, where `lse = log(sum(exp(lse_i)))`. So one context can be
/// spread over several machines, or a shared prefix computed once for many sequences.
///
/// Each part is computed by a kernel that also gives its log-sum-exp ([`Attention::lse`](rhumb_plugins::Attention::lse)). A sink belongs to
/// one of the parts alone. The parts are merged in the order given, in double precision, and rounded once: the same parts in the same order
/// give the same bits. Rows that no part sees are 0, with a log-sum-exp of `-inf`, and what such a part holds is not looked at.
///
/// ```
/// use rhumb_plugins::Attention;
/// use rhumb_runtime::{Engine, Partial, TensorView, TensorViewMut, merge_partials};
///
/// let kernel = Engine::host()?.compile(&Attention::heads(1).head_dim(4).lse().build()?)?;
/// let q = [1.0f32, 0.0, 0.5, -1.0];
/// let rows: Vec<f32> = (0..40).map(|n| (n as f32).sin()).collect();
/// // Attention over the keys from `first` to `end`, with its log-sum-exp.
/// let over = |first: usize, end: usize| -> Result<([f32; 4], [f32; 1]), Box<dyn std::error::Error>> {
///     let keys = TensorView::from_slice(&rows, &[1, 1, 10, 4])?.narrow(2, first, end - first)?;
///     let (mut out, mut lse) = ([0.0; 4], [0.0; 1]);
///     let call = kernel.call().input("q", TensorView::from_slice(&q, &[1, 1, 1, 4])?).input("k", keys).input("v", keys);
///     let call = call.output("out", TensorViewMut::from_slice(&mut out, &[1, 1, 1, 4])?);
///     call.output("lse", TensorViewMut::from_slice(&mut lse, &[1, 1, 1])?).run()?;
///     Ok((out, lse))
/// };
/// let ((a, a_lse), (b, b_lse)) = (over(0, 3)?, over(3, 10)?);
/// let partials = [
///     Partial { out: TensorView::from_slice(&a, &[1, 1, 1, 4])?, lse: TensorView::from_slice(&a_lse, &[1, 1, 1])? },
///     Partial { out: TensorView::from_slice(&b, &[1, 1, 1, 4])?, lse: TensorView::from_slice(&b_lse, &[1, 1, 1])? },
/// ];
/// let (mut out, mut lse) = ([0.0; 4], [0.0; 1]);
/// let (merged, sums) = (TensorViewMut::from_slice(&mut out, &[1, 1, 1, 4])?, TensorViewMut::from_slice(&mut lse, &[1, 1, 1])?);
/// merge_partials(&partials, merged, Some(sums))?;
/// let (whole, whole_lse) = over(0, 10)?;
/// assert!(out.iter().zip(whole).all(|(a, b)| (a - b).abs() < 1e-6) && (lse[0] - whole_lse[0]).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`MergeError`] if shapes or element types do not fit, or the result shares memory with anything else. Then nothing was written.
pub fn merge_partials(
    partials: &[Partial<'_>],
    mut out: TensorViewMut<'_>,
    mut lse: Option<TensorViewMut<'_>>,
) -> Result<(), MergeError> {
    check(partials, &out, lse.as_ref())?;
    let shape: SmallVec<[usize; MAX_RANK]> = out.shape().into();
    let (rank, length) = (shape.len() - 1, shape[shape.len() - 1]);
    let mut index = [0; MAX_RANK];
    let mut weights: SmallVec<[f64; 32]> = SmallVec::new();
    let at = |view: &TensorView<'_>, index: &[usize]| view.get(index).unwrap_or(f64::NAN);
    for _ in 0..shape[..rank].iter().product() {
        let row = &index[..rank];
        let sums = || partials.iter().map(|partial| at(&partial.lse, row));
        let most = sums().fold(f64::NEG_INFINITY, f64::max);
        weights.clear();
        // Infinite scores make for NaN here, as in the attention over all keys.
        weights.extend(sums().map(|sum| if sum == f64::NEG_INFINITY { 0.0 } else { (sum - most).exp() }));
        let total: f64 = weights.iter().sum();
        if let Some(lse) = &mut lse {
            lse.set(row, if total == 0.0 { f64::NEG_INFINITY } else { most + total.ln() });
        }
        for element in 0..length {
            index[rank] = element;
            let taken = partials.iter().zip(&weights).filter(|(_, weight)| **weight != 0.0);
            let sum: f64 = taken.map(|(partial, weight)| weight * at(&partial.out, &index[..=rank])).sum();
            out.set(&index[..=rank], if total == 0.0 { 0.0 } else { sum / total });
        }
        for (index, size) in index[..rank].iter_mut().zip(&shape).rev() {
            *index += 1;
            if *index < *size {
                break;
            }
            *index = 0;
        }
    }
    Ok(())
}

/// Holds tensors against the result.
fn check(partials: &[Partial<'_>], out: &TensorViewMut<'_>, lse: Option<&TensorViewMut<'_>>) -> Result<(), MergeError> {
    if partials.is_empty() {
        return Err(MergeError::None);
    }
    let Some(rank) = out.rank().checked_sub(1) else { return Err(MergeError::Scalar) };
    let result = [("out", Some(out.as_view())), ("lse", lse.map(TensorViewMut::as_view))];
    let of_result = || result.into_iter().filter_map(|(tensor, view)| Some((tensor, Whose::Result, view?)));
    let of_partials = || {
        let each = partials.iter().enumerate();
        each.flat_map(|(n, partial)| [("out", Whose::Partial(n), partial.out), ("lse", Whose::Partial(n), partial.lse)])
    };
    for (tensor, whose, view) in of_result().chain(of_partials()) {
        if view.elem() != Elem::F32 {
            return Err(MergeError::Elem { tensor, whose, found: view.elem() });
        }
        let expected = if tensor == "out" { out.shape() } else { &out.shape()[..rank] };
        if view.shape() != expected {
            let (found, expected) = (view.shape().to_vec(), expected.to_vec());
            return Err(MergeError::Shape { tensor, whose, found, expected });
        }
    }
    for (number, (tensor, _, view)) in of_result().enumerate() {
        let others = of_result().skip(number + 1).chain(of_partials());
        for (other, whose, of) in others {
            if overlap(view.region(), of.region()) {
                return Err(MergeError::Overlap { tensor, other, whose });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(data: &'a [f32], shape: &[usize]) -> TensorView<'a> {
        TensorView::from_slice(data, shape).expect("a view")
    }

    #[test]
    fn parts_weigh_by_their_sums() {
        let infinite = f32::NEG_INFINITY;
        // Rows: both parts, the second alone, neither, a NaN.
        let (first, second) = ([1.0, 2.0, f32::NAN, 0.0, 9.0, 9.0, 1.0, 1.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 2.0, 2.0]);
        let (a, b) = ([0.0, infinite, infinite, f32::NAN], [3f32.ln(), 2.0, infinite, 0.0]);
        let parts = [
            Partial { out: view(&first, &[4, 2]), lse: view(&a, &[4]) },
            Partial { out: view(&second, &[4, 2]), lse: view(&b, &[4]) },
        ];
        let (mut out, mut lse) = ([7.0f32; 8], [7.0f32; 4]);
        let views = (TensorViewMut::from_slice(&mut out, &[4, 2]), TensorViewMut::from_slice(&mut lse, &[4]));
        merge_partials(&parts, views.0.expect("a view"), views.1.ok()).expect("merges");
        assert_eq!(out[..6], [2.5, 3.5, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!(lse[..3], [4f32.ln(), 2.0, infinite]);
        assert!(out[6].is_nan() && lse[3].is_nan());
        let mut alone = [7.0f32; 8];
        let alone_view = TensorViewMut::from_slice(&mut alone, &[4, 2]).expect("a view");
        merge_partials(&parts, alone_view, None).expect("merges");
        assert_eq!(alone[..6], out[..6]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (rows, sums, integers) = ([0.0; 8], [0.0; 4], [0; 4]);
        let good = Partial { out: view(&rows, &[4, 2]), lse: view(&sums, &[4]) };
        let mut out = [7.0f32; 8];
        let mut refused = |partials: &[Partial<'_>], shape: &[usize]| {
            let result = TensorViewMut::from_slice(&mut out[..shape.iter().product()], shape).expect("a view");
            let error = merge_partials(partials, result, None).expect_err("refused").to_string();
            assert!(out.iter().all(|x| *x == 7.0), "nothing is written");
            error
        };
        assert_eq!(refused(&[], &[4, 2]), "there are no partial results to merge; pass one at least");
        assert!(refused(&[good], &[]).starts_with("the result has no dimension"));
        assert_eq!(
            refused(&[good, Partial { lse: view(&rows, &[8]), ..good }], &[4, 2]),
            "`lse` of partial result 1 has shape [8], where [4] is expected; all `out` have the shape of the result, all `lse` that without the last dimension"
        );
        let integers = TensorView::from_slice(&integers, &[4]).expect("a view");
        assert_eq!(
            refused(&[Partial { lse: integers, ..good }], &[4, 2]),
            "`lse` of partial result 0 holds i32; results are merged in f32"
        );
    }
}
