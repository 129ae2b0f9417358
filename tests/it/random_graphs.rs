//! Graphs that no one wrote: whatever they are, nothing panics, and where they compile they compute what the interpreter does.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::bound::furthest;
use crate::common::graphs::{OUT, mutated, random_graph, random_score, text};
use crate::common::seeds::{Found, each_seed};
use crate::common::visible::bindings;
use crate::common::{Rng, Tensor, Tensors, run, seeds, targets};
use rhumb::ir::{Attr, Attrs, Extent, Graph, interpret_value};
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

/// Random graphs, and attentions of random scores, unless `RHUMB_CASES` says otherwise.
const GRAPHS: u64 = 300;
const SCORES: u64 = 150;

/// Whether compiling (not running) panics; the message if it does.
fn panics(engine: &Engine, text: &str) -> bool {
    let attempt = catch_unwind(AssertUnwindSafe(|| match Graph::parse(text) {
        Ok(graph) => {
            // What compiles or not, and what is wrong, is printed without a panic too.
            match engine.compile(&graph) {
                Ok(kernel) => format!("{kernel:?}{}", kernel.plan()),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error.to_string(),
    }));
    attempt.is_err()
}

#[test]
fn mutated_graphs_never_panic() {
    let engine = Engine::builder().threads(1).cache_capacity(0).build().expect("an engine");
    let attention =
        Attention::heads(4).head_dim(8).kv_heads(2).scheme(Rope::new()).scheme(SlidingWindow::new(5)).softcap(3.0);
    let graphs = [
        attention.lse().build().expect("a graph").to_string(),
        Attention::heads(2)
            .head_dim(8)
            .scheme(Alibi::new())
            .scheme(Causal)
            .sinks()
            .build()
            .expect("a graph")
            .to_string(),
        Attention::heads(2).head_dim(8).scheme(Rope2d::grid(3, 3)).key_lengths().build().expect("a graph").to_string(),
        text(&format!("%x = add %s, %s\n{OUT}")),
    ];
    let mut rng = Rng::new(1);
    let (mut parsed, mut compiled) = (0, 0);
    for case in 0..800 {
        let rng = &mut rng;
        let text = mutated(rng, &graphs);
        assert!(!panics(&engine, &text), "case {case} panics:\n{text}");
        if let Ok(graph) = Graph::parse(&text) {
            parsed += 1;
            compiled += usize::from(engine.compile(&graph).is_ok());
        }
    }
    println!("of 800 mutated texts {parsed} are graphs, of which {compiled} compile");
    assert!(parsed >= 50 && compiled >= 30, "mutations spare too little: {parsed} parse, {compiled} compile");
}

/// A call's lengths of axes by name.
fn lengths(rng: &mut Rng) -> BTreeMap<&'static str, usize> {
    BTreeMap::from([("b", 1 + rng.below(2)), ("q", rng.below(22)), ("k", 1 + rng.below(45))])
}

fn shape(interface: &Interface, port: &Port, lengths: &BTreeMap<&str, usize>) -> Vec<usize> {
    let length = |axis: &Axis| match &interface.axes()[axis.index()] {
        info if matches!(info.extent, Extent::Dynamic) => lengths[info.name.as_str()],
        info => match info.extent {
            Extent::Static(length) => length as usize,
            Extent::Dynamic => unreachable!(),
        },
    };
    port.dims.iter().map(length).collect()
}

/// Tensors for all inputs: normal numbers, small integers and those at the ends of their range, truth values.
fn inputs(rng: &mut Rng, interface: &Interface, lengths: &BTreeMap<&str, usize>) -> Tensors {
    let mut tensor = |port: &Port| {
        let shape = shape(interface, port, lengths);
        let count = shape.iter().product();
        let mut int = || if rng.one_in(6) { rng.pick(&[i32::MIN, i32::MAX, 0]) } else { rng.between(-9, 9) as i32 };
        let tensor = match port.elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => {
                Tensor::f32(shape, rng.normals(count)).rounded(port.elem)
            }
            Elem::I8 => Tensor::f32(shape, (0..count).map(|_| rng.between(-128, 127) as f32).collect::<Vec<_>>())
                .rounded(Elem::I8),
            Elem::I32 => Tensor::i32(shape, (0..count).map(|_| int()).collect::<Vec<_>>()),
            // Any byte but 0 is true.
            Elem::Bool => Tensor::bool(shape, (0..count).map(|_| !rng.one_in(3)).collect::<Vec<_>>()),
        };
        (port.name.clone(), tensor)
    };
    interface.inputs().iter().map(&mut tensor).collect()
}

fn unwritten(interface: &Interface, lengths: &BTreeMap<&str, usize>) -> Tensors {
    let tensor = |port: &Port| {
        (port.name.clone(), Tensor::unwritten(&shape(interface, port, lengths), &crate::common::Layout::Rows))
    };
    interface.outputs().iter().map(tensor).collect()
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    elements: usize,
    /// Elements that nothing is promised of.
    unlimited: usize,
}

/// Whether an integer that outputs are made of is so large that rewritten sums may wrap where these do not.
fn near_wrapping(graph: &Verified, inputs: &Tensors) -> bool {
    let (bindings, mut seen) = (bindings(inputs), vec![false; graph.nodes().len()]);
    let mut stack: Vec<_> = graph.outputs().iter().map(|output| output.value).collect();
    while let Some(value) = stack.pop() {
        if std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        if graph.ty(value).elem == Elem::I32 {
            let made = interpret_value(graph, &bindings, value).unwrap_or_else(|error| panic!("{error}"));
            if made.data.iter().any(|x| x.abs() > f64::from(1 << 30)) {
                return true;
            }
        }
        stack.extend(graph.op(value).operands());
    }
    false
}

