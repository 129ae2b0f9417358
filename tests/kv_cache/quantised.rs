//! Caches of 8 bits: what attention makes of them, and what they refuse.

use rhumb::compiler::Kernels;
use rhumb::prelude::*;
use rhumb::runtime::{Append, f8e4m3};

use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, hold, outputs, run, targets};

const KV_HEADS: usize = 2;

/// A kind of cache: its element type, and whether it has zero points.
const KINDS: [(Elem, bool); 3] = [(Elem::I8, false), (Elem::I8, true), (Elem::F8e4m3, false)];

fn cache((elem, zero_points): (Elem, bool), dim: usize, value_dim: usize) -> KvCache {
    let builder = KvCache::builder(KV_HEADS, dim).value_dim(value_dim).page_size(32).pages(24).elem(elem);
    let builder = if zero_points { builder.zero_points() } else { builder };
    builder.build().expect("a cache")
}

fn attention((elem, zero_points): (Elem, bool), dim: usize, value_dim: usize) -> Attention {
    let of = Attention::heads(4).head_dim(dim as i32).value_dim(value_dim as i32).kv_heads(KV_HEADS as i32).lse();
    let of = of.cache_elem(elem);
    if zero_points { of.zero_points() } else { of }
}

/// A view in pages as a tensor in one piece.
fn gathered(view: &PagedView<'_>) -> Tensor {
    let shape = view.shape().to_vec();
    let mut numbers = Vec::new();
    let mut index = vec![0; shape.len()];
    for place in 0..shape.iter().product() {
        let mut rest: usize = place;
        for (at, size) in index.iter_mut().zip(&shape).rev() {
            (*at, rest) = (rest % size, rest / size);
        }
        numbers.push(view.get(&index).expect("an element") as f32);
    }
    Tensor::f32(shape, numbers).rounded(view.elem())
}

/// Kernels over the pages of a cache agree with the interpreter on what is stored, and have the bits of the same in one piece.
#[test]
fn attention_over_caches_of_8_bits() {
    let rng = &mut Rng::new(11);
    let both = [Kernels::Prefill, Kernels::Decode];
    let targets = targets();
    for (n, (target, kernels)) in targets.iter().flat_map(|target| both.map(|kernels| (target, kernels))).enumerate() {
        for (m, (kind, (dim, value_dim))) in KINDS.into_iter().zip([(16, 24), (15, 17), (130, 64)]).enumerate() {
            let of = attention(kind, dim, value_dim);
            let of = match (n + m) % 3 {
                0 => of.scheme(Causal),
                1 => of.scheme(Alibi::new()).scheme(Causal),
                _ => of.softcap(20.0).scheme(SlidingWindow::new(40)),
            };
            let engine =
                Engine::builder().target(target.clone()).threads(2).kernels(kernels).build().expect("an engine");
            let graph = of.build().expect("a graph");
            let (kernel, reference) =
                (engine.compile(&graph).expect("compiles"), engine.reference(&graph).expect("one"));
            let mut cache = cache(kind, dim, value_dim);
            let sequence = cache.new_sequence().expect("memory");
            for count in [1, 15, 17, 130] {
                let keys = Tensor::normal(rng, [KV_HEADS, count, dim]);
                let values = Tensor::normal(rng, [KV_HEADS, count, value_dim]);
                cache.append(sequence, keys.view(), values.view()).expect("pages");
                let queries = rng.pick(&[1, 3]).min(count);
                let lengths = Lengths { batch: 1, queries, keys: cache.len(sequence).expect("live") };
                let query = Tensor::normal(rng, [1, 4, queries, dim]);
                let mut inputs = Tensors::from([("q".to_owned(), query)]);
                let made = || outputs(kernel.interface(), lengths, |_| Layout::Rows);
                let mut paged = made();
                {
                    let mut call = kernel.call().input("q", inputs["q"].view());
                    for (name, view) in cache.inputs(sequence).expect("live") {
                        call = call.input(name, view);
                    }
                    for (name, tensor) in &mut paged {
                        call = call.output(name, tensor.view_mut());
                    }
                    call.run().expect("runs");
                }
                for (name, view) in cache.inputs(sequence).expect("live") {
                    inputs.insert(name.to_owned(), gathered(&view));
                }
                let (mut whole, mut expected) = (made(), made());
                run(kernel.call(), &inputs, &mut whole).expect("runs");
                run(reference.call(), &inputs, &mut expected).expect("interprets");
                let context = format_args!("{kind:?}, {dim} x {value_dim}, {lengths:?}, {target}, {kernels:?}");
                for (name, tensor) in &whole {
                    assert_eq!(tensor.bits(), paged[name].bits(), "`{name}`, {context}");
                }
                hold(&kernel, &inputs, &whole, &expected, context);
            }
        }
    }
}

