//! The lengths of an attention's sums, in roundings.

use super::order::Order;
use crate::plan::{Attention, LONGEST_SUM, LanesAre, Plan, RUN};

/// Keys of the shortest key tiles, but for the last of a row.
const LEAST_TILE: usize = 16;

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
}

impl Sums {
    pub(super) fn of(plan: &Plan, attention: &Attention) -> Sums {
        let tiling = &plan.tiling;
        // All shapes of a plan have as many chains.
        let most = tiling.shapes.first().map_or(1, |shape| shape.partial_sums);
        let others = attention.products.len() - usize::from(!attention.products.is_empty());
        let dots = attention.products.iter().map(|product| {
            let length = product.length as usize;
            if plan.schedule.lanes() == LanesAre::Elements {
                // Its own, those of a lane, of the lanes in pairs.
                let lanes = plan.machine.lanes;
                return (Order::Lanes(lanes), length.div_ceil(lanes) + lanes.ilog2() as usize + others);
            }
            let chains = if length.is_multiple_of(most) { most } else { 1 };
            let parts = length.div_ceil(LONGEST_SUM * chains).max(1);
            // Its own, those of a chain, of the chains of a part, of the parts, of the dots.
            let own = (length / chains).div_ceil(parts) + (chains - 1) + (parts - 1) + others;
            (Order::Stretches { parts, chains }, own)
        });
        let (orders, products) = dots.unzip();
        let whole = attention.masks.is_empty() && attention.key_term.is_none();
        let least = if whole { tiling.keys } else { LEAST_TILE.min(tiling.keys) };
        Sums { orders, products, keys: tiling.keys, least }
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
