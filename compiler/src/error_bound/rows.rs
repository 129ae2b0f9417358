//! The softmax and what is made of it, one row of scores at a time.

use std::rc::Rc;

use rhumb_ir::{Axis, Binary};

use super::approx::{Approx, Precision, logical};
use super::array::Array;
use super::error::BoundError;
use super::hinges;
use super::sums::{Rounded, Sums};
use super::units::{BF16, FIXED, ROOM, SUBNORMAL, TINY_SUM, U, gamma};
use super::walk::{Seeds, Walk};
use crate::abi::MOST_REDUCTIONS;
use crate::plan::{self, Attention, Reduction, TensorId, Term};

/// The absolute error of a weight: those of `2^-100` and less are 0, and all are as much too low, once for
/// each base (`2^8` of it where the base moves on).
const VANISHED: f64 = f64::from_bits((1023 - 90) << 52);
/// A score passes the base that it is measured from by this at most.
const HEADROOM: f64 = plan::HEADROOM as f64;
/// The relative error of averages and logarithms in double precision, here and in the reference.
const WIDE: f64 = f64::from_bits((1023 - 40) << 52);
/// For terms of second order, and for what double precision makes of the bound.
const SLACK: f64 = 1.0 + 1.0 / 1024.0;

/// The attention's results and what they are off by, and the log-sum-exp that is not an output yet.
pub(super) struct Bounded {
    /// The averages, over the dimensions of what they are written to.
    pub(super) averages: Vec<Array>,
    /// In powers of 2, over the outer axes and that of queries.
    pub(super) log_sum: Array,
}

/// The keys that a row sees.
#[derive(Default)]
struct Row {
    keys: Vec<Seen>,
    /// Those whose scores are too low for single precision: they have no weight beside others.
    low: Vec<Seen>,
    /// The sink's score, if there is one.
    sink: Option<Approx>,
    /// Whether the term of the query alone is NaN or infinite, and whether a score of `-inf` hid a key: which of both counts where no
    /// other key is seen depends on the form of the score.
    odd_term: bool,
    odd_key: bool,
    /// The greatest term of keys whose scores are `-inf`: kernels measure terms of keys from the greatest that masks let through.
    hidden_term: f64,
}

/// A key that a row sees, or may see.
#[derive(Clone, Copy)]
struct Seen {
    /// The score without terms of the query alone.
    score: Approx,
    term: Approx,
    at: At,
    /// Whether it is seen in the reference, and whether that is certain.
    seen: bool,
    certain: bool,
    /// Its weight, relative to the greatest, and what that is off by.
    weight: f64,
    off: f64,
    /// What its weight is off by where it is rounded to an integer, relative to the scale of its values: half of the last bit.
    unit: f64,
}

/// Where a key is.
#[derive(Clone, Copy)]
struct At {
    /// Where the row of its values begins, for each reduction.
    values: [usize; MOST_REDUCTIONS],
    /// Its key tile.
    tile: usize,
    /// The greatest magnitude of the scale of its values; 1 if they have none.
    scale: f64,
}

/// The weights of a row.
enum Weights {
    /// The row sees nothing.
    None,
    /// The row is NaN for certain.
    Nan,
    Unknown,
    Known {
        /// The greatest score, and the sum of the weights relative to it; the sink's is in it.
        top: f64,
        sum: f64,
        /// The error of the sum of the weights, before it is rounded.
        off: f64,
        /// The sink's weight and what it is off by.
        sink: (f64, f64),
    },
}

/// The operands of rows.
pub(super) struct Parts {
    pub(super) scores: Rc<Array>,
    key_terms: Rc<Array>,
    query_terms: Rc<Array>,
    sinks: Rc<Array>,
    /// Terms of the query alone in the log-sum-exp.
    log_terms: Rc<Array>,
    /// Each with whether it is inverted.
    pub(super) masks: Vec<(Rc<Array>, bool)>,
    /// Of each reduction.
    pub(super) values: Vec<Rc<Array>>,
    /// The scales of the first reduction's values, where weights are rounded with them.
    scales: Rc<Array>,
    /// Whether there are terms of keys alone, and sinks.
    has: (bool, bool),
}

