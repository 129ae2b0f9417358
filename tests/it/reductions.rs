//! Several sums over keys by the same weights, and what is computed of them, in one pass: kernels against the interpreter, by both schedules.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, engine, engines, inputs, outputs, run, targets};
use rhumb::compiler::plan::NoDecode;
use rhumb::prelude::*;

/// The pieces that graphs of these tests are made of: four heads in two groups.
struct Pieces<'g> {
    b: &'g GraphBuilder,
    batch: Axis,
    h: Axis,
    g: Axis,
    q: Axis,
    k: Axis,
    /// The product of queries and keys, scaled.
    score: Expr<'g>,
    /// What a query sees: keys up to some of those ahead of it.
    seen: Expr<'g>,
}

impl<'g> Pieces<'g> {
    fn new(b: &'g GraphBuilder) -> Pieces<'g> {
        let (batch, h, q, k) = (b.axis("b"), b.axis_of("h", 4), b.axis("q"), b.axis("k"));
        let (g, d) = (b.groups("g", 2, h), b.axis_of("d", 12));
        let queries = b.input("q", Elem::F32, [batch, h, q, d]);
        let keys = b.input("k", Elem::F32, [batch, g, k, d]);
        let seen = b.iota(k).le(b.iota(q) + 3);
        Pieces { b, batch, h, g, q, k, score: queries.dot(keys, d) * 0.3, seen }
    }

    /// Values of a group of heads with this many elements.
    fn values(&self, name: &str, length: u32) -> (Expr<'g>, Axis) {
        let e = self.b.axis_of(&format!("e_{name}"), length);
        (self.b.input(name, Elem::F32, [self.batch, self.g, self.k, e]), e)
    }

    /// One number for each key.
    fn column(&self, name: &str) -> Expr<'g> {
        self.b.input(name, Elem::F32, [self.batch, self.g, self.k])
    }

    fn softmax(&self) -> Expr<'g> {
        self.score.mask(self.seen).softmax(self.k)
    }

    /// Weights without a softmax.
    fn weights(&self) -> Expr<'g> {
        self.seen.select(self.score.tanh(), self.b.scalar(0.0))
    }

    fn row(&self) -> [Axis; 3] {
        [self.batch, self.h, self.q]
    }

    fn rows(&self, name: &str, value: Expr<'g>, e: Axis) {
        let [batch, h, q] = self.row();
        self.b.output(name, value, [batch, h, q, e]);
    }
}

struct Case {
    name: &'static str,
    outputs: for<'g> fn(&Pieces<'g>),
    /// The sums that its pass makes.
    sums: usize,
    /// Tables that are made of them.
    after: usize,
}

const CASES: &[Case] = &[
    Case {
        name: "two values by one softmax, and its log-sum-exp",
        outputs: |p| {
            let ((v, e), (w, f)) = (p.values("v", 12), p.values("w", 7));
            p.rows("first", p.softmax().dot(v, p.k), e);
            p.rows("second", p.softmax().dot(w, p.k), f);
            p.b.output("lse", p.score.mask(p.seen).log_sum_exp(p.k, None), p.row());
        },
        sums: 2,
        after: 0,
    },
    Case {
        name: "values of other axes",
        outputs: |p| {
            let (v, e) = p.values("v", 5);
            let f = p.b.axis_of("f", 33);
            let shared = p.b.input("w", Elem::F32, [p.k, f]);
            p.b.output("second", p.softmax().dot(shared, p.k), [p.q, p.batch, f, p.h]);
            p.rows("first", p.softmax().dot(v, p.k), e);
            p.b.output("third", p.softmax().dot(p.column("c"), p.k), p.row());
        },
        sums: 3,
        after: 0,
    },
    Case {
        name: "a sum and the sum of its weights",
        outputs: |p| {
            let (v, e) = p.values("v", 16);
            p.rows("out", p.weights().dot(v, p.k), e);
            p.b.output("sums", p.weights().dot(p.seen.cast(Elem::F32), p.k), p.row());
        },
        sums: 2,
        after: 0,
    },
    Case {
        name: "rows divided by the sum of their weights",
        outputs: |p| {
            let (v, e) = p.values("v", 20);
            let sum = p.weights().dot(p.seen.cast(Elem::F32), p.k);
            p.rows("out", (p.weights() / sum.abs().max(1.0)).dot(v, p.k), e);
        },
        sums: 2,
        after: 1,
    },
    Case {
        name: "one average divided by another",
        outputs: |p| {
            let (v, e) = p.values("v", 9);
            let (average, other) = (p.softmax().dot(v, p.k), p.softmax().dot(p.column("c"), p.k));
            p.rows("out", average / (other.abs() + 0.5), e);
        },
        sums: 2,
        after: 1,
    },
    Case {
        name: "a gate, and the average itself",
        outputs: |p| {
            let (v, e) = p.values("v", 8);
            let [batch, h, q] = p.row();
            let gate = p.b.input("gate", Elem::F32, [batch, h, q, e]);
            let average = p.softmax().dot(v, p.k);
            p.rows("gated", average * gate.sigmoid(), e);
            p.rows("average", average, e);
        },
        sums: 1,
        after: 2,
    },
    Case {
        name: "a part to be merged with others by their log-sum-exps",
        outputs: |p| {
            let (v, e) = p.values("v", 12);
            let lse = p.score.mask(p.seen).log_sum_exp(p.k, None);
            let all = p.b.input("lse_of_all", Elem::F32, p.row());
            p.rows("part", p.softmax().dot(v, p.k) * (lse - all).exp(), e);
            p.b.output("lse", lse, p.row());
        },
        sums: 1,
        after: 2,
    },
    Case {
        name: "a rotated average",
        outputs: |p| {
            let (v, e) = p.values("v", 8);
            let pair = p.b.axis_of("pair", 4);
            let angle = p.b.iota(p.q) * (p.b.iota(pair) * -0.5).exp();
            p.rows("out", p.softmax().dot(v, p.k).rotate(angle, e, pair, Pairing::Half, 0), e);
        },
        sums: 1,
        after: 1,
    },
];

