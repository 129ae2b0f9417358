//! Graphs without a softmax: what has a kernel, and what is refused.

use crate::common::{Lengths, Rng, agree, engine, inputs, targets};
use rhumb::prelude::*;

/// A graph of one output over the usual axes.
fn graph(build: impl for<'g> Fn(&'g GraphBuilder, [Axis; 4]) -> Expr<'g>) -> Verified {
    let builder = GraphBuilder::new("plain");
    let axes = [builder.axis("b"), builder.axis("q"), builder.axis("k"), builder.axis_of("d", 8)];
    let out = build(&builder, axes);
    builder.output("out", out, out.ty().axes.iter());
    builder.finish().expect("a graph")
}

fn tensor<'g>(builder: &'g GraphBuilder, name: &str, dims: &[Axis]) -> Expr<'g> {
    builder.input(name, Elem::F32, dims.iter().copied())
}

#[test]
fn products_outside_of_a_softmax_are_refused() {
    let scores = |builder: &GraphBuilder, [b, q, k, d]: [Axis; 4]| {
        tensor(builder, "q", &[b, q, d]).dot(tensor(builder, "k", &[b, k, d]), d).value()
    };
    let mut report = String::new();
    for (title, graph) in [
        ("scores alone", graph(|g, axes| g.expr(scores(g, axes)) * 0.5)),
        ("a matrix product", graph(|g, [_, q, k, d]| tensor(g, "x", &[q, d]).dot(tensor(g, "y", &[k, d]), d))),
        ("a norm", graph(|g, [_, q, _, d]| tensor(g, "x", &[q, d]).dot(tensor(g, "y", &[d]), d).sqrt())),
        ("an outer product", graph(|g, [_, q, k, _]| tensor(g, "x", &[q]) * tensor(g, "y", &[k]))),
        ("an outer sum", graph(|g, [b, q, k, _]| (tensor(g, "x", &[b, q]) - tensor(g, "y", &[b, k])).abs())),
    ] {
        let error = engine(&targets()[0], 1).compile(&graph).expect_err(title);
        report += &format!("# {title}\n{error}\n\n");
    }
    // Beside an attention too.
    let builder = GraphBuilder::new("beside");
    let (parts, [query, key, value]) = Attention::heads(2).head_dim(8).parts(&builder).expect("parts");
    let score = query.dot(key, parts.d);
    parts.output(score, value, None);
    builder.output("scores", score, [parts.b, parts.h, parts.q, parts.k]);
    let error = engine(&targets()[0], 1).compile(&builder.finish().expect("a graph")).expect_err("scores");
    report += &format!("# scores beside an attention\n{error}\n");
    insta::assert_snapshot!(report);
}

#[test]
fn rotations_tables_and_elementwise_ops_stay() {
    let lengths = Lengths { batch: 2, queries: 5, keys: 9 };
    let attention = || Attention::heads(4).head_dim(8).kv_heads(2).k_positions(Elem::F32, Batch::Each);
    for (name, graph) in [
        ("keys", attention().scheme(Rope::new()).q_offset(0).key_graph().expect("a graph")),
        (
            "keys twice",
            attention().scheme(Rope::new()).scheme(Rope::new().base(9.0)).q_offset(0).key_graph().expect("a graph"),
        ),
        ("a rotation beside its pairs", {
            graph(|g, [b, _, k, d]| {
                let pair = g.axis_of("p", 4);
                let angle = tensor(g, "f", &[pair]);
                let twice = tensor(g, "k", &[b, k, d]).rotate(angle, d, pair, Pairing::Interleaved, 0);
                twice.rotate(angle * 0.5, d, pair, Pairing::Half, 0) * angle + twice
            })
        }),
        ("frequencies", {
            graph(|g, [b, _, k, d]| {
                let pair = g.axis_of("p", 4);
                let angle = tensor(g, "k_pos", &[b, k]) * tensor(g, "f", &[pair]);
                tensor(g, "k", &[b, k, d]).rotate(angle, d, pair, Pairing::Half, 0)
            })
        }),
        (
            "a table",
            graph(|g, [_, q, k, _]| {
                let slopes = g.table([g.axis_of("h", 2)], [0.5, 0.25]);
                let told = tensor(g, "x", &[q]) * 0.0;
                let keys = g.input("k_pos", Elem::I32, [k]);
                slopes * (g.iota(q) - keys).abs().cast(Elem::F32) + told
            }),
        ),
        // What rules assume of values they must not assume of constants that are otherwise.
        (
            "NaN beside a mask",
            graph(|g, [b, q, _, _]| {
                let seen = tensor(g, "x", &[b, q]).gt(0.0);
                seen.select(g.scalar(1.0), g.scalar(f64::NEG_INFINITY)) + g.scalar(f64::NAN)
            }),
        ),
        ("infinity times 0", graph(|g, [b, q, _, _]| tensor(g, "x", &[b, q]) * 0.0 + g.scalar(f64::INFINITY) * 0.0)),
        (
            "rows",
            graph(|g, [b, q, _, d]| {
                let x = tensor(g, "x", &[b, q, d]);
                x * x.sigmoid() + tensor(g, "y", &[d]) - tensor(g, "z", &[b, q])
            }),
        ),
    ] {
        for target in &targets() {
            let engine = engine(target, 1);
            let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
            let inputs = inputs(&mut Rng::new(2), kernel.interface(), lengths);
            agree((&kernel, &engine.reference(&graph).expect("a reference")), &inputs, lengths, name);
        }
    }
}

/// Tiles run along the keys and along the elements of heads: an output has neither beside its sums.
#[test]
fn outputs_along_summed_axes_are_refused() {
    const AXES: &str = "graph along\naxis q = ?\naxis k = ?\naxis d = 8\n%q = input \"q\" : f32[q, d]\n%k = input \"k\" : f32[k, d]\n\
                        %x = input \"x\" : f32[k]\n%s = dot %q, %k over d\n%l = logsumexp %s over k\n";
    for (axis, output) in [
        ("k", "%o = mul %l, %x\noutput \"o\" = %o : f32[q, k]"),
        ("d", "%o = mul %l, %q\noutput \"o\" = %o : f32[q, d]"),
    ] {
        let graph = rhumb::ir::Graph::parse(&format!("{AXES}{output}")).unwrap_or_else(|error| panic!("{error}"));
        let error = engine(&targets()[0], 1).compile(&graph).expect_err(axis).to_string();
        assert!(error.contains(&format!("an output varies along axis `{axis}`")), "{error}");
    }
}
