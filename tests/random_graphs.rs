//! Graphs that no one wrote: whatever they are, nothing panics, and where they compile they compute what the interpreter does.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::graphs::{OUT, mutated, random_graph, random_score, text};
use common::{Rng, Tensor, Tensors, run, seeds, targets};
use rhumb::ir::{Attr, Attrs, Bindings, Extent, Graph, interpret_value};
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
    let attention = Attention::new(4, 8).kv_heads(2).scheme(Rope::new()).scheme(SlidingWindow::new(5)).softcap(3.0);
    let graphs = [
        attention.lse().build().expect("a graph").to_string(),
        Attention::new(2, 8).scheme(Alibi::new()).scheme(Causal).sinks().build().expect("a graph").to_string(),
        Attention::new(2, 8).scheme(Rope2d::grid(3, 3)).key_lengths().build().expect("a graph").to_string(),
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
            Elem::F32 => Tensor::f32(shape, rng.normals(count)),
            Elem::I32 => Tensor::i32(shape, (0..count).map(|_| int()).collect::<Vec<_>>()),
            // Any byte but 0 is true.
            Elem::Bool => Tensor::bool(shape, (0..count).map(|_| !rng.one_in(3)).collect::<Vec<_>>()),
        };
        (port.name.clone(), tensor)
    };
    interface.inputs().iter().map(&mut tensor).collect()
}

fn unwritten(interface: &Interface, lengths: &BTreeMap<&str, usize>) -> Tensors {
    let tensor =
        |port: &Port| (port.name.clone(), Tensor::unwritten(&shape(interface, port, lengths), &common::Layout::Rows));
    interface.outputs().iter().map(tensor).collect()
}

/// The same tensors with every float a little off.
fn nudged(rng: &mut Rng, tensors: &Tensors) -> Tensors {
    let mut tensors = tensors.clone();
    for tensor in tensors.values_mut().filter(|tensor| tensor.elem() == Elem::F32) {
        tensor.change(|_, x| *x *= 1.0 + rng.between(-4, 4) as f32 * f32::EPSILON);
    }
    tensors
}

/// The greatest float of a graph in magnitude, but for values from `end` on; `None` if one is not finite or so small or great that single
/// precision loses the others.
fn greatest(graph: &Verified, inputs: &Tensors, end: usize) -> Option<f64> {
    let tensor = |of: &Tensor| rhumb::ir::Tensor { elem: of.elem(), shape: of.shape().to_vec(), data: of.numbers() };
    let bindings: Bindings = inputs.iter().map(|(name, of)| (name.clone(), tensor(of))).collect();
    let mut greatest = 1.0f64;
    for value in graph.values().take(end) {
        let made = interpret_value(graph, &bindings, value).unwrap_or_else(|error| panic!("{error}\n{}", **graph));
        for x in made.data.iter().filter(|x| made.elem == Elem::F32 && **x != 0.0) {
            if !(1e-20..1e3).contains(&x.abs()) {
                return None;
            }
            greatest = greatest.max(x.abs());
        }
    }
    Some(greatest)
}

/// How many elements were compared, and of how many more than [`LOOSE`] was let pass.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    elements: usize,
    loose: usize,
}

/// What is let pass of a well-conditioned element at most.
const LOOSE: f64 = 2e-5;

/// Compares a kernel of each target with the interpreter, as far as inputs that are a little off give about the same.
fn compare(
    engines: &[Engine],
    graph: &Verified,
    (inputs, greatest): (&Tensors, f64),
    lengths: &BTreeMap<&str, usize>,
    context: &str,
) -> Compared {
    let mut compared = Compared::default();
    let reference = engines[0].reference(graph).expect("a reference");
    let interpreted = |inputs: &Tensors| {
        let mut made = unwritten(reference.interface(), lengths);
        run(reference.call(), inputs, &mut made).unwrap_or_else(|error| panic!("{context}: {error}"));
        made
    };
    let expected = interpreted(inputs);
    let mut rng = Rng::new(5);
    let others: Vec<Tensors> = (0..6).map(|_| interpreted(&nudged(&mut rng, inputs))).collect();
    for engine in engines {
        let kernel = engine.compile(graph).unwrap_or_else(|error| panic!("{context}, {}: {error}", engine.target()));
        let mut made = unwritten(kernel.interface(), lengths);
        run(kernel.call(), inputs, &mut made).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (name, made) in &made {
            let others: Vec<Vec<f32>> = others.iter().map(|other| other[name].values()).collect();
            for (at, (x, y)) in made.values().into_iter().zip(expected[name].values()).enumerate() {
                let far = others.iter().map(|other| f64::from(other[at] - y).abs()).fold(0.0, f64::max);
                let off = if x == y || (x.is_nan() && y.is_nan()) { 0.0 } else { f64::from(x - y).abs() };
                let most = 4e-6 * f64::from(y).abs().max(1.0) + 4e-7 * greatest + 20.0 * far;
                compared.elements += 1;
                compared.loose += usize::from(most > LOOSE);
                assert!(
                    off <= most,
                    "{context}, {}: `{name}`[{at}] is {x}, not {y} (off {off:.1e}, may be {most:.1e})",
                    engine.target()
                );
            }
        }
    }
    compared
}

