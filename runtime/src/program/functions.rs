//! The functions of a plan, by what they are for: each is there, or the plan is not loaded.

use rhumb_compiler::codegen::Role;
use rhumb_compiler::plan::{Attention, LanesAre, Plan, Source, TensorId};

use crate::memory::{FunctionId, LoadError, Loaded};

/// The functions of a plan.
#[derive(Debug)]
pub(super) struct Functions {
    /// Make the tables that every call has before the attention, in the plan's order.
    pub(super) tables: Vec<FunctionId>,
    /// Make those of what the attention gives, in the plan's order.
    pub(super) after: Vec<FunctionId>,
    /// Of the attention, if the plan has one.
    pub(super) tiles: Option<TileFunctions>,
}

/// The functions that query tiles take.
#[derive(Debug)]
pub(super) struct TileFunctions {
    pub(super) begin: FunctionId,
    /// Of each shape that query tiles are cut into.
    pub(super) shapes: Vec<ShapeFunctions>,
    pub(super) key_term: Option<KeyTermFunctions>,
    pub(super) pruning: Option<PruningFunctions>,
    pub(super) average: Option<AverageFunctions>,
    pub(super) end: FunctionId,
}

/// Add a key tile to a query tile of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShapeFunctions {
    /// One that every query sees whole.
    pub(super) full: FunctionId,
    /// One with the mask evaluated per element; without a mask there is no such, and it is `full`.
    pub(super) partial: FunctionId,
}

/// What a plan with a term of keys alone has.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyTermFunctions {
    /// Raises references to the key terms of some keys, with the mask evaluated per element. Without a mask every key is seen whole.
    pub(super) reference: Option<FunctionId>,
    /// Whether it is to see all keys: rows of a tile have key terms of their own.
    pub(super) of_rows: bool,
    /// Whether key terms rise with the keys of a row, or fall: of keys that are seen whole the first and the last tell. There are no tables of
    /// them.
    pub(super) is_linear: bool,
}

/// What a plan has whose keys may have no weight.
#[derive(Debug)]
pub(super) struct PruningFunctions {
    /// Make the tables of squared norms.
    pub(super) tables: Vec<(FunctionId, TensorId)>,
    /// Makes the squared norms of the queries of a tile, where scores have products.
    pub(super) squares: Option<FunctionId>,
}

/// What a plan that averages values has.
#[derive(Clone, Copy, Debug)]
pub(super) struct AverageFunctions {
    /// Tells whether values are all finite.
    pub(super) scan: FunctionId,
    /// Adds a key tile whose values are not.
    pub(super) guarded: FunctionId,
}

/// The functions that have not been taken yet.
struct Rest(Vec<(Role, FunctionId)>);

impl Rest {
    fn take(&mut self, role: Role) -> Result<FunctionId, LoadError> {
        let index = self.0.iter().position(|(have, _)| *have == role).ok_or(LoadError::Missing { role })?;
        Ok(self.0.remove(index).1)
    }

    fn take_if(&mut self, wanted: bool, role: Role) -> Result<Option<FunctionId>, LoadError> {
        wanted.then(|| self.take(role)).transpose()
    }
}

impl Functions {
    /// The functions of a plan.
    ///
    /// # Errors
    /// [`LoadError::Missing`] if the code lacks one, [`LoadError::Unexpected`] if it has one that the plan does not call.
    pub(super) fn of(loaded: &Loaded) -> Result<Functions, LoadError> {
        let (plan, mut rest) = (loaded.plan(), Rest(loaded.functions().collect()));
        let (mut tables, mut after, mut squares) = (Vec::new(), Vec::new(), Vec::new());
        for (index, step) in plan.tables.iter().enumerate() {
            let function = rest.take(Role::Table(index))?;
            match step.source {
                // Made where they tell something.
                Source::Squares { .. } => squares.push((function, step.target)),
                _ if step.after => after.push(function),
                _ => tables.push(function),
            }
        }
        let attention = plan.attention.as_ref();
        let tiles = attention.map(|attention| TileFunctions::of(plan, attention, squares, &mut rest)).transpose()?;
        match rest.0.first() {
            Some(&(role, _)) => Err(LoadError::Unexpected { role }),
            None => Ok(Functions { tables, after, tiles }),
        }
    }
}

impl TileFunctions {
    fn of(
        plan: &Plan,
        attention: &Attention,
        squares: Vec<(FunctionId, TensorId)>,
        rest: &mut Rest,
    ) -> Result<TileFunctions, LoadError> {
        let masked = !attention.masks.is_empty();
        let mut shape = |index| {
            let full = rest.take(Role::Full(index))?;
            let partial = rest.take_if(masked, Role::Partial(index))?.unwrap_or(full);
            Ok(ShapeFunctions { full, partial })
        };
        let shapes = (0..plan.tiling.shapes.len()).map(&mut shape).collect::<Result<Vec<_>, LoadError>>()?;
        let key_term = match attention.key_term {
            Some(_) => {
                let of_rows = plan.schedule.lanes() == LanesAre::Elements;
                let reference = rest.take_if(plan.raises_references(attention), Role::Reference)?;
                let is_linear = plan.schedule.computed_key_term().is_some();
                Some(KeyTermFunctions { reference, of_rows, is_linear })
            }
            None => None,
        };
        let pruning = match attention.pruning {
            Some(_) => {
                let of_queries = rest.take_if(!attention.products.is_empty(), Role::Squares)?;
                Some(PruningFunctions { tables: squares, squares: of_queries })
            }
            None => None,
        };
        let average = match attention.reductions.is_empty() {
            false => Some(AverageFunctions { scan: rest.take(Role::Scan)?, guarded: rest.take(Role::Guarded)? }),
            true => None,
        };
        // Called where its rows are read.
        rest.take_if(plan.loads_rows(), Role::Load)?;
        let (begin, end) = (rest.take(Role::Begin)?, rest.take(Role::End)?);
        Ok(TileFunctions { begin, shapes, key_term, pruning, average, end })
    }
}
