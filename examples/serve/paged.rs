//! Attention by rhumb: over a cache in pages, and for comparison over whole sequences without one.

use std::error::Error;
use std::sync::Arc;

use ndarray::Array2;
use rhumb::prelude::*;
use rhumb::runtime::Append;

use crate::position::{HEAD_DIM, Position};
use crate::step::{Attend, Piece, Pieces};
use crate::transformer::HEADS;

/// Tokens of a page. Pages of 64 are read where they lie, whatever the kernel.
pub(crate) const PAGE: usize = 64;

/// Sequences whose keys and values lie in pages.
pub(crate) struct Paged {
    /// The cache of each layer.
    layers: Vec<KvCache>,
    /// Their handles, by the number of the sequence. All caches are asked for the same, so that one handle serves those of all layers.
    sequences: Vec<SequenceId>,
    attention: Arc<Kernel>,
    /// What keys go through before they are cached.
    rotate: Option<Arc<Kernel>>,
}

/// Pages of one layer.
pub(crate) struct Usage {
    pub(crate) used: usize,
    /// If no sequence shared pages with another.
    pub(crate) unshared: usize,
}

impl Paged {
    /// Caches of so many pages for each layer. The engine compiles the kernels once, and keeps them.
    pub(crate) fn new(
        engine: &Engine,
        position: Position,
        layers: usize,
        pages: usize,
    ) -> Result<Paged, Box<dyn Error>> {
        let cache = |_| KvCache::builder(HEADS, HEAD_DIM).page_size(PAGE).pages(pages).build();
        let rotate = position.of_keys().map(|keys| Ok::<_, Box<dyn Error>>(engine.compile(&keys.key_graph()?)?));
        Ok(Paged {
            layers: (0..layers).map(cache).collect::<Result<_, _>>()?,
            sequences: Vec::new(),
            attention: engine.compile(&position.over_cache().build()?)?,
            rotate: rotate.transpose()?,
        })
    }

    /// The number of a new sequence.
    pub(crate) fn start(&mut self) -> Result<usize, Box<dyn Error>> {
        self.add(KvCache::new_sequence)
    }

    /// The number of a new sequence that has the tokens of another, and shares its pages.
    pub(crate) fn fork(&mut self, sequence: usize) -> Result<usize, Box<dyn Error>> {
        let of = self.sequences[sequence];
        self.add(|cache| cache.fork(of))
    }

    fn add(&mut self, make: impl Fn(&mut KvCache) -> Result<SequenceId, KvError>) -> Result<usize, Box<dyn Error>> {
        let handles: Vec<SequenceId> = self.layers.iter_mut().map(make).collect::<Result<_, _>>()?;
        self.sequences.push(*handles.first().ok_or("a model without layers")?);
        Ok(self.sequences.len() - 1)
    }

    pub(crate) fn usage(&self) -> Result<Usage, Box<dyn Error>> {
        let cache = self.layers.first().ok_or("a model without layers")?;
        let tables = self.sequences.iter().map(|sequence| Ok(cache.page_table(*sequence)?.len()));
        Ok(Usage { used: cache.pages_used(), unshared: tables.sum::<Result<usize, KvError>>()? })
    }

    /// Whether there are pages for a step. An engine asks before it begins one, and lets a sequence wait if there are none: no layer then has
    /// tokens that another lacks.
    fn check_room(&self, pieces: &Pieces) -> Result<(), Box<dyn Error>> {
        // Each layer has the same tables.
        let cache = &self.layers[0];
        let needed = pieces.iter().map(|piece| cache.pages_needed(self.sequences[piece.sequence], piece.len));
        let (needed, free) = (needed.sum::<Result<usize, KvError>>()?, cache.pages_free());
        if needed <= free { Ok(()) } else { Err(format!("the step takes {needed} pages, and {free} are free").into()) }
    }
}

