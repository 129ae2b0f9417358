//! Elementary functions as kernels compute them, over their ranges: in the score (single precision, lanes) and in tables (double).
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the path of a method stands for one lifetime, a closure for all"
)]

use crate::common::{engine, targets};
use rhumb::ir::Unary;
use rhumb::prelude::*;

/// Runs `f` over `xs` inside a score: the log-sum-exp over one key is the score itself.
fn in_score(target: &Target, f: impl Fn(Expr<'_>) -> Expr<'_>, xs: &[f32]) -> Vec<f64> {
    let builder = GraphBuilder::new("in_score");
    let (q, k) = (builder.axis("q"), builder.axis("k"));
    // The sum of a query term and a key term belongs to neither: it is computed for every element.
    let x = builder.input("x", Elem::F32, [q]) + builder.input("zero", Elem::F32, [k]);
    let score = builder.input("one", Elem::F32, [q, k]) * f(x);
    builder.output("y", score.log_sum_exp(k, None), [q]);
    let graph = builder.finish().expect("a graph");
    let kernel = engine(target, 1).compile(&graph).expect("a kernel");
    let (zero, ones, mut y) = ([0.0f32], vec![1.0f32; xs.len()], vec![0.0f32; xs.len()]);
    let call = kernel.call().input("x", TensorView::from_slice(xs, &[xs.len()]).expect("x"));
    let call = call.input("zero", TensorView::from_slice(&zero, &[1]).expect("zero"));
    let call = call.input("one", TensorView::from_slice(&ones, &[xs.len(), 1]).expect("one"));
    call.output("y", TensorViewMut::from_slice(&mut y, &[xs.len()]).expect("y")).run().expect("runs");
    y.into_iter().map(f64::from).collect()
}

/// Runs `f` over `xs` as a plain output: double precision, rounded once.
fn in_table(target: &Target, f: impl Fn(Expr<'_>) -> Expr<'_>, xs: &[f32]) -> Vec<f64> {
    let builder = GraphBuilder::new("in_table");
    let n = builder.axis("n");
    builder.output("y", f(builder.input("x", Elem::F32, [n])), [n]);
    let graph = builder.finish().expect("a graph");
    let kernel = engine(target, 1).compile(&graph).expect("a kernel");
    let mut y = vec![0.0f32; xs.len()];
    let call = kernel.call().input("x", TensorView::from_slice(xs, &[xs.len()]).expect("x"));
    call.output("y", TensorViewMut::from_slice(&mut y, &[xs.len()]).expect("y")).run().expect("runs");
    y.into_iter().map(f64::from).collect()
}

/// Points from `low` to `high`, evenly and, where both are positive, evenly in their logarithm too.
fn points(low: f64, high: f64) -> Vec<f32> {
    let n = 4001;
    let even = (0..n).map(|i| low + (high - low) * f64::from(i) / f64::from(n - 1));
    let mut points: Vec<f32> = even.map(|x| x as f32).collect();
    if low > 0.0 {
        let log = (0..n).map(|i| low * (high / low).powf(f64::from(i) / f64::from(n - 1)));
        points.extend(log.map(|x| x as f32));
    }
    points
}

/// One unit in the last place of `f32` at `x`.
fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

#[track_caller]
fn holds(name: &str, xs: &[f32], got: &[f64], exact: impl Fn(f64) -> f64, ulps: f64, absolute: f64) {
    for (&x, &y) in xs.iter().zip(got) {
        let want = exact(f64::from(x));
        let same = want.is_nan() && y.is_nan() || want == y;
        let error = (y - want).abs();
        assert!(same || error <= (ulps * ulp(want)).max(absolute), "{name}({x}) = {y}, expected {want}");
    }
}

/// The score passes through a product with log2(e) and one with ln(2): this many units more.
const DETOUR: f64 = 2.0;

fn check(
    name: &str,
    f: impl for<'g> Fn(Expr<'g>) -> Expr<'g> + Copy,
    exact: impl Fn(f64) -> f64 + Copy,
    (low, high): (f64, f64),
    ulps: f64,
    absolute: f64,
) {
    let xs = points(low, high);
    for target in &targets() {
        holds(name, &xs, &in_score(target, f, &xs), exact, ulps + DETOUR, absolute);
        holds(name, &xs, &in_table(target, f, &xs), exact, 0.51, 1e-15);
    }
}

#[test]
fn exponentials() {
    check("exp2", |x| x.exp2(), f64::exp2, (-120.0, 127.0), 2.0, 0.0);
    check("exp", |x| x.exp(), f64::exp, (-80.0, 87.0), 3.0, 0.0);
    check("sigmoid", |x| x.sigmoid(), |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0), 4.0, 0.0);
    check("tanh", |x| x.tanh(), f64::tanh, (-20.0, 20.0), 4.0, 0.0);
    check("tanh", |x| x.tanh(), f64::tanh, (1e-30, 1.0), 4.0, 0.0);
    for (low, high) in [(-7.0, 7.0), (0.9, 1.1), (1e-30, 1.0)] {
        check("erf", |x| x.erf(), Unary::Erf.real(), (low, high), 4.0, 0.0);
    }
}

