//! Engines, kernels and calls as users have them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use insta::assert_snapshot;
use rhumb_compiler::{Backend, Features, Kernels, Stage, Target};
use rhumb_ir::{Expr, Graph, Hook, Verified};
use rhumb_plugins::{
    Alibi, Attention, Causal, Declared, PositionScheme, Registry, Rope, SchemeContext, SchemeError, SchemeInfo,
};
use rhumb_random::Rng;
use rhumb_runtime::{CallError, Engine, EngineError, Kernel, Reference, TensorView, TensorViewMut};

const HEADS: usize = 4;
const DIM: usize = 16;

fn llama() -> Verified {
    Attention::heads(HEADS as u32)
        .head_dim(DIM as u32)
        .kv_heads(2)
        .scheme(Rope::new())
        .scheme(Causal)
        .lse()
        .build()
        .expect("a graph")
}

/// Numbers between -1 and 1, the same on every machine.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Rng::new(seed);
    (0..len).map(|_| 2.0 * random.unit() as f32 - 1.0).collect()
}

/// Tensors of a call of [`llama`], all `[batch, tokens, heads, dim]`.
#[derive(Clone, PartialEq, Debug)]
struct Tensors {
    tokens: (usize, usize),
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
}

const BHSD: [usize; 4] = [0, 2, 1, 3];

impl Tensors {
    fn new(queries: usize, keys: usize) -> Tensors {
        let len = |tokens, heads| 2 * tokens * heads * DIM;
        Tensors {
            tokens: (queries, keys),
            q: random(len(queries, HEADS), 1),
            k: random(len(keys, 2), 2),
            v: random(len(keys, 2), 3),
            out: vec![f32::NAN; len(queries, HEADS)],
            lse: vec![f32::NAN; 2 * HEADS * queries],
        }
    }

    fn run(&mut self, kernel: &Kernel) -> Result<(), CallError> {
        self.bind(kernel.call())
    }

    fn bind<'a>(&'a mut self, call: rhumb_runtime::Call<'_, 'a>) -> Result<(), CallError> {
        let (queries, keys) = self.tokens;
        let view = |data: &'a [f32], tokens, heads| {
            TensorView::from_slice(data, &[2, tokens, heads, DIM]).and_then(|view| view.permute(&BHSD)).expect("a view")
        };
        let out = TensorViewMut::from_slice(&mut self.out, &[2, queries, HEADS, DIM]).expect("a view");
        call.input("q", view(&self.q, queries, HEADS))
            .input("k", view(&self.k, keys, 2))
            .input("v", view(&self.v, keys, 2))
            .output("out", out.permute(&BHSD).expect("an order"))
            .output("lse", TensorViewMut::from_slice(&mut self.lse, &[2, HEADS, queries]).expect("a view"))
            .run()
    }

    /// What [`Tensors::run`] should have made.
    fn expected(&self, reference: &Reference) -> Tensors {
        let mut tensors = self.clone();
        tensors.bind(reference.call()).expect("runs");
        tensors
    }

    fn difference(&self, other: &Tensors) -> f32 {
        let pairs = self.out.iter().chain(&self.lse).zip(other.out.iter().chain(&other.lse));
        pairs
            .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
            .fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
    }
}

fn engine(threads: usize) -> Engine {
    Engine::builder().threads(threads).build().expect("an engine")
}

#[test]
fn one_kernel_serves_every_length() {
    let engine = engine(1);
    let kernel = engine.compile(&llama()).expect("a kernel");
    let reference = engine.reference(&llama()).expect("a reference");
    for (queries, keys) in [(1, 1), (7, 7), (65, 65), (3, 40), (0, 4), (5, 0), (100, 33)] {
        let mut tensors = Tensors::new(queries, keys);
        tensors.run(&kernel).expect("runs");
        let off = tensors.difference(&tensors.expected(&reference));
        assert!(off < 2e-6, "{queries} x {keys}: {off}");
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let mut tensors = Tensors::new(150, 170);
    let results = [1, 2, 3, 8].map(|threads| {
        let kernel = engine(threads).compile(&llama()).expect("a kernel");
        tensors.run(&kernel).expect("runs");
        tensors.clone()
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "bit for bit");
}

#[test]
fn many_threads_call_one_kernel() {
    for threads in [1, 2] {
        // The kernel outlives its engine.
        let kernel = engine(threads).compile(&llama()).expect("a kernel");
        let expected: Vec<Tensors> = (1..40)
            .step_by(7)
            .map(|tokens| {
                let mut tensors = Tensors::new(tokens, 2 * tokens);
                tensors.run(&kernel).expect("runs");
                tensors
            })
            .collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (kernel, expected) = (&kernel, &expected);
                scope.spawn(move || {
                    for expected in expected.iter().cycle().take(30) {
                        let mut tensors = Tensors::new(expected.tokens.0, expected.tokens.1);
                        tensors.run(kernel).expect("runs");
                        assert_eq!(tensors, *expected);
                    }
                });
            }
        });
    }
}

