//! Attributes to try the entry of a scheme with.

use std::ops::Bound;

use rhumb_ir::{Attr, Value};
use rhumb_plugins::{AttrInfo, AttrKind, AttrRange};

/// A few attributes that are what is declared, no two the same.
pub(super) fn samples(info: &AttrInfo, values: &[Value]) -> Vec<Attr> {
    let numbers = numbers(&info.range);
    let ints = || numbers.iter().filter(|x| x.fract() == 0.0).map(|x| Attr::Int(*x as i64)).collect();
    let lists = || numbers.iter().map(|x| Attr::List(vec![*x; info.range.length.unwrap_or(1)])).collect();
    match &info.kind {
        AttrKind::Bool => vec![Attr::Bool(true), Attr::Bool(false)],
        AttrKind::Int | AttrKind::IntOrValue => ints(),
        AttrKind::Float => numbers.into_iter().map(Attr::Float).collect(),
        AttrKind::Name(names) => names.iter().cloned().map(Attr::Str).collect(),
        AttrKind::List | AttrKind::ListOrValue => lists(),
        AttrKind::Value => values.iter().copied().map(Attr::Value).collect(),
        _ => Vec::new(),
    }
}

/// Numbers of a range: where it begins and ends, and what is between.
fn numbers(range: &AttrRange) -> Vec<f64> {
    let ends = [range.least, range.most].into_iter().filter_map(|end| match end {
        Bound::Included(x) | Bound::Excluded(x) => Some(x),
        Bound::Unbounded => None,
    });
    let mut found: Vec<f64> = ends.chain([0.0, 0.5, 1.0, 2.0, 1000.0]).filter(|x| range.contains(*x)).collect();
    found.sort_by(f64::total_cmp);
    found.dedup();
    found
}
