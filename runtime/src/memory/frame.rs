//! The frame of a call: what compiled functions know of the tensors they read and write.

use rhumb_compiler::abi::{CONSTANT_BYTES, MOST_LANES, MOST_PRODUCTS, MOST_REDUCTIONS};
use rhumb_compiler::plan::{Origin, Plan, Storage, Tensor, TensorId};
use rhumb_ir::{Axis, Extent, Op};
use smallvec::SmallVec;

use crate::element::{Held, with_held};
use crate::error::CallError;
use crate::interface::Bound;
use crate::memory::paged::{PagedInput, gather, put_copied_strides, row_dim};
use crate::memory::places::{Guard, Places};
use crate::memory::{OutOfMemory, Workspace};
use crate::view::{InputView, PagedView};

/// Bytes after every table and constant, beside the elements of [`pad`]: the narrowest of them too can be loaded as a whole vector.
const SLACK: usize = CONSTANT_BYTES;

/// Elements after every table and constant: vector code loads whole tiles of queries, the last of which may begin before the end of a row
/// and pass it.
fn pad(plan: &Plan) -> usize {
    plan.attention.as_ref().map_or(0, |_| plan.tiling.queries() + MOST_LANES)
}

/// Bytes of a table or constant of `len` elements, with what vector code may load after it.
fn padded(len: usize, pad: usize, storage: Storage) -> Option<usize> {
    len.checked_add(pad)?.checked_mul(storage.bytes())?.checked_add(SLACK)
}

/// A tensor of the plan in the memory of the call.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// First byte in the workspace, or in the constants of the program.
    start: usize,
    /// Number of elements.
    len: usize,
}

/// Constants of a plan, kept with the kernel: what [`Origin::Constant`] tensors hold.
#[derive(Debug)]
pub(crate) struct Constants {
    memory: Workspace,
    slots: Vec<Slot>,
}

impl Constants {
    /// The constants of a plan.
    pub(crate) fn new(plan: &Plan, guard: Option<Guard>) -> Result<Constants, OutOfMemory> {
        let (mut places, pad) = (Places::new(guard), pad(plan));
        let mut slots = vec![Slot::default(); plan.tensors.len()];
        let constants = || {
            plan.tensors.iter().zip(0..).filter_map(|(tensor, id)| match tensor.origin {
                Origin::Constant(value) => match plan.graph.op(value) {
                    Op::Table { dims: _, elem: _, data } => Some((id, tensor.storage, data)),
                    _ => None,
                },
                _ => None,
            })
        };
        for (id, storage, data) in constants() {
            let id: TensorId = id;
            let start = padded(data.len(), pad, storage).and_then(|bytes| places.take(bytes));
            slots[id] = Slot { start: start.ok_or(OutOfMemory { bytes: usize::MAX })?, len: data.len() };
        }
        let mut memory = places.workspace()?;
        for (id, storage, data) in constants() {
            let start = slots[id].start;
            let fits = match storage {
                Storage::F64 => memory.slice_mut::<f64>(start, data.len()).map(|slice| slice.copy_from_slice(data)),
                Storage::Mask => fill::<i32>(&mut memory, start, data, |x| -i32::from(x != 0.0)),
                Storage::Of(elem) => with_held!(elem, Type => {
                    fill::<<Type as Held>::Bits>(&mut memory, start, data, |x| Type::stored(x).bits())
                }),
            };
            fits.ok_or(OutOfMemory { bytes: memory.bytes() })?;
        }
        Ok(Constants { memory, slots })
    }
}

fn fill<T: bytemuck::Pod>(
    memory: &mut Workspace,
    start: usize,
    data: &[f64],
    convert: impl Fn(f64) -> T,
) -> Option<()> {
    let slice = memory.slice_mut::<T>(start, data.len())?;
    for (element, &x) in slice.iter_mut().zip(data) {
        *element = convert(x);
    }
    Some(())
}

