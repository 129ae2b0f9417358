//! Caches of keys and values: against a naive model over random operations, refusals, kernels for new keys, and attention over what is
//! cached.

#[path = "../common/mod.rs"]
mod common;
mod kernels;
mod model;
mod quantised;

use common::seeds::each_seed;
use common::{Rng, Tensor};
use model::{Model, Sizes};
use rhumb::prelude::*;
use rhumb::runtime::{Append, KvCacheBuilder, KvTensor};

/// A random operation on both. How it came out: done, or refused.
fn step(rng: &mut Rng, model: &mut Model, cache: &mut KvCache) -> bool {
    if model.live.is_empty() || (model.live.len() < 6 && rng.one_in(12)) {
        model.add(cache.new_sequence().expect("memory"));
        return true;
    }
    let index = rng.below(model.live.len());
    let (id, first, len) = (model.live[index].id, model.live[index].first, model.live[index].tokens.len());
    match rng.below(16) {
        0..=4 => append(rng, model, cache, &[(index, 1)]),
        5..=6 => {
            let chunk = rng.pick(&[0, 2, 15, 16, 17, 40, 130]);
            append(rng, model, cache, &[(index, chunk)])
        }
        7..=8 => {
            let order = rng.shuffled((0..model.live.len()).collect());
            let batch = order.into_iter().take(1 + rng.below(6)).map(|index| (index, rng.pick(&[0, 1, 1, 1, 20])));
            let batch: Vec<_> = batch.collect();
            append(rng, model, cache, &batch)
        }
        9 if model.live.len() < 8 => {
            model.share(index, len, cache.fork(id).expect("memory"));
            true
        }
        10..=11 if model.live.len() < 8 => {
            let prefix = rng.between(first as i64, len as i64) as usize;
            model.share(index, prefix, cache.share_prefix(id, prefix).expect("memory"));
            true
        }
        12 => {
            let to = len.saturating_sub(rng.below(25)).max(first);
            cache.truncate(id, to).expect("a position of the sequence");
            model.truncate(index, to);
            true
        }
        13 => {
            let position = rng.below(len + 20);
            cache.evict_before(id, position).expect("live");
            model.evict(index, position);
            true
        }
        14 => {
            cache.free(id).expect("live");
            model.free(index);
            true
        }
        _ => {
            refused(rng, model, cache, index);
            false
        }
    }
}

/// Appends so many tokens to each of some sequences, or is refused for want of pages, as the model says.
fn append(rng: &mut Rng, model: &mut Model, cache: &mut KvCache, counts: &[(usize, usize)]) -> bool {
    let mut appended = model.clone();
    let (free, pages) = (model.sizes.pages - model.used(), model.sizes.pages);
    let (mut needed, mut rows) = (0, Vec::new());
    for &(index, count) in counts {
        let tokens = appended.tokens(count);
        needed += appended.append(model, index, &tokens);
        rows.push((model.live[index].id, model.sizes.rows(rng, &tokens)));
    }
    let mut batch = Vec::new();
    for (sequence, (keys, values)) in &rows {
        batch.push(Append { sequence: *sequence, keys: keys.view(), values: values.view() });
    }
    let done = match batch[..] {
        [Append { sequence, keys, values }] => {
            assert_eq!(cache.pages_needed(sequence, counts[0].1), Ok(needed));
            cache.append(sequence, keys, values)
        }
        _ => cache.append_batch(&batch),
    };
    if needed > free {
        assert_eq!(done, Err(KvError::OutOfPages { needed, free, pages }));
        return false;
    }
    assert_eq!(done, Ok(()));
    *model = appended;
    true
}

