//! Keys that kernels transform on their way into a cache, and attention over what is cached.

use std::sync::Arc;

use rhumb::prelude::*;
use rhumb::runtime::Append;

use crate::common::{Layout, Rng, Tensor, Tensors, absolute, difference, engine, run, targets};

const KV_HEADS: usize = 2;
const DIM: usize = 8;

fn cache(pages: usize) -> KvCache {
    KvCache::builder(KV_HEADS, DIM).page_size(16).pages(pages).build().expect("a cache")
}

/// A view in pages as a tensor in one piece.
fn gathered(view: &PagedView<'_>) -> Tensor {
    let shape = view.shape().to_vec();
    let [_, heads, tokens, dim] = shape[..] else { panic!("four dimensions") };
    let places = (0..heads * tokens).flat_map(|row| (0..dim).map(move |i| [0, row / tokens, row % tokens, i]));
    let data = places.map(|index| view.get(&index).expect("an element") as f32);
    Tensor::f32(shape, data.collect::<Vec<_>>())
}

/// Some of the tokens of `[head, token, element]`.
fn part(rows: &Tensor, start: usize, len: usize) -> TensorView<'_> {
    rows.view().narrow(1, start, len).expect("a window")
}

/// An attention by rotation.
fn rope() -> Attention {
    Attention::heads(4).head_dim(DIM as i32).kv_heads(KV_HEADS as i32).scheme(Rope::new())
}

/// Positions `start..start + len` for an input.
fn positions(elem: Elem, shape: &[usize], start: usize) -> Tensor {
    let numbers = start..start + shape.iter().product::<usize>();
    match elem {
        Elem::I32 => Tensor::i32(shape, numbers.map(|x| x as i32).collect::<Vec<_>>()),
        _ => Tensor::f32(shape, numbers.map(|x| x as f32).collect::<Vec<_>>()),
    }
}

/// Keys of all tokens, `[head, token, element]`, rotated by one call of a kernel.
fn rotated(kernel: &Kernel, keys: &Tensor, more: Option<(&str, Tensor)>) -> Tensor {
    let shape = [&[1], keys.shape()].concat();
    let inputs = [("k".to_owned(), Tensor::f32(&shape[..], keys.values()))].into_iter();
    let inputs: Tensors = inputs.chain(more.map(|(name, tensor)| (name.to_owned(), tensor))).collect();
    let mut outputs = Tensors::from([("k_out".to_owned(), Tensor::unwritten(&shape, &Layout::Rows))]);
    run(kernel.call(), &inputs, &mut outputs).expect("runs");
    outputs.remove("k_out").expect("an output")
}

/// Whatever pieces the tokens come in, and wherever pages end, keys are those of one call for all tokens.
#[test]
fn keys_are_rotated_on_the_way_in() {
    let rng = &mut Rng::new(7);
    let tokens = 196;
    let keys = Tensor::normal(rng, [KV_HEADS, tokens, DIM]);
    let values = Tensor::normal(rng, [KV_HEADS, tokens, DIM]);
    let with_positions = |elem, batch| rope().k_positions(elem, batch);
    let graphs = [
        (rope().q_offset_input(), "q_offset", Tensor::i32([], [0])),
        (with_positions(Elem::I32, Batch::Shared), "k_pos", positions(Elem::I32, &[tokens], 0)),
        (with_positions(Elem::F32, Batch::Each), "k_pos", positions(Elem::F32, &[1, tokens], 0)),
    ];
    for (target, (attention, name, input)) in
        targets().iter().flat_map(|target| graphs.iter().map(move |of| (target, of)))
    {
        let kernel = engine(target, 2).compile(&attention.key_graph().expect("a graph")).expect("a kernel");
        let mut cache = cache(16);
        let sequence = cache.new_sequence().expect("memory");
        let mut start = 0;
        for count in [17, 1, 0, 15, 130, 1, 32] {
            let (keys, values) = [&keys, &values].map(|of| of.stored(&Layout::random(rng, 3, true))).into();
            let new = |of| part(of, start, count);
            cache.append_transformed(sequence, &*kernel, &[], new(&keys), new(&values)).expect("runs");
            start += count;
        }
        assert_eq!(start, tokens);
        let expected = rotated(&kernel, &keys, Some((*name, input.clone())));
        let cached = gathered(&cache.keys(sequence).expect("live"));
        assert_eq!(cached.bits(), expected.bits(), "{name}, {target}");
        assert_eq!(gathered(&cache.values(sequence).expect("live")).bits(), values.bits(), "{name}, {target}");
    }
}

