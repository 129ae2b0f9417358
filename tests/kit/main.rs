//! The test kit itself: what it tries schemes with, and each of the mistakes that it finds.

mod by;
mod entries;
mod goldens;
mod planted;
mod reads;

use rhumb::prelude::*;
use rhumb::testing::{Finding, SchemeTest, TestFailure};

/// One target of this machine, where it does not matter which.
fn one_target() -> [Target; 1] {
    [Target::host().expect("this machine runs kernels").candidates().remove(0)]
}

fn finding(test: &SchemeTest<'_>) -> Finding {
    *test.run().expect_err("there is a mistake").finding
}

/// What a failure says, wherever it ran.
fn said(failure: &TestFailure) -> String {
    let target = failure.run.as_ref().map(|run| run.target.as_str());
    target.map_or_else(|| failure.to_string(), |target| failure.to_string().replace(target, "TARGET"))
}