impl Parts {
    pub(super) fn of(sums: &Sums, walk: &Walk<'_>, of: &Attention) -> Result<Parts, BoundError> {
        let mut seeds = Seeds::new();
        if let Some(leaf) = of.dot {
            seeds.insert(leaf, walk.products(&of.products, &sums.orders)?);
        }
        let mask = |mask: &Term| Ok((walk.value(mask.value, Precision::Single, &seeds)?, mask.negative));
        let tensor = |id: Option<TensorId>| match id {
            Some(id) => walk.tensor(id),
            None => Ok(Rc::new(walk.space.over(&[], vec![Approx::exact(0.0)]))),
        };
        let scale = of.reductions.first().and_then(|reduction| reduction.scaled?.scale);
        let scales = match scale.filter(|_| sums.weights == Rounded::Integers) {
            Some(scale) => walk.value(scale, Precision::Single, &Seeds::new())?,
            None => Rc::new(walk.space.over(&[], vec![Approx::exact(1.0)])),
        };
        Ok(Parts {
            scores: hinges::scores(walk, of, &seeds)?,
            key_terms: tensor(of.key_term.map(|term| term.high))?,
            query_terms: tensor(of.query_term)?,
            sinks: tensor(of.sink())?,
            log_terms: tensor(of.log_sum().and_then(|log_sum| log_sum.query_term))?,
            masks: of.masks.iter().map(mask).collect::<Result<_, BoundError>>()?,
            values: of.reductions.iter().map(|of| walk.rows(of.value, of.scaled)).collect::<Result<_, _>>()?,
            scales,
            has: (of.key_term.is_some(), of.sink().is_some()),
        })
    }

    fn arrays(&self) -> Vec<&Array> {
        let all = [&self.scores, &self.key_terms, &self.query_terms, &self.sinks, &self.log_terms];
        let of_pairs = all.into_iter().chain(self.masks.iter().map(|(mask, _)| mask));
        of_pairs.chain(&self.values).chain([&self.scales]).map(|array| &**array).collect()
    }

    /// Where the rows of a key's values begin, as `place` tells of each array; those of the first reduction are at `first`.
    pub(super) fn rows_of_values(&self, first: usize, place: impl Fn(usize) -> usize) -> [usize; MOST_REDUCTIONS] {
        std::array::from_fn(|n| if n < self.values.len() { place(first + n) } else { 0 })
    }

    /// Fills a row, whose elements begin at `at` in each of the arrays; `keys` tells what each key adds. Gives the term of the query in the
    /// log-sum-exp.
    fn fill(&self, row: &mut Row, at: &[usize], (keys, tile): (&[Vec<usize>], usize)) -> Approx {
        let query_term = self.query_terms.data[at[2]];
        // Both are in double precision.
        row.sink = self.has.1.then(|| Precision::Double.add(self.sinks.data[at[3]], query_term.neg()));
        row.keys.clear();
        row.low.clear();
        let log_term = self.log_terms.data[at[4]];
        (row.odd_term, row.odd_key) = (!query_term.x.is_finite() || !log_term.x.is_finite(), false);
        row.hidden_term = f64::NEG_INFINITY;
        #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
        for key in 0..keys[0].len() {
            let place = |n: usize| at[n] + keys[n][key];
            let seen = self.masks.iter().zip(5..).fold(Approx::exact(1.0), |seen, ((mask, negative), n)| {
                let mask = mask.data[place(n)];
                logical(Binary::And, seen, if *negative { mask.not() } else { mask })
            });
            let term = self.has.0.then(|| self.key_terms.data[place(1)]);
            let values = self.rows_of_values(5 + self.masks.len(), place);
            let scale = self.scales.data[place(5 + self.masks.len() + self.values.len())].most();
            let at = At { values, tile: key / tile.max(1), scale };
            row.see(seen, self.scores.data[place(0)], term, at);
        }
        log_term
    }
}

