//! What is well formed and can be computed, and is most likely not what was meant.
//!
//! A graph is looked at after lowering, by what its ops do: a rotation or a bias of one's own is warned of as a built-in one is.

use std::fmt;

use rhumb_ir::{Axis, Bindings, Elem, Extent, Op, Site, Tensor, Value, Verified, Walk, interpret_value};

use crate::lower::{LowerError, lower};
use crate::registry::Registry;

/// What a graph does that is most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The same elements of queries or keys are rotated twice, so that their angles add up.
    RotatedTwice {
        /// The second rotation, printed.
        op: String,
        /// The axis of the elements.
        axis: String,
        /// The first element that both rotate.
        first: u32,
        /// The last.
        last: u32,
    },
    /// Queries see the keys after them, and the score grows the later such a key is, as a bias does that is meant for keys up to the query.
    LaterKeysFavoured,
    /// Scores under a softmax depend on a sum over pairs of tokens, or on an entry of a row of such sums. They can't be made in one pass over the
    /// keys with it, so a table of all pairs is made before.
    PairTable {
        /// The op that sums, or looks up, printed.
        op: String,
        /// The axes of the table.
        axes: Vec<String>,
    },
}

impl Warning {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            Warning::RotatedTwice { op, axis, first, last } => {
                format!("elements {first} to {last} of axis `{axis}` are rotated twice: the angles add up\n  at  {op}")
            }
            Warning::LaterKeysFavoured => {
                "queries see the keys after them, and the score grows the later such a key is".to_owned()
            }
            Warning::PairTable { op, axes } => format!(
                "a table over {} is made before the softmax, as large as all scores: 8 bytes a pair, 32 MiB a head at 2048 queries and keys; no \
                 pass over the keys can make it and read it\n  at  {op}",
                all_of(axes)
            ),
        }
    }

    /// What would mend it, if it is not meant.
    pub fn hint(&self) -> &'static str {
        match self {
            Warning::RotatedTwice { .. } => "leave one of the rotations out, or give them elements of their own",
            Warning::LaterKeysFavoured => "add a causal mask, or use the symmetric form of the bias",
            Warning::PairTable { .. } => {
                "leave it out of the scores if memory and time matter; where scores are the weights, without a softmax \
                 (`Attention::weights_with`), sums over keys are made in the same pass"
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  hint: {}", self.finding(), self.hint())
    }
}

/// What a graph does that is most likely not meant; the graph compiles all the same.
///
/// ```
/// use rhumb_plugins::{Alibi, Attention, Causal, Registry, Warning, warnings};
///
/// let attention = Attention::heads(8).head_dim(64).scheme(Alibi::new());
/// let found = warnings(&attention.clone().build()?, &Registry::standard())?;
/// assert_eq!(found, [Warning::LaterKeysFavoured]);
/// assert_eq!(warnings(&attention.scheme(Causal).build()?, &Registry::standard())?, []);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`LowerError`] if a scheme can't be lowered.
pub fn warnings(graph: &Verified, registry: &Registry) -> Result<Vec<Warning>, LowerError> {
    let lowered = lower(graph, registry)?;
    let mut found = rotated_twice(&lowered);
    if let [site, ..] = graph.sites()
        && favours_later_keys(graph, site, &lowered)
    {
        found.push(Warning::LaterKeysFavoured);
    }
    if let [site, ..] = graph.sites() {
        found.extend(pair_tables(&lowered, site));
    }
    Ok(found)
}

