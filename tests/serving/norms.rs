//! Pages that norms leave out: where a bound by them is not what it seems, no bit changes all the same.

use rhumb::compiler::Kernels;
use rhumb::ir::GraphBuilder;
use rhumb::prelude::*;
use rhumb::runtime::KeyTileClass;

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, inputs, outputs, run};

/// A kernel for few queries.
fn decoding(graph: &Verified) -> std::sync::Arc<Kernel> {
    let engine = Engine::builder().threads(1).kernels(Kernels::Decode).build().expect("an engine");
    engine.compile(graph).expect("compiles")
}

/// What a call makes of tensors in one piece, and with the keys and the values of a cache; and how many key tiles that leaves out.
fn both(kernel: &Kernel, tensors: &Tensors, lengths: Lengths, [k, v]: [PagedView<'_>; 2]) -> (bool, usize) {
    let [mut whole, mut made] = [0, 1].map(|_| outputs(kernel.interface(), lengths, |_| Layout::Rows));
    run(kernel.call(), tensors, &mut whole).expect("runs");
    let mut call = kernel.call();
    for (name, tensor) in tensors {
        call = match name.as_str() {
            "k" => call.input(name, k),
            "v" => call.input(name, v),
            _ => call.input(name, tensor.view()),
        };
    }
    for (name, tensor) in &mut made {
        call = call.output(name, tensor.view_mut());
    }
    let map = call.trace().expect("runs").expect("tiles");
    let tiles = map.units().iter().flat_map(|unit| &unit.rows).flat_map(|row| &row.tiles);
    (bits(&made) == bits(&whole), tiles.filter(|tile| tile.class == KeyTileClass::Pruned).count())
}

fn row<'t>(tensors: &'t Tensors, name: &str) -> TensorView<'t> {
    tensors[name].view().select(0, 0).expect("a sequence")
}

/// Norms are of what a page holds now, whatever it held for a sequence before.
#[test]
fn pages_that_are_used_again_have_the_norms_of_new_rows() {
    [Elem::F32, Elem::Bf16].into_iter().for_each(pages_that_are_used_again);
}

fn pages_that_are_used_again(elem: Elem) {
    let attention = Attention::heads(4).head_dim(16).elem(elem).scheme(Alibi::new()).scheme(Causal);
    let kernel = decoding(&attention.build().expect("a graph"));
    let lengths = Lengths { batch: 1, queries: 1, keys: 5000 };
    let tensors = inputs(&mut Rng::new(3), kernel.interface(), lengths);
    let mut cache = KvCache::builder(4, 16).page_size(64).pages(80).elem(elem).build().expect("a cache");
    let pruned = |cache: &mut KvCache| {
        let sequence = cache.new_sequence().expect("memory");
        cache.append(sequence, row(&tensors, "k"), row(&tensors, "v")).expect("room");
        let views = [cache.keys(sequence).expect("keys"), cache.values(sequence).expect("values")];
        let (same, pruned) = both(&kernel, &tensors, lengths, views);
        assert!(same);
        cache.free(sequence).expect("live");
        pruned
    };
    let fresh = pruned(&mut cache);
    assert!(fresh > 0, "steep heads leave pages out");
    let sequence = cache.new_sequence().expect("memory");
    let garbage = Tensor::f32([4, 5000, 16], vec![f32::NAN; 4 * 5000 * 16]).rounded(elem);
    cache.append(sequence, garbage.view(), garbage.view()).expect("room");
    cache.free(sequence).expect("live");
    assert_eq!(pruned(&mut cache), fresh, "the pages held NaN before");
}

/// Norms by token, or by element, bound no row of a whole page: nothing is known then.
#[test]
fn norms_along_tokens_and_elements_leave_nothing_out() {
    let attention = Attention::heads(1).head_dim(16).scheme(Alibi::new().slopes([0.5])).scheme(Causal);
    let kernel = decoding(&attention.build().expect("a graph"));
    let lengths = Lengths { batch: 1, queries: 1, keys: 4096 };
    let mut tensors = inputs(&mut Rng::new(3), kernel.interface(), lengths);
    // One key, far away and in the middle of a page, outweighs the distance.
    let far = 100;
    let query = tensors["q"].numbers();
    let keys = tensors.get_mut("k").expect("keys");
    keys.replace(|at| (at / 16 == far).then(|| query[at % 16] * 1e4));
    let table: Vec<u32> = (0..64).collect();
    let [keys, values] = ["k", "v"].map(|name| Tensor::f32([64, 1, 1, 64, 16], tensors[name].values()));
    for (dim, size) in [(2, 64), (3, 16)] {
        // Those of the first token of a page, or the first element, are small.
        let norms: Vec<f32> = (0..64 * size).map(|at| if at % size == 0 { 9.0 } else { f32::INFINITY }).collect();
        let norms = if dim == 2 { [9.0].repeat(64 * 4096) } else { norms };
        let view = |pool| PagedView::new(pool, &table, 0, 2, 4096).and_then(|view| view.with_norms(&norms, dim));
        let views = [view(keys.view()).expect("keys"), view(values.view()).expect("values")];
        let (same, pruned) = both(&kernel, &tensors, lengths, views);
        assert!(same && pruned == 0, "norms along dimension {dim}: {pruned} tiles are left out");
    }
}

