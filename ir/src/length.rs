//! Lengths of axes, as callers have them.

/// A whole number that tells how long an axis is: of any of Rust's usual types, such as the `usize` of a slice's length. One that no axis
/// can have is an error of the graph, told with all others.
#[diagnostic::on_unimplemented(
    message = "`{Self}` tells no length of an axis",
    label = "a length is a whole number: `usize`, `u32`, `u64`, `i32`, `i64` or `i128`"
)]
pub trait Length: Copy {
    /// The number.
    fn length(self) -> i128;
}

macro_rules! lengths {
    ($($number:ty),*) => {$(
        impl Length for $number {
            fn length(self) -> i128 {
                self as i128
            }
        }
    )*};
}

lengths!(i32, i64, u32, u64, usize);

impl Length for i128 {
    fn length(self) -> i128 {
        self
    }
}
