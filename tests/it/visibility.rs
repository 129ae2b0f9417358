//! A query's row depends on nothing that the query can't see, to the bit, and its precision on nothing but itself.

use crate::common::{
    Layout, Lengths, Rng, Tensor, Tensors, absolute, difference, engines, hold, inputs, outputs, relative, run,
};
use rhumb::prelude::*;

const HEADS: u32 = 2;
const DIM: u32 = 16;

/// An attention with the tensors to bind, and what each query sees.
struct Case {
    name: &'static str,
    attention: Attention,
    lengths: Lengths,
    /// Tensors over keys or queries beside `q`, `k` and `v`.
    given: Tensors,
    sees: Box<dyn Fn(usize, usize) -> bool>,
}

fn attention() -> Attention {
    Attention::heads(HEADS).head_dim(DIM).lse()
}

fn steep() -> Alibi {
    Alibi::new().slopes([1.5, 0.25])
}

/// A bias that each call gives per key.
fn key_bias(attention: Attention) -> Attention {
    attention.score_with(|cx, score| score + cx.input("bias", Elem::F32, [cx.k]))
}

/// Two documents packed into one sequence, each with positions of its own: the second begins at 0 again.
fn packed(name: &'static str, attention: Attention, lengths: Lengths, start: i32, causal: bool) -> Case {
    let border = lengths.keys * 3 / 7;
    let document = move |token: usize| usize::from(token >= border);
    let all = || 0..lengths.keys;
    let positions = all().map(|token| if token < border { start + token as i32 } else { (token - border) as i32 });
    let positions: Vec<i32> = positions.collect();
    let documents: Vec<i32> = all().map(|token| document(token) as i32).collect();
    // Queries stand at the last keys.
    let first = lengths.keys - lengths.queries;
    let of = |data: &[i32]| Tensor::i32([data.len()], data.to_vec());
    let given = Tensors::from([
        ("q_pos".to_owned(), of(&positions[first..])),
        ("k_pos".to_owned(), of(&positions)),
        ("q_documents".to_owned(), of(&documents[first..])),
        ("k_documents".to_owned(), of(&documents)),
    ]);
    let attention =
        attention.q_positions(Elem::I32, Batch::Shared).k_positions(Elem::I32, Batch::Shared).documents(Batch::Shared);
    let attention = if causal { attention.scheme(Causal) } else { attention };
    let sees =
        move |query: usize, key: usize| document(first + query) == document(key) && (!causal || key <= first + query);
    Case { name, attention, lengths, given, sees: Box::new(sees) }
}

/// Keys from `len` on are padding.
fn padded(name: &'static str, attention: Attention, lengths: Lengths, len: usize, given: Tensors) -> Case {
    let mut given = given;
    given.insert("key_lengths".to_owned(), Tensor::i32([lengths.batch], [len as i32]));
    Case { name, attention: attention.key_lengths(), lengths, given, sees: Box::new(move |_, key| key < len) }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (queries, keys) in [(40, 53), (17, 130), (150, 300)] {
        let lengths = Lengths { batch: 1, queries, keys };
        let bias = Tensors::from([("bias".to_owned(), Tensor::normal(&mut Rng::new(3), [keys]))]);
        cases.push(padded("a bias per key", key_bias(attention()), lengths, keys - 20, bias));
        let positions = Tensor::i32([keys], (0..keys as i32).collect::<Vec<_>>());
        let positions = Tensors::from([("k_pos".to_owned(), positions)]);
        let with_positions = attention().scheme(steep()).k_positions(Elem::I32, Batch::Shared);
        cases.push(padded("ALiBi", with_positions, lengths, keys - 13, positions));
        cases.push(packed("packed ALiBi", attention().scheme(steep()), lengths, 1_000_000, true));
        cases.push(packed("packed Press", attention().scheme(Alibi::new()), lengths, 30_000, false));
        cases.push(packed("packed symmetric", attention().scheme(steep().symmetric()), lengths, 5000, false));
        cases.push(packed("packed RoPE", attention().scheme(Rope::new()), lengths, 100_000, true));
        cases.push(packed("packed sinks", attention().scheme(steep()).sinks().softcap(30.0), lengths, 40, true));
    }
    cases
}