/// Names as a reader has them: `a`, `b` and `c`.
fn all_of(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &quoted[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

/// Sums and lookups below a softmax over keys whose operands vary over two axes of tokens: a warning for each.
fn pair_tables(graph: &Verified, site: &Site) -> Vec<Warning> {
    let scores = graph.nodes().iter().filter_map(|node| match node.op {
        Op::Softmax { x, axis, .. } | Op::LogSumExp { x, axis, .. } if axis == site.key => Some(x),
        _ => None,
    });
    // Whether a value is computed of sums or lookups.
    let mut reduces: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for value in graph.values() {
        let op = graph.op(value);
        let below = op.operands().iter().any(|operand| reduces[operand.index()]);
        reduces.push(below || matches!(op, Op::Dot { .. } | Op::Gather { .. }));
    }
    let mut found: Vec<Warning> = Vec::new();
    let mut walk = Walk::of(scores);
    while let Some(value) = walk.next() {
        let op = graph.op(value);
        walk.enter(op.operands());
        let made: Vec<(Value, Axis)> = match *op {
            Op::Dot { a, b, axis } => [a, b].into_iter().filter(|x| reduces[x.index()]).map(|x| (x, axis)).collect(),
            Op::Gather { table, axis, .. } if !matches!(graph.op(table), Op::Input { .. } | Op::Table { .. }) => {
                vec![(table, axis)]
            }
            _ => continue,
        };
        for (table, axis) in made {
            let axes = graph.ty(table).axes;
            let is_open = axis == site.query || axis == site.key || graph.static_extent(axis).is_none();
            let tokens = [site.query, site.key, axis];
            let among = |place: usize| axes.contains(tokens[place]) && !tokens[..place].contains(&tokens[place]);
            if (0..3).filter(|place| among(*place) && (*place < 2 || is_open)).count() > 1 {
                let axes = axes.iter().map(|axis| graph.axis(axis).name.clone()).collect();
                let warning = Warning::PairTable { op: graph.line(value), axes };
                if !found.contains(&warning) {
                    found.push(warning);
                }
            }
        }
    }
    found
}

/// A rotation's axis, its pairs and where they lie.
type Block = (Axis, u32, u32);

fn block(graph: &Verified, op: &Op) -> Option<Block> {
    match *op {
        Op::Rotate { dim, pair, start, .. } => Some((dim, start, graph.static_extent(pair)?)),
        _ => None,
    }
}

/// Rotations of what was rotated already: a warning for each.
fn rotated_twice(graph: &Verified) -> Vec<Warning> {
    let mut found = Vec::new();
    for value in graph.values() {
        let Op::Rotate { x, .. } = graph.op(value) else { continue };
        let Some((dim, start, pairs)) = block(graph, graph.op(value)) else { continue };
        for earlier in rotations_before(graph, *x) {
            let Some((other, from, others)) = block(graph, graph.op(earlier)) else { continue };
            let (first, end) = (start.max(from), (start + 2 * pairs).min(from + 2 * others));
            if dim == other && first < end {
                let axis = graph.axis(dim).name.clone();
                found.push(Warning::RotatedTwice { op: graph.line(value), axis, first, last: end - 1 });
                break;
            }
        }
    }
    found
}

/// The rotations that a value is made of through ops on single elements.
fn rotations_before(graph: &Verified, value: Value) -> Vec<Value> {
    let (mut found, mut walk) = (Vec::new(), Walk::of([value]));
    while let Some(value) = walk.next() {
        match graph.op(value) {
            Op::Rotate { x, .. } => {
                found.push(value);
                walk.enter([*x]);
            }
            op @ (Op::Unary(..) | Op::Binary(..) | Op::Select { .. }) => walk.enter(op.operands()),
            _ => {}
        }
    }
    found
}

/// Tokens of the small call by which a score is judged.
const TOKENS: usize = 6;

/// The most elements that any tensor of that call may have.
const ELEMENTS: usize = 1 << 22;

/// Whether in a small call of zeros the score of a query grows with the distance of the keys after it, and falls with that of the keys before.
fn favours_later_keys(graph: &Verified, site: &Site, lowered: &Verified) -> bool {
    let scores = lowered.nodes().iter().filter_map(|node| match node.op {
        Op::Softmax { x, axis, .. } if axis == site.key => Some(x),
        _ => None,
    });
    // Lengths, prefixes and offsets may be anything: they are tried from both ends.
    let bound: Vec<Bindings> =
        [0, TOKENS].into_iter().filter_map(|tokens| small(graph, site, lowered, tokens)).collect();
    let grows = |score: Value| {
        bound.iter().filter_map(|bindings| interpret_value(lowered, bindings, score).ok()).any(|tensor| {
            let axes = lowered.ty(score).axes;
            axes.contains(site.query)
                && axes.contains(site.key)
                && rises(site, &axes.iter().collect::<Vec<_>>(), &tensor)
        })
    };
    scores.into_iter().any(grows)
}

/// Zeros for every input, and positions that count; none where they would be too large, or queries and keys have lengths of their own.
fn small(graph: &Verified, site: &Site, lowered: &Verified, tokens: usize) -> Option<Bindings> {
    if [site.query, site.key].iter().any(|axis| lowered.static_extent(*axis).is_some()) {
        return None;
    }
    let length = |axis: Axis| match lowered.axis(axis).extent {
        Extent::Static(length) => length as usize,
        Extent::Dynamic if axis == site.query || axis == site.key => TOKENS,
        Extent::Dynamic => 1,
    };
    let position = |name: &str| {
        [site.q_pos, site.k_pos]
            .iter()
            .any(|value| matches!(graph.op(*value), Op::Input { name: own, .. } if own == name))
    };
    // What the score is computed over bounds what it is computed of.
    let fits = |axes: &[Axis]| {
        let count = axes.iter().try_fold(1usize, |count, axis| count.checked_mul(length(*axis)));
        count.filter(|count| *count <= ELEMENTS)
    };
    if lowered.values().any(|value| fits(&lowered.ty(value).axes.iter().collect::<Vec<_>>()).is_none()) {
        return None;
    }
    let bind = |(name, value): (&str, Value)| {
        let Op::Input { dims, elem, .. } = lowered.op(value) else { return None };
        let shape: Vec<usize> = dims.iter().map(|axis| length(*axis)).collect();
        let count = fits(dims)?;
        let of_tokens = dims.contains(&site.query) || dims.contains(&site.key);
        let data = match elem {
            // Tokens are the last dimension of positions.
            _ if position(name) => (0..count).map(|index| (index % TOKENS) as f64).collect(),
            Elem::I32 if !of_tokens => vec![tokens as f64; count],
            Elem::Bool => vec![1.0; count],
            _ => vec![0.0; count],
        };
        Some((name.to_owned(), Tensor { elem: *elem, shape, data }))
    };
    lowered.inputs().map(bind).collect()
}

/// Whether a query in the middle has scores that rise from its first key to its last, in some head.
fn rises(site: &Site, dims: &[Axis], score: &Tensor) -> bool {
    let stride = |axis: Axis| {
        let after = dims.iter().position(|dim| *dim == axis).map_or(0, |dim| dim + 1);
        score.shape[after..].iter().product::<usize>()
    };
    let (query, key) = (stride(site.query), stride(site.key));
    let middle = TOKENS / 2 - 1;
    let starts = (0..score.data.len()).filter(|index| index / query % TOKENS == middle && index / key % TOKENS == 0);
    starts.into_iter().any(|start| {
        let row: Vec<f64> = (0..TOKENS).map(|index| score.data[start + index * key]).collect();
        row.iter().all(|score| score.is_finite()) && row.windows(2).all(|pair| pair[0] < pair[1])
    })
}
