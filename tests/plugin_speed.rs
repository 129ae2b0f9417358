//! A scheme of one's own is compiled like a built-in one: to the same functions, byte for byte.

#[path = "../benches/common/slanted.rs"]
mod slanted;

use rhumb::compiler::{Backend, Compiled, Options, compile};
use rhumb::ir::Verified;
use rhumb::plugins::lower;
use rhumb::prelude::*;
use slanted::Slanted;

fn attention(scheme: impl PositionScheme + 'static) -> Verified {
    Attention::heads(8).head_dim(16).scheme(scheme).scheme(Causal).lse().build().expect("a graph")
}

fn compiled(graph: &Verified, target: &Target) -> Compiled {
    compile(graph, &Registry::empty(), target, &Options::default(), &mut |_, _| ()).expect("compiles")
}

#[test]
fn a_scheme_of_ones_own_costs_what_a_built_in_one_does() {
    let (own, built_in) = (attention(Slanted), attention(Alibi::new()));
    assert_ne!(own, built_in, "the graphs name different schemes");
    let lowered = |graph| lower(graph, &Registry::empty()).expect("lowers");
    assert_eq!(lowered(&own), lowered(&built_in));
    for triple in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let target = Target::named(triple).expect("a target");
        let of =
            |(backend, lanes)| target.clone().with_lanes(lanes).and_then(|target| target.with_backend(backend)).ok();
        let codes = Backend::ALL
            .into_iter()
            .flat_map(|backend| target.lane_counts().iter().map(move |&lanes| (backend, lanes)));
        for target in codes.filter_map(of) {
            let (own, built_in) = (compiled(&own, &target), compiled(&built_in, &target));
            assert_eq!(own.plan.to_string(), built_in.plan.to_string(), "{target}");
            assert_eq!(own.clif.to_string(), built_in.clif.to_string(), "{target}");
            let bytes = |compiled: &Compiled| -> Vec<Vec<u8>> {
                compiled.code.functions.iter().map(|function| function.bytes.clone()).collect()
            };
            assert!(bytes(&own) == bytes(&built_in), "{target}: the machine code differs");
        }
    }
}
