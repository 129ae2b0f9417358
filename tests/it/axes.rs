//! Attentions whose tensors have, or lack, any of their axes, in any order: kernels against the interpreter.
//!
//! An axis that a tensor lacks is one that it is the same along; one of groups (`g` of `h`) is shared by the heads of a group. Which axis a
//! kernel takes for that of queries must not show.

use crate::common::bound::furthest;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, outputs, run, scattered};
use rhumb::ir::Extent;
use rhumb::prelude::*;
use rhumb::runtime::Interface;

/// The axes of a graph: queries and keys of a fixed length or not.
#[derive(Clone, Copy)]
struct Axes {
    b: Axis,
    h: Axis,
    g: Axis,
    q: Axis,
    k: Axis,
    d: Axis,
    e: Axis,
}

const CALL: Lengths = Lengths { batch: 2, queries: 5, keys: 19 };
const LONG: Lengths = Lengths { batch: 2, queries: 17, keys: 130 };

fn axes(b: &GraphBuilder, rng: &mut Rng, lengths: Lengths, some_have_q: bool) -> Axes {
    let h = b.axis_of("h", 4);
    let mut told = |name: &str, length: usize, possible: bool| match rng.one_in(2) && possible {
        true => b.axis(name),
        false => b.axis_of(name, length as u32),
    };
    let (q, k) = (told("q", lengths.queries, some_have_q), told("k", lengths.keys, true));
    Axes {
        h,
        g: b.groups("g", 2, h),
        // The log-sum-exp of scores without a batch is that of the first batch: there must be one.
        b: b.axis_of("b", lengths.batch as u32),
        q,
        k,
        d: b.axis_of("d", rng.pick(&[5, 8])),
        e: b.axis_of("e", rng.pick(&[3, 8])),
    }
}

/// Axes by letters, in any order.
fn dims(rng: &mut Rng, axes: Axes, letters: &str) -> Vec<Axis> {
    let all = [("b", axes.b), ("h", axes.h), ("g", axes.g), ("q", axes.q), ("k", axes.k), ("d", axes.d), ("e", axes.e)];
    let mut dims: Vec<Axis> =
        all.into_iter().filter(|(name, _)| letters.contains(name)).map(|(_, axis)| axis).collect();
    shuffle(rng, &mut dims);
    dims
}

fn shuffle(rng: &mut Rng, dims: &mut [Axis]) {
    for last in (1..dims.len()).rev() {
        dims.swap(last, rng.below(last + 1));
    }
}

/// The permutation of this number.
fn permuted(mut dims: Vec<Axis>, mut number: usize) -> Vec<Axis> {
    let mut order = Vec::new();
    while !dims.is_empty() {
        order.push(dims.remove(number % dims.len()));
        number /= dims.len() + 1;
    }
    order
}

/// Which axes the tensors of an attention have besides those they must have, by letters.
#[derive(Clone, Debug, Default)]
struct Choice {
    q: &'static str,
    k: &'static str,
    v: &'static str,
    bias: Option<&'static str>,
    slopes: Option<&'static str>,
    positions: Option<(&'static str, &'static str)>,
    causal: bool,
    seen: Option<&'static str>,
    sink: Option<&'static str>,
    softcap: bool,
}

