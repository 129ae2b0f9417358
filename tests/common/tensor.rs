//! Tensors that own their memory, in any layout.

use rhumb::prelude::*;
use rhumb::runtime::{bf16, f8e4m3, f16};

use super::Rng;

/// The memory of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F8e4m3(Vec<f8e4m3>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    /// Bytes, 0 for false.
    Bool(Vec<u8>),
}

impl Data {
    fn get(&self, place: usize) -> f64 {
        match self {
            Data::F32(data) => f64::from(data[place]),
            Data::F16(data) => f64::from(data[place]),
            Data::Bf16(data) => f64::from(data[place]),
            Data::F8e4m3(data) => f64::from(data[place]),
            Data::I8(data) => f64::from(data[place]),
            Data::I32(data) => f64::from(data[place]),
            Data::Bool(data) => f64::from(u8::from(data[place] != 0)),
        }
    }

    fn set(&mut self, place: usize, x: f64) {
        match self {
            Data::F32(data) => data[place] = x as f32,
            Data::F16(data) => data[place] = f16::from_f32(Elem::F16.rounded(x) as f32),
            Data::Bf16(data) => data[place] = bf16::from_f32(Elem::Bf16.rounded(x) as f32),
            Data::F8e4m3(data) => data[place] = f8e4m3::from_f32(x as f32),
            Data::I8(data) => data[place] = x as i8,
            Data::I32(data) => data[place] = x as i32,
            Data::Bool(data) => data[place] = u8::from(x != 0.0),
        }
    }

    /// The elements at some places.
    fn at(&self, places: &[usize]) -> Data {
        match self {
            Data::F32(data) => Data::F32(places.iter().map(|place| data[*place]).collect()),
            Data::F16(data) => Data::F16(places.iter().map(|place| data[*place]).collect()),
            Data::Bf16(data) => Data::Bf16(places.iter().map(|place| data[*place]).collect()),
            Data::F8e4m3(data) => Data::F8e4m3(places.iter().map(|place| data[*place]).collect()),
            Data::I8(data) => Data::I8(places.iter().map(|place| data[*place]).collect()),
            Data::I32(data) => Data::I32(places.iter().map(|place| data[*place]).collect()),
            Data::Bool(data) => Data::Bool(places.iter().map(|place| data[*place]).collect()),
        }
    }
}

/// What memory between the elements of an input holds: reading it ruins the result.
const GAP: f32 = f32::NAN;
const INT_GAP: i32 = i32::MIN;
const BOOL_GAP: u8 = 0xff;
/// What memory holds before an output is written, a NaN that no computation makes.
const UNWRITTEN: u32 = 0x7fc0_beef;
/// As `UNWRITTEN`, in 16 bits of either kind.
const HALF_UNWRITTEN: u16 = 0x7fee;

/// A tensor and how it lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    data: Data,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

/// Layouts of one shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    /// Row-major.
    Rows,
    /// Dimensions in this order in memory, outermost first: `[0, 2, 1, 3]` holds `[b, h, q, d]` as BSHD.
    Order(Vec<usize>),
    /// Gaps after each step of every dimension.
    Padded,
    /// A window of a larger tensor.
    Window,
    /// Gaps after each element.
    Spread,
    /// The last dimension but one backwards.
    Backwards,
    /// All dimensions backwards.
    Reversed,
    /// The outermost dimension repeats one element: inputs alone.
    Repeated,
}

impl Layout {
    pub(crate) fn random(rng: &mut Rng, rank: usize, output: bool) -> Layout {
        match rng.below(if output { 10 } else { 11 }) {
            0 | 1 => Layout::Rows,
            2 if rank == 4 => Layout::Order(vec![0, 2, 1, 3]),
            2 | 3 => Layout::Order(rng.shuffled((0..rank).collect())),
            4 => Layout::Padded,
            5 => Layout::Window,
            6 => Layout::Backwards,
            7 => Layout::Reversed,
            8 => Layout::Spread,
            9 => Layout::Rows,
            _ => Layout::Repeated,
        }
    }