/// Bounds of all rows.
pub(super) fn attention(sums: &Sums, walk: &Walk<'_>, of: &Attention) -> Result<Bounded, BoundError> {
    let (space, parts) = (walk.space, Parts::of(sums, walk, of)?);
    let rows: Vec<Axis> = of.outer.iter().copied().chain([of.query]).collect();
    let made = |dims: &[Axis], x: Approx| {
        let line = || BoundError::TooLarge { line: walk.plan.graph.name.clone(), shape: space.shape(dims) };
        space.filled(dims, x).ok_or_else(line)
    };
    let mut log_sum = made(&rows, Approx::UNKNOWN)?;
    let outputs = of.reductions.iter().map(|sum| made(&walk.plan.tensors[sum.output].dims, Approx::UNKNOWN));
    let mut averages = outputs.collect::<Result<Vec<Array>, BoundError>>()?;
    let outputs: Vec<Array> = averages.iter().zip(&of.reductions).map(|(array, sum)| array.without(sum.dim)).collect();
    let mut arrays = parts.arrays();
    let keys: Vec<Vec<usize>> = arrays.iter().map(|array| space.offsets(array, &[], of.key)).collect();
    arrays.extend(&outputs);
    let (mut row, mut number, mut at) = (Row::default(), 0, vec![0; arrays.len()]);
    space.rows(&rows, &arrays, |base, inner| {
        #[expect(clippy::needless_range_loop, reason = "the same place of several arrays")]
        for query in 0..inner[0].len() {
            at.iter_mut().enumerate().for_each(|(n, at)| *at = base[n] + inner[n][query]);
            let log_term = parts.fill(&mut row, &at, (&keys, sums.keys));
            let weights = row.weigh(sums, parts.has.0);
            log_sum.data[number] = row.log_sum(sums, &weights, log_term);
            number += 1;
            for (reduction, average) in of.reductions.iter().zip(&mut averages) {
                let (first, stride) = (at[keys.len() + reduction.index], average.stride(reduction.dim));
                row.average(sums, &weights, (reduction, &parts.values[reduction.index]), |element, x| {
                    average.data[first + element * stride] = x;
                });
            }
        }
    });
    Ok(Bounded { averages, log_sum })
}

/// Whether a value is not 0 for certain.
fn counts(value: Approx) -> bool {
    value.x.is_nan() || value.x.abs() > value.e
}

impl Row {
    /// Takes a key in, if it is or may be seen.
    fn see(&mut self, seen: Approx, score: Approx, term: Option<Approx>, at: At) {
        if seen == Approx::exact(0.0) {
            return;
        }
        let score = match term {
            // Without the rounding of the sum, which depends on what the row sees. Its parts are of single precision.
            Some(term) if score.is_finite() && term.is_finite() && term.most() <= f64::from(f32::MAX) => {
                Approx { x: score.x + term.x, e: score.e + term.e }
            }
            Some(term) => Precision::Single.add(score, term),
            None => score,
        };
        let term = term.unwrap_or(Approx::exact(0.0));
        if score == Approx::exact(f64::NEG_INFINITY) {
            self.odd_key = true;
            self.hidden_term = self.hidden_term.max(term.x);
            return;
        }
        let (seen, certain) = (seen.x != 0.0, seen.is_exact());
        self.keys.push(Seen { score, term, at, seen, certain, weight: 0.0, off: 0.0, unit: 0.0 });
    }

    /// The weights, relative to the greatest.
    fn weigh(&mut self, sums: &Sums, keyed: bool) -> Weights {
        self.low = self.keys.extract_if(.., |key| key.score.is_low()).collect();
        let low = !self.low.is_empty();
        if self.keys.iter().any(|key| key.score.is_exact() && key.score.x.is_nan() && key.certain) {
            return Weights::Nan;
        }
        if self.keys.iter().any(|key| !key.score.is_finite()) {
            let infinite = |key: &Seen| key.score == Approx::exact(f64::INFINITY) && key.certain;
            return if self.keys.iter().any(infinite) { Weights::Nan } else { Weights::Unknown };
        }
        let top = self.keys.iter().filter(|key| key.seen).map(|key| key.score.x).fold(f64::NEG_INFINITY, f64::max);
        let none = top == f64::NEG_INFINITY;
        let uncertain = low && (none || top < -1e30) || none && !self.keys.is_empty();
        let sink = self.sink.unwrap_or(Approx::exact(f64::NEG_INFINITY));
        if uncertain || !sink.is_finite() && sink != Approx::exact(f64::NEG_INFINITY) {
            return Weights::Unknown;
        }
        if none && self.odd_term && self.odd_key {
            return Weights::Unknown;
        }
        if none {
            return Weights::None;
        }
        let references = self.references();
        let tiles = sums.tiles(self.keys.len());
        let (mut sum, mut off) = (0.0, 0.0);
        for key in &mut self.keys {
            let below = top - key.score.x;
            let mut e = key.score.e + U * (below.abs() + 2.0 * HEADROOM);
            if keyed {
                let far = |x: f64| references.map(|reference| (x - reference).abs()).into_iter().fold(0.0, f64::max);
                e += U * far(key.term.x) + 3.0 * U * far(key.score.x) + 8.0 * ROOM * key.term.x.abs();
            }
            // The bases that it is rescaled to.
            let bases = (1.0 + below.abs() / HEADROOM).min(tiles);
            let relative = std::f64::consts::LN_2 * e + (2.0 + 3.0 * bases) * U;
            let most = (relative * std::f64::consts::LOG2_E - below).exp2();
            let weight = (-below).exp2();
            key.weight = if key.seen { weight } else { 0.0 };
            // A difference of powers loses the digits of a small one.
            let moved = if relative < 1.0 { weight * relative.exp_m1() } else { most };
            key.off = VANISHED + if key.certain { moved } else { most };
            sum += key.weight;
            off += key.off;
        }
        if sums.weights == Rounded::Integers {
            self.round();
        }
        let below = top - sink.x;
        let weight = (-below).exp2();
        let e = sink.e + ROOM * (top.abs() + sink.x.abs() + references.map(f64::abs).into_iter().fold(0.0, f64::max));
        let sink_off = if weight == 0.0 { 0.0 } else { weight * ((e + 4.0 * ROOM) * std::f64::consts::LN_2).exp_m1() };
        Weights::Known { top, sum: sum + weight, off: off + sink_off, sink: (weight, sink_off) }
    }

