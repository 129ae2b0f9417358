//! Attributes of the built-in schemes: what is declared of each holds, at the ends of its range, inside and outside.

use std::ops::Bound;

use rhumb_ir::{Attr, Attrs, GraphBuilder, Value};
use rhumb_plugins::{AttrInfo, AttrKind, AttrRange, Registry, RegistryError, Scheme, SchemeError, SchemeInfo};

fn value() -> Value {
    GraphBuilder::new("value").int(0).value()
}

/// Numbers at the ends of a range and beside them, and some anywhere.
fn numbers(range: &AttrRange) -> Vec<f64> {
    let ends = [range.least, range.most].into_iter().filter_map(|end| match end {
        Bound::Included(x) | Bound::Excluded(x) => Some(x),
        Bound::Unbounded => None,
    });
    let beside = |x: f64| [x - 1.0, x.next_down(), x, x.next_up(), x + 1.0];
    ends.flat_map(beside)
        .chain([-2.5, -1.0, 0.0, 0.5, 1.0, 3.0, 1e10, f64::INFINITY, -f64::INFINITY, f64::NAN])
        .collect()
}

/// All that is of the kind of an attribute, be it in its range or not; then what is of no kind that it takes.
fn attempts(info: &AttrInfo) -> (Vec<Attr>, Vec<Attr>) {
    let numbers = numbers(&info.range);
    let length = info.range.length.unwrap_or(3);
    let lists = numbers.iter().map(|x| {
        let mut list = vec![1.0; length];
        list[length - 1] = *x;
        Attr::List(list)
    });
    let ints = numbers.iter().filter(|x| x.fract() == 0.0 && x.abs() < 1e18).map(|x| Attr::Int(*x as i64));
    let names = if let AttrKind::Name(names) = &info.kind { names.clone() } else { Vec::new() };
    let others = [Attr::Bool(true), Attr::Bool(false), Attr::Str("no such name".to_owned()), Attr::Value(value())];
    let all = lists.chain(ints).chain(numbers.iter().copied().map(Attr::Float)).chain(names.into_iter().map(Attr::Str));
    all.chain(others).partition(|attr| match (&info.kind, attr) {
        (AttrKind::Name(names), Attr::Str(name)) => names.contains(name),
        (AttrKind::Bool, Attr::Bool(_)) | (AttrKind::Float, Attr::Float(_) | Attr::Int(_)) => true,
        (AttrKind::Int | AttrKind::IntOrValue, Attr::Int(_)) => true,
        (AttrKind::List | AttrKind::ListOrValue, Attr::List(_)) => true,
        (AttrKind::Value | AttrKind::IntOrValue | AttrKind::ListOrValue, Attr::Value(_)) => true,
        _ => false,
    })
}

fn is_inside(range: &AttrRange, attr: &Attr) -> bool {
    let within = |x: f64| {
        let least = match range.least {
            Bound::Included(least) => least <= x,
            Bound::Excluded(least) => least < x,
            Bound::Unbounded => true,
        };
        let most = match range.most {
            Bound::Included(most) => x <= most,
            Bound::Excluded(most) => x < most,
            Bound::Unbounded => true,
        };
        least && most && !x.is_nan()
    };
    match attr {
        Attr::Int(x) => within(*x as f64),
        Attr::Float(x) => within(*x),
        Attr::List(list) => list.iter().all(|x| within(*x)),
        _ => true,
    }
}

/// The attributes that a scheme can't do without.
fn needed(info: &SchemeInfo) -> Attrs {
    let needed = info.attributes.iter().filter(|attr| attr.default.is_none());
    needed
        .map(|attr| {
            let (of_kind, _) = attempts(attr);
            // An integer that stands for a real number would be written as one.
            let plain = |given: &Attr| attr.kind != AttrKind::Float || matches!(given, Attr::Float(_));
            let given =
                of_kind.into_iter().find(|given| plain(given) && is_inside(&attr.range, given)).expect("something");
            (attr.name.clone(), given)
        })
        .collect()
}

fn with(attrs: &Attrs, name: &str, attr: &Attr) -> Attrs {
    let mut attrs = attrs.clone();
    attrs.insert(name.to_owned(), attr.clone());
    attrs
}

