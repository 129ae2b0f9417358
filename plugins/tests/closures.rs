//! Closures of the attention builder: axes that they share with schemes, and errors that name them.

use rhumb_ir::{Bindings, Elem, Expr, Tensor, Value, Verified, interpret};
use rhumb_plugins::{
    Attention, BuildError, Causal, PositionScheme, Registry, Rope, SchemeContext, SchemeError, T5, lower, scheme,
};

const HEADS: usize = 4;
const TOKENS: usize = 40;
const DIM: usize = 8;
const BUCKETS: usize = 32;

fn noise(seed: f64, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    Tensor::f32(shape, (0..count).map(|i| ((seed + 1.0) * 12.9898 + i as f64 * 78.233).sin()).collect::<Vec<_>>())
}

fn out(graph: &Verified) -> Vec<f64> {
    let lowered = lower(graph, &Registry::standard()).unwrap_or_else(|error| panic!("{error}"));
    let rows = [1, HEADS, TOKENS, DIM];
    let mut bindings = Bindings::from([("table".to_owned(), noise(4.0, &[BUCKETS, HEADS]))]);
    bindings
        .extend(["q", "k", "v"].into_iter().zip(1..).map(|(name, seed)| (name.to_owned(), noise(seed.into(), &rows))));
    interpret(&lowered, &bindings).unwrap_or_else(|error| panic!("{error}"))["out"].data.clone()
}

/// The bucket of T5's decoder for each distance, from the paper: the first 16 one by one, the others by their logarithm.
fn buckets() -> Vec<i32> {
    let far = |n: i32| 16.0 + (f64::from(n) / 16.0).ln() / 8f64.ln() * 16.0 + 1e-9;
    (0..=128).map(|n| if n < 16 { n } else { far(n).min(31.0) as i32 }).collect()
}

/// T5's bias, written by hand with the context that closures and schemes have.
fn biased<'g>(cx: &SchemeContext<'g>, score: Expr<'g>, table: Expr<'g>) -> Expr<'g> {
    let (bucket, distance) = (cx.axis("bucket", BUCKETS as u32), cx.axis("distance", 129));
    let behind = (cx.q_index() - cx.k_index()).max(0);
    score + table.gather(bucket, cx.builder().int_table([distance], &buckets()).gather(distance, behind))
}

scheme! {
    /// T5's bias by hand.
    pub struct ByHand: "by_hand" at Score = "score + table[bucket(p_q - p_k), h]" {
        /// The learned numbers.
        table: Value,
    }
}

impl PositionScheme for ByHand {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(biased(cx, score, cx.value("table", self.table)?))
    }
}

