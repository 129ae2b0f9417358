//! What schemes cost: 8 heads, 2048 queries on 2048 keys, 64 elements, causal, one thread. Each scheme takes turns with the one that it is
//! compared with, and its ratio is the median over the rounds, so that what else the machine does weighs alike. What each may cost is printed
//! beside it. `cargo bench --bench schemes -- t5` times those with this in their name.

mod common;

use std::env;
use std::sync::Arc;
use std::time::Instant;

use common::{DIM, HEADS};
use rhumb::ir::Extent;
use rhumb::plugins::schemes::alibi2d::Metric;
use rhumb::plugins::schemes::kerple::Kernel as Kerneled;
use rhumb::plugins::{AttentionParts, AxialRope, Scheme};
use rhumb::prelude::*;
use rhumb::runtime::Port;
use rhumb_random::Rng;

const TOKENS: usize = 2048;
/// Tokens as a grid.
const GRID: [i32; 2] = [32, 64];
const ROUNDS: usize = 15;

/// A kernel with all that a call of it needs.
struct Case {
    name: &'static str,
    kernel: Arc<Kernel>,
    inputs: Vec<(String, Input)>,
    out: Vec<f32>,
    /// Seconds of each round.
    times: Vec<f64>,
}

/// A tensor that a call reads, and its shape.
enum Input {
    Floats(Vec<f32>, Vec<usize>),
    Ints(Vec<i32>, Vec<usize>),
}

impl Case {
    fn new(engine: &Engine, (name, attention): (&'static str, Attention)) -> Case {
        let graph = attention.scheme(Causal).build().unwrap_or_else(|error| panic!("{name}: {error}"));
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut rng = Rng::new(1);
        let inputs = kernel.interface().inputs();
        let inputs = inputs.iter().map(|port| (port.name.clone(), input(&mut rng, &kernel, port))).collect();
        let out = vec![0.0; HEADS as usize * TOKENS * DIM as usize];
        Case { name, kernel, inputs, out, times: Vec::new() }
    }

    fn run(&mut self) {
        let start = Instant::now();
        let mut call = self.kernel.call();
        for (name, input) in &self.inputs {
            call = match input {
                Input::Floats(data, shape) => call.input(name, TensorView::from_slice(data, shape).expect("a view")),
                Input::Ints(data, shape) => call.input(name, TensorView::from_slice(data, shape).expect("a view")),
            };
        }
        let shape = [1, HEADS as usize, TOKENS, DIM as usize];
        let out = TensorViewMut::from_slice(&mut self.out, &shape).expect("a view");
        call.output("out", out).run().expect("runs");
        self.times.push(start.elapsed().as_secs_f64());
    }
}

/// Learned tensors are normal, small and positive; integers count tokens.
fn input(rng: &mut Rng, kernel: &Kernel, port: &Port) -> Input {
    let length = |axis: &Axis| {
        let info = &kernel.interface().axes()[axis.index()];
        match (info.extent, info.name.as_str()) {
            (Extent::Static(length), _) => length as usize,
            (Extent::Dynamic, "b") => 1,
            (Extent::Dynamic, _) => TOKENS,
        }
    };
    let shape: Vec<usize> = port.dims.iter().map(length).collect();
    let count = shape.iter().product();
    match (port.elem, port.name.as_str()) {
        (Elem::I32, _) => Input::Ints((0..count).map(|index| (index % TOKENS) as i32).collect(), shape),
        (_, "q" | "k" | "v") => Input::Floats(rng.normals(count), shape),
        _ => Input::Floats(rng.normals(count).iter().map(|x| x.abs() / 16.0).collect(), shape),
    }
}

fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(DIM)
}

fn with(scheme: impl Into<Scheme>) -> Attention {
    attention().scheme(scheme)
}

/// A learned tensor.
fn learned<'g>(cx: &AttentionParts<'g>, name: &str, dims: &[Axis]) -> Expr<'g> {
    cx.input(name, Elem::F32, dims.iter().copied())
}

/// Rotations, the first of which is RoPE.
fn rotations() -> Vec<(&'static str, Attention)> {
    let [short, long] = [0.1, 0.9].map(|step| (0..32).map(|j| 1.0 + step * f64::from(j)).collect::<Vec<f64>>());
    let mrope = |cx: &AttentionParts<'_>| {
        let axis = cx.axis("axis", 3);
        let [q, k] =
            [("q_axes", cx.q), ("k_axes", cx.k)].map(|(name, tokens)| cx.input(name, Elem::I32, [axis, tokens]));
        MRope::new([16, 8, 8], q, k)
    };
    let positions = |cx: &AttentionParts<'_>| {
        let [q, k] = [("q_at", cx.q), ("k_at", cx.k)].map(|(name, tokens)| cx.input(name, Elem::I32, [tokens]));
        Rope::new().positions(q, k)
    };
    vec![
        ("rope", with(Rope::new())),
        ("rope, neighbours", with(Rope::new().interleaved())),
        ("rope, a half of the head", with(Rope::new().rotary_dim(DIM / 2))),
        ("rope, linear", with(Rope::new().factor(4.0))),
        ("rope, ntk", with(Rope::new().ntk(4.0))),
        ("rope, queries alone", with(Rope::new().query_only())),
        ("rope, given positions", attention().scheme_with(positions)),
        ("yarn", with(Yarn::new(4.0, 512))),
        ("llama3_rope", with(Llama3Rope::new().train_length(512))),
        ("dynamic_ntk", with(DynamicNtk::new(4.0, 512))),
        ("longrope", with(LongRope::new(512, short, long).factor(4.0))),
        ("proportional_rope", with(ProportionalRope::new(0.25))),
        ("xpos", with(XPos::new())),
        ("mrope", attention().scheme_with(mrope)),
        ("rope2d", with(Rope2d::grid(GRID[0], GRID[1]))),
        ("axial_rope", with(AxialRope::grid([8, 16, 16], [24, 20, 20]))),
        ("retention, without a softmax", with(Retention::new()).weights_with(|_, score| score)),
        ("pope", pope()),
    ]
}

