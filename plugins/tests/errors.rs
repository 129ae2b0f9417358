//! Bad attributes, names and places, as a user sees them.

use std::sync::LazyLock;

use rhumb_ir::{Attr, Attrs, Axis, Elem, Expr, Graph, GraphBuilder, Hook, Verified};
use rhumb_plugins::{
    Attention, AttentionParts, Causal, Declared, DynamicAlibi, Entry, LowerError, PositionScheme, Registry,
    RegistryError, Rope2d, SchemeContext, SchemeError, SchemeInfo, lower,
};

/// A graph in text form with one scheme op, `op`.
fn text(op: &str) -> String {
    format!(
        "graph bad
axis b = ?
axis h = 6
axis q = ?
axis k = ?
axis d = 10
%q = input \"q\" : f32[b, h, q, d]
%k = input \"k\" : f32[b, h, k, d]
%fq = input \"fq\" : f32[q]
%flag = input \"flag\" : bool[k]
%docs = input \"docs\" : i32[b, q]
%i = iota q : i32[q]
%j = iota k : i32[k]
%n = size k : i32
%s = dot %q, %k over d : f32[b, h, q, k]
site @0 {{query = q, key = k, head = h, dim = d, q_pos = %i, k_pos = %j, q_index = %i, k_index = %j, length = %n}}
site @1 {{query = q, key = k, dim = d, q_pos = %i, k_pos = %j, q_index = %i, k_index = %j, length = %n}}
%x = scheme {op}
%p = softmax %s over k : f32[b, h, q, k]
output \"p\" = %p : f32[b, h, q, k]
"
    )
}

fn parsed(op: &str) -> Verified {
    Graph::parse(&text(op)).unwrap_or_else(|error| panic!("{error}"))
}

const QUERY: &str = ": f32[b, h, q, d]";
const SCORE: &str = ": f32[b, h, q, k]";
const MASK: &str = ": bool[q, k]";

