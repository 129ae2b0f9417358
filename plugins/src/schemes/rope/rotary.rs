//! What all rotations share: which elements turn, in which pairs, by which positions.

use rhumb_ir::{Axis, Elem, Expr, Hook, Pairing, Value};

use crate::attrs::{AttrRange, Choice, IntOrValue};
use crate::declare::Declared;
use crate::error::SchemeError;
use crate::scheme::SchemeContext;

crate::scheme! {
    /// Which elements turn, in which pairs, by which positions.
    ///
    /// The attributes that all rotations have.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rotary: "rotary" at Query, Key = "pair j of x turns by p theta_j" {
        /// Base of the frequencies.
        #[range(AttrRange::above(0.0))]
        pub(crate) base: f64 = 10_000.0,
        /// Position of each key, i32 or f32.
        #[default("the site's")]
        pub(crate) k_positions: Option<Value> = None,
        /// Added to all positions.
        pub(crate) offset: IntOrValue = IntOrValue::Int(0),
        /// Pairs element j with j + R/2, or 2j with 2j + 1.
        pub(crate) pairing: Pairing = Pairing::Half,
        /// Position of each query, i32 or f32.
        #[default("the site's")]
        pub(crate) q_positions: Option<Value> = None,
        /// Leave the key alone: it was rotated when it was cached.
        pub(crate) query_only: bool = false,
        /// R: elements that turn.
        #[range(2.., "an even number")]
        #[default("all from start")]
        pub(crate) rotary_dim: Option<u32> = None,
        /// First element that turns.
        pub(crate) start: u32 = 0,
    }
}

impl Choice for Pairing {
    const NAMES: &'static [(&'static str, Pairing)] = &[("half", Pairing::Half), ("interleaved", Pairing::Interleaved)];
}

/// The elements that turn; within the head, `dim` even and at least 2.
pub(crate) struct Block {
    pub(crate) start: u32,
    pub(crate) dim: u32,
}

impl Block {
    /// Pairs of elements that turn.
    pub(crate) fn pairs(&self) -> u32 {
        self.dim / 2
    }
}

impl Rotary {
    /// The block of a head of this many elements.
    pub(crate) fn block(&self, head_dim: u32) -> Result<Block, SchemeError> {
        let Some(left) = head_dim.checked_sub(self.start) else {
            return Err(SchemeError::range("start", self.start, format!("an element of a head of {head_dim}")));
        };
        let dim = self.rotary_dim.unwrap_or(left);
        if dim < 2 || dim > left || !dim.is_multiple_of(2) {
            let (what, expected) = match (self.rotary_dim, self.start) {
                (Some(_), _) => {
                    let expected = format!("an even number from 2 to {left}");
                    return Err(SchemeError::range("rotary_dim", dim, expected));
                }
                (None, 0) => ("the head dimension", "an even number, or set `rotary_dim` to turn a part of the head"),
                (None, _) => ("the head dimension after `start`", "an even number, or set `rotary_dim` to turn a part"),
            };
            let (what, expected) = (what.to_owned(), expected.to_owned());
            return Err(SchemeError::RotaryDim { what, found: dim, expected });
        }
        Ok(Block { start: self.start, dim })
    }

    /// `base^(-2j / dim)` of each of the `dim / 2` pairs.
    pub(crate) fn powers(&self, dim: u32) -> Vec<f64> {
        powers(self.base, dim)
    }

    /// Checks the values that positions come from.
    pub(crate) fn check_values(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if let offset @ IntOrValue::Value(_) = self.offset {
            let axes = [cx.dim_axis(), cx.query_axis(), cx.key_axis()];
            cx.free_of("offset", cx.int_or_value("offset", offset)?, &axes)?;
        }
        check_positions(cx, "q_positions", self.q_positions, cx.key_axis())?;
        check_positions(cx, "k_positions", self.k_positions, cx.query_axis())
    }
}

/// `base^(-2j / dim)` of each of the `dim / 2` pairs.
pub(crate) fn powers(base: f64, dim: u32) -> Vec<f64> {
    (0..dim / 2).map(|j| base.powf(-2.0 * f64::from(j) / f64::from(dim))).collect()
}

/// A rotation: how fast pairs turn is what schemes differ in.
pub(crate) trait Rotation {
    /// What turns.
    fn rotary(&self) -> &Rotary;

