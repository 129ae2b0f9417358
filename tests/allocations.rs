//! A call like one before allocates nothing.

mod common;

use std::hint::black_box;

use common::{engine, targets};
use rhumb::prelude::*;

const HEADS: usize = 4;
const DIM: usize = 32;

#[test]
fn warm_calls_allocate_nothing() {
    let attention = || Attention::heads(HEADS as u32).head_dim(DIM as u32).kv_heads(2).lse();
    let attentions = [
        attention().scheme(Rope::new()).scheme(Alibi::new()).scheme(SlidingWindow::new(50)),
        // Many runs of keys, and terms of keys that are looked for the greatest.
        attention().mask_with(|cx| (cx.k_index() / 16 % 2).eq(0)).scheme(Alibi::new()),
    ];
    for (target, attention) in targets().iter().flat_map(|target| attentions.iter().map(move |of| (target, of))) {
        let graph = attention.build().expect("a graph");
        let kernel = engine(target, 1).compile(&graph).expect("a kernel");
        let (queries, keys) = (70, 90);
        let q = vec![0.5f32; HEADS * queries * DIM];
        let (k, v) = (vec![0.25f32; 2 * keys * DIM], vec![1.0f32; 2 * keys * DIM]);
        let (mut out, mut lse) = (vec![0.0f32; q.len()], vec![0.0f32; HEADS * queries]);
        let mut call = || {
            // Keys and values as they lie in a cache: tokens first.
            let cached = |data| TensorView::from_slice(data, &[1, keys, 2, DIM])?.permute(&[0, 2, 1, 3]);
            kernel
                .call()
                .input("q", TensorView::from_slice(&q, &[1, HEADS, queries, DIM])?)
                .input("k", cached(&k[..])?)
                .input("v", cached(&v[..])?)
                .output("out", TensorViewMut::from_slice(&mut out, &[1, HEADS, queries, DIM])?)
                .output("lse", TensorViewMut::from_slice(&mut lse, &[1, HEADS, queries])?)
                .run()?;
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        // The first call makes the working memory.
        call().expect("runs");
        let counts = allocation_counter::measure(|| {
            for _ in 0..3 {
                black_box(call()).expect("runs");
            }
        });
        assert_eq!((counts.count_total, counts.bytes_total), (0, 0), "{target}");
        assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-6));
    }
}

/// A step of decoding: single tokens and a prompt in one batch, over caches in pages of which the longest is cut into chunks.
#[test]
fn warm_batches_allocate_nothing() {
    for target in targets() {
        let attention = Attention::heads(HEADS as u32).head_dim(DIM as u32).kv_heads(2).scheme(Alibi::new());
        let graph = attention.scheme(Causal).build().expect("a graph");
        let kernel = engine(&target, 1).compile(&graph).expect("a kernel");
        let mut cache = KvCache::builder(2, DIM).page_size(64).pages(100).build().expect("a cache");
        let lengths = [2500, 70, 1, 130, 33];
        let rows = vec![0.5f32; 2 * 2500 * DIM];
        let sequences = lengths.map(|length| {
            let sequence = cache.new_sequence().expect("a sequence");
            let rows = TensorView::from_slice(&rows[..2 * length * DIM], &[2, length, DIM]).expect("a view");
            cache.append(sequence, rows, rows).expect("room");
            sequence
        });
        let queries = [1, 1, 1, 130, 1];
        let q = vec![0.5f32; HEADS * 130 * DIM];
        let mut outs = queries.map(|queries| vec![0.0f32; HEADS * queries * DIM]);
        let mut step = || {
            let mut batch = kernel.batch();
            for ((&sequence, queries), out) in sequences.iter().zip(queries).zip(&mut outs) {
                let shape = [1, HEADS, queries, DIM];
                let query = TensorView::from_slice(&q[..HEADS * queries * DIM], &shape)?;
                let call = batch.add().input("q", query).input("k", cache.keys(sequence)?);
                call.input("v", cache.values(sequence)?).output("out", TensorViewMut::from_slice(out, &shape)?);
            }
            batch.run()?;
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        // The first steps make the working memory, of which each call takes what fits it best.
        (0..3).for_each(|_| step().expect("runs"));
        let counts = allocation_counter::measure(|| (0..3).for_each(|_| black_box(step()).expect("runs")));
        assert_eq!((counts.count_total, counts.bytes_total), (0, 0), "{target}");
        assert!(outs.iter().flatten().all(|x| (x - 0.5).abs() < 1e-6));
    }
}