fn call(kernel: &Kernel, inputs: &Tensors, lengths: Lengths) -> Tensors {
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    run(kernel.call(), inputs, &mut made).expect("runs");
    made
}

/// Bits of one query: for each batch and head, the row of `out` and the element of `lse`.
fn row(tensors: &Tensors, query: usize) -> Vec<u32> {
    let (out, lse) = (&tensors["out"], &tensors["lse"]);
    let (queries, dim) = (out.shape()[2], out.shape()[3]);
    let (out, lse) = (out.bits(), lse.bits());
    (0..lse.len() / queries)
        .map(|group| group * queries + query)
        .flat_map(|index| out[index * dim..(index + 1) * dim].iter().chain(&lse[index..=index]).copied())
        .collect()
}

fn bound(case: &Case, kernel: &Kernel) -> Tensors {
    let mut all = inputs(&mut Rng::new(5), kernel.interface(), case.lengths);
    all.extend(case.given.clone());
    all
}

/// The tensors with `garbage` at every key that `hidden` names.
fn spoiled(case: &Case, clean: &Tensors, hidden: &dyn Fn(usize) -> bool, garbage: f32, integer: i32) -> Tensors {
    let mut inputs = clean.clone();
    for (name, tensor) in &mut inputs {
        let keys = case.lengths.keys;
        let row = if matches!(name.as_str(), "k" | "v") { DIM as usize } else { 1 };
        match name.as_str() {
            "k" | "v" | "bias" => tensor.change(|index, x| {
                if hidden(index / row % keys) {
                    *x = garbage;
                }
            }),
            "k_pos" | "k_documents" => {
                let number = |(key, x): (usize, &f64)| match (hidden(key), name.as_str()) {
                    (false, _) => *x as i32,
                    (true, "k_pos") => integer,
                    // A document that no query is of, and that of other queries.
                    (true, _) => [integer, 7][key % 2],
                };
                let data: Vec<i32> = tensor.numbers().iter().enumerate().map(number).collect();
                *tensor = Tensor::i32([keys], data);
            }
            _ => {}
        }
    }
    inputs
}

#[test]
fn what_a_query_cannot_see_changes_no_bit_of_its_row() {
    let garbage = [(f32::NAN, i32::MAX), (f32::INFINITY, i32::MIN), (-3e38, 1 << 30), (1e6, -12_345)];
    for (target, engine) in &engines(1) {
        for case in cases() {
            let kernel = engine.compile(&case.attention.build().expect("a graph")).expect("compiles");
            let clean = bound(&case, &kernel);
            let before = call(&kernel, &clean, case.lengths);
            for (n, query) in [0, 7, 16, 23, 39, 64, 149].into_iter().filter(|q| *q < case.lengths.queries).enumerate()
            {
                let hidden = |key: usize| !(case.sees)(query, key);
                let (number, integer) = garbage[n % garbage.len()];
                let after = call(&kernel, &spoiled(&case, &clean, &hidden, number, integer), case.lengths);
                let Case { name, lengths, .. } = &case;
                assert!(
                    row(&before, query) == row(&after, query),
                    "{name}, {target}, {lengths:?}: {number} and {integer} at hidden keys reach query {query}"
                );
            }
        }
    }
}

