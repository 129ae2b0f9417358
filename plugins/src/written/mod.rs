//! Schemes that are written in text, without Rust.
//!
//! A file declares any number of them, and [`Registry::load`](crate::Registry::load) or [`Registry::with_text`](crate::Registry::with_text)
//! adds them to a registry. From there on they are like any other: by name in graphs, with attributes that are checked, lowered to the same
//! ops and compiled to the same code.
//!
//! ```
//! use rhumb_plugins::{Attention, Causal, Registry};
//!
//! let registry = Registry::standard().with_text(
//!     "/// A penalty linear in the distance, as steep for keys ahead as for those behind.
//!      scheme tilted_alibi(slope: f32 = 0.5) {
//!        score = score - slope * abs(k_pos - q_pos)
//!      }",
//! )?;
//! let tilted = registry.make("tilted_alibi", &[("slope".to_owned(), 0.25.into())].into())?;
//! let graph = Attention::heads(8).head_dim(64).scheme(tilted).scheme(Causal).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Language
//!
//! In the grammar, quotes hold what stands in the text, `[x]` may be left out, and `{x}` may stand any number of times.
//!
//! ```text
//! file       = scheme { scheme }
//! scheme     = "scheme" name [ "(" attribute { "," attribute } ")" ] "{" { statement } "}"
//! attribute  = name ":" type { bound } [ "=" default ]      without a default, it must be given
//! type       = "f32" | "i32" | "bool"                       a number or truth value, known when the kernel is compiled
//!            | string { "|" string }                        one of these names
//!            | "[" "f32" [ ";" number ] "]"                 a list of numbers
//!            | element "[" [ axis { "," axis } ] "]"        a tensor: a value of the graph, `f32[head, bucket = 32]`
//! bound      = ( ">" | ">=" | "<" | "<=" ) number           of a number, or of each number of a list
//! statement  = hook "=" expression                          query, key, score or mask
//!            | name "=" expression                          a value that later statements read
//!            | "axis" name "=" expression                   an axis of the scheme's own, and its length
//!            | "require" expression "," string              what must hold of constants, and what is wrong otherwise
//! ```
//!
//! Lines of `///` ahead of a scheme or an attribute document it; `//` starts a comment. Statements follow each other in any layout. A value that
//! nothing reads is refused: most likely it is a hook that is misspelt.
//!
//! | expression | means |
//! |---|---|
//! | `q_pos`, `k_pos` | positions of query and key |
//! | `q_index`, `k_index` | indices of query and key, counted from the first key |
//! | `length` | the number of tokens so far, told by each call |
//! | `head`, `heads`, `head_dim` | index of the query head; number of heads; elements of a head |
//! | `query`, `key`, `score` | what the hook transforms; in that hook alone |
//! | `pair` | the index along axis `pair`, if there is one |
//! | `pi`, `inf`, `nan`, `true`, `false` | constants |
//! | `a + b`, `a - b`, `a * b`, `a / b`, `-a` | arithmetic; `/` is the quotient of real numbers, of integers too |
//! | `a % b`, `div(a, b)` | remainder with the sign of `b`; quotient rounded down |
//! | `a ^ b` or `pow(a, b)` | power; of a negative base where the exponent is a whole constant, up to 64 |
//! | `min(a, b)`, `max(a, b)` | the lesser, the greater |
//! | `atan2(y, x)` | the angle of the point `(x, y)` |
//! | `abs(x)`, `exp(x)`, `cos(x)`, ... | every [operation of one operand](rhumb_ir::Unary) by its name |
//! | `a < b`, `==`, `!=`, `<=`, `>`, `>=`, `and`, `or`, `not` | truth values |
//! | `select(condition, a, b)` | `a` where the condition holds, else `b` |
//! | `f32(x)`, `i32(x)` | conversion, towards zero |
//! | `list[index]`, `len(list)`, `[1, 2, 4]` | lists; an index that a call tells takes the nearest element |
//! | `table[bucket: index]` | a tensor at an index of one of its axes; the nearest element where the index is outside |
//! | `dot(a, b, axis)`, `sum(x, axis)` | sum of products, and sum, along an axis; `dim` is that of a head's elements |
//! | `rotate(x, angle, pair, "half", 0)` | pairs of elements turned by an angle over axis `pair`; `"interleaved"` pairs neighbours |
//!
//! Integers and real numbers mix: beside a real number an integer is one. What depends on constants alone is computed once, in double
//! precision, over axes too: `2 ^ (-8 * (head + 1) / heads)` becomes a table of slopes. The axes of a tensor are `head`, `query`, `key` and
//! `dim`, which may be absent, and own axes, which must be there: a single one by whatever name the graph has for it, several by name.
//!
//! A rotation:
//!
//! ```
//! # use rhumb_plugins::{Attention, Registry, Rope, lower};
//! let registry = Registry::standard().with_text(
//!     r#"
//!     /// Query and key turn with their position.
//!     scheme turn(base: f32 > 1 = 10000.0, pairing: "half" | "interleaved" = "half") {
//!       require head_dim % 2 == 0, "the head dimension is odd"
//!       axis pair = head_dim / 2
//!       theta = base ^ (-2 * pair / head_dim)
//!       query = rotate(query, q_pos * theta, pair, pairing)
//!       key = rotate(key, k_pos * theta, pair, pairing)
//!     }"#,
//! )?;
//! # let turn = Attention::heads(8).head_dim(64).scheme(registry.make("turn", &Default::default())?).build()?;
//! # let rope = Attention::heads(8).head_dim(64).scheme(Rope::new()).build()?;
//! # assert_eq!(lower(&turn, &registry)?.nodes().len(), lower(&rope, &registry)?.nodes().len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod call;
mod constant;
mod error;
mod evaluate;
mod expression;
mod lex;
mod parse;
mod parser;
mod scheme;
mod tensor;
mod tree;

use std::sync::Arc;

pub use error::{SchemeTextError, SchemeTextFault};
pub use scheme::TextScheme;

use rhumb_ir::Attrs;

use crate::error::SchemeError;
use crate::info::SchemeInfo;

/// A scheme that a text declares.
pub(crate) struct Declaration(Arc<tree::Definition>);

impl Declaration {
    /// What is declared.
    pub(crate) fn info(&self) -> &SchemeInfo {
        &self.0.info
    }

    /// The scheme with these attributes, which are those declared, in their ranges.
    pub(crate) fn make(&self, attrs: &Attrs) -> Result<TextScheme, SchemeError> {
        TextScheme::new(&self.0, attrs)
    }
}

/// All schemes that a text declares.
pub(crate) fn declarations(text: &str) -> Result<Vec<Declaration>, SchemeTextError> {
    Ok(parse::parse(text)?.into_iter().map(|definition| Declaration(Arc::new(definition))).collect())
}
