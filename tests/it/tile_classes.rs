//! The classes of tiles, by intervals, against every query and key of the tile.

use std::collections::BTreeMap;

use rhumb::compiler::intervals::{Interval, MaskProgram, TileClass};
use rhumb::compiler::plan::{Source, TensorId};
use rhumb::compiler::{Compiled, Options, compile};
use rhumb::ir::{Axis, Bindings, Tensor, Value, interpret_value};
use rhumb::prelude::*;

const QUERIES: usize = 200;
const KEYS: usize = 230;
const BATCH: usize = 2;

/// What intervals have to find.
#[derive(Clone, Copy, PartialEq)]
enum Finds {
    /// Every tile that is hidden or seen as a whole.
    All,
    /// At least this share of the tiles that are hidden as a whole.
    Hidden(f64),
}

/// Masks, by how much of them intervals find. Queries stand at the last keys.
fn masks() -> Vec<(&'static str, Attention, Finds)> {
    let of = || Attention::heads(2).head_dim(8);
    let window = |size: i32| SlidingWindow::new(size);
    vec![
        ("causal", of().scheme(Causal), Finds::All),
        ("causal, from the first key", of().q_offset(0).scheme(Causal), Finds::All),
        ("a window", of().scheme(window(33)), Finds::All),
        ("a narrow window", of().scheme(window(1)), Finds::All),
        ("a symmetric window", of().scheme(window(20).symmetric()), Finds::All),
        ("a prefix", of().scheme(PrefixLm::new(70)), Finds::All),
        ("key lengths", of().key_lengths(), Finds::All),
        ("chunks", of().scheme(Chunked::new(48)), Finds::All),
        ("documents", of().documents(Batch::Each), Finds::All),
        ("chunks, causal", of().scheme(Chunked::new(48)).scheme(Causal), Finds::Hidden(1.0)),
        ("documents, causal", of().documents(Batch::Each).scheme(Causal), Finds::Hidden(1.0)),
        ("dilated", of().scheme(Dilated::new(30, 3)), Finds::Hidden(0.9)),
        (
            "every third or near",
            of().mask_with(|cx| (cx.k_index() % 3).eq(0) | (cx.q_index() - cx.k_index()).abs().lt(5)),
            Finds::Hidden(1.0),
        ),
        (
            "a window by head",
            of().mask_with(|cx| {
                let window = (cx.head().expect("heads") + 1) * 40;
                (cx.q_index() - cx.k_index()).lt(window) & cx.k_index().ne(2)
            }),
            Finds::Hidden(1.0),
        ),
        ("far or not at all", of().mask_with(|cx| !(cx.q_index() - cx.k_index()).abs().le(60)), Finds::All),
    ]
}

/// Inputs of the masks.
fn bindings(graph: &Verified) -> Bindings {
    let documents = |count: usize, length: i32| (0..BATCH * count).map(move |at| (at % count) as i32 / length);
    graph
        .inputs()
        .map(|(name, _)| {
            let tensor = match name {
                "key_lengths" => Tensor::i32([BATCH], [KEYS as i32, 77]),
                "q_documents" => Tensor::i32([BATCH, QUERIES], documents(QUERIES, 64)),
                "k_documents" => Tensor::i32([BATCH, KEYS], documents(KEYS, 71)),
                "q" => Tensor::f32([BATCH, 2, QUERIES, 8], vec![0.5; BATCH * 2 * QUERIES * 8]),
                _ => Tensor::f32([BATCH, 2, KEYS, 8], vec![0.5; BATCH * 2 * KEYS * 8]),
            };
            (name.to_owned(), tensor)
        })
        .collect()
}

/// A value of a graph over its axes.
struct Array {
    axes: Vec<Axis>,
    tensor: Tensor,
}

impl Array {
    fn of(graph: &Verified, bindings: &Bindings, value: Value) -> Array {
        let tensor = interpret_value(graph, bindings, value).unwrap_or_else(|error| panic!("{error}"));
        Array { axes: graph.ty(value).axes.iter().collect(), tensor }
    }

    /// All elements of a tile; `range` gives the first index and the end along each axis.
    fn tile(&self, range: impl Fn(Axis) -> (usize, usize)) -> impl Iterator<Item = f64> {
        let mut places = vec![0];
        for (axis, &size) in self.axes.iter().zip(&self.tensor.shape) {
            let (first, end) = range(*axis);
            places = places.iter().flat_map(|place| (first..end).map(move |at| place * size + at)).collect();
        }
        places.into_iter().map(|place| self.tensor.data[place])
    }
}

/// An outer index, the queries of a tile and its keys: first and end.
#[derive(Clone, Copy, Debug)]
struct Tile {
    batch: usize,
    head: usize,
    queries: (usize, usize),
    keys: (usize, usize),
}

/// A mask as the compiler has it, with what its tables hold and what the interpreter says of it.
struct Case {
    program: MaskProgram,
    axes: [Option<Axis>; 4],
    tables: BTreeMap<TensorId, Array>,
    terms: Vec<(Array, bool)>,
    memory: Vec<Interval>,
}

