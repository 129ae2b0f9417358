//! The parts of a graph, as errors name them.

use std::fmt;

/// The part of a graph that a problem is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The axis at a position.
    Axis(usize),
    /// The op at a position.
    Op(usize),
    /// The site at a position.
    Site(usize),
    /// The output at a position.
    Output(usize),
    /// The graph as a whole.
    Graph,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Graph => f.write_str("the graph"),
            Place::Axis(index) => write!(f, "axis {index}"),
            Place::Op(index) => write!(f, "op {index}"),
            Place::Site(index) => write!(f, "site @{index}"),
            Place::Output(index) => write!(f, "output {index}"),
        }
    }
}
