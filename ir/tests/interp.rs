//! The reference interpreter against values computed by hand.
#![allow(missing_docs, reason = "tests")]

use rhumb_ir::{Bindings, Graph, InterpError, MAX_ELEMENTS, Tensor, Verified, interpret, interpret_value};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// A graph of these lines; `%y`, with the type given, is the output.
#[track_caller]
fn graph(lines: &str, ty: &str) -> Verified {
    let text = format!("graph test\n{lines}\noutput \"y\" = %y : {ty}");
    Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn bind<const N: usize>(tensors: [(&str, Tensor); N]) -> Bindings {
    tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

#[track_caller]
fn run<const N: usize>(lines: &str, ty: &str, tensors: [(&str, Tensor); N]) -> Vec<f64> {
    interpret(&graph(lines, ty), &bind(tensors)).unwrap_or_else(|error| panic!("{error}"))["y"].data.clone()
}

/// `found` is `expected` to within 1e-12, NaN for NaN.
#[track_caller]
fn near(found: &[f64], expected: &[f64]) {
    let same = |a: &f64, b: &f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * b.abs().max(1.0);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b)),
        "{found:?}\n{expected:?}"
    );
}

#[track_caller]
fn unary(op: &str, x: &[f64], expected: &[f64]) {
    let y = run(
        &format!("axis i = ?\n%x = input \"x\" : f32[i]\n%y = {op} %x"),
        "f32[i]",
        [("x", Tensor::f32([x.len()], x))],
    );
    near(&y, expected);
}

#[test]
fn unary_ops_of_reals() {
    use std::f64::consts::{E, FRAC_PI_2, LN_2, PI};
    unary("neg", &[1.5, -0.5, INF], &[-1.5, 0.5, -INF]);
    unary("abs", &[1.5, -0.5, -INF], &[1.5, 0.5, INF]);
    unary("floor", &[1.5, -1.5, 2.0], &[1.0, -2.0, 2.0]);
    unary("ceil", &[1.5, -1.5, 2.0], &[2.0, -1.0, 2.0]);
    unary("sqrt", &[4.0, 0.0, -1.0], &[2.0, 0.0, NAN]);
    unary("exp", &[0.0, 1.0, -INF], &[1.0, E, 0.0]);
    unary("exp2", &[0.0, -3.0, 10.0], &[1.0, 0.125, 1024.0]);
    unary("log", &[1.0, 2.0, 0.0, -1.0], &[0.0, LN_2, -INF, NAN]);
    unary("log2", &[1.0, 8.0, 0.0, -1.0], &[0.0, 3.0, -INF, NAN]);
    unary("sin", &[0.0, FRAC_PI_2, PI], &[0.0, 1.0, 0.0]);
    unary("cos", &[0.0, FRAC_PI_2, PI], &[1.0, 0.0, -1.0]);
    unary("round", &[1.5, 2.5, -0.5, 7.4, INF], &[2.0, 2.0, 0.0, 7.0, INF]);
    unary("atan", &[0.0, 1.0, -INF], &[0.0, FRAC_PI_2 / 2.0, -FRAC_PI_2]);
    unary("acos", &[1.0, 0.0, -1.0, 1.5, -INF], &[0.0, FRAC_PI_2, PI, NAN, NAN]);
    unary("tanh", &[0.0, INF, -INF, LN_2], &[0.0, 1.0, -1.0, 0.6]);
    unary("sigmoid", &[0.0, INF, -INF, LN_2], &[0.5, 1.0, 0.0, 2.0 / 3.0]);
}

#[track_caller]
fn binary(elem: &str, op: &str, a: &[f64], b: &[f64], out: &str, expected: &[f64]) {
    let tensor = |data: &[f64]| {
        let mut tensor = Tensor::f32([data.len()], data);
        tensor.elem = [rhumb_ir::Elem::F32, rhumb_ir::Elem::I32, rhumb_ir::Elem::Bool]
            .into_iter()
            .find(|e| e.name() == elem)
            .unwrap();
        tensor
    };
    let lines = format!("axis i = ?\n%a = input \"a\" : {elem}[i]\n%b = input \"b\" : {elem}[i]\n%y = {op} %a, %b");
    near(&run(&lines, &format!("{out}[i]"), [("a", tensor(a)), ("b", tensor(b))]), expected);
}

