use insta::assert_snapshot;
use rhumb_ir::GraphBuilder;

use super::*;
use crate::view::TensorView;

/// Grouped attention without a position scheme, and the sum of a truth value to have all element types.
fn attention() -> Verified {
    let builder = GraphBuilder::new("attention");
    let b = builder.axis("b");
    let h = builder.axis_of("h", 4);
    let g = builder.groups("g", 2, h);
    let (q, k) = (builder.axis("q"), builder.axis("k"));
    let d = builder.axis_of("d", 8);
    let query = builder.input("q", Elem::F32, [b, h, q, d]);
    let key = builder.input("k", Elem::F32, [b, g, k, d]);
    let value = builder.input("v", Elem::F32, [b, g, k, d]);
    let lengths = builder.input("lengths", Elem::I32, [b]);
    let keep = builder.input("keep", Elem::Bool, [k]);
    let mask = builder.iota(k).lt(lengths) & keep;
    let score = mask.select(query.dot(key, d), f64::NEG_INFINITY);
    builder.output("out", score.softmax(k).dot(value, k), [b, h, q, d]);
    builder.output("lse", score.log_sum_exp(k, None), [b, h, q]);
    builder.finish().expect("a graph")
}

impl Bindings<'_> {
    fn without(&mut self, name: &str) {
        if let Some(position) = self.input_names.iter().position(|kept| *kept == name) {
            self.input_names.remove(position);
            self.views.inputs.remove(position);
        }
        if let Some(position) = self.output_names.iter().position(|kept| *kept == name) {
            self.output_names.remove(position);
            self.views.outputs.remove(position);
        }
    }
}

/// Memory for one call.
struct Tensors {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    lengths: Vec<i32>,
    keep: Vec<bool>,
    out: Vec<f32>,
    lse: Vec<f32>,
}

impl Tensors {
    fn new() -> Tensors {
        Tensors {
            q: vec![0.0; 3 * 4 * 5 * 8],
            k: vec![0.0; 3 * 2 * 7 * 8],
            v: vec![0.0; 3 * 2 * 7 * 8],
            lengths: vec![7; 3],
            keep: vec![true; 7],
            out: vec![0.0; 3 * 4 * 5 * 8],
            lse: vec![0.0; 3 * 4 * 5],
        }
    }

    fn bindings(&mut self) -> Bindings<'_> {
        let mut bindings = Bindings::default();
        bindings.input("k", TensorView::from_slice(&self.k, &[3, 2, 7, 8]).expect("k"));
        bindings.input("q", TensorView::from_slice(&self.q, &[3, 4, 5, 8]).expect("q"));
        bindings.input("v", TensorView::from_slice(&self.v, &[3, 2, 7, 8]).expect("v"));
        bindings.input("lengths", TensorView::from_slice(&self.lengths, &[3]).expect("lengths"));
        bindings.input("keep", TensorView::from_slice(&self.keep, &[7]).expect("keep"));
        bindings.output("lse", TensorViewMut::from_slice(&mut self.lse, &[3, 4, 5]).expect("lse"));
        bindings.output("out", TensorViewMut::from_slice(&mut self.out, &[3, 4, 5, 8]).expect("out"));
        bindings
    }
}

/// Binds a good call with some views put in place of those of their names, or added.
#[track_caller]
fn bind_with(inputs: &[(&'static str, TensorView<'_>)], outputs: Vec<(&'static str, TensorViewMut<'_>)>) -> String {
    let mut tensors = Tensors::new();
    let mut bindings = tensors.bindings();
    for (name, view) in inputs {
        bindings.without(name);
        bindings.input(name, *view);
    }
    for (name, view) in outputs {
        bindings.without(name);
        bindings.output(name, view);
    }
    Interface::of(&attention()).expect("an interface").bind(&mut bindings).expect_err("refused").to_string()
}

