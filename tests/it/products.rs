//! Scores that sum several products of queries and keys, as multi-head latent attention does: kernels against the interpreter.

use crate::common::{Lengths, Rng, agree, engine, inputs, targets};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;

/// What becomes of the sum of products before it is weighed.
type Score = for<'g> fn(&'g GraphBuilder, Expr<'g>, [Axis; 2]) -> Expr<'g>;

/// A part of the score: the axes that its keys have beside those of keys and elements, and the length of the latter.
#[derive(Clone, Copy)]
struct Part {
    keys: &'static str,
    length: u32,
    rotated: bool,
}

const fn part(keys: &'static str, length: u32) -> Part {
    Part { keys, length, rotated: false }
}

struct Case {
    name: &'static str,
    parts: Vec<Part>,
    score: Score,
    softmax: bool,
}

fn causal<'g>(b: &'g GraphBuilder, x: Expr<'g>, [q, k]: [Axis; 2]) -> Expr<'g> {
    x.mask(b.iota(k).le(b.iota(q)))
}

impl Case {
    fn graph(&self) -> Verified {
        let b = GraphBuilder::new("products");
        let (batch, h, q, k) = (b.axis("b"), b.axis_of("h", 4), b.axis("q"), b.axis("k"));
        let (g, e) = (b.groups("g", 2, h), b.axis_of("e", 12));
        let mut score = None;
        for (index, Part { keys, length, rotated }) in self.parts.iter().enumerate() {
            let d = b.axis_of(&format!("d{index}"), *length);
            let some = [("b", batch), ("h", h), ("g", g)].into_iter().filter(|(name, _)| keys.contains(name));
            let dims = some.map(|(_, axis)| axis).chain([k, d]);
            let mut query = b.input(&format!("q{index}"), Elem::F32, [batch, h, q, d]);
            let mut key = b.input(&format!("k{index}"), Elem::F32, dims);
            if *rotated {
                let pair = b.axis_of(&format!("pair{index}"), length / 2);
                let frequencies = (b.iota(pair) * -0.5).exp();
                query = query.rotate(b.iota(q) * frequencies, d, pair, Pairing::Interleaved, 0);
                key = key.rotate(b.iota(k) * frequencies, d, pair, Pairing::Interleaved, 0);
            }
            let product = query.dot(key, d);
            score = Some(score.map_or(product, |score| score + product));
        }
        let score = (self.score)(&b, score.expect("a product") * 0.3, [q, k]);
        let values = b.input("v", Elem::F32, [batch, g, k, e]);
        let weights = if self.softmax { score.softmax(k) } else { score };
        b.output("out", weights.dot(values, k), [batch, h, q, e]);
        if self.softmax {
            b.output("lse", score.log_sum_exp(k, None), [batch, h, q]);
        }
        b.finish().expect("a graph")
    }
}

fn cases() -> Vec<Case> {
    let case = |name, parts: &[Part], score: Score| Case { name, parts: parts.to_vec(), score, softmax: true };
    let latent = [part("bh", 24), Part { rotated: true, ..part("b", 8) }];
    vec![
        case("latent and rotary parts", &latent, causal),
        case("rotary part first", &[latent[1], latent[0]], |_, x, _| x),
        case("a cap over the sum", &latent, |b, x, at| causal(b, (x * 0.2).tanh() * 5.0, at)),
        case("a bias of distances", &latent, |b, x, [q, k]| x - (b.iota(q) - b.iota(k)).abs().cast(Elem::F32) * 0.1),
        case("four products", &[part("bg", 5), part("bh", 16), part("b", 1), part("g", 130)], causal),
        case("long heads", &[part("bg", 300), part("bg", 2100)], causal),
        case("a long expression", &latent, |b, x, at| {
            causal(b, (0..12).fold(x * 0.1, |x, _| x + (x * 0.5).sin() * 0.1), at)
        }),
        Case {
            softmax: false,
            ..case("a plain sum", &latent, |b, x, [q, k]| {
                b.iota(k).le(b.iota(q)).select((x * 0.5).sigmoid(), b.scalar(0.0))
            })
        },
    ]
}

#[test]
fn sums_of_products_are_right() {
    let targets = targets();
    for (number, case) in cases().iter().enumerate() {
        let graph = case.graph();
        for target in &targets {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let attention = kernel.plan().attention.as_ref().expect("an attention");
            assert_eq!(attention.products.len(), case.parts.len(), "{}", case.name);
            let reference = engine.reference(&graph).expect("a reference");
            for (queries, keys) in [(1, 17), (5, 3), (17, 130), (70, 70)] {
                let lengths = Lengths { batch: 2, queries, keys };
                let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format!("{}, {target}", case.name));
            }
        }
    }
}

