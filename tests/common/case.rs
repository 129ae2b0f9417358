//! One call of a random attention.

use std::collections::BTreeSet;

use rhumb::prelude::*;
use rhumb::runtime::Interface;

use super::inputs::wild_inputs;
use super::visible::Masks;
use super::{Family, Layout, Lengths, Rng, Spec, Tensor, Tensors, inputs, outputs, run};

/// A call: its tensors, row-major, and how they lie in memory.
pub(crate) struct Case {
    pub(crate) lengths: Lengths,
    pub(crate) tensors: Tensors,
    /// Tensors whose outermost dimension repeats one element.
    pub(crate) repeated: BTreeSet<String>,
    layouts: Vec<(String, Layout)>,
    /// Decides about the layouts of outputs.
    seed: u64,
}

impl Case {
    pub(crate) fn random(rng: &mut Rng, spec: &Spec, interface: &Interface, family: Family) -> Case {
        let lengths = Lengths::random(rng, spec);
        let plain = family == Family::Plain || (family != Family::Odd && rng.one_in(4));
        let drawn = if plain {
            inputs(rng, interface, lengths)
        } else {
            wild_inputs(rng, interface, lengths, family == Family::Odd)
        };
        let mut case =
            Case { lengths, tensors: Tensors::new(), repeated: BTreeSet::new(), layouts: Vec::new(), seed: rng.bits() };
        for (name, tensor) in drawn {
            let layout = Layout::random(rng, tensor.shape().len(), false);
            let repeats = layout == Layout::Repeated;
            if repeats {
                case.repeated.insert(name.clone());
            }
            case.layouts.push((name.clone(), layout.clone()));
            case.tensors.insert(name, if repeats { tensor.stored(&layout).rows_of() } else { tensor });
        }
        case
    }

    /// The case with garbage in all that no query sees.
    pub(crate) fn ruined(mut self, rng: &mut Rng, masks: &Masks) -> Case {
        self.tensors = masks.with_garbage(rng, (&self.tensors, &self.repeated), self.lengths, |_| true);
        self
    }

    /// Other tensors of the same shapes in the layouts of the case.
    pub(crate) fn stored(&self, tensors: &Tensors) -> Tensors {
        self.layouts.iter().map(|(name, layout)| (name.clone(), tensors[name].stored(layout))).collect()
    }

    /// What a kernel makes of tensors of the case's shapes, outputs in layouts of their own.
    pub(crate) fn run(&self, kernel: &Kernel, stored: &Tensors) -> Result<Tensors, CallError> {
        let layouts = &mut Rng::new(self.seed);
        let layout = |rank| Layout::random(layouts, rank, true);
        let mut made = outputs(kernel.interface(), self.lengths, layout);
        run(kernel.call(), stored, &mut made)?;
        Ok(made)
    }
}

/// The bits of each output, NaNs being one.
pub(crate) fn bits(made: &Tensors) -> Vec<Vec<u32>> {
    made.values().map(nanless).collect()
}

pub(crate) fn nanless(tensor: &Tensor) -> Vec<u32> {
    let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    tensor.values().into_iter().map(bits).collect()
}