#[test]
fn lists_what_a_graph_reads_and_writes() {
    assert_snapshot!(Interface::of(&attention()).expect("an interface"), @r#"
    input "q": f32[b, h = 4, q, d = 8]
    input "k": f32[b, g = 2, k, d = 8]
    input "v": f32[b, g = 2, k, d = 8]
    input "lengths": i32[b]
    input "keep": bool[k]
    output "out": f32[b, h = 4, q, d = 8]
    output "lse": f32[b, h = 4, q]
    "#);
}

#[test]
fn binds_in_the_order_of_the_graph() {
    let mut tensors = Tensors::new();
    let interface = Interface::of(&attention()).expect("an interface");
    let mut bindings = tensors.bindings();
    let bound = interface.bind(&mut bindings).expect("fits");
    assert_eq!(bound.lengths.as_slice(), [3, 4, 2, 5, 7, 8]);
    assert_eq!(bound.inputs.iter().map(|view| view.shape().len()).collect::<Vec<_>>(), [4, 4, 4, 1, 1]);
    assert_eq!(bound.outputs.iter().map(TensorViewMut::rank).collect::<Vec<_>>(), [4, 3]);
}

#[test]
fn binding_allocates_nothing() {
    let mut tensors = Tensors::new();
    let interface = Interface::of(&attention()).expect("an interface");
    let mut bindings = tensors.bindings();
    assert!(interface.bind(&mut bindings).is_ok());
    let allocated = allocation_counter::measure(|| assert!(interface.bind(&mut bindings).is_ok()));
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn lengths_of_zero_bind() {
    let interface = Interface::of(&attention()).expect("an interface");
    let mut bindings = Bindings::default();
    bindings.input("q", TensorView::from_slice::<f32>(&[], &[1, 4, 0, 8]).expect("q"));
    bindings.input("k", TensorView::from_slice::<f32>(&[], &[1, 2, 0, 8]).expect("k"));
    bindings.input("v", TensorView::from_slice::<f32>(&[], &[1, 2, 0, 8]).expect("v"));
    bindings.input("lengths", TensorView::from_slice(&[0], &[1]).expect("lengths"));
    bindings.input("keep", TensorView::from_slice::<u8>(&[], &[0]).expect("keep"));
    bindings.output("out", TensorViewMut::from_slice::<f32>(&mut [], &[1, 4, 0, 8]).expect("out"));
    bindings.output("lse", TensorViewMut::from_slice::<f32>(&mut [], &[1, 4, 0]).expect("lse"));
    assert_eq!(interface.bind(&mut bindings).expect("fits").lengths.as_slice(), [1, 4, 2, 0, 0, 8]);
}

#[test]
fn refused_names() {
    let one = [0.0f32];
    let view = TensorView::from_slice(&one, &[1]).expect("a view");
    let interface = Interface::of(&attention()).expect("an interface");
    let refused = |change: &dyn Fn(&mut Bindings<'_>)| {
        let mut tensors = Tensors::new();
        let mut bindings = tensors.bindings();
        change(&mut bindings);
        interface.bind(&mut bindings).expect_err("refused").to_string()
    };
    let shown = [
        bind_with(&[("lenghts", view)], vec![]),
        bind_with(&[("bias", view)], vec![]),
        bind_with(&[("out", view)], vec![]),
        refused(&|bindings| bindings.input("q", bindings.views.inputs[1])),
        refused(&|bindings| bindings.without("v")),
        refused(&|bindings| bindings.without("lse")),
        refused(&|bindings| *bindings = Bindings::default()),
    ]
    .join("\n");
    assert_snapshot!(shown);
}

#[test]
fn refused_types_and_shapes() {
    let ints = vec![0i32; 3 * 4 * 7 * 8];
    let floats = vec![0.0f32; 3 * 4 * 7 * 8];
    let view = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        TensorView::from_slice(&floats[..count], shape).expect("a view")
    };
    let mut out = vec![0.0f32; 3 * 4 * 6 * 8];
    let long = TensorView::with_strides(&[1u8], &[1 << 31], &[0]).expect("a view");
    let shown = [
        bind_with(&[("q", TensorView::from_slice(&ints[..3 * 4 * 5 * 8], &[3, 4, 5, 8]).expect("q"))], vec![]),
        bind_with(&[("lengths", view(&[3]))], vec![]),
        bind_with(&[("keep", view(&[7]))], vec![]),
        bind_with(&[("k", view(&[2, 7, 8]))], vec![]),
        bind_with(&[("q", view(&[3, 5, 4, 8]))], vec![]),
        bind_with(&[("q", view(&[3, 4, 5, 4]))], vec![]),
        bind_with(&[("k", view(&[3, 4, 7, 8]))], vec![]),
        bind_with(&[("v", view(&[3, 2, 6, 8]))], vec![]),
        bind_with(&[("lengths", TensorView::from_slice(&ints[..1], &[1]).expect("lengths"))], vec![]),
        bind_with(&[("keep", long)], vec![]),
        bind_with(&[], vec![("out", TensorViewMut::from_slice(&mut out, &[3, 4, 6, 8]).expect("out"))]),
    ]
    .join("\n");
    assert_snapshot!(shown);
}

#[test]
fn graphs_that_nothing_can_bind() {
    let builder = GraphBuilder::new("endless");
    let (n, m) = (builder.axis("n"), builder.axis("m"));
    let x = builder.input("x", Elem::F32, [n]);
    builder.output("y", x + builder.size(m), [n]);
    let endless = builder.finish().expect("a graph");
    let builder = GraphBuilder::new("deep");
    let axes: Vec<Axis> = (0..9).map(|i| builder.axis(&format!("a{i}"))).collect();
    builder.output("y", builder.input("x", Elem::F32, axes.clone()), axes);
    let deep = builder.finish().expect("a graph");
    let refused = |graph: &Verified| Interface::of(graph).expect_err("refused").to_string();
    let shown = [refused(&endless), refused(&deep)].join("\n");
    assert_snapshot!(shown);
}
