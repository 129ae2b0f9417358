use std::fmt::Write as _;

use super::*;
use crate::builder::GraphBuilder;
use crate::op::{Attr, Attrs, Base, Binary, Hook, Pairing, Scalar};
use crate::unary::Unary;

/// A graph of its own making in front of the verifier.
struct Case {
    name: &'static str,
    graph: Graph,
}

/// A well-formed graph to spoil: values 0 to 7, one site, one output.
fn good() -> Graph {
    let b = GraphBuilder::new("case");
    let h = b.axis_of("h", 4);
    let (_, q, k, d) = (b.groups("g", 2, h), b.axis("q"), b.axis("k"), b.axis_of("d", 8));
    let query = b.input("q", Elem::F32, [h, q, d]);
    let key = b.input("k", Elem::F32, [h, k, d]);
    let (i, j, n) = (b.iota(q), b.iota(k), b.size(k));
    let site = b.site(Site {
        query: q,
        key: k,
        head: Some(h),
        dim: d,
        q_pos: i.value(),
        k_pos: j.value(),
        q_index: i.value(),
        k_index: j.value(),
        length: n.value(),
    });
    let turned = b.scheme("rope", Hook::Query, query, site, Attrs::new());
    let score = turned.dot(key, d).label("score");
    b.output("p", score.softmax(k), [h, q, k]);
    b.finish().unwrap().into_inner()
}

fn case(name: &'static str, spoil: impl FnOnce(&mut Graph)) -> Case {
    let mut graph = good();
    spoil(&mut graph);
    Case { name, graph }
}

fn axis(index: usize) -> Axis {
    Axis::from_index(index).unwrap()
}

/// Puts an op in front of the output, with the type that stands there.
fn put(graph: &mut Graph, op: Op) {
    let ty = Type { elem: Elem::F32, axes: AxisSet::EMPTY };
    let ty = crate::infer::infer(graph, &op).unwrap_or(ty);
    graph.nodes.push(Node { op, ty, label: Some("put".to_owned()) });
}

#[test]
fn a_good_graph_passes() {
    good().verify().unwrap();
}