#[test]
fn binary_ops_of_reals() {
    let real = |op, a: &[f64], b: &[f64], expected: &[f64]| binary("f32", op, a, b, "f32", expected);
    real("add", &[1.0, INF], &[2.0, -INF], &[3.0, NAN]);
    real("sub", &[1.0, INF], &[2.5, INF], &[-1.5, NAN]);
    real("mul", &[3.0, 0.0], &[2.5, INF], &[7.5, NAN]);
    real("div", &[1.0, 1.0, 0.0], &[4.0, 0.0, 0.0], &[0.25, INF, NAN]);
    real("mod", &[5.5, -5.5, 5.5, -5.5, 6.0], &[2.0, 2.0, -2.0, -2.0, 2.0], &[1.5, 0.5, -0.5, -1.5, 0.0]);
    real("min", &[1.0, NAN, 3.0], &[2.0, 1.0, NAN], &[1.0, NAN, NAN]);
    real("max", &[1.0, NAN, 3.0], &[2.0, 1.0, NAN], &[2.0, NAN, NAN]);
    real(
        "pow",
        &[2.0, 9.0, 0.0, 0.0, -2.0, -2.0, NAN, 0.0],
        &[-3.0, 0.5, 0.0, 2.0, 2.0, 0.0, 0.0, -1.0],
        &[0.125, 3.0, 1.0, 0.0, NAN, 1.0, 1.0, INF],
    );
}

#[test]
fn binary_ops_of_integers_wrap_and_round_down() {
    let (min, max) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let int = |op, a: &[f64], b: &[f64], expected: &[f64]| binary("i32", op, a, b, "i32", expected);
    int("add", &[max, 1.0], &[1.0, 2.0], &[min, 3.0]);
    int("sub", &[min, 1.0], &[1.0, 2.0], &[max, -1.0]);
    int("mul", &[65536.0, 46341.0], &[65536.0, 46341.0], &[0.0, -2_147_479_015.0]);
    int(
        "div",
        &[7.0, -7.0, 7.0, -7.0, 5.0, min, -1.0],
        &[2.0, 2.0, -2.0, -2.0, 0.0, -1.0, 2.0],
        &[3.0, -4.0, -4.0, 3.0, 0.0, min, -1.0],
    );
    int(
        "mod",
        &[7.0, -7.0, 7.0, -7.0, 5.0, min],
        &[2.0, 2.0, -2.0, -2.0, 0.0, -1.0],
        &[1.0, 1.0, -1.0, -1.0, 0.0, 0.0],
    );
    int("min", &[7.0, min], &[2.0, max], &[2.0, min]);
    int("max", &[7.0, min], &[2.0, max], &[7.0, max]);
    let x = "axis i = ?\n%x = input \"x\" : i32[i]\n";
    let tensor = || Tensor::i32([3], [i32::MIN, -5, 7]);
    near(&run(&format!("{x}%y = neg %x"), "i32[i]", [("x", tensor())]), &[min, 5.0, -7.0]);
    near(&run(&format!("{x}%y = abs %x"), "i32[i]", [("x", tensor())]), &[min, 5.0, 7.0]);
}

