use rhumb_ir::Elem;
use rhumb_plugins::{Attention, Batch, DynamicNtk, Rope};

use super::sequences::Sequences;
use super::*;
use crate::view::TensorView;

fn cache(pages: usize) -> KvCache {
    KvCache::builder(1, 2).page_size(16).pages(pages).build().expect("a cache")
}

/// Appends tokens of one value.
fn append(cache: &mut KvCache, sequence: SequenceId, tokens: usize, x: f32) -> Result<(), KvError> {
    let rows = vec![x; tokens * 2];
    let rows = TensorView::from_slice(&rows, &[1, tokens, 2]).expect("rows");
    cache.append(sequence, rows, rows)
}

/// A sequence of tokens of one value.
fn sequence(cache: &mut KvCache, tokens: usize, x: f32) -> SequenceId {
    let sequence = cache.new_sequence().expect("memory");
    append(cache, sequence, tokens, x).expect("pages");
    sequence
}

/// One value for each token of one element of the keys.
fn keys(cache: &KvCache, sequence: SequenceId) -> Vec<f64> {
    let view = cache.keys(sequence).expect("live");
    (0..view.len_tokens()).filter_map(|token| view.get(&[0, 0, token, 1])).collect()
}

/// Holds that each page has as many owners as there are tables that list it.
fn check_owners(cache: &KvCache) {
    let mut owners = vec![0; cache.pages.count()];
    cache.sequences.iter().flat_map(|sequence| &sequence.table).for_each(|page| owners[*page as usize] += 1);
    assert_eq!(cache.pages.owners().collect::<Vec<_>>(), owners);
    assert_eq!(cache.pages_free(), owners.iter().filter(|count| **count == 0).count());
}

#[test]
fn pools_are_zeroed_and_aligned_for_every_element_type() {
    for elem in [Elem::F32, Elem::F16, Elem::Bf16, Elem::I32, Elem::Bool] {
        let builder = KvCache::builder(3, 5).value_dim(7).page_size(16).pages(2).elem(elem);
        let cache = builder.build().expect("a cache");
        for (pool, dim) in [(&cache.keys, 5), (&cache.values, 7)] {
            let view = pool.view();
            assert_eq!((view.elem(), view.shape()), (elem, &[2, 1, 3, 16, dim][..]));
            assert!(view.as_ptr().addr().is_multiple_of(64) && view.elements().all(|x| x == 0.0));
        }
    }
}

#[test]
fn pages_are_owned_by_the_tables_that_list_them() {
    let mut cache = cache(12);
    let first = sequence(&mut cache, 40, 1.0);
    let fork = cache.fork(first).expect("memory");
    let prefix = cache.share_prefix(first, 20).expect("memory");
    check_owners(&cache);
    assert_eq!(cache.pages_used(), 3);
    append(&mut cache, fork, 1, 2.0).expect("a page for the copy");
    check_owners(&cache);
    assert_eq!((cache.pages_used(), cache.page_table(first).expect("live").len()), (4, 3));
    // Its page is its own by now, while the prefix's is still the second of three sequences.
    append(&mut cache, first, 1, 3.0).expect("room in a page");
    append(&mut cache, prefix, 20, 4.0).expect("pages");
    check_owners(&cache);
    assert_eq!(cache.pages_used(), 6);
    assert_eq!(keys(&cache, first), [&[1.0; 40][..], &[3.0]].concat());
    assert_eq!(keys(&cache, fork), [&[1.0; 40][..], &[2.0]].concat());
    assert_eq!(keys(&cache, prefix), [[1.0; 20], [4.0; 20]].concat());
    cache.evict_before(fork, 35).expect("live");
    cache.truncate(first, 3).expect("a position");
    check_owners(&cache);
    for sequence in [first, fork, prefix] {
        cache.free(sequence).expect("live");
        check_owners(&cache);
    }
    assert_eq!(cache.pages_used(), 0);
}

