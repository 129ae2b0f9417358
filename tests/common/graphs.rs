//! Texts of graphs.

use rhumb::ir::Graph;
use rhumb::prelude::*;

use super::Rng;

/// A graph with the usual inputs and these lines.
pub(crate) fn text(lines: &str) -> String {
    format!(
        r#"graph mistaken
axis b = ?
axis h = 6
axis g = 3 groups h
axis q = ?
axis k = ?
axis d = 9
%q = input "q" : f32[b, h, q, d]
%k = input "k" : f32[b, g, k, d]
%v = input "v" : f32[b, g, k, d]
%i = iota q
%j = iota k
%n = size k
site @0 {{query = q, key = k, head = h, dim = d, q_pos = %i, k_pos = %j, q_index = %i, k_index = %j, length = %n}}
%s = dot %q, %k over d
{lines}
"#
    )
}

/// Softmax of `%x`, and the average of values.
pub(crate) const OUT: &str = "%p = softmax %x over k\n%o = dot %p, %v over k\noutput \"out\" = %o : f32[b, h, q, d]";

/// Words that stand where others did.
#[rustfmt::skip]
const WORDS: [&str; 24] = [
    "h", "q", "k", "d", "b", "add", "sub", "mul", "div", "max", "exp", "tanh",
    "softmax", "logsumexp", "dot", "f32", "i32", "bool", "0", "-1", "2147483647", "1e30", "nan", "?",
];

