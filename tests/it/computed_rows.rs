//! Rows of keys and values that decode computes row by row: each of a row of the cache, wherever that lies.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, agree, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;

fn attentions() -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(2).head_dim(32).kv_heads(2);
    vec![
        ("RoPE", of().scheme(Rope::new())),
        ("neighbours", of().scheme(Rope::new().interleaved())),
        ("18 elements", Attention::heads(1).head_dim(18).scheme(Rope::new()).scheme(Causal)),
        ("a part of the row", of().scheme(Rope::new().rotary_dim(6)).scheme(SlidingWindow::new(9))),
        ("16 bits", of().cache_elem(Elem::Bf16).scheme(Rope::new()).scheme(Causal)),
        ("i8", of().cache_elem(Elem::I8).scheme(Rope::new())),
        ("scales of channels", of().cache_elem(Elem::I8).scales(Scales::PerChannel)),
        ("two inputs", of().key_with(|cx, key| key + cx.input("more", Elem::F32, [cx.b, cx.h, cx.k, cx.d]))),
        ("a bias", of().scheme(Alibi::new()).scheme(Rope::new())),
    ]
}

/// For every number of rows of queries, some of one register tile and some of several.
#[test]
fn rows_of_queries_share_them() {
    for (which, target) in targets().iter().enumerate() {
        let engine = Engine::builder().target(target.clone()).kernels(Kernels::Decode).build().expect("an engine");
        for (n, (name, attention)) in attentions().into_iter().enumerate() {
            let graph = attention.build().expect("a graph");
            let kernel = engine.compile(&graph).expect("compiles");
            let reference = engine.reference(&graph).expect("a reference");
            let plan = &kernel.decode().expect("a kernel").plan;
            assert!(plan.to_string().contains(" of rows of `"), "{name}:\n{plan}");
            for queries in 1..=9 {
                let keys = [1, 15, 17, 130, 300][(queries + which + n) % 5];
                let lengths = Lengths { batch: 1, queries, keys };
                let tensors = inputs(&mut Rng::new((100 * n + queries) as u64), kernel.interface(), lengths);
                agree((&kernel, &reference), &tensors, lengths, format!("{name}, {target}, {queries} x {keys}"));
            }
        }
    }
}

/// The norms of pages are those of the rows that the cache holds, and say nothing of rows that are computed of them.
#[test]
fn norms_of_a_cache_are_not_theirs() {
    let attention = Attention::heads(8).head_dim(16).lse().scheme(Alibi::new()).scheme(Causal);
    // What is thousands of keys away weighs more than what is near.
    let attention = attention.key_with(|cx, key| cx.k_pos().lt(64).select(key * 3000.0, key));
    let graph = attention.build().expect("a graph");
    for target in targets() {
        let engine = Engine::builder().target(target.clone()).threads(1).kernels(Kernels::Decode).build();
        let kernel = engine.expect("an engine").compile(&graph).expect("compiles");
        let plan = &kernel.decode().expect("a kernel").plan;
        assert!(plan.to_string().contains(" of rows of `k`"), "{plan}");
        let lengths = Lengths { batch: 1, queries: 1, keys: 5000 };
        let all = inputs(&mut Rng::new(5), kernel.interface(), lengths);
        let [mut whole, mut paged] = [(); 2].map(|()| outputs(kernel.interface(), lengths, |_| Layout::Rows));
        run(kernel.call(), &all, &mut whole).expect("runs");
        let mut cache = KvCache::builder(8, 16).page_size(64).pages(80).build().expect("a cache");
        let sequence = cache.new_sequence().expect("a sequence");
        let rows = |name: &str| all[name].view().select(0, 0).expect("a sequence");
        cache.append(sequence, rows("k"), rows("v")).expect("room");
        let call = cache
            .inputs(sequence)
            .expect("a sequence")
            .fold(kernel.call(), |call, (name, view)| call.input(name, view));
        let call = call.input("q", all["q"].view());
        let call = paged.iter_mut().fold(call, |call, (name, tensor)| call.output(name, tensor.view_mut()));
        call.run().expect("runs");
        assert!(bits(&paged) == bits(&whole), "{target}");
    }
}
