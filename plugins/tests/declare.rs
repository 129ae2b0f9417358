//! Declarations of schemes: what is made of them.

use rhumb_ir::{Attr, Attrs, Expr, Graph, Hook};
use rhumb_plugins::{
    Alibi, Attention, AttrKind, AttrRange, Choice, Declared, Entry, FromAttrs, IntOrValue, PositionScheme, Registry,
    RegistryError, Scheme, SchemeContext, SchemeError, lower, scheme,
};

/// Which side of the query.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Both,
    Past,
}

impl Choice for Side {
    const NAMES: &'static [(&'static str, Side)] = &[("both", Side::Both), ("past", Side::Past)];
}

scheme! {
    /// A penalty of many parts.
    ///
    /// This is not part of the summary.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Parts: "parts" at Score = "score - sum of parts" {
        /// The farthest that is seen.
        #[range(1.., "a number of tokens")]
        reach: i32,
        /// How steep it is, per head.
        slopes: Vec<f64>,
        /// A share of all.
        ///
        /// Of 1, nothing is left.
        #[range(0.0..1.0)]
        share: f64 = 0.25,
        /// The first and the last weight.
        #[range(AttrRange::above(0.0))]
        #[default("none at all")]
        weights: Option<[f64; 2]> = None,
        /// Which side counts.
        pub(crate) side: Side = Side::Both,
        /// How many.
        count: u32 = 3,
        /// An offset.
        offset: IntOrValue = IntOrValue::Int(-1),
        /// Whether it is on
        on: bool = Self::ON,
    }
}

impl Parts {
    const ON: bool = true;
}

impl PositionScheme for Parts {
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let offset = cx.int_or_value("offset", self.offset)?;
        let [first, last] = self.weights.unwrap_or([1.0, 1.0]);
        let far = (cx.q_pos() - cx.k_pos() + offset).abs().min(self.reach) * f64::from(self.count);
        let far = if self.side == Side::Past { far.max(0.0) } else { far };
        let on = if self.on { self.share * first * last * self.slopes.iter().sum::<f64>() } else { 0.0 };
        Ok(score - far * on)
    }
}

scheme! {
    /// Twice ALiBi
    struct Twice: "twice" at Score = "score - 2 m_h (p_q - p_k)" {
        /// What is doubled.
        #[flatten]
        alibi: Alibi = Alibi::new().symmetric(),
    }
}

impl PositionScheme for Twice {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        self.alibi.check(cx)
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        self.alibi.score(cx, self.alibi.score(cx, score)?)
    }
}

fn parts() -> Parts {
    Parts::with_defaults(8, vec![0.5, 0.25])
}

fn attrs(given: &[(&str, Attr)]) -> Attrs {
    given.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect()
}