fn graph(outputs: for<'g> fn(&Pieces<'g>)) -> Verified {
    let b = GraphBuilder::new("reductions");
    outputs(&Pieces::new(&b));
    b.finish().expect("a graph")
}

const LENGTHS: [(usize, usize); 8] = [(1, 1), (1, 130), (3, 64), (5, 0), (0, 5), (15, 17), (17, 130), (70, 131)];

#[test]
fn all_sums_are_right_in_one_pass() {
    for (what, engine) in engines(1) {
        for (number, case) in CASES.iter().enumerate() {
            let graph = graph(case.outputs);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let plan = kernel.plan();
            let attention = plan.attention.as_ref().expect("an attention");
            let after = plan.tables.iter().filter(|table| table.after).count();
            assert_eq!((attention.reductions.len(), after), (case.sums, case.after), "{}:\n{plan}", case.name);
            // Where both kernels are there, calls of few queries take the one for these.
            assert!(
                matches!(kernel.decode(), Ok(_) | Err(NoDecode::Costs)),
                "{}: {:?}",
                case.name,
                kernel.decode().err()
            );
            let reference = engine.reference(&graph).expect("a reference");
            for (queries, keys) in LENGTHS {
                let lengths = Lengths { batch: 2, queries, keys };
                let inputs = inputs(&mut Rng::new(number as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &inputs, lengths, format!("{}, {what}", case.name));
            }
        }
    }
}

/// Retention divides a row by the sum of its weights: both are sums of one pass, and no table has a product of queries and keys.
#[test]
fn retention_sums_its_rows_in_the_same_pass() {
    let attention =
        Attention::heads(4).head_dim(16).kv_heads(2).scheme(Retention::new()).weights_with(|_, score| score);
    let kernel = engine(&targets()[0], 1).compile(&attention.build().expect("a graph")).expect("compiles");
    let plan = kernel.plan();
    let of = plan.attention.as_ref().expect("an attention");
    assert_eq!((of.reductions.len(), of.products.len(), of.masks.len()), (2, 1, 1), "{plan}");
    assert_eq!(plan.tables.iter().filter(|table| table.after).count(), 1, "{plan}");
}

/// What a query can't see changes no bit of any of its sums, whatever it holds in any of the values.
#[test]
fn hidden_keys_change_nothing() {
    let (lengths, hidden) = (Lengths { batch: 1, queries: 70, keys: 200 }, 40);
    for (what, engine) in engines(1) {
        for case in &CASES[..4] {
            let kernel = engine.compile(&graph(case.outputs)).expect("compiles");
            let clean = inputs(&mut Rng::new(3), kernel.interface(), lengths);
            let made = |inputs: &Tensors| -> Tensors {
                let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                run(kernel.call(), inputs, &mut made).expect("runs");
                made
            };
            let expected = made(&clean);
            for garbage in [f32::NAN, f32::INFINITY, f32::MAX] {
                for name in ["v", "w", "c"].into_iter().filter(|name| clean.contains_key(*name)) {
                    let (shape, mut values) = (clean[name].shape().to_vec(), clean[name].values());
                    let keys = shape.iter().position(|length| *length == lengths.keys).expect("an axis of keys");
                    let row: usize = shape[keys + 1..].iter().product();
                    for of_group in values.chunks_mut(lengths.keys * row) {
                        of_group[(lengths.keys - hidden) * row..].fill(garbage);
                    }
                    let mut spoilt = clean.clone();
                    spoilt.insert(name.to_owned(), Tensor::f32(shape, values));
                    // The last key that some query sees is far before those.
                    assert_eq!(bits(&made(&spoilt)), bits(&expected), "{}, {what}, {garbage} in {name}", case.name);
                }
            }
        }
    }
}

/// Threads change no bit, of what is made after the attention neither.
#[test]
fn threads_change_no_bit() {
    let lengths = Lengths { batch: 2, queries: 130, keys: 130 };
    for case in CASES {
        for target in &targets() {
            let [one, three] = [1, 3].map(|threads| {
                let kernel = engine(target, threads).compile(&graph(case.outputs)).expect("compiles");
                let inputs = inputs(&mut Rng::new(5), kernel.interface(), lengths);
                let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                run(kernel.call(), &inputs, &mut made).expect("runs");
                bits(&made)
            });
            assert_eq!(one, three, "{}, {target}", case.name);
        }
    }
}

/// What is written into a graph.
type Write = for<'g> fn(&Pieces<'g>);