#[test]
fn what_lowering_refuses() {
    let cases = [scores(), rotations(), masks()].into_iter().flatten();
    let mut report = String::new();
    for op in cases {
        // A mask with value attributes has their axes too.
        let op = if op.contains("%docs") { op.replace(MASK, ": bool[b, q, k]") } else { op };
        let error = lower(&parsed(&op), &Registry::standard()).expect_err(&op);
        report += &format!("{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

/// Schemes at scores, and names that there are not.
fn scores() -> Vec<String> {
    let score = |scheme: &str, attrs: &str| format!("{scheme}.score %s @0 {{{attrs}}} {SCORE}");
    vec![
        format!("alibo.score %s @0 {SCORE}"),
        format!("unheard.score %s @0 {SCORE}"),
        format!("alibi.query %q @0 {QUERY}"),
        format!("alibi.score %s @1 {SCORE}"),
        score("alibi", "slope = [1.0]"),
        score("alibi", "slopes = 3"),
        score("alibi", "slopes = [1.0, 2.0]"),
        score("alibi", "slopes = [1.0, 2.0, 3.0, 4.0, 5.0, nan]"),
        score("alibi", "slopes = %fq"),
        score("alibi", "form = \"relative\""),
        score("alibi", "bias_max = 0"),
        score("alibi", "scale = inf"),
        score("dynamic_alibi", ""),
        score("dynamic_alibi", "train_length = 0"),
        score("dynamic_alibi", "train_length = 2048.0"),
        score("dynamic_alibi", "train_length = 2048, length = -3"),
        score("dynamic_alibi", "train_length = 2048, length = %fq"),
    ]
}

/// Schemes at queries.
fn rotations() -> Vec<String> {
    let query = |scheme: &str, attrs: &str| format!("{scheme}.query %q @0 {{{attrs}}} {QUERY}");
    vec![
        query("rope", "base = \"10000\""),
        query("rope", "base = -1.0"),
        query("rope", "base = nan"),
        query("rope", "factor = 0"),
        query("rope", "rotary_dim = 5"),
        query("rope", "rotary_dim = 12"),
        query("rope", "rotary_dim = -2"),
        query("rope", "rotary_dim = 8, start = 4"),
        query("rope", "start = 11"),
        query("rope", "start = 3"),
        query("rope", "rotary_dim = 2, ntk = 2.0"),
        query("rope", "frequencies = [1.0, 2.0]"),
        query("rope", "frequencies = [1, 2, 3, 4, 5], base = 500000.0"),
        query("rope", "q_positions = %flag"),
        query("rope", "q_positions = %j"),
        query("rope", "offset = 3000000000"),
        query("rope", "offset = %fq"),
        query("yarn", "train_length = 4096"),
        query("yarn", "factor = 4, train_length = 0"),
        query("yarn", "factor = 0, train_length = 4096"),
        query("yarn", "factor = 4, train_length = 4096, base = 1"),
        query("yarn", "factor = 4, train_length = 4096, beta_fast = 1, beta_slow = 32"),
        query("yarn", "factor = 4, train_length = 4096, attention_factor = nan"),
        query("yarn", "factor = 4, train_length = 4096, rotary_dim = 5"),
        query("yarn", "factor = 4, train_length = 4096, beta = 32"),
        query("llama3_rope", "low_freq_factor = 4"),
        query("llama3_rope", "train_length = 0"),
        query("dynamic_ntk", "factor = 2, train_length = 0"),
        query("dynamic_ntk", "factor = 2, train_length = 8, rotary_dim = 2"),
        query("dynamic_ntk", "factor = 2, train_length = 8, length = 0"),
        query("dynamic_ntk", "factor = 2, train_length = 8, length = %i"),
        query("longrope", "long = [1, 2, 3, 4, 5], train_length = 8"),
        query("longrope", "long = [1, 2, 3, 4, 5], short = [1, 1, 1, 1], train_length = 8"),
        query("longrope", "long = [1, 2, 3, 4, 0], short = [1, 1, 1, 1, 1], train_length = 8"),
        query("longrope", "long = [1, 2, 3, 4, 5], short = [1, 1, 1, 1, 1], train_length = 1, factor = 8"),
        query("proportional_rope", "fraction = 1.5"),
        query("proportional_rope", "fraction = nan"),
        query("mrope", ""),
        query("mrope", "sections = [1, 2, 2]"),
        query("mrope", "sections = [1, 2, 3], q_positions = %i, k_positions = %j"),
        query("mrope", "sections = [1, 2, 1.5], q_positions = %i, k_positions = %j"),
        query("mrope", "sections = [1, 2, 2], q_positions = %i, k_positions = %j, layout = \"fast_space\""),
        query("mrope", "sections = [1, 2, 2], q_positions = %i, k_positions = %j"),
        query("qk_norm", "eps = -1"),
        query("rope2d", "height = 14, width = 14"),
    ]
}

/// Masks.
fn masks() -> Vec<String> {
    let mask = |scheme: &str, attrs: &str| format!("{scheme}.mask @0 {{{attrs}}} {MASK}");
    vec![
        mask("causal", "window = 3"),
        mask("sliding_window", ""),
        mask("sliding_window", "window = 0"),
        mask("sliding_window", "window = -4, symmetric = true"),
        mask("sliding_window", "window = 9999999999"),
        mask("sliding_window", "window = 4, symmetric = 1"),
        mask("prefix_lm", "prefix = -1"),
        mask("prefix_lm", "prefix = %j"),
        mask("key_lengths", "lengths = -1"),
        mask("documents", "keys = 3"),
        mask("documents", "keys = %flag"),
        mask("documents", "keys = %docs"),
        mask("chunked", "chunk = 0"),
        mask("dilated", "window = 4, dilation = 0"),
        mask("dilated", "window = -4, dilation = 2"),
    ]
}

#[test]
fn what_schemes_of_tables_and_grids_refuse() {
    let table = "%t = input \"t\" : f32[r, h]\n%w = input \"w\" : f32[r, d]\n";
    let at = |hook: &str, scheme: &str, attrs: &str| match hook {
        "query" => format!("{scheme}.query %q @0 {{{attrs}}} {QUERY}"),
        "mask" => format!("{scheme}.mask @0 {{{attrs}}} {MASK}"),
        _ => format!("{scheme}.score %s @0 {{{attrs}}} {SCORE}"),
    };
    let cases = [
        at("score", "t5", ""),
        at("score", "t5", "table = %fq"),
        at("score", "t5", "table = %t"),
        at("score", "t5", "table = %t, buckets = 7, bidirectional = false, max_distance = 3"),
        at("score", "t5", "table = %t, buckets = 3"),
        at("score", "window_table", "table = %t, height = 3, width = 2"),
        at("score", "window_table", "table = %t, height = 0, width = 2"),
        at("score", "alibi2d", ""),
        at("score", "alibi2d", "width = 3, q_y = %i"),
        at("score", "alibi2d", "q_y = %i, q_x = %i, k_y = %j"),
        at("score", "alibi2d", "width = 3, slopes = [1.0]"),
        at("score", "kerple", "p = [1.0], a = %t"),
        at("score", "sandwich", "waves = 7"),
        at("score", "fire", "w1 = %t, b1 = %t, w2 = %w"),
        at("score", "forget_gate", ""),
        at("score", "forget_gate", "log_forget = %s"),
        at("score", "shaw", "queries = %k, table = %w, left = 3, right = 3"),
        at("score", "shaw", "queries = %q, table = %w, left = 3, right = 4"),
        at("score", "decomposed", "queries = %q, rows = %w, columns = %t, height = 4, width = 4"),
        at("score", "deberta", "queries = %q, keys = %k"),
        at("score", "deberta", "queries = %q, keys = %k, position_keys = %w, max_distance = 100"),
        at("score", "softcap", "cap = 0"),
        at("query", "qk_norm", "norm = \"l1\""),
        at("query", "qk_norm", "unit_offset = true"),
        at("query", "qk_norm", "logit_scale = %t"),
        at("query", "temperature", "period = 0"),
        at("query", "axial_rope", "dims = [4, 3]"),
        at("query", "axial_rope", "dims = [4, 8], grid = [2, 2]"),
        at("query", "axial_rope", "dims = [4, 4]"),
        at("query", "axial_rope", "dims = [4, 4], grid = [2, 2], queries = %w"),
        at("query", "axial_rope", "dims = [4, 4], grid = [2]"),
        at("query", "axial_rope", "dims = [4, 4], queries = %w, keys = %w"),
        at("query", "xpos", "scale_base = 0"),
        at("mask", "neighbourhood", "height = 4, width = 6, window = 4"),
        at("mask", "neighbourhood", "height = 4, width = 6, window = 5"),
        at("mask", "shifted_window", "height = 4, width = 6, window = 4"),
        at("mask", "shifted_window", "height = 4, width = 4, window = 2, shift = 2"),
        at("mask", "block_diffusion", "length = 0, block = 4"),
        at("mask", "block_sparse", "layout = [1, 0, 1], columns = 2, block = 8"),
        at("mask", "block_sparse", "layout = [1, 0.5], columns = 2, block = 8"),
        at("mask", "offset_set", "offsets = [1, -2]"),
        at("mask", "offset_set", "offsets = [1.5]"),
        at("mask", "token_tree", "parents = [-1, 1]"),
    ];
    let mut report = String::new();
    for op in cases {
        let text =
            text(&op).replace("%i = iota q", &format!("{table}%i = iota q")).replace("axis d", "axis r = 7\naxis d");
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let error = lower(&graph, &Registry::standard()).expect_err(&op);
        report += &format!("{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn what_2d_rope_refuses() {
    let cases = [
        "",
        "height = 14",
        "height = 0, width = 14",
        "height = 65536, width = 65536",
        "height = 2, width = 2, repeat = 0",
        "height = 2, width = 2, prefix = -1",
        "height = 2, width = 2, reference = [16]",
        "height = 2, width = 2, reference = [16, 16], coordinates = \"corners\"",
        "height = 2, width = 2, coordinates = \"centres\", index_offset = 1",
        "height = 2, width = 2, coordinates = \"center\"",
        "height = 2, width = 2, frequencies = [1.0]",
        "height = 2, width = 2, frequencies = [1, 2, 3], bands = \"alternating\"",
        "height = 2, width = %f",
        "q_y = %i, q_x = %i",
        "q_y = %i, q_x = %i, k_y = %j, k_x = %i",
        "q_y = %i, q_x = %i, k_y = %j, k_x = %j, prefix = 1",
        "height = 2, width = 2, y_frequencies = %f",
        "height = 2, width = 2, y_frequencies = %f, x_frequencies = %f",
        "height = 2, width = 2, y_frequencies = %fp, x_frequencies = %fr",
        "height = 2, width = 2, y_frequencies = %fp, x_frequencies = %fp, base = 100",
    ];
    let mut report = String::new();
    for attrs in cases {
        let text = format!(
            "graph bad
axis q = ?
axis k = ?
axis d = 12
axis p = 6
axis r = 6
%q = input \"q\" : f32[q, d]
%f = input \"f\" : f32
%fp = input \"fp\" : f32[p]
%fr = input \"fr\" : f32[r]
%i = iota q : i32[q]
%j = iota k : i32[k]
%n = size k : i32
site @0 {{query = q, key = k, dim = d, q_pos = %i, k_pos = %j, q_index = %i, k_index = %j, length = %n}}
%x = scheme rope2d.query %q @0 {{{attrs}}} : f32[q, d]
output \"x\" = %x : f32[q, d]
"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let error = lower(&graph, &Registry::standard()).expect_err(attrs);
        let what = match &error {
            LowerError::Scheme { source, .. } => source.finding(),
            LowerError::Registry { source, .. } => source.finding(),
            other => other.to_string(),
        };
        report += &format!("{attrs}\n  {what}\n  hint: {}\n\n", error.hint());
    }
    insta::assert_snapshot!(report);
}

/// A scheme whose hooks go wrong in a way of their own.
struct Wrong(fn(&SchemeContext<'_>) -> &'static str);

fn wrong_info() -> &'static SchemeInfo {
    static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| SchemeInfo::new("wrong", [Hook::Score, Hook::Mask], "", ""));
    &INFO
}

impl Declared for Wrong {
    fn info(&self) -> &SchemeInfo {
        wrong_info()
    }
}

impl PositionScheme for Wrong {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        match (self.0)(cx) {
            "bool" => Ok(score.gt(0.0)),
            "ill formed" => Ok(score + cx.k_index().le(3)),
            "axes" => Ok(score + cx.builder().iota(cx.axis("extra", 3))),
            _ => Err(SchemeError::other("the moon is full", "wait a week")),
        }
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.k_pos())
    }
}

fn wrong(kind: fn(&SchemeContext<'_>) -> &'static str) -> Registry {
    Registry::standard()
        .with(Entry::new(wrong_info().clone(), move |_| Ok(Wrong(kind))))
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_a_scheme_gets_wrong() {
    let score = text("wrong.score %s @0 : f32[b, h, q, k]").replace("softmax %s", "softmax %x");
    let score = Graph::parse(&score).unwrap_or_else(|error| panic!("{error}"));
    let mask = parsed("wrong.mask @0 : bool[q, k]");
    let mut report = String::new();
    let kinds: [fn(&SchemeContext<'_>) -> &'static str; 4] = [|_| "bool", |_| "ill formed", |_| "axes", |_| "own"];
    for (graph, registry) in kinds.map(|kind| (&score, wrong(kind))).into_iter().chain([(&mask, wrong(|_| ""))]) {
        let error = lower(graph, &registry).expect_err("the scheme is wrong");
        report += &format!("{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn what_a_registry_refuses() {
    let plain = |name| Entry::new(SchemeInfo::new(name, [], "", ""), |_| Ok(Causal));
    let registry = Registry::standard();
    let duplicate = registry.with(plain("causal")).expect_err("the name is taken");
    assert_eq!(duplicate, RegistryError::Duplicate { name: "causal".to_owned() });
    for name in ["", "my scheme", "2d", "a.b", "größe"] {
        let error = registry.with(plain(name)).expect_err(name);
        assert_eq!(error, RegistryError::BadName { name: name.to_owned() });
    }
    assert!(Registry::empty().make("causal", &Attrs::new()).is_err());
    assert!(Registry::empty().with(plain("mine")).is_ok_and(|registry| registry.schemes().count() == 1));
}

/// After an error the graph and the registry are as good as before.
#[test]
fn errors_leave_everything_as_it_was() {
    let (good, bad) = (parsed("alibi.score %s @0 : f32[b, h, q, k]"), parsed("alibo.score %s @0 : f32[b, h, q, k]"));
    let registry = Registry::standard();
    let before = lower(&good, &registry).map(|graph| graph.to_string());
    assert!(lower(&bad, &registry).is_err());
    assert_eq!(lower(&good, &registry).map(|graph| graph.to_string()), before);
}

/// Whatever attributes a text gives a scheme, lowering tells an error or lowers.
#[test]
fn no_attributes_make_lowering_panic() {
    let registry = Registry::standard();
    let attrs = |values: [Expr<'_>; 4]| -> Vec<Attr> {
        let numbers = [0, 1, 2, -1, 7, i64::MAX, i64::MIN, 1 << 31, (1 << 31) - 1].map(Attr::Int);
        let floats = [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, 1e-320, f64::MAX, 2.5].map(Attr::Float);
        let lists = [vec![], vec![1.0], vec![f64::NAN, 1.0], vec![0.0; 6], vec![1.0; 4]].map(Attr::List);
        let names =
            ["half", "interleaved", "symmetric", "key", "split", "corners", "xy", ""].map(|s| Attr::Str(s.into()));
        let values = values.into_iter().map(|x| Attr::Value(x.value()));
        let truths = [true, false].map(Attr::Bool);
        truths.into_iter().chain(numbers).chain(floats).chain(lists).chain(names).chain(values).collect()
    };
    for info in registry.schemes() {
        let names: Vec<&str> = info.attributes.iter().map(|attr| attr.name.as_str()).collect();
        for i in 0..names.len() {
            for j in 0..=i {
                for head_dim in [1, 8] {
                    try_all(&registry, &info.name, &[names[i], names[j]], head_dim, &attrs);
                }
            }
        }
    }
}

fn try_all(
    registry: &Registry,
    scheme: &str,
    names: &[&str],
    head_dim: u32,
    attrs: &dyn Fn([Expr<'_>; 4]) -> Vec<Attr>,
) {
    let candidates = {
        let builder = GraphBuilder::new("count");
        attrs([builder.int(0); 4]).len()
    };
    for first in 0..candidates {
        // Every value of the first attribute, beside a few of the second.
        let second = (first * 7 + 3) % candidates;
        let builder = GraphBuilder::new("fuzz");
        let (h, q, k, d) =
            (builder.axis_of("h", 6), builder.axis("q"), builder.axis("k"), builder.axis_of("d", head_dim));
        let query = builder.input("q", Elem::F32, [h, q, d]);
        let (i, j, n) = (builder.iota(q), builder.iota(k), builder.size(k));
        let (i_value, j_value) = (i.value(), j.value());
        let site = rhumb_ir::Site {
            query: q,
            key: k,
            head: Some(h),
            dim: d,
            q_pos: i_value,
            k_pos: j_value,
            q_index: i_value,
            k_index: j_value,
            length: n.value(),
        };
        let site = builder.site(site);
        let score = (i + j).cast(Elem::F32) + builder.iota(h);
        let choices = attrs([i, j, n, score]);
        let given =
            Attrs::from_iter(names.iter().zip([first, second]).map(|(n, at)| ((*n).to_owned(), choices[at].clone())));
        let Ok(made) = registry.make(scheme, &given) else { continue };
        for hook in made.hooks() {
            // Lowering expands ops that no output depends on too.
            let _ = match hook {
                Hook::Mask => builder.scheme_mask(scheme, site, given.clone()),
                Hook::Score => builder.scheme(scheme, *hook, score, site, given.clone()),
                _ => builder.scheme(scheme, *hook, query, site, given.clone()),
            };
        }
        builder.output("score", score, [h, q, k]);
        // What is refused here, is refused by name.
        let Ok(graph) = builder.finish() else { continue };
        let _ = lower(&graph, registry);
    }
}

#[test]
fn lengths_that_vary_are_refused() {
    let vary = |axis: fn(&AttentionParts<'_>) -> Axis| {
        let builder = GraphBuilder::new("varies");
        let (parts, _) = Attention::heads(2).head_dim(8).parts(&builder).expect("sizes");
        let length = parts.input("n", Elem::I32, [axis(&parts)]);
        parts.check(&DynamicAlibi::new(8).length(length))
    };
    assert!(vary(|parts| parts.b).is_ok());
    let axes: [fn(&AttentionParts<'_>) -> Axis; 3] = [|parts| parts.q, |parts| parts.k, |parts| parts.d];
    for axis in axes {
        let error = vary(axis).expect_err("it varies");
        assert!(error.to_string().contains("`length`"), "{error}");
    }
}

#[test]
fn unknown_attributes_are_told_what_is_known() {
    let unknown = |known: &[&str]| {
        let known = known.iter().map(|&name| name.to_owned()).collect();
        SchemeError::UnknownAttr { name: "depth".to_owned(), suggestion: None, known }.hint()
    };
    assert_eq!(unknown(&[]), "the scheme takes no attributes");
    assert_eq!(unknown(&["base", "offset"]), "the scheme takes `base` and `offset`");
}

#[test]
fn bounds_of_2d_rope_are_where_they_are_said_to_be() {
    let check = |make: &dyn Fn(&AttentionParts<'_>) -> Rope2d| {
        let builder = GraphBuilder::new("bounds");
        let (parts, _) = Attention::heads(2).head_dim(8).parts(&builder).expect("sizes");
        parts.check(&make(&parts)).is_ok()
    };
    let grid = || Rope2d::grid(2, 2);
    let numbers = [f64::MIN_POSITIVE, 1e300, 0.0, -1.0, f64::INFINITY, f64::NAN];
    let good = [true, true, false, false, false, false];
    assert_eq!(numbers.map(|base| check(&|_| grid().base(base))), good);
    assert_eq!(numbers.map(|rows| check(&|_| grid().reference(rows, 2.0))), good);
    assert_eq!(numbers.map(|columns| check(&|_| grid().reference(2.0, columns))), good);
    assert!(check(&|_| Rope2d::grid(1, i32::MAX)) && !check(&|_| Rope2d::grid(1, i32::MAX).repeat(2)));
    assert!(check(&|_| Rope2d::grid(1 << 15, (1 << 16) - 1)) && !check(&|_| Rope2d::grid(1 << 15, 1 << 16)));
    // Learned frequencies are f32, one for each pair of the head.
    let learned = |elem: Elem, pairs: u32| {
        check(&|parts| {
            let axis = parts.builder().axis_of("pairs", pairs);
            let [y, x] = ["fy", "fx"].map(|name| parts.input(name, elem, [axis]));
            grid().learned(y, x)
        })
    };
    assert_eq!([learned(Elem::F32, 4), learned(Elem::I32, 4), learned(Elem::F32, 3)], [true, false, false]);
}
