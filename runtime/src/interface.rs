//! Inputs and outputs of a graph, and the one validator of the tensors that are bound to them.

use std::fmt;

use rhumb_ir::{Axis, AxisInfo, AxisSet, Elem, Extent, Graph, Op, Verified, closest};
use smallvec::SmallVec;

use crate::error::{CallError, Direction, Grouping, InterfaceError};
use crate::limits::MAX_RANK;
use crate::overlap::overlap;
use crate::recycle::{Spares, recycled};
use crate::view::{InputView, TensorViewMut};

/// A tensor that a graph reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name it is bound by.
    pub name: String,
    /// Element type.
    pub elem: Elem,
    /// Its dimensions, outermost first.
    pub dims: Vec<Axis>,
}

/// The tensors that a graph reads and writes. Prints as a listing, one line each.
///
/// ```text
/// input "q": f32[b, h = 32, q, d = 128]
/// input "k": f32[b, g = 8, k, d = 128]
/// input "v": f32[b, g = 8, k, e = 128]
/// output "out": f32[b, h = 32, q, e = 128]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    axes: Vec<AxisInfo>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The axes whose indices outputs depend on, and those whose lengths.
    counted: AxisSet,
    sized: AxisSet,
}

/// Views by name, as a call was given them. They are lists, which calls hand on to the next: a view is large to move.
#[derive(Debug, Default)]
pub(crate) struct Bindings<'a> {
    input_names: Vec<&'a str>,
    output_names: Vec<&'a str>,
    /// In the order of the names.
    views: Bound<'a>,
}

impl<'a> Bindings<'a> {
    /// Adds a tensor to read.
    pub(crate) fn input(&mut self, name: &'a str, view: impl Into<InputView<'a>>) {
        self.input_names.push(name);
        self.views.inputs.push(view.into());
    }

    /// Adds a tensor to write.
    pub(crate) fn output(&mut self, name: &'a str, view: TensorViewMut<'a>) {
        self.output_names.push(name);
        self.views.outputs.push(view);
    }

    /// The views, in the order of the ports once [`Interface::bind`] has put them there.
    pub(crate) fn bound(&self) -> &Bound<'a> {
        &self.views
    }

    /// As [`Bindings::bound`], to be written.
    pub(crate) fn bound_mut(&mut self) -> &mut Bound<'a> {
        &mut self.views
    }

    /// The lists without what they held, for another call.
    fn emptied<'b>(self) -> Bindings<'b> {
        let Bindings { input_names, output_names, views } = self;
        let Bound { lengths, inputs, outputs, addresses } = views;
        let (lengths, addresses) = (recycled(lengths), recycled(addresses));
        let views = Bound { lengths, inputs: recycled(inputs), outputs: recycled(outputs), addresses };
        Bindings { input_names: recycled(input_names), output_names: recycled(output_names), views }
    }
}

/// What takes calls, and may keep their lists for the next.
pub(crate) trait KeepsBindings: fmt::Debug + Send + Sync {
    /// Where lists wait for the next call, if they are kept.
    fn spare_bindings(&self) -> Option<&Spares<Bindings<'static>>> {
        None
    }

    /// Empty lists: those that a call before left behind, or new ones.
    fn take_bindings(&self) -> Bindings<'static> {
        self.spare_bindings().map(Spares::take).unwrap_or_default()
    }

    /// Keeps lists for the next call, without what they hold.
    fn keep_bindings(&self, bindings: Bindings<'_>) {
        if let Some(spares) = self.spare_bindings() {
            spares.keep(bindings.emptied());
        }
    }
}

/// Who told the length of an axis: the port, the dimension, and the length.
type Told<'p> = (Direction, &'p Port, usize, usize);

