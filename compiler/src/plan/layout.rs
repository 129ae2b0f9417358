//! Sizes: register and cache tiles, and the scratch memory of a thread.

use rhumb_ir::Axis;

use super::{
    Attention, Bf16Pairs, Combiner, Integers, LanesAre, PlanError, Problem, Schedule, TensorId, TileShape, Tiling,
};
use crate::abi::{ScratchLayout, TableCall, TileCall, WORD_BYTES};
use crate::machine::{LANE_BYTES, LINE, Machine};
use crate::op_cost::TASK_QUERIES;

/// The most bytes of scratch memory before the constants: code has offsets of 32 bits into it, and so has the same room for constants.
const MOST_BYTES: usize = 1 << 30;

/// Register and cache tiles: accumulators fill the registers but for a few.
pub(super) fn tiling(machine: Machine) -> Tiling {
    let lanes = machine.lanes;
    // Cranelift's backends copy on every multiply-add: more accumulators than this are spilled. Code of 4 lanes is the same for all.
    let many = machine.has_many_registers() && machine.is_wide();
    let shape = |columns: usize| {
        let rows = match (columns, many) {
            (1, true) => 16,
            (1, false) | (_, true) => 8,
            (_, false) => 4,
        };
        // With few registers two chains leave two rows, and what comes before and after their products weighs too much.
        let partial_sums = if many { 2 } else { 1 };
        TileShape { columns, queries: columns * lanes, key_rows: rows / partial_sums, partial_sums, value_rows: rows }
    };
    let shapes = [3, 2, 1].map(shape).to_vec();
    Tiling { query_tiles_per_task: (TASK_QUERIES / (3 * lanes)).max(1), shapes, keys: 64 }
}

/// The scratch memory of a thread, for this machine and schedule, this many values by distance and by runs, and this many bytes of hinges.
///
/// # Errors
/// [`PlanError::TooLong`] if a head dimension makes it larger than code can address.
pub(super) fn scratch_layout(
    problem: &Problem,
    tiling: &Tiling,
    on: (Machine, &Schedule, (Bf16Pairs, Integers), (usize, usize, usize)),
) -> Result<ScratchLayout, PlanError> {
    // Lengths are less than 2^31, and all that they are multiplied with less than 2^12: no sum overflows.
    let layout = layout(problem, tiling, on);
    let Some(attention) = problem.attention.as_ref().filter(|_| layout.constants > MOST_BYTES) else {
        return Ok(layout);
    };
    let product = attention.products.iter().max_by_key(|product| product.length);
    let product = product.map(|product| (product.dim, product.length as usize));
    let reduction = attention.reductions.iter().max_by_key(|reduction| reduction.length);
    let reduction = reduction.map(|reduction| (reduction.dim, reduction.length as usize));
    let longest = [product, reduction].into_iter().flatten().max_by_key(|(_, length)| *length);
    let Some((axis, length)) = longest else { return Ok(layout) };
    Err(too_long(problem, tiling, (axis, length), (layout.constants, attention, on.1, on.2.0)))
}

/// The error that this axis, the longest of the head dimensions, is too long.
fn too_long(
    problem: &Problem,
    tiling: &Tiling,
    (axis, length): (Axis, usize),
    (bytes, attention, schedule, bf16_pairs): (usize, &Attention, &Schedule, Bf16Pairs),
) -> PlanError {
    let lengths = [attention.query_length(), attention.value_length()];
    // Each element of either takes one float of each query of each state. Both parts of a state end at a cache line.
    let state = LANE_BYTES * tiling.queries() * tiling.query_tiles_per_task;
    // And, where pairs are multiplied or rows are loaded, as much of the rows of a key tile.
    let of_pairs = |pairs: bool| if pairs { 2 * tiling.keys.next_multiple_of(2) } else { 0 };
    let of_loaded = |tensor: TensorId| {
        let is_loaded = schedule.loaded().iter().any(|loaded| loaded.table.target == tensor);
        if is_loaded { LANE_BYTES * tiling.keys } else { 0 }
    };
    let keys = attention.products.iter().map(|product| of_loaded(product.key)).max().unwrap_or(0);
    let values = attention.reductions.iter().map(|reduction| of_loaded(reduction.value)).max().unwrap_or(0);
    let elements = [state + of_pairs(bf16_pairs.factor.is_some()) + keys, state + of_pairs(bf16_pairs.values) + values];
    let of_lengths: usize = elements.iter().zip(lengths).map(|(element, length)| element * length).sum();
    let rest = bytes.saturating_sub(of_lengths) + 2 * LINE * tiling.query_tiles_per_task;
    let element = elements[0].max(elements[1]);
    let both = MOST_BYTES.saturating_sub(rest) / element;
    let other = lengths[0].min(lengths[1]);
    let most = if other <= both / 2 { both - other } else { both / 2 };
    PlanError::TooLong { axis: problem.graph.axis(axis).name.clone(), length, most, bytes }
}

