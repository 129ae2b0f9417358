//! Sums, products, negation and conversion.
//!
//! Canonical order: the terms of a sum, and the factors of a product, stand by falling [`after`] rank, nested to the left. What varies
//! over keys comes first, so the terms that are the same for all keys are the outermost, where softmax can drop them.

use crate::rewrite::FloatClass::{Exact, FiniteOnly, Reassociating};
use crate::rewrite::Theory::Arithmetic;
use crate::rewrite::conditions::{
    after, constant, exact_sum, finite, hoists, in_score, invertible, negatable, one, real, smaller, whole, zero,
};
use crate::rewrite::rule::{Rule, rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let t = Arithmetic;
    vec![
        // a + b = b + a, where b leads in the canonical order.
        rule(t, Exact,         "add-commute",    "(+ ?a ?b)",            "(+ ?b ?a)",                 [after("?a", "?b")]),
        // a + (b + c) = (a + b) + c
        rule(t, Reassociating, "add-left",       "(+ ?a (+ ?b ?c))",     "(+ (+ ?a ?b) ?c)",          []).downgrade_if(Exact, whole("?a")),
        // (a + b) + c = (a + c) + b, where c leads in the canonical order.
        rule(t, Reassociating, "add-sort",       "(+ (+ ?a ?b) ?c)",     "(+ (+ ?a ?c) ?b)",          [after("?b", "?c")]).downgrade_if(Exact, whole("?a")),
        // (a + b) + c = a + (b + c), where b + c runs in a smaller space.
        rule(t, Reassociating, "add-hoist",      "(+ (+ ?a ?b) ?c)",     "(+ ?a (+ ?b ?c))",          [hoists("?b", "?c")]).downgrade_if(Exact, whole("?a")),
        // a + 0 = a
        rule(t, Exact,         "add-zero",       "(+ ?a ?z)",            "?a",                        [zero("?z")]),
        // a - b = a + (-b), and back.
        rule(t, Exact,         "sub-to-add",     "(- ?a ?b)",            "(+ ?a (neg ?b))",           []),
        rule(t, Exact,         "add-to-sub",     "(+ ?a (neg ?b))",      "(- ?a ?b)",                 []),

        // -(-a) = a
        rule(t, Exact,         "neg-neg",        "(neg (neg ?a))",       "?a",                        []),
        // -(a + b) = (-a) + (-b), where each part runs in a smaller space.
        rule(t, Exact,         "neg-sum",        "(neg (+ ?a ?b))",      "(+ (neg ?a) (neg ?b))",     [smaller("?a"), smaller("?b")]),
        // -(a b) = a (-b), and (-a) b = a (-b): b is the factor of the smaller space.
        rule(t, Exact,         "neg-product",    "(neg (* ?a ?b))",      "(* ?a (neg ?b))",           []),
        rule(t, Exact,         "neg-factor",     "(* (neg ?a) ?b)",      "(* ?a (neg ?b))",           []),

        // a b = b a, where b leads in the canonical order.
        rule(t, Exact,         "mul-commute",    "(* ?a ?b)",            "(* ?b ?a)",                 [after("?a", "?b")]),
        // (a b) c = a (b c), where b c runs in a smaller space.
        rule(t, Reassociating, "mul-hoist",      "(* (* ?a ?b) ?c)",     "(* ?a (* ?b ?c))",          [hoists("?b", "?c")]).downgrade_if(Exact, whole("?a")),
        // (a b) c = (a c) b, where c leads in the canonical order.
        rule(t, Reassociating, "mul-sort",       "(* (* ?a ?b) ?c)",     "(* (* ?a ?c) ?b)",          [after("?b", "?c")]).downgrade_if(Exact, whole("?a")),
        // a 1 = a
        rule(t, Exact,         "mul-one",        "(* ?a ?o)",            "?a",                        [one("?o")]),
        // a 0 = 0
        rule(t, FiniteOnly,    "mul-zero",       "(* ?a ?z)",            "?z",                        [zero("?z")]).downgrade_if(Exact, finite("?a")),
        // (a + b) c = a c + b c, where each product runs in a smaller space, and in scores, whose terms of keys are kept in two parts.
        rule(t, FiniteOnly,    "distribute",     "(* (+ ?a ?b) ?c)",     "(+ (* ?a ?c) (* ?b ?c))",   [hoists("?a", "?c"), hoists("?b", "?c"), in_score()]).downgrade_if(Reassociating, finite("?c")).downgrade_if(Exact, whole("?a")),
        rule(t, FiniteOnly,    "distribute-sub", "(* (- ?a ?b) ?c)",     "(- (* ?a ?c) (* ?b ?c))",   [hoists("?a", "?c"), hoists("?b", "?c"), in_score()]).downgrade_if(Reassociating, finite("?c")).downgrade_if(Exact, whole("?a")),
        // c (a + b) = a c + b c, where each product runs in a smaller space.
        rule(t, FiniteOnly,    "distribute-left", "(* ?c (+ ?a ?b))",    "(+ (* ?a ?c) (* ?b ?c))",   [hoists("?a", "?c"), hoists("?b", "?c"), in_score()]).downgrade_if(Reassociating, finite("?c")).downgrade_if(Exact, whole("?a")),
        rule(t, FiniteOnly,    "distribute-left-sub", "(* ?c (- ?a ?b))", "(- (* ?a ?c) (* ?b ?c))",  [hoists("?a", "?c"), hoists("?b", "?c"), in_score()]).downgrade_if(Reassociating, finite("?c")).downgrade_if(Exact, whole("?a")),

        // a / c = a (1 / c), for a constant c.
        rule(t, Reassociating, "div-constant",   "(/ ?a ?c)",            "(* ?a (/ 1.0 ?c))",         [real("?a"), constant("?c"), invertible("?c"), smaller("?c")]),
        // a / b = a (1 / b), where 1 / b runs in a smaller space.
        rule(t, FiniteOnly,    "div-hoist",      "(/ ?a ?b)",            "(* ?a (/ 1.0 ?b))",         [real("?a"), smaller("?b")]),
        // a / 1 = a
        rule(t, Exact,         "div-one",        "(/ ?a ?o)",            "?a",                        [one("?o")]),

        // f32(a + b) = f32(a) + f32(b), where each part runs in a smaller space.
        rule(t, Reassociating, "cast-sum",       "(f32 (+ ?a ?b))",      "(+ (f32 ?a) (f32 ?b))",     [whole("?a"), smaller("?a"), smaller("?b")]).downgrade_if(Exact, exact_sum("?a", "?b")),
        // f32(-a) = -f32(a)
        rule(t, Reassociating, "cast-neg",       "(f32 (neg ?a))",       "(neg (f32 ?a))",            [whole("?a")]).downgrade_if(Exact, negatable("?a")),
    ]
}