/// Views that fit a graph, in the order of its ports, and the axis lengths they tell: what runs a call.
#[derive(Debug, Default)]
pub(crate) struct Bound<'a> {
    /// Length of each axis of the graph, by [`Axis::index`]; 0 for a dynamic axis that nothing uses.
    pub(crate) lengths: Vec<usize>,
    /// In the order of [`Interface::inputs`].
    pub(crate) inputs: Vec<InputView<'a>>,
    /// In the order of [`Interface::outputs`].
    pub(crate) outputs: Vec<TensorViewMut<'a>>,
    /// Addresses of element 0 of each output, for code that writes it.
    pub(crate) addresses: Vec<u64>,
}

impl Interface {
    /// The inputs and outputs of `graph`.
    ///
    /// # Errors
    /// [`InterfaceError`] if no binding could ever fit the graph.
    pub fn of(graph: &Verified) -> Result<Interface, InterfaceError> {
        let inputs = graph.nodes().iter().filter_map(|node| match &node.op {
            Op::Input { name, dims, elem } => Some(Port { name: name.clone(), elem: *elem, dims: dims.clone() }),
            _ => None,
        });
        let outputs = graph.outputs().iter().map(|output| Port {
            name: output.name.clone(),
            elem: output.elem,
            dims: output.dims.clone(),
        });
        let (mut counted, mut sized) = (AxisSet::EMPTY, AxisSet::EMPTY);
        for value in graph.below(graph.outputs().iter().map(|output| output.value), |_| true) {
            match graph.op(value) {
                Op::Iota(axis) => counted = counted.with(*axis),
                Op::Size(axis) => sized = sized.with(*axis),
                _ => {}
            }
        }
        let (inputs, outputs) = (inputs.collect(), outputs.collect());
        let interface = Interface { axes: graph.axes().to_vec(), inputs, outputs, counted, sized };
        for (direction, port) in interface.ports() {
            if port.dims.len() > MAX_RANK {
                return Err(InterfaceError::TooManyDims { direction, name: port.name.clone(), rank: port.dims.len() });
            }
        }
        let told: AxisSet = interface.ports().flat_map(|(_, port)| port.dims.iter().copied()).collect();
        let untold = used_axes(graph).iter().find(|axis| graph.static_extent(*axis).is_none() && !told.contains(*axis));
        match untold {
            Some(axis) => {
                let axis = graph.axis(axis).name.clone();
                Err(InterfaceError::UnboundAxis { graph: graph.name.clone(), axis })
            }
            None => Ok(interface),
        }
    }

    /// The tensors read, in the order of the graph.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The tensors written, in the order of the graph.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether outputs depend on the index along an axis.
    pub(crate) fn counts(&self, axis: Axis) -> bool {
        self.counted.contains(axis)
    }

    /// Whether outputs depend on the length of an axis.
    pub(crate) fn goes_by_length(&self, axis: Axis) -> bool {
        self.sized.contains(axis)
    }

    /// The graph's axes, by [`Axis::index`].
    pub fn axes(&self) -> &[AxisInfo] {
        &self.axes
    }

    /// The type of a port as people read it: `f32[b, h = 32, q, d = 128]`.
    pub fn signature(&self, port: &Port) -> String {
        let dims: Vec<String> = port.dims.iter().map(|axis| self.dim_text(*axis)).collect();
        format!("{}[{}]", port.elem, dims.join(", "))
    }

    fn dim_text(&self, axis: Axis) -> String {
        let AxisInfo { name, extent, groups: _ } = &self.axes[axis.index()];
        match extent {
            Extent::Static(length) => format!("{name} = {length}"),
            Extent::Dynamic => name.clone(),
        }
    }

    fn ports(&self) -> impl Iterator<Item = (Direction, &Port)> {
        let inputs = self.inputs.iter().map(|port| (Direction::Input, port));
        inputs.chain(self.outputs.iter().map(|port| (Direction::Output, port)))
    }

