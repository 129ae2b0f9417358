//! Random attentions, and random tensors for them.

use rhumb::plugins::AlibiForm;
use rhumb::plugins::schemes::rope2d::{Bands, Coordinates, Layout as Split, Order};
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

use super::{Layout, Rng, Tensor, Tensors};

/// A random attention, with a word for each choice.
pub(crate) struct Spec {
    pub(crate) graph: Verified,
    /// The same with the output `lse` at any rate.
    pub(crate) with_lse: Verified,
    pub(crate) what: String,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// Lengths of the axes that calls tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
}

const SIZES: [usize; 18] = [0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 130, 200];

impl Lengths {
    /// Lengths that hold the work for the interpreter in bounds.
    pub(crate) fn random(rng: &mut Rng, spec: &Spec) -> Lengths {
        let size = |rng: &mut Rng| if rng.one_in(2) { rng.pick(&SIZES) } else { rng.below(201) };
        let mut lengths = Lengths { batch: 1 + rng.below(3), queries: size(rng), keys: size(rng) };
        if rng.one_in(4) {
            lengths.keys = lengths.queries;
        }
        let work = |l: Lengths| l.batch * spec.heads * l.queries * l.keys * (spec.head_dim + 16);
        while work(lengths) > 1_000_000 {
            match rng.below(3) {
                0 => lengths.batch = 1,
                1 => lengths.queries = lengths.queries * 2 / 3,
                _ => lengths.keys = lengths.keys * 2 / 3,
            }
        }
        lengths
    }

    fn shape(self, interface: &Interface, port: &Port) -> Vec<usize> {
        let length = |axis: &Axis| {
            let info = &interface.axes()[axis.index()];
            match (info.extent, info.name.as_str()) {
                (rhumb::ir::Extent::Static(length), _) => length as usize,
                (_, "b") => self.batch,
                (_, "q") => self.queries,
                (_, "k") => self.keys,
                (_, name) => panic!("axis `{name}`"),
            }
        };
        port.dims.iter().map(length).collect()
    }
}

/// Tensors for every input, row-major.
pub(crate) fn inputs(rng: &mut Rng, interface: &Interface, lengths: Lengths) -> Tensors {
    let mut tensor = |port: &Port| {
        let shape = lengths.shape(interface, port);
        let count: usize = shape.iter().product();
        let keys = lengths.keys as i64;
        let (low, high) = match port.name.as_str() {
            "q_pos" | "k_pos" => (0, 300),
            "key_lengths" => (0, keys + 2),
            "prefix" => (0, keys.max(1)),
            "q_documents" | "k_documents" => (0, 2),
            "q_offset" => (-3, keys + 3),
            "length" => (1, 300),
            // Integers of any size, 0 and the lowest among them.
            "z" => (-1, 1),
            name => {
                assert_eq!(port.elem, Elem::F32, "`{name}`");
                let data: Vec<f32> = match name {
                    "slopes" => (0..count).map(|_| rng.unit() as f32).collect(),
                    _ => rng.normals(count),
                };
                return (port.name.clone(), Tensor::f32(shape, data));
            }
        };
        let mut numbers: Vec<i32> = (0..count).map(|_| rng.between(low, high) as i32).collect();
        if rng.one_in(2) {
            numbers.sort_unstable();
        }
        if port.name == "z" {
            numbers.iter_mut().for_each(|x| *x = [i32::MIN, 0, i32::MAX][(*x + 1) as usize]);
        }
        let tensor = match port.elem {
            Elem::F32 => Tensor::f32(shape, numbers.iter().map(|x| *x as f32 / 4.0).collect::<Vec<_>>()),
            _ => Tensor::i32(shape, numbers),
        };
        (port.name.clone(), tensor)
    };
    interface.inputs().iter().map(&mut tensor).collect()
}

/// The same tensors, each in a random layout.
pub(crate) fn scattered(rng: &mut Rng, tensors: &Tensors) -> Tensors {
    let layout = |rng: &mut Rng, tensor: &Tensor| Layout::random(rng, tensor.shape().len(), false);
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.stored(&layout(rng, tensor)))).collect()
}

/// Unwritten tensors for every output, each in the layout that `layout` gives its rank.
pub(crate) fn outputs(interface: &Interface, lengths: Lengths, mut layout: impl FnMut(usize) -> Layout) -> Tensors {
    let tensor = |port: &Port| {
        let tensor = Tensor::unwritten(&lengths.shape(interface, port), &layout(port.dims.len()));
        (port.name.clone(), tensor)
    };
    interface.outputs().iter().map(tensor).collect()
}

/// An attention under construction.
struct Draft {
    attention: Attention,
    words: Vec<String>,
    head_dim: u32,
    heads: u32,
}

