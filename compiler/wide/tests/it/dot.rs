//! Products of pairs of `bf16`.

use crate::jit::{Kernel, parse, pointer};
use clif_wide::{DOT_BF16, Features, Reason, compile};
use rhumb_random::Rng;

/// A float in 16 bits, subnormal ones as 0.
fn widened(bits: u32) -> f32 {
    flushed(f32::from_bits(bits << 16))
}

fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// The sum with both products of a pair: that of the upper halves, then that of the lower halves.
fn expected(sum: f32, a: u32, b: u32) -> f32 {
    let add = |sum: f32, a: u32, b: u32| flushed(widened(a).mul_add(widened(b), sum));
    add(add(flushed(sum), a >> 16, b >> 16), a & 0xffff, b & 0xffff)
}

/// A pair, of ordinary sizes for the most part.
fn pair(rng: &mut Rng) -> u32 {
    let any = rng.bits() as u32;
    if rng.one_in(4) { any } else { any & 0x83ff_83ff | 0x3c00_3c00 }
}

fn text(lanes: usize, broadcast: bool) -> String {
    let b = if broadcast {
        format!("v5 = load.i32 v2\n    v6 = splat.i32x{lanes} v5")
    } else {
        format!("v6 = load.i32x{lanes} v2")
    };
    format!(
        "function %f(i64, i64, i64) system_v {{
    fn0 = %{DOT_BF16}(f32x{lanes}, i32x{lanes}, i32x{lanes}) -> f32x{lanes} system_v
block0(v0: i64, v1: i64, v2: i64):
    v3 = load.f32x{lanes} v0
    v4 = load.i32x{lanes} v1
    {b}
    v7 = call fn0(v3, v6, v4)
    store v7, v0
    return
}}"
    )
}

#[test]
fn pairs_are_multiplied_and_added_one_after_the_other() {
    let features = Features::detect().filter(|features| features.bf16());
    let rng = &mut Rng::new(1);
    for (lanes, broadcast) in [4, 8, 16].into_iter().flat_map(|lanes| [(lanes, false), (lanes, true)]) {
        let func = parse(&text(lanes, broadcast));
        compile(&func, Features::cross_bf16()).expect("it has the instruction");
        let Some(features) = features else { continue };
        let kernel = Kernel::wide(&func, features);
        for _ in 0..2000 {
            let mut a: Vec<u32> = (0..lanes).map(|_| pair(rng)).collect();
            let mut b: Vec<u32> = (0..if broadcast { 1 } else { lanes }).map(|_| pair(rng)).collect();
            let before: Vec<f32> = (0..lanes).map(|_| f32::from_bits(pair(rng))).collect();
            let mut sums = before.clone();
            kernel.call(&[pointer(&mut sums), pointer(&mut a), pointer(&mut b)]);
            for lane in 0..lanes {
                let (a, b) = (a[lane], b[lane % b.len()]);
                let (sum, expected) = (sums[lane], expected(before[lane], a, b));
                let same = sum.to_bits() == expected.to_bits() || sum.is_nan() && expected.is_nan();
                assert!(same, "{} + {a:#x} . {b:#x}: {sum} for {expected}", before[lane]);
            }
        }
    }
}

#[test]
fn machines_without_the_instruction_refuse_it() {
    for features in [Features::cross_avx2(), Features::cross_avx512(), Features::cross_bf16().without_bf16()] {
        let refused = compile(&parse(&text(8, false)), features).expect_err("no instruction");
        assert_eq!(refused.reason, Reason::NeedsBf16);
    }
    let other = text(8, false).replace("i32x8) ->", "f32x8) ->").replace("v6, v4)", "v6, v3)");
    assert_eq!(compile(&parse(&other), Features::cross_bf16()).expect_err("floats").reason, Reason::Type);
}
