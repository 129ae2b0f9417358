//! What several schemes share: learned tensors, lengths, distances of whole tokens, coordinates in a grid.

use rhumb_ir::{Axis, Elem, Expr, Value};

use crate::attrs::{IntOrValue, ListOrValue};
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

/// A learned tensor: the `f32` value of attribute `name`, and the axes that it has beside those of heads and `known`, in the order in
/// which the graph declares them.
pub(super) fn learned<'g>(
    cx: &SchemeContext<'g>,
    name: &str,
    value: Value,
    known: &[Axis],
) -> Result<(Expr<'g>, Vec<Axis>), SchemeError> {
    let x = cx.value(name, value)?;
    let head = cx.site().head;
    let of_heads = |axis: Axis| {
        let groups = cx.builder().axis_info(axis).and_then(|info| info.groups);
        head.is_some_and(|head| axis == head || groups == Some(head))
    };
    let own = x.ty().axes.iter().filter(|axis| !known.contains(axis) && !of_heads(*axis)).collect();
    if x.ty().elem == Elem::F32 { Ok((x, own)) } else { Err(cx.bad_value(name, x, "an f32 value")) }
}

/// A learned tensor over the heads, or none, and over one axis of its own of `length` elements, where that is known.
pub(super) fn learned_along<'g>(
    cx: &SchemeContext<'g>,
    name: &str,
    value: Value,
    (known, length): (&[Axis], Option<u32>),
) -> Result<(Expr<'g>, Axis), SchemeError> {
    let (x, own) = learned(cx, name, value, known)?;
    let names = known.iter().map(|axis| format!(" and axis `{}`", cx.axis_name(*axis))).collect::<String>();
    let expected = || match length {
        Some(length) => format!("f32 over an axis of {length}{names}, and maybe the heads"),
        None => format!("f32 over one axis of fixed length{names}, and maybe the heads"),
    };
    let [axis] = own[..] else { return Err(cx.bad_value(name, x, expected())) };
    let inner = [cx.query_axis(), cx.key_axis()];
    let fits = !inner.contains(&axis) && known.iter().all(|axis| x.ty().axes.contains(*axis));
    match cx.length_of(axis) {
        Ok(found) if fits && length.is_none_or(|length| length == found) => Ok((x, axis)),
        _ => Err(cx.bad_value(name, x, expected())),
    }
}

/// Numbers by head: a list of constants, or a value that varies by head at most; checked before.
pub(super) fn by_head<'g>(cx: &SchemeContext<'g>, name: &str, x: &ListOrValue) -> Result<Expr<'g>, SchemeError> {
    match x {
        ListOrValue::List(list) => cx.per_head(list.clone()),
        ListOrValue::Value(value) => cx.value(name, *value),
    }
}

/// Checks numbers by head.
pub(super) fn check_by_head(cx: &SchemeContext<'_>, name: &str, x: &ListOrValue) -> Result<(), SchemeError> {
    let heads = cx.heads()?;
    match x {
        ListOrValue::List(list) if list.len() as u64 == u64::from(heads) => Ok(()),
        ListOrValue::List(list) => {
            let found = format!("a list of {} numbers", list.len());
            Err(SchemeError::range(name, found, format!("one number for each of the {heads} heads")))
        }
        ListOrValue::Value(value) => match learned(cx, name, *value, &[])? {
            (_, own) if own.is_empty() => Ok(()),
            (x, _) => Err(cx.bad_value(name, x, "f32 over the heads")),
        },
    }
}

/// The number of tokens of a call: the site's, or the one given.
pub(super) fn length<'g>(cx: &SchemeContext<'g>, given: Option<IntOrValue>) -> Result<Expr<'g>, SchemeError> {
    given.map_or(Ok(cx.length()), |length| cx.int_or_value("length", length))
}

