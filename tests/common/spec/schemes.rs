//! Attentions by `Attention`: schemes, masks, options, closures.

use rhumb::plugins::schemes::alibi2d::Metric;
use rhumb::plugins::schemes::rope2d::{Bands, Coordinates, Layout as Split, Order};
use rhumb::plugins::{AlibiForm, Fire};
use rhumb::prelude::*;

use super::super::Rng;
use super::scores::{Pool, random_score};
use super::{Sizes, Spec, elem, lowered, sizes};

/// An attention under construction.
struct Draft {
    attention: Attention,
    words: Vec<String>,
    head_dim: u32,
    heads: u32,
}

impl Draft {
    /// Whether a word begins so.
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|has| has.starts_with(word))
    }

    fn with(&mut self, word: &str, change: impl FnOnce(Attention) -> Attention) {
        let attention = std::mem::replace(&mut self.attention, Attention::heads(1).head_dim(1));
        self.attention = change(attention);
        self.words.push(word.to_owned());
    }
}

/// A random attention; a wild one has positions of its own more often, and scores by closures.
pub(super) fn attention(rng: &mut Rng, wild: bool) -> Spec {
    let (mut draft, sizes) = draft(rng, wild);
    normalised(rng, &mut draft);
    let what = draft.words.join(", ");
    let graph = draft.attention.build().unwrap_or_else(|error| panic!("{what}: {error}"));
    let with_lse = draft.attention.lse().build().unwrap_or_else(|error| panic!("{what}: {error}"));
    Spec { lowered: lowered(&with_lse, &what), ..spec(graph, what, sizes) }
}

/// A random attention with weights of its own in place of the softmax.
pub(super) fn weighed(rng: &mut Rng) -> Spec {
    let (mut draft, sizes) = draft(rng, true);
    let kind = rng.below(5);
    draft.with(&format!("weights {kind}"), |a| {
        a.weights_with(move |cx, score| match kind {
            0 => score.sigmoid(),
            1 => (score - cx.builder().size(cx.k).cast(Elem::F32).log()).sigmoid(),
            2 => {
                let relu = (score * 0.1).max(0.0);
                relu * relu
            }
            3 => score * (-0.01 * (cx.q_index() - cx.k_index()).abs().cast(Elem::F32)).exp(),
            _ => score.tanh() + 0.25,
        })
    });
    let what = draft.words.join(", ");
    spec(draft.attention.build().unwrap_or_else(|error| panic!("{what}: {error}")), what, sizes)
}

fn spec(graph: Verified, what: String, sizes: Sizes) -> Spec {
    let Sizes { heads, head_dim, value_dim, small, .. } = sizes;
    let lowered = lowered(&graph, &what);
    Spec { graph, lowered, what, heads: heads as usize, elements: (head_dim + value_dim) as usize, small }
}

/// Schemes, masks and options but for those that a softmax alone has.
fn draft(rng: &mut Rng, wild: bool) -> (Draft, Sizes) {
    let sizes = sizes(rng);
    let Sizes { heads, kv_heads, head_dim, value_dim, small } = sizes;
    let attention = Attention::heads(heads).head_dim(head_dim).kv_heads(kv_heads).value_dim(value_dim);
    let words = vec![format!("{heads}/{kv_heads} heads, {head_dim}/{value_dim} elements")];
    let mut draft = Draft { attention, words, head_dim, heads };

    if small && rng.one_in(2) {
        // Where calls are long enough, keys without weight are looked for.
        alibi(rng, &mut draft);
    }
    for _ in 0..rng.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
        scheme(rng, &mut draft);
    }
    if wild && rng.one_in(2) && !draft.has("sandwich") {
        let (seed, steps) = (rng.bits(), 1 + rng.below(4));
        draft.with(&format!("{steps} steps of score {seed}"), |a| {
            a.score_with(move |cx, score| {
                let rng = &mut Rng::new(seed);
                random_score(rng, &Pool::of_attention(cx), score, steps)
            })
        });
    }
    for _ in 0..rng.pick(&[0, 1, 1, 1, 2]) {
        mask(rng, &mut draft);
    }
    options(rng, &mut draft, wild);
    elements(rng, &mut draft);
    (draft, sizes)
}