    /// Length of the memory, offset and strides.
    fn place(&self, shape: &[usize]) -> (usize, usize, Vec<isize>) {
        let rank = shape.len();
        let order: Vec<usize> = match self {
            Layout::Order(order) => order.clone(),
            _ => (0..rank).collect(),
        };
        let around = |dim: usize| match self {
            Layout::Padded => shape[dim] + [1, 3, 2, 5][dim % 4],
            Layout::Window => shape[dim] + 4,
            _ => shape[dim].max(1),
        };
        let mut strides = vec![0; rank];
        let mut len = if *self == Layout::Spread { 3 } else { 1 };
        for &dim in order.iter().rev() {
            strides[dim] = len as isize;
            len *= around(dim);
        }
        let mut offset = 0;
        match self {
            // From the second element of each dimension.
            Layout::Window => offset = strides.iter().map(|stride| *stride as usize).sum(),
            Layout::Backwards if rank >= 2 && shape.iter().all(|size| *size > 0) => {
                offset = strides[rank - 2] as usize * (shape[rank - 2] - 1);
                strides[rank - 2] = -strides[rank - 2];
            }
            Layout::Reversed if shape.iter().all(|size| *size > 0) => {
                offset = strides.iter().zip(shape).map(|(stride, size)| *stride as usize * (size - 1)).sum();
                strides.iter_mut().for_each(|stride| *stride = -*stride);
            }
            Layout::Repeated if rank > 0 => strides[0] = 0,
            _ => {}
        }
        (len, offset, strides)
    }
}

impl Tensor {
    /// A row-major tensor.
    pub(crate) fn f32(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f32>>) -> Tensor {
        Tensor::rows(shape.into(), Data::F32(data.into()))
    }

    /// A row-major tensor.
    pub(crate) fn i32(shape: impl Into<Vec<usize>>, data: impl Into<Vec<i32>>) -> Tensor {
        Tensor::rows(shape.into(), Data::I32(data.into()))
    }

    /// The same numbers, rounded to an element type of floats or to the nearest integers of 8 bits, row-major.
    pub(crate) fn rounded(&self, elem: Elem) -> Tensor {
        let numbers = self.numbers();
        let near = |x: &f64| elem.rounded(*x) as f32;
        let data = match elem {
            Elem::F16 => Data::F16(numbers.iter().map(|x| f16::from_f32(near(x))).collect()),
            Elem::Bf16 => Data::Bf16(numbers.iter().map(|x| bf16::from_f32(near(x))).collect()),
            Elem::F8e4m3 => Data::F8e4m3(numbers.iter().map(|x| f8e4m3::from_f32(*x as f32)).collect()),
            Elem::I8 => Data::I8(numbers.iter().map(|x| x.round() as i8).collect()),
            _ => Data::F32(numbers.iter().map(near).collect()),
        };
        Tensor::rows(self.shape.clone(), data)
    }

    /// A row-major tensor of truth values.
    pub(crate) fn bool(shape: impl Into<Vec<usize>>, data: impl IntoIterator<Item = bool>) -> Tensor {
        // Any byte but 0 is true.
        let byte = |(at, x): (usize, bool)| if x { [1, 2, 0x80, 0xff][at % 4] } else { 0 };
        Tensor::rows(shape.into(), Data::Bool(data.into_iter().enumerate().map(byte).collect()))
    }

    pub(crate) fn normal(rng: &mut Rng, shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        let data = rng.normals(shape.iter().product());
        Tensor::f32(shape, data)
    }

    fn rows(shape: Vec<usize>, data: Data) -> Tensor {
        let (_, offset, strides) = Layout::Rows.place(&shape);
        Tensor { data, offset, shape, strides }
    }

    /// A tensor for a kernel to write, in a layout.
    pub(crate) fn unwritten(shape: &[usize], layout: &Layout) -> Tensor {
        Tensor::unwritten_of(Elem::F32, shape, layout)
    }

    /// As [`Tensor::unwritten`], of floats of any type.
    pub(crate) fn unwritten_of(elem: Elem, shape: &[usize], layout: &Layout) -> Tensor {
        let (len, offset, strides) = layout.place(shape);
        let data = match elem {
            Elem::F16 => Data::F16(vec![f16::from_bits(HALF_UNWRITTEN); len]),
            Elem::Bf16 => Data::Bf16(vec![bf16::from_bits(HALF_UNWRITTEN); len]),
            _ => Data::F32(vec![f32::from_bits(UNWRITTEN); len]),
        };
        Tensor { data, offset, shape: shape.to_vec(), strides }
    }

