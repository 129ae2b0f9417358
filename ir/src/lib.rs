//! The tensor IR of rhumb: attention as a graph of operations over named axes.
//!
//! # When and over what a value is computed
//!
//! A graph is a list of values. Each is the result of one operation on values above it: there is no control flow, no state and no
//! forward reference, so the order of the list is an order to compute them in, and when a value is computed can't be seen.
//!
//! A value varies over a *set of named axes* and over nothing else: queries `f32[b, h, q, d]` hold one number for each batch, head, query
//! and element, slopes `f32[h]` one for each head, a constant `f32` one in all. A value is computed once for every combination of
//! indices of its axes; asking which loops an operation runs in is asking for its axes.
//!
//! - Elementwise operations broadcast by name: the result varies over the axes of all operands. `slopes * distance`, with axes `h` and
//!   `q, k`, varies over `h, q, k`, wherever those stand in memory.
//! - `dot`, `softmax` and `logsumexp` work along one axis that they name, `gather` replaces one by the axes of an index, `rotate` pairs
//!   the elements along one. The other axes broadcast as above.
//! - An axis may *group* a finer one: 8 key/value heads `g` group 32 query heads `h` by fours (GQA). Where values over the two meet, the
//!   result varies over the finer one alone, and index `i` of `h` reads index `i / (32 / 8)` of `g`. No value varies over both.
//! - The length of an axis is fixed by the graph, or dynamic: told by the tensors of each call. It may then be 0.
//!
//! The order of axes matters in three places, where memory comes in: the dimensions of inputs, tables and outputs.
//!
//! Element types are `f32`, a real number; `i32`, which wraps; and `bool`. What a real number is, a kernel decides (single precision),
//! and so does the [interpreter](interpret) (double precision, which every kernel is held against). [`Op`] defines each operation.
//! Tensors of inputs and outputs may hold real numbers in 16 bits, `f16` and `bf16`: they are `f32` when they are read, whatever is
//! computed of them, and are rounded when they are written. [`Elem`] says how. Inputs may also be of 8 bits, `i8` and `f8e4m3`: those are
//! read as `i32` and `f32`, and a graph says itself what scales them.
//!
//! A *scheme op* stands for what a position scheme (RoPE, ALiBi, a mask) does to the query, key, score or mask at one [`Site`]. It has a
//! type but no meaning here: lowering expands it into the other operations. It is written as a name and attributes, and may carry the
//! scheme itself as an [`Instance`], which the text form leaves out.
//!
//! # Example
//!
//! Scaled dot-product attention with ALiBi, 4 heads on 2 key/value heads: built with operators, verified, printed, and interpreted.
//!
//! ```
//! use rhumb_ir::{Bindings, Elem, Graph, GraphBuilder, Tensor, interpret};
//!
//! let b = GraphBuilder::new("alibi");
//! let (h, q, k) = (b.axis_of("h", 4), b.axis("q"), b.axis("k"));
//! let (g, d) = (b.groups("g", 2, h), b.axis_of("d", 8));
//! let query = b.input("q", Elem::F32, [h, q, d]);
//! let key = b.input("k", Elem::F32, [g, k, d]);
//! let value = b.input("v", Elem::F32, [g, k, d]);
//!
//! let slopes = b.table([h], [0.25, 0.0625, 0.015625, 0.00390625]).label("slopes");
//! let q_pos = b.iota(q) + (b.size(k) - b.size(q));
//! let distance = b.iota(k) - q_pos;
//! let score = query.dot(key, d) * 0.125 + slopes * distance;
//! let causal = distance.le(0);
//! let weights = score.mask(causal).softmax(k).label("weights");
//! b.output("out", weights.dot(value, k), [h, q, d]);
//!
//! let graph = b.finish()?;
//! let text = "\
//! graph alibi
//!
//! axis h = 4
//! axis q = ?
//! axis k = ?
//! axis g = 2 groups h
//! axis d = 8
//!
//! %q = input \"q\" : f32[h, q, d]
//! %k = input \"k\" : f32[g, k, d]
//! %v = input \"v\" : f32[g, k, d]
//! %slopes = table [0.25, 0.0625, 0.015625, 0.00390625] : f32[h]
//! %4 = iota q : i32[q]
//! %5 = size k : i32
//! %6 = size q : i32
//! %7 = sub %5, %6 : i32
//! %8 = add %4, %7 : i32[q]
//! %9 = iota k : i32[k]
//! %10 = sub %9, %8 : i32[q, k]
//! %11 = dot %q, %k over d : f32[h, q, k]
//! %12 = const 0.125 : f32
//! %13 = mul %11, %12 : f32[h, q, k]
//! %14 = cast %10 to f32 : f32[q, k]
//! %15 = mul %slopes, %14 : f32[h, q, k]
//! %16 = add %13, %15 : f32[h, q, k]
//! %17 = const 0 : i32
//! %18 = le %10, %17 : bool[q, k]
//! %19 = const -inf : f32
//! %20 = select %18, %16, %19 : f32[h, q, k]
//! %weights = softmax %20 over k : f32[h, q, k]
//! %22 = dot %weights, %v over k : f32[h, q, d]
//!
//! output \"out\" = %22 : f32[h, q, d]
//! ";
//! assert_eq!(graph.to_string(), text);
//! assert_eq!(Graph::parse(text)?, graph);
//!
//! // Three queries at the end of five keys.
//! let tensor = |shape: [usize; 3], x: f64| Tensor::f32(shape, vec![x; shape.iter().product()]);
//! let bindings = Bindings::from([
//!     ("q".to_owned(), tensor([4, 3, 8], 1.0)),
//!     ("k".to_owned(), tensor([2, 5, 8], 1.0)),
//!     ("v".to_owned(), tensor([2, 5, 8], 0.5)),
//! ]);
//! let out = &interpret(&graph, &bindings)?["out"];
//! assert_eq!(out.shape, [4, 3, 8]);
//! // Weights sum to 1, so a constant value comes out as it is.
//! assert!(out.data.iter().all(|x| (x - 0.5).abs() < 1e-12));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A mistake is told with its op and what would mend it:
//!
//! ```
//! # use rhumb_ir::{Elem, GraphBuilder};
//! let b = GraphBuilder::new("mistaken");
//! let (q, k, d) = (b.axis("q"), b.axis("k"), b.axis_of("d", 8));
//! let (query, key) = (b.input("q", Elem::F32, [q, d]), b.input("k", Elem::F32, [k, d]));
//! b.output("p", query.dot(key, k).softmax(k), [q, k]);
//! assert_eq!(b.finish().unwrap_err().to_string(), "\
//! graph `mistaken` has 1 problem
//!
//! error: `dot` works along axis `k`, which its first operand does not have (it has [q, d])
//! --> op 2
//!  |
//!  | dot %q, %k over k
//!  | ^^^^^^^^^^^^^^^^^
//!  = hint: give the operand that axis, or name another axis");
//! ```
//!
//! # The text form
//!
//! [`Graph`] prints as text and [`Graph::parse`] reads it; what is read prints the same. In the grammar, quotes hold what stands in the
//! text, `[x]` may be left out, and `{x}` may stand any number of times.
//!
//! ```text
//! graph      = "graph" name { statement }          the name is an identifier or a string
//! statement  = axis | value | site | output        each on a line of its own
//! axis       = "axis" identifier "=" ( length | "?" ) [ "groups" identifier ]
//! value      = "%" label "=" op [ ":" type ]       the label is a number, or an identifier that may have dots
//! output     = "output" string "=" "%" label ":" type
//! type       = element [ "[" axis { "," axis } "]" ]
//! element    = "f32" | "i32" | "bool" | "f16" | "bf16"       the last two of inputs and outputs alone
//!            | "i8" | "f8e4m3"                     of inputs alone
//!
//! op         = "input" string                      with its type: the axes in the order of the dimensions
//!            | "const" literal                     a whole number is i32, but where the type says f32
//!            | "table" "[" literal { "," literal } "]"       with its type; row-major
//!            | "iota" axis
//!            | "size" axis
//!            | unary value                         neg abs floor ceil round sqrt exp exp2 log log2 sin cos atan acos
//!            |                                     tanh sigmoid erf not
//!            | binary value "," value              add sub mul div mod min max pow and or
//!            | compare value "," value             eq ne lt le gt ge
//!            | "select" value "," value "," value  condition, where true, where false
//!            | "cast" value "to" element
//!            | "gather" value "over" axis "at" value
//!            | "rotate" value "over" axis "by" value "over" axis ( "half" | "interleaved" ) [ "from" number ]
//!            | "dot" value "," value "over" axis
//!            | "softmax" value "over" axis [ "sink" value ] [ "base" "2" ]
//!            | "logsumexp" value "over" axis [ "sink" value ] [ "base" "2" ]
//!            | "scheme" name "." hook [ value ] "@" number [ "{" attribute { "," attribute } "}" ]
//! hook       = "query" | "key" | "score" | "mask"            all but the mask take a value
//! attribute  = name "=" ( literal | string | "[" literal { "," literal } "]" | value )
//! site       = "site" "@" number "{" field { "," field } "}"
//! field      = ( "query" | "key" | "head" | "dim" ) "=" axis             all but the head are needed
//!            | ( "q_pos" | "k_pos" | "q_index" | "k_index" | "length" ) "=" value
//!
//! literal    = number | "true" | "false"           1  -2.5  1e-7  inf  -inf  nan
//! string     = "\"" characters "\""                with \n \r \t \0 \\ \" \' \u{1f600}
//! ```
//!
//! A statement goes on over lines inside brackets alone. A comment goes from `//` to the end of its line. Names are made before they are
//! used, but for the axis that another groups. A list may end in a comma. Types may be left away but where they say what the op does
//! (`input`, `table`, `output`); where they stand they are checked. Labels are for readers: the printer takes an input's name, numbers
//! what has no label by position, and gives `%label.2` to the second value of one label.
#![cfg_attr(test, allow(missing_docs, reason = "tests"))]

mod binary;
mod builder;
mod expr;
mod fault;
mod graph;
mod infer;
mod instance;
mod interp;
mod length;
mod names;
mod op;
mod place;
mod rebuild;
mod suggest;
mod text;
mod told;
mod types;
mod unary;
mod verify;
mod walk;

pub use builder::{Expr, GraphBuilder};
pub use expr::Operand;
pub use fault::Fault;
pub use graph::{Graph, Node, Output};
pub use infer::{OpError, infer};
pub use instance::Instance;
pub use interp::{Bindings, InterpError, MAX_ELEMENTS, Outputs, Tensor, interpret, interpret_value};
pub use length::Length;
pub use op::{Attr, Attrs, Base, Binary, Compare, Hook, Op, Pairing, Scalar, Site, SiteId, Value};
pub use place::Place;
pub use suggest::closest;
pub use text::error::{ParseError, ParseFault};
#[doc(hidden)]
pub use text::source;
#[doc(hidden)]
pub use told::one_of;
pub use types::{Axis, AxisInfo, AxisSet, Elem, ElemKind, Extent, MAX_AXES, Type};
pub use unary::Unary;
pub use verify::{Problem, Verified, VerifyError};
pub use walk::{Step, Walk};
