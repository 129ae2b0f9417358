//! Every operation against a scalar model: at every width, on edge values and random ones, with operands from registers, memory, splats
//! and constants.

use rhumb_random::Rng;

use crate::jit::{Kernel, levels, parse, pointer, wide};
use crate::model::{Case, Lane, cases};
use clif_wide::{Features, Reason, compile};
use cranelift_codegen::ir::Function;
use std::fmt::Write;

/// Where the operands of a test come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    /// Loads that can be folded.
    Loads,
    /// Loads that are also stored elsewhere, so that they have to be in registers.
    Registers,
    /// The operand of this number is a splat of a scalar in memory.
    Splat(usize),
    /// The operand of this number is a constant.
    Constant(usize, u64),
}

const OPERANDS: usize = 3;
/// Bytes of one operand's buffer.
const BUFFER: usize = 64;

fn function(case: &Case, lanes: usize, operands: Operands) -> Function {
    let vector = |lane: Lane| if lanes == 1 { lane.name().to_owned() } else { format!("{}x{lanes}", lane.name()) };
    let mut s =
        String::from("function %f(i64, i64, i64, i64) system_v {\nblock0(v0: i64, v1: i64, v2: i64, v3: i64):\n");
    let mut text = case.text.to_owned();
    for (index, &lane) in case.inputs.iter().enumerate() {
        let (v, p, t, name) = (10 + index, 1 + index, 30 + index, vector(lane));
        match operands {
            Operands::Splat(at) if at == index => {
                writeln!(s, "    v{t} = load.{} v{p}\n    v{v} = splat.{name} v{t}", lane.name()).unwrap();
            }
            Operands::Constant(at, bits) if at == index => {
                let int = lane.as_int();
                let bits = int.sign_extend(bits);
                writeln!(s, "    v{t} = iconst.{} {bits}", int.name()).unwrap();
                let source = if lanes == 1 {
                    t
                } else {
                    writeln!(s, "    v{} = splat.{} v{t}", t + 10, vector(int)).unwrap();
                    t + 10
                };
                if int == lane {
                    writeln!(s, "    v{v} -> v{source}").unwrap();
                } else {
                    writeln!(s, "    v{v} = bitcast.{name} little v{source}").unwrap();
                }
            }
            _ => writeln!(s, "    v{v} = load.{name} v{p}").unwrap(),
        }
        text = text.replace(&format!("{{{index}}}"), &format!("v{v}"));
    }
    let (first, out) = (case.inputs[0], case.output);
    for (pattern, lane) in [("{I}", first.as_int()), ("{F}", first.as_float()), ("{out}", out)] {
        text = text.replace(pattern, &vector(lane));
    }
    for (pattern, lane) in [("{i}", first.as_int()), ("{f}", first.as_float())] {
        text = text.replace(pattern, lane.name());
    }
    for line in text.split(';') {
        writeln!(s, "    {}", line.trim().replace('$', "v5")).unwrap();
    }
    writeln!(s, "    store v50, v0").unwrap();
    if operands == Operands::Registers {
        for index in 0..case.inputs.len() {
            writeln!(s, "    store v{}, v0+{}", 10 + index, BUFFER * (1 + index)).unwrap();
        }
    }
    s.push_str("    return\n}\n");
    parse(&s)
}

