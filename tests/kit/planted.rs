//! Schemes with a mistake each, and what the kit says of them. Beside each stands the scheme as it was meant, which passes.

use std::sync::LazyLock;

use rhumb::ir::Attrs;
use rhumb::plugins::Declared;
use rhumb::prelude::*;
use rhumb::testing::{Point, SchemeTest, Shape, TestFailure};

use super::{one_target, said};

/// Declares schemes by their hooks and one method each.
macro_rules! schemes {
    ($(#[doc = $doc:literal] $Scheme:ident $name:literal [$($hook:ident),+] $method:ident($($arg:ident: $ty:ty),*) |$cx:ident| $body:expr;)+) => {$(
        scheme! {
            #[doc = $doc]
            struct $Scheme: $name at $($hook),+ = "of the tests";
        }
        impl PositionScheme for $Scheme {
            fn $method<'g>(&self, $cx: &SchemeContext<'g>, $($arg: $ty),*) -> Result<Expr<'g>, SchemeError> {
                Ok($body)
            }
        }
    )+};
}

schemes! {
    /// A penalty by distance.
    Distance "distance" [Score] score(score: Expr<'g>) |cx| score - (cx.q_pos() - cx.k_pos()).abs() * 0.5;
    /// It is a score, and lists a mask.
    OtherHook "other_hook" [Mask] score(score: Expr<'g>) |cx| score - (cx.q_pos() - cx.k_pos()).abs() * 0.5;
    /// It lists a hook more than it has.
    IdleHook "idle_hook" [Key, Score] score(score: Expr<'g>) |cx| score - (cx.q_pos() - cx.k_pos()).abs() * 0.5;
    /// The logarithm of distances below 0.
    Logarithm "logarithm" [Score] score(score: Expr<'g>) |cx| score - (cx.q_pos() - cx.k_pos() - 1).log();
    /// A reciprocal that has a pole where the positions meet.
    Pole "pole" [Score] score(score: Expr<'g>) |cx| score + 1.0 / (cx.q_pos() - cx.k_pos()).abs();
    /// A causal mask by positions.
    ByPosition "by_position" [Mask] mask() |cx| cx.k_pos().le(cx.q_pos());
    /// A penalty by distance that is one too far.
    OneOff "one_off" [Score] score(score: Expr<'g>) |cx| score - (cx.q_pos() - cx.k_pos() + 1).abs() * 0.5;
    /// A penalty by distance that takes indices for positions.
    ByIndex "by_index" [Score] score(score: Expr<'g>) |cx| score - (cx.q_index() - cx.k_index()).abs() * 0.5;
    /// Each score less its share of all of the query.
    Relative "relative" [Score] score(score: Expr<'g>) |cx| score - score.softmax(cx.key_axis()) * 0.5;
    /// A penalty by the key's position.
    ByKey "by_key" [Score] score(score: Expr<'g>) |cx| score - cx.k_pos() * 0.5;
    /// A penalty that is smaller ahead of the query.
    Lopsided "lopsided" [Score] score(score: Expr<'g>) |cx| score + (cx.k_pos() - cx.q_pos()) * 0.5;
    /// Queries scaled by what a table of distances holds for all keys, which is written out for each of both.
    WrittenOut "written_out" [Query] query(query: Expr<'g>) |cx| {
        let offset = cx.axis("offset", 9);
        let table = cx.table(&[offset], (0..9).map(|i| 0.1 * f64::from(i)).collect::<Vec<_>>());
        let of_pairs = table.gather(offset, cx.k_index() - cx.q_index() + 4);
        query * of_pairs.dot(of_pairs, cx.key_axis())
    };
    /// A bonus that grows with the distance.
    Growing "growing" [Score] score(score: Expr<'g>) |cx| score + (cx.q_pos() - cx.k_pos()).abs() * 0.5;
}

/// A penalty that tells nothing of its slope.
struct Untold {
    slope: f64,
}

fn untold_info() -> &'static SchemeInfo {
    static INFO: LazyLock<SchemeInfo> =
        LazyLock::new(|| SchemeInfo::new("untold", [Hook::Score], "score - slope |p_q - p_k|", "a penalty"));
    &INFO
}

impl Declared for Untold {
    fn info(&self) -> &SchemeInfo {
        untold_info()
    }
}

impl PositionScheme for Untold {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score - self.slope * (cx.q_pos() - cx.k_pos()).abs())
    }
}

/// A score that reads a value of the graph.
struct Learned(rhumb::ir::Value);

impl Declared for Learned {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
            let info = SchemeInfo::new("learned", [Hook::Score], "score + t_h", "a learned bias");
            let table = rhumb::plugins::AttrInfo::new("table", rhumb::plugins::AttrKind::Value, "a number per head");
            SchemeInfo { attributes: vec![table], ..info }
        });
        &INFO
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("table".to_owned(), Attr::Value(self.0))])
    }
}

impl PositionScheme for Learned {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score + cx.value("table", self.0)?)
    }
}

/// A penalty of as many slopes as there are heads, which does not say how many it needs.
struct Slopes(Vec<f64>);

impl Declared for Slopes {
    fn info(&self) -> &SchemeInfo {
        static INFO: LazyLock<SchemeInfo> = LazyLock::new(|| {
            let info = SchemeInfo::new("slopes", [Hook::Score], "score - m_h |p_q - p_k|", "a penalty");
            let slopes = rhumb::plugins::AttrInfo::new("slopes", rhumb::plugins::AttrKind::List, "a number per head");
            SchemeInfo { attributes: vec![slopes], ..info }
        });
        &INFO
    }

    fn attributes(&self) -> Attrs {
        Attrs::from([("slopes".to_owned(), Attr::List(self.0.clone()))])
    }
}

impl PositionScheme for Slopes {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score - cx.per_head(self.0.clone())? * (cx.q_pos() - cx.k_pos()).abs())
    }
}

