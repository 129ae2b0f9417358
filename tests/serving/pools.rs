//! Any input in pages: pools in any layout, tables in any order, garbage in all that no sequence has.

use std::collections::BTreeMap;

use rhumb::compiler::Kernels;
use rhumb::prelude::*;
use rhumb::runtime::Interface;

use crate::common::inputs::{dims, wild_inputs};
use crate::common::seeds::each_seed;
use crate::common::{Family, Layout, Lengths, Rng, Spec, Tensor, Tensors, inputs, seeds, targets};
use crate::{Asked, Served, zeros};

/// A tensor in pages.
pub(crate) struct Paged {
    pool: Tensor,
    table: Vec<u32>,
    page_dim: usize,
    token_dim: usize,
    len: usize,
    /// For each page and index of a dimension a bound on the norms there.
    norms: Option<(Vec<f32>, usize)>,
}

impl Paged {
    /// The same elements, with a dimension in pages.
    fn new(rng: &mut Rng, tensor: &Tensor, token_dim: usize) -> Paged {
        let (shape, len) = (tensor.shape(), tensor.shape()[token_dim]);
        let size = rng.pick(&[16, 16, 32, 48, 64, 80, 128, 256]);
        let used = len.div_ceil(size);
        let count = used + rng.below(3);
        let table: Vec<u32> = rng.shuffled((0..count as u32).collect()).into_iter().take(used).collect();
        let page_dim = rng.below(shape.len() + 1);
        let mut pool_shape = shape.to_vec();
        pool_shape[token_dim] = size;
        pool_shape.insert(page_dim, count);
        let mut pool = zeros(tensor.elem(), &pool_shape);
        let (numbers, garbage) = (tensor.numbers(), rng.pick(&[f64::NAN, f64::INFINITY, 1e30, 0.0, -7.0]));
        let position: BTreeMap<usize, usize> =
            table.iter().enumerate().map(|(at, page)| (*page as usize, at)).collect();
        pool.replace(|at| {
            let mut index = unravel(at, &pool_shape);
            let page = index.remove(page_dim);
            let token =
                position.get(&page).map(|position| position * size + index[token_dim]).filter(|token| *token < len);
            let Some(token) = token else { return Some(garbage) };
            index[token_dim] = token;
            let place = index.iter().zip(shape).fold(0, |place, (index, size)| place * size + index);
            Some(numbers[place])
        });
        let pool = pool.stored(&Layout::random(rng, pool_shape.len(), true));
        Paged { pool, table, page_dim, token_dim, len, norms: None }
    }

    /// With bounds on the norms of rows along the last dimension, for each index of another.
    fn with_norms(mut self, rng: &mut Rng) -> Paged {
        let view = self.bare();
        let rank = view.rank();
        let dim = rng.below(rank);
        let (size, count) = (view.shape()[dim], self.pool.shape()[self.page_dim]);
        let mut norms = vec![f32::INFINITY; size * count];
        if dim < rank - 1 && dim != view.token_dim() {
            for (page, number) in view.pages().zip(&self.table) {
                for index in 0..size {
                    let rows = page.narrow(dim, index, 1).expect("an index");
                    norms[*number as usize * size + index] = greatest_norm(&rows);
                }
            }
        } else if dim == view.token_dim() {
            // Of a token each. Those of the first tokens are no bounds of the others.
            for (page, number) in view.pages().zip(&self.table) {
                for index in 0..size.min(page.shape()[dim]) {
                    let rows = page.narrow(dim, index, 1).expect("an index");
                    norms[*number as usize * size + index] = greatest_norm(&rows);
                }
            }
        }
        self.norms = Some((norms, dim));
        self
    }

    fn bare(&self) -> PagedView<'_> {
        PagedView::new(self.pool.view(), &self.table, self.page_dim, self.token_dim, self.len).expect("a view in pages")
    }

    pub(crate) fn view(&self) -> PagedView<'_> {
        match &self.norms {
            Some((norms, dim)) => self.bare().with_norms(norms, *dim).expect("norms"),
            None => self.bare(),
        }
    }
}

/// A number that the norm of no row along the last dimension is above.
fn greatest_norm(rows: &TensorView<'_>) -> f32 {
    let shape = rows.shape().to_vec();
    let (width, count) = (*shape.last().expect("a dimension"), shape.iter().product::<usize>());
    let mut greatest = 0.0f64;
    for first in (0..count).step_by(width.max(1)) {
        let square = |at: usize| rows.get(&unravel(at, &shape)).map_or(0.0, |x| x * x);
        let norm = (first..first + width).map(square).sum::<f64>().sqrt();
        greatest = if norm.is_nan() || greatest.is_nan() { f64::NAN } else { greatest.max(norm) };
    }
    let norm = (greatest as f32).next_up();
    if norm.is_nan() { f32::INFINITY } else { norm }
}

