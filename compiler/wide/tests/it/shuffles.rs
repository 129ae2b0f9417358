//! `shuffle`: what it gives, and which instruction it becomes.

use rhumb_random::Rng;

use crate::jit::{Kernel, levels, parse, pointer, wide};
use crate::kernels;
use clif_wide::{DEMOTE, Features, PERMUTE, PROMOTE, WIDEN, compile};
use std::fmt::Write;

/// Lanes of two vectors of four, numbered on from the first to the second, and the instruction with AVX2 and with AVX-512 that takes the
/// loaded second operand from memory.
const LANES: [([usize; 4], [&str; 2]); 26] = [
    ([0, 4, 1, 5], ["vunpcklps"; 2]),
    ([4, 0, 5, 1], ["vunpcklps"; 2]),
    ([2, 6, 3, 7], ["vunpckhps"; 2]),
    ([6, 2, 7, 3], ["vunpckhps"; 2]),
    ([0, 1, 4, 5], ["vunpcklpd"; 2]),
    ([4, 5, 0, 1], ["vunpcklpd"; 2]),
    ([2, 3, 6, 7], ["vunpckhpd"; 2]),
    ([6, 7, 2, 3], ["vunpckhpd"; 2]),
    // Even lanes, odd lanes.
    ([0, 2, 4, 6], ["vshufps"; 2]),
    ([1, 3, 5, 7], ["vshufps"; 2]),
    ([4, 6, 0, 2], ["vshufps"; 2]),
    ([3, 0, 7, 5], ["vshufps"; 2]),
    ([7, 6, 1, 0], ["vshufps"; 2]),
    ([2, 3, 4, 5], ["vshufps"; 2]),
    // Lanes that stay where they are.
    ([0, 5, 2, 7], ["vblendps", "vpternlogd"]),
    ([0, 1, 6, 7], ["vblendps", "vshufps"]),
    ([0, 1, 2, 7], ["vblendps", "vinsertps"]),
    ([4, 1, 6, 7], ["vblendps", "vinsertps"]),
    ([0, 6, 2, 3], ["vinsertps"; 2]),
    ([4, 5, 6, 0], ["vinsertps"; 2]),
    ([1, 2, 3, 4], ["vpalignr"; 2]),
    ([7, 0, 1, 2], ["vpalignr"; 2]),
    ([3, 2, 1, 0], ["vpermilps"; 2]),
    ([5, 5, 7, 4], ["vpermilps"; 2]),
    ([4, 5, 6, 7], ["vmovups"; 2]),
    ([0, 4, 1, 6], ["vpor", "vpord"]),
];

fn bytes(lanes: [usize; 4]) -> [usize; 16] {
    std::array::from_fn(|at| 4 * lanes[at / 4] + at % 4)
}

/// `out = shuffle(a, b)` of vectors of `ty`. Parameters: out, a, b.
fn text(ty: &str, a: &str, b: &str, bytes: &[usize; 16]) -> String {
    let list = bytes.map(|byte| byte.to_string()).join(" ");
    format!(
        "function %f(i64, i64, i64) system_v {{
block0(v0: i64, v1: i64, v2: i64):
    v3 = load.{ty} v1
    v4 = load.{ty} v2
    v5 = bitcast.i8x16 little {a}
    v6 = bitcast.i8x16 little {b}
    v7 = shuffle v5, v6, [{list}]
    v8 = bitcast.{ty} little v7
    store v8, v0
    return
}}"
    )
}

/// Compares with what the bytes say.
#[track_caller]
fn is_right(rng: &mut Rng, ty: &str, operands: [&str; 2], bytes: &[usize; 16]) {
    for features in levels() {
        let mut a: [u8; 16] = std::array::from_fn(|_| rng.bits() as u8);
        let mut b: [u8; 16] = std::array::from_fn(|_| rng.bits() as u8);
        let expected = bytes.map(|byte| {
            let source = if operands[byte / 16] == "v3" { &a } else { &b };
            source[byte % 16]
        });
        let mut out = [0u8; 16];
        let text = text(ty, operands[0], operands[1], bytes);
        Kernel::wide(&parse(&text), features).call(&[pointer(&mut out), pointer(&mut a), pointer(&mut b)]);
        assert_eq!(out, expected, "{features:?}\n{text}");
    }
}

