//! Random attentions: built as users build them, and of one's own by `GraphBuilder`.

mod own;
mod schemes;
mod scores;

use rhumb::plugins::lower;
use rhumb::prelude::*;

use super::Rng;

/// A random attention, with a word for each choice.
pub(crate) struct Spec {
    pub(crate) graph: Verified,
    /// The same with the output `lse` at any rate, if there is a softmax, without scheme ops.
    pub(crate) lowered: Verified,
    pub(crate) what: String,
    pub(crate) heads: usize,
    /// Elements of a head of the key and of the value, together.
    pub(crate) elements: usize,
    /// Whether calls of 128 and more queries and keys are cheap to interpret.
    pub(crate) small: bool,
}

/// What is drawn of graphs and of their tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// What users build, at positions near 0, all tensors tame.
    Plain,
    /// What users build and scores of their own, at positions up to a million, garbage where no query sees it.
    Wild,
    /// Graphs by `GraphBuilder`: operands over any axes in any order.
    Own,
    /// Any of the last two, with NaN and infinities in visible places.
    Odd,
    /// As wild ones, with weights made of the score in place of a softmax.
    Weighed,
}

impl Spec {
    pub(crate) fn random(rng: &mut Rng, family: Family) -> Spec {
        match family {
            Family::Plain | Family::Wild => schemes::attention(rng, family == Family::Wild),
            Family::Own => own::attention(rng),
            Family::Weighed => schemes::weighed(rng),
            Family::Odd if rng.one_in(2) => schemes::attention(rng, true),
            Family::Odd => own::attention(rng),
        }
    }

    /// The family's graph of a seed, and the generator after it, which draws the tensors.
    pub(crate) fn of_seed(seed: u64, family: Family) -> (Spec, Rng) {
        let mut rng = Rng::new(seed);
        let spec = Spec::random(&mut rng, family);
        (spec, rng)
    }
}

/// Heads, heads of the key, elements of key and value.
#[derive(Clone, Copy)]
struct Sizes {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    value_dim: u32,
    small: bool,
}

fn sizes(rng: &mut Rng) -> Sizes {
    let small = rng.one_in(3);
    let heads: u32 = if small { rng.pick(&[1, 1, 2]) } else { rng.pick(&[1, 2, 3, 4, 6, 8]) };
    let kv_heads = rng.pick(&(1..=heads).filter(|n| heads.is_multiple_of(*n)).collect::<Vec<u32>>());
    let odd = |rng: &mut Rng, most| rng.between(1, most) as u32;
    if small {
        let (head_dim, value_dim) = (odd(rng, 16), odd(rng, 16));
        return Sizes { heads, kv_heads, head_dim, value_dim, small };
    }
    let odd_dim = odd(rng, 300);
    let head_dim = rng.pick(&[1, 2, 8, 16, 20, 32, 40, 64, 80, 128, 160, odd_dim, odd_dim]);
    let odd_dim = odd(rng, 300);
    let value_dim = if rng.one_in(3) { rng.pick(&[1, 8, 24, 64, odd_dim]) } else { head_dim };
    Sizes { heads, kv_heads, head_dim, value_dim, small }
}

/// An element type of floats.
fn elem(rng: &mut Rng) -> Elem {
    rng.pick(&[Elem::F32, Elem::F16, Elem::Bf16])
}

fn lowered(graph: &Verified, what: &str) -> Verified {
    lower(graph, &Registry::standard()).unwrap_or_else(|error| panic!("{what}: {error}"))
}
