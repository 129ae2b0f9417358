//! Every mask against its predicate over token indices.

use rhumb_ir::{Elem, Tensor};
use rhumb_plugins::testing::{SchemeTest, Shape, TestFailure};
use rhumb_plugins::{Causal, Chunked, Dilated, Documents, KeyLengths, PrefixLm, Registry, SlidingWindow};

#[test]
fn causal() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || Causal).agrees_with(|p| p.masked(p.k_index <= p.q_index)).shift_invariant().run()
}

#[test]
fn sliding_window() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for w in [1, 2, 5, 100, i32::MAX] {
        SchemeTest::new(&registry, || SlidingWindow::new(w))
            .agrees_with(|p| p.masked(p.q_index - i64::from(w) < p.k_index && p.k_index <= p.q_index))
            .run()?;
    }
    for w in [0, 1, 4, i32::MAX] {
        SchemeTest::new(&registry, || SlidingWindow::new(w).symmetric())
            .agrees_with(|p| p.masked((p.q_index - p.k_index).abs() <= i64::from(w)))
            .run()?;
    }
    Ok(())
}

#[test]
fn prefix_lm() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for prefix in [0, 1, 4, 1000] {
        SchemeTest::new(&registry, || PrefixLm::new(prefix))
            .agrees_with(|p| p.masked(p.k_index < i64::from(prefix) || p.k_index <= p.q_index))
            .run()?;
    }
    SchemeTest::with_inputs(&registry, |cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))
        .input("prefix", |_| Tensor::i32([2], [3, 6]))
        .agrees_with(|p| p.masked(p.k_index < [3, 6][p.batch] || p.k_index <= p.q_index))
        .run()
}

#[test]
fn key_lengths() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || KeyLengths::new(4)).agrees_with(|p| p.masked(p.k_index < 4)).run()?;
    SchemeTest::with_inputs(&registry, |cx| KeyLengths::new(cx.input("lengths", Elem::I32, [cx.b])))
        .input("lengths", |_| Tensor::i32([2], [2, 5]))
        .agrees_with(|p| p.masked(p.k_index < [2, 5][p.batch]))
        .run()
}

#[test]
fn documents() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let id = |token: i64| (token / 3) as i32;
    let keys = |shape: &Shape| Tensor::i32([shape.keys], (0..shape.keys as i64).map(id));
    let first = |shape: &Shape| shape.keys as i64 - shape.queries as i64;
    // `/` rounds towards 0, so that a query before the first key is of document 0 at index -1 and -2 too.
    let queries =
        move |shape: &Shape| Tensor::i32([shape.queries], (0..shape.queries as i64).map(|q| id(first(shape) + q)));
    SchemeTest::with_inputs(&registry, |cx| {
        let queries = cx.input("q_documents", Elem::I32, [cx.query_axis()]);
        Documents::new(queries, cx.input("k_documents", Elem::I32, [cx.key_axis()]))
    })
    .input("q_documents", queries)
    .input("k_documents", keys)
    .agrees_with(|p| p.masked(id(p.q_index) == id(p.k_index)))
    .run()?;
    // A query before the first key takes the id of the first key.
    SchemeTest::with_inputs(&registry, |cx| Documents::of_keys(cx.input("documents", Elem::I32, [cx.key_axis()])))
        .input("documents", keys)
        .agrees_with(|p| p.masked(id(p.q_index.max(0)) == id(p.k_index)))
        .run()
}

#[test]
fn chunked() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for c in [1, 3, 64] {
        let chunk = |index: i64| index.div_euclid(i64::from(c));
        SchemeTest::new(&registry, || Chunked::new(c))
            .agrees_with(|p| p.masked(chunk(p.q_index) == chunk(p.k_index)))
            .run()?;
    }
    Ok(())
}

#[test]
fn dilated() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (w, d) in [(0, 1), (6, 3), (12, 5), (2, 7)] {
        SchemeTest::new(&registry, || Dilated::new(w, d))
            .agrees_with(|p| {
                let distance = (p.q_index - p.k_index).abs();
                p.masked(distance <= i64::from(w) && distance % i64::from(d) == 0)
            })
            .run()?;
    }
    Ok(())
}
