//! The test kit itself: what it tries schemes with, and what it finds.

use std::cell::RefCell;
use std::sync::LazyLock;

use rhumb_ir::{Attr, Attrs, Elem, Expr, GraphBuilder, Hook, Pairing, Tensor};
use rhumb_plugins::testing::{Finding, Point, SchemeTest, Shape};
use rhumb_plugins::{
    Attention, AttrInfo, AttrKind, AttrType, Declared, Entry, PositionScheme, PrefixLm, Registry, Scheme,
    SchemeContext, SchemeError, SchemeInfo,
};

type Score = for<'g> fn(&SchemeContext<'g>, Expr<'g>) -> Expr<'g>;

/// A scheme by functions.
#[derive(Clone, Copy)]
struct By {
    info: fn() -> &'static SchemeInfo,
    hooks: &'static [Hook],
    attributes: fn() -> Attrs,
    turn: for<'g> fn(&SchemeContext<'g>, Hook) -> Expr<'g>,
    score: Score,
    mask: for<'g> fn(&SchemeContext<'g>) -> Expr<'g>,
}

impl By {
    fn turned<'g>(&self, cx: &SchemeContext<'g>, hook: Hook, x: Expr<'g>) -> Expr<'g> {
        let pair = cx.axis("pair", 4);
        let angle = (self.turn)(cx, hook) * cx.table(&[pair], [1.0, 0.1, 0.01, 0.001]);
        x.rotate(angle, cx.dim_axis(), pair, Pairing::Half, 0)
    }
}

/// What is declared of `by`: nothing but its name.
fn bare() -> &'static SchemeInfo {
    static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| SchemeInfo::new("by", [], "score", "of the tests"));
    &INFO
}

impl Declared for By {
    fn info(&self) -> &SchemeInfo {
        (self.info)()
    }

    fn attributes(&self) -> Attrs {
        (self.attributes)()
    }
}

impl PositionScheme for By {
    fn hooks(&self) -> &[Hook] {
        self.hooks
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.turned(cx, Hook::Query, x))
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.turned(cx, Hook::Key, x))
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((self.score)(cx, score))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok((self.mask)(cx))
    }
}

const BY: By = By {
    info: bare,
    hooks: &[Hook::Score],
    attributes: Attrs::new,
    turn: |cx, hook| if hook == Hook::Query { cx.q_pos() } else { cx.k_pos() },
    score: |_, score| score,
    mask: |cx| cx.builder().bool(true),
};

fn plain(p: &Point<'_>) -> f64 {
    p.score()
}

fn finding(test: &SchemeTest<'_>) -> Finding {
    *test.run().expect_err("the claim is false").finding
}

#[test]
fn points_are_what_the_interpreter_is_given() {
    let shape = Shape { heads: 4, kv_heads: 2, head_dim: 16, queries: 3, keys: 5 };
    let seen = RefCell::new(Vec::new());
    let numbers = RefCell::new(Vec::new());
    SchemeTest::new(None, || BY)
        .shapes(&[shape])
        .agrees_with(|p| {
            seen.borrow_mut().push((p.batch, p.head, p.query, p.key, p.q_index, p.k_index, p.q_pos, p.k_pos));
            numbers.borrow_mut().extend(p.q.iter().chain(p.k).copied());
            assert_eq!((p.heads, p.length, p.scale), (4, 5, 0.25));
            assert_eq!((p.q.len(), p.k.len()), (16, 16));
            assert_eq!(p.score(), 0.25 * p.q.iter().zip(p.k).map(|(q, k)| q * k).sum::<f64>());
            assert_eq!((p.masked(true), p.masked(false)), (p.score(), f64::NEG_INFINITY));
            p.score()
        })
        .run()
        .expect("it is the plain score");
    let mut expected = Vec::new();
    for batch in 0..2 {
        let position = |index: i64| (if batch == 0 { 3 * index + 5 } else { 7 - 4 * index }) as f64;
        for head in 0..4 {
            for (query, key) in (0..3).flat_map(|query| (0..5).map(move |key| (query, key))) {
                let (q_index, k_index) = (query as i64 + 2, key as i64);
                expected.push((batch, head, query, key, q_index, k_index, position(q_index), position(k_index)));
            }
        }
    }
    assert_eq!(*seen.borrow(), expected);
    // Of either sign, up to 1, and about 0 in the mean.
    let numbers = numbers.into_inner();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let [least, most] = [f64::min, f64::max].map(|of| numbers.iter().copied().fold(0.0, of));
    assert!(mean.abs() < 0.1 && (-1.0..-0.9).contains(&least) && (0.9..1.0).contains(&most), "{mean} {least} {most}");
}

#[test]
fn scores_may_differ_by_rounding_alone() {
    // A factor may be off by 1e-9 of itself and of 1: of scores near 0 by as much as of 1, of greater ones by more.
    let off = |by: f64, size: f64| {
        let score: Score = if size == 0.0 { |_, score| score * 0.0 } else { |_, score| score * 0.0 + 1e6 };
        SchemeTest::new(None, move || By { score, ..BY }).agrees_with(move |_| size + by).run().is_ok()
    };
    assert_eq!([0.5e-9, 2e-9].map(|by| off(by, 0.0)), [true, false]);
    assert_eq!([0.5e-3, 2e-3].map(|by| off(by, 1e6)), [true, false]);
    assert!(!off(f64::NAN, 0.0) && !off(f64::INFINITY, 0.0));
}

