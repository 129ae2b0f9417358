//! Calls: tensors bound by name, then run.

use std::fmt;

use crate::batch::CallBatch;
use crate::error::CallError;
use crate::interface::{Bindings, Bound, Interface, KeepsBindings};
use crate::tile_map::TileMap;
use crate::view::{InputView, TensorViewMut};

/// A call being prepared: bind every input and output by name, in any order, then [`Call::run`].
#[derive(Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'k, 'a> {
    interface: &'k Interface,
    runner: &'k dyn Runner,
    bindings: Bindings<'a>,
}

/// What takes the calls of a graph: a [`Kernel`](crate::Kernel), or the [`Reference`](crate::Reference) that it is held against. Code that
/// runs either takes an `&dyn Operator`.
///
/// ```
/// use rhumb_plugins::Attention;
/// use rhumb_runtime::{Engine, Operator, TensorView, TensorViewMut};
///
/// fn average(operator: &dyn Operator) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
///     let (shape, mut out) = ([1, 1, 2, 4], vec![0.0f32; 8]);
///     let ones = TensorView::from_slice(&[1.0f32; 8], &shape)?;
///     let call = operator.call().input("q", ones).input("k", ones).input("v", ones);
///     call.output("out", TensorViewMut::from_slice(&mut out, &shape)?).run()?;
///     Ok(out)
/// }
///
/// let graph = Attention::heads(1).head_dim(4).build()?;
/// let engine = Engine::host()?;
/// assert_eq!(average(&*engine.compile(&graph)?)?, average(&engine.reference(&graph)?)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Operator: fmt::Debug + Send + Sync {
    /// Its inputs and outputs.
    fn interface(&self) -> &Interface;

    /// Starts a call.
    fn call<'a>(&self) -> Call<'_, 'a>;

    /// Starts a batch of calls, which run together.
    fn batch<'a>(&self) -> CallBatch<'_, 'a>;
}

/// Runs calls: a kernel, a reference or an error bound.
pub(crate) trait Runner: KeepsBindings {
    /// Runs a call whose tensors have been checked.
    fn run(&self, bound: &mut Bound<'_>) -> Result<(), CallError>;

    /// Runs a call whose tensors have been checked, and tells the key tiles that it visited, if it makes any.
    fn trace(&self, bound: &mut Bound<'_>) -> Result<Option<TileMap>, CallError> {
        self.run(bound).map(|()| None)
    }
}

impl<'k, 'a> Call<'k, 'a> {
    pub(crate) fn new(interface: &'k Interface, runner: &'k dyn Runner) -> Call<'k, 'a> {
        Call { interface, runner, bindings: runner.take_bindings() }
    }

    /// Binds a tensor to read: a [`TensorView`](crate::TensorView), or a [`PagedView`](crate::PagedView) of one whose tokens lie in pages.
    pub fn input(mut self, name: &'a str, view: impl Into<InputView<'a>>) -> Call<'k, 'a> {
        self.bindings.input(name, view);
        self
    }

    /// Binds a tensor to write.
    pub fn output(mut self, name: &'a str, view: TensorViewMut<'a>) -> Call<'k, 'a> {
        self.bindings.output(name, view);
        self
    }

    /// Checks the tensors and runs.
    ///
    /// # Errors
    /// [`CallError`] if a tensor is missing, does not fit or shares memory with an output, or working memory can't be had. Then nothing
    /// was written, and the kernel is as good as before.
    pub fn run(self) -> Result<(), CallError> {
        self.bound(|runner, bound| runner.run(bound))
    }

    /// Checks the tensors, runs, and tells which key tiles were skipped, pruned, computed in full or with the mask, for each query tile. The
    /// outputs are those of [`Call::run`], to the bit; beside its own memory the call allocates the map.
    ///
    /// `None` where there are no tiles: of a [`Reference`](crate::Reference), which interprets, and of graphs without an attention.
    ///
    /// # Errors
    /// As [`Call::run`].
    pub fn trace(self) -> Result<Option<TileMap>, CallError> {
        self.bound(|runner, bound| runner.trace(bound))
    }

    /// Checks the tensors and does something with them.
    fn bound<T>(self, run: impl FnOnce(&dyn Runner, &mut Bound<'_>) -> Result<T, CallError>) -> Result<T, CallError> {
        let Call { interface, runner, mut bindings } = self;
        let done = interface.bind(&mut bindings).and_then(|bound| run(runner, bound));
        runner.keep_bindings(bindings);
        done
    }
}