impl Choice {
    /// The graph; `order` counts through the orders of the dimensions of outputs, which are random without.
    fn build(&self, rng: &mut Rng, lengths: Lengths, order: Option<usize>) -> Verified {
        let b = GraphBuilder::new("axes");
        // The interpreter has lengths from inputs alone.
        let letters = [Some(self.q), self.bias, self.seen, self.positions.map(|(q, _)| q)];
        let axes = axes(&b, rng, lengths, letters.into_iter().flatten().any(|letters| letters.contains('q')));
        let mut input = |name: &str, elem: Elem, letters: &str| b.input(name, elem, dims(rng, axes, letters));
        let [q, k, v] = [("q", self.q, "d"), ("k", self.k, "kd"), ("v", self.v, "ke")]
            .map(|(name, some, must)| input(name, Elem::F32, &format!("{some}{must}")));
        let mut score = q.dot(k, axes.d) * 0.4;
        if self.softcap {
            score = (score * 0.5).tanh() * 2.0;
        }
        if let Some(letters) = self.bias {
            score = score + input("bias", Elem::F32, letters);
        }
        let (q_pos, k_pos) = match self.positions {
            Some((q, k)) => (input("q_pos", Elem::I32, q), input("k_pos", Elem::I32, k)),
            None => (b.iota(axes.q), b.iota(axes.k)),
        };
        if let Some(letters) = self.slopes {
            let slopes = input("slopes", Elem::F32, letters);
            score = score - slopes * (q_pos - k_pos).abs().cast(Elem::F32);
        }
        if self.causal {
            score = score.mask(k_pos.le(q_pos * 4));
        }
        if let Some(letters) = self.seen {
            score = score.mask(input("seen", Elem::I32, letters).gt(0));
        }
        let sink = self.sink.map(|letters| input("sink", Elem::F32, letters));
        let weights = match sink {
            Some(sink) => score.softmax_with_sink(axes.k, sink),
            None => score.softmax(axes.k),
        };
        let mut results = vec![("out", weights.dot(v, axes.k))];
        // A term of queries alone goes out of the log-sum-exp and away in the softmax, whose scores are others then.
        if self.bias.is_none_or(|letters| letters.contains('k')) {
            results.push(("lse", score.log_sum_exp(axes.k, sink)));
        }
        for (name, x) in results {
            let mut dims: Vec<Axis> = x.ty().axes.iter().collect();
            match order {
                Some(order) => dims = permuted(dims, order),
                None => shuffle(rng, &mut dims),
            }
            b.output(name, x, dims);
        }
        b.finish().unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

fn tensors(rng: &mut Rng, interface: &Interface, lengths: Lengths) -> Tensors {
    let length =
        |axis: &Axis| match (interface.axes()[axis.index()].extent, interface.axes()[axis.index()].name.as_str()) {
            (Extent::Static(length), _) => length as usize,
            (Extent::Dynamic, "q") => lengths.queries,
            (Extent::Dynamic, "k") => lengths.keys,
            (Extent::Dynamic, name) => panic!("axis `{name}`"),
        };
    let mut all = Tensors::new();
    for port in interface.inputs() {
        let shape: Vec<usize> = port.dims.iter().map(length).collect();
        let count = shape.iter().product();
        let tensor = match port.name.as_str() {
            "seen" => Tensor::i32(shape, (0..count).map(|_| rng.between(0, 3) as i32).collect::<Vec<_>>()),
            _ if port.elem == Elem::I32 => {
                Tensor::i32(shape, (0..count).map(|_| rng.between(0, 30) as i32).collect::<Vec<_>>())
            }
            "slopes" => Tensor::f32(shape, (0..count).map(|_| 0.1 * rng.unit() as f32).collect::<Vec<_>>()),
            _ => Tensor::normal(rng, shape),
        };
        all.insert(port.name.clone(), tensor);
    }
    scattered(rng, &all)
}

/// Engines of all targets.
fn engines() -> Vec<Engine> {
    crate::common::engines(1).into_iter().map(|(_, engine)| engine).collect()
}

/// Holds the kernels of some engines against the interpreter.
fn check(engines: &[&Engine], graph: &Verified, rng: &mut Rng, lengths: Lengths, failed: &mut Vec<String>) {
    let reference = engines[0].reference(graph).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    let inputs = tensors(rng, reference.interface(), lengths);
    let mut expected = outputs(reference.interface(), lengths, |_| Layout::Rows);
    run(reference.call(), &inputs, &mut expected).unwrap_or_else(|error| panic!("{error}\n{graph}"));
    for engine in engines {
        let kernel = match engine.compile(graph) {
            Ok(kernel) => kernel,
            Err(error) => {
                failed.push(format!("{}: {error}\n{graph}", engine.target()));
                continue;
            }
        };
        let mut made = outputs(kernel.interface(), lengths, |rank| Layout::random(rng, rank, true));
        run(kernel.call(), &inputs, &mut made).unwrap_or_else(|error| panic!("{error}\n{graph}"));
        let (name, off) = furthest(&kernel, &inputs, &made, &expected);
        if off.parts > 1.0 || !made.values().all(Tensor::written_inside_alone) {
            failed.push(format!("{}: `{name}` {off}\n{}\n{graph}", engine.target(), kernel.plan()));
        }
    }
}

fn report(failed: &[String]) {
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

const QUERIES: [&str; 8] = ["", "b", "h", "q", "bh", "bq", "hq", "bhq"];
const ROWS: [&str; 6] = ["", "b", "h", "g", "bh", "bg"];
const BIASES: [&str; 12] = ["k", "g", "h", "gk", "hk", "qk", "hqk", "gqk", "bgqk", "bk", "q", "bh"];

/// Any choice of what is read besides queries, keys and values.
fn dressed(rng: &mut Rng, choice: &Choice) -> Choice {
    let heads = |rng: &mut Rng| rng.pick(&["h", "g", "bg", ""]);
    let positions = (rng.pick(&["q", "bq", "hq", "g", ""]), rng.pick(&["k", "bk", "gk", "hk"]));
    Choice {
        bias: rng.one_in(2).then(|| rng.pick(&BIASES)),
        slopes: rng.one_in(3).then(|| heads(rng)),
        positions: rng.one_in(2).then_some(positions),
        causal: rng.one_in(2),
        seen: rng.one_in(3).then(|| rng.pick(&["k", "gk", "hk", "g", "gqk", "bq"])),
        sink: rng.one_in(3).then(|| heads(rng)),
        softcap: rng.one_in(4),
        ..choice.clone()
    }
}

#[test]
fn any_tensor_may_lack_any_axis() {
    let engines = engines();
    let mut failed = Vec::new();
    let mut number = 0;
    for q in QUERIES {
        for k in ROWS {
            for v in ROWS {
                let rng = &mut Rng::new(number);
                let choice = dressed(rng, &Choice { q, k, v, ..Choice::default() });
                let lengths = if rng.one_in(8) { LONG } else { CALL };
                let graph = choice.build(rng, lengths, None);
                // In turn, and some by all.
                let one = [&engines[number as usize % engines.len()]];
                let all: Vec<&Engine> = engines.iter().collect();
                let engines = if number % 16 == 0 { &all[..] } else { &one };
                check(engines, &graph, rng, lengths, &mut failed);
                number += 1;
            }
        }
    }
    report(&failed);
}

/// The wrong results and refusals that heads taken for lanes made, and their kin, with outputs in every order.
#[test]
fn outputs_have_any_order() {
    let engines = engines();
    let mut failed = Vec::new();
    let base = || Choice { q: "bhq", ..Choice::default() };
    let choices = [
        Choice { bias: Some("gk"), ..base() },
        Choice { bias: Some("g"), seen: Some("gk"), causal: true, ..base() },
        Choice { v: "h", slopes: Some("g"), ..base() },
        Choice { v: "g", sink: Some("h"), causal: true, ..base() },
    ];
    for (number, choice) in choices.iter().enumerate() {
        for order in 0..24 {
            let rng = &mut Rng::new(order as u64);
            let graph = choice.build(rng, CALL, Some(order));
            check(&[&engines[(order + number) % engines.len()]], &graph, rng, CALL, &mut failed);
        }
    }
    report(&failed);
}

/// Without an axis of queries, heads or batches are in its place, or each attention is one of a single query.
#[test]
fn one_query_needs_no_axis() {
    let engines = engines();
    let all: Vec<&Engine> = engines.iter().collect();
    let mut failed = Vec::new();
    let decode = |q, k, v| Choice { q, k, v, positions: Some(("", "k")), ..Choice::default() };
    for (seed, choice) in [
        decode("", "", ""),
        decode("h", "", ""),
        decode("h", "", "h"),
        decode("h", "g", "g"),
        decode("bh", "bg", "bg"),
        Choice { bias: Some("gk"), ..decode("h", "", "") },
        Choice { seen: Some("gk"), slopes: Some("g"), ..decode("h", "", "") },
        Choice { sink: Some("g"), softcap: true, causal: true, ..decode("bh", "g", "g") },
        Choice { bias: Some("hk"), seen: Some("gk"), ..decode("bh", "bg", "bg") },
        Choice { sink: Some("h"), ..decode("", "", "") },
    ]
    .into_iter()
    .enumerate()
    {
        for lengths in [CALL, LONG] {
            let rng = &mut Rng::new(seed as u64);
            let graph = choice.build(rng, lengths, None);
            check(&all, &graph, rng, lengths, &mut failed);
        }
    }
    report(&failed);
}

/// Axes of a graph with blocks of queries, of keys and of elements.
#[derive(Clone, Copy)]
struct Blocks {
    h: Axis,
    q: Axis,
    qb: Axis,
    k: Axis,
    kb: Axis,
    d: Axis,
    db: Axis,
    e: Axis,
}

type Score = for<'g> fn(&'g GraphBuilder, Blocks) -> Expr<'g>;

fn product(b: &GraphBuilder, x: Blocks) -> Expr<'_> {
    b.input("q", Elem::F32, [x.d, x.q, x.h]).dot(b.input("k", Elem::F32, [x.d, x.k]), x.d) * 0.4
}

/// What varies by blocks of keys or queries, as by groups of heads; and what else reads along an axis in a way of its own.
const SCORES: [(&str, Score); 14] = [
    ("a bias by blocks of both", |b, x| product(b, x) + b.input("bias", Elem::F32, [x.qb, x.kb])),
    ("a bias by blocks of queries", |b, x| product(b, x) + b.input("bias", Elem::F32, [x.k, x.qb])),
    ("a bias by blocks of keys", |b, x| product(b, x) + b.input("bias", Elem::F32, [x.kb])),
    ("a mask by blocks of keys", |b, x| product(b, x).mask(b.input("seen", Elem::I32, [x.h, x.kb]).gt(0))),
    ("a mask by blocks of both", |b, x| product(b, x).mask(b.input("seen", Elem::I32, [x.qb, x.kb]).gt(0))),
    ("causal by blocks", |b, x| product(b, x).mask(b.iota(x.kb).le(b.iota(x.qb)))),
    ("documents by blocks", |b, x| {
        product(b, x).mask(b.input("q_pos", Elem::I32, [x.qb]).le(b.input("k_pos", Elem::I32, [x.k])))
    }),
    ("a bias with a slope by blocks of queries", |b, x| {
        product(b, x) - b.input("slopes", Elem::F32, [x.h, x.qb]) * (b.iota(x.q) - b.iota(x.k)).abs().cast(Elem::F32)
    }),
    ("keys that a block shares", |b, x| {
        let q = b.input("q", Elem::F32, [x.h, x.q, x.d]);
        q.dot(b.input("k", Elem::F32, [x.kb, x.d]), x.d) * 0.4 + b.input("bias", Elem::F32, [x.k])
    }),
    ("keys scaled by blocks of elements", |b, x| {
        let scale = b.input("scale", Elem::F32, [x.db]) + b.iota(x.db).cast(Elem::F32);
        b.input("q", Elem::F32, [x.h, x.q, x.d]).dot(b.input("k", Elem::F32, [x.k, x.d]) * scale, x.d) * 0.2
    }),
    ("a table of queries looked up at distances", |b, x| {
        product(b, x) + b.input("bias", Elem::F32, [x.q]).gather(x.q, b.iota(x.q) - b.iota(x.k) + 9)
    }),
    ("a table of blocks looked up, and read", |b, x| {
        let bias = b.input("bias", Elem::F32, [x.qb]);
        product(b, x) + bias.gather(x.qb, (b.iota(x.q) - b.iota(x.k)).abs()) * bias
    }),
    ("a constant over both", |b, x| {
        let data: Vec<f64> = (0..24 * 64).map(|n| (f64::from(n) * 0.7).sin()).collect();
        product(b, x) + b.table([x.q, x.k], data)
    }),
    ("a sum over heads of what groups scale", |b, x| {
        let scale = b.input("scale", Elem::F32, [x.qb]);
        let sum = (b.input("w", Elem::F32, [x.q]) * scale).dot(b.input("z", Elem::F32, [x.q]), x.q);
        product(b, x) * (sum * 0.01 + scale)
    }),
];

#[test]
fn blocks_are_groups_of_queries_and_keys() {
    let engines = engines();
    let all: Vec<&Engine> = engines.iter().collect();
    let mut failed = Vec::new();
    for (seed, (name, score)) in SCORES.into_iter().enumerate() {
        let b = GraphBuilder::new("blocks");
        let (q, k, d) = (b.axis_of("q", 24), b.axis_of("k", 64), b.axis_of("d", 8));
        let (qb, kb, db) = (b.groups("qb", 6, q), b.groups("kb", 8, k), b.groups("db", 4, d));
        let x = Blocks { h: b.axis_of("h", 2), q, qb, k, kb, d, db, e: b.axis_of("e", 5) };
        let score = score(&b, x);
        let v = b.input("v", Elem::F32, [x.k, x.e]);
        b.output("out", score.softmax(x.k).dot(v, x.k), [x.h, x.q, x.e]);
        b.output("lse", score.log_sum_exp(x.k, None), [x.q, x.h]);
        let graph = b.finish().unwrap_or_else(|error| panic!("{name}: {error}"));
        let rng = &mut Rng::new(seed as u64);
        let before = failed.len();
        check(&all, &graph, rng, CALL, &mut failed);
        failed[before..].iter_mut().for_each(|text| text.insert_str(0, &format!("{name}: ")));
    }
    report(&failed);
}
