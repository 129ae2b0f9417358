//! Tensors that the command owns.

use std::fmt::Write;
use std::io;

use rhumb::ir::Tensor;
use rhumb::prelude::*;
use rhumb::runtime::{ViewError, bf16, f8e4m3, f16};
use safetensors::Dtype;

use super::CliError;

/// A contiguous tensor.
#[derive(Clone, Debug)]
pub(super) struct OwnedTensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// The elements of a tensor, by type.
#[derive(Clone, Debug)]
pub(super) enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F8e4m3(Vec<f8e4m3>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    /// 0 or 1.
    Bool(Vec<u8>),
}

/// The same of the elements whatever their type.
macro_rules! each {
    ($data:expr, $elements:ident => $result:expr) => {
        match $data {
            Data::F32($elements) => $result,
            Data::F16($elements) => $result,
            Data::Bf16($elements) => $result,
            Data::F8e4m3($elements) => $result,
            Data::I8($elements) => $result,
            Data::I32($elements) => $result,
            Data::Bool($elements) => $result,
        }
    };
}

impl OwnedTensor {
    /// A tensor of zeros, if memory holds it.
    pub(super) fn zeros(
        what: &'static str,
        name: &str,
        elem: Elem,
        shape: Vec<usize>,
    ) -> Result<OwnedTensor, CliError> {
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let data = count.and_then(|count| match elem {
            Elem::F32 => zeros(count).map(Data::F32),
            Elem::F16 => zeros(count).map(Data::F16),
            Elem::Bf16 => zeros(count).map(Data::Bf16),
            Elem::F8e4m3 => zeros(count).map(Data::F8e4m3),
            Elem::I8 => zeros(count).map(Data::I8),
            Elem::I32 => zeros(count).map(Data::I32),
            Elem::Bool => zeros(count).map(Data::Bool),
        });
        match data {
            Some(data) => Ok(OwnedTensor { shape, data }),
            None => Err(CliError::TooLarge { what, name: name.to_owned(), shape }),
        }
    }

    /// To read.
    pub(super) fn view(&self) -> Result<TensorView<'_>, ViewError> {
        each!(&self.data, data => TensorView::from_slice(data, &self.shape))
    }

    /// To write.
    pub(super) fn view_mut(&mut self) -> Result<TensorViewMut<'_>, ViewError> {
        each!(&mut self.data, data => TensorViewMut::from_slice(data, &self.shape))
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> usize {
        each!(&self.data, data => size_of_val(data.as_slice()))
    }

    /// The elements as numbers, one by one.
    pub(super) fn numbers(&self) -> Box<dyn Iterator<Item = f64> + '_> {
        each!(&self.data, data => Box::new(data.iter().map(|x| f64::from(*x))))
    }

    /// Writes every element by its place; numbers that the type does not have become the nearest that it has.
    pub(super) fn fill_with(&mut self, element: impl Fn(usize) -> f64) {
        fn fill<T>(data: &mut [T], element: impl Fn(usize) -> T) {
            data.iter_mut().enumerate().for_each(|(place, x)| *x = element(place));
        }
        match &mut self.data {
            Data::F32(data) => fill(data, |place| element(place) as f32),
            Data::F16(data) => fill(data, |place| to_f16(element(place))),
            Data::Bf16(data) => fill(data, |place| to_bf16(element(place))),
            Data::F8e4m3(data) => fill(data, |place| f8e4m3::from_f32(element(place) as f32)),
            Data::I8(data) => fill(data, |place| element(place) as i8),
            Data::I32(data) => fill(data, |place| element(place) as i32),
            Data::Bool(data) => fill(data, |place| u8::from(element(place) != 0.0)),
        }
    }

    /// The tensor as the interpreter takes it, if memory holds it.
    pub(super) fn to_tensor(&self) -> Option<Tensor> {
        Some(Tensor { elem: self.elem(), shape: self.shape.clone(), data: list(self.len(), self.numbers())? })
    }

    /// The type of its elements.
    fn elem(&self) -> Elem {
        match &self.data {
            Data::F32(_) => Elem::F32,
            Data::F16(_) => Elem::F16,
            Data::Bf16(_) => Elem::Bf16,
            Data::F8e4m3(_) => Elem::F8e4m3,
            Data::I8(_) => Elem::I8,
            Data::I32(_) => Elem::I32,
            Data::Bool(_) => Elem::Bool,
        }
    }

    /// Number of elements.
    fn len(&self) -> usize {
        each!(&self.data, data => data.len())
    }

    /// What it holds, in a few lines.
    pub(super) fn summary(&self, name: &str) -> String {
        const FIRST: usize = 6;
        let elem = self.elem();
        let mut text = format!("{name}: {elem}{:?}\n", self.shape);
        let finite = || self.numbers().filter(|x| x.is_finite());
        let count = finite().count();
        if count > 0 {
            let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
            let mean = finite().sum::<f64>() / count as f64;
            let _ = writeln!(text, "  min {min:.6}  max {max:.6}  mean {mean:.6}");
        }
        let (infinite, nan) =
            (self.numbers().filter(|x| x.is_infinite()).count(), self.numbers().filter(|x| x.is_nan()).count());
        if infinite + nan > 0 {
            let _ = writeln!(text, "  {infinite} infinite, {nan} NaN, left out of these");
        }
        let first: Vec<String> = self.numbers().take(FIRST).map(|x| format!("{x:.6}")).collect();
        let more = if self.len() > FIRST { " ..." } else { "" };
        let _ = writeln!(text, "  {}{more}", if first.is_empty() { "no elements".to_owned() } else { first.join(" ") });
        text
    }

    /// The type of its elements in a file.
    pub(super) fn dtype(&self) -> Dtype {
        match &self.data {
            Data::F32(_) => Dtype::F32,
            Data::F16(_) => Dtype::F16,
            Data::Bf16(_) => Dtype::BF16,
            Data::F8e4m3(_) => Dtype::F8_E4M3,
            Data::I8(_) => Dtype::I8,
            Data::I32(_) => Dtype::I32,
            Data::Bool(_) => Dtype::BOOL,
        }
    }

    /// Writes its elements as they lie in a file.
    pub(super) fn write_to(&self, file: &mut impl io::Write) -> io::Result<()> {
        match &self.data {
            Data::F32(data) => data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Data::F16(data) => data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Data::Bf16(data) => data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Data::F8e4m3(data) => data.iter().try_for_each(|x| file.write_all(&[x.to_bits()])),
            Data::I8(data) => data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Data::I32(data) => data.iter().try_for_each(|x| file.write_all(&x.to_le_bytes())),
            Data::Bool(data) => file.write_all(data),
        }
    }
}

/// The nearest number of the type.
pub(super) fn to_f16(x: f64) -> f16 {
    // Rounded before it is of single precision, which would round it once more.
    f16::from_f32(Elem::F16.rounded(x) as f32)
}

/// The nearest number of the type.
pub(super) fn to_bf16(x: f64) -> bf16 {
    bf16::from_f32(Elem::Bf16.rounded(x) as f32)
}

/// Zeros, if memory holds them.
fn zeros<T: Clone + Default>(count: usize) -> Option<Vec<T>> {
    let mut data = Vec::new();
    data.try_reserve_exact(count).ok()?;
    data.resize(count, T::default());
    Some(data)
}

/// A list of these many elements, if memory holds them.
pub(super) fn list<T>(count: usize, elements: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).ok()?;
    list.extend(elements.take(count));
    Some(list)
}
