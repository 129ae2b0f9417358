//! Calls that run together.

use crate::error::{CallError, Direction};
use crate::interface::{Bindings, Bound, Interface, KeepsBindings};
use crate::overlap::{bytes, overlap};
use crate::recycle::{Spares, recycled};
use crate::view::{InputView, TensorViewMut};

/// Calls of a kernel that run together: sequences of different lengths, say, of which some have a whole prompt and others one token.
///
/// Threads share the work of all calls, and nothing is padded: each call has lengths of its own, and takes the kernel that it takes alone. Its
/// results are those of [`Call::run`](crate::Call::run), to the bit, whatever else is in the batch.
///
/// ```
/// use rhumb_plugins::{Attention, Causal};
/// use rhumb_runtime::{Engine, TensorView, TensorViewMut};
///
/// let kernel = Engine::host()?.compile(&Attention::heads(2).head_dim(4).scheme(Causal).build()?)?;
/// // Sequences of 3, 1 and 2 tokens, one after the other: tokens first, heads second.
/// let offsets = [0, 3, 4, 6];
/// let x: Vec<f32> = (0..6 * 2 * 4).map(|n| (n as f32).cos()).collect();
/// let mut out = vec![0.0; 6 * 2 * 4];
///
/// let tokens = TensorView::from_slice(&x, &[6, 2, 4])?;
/// let outputs = TensorViewMut::from_slice(&mut out, &[6, 2, 4])?.split(0, &offsets)?;
/// let mut batch = kernel.batch();
/// for (ends, out) in offsets.windows(2).zip(outputs) {
///     // Of each sequence `[b, h, q, d]`.
///     let rows = tokens.narrow(0, ends[0], ends[1] - ends[0])?.insert_dim(0)?.permute(&[0, 2, 1, 3])?;
///     let out = out.insert_dim(0)?.permute(&[0, 2, 1, 3])?;
///     batch.add().input("q", rows).input("k", rows).input("v", rows).output("out", out);
/// }
/// batch.run()?;
/// // A sequence of one token has its own value.
/// assert_eq!(out[3 * 8..4 * 8], x[3 * 8..4 * 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing until it is run"]
pub struct CallBatch<'k, 'a> {
    interface: &'k Interface,
    runner: &'k dyn RunsAll,
    calls: Vec<BatchedCall<'a>>,
    lies: Vec<Lies>,
}

/// The number of a call that can't run, and why.
pub(crate) type Failed = (usize, Box<CallError>);

/// Runs the calls of a batch: a kernel or a reference.
pub(crate) trait RunsAll: KeepsBindings {
    /// Runs calls whose tensors have been checked, of which none writes what another reads or writes.
    ///
    /// # Errors
    /// The first error, with the number of its call. Then nothing was written.
    fn run_all(&self, all: &mut [BatchedCall<'_>]) -> Result<(), Failed>;

    /// Lists that batches before left behind.
    fn spares(&self) -> &Spares<Lists>;
}

/// The lists of a batch, empty between batches.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    calls: Vec<BatchedCall<'static>>,
    lies: Vec<Lies>,
}

/// A call of a [`CallBatch`]: bind every input and output by name, in any order.
#[derive(Debug, Default)]
pub struct BatchedCall<'a> {
    bindings: Bindings<'a>,
}

/// A batch that can't run. Nothing was written.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// One of its calls can't.
    #[error("call {call} of the batch: {source}")]
    Call {
        /// Its number, from 0.
        call: usize,
        /// What is wrong with it.
        source: Box<CallError>,
    },
    /// Calls that write what others read or write.
    #[error(
        "output `{output}` of call {call} of the batch shares memory with {direction} `{other}` of call {with}; calls of a batch run at the same time: give each output memory of its own"
    )]
    Overlap {
        /// The call that writes.
        call: usize,
        /// Its output.
        output: Box<str>,
        /// The other call.
        with: usize,
        /// Whether the other reads or writes.
        direction: Direction,
        /// Its tensor.
        other: Box<str>,
    },
}

rhumb_ir::debug_as_display!(BatchError);

