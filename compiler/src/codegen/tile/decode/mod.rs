//! The tile kernel for few queries. A row is a query, of a position and of one of the heads that share keys and values; all rows take
//! each key and value from where it was loaded once.
//!
//! ```text
//! begin   Q[rows][d]    <- rows of the query side, rotated and scaled as they are read
//! refer   R[rows]       = max of the key term over the keys that each row sees       lanes are keys
//! keys    K[keys][d]    <- rows of keys, where they are computed or are not contiguous
//!         S[rows][keys] = Q K^T                    lanes are elements, summed across lanes four keys at a time
//!         S             = S, + bias, + (key term - R), masked                        lanes are keys
//!         r = 1, but where max S passes the limit: r = exp2(m - max S);  m = max S;  limit = m + 8
//!         P = exp2(S - m);  l = l r + sum P                                          lanes are keys
//!         O[rows][e]    = O r + P V                                                  lanes are elements of values
//! end     out = O / l,  lse = R + m + log2(l)
//! ```
//!
//! A call adds key tile after key tile, as many as lie one behind the other.
//!
//! Rows in fewer bits are widened whenever they are loaded. A scale of whole rows is moved out: products are multiplied with it, and weights. Rows
//! of `i8` may be multiplied as integers: see [`integers`].
//!
//! Rows end with whole vectors, the rest of them zeros. What is not contiguous, or has no whole number of vectors, is copied to the scratch
//! memory first, so that results do not depend on strides.

mod ahead;
mod average;
mod begin;
mod computed;
mod end;
mod integers;
mod key_term;
mod numbers;
mod product;
mod reference;
mod rows;
mod scan;
mod score;
mod source;
mod weights;

pub(crate) use self::begin::begin;
pub(crate) use self::end::end;
pub(crate) use self::reference::reference;
use self::rows::Rows;
pub(crate) use self::scan::scan;
use super::query_tile::Mode;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::plan::{Attention, Decode};

/// Adds key tiles to a tile of rows: those that a call has keys of.
pub(crate) fn keys(
    emitter: &mut ExprEmitter<'_, '_>,
    attention: &Attention,
    decode: &Decode,
    mode: Mode,
) -> Result<(), CodegenError> {
    let Some(rows) = Rows::new(emitter, attention, decode) else { return Ok(()) };
    let mut result = Ok(());
    rows.each_tile(emitter, |emitter, rows| result = key_tile(emitter, rows, mode));
    result
}

/// Adds a key tile.
fn key_tile(emitter: &mut ExprEmitter<'_, '_>, rows: Rows<'_>, mode: Mode) -> Result<(), CodegenError> {
    for product in &rows.tile.attention.products {
        product::products(emitter, (rows, mode), product)?;
    }
    rows.write_key_lanes(emitter);
    score::scores(emitter, rows, mode)?;
    if rows.tile.of_softmax() {
        weights::weights(emitter, rows, mode);
    }
    average::averages(emitter, rows, mode)
}
