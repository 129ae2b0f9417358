//! What caches should hold: the rows of each sequence, in lists.

use std::sync::Arc;

use rhumb::prelude::*;

use crate::common::{Layout, Rng, Tensor, Tensors, run};

/// Sizes of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) elem: Elem,
    pub(crate) page_size: usize,
    pub(crate) pages: usize,
    /// Whether rows hold what is not finite now and then.
    pub(crate) odd: bool,
}

/// The key and the value of a token: head after head.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    key: Arc<[f32]>,
    value: Arc<[f32]>,
}

/// What a sequence should be.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    /// The first token that is kept.
    pub(crate) first: usize,
    pub(crate) tokens: Vec<Token>,
}

impl Sizes {
    pub(crate) fn cache(&self) -> KvCache {
        let builder = KvCache::builder(self.heads, self.dim).value_dim(self.value_dim).elem(self.elem);
        builder.page_size(self.page_size).pages(self.pages).build().expect("a cache")
    }

    /// New tokens.
    pub(crate) fn tokens(&self, rng: &mut Rng, count: usize) -> Vec<Token> {
        let mut row = |len: usize| {
            let mut row: Vec<f32> =
                rng.normals(len).into_iter().map(|x| self.elem.rounded(f64::from(x)) as f32).collect();
            if self.odd && rng.one_in(60) {
                let place = rng.below(len);
                row[place] = rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 60000.0, -40.0]);
                row[place] = self.elem.rounded(f64::from(row[place])) as f32;
            }
            row.into()
        };
        (0..count).map(|_| Token { key: row(self.heads * self.dim), value: row(self.heads * self.value_dim) }).collect()
    }

    /// The keys and the values of tokens, `[head, token, element]`, row-major.
    pub(crate) fn rows(&self, tokens: &[Token]) -> (Tensor, Tensor) {
        let of = |dim: usize, row: fn(&Token) -> &[f32]| {
            let all = (0..self.heads).flat_map(|head| tokens.iter().map(move |token| &row(token)[head * dim..][..dim]));
            Tensor::f32([self.heads, tokens.len(), dim], all.flatten().copied().collect::<Vec<f32>>())
                .rounded(self.elem)
        };
        (of(self.dim, |token| &token.key), of(self.value_dim, |token| &token.value))
    }

    /// The same, in any layout.
    pub(crate) fn stored(&self, rng: &mut Rng, tokens: &[Token]) -> (Tensor, Tensor) {
        let (keys, values) = self.rows(tokens);
        (keys.stored(&Layout::random(rng, 3, true)), values.stored(&Layout::random(rng, 3, true)))
    }

    /// Tokens whose keys a kernel made of those given, in one call.
    pub(crate) fn transformed(&self, kernel: &Kernel, tokens: &[Token], position: usize) -> Vec<Token> {
        let shape = vec![1, self.heads, tokens.len(), self.dim];
        let (keys, _) = self.rows(tokens);
        let keys = Tensor::f32(shape.clone(), keys.values()).rounded(self.elem);
        let offset = Tensor::i32(Vec::new(), vec![position as i32]);
        let tensors = Tensors::from([("k".to_owned(), keys), ("q_offset".to_owned(), offset)]);
        let unwritten = Tensor::unwritten_of(self.elem, &shape, &Layout::Rows);
        let mut made = Tensors::from([("k_out".to_owned(), unwritten)]);
        run(kernel.call(), &tensors, &mut made).expect("runs");
        let made = made["k_out"].values();
        let element = |token: usize, at: usize| made[(at / self.dim * tokens.len() + token) * self.dim + at % self.dim];
        let key = |token: usize| (0..self.heads * self.dim).map(|at| element(token, at)).collect();
        tokens.iter().enumerate().map(|(number, token)| Token { key: key(number), ..token.clone() }).collect()
    }
}

impl Sequence {
    /// The tokens that are kept.
    pub(crate) fn kept(&self) -> &[Token] {
        &self.tokens[self.first..]
    }

    /// Inputs `k` and `v` of an attention over what is kept.
    pub(crate) fn inputs(&self, sizes: &Sizes) -> [(String, Tensor); 2] {
        let (keys, values) = sizes.rows(self.kept());
        let one = |tensor: &Tensor| Tensor::f32([&[1], tensor.shape()].concat(), tensor.values()).rounded(sizes.elem);
        [("k".to_owned(), one(&keys)), ("v".to_owned(), one(&values))]
    }
}
