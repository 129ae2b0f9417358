//! Keys that are pruned, against scores and bounds computed here.

use rhumb_compiler::plan::Pruning;
use rhumb_ir::Elem;
use rhumb_plugins::Attention;

use super::*;
use crate::tiles::{KeyTiles, Segment};

const KEYS: usize = 301;
const DIM: usize = 24;
/// Keys that are bounded together.
const UNIT: usize = 16;
/// The slopes of two heads; nothing can be pruned in the first.
const SLOPES: [f64; 2] = [0.01, 1.5];
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// Bounds this near their limit may be on either side, for rounding.
const MARGIN: f64 = 0.1;

/// What is added to the product.
#[derive(Clone, Copy, PartialEq)]
enum Bias {
    /// Falls with the distance, and is a term of keys, since later ones are hidden.
    Causal,
    /// Falls with the distance to either side.
    Symmetric,
    /// A term of keys: 0 and far below in turn, for 64 keys each.
    Stripes,
}

/// An attention.
struct Case {
    name: &'static str,
    attention: Attention,
    bias: Bias,
    sees: fn(usize, usize) -> bool,
}

fn cases(scale: f64) -> Vec<Case> {
    let of = || Attention::heads(2).head_dim(DIM as u32).scale(scale);
    let (causal, symmetric) =
        (|| of().scheme(Alibi::new().slopes(SLOPES)), || of().scheme(Alibi::new().slopes(SLOPES).symmetric()));
    let case = |name, bias, attention, sees| Case { name, attention, bias, sees };
    vec![
        case("causal", Bias::Causal, causal().scheme(Causal), |q, k| k <= q),
        case("a window", Bias::Causal, causal().scheme(SlidingWindow::new(260)), |q, k| k <= q && q - k < 260),
        case("symmetric", Bias::Symmetric, symmetric(), |_, _| true),
        case("symmetric, causal", Bias::Symmetric, symmetric().scheme(Causal), |q, k| k <= q),
        case("symmetric, early keys", Bias::Symmetric, symmetric().mask_with(|cx| cx.k_index().lt(100)), |_, k| {
            k < 100
        }),
        case("symmetric, late keys", Bias::Symmetric, symmetric().mask_with(|cx| cx.k_index().ge(130)), |_, k| {
            k >= 130
        }),
        case(
            "stripes",
            Bias::Stripes,
            of().score_with(|cx, score| score - (cx.k_index() / 64 % 2).cast(Elem::F32) * 300.0),
            |_, _| true,
        ),
    ]
}

/// A call.
struct Call<'r> {
    case: &'r Case,
    inputs: &'r Bindings,
    scale: f64,
    lanes: usize,
    /// The most keys of a key tile.
    most: usize,
}

/// Keys of a unit.
fn keys_of(unit: usize) -> std::ops::Range<usize> {
    unit * UNIT..((unit + 1) * UNIT).min(KEYS)
}

