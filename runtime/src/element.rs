//! The Rust types that hold the elements of tensors.

use half::{bf16, f16};
use rhumb_ir::Elem;

use crate::float8::f8e4m3;

/// A Rust type that tensors can hold: `f32`, [`f16`](half::f16), [`bf16`](half::bf16), [`f8e4m3`](crate::f8e4m3), `i8`, `i32`, and for truth values `bool` or `u8`, where any byte but 0 is true.
///
/// Tensors of any other are converted first; `f64` and `i64`, which other libraries like, are no exception:
///
/// ```compile_fail,E0277
/// let data = vec![0.5f64; 4];
/// let view = rhumb_runtime::TensorView::from_slice(&data, &[2, 2]);
/// ```
///
/// ```
/// let data = vec![0.5f64; 4];
/// let data: Vec<f32> = data.iter().map(|x| *x as f32).collect();
/// let view = rhumb_runtime::TensorView::from_slice(&data, &[2, 2])?;
/// # Ok::<(), rhumb_runtime::ViewError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a tensor can't hold `{Self}`",
    label = "a tensor holds `f32`, `f16`, `bf16`, `f8e4m3`, `i8`, `i32` or, for truth values, `bool` or `u8`",
    note = "convert the elements first, real numbers by `.map(|x| *x as f32)`, positions and ids by `i32::try_from`"
)]
pub trait Element: Copy + Send + Sync + 'static + sealed::Held {
    /// The element type of a view of such values.
    const ELEM: Elem;
}

/// An [`Element`] that kernels may write: all but `bool`, whose bytes Rust wants to be 0 or 1 whoever writes them; use `u8`.
#[diagnostic::on_unimplemented(
    message = "a kernel can't write `{Self}`",
    label = "a kernel writes `f32`, `f16`, `bf16`, `i32` or, for truth values, `u8`",
    note = "give it a slice of one of these, and convert afterwards"
)]
pub trait OutputElement: Element {}

pub(crate) use sealed::Held;

mod sealed {
    /// What a type that tensors hold means.
    pub trait Held: Sized {
        /// The bits of an element: a type of which any bits are values.
        type Bits: bytemuck::Pod;

        /// The element of some bits.
        fn of_bits(bits: Self::Bits) -> Self;

        /// The bits of an element.
        fn bits(self) -> Self::Bits;

        /// The number that it is; of truth values 0 or 1.
        fn number(self) -> f64;

        /// A number as it is stored: rounded to the nearest float, truncated and saturated to an integer, or as whether it is not 0.
        fn stored(x: f64) -> Self;
    }
}

/// The types that hold elements: of each the type, its element type, and, where they differ from what most have, the bits of an element, how
/// bits become one and it becomes bits, the number that it is, and how a number is stored.
macro_rules! elements {
    ($($held:ident: $elem:ident, $bits:ty, $of_bits:expr, $to_bits:expr, $number:expr, $stored:expr;)*) => {$(
        impl sealed::Held for $held {
            type Bits = $bits;

            fn of_bits(bits: $bits) -> $held {
                $of_bits(bits)
            }

            fn bits(self) -> $bits {
                $to_bits(self)
            }

            fn number(self) -> f64 {
                $number(self)
            }

            fn stored(x: f64) -> $held {
                $stored(x)
            }
        }

        impl Element for $held {
            const ELEM: Elem = Elem::$elem;
        }
    )*};
}

/// A number as single precision has it once an element type has rounded it: single precision in between might round twice.
fn near(elem: Elem, x: f64) -> f32 {
    elem.rounded(x) as f32
}

fn itself<T>(x: T) -> T {
    x
}

elements! {
    f32: F32, f32, itself, itself, f64::from, |x| x as f32;
    f16: F16, f16, itself, itself, f64::from, |x| f16::from_f32(near(Elem::F16, x));
    bf16: Bf16, bf16, itself, itself, f64::from, |x| bf16::from_f32(near(Elem::Bf16, x));
    f8e4m3: F8e4m3, u8, f8e4m3::from_bits, f8e4m3::to_bits, f64::from, |x| f8e4m3::from_f32(near(Elem::F8e4m3, x));
    i8: I8, i8, itself, itself, f64::from, |x| x as i8;
    i32: I32, i32, itself, itself, f64::from, |x| x as i32;
    u8: Bool, u8, itself, itself, |x| f64::from(u8::from(x != 0)), |x| u8::from(x != 0.0);
    bool: Bool, u8, |x| x != 0, u8::from, |x| f64::from(u8::from(x)), |x| x != 0.0;
}

impl OutputElement for f32 {}
impl OutputElement for f16 {}
impl OutputElement for bf16 {}
impl OutputElement for f8e4m3 {}
impl OutputElement for i8 {}
impl OutputElement for i32 {}
impl OutputElement for u8 {}

/// An expression with the Rust type that holds elements of a type: of truth values `u8`.
macro_rules! with_held {
    ($elem:expr, $held:ident => $result:expr) => {
        match $elem {
            rhumb_ir::Elem::F32 => {
                type $held = f32;
                $result
            }
            rhumb_ir::Elem::F16 => {
                type $held = half::f16;
                $result
            }
            rhumb_ir::Elem::Bf16 => {
                type $held = half::bf16;
                $result
            }
            rhumb_ir::Elem::F8e4m3 => {
                type $held = $crate::float8::f8e4m3;
                $result
            }
            rhumb_ir::Elem::I8 => {
                type $held = i8;
                $result
            }
            rhumb_ir::Elem::I32 => {
                type $held = i32;
                $result
            }
            rhumb_ir::Elem::Bool => {
                type $held = u8;
                $result
            }
        }
    };
}
pub(crate) use with_held;

/// The Rust types that hold elements of a type, as users write them.
pub(crate) fn held_by(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 => "`f32`",
        Elem::F16 => "`half::f16`",
        Elem::Bf16 => "`half::bf16`",
        Elem::F8e4m3 => "`rhumb::runtime::f8e4m3`",
        Elem::I8 => "`i8`",
        Elem::I32 => "`i32`",
        Elem::Bool => "`u8` or, for an input, `bool`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any number of a type is held by the Rust type, and any other stored as the nearest.
    #[test]
    fn numbers_are_held_as_their_type_has_them() {
        for elem in Elem::ALL {
            for x in [0.0, 1.0, -1.0, 0.1, -2.5, 1.0 + 1.0 / 256.0, 100.0] {
                let held = with_held!(elem, Type => Type::of_bits(Type::stored(x).bits()).number());
                assert!(elem.holds(held) || elem == Elem::F32, "{elem} of {x} is {held}");
                let bytes = with_held!(elem, Type => size_of::<<Type as Held>::Bits>());
                assert_eq!(bytes, elem.bytes());
                if elem.kind() == rhumb_ir::ElemKind::Real && elem != Elem::F32 {
                    assert_eq!(held, elem.rounded(x), "{elem} of {x}");
                }
            }
        }
        assert_eq!((i8::stored(-300.0), i32::stored(2.9), u8::stored(-0.5)), (-128, 2, 1));
    }
}
