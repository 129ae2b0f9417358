//! What is computed: the shape and scheme of a case, and its tensors.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use memmap2::MmapMut;
use serde::Deserialize;

use crate::Failure;

/// The position scheme of a case.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    None,
    Alibi,
    Rope,
}

/// The element type of queries, keys, values and outputs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Elem {
    F32,
    Bf16,
}

/// A case as the driver describes it: the queries are the last of its tokens.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Keys.
    pub(crate) tokens: usize,
    pub(crate) queries: usize,
    pub(crate) head_dim: usize,
    pub(crate) elem: Elem,
    pub(crate) causal: bool,
    pub(crate) scheme: Scheme,
    pub(crate) softcap: Option<f64>,
    /// Keys that a query sees, its own the last of them.
    pub(crate) window: Option<i32>,
    /// The first key that a query sees: by the window.
    pub(crate) first_key: usize,
    pub(crate) rope_base: f64,
    /// Whether keys come rotated, and queries alone are left to rotate.
    pub(crate) keys_turned: bool,
}

impl Case {
    /// The same shape and mask without a scheme or softcap, in decode without a mask as well: what the cost of those is held against.
    pub(crate) fn plain(&self) -> Case {
        let causal = self.causal && !self.decodes();
        Case { scheme: Scheme::None, softcap: None, window: None, first_key: 0, causal, ..self.clone() }
    }

    /// The same in single precision.
    pub(crate) fn in_f32(&self) -> Case {
        Case { elem: Elem::F32, ..self.clone() }
    }

    /// Whether queries are fewer than keys.
    pub(crate) fn decodes(&self) -> bool {
        self.queries < self.tokens
    }

    /// `[batch, head, token, element]` of queries and outputs.
    pub(crate) fn q_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.head_dim]
    }

    /// `[batch, head, token, element]` of keys and values.
    pub(crate) fn kv_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.tokens, self.head_dim]
    }
}

/// Numbers in large pages, where the system has them: numpy, whose memory the peers read, asks for such too.
#[derive(Debug)]
pub(crate) struct Numbers {
    memory: MmapMut,
    count: usize,
}

impl Numbers {
    /// Numbers stored one behind the other, the least byte of each first.
    fn of(stored: &[u8]) -> io::Result<Numbers> {
        // There is no mapping of no bytes.
        let mut memory = MmapMut::map_anon(stored.len().max(1).next_multiple_of(size_of::<f32>()))?;
        #[cfg(target_os = "linux")]
        {
            // A system without large pages gives small ones.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let numbers: &mut [f32] = bytemuck::cast_slice_mut(&mut memory);
        for (number, word) in numbers.iter_mut().zip(stored.as_chunks::<4>().0) {
            *number = f32::from_le_bytes(*word);
        }
        Ok(Numbers { memory, count: stored.len() / size_of::<f32>() })
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.memory)[..self.count]
    }
}

/// The tensors of a case, contiguous, `[batch, head, token, element]`.
#[derive(Debug)]
pub(crate) struct Tensors {
    pub(crate) q: Numbers,
    pub(crate) k: Numbers,
    pub(crate) v: Numbers,
    /// `[token, element / 2]`, for peers that take tables; empty without RoPE.
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "rhumb has tables of its own"))]
    pub(crate) cos: Numbers,
    #[cfg_attr(not(feature = "candle"), expect(dead_code, reason = "rhumb has tables of its own"))]
    pub(crate) sin: Numbers,
}

impl Tensors {
    /// Reads `q.f32`, `k.f32`, `v.f32` and, with RoPE, `cos.f32` and `sin.f32`.
    pub(crate) fn read(folder: &Path, case: &Case) -> Result<Arc<Tensors>, Failure> {
        let read = |name: &str, count: usize| {
            let path = folder.join(name);
            let bytes = fs::read(&path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
            let (found, wanted) = (bytes.len(), size_of::<f32>() * count);
            if found != wanted {
                return Err(Failure(format!("{} has {found} bytes; the case needs {wanted}", path.display())));
            }
            Numbers::of(&bytes).map_err(|error| Failure(format!("{name}: {error}")))
        };
        let (queries, keys): (usize, usize) = (case.q_shape().iter().product(), case.kv_shape().iter().product());
        let angles = if case.scheme == Scheme::Rope { case.tokens * case.head_dim / 2 } else { 0 };
        let none = || Numbers::of(&[]).map_err(|error| Failure(error.to_string()));
        let table = |name| if angles == 0 { none() } else { read(name, angles) };
        Ok(Arc::new(Tensors {
            q: read("q.f32", queries)?,
            k: read("k.f32", keys)?,
            v: read("v.f32", keys)?,
            cos: table("cos.f32")?,
            sin: table("sin.f32")?,
        }))
    }
}

/// Writes an output for the driver's comparison.
pub(crate) fn write(path: &Path, values: &[f32]) -> Result<(), Failure> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(path, bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))
}
