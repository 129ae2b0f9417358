//! Mistakes as users see them: each message says what is wrong, where, and what would mend it.

#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough over lifetimes")]

mod common;

use std::fmt::Write as _;

use common::Rng;
use common::graphs::{OUT, text};
use rhumb::compiler::Backend;
use rhumb::ir::Graph;
use rhumb::prelude::*;
use rhumb::runtime::{CallError, ViewError};

/// Titles and messages, one after another.
#[derive(Default)]
struct Report(String);

impl Report {
    fn add(&mut self, title: &str, message: impl std::fmt::Display) {
        let _ = writeln!(self.0, "# {title}\n{message}\n");
    }
}

fn built(attention: &Attention) -> String {
    match attention.build() {
        Ok(_) => panic!("this builds"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn texts_that_are_no_graphs() {
    let mut report = Report::default();
    for (title, lines) in [
        ("a typo in an op", "%x = sofmax %s over k"),
        ("an operand that is not there", "%x = add %s, %bias"),
        ("an axis that is not there", "%x = softmax %s over keys"),
        ("an axis clash: no element type holds both", "%x = add %s, %i"),
        ("a dtype clash", "%x = select %s, %i, %j"),
        ("an axis clash: queries over another axis", "%x = dot %q, %n over d"),
        ("the wrong type", "%x = exp %s : f32[b, h, k]"),
        ("no end", "%x = table [1.0, 2.0"),
        ("a name twice", "axis d = 4"),
        ("groups that do not divide", "axis z = 4 groups h"),
        ("an output without its dimensions", "output \"out\" = %s : f32[b, h]"),
    ] {
        report.add(title, Graph::parse(&text(lines)).expect_err(title));
    }
    report.add("no text", Graph::parse("").expect_err("no text"));
    report.add("no graph", Graph::parse("{\"graph\": 1}").expect_err("no graph"));
    insta::assert_snapshot!(report.0);
}

#[test]
fn schemes_that_do_not_fit() {
    let engine = Engine::host().expect("an engine");
    let mut report = Report::default();
    for (title, lines) in [
        ("an unknown scheme", format!("%x = scheme alibbi.score %s @0\n{OUT}")),
        ("nothing like it", format!("%x = scheme quantum.score %s @0\n{OUT}")),
        ("an attribute of the wrong type", format!("%x = scheme alibi.score %s @0 {{bias_max = \"8\"}}\n{OUT}")),
        ("an unknown attribute", format!("%x = scheme alibi.score %s @0 {{slop = [1.0]}}\n{OUT}")),
        ("the wrong hook", format!("%y = scheme causal.score %s @0\n%x = add %s, %y\n{OUT}")),
        (
            "a negative window",
            format!(
                "%m = scheme sliding_window.mask @0 {{window = -4}} : bool[q, k]\n%c = const -inf\n%x = select %m, %s, %c\n{OUT}"
            ),
        ),
    ] {
        let graph = Graph::parse(&text(&lines)).unwrap_or_else(|error| panic!("{title}: {error}"));
        report.add(title, engine.compile(&graph).expect_err(title));
    }
    insta::assert_snapshot!(report.0);
}

#[test]
fn attentions_that_cannot_be() {
    let mut report = Report::default();
    let attention = || Attention::heads(6).head_dim(9);
    for (title, attention) in [
        ("an odd head for RoPE", attention().scheme(Rope::new())),
        ("an odd rotary dimension", attention().scheme(Rope::new().rotary_dim(5))),
        ("more than the head", attention().scheme(Rope::new().rotary_dim(10))),
        ("2D RoPE of a head that is no multiple of 4", attention().scheme(Rope2d::grid(4, 4))),
        ("heads that do not divide", attention().kv_heads(4)),
        ("no heads", Attention::heads(0).head_dim(64)),
        ("a negative window", attention().scheme(SlidingWindow::new(-3))),
        ("no window", attention().scheme(SlidingWindow::new(0))),
        ("a negative prefix", attention().scheme(PrefixLm::new(-1))),
        ("slopes for other heads", attention().scheme(Alibi::new().slopes([1.0, 0.5]))),
        ("no training length", attention().scheme(DynamicAlibi::new(0))),
        ("a scale that is no number", attention().scale(f64::NAN)),
        ("a softcap of 0", attention().softcap(0.0)),
        ("a predicate that is no condition", attention().mask_with(|cx| cx.k_index() + 1)),
        ("a score over another axis", attention().score_with(|cx, score| score.softmax(cx.d))),
        ("one name for two inputs", attention().sinks().score_with(|cx, s| s + cx.input("sinks", Elem::F32, [cx.h]))),
    ] {
        report.add(title, built(&attention));
    }
    insta::assert_snapshot!(report.0);
}

#[test]
fn graphs_that_are_no_attention() {
    let engine = Engine::host().expect("an engine");
    let out = |value: &str| format!("output \"out\" = {value} : f32[b, h, q, d]");
    let dynamic = "graph dynamic\naxis q = ?\naxis k = ?\naxis d = ?\n%q = input \"q\" : f32[q, d]\n%k = input \"k\" : f32[k, d]\n\
                   %v = input \"v\" : f32[k, d]\n%s = dot %q, %k over d\n%p = softmax %s over k\n%o = dot %p, %v over k\n\
                   output \"out\" = %o : f32[q, d]";
    let untold = "graph untold\naxis q = ?\naxis d = 4\n%q = input \"q\" : f32[d]\n%n = size q\n%f = cast %n to f32\n%o = mul %q, %f\n\
                  output \"out\" = %o : f32[d]";
    let mut report = Report::default();
    for (title, text) in [
        ("the weights as an output", text("%p = softmax %s over k\noutput \"p\" = %p : f32[b, h, q, k]")),
        ("two dots", text(&format!("%t = dot %q, %v over d\n%x = mul %s, %t\n{OUT}"))),
        (
            "an op between softmax and output",
            text(&format!("%p = softmax %s over k\n%e = exp %p\n%o = dot %e, %v over k\n{}", out("%o"))),
        ),
        (
            "a softmax of the average",
            text(&format!("%p = softmax %s over k\n%o = dot %p, %v over k\n%e = softmax %o over d\n{}", out("%e"))),
        ),
        (
            "a softmax in the score of another",
            text(&format!(
                "%p = softmax %s over k\n%x = add %s, %p\n%r = softmax %x over k\n%o = dot %r, %v over k\n{}",
                out("%o")
            )),
        ),
        (
            "another softmax for the log-sum-exp",
            text(&format!("%x = exp %s\n{OUT}\n%l = logsumexp %s over k\noutput \"lse\" = %l : f32[b, h, q]")),
        ),
        ("a dynamic head dimension", dynamic.to_owned()),
        ("a length that nothing tells", untold.to_owned()),
    ] {
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{title}: {error}"));
        report.add(title, engine.compile(&graph).expect_err(title));
    }
    insta::assert_snapshot!(report.0);
}

#[test]
fn engines_and_targets_that_are_not() {
    let mut report = Report::default();
    report.add("no threads", Engine::builder().threads(0).build().expect_err("no threads"));
    report.add("no such target", Target::named("x86-64-linux").expect_err("no triple"));
    report.add("a target without code generator", Target::named("wasm32-unknown-unknown").expect_err("no backend"));
    for triple in ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"] {
        let target = Target::named(triple).expect("a target");
        report.add("no such lanes", target.with_lanes(5).expect_err("5 lanes"));
    }
    let x86 = || Target::named("x86_64-unknown-linux-gnu").expect("a target");
    let arm = Target::named("aarch64-unknown-linux-gnu").expect("a target");
    report.add("no such backend", arm.with_backend(Backend::Wide).expect_err("no wide vectors"));
    let wide = x86().with_lanes(16).expect("16 lanes");
    report.add("no such backend at these lanes", wide.with_backend(Backend::Cranelift).expect_err("16 lanes"));
    report.add("an engine of another machine", Engine::builder().target(x86()).build().expect_err("not this machine"));
    Engine::builder().lanes(3).build().expect_err("no lanes of any machine");
    let twice = Registry::standard()
        .with(rhumb::plugins::Entry::new(SchemeInfo::new("alibi", [], "score", "again"), |_| Ok(Alibi::new())));
    report.add("a scheme twice", twice.expect_err("it is there"));
    insta::assert_snapshot!(report.0);
}

#[test]
fn views_that_cannot_be() {
    let data = [0.0f32; 24];
    let mut out = [0.0f32; 24];
    let huge = usize::MAX / 2;
    let view = || TensorView::from_slice(&data, &[2, 3, 4]).expect("a view");
    let cases: [(&str, ViewError); 9] = [
        ("another number of elements", TensorView::from_slice(&data, &[2, 3, 5]).expect_err("30")),
        ("a product that overflows", TensorView::from_slice(&data, &[huge, 4, 2]).expect_err("overflow")),
        ("a span that overflows", TensorView::with_strides(&data, &[3, 2], &[isize::MAX, 1]).expect_err("overflow")),
        (
            "strides out of bounds",
            TensorView::with_strides(&data, &[2, 3, 4], &[12, 5, 1]).expect_err("23 is the last"),
        ),
        ("strides below the slice", TensorView::with_strides(&data, &[2, 3], &[-3, 1]).expect_err("0 is the first")),
        ("a stride missing", TensorView::with_strides(&data, &[2, 3, 4], &[12, 4]).expect_err("3 dimensions")),
        ("an output that repeats", TensorViewMut::with_strides(&mut out, &[2, 3], &[0, 1]).expect_err("twice")),
        ("an order that is none", view().permute(&[0, 2, 2]).expect_err("no order")),
        ("a window outside", view().narrow(1, 2, 2).expect_err("3 at most")),
    ];
    let mut report = Report::default();
    for (title, error) in cases {
        report.add(title, error);
    }
    insta::assert_snapshot!(report.0);
}

/// A call of the kernel with everything right but what `change` does.
fn call<'a>(
    kernel: &Kernel,
    tensors: &'a (Vec<f32>, Vec<f32>),
    out: &'a mut [f32],
    wrong: &str,
    with: impl FnOnce(rhumb::runtime::Call<'_, 'a>) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let (q, kv) = tensors;
    let mut call = kernel.call();
    for (name, data, heads, len) in [("q", q, 6, 5), ("k", kv, 3, 7), ("v", kv, 3, 7)] {
        if name != wrong {
            call = call.input(name, TensorView::from_slice(data, &[2, heads, len, 8]).expect("a view"));
        }
    }
    if wrong != "out" {
        call = call.output("out", TensorViewMut::from_slice(out, &[2, 6, 5, 8]).expect("a view"));
    }
    with(call)
}

#[test]
fn calls_that_cannot_be() {
    let engine = Engine::host().expect("an engine");
    let graph =
        Attention::heads(6).head_dim(8).kv_heads(3).scheme(Rope::new()).scheme(Causal).build().expect("a graph");
    let kernel = engine.compile(&graph).expect("a kernel");
    let mut rng = Rng::new(1);
    let tensors = (rng.normals(2 * 6 * 5 * 8), rng.normals(2 * 3 * 7 * 8));
    let mut out = vec![0.0; 2 * 6 * 5 * 8];
    call(&kernel, &tensors, &mut out, "", |call| call.run()).expect("runs");
    let right = out.clone();

    let (ints, wide) = (vec![0i32; 2 * 3 * 7 * 8], vec![0.0f32; 2 * 6 * 7 * 8]);
    let (mut short, mut shared) = (vec![0.0f32; 6 * 5 * 8], vec![0.0f32; 2 * 6 * 5 * 8]);
    let ints = TensorView::from_slice(&ints, &[2, 3, 7, 8]).expect("a view");
    let seen = |shape: &[usize]| TensorView::from_slice(&wide[..shape.iter().product()], shape).expect("a view");
    let mut report = Report::default();
    let mut add = |title: &str, result: Result<(), CallError>| report.add(title, result.expect_err(title));
    let out = &mut out;
    add("an input missing", call(&kernel, &tensors, out, "k", |call| call.run()));
    add("an output missing", call(&kernel, &tensors, out, "out", |call| call.run()));
    add("a name that is not there", call(&kernel, &tensors, out, "", |call| call.input("keys", ints).run()));
    add("a typo", call(&kernel, &tensors, out, "", |call| call.input("q_", ints).run()));
    add("a name twice", call(&kernel, &tensors, out, "", |call| call.input("k", ints).run()));
    add("an output as an input", call(&kernel, &tensors, out, "", |call| call.input("out", ints).run()));
    add("integers for floats", call(&kernel, &tensors, out, "k", |call| call.input("k", ints).run()));
    add("a dimension missing", call(&kernel, &tensors, out, "k", |call| call.input("k", seen(&[3, 7, 8])).run()));
    add("BSHD for BHSD", call(&kernel, &tensors, out, "k", |call| call.input("k", seen(&[2, 7, 3, 8])).run()));
    add("keys of all heads", call(&kernel, &tensors, out, "k", |call| call.input("k", seen(&[2, 6, 7, 8])).run()));
    add("another head dimension", call(&kernel, &tensors, out, "k", |call| call.input("k", seen(&[2, 3, 7, 4])).run()));
    add("fewer keys than values", call(&kernel, &tensors, out, "k", |call| call.input("k", seen(&[2, 3, 6, 8])).run()));
    add(
        "an output of one batch",
        call(&kernel, &tensors, out, "out", |call| {
            call.output("out", TensorViewMut::from_slice(&mut short, &[1, 6, 5, 8]).expect("a view")).run()
        }),
    );
    insta::assert_snapshot!(report.0);

    // Nothing was written by what was refused, and the kernel is as good as before.
    assert!(*out == right);
    call(&kernel, &tensors, &mut shared, "", |call| call.run()).expect("runs");
    assert!(shared == right);
}
