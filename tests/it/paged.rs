//! Keys and values that lie in pages: the bits of those in one piece, whatever the pages, and what is refused.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensors, hold, inputs, outputs, run, targets};
use rhumb::compiler::Kernels;
use rhumb::plugins::Scheme;
use rhumb::prelude::*;

fn attentions() -> Vec<(&'static str, Attention)> {
    let of = || Attention::heads(4).head_dim(16).kv_heads(2).value_dim(24).lse();
    vec![
        ("plain", of()),
        ("causal", of().scheme(Causal)),
        ("a window", of().scheme(SlidingWindow::new(100)).scheme(Rope::new().query_only())),
        ("rotated keys", of().scheme(Rope::new()).scheme(Causal)),
        ("ALiBi", of().scheme(Alibi::new()).scheme(Causal)),
        ("softcap, sinks, lengths", of().softcap(2.0).sinks().key_lengths()),
        ("norms", of().scheme(QkNorm::rms())),
        ("documents", of().documents(Batch::Each)),
        ("odd rows", Attention::heads(3).head_dim(15).value_dim(17).scheme(Causal)),
        ("retention", Attention::heads(4).head_dim(16).scheme(Retention::new()).weights_with(|_, score| score)),
        ("a term of keys", of().score_with(|cx, score| score + cx.input("of_keys", Elem::F32, [cx.b, cx.k]))),
        ("keys with scales", of().key_with(|cx, key| key * cx.input("scales", Elem::F32, [cx.b, cx.k]))),
    ]
}

const LENGTHS: [(usize, usize); 7] = [(1, 1), (1, 1100), (3, 64), (4, 500), (130, 130), (150, 400), (1, 0)];

/// Keys or values in pages.
struct Pages {
    pool: Vec<f32>,
    shape: [usize; 4],
    table: Vec<u32>,
    tokens: usize,
    /// Whether tokens come before heads in a page.
    tokens_first: bool,
}

impl Pages {
    /// The tensor `[1, g, k, d]` in pages, of which some belong to nobody and hold NaN.
    fn of(rng: &mut Rng, tensor: &TensorView<'_>, size: usize) -> Pages {
        let [_, heads, tokens, dim] = *tensor.shape() else { panic!("a tensor of four dimensions") };
        let used = tokens.div_ceil(size);
        let table: Vec<u32> = rng.shuffled((0..used as u32 + 3).collect()).into_iter().take(used).collect();
        let tokens_first = rng.one_in(2);
        let shape = if tokens_first { [used + 3, size, heads, dim] } else { [used + 3, heads, size, dim] };
        let mut pool = vec![f32::NAN; shape.iter().product()];
        for head in 0..heads {
            for token in 0..tokens {
                let (page, inside) = (table[token / size] as usize, token % size);
                let row = if tokens_first { inside * heads + head } else { head * size + inside };
                for element in 0..dim {
                    let x = tensor.get(&[0, head, token, element]).expect("an element");
                    pool[(page * heads * size + row) * dim + element] = x as f32;
                }
            }
        }
        Pages { pool, shape, table, tokens, tokens_first }
    }

    /// As `[1, g, k, d]`.
    fn view(&self) -> PagedView<'_> {
        let pool = TensorView::from_slice(&self.pool, &self.shape).expect("a pool");
        let order = if self.tokens_first { [0, 1, 3, 2, 4] } else { [0, 1, 2, 3, 4] };
        let pool = pool.insert_dim(1).and_then(|pool| pool.permute(&order)).expect("a view");
        PagedView::new(pool, &self.table, 0, 2, self.tokens).expect("a view in pages")
    }
}

/// The outputs of a call whose keys and values lie in pages.
fn in_pages(operator: &dyn Operator, inputs: &Tensors, pages: &[Pages; 2], lengths: Lengths) -> Tensors {
    let mut made = outputs(operator.interface(), lengths, |_| Layout::Rows);
    let mut call = operator.call();
    for (name, tensor) in inputs {
        call = match name.as_str() {
            "k" => call.input(name, pages[0].view()),
            "v" => call.input(name, pages[1].view()),
            _ => call.input(name, tensor.view()),
        };
    }
    for (name, tensor) in &mut made {
        call = call.output(name, tensor.view_mut());
    }
    call.run().expect("runs");
    made
}

/// Pages that hold whole key tiles are read where they lie, others are copied tile by tile. Keys that are
/// transformed are copied whole, unless decode computes them row by row.
#[test]
fn pages_change_no_bit() {
    for (which, target) in targets().iter().enumerate() {
        for kernels in [Kernels::Prefill, Kernels::Decode] {
            let builder = Engine::builder().target(target.clone()).threads(2).kernels(kernels);
            let engine = builder.build().expect("an engine");
            for (n, (name, attention)) in attentions().into_iter().enumerate() {
                if which > 0 && n % 3 != which % 3 {
                    continue;
                }
                let kernel = engine.compile(&attention.build().expect("a graph")).expect("compiles");
                for (seed, (queries, keys)) in LENGTHS.into_iter().enumerate() {
                    let lengths = Lengths { batch: 1, queries, keys };
                    let rng = &mut Rng::new((100 * n + seed) as u64);
                    let inputs = inputs(rng, kernel.interface(), lengths);
                    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                    run(kernel.call(), &inputs, &mut made).expect("runs");
                    let expected = bits(&made);
                    for size in [16, 48, 64, 128] {
                        let pages = ["k", "v"].map(|name| Pages::of(rng, &inputs[name].view(), size));
                        let made = in_pages(&*kernel, &inputs, &pages, lengths);
                        assert!(bits(&made) == expected, "{name}, {target}, {lengths:?}, pages of {size}");
                    }
                }
            }
        }
    }
}

