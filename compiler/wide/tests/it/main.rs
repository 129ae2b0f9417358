//! Integration tests, one binary so that they link once.
#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    clippy::float_cmp,
    clippy::neg_cmp_op_on_partial_ord,
    clippy::nonminimal_bool,
    reason = "bit patterns throughout, and floats compared as CLIF does"
)]

mod calls;
mod control;
mod dot;
mod integers;
mod jit;
#[path = "../kernels/mod.rs"]
mod kernels;
mod lanes;
mod machine;
mod masks;
mod memory;
mod model;
mod ops;
mod random;
mod refusals;
mod shuffles;
mod snapshots_of_kernels;