impl<'a> BatchedCall<'a> {
    /// Binds a tensor to read: a [`TensorView`](crate::TensorView), or a [`PagedView`](crate::PagedView) of one whose tokens lie in pages.
    pub fn input(&mut self, name: &'a str, view: impl Into<InputView<'a>>) -> &mut BatchedCall<'a> {
        self.bindings.input(name, view);
        self
    }

    /// Binds a tensor to write.
    pub fn output(&mut self, name: &'a str, view: TensorViewMut<'a>) -> &mut BatchedCall<'a> {
        self.bindings.output(name, view);
        self
    }

    /// Its tensors, which have been checked.
    pub(crate) fn bound(&self) -> &Bound<'a> {
        self.bindings.bound()
    }

    /// Its tensors, which have been checked, to be written.
    pub(crate) fn bound_mut(&mut self) -> &mut Bound<'a> {
        self.bindings.bound_mut()
    }
}

impl<'k, 'a> CallBatch<'k, 'a> {
    pub(crate) fn new(interface: &'k Interface, runner: &'k dyn RunsAll) -> CallBatch<'k, 'a> {
        let Lists { calls, lies } = runner.spares().take();
        CallBatch { interface, runner, calls: recycled(calls), lies }
    }

    /// Adds a call, which has no tensors yet.
    pub fn add(&mut self) -> &mut BatchedCall<'a> {
        self.calls.push(BatchedCall { bindings: self.runner.take_bindings() });
        let last = self.calls.len() - 1;
        &mut self.calls[last]
    }

    /// The number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is no call.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Checks the tensors of all calls and runs these. Without calls there is nothing to do.
    ///
    /// # Errors
    /// [`BatchError`] if a tensor of a call is missing, does not fit, or is written and shares memory with any other of the batch, or
    /// working memory can't be had. Then nothing was written by any call.
    pub fn run(self) -> Result<(), BatchError> {
        let CallBatch { interface, runner, mut calls, mut lies } = self;
        let mut run = || {
            for (call, BatchedCall { bindings }) in calls.iter_mut().enumerate() {
                interface.bind(bindings).map_err(|source| BatchError::Call { call, source: source.into() })?;
            }
            check_apart(interface, &calls, &mut lies)?;
            runner.run_all(&mut calls).map_err(|(call, source)| BatchError::Call { call, source })
        };
        let done = run();
        lies.clear();
        calls.drain(..).for_each(|BatchedCall { bindings }| runner.keep_bindings(bindings));
        runner.spares().keep(Lists { calls: recycled(calls), lies });
        done
    }
}

/// A tensor of a call of a batch, with the bytes that it lies within.
#[derive(Debug)]
struct Lies {
    first: i128,
    last: i128,
    call: usize,
    port: usize,
}

/// Checks that no output of a call shares memory with a tensor of another.
fn check_apart(interface: &Interface, calls: &[BatchedCall<'_>], all: &mut Vec<Lies>) -> Result<(), BatchError> {
    let inputs = interface.inputs().len();
    let read = |lies: &Lies| &calls[lies.call].bound().inputs[lies.port];
    let written = |lies: &Lies| calls[lies.call].bound().outputs[lies.port - inputs].region();
    let is_output = |lies: &Lies| lies.port >= inputs;
    let shared = |one: &Lies, other: &Lies| match (is_output(one), is_output(other)) {
        (true, true) => overlap(written(one), written(other)),
        (true, false) => read(other).overlaps(written(one)),
        (false, true) => read(one).overlaps(written(other)),
        (false, false) => false,
    };
    let ports = inputs + interface.outputs().len();
    for call in 0..calls.len() {
        for port in 0..ports {
            let lies = Lies { first: 0, last: 0, call, port };
            let reached = if is_output(&lies) { bytes(written(&lies)) } else { read(&lies).bytes() };
            all.extend(reached.map(|(first, last)| Lies { first, last, ..lies }));
        }
    }
    all.sort_unstable_by_key(|lies| (lies.first, lies.call, lies.port));
    for (number, one) in all.iter().enumerate() {
        for other in all[number + 1..].iter().take_while(|other| other.first <= one.last) {
            if one.call != other.call && shared(one, other) {
                let (writes, with) = if is_output(one) { (one, other) } else { (other, one) };
                let name = |port: usize| match port.checked_sub(inputs) {
                    None => interface.inputs()[port].name.as_str().into(),
                    Some(output) => interface.outputs()[output].name.as_str().into(),
                };
                return Err(BatchError::Overlap {
                    call: writes.call,
                    output: name(writes.port),
                    with: with.call,
                    direction: if is_output(with) { Direction::Output } else { Direction::Input },
                    other: name(with.port),
                });
            }
        }
    }
    Ok(())
}
