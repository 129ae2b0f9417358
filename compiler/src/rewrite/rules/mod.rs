//! The rule tables, one file per theory. `README.md` beside them is their law.

mod arithmetic;
mod mask;
mod rotation;
mod scaling;
mod softmax;

use super::rule::Rule;

/// All rules: the order is that of application within an iteration.
pub(crate) fn all() -> Vec<Rule> {
    [arithmetic::rules(), scaling::rules(), softmax::rules(), rotation::rules(), mask::rules()]
        .into_iter()
        .flatten()
        .collect()
}