impl Call<'_> {
    /// A row of the last head.
    fn row(&self, tensor: &str, at: usize) -> &[f64] {
        &self.inputs[tensor].data[(KEYS + at) * DIM..(KEYS + at + 1) * DIM]
    }

    fn bias(&self, query: usize, key: usize) -> f64 {
        match self.case.bias {
            Bias::Stripes => -300.0 * (key / 64 % 2) as f64,
            _ => -SLOPES[1] * query.abs_diff(key) as f64,
        }
    }

    /// In powers of 2.
    fn score(&self, query: usize, key: usize) -> f64 {
        let product: f64 = self.row("q", query).iter().zip(self.row("k", key)).map(|(x, y)| x * y).sum();
        (product * self.scale + self.bias(query, key)) * LOG2_E
    }

    /// What scores of a unit and of some queries are at most, above what they are measured from before `base` is known: the term of the
    /// first query where biases are terms of keys.
    fn bound(&self, unit: usize, (first, end): (usize, usize)) -> f64 {
        let greatest = |tensor: &str, rows: std::ops::Range<usize>| {
            rows.map(|at| self.row(tensor, at).iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max)
        };
        let keys = keys_of(unit);
        let bias = match self.case.bias {
            Bias::Causal => SLOPES[1] * ((keys.end - 1) as f64 - first as f64),
            Bias::Symmetric => self.nearest(unit, (first, end)),
            Bias::Stripes => keys.clone().map(|key| self.bias(0, key)).fold(f64::NEG_INFINITY, f64::max),
        };
        (greatest("q", first..end) * greatest("k", keys) * self.scale + bias) * LOG2_E
    }

    /// The bias of the nearest pair of a unit and some queries.
    fn nearest(&self, unit: usize, (first, end): (usize, usize)) -> f64 {
        let (keys, last) = (keys_of(unit), end - 1);
        let apart = keys.start.saturating_sub(last).max(first.saturating_sub(keys.end - 1));
        -SLOPES[1] * apart as f64
    }

    /// Whether every vector of queries sees something of a unit.
    fn all_see(&self, unit: usize, (first, end): (usize, usize)) -> bool {
        (first..end).step_by(self.lanes).all(|column| {
            let mut queries = column..(column + self.lanes).min(end);
            queries.any(|query| keys_of(unit).any(|key| (self.case.sees)(query, key)))
        })
    }

    /// The unit that comes first where biases are no terms of keys: of those that all vectors see the one that the bias favours most, the
    /// last of equals, as halving finds it.
    fn seed(&self, queries: (usize, usize)) -> Option<usize> {
        let units = KEYS.div_ceil(UNIT);
        let of = |(level, node): (u32, usize)| (node << level)..((node + 1) << level).min(units);
        let is_seen = |at| of(at).any(|unit| self.all_see(unit, queries));
        let favour = |at| of(at).map(|unit| self.nearest(unit, queries)).fold(f64::NEG_INFINITY, f64::max);
        let mut at = (units.next_power_of_two().ilog2(), 0);
        if !is_seen(at) {
            return None;
        }
        while at.0 > 0 {
            let parts = [2 * at.1, 2 * at.1 + 1].map(|node| (at.0 - 1, node));
            let seen = parts.into_iter().filter(|part| !of(*part).is_empty() && is_seen(*part));
            at = seen.max_by(|a, b| favour(*a).total_cmp(&favour(*b)))?;
        }
        Some(at.1)
    }

    /// The tile with a key that was taken out of the segments.
    fn tile_around(&self, (first, end): (usize, usize), segments: &[Segment], key: usize) -> (usize, usize) {
        let mut whole =
            segments.iter().filter(|segment| segment.tiles.has(key)).map(|segment| segment.tiles.around(key));
        // Nothing is left of the run that it was part of: units of one class.
        let pairs = |unit| keys_of(unit).flat_map(move |key| (first..end).map(move |query| (query, key)));
        let class = |unit: usize| {
            let sees = |(query, key)| (self.case.sees)(query, key);
            (pairs(unit).any(sees), pairs(unit).all(sees))
        };
        let unit = key / UNIT;
        let alike = |other: &usize| class(*other) == class(unit);
        let from = (0..=unit).rev().take_while(alike).last().unwrap_or(unit);
        let to = (unit..KEYS.div_ceil(UNIT)).take_while(alike).last().unwrap_or(unit);
        whole.next().unwrap_or_else(|| KeyTiles::new((from * UNIT, keys_of(to).end), self.most).around(key))
    }

    /// How far below its limit each unit is, and the tile that came first.
    fn excess(&self, queries: (usize, usize), segments: &[Segment]) -> (Vec<f64>, Option<(usize, usize)>) {
        let mut base = 0.0;
        let mut first_tile = None;
        if self.case.bias == Bias::Symmetric {
            let seed = self.seed(queries).expect("a unit that all see");
            // The tile is no longer in any segment: it is what the segments around it leave.
            let key = keys_of(seed).find(|key| (queries.0..queries.1).any(|query| (self.case.sees)(query, *key)));
            let key = key.expect("a key that is seen");
            let tile = self.tile_around(queries, segments, key);
            let of = |query: usize| {
                let seen = (tile.0..tile.1).filter(|key| (self.case.sees)(query, *key));
                seen.map(|key| self.score(query, key)).fold(f64::NEG_INFINITY, f64::max)
            };
            base = (queries.0..queries.1).map(of).fold(f64::INFINITY, f64::min);
            first_tile = Some(tile);
        }
        let units = 0..KEYS.div_ceil(UNIT);
        (units.map(|unit| self.bound(unit, queries) - base + Pruning::BELOW).collect(), first_tile)
    }

    /// Key tiles that are left have a unit that is not too far below, and units that are not are left; no key is left twice.
    fn is_exact(&self, queries: (usize, usize), segments: &[Segment]) -> Result<(), String> {
        let (excess, first_tile) = self.excess(queries, segments);
        let tiles = segments.iter().flat_map(|segment| {
            let next = |(_, end): &(usize, usize)| (*end < segment.end).then(|| segment.tiles.around(*end));
            std::iter::successors(Some(segment.tiles.around(segment.first)), next)
        });
        for (from, to) in tiles {
            if excess[from / UNIT..to.div_ceil(UNIT)].iter().all(|excess| *excess < -MARGIN) {
                return Err(format!("keys {from} to {to} are left"));
            }
        }
        let came_first = |key: usize| first_tile.is_some_and(|(from, to)| (from..to).contains(&key));
        for (unit, excess) in excess.iter().enumerate() {
            let seen = keys_of(unit).any(|key| (queries.0..queries.1).any(|query| (self.case.sees)(query, key)));
            let times = |key| {
                let left = segments.iter().filter(|segment| (segment.first..segment.end).contains(&key)).count();
                left + usize::from(came_first(key))
            };
            if keys_of(unit).any(|key| times(key) > 1) {
                return Err(format!("keys of unit {unit} are there twice"));
            }
            if *excess > MARGIN && seen && keys_of(unit).any(|key| times(key) == 0) {
                return Err(format!("unit {unit} is pruned"));
            }
        }
        Ok(())
    }

    /// The number of pairs that are left out, all without weight.
    fn left_out(&self, queries: (usize, usize), segments: &[Segment]) -> Result<usize, String> {
        let (_, first_tile) = self.excess(queries, segments);
        let computed = |key: &usize| {
            first_tile.is_some_and(|(from, to)| (from..to).contains(key))
                || segments.iter().any(|segment| (segment.first..segment.end).contains(key))
        };
        let mut left_out = 0;
        for query in queries.0..queries.1 {
            let seen: Vec<usize> = (0..KEYS).filter(|key| (self.case.sees)(query, *key)).collect();
            let most = seen.iter().map(|key| self.score(query, *key)).fold(f64::NEG_INFINITY, f64::max);
            for &key in seen.iter().filter(|key| !computed(key)) {
                if self.score(query, key) >= most - Pruning::BELOW {
                    return Err(format!("query {query}, key {key} has weight"));
                }
                left_out += 1;
            }
        }
        Ok(left_out)
    }
}