    /// Notes what weights that are rounded to integers are off by: relative to the greatest of a key tile, times the scales of values.
    fn round(&mut self) {
        for tile in self.keys.chunk_by_mut(|a, b| a.at.tile == b.at.tile) {
            let most = tile.iter().map(|key| (key.weight + key.off) * key.at.scale).fold(0.0, f64::max);
            tile.iter_mut().for_each(|key| key.unit = FIXED * most);
        }
    }

    /// The least and the greatest term of keys that a kernel may measure the others from: the greatest that it takes for seen.
    fn references(&self) -> [f64; 2] {
        let of = |keys: &[Seen], counts: fn(&Seen) -> bool| {
            keys.iter().filter(|key| counts(key)).map(|key| key.term.x).fold(f64::NEG_INFINITY, f64::max)
        };
        let least = of(&self.keys, |key| key.seen && key.certain);
        let greatest = of(&self.keys, |_| true).max(of(&self.low, |_| true)).max(self.hidden_term);
        [if least == f64::NEG_INFINITY { greatest } else { least }, greatest]
    }

    /// The log-sum-exp in powers of 2, the terms of the query alone included.
    fn log_sum(&self, sums: &Sums, weights: &Weights, query_term: Approx) -> Approx {
        let value = match *weights {
            Weights::None => self.sink.unwrap_or(Approx::exact(f64::NEG_INFINITY)),
            Weights::Nan => Approx::exact(f64::NAN),
            Weights::Unknown => Approx::UNKNOWN,
            Weights::Known { top, sum, off, .. } => {
                let relative = SLACK * (off / sum + gamma(sums.total(self.keys.len()))) + WIDE;
                let e = if relative < 1.0 { -(-relative).ln_1p() * std::f64::consts::LOG2_E } else { f64::INFINITY };
                let terms = self.keys.iter().map(|key| key.term.x.abs()).fold(0.0, f64::max);
                let x = top + sum.log2();
                Approx { x, e: e + ROOM * (x.abs() + top.abs() + terms) }
            }
        };
        if value.is_low() || !value.e.is_finite() { Approx::UNKNOWN } else { Precision::Double.add(value, query_term) }
    }

    /// The average of each element of the values, and its bound.
    fn average(
        &self,
        sums: &Sums,
        weights: &Weights,
        (reduction, values): (&Reduction, &Array),
        mut each: impl FnMut(usize, Approx),
    ) {
        let stride = values.stride(reduction.dim);
        for element in 0..reduction.length as usize {
            let value = |key: &Seen| values.data[key.at.values[reduction.index] + element * stride];
            each(
                element,
                match *weights {
                    Weights::None => Approx::exact(0.0),
                    // The reference leaves out values of 0, whatever their weights.
                    Weights::Nan if self.keys.iter().any(|key| key.certain && counts(value(key))) => {
                        Approx::exact(f64::NAN)
                    }
                    Weights::Nan | Weights::Unknown => Approx::UNKNOWN,
                    Weights::Known { sum, off, sink, .. } => self.of_element(sums, (sum, off, sink), value),
                },
            );
        }
    }

