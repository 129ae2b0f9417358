//! Masks: `select(m, x, -inf)` moves outward and merges with others, and so does `select(m, x, 0)` of weights without a softmax, conjunctions put what runs in a small space together, and
//! comparisons end up between a query-only and a key-only value, which tiles can be classified by.

use crate::rewrite::FloatClass::{Exact, FiniteOnly, Reassociating};
use crate::rewrite::Theory::Mask;
use crate::rewrite::conditions::{
    after, both_query_side, finite, hoists, no_wrap_minuend, no_wrap_subtrahend, one, truth, whole, zero,
};
use crate::rewrite::rule::{Rule, rule};

/// Four ways to bring `a - b` compared with `c` into the form query-only against key-only: the sum that arises is the query's.
macro_rules! isolate {
    ($name:literal, $op:literal, $mirror:literal) => {
        [
            minuend(
                concat!("isolate-", $name, "-minuend"),
                concat!("(", $op, " (- ?a ?b) ?c)"),
                concat!("(", $op, " ?a (+ ?b ?c))"),
            ),
            subtrahend(
                concat!("isolate-", $name, "-subtrahend"),
                concat!("(", $op, " (- ?a ?b) ?c)"),
                concat!("(", $mirror, " ?b (- ?a ?c))"),
            ),
            minuend(
                concat!("isolate-", $name, "-minuend-right"),
                concat!("(", $op, " ?c (- ?a ?b))"),
                concat!("(", $mirror, " ?a (+ ?b ?c))"),
            ),
            subtrahend(
                concat!("isolate-", $name, "-subtrahend-right"),
                concat!("(", $op, " ?c (- ?a ?b))"),
                concat!("(", $op, " ?b (- ?a ?c))"),
            ),
        ]
    };
}

/// `a - b < c` becomes `a < b + c`, where the sum runs in a smaller space and is the same for all keys.
fn minuend(name: &'static str, lhs: &'static str, rhs: &'static str) -> Rule {
    rule(Mask, Reassociating, name, lhs, rhs, [whole("?a"), hoists("?b", "?c"), both_query_side("?b", "?c")])
        .downgrade_if(Exact, no_wrap_minuend("?a", "?b", "?c"))
}

/// `a - b < c` becomes `b > a - c`, where the difference runs in a smaller space and is the same for all keys.
fn subtrahend(name: &'static str, lhs: &'static str, rhs: &'static str) -> Rule {
    rule(Mask, Reassociating, name, lhs, rhs, [whole("?a"), hoists("?a", "?c"), both_query_side("?a", "?c")])
        .downgrade_if(Exact, no_wrap_subtrahend("?a", "?b", "?c"))
}

/// The rules of masks.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = choices();
    rules.extend(conditions());
    // a - b < c becomes a < b + c or b > a - c, and so for the other comparisons.
    rules.extend(isolate!("less", "<", ">"));
    rules.extend(isolate!("less-equal", "<=", ">="));
    rules.extend(isolate!("greater", ">", "<"));
    rules.extend(isolate!("greater-equal", ">=", "<="));
    rules.extend(isolate!("equal", "==", "=="));
    rules.extend(isolate!("different", "!=", "!="));
    rules
}

/// Of choices that masks make.
#[rustfmt::skip]
fn choices() -> Vec<Rule> {
    let t = Mask;
    vec![
        // select(m, select(n, x, y), y) = select(m and n, x, y)
        rule(t, Exact,      "mask-merge",        "(select ?m (select ?n ?x ?y) ?y)", "(select (and ?m ?n) ?x ?y)",     []),
        // select(m, x, -inf) + f = select(m, x + f, -inf)
        rule(t, FiniteOnly, "mask-outward",      "(+ (select ?m ?x -inf) ?f)",       "(select ?m (+ ?x ?f) -inf)",     []).downgrade_if(Exact, finite("?f")),
        rule(t, FiniteOnly, "mask-outward-left", "(+ ?f (select ?m ?x -inf))",       "(select ?m (+ ?f ?x) -inf)",     []).downgrade_if(Exact, finite("?f")),
        // f(select(m, x, -inf)) = select(m, f(x), 0), where f(-inf) = 0.
        rule(t, Exact,      "mask-sigmoid",      "(sigmoid (select ?m ?x -inf))",     "(select ?m (sigmoid ?x) 0.0)",   []),
        rule(t, Exact,      "mask-exp2",         "(exp2 (select ?m ?x -inf))",        "(select ?m (exp2 ?x) 0.0)",      []),
        rule(t, Exact,      "mask-exp",          "(exp (select ?m ?x -inf))",         "(select ?m (exp ?x) 0.0)",       []),
        rule(t, Exact,      "mask-max",          "(max (select ?m ?x -inf) ?z)",      "(select ?m (max ?x ?z) 0.0)",    [zero("?z")]),
        // select(m, x, 0) f = select(m, x f, 0)
        rule(t, FiniteOnly, "mask-factor",       "(* (select ?m ?x 0.0) ?f)",         "(select ?m (* ?x ?f) 0.0)",      []).downgrade_if(Exact, finite("?f")),
        rule(t, FiniteOnly, "mask-factor-left",  "(* ?f (select ?m ?x 0.0))",         "(select ?m (* ?f ?x) 0.0)",      []).downgrade_if(Exact, finite("?f")),
        // x m = select(m, x, 0), for a truth value m.
        rule(t, FiniteOnly, "mask-truth",        "(* ?x (f32 ?m))",                   "(select ?m ?x 0.0)",             [truth("?m")]).downgrade_if(Exact, finite("?x")),
        rule(t, FiniteOnly, "mask-truth-left",   "(* (f32 ?m) ?x)",                   "(select ?m ?x 0.0)",             [truth("?m")]).downgrade_if(Exact, finite("?x")),
        // select(m, x, 0) . m = select(m, x, 0) . 1 over keys, for a truth value m.
        rule(t, Exact,      "mask-row-sum",      "(dot (select ?m ?x 0.0) (f32 ?m) ?k)", "(dot (select ?m ?x 0.0) (f32 (>= (iota ?k) 0i)) ?k)", [truth("?m")]),
        // select(true, x, y) = x, select(false, x, y) = y, select(m, x, x) = x
        rule(t, Exact,      "select-true",       "(select ?m ?x ?y)",                "?x",                             [one("?m")]),
        rule(t, Exact,      "select-false",      "(select ?m ?x ?y)",                "?y",                             [zero("?m")]),
        rule(t, Exact,      "select-same",       "(select ?m ?x ?x)",                "?x",                             []),
    ]
}