/// Pruned keys have no weight, by scores computed here; all are pruned that bounds allow, and no others.
#[test]
fn keys_without_weight_are_left_out() {
    for scale in [1.0 / (DIM as f64).sqrt(), 2.5] {
        for case in cases(scale) {
            let graph = case.attention.build().expect("a graph");
            for target in Target::host().expect("a target").candidates() {
                let ran = run(&graph, &target, &[("b", 1), ("q", KEYS), ("k", KEYS)]);
                let what = format!("{}, {scale}, {target}", case.name);
                assert!(ran.off < 5e-5, "{what}: {}", ran.off);
                let (lanes, most) = (ran.program.plan().machine.lanes, ran.program.plan().tiling.keys);
                let call = Call { case: &case, inputs: &ran.inputs, scale, lanes, most };
                let lists = ran.memory().lists;
                let (mut left_out, mut first_segment) = (0, 0);
                for query_tile in &lists.query_tiles {
                    let segments = &lists.seen.segments[first_segment..query_tile.segments_end];
                    first_segment = query_tile.segments_end;
                    let queries = query_tile.queries.range;
                    let found = call.left_out(queries, segments);
                    left_out += found.unwrap_or_else(|wrong| panic!("{what}, {queries:?}: {wrong}"));
                    // Of a causal tile it depends on the order of runs which tile came first.
                    if case.name != "symmetric, causal" {
                        call.is_exact(queries, segments).unwrap_or_else(|wrong| panic!("{what}, {queries:?}: {wrong}"));
                    }
                }
                // Early keys are too few.
                let many = scale < 1.0 && case.name != "symmetric, early keys";
                assert!(left_out > 1000 || !many, "{what}: {left_out}");
            }
        }
    }
}
