//! Intervals hold what ops make of the numbers in them, as constants fold and as single precision rounds it.

use rhumb_ir::{Binary, Compare, Elem, Unary};

use super::Interval;
use crate::rewrite::fold::{binary, compare, unary};
use crate::rewrite::language::Number;

const REALS: [f64; 10] = [f64::NEG_INFINITY, -3e38, -2.5, -1.0, -0.0, 1e-30, 0.75, 3.0, 100.0, f64::INFINITY];
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
fn remainders_are_exact_within_one_turn() {
    let sixteen = Interval::point(16.0);
    assert_eq!(Interval::new(33.0, 40.0).binary(Binary::Mod, sixteen, Elem::I32), Interval::new(1.0, 8.0));
    assert_eq!(Interval::new(30.0, 40.0).binary(Binary::Mod, sixteen, Elem::I32), Interval::new(0.0, 15.0));
    assert_eq!(Interval::new(-40.0, 40.0).binary(Binary::Div, sixteen, Elem::I32), Interval::new(-3.0, 2.0));
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
