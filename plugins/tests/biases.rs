//! ALiBi and its forms against the papers' formulas.

use rhumb_ir::{Elem, Tensor};
use rhumb_plugins::testing::{Point, SchemeTest, Shape, TestFailure};
use rhumb_plugins::{Alibi, AlibiForm, DynamicAlibi, Registry};

/// The paper's own recursion, as its code states it.
fn slopes(heads: u32) -> Vec<f64> {
    if heads.is_power_of_two() {
        let start = 2f64.powf(-(2f64.powf(-(f64::from(heads).log2() - 3.0))));
        return (0..heads).map(|i| start * start.powi(i as i32)).collect();
    }
    let below = 1 << heads.ilog2();
    let mut list = slopes(below);
    list.extend(slopes(2 * below).into_iter().step_by(2).take((heads - below) as usize));
    list
}

/// MPT's recipe: of the power of two above, the odd ones, then the even ones.
fn mpt_slopes(heads: u32, bias_max: f64) -> Vec<f64> {
    let whole = heads.next_power_of_two();
    let all: Vec<f64> = (1..=whole).map(|i| 2f64.powf(-f64::from(i) * bias_max / f64::from(whole))).collect();
    if whole == heads {
        return all;
    }
    let odd = all.iter().skip(1).step_by(2);
    odd.chain(all.iter().step_by(2)).copied().take(heads as usize).collect()
}

#[test]
fn slopes_are_official_for_every_head_count() {
    for heads in 1..=40 {
        let (found, expected) = (Alibi::official_slopes(heads), slopes(heads));
        assert_eq!(found.len(), heads as usize);
        for (h, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-14, "head {h} of {heads}: {found}, expected {expected}");
        }
    }
    assert_eq!(Alibi::official_slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    assert!(Alibi::official_slopes(0).is_empty());
}

fn with_slopes(forms: impl Fn(&Point<'_>, f64) -> f64, list: impl Fn(u32) -> Vec<f64>) -> impl Fn(&Point<'_>) -> f64 {
    move |p| p.score() + forms(p, list(p.heads)[p.head as usize])
}

#[test]
fn every_form() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let relative = with_slopes(|p, m| m * (p.k_pos - p.q_pos), slopes);
    SchemeTest::new(&registry, Alibi::new).agrees_with(relative).shift_invariant().run()?;
    let symmetric = with_slopes(|p, m| -m * (p.k_pos - p.q_pos).abs(), slopes);
    SchemeTest::new(&registry, || Alibi::new().symmetric()).agrees_with(symmetric).shift_invariant().run()?;
    let key = with_slopes(|p, m| m * p.k_pos, slopes);
    SchemeTest::new(&registry, || Alibi::new().form(AlibiForm::Key)).agrees_with(key).run()?;
    let last = with_slopes(|p, m| m * (p.k_pos - (p.length as f64 - 1.0)), slopes);
    SchemeTest::new(&registry, || Alibi::new().form(AlibiForm::Last)).agrees_with(last).run()
}

#[test]
fn slopes_of_ones_own() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let mpt = with_slopes(|p, m| m * (p.k_pos - p.q_pos), |heads| mpt_slopes(heads, 16.0));
    SchemeTest::new(&registry, || Alibi::new().bias_max(16.0)).agrees_with(mpt).run()?;
    let shapes = [Shape { heads: 3, kv_heads: 1, head_dim: 5, queries: 4, keys: 6 }];
    let list = |_| vec![1.0, -0.5, 0.0];
    SchemeTest::new(&registry, || Alibi::new().slopes([1.0, -0.5, 0.0]).scale(0.25))
        .shapes(&shapes)
        .agrees_with(with_slopes(|p, m| 0.25 * m * (p.k_pos - p.q_pos), list))
        .run()?;
    SchemeTest::with_inputs(&registry, |cx| Alibi::new().scale(2.0).slopes_value(cx.input("slopes", Elem::F32, [cx.h])))
        .shapes(&shapes)
        .input("slopes", |_| Tensor::f32([3], [1.0, -0.5, 0.0]))
        .agrees_with(with_slopes(|p, m| 2.0 * m * (p.k_pos - p.q_pos), list))
        .run()
}

#[test]
fn dynamic_slopes() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for train in [1, 6, 9, 500] {
        let flat = move |p: &Point<'_>, m: f64| {
            let factor = (f64::from(train) / p.length as f64).min(1.0);
            factor * m * (p.k_pos - p.q_pos)
        };
        SchemeTest::new(&registry, || DynamicAlibi::new(train)).agrees_with(with_slopes(flat, slopes)).run()?;
    }
    let fixed = with_slopes(|p, m| 0.25 * m * -(p.k_pos - p.q_pos).abs(), slopes);
    SchemeTest::new(&registry, || DynamicAlibi::new(8).length(32).alibi(Alibi::new().symmetric()))
        .agrees_with(&fixed)
        .shift_invariant()
        .run()?;
    SchemeTest::with_inputs(&registry, |cx| {
        DynamicAlibi::new(8).length(cx.input("n", Elem::I32, [])).alibi(Alibi::new().symmetric())
    })
    .input("n", |_| Tensor::i32([], [32]))
    .agrees_with(&fixed)
    .run()
}