#[test]
fn chooses_bytes() {
    let mut rng = Rng::new(5);
    for (lanes, _) in LANES {
        for operands in [["v3", "v4"], ["v4", "v3"], ["v3", "v3"]] {
            is_right(&mut rng, "f32x4", operands, &bytes(lanes));
        }
    }
    for _ in 0..200 {
        let lanes = std::array::from_fn(|_| rng.below(8));
        is_right(&mut rng, "f32x4", ["v3", "v4"], &bytes(lanes));
    }
    for round in 0..200 {
        let (start, operand) = (rng.below(32), 16 * rng.below(2));
        let any: [usize; 16] = std::array::from_fn(|_| rng.below(32));
        let bytes = match round % 5 {
            0 => any,
            1 => any.map(|byte| operand + byte % 16),
            2 => std::array::from_fn(|at| (start + at) % 32),
            3 => std::array::from_fn(|at| operand + (start + at) % 16),
            _ => std::array::from_fn(|at| at + 16 * (any[at] % 2)),
        };
        is_right(&mut rng, "i8x16", ["v3", "v4"], &bytes);
    }
}

/// One instruction between the loads and the store, bitcasts being none; and the second operand from memory where it can be.
#[test]
fn is_one_instruction() {
    for (level, features) in [Features::cross_avx2(), Features::cross_avx512()].into_iter().enumerate() {
        for (lanes, names) in LANES {
            let code = wide(&parse(&text("f32x4", "v3", "v4", &bytes(lanes))), features).disassemble();
            let count = if names[level].starts_with("vpor") { 6 } else { 4 };
            let lines: Vec<&str> = code.lines().map(|line| line.split_once(": ").unwrap().1).collect();
            assert!(lines.iter().any(|line| line.starts_with(names[level])), "{lanes:?}\n{code}");
            // What is counted is the store and what comes before it, less a load that became an operand.
            let store = lines.iter().position(|line| line.contains("[rdi],")).unwrap();
            assert!(store < count, "{lanes:?}\n{code}");
        }
        let bytes = [15, 2, 2, 7, 1, 0, 3, 9, 8, 4, 4, 4, 5, 6, 7, 10];
        let code = wide(&parse(&text("i8x16", "v3", "v4", &bytes)), features).disassemble();
        assert_eq!(code.matches("vp").count(), 1, "{code}");
    }
}

#[test]
fn transposes() {
    for features in levels() {
        let mut input: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let mut out = vec![0f32; 16];
        let transpose = parse(&kernels::transpose());
        Kernel::wide(&transpose, features).call(&[pointer(&mut out), pointer(&mut input), 16]);
        for (at, &found) in out.iter().enumerate() {
            assert_eq!(found, input[at % 4 * 4 + at / 4]);
        }
    }
}

#[test]
fn transpose_of_4x4() {
    insta::assert_snapshot!(wide(&parse(&kernels::transpose()), Features::cross_avx2()).disassemble());
}

/// Vectors of 128 bits at addresses that are computed, among vectors of the widest kind, too many for the registers.
#[test]
fn narrow_vectors_stand_among_wide_ones() {
    for features in levels() {
        let lanes = features.max_vector_bits() as usize / 32;
        let mut text = String::from(
            "function %f(i64, i64, i64) system_v {
block0(v0: i64, v1: i64, v2: i64):
    v3 = iconst.i64 4
    v4 = ishl v2, v3
    v5 = iadd v1, v4
    v6 = iadd v0, v4\n",
        );
        let count = 40;
        for n in 0..count {
            writeln!(text, "    v{} = load.f32x{lanes} v1+{}", 100 + n, 4 * n).unwrap();
            writeln!(text, "    v{} = load.f32x4 v5+{}", 200 + n, 16 * n).unwrap();
        }
        // All are alive here.
        for n in 0..count {
            writeln!(text, "    v{} = fadd v{}, v{}", 300 + n, 100 + n, 100 + (n + 1) % count).unwrap();
            writeln!(text, "    v{} = fadd v{}, v{}", 400 + n, 200 + n, 200 + (n + 1) % count).unwrap();
        }
        for n in 0..count {
            writeln!(text, "    store v{}, v6+{}", 400 + n, 16 * n).unwrap();
            writeln!(text, "    store v{}, v0+{}", 300 + n, 1024 + 4 * lanes * n).unwrap();
        }
        text.push_str("    return\n}\n");
        let mut input: Vec<f32> = (0..1024).map(|i| (i * i % 97) as f32).collect();
        let mut out = vec![0f32; 4096];
        let index = 3;
        Kernel::wide(&parse(&text), features).call(&[pointer(&mut out), pointer(&mut input), index as i64]);
        for n in 0..count {
            let next = (n + 1) % count;
            for at in 0..4 {
                let expected = input[4 * (index + n) + at] + input[4 * (index + next) + at];
                assert_eq!(out[4 * (index + n) + at], expected);
            }
            for at in 0..lanes {
                assert_eq!(out[256 + lanes * n + at], input[n + at] + input[next + at]);
            }
        }
    }
}