    /// The same elements in another layout; a repeated dimension repeats its first element.
    pub(crate) fn stored(&self, layout: &Layout) -> Tensor {
        let (len, offset, strides) = layout.place(&self.shape);
        let data = match &self.data {
            Data::F32(_) => Data::F32(vec![GAP; len]),
            Data::F16(_) => Data::F16(vec![f16::NAN; len]),
            Data::Bf16(_) => Data::Bf16(vec![bf16::NAN; len]),
            Data::F8e4m3(_) => Data::F8e4m3(vec![f8e4m3::from_bits(0x7f); len]),
            Data::I8(_) => Data::I8(vec![i8::MIN; len]),
            Data::I32(_) => Data::I32(vec![INT_GAP; len]),
            Data::Bool(_) => Data::Bool(vec![1; len]),
        };
        let mut stored = Tensor { data, offset, shape: self.shape.clone(), strides };
        // Backwards, so that the first of coinciding elements stays.
        let places: Vec<(usize, usize)> = self.places().into_iter().zip(stored.places()).collect();
        for (from, to) in places.into_iter().rev() {
            match (&self.data, &mut stored.data) {
                (Data::F32(from_data), Data::F32(to_data)) => to_data[to] = from_data[from],
                (Data::F16(from_data), Data::F16(to_data)) => to_data[to] = from_data[from],
                (Data::Bf16(from_data), Data::Bf16(to_data)) => to_data[to] = from_data[from],
                (Data::F8e4m3(from_data), Data::F8e4m3(to_data)) => to_data[to] = from_data[from],
                (Data::I8(from_data), Data::I8(to_data)) => to_data[to] = from_data[from],
                (Data::I32(from_data), Data::I32(to_data)) => to_data[to] = from_data[from],
                (Data::Bool(from_data), Data::Bool(to_data)) => to_data[to] = from_data[from],
                _ => unreachable!("the same elements"),
            }
        }
        stored
    }

