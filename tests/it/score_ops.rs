//! Scores and masks as users write them, op by op: quotients, minima, comparisons and choices per pair, truth values as inputs, biases that
//! hide keys or are no numbers.

use crate::common::calls::{call, rows};
use crate::common::{
    Layout, Lengths, Rng, Tensor, Tensors, absolute, difference, engine, engines, hold, inputs, outputs, run, targets,
};
use rhumb::ir::Extent;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

const HEADS: u32 = 4;
const DIM: u32 = 16;
/// More than a tile of either at every lane count, and not a multiple.
const LENGTHS: Lengths = Lengths { batch: 2, queries: 53, keys: 75 };

fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(DIM).kv_heads(2).lse()
}

/// Normal numbers and random truth values.
fn tensors(interface: &Interface, seed: u64) -> Tensors {
    let mut rng = Rng::new(seed);
    let length = |axis: &Axis| {
        let info = &interface.axes()[axis.index()];
        match (info.extent, info.name.as_str()) {
            (Extent::Static(length), _) => length as usize,
            (Extent::Dynamic, "b") => LENGTHS.batch,
            (Extent::Dynamic, "q") => LENGTHS.queries,
            (Extent::Dynamic, _) => LENGTHS.keys,
        }
    };
    let mut tensor = |port: &Port| {
        let shape: Vec<usize> = port.dims.iter().map(length).collect();
        let count = shape.iter().product();
        let tensor = match port.elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => {
                Tensor::f32(shape, rng.normals(count)).rounded(port.elem)
            }
            Elem::I8 => Tensor::f32(shape, (0..count).map(|_| rng.between(-128, 127) as f32).collect::<Vec<_>>())
                .rounded(Elem::I8),
            Elem::I32 => Tensor::i32(shape, (0..count).map(|_| rng.between(-20, 20) as i32).collect::<Vec<_>>()),
            Elem::Bool => Tensor::bool(shape, (0..count).map(|_| !rng.one_in(4)).collect::<Vec<_>>()),
        };
        (port.name.clone(), tensor)
    };
    interface.inputs().iter().map(&mut tensor).collect()
}

/// Kernels of all targets against the interpreter; `change` makes of random tensors what is bound.
fn compare(name: &str, graph: &Verified, change: impl Fn(&mut Tensors)) {
    for target in &targets() {
        let engine = engine(target, 2);
        let kernel = engine.compile(graph).unwrap_or_else(|error| panic!("{name}, {target}: {error}"));
        let reference = engine.reference(graph).expect("a reference");
        let mut inputs = tensors(kernel.interface(), 51);
        change(&mut inputs);
        let made = call(&kernel, &inputs, LENGTHS).unwrap_or_else(|error| panic!("{name}, {target}: {error}"));
        let mut expected = outputs(reference.interface(), LENGTHS, |_| Layout::Rows);
        run(reference.call(), &inputs, &mut expected).expect("runs");
        hold(&kernel, &inputs, &made, &expected, name);
    }
}

fn check(name: &str, attention: &Attention) {
    compare(name, &attention.build().unwrap_or_else(|error| panic!("{name}: {error}")), |_| ());
}

#[test]
fn quotients_of_each_pair() {
    let distance = "of the distance";
    check(distance, &attention().score_with(|cx, s| s / (1.0 + (cx.q_pos() - cx.k_pos()).abs().cast(Elem::F32))));
    check("of a bias", &attention().score_with(|cx, s| cx.input("x", Elem::F32, [cx.q, cx.k]) / (s.abs() + 1.5)));
    check("of the score", &attention().score_with(|_, s| s / (1.5 + s.tanh())).scheme(Causal));
    check("of one over the score", &attention().score_with(|_, s| 2.0 / (1.0 + s * s)));
    check(
        "of whole numbers",
        &attention().score_with(|cx, s| s - ((cx.q_pos() - cx.k_pos()) / 7).cast(Elem::F32) * 0.3),
    );
    check("the remainder", &attention().score_with(|cx, s| s + ((cx.q_pos() - cx.k_pos()) % 5).cast(Elem::F32) * 0.2));
}

#[test]
fn minima_and_maxima_of_each_pair() {
    check("at most a number", &attention().score_with(|_, s| s.min(0.3)));
    check("at least a number", &attention().score_with(|_, s| s.max(-0.2)).scheme(Causal));
    check("between two", &attention().score_with(|_, s| s.max(-0.5).min(0.5)));
    check("at most a bias", &attention().score_with(|cx, s| s.min(cx.input("x", Elem::F32, [cx.h, cx.q, cx.k]))));
    check("at least a bias of keys", &attention().score_with(|cx, s| s.max(cx.input("x", Elem::F32, [cx.b, cx.k]))));
    check("at most a bias of queries", &attention().score_with(|cx, s| s.min(cx.input("x", Elem::F32, [cx.h, cx.q]))));
    check(
        "of distances",
        &attention().score_with(|cx, s| s - (cx.q_pos() - cx.k_pos()).abs().min(9).cast(Elem::F32) * 0.1),
    );
    check("of two products", &attention().score_with(|_, s| (s * 2.0).min(s * s - 1.0)));
}

