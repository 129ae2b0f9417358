//! Lengths of axes: `--dims b=1,q=2048,k=2048`, and what tensors tell.

use std::collections::BTreeMap;
use std::str::FromStr;

use rhumb::ir::{AxisInfo, Extent, closest};
use rhumb::prelude::*;
use rhumb::runtime::Interface;

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

/// The length of every axis of a graph that is known so far.
#[derive(Clone, Debug)]
pub(super) struct Lengths(Vec<Option<usize>>);

impl Lengths {
    /// What the graph and `--dims` tell.
    pub(super) fn new(interface: &Interface, dims: &Dims) -> Result<Lengths, CliError> {
        let axes = interface.axes();
        let fixed = |axis: &AxisInfo| match axis.extent {
            Extent::Static(length) => Some(length as usize),
            Extent::Dynamic => None,
        };
        let mut lengths: Vec<Option<usize>> = axes.iter().map(fixed).collect();
        for (name, &given) in &dims.0 {
            let Some(axis) = axes.iter().position(|axis| axis.name == *name) else {
                let known = || axes.iter().filter(|axis| fixed(axis).is_none()).map(|axis| axis.name.as_str());
                return Err(CliError::UnknownAxis {
                    axis: name.clone(),
                    suggestion: closest(name, known()).map(str::to_owned),
                    known: known().map(str::to_owned).collect(),
                });
            };
            match lengths[axis] {
                Some(fixed) if fixed != given => {
                    return Err(CliError::FixedAxis { axis: name.clone(), given, fixed });
                }
                _ => lengths[axis] = Some(given),
            }
        }
        Ok(Lengths(lengths))
    }

    /// Learns from the shape of an input. Where that does not fit the graph, the call will say so, but `--dims` must agree with it.
    pub(super) fn learn(
        &mut self,
        interface: &Interface,
        input: &str,
        dims: &[Axis],
        shape: &[usize],
    ) -> Result<(), CliError> {
        for (axis, &found) in dims.iter().zip(shape) {
            let AxisInfo { name, extent, groups: _ } = &interface.axes()[axis.index()];
            match self.0[axis.index()] {
                None => self.0[axis.index()] = Some(found),
                Some(given) if given != found && *extent == Extent::Dynamic => {
                    let (axis, input) = (name.clone(), input.to_owned());
                    return Err(CliError::ClashingAxis { axis, given, input, found });
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
                self.0[axis.index()].ok_or_else(|| {
                    let name = |index: usize| interface.axes()[index].name.as_str();
                    let missing = (0..self.0.len()).filter(|index| self.0[*index].is_none());
                    let example: Vec<String> = missing.map(|index| format!("{}=64", name(index))).collect();
                    CliError::UntoldAxis { axis: name(axis.index()).to_owned(), example: example.join(",") }
                })
            })
            .collect()
    }

    /// The length of an axis; 0 for one that no tensor has.
    pub(super) fn of(&self, axis: Axis) -> usize {
        self.0.get(axis.index()).copied().flatten().unwrap_or(0)
    }

    /// The longest axis whose length the graph does not fix; 0 if there is none.
    pub(super) fn longest_dynamic(&self, interface: &Interface) -> usize {
        let axes = interface.axes().iter().zip(&self.0).filter(|(axis, _)| axis.extent == Extent::Dynamic);
        axes.filter_map(|(_, length)| *length).max().unwrap_or(0)
    }
}
