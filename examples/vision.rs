//! 2D RoPE in a vision transformer: a class token, then 14 x 14 patches whose queries and keys turn with their row and column.
//!
//! The tensors are as a projection of packed queries, keys and values leaves them, `[image, token, 3, head, dim]`: the kernel reads them
//! through strides, and writes tokens outermost too. Nothing is copied or transposed.

mod support;

use std::error::Error;

use rhumb::prelude::*;
use support::{Run, max_error, normal};

const IMAGES: usize = 2;
const GRID: i32 = 14;
const TOKENS: usize = 1 + (GRID * GRID) as usize;
const HEADS: usize = 12;
const DIM: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::host()?;
    // ViT-B/16 at 224 x 224 pixels. Every token sees every other: no mask.
    let rope = Rope2d::grid(GRID, GRID).prefix(1).base(100.0);
    let attention = Attention::heads(HEADS as u32).head_dim(DIM as u32);
    let graph = attention.scheme(rope).build()?;
    let kernel = engine.compile(&graph)?;
    println!("{IMAGES} images of {GRID} x {GRID} patches and a class token, {HEADS} heads of {DIM}");
    println!("{kernel:?}, compiled in {:.1} ms", kernel.compile_time().as_secs_f64() * 1e3);

    // Queries, keys and values of all tokens, one projection. Below they are views of it.
    let packed = normal(IMAGES * TOKENS * 3 * HEADS * DIM, 1);
    let found = attend(&packed, &*kernel)?;
    let expected = attend(&packed, &engine.reference(&graph)?)?;
    println!("largest difference to the reference: {:.1e}", max_error(&found, &expected, 5e-6)?);

    // Where a patch is matters: without positions the same tensors give something else.
    let blind = Attention::heads(HEADS as u32).head_dim(DIM as u32).build()?;
    let blind = attend(&packed, &*engine.compile(&blind)?)?;
    let moved = blind.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference to attention without positions: {moved:.2}");
    if moved < 0.01 {
        return Err("positions had no effect".into());
    }
    Ok(())
}

/// Attention of packed projections; the result is `[image, token, head, dim]`.
fn attend(packed: &[f32], on: &impl Run) -> Result<Vec<f32>, Box<dyn Error>> {
    let packed = TensorView::from_slice(packed, &[IMAGES, TOKENS, 3, HEADS, DIM])?;
    // [image, token, head, dim] seen as [image, head, token, dim].
    let part = |index| packed.select(2, index)?.permute(&[0, 2, 1, 3]);
    let mut out = vec![0.0f32; IMAGES * TOKENS * HEADS * DIM];
    let view = TensorViewMut::from_slice(&mut out, &[IMAGES, TOKENS, HEADS, DIM])?.permute(&[0, 2, 1, 3])?;
    on.call().input("q", part(0)?).input("k", part(1)?).input("v", part(2)?).output("out", view).run()?;
    Ok(out)
}
