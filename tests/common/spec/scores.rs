//! Scores of one's own: every elementwise op of the IR, with shared subexpressions.

use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use super::super::Rng;

/// What a score can be made of, beside the product of query and key.
pub(super) struct Pool<'g> {
    /// Terms of type `f32`, of any size, over any axes of the score.
    pub(super) terms: Vec<Expr<'g>>,
    /// Truth values over any axes of the score.
    pub(super) tests: Vec<Expr<'g>>,
}

impl<'g> Pool<'g> {
    pub(super) fn of_attention(cx: &AttentionParts<'g>) -> Pool<'g> {
        let distance = (cx.q_pos() - cx.k_pos()).cast(Elem::F32);
        let (heads, bucket) = (cx.heads().expect("heads"), cx.axis("reach", 11));
        let slopes = cx.per_head((0..heads).map(|head| 0.3 / f64::from(head + 1)).collect::<Vec<_>>()).expect("heads");
        let waves = cx.table(&[bucket], (0..11).map(|i| f64::from(i * i % 7) - 3.0).collect::<Vec<_>>());
        Pool {
            terms: vec![
                distance,
                cx.k_pos().cast(Elem::F32),
                cx.q_pos().cast(Elem::F32),
                slopes,
                // Out of range at both ends, where gathers take the nearest.
                waves.gather(bucket, cx.k_index() - cx.q_index() + 5),
                (cx.k_index() % 5).cast(Elem::F32),
            ],
            tests: vec![cx.q_pos().ge(cx.k_pos()), (cx.k_index() % 3).eq(0), (cx.q_index() / 4).eq(cx.k_index() / 4)],
        }
    }

    fn term(&self, rng: &mut Rng) -> Expr<'g> {
        rng.pick(&self.terms)
    }

    /// A term that is not far from 0, however large the one that it is made of.
    fn tame(&self, rng: &mut Rng) -> Expr<'g> {
        let x = self.term(rng);
        match rng.below(6) {
            0 => (1.0 + x.abs()).log(),
            4 => x.atan(),
            1 => x / (1.0 + x.abs()),
            2 => (x * 0.1).tanh(),
            3 => x.min(2.0).max(-2.0),
            _ => (x * 0.05).sigmoid(),
        }
    }
}

/// The score after some random steps.
pub(super) fn random_score<'g>(rng: &mut Rng, pool: &Pool<'g>, mut score: Expr<'g>, steps: usize) -> Expr<'g> {
    for _ in 0..steps {
        score = match rng.below(3) {
            0 => additive(rng, pool, score),
            1 => shared(rng, pool, score),
            _ => nonlinear(rng, pool, score),
        };
    }
    score
}

/// Terms that are added: of any size, and some that nearly cancel.
fn additive<'g>(rng: &mut Rng, pool: &Pool<'g>, x: Expr<'g>) -> Expr<'g> {
    let (a, b) = (pool.term(rng), pool.tame(rng));
    match rng.below(8) {
        0 => x + 0.05 * a,
        1 => x - b,
        2 => x - 0.25 * a.abs(),
        3 => x + (a * 3.0 + b) - a * 2.999,
        4 => x + a - (a + b),
        5 => rng.pick(&pool.tests).select(x, x - b),
        6 => rng.pick(&pool.tests).select(0.0, -1.5) + x,
        _ => x + b * pool.tame(rng),
    }
}

/// The score used more than once.
fn shared<'g>(rng: &mut Rng, pool: &Pool<'g>, x: Expr<'g>) -> Expr<'g> {
    let b = pool.tame(rng);
    match rng.below(8) {
        0 => x * x * 0.1 + x.tanh(),
        1 => x * x.sigmoid(),
        2 => x - 0.5 * x,
        3 => 0.25 * x + 0.5 * x,
        4 => x * b + x,
        5 => (x + b).max(x * 0.5),
        6 => x.gt(b).select(x * 0.5 + b, x),
        _ => {
            let y = x * 0.3 + 1.0;
            let z = y * y - y;
            z / (1.0 + z.abs())
        }
    }
}

fn nonlinear<'g>(rng: &mut Rng, pool: &Pool<'g>, x: Expr<'g>) -> Expr<'g> {
    let b = pool.tame(rng);
    match rng.below(12) {
        0 => (x / 5.0).tanh() * 5.0,
        1 => x / (1.5 + b.abs()),
        2 => (x.abs() + 0.1).pow(0.7),
        3 => (1.0 + x * x).sqrt(),
        4 => x.min(b * 2.0),
        5 => x.max(-b.abs()),
        6 => (x.min(2.0)).exp(),
        7 => (1.5 + x.abs()).log2(),
        8 => x.lt(b).select(x, b),
        9 => (x * 0.5).sin() + (x * 0.25).cos(),
        10 => (x.max(-3.0).min(3.0)).exp2(),
        _ => (x * (1.0 + 0.1 * b)).le(x + b).select(x, -x),
    }
}
