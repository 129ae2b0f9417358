//! Graphs of one's own: operands over any axes, in any order.

use rhumb::ir::AxisSet;
use rhumb::prelude::*;

use super::super::Rng;
use super::scores::{Pool, random_score};
use super::{Sizes, Spec, elem, lowered, sizes};

/// An input: name, element type, names of axes in the order of its dimensions.
type Operand = (String, Elem, Vec<&'static str>);

/// What is drawn before anything is built, so that a graph can be built again with `lse`.
struct Draft {
    sizes: Sizes,
    operands: Vec<Operand>,
    /// Axes in the order in which they are declared.
    axes: Vec<&'static str>,
    steps: usize,
    lse: bool,
    /// What decides about all that is built.
    seed: u64,
}

pub(super) fn attention(rng: &mut Rng) -> Spec {
    let sizes = sizes(rng);
    let operands = operands(rng);
    let mut axes: Vec<&'static str> = Vec::new();
    for axis in operands.iter().flat_map(|(.., dims)| dims) {
        if !axes.contains(axis) {
            axes.push(axis);
        }
    }
    // The axis of groups comes after that of heads, which it names.
    let mut axes = rng.shuffled(axes);
    if let (Some(g), Some(h)) = (axes.iter().position(|axis| *axis == "g"), axes.iter().position(|axis| *axis == "h"))
        && g < h
    {
        axes.swap(g, h);
    }
    let (steps, lse, seed) = (rng.pick(&[0, 0, 1, 1, 2, 3]), rng.one_in(2), rng.bits());
    let draft = Draft { sizes, operands, axes, steps, lse, seed };
    let (graph, words) = draft.build(draft.lse, false);
    let Sizes { heads, kv_heads, head_dim, value_dim, small } = draft.sizes;
    let dims: Vec<String> =
        draft.operands.iter().map(|(name, _, dims)| format!("{name}[{}]", dims.join(", "))).collect();
    let what = format!("own, {heads}/{kv_heads} heads, {head_dim}/{value_dim} elements, {}, {words}", dims.join(", "));
    let graph = graph.unwrap_or_else(|error| panic!("{what}: {error}"));
    let with_lse = draft.build(true, true).0.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (lowered, elements) = (lowered(&with_lse, &what), (head_dim + value_dim) as usize);
    Spec { graph, lowered, what, heads: heads as usize, elements, small }
}

/// Some of these, in any order.
fn some(rng: &mut Rng, always: &[&'static str], others: &[&'static str], one_in: usize) -> Vec<&'static str> {
    let mut dims = always.to_vec();
    dims.extend(others.iter().filter(|_| !rng.one_in(one_in)));
    rng.shuffled(dims)
}

