//! Kernels that live on one engine and differ in one constant: each does what its own graph says.
//!
//! A constant that is missing from the key of the kernel cache, or from anything that is shared between compilations, gives the second of a
//! pair the results of the first.

use std::sync::{Arc, LazyLock};

use crate::common::{Layout, Lengths, Rng, Tensors, difference, hold, inputs, outputs, relative, run};
use rhumb::plugins::{AlibiForm, Scheme};
use rhumb::prelude::*;

const HEADS: u32 = 3;
const DIM: u32 = 8;
const LENGTHS: Lengths = Lengths { batch: 1, queries: 37, keys: 45 };

/// What the results of a pair differ by at least.
const APART: f64 = 1e-3;

fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(DIM).lse()
}

fn with(scheme: impl Into<Scheme>) -> Attention {
    attention().scheme(scheme)
}

/// Two attentions by two values of one number.
fn pair<T: Copy>(name: &'static str, values: [T; 2], make: impl Fn(T) -> Attention) -> (&'static str, [Attention; 2]) {
    (name, values.map(make))
}

/// A penalty by distance whose written form says nothing of its slope.
struct Lazy {
    slope: f64,
}

impl Declared for Lazy {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
            SchemeInfo::new("lazy", [Hook::Score], "score - slope |p_q - p_k|", "a penalty by distance")
        });
        &INFO
    }
}

impl PositionScheme for Lazy {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score - self.slope * (cx.q_pos() - cx.k_pos()).abs())
    }
}

fn options() -> Vec<(&'static str, [Attention; 2])> {
    vec![
        pair("scale", [0.1, 0.3], |scale| attention().scale(scale)),
        pair("softcap", [5.0, 30.0], |cap| attention().scale(2.0).softcap(cap)),
        pair("sink", [0.0, 1.0], |sink| attention().sink(sink)),
        pair("index of the first query", [0, 5], |offset| with(Causal).q_offset(offset)),
        pair("length", [40, 80], |length| with(DynamicAlibi::new(20)).length(length)),
    ]
}

fn rotations() -> Vec<(&'static str, [Attention; 2])> {
    vec![
        pair("base", [1e4, 5e5], |base| with(Rope::new().base(base))),
        pair("factor", [1.0, 4.0], |factor| with(Rope::new().factor(factor))),
        pair("NTK", [1.0, 8.0], |ntk| with(Rope::new().ntk(ntk))),
        pair("rotary dimension", [4, 6], |dim| with(Rope::new().rotary_dim(dim))),
        pair("first element", [0, 2], |start| with(Rope::new().rotary_dim(4).start(start))),
        pair("offset", [3, 4], |offset| with(Rope::new().query_only().offset(offset))),
        pair("one frequency", [0.25, 0.5], |f| with(Rope::new().frequencies([1.0, f, 0.125, 0.0]))),
        pair("pairing", [Pairing::Half, Pairing::Interleaved], |pairing| with(Rope::new().pairing(pairing))),
        pair("columns", [5, 7], |columns| with(Rope2d::grid(6, columns))),
        pair("tokens before the grid", [0, 1], |prefix| with(Rope2d::grid(6, 7).prefix(prefix))),
        pair("2D scale", [1.0, 2.0], |scale| with(Rope2d::grid(6, 7).scale(scale))),
    ]
}