/// Positions of one's own are cut as the keys are.
#[test]
fn given_inputs_are_cut_by_tokens() {
    let rng = &mut Rng::new(8);
    let tokens = 40;
    let keys = Tensor::normal(rng, [KV_HEADS, tokens, DIM]);
    let graph = rope().k_positions(Elem::I32, Batch::Each).key_graph().expect("a graph");
    let kernel = Engine::host().expect("an engine").compile(&graph).expect("a kernel");
    let given = positions(Elem::I32, &[1, tokens], 1000);
    let mut cache = cache(8);
    let sequence = cache.new_sequence().expect("memory");
    let inputs = [("k_pos", given.view())];
    cache.append_transformed(sequence, &*kernel, &inputs, keys.view(), keys.view()).expect("runs");
    let expected = rotated(&kernel, &keys, Some(("k_pos", given.clone())));
    assert_eq!(gathered(&cache.keys(sequence).expect("live")).bits(), expected.bits());

    let short = [("k_pos", part(&given, 0, 39))];
    let refused = cache.append_transformed(sequence, &*kernel, &short, keys.view(), keys.view()).expect_err("refused");
    insta::assert_snapshot!(refused, @"input `k_pos` has 39 tokens in dimension 1, but there are 40 new keys; bind one for each");
    let unknown = [("k_poss", given.view())];
    let refused = cache.append_transformed(sequence, &*kernel, &unknown, keys.view(), keys.view());
    assert!(matches!(refused, Err(KvError::Call(error)) if matches!(*error, CallError::Unknown { .. })));
    assert_eq!(cache.len(sequence), Ok(tokens));
}

/// A kernel for 16 tokens, neither more nor less.
fn double() -> Arc<Kernel> {
    let builder = GraphBuilder::new("double");
    let (b, g) = (builder.axis("b"), builder.axis_of("g", KV_HEADS as i32));
    let (k, d) = (builder.axis_of("k", 16), builder.axis_of("d", DIM as i32));
    let key = builder.input("k", Elem::F32, [b, g, k, d]);
    builder.output("k_out", key + key, [b, g, k, d]);
    Engine::host().expect("an engine").compile(&builder.finish().expect("a graph")).expect("a kernel")
}

/// A kernel for 16 tokens takes a page, and refuses the rest: by then a page has been copied and another written.
#[test]
fn a_kernel_that_fails_changes_nothing() {
    let double = double();
    let rng = &mut Rng::new(9);
    let rows = Tensor::normal(rng, [KV_HEADS, 64, DIM]);
    let rows = |count| part(&rows, 0, count);
    let mut cache = cache(8);
    let sequence = cache.new_sequence().expect("memory");
    cache.append_transformed(sequence, &*double, &[], rows(32), rows(32)).expect("two whole pages");
    assert_eq!(cache.keys(sequence).expect("live").get(&[0, 1, 20, 3]), rows(32).get(&[1, 20, 3]).map(|x| x + x));
    cache.append(sequence, rows(8), rows(8)).expect("half a page");
    let prefix = cache.share_prefix(sequence, 37).expect("memory");
    let seen = |cache: &KvCache| {
        [sequence, prefix].map(|sequence| {
            let (keys, values) = (cache.keys(sequence).expect("live"), cache.values(sequence).expect("live"));
            let table = cache.page_table(sequence).expect("live").to_vec();
            (table, gathered(&keys).bits(), gathered(&values).bits(), cache.pages_used(), cache.pages_free())
        })
    };
    let before = seen(&cache);
    // Behind 8 and 5 tokens in a page that both share, by calls for 8 and for 11.
    for (sequence, count) in [(sequence, 8), (prefix, 11), (sequence, 25), (prefix, 30)] {
        let refused = cache.append_transformed(sequence, &*double, &[], rows(count), rows(count));
        assert!(matches!(refused, Err(KvError::Call(error)) if matches!(*error, CallError::Extent { .. })));
        assert_eq!(seen(&cache), before);
    }
    let empty = cache.new_sequence().expect("memory");
    let refused = cache.append_transformed(empty, &*double, &[], rows(33), rows(33));
    assert!(matches!(refused, Err(KvError::Call(_))), "after two pages");
    assert_eq!((seen(&cache), cache.len(empty)), (before.clone(), Ok(0)));
    // Pages that were given back are as good as any.
    cache.append_transformed(empty, &*double, &[], rows(48), rows(48)).expect("three pages");
    let refused = cache.append_transformed(empty, &*double, &[], rows(48), rows(48));
    assert_eq!(refused, Err(KvError::OutOfPages { needed: 3, free: 2, pages: 8 }));
    assert_eq!(cache.keys(empty).expect("live").get(&[0, 0, 47, 7]), rows(48).get(&[0, 47, 7]).map(|x| x + x));
}

