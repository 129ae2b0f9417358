//! What is lowered is the scheme that was given, whatever is written of it.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use rhumb_ir::{
    Attr, Attrs, Bindings, Elem, Expr, Graph, GraphBuilder, Hook, Instance, Op, Tensor, Value, Verified, interpret,
};
use rhumb_plugins::{
    Alibi, Attention, AttrInfo, AttrKind, Causal, Declared, Documents, Entry, LowerError, PositionScheme, Registry,
    Rope, Scheme, SchemeContext, SchemeError, SchemeInfo, lower, scheme,
};

/// A penalty by distance that tells nothing of itself.
#[derive(Clone, Copy)]
struct Lazy {
    slope: f64,
}

fn lazy_info() -> &'static SchemeInfo {
    static INFO: LazyLock<SchemeInfo> =
        LazyLock::new(|| SchemeInfo::new("lazy", [Hook::Score], "score - slope (p_q - p_k)", "a penalty by distance"));
    &INFO
}

impl Declared for Lazy {
    fn info(&self) -> &SchemeInfo {
        lazy_info()
    }
}

impl PositionScheme for Lazy {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score + self.slope * (cx.k_pos() - cx.q_pos()))
    }
}

fn registry() -> Registry {
    let entry = Entry::new(lazy_info().clone(), |_| Ok(Lazy { slope: 0.5 }));
    Registry::standard().with(entry).expect("a new name")
}

fn lowered(graph: &Verified) -> Verified {
    lower(graph, &Registry::empty()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_scheme_that_was_given_is_lowered() {
    let own = |slope| Attention::heads(2).head_dim(8).scheme(Lazy { slope }).scheme(Causal).build().expect("a graph");
    let closure = |slope: f64| {
        let attention =
            Attention::heads(2).head_dim(8).score_with(move |cx, score| score + slope * (cx.k_pos() - cx.q_pos()));
        attention.scheme(Causal).build().expect("a graph")
    };
    for slope in [1.0, 0.5, 0.25] {
        assert_eq!(lowered(&own(slope)), lowered(&closure(slope)));
        // An entry of that name, and of another slope, is not asked.
        assert_eq!(lower(&own(slope), &registry()).expect("lowers"), lowered(&own(slope)));
    }
    assert_eq!(own(1.0).to_string(), own(0.5).to_string(), "they read the same");
    assert_ne!(own(1.0), own(0.5), "and are not");
    // Of text nothing is left but the name.
    let parsed = Graph::parse(&own(1.0).to_string()).expect("parses");
    assert_eq!(lower(&parsed, &registry()).expect("lowers"), lowered(&own(0.5)));
    assert!(matches!(lower(&parsed, &Registry::standard()), Err(LowerError::Registry { .. })));
}

#[test]
fn graphs_of_one_attention_are_equal() {
    let attention = Attention::heads(2).head_dim(8).scheme(Rope::new()).scheme(Lazy { slope: 1.0 });
    assert_eq!(attention.build().expect("a graph"), attention.build().expect("a graph"));
}

/// A graph in which values that schemes hold stand behind a rotation, so that they have other numbers once it is lowered; and behind
/// values that nothing depends on.
fn behind<S: PositionScheme + 'static>(make: impl for<'g> Fn(&SchemeContext<'g>, Expr<'g>) -> S) -> Verified {
    let builder = GraphBuilder::new("behind");
    let (parts, [query, key, value]) = Attention::heads(2).head_dim(8).parts(&builder).expect("sizes");
    let dead = builder.scalar(1.0) + parts.q_pos();
    let _ = dead.exp();
    let rope = Scheme::new(Rope::new());
    let query = parts.apply(&rope, Hook::Query, query);
    let score = query.dot(parts.apply(&rope, Hook::Key, key), parts.d);
    let documents = parts.input("documents", Elem::I32, [parts.b, parts.k]);
    let scheme = Scheme::new(make(&parts, documents));
    let score = parts.apply(&scheme, Hook::Score, score);
    let score = parts.mask(&scheme).map_or(score, |mask| score.mask(mask));
    parts.output(score, value, None);
    builder.finish().unwrap_or_else(|error| panic!("{error}"))
}

fn rebuilt(graph: &Verified, change: impl Fn(Op) -> Op) -> Verified {
    let Ok(builder) = graph.rebuild(|builder, _, op| {
        if matches!(op, Op::Scheme { .. }) {
            let _ = builder.scalar(3.0);
        }
        Ok::<_, Infallible>(builder.push(change(op)))
    });
    builder.finish().expect("a graph")
}

#[test]
fn values_that_schemes_hold_are_found_in_every_copy() {
    let graph = behind(|_, documents| Documents::of_keys(documents));
    let noise = |n: usize| (0..n).map(|i| (i as f64 * 1.7).sin()).collect::<Vec<_>>();
    let bindings = Bindings::from([
        ("q".to_owned(), Tensor::f32([2, 2, 3, 8], noise(96))),
        ("k".to_owned(), Tensor::f32([2, 2, 5, 8], noise(160))),
        ("v".to_owned(), Tensor::f32([2, 2, 5, 8], noise(160))),
        ("documents".to_owned(), Tensor::i32([2, 5], [0, 0, 1, 1, 1, 4, 2, 2, 4, 4])),
    ]);
    let out = |graph: &Verified| interpret(graph, &bindings).expect("runs")["out"].data.clone();
    // As written, by the registry, whose scheme is made of the values of the lowered graph.
    let parsed = Graph::parse(&graph.to_string()).expect("parses");
    let expected = lower(&parsed, &Registry::standard()).expect("lowers");
    for copy in [&graph, &graph.prune(), &rebuilt(&graph, |op| op), &rebuilt(&graph.prune(), |op| op)] {
        assert_eq!(out(&lowered(copy)), out(&expected));
    }
    assert_eq!(lowered(&graph), expected);
}

/// A mask that holds a value of the graph and may not tell it.
struct Ids {
    ids: Value,
    told: bool,
    raw: bool,
}

impl Declared for Ids {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| SchemeInfo {
            attributes: vec![AttrInfo::new("ids", AttrKind::Value, "")],
            ..SchemeInfo::new("ids", [Hook::Mask], "", "")
        });
        &INFO
    }

    fn attributes(&self) -> Attrs {
        self.told.then(|| ("ids".to_owned(), Attr::Value(self.ids))).into_iter().collect()
    }
}

