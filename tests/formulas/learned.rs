//! Biases of learned tensors against their formulas, written out for one query and one key.

use super::learned_tensors::{input, wave, waves};
use rhumb::ir::{Axis, Tensor};
use rhumb::plugins::{
    AttentionParts, ContinuousBias, Deberta, Decomposed, Fire, ForgetGate, Kerple, Registry, Shaw, T5, TransformerXl,
    WindowTable,
};
use rhumb::testing::{SchemeTest, TestFailure};

fn fixed(cx: &AttentionParts<'_>, name: &str, length: u32) -> Axis {
    cx.builder().axis_of(name, length)
}

/// The product of a query or a key with row `row` of a table.
fn product(x: &[f64], row: usize) -> f64 {
    x.iter().enumerate().map(|(i, element)| element * wave(row * x.len() + i)).sum()
}

/// T5's bucket of a key `ahead` tokens ahead, by the paper's description.
fn bucket(ahead: f64, bidirectional: bool, buckets: f64, most: f64) -> usize {
    let all = if bidirectional { buckets / 2.0 } else { buckets };
    let (exact, n) = ((all / 2.0).floor(), if bidirectional { ahead.abs() } else { (-ahead).max(0.0) });
    let log = exact + ((n / exact).ln() / (most / exact).ln() * (all - exact)).floor();
    let within = if n < exact { n } else { log.min(all - 1.0) };
    (within + if bidirectional && ahead > 0.0 { all } else { 0.0 }) as usize
}

#[test]
fn t5_buckets() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (causal, buckets, most) in [(false, 32, 128), (true, 32, 128), (false, 6, 20), (true, 3, 17)] {
        SchemeTest::with_inputs(&registry, |cx| {
            let scheme = T5::new(input(cx, "table", &[fixed(cx, "bucket", buckets), cx.h])).buckets(buckets, most);
            if causal { scheme.causal() } else { scheme.scale(3.0) }
        })
        .input("table", |shape| waves([buckets as usize, shape.heads as usize]))
        .agrees_with(|p| {
            let bucket = bucket(p.k_pos - p.q_pos, !causal, buckets.into(), most.into());
            p.score() + if causal { 1.0 } else { 3.0 } * wave(bucket * p.heads as usize + p.head as usize)
        })
        .shift_invariant()
        .run()?;
    }
    Ok(())
}

/// Row and column of a token.
fn cell(index: i64, width: i64) -> [i64; 2] {
    [index.div_euclid(width), index.rem_euclid(width)]
}

#[test]
fn window_tables() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    // Tokens past the window take the nearest row of the table.
    let offset = |p: &rhumb::testing::Point<'_>, first: i64, rows: i64| {
        let ([q_y, q_x], [k_y, k_x]) = (cell(p.q_index - first, 4), cell(p.k_index - first, 4));
        ((q_y - k_y + 2) * 7 + q_x - k_x + 3).clamp(0, rows - 1) as usize
    };
    SchemeTest::with_inputs(&registry, |cx| {
        WindowTable::new(input(cx, "table", &[fixed(cx, "offset", 35), cx.h]), 3, 4)
    })
    .input("table", |shape| waves([35, shape.heads as usize]))
    .agrees_with(|p| p.score() + wave(offset(p, 0, 35) * p.heads as usize + p.head as usize))
    .shift_invariant()
    .run()?;
    SchemeTest::with_inputs(&registry, |cx| {
        WindowTable::new(input(cx, "table", &[fixed(cx, "offset", 38)]), 3, 4).class_token()
    })
    .input("table", |_| waves([38]))
    .agrees_with(|p| {
        let row = match (p.q_index == 0, p.k_index == 0) {
            (true, true) => 37,
            (false, true) => 36,
            (true, false) => 35,
            (false, false) => offset(p, 1, 38),
        };
        p.score() + wave(row)
    })
    .run()
}