/// `out = permute(a, b)` of vectors of this many lanes. Parameters: out, a, b.
fn permutation(from: usize, order: &[usize]) -> String {
    let (to, order) = (order.len(), order.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    format!(
        "function %f(i64, i64, i64) system_v {{
    fn0 = %{PERMUTE}(f32x{from}, f32x{from}, i32x{to}) -> f32x{to} system_v
block0(v0: i64, v1: i64, v2: i64):
    v3 = load.f32x{from} v1
    v4 = load.f32x{from} v2
    v5 = vconst.i32x{to} [{order}]
    v6 = call fn0(v3, v4, v5)
    store v6, v0
    return
}}"
    )
}

/// Whether lanes of wide vectors are where they belong, by the instruction that this features' level has for them, if it has one.
#[track_caller]
fn is_permuted(from: usize, order: &[usize], instructions: [Option<&str>; 2]) {
    let func = parse(&permutation(from, order));
    for features in levels() {
        let avx512 = features.max_vector_bits() == 512;
        let refused = from == 16 && !avx512;
        let Some(instruction) = instructions[usize::from(avx512)].filter(|_| !refused) else {
            compile(&func, features).expect_err("no instruction");
            continue;
        };
        let code = wide(&func, features).disassemble();
        assert!(code.contains(instruction), "{order:?} by {instruction}:\n{code}");
        let mut a: Vec<f32> = (0..from).map(|lane| lane as f32).collect();
        let mut b: Vec<f32> = (from..2 * from).map(|lane| lane as f32).collect();
        let mut out = vec![-1.0f32; order.len()];
        Kernel::wide(&func, features).call(&[pointer(&mut out), pointer(&mut a), pointer(&mut b)]);
        let expected: Vec<f32> = order.iter().map(|lane| *lane as f32).collect();
        assert_eq!(out, expected, "{features:?}\n{code}");
    }
}

/// Lanes within quarters, quarters, one quarter, and any order.
#[test]
fn lanes_of_wide_vectors_are_permuted() {
    let everywhere = |pattern: [usize; 4], count: usize| -> Vec<usize> {
        (0..count).map(|at| pattern[at % 4] % 4 + at / 4 * 4 + pattern[at % 4] / 4 * count).collect()
    };
    for count in [8, 16] {
        for (pattern, instruction) in [
            ([0, 4, 1, 5], "vunpcklps"),
            ([2, 6, 3, 7], "vunpckhps"),
            ([0, 1, 4, 5], "vunpcklpd"),
            ([2, 3, 6, 7], "vunpckhpd"),
            ([0, 2, 4, 6], "vshufps"),
            ([3, 0, 7, 5], "vshufps"),
        ] {
            is_permuted(count, &everywhere(pattern, count), [Some(instruction); 2]);
        }
        is_permuted(count, &everywhere([0, 4, 1, 6], count), [None, Some("vpermt2ps")]);
        let backwards: Vec<usize> = (0..count).map(|lane| 2 * count - 1 - lane).collect();
        is_permuted(count, &backwards, [None, Some("vpermt2ps")]);
        for quarter in 0..2 * count / 4 {
            let instruction = if quarter % (count / 4) == 0 { "vmovups" } else { "vextractf" };
            is_permuted(count, &[0, 1, 2, 3].map(|lane| 4 * quarter + lane), [Some(instruction); 2]);
        }
        is_permuted(count, &[1, 2, 3, 4], [None; 2]);
    }
    let quarters = |quarters: &[usize]| -> Vec<usize> { quarters.iter().flat_map(|q| 4 * q..4 * q + 4).collect() };
    for [a, b] in [[0, 2], [1, 3], [0, 3], [1, 2]] {
        is_permuted(8, &quarters(&[a, b]), [Some("vperm2f128"), Some("vshuff32x4")]);
    }
    is_permuted(8, &quarters(&[3, 0]), [Some("vperm2f128"), Some("vpermt2ps")]);
    for order in [[0, 1, 4, 5], [2, 3, 6, 7], [0, 2, 4, 6], [1, 3, 5, 7], [3, 3, 4, 6]] {
        is_permuted(16, &quarters(&order), [None, Some("vshuff32x4")]);
    }
    is_permuted(16, &quarters(&[4, 0, 1, 5]), [None, Some("vpermt2ps")]);
}

