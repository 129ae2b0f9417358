//! Masks that read tensors over queries or keys: what they show in parts of a key tile, and tensors over groups of queries and keys.

use crate::common::calls::bits;
use crate::common::{Layout, Lengths, Rng, Tensor, Tensors, agree, engines, inputs, outputs, run};
use rhumb::prelude::*;

/// Keys that queries of document 1 see: from within one cell of 64 keys into another, with a gap in that.
fn is_of_document(key: usize) -> bool {
    (80..208).contains(&key) || (224..256).contains(&key)
}

/// Queries of document 1 see its keys, those of document 2 all.
fn documents() -> Verified {
    let attention = Attention::heads(2).head_dim(16).mask_with(|cx| {
        let of_query = cx.input("q_documents", Elem::I32, [cx.q]);
        let of_key = cx.input("k_documents", Elem::I32, [cx.k]);
        of_query.eq(of_key) | of_query.eq(2)
    });
    attention.build().expect("a graph")
}

/// The bits of a call where these queries are of document 2, held against the interpreter.
fn call(engine: &Engine, name: &str, sees_all: impl Fn(usize) -> bool) -> Vec<u32> {
    let graph = documents();
    let (kernel, reference) =
        (engine.compile(&graph).expect("a kernel"), engine.reference(&graph).expect("a reference"));
    let lengths = Lengths { batch: 1, queries: 40, keys: 256 };
    let of_query: Vec<i32> = (0..40).map(|query| if sees_all(query) { 2 } else { 1 }).collect();
    let of_key: Vec<i32> = (0..256).map(|key| i32::from(is_of_document(key))).collect();
    let mut given: Tensors = inputs(&mut Rng::new(5), kernel.interface(), lengths);
    given.insert("q_documents".to_owned(), Tensor::i32([40], of_query));
    given.insert("k_documents".to_owned(), Tensor::i32([256], of_key));
    agree((&kernel, &reference), &given, lengths, name);
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), &given, &mut made).expect("runs");
    bits(&made).concat()
}

/// Keys hidden between two runs that are seen as a whole stay hidden, and a row is the same to the bit whatever its neighbours see.
#[test]
fn runs_with_gaps_are_seen_as_they_are() {
    for (name, engine) in engines(1) {
        let alone = call(&engine, &format!("alone, {name}"), |_| false);
        let among = call(&engine, &format!("among others, {name}"), |query| query != 7);
        for head in 0..2 {
            let row = |bits: &[u32]| bits[(head * 40 + 7) * 16..][..16].to_vec();
            assert_eq!(row(&alone), row(&among), "{name}");
        }
    }
}

/// A mask over groups of queries, groups of keys, or both.
#[test]
fn groups_of_queries_and_keys_share_what_they_see() {
    for dims in ["h, qg, k", "h, q, kg", "h, qg, kg", "qg, kg", "h, qg", "kg"] {
        let text = format!(
            r#"graph groups
axis h = 3
axis q = 96
axis k = 160
axis qg = 6 groups q
axis kg = 5 groups k
axis d = 8
%q = input "q" : f32[h, q, d]
%k = input "k" : f32[h, k, d]
%v = input "v" : f32[h, k, d]
%seen = input "seen" : bool[{dims}]
%s = dot %q, %k over d
%hidden = const -inf
%x = select %seen, %s, %hidden
%p = softmax %x over k
%o = dot %p, %v over k
output "out" = %o : f32[h, q, d]
"#
        );
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        for (name, engine) in engines(2) {
            let (kernel, reference) = (engine.compile(&graph), engine.reference(&graph).expect("a reference"));
            let kernel = kernel.unwrap_or_else(|error| panic!("{dims}: {error}"));
            let lengths = Lengths { batch: 1, queries: 96, keys: 160 };
            for seed in 0..3 {
                let given = inputs(&mut Rng::new(seed), kernel.interface(), lengths);
                agree((&kernel, &reference), &given, lengths, format!("{dims}, {name}"));
            }
        }
    }
}