/// Calls a function with each attribute of each built-in scheme: with what it needs, and a function that makes it.
fn each_attribute(mut check: impl FnMut(&str, &AttrInfo, &Attrs, &dyn Fn(&Attrs) -> Result<Scheme, SchemeError>)) {
    let registry = Registry::standard();
    let mut count = 0;
    for info in registry.schemes() {
        let needed = needed(info);
        let make = |attrs: &Attrs| match registry.make(&info.name, attrs) {
            Ok(scheme) => Ok(scheme),
            Err(RegistryError::Attrs { scheme, source }) if scheme == info.name => Err(source),
            Err(error) => panic!("{error}"),
        };
        for attr in &info.attributes {
            check(&info.name, attr, &needed, &make);
            count += 1;
        }
    }
    assert!(count > 40, "{count} attributes");
}

#[test]
fn attributes_are_taken_in_their_ranges_and_written_again() {
    let (mut inside, mut outside) = (0, 0);
    each_attribute(|scheme, attr, needed, make| {
        for given in attempts(attr).0 {
            let attrs = with(needed, &attr.name, &given);
            let what = format!("{scheme}: {} = {given:?}", attr.name);
            match make(&attrs) {
                Ok(made) => {
                    assert!(is_inside(&attr.range, &given), "{what} is taken");
                    let written = made.attributes();
                    // An integer stands for the number.
                    let given = match (given, &attr.kind) {
                        (Attr::Int(x), AttrKind::Float) => Attr::Float(x as f64),
                        (given, _) => given,
                    };
                    let expected = with(needed, &attr.name, &given);
                    let is_default = make(needed).is_ok_and(|plain| plain.attributes() == written);
                    assert!(written == expected || (is_default && attr.default.is_some()), "{what}: {written:?}");
                    assert_eq!(make(&written).expect("is made again").attributes(), written, "{what}");
                    inside += 1;
                }
                Err(SchemeError::AttrRange { name, expected, .. }) => {
                    assert!(!is_inside(&attr.range, &given), "{what} is refused");
                    assert!(name == attr.name && !expected.is_empty(), "{what}: `{name}`, {expected}");
                    outside += 1;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    });
    assert!(inside > 200 && outside > 100, "{inside} inside, {outside} outside");
}

#[test]
fn attributes_of_another_kind_are_refused() {
    each_attribute(|scheme, attr, needed, make| {
        for given in attempts(attr).1 {
            let error = make(&with(needed, &attr.name, &given)).expect_err("another kind");
            let named = matches!(&error, SchemeError::AttrType { name, expected, .. }
                if *name == attr.name && *expected == attr.expected());
            assert!(named, "{scheme}: {} = {given:?}: {error}", attr.name);
        }
    });
}

#[test]
fn attributes_of_unknown_names_are_refused() {
    each_attribute(|scheme, attr, needed, make| {
        let misspelt = format!("{}x", attr.name);
        let error = make(&with(needed, &misspelt, &Attr::Int(1))).expect_err("no such name");
        let SchemeError::UnknownAttr { name, suggestion, known } = error else { panic!("{scheme}: {error}") };
        assert_eq!(name, misspelt);
        assert!(suggestion.is_some_and(|suggestion| known.contains(&suggestion)) && known.contains(&attr.name));
    });
}

#[test]
fn attributes_that_must_be_given_are_missed() {
    let mut count = 0;
    each_attribute(|scheme, attr, needed, make| {
        let mut attrs = needed.clone();
        if attrs.remove(&attr.name).is_none() {
            return;
        }
        let error = make(&attrs).expect_err("it is missing");
        let named = matches!(&error, SchemeError::AttrMissing { name, expected }
            if *name == attr.name && *expected == attr.expected());
        assert!(named, "{scheme}: {error}");
        count += 1;
    });
    assert!(count > 5, "{count}");
}

/// What stands in for an attribute is what the list of attributes says.
#[test]
fn defaults_are_as_they_are_told_and_not_written() {
    let (mut told, mut words) = (0, 0);
    each_attribute(|scheme, attr, needed, make| {
        assert_eq!(make(needed).expect("all that it needs").attributes(), *needed, "{scheme}");
        let Some(default) = &attr.default else { return };
        let given = match &attr.kind {
            AttrKind::Bool => default.parse().ok().map(Attr::Bool),
            AttrKind::Int | AttrKind::IntOrValue => default.parse().ok().map(Attr::Int),
            AttrKind::Float => default.parse().ok().map(Attr::Float),
            AttrKind::Name(_) => Some(Attr::Str(default.clone())),
            _ => None,
        };
        let Some(given) = given else {
            words += 1;
            return;
        };
        let made = make(&with(needed, &attr.name, &given)).expect("the default");
        assert_eq!(made.attributes(), *needed, "{scheme}: {} = {default}", attr.name);
        told += 1;
    });
    assert!(told > 15 && words > 5, "{told} defaults, and {words} in words");
}
