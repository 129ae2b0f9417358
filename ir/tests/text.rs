//! The text form: what prints reads back, and nothing that is read panics.
#![allow(missing_docs, reason = "tests")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rhumb_ir::{Graph, Verified, interpret};
use rhumb_random::{Rng, seeds};

#[track_caller]
fn check_round_trip(graph: &Verified) -> Verified {
    let text = graph.to_string();
    let parsed = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}\n\n{text}"));
    assert_eq!(parsed.to_string(), text);
    let again = Graph::parse(&parsed.to_string()).unwrap_or_else(|error| panic!("{error}\n\n{text}"));
    // Not `assert_eq!`: NaN differs from itself.
    assert_eq!(format!("{again:?}"), format!("{parsed:?}"));
    parsed
}

/// Runs a test on each seed, and says which seed it was that panicked.
fn each_seed(first: u64, cases: u64, test: impl Fn(&mut Rng)) {
    for seed in seeds(first, cases) {
        let run = AssertUnwindSafe(|| test(&mut Rng::new(seed)));
        assert!(catch_unwind(run).is_ok(), "replay with RHUMB_SEED={seed} RHUMB_CASES=1");
    }
}

#[test]
fn random_graphs_round_trip() {
    each_seed(0, 256, |random| {
        check_round_trip(&common::graph(random, 40, true));
    });
}

#[test]
fn what_was_read_means_the_same() {
    each_seed(0, 256, |random| {
        let (q, k) = (random.below(4), random.below(4));
        let graph = common::graph(random, 30, false);
        let parsed = check_round_trip(&graph);
        let bindings = common::bindings(random, &graph, q, k);
        let (first, second) = (interpret(&graph, &bindings), interpret(&parsed, &bindings));
        assert!(first.is_ok(), "{}\n{graph}", first.unwrap_err());
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        let pruned = interpret(&graph.prune(), &bindings);
        assert_eq!(format!("{first:?}"), format!("{pruned:?}"));
    });
}

#[test]
fn rebuilding_copies() {
    each_seed(0, 256, |random| {
        let graph = common::graph(random, 40, true);
        let copy = graph.rebuild(|b, _, op| Ok::<_, std::convert::Infallible>(b.push(op))).unwrap().finish().unwrap();
        assert_eq!(copy.to_string(), graph.to_string());
    });
}

#[test]
fn noise_is_refused() {
    each_seed(0, 256, |random| {
        // Half of it ASCII, which has all the characters that mean something.
        let mut char = || if random.one_in(2) { random.below(0x80) } else { random.below(0x11_0000) } as u32;
        let noise: String = (0..200).filter_map(|_| char::from_u32(char())).filter(|c| !c.is_control()).collect();
        let end = noise.char_indices().nth(random.below(noise.chars().count())).map_or(0, |(at, _)| at);
        assert!(Graph::parse(&noise[..end]).is_err(), "{noise}");
    });
}

const ALIBI: &str = r#"graph alibi // with a sink

axis h = 8
axis g = 2 groups h
axis q = ?
axis k = ?
axis d = 4
axis e = 3
axis j = 2

%q = input "q" : f32[h, q, d]
%k = input "k" : f32[k, g, d]
%v = input "v" : f32[g, k, e]
%ids = input "ids" : i32[k]
%slopes = table [0.5, 0.25, 0.125, 0.0625, 1e-2, 7.8125e-3, 3.90625e-3, 0.001953125] : f32[h]
%some = table [true, false] : bool[j]
%whole = table [-2147483648, 7] : i32[j]
%i = iota q : i32[q]
%n = size k : i32
%m = size q
%shift = sub %n, %m
%q_index = add %i, %shift
%k_index = iota k : i32[k]
%angle = const 0.1
%pair = iota j
%pair.real = cast %pair to f32
%theta = mul %angle, %pair.real : f32[j]
%turned = rotate %q over d by %theta over j interleaved : f32[h, q, d]
%turned.2 = rotate %turned over d by %theta over j half from 0
%score = dot %turned.2, %k over d
site @3 {query = q, key = k, head = h, dim = d, q_pos = %q_index, k_pos = %k_index, q_index = %q_index, k_index = %k_index,
         length = %n}
%distance = sub %k_index, %q_index : i32[q, k]
%real = cast %distance to f32
%bias = mul %slopes, %real
%near = le %distance, %k_index
%masked = select %near, %score, %bias
%odd = gather %slopes over h at %ids
%p = softmax %masked over k sink %slopes base 2 : f32[h, q, k]
%lse = logsumexp %masked over k
%o = dot %p, %v over k

output "out" = %o : f32[q, h, e]
output "lse" = %lse : f32[h, q]
output "some" = %some : bool[j]
output "odd" = %odd : f32[k]
"#;

const SCHEMES: &str = r#"graph "with schemes"
axis q = ?
axis k = ?
axis d = 4
%q = input "q" : f32[q, d]
%k = input "k" : f32[k, d]
%0 = iota q
%1 = iota k
%2 = size k
site @7 {query = q, key = k, dim = d, q_pos = %0, k_pos = %1, q_index = %0, k_index = %1, length = %2}
%s = dot %q, %k over d
site @1 {query = q, key = k, dim = d, q_pos = %0, k_pos = %1, q_index = %0, k_index = %1, length = %2}
%r = scheme rope.query %q @7 {base = 10000.0, pairing = "half", scale = [1.0, inf, -3.5e-7,], k = %1, on = true, n = -5}
%m = scheme causal.mask @7
%b = scheme "my own".score %s @1 {}
output "r" = %r : f32[q, d]
output "m" = %m : bool[k, q]
output "b" = %b : f32[q, k]
"#;