fn penalty(p: &Point<'_>) -> f64 {
    p.score() - 0.5 * (p.q_pos - p.k_pos).abs()
}

fn failure(test: &SchemeTest<'_>) -> TestFailure {
    test.run().expect_err("there is a mistake")
}

/// What is said of each, one after another.
#[track_caller]
fn hold(name: &str, failures: impl IntoIterator<Item = (&'static str, TestFailure)>) {
    let texts = failures.into_iter().map(|(mistake, failure)| format!("# {mistake}\n{}\n", said(&failure)));
    insta::assert_snapshot!(name, texts.collect::<Vec<_>>().join("\n"));
}

fn all_claims<'a>(test: SchemeTest<'a>) -> SchemeTest<'a> {
    test.shift_invariant().symmetric().decays().parameter_free()
}

#[test]
fn what_is_meant_passes() -> Result<(), TestFailure> {
    let registry = Registry::empty().with(Entry::of::<Distance>()).expect("a new name");
    all_claims(SchemeTest::new(&registry, || Distance).agrees_with(penalty)).run()
}

#[test]
fn hooks() {
    hold(
        "hooks",
        [
            ("a score that lists a mask", failure(&SchemeTest::new(None, || OtherHook).agrees_with(penalty))),
            ("a hook too many", failure(&SchemeTest::new(None, || IdleHook).agrees_with(penalty))),
        ],
    );
}

#[test]
fn scores() {
    let causal = |p: &Point<'_>| p.masked(p.k_index <= p.q_index);
    hold(
        "scores",
        [
            ("NaN", failure(&SchemeTest::new(None, || Logarithm))),
            ("infinite", failure(&SchemeTest::new(None, || Pole))),
            ("positions for indices", failure(&SchemeTest::new(None, || ByPosition).agrees_with(causal))),
            ("indices for positions", failure(&SchemeTest::new(None, || ByIndex).agrees_with(penalty))),
            ("one off", failure(&SchemeTest::new(None, || OneOff).agrees_with(penalty))),
        ],
    );
}

#[test]
fn claims() {
    let bias = SchemeTest::with_inputs(None, |cx| Learned(cx.input("table", Elem::F32, [cx.h]).value()));
    let bias =
        bias.input("table", |shape| rhumb::ir::Tensor::f32([shape.heads as usize], vec![0.5; shape.heads as usize]));
    hold(
        "claims",
        [
            ("not shift invariant", failure(&SchemeTest::new(None, || ByKey).shift_invariant())),
            ("not symmetric", failure(&SchemeTest::new(None, || Lopsided).symmetric())),
            ("growing", failure(&SchemeTest::new(None, || Growing).decays())),
            ("not causal", failure(&SchemeTest::new(None, || Distance).causal())),
            ("with parameters", failure(&bias.parameter_free())),
        ],
    );
}

#[test]
fn what_is_written() {
    let entry = Entry::new(untold_info().clone(), |_| Ok(Untold { slope: 0.25 }));
    let registry = Registry::empty().with(entry).expect("a new name");
    hold(
        "what_is_written",
        [
            ("a slope that is not told", failure(&SchemeTest::new(&registry, || Untold { slope: 0.5 }))),
            ("no entry", failure(&SchemeTest::new(&Registry::standard(), || Distance))),
        ],
    );
    // With the slope of its entry it is what is written, and without an entry nothing is written that could be read.
    let quick = |test: SchemeTest<'_>| test.targets(&one_target()).run().expect("is what is written");
    quick(SchemeTest::new(&registry, || Untold { slope: 0.25 }));
    quick(SchemeTest::new(None, || Untold { slope: 0.5 }).agrees_with(penalty));
}

#[test]
fn sizes() {
    let odd = [Shape { heads: 2, kv_heads: 1, head_dim: 7, queries: 3, keys: 3 }];
    let three = || Slopes(vec![0.5, 0.25, 0.125]);
    hold(
        "sizes",
        [
            ("none", failure(&SchemeTest::new(None, || Distance).shapes(&[]))),
            ("an odd number of elements", failure(&SchemeTest::new(None, Rope::new).shapes(&odd))),
            ("slopes of other heads", failure(&SchemeTest::new(None, three).shapes(&odd))),
        ],
    );
    let test = SchemeTest::new(None, three).targets(&one_target());
    test.agrees_with(|p| p.score() - 0.5f64.powi(p.head as i32 + 1) * (p.q_pos - p.k_pos).abs()).run().expect("fits");
}

/// Its results are right, and it takes as much memory as all scores.
#[test]
fn what_is_made_over_queries_and_keys() {
    hold("materialised", [("a table over both", failure(&SchemeTest::new(None, || WrittenOut)))]);
}

/// Each is right by the interpreter.
#[test]
fn what_has_no_kernel() {
    hold("what_has_no_kernel", [("scores that are summed", failure(&SchemeTest::new(None, || Relative)))]);
}
