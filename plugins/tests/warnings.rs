//! What is warned of, and what is not.

use rhumb_ir::{Elem, Pairing};
use rhumb_plugins::{
    Alibi, Attention, Batch, Causal, Cope, Kerple, Registry, Retention, Rope, Rope2d, Shaw, SlidingWindow, T5, Warning,
    XPos, warnings,
};

fn of(attention: &Attention) -> Vec<Warning> {
    warnings(&attention.build().expect("a graph"), &Registry::standard()).expect("lowers")
}

fn attention() -> Attention {
    Attention::heads(4).head_dim(32)
}

#[test]
fn a_rotation_on_top_of_another_is_told() {
    let twice = attention().scheme(Rope::new()).scheme(Rope::new().rotary_dim(16)).scheme(Causal);
    let report: Vec<String> = of(&twice).iter().map(Warning::to_string).collect();
    insta::assert_snapshot!(report.join("\n"));
    // One of one's own counts as a built-in one does, and a factor between them changes nothing.
    let own = attention().scheme(Rope::new()).query_with(|cx, query| {
        let pair = cx.axis("own", 4);
        let angle = cx.q_pos().cast(Elem::F32) * cx.builder().table([pair], [1.0, 0.5, 0.25, 0.125]);
        (query * 2.0).rotate(angle, cx.d, pair, Pairing::Half, 0)
    });
    assert!(matches!(&of(&own)[..], [Warning::RotatedTwice { first: 0, last: 7, .. }]), "{:?}", of(&own));
}

#[test]
fn rotations_of_different_elements_are_not() {
    let apart =
        attention().scheme(Rope::new().rotary_dim(16)).scheme(Rope::new().rotary_dim(16).start(16)).scheme(Causal);
    assert_eq!(of(&apart), []);
    for scheme in [attention().scheme(XPos::new()), attention().scheme(Rope2d::grid(4, 4))] {
        assert_eq!(of(&scheme), []);
    }
}

#[test]
fn a_table_of_all_pairs_is_told() {
    // The sum that divides a row is of the row's own scores.
    let retention = attention().scheme(Retention::new()).scheme(Causal);
    let report: Vec<String> = of(&retention).iter().map(Warning::to_string).collect();
    insta::assert_snapshot!(report.join("\n"));
    // CoPE looks a position up among sums along a row.
    let tokens = |static_keys: bool| {
        attention().scheme_with(move |cx| {
            let builder = cx.builder();
            let axis = |name| if static_keys { builder.axis_of(name, 9) } else { builder.axis(name) };
            let (t, own) = (axis("t"), axis("own"));
            let (keys, at) = (cx.input("keys", Elem::F32, [t, cx.d]), cx.input("tokens", Elem::I32, [own]));
            Cope::new(cx.query(), keys, at, cx.input("e", Elem::F32, [cx.axis("p", 8), cx.d]))
        })
    };
    assert!(of(&tokens(false)).iter().any(|warning| matches!(warning, Warning::PairTable { .. })));
    let not = [
        // Without a softmax the sum is made in the same pass.
        attention().scheme(Retention::new()).weights_with(|_, score| score),
        attention().scheme(Retention::new().unnormalised()).scheme(Causal),
        tokens(true),
        attention().scheme_with(|cx| T5::new(cx.input("table", Elem::F32, [cx.axis("bucket", 32), cx.h]))),
        attention().scheme_with(|cx| {
            Shaw::new(cx.query(), cx.input("table", Elem::F32, [cx.axis("distance", 9), cx.d]), 4, 4)
        }),
        attention().bias(Batch::Each).documents(Batch::Each).lse().sinks(),
    ];
    for attention in not {
        assert!(!of(&attention).iter().any(|warning| matches!(warning, Warning::PairTable { .. })), "{attention:?}");
    }
}

#[test]
fn a_bias_for_keys_up_to_the_query_wants_a_causal_mask() {
    let told = [
        attention().scheme(Alibi::new()),
        attention().scheme(Alibi::new()).key_lengths(),
        attention().scheme(Alibi::new()).documents(Batch::Shared),
        attention().scheme(Alibi::new()).q_positions(Elem::I32, Batch::Each).k_positions(Elem::I32, Batch::Each),
        attention().score_with(|cx, score| score + 0.5 * (cx.k_pos() - cx.q_pos())),
    ];
    for attention in told {
        assert_eq!(of(&attention), [Warning::LaterKeysFavoured], "{attention:?}");
    }
    let not = [
        attention().scheme(Alibi::new()).scheme(Causal),
        attention().scheme(Alibi::new()).scheme(SlidingWindow::new(3)),
        attention().scheme(Alibi::new()).mask_with(|cx| cx.k_index().le(cx.q_index())),
        attention().scheme(Alibi::new().symmetric()),
        attention().scheme(Kerple::constant([1.0; 4], [1.0; 4])),
        attention().scheme_with(|cx| T5::new(cx.input("table", Elem::F32, [cx.axis("bucket", 32), cx.h]))),
        attention().scheme(Rope::new()),
        attention(),
    ];
    for attention in not {
        assert_eq!(of(&attention), [], "{attention:?}");
    }
}