/// The interpreter and error bounds read pages too.
#[test]
fn pages_are_interpreted() {
    let engine = Engine::builder().kernels(Kernels::Decode).build().expect("an engine");
    let graph = attentions()[1].1.build().expect("a graph");
    let (kernel, reference) =
        (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("a reference"));
    let lengths = Lengths { batch: 1, queries: 2, keys: 70 };
    let inputs = inputs(&mut Rng::new(1), kernel.interface(), lengths);
    let pages = ["k", "v"].map(|name| Pages::of(&mut Rng::new(2), &inputs[name].view(), 32));
    let (made, expected) =
        (in_pages(&*kernel, &inputs, &pages, lengths), in_pages(&reference, &inputs, &pages, lengths));
    hold(&kernel, &inputs, &made, &expected, "in pages");
}

/// Sequences of a batch may share pages.
#[test]
fn sequences_share_pages() {
    let engine = Engine::builder().threads(2).build().expect("an engine");
    let kernel =
        engine.compile(&Attention::heads(2).head_dim(16).scheme(Causal).build().expect("a graph")).expect("compiles");
    let rng = &mut Rng::new(3);
    let (keys, values) = (rng.normals(5 * 2 * 64 * 16), rng.normals(5 * 2 * 64 * 16));
    let pool = |data| TensorView::from_slice(data, &[5, 1, 2, 64, 16]).expect("a pool");
    let tables: [(&[u32], usize); 4] = [(&[0, 1, 2], 150), (&[0, 1, 4], 192), (&[3], 10), (&[0, 0], 128)];
    let q = rng.normals(2 * 16);
    let query = TensorView::from_slice(&q, &[1, 2, 1, 16]).expect("a query");
    let mut together = vec![0.0f32; 4 * 32];
    let mut batch = kernel.batch();
    for ((table, len), out) in tables.iter().zip(together.chunks_mut(32)) {
        let [k, v] = [&keys, &values].map(|data| PagedView::new(pool(data), table, 0, 2, *len).expect("a view"));
        let out = TensorViewMut::from_slice(out, &[1, 2, 1, 16]).expect("an output");
        batch.add().input("q", query).input("k", k).input("v", v).output("out", out);
    }
    batch.run().expect("runs");
    for ((table, len), together) in tables.iter().zip(together.chunks(32)) {
        let [k, v] = [&keys, &values].map(|data| PagedView::new(pool(data), table, 0, 2, *len).expect("a view"));
        let mut alone = vec![0.0f32; 32];
        let out = TensorViewMut::from_slice(&mut alone, &[1, 2, 1, 16]).expect("an output");
        kernel.call().input("q", query).input("k", k).input("v", v).output("out", out).run().expect("runs");
        assert_eq!(alone, together, "{table:?}, {len}");
    }
}

#[test]
fn pages_that_do_not_fit_are_refused() {
    let engine = Engine::builder().build().expect("an engine");
    let kernel = engine.compile(&Attention::heads(2).head_dim(16).build().expect("a graph")).expect("compiles");
    let data = vec![0.5f32; 4 * 2 * 16 * 16];
    let pool = TensorView::from_slice(&data, &[4, 1, 2, 16, 16]).expect("a pool");
    let query = TensorView::from_slice(&data[..32], &[1, 2, 1, 16]).expect("a query");
    let refused = |k: PagedView<'_>, v: PagedView<'_>| {
        let mut out = [7.0f32; 32];
        let view = TensorViewMut::from_slice(&mut out, &[1, 2, 1, 16]).expect("an output");
        let call = kernel.call().input("q", query).input("k", k).input("v", v).output("out", view);
        let error = call.run().expect_err("refused").to_string();
        assert_eq!(out, [7.0; 32], "nothing is written");
        error
    };
    let view = |len| PagedView::new(pool, &[2, 0, 1], 0, 2, len).expect("a view");
    assert_eq!(
        refused(view(40), view(39)),
        "axis `k` is 40 long in input `k` (dimension 2) but 39 in input `v` (dimension 2); bind tensors of one length, or narrow the longer"
    );
    let wrong = PagedView::new(pool.permute(&[0, 1, 3, 2, 4]).expect("a view"), &[0], 0, 1, 16);
    assert!(refused(wrong.expect("a view"), view(16)).contains("axis `h`"));
}

