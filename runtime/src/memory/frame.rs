//! The frame of a call: what compiled functions know of the tensors they read and write.

use rhumb_compiler::plan::{Origin, Plan, Storage, TensorId};
use rhumb_ir::{Axis, Extent, Op};
use smallvec::SmallVec;

use crate::interface::Bound;
use crate::memory::{Function, OutOfMemory, Pool, Workspace, workspace::Lease};

/// Bytes after every table: vector code loads whole vectors, the last of which may begin before the end of the table and pass it.
const SLACK: usize = 64;

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
    pub(crate) fn new(plan: &Plan) -> Result<Constants, OutOfMemory> {
        let mut bytes = 0usize;
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
            slots[id] = Slot { start: bytes, len: data.len() };
            bytes = end_of(bytes, data.len(), storage)?;
        }
        let mut memory = Workspace::new(bytes)?;
        for (id, storage, data) in constants() {
            let start = slots[id].start;
            let fits = match storage {
                Storage::F64 => memory.slice_mut::<f64>(start, data.len()).map(|slice| slice.copy_from_slice(data)),
                Storage::F32 => fill::<f32>(&mut memory, start, data, |x| x as f32),
                Storage::I32 => fill::<i32>(&mut memory, start, data, |x| x as i32),
                Storage::Mask => fill::<i32>(&mut memory, start, data, |x| -i32::from(x != 0.0)),
                Storage::Byte => fill::<u8>(&mut memory, start, data, |x| u8::from(x != 0.0)),
            };
            fits.ok_or(OutOfMemory { bytes })?;
        }
        Ok(Constants { memory, slots })
    }
}

fn fill<T: super::workspace::Plain>(
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

/// The end of a table that starts at `start`, with its slack, aligned for the next.
fn end_of(start: usize, len: usize, storage: Storage) -> Result<usize, OutOfMemory> {
    let end = len.checked_mul(storage.bytes()).and_then(|bytes| bytes.checked_add(start + SLACK));
    end.and_then(|end| end.checked_next_multiple_of(64)).ok_or(OutOfMemory { bytes: usize::MAX })
}

/// The frame of one call, and the memory of its tables.
///
/// Holds the views of the call for as long as functions may run, so that the addresses in it stay good.
#[derive(Debug)]
pub(crate) struct Frame<'a, 'p> {
    words: SmallVec<[u64; 160]>,
    slots: SmallVec<[Slot; 32]>,
    tables: Lease<'p>,
    bound: Bound<'a>,
}

impl<'a, 'p> Frame<'a, 'p> {
    /// The frame of a call. `pad` is the number of elements that vector code may pass the end of a table's row by.
    pub(crate) fn new(
        plan: &Plan,
        constants: &Constants,
        mut bound: Bound<'a>,
        pool: &'p Pool,
        pad: usize,
    ) -> Result<Frame<'a, 'p>, OutOfMemory> {
        // Axes that the planner added have lengths of their own; no tensor of the call has them.
        let added = plan.graph.axes().iter().skip(bound.lengths.len());
        bound.lengths.extend(added.map(|info| match info.extent {
            Extent::Static(length) => length as usize,
            Extent::Dynamic => 0,
        }));
        let mut slots: SmallVec<[Slot; 32]> = SmallVec::new();
        let mut bytes = 0usize;
        for tensor in &plan.tensors {
            let slot = if tensor.origin == Origin::Table {
                let mut lengths = tensor.dims.iter().map(|axis| bound.lengths[axis.index()]);
                let len = lengths.try_fold(1usize, usize::checked_mul);
                let len = len.ok_or(OutOfMemory { bytes: usize::MAX })?;
                let start = bytes;
                bytes = end_of(start, len.saturating_add(pad), tensor.storage)?;
                Slot { start, len }
            } else {
                Slot::default()
            };
            slots.push(slot);
        }
        let mut tables = pool.lease(bytes)?;
        let base = tables.as_mut_ptr();
        let mut words: SmallVec<[u64; 160]> = SmallVec::with_capacity(plan.frame_words());
        words.extend(bound.lengths.iter().map(|length| *length as u64));
        let (mut inputs, mut outputs) = (0, 0);
        for (id, tensor) in plan.tensors.iter().enumerate() {
            let bytes = tensor.storage.bytes() as i64;
            match tensor.origin {
                Origin::Input(_) => {
                    let view = &bound.inputs[inputs];
                    inputs += 1;
                    words.push(view.as_ptr() as u64);
                    words.extend(view.strides().iter().map(|stride| (*stride as i64).wrapping_mul(bytes) as u64));
                }
                Origin::Output(_) => {
                    let view = &mut bound.outputs[outputs];
                    outputs += 1;
                    words.push(view.as_mut_ptr() as u64);
                    words.extend(view.strides().iter().map(|stride| (*stride as i64).wrapping_mul(bytes) as u64));
                }
                Origin::Constant(_) => {
                    let start = constants.memory.as_ptr().wrapping_add(constants.slots[id].start);
                    words.push(start as u64);
                    push_strides(&mut words, &tensor.dims, &bound, bytes);
                }
                Origin::Table => {
                    words.push(base.wrapping_add(slots[id].start) as u64);
                    push_strides(&mut words, &tensor.dims, &bound, bytes);
                }
            }
        }
        Ok(Frame { words, slots, tables, bound })
    }

    /// The length of an axis.
    pub(crate) fn length(&self, axis: Axis) -> usize {
        self.bound.lengths[axis.index()]
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

    /// Runs a compiled function with a thread's scratch memory.
    ///
    /// # Safety
    /// - `function` was compiled from the plan that this frame was made of, for features of this machine, and `scratch` has the size
    ///   that the plan asks for, its constants in place;
    /// - the indices and ranges in the scratch memory are within the lengths of their axes;
    /// - no other thread writes the same elements meanwhile, and no slice of a table that the function writes is borrowed.
    pub(crate) unsafe fn run(&self, function: Function<'_>, scratch: &mut Workspace) {
        // SAFETY: every address and stride in `words` is that of a validated view, which `self.bound` keeps borrowed, or of a table or
        // constant of the size that the plan's dimensions give, followed by the slack that vector loads may touch; the rest is the
        // caller's word.
        unsafe { function.call(&self.words, scratch.as_mut_ptr()) }
    }
}

fn push_strides(words: &mut SmallVec<[u64; 160]>, dims: &[Axis], bound: &Bound<'_>, bytes: i64) {
    let first = words.len();
    let mut stride = bytes;
    for axis in dims.iter().rev() {
        words.push(stride as u64);
        // The product is that of the table's size, which was checked, or of an empty table, which is not read.
        stride = stride.wrapping_mul(bound.lengths[axis.index()] as i64);
    }
    words[first..].reverse();
}
