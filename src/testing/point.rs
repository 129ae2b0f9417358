//! One score, as an author's scalar function sees it.

use super::shape::Trial;

/// One query and one key of a head, with all that a score depends on.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The sequence of the batch.
    pub batch: usize,
    /// The query head.
    pub head: u32,
    /// Query heads.
    pub heads: u32,
    /// Position of the query.
    pub q_pos: f64,
    /// Position of the key.
    pub k_pos: f64,
    /// Token index of the query.
    pub q_index: i64,
    /// Token index of the key.
    pub k_index: i64,
    /// The number of tokens so far.
    pub length: i64,
    /// The query among the queries of the call, from 0.
    pub query: usize,
    /// The key among the keys of the call, from 0.
    pub key: usize,
    /// The elements of the query, not yet transformed.
    pub q: &'a [f64],
    /// The elements of the key, not yet transformed.
    pub k: &'a [f64],
    /// The factor on the product of query and key.
    pub scale: f64,
}

impl<'a> Point<'a> {
    /// The point of the score at `index` of a tensor `[b, h, q, k]`, of queries `[b, h, q, d]` and keys `[b, g, k, d]`.
    pub(super) fn new(trial: &Trial, index: usize, queries: &'a [f64], keys: &'a [f64]) -> Point<'a> {
        let shape = &trial.shape;
        let (row, key) = (index / shape.keys, index % shape.keys);
        let (batch_head, query) = (row / shape.queries, row % shape.queries);
        let (heads, groups) = (shape.heads as usize, shape.kv_heads as usize);
        let (batch, head) = (batch_head / heads, batch_head % heads);
        let dim = shape.head_dim as usize;
        let group = batch * groups + head / (heads / groups);
        let (q, k) = (row * dim, (group * shape.keys + key) * dim);
        let (q_index, k_index) = (shape.first_query() + query as i64, key as i64);
        Point {
            batch,
            head: head as u32,
            heads: shape.heads,
            q_pos: trial.position(batch, q_index) as f64,
            k_pos: trial.position(batch, k_index) as f64,
            q_index,
            k_index,
            length: shape.keys as i64,
            query,
            key,
            q: &queries[q..q + dim],
            k: &keys[k..k + dim],
            scale: shape.scale(),
        }
    }

    /// The score without a scheme: `scale (q . k)`.
    pub fn score(&self) -> f64 {
        self.scale * self.q.iter().zip(self.k).map(|(q, k)| q * k).sum::<f64>()
    }

    /// `score` where `attends` holds, else `-inf`.
    pub fn masked(&self, attends: bool) -> f64 {
        if attends { self.score() } else { f64::NEG_INFINITY }
    }

    /// The score of a query and a key whose pairs are turned: `pairs` gives the two elements of each pair, and its angle for the query
    /// and for the key.
    pub fn rotated(&self, pairs: impl IntoIterator<Item = (usize, usize, f64, f64)>) -> f64 {
        let (mut q, mut k) = (self.q.to_vec(), self.k.to_vec());
        for (a, b, q_angle, k_angle) in pairs {
            for (x, angle) in [(&mut q, q_angle), (&mut k, k_angle)] {
                let (sin, cos) = angle.sin_cos();
                (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
            }
        }
        Point { q: &q, k: &k, ..*self }.score()
    }
}