fn operands(rng: &mut Rng) -> Vec<Operand> {
    let batch: &[&'static str] = if rng.one_in(4) { &[] } else { &["b"] };
    let (heads, kv): (&[&'static str], &'static str) = match rng.below(4) {
        0 => (&[], "h"),
        1 | 2 => (&["h"], "g"),
        _ => (&["h"], "h"),
    };
    let kv: &[&'static str] = if heads.is_empty() { &[] } else { &[kv] };
    let with = |other: &[&'static str]| [batch, other].concat();
    let mut operands: Vec<Operand> = vec![
        ("q".to_owned(), Elem::F32, some(rng, &["q", "d"], &with(heads), 4)),
        ("k".to_owned(), Elem::F32, some(rng, &["k", "d"], &with(kv), 4)),
        ("v".to_owned(), Elem::F32, some(rng, &["k", "e"], &with(kv), 4)),
    ];
    // Positions, or the indices themselves.
    if rng.one_in(2) {
        let elem = rng.pick(&[Elem::I32, Elem::F32]);
        operands.push(("q_pos".to_owned(), elem, some(rng, &["q"], batch, 2)));
        operands.push(("k_pos".to_owned(), elem, some(rng, &["k"], batch, 2)));
    }
    for index in 0..rng.pick(&[0, 1, 1, 2, 3]) {
        let heads = if rng.one_in(2) { heads } else { kv };
        let dims = some(rng, &[], &[&with(heads)[..], &["q", "k"]].concat(), 2);
        operands.push((format!("x{index}"), Elem::F32, dims));
    }
    if rng.one_in(3) {
        let heads = if rng.one_in(2) { heads } else { kv };
        operands.push(("m0".to_owned(), Elem::Bool, some(rng, &[], &[&with(heads)[..], &["q", "k"]].concat(), 2)));
    }
    if rng.one_in(4) {
        operands.push(("q_documents".to_owned(), Elem::I32, some(rng, &["q"], batch, 2)));
        operands.push(("k_documents".to_owned(), Elem::I32, some(rng, &["k"], batch, 2)));
    }
    if rng.one_in(4) {
        operands.push(("at0".to_owned(), Elem::I32, some(rng, &[], &[heads, &["k", "q"]].concat(), 2)));
        operands.push(("t0".to_owned(), Elem::F32, some(rng, &["t"], heads, 2)));
    }
    if rng.one_in(5) {
        operands.push(("sink".to_owned(), Elem::F32, some(rng, &[], heads, 2)));
    }
    if rng.one_in(4) {
        // Those that are no positions, in 16 bits or not.
        for (name, of, _) in &mut operands {
            if *of == Elem::F32 && !name.ends_with("_pos") {
                *of = elem(rng);
            }
        }
    }
    if rng.one_in(4) {
        // Keys as caches hold them, each with a number that scales it.
        operands[1].1 = rng.pick(&[Elem::I8, Elem::F8e4m3, Elem::F16, Elem::Bf16]);
        let dims = if rng.one_in(5) { some(rng, &["d"], kv, 3) } else { some(rng, &["k"], &with(kv), 3) };
        operands.push(("k_scale".to_owned(), Elem::F32, dims));
    }
    // Groups are of heads: these are somewhere, and not in the same tensor.
    let has = |operands: &[Operand], axis| operands.iter().any(|(.., dims)| dims.contains(&axis));
    if has(&operands, "g") && !has(&operands, "h") {
        operands[0].2.push("h");
    }
    operands
}

/// At times a second sum by the same weights, of one number for each key, or an output that is computed of the two; with a word for it.
fn more_sums<'g>(
    rng: &mut Rng,
    builder: &'g GraphBuilder,
    (weights, out): (Expr<'g>, Expr<'g>),
    (column, k): (Expr<'g>, Axis),
) -> &'static str {
    let drawn = rng.below(8);
    if drawn > 1 {
        return "";
    }
    let sum = weights.dot(column.cast(Elem::F32), k);
    let (name, value) = if drawn == 0 { ("sum", sum) } else { ("quotient", out / (sum.abs() + 1.0)) };
    let dims = rng.shuffled(value.ty().axes.iter().collect::<Vec<Axis>>());
    builder.output(name, value, dims);
    if drawn == 0 { "another sum, " } else { "a quotient of sums, " }
}

/// A graph under construction.
struct Build<'g> {
    builder: &'g GraphBuilder,
    axes: Vec<(&'static str, Axis)>,
    inputs: Vec<(String, Expr<'g>)>,
}

impl<'g> Build<'g> {
    fn axis(&self, name: &str) -> Option<Axis> {
        self.axes.iter().find(|(other, _)| *other == name).map(|(_, axis)| *axis)
    }

    fn input(&self, name: &str) -> Option<Expr<'g>> {
        self.inputs.iter().find(|(other, _)| other == name).map(|(_, x)| *x)
    }

    fn starting(&self, letter: char) -> impl Iterator<Item = Expr<'g>> {
        self.inputs.iter().filter(move |(name, _)| name.starts_with(letter)).map(|(_, x)| *x)
    }
}

impl Draft {
    fn build(&self, lse: bool, always: bool) -> (Result<Verified, VerifyError>, String) {
        let builder = GraphBuilder::new("own");
        let Sizes { heads, kv_heads, head_dim, value_dim, .. } = self.sizes;
        let mut axes: Vec<(&'static str, Axis)> = Vec::new();
        for name in &self.axes {
            let axis = match *name {
                "h" => builder.axis_of("h", heads),
                "g" => {
                    let h = axes.iter().find(|(other, _)| *other == "h").expect("heads come first").1;
                    builder.groups("g", kv_heads, h)
                }
                "d" => builder.axis_of("d", head_dim),
                "e" => builder.axis_of("e", value_dim),
                "t" => builder.axis_of("t", 9),
                name => builder.axis(name),
            };
            axes.push((name, axis));
        }
        let dims = |names: &[&str]| -> Vec<Axis> {
            names.iter().map(|name| axes.iter().find(|(other, _)| other == name).expect("declared").1).collect()
        };
        let inputs = self.operands.iter().map(|(name, elem, of)| (name.clone(), builder.input(name, *elem, dims(of))));
        let inputs = inputs.collect();
        let build = Build { builder: &builder, axes, inputs };
        let words = self.fill(&build, lse, always);
        (builder.finish(), words)
    }

    /// Score, mask, average and outputs.
    fn fill(&self, build: &Build<'_>, lse: bool, always: bool) -> String {
        let (rng, builder) = (&mut Rng::new(self.seed), build.builder);
        let [q, k, d] = ["q", "k", "d"].map(|axis| build.axis(axis).expect("always there"));
        let input = |name| build.input(name).expect("always there");
        let scale = 1.0 / f64::from(self.sizes.head_dim).sqrt();
        let query = input("q");
        let key = match build.input("k_scale") {
            // Scales are of integers.
            Some(scale) if input("k").ty().elem != Elem::I8 => input("k").cast(Elem::F32) * (scale * 64.0),
            Some(scale) => input("k").cast(Elem::F32) * scale,
            None => input("k"),
        };
        let product = if rng.one_in(2) { query.dot(key, d) } else { key.dot(query, d) };
        let mut score = product * scale;

        let (keys, queries) = (builder.size(k), builder.size(q));
        let (i, j) = (builder.iota(q) + (keys - queries), builder.iota(k));
        let (q_pos, k_pos) = (build.input("q_pos").unwrap_or(i), build.input("k_pos").unwrap_or(j));
        let mut terms: Vec<Expr<'_>> = build.starting('x').collect();
        terms.extend([(q_pos - k_pos).cast(Elem::F32), (j % 7).cast(Elem::F32)]);
        if let (Some(at), Some(table), Some(t)) = (build.input("at0"), build.input("t0"), build.axis("t")) {
            terms.push(table.gather(t, at));
        }
        for name in ["h", "g"] {
            // Not heads and their groups in one tensor: both would be of the finer.
            if let Some(axis) = build.axis(name) {
                terms.push((builder.iota(axis) + 1).cast(Elem::F32) * 0.1);
            }
        }
        // All inputs are used, so that their axes are those of the result.
        for x in build.starting('x') {
            score = score + x;
        }
        let pool = Pool { terms, tests: vec![i.ge(j), (j % 3).eq(0), q_pos.lt(k_pos)] };
        score = random_score(rng, &pool, score, self.steps);
        if let (Some(at), true) = (build.input("at0"), self.steps == 0) {
            let (table, t) = (input("t0"), build.axis("t").expect("of the table"));
            score = score + table.gather(t, at);
        }

        let (mask, mut words) = self.mask(rng, build, (i, j));
        if let Some(mask) = mask {
            score = score.mask(mask);
        }
        let sink = build.input("sink");
        let weights = match sink {
            Some(sink) => score.softmax_with_sink(k, sink),
            None => score.softmax(k),
        };
        let out = weights.dot(input("v"), k);
        let mut dims = |axes: AxisSet| rng.shuffled(axes.iter().collect::<Vec<Axis>>());
        let (of_out, of_lse) = (dims(out.ty().axes), dims(weights.ty().axes.without(k)));
        builder.output("out", out, of_out.clone());
        // Not where the average varies over more than the score does: such outputs are refused together.
        let apart = out.ty().axes.iter().any(|axis| Some(axis) != build.axis("e") && !weights.ty().axes.contains(axis));
        if lse && (always || !apart) {
            builder.output("lse", score.log_sum_exp(k, sink), of_lse);
        }
        if !apart {
            words += more_sums(rng, builder, (weights, out), (j % 5 - 2, k));
        }
        let name = |axis: &Axis| builder.axis_info(*axis).map_or_else(String::new, |info| info.name);
        words += &format!("{} steps, out[{}]", self.steps, of_out.iter().map(name).collect::<Vec<_>>().join(", "));
        words
    }

    fn mask<'g>(&self, rng: &mut Rng, build: &Build<'g>, (i, j): (Expr<'g>, Expr<'g>)) -> (Option<Expr<'g>>, String) {
        let (mut masks, mut words): (Vec<Expr<'g>>, String) = (build.starting('m').collect(), String::new());
        for x in &masks {
            words += &format!("a mask of {} axes, ", x.ty().axes.len());
        }
        if let (Some(q), Some(k)) = (build.input("q_documents"), build.input("k_documents")) {
            masks.push(q.eq(k));
        }
        let window = rng.between(1, 60) as i32;
        let drawn = match rng.below(6) {
            0 | 1 => Some(("causal", i.ge(j))),
            2 => Some(("window", i.ge(j) & (i - j).lt(window))),
            3 => Some(("near", (i - j).abs().le(window))),
            4 => build.axis("h").map(|h| ("by head", (build.builder.iota(h) * 9 + 3).gt(i - j))),
            _ => None,
        };
        if let Some((word, mask)) = drawn {
            masks.push(mask);
            words += &format!("{word} {window}, ");
        }
        (masks.into_iter().reduce(|a, b| a & b), words)
    }
}