impl Draft {
    fn with(&mut self, word: &str, change: impl FnOnce(Attention) -> Attention) {
        let attention = std::mem::replace(&mut self.attention, Attention::new(1, 1));
        self.attention = change(attention);
        self.words.push(word.to_owned());
    }
}

impl Spec {
    pub(crate) fn random(rng: &mut Rng) -> Spec {
        let heads = rng.pick(&[1u32, 2, 3, 4, 6, 8]);
        let kv_heads = rng.pick(&(1..=heads).filter(|n| heads.is_multiple_of(*n)).collect::<Vec<u32>>());
        let odd_dim = rng.between(8, 160) as u32;
        let head_dim = rng.pick(&[8, 16, 20, 32, 40, 64, 80, 128, 160, odd_dim]);
        let odd_dim = rng.between(1, 160) as u32;
        let value_dim = if rng.one_in(3) { rng.pick(&[8, 24, 64, odd_dim]) } else { head_dim };
        let attention = Attention::new(heads, head_dim).kv_heads(kv_heads).value_dim(value_dim);
        let words = vec![format!("{heads}/{kv_heads} heads, {head_dim}/{value_dim} elements")];
        let mut draft = Draft { attention, words, head_dim, heads };

        for _ in 0..rng.pick(&[0, 1, 1, 1, 1, 2, 2]) {
            scheme(rng, &mut draft);
        }
        for _ in 0..rng.pick(&[0, 1, 1, 1, 2]) {
            mask(rng, &mut draft);
        }
        options(rng, &mut draft);
        let what = draft.words.join(", ");
        let graph = draft.attention.build().unwrap_or_else(|error| panic!("{what}: {error}"));
        let with_lse = draft.attention.lse().build().unwrap_or_else(|error| panic!("{what}: {error}"));
        Spec { graph, with_lse, what, heads: heads as usize, head_dim: head_dim as usize }
    }
}

fn options(rng: &mut Rng, draft: &mut Draft) {
    if rng.one_in(2) {
        draft.with("lse", Attention::lse);
    }
    if rng.one_in(5) {
        draft.with("softcap", |a| a.softcap(5.0));
    }
    match rng.below(8) {
        0 => draft.with("sinks", Attention::sinks),
        1 => draft.with("sink", |a| a.sink(0.0)),
        _ => {}
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
    if rng.one_in(5) {
        let (elem, q, k) = (rng.pick(&[Elem::I32, Elem::F32]), batch(rng), batch(rng));
        draft.with(&format!("positions {elem} {q:?} {k:?}"), |a| a.q_positions(elem, q).k_positions(elem, k));
    }
    if rng.one_in(6) {
        let batch = batch(rng);
        draft.with(&format!("bias {batch:?}"), |a| a.bias(batch));
    }
}

fn scheme(rng: &mut Rng, draft: &mut Draft) {
    match rng.below(9) {
        0..=2 => rope(rng, draft),
        3 if draft.head_dim.is_multiple_of(4) => rope2d(rng, draft),
        3 | 4 => {
            let form = rng.pick(&[AlibiForm::Causal, AlibiForm::Symmetric, AlibiForm::Key, AlibiForm::Last]);
            draft.with(&format!("alibi {form:?}"), |a| a.scheme(Alibi::new().form(form)));
        }
        5 => {
            let form = rng.pick(&[AlibiForm::Causal, AlibiForm::Symmetric]);
            let train = rng.between(1, 150);
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

fn rope2d(rng: &mut Rng, draft: &mut Draft) {
    let (rows, columns) = (rng.between(1, 15), rng.between(1, 15));
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
    let has = |draft: &Draft, word: &str| draft.words.iter().any(|has| has.starts_with(word));
    let heads = draft.heads as i32;
    match rng.below(12) {
        0..=3 => draft.with("causal", |a| a.scheme(Causal)),
        4 => {
            let (window, symmetric) = (rng.between(1, 80), rng.one_in(2));
            let mask = SlidingWindow::new(window);
            let mask = if symmetric { mask.symmetric() } else { mask };
            draft.with(&format!("window {window} {symmetric}"), |a| a.scheme(mask));
        }
        5 if !has(draft, "prefix") => {
            draft.with("prefix", |a| a.scheme_with(|cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b]))));
        }
        5 => draft.with("prefix 9", |a| a.scheme(PrefixLm::new(9))),
        6 => draft.with("key lengths", Attention::key_lengths),
        7 => {
            let batch = rng.pick(&[Batch::Shared, Batch::Each]);
            draft.with(&format!("documents {batch:?}"), |a| a.documents(batch));
        }
        8 => {
            let chunk = rng.between(1, 60);
            draft.with(&format!("chunks of {chunk}, causal"), |a| a.scheme(Chunked::new(chunk)).scheme(Causal));
        }
        9 => {
            let (window, step) = (rng.between(1, 40), rng.between(1, 5));
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
