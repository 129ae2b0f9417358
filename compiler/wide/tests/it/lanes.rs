//! Operations that look across lanes: extraction, insertion, shuffles, shifts by a register, and reductions of masks.

use rhumb_random::Rng;

use crate::jit::{Kernel, levels, optimised, parse, pointer, wide};
use crate::model::Lane;
use clif_wide::Features;
use cranelift_codegen::ir::{ConstantData, InstBuilder, Opcode};

const LANES: [Lane; 6] = [Lane::I8, Lane::I16, Lane::I32, Lane::I64, Lane::F32, Lane::F64];

/// Every vector type that this machine has at each level.
fn types() -> Vec<(Features, Lane, usize)> {
    let mut types = Vec::new();
    for features in levels() {
        for lane in LANES {
            for bytes in [16, 32, 64] {
                if bytes * 8 <= features.max_vector_bits() as usize {
                    types.push((features, lane, bytes / lane.bytes()));
                }
            }
        }
    }
    types
}

fn random_bytes(rng: &mut Rng, lane: Lane) -> [u8; 64] {
    let mut bytes = [0; 64];
    for chunk in bytes.chunks_mut(lane.bytes()) {
        chunk.copy_from_slice(&lane.value(rng).to_le_bytes()[..lane.bytes()]);
    }
    bytes
}

/// Runs a function of four pointers: 64 bytes of output and three inputs.
fn run(text: &str, features: Features, inputs: [&[u8; 64]; 3]) -> [u8; 64] {
    let func = parse(text);
    let [mut a, mut b, mut c] = inputs.map(|input| *input);
    let mut out = [0; 64];
    Kernel::wide(&func, features).call(&[pointer(&mut out), pointer(&mut a), pointer(&mut b), pointer(&mut c)]);
    out
}

fn body(text: &str) -> String {
    format!(
        "function %f(i64, i64, i64, i64) system_v {{\nblock0(v0: i64, v1: i64, v2: i64, v3: i64):\n{text}\n    return\n}}"
    )
}

#[test]
fn extracts_every_lane() {
    let mut rng = Rng::new(2);
    for (features, lane, lanes) in types() {
        for index in 0..lanes {
            let name = lane.name();
            let a = random_bytes(&mut rng, lane);
            let text = body(&format!("v4 = load.{name}x{lanes} v1\n v5 = extractlane v4, {index}\n store v5, v0"));
            let out = run(&text, features, [&a; 3]);
            assert_eq!(lane.read(&out, 0), lane.read(&a, index), "{name}x{lanes} lane {index}");
        }
    }
}

/// Constants whose lanes differ, as an operand in memory and in a register.
#[test]
fn reads_vector_constants() {
    let mut rng = Rng::new(11);
    for (features, lane, lanes) in types() {
        let int = lane.as_int().name();
        let (mut a, mut b) = (random_bytes(&mut rng, lane), random_bytes(&mut rng, lane));
        // The text form of constants ends at 128 bits.
        let mut func = parse(&body(&format!(
            "v4 = load.{int}x{lanes} v1\n v6 = load.{int} v2\n v7 = splat.{int}x{lanes} v6
            v8 = bxor v4, v7\n store v8, v0\n store v7, v2"
        )));
        let block = func.layout.entry_block().unwrap();
        let splat =
            func.layout.block_insts(block).find(|&inst| func.dfg.insts[inst].opcode() == Opcode::Splat).unwrap();
        let ty = func.dfg.value_type(func.dfg.first_result(splat));
        let constant = func.dfg.constants.insert(ConstantData::from(&b[..lanes * lane.bytes()]));
        func.replace(splat).vconst(ty, constant);
        for func in [func.clone(), optimised(&func)] {
            let (mut out, mut stored) = ([0; 64], [0; 64]);
            Kernel::wide(&func, features).call(&[
                pointer(&mut out),
                pointer(&mut a),
                pointer(&mut stored),
                pointer(&mut b),
            ]);
            for at in 0..lanes {
                assert_eq!(lane.read(&out, at), lane.read(&a, at) ^ lane.read(&b, at), "{int}x{lanes}");
                assert_eq!(lane.read(&stored, at), lane.read(&b, at), "{int}x{lanes}");
            }
        }
    }
}

