//! Great distances and positions.

use crate::common::calls::{call, compile, interpret};
use crate::common::{Lengths, Rng, Tensor, Tensors, absolute, difference, engine, hold, inputs, relative, targets};
use rhumb::prelude::*;

/// Puts queries and keys, where calls tell their positions, at most `far` from one.
fn stand_near(rng: &mut Rng, inputs: &mut Tensors, top: i32, far: i64) {
    for side in ["q_pos", "k_pos"] {
        if let Some(positions) = inputs.get_mut(side) {
            let shape = positions.shape().to_vec();
            let near = (0..shape.iter().product()).map(|_| top + rng.between(-far, far) as i32);
            *positions = Tensor::i32(shape, near.collect::<Vec<_>>());
        }
    }
}

#[test]
fn rotations_are_accurate_at_large_positions() {
    let lengths = Lengths { batch: 2, queries: 37, keys: 50 };
    for target in &targets() {
        let engine = engine(target, 2);
        let given = || Attention::heads(2).head_dim(64).kv_heads(1).lse().q_positions(Elem::I32, Batch::Each);
        let given = || given().k_positions(Elem::I32, Batch::Each);
        for (name, attention) in [
            ("positions", given().scheme(Rope::new())),
            ("positions, interleaved", given().scheme(Rope::new().interleaved()).scheme(Causal)),
            ("offset", Attention::heads(2).head_dim(64).lse().scheme(Rope::new().offset(1_000_000)).scheme(Causal)),
            ("query only", Attention::heads(2).head_dim(64).lse().scheme(Rope::new().offset(1_000_000).query_only())),
        ] {
            for top in [1_000_000, 2_000_000_000] {
                let kernel = compile(&engine, &attention);
                let rng = &mut Rng::new(13);
                let mut inputs = inputs(rng, kernel.interface(), lengths);
                stand_near(rng, &mut inputs, top, 500);
                let made = call(&kernel, &inputs, lengths).expect("runs");
                let expected = interpret(&engine, &attention, &inputs, lengths);
                let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
                let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
                println!("{name} near {top}, {target}: out {out:.1e}, lse {lse:.1e}");
                hold(&kernel, &inputs, &made, &expected, name);
                assert!(out < 2e-6 && lse < 2e-6, "{name} near {top}, {target}: out {out:.1e}, lse {lse:.1e}");
            }
        }
    }
}

/// Frequencies that go by the length of the call are made at the call, in double precision too.
#[test]
fn scaled_rotations_are_accurate_at_a_million() {
    let lengths = Lengths { batch: 2, queries: 37, keys: 50 };
    let factors = |step: f64| (0..32).map(|j| 1.0 + step * f64::from(j)).collect::<Vec<f64>>();
    for target in &targets() {
        let engine = engine(target, 2);
        let given = || Attention::heads(2).head_dim(64).kv_heads(1).lse().q_positions(Elem::I32, Batch::Each);
        let given = || given().k_positions(Elem::I32, Batch::Each).length_input();
        for (name, attention) in [
            ("yarn", given().scheme(Yarn::new(16.0, 65_536).attention_factor(1.1))),
            ("llama3", given().scheme(Llama3Rope::new().base(5e5))),
            ("dynamic ntk", given().scheme(DynamicNtk::new(4.0, 8192))),
            ("longrope", given().scheme(LongRope::new(4096, factors(0.1), factors(0.9)).interleaved())),
        ] {
            let kernel = compile(&engine, &attention);
            let rng = &mut Rng::new(16);
            let mut inputs = inputs(rng, kernel.interface(), lengths);
            stand_near(rng, &mut inputs, 1_000_000, 500);
            inputs.insert("length".to_owned(), Tensor::i32([], [1_000_501]));
            let made = call(&kernel, &inputs, lengths).expect("runs");
            let expected = interpret(&engine, &attention, &inputs, lengths);
            let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
            let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
            println!("{name}, {target}: out {out:.1e}, lse {lse:.1e}");
            hold(&kernel, &inputs, &made, &expected, name);
            assert!(out < 2e-6 && lse < 2e-6, "{name}, {target}: out {out:.1e}, lse {lse:.1e}");
        }
    }
}

#[test]
fn biases_are_accurate_at_large_distances() {
    use rhumb::plugins::AlibiForm;
    let forms = [AlibiForm::Causal, AlibiForm::Symmetric, AlibiForm::Key, AlibiForm::Last];
    for target in &targets() {
        let engine = engine(target, 2);
        for (form, lengths) in forms
            .into_iter()
            .flat_map(|form| [(3, 4096), (40, 4000)].map(|(queries, keys)| (form, Lengths { batch: 1, queries, keys })))
        {
            let attention = Attention::heads(3).head_dim(8).lse().scheme(Alibi::new().form(form)).scheme(Causal);
            let kernel = compile(&engine, &attention);
            let inputs = inputs(&mut Rng::new(14), kernel.interface(), lengths);
            let made = call(&kernel, &inputs, lengths).expect("runs");
            let expected = interpret(&engine, &attention, &inputs, lengths);
            let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
            let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
            println!("{form:?} of {} keys, {target}: out {out:.1e}, lse {lse:.1e}", lengths.keys);
            hold(&kernel, &inputs, &made, &expected, format_args!("{form:?}"));
            assert!(out < 2e-6 && lse < 2e-6, "{form:?}, {lengths:?}, {target}: out {out:.1e}, lse {lse:.1e}");
        }
    }
}

/// Differences of far positions keep their digits inside of functions too.
#[test]
fn functions_of_distances_are_accurate_at_far_positions() {
    let lengths = Lengths { batch: 2, queries: 33, keys: 70 };
    let attention =
        Attention::heads(2).head_dim(16).lse().q_positions(Elem::I32, Batch::Each).k_positions(Elem::I32, Batch::Each);
    let attention = attention.score_with(|cx, score| {
        let slopes = cx.per_head([0.03, 0.01]).expect("two heads");
        let distance = cx.q_pos() - cx.k_pos();
        score + (slopes * distance).tanh() + (0.01 * distance).sin() - ((distance - 3) * slopes).sigmoid()
    });
    for target in &targets() {
        let engine = engine(target, 1);
        let kernel = compile(&engine, &attention);
        for top in [0, 100_000, 1_000_000] {
            let rng = &mut Rng::new(15);
            let mut inputs = inputs(rng, kernel.interface(), lengths);
            stand_near(rng, &mut inputs, top, 300);
            let made = call(&kernel, &inputs, lengths).expect("runs");
            let expected = interpret(&engine, &attention, &inputs, lengths);
            let out = difference(&made["out"].values(), &expected["out"].values(), absolute);
            let lse = difference(&made["lse"].values(), &expected["lse"].values(), relative);
            hold(&kernel, &inputs, &made, &expected, top);
            assert!(out < 2e-6 && lse < 2e-6, "near {top}, {target}: out {out:.1e}, lse {lse:.1e}");
        }
    }
}
