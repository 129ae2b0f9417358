//! Elementwise operations of one operand: what there are, their names, what they mean.

/// Elementwise operations of one operand. All take `f32` but where noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unary {
    /// `-x`; `f32` or `i32`.
    Neg,
    /// `|x|`; `f32` or `i32`.
    Abs,
    /// Largest integer not above `x`.
    Floor,
    /// Smallest integer not below `x`.
    Ceil,
    /// The nearest integer; of two as near, the even one.
    Round,
    /// Square root; NaN below 0.
    Sqrt,
    /// `e^x`.
    Exp,
    /// `2^x`.
    Exp2,
    /// Natural logarithm; -inf at 0, NaN below.
    Log,
    /// Logarithm to base 2; -inf at 0, NaN below.
    Log2,
    /// Sine of an angle in radians.
    Sin,
    /// Cosine of an angle in radians.
    Cos,
    /// The angle in radians whose tangent is `x`: from `-pi/2` to `pi/2`.
    Atan,
    /// The angle in radians whose cosine is `x`: from 0 to `pi`; NaN below -1 and above 1.
    Acos,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Error function: `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to `x`.
    Erf,
    /// Logical not; `bool`.
    Not,
}

impl Unary {
    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Sqrt => "sqrt",
            Unary::Exp => "exp",
            Unary::Exp2 => "exp2",
            Unary::Log => "log",
            Unary::Log2 => "log2",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Atan => "atan",
            Unary::Acos => "acos",
            Unary::Tanh => "tanh",
            Unary::Sigmoid => "sigmoid",
            Unary::Erf => "erf",
            Unary::Not => "not",
        }
    }

    /// All of them.
    pub const ALL: [Unary; 18] = [
        Unary::Neg,
        Unary::Abs,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sqrt,
        Unary::Exp,
        Unary::Exp2,
        Unary::Log,
        Unary::Log2,
        Unary::Sin,
        Unary::Cos,
        Unary::Atan,
        Unary::Acos,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Erf,
        Unary::Not,
    ];

    /// The operation on a real number, in double precision. Truth values are 0 and 1.
    pub fn real(self) -> fn(f64) -> f64 {
        match self {
            Unary::Neg => |x| -x,
            Unary::Abs => f64::abs,
            Unary::Floor => f64::floor,
            Unary::Ceil => f64::ceil,
            Unary::Round => f64::round_ties_even,
            Unary::Sqrt => f64::sqrt,
            Unary::Exp => f64::exp,
            Unary::Exp2 => f64::exp2,
            Unary::Log => f64::ln,
            Unary::Log2 => f64::log2,
            Unary::Sin => f64::sin,
            Unary::Cos => f64::cos,
            Unary::Atan => f64::atan,
            Unary::Acos => f64::acos,
            Unary::Tanh => f64::tanh,
            Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
            Unary::Erf => libm::erf,
            Unary::Not => |x| 1.0 - x,
        }
    }
}