/// All of a batch that share a page copy it, so that a batch takes what its sequences need one by one.
#[test]
fn batches_take_the_pages_that_their_sequences_need() {
    for pages in [3, 4] {
        let mut cache = cache(pages);
        let first = sequence(&mut cache, 5, 1.0);
        let all = [first, cache.fork(first).expect("memory"), cache.fork(first).expect("memory")];
        let rows = [7.0f32; 2];
        let rows = TensorView::from_slice(&rows, &[1, 1, 2]).expect("rows");
        let batch = all.map(|sequence| Append { sequence, keys: rows, values: rows });
        let fits = pages == 4;
        let refused = KvError::OutOfPages { needed: 3, free: 2, pages };
        assert_eq!(all.map(|sequence| cache.pages_needed(sequence, 1)), [const { Ok(1) }; 3]);
        assert_eq!(cache.append_batch(&batch), if fits { Ok(()) } else { Err(refused) });
        check_owners(&cache);
        let (used, row) = if fits { (3, &[1.0, 1.0, 1.0, 1.0, 1.0, 7.0][..]) } else { (1, &[1.0; 5][..]) };
        assert_eq!(cache.pages_used(), used);
        assert!(all.iter().all(|sequence| keys(&cache, *sequence) == row));
        // One by one the last of them would keep the page.
        let done = batch.map(|append| cache.append_batch(&[append]).is_ok());
        assert_eq!(done, [true; 3]);
        assert_eq!(cache.pages_used(), 3);
    }
}

#[test]
fn refused_appends_leave_every_byte() {
    let mut cache = cache(3);
    let first = sequence(&mut cache, 20, 1.0);
    let fork = cache.fork(first).expect("memory");
    let all = |cache: &KvCache| (cache.keys.view().elements().collect::<Vec<_>>(), format!("{:?}", cache.sequences));
    let before = all(&cache);
    let refused = append(&mut cache, fork, 13, 2.0);
    assert_eq!(refused, Err(KvError::OutOfPages { needed: 2, free: 1, pages: 3 }));
    let rows = [2.0f32; 26];
    let rows = TensorView::from_slice(&rows, &[1, 13, 2]).expect("rows");
    let batch = [fork, first].map(|sequence| Append { sequence, keys: rows, values: rows });
    assert_eq!(cache.append_batch(&batch), Err(KvError::OutOfPages { needed: 4, free: 1, pages: 3 }));
    assert_eq!(cache.append_batch(&[batch[0], batch[0]]), Err(KvError::Repeated { sequence: fork }));
    assert_eq!(all(&cache), before);
    check_owners(&cache);
}

/// Keys are transformed page by page: what a kernel makes of one may not depend on which others are in its page.
#[test]
fn kernels_that_count_the_keys_of_a_call_are_refused() {
    let mut cache = KvCache::builder(1, 4).page_size(16).pages(4).build().expect("a cache");
    let sequence = cache.new_sequence().expect("memory");
    let engine = crate::Engine::host().expect("an engine");
    let rows = vec![1.0f32; 20 * 4];
    let rows = TensorView::from_slice(&rows, &[1, 20, 4]).expect("rows");
    let mut append = |attention: Attention| {
        let kernel = engine.reference(&attention.key_graph().expect("a graph")).expect("a reference");
        let length = [20i32];
        let length = [("length", TensorView::from_slice(&length, &[]).expect("a number"))];
        let asked = kernel.interface().inputs().iter().any(|port| port.name == "length");
        let done = cache.append_transformed(sequence, &kernel, if asked { &length } else { &[] }, rows, rows);
        (done, cache.len(sequence).expect("live"))
    };
    let of = || Attention::heads(1).head_dim(4);
    assert_eq!(append(of().scheme(Rope::new()).q_offset(0)), (Err(KvError::Counted), 0));
    assert_eq!(append(of().scheme(DynamicNtk::new(2.0, 8)).q_offset_input()), (Err(KvError::ByLength), 0));
    assert_eq!(append(of().scheme(DynamicNtk::new(2.0, 8)).q_offset_input().length_input()), (Ok(()), 20));
    assert_eq!(append(of().scheme(Rope::new()).k_positions(Elem::I32, Batch::Shared)), (Ok(()), 40));
}

#[test]
fn generations_that_are_used_up_retire_their_place() {
    let mut sequences = Sequences::default();
    let first = sequences.add(0).expect("memory");
    sequences.remove(0);
    let second = sequences.add(0).expect("memory");
    assert_eq!((first.slot, second.slot), (0, 0));
    assert!(sequences.find(first).is_err() && sequences.find(second).is_ok());
    sequences.retire_soon(0);
    let last = SequenceId { slot: 0, generation: u32::MAX };
    assert!(sequences.find(last).is_ok());
    sequences.remove(0);
    assert!(sequences.find(last).is_err());
    assert_eq!(sequences.add(0).expect("memory"), SequenceId { slot: 1, generation: 0 });
}