#[test]
fn hand_written_graphs_round_trip() {
    for text in [ALIBI, SCHEMES] {
        check_round_trip(&Graph::parse(text).unwrap_or_else(|error| panic!("{error}")));
    }
    insta::assert_snapshot!(Graph::parse(SCHEMES).unwrap());
}

#[test]
fn long_data_is_wrapped() {
    let data: Vec<String> = (0..300).map(|i| format!("{:?}", f64::from(i).sqrt())).collect();
    let graph = Graph::parse(&format!(
        "graph g\naxis d = 300\n%t = table [{}] : f32[d]\noutput \"t\" = %t : f32[d]",
        data.join(",")
    ));
    let graph = check_round_trip(&graph.unwrap());
    let text = graph.to_string();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(graph.line(graph.outputs()[0].value).len() <= 120);
}

/// A small change to a text: characters, tokens or lines removed, doubled, moved or replaced.
fn mutate(text: &str, random: &mut Rng) -> String {
    const PIECES: [&str; 32] = [
        "%",
        "@",
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        ":",
        ",",
        ".",
        "?",
        "-",
        "\\",
        "//",
        "\n",
        "\u{e9}",
        "\0",
        "%q",
        "%0",
        "axis",
        "output",
        "site",
        "f32",
        "i32",
        "bool",
        "4294967296",
        "99999999999999999999",
        "1e999",
        "-inf",
        "nan",
        "0",
    ];
    let mut parts: Vec<&str> = match random.below(3) {
        0 => text.split_inclusive('\n').collect(),
        1 => text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).collect(),
        _ => text.split("").collect(),
    };
    for _ in 0..=random.below(3) {
        let (a, b) = (random.below(parts.len()), random.below(parts.len()));
        match random.below(6) {
            0 => drop(parts.remove(a)),
            1 => parts.insert(a, parts[b]),
            2 => parts.swap(a, b),
            3 => parts.insert(a, PIECES[random.below(PIECES.len())]),
            4 => parts[a] = PIECES[random.below(PIECES.len())],
            _ => parts[a] = parts[b],
        }
        if parts.is_empty() {
            return String::new();
        }
    }
    if random.below(20) == 0 {
        parts.truncate(random.below(parts.len()));
    }
    parts.concat()
}

#[test]
fn mutated_texts_never_panic() {
    let seeds = seeds(0, 10_000);
    let cases = seeds.end - seeds.start;
    let mut read = 0;
    for seed in seeds {
        let run = catch_unwind(|| {
            let mut random = Rng::new(seed);
            let made;
            let text = match random.below(3) {
                0 => ALIBI,
                1 => SCHEMES,
                _ => {
                    made = common::graph(&mut random, 15, true).to_string();
                    &made
                }
            };
            let Ok(graph) = Graph::parse(&mutate(text, &mut random)).map_err(|error| error.to_string()) else {
                return false;
            };
            check_round_trip(&graph);
            let size = |axis| graph.static_extent(axis).map_or(3, u64::from);
            let small = graph.values().all(|value| graph.ty(value).axes.iter().map(size).product::<u64>() < 10_000);
            if small {
                // Whatever is verified is interpreted, or refused.
                let _ =
                    interpret(&graph, &common::bindings(&mut random, &graph, 2, 3)).map_err(|error| error.to_string());
            }
            true
        });
        read += usize::from(run.unwrap_or_else(|_| panic!("replay with RHUMB_SEED={seed} RHUMB_CASES=1")));
    }
    assert!(
        read > 0 && (read as u64) < cases,
        "{read} of {cases} were read: the mutations are not what they should be"
    );
}

/// Types of 8 bits are those of inputs alone.
#[test]
fn types_of_8_bits_round_trip() {
    let text = "graph bytes\n\naxis i = 4\n\n%x = input \"x\" : i8[i]\n%y = input \"y\" : f8e4m3[i]\n%2 = cast %x to f32 : f32[i]\n%3 = mul %2, %y : f32[i]\n\noutput \"z\" = %3 : f32[i]\n";
    let graph = check_round_trip(&Graph::parse(text).expect("a graph"));
    assert_eq!(graph.to_string(), text);
    for (right, wrong) in [("to f32 : f32", "to i8 : i8"), ("%3 : f32", "%3 : f8e4m3"), ("= %3 : f32", "= %x : i8")] {
        let wrong = text.replacen(right, wrong, 1);
        assert!(wrong != text && Graph::parse(&wrong).is_err(), "{wrong}");
    }
}

/// Types of 16 bits are those of inputs and outputs, and of nothing that is computed.
#[test]
fn types_of_16_bits_round_trip() {
    let text = |lines: &str, output: &str| {
        format!("graph half\n\naxis i = 4\n\n%x = input \"x\" : f16[i]\n{lines}\noutput \"y\" = {output}\n")
    };
    let graph = check_round_trip(&Graph::parse(&text("%1 = exp %x : f32[i]\n", "%1 : bf16[i]")).expect("a graph"));
    assert_eq!(graph.to_string(), text("%1 = exp %x : f32[i]\n", "%1 : bf16[i]"));
    let mut report = String::new();
    for (lines, output) in [
        ("%1 = exp %x : f16[i]\n", "%1 : f32[i]"),
        ("%1 = cast %x to bf16\n", "%1 : f32[i]"),
        ("%1 = table [1.0, 2.0, 3.0, 4.0] : f16[i]\n", "%1 : f32[i]"),
        ("%1 = const 1.0 : f16\n", "%1 : f32"),
        ("%1 = iota i\n", "%1 : f16[i]"),
    ] {
        let error = Graph::parse(&text(lines, output)).expect_err("no such type here");
        report.push_str(&format!("{error}\n\n"));
    }
    insta::assert_snapshot!(report);
}