/// A call whose tables have places, but no memory yet.
#[derive(Debug)]
pub(crate) struct Placed<'p, 'a> {
    plan: &'p Plan,
    bound: &'p Bound<'a>,
    /// The queries that are computed: from and to.
    queries: (usize, usize),
    /// Of each axis of the plan.
    lengths: SmallVec<[usize; 16]>,
    slots: SmallVec<[Slot; 32]>,
    /// Inputs in pages that key tiles read there.
    paged: SmallVec<[PagedInput; 2]>,
    places: Places,
}

/// The frame of one call, and the memory of its tables.
///
/// It borrows the views of the call for as long as functions may run, so that the addresses in it stay good. They are borrowed exclusively by
/// the frames of the call, which compute different queries: see [`places_of`](crate::memory::places_of).
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    plan: &'a Plan,
    queries: (usize, usize),
    words: &'a [u64],
    lengths: &'a [usize],
    slots: &'a [Slot],
    inputs: &'a [InputView<'a>],
    paged: &'a [PagedInput],
    tables: &'a mut Workspace,
}

impl<'p, 'a> Placed<'p, 'a> {
    /// Gives the tables of a call their places; of its queries those from the first to the second number are computed, or to the last.
    ///
    /// # Errors
    /// [`CallError::Tables`] if the tables of the plan can't be had at these lengths.
    ///
    /// `in_tiles` says of each input whether key tiles alone read it: then it is read where it lies if it is in pages, else it is copied
    /// whole.
    pub(super) fn new(
        (plan, in_tiles): (&'p Plan, &[bool]),
        (bound, queries): (&'p Bound<'a>, (usize, Option<usize>)),
        guard: Option<Guard>,
    ) -> Result<Placed<'p, 'a>, CallError> {
        let mut lengths = SmallVec::from_slice(&bound.lengths);
        // Axes that the planner added have lengths of their own; no tensor of the call has them.
        let added = plan.graph.axes().iter().skip(lengths.len());
        lengths.extend(added.map(|info| match info.extent {
            Extent::Static(length) => length as usize,
            Extent::Dynamic => 0,
        }));
        let whole = plan.attention.as_ref().map_or(0, |attention| lengths[attention.query.index()]);
        let queries = (queries.0, queries.1.unwrap_or(whole));
        assert!(queries.0 <= queries.1 && queries.1 <= whole, "queries past the end of their axis");
        let pad = pad(plan);
        let mut slots: SmallVec<[Slot; 32]> = SmallVec::new();
        let mut places = Places::new(guard);
        let mut paged: SmallVec<[PagedInput; 2]> = SmallVec::new();
        let mut gathered: SmallVec<[TensorId; 2]> = SmallVec::new();
        for (input, ((view, &id), in_tiles)) in bound.inputs.iter().zip(&plan.inputs).zip(in_tiles).enumerate() {
            match view {
                InputView::Dense(_) => {}
                InputView::Paged(view) if *in_tiles => paged.push(PagedInput::new(plan, (id, input), view)),
                InputView::Paged(_) => gathered.push(id),
            }
        }
        for (id, tensor) in plan.tensors.iter().enumerate() {
            let slot = if tensor.origin == Origin::Table || gathered.contains(&id) {
                let place = elements(tensor, &lengths).and_then(|len| {
                    let start = places.take(padded(len, pad, tensor.storage)?)?;
                    Some(Slot { start, len })
                });
                place.ok_or_else(|| too_large(plan, &lengths))?
            } else {
                Slot::default()
            };
            slots.push(slot);
        }
        Ok(Placed { plan, bound, queries, lengths, slots, paged, places })
    }

    pub(super) fn plan(&self) -> &Plan {
        self.plan
    }

    /// Where the tables lie.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Says what the tables of the call would take.
    pub(crate) fn too_large(&self) -> CallError {
        too_large(self.plan, &self.lengths)
    }

    /// The frame, with the constants of its plan, memory that has the places, and a list for its words.
    pub(super) fn frame<'f>(
        &'f mut self,
        constants: &'f Constants,
        (tables, words): (&'f mut Workspace, &'f mut Vec<u64>),
    ) -> Frame<'f> {
        let Placed { plan, bound, queries, lengths, slots, paged, places } = self;
        assert!(places.bytes() <= tables.bytes(), "the memory is of other places");
        let base = tables.as_mut_ptr();
        let layout = &plan.frame;
        words.clear();
        words.resize(layout.words(), 0);
        for (word, length) in words[layout.lengths()].iter_mut().zip(&*lengths) {
            *word = *length as u64;
        }
        for (view, &id) in bound.inputs.iter().zip(&plan.inputs) {
            let (bytes, dims) = (plan.tensors[id].storage.bytes(), &plan.tensors[id].dims);
            match (view, paged.iter().find(|input| input.tensor == id)) {
                (InputView::Dense(view), _) => {
                    words[layout.address(id)] = view.as_ptr() as u64;
                    view_strides(&mut words[layout.strides(id)], view.shape(), view.strides(), bytes);
                }
                // The call record has the addresses of its rows.
                (InputView::Paged(view), Some(input)) if input.copied.is_some() => {
                    put_copied_strides(&mut words[layout.strides(id)], view, row_dim(plan, id));
                }
                (InputView::Paged(view), Some(_)) => {
                    view_strides(&mut words[layout.strides(id)], view.page_shape(), view.strides(), bytes);
                }
                (InputView::Paged(view), None) => {
                    words[layout.address(id)] = base.wrapping_add(slots[id].start) as u64;
                    dense_strides(&mut words[layout.strides(id)], dims, lengths, bytes);
                    assert!(gather(view, tables, slots[id].start), "a place for an input in pages");
                }
            }
        }
        for ((view, address), &id) in bound.outputs.iter().zip(&bound.addresses).zip(&plan.outputs) {
            words[layout.address(id)] = *address;
            let bytes = plan.tensors[id].storage.bytes();
            view_strides(&mut words[layout.strides(id)], view.shape(), view.strides(), bytes);
        }
        for (id, tensor) in plan.tensors.iter().enumerate() {
            let start = match tensor.origin {
                // Rows that are computed key tile by key tile have no address, and indices have none.
                Origin::Input(_) | Origin::Output(_) | Origin::KeyTile | Origin::Index => continue,
                Origin::Constant(_) => constants.memory.as_ptr().wrapping_add(constants.slots[id].start),
                Origin::Table => base.wrapping_add(slots[id].start).cast_const(),
            };
            words[layout.address(id)] = start as u64;
            dense_strides(&mut words[layout.strides(id)], &tensor.dims, lengths, tensor.storage.bytes());
        }
        Frame { plan, queries: *queries, words, lengths, slots, inputs: &bound.inputs, paged, tables }
    }
}

