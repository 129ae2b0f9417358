//! Control flow, calling conventions, stack frames and spills.

use rhumb_random::Rng;

use crate::jit::{Kernel, levels, optimised, parse, pointer, wide};
use clif_wide::Features;
use std::fmt::Write;

/// A sum over a table of floats, `n` a multiple of the lanes; the rest of the work in each branch differs.
#[test]
fn runs_loops_and_branches() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64, v2: i64):
                v3 = iconst.i64 0
                v30 = iconst.i64 1
                jump block1(v3, v3)
            block1(v4: i64, v5: i64):
                v6 = icmp ult v4, v2
                brif v6, block2, block5(v5)
            block2:
                v7 = band v4, v30
                brif v7, block3, block4(v4)
            block3:
                v8 = imul v4, v4
                v9 = iadd v5, v8
                v10 = iadd v4, v30
                jump block1(v10, v9)
            block4(v11: i64):
                v12 = isub v5, v11
                v13 = iadd v4, v30
                jump block1(v13, v12)
            block5(v14: i64):
                return v14
            }",
        );
        for func in [func.clone(), optimised(&func)] {
            let kernel = Kernel::wide(&func, features);
            for n in 0..20i64 {
                let expected: i64 = (0..n).map(|i| if i % 2 == 1 { i * i } else { -i }).sum();
                assert_eq!(kernel.call(&[0, 0, n]), expected, "{n}");
            }
        }
    }
}

#[test]
fn swaps_parameters_around_a_loop() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64, v2: i64):
                jump block1(v0, v1, v2)
            block1(v3: i64, v4: i64, v5: i64):
                v6 = iconst.i64 1
                v7 = isub v5, v6
                brif v7, block1(v4, v3, v7), block2(v4, v3)
            block2(v8: i64, v9: i64):
                v10 = iconst.i64 100
                v11 = imul v8, v10
                v12 = iadd v11, v9
                return v12
            }",
        );
        let kernel = Kernel::wide(&func, features);
        assert_eq!(kernel.call(&[3, 7, 1]), 703);
        assert_eq!(kernel.call(&[3, 7, 2]), 307);
        assert_eq!(kernel.call(&[3, 7, 5]), 703);
    }
}

#[test]
fn jumps_by_table() {
    for features in levels() {
        let func = parse(
            "function %f(i64) -> i64 system_v {
            block0(v0: i64):
                v1 = ireduce.i32 v0
                v2 = iconst.i64 40
                br_table v1, block4, [block1, block2(v2), block1, block2(v0)]
            block1:
                v3 = iconst.i64 11
                return v3
            block2(v4: i64):
                return v4
            block4:
                v5 = iconst.i64 -1
                return v5
            }",
        );
        let kernel = Kernel::wide(&func, features);
        let found: Vec<i64> = [0, 1, 2, 3, 4, -1, 1 << 32].into_iter().map(|i| kernel.call(&[i])).collect();
        assert_eq!(found, [11, 40, 11, 3, -1, -1, 11]);
    }
}

/// Conditions that need two flags, as branches.
#[test]
fn branches_on_float_comparisons() {
    for features in levels() {
        for cond in ["eq", "ne", "lt", "le", "gt", "ge", "ord", "uno", "one", "ueq", "ult", "ule", "ugt", "uge"] {
            let func = parse(&format!(
                "function %f(i64, i64) -> i64 system_v {{
                block0(v0: i64, v1: i64):
                    v2 = load.f32 v0
                    v3 = load.f32 v1
                    v4 = fcmp {cond} v2, v3
                    brif v4, block1, block2
                block1:
                    v5 = iconst.i64 1
                    return v5
                block2:
                    v6 = iconst.i64 0
                    return v6
                }}"
            ));
            let kernel = Kernel::wide(&func, features);
            for a in [0.0f32, -0.0, 1.0, 2.0, f32::NAN] {
                for b in [0.0f32, -0.0, 1.0, 2.0, f32::NAN] {
                    let unordered = a.is_nan() || b.is_nan();
                    let expected = match cond {
                        "eq" => a == b,
                        "ne" => a != b,
                        "lt" => a < b,
                        "le" => a <= b,
                        "gt" => a > b,
                        "ge" => a >= b,
                        "ord" => !unordered,
                        "uno" => unordered,
                        "one" => a != b && !unordered,
                        "ueq" => a == b || unordered,
                        "ult" => a < b || unordered,
                        "ule" => a <= b || unordered,
                        "ugt" => a > b || unordered,
                        _ => a >= b || unordered,
                    };
                    let found = kernel.call(&[pointer(&mut [a]), pointer(&mut [b])]);
                    assert_eq!(found, i64::from(expected), "{cond} {a} {b}");
                }
            }
        }
    }
}

