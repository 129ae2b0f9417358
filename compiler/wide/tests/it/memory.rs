//! Addresses, and the order of loads and stores.

use rhumb_random::Rng;

use clif_wide::compile;

use crate::jit::{Kernel, levels, optimised, parse, pointer, wide};

#[test]
fn folds_addresses() {
    let mut rng = Rng::new(10);
    for features in levels() {
        let func = parse(
            "function %f(i64, i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64, v2: i64):
                v3 = iconst.i64 3
                v4 = ishl v1, v3
                v5 = iadd v0, v4
                v6 = iconst.i64 16
                v7 = iadd v5, v6
                v8 = load.i64 v7+8
                v9 = iconst.i64 4
                v10 = imul v2, v9
                v11 = iadd v10, v0
                v12 = load.i32 v11-4
                v13 = sextend.i64 v12
                v14 = iadd v8, v13
                v15 = iadd v1, v1
                v16 = iadd v15, v15
                v17 = iadd v16, v0
                v18 = uload8.i64 v17
                v19 = iadd v14, v18
                return v19
            }",
        );
        for func in [func.clone(), optimised(&func)] {
            let kernel = Kernel::wide(&func, features);
            let mut data: Vec<i64> = (0..64).map(|_| rng.bits() as i64).collect();
            for _ in 0..50 {
                let (i, j) = (rng.below(40), 1 + rng.below(100));
                let word = |at: usize| (data[at / 2] >> (32 * (at % 2))) as i32;
                let byte = |at: usize| (data[at / 8] >> (8 * (at % 8))) as u8;
                let expected = data[i + 3].wrapping_add(i64::from(word(j - 1))).wrapping_add(i64::from(byte(4 * i)));
                assert_eq!(kernel.call(&[pointer(&mut data.clone()), i as i64, j as i64]), expected);
            }
            data[0] = 0;
        }
        let code = wide(&func, features).disassemble();
        assert!(code.contains("[rdi+rsi*8+18h]"), "{code}");
        assert!(code.contains("[rdi+rdx*4-4]"), "{code}");
    }
}

/// A load is not moved past a store that could change what it reads.
#[test]
fn keeps_loads_before_stores() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64) system_v {
            block0(v0: i64, v1: i64):
                v2 = load.f32x4 v0
                v3 = load.f32x4 v1
                store v3, v0
                v4 = fsub v3, v2
                store v4, v1
                return
            }",
        );
        let (mut a, mut b) = ([1f32, 2.0, 3.0, 4.0], [10f32, 20.0, 30.0, 40.0]);
        Kernel::wide(&func, features).call(&[pointer(&mut a), pointer(&mut b)]);
        assert_eq!(a, [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(b, [9.0, 18.0, 27.0, 36.0]);
    }
}

/// Nor where the sum that it is folded into is moved to the end of its loop.
#[test]
fn keeps_loads_before_stores_in_loops() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64):
                jump block1(v1, v1)
            block1(v2: i64, v3: i64):
                v4 = load.i64 v0
                v5 = iadd v3, v4
                v6 = iconst.i64 1
                store v6, v0
                v7 = isub v2, v6
                brif v7, block1(v7, v5), block2(v5)
            block2(v8: i64):
                return v8
            }",
        );
        assert_eq!(Kernel::wide(&func, features).call(&[pointer(&mut [1000i64]), 3]), 1005);
    }
}

/// A byte that is read and not used is asked for, whether it is there or not; two bytes, from the second cache.
#[test]
fn unused_bytes_are_prefetched() {
    let text = "function %f(i64, i64) system_v {\nblock0(v0: i64, v1: i64):\n    v6 = iconst.i64 2\n    v2 = ishl v1, v6\n    v3 = iadd v0, v2\n    \
                v4 = load.i8 notrap v3+64\n    v5 = load.i32 notrap v3+64\n    v7 = load.i16 notrap v3+128\n    store v1, v0\n    return\n}";
    for features in levels() {
        let func = parse(text);
        let listing = wide(&func, features).disassemble();
        assert!(listing.contains("prefetcht0 [rdi+rsi*4+40h]"), "{listing}");
        assert!(listing.contains("prefetcht1 [rdi+rsi*4+80h]"), "{listing}");
        assert_eq!(listing.matches("[rdi+rsi*4+40h]").count(), 1, "the unused i32 is left out:\n{listing}");
        // Far outside of any memory: no fault.
        let mut word = [0i64];
        Kernel::wide(&func, features).call(&[pointer(&mut word), 1 << 58]);
        assert_eq!(word, [1 << 58]);
    }
}

/// Lanes of 16 bits are widened by zeros: by a load of four of them, and where more are converted to floats, or to floats and back.
#[test]
fn lanes_of_16_bits_are_widened() {
    let data: Vec<u16> = (0..17u16).map(|n| n.wrapping_mul(0x1f35) ^ 0x8001).collect();
    let func = |lanes: usize, body: &str| {
        let body = body.replace('N', &lanes.to_string());
        parse(&format!("function %f(i64, i64) system_v {{\nblock0(v0: i64, v1: i64):\n{body}    return\n}}"))
    };
    let four = "    v2 = uload16x4 v0+2\n    store v2, v1\n";
    let floats = "    v2 = load.i16xN v0+2\n    v3 = fcvt_from_uint.f32xN v2\n    store v3, v1\n";
    let back = "    v2 = load.i16xN v0+2\n    v3 = fcvt_from_uint.f32xN v2\n    v4 = fcvt_to_sint_sat.i32xN v3\n    store v4, v1\n";
    for features in levels() {
        for (lanes, body) in [(4, four), (8, floats), (8, back), (16, floats), (16, back)] {
            let func = func(lanes, body);
            let Ok(code) = compile(&func, features) else {
                assert_eq!(lanes, 16, "8 lanes are of 256 bits");
                continue;
            };
            let listing = code.disassemble();
            assert!(listing.contains("vpmovzxwd"), "{listing}");
            assert_eq!(listing.contains("vcvt"), body == floats, "{listing}");
            let mut widened = [-1i32; 16];
            let mut narrow = data.clone();
            Kernel::wide(&func, features).call(&[pointer(&mut narrow), pointer(&mut widened)]);
            for (lane, found) in widened[..lanes].iter().enumerate() {
                let expected = data[lane + 1];
                let expected = if body == floats { f32::from(expected).to_bits() as i32 } else { i32::from(expected) };
                assert_eq!(*found, expected, "lane {lane} of {lanes}\n{listing}");
            }
        }
    }
}
