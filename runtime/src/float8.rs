//! Floats of 8 bits.

use rhumb_ir::Elem;

/// A float of 8 bits with 4 bits of exponent and 4 digits (E4M3FN): up to 448, no infinities. What tensors of [`Elem::F8e4m3`] hold.
///
/// ```
/// use rhumb_runtime::f8e4m3;
///
/// assert_eq!(f8e4m3::from_f32(0.3).to_f32(), 0.3125);
/// assert_eq!(f8e4m3::from_f32(-448.0).to_bits(), 0xfe);
/// assert!(f8e4m3::from_f32(500.0).to_f32().is_nan());
/// ```
#[allow(non_camel_case_types, reason = "a number, named as those of the language and of the crate `half`")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct f8e4m3(u8);

impl f8e4m3 {
    /// The number of these bits: a sign, 4 of the exponent, whose bias is 7, and 3 of digits.
    pub const fn from_bits(bits: u8) -> f8e4m3 {
        f8e4m3(bits)
    }

    /// The bits of the number.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// The nearest number, the even one of two; NaN past the greatest.
    pub fn from_f32(x: f32) -> f8e4m3 {
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let near = Elem::F8e4m3.rounded(f64::from(x)).abs() as f32;
        if near.is_nan() {
            return f8e4m3(sign | 0x7f);
        }
        // A subnormal number is a count of the least, and so are the bits of a normal one, digits and exponent together.
        let bits = if near < 0.015625 { near * 512.0 } else { ((near.to_bits() >> 20) - (120 << 3)) as f32 };
        f8e4m3(sign | bits as u8)
    }

    /// The same number in single precision.
    pub fn to_f32(self) -> f32 {
        let magnitude = self.0 & 0x7f;
        let number = match (magnitude >> 3, magnitude & 7) {
            (15, 7) => f32::NAN,
            (0, digits) => f32::from(digits) / 512.0,
            _ => f32::from_bits((u32::from(magnitude) << 20) + (120 << 23)),
        };
        if self.0 >> 7 == 1 { -number } else { number }
    }
}

impl From<f8e4m3> for f32 {
    fn from(x: f8e4m3) -> f32 {
        x.to_f32()
    }
}

impl From<f8e4m3> for f64 {
    fn from(x: f8e4m3) -> f64 {
        f64::from(x.to_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_go_there_and_back() {
        for bits in 0..=u8::MAX {
            let x = f8e4m3::from_bits(bits);
            assert!(Elem::F8e4m3.holds(x.into()), "{bits}");
            assert_eq!(f8e4m3::from_f32(x.to_f32()), x, "{bits}");
        }
        let numbers = |bits: u8| f64::from(f8e4m3::from_bits(bits));
        assert_eq!(
            [0x00, 0x01, 0x07, 0x08, 0x38, 0x7e, 0xb8].map(numbers),
            [0.0, 0.001953125, 0.013671875, 0.015625, 1.0, 448.0, -1.0]
        );
    }

    #[test]
    fn numbers_between_two_go_to_the_even_one() {
        let rounded = |x: f32| f8e4m3::from_f32(x).to_f32();
        assert_eq!(
            [1.0625, 1.1875, 0.0009765625, 0.0029296875, 464.0, -0.0].map(rounded),
            [1.0, 1.25, 0.0, 0.00390625, 448.0, 0.0]
        );
        assert!([464.1, f32::INFINITY, f32::NAN].iter().all(|x| rounded(*x).is_nan()));
    }
}
