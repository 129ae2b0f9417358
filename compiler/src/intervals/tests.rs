//! Intervals hold what ops make of the numbers in them, as constants fold and as single precision rounds it.

use rhumb_ir::{Binary, Compare, Elem, Unary};

use super::Interval;
use crate::rewrite::constants::{binary, compare, unary};
use crate::rewrite::language::Number;

const REALS: [f64; 11] = [f64::NEG_INFINITY, -3e38, -2.5, -1.0, -0.0, 0.0, 1e-30, 0.75, 3.0, 100.0, f64::INFINITY];
const INTEGERS: [f64; 8] = [i32::MIN as f64, -7.0, -1.0, 0.0, 1.0, 5.0, 64.0, i32::MAX as f64];

const BINARIES: [Binary; 8] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Mod, Binary::Min, Binary::Max, Binary::Pow];

const COMPARES: [Compare; 6] = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];

/// Intervals between numbers of a list, with the numbers in them.
fn intervals(list: &[f64]) -> Vec<(Interval, Vec<f64>)> {
    let mut all = Vec::new();
    for low in 0..list.len() {
        for high in low..list.len() {
            all.push((Interval::new(list[low], list[high]), list[low..=high].to_vec()));
        }
    }
    all
}

fn number(elem: Elem, x: f64) -> Number {
    if elem == Elem::I32 { Number::I32(x as i32) } else { Number::real(x) }
}

#[track_caller]
fn check(what: &str, interval: Interval, result: Number) {
    let exact = result.scalar().as_f64();
    for x in [exact, if matches!(result, Number::F32(_)) { f64::from(exact as f32) } else { exact }] {
        let inside = if x.is_nan() { interval.nan } else { interval.lo <= x && x <= interval.hi };
        assert!(inside, "{what} gives {x}, not in {interval:?}");
    }
}

#[test]
fn ops_of_one_operand_stay_inside() {
    for (elem, list) in [(Elem::F32, &REALS[..]), (Elem::I32, &INTEGERS[..])] {
        for (interval, numbers) in intervals(list) {
            for op in Unary::ALL {
                let result = interval.unary(op, elem);
                for x in &numbers {
                    if let Some(made) = unary(op, number(elem, *x)) {
                        check(&format!("{} {x} of {interval:?}", op.name()), result, made);
                    }
                }
            }
        }
    }
}

#[test]
fn ops_of_two_operands_stay_inside() {
    for (elem, list) in [(Elem::F32, &REALS[..]), (Elem::I32, &INTEGERS[..])] {
        let all = intervals(list);
        for ((a, of_a), (b, of_b)) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            for op in BINARIES {
                let result = a.binary(op, *b, elem);
                for (x, y) in of_a.iter().flat_map(|x| of_b.iter().map(move |y| (*x, *y))) {
                    if let Some(made) = binary(op, number(elem, x), number(elem, y)) {
                        check(&format!("{} {x} {y} of {a:?} and {b:?}", op.name()), result, made);
                    }
                }
            }
            for op in COMPARES {
                let result = a.compare(op, *b);
                for (x, y) in of_a.iter().flat_map(|x| of_b.iter().map(move |y| (*x, *y))) {
                    check(&format!("{} {x} {y}", op.name()), result, Number::Bool(compare(op, x, y)));
                }
            }
        }
    }
}

/// That an interval says no more than results of which some are at its ends: up to rounding, and NaN only if there is one.
#[track_caller]
fn check_tight(what: &str, interval: Interval, results: &[f64]) {
    let least = Interval::around(results.iter().copied());
    let near = |a: f64, b: f64| {
        let great = |x: f64| x.abs() > 3.3e38;
        a == b || (a - b).abs() <= 1e-6 * b.abs() + 1e-37 || (great(a) && great(b) && a.signum() == b.signum())
    };
    let tight = near(interval.lo, least.lo) && near(interval.hi, least.hi) && interval.nan == least.nan;
    assert!(tight, "{what}: {interval:?}, where {least:?} is all there is");
}