#[test]
fn takes_arguments_from_registers_and_stack() {
    for features in levels() {
        let func = parse(
            "function %f(i64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f32, i64) -> f64 system_v {
            block0(v0: i64, v1: f64, v2: f64, v3: f64, v4: f64, v5: f64, v6: f64, v7: f64, v8: f64, v9: f64, v10: f64, v11: f32, v12: i64):
                v13 = fadd v1, v8
                v14 = fmul v13, v9
                v15 = fadd v14, v10
                v16 = fpromote.f64 v11
                v17 = fadd v15, v16
                v18 = isub v0, v12
                v19 = fcvt_from_sint.f64 v18
                v20 = fadd v17, v19
                return v20
            }",
        );
        let floats = [1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.25];
        let found = Kernel::wide(&func, features).call_floats([100, 30], floats, 0.125);
        assert_eq!(found.to_bits(), ((1.5f64 + 8.0) * 9.0 + 10.25 + 0.125 + 70.0).to_bits());
    }
}

#[test]
fn follows_the_windows_convention() {
    for features in levels() {
        // Enough live values to need rsi, rdi, and the vector registers that a callee keeps.
        let mut s = String::from(
            "function %f(i64, i64, i64, i64, i64, i64) -> i64 windows_fastcall {\nblock0(v0: i64, v1: i64, v2: i64, v3: i64, v4: i64, v5: i64):\n",
        );
        for i in 0..14 {
            writeln!(s, "    v{} = load.f32x4 v0+{}\n    v{} = load.i64 v0+{}", 10 + i, 16 * i, 30 + i, 8 * i).unwrap();
        }
        writeln!(s, "    v50 = iadd v4, v5\n    v51 = iadd v50, v1").unwrap();
        for i in (0..14).rev() {
            writeln!(s, "    v{} = iadd v{}, v{}", 70 - i, if i == 13 { 51 } else { 69 - i }, 30 + i).unwrap();
            writeln!(s, "    store v{}, v0+{}", 10 + i, 16 * (13 - i)).unwrap();
        }
        writeln!(s, "    return v70\n}}").unwrap();
        let func = parse(&s);
        let mut data: Vec<i64> = (0..28).collect();
        let sum: i64 = (0..14).sum();
        let found = Kernel::wide(&func, features).call_windows([pointer(&mut data), 1000, 0, 0, 20, 3]);
        assert_eq!(found, 1023 + sum);
        assert_eq!(data[0..2], [26, 27]);
        assert_eq!(data[26..28], [0, 1]);
    }
}

/// More live vectors than there are registers, across a loop.
#[test]
fn spills_vectors_of_every_width() {
    for features in levels() {
        for lanes in [4usize, 8, 16] {
            if lanes * 32 > features.max_vector_bits() as usize {
                continue;
            }
            let count = 40;
            let mut s = String::from("function %f(i64, i64, i64) system_v {\nblock0(v0: i64, v1: i64, v2: i64):\n");
            for i in 0..count {
                writeln!(s, "    v{} = load.f32x{lanes} v1+{}", 100 + i, 4 * lanes * i).unwrap();
            }
            writeln!(s, "    jump block1(v2, v100)\nblock1(v3: i64, v4: f32x{lanes}):").unwrap();
            for i in 0..count {
                writeln!(s, "    v{} = fadd v{}, v{}", 201 + i, if i == 0 { 4 } else { 200 + i }, 100 + i).unwrap();
            }
            writeln!(
                s,
                "    v5 = iconst.i64 1\n    v6 = isub v3, v5\n    brif v6, block1(v6, v{}), block2",
                200 + count
            )
            .unwrap();
            writeln!(s, "block2:\n    store v{}, v0", 200 + count).unwrap();
            for i in 0..count {
                writeln!(s, "    store v{}, v1+{}", 100 + i, 4 * lanes * (count - 1 - i)).unwrap();
            }
            s.push_str("    return\n}\n");
            let mut input: Vec<f32> = (0..count * lanes).map(|i| i as f32).collect();
            let before = input.clone();
            let mut out = vec![0f32; lanes];
            Kernel::wide(&parse(&s), features).call(&[pointer(&mut out), pointer(&mut input), 3]);
            for lane in 0..lanes {
                let total: f32 = (0..count).map(|i| before[i * lanes + lane]).sum();
                assert_eq!(out[lane], before[lane] + 3.0 * total);
                for i in 0..count {
                    assert_eq!(input[(count - 1 - i) * lanes + lane], before[i * lanes + lane]);
                }
            }
        }
    }
}

