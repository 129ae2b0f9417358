//! Registry entries that make something else than the scheme.

use std::sync::LazyLock;

use rhumb::ir::{Attr, Attrs, Expr, Hook};
use rhumb::plugins::{
    AttrInfo, AttrKind, AttrType, Declared, Entry, PositionScheme, Registry, SchemeContext, SchemeError, SchemeInfo,
};
use rhumb::testing::{Finding, Point, SchemeTest};

use super::by::{BY, By, bare};
use super::{finding, one_target};

fn plain(p: &Point<'_>) -> f64 {
    p.score()
}

/// A registry that makes `by` of its attributes.
fn registry(make: fn(&Attrs) -> By) -> Registry {
    let entry = Entry::new(bare().clone(), move |attrs| Ok(make(attrs)));
    Registry::standard().with(entry).expect("a new name")
}

#[test]
fn entries_that_make_something_else_are_found() {
    fn other() -> &'static SchemeInfo {
        static INFO: LazyLock<SchemeInfo> =
            LazyLock::new(|| SchemeInfo::new("other", [Hook::Score], "score", "of the tests"));
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
    SchemeTest::new(&same, || BY).targets(&one_target()).agrees_with(plain).run().expect("it is the same");
}

/// A scheme that does nothing of note, and tells a slope or none.
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

impl PositionScheme for Sloped {
    fn score<'g>(&self, _: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(score * 1.0)
    }
}

#[test]
fn attributes_that_entries_do_not_read_are_found() {
    let read = |attrs: &Attrs| attrs.get("slope").and_then(f64::read);
    let test = |make: fn(Option<f64>) -> Option<f64>| {
        let given = Sloped { told: make(None) };
        let entry = Entry::new(given.info().clone(), move |attrs| Ok(Sloped { told: make(read(attrs)) }));
        let registry = Registry::standard().with(entry).expect("a new name");
        let test = SchemeTest::new(&registry, move || given).targets(&one_target()).agrees_with(plain);
        test.run().map_err(|failure| *failure.finding)
    };
    // One that is always the same, one that is never told, one that is told as another.
    for make in [|_| Some(1.0), |_| None, |slope: Option<f64>| slope.map(|slope| slope + 1.0)] {
        let found = test(make).expect_err("it is not read");
        assert!(matches!(&found, Finding::Unread { attribute, .. } if attribute == "slope"), "{found}");
    }
    test(|slope| slope).expect("it is read");
    test(|slope| slope.filter(|slope| *slope != 2.0)).expect("at its default it need not be told");
}
