//! Programs against the interpreter, and what they leave out.

mod classes;
mod load;
mod pruned;

use rhumb_compiler::{Options, Target, compile};
use rhumb_ir::{Bindings, Extent, Tensor, Verified, interpret};
use rhumb_plugins::{Alibi, Causal, Registry, Rope, SlidingWindow};
use rhumb_random::Rng;

use super::pool::{Pool, ThreadMemory};
use super::run::{Part, Parts, run as run_calls};
use super::*;
use crate::interface::{Bindings as Views, Interface};
use crate::recycle::Spares;
use crate::threads::Threads;
use crate::view::{TensorView, TensorViewMut};

/// A compiled call.
struct Ran {
    program: Program,
    pool: Pool,
    inputs: Bindings,
    /// Greatest difference from the reference, over all outputs.
    off: f64,
}

impl Ran {
    /// The memory of a single thread, which is that of the last task.
    fn memory(&self) -> ThreadMemory {
        self.pool.lease_threads().pop().expect("a thread")
    }
}

fn run(graph: &Verified, target: &Target, sizes: &[(&str, usize)]) -> Ran {
    let registry = Registry::standard();
    let compiled = compile(graph, &registry, target, &Options::default(), &mut |_, _| ()).expect("compiles");
    let program = Program::load(compiled.plan.clone(), &compiled.code, compiled.choice.target(), None).expect("loads");
    let interface = Interface::of(&compiled.lowered).expect("an interface");
    let length = |axis: rhumb_ir::Axis| match graph.axis(axis).extent {
        Extent::Static(n) => n as usize,
        Extent::Dynamic => sizes.iter().find(|(name, _)| *name == graph.axis(axis).name).expect("a size").1,
    };
    let shape = |dims: &[rhumb_ir::Axis]| dims.iter().map(|axis| length(*axis)).collect::<Vec<_>>();
    let inputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
        .inputs()
        .iter()
        .zip(1..)
        .map(|(port, seed)| {
            let shape = shape(&port.dims);
            (port.name.clone(), shape.clone(), Rng::new(seed).normals(shape.iter().product()))
        })
        .collect();
    let mut outputs: Vec<(String, Vec<usize>, Vec<f32>)> = interface
        .outputs()
        .iter()
        .map(|port| {
            let shape = shape(&port.dims);
            (port.name.clone(), shape.clone(), vec![f32::NAN; shape.iter().product()])
        })
        .collect();
    let mut views = Views::default();
    for (name, shape, data) in &inputs {
        views.input(name, TensorView::from_slice(data, shape).expect("a view"));
    }
    for (name, shape, data) in &mut outputs {
        views.output(name, TensorViewMut::from_slice(data, shape).expect("a view"));
    }
    let threads = Threads::new(1).expect("threads");
    let (pool, bound) = (Pool::new(None), interface.bind(&mut views).expect("fits"));
    let parts = Parts::from_slice(&[Part { program: &program, queries: (0, None) }]);
    run_calls([(parts, bound)], (&pool, &Spares::new(), &threads), None).expect("runs");
    drop(views);
    let inputs: Bindings = inputs
        .iter()
        .map(|(name, shape, data)| {
            (name.clone(), Tensor::f32(shape.clone(), data.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()))
        })
        .collect();
    let expected = interpret(&compiled.lowered, &inputs).expect("interprets");
    let mut worst = 0.0f64;
    for (name, _, data) in &outputs {
        for (x, y) in data.iter().zip(&expected[name.as_str()].data) {
            let off = (f64::from(*x) - y).abs();
            worst = if f64::from(*x) == *y { worst } else { worst.max(if off.is_nan() { f64::INFINITY } else { off }) };
        }
    }
    Ran { program, pool, inputs, off: worst }
}

#[test]
fn kernels_agree_with_the_reference() {
    let targets = Target::host().expect("a target").candidates();
    for (q, k) in [(1, 1), (15, 17), (17, 15), (130, 130), (1, 130), (48, 64), (0, 5), (5, 0)] {
        let sizes = [("b", 2), ("q", q), ("k", k)];
        let plain = rhumb_plugins::Attention::heads(4).head_dim(32);
        let alibi = rhumb_plugins::Attention::heads(6).head_dim(32).kv_heads(2).scheme(Alibi::new()).scheme(Causal);
        let rope = rhumb_plugins::Attention::heads(4).head_dim(24).kv_heads(1).scheme(Rope::new()).scheme(Causal).lse();
        for (name, attention) in [("plain", plain), ("alibi", alibi), ("rope", rope)] {
            let graph = attention.build().expect("a graph");
            for target in &targets {
                let off = run(&graph, target, &sizes).off;
                assert!(off < 2e-6, "{name}, {target}, {q} x {k}: {off}");
            }
        }
    }
}