/// Bytes of the scales and shifts of a key tile's rows: of each as many as a register tile of keys may reach.
fn numbers(tiling: &Tiling) -> usize {
    2 * tiling.number_bytes()
}

/// Parts of memory, one after the other, each at a cache line of its own.
#[derive(Default)]
struct Parts {
    /// After the last.
    end: usize,
}

impl Parts {
    /// The first byte of a part of so many.
    fn take(&mut self, bytes: usize) -> usize {
        let start = self.end;
        self.end = (start + bytes).next_multiple_of(LINE);
        start
    }
}

/// Where everything lies in the scratch memory, each part at a cache line of its own.
fn layout(
    problem: &Problem,
    tiling: &Tiling,
    (machine, schedule, (bf16_pairs, integers), (distances, by_runs, hinges)): (
        Machine,
        &Schedule,
        (Bf16Pairs, Integers),
        (usize, usize, usize),
    ),
) -> ScratchLayout {
    let axes = problem.graph.axes().len();
    let mut parts = Parts::default();
    let mut take = |bytes: usize| parts.take(bytes);
    let mut layout = ScratchLayout {
        outer: take(WORD_BYTES * axes.max(1)),
        call: take(size_of::<TileCall>().max(size_of::<TableCall>())),
        ..Default::default()
    };
    let Some(attention) = &problem.attention else {
        layout.constants = parts.end;
        return layout;
    };
    let queries = LANE_BYTES * tiling.queries();
    // Whole register tiles of keys, and two keys of a pair of which one may pass the end.
    let rows = tiling.shapes.iter().map(|shape| shape.key_rows).max().unwrap_or(1);
    let keys = tiling.keys + rows;
    layout.scores = take(queries * keys);
    let of_softmax = if attention.combiner == Combiner::Sum { 0 } else { queries };
    layout.tile_maxima = take(of_softmax);
    layout.rescale = take(of_softmax);
    // The last vector of distances may pass the last one.
    layout.distance_bytes = (queries + LANE_BYTES * tiling.keys + machine.vector_bytes()).next_multiple_of(LINE);
    layout.distance_lanes = take(if distances > 0 { machine.vector_bytes() } else { 0 });
    layout.distances = take(distances * layout.distance_bytes);
    // A vector of queries may begin before the first of a run, and end after the last.
    layout.run_bytes = layout.distance_bytes + (2 * machine.vector_bytes()).next_multiple_of(LINE);
    layout.runs = take(by_runs * layout.run_bytes);
    layout.pair_bytes = queries * keys;
    layout.pairs = take(by_runs * layout.pair_bytes);
    layout.hinges = take(hinges);
    // Rows of lanes that are elements end with whole vectors; else each element is a row of queries.
    let mut lengths = [attention.query_length(), attention.value_length()];
    if schedule.lanes() == LanesAre::Elements {
        lengths = [attention.query_padded(machine.lanes), attention.value_padded(machine.lanes)];
        let (of_keys, terms) = (LANE_BYTES * tiling.keys, schedule.computed_key_term().map_or(0, |_| 2));
        [layout.key_lanes, layout.key_terms] = [1, terms].map(|numbers| take(numbers * of_keys));
        [layout.key_rows, layout.value_rows] = lengths.map(|length| take(of_keys * length));
        layout.key_numbers = take(numbers(tiling) * attention.products.iter().filter_map(|of| of.scaled).count());
        layout.value_numbers = take(numbers(tiling) * attention.reductions.iter().filter_map(|of| of.scaled).count());
    }
    [layout.weight_scales, layout.odd_weights] = [(); 2].map(|()| take(if integers.values { queries } else { 0 }));
    // Keys that are not contiguous are copied, and values are paired with those of the next key.
    if bf16_pairs.factor.is_some() && schedule.lanes() == LanesAre::Queries {
        layout.key_rows = take(2 * tiling.keys * lengths[0]);
    }
    if bf16_pairs.values {
        layout.value_rows = take(LANE_BYTES * tiling.keys.div_ceil(2) * lengths[1]);
    }
    if schedule.lanes() == LanesAre::Queries {
        let rows = schedule.loaded().iter().map(|loaded| loaded.row_bytes(problem, machine));
        layout.loaded_rows = take(tiling.keys * rows.sum::<usize>());
    }
    layout.states = take(0);
    // Two elements in each 32 bits, up to the end of a vector.
    let pairs = attention.query_padded(2 * machine.lanes) / 2;
    let of_integers = if integers.products { [queries * pairs, queries] } else { [0; 2] };
    state(&mut layout, attention, (queries, of_softmax, of_integers), lengths);
    layout.constants = layout.states + tiling.query_tiles_per_task * layout.state_bytes;
    layout
}