/// An axis that a closure declares is the one that a hook of the scheme asks for by the same name and length, in lowering too.
#[test]
fn an_axis_of_a_closure_is_that_of_a_scheme() {
    let attention = || Attention::heads(HEADS as u32).head_dim(DIM as u32).scale(1.0).scheme(Causal);
    let by_closure = attention().score_with(|cx, score| {
        let table = cx.input("table", Elem::F32, [cx.axis("bucket", BUCKETS as u32), cx.h]);
        biased(cx, score, table)
    });
    let by_scheme = attention().scheme_with(|cx| ByHand {
        table: cx.input("table", Elem::F32, [cx.axis("bucket", BUCKETS as u32), cx.h]).value(),
    });
    let built_in = attention()
        .scheme_with(|cx| T5::new(cx.input("table", Elem::F32, [cx.axis("bucket", BUCKETS as u32), cx.h])).causal());
    let expected = out(&built_in.build().expect("a graph"));
    for attention in [by_closure, by_scheme] {
        let found = out(&attention.build().unwrap_or_else(|error| panic!("{error}")));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}

/// Another length, or an axis of the attention, is another axis.
#[test]
fn a_name_that_is_taken_by_something_else_gets_a_number() {
    let graph = Attention::heads(HEADS as u32).head_dim(DIM as u32).score_with(|cx, score| {
        let axes = [("n", 3), ("n", 5), ("n", 3), ("n", 5), ("d", DIM as u32)].map(|(name, n)| cx.axis(name, n));
        assert_eq!(axes.map(|axis| cx.axis_name(axis)), ["n", "n_2", "n", "n_2", "d_2"]);
        score
    });
    graph.build().expect("a graph");
}

#[test]
fn errors_name_the_closure() {
    let attention = || Attention::heads(2).head_dim(8);
    let cases: [(&str, Attention); 6] = [
        ("one", attention().score_with(|cx, score| score + cx.k_index().le(3))),
        (
            "the second of two",
            attention().score_with(|_, score| score * 2.0).score_with(|cx, score| score & cx.k_index().le(3)),
        ),
        ("a query", attention().query_with(|cx, query| query.dot(query, cx.k))),
        (
            "a scheme",
            attention().scheme_with(|cx| {
                let _ = cx.q_index() & cx.k_index();
                Causal
            }),
        ),
        ("a mask that is none", attention().mask_with(|cx| cx.k_index() - 1)),
        ("weights that are none", attention().weights_with(|_, score| score.gt(0.0))),
    ];
    let mut report = String::new();
    for (name, attention) in cases {
        report += &format!("# {name}\n{}\n\n", attention.build().expect_err(name));
    }
    insta::assert_snapshot!(report);
}

/// What `?` in `main` and `unwrap` print is what `Display` does: with the hint.
#[test]
fn errors_print_what_would_mend_them() {
    let error = Attention::heads(12).head_dim(64).kv_heads(5).build().expect_err("uneven");
    assert_eq!(
        format!("{error}"),
        "12 query heads can't share 5 key/value heads evenly\n  hint: use a number of key/value heads that divides 12"
    );
    assert_eq!(format!("{error:?}"), format!("{error}"));
    let error = Registry::standard().info("rpoe").expect_err("unknown");
    assert!(format!("{error}").contains("did you mean `rope`?"), "{error}");
    assert_eq!(format!("{error:?}"), format!("{error}"));
}

#[test]
fn an_attention_can_be_cloned() {
    let attention = Attention::heads(2).head_dim(8).scheme(Rope::new()).score_with(|_, score| score * 2.0f32);
    let (one, other) = (attention.clone().scheme(Causal), attention);
    let text = |attention: Attention| attention.build().expect("a graph").to_string();
    assert_eq!(text(one), text(other.scheme(Causal)));
}

/// A key that is decoded later is rotated as in the whole.
#[test]
fn a_graph_of_keys_alone_is_told_where_they_stand() {
    let attention = || Attention::heads(1).head_dim(4).scheme(Rope::new().base(100.0));
    let error = attention().key_graph().expect_err("nothing tells");
    assert_eq!(error, BuildError::NoKeyPositions);
    insta::assert_snapshot!(error.to_string());

    let rotated = |attention: Attention, bindings: Bindings| {
        let graph = lower(&attention.key_graph().expect("a graph"), &Registry::standard()).expect("lowers");
        interpret(&graph, &bindings).expect("interprets")["k_out"].data.clone()
    };
    let key = noise(2.0, &[1, 1, 5, 4]);
    let last = Tensor::f32([1, 1, 1, 4], &key.data[16..]);
    let keys = |key: &Tensor| Bindings::from([("k".to_owned(), key.clone())]);
    let whole = rotated(attention().q_offset(0), keys(&key));
    let bound = |mut bindings: Bindings, name: &str, tensor| {
        bindings.insert(name.to_owned(), tensor);
        bindings
    };
    let places = [
        (attention().q_offset(4), keys(&last)),
        (attention().q_offset_input(), bound(keys(&last), "q_offset", Tensor::i32([], [4]))),
        (
            attention().k_positions(Elem::I32, rhumb_plugins::Batch::Shared),
            bound(keys(&last), "k_pos", Tensor::i32([1], [4])),
        ),
    ];
    for (attention, bindings) in places {
        assert_eq!(rotated(attention, bindings), whole[16..]);
    }
}
