//! Softmax and log-sum-exp: powers of 2, and invariance under a shift that is the same for all keys.

use crate::rewrite::FloatClass::Reassociating;
use crate::rewrite::Theory::Softmax;
use crate::rewrite::conditions::{finite, free};
use crate::rewrite::rule::{Rule, rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let t = Softmax;
    vec![
        // e^x = 2^(x log2(e)), in the sink too.
        rule(t, Reassociating, "softmax-base",        "(softmax ?x ?k none e)",                    "(softmax (* ?x log2e) ?k none two)",                 []),
        rule(t, Reassociating, "softmax-base-sink",   "(softmax ?x ?k ?s e)",                      "(softmax (* ?x log2e) ?k (* ?s log2e) two)",         []),
        // lse(x) = ln(2) lse2(x log2(e)), in the sink too.
        rule(t, Reassociating, "lse-base",            "(logsumexp ?x ?k none e)",                  "(* (logsumexp (* ?x log2e) ?k none two) ln2)",       []),
        rule(t, Reassociating, "lse-base-sink",       "(logsumexp ?x ?k ?s e)",                    "(* (logsumexp (* ?x log2e) ?k (* ?s log2e) two) ln2)", []),
        // softmax_k(x + f) = softmax_k(x), for a finite f free of k; through a mask too. A term of -inf hides the row, and stays.
        rule(t, Reassociating, "softmax-shift",       "(softmax (+ ?x ?f) ?k none ?base)",         "(softmax ?x ?k none ?base)",                         [free("?f", "?k"), finite("?f")]),
        rule(t, Reassociating, "softmax-shift-mask",  "(softmax (select ?m (+ ?x ?f) -inf) ?k none ?base)", "(softmax (select ?m ?x -inf) ?k none ?base)", [free("?f", "?k"), finite("?f")]),
        // lse_k(x + f) = lse_k(x) + f, for a finite f free of k; through a mask too.
        rule(t, Reassociating, "lse-shift",           "(logsumexp (+ ?x ?f) ?k none ?base)",       "(+ (logsumexp ?x ?k none ?base) ?f)",                [free("?f", "?k"), finite("?f")]),
        rule(t, Reassociating, "lse-shift-mask",      "(logsumexp (select ?m (+ ?x ?f) -inf) ?k none ?base)", "(+ (logsumexp (select ?m ?x -inf) ?k none ?base) ?f)", [free("?f", "?k"), finite("?f")]),
    ]
}
