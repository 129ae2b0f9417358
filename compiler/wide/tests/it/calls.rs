//! Calling conventions, stack frames and spills.

use crate::jit::{Kernel, levels, parse, pointer};
use std::fmt::Write;

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