/// The index of an element by its place in row-major order.
fn unravel(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, size) in index.iter_mut().zip(shape).rev() {
        *index = at % size;
        at /= size;
    }
    index
}

/// Inputs that have the axis of keys, some of them in pages.
fn in_pages(rng: &mut Rng, interface: &Interface, tensors: &Tensors) -> BTreeMap<String, Paged> {
    let mut paged = BTreeMap::new();
    for port in interface.inputs() {
        let along = dims(interface, port).iter().position(|axis| *axis == "k");
        let rows = ["k", "v"].contains(&port.name.as_str());
        let along_last = dims(interface, port).last().is_some_and(|axis| ["d", "e"].contains(axis));
        if let Some(dim) = along.filter(|_| rows && !rng.one_in(6) || rng.one_in(3))
            && port.dims.len() < 8
        {
            let made = Paged::new(rng, &tensors[&port.name], dim);
            let made = if rng.one_in(2) && rows && along_last { made.with_norms(rng) } else { made };
            paged.insert(port.name.clone(), made);
        }
    }
    paged
}

/// Holds calls with some inputs in pages to the same in one piece.
pub(crate) fn check_in_pages(rng: &mut Rng, served: &Served, asked: &[Asked], wrong: &mut Vec<String>) {
    let interface = served.alone.interface();
    let paged: Vec<_> = asked.iter().map(|asked| in_pages(rng, interface, &asked.tensors)).collect();
    let bound: Vec<BTreeMap<String, InputView<'_>>> = paged
        .iter()
        .map(|paged| paged.iter().map(|(name, paged)| (name.clone(), paged.view().into())).collect())
        .collect();
    served.check(rng, asked, &bound, wrong);
}

/// Few queries on many keys, many on few, none.
fn lengths(rng: &mut Rng, spec: &Spec) -> Lengths {
    if !rng.one_in(3) {
        return Lengths::random(rng, spec);
    }
    let room = (2_000_000 / (spec.heads * spec.elements)).min(6000);
    let keys = if rng.one_in(3) { 1023 + rng.below(3) } else { rng.below(room + 1) };
    let most = if rng.one_in(4) { 40 } else { 3 };
    Lengths { batch: 1, queries: 1 + rng.below(most), keys: keys.min(room) }
}

fn case(seed: u64, targets: &[Target], wrong: &mut Vec<String>) {
    let rng = &mut Rng::new(seed);
    let family = rng.pick(&[Family::Plain, Family::Wild, Family::Own, Family::Odd, Family::Weighed]);
    let spec = Spec::random(rng, family);
    let served = Served::new(rng, targets, &spec);
    let interface = served.alone.interface();
    let asked = |rng: &mut Rng| {
        let lengths = lengths(rng, &spec);
        let tensors = match family {
            Family::Plain => inputs(rng, interface, lengths),
            _ => wild_inputs(rng, interface, lengths, family == Family::Odd),
        };
        Asked { lengths, tensors }
    };
    let asked: Vec<Asked> = (0..1 + rng.below(4)).map(|_| asked(rng)).collect();
    check_in_pages(rng, &served, &asked, wrong);
}

#[test]
fn pages_and_batches_change_no_bit() {
    let targets = targets();
    let found = each_seed(seeds(8_300_000, 40), |seed, wrong| case(seed, &targets, wrong));
    found.check(("serving", "pages_and_batches_change_no_bit"));
}

/// Steps along dimensions of one index count for nothing, as in tensors in one piece.
#[test]
fn strides_that_do_not_count_may_be_any_number() {
    let data: Vec<f32> = (0..64 * 4).map(|x| (x as f32).sin()).collect();
    let far = isize::MAX;
    let pool = TensorView::with_strides(&data, &[1, 1, 1, 64, 4], &[far, -far, far, 4, 1]).expect("a view");
    let kernels = [Kernels::Prefill, Kernels::Decode];
    let graph = Attention::heads(1).head_dim(4).build().expect("a graph");
    for kernels in kernels {
        let engine = Engine::builder().threads(1).kernels(kernels).build().expect("an engine");
        let kernel = engine.compile(&graph).expect("compiles");
        let mut made = [0, 1].map(|_| [0.0f32; 4]);
        let whole = TensorView::from_slice(&data[..9 * 4], &[1, 1, 9, 4]).expect("a view");
        let paged = PagedView::new(pool, &[0], 0, 2, 9).expect("a view in pages");
        let inputs: [InputView<'_>; 2] = [whole.into(), paged.into()];
        for (rows, made) in inputs.into_iter().zip(&mut made) {
            let query = TensorView::from_slice(&data[..4], &[1, 1, 1, 4]).expect("a view");
            let out = TensorViewMut::from_slice(made, &[1, 1, 1, 4]).expect("a view");
            kernel.call().input("q", query).input("k", rows).input("v", rows).output("out", out).run().expect("runs");
        }
        assert_eq!(made[0], made[1], "{}", kernels.name());
    }
}
