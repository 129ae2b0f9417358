//! Schemes in text against their formulas, written out for one query and one key.

use rhumb::ir::{Attr, Attrs};
use rhumb::plugins::{AttentionParts, Registry, Scheme};
use rhumb::testing::SchemeTest;

use super::learned_tensors::{input, waves};

const SCHEMES: &str = include_str!("../../plugins/tests/written/schemes.txt");

fn registry() -> Registry {
    Registry::standard().with_text(SCHEMES).unwrap_or_else(|error| panic!("{error}"))
}

fn made(name: &str, attrs: &[(&str, Attr)]) -> Scheme {
    let attrs = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
    registry().make(name, &attrs).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn scores_are_those_of_the_formula() {
    let registry = registry();
    let test = |name: &'static str, attrs: &'static [(&'static str, f64)]| {
        SchemeTest::new(&registry, move || {
            let attrs: Vec<_> = attrs.iter().map(|(name, x)| (*name, Attr::Float(*x))).collect();
            made(name, &attrs)
        })
    };
    let run = |test: SchemeTest<'_>| test.run().unwrap_or_else(|error| panic!("{error}"));
    run(test("tilted_alibi", &[("slope", 0.25)])
        .agrees_with(|p| p.score() - 0.25 * (p.q_pos - p.k_pos).abs())
        .shift_invariant());
    run(test("buckets_of_logarithms", &[]).agrees_with(|p| {
        let bucket = (1.0 + (p.q_pos - p.k_pos).abs()).log2().floor().min(3.0);
        p.score() + [0.0, -0.5, -1.0, -1.5][bucket as usize]
    }));
    run(test("strided_text", &[]).agrees_with(|p| {
        let (q, k) = (p.q_index, p.k_index);
        p.masked(k <= q && (k.div_euclid(4) == q.div_euclid(4) || k.rem_euclid(4) == 3))
    }));
    run(test("angles", &[]).agrees_with(|p| {
        let (q, k) = (p.q_index, p.k_index);
        let (y, x) = (q.div_euclid(4) - k.div_euclid(4), q.rem_euclid(4) - k.rem_euclid(4));
        let angle = (y as f64).atan2(x as f64) / std::f64::consts::PI;
        p.score() + angle + f64::from(p.head).atan2(2.0)
    }));
    run(test("polynomial", &[]).agrees_with(|p| {
        let x = (p.q_pos - p.k_pos) / 16.0;
        p.score() - (0.5 * x * x + 0.25 * x)
    }));
}

#[test]
fn tensors_are_found_by_their_axes() {
    let registry = registry();
    let bucket_of = |distance: f64| (distance.abs() as usize).min(4);
    let make = |cx: &AttentionParts<'_>| {
        let bucket = cx.axis("distances", 5);
        let table = input(cx, "table", &[cx.h, bucket]);
        let attrs = Attrs::from([("table".to_owned(), table.value().into())]);
        registry.make("learned_distances", &attrs).unwrap_or_else(|error| panic!("{error}"))
    };
    let table = |heads: u32| waves([heads as usize, 5]);
    SchemeTest::with_inputs(&registry, make)
        .input("table", move |shape| table(shape.heads))
        .agrees_with(move |p| {
            let at = p.head as usize * 5 + bucket_of(p.q_pos - p.k_pos);
            p.score() + table(p.heads).data[at]
        })
        .run()
        .unwrap_or_else(|error| panic!("{error}"));
}
