//! Masks that stay alive across a loop: with AVX-512 they are mask registers, of which there are seven, and the others are spilled.

use rhumb_random::Rng;

use crate::jit::{Kernel, levels, parse, pointer, wide};
use crate::machine::Machine;
use crate::model::Lane;
use clif_wide::Features;
use std::fmt::Write;

/// What is compared; masks of bytes fill a mask register.
const LANES: [Lane; 4] = [Lane::F32, Lane::F64, Lane::I32, Lane::I8];
const COUNTS: std::ops::RangeInclusive<usize> = 8..=20;
const TURNS: usize = 3;

/// Compares one vector with `count` others; in each turn of a loop stores another vector over those lanes of each output that the mask
/// leaves; behind the loop stores the exclusive or of all masks, and each.
///
/// Parameters: outputs, compared vectors, the vector of each turn, number of turns.
fn program(lane: Lane, count: usize, bits: usize) -> String {
    let (bytes, lanes) = (bits / 8, bits / 8 / lane.bytes());
    let ty = format!("{}x{lanes}", lane.name());
    let (compare, cast) = match lane {
        Lane::F32 | Lane::F64 => ("fcmp lt", format!("bitcast.{ty} little")),
        _ => ("icmp slt", String::new()),
    };
    let mut text =
        String::from("function %f(i64, i64, i64, i64) system_v {\nblock0(v0: i64, v1: i64, v2: i64, v3: i64):\n");
    let t = &mut text;
    writeln!(t, "v4 = load.{ty} v1").unwrap();
    for i in 0..count {
        writeln!(t, "v{} = load.{ty} v1+{}", 100 + i, bytes * (i + 1)).unwrap();
        writeln!(t, "v{} = {compare} v4, v{}", 200 + i, 100 + i).unwrap();
    }
    writeln!(t, "v5 = iconst.i64 {bytes}\nv11 = iconst.i64 -1\njump block1(v3, v2)").unwrap();
    writeln!(t, "block1(v6: i64, v7: i64):\nv8 = load.{ty} v7").unwrap();
    for i in 0..count {
        // In an order that is not that of their making.
        let at = (7 * i + 3) % count;
        let at = if count.is_multiple_of(7) { i } else { at };
        let mask = if cast.is_empty() { 200 + at } else { 400 + i };
        if !cast.is_empty() {
            writeln!(t, "v{mask} = {cast} v{}", 200 + at).unwrap();
        }
        writeln!(t, "v{} = load.{ty} v0+{}", 300 + i, bytes * at).unwrap();
        writeln!(t, "v{} = bitselect v{mask}, v8, v{}", 500 + i, 300 + i).unwrap();
        writeln!(t, "store v{}, v0+{}", 500 + i, bytes * at).unwrap();
    }
    writeln!(t, "v9 = iadd v7, v5\nv10 = iadd v6, v11\nbrif v10, block1(v10, v9), block2\nblock2:").unwrap();
    for i in 1..count {
        let all = if i == 1 { 200 } else { 599 + i };
        writeln!(t, "v{} = bxor v{all}, v{}", 600 + i, 200 + i).unwrap();
    }
    writeln!(t, "store v{}, v0+{}", 599 + count, bytes * count).unwrap();
    for i in 0..count {
        writeln!(t, "store v{}, v0+{}", 200 + i, bytes * (count + 1 + i)).unwrap();
    }
    text + "return\n}"
}

/// The buffers of a [`program`], and what it leaves in the first.
struct Buffers {
    out: Vec<u8>,
    input: Vec<u8>,
    turns: Vec<u8>,
    right: Vec<u8>,
}

impl Buffers {
    fn new(lane: Lane, count: usize, bits: usize) -> Buffers {
        let (size, lanes) = (lane.bytes(), bits / 8 / lane.bytes());
        let mut rng = Rng::new((count * bits) as u64);
        let mut random = |vectors: usize| -> Vec<u8> {
            (0..vectors * lanes).flat_map(|_| lane.value(&mut rng).to_le_bytes()[..size].to_vec()).collect()
        };
        let (out, input, turns) = (random(2 * count + 1), random(count + 1), random(TURNS));
        let mut right = out.clone();
        let mut set = |index: usize, bits: u64| {
            right[index * size..][..size].copy_from_slice(&bits.to_le_bytes()[..size]);
        };
        let truth = |is: bool| if is { lane.mask() } else { 0 };
        for at in 0..lanes {
            let masks =
                (0..count).map(|mask| less(lane, lane.read(&input, at), lane.read(&input, (mask + 1) * lanes + at)));
            let masks: Vec<bool> = masks.collect();
            for (mask, &is) in masks.iter().enumerate() {
                if is {
                    set(mask * lanes + at, lane.read(&turns, (TURNS - 1) * lanes + at));
                }
                set((count + 1 + mask) * lanes + at, truth(is));
            }
            set(count * lanes + at, truth(masks.iter().filter(|is| **is).count() % 2 == 1));
        }
        Buffers { out, input, turns, right }
    }
}

fn less(lane: Lane, a: u64, b: u64) -> bool {
    match lane {
        Lane::F32 => f32::from_bits(a as u32) < f32::from_bits(b as u32),
        Lane::F64 => f64::from_bits(a) < f64::from_bits(b),
        _ => lane.sign_extend(a) < lane.sign_extend(b),
    }
}

#[test]
fn masks_stay_alive_across_a_loop() {
    for features in levels() {
        for (lane, bits) in LANES.into_iter().flat_map(|lane| [128, 256, 512].map(|bits| (lane, bits))) {
            if bits > features.max_vector_bits() as usize {
                continue;
            }
            for count in COUNTS {
                let Buffers { mut out, mut input, mut turns, right } = Buffers::new(lane, count, bits);
                let kernel = Kernel::wide(&parse(&program(lane, count, bits)), features);
                kernel.call(&[pointer(&mut out), pointer(&mut input), pointer(&mut turns), TURNS as i64]);
                assert!(out == right, "{count} masks of {lane:?}, {bits} bits, {features:?}");
            }
        }
    }
}

/// On any machine: the code for AVX-512 runs in a model of it.
#[test]
fn mask_registers_beyond_seven_are_spilled_and_come_back() {
    for (lane, bits) in LANES.into_iter().flat_map(|lane| [128, 256, 512].map(|bits| (lane, bits))) {
        for count in COUNTS {
            let code = wide(&parse(&program(lane, count, bits)), Features::cross_avx512());
            let text = code.disassemble();
            let stored = text.lines().filter(|line| line.contains("kmovq [rsp")).count();
            let loaded = text.lines().filter(|line| line.contains("kmovq k") && line.contains("[rsp")).count();
            assert!(
                stored >= count - 7 && loaded >= count - 7,
                "{count} masks: {stored} stored, {loaded} loaded\n{text}"
            );
            let Buffers { mut out, mut input, mut turns, right } = Buffers::new(lane, count, bits);
            Machine::call(&code, &mut [&mut out, &mut input, &mut turns], &[TURNS as u64]);
            assert!(out == right, "{count} masks of {lane:?}, {bits} bits\n{text}");
        }
    }
}
