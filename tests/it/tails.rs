//! Calls that two kernels share: prefill has the queries that fill whole vectors, decode the few that are left.

use crate::common::calls::call;
use crate::common::{Layout, Lengths, Rng, Tensors, agree, inputs, outputs, targets};
use rhumb::compiler::{Kernels, Tails};
use rhumb::prelude::*;
use rhumb::runtime::KeyTileClass;

/// Attentions by name, and whether all queries see all keys.
fn attentions() -> Vec<(&'static str, bool, Attention)> {
    let of = || Attention::heads(3).head_dim(32).value_dim(24).lse();
    let grouped = || Attention::heads(4).head_dim(16).kv_heads(2);
    vec![
        ("plain", true, of()),
        ("causal", false, of().scheme(Causal)),
        ("a window", false, of().scheme(SlidingWindow::new(9))),
        ("ALiBi", false, of().scheme(Alibi::new()).scheme(Causal)),
        ("symmetric ALiBi", true, of().scheme(Alibi::new().symmetric())),
        ("softcap and sinks", true, of().softcap(2.0).sinks()),
        ("a bias", true, of().bias(Batch::Shared)),
        ("documents", false, of().documents(Batch::Each)),
        ("T5", true, of().scheme_with(|cx| T5::new(cx.input("table", Elem::F32, [cx.axis("bucket", 32), cx.h])))),
        ("groups", true, grouped()),
        ("groups, causal", false, grouped().scheme(Causal)),
        ("groups, each head with a bias", true, grouped().scheme(Alibi::new().symmetric())),
        ("f16", true, of().elem(Elem::F16)),
    ]
}

fn engine(target: &Target, kernels: Kernels, threads: usize) -> Engine {
    Engine::builder().target(target.clone()).threads(threads).kernels(kernels).build().expect("an engine")
}

/// Numbers of queries and keys of such calls: the first, one between and the last, on few keys and on more than a chunk.
fn some(Tails { queries, .. }: &Tails) -> Vec<(usize, usize)> {
    let all: Vec<(usize, usize)> = queries.iter().map(|(queries, fewest)| (*queries, *fewest)).collect();
    let Some(last) = all.len().checked_sub(1) else { return Vec::new() };
    [(0, 1500), (last / 2, 0), (last, 300)].map(|(at, keys)| (all[at].0, all[at].1.max(keys))).to_vec()
}

/// The elements of each output that are of queries before `first`, and of those from it on.
fn split(made: &Tensors, queries: usize, first: usize) -> [Vec<u32>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    for (name, tensor) in made {
        let inner = if name == "lse" { 1 } else { tensor.shape()[3] };
        for (number, row) in tensor.bits().chunks(inner).enumerate() {
            parts[usize::from(number % queries >= first)].extend_from_slice(row);
        }
    }
    parts
}

/// Each query has the bits of its kernel, at any number of threads and in a batch.
#[test]
fn each_query_has_the_bits_of_its_kernel() {
    let mut shared = 0;
    for (which, target) in targets().iter().enumerate() {
        let engines = [Kernels::Cheapest, Kernels::Prefill, Kernels::Decode].map(|kernels| engine(target, kernels, 1));
        let on_threads = engine(target, Kernels::Cheapest, 2);
        let some_attentions = attentions().into_iter().enumerate().filter(|(number, _)| (number + which) % 2 == 0);
        for (number, (name, sees_all, attention)) in some_attentions {
            let graph = attention.build().expect("a graph");
            let [kernel, prefill, decode] = engines.each_ref().map(|engine| engine.compile(&graph).expect("compiles"));
            let Ok(taken) = kernel.decode() else { continue };
            let reference = engines[0].reference(&graph).expect("a reference");
            for (queries, keys) in some(&taken.tails) {
                let lengths = Lengths { batch: 2, queries, keys };
                let tensors = inputs(&mut Rng::new((which + 10 * number) as u64), kernel.interface(), lengths);
                let context = format!("{name}, {target}, {queries} x {keys}");
                agree((&kernel, &reference), &tensors, lengths, &context);
                let first = queries - queries % taken.tails.vector;
                let [made, of_prefill, of_decode] = [&kernel, &prefill, &decode]
                    .map(|kernel| split(&call(kernel, &tensors, lengths).expect("runs"), queries, first));
                // Else key tiles are cut by what the queries of a tile see all together.
                if sees_all {
                    assert!(made[0] == of_prefill[0], "{context}: queries of prefill");
                    assert!(made[1] == of_decode[1], "{context}: queries of decode");
                }
                let threaded = on_threads.compile(&graph).expect("compiles");
                assert!(
                    split(&call(&threaded, &tensors, lengths).expect("runs"), queries, first) == made,
                    "{context}: threads"
                );
                shared += usize::from(of_prefill[1] != made[1]);
            }
        }
    }
    assert!(shared > 20, "{shared} calls whose last queries decode computes");
}

/// The map of such a call has all queries, each once, and all keys of each.
#[test]
fn a_map_has_the_tiles_of_both_kernels() {
    let target = Target::host().expect("a target");
    let kernel = engine(&target, Kernels::Cheapest, 1)
        .compile(&Attention::heads(2).head_dim(64).scheme(Causal).build().expect("a graph"))
        .expect("compiles");
    let tails = &kernel.decode().expect("a kernel").tails;
    let queries = *tails.queries.keys().last().expect("shared calls");
    let lengths = Lengths { batch: 2, queries, keys: queries };
    let tensors = inputs(&mut Rng::new(1), kernel.interface(), lengths);
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    let traced = tensors.iter().fold(kernel.call(), |call, (name, tensor)| call.input(name, tensor.view()));
    let traced = made.iter_mut().fold(traced, |call, (name, tensor)| call.output(name, tensor.view_mut()));
    let map = traced.trace().expect("runs").expect("an attention");
    assert_eq!((map.queries(), map.units().len()), (queries, 4));
    for unit in map.units() {
        let mut next = 0;
        for row in &unit.rows {
            assert_eq!(row.queries.start, next);
            next = row.queries.end;
            assert_eq!(row.tiles.iter().map(|tile| tile.keys.len()).sum::<usize>(), queries);
        }
        assert_eq!(next, queries);
        let first = queries - queries % tails.vector;
        assert!(unit.rows.iter().any(|row| row.queries.start == first), "{:?}", unit.rows);
    }
    assert!(map.count(KeyTileClass::Masked) > 0);
}