/// At times tensors of 16 bits, in any mix.
fn elements(rng: &mut Rng, draft: &mut Draft) {
    if !rng.one_in(4) {
        return;
    }
    let [query, output] = [(); 2].map(|()| elem(rng));
    let cached = |rng: &mut Rng| if rng.one_in(2) { elem(rng) } else { rng.pick(&[Elem::I8, Elem::I8, Elem::F8e4m3]) };
    let [key, value] = [(); 2].map(|()| cached(rng));
    draft.with(&format!("{query} x {key}, {value} to {output}"), |a| {
        a.query_elem(query).key_elem(key).value_elem(value).output_elem(output)
    });
    if rng.one_in(3) {
        let scales = rng.pick(&[Scales::PerToken, Scales::PerChannel]);
        if [key, value].iter().any(|elem| elem.is_input_only()) {
            draft.with(&format!("{scales:?}"), |a| a.scales(scales));
        }
    }
    if rng.one_in(3) && [key, value].contains(&Elem::I8) {
        draft.with("zero points", Attention::zero_points);
    }
}

/// What a softmax alone has.
fn normalised(rng: &mut Rng, draft: &mut Draft) {
    if rng.one_in(2) {
        draft.with("lse", Attention::lse);
    }
    match rng.below(8) {
        0 => draft.with("sinks", Attention::sinks),
        1 => draft.with("sink", |a| a.sink(0.0)),
        _ => {}
    }
}

fn options(rng: &mut Rng, draft: &mut Draft, wild: bool) {
    if rng.one_in(5) && !draft.has("sandwich") {
        draft.with("softcap", |a| a.softcap(5.0));
    }
    match rng.below(6) {
        0 => draft.with("q_offset 7", |a| a.q_offset(7)),
        1 => draft.with("q_offset", Attention::q_offset_input),
        _ => {}
    }
    if rng.one_in(6) {
        draft.with("length", Attention::length_input);
    }
    let batch = |rng: &mut Rng| rng.pick(&[Batch::Shared, Batch::Each]);
    if rng.one_in(if wild { 2 } else { 5 }) {
        let (elem, q, k) = (rng.pick(&[Elem::I32, Elem::F32]), batch(rng), batch(rng));
        draft.with(&format!("positions {elem} {q:?} {k:?}"), |a| a.q_positions(elem, q).k_positions(elem, k));
    }
    if rng.one_in(6) {
        let batch = batch(rng);
        draft.with(&format!("bias {batch:?}"), |a| a.bias(batch));
    }
}

