use rhumb_ir::{Binary, Compare, Unary};
use rhumb_random::Rng;

use super::approx::{Approx, Precision, compare, int_binary, logical};
use super::units::{U, gamma};

/// Of either sign and many magnitudes.
fn number(rng: &mut Rng) -> f64 {
    let sign = if rng.one_in(2) { -1.0 } else { 1.0 };
    sign * (40.0 * rng.unit() - 30.0).exp2()
}

/// A number and one of single precision within its error.
fn pair(rng: &mut Rng, x: f64) -> (Approx, f32) {
    let e = if rng.unit() < 0.3 { 0.0 } else { x.abs() * (-20.0 * rng.unit()).exp2() / 4.0 };
    let near = (x + e * (2.0 * rng.unit() - 1.0) * 0.9) as f32;
    if e == 0.0 {
        return (Approx::exact(f64::from(near)), near);
    }
    (Approx { x, e: e + U * x.abs() }, near)
}

#[track_caller]
fn holds(what: &str, bound: Approx, found: f32) {
    let off = (f64::from(found) - bound.x).abs();
    let held = bound.e == f64::INFINITY || off <= bound.e || (found.is_nan() && bound.x.is_nan());
    assert!(held, "{what}: {found:e} is not within {bound:?}");
}

#[test]
fn single_precision_stays_within_ops_of_two_operands() {
    let rng = &mut Rng::new(1);
    let single = Precision::Single;
    for _ in 0..20_000 {
        let (x, y) = (number(rng), number(rng));
        let ((a, near_a), (b, near_b)) = (pair(rng, x), pair(rng, y));
        let what = format!("{a:?}, {b:?} as {near_a:e}, {near_b:e}");
        holds(&what, single.binary(Binary::Add, a, b), near_a + near_b);
        holds(&what, single.binary(Binary::Sub, a, b), near_a - near_b);
        holds(&what, single.binary(Binary::Mul, a, b), near_a * near_b);
        holds(&what, single.binary(Binary::Div, a, b), near_a / near_b);
        holds(&what, single.binary(Binary::Min, a, b), near_a.min(near_b));
        holds(&what, single.binary(Binary::Max, a, b), near_a.max(near_b));
        let turns = (near_a / near_b).floor();
        holds(&what, single.binary(Binary::Mod, a, b), near_a - near_b * turns);
        let less = compare(Compare::Lt, a, b);
        assert!(less.e == 1.0 || (less.x == 1.0) == (near_a < near_b), "{what}");
    }
}

#[test]
fn single_precision_stays_within_functions() {
    let rng = &mut Rng::new(2);
    for _ in 0..20_000 {
        let x = number(rng);
        let (a, near) = pair(rng, x);
        let wide = f64::from(near);
        for op in Unary::ALL.into_iter().filter(|op| *op != Unary::Not) {
            let found = op.real()(wide);
            holds(&format!("{op:?} of {a:?} as {near:e}"), Precision::Single.unary(op, a), found as f32);
        }
        let (b, exponent) = pair(rng, x.rem_euclid(3.0));
        let power = (f64::from(exponent) * wide.abs().log2()).exp2();
        let of = Precision::Single.unary(Unary::Abs, a);
        holds(&format!("{of:?} to {b:?}"), Precision::Single.binary(Binary::Pow, of, b), power as f32);
    }
}

#[test]
fn bounds_are_near_what_single_precision_does() {
    let single = Precision::Single;
    let third = single.read(Approx::exact(1.0 / 3.0));
    assert!(third.e > 0.0 && third.e < 1.01 * U / 3.0);
    let sum = single.binary(Binary::Add, third, third);
    assert!(sum.e < 1.01 * (2.0 * third.e + U * 2.0 / 3.0));
    // What single precision holds is exact.
    let (a, b) = (Approx::exact(0.75), Approx::exact(1024.0));
    assert_eq!(single.binary(Binary::Sub, a, b), Approx::exact(-1023.25));
    assert!(gamma(10.0) > 10.0 * U && gamma(10.0) < 10.01 * U);
}

#[test]
fn infinities_nan_and_overflow_are_told_apart() {
    let (single, inf) = (Precision::Single, Approx::exact(f64::INFINITY));
    let low = single.binary(Binary::Mul, Approx::exact(f64::from(f32::MIN)), Approx::exact(1.5));
    assert!(low.is_low() && single.binary(Binary::Add, low, Approx { x: 3.0, e: 1.0 }).is_low());
    assert_eq!(single.unary(Unary::Exp2, low).x, 0.0);
    let high = single.binary(Binary::Mul, Approx::exact(f64::from(f32::MAX)), Approx::exact(1.5));
    assert!(!high.is_low() && high.e == f64::INFINITY);
    let about_zero = Approx { x: 0.0, e: 1.0 };
    assert_eq!(single.binary(Binary::Add, inf, about_zero), inf);
    assert_eq!(single.binary(Binary::Mul, inf, about_zero).e, f64::INFINITY);
    assert_eq!(single.binary(Binary::Div, Approx::exact(1.0), about_zero).e, f64::INFINITY);
    assert_eq!(single.unary(Unary::Log, Approx::exact(0.0)), inf.neg());
    assert_eq!(single.unary(Unary::Log, about_zero).e, f64::INFINITY);
    assert_eq!(single.unary(Unary::Exp, inf.neg()), Approx::exact(0.0));
    let nan = single.binary(Binary::Sub, inf, inf);
    assert!(nan.x.is_nan() && nan.is_exact());
    // What is not taken does not matter, what may be taken does.
    assert_eq!(Approx::exact(1.0).select(about_zero, nan), about_zero);
    assert_eq!(Approx { x: 1.0, e: 1.0 }.select(about_zero, nan).e, f64::INFINITY);
    assert_eq!(Approx { x: 1.0, e: 1.0 }.select(about_zero, Approx { x: 3.0, e: 0.5 }), Approx { x: 0.0, e: 3.5 });
}

#[test]
fn integers_and_truth_values_are_exact_unless_told() {
    let (a, b) = (Approx::exact(f64::from(i32::MAX)), Approx::exact(2.0));
    assert_eq!(int_binary(Binary::Add, a, b), Approx::exact(f64::from(i32::MIN + 1)));
    assert_eq!(int_binary(Binary::Div, Approx::exact(-1.0), b), Approx::exact(-1.0));
    assert_eq!(int_binary(Binary::Mod, Approx::exact(-1.0), b), Approx::exact(1.0));
    let about = Approx { x: 5.0, e: 1.0 };
    assert_eq!(int_binary(Binary::Mul, about, b), Approx { x: 10.0, e: 2.0 });
    let [no, perhaps] = [Approx::exact(0.0), Approx { x: 1.0, e: 1.0 }];
    assert_eq!(logical(Binary::And, no, perhaps), no);
    assert_eq!(logical(Binary::Or, no, perhaps), perhaps);
    assert_eq!(compare(Compare::Ge, about, Approx::exact(3.0)), Approx::exact(1.0));
    assert_eq!(compare(Compare::Ge, about, Approx::exact(5.5)).e, 1.0);
}
