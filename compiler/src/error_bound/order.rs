//! Sums of products, in the order in which code forms them.

use super::approx::{Approx, Precision};
use super::units::{ROOM, U};
use crate::machine::ROW_LANES;

/// In which order products are summed up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Parts, one added to those before it, of stretches that have sums of their own. By pairs of `bf16` the second product of a pair is added
    /// before the first.
    Stretches { parts: usize, chains: usize, pairs: bool },
    /// By lanes, whose sums are added up in pairs: within the quarters of a vector, then the quarters.
    Lanes { lanes: usize, of: Of },
}

/// What a lane is multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Elements, one after the other.
    Elements,
    /// Pairs of `bf16`.
    Bf16Pairs,
    /// Pairs of integers, whose sum is exact: it is rounded once, as a number.
    IntegerPairs,
}

/// What becomes of the sum of a stretch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Joined {
    /// It is added to its part, which ends there or not.
    Part { ends: bool },
    /// It waits for the next, or the last that waits is added to it, as often as this.
    Pairs(u32),
}

/// Sums that wait for others at most: one of each level of pairs.
const MOST_WAITING: usize = 8;

impl Order {
    /// One after the other.
    pub(super) const PLAIN: Order = Order::Stretches { parts: 1, chains: 1, pairs: false };

    /// Whether products are of pairs of `bf16`.
    pub(super) fn is_by_pairs(self) -> bool {
        matches!(self, Order::Stretches { pairs: true, .. } | Order::Lanes { of: Of::Bf16Pairs, .. })
    }

    /// Whether products are of pairs of integers.
    pub(super) fn is_of_integers(self) -> bool {
        matches!(self, Order::Lanes { of: Of::IntegerPairs, .. })
    }

    /// The products of each sum, in their order, and what becomes of it.
    pub(super) fn stretches(self, length: usize) -> Vec<(Vec<usize>, Joined)> {
        match self {
            Order::Stretches { parts, chains, pairs } => {
                let at_once = if pairs { 2 } else { 1 };
                let of_part = |part: usize| part * (length / at_once / chains) / parts * chains * at_once;
                let stretches = (0..parts).flat_map(|part| {
                    let turns = (of_part(part + 1) - of_part(part)) / chains;
                    let first = move |chain: usize| of_part(part) + chain * turns;
                    (0..chains).map(move |chain| {
                        let added = (first(chain)..first(chain + 1)).map(|n| n ^ usize::from(pairs));
                        (added.collect(), Joined::Part { ends: chain + 1 == chains })
                    })
                });
                stretches.collect()
            }
            // Halves of halves: lanes 0 and 2, then 1 and 3, and quarters likewise.
            Order::Lanes { lanes, of } => {
                let halved = |n: usize, all: usize| (0..all.ilog2()).fold(0, |x, bit| x << 1 | n >> bit & 1);
                let own = |n: usize| {
                    let (quarters, four) = (lanes / ROW_LANES, ROW_LANES);
                    let lane = four * halved(n / four, quarters) + halved(n % four, four);
                    let added: Vec<usize> = match of {
                        Of::Bf16Pairs | Of::IntegerPairs => {
                            (2 * lane..length).step_by(2 * lanes).flat_map(|n| [n + 1, n]).collect()
                        }
                        Of::Elements => (lane..length).step_by(lanes).collect(),
                    };
                    let there = added.into_iter().filter(|n| *n < length).collect();
                    (there, Joined::Pairs((n + 1).trailing_zeros()))
                };
                (0..lanes).map(own).collect()
            }
        }
    }
}

/// A sum while it grows, and what it is off by.
#[derive(Clone, Copy, Default)]
struct Running {
    x: f64,
    e: f64,
}

impl Running {
    /// Adds something that is off by `e`, and rounds.
    fn add(&mut self, unit: f64, x: f64, e: f64) {
        self.x += x;
        self.e += e;
        self.e += unit * (self.x.abs() + self.e);
    }
}

impl Precision {
    /// The sum of products, each sum rounded where it is formed, and each product (as it is where it is not fused with its sum). Each is off
    /// by `tiny` where it is next to 0. Sums of stretches may be exact until they end, and products in them.
    pub(super) fn sum(
        self,
        (stretches, exact_stretches): (&[(Vec<usize>, Joined)], bool),
        tiny: f64,
        factors: impl Fn(usize) -> (Approx, Approx),
    ) -> Approx {
        let (unit, most) = match self {
            Precision::Single => (U + ROOM, f64::from(f32::MAX)),
            Precision::Double => (ROOM, f64::MAX),
        };
        let within = if exact_stretches { 0.0 } else { unit };
        let [mut all, mut part] = [Running::default(); 2];
        let (mut waiting, mut count) = ([Running::default(); MOST_WAITING], 0);
        let mut size = 0.0;
        for (stretch, joined) in stretches {
            let mut chain = Running::default();
            for &t in stretch {
                let (x, y) = factors(t);
                let product = x.x * y.x;
                // Zero times infinity is no error.
                let exact = x.e == 0.0 && y.e == 0.0;
                let e = if exact { 0.0 } else { x.x.abs() * y.e + y.x.abs() * x.e + x.e * y.e };
                size += product.abs() + e;
                chain.add(within, product, e + within * (product.abs() + e) + tiny);
            }
            if exact_stretches {
                chain.add(unit, 0.0, 0.0);
            }
            match *joined {
                Joined::Part { ends } => {
                    part.add(unit, chain.x, chain.e);
                    if ends {
                        all.add(unit, part.x, part.e);
                        part = Running::default();
                    }
                }
                Joined::Pairs(pairs) => {
                    for _ in 0..pairs {
                        count -= 1;
                        chain.add(unit, waiting[count].x, waiting[count].e);
                    }
                    waiting[count] = chain;
                    count += 1;
                    all = waiting[0];
                }
            }
        }
        if size + all.e <= most {
            return Approx { x: all.x, e: all.e };
        }
        // NaN is NaN, but for a factor of 0, which the reference leaves out.
        let nan = |x: Approx| x.is_exact() && x.x.is_nan();
        let counts = |x: Approx| nan(x) || x.x.abs() > x.e;
        let certain = |(x, y): (Approx, Approx)| nan(x) && counts(y) || nan(y) && counts(x);
        if stretches.iter().flat_map(|(stretch, _)| stretch).any(|t| certain(factors(*t))) {
            Approx::exact(f64::NAN)
        } else {
            Approx::UNKNOWN
        }
    }
}
