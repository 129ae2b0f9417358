//! What a cache binds to a call beside keys and values.

use crate::kv::KvCache;
use crate::kv::error::{KvError, KvTensor};
use crate::kv::id::SequenceId;
use crate::kv::pool::Pool;
use crate::kv::quantised::Plane;
use crate::view::PagedView;

impl KvCache {
    /// The scales of a sequence's keys, `[1, head, token]`: input `k_scale` of an attention over a cache of
    /// [`Elem::I8`](rhumb_ir::Elem::I8).
    ///
    /// # Errors
    /// [`KvError::Stale`], and [`KvError::NoScales`] if the cache is of another element type.
    pub fn key_scales(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.plane(scales(&self.keys, KvTensor::Keys)?, sequence)
    }

    /// The scales of a sequence's values, as [`key_scales`](KvCache::key_scales): input `v_scale`.
    ///
    /// # Errors
    /// As of `key_scales`.
    pub fn value_scales(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.plane(scales(&self.values, KvTensor::Values)?, sequence)
    }

    /// What is stored for 0 in a sequence's keys, `[1, head, token]`: input `k_zero`.
    ///
    /// # Errors
    /// [`KvError::Stale`], and [`KvError::NoScales`] if the cache has no [zero points](crate::KvCacheBuilder::zero_points).
    pub fn key_zeros(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.plane(zeros(&self.keys, KvTensor::Keys)?, sequence)
    }

    /// What is stored for 0 in a sequence's values, as [`key_zeros`](KvCache::key_zeros): input `v_zero`.
    ///
    /// # Errors
    /// As of `key_zeros`.
    pub fn value_zeros(&self, sequence: SequenceId) -> Result<PagedView<'_>, KvError> {
        self.plane(zeros(&self.values, KvTensor::Values)?, sequence)
    }

    /// All that a call reads of a sequence, each with the name of the input that it is bound to: keys and values, and what the cache has
    /// of scales and zero points.
    ///
    /// ```
    /// use rhumb_ir::Elem;
    /// use rhumb_plugins::Attention;
    /// use rhumb_runtime::{Engine, KvCache, TensorView, TensorViewMut};
    ///
    /// let kernel = Engine::host()?.compile(&Attention::heads(2).head_dim(4).cache_elem(Elem::I8).build()?)?;
    /// let mut cache = KvCache::builder(2, 4).page_size(16).pages(8).elem(Elem::I8).build()?;
    /// let sequence = cache.new_sequence()?;
    /// // Rows of f32, which are quantised: each token and head has a scale.
    /// let rows: Vec<f32> = (0..2 * 3 * 4).map(|x| x as f32).collect();
    /// let rows = TensorView::from_slice(&rows, &[2, 3, 4])?;
    /// cache.append(sequence, rows, rows)?;
    ///
    /// let (query, mut out) = ([0.5f32; 8], [0.0f32; 8]);
    /// let mut call = kernel.call().input("q", TensorView::from_slice(&query, &[1, 2, 1, 4])?);
    /// for (name, view) in cache.inputs(sequence)? {
    ///     call = call.input(name, view);
    /// }
    /// call.output("out", TensorViewMut::from_slice(&mut out, &[1, 2, 1, 4])?).run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`KvError::Stale`].
    pub fn inputs(&self, sequence: SequenceId) -> Result<impl Iterator<Item = (&'static str, PagedView<'_>)>, KvError> {
        let [keys, values] = [&self.keys, &self.values].map(|pool| pool.numbers());
        let all = [
            Some(("k", self.keys(sequence)?)),
            self.named("k_scale", keys.map(|numbers| &numbers.scales), sequence)?,
            self.named("k_zero", keys.and_then(|numbers| numbers.zeros.as_ref()), sequence)?,
            Some(("v", self.values(sequence)?)),
            self.named("v_scale", values.map(|numbers| &numbers.scales), sequence)?,
            self.named("v_zero", values.and_then(|numbers| numbers.zeros.as_ref()), sequence)?,
        ];
        Ok(all.into_iter().flatten())
    }

    fn named<'a>(
        &'a self,
        name: &'static str,
        plane: Option<&'a Plane>,
        sequence: SequenceId,
    ) -> Result<Option<(&'static str, PagedView<'a>)>, KvError> {
        plane.map(|plane| Ok((name, self.plane(plane, sequence)?))).transpose()
    }

    fn plane<'a>(&'a self, plane: &'a Plane, sequence: SequenceId) -> Result<PagedView<'a>, KvError> {
        let sequence = &self.sequences[self.sequences.find(sequence)?];
        let view = PagedView::new(plane.view(), &sequence.table, 0, 2, sequence.kept());
        Ok(view.expect("pages of the pool, none of them twice"))
    }
}

fn scales(pool: &Pool, tensor: KvTensor) -> Result<&Plane, KvError> {
    let scales = pool.numbers().map(|numbers| &numbers.scales);
    scales.ok_or(KvError::NoScales { what: "scales", tensor, elem: pool.elem() })
}

fn zeros(pool: &Pool, tensor: KvTensor) -> Result<&Plane, KvError> {
    let zeros = pool.numbers().and_then(|numbers| numbers.zeros.as_ref());
    zeros.ok_or(KvError::NoScales { what: "zero points", tensor, elem: pool.elem() })
}