/// Key terms so large that single precision rounds them by more than keys without weight are below.
#[test]
fn terms_that_are_rounded_far_keep_their_keys() {
    let attention = Attention::heads(1).head_dim(16).scheme(Alibi::new().slopes([1.0])).lse();
    let attention = attention.q_positions(Elem::I32, Batch::Shared).k_positions(Elem::I32, Batch::Shared);
    let kernel = decoding(&attention.build().expect("a graph"));
    let lengths = Lengths { batch: 1, queries: 1, keys: 2048 };
    for step in 0..40 {
        let last = i32::MAX - 1000 - 37 * step;
        let mut tensors = inputs(&mut Rng::new(3), kernel.interface(), lengths);
        tensors.get_mut("q").expect("an input").replace(|_| Some(1e-3));
        // The first chunk is below the second by 43 powers of 2, and its values are greater by as many.
        let positions: Vec<i32> = (0..2048).map(|key| if key < 1024 { last - 30 } else { last }).collect();
        tensors.insert("k_pos".to_owned(), Tensor::i32([2048], positions));
        tensors.insert("q_pos".to_owned(), Tensor::i32([1], vec![last]));
        let values = tensors.get_mut("v").expect("an input");
        values.replace(|at| (at < 1024 * 16).then_some(1e15));
        let mut cache = KvCache::builder(1, 16).page_size(64).pages(32).build().expect("a cache");
        let sequence = cache.new_sequence().expect("memory");
        cache.append(sequence, row(&tensors, "k"), row(&tensors, "v")).expect("room");
        let views = [cache.keys(sequence).expect("keys"), cache.values(sequence).expect("values")];
        let (same, _) = both(&kernel, &tensors, lengths, views);
        assert!(same, "positions up to {last}");
    }
}

/// Heads that share keys, and in groups the terms of these.
#[test]
fn groups_of_packed_heads_have_terms_of_their_own() {
    let g = GraphBuilder::new("grouped");
    let (b, h, q, k, d) = (g.axis("b"), g.axis_of("h", 8), g.axis("q"), g.axis("k"), g.axis_of("d", 16));
    let group = g.groups("group", 4, h);
    let queries = g.input("q", Elem::F32, [b, h, q, d]);
    let [keys, values] = ["k", "v"].map(|name| g.input(name, Elem::F32, [b, k, d]));
    let term = g.input("term", Elem::F32, [group, k]);
    g.output("out", (queries.dot(keys, d) + term).softmax(k).dot(values, k), [b, h, q, d]);
    let kernel = decoding(&g.finish().expect("a graph"));
    let rng = &mut Rng::new(5);
    let far = |group: usize, key: usize| if group == 0 && key < 2048 { -1000.0 } else { 0.0 };
    let term: Vec<f32> = (0..4 * 4096).map(|at| far(at / 4096, at % 4096)).collect();
    let mut tensors: Tensors = [("q", vec![1, 8, 1, 16]), ("k", vec![1, 4096, 16]), ("v", vec![1, 4096, 16])]
        .map(|(name, shape)| (name.to_owned(), Tensor::normal(rng, shape)))
        .into();
    tensors.insert("term".to_owned(), Tensor::f32([4, 4096], term));
    let mut whole = Tensors::from([("out".to_owned(), Tensor::unwritten(&[1, 8, 1, 16], &Layout::Rows))]);
    let mut made = whole.clone();
    run(kernel.call(), &tensors, &mut whole).expect("runs");
    let table: Vec<u32> = (0..64).collect();
    let norms = [30.0; 64];
    let [keys, values] = ["k", "v"].map(|name| Tensor::f32([64, 1, 64, 16], tensors[name].values()));
    let paged =
        |pool| PagedView::new(pool, &table, 0, 1, 4096).and_then(|view| view.with_norms(&norms, 0)).expect("a view");
    let call = kernel.call().input("q", tensors["q"].view()).input("term", tensors["term"].view());
    let call = call.input("k", paged(keys.view())).input("v", paged(values.view()));
    call.output("out", made.get_mut("out").expect("an output").view_mut()).run().expect("runs");
    assert!(bits(&made) == bits(&whole));
}