#[test]
fn intervals_of_one_operand_are_no_wider_than_they_must_be() {
    for (elem, list) in [(Elem::F32, &REALS[..]), (Elem::I32, &INTEGERS[1..7])] {
        for (interval, numbers) in intervals(list) {
            for op in [Unary::Neg, Unary::Abs, Unary::Floor, Unary::Ceil, Unary::Sqrt, Unary::Exp, Unary::Exp2]
                .into_iter()
                .chain([Unary::Log, Unary::Log2, Unary::Tanh, Unary::Erf, Unary::Round, Unary::Atan])
            {
                let made: Option<Vec<Number>> = numbers.iter().map(|x| unary(op, number(elem, *x))).collect();
                let Some(made) = made else { continue };
                let mut results: Vec<f64> = made.iter().map(|x| x.scalar().as_f64()).collect();
                match op {
                    // Numbers on both sides of 0 have it between them; roots and logarithms of what is below 0 count as those of 0.
                    Unary::Abs if interval.lo < 0.0 && interval.hi > 0.0 => results.push(0.0),
                    Unary::Sqrt if interval.lo < 0.0 => results.push(0.0),
                    Unary::Log | Unary::Log2 if interval.lo < 0.0 => results.push(f64::NEG_INFINITY),
                    _ => {}
                }
                check_tight(&format!("{} of {interval:?}", op.name()), interval.unary(op, elem), &results);
            }
        }
    }
    let waves = |interval: Interval| [Unary::Sin, Unary::Cos].map(|op| interval.unary(op, Elem::F32));
    assert_eq!(waves(Interval::new(-2.0, 3e38)), [Interval::new(-1.0, 1.0); 2]);
    for wide in [Interval::new(f64::NEG_INFINITY, 0.0), Interval::new(0.0, f64::INFINITY)] {
        assert_eq!(waves(wide), [Interval { nan: true, ..Interval::new(-1.0, 1.0) }; 2]);
    }
    assert_eq!(Interval::new(-2.0, 3.0).unary(Unary::Sigmoid, Elem::F32), Interval::new(0.0, 1.0));
    let arc = Interval::new(-2.0, 0.5).unary(Unary::Acos, Elem::F32);
    assert!(
        arc.nan && (arc.lo - 0.5f64.acos()).abs() < 1e-6 && (arc.hi - std::f64::consts::PI).abs() < 1e-6,
        "{arc:?}"
    );
    assert!(!Interval::new(-1.0, 1.0).unary(Unary::Acos, Elem::F32).nan);
    let bool = |lo: f64, hi: f64| Interval::new(lo, hi).unary(Unary::Not, Elem::Bool);
    let (no, yes, either) = (Interval::point(0.0), Interval::point(1.0), Interval::of(Elem::Bool));
    assert_eq!([bool(0.0, 0.0), bool(1.0, 1.0), bool(0.0, 1.0)], [yes, no, either]);
}

#[test]
fn intervals_of_two_operands_are_no_wider_than_they_must_be() {
    for (elem, list) in [(Elem::F32, &REALS[..]), (Elem::I32, &INTEGERS[1..7])] {
        let all = intervals(list);
        for ((a, of_a), (b, of_b)) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            let pairs: Vec<(f64, f64)> = of_a.iter().flat_map(|x| of_b.iter().map(move |y| (*x, *y))).collect();
            let divided = b.lo > 0.0 || b.hi < 0.0;
            for op in BINARIES {
                match op {
                    Binary::Mod | Binary::Pow => continue,
                    Binary::Div if !divided => continue,
                    _ => {}
                }
                let made = pairs.iter().map(|(x, y)| binary(op, number(elem, *x), number(elem, *y)));
                let made: Option<Vec<Number>> = made.collect();
                let Some(made) = made else { continue };
                let mut results: Vec<f64> = made.iter().map(|x| x.scalar().as_f64()).collect();
                if op == Binary::Mul || op == Binary::Div {
                    // 0 times infinity counts as 0 beside the NaN that it makes.
                    let nan = results.iter().any(|x| x.is_nan());
                    results.extend(nan.then_some(0.0));
                }
                let what = format!("{} of {a:?} and {b:?}", op.name());
                let found = a.binary(op, *b, elem);
                if results.iter().any(|x| x.is_nan()) && matches!(op, Binary::Add | Binary::Sub | Binary::Div) {
                    assert!(found.nan, "{what}: {found:?}");
                } else {
                    check_tight(&what, found, &results);
                }
            }
            for op in COMPARES {
                let results: Vec<f64> = pairs.iter().map(|(x, y)| f64::from(u8::from(compare(op, *x, *y)))).collect();
                // Ends that are equal are told apart from those that are not; what lies between decides nothing else.
                check_tight(&format!("{} of {a:?} and {b:?}", op.name()), a.compare(op, *b), &results);
            }
        }
    }
}