/// Two products with a term, factors of queries, keys and heads, and a mask between them.
struct Between<'g> {
    b: &'g GraphBuilder,
    at: [Axis; 2],
    products: [Expr<'g>; 3],
    term: Expr<'g>,
    of_query: Expr<'g>,
    of_key: Expr<'g>,
    of_head: Expr<'g>,
}

impl<'g> Between<'g> {
    fn seen(&self) -> Expr<'g> {
        let [q, k] = self.at;
        self.b.iota(k).le(self.b.iota(q) + 2)
    }
}

type Sum = for<'g> fn(&Between<'g>) -> Expr<'g>;

/// Sums of products in the forms that graphs may have them.
const SUMS: &[(&str, Sum)] = &[
    ("a term between", |x| (x.products[0] + x.term) + x.products[1]),
    ("a term before", |x| x.term - (x.products[1] - x.products[0])),
    ("a difference", |x| x.products[0] - x.products[1]),
    ("both subtracted", |x| -(x.products[0] + x.term) - x.products[1] * 0.5),
    ("factors of the whole and of parts", |x| ((x.products[0] + x.term) * 0.5 - x.products[1]) * 1.25 / 3.0),
    ("a factor of keys", |x| (x.products[0] + x.term) * x.of_key + x.products[1]),
    ("factors of queries and of heads", |x| (x.products[0] * x.of_query - x.term) + x.products[1] * x.of_head),
    ("a factor of queries for all", |x| ((x.term + x.products[0]) + x.products[1]) * x.of_query),
    ("three products", |x| x.products[2] + (x.products[1] + (x.term + x.products[0]) * x.of_head)),
    ("a cap over the sum", |x| ((x.products[0] + x.term) + x.products[1] * 0.5).tanh() * 3.0 + x.term),
    ("the sum twice", |x| {
        let sum = (x.products[0] + x.term) - x.products[1];
        (sum * 0.5).tanh() + sum * 2.0
    }),
    ("parts of the sum in two terms", |x| {
        let sum = (x.products[0] + x.term) + x.products[1];
        0.25 * sum - x.products[0] * 0.5 + 0.5 * sum
    }),
    ("a factor of pairs", |x| (x.products[0] - x.term + x.products[1]) * (x.term * 0.1).exp()),
    ("a mask between", |x| (x.products[0] + x.term).mask(x.seen()) * 0.5 + x.products[1]),
    ("products over different axes", |x| x.products[0] - x.products[2]),
];

/// What becomes of scores: weights of a softmax, of a sigmoid, or the scores themselves.
const WEIGHTS: [&str; 3] = ["softmax", "sigmoid", "sum"];

fn sum_graph(sum: Sum, weights: &str) -> Verified {
    let b = GraphBuilder::new("sums");
    let (batch, h, q, k) = (b.axis("b"), b.axis_of("h", 2), b.axis("q"), b.axis("k"));
    let e = b.axis_of("e", 7);
    let input = |name: &str, dims: &[Axis]| b.input(name, Elem::F32, dims.iter().copied());
    let product = |index: usize, length: u32, queries: &[Axis], keys: &[Axis]| {
        let d = b.axis_of(&format!("d{index}"), length);
        let [queries, keys] =
            [("q", queries), ("k", keys)].map(|(name, dims)| input(&format!("{name}{index}"), &[dims, &[d]].concat()));
        queries.dot(keys, d) * 0.4
    };
    let products = [
        product(0, 12, &[batch, h, q], &[batch, k]),
        product(1, 5, &[batch, h, q], &[h, k]),
        product(2, 8, &[q], &[batch, h, k]),
    ];
    let term = (b.iota(q) - b.iota(k)).abs().cast(Elem::F32) * -0.05;
    let [of_query, of_key, of_head] =
        [("gate_q", vec![q]), ("gate_k", vec![h, k]), ("gate_h", vec![h])].map(|(name, dims)| input(name, &dims));
    let between = Between { b: &b, at: [q, k], products, term, of_query, of_key, of_head };
    let (score, seen) = (sum(&between), between.seen());
    let weights = match weights {
        "softmax" => score.mask(seen).softmax(k),
        "sigmoid" => seen.select(score.sigmoid(), b.scalar(0.0)),
        _ => seen.select(score, b.scalar(0.0)),
    };
    b.output("out", weights.dot(input("v", &[batch, k, e]), k), [batch, h, q, e]);
    b.finish().expect("a graph")
}

