//! Random functions, straight-line and with branches and loops, at every width against Cranelift's own backend at 128 bits.
//!
//! The generator draws the same numbers whatever the lane count, so one seed is one program at any width. Its operations never look across
//! lanes; a function of 16 lanes and four calls of one of 4 lanes must store the same bits. A second kind of programs, of 4 lanes alone,
//! shuffles too. NaNs count as equal, and their bits never become integers, because which operand's NaN an addition returns is not specified.

mod generator;
mod ops;
mod program;

use rhumb_random::{Rng, seeds};

use crate::jit::{Kernel, levels, pointer, try_optimised, wide};
use generator::{SCALARS, SLOTS};
use program::program;

fn run(kernel: &Kernel, lanes: usize, input: &[u32], table: &[u32], scalars: [i64; 2]) -> Vec<u32> {
    let mut out = vec![0u32; SLOTS * 16];
    let (mut input, mut table) = (input.to_vec(), table.to_vec());
    for part in 0..16 / lanes {
        let at = (part * lanes * 4) as i64;
        kernel.call(&[pointer(&mut out) + at, pointer(&mut input) + at, pointer(&mut table), scalars[0], scalars[1]]);
    }
    out
}

/// Compares random programs with Cranelift's code of 4 lanes, at these lane counts.
fn compare(lane_counts: &[u32], shuffles: bool) {
    let all = seeds(if shuffles { 43 } else { 42 }, 150);
    let count = all.end - all.start;
    let (mut functions, mut insts, mut not_optimised) = (0, 0, 0);
    for seed in all {
        let mut values = Rng::new(seed ^ 1);
        let mut value = |_| {
            let lane = if values.below(3) == 0 { crate::model::Lane::I32 } else { crate::model::Lane::F32 };
            lane.value(&mut values) as u32
        };
        let input: Vec<u32> = (0..SLOTS * 16).map(&mut value).collect();
        let table: Vec<u32> = (0..SCALARS).map(&mut value).collect();
        let scalars = [i64::from(value(0) as i32), i64::from(value(0)) - 7];
        let (narrow, float_slots) = program(seed, 4, shuffles);
        let expected = run(&Kernel::cranelift(&narrow), 4, &input, &table, scalars);
        for features in levels() {
            for &lanes in lane_counts {
                if lanes * 32 > features.max_vector_bits() {
                    continue;
                }
                let (func, _) = program(seed, lanes, shuffles);
                insts += func.dfg.num_insts();
                let optimised = try_optimised(&func);
                not_optimised += usize::from(optimised.is_none());
                for func in [Some(func), optimised].into_iter().flatten() {
                    functions += 1;
                    let found = run(&Kernel::wide(&func, features), lanes as usize, &input, &table, scalars);
                    for (at, (&e, &f)) in expected.iter().zip(&found).enumerate() {
                        let nans = float_slots[at / 16] && f32::from_bits(e).is_nan() && f32::from_bits(f).is_nan();
                        assert!(
                            e == f || nans,
                            "seed {seed}, {features:?}, {lanes} lanes, slot {} lane {}: expected {e:#x}, found {f:#x}\n{func}\n{}",
                            at / 16,
                            at % 16,
                            wide(&func, features).disassemble()
                        );
                    }
                }
            }
        }
    }
    println!(
        "{count} programs, {functions} functions, {insts} instructions; {not_optimised} that Cranelift could not optimise"
    );
    assert!(not_optimised < functions / 4);
}

#[test]
fn random_functions_agree_with_cranelift() {
    compare(&[4, 8, 16], false);
}

#[test]
fn random_shuffles_agree_with_cranelift() {
    compare(&[4], true);
}
