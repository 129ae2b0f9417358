//! Kernels that new keys go through before they are cached.

use rhumb_ir::{Axis, Elem};

use crate::call::Operator;
use crate::interface::Port;
use crate::kv::error::KvError;
use crate::memory::{OutOfMemory, reserve};
use crate::view::{TensorView, TensorViewMut};

/// Some of the tokens that are appended, which lie in one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The first, among those appended to the sequence.
    pub(super) start: usize,
    /// How many.
    pub(super) len: usize,
    /// Position of the first in the sequence.
    pub(super) position: usize,
    /// The first, among those of the whole batch.
    pub(super) given: usize,
}

impl Window {
    /// These of the appended rows, `[head, token, element]`, as a batch of one.
    pub(super) fn of<'a>(&self, rows: &TensorView<'a>) -> TensorView<'a> {
        let view = rows.narrow(1, self.start, self.len).and_then(|view| view.insert_dim(0));
        view.expect("tokens that were counted, of three dimensions")
    }
}

/// Positions of the tokens of a page, in memory that is kept.
#[derive(Debug)]
pub(super) struct Positions {
    ints: Vec<i32>,
    floats: Vec<f32>,
}

impl Positions {
    /// Room for those of so many tokens.
    pub(super) fn new(tokens: usize) -> Result<Positions, OutOfMemory> {
        let mut positions = Positions { ints: Vec::new(), floats: Vec::new() };
        reserve(&mut positions.ints, tokens)?;
        reserve(&mut positions.floats, tokens)?;
        positions.ints.resize(tokens, 0);
        positions.floats.resize(tokens, 0.0);
        Ok(positions)
    }

    /// Counts from `first` on.
    fn count(&mut self, first: usize, len: usize) {
        for (i, (int, float)) in self.ints.iter_mut().zip(&mut self.floats).take(len).enumerate() {
            // Positions are 32-bit: the cache takes no more tokens.
            *int = (first + i) as i32;
            *float = *int as f32;
        }
    }

    /// As the input of a kernel, of one dimension or behind a batch of one; none if it holds neither type.
    fn view(&self, port: &Port, len: usize) -> Option<TensorView<'_>> {
        let view = match port.elem {
            Elem::I32 => TensorView::from_slice(&self.ints[..len], &[len]),
            Elem::F32 => TensorView::from_slice(&self.floats[..len], &[len]),
            _ => return None,
        };
        let ahead = port.dims.len().saturating_sub(1);
        (0..ahead).try_fold(view.ok()?, |view, _| view.insert_dim(0).ok())
    }
}

/// A kernel for keys, and what is bound to it beside the keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transform<'a> {
    operator: &'a dyn Operator,
    inputs: &'a [(&'a str, TensorView<'a>)],
    /// The axis of the new tokens, if the kernel takes keys.
    tokens: Option<Axis>,
}

impl<'a> Transform<'a> {
    /// Checks that inputs with an axis of tokens have `tokens` of them.
    pub(super) fn new(
        operator: &'a dyn Operator,
        inputs: &'a [(&'a str, TensorView<'a>)],
        tokens: usize,
    ) -> Result<Transform<'a>, KvError> {
        let keys = operator.interface().inputs().iter().find(|port| port.name == "k");
        let transform = Transform { operator, inputs, tokens: keys.and_then(|port| port.dims.get(2).copied()) };
        // A call has the tokens of one page, or of a part of it.
        if let Some(axis) = transform.tokens {
            let interface = operator.interface();
            if interface.counts(axis) && transform.port("q_offset").is_none() {
                return Err(KvError::Counted);
            }
            if interface.goes_by_length(axis) {
                return Err(KvError::ByLength);
            }
        }
        for (name, view) in inputs {
            if let Some(dim) = transform.token_dim(name)
                && let Some(&found) = view.shape().get(dim)
                && found != tokens
            {
                return Err(KvError::InputTokens { input: (*name).into(), dim, found, expected: tokens });
            }
        }
        Ok(transform)
    }

    /// Where an input has the axis of tokens.
    fn token_dim(&self, name: &str) -> Option<usize> {
        let port = self.port(name)?;
        port.dims.iter().position(|axis| Some(*axis) == self.tokens)
    }

    fn port(&self, name: &str) -> Option<&Port> {
        self.operator.interface().inputs().iter().find(|port| port.name == name)
    }

    /// The input of a name, if the kernel has it and it is not given.
    fn asked(&self, name: &str) -> Option<&Port> {
        self.port(name).filter(|_| self.inputs.iter().all(|(given, _)| *given != name))
    }

    /// Writes what the kernel makes of some of the new keys, `[head, token, element]`, to their rows, `[1, head, token, element]`.
    pub(super) fn run(
        &self,
        keys: &TensorView<'_>,
        window: Window,
        positions: &mut Positions,
        rows: TensorViewMut<'_>,
    ) -> Result<(), KvError> {
        positions.count(window.position, window.len);
        let (positions, offset) = (&*positions, [window.position as i32]);
        let mut call = self.operator.call().input("k", window.of(keys));
        if self.asked("q_offset").is_some() {
            call = call.input("q_offset", TensorView::from_slice(&offset, &[]).expect("a number"));
        }
        if let Some(view) = self.asked("k_pos").and_then(|port| positions.view(port, window.len)) {
            call = call.input("k_pos", view);
        }
        for (name, view) in self.inputs {
            let dim = self.token_dim(name).filter(|dim| *dim < view.rank());
            let cut = dim.map_or(Ok(*view), |dim| view.narrow(dim, window.given, window.len));
            call = call.input(name, cut.expect("as many tokens as there are keys"));
        }
        call.output("k_out", rows).run().map_err(|error| KvError::Call(Box::new(error)))
    }
}
