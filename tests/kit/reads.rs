//! What the kit gives schemes and formulas, and that it tells positions, indices and sequences apart.

use std::cell::RefCell;

use rhumb::ir::{Elem, Expr, Hook, Tensor};
use rhumb::plugins::{PrefixLm, Registry, SchemeContext};
use rhumb::testing::{Finding, Pair, Point, Positions, SchemeTest, Shape};

use super::by::{BY, By, Score};
use super::{finding, one_target};

const SMALL: [Shape; 2] = [
    Shape { heads: 3, kv_heads: 3, head_dim: 8, queries: 5, keys: 5 },
    Shape { heads: 4, kv_heads: 2, head_dim: 16, queries: 3, keys: 5 },
];

#[test]
fn points_are_what_the_interpreter_is_given() {
    let seen = RefCell::new(Vec::new());
    let numbers = RefCell::new(Vec::new());
    SchemeTest::new(None, || BY)
        .shapes(&SMALL[1..])
        .targets(&one_target())
        .agrees_with(|p| {
            seen.borrow_mut().push((p.batch, p.head, p.query, p.key, p.q_index, p.k_index, p.q_pos, p.k_pos));
            numbers.borrow_mut().extend(p.q.iter().chain(p.k).copied());
            assert_eq!((p.heads, p.length, p.scale), (4, 5, 0.25));
            assert_eq!((p.q.len(), p.k.len()), (16, 16));
            assert_eq!(p.score(), 0.25 * p.q.iter().zip(p.k).map(|(q, k)| q * k).sum::<f64>());
            assert_eq!((p.masked(true), p.masked(false)), (p.score(), f64::NEG_INFINITY));
            p.score()
        })
        .run()
        .expect("it is the plain score");
    let mut expected = Vec::new();
    for positions in [Positions::Given, Positions::Indices] {
        for batch in 0..2 {
            let position = |index: i64| match positions {
                Positions::Indices => index as f64,
                Positions::Given => (if batch == 0 { 3 * index + 5 } else { 7 - 4 * index }) as f64,
            };
            for head in 0..4 {
                for (query, key) in (0..3).flat_map(|query| (0..5).map(move |key| (query, key))) {
                    let (q_index, k_index) = (query as i64 + 2, key as i64);
                    expected.push((batch, head, query, key, q_index, k_index, position(q_index), position(k_index)));
                }
            }
        }
    }
    assert_eq!(*seen.borrow(), expected);
    // Of either sign, up to 1, and about 0 in the mean.
    let numbers = numbers.into_inner();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let [least, most] = [f64::min, f64::max].map(|of| numbers.iter().copied().fold(0.0, of));
    assert!(mean.abs() < 0.1 && (-1.0..-0.9).contains(&least) && (0.9..1.0).contains(&most), "{mean} {least} {most}");
}

#[test]
fn scores_may_differ_by_rounding_alone() {
    // A factor may be off by 1e-9 of itself and of 1: of scores near 0 by as much as of 1, of greater ones by more.
    let off = |by: f64, size: f64| {
        let score: Score = if size == 0.0 { |_, score| score * 0.0 } else { |_, score| score * 0.0 + 1e6 };
        let test = SchemeTest::new(None, move || By { score, ..BY }).shapes(&SMALL).targets(&one_target());
        test.agrees_with(move |_| size + by).run().is_ok()
    };
    assert_eq!([0.5e-9, 2e-9].map(|by| off(by, 0.0)), [true, false]);
    assert_eq!([0.5e-3, 2e-3].map(|by| off(by, 1e6)), [true, false]);
    assert!(!off(f64::NAN, 0.0) && !off(f64::INFINITY, 0.0));
}

#[test]
fn scores_that_a_shift_moves_are_found_in_either_direction() {
    let claimed = |score| SchemeTest::new(None, move || By { score, ..BY }).shapes(&SMALL).shift_invariant();
    let invariant = claimed(|cx, score| score - (cx.q_pos() - cx.k_pos()).abs() * 0.5);
    invariant.targets(&one_target()).run().expect("it is invariant");
    // Positions of these shapes lie from -9 to 17.
    let far: [(i32, Score); 4] = [
        (1, |cx, score| score + cx.k_pos()),
        (37, |cx, score| (cx.k_pos().gt(25) & cx.k_pos().lt(1000)).select(score + 1.0, score)),
        (4096, |cx, score| cx.k_pos().gt(1000).select(score + 1.0, score)),
        (-12, |cx, score| cx.k_pos().lt(-15).select(score + 1.0, score)),
    ];
    for (shift, score) in far {
        let found = finding(&claimed(score));
        assert!(matches!(found, Finding::Shift { shift: at, .. } if at == shift), "{shift}: {found}");
    }
}

