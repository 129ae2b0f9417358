//! Checks the tensors against the graph's inputs and finds the length of every axis.

use crate::graph::Graph;
use crate::op::Op;
use crate::suggest::closest;
use crate::text::print::Printer;
use crate::types::{Axis, Elem, Extent};

use super::error::InterpError;
use super::tensor::{Bindings, Tensor};

/// The length of each axis, where something tells it.
pub(super) struct Lengths {
    known: Vec<Option<usize>>,
}

impl Lengths {
    pub(super) fn bind(graph: &Graph, bindings: &Bindings) -> Result<Lengths, InterpError> {
        if let Some(name) = bindings.keys().find(|name| graph.inputs().all(|(input, _)| input != *name)) {
            let suggestion = closest(name, graph.inputs().map(|(input, _)| input)).map(str::to_owned);
            return Err(InterpError::UnknownInput { name: name.clone(), suggestion });
        }
        let mut known: Vec<Option<usize>> = graph
            .axes()
            .iter()
            .map(|info| match info.extent {
                Extent::Static(n) => Some(n as usize),
                Extent::Dynamic => None,
            })
            .collect();
        let mut told_by: Vec<Option<&str>> = vec![None; known.len()];
        for value in graph.values() {
            let Op::Input { name, dims, elem } = graph.op(value) else { continue };
            let ty = || Printer::new(graph).shaped(*elem, dims.iter().copied());
            let Some(tensor) = bindings.get(name) else {
                return Err(InterpError::MissingInput { name: name.clone(), ty: ty() });
            };
            check_tensor(name, *elem, tensor)?;
            if tensor.shape.len() != dims.len() {
                return Err(InterpError::RankMismatch { name: name.clone(), ty: ty(), shape: tensor.shape.clone() });
            }
            for (&dim, &length) in dims.iter().zip(&tensor.shape) {
                let axis = || graph.axis(dim).name.clone();
                if i32::try_from(length).is_err() {
                    return Err(InterpError::AxisTooLong { axis: axis(), name: name.clone(), length });
                }
                match (known[dim.index()], told_by[dim.index()]) {
                    (Some(expected), None) if expected != length => {
                        let name = name.clone();
                        return Err(InterpError::StaticLength { axis: axis(), expected, name, found: length });
                    }
                    (Some(first_length), Some(first)) if first_length != length => {
                        let (first, name) = (first.to_owned(), name.clone());
                        return Err(InterpError::LengthClash { axis: axis(), first, first_length, name, length });
                    }
                    (Some(_), _) => {}
                    (None, _) => {
                        known[dim.index()] = Some(length);
                        told_by[dim.index()] = Some(name);
                    }
                }
            }
        }
        Ok(Lengths { known })
    }

    /// The length of an axis.
    pub(super) fn get(&self, graph: &Graph, axis: Axis) -> Result<usize, InterpError> {
        self.known[axis.index()].ok_or_else(|| InterpError::UnknownLength { axis: graph.axis(axis).name.clone() })
    }

    /// The length of an axis of a value that was computed, so that [`Lengths::get`] succeeded before.
    pub(super) fn of(&self, axis: Axis) -> usize {
        self.known[axis.index()].unwrap_or(0)
    }

    pub(super) fn shape(&self, graph: &Graph, dims: &[Axis]) -> Result<Vec<usize>, InterpError> {
        dims.iter().map(|dim| self.get(graph, *dim)).collect()
    }
}

fn check_tensor(name: &str, elem: Elem, tensor: &Tensor) -> Result<(), InterpError> {
    let name = || name.to_owned();
    if tensor.elem != elem {
        return Err(InterpError::ElemMismatch { name: name(), expected: elem, found: tensor.elem });
    }
    // An empty dimension makes the product 0 whatever the others are.
    let expected = if tensor.shape.contains(&0) {
        Some(0)
    } else {
        tensor.shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length))
    };
    if expected != Some(tensor.data.len()) {
        let (shape, found) = (tensor.shape.clone(), tensor.data.len());
        return Err(InterpError::DataLength { name: name(), shape, expected, found });
    }
    if let Some(index) = tensor.data.iter().position(|x| !elem.holds(*x)) {
        return Err(InterpError::BadElement { name: name(), index, value: tensor.data[index], elem });
    }
    Ok(())
}
