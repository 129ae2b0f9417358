//! Disassembly of small kernels, the same on every machine.

use crate::jit::{Kernel, levels, parse, pointer, wide};
use crate::kernels;
use clif_wide::Features;

fn disassembly(text: &str, features: Features) -> String {
    wide(&parse(text), features).disassemble()
}

#[test]
fn microkernel_of_8x3_zmm() {
    insta::assert_snapshot!(disassembly(&kernels::microkernel(8, 3, 16), Features::cross_avx512()));
}

#[test]
fn microkernel_of_4x3_ymm() {
    insta::assert_snapshot!(disassembly(&kernels::microkernel(4, 3, 8), Features::cross_avx2()));
}

#[test]
fn microkernel_of_4x3_xmm() {
    insta::assert_snapshot!(disassembly(&kernels::microkernel(4, 3, 4), Features::cross_avx2()));
}

#[test]
fn exp2_of_zmm() {
    insta::assert_snapshot!(disassembly(&kernels::exp2(16), Features::cross_avx512()));
}

#[test]
fn exp2_of_ymm() {
    insta::assert_snapshot!(disassembly(&kernels::exp2(8), Features::cross_avx2()));
}

/// The loop of a microkernel holds loads, broadcasts, multiply-adds and its own control, and nothing else: no copy and no spill.
#[test]
fn microkernels_copy_nothing() {
    for (rows, cols, lanes, features) in [
        (8, 3, 16, Features::cross_avx512()),
        (12, 2, 16, Features::cross_avx512()),
        (8, 3, 8, Features::cross_avx512()),
        (4, 3, 8, Features::cross_avx2()),
        (6, 2, 8, Features::cross_avx2()),
        (4, 3, 4, Features::cross_avx2()),
    ] {
        let text = disassembly(&kernels::microkernel(rows, cols, lanes), features);
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(": ").unwrap().1).collect();
        let back = lines.iter().position(|line| line.starts_with('j')).unwrap();
        let head = lines[..back].iter().position(|line| line.contains(",[rsi")).unwrap();
        let count = |prefix: &str| lines[head..back].iter().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(count("vfmadd231ps"), rows * cols, "{text}");
        assert_eq!(count("vbroadcastss"), rows, "{text}");
        assert_eq!(count("vmovups"), cols, "{text}");
        assert_eq!(count("lea") + count("add") + count("sub"), 3, "{text}");
        // Padding keeps the jump off a boundary.
        assert_eq!(back - head - count("nop"), rows * cols + rows + cols + 3, "{text}");
    }
}

#[test]
fn microkernels_are_right() {
    for features in levels() {
        for (rows, cols, lanes) in [(8, 3, 16), (4, 3, 8), (4, 3, 4)] {
            if lanes * 32 > features.max_vector_bits() as usize {
                continue;
            }
            let steps = 5;
            let mut a: Vec<f32> = (0..steps * cols * lanes).map(|i| (i % 17) as f32).collect();
            let mut b: Vec<f32> = (0..steps * rows).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut out = vec![1f32; rows * cols * lanes];
            let func = parse(&kernels::microkernel(rows, cols, lanes));
            Kernel::wide(&func, features).call(&[pointer(&mut out), pointer(&mut a), pointer(&mut b), steps as i64]);
            for r in 0..rows {
                for c in 0..cols * lanes {
                    let sum: f32 = (0..steps).map(|t| b[t * rows + r] * a[t * cols * lanes + c]).sum();
                    assert_eq!(out[r * cols * lanes + c], 1.0 + sum);
                }
            }
        }
    }
}

#[test]
fn exp2_is_right() {
    for features in levels() {
        for lanes in [4, 8, 16] {
            if lanes * 32 > features.max_vector_bits() as usize {
                continue;
            }
            let mut x: Vec<f32> = (0..3 * lanes).map(|i| (i as f32 - 20.0) * 1.37).collect();
            let mut out = vec![0f32; x.len()];
            Kernel::wide(&parse(&kernels::exp2(lanes)), features).call(&[pointer(&mut out), pointer(&mut x), 3]);
            for (x, y) in x.iter().zip(&out) {
                let exact = f64::from(*x).exp2();
                assert!((f64::from(*y) - exact).abs() <= 4e-7 * exact, "{x}: {y} {exact}");
            }
        }
    }
}
