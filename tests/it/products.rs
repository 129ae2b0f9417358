//! Scores that sum several products of queries and keys, as multi-head latent attention does: kernels against the interpreter.

use crate::common::{Lengths, Rng, agree, engine, inputs, targets};
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

#[test]
fn more_than_their_sum_is_refused() {
    let five = [part("b", 2), part("b", 3), part("b", 4), part("b", 5), part("b", 6)];
    let five = Case { name: "five", parts: five.to_vec(), score: |_, x, _| x, softmax: true }.graph();
    let b = GraphBuilder::new("both");
    let (q, k, d, e) = (b.axis("q"), b.axis("k"), b.axis_of("d", 8), b.axis_of("e", 8));
    let input = |name: &str, dims: [Axis; 2]| b.input(name, Elem::F32, dims);
    let [first, second] =
        [("q1", "k1"), ("q2", "k2")].map(|(query, key)| input(query, [q, d]).dot(input(key, [k, d]), d));
    b.output("out", (first + second.tanh()).softmax(k).dot(input("v", [k, e]), k), [q, e]);
    let both = b.finish().expect("a graph");
    let mut report = String::new();
    for (title, graph) in [("five products", five), ("a function of one of two", both)] {
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
