//! The map of a call's key tiles, against every pair of a query and a key, at every target.

use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, engine, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;
use rhumb::runtime::{KeyTileClass, TileMap, TileUnit};

const LENGTHS: Lengths = Lengths { batch: 2, queries: 200, keys: 230 };

/// The document of a token: of 70 tokens in one sequence, of 50 in the other.
fn document(batch: usize, token: usize) -> i32 {
    (token / [70, 50][batch]) as i32
}

/// Tensors of a call, whose documents are packed; queries are the last tokens.
fn tensors(kernel: &Kernel, lengths: Lengths) -> Tensors {
    let mut tensors = inputs(&mut Rng::new(3), kernel.interface(), lengths);
    for (name, tokens) in [("q_documents", lengths.queries), ("k_documents", lengths.keys)] {
        if let Some(tensor) = tensors.get_mut(name) {
            let of = |at: usize| document(at / tokens, lengths.keys - tokens + at % tokens);
            let ids: Vec<i32> = (0..lengths.batch * tokens).map(of).collect();
            *tensor = Tensor::i32(vec![lengths.batch, tokens], ids);
        }
    }
    tensors
}

/// The map of a call, whose results are those of one that is not traced.
fn traced(kernel: &Kernel, lengths: Lengths, name: &str) -> TileMap {
    let inputs = tensors(kernel, lengths);
    let unwritten = || outputs(kernel.interface(), lengths, |_| Layout::Rows);
    let (mut plain, mut traced) = (unwritten(), unwritten());
    run(kernel.call(), &inputs, &mut plain).expect("runs");
    let mut call = kernel.call();
    for (name, tensor) in &inputs {
        call = call.input(name, tensor.view());
    }
    for (name, tensor) in &mut traced {
        call = call.output(name, tensor.view_mut());
    }
    let map = call.trace().expect("runs").expect("an attention");
    for (output, tensor) in &plain {
        let bits = |tensor: &Tensor| tensor.numbers().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(tensor), bits(&traced[output]), "{name}: tracing changes `{output}`");
    }
    map
}

/// Every unit has all queries and all keys, in order.
fn covers(map: &TileMap, name: &str) {
    assert_eq!(map.axes(), ["b", "h"], "{name}");
    let indices: usize = map.units().iter().map(|unit| unit.index[0].len() * unit.index[1].len()).sum();
    assert_eq!(indices, 2 * LENGTHS.batch, "{name}: two heads of each sequence");
    for TileUnit { rows, .. } in map.units() {
        let mut queries = 0;
        for row in rows {
            assert!(row.queries.start <= queries && row.queries.end > queries, "{name}: {row:?}");
            queries = row.queries.end;
            let mut keys = 0;
            for tile in &row.tiles {
                assert!(tile.keys.start == keys && tile.keys.end > keys, "{name}: {row:?}");
                assert!(tile.keys.len() <= map.key_tile(), "{name}: {tile:?}");
                keys = tile.keys.end;
            }
            assert_eq!(keys, map.keys(), "{name}");
        }
        assert_eq!(queries, map.queries(), "{name}");
    }
    let share: f64 = KeyTileClass::ALL.iter().map(|class| map.share(*class)).sum();
    assert!((share - 1.0).abs() < 1e-12, "{name}: {share}");
}

/// Whether the query at an index sees a key, in a sequence of the batch.
type Sees = fn(usize, usize, usize) -> bool;

fn masks() -> Vec<(&'static str, Attention, Sees)> {
    let of = || Attention::heads(2).head_dim(8);
    vec![
        ("causal", of().scheme(Causal), |_, q, k| k <= q),
        ("causal, heads that share keys", of().kv_heads(1).scheme(Causal), |_, q, k| k <= q),
        ("a window", of().scheme(SlidingWindow::new(40)), |_, q, k| k <= q && q - k < 40),
        ("documents", of().documents(Batch::Each), |b, q, k| document(b, q) == document(b, k)),
        ("documents, causal", of().documents(Batch::Each).scheme(Causal), |b, q, k| {
            k <= q && document(b, q) == document(b, k)
        }),
        ("all", of(), |_, _, _| true),
    ]
}

