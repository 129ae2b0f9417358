//! Lengths of axes: `--dims b=1,q=2048,k=2048`, and what tensors tell.

use std::collections::BTreeMap;
use std::str::FromStr;

use rhumb::ir::{AxisInfo, AxisSet, Extent, closest};
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port};

use super::CliError;

/// Lengths by axis name, as given.
#[derive(Clone, Debug, Default)]
pub(super) struct Dims(BTreeMap<String, usize>);

impl FromStr for Dims {
    type Err = String;

    fn from_str(text: &str) -> Result<Dims, String> {
        let mut dims = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let form = || format!("`{part}` is no length of an axis; write axis=length, as in b=1,q=2048,k=2048");
            let (axis, length) = part.split_once('=').ok_or_else(form)?;
            let (axis, length) = (axis.trim(), length.trim().parse().map_err(|_| form())?);
            if dims.insert(axis.to_owned(), length).is_some() {
                return Err(format!("axis `{axis}` is given twice; give each axis one length"));
            }
        }
        Ok(Dims(dims))
    }
}

impl Dims {
    /// The names of axes, and the numbers given for them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(axis, number)| (axis.as_str(), *number))
    }
}

/// The length of every axis of a graph that is known so far.
#[derive(Clone, Debug)]
pub(super) struct Lengths {
    known: Vec<Option<usize>>,
    /// The axes that `--dims` names.
    given: AxisSet,
}

impl Lengths {
    /// What the graph and `--dims` tell.
    pub(super) fn new(interface: &Interface, dims: &Dims) -> Result<Lengths, CliError> {
        let axes = interface.axes();
        let fixed = |axis: &AxisInfo| match axis.extent {
            Extent::Static(length) => Some(length as usize),
            Extent::Dynamic => None,
        };
        let mut known: Vec<Option<usize>> = axes.iter().map(fixed).collect();
        let mut given = AxisSet::EMPTY;
        for (name, &length) in &dims.0 {
            let Some(axis) = axes.iter().position(|axis| axis.name == *name) else {
                let known = || axes.iter().filter(|axis| fixed(axis).is_none()).map(|axis| axis.name.as_str());
                return Err(CliError::UnknownAxis {
                    axis: name.clone(),
                    suggestion: closest(name, known()).map(str::to_owned),
                    known: known().map(str::to_owned).collect(),
                });
            };
            match known[axis] {
                Some(fixed) if fixed != length => {
                    return Err(CliError::FixedAxis { axis: name.clone(), given: length, fixed });
                }
                _ => known[axis] = Some(length),
            }
            given = Axis::from_index(axis).map_or(given, |axis| given.with(axis));
        }
        Ok(Lengths { known, given })
    }

    /// Learns from the shape of an input. Inputs that do not fit the graph or one another are left for the call to refuse.
    pub(super) fn learn(&mut self, interface: &Interface, port: &Port, shape: &[usize]) -> Result<(), CliError> {
        if shape.len() != port.dims.len() {
            return Ok(());
        }
        for (axis, &found) in port.dims.iter().zip(shape) {
            match &mut self.known[axis.index()] {
                known @ None => *known = Some(found),
                Some(given) if *given != found && self.given.contains(*axis) => {
                    let axis = interface.axes()[axis.index()].name.clone();
                    return Err(CliError::ClashingAxis { axis, given: *given, input: port.name.clone(), found });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The shape of a tensor of these dimensions.
    pub(super) fn shape(&self, interface: &Interface, dims: &[Axis]) -> Result<Vec<usize>, CliError> {
        dims.iter()
            .map(|axis| {
                self.known[axis.index()].ok_or_else(|| {
                    let name = |index: usize| interface.axes()[index].name.as_str();
                    let missing = (0..self.known.len()).filter(|index| self.known[*index].is_none());
                    // One sequence, of a few tokens.
                    let few = |index| if matches!(name(index), "b" | "batch") { 1 } else { 64 };
                    let example: Vec<String> = missing.map(|index| format!("{}={}", name(index), few(index))).collect();
                    CliError::UntoldAxis { axis: name(axis.index()).to_owned(), example: example.join(",") }
                })
            })
            .collect()
    }

    /// The length of an axis; 0 for one that no tensor has.
    pub(super) fn of(&self, axis: Axis) -> usize {
        self.known.get(axis.index()).copied().flatten().unwrap_or(0)
    }

    /// The longest axis whose length the graph does not fix; 0 if there is none.
    pub(super) fn longest_dynamic(&self, interface: &Interface) -> usize {
        let axes = interface.axes().iter().zip(&self.known).filter(|(axis, _)| axis.extent == Extent::Dynamic);
        axes.filter_map(|(_, length)| *length).max().unwrap_or(0)
    }
}
