//! Factors moved to where they cost least: into the query, onto the table of a gather, past a mask.

use crate::rewrite::FloatClass::{Exact, FiniteOnly, Reassociating};
use crate::rewrite::Theory::Scaling;
use crate::rewrite::conditions::{
    constant, finite, free, key_side, positive, query_side, scores_or_one_spans, shrinks, sums_keys, within,
};
use crate::rewrite::rule::{Rule, rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let t = Scaling;
    vec![
        // (a . b) c = (a c) . b, onto the operand that is the same for all keys: keys are read in their own layout.
        rule(t, FiniteOnly,    "dot-scale-first",  "(* (dot ?a ?b ?d) ?c)",    "(dot (* ?a ?c) ?b ?d)",    [free("?c", "?d"), within("?c", "?a"), query_side("?a")]).downgrade_if(Reassociating, finite("?c")),
        rule(t, FiniteOnly,    "dot-scale-second", "(* (dot ?a ?b ?d) ?c)",    "(dot ?a (* ?b ?c) ?d)",    [free("?c", "?d"), within("?c", "?b"), query_side("?b"), key_side("?a")]).downgrade_if(Reassociating, finite("?c")),
        // a . (b c) = (a c) . b, where b varies over keys and a does not.
        rule(t, Reassociating, "dot-unscale-key",  "(dot ?a (* ?b ?c) ?d)",    "(dot (* ?a ?c) ?b ?d)",    [free("?c", "?d"), within("?c", "?a"), query_side("?a"), key_side("?b")]),
        // a . (b c) = (a . b) c, where b and c vary over keys: a factor of whole keys, such as the scale of a quantised cache, goes onto
        // the scores where there are fewer of these than elements of keys.
        rule(t, FiniteOnly,    "dot-descale-second", "(dot ?a (* ?b ?c) ?d)",  "(* (dot ?a ?b ?d) ?c)",    [free("?c", "?d"), key_side("?c"), key_side("?b"), query_side("?a"), shrinks("?b", "?c")]),
        rule(t, FiniteOnly,    "dot-descale-first",  "(dot (* ?b ?c) ?a ?d)",  "(* (dot ?b ?a ?d) ?c)",    [free("?c", "?d"), key_side("?c"), key_side("?b"), query_side("?a"), shrinks("?b", "?c")]),
        // (w c) . v = (w . v) c over keys, where c is made of another sum over keys: of the weights' own, both are made in one pass then.
        rule(t, FiniteOnly,    "dot-normalise",      "(dot (* ?w ?c) ?v ?k)", "(* (dot ?w ?v ?k) ?c)",    [free("?c", "?k"), key_side("?w"), sums_keys("?c")]),
        rule(t, FiniteOnly,    "dot-normalise-mask", "(dot (select ?m (* ?w ?c) 0.0) ?v ?k)", "(* (dot (select ?m ?w 0.0) ?v ?k) ?c)", [free("?c", "?k"), key_side("?w"), sums_keys("?c")]),
        // (a + b) c = a c + b c, for a constant c and a sum that varies over keys: the score's own factor then reaches the query. Not
        // of two smaller spaces, but for scores.
        rule(t, Reassociating, "scale-sum",        "(* (+ ?a ?b) ?c)",         "(+ (* ?a ?c) (* ?b ?c))",  [constant("?c"), finite("?c"), key_side("?a"), scores_or_one_spans("?a", "?b")]),
        rule(t, Reassociating, "scale-difference", "(* (- ?a ?b) ?c)",         "(- (* ?a ?c) (* ?b ?c))",  [constant("?c"), finite("?c"), key_side("?a"), scores_or_one_spans("?a", "?b")]),
        // t[i] c = (t c)[i]
        rule(t, Exact,         "gather-scale",     "(* (gather ?t ?n ?i) ?c)", "(gather (* ?t ?c) ?n ?i)", [free("?c", "?n"), within("?c", "?t"), finite("?c")]),
        // select(m, x, -inf) c = select(m, x c, -inf), for c > 0.
        rule(t, Exact,         "mask-scale",       "(* (select ?m ?x -inf) ?c)", "(select ?m (* ?x ?c) -inf)", [positive("?c")]),
    ]
}
