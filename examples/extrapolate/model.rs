//! The loss of the models: windows of a text in one batch, their attention by a kernel that the caller brings.

use std::error::Error;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use rhumb::prelude::{Kernel, TensorView, TensorViewMut};

use crate::transformer::{DIM, HEADS, Model, ROWS};

impl Model {
    /// Nats to predict every byte of `text` but the first, in windows of `context`, all in one batch.
    pub(crate) fn loss(&self, kernel: &Kernel, text: &[u8], context: usize) -> Result<f64, Box<dyn Error>> {
        let tokens = text.len() - 1;
        // One row per token: windows outermost, then their tokens.
        let mut stream = self.embed(&text[..tokens]);
        let mut qkv = [(); 3].map(|()| Array2::zeros([tokens, DIM]));
        let mut mixed = Array2::zeros([tokens, DIM]);
        for layer in &self.layers {
            layer.project(&stream, &mut qkv);
            attend(kernel, &qkv, &mut mixed, context)?;
            layer.finish(&mut stream, &mixed);
        }
        let targets: Vec<&[u8]> = text[1..].chunks(ROWS).collect();
        let blocks = stream.axis_chunks_iter(Axis(0), ROWS).into_par_iter().zip(targets);
        // Summed in order, so that the figures are the same on any number of threads.
        let losses: Vec<f64> = blocks.map(|(rows, targets)| self.nats(&rows, targets)).collect();
        Ok(losses.iter().sum())
    }

    /// Nats to predict a target from each row.
    fn nats(&self, rows: &ArrayView2<'_, f32>, targets: &[u8]) -> f64 {
        let logits = self.logits(rows);
        let nats = |(row, target): (ndarray::ArrayView1<'_, f32>, &u8)| {
            let top = f64::from(row.fold(f32::NEG_INFINITY, |a, b| a.max(*b)));
            let sum: f64 = row.iter().map(|x| (f64::from(*x) - top).exp()).sum();
            top + sum.ln() - f64::from(row[usize::from(*target)])
        };
        logits.rows().into_iter().zip(targets).map(nats).sum()
    }
}

/// Attention of all windows and heads. The kernel reads and writes the matrices where they are: a row has its heads side by side.
fn attend(
    kernel: &Kernel,
    [q, k, v]: &[Array2<f32>; 3],
    out: &mut Array2<f32>,
    context: usize,
) -> Result<(), Box<dyn Error>> {
    let shape = [q.nrows() / context, context, HEADS, DIM / HEADS];
    let out = TensorViewMut::from_slice(out.as_slice_mut().ok_or(NOT_ROW_MAJOR)?, &shape)?.permute(&BY_HEAD)?;
    let call = kernel.call().input("q", by_head(q, &shape)?).input("k", by_head(k, &shape)?);
    Ok(call.input("v", by_head(v, &shape)?).output("out", out).run()?)
}

/// `[window, token, head, dim]` seen as `[window, head, token, dim]`.
const BY_HEAD: [usize; 4] = [0, 2, 1, 3];
const NOT_ROW_MAJOR: &str = "a matrix is not row-major";

fn by_head<'a>(matrix: &'a Array2<f32>, shape: &[usize]) -> Result<TensorView<'a>, Box<dyn Error>> {
    Ok(TensorView::from_slice(matrix.as_slice().ok_or(NOT_ROW_MAJOR)?, shape)?.permute(&BY_HEAD)?)
}
