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
//! A scheme is declared, its attributes with it, and states its mathematics. A penalty that grows with the logarithm of the distance:
//!
//! ```
//! use rhumb_ir::Expr;
//! use rhumb_plugins::{Attention, Causal, Entry, PositionScheme, Registry, SchemeContext, SchemeError, lower, scheme};
//!
//! scheme! {
//!     /// A penalty that grows with the logarithm of the distance.
//!     pub struct LogDistance: "log_distance" at Score = "score - rate ln(1 + |p_q - p_k|)" {
//!         /// How steep it is.
//!         rate: f64 = 1.0,
//!     }
//! }
//! impl PositionScheme for LogDistance {
//!     fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
//!         Ok(score - self.rate * (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
//!     }
//! }
//!
//! let graph = Attention::heads(8).head_dim(64).scheme(LogDistance { rate: 0.5 }).scheme(Causal).build()?;
//! let lowered = lower(&graph, &Registry::empty())?;
//! assert!(lowered.sites().is_empty());
//!
//! // Graphs that are read from text have the name and the attributes, of which a registry makes the scheme again.
//! let registry = Registry::standard().with(Entry::of::<LogDistance>())?;
//! assert_eq!(lower(&rhumb_ir::Graph::parse(&graph.to_string())?, &registry)?, lowered);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`scheme!`] says what a declaration may have: attributes that must be given, ranges, choices of names, values of the graph.
//!
//! An expression that is needed once needs no scheme: [`Attention::score_with`] and [`Attention::mask_with`] take it as a closure, and
//! [`Attention::parts`] gives the pieces to build any other graph.

#[cfg(feature = "config")]
pub mod config;
pub mod schemes;
pub mod written;

mod attention;
mod attrs;
mod declare;
mod error;
mod info;
mod lower;
mod registry;
mod scheme;
mod standard;
mod warnings;

pub use attention::{Attention, AttentionParts, Batch, BuildError, Heads, Scales};
pub use attrs::{AttrInfo, AttrKind, AttrRange, AttrType, Choice, IntOrValue, ListOrValue};
#[cfg(feature = "config")]
pub use config::{ConfigError, ModelConfig};
#[doc(hidden)]
pub use declare::macros as __macros;
pub use declare::{Declared, FromAttrs};
pub use error::SchemeError;
pub use info::SchemeInfo;
pub use lower::{LowerError, lower};
pub use registry::{Entry, Registry, RegistryError};
pub use scheme::{PositionScheme, Scheme, SchemeContext};
pub use schemes::{
    Alibi, Alibi2d, AlibiForm, AxialRope, AxisLayout, BlockDiffusion, BlockSparse, Causal, Chunked, ContinuousBias,
    Cope, Dape, Deberta, Decomposed, Dilated, Documents, DynamicAlibi, DynamicNtk, Fire, ForgetGate, Kerple,
    KeyLengths, LearnedPositions, Llama3Rope, LongRope, MRope, Neighbourhood, OffsetSet, Pope, PrefixLm,
    ProportionalRope, QkNorm, Retention, Rope, Rope2d, Sandwich, Shaw, ShiftedWindow, Sinusoidal, SlidingWindow,
    Softcap, Strided, T5, Temperature, TokenTree, TransformerXl, WindowTable, XPos, Yarn,
};
pub use warnings::{Warning, warnings};
pub use written::{SchemeTextError, SchemeTextFault, TextScheme};
