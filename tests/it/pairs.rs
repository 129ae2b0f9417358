//! What suites of products of pairs share.

use crate::common::calls::{call, compile};
use crate::common::{Lengths, Rng, Tensor, case, inputs};
use rhumb::prelude::*;

/// An attention that reads which pairs are seen.
pub(crate) fn masked(attention: Attention) -> Attention {
    attention.mask_with(|cx| cx.input("seen", Elem::Bool, [cx.b, cx.q, cx.k]))
}

/// The first element in which two results differ.
pub(crate) fn differ(made: &[Vec<u32>], expected: &[Vec<u32>]) -> Option<usize> {
    made.iter().flatten().zip(expected.iter().flatten()).position(|(made, before)| made != before)
}

/// Holds that garbage in hidden keys changes no bit of a [`masked`] attention, for some numbers of queries and keys: in tensors that have so
/// many elements for each key, which is their last dimension but those.
#[track_caller]
pub(crate) fn hidden_keys_change_no_bit(
    engine: &Engine,
    attention: Attention,
    lengths: [(usize, usize); 3],
    (names, elements): ([&str; 2], usize),
    garbage: &[f64],
) {
    let kernel = compile(engine, &masked(attention));
    for (seed, (queries, keys)) in lengths.into_iter().enumerate() {
        let rng = &mut Rng::new(seed as u64);
        let lengths = Lengths { batch: 1, queries, keys };
        let mut tensors = inputs(rng, kernel.interface(), lengths);
        // Every third key is hidden from all queries, the others from some.
        let hidden = |key: usize| key % 3 == 1;
        let random: Vec<bool> = (0..queries * keys).map(|_| rng.one_in(4)).collect();
        let seen = (0..queries * keys).map(|pair| !hidden(pair % keys) && !random[pair]);
        tensors.insert("seen".to_owned(), Tensor::bool([1, queries, keys], seen));
        let expected = case::bits(&call(&kernel, &tensors, lengths).expect("runs"));
        for garbage in garbage {
            let mut other = tensors.clone();
            for name in names {
                let of_key = |place: usize| hidden(place / elements % keys);
                other.get_mut(name).expect("bound").replace(|place| of_key(place).then_some(*garbage));
            }
            let made = case::bits(&call(&kernel, &other, lengths).expect("runs"));
            assert_eq!(differ(&made, &expected), None, "{garbage}, {}", kernel.target());
        }
    }
}
