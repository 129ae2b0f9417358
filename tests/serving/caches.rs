//! Random operations on a cache, and attention over what it holds, of several sequences together.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhumb::prelude::*;
use rhumb::runtime::Append;

use crate::common::inputs::{dims, wild_inputs};
use crate::common::seeds::each_seed;
use crate::common::{Family, Lengths, Rng, Spec, inputs, seeds, targets};
use crate::model::{Sequence, Sizes, Token};
use crate::{Asked, Served};

/// Operations of a case.
const STEPS: usize = 60;
/// The most elements of keys and values of a sequence.
const ELEMENTS: usize = 600_000;
/// The most keys of a sequence.
const KEYS: usize = 6000;

/// A cache, and what it should hold.
struct Case {
    served: Served,
    family: Family,
    sizes: Sizes,
    /// The most tokens of a sequence.
    most: usize,
    cache: KvCache,
    live: Vec<Sequence>,
    /// What rotates keys on their way in, if rows have pairs.
    rotate: Option<Arc<Kernel>>,
}

/// An attention whose keys and values a cache can hold, and sizes of that.
fn spec(rng: &mut Rng, targets: &[Target]) -> (Family, Served, Sizes) {
    loop {
        let family = rng.pick(&[Family::Plain, Family::Plain, Family::Wild, Family::Weighed]);
        let spec = Spec::random(rng, family);
        let served = Served::new(rng, targets, &spec);
        let interface = served.alone.interface();
        let port = |name: &str| interface.inputs().iter().find(|port| port.name == name).expect("an input");
        let lengths = Lengths { batch: 1, queries: 1, keys: 1 };
        let drawn = inputs(rng, interface, lengths);
        let (k, v) = (drawn["k"].shape().to_vec(), drawn["v"].shape().to_vec());
        let [k_dims, v_dims] = ["k", "v"].map(|name| dims(interface, port(name)));
        // What is appended to caches of 8 bits is quantised.
        let elem = port("k").elem;
        let as_given = elem == port("v").elem && !elem.is_input_only();
        if k.len() == 4 && v.len() == 4 && as_given && (k_dims[2], v_dims[2]) == ("k", "k") {
            let sizes = Sizes {
                heads: k[1],
                dim: k[3],
                value_dim: v[3],
                elem,
                page_size: rng.pick(&[16, 16, 32, 48, 64, 64, 128, 256]),
                pages: 0,
                odd: rng.one_in(4),
            };
            return (family, served, sizes);
        }
    }
}

impl Case {
    fn new(rng: &mut Rng, targets: &[Target]) -> Case {
        let (family, served, mut sizes) = spec(rng, targets);
        let most = (ELEMENTS / (sizes.heads * (sizes.dim + sizes.value_dim))).min(KEYS);
        sizes.pages = (most * rng.pick(&[1, 2, 3])).div_ceil(sizes.page_size) + 2;
        let heads = sizes.heads as i32;
        let rope = Attention::heads(heads).head_dim(sizes.dim as i32).kv_heads(heads).elem(sizes.elem);
        let rotate = sizes.dim.is_multiple_of(2).then(|| {
            let graph = rope.scheme(Rope::new()).q_offset_input().key_graph().expect("a graph");
            let engine = Engine::builder().threads(1 + rng.below(2)).build().expect("an engine");
            engine.compile(&graph).expect("compiles")
        });
        Case { cache: sizes.cache(), served, family, sizes, most, live: Vec::new(), rotate }
    }

    /// New tokens for some sequences: all of them are cached, or none.
    fn append(&mut self, rng: &mut Rng, counts: &[(usize, usize)]) {
        let room = |index: usize, count: usize| count.min(self.most.saturating_sub(self.live[index].kept().len()));
        let new: Vec<(usize, Vec<Token>)> =
            counts.iter().map(|&(index, count)| (index, self.sizes.tokens(rng, room(index, count)))).collect();
        let rows: Vec<_> = new.iter().map(|(_, tokens)| self.sizes.stored(rng, tokens)).collect();
        let batch = new.iter().zip(&rows).map(|((index, _), (keys, values))| Append {
            sequence: self.live[*index].id,
            keys: keys.view(),
            values: values.view(),
        });
        let batch: Vec<Append<'_>> = batch.collect();
        let needed: usize = new
            .iter()
            .map(|(index, tokens)| self.cache.pages_needed(self.live[*index].id, tokens.len()).expect("live"))
            .sum();
        let free = self.cache.pages_free();
        let rotate = self.rotate.clone().filter(|_| rng.one_in(3));
        let done = match (&rotate, rng.one_in(8)) {
            // An input that the kernel does not have: refused.
            (Some(kernel), true) => {
                let unknown = [("unknown", rows[0].0.view())];
                let refused = self.cache.append_batch_transformed(&**kernel, &unknown, &batch);
                assert!(refused.is_err() || new.iter().all(|(_, tokens)| tokens.is_empty()), "no kernel is called");
                return;
            }
            (Some(kernel), false) => self.cache.append_batch_transformed(&**kernel, &[], &batch),
            (None, _) => self.cache.append_batch(&batch),
        };
        assert_eq!(done.is_ok(), needed <= free, "{needed} of {free} pages: {done:?}");
        for (index, tokens) in new.into_iter().filter(|_| done.is_ok()) {
            let position = self.live[index].tokens.len();
            let tokens = match &rotate {
                Some(kernel) => self.sizes.transformed(kernel, &tokens, position),
                None => tokens,
            };
            self.live[index].tokens.extend(tokens);
        }
    }

