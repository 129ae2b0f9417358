//! Rotations `R(t) x` of pairs along a dimension.

use crate::rewrite::FloatClass::{Exact, FiniteOnly, Reassociating};
use crate::rewrite::Theory::Rotation;
use crate::rewrite::conditions::{angle_within, finite, free, query_side, within, zero};
use crate::rewrite::rule::{Rule, rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let t = Rotation;
    vec![
        // R(0) x = x
        rule(t, FiniteOnly,    "rotate-zero",  "(rotate ?x ?a ?d ?p ?r)",                               "?x",                                         [zero("?a")]).downgrade_if(Exact, finite("?x")),
        // R(b) R(a) x = R(a + b) x, of one rotary block.
        rule(t, FiniteOnly,    "rotate-twice", "(rotate (rotate ?x ?a ?d ?p ?r) ?b ?d ?p ?r)",          "(rotate ?x (+ ?a ?b) ?d ?p ?r)",             []),
        // (R(a) x) c = R(a) (x c)
        rule(t, FiniteOnly,    "rotate-scale", "(* (rotate ?x ?a ?d ?p ?r) ?c)",                        "(rotate (* ?x ?c) ?a ?d ?p ?r)",             [free("?c", "?d"), within("?c", "?x")]).downgrade_if(Reassociating, finite("?c")),
        // R(a) x . R(b) y = R(a - b) x . y, where b varies over no axis that x does not have: never one rotation per (query, key) pair.
        rule(t, FiniteOnly,    "rotate-both",  "(dot (rotate ?x ?a ?d ?p ?r) (rotate ?y ?b ?d ?p ?r) ?d)", "(dot (rotate ?x (- ?a ?b) ?d ?p ?r) ?y ?d)", [angle_within("?b", "?p", "?x"), query_side("?x")]),
    ]
}