/// However a score nests its products, terms, differences and factors: kernels take it as one sum of products, and the rest.
#[test]
fn sums_are_recognised_in_any_order() {
    let targets = targets();
    for (number, (name, sum)) in SUMS.iter().enumerate() {
        for (kind, weights) in WEIGHTS.iter().enumerate() {
            // A sum of what is hidden in parts alone is no weight.
            if *name == "a mask between" && *weights != "softmax" {
                continue;
            }
            let graph = sum_graph(*sum, weights);
            let target = &targets[(number + kind) % targets.len()];
            for kernels in [Kernels::Prefill, Kernels::Decode] {
                let builder = Engine::builder().target(target.clone()).threads(1);
                let engine = builder.kernels(kernels).build().expect("an engine");
                let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}, {weights}: {error}"));
                let attention = kernel.plan().attention.as_ref().expect("an attention");
                assert!(attention.products.len() >= 2, "{name}, {weights}:\n{}", kernel.plan());
                let reference = engine.reference(&graph).expect("a reference");
                for (queries, keys) in [(1, 17), (17, 130), (70, 70)] {
                    let lengths = Lengths { batch: 2, queries, keys };
                    let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                    agree((&kernel, &reference), &inputs, lengths, format!("{name}, {weights}, {target}"));
                }
            }
        }
    }
}

#[test]
fn more_than_their_sum_is_refused() {
    let five = [part("b", 2), part("b", 3), part("b", 4), part("b", 5), part("b", 6)];
    let five = Case { name: "five", parts: five.to_vec(), score: |_, x, _| x, softmax: true }.graph();
    let apart: [(&str, Sum); 2] = [
        ("a function of one of two", |x| (x.products[0] + x.term).tanh() + x.products[1]),
        ("two sums of the same", |x| {
            ((x.products[0] + x.products[1]) * 0.5).tanh() + (x.products[0] * x.of_query + x.term + x.products[1])
        }),
    ];
    let mut report = String::new();
    let apart = apart.map(|(title, sum)| (title, sum_graph(sum, "softmax")));
    for (title, graph) in [("five products", five)].into_iter().chain(apart) {
        let error = engine(&targets()[0], 1).compile(&graph).expect_err(title);
        report += &format!("# {title}\n{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_plan_prints() {
    let target = Target::named("x86_64-unknown-linux-gnu").and_then(|target| target.with_lanes(16)).expect("a target");
    let options = rhumb::compiler::Options::default();
    let graph = cases()[0].graph();
    let compiled = rhumb::compiler::compile(&graph, &Registry::standard(), &target, &options, &mut |_, _| ());
    let plan = compiled.expect("compiles").plan;
    insta::assert_snapshot!(format!("{plan}{}", plan.error_bound()));
}

/// A factor of whole keys, such as the scale of a quantised cache, goes onto the scores where they are fewer than the elements of keys: no
/// scaled copy of the keys is made.
#[test]
fn factors_of_keys_go_where_they_cost_least() {
    let graph = |queries: u32| {
        let b = GraphBuilder::new("scaled");
        let (h, q, k) = (b.axis_of("h", 4), b.axis_of("q", queries), b.axis("k"));
        let (g, d) = (b.groups("g", 2, h), b.axis_of("d", 32));
        let query = b.input("q", Elem::F32, [h, q, d]);
        let key = b.input("k", Elem::F32, [g, k, d]) * b.input("scales", Elem::F32, [g, k]);
        let values = b.input("v", Elem::F32, [g, k, d]);
        let score = (query.dot(key, d) * 0.2).mask(b.iota(k).le(b.iota(q) + 40));
        b.output("out", score.softmax(k).dot(values, k), [h, q, d]);
        b.finish().expect("a graph")
    };
    for (queries, reads_keys) in [(1, true), (300, false)] {
        let graph = graph(queries);
        for target in &targets() {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{error}"));
            let plan = kernel.plan();
            let product = &plan.attention.as_ref().expect("an attention").products[0];
            assert_eq!(plan.tensors[product.key].name == "k", reads_keys, "{queries} queries:\n{plan}");
            let lengths = Lengths { batch: 1, queries: queries as usize, keys: 130 };
            let inputs = inputs(&mut Rng::new(9), kernel.interface(), lengths);
            let what = format!("{queries} queries, {target}");
            agree((&kernel, &engine.reference(&graph).expect("a reference")), &inputs, lengths, what);
        }
    }
}
