//! Rows of queries and keys that are looked up along themselves, element after element and over again: by vectors or not, rotated or not.

use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use crate::common::{Lengths, Rng, agree, engines_of_each_kernel, inputs};

/// A row of `wide` elements, made of `dim` by a lookup at the index modulo `period`, and turned.
#[derive(Clone, Copy, Debug)]
struct Row {
    dim: u32,
    wide: u32,
    /// None for the index itself.
    period: Option<i32>,
    turned: Option<Turned>,
}

#[derive(Clone, Copy, Debug)]
struct Turned {
    pairs: u32,
    start: u32,
    pairing: Pairing,
}

const fn row(dim: u32, wide: u32, period: i32) -> Row {
    Row { dim, wide, period: Some(period), turned: None }
}

const fn turned(row: Row, pairs: u32, start: u32, pairing: Pairing) -> Row {
    Row { turned: Some(Turned { pairs, start, pairing }), ..row }
}

const ROWS: &[Row] = &[
    // Both halves look up the same.
    turned(row(16, 32, 16), 16, 0, Pairing::Half),
    turned(row(20, 40, 20), 20, 0, Pairing::Half),
    turned(row(5, 10, 5), 5, 0, Pairing::Half),
    turned(row(16, 32, 8), 16, 0, Pairing::Half),
    // They do not.
    turned(row(16, 32, 12), 16, 0, Pairing::Half),
    turned(row(16, 32, 16), 16, 0, Pairing::Interleaved),
    // A part of the row is turned.
    turned(row(16, 64, 16), 16, 8, Pairing::Half),
    turned(row(16, 48, 16), 8, 32, Pairing::Half),
    row(16, 48, 16),
    // The last time is cut short.
    row(16, 24, 16),
    row(24, 31, 7),
    // Fewer elements than there are, and more, where the last comes again.
    row(32, 16, 32),
    row(12, 32, 16),
    Row { period: None, ..row(32, 32, 1) },
    Row { period: None, ..row(16, 32, 1) },
];

impl Row {
    /// The row of `x`, which takes a function of its elements.
    fn of<'g>(self, cx: &AttentionParts<'g>, x: Expr<'g>, position: Expr<'g>) -> Expr<'g> {
        let wide = cx.axis("wide", self.wide);
        let own = cx.builder().iota(wide);
        let index = self.period.map_or(own, |period| own % period);
        let looked_up = ((x * 0.5).exp() + 1.0).log().gather(cx.d, index);
        let Some(Turned { pairs, start, pairing }) = self.turned else { return looked_up };
        let pair = cx.axis("pair", pairs);
        let angle = position * cx.table(&[pair], (0..pairs).map(|i| 1.0 / f64::from(i + 1)).collect::<Vec<_>>());
        looked_up.rotate(angle, wide, pair, pairing, start)
    }

    fn graph(self, kv_heads: u32) -> Verified {
        let attention =
            Attention::heads(4).head_dim(self.dim).kv_heads(kv_heads).value_dim(16).score_with(move |cx, _| {
                let [query, key] = [(cx.query(), cx.q_pos()), (cx.key(), cx.k_pos())].map(|(x, at)| self.of(cx, x, at));
                query.dot(key, cx.axis("wide", self.wide)) * 0.1
            });
        attention.scheme(Causal).build().unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

#[test]
fn rows_that_are_looked_up_are_right() {
    let engines = engines_of_each_kernel(1);
    for (number, row) in ROWS.iter().enumerate() {
        let graph = row.graph([1, 2, 4][number % 3]);
        // Each for some of the engines, which are many.
        for (name, engine) in engines.iter().skip(number % 3).step_by(3) {
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{row:?}, {name}: {error}"));
            let reference = engine.reference(&graph).expect("a reference");
            for (queries, keys) in [(1, 17), (15, 33), (66, 70)] {
                let lengths = Lengths { batch: 2, queries, keys };
                let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format!("{row:?}, {name}"));
            }
        }
    }
}
