//! ALiBi and its kin, and other biases of distances, against the papers' formulas.

use rhumb::ir::{Elem, Tensor};
use rhumb::plugins::schemes::alibi2d::Metric;
use rhumb::plugins::{Alibi, Alibi2d, AlibiForm, DynamicAlibi, Registry, Sandwich, Softcap};
use rhumb::testing::{Point, SchemeTest, Shape, TestFailure};

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

/// The nearest bfloat16, by its bits.
fn bf16(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    let rounded = bits + 0x7fff + (bits >> 16 & 1);
    f32::from_bits(rounded & 0xffff_0000).into()
}

#[test]
fn bfloat16_as_in_falcon() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let shapes: Vec<Shape> =
        [3, 8, 12, 71].map(|heads| Shape { heads, kv_heads: 1, head_dim: 16, queries: 2, keys: 700 }).to_vec();
    let falcon = |p: &Point<'_>, m: f64| bf16(bf16(m) * bf16(p.k_pos)) / 4.0;
    SchemeTest::new(&registry, || Alibi::falcon(16)).shapes(&shapes).agrees_with(with_slopes(falcon, slopes)).run()?;
    let relative = |p: &Point<'_>, m: f64| bf16(bf16(m) * bf16(p.k_pos - p.q_pos)) * 0.5;
    SchemeTest::new(&registry, || Alibi::new().scale(0.5).bf16())
        .shapes(&shapes)
        .agrees_with(with_slopes(relative, slopes))
        .run()
}

#[test]
fn distances_of_patches() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let cell = |index: i64| [index.div_euclid(3) as f64, index.rem_euclid(3) as f64];
    let apart = move |p: &Point<'_>| {
        let ([q_y, q_x], [k_y, k_x]) = (cell(p.q_index), cell(p.k_index));
        [q_y - k_y, q_x - k_x]
    };
    let straight = move |p: &Point<'_>, m: f64| -m * apart(p)[0].hypot(apart(p)[1]);
    SchemeTest::new(&registry, || Alibi2d::grid(3))
        .agrees_with(with_slopes(straight, slopes))
        .shift_invariant()
        .run()?;
    let city = move |p: &Point<'_>, m: f64| -2.0 * m * (apart(p)[0].abs() + apart(p)[1].abs());
    SchemeTest::new(&registry, || Alibi2d::grid(3).metric(Metric::Manhattan).scale(2.0))
        .agrees_with(with_slopes(city, slopes))
        .run()?;
    // Coordinates of one's own, between whole numbers.
    let at = |place: usize, first: f64| (place as f64 + first).sin() * 40.0;
    let given = move |p: &Point<'_>, _: f64| {
        -0.5 * (at(p.query, 0.0) - at(p.key, 2.0)).hypot(at(p.query, 1.0) - at(p.key, 3.0))
    };
    let queries = |first: f64| {
        move |shape: &Shape| Tensor::f32([shape.queries], (0..shape.queries).map(|i| at(i, first)).collect::<Vec<_>>())
    };
    let keys = |first: f64| {
        move |shape: &Shape| Tensor::f32([shape.keys], (0..shape.keys).map(|i| at(i, first)).collect::<Vec<_>>())
    };
    SchemeTest::with_inputs(&registry, |cx| {
        let (q, k) = (|name| cx.input(name, Elem::F32, [cx.q]), |name| cx.input(name, Elem::F32, [cx.k]));
        let slopes = cx.input("slopes", Elem::F32, [cx.h]);
        Alibi2d::at(q("q_y"), q("q_x"), k("k_y"), k("k_x")).slopes_value(slopes)
    })
    .input("q_y", queries(0.0))
    .input("q_x", queries(1.0))
    .input("k_y", keys(2.0))
    .input("k_x", keys(3.0))
    .input("slopes", |shape| Tensor::f32([shape.heads as usize], vec![0.5; shape.heads as usize]))
    .agrees_with(with_slopes(given, slopes))
    .run()
}

#[test]
fn sums_of_cosines() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (waves, base) in [(128, 1e4), (2, 1e4), (10, 100.0)] {
        SchemeTest::new(&registry, || Sandwich::new().waves(waves).base(base))
            .agrees_with(|p| {
                let wave = |i: u32| ((p.q_pos - p.k_pos) / base.powf(2.0 * f64::from(i) / f64::from(waves))).cos();
                let sum: f64 = (0..waves / 2).map(wave).sum();
                p.score() + sum * f64::from(p.heads) / (8.0 * f64::from(p.head + 1))
            })
            .shift_invariant()
            .run()?;
    }
    Ok(())
}

#[test]
fn scores_within_bounds() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || Softcap::new(0.5))
        .agrees_with(|p| (p.score() / 0.5).tanh() * 0.5)
        .shift_invariant()
        .run()
}
