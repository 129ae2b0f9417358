//! Attentions of two heads, and calls of them on row-major tensors.

use std::sync::Arc;

use rhumb::prelude::*;
use rhumb::runtime::CallError;

use super::{Layout, Lengths, Tensor, Tensors, outputs, run};

pub(crate) const HEADS: u32 = 2;
pub(crate) const DIM: u32 = 16;

pub(crate) fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(DIM).lse()
}

pub(crate) fn compile(engine: &Engine, attention: &Attention) -> Arc<Kernel> {
    engine.compile(&attention.build().expect("a graph")).unwrap_or_else(|error| panic!("{error}"))
}

/// Attentions of two head dimensions, of queries and keys and of values, by name.
type Attentions = fn(u32, u32) -> Vec<(&'static str, Attention)>;

/// Each attention of each size with each engine: `each` gets a number, which changes with all three, the engine, the attention with its name, and
/// its head dimensions.
pub(crate) fn sweep<'e>(
    engines: impl IntoIterator<Item = &'e Engine>,
    dims: &[(u32, u32)],
    attentions: Attentions,
    mut each: impl FnMut(usize, &Engine, (&str, &Attention), (u32, u32)),
) {
    for (number, engine) in engines.into_iter().enumerate() {
        for (n, &(d, e)) in dims.iter().enumerate() {
            for (m, (name, attention)) in attentions(d, e).iter().enumerate() {
                each(number + 3 * n + 5 * m, engine, (name, attention), (d, e));
            }
        }
    }
}

/// Runs a kernel on row-major tensors.
pub(crate) fn call(kernel: &Kernel, inputs: &Tensors, lengths: Lengths) -> Result<Tensors, CallError> {
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), inputs, &mut made)?;
    Ok(made)
}

/// Interprets the same call.
pub(crate) fn interpret(engine: &Engine, attention: &Attention, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let reference = engine.reference(&attention.build().expect("a graph")).expect("a reference");
    let mut made = outputs(reference.interface(), lengths, |_| Layout::Rows);
    run(reference.call(), inputs, &mut made).expect("runs");
    made
}

pub(crate) fn bits(tensors: &Tensors) -> Vec<Vec<u32>> {
    tensors.values().map(Tensor::bits).collect()
}

/// What a call made of one query: for each batch and head, the row of `out` and the element of `lse`.
pub(crate) fn rows(tensors: &Tensors, query: usize) -> Vec<f32> {
    let (out, lse) = (&tensors["out"], &tensors["lse"]);
    let (queries, dim) = (out.shape()[2], out.shape()[3]);
    let (out, lse) = (out.values(), lse.values());
    let mut row: Vec<f32> = Vec::new();
    for group in 0..lse.len() / queries {
        let index = group * queries + query;
        row.extend(&out[index * dim..(index + 1) * dim]);
        row.push(lse[index]);
    }
    row
}