#[test]
fn a_network_of_offsets() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for pretrained in [None, Some([6.0, 8.0])] {
        let [rows, columns] = pretrained.unwrap_or([3.0, 4.0]);
        SchemeTest::with_inputs(&registry, |cx| {
            let unit = fixed(cx, "unit", 5);
            let w1 = input(cx, "w1", &[unit, fixed(cx, "coordinate", 2)]);
            let b1 = input(cx, "b1", &[unit]);
            let scheme = ContinuousBias::new(w1, b1, input(cx, "w2", &[cx.h, unit]), [3, 4]);
            pretrained.map_or(scheme, |[rows, columns]| scheme.pretrained(rows, columns))
        })
        .input("w1", |_| waves([5, 2]))
        .input("b1", |_| waves([5]))
        .input("w2", |shape| waves([shape.heads as usize, 5]))
        .agrees_with(|p| {
            let ([q_y, q_x], [k_y, k_x]) = (cell(p.q_index, 4), cell(p.k_index, 4));
            let log = |offset: i64, n: f64| {
                let t = 8.0 * offset as f64 / (n - 1.0);
                t.signum() * (1.0 + t.abs()).log2() / 3.0
            };
            // Tokens past the window take the nearest offset.
            let offset = ((q_y - k_y + 2) * 7 + q_x - k_x + 3).clamp(0, 34);
            let at = [log(offset / 7 - 2, rows), log(offset % 7 - 3, columns)];
            let hidden = |u: usize| (wave(2 * u) * at[0] + wave(2 * u + 1) * at[1] + wave(u)).max(0.0);
            let sum: f64 = (0..5).map(|u| wave(5 * p.head as usize + u) * hidden(u)).sum();
            p.score() + 16.0 / (1.0 + (-sum).exp())
        })
        .run()?;
    }
    Ok(())
}

#[test]
fn kernels_of_distances() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let test = |power: bool, symmetric: bool| {
        let make = move |cx: &AttentionParts<'_>| {
            let [p, a] = ["p", "a"].map(|name| input(cx, name, &[cx.h]));
            let scheme = if power { Kerple::power(p, a) } else { Kerple::log(p, a) };
            if symmetric { scheme.symmetric() } else { scheme }
        };
        SchemeTest::with_inputs(&registry, make)
            .input("p", |shape| waves([shape.heads as usize]))
            .input("a", |shape| waves([shape.heads as usize]))
            .agrees_with(move |point| {
                let distance = point.q_pos - point.k_pos;
                let distance = if symmetric { distance.abs() } else { distance.max(0.0) };
                let x = wave(point.head as usize).max(0.01);
                let penalty = match (power, distance == 0.0) {
                    (true, true) => 0.0,
                    (true, false) => x * distance.powf(x.min(2.0)),
                    (false, _) => x * (1.0 + x * distance).ln(),
                };
                point.score() - penalty
            })
            .shift_invariant()
            .run()
    };
    for (power, symmetric) in [(false, false), (false, true), (true, false), (true, true)] {
        test(power, symmetric)?;
    }
    Ok(())
}

#[test]
fn a_network_of_distances() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let unit = fixed(cx, "unit", 7);
        let [w1, b1] = ["w1", "b1"].map(|name| input(cx, name, &[unit]));
        Fire::new(w1, b1, input(cx, "w2", &[cx.h, unit])).output_bias(input(cx, "b2", &[cx.h])).threshold(9.0).c(0.25)
    })
    .input("w1", |_| waves([7]))
    .input("b1", |_| waves([7]))
    .input("w2", |shape| waves([shape.heads as usize, 7]))
    .input("b2", |shape| waves([shape.heads as usize]))
    .agrees_with(|p| {
        let psi = |x: f64| (0.25 * x + 1.0).ln();
        let t = psi((p.q_pos - p.k_pos).abs()) / (psi(p.q_pos.max(9.0)) + 1e-6);
        let h = p.head as usize;
        let sum: f64 = (0..7).map(|u| wave(7 * h + u) * (wave(u) * t + wave(u)).max(0.0)).sum();
        p.score() + sum + wave(h)
    })
    .run()
}

#[test]
fn forget_gates() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let log = |head: u32, token: i64| -wave(head as usize * 100 + token as usize).abs();
    // The sums end at the last token before; there is none before the first.
    let sums = move |head: u32, index: i64, tokens: i64| (0..=index.min(tokens - 1)).map(|t| log(head, t)).sum::<f64>();
    let of_heads = |shape: &rhumb::testing::Shape, f: &dyn Fn(u32, i64) -> f64| {
        let keys = shape.keys as i64;
        let data = (0..shape.heads).flat_map(|h| (0..keys).map(move |t| (h, t)));
        Tensor::f32([shape.heads as usize, shape.keys], data.map(|(h, t)| f(h, t)).collect::<Vec<_>>())
    };
    SchemeTest::with_inputs(&registry, |cx| ForgetGate::new(input(cx, "log_f", &[cx.h, cx.builder().axis("token")])))
        .input("log_f", |shape| of_heads(shape, &log))
        .agrees_with(|p| p.score() + sums(p.head, p.q_index, p.length) - sums(p.head, p.k_index, p.length))
        .shift_invariant()
        .run()?;
    SchemeTest::with_inputs(&registry, |cx| ForgetGate::of_sums(input(cx, "sums", &[cx.h, cx.k])))
        .input("sums", |shape| of_heads(shape, &|h, t| sums(h, t, shape.keys as i64)))
        .agrees_with(|p| {
            // A query before the first key takes the sum of the first.
            let of_query = sums(p.head, p.q_index.max(0), p.length);
            p.score() + of_query - sums(p.head, p.k_index, p.length)
        })
        .run()
}

