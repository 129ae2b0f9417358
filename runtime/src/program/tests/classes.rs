//! Classes of key tiles, against every pair of a query and a key.

use rhumb_plugins::{Attention, Chunked, Dilated, PrefixLm};

use super::*;

const TOKENS: usize = 150;
/// Keys that are classified together.
const UNIT: usize = 16;

/// Masks of queries and keys at the same positions, and whether a query sees a key.
type Mask = (&'static str, Attention, fn(usize, usize) -> bool);

fn masks() -> Vec<Mask> {
    let of = || Attention::new(1, 8);
    vec![
        ("causal", of().scheme(Causal), |q, k| k <= q),
        ("a window", of().scheme(SlidingWindow::new(33)), |q, k| k <= q && q - k < 33),
        ("a symmetric window", of().scheme(SlidingWindow::new(20).symmetric()), |q, k| q.abs_diff(k) <= 20),
        ("a prefix", of().scheme(PrefixLm::new(70)), |q, k| k <= q || k < 70),
        ("chunks", of().scheme(Chunked::new(48)).scheme(Causal), |q, k| k <= q && q / 48 == k / 48),
        ("dilated", of().scheme(Dilated::new(30, 3)), |q, k| q.abs_diff(k) <= 30 && q.abs_diff(k).is_multiple_of(3)),
        ("nothing", of().mask_with(|cx| cx.k_index().lt(0)), |_, _| false),
        ("every third", of().mask_with(|cx| (cx.k_index() % 3).eq(0)), |_, k| k.is_multiple_of(3)),
        ("all", of(), |_, _| true),
    ]
}

#[test]
fn segments_hold_what_queries_see_and_no_unit_that_none_sees() {
    let targets = Target::host().expect("a target").candidates();
    for ((name, attention, sees), target) in
        masks().iter().flat_map(|case| targets.iter().map(move |target| (case, target)))
    {
        let graph = attention.build().expect("a graph");
        let ran = run(&graph, target, &[("b", 1), ("q", TOKENS), ("k", TOKENS)]);
        assert!(ran.off < 2e-6, "{name}, {target}: {}", ran.off);
        let lanes = ran.program.plan().machine.lanes;
        // The first queries.
        let lists = ran.memory().lists;
        assert!(!lists.query_tiles.is_empty());
        let mut first_segment = 0;
        for query_tile in &lists.query_tiles {
            let segments = &lists.seen.segments[first_segment..query_tile.segments_end];
            first_segment = query_tile.segments_end;
            let queries = query_tile.queries.range.0..query_tile.queries.range.1;
            for key in 0..TOKENS {
                let segment = segments.iter().find(|segment| (segment.first..segment.end).contains(&key));
                for query in queries.clone() {
                    let column = (query - queries.start) / lanes;
                    let computed = segment.filter(|segment| (segment.columns.0..segment.columns.1).contains(&column));
                    let context = || format!("{name}, {target}: query {query}, key {key}: {segment:?}");
                    match computed {
                        None => assert!(!sees(query, key), "{}: left out", context()),
                        Some(segment) => assert!(segment.partial || sees(query, key), "{}: full", context()),
                    }
                }
            }
            // Exactly those units stand in a segment of which some query of the tile sees a key.
            for first in (0..TOKENS).step_by(UNIT) {
                let keys = first..(first + UNIT).min(TOKENS);
                let seen = queries.clone().any(|query| keys.clone().any(|key| sees(query, key)));
                let computed = segments.iter().any(|segment| segment.first < keys.end && first < segment.end);
                assert_eq!(computed, seen, "{name}, {target}: queries {queries:?}, keys {keys:?}");
            }
        }
    }
}

/// Where a mask is not needed, its code does not run: full segments of causal masks and windows.
#[test]
fn keys_that_all_queries_see_take_no_mask() {
    for target in Target::host().expect("a target").candidates() {
        for (name, attention, window) in [
            ("causal", Attention::new(1, 8).scheme(Causal), TOKENS),
            ("a window", Attention::new(1, 8).scheme(SlidingWindow::new(140)), 140),
        ] {
            let ran = run(&attention.build().expect("a graph"), &target, &[("b", 1), ("q", TOKENS), ("k", TOKENS)]);
            let lists = ran.memory().lists;
            let (mut first_segment, mut full) = (0, 0);
            for query_tile in &lists.query_tiles {
                let segments = &lists.seen.segments[first_segment..query_tile.segments_end];
                first_segment = query_tile.segments_end;
                // Units that end before the first query and begin within the window of the last, in one run.
                let (first, end) = query_tile.queries.range;
                let oldest = end.saturating_sub(window).div_ceil(UNIT) * UNIT;
                let run = (oldest, (first + 1) / UNIT * UNIT);
                let found =
                    segments.iter().find(|segment| !segment.partial).map(|segment| (segment.first, segment.end));
                // Short runs join the masked ones beside them.
                if run.1 > run.0 && (run.1 - run.0 >= 64 || run.0 == 0) {
                    assert_eq!(found, Some(run), "{name}, {target}: queries from {first}");
                    full += 1;
                }
            }
            assert!(full > 0, "{name}, {target}");
        }
    }
}
