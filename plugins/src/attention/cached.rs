//! Attention over caches of 8 bits.

use rhumb_ir::Elem;

use super::options::{Attention, Elems};
use super::quantised::{Quantised, Scales, elems};

impl Attention {
    /// The element types that rows can have: `cached` are those of keys and values, which can be of 8 bits too.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::Attention;
    ///
    /// assert!(Attention::elems(false).eq([Elem::F32, Elem::F16, Elem::Bf16]));
    /// assert!(Attention::elems(true).any(|elem| elem == Elem::I8));
    /// ```
    pub fn elems(cached: bool) -> impl Iterator<Item = Elem> {
        elems(cached)
    }

    /// The element type of `k` and `v`: of a cache. Beside those of 16 bits there are two of 8, which are [scaled](Attention::scales):
    ///
    /// - [`Elem::I8`], whose keys are `cast(k) * k_scale`, and whose values are `cast(v) * v_scale`; with
    ///   [zero points](Attention::zero_points), `(cast(k) - k_zero) * k_scale`;
    /// - [`Elem::F8e4m3`], whose keys and values are `k` and `v` themselves, unless scales are asked for.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::{Attention, Causal};
    ///
    /// // Inputs q, k, k_scale, v, v_scale.
    /// let graph = Attention::heads(32).head_dim(128).kv_heads(8).cache_elem(Elem::I8).scheme(Causal).build()?;
    /// assert!(graph.to_string().contains("input \"k_scale\" : f32[b, g, k]"));
    /// # Ok::<(), rhumb_plugins::BuildError>(())
    /// ```
    #[must_use]
    pub fn cache_elem(self, elem: Elem) -> Attention {
        Attention { elems: Elems { key: elem, value: elem, ..self.elems }, ..self }
    }

    /// What keys and values in 8 bits have scales for; integers have them for each token unless this says otherwise.
    #[must_use]
    pub fn scales(self, scales: Scales) -> Attention {
        Attention { quantised: Quantised { scales: Some(scales), ..self.quantised }, ..self }
    }

    /// Keys and values of [`Elem::I8`] also have zero points, `k_zero` and `v_zero`: what is stored for 0, as many as there are scales.
    #[must_use]
    pub fn zero_points(self) -> Attention {
        Attention { quantised: Quantised { zero_points: true, ..self.quantised }, ..self }
    }
}
