//! Units of rounding errors.

/// The unit roundoff of single precision: 2^-24.
pub(crate) const U: f64 = f64::from_bits((1023 - 24) << 52);

/// The relative error that is allowed for results in double precision: 2^-50, eight times its unit roundoff. It covers the kernel's
/// tables, this analysis, and the reference, which may sum up in another order.
pub(crate) const ROOM: f64 = f64::from_bits((1023 - 50) << 52);

/// The relative error of a number that is rounded to `bf16`.
pub(super) const BF16: f64 = f64::from_bits((1023 - 8) << 52);

/// The error of a number that is rounded to an integer of 15 bits and a sign, relative to the greatest: half of the last bit, and what the
/// scale of such integers is off by.
pub(super) const FIXED: f64 = f64::from_bits((1023 - 16) << 52) * (1.0 + 1.0 / 64.0);

/// The least normal number of single precision: what products of pairs of `bf16` lose at most where they take less for 0.
pub(super) const SUBNORMAL: f64 = f64::from_bits((1023 - 126) << 52);

/// The error of underflow in each product.
pub(super) const TINY_SUM: f64 = f64::from_bits((1023 - 149) << 52);

/// `n u / (1 - n u)`: what `n` roundings make of a number, relative to it.
pub(crate) fn gamma(n: f64) -> f64 {
    if n * U < 1.0 { n * U / (1.0 - n * U) } else { f64::INFINITY }
}
