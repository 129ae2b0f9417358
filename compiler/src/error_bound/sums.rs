//! The lengths of an attention's sums, in roundings.

use super::order::{Of, Order};
use crate::plan::{Attention, LEAST_SUM, LONGEST_SUM, LanesAre, Plan, RUN};

/// Keys of the shortest key tiles, but for the last of a row.
const LEAST_TILE: usize = 16;

/// What weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounded {
    /// Nothing.
    No,
    /// To `bf16`.
    Bf16,
    /// To integers, with the scales of values, relative to the greatest of a key tile.
    Integers,
}

impl Rounded {
    fn of(plan: &Plan) -> Rounded {
        match plan {
            plan if plan.integers.values => Rounded::Integers,
            plan if plan.bf16_pairs.values => Rounded::Bf16,
            _ => Rounded::No,
        }
    }
}

/// Lengths of the sums of an attention, counted in roundings.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// In which order the products of a query's and a key's elements are summed up, for each dot.
    pub(super) orders: Vec<Order>,
    /// Roundings that each product passes through, for each dot.
    pub(super) products: Vec<usize>,
    /// Keys of a key tile at most.
    pub(super) keys: usize,
    /// Keys of a key tile at least.
    pub(super) least: usize,
    /// What weights are rounded to where values are weighed by them.
    pub(super) weights: Rounded,
    /// The least sum of weights, as they are measured.
    pub(super) least_sum: f64,
}

impl Sums {
    pub(super) fn of(plan: &Plan, attention: &Attention) -> Sums {
        let tiling = &plan.tiling;
        // All shapes of a plan have as many chains.
        let most = tiling.shapes.first().map_or(1, |shape| shape.partial_sums);
        let others = attention.products.len() - usize::from(!attention.products.is_empty());
        let dots = attention.products.iter().map(|product| {
            let length = product.length as usize;
            let factor = plan.bf16_pairs.factor;
            let at_once = if factor.is_some() { 2 } else { 1 };
            let scaled = usize::from(plan.bf16_pairs.outside().is_some());
            if plan.schedule.lanes() == LanesAre::Elements {
                // Its own, those of a lane, of the lanes in pairs, and that of the factor.
                let lanes = plan.machine.lanes;
                if plan.integers.products {
                    // That of a lane, of the lanes in pairs, and that of the scale.
                    return (Order::Lanes { lanes, of: Of::IntegerPairs }, lanes.ilog2() as usize + others + 2);
                }
                let of_lane = at_once * length.div_ceil(at_once * lanes);
                let of = if factor.is_some() { Of::Bf16Pairs } else { Of::Elements };
                let order = Order::Lanes { lanes, of };
                return (order, of_lane + lanes.ilog2() as usize + others + scaled);
            }
            let chains = if (length / at_once).is_multiple_of(most) { most } else { 1 };
            let parts = length.div_ceil(LONGEST_SUM * chains).max(1);
            // Its own, those of a chain, of the chains of a part, of the parts, of the dots, and that of the factor.
            let of_chain = at_once * (length / at_once / chains).div_ceil(parts);
            let own = of_chain + (chains - 1) + (parts - 1) + others + scaled;
            (Order::Stretches { parts, chains, pairs: factor.is_some() }, own)
        });
        let (orders, products) = dots.unzip();
        // Without a term of keys they are measured from a score that passes no more than 8 powers of 2 below the greatest.
        let least_sum = if attention.key_term.is_some() { f64::from(LEAST_SUM) } else { 1.0 };
        let whole = attention.masks.is_empty() && attention.key_term.is_none();
        let least = if whole { tiling.keys } else { LEAST_TILE.min(tiling.keys) };
        Sums { orders, products, keys: tiling.keys, least, weights: Rounded::of(plan), least_sum }
    }

    /// The most key tiles that some keys are part of: two may be cut short.
    pub(super) fn tiles(&self, keys: usize) -> f64 {
        ((keys / self.least.max(1)) + 2).min(keys) as f64
    }

    /// Roundings of a weighted value in the average.
    pub(super) fn products(&self, keys: usize) -> f64 {
        (self.keys as f64 + self.tiles(keys)).min(keys as f64) + 1.0
    }

    /// Roundings of a weight in their sum.
    pub(super) fn total(&self, keys: usize) -> f64 {
        let runs = RUN + self.keys.div_ceil(RUN);
        (runs as f64 + self.tiles(keys)).min(keys as f64)
    }
}
