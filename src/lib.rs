//! rhumb compiles attention operators for CPUs: any position scheme, fused and JIT-compiled.
//!
//! An attention is described as a graph over named axes. Position schemes and masks (RoPE, ALiBi, sliding windows, or one's own) are
//! plugins that state mathematics and nothing else. The compiler lowers them, fuses them into the score computation by equality
//! saturation, plans tiles and generates SIMD code for the machine it runs on. Kernels run on borrowed tensors of any layout, and one
//! kernel serves every length.
//!
//! # Example
//!
//! Attention as in Llama 3, from its description to numbers that are held against the reference interpreter:
//!
//! ```
//! use rhumb::prelude::*;
//!
//! // Describe: 8 query heads on 2 key/value heads of 32 elements, rotary positions, causal.
//! let graph = Attention::heads(8)
//!     .head_dim(32)
//!     .kv_heads(2)
//!     .scheme(Rope::new().base(500_000.0))
//!     .scheme(Causal)
//!     .build()?;
//!
//! // Compile: for this machine, on all its threads. Compiling the same graph again gives the same kernel.
//! let engine = Engine::host()?;
//! let kernel = engine.compile(&graph)?;
//!
//! // Run: 10 queries at the end of 50 keys. Keys and values are [batch, token, head, element] here, seen as
//! // [batch, head, token, element] without a copy.
//! let wave = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.37).sin()).collect() };
//! let (q, k, v) = (wave(8 * 10 * 32), wave(50 * 2 * 32), wave(50 * 2 * 32));
//! let q = TensorView::from_slice(&q, &[1, 8, 10, 32])?;
//! let k = TensorView::from_slice(&k, &[1, 50, 2, 32])?.permute(&[0, 2, 1, 3])?;
//! let v = TensorView::from_slice(&v, &[1, 50, 2, 32])?.permute(&[0, 2, 1, 3])?;
//! let mut found = vec![0.0f32; 8 * 10 * 32];
//! let out = TensorViewMut::from_slice(&mut found, &[1, 8, 10, 32])?;
//! kernel.call().input("q", q).input("k", k).input("v", v).output("out", out).run()?;
//!
//! // Check: the reference takes the same call, and interprets the graph in double precision.
//! let mut expected = vec![0.0f32; 8 * 10 * 32];
//! let out = TensorViewMut::from_slice(&mut expected, &[1, 8, 10, 32])?;
//! engine.reference(&graph)?.call().input("q", q).input("k", k).input("v", v).output("out", out).run()?;
//! assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where things are
//!
//! | module | what | start with |
//! |---|---|---|
//! | [`prelude`] | what most programs need | `use rhumb::prelude::*` |
//! | [`plugins`] | the usual attention, position schemes, masks, the registry | [`Attention`](plugins::Attention), [`PositionScheme`](plugins::PositionScheme), [`schemes`](plugins::schemes) |
//! | [`ir`] | graphs over named axes: operators, text form, verifier, reference interpreter | [`GraphBuilder`](ir::GraphBuilder), [`Graph::parse`](ir::Graph::parse), [`Op`](ir::Op) |
//! | [`compiler`] | rewriting, planning, code generation; every stage prints | [`compile`](compiler::compile), [`explain`](compiler::rewrite::explain), [`Target`](compiler::Target) |
//! | [`runtime`] | engines, kernels, calls, views, caches of keys and values | [`Engine`](runtime::Engine), [`TensorView`](runtime::TensorView), [`KvCache`](runtime::KvCache) |
//! | [`testing`] | a test kit for schemes of one's own | [`SchemeTest`](testing::SchemeTest) |
//!
//! # A scheme of one's own
//!
//! A scheme is declared by [`scheme!`](plugins::scheme!) and implements [`PositionScheme`](plugins::PositionScheme) at the hooks it names.
//! The compiler knows operations and no scheme names, so it is fused and tiled like a built-in one:
//!
//! ```
//! use rhumb::prelude::*;
//!
//! scheme! {
//!     /// A penalty that grows with the logarithm of the distance.
//!     pub struct LogDistance: "log_distance" at Score = "score - ln(1 + |p_q - p_k|)";
//! }
//!
//! impl PositionScheme for LogDistance {
//!     fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
//!         Ok(score - (1.0 + (cx.q_pos() - cx.k_pos()).abs()).log())
//!     }
//! }
//!
//! let graph = Attention::heads(8).head_dim(32).scheme(LogDistance).scheme(Causal).build()?;
//! let kernel = Engine::host()?.compile(&graph)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is compiled is the value that was given. A graph that is read from text has a name and attributes in its place, of which a
//! [`Registry`](plugins::Registry) makes the scheme: `Registry::standard().with(Entry::of::<LogDistance>())`.
//!
//! # Features
//!
//! `cli` is the `rhumb` command, on by default so that `cargo install` makes it. `config` is [`ModelConfig`](plugins::ModelConfig), and
//! reads JSON. `testing` is the kit for authors of schemes. A library takes none of them: `rhumb = { version = "0.1",
//! default-features = false }`, with `features = ["config"]` where it reads configurations of models.
//!
//! # Errors
//!
//! Every step has an error type of its own that says what was found, where, and what would mend it, in fields and in its text:
//! [`BuildError`](plugins::BuildError) of the usual attention, [`VerifyError`](ir::VerifyError) of graphs of one's own,
//! [`ParseError`](ir::ParseError) of the text form, [`EngineError`](runtime::EngineError) of a machine, lane count or backend without code,
//! [`KernelError`](runtime::KernelError) of the stage of compilation that refused a graph, [`ViewError`](runtime::ViewError) of views
//! that would leave their slice, [`CallError`](runtime::CallError) of tensors that do not fit, [`KvError`](runtime::KvError) of a cache of
//! keys and values that is full, or asked for what it does not have. After an error every object is as good as
//! before, and no output has been written.

