//! Kernels against the interpreter, one binary so that its tests link once and share all cores.

mod axes;
mod batch;
mod bf16_pairs;
mod by_distance;
mod by_runs;
mod byte;
mod chunks;
#[path = "../common/mod.rs"]
mod common;
mod compositions;
mod decode;
mod error_bound;
mod far;
mod half;
mod integer_pairs;
mod kernels;
mod long;
mod mask_tensors;
mod math;
mod not_finite;
mod paged;
mod pairs;
mod plain;
mod products;
mod pruning;
mod random_graphs;
mod reductions;
mod row_lookups;
mod schemes;
mod score_ops;
mod scores;
mod side_by_side;
mod tile_classes;
mod tile_map;
mod visibility;
mod weighted_sums;