#[test]
fn choices_by_comparisons_of_scores() {
    check("leaky", &attention().score_with(|_, s| s.gt(0).select(s, 0.1 * s)));
    check(
        "by a bias",
        &attention().score_with(|cx, s| {
            let x = cx.input("x", Elem::F32, [cx.b, cx.h, cx.q, cx.k]);
            s.lt(x).select(s * 0.5, x - s)
        }),
    );
    check(
        "by a bias of keys",
        &attention().scheme(Causal).score_with(|cx, s| {
            let x = cx.input("x", Elem::F32, [cx.k]);
            s.ge(x).select(s, x)
        }),
    );
    check("hidden by the score", &attention().score_with(|_, s| s.mask(s.gt(-0.25))));
    check("hidden by the score, and causal", &attention().scheme(Causal).score_with(|_, s| s.mask(s.abs().le(0.5))));
    check("by two", &attention().score_with(|_, s| (s.gt(-0.5) & s.lt(0.5)).select(s, s.tanh())));
    check("by either", &attention().score_with(|_, s| (s.le(-0.5) | !s.lt(0.5)).select(0.0, s)));
    check("as a number", &attention().score_with(|_, s| s + s.gt(0.1).cast(Elem::F32) * 0.5));
    check(
        "equal and not",
        &attention().score_with(|cx, s| {
            let same = cx.q_index().eq(cx.k_index());
            same.select(s + 1.0, s) + cx.q_index().ne(cx.k_index() + 3).cast(Elem::F32)
        }),
    );
    check("by heads", &attention().score_with(|cx, s| cx.head().expect("heads").lt(2).select(s, -s)));
}

#[test]
fn functions_of_scores() {
    check("softplus", &attention().score_with(|_, s| (1.0 + s.exp()).log()));
    check("powers of two", &attention().score_with(|_, s| s.min(0.0).exp2()));
    check("logarithms", &attention().score_with(|_, s| (s * s + 0.5).log2()));
    check("roots", &attention().score_with(|_, s| (s.abs() + 0.1).sqrt()));
    check("waves", &attention().score_with(|_, s| s.sin() + s.cos()));
    check("arctangents", &attention().score_with(|_, s| s.atan() + (s * 4.0).atan2(s - 0.2)));
    check("arccosines", &attention().score_with(|_, s| s + s.max(-0.9).min(0.9).acos()));
    check("whole numbers", &attention().score_with(|cx, s| s + (cx.q_pos() * 0.3).round() * 0.01));
    check("erf", &attention().score_with(|_, s| s * (s.erf() + 1.0)));
    check("sigmoid", &attention().score_with(|_, s| 3.0 * s.sigmoid()));
    check(
        "powers of the distance",
        &attention().score_with(|cx, s| s * (1.0 + (cx.q_pos() - cx.k_pos()).abs().cast(Elem::F32)).pow(-0.5)),
    );
    check(
        "steps of a bias",
        &attention().score_with(|cx, s| {
            // Where steps are is the same in single precision: between two numbers of the grid.
            let x = cx.input("x", Elem::I32, [cx.q, cx.k]).cast(Elem::F32) * 0.25 + 0.125;
            s + x.floor() * 0.1 - (-x).ceil() * 0.2
        }),
    );
}

#[test]
fn truth_values_are_inputs() {
    let of = |dims: &'static str| {
        move |cx: &AttentionParts<'_>| -> Vec<Axis> {
            dims.chars()
                .map(|axis| match axis {
                    'b' => cx.b,
                    'h' => cx.h,
                    'q' => cx.q,
                    _ => cx.k,
                })
                .collect()
        }
    };
    for dims in ["k", "q", "h", "b", "bk", "qk", "kq", "hqk", "bhqk", "hq", "bq"] {
        let axes = of(dims);
        check(&format!("a mask over {dims}"), &attention().mask_with(move |cx| cx.input("keep", Elem::Bool, axes(cx))));
        let axes = of(dims);
        let both = attention().scheme(Causal).mask_with(move |cx| !cx.input("drop", Elem::Bool, axes(cx)));
        check(&format!("not over {dims}, causal"), &both);
        let axes = of(dims);
        let chosen =
            attention().score_with(move |cx, s| cx.input("which", Elem::Bool, axes(cx)).select(s, 0.5 * s - 1.0));
        check(&format!("a choice over {dims}"), &chosen);
    }
    check(
        "two masks",
        &attention().mask_with(|cx| {
            let (rows, keys) = (cx.input("rows", Elem::Bool, [cx.b, cx.q]), cx.input("keys", Elem::Bool, [cx.b, cx.k]));
            (rows & keys) | cx.k_index().le(cx.q_index())
        }),
    );
}