impl Frame<'_> {
    /// The plan of the call.
    pub(crate) fn plan(&self) -> &Plan {
        self.plan
    }

    /// The words that functions read. Every address and stride in them is that of a validated view, which the frame keeps borrowed, or of a
    /// table or constant of the size that the plan's dimensions give, followed by the slack that vector loads may touch.
    pub(super) fn words(&self) -> &[u64] {
        self.words
    }

    /// The address of a tensor and the strides of its dimensions, in bytes.
    pub(super) fn tensor(&self, tensor: TensorId) -> (u64, &[u64]) {
        let layout = &self.plan.frame;
        (self.words[layout.address(tensor)], &self.words[layout.strides(tensor)])
    }

    /// An input in pages that key tiles read there, and its pages.
    pub(super) fn paged(&self, tensor: TensorId) -> Option<(&PagedInput, &PagedView<'_>)> {
        let input = self.paged.iter().find(|input| input.tensor == tensor)?;
        match &self.inputs[input.input] {
            InputView::Paged(view) => Some((input, view)),
            InputView::Dense(_) => None,
        }
    }

    /// Bytes of scratch memory, beside those of the plan, where rows in pages are copied.
    pub(super) fn copied_bytes(&self) -> usize {
        // A tensor can be keys and values, of several products.
        (MOST_PRODUCTS + MOST_REDUCTIONS) * self.paged.iter().filter_map(|input| input.copied).max().unwrap_or(0)
    }

    /// The queries that are computed: from and to.
    pub(crate) fn queries(&self) -> (usize, usize) {
        self.queries
    }

    /// The length of an axis.
    pub(crate) fn length(&self, axis: Axis) -> usize {
        self.lengths[axis.index()]
    }

    /// The elements of a table of `f64`.
    pub(crate) fn f64_table(&self, table: TensorId) -> &[f64] {
        let Slot { start, len } = self.slots[table];
        self.tables.slice(start, len).unwrap_or(&[])
    }

    /// The elements of a table of `f32`.
    pub(crate) fn f32_table(&self, table: TensorId) -> &[f32] {
        let Slot { start, len } = self.slots[table];
        self.tables.slice(start, len).unwrap_or(&[])
    }

    /// The elements of a table of 32-bit integers or masks.
    pub(crate) fn i32_table(&self, table: TensorId) -> &[i32] {
        let Slot { start, len } = self.slots[table];
        self.tables.slice(start, len).unwrap_or(&[])
    }
}