    /// Checks what the declaration can't say.
    fn check_scaling(&self, cx: &SchemeContext<'_>, block: &Block) -> Result<(), SchemeError>;

    /// Radians per position of each pair of a block: a value over the axis `pair`.
    fn theta<'g>(&self, cx: &SchemeContext<'g>, pair: Axis, block: &Block) -> Result<Expr<'g>, SchemeError>;

    /// The factor on what turns.
    fn amplitude(&self) -> f64 {
        1.0
    }

    /// The angle of each pair.
    fn angle<'g>(
        &self,
        cx: &SchemeContext<'g>,
        positions: Expr<'g>,
        pair: Axis,
        block: &Block,
    ) -> Result<Expr<'g>, SchemeError> {
        Ok(positions * self.theta(cx, pair, block)?)
    }

    /// The hooks at which it does something.
    fn sides(&self) -> &'static [Hook] {
        if self.rotary().query_only { &[Hook::Query] } else { &[Hook::Query, Hook::Key] }
    }

    /// Checks that it fits the attention around.
    fn check_all(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let block = self.rotary().block(cx.head_dim()?)?;
        self.check_scaling(cx, &block)?;
        self.rotary().check_values(cx)
    }

    /// `x` rotated along the axis `dim` by `positions`.
    fn turn<'g>(
        &self,
        cx: &SchemeContext<'g>,
        x: Expr<'g>,
        positions: Expr<'g>,
        dim: Axis,
    ) -> Result<Expr<'g>, SchemeError> {
        let (rotary, length) = (self.rotary(), cx.length_of(dim)?);
        let block = rotary.block(length)?;
        let positions = match rotary.offset {
            IntOrValue::Int(0) => positions,
            offset => positions + cx.int_or_value("offset", offset)?,
        };
        let x = match self.amplitude() {
            1.0 => x,
            factor if block.dim == length => x * factor,
            factor => {
                let turns = block.start..block.start + block.dim;
                let factors = (0..length).map(|element| if turns.contains(&element) { factor } else { 1.0 });
                x * cx.table(&[dim], factors.collect::<Vec<f64>>())
            }
        };
        let pair = cx.axis("pair", block.pairs());
        let angle = self.angle(cx, positions, pair, &block)?;
        Ok(x.rotate(angle, dim, pair, rotary.pairing, block.start))
    }

    /// The query, turned by its positions.
    fn turn_query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let positions = self.rotary().q_positions;
        let positions = positions.map_or(Ok(cx.q_pos()), |value| cx.value("q_positions", value))?;
        self.turn(cx, x, positions, cx.dim_axis())
    }

    /// The key, turned by its positions.
    fn turn_key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let positions = self.rotary().k_positions;
        let positions = positions.map_or(Ok(cx.k_pos()), |value| cx.value("k_positions", value))?;
        self.turn(cx, x, positions, cx.dim_axis())
    }
}