/// Keys that a kernel rotates are quantised behind it, whatever pieces they come in.
#[test]
fn keys_that_are_rotated_are_quantised() {
    let rng = &mut Rng::new(12);
    let (dim, tokens) = (16, 75);
    let rope =
        || Attention::heads(4).head_dim(dim as i32).kv_heads(KV_HEADS as i32).scheme(Rope::new()).q_offset_input();
    let engine = Engine::host().expect("an engine");
    let compiled = |attention: Attention| engine.compile(&attention.key_graph().expect("a graph")).expect("compiles");
    let keys = Tensor::normal(rng, [KV_HEADS, tokens, dim]);
    for kind in KINDS {
        let kernel = compiled(rope().cache_elem(kind.0));
        let mut whole = cache(kind, dim, dim);
        let sequence = whole.new_sequence().expect("memory");
        whole.append_transformed(sequence, &*kernel, &[], keys.view(), keys.view()).expect("pages");
        let mut pieces = cache(kind, dim, dim);
        let in_pieces = pieces.new_sequence().expect("memory");
        let mut start = 0;
        for count in [1, 17, 0, 40, 17] {
            let new = keys.view().narrow(1, start, count).expect("tokens");
            pieces.append_transformed(in_pieces, &*kernel, &[], new, new).expect("pages");
            start += count;
        }
        // What is made in single precision, then quantised.
        let mut plain = cache((Elem::F32, false), dim, dim);
        let rotated = plain.new_sequence().expect("memory");
        plain.append_transformed(rotated, &*compiled(rope()), &[], keys.view(), keys.view()).expect("pages");
        let rows = gathered(&plain.keys(rotated).expect("live"));
        let mut after = cache(kind, dim, dim);
        let quantised = after.new_sequence().expect("memory");
        let rows = Tensor::f32([KV_HEADS, tokens, dim], rows.values());
        after.append(quantised, rows.view(), keys.view()).expect("pages");
        let all = |cache: &KvCache, id: SequenceId| -> Vec<Vec<f64>> {
            cache.inputs(id).expect("live").map(|(_, view)| gathered(&view).numbers()).collect()
        };
        assert_eq!(all(&whole, sequence), all(&pieces, in_pieces), "{kind:?}");
        assert_eq!(all(&whole, sequence), all(&after, quantised), "{kind:?}");
    }
}