    /// Holds tensors against the graph: names, element types, shapes, and that no output shares memory. The only such check there is,
    /// for compiled kernels and for the reference. Views that fit are in the order of the ports from then on.
    ///
    /// # Errors
    /// [`CallError`] names the first tensor that does not fit.
    pub(crate) fn bind<'b, 'a>(&self, bindings: &'b mut Bindings<'a>) -> Result<&'b mut Bound<'a>, CallError> {
        let Bindings { input_names, output_names, views } = bindings;
        let Bound { lengths, inputs, outputs, addresses } = views;
        self.arrange(Direction::Input, input_names, inputs)?;
        self.arrange(Direction::Output, output_names, outputs)?;
        let shapes = inputs.iter().map(|view| (view.elem(), view.shape()));
        let shapes = shapes.chain(outputs.iter().map(|view| (view.elem(), view.shape())));
        self.lengths(shapes, lengths)?;
        self.check_apart(inputs, outputs)?;
        addresses.clear();
        addresses.extend(outputs.iter_mut().map(|output| output.as_mut_ptr() as u64));
        Ok(views)
    }

    /// Puts views and their names in the order of the ports.
    fn arrange<V>(&self, direction: Direction, names: &mut [&str], views: &mut [V]) -> Result<(), CallError> {
        let ports = self.side(direction);
        for (position, &name) in names.iter().enumerate() {
            if ports.iter().all(|port| port.name != name) {
                return Err(self.unknown(direction, name));
            }
            if names[..position].contains(&name) {
                return Err(CallError::Duplicate { direction, name: name.into() });
            }
        }
        for (position, port) in ports.iter().enumerate() {
            let Some(found) = names.iter().skip(position).position(|name| *name == port.name) else {
                let expected = self.signature(port).into();
                return Err(CallError::Missing { direction, name: port.name.as_str().into(), expected });
            };
            if found > 0 {
                names.swap(position, position + found);
                views.swap(position, position + found);
            }
        }
        Ok(())
    }

    fn side(&self, direction: Direction) -> &[Port] {
        match direction {
            Direction::Input => &self.inputs,
            Direction::Output => &self.outputs,
        }
    }

    fn unknown(&self, direction: Direction, name: &str) -> CallError {
        let other = match direction {
            Direction::Input => Direction::Output,
            Direction::Output => Direction::Input,
        };
        if self.side(other).iter().any(|port| port.name == name) {
            return CallError::Direction { name: name.into(), is: other };
        }
        let known: Box<[Box<str>]> = self.side(direction).iter().map(|port| port.name.as_str().into()).collect();
        let suggestion = closest(name, known.iter().map(|known| &**known)).map(Into::into);
        CallError::Unknown { direction, name: name.into(), suggestion, known }
    }

