//! The error bound of a call's results.

use std::collections::BTreeMap;
use std::fmt;

use rhumb_compiler::error_bound::ErrorBound as Promise;
use rhumb_ir::Tensor;

use crate::call::{Call, Runner};
use crate::error::CallError;
use crate::interface::{Bound, Interface, KeepsBindings};
use crate::program::Programs;
use crate::reference::tensor;

/// A bound on how far a [`Kernel`](crate::Kernel)'s results are from its [`Reference`](crate::Reference)'s, derived from the kernel's plan.
///
/// It prints what it is made of, and evaluates: bind the tensors of a call as for the kernel, and outputs that take the bound of each
/// element. Bounds of outputs of floats are rounded up to their type; an infinite one promises nothing. Where the reference gives NaN or an infinity and
/// the bound is 0, the kernel gives the same. [`ErrorBound::holds`] compares.
///
/// ```
/// use rhumb_plugins::{Attention, Causal};
/// use rhumb_runtime::{Engine, ErrorBound, TensorView, TensorViewMut};
///
/// let graph = Attention::heads(2).head_dim(16).scheme(Causal).build()?;
/// let engine = Engine::host()?;
/// let kernel = engine.compile(&graph)?;
/// let bound = kernel.error_bound();
/// println!("{bound}");
///
/// let (shape, wave) = ([1, 2, 10, 16], |i: usize| (i as f32 * 0.37).sin());
/// let q: Vec<f32> = (0..320).map(wave).collect();
/// let q = TensorView::from_slice(&q, &shape)?;
/// let (mut found, mut expected, mut most) = ([0.0f32; 320], [0.0f32; 320], [0.0f32; 320]);
/// let reference = engine.reference(&graph)?;
/// for (call, out) in [(kernel.call(), &mut found), (reference.call(), &mut expected), (bound.call(), &mut most)] {
///     let out = TensorViewMut::from_slice(out, &shape)?;
///     call.input("q", q).input("k", q).input("v", q).output("out", out).run()?;
/// }
/// for ((found, expected), most) in found.iter().zip(&expected).zip(&most) {
///     assert!(*most < 1e-4 && ErrorBound::holds(*found, *expected, *most));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ErrorBound<'k> {
    interface: &'k Interface,
    programs: &'k Programs,
}

impl<'k> ErrorBound<'k> {
    pub(crate) fn new(interface: &'k Interface, programs: &'k Programs) -> ErrorBound<'k> {
        ErrorBound { interface, programs }
    }

    /// Starts a call, which writes bounds in place of results: of integers and truth values too, as such (a truth value that may differ is
    /// true).
    pub fn call<'a>(&self) -> Call<'_, 'a> {
        Call::new(self.interface, self)
    }

    /// Whether a kernel's element keeps what its bound promises: it is the reference's, or both are NaN, or they are no farther apart
    /// than the bound.
    pub fn holds(kernel: f32, reference: f32, bound: f32) -> bool {
        Promise::holds(kernel, reference, bound)
    }
}

impl KeepsBindings for ErrorBound<'_> {}

impl Runner for ErrorBound<'_> {
    fn run(&self, bound: &mut Bound<'_>) -> Result<(), CallError> {
        let mut inputs = BTreeMap::new();
        for (port, view) in self.interface.inputs().iter().zip(&bound.inputs) {
            let line = || format!("input \"{}\": {}", port.name, self.interface.signature(port));
            let copied = tensor(view, line).map_err(|source| CallError::Reference(Box::new(source)))?;
            inputs.insert(port.name.clone(), copied);
        }
        let failed = |source| CallError::ErrorBound(Box::new(source));
        let mut bounds = BTreeMap::<String, Tensor>::new();
        for plan in self.programs.plans(&bound.lengths) {
            for (name, of_plan) in plan.error_bound().evaluate(&bound.lengths, &inputs).map_err(failed)? {
                // Kernels that share a call keep each its own: the looser is that of both.
                let widen = |most: &mut Tensor| {
                    let pairs = most.data.iter_mut().zip(&of_plan.data);
                    pairs.for_each(|(most, of_plan)| *most = most.max(*of_plan));
                };
                bounds.entry(name).and_modify(widen).or_insert(of_plan);
            }
        }
        for (port, view) in self.interface.outputs().iter().zip(&mut bound.outputs) {
            let Some(bounds) = bounds.get(&port.name) else { continue };
            let up: Vec<f64> = bounds.data.iter().map(|bound| port.elem.rounded_up(*bound)).collect();
            view.fill_from(&up);
        }
        Ok(())
    }
}

impl fmt::Display for ErrorBound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.programs.prefill.plan().error_bound().fmt(f)?;
        match self.programs.decode() {
            Ok(kernel) => write!(f, "of {kernel}: {}", kernel.plan.error_bound()),
            Err(_) => Ok(()),
        }
    }
}
