//! Whether a scheme is what is written of it: its attributes, its registry entry, the text form.

use rhumb_ir::{Attr, Graph, Verified};
use rhumb_plugins::{PositionScheme, Registry, lower};

use super::failure::Finding;
use super::samples::samples;

/// Makes the scheme again from its attributes.
pub(super) fn made_again(registry: &Registry, scheme: &dyn PositionScheme) -> Result<(), Finding> {
    let attrs = scheme.attributes();
    let again = registry.make(scheme.name(), &attrs).map_err(Finding::Registry)?;
    let same = again.name() == scheme.name() && again.hooks() == scheme.hooks() && again.attributes() == attrs;
    if same { Ok(()) } else { Err(Finding::RoundTrip { before: attrs, after: again.attributes() }) }
}

/// Checks that the registry's entry reads what it declares: what an attribute is given, the scheme that is made of it tells again.
pub(super) fn entry(registry: &Registry, scheme: &dyn PositionScheme, graph: &Verified) -> Result<(), Finding> {
    let info = registry.info(scheme.name()).map_err(Finding::Registry)?;
    let values: Vec<_> = graph.values().take(2).collect();
    for attr in &info.attributes {
        let samples = samples(attr, &values);
        // One of them may be the default.
        let mut left_out = usize::from(samples.len() > 1);
        for given in samples {
            let mut attrs = scheme.attributes();
            attrs.insert(attr.name.clone(), given.clone());
            // An entry by hand may refuse what does not go with the scheme's other attributes.
            let Ok(made) = registry.make(scheme.name(), &attrs) else { continue };
            let told = match made.attributes().get(&attr.name) {
                Some(told) => same_bits(told, &given),
                None => std::mem::take(&mut left_out) > 0,
            };
            if !told {
                return Err(Finding::Unread { attribute: attr.name.clone(), given });
            }
        }
    }
    Ok(())
}

fn same_bits(a: &Attr, b: &Attr) -> bool {
    let bits = |list: &[f64]| list.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    match (a, b) {
        (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
        (Attr::List(a), Attr::List(b)) => bits(a) == bits(b),
        _ => a == b,
    }
}

/// Checks that the scheme lowers as the one that the registry makes from what is written of it.
pub(super) fn written(
    registry: &Registry,
    scheme: &dyn PositionScheme,
    lowered: &Verified,
    parsed: &Verified,
) -> Result<(), Finding> {
    let again = lower(parsed, registry).map_err(Finding::LowerWritten)?;
    let (given, written) = (lowered.to_string(), again.to_string());
    if given == written {
        return Ok(());
    }
    let (mut given, mut written) = (given.lines(), written.lines());
    let (given, written) = loop {
        match (given.next(), written.next()) {
            (Some(given), Some(written)) if given == written => {}
            (given, written) => break (given.unwrap_or_default(), written.unwrap_or_default()),
        }
    };
    Err(Finding::Written { attrs: scheme.attributes(), given: given.to_owned(), written: written.to_owned() })
}

/// The graph, printed and read.
pub(super) fn text_round_trip(graph: &Verified) -> Result<Verified, Finding> {
    let text = graph.to_string();
    match Graph::parse(&text) {
        Ok(parsed) if parsed.to_string() == text => Ok(parsed),
        Ok(parsed) => Err(Finding::Print { before: text, after: parsed.to_string() }),
        Err(error) => Err(Finding::Parse { text, error: Box::new(error) }),
    }
}