    /// An average and its bound.
    fn of_element(
        &self,
        sums: &Sums,
        (sum, off, sink): (f64, f64, (f64, f64)),
        value: impl Fn(&Seen) -> Approx,
    ) -> Approx {
        // The reference leaves out a weight of 0, a kernel multiplies by it unless the score is `-inf`.
        if self.low.iter().any(|key| !value(key).is_finite()) {
            return Approx::UNKNOWN;
        }
        if self.keys.iter().any(|key| !value(key).is_finite()) {
            return self.of_infinite(sum, value);
        }
        let out = self.keys.iter().map(|key| key.weight * value(key).x).sum::<f64>() / sum;
        // The least sum of a kernel's weights, before it is rounded.
        let least = sum - off;
        let (mut moved, mut size, mut farthest, mut largest, mut all) = (sink.1 * out.abs(), 0.0, 0.0f64, 0.0f64, 0.0);
        for key in &self.keys {
            let v = value(key);
            let apart = (v.x - out).abs();
            moved += key.off * apart + (key.weight + key.off) * v.e;
            size += (key.weight + key.off) * v.most();
            farthest = farthest.max(apart + v.e);
            largest = largest.max(v.most());
            all += v.most();
        }
        // 0 is one of them where there is a sink, or where the row may see nothing.
        if sink.0 > 0.0 || !self.keys.iter().any(|key| key.seen && key.certain) {
            farthest = farthest.max(out.abs());
        }
        // Weights are measured from a base that scores pass by a factor of 2^8 at most.
        if 512.0 * all > f64::from(f32::MAX) {
            return Approx::UNKNOWN;
        }
        let count = self.keys.len();
        let (products, total) = (gamma(sums.products(count)), gamma(sums.total(count) + 4.0));
        // What is lost of weights where they are rounded, relative to them, and of what is next to 0.
        let (lost, tiny) = if sums.weights == Rounded::Bf16 { (BF16, 3.0 * SUBNORMAL) } else { (0.0, TINY_SUM) };
        let (products, tiny) = (products + lost * (1.0 + products), tiny * (count + 2) as f64 / sums.least_sum);
        // An average of these values is no farther from another than the farthest of them, whatever the weights.
        let (of_weights, of_any) = if sums.weights == Rounded::Integers { self.fixed(&value) } else { (0.0, 0.0) };
        let whatever = farthest + products * largest + of_any;
        let weighed = if least > 0.0 { (moved + products * size + of_weights) / least } else { f64::INFINITY };
        let e = weighed.min(whatever) * (1.0 + total) + (total + WIDE) * out.abs() + WIDE * largest;
        Approx { x: out, e: SLACK * (e + tiny) }
    }

    /// What weights that are rounded to integers move a sum of weighted values by, and the average whatever they are: a tile's greatest is no
    /// greater than the greatest scale of it times the sum of weights.
    fn fixed(&self, value: impl Fn(&Seen) -> Approx) -> (f64, f64) {
        let (mut sum, mut any) = (0.0, 0.0f64);
        for tile in self.keys.chunk_by(|a, b| a.at.tile == b.at.tile) {
            // A scale of 0 leaves nothing to round.
            let numbers = tile.iter().filter(|key| key.at.scale > 0.0).map(|key| value(key).most() / key.at.scale);
            let numbers = numbers.sum::<f64>();
            let scale = tile.iter().map(|key| key.at.scale).fold(0.0, f64::max);
            sum += tile.first().map_or(0.0, |key| key.unit) * numbers;
            any = any.max(FIXED * scale * numbers);
        }
        (sum, any)
    }

    /// Where a value that is seen is infinite or NaN: exact if the average is the same in the kernel for certain.
    fn of_infinite(&self, sum: f64, value: impl Fn(&Seen) -> Approx) -> Approx {
        // Weights of less may be 0 in the kernel, beside the greatest or beside the sink.
        let least = (-90f64).exp2() * sum.max(1.0);
        let certain = self.keys.iter().all(|key| {
            let v = value(key);
            v.is_finite() || key.certain && v.is_exact() && key.off < key.weight && key.weight > least
        });
        if !certain {
            return Approx::UNKNOWN;
        }
        let seen = self.keys.iter().filter(|key| key.weight != 0.0);
        Approx::exact(seen.map(|key| key.weight * value(key).x).sum::<f64>() / sum)
    }
}
