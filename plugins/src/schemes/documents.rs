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

use rhumb_ir::{Attr, Attrs, Elem, Expr, Hook, Value};

use crate::attrs::{AttrInfo, AttrKind, required};
use crate::error::SchemeError;
use crate::registry::{Entry, SchemeInfo};
use crate::scheme::{PositionScheme, SchemeContext};

/// Tokens see their own document alone: see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Documents {
    queries: Option<Value>,
    keys: Value,
}

const INFO: SchemeInfo = SchemeInfo {
    name: "documents",
    summary: "tokens of packed documents see their own document alone",
    formula: "doc(i) = doc(j)",
    attributes: &[
        AttrInfo::new("keys", AttrKind::Value, "", "i32 document id of each key"),
        AttrInfo::new(
            "queries",
            AttrKind::Value,
            "the id of the key at the query's index",
            "i32 document id of each query",
        ),
    ],
};

pub(super) fn entry() -> Entry {
    Entry::new(INFO, |attrs| {
        let keys = required(attrs.value("keys")?, "keys", AttrKind::Value)?;
        Ok(Documents { queries: attrs.value("queries")?, keys })
    })
}

impl Documents {
    /// Document ids (`i32`) of queries, over the query axis, and of keys, over the key axis.
    pub fn new(queries: Expr<'_>, keys: Expr<'_>) -> Documents {
        Documents { queries: Some(queries.value()), keys: keys.value() }
    }

    /// Document ids (`i32`) of keys, over the key axis, where queries are among the keys.
    pub fn of_keys(keys: Expr<'_>) -> Documents {
        Documents { queries: None, keys: keys.value() }
    }
}

impl PositionScheme for Documents {
    fn name(&self) -> &str {
        INFO.name
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Mask]
    }

    fn attributes(&self) -> Attrs {
        let queries = self.queries.map(|value| ("queries".to_owned(), Attr::Value(value)));
        Attrs::from_iter(queries.into_iter().chain([("keys".to_owned(), Attr::Value(self.keys))]))
    }

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