#[test]
fn what_one_pass_cannot_do_is_refused() {
    let cases: [(&str, Write); 6] = [
        ("two weights", |p| {
            let ((v, e), (w, f)) = (p.values("v", 12), p.values("w", 7));
            p.rows("first", p.softmax().dot(v, p.k), e);
            p.rows("second", (p.score * 2.0).softmax(p.k).dot(w, p.k), f);
        }),
        ("a softmax and plain weights", |p| {
            let ((v, e), (w, f)) = (p.values("v", 12), p.values("w", 7));
            p.rows("first", p.softmax().dot(v, p.k), e);
            p.rows("second", p.weights().dot(w, p.k), f);
        }),
        ("four tensors of values", |p| {
            for name in ["s", "t", "u", "v"] {
                let (values, e) = p.values(name, 8);
                p.rows(&format!("of_{name}"), p.softmax().dot(values, p.k), e);
            }
        }),
        ("an axis of one tensor of values alone", |p| {
            let (v, e) = p.values("v", 12);
            let (n, f) = (p.b.axis_of("n", 3), p.b.axis_of("f", 4));
            let w = p.b.input("w", Elem::F32, [n, p.k, f]);
            p.rows("first", p.softmax().dot(v, p.k), e);
            let [batch, h, q] = p.row();
            p.b.output("second", p.softmax().dot(w, p.k), [batch, h, q, n, f]);
        }),
        ("a projection", |p| {
            let (v, e) = p.values("v", 12);
            let f = p.b.axis_of("f", 4);
            let projection = p.b.input("projection", Elem::F32, [e, f]);
            p.rows("out", p.softmax().dot(v, p.k).dot(projection, e), f);
        }),
        ("two log-sum-exps", |p| {
            p.b.output("one", p.score.log_sum_exp(p.k, None), p.row());
            p.b.output("other", p.score.mask(p.seen).log_sum_exp(p.k, None), p.row());
        }),
    ];
    let mut report = String::new();
    for (title, outputs) in cases {
        let error = engine(&targets()[0], 1).compile(&graph(outputs)).expect_err(title);
        report += &format!("# {title}\n{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_plan_and_its_bound_print() {
    let target = Target::named("x86_64-unknown-linux-gnu").and_then(|target| target.with_lanes(16)).expect("a target");
    let options = rhumb::compiler::Options::default();
    let graph = graph(CASES[3].outputs);
    let compiled = rhumb::compiler::compile(&graph, &Registry::standard(), &target, &options, &mut |_, _| ());
    let plan = compiled.expect("compiles").plan;
    insta::assert_snapshot!(format!("{plan}{}", plan.error_bound()));
}