#[test]
fn every_fault_is_found_and_told() {
    let mut report = String::new();
    for Case { name, graph } in [references(), axes(), types(), tensors(), sites(), outputs()].into_iter().flatten() {
        let error = graph.verify().expect_err(name);
        let _ = write!(report, "## {name}\n{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

/// Axes `h`, `g`, `q`, `k`, `d` of the graph.
const AXES: [usize; 5] = [0, 1, 2, 3, 4];

/// What refers to what is not there.
fn references() -> Vec<Case> {
    let [_, _, q, _, _] = AXES.map(axis);
    let i = Value(2);
    vec![
        case("operand that does not exist", |graph| {
            put(graph, Op::Unary(Unary::Exp, Value(99)));
        }),
        case("operand made later", |graph| graph.nodes[2].op = Op::Unary(Unary::Neg, Value(4))),
        case("axis that does not exist", |graph| {
            put(graph, Op::Iota(axis(40)));
        }),
        case("groups of an axis that does not exist", |graph| graph.axes[1].groups = Some(axis(40))),
        case("stored type with an axis that does not exist", |graph| {
            graph.nodes[0].ty.axes = graph.nodes[0].ty.axes.with(axis(40));
        }),
        case("site that does not exist", |graph| {
            let attrs = Attrs::from([("at".to_owned(), Attr::Value(i))]);
            put(
                graph,
                Op::Scheme {
                    scheme: "m".to_owned(),
                    hook: Hook::Mask,
                    x: None,
                    site: SiteId(3),
                    attrs,
                    instance: None,
                },
            );
        }),
        case("site with a value that does not exist", |graph| graph.sites[0].length = Value(99)),
        case("output of a value that does not exist", |graph| graph.outputs[0].value = Value(99)),
        case("site behind the op that refers to it", |graph| {
            put(graph, Op::Iota(q));
            graph.sites[0].q_pos = Value(8);
        }),
    ]
}

/// Axes.
fn axes() -> Vec<Case> {
    let [_, g, _, _, _] = AXES.map(axis);
    vec![
        case("axis name", |graph| graph.axes[3].name = "two words".to_owned()),
        case("axis named twice", |graph| graph.axes[3].name = "q".to_owned()),
        case("axis of length 0", |graph| graph.axes[4].extent = Extent::Static(0)),
        case("axis that no i32 counts", |graph| graph.axes[4].extent = Extent::Static(u32::MAX)),
        case("axis that groups itself", |graph| graph.axes[1].groups = Some(g)),
        case("groups of groups", |graph| graph.axes[4].groups = Some(g)),
        case("uneven groups", |graph| graph.axes[1].extent = Extent::Static(3)),
        case("dynamic groups", |graph| graph.axes[1].extent = Extent::Dynamic),
    ]
}

/// Types of ops.
fn types() -> Vec<Case> {
    let [h, g, _, k, d] = AXES.map(axis);
    let (query, key, i) = (Value(0), Value(1), Value(2));
    vec![
        case("stale type", |graph| graph.nodes[2].ty.elem = Elem::F32),
        case("too large", |graph| {
            for index in [0, 1, 4] {
                graph.axes[index].extent = Extent::Static(1 << 30);
            }
            graph.axes[1].groups = None;
            put(graph, Op::Input { name: "huge".to_owned(), dims: vec![h, g, d], elem: Elem::F32 });
        }),
        case("element type", |graph| {
            put(graph, Op::Unary(Unary::Exp, i));
        }),
        case("element types that differ", |graph| {
            put(graph, Op::Binary(Binary::Add, query, i));
        }),
        case("axis that is missing", |graph| {
            put(graph, Op::Dot { a: query, b: key, axis: k });
        }),
        case("sink that is not free of the axis", |graph| {
            put(graph, Op::Softmax { x: query, axis: d, sink: Some(key), base: Base::E });
        }),
        case("sink over groups of the axis", |graph| {
            put(graph, Op::Input { name: "sink".to_owned(), dims: vec![g], elem: Elem::F32 });
            put(graph, Op::LogSumExp { x: query, axis: h, sink: Some(Value(8)), base: Base::Two });
        }),
    ]
}

/// Tables, rotations and inputs.
fn tensors() -> Vec<Case> {
    let [h, g, q, _, d] = AXES.map(axis);
    vec![
        case("table over a dynamic axis", |graph| {
            put(graph, Op::Table { dims: vec![q], elem: Elem::F32, data: vec![0.0; 8].into() });
        }),
        case("table length", |graph| {
            put(graph, Op::Table { dims: vec![h, d], elem: Elem::F32, data: [0.5; 8].into() });
        }),
        case("table element", |graph| {
            put(graph, Op::Table { dims: vec![g], elem: Elem::I32, data: [1.0, 2.5].into() });
        }),
        case("rotary block", |graph| {
            put(graph, Op::Input { name: "angle".to_owned(), dims: vec![h], elem: Elem::F32 });
            put(graph, Op::Input { name: "x".to_owned(), dims: vec![d], elem: Elem::F32 });
            let pairing = Pairing::Half;
            put(graph, Op::Rotate { x: Value(9), angle: Value(8), dim: d, pair: h, pairing, start: 1 });
        }),
        case("dimension named twice", |graph| {
            put(graph, Op::Input { name: "x".to_owned(), dims: vec![h, h], elem: Elem::Bool });
        }),
        case("axis beside its groups", |graph| {
            put(graph, Op::Input { name: "x".to_owned(), dims: vec![g, h], elem: Elem::Bool });
        }),
    ]
}

/// Scheme ops and their sites.
fn sites() -> Vec<Case> {
    let [_, g, q, _, _] = AXES.map(axis);
    let query = Value(0);
    vec![
        case("scheme operands", |graph| {
            let attrs = Attrs::new();
            put(
                graph,
                Op::Scheme {
                    scheme: "m".to_owned(),
                    hook: Hook::Mask,
                    x: Some(query),
                    site: SiteId(0),
                    attrs,
                    instance: None,
                },
            );
        }),
        case("scheme without a name", |graph| {
            let attrs = Attrs::new();
            put(
                graph,
                Op::Scheme { scheme: String::new(), hook: Hook::Mask, x: None, site: SiteId(0), attrs, instance: None },
            );
        }),
        case("site with an axis twice", |graph| graph.sites[0].key = q),
        case("site over an axis and its groups", |graph| graph.sites[0].dim = g),
        case("index that is no i32", |graph| graph.sites[0].q_index = query),
        case("position that is a truth value", |graph| {
            graph.nodes[3] = Node {
                op: Op::Const(Scalar::Bool(true)),
                ty: Type { elem: Elem::Bool, axes: AxisSet::EMPTY },
                label: None,
            };
        }),
        case("length over keys", |graph| graph.sites[0].length = Value(3)),
    ]
}

/// Names, outputs, and several mistakes at once.
fn outputs() -> Vec<Case> {
    let [h, _, q, k, _] = AXES.map(axis);
    let i = Value(2);
    vec![
        case("input without a name", |graph| {
            put(graph, Op::Input { name: String::new(), dims: vec![], elem: Elem::F32 });
        }),
        case("input named twice", |graph| {
            put(graph, Op::Input { name: "q".to_owned(), dims: vec![], elem: Elem::F32 });
        }),
        case("output named as an input", |graph| graph.outputs[0].name = "k".to_owned()),
        case("no output", |graph| graph.outputs.clear()),
        case("output dimensions", |graph| graph.outputs[0].dims = vec![h, q]),
        case("output dimension twice", |graph| graph.outputs[0].dims = vec![h, q, k, k]),
        case("output of another type", |graph| graph.outputs[0].elem = Elem::I32),
        case("several", |graph| {
            graph.outputs[0].dims = vec![h];
            graph.axes[0].name = "0".to_owned();
            put(graph, Op::Unary(Unary::Not, i));
        }),
    ]
}

#[test]
fn the_builder_tells_each_mistake_once() {
    let (b, other) = (GraphBuilder::new("mistaken"), GraphBuilder::new("other"));
    let (q, d) = (b.axis("q"), b.axis_of("d", 4));
    let x = b.input("x", Elem::F32, [q, d]);
    let foreign = other.scalar(1.0);
    let wrong = x.dot(b.iota(q), d);
    let later = (wrong + 1.0).exp().softmax(q);
    assert!(b.is_poisoned(later));
    b.output("later", later, [q]);
    let mixed = x + foreign;
    b.output("mixed", mixed, [q, d]);
    b.output("foreign", other.input("y", Elem::F32, []), []);
    b.output("x", x, [d]);
    let _ = b.expr(Value(1000));
    insta::assert_snapshot!(b.finish().unwrap_err());
}

#[test]
fn more_axes_than_fit_are_told_alone() {
    let b = GraphBuilder::new("wide");
    let axes: Vec<Axis> = (0..70).map(|i| b.axis_of(&format!("a{i}"), 2)).collect();
    b.output("x", b.input("x", Elem::F32, axes), []);
    let error = b.finish().unwrap_err();
    assert!(error.problems.iter().all(|problem| matches!(problem.fault, Fault::TooManyAxes { .. })));
    assert_eq!(error.problems.len(), 6);
    insta::assert_snapshot!(error.problems[0]);
}