/// A kernel runs to the end whatever the values, such as division by 0 or of the lowest integer.
#[test]
fn random_graphs_never_panic() {
    let engines: Vec<Engine> = targets().iter().map(|target| common::engine(target, 1)).collect();
    let (mut compiled, mut compared) = (0, 0);
    let seeds = seeds(0, GRAPHS);
    let graphs = seeds.end - seeds.start;
    for seed in seeds {
        let rng = &mut Rng::new(seed);
        let text = random_graph(rng);
        assert!(!panics(&engines[0], &text), "seed {seed} panics:\n{text}");
        let Ok(graph) = Graph::parse(&text) else { continue };
        let Ok(kernel) = engines[0].compile(&graph) else { continue };
        compiled += 1;
        let lengths = lengths(rng);
        let inputs = inputs(rng, kernel.interface(), &lengths);
        run(kernel.call(), &inputs, &mut unwritten(kernel.interface(), &lengths))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        if let Some(greatest) = greatest(&graph, &inputs, usize::MAX) {
            compared += 1;
            compare(&engines, &graph, (&inputs, greatest), &lengths, &format!("seed {seed}:\n{text}"));
        }
    }
    assert!(
        graphs < GRAPHS || compiled * 2 >= graphs && compared * 6 >= graphs,
        "{compiled} compile, {compared} are compared"
    );
    println!("of {graphs} random graphs {compiled} compile, {compared} are compared");
}

/// Attention by random scores and masks of all elementwise ops: each compiles but for a few, and all that do agree with the interpreter.
#[test]
fn random_scores_agree_with_the_interpreter() {
    let engines: Vec<Engine> = targets().iter().map(|target| common::engine(target, 1)).collect();
    let mut all = Compared::default();
    let (mut compiled, mut compared, mut refused) = (0, 0, BTreeMap::<String, String>::new());
    let seeds = seeds(0, SCORES);
    let scores = seeds.end - seeds.start;
    for seed in seeds {
        let rng = &mut Rng::new(seed);
        let (text, score) = random_score(rng);
        assert!(!panics(&engines[0], &text), "seed {seed} panics:\n{text}");
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let kernel = match engines[0].compile(&graph) {
            Ok(kernel) => kernel,
            Err(error) => {
                let shortest = refused
                    .entry(error.to_string().lines().next().unwrap_or_default().to_owned())
                    .or_insert(text.clone());
                if text.len() < shortest.len() {
                    *shortest = text;
                }
                continue;
            }
        };
        compiled += 1;
        let lengths = lengths(rng);
        let inputs = inputs(rng, kernel.interface(), &lengths);
        if let Some(greatest) = greatest(&graph, &inputs, score) {
            compared += 1;
            let of = compare(&engines, &graph, (&inputs, greatest), &lengths, &format!("seed {seed}:\n{text}"));
            all = Compared { elements: all.elements + of.elements, loose: all.loose + of.loose };
        }
    }
    println!("of {scores} random scores {compiled} compile, {compared} are compared: {all:?}");
    refused.iter().for_each(|(error, text)| println!("{error}, the shortest:\n{text}\n"));
    assert!(all.loose * 2 < all.elements, "{all:?}: too little is held to single precision");
    assert!(compiled == scores, "{compiled} of {scores} compile");
    assert!(scores < SCORES || compared * 2 >= scores, "{compared} of {scores} are compared");
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
        for attr in info.attributes {
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
