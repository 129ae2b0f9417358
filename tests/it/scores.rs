//! Scores of any elementwise ops over one product: they compile at every head size, however far rewriting goes, and are right.

use crate::common::{Lengths, Rng, Tensors, agree, engine, inputs, targets};
use rhumb::compiler::Machine;
use rhumb::compiler::plan::{Plan, PlanError, plan};
use rhumb::compiler::rewrite::{FloatClass, RewriteOptions, fuse};
use rhumb::ir::Op;
use rhumb::plugins::{AttentionParts, lower};
use rhumb::prelude::*;

type Score = for<'g> fn(&AttentionParts<'g>, Expr<'g>) -> Expr<'g>;

/// Expressions that use the score more than once, or in ways that no rule takes apart.
const SCORES: &[(&str, Score)] = &[
    ("s - 0.5 s", |_, s| s - s * 0.5),
    ("0.25 s + 0.5 s", |_, s| s * 0.25 + s * 0.5),
    ("s q + s", |cx, s| s * (cx.q_pos() * 0.01) + s),
    ("s k + s", |cx, s| s * (cx.k_pos() * 0.01) + s),
    ("s (q - k) + s", |cx, s| s * ((cx.q_pos() - cx.k_pos()) * 0.01) + s),
    ("s s", |_, s| s * s),
    ("s tanh(s)", |_, s| s * s.tanh()),
    ("s / (1 + |s|)", |_, s| s / (s.abs() + 1.0)),
    ("max(s, 0.1 s)", |_, s| s.max(s * 0.1)),
    ("min(s, 2 s - 1)", |_, s| s.min(s * 2.0 - 1.0)),
    ("s > 0 ? s : 0.1 s", |_, s| s.gt(0.0).select(s, s * 0.1)),
    ("s > 0.3 s - q ? s : -s", |cx, s| s.gt(s * 0.3 - cx.q_pos() * 0.1).select(s, -s)),
    ("(s - 0.5 s) (s + 1)", |_, s| (s - s * 0.5) * (s + 1.0)),
    ("s / 3 - s / 7", |_, s| s / 3.0 - s / 7.0),
    ("-s + 2 s", |_, s| -s + s * 2.0),
    ("s sigmoid(s) - s", |_, s| s * s.sigmoid() - s),
    ("exp(0.1 s) + s", |_, s| (s * 0.1).exp() + s),
    ("floor(s) + s", |_, s| s.floor() + s),
    ("pow(|s|, 1.5) - s", |_, s| s.abs().pow(1.5) - s),
    ("log(1 + s s)", |_, s| (s * s + 1.0).log()),
];

fn attention(head_dim: u32, score: Score) -> Attention {
    Attention::heads(4).head_dim(head_dim).kv_heads(2).value_dim(8).score_with(score)
}

fn host() -> Target {
    targets().swap_remove(0)
}

fn planned(attention: &Attention, options: RewriteOptions) -> Result<Plan, PlanError> {
    let graph = attention.build().expect("a graph");
    let lowered = lower(&graph, &Registry::standard()).expect("lowers");
    let fused = fuse(&lowered, &options).expect("fuses");
    plan(fused.graph(), Machine::of(8, 16))
}

#[test]
fn every_score_of_one_product_has_a_plan_with_one_product() {
    for (name, score) in SCORES {
        let heads = [1, 2, 7, 32, 64, 300].map(|head_dim| attention(head_dim, *score).lse());
        let more = [attention(64, *score).scheme(Alibi::new()).scheme(Causal), attention(64, *score).sinks().lse()];
        for attention in heads.into_iter().chain(more) {
            let plan = planned(&attention, RewriteOptions::default());
            let graph = plan.unwrap_or_else(|error| panic!("{name}, {attention:?}: {error}")).graph.clone();
            let key = graph.axis_named("k").expect("keys");
            let product = |node: &&rhumb::ir::Node| matches!(node.op, Op::Dot { .. }) && node.ty.axes.contains(key);
            assert_eq!(graph.nodes().iter().filter(product).count(), 1, "{name}, {attention:?}:\n{graph}");
        }
    }
}

/// Holds a kernel against the reference, for inputs changed in each of these ways.
fn check(name: &str, attention: &Attention, target: &Target, changes: &[&dyn Fn(&mut Tensors)]) {
    let graph = attention.build().expect("a graph");
    let lengths = Lengths { batch: 2, queries: 19, keys: 37 };
    let engine = engine(target, 1);
    let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{attention:?}: {error}"));
    let reference = engine.reference(&graph).expect("a reference");
    for change in changes {
        let mut inputs = inputs(&mut Rng::new(11), kernel.interface(), lengths);
        change(&mut inputs);
        agree((&kernel, &reference), &inputs, lengths, name);
    }
}

