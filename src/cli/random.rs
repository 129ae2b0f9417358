//! Seeded random tensors: the same on every machine and in every version.

use std::f64::consts::TAU;

use rhumb::ir::ElemKind;
use rhumb::prelude::*;
use rhumb::runtime::OwnedTensor;
use rhumb_random::Rng;

use super::CliError;
use super::tensor::zeros;

/// Random numbers of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Random(Rng);

impl Random {
    /// The numbers of a seed for the tensor of a name: other tensors do not change them.
    pub(super) fn new(seed: u64, name: &str) -> Random {
        // FNV-1a.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Random(Rng::new(seed ^ hash))
    }

    /// Above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.0.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// From the normal distribution (Box and Muller).
    fn normal(&mut self) -> f32 {
        ((-2.0 * self.unit().ln()).sqrt() * (TAU * self.unit()).cos()) as f32
    }

    /// From 0 up to `most`.
    fn up_to(&mut self, most: usize) -> i32 {
        let most = most.min(i32::MAX as usize) as u64;
        (self.0.bits() % (most + 1)) as i32
    }

    /// A tensor: floats normal, `i32` from 0 up to `most`, integers of fewer bits any, `bool` either.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        elem: Elem,
        shape: Vec<usize>,
        most: usize,
    ) -> Result<OwnedTensor, CliError> {
        let mut tensor = zeros("input", name, elem, shape)?;
        // Bits of an integer beyond those of its type.
        let above = 64 - 8 * elem.bytes();
        tensor.fill_with(|_| match elem.kind() {
            ElemKind::Real => self.normal().into(),
            ElemKind::Whole if elem.is_stored_only() => (((self.0.bits() << above) as i64) >> above) as f64,
            ElemKind::Whole => self.up_to(most).into(),
            ElemKind::Truth => (self.0.bits() >> 63) as f64,
        });
        Ok(tensor)
    }
}