/// Pages that can have no weight are left out by their norms: no bit changes, whichever threads come first, and garbage there is seen.
#[test]
fn pages_without_weight_are_left_out() {
    for target in [&targets()[0], targets().last().expect("a target")] {
        for (threads, (heads, kv_heads)) in [(1, (8, 8)), (3, (8, 8)), (1, (8, 2)), (2, (6, 1))] {
            let builder = Engine::builder().target(target.clone()).threads(threads).kernels(Kernels::Decode);
            let engine = builder.build().expect("an engine");
            let attention = Attention::heads(heads).head_dim(16).kv_heads(kv_heads).lse();
            let attention = attention.scheme(Alibi::new()).scheme(Causal).sinks();
            let kernel = engine.compile(&attention.build().expect("a graph")).expect("compiles");
            let (kv, tokens) = (kv_heads as usize, 9000);
            let lengths = Lengths { batch: 1, queries: 2, keys: tokens };
            let all = inputs(&mut Rng::new(5), kernel.interface(), lengths);
            let mut whole = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            run(kernel.call(), &all, &mut whole).expect("runs");
            let mut cache = KvCache::builder(kv, 16).page_size(64).pages(200).build().expect("a cache");
            let sequence = cache.new_sequence().expect("a sequence");
            let rows = |name: &str| all[name].view().select(0, 0).expect("a sequence");
            // In pieces, as a prompt comes.
            for first in (0..tokens).step_by(700) {
                let len = 700.min(tokens - first);
                let [k, v] = ["k", "v"].map(|name| rows(name).narrow(1, first, len).expect("tokens"));
                cache.append(sequence, k, v).expect("room");
            }
            let cached = |cache: &KvCache, sequence: SequenceId| {
                let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                let mut call = kernel.call();
                for (name, tensor) in &all {
                    call = match name.as_str() {
                        "k" => call.input(name, cache.keys(sequence).expect("keys")),
                        "v" => call.input(name, cache.values(sequence).expect("values")),
                        _ => call.input(name, tensor.view()),
                    };
                }
                for (name, tensor) in &mut made {
                    call = call.output(name, tensor.view_mut());
                }
                let map = call.trace().expect("runs").expect("tiles");
                let tiles = map.units().iter().flat_map(|unit| &unit.rows).flat_map(|row| &row.tiles);
                let pruned = tiles.filter(|tile| tile.class == rhumb::runtime::KeyTileClass::Pruned).count();
                (bits(&made), pruned)
            };
            let (made, pruned) = cached(&cache, sequence);
            assert!(made == bits(&whole), "{target}, {threads} threads, {heads} heads on {kv_heads}");
            // With several threads what comes first is a matter of chance.
            assert!(pruned > 0 || threads > 1 || kv_heads == 1, "{heads} heads on {kv_heads}");
            // A value that is not finite makes NaN of no weight: its page is computed.
            let mut marked = all.clone();
            let value = marked.get_mut("v").expect("an input");
            assert!(value.view_mut().set(&[0, 0, 3, 5], f64::INFINITY), "an element");
            let mut other = KvCache::builder(kv, 16).page_size(64).pages(200).build().expect("a cache");
            let again = other.new_sequence().expect("a sequence");
            let rows = |name: &str| marked[name].view().select(0, 0).expect("a sequence");
            other.append(again, rows("k"), rows("v")).expect("room");
            let mut whole = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            run(kernel.call(), &marked, &mut whole).expect("runs");
            assert!(cached(&other, again).0 == bits(&whole));
        }
    }
}

/// Caches of 16 bits: the bits of tensors of 16 bits in one piece.
#[test]
fn pages_of_16_bits_change_no_bit() {
    for kernels in [Kernels::Prefill, Kernels::Decode] {
        let engine = Engine::builder().threads(2).kernels(kernels).build().expect("an engine");
        for elem in [Elem::F16, Elem::Bf16] {
            for (scheme, page) in [(Scheme::new(Causal), 64), (Scheme::new(Rope::new()), 16), (Scheme::new(Causal), 16)]
            {
                let attention = Attention::heads(4).head_dim(16).kv_heads(2).key_elem(elem).value_elem(elem);
                let kernel = engine.compile(&attention.scheme(scheme).build().expect("a graph")).expect("compiles");
                for (queries, keys) in [(1, 1500), (3, 70), (140, 300)] {
                    let lengths = Lengths { batch: 1, queries, keys };
                    let all = inputs(&mut Rng::new(5), kernel.interface(), lengths);
                    let mut whole = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                    run(kernel.call(), &all, &mut whole).expect("runs");
                    let cache = KvCache::builder(2, 16).page_size(page).pages(100).elem(elem).build();
                    let mut cache = cache.expect("a cache");
                    let sequence = cache.new_sequence().expect("a sequence");
                    let rows = |name: &str| all[name].view().select(0, 0).expect("a sequence");
                    cache.append(sequence, rows("k"), rows("v")).expect("room");
                    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                    let (keys, values) = (cache.keys(sequence).expect("keys"), cache.values(sequence).expect("values"));
                    let call = kernel.call().input("q", all["q"].view()).input("k", keys).input("v", values);
                    call.output("out", made.get_mut("out").expect("an output").view_mut()).run().expect("runs");
                    assert!(bits(&made) == bits(&whole), "{elem}, {lengths:?}, pages of {page}");
                }
            }
        }
    }
}