impl PositionScheme for Ids {
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let ids = if self.raw { cx.builder().expr(self.ids) } else { cx.value("ids", self.ids)? };
        Ok((ids % 2).eq(0))
    }
}

#[test]
fn values_that_are_not_told_are_refused() {
    let ids = |told, raw| behind(move |_, ids| Ids { ids: ids.value(), told, raw });
    lowered(&ids(true, false));
    let mut report = String::new();
    // The mask varies over what the attributes tell.
    for (told, raw) in [(false, false), (true, true), (false, true)] {
        let error = lower(&ids(told, raw), &Registry::empty()).expect_err("a value of another graph");
        assert!(matches!(&error, LowerError::Scheme { source, .. } if matches!(**source, SchemeError::Untold { .. })));
        report += &format!("{error}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn ops_that_are_changed_under_their_scheme_are_refused() {
    let graph = Attention::heads(2).head_dim(8).scheme(Alibi::new().scale(2.0)).build().expect("a graph");
    let edited = |change: fn(&mut String, &mut Attrs, &mut Option<Instance>)| {
        rebuilt(&graph, |mut op| {
            if let Op::Scheme { scheme, attrs, instance, .. } = &mut op {
                change(scheme, attrs, instance);
            }
            op
        })
    };
    let refused: [fn(&mut String, &mut Attrs, &mut Option<Instance>); 4] = [
        |_, attrs, _| drop(attrs.insert("scale".to_owned(), Attr::Float(4.0))),
        |_, attrs, _| attrs.clear(),
        |name, _, _| name.push_str("_2"),
        |_, _, instance| *instance = Some(Instance::new(Arc::new(3))),
    ];
    let mut report = String::new();
    for change in refused {
        let error = lower(&edited(change), &Registry::standard()).expect_err("changed");
        report += &format!("{error}\n\n");
    }
    insta::assert_snapshot!(report);
    let remade = edited(|_, attrs, instance| {
        attrs.insert("scale".to_owned(), Attr::Float(4.0));
        *instance = None;
    });
    let expected = Attention::heads(2).head_dim(8).scheme(Alibi::new().scale(4.0)).build().expect("a graph");
    assert_eq!(lower(&remade, &Registry::standard()).expect("lowers").to_string(), lowered(&expected).to_string());
}

scheme! {
    /// A bias by two values, which may be one, and by numbers.
    struct Pair: "pair" at Score = "score + a - b / 2" {
        /// A value.
        a: Value,
        /// Another.
        b: Value,
        /// A number.
        x: f64,
        /// Numbers.
        y: Vec<f64>,
    }
}

impl PositionScheme for Pair {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score + cx.value("a", self.a)? - cx.value("b", self.b)? * 0.5)
    }
}

#[test]
fn ops_are_compared_with_their_scheme_to_the_bit() {
    let pair = |one: bool, x: f64, y: [f64; 2]| {
        behind(move |cx, ids| {
            let other = if one { ids } else { cx.builder().input("other", Elem::I32, [cx.key_axis()]) };
            Pair { a: ids.value(), b: other.value(), x, y: y.to_vec() }
        })
    };
    // Copies under other numbers of values lower as well.
    for graph in [pair(true, 0.0, [0.0, 1.0]), pair(false, 0.0, [0.0, 1.0]), pair(false, -0.0, [-0.0, f64::MAX])] {
        assert_eq!(lowered(&rebuilt(&graph, |op| op)), lowered(&graph));
    }
    type Change = fn(&mut Attrs, Value);
    let changes: [Change; 4] = [
        |attrs, _| drop(attrs.insert("x".to_owned(), Attr::Float(-0.0))),
        |attrs, _| drop(attrs.insert("y".to_owned(), Attr::List(vec![-0.0, 1.0]))),
        |attrs, _| {
            let value = attrs.remove("a").expect("a value");
            attrs.insert("aa".to_owned(), value);
        },
        // One value is two.
        |attrs, score| drop(attrs.insert("b".to_owned(), Attr::Value(score))),
    ];
    for change in changes {
        let graph = rebuilt(&pair(true, 0.0, [0.0, 1.0]), |mut op| {
            if let Op::Scheme { scheme, attrs, x: Some(score), .. } = &mut op
                && scheme == "pair"
            {
                change(attrs, *score);
            }
            op
        });
        let error = lower(&graph, &Registry::empty()).expect_err("it is another op");
        assert!(matches!(error, LowerError::Changed { .. }), "{error}");
    }
}