/// Changes elements of a tensor by their index along each dimension.
fn change(tensors: &mut Tensors, name: &str, with: impl Fn(&[usize], &mut f32)) {
    let tensor = tensors.get_mut(name).expect("bound");
    let shape = tensor.shape().to_vec();
    tensor.change(|mut at, x| {
        let mut index = vec![0; shape.len()];
        for (dim, size) in shape.iter().enumerate().rev() {
            (index[dim], at) = (at % size, at / size);
        }
        with(&index, x);
    });
}

/// A bias over queries and keys, with other keys hidden in each row, one row wholly hidden, and NaN in a row and at a hidden pair.
#[test]
fn biases_of_pairs_hide_keys_and_spread_nan() {
    let graphs = [
        ("bias", attention().bias(Batch::Each).build()),
        ("shared bias, causal", attention().bias(Batch::Shared).scheme(Causal).build()),
        ("bias and ALiBi", attention().bias(Batch::Each).scheme(Alibi::new()).scheme(Causal).build()),
        ("bias and sinks", attention().bias(Batch::Shared).sinks().build()),
        ("bias, capped before", attention().softcap(3.0).bias(Batch::Each).build()),
    ];
    for (name, graph) in graphs {
        compare(name, &graph.expect("a graph"), |tensors| {
            change(tensors, "bias", |index, x| {
                let [.., query, key] = *index else { panic!("pairs") };
                let hidden = query == 7 || (query + 3 * key) % 5 == 0 || (query == 8 && key > 2);
                *x = match hidden {
                    true => f32::NEG_INFINITY,
                    false if query == 20 && key == 11 => f32::NAN,
                    false => *x,
                };
                // Hidden from this query by a causal mask, and by nothing else.
                if query == 4 && key == 74 && name.contains("ausal") {
                    *x = f32::NAN;
                }
            });
        });
    }
}

/// A bias over keys alone: what it hides, it hides from all.
#[test]
fn biases_of_keys_hide_keys() {
    for dims in ["k", "bk", "hk"] {
        for causal in [false, true] {
            let with = move |cx: &AttentionParts<'_>| match dims {
                "k" => vec![cx.k],
                "bk" => vec![cx.b, cx.k],
                _ => vec![cx.h, cx.k],
            };
            let biased = attention().score_with(move |cx, s| s + cx.input("x", Elem::F32, with(cx)));
            let biased = if causal { biased.scheme(Causal) } else { biased };
            let name = format!("bias over {dims}, causal: {causal}");
            compare(&name, &biased.build().expect("a graph"), |tensors| {
                change(tensors, "x", |index, x| {
                    let key = index.last().expect("keys");
                    if key % 4 == 1 || (16..48).contains(key) {
                        *x = f32::NEG_INFINITY;
                    }
                });
            });
        }
    }
}

/// What a bias over keys makes NaN is NaN in every row that sees the key, and changes no bit of another.
#[test]
fn biases_of_keys_spread_nan_to_rows_that_see_them() {
    let graph = attention().score_with(|cx, s| s + cx.input("x", Elem::F32, [cx.k])).scheme(Causal).build();
    let graph = graph.expect("a graph");
    for target in &targets() {
        let kernel = engine(target, 1).compile(&graph).expect("a kernel");
        let clean = tensors(kernel.interface(), 52);
        let before = call(&kernel, &clean, LENGTHS).expect("runs");
        for key in [0, 30, 50, 74] {
            let mut inputs = clean.clone();
            change(&mut inputs, "x", |index, x| {
                if index[0] == key {
                    *x = f32::NAN;
                }
            });
            let after = call(&kernel, &inputs, LENGTHS).expect("runs");
            for query in 0..LENGTHS.queries {
                let sees = key <= query + LENGTHS.keys - LENGTHS.queries;
                let (before, after) = (rows(&before, query), rows(&after, query));
                let context = format!("{target}: NaN at key {key}, query {query}");
                if sees {
                    assert!(after.iter().all(|x| x.is_nan()), "{context} is not NaN");
                } else {
                    let same = before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{context} has changed");
                }
            }
        }
    }
}

