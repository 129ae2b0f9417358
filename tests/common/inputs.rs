//! Lengths of calls, and random tensors for them.

use rhumb::ir::Extent;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

use super::{Layout, Rng, Spec, Tensor, Tensors};

/// Lengths of the axes that calls tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
}

const SIZES: [usize; 18] = [0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 130, 200];
/// What the interpreter does in some milliseconds, in elements of query, key and value.
const WORK: usize = 1_000_000;
/// What an elementwise op costs it, in the same.
const ELEMENTWISE: usize = 48;

impl Lengths {
    /// Lengths that hold the work for the interpreter in bounds: of any kind, of few queries and up to 10,000 keys, or, where that is
    /// cheap, of enough of both that keys without weight are looked for.
    pub(crate) fn random(rng: &mut Rng, spec: &Spec) -> Lengths {
        let work = |l: Lengths| l.batch * spec.heads * l.queries * l.keys * (spec.elements + ELEMENTWISE);
        if spec.small && !rng.one_in(3) {
            let lengths = Lengths { batch: 1, queries: 128 + rng.below(70), keys: 128 + rng.below(200) };
            return if rng.one_in(3) { Lengths { keys: lengths.queries, ..lengths } } else { lengths };
        }
        let size = |rng: &mut Rng| if rng.one_in(2) { rng.pick(&SIZES) } else { rng.below(201) };
        let mut lengths = Lengths { batch: 1 + rng.below(3), queries: size(rng), keys: size(rng) };
        match rng.below(8) {
            0 => lengths = Lengths { batch: 1, queries: 1 + rng.below(2), keys: 200 + rng.below(9_801) },
            1 | 2 => lengths.keys = lengths.queries,
            _ => {}
        }
        while work(lengths) > WORK {
            match rng.below(3) {
                0 => lengths.batch = 1,
                1 => lengths.queries = (lengths.queries * 2 / 3).max(1),
                _ => lengths.keys = lengths.keys * 2 / 3,
            }
        }
        lengths
    }

    fn shape(self, interface: &Interface, port: &Port) -> Vec<usize> {
        let length = |axis: &Axis| {
            let info = &interface.axes()[axis.index()];
            match (info.extent, info.name.as_str()) {
                (Extent::Static(length), _) => length as usize,
                (_, "b") => self.batch,
                (_, "q") => self.queries,
                (_, "k") => self.keys,
                (_, name) => panic!("axis `{name}`"),
            }
        };
        port.dims.iter().map(length).collect()
    }
}

/// Where the tokens of a call stand.
struct Tokens {
    /// The document of each key, from 0 on.
    documents: Vec<i32>,
    /// The position of each key: of some sequence, or of its document.
    positions: Vec<i64>,
    /// Index of the first query among keys.
    first: i64,
}

impl Tokens {
    fn random(rng: &mut Rng, lengths: Lengths) -> Tokens {
        let (mut documents, mut positions) = (Vec::new(), Vec::new());
        let start = rng.pick(&[0, 0, 3, -40, 1000, -1000, 30_000, 100_000, 999_000, -999_000]);
        let (length, restarts) = (rng.between(1, 100) as usize, rng.one_in(2));
        let (mut document, mut position) = (0, start);
        for _ in 0..lengths.keys {
            documents.push(document);
            positions.push(position);
            position += 1;
            if rng.one_in(length) {
                document += 1;
                if restarts {
                    position = if rng.one_in(3) { start } else { rng.between(0, 1_000_000) };
                }
            }
        }
        Tokens { documents, positions, first: lengths.keys as i64 - lengths.queries as i64 }
    }

    /// The value of a query or a key, by the last of them for those past the end.
    fn at<T: Copy + Default>(&self, of: &[T], index: usize, query: bool) -> T {
        let index = index as i64 + if query { self.first } else { 0 };
        of.get(index.clamp(0, (of.len() as i64 - 1).max(0)) as usize).copied().unwrap_or_default()
    }
}

/// Tame tensors for every input, row-major: positions near 0, all else of variance 1 or in range.
pub(crate) fn inputs(rng: &mut Rng, interface: &Interface, lengths: Lengths) -> Tensors {
    interface.inputs().iter().map(|port| (port.name.clone(), tame(rng, interface, port, lengths))).collect()
}

