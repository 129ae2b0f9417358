//! Seeded random tensors: the same on every machine and in every version.

use std::f64::consts::TAU;

use rhumb::prelude::*;
use rhumb::runtime::f8e4m3;
use rhumb_random::Rng;

use super::CliError;
use super::tensor::{Data, OwnedTensor, to_bf16, to_f16};

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

    /// A tensor: floats normal, `i32` from 0 up to `most`, `i8` any, `bool` either.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        elem: Elem,
        shape: Vec<usize>,
        most: usize,
    ) -> Result<OwnedTensor, CliError> {
        let mut tensor = OwnedTensor::zeros("input", name, elem, shape)?;
        match &mut tensor.data {
            Data::F32(data) => data.fill_with(|| self.normal()),
            Data::F16(data) => data.fill_with(|| to_f16(self.normal().into())),
            Data::Bf16(data) => data.fill_with(|| to_bf16(self.normal().into())),
            Data::F8e4m3(data) => data.fill_with(|| f8e4m3::from_f32(self.normal())),
            Data::I8(data) => data.fill_with(|| self.0.bits() as i8),
            Data::I32(data) => data.fill_with(|| self.up_to(most)),
            Data::Bool(data) => data.fill_with(|| (self.0.bits() >> 63) as u8),
        }
        Ok(tensor)
    }
}