/// Where everything lies in the state of a query tile: `queries` bytes for a number of each query, as many for one of a softmax where there
/// is one, pairs of integers and their scales, and the elements of queries and of results.
fn state(
    layout: &mut ScratchLayout,
    attention: &Attention,
    (queries, of_softmax, of_integers): (usize, usize, [usize; 2]),
    lengths: [usize; 2],
) {
    let mut parts = Parts::default();
    let mut keep = |bytes: usize| parts.take(bytes);
    layout.queries = keep(queries * lengths[0]);
    layout.accumulators = keep(queries * lengths[1]);
    layout.bases = keep(of_softmax);
    layout.limits = keep(of_softmax);
    layout.sums = keep(of_softmax);
    layout.references = keep(attention.key_term.map_or(0, |_| queries));
    layout.squares = keep(attention.pruning.map_or(0, |_| queries));
    layout.lanes = keep(queries);
    [layout.query_pairs, layout.query_scales] = of_integers.map(keep);
    layout.state_bytes = parts.end;
}

#[cfg(test)]
mod tests {
    use rhumb_ir::{Elem, GraphBuilder, Verified};

    use crate::abi::ScratchLayout;
    use crate::machine::Machine;
    use crate::plan::{PlanError, plan};
    use crate::rewrite::{RewriteOptions, fuse};

    use super::MOST_BYTES;

    /// Attention of these head sizes, in an element type.
    fn attention(elem: Elem, d: u32, e: u32) -> Verified {
        let g = GraphBuilder::new("long");
        let (q, k, d, e) = (g.axis("q"), g.axis("k"), g.axis_of("d", d), g.axis_of("e", e));
        let queries = g.input("q", elem, [q, d]);
        let (keys, values) = (g.input("k", elem, [k, d]), g.input("v", elem, [k, e]));
        g.output_as("out", elem, queries.dot(keys, d).softmax(k).dot(values, k), [q, e]);
        g.finish().expect("a graph")
    }

    /// By pairs of `bf16` or not.
    fn planned((d, e): (u32, u32), lanes: usize, dot_bf16: bool) -> Result<ScratchLayout, PlanError> {
        let elem = if dot_bf16 { Elem::Bf16 } else { Elem::F32 };
        let fused = fuse(&attention(elem, d, e), &RewriteOptions::default()).expect("fuses");
        plan(fused.graph(), Machine { dot_bf16, ..Machine::of(lanes, 32) }).map(|plan| plan.scratch)
    }

    /// Offsets into the scratch memory are of 32 bits: a longer head is refused, with the greatest length there can be.
    #[test]
    fn heads_too_long_for_offsets_are_refused() {
        for (lanes, pairs) in [(4, false), (8, false), (16, false), (16, true)] {
            for (d, e) in
                [(1_000_000, 64), (64, 1_000_000), (999_998, 1_000_000), (i32::MAX as u32 - 1, i32::MAX as u32 - 1)]
            {
                let PlanError::TooLong { axis, length, most, bytes } =
                    planned((d, e), lanes, pairs).expect_err("too long")
                else {
                    panic!("another error")
                };
                assert_eq!((axis.as_str(), length), if e >= d { ("e", e as usize) } else { ("d", d as usize) });
                assert!(bytes > MOST_BYTES && most >= 2 * 65_536, "{bytes}, {most}");
                // The greatest length is one that there can be, and hardly more.
                let with = |most: u32| planned((d.min(most), e.min(most)), lanes, pairs);
                let scratch = with(most as u32).expect("not too long");
                assert!(scratch.constants <= MOST_BYTES && scratch.states + scratch.state_bytes <= scratch.constants);
                with(most as u32 + 16).expect_err("too long again");
            }
            assert!(planned((65_536, 65_536), lanes, pairs).is_ok());
        }
    }
}