/// A batch with a call that is refused, behind others that were not: some of its sequences share the page that they write to.
#[test]
fn a_batch_that_fails_changes_nothing() {
    let double = double();
    let rng = &mut Rng::new(11);
    let rows = Tensor::normal(rng, [KV_HEADS, 64, DIM]);
    let mut cache = KvCache::builder(KV_HEADS, DIM).page_size(32).pages(9).build().expect("a cache");
    let all = cache.new_sequence().expect("memory");
    cache.append(all, part(&rows, 0, 48), part(&rows, 0, 48)).expect("pages");
    let sequences = [all, cache.fork(all).expect("memory"), cache.share_prefix(all, 40).expect("memory")];
    let empty = cache.new_sequence().expect("memory");
    let seen = |cache: &KvCache| {
        let tables = sequences.map(|sequence| cache.page_table(sequence).expect("live").to_vec());
        let keys = sequences.map(|sequence| gathered(&cache.keys(sequence).expect("live")).bits());
        (tables, keys, cache.len(empty), cache.pages_used())
    };
    let before = seen(&cache);
    let append = |sequence, count| Append { sequence, keys: part(&rows, 0, count), values: part(&rows, 0, count) };
    let batch =
        |last| [append(sequences[0], 16), append(sequences[1], 16), append(sequences[2], 16), append(empty, last)];
    let refused = cache.append_batch_transformed(&*double, &[], &batch(5));
    assert!(matches!(refused, Err(KvError::Call(error)) if matches!(*error, CallError::Extent { .. })));
    assert_eq!(seen(&cache), before);
    cache.append_batch_transformed(&*double, &[], &batch(16)).expect("pages");
    assert_eq!(cache.pages_used(), 5);
    for (sequence, start) in [(sequences[0], 48), (sequences[1], 48), (sequences[2], 40), (empty, 0)] {
        assert_eq!(cache.len(sequence), Ok(start + 16));
        let (keys, old) = (cache.keys(sequence).expect("live"), part(&rows, 0, 64));
        for token in 0..start + 16 {
            let expected = match token.checked_sub(start) {
                Some(new) => old.get(&[1, new, 5]).map(|x| x + x),
                None => old.get(&[1, token, 5]),
            };
            assert_eq!(keys.get(&[0, 1, token, 5]), expected, "{sequence} at {token}");
        }
    }
}