#[test]
fn lane_zero_of_a_float_vector_costs_nothing() {
    let text = "function %f(f32x8) -> f32 system_v {\nblock0(v0: f32x8):\n v1 = extractlane v0, 0\n v2 = fadd v1, v1\n return v2\n}";
    let code = wide(&parse(text), Features::cross_avx2()).disassemble();
    assert!(code.starts_with("    0: vaddss xmm0,xmm0,xmm0\n"), "{code}");
}

#[test]
fn inserts_every_lane() {
    let mut rng = Rng::new(3);
    for (features, lane, lanes) in types() {
        for index in 0..lanes {
            let name = lane.name();
            let (a, b) = (random_bytes(&mut rng, lane), random_bytes(&mut rng, lane));
            let text = body(&format!(
                "v4 = load.{name}x{lanes} v1\n v5 = load.{name} v2\n v6 = insertlane v4, v5, {index}\n store v6, v0"
            ));
            let out = run(&text, features, [&a, &b, &b]);
            for at in 0..lanes {
                let expected = if at == index { lane.read(&b, 0) } else { lane.read(&a, at) };
                assert_eq!(lane.read(&out, at), expected, "{name}x{lanes} lane {index}, at {at}\n{text}");
            }
        }
    }
}

#[test]
fn moves_scalars_to_vectors() {
    let mut rng = Rng::new(4);
    for features in levels() {
        for lane in LANES {
            for folded in [true, false] {
                let (name, lanes) = (lane.name(), 16 / lane.bytes());
                let a = random_bytes(&mut rng, lane);
                let again = if folded { "" } else { "store v4, v0+32\n" };
                let text = body(&format!(
                    "v4 = load.{name} v1\n v5 = scalar_to_vector.{name}x{lanes} v4\n store v5, v0\n {again}"
                ));
                let out = run(&text, features, [&a; 3]);
                assert_eq!(lane.read(&out, 0), lane.read(&a, 0));
                assert!((1..lanes).all(|at| lane.read(&out, at) == 0), "{name}");
            }
        }
    }
}

#[test]
fn swizzles_bytes() {
    let mut rng = Rng::new(6);
    for features in levels() {
        for _ in 0..20 {
            let (a, mut b) = (random_bytes(&mut rng, Lane::I8), random_bytes(&mut rng, Lane::I8));
            b[..8].iter_mut().for_each(|byte| *byte %= 24);
            let swizzled = run(
                &body("v4 = load.i8x16 v1\n v5 = load.i8x16 v2\n v6 = swizzle v4, v5\n store v6, v0"),
                features,
                [&a, &b, &b],
            );
            let shuffled = run(
                &body("v4 = load.i8x16 v1\n v5 = load.i8x16 v2\n v6 = x86_pshufb v4, v5\n store v6, v0"),
                features,
                [&a, &b, &b],
            );
            for at in 0..16 {
                assert_eq!(swizzled[at], if b[at] < 16 { a[usize::from(b[at])] } else { 0 });
                assert_eq!(shuffled[at], if b[at] < 128 { a[usize::from(b[at] % 16)] } else { 0 });
            }
        }
    }
}

#[test]
fn shifts_by_variables() {
    let mut rng = Rng::new(7);
    for (features, lane, lanes) in types() {
        if matches!(lane, Lane::I8 | Lane::F32 | Lane::F64) {
            continue;
        }
        let name = lane.name();
        for op in ["ishl", "ushr", "sshr"] {
            if (op, lane) == ("sshr", Lane::I64) && !features.avx512() {
                continue;
            }
            for _ in 0..20 {
                let (a, b) = (random_bytes(&mut rng, lane), random_bytes(&mut rng, lane));
                let text =
                    body(&format!("v4 = load.{name}x{lanes} v1\n v5 = load.i32 v2\n v6 = {op} v4, v5\n store v6, v0"));
                let out = run(&text, features, [&a, &b, &b]);
                let amount = Lane::I32.read(&b, 0) % (8 * lane.bytes() as u64);
                for at in 0..lanes {
                    let x = lane.read(&a, at);
                    let expected = match op {
                        "ishl" => x << amount,
                        "ushr" => x >> amount,
                        _ => (lane.sign_extend(x) >> amount) as u64,
                    };
                    assert_eq!(lane.read(&out, at), expected & lane.mask(), "{op} {name}x{lanes} by {amount}");
                }
            }
        }
    }
}

