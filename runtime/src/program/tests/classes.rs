//! Classes of key tiles, against every pair of a query and a key.

use rhumb_ir::{Axis, Elem, Expr, GraphBuilder};
use rhumb_plugins::{Attention, AttentionParts, Chunked, Dilated, PrefixLm};

use super::*;
use crate::tiles::Segment;

const TOKENS: usize = 150;
/// Keys that are classified together.
const UNIT: usize = 16;
/// Keys of a tile where tiles lie on a grid.
const CELL: usize = 64;

/// Whether a query of the last head sees a key, given the inputs.
type Sees = fn(&Bindings, usize, usize) -> bool;

/// A mask of queries and keys, and what it lets a query see.
struct Mask {
    name: &'static str,
    graph: Verified,
    /// Heads that share query tiles.
    packed: usize,
    /// Whether inputs decide, so that key tiles lie on a grid.
    on_grid: bool,
    /// Whether intervals tell all: of several conditions, those that never hold at once for a tile hold somewhere each.
    exact: bool,
    sees: Sees,
}

fn mask(name: &'static str, attention: &Attention, sees: Sees) -> Mask {
    Mask { name, graph: attention.build().expect("a graph"), packed: 1, on_grid: false, exact: true, sees }
}

/// Element `index` of an input.
fn at(inputs: &Bindings, name: &str, index: usize) -> f64 {
    inputs[name].data[index]
}

/// The mask that an input decides, of this many elements for a head.
fn by_input(write: impl for<'g> Fn(&AttentionParts<'g>) -> Expr<'g> + 'static) -> Attention {
    Attention::heads(2).head_dim(8).mask_with(write)
}

/// Blocks of 4 keys and of 8 queries: a query sees the blocks up to its own, and of one that an input tells nothing.
fn blocks(by_input: bool) -> Verified {
    let b = GraphBuilder::new("blocks");
    let (h, q, k, d) = (b.axis_of("h", 2), b.axis_of("q", 152), b.axis_of("k", 152), b.axis_of("d", 8));
    let (of_queries, of_keys) = (b.groups("m", 19, q), b.groups("n", 38, k));
    let input = |name: &str, dims: &[Axis]| b.input(name, Elem::F32, dims.iter().copied());
    let mut mask = (b.iota(of_keys) * 4).le(b.iota(of_queries) * 8);
    if by_input {
        mask = mask & input("queries", &[h, of_queries]).gt(-1.0) & input("keys", &[h, of_keys]).gt(-1.0);
    }
    let score = (input("q", &[h, q, d]).dot(input("k", &[h, k, d]), d) * 0.35).mask(mask);
    b.output("out", score.softmax(k).dot(input("v", &[h, k, d]), k), [h, q, d]);
    b.finish().expect("a graph")
}

