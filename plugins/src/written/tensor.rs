//! Tensors that a scheme in text is given: their axes, by name.

use rhumb_ir::{Attr, Axis, Elem};

use super::evaluate::Evaluator;
use super::tree::{Attribute, SiteAxis, TensorAxis};
use crate::error::SchemeError;

impl Evaluator<'_, '_> {
    /// Checks the types of all tensors, and the lengths that are told.
    pub(super) fn check_tensors(&mut self) -> Result<(), SchemeError> {
        for (number, attribute) in self.definition.attributes.iter().enumerate() {
            let Attribute::Tensor { axes, .. } = attribute else { continue };
            let found = self.axes_of_tensor(number)?;
            let own = axes.iter().filter_map(|axis| match axis {
                TensorAxis::Own { axis, length } => Some((*axis, *length)),
                TensorAxis::Site(_) => None,
            });
            for ((axis, length), (_, found)) in own.zip(found) {
                let Some(length) = length else { continue };
                let wanted = self.constant(length)?.single();
                if wanted != Some(f64::from(self.cx.length_of(found)?)) {
                    let wanted = wanted.map_or_else(|| "more than one number".to_owned(), |x| format!("{x}"));
                    let name = &self.definition.axes[axis].name;
                    return Err(self.bad_tensor(number, &format!("a value whose axis `{name}` is {wanted} long")));
                }
            }
        }
        Ok(())
    }

    /// The axis of the graph that a tensor's own axis is.
    pub(super) fn axis_of_tensor(&self, number: usize, axis: usize) -> Result<Axis, SchemeError> {
        let found = self.axes_of_tensor(number)?.into_iter().find(|(own, _)| *own == axis);
        found.map(|(_, found)| found).ok_or_else(|| self.bad_tensor(number, &self.tensor_type(number)))
    }

    /// The axes of the graph that a tensor's own axes are, in the order of the declaration: by name, where there is more than one.
    fn axes_of_tensor(&self, number: usize) -> Result<Vec<(usize, Axis)>, SchemeError> {
        let (Attribute::Tensor { elem, axes }, Attr::Value(value)) =
            (&self.definition.attributes[number], &self.values[number])
        else {
            return Ok(Vec::new());
        };
        let refused = || self.bad_tensor(number, &self.tensor_type(number));
        let x = self.cx.value(&self.definition.info.attributes[number].name, *value)?;
        if x.ty().elem != *elem {
            return Err(refused());
        }
        let is_of_site = |axis: Axis| {
            axes.iter().any(|declared| if let TensorAxis::Site(site) = declared { self.is(*site, axis) } else { false })
        };
        let found: Vec<Axis> = x.ty().axes.iter().filter(|axis| !is_of_site(*axis)).collect();
        let own: Vec<usize> = axes
            .iter()
            .filter_map(|axis| if let TensorAxis::Own { axis, .. } = axis { Some(*axis) } else { None })
            .collect();
        let is_of_attention = |axis: Axis| SiteAxis::ALL.into_iter().any(|(_, site)| self.is(site, axis));
        if own.len() != found.len() || found.iter().any(|axis| is_of_attention(*axis)) {
            return Err(refused());
        }
        if let ([own], [found]) = (&own[..], &found[..]) {
            return Ok(vec![(*own, *found)]);
        }
        let named = |own: &usize| {
            let name = &self.definition.axes[*own].name;
            let found = found.iter().find(|axis| self.cx.axis_name(**axis) == *name);
            found.map(|axis| (*own, *axis)).ok_or_else(refused)
        };
        own.iter().map(named).collect()
    }

    /// Whether an axis of the graph is one of the attention; groups of heads are heads too.
    fn is(&self, site: SiteAxis, axis: Axis) -> bool {
        match site {
            SiteAxis::Query => axis == self.cx.query_axis(),
            SiteAxis::Key => axis == self.cx.key_axis(),
            SiteAxis::Dim => axis == self.cx.dim_axis(),
            SiteAxis::Head => {
                let groups = self.cx.builder().axis_info(axis).and_then(|info| info.groups);
                self.cx.site().head.is_some_and(|head| axis == head || groups == Some(head))
            }
        }
    }

    /// The type of a tensor, as it is declared.
    fn tensor_type(&self, number: usize) -> String {
        let Attribute::Tensor { elem, axes } = &self.definition.attributes[number] else {
            return Elem::F32.to_string();
        };
        let site = |axis: SiteAxis| {
            let named = SiteAxis::ALL.into_iter().find(|(_, other)| *other == axis);
            named.map_or("", |(name, _)| name).to_owned()
        };
        let names: Vec<String> = axes
            .iter()
            .map(|axis| match axis {
                TensorAxis::Site(axis) => site(*axis),
                TensorAxis::Own { axis, .. } => self.definition.axes[*axis].name.clone(),
            })
            .collect();
        format!("a value of type {elem}[{}]; the attention's own axes may be left out", names.join(", "))
    }

    fn bad_tensor(&self, number: usize, expected: &str) -> SchemeError {
        let name = &self.definition.info.attributes[number].name;
        let Attr::Value(value) = &self.values[number] else {
            return SchemeError::AttrMissing { name: name.clone(), expected: expected.to_owned() };
        };
        match self.cx.value(name, *value) {
            Ok(x) => self.cx.bad_value(name, x, expected),
            Err(error) => error,
        }
    }
}