#[test]
fn keeps_stack_slots_apart_and_aligned() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64) -> i64 system_v {
                ss0 = explicit_slot 4
                ss1 = explicit_slot 128, align = 64
                ss2 = explicit_slot 5000
            block0(v0: i64, v1: i64):
                v2 = ireduce.i32 v0
                v3 = stack_addr.i64 ss0
                store v2, v3
                v4 = stack_addr.i64 ss1
                store v1, v4+120
                v5 = iconst.i64 8
                v6 = imul v1, v5
                v7 = stack_addr.i64 ss2+16
                v8 = iadd v7, v6
                store v0, v8
                v9 = load.i64 v4+120
                v10 = load.i64 v8
                v11 = uload32.i64 v3
                v12 = iadd v9, v10
                v13 = iadd v12, v11
                v14 = iconst.i64 63
                v15 = band v4, v14
                v16 = iadd v13, v15
                return v16
            }",
        );
        assert_eq!(Kernel::wide(&func, features).call(&[1000, 7]), 2007);
    }
}

#[test]
fn calls_other_functions() {
    for features in levels() {
        let callee = parse(
            "function %g(i64, i64, i64, i64, i64, i64, i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64, v2: i64, v3: i64, v4: i64, v5: i64, v6: i64, v7: i64):
                v8 = isub v0, v7
                v9 = isub v6, v5
                v10 = imul v8, v9
                return v10
            }",
        );
        let wide_type = if features.avx512() { "f32x16" } else { "f32x8" };
        let caller = parse(&format!(
            "function %f(i64, i64) -> i64 system_v {{
                sig0 = (i64, i64, i64, i64, i64, i64, i64, i64) -> i64 system_v
            block0(v0: i64, v1: i64):
                v2 = load.{wide_type} v1
                v3 = iconst.i64 50
                v4 = call_indirect sig0, v0(v3, v1, v1, v1, v1, v3, v0, v1)
                v5 = fadd v2, v2
                store v5, v1
                v6 = call_indirect sig0, v0(v4, v1, v1, v1, v1, v3, v4, v3)
                return v6
            }}"
        ));
        let callee = Kernel::wide(&callee, features);
        let kernel = Kernel::wide(&caller, features);
        let mut data = [1.5f32; 16];
        let (g, p) = (callee.address() as i64, pointer(&mut data));
        let first = 50i64.wrapping_sub(p).wrapping_mul(g - 50);
        assert_eq!(kernel.call(&[g, p]), first.wrapping_sub(50).wrapping_mul(first.wrapping_sub(50)));
        assert_eq!(data[..8], [3.0; 8]);
    }
}

#[test]
fn passes_vectors_in_registers() {
    for features in levels() {
        for lanes in [4, 8, 16] {
            if lanes * 32 > features.max_vector_bits() as usize {
                continue;
            }
            let ty = format!("f32x{lanes}");
            let callee = parse(&format!(
                "function %g({ty}, i64, {ty}) -> {ty} system_v {{\nblock0(v0: {ty}, v1: i64, v2: {ty}):\n    v3 = fsub v2, v0\n    return v3\n}}"
            ));
            let caller = parse(&format!(
                "function %f(i64, i64) system_v {{
                    sig0 = ({ty}, i64, {ty}) -> {ty} system_v
                block0(v0: i64, v1: i64):
                    v2 = load.{ty} v1
                    v3 = fadd v2, v2
                    v4 = call_indirect sig0, v0(v2, v1, v3)
                    v5 = fadd v4, v3
                    store v5, v1
                    return
                }}"
            ));
            let callee = Kernel::wide(&callee, features);
            let mut data: Vec<f32> = (0..lanes).map(|i| i as f32).collect();
            Kernel::wide(&caller, features).call(&[callee.address() as i64, pointer(&mut data)]);
            assert_eq!(data, (0..lanes).map(|i| 3.0 * i as f32).collect::<Vec<_>>());
        }
    }
}

