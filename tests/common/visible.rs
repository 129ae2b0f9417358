//! Which keys each query sees, and which elements of inputs it therefore reads.

use std::collections::BTreeSet;

use rhumb::ir::{Bindings, Op, Scalar, Value, interpret_value};
use rhumb::prelude::*;
use rhumb::runtime::Interface;

use super::{Lengths, Rng, Spec, Tensor, Tensors};

/// A row: batch, head, query.
pub(crate) type Row = (usize, usize, usize);

/// The masks of an attention, and what depends on what.
pub(crate) struct Masks {
    graph: Verified,
    interface: Interface,
    masks: Vec<Value>,
    /// Inputs that decide which keys are seen.
    pub(crate) deciding: BTreeSet<String>,
    /// Inputs that are read across rows: tables of gathers along the axes of the attention, and sinks.
    across: BTreeSet<String>,
    heads: usize,
}

/// Which keys each row sees.
#[derive(Clone, PartialEq)]
pub(crate) struct Visible {
    sizes: [usize; 4],
    sees: Vec<bool>,
}

/// Tensors as the interpreter takes them.
pub(crate) fn bindings(tensors: &Tensors) -> Bindings {
    let tensor = |tensor: &Tensor| rhumb::ir::Tensor {
        elem: tensor.elem(),
        shape: tensor.shape().to_vec(),
        data: tensor.numbers(),
    };
    tensors.iter().map(|(name, of)| (name.clone(), tensor(of))).collect()
}

impl Masks {
    pub(crate) fn of(spec: &Spec, interface: &Interface) -> Masks {
        let graph = spec.lowered.clone();
        let mut masks = Vec::new();
        let mut across = BTreeSet::new();
        for node in graph.nodes() {
            match &node.op {
                Op::Softmax { x, sink, .. } => {
                    let mut score = *x;
                    while let Op::Select { cond, on_true, on_false } = graph.op(score)
                        && matches!(graph.op(*on_false), Op::Const(Scalar::F32(x)) if *x == f64::NEG_INFINITY)
                    {
                        masks.push(*cond);
                        score = *on_true;
                    }
                    across.extend(sink.iter().flat_map(|sink| inputs_of(&graph, *sink)));
                }
                // Of weights without a softmax, what is hidden is 0.
                Op::Dot { a, axis, .. } if graph.axis(*axis).name == "k" => {
                    let mut weights = *a;
                    while let Op::Select { cond, on_true, on_false } = graph.op(weights)
                        && matches!(graph.op(*on_false), Op::Const(Scalar::F32(x)) if *x == 0.0)
                    {
                        masks.push(*cond);
                        weights = *on_true;
                    }
                }
                Op::Gather { table, axis, .. } if ["b", "h", "g", "q", "k"].contains(&&*graph.axis(*axis).name) => {
                    across.extend(inputs_of(&graph, *table));
                }
                _ => {}
            }
        }
        let deciding = masks.iter().flat_map(|mask| inputs_of(&graph, *mask)).collect();
        Masks { interface: interface.clone(), masks, deciding, across, heads: spec.heads, graph }
    }

    /// Which keys each row sees, by the interpreter.
    pub(crate) fn visible(&self, tensors: &Tensors, lengths: Lengths) -> Visible {
        let sizes = [lengths.batch, self.heads, lengths.queries, lengths.keys];
        let mut visible = Visible { sizes, sees: vec![true; sizes.iter().product()] };
        let bindings = bindings(tensors);
        for mask in &self.masks {
            let made = interpret_value(&self.graph, &bindings, *mask).expect("the mask is interpreted");
            let names: Vec<&str> = self.graph.ty(*mask).axes.iter().map(|axis| &*self.graph.axis(axis).name).collect();
            let steps = self.steps(&names, &made.shape);
            visible.for_each(|at, sees| *sees &= made.data[offset(&steps, at)] != 0.0);
        }
        visible
    }

    /// For each dimension that rows or keys tell: which of batch, head, query and key, what its index is divided by, its stride.
    fn steps(&self, names: &[&str], shape: &[usize]) -> Vec<[usize; 3]> {
        let mut stride = 1;
        let mut steps = Vec::new();
        for (name, length) in names.iter().zip(shape).rev() {
            let of = ["b", "h", "q", "k"].iter().position(|axis| axis == name);
            let of = if *name == "g" { Some((1, self.heads / length.max(&1))) } else { of.map(|of| (of, 1)) };
            if let Some((of, ratio)) = of {
                steps.push([of, ratio, stride]);
                stride *= length;
            }
        }
        steps
    }

