//! Trees and key terms, element by element, against the tables that they are of.

use std::iter;
use std::ops::Range;

use rhumb_compiler::intervals::MaskProgram;
use rhumb_ir::{Elem, GraphBuilder, Verified};
use rhumb_random::Rng;

use super::*;
use crate::memory::{planned, with_tables};

/// Keys of [`of_groups`]: 10 units, the last of which is half as long.
const KEYS: usize = 152;

/// An attention whose mask reads tensors over keys, over queries, and over groups of either; all of them over heads too, or groups of these.
fn of_groups() -> Verified {
    let b = GraphBuilder::new("groups");
    let (h, q, k, d) = (b.axis_of("h", 4), b.axis_of("q", 24), b.axis_of("k", KEYS), b.axis_of("d", 8));
    let (g, m, n) = (b.groups("g", 2, h), b.groups("m", 3, q), b.groups("n", 38, k));
    let input = |name: &str, dims: &[Axis]| b.input(name, Elem::F32, dims.iter().copied());
    let seen = input("of_queries", &[g, q]).lt(input("of_keys", &[g, k]));
    let seen = seen & input("of_query_groups", &[h, m]).lt(input("of_key_groups", &[h, n]));
    let score = input("q", &[h, q, d]).dot(input("k", &[h, k, d]), d).mask(seen);
    b.output("out", score.softmax(k).dot(input("v", &[h, k, d]), k), [h, q, d]);
    b.finish().expect("a graph")
}

/// An attention whose score has a term of keys alone, for each of a batch and of heads.
fn of_a_key_term() -> Verified {
    let g = GraphBuilder::new("term");
    let [b, h, q, k] = ["b", "h", "q", "k"].map(|name| g.axis(name));
    let d = g.axis_of("d", 8);
    let input = |name: &str, dims: &[Axis]| g.input(name, Elem::F32, dims.iter().copied());
    let score = input("q", &[b, h, q, d]).dot(input("k", &[b, h, k, d]), d) + input("term", &[b, h, k]);
    g.output("out", score.softmax(k).dot(input("v", &[b, h, k, d]), k), [b, h, q, d]);
    g.finish().expect("a graph")
}