    /// A random operation but attention.
    fn step(&mut self, rng: &mut Rng) {
        if self.live.is_empty() || (self.live.len() < 5 && rng.one_in(8)) {
            let id = self.cache.new_sequence().expect("memory");
            self.live.push(Sequence { id, first: 0, tokens: Vec::new() });
            return;
        }
        let index = rng.below(self.live.len());
        let Sequence { id, first, ref tokens } = self.live[index];
        let (len, most) = (tokens.len(), self.most);
        match rng.below(16) {
            0..=7 => {
                let count = if rng.one_in(2) { rng.below(most) } else { rng.pick(&[1, 1, 3, 16, 17, 64]) };
                self.append(rng, &[(index, count)]);
            }
            8..=9 => {
                let order = rng.shuffled((0..self.live.len()).collect());
                let counts: Vec<_> = order.into_iter().map(|index| (index, rng.pick(&[0, 1, 1, 1, 40]))).collect();
                self.append(rng, &counts);
            }
            10 if self.live.len() < 6 => {
                let id = self.cache.fork(id).expect("memory");
                self.live.push(Sequence { id, ..self.live[index].clone() });
            }
            11 if self.live.len() < 6 => {
                let prefix = rng.between(first as i64, len as i64) as usize;
                let id = self.cache.share_prefix(id, prefix).expect("memory");
                let mut shared = Sequence { id, ..self.live[index].clone() };
                shared.tokens.truncate(prefix);
                self.live.push(shared);
            }
            12 | 13 => {
                let near = len.saturating_sub(rng.below(100)).max(first);
                let to = if rng.one_in(3) { rng.between(first as i64, len as i64) as usize } else { near };
                self.cache.truncate(id, to).expect("a position");
                self.live[index].tokens.truncate(to);
            }
            14 => {
                let position = rng.below(len + 20);
                self.cache.evict_before(id, position).expect("live");
                let size = self.sizes.page_size;
                self.live[index].first = first.max(position.min(len) / size * size);
            }
            _ => {
                self.cache.free(id).expect("live");
                self.live.remove(index);
            }
        }
    }

    /// Attention over some sequences together: of one query each or of many.
    fn attend(&self, rng: &mut Rng, wrong: &mut Vec<String>) {
        let interface = self.served.alone.interface();
        let sequences: Vec<&Sequence> = (0..1 + rng.below(4)).map(|_| &self.live[rng.below(self.live.len())]).collect();
        let mut asked = Vec::new();
        for sequence in &sequences {
            let keys = sequence.kept().len();
            let room = (20_000_000 / ((keys + 1) * self.served.heads * self.served.elements)).max(1);
            let queries = if rng.one_in(2) { 1 } else { rng.pick(&[0, 2, 3, 5, 17, 49, 64, 130, 200]).min(room) };
            let lengths = Lengths { batch: 1, queries, keys };
            let mut tensors = match self.family {
                Family::Plain => inputs(rng, interface, lengths),
                _ => wild_inputs(rng, interface, lengths, false),
            };
            tensors.extend(sequence.inputs(&self.sizes));
            asked.push(Asked { lengths, tensors });
        }
        let views = sequences.iter().map(|sequence| {
            let keys: InputView<'_> = self.cache.keys(sequence.id).expect("live").into();
            let values: InputView<'_> = self.cache.values(sequence.id).expect("live").into();
            BTreeMap::from([("k".to_owned(), keys), ("v".to_owned(), values)])
        });
        let views: Vec<_> = views.collect();
        self.served.check(rng, &asked, &views, wrong);
    }
}

#[test]
fn attention_over_caches_is_that_over_rows_in_one_piece() {
    let targets = targets();
    let found = each_seed(seeds(8_200_000, 24), |seed, wrong| {
        let rng = &mut Rng::new(seed);
        let mut case = Case::new(rng, &targets);
        for _ in 0..STEPS {
            case.step(rng);
            if !case.live.is_empty() && rng.one_in(6) {
                case.attend(rng, wrong);
            }
            if !wrong.is_empty() {
                break;
            }
        }
    });
    found.check(("serving", "attention_over_caches_is_that_over_rows_in_one_piece"));
}