fn scheme(rng: &mut Rng, draft: &mut Draft) {
    match rng.below(13) {
        9..=12 => other(rng, draft),
        0..=2 if draft.head_dim < 2 => {}
        0 => scaled_rope(rng, draft),
        1 | 2 => rope(rng, draft),
        3 if draft.head_dim.is_multiple_of(4) => rope2d(rng, draft),
        3 | 4 => alibi(rng, draft),
        5 => {
            let form = rng.pick(&[AlibiForm::Causal, AlibiForm::Symmetric]);
            let train = rng.between(1, 150) as i32;
            let alibi = Alibi::new().form(form);
            draft.with(&format!("dynamic alibi {train} {form:?}"), |a| a.scheme(DynamicAlibi::new(train).alibi(alibi)));
        }
        6 => {
            if draft.words.iter().any(|word| word == "alibi by slopes") {
                return;
            }
            draft.with("alibi by slopes", |a| {
                a.scheme_with(|cx| Alibi::new().slopes_value(cx.input("slopes", Elem::F32, [cx.h])))
            });
        }
        // Enough units for the kernel to tell those that bend within a tile from others.
        7 if rng.one_in(2) && !draft.has("fire") => {
            draft.with("fire", |a| {
                a.scheme_with(|cx| {
                    let unit = cx.axis("unit", 12);
                    let [w1, b1] = ["w1", "b1"].map(|name| cx.input(name, Elem::F32, [unit]));
                    Fire::new(w1, b1, cx.input("w2", Elem::F32, [cx.h, unit])).threshold(20.0)
                })
            });
        }
        7 => draft.with("log distance", |a| {
            a.score_with(|cx, score| score - 0.5 * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
        }),
        _ => {
            let buckets: Vec<f64> = (0..17).map(|i| (f64::from(i) * 0.7).sin()).collect();
            draft.with("buckets", |a| {
                a.score_with(move |cx, score| {
                    let bucket = cx.axis("bucket", buckets.len() as u32);
                    let table = cx.table(&[bucket], buckets.clone());
                    // Out of range at the ends, where gathers take the nearest.
                    score + table.gather(bucket, cx.k_index() - cx.q_index() + 8)
                })
            });
        }
    }
}

/// Schemes that take positions of any kind.
fn other(rng: &mut Rng, draft: &mut Draft) {
    match rng.below(6) {
        0 => {
            let (width, metric) = (rng.between(1, 40) as i32, rng.pick(&[Metric::Euclidean, Metric::Manhattan]));
            draft.with(&format!("alibi2d {width} {metric:?}"), |a| a.scheme(Alibi2d::grid(width).metric(metric)));
        }
        1 => {
            let numbers = |first: f64| -> Vec<f64> { (0..draft.heads).map(|h| first + f64::from(h) / 8.0).collect() };
            let mut kerple = Kerple::constant(numbers(0.1), numbers(0.3));
            if rng.one_in(2) {
                kerple = kerple.symmetric();
            }
            draft.with(&format!("kerple {:?}", kerple.attributes()), |a| a.scheme(kerple));
        }
        2 if !draft.has("window table") => {
            let (rows, columns) = (rng.between(1, 5) as i32, rng.pick(&[1, 2, 3, 5, 16, 31]));
            let class_token = rng.one_in(2);
            draft.with(&format!("window table {rows} {columns} {class_token}"), |a| {
                a.scheme_with(move |cx| {
                    let length = (2 * rows - 1) * (2 * columns - 1) + if class_token { 3 } else { 0 };
                    let table = cx.input("table", Elem::F32, [cx.builder().axis_of("offset", length as u32), cx.h]);
                    let scheme = WindowTable::new(table, rows, columns);
                    if class_token { scheme.class_token() } else { scheme }
                })
            });
        }
        3 => {
            let period = rng.between(1, 50) as i32;
            draft.with(&format!("temperature {period}"), |a| a.scheme(Temperature::llama4(period)));
        }
        // A second product.
        4 if !draft.has("sandwich") => {
            let (waves, base) = (2 * rng.between(1, 40) as u32, rng.pick(&[100.0, 1e4]));
            draft.with(&format!("sandwich {waves} {base}"), |a| a.scheme(Sandwich::new().waves(waves).base(base)));
        }
        _ => {
            let norm = rng.pick(&[QkNorm::l2(), QkNorm::rms()]);
            draft.with(&format!("{norm:?}"), |a| a.scheme(norm));
        }
    }
}

fn alibi(rng: &mut Rng, draft: &mut Draft) {
    let form = rng.pick(&[AlibiForm::Causal, AlibiForm::Symmetric, AlibiForm::Key, AlibiForm::Last]);
    draft.with(&format!("alibi {form:?}"), |a| a.scheme(Alibi::new().form(form)));
}

fn rope(rng: &mut Rng, draft: &mut Draft) {
    let whole = draft.head_dim / 2 * 2;
    let mut rope = Rope::new().base(rng.pick(&[1e4, 5e5]));
    let mut word = "rope".to_owned();
    if rng.one_in(3) {
        rope = rope.interleaved();
        word += " interleaved";
    }
    if whole != draft.head_dim || rng.one_in(3) {
        let dim = 2 * rng.between(1, i64::from(whole / 2)) as u32;
        let start = rng.below((draft.head_dim - dim + 1) as usize) as u32;
        rope = rope.rotary_dim(dim).start(start);
        word += &format!(" {dim} from {start}");
    }
    if rng.one_in(4) {
        rope = rope.query_only();
        word += " query only";
    }
    if rng.one_in(4) {
        rope = rope.offset(1000);
        word += " offset";
    }
    draft.with(&word, |a| a.scheme(rope));
}

/// A scaled rotation of all pairs that the head has, or of a part of them.
fn scaled_rope(rng: &mut Rng, draft: &mut Draft) {
    let pairs = rng.between(1, i64::from(draft.head_dim / 2)) as u32;
    let train = rng.between(1, 150) as i32;
    let word = |kind: &str| format!("{kind} of {pairs} pairs, {train}");
    match rng.below(5) {
        0 => draft.with(&word("yarn"), |a| a.scheme(Yarn::new(4.0, train).rotary_dim(2 * pairs))),
        1 => draft.with(&word("llama3"), |a| a.scheme(Llama3Rope::new().train_length(train).rotary_dim(2 * pairs))),
        2 if pairs > 1 => {
            draft.with(&word("dynamic ntk"), |a| a.scheme(DynamicNtk::new(2.0, train).rotary_dim(2 * pairs)));
        }
        3 => draft.with(&word("proportional"), |a| a.scheme(ProportionalRope::new(0.5).rotary_dim(2 * pairs))),
        _ => {
            let factors = |step: f64| (0..pairs).map(|j| 1.0 + step * f64::from(j)).collect::<Vec<f64>>();
            let rope = LongRope::new(train, factors(0.1), factors(0.75)).attention_factor(1.25).interleaved();
            draft.with(&word("longrope"), |a| a.scheme(rope.rotary_dim(2 * pairs)));
        }
    }
}

fn rope2d(rng: &mut Rng, draft: &mut Draft) {
    let (rows, columns) = (rng.between(1, 15) as i32, rng.between(1, 15) as i32);
    let mut rope = Rope2d::grid(rows, columns).prefix(rng.below(3) as u32);
    let mut word = format!("rope2d {rows}x{columns}");
    if rng.one_in(2) {
        rope = rope.interleaved();
        word += " interleaved";
    }
    match rng.below(5) {
        0 => rope = rope.coordinates(Coordinates::Centres).scale(6.0),
        1 => rope = rope.bands(Bands::Alternating),
        2 => rope = rope.order(Order::Xy),
        3 => rope = rope.layout(Split::Split),
        _ => {}
    }
    word += &format!(" {:?}", rope.attributes());
    draft.with(&word, |a| a.scheme(rope));
}

fn mask(rng: &mut Rng, draft: &mut Draft) {
    let heads = draft.heads as i32;
    match rng.below(15) {
        12..=14 => pattern(rng, draft),
        0..=3 => draft.with("causal", |a| a.scheme(Causal)),
        4 => {
            let (window, symmetric) = (rng.between(1, 80) as i32, rng.one_in(2));
            let mask = SlidingWindow::new(window);
            let mask = if symmetric { mask.symmetric() } else { mask };
            draft.with(&format!("window {window} {symmetric}"), |a| a.scheme(mask));
        }
        5 if !draft.has("prefix") => {
            draft.with("prefix", |a| a.scheme_with(|cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b]))));
        }
        5 => draft.with("prefix 9", |a| a.scheme(PrefixLm::new(9))),
        6 => draft.with("key lengths", Attention::key_lengths),
        7 => {
            let batch = rng.pick(&[Batch::Shared, Batch::Each]);
            draft.with(&format!("documents {batch:?}"), |a| a.documents(batch));
        }
        8 => {
            let chunk = rng.between(1, 60) as i32;
            draft.with(&format!("chunks of {chunk}, causal"), |a| a.scheme(Chunked::new(chunk)).scheme(Causal));
        }
        9 => {
            let (window, step) = (rng.between(1, 40) as i32, rng.between(1, 5) as i32);
            draft.with(&format!("dilated {window} by {step}"), |a| a.scheme(Dilated::new(window, step)));
        }
        10 => draft.with("every third key or near", |a| {
            a.mask_with(|cx| (cx.k_index() % 3).eq(0) | (cx.q_index() - cx.k_index()).abs().lt(5))
        }),
        _ => draft.with("a window by head", |a| {
            a.mask_with(move |cx| {
                let window = (cx.head().expect("heads") + 1) * (64 / heads);
                (cx.q_index() - cx.k_index()).lt(window) & cx.k_index().ne(2)
            })
        }),
    }
}

