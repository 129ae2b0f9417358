//! Tensors that the command owns.

use std::fmt::Write;

use rhumb::ir::Tensor;
use rhumb::prelude::*;
use rhumb::runtime::OwnedTensor;

use super::CliError;

/// A tensor of zeros, if memory holds it.
pub(super) fn zeros(what: &'static str, name: &str, elem: Elem, shape: Vec<usize>) -> Result<OwnedTensor, CliError> {
    OwnedTensor::zeros(elem, &shape).map_err(|_| CliError::TooLarge { what, name: name.to_owned(), shape })
}

/// A tensor as the interpreter takes it, if memory holds it.
pub(super) fn to_tensor(tensor: &OwnedTensor) -> Option<Tensor> {
    let data = list(tensor.len(), tensor.numbers())?;
    Some(Tensor { elem: tensor.elem(), shape: tensor.shape().to_vec(), data })
}

/// What it holds, in a few lines.
pub(super) fn summary(tensor: &OwnedTensor, name: &str) -> String {
    const FIRST: usize = 6;
    let elem = tensor.elem();
    let mut text = format!("{name}: {elem}{:?}\n", tensor.shape());
    let finite = || tensor.numbers().filter(|x| x.is_finite());
    let count = finite().count();
    if count > 0 {
        let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let mean = finite().sum::<f64>() / count as f64;
        let _ = writeln!(text, "  min {min:.6}  max {max:.6}  mean {mean:.6}");
    }
    let (infinite, nan) =
        (tensor.numbers().filter(|x| x.is_infinite()).count(), tensor.numbers().filter(|x| x.is_nan()).count());
    if infinite + nan > 0 {
        let _ = writeln!(text, "  {infinite} infinite, {nan} NaN, left out of these");
    }
    let first: Vec<String> = tensor.numbers().take(FIRST).map(|x| format!("{x:.6}")).collect();
    let more = if tensor.len() > FIRST { " ..." } else { "" };
    let _ = writeln!(text, "  {}{more}", if first.is_empty() { "no elements".to_owned() } else { first.join(" ") });
    text
}

/// A list of these many elements, if memory holds them.
pub(super) fn list<T>(count: usize, elements: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).ok()?;
    list.extend(elements.take(count));
    Some(list)
}