/// What the other queries of a tile see is nothing to a query either.
#[test]
fn another_query_changes_no_bit_of_a_row() {
    for (target, engine) in &engines(1) {
        for case in cases().into_iter().filter(|case| case.given.contains_key("q_documents")) {
            let kernel = engine.compile(&case.attention.build().expect("a graph")).expect("compiles");
            let clean = bound(&case, &kernel);
            let before = call(&kernel, &clean, case.lengths);
            let kept = |query: usize| query % 5 == 2;
            let mut inputs = clean.clone();
            for (name, to) in [("q_pos", -900_000), ("q_documents", 1)] {
                let numbers = clean[name].numbers();
                let data = numbers.iter().enumerate().map(|(q, x)| if kept(q) { *x as i32 } else { to });
                inputs.insert(name.to_owned(), Tensor::i32([numbers.len()], data.collect::<Vec<_>>()));
            }
            let (queries, dim) = (case.lengths.queries, DIM as usize);
            inputs.get_mut("q").expect("bound").change(|index, x| {
                if !kept(index / dim % queries) {
                    *x *= -40.0;
                }
            });
            let after = call(&kernel, &inputs, case.lengths);
            for query in (0..queries).filter(|query| kept(*query)) {
                let same = row(&before, query) == row(&after, query);
                assert!(same, "{}, {target}, {:?}: query {query}", case.name, case.lengths);
            }
        }
    }
}

#[test]
fn precision_is_that_of_what_a_query_sees() {
    for (target, engine) in &engines(2) {
        for start in [300, 30_000, 100_000, 1_000_000] {
            let lengths = Lengths { batch: 1, queries: 200, keys: 230 };
            for (alibi, causal) in [(Alibi::new(), true), (steep(), true), (Alibi::new(), false)] {
                let case = packed("packed", attention().scheme(alibi), lengths, start, causal);
                let graph = case.attention.build().expect("a graph");
                let kernel = engine.compile(&graph).expect("compiles");
                let inputs = bound(&case, &kernel);
                let made = call(&kernel, &inputs, lengths);
                let reference = engine.reference(&graph).expect("a reference");
                let mut expected = outputs(reference.interface(), lengths, |_| Layout::Rows);
                run(reference.call(), &inputs, &mut expected).expect("runs");
                let off = difference(&made["out"].values(), &expected["out"].values(), absolute);
                hold(&kernel, &inputs, &made, &expected, format_args!("{causal}, from {start}"));
                assert!(off < 2e-6, "{target}, {causal}, from {start}: out off by {off:.1e}");
                let off = difference(&made["lse"].values(), &expected["lse"].values(), relative);
                assert!(off < 1e-6, "{target}, {causal}, from {start}: lse off by {off:.1e}");
            }
        }
    }
}

/// The greatest key term need not be where the greatest score is: products that are far from 0, and terms as large as numbers get.
#[test]
fn references_far_from_the_scores_do() {
    for (_, engine) in &engines(1) {
        let lengths = Lengths { batch: 1, queries: 60, keys: 200 };
        let graph = key_bias(attention()).scheme(Causal).build().expect("a graph");
        let kernel = engine.compile(&graph).expect("compiles");
        for (name, factor, bias) in [
            ("small products", 1.0, &(|_| 0.0f32) as &dyn Fn(usize) -> f32),
            ("large products", -60.0, &|key| key as f32),
            ("hidden by the bias", 1.0, &|key| if key % 3 == 0 { f32::NEG_INFINITY } else { 0.5 }),
            ("all hidden by the bias", 1.0, &|_| f32::NEG_INFINITY),
            ("the least numbers", 1.0, &|_| f32::MIN),
            ("the least numbers at padding", 1.0, &|key| if key > 100 { f32::MIN } else { 0.0 }),
            ("far", 1.0, &|key| 1e6 + key as f32 / 16.0),
        ] {
            let mut inputs = inputs(&mut Rng::new(6), kernel.interface(), lengths);
            inputs.get_mut("q").expect("bound").change(|_, x| *x *= factor);
            inputs.insert(
                "bias".to_owned(),
                Tensor::f32([lengths.keys], (0..lengths.keys).map(bias).collect::<Vec<_>>()),
            );
            let made = call(&kernel, &inputs, lengths);
            let reference = engine.reference(&graph).expect("a reference");
            let mut expected = outputs(reference.interface(), lengths, |_| Layout::Rows);
            run(reference.call(), &inputs, &mut expected).expect("runs");
            hold(&kernel, &inputs, &made, &expected, name);
        }
    }
}