fn run(case: &Case, lanes: usize, operands: Operands, features: Features, rng: &mut Rng) -> Result<(), Reason> {
    let func = function(case, lanes, operands);
    if let Err(unsupported) = compile(&func, features) {
        return Err(unsupported.reason);
    }
    let kernel = Kernel::wide(&func, features);
    for _ in 0..24 {
        let mut buffers = [[0u8; BUFFER]; OPERANDS];
        for (buffer, &lane) in buffers.iter_mut().zip(case.inputs) {
            for chunk in buffer.chunks_mut(lane.bytes()) {
                chunk.copy_from_slice(&lane.value(rng).to_le_bytes()[..lane.bytes()]);
            }
        }
        let mut out = [0u8; BUFFER * (1 + OPERANDS)];
        let [a, b, c] = &mut buffers;
        kernel.call(&[pointer(&mut out), pointer(a), pointer(b), pointer(c)]);
        for index in 0..lanes {
            let mut inputs = [0; OPERANDS];
            for (at, &lane) in case.inputs.iter().enumerate() {
                inputs[at] = match operands {
                    Operands::Splat(splat) if splat == at => lane.read(&buffers[at], 0),
                    Operands::Constant(constant, bits) if constant == at => bits & lane.mask(),
                    _ => lane.read(&buffers[at], index),
                };
            }
            let expected = (case.model)(inputs) & case.output.mask();
            let found = case.output.read(&out, index);
            assert!(
                case.output.same(expected, found),
                "{} lane {index} of {lanes}, {operands:?}, {features:?}: inputs {inputs:x?}, expected {expected:x}, found {found:x}\n{func}\n{}",
                case.name,
                wide(&func, features).disassemble()
            );
        }
    }
    Ok(())
}

#[test]
fn every_operation_agrees_with_its_scalar_model() {
    let mut rng = Rng::new(1);
    let (mut functions, mut refused) = (0, 0);
    for features in levels() {
        for case in cases() {
            let widest = case.inputs.iter().chain([&case.output]).map(|lane| lane.bytes()).max().unwrap();
            let narrowest = case.inputs.iter().chain([&case.output]).map(|lane| lane.bytes()).min().unwrap();
            let mut lane_counts = vec![];
            if case.scalar {
                lane_counts.push(1);
            }
            if case.vector {
                lane_counts.extend([4, 8, 16, 32, 64, 2].into_iter().filter(|lanes| {
                    lanes * narrowest >= 16 && lanes * widest * 8 <= features.max_vector_bits() as usize
                }));
            }
            for lanes in lane_counts {
                let mut operands = vec![Operands::Loads, Operands::Registers];
                for (index, lane) in case.inputs.iter().enumerate() {
                    operands.push(Operands::Constant(index, lane.value(&mut rng)));
                    if lanes > 1 {
                        operands.push(Operands::Splat(index));
                    }
                }
                for operands in operands {
                    functions += 1;
                    match run(case, lanes, operands, features, &mut rng) {
                        Ok(()) => {}
                        Err(reason @ (Reason::NeedsAvx512 | Reason::Type)) => {
                            let always = lanes == 1
                                || matches!(
                                    (case.inputs[0], case.output),
                                    (Lane::F32 | Lane::I32, Lane::F32 | Lane::I32)
                                );
                            assert!(!always, "{} at {lanes} lanes, {features:?}: {reason}", case.name);
                            refused += 1;
                        }
                        Err(reason) => panic!("{} at {lanes} lanes: {reason}", case.name),
                    }
                }
            }
        }
    }
    println!("{functions} functions, {refused} of them refused by name");
}

/// What is supported at which width, as a table.
#[test]
fn support_matrix() {
    let mut table = String::new();
    for case in cases() {
        let types: Vec<_> = case.inputs.iter().chain([&case.output]).map(|lane| lane.name()).collect();
        write!(table, "{:<20} {:<16}", case.name, types.join(" ")).unwrap();
        for (name, features) in [("avx2", Features::cross_avx2()), ("avx512", Features::cross_avx512())] {
            write!(table, " {name}:").unwrap();
            for lanes in [1, 2, 4, 8, 16, 32, 64] {
                let bytes = || case.inputs.iter().chain([&case.output]).map(|lane| lane.bytes());
                let exists = if lanes == 1 {
                    case.scalar
                } else {
                    case.vector
                        && lanes * bytes().min().unwrap() >= 16
                        && lanes * bytes().max().unwrap() * 8 <= features.max_vector_bits() as usize
                };
                if exists && compile(&function(case, lanes, Operands::Loads), features).is_ok() {
                    write!(table, " {lanes}").unwrap();
                }
            }
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}
