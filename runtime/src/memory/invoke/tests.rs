//! What code relies on is made certain whatever is asked for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rhumb_compiler::{Options, Target, compile};
use rhumb_plugins::{Alibi, Causal, Registry, Rope};

use super::*;
use crate::interface::{Bindings, Interface};
use crate::memory::{Loaded, Part, Partials, places_of};
use crate::view::{TensorView, TensorViewMut};

const HEADS: usize = 3;
const TOKENS: usize = 200;
const DIM: usize = 8;

/// A call of a causal attention whose keys are a table, on zeroed scratch memory.
fn with_call(test: impl FnOnce(&Loaded, &mut Invocation<'_>, &mut Workspace)) {
    let attention = rhumb_plugins::Attention::heads(HEADS as u32).head_dim(DIM as u32);
    let graph = attention.scheme(Rope::new()).scheme(Alibi::new()).scheme(Causal).build().expect("a graph");
    let target = Target::host().expect("a target");
    let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ());
    let compiled = compiled.expect("compiles");
    let loaded = Loaded::new(compiled.plan, &compiled.code, compiled.choice.target(), None).expect("loads");
    let (x, mut out) = (vec![0.5f32; HEADS * TOKENS * DIM], vec![7.0f32; HEADS * TOKENS * DIM]);
    let (shape, interface) = ([1, HEADS, TOKENS, DIM], Interface::of(&compiled.lowered).expect("an interface"));
    let mut views = Bindings::default();
    for name in ["q", "k", "v"] {
        views.input(name, TensorView::from_slice(&x, &shape).expect("a view"));
    }
    views.output("out", TensorViewMut::from_slice(&mut out, &shape).expect("a view"));
    let bound = interface.bind(&mut views).expect("fits");
    let mut placed = places_of(bound, [(&loaded, (0, None))], None).next().expect("a part").expect("places");
    let mut tables = placed.places().workspace().expect("memory");
    let mut scratch = Workspace::new(loaded.scratch_bytes()).expect("memory");
    test(&loaded, &mut loaded.call(&mut placed, (&mut tables, &mut Vec::new())), &mut scratch);
}

fn function(loaded: &Loaded, role: Role) -> FunctionId {
    loaded.functions().find(|(have, _)| *have == role).expect("a function").1
}

#[track_caller]
fn refused<T>(what: &str, call: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(|| _ = call())).is_err(), "{what}");
}

/// A call whose queries two plans share, from and to.
fn share([first, second]: [(usize, Option<usize>); 2]) -> usize {
    let graph = rhumb_plugins::Attention::heads(HEADS as u32).head_dim(DIM as u32).build().expect("a graph");
    let target = Target::host().expect("a target");
    let compiled = compile(&graph, &Registry::standard(), &target, &Options::default(), &mut |_, _| ());
    let compiled = compiled.expect("compiles");
    let loaded = Loaded::new(compiled.plan, &compiled.code, compiled.choice.target(), None).expect("loads");
    let interface = Interface::of(&compiled.lowered).expect("an interface");
    let (x, mut out) = (vec![0.5f32; HEADS * TOKENS * DIM], vec![7.0f32; HEADS * TOKENS * DIM]);
    let mut views = Bindings::default();
    for name in ["q", "k", "v"] {
        views.input(name, TensorView::from_slice(&x, &[1, HEADS, TOKENS, DIM]).expect("a view"));
    }
    views.output("out", TensorViewMut::from_slice(&mut out, &[1, HEADS, TOKENS, DIM]).expect("a view"));
    let bound = interface.bind(&mut views).expect("fits");
    places_of(bound, [(&loaded, first), (&loaded, second)], None).flat_map(Result::ok).count()
}

#[test]
fn no_query_is_of_two_plans() {
    assert_eq!(share([(0, Some(32)), (32, None)]), 2);
    assert_eq!(share([(0, Some(32)), (32, Some(TOKENS))]), 2);
    refused("queries of both", || share([(0, Some(33)), (32, None)]));
    refused("all queries twice", || share([(0, None), (0, None)]));
    refused("all queries twice", || share([(0, Some(TOKENS)), (0, Some(TOKENS))]));
    refused("queries that there are not", || share([(0, Some(32)), (32, Some(TOKENS + 1))]));
}