#[test]
fn powers_of_e_are_computed_as_powers_of_2() {
    // Rewriting that may do nothing leaves them.
    let attention = Attention::heads(2).head_dim(8).sink(0.5).scheme(Alibi::new()).scheme(Causal).lse();
    let none = planned(&attention, RewriteOptions { iteration_limit: 0, ..RewriteOptions::default() }).expect("a plan");
    let text = none.graph.to_string();
    assert!(text.contains("base 2") && text.lines().all(|line| !line.contains("softmax") || line.contains("base 2")));
    let attention = none.attention.as_ref().expect("attention");
    assert_eq!((attention.masks.len(), attention.query_term, attention.terms.len()), (1, None, 2));
}

#[test]
fn every_score_is_right() {
    for (name, score) in SCORES {
        check(name, &attention(32, *score).scheme(Causal).lse(), &host(), &[&|_| ()]);
    }
}

#[test]
fn no_graph_is_refused_because_rewriting_stopped() {
    let all: [(&str, Attention); 7] = [
        ("ALiBi", Attention::heads(4).head_dim(32).scheme(Alibi::new()).scheme(Causal).lse()),
        ("RoPE", Attention::heads(4).head_dim(32).kv_heads(2).scheme(Rope::new()).scheme(SlidingWindow::new(5)).lse()),
        ("sinks", Attention::heads(4).head_dim(32).sinks().softcap(30.0).scheme(Alibi::new().symmetric()).lse()),
        ("bias", Attention::heads(4).head_dim(32).bias(Batch::Each).scheme(Alibi::new()).lse()),
        ("s s", attention(32, |_, s| s * s).scheme(Causal).lse()),
        ("s - 0.5 s", attention(32, |_, s| s - s * 0.5).lse()),
        ("a term of queries", attention(32, |cx, s| s + cx.input("f", Elem::F32, [cx.h, cx.q])).lse()),
    ];
    for (name, attention) in all {
        let check = |options: RewriteOptions| {
            let refused = planned(&attention, options).err();
            assert!(refused.is_none(), "{name}, {options:?}: {}", refused.expect("an error"));
        };
        for float_class in [FloatClass::Exact, FloatClass::Reassociating] {
            check(RewriteOptions { float_class, ..RewriteOptions::default() });
        }
        for iteration_limit in 0..4 {
            check(RewriteOptions { iteration_limit, ..RewriteOptions::default() });
        }
        for node_limit in (1..300).step_by(7) {
            check(RewriteOptions { node_limit, ..RewriteOptions::default() });
        }
    }
}

/// What a term of queries alone holds, row by row.
fn put(inputs: &mut Tensors, name: &str) {
    let special = [f32::NEG_INFINITY, f32::NAN, f32::INFINITY];
    let tensor = inputs.get_mut(name).expect("bound");
    tensor.change(|index, x| {
        if index % 5 == 1 {
            *x = special[index / 5 % 3];
        }
    });
}

#[test]
fn a_term_of_queries_alone_hides_whole_rows() {
    let base = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(8);
    let of_heads: Score = |cx, s| s + cx.input("f", Elem::F32, [cx.h, cx.q]);
    let of_queries: Score = |cx, s| s - cx.input("f", Elem::F32, [cx.q]);
    let of_batches: Score = |cx, s| cx.input("f", Elem::F32, [cx.b, cx.q]) + s * 2.0;
    // A hidden row takes nothing of its values, whatever they hold.
    let hide = |inputs: &mut Tensors| {
        inputs.get_mut("f").expect("bound").change(|_, x| *x = f32::NEG_INFINITY);
        inputs.get_mut("v").expect("bound").change(|index, x| {
            if index % 7 == 0 {
                *x = [f32::NAN, f32::INFINITY][index % 2];
            }
        });
    };
    for score in [of_heads, of_queries, of_batches] {
        for attention in [
            base().score_with(score),
            base().score_with(score).lse(),
            base().score_with(score).scheme(Causal).lse(),
            base().score_with(score).scheme(Alibi::new()).scheme(SlidingWindow::new(4)).lse(),
            base().score_with(score).sinks().scheme(Causal).lse(),
            base().score_with(score).sink(0.0),
            base().scheme(Alibi::new().symmetric()).score_with(score).lse(),
            base().softcap(20.0).score_with(score).lse(),
            // Some rows see nothing.
            base().score_with(score).mask_with(|cx| cx.k_index().lt(cx.q_index() - 24)).lse(),
        ] {
            for target in targets().iter().rev().step_by(2) {
                check("a term of queries", &attention, target, &[&|inputs| put(inputs, "f"), &hide]);
            }
        }
    }
}