/// Holds a kernel of each target against the interpreter.
fn compare(engines: &[Engine], text: &str, graph: &Verified, rng: &mut Rng, wrong: &mut Vec<String>) -> Compared {
    let mut compared = Compared::default();
    let reference = engines[0].reference(graph).expect("a reference");
    let lengths = lengths(rng);
    let inputs = inputs(rng, reference.interface(), &lengths);
    if near_wrapping(graph, &inputs) {
        return compared;
    }
    let mut expected = unwritten(reference.interface(), &lengths);
    run(reference.call(), &inputs, &mut expected).expect("runs");
    for engine in engines {
        let kernel = engine.compile(graph).expect("compiles for every target");
        let mut made = unwritten(kernel.interface(), &lengths);
        run(kernel.call(), &inputs, &mut made).expect("runs");
        let (name, off) = furthest(&kernel, &inputs, &made, &expected);
        if off.parts > 1.0 {
            wrong.push(format!("{}: `{name}` {off}\n{text}", engine.target()));
        }
        compared.elements += made.values().map(|tensor| tensor.shape().iter().product::<usize>()).sum::<usize>();
        compared.unlimited += off.unlimited;
    }
    compared
}

/// What was compared of all cases, and how many of them compiled.
fn sum(found: &Found<Option<Compared>>) -> (usize, Compared) {
    let add = |(compiled, all): (usize, Compared), one: &Compared| {
        (compiled + 1, Compared { elements: all.elements + one.elements, unlimited: all.unlimited + one.unlimited })
    };
    found.cases.iter().filter_map(|(_, case)| case.as_ref()).fold((0, Compared::default()), add)
}

/// A kernel runs to the end whatever the values, such as division by 0 or of the lowest integer.
#[test]
fn random_graphs_never_panic() {
    let engines: Vec<Engine> = targets().iter().map(|target| crate::common::engine(target, 1)).collect();
    let found = each_seed(seeds(0, GRAPHS), |seed, wrong| {
        let rng = &mut Rng::new(seed);
        let text = random_graph(rng);
        if panics(&engines[0], &text) {
            wrong.push(format!("panics:\n{text}"));
        }
        let graph = Graph::parse(&text).ok()?;
        engines[0].compile(&graph).ok()?;
        Some(compare(&engines, &text, &graph, rng, wrong))
    });
    let (compiled, compared) = sum(&found);
    println!("of {} random graphs {compiled} compile: {compared:?}", found.cases.len());
    found.check(("it", "random_graphs_never_panic"));
    assert!(found.cases.len() < GRAPHS as usize || compiled * 2 >= found.cases.len(), "{compiled} compile");
}

/// Attention by random scores and masks of all elementwise ops: each compiles, and agrees with the interpreter.
#[test]
fn random_scores_agree_with_the_interpreter() {
    let engines: Vec<Engine> = targets().iter().map(|target| crate::common::engine(target, 1)).collect();
    let found = each_seed(seeds(0, SCORES), |seed, wrong| {
        let rng = &mut Rng::new(seed);
        let text = random_score(rng);
        if panics(&engines[0], &text) {
            wrong.push(format!("panics:\n{text}"));
        }
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        match engines[0].compile(&graph) {
            Ok(_) => Some(compare(&engines, &text, &graph, rng, wrong)),
            Err(error) => {
                wrong.push(format!("{error}\n{text}"));
                None
            }
        }
    });
    let (_, compared) = sum(&found);
    println!("{} random scores: {compared:?}", found.cases.len());
    found.check(("it", "random_scores_agree_with_the_interpreter"));
    let enough = compared.unlimited * 2 < compared.elements;
    assert!(found.cases.len() < SCORES as usize || enough, "{compared:?}: too little is held to a bound");
}

/// Attributes reach schemes as they were written.
#[test]
fn attributes_of_any_kind_never_panic() {
    let engine = Engine::builder().threads(1).cache_capacity(0).build().expect("an engine");
    let values = [
        Attr::Int(0),
        Attr::Int(-1),
        Attr::Int(i64::MAX),
        Attr::Int(i64::MIN),
        Attr::Float(f64::NAN),
        Attr::Float(-0.0),
        Attr::Float(1e300),
        Attr::Str(String::new()),
        Attr::Str("half".to_owned()),
        Attr::Bool(true),
        Attr::List(Vec::new()),
        Attr::List(vec![f64::INFINITY; 4]),
    ];
    for info in Registry::standard().schemes() {
        for attr in &info.attributes {
            for value in &values {
                for hook in ["query %q", "key %k", "score %s", "mask"] {
                    let (hook, operand) = hook.split_once(' ').unwrap_or((hook, ""));
                    let attrs = Attrs::from([(attr.name.to_owned(), value.clone())]);
                    let attrs: Vec<String> =
                        attrs.iter().map(|(name, value)| format!("{name} = {}", written(value))).collect();
                    let line = format!("%x = scheme {}.{hook} {operand} @0 {{{}}}\n{OUT}", info.name, attrs.join(", "));
                    let text = text(&line);
                    assert!(!panics(&engine, &text), "{line}");
                }
            }
        }
    }
}

fn written(attr: &Attr) -> String {
    match attr {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => format!("{x:?}").to_lowercase(),
        Attr::Str(x) => format!("{x:?}"),
        Attr::Bool(x) => x.to_string(),
        Attr::List(list) => format!("{list:?}").to_lowercase(),
        Attr::Value(_) => "%i".to_owned(),
    }
}
