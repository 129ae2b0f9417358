//! What can be wrong with a graph.

use thiserror::Error;

use crate::infer::OpError;
use crate::place::Place;
use crate::types::{Elem, MAX_AXES};

/// What is wrong with part of a graph. The text says what was found; [`Fault::hint`] says what would mend it.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// An op that is not well formed, or a handle that leads nowhere.
    Op(OpError),
    /// A value of another builder.
    ForeignValue {
        /// Its position there.
        index: usize,
        /// The graph it belongs to.
        graph: String,
    },
    /// A stored type that is not the inferred one.
    StaleType {
        /// The stored type, printed.
        stored: String,
        /// The inferred type, printed.
        inferred: String,
    },
    /// A value that is too large whatever the dynamic lengths are.
    TooLarge {
        /// Its type, printed.
        ty: String,
    },
    /// More axes than a graph can have.
    TooManyAxes {
        /// The first that did not fit.
        name: String,
    },
    /// An axis name that the text form can't have.
    AxisName {
        /// The name.
        name: String,
    },
    /// Two axes of one name.
    DuplicateAxis {
        /// The name.
        name: String,
    },
    /// A static length that no axis can have.
    AxisLength {
        /// The axis.
        name: String,
        /// Its length.
        length: i128,
    },
    /// An axis that groups itself, or one that groups another.
    NestedGroups {
        /// The axis.
        axis: String,
        /// The axis it groups.
        finer: String,
    },
    /// Groups of unequal size.
    UnevenGroups {
        /// The axis.
        axis: String,
        /// Its length.
        groups: u32,
        /// The axis it groups.
        finer: String,
        /// The length of that.
        count: u32,
    },
    /// Groups whose size is not known.
    DynamicGroups {
        /// The axis.
        axis: String,
        /// The axis it groups.
        finer: String,
    },
    /// An axis with two roles in a site.
    SiteAxisTwice {
        /// The axis.
        axis: String,
    },
    /// Axes of a site of which one groups the other.
    SiteAxesRelated {
        /// One axis.
        axis: String,
        /// The other.
        other: String,
    },
    /// A value of a site with the wrong element type.
    SiteElem {
        /// The field of the site.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: Elem,
    },
    /// A value of a site with an axis that it must not have.
    SiteVaries {
        /// The field of the site.
        field: &'static str,
        /// The axis.
        axis: String,
    },
    /// An input or output without a name.
    EmptyName,
    /// Two inputs or outputs of one name.
    DuplicateName {
        /// The name.
        name: String,
        /// What has it.
        first: Place,
    },
    /// A graph that computes nothing.
    NoOutput,
    /// An output whose dimensions are not the axes of its value.
    OutputDims {
        /// The dimensions.
        dims: String,
        /// The axes of the value.
        axes: String,
    },
    /// An output stored in a type that its value is not rounded to.
    OutputElem {
        /// The element type of the tensor.
        stored: Elem,
        /// That of the value.
        found: Elem,
    },
}

crate::display_with_hint!(Fault);

impl From<OpError> for Fault {
    fn from(error: OpError) -> Fault {
        Fault::Op(error)
    }
}

impl Fault {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            Fault::Op(source) => source.finding(),
            Fault::ForeignValue { index, graph } => {
                format!("value {index} of another builder, that of graph `{graph}`, is used here")
            }
            Fault::StaleType { stored, inferred } => {
                format!("the op has type {inferred}, but {stored} is stored with it")
            }
            Fault::TooLarge { ty } => format!("a value of type {ty} takes more bytes than can be addressed"),
            Fault::TooManyAxes { name } => format!("axis `{name}` is one too many: a graph has at most {MAX_AXES}"),
            Fault::AxisName { name } => format!("{name:?} can't be the name of an axis"),
            Fault::DuplicateAxis { name } => format!("there is an axis `{name}` already"),
            Fault::AxisLength { name, length } => {
                format!("axis `{name}` has length {length}; a fixed length is from 1 to {}", i32::MAX)
            }
            Fault::NestedGroups { axis, finer } => {
                format!("axis `{axis}` groups `{finer}`, which groups an axis itself")
            }
            Fault::UnevenGroups { axis, groups, finer, count } => {
                format!("{count} indices of axis `{finer}` do not make {groups} equal groups for axis `{axis}`")
            }
            Fault::DynamicGroups { axis, finer } => {
                format!("axis `{axis}` groups `{finer}`, but their lengths are not both fixed")
            }
            Fault::SiteAxisTwice { axis } => format!("axis `{axis}` stands for two things in one site"),
            Fault::SiteAxesRelated { axis, other } => {
                format!("axes `{other}` and `{axis}` of one site are an axis and its groups")
            }
            Fault::SiteElem { field, expected, found } => format!("`{field}` of a site is {expected}, found {found}"),
            Fault::SiteVaries { field, axis } => {
                format!("`{field}` of a site varies over axis `{axis}`, which it must be free of")
            }
            Fault::EmptyName => "an input or output needs a name".to_owned(),
            Fault::DuplicateName { name, first } => format!("the name {name:?} is taken by {first}"),
            Fault::NoOutput => "the graph has no output".to_owned(),
            Fault::OutputDims { dims, axes } => {
                format!("the output has dimensions {dims}, but its value varies over {axes}")
            }
            Fault::OutputElem { stored, found } => {
                format!("the output is a tensor of {stored}, but its value is {found}")
            }
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> &'static str {
        match self {
            Fault::Op(error) => error.hint(),
            Fault::ForeignValue { .. } => "make the value with the builder of this graph",
            Fault::StaleType { .. } => "store the type that `infer` gives",
            Fault::TooLarge { .. } => "use shorter axes, or fewer in one value",
            Fault::TooManyAxes { .. } => "reuse axes: values of one length and meaning can share one",
            Fault::AxisName { .. } => "use letters, digits and `_`, a letter or `_` first",
            Fault::DuplicateAxis { .. } => "give each axis its own name",
            Fault::AxisLength { .. } => "declare the axis without a length if each call is to tell it",
            Fault::NestedGroups { .. } => "group the finest axis",
            Fault::UnevenGroups { .. } => "the number of groups must divide the length of the axis they group",
            Fault::DynamicGroups { .. } => "give both axes a number for their length",
            Fault::SiteAxisTwice { .. } => "queries, keys, heads and the contracted axis are four different axes",
            Fault::SiteAxesRelated { .. } => "use the finer axis: values over its groups are found through it",
            Fault::SiteElem { .. } => "convert the value with `cast`, or use `iota`",
            Fault::SiteVaries { .. } => {
                "positions and indices of queries and of keys stand alone; compare them in the scheme"
            }
            Fault::EmptyName => "give the name that callers bind a tensor to",
            Fault::DuplicateName { .. } => "give each input and output its own name",
            Fault::NoOutput => "name a result with `output`",
            Fault::OutputElem { stored, .. } if stored.is_input_only() => Elem::READ_ALONE_HINT,
            Fault::OutputElem { .. } => Elem::OUTPUT_HINT,
            Fault::OutputDims { .. } => "name each axis of the value once, in the order of the tensor's dimensions",
        }
    }
}