/// A bias over queries alone hides whole rows.
#[test]
fn biases_of_queries_hide_rows() {
    for dims in ["q", "hq", "bq"] {
        let with = move |cx: &AttentionParts<'_>| match dims {
            "q" => vec![cx.q],
            "hq" => vec![cx.h, cx.q],
            _ => vec![cx.b, cx.q],
        };
        let biased = attention().score_with(move |cx, s| s + cx.input("x", Elem::F32, with(cx))).scheme(Causal);
        compare(&format!("bias over {dims}"), &biased.build().expect("a graph"), |tensors| {
            change(tensors, "x", |index, x| {
                if index.last().expect("queries") % 3 == 1 {
                    *x = f32::NEG_INFINITY;
                }
            });
        });
    }
}

/// The same by a graph of one's own, without the usual attention around it.
#[test]
fn graphs_of_ones_own() {
    let builder = GraphBuilder::new("own");
    let (b, h, q, k) = (builder.axis("b"), builder.axis_of("h", 3), builder.axis("q"), builder.axis("k"));
    let (d, e) = (builder.axis_of("d", 12), builder.axis_of("e", 20));
    let query = builder.input("q", Elem::F32, [b, h, q, d]);
    let key = builder.input("k", Elem::F32, [b, h, k, d]);
    let value = builder.input("v", Elem::F32, [b, h, k, e]);
    let keep = builder.input("keep", Elem::Bool, [q, k]);
    let gate = builder.input("gate", Elem::F32, [h, q, k]);
    let (low, high) = (builder.input("low", Elem::F32, [b, q]), builder.input("high", Elem::F32, [k]));
    let product = query.dot(key, d) * 0.3;
    let score = (product / (1.0 + gate.abs())).min(high).max(low - 1.0);
    let score = product.gt(gate).select(score, product * 0.25).mask(keep | builder.iota(k).eq(builder.iota(q)));
    builder.output("out", score.softmax(k).dot(value, k), [b, h, q, e]);
    builder.output("lse", score.log_sum_exp(k, None), [b, h, q]);
    let graph = builder.finish().expect("a graph");
    compare("a graph of one's own", &graph, |_| ());
    // Some rows see nothing.
    compare("rows that see nothing", &graph, |tensors| {
        let shape = tensors["keep"].shape().to_vec();
        let keep: Vec<bool> = (0..shape[0] * shape[1]).map(|at| at / shape[1] % 4 == 0).collect();
        tensors.insert("keep".to_owned(), Tensor::bool(shape, keep));
    });
}

/// Comparisons of numbers that lie anywhere: code of four lanes has instructions that read whole vectors at aligned addresses alone.
#[test]
fn what_is_compared_may_lie_anywhere() {
    let graph = GraphBuilder::new("compared");
    let [b, q, k] = ["b", "q", "k"].map(|name| graph.axis(name));
    let [d, e] = [("d", 159), ("e", 159)].map(|(name, length)| graph.axis_of(name, length));
    let query = graph.input("q", Elem::F32, [d, b, q]);
    let (key, value) = (graph.input("k", Elem::F32, [b, k, d]), graph.input("v", Elem::F32, [b, e, k]));
    let (at_q, at_k) = (graph.input("at_q", Elem::F32, [q]), graph.input("at_k", Elem::F32, [k, b]));
    let score = query.dot(key, d) * 0.08;
    let score = at_q.lt(at_k).select(score, score - 0.5);
    graph.output("out", score.softmax(k).dot(value, k), [e, q, b]);
    let graph = graph.finish().expect("a graph");
    let lengths = Lengths { batch: 3, queries: 22, keys: 33 };
    for (name, engine) in engines(1) {
        let (kernel, reference) =
            (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
        let tensors = inputs(&mut Rng::new(1), kernel.interface(), lengths);
        let numbers = Rng::new(9).normals(lengths.queries + 4);
        for offset in 0..4 {
            let at_q = TensorView::with_offset(&numbers, offset, &[lengths.queries], &[1]).expect("a view");
            let made = [kernel.call(), reference.call()].map(|call| {
                let mut out = vec![0.0f32; 159 * lengths.queries * lengths.batch];
                let names = ["q", "k", "v", "at_k"];
                let call = names.iter().fold(call, |call, name| call.input(name, tensors[*name].view()));
                let view = TensorViewMut::from_slice(&mut out, &[159, lengths.queries, lengths.batch]);
                call.input("at_q", at_q).output("out", view.expect("a view")).run().expect("runs");
                out
            });
            let off = difference(&made[0], &made[1], absolute);
            assert!(off < 5e-6, "{name}, {offset}: {off}");
        }
    }
}
