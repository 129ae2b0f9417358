//! Parse errors as the user sees them.
#![allow(missing_docs, reason = "tests")]

use std::fmt::Write as _;

use rhumb_ir::Graph;

/// What all cases but the first few stand behind.
const HEAD: &str = "graph g\naxis h = 4\naxis q = ?\naxis k = ?\naxis d = 8\n%q = input \"q\" : f32[h, q, d]\n%k = input \"k\" : f32[h, k, d]\n%i = iota q\n%n = size k\n";

/// Texts that are no graph.
const WHOLE: [&str; 17] = [
    "",
    "axis h = 4",
    "graph",
    "graph g axis h = 4",
    "graph \"g",
    "graph \"\\q\"",
    "graph g\noutput",
    "graph g\naxis h = 4294967296",
    "graph g\naxis h = 0",
    "graph g\naxis h = -1",
    "graph g\naxis h = 4\naxis h = 5",
    "graph g\naxis g = 3 groups h\naxis h = 4",
    "graph g\naxis g = 3 groups x",
    "graph g\naxis g = ? groups h\naxis h = 4\n",
    "graph g\n\naxis h = 4\nfoo",
    "graph g\naxis h = 4",
    "graph g\n\t%x = const 1.5 $",
];

/// Lines that can't stand behind the head.
const LINES: [&str; 42] = [
    "%s = dot %q, %k over d : f32[h, q]",
    "%s = dot %q %k over d",
    "%s = dot %q,",
    "%s = dot %q, %kk over d",
    "%s = dot %q, %9 over d",
    "%s = dto %q, %k over d",
    "%s = dot %q, %k over dd",
    "%s = dot %q, %k over k",
    "%s = dot %q, %k over d : f23[h, q, k]",
    "%s = add %q, %i",
    "%q = iota k",
    "%1x = iota k",
    "%s = const yes",
    "%s = const 2147483648",
    "%s = const 1e999",
    "%s = const 1.5 : i32",
    "%s = const 0x10",
    "%s = table [1.0, 2.0]",
    "%s = table [1.0, 2.0] : f32[h]",
    "%s = table [1.0, 2.0, 3.0, 4.5] : i32[h]",
    "%s = table [1.0, 2.0,\n 3.0, 4.5 : f32[h]",
    "%s = table [1.0, 2.0] : f32[q]",
    "%x = input \"x\"",
    "%x = input \"q\" : f32[h]",
    "%x = input \"x\" : f32[h, h]",
    "%s = rotate %q over d by %k over d halve",
    "%s = softmax %q over d base 10",
    "%s = cast %i to float",
    "%s = scheme rope.query %q @0",
    "%s = scheme rope.quary %q @0",
    "site @0 {query = q, key = k, dim = d, q_pos = %i}",
    "site @0 {query = q, key = k, dim = d, q_position = %i}",
    "site @0 {query = q, query = k}",
    "site @0 {query = q, key = q, dim = d, q_pos = %n, k_pos = %n, q_index = %n, k_index = %n, length = %n}",
    "site @0 {query = q, key = k, dim = d, q_pos = %n, k_pos = %n, q_index = %n, k_index = %n, length = %n}\n%s = scheme rope.query %q @0 {base = half}",
    "site @0 {query = q, key = k, dim = d, q_pos = %n, k_pos = %n, q_index = %n, k_index = %n, length = %n}\n%s = scheme rope.query %q @0 {a = 1, a = 2}",
    "site @0 {query = q, key = k, dim = d, q_pos = %n, k_pos = %n, q_index = %n, k_index = %n, length = %n}\n%s = scheme rope.query @0",
    "output \"o\" = %q",
    "output \"o\" = %q : f32[h, q]",
    "output \"o\" = %q : f32[h, q, d, d]",
    "output \"q\" = %q : f32[h, q, d]",
    "%s = table [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, oops, 20.0, 21.0, 22.0, 23.0, 24.0] : f32[h]",
];

/// Each text is not a graph; what the parser says stands below it.
#[test]
fn errors_are_located_and_hinted() {
    let mut report = String::new();
    let lines = LINES.map(|line| format!("{HEAD}{line}\n"));
    for text in WHOLE.map(str::to_owned).into_iter().chain(lines) {
        let shown = text.strip_prefix(HEAD).unwrap_or(&text);
        let error = Graph::parse(&text).expect_err(&text);
        let _ = write!(report, "{shown}\n\n{error}\n\n----\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn more_axes_than_fit_are_refused() {
    let axes: String = (0..65).map(|i| format!("axis a{i} = 2\n")).collect();
    let error = Graph::parse(&format!("graph g\n{axes}")).unwrap_err();
    insta::assert_snapshot!(error);
}
