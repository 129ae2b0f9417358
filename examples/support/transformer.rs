//! A plain transformer: RMSNorm, SwiGLU, tied embeddings. Its attention is the caller's, between [`Layer::project`] and [`Layer::finish`].

use std::error::Error;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Zip};
use rayon::prelude::*;
use safetensors::SafeTensors;

/// Elements of a row: those of all heads, side by side.
pub(crate) const DIM: usize = 128;
pub(crate) const HEADS: usize = 4;
const HIDDEN: usize = 352;
const VOCABULARY: usize = 256;
const LAYERS: usize = 4;
const EPS: f32 = 1e-5;
/// Tokens that a thread takes at a time outside attention.
pub(crate) const ROWS: usize = 256;

/// The weights. A linear layer is `y = x Wᵀ`.
pub(crate) struct Model {
    embeddings: Array2<f32>,
    pub(crate) layers: Vec<Layer>,
    norm: Vec<f32>,
}

/// One layer, but for its attention.
pub(crate) struct Layer {
    attention_norm: Vec<f32>,
    wq: Array2<f32>,
    wk: Array2<f32>,
    wv: Array2<f32>,
    wo: Array2<f32>,
    ffn_norm: Vec<f32>,
    w1: Array2<f32>,
    w2: Array2<f32>,
    w3: Array2<f32>,
}

impl Model {
    /// Reads a `safetensors` file of `f32` weights.
    pub(crate) fn load(path: &str) -> Result<Model, Box<dyn Error>> {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let vector = |name: &str, len: usize| -> Result<Vec<f32>, Box<dyn Error>> {
            let data = file.tensor(name)?.data();
            let data: Vec<f32> = data.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
            if data.len() == len { Ok(data) } else { Err(format!("{path}: `{name}` is not of {len} numbers").into()) }
        };
        let matrix = |name: &str, rows: usize, columns: usize| -> Result<Array2<f32>, Box<dyn Error>> {
            Ok(Array2::from_shape_vec([rows, columns], vector(name, rows * columns)?)?)
        };
        let layer = |i: usize| -> Result<Layer, Box<dyn Error>> {
            let name = |part: &str| format!("layers.{i}.{part}.weight");
            Ok(Layer {
                attention_norm: vector(&name("attention_norm"), DIM)?,
                wq: matrix(&name("wq"), DIM, DIM)?,
                wk: matrix(&name("wk"), DIM, DIM)?,
                wv: matrix(&name("wv"), DIM, DIM)?,
                wo: matrix(&name("wo"), DIM, DIM)?,
                ffn_norm: vector(&name("ffn_norm"), DIM)?,
                w1: matrix(&name("w1"), HIDDEN, DIM)?,
                w2: matrix(&name("w2"), DIM, HIDDEN)?,
                w3: matrix(&name("w3"), HIDDEN, DIM)?,
            })
        };
        Ok(Model {
            embeddings: matrix("tok_embeddings.weight", VOCABULARY, DIM)?,
            layers: (0..LAYERS).map(layer).collect::<Result<_, _>>()?,
            norm: vector("norm.weight", DIM)?,
        })
    }

    /// A row for each byte, which the layers change one after the other.
    pub(crate) fn embed(&self, text: &[u8]) -> Array2<f32> {
        let mut stream = Array2::zeros([text.len(), DIM]);
        for (mut row, &byte) in stream.rows_mut().into_iter().zip(text) {
            row.assign(&self.embeddings.row(usize::from(byte)));
        }
        stream
    }

    /// The logits of the next byte, from rows that have passed all layers.
    pub(crate) fn logits(&self, rows: &ArrayView2<'_, f32>) -> Array2<f32> {
        normalised(rows, &self.norm).dot(&self.embeddings.t())
    }
}

impl Layer {
    /// Queries, keys and values of all tokens.
    pub(crate) fn project(&self, stream: &Array2<f32>, [q, k, v]: &mut [Array2<f32>; 3]) {
        let blocks = stream.axis_chunks_iter(Axis(0), ROWS).into_par_iter();
        blocks.zip(chunks(q)).zip(chunks(k)).zip(chunks(v)).for_each(|(((rows, mut q), mut k), mut v)| {
            let x = normalised(&rows, &self.attention_norm);
            q.assign(&x.dot(&self.wq.t()));
            k.assign(&x.dot(&self.wk.t()));
            v.assign(&x.dot(&self.wv.t()));
        });
    }

    /// Adds what attention mixed, then the feed-forward block.
    pub(crate) fn finish(&self, stream: &mut Array2<f32>, mixed: &Array2<f32>) {
        let mixed = mixed.axis_chunks_iter(Axis(0), ROWS).into_par_iter();
        chunks(stream).zip(mixed).for_each(|(mut rows, mixed)| {
            rows += &mixed.dot(&self.wo.t());
            let x = normalised(&rows.view(), &self.ffn_norm);
            let mut hidden = x.dot(&self.w1.t());
            Zip::from(&mut hidden).and(&x.dot(&self.w3.t())).for_each(|gate, up| *gate *= up / (1.0 + (-*gate).exp()));
            rows += &hidden.dot(&self.w2.t());
        });
    }
}

/// The rows of a matrix in blocks, for threads to share.
fn chunks(matrix: &mut Array2<f32>) -> impl IndexedParallelIterator<Item = ArrayViewMut2<'_, f32>> {
    matrix.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter()
}

/// RMSNorm of each row: `x / sqrt(mean(x²) + eps) * weight`.
fn normalised(rows: &ArrayView2<'_, f32>, weight: &[f32]) -> Array2<f32> {
    let mut rows = rows.to_owned();
    for mut row in rows.rows_mut() {
        let scale = 1.0 / (row.dot(&row) / DIM as f32 + EPS).sqrt();
        row.iter_mut().zip(weight).for_each(|(x, weight)| *x *= scale * weight);
    }
    rows
}
