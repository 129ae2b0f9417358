//! What schemes build IR through, and how they print.

use rhumb_ir::GraphBuilder;
use rhumb_plugins::{Attention, Causal, Entry, Scheme, SchemeError};

#[test]
fn axes_of_schemes_are_known_by_name_and_length() {
    let attention = Attention::heads(2).head_dim(8).score_with(|cx, score| {
        let [first, again, longer, longest, other] =
            [("reach", 3), ("reach", 3), ("reach", 4), ("reach", 5), ("other", 3)].map(|(name, n)| cx.axis(name, n));
        assert_eq!(first, again);
        let name = |axis| cx.builder().axis_info(axis).expect("an axis").name;
        assert_eq!([first, longer, longest, other].map(name), ["reach", "reach_2", "reach_3", "other"]);
        score
    });
    attention.build().expect("a graph");
}

#[test]
fn axes_may_be_as_long_as_a_table() {
    let head_dim = |length| {
        let builder = GraphBuilder::new("long");
        let (parts, _) = Attention::heads(1).head_dim(length).parts(&builder).expect("sizes");
        parts.head_dim()
    };
    assert_eq!(head_dim(1 << 20), Ok(1 << 20));
    assert!(matches!(head_dim((1 << 20) + 1), Err(SchemeError::LongAxis { most: 1_048_576, .. })));
}

#[test]
fn schemes_and_entries_tell_their_names_when_debugged() {
    assert_eq!(format!("{:?}", Scheme::new(Causal)), "Scheme(causal {})");
    assert!(format!("{:?}", Entry::of::<Causal>()).contains("causal"));
}
