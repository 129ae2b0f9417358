//! The plain sum of keys and values: what bounds decode, where each of them has to be read once.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::case::{Case, Tensors};
use crate::{Contender, Failure, Prepared};

/// Independent sums: enough vectors of any width to hide the latency of an addition, few enough for 16 registers of 8 lanes.
const SUMS: usize = 64;

/// Threads that each sum a part of every head when they are told to; they end with the senders.
struct Sum {
    /// What this thread sums.
    own: Share,
    others: Vec<Sender<()>>,
    sums: Receiver<f32>,
    total: f32,
}

/// A part of the keys and values that are seen.
struct Share {
    tensors: Arc<Tensors>,
    parts: Vec<Range<usize>>,
}

impl Share {
    fn sum(&self) -> f32 {
        let Share { tensors, parts } = self;
        parts.iter().flat_map(|part| [&tensors.k[part.clone()], &tensors.v[part.clone()]]).map(sum).sum()
    }
}

/// Starts all threads but this one.
pub(crate) fn prepare(case: &Case, tensors: &Arc<Tensors>, threads: usize) -> Prepared {
    let share = |index| Share { tensors: Arc::clone(tensors), parts: parts(case, index, threads) };
    let (send, sums) = mpsc::channel();
    let others = (1..threads).map(|index| {
        let (tell, told) = mpsc::channel::<()>();
        let (share, send) = (share(index), send.clone());
        thread::spawn(move || {
            // Nobody asks for the sum once its receiver is gone.
            while told.recv().is_ok() && send.send(share.sum()).is_ok() {}
        });
        tell
    });
    let contender = Sum { own: share(0), others: others.collect(), sums, total: 0.0 };
    let detail = format!("{SUMS} independent sums");
    Prepared { contender: Box::new(contender), compile: None, detail }
}

/// Where a thread's part of each head lies; without keys ahead of a window.
fn parts(case: &Case, index: usize, threads: usize) -> Vec<Range<usize>> {
    let count = case.tokens - case.first_key;
    let at = |index: usize| (case.first_key + count * index / threads) * case.head_dim;
    let heads = (0..case.batch * case.kv_heads).map(|head| head * case.tokens * case.head_dim);
    heads.map(|head| head + at(index)..head + at(index + 1)).collect()
}

/// The sum of some numbers, read in order.
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<SUMS>();
    let mut sums = [0.0; SUMS];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

impl Contender for Sum {
    fn run(&mut self) -> Result<(), Failure> {
        for other in &self.others {
            other.send(())?;
        }
        let own = black_box(&self.own).sum();
        let others = self.others.iter().map(|_| self.sums.recv()).sum::<Result<f32, _>>()?;
        self.total = black_box(own + others);
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        Ok(vec![self.total])
    }
}
