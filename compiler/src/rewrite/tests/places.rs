//! Places of rows, as extraction chooses them with the forms.

use rhumb_ir::{Elem, Graph, Verified};
use rhumb_plugins::{Alibi, Attention, Causal, Registry, Rope, lower};

use crate::rewrite::row_places::{Placed, RowPlaces};
use crate::rewrite::{Regime, RewriteOptions, fuse};

/// The graph that rewriting makes of an attention, of this many queries if they are told.
fn fused(attention: &Attention, queries: Option<usize>) -> Verified {
    let mut text = attention.build().expect("a graph").to_string();
    if let Some(queries) = queries {
        text = text.replace("axis q = ?", &format!("axis q = {queries}"));
    }
    let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let lowered = lower(&graph, &Registry::standard()).expect("lowers");
    fuse(&lowered, &RewriteOptions::default()).expect("fuses").into_graph()
}

/// The rows that have a place in calls of a regime.
fn placed(attention: &Attention, queries: Option<usize>, regime: Regime) -> Vec<Placed> {
    RowPlaces::of(&fused(attention, queries)).in_calls(regime).iter().map(|(_, placed)| *placed).collect()
}

fn small() -> Attention {
    Attention::heads(4).head_dim(16).kv_heads(2).scheme(Causal)
}

/// Keys are turned once for many queries, and for few while they are loaded; the place that is taken costs less.
#[test]
fn rotated_keys_go_by_the_number_of_queries() {
    let rotated = small().scheme(Rope::new());
    for (regime, while_loaded) in [(Regime::ManyQueries, false), (Regime::FewQueries, true)] {
        let rows = placed(&rotated, None, regime);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0].while_loaded, while_loaded, "{regime}: {}", rows[0]);
        assert!(rows[0].price < rows[0].other && !rows[0].repeats, "{regime}: {}", rows[0]);
    }
    // A number that the graph tells is that of every call: up to 384 rows share what is loaded, of two heads each.
    for (queries, while_loaded) in [(1, true), (192, true), (193, false), (4096, false)] {
        for regime in [Regime::ManyQueries, Regime::FewQueries] {
            let rows = placed(&rotated, Some(queries), regime);
            assert!(rows.len() == 1 && rows[0].while_loaded == while_loaded, "{queries} queries: {}", rows[0]);
        }
    }
}

#[test]
fn rows_that_are_read_as_they_lie_have_no_place() {
    for attention in [small(), small().scheme(Alibi::new()), small().scheme(Rope::new().query_only())] {
        for regime in [Regime::ManyQueries, Regime::FewQueries] {
            assert_eq!(placed(&attention, None, regime), Vec::new(), "{regime}");
        }
    }
}

/// A table of an input of fewer bits would take several times its memory, and has no place, whatever it saves.
#[test]
fn inputs_of_fewer_bits_have_no_copy_in_more() {
    for elem in [Elem::F16, Elem::Bf16, Elem::F8e4m3, Elem::I8] {
        for rows in [None, Some(4096)].map(|queries| placed(&small().cache_elem(elem), queries, Regime::ManyQueries)) {
            assert_eq!(rows.len(), 2, "{elem:?}");
            assert!(rows.iter().all(|rows| rows.while_loaded && rows.repeats), "{elem:?}: {rows:?}");
        }
    }
    // What is rotated is no copy.
    let rotated = placed(&small().cache_elem(Elem::F16).scheme(Rope::new()), None, Regime::ManyQueries);
    assert_eq!(
        rotated.iter().map(|rows| (rows.while_loaded, rows.repeats)).collect::<Vec<_>>(),
        [(true, true), (false, false)]
    );
}

#[test]
fn places_print_with_both_prices() {
    let rows = placed(&small().scheme(Rope::new()), None, Regime::FewQueries);
    let text = rows[0].to_string();
    assert!(text.starts_with("while loaded ") && text.contains(" instructions an element, once per call "), "{text}");
}