#[test]
fn logarithms() {
    check("log", |x| x.log(), f64::ln, (1e-37, 1e37), 4.0, 2e-7);
    check("log2", |x| x.log2(), f64::log2, (0.5, 2.0), 4.0, 2e-7);
    check("log2", |x| x.log2(), f64::log2, (1e-44, 1e-38), 4.0, 2e-7);
    check("sqrt", |x| x.sqrt(), f64::sqrt, (1e-30, 1e30), 1.0, 0.0);
}

#[test]
fn circular_functions() {
    for high in [3.2, 100.0, 1e4] {
        check("sin", |x| x.sin(), f64::sin, (-high, high), 0.0, 4e-7);
        check("cos", |x| x.cos(), f64::cos, (-high, high), 0.0, 4e-7);
    }
    // Tables reduce angles in double precision: positions of a million keep their angles.
    let xs = points(9e5, 1e6);
    for target in &targets() {
        holds("sin", &xs, &in_table(target, |x| x.sin(), &xs), f64::sin, 0.51, 1e-9);
        holds("cos", &xs, &in_table(target, |x| x.cos(), &xs), f64::cos, 0.51, 1e-9);
    }
}

#[test]
fn arcs() {
    for (low, high) in [(-1e3, 1e3), (-3.0, 3.0), (1e-30, 1e30)] {
        check("atan", |x| x.atan(), f64::atan, (low, high), 4.0, 0.0);
    }
    for (low, high) in [(-1.0, 1.0), (0.99, 1.0), (-1.0, -0.99)] {
        check("acos", |x| x.acos(), f64::acos, (low, high), 8.0, 0.0);
    }
    for x in [-2.5, -1e-3, 0.0, 1e-3, 2.5] {
        let exact = |y: f64| y.atan2(x);
        // Where the angle is near 0 beside pi, it is a difference.
        check("atan2", move |y| y.atan2(x), exact, (-4.0, 4.0), 5.0, 4e-7);
    }
}

#[test]
fn powers() {
    let exact = |exponent: f64| move |x: f64| x.powf(exponent);
    for exponent in [0.5, 2.0, -1.5, 0.0] {
        check("pow", move |x| x.pow(exponent), exact(exponent), (1e-3, 1e3), 60.0, 0.0);
    }
}

#[test]
fn rounding() {
    check("floor", |x| x.floor(), f64::floor, (-1000.0, 1000.0), 0.0, 0.0);
    check("ceil", |x| x.ceil(), f64::ceil, (-1000.0, 1000.0), 0.0, 0.0);
    check("round", |x| x.round(), f64::round_ties_even, (-1000.0, 1000.0), 0.0, 0.0);
    check("round", |x| x.round(), f64::round_ties_even, (-8.0, 8.0), 0.0, 0.0);
    check("abs", |x| x.abs(), f64::abs, (-1000.0, 1000.0), 0.0, 0.0);
}

#[test]
fn edges() {
    let xs = [0.0, -0.0, f32::INFINITY, f32::NAN, -1.0, f32::MIN_POSITIVE, 1.0];
    for (name, f, exact) in [
        ("log2", (|x| x.log2()) as fn(Expr<'_>) -> Expr<'_>, f64::log2 as fn(f64) -> f64),
        ("exp2", |x| x.exp2(), f64::exp2),
        ("tanh", |x| x.tanh(), f64::tanh),
        ("sqrt", |x| x.sqrt(), f64::sqrt),
        ("atan", |x| x.atan(), f64::atan),
        ("acos", |x| x.acos(), f64::acos),
        ("round", |x| x.round(), f64::round_ties_even),
    ] {
        for target in &targets() {
            holds(name, &xs, &in_table(target, f, &xs), exact, 1.0, 0.0);
        }
        // A score of +inf has no softmax: its log-sum-exp is NaN.
        let finite = |x: f64| if exact(x) == f64::INFINITY { f64::NAN } else { exact(x) };
        for target in &targets() {
            holds(name, &xs, &in_score(target, f, &xs), finite, 4.0 + DETOUR, 0.0);
        }
    }
}