/// Allocations of this thread in a call.
fn allocations(tensors: &mut Tensors, kernel: &Kernel) -> u64 {
    allocation_counter::measure(|| tensors.run(kernel).expect("runs")).count_total
}

#[test]
fn warm_calls_allocate_nothing() {
    for kernels in [Kernels::Prefill, Kernels::Decode] {
        let engine = Engine::builder().threads(1).kernels(kernels).build().expect("an engine");
        let kernel = engine.compile(&llama()).expect("a kernel");
        let (mut long, mut short) = (Tensors::new(70, 90), Tensors::new(3, 4));
        assert!(allocations(&mut long, &kernel) > 0);
        assert_eq!(allocations(&mut long, &kernel), 0);
        // Shorter calls find the same memory.
        assert_eq!(allocations(&mut short, &kernel), 0);
        kernel.trim();
        assert!(allocations(&mut short, &kernel) > 0);
        assert_eq!(allocations(&mut short, &kernel), 0);
    }
    // Two kernels share these.
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let graph = Attention::heads(HEADS as u32).head_dim(DIM as u32).kv_heads(2).scheme(Causal).lse();
    let kernel = engine.compile(&graph.build().expect("a graph")).expect("a kernel");
    let tails = &kernel.decode().expect("a kernel").tails;
    let queries = *tails.queries.keys().next().expect("shared calls");
    let mut shared = Tensors::new(queries, 500);
    assert!(allocations(&mut shared, &kernel) > 0);
    assert_eq!(allocations(&mut shared, &kernel), 0);
}

/// The queue of a thread pool grows by a block now and then; nothing else does.
#[test]
fn warm_calls_on_threads_allocate_next_to_nothing() {
    let kernel = engine(2).compile(&llama()).expect("a kernel");
    let mut tensors = Tensors::new(70, 90);
    for _ in 0..5 {
        tensors.run(&kernel).expect("runs");
    }
    let total: u64 = (0..200).map(|_| allocations(&mut tensors, &kernel)).sum();
    assert!(total <= 20, "{total} allocations in 200 calls");
}

#[test]
fn kernels_are_kept_by_the_text_of_their_lowered_graph() {
    let engine = Engine::builder().threads(1).cache_capacity(2).build().expect("an engine");
    let first = engine.compile(&llama()).expect("a kernel");
    assert!(Arc::ptr_eq(&first, &engine.compile(&llama()).expect("a kernel")));
    let alibi = Attention::heads(4).head_dim(16).scheme(Alibi::new()).build().expect("a graph");
    let other = engine.compile(&alibi).expect("a kernel");
    assert!(!Arc::ptr_eq(&first, &other));
    let stats = engine.cache_stats();
    assert_eq!((stats.hits, stats.misses, stats.evictions, stats.entries), (1, 2, 0, 2));
    let compiling = |kernel: &Kernel| -> Duration {
        kernel.timings().iter().filter(|timing| timing.stage != Stage::Lowered).map(|timing| timing.time).sum()
    };
    assert!(stats.compile_time >= compiling(&first) + compiling(&other));
    engine.compile(&Attention::heads(4).head_dim(16).build().expect("a graph")).expect("a kernel");
    assert_eq!((engine.cache_stats().evictions, engine.cache_stats().entries), (1, 2));
    engine.clear_cache();
    assert_eq!(engine.cache_stats().entries, 0);
    // What made room still computes what it did.
    let mut tensors = Tensors::new(3, 3);
    tensors.run(&first).expect("runs");
    let expected = tensors.expected(&engine.reference(&llama()).expect("a reference"));
    assert!(tensors.difference(&expected) < 2e-6);
}

/// A penalty by distance whose written form says nothing of its slope.
struct Lazy {
    slope: f64,
}

impl Declared for Lazy {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
            SchemeInfo::new("lazy", [Hook::Score], "score - slope (p_q - p_k)", "a penalty by distance")
        });
        &INFO
    }
}