#[test]
fn converts_between_float_vectors_of_128_bits() {
    let mut rng = Rng::new(8);
    for features in levels() {
        for _ in 0..50 {
            let (a, b) = (random_bytes(&mut rng, Lane::F32), random_bytes(&mut rng, Lane::F64));
            let out = run(
                &body(
                    "v4 = load.f32x4 v1\n v5 = fvpromote_low v4\n store v5, v0\n v6 = load.f64x2 v2\n v7 = fvdemote v6\n store v7, v0+16",
                ),
                features,
                [&a, &b, &b],
            );
            for at in 0..2 {
                let wide = f64::from(f32::from_bits(Lane::F32.read(&a, at) as u32)).to_bits();
                assert!(Lane::F64.same(Lane::F64.read(&out, at), wide));
                let narrow = (f64::from_bits(Lane::F64.read(&b, at)) as f32).to_bits();
                assert!(Lane::F32.same(Lane::F32.read(&out, 4 + at), u64::from(narrow)));
                assert_eq!(Lane::F32.read(&out, 6 + at), 0);
            }
        }
    }
}

/// A function that stores what is asked of masks: of a vector, and of where it equals another.
fn masks_reduced(lane: Lane, lanes: usize, has_high_bits: bool) -> String {
    let name = lane.name();
    let high = |v: &str, to: usize| {
        if has_high_bits { format!("v2{to} = vhigh_bits.i64 {v}\n store v2{to}, v0+{to}") } else { String::new() }
    };
    body(&format!(
        "v4 = load.{name}x{lanes} v1
                v5 = load.{name}x{lanes} v2
                v6 = icmp eq v4, v5
                v7 = vany_true v4
                store v7, v0
                v8 = vall_true v4
                store v8, v0+1
                v9 = vany_true v6
                store v9, v0+2
                v10 = vall_true v6
                store v10, v0+3
                v11 = iconst.i32 5
                v12 = iconst.i32 6
                v13 = select v10, v11, v12
                store v13, v0+4
                v14 = vall_true v6
                v15 = bnot v6
                v16 = vany_true v15
                store v16, v0+24
                v17 = vall_true v15
                store v17, v0+25
                {}
                {}",
        high("v4", 8),
        high("v6", 16)
    ))
}

/// `vany_true`, `vall_true` and `vhigh_bits`, of vectors and of comparisons, as values and as conditions.
#[test]
fn reduces_masks() {
    let mut rng = Rng::new(9);
    for (features, lane, lanes) in types() {
        if matches!(lane, Lane::F32 | Lane::F64) {
            continue;
        }
        let name = lane.name();
        let has_high_bits = lane != Lane::I16 || features.avx512();
        for round in 0..12 {
            let (mut a, mut b) = (random_bytes(&mut rng, lane), random_bytes(&mut rng, lane));
            match round % 4 {
                0 => a = [0; 64],
                1 => b = a,
                2 => {
                    b = a;
                    b[rng.below(lanes * lane.bytes())] ^= 1;
                }
                _ => {}
            }
            let text = masks_reduced(lane, lanes, has_high_bits);
            let out = run(&text, features, [&a, &b, &b]);
            let values: Vec<u64> = (0..lanes).map(|at| lane.read(&a, at)).collect();
            let equal: Vec<bool> = (0..lanes).map(|at| lane.read(&a, at) == lane.read(&b, at)).collect();
            let all = equal.iter().all(|&e| e);
            assert_eq!(out[0], u8::from(values.iter().any(|&v| v != 0)), "any {name}x{lanes}");
            assert_eq!(out[1], u8::from(values.iter().all(|&v| v != 0)), "all {name}x{lanes}");
            assert_eq!(out[2], u8::from(equal.iter().any(|&e| e)), "any eq {name}x{lanes}");
            assert_eq!(out[3], u8::from(all), "all eq {name}x{lanes}");
            assert_eq!(out[4], if all { 5 } else { 6 });
            assert_eq!(out[24], u8::from(!all), "any ne {name}x{lanes}");
            assert_eq!(out[25], u8::from(!equal.iter().any(|&e| e)), "all ne {name}x{lanes}");
            if has_high_bits {
                let bits = |f: &dyn Fn(usize) -> bool| (0..lanes).fold(0u64, |bits, at| bits | u64::from(f(at)) << at);
                assert_eq!(
                    Lane::I64.read(&out, 1),
                    bits(&|at| lane.sign_extend(values[at]) < 0),
                    "high {name}x{lanes}"
                );
                assert_eq!(Lane::I64.read(&out, 2), bits(&|at| equal[at]), "high eq {name}x{lanes}");
            }
        }
    }
}
