//! Axial RoPE: the pairs are dealt to several axes, such as time, height and width, and turn with the coordinate of their axis.
//!
//! Of `dims = [d_0, d_1, ..]` elements for the axes, in blocks one after the other, pair `j` of axis `a` turns by `x_a base^(-2j / d_a)`; elements
//! past all blocks pass. Coordinates are a tensor of tokens and axes (video ids of FLUX, time with latitude and longitude; negative and between
//! whole numbers too), or come from a `grid` in row order by token index, the last axis fastest. Tokens before the grid (`prefix`, such as text)
//! and after it are not rotated. With `reference` the coordinate `i` of an axis of `n` becomes `i reference / n`.
//!
//! | model | attributes beside the grid |
//! |---|---|
//! | CogVideoX (arXiv 2408.06072) | `dims = [D/4, 3D/8, 3D/8]`, `reference` of the size trained on, the first axis its own; `prefix` |
//! | Wan (arXiv 2503.20314) | `dims = [D - 4 floor(D/6), 2 floor(D/6), 2 floor(D/6)]` |
//! | HunyuanVideo (arXiv 2412.03603) | `dims = [16, 56, 56]`, `base = 256` |
//! | V-JEPA 2 (arXiv 2506.09985) | `dims = [d, d, d]` with `d = 2 floor(floor(D/3) / 2)`, `tiled = true` |
//!
//! V-JEPA 2's released weights go with what its code does: within an axis, element `c` turns by the angle of pair `c mod d/2`, while partners are
//! neighbours. The two elements of a pair then turn by different angles: `tiled`, which is no rotation.
//!
//! ```text
//! %q_out = scheme axial_rope.query %q @0 {dims = [4.0, 4.0], keys = %k_at, queries = %q_at} : f32[h, q, d]
//! %k_out = scheme axial_rope.key %k @0 {dims = [4.0, 4.0], keys = %k_at, queries = %q_at} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = table [0, 0, 1, 1] : i32[pair]
//! %6 = gather %q_at over coordinate at %5 : f32[q, pair]
//! %7 = table [1.0, 0.01, 1.0, 0.01] : f32[pair]
//! %8 = mul %6, %7 : f32[q, pair]
//! %q_out = rotate %q over d by %8 over pair interleaved : f32[h, q, d]
//! %10 = table [0, 0, 1, 1] : i32[pair]
//! %11 = gather %k_at over coordinate at %10 : f32[k, pair]
//! %12 = mul %11, %7 : f32[k, pair]
//! %k_out = rotate %k over d by %12 over pair interleaved : f32[h, k, d]
//! ```

use rhumb_ir::{Axis, Elem, Expr, Pairing, Value};

use super::rope::check_excluded;
use crate::attrs::AttrRange;
use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// The pairs are dealt to several axes, such as time, height and width (CogVideoX, Wan, FLUX).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct AxialRope: "axial_rope" at Query, Key = "pair j of axis a turns by x_a base^(-2j/d_a)" {
        /// d: elements of each axis, even numbers.
        #[range(1.0..=1e6, "a list of even numbers of elements")]
        dims: Vec<f64>,
        /// Length of each axis of the grid.
        #[range(1.0..=1e6, "a list of lengths of axes")]
        #[default("coordinates are given")]
        grid: Option<Vec<f64>> = None,
        /// Coordinates of queries, i32 or f32 over queries and an axis of coordinates.
        #[default("from the grid")]
        queries: Option<Value> = None,
        /// Coordinates of keys, i32 or f32 over keys and an axis of coordinates.
        #[default("from the grid")]
        keys: Option<Value> = None,
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        base: f64 = 10_000.0,
        /// Pairs element 2j of an axis with 2j + 1, or j with j + d/2.
        pairing: Pairing = Pairing::Interleaved,
        /// Tokens before the grid, which are not rotated.
        #[range(0..=1_000_000_000, "a number of tokens")]
        prefix: u32 = 0,
        /// Coordinates are scaled to a grid of this size.
        #[range(AttrRange::above(0.0))]
        #[default("none")]
        reference: Option<Vec<f64>> = None,
        /// Angles repeat within an axis while partners are neighbours, as in V-JEPA 2.
        tiled: bool = false,
    }
}

impl AxialRope {
    /// Tokens in a grid of these lengths, in row order, with so many elements for each axis.
    pub fn grid(grid: impl Into<Vec<u32>>, dims: impl Into<Vec<u32>>) -> AxialRope {
        AxialRope { grid: Some(reals(grid.into())), ..AxialRope::with_defaults(reals(dims.into())) }
    }