impl PositionScheme for Lazy {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score + self.slope * (cx.k_pos() - cx.q_pos()))
    }
}

#[test]
fn schemes_that_read_the_same_are_compiled_as_they_are() {
    let attention = || Attention::heads(HEADS as u32).head_dim(DIM as u32).kv_heads(2).lse();
    let lazy = |slope| attention().scheme(Lazy { slope }).scheme(Causal).build().expect("a graph");
    let closure = |slope: f64| {
        let attention = attention().score_with(move |cx, score| score + slope * (cx.k_pos() - cx.q_pos()));
        attention.scheme(Causal).build().expect("a graph")
    };
    let engine = engine(1);
    let run = |engine: &Engine, graph: &Verified| {
        let kernel = engine.compile(graph).expect("a kernel");
        let mut tensors = Tensors::new(37, 41);
        tensors.run(&kernel).expect("runs");
        let off = tensors.difference(&tensors.expected(&engine.reference(graph).expect("a reference")));
        assert!(off < 2e-6, "{off}");
        (kernel, tensors)
    };
    assert_eq!(lazy(1.0).to_string(), lazy(0.5).to_string());
    let made = [1.0, 0.5].map(|slope| {
        let (kernel, found) = run(&engine, &lazy(slope));
        // On an engine of its own, so that the closure has a kernel of its own.
        let (_, expected) = run(&self::engine(1), &closure(slope));
        assert_eq!(found, expected, "bit for bit");
        assert!(Arc::ptr_eq(&kernel, &engine.compile(&lazy(slope)).expect("a kernel")), "another of the same slope");
        (kernel, found)
    });
    assert!(!Arc::ptr_eq(&made[0].0, &made[1].0));
    assert!(made[0].1.difference(&made[1].1) > 1e-2);
    assert_eq!((engine.cache_stats().misses, engine.cache_stats().entries), (2, 2));
}

/// This machine, and it with less: without AVX-512, without wide vectors, without fused multiply-add, with SSE4.1 alone.
fn lesser_hosts() -> [Target; 5] {
    let f = Features::detect();
    [f, f.without_avx512(), f.without_wide(), f.without_fma(), f.without_avx()]
        .map(|features| Target::of(features).expect("a target"))
}

#[test]
fn every_host_chooses_among_what_it_has() {
    for host in lesser_hosts() {
        let engine = |target: &Target| Engine::builder().threads(1).target(target.clone()).build().expect("an engine");
        let open = engine(&host);
        let kernel = open.compile(&llama()).expect("a kernel");
        assert!(Arc::ptr_eq(&kernel, &open.compile(&llama()).expect("a kernel")), "the choice is kept with the kernel");
        let candidates: Vec<String> = host.candidates().iter().map(ToString::to_string).collect();
        let ranked = kernel.choice().ranked();
        let mut found: Vec<String> = ranked.iter().map(|ranked| ranked.target.to_string()).collect();
        assert_eq!((kernel.target().to_string(), kernel.choice().is_pinned()), (found[0].clone(), false));
        found.sort();
        assert!(candidates.iter().all(|candidate| found.contains(candidate)) && found.len() == candidates.len());

        let mut chosen = Tensors::new(70, 90);
        chosen.run(&kernel).expect("runs");
        let expected = chosen.expected(&open.reference(&llama()).expect("a reference"));
        for candidate in host.candidates() {
            let pinned = engine(&candidate).compile(&llama()).expect("a kernel");
            assert_eq!((pinned.target().to_string(), pinned.choice().is_pinned()), (candidate.to_string(), true));
            let mut tensors = Tensors::new(70, 90);
            tensors.run(&pinned).expect("runs");
            assert!(tensors.difference(&expected) < 2e-6, "{candidate}");
            assert!(candidate.to_string() != kernel.target().to_string() || tensors == chosen, "{candidate}");
        }
    }
    let [_, avx2, narrow @ ..] = lesser_hosts();
    assert!(avx2.lane_counts().iter().all(|lanes| *lanes <= 8));
    for host in &narrow {
        let only: Vec<(Backend, usize)> =
            host.candidates().iter().map(|target| (target.machine().backend, target.machine().lanes)).collect();
        assert_eq!(only, [(Backend::Cranelift, 4)], "{host}");
    }
    if cfg!(target_arch = "x86_64") {
        let [_, no_fma, sse41] = &narrow;
        assert!(!no_fma.machine().has_fma() && !sse41.machine().has_fma());
        assert!(sse41.to_string().contains("sse4.1") && !no_fma.to_string().contains("sse4.1"), "{no_fma}; {sse41}");
    }
}

