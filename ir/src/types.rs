//! Element types, named axes and the type of a value.

use std::fmt;

/// The element type of a value.
///
/// [`Elem::F32`] is any real number: kernels compute with `f32` (and with `f64` where a table is made once per call), the reference
/// interpreter with `f64`. [`Elem::I32`] wraps at 32 bits.
///
/// [`Elem::F16`] and [`Elem::Bf16`] are types of tensors in memory, of inputs and outputs alone. An input of such numbers is a value of
/// type `f32`, as each of them is a real number; an output rounds to the nearest, to the even one of two.
///
/// [`Elem::I8`] and [`Elem::F8e4m3`] are types of inputs alone: of caches in 8 bits. An input of the one is a value of type `i32`, one of
/// the other a value of type `f32`. What scales them is told by the graph, `cast(k) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Elem {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float: 11 digits, up to 65504. In memory alone.
    F16,
    /// The upper half of a 32-bit IEEE float: 8 digits. In memory alone.
    Bf16,
    /// 8-bit float with 4 bits of exponent and 4 digits, up to 448, without infinities (E4M3FN). In memory alone, and read alone.
    F8e4m3,
    /// 8-bit two's complement integer. In memory alone, and read alone.
    I8,
    /// 32-bit two's complement integer, wrapping.
    I32,
    /// Truth value; stored in memory as one byte, 0 or 1.
    Bool,
}

/// The numbers that values of an element type are: however many there are of a kind, this is all that most of a compiler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElemKind {
    /// Real numbers: values of `f32`.
    Real,
    /// Whole numbers: values of `i32`.
    Whole,
    /// Truth values: values of `bool`.
    Truth,
}

impl Elem {
    /// All of them.
    pub const ALL: [Elem; 7] = [Elem::F32, Elem::F16, Elem::Bf16, Elem::F8e4m3, Elem::I8, Elem::I32, Elem::Bool];

    /// Floats that tensors of either direction can hold, inputs and outputs.
    pub const FLOATS: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];

    /// What would mend an output of a type that it can't have.
    pub(crate) const OUTPUT_HINT: &str =
        "store it in its own type, or f32 in f16 or bf16; anything else takes a `cast`";
    /// As [`Elem::OUTPUT_HINT`], of a type that is read alone.
    pub(crate) const READ_ALONE_HINT: &str =
        "tensors of 8 bits are read alone; store it in its own type, or f32 in f16 or bf16";

    /// The name used by the text form.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::Bf16 => "bf16",
            Elem::F8e4m3 => "f8e4m3",
            Elem::I8 => "i8",
            Elem::I32 => "i32",
            Elem::Bool => "bool",
        }
    }

    /// Size of an element in memory, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Elem::F32 | Elem::I32 => 4,
            Elem::F16 | Elem::Bf16 => 2,
            Elem::F8e4m3 | Elem::I8 | Elem::Bool => 1,
        }
    }

    /// The numbers that its elements are.
    ///
    /// ```
    /// use rhumb_ir::{Elem, ElemKind};
    ///
    /// assert_eq!([Elem::Bf16, Elem::I8, Elem::Bool].map(Elem::kind), [ElemKind::Real, ElemKind::Whole, ElemKind::Truth]);
    /// ```
    pub fn kind(self) -> ElemKind {
        match self {
            Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => ElemKind::Real,
            Elem::I8 | Elem::I32 => ElemKind::Whole,
            Elem::Bool => ElemKind::Truth,
        }
    }

    /// The type of a value that is stored in this one: `f32` for floats of 16 bits and 8, `i32` for integers of 8, and itself for all others.
    pub fn widened(self) -> Elem {
        match self.kind() {
            ElemKind::Real => Elem::F32,
            ElemKind::Whole => Elem::I32,
            ElemKind::Truth => Elem::Bool,
        }
    }

    /// Whether it is a type of tensors in memory alone: see [`Elem::widened`].
    pub fn is_stored_only(self) -> bool {
        self.widened() != self
    }

    /// Whether tensors of it are read alone: no output can have it.
    pub fn is_input_only(self) -> bool {
        matches!(self, Elem::F8e4m3 | Elem::I8)
    }

    /// A real number as a tensor of this type holds it: the nearest float of 16 bits or 8, the even one of two, and an infinity where that
    /// is too large, of 8 bits NaN. Numbers of other types stay as they are.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    ///
    /// assert_eq!(Elem::Bf16.rounded(1.0 + 1.0 / 256.0), 1.0);
    /// assert_eq!(Elem::F16.rounded(65520.0), f64::INFINITY);
    /// assert_eq!(Elem::F8e4m3.rounded(0.3), 0.3125);
    /// assert_eq!(Elem::F32.rounded(0.1), 0.1);
    /// ```
    pub fn rounded(self, x: f64) -> f64 {
        match self.format() {
            Some(format) if self != Elem::F32 => format.rounded(x, f64::round_ties_even),
            _ => x,
        }
    }

    /// The least number of this type that is not below a real number: past the greatest an infinity, or NaN where there is none. Of
    /// types that are no floats, the next whole number.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    ///
    /// assert_eq!(Elem::F16.rounded_up(1.0 + 1e-9), 1.0 + 1.0 / 1024.0);
    /// assert_eq!(Elem::F32.rounded_up(0.1), f64::from(0.1f32));
    /// ```
    pub fn rounded_up(self, x: f64) -> f64 {
        self.format().map_or_else(|| x.ceil(), |format| format.rounded(x, f64::ceil))
    }

    /// Binary digits of a float of this type, the first of normal numbers included; none of other types.
    pub fn digits(self) -> Option<u32> {
        self.format().map(|format| format.digits.cast_unsigned() + 1)
    }

    /// The greatest float of this type; none of other types.
    pub fn greatest(self) -> Option<f64> {
        self.format().map(|format| format.most)
    }

    /// Whether `x` is an element of this type; truth values are 0 and 1.
    pub fn holds(self, x: f64) -> bool {
        let whole = |least: i32, most: i32| x.fract() == 0.0 && x >= f64::from(least) && x <= f64::from(most);
        match self.kind() {
            ElemKind::Real => x.is_nan() || self.rounded(x) == x,
            // Two's complement, of as many bits as it takes.
            ElemKind::Whole => whole(i32::MIN >> (32 - 8 * self.bytes()), i32::MAX >> (32 - 8 * self.bytes())),
            ElemKind::Truth => x == 0.0 || x == 1.0,
        }
    }

    /// The format of floats; none of other types.
    fn format(self) -> Option<Format> {
        match self {
            Elem::F32 => Some(Format { digits: 23, least: -126, most: f32::MAX as f64, past: f64::INFINITY }),
            Elem::F16 => Some(Format { digits: 10, least: -14, most: 65504.0, past: f64::INFINITY }),
            // The upper half of that of `f32`: the greatest is `(2 - 2^-7) 2^127`.
            Elem::Bf16 => Some(Format { digits: 7, least: -126, most: BRAIN_MOST, past: f64::INFINITY }),
            // The greatest is `2^8 (2 - 2^-2)`, the one after it NaN.
            Elem::F8e4m3 => Some(Format { digits: 3, least: -6, most: 448.0, past: f64::NAN }),
            Elem::I8 | Elem::I32 | Elem::Bool => None,
        }
    }
}

