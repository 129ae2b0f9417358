//! Schemes in text: the same graphs as those in Rust, what they say of themselves, what is wrong with a text, and what is refused in place.
#![allow(missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;

use rhumb_ir::{Attr, Attrs, Graph};
use rhumb_plugins::{Alibi, Attention, Causal, Registry, RegistryError, Rope, Scheme, SlidingWindow, lower};
use rhumb_random::Rng;

const SCHEMES: &str = include_str!("written/schemes.txt");

fn registry() -> Registry {
    Registry::standard().with_text(SCHEMES).unwrap_or_else(|error| panic!("{error}"))
}

fn made(name: &str, attrs: &[(&str, Attr)]) -> Scheme {
    let attrs = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
    registry().make(name, &attrs).unwrap_or_else(|error| panic!("{error}"))
}

/// The lowered graph of an attention with a scheme, as text.
fn lowered(scheme: impl Into<Scheme>) -> String {
    let graph =
        Attention::heads(8).head_dim(16).kv_heads(2).scheme(scheme).build().unwrap_or_else(|error| panic!("{error}"));
    lower(&graph, &Registry::empty()).unwrap_or_else(|error| panic!("{error}")).to_string()
}

/// What a graph computes, whatever the order of its values and their names.
fn meaning(graph: &str) -> Vec<String> {
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut outputs = Vec::new();
    for line in graph.lines() {
        let Some((name, op)) = line.split_once(" = ") else { continue };
        let expanded: Vec<String> = op
            .split_inclusive([' ', ','])
            .map(|word| {
                values.get(word.trim_end_matches([' ', ','])).map_or_else(|| word.to_owned(), |op| format!("({op})"))
            })
            .collect();
        if name.starts_with('%') {
            values.insert(name, expanded.concat());
        } else {
            outputs.push(format!("{name} = {}", expanded.concat()));
        }
    }
    outputs
}

#[test]
fn texts_lower_to_the_ops_of_schemes_in_rust() {
    let assert_same = |a: String, b: String| assert_eq!(meaning(&a), meaning(&b));
    assert_same(lowered(made("alibi_text", &[])), lowered(Alibi::new()));
    assert_same(lowered(made("rope_text", &[])), lowered(Rope::new()));
    let interleaved = made("rope_text", &[("pairing", "interleaved".into()), ("base", 500_000.into())]);
    assert_same(lowered(interleaved), lowered(Rope::new().base(500_000.0).interleaved()));
    assert_same(lowered(made("causal_text", &[])), lowered(Causal));
    assert_same(lowered(made("window_text", &[("window", 3.into())])), lowered(SlidingWindow::new(3)));
}

#[test]
fn norms_and_lists_are_computed() {
    let graph = lowered(made("unit_rows", &[]));
    // Of the query's row alone: a sum of squares over the head's elements.
    insta::assert_snapshot!(graph);
    let twelve: Vec<f64> = (1..=12).map(f64::from).collect();
    let attrs = [("slopes".to_owned(), Attr::List(twelve))].into();
    let scheme = registry().make("slopes_given", &attrs).unwrap_or_else(|error| panic!("{error}"));
    let graph = Attention::heads(12).head_dim(8).scheme(scheme).build().unwrap_or_else(|error| panic!("{error}"));
    let text = lower(&graph, &Registry::empty()).unwrap_or_else(|error| panic!("{error}")).to_string();
    assert!(text.contains("table [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0] : f32[h]"), "{text}");
}

#[test]
fn what_a_text_declares_is_told() {
    let registry = registry();
    let info = registry.info("rope_text").unwrap_or_else(|error| panic!("{error}"));
    insta::assert_snapshot!(format!("{info:#?}"));
}

