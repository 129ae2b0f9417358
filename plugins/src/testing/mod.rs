//! The test kit for authors of schemes.
//!
//! [`SchemeTest`] holds a scheme against a scalar function of its author's at many shapes, through the reference interpreter. The batch has
//! two sequences, whose positions differ and are nothing like the indices: what reads the one for the other is found. Where it is claimed,
//! scores stay as they are when all positions shift. With a registry that has the scheme, the kit also checks that the scheme is what it
//! is written as (the registry's, made from its attributes, lowers to the same graph), and that its entry tells the truth.
//!
//! ```
//! use rhumb_plugins::testing::SchemeTest;
//! use rhumb_plugins::{Alibi, Registry};
//!
//! let slopes = |heads| Alibi::official_slopes(heads);
//! SchemeTest::new(&Registry::standard(), Alibi::new)
//!     .agrees_with(move |p| p.score() - slopes(p.heads)[p.head as usize] * (p.q_pos - p.k_pos))
//!     .shift_invariant()
//!     .run()?;
//! # Ok::<(), rhumb_plugins::testing::TestFailure>(())
//! ```

mod failure;
mod point;
mod samples;
mod shape;

use rhumb_ir::{Bindings, Elem, Graph, GraphBuilder, Hook, Tensor, Verified, interpret};
use rhumb_random::Rng;

pub use failure::{Finding, TestFailure};
pub use point::Point;
pub use shape::Shape;

use crate::attention::{Attention, AttentionParts, Batch};
use crate::attrs::same_bits;
use crate::lower::lower;
use crate::registry::Registry;
use crate::scheme::{PositionScheme, Scheme};

use samples::samples;
use shape::position;

const fn shape(heads: u32, kv_heads: u32, head_dim: u32, queries: usize, keys: usize) -> Shape {
    Shape { heads, kv_heads, head_dim, queries, keys }
}

/// Powers of two and not, decoding, more queries than keys, and nothing at all.
const SHAPES: &[Shape] = &[
    shape(1, 1, 8, 1, 1),
    shape(3, 3, 8, 5, 5),
    shape(8, 2, 16, 7, 13),
    shape(12, 4, 8, 1, 9),
    shape(6, 1, 24, 4, 3),
    shape(2, 2, 8, 0, 3),
    shape(2, 1, 8, 3, 0),
];

/// Shifts that scores are compared at.
const SHIFTS: [i32; 4] = [1, 37, 4096, -12];

/// Sequences of the batch.
const BATCH: usize = 2;

type Make<'a> = Box<dyn for<'g> Fn(&AttentionParts<'g>) -> Scheme + 'a>;
type Reference<'a> = Box<dyn Fn(&Point<'_>) -> f64 + 'a>;
type Bind<'a> = Box<dyn Fn(&Shape) -> Tensor + 'a>;

/// Checks of one scheme: see the [module](self).
pub struct SchemeTest<'a> {
    registry: Option<&'a Registry>,
    make: Make<'a>,
    shapes: Vec<Shape>,
    reference: Option<Reference<'a>>,
    shift_invariant: bool,
    inputs: Vec<(String, Bind<'a>)>,
}

impl<'a> SchemeTest<'a> {
    /// Checks of the scheme that `make` makes; `registry` has its entry, or is `None` for a scheme without one.
    pub fn new<S>(registry: impl Into<Option<&'a Registry>>, make: impl Fn() -> S + 'a) -> SchemeTest<'a>
    where
        S: Into<Scheme>,
    {
        SchemeTest::with_inputs(registry, move |_| make())
    }