fn masks() -> Vec<Mask> {
    let of = || Attention::heads(1).head_dim(8);
    let on_grid = |of: Mask| Mask { on_grid: true, ..of };
    vec![
        mask("causal", &of().scheme(Causal), |_, q, k| k <= q),
        mask("a window", &of().scheme(SlidingWindow::new(33)), |_, q, k| k <= q && q - k < 33),
        mask("a symmetric window", &of().scheme(SlidingWindow::new(20).symmetric()), |_, q, k| q.abs_diff(k) <= 20),
        mask("a prefix", &of().scheme(PrefixLm::new(70)), |_, q, k| k <= q || k < 70),
        mask("chunks", &of().scheme(Chunked::new(48)).scheme(Causal), |_, q, k| k <= q && q / 48 == k / 48),
        mask("dilated", &of().scheme(Dilated::new(30, 3)), |_, q, k| {
            q.abs_diff(k) <= 30 && q.abs_diff(k).is_multiple_of(3)
        }),
        mask("nothing", &of().mask_with(|cx| cx.k_index().lt(0)), |_, _, _| false),
        mask("every third", &of().mask_with(|cx| (cx.k_index() % 3).eq(0)), |_, _, k| k.is_multiple_of(3)),
        mask("all", &of(), |_, _, _| true),
        Mask {
            packed: 4,
            ..mask("causal, heads packed", &Attention::heads(4).head_dim(8).kv_heads(1).scheme(Causal), |_, q, k| {
                k <= q
            })
        },
        mask(
            "a window by head",
            &Attention::heads(3).head_dim(8).mask_with(|cx| {
                let window = (cx.head().expect("heads") + 1) * 20;
                (cx.q_index() - cx.k_index()).abs().lt(window)
            }),
            |_, q, k| q.abs_diff(k) < 60,
        ),
        Mask { graph: blocks(false), ..mask("blocks", &of(), |_, q, k| k / 4 * 4 <= q / 8 * 8) },
        on_grid(Mask {
            graph: blocks(true),
            exact: false,
            ..mask("blocks that inputs tell", &of(), |inputs, q, k| {
                k / 4 * 4 <= q / 8 * 8
                    && at(inputs, "queries", 19 + q / 8) > -1.0
                    && at(inputs, "keys", 38 + k / 4) > -1.0
            })
        }),
        on_grid(mask(
            "rare keys of each head",
            &by_input(|cx| cx.input("seen", Elem::F32, [cx.h, cx.k]).gt(2.0)),
            |inputs, _, k| at(inputs, "seen", TOKENS + k) > 2.0,
        )),
        on_grid(mask(
            "some queries of each head, causal",
            &by_input(|cx| cx.input("seen", Elem::F32, [cx.h, cx.q]).gt(0.5)).scheme(Causal),
            |inputs, q, k| k <= q && at(inputs, "seen", TOKENS + q) > 0.5,
        )),
        on_grid(mask(
            "one head of two",
            &by_input(|cx| cx.input("seen", Elem::F32, [cx.h]).lt(cx.input("limit", Elem::F32, [cx.h]))),
            |inputs, _, _| at(inputs, "seen", 1) < at(inputs, "limit", 1),
        )),
        on_grid(mask(
            "all but a few keys",
            &by_input(|cx| cx.input("seen", Elem::F32, [cx.k]).lt(2.5)),
            |inputs, _, k| at(inputs, "seen", k) < 2.5,
        )),
    ]
}

/// The query tiles of the last task with their segments, those of the last outer index.
fn query_tiles(ran: &Ran) -> Vec<((usize, usize), Vec<Segment>)> {
    let lists = ran.memory().lists;
    let mut first = 0;
    let mut tiles = Vec::new();
    for tile in &lists.query_tiles {
        tiles.push((tile.queries.range, lists.seen.segments[first..tile.segments_end].to_vec()));
        first = tile.segments_end;
    }
    tiles
}