    /// Coordinates outright, `i32` or `f32`: of queries over the query axis and an axis of coordinates, of keys over the key axis and one.
    pub fn at(queries: Expr<'_>, keys: Expr<'_>, dims: impl Into<Vec<u32>>) -> AxialRope {
        let (queries, keys) = (Some(queries.value()), Some(keys.value()));
        AxialRope { queries, keys, ..AxialRope::with_defaults(reals(dims.into())) }
    }

    /// The base of the frequencies: finite, above 0.
    #[must_use]
    pub fn base(self, base: f64) -> AxialRope {
        AxialRope { base, ..self }
    }

    /// Which elements of an axis pair up.
    #[must_use]
    pub fn pairing(self, pairing: Pairing) -> AxialRope {
        AxialRope { pairing, ..self }
    }

    /// Tokens before the grid, which are not rotated.
    #[must_use]
    pub fn prefix(self, tokens: u32) -> AxialRope {
        AxialRope { prefix: tokens, ..self }
    }

    /// Scales coordinates to those of a grid of this size: `i reference / n`.
    #[must_use]
    pub fn reference(self, reference: impl Into<Vec<f64>>) -> AxialRope {
        AxialRope { reference: Some(reference.into()), ..self }
    }

    /// The angles of V-JEPA 2.
    #[must_use]
    pub fn tiled(self) -> AxialRope {
        AxialRope { tiled: true, ..self }
    }

    /// The axis of coordinates of a tensor of them.
    fn coordinates<'g>(
        &self,
        cx: &SchemeContext<'g>,
        (name, value): (&str, Value),
        token: Axis,
    ) -> Result<(Expr<'g>, Axis), SchemeError> {
        let x = cx.value(name, value)?;
        let axes = self.dims.len() as u32;
        let own = |axis: &Axis| *axis != token && cx.length_of(*axis).is_ok_and(|length| length == axes);
        let free = cx.free_of(
            name,
            x,
            &[cx.dim_axis(), if token == cx.query_axis() { cx.key_axis() } else { cx.query_axis() }],
        );
        match x.ty().axes.iter().filter(own).last() {
            Some(axis) if x.ty().elem != Elem::Bool && free.is_ok() => Ok((x, axis)),
            _ => {
                let token = cx.axis_name(token);
                Err(cx.bad_value(name, x, format!("i32 or f32 over axis `{token}` and one of {axes} coordinates")))
            }
        }
    }

    /// The coordinate along each axis of a token of the grid, 0 for those outside.
    fn of_grid<'g>(&self, index: Expr<'g>, grid: &[f64]) -> Vec<Expr<'g>> {
        let token = if self.prefix == 0 { index } else { index - self.prefix as i32 };
        // At most `i32::MAX`, by `check`.
        let all = grid.iter().product::<f64>() as i32;
        let inside = token.ge(0) & token.lt(all);
        let mut after = all;
        let along = grid.iter().enumerate().map(|(a, n)| {
            after /= *n as i32;
            let mut x = ((token / after) % *n as i32).cast(Elem::F32);
            if let Some(reference) = self.reference.as_ref().and_then(|reference| reference.get(a)) {
                x = x * (reference / n);
            }
            inside.select(x, 0.0)
        });
        along.collect()
    }

    /// The frequency of each pair, in the order of the blocks, and its axis. `second` asks for that of the second element of a pair.
    fn frequencies(&self, second: bool) -> Vec<(usize, f64)> {
        let of_axis = |(a, d): (usize, &f64)| {
            let pairs = (*d / 2.0) as u32;
            let pair = move |j: u32| if self.tiled { (2 * j + u32::from(second)) % pairs } else { j };
            let theta = move |j: u32, d: f64| self.base.powf(-2.0 * f64::from(pair(j)) / d);
            let d = *d;
            (0..pairs).map(move |j| (a, theta(j, d))).collect::<Vec<_>>()
        };
        self.dims.iter().enumerate().flat_map(of_axis).collect()
    }

    /// The angles of the pairs of all blocks.
    fn angle<'g>(
        &self,
        cx: &SchemeContext<'g>,
        (name, value): (&str, Option<Value>),
        (token, index): (Axis, Expr<'g>),
        frequencies: &[(usize, f64)],
    ) -> Result<(Expr<'g>, Axis), SchemeError> {
        let pair = cx.axis("pair", frequencies.len() as u32);
        if let Some(value) = value {
            let (x, axis) = self.coordinates(cx, (name, value), token)?;
            let axes: Vec<i32> = frequencies.iter().map(|(a, _)| *a as i32).collect();
            let theta: Vec<f64> = frequencies.iter().map(|(_, theta)| *theta).collect();
            let coordinate = x.gather(axis, cx.builder().int_table([pair], &axes));
            return Ok((coordinate * cx.table(&[pair], theta), pair));
        }
        let grid = self.grid.as_deref().unwrap_or_default();
        // Each axis has frequency 0 in the pairs of the others.
        let of_axis = |(a, x): (usize, Expr<'g>)| {
            let theta = frequencies.iter().map(|(of, theta)| if *of == a { *theta } else { 0.0 });
            x * cx.table(&[pair], theta.collect::<Vec<_>>())
        };
        let angles = self.of_grid(index, grid).into_iter().enumerate().map(of_axis);
        Ok((angles.reduce(|a, b| a + b).unwrap_or_else(|| cx.scalar(0.0)), pair))
    }

    fn rotated<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        given: (&str, Option<Value>),
        token: (Axis, Expr<'g>),
    ) -> Result<Expr<'g>, SchemeError> {
        let dim = cx.dim_axis();
        if self.tiled {
            let (first, pair) = self.angle(cx, given, token, &self.frequencies(false))?;
            let (second, _) = self.angle(cx, given, token, &self.frequencies(true))?;
            let turned = |angle| x.rotate(angle, dim, pair, Pairing::Interleaved, 0);
            let is_first = (cx.builder().iota(dim) % 2).eq(0);
            return Ok(is_first.select(turned(first), turned(second)));
        }
        let frequencies = self.frequencies(false);
        if self.pairing == Pairing::Interleaved {
            let (angle, pair) = self.angle(cx, given, token, &frequencies)?;
            return Ok(x.rotate(angle, dim, pair, Pairing::Interleaved, 0));
        }
        // A block for each axis.
        let (mut x, mut start) = (x, 0);
        for (a, d) in self.dims.iter().enumerate() {
            let of_axis: Vec<(usize, f64)> = frequencies.iter().copied().filter(|(of, _)| *of == a).collect();
            let (angle, pair) = self.angle(cx, given, token, &of_axis)?;
            x = x.rotate(angle, dim, pair, Pairing::Half, start);
            start += *d as u32;
        }
        Ok(x)
    }
}