#[test]
fn scores_that_a_shift_moves_are_found_in_either_direction() {
    let claimed = |score| SchemeTest::new(None, move || By { score, ..BY }).shift_invariant();
    claimed(|cx, score| score - (cx.q_pos() - cx.k_pos()).abs() * 0.5).run().expect("it is invariant");
    // Positions of the kit lie from -41 to 41.
    let far: [(i32, Score); 4] = [
        (1, |cx, score| score + cx.k_pos()),
        (37, |cx, score| (cx.k_pos().gt(50) & cx.k_pos().lt(1000)).select(score + 1.0, score)),
        (4096, |cx, score| cx.k_pos().gt(1000).select(score + 1.0, score)),
        (-12, |cx, score| cx.k_pos().lt(-45).select(score + 1.0, score)),
    ];
    for (shift, score) in far {
        let found = finding(&claimed(score));
        assert!(matches!(found, Finding::Shift { shift: at, .. } if at == shift), "{shift}: {found}");
    }
}

/// A registry that makes `by` of its attributes.
fn registry(make: fn(&Attrs) -> By) -> Registry {
    let entry = Entry::new(bare().clone(), move |attrs| Ok(make(attrs)));
    Registry::standard().with(entry).expect("a new name")
}

#[test]
fn entries_that_make_something_else_are_found() {
    fn other() -> &'static SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| SchemeInfo::new("other", [], "score", "of the tests"));
        &INFO
    }
    let others: [fn(&Attrs) -> By; 3] = [
        |_| By { info: other, ..BY },
        |_| By { hooks: &[Hook::Score, Hook::Mask], ..BY },
        |_| By { attributes: || Attrs::from([("a".to_owned(), Attr::Int(1))]), ..BY },
    ];
    for make in others {
        let registry = registry(make);
        let found = finding(&SchemeTest::new(&registry, || BY).agrees_with(plain));
        assert!(matches!(found, Finding::RoundTrip { .. }), "{found}");
    }
    let same = registry(|_| BY);
    SchemeTest::new(&same, || BY).agrees_with(plain).run().expect("it is the same");
}

/// A scheme that does nothing, and tells a slope or none.
#[derive(Clone, Copy)]
struct Sloped {
    told: Option<f64>,
}

impl Declared for Sloped {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
            let slope = AttrInfo::new("slope", AttrKind::Float, "how steep it is");
            let info = SchemeInfo::new("sloped", [Hook::Score], "score", "of the tests");
            SchemeInfo { attributes: vec![slope], ..info }
        });
        &INFO
    }

    fn attributes(&self) -> Attrs {
        self.told.map(|slope| ("slope".to_owned(), Attr::Float(slope))).into_iter().collect()
    }
}

impl PositionScheme for Sloped {}

#[test]
fn attributes_that_entries_do_not_read_are_found() {
    let read = |attrs: &Attrs| attrs.get("slope").and_then(f64::read);
    let test = |make: fn(Option<f64>) -> Option<f64>| {
        let given = Sloped { told: make(None) };
        let entry = Entry::new(given.info().clone(), move |attrs| Ok(Sloped { told: make(read(attrs)) }));
        let registry = Registry::standard().with(entry).expect("a new name");
        SchemeTest::new(&registry, move || given).agrees_with(plain).run().map_err(|failure| *failure.finding)
    };
    // One that is always the same, one that is never told, one that is told as another.
    for make in [|_| Some(1.0), |_| None, |slope: Option<f64>| slope.map(|slope| slope + 1.0)] {
        let found = test(make).expect_err("it is not read");
        assert!(matches!(&found, Finding::Unread { attribute, .. } if attribute == "slope"), "{found}");
    }
    assert_eq!(test(|slope| slope), Ok(()));
    // At its default it need not be told.
    assert_eq!(test(|slope| slope.filter(|slope| *slope != 2.0)), Ok(()));
}

#[test]
fn axes_of_schemes_are_known_by_name_and_length() {
    let attention = Attention::new(2, 8).score_with(|cx, score| {
        let [first, again, longer, longest, other] =
            [("reach", 3), ("reach", 3), ("reach", 4), ("reach", 5), ("other", 3)].map(|(name, n)| cx.axis(name, n));
        assert_eq!(first, again);
        let name = |axis| cx.builder().axis_info(axis).expect("an axis").name;
        assert_eq!([first, longer, longest, other].map(name), ["reach", "reach_2", "reach_3", "other"]);
        score
    });
    attention.build().expect("a graph");
}

#[test]
fn axes_may_be_as_long_as_a_table() {
    let head_dim = |length| {
        let builder = GraphBuilder::new("long");
        let (parts, _) = Attention::new(1, length).parts(&builder).expect("sizes");
        parts.head_dim()
    };
    assert_eq!(head_dim(1 << 20), Ok(1 << 20));
    assert!(matches!(head_dim((1 << 20) + 1), Err(SchemeError::LongAxis { most: 1_048_576, .. })));
}