    /// Which elements of an input are read by the rows that `rows` says.
    pub(crate) fn seen(&self, name: &str, visible: &Visible, rows: impl Fn(Row) -> bool) -> Vec<bool> {
        let port = self.interface.inputs().iter().find(|port| port.name == name).expect("an input");
        let names = super::inputs::dims(&self.interface, port);
        let lengths: Vec<usize> = names
            .iter()
            .map(|name| match *name {
                "b" => visible.sizes[0],
                "q" => visible.sizes[2],
                "k" => visible.sizes[3],
                name => {
                    let axis = self.graph.axis_named(name).expect("an axis");
                    self.graph.static_extent(axis).expect("a static length") as usize
                }
            })
            .collect();
        let steps = self.steps(&names, &lengths);
        let outer = ["b", "h", "g", "q", "k"];
        let cells: usize =
            names.iter().zip(&lengths).filter(|(name, _)| outer.contains(*name)).map(|(_, n)| n).product();
        let mut cell_seen = vec![self.across.contains(name); cells];
        let by_key = names.contains(&"k") || names.contains(&"q");
        visible.each(|at, sees| {
            if (sees || !by_key) && rows((at[0], at[1], at[2])) {
                cell_seen[offset(&steps, at)] = true;
            }
        });
        // With no key at all no pair was visited; what no pair needs is read all the same.
        if !by_key && visible.sizes[3] == 0 {
            cell_seen.fill(true);
        }
        // The cell of each element.
        let mut cells = vec![0usize];
        let mut stride = cell_seen.len();
        for (name, length) in names.iter().zip(&lengths) {
            if outer.contains(name) {
                stride = stride.checked_div(*length).unwrap_or(0);
                cells = cells.iter().flat_map(|cell| (0..*length).map(move |i| cell + i * stride)).collect();
            } else {
                cells = cells.iter().flat_map(|cell| std::iter::repeat_n(*cell, *length)).collect();
            }
        }
        cells.into_iter().map(|cell| cell_seen[cell]).collect()
    }

    /// The tensors with garbage in each element that no row of `rows` reads, those of `fixed` left alone. What decides about masks is left
    /// alone if these rows saw other keys by it.
    pub(crate) fn with_garbage(
        &self,
        rng: &mut Rng,
        (tensors, fixed): (&Tensors, &BTreeSet<String>),
        lengths: Lengths,
        rows: impl Fn(Row) -> bool + Copy,
    ) -> Tensors {
        let visible = self.visible(tensors, lengths);
        let mut changed = tensors.clone();
        for (name, tensor) in changed.iter_mut().filter(|(name, _)| !fixed.contains(*name)) {
            let (seen, elem) = (self.seen(name, &visible, rows), tensor.elem());
            tensor.replace(|at| (!seen[at]).then(|| garbage(rng, elem)));
        }
        let after = self.visible(&changed, lengths);
        let mut same = true;
        let mut sees = after.sees.iter();
        visible.each(|at, before| {
            same &= before == *sees.next().expect("as many") || !rows((at[0], at[1], at[2]));
        });
        if !same {
            for name in &self.deciding {
                changed.insert(name.clone(), tensors[name].clone());
            }
        }
        changed
    }
}

fn offset(steps: &[[usize; 3]], at: [usize; 4]) -> usize {
    steps.iter().map(|[of, ratio, stride]| at[*of] / ratio * stride).sum()
}

/// What ruins a result if it takes part in one.
fn garbage(rng: &mut Rng, elem: Elem) -> f64 {
    match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => rng.pick(&[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e30,
            -1e30,
            f64::from(f32::MAX),
            f64::from(f32::MIN),
            1e6,
            -0.0,
        ]),
        Elem::I8 => f64::from(rng.pick(&[i8::MIN, i8::MAX, 0, -1])),
        Elem::I32 => f64::from(rng.pick(&[i32::MIN, i32::MAX, i32::MIN + 1, 0, -1, 1 << 30, 1_000_000])),
        Elem::Bool => f64::from(u8::from(rng.one_in(2))),
    }
}

/// The inputs that a value depends on.
fn inputs_of(graph: &Graph, value: Value) -> BTreeSet<String> {
    let (mut seen, mut stack, mut names) = (vec![false; graph.nodes().len()], vec![value], BTreeSet::new());
    while let Some(value) = stack.pop() {
        if !std::mem::replace(&mut seen[value.index()], true) {
            if let Op::Input { name, .. } = graph.op(value) {
                names.insert(name.clone());
            }
            stack.extend(graph.op(value).operands());
        }
    }
    names
}

impl Visible {
    fn for_each(&mut self, mut each: impl FnMut([usize; 4], &mut bool)) {
        let sizes = self.sizes;
        for (index, sees) in self.sees.iter_mut().enumerate() {
            each(place(sizes, index), sees);
        }
    }

    fn each(&self, mut each: impl FnMut([usize; 4], bool)) {
        for (index, sees) in self.sees.iter().enumerate() {
            each(place(self.sizes, index), *sees);
        }
    }

    /// Share of the pairs that are hidden.
    pub(crate) fn hidden(&self) -> f64 {
        let hidden = self.sees.iter().filter(|sees| !**sees).count();
        hidden as f64 / self.sees.len().max(1) as f64
    }
}

fn place([_, heads, queries, keys]: [usize; 4], index: usize) -> [usize; 4] {
    let (pair, key) = (index / keys, index % keys);
    [pair / queries / heads, pair / queries % heads, pair % queries, key]
}