/// Of the conditions themselves.
#[rustfmt::skip]
fn conditions() -> Vec<Rule> {
    let t = Mask;
    vec![
        // a and b = b and a, where b leads in the canonical order.
        rule(t, Exact,      "and-commute",       "(and ?a ?b)",                      "(and ?b ?a)",                    [after("?a", "?b")]),
        // a and (b and c) = (a and b) and c
        rule(t, Exact,      "and-left",          "(and ?a (and ?b ?c))",             "(and (and ?a ?b) ?c)",           []),
        // (a and b) and c = (a and c) and b, where c leads in the canonical order.
        rule(t, Exact,      "and-sort",          "(and (and ?a ?b) ?c)",             "(and (and ?a ?c) ?b)",           [after("?b", "?c")]),
        // (a and b) and c = a and (b and c), where b and c runs in a smaller space.
        rule(t, Exact,      "and-hoist",         "(and (and ?a ?b) ?c)",             "(and ?a (and ?b ?c))",           [hoists("?b", "?c")]),
        // a and true = a, a and false = false, a and a = a
        rule(t, Exact,      "and-true",          "(and ?a ?b)",                      "?a",                             [one("?b")]),
        rule(t, Exact,      "true-and",          "(and ?a ?b)",                      "?b",                             [one("?a")]),
        rule(t, Exact,      "and-false",         "(and ?a ?b)",                      "?b",                             [zero("?b")]),
        rule(t, Exact,      "and-same",          "(and ?a ?a)",                      "?a",                             []),
        // (a and b) and a = a and b, (a or b) and a = a
        rule(t, Exact,      "and-absorb-first",  "(and (and ?a ?b) ?a)",             "(and ?a ?b)",                    []),
        rule(t, Exact,      "and-absorb-second", "(and (and ?a ?b) ?b)",             "(and ?a ?b)",                    []),
        rule(t, Exact,      "and-absorb-left",   "(and ?a (and ?b ?a))",             "(and ?b ?a)",                    []),
        rule(t, Exact,      "or-absorb-first",   "(and (or ?a ?b) ?a)",              "?a",                             []),
        rule(t, Exact,      "or-absorb-second",  "(and (or ?a ?b) ?b)",              "?b",                             []),
        // a or false = a, a or true = true, a or a = a
        rule(t, Exact,      "or-false",          "(or ?a ?b)",                       "?a",                             [zero("?b")]),
        rule(t, Exact,      "false-or",          "(or ?a ?b)",                       "?b",                             [zero("?a")]),
        rule(t, Exact,      "or-true",           "(or ?a ?b)",                       "?b",                             [one("?b")]),
        rule(t, Exact,      "or-same",           "(or ?a ?a)",                       "?a",                             []),
        // not not a = a, and the opposite of each comparison: of floats, NaN is neither less nor not less.
        rule(t, Exact,      "not-not",           "(not (not ?a))",                   "?a",                             []),
        rule(t, Exact,      "not-less",          "(not (< ?a ?b))",                  "(>= ?a ?b)",                     [whole("?a")]),
        rule(t, Exact,      "not-less-equal",    "(not (<= ?a ?b))",                 "(> ?a ?b)",                      [whole("?a")]),
        rule(t, Exact,      "not-greater",       "(not (> ?a ?b))",                  "(<= ?a ?b)",                     [whole("?a")]),
        rule(t, Exact,      "not-greater-equal", "(not (>= ?a ?b))",                 "(< ?a ?b)",                      [whole("?a")]),
        rule(t, Exact,      "not-equal",         "(not (== ?a ?b))",                 "(!= ?a ?b)",                     []),
        rule(t, Exact,      "not-different",     "(not (!= ?a ?b))",                 "(== ?a ?b)",                     []),
        // |x| < w where x < w and x > -w
        rule(t, Reassociating, "window-open",    "(< (abs ?x) ?w)",                  "(and (< ?x ?w) (> ?x (neg ?w)))",   [whole("?x")]),
        rule(t, Reassociating, "window-closed",  "(<= (abs ?x) ?w)",                 "(and (<= ?x ?w) (>= ?x (neg ?w)))", [whole("?x")]),
    ]
}