#[test]
fn segments_hold_what_queries_see_and_no_unit_that_none_sees() {
    let targets = Target::host().expect("a target").candidates();
    for (mask, target) in masks().iter().flat_map(|mask| targets.iter().map(move |target| (mask, target))) {
        let Mask { name, graph, packed, on_grid, exact, sees } = mask;
        let ran = run(graph, target, &[("b", 1), ("q", TOKENS), ("k", TOKENS)]);
        assert!(ran.off < 2e-6, "{name}, {target}: {}", ran.off);
        let tokens = ran.inputs["k"].shape[ran.inputs["k"].shape.len() - 2];
        let sees = |query: usize, key: usize| sees(&ran.inputs, query / packed, key);
        let lanes = ran.program.plan().machine.lanes;
        let tiles = query_tiles(&ran);
        assert!(!tiles.is_empty());
        for ((first_query, end_query), segments) in &tiles {
            let queries = *first_query..*end_query;
            for key in 0..tokens {
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
            // Exactly those units stand in a segment of which some query of the tile sees a key; on a grid, those from the first to the
            // last of a cell.
            let units: Vec<bool> = (0..tokens)
                .step_by(UNIT)
                .map(|first| {
                    (first..(first + UNIT).min(tokens)).any(|key| queries.clone().any(|query| sees(query, key)))
                })
                .collect();
            for (unit, seen) in units.iter().enumerate() {
                let cell = unit / (CELL / UNIT) * (CELL / UNIT);
                let of_cell = &units[cell..(cell + CELL / UNIT).min(units.len())];
                let here = unit - cell;
                let between = of_cell[..=here].contains(&true) && of_cell[here..].contains(&true);
                let keys = unit * UNIT..((unit + 1) * UNIT).min(tokens);
                let computed = segments.iter().any(|segment| segment.first < keys.end && keys.start < segment.end);
                let expected = *seen || *on_grid && between || !exact && computed;
                assert_eq!(computed, expected, "{name}, {target}: queries {queries:?}, keys {keys:?}");
            }
            if !exact {
                continue;
            }
            columns_are_those_that_see(segments, (&queries, lanes), (tokens, *on_grid), &|query, keys| {
                (keys.0..keys.1).any(|key| sees(query, key))
            });
        }
    }
}

/// Partial segments have the vectors of queries that see something of each of their units, from the first to the last; of a segment on a grid,
/// of each of its cells.
fn columns_are_those_that_see(
    segments: &[Segment],
    (queries, lanes): (&std::ops::Range<usize>, usize),
    (tokens, on_grid): (usize, bool),
    sees: &dyn Fn(usize, (usize, usize)) -> bool,
) {
    for segment in segments {
        let all = (0, queries.len().div_ceil(lanes));
        let step = if on_grid { CELL } else { UNIT };
        let mut first = segment.first;
        while first < segment.end {
            let end = (first / step * step + step).min(segment.end).min(tokens);
            let seeing = |column: &usize| {
                let of_column = queries.start + column * lanes..(queries.start + (column + 1) * lanes).min(queries.end);
                of_column.into_iter().any(|query| sees(query, (first, end)))
            };
            let columns = ((0..all.1).find(seeing), (0..all.1).rfind(seeing));
            let exact = columns.0.zip(columns.1).map(|(first, last)| (first, last + 1));
            let expected = if segment.partial { exact } else { Some(all) };
            assert_eq!(Some(segment.columns), expected, "queries {queries:?}, keys {first} to {end}");
            first = end;
        }
    }
}

/// Where a mask is not needed, its code does not run: full segments of causal masks and windows. Short ones are not worth a tile of their
/// own, and join the masked ones beside them.
#[test]
fn keys_that_all_queries_see_take_no_mask() {
    let mut short = 0;
    for target in Target::host().expect("a target").candidates() {
        for (name, attention, window) in [
            ("causal", Attention::heads(1).head_dim(8).scheme(Causal), TOKENS),
            ("a window", Attention::heads(1).head_dim(8).scheme(SlidingWindow::new(140)), 140),
            ("a window of just enough", Attention::heads(1).head_dim(8).scheme(SlidingWindow::new(112)), 112),
            ("a short window", Attention::heads(1).head_dim(8).scheme(SlidingWindow::new(90)), 90),
        ] {
            let ran = run(&attention.build().expect("a graph"), &target, &[("b", 1), ("q", TOKENS), ("k", TOKENS)]);
            let mut full = 0;
            for ((first, end), segments) in query_tiles(&ran) {
                // Units that end before the first query and begin within the window of the last, in one run.
                let oldest = end.saturating_sub(window).div_ceil(UNIT) * UNIT;
                let run = (oldest, (first + 1) / UNIT * UNIT);
                let found =
                    segments.iter().find(|segment| !segment.partial).map(|segment| (segment.first, segment.end));
                let length = run.1.saturating_sub(run.0);
                let expected = (length >= 64 || length > 0 && run.0 == 0).then_some(run);
                assert_eq!(found, expected, "{name}, {target}: queries from {first}");
                full += usize::from(expected.is_some());
                short += usize::from(length > 0 && expected.is_none());
            }
            assert!(full > 0, "{name}, {target}");
        }
    }
    assert!(short > 0);
}