/// Asks for what can't be.
fn refused(rng: &mut Rng, model: &Model, cache: &mut KvCache, index: usize) {
    let sequence = &model.live[index];
    let (id, first, len) = (sequence.id, sequence.first, sequence.tokens.len());
    let (keys, values) = model.sizes.rows(rng, &[1, 2]);
    let (keys, values) = (keys.view(), values.view());
    let good = Append { sequence: id, keys, values };
    if let Some(&stale) = model.stale.get(rng.below(model.stale.len().max(1))) {
        let error = KvError::Stale { sequence: stale };
        assert_eq!(cache.append(stale, keys, values), Err(error.clone()));
        assert_eq!(cache.append_batch(&[good, Append { sequence: stale, ..good }]), Err(error.clone()));
        assert_eq!((cache.fork(stale), cache.share_prefix(stale, 0)), (Err(error.clone()), Err(error.clone())));
        assert_eq!((cache.truncate(stale, 0), cache.evict_before(stale, 9)), (Err(error.clone()), Err(error.clone())));
        assert_eq!((cache.free(stale), cache.pages_needed(stale, 1)), (Err(error.clone()), Err(error.clone())));
        assert!(cache.keys(stale).is_err_and(|found| found == error));
        assert!(cache.values(stale).is_err_and(|found| found == error));
    }
    let position = if first > 0 && rng.one_in(2) { first - 1 } else { len + 1 + rng.below(3) };
    let error = KvError::Position { position, first, len };
    assert_eq!((cache.truncate(id, position), cache.share_prefix(id, position)), (Err(error.clone()), Err(error)));
    assert_eq!(cache.append_batch(&[good, good]), Err(KvError::Repeated { sequence: id }));
    assert_eq!(cache.append(id, keys, part(values, 1)), Err(KvError::Tokens { keys: 2, values: 1 }));
    let turned = keys.permute(&[1, 0, 2]).expect("an order");
    let wide = turned.insert_dim(0).expect("a dimension");
    assert!(matches!(cache.append(id, wide, values), Err(KvError::Shape { tensor: KvTensor::Keys, .. })));
    let flags = vec![true; values.len()];
    let flags = TensorView::from_slice(&flags, values.shape()).expect("flags");
    let (tensor, found, expected) = (KvTensor::Values, Elem::Bool, model.sizes.elem);
    let narrow = expected.is_input_only();
    let error = match narrow {
        true => KvError::Unquantised { tensor, found, expected },
        false => KvError::Elem { tensor, found, expected },
    };
    assert_eq!(cache.append(id, keys, flags), Err(error));
    if narrow {
        let odd = rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let mut rows = vec![1.0; values.len()];
        let place = rng.below(rows.len());
        rows[place] = odd;
        let odd = TensorView::from_slice(&rows, values.shape()).expect("rows");
        let error = cache.append_batch(&[Append { values: odd, ..good }]).expect_err("not finite");
        let dim = model.sizes.value_dim;
        let at = [place / dim / 2, place / dim % 2, place % dim];
        assert!(matches!(error, KvError::Number { tensor: KvTensor::Values, index, .. } if index == at), "{error}");
    }
}

#[test]
fn caches_are_as_the_model_says() {
    let seeds = rhumb_random::seeds(8_100_000, 16);
    let found = each_seed(seeds, |seed, _| {
        let rng = &mut Rng::new(seed);
        let sizes = Sizes::random(rng);
        let (mut model, mut cache) = (Model::new(sizes), sizes.cache());
        let mut done = 0;
        for _ in 0..400 {
            done += usize::from(step(rng, &mut model, &mut cache));
            model.check(&cache);
        }
        for sequence in &model.live {
            cache.free(sequence.id).expect("live");
        }
        assert_eq!((cache.pages_used(), cache.pages_free()), (0, sizes.pages), "pages are lost");
        done
    });
    found.check(("kv_cache", "caches_are_as_the_model_says"));
    let done: usize = found.cases.iter().map(|(_, done)| done).sum();
    let steps = 400 * found.cases.len();
    assert!(done > steps / 2 && done < steps, "{done} of {steps} operations were done: a one-sided test");
}

/// `[heads, tokens, dim]`, all elements the same.
fn constant(shape: [usize; 3], x: f32) -> Tensor {
    Tensor::f32(shape, vec![x; shape.iter().product()])
}