/// One of the graphs, changed in a few places.
pub(crate) fn mutated(rng: &mut Rng, graphs: &[String]) -> String {
    // Types that are not needed would tell most mistakes before any other check.
    let bare = |line: &str| match line.split_once(" : ") {
        Some((op, _)) if line.starts_with('%') && !["input", "table", "scheme"].iter().any(|op| line.contains(op)) => {
            op.to_owned()
        }
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = rng.pick(graphs).lines().filter(|line| !line.is_empty()).map(bare).collect();
    for _ in 0..rng.pick(&[1, 1, 1, 2, 3]) {
        let at = rng.below(lines.len());
        match rng.below(10) {
            0 => {
                lines.remove(at);
            }
            1 => lines.insert(at, lines[rng.below(lines.len())].clone()),
            2 => {
                let other = rng.below(lines.len());
                lines.swap(at, other);
            }
            3 => change_character(rng, &mut lines[at]),
            4 | 5 => change_operand(rng, &mut lines, at),
            _ => change_word(rng, &mut lines, at),
        }
        if lines.is_empty() {
            return String::new();
        }
    }
    lines.join("\n")
}

/// A character of a line gone, or another one.
fn change_character(rng: &mut Rng, line: &mut String) {
    let mut chars: Vec<char> = line.chars().collect();
    if !chars.is_empty() {
        let place = rng.below(chars.len());
        if rng.one_in(2) {
            chars.remove(place);
        } else {
            chars[place] = rng.pick(&['%', '"', '[', '}', '0', '9', '-', '.', 'é', '\u{0}', '@', ',']);
        }
    }
    *line = chars.into_iter().collect();
}

/// An operand of a line for another.
fn change_operand(rng: &mut Rng, lines: &mut [String], at: usize) {
    let names: Vec<String> = lines.iter().filter(|line| line.starts_with('%')).map(|line| name(line)).collect();
    let words: Vec<&str> = lines[at].split(' ').collect();
    let operand = |(place, word): (usize, &&str)| place > 1 && word.starts_with('%');
    let places: Vec<usize> = words.iter().enumerate().filter(|x| operand(*x)).map(|(place, _)| place).collect();
    if let (false, false) = (places.is_empty(), names.is_empty()) {
        let (place, other) = (rng.pick(&places), rng.pick(&names));
        let comma = if words[place].ends_with(',') { "," } else { "" };
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words[place] = other + comma;
        lines[at] = words.join(" ");
    }
}

/// A word of a line for another, of the lines or of the list.
fn change_word(rng: &mut Rng, lines: &mut [String], at: usize) {
    let mut words: Vec<String> = lines[at].split(' ').map(str::to_owned).collect();
    let other: Vec<String> = lines[rng.below(lines.len())].split(' ').map(str::to_owned).collect();
    let place = rng.below(words.len());
    words[place] = if rng.one_in(2) { rng.pick(&WORDS).to_owned() } else { rng.pick(&other) };
    lines[at] = words.join(" ");
}

/// The value that a line makes.
fn name(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// Random ops on random operands; lines that are not well formed are left away.
pub(crate) fn random_graph(rng: &mut Rng) -> String {
    let head = "graph random\naxis b = ?\naxis h = 4\naxis g = 2 groups h\naxis q = ?\naxis k = ?\naxis d = 8\naxis p = 4\n\
                %q = input \"q\" : f32[b, h, q, d]\n%k = input \"k\" : f32[b, g, k, d]\n%v = input \"v\" : f32[b, g, k, d]\n\
                %i = iota q\n%j = iota k\n%n = size k\n%t = table [1, 2, 3, 4] : f32[p]\n%z = input \"z\" : i32[k]\n%w = input \"w\" : bool[k]\n%m = eq %i, %z\n\
                %s = dot %q, %k over d\n";
    let (mut text, mut output) = (head.to_owned(), String::new());
    let mut names: Vec<String> =
        ["q", "k", "v", "i", "j", "n", "t", "m", "w", "z", "s", "s"].map(str::to_owned).to_vec();
    for index in 0..3 + rng.below(8) {
        for _ in 0..20 {
            let (mut name, mut axis) = (|| rng.pick(&names), ["b", "h", "g", "q", "k", "d", "p"]);
            let (a, b, c) = (name(), name(), name());
            axis.rotate_left(rng.below(7));
            let axis = axis[0];
            let op = match rng.below(14) {
                0 => format!("softmax %{a} over {axis}"),
                1 => format!("logsumexp %{a} over {axis} sink %{b}"),
                2 => format!("dot %{a}, %{b} over {axis}"),
                3 => format!("select %{a}, %{b}, %{c}"),
                4 => format!("gather %{a} over {axis} at %{b}"),
                5 => format!("rotate %{a} over d by %{b} over p half"),
                6 => format!("cast %{a} to {}", rng.pick(&["f32", "i32", "bool"])),
                7 => format!("{} %{a}, %{b}", rng.pick(&["lt", "eq", "and", "or"])),
                8 => format!("{} %{a}", rng.pick(&["neg", "exp", "log", "sqrt", "tanh", "not", "floor", "sin", "abs"])),
                9 => format!("const {}", rng.pick(&["0", "1.5", "-inf", "nan", "true", "-2147483648"])),
                _ => format!("{} %{a}, %{b}", rng.pick(&["add", "sub", "mul", "div", "mod", "min", "max", "pow"])),
            };
            let line = format!("%r{index} = {op}\n");
            if let Ok(graph) = Graph::parse(&format!("{text}{line}output \"o\" = %s : f32[b, h, q, k]\n")) {
                let value = graph.values().last().expect("values");
                let ty = graph.ty(value);
                let dims: Vec<&str> = ty.axes.iter().map(|axis| graph.axis(axis).name.as_str()).collect();
                let dims = if dims.is_empty() { String::new() } else { format!("[{}]", dims.join(", ")) };
                text += &line;
                let made = if ty.elem == Elem::F32 { format!("r{index}") } else { "made".to_owned() };
                let cast =
                    if ty.elem == Elem::F32 { String::new() } else { format!("%made = cast %r{index} to f32\n") };
                output = format!("{cast}output \"o\" = %{made} : f32{dims}\n");
                names.push(format!("r{index}"));
                break;
            }
        }
    }
    text + &output
}

/// An attention by a random score of all elementwise ops over queries and keys, and a random mask.
pub(crate) fn random_score(rng: &mut Rng) -> String {
    let mut text = "graph score\naxis b = ?\naxis h = 4\naxis g = 2 groups h\naxis q = ?\naxis k = ?\naxis d = 8\n\
                %q = input \"q\" : f32[b, h, q, d]\n%k = input \"k\" : f32[b, g, k, d]\n%v = input \"v\" : f32[b, g, k, d]\n\
                %u = input \"u\" : f32[b, h, q, k]\n%w = input \"w\" : f32[b, k]\n%y = input \"y\" : f32[h, q]\n\
                %z = input \"z\" : i32[q, k]\n%m = input \"m\" : bool[b, k]\n%n = input \"n\" : bool[q, k]\n\
                %i = iota q\n%j = iota k\n%c = const 0.75\n%l = const 3\n%half = const 0.5\n%dot = dot %q, %k over d\n%s = mul %dot, %half\n"
        .to_owned();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let mut floats = names(&["s", "s", "s", "u", "w", "y", "c"]);
    let mut ints = names(&["z", "i", "j", "l"]);
    let mut bools = names(&["m", "n"]);
    for index in 0..2 + rng.below(6) {
        let name = format!("r{index}");
        let (a, b) = (rng.pick(&floats), rng.pick(&floats));
        let (i, j) = (rng.pick(&ints), rng.pick(&ints));
        let (p, o) = (rng.pick(&bools), rng.pick(&bools));
        let compare = rng.pick(&["lt", "le", "gt", "ge", "eq", "ne"]);
        let (op, made) = match rng.below(16) {
            0..=4 => (format!("{} %{a}, %{b}", rng.pick(&["add", "sub", "mul", "div", "min", "max"])), &mut floats),
            5 | 6 => (
                format!(
                    "{} %{a}",
                    rng.pick(&["neg", "abs", "tanh", "sigmoid", "erf", "sin", "cos", "exp", "floor", "ceil"])
                ),
                &mut floats,
            ),
            7 | 8 => (format!("select %{p}, %{a}, %{b}"), &mut floats),
            9 => (format!("cast %{i} to f32"), &mut floats),
            10 => (format!("cast %{p} to f32"), &mut floats),
            11 => (format!("{} %{i}, %{j}", rng.pick(&["add", "sub", "mul", "div", "mod", "min", "max"])), &mut ints),
            12 => (format!("{compare} %{a}, %{b}"), &mut bools),
            13 => (format!("{compare} %{i}, %{j}"), &mut bools),
            14 => (format!("{} %{p}, %{o}", rng.pick(&["and", "or"])), &mut bools),
            _ => (format!("not %{p}"), &mut bools),
        };
        text += &format!("%{name} = {op}\n");
        // What was made last is read the most.
        made.extend([name.clone(), name]);
    }
    let last = floats.last().expect("floats");
    text += &format!("%last = mul %{last}, %c\n%score = add %s, %last\n");
    let mask = if rng.one_in(4) { None } else { bools.last() };
    match mask {
        Some(mask) => text += &format!("%none = const -inf\n%x = select %{mask}, %score, %none\n"),
        None => text += "%zero = const 0.0\n%x = add %score, %zero\n",
    }
    text += OUT;
    if rng.one_in(2) {
        text += "\n%lse = logsumexp %x over k\noutput \"lse\" = %lse : f32[b, h, q]";
    }
    text
}