#[test]
fn a_declaration_says_all_once() {
    let info = Parts::declaration();
    assert_eq!((info.name.as_str(), info.formula.as_str()), ("parts", "score - sum of parts"));
    assert_eq!((info.summary.as_str(), &info.hooks), ("A penalty of many parts", &vec![Hook::Score]));
    let listing: Vec<String> = info
        .attributes
        .iter()
        .map(|attr| {
            let default = attr.default.as_deref().unwrap_or("must be given");
            format!("{} | {} | {} | {} | {default}", attr.name, attr.kind, attr.doc, attr.expected())
        })
        .collect();
    insta::assert_snapshot!(listing.join("\n"), @r#"
    reach | int | The farthest that is seen | a number of tokens from 1 | must be given
    slopes | list | How steep it is, per head | a list of finite numbers | must be given
    share | number | A share of all | a number from 0 and below 1 | 0.25
    weights | list | The first and the last weight | a list of 2 finite numbers above 0 | none at all
    side | "both"|"past" | Which side counts | "both" or "past" | both
    count | int | How many | an integer from 0 | 3
    offset | int|value | An offset | an integer, or a value of the graph | -1
    on | bool | Whether it is on | true or false | true
    "#);
    assert_eq!(parts().name(), "parts");
    assert_eq!(parts().hooks(), [Hook::Score]);
    assert_eq!(parts().info(), info);
}

#[test]
fn what_is_not_given_is_at_its_default() {
    let Parts { reach, slopes, share, weights, side, count, offset, on } = parts();
    assert_eq!((reach, slopes, share, weights), (8, vec![0.5, 0.25], 0.25, None));
    assert_eq!((side, count, offset, on), (Side::Both, 3, IntOrValue::Int(-1), true));
    assert_eq!(Twice::default().alibi, Alibi::new().symmetric());
}

#[test]
fn schemes_are_written_without_defaults_and_read_again() {
    let plain = attrs(&[("reach", Attr::Int(8)), ("slopes", Attr::List(vec![0.5, 0.25]))]);
    assert_eq!(parts().attributes(), plain);
    let other = Parts {
        share: 0.0,
        weights: Some([1.0, 2.0]),
        side: Side::Past,
        count: u32::MAX,
        offset: IntOrValue::Int(0),
        on: false,
        ..parts()
    };
    let mut written = attrs(&[
        ("share", Attr::Float(0.0)),
        ("weights", Attr::List(vec![1.0, 2.0])),
        ("side", Attr::Str("past".to_owned())),
        ("count", Attr::Int(u32::MAX.into())),
        ("offset", Attr::Int(0)),
        ("on", Attr::Bool(false)),
    ]);
    written.extend(plain.clone());
    assert_eq!(other.attributes(), written);
    assert_eq!(Parts::from_attrs(&written), Ok(other));
    assert_eq!(Parts::from_attrs(&plain), Ok(parts()));
    // Those of other names are others'.
    assert_eq!(Parts::from_attrs(&[("more".to_owned(), Attr::Int(1))].into_iter().chain(plain).collect()), Ok(parts()));
}

#[test]
fn what_registries_refuse_of_a_declared_scheme() {
    let registry = Registry::empty().with(Entry::of::<Parts>()).expect("a new name");
    let plain = parts().attributes();
    let cases = [
        ("reach", Attr::Int(0)),
        ("reach", Attr::Int(1 << 31)),
        ("reach", Attr::Float(1.0)),
        ("slopes", Attr::List(vec![0.5, f64::INFINITY])),
        ("slopes", Attr::Float(0.5)),
        ("share", Attr::Float(1.0)),
        ("share", Attr::Float(f64::NAN)),
        ("share", Attr::Int(-1)),
        ("weights", Attr::List(vec![1.0])),
        ("weights", Attr::List(vec![1.0, 0.0])),
        ("side", Attr::Str("future".to_owned())),
        ("count", Attr::Int(-1)),
        ("count", Attr::Int(1 << 32)),
        ("offset", Attr::Int(i64::MIN)),
        ("on", Attr::Int(1)),
        ("reaches", Attr::Int(1)),
    ];
    let mut report = String::new();
    for (name, attr) in cases {
        let attrs = plain.clone().into_iter().chain([(name.to_owned(), attr)]).collect();
        let error = registry.make("parts", &attrs).expect_err("it is refused");
        report += &format!("{}: {}\n", error.finding(), error.hint());
    }
    let error = registry.make("parts", &attrs(&[("reach", Attr::Int(1))])).expect_err("slopes are missing");
    report += &format!("{}: {}\n", error.finding(), error.hint());
    insta::assert_snapshot!(report, @r#"
    scheme `parts`: attribute `reach` can't be 0: give a number of tokens from 1
    scheme `parts`: attribute `reach` can't be 2147483648: give a number of tokens from 1 to 2147483647
    scheme `parts`: attribute `reach` can't be the number 1.0: give a number of tokens from 1
    scheme `parts`: attribute `slopes` can't be a list with inf: give a list of finite numbers
    scheme `parts`: attribute `slopes` can't be the number 0.5: give a list of finite numbers
    scheme `parts`: attribute `share` can't be 1: give a number from 0 and below 1
    scheme `parts`: attribute `share` can't be NaN: give a number from 0 and below 1
    scheme `parts`: attribute `share` can't be -1: give a number from 0 and below 1
    scheme `parts`: attribute `weights` can't be a list of 1 numbers: give a list of 2 finite numbers above 0
    scheme `parts`: attribute `weights` can't be a list with 0: give a list of 2 finite numbers above 0
    scheme `parts`: attribute `side` can't be "future": give "both" or "past"
    scheme `parts`: attribute `count` can't be -1: give an integer from 0
    scheme `parts`: attribute `count` can't be 4294967296: give an integer from 0 to 4294967295
    scheme `parts`: attribute `offset` can't be -9223372036854775808: give an integer of 32 bits, or a value of the graph
    scheme `parts`: attribute `on` can't be the integer 1: give true or false
    scheme `parts`: unknown attribute `reaches`: did you mean `reach`?
    scheme `parts`: attribute `slopes` is missing: add `slopes`: a list of finite numbers
    "#);
}

/// What is given as a value is held to the same ranges, before the scheme is asked.
#[test]
fn schemes_out_of_their_ranges_do_not_build() {
    let build = |parts: Parts| Attention::heads(2).head_dim(8).scheme(parts).build().map_err(|error| error.finding());
    assert!(build(parts()).is_ok());
    let out =
        [Parts { reach: 0, ..parts() }, Parts { share: 1.0, ..parts() }, Parts { slopes: vec![f64::NAN], ..parts() }];
    let found = out.map(|parts| build(parts).expect_err("out of range"));
    insta::assert_snapshot!(found.join("\n"), @"
    scheme `parts`: attribute `reach` can't be 0
    scheme `parts`: attribute `share` can't be 1
    scheme `parts`: attribute `slopes` can't be a list with NaN
    ");
}

#[test]
fn declared_schemes_are_what_is_written_of_them() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::standard().with(Entry::of::<Parts>())?.with(Entry::of::<Twice>())?;
    let shifted = Parts { offset: IntOrValue::Int(2), side: Side::Past, ..parts() };
    for scheme in [parts().into(), shifted.into(), Twice { alibi: Alibi::new().scale(0.5) }.into()] {
        let scheme: Scheme = scheme;
        let graph = Attention::heads(2).head_dim(8).scheme(scheme).build()?;
        let read = lower(&Graph::parse(&graph.to_string())?, &registry)?;
        assert_eq!(read, lower(&graph, &Registry::empty())?);
    }
    Ok(())
}

#[test]
fn attributes_of_a_field_are_those_of_the_scheme() {
    let registry = Registry::standard().with(Entry::of::<Twice>()).expect("a new name");
    assert_eq!(Twice::declaration().attributes, Alibi::declaration().attributes);
    let made = registry.make("twice", &attrs(&[("scale", Attr::Float(3.0))])).expect("makes");
    assert_eq!(made.attributes(), attrs(&[("scale", Attr::Float(3.0))]));
    let error = registry.make("twice", &attrs(&[("bias_max", Attr::Int(0))])).err();
    assert!(matches!(error, Some(RegistryError::Attrs { source: SchemeError::AttrRange { .. }, .. })), "{error:?}");
    let text =
        Attention::heads(2).head_dim(8).scheme(Twice { alibi: Alibi::new() }).build().expect("a graph").to_string();
    lower(&Graph::parse(&text).expect("parses"), &registry).expect("lowers");
}

/// A zero is not the default if it is another zero: what is left out reads as it was, to the bit.
#[test]
fn defaults_are_compared_to_the_bit() {
    scheme! {
        /// A penalty.
        struct Zero: "zero" at Score = "score" {
            /// Nothing.
            x: f64 = 0.0,
        }
    }
    impl PositionScheme for Zero {}
    assert_eq!(Zero { x: 0.0 }.attributes(), Attrs::new());
    assert!(Zero { x: -0.0 }.attributes().contains_key("x"));
    assert!(matches!(Zero::declaration().attributes[0].kind, AttrKind::Float));
}
