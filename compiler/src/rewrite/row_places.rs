//! Where the rows of a graph that products read are computed: what extraction decides, told value by value.

use std::fmt;

use egg::Id;
use rhumb_ir::{Value, Verified};

use super::add_values;
use super::cost::Cost;
use super::extents::{Extents, Regime};
use super::extract::Extraction;
use super::facts::{EGraph, Facts};
use super::place::{Place, Step, item};
use super::untimed::untimed;

/// Where rows are computed, with the price of either place. It prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Whether they are computed while they are loaded, for each key tile anew; else once per call, as a table.
    pub while_loaded: bool,
    /// What that takes with all that it alone needs.
    pub price: Price,
    /// What the other place would take.
    pub other: Price,
    /// Whether a table would repeat an input of fewer bits in more.
    pub repeats: bool,
}

/// Vector instructions an element, to the hundredth; [`Price::NONE`] where there is no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(u32);

impl Price {
    /// Where rows can't be computed.
    pub const NONE: Price = Price(u32::MAX);

    fn of(cost: Option<Cost>, space: u64) -> Price {
        let each = |cost: Cost| cost.instructions() / space as f64 * 100.0;
        cost.map_or(Price::NONE, |cost| Price(each(cost).round().clamp(0.0, f64::from(u32::MAX - 1)) as u32))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Price::NONE => f.write_str("not possible"),
            Price(hundredths) => write!(f, "{}.{:02}", hundredths / 100, hundredths % 100),
        }
    }
}

/// The place, its price, and that of the other.
impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Placed { while_loaded, price, other, repeats } = *self;
        let (place, lost) =
            if while_loaded { ("while loaded", "once per call") } else { ("once per call", "while loaded") };
        write!(f, "{place} {price} instructions an element, {lost} {other}")?;
        if repeats { f.write_str(" for a copy in more bits") } else { Ok(()) }
    }
}

/// Where extraction has the rows of keys and values computed that the products of a graph read. Values that are not such rows, and inputs
/// that are read as they lie, have no entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowPlaces {
    many: Vec<(Value, Placed)>,
    few: Vec<(Value, Placed)>,
}

impl RowPlaces {
    /// Those of a graph that rewriting has made, or may have: no rule is applied to it.
    pub(crate) fn of(graph: &Verified) -> RowPlaces {
        let facts = Facts::new(graph);
        let few = facts.few.clone();
        let mut egraph = EGraph::new(facts);
        let Ok(ids) = add_values(&mut egraph, graph) else { return RowPlaces::default() };
        untimed(|| egraph.rebuild());
        let many = extracted(&egraph, graph, &ids, &egraph.analysis.extents);
        let few = few.map_or_else(|| many.clone(), |few| extracted(&egraph, graph, &ids, &few));
        RowPlaces { many, few }
    }

    /// In calls of this regime.
    pub(crate) fn in_calls(&self, regime: Regime) -> &[(Value, Placed)] {
        match regime {
            Regime::ManyQueries => &self.many,
            Regime::FewQueries => &self.few,
        }
    }
}

/// The places of the rows of a graph, whose values are these classes, where axes have these lengths.
fn extracted(egraph: &EGraph, graph: &Verified, ids: &[Id], extents: &Extents) -> Vec<(Value, Placed)> {
    let roots: Vec<Id> = graph.outputs().iter().map(|output| ids[output.value.index()]).collect();
    let Some(extraction) = Extraction::with(egraph, &roots, extents) else { return Vec::new() };
    let used = extraction.used(egraph, &roots);
    let mut places = Vec::new();
    for (value, class) in graph.values().map(|value| (value, egraph.find(ids[value.index()]))) {
        let item = item(class, Place::Loaded);
        let form = extraction.form(item).filter(|form| form.step != Step::Lies && used.contains(&item));
        let Some(while_loaded) = form.map(|form| form.step == Step::Stage) else { continue };
        let prices = extraction.prices(egraph, &roots, item);
        let of = |step: Step| prices.iter().find(|(form, _)| form.step == step).and_then(|(_, price)| *price);
        let [staged, kept] = [Step::Stage, Step::Keep].map(of);
        let repeats = kept.zip(staged).is_some_and(|(kept, staged)| kept.has_more_misfits(staged));
        let space = extents.space(graph.ty(value).axes);
        let [staged, kept] = [staged, kept].map(|cost| Price::of(cost, space));
        let (price, other) = if while_loaded { (staged, kept) } else { (kept, staged) };
        places.push((value, Placed { while_loaded, price, other, repeats }));
    }
    places
}