    /// Checks of a scheme that takes values of the graph: inputs that `make` adds and [`input`](SchemeTest::input) binds.
    pub fn with_inputs<S>(
        registry: impl Into<Option<&'a Registry>>,
        make: impl for<'g> Fn(&AttentionParts<'g>) -> S + 'a,
    ) -> SchemeTest<'a>
    where
        S: Into<Scheme>,
    {
        SchemeTest {
            registry: registry.into(),
            make: Box::new(move |cx| make(cx).into()),
            shapes: SHAPES.to_vec(),
            reference: None,
            shift_invariant: false,
            inputs: Vec::new(),
        }
    }

    /// The tensor bound to an input that the scheme was given, at each shape. The batch has two sequences.
    #[must_use]
    pub fn input(mut self, name: &str, tensor: impl Fn(&Shape) -> Tensor + 'a) -> SchemeTest<'a> {
        self.inputs.push((name.to_owned(), Box::new(tensor)));
        self
    }

    /// Tries these shapes in place of the usual ones.
    #[must_use]
    pub fn shapes(self, shapes: &[Shape]) -> SchemeTest<'a> {
        SchemeTest { shapes: shapes.to_vec(), ..self }
    }

    /// Compares every score with this function of one query and one key: the score, or `-inf` where the query does not attend.
    #[must_use]
    pub fn agrees_with(self, reference: impl Fn(&Point<'_>) -> f64 + 'a) -> SchemeTest<'a> {
        SchemeTest { reference: Some(Box::new(reference)), ..self }
    }

    /// Claims that scores stay as they are when the positions of all queries and keys shift alike.
    #[must_use]
    pub fn shift_invariant(self) -> SchemeTest<'a> {
        SchemeTest { shift_invariant: true, ..self }
    }

    /// Runs the checks.
    ///
    /// # Errors
    /// The first [`TestFailure`].
    pub fn run(&self) -> Result<(), TestFailure> {
        for &shape in &self.shapes {
            self.at(&shape).map_err(|finding| TestFailure { shape, finding: Box::new(finding) })?;
        }
        Ok(())
    }

    fn at(&self, shape: &Shape) -> Result<(), Finding> {
        let (graph, scheme) = self.graph(shape)?;
        if let Some(registry) = self.registry {
            made_again(registry, &*scheme)?;
            entry(registry, &*scheme, &graph)?;
        }
        let parsed = text_round_trip(&graph)?;
        // The graph carries the scheme.
        let lowered = lower(&graph, &Registry::empty()).map_err(Finding::Lower)?;
        text_round_trip(&lowered)?;
        if let Some(registry) = self.registry {
            written(registry, &*scheme, &lowered, &parsed)?;
        }
        let scores = scores(&lowered, &self.bindings(shape, 0))?;
        self.compare(shape, &scores)?;
        for shift in SHIFTS {
            if self.shift_invariant {
                compare_shifted(shift, &scores, &self::scores(&lowered, &self.bindings(shape, shift))?)?;
            }
        }
        Ok(())
    }

    /// A graph whose output `score` is the score after the scheme, masked.
    fn graph(&self, shape: &Shape) -> Result<(Verified, Scheme), Finding> {
        let builder = GraphBuilder::new("scheme_test");
        let attention = Attention::new(shape.heads, shape.head_dim)
            .kv_heads(shape.kv_heads)
            .q_positions(Elem::I32, Batch::Each)
            .k_positions(Elem::I32, Batch::Each);
        let (parts, [query, key, _]) = attention.parts(&builder).map_err(Finding::Build)?;
        let scheme = (self.make)(&parts);
        parts.check(&*scheme).map_err(Finding::Check)?;
        let query = parts.apply(&scheme, Hook::Query, query);
        let key = parts.apply(&scheme, Hook::Key, key);
        let score = query.dot(key, parts.d) * shape.scale();
        let score = parts.apply(&scheme, Hook::Score, score);
        let score = parts.mask(&scheme).map_or(score, |mask| score.mask(mask));
        builder.output("score", score, [parts.b, parts.h, parts.q, parts.k]);
        let graph = builder.finish().map_err(|error| Finding::Build(error.into()))?;
        Ok((graph, scheme))
    }

    fn bindings(&self, shape: &Shape, shift: i32) -> Bindings {
        let Shape { heads, kv_heads, head_dim, queries, keys } = *shape;
        let positions = |first: i64, n: usize| {
            let of = move |batch| (first..first + n as i64).map(move |i| position(batch, i) as i32 + shift);
            Tensor::i32([BATCH, n], (0..BATCH).flat_map(of))
        };
        let key_shape = [BATCH, kv_heads as usize, keys, head_dim as usize];
        let mut bindings = Bindings::from([
            ("q".to_owned(), Tensor::f32([BATCH, heads as usize, queries, head_dim as usize], query_data(shape))),
            ("k".to_owned(), Tensor::f32(key_shape, key_data(shape))),
            ("v".to_owned(), Tensor::f32(key_shape, key_data(shape))),
            ("q_pos".to_owned(), positions(shape.first_query(), queries)),
            ("k_pos".to_owned(), positions(0, keys)),
        ]);
        for (name, bind) in &self.inputs {
            bindings.insert(name.clone(), bind(shape));
        }
        bindings
    }

    fn compare(&self, shape: &Shape, scores: &[f64]) -> Result<(), Finding> {
        let Some(reference) = &self.reference else { return Ok(()) };
        let (query, key) = (query_data(shape), key_data(shape));
        for (index, &found) in scores.iter().enumerate() {
            let point = Point::new(shape, index, &query, &key);
            let expected = reference(&point);
            if !close(found, expected) {
                let Point { batch, head, query, key, .. } = point;
                return Err(Finding::Score { batch, head, query, key, expected, found });
            }
        }
        Ok(())
    }
}

