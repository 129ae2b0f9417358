//! The plain sum of keys and values: what bounds decode, where each of them has to be read once.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::case::{Case, Elem, Tensors};
use crate::{Contender, Failure, Prepared};

/// Independent sums: enough vectors of any width to hide the latency of an addition, few enough for 16 registers of 8 lanes.
const SUMS: usize = 64;

/// Threads that each sum a part of every head when they are told to; they end with the senders.
struct Sum {
    /// What this thread sums.
    own: Share,
    others: Vec<Sender<()>>,
    sums: Receiver<Total>,
    total: f32,
}

/// A part of the keys and values that are seen.
struct Share {
    tensors: Arc<Tensors>,
    parts: Vec<Range<usize>>,
}

/// A sum of numbers of single precision, or of words of 32 bits as whole numbers that wrap.
#[derive(Clone, Copy)]
enum Total {
    Singles(f32),
    Words(u32),
}

impl Share {
    /// Of fewer than 32 bits the words that they fill are summed: widening them would bound the sum, not reading.
    fn sum(&self) -> Total {
        let Share { tensors, parts } = self;
        match tensors.words() {
            None => Total::Singles(over(parts, [&tensors.k, &tensors.v], sum::<f32>).sum()),
            Some(words) => Total::Words(over(parts, words, sum::<u32>).fold(0, u32::wrapping_add)),
        }
    }
}

/// What some function makes of each part of both.
fn over<'a, T, S: 'a>(
    parts: &'a [Range<usize>],
    both: [&'a [T]; 2],
    of: impl Fn(&[T]) -> S + 'a,
) -> impl Iterator<Item = S> + 'a {
    parts.iter().flat_map(move |part| both.map(|of_both| &of_both[part.clone()])).map(of)
}

impl Total {
    fn add(self, other: Total) -> Total {
        match (self, other) {
            (Total::Words(a), Total::Words(b)) => Total::Words(a.wrapping_add(b)),
            (a, b) => Total::Singles(a.to_f32() + b.to_f32()),
        }
    }

    fn to_f32(self) -> f32 {
        match self {
            Total::Singles(sum) => sum,
            Total::Words(sum) => sum as f32,
        }
    }
}

/// Starts all threads but this one.
pub(crate) fn prepare(case: &Case, tensors: &Arc<Tensors>, threads: usize) -> Result<Prepared, Failure> {
    // A row fills whole words.
    let of_row = case.head_dim * case.cache.bytes() / size_of::<u32>();
    if of_row * size_of::<u32>() != case.head_dim * case.cache.bytes() {
        return Err(Failure(format!("rows of {} elements do not fill words of 32 bits", case.head_dim)));
    }
    let share = |index| Share { tensors: Arc::clone(tensors), parts: parts(case, of_row, index, threads) };
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
    let of = if case.cache == Elem::F32 { "numbers" } else { "words of 32 bits" };
    Ok(Prepared { contender: Box::new(contender), compile: None, detail: format!("{SUMS} independent sums of {of}") })
}

/// Where a thread's part of each head lies, in numbers or words, so many to a row; without keys ahead of a window.
fn parts(case: &Case, of_row: usize, index: usize, threads: usize) -> Vec<Range<usize>> {
    let count = case.tokens - case.first_key;
    let at = |index: usize| (case.first_key + count * index / threads) * of_row;
    let heads = (0..case.batch * case.kv_heads).map(|head| head * case.tokens * of_row);
    heads.map(|head| head + at(index)..head + at(index + 1)).collect()
}

/// What a vector adds up.
trait Summed: Copy + Default {
    fn plus(self, other: Self) -> Self;
}

impl Summed for f32 {
    fn plus(self, other: f32) -> f32 {
        self + other
    }
}

impl Summed for u32 {
    fn plus(self, other: u32) -> u32 {
        self.wrapping_add(other)
    }
}

/// The sum of some numbers, read in order.
fn sum<T: Summed>(values: &[T]) -> T {
    let (chunks, rest) = values.as_chunks::<SUMS>();
    let mut sums = [T::default(); SUMS];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum = sum.plus(*value);
        }
    }
    sums.into_iter().chain(rest.iter().copied()).fold(T::default(), T::plus)
}

impl Contender for Sum {
    fn run(&mut self) -> Result<(), Failure> {
        for other in &self.others {
            other.send(())?;
        }
        let mut total = black_box(&self.own).sum();
        for _ in &self.others {
            total = total.add(self.sums.recv()?);
        }
        self.total = black_box(total).to_f32();
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        Ok(vec![self.total])
    }
}