impl Attend for Paged {
    fn attend(
        &mut self,
        layer: usize,
        pieces: &Pieces,
        [q, k, v]: &[Array2<f32>; 3],
        mixed: &mut Array2<f32>,
    ) -> Result<(), Box<dyn Error>> {
        if layer == 0 {
            self.check_room(pieces)?;
        }
        let Paged { layers, sequences, attention, rotate } = self;
        let cache = &mut layers[layer];
        let (keys, values) = (rows(k)?, rows(v)?);
        match rotate {
            Some(rotate) => {
                for piece in pieces.iter() {
                    let sequence = sequences[piece.sequence];
                    cache.append_transformed(
                        sequence,
                        &**rotate,
                        &[],
                        new_rows(keys, piece)?,
                        new_rows(values, piece)?,
                    )?;
                }
            }
            None => {
                let append = |piece: Piece| {
                    let (keys, values) = (new_rows(keys, piece)?, new_rows(values, piece)?);
                    Ok(Append { sequence: sequences[piece.sequence], keys, values })
                };
                cache.append_batch(&pieces.iter().map(append).collect::<Result<Vec<_>, ViewError>>()?)?;
            }
        }
        // A call for each sequence: its new rows, and all that the cache has of it.
        let mut batch = attention.batch();
        for (piece, out) in pieces.iter().zip(outputs(mixed, pieces)?) {
            let sequence = sequences[piece.sequence];
            let call = batch.add().input("q", of_batch(rows(q)?, piece)?);
            call.input("k", cache.keys(sequence)?).input("v", cache.values(sequence)?).output("out", out);
        }
        Ok(batch.run()?)
    }
}

/// Attention over whole sequences, of which nothing is kept: each piece is all there is of its sequence.
pub(crate) struct Uncached(pub(crate) Arc<Kernel>);

impl Attend for Uncached {
    fn attend(
        &mut self,
        _: usize,
        pieces: &Pieces,
        qkv: &[Array2<f32>; 3],
        mixed: &mut Array2<f32>,
    ) -> Result<(), Box<dyn Error>> {
        for (piece, out) in pieces.iter().zip(outputs(mixed, pieces)?) {
            let mut call = self.0.call().output("out", out);
            for (name, tensor) in ["q", "k", "v"].into_iter().zip(qkv) {
                call = call.input(name, of_batch(rows(tensor)?, piece)?);
            }
            call.run()?;
        }
        Ok(())
    }
}

const SHAPE: [usize; 2] = [HEADS, HEAD_DIM];
/// `[batch, token, head, element]` seen as `[batch, head, token, element]`.
const BY_HEAD: [usize; 4] = [0, 2, 1, 3];
const NOT_ROW_MAJOR: &str = "a matrix is not row-major";

/// A matrix as `[token, head, element]`.
fn rows(matrix: &Array2<f32>) -> Result<TensorView<'_>, Box<dyn Error>> {
    let [heads, dim] = SHAPE;
    Ok(TensorView::from_slice(matrix.as_slice().ok_or(NOT_ROW_MAJOR)?, &[matrix.nrows(), heads, dim])?)
}

/// The rows of a piece as a cache takes them, `[head, token, element]`.
fn new_rows<'a>(rows: TensorView<'a>, piece: Piece) -> Result<TensorView<'a>, ViewError> {
    rows.narrow(0, piece.first, piece.len)?.permute(&[1, 0, 2])
}

/// The rows of a piece as a batch of one, `[1, head, token, element]`.
fn of_batch<'a>(rows: TensorView<'a>, piece: Piece) -> Result<TensorView<'a>, ViewError> {
    rows.narrow(0, piece.first, piece.len)?.insert_dim(0)?.permute(&BY_HEAD)
}

/// The rows of each piece to write, as batches of one.
fn outputs<'a>(matrix: &'a mut Array2<f32>, pieces: &Pieces) -> Result<Vec<TensorViewMut<'a>>, Box<dyn Error>> {
    let ([heads, dim], tokens) = (SHAPE, matrix.nrows());
    let rows = TensorViewMut::from_slice(matrix.as_slice_mut().ok_or(NOT_ROW_MAJOR)?, &[tokens, heads, dim])?;
    let parts = rows.split(0, pieces.offsets())?.into_iter();
    Ok(parts.map(|part| part.insert_dim(0)?.permute(&BY_HEAD)).collect::<Result<_, ViewError>>()?)
}
