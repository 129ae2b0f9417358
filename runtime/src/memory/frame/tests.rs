use rhumb_compiler::Machine;
use rhumb_compiler::plan::plan;
use rhumb_compiler::rewrite::{RewriteOptions, fuse};
use rhumb_ir::{Elem, GraphBuilder, Verified};

use super::*;
use crate::interface::{Bindings, Interface, Port};
use crate::view::{TensorView, TensorViewMut};

pub(crate) fn planned(graph: &Verified, lanes: usize) -> Plan {
    let fused = fuse(graph, &RewriteOptions::default()).expect("fuses");
    plan(fused.graph(), Machine::of(lanes, 2 * lanes)).expect("a plan")
}

/// Runs `then` on the frame of a call on zeros, at these lengths of dynamic axes. No code makes its tables: `element` gives the elements of
/// those of `f32`, the others hold zeros.
pub(crate) fn with_tables<T>(
    (graph, plan): (&Verified, &Plan),
    lengths: &[(&str, usize)],
    element: impl Fn(TensorId, usize) -> f32,
    then: impl FnOnce(&Frame<'_>) -> T,
) -> T {
    let interface = Interface::of(graph).expect("an interface");
    let length = |axis: &Axis| match graph.axis(*axis).extent {
        Extent::Static(length) => length as usize,
        Extent::Dynamic => lengths.iter().find(|(name, _)| *name == graph.axis(*axis).name).expect("a length").1,
    };
    let zeros = |port: &Port| {
        let shape: Vec<usize> = port.dims.iter().map(length).collect();
        (vec![0.0f32; shape.iter().product()], shape)
    };
    let inputs: Vec<_> = interface.inputs().iter().map(zeros).collect();
    let mut outputs: Vec<_> = interface.outputs().iter().map(zeros).collect();
    let mut views = Bindings::default();
    for (port, (data, shape)) in interface.inputs().iter().zip(&inputs) {
        views.input(&port.name, TensorView::from_slice(data, shape).expect("a view"));
    }
    for (port, (data, shape)) in interface.outputs().iter().zip(&mut outputs) {
        views.output(&port.name, TensorViewMut::from_slice(data, shape).expect("a view"));
    }
    let constants = Constants::new(plan, None).expect("memory");
    let bound = interface.bind(&mut views).expect("fits");
    let mut placed = Placed::new((plan, &plan.read_by_key_tiles()), (bound, (0, None)), None).expect("small tables");
    let mut memory = placed.places().workspace().expect("memory");
    for (id, (tensor, slot)) in plan.tensors.iter().zip(&placed.slots).enumerate() {
        if tensor.origin == Origin::Table && tensor.storage == Storage::F32 {
            let elements = memory.slice_mut::<f32>(slot.start, slot.len).expect("a table");
            elements.iter_mut().enumerate().for_each(|(index, x)| *x = element(id, index));
        }
    }
    then(&placed.frame(&constants, (&mut memory, &mut Vec::new())))
}

/// One query, and for each query an integer that the mask reads.
fn with_a_constant() -> Verified {
    let g = GraphBuilder::new("constant");
    let (q, k, d) = (g.axis_of("q", 1), g.axis("k"), g.axis_of("d", 4));
    let [queries, keys, values] =
        [("q", q), ("k", k), ("v", k)].map(|(name, axis)| g.input(name, Elem::F32, [axis, d]));
    let seen = g.iota(k).lt(g.int_table([q], &[7]));
    let out = queries.dot(keys, d).mask(seen).softmax(k).dot(values, k);
    g.output("out", out, [q, d]);
    g.finish().expect("a graph")
}

/// Code of any lane count loads a constant along queries by whole tiles of them, as it loads tables.
#[test]
fn constants_are_padded_as_tables_are() {
    for (lanes, guard) in [4, 8, 16].into_iter().flat_map(|lanes| guards().into_iter().map(move |guard| (lanes, guard)))
    {
        let plan = planned(&with_a_constant(), lanes);
        let constants = Constants::new(&plan, guard).expect("memory");
        let queries = plan.tiling.queries();
        let mut found = 0;
        for (tensor, slot) in plan.tensors.iter().zip(&constants.slots) {
            if matches!(tensor.origin, Origin::Constant(_)) {
                let loaded = (slot.len + queries) * tensor.storage.bytes();
                assert!(slot.start + loaded <= constants.memory.bytes(), "{lanes} lanes, {guard:?}: {}", tensor.name);
                assert_eq!((constants.memory.as_ptr() as usize + slot.start) % 64, 0);
                found += 1;
            }
        }
        assert_eq!(found, 1, "{plan}");
    }
}

#[cfg(feature = "guard-pages")]
fn guards() -> Vec<Option<Guard>> {
    vec![None, Some(Guard::Before), Some(Guard::After)]
}

#[cfg(not(feature = "guard-pages"))]
fn guards() -> Vec<Option<Guard>> {
    vec![None]
}

/// Keys with a term by batch and head: a table of all three, and smaller ones.
fn with_a_large_table() -> Verified {
    let g = GraphBuilder::new("large");
    let [b, h, q, k] = ["b", "h", "q", "k"].map(|name| g.axis(name));
    let (d, e) = (g.axis_of("d", 4), g.axis_of("e", 4));
    let queries = g.input("q", Elem::F32, [b, h, q, d]);
    let keys = g.input("k", Elem::F32, [h, k, d]);
    let values = g.input("v", Elem::F32, [b, k, e]);
    let far = g.input("far", Elem::F32, [h, k]);
    let near = g.input("near", Elem::F32, [b]);
    let score = queries.dot(keys, d) + (far * near).tanh();
    // A second table, which the first leaves no place for.
    let seen = g.iota(k).lt(g.input("lengths", Elem::I32, [b]));
    let out = score.mask(seen).softmax(k).dot(values, k);
    g.output("out", out, [b, h, q, e]);
    g.finish().expect("a graph")
}

/// The frame of a call of [`with_a_large_table`], on views that repeat one element.
fn frame_of(graph: &Verified, plan: &Plan, [b, h, q, k]: [usize; 4]) -> Result<usize, CallError> {
    let (x, lengths) = ([0.0f32; 1], [0i32; 1]);
    let mut out = vec![0.0f32; b * h * q * 4];
    let interface = Interface::of(graph).expect("an interface");
    let mut views = Bindings::default();
    let repeated = |shape: &[usize]| {
        if shape.contains(&0) {
            return TensorView::from_slice::<f32>(&[], shape).expect("a view");
        }
        TensorView::with_strides(&x, shape, &vec![0; shape.len()]).expect("a view")
    };
    let dims: [(&str, &[usize]); 5] =
        [("q", &[b, h, q, 4]), ("k", &[h, k, 4]), ("v", &[b, k, 4]), ("far", &[h, k]), ("near", &[b])];
    for (name, shape) in dims {
        views.input(name, repeated(shape));
    }
    views.input("lengths", TensorView::with_strides(&lengths, &[b], &[0]).expect("a view"));
    views.output("out", TensorViewMut::from_slice(&mut out, &[b, h, q, 4]).expect("a view"));
    let constants = Constants::new(plan, None).expect("memory");
    let bound = interface.bind(&mut views).expect("fits");
    let mut placed = Placed::new((plan, &plan.read_by_key_tiles()), (bound, (0, None)), None)?;
    let mut tables = placed.places().workspace().map_err(|_| placed.too_large())?;
    Ok(placed.frame(&constants, (&mut tables, &mut Vec::new())).tables.bytes())
}

/// The sum of sizes that each fit can pass all memory: 4 b h k bytes are 2^63 less a few, and there is more than one such table.
#[test]
fn tables_past_all_memory_are_refused() {
    let graph = with_a_large_table();
    let plan = planned(&graph, 8);
    let (b, h, k) = (802, 1_569_850_033, 1_831_459);
    let refused = frame_of(&graph, &plan, [b, h, 0, k]).expect_err("2^64 bytes");
    let CallError::Tables { total, ref table, ref shape, bytes } = refused else { panic!("{refused:?}") };
    let term = plan.attention.as_ref().and_then(|attention| attention.key_term).expect("a term of keys");
    assert_eq!((&**table, &**shape), (plan.tensors[term.low].name.as_str(), &[b, h, k][..]));
    assert!(bytes < 1 << 64 && 1 << 64 < total, "{bytes} of {total}");
    // A product that overflows, and one that can be counted but not had.
    for lengths in [[1 << 24, 1 << 24, 0, 1 << 24], [1, 1 << 30, 0, 1 << 26]] {
        let refused = frame_of(&graph, &plan, lengths).expect_err("too large");
        assert!(matches!(refused, CallError::Tables { .. }), "{refused:?}");
    }
    // Axes as long as can be beside an empty one.
    assert!(frame_of(&graph, &plan, [0, 1, 1 << 20, 1 << 20]).is_ok());
    assert!(frame_of(&graph, &plan, [2, 3, 5, 7]).expect("small tables") < 1 << 20);
}
