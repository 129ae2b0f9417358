//! The text form: what prints reads back, and nothing that is read panics.
#![allow(missing_docs, reason = "tests")]

mod common;

use common::Random;
use proptest::prelude::*;
use rhumb_ir::{Graph, Verified, interpret};

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_round_trip(seed: u64) {
        check_round_trip(&common::graph(&mut Random(seed), 40, true));
    }

    #[test]
    fn what_was_read_means_the_same(seed: u64, q in 0usize..4, k in 0usize..4) {
        let mut random = Random(seed);
        let graph = common::graph(&mut random, 30, false);
        let parsed = check_round_trip(&graph);
        let bindings = common::bindings(&mut random, &graph, q, k);
        let (first, second) = (interpret(&graph, &bindings), interpret(&parsed, &bindings));
        prop_assert!(first.is_ok(), "{}\n{graph}", first.unwrap_err());
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
        let pruned = interpret(&graph.prune(), &bindings);
        prop_assert_eq!(format!("{first:?}"), format!("{pruned:?}"));
    }

    #[test]
    fn rebuilding_copies(seed: u64) {
        let graph = common::graph(&mut Random(seed), 40, true);
        let copy = graph.rebuild(|b, _, op| Ok::<_, std::convert::Infallible>(b.push(op))).unwrap().finish().unwrap();
        prop_assert_eq!(copy.to_string(), graph.to_string());
    }

    #[test]
    fn noise_is_refused(text in "\\PC{0,200}") {
        prop_assert!(Graph::parse(&text).is_err());
    }
}