/// Numbers that a cache has no place for, and kernels that make such, leave it as it was.
#[test]
fn what_is_not_finite_is_refused() {
    let mut errors = Vec::new();
    for kind in KINDS {
        let mut cache = cache(kind, 4, 4);
        let [one, other] = [(); 2].map(|()| cache.new_sequence().expect("memory"));
        let rows = |x: f32, at: usize| {
            let mut rows = vec![1.0f32; KV_HEADS * 3 * 4];
            rows[at] = x;
            Tensor::f32([KV_HEADS, 3, 4], rows)
        };
        let good = rows(2.0, 5);
        cache.append(one, good.view(), good.view()).expect("pages");
        let before = (cache.pages_used(), cache.len(one), gathered(&cache.keys(one).expect("live")).numbers());
        for (x, at) in [(f32::NAN, 0), (f32::INFINITY, 23), (-f32::INFINITY, 17), (500.0, 7)] {
            let odd = rows(x, at);
            let append = |sequence, keys: &'_ Tensor| (sequence, keys.clone());
            let [first, second] = [append(other, &good), append(one, &odd)];
            let batch = [&first, &second].map(|(sequence, keys)| Append {
                sequence: *sequence,
                keys: keys.view(),
                values: good.view(),
            });
            // Single precision of integers goes on beyond 448.
            if x == 500.0 && kind.0 == Elem::I8 {
                continue;
            }
            errors.push(cache.append_batch(&batch).expect_err("refused").to_string());
            errors.push(cache.append(one, good.view(), odd.view()).expect_err("refused").to_string());
        }
        // What the kernel makes overflows.
        let builder = GraphBuilder::new("keys");
        let (b, g, k, d) = (builder.axis("b"), builder.axis("g"), builder.axis("k"), builder.axis("d"));
        let key = builder.input("k", Elem::F32, [b, g, k, d]);
        builder.output("k_out", key * 1e38, [b, g, k, d]);
        let kernel = Engine::host().expect("one").compile(&builder.finish().expect("a graph")).expect("compiles");
        let large = rows(20.0, 21);
        let refused = cache.append_transformed(one, &*kernel, &[], large.view(), good.view());
        errors.push(refused.expect_err("refused").to_string());
        assert_eq!(before, (cache.pages_used(), cache.len(one), gathered(&cache.keys(one).expect("live")).numbers()));
        assert_eq!(cache.len(other), Ok(0));
        let codes = [f8e4m3::default(); KV_HEADS * 4];
        let codes = TensorView::from_slice(&codes, &[KV_HEADS, 1, 4]).expect("a view");
        errors.push(cache.append(one, codes, codes).expect_err("refused").to_string());
        errors.extend(cache.key_scales(one).err().map(|error| error.to_string()));
        errors.extend(cache.value_zeros(one).err().map(|error| error.to_string()));
    }
    let builder = KvCache::builder(2, 4).pages(1).elem(Elem::Bf16).zero_points();
    errors.push(builder.build().expect_err("refused").to_string());
    errors.dedup();
    insta::assert_snapshot!(errors.join("\n"));
}

/// Steep heads leave out pages of integers without a bit changed.
#[test]
fn pages_without_weight_are_left_out() {
    let rng = &mut Rng::new(13);
    let (dim, tokens, size) = (64, 3000, 64);
    for zero_points in [false, true] {
        let kind = (Elem::I8, zero_points);
        let graph = attention(kind, dim, dim).scheme(Alibi::new()).scheme(Causal).build().expect("a graph");
        let kernel = Engine::builder().threads(1).build().expect("one").compile(&graph).expect("compiles");
        let builder = KvCache::builder(KV_HEADS, dim).page_size(size).pages(64).elem(Elem::I8);
        let builder = if zero_points { builder.zero_points() } else { builder };
        let mut cache = builder.build().expect("a cache");
        let sequence = cache.new_sequence().expect("memory");
        let rows = Tensor::normal(rng, [KV_HEADS, tokens, dim]);
        cache.append(sequence, rows.view(), rows.view()).expect("pages");
        let query = Tensor::normal(rng, [1, 4, 1, dim]);
        let lengths = Lengths { batch: 1, queries: 1, keys: tokens };
        let call = |paged: bool| {
            let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
            let whole: Vec<(&str, Tensor)> =
                cache.inputs(sequence).expect("live").map(|(name, view)| (name, gathered(&view))).collect();
            let mut call = kernel.call().input("q", query.view());
            for ((name, view), (_, whole)) in cache.inputs(sequence).expect("live").zip(&whole) {
                call = if paged { call.input(name, view) } else { call.input(name, whole.view()) };
            }
            for (name, tensor) in &mut made {
                call = call.output(name, tensor.view_mut());
            }
            call.run().expect("runs");
            made["out"].bits()
        };
        assert_eq!(call(true), call(false), "zero points: {zero_points}");
    }
}