/// Checks that a length given does not vary by token.
pub(super) fn check_length(cx: &SchemeContext<'_>, given: Option<IntOrValue>) -> Result<(), SchemeError> {
    let Some(length @ IntOrValue::Value(_)) = given else { return Ok(()) };
    let axes = [cx.query_axis(), cx.key_axis(), cx.dim_axis()];
    cx.free_of("length", cx.int_or_value("length", length)?, &axes)
}

/// The elements of a head, all of which are parts of pairs.
pub(super) fn even_head_dim(cx: &SchemeContext<'_>) -> Result<u32, SchemeError> {
    let dim = cx.head_dim()?;
    if dim >= 2 && dim.is_multiple_of(2) {
        return Ok(dim);
    }
    let (what, expected) = ("the head dimension".to_owned(), "an even number".to_owned());
    Err(SchemeError::RotaryDim { what, found: dim, expected })
}

/// `p_k - p_q` in whole tokens; checked before.
pub(super) fn whole_distance<'g>(cx: &SchemeContext<'g>) -> Expr<'g> {
    cx.k_pos() - cx.q_pos()
}

/// Checks that positions are whole.
pub(super) fn check_whole(cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
    if [cx.q_pos(), cx.k_pos()].iter().all(|position| position.ty().elem == Elem::I32) {
        return Ok(());
    }
    Err(SchemeError::other("positions are f32, and the scheme counts whole tokens", "give i32 positions"))
}

/// Row and column of a token in a grid in row order; `first` is the index of the grid's first token.
pub(super) fn cell<'g>(index: Expr<'g>, width: i32, first: u32) -> [Expr<'g>; 2] {
    // At most a million, by the declarations.
    let index = if first == 0 { index } else { index - first as i32 };
    [index / width, index % width]
}

/// For a pair of tokens of a window of patches in row order, the number of their offset among all `(2 height - 1)(2 width - 1)`, row-major.
/// `first` is the index of the first patch.
pub(super) fn window_offsets<'g>(cx: &SchemeContext<'g>, height: i32, width: i32, first: u32) -> Expr<'g> {
    let number = |index: Expr<'g>| {
        let [y, x] = cell(index, width, first);
        y * (2 * width - 1) + x
    };
    let middle = (height - 1) * (2 * width - 1) + width - 1;
    (number(cx.q_index()) + middle) - number(cx.k_index())
}

/// Queries or keys that a scheme meets with tables: `f32` along `axis` and the elements, and not along the other side.
pub(super) fn rows<'g>(cx: &SchemeContext<'g>, name: &str, value: Value, axis: Axis) -> Result<Expr<'g>, SchemeError> {
    let x = cx.value(name, value)?;
    let other = if axis == cx.query_axis() { cx.key_axis() } else { cx.query_axis() };
    let axes = x.ty().axes;
    if x.ty().elem == Elem::F32 && axes.contains(axis) && axes.contains(cx.dim_axis()) && !axes.contains(other) {
        return Ok(x);
    }
    let (axis, dim) = (cx.axis_name(axis), cx.axis_name(cx.dim_axis()));
    Err(cx.bad_value(name, x, format!("f32 over axes `{axis}` and `{dim}`, and maybe heads and batch")))
}

/// Keys that come a second time, along an axis of tokens of their own: that which is declared last of those beside heads and elements.
pub(super) fn second_keys<'g>(
    cx: &SchemeContext<'g>,
    name: &str,
    value: Value,
) -> Result<(Expr<'g>, Axis), SchemeError> {
    let (x, own) = learned(cx, name, value, &[cx.dim_axis()])?;
    let of_attention = [cx.query_axis(), cx.key_axis()];
    match own.last() {
        Some(token) if !own.iter().any(|axis| of_attention.contains(axis)) && x.ty().axes.contains(cx.dim_axis()) => {
            Ok((x, *token))
        }
        _ => {
            let expected = "f32 over an axis of tokens of its own and the elements, and maybe heads and batch";
            Err(cx.bad_value(name, x, expected))
        }
    }
}
