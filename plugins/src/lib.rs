//! Position schemes and masks of attention: what they are, by name, and how they become IR.
//!
//! A scheme is a [`PositionScheme`]: mathematics at one or more hooks, which are the query, the key, the score and the mask. It builds IR
//! through a [`SchemeContext`] that offers positions, indices, heads and tables. [`Attention`] builds the usual graph around schemes, in
//! which each is a single op that carries the scheme; [`lower`] expands those ops by the very schemes they carry. Graphs that are read from
//! text have names and attributes alone, and a [`Registry`] makes schemes of those. The built-in ones are in [`schemes`], each in a file of
//! its own with its formula, its source and an example.
//!
//! Schemes compose in the order given. What the compiler does with the ops (log2 scaling, fusion, hoisting, tiles) no scheme sees, and
//! the compiler sees no scheme names: a scheme of any crate is compiled like a built-in one.
//!
//! # A scheme of one's own
//!
//! A penalty that grows with the logarithm of the distance, from its definition to a graph that uses it and a test of its formula:
//!
//! ```
//! use rhumb_ir::{Attr, Attrs, Expr, Graph, Hook};
//! use rhumb_plugins::{AttrInfo, AttrKind, Attention, Causal, Entry, PositionScheme, Registry, lower};
//! use rhumb_plugins::{SchemeContext, SchemeError, SchemeInfo};
//!
//! struct LogDistance { rate: f64 }
//!
//! impl PositionScheme for LogDistance {
//!     fn name(&self) -> &str { "log_distance" }
//!     fn hooks(&self) -> &[Hook] { &[Hook::Score] }
//!     // For the text form alone.
//!     fn attributes(&self) -> Attrs { Attrs::from([("rate".into(), Attr::Float(self.rate))]) }
//!     fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
//!         Ok(score - self.rate * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
//!     }
//! }
//!
//! let graph = Attention::new(8, 64).scheme(LogDistance { rate: 0.5 }).scheme(Causal).build()?;
//! let lowered = lower(&graph, &Registry::standard())?;
//! assert!(lowered.sites().is_empty());
//!
//! // Text names the scheme, and an entry makes it again.
//! const INFO: SchemeInfo = SchemeInfo {
//!     name: "log_distance",
//!     summary: "a penalty that grows with the logarithm of the distance",
//!     formula: "score - rate ln(1 + |p_q - p_k|)",
//!     attributes: &[AttrInfo::new("rate", AttrKind::Float, "1", "how steep it is")],
//! };
//!
//! let registry = Registry::standard()
//!     .with(Entry::new(INFO, |attrs| Ok(LogDistance { rate: attrs.float("rate")?.unwrap_or(1.0) })))?;
//! assert_eq!(lower(&Graph::parse(&graph.to_string())?, &registry)?, lowered);
//!
//! rhumb_plugins::testing::SchemeTest::new(&registry, || LogDistance { rate: 0.5 })
//!     .agrees_with(|p| p.score() - 0.5 * (1.0 + (p.q_pos - p.k_pos).abs()).ln())
//!     .shift_invariant()
//!     .run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An expression that is needed once needs no scheme: [`Attention::score_with`] and [`Attention::mask_with`] take it as a closure, and
//! [`Attention::parts`] gives the pieces to build any other graph.

pub mod schemes;
pub mod testing;

mod attention;
mod attrs;
mod error;
mod lower;
mod registry;
mod scheme;
mod standard;

pub use attention::{Attention, AttentionParts, Batch, BuildError};
pub use attrs::{AttrInfo, AttrKind, AttrReader, IntOrValue, required};
pub use error::SchemeError;
pub use lower::{LowerError, lower};
pub use registry::{Entry, Registry, RegistryError, SchemeInfo};
pub use scheme::{PositionScheme, Scheme, SchemeContext};
pub use schemes::{
    Alibi, AlibiForm, Causal, Chunked, Dilated, Documents, DynamicAlibi, KeyLengths, PrefixLm, Rope, Rope2d,
    SlidingWindow,
};
