//! A call whose tensors and tables are in place.

use rhumb_compiler::codegen::Role;
use rhumb_compiler::plan::{Attention, Table, TensorId};

use crate::memory::alloc::ALIGN;
use crate::memory::frame::Placed;
use crate::memory::{Frame, FunctionId, Loaded, Workspace};

/// A call whose tensors and tables are in place.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) frame: Frame<'a>,
}

impl Loaded {
    /// The call, with memory for its tables and for the words of its frame.
    pub(crate) fn call<'a>(
        &'a self,
        placed: &'a mut Placed<'_, '_>,
        memory: (&'a mut Workspace, &'a mut Vec<u64>),
    ) -> Invocation<'a> {
        assert!(std::ptr::eq(placed.plan(), self.plan()), "a call of another plan");
        Invocation { loaded: self, frame: placed.frame(self.constants(), memory) }
    }
}

impl<'a> Invocation<'a> {
    /// What the call knows of its tensors.
    pub(crate) fn frame(&self) -> &Frame<'a> {
        &self.frame
    }

    /// Bytes of the scratch memory of a thread: those of the plan, and where rows in pages are copied.
    pub(crate) fn scratch_bytes(&self) -> usize {
        match self.frame.copied_bytes() {
            0 => self.loaded.scratch_bytes(),
            copied => self.loaded.scratch_bytes().next_multiple_of(ALIGN).saturating_add(copied),
        }
    }

    /// Bytes of all keys and values.
    pub(crate) fn read_bytes(&self) -> usize {
        let plan = self.loaded.plan();
        let bytes = |tensor: TensorId| {
            let tensor = &plan.tensors[tensor];
            let elements = tensor.dims.iter().map(|axis| self.frame.length(*axis)).fold(1, usize::saturating_mul);
            elements.saturating_mul(tensor.storage.bytes())
        };
        let Some(Attention { products, reductions, .. }) = &plan.attention else { return 0 };
        let keys = products.iter().map(|product| product.key);
        let values = reductions.iter().map(|reduction| reduction.value);
        keys.chain(values).map(bytes).fold(0, usize::saturating_add)
    }

    /// Turns of the outermost loop of the table that a function makes, and elements of each.
    pub(crate) fn turns(&self, function: FunctionId) -> (usize, usize) {
        let (plan, step) = (self.loaded.plan(), self.table(function));
        let shared = plan.tensors[step.target].dims.iter().filter(|axis| Some(**axis) != step.inner);
        let turns = shared.map(|axis| self.frame.length(*axis)).fold(1, usize::saturating_mul);
        (turns, step.inner.map_or(1, |axis| self.frame.length(axis)))
    }

    /// The table that a function makes.
    ///
    /// # Panics
    /// If it makes none.
    fn table(&self, function: FunctionId) -> &Table {
        match self.loaded.function(function).0 {
            Role::Table(index) => &self.loaded.plan().tables[index],
            role => panic!("`{}` makes no table", role.name()),
        }
    }
}
