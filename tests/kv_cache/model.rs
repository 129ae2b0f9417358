//! A naive model of a cache of keys and values: for each sequence its tokens, and which pages it has.

use std::collections::{BTreeMap, BTreeSet};

use rhumb::prelude::*;

use crate::common::{Layout, Rng, Tensor};

/// Sizes of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) page_size: usize,
    pub(crate) pages: usize,
    pub(crate) elem: Elem,
    pub(crate) zero_points: bool,
}

impl Sizes {
    pub(crate) fn random(rng: &mut Rng) -> Sizes {
        let elem = rng.pick(&[Elem::F32, Elem::I32, Elem::I8, Elem::I8, Elem::F8e4m3]);
        Sizes {
            heads: 1 + rng.below(3),
            dim: 1 + rng.below(4),
            value_dim: 1 + rng.below(3),
            page_size: rng.pick(&[16, 16, 32, 48]),
            pages: 1 + rng.below(14),
            elem,
            zero_points: elem == Elem::I8 && rng.one_in(2),
        }
    }

    pub(crate) fn cache(&self) -> KvCache {
        let builder = KvCache::builder(self.heads, self.dim).value_dim(self.value_dim);
        let builder = builder.page_size(self.page_size).pages(self.pages).elem(self.elem);
        let builder = if self.zero_points { builder.zero_points() } else { builder };
        builder.build().expect("a cache")
    }

    /// Keys and values of tokens by serial number, in any layout.
    pub(crate) fn rows(&self, rng: &mut Rng, tokens: &[u32]) -> (Tensor, Tensor) {
        let mut rows = |dim: usize, sign: i32| {
            let shape = [self.heads, tokens.len(), dim];
            let at = |i: usize| self.element(tokens[i / dim % tokens.len()], i / dim / tokens.len(), i % dim, sign);
            let data = (0..shape.iter().product()).map(at);
            let tensor = match self.elem {
                Elem::I32 => Tensor::i32(shape, data.collect::<Vec<_>>()),
                elem => {
                    let rows = Tensor::f32(shape, data.map(|x| x as f32).collect::<Vec<_>>());
                    // Each of them holds all these numbers.
                    let floats = [Elem::F32, Elem::F16, Elem::Bf16];
                    if elem.is_input_only() { rows.rounded(rng.pick(&floats)) } else { rows }
                }
            };
            tensor.stored(&Layout::random(rng, 3, true))
        };
        (rows(self.dim, 1), rows(self.value_dim, -1))
    }
}

impl Sizes {
    /// An element of a token's key or value: each another, in 8 bits one of those that `bf16` holds.
    fn element(&self, token: u32, head: usize, i: usize, sign: i32) -> i32 {
        let x = token as i32 * 16 + (head * 4 + i) as i32 + 1;
        sign * if self.elem.is_input_only() { x * 37 % 401 - 150 } else { x }
    }
}

/// What a sequence should be.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) first: usize,
    /// Serial numbers of the tokens, those evicted among them.
    pub(crate) tokens: Vec<u32>,
    /// Which page each has, by a number of the model's own.
    pages: Vec<u32>,
}

/// What a cache should be.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) sizes: Sizes,
    pub(crate) live: Vec<Sequence>,
    pub(crate) stale: Vec<SequenceId>,
    next_page: u32,
    next_token: u32,
}

impl Model {
    pub(crate) fn new(sizes: Sizes) -> Model {
        Model { sizes, live: Vec::new(), stale: Vec::new(), next_page: 0, next_token: 0 }
    }

    /// Serial numbers of new tokens.
    pub(crate) fn tokens(&mut self, count: usize) -> Vec<u32> {
        self.next_token += count as u32;
        (self.next_token - count as u32..self.next_token).collect()
    }

    pub(crate) fn add(&mut self, id: SequenceId) {
        self.live.push(Sequence { id, first: 0, tokens: Vec::new(), pages: Vec::new() });
    }

    /// Appends tokens, whether or not there are pages; what is shared is told by the model `before` the batch. The number of pages taken, those
    /// of copies among them.
    pub(crate) fn append(&mut self, before: &Model, index: usize, tokens: &[u32]) -> usize {
        let last = self.live[index].pages.last().copied();
        let sharing = before.live.iter().filter(|other| last.is_some_and(|page| other.pages.contains(&page))).count();
        let (size, sequence) = (self.sizes.page_size, &mut self.live[index]);
        let open = sequence.tokens.len() % size != 0 && !sequence.pages.is_empty();
        let copies = open && sharing > 1 && !tokens.is_empty();
        if copies {
            sequence.pages.pop();
        }
        sequence.tokens.extend(tokens);
        let wanted = (sequence.tokens.len() - sequence.first).div_ceil(size);
        let taken = wanted - sequence.pages.len();
        sequence.pages.extend(self.next_page..self.next_page + taken as u32);
        self.next_page += taken as u32;
        taken
    }