#[test]
fn scores_that_differ_in_a_term_of_queries_share_a_kernel() {
    let builder = GraphBuilder::new("apart");
    let (parts, [query, key, value]) = Attention::heads(4).head_dim(16).value_dim(8).parts(&builder).expect("parts");
    let score = query.dot(key, parts.d);
    let f = builder.input("f", Elem::F32, [parts.h, parts.q]);
    let g = builder.input("g", Elem::F32, [parts.q]);
    parts.output(score + f, value, None);
    parts.output_lse(score - g, None);
    let graph = builder.finish().expect("a graph");
    let lengths = Lengths { batch: 1, queries: 19, keys: 5 };
    for target in &targets() {
        let engine = engine(target, 1);
        let kernel = engine.compile(&graph).expect("a kernel");
        let mut inputs = inputs(&mut Rng::new(3), kernel.interface(), lengths);
        put(&mut inputs, "f");
        inputs.get_mut("g").expect("bound").change(|index, x| {
            if index % 4 == 0 {
                *x = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN][index / 4 % 3];
            }
        });
        agree((&kernel, &engine.reference(&graph).expect("a reference")), &inputs, lengths, "two terms");
    }
    // With a sink, scores that differ are different.
    let builder = GraphBuilder::new("sunk");
    let (parts, [query, key, value]) = Attention::heads(4).head_dim(16).parts(&builder).expect("parts");
    let (score, sink) = (query.dot(key, parts.d), Some(builder.scalar(0.0)));
    parts.output(score + builder.input("f", Elem::F32, [parts.q]), value, sink);
    parts.output_lse(score, sink);
    let error = engine(&host(), 1).compile(&builder.finish().expect("a graph")).expect_err("two scores");
    assert!(error.to_string().contains("different scores"), "{error}");
}

/// A rotation turns rows of its own axis, whatever axis a tile or a table runs along: in sinks, in terms, in pairs, in masks and beside a
/// log-sum-exp.
#[test]
fn rotations_take_part_in_every_place() {
    const INPUTS: &str = "graph turned\naxis b = ?\naxis h = 4\naxis g = 2 groups h\naxis q = ?\naxis k = ?\naxis d = 8\naxis p = 4\n\
        %q = input \"q\" : f32[b, h, q, d]\n%k = input \"k\" : f32[b, g, k, d]\n%x = input \"x\" : f32[q]\n%t = table [1, 2, 3, 4] : f32[p]\n\
        %u = table [0.5, 0, -1, 7] : f32[p]\n%r = rotate %k over d by %t over p half\n%s = rotate %k over d by %u over p interleaved\n\
        %both = add %r, %s\n%twice = rotate %r over d by %u over p interleaved\n%w = input \"w\" : f32[q, d]\n%turned = rotate %w over d by %t over p half\n\
        %low = const -inf : f32\n";
    for (name, dims, rest) in [
        ("a sink", "b, h, k, d", "%o = logsumexp %q over q sink %r"),
        ("a sink of two", "b, h, k, d", "%o = logsumexp %q over q sink %both"),
        ("a sink turned twice", "b, h, k, d", "%o = logsumexp %q over q sink %twice"),
        ("a term of keys", "b, h, d", "%y = add %turned, %q\n%o = logsumexp %y over q"),
        ("a term of keys and queries", "b, h, k, d", "%y = mul %q, %r\n%z = add %y, %both\n%o = logsumexp %z over q"),
        ("pairs", "b, h, k, d", "%y = add %turned, %both\n%z = tanh %y\n%a = add %z, %q\n%o = logsumexp %a over q"),
        ("a mask", "b, h, k, d", "%m = lt %both, %x\n%y = select %m, %q, %low\n%o = logsumexp %y over q"),
        ("a mask of both", "b, h, d", "%m = lt %q, %turned\n%y = select %m, %q, %low\n%o = logsumexp %y over q"),
        ("beside", "b, h, k, d", "%y = logsumexp %q over q\n%o = mul %y, %both"),
        ("beside, turned twice", "b, h, k, d", "%y = logsumexp %q over q\n%o = add %y, %twice"),
        (
            "queries and keys of two",
            "b, h, q",
            "%a = rotate %q over d by %u over p half\n%y = add %a, %turned\n%z = dot %y, %both over d\n\
          %o = logsumexp %z over k",
        ),
        (
            "queries turned twice",
            "b, h, q",
            "%y = mul %q, %turned\n%a = rotate %y over d by %u over p interleaved\n\
          %z = dot %a, %twice over d\n%o = logsumexp %z over k",
        ),
    ] {
        let text = format!("{INPUTS}{rest}\noutput \"o\" = %o : f32[{dims}]\n");
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for target in &targets() {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
            let lengths = Lengths { batch: 3, queries: 21, keys: 17 };
            let inputs = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            agree((&kernel, &engine.reference(&graph).expect("a reference")), &inputs, lengths, name);
        }
    }
}