fn pope() -> Attention {
    attention().scheme_with(|cx| Pope::new(cx.query(), cx.key()))
}

/// A rotation that each element of a row has for itself, so that rows are multiplied as ones of twice as many elements: the first is RoPE of
/// such rows.
fn doubled() -> Vec<(&'static str, Attention)> {
    vec![
        ("rope, rows of 128", Attention::heads(HEADS).head_dim(2 * DIM).value_dim(DIM).scheme(Rope::new())),
        ("pope", pope()),
    ]
}

/// Biases that are computed of indices, the first of which is ALiBi, so flat that no key loses its weight.
fn biases() -> Vec<(&'static str, Attention)> {
    let flat = || vec![1e-4; HEADS as usize];
    let [p, a] = [0.5, 0.01].map(|x| vec![x; HEADS as usize]);
    // Of positive weights and biases no unit bends at a distance that there is, of positive and negative ones half of them do.
    let fire = |cx: &AttentionParts<'_>, sign: f64| {
        let unit = cx.axis("unit", 32);
        let [w1, b1] = ["w1", "b1"].map(|name| learned(cx, name, &[unit]));
        Fire::new(w1, b1 * sign, learned(cx, "w2", &[cx.h, unit]))
    };
    vec![
        ("alibi", with(Alibi::new().slopes(flat()))),
        ("alibi, symmetric", with(Alibi::new().symmetric().slopes(flat()))),
        (
            "alibi, learned slopes",
            attention().scheme_with(|cx| Alibi::new().slopes_value(learned(cx, "slopes", &[cx.h]))),
        ),
        ("dynamic_alibi", with(DynamicAlibi::new(512).alibi(Alibi::new().slopes(flat())))),
        ("alibi2d", with(Alibi2d::grid(GRID[1]).slopes(flat()))),
        ("alibi2d, taxicab", with(Alibi2d::grid(GRID[1]).metric(Metric::Manhattan).slopes(flat()))),
        ("kerple, log", with(Kerple::constant(p.clone(), a.clone()))),
        ("kerple, power", with(Kerple::constant(p, a).kernel(Kerneled::Power))),
        (
            "kerple, learned",
            attention().scheme_with(|cx| Kerple::log(learned(cx, "p", &[cx.h]), learned(cx, "a", &[cx.h]))),
        ),
        ("sandwich", with(Sandwich::new())),
        ("fire", attention().scheme_with(move |cx| fire(cx, 1.0))),
        ("fire, bent", attention().scheme_with(move |cx| fire(cx, -1.0))),
        ("forget_gate", attention().scheme_with(|cx| ForgetGate::of_sums(learned(cx, "sums", &[cx.h, cx.k])))),
    ]
}

/// Biases that are read from tables; the first has none.
fn tables() -> Vec<(&'static str, Attention)> {
    let offsets = |cx: &AttentionParts<'_>| {
        let [height, width] = GRID.map(|n| 2 * n as u32 - 1);
        WindowTable::new(learned(cx, "table", &[cx.axis("offset", height * width), cx.h]), GRID[0], GRID[1])
    };
    let continuous = |cx: &AttentionParts<'_>| {
        let unit = cx.axis("unit", 16);
        let w1 = learned(cx, "w1", &[unit, cx.axis("side", 2)]);
        ContinuousBias::new(w1, learned(cx, "b1", &[unit]), learned(cx, "w2", &[cx.h, unit]), GRID)
    };
    let t5 = |cx: &AttentionParts<'_>| T5::new(learned(cx, "table", &[cx.axis("bucket", 32), cx.h]));
    vec![
        ("causal alone", attention()),
        ("t5", attention().scheme_with(t5)),
        ("t5, causal", attention().scheme_with(move |cx| t5(cx).causal())),
        ("window_table", attention().scheme_with(offsets)),
        ("continuous_bias", attention().scheme_with(continuous)),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times attentions in turn, and prints what each takes beside the first.
fn compare(title: &str, limit: f64, attentions: Vec<(&'static str, Attention)>, wanted: impl Fn(&str) -> bool) {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let chosen = attentions.into_iter().enumerate().filter(|(number, (name, _))| *number == 0 || wanted(name));
    let mut cases: Vec<Case> = chosen.map(|(_, named)| Case::new(&engine, named)).collect();
    if cases.len() == 1 {
        return;
    }
    cases.iter_mut().for_each(Case::run);
    cases.iter_mut().for_each(|case| case.times.clear());
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::run);
    }
    println!("\n{title}, limit {limit:.2}");
    println!("  {:32} {:>8} {:>7}", "", "ms", "ratio");
    let (first, others) = cases.split_first().expect("the first");
    println!("  {:32} {:8.2}", first.name, 1e3 * median(first.times.clone()));
    for case in others {
        let ratio = median(case.times.iter().zip(&first.times).map(|(time, first)| time / first).collect());
        let over = if ratio > limit { "  over" } else { "" };
        println!("  {:32} {:8.2} {ratio:7.3}{over}", case.name, 1e3 * median(case.times.clone()));
    }
}

fn main() {
    let parts: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part));
    compare("rotations, beside RoPE", 1.06, rotations(), wanted);
    compare("rotations of each element, beside RoPE of rows twice as long", 1.06, doubled(), wanted);
    compare("biases of indices, beside ALiBi", 1.10, biases(), wanted);
    compare("biases of tables, beside none", 1.25, tables(), wanted);
}