    pub(crate) fn share(&mut self, index: usize, len: usize, id: SequenceId) {
        let mut sequence = self.live[index].clone();
        sequence.id = id;
        self.live.push(sequence);
        self.truncate(self.live.len() - 1, len);
    }

    pub(crate) fn truncate(&mut self, index: usize, len: usize) {
        let (size, sequence) = (self.sizes.page_size, &mut self.live[index]);
        sequence.tokens.truncate(len);
        sequence.pages.truncate((len - sequence.first).div_ceil(size));
    }

    pub(crate) fn evict(&mut self, index: usize, position: usize) {
        let (size, sequence) = (self.sizes.page_size, &mut self.live[index]);
        while sequence.first + size <= position.min(sequence.tokens.len()) {
            sequence.pages.remove(0);
            sequence.first += size;
        }
    }

    pub(crate) fn free(&mut self, index: usize) {
        let sequence = self.live.remove(index);
        self.stale.push(sequence.id);
    }

    /// Pages that some sequence has.
    pub(crate) fn used(&self) -> usize {
        self.live.iter().flat_map(|sequence| &sequence.pages).collect::<BTreeSet<_>>().len()
    }

    /// Holds a cache against the model: every element, and which sequences have one page.
    pub(crate) fn check(&self, cache: &KvCache) {
        let size = self.sizes.page_size;
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        for sequence in &self.live {
            let table = cache.page_table(sequence.id).expect("live");
            assert_eq!(table.len(), sequence.pages.len(), "pages of {}", sequence.id);
            for (page, number) in sequence.pages.iter().zip(table) {
                assert_eq!(numbers.entry(*page).or_insert(*number), number, "a shared page of {}", sequence.id);
            }
            assert_eq!(cache.len(sequence.id), Ok(sequence.tokens.len()));
            assert_eq!(cache.first_token(sequence.id), Ok(sequence.first));
            let inputs: BTreeMap<_, _> = cache.inputs(sequence.id).expect("live").collect();
            self.check_rows(&inputs, ["k", "k_scale", "k_zero"], (sequence, self.sizes.dim, 1));
            self.check_rows(&inputs, ["v", "v_scale", "v_zero"], (sequence, self.sizes.value_dim, -1));
            assert_eq!(
                inputs.len(),
                if self.sizes.elem == Elem::I8 { 4 } else { 2 } + 2 * usize::from(self.sizes.zero_points)
            );
        }
        assert_eq!(numbers.values().collect::<BTreeSet<_>>().len(), numbers.len(), "a page that two have, unshared");
        assert_eq!((cache.pages_used(), cache.pages_free()), (self.used(), self.sizes.pages - self.used()));
        assert_eq!((cache.page_size(), cache.capacity_tokens()), (size, self.sizes.pages * size));
        for stale in &self.stale {
            assert_eq!(cache.len(*stale), Err(KvError::Stale { sequence: *stale }));
        }
    }

    fn check_rows(
        &self,
        inputs: &BTreeMap<&str, PagedView<'_>>,
        [name, scale, zero]: [&str; 3],
        (sequence, dim, sign): (&Sequence, usize, i32),
    ) {
        let view = &inputs[name];
        let number = |name: &str, index: &[usize; 3]| inputs.get(name).map(|view| view.get(index).expect("a number"));
        let kept = &sequence.tokens[sequence.first..];
        assert_eq!(view.shape(), [1, self.sizes.heads, kept.len(), dim], "{}", sequence.id);
        assert_eq!(view.elem(), self.sizes.elem);
        for (at, token) in kept.iter().enumerate() {
            for (head, i) in (0..self.sizes.heads).flat_map(|head| (0..dim).map(move |i| (head, i))) {
                let expected = f64::from(self.sizes.element(*token, head, i, sign));
                let found = view.get(&[0, head, at, i]).expect("an element");
                let row = [0, head, at];
                let Some(scale) = number(scale, &row) else {
                    assert_eq!(found, self.sizes.elem.rounded(expected), "{} at {at}", sequence.id);
                    continue;
                };
                let found = (found - number(zero, &row).unwrap_or(0.0)) * scale;
                let off = (found - expected).abs();
                assert!(
                    off <= scale * (0.5 + 1e-9),
                    "{found}, not {expected}, scaled by {scale}, {} at {at}",
                    sequence.id
                );
            }
        }
    }
}
