//! Document mask: tokens of packed documents see their own document alone.
//!
//! `doc(i) = doc(j)`. Ids come with each call, per token. With one value, over the keys, the id of a query is that of the key at its
//! index. Joined with the causal mask it makes packed training batches; positions that start anew in every document are the site's.
//!
//! ```text
//! %mask = scheme documents.mask @0 {keys = %documents} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %5 = gather %documents over k at %i : i32[q]
//! %mask = eq %5, %documents : bool[q, k]
//! ```

use rhumb_ir::{Elem, Expr, Value};

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Tokens of packed documents see their own document alone.
    ///
    /// See the [module](self).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Documents: "documents" at Mask = "doc(i) = doc(j)" {
        /// i32 document id of each key.
        keys: Value,
        /// i32 document id of each query.
        #[default("the id of the key at the query's index")]
        queries: Option<Value> = None,
    }
}

impl Documents {
    /// Document ids (`i32`) of queries, over the query axis, and of keys, over the key axis.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>) -> Documents {
        Documents { queries: Some(queries.value()), ..Documents::of_keys(keys) }
    }

    /// Document ids (`i32`) of keys, over the key axis, where queries are among the keys.
    pub fn of_keys(keys: Expr<'_>) -> Documents {
        Documents::with_defaults(keys.value())
    }
}

impl PositionScheme for Documents {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let ids = |name, value, other| {
            let ids = cx.value(name, value)?;
            if ids.ty().elem != Elem::I32 {
                return Err(cx.bad_value(name, ids, "i32 document ids"));
            }
            cx.free_of(name, ids, &[other]).map(|()| ids)
        };
        let keys = ids("keys", self.keys, cx.query_axis())?;
        if let Some(queries) = self.queries {
            ids("queries", queries, cx.key_axis())?;
        } else if !keys.ty().axes.contains(cx.key_axis()) {
            return Err(cx.bad_value("keys", keys, format!("ids over axis `{}`", cx.axis_name(cx.key_axis()))));
        }
        Ok(())
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let keys = cx.value("keys", self.keys)?;
        let queries = match self.queries {
            Some(queries) => cx.value("queries", queries)?,
            None => keys.gather(cx.key_axis(), cx.q_index()),
        };
        Ok(queries.eq(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("documents.rs"), 8, |cx| {
            Box::new(Documents::of_keys(cx.builder().input("documents", rhumb_ir::Elem::I32, [cx.key_axis()])))
        });
    }
}