pub use rhumb_compiler as compiler;
pub use rhumb_ir as ir;
pub use rhumb_plugins as plugins;
pub use rhumb_runtime as runtime;
pub use rhumb_runtime::merge_partials;

#[cfg(any(feature = "cli", feature = "testing"))]
#[doc(hidden)]
pub mod dtype;
#[cfg(feature = "testing")]
pub mod testing;

/// What most programs need.
pub mod prelude {
    pub use rhumb_compiler::{Stage, Target};
    pub use rhumb_ir::{
        Attr, Attrs, Axis, Elem, Expr, Graph, GraphBuilder, Hook, Pairing, ParseError, Verified, VerifyError,
    };
    pub use rhumb_plugins::{
        Alibi, Alibi2d, AlibiForm, Attention, AttrRange, AxialRope, AxisLayout, Batch, BlockDiffusion, BlockSparse,
        BuildError, Causal, Chunked, ContinuousBias, Cope, Dape, Deberta, Declared, Decomposed, Dilated, Documents,
        DynamicAlibi, DynamicNtk, Entry, Fire, ForgetGate, Kerple, KeyLengths, LearnedPositions, Llama3Rope, LongRope,
        MRope, Neighbourhood, OffsetSet, Pope, PositionScheme, PrefixLm, ProportionalRope, QkNorm, Registry, Retention,
        Rope, Rope2d, Sandwich, Scales, SchemeContext, SchemeError, SchemeInfo, Shaw, ShiftedWindow, Sinusoidal,
        SlidingWindow, Softcap, Strided, T5, Temperature, TokenTree, TransformerXl, WindowTable, XPos, Yarn, scheme,
    };
    #[cfg(feature = "config")]
    pub use rhumb_plugins::{ConfigError, ModelConfig};
    pub use rhumb_runtime::{
        BatchError, Call, CallBatch, CallError, Engine, EngineError, InputView, Kernel, KernelError, KvCache, KvError,
        Operator, PagedView, PagedViewError, Reference, SequenceId, TensorView, TensorViewMut, ViewError,
    };
}

/// The programs of the README, compiled and run with the tests of the documentation.
#[cfg(all(doctest, feature = "config", feature = "testing"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
