//! The reference: the same call, interpreted.

use std::sync::Arc;

use rhumb_ir::{Bindings as Operands, InterpError, MAX_ELEMENTS, Tensor, Verified, interpret};

use crate::batch::{BatchedCall, CallBatch, Failed, Lists, RunsAll};
use crate::call::{Call, Operator, Runner};
use crate::error::{CallError, InterfaceError};
use crate::interface::{Bound, Interface, KeepsBindings};
use crate::recycle::Spares;
use crate::view::InputView;

/// A graph that is interpreted in double precision, slow and plain: what a [`Kernel`](crate::Kernel) of the graph is held against.
///
/// Calls are bound and checked as a kernel's are.
#[derive(Clone, Debug)]
pub struct Reference {
    graph: Verified,
    interface: Interface,
    batches: Arc<Spares<Lists>>,
}

impl Reference {
    /// The reference of a graph without scheme ops.
    ///
    /// # Errors
    /// [`InterfaceError`] if no tensors could ever fit the graph.
    pub fn of(graph: Verified) -> Result<Reference, InterfaceError> {
        let interface = Interface::of(&graph)?;
        Ok(Reference { graph, interface, batches: Arc::new(Spares::new()) })
    }

    /// Its inputs and outputs.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Starts a call.
    pub fn call<'a>(&self) -> Call<'_, 'a> {
        Call::new(&self.interface, self)
    }

    /// Starts a batch of calls, which are interpreted one after the other.
    pub fn batch<'a>(&self) -> CallBatch<'_, 'a> {
        CallBatch::new(&self.interface, self)
    }

    /// What a call gives, by the names of outputs.
    fn results(&self, bound: &Bound<'_>) -> Result<Operands, CallError> {
        let refused = |source| CallError::Reference(Box::new(source));
        let mut operands = Operands::new();
        for ((name, value), view) in self.graph.inputs().zip(&bound.inputs) {
            operands.insert(name.to_owned(), tensor(view, || self.graph.line(value)).map_err(refused)?);
        }
        interpret(&self.graph, &operands).map_err(refused)
    }

    /// Writes what a call gives.
    fn write(&self, bound: &mut Bound<'_>, results: &Operands) {
        for (port, view) in self.interface.outputs().iter().zip(&mut bound.outputs) {
            if let Some(result) = results.get(&port.name) {
                view.fill_from(&result.data);
            }
        }
    }
}

impl Operator for Reference {
    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn call<'a>(&self) -> Call<'_, 'a> {
        Call::new(&self.interface, self)
    }

    fn batch<'a>(&self) -> CallBatch<'_, 'a> {
        CallBatch::new(&self.interface, self)
    }
}

impl KeepsBindings for Reference {}

impl Runner for Reference {
    fn run(&self, bound: &mut Bound<'_>) -> Result<(), CallError> {
        let results = self.results(bound)?;
        self.write(bound, &results);
        Ok(())
    }
}

impl RunsAll for Reference {
    fn run_all(&self, all: &mut [BatchedCall<'_>]) -> Result<(), Failed> {
        let of = |(number, call): (usize, &BatchedCall<'_>)| {
            self.results(call.bound()).map_err(|error| (number, error.into()))
        };
        let results = all.iter().enumerate().map(of).collect::<Result<Vec<_>, _>>()?;
        all.iter_mut().zip(&results).for_each(|(call, results)| self.write(call.bound_mut(), results));
        Ok(())
    }

    fn spares(&self) -> &Spares<Lists> {
        &self.batches
    }
}

/// The elements of an input, copied. A view can have more of them than memory: one may repeat.
/// `line` prints the input.
pub(crate) fn tensor(view: &InputView<'_>, line: impl Fn() -> String) -> Result<Tensor, InterpError> {
    let (count, shape) = (view.len(), view.shape().to_vec());
    if count > MAX_ELEMENTS {
        return Err(InterpError::TooLarge { line: line(), shape });
    }
    let mut data = Vec::new();
    let bytes = count * size_of::<f64>();
    data.try_reserve_exact(count).map_err(|_| InterpError::OutOfMemory { line: line(), bytes })?;
    data.extend(view.elements());
    Ok(Tensor { elem: view.elem(), shape, data })
}

#[cfg(test)]
mod tests {
    use rhumb_ir::{Elem, GraphBuilder};

    use super::*;
    use crate::view::{TensorView, TensorViewMut};

    /// `y[n, m] = x[m, n] + (m > n ? shift[n] : 0)`, `positive = x > 0`.
    fn graph() -> Verified {
        let builder = GraphBuilder::new("shifted");
        let (m, n) = (builder.axis("m"), builder.axis("n"));
        let x = builder.input("x", Elem::F32, [m, n]);
        let shift = builder.input("shift", Elem::I32, [n]);
        let above = builder.iota(m).gt(builder.iota(n));
        builder.output("y", x + above.select(shift, 0).cast(Elem::F32), [n, m]);
        builder.output("positive", x.gt(0.0), [m, n]);
        builder.finish().expect("a graph")
    }

    #[test]
    fn reads_and_writes_through_strides() {
        let reference = Reference::of(graph()).expect("a reference");
        let (x, shift) = ([1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0], [10, 20]);
        let (mut y, mut positive) = ([0.0f32; 7], [9u8; 6]);
        for _ in 0..2 {
            // Rows of `x` backwards, `y` with a gap of one element.
            let call = reference.call();
            let call = call.input("shift", TensorView::from_slice(&shift, &[2]).expect("shift"));
            let call = call.input("x", TensorView::with_offset(&x, 4, &[3, 2], &[-2, 1]).expect("x"));
            let call = call.output("y", TensorViewMut::with_strides(&mut y, &[2, 3], &[4, 1]).expect("y"));
            let out = TensorViewMut::from_slice(&mut positive, &[3, 2]).expect("positive");
            call.output("positive", out).run().expect("runs");
            assert_eq!(y, [5.0, 13.0, 11.0, 0.0, -6.0, -4.0, 18.0]);
            assert_eq!(positive, [1, 0, 1, 0, 1, 0]);
            // A refused call changes nothing.
            let refused = reference.call().input("shift", TensorView::from_slice(&shift, &[2]).expect("shift")).run();
            assert!(matches!(refused, Err(CallError::Missing { .. })));
        }
    }
}