#[test]
fn comparisons_and_logic() {
    let (a, b) = (&[1.0, 2.0, 3.0, NAN], &[2.0, 2.0, 2.0, NAN]);
    for (op, expected) in [
        ("eq", [0.0, 1.0, 0.0, 0.0]),
        ("ne", [1.0, 0.0, 1.0, 1.0]),
        ("lt", [1.0, 0.0, 0.0, 0.0]),
        ("le", [1.0, 1.0, 0.0, 0.0]),
        ("gt", [0.0, 0.0, 1.0, 0.0]),
        ("ge", [0.0, 1.0, 1.0, 0.0]),
    ] {
        binary("f32", op, a, b, "bool", &expected);
        binary("i32", op, &a[..3], &b[..3], "bool", &expected[..3]);
    }
    let (a, b) = (&[0.0, 0.0, 1.0, 1.0], &[0.0, 1.0, 0.0, 1.0]);
    binary("bool", "and", a, b, "bool", &[0.0, 0.0, 0.0, 1.0]);
    binary("bool", "or", a, b, "bool", &[0.0, 1.0, 1.0, 1.0]);
    let not = run(
        "axis i = ?\n%x = input \"x\" : bool[i]\n%y = not %x",
        "bool[i]",
        [("x", Tensor::bool([2], [true, false]))],
    );
    near(&not, &[0.0, 1.0]);
}

#[test]
fn casts() {
    let x = Tensor::f32([8], [1.9, -1.9, 3e9, -3e9, NAN, INF, -INF, -0.5]);
    let (min, max) = (f64::from(i32::MIN), f64::from(i32::MAX));
    let y = run("axis i = ?\n%x = input \"x\" : f32[i]\n%y = cast %x to i32", "i32[i]", [("x", x)]);
    near(&y, &[1.0, -1.0, max, min, 0.0, max, min, 0.0]);
    for (from, to) in [("i32", "f32"), ("bool", "i32"), ("bool", "f32"), ("bool", "bool")] {
        let x = if from == "i32" { Tensor::i32([2], [0, 1]) } else { Tensor::bool([2], [false, true]) };
        let lines = format!("axis i = ?\n%x = input \"x\" : {from}[i]\n%y = cast %x to {to}");
        near(&run(&lines, &format!("{to}[i]"), [("x", x)]), &[0.0, 1.0]);
    }
}

#[test]
fn select_ignores_what_it_does_not_take() {
    let y = run(
        "axis i = ?\naxis j = 2\n%c = input \"c\" : bool[i]\n%a = table [1.0, nan] : f32[j]\n%b = const -inf\n%y = select %c, %a, %b",
        "f32[j, i]",
        [("c", Tensor::bool([3], [true, false, true]))],
    );
    near(&y, &[1.0, -INF, 1.0, NAN, -INF, NAN]);
}