    /// Tells the length of each axis, once element types, ranks and lengths are found to agree. Shapes come in the order of the ports.
    fn lengths<'s>(
        &self,
        shapes: impl Iterator<Item = (Elem, &'s [usize])>,
        lengths: &mut Vec<usize>,
    ) -> Result<(), CallError> {
        let mut told: SmallVec<[Option<Told<'_>>; 16]> = SmallVec::new();
        told.resize(self.axes.len(), None);
        for ((direction, port), (elem, shape)) in self.ports().zip(shapes) {
            self.check_type(direction, port, elem, shape)?;
            for (dim, (&axis, &length)) in port.dims.iter().zip(shape).enumerate() {
                let info = &self.axes[axis.index()];
                if let Extent::Static(wanted) = info.extent
                    && length != wanted as usize
                {
                    return Err(self.wrong_extent(direction, port, shape, dim, wanted));
                }
                if length > i32::MAX as usize {
                    let (name, axis) = (port.name.as_str().into(), info.name.as_str().into());
                    return Err(CallError::TooLong { direction, name, axis, length });
                }
                match told[axis.index()] {
                    None => told[axis.index()] = Some((direction, port, dim, length)),
                    Some((_, _, _, first_length)) if first_length == length => {}
                    Some((first_direction, first, first_dim, first_length)) => {
                        return Err(CallError::Clash {
                            axis: info.name.as_str().into(),
                            first_direction,
                            first: first.name.as_str().into(),
                            first_dim,
                            first_length,
                            second_direction: direction,
                            second: port.name.as_str().into(),
                            second_dim: dim,
                            second_length: length,
                        });
                    }
                }
            }
        }
        let length = |(info, told): (&AxisInfo, &Option<Told<'_>>)| match (info.extent, told) {
            (Extent::Static(length), _) => length as usize,
            (Extent::Dynamic, Some((_, _, _, length))) => *length,
            (Extent::Dynamic, None) => 0,
        };
        lengths.clear();
        lengths.extend(self.axes.iter().zip(&told).map(length));
        Ok(())
    }

    fn check_type(&self, direction: Direction, port: &Port, elem: Elem, shape: &[usize]) -> Result<(), CallError> {
        if elem != port.elem {
            return Err(CallError::Elem {
                direction,
                name: port.name.as_str().into(),
                expected: self.signature(port).into(),
                wanted: port.elem,
                found: elem,
            });
        }
        if shape.len() != port.dims.len() {
            return Err(CallError::Rank {
                direction,
                name: port.name.as_str().into(),
                expected: self.signature(port).into(),
                rank: port.dims.len(),
                found: shape.into(),
            });
        }
        Ok(())
    }

    fn wrong_extent(&self, direction: Direction, port: &Port, shape: &[usize], dim: usize, wanted: u32) -> CallError {
        let axis = port.dims[dim];
        let fits = |axis: Axis, length: usize| match self.axes[axis.index()].extent {
            Extent::Static(wanted) => length == wanted as usize,
            Extent::Dynamic => true,
        };
        // The usual slip is one pair of dimensions: heads and tokens.
        let order = (0..shape.len()).find_map(|other| {
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.swap(dim, other);
            port.dims.iter().zip(&order).all(|(axis, from)| fits(*axis, shape[*from])).then_some(order)
        });
        CallError::Extent {
            direction,
            name: port.name.as_str().into(),
            expected: self.signature(port).into(),
            shape: shape.into(),
            axis: self.axes[axis.index()].name.as_str().into(),
            dim,
            wanted,
            grouping: self.grouping(axis).map(Box::new),
            order: order.map(Vec::into_boxed_slice),
        }
    }

    /// The axis that `axis` groups, and the ratio of their lengths.
    fn grouping(&self, axis: Axis) -> Option<Grouping> {
        let AxisInfo { name, extent, groups } = &self.axes[axis.index()];
        let fine = &self.axes[(*groups)?.index()];
        match (extent, fine.extent) {
            (Extent::Static(coarse_length), Extent::Static(fine_length)) => Some(Grouping {
                coarse: name.clone(),
                fine: fine.name.clone(),
                each: fine_length.checked_div(*coarse_length)?,
            }),
            _ => None,
        }
    }

    /// Checks that no output shares memory with anything else; views come in the order of the ports.
    fn check_apart(&self, inputs: &[InputView<'_>], outputs: &[TensorViewMut<'_>]) -> Result<(), CallError> {
        for (number, output) in outputs.iter().enumerate() {
            let read = inputs.iter().position(|input| input.overlaps(output.region()));
            let written = || outputs[..number].iter().position(|earlier| overlap(output.region(), earlier.region()));
            let shared = read.or_else(|| written().map(|written| inputs.len() + written));
            if let Some((other_direction, other)) = shared.and_then(|other| self.ports().nth(other)) {
                let output = self.outputs[number].name.as_str().into();
                return Err(CallError::Overlap { output, other_direction, other: other.name.as_str().into() });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ports()
            .try_for_each(|(direction, port)| writeln!(f, "{direction} \"{}\": {}", port.name, self.signature(port)))
    }
}

/// The axes whose length a graph needs.
fn used_axes(graph: &Graph) -> AxisSet {
    graph.nodes().iter().fold(AxisSet::EMPTY, |used, node| match node.op {
        Op::Size(axis) => used.with(axis),
        _ => used.union(node.ty.axes),
    })
}

#[cfg(test)]
mod tests;