#[test]
fn no_part_of_a_table_is_made_twice() {
    with_call(|loaded, call, scratch| {
        let (begin, table) = (function(loaded, Role::Begin), function(loaded, Role::Table(0)));
        let (turns, _) = call.turns(table);
        for parts in [1, 3, turns, 2 * turns] {
            let made = call.make(table, parts);
            let mut ranges: Vec<_> = std::iter::from_fn(|| made.take()).collect();
            assert_eq!(ranges.len(), parts.min(turns));
            ranges.push((turns, turns));
            assert_eq!(ranges[0].0, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ranges:?}");
            assert!(!made.run(scratch), "all are taken");
        }
        assert!(call.make_rows(table, &[0, turns - 1]).run(scratch));
        refused("a row twice", || _ = call.make_rows(table, &[1, 1]));
        refused("a row past the end", || _ = call.make_rows(table, &[turns]));
        refused("no table", || _ = call.make(begin, 1));
        let mut small = Workspace::new(64).expect("memory");
        refused("little scratch memory", || call.make(table, 1).run(&mut small));
    });
}

#[test]
fn tasks_have_every_query_once() {
    let partials = Partials::default();
    with_call(|loaded, call, scratch| {
        for together in [0, 1, 3, 1000] {
            let mut seen = vec![0; HEADS * TOKENS];
            let (tasks, most) =
                (call.tasks(together, &partials, 0).expect("an attention"), loaded.plan().tiling.query_tiles_per_task);
            let mut count = 0;
            while let Some((_, tiles)) = tasks.take(scratch) {
                let number = tiles.number();
                assert!((1..=together.clamp(1, most)).contains(&tiles.len()));
                for position in 0..tiles.len() {
                    let (first, end) = tiles.queries(position);
                    assert!(first < end, "a tile without queries");
                    (first..end).for_each(|query| seen[number * TOKENS + query] += 1);
                }
                refused("a tile of another task", || tiles.queries(tiles.len()));
                count += 1;
            }
            assert_eq!(count, tasks.count());
            assert!(seen.iter().all(|times| *times == 1), "{together}");
        }
    });
}

#[test]
fn functions_get_no_query_tile_that_they_would_leave() {
    let partials = Partials::default();
    with_call(|loaded, call, scratch| {
        let of = |role| function(loaded, role);
        let (begin, full, end) = (of(Role::Begin), of(Role::Full(0)), of(Role::End));
        let (lanes, most) = (loaded.plan().machine.lanes, loaded.plan().tiling.keys);
        let tasks = call.tasks(2, &partials, 0).expect("an attention");
        // The first tasks have what is left of the last query tiles, one for each head.
        (0..HEADS).for_each(|_| drop(tasks.take(scratch)));
        let (_, mut tiles) = tasks.take(scratch).expect("a task");
        assert_eq!(tiles.len(), 2);
        let keys = |keys| TileArgs { keys, ..TileArgs::default() };
        refused("a tile that was not begun", || tiles.call(end, 0, TileArgs::default()));
        refused("its state", || tiles.part(0, Part::Sums).len());
        refused("a begin out of turn", || tiles.begin(begin, 1, TileArgs::default()));
        refused("another function", || tiles.begin(end, 0, TileArgs::default()));
        tiles.begin(begin, 0, TileArgs::default());
        refused("a table", || tiles.call(of(Role::Table(0)), 0, keys((0, 16))));
        refused("keys past the end", || tiles.call(full, 0, keys((TOKENS - 8, TOKENS + 1))));
        refused("next keys past the end", || {
            tiles.call(full, 0, TileArgs { keys: (0, 16), next: (0, TOKENS + 1), ..TileArgs::default() });
        });
        refused("keys backwards", || tiles.call(full, 0, keys((16, 0))));
        refused("no keys", || tiles.call(full, 0, keys((16, 16))));
        refused("more keys than a tile has", || tiles.call(full, 0, keys((0, most + 1))));
        refused("a scan that is none", || tiles.scan(full, 0, keys((0, 16))));
        refused("queries past the end of the tile", || tiles.call(full, 0, TileArgs { column: 1, ..keys((0, 16)) }));
        let columns = (tiles.queries(0).1 - tiles.queries(0).0).div_ceil(lanes);
        refused("columns past the queries", || tiles.call(end, 0, TileArgs { column: columns, ..keys((0, 0)) }));
        tiles.begin(begin, 1, TileArgs::default());
        refused("a begin past the end", || tiles.begin(begin, 2, TileArgs::default()));
        refused("one part twice", || tiles.parts(0, [Part::Sums, Part::Sums]).len());
        tiles.call(full, 0, keys((0, most)));
        tiles.call(end, 0, TileArgs::default());
    });
}