/// Masks of images, blocks and sets of distances.
fn pattern(rng: &mut Rng, draft: &mut Draft) {
    let (rows, columns) = (rng.between(1, 12) as i32, rng.between(1, 12) as i32);
    match rng.below(6) {
        0 => {
            let window = rng.below(rows.min(columns).div_euclid(2) as usize + 1) as i32 * 2 + 1;
            let window = window.min((rows.min(columns) - 1) / 2 * 2 + 1);
            let mask = Neighbourhood::new(rows, columns, window);
            draft.with(&format!("{mask:?}"), |a| a.scheme(mask));
        }
        1 => {
            let window = rng.between(1, 5) as i32;
            let mask =
                ShiftedWindow::new(rows * window, columns * window, window).shift(rng.below(window as usize) as i32);
            let mask = if rng.one_in(2) { mask.penalty(100.0) } else { mask };
            draft.with(&format!("{mask:?}"), |a| a.scheme(mask));
        }
        2 => {
            let layout: Vec<bool> = (0..rows * columns).map(|_| !rng.one_in(3)).collect();
            let mask = BlockSparse::new(layout, columns, rng.between(1, 40) as i32);
            draft.with(&format!("{mask:?}"), |a| a.scheme(mask));
        }
        3 => {
            let mask = BlockDiffusion::new(rng.between(1, 100) as i32, rows);
            draft.with(&format!("{mask:?}"), |a| a.scheme(mask));
        }
        4 => draft.with(&format!("strided {rows}"), |a| a.scheme(Strided::new(rows))),
        _ => {
            let offsets = OffsetSet::log_sparse(rng.between(1, 200) as u32);
            draft.with(&format!("{offsets:?}"), |a| a.scheme(offsets));
        }
    }
}