/// Slopes of twelve heads are tried at twelve heads, and at shapes of one's own as they are.
#[test]
fn heads_are_as_many_as_a_list_needs() {
    let slopes: Vec<f64> = (1..=12).map(|h| 0.125 * f64::from(h)).collect();
    let heads = RefCell::new(Vec::new());
    let test = || rhumb::plugins::Alibi::new().slopes(slopes.clone());
    let registry = Registry::standard();
    SchemeTest::new(&registry, test)
        .targets(&one_target())
        .agrees_with(|p| {
            heads.borrow_mut().push(p.heads);
            p.score() + slopes[p.head as usize] * (p.k_pos - p.q_pos)
        })
        .run()
        .expect("it is the formula");
    assert!(heads.borrow().iter().all(|heads| *heads == 12) && !heads.borrow().is_empty());
    let found = finding(&SchemeTest::new(&registry, test).shapes(&SMALL));
    assert!(matches!(found, Finding::Check(_)), "{found}");
}

fn check(scheme: By, reference: fn(&Point<'_>) -> f64) -> Result<(), Finding> {
    let test = SchemeTest::new(None, move || scheme).targets(&one_target()).agrees_with(reference);
    test.run().map_err(|failure| *failure.finding)
}

/// The first is right, the others take indices for positions.
#[test]
fn the_kit_finds_biases_that_read_indices() {
    let forms: [for<'g> fn(&SchemeContext<'g>, Expr<'g>) -> Expr<'g>; 4] = [
        |cx, score| score - 0.5 * (cx.q_pos() - cx.k_pos()).abs(),
        |cx, score| score - 0.5 * (cx.q_index() - cx.k_pos()).abs(),
        |cx, score| score - 0.5 * (cx.q_pos() - cx.k_index()).abs(),
        |cx, score| score - 0.5 * (cx.q_index() - cx.k_index()).abs(),
    ];
    let found = forms
        .map(|score| check(By { hooks: &[Hook::Score], score, ..BY }, |p| p.score() - 0.5 * (p.q_pos - p.k_pos).abs()));
    assert!(found[0].is_ok(), "{found:?}");
    assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{found:?}");
}

/// The first is right, the others take indices for positions.
#[test]
fn the_kit_finds_rotations_that_read_indices() {
    let forms: [for<'g> fn(&SchemeContext<'g>, Hook) -> Expr<'g>; 4] = [
        BY.turn,
        |cx, hook| if hook == Hook::Query { cx.q_index() } else { cx.k_pos() },
        |cx, hook| if hook == Hook::Query { cx.q_pos() } else { cx.k_index() },
        |cx, hook| if hook == Hook::Query { cx.q_index() } else { cx.k_index() },
    ];
    let found = forms.map(|turn| {
        check(By { hooks: &[Hook::Query, Hook::Key], turn, ..BY }, |p| {
            let theta = [1.0, 0.1, 0.01, 0.001];
            p.rotated((0..4).map(|j| (j, j + 4, p.q_pos * theta[j], p.k_pos * theta[j])))
        })
    });
    assert!(found[0].is_ok(), "{found:?}");
    assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{found:?}");
}

/// The first of each is right, the others take positions for indices.
#[test]
fn the_kit_finds_masks_that_read_positions() {
    type Mask = for<'g> fn(&SchemeContext<'g>) -> Expr<'g>;
    type Sees = fn(&Point<'_>) -> f64;
    let causal: [Mask; 4] = [
        |cx| cx.k_index().le(cx.q_index()),
        |cx| cx.k_pos().le(cx.q_index()),
        |cx| cx.k_index().le(cx.q_pos()),
        |cx| cx.k_pos().le(cx.q_pos()),
    ];
    let near: [Mask; 2] = [|cx| (cx.q_index() - cx.k_index()).abs().le(2), |cx| (cx.q_pos() - cx.k_pos()).abs().le(2)];
    let prefix: [Mask; 2] = [|cx| cx.k_index().lt(4), |cx| cx.k_pos().lt(4)];
    let parity: [Mask; 2] =
        [|cx| ((cx.q_index() - cx.k_index()) % 2).eq(0), |cx| ((cx.q_pos() - cx.k_pos()) % 2).eq(0)];
    let cases: [(&[Mask], Sees); 4] = [
        (&causal, |p| p.masked(p.k_index <= p.q_index)),
        (&near, |p| p.masked((p.q_index - p.k_index).abs() <= 2)),
        (&prefix, |p| p.masked(p.k_index < 4)),
        (&parity, |p| p.masked((p.q_index - p.k_index) % 2 == 0)),
    ];
    for (index, (forms, sees)) in cases.into_iter().enumerate() {
        let found: Vec<_> =
            forms.iter().map(|mask| check(By { hooks: &[Hook::Mask], mask: *mask, ..BY }, sees)).collect();
        assert!(found[0].is_ok(), "{index}: {found:?}");
        assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{index}: {found:?}");
    }
}

/// What varies over the batch has one number per sequence.
#[test]
fn the_kit_tells_sequences_apart() {
    let registry = Registry::standard();
    let test = SchemeTest::with_inputs(&registry, |cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))
        .input("prefix", |_| Tensor::i32([2], [1, 6]))
        .agrees_with(|p| p.masked(p.k_index < 1 || p.k_index <= p.q_index));
    let found = finding(&test);
    assert!(matches!(found, Finding::Score { pair: Pair { batch: 1, .. }, .. }), "{found}");
}
