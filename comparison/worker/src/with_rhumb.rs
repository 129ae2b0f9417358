//! rhumb as a contender.

use std::sync::Arc;
use std::time::Instant;

use half::bf16;
use rhumb::compiler::Features;
use rhumb::prelude::*;

use crate::case::{self, Case, Scheme, Tensors};
use crate::{Contender, Failure, Prepared};

/// A kernel, and the tensors of its calls.
struct WithRhumb {
    kernel: Arc<Kernel>,
    case: Case,
    held: Held,
}

/// Tensors of an element type.
enum Held {
    Singles { tensors: Arc<Tensors>, out: Vec<f32> },
    Halves { q: Vec<bf16>, k: Vec<bf16>, v: Vec<bf16>, out: Vec<bf16> },
}

impl Held {
    fn new(tensors: Arc<Tensors>, elem: case::Elem) -> Held {
        let narrow = |numbers: &[f32]| numbers.iter().map(|x| bf16::from_f32(*x)).collect();
        match elem {
            case::Elem::F32 => Held::Singles { out: vec![0.0; tensors.q.len()], tensors },
            case::Elem::Bf16 => Held::Halves {
                q: narrow(&tensors.q),
                k: narrow(&tensors.k),
                v: narrow(&tensors.v),
                out: vec![bf16::ZERO; tensors.q.len()],
            },
        }
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
    if case.elem == case::Elem::Bf16 {
        attention = attention.elem(Elem::Bf16);
    }
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
    let held = Held::new(tensors, case.elem);
    Ok(Prepared { contender: Box::new(WithRhumb { kernel, case, held }), compile: Some(compile), detail })
}

impl Contender for WithRhumb {
    fn run(&mut self) -> Result<(), Failure> {
        let WithRhumb { kernel, case, held } = self;
        let (queries, keys) = (case.q_shape(), case.kv_shape());
        let views = match held {
            Held::Singles { tensors, out } => (
                [(&*tensors.q, queries), (&*tensors.k, keys), (&*tensors.v, keys)]
                    .map(|(numbers, shape)| TensorView::from_slice(numbers, &shape)),
                TensorViewMut::from_slice(out, &queries)?,
            ),
            Held::Halves { q, k, v, out } => (
                [(&*q, queries), (&*k, keys), (&*v, keys)]
                    .map(|(numbers, shape)| TensorView::from_slice(numbers, &shape)),
                TensorViewMut::from_slice(out, &queries)?,
            ),
        };
        let ([q, k, v], out) = views;
        kernel.call().input("q", q?).input("k", k?).input("v", v?).output("out", out).run()?;
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        Ok(match &self.held {
            Held::Singles { out, .. } => out.clone(),
            Held::Halves { out, .. } => out.iter().map(|x| x.to_f32()).collect(),
        })
    }
}