#[test]
fn instances_and_texts_agree() {
    let registry = registry();
    let scheme = made("rope_text", &[("base", 10_000.0.into()), ("pairing", "interleaved".into())]);
    // The base is at its default.
    assert_eq!(scheme.attributes(), Attrs::from([("pairing".to_owned(), "interleaved".into())]));
    let graph = Attention::heads(4).head_dim(8).scheme(scheme).build().unwrap_or_else(|error| panic!("{error}"));
    let read = Graph::parse(&graph.to_string()).unwrap_or_else(|error| panic!("{error}"));
    let (a, b) = (lower(&graph, &Registry::empty()), lower(&read, &registry));
    assert_eq!(a, b);
    assert!(a.is_ok());
}

/// What is wrong with texts, one text a case.
#[test]
fn wrong_texts() {
    let mut report = String::new();
    for case in include_str!("written/wrong.txt").split("----\n") {
        match Registry::empty().with_text(case) {
            Ok(_) => panic!("taken:\n{case}"),
            Err(RegistryError::Text { source, .. }) => writeln!(report, "{source}\n"),
            Err(error) => writeln!(report, "{error}\n"),
        }
        .unwrap_or_else(|error| panic!("{error}"));
    }
    insta::assert_snapshot!(report);
}

/// What schemes refuse once they know the attention around: the scheme's text, then its attributes.
#[test]
fn what_is_refused_in_place() {
    let cases: [(&str, Attrs); 14] = [
        ("scheme s(slope: f32) { score = score * slope }", Attrs::new()),
        ("scheme s(slope: f32 > 0) { score = score * slope }", Attrs::from([("slope".to_owned(), (-1.0).into())])),
        (
            "scheme s(slopes: [f32]) { score = score - slopes[head] }",
            Attrs::from([("slopes".to_owned(), vec![1.0].into())]),
        ),
        (
            "scheme s(slopes: [f32; 2]) { score = score - slopes[head] }",
            Attrs::from([("slopes".to_owned(), vec![1.0].into())]),
        ),
        ("scheme s { require head_dim % 3 == 0, \"heads must have threes\" score = score }", Attrs::new()),
        ("scheme s { axis pair = head_dim / 3 query = query * sum(pair, pair) }", Attrs::new()),
        ("scheme s(mode: \"a\" | \"b\") { score = score }", Attrs::from([("mode".to_owned(), "c".into())])),
        ("scheme s { axis p = 4 query = rotate(query, q_pos * p, p, \"neighbours\") }", Attrs::new()),
        ("scheme s { score = score + [1, 2][q_pos / 2] }", Attrs::new()),
        ("scheme s { axis p = 1000 axis r = 1000 score = score + sum(sum(p * r, p), r) }", Attrs::new()),
        ("scheme s { score = score + 65536 * 65536 }", Attrs::new()),
        ("scheme s { axis p = 5 query = rotate(query, q_pos * p, p) }", Attrs::new()),
        ("scheme s { axis p = 5 score = score + p }", Attrs::new()),
        ("scheme s { axis p = 5 mask = k_pos % 5 == p }", Attrs::new()),
    ];
    let mut report = String::new();
    for (text, attrs) in cases {
        let registry = Registry::empty().with_text(text).unwrap_or_else(|error| panic!("{error}"));
        let refused = match registry.make("s", &attrs) {
            Err(error) => error.to_string(),
            Ok(scheme) => match Attention::heads(4).head_dim(8).scheme(scheme).build() {
                Err(error) => error.to_string(),
                Ok(graph) => match lower(&graph, &registry) {
                    Err(error) => error.to_string(),
                    Ok(_) => panic!("taken: {text}"),
                },
            },
        };
        writeln!(report, "{text}\n{refused}\n").unwrap_or_else(|error| panic!("{error}"));
    }
    insta::assert_snapshot!(report);
}