#[test]
fn relative_keys() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        Shaw::new(cx.query(), input(cx, "table", &[fixed(cx, "distance", 12), cx.d]), 7, 4)
    })
    .input("table", |shape| waves([12, shape.head_dim as usize]))
    .agrees_with(|p| {
        let row = (p.k_pos - p.q_pos).clamp(-7.0, 4.0) + 7.0;
        p.score() + p.scale * product(p.q, row as usize)
    })
    .shift_invariant()
    .run()
}

#[test]
fn decomposed_tables() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let table = |name, length| input(cx, name, &[fixed(cx, name, length), cx.d]);
        Decomposed::new(cx.query(), table("rows", 9), table("columns", 5), [5, 3]).scale(0.5)
    })
    .input("rows", |shape| waves([9, shape.head_dim as usize]))
    .input("columns", |shape| waves([5, shape.head_dim as usize]))
    .agrees_with(|p| {
        let ([q_y, q_x], [k_y, k_x]) = (cell(p.q_index, 3), cell(p.k_index, 3));
        let row = |offset: i64, last: i64| offset.clamp(0, last) as usize;
        p.score() + 0.5 * (product(p.q, row(q_y - k_y + 4, 8)) + product(p.q, row(q_x - k_x + 2, 4)))
    })
    .run()
}

#[test]
fn distances_with_biases_of_queries() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::with_inputs(&registry, |cx| {
        let distances = input(cx, "r", &[cx.builder().axis("distance"), cx.d]);
        let biases = ["of_content", "of_distance"].map(|name| input(cx, name, &[cx.h, cx.d]));
        TransformerXl::new(cx.query(), distances, biases).scale(0.75)
    })
    .input("r", |shape| waves([15, shape.head_dim as usize]))
    .input("of_content", |shape| waves([shape.heads as usize, shape.head_dim as usize]))
    .input("of_distance", |shape| waves([shape.heads as usize, shape.head_dim as usize]))
    .agrees_with(|p| {
        let biased: Vec<f64> = p.q.iter().enumerate().map(|(i, q)| q + wave(p.head as usize * p.q.len() + i)).collect();
        let content: f64 = biased.iter().zip(p.k).map(|(q, k)| q * k).sum();
        let row = (p.q_pos - p.k_pos).clamp(0.0, 14.0) as usize;
        p.scale * content + 0.75 * product(&biased, row)
    })
    .shift_invariant()
    .run()
}

#[test]
fn disentangled_tables() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let row = |ahead: f64| {
        let n: f64 = ahead.abs();
        let log = 4.0 + ((n / 4.0).ln() / (29.0f64 / 4.0).ln() * 3.0).ceil();
        let bucket = if n <= 4.0 { n } else { log } * ahead.signum();
        (bucket + 8.0).clamp(0.0, 15.0) as usize
    };
    for (c2p, p2c) in [(true, true), (true, false), (false, true)] {
        SchemeTest::with_inputs(&registry, |cx| {
            // One table for both.
            let table = input(cx, "table", &[fixed(cx, "row", 16), cx.d]);
            let mut scheme = Deberta::new(cx.query(), cx.key()).buckets(8, 30);
            if c2p {
                scheme = scheme.position_keys(table);
            }
            if p2c { scheme.position_queries(table) } else { scheme }
        })
        .input("table", |shape| waves([16, shape.head_dim as usize]))
        .agrees_with(|p| {
            let row = row(p.q_pos - p.k_pos);
            let terms = 1.0 + f64::from(u8::from(c2p)) + f64::from(u8::from(p2c));
            let scale = 1.0 / (p.q.len() as f64 * terms).sqrt();
            let of = |used: bool, x: &[f64]| if used { scale * product(x, row) } else { 0.0 };
            p.score() + of(c2p, p.q) + of(p2c, p.k)
        })
        .shift_invariant()
        .run()?;
    }
    Ok(())
}