#[test]
fn ends_of_what_types_hold_are_told() {
    const EXACT: f64 = 16_777_216.0;
    let exact = |lo: f64, hi: f64| Interval::new(lo, hi).is_exact_in_f32();
    assert_eq!([exact(-EXACT, EXACT), exact(-EXACT - 1.0, 0.0), exact(0.0, EXACT + 1.0)], [true, false, false]);
    let (low, high) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let fits = |lo: f64, hi: f64| Interval::new(lo, hi).fits_i32();
    assert_eq!([fits(low, high), fits(low - 1.0, 0.0), fits(0.0, high + 1.0)], [true, false, false]);
    let most = f64::from(f32::MAX);
    let finite = |lo: f64, hi: f64| Interval::new(lo, hi).is_finite();
    assert_eq!([finite(-most, most), finite(-2.0 * most, 0.0), finite(0.0, 2.0 * most)], [true, false, false]);
    let point = |lo: f64, hi: f64| Interval::new(lo, hi).is_point(2.0);
    assert_eq!([point(2.0, 2.0), point(1.0, 2.0), point(2.0, 3.0)], [true, false, false]);
    let nan = Interval { nan: true, ..Interval::point(2.0) };
    assert!(!nan.is_exact_in_f32() && !nan.fits_i32() && !nan.is_finite() && !nan.is_point(2.0));
    // Both must allow NaN for what both say to; ends that cross are kept.
    let (a, b) = (Interval::new(0.0, 2.0), Interval { nan: true, ..Interval::new(1.0, 3.0) });
    assert_eq!([a.meet(b), b.meet(b)], [Interval::new(1.0, 2.0), b]);
    assert_eq!(Interval::point(1.0).meet(Interval::point(2.0)), Interval::new(1.0, 2.0));
    // What may wrap is any integer.
    assert_eq!(Interval::new(0.0, high + 1.0).rounded(Elem::I32), Interval::new(low, high));
    let cast = |lo: f64, hi: f64| Interval::new(lo, hi).cast(Elem::I32);
    assert_eq!([cast(-2.7, 2.7), cast(-1e30, 1e30)], [Interval::new(-2.0, 2.0), Interval::new(low, high)]);
    assert_eq!(Interval { nan: true, ..Interval::new(3.0, 5.0) }.cast(Elem::I32), Interval::new(0.0, 5.0));
}

#[test]
fn nan_is_told() {
    let nan = Interval::around([1.0, f64::NAN, -2.0]);
    assert_eq!(nan, Interval { lo: -2.0, hi: 1.0, nan: true });
    assert_eq!(nan.hull(Interval::point(3.0)), Interval { lo: -2.0, hi: 3.0, nan: true });
    assert_eq!(nan.compare(Compare::Lt, Interval::point(5.0)), Interval::of(Elem::Bool));
    assert_eq!(Interval::around([]), Interval::point(0.0));
    assert!(Interval::point(f64::NAN).nan);
    assert_eq!(nan.cast(Elem::I32), Interval::new(-2.0, 1.0));
}

#[test]
fn nan_of_an_operand_is_nan_of_the_result() {
    let (clean, nan) = (Interval::new(1.0, 2.0), Interval { nan: true, ..Interval::new(1.0, 2.0) });
    for op in BINARIES {
        for (a, b) in [(nan, clean), (clean, nan), (nan, nan)] {
            assert!(a.binary(op, b, Elem::F32).nan, "{}", op.name());
        }
        // Of remainders nothing is known.
        assert_eq!(clean.binary(op, clean, Elem::F32).nan, op == Binary::Mod, "{}", op.name());
    }
    for op in Unary::ALL.into_iter().filter(|op| *op != Unary::Not) {
        assert!(nan.unary(op, Elem::F32).nan, "{}", op.name());
        // There is no angle whose cosine is above 1.
        assert_eq!(clean.unary(op, Elem::F32).nan, op == Unary::Acos, "{}", op.name());
    }
}