#[test]
fn skipped_tiles_hide_nothing_that_is_seen_and_full_ones_nothing_at_all() {
    for target in targets() {
        for (name, attention, sees) in masks() {
            let name = &format!("{name}, {target}");
            let kernel = engine(&target, 2).compile(&attention.build().expect("a graph")).expect("compiles");
            let map = traced(&kernel, LENGTHS, name);
            covers(&map, name);
            let past = LENGTHS.keys - LENGTHS.queries;
            let mut pairs = 0.0;
            for unit in map.units() {
                for batch in unit.index[0].clone() {
                    for row in &unit.rows {
                        for tile in &row.tiles {
                            let all = || row.queries.clone().flat_map(|q| tile.keys.clone().map(move |k| (q, k)));
                            let seen = all().filter(|(q, k)| sees(batch, q + past, *k)).count();
                            match tile.class {
                                KeyTileClass::Skipped => assert_eq!(seen, 0, "{name}: {row:?}, {tile:?}"),
                                KeyTileClass::Full => assert_eq!(seen, all().count(), "{name}: {row:?}, {tile:?}"),
                                KeyTileClass::Masked => assert!(seen > 0, "{name}: {row:?}, {tile:?}"),
                                KeyTileClass::Pruned => panic!("{name}: nothing falls off here"),
                            }
                            pairs += seen as f64;
                        }
                    }
                }
            }
            let hidden = name.starts_with("all");
            assert_eq!(map.count(KeyTileClass::Skipped) == 0, hidden, "{name}");
            assert_eq!(map.count(KeyTileClass::Masked) == 0, hidden, "{name}");
            assert!(pairs > 0.0);
        }
    }
}

#[test]
fn keys_without_weight_are_pruned_and_not_skipped() {
    // A slope of 1/4 a token leaves keys some hundreds of tokens away without weight, one of 1/64 or less none of these.
    let attention = Attention::heads(4).head_dim(8).scheme(Alibi::new()).scheme(Causal);
    let lengths = Lengths { batch: 1, queries: 700, keys: 700 };
    let kernel = Engine::host().expect("an engine").compile(&attention.build().expect("a graph")).expect("compiles");
    let map = traced(&kernel, lengths, "ALiBi");
    let pruned = |unit: &TileUnit| {
        let tiles = unit.rows.iter().flat_map(|row| &row.tiles);
        tiles.filter(|tile| tile.class == KeyTileClass::Pruned).count()
    };
    let counts: Vec<usize> = map.units().iter().map(pruned).collect();
    assert!(counts[0] > 0 && counts[0] > counts[1] && counts[3] == 0, "{counts:?}");
    for row in map.units().iter().flat_map(|unit| &unit.rows) {
        for tile in row.tiles.iter().filter(|tile| tile.class == KeyTileClass::Pruned) {
            assert!(tile.keys.start < row.queries.end, "hidden by the mask already: {row:?}");
        }
    }
}

#[test]
fn decode_kernels_tell_their_tiles_too() {
    let graph = Attention::heads(2).head_dim(8).scheme(SlidingWindow::new(100)).build().expect("a graph");
    let engine = Engine::builder().kernels(Kernels::Decode).build().expect("an engine");
    let kernel = engine.compile(&graph).expect("compiles");
    let lengths = Lengths { batch: 1, queries: 1, keys: 1000 };
    let map = traced(&kernel, lengths, "decode");
    let computed: usize = map.units()[0]
        .rows
        .iter()
        .flat_map(|row| &row.tiles)
        .map(|tile| match tile.class {
            KeyTileClass::Full | KeyTileClass::Masked => tile.keys.len(),
            KeyTileClass::Skipped | KeyTileClass::Pruned => 0,
        })
        .sum();
    assert!((100..300).contains(&computed), "{computed} keys");
}

#[test]
fn calls_without_pairs_and_without_tiles_have_maps_of_their_own() {
    let graph = Attention::heads(2).head_dim(8).scheme(Causal).build().expect("a graph");
    let engine = Engine::host().expect("an engine");
    let kernel = engine.compile(&graph).expect("compiles");
    for (queries, keys) in [(0, 5), (5, 0)] {
        let map = traced(&kernel, Lengths { batch: 1, queries, keys }, "empty");
        assert_eq!((map.queries(), map.keys()), (queries, keys));
        assert!(KeyTileClass::ALL.iter().all(|class| map.count(*class) == 0 && map.share(*class) == 0.0));
    }
    let reference = engine.reference(&graph).expect("a reference");
    let inputs = inputs(&mut Rng::new(1), reference.interface(), Lengths { batch: 1, queries: 2, keys: 3 });
    let mut out = [0.0; 32];
    let mut call = reference.call();
    for (name, tensor) in &inputs {
        call = call.input(name, tensor.view());
    }
    let out = TensorViewMut::from_slice(&mut out, &[1, 2, 2, 8]).expect("a view");
    assert_eq!(call.output("out", out).trace().expect("runs"), None);
}
