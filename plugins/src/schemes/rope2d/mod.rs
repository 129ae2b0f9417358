//! 2D RoPE for images: a part of the pairs turns with the row of a patch, the rest with its column.
//!
//! With `D` elements per head, `n = D / 4` frequencies per axis, `theta_j = base^(-j / n)`, and `(y, x)` the coordinates of a token:
//! one axis' pairs turn by `y theta_j`, the other's by `x theta_j`. Sources: EVA-02 (arXiv 2303.11331), RoPE-ViT (2403.13298), Qwen2-VL
//! (2409.12191), Pixtral (2410.07073), DINOv3 (2508.10104), SAM 2 (2408.00714).
//!
//! Coordinates come from a patch grid of `height` rows and `width` columns, in row order by token index; or outright, as values. Tokens
//! before the grid (`prefix`: class and register tokens) and after it are not rotated. With `repeat` the grid comes several times, as
//! the memory frames of SAM 2.
//!
//! How models differ, with what to set:
//!
//! | model | attributes beside the grid |
//! |---|---|
//! | EVA-02 | `pairing = "interleaved"`, `reference = [16, 16]`, `prefix = 1` |
//! | Pixtral | `bands = "alternating"`; `pairing = "interleaved"` for the weights of `mistral-inference` |
//! | Qwen2-VL vision | positions as values: its tokens are not in row order |
//! | Llama 4 vision | `pairing = "interleaved"`, `order = "xy"`, `index_offset = 1`; its class token is the last |
//! | DINOv3 | `base = 100`, `coordinates = "centres"`, `scale = 2 pi`, `prefix = 5` |
//! | SAM 2, RoPE-ViT axial | `pairing = "interleaved"`, `order = "xy"`; `repeat` in SAM 2 |
//! | Gemma 4 vision | `base = 100`, `layout = "split"` |
//! | timm, pixel bands | `pairing = "interleaved"`, `coordinates = "corners"`, `frequencies` |
//! | RoPE-Mixed, LightGlue | `y_frequencies` and `x_frequencies`, learned |
//! | latitude and longitude | positions as `f32` values |
//!
//! ```text
//! %q_out = scheme rope2d.query %q @0 {height = 14, prefix = 1, width = 14} : f32[h, q, d]
//! %k_out = scheme rope2d.key %k @0 {height = 14, prefix = 1, width = 14} : f32[h, k, d]
//! ```
//! becomes
//! ```text
//! %5 = const 14 : i32
//! %6 = const 1 : i32
//! %7 = sub %i, %6 : i32[q]
//! %8 = const 196 : i32
//! %9 = const 0 : i32
//! %10 = ge %7, %9 : bool[q]
//! %11 = lt %7, %8 : bool[q]
//! %12 = and %10, %11 : bool[q]
//! %13 = div %7, %5 : i32[q]
//! %14 = cast %13 to f32 : f32[q]
//! %15 = const 0.0 : f32
//! %16 = select %12, %14, %15 : f32[q]
//! %17 = mod %7, %5 : i32[q]
//! %18 = cast %17 to f32 : f32[q]
//! %19 = const 0.0 : f32
//! %20 = select %12, %18, %19 : f32[q]
//! %21 = table [1.0, 0.01, 0.0, 0.0] : f32[pair]
//! %22 = mul %16, %21 : f32[q, pair]
//! %23 = table [0.0, 0.0, 1.0, 0.01] : f32[pair]
//! %24 = mul %20, %23 : f32[q, pair]
//! %25 = add %22, %24 : f32[q, pair]
//! %q_out = rotate %q over d by %25 over pair half : f32[h, q, d]
//! %27 = const 14 : i32
//! %28 = const 1 : i32
//! %29 = sub %j, %28 : i32[k]
//! %30 = const 196 : i32
//! %31 = const 0 : i32
//! %32 = ge %29, %31 : bool[k]
//! %33 = lt %29, %30 : bool[k]
//! %34 = and %32, %33 : bool[k]
//! %35 = div %29, %27 : i32[k]
//! %36 = cast %35 to f32 : f32[k]
//! %37 = const 0.0 : f32
//! %38 = select %34, %36, %37 : f32[k]
//! %39 = mod %29, %27 : i32[k]
//! %40 = cast %39 to f32 : f32[k]
//! %41 = const 0.0 : f32
//! %42 = select %34, %40, %41 : f32[k]
//! %43 = mul %38, %21 : f32[k, pair]
//! %44 = mul %42, %23 : f32[k, pair]
//! %45 = add %43, %44 : f32[k, pair]
//! %k_out = rotate %k over d by %45 over pair half : f32[h, k, d]
//! ```

mod angles;
mod check;
mod options;

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

pub use options::{Bands, Coordinates, Layout, Order, Rope2d};

impl PositionScheme for Rope2d {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        self.check_all(cx)
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let coordinates = self.coordinates_of(cx, 0, cx.q_index())?;
        self.rotate(cx, x, coordinates)
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let coordinates = self.coordinates_of(cx, 2, cx.k_index())?;
        self.rotate(cx, x, coordinates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("mod.rs"), 8, |_| Box::new(Rope2d::grid(14, 14).prefix(1)));
    }
}