fn biases() -> Vec<(&'static str, [Attention; 2])> {
    vec![
        pair("one slope", [0.25, 0.125], |slope| with(Alibi::new().slopes([0.5, slope, 0.0]))),
        pair("slopes' scale", [1.0, 0.5], |scale| with(Alibi::new().scale(scale))),
        pair("bias_max", [8.0, 4.0], |bias_max| with(Alibi::new().bias_max(bias_max))),
        pair("form", [AlibiForm::Causal, AlibiForm::Symmetric], |form| with(Alibi::new().form(form))),
        pair("trained length", [10, 20], |length| with(DynamicAlibi::new(length))),
        pair("length of the slopes", [32, 64], |length| with(DynamicAlibi::new(20).length(length))),
        pair("what is not written", [1.0, 0.5], |slope| with(Lazy { slope })),
        pair("rate of a closure", [0.5, 0.25], |rate| {
            attention().score_with(move |cx, score| score - rate * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
        }),
        pair("factor of a square", [0.125, 0.25], |factor| {
            attention().score_with(move |_, score| score + factor * score * score)
        }),
        pair("bound of a clamp", [0.25, 0.5], |bound| attention().score_with(move |_, score| score.max(bound))),
        pair("element of a table", [1.0, 2.0], |element| {
            attention().score_with(move |cx, score| {
                let bucket = cx.axis("bucket", 3);
                let table = cx.table(&[bucket], [0.5, element, -0.5]);
                score + table.gather(bucket, cx.k_index() - cx.q_index() + 1)
            })
        }),
        pair("where a choice turns", [10, 20], |turn| {
            attention().score_with(move |cx, score| {
                let near = (cx.q_index() - cx.k_index()).abs().lt(turn);
                score + near.select(cx.scalar(1.0), cx.scalar(-1.0))
            })
        }),
    ]
}

fn masks() -> Vec<(&'static str, [Attention; 2])> {
    vec![
        pair("window", [9, 11], |window| with(SlidingWindow::new(window))),
        pair("window on both sides", [3, 5], |window| with(SlidingWindow::new(window).symmetric())),
        pair("prefix", [4, 20], |prefix| with(PrefixLm::new(prefix))),
        pair("keys", [30, 40], |keys| with(KeyLengths::new(keys))),
        pair("chunk", [7, 11], |chunk| with(Chunked::new(chunk))),
        pair("dilation", [2, 3], |dilation| with(Dilated::new(12, dilation))),
        pair("dilated window", [6, 12], |window| with(Dilated::new(window, 2))),
        pair("step of a closure", [3, 5], |step| attention().mask_with(move |cx| (cx.k_index() % step).eq(0))),
    ]
}

/// A kernel, and what a call should give.
struct Side {
    kernel: Arc<Kernel>,
    expected: Tensors,
}

impl Side {
    fn new(engine: &Engine, attention: &Attention, tensors: &Tensors) -> Side {
        let graph = attention.build().expect("a graph");
        let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{error}"));
        let reference = engine.reference(&graph).expect("a reference");
        let mut expected = outputs(reference.interface(), LENGTHS, |_| Layout::Rows);
        run(reference.call(), tensors, &mut expected).expect("runs");
        Side { kernel, expected }
    }

    /// Whether the kernel is right now.
    fn check(&self, name: &str, tensors: &Tensors) {
        let mut found = outputs(self.kernel.interface(), LENGTHS, |_| Layout::Rows);
        run(self.kernel.call(), tensors, &mut found).expect("runs");
        hold(&self.kernel, tensors, &found, &self.expected, name);
    }
}

/// The largest difference of all outputs.
fn apart(a: &Tensors, b: &Tensors) -> f64 {
    a.iter().map(|(name, a)| difference(&a.values(), &b[name].values(), relative)).fold(0.0, f64::max)
}

/// Compiles all pairs on one engine, then calls every kernel in turn, twice.
fn check(pairs: &[(&'static str, [Attention; 2])]) {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let plain = engine.compile(&attention().build().expect("a graph")).expect("a kernel");
    let tensors = inputs(&mut Rng::new(11), plain.interface(), LENGTHS);
    let sides: Vec<[Side; 2]> = pairs
        .iter()
        .map(|(_, pair)| pair.each_ref().map(|attention| Side::new(&engine, attention, &tensors)))
        .collect();
    for _ in 0..2 {
        for ((name, _), pair) in pairs.iter().zip(&sides) {
            for side in pair {
                side.check(name, &tensors);
            }
        }
    }
    for ((name, _), [a, b]) in pairs.iter().zip(&sides) {
        assert!(!Arc::ptr_eq(&a.kernel, &b.kernel), "{name}");
        assert!(apart(&a.expected, &b.expected) > APART, "{name}: the constant makes no difference");
    }
}

#[test]
fn options_differ() {
    check(&options());
}

#[test]
fn rotations_differ() {
    check(&rotations());
}

#[test]
fn biases_differ() {
    check(&biases());
}

#[test]
fn masks_differ() {
    check(&masks());
}

/// A constant counts to its last bit.
#[test]
fn constants_that_differ_in_a_bit_have_kernels_of_their_own() {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let next = |x: f64| f64::from_bits(x.to_bits() + 1);
    let pairs = [
        pair("scale", [0.1, next(0.1)], |scale| attention().scale(scale)),
        pair("slope", [0.1, next(0.1)], |slope| with(Alibi::new().slopes([0.5, slope, 0.0]))),
        pair("what is not written", [0.1, next(0.1)], |slope| with(Lazy { slope })),
        pair("sign of zero", [0.0, -0.0], |bound| attention().score_with(move |_, score| score.max(bound))),
    ];
    for (name, pair) in pairs {
        let [a, b] = pair.map(|attention| engine.compile(&attention.build().expect("a graph")).expect("a kernel"));
        assert!(!Arc::ptr_eq(&a, &b), "{name}");
    }
}

/// What is written in two ways and lowers to one graph has one kernel.
#[test]
fn equal_attentions_share_a_kernel() {
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let compile = |graph: &Verified| engine.compile(graph).expect("a kernel");
    let built = |attention: Attention| attention.build().expect("a graph");
    let make = || built(attention().scheme(Rope::new()).scheme(Alibi::new().scale(1.0)).scheme(Causal));
    let first = compile(&make());
    assert!(Arc::ptr_eq(&first, &compile(&make())));
    assert!(Arc::ptr_eq(&first, &compile(&Graph::parse(&make().to_string()).expect("parses"))));
    let lazy = || built(with(Lazy { slope: 0.5 }));
    assert!(Arc::ptr_eq(&compile(&lazy()), &compile(&lazy())));
    assert_eq!((engine.cache_stats().misses, engine.cache_stats().hits), (2, 3));
}
