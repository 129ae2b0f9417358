//! Random graphs: fused, they compute what they did.

use rhumb_ir::{Axis, Base, Binary, Compare, Elem, Expr, GraphBuilder, Op, Pairing, Unary, Verified};

use rhumb_random::{Rng, seeds};

use super::values::{Values, bindings, difference, lengths, run};
use crate::rewrite::{RewriteOptions, Stop, fuse};

/// Steps of a graph; each adds one value.
const STEPS: u64 = 14;

struct Axes {
    h: Axis,
    q: Axis,
    k: Axis,
    d: Axis,
    p: Axis,
}

/// A random graph of ops that are continuous where they are real, so that rounding cannot turn into a difference.
fn graph(random: &mut Rng) -> Verified {
    let builder = GraphBuilder::new("random");
    let h = builder.axis_of("h", 2);
    let g = builder.groups("g", 1, h);
    let axes =
        Axes { h, q: builder.axis("q"), k: builder.axis("k"), d: builder.axis_of("d", 4), p: builder.axis_of("p", 2) };
    let Axes { h, q, k, d, p } = axes;
    let query = builder.input("query", Elem::F32, [h, q, d]);
    let key = builder.input("key", Elem::F32, [g, k, d]);
    let mut pool = vec![
        query.dot(key, d),
        query,
        key,
        builder.input("slope", Elem::F32, [h]),
        builder.input("k_term", Elem::F32, [g, k]),
        builder.input("angle", Elem::F32, [p]),
        builder.iota(q) + (builder.size(k) - builder.size(q)),
        builder.iota(k),
        builder.input("i", Elem::I32, [q]),
        builder.scalar(0.5),
        builder.scalar(-3.0),
    ];
    for _ in 0..STEPS {
        if let Some(made) = step(&builder, &axes, &pool, random) {
            pool.push(made);
        }
    }
    let normalised: Vec<Expr<'_>> =
        pool.iter().copied().filter(|x| is(*x, Elem::F32) && x.ty().axes.contains(k)).collect();
    let score = normalised[normalised.len() - 1 - random.below(3.min(normalised.len()))];
    let score = match random.below(2) {
        0 => (builder.iota(k) - builder.iota(q)).le(random.below(4) as i32).select(score, f64::NEG_INFINITY),
        _ => score,
    };
    let last = pool[pool.len() - 1];
    for (name, x) in [("p", score.softmax(k)), ("lse", score.log_sum_exp(k, None)), ("last", last)] {
        builder.output(name, x, x.ty().axes.iter());
    }
    builder.finish().unwrap_or_else(|error| panic!("{error}"))
}

fn is(x: Expr<'_>, elem: Elem) -> bool {
    x.ty().elem == elem
}

/// One more value, if the operands drawn fit the op drawn.
fn step<'g>(builder: &'g GraphBuilder, axes: &Axes, pool: &[Expr<'g>], random: &mut Rng) -> Option<Expr<'g>> {
    // Recent values are drawn more often, so that expressions get deep.
    let draw = |random: &mut Rng| {
        let back = random.below(pool.len()).min(random.below(pool.len()));
        pool[pool.len() - 1 - back]
    };
    let (x, y) = (draw(random), draw(random));
    let same = x.ty().elem == y.ty().elem;
    match random.below(12) {
        op @ 0..=6 if same && !is(x, Elem::Bool) => {
            let op = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Add, Binary::Sub, Binary::Mul, Binary::Max][op];
            Some(builder.push(Op::Binary(op, x.value(), y.value())))
        }
        0..=6 if is(x, Elem::I32) => Some(x.cast(Elem::F32)),
        7 if !is(x, Elem::Bool) => Some(-x),
        8 if is(x, Elem::F32) => {
            let op = [Unary::Tanh, Unary::Sigmoid, Unary::Sin, Unary::Erf, Unary::Atan][random.below(5)];
            Some(builder.push(Op::Unary(op, x.value())))
        }
        9 if same && !is(x, Elem::Bool) => {
            let position = |axis| builder.iota(axis);
            let op = Compare::ALL[random.below(6)];
            let mask =
                builder.push(Op::Compare(op, (position(axes.q) - position(axes.k)).value(), builder.int(1).value()));
            Some(mask.select(x, y))
        }
        10 if is(x, Elem::F32) && x.ty().axes.contains(axes.d) && !x.ty().axes.contains(axes.p) => {
            let angle = pool
                .iter()
                .rev()
                .find(|a| is(**a, Elem::F32) && a.ty().axes.contains(axes.p) && !a.ty().axes.contains(axes.d))?;
            Some(x.rotate(*angle, axes.d, axes.p, Pairing::Half, 0))
        }
        11 if is(x, Elem::F32) && is(y, Elem::F32) => {
            let both = x.ty().axes.contains(axes.d) && y.ty().axes.contains(axes.d);
            both.then(|| x.dot(y, axes.d))
        }
        _ => None,
    }
}

#[test]
fn random_graphs_keep_their_meaning() {
    let seeds = seeds(0, 150);
    let cases = seeds.end - seeds.start;
    let mut saturated = 0;
    for seed in seeds {
        let mut random = Rng::new(seed);
        let graph = graph(&mut random);
        let fused = fuse(&graph, &RewriteOptions::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        saturated += u64::from(fused.statistics().stop == Stop::Saturated);
        for _ in 0..3 {
            let lengths = lengths(&graph, &mut random, 5);
            let inputs = bindings(&graph, &mut random, Values::Tame, &|axis| lengths[axis.index()]);
            let (expected, found) = (run(&graph, &inputs), run(fused.graph(), &inputs));
            // Sums of large products may cancel: what is left is as far off as they are.
            if let Some(found) = difference(&expected, &found, 1e-7) {
                panic!("seed {seed}: {found}\n{}\n{fused}", *graph);
            }
        }
        assert!(fused.statistics().cost_after <= fused.statistics().cost_before, "seed {seed}");
        let base_two = fused.graph().nodes().iter().all(|node| !matches!(node.op, Op::Softmax { base: Base::E, .. }));
        assert!(base_two, "seed {seed}:\n{fused}");
    }
    assert!(saturated * 10 >= cases * 9, "only {saturated} of {cases} graphs came to rest");
}
