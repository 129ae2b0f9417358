//! A plan, and the machine code that was made of it.

use rhumb_compiler::Target;
use rhumb_compiler::abi::CONSTANT_BYTES;
use rhumb_compiler::codegen::{MachineCode, Role};
use rhumb_compiler::plan::Plan;

use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::code::{Code, Function};
use crate::memory::frame::{Constants, Placed};
use crate::memory::{Guard, LoadError, Workspace};

/// A function of the code of a plan, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionId(usize);

/// A plan, its machine code in executable memory, and its constants.
#[derive(Debug)]
pub(crate) struct Loaded {
    plan: Plan,
    code: Code,
    roles: Vec<Role>,
    vector_constants: Vec<u32>,
    constants: Constants,
    /// Of each input whether key tiles alone read it.
    in_tiles: Vec<bool>,
    /// What makes rows of key tiles, if the plan has it.
    load: Option<FunctionId>,
}

impl Loaded {
    /// Puts code in executable memory. With a guard, constants are between inaccessible pages.
    ///
    /// What calls do to memory is what the compiler says: `code` is what it made of `plan` for `target`.
    pub(crate) fn new(
        plan: Plan,
        code: &MachineCode,
        target: &Target,
        guard: Option<Guard>,
    ) -> Result<Loaded, LoadError> {
        if !target.is_host() {
            return Err(LoadError::Foreign { triple: target.triple() });
        }
        let bytes: Vec<&[u8]> = code.functions.iter().map(|function| function.bytes.as_slice()).collect();
        Ok(Loaded {
            code: Code::load(&bytes)?,
            load: code.functions.iter().position(|function| function.role == Role::Load).map(FunctionId),
            roles: code.functions.iter().map(|function| function.role).collect(),
            vector_constants: code.constants.clone(),
            constants: Constants::new(&plan, guard)?,
            in_tiles: plan.read_by_key_tiles(),
            plan,
        })
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of machine code.
    pub(crate) fn code_bytes(&self) -> usize {
        self.code.bytes()
    }

    /// The functions of the code, and what each is for.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (Role, FunctionId)> {
        self.roles.iter().enumerate().map(|(number, role)| (*role, FunctionId(number)))
    }

    /// Bytes of the scratch memory of a thread.
    pub(crate) fn scratch_bytes(&self) -> usize {
        self.plan.scratch.constants + CONSTANT_BYTES * self.vector_constants.len()
    }

    /// The function that makes the rows of a key tile which others read, if the plan has one.
    pub(super) fn load(&self) -> Option<FunctionId> {
        self.load
    }

    pub(super) fn constants(&self) -> &Constants {
        &self.constants
    }

    /// A function and what it is for.
    ///
    /// # Panics
    /// If the code has no such function: the number is of other code.
    pub(super) fn function(&self, FunctionId(number): FunctionId) -> (Role, Function<'_>) {
        let function = self.code.function(number).expect("a function of this code");
        (self.roles[number], function)
    }

    /// Puts the constants of vector code in their place in scratch memory.
    ///
    /// # Panics
    /// If the memory is less than [`Loaded::scratch_bytes`].
    pub(super) fn put_constants(&self, scratch: &mut Workspace) {
        const LANES: usize = CONSTANT_BYTES / size_of::<i32>();
        let count = self.vector_constants.len();
        let slots = scratch.slice_mut::<i32>(self.plan.scratch.constants, LANES * count);
        let slots = slots.expect("scratch memory of the plan's size");
        for (slot, &bits) in slots.chunks_exact_mut(LANES).zip(&self.vector_constants) {
            slot.fill(bits as i32);
        }
    }
}

/// Gives the tables of a call their places, for each of the plans that share its queries: those from the first to the second number, or to the
/// last.
///
/// The plans read the same views, which are the call's alone, and write different queries.
///
/// # Panics
/// If a plan has queries of one before it, or makes a table that is an output.
pub(crate) fn places_of<'p, 'a>(
    bound: &'p mut Bound<'a>,
    parts: impl IntoIterator<Item = (&'p Loaded, (usize, Option<usize>))>,
    guard: Option<Guard>,
) -> impl Iterator<Item = Result<Placed<'p, 'a>, CallError>> {
    let (bound, mut end): (&'p Bound<'a>, usize) = (bound, 0);
    parts.into_iter().map(move |(loaded, queries)| {
        assert!(queries.0 >= end, "queries that two plans compute");
        assert!(queries.0 == 0 || loaded.plan.writes_rows_alone(), "an output that two plans write");
        end = queries.1.unwrap_or(usize::MAX);
        Placed::new((&loaded.plan, &loaded.in_tiles), (bound, queries), guard)
    })
}
