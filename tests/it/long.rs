//! Long expressions and such that share their parts: what compiling them takes grows with their ops, and no stack overflows.

use crate::common::{Lengths, Rng, engine, inputs, targets};
use rhumb::compiler::{Options, compile};
use rhumb::ir::Op;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

/// An attention with a part of so many steps.
type Make = fn(usize) -> Verified;

fn small() -> Attention {
    Attention::heads(2).head_dim(8).kv_heads(1).value_dim(4)
}

fn score(steps: usize, step: impl for<'g> Fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g> + 'static) -> Verified {
    let attention = small().score_with(move |cx, s| (0..steps).fold(s, |x, _| step(cx, x)));
    attention.scheme(Causal).lse().build().expect("a graph")
}

/// Where a chain can stand in a graph of one's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Query,
    Key,
    Value,
    LogSum,
}

fn side(steps: usize, side: Side, step: impl for<'g> Fn(Expr<'g>) -> Expr<'g>) -> Verified {
    let builder = GraphBuilder::new("side");
    let (parts, [query, key, value]) = small().parts(&builder).expect("parts");
    let at = |here: Side, x| if here == side { (0..steps).fold(x, |x, _| step(x)) } else { x };
    let score = at(Side::Query, query).dot(at(Side::Key, key), parts.d) * 0.1;
    parts.output(score, at(Side::Value, value), None);
    let logged = at(Side::LogSum, score.log_sum_exp(parts.k, None));
    builder.output("lse", logged, [parts.b, parts.h, parts.q]);
    builder.finish().expect("a graph")
}

/// Steps that use what came before more than once.
const SHARED: &[(&str, Make)] = &[
    ("x x + tanh(x)", |n| score(n, |_, x| x * x * 0.1 + x.tanh())),
    ("x + x", |n| score(n, |_, x| (x + x) * 0.5)),
    ("x + x alone", |n| score(n, |_, x| x + x)),
    ("x - |x|", |n| score(n, |_, x| x * 0.5 - x.abs())),
    ("select(x > q, x, -x)", |n| score(n, |cx, x| x.gt(cx.q_pos()).select(x, -x))),
    ("masked twice", |n| score(n, |cx, x| x.mask(cx.k_index().ne(3)) + x)),
    ("key side", |n| side(n, Side::Key, |x| x * x.sigmoid())),
    ("query side", |n| side(n, Side::Query, |x| x * x.sigmoid())),
    ("value side", |n| side(n, Side::Value, |x| x * x + x.tanh())),
    ("log-sum-exp", |n| side(n, Side::LogSum, |x| x * x.sigmoid())),
    ("key term", |n| {
        let term = move |cx: &AttentionParts<'_>| (0..n).fold(cx.k_pos() * 0.01, |x, _| x * x + x.tanh()).value();
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).build().expect("a graph")
    }),
    ("query term", |n| {
        let term = move |cx: &AttentionParts<'_>| {
            let f = cx.input("f", Elem::F32, [cx.q]);
            (0..n).fold(f, |x, _| x * x * 0.1 + x.tanh()).value()
        };
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).lse().build().expect("a graph")
    }),
    ("mask", |n| {
        let mask = move |cx: &AttentionParts<'_>| {
            let first = cx.k_index().le(cx.q_index());
            (0..n).fold(first, |m, i| (m & cx.k_index().ne(i as i32)) | (m & cx.q_index().lt(5))).value()
        };
        small().mask_with(move |cx| cx.builder().expr(mask(cx))).build().expect("a graph")
    }),
    ("not mask", |n| {
        let mask = move |cx: &AttentionParts<'_>| {
            let first = cx.k_index().gt(cx.q_index());
            (0..n).fold(first, |m, i| (m | cx.k_index().eq(i as i32 + 50)) | m).value()
        };
        small().mask_with(move |cx| !cx.builder().expr(mask(cx))).build().expect("a graph")
    }),
    ("lookups", |n| {
        let term = move |cx: &AttentionParts<'_>| {
            let axis = cx.builder().axis_of("n", 4);
            let table = cx.builder().table([axis], [0.5, -0.5, 0.25, 1.0]);
            let steps = (0..n).fold(cx.k_pos() * 0.5, |x, _| {
                let at = (x * 3.0).cast(Elem::I32);
                table.gather(axis, at) + table.gather(axis, at + 1)
            });
            steps.value()
        };
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).build().expect("a graph")
    }),
    ("lookups in lookups", |n| {
        let term = move |cx: &AttentionParts<'_>| {
            let axis = cx.builder().axis_of("n", 4);
            let first = cx.builder().table([axis], [0.5, -0.5, 0.25, 1.0]);
            let at = |add: i32| (cx.builder().iota(axis) + add) % 4;
            let table = (0..n).fold(first, |x, _| x.gather(axis, at(1)) * 0.5 + x.gather(axis, at(2)) * 0.5);
            table.gather(axis, cx.k_index() % 4).value()
        };
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).build().expect("a graph")
    }),
];

