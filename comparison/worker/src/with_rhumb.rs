//! rhumb as a contender.

use std::sync::Arc;
use std::time::Instant;

use rhumb::compiler::Features;
use rhumb::prelude::*;

use crate::case::{Case, Scheme, Tensors};
use crate::{Contender, Failure, Prepared};

/// A kernel, and the tensors of its calls.
struct WithRhumb {
    kernel: Arc<Kernel>,
    case: Case,
    tensors: Arc<Tensors>,
    out: Vec<f32>,
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
        if decode.takes(|axis| if axes.axis(axis).name == "q" { case.queries } else { case.tokens }) {
            // The first call makes this code, which is a part of compiling.
            decode.compile(false)?;
            detail = format!("{} lanes, decode", decode.target.machine().lanes);
        }
    }
    let compile = start.elapsed();
    let out = vec![0.0; tensors.q.len()];
    Ok(Prepared { contender: Box::new(WithRhumb { kernel, case, tensors, out }), compile: Some(compile), detail })
}

impl Contender for WithRhumb {
    fn run(&mut self) -> Result<(), Failure> {
        let WithRhumb { kernel, case, tensors, out } = self;
        let (queries, keys) = (case.q_shape(), case.kv_shape());
        kernel
            .call()
            .input("q", TensorView::from_slice(&tensors.q, &queries)?)
            .input("k", TensorView::from_slice(&tensors.k, &keys)?)
            .input("v", TensorView::from_slice(&tensors.v, &keys)?)
            .output("out", TensorViewMut::from_slice(out, &queries)?)
            .run()?;
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        Ok(self.out.clone())
    }
}