/// Writes out what every [`Rotation`] with a field `rotary` has: the methods that choose what turns, and the hooks.
macro_rules! rotation {
    ($Scheme:ident) => {
        impl $Scheme {
            fn with_rotary(
                self,
                change: impl FnOnce($crate::schemes::rope::Rotary) -> $crate::schemes::rope::Rotary,
            ) -> $Scheme {
                $Scheme { rotary: change(self.rotary), ..self }
            }

            /// With another choice of what turns.
            #[allow(dead_code, reason = "not every rotation is made of a configuration")]
            pub(crate) fn with(self, rotary: $crate::schemes::rope::Rotary) -> $Scheme {
                $Scheme { rotary, ..self }
            }

            /// The base of the frequencies: finite, above 0.
            #[must_use]
            pub fn base(self, base: f64) -> $Scheme {
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { base, ..rotary })
            }

            /// Pairs neighbours, `2j` with `2j + 1`.
            #[must_use]
            pub fn interleaved(self) -> $Scheme {
                self.pairing(rhumb_ir::Pairing::Interleaved)
            }

            /// Which elements pair up.
            #[must_use]
            pub fn pairing(self, pairing: rhumb_ir::Pairing) -> $Scheme {
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { pairing, ..rotary })
            }

            /// The number of elements that turn: even, and within the head.
            #[must_use]
            pub fn rotary_dim(self, rotary_dim: u32) -> $Scheme {
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { rotary_dim: Some(rotary_dim), ..rotary })
            }

            /// The first element that turns.
            #[must_use]
            pub fn start(self, start: u32) -> $Scheme {
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { start, ..rotary })
            }

            /// Added to all positions: a number, or an `i32` value.
            #[must_use]
            pub fn offset(self, offset: impl Into<$crate::attrs::IntOrValue>) -> $Scheme {
                let offset = offset.into();
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { offset, ..rotary })
            }

            /// Turns the query alone, where keys were rotated when they were cached.
            #[must_use]
            pub fn query_only(self) -> $Scheme {
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { query_only: true, ..rotary })
            }

            /// `x` rotated along the axis `dim` by `positions`: what the hooks do, for a graph of one's own, such as one that rotates
            /// keys before they are cached. `cx` names the attention around, of which the axis `dim` and the value attributes are used.
            ///
            /// # Errors
            /// [`SchemeError`](crate::SchemeError) where the attributes do not fit `dim`.
            pub fn rotate<'g>(
                &self,
                cx: &$crate::scheme::SchemeContext<'g>,
                x: rhumb_ir::Expr<'g>,
                positions: rhumb_ir::Expr<'g>,
                dim: rhumb_ir::Axis,
            ) -> Result<rhumb_ir::Expr<'g>, $crate::error::SchemeError> {
                $crate::schemes::rope::Rotation::turn(self, cx, x, positions, dim)
            }
        }

        impl $crate::scheme::PositionScheme for $Scheme {
            fn hooks(&self) -> &[rhumb_ir::Hook] {
                $crate::schemes::rope::Rotation::sides(self)
            }

            fn check(&self, cx: &$crate::scheme::SchemeContext<'_>) -> Result<(), $crate::error::SchemeError> {
                $crate::schemes::rope::Rotation::check_all(self, cx)
            }

            fn query<'g>(
                &self,
                cx: &$crate::scheme::SchemeContext<'g>,
                x: rhumb_ir::Expr<'g>,
            ) -> Result<rhumb_ir::Expr<'g>, $crate::error::SchemeError> {
                $crate::schemes::rope::Rotation::turn_query(self, cx, x)
            }

            fn key<'g>(
                &self,
                cx: &$crate::scheme::SchemeContext<'g>,
                x: rhumb_ir::Expr<'g>,
            ) -> Result<rhumb_ir::Expr<'g>, $crate::error::SchemeError> {
                $crate::schemes::rope::Rotation::turn_key(self, cx, x)
            }
        }
    };
}

/// Writes out the method that gives positions outright, for rotations whose positions are one number for each token.
macro_rules! positions {
    ($Scheme:ident) => {
        impl $Scheme {
            /// Positions in place of the site's: `i32` or `f32` values, over the query axis and over the key axis.
            #[must_use]
            pub fn positions(self, queries: rhumb_ir::Expr<'_>, keys: rhumb_ir::Expr<'_>) -> $Scheme {
                let (q_positions, k_positions) = (Some(queries.value()), Some(keys.value()));
                self.with_rotary(|rotary| $crate::schemes::rope::Rotary { q_positions, k_positions, ..rotary })
            }
        }
    };
}

pub(crate) use {positions, rotation};

/// Checks that the attributes `others` are left out, or at their defaults, where `name` is given.
pub(crate) fn check_excluded(scheme: &impl Declared, name: &str, others: &[&str]) -> Result<(), SchemeError> {
    let written = scheme.attributes();
    match others.iter().find(|other| written.contains_key(**other)) {
        Some(other) => Err(SchemeError::clash(name, other)),
        None => Ok(()),
    }
}

/// Checks a list of frequencies, or of factors on them: one for each pair.
pub(crate) fn check_frequencies(name: &str, list: &[f64], pairs: u32) -> Result<(), SchemeError> {
    if list.len() as u64 != u64::from(pairs) {
        let found = format!("a list of {} numbers", list.len());
        return Err(SchemeError::range(name, found, format!("one number for each of {pairs} pairs")));
    }
    Ok(())
}

/// Checks a value attribute of positions: numbers, free of the head dimension and of the axis of the other side.
pub(crate) fn check_positions(
    cx: &SchemeContext<'_>,
    name: &str,
    positions: Option<Value>,
    other: Axis,
) -> Result<(), SchemeError> {
    let Some(positions) = positions else { return Ok(()) };
    let positions = cx.value(name, positions)?;
    if positions.ty().elem == Elem::Bool {
        return Err(cx.bad_value(name, positions, "i32 or f32 positions"));
    }
    cx.free_of(name, positions, &[other, cx.dim_axis()])
}