impl Case {
    fn new(attention: &Attention) -> Case {
        let graph = attention.build().expect("a graph");
        let target = Target::host().expect("a target");
        let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ());
        let Compiled { plan, .. } = compiled.unwrap_or_else(|error| panic!("{error}"));
        let planned = plan.attention.as_ref().expect("an attention");
        let bindings = bindings(&plan.graph);
        let array = |value: Value| Array::of(&plan.graph, &bindings, value);
        let program = MaskProgram::new(&plan, planned);
        let value = |table: TensorId| {
            let source = plan.table_of.iter().find(|(_, id)| **id == table).map(|(source, _)| source);
            let Some(Source::Value(value)) = source else { panic!("a mask reads {source:?}") };
            (table, array(*value))
        };
        Case {
            axes: [plan.graph.axis_named("b"), plan.graph.axis_named("h"), Some(planned.query), Some(planned.key)],
            tables: program.leaves().map(value).collect(),
            terms: planned.masks.iter().map(|term| (array(term.value), term.negative)).collect(),
            memory: Vec::new(),
            program,
        }
    }

    /// The ranges of a tile by axis.
    fn ranges(&self, tile: Tile) -> impl Fn(Axis) -> (usize, usize) + use<> {
        let axes = self.axes;
        let ranges = [(tile.batch, tile.batch + 1), (tile.head, tile.head + 1), tile.queries, tile.keys];
        move |axis| ranges[axes.iter().position(|known| *known == Some(axis)).expect("an axis of masks")]
    }

    /// Whether a query sees a key.
    fn sees(&self, (batch, head): (usize, usize), query: usize, key: usize) -> bool {
        let pair = Tile { batch, head, queries: (query, query + 1), keys: (key, key + 1) };
        self.terms.iter().all(|(mask, negative)| mask.tile(self.ranges(pair)).all(|x| (x != 0.0) != *negative))
    }

    fn class(&mut self, tile: Tile) -> TileClass {
        let range = self.ranges(tile);
        let Case { tables, program, memory, .. } = self;
        program.classify(memory, |table| {
            let (low, high) = tables[&table]
                .tile(&range)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            Interval::new(low, high)
        })
    }
}

#[test]
fn classes_of_tiles_are_those_of_their_pairs() {
    for (name, attention, finds) in masks() {
        let mut case = Case::new(&attention);
        let outer = [(0, 0), (0, 1), (BATCH - 1, 1)];
        let seen: Vec<Vec<bool>> = outer
            .iter()
            .map(|at| (0..QUERIES * KEYS).map(|pair| case.sees(*at, pair / KEYS, pair % KEYS)).collect())
            .collect();
        for (queries, keys) in [(16, 16), (64, 48), (3, 16), (1, 1)] {
            // Tiles that are hidden as a whole, seen as a whole, and those that were found to be.
            let (mut hidden, mut full, mut found_hidden, mut found_full) = (0, 0, 0, 0);
            for (&(batch, head), seen) in outer.iter().zip(&seen) {
                let firsts = |count: usize, step: usize| (0..count).step_by(if step == 1 { 3 } else { step });
                for (query, key) in firsts(QUERIES, queries).flat_map(|q| firsts(KEYS, keys).map(move |k| (q, k))) {
                    let (query, key) = ((query, (query + queries).min(QUERIES)), (key, (key + keys).min(KEYS)));
                    let pairs = (query.0..query.1).flat_map(|q| (key.0..key.1).map(move |k| q * KEYS + k));
                    let (mut any, mut all) = (false, true);
                    for pair in pairs {
                        (any, all) = (any | seen[pair], all & seen[pair]);
                    }
                    let tile = Tile { batch, head, queries: query, keys: key };
                    let class = case.class(tile);
                    assert!(
                        class != TileClass::Skip || !any,
                        "{name}: {tile:?} is skipped, of which something is seen"
                    );
                    assert!(class != TileClass::Full || all, "{name}: {tile:?} is full, of which something is hidden");
                    let decided = queries * keys > 1 || class != TileClass::Partial;
                    assert!(decided, "{name}: {tile:?} is one pair, and not known");
                    (hidden, full) = (hidden + u32::from(!any), full + u32::from(all));
                    found_hidden += u32::from(class == TileClass::Skip);
                    found_full += u32::from(class == TileClass::Full);
                }
            }
            println!("{name}, {queries} x {keys}: skips {found_hidden} of {hidden}, full {found_full} of {full}");
            match finds {
                Finds::All => assert_eq!((found_hidden, found_full), (hidden, full), "{name}, {queries} x {keys}"),
                Finds::Hidden(share) => {
                    let right = f64::from(found_hidden) >= share * f64::from(hidden);
                    assert!(right, "{name}, {queries} x {keys}: skips {found_hidden} of {hidden}");
                }
            }
        }
    }
}

/// What the counts are for causal masks, by hand: of `n` tiles along either side, those above the diagonal.
#[test]
fn causal_masks_skip_all_above_the_diagonal() {
    let mut case = Case::new(&Attention::heads(2).head_dim(8).q_offset(0).scheme(Causal));
    let tiles = |count: usize| (0..count / 16).map(|at| (16 * at, 16 * at + 16));
    let mut counts = [0; 3];
    for (queries, keys) in tiles(QUERIES).flat_map(|queries| tiles(KEYS).map(move |keys| (queries, keys))) {
        let class = case.class(Tile { batch: 0, head: 0, queries, keys });
        counts
            [[TileClass::Skip, TileClass::Full, TileClass::Partial].iter().position(|c| *c == class).expect("one")] +=
            1;
    }
    let (rows, columns) = (QUERIES / 16, KEYS / 16);
    let diagonal = rows;
    let below = rows * (rows - 1) / 2;
    assert_eq!(counts, [rows * columns - diagonal - below, below, diagonal]);
}