fn clif_lines(name: &str, graph: &Verified) -> usize {
    let target = Target::named("x86_64-unknown-linux-gnu").and_then(|target| target.with_lanes(4)).expect("a target");
    let mut lines = 0;
    let mut count = |stage, text: &dyn Fn() -> String| {
        if stage == Stage::Clif {
            lines = text().lines().count();
        }
    };
    let compiled = compile(graph, &Registry::standard(), &target, &Options::default(), &mut count);
    let compiled = compiled.unwrap_or_else(|error| panic!("{name}: {error}"));
    let statistics = compiled.fused.statistics();
    assert!(statistics.nodes < 5_000.max(graph.nodes().len() + 100), "{name}: {statistics}");
    lines
}

#[test]
fn code_grows_with_the_ops_of_a_graph() {
    for (name, make) in SHARED {
        let [few, more] = [20, 40].map(|steps| clif_lines(name, &make(steps)));
        assert!(more < 2 * few + 200, "{name}: {few} lines for 20 steps, {more} for 40");
    }
}

/// Compares a kernel with the reference.
fn agree(name: &str, engine: &Engine, graph: &Verified) {
    let lengths = Lengths { batch: 1, queries: 9, keys: 21 };
    let kernel = engine.compile(graph).unwrap_or_else(|error| panic!("{name}: {error}"));
    let inputs = inputs(&mut Rng::new(5), kernel.interface(), lengths);
    crate::common::agree((&kernel, &engine.reference(graph).expect("a reference")), &inputs, lengths, name);
}

#[test]
fn what_shares_its_parts_is_right() {
    let engine = engine(&targets().swap_remove(0), 1);
    for (name, make) in SHARED {
        agree(name, &engine, &make(6));
    }
}

/// Chains of as many ops as steps.
#[expect(clippy::redundant_closure_for_method_calls, reason = "a method is of one lifetime")]
const CHAINS: &[(&str, Make)] = &[
    ("score", |n| score(n, |_, x| x.abs())),
    ("sum", |n| score(n, |cx, x| x + cx.q_pos() * 1e-5)),
    ("sum to the right", |n| score(n, |_, x| 1e-4 + x)),
    ("negated", |n| score(n, |_, x| -x)),
    ("masks", |n| score(n, |cx, x| x.mask(cx.k_index().ne(3)))),
    ("key side", |n| side(n, Side::Key, |x| x.abs())),
    ("query side", |n| side(n, Side::Query, |x| x.abs())),
    ("value side", |n| side(n, Side::Value, |x| x.abs())),
    ("log-sum-exp", |n| side(n, Side::LogSum, |x| x.abs())),
    ("key term", |n| {
        let term = move |cx: &AttentionParts<'_>| (0..n).fold(cx.k_pos() * 0.01, |x, _| x.abs()).value();
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).build().expect("a graph")
    }),
    ("mask", |n| {
        let mask = move |cx: &AttentionParts<'_>| {
            let first = cx.k_index().le(cx.q_index());
            (0..n).fold(first, |m, _| m & cx.k_index().ne(7)).value()
        };
        small().mask_with(move |cx| cx.builder().expr(mask(cx))).build().expect("a graph")
    }),
    ("negated mask", |n| {
        let mask = move |cx: &AttentionParts<'_>| (0..n).fold(cx.k_index().le(cx.q_index()), |m, _| !m).value();
        small().mask_with(move |cx| cx.builder().expr(mask(cx))).build().expect("a graph")
    }),
    ("lookups", |n| {
        let term = move |cx: &AttentionParts<'_>| {
            let axis = cx.builder().axis_of("n", 4);
            let table = cx.builder().int_table([axis], &[1, 2, 3, 0]);
            (0..n).fold(cx.k_index(), |x, _| table.gather(axis, x)).cast(Elem::F32).value()
        };
        small().score_with(move |cx, s| s + cx.builder().expr(term(cx))).build().expect("a graph")
    }),
    ("rotations", |n| {
        let attention = (0..n / 25).fold(small(), |attention, i| attention.scheme(Rope::new().base(100.0 + i as f64)));
        attention.build().expect("a graph")
    }),
];

/// Runs on a stack as threads have it.
fn on_a_usual_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(body).expect("a thread");
    assert!(thread.join().is_ok());
}

#[test]
fn long_chains_compile() {
    on_a_usual_stack(|| {
        let target = targets().swap_remove(0);
        let engine = engine(&target, 1);
        for (name, make) in CHAINS {
            let graph = make(5_000);
            let text = graph.to_string();
            assert_eq!(Graph::parse(&text).expect("parses").to_string(), text, "{name}");
            agree(name, &engine, &graph);
        }
    });
}

#[test]
fn two_hundred_shared_steps_compile() {
    on_a_usual_stack(|| {
        for (name, make) in SHARED {
            let graph = make(200);
            let ops = graph.nodes().iter().filter(|node| !matches!(node.op, Op::Const(_))).count();
            let lines = clif_lines(name, &graph);
            assert!(lines < 3_000 * ops, "{name}: {lines} lines of {ops} ops");
        }
    });
}
