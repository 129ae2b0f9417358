//! Every mask against its predicate over token indices.

use rhumb::ir::{Elem, Tensor};
use rhumb::plugins::{
    BlockDiffusion, BlockSparse, Causal, Chunked, Dilated, Documents, KeyLengths, Neighbourhood, OffsetSet, PrefixLm,
    Registry, ShiftedWindow, SlidingWindow, Strided, TokenTree,
};
use rhumb::testing::{SchemeTest, Shape, TestFailure};

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

#[test]
fn strided() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for s in [1, 3, 50] {
        SchemeTest::new(&registry, || Strided::new(s))
            .agrees_with(|p| {
                let distance = (p.q_index - p.k_index).abs();
                p.masked(distance < i64::from(s) || distance % i64::from(s) == 0)
            })
            .run()?;
    }
    Ok(())
}

#[test]
fn offsets() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for list in [vec![0], vec![3, 0, 7], vec![5]] {
        SchemeTest::new(&registry, || OffsetSet::new(list.clone()))
            .agrees_with(|p| p.masked(list.iter().any(|offset| p.q_index - p.k_index == i64::from(*offset))))
            .run()?;
    }
    SchemeTest::new(&registry, || OffsetSet::log_sparse(8))
        .agrees_with(|p| p.masked([0, 1, 2, 4, 8].contains(&(p.q_index - p.k_index))))
        .run()
}

/// An image's tokens, and no others.
const IMAGES: [Shape; 2] = [
    Shape { heads: 2, kv_heads: 1, head_dim: 8, queries: 24, keys: 24 },
    Shape { heads: 1, kv_heads: 1, head_dim: 8, queries: 5, keys: 24 },
];

#[test]
fn neighbourhoods() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for n in [1, 3] {
        SchemeTest::new(&registry, || Neighbourhood::new(4, 6, n))
            .shapes(&IMAGES)
            .agrees_with(|p| {
                let sees = |q: i64, k: i64, length: i64| {
                    let reach = i64::from(n / 2);
                    (q.clamp(reach, length - 1 - reach) - k).abs() <= reach
                };
                p.masked(sees(p.q_index / 6, p.k_index / 6, 4) && sees(p.q_index % 6, p.k_index % 6, 6))
            })
            .run()?;
    }
    Ok(())
}

#[test]
fn shifted_windows() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (shift, penalty) in [(0, None), (1, None), (1, Some(100.0)), (0, Some(100.0))] {
        SchemeTest::new(&registry, || {
            let scheme = ShiftedWindow::new(4, 6, 2).shift(shift);
            penalty.map_or(scheme, |penalty| scheme.penalty(penalty))
        })
        .shapes(&IMAGES)
        .agrees_with(|p| {
            // By the regions that Swin numbers: those before the last window, the last window's near part, its far part.
            let region = |x: i64, n: i64| match x {
                x if x < n - 2 => 0,
                x if x < n - i64::from(shift) => 1,
                _ => 2,
            };
            let place = |index: i64| {
                let rolled = |x: i64, n: i64| (x - i64::from(shift)).rem_euclid(n);
                let (y, x) = (rolled(index / 6, 4), rolled(index % 6, 6));
                ((y / 2, x / 2), (region(y, 4), region(x, 6)))
            };
            let ((q_window, q_region), (k_window, k_region)) = (place(p.q_index), place(p.k_index));
            let hidden = shift > 0 && q_region != k_region;
            match penalty {
                Some(penalty) if hidden && q_window == k_window => p.score() - penalty,
                _ => p.masked(q_window == k_window && (!hidden || penalty.is_some())),
            }
        })
        .run()?;
    }
    Ok(())
}

#[test]
fn block_sparse() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let layout = [true, false, true, false, true, false];
    SchemeTest::new(&registry, || BlockSparse::new(layout, 3, 4))
        .agrees_with(|p| {
            let block = |index: i64, last: i64| index.div_euclid(4).clamp(0, last) as usize;
            p.masked(layout[3 * block(p.q_index, 1) + block(p.k_index, 2)])
        })
        .run()
}

#[test]
fn block_diffusion() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || BlockDiffusion::new(12, 3))
        .shapes(&IMAGES)
        .agrees_with(|p| {
            let block = |index: i64| index % 12 / 3;
            let (q, k) = (block(p.q_index), block(p.k_index));
            p.masked(match (p.q_index < 12, p.k_index < 12) {
                (true, true) => q == k,
                (true, false) => k < q,
                (false, true) => false,
                (false, false) => k <= q,
            })
        })
        .run()
}

#[test]
fn trees() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let parents = [None, Some(0), None, Some(0), Some(1), Some(1), Some(2)];
    SchemeTest::new(&registry, || TokenTree::new(parents))
        .shapes(&IMAGES)
        .agrees_with(|p| {
            let first = p.length - 7;
            let (query, key) = (p.q_index - first, p.k_index - first);
            let mut node = usize::try_from(query).ok();
            let mut seen = key < 0;
            while let Some(at) = node {
                seen |= at as i64 == key;
                node = parents[at].map(|parent: u32| parent as usize);
            }
            p.masked(seen)
        })
        .run()
}
