//! Values of a score by runs of queries and keys, such as rows of a grid: what is found, and that it is right wherever runs, key tiles and
//! query tiles begin or end.

use crate::common::bias::{Bias, hold_each, rates};
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

/// Differences of rows and of columns in a grid of this width.
fn offsets<'g>(cx: &AttentionParts<'g>, width: i32) -> [Expr<'g>; 2] {
    [cx.q_index() / width - cx.k_index() / width, cx.q_index() % width - cx.k_index() % width]
}

fn reals<'g>(cx: &AttentionParts<'g>, width: i32) -> [Expr<'g>; 2] {
    offsets(cx, width).map(|x| x.cast(Elem::F32))
}

/// Time, row and column in a grid of three axes.
fn cell(index: Expr<'_>) -> [Expr<'_>; 3] {
    [index / 60, index / 12 % 5, index % 12].map(|x| x.cast(Elem::F32))
}

/// The number of a cell of a grid, as tables of offsets count.
fn number(index: Expr<'_>) -> Expr<'_> {
    index / 24 * 47 + index % 24
}

/// A long function of a number.
fn slow(x: Expr<'_>) -> Expr<'_> {
    (x.abs() + 1.0).log() * (x * 0.01).sin() + (x * 0.02).tanh()
}

/// A learned number for each offset, which are fewer than there may be.
fn table<'g>(cx: &AttentionParts<'g>, width: i32, by_head: bool) -> Expr<'g> {
    let offset = cx.axis("offset", 300);
    let table = match by_head {
        true => cx.input("table", Elem::F32, [cx.h, offset]),
        false => cx.input("table", Elem::F32, [offset]),
    };
    let [y, x] = offsets(cx, width);
    table.gather(offset, y * (2 * width - 1) + x + 100)
}

/// Biases, and how many values of each are by runs where vectors have 8 lanes or more.
const BIASES: &[(&str, usize, Bias)] = &[
    ("a distance in a grid", 1, |cx| {
        let [y, x] = reals(cx, 60);
        (y * y + x * x).sqrt() * rates(cx, -0.5)
    }),
    ("a table by offset and head", 1, |cx| table(cx, 16, true)),
    ("a table by offset, rows that fit no tile", 1, |cx| table(cx, 13, false)),
    ("rows longer than a tile", 1, |cx| {
        let [y, x] = reals(cx, 90);
        slow(y * y + x * x)
    }),
    ("a single row", 1, |cx| {
        let [y, x] = reals(cx, 1_000_000);
        slow(y + x)
    }),
    ("rows of two", 0, |cx| {
        let [y, x] = reals(cx, 2);
        slow(y + x)
    }),
    ("a grid of three axes", 1, |cx| {
        let ([t, y, x], [t2, y2, x2]) = (cell(cx.q_index()), cell(cx.k_index()));
        let (t, y, x) = (t - t2, y - y2, x - x2);
        slow(t * t + y * y * 0.5 + x * x * 0.25)
    }),
    ("a grid that begins later", 1, |cx| slow((number(cx.q_index() - 7) - number(cx.k_index() - 7)).cast(Elem::F32))),
    ("grids of other widths", 0, |cx| slow((cx.q_index() % 24 - cx.k_index() / 24).cast(Elem::F32))),
    ("keys twice as far apart", 0, |cx| slow((cx.q_index() % 24 - cx.k_index() % 24 * 2).cast(Elem::F32))),
    ("real positions", 1, |cx| slow(cx.q_index().cast(Elem::F32) - cx.k_index().cast(Elem::F32))),
    ("two, one by distance", 1, |cx| {
        let [_, x] = reals(cx, 30);
        let near = (cx.q_index() - cx.k_index()).abs().cast(Elem::F32);
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.001;
        slow(x) * by_pair + (near * -0.01).exp()
    }),
    ("what a call tells", 1, |cx| {
        let [y, x] = reals(cx, 17);
        slow((y - x) * cx.input("scale", Elem::F32, [cx.b]))
    }),
    ("a token before a grid", 1, |cx| {
        let (q_first, k_first) = (cx.q_index().eq(0), cx.k_index().eq(0));
        let number = number(cx.q_index() - 1) - number(cx.k_index() - 1);
        let of_first = k_first.select(-7, cx.int(-5));
        slow(q_first.select(of_first, k_first.select(-3, number)).cast(Elem::F32))
    }),
    ("tokens before and after a grid", 1, |cx| {
        let (after, few) = (cx.q_index().gt(33), cx.k_index().le(3) | cx.int(50).lt(cx.k_index()));
        let [y, x] = reals(cx, 20);
        few.select(rates(cx, 0.25), after.select(slow(x), slow(y * y - x)))
    }),
    ("a first key, and distances", 1, |cx| {
        let near = (cx.q_index() - cx.k_index()).abs().cast(Elem::F32);
        cx.k_index().ne(0).select(slow(near), rates(cx, -1.0))
    }),
    ("an index beside the other", 0, |cx| slow(cx.q_index().lt(cx.k_index() * 2).select(0.25, rates(cx, 0.5)))),
    ("longer than a register tile writes out", 1, |cx| {
        let [y, x] = reals(cx, 25);
        let by_pair = (cx.q_index() * 3 + cx.k_index()).cast(Elem::F32) * 0.001;
        let long = (0..12).fold(by_pair, |x, _| (x + 0.5).sin() + x * 0.5);
        slow(y - x) + long * 0.1
    }),
];

const LENGTHS: [(usize, usize); 5] = [(1, 300), (15, 17), (47, 64), (130, 130), (200, 70)];

#[test]
fn values_by_runs_are_right() {
    hold_each(BIASES, &LENGTHS, |name, expected, kernel| {
        let found = kernel.plan().by_runs.values.len();
        let lanes = kernel.plan().machine.lanes;
        assert!(lanes < 8 || found == *expected, "{name}: {found}\n{}", kernel.plan());
    });
}