fn tame(rng: &mut Rng, interface: &Interface, port: &Port, lengths: Lengths) -> Tensor {
    let shape = lengths.shape(interface, port);
    let count: usize = shape.iter().product();
    let keys = lengths.keys as i64;
    let (low, high) = match port.name.as_str() {
        "q_pos" | "k_pos" => (0, 300),
        "key_lengths" => (0, keys + 2),
        "prefix" => (0, keys.max(1)),
        "q_documents" | "k_documents" => (0, 2),
        "q_offset" => (-3, keys + 3),
        "length" => (1, 300),
        // Out of range at both ends of a table of 9.
        name if name.starts_with("at") => (-3, 12),
        // Integers of any size, 0 and the lowest among them.
        "z" => (-1, 1),
        name => {
            return match port.elem {
                Elem::Bool => {
                    let seldom = 2 + rng.below(5);
                    Tensor::bool(shape, (0..count).map(|_| !rng.one_in(seldom)).collect::<Vec<_>>())
                }
                Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => Tensor::f32(shape, rng.normals(count)).rounded(port.elem),
                Elem::F32 if name == "slopes" => {
                    Tensor::f32(shape, (0..count).map(|_| rng.unit() as f32).collect::<Vec<_>>())
                }
                // Scaled back, they are of variance 1.
                Elem::F32 if name.ends_with("_scale") => {
                    Tensor::f32(shape, (0..count).map(|_| 0.01 + 0.01 * rng.unit() as f32).collect::<Vec<_>>())
                }
                Elem::F32 if name.ends_with("_zero") => {
                    Tensor::f32(shape, (0..count).map(|_| rng.between(-20, 20) as f32 / 4.0).collect::<Vec<_>>())
                }
                Elem::F32 => Tensor::f32(shape, rng.normals(count)),
                Elem::I8 => {
                    let all = |_| rng.between(-128, 127) as f32;
                    Tensor::f32(shape, (0..count).map(all).collect::<Vec<_>>()).rounded(Elem::I8)
                }
                Elem::I32 => panic!("what does `{name}` hold?"),
            };
        }
    };
    let mut numbers: Vec<i32> = (0..count).map(|_| rng.between(low, high) as i32).collect();
    if rng.one_in(2) {
        numbers.sort_unstable();
    }
    if port.name == "z" {
        numbers.iter_mut().for_each(|x| *x = [i32::MIN, 0, i32::MAX][(*x + 1) as usize]);
    }
    match port.elem {
        Elem::F32 => Tensor::f32(shape, numbers.iter().map(|x| *x as f32 / 4.0).collect::<Vec<_>>()),
        _ => Tensor::i32(shape, numbers),
    }
}

/// Tensors that are not tame: positions to a million and below 0, documents that are packed, sizes that differ, terms that nearly cancel,
/// and with `odd` what is not finite, in any places.
pub(crate) fn wild_inputs(rng: &mut Rng, interface: &Interface, lengths: Lengths, odd: bool) -> Tensors {
    let tokens = Tokens::random(rng, lengths);
    let cancel = rng.one_in(6);
    let mut tensors = Tensors::new();
    for port in interface.inputs() {
        let mut tensor = tame(rng, interface, port, lengths);
        let query = port.name.starts_with('q');
        let axis =
            port.dims.iter().position(|axis| interface.axes()[axis.index()].name == if query { "q" } else { "k" });
        match (port.name.as_str(), axis) {
            ("q_pos" | "k_pos", Some(axis)) => {
                let fraction = if port.elem == Elem::F32 && rng.one_in(2) { 0.25 } else { 0.0 };
                let index = index_along(tensor.shape(), axis);
                tensor.replace(|at| Some(tokens.at(&tokens.positions, index(at), query) as f64 + fraction));
            }
            ("q_documents" | "k_documents", Some(axis)) => {
                let index = index_along(tensor.shape(), axis);
                tensor.replace(|at| Some(f64::from(tokens.at(&tokens.documents, index(at), query))));
            }
            (name, _) if port.elem == Elem::F32 && name.len() == 2 && name.starts_with('x') => {
                let size = if cancel { 300.0 } else { rng.pick(&[1.0, 1.0, 0.1, 8.0]) };
                let sign = if name == "x1" { -1.0 } else { 1.0 };
                let old = tensor.numbers();
                tensor.replace(|at| Some(if cancel { sign * (size + old[at]) } else { size * old[at] }));
            }
            ("k" | "q", _) => {
                // Some rows are longer than others.
                let (factor, every) = (rng.pick(&[1.0, 1.0, 3.0]), 5 + rng.below(90));
                let (old, width) = (tensor.numbers(), tensor.shape().last().copied().unwrap_or(1).max(1));
                tensor.replace(|at| (at / width).is_multiple_of(every).then(|| old[at] * factor));
            }
            _ => {}
        }
        // Rules of the class finite-only take factors to be finite.
        if odd
            && port.name != "slopes"
            && !port.name.ends_with("_scale")
            && !port.name.ends_with("_zero")
            && port.elem.widened() == Elem::F32
            && !tensor.shape().contains(&0)
            && rng.one_in(3)
        {
            let count: usize = tensor.shape().iter().product();
            let (place, x) = (rng.below(count), rng.pick(&[f64::NAN, f64::NEG_INFINITY, f64::INFINITY]));
            tensor.replace(|at| (at == place).then_some(x));
        }
        tensors.insert(port.name.clone(), tensor);
    }
    tensors
}

/// The index along an axis of an element in row-major order.
fn index_along(shape: &[usize], axis: usize) -> impl Fn(usize) -> usize + use<> {
    let (inner, length) = (shape[axis + 1..].iter().product::<usize>().max(1), shape[axis].max(1));
    move |at| at / inner % length
}

/// The same tensors, each in a random layout.
pub(crate) fn scattered(rng: &mut Rng, tensors: &Tensors) -> Tensors {
    let layout = |rng: &mut Rng, tensor: &Tensor| Layout::random(rng, tensor.shape().len(), false);
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.stored(&layout(rng, tensor)))).collect()
}

/// Unwritten tensors for every output, each in the layout that `layout` gives its rank.
pub(crate) fn outputs(interface: &Interface, lengths: Lengths, mut layout: impl FnMut(usize) -> Layout) -> Tensors {
    let tensor = |port: &Port| {
        let tensor = Tensor::unwritten_of(port.elem, &lengths.shape(interface, port), &layout(port.dims.len()));
        (port.name.clone(), tensor)
    };
    interface.outputs().iter().map(tensor).collect()
}

/// Names of the dimensions of a tensor.
pub(crate) fn dims<'i>(interface: &'i Interface, port: &Port) -> Vec<&'i str> {
    port.dims.iter().map(|axis| interface.axes()[axis.index()].name.as_str()).collect()
}
