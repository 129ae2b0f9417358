//! Every scheme and mask against its formula, written out from its source for one query and one key: by the interpreter, and compiled for every
//! target of this machine.

mod biases;
mod learned;
mod learned_tensors;
mod masks;
mod rotations;
mod rows;
mod scaled_rotations;
mod written;

use std::collections::BTreeSet;

use rhumb::plugins::Registry;

/// No scheme is built in that is not held to its formula here.
#[test]
fn every_built_in_scheme_is_here() {
    let sources = [
        include_str!("biases.rs"),
        include_str!("learned.rs"),
        include_str!("masks.rs"),
        include_str!("rotations.rs"),
        include_str!("rows.rs"),
        include_str!("scaled_rotations.rs"),
    ];
    let words = sources.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
    let words: BTreeSet<String> = words.map(str::to_lowercase).collect();
    let registry = Registry::standard();
    let absent: Vec<&str> = registry.schemes().map(|info| info.name.as_str()).collect();
    let absent: Vec<&str> = absent.into_iter().filter(|name| !words.contains(&name.replace('_', ""))).collect();
    assert!(absent.is_empty(), "no formula is here of {absent:?}");
}