/// Texts with parts cut out, doubled and exchanged are read or refused, and what is read lowers or is refused: nothing panics.
#[test]
fn damaged_texts_are_read_or_refused() {
    let mut rng = Rng::new(17);
    let pieces: Vec<&str> = SCHEMES.split_inclusive([' ', '\n', '(', ')', ',']).collect();
    let (mut read, mut refused) = (0, 0);
    for _ in 0..4000 {
        let start = rng.below(pieces.len());
        let length = (pieces.len() - start).min(1 + rng.below(120));
        let mut text: Vec<&str> = pieces[start..start + length].to_vec();
        if rng.below(3) > 0 {
            text = pieces.clone();
        }
        for _ in 0..1 + rng.below(3) {
            let (a, b) = (rng.below(text.len()), rng.below(text.len()));
            match rng.below(4) {
                0 => text.swap(a, b),
                1 => text[a] = text[b],
                2 => text[a] = "",
                _ => text[a] = ["(", "]", "-", "^", "[", "\"", "1e999", "axis ", "score", "é"][rng.below(10)],
            }
        }
        let text = text.concat();
        match Registry::empty().with_text(&text) {
            Ok(registry) => {
                read += 1;
                for name in registry.schemes().map(|info| info.name.clone()).collect::<Vec<_>>() {
                    let Ok(scheme) = registry.make(&name, &Attrs::new()) else { continue };
                    if let Ok(graph) = Attention::heads(3).head_dim(8).scheme(scheme).build() {
                        let _ = lower(&graph, &registry);
                    }
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn deep_and_long_texts_are_refused() {
    let texts = [
        format!("scheme s {{ score = {}score{} }}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("scheme s {{ score = {}score }}", "-".repeat(100_000)),
        format!("scheme s {{ score = {}2 }}", "2 ^ ".repeat(100_000)),
        format!("scheme s {{ mask = {}true }}", "not ".repeat(100_000)),
        format!("scheme s {{ score = score{} }}", " + 1".repeat(100_000)),
        format!("scheme s {{ score = {}score{} }}", "abs(".repeat(100_000), ")".repeat(100_000)),
    ];
    for text in texts {
        assert!(matches!(Registry::empty().with_text(&text), Err(RegistryError::Text { .. })));
    }
    // A chain of operations is as deep as it is long.
    let chain = format!("scheme s {{ score = score{} }}", " + q_pos".repeat(3000));
    let registry = Registry::empty().with_text(&chain).unwrap_or_else(|error| panic!("{error}"));
    let scheme = registry.make("s", &Attrs::new()).unwrap_or_else(|error| panic!("{error}"));
    let graph = Attention::heads(2).head_dim(8).scheme(scheme).build().unwrap_or_else(|error| panic!("{error}"));
    assert!(lower(&graph, &registry).is_ok());
}

#[test]
fn files_are_loaded_and_named_in_errors() {
    let folder = std::env::temp_dir().join(format!("rhumb-written-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{error}"));
    let write = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
        path
    };
    let good = Registry::standard().load(write("good.txt", SCHEMES.as_bytes()));
    assert!(good.is_ok_and(|registry| registry.info("tilted_alibi").is_ok()));
    let errors = [
        Registry::standard().load(write("wrong.txt", b"scheme s { score = scroe }")).err(),
        Registry::standard().load(write("binary.txt", &[0xff, 0xfe, 0x00])).err(),
        Registry::standard().load(folder.join("nothing.txt")).err(),
        Registry::standard().load(write("taken.txt", b"scheme rope { score = score }")).err(),
    ];
    let told: Vec<String> = errors.into_iter().flatten().map(|error| error.to_string()).collect();
    assert_eq!(told.len(), 4);
    assert!(told[0].contains("wrong.txt") && told[0].contains("did you mean `score`?"), "{}", told[0]);
    assert!(told[1].contains("can't read schemes from"), "{}", told[1]);
    assert!(told[2].contains("nothing.txt"), "{}", told[2]);
    assert!(told[3].contains("two schemes are named `rope`"), "{}", told[3]);
    std::fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{error}"));
}