#[test]
fn leaves() {
    let x = || ("x", Tensor::f32([3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let lines = "axis i = ?\naxis j = 2\n%x = input \"x\" : f32[i, j]\n";
    // Outputs have their own order of dimensions.
    near(&run(&format!("{lines}%y = neg %x"), "f32[j, i]", [x()]), &[-1.0, -3.0, -5.0, -2.0, -4.0, -6.0]);
    near(&run(&format!("{lines}%y = iota i"), "i32[i]", [x()]), &[0.0, 1.0, 2.0]);
    near(&run(&format!("{lines}%y = size i"), "i32", [x()]), &[3.0]);
    near(&run(&format!("{lines}%y = size j"), "i32", [x()]), &[2.0]);
    near(&run(&format!("{lines}%y = const 0.1"), "f32", [x()]), &[0.1]);
    near(&run(&format!("{lines}%y = table [7, -8] : i32[j]"), "i32[j]", [x()]), &[7.0, -8.0]);
    // A table in an order of its own.
    let y = run("axis a = 2\naxis b = 3\n%y = table [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[b, a]", "f32[a, b]", []);
    near(&y, &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
}

#[test]
fn broadcasting_is_by_name() {
    let y = run(
        "axis i = 2\naxis j = 3\n%a = table [10.0, 20.0] : f32[i]\n%b = table [1.0, 2.0, 3.0] : f32[j]\n%y = add %b, %a",
        "f32[j, i]",
        [],
    );
    near(&y, &[11.0, 21.0, 12.0, 22.0, 13.0, 23.0]);
}

#[test]
fn a_finer_axis_reads_its_group() {
    let lines = "axis h = 4\naxis g = 2 groups h\naxis o = 1 groups h\n%a = table [1.0, 2.0, 3.0, 4.0] : f32[h]\n\
                 %b = table [10.0, 20.0] : f32[g]\n%c = table [100.0] : f32[o]\n";
    near(&run(&format!("{lines}%y = add %a, %b"), "f32[h]", []), &[11.0, 12.0, 23.0, 24.0]);
    near(&run(&format!("{lines}%bc = add %b, %c\n%y = add %bc, %a"), "f32[h]", []), &[111.0, 112.0, 123.0, 124.0]);
    // Two groupings side by side, without the finer axis.
    near(&run(&format!("{lines}%y = add %b, %c"), "f32[g, o]", []), &[110.0, 120.0]);
    // Indexed by the axis it groups: the index alone tells the group.
    let gather = format!("{lines}%i = table [1, 0, 0, 1] : i32[h]\n%y = gather %b over g at %i");
    near(&run(&gather, "f32[h]", []), &[20.0, 10.0, 10.0, 20.0]);
    // Contracted over groups.
    near(&run(&format!("{lines}%y = dot %b, %b over g"), "f32", []), &[500.0]);
}

#[test]
fn gather_clamps() {
    let lines =
        "axis i = ?\naxis n = ?\n%t = input \"t\" : f32[n]\n%i = input \"i\" : i32[i]\n%y = gather %t over n at %i";
    let index = || ("i", Tensor::i32([5], [-7, 0, 2, 3, i32::MAX]));
    near(&run(lines, "f32[i]", [("t", Tensor::f32([3], [5.0, 6.0, 7.0])), index()]), &[5.0, 5.0, 7.0, 7.0, 7.0]);
    near(&run(lines, "f32[i]", [("t", Tensor::f32([0], [])), index()]), &[0.0; 5]);
    // Along an axis that the index varies over itself: a permutation, here of the rows of a matrix.
    let lines = "axis n = 3\naxis m = 2\n%t = table [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[n, m]\n%i = table [2, 0, 1] : i32[n]\n\
                 %y = gather %t over n at %i";
    near(&run(lines, "f32[n, m]", []), &[5.0, 6.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn rotation_turns_pairs() {
    // Quarter turns: (a, b) becomes (-b, a). The second pair stands still.
    let lines = |pairing: &str| {
        format!(
            "axis d = 6\naxis j = 2\n%x = table [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] : f32[d]\n\
             %t = table [1.5707963267948966, 0.0] : f32[j]\n%y = rotate %x over d by %t over j {pairing}"
        )
    };
    near(&run(&lines("half"), "f32[d]", []), &[-2.0, 1.0, 0.0, 3.0, 4.0, 5.0]);
    near(&run(&lines("half from 2"), "f32[d]", []), &[0.0, 1.0, -4.0, 3.0, 2.0, 5.0]);
    near(&run(&lines("interleaved"), "f32[d]", []), &[-1.0, 0.0, 2.0, 3.0, 4.0, 5.0]);
    near(&run(&lines("interleaved from 1"), "f32[d]", []), &[0.0, -2.0, 1.0, 3.0, 4.0, 5.0]);
    // An angle that varies over more than the operand.
    let y = run(
        "axis q = 2\naxis d = 2\naxis j = 1\n%x = table [3.0, 4.0] : f32[d]\n%t = table [0.0, 3.141592653589793] : f32[q, j]\n\
         %y = rotate %x over d by %t over j half",
        "f32[q, d]",
        [],
    );
    near(&y, &[3.0, 4.0, -3.0, -4.0]);
}

#[test]
fn dot_sums_products() {
    let lines = "axis q = ?\naxis k = ?\naxis d = ?\n%a = input \"a\" : f32[q, d]\n%b = input \"b\" : f32[k, d]\n%y = dot %a, %b over d";
    let a = || ("a", Tensor::f32([2, 2], [1.0, 2.0, 3.0, 4.0]));
    let b = || ("b", Tensor::f32([3, 2], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]));
    near(&run(lines, "f32[q, k]", [a(), b()]), &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
    // The contracted axis outermost in both.
    let across = lines.replace("[q, d]", "[d, q]").replace("[k, d]", "[d, k]");
    let b = ("b", Tensor::f32([2, 3], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]));
    near(&run(&across, "f32[q, k]", [a(), b]), &[1.0, 3.0, 4.0, 2.0, 4.0, 6.0]);
    // Nothing to sum.
    let empty = [("a", Tensor::f32([2, 0], [])), ("b", Tensor::f32([3, 0], []))];
    near(&run(lines, "f32[q, k]", empty), &[0.0; 6]);
}

#[test]
fn a_factor_of_zero_leaves_its_term_out() {
    for dims in ["[k, e]", "[e, k]"] {
        let lines = format!(
            "axis k = 3\naxis e = 1\n%p = input \"p\" : f32[k]\n%v = input \"v\" : f32{dims}\n%y = dot %p, %v over k"
        );
        let shape = if dims == "[k, e]" { [3, 1] } else { [1, 3] };
        let y = |p: [f64; 3], v: [f64; 3]| {
            run(&lines, "f32[e]", [("p", Tensor::f32([3], p)), ("v", Tensor::f32(shape, v))])
        };
        near(&y([0.5, 0.5, 0.0], [1.0, 2.0, NAN]), &[1.5]);
        near(&y([0.0, 0.5, 0.0], [INF, 2.0, -INF]), &[1.0]);
        near(&y([INF, 0.5, 0.5], [0.0, 2.0, 1.0]), &[1.5]);
        near(&y([0.5, 0.5, 0.0], [1.0, NAN, NAN]), &[NAN]);
        near(&y([0.5, 0.5, 0.0], [INF, -INF, NAN]), &[NAN]);
        near(&y([0.5, 0.5, 0.0], [INF, 1.0, NAN]), &[INF]);
    }
}

#[test]
fn softmax_and_logsumexp() {
    use std::f64::consts::LN_2;
    let two = |op: &str, base: &str, x: &[f64]| {
        let ty = if op == "softmax" { "f32[k]" } else { "f32" };
        let lines = format!("axis k = ?\n%x = input \"x\" : f32[k]\n%y = {op} %x over k{base}");
        run(&lines, ty, [("x", Tensor::f32([x.len()], x))])
    };
    near(&two("softmax", "", &[0.0, LN_2, -INF]), &[1.0 / 3.0, 2.0 / 3.0, 0.0]);
    near(&two("softmax", " base 2", &[0.0, 1.0, -INF]), &[1.0 / 3.0, 2.0 / 3.0, 0.0]);
    near(&two("softmax", "", &[1000.0, 1000.0]), &[0.5, 0.5]);
    near(&two("softmax", "", &[-INF, -INF]), &[0.0, 0.0]);
    near(&two("softmax", "", &[-INF, NAN]), &[NAN, NAN]);
    near(&two("softmax", "", &[0.0, INF]), &[NAN, NAN]);
    near(&two("softmax", "", &[]), &[]);
    near(&two("logsumexp", "", &[0.0, LN_2]), &[3f64.ln()]);
    near(&two("logsumexp", " base 2", &[1000.0, 1000.0]), &[1001.0]);
    near(&two("logsumexp", "", &[-INF, -INF]), &[-INF]);
    near(&two("logsumexp", "", &[]), &[-INF]);
    near(&two("logsumexp", "", &[NAN, 1.0]), &[NAN]);
    near(&two("logsumexp", "", &[INF, 1.0]), &[NAN]);
}

#[test]
fn a_sink_takes_part_in_the_sum_alone() {
    use std::f64::consts::LN_2;
    let lines = |op: &str| {
        format!(
            "axis h = 2\naxis k = ?\n%x = input \"x\" : f32[h, k]\n%s = input \"s\" : f32[h]\n%y = {op} %x over k sink %s"
        )
    };
    let tensors = |x: &[f64], s: [f64; 2]| [("x", Tensor::f32([2, x.len() / 2], x)), ("s", Tensor::f32([2], s))];
    let x = [0.0, LN_2, -INF, -INF];
    near(&run(&lines("softmax"), "f32[h, k]", tensors(&x, [0.0, 5.0])), &[0.25, 0.5, 0.0, 0.0]);
    near(&run(&lines("softmax"), "f32[h, k]", tensors(&x, [-INF, -INF])), &[1.0 / 3.0, 2.0 / 3.0, 0.0, 0.0]);
    near(&run(&lines("logsumexp"), "f32[h]", tensors(&x, [0.0, 5.0])), &[4f64.ln(), 5.0]);
    near(&run(&lines("logsumexp"), "f32[h]", tensors(&[], [3.0, -INF])), &[3.0, -INF]);
    // A sink with an axis of its own spreads the result over it.
    let wide = "axis h = 2\naxis k = 2\n%x = table [0.0, 0.0] : f32[k]\n%s = table [0.0, -inf] : f32[h]\n%y = softmax %x over k sink %s";
    near(&run(wide, "f32[h, k]", []), &[1.0 / 3.0, 1.0 / 3.0, 0.5, 0.5]);
}

#[test]
fn empty_axes_give_empty_values() {
    let lines = "axis q = ?\naxis k = ?\naxis d = 2\n%q = input \"q\" : f32[q, d]\n%k = input \"k\" : f32[k, d]\n\
                 %s = dot %q, %k over d\n%p = softmax %s over k\n%y = dot %p, %k over k";
    let none = || ("q", Tensor::f32([0, 2], []));
    let some = || Tensor::f32([3, 2], [1.0; 6]);
    near(&run(lines, "f32[q, d]", [none(), ("k", some())]), &[]);
    near(&run(lines, "f32[q, d]", [("q", some()), ("k", Tensor::f32([0, 2], []))]), &[0.0; 6]);
    near(&run(lines, "f32[q, d]", [none(), ("k", Tensor::f32([0, 2], []))]), &[]);
}

#[test]
fn values_between_can_be_asked_for() {
    let graph =
        graph("axis i = 2\n%x = table [1.0, 2.0] : f32[i]\n%z = exp2 %x\n%w = const 3.0\n%y = add %z, %w", "f32[i]");
    let named = |name: &str| {
        let index = graph.value_names().iter().position(|n| n == name).unwrap();
        graph.values().nth(index).unwrap()
    };
    let z = interpret_value(&graph, &Bindings::new(), named("z")).unwrap();
    assert_eq!((z.shape, z.data), (vec![2], vec![2.0, 4.0]));
    let w = interpret_value(&graph, &Bindings::new(), named("w")).unwrap();
    assert_eq!((w.shape, w.data), (vec![], vec![3.0]));
}

#[test]
fn errors_say_what_and_where() {
    const LINES: &str =
        "axis h = 2\naxis q = ?\naxis k = ?\naxis n = ?\n%x = input \"x\" : f32[h, q]\n%key = input \"key\" : i32[q]\n";
    let x = || ("x", Tensor::f32([2, 3], [0.0; 6]));
    let key = || ("key", Tensor::i32([3], [0; 3]));
    let plain = || graph(&format!("{LINES}%y = neg %x"), "f32[h, q]");
    let scheme = "%i = iota q\n%s = size q\nsite @0 {query = q, key = k, dim = h, q_pos = %i, k_pos = %s, q_index = %i, \
                  k_index = %s, length = %s}\n%y = scheme rope.query %x @0 {base = 10000.0}";
    let huge = format!("{LINES}axis m = 100000\naxis l = 2000\n%i = iota m\n%j = iota l\n%y = add %i, %j");
    let cases: [(Verified, Bindings); 14] = [
        (plain(), bind([x()])),
        (plain(), bind([x(), key(), ("kye", key().1)])),
        (plain(), bind([x(), key(), ("mask", key().1)])),
        (plain(), bind([x(), ("key", Tensor::f32([3], [0.0; 3]))])),
        (plain(), bind([x(), ("key", Tensor::i32([1, 3], [0; 3]))])),
        (plain(), bind([x(), ("key", Tensor::i32([3], [0; 2]))])),
        (plain(), bind([x(), ("key", Tensor::i32([usize::MAX, 3], [0; 2]))])),
        (plain(), bind([x(), ("key", Tensor { data: vec![0.0, 0.5, 1.0], ..key().1 })])),
        (plain(), bind([("x", Tensor::f32([3, 3], [0.0; 9])), key()])),
        (plain(), bind([x(), ("key", Tensor::i32([4], [0; 4]))])),
        (
            graph("axis a = ?\naxis b = ?\n%x = input \"x\" : f32[a, b]\n%y = neg %x", "f32[a, b]"),
            bind([("x", Tensor::f32([0, 1 << 31], []))]),
        ),
        (graph(&format!("{LINES}%y = iota n"), "i32[n]"), bind([x(), key()])),
        (graph(&huge, "i32[m, l]"), bind([x(), key()])),
        (graph(&format!("{LINES}{scheme}"), "f32[h, q]"), bind([x(), key()])),
    ];
    let report: Vec<String> =
        cases.iter().map(|(graph, bindings)| interpret(graph, bindings).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn a_value_of_another_graph_is_refused() {
    let (small, large) =
        (graph("%y = const 1.0", "f32"), graph("%a = const 1.0\n%b = const 1.0\n%c = add %a, %b\n%y = neg %c", "f32"));
    let error = interpret_value(&small, &Bindings::new(), large.outputs()[0].value).unwrap_err();
    assert_eq!(error, InterpError::NoSuchValue { index: 3, count: 1 });
}

#[test]
fn what_no_output_needs_is_not_computed() {
    // The dead value would be larger than allowed.
    let lines =
        format!("axis m = {MAX_ELEMENTS}\naxis n = 2\n%i = iota m\n%j = iota n\n%dead = add %i, %j\n%y = const 1.0");
    near(&run(&lines, "f32", []), &[1.0]);
}

/// Tensors of 16 bits hold some of the real numbers: inputs are these, outputs the nearest of them.
#[test]
fn tensors_of_16_bits() {
    use rhumb_ir::Elem::{Bf16, F16};
    let lines = "axis i = ?\n%x = input \"x\" : bf16[i]\n%c = const 1.0009765625\n%y = mul %x, %c";
    let tensor = |elem, data: &[f64]| Tensor { elem, shape: vec![data.len()], data: data.to_vec() };
    let x = [1.0, -3.0, 65280.0, 0.0, INF, NAN];
    near(&run(lines, "f32[i]", [("x", tensor(Bf16, &x))]), &x.map(|x| x * 1.0009765625));
    near(&run(lines, "bf16[i]", [("x", tensor(Bf16, &x))]), &x);
    near(&run(lines, "f16[i]", [("x", tensor(Bf16, &x))]), &[1.0009765625, -3.00390625, 65344.0, 0.0, INF, NAN]);
    let error = interpret(&graph(lines, "f16[i]"), &bind([("x", tensor(Bf16, &[0.1]))])).unwrap_err();
    assert!(matches!(error, InterpError::BadElement { index: 0, elem: Bf16, .. }), "{error}");
    let error = interpret(&graph(lines, "f16[i]"), &bind([("x", tensor(F16, &[1.0]))])).unwrap_err();
    assert!(matches!(error, InterpError::ElemMismatch { expected: Bf16, found: F16, .. }), "{error}");
}

/// Tensors of 8 bits: integers that are computed with in 32, and some of the real numbers.
#[test]
fn tensors_of_8_bits() {
    use rhumb_ir::Elem::{F8e4m3, I8};
    let lines = "axis i = ?\n%x = input \"x\" : i8[i]\n%y = mul %x, %x";
    let tensor = |elem, data: &[f64]| Tensor { elem, shape: vec![data.len()], data: data.to_vec() };
    near(&run(lines, "i32[i]", [("x", tensor(I8, &[-128.0, 127.0, 0.0]))]), &[16384.0, 16129.0, 0.0]);
    for bad in [128.0, -129.0, 0.5, NAN] {
        let error = interpret(&graph(lines, "i32[i]"), &bind([("x", tensor(I8, &[bad]))])).unwrap_err();
        assert!(matches!(error, InterpError::BadElement { index: 0, elem: I8, .. }), "{error}");
    }
    let lines = "axis i = ?\n%x = input \"x\" : f8e4m3[i]\n%y = mul %x, %x";
    near(
        &run(lines, "f32[i]", [("x", tensor(F8e4m3, &[448.0, -0.001953125, NAN]))]),
        &[200704.0, 0.000003814697265625, NAN],
    );
    let error = interpret(&graph(lines, "f32[i]"), &bind([("x", tensor(F8e4m3, &[INF]))])).unwrap_err();
    assert!(matches!(error, InterpError::BadElement { index: 0, elem: F8e4m3, .. }), "{error}");
}

/// Halfway to the even one, subnormal numbers by their own steps, past the greatest to infinity.
#[test]
fn rounding_to_16_bits() {
    use rhumb_ir::Elem::{Bf16, F16};
    let two = |exponent: i32| 2f64.powi(exponent);
    for (elem, digits, least, most) in [(F16, 10, -14, 65504.0), (Bf16, 7, -126, (2.0 - two(-7)) * two(127))] {
        let step = two(-digits);
        for sign in [1.0, -1.0] {
            for (x, expected) in [
                (1.0 + step, 1.0 + step),
                (1.0 + step / 2.0, 1.0),
                (1.0 + step * 0.5000001, 1.0 + step),
                (1.0 + step * 1.5, 1.0 + 2.0 * step),
                (2.0 - step / 2.0, 2.0),
                (two(least - digits), two(least - digits)),
                (two(least - digits) * 0.5, 0.0),
                (two(least - digits) * 1.5, two(least - digits) * 2.0),
                (two(least) * (1.0 - step / 4.0), two(least)),
                (most, most),
                (most * (1.0 + step / 4.1), most),
                (most * (1.0 + step / 2.0), INF),
                (1e300, INF),
                (1e-300, 0.0),
                (INF, INF),
            ] {
                assert_eq!(elem.rounded(sign * x), sign * expected, "{elem} of {x:e}");
            }
        }
        assert_eq!(
            [1.0, 1.0 + step * 0.01, -1.0 - step * 0.99, most * (1.0 + step / 100.0)].map(|x| elem.rounded_up(x)),
            [1.0, 1.0 + step, -1.0, INF]
        );
        assert_eq!(elem.rounded_up(two(least - digits) * 0.01), two(least - digits));
        assert!(elem.rounded(NAN).is_nan() && elem.holds(NAN) && !elem.holds(1.0 + step / 2.0));
    }
    let up = |x: f64| rhumb_ir::Elem::F32.rounded_up(x);
    let above = 1.0 + f64::from(f32::EPSILON) / 8.0;
    assert_eq!([0.5, 0.1, INF, 1e39].map(up), [0.5, f64::from(0.1f32), INF, INF]);
    assert_eq!(up(above), f64::from(1.0f32.next_up()));
    assert_eq!(up(1e-50), f64::from(f32::from_bits(1)));
    assert_eq!(rhumb_ir::Elem::I32.rounded_up(0.25), 1.0);
}