/// Elements of a table; none if they can't be counted.
fn elements(table: &Tensor, lengths: &[usize]) -> Option<usize> {
    let mut lengths = table.dims.iter().map(|axis| lengths[axis.index()]);
    if lengths.clone().any(|length| length == 0) {
        return Some(0);
    }
    lengths.try_fold(1, usize::checked_mul)
}

/// Says what the tables of a call would take.
fn too_large(plan: &Plan, lengths: &[usize]) -> CallError {
    let pad = pad(plan);
    let shape = |table: &Tensor| table.dims.iter().map(|axis| lengths[axis.index()]).collect::<Box<[usize]>>();
    let bytes = |table: &Tensor| {
        let lengths = shape(table);
        let len = match lengths.contains(&0) {
            true => 0,
            false => lengths.iter().fold(1, |len, length| u128::saturating_mul(len, *length as u128)),
        };
        len.saturating_add(pad as u128).saturating_mul(table.storage.bytes() as u128).saturating_add(SLACK as u128)
    };
    let tables = || plan.tensors.iter().filter(|tensor| tensor.origin == Origin::Table);
    let total = tables().map(bytes).fold(0, u128::saturating_add);
    match tables().max_by_key(|table| bytes(table)) {
        Some(largest) => CallError::Tables {
            total,
            table: largest.name.as_str().into(),
            shape: shape(largest),
            bytes: bytes(largest),
        },
        None => CallError::OutOfMemory(OutOfMemory { bytes: 0 }),
    }
}

/// The strides of a view in bytes. Those that no two elements are apart by may be any number, and do not count.
fn view_strides(words: &mut [u64], shape: &[usize], strides: &[isize], bytes: usize) {
    let empty = shape.contains(&0);
    for (word, (size, stride)) in words.iter_mut().zip(shape.iter().zip(strides)) {
        *word = match *size {
            // A view proves that its elements are less than `isize::MAX` bytes apart.
            2.. if !empty => (*stride as i64 * bytes as i64) as u64,
            _ => 0,
        };
    }
}

/// The strides of a row-major tensor in bytes.
fn dense_strides(words: &mut [u64], dims: &[Axis], lengths: &[usize], bytes: usize) {
    let length = |axis: &Axis| lengths[axis.index()] as u64;
    // Without elements all indices are those of the padding.
    let mut stride = if dims.iter().any(|axis| length(axis) == 0) { 0 } else { bytes as u64 };
    for (word, axis) in words.iter_mut().zip(dims).rev() {
        *word = stride;
        // The product is at most the size of the tensor, which is in memory.
        stride *= length(axis);
    }
}

#[cfg(test)]
pub(super) mod tests;