fn reals(list: Vec<u32>) -> Vec<f64> {
    list.into_iter().map(f64::from).collect()
}

impl PositionScheme for AxialRope {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let head_dim = cx.head_dim()?;
        let all: f64 = self.dims.iter().sum();
        if self.dims.is_empty() || self.dims.iter().any(|d| d % 2.0 != 0.0) || all > f64::from(head_dim) {
            let expected = format!("even numbers of elements that add up to at most {head_dim}, those of a head");
            return Err(SchemeError::range("dims", format!("{:?}", self.dims), expected));
        }
        if self.tiled && self.pairing != Pairing::Interleaved {
            return Err(SchemeError::clash("tiled", "pairing"));
        }
        let axes = self.dims.len();
        let lengths = [("grid", &self.grid), ("reference", &self.reference)];
        for (name, list) in lengths.into_iter().filter_map(|(name, list)| list.as_ref().map(|list| (name, list))) {
            if list.len() != axes || name == "grid" && list.iter().any(|n| n.fract() != 0.0) {
                let expected = format!("a number for each of {axes} axes, and whole lengths of a grid");
                return Err(SchemeError::range(name, format!("{list:?}"), expected));
            }
        }
        match (&self.grid, self.queries, self.keys) {
            (Some(grid), None, None) => {
                let all = grid.iter().product::<f64>();
                if all <= f64::from(i32::MAX) {
                    return Ok(());
                }
                Err(SchemeError::range("grid", format!("{all} tokens"), format!("at most {} tokens", i32::MAX)))
            }
            (None, Some(queries), Some(keys)) => {
                self.coordinates(cx, ("queries", queries), cx.query_axis())?;
                self.coordinates(cx, ("keys", keys), cx.key_axis())?;
                check_excluded(self, "queries", &["prefix", "reference"])
            }
            (Some(_), Some(_), _) => Err(SchemeError::clash("grid", "queries")),
            (Some(_), None, Some(_)) => Err(SchemeError::clash("grid", "keys")),
            (None, queries, _) => {
                let name = if queries.is_none() { "queries" } else { "keys" }.to_owned();
                Err(SchemeError::AttrMissing {
                    name,
                    expected: "coordinates of queries and of keys, or a `grid`".to_owned(),
                })
            }
        }
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.rotated(cx, x, ("queries", self.queries), (cx.query_axis(), cx.q_index()))
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.rotated(cx, x, ("keys", self.keys), (cx.key_axis(), cx.k_index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("axial_rope.rs"), 8, |cx| {
            let builder = cx.builder();
            let axis = builder.axis_of("coordinate", 2);
            let [queries, keys] = [("q_at", cx.query_axis()), ("k_at", cx.key_axis())]
                .map(|(name, token)| builder.input(name, Elem::F32, [token, axis]));
            Box::new(AxialRope::at(queries, keys, [4, 4]))
        });
    }
}
