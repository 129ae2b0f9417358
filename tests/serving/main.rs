//! Serving: calls that run together on tensors in pages, against what each gives alone, in one piece, on one thread; and against the
//! interpreter.

mod caches;
#[path = "../common/mod.rs"]
mod common;
mod model;
mod norms;
mod pools;
mod scores;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::case::bits;
use common::{Layout, Lengths, Rng, Spec, Tensor, Tensors, outputs, run};
use rhumb::compiler::Kernels;
use rhumb::prelude::*;
use rhumb::runtime::Reference;

/// What the interpreter does in some milliseconds, in elements of query, key and value.
const WORK: usize = 400_000;

/// An attention, compiled for one thread and for several, and interpreted.
struct Served {
    what: String,
    heads: usize,
    elements: usize,
    alone: Arc<Kernel>,
    together: Arc<Kernel>,
    reference: Reference,
}

/// A call: its lengths, and all inputs in one piece.
struct Asked {
    lengths: Lengths,
    tensors: Tensors,
}

impl Served {
    /// Kernels of a random kind, for one target.
    fn new(rng: &mut Rng, targets: &[Target], spec: &Spec) -> Served {
        let kernels = rng.pick(&[Kernels::Cheapest, Kernels::Cheapest, Kernels::Prefill, Kernels::Decode]);
        let (target, threads) = (rng.pick(targets), 1 + rng.below(4));
        let engine = |threads: usize| {
            let builder = Engine::builder().target(target.clone()).threads(threads).kernels(kernels);
            builder.build().expect("an engine")
        };
        let compile =
            |engine: &Engine| engine.compile(&spec.graph).unwrap_or_else(|error| panic!("{}: {error}", spec.what));
        let one = engine(1);
        Served {
            what: format!("{}; {target}, {}, {threads} threads", spec.what, kernels.name()),
            heads: spec.heads,
            elements: spec.elements,
            alone: compile(&one),
            together: compile(&engine(threads)),
            reference: one.reference(&spec.graph).expect("a reference"),
        }
    }

    /// Runs calls together, with some inputs bound as `bound` tells by the number of the call, and holds each to itself alone and to the
    /// interpreter.
    fn check<'a>(
        &self,
        rng: &mut Rng,
        asked: &'a [Asked],
        bound: &'a [BTreeMap<String, InputView<'a>>],
        wrong: &mut Vec<String>,
    ) {
        let interface = self.together.interface();
        let mut made: Vec<Tensors> = asked
            .iter()
            .map(|asked| outputs(interface, asked.lengths, |rank| Layout::random(rng, rank, true)))
            .collect();
        let mut batch = self.together.batch();
        for ((asked, bound), made) in asked.iter().zip(bound).zip(&mut made) {
            let call = batch.add();
            for (name, tensor) in &asked.tensors {
                call.input(name, bound.get(name).copied().unwrap_or_else(|| tensor.view().into()));
            }
            for (name, tensor) in made {
                call.output(name, tensor.view_mut());
            }
        }
        if let Err(error) = batch.run() {
            wrong.push(format!("{}\n    {error}", self.what));
            return;
        }
        for (number, (asked, made)) in asked.iter().zip(&made).enumerate() {
            let context = || format!("{}; call {number}, {:?}", self.what, asked.lengths);
            let mut alone = outputs(interface, asked.lengths, |_| Layout::Rows);
            run(self.alone.call(), &asked.tensors, &mut alone).expect("runs");
            if bits(made) != bits(&alone) {
                wrong.push(format!("{}\n    is another alone", context()));
            }
            for (name, tensor) in made.iter().filter(|(_, tensor)| !tensor.written_inside_alone()) {
                wrong.push(format!(
                    "{}\n    `{name}` is written elsewhere, or not all of it is: {:?}",
                    context(),
                    tensor.shape()
                ));
            }
            let Lengths { batch, queries, keys } = asked.lengths;
            if batch * self.heads * queries * keys * (self.elements + 48) <= WORK {
                let mut expected = outputs(interface, asked.lengths, |_| Layout::Rows);
                run(self.reference.call(), &asked.tensors, &mut expected).expect("interprets");
                let (name, off) = common::bound::furthest(&self.alone, &asked.tensors, made, &expected);
                if off.parts > 1.0 {
                    wrong.push(format!("{}\n    `{name}` {off}", context()));
                }
            }
        }
    }
}

/// Zeros of an element type.
fn zeros(elem: Elem, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    match elem {
        Elem::I32 => Tensor::i32(shape, vec![0; count]),
        Elem::Bool => Tensor::bool(shape, vec![false; count]),
        _ => Tensor::f32(shape, vec![0.0; count]).rounded(elem),
    }
}
