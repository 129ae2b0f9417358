//! Decode: one query of 32 heads on 8, or of 8 heads, of 128 elements, over long caches. Beside each time the share of the bandwidth that a
//! plain sum over the same keys and values has, and the time in parts of that without mask and scheme. All cases take turns, so that what else
//! the machine does weighs alike; the least time counts.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use half::bf16;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;
use rhumb::runtime::Element;
use rhumb_random::Rng;

/// Query heads, and those of keys and values.
const GROUPED: Heads = Heads { query: 32, kv: 8 };
const EIGHT: Heads = Heads { query: 8, kv: 8 };
const DIM: usize = 128;
const PAGE: usize = 64;
/// Buckets of T5.
const T5_BUCKETS: u32 = 32;
/// Sequences of a ragged batch.
const SEQUENCES: usize = 16;

/// Heads of an attention.
#[derive(Clone, Copy)]
struct Heads {
    query: usize,
    kv: usize,
}

/// Something that is timed, and the bytes of keys and values that it is about.
struct Case<'a> {
    name: String,
    bytes: usize,
    run: Box<dyn FnMut() + 'a>,
    least: Duration,
}

impl<'a> Case<'a> {
    fn new(name: impl Into<String>, bytes: usize, run: impl FnMut() + 'a) -> Case<'a> {
        Case { name: name.into(), bytes, run: Box::new(run), least: Duration::MAX }
    }
}

/// A cache of one layer in numbers of this type, with sequences of these lengths.
fn cache(rng: &mut Rng, (elem, heads): (Elem, Heads), lengths: &[usize]) -> (KvCache, Vec<SequenceId>) {
    let pages = lengths.iter().map(|length| length.div_ceil(PAGE)).sum();
    let cache = KvCache::builder(heads.kv, DIM).elem(elem).page_size(PAGE).pages(pages).build();
    let mut cache = cache.expect("memory for the cache");
    let fill = |length: &usize| {
        let sequence = cache.new_sequence().expect("a sequence");
        let [k, v] = [(); 2].map(|()| rng.normals(heads.kv * length * DIM));
        let shape = [heads.kv, *length, DIM];
        if elem == Elem::Bf16 {
            let [k, v] = [k, v].map(|rows| rows.into_iter().map(bf16::from_f32).collect::<Vec<_>>());
            append(&mut cache, sequence, &shape, [&k, &v]);
        } else {
            append(&mut cache, sequence, &shape, [&k, &v]);
        }
        sequence
    };
    let sequences = lengths.iter().map(fill).collect();
    (cache, sequences)
}

/// Appends rows of keys and values.
fn append<T: Element>(cache: &mut KvCache, sequence: SequenceId, shape: &[usize], rows: [&[T]; 2]) {
    let [k, v] = rows.map(|rows| TensorView::from_slice(rows, shape).expect("a view"));
    cache.append(sequence, k, v).expect("room");
}

/// The sum of all elements, by as many accumulators as a processor keeps loads in flight.
fn sum(data: &[f32]) -> f32 {
    let mut sums = [0.0f32; 128];
    for chunk in data.chunks_exact(128) {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum()
}

/// As [`sum`], by as many threads.
fn sum_by(threads: usize, data: &[f32]) -> f32 {
    thread::scope(|scope| {
        let parts = data.chunks(data.len().div_ceil(threads));
        let started: Vec<_> = parts.map(|part| scope.spawn(move || sum(part))).collect();
        started.into_iter().map(|thread| thread.join().expect("a sum")).sum()
    })
}

fn kernel(engine: &Engine, attention: &Attention) -> std::sync::Arc<Kernel> {
    engine.compile(&attention.build().expect("a graph")).expect("a kernel")
}

fn attention(heads: Heads) -> Attention {
    Attention::heads(heads.query as u32).head_dim(DIM as u32).kv_heads(heads.kv as u32)
}

/// The buckets of T5, whose bias is an input of calls.
fn t5(heads: Heads) -> Attention {
    attention(heads).scheme_with(|cx: &AttentionParts<'_>| {
        T5::new(cx.input("table", Elem::F32, [cx.axis("bucket", T5_BUCKETS), cx.h])).causal()
    })
}

/// What calls read beside the cache: a row of each query head, and T5's table where there is one.
struct Inputs {
    heads: Heads,
    query: Vec<f32>,
    table: Vec<f32>,
}

impl Inputs {
    fn new(rng: &mut Rng, heads: Heads) -> Inputs {
        let table = rng.normals(T5_BUCKETS as usize * heads.query);
        Inputs { heads, query: rng.normals(heads.query * DIM), table }
    }