#[test]
fn schemes_and_entries_tell_their_names_when_debugged() {
    assert_eq!(format!("{:?}", Scheme::new(BY)), "Scheme(by {})");
    let entry = Entry::new(bare().clone(), |_| Ok(BY));
    assert!(format!("{entry:?}").contains("by"));
}

fn check(scheme: By, reference: fn(&Point<'_>) -> f64) -> Result<(), Finding> {
    let test = SchemeTest::new(None, move || scheme).agrees_with(reference);
    test.run().map_err(|failure| *failure.finding)
}

/// The first is right, the others take indices for positions.
#[test]
fn the_kit_finds_biases_that_read_indices() {
    let forms: [for<'g> fn(&SchemeContext<'g>, Expr<'g>) -> Expr<'g>; 4] = [
        |cx, score| score - 0.5 * (cx.q_pos() - cx.k_pos()).abs(),
        |cx, score| score - 0.5 * (cx.q_index() - cx.k_pos()).abs(),
        |cx, score| score - 0.5 * (cx.q_pos() - cx.k_index()).abs(),
        |cx, score| score - 0.5 * (cx.q_index() - cx.k_index()).abs(),
    ];
    let found = forms
        .map(|score| check(By { hooks: &[Hook::Score], score, ..BY }, |p| p.score() - 0.5 * (p.q_pos - p.k_pos).abs()));
    assert!(found[0].is_ok(), "{found:?}");
    assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{found:?}");
}

/// The first is right, the others take indices for positions.
#[test]
fn the_kit_finds_rotations_that_read_indices() {
    let forms: [for<'g> fn(&SchemeContext<'g>, Hook) -> Expr<'g>; 4] = [
        BY.turn,
        |cx, hook| if hook == Hook::Query { cx.q_index() } else { cx.k_pos() },
        |cx, hook| if hook == Hook::Query { cx.q_pos() } else { cx.k_index() },
        |cx, hook| if hook == Hook::Query { cx.q_index() } else { cx.k_index() },
    ];
    let found = forms.map(|turn| {
        check(By { hooks: &[Hook::Query, Hook::Key], turn, ..BY }, |p| {
            let theta = [1.0, 0.1, 0.01, 0.001];
            p.rotated((0..4).map(|j| (j, j + 4, p.q_pos * theta[j], p.k_pos * theta[j])))
        })
    });
    assert!(found[0].is_ok(), "{found:?}");
    assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{found:?}");
}

/// The first of each is right, the others take positions for indices.
#[test]
fn the_kit_finds_masks_that_read_positions() {
    type Mask = for<'g> fn(&SchemeContext<'g>) -> Expr<'g>;
    type Sees = fn(&Point<'_>) -> f64;
    let causal: [Mask; 4] = [
        |cx| cx.k_index().le(cx.q_index()),
        |cx| cx.k_pos().le(cx.q_index()),
        |cx| cx.k_index().le(cx.q_pos()),
        |cx| cx.k_pos().le(cx.q_pos()),
    ];
    let near: [Mask; 2] = [|cx| (cx.q_index() - cx.k_index()).abs().le(2), |cx| (cx.q_pos() - cx.k_pos()).abs().le(2)];
    let prefix: [Mask; 2] = [|cx| cx.k_index().lt(4), |cx| cx.k_pos().lt(4)];
    let parity: [Mask; 2] =
        [|cx| ((cx.q_index() - cx.k_index()) % 2).eq(0), |cx| ((cx.q_pos() - cx.k_pos()) % 2).eq(0)];
    let cases: [(&[Mask], Sees); 4] = [
        (&causal, |p| p.masked(p.k_index <= p.q_index)),
        (&near, |p| p.masked((p.q_index - p.k_index).abs() <= 2)),
        (&prefix, |p| p.masked(p.k_index < 4)),
        (&parity, |p| p.masked((p.q_index - p.k_index) % 2 == 0)),
    ];
    for (index, (forms, sees)) in cases.into_iter().enumerate() {
        let found: Vec<_> =
            forms.iter().map(|mask| check(By { hooks: &[Hook::Mask], mask: *mask, ..BY }, sees)).collect();
        assert!(found[0].is_ok(), "{index}: {found:?}");
        assert!(found[1..].iter().all(|found| matches!(found, Err(Finding::Score { .. }))), "{index}: {found:?}");
    }
}

/// What varies over the batch has one number per sequence.
#[test]
fn the_kit_tells_sequences_apart() {
    let registry = Registry::standard();
    let test = SchemeTest::with_inputs(&registry, |cx| PrefixLm::new(cx.input("prefix", Elem::I32, [cx.b])))
        .input("prefix", |_| Tensor::i32([2], [1, 6]))
        .agrees_with(|p| p.masked(p.k_index < 1 || p.k_index <= p.q_index));
    let found = finding(&test);
    assert!(matches!(found, Finding::Score { batch: 1, .. }), "{found}");
}