/// Lengths of [`of_a_key_term`] with this many keys.
fn lengths(keys: usize) -> [(&'static str, usize); 4] {
    [("b", 2), ("h", 3), ("q", 5), ("k", keys)]
}

/// The leaves of a mask alone.
fn leaves(plan: &Plan, attention: &Attention) -> Leaves {
    Leaves::new(plan, attention, MaskProgram::new(plan, attention).leaves(), iter::empty(), iter::empty())
}

fn attention(plan: &Plan) -> &Attention {
    plan.attention.as_ref().expect("an attention")
}

fn random(table: TensorId, index: usize) -> f32 {
    Rng::new(((table as u64) << 32) | index as u64).normals(1)[0]
}

/// Random elements, some of them NaN.
fn random_or_nan(table: TensorId, index: usize) -> f32 {
    if index % 7 == 3 { f32::NAN } else { random(table, index) }
}

/// The trees of a call that was given no others before.
fn grown(leaves: &Leaves, frame: &Frame<'_>) -> Trees {
    let mut trees = Trees::default();
    leaves.reserve(frame, &mut trees, (false, 0)).expect("memory");
    leaves.grow(frame, &mut trees, false);
    trees
}

#[test]
fn leaves_lie_along_the_keys_or_the_queries_that_share_an_element() {
    let plan = planned(&of_groups(), 8);
    let leaves = leaves(&plan, attention(&plan));
    let names = |leaf: &Leaf| plan.tensors[leaf.table].dims.iter().map(|axis| plan.graph.axis(*axis).name.as_str());
    let mut found: Vec<(String, Along)> = leaves.all().iter().map(|leaf| (names(leaf).collect(), leaf.along)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected =
        [("gk", Along::Keys(1)), ("gq", Along::Queries(1)), ("hm", Along::Queries(8)), ("hn", Along::Keys(4))];
    assert_eq!(found, expected.map(|(dims, along)| (dims.to_owned(), along)), "{plan}");
}

#[test]
fn nodes_are_the_intervals_of_their_keys() {
    let graph = of_groups();
    let plan = planned(&graph, 8);
    let leaves = leaves(&plan, attention(&plan));
    with_tables((&graph, &plan), &[], random, |frame| {
        let trees = grown(&leaves, frame);
        let levels = trees.top().map(|top| (0..=top).map(|level| trees.width(level)).collect());
        assert_eq!(levels, Some(vec![10, 5, 3, 2, 1]));
        let mut nodes = 0;
        for leaf in leaves.all() {
            let Along::Keys(each) = leaf.along else { continue };
            for (row, elements) in frame.f32_table(leaf.table).chunks(KEYS / each).enumerate() {
                for at in (0..5).flat_map(|level| (0..trees.width(level)).map(move |node| (level, node))) {
                    let keys = at.1 * (UNIT << at.0)..((at.1 + 1) * (UNIT << at.0)).min(KEYS);
                    let expected = Interval::around(keys.map(|key| f64::from(elements[key / each])));
                    assert_eq!(trees.node(*leaf, row, at), expected, "{leaf:?}, row {row}, {at:?}");
                    nodes += 1;
                }
            }
        }
        assert_eq!(nodes, (2 + 4) * 21);
    });
}

/// Segments of whole units, from and to, some of which are partial.
fn segments(runs: &[(Range<usize>, bool)], keys: usize) -> Vec<Segment> {
    let run = |(units, partial): &(Range<usize>, bool)| {
        Segment::new((units.start * UNIT, (units.end * UNIT).min(keys)), *partial, (0, 1))
    };
    runs.iter().map(run).collect()
}

/// NaN is passed by, and so are keys that only some queries see.
#[test]
fn greatest_key_terms_are_of_segments_that_are_seen_whole() {
    const KEYS: usize = 3 * UNIT + 5;
    let graph = of_a_key_term();
    let plan = planned(&graph, 8);
    let attention = attention(&plan);
    let (leaves, term) = (leaves(&plan, attention), attention.key_term.expect("a term of keys").high);
    let mut found = Vec::new();
    with_tables((&graph, &plan), &lengths(KEYS), random_or_nan, |frame| {
        let trees = grown(&leaves, frame);
        assert_eq!(Outer::count(attention, frame), 6);
        for number in 0..6 {
            let outer = Outer::new(attention, frame, number);
            let greatest = |runs: &[_]| leaves.greatest_key_term(&trees, &segments(runs, KEYS), &outer);
            let row = &frame.f32_table(term)[number * KEYS..(number + 1) * KEYS];
            let of = |units: Range<usize>| {
                let keys = units.start * UNIT..(units.end * UNIT).min(KEYS);
                row[keys].iter().copied().filter(|x| !x.is_nan()).fold(f32::NEG_INFINITY, f32::max)
            };
            for (from, to) in (0..4).flat_map(|from| (from + 1..5).map(move |to| (from, to))) {
                assert_eq!(greatest(&[(from..to, false)]), of(from..to), "row {number}, units {from} to {to}");
                assert_eq!(greatest(&[(from..to, true)]), f32::NEG_INFINITY);
            }
            assert_eq!(greatest(&[(0..1, false), (1..3, true), (3..4, false)]), of(0..1).max(of(3..4)));
            assert_eq!(greatest(&[]), f32::NEG_INFINITY);
            found.push(of(0..4));
        }
    });
    found.dedup();
    assert_eq!(found.len(), 6, "rows differ");
}

/// Nothing is allocated while trees grow, and nothing is left out of them.
#[test]
fn key_terms_have_the_room_that_they_take() {
    let graph = of_a_key_term();
    let plan = planned(&graph, 8);
    let leaves = leaves(&plan, attention(&plan));
    for (keys, units) in [(0, 0), (1, 1), (UNIT, 1), (UNIT + 1, 2), (7 * UNIT, 7)] {
        with_tables((&graph, &plan), &lengths(keys), random, |frame| {
            let mut trees = Trees::default();
            leaves.reserve(frame, &mut trees, (false, 0)).expect("memory");
            assert_eq!(trees.key_terms.capacity(), 6 * units, "{keys} keys");
            leaves.grow(frame, &mut trees, false);
            assert_eq!(trees.key_terms.len(), 6 * units, "{keys} keys");
            assert_eq!(trees.top().is_some(), keys > 0, "{keys} keys");
        });
    }
}

/// Calls get the trees of those before them.
#[test]
fn nothing_is_left_of_an_earlier_call() {
    let graphs = [of_groups(), of_a_key_term()];
    let plans = graphs.each_ref().map(|graph| planned(graph, 8));
    let mut trees = Trees::default();
    for (of, keys) in [(0, KEYS), (1, 300), (1, 37), (1, 0), (0, KEYS), (1, 20)] {
        let leaves = leaves(&plans[of], attention(&plans[of]));
        with_tables((&graphs[of], &plans[of]), &lengths(keys), random, |frame| {
            // What pruning notes.
            trees.can_prune.push(true);
            trees.rows.push(3);
            leaves.reserve(frame, &mut trees, (false, 0)).expect("memory");
            leaves.grow(frame, &mut trees, false);
            assert_eq!(format!("{trees:?}"), format!("{:?}", grown(&leaves, frame)), "{keys} keys");
        });
    }
}
