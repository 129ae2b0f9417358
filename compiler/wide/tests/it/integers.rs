//! Products of pairs of integers of 16 bits, and how bytes become such pairs.

use crate::jit::{Kernel, parse, pointer};
use clif_wide::{DOT_I16, Features, INTERLEAVE_HIGH, INTERLEAVE_LOW, Reason, WIDEN_BYTES, compile};
use rhumb_random::Rng;

const LANES: [usize; 3] = [4, 8, 16];

/// Both elements of a pair, the lower first.
fn elements(pair: i32) -> [i32; 2] {
    [pair << 16 >> 16, pair >> 16]
}

fn random(rng: &mut Rng, lanes: usize) -> Vec<i32> {
    let ends = [i32::MIN, i32::MAX, 0x7fff_7fff, 0x8000_8000u32 as i32, -1, 0];
    (0..lanes).map(|_| if rng.one_in(8) { rng.pick(&ends) } else { rng.bits() as i32 }).collect()
}

fn of_pairs(name: &str, lanes: usize, params: usize, body: &str) -> String {
    let params = vec![format!("i32x{lanes}"); params].join(", ");
    format!(
        "function %f(i64, i64, i64) system_v {{
    fn0 = %{name}({params}) -> i32x{lanes} system_v
block0(v0: i64, v1: i64, v2: i64):
    v3 = load.i32x{lanes} v0
    v4 = load.i32x{lanes} v1
    {body}
    store v7, v0
    return
}}"
    )
}

fn dot(lanes: usize, broadcast: bool) -> String {
    let b = match broadcast {
        true => format!("v5 = load.i32 v2\n    v6 = splat.i32x{lanes} v5"),
        false => format!("v6 = load.i32x{lanes} v2"),
    };
    of_pairs(DOT_I16, lanes, 3, &format!("{b}\n    v7 = call fn0(v3, v6, v4)"))
}

#[test]
fn products_of_pairs_are_added_and_wrap() {
    let features = Features::detect().filter(|features| features.vnni());
    let rng = &mut Rng::new(1);
    for (lanes, broadcast) in LANES.into_iter().flat_map(|lanes| [(lanes, false), (lanes, true)]) {
        let func = parse(&dot(lanes, broadcast));
        compile(&func, Features::cross_vnni()).expect("it has the instruction");
        let Some(features) = features else { continue };
        let kernel = Kernel::wide(&func, features);
        for _ in 0..2000 {
            let (mut a, before) = (random(rng, lanes), random(rng, lanes));
            let mut b = random(rng, if broadcast { 1 } else { lanes });
            let mut sums = before.clone();
            kernel.call(&[pointer(&mut sums), pointer(&mut a), pointer(&mut b)]);
            for lane in 0..lanes {
                let ([a, c], [b, d]) = (elements(a[lane]), elements(b[lane % b.len()]));
                let expected = before[lane].wrapping_add(a.wrapping_mul(b)).wrapping_add(c.wrapping_mul(d));
                assert_eq!(sums[lane], expected, "{} + {a} {b} + {c} {d}", before[lane]);
            }
        }
    }
}

#[test]
fn bytes_are_widened_by_their_sign() {
    for (lanes, features) in
        LANES.into_iter().zip([Features::cross_avx2(), Features::cross_avx2(), Features::cross_avx512()])
    {
        let text = format!(
            "function %f(i64, i64) system_v {{
    fn0 = %{WIDEN_BYTES}(i8x{}) -> i32x{lanes} system_v
block0(v0: i64, v1: i64):
    v2 = load.i8x{} v1
    v3 = call fn0(v2)
    store v3, v0
    return
}}",
            2 * lanes,
            2 * lanes
        );
        let func = parse(&text);
        compile(&func, features).expect("it has the instruction");
        let Some(features) = Features::detect().filter(|detected| detected.avx512() || lanes < 16) else { continue };
        let (mut from, mut to): (Vec<i8>, _) = ((-128..=127).collect(), vec![0i32; lanes]);
        for features in [features, features.without_avx512()] {
            if lanes == 16 && !features.avx512() {
                continue;
            }
            let kernel = Kernel::wide(&func, features);
            for start in (0..256).step_by(2 * lanes) {
                let bytes = &mut from[start..start + 2 * lanes];
                kernel.call(&[pointer(&mut to), pointer(bytes)]);
                let expected: Vec<i32> = bytes.iter().map(|byte| i32::from(*byte)).collect();
                assert_eq!(to.iter().flat_map(|pair| elements(*pair)).collect::<Vec<_>>(), expected);
            }
        }
    }
}

#[test]
fn elements_of_halves_of_quarters_come_in_turn() {
    let rng = &mut Rng::new(2);
    let detected = Features::detect();
    let machines = detected.into_iter().flat_map(|features| [features, features.without_avx512()]);
    for (features, lanes) in machines.flat_map(|features| LANES.map(|lanes| (features, lanes))) {
        for (name, half) in [(INTERLEAVE_LOW, 0), (INTERLEAVE_HIGH, 2)] {
            if lanes == 16 && !features.avx512() {
                continue;
            }
            let func = parse(&of_pairs(name, lanes, 2, "v7 = call fn0(v3, v4)"));
            let kernel = Kernel::wide(&func, features);
            let (a, mut b) = (random(rng, lanes), random(rng, lanes));
            let mut made = a.clone();
            kernel.call(&[pointer(&mut made), pointer(&mut b), 0]);
            let expected = (0..lanes).map(|lane| {
                let (from, part) = (lane / 4 * 4 + half + lane % 4 / 2, lane % 2);
                elements(a[from])[part] & 0xffff | elements(b[from])[part] << 16
            });
            assert_eq!(made, expected.collect::<Vec<i32>>(), "{name}, {lanes} lanes");
        }
    }
}

#[test]
fn machines_without_the_instruction_refuse_it() {
    for features in [Features::cross_avx2(), Features::cross_bf16(), Features::cross_vnni().without_vnni()] {
        let refused = compile(&parse(&dot(8, false)), features).expect_err("no instruction");
        assert_eq!(refused.reason, Reason::NeedsVnni);
        assert_eq!(refused.reason.to_string(), "this needs AVX512_VNNI");
    }
    let floats = dot(8, false)
        .replace("load.i32x8 v0", "load.f32x8 v0")
        .replace("(i32x8, i32x8, i32x8)", "(f32x8, i32x8, i32x8)");
    assert_eq!(compile(&parse(&floats), Features::cross_vnni()).expect_err("floats").reason, Reason::Type);
    let wide = of_pairs(INTERLEAVE_LOW, 16, 2, "v7 = call fn0(v3, v4)");
    assert_eq!(compile(&parse(&wide), Features::cross_avx2()).expect_err("too wide").reason, Reason::NeedsAvx512);
}