    /// The same elements row-major.
    pub(crate) fn rows_of(&self) -> Tensor {
        Tensor::rows(self.shape.clone(), self.data.at(&self.places()))
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn elem(&self) -> Elem {
        match self.data {
            Data::F32(_) => Elem::F32,
            Data::F16(_) => Elem::F16,
            Data::Bf16(_) => Elem::Bf16,
            Data::F8e4m3(_) => Elem::F8e4m3,
            Data::I8(_) => Elem::I8,
            Data::I32(_) => Elem::I32,
            Data::Bool(_) => Elem::Bool,
        }
    }

    /// The memory from the lowest element to the highest, the place of the first element in it, the shape and the strides.
    pub(crate) fn reached(&self) -> (Data, usize, &[usize], &[isize]) {
        let places = self.places();
        let low = places.iter().copied().min().unwrap_or(0);
        let end = places.iter().max().map_or(0, |high| high + 1);
        let data = match &self.data {
            Data::F32(data) => Data::F32(data[low..end].to_vec()),
            Data::F16(data) => Data::F16(data[low..end].to_vec()),
            Data::Bf16(data) => Data::Bf16(data[low..end].to_vec()),
            Data::F8e4m3(data) => Data::F8e4m3(data[low..end].to_vec()),
            Data::I8(data) => Data::I8(data[low..end].to_vec()),
            Data::I32(data) => Data::I32(data[low..end].to_vec()),
            Data::Bool(data) => Data::Bool(data[low..end].to_vec()),
        };
        (data, self.offset.saturating_sub(low), &self.shape, &self.strides)
    }

    pub(crate) fn view(&self) -> TensorView<'_> {
        let Tensor { data, offset, shape, strides } = self;
        match data {
            Data::F32(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::F16(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::Bf16(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::F8e4m3(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::I8(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::I32(data) => TensorView::with_offset(data, *offset, shape, strides),
            Data::Bool(data) => TensorView::with_offset(data, *offset, shape, strides),
        }
        .expect("a view")
    }

    pub(crate) fn view_mut(&mut self) -> TensorViewMut<'_> {
        let Tensor { data, offset, shape, strides } = self;
        match data {
            Data::F32(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::F16(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::Bf16(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::F8e4m3(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::I8(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::I32(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
            Data::Bool(data) => TensorViewMut::with_offset(data, *offset, shape, strides),
        }
        .expect("a view")
    }

    /// Where each element is in memory, in row-major order of the shape.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![self.offset as isize];
        for (size, stride) in self.shape.iter().zip(&self.strides) {
            let mut longer = Vec::with_capacity(places.len() * size);
            for place in places {
                longer.extend((0..*size as isize).map(|index| place + index * stride));
            }
            places = longer;
        }
        places.into_iter().map(|place| place as usize).collect()
    }

    /// All elements, which are floats, in row-major order of the shape.
    pub(crate) fn values(&self) -> Vec<f32> {
        assert!(!matches!(self.data, Data::I8(_) | Data::I32(_) | Data::Bool(_)), "a tensor of floats");
        // Single precision holds all of them.
        let Data::F32(data) = &self.data else { return self.numbers().into_iter().map(|x| x as f32).collect() };
        self.places().into_iter().map(|place| data[place]).collect()
    }

    /// All elements as bits.
    pub(crate) fn bits(&self) -> Vec<u32> {
        self.values().into_iter().map(f32::to_bits).collect()
    }

    /// Elements as numbers, in row-major order of the shape.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        self.places().into_iter().map(|place| self.data.get(place)).collect()
    }

    /// Changes some elements of any type: `change` is told their place in row-major order.
    pub(crate) fn replace(&mut self, mut change: impl FnMut(usize) -> Option<f64>) {
        for (index, place) in self.places().into_iter().enumerate() {
            if let Some(x) = change(index) {
                self.data.set(place, x);
            }
        }
    }

    /// Row-major, with `index` at each dimension in place of its own: element `[i, j]` is that at `[index[0][i], index[1][j]]`.
    pub(crate) fn picked(&self, index: &[Vec<usize>]) -> Tensor {
        let mut places = vec![self.offset as isize];
        for (index, stride) in index.iter().zip(&self.strides) {
            places =
                places.iter().flat_map(|place| index.iter().map(move |at| place + *at as isize * stride)).collect();
        }
        let places: Vec<usize> = places.into_iter().map(|place| place as usize).collect();
        Tensor::rows(index.iter().map(Vec::len).collect(), self.data.at(&places))
    }

    /// Changes elements by their place in row-major order of the shape.
    pub(crate) fn change(&mut self, mut change: impl FnMut(usize, &mut f32)) {
        let places = self.places();
        let Data::F32(data) = &mut self.data else { panic!("a tensor of f32") };
        for (index, place) in places.into_iter().enumerate() {
            change(index, &mut data[place]);
        }
    }

    /// Whether memory outside of the tensor is as it was, and all of the tensor was written.
    pub(crate) fn written_inside_alone(&self) -> bool {
        let unwritten: Vec<bool> = match &self.data {
            Data::F32(data) => data.iter().map(|x| x.to_bits() == UNWRITTEN).collect(),
            Data::F16(data) => data.iter().map(|x| x.to_bits() == HALF_UNWRITTEN).collect(),
            Data::Bf16(data) => data.iter().map(|x| x.to_bits() == HALF_UNWRITTEN).collect(),
            Data::F8e4m3(_) | Data::I8(_) | Data::I32(_) | Data::Bool(_) => panic!("a tensor that kernels write"),
        };
        let mut inside = vec![false; unwritten.len()];
        for place in self.places() {
            inside[place] = true;
        }
        unwritten.into_iter().zip(inside).all(|(unwritten, inside)| unwritten != inside)
    }

    /// The last dimension's element `index` of each row: `[.., n]` becomes `[..]`, flattened.
    pub(crate) fn column(&self, index: usize) -> Tensor {
        let width = *self.shape.last().expect("a dimension");
        let places: Vec<usize> = self.places().into_iter().skip(index).step_by(width).collect();
        Tensor::rows(vec![places.len()], self.data.at(&places))
    }

    /// The tensor at one index of the first dimension.
    pub(crate) fn first_index(&self, index: usize) -> Tensor {
        let row: usize = self.shape[1..].iter().product();
        let places = &self.places()[index * row..(index + 1) * row];
        Tensor::rows(self.shape[1..].to_vec(), self.data.at(places))
    }
}
