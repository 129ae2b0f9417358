//! rhumb as a contender.

use std::sync::Arc;
use std::time::Instant;

use rhumb::compiler::Features;
use rhumb::prelude::*;

use crate::case::{self, Case, Scheme, Tensors};
use crate::numbers::Stored;
use crate::{Contender, Failure, Prepared};

/// A kernel, and the tensors of its calls.
struct WithRhumb {
    kernel: Arc<Kernel>,
    case: Case,
    tensors: Arc<Tensors>,
    out: Stored,
}

/// The name that rhumb has for a type.
fn elem(elem: case::Elem) -> Elem {
    match elem {
        case::Elem::F32 => Elem::F32,
        case::Elem::F16 => Elem::F16,
        case::Elem::Bf16 => Elem::Bf16,
        case::Elem::I8 => Elem::I8,
    }
}

/// What a kernel may use of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    All,
    /// As on a machine without AVX-512: fewer lanes, and half the registers.
    Avx2,
}

/// Compiles a kernel for a case.
pub(crate) fn prepare(
    case: Case,
    tensors: Arc<Tensors>,
    threads: usize,
    vectors: Vectors,
) -> Result<Prepared, Failure> {
    // Without a cache each kernel is compiled from cold.
    let features = match vectors {
        Vectors::All => Features::detect(),
        Vectors::Avx2 => Features::detect().without_avx512(),
    };
    let engine = Engine::builder().target(Target::of(features)?).threads(threads).cache_capacity(0).build()?;
    let number = |count: usize| u32::try_from(count).map_err(|_| Failure(format!("{count} does not fit in 32 bits")));
    let mut attention =
        Attention::heads(number(case.heads)?).head_dim(number(case.head_dim)?).kv_heads(number(case.kv_heads)?);
    attention = attention.elem(elem(case.elem)).cache_elem(elem(case.cache));
    if let Some(cap) = case.softcap {
        attention = attention.softcap(cap);
    }
    attention = match case.scheme {
        Scheme::None => attention,
        Scheme::Alibi => attention.scheme(Alibi::new()),
        Scheme::Rope => {
            let rope = Rope::new().base(case.rope_base);
            attention.scheme(if case.keys_turned { rope.query_only() } else { rope })
        }
    };
    if let Some(window) = case.window {
        attention = attention.scheme(SlidingWindow::new(window));
    }
    if case.causal {
        attention = attention.scheme(Causal);
    }
    let start = Instant::now();
    let kernel = engine.compile(&attention.build()?)?;
    let mut detail = format!("{} lanes", kernel.choice().target().machine().lanes);
    if let Ok(decode) = kernel.decode() {
        let axes = &decode.plan.graph;
        let from = decode.takes_from(|axis| match axes.axis(axis).name.as_str() {
            "b" => case.batch,
            "q" => case.queries,
            _ => case.tokens,
        });
        if let Some(from) = from {
            // The first call makes this code, which is a part of compiling.
            decode.compile(false)?;
            let lanes = decode.target.machine().lanes;
            detail = if from == 0 {
                format!("{lanes} lanes, decode")
            } else {
                format!("{detail}, decode from query {from} on")
            };
        }
    }
    let compile = start.elapsed();
    let out = Stored::zeros(case.elem, tensors.q.len())?;
    Ok(Prepared { contender: Box::new(WithRhumb { kernel, case, tensors, out }), compile: Some(compile), detail })
}

impl Contender for WithRhumb {
    fn run(&mut self) -> Result<(), Failure> {
        let WithRhumb { kernel, case, tensors, out } = self;
        let [keys, values] = tensors.keys_and_values(case)?;
        let mut call = kernel.call().input("q", tensors.queries(case)?).input("k", keys).input("v", values);
        if let Some([of_keys, of_values]) = tensors.scales(case) {
            let [batch, heads, tokens, _] = case.kv_shape();
            let scales = |of| TensorView::from_slice(of, &[batch, heads, tokens]);
            call = call.input("k_scale", scales(of_keys)?).input("v_scale", scales(of_values)?);
        }
        call.output("out", out.view_mut(&case.q_shape())?).run()?;
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        Ok(self.out.to_f32())
    }
}
