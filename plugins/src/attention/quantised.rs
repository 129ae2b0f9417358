//! Keys and values in 8 bits: the inputs that scale them.

use rhumb_ir::{Axis, Elem, ElemKind, Expr, GraphBuilder};

/// What keys and values in 8 bits have scales for. The scale is the input `k_scale` or `v_scale`, and a zero point the input `k_zero` or
/// `v_zero`, all of `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// Each token of each head: `[b, g, k]`, as a cache has them that quantises what is appended.
    PerToken,
    /// Each element of each head, the same for all tokens: `[g, d]`, of values `[g, e]`.
    PerChannel,
}

/// How rows in 8 bits are scaled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quantised {
    /// Scales that are asked for; integers have them anyway, of tokens.
    pub(super) scales: Option<Scales>,
    pub(super) zero_points: bool,
}

/// The names of a tensor of rows, of its scales and of its zero points.
pub(super) type Names = [&'static str; 3];

pub(super) const KEY: Names = ["k", "k_scale", "k_zero"];
pub(super) const VALUE: Names = ["v", "v_scale", "v_zero"];

impl Quantised {
    /// The scales of rows of an element type.
    fn of(self, elem: Elem) -> Option<Scales> {
        match elem.kind() {
            _ if !elem.is_input_only() => None,
            ElemKind::Whole => Some(self.scales.unwrap_or(Scales::PerToken)),
            ElemKind::Real | ElemKind::Truth => self.scales,
        }
    }

    /// What is asked for that rows of none of these element types have.
    pub(super) fn unused(self, rows: [Elem; 2]) -> Option<&'static str> {
        let whole = |elem: &Elem| elem.is_input_only() && elem.kind() == ElemKind::Whole;
        if self.zero_points && !rows.iter().any(whole) {
            return Some("zero points");
        }
        (self.scales.is_some() && !rows.iter().any(|elem| elem.is_input_only())).then_some("scales")
    }

    /// Rows as real numbers: an input, `(stored - zero) scale` where it is scaled.
    pub(super) fn rows<'g>(
        self,
        builder: &'g GraphBuilder,
        [name, scale, zero]: Names,
        elem: Elem,
        dims: [Axis; 4],
    ) -> Expr<'g> {
        let stored = builder.input(name, elem, dims);
        let Some(scales) = self.of(elem) else { return stored };
        let [b, g, k, d] = dims;
        let of_rows = |name: &str| match scales {
            Scales::PerToken => builder.input(name, Elem::F32, [b, g, k]),
            Scales::PerChannel => builder.input(name, Elem::F32, [g, d]),
        };
        let whole = elem.kind() == ElemKind::Whole;
        let mut rows = if whole { stored.cast(Elem::F32) } else { stored };
        let scale = of_rows(scale);
        if self.zero_points && whole {
            rows = rows - of_rows(zero);
        }
        rows * scale
    }
}

/// The element types that rows can have, of a cache or not.
pub(super) fn elems(cached: bool) -> impl Iterator<Item = Elem> {
    let read_alone = Elem::ALL.into_iter().filter(move |elem| cached && elem.is_input_only());
    Elem::FLOATS.into_iter().chain(read_alone)
}

/// The element type of rows before they are quantised.
pub(super) fn unquantised(elem: Elem) -> Elem {
    if elem.is_input_only() { Elem::F32 } else { elem }
}
