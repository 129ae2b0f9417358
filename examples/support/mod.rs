//! What the examples share: seeded tensors, one way to run a call, and printing.

#![allow(dead_code, reason = "each example uses a part")]

use std::error::Error;

use rhumb::prelude::*;
use rhumb::runtime::{Call, Reference};
use rhumb_random::Rng;

/// Unit-normal numbers, the same for the same seed.
pub(crate) fn normal(count: usize, seed: u64) -> Vec<f32> {
    Rng::new(seed).normals(count)
}

/// What runs calls: a kernel, or the reference that it is held against.
pub(crate) trait Run {
    fn call<'a>(&self) -> Call<'_, 'a>;
}

impl Run for Kernel {
    fn call<'a>(&self) -> Call<'_, 'a> {
        Kernel::call(self)
    }
}

impl Run for Reference {
    fn call<'a>(&self) -> Call<'_, 'a> {
        Reference::call(self)
    }
}

/// Seeded queries, keys and values of one sequence.
pub(crate) struct Tensors {
    /// `[1, heads, queries, dim]`
    pub(crate) q_shape: [usize; 4],
    /// `[1, kv_heads, keys, dim]`
    pub(crate) k_shape: [usize; 4],
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

impl Tensors {
    /// As many queries as keys.
    pub(crate) fn random(heads: u32, kv_heads: u32, tokens: usize, dim: u32) -> Tensors {
        let (q_shape, k_shape) =
            ([1, heads as usize, tokens, dim as usize], [1, kv_heads as usize, tokens, dim as usize]);
        let count = |shape: [usize; 4]| shape.iter().product();
        Tensors {
            q_shape,
            k_shape,
            q: normal(count(q_shape), 1),
            k: normal(count(k_shape), 2),
            v: normal(count(k_shape), 3),
        }
    }

    /// Gives `out`, row-major `[1, heads, queries, dim]`.
    pub(crate) fn run(&self, on: &impl Run) -> Result<Vec<f32>, Box<dyn Error>> {
        let mut out = vec![0.0; self.q.len()];
        self.run_into(on, &mut out)?;
        Ok(out)
    }

    /// As [`run`](Tensors::run), into `out`.
    pub(crate) fn run_into(&self, on: &impl Run, out: &mut [f32]) -> Result<(), Box<dyn Error>> {
        on.call()
            .input("q", TensorView::from_slice(&self.q, &self.q_shape)?)
            .input("k", TensorView::from_slice(&self.k, &self.k_shape)?)
            .input("v", TensorView::from_slice(&self.v, &self.k_shape)?)
            .output("out", TensorViewMut::from_slice(out, &self.q_shape)?)
            .run()?;
        Ok(())
    }
}

/// The largest difference of two tensors; an error if it is above `most`.
pub(crate) fn max_error(found: &[f32], expected: &[f32], most: f32) -> Result<f32, Box<dyn Error>> {
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // A NaN compares with nothing, so it is looked for by itself.
    if found.len() == expected.len() && error <= most && found.iter().all(|x| x.is_finite()) {
        Ok(error)
    } else {
        Err(format!("the kernel is {error:e} away from the reference; at most {most:e} was expected").into())
    }
}

/// Prints a graph: without its axes and inputs where `ops_only`, tables and lines cut short.
pub(crate) fn print_graph(text: &str, ops_only: bool) {
    const WIDTH: usize = 108;
    let mut lines = text.lines().filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        let declares =
            ["graph ", "axis ", "site "].iter().any(|word| line.starts_with(word)) || line.contains(" = input ");
        if ops_only && declares {
            continue;
        }
        let mut line = line.to_owned();
        // A long table has its numbers on lines of their own.
        if line.ends_with("table [") {
            let mut numbers: Vec<&str> = Vec::new();
            for row in lines.by_ref() {
                if let Some(end) = row.strip_prefix(']') {
                    line = format!(
                        "{line}{}, ... {} numbers]{end}",
                        numbers[..numbers.len().min(3)].join(", "),
                        numbers.len()
                    );
                    break;
                }
                numbers.extend(row.split(',').map(str::trim).filter(|number| !number.is_empty()));
            }
        }
        match line.char_indices().nth(WIDTH) {
            Some((end, _)) => println!("    {}...", &line[..end]),
            None => println!("    {line}"),
        }
    }
}

/// The ops of a graph's text that run over every head, query and key.
pub(crate) fn over_pairs(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.ends_with("h, q, k]")).collect()
}