#[test]
fn skips_traps_whose_condition_fails() {
    for features in levels() {
        let func = parse(
            "function %f(i64, i64) -> i64 system_v {
            block0(v0: i64, v1: i64):
                v2 = icmp sgt v0, v1
                trapnz v2, user1
                trapz v1, user2
                return v1
            }",
        );
        assert_eq!(Kernel::wide(&func, features).call(&[2, 5]), 5);
    }
}

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

/// Blocks that do nothing are jumped over, but not when they run in a circle; addresses need no register.
#[test]
fn compiles_endless_loops_and_absolute_addresses() {
    let text = "function %f(i64) system_v {
        block0(v0: i64):
            brif v0, block1, block3
        block1:
            jump block2
        block2:
            jump block1
        block3:
            v1 = iconst.i64 4096
            v2 = load.i64 v1+8
            store v2, v0
            return
        }";
    let code = wide(&parse(text), Features::cross_avx2()).disassemble();
    assert!(code.contains("[1008h]"), "{code}");
    let target = code.lines().filter(|line| line.contains(" jmp ")).count();
    assert!((1..=2).contains(&target), "{code}");
}

/// A division is kept for its trap even where its result is not wanted.
#[test]
fn keeps_traps() {
    let text = "function %f(i64, i64) system_v {\nblock0(v0: i64, v1: i64):\n    v2 = udiv v0, v1\n    return\n}";
    assert!(wide(&parse(text), Features::cross_avx2()).disassemble().contains("div rsi"));
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

/// Of the conditional jumps and the comparisons fused with them none crosses or ends at a 32-byte boundary, and loops begin at one.
#[test]
fn keeps_jumps_off_boundaries() {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    for padding in 0..40 {
        let mut s = String::from(
            "function %f(i64, i64) system_v {\nblock0(v0: i64, v1: i64):\n    jump block1(v1)\nblock1(v2: i64):\n",
        );
        for i in 0..padding {
            writeln!(s, "    v{} = iadd v2, v0\n    store v{}, v0+{}", 10 + i, 10 + i, 8 * i).unwrap();
        }
        s.push_str("    v3 = icmp ugt v2, v0\n    brif v3, block2, block3\nblock2:\n    jump block3\nblock3:\n");
        s.push_str("    v4 = iconst.i64 1\n    v5 = isub v2, v4\n    v6 = icmp ult v5, v0\n    brif v6, block1(v5), block4\nblock4:\n    return\n}\n");
        let code = wide(&parse(&s), Features::cross_avx2());
        let bytes = &code.bytes()[..code.code_len()];
        let mut previous = None;
        for instruction in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
            if instruction.mnemonic() != Mnemonic::Jmp && instruction.op0_kind() == iced_x86::OpKind::NearBranch64 {
                let start = match previous {
                    Some((Mnemonic::Cmp | Mnemonic::Test, start)) => start,
                    _ => instruction.ip(),
                };
                assert_eq!(start / 32, instruction.next_ip() / 32, "{}", code.disassemble());
                if instruction.near_branch_target() < instruction.ip() {
                    assert_eq!(instruction.near_branch_target() % 32, 0);
                }
            }
            previous = Some((instruction.mnemonic(), instruction.ip()));
        }
    }
}

/// A byte that is read and not used is asked for, whether it is there or not.
#[test]
fn unused_bytes_are_prefetched() {
    let text = "function %f(i64, i64) system_v {\nblock0(v0: i64, v1: i64):\n    v6 = iconst.i64 2\n    v2 = ishl v1, v6\n    v3 = iadd v0, v2\n    \
                v4 = load.i8 notrap v3+64\n    v5 = load.i32 notrap v3+64\n    store v1, v0\n    return\n}";
    for features in levels() {
        let func = parse(text);
        let listing = wide(&func, features).disassemble();
        assert!(listing.contains("prefetcht0 [rdi+rsi*4+40h]"), "{listing}");
        assert_eq!(listing.matches("[rdi+rsi*4+40h]").count(), 1, "the unused i32 is left out:\n{listing}");
        // Far outside of any memory: no fault.
        let mut word = [0i64];
        Kernel::wide(&func, features).call(&[pointer(&mut word), 1 << 58]);
        assert_eq!(word, [1 << 58]);
    }
}