/// A batch is as its sequences one by one, with the positions of all of them in one input.
#[test]
fn batches_go_through_kernels_as_their_sequences_do() {
    let rng = &mut Rng::new(12);
    let graph = rope().k_positions(Elem::I32, Batch::Shared).key_graph().expect("a graph");
    let kernel = Engine::host().expect("an engine").compile(&graph).expect("a kernel");
    let counts = [20, 1, 0, 33];
    let rows = counts.map(|count| Tensor::normal(rng, [KV_HEADS, count, DIM]));
    let given = positions(Elem::I32, &[54], 7);
    let (mut one_by_one, mut at_once) = (cache(16), cache(16));
    let mut start = 0;
    let mut batch = Vec::new();
    for rows in &rows {
        let (sequence, count) = (one_by_one.new_sequence().expect("memory"), rows.shape()[1]);
        assert_eq!(at_once.new_sequence(), Ok(sequence));
        let inputs = [("k_pos", given.view().narrow(0, start, count).expect("a window"))];
        one_by_one.append_transformed(sequence, &*kernel, &inputs, rows.view(), rows.view()).expect("runs");
        batch.push(Append { sequence, keys: rows.view(), values: rows.view() });
        start += count;
    }
    at_once.append_batch_transformed(&*kernel, &[("k_pos", given.view())], &batch).expect("runs");
    for Append { sequence, .. } in batch {
        let [expected, made] = [&one_by_one, &at_once].map(|cache| gathered(&cache.keys(sequence).expect("live")));
        assert_eq!(made.bits(), expected.bits(), "{sequence}");
    }
}

/// A window over a cache that forgets what the window has passed: the keys were rotated by their positions on the way in, the query is told
/// its own.
#[test]
fn windows_over_evicted_caches_are_those_over_all_tokens() {
    let engine = Engine::host().expect("an engine");
    let window = 20;
    let attention =
        || Attention::heads(4).head_dim(DIM as i32).kv_heads(KV_HEADS as i32).scheme(SlidingWindow::new(window));
    let whole = engine.compile(&attention().scheme(Rope::new()).build().expect("a graph")).expect("a kernel");
    let cached = attention().scheme(Rope::new().query_only()).q_positions(Elem::I32, Batch::Shared);
    let cached = engine.compile(&cached.build().expect("a graph")).expect("a kernel");
    let rotate = engine.compile(&rope().q_offset_input().key_graph().expect("a graph")).expect("a kernel");

    let rng = &mut Rng::new(10);
    let tokens = 150;
    let keys = Tensor::normal(rng, [KV_HEADS, tokens, DIM]);
    let values = Tensor::normal(rng, [KV_HEADS, tokens, DIM]);
    let first = |of: &Tensor, len| {
        let view = part(of, 0, len).insert_dim(0).expect("a batch of one");
        let index = |at: usize| [0, at / DIM / len, at / DIM % len, at % DIM];
        let data = (0..KV_HEADS * len * DIM).map(|at| view.get(&index(at)).expect("an element") as f32);
        Tensor::f32([1, KV_HEADS, len, DIM], data.collect::<Vec<_>>())
    };
    let mut cache = cache(3);
    let sequence = cache.new_sequence().expect("memory");
    for token in 0..tokens {
        let new = |of| part(of, token, 1);
        cache.append_transformed(sequence, &*rotate, &[], new(&keys), new(&values)).expect("a page");
        // The first key that the query of this token sees.
        cache.evict_before(sequence, (token + 1).saturating_sub(window as usize)).expect("live");
        if token % 13 != 0 {
            continue;
        }
        let query = Tensor::normal(rng, [1, 4, 1, DIM]);
        let inputs = Tensors::from([
            ("q".to_owned(), query),
            ("k".to_owned(), first(&keys, token + 1)),
            ("v".to_owned(), first(&values, token + 1)),
        ]);
        let unwritten = || Tensors::from([("out".to_owned(), Tensor::unwritten(&[1, 4, 1, DIM], &Layout::Rows))]);
        let (mut expected, mut made) = (unwritten(), unwritten());
        run(whole.call(), &inputs, &mut expected).expect("runs");
        let position = Tensor::i32([1], vec![token as i32]);
        let call = cached.call().input("q", inputs["q"].view()).input("q_pos", position.view());
        let call =
            call.input("k", cache.keys(sequence).expect("live")).input("v", cache.values(sequence).expect("live"));
        call.output("out", made.get_mut("out").expect("an output").view_mut()).run().expect("runs");
        let off = difference(&made["out"].values(), &expected["out"].values(), absolute);
        assert!(off < 2e-6, "token {token}: {off:.1e}");
    }
    let (first, len) = (cache.first_token(sequence), cache.len(sequence));
    assert_eq!((first, len), (Ok(128), Ok(tokens)));
}