/// The greatest number of `bf16`.
const BRAIN_MOST: f64 = f64::from_bits(((1023 + 127) << 52) | (0x7f << 45));

/// A format of binary floats: the digits of a number beside the first, its least exponent, the greatest number, and what is past it.
struct Format {
    digits: i32,
    least: i32,
    most: f64,
    past: f64,
}

impl Format {
    /// A number of the format that is near, by a way to make numbers whole; past the greatest, what the format has for that.
    fn rounded(&self, x: f64, whole: impl Fn(f64) -> f64) -> f64 {
        if x.is_infinite() {
            return self.past.copysign(x);
        }
        if x == 0.0 || x.is_nan() {
            return x;
        }
        let exponent = ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        // The distance of neighbours, a power of 2: dividing by it is exact.
        let step = f64::from_bits(((1023 + exponent.max(self.least) - self.digits) as u64) << 52);
        let rounded = whole(x / step) * step;
        if rounded.abs() > self.most { self.past.copysign(x) } else { rounded }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The most axes a graph can have; sets of axes are bit masks.
pub const MAX_AXES: usize = 64;

/// A named axis of a graph: a handle into [`Graph::axes`](crate::Graph::axes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis(pub(crate) u8);

impl Axis {
    /// Position of the axis in [`Graph::axes`](crate::Graph::axes).
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The axis at a position of [`Graph::axes`](crate::Graph::axes); `None` past [`MAX_AXES`].
    pub fn from_index(index: usize) -> Option<Axis> {
        (index < MAX_AXES).then_some(Axis(index as u8))
    }
}

/// How long an axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Known when the graph is built.
    Static(u32),
    /// Taken from the tensors of each call.
    Dynamic,
}

/// What a graph knows about an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisInfo {
    /// The name, unique in the graph.
    pub name: String,
    /// The length.
    pub extent: Extent,
    /// Set on an axis that groups a finer one, as key/value heads group query heads (GQA): with `h` query heads and `g` groups,
    /// head `i` belongs to group `i / (h / g)`. Both extents are static and the finer is a multiple of the coarser.
    pub groups: Option<Axis>,
}

/// A set of axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisSet(u64);

impl AxisSet {
    /// The empty set: the axes of a scalar.
    pub const EMPTY: AxisSet = AxisSet(0);

    /// Whether `axis` is in the set.
    pub fn contains(self, axis: Axis) -> bool {
        self.0 >> axis.0 & 1 == 1
    }

    /// Whether the set has no axis.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Number of axes.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The set with `axis` added.
    #[must_use]
    pub fn with(self, axis: Axis) -> AxisSet {
        AxisSet(self.0 | 1 << axis.0)
    }

    /// The set with `axis` removed.
    #[must_use]
    pub fn without(self, axis: Axis) -> AxisSet {
        AxisSet(self.0 & !(1 << axis.0))
    }

    /// Axes in either set. The relation between grouped axes is not applied: see [`Graph::join`](crate::Graph::join).
    #[must_use]
    pub fn union(self, other: AxisSet) -> AxisSet {
        AxisSet(self.0 | other.0)
    }

    /// Axes in both sets.
    #[must_use]
    pub fn intersection(self, other: AxisSet) -> AxisSet {
        AxisSet(self.0 & other.0)
    }

    /// Whether every axis is also in `other`.
    pub fn is_subset(self, other: AxisSet) -> bool {
        self.0 & !other.0 == 0
    }

    /// The axes, in the order the graph declares them.
    pub fn iter(self) -> impl Iterator<Item = Axis> {
        (0..MAX_AXES as u8).map(Axis).filter(move |axis| self.contains(*axis))
    }
}

impl FromIterator<Axis> for AxisSet {
    fn from_iter<I: IntoIterator<Item = Axis>>(axes: I) -> AxisSet {
        axes.into_iter().fold(AxisSet::EMPTY, AxisSet::with)
    }
}

/// The type of a value: an element type and the axes it varies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub elem: Elem,
    /// The axes the value varies over; empty for a scalar.
    pub axes: AxisSet,
}