#[test]
fn a_kernel_tells_what_it_is() {
    let kernel = engine(1).compile(&llama()).expect("a kernel");
    assert_snapshot!(kernel.interface(), @r#"
    input "q": f32[b, h = 4, q, d = 16]
    input "k": f32[b, g = 2, k, d = 16]
    input "v": f32[b, g = 2, k, e = 16]
    output "out": f32[b, h = 4, q, e = 16]
    output "lse": f32[b, h = 4, q]
    "#);
    assert!(kernel.plan().attention.is_some());
    assert!(kernel.code_bytes() > 0);
    assert!(!kernel.timings().is_empty());
}

#[test]
fn refused_graphs_and_calls_leave_the_engine_as_it_was() {
    let engine = engine(2);
    let kernel = engine.compile(&llama()).expect("a kernel");
    let (mut good, mut bad) = (Tensors::new(9, 9), Tensors::new(9, 9));
    good.run(&kernel).expect("runs");

    let plain = Registry::empty();
    let bare = Engine::builder().threads(1).registry(plain).build().expect("an engine");
    // A graph that carries its schemes needs no registry; one read from text does.
    bare.compile(&llama()).expect("a kernel");
    bare.clear_cache();
    let named = Graph::parse(&llama().to_string()).expect("parses");
    let unknown = bare.compile(&named).expect_err("refused").to_string();
    let missing = kernel.call().run().expect_err("refused").to_string();
    bad.tokens.1 = 8;
    bad.k.truncate(2 * 8 * 2 * DIM);
    let short = TensorView::from_slice(&bad.k, &[2, 8, 2, DIM]).expect("a view");
    let value = TensorView::from_slice(&bad.v, &[2, 9, 2, DIM]).expect("a view");
    let q = TensorView::from_slice(&bad.q, &[2, 9, HEADS, DIM]).expect("a view");
    let mut out = [0.0f32; 2 * 9 * HEADS * DIM];
    let mut lse = [0.0f32; 2 * 9 * HEADS];
    let clash = kernel
        .call()
        .input("q", q.permute(&BHSD).expect("an order"))
        .input("k", short.permute(&BHSD).expect("an order"))
        .input("v", value.permute(&BHSD).expect("an order"))
        .output("out", TensorViewMut::from_slice(&mut out, &[2, HEADS, 9, DIM]).expect("a view"))
        .output("lse", TensorViewMut::from_slice(&mut lse, &[2, HEADS, 9]).expect("a view"))
        .run()
        .expect_err("refused")
        .to_string();
    assert!(out.iter().chain(&lse).all(|x| *x == 0.0), "nothing was written");
    let shown = [unknown, missing, clash].join("\n");
    assert_snapshot!(shown);

    assert_eq!(bare.cache_stats().entries, 0);
    bare.compile(&Attention::heads(4).head_dim(16).build().expect("a graph")).expect("a kernel");
    let mut again = Tensors::new(9, 9);
    again.run(&kernel).expect("runs");
    assert_eq!(again, good);
}

#[test]
fn refused_engines_say_why() {
    assert!(matches!(Engine::builder().threads(0).build(), Err(EngineError::NoThreads)));
    let lanes = Engine::builder().lanes(3).build().expect_err("refused");
    assert!(matches!(lanes, EngineError::Target(_)));
    let named = Target::named("x86_64-unknown-linux-gnu").expect("a target");
    let foreign = Engine::builder().target(named).build().expect_err("refused");
    assert!(matches!(foreign, EngineError::Foreign { .. }));
    let none = Engine::builder().threads(0).build().expect_err("refused");
    assert_snapshot!(none, @"an engine needs a thread; ask for 1 or more, 1 being the caller's own");
}

/// Kernels that are dropped leave none of their code mapped.
#[test]
#[cfg(target_os = "linux")]
fn a_thousand_kernels_leave_no_mappings() {
    let mappings = || std::fs::read_to_string("/proc/self/maps").expect("procfs").lines().count();
    let engine = Engine::builder().threads(1).cache_capacity(2).build().expect("an engine");
    let mut before = 0;
    for number in 0..1000 {
        let graph = Attention::heads(1).head_dim(4).scale(1.0 + f64::from(number)).build().expect("a graph");
        engine.compile(&graph).expect("a kernel");
        if number == 9 {
            before = mappings();
        }
    }
    let after = mappings();
    assert!(after < before + 100, "{before} mappings with 10 kernels made, {after} with 1,000");
}
