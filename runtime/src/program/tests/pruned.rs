//! Keys that are pruned, against scores and bounds computed here.

use rhumb_compiler::plan::Pruning;
use rhumb_plugins::Attention;

use super::*;
use crate::tiles::Segment;

const KEYS: usize = 301;
const DIM: usize = 24;
/// Keys that are bounded together.
const UNIT: usize = 16;
/// The slopes of two heads; nothing can be pruned in the first.
const SLOPES: [f64; 2] = [0.01, 1.5];
const LOG2_E: f64 = std::f64::consts::LOG2_E;

/// A call, and what its query tiles of the last head came to.
struct Case<'r> {
    name: &'static str,
    inputs: &'r Bindings,
    scale: f64,
}

impl Case<'_> {
    /// A row of the last head.
    fn row(&self, tensor: &str, at: usize) -> &[f64] {
        &self.inputs[tensor].data[(KEYS + at) * DIM..(KEYS + at + 1) * DIM]
    }

    /// In powers of 2.
    fn score(&self, query: usize, key: usize) -> f64 {
        let product: f64 = self.row("q", query).iter().zip(self.row("k", key)).map(|(x, y)| x * y).sum();
        (product * self.scale - SLOPES[1] * query.abs_diff(key) as f64) * LOG2_E
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        match self.name {
            "symmetric" => true,
            "window" => key <= query && query - key < 260,
            _ => key <= query,
        }
    }

    /// What scores of a unit and of some queries are at most, above the term of the first query.
    fn bound(&self, unit: usize, (first, end): (usize, usize)) -> f64 {
        let greatest = |tensor: &str, rows: std::ops::Range<usize>| {
            rows.map(|at| self.row(tensor, at).iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max)
        };
        let keys = unit * UNIT..((unit + 1) * UNIT).min(KEYS);
        let bias = SLOPES[1] * (first as f64 - (keys.end - 1) as f64);
        (greatest("q", first..end) * greatest("k", keys) * self.scale - bias) * LOG2_E
    }

    /// Key tiles that are left have a unit that is not too far below, and units that are not are left.
    fn is_exact(&self, queries: (usize, usize), segments: &[Segment]) -> Result<(), String> {
        const MARGIN: f64 = 0.1;
        let below: Vec<f64> = (0..KEYS.div_ceil(UNIT)).map(|unit| self.bound(unit, queries) + Pruning::BELOW).collect();
        let tiles = segments.iter().flat_map(|segment| {
            let next = |(_, end): &(usize, usize)| (*end < segment.end).then(|| segment.tiles.around(*end));
            std::iter::successors(Some(segment.tiles.around(segment.first)), next)
        });
        for (from, to) in tiles {
            if below[from / UNIT..to.div_ceil(UNIT)].iter().all(|bound| *bound < -MARGIN) {
                return Err(format!("keys {from} to {to} are left"));
            }
        }
        for (unit, bound) in below.iter().enumerate() {
            let mut keys = unit * UNIT..((unit + 1) * UNIT).min(KEYS);
            let seen = keys.clone().any(|key| (queries.0..queries.1).any(|query| self.sees(query, key)));
            let left = |key| segments.iter().any(|segment| (segment.first..segment.end).contains(&key));
            if *bound > MARGIN && seen && !keys.all(left) {
                return Err(format!("unit {unit} is pruned"));
            }
        }
        Ok(())
    }

    /// The number of pairs that are left out, all without weight.
    fn left_out(&self, (first, end): (usize, usize), segments: &[Segment]) -> Result<usize, String> {
        // The tile that came first lies among the queries' own keys.
        let came_first = first.saturating_sub(64)..end + 64;
        let computed = |key: &usize| {
            came_first.contains(key) || segments.iter().any(|segment| (segment.first..segment.end).contains(key))
        };
        let mut left_out = 0;
        for query in first..end {
            let seen: Vec<usize> = (0..KEYS).filter(|key| self.sees(query, *key)).collect();
            let most = seen.iter().map(|key| self.score(query, *key)).fold(f64::NEG_INFINITY, f64::max);
            for &key in seen.iter().filter(|key| !computed(key)) {
                if self.score(query, key) >= most - Pruning::BELOW {
                    return Err(format!("query {query}, key {key} has weight"));
                }
                left_out += 1;
            }
            // A unit, a tile of queries and the products of norms may stand between.
            let far = seen.iter().find(|key| computed(key) && self.scale < 1.0 && query.abs_diff(**key) > 240);
            if let Some(far) = far {
                return Err(format!("query {query}, key {far} is far"));
            }
        }
        Ok(left_out)
    }
}

/// Pruned keys have no weight, by scores computed here; all are pruned that bounds allow, and no others.
#[test]
fn keys_without_weight_are_left_out() {
    let alibi = || Alibi::new().slopes(SLOPES);
    for scale in [1.0 / (DIM as f64).sqrt(), 2.5] {
        let attention = || Attention::new(2, DIM as u32).scale(scale);
        for (name, attention) in [
            ("causal", attention().scheme(alibi()).scheme(Causal)),
            ("window", attention().scheme(alibi()).scheme(SlidingWindow::new(260))),
            ("symmetric", attention().scheme(alibi().symmetric())),
        ] {
            let graph = attention.build().expect("a graph");
            for target in Target::host().expect("a target").candidates() {
                let ran = run(&graph, &target, &[("b", 1), ("q", KEYS), ("k", KEYS)]);
                assert!(ran.off < 2e-5, "{name}, {target}: {}", ran.off);
                let case = Case { name, inputs: &ran.inputs, scale };
                let lists = ran.memory().lists;
                let (mut left_out, mut first_segment) = (0, 0);
                for query_tile in &lists.query_tiles {
                    let segments = &lists.seen.segments[first_segment..query_tile.segments_end];
                    first_segment = query_tile.segments_end;
                    let queries = query_tile.queries.range;
                    let found = case.left_out(queries, segments);
                    left_out += found.unwrap_or_else(|wrong| panic!("{name}, {scale}, {target}: {wrong}"));
                    if name != "symmetric" {
                        let exact = case.is_exact(queries, segments);
                        exact.unwrap_or_else(|wrong| panic!("{name}, {scale}, {target}, {queries:?}: {wrong}"));
                    }
                }
                assert!(left_out > 1000 || scale > 1.0, "{name}, {target}: {left_out}");
            }
        }
    }
}