#[test]
fn powers_are_known_where_no_pole_is() {
    let pow =
        |a: (f64, f64), b: (f64, f64)| Interval::new(a.0, a.1).binary(Binary::Pow, Interval::new(b.0, b.1), Elem::F32);
    for (a, b, low, high) in [
        ((1.0, 2.0), (3.0, 3.0), 1.0, 8.0),
        ((0.5, 2.0), (-1.0, 2.0), 0.25, 4.0),
        ((0.0, 2.0), (0.0, 2.0), 0.0, 4.0),
        ((0.0, 4.0), (0.5, 0.5), 0.0, 2.0),
    ] {
        let found = pow(a, b);
        let near = (found.lo - low).abs() < 1e-3 && (found.hi - high).abs() < 1e-3;
        assert!(near && found.lo <= low && found.hi >= high && !found.nan, "{a:?} to the {b:?}: {found:?}");
    }
    for (a, b) in [((0.0, 2.0), (-1.0, 2.0)), ((-1.0, 2.0), (2.0, 2.0)), ((1.0, 2.0), (0.0, f64::INFINITY))] {
        assert_eq!(pow(a, b), Interval::ANY, "{a:?} to the {b:?}");
    }
}

#[test]
fn squares_are_of_one_number() {
    for (elem, list) in [(Elem::F32, &REALS[..]), (Elem::I32, &INTEGERS[..])] {
        for (interval, numbers) in intervals(list) {
            let square = interval.square().rounded(elem);
            for x in numbers {
                if let Some(made) = binary(Binary::Mul, number(elem, x), number(elem, x)) {
                    check(&format!("the square of {x} of {interval:?}"), square, made);
                }
            }
        }
    }
    assert_eq!(Interval::new(-3.0, 2.0).square(), Interval::new(0.0, 9.0));
    assert_eq!(Interval::new(-3.0, -2.0).square(), Interval::new(4.0, 9.0));
    assert!(!Interval::new(0.0, f64::INFINITY).square().nan);
}

#[test]
fn remainders_are_exact_within_one_turn() {
    let sixteen = Interval::point(16.0);
    assert_eq!(Interval::new(33.0, 40.0).binary(Binary::Mod, sixteen, Elem::I32), Interval::new(1.0, 8.0));
    assert_eq!(Interval::new(30.0, 40.0).binary(Binary::Mod, sixteen, Elem::I32), Interval::new(0.0, 15.0));
    assert_eq!(Interval::new(-40.0, 40.0).binary(Binary::Div, sixteen, Elem::I32), Interval::new(-3.0, 2.0));
    // By 0 a quotient is 0, which those by 1 and more need not have between them.
    for by in [Interval::new(0.0, 3.0), Interval::new(-3.0, 0.0)] {
        assert_eq!(sixteen.binary(Binary::Div, by, Elem::I32), Interval::of(Elem::I32));
    }
}

/// Kernels compute a power by logarithm: the more the exponent, the more of its error.
#[test]
fn powers_have_room_for_their_errors() {
    let near_one = 1.0 + f64::from(f32::EPSILON);
    for (base, exponent) in [(3.0, 30.0), (1e-30, 1.2), (near_one, 1e6), (near_one, -1e6)] {
        let interval = Interval::point(base).binary(Binary::Pow, Interval::point(exponent), Elem::F32);
        for off in [-2e-7, 2e-7] {
            let made = ((base.log2() + off) * exponent).exp2();
            assert!(interval.lo <= made && made <= interval.hi, "{base}^{exponent}: {made}, not in {interval:?}");
        }
    }
    assert_eq!(Interval::new(0.0, 2.0).binary(Binary::Pow, Interval::ANY, Elem::F32), Interval::ANY);
}
