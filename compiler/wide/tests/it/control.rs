//! Control flow: loops, branches, tables of jumps, traps, and where jumps are placed.

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