    fn outputs(&self, sequences: usize) -> Vec<f32> {
        vec![0.0; sequences * self.heads.query * DIM]
    }
}

/// One call over each sequence, all at once.
fn run(kernel: &Kernel, (cache, sequences): (&KvCache, &[SequenceId]), inputs: &Inputs, out: &mut [f32]) {
    let heads = inputs.heads.query;
    let shape = [1, heads, 1, DIM];
    let mut batch = kernel.batch();
    for (&sequence, out) in sequences.iter().zip(out.chunks_mut(heads * DIM)) {
        let query = TensorView::from_slice(&inputs.query, &shape).expect("a view");
        let table = TensorView::from_slice(&inputs.table, &[T5_BUCKETS as usize, heads]).expect("a view");
        let out = TensorViewMut::from_slice(out, &shape).expect("a view");
        let call = batch.add().input("q", query).output("out", out);
        let call = cache.inputs(sequence).expect("a sequence").fold(call, |call, (name, view)| call.input(name, view));
        if kernel.interface().inputs().iter().any(|port| port.name == "table") {
            call.input("table", table);
        }
    }
    batch.run().expect("runs");
}

/// Times cases in turn, and prints them beside the first, the plain sum, and the second.
fn compare(title: &str, rounds: usize, mut cases: Vec<Case<'_>>) {
    for _ in 0..rounds {
        for case in &mut cases {
            let start = Instant::now();
            (case.run)();
            case.least = case.least.min(start.elapsed());
        }
    }
    println!("\n{title}");
    println!("  {:32} {:>9} {:>7} {:>12} {:>9}", "", "ms", "GB/s", "of the sum", "of plain");
    let rate = |case: &Case<'_>| case.bytes as f64 / case.least.as_secs_f64() / 1e9;
    let ms = |case: &Case<'_>| case.least.as_secs_f64() * 1e3;
    for case in &cases {
        let (share, ratio) = (100.0 * rate(case) / rate(&cases[0]), ms(case) / ms(&cases[1]));
        println!("  {:32} {:9.3} {:7.1} {share:10.0} % {ratio:9.2}", case.name, ms(case), rate(case));
    }
}

/// One sequence of this length, on one thread.
fn one_sequence(heads: Heads, tokens: usize, rounds: usize) {
    let rng = &mut Rng::new(tokens as u64);
    let engine = Engine::builder().threads(1).build().expect("an engine");
    let bytes = 2 * heads.kv * tokens * DIM * size_of::<f32>();
    let (k, v) = (rng.normals(bytes / 8), rng.normals(bytes / 8));
    let (cache, sequences) = cache(rng, (Elem::F32, heads), &[tokens]);
    let inputs = Inputs::new(rng, heads);
    let attention = || attention(heads);
    let schemes = [
        ("plain, in pages", attention()),
        ("causal", attention().scheme(Causal)),
        ("window of 1024", attention().scheme(SlidingWindow::new(1024))),
        ("softcap", attention().softcap(30.0)),
        ("sinks", attention().sink(0.5)),
        ("T5's table", t5(heads).scheme(Causal)),
        ("RoPE of the query", attention().scheme(Rope::new().query_only()).scheme(Causal)),
        ("RoPE of all keys", attention().scheme(Rope::new()).scheme(Causal)),
        ("ALiBi", attention().scheme(Alibi::new()).scheme(Causal)),
    ];
    let kernels = schemes.map(|(name, attention)| (name, kernel(&engine, &attention)));
    let alibi = attention().scheme(Alibi::new()).scheme(Causal);
    let whole = [("plain, in one piece", attention()), ("ALiBi, in one piece", alibi)];
    let whole = whole.map(|(name, attention)| (name, kernel(&engine, &attention)));
    let mut cases = vec![Case::new("plain sum", bytes, || _ = black_box(sum(&k) + sum(&v)))];
    let paged = kernels.iter().map(|(name, kernel)| {
        let (cache, sequences, inputs) = (&cache, &sequences, &inputs);
        Case::new(*name, bytes, move || run(kernel, (cache, sequences), inputs, &mut inputs.outputs(1)))
    });
    cases.extend(paged);
    cases.extend(whole.iter().map(|(name, kernel)| {
        let (k, v, inputs) = (&k, &v, &inputs);
        Case::new(*name, bytes, move || {
            let (mut out, shape) = (inputs.outputs(1), [1, heads.query, 1, DIM]);
            let view = |data| TensorView::from_slice(data, &[1, heads.kv, tokens, DIM]).expect("a view");
            let query = TensorView::from_slice(&inputs.query, &shape).expect("a view");
            let output = TensorViewMut::from_slice(&mut out, &shape).expect("a view");
            let call = kernel.call().input("q", query).input("k", view(k)).input("v", view(v));
            call.output("out", output).run().expect("runs");
        })
    }));
    let Heads { query, kv } = heads;
    compare(&format!("one sequence of {tokens} tokens, {query} heads on {kv}, one thread"), rounds, cases);
}

/// Threads share a long sequence, and a batch of many lengths, beside as many that sum as many bytes.
fn threads(elem: Elem) {
    let rng = &mut Rng::new(1);
    let heads = GROUPED;
    let lengths: Vec<usize> = (0..SEQUENCES).map(|n| 200 + 613 * n).collect();
    let (long, ragged) = (cache(rng, (elem, heads), &[32_768]), cache(rng, (elem, heads), &lengths));
    let inputs = Inputs::new(rng, heads);
    let of = |tokens: usize| 2 * heads.kv * tokens * DIM * elem.bytes();
    let engines = [1, 2].map(|threads| Engine::builder().threads(threads).build().expect("an engine"));
    let attention = attention(heads).cache_elem(elem).scheme(Causal);
    let kernels = engines.each_ref().map(|engine| kernel(engine, &attention));
    for (what, (cache, sequences), tokens) in
        [("one sequence of 32768 tokens", &long, 32_768), ("16 ragged sequences", &ragged, lengths.iter().sum())]
    {
        let mut outs = [inputs.outputs(SEQUENCES), inputs.outputs(SEQUENCES)];
        let (inputs, bytes) = (&inputs, of(tokens));
        let data = vec![1.0f32; bytes / size_of::<f32>()];
        for ((threads, kernel), out) in [1, 2].into_iter().zip(&kernels).zip(&mut outs) {
            let data = &data;
            let cases = vec![
                Case::new("plain sum", bytes, move || _ = black_box(sum_by(threads, data))),
                Case::new("causal", bytes, move || run(kernel, (cache, sequences), inputs, out)),
            ];
            compare(&format!("{what}, {elem}, by threads: {threads}"), 8, cases);
        }
    }
}

fn main() {
    one_sequence(GROUPED, 4096, 30);
    one_sequence(GROUPED, 32_768, 8);
    one_sequence(EIGHT, 32_768, 8);
    [Elem::F32, Elem::Bf16, Elem::I8].into_iter().for_each(threads);
}