/// Calls of anything else are refused, and so are orders that are not constants or number lanes that are not there.
#[test]
fn other_calls_are_refused() {
    let text = permutation(8, &[0, 1, 2, 3, 4, 5, 6, 7]);
    for (from, to) in [
        ("%permute", "%other"),
        ("[0 1 2 3 4 5 6 7]", "[0 1 2 3 4 5 6 16]"),
        ("v5 = vconst.i32x8 [0 1 2 3 4 5 6 7]", "v5 = load.i32x8 v0"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        for features in levels() {
            compile(&parse(&changed), features).expect_err(to);
        }
    }
}

/// Vectors of one float type become vectors of the other, rounded.
#[test]
fn wide_vectors_are_converted() {
    for lanes in [4, 8] {
        let text = format!(
            "function %f(i64, i64) system_v {{
    fn0 = %{DEMOTE}(f64x{lanes}) -> f32x{lanes} system_v
    fn1 = %{PROMOTE}(f32x{lanes}) -> f64x{lanes} system_v
block0(v0: i64, v1: i64):
    v2 = load.f64x{lanes} v1
    v3 = call fn0(v2)
    store v3, v0
    v4 = call fn1(v3)
    store v4, v1
    return
}}"
        );
        let func = parse(&text);
        for features in levels() {
            if 64 * lanes as u32 > features.max_vector_bits() {
                compile(&func, features).expect_err("too long");
                continue;
            }
            let mut doubles: Vec<f64> = (0..lanes).map(|lane| (lane as f64 - 2.0) / 3.0).collect();
            let expected: Vec<f32> = doubles.iter().map(|x| *x as f32).collect();
            let mut singles = vec![0.0f32; lanes];
            Kernel::wide(&func, features).call(&[pointer(&mut singles), pointer(&mut doubles)]);
            assert_eq!(singles, expected);
            assert_eq!(doubles, expected.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
        }
    }
}

/// Every float of 16 bits is the same number in single precision.
#[test]
fn floats_of_16_bits_are_widened() {
    for lanes in [8, 16] {
        let text = format!(
            "function %f(i64, i64) system_v {{
    fn0 = %{WIDEN}(i16x{lanes}) -> f32x{lanes} system_v
block0(v0: i64, v1: i64):
    v2 = load.i16x{lanes} v1
    v3 = call fn0(v2)
    store v3, v0
    return
}}"
        );
        let func = parse(&text);
        for features in levels() {
            if 32 * lanes as u32 > features.max_vector_bits() {
                compile(&func, features).expect_err("too long");
                continue;
            }
            let kernel = Kernel::wide(&func, features);
            let all: Vec<u16> = (0..=u16::MAX).collect();
            for bits in all.chunks(lanes) {
                let (mut bits, mut singles) = (bits.to_vec(), vec![0.0f32; lanes]);
                kernel.call(&[pointer(&mut singles), pointer(&mut bits)]);
                for (bits, single) in bits.iter().zip(singles) {
                    let expected = widened(*bits);
                    assert!(
                        single.to_bits() == expected.to_bits() || (single.is_nan() && expected.is_nan()),
                        "{bits:#x}"
                    );
                }
            }
        }
    }
    let other = "function %f(i64) system_v {
    fn0 = %widen(i32x8) -> f32x8 system_v
block0(v0: i64):
    v1 = load.i32x8 v0
    v2 = call fn0(v1)
    store v2, v0
    return
}";
    for features in levels() {
        compile(&parse(other), features).expect_err("integers of 32 bits");
    }
}

/// A float of 16 bits, by its definition.
fn widened(bits: u16) -> f32 {
    let (sign, exponent, digits) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => digits * 2f32.powi(-24),
        31 if digits > 0.0 => f32::NAN,
        31 => f32::INFINITY,
        _ => (1024.0 + digits) * 2f32.powi(exponent - 25),
    };
    if sign == 1 { -magnitude } else { magnitude }
}