/// The first of some tokens.
fn part(rows: TensorView<'_>, tokens: usize) -> TensorView<'_> {
    rows.narrow(1, 0, tokens).expect("a window")
}

#[test]
fn caches_that_share_their_operations_share_handles() {
    let sizes = Sizes { heads: 1, dim: 2, value_dim: 2, page_size: 16, pages: 4, elem: Elem::F32, zero_points: false };
    let mut layers = [sizes.cache(), sizes.cache()];
    let handles = layers.each_mut().map(|cache| {
        let (a, b) = (cache.new_sequence().expect("memory"), cache.new_sequence().expect("memory"));
        cache.free(a).expect("live");
        [a, b, cache.fork(b).expect("memory")]
    });
    assert_eq!(handles[0], handles[1]);
    let [a, _, c] = handles[0];
    assert_ne!(a, c, "the same place, another generation");
    let other: SequenceId = sizes.cache().new_sequence().expect("memory");
    assert_eq!(other, a, "caches do not know each other's handles apart");
}

/// A page per sequence: the rows of each lie in one piece.
#[test]
fn a_page_of_the_longest_length_holds_a_sequence_in_one_piece() {
    let (longest, sequences) = (100usize, 3);
    let page_size = longest.next_multiple_of(rhumb::runtime::PAGE_UNIT);
    let mut cache = KvCache::builder(2, 4).page_size(page_size).pages(sequences).build().expect("a cache");
    let rows = constant([2, longest, 4], 1.5);
    for _ in 0..sequences {
        let sequence = cache.new_sequence().expect("memory");
        cache.append(sequence, rows.view(), rows.view()).expect("a page");
        let keys = cache.keys(sequence).expect("live");
        let whole = keys.page(0).expect("the page");
        assert_eq!((whole.shape(), keys.page(1).is_none()), (&[1, 2, longest, 4][..], true));
        assert_eq!(whole.strides()[2..], [4, 1]);
    }
    assert_eq!(cache.pages_free(), 0);
}

#[test]
fn warm_appends_allocate_nothing() {
    warm_appends(KvCache::builder(2, 8));
    warm_appends(KvCache::builder(2, 8).elem(Elem::I8).zero_points());
    warm_appends(KvCache::builder(2, 8).elem(Elem::F8e4m3));
}

fn warm_appends(builder: KvCacheBuilder) {
    let mut cache = builder.value_dim(4).page_size(16).pages(16).build().expect("a cache");
    let (keys, values) = (constant([2, 1, 8], 1.0), constant([2, 1, 4], 2.0));
    let mut fill = || {
        let sequences = [cache.new_sequence().expect("memory"), cache.new_sequence().expect("memory")];
        for _ in 0..100 {
            let append = |sequence| Append { sequence, keys: keys.view(), values: values.view() };
            cache.append_batch(&sequences.map(append)).expect("pages");
        }
        let (keys, values) = (cache.keys(sequences[0]), cache.values(sequences[0]));
        assert!(keys.is_ok_and(|keys| keys.len_tokens() == 100) && values.is_ok());
        cache.evict_before(sequences[0], 40).expect("live");
        cache.truncate(sequences[0], 70).expect("a position");
        sequences.iter().for_each(|sequence| cache.free(*sequence).expect("live"));
    };
    fill();
    let counts = allocation_counter::measure(fill);
    assert_eq!((counts.count_total, counts.bytes_total), (0, 0));
}

#[test]
fn refusals_say_why() {
    let sizes = Sizes { heads: 2, dim: 4, value_dim: 3, page_size: 16, pages: 2, elem: Elem::F32, zero_points: false };
    let mut cache = sizes.cache();
    let sequence = cache.new_sequence().expect("memory");
    let (keys, values) = (constant([2, 33, 4], 1.0), constant([2, 33, 3], 1.0));
    let (keys, values) = (keys.view(), values.view());
    let few = |view| part(view, 20);
    let long = TensorView::with_strides(&[1.0f32], &[2, 1 << 31, 4], &[0, 0, 0]).expect("a view");
    let long_values = TensorView::with_strides(&[1.0f32], &[2, 1 << 31, 3], &[0, 0, 0]).expect("a view");
    let built = |heads: usize, dim: usize, page_size: usize, pages: usize| {
        KvCache::builder(heads, dim).page_size(page_size).pages(pages).build().expect_err("refused").to_string()
    };
    let mut errors = vec![
        built(0, 4, 16, 1),
        built(2, 0, 16, 1),
        built(2, 4, 16, 0),
        built(2, 4, 0, 1),
        built(2, 4, 24, 1),
        built(usize::MAX, 4, 16, 1),
        built(2, 4, 16, usize::MAX),
        built(1 << 20, 1 << 12, 1 << 12, 1 << 12),
        KvCache::builder(2, 4).value_dim(0).pages(1).build().expect_err("refused").to_string(),
    ];
    cache.append(sequence, few(keys), few(values)).expect("pages");
    let mut refuse = |error: Result<(), KvError>| errors.push(error.expect_err("refused").to_string());
    refuse(cache.append(sequence, few(keys), few(values)));
    refuse(cache.append(sequence, long, long_values));
    refuse(cache.append(sequence, few(keys), values));
    refuse(cache.append(sequence, values, values));
    refuse(cache.append(sequence, keys, keys));
    refuse(cache.truncate(sequence, 21));
    let ids = Tensor::i32([2, 1, 3], vec![1; 6]);
    refuse(cache.append(sequence, part(keys, 1), ids.view()));
    let append = Append { sequence, keys: few(keys), values: few(values) };
    refuse(cache.append_batch(&[append, append]));
    refuse(cache.pages_needed(sequence, usize::MAX).map(|_| ()));
    cache.free(sequence).expect("live");
    refuse(cache.free(sequence));
    insta::assert_snapshot!(errors.join("\n"));
    insta::assert_snapshot!(format!("{cache:?}"), @"KvCache(0 sequences on 0 of 2 pages of 16 tokens)");
}
