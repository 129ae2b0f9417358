//! The same attention by plain operations: products of matrices, and a softmax between them, for each sequence and head.

use std::error::Error;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::position::{HEAD_DIM, Position};
use crate::step::{Attend, Piece, Pieces};
use crate::transformer::{DIM, HEADS};

/// Sequences whose rows lie in one piece, `[token, head, element]`: nothing has to be gathered.
pub(crate) struct Plain {
    /// Of each layer, by the number of the sequence.
    layers: Vec<Vec<Rows>>,
    position: Position,
    /// Cosine and sine of each pair of elements, one position after the other.
    turns: Vec<[f32; 2]>,
}

#[derive(Clone, Default)]
struct Rows {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Plain {
    /// Room for sequences of up to `longest` tokens.
    pub(crate) fn new(position: Position, layers: usize, sequences: usize, longest: usize) -> Plain {
        let pairs = HEAD_DIM / 2;
        let turn = |at: usize| {
            let theta = 10_000f64.powf(-((at % pairs) as f64) / pairs as f64);
            let angle = (at / pairs) as f64 * theta;
            [angle.cos() as f32, angle.sin() as f32]
        };
        let room = || Vec::with_capacity(longest * DIM);
        let rows = || Rows { keys: room(), values: room() };
        let layers = (0..layers).map(|_| (0..sequences).map(|_| rows()).collect()).collect();
        Plain { layers, position, turns: (0..longest * pairs).map(turn).collect() }
    }

    /// Turns the heads of rows, the first of which stands at `position`, if the scheme does.
    fn turn(&self, mut rows: ArrayViewMut2<'_, f32>, position: usize) {
        if matches!(self.position, Position::Alibi) {
            return;
        }
        let pairs = HEAD_DIM / 2;
        let turns = self.turns[position * pairs..].chunks_exact(pairs);
        for (mut row, turns) in rows.rows_mut().into_iter().zip(turns) {
            for head in 0..HEADS {
                for (pair, [cos, sin]) in turns.iter().enumerate() {
                    let (i, j) = (head * HEAD_DIM + pair, head * HEAD_DIM + pair + pairs);
                    (row[i], row[j]) = (row[i] * cos - row[j] * sin, row[j] * cos + row[i] * sin);
                }
            }
        }
    }

    /// Attention of the last tokens of a sequence to all of it.
    fn attend_one(
        &self,
        queries: &ArrayView2<'_, f32>,
        [keys, values]: [ArrayView2<'_, f32>; 2],
        mut out: ArrayViewMut2<'_, f32>,
    ) {
        let (new, all) = (queries.nrows(), keys.nrows());
        let mut queries = queries.to_owned();
        self.turn(queries.view_mut(), all - new);
        let scale = 1.0 / (HEAD_DIM as f32).sqrt();
        let slope = |head: usize| match self.position {
            Position::Alibi => 0.25f32.powi(head as i32 + 1),
            Position::Rope => 0.0,
        };
        for head in 0..HEADS {
            let part = s![.., head * HEAD_DIM..(head + 1) * HEAD_DIM];
            let slope = slope(head);
            let mut weights = queries.slice(part).dot(&keys.slice(part).t());
            for (query, mut row) in weights.rows_mut().into_iter().enumerate() {
                let position = all - new + query;
                for (key, score) in row.iter_mut().enumerate() {
                    *score = *score * scale - slope * (position as f32 - key as f32);
                }
                row.slice_mut(s![position + 1..]).fill(f32::NEG_INFINITY);
                let top = row.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                row.mapv_inplace(|score| (score - top).exp());
                row /= row.sum();
            }
            out.slice_mut(part).assign(&weights.dot(&values.slice(part)));
        }
    }
}

impl Attend for Plain {
    fn attend(
        &mut self,
        layer: usize,
        pieces: &Pieces,
        [q, k, v]: &[Array2<f32>; 3],
        mixed: &mut Array2<f32>,
    ) -> Result<(), Box<dyn Error>> {
        for Piece { sequence, first, len } in pieces.iter() {
            let of = |matrix: &Array2<f32>| matrix.slice(s![first..first + len, ..]).to_owned();
            let (mut keys, values) = (of(k), of(v));
            self.turn(keys.view_mut(), self.layers[layer][sequence].keys.len() / DIM);
            let rows = &mut self.layers[layer][sequence];
            rows.keys.extend(&keys);
            rows.values.extend(&values);
        }
        let (mut work, mut rest) = (Vec::new(), mixed.view_mut());
        for piece in pieces.iter() {
            let (out, after) = rest.split_at(Axis(0), piece.len);
            work.push((piece, out));
            rest = after;
        }
        work.into_par_iter().try_for_each(|(Piece { sequence, first, len }, out)| {
            let Rows { keys, values } = &self.layers[layer][sequence];
            let all = |rows| ArrayView2::from_shape([keys.len() / DIM, DIM], rows);
            self.attend_one(&q.slice(s![first..first + len, ..]), [all(keys)?, all(values)?], out);
            Ok::<(), ndarray::ShapeError>(())
        })?;
        Ok(())
    }
}
