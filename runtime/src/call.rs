//! Calls: tensors bound by name, then run.

use std::fmt;

use crate::error::CallError;
use crate::interface::{Bindings, Bound, Interface};
use crate::tile_map::TileMap;
use crate::view::{TensorView, TensorViewMut};

/// A call being prepared: bind every input and output by name, in any order, then [`Call::run`].
#[derive(Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'k, 'a> {
    interface: &'k Interface,
    runner: &'k dyn Runner,
    bindings: Bindings<'a>,
}

/// Runs calls: a kernel, a reference or an error bound.
pub(crate) trait Runner: fmt::Debug + Send + Sync {
    /// Runs a call whose tensors have been checked.
    fn run(&self, bound: Bound<'_>) -> Result<(), CallError>;

    /// Runs a call whose tensors have been checked, and tells the key tiles that it visited, if it makes any.
    fn trace(&self, bound: Bound<'_>) -> Result<Option<TileMap>, CallError> {
        self.run(bound).map(|()| None)
    }
}

impl<'k, 'a> Call<'k, 'a> {
    pub(crate) fn new(interface: &'k Interface, runner: &'k dyn Runner) -> Call<'k, 'a> {
        Call { interface, runner, bindings: Bindings::default() }
    }

    /// Binds a tensor to read.
    pub fn input(mut self, name: &'a str, view: TensorView<'a>) -> Call<'k, 'a> {
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
        let bound = self.interface.bind(self.bindings)?;
        self.runner.run(bound)
    }

    /// Checks the tensors, runs, and tells which key tiles were skipped, pruned, computed in full or with the mask, for each query tile. The
    /// outputs are those of [`Call::run`], to the bit; beside its own memory the call allocates the map.
    ///
    /// `None` where there are no tiles: of a [`Reference`](crate::Reference), which interprets, and of graphs without an attention.
    ///
    /// # Errors
    /// As [`Call::run`].
    pub fn trace(self) -> Result<Option<TileMap>, CallError> {
        let bound = self.interface.bind(self.bindings)?;
        self.runner.trace(bound)
    }
}