/// Makes the scheme again from its attributes.
fn made_again(registry: &Registry, scheme: &dyn PositionScheme) -> Result<(), Finding> {
    let attrs = scheme.attributes();
    let again = registry.make(scheme.name(), &attrs).map_err(Finding::Registry)?;
    let same = again.name() == scheme.name() && again.hooks() == scheme.hooks() && again.attributes() == attrs;
    if same { Ok(()) } else { Err(Finding::RoundTrip { before: attrs, after: again.attributes() }) }
}

/// Checks that the registry's entry reads what it declares: what an attribute is given, the scheme that is made of it tells again.
fn entry(registry: &Registry, scheme: &dyn PositionScheme, graph: &Verified) -> Result<(), Finding> {
    let info = registry.info(scheme.name()).map_err(Finding::Registry)?;
    let values: Vec<_> = graph.values().take(2).collect();
    for attr in &info.attributes {
        let samples = samples(attr, &values);
        // One of them may be the default.
        let mut left_out = usize::from(samples.len() > 1);
        for given in samples {
            let mut attrs = scheme.attributes();
            attrs.insert(attr.name.clone(), given.clone());
            // An entry by hand may refuse what does not go with the scheme's other attributes.
            let Ok(made) = registry.make(scheme.name(), &attrs) else { continue };
            let told = match made.attributes().get(&attr.name) {
                Some(told) => same_bits(told, &given),
                None => std::mem::take(&mut left_out) > 0,
            };
            if !told {
                return Err(Finding::Unread { attribute: attr.name.clone(), given });
            }
        }
    }
    Ok(())
}

/// Checks that the scheme lowers as the one that the registry makes from what is written of it.
fn written(
    registry: &Registry,
    scheme: &dyn PositionScheme,
    lowered: &Verified,
    parsed: &Verified,
) -> Result<(), Finding> {
    let again = lower(parsed, registry).map_err(Finding::LowerWritten)?;
    let (given, written) = (lowered.to_string(), again.to_string());
    if given == written {
        return Ok(());
    }
    let (mut given, mut written) = (given.lines(), written.lines());
    let (given, written) = loop {
        match (given.next(), written.next()) {
            (Some(given), Some(written)) if given == written => {}
            (given, written) => break (given.unwrap_or_default(), written.unwrap_or_default()),
        }
    };
    let (scheme, attrs) = (scheme.name().to_owned(), scheme.attributes());
    Err(Finding::Written { scheme, attrs, given: given.to_owned(), written: written.to_owned() })
}

/// The graph, printed and read.
fn text_round_trip(graph: &Verified) -> Result<Verified, Finding> {
    let text = graph.to_string();
    match Graph::parse(&text) {
        Ok(parsed) if parsed.to_string() == text => Ok(parsed),
        Ok(parsed) => Err(Finding::Print { before: text, after: parsed.to_string() }),
        Err(error) => Err(Finding::Parse { text, error: Box::new(error) }),
    }
}

fn scores(lowered: &Verified, bindings: &Bindings) -> Result<Vec<f64>, Finding> {
    let mut outputs = interpret(lowered, bindings).map_err(Finding::Interpret)?;
    Ok(outputs.remove("score").map(|tensor| tensor.data).unwrap_or_default())
}

fn compare_shifted(shift: i32, before: &[f64], after: &[f64]) -> Result<(), Finding> {
    match before.iter().zip(after).find(|(a, b)| !close(**a, **b)) {
        Some((&before, &after)) => Err(Finding::Shift { shift, before, after }),
        None => Ok(()),
    }
}

fn query_data(shape: &Shape) -> Vec<f64> {
    noise(1, BATCH * shape.heads as usize * shape.queries * shape.head_dim as usize)
}

fn key_data(shape: &Shape) -> Vec<f64> {
    noise(2, BATCH * shape.kv_heads as usize * shape.keys * shape.head_dim as usize)
}

/// Numbers from -1 to 1, the same for a seed.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| 2.0 * rng.unit() - 1.0).collect()
}

/// Equal up to what double precision leaves of angles of some thousands of radians; an infinity is close to itself alone.
fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs())))
}
