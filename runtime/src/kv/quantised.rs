//! Rows in 8 bits: their scales and zero points, and how they are made.

use rhumb_ir::Elem;

use crate::kv::error::KvError;
use crate::layout::Layout;
use crate::memory::Workspace;
use crate::view::TensorView;

/// A number for each token of each head, `[page, 1, head, token]`.
#[derive(Debug)]
pub(super) struct Plane {
    memory: Workspace,
    layout: Layout,
}

impl Plane {
    fn new(shape @ [pages, heads, tokens, _]: [usize; 4]) -> Result<Plane, KvError> {
        let layout = Layout::contiguous(&[pages, 1, heads, tokens]).map_err(|_| KvError::TooLarge { shape })?;
        let bytes = layout.len().checked_mul(size_of::<f32>()).ok_or(KvError::TooLarge { shape })?;
        Ok(Plane { memory: Workspace::in_large_pages(bytes)?, layout })
    }

    /// All of it.
    pub(super) fn view(&self) -> TensorView<'_> {
        let span = self.memory.span(Elem::F32, 0, self.layout.len()).expect("the memory that was made");
        TensorView::of_span(span, 0, self.layout).expect("the layout that the memory was made for")
    }

    fn all(&mut self) -> &mut [f32] {
        let len = self.layout.len();
        self.memory.slice_mut(0, len).expect("the memory that was made")
    }

    fn get(&self, place: usize) -> f32 {
        self.memory.slice(size_of::<f32>() * place, 1).map_or(0.0, |number: &[f32]| number[0])
    }

    /// Copies the numbers of all heads' first tokens of a page to another.
    fn copy(&mut self, from: u32, to: u32, count: usize) {
        let [_, _, heads, tokens] = *self.layout.shape() else { return };
        for head in 0..heads {
            let [start, to] = [from, to].map(|page| (page as usize * heads + head) * tokens);
            self.all().copy_within(start..start + count, to);
        }
    }
}

/// What rows of integers are scaled by: `(stored - zero) scale`.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) scales: Plane,
    /// None where 0 is stored as 0.
    pub(super) zeros: Option<Plane>,
}

impl Numbers {
    /// Zeros for so many pages, heads and tokens of a page.
    pub(super) fn new(shape: [usize; 4], zero_points: bool) -> Result<Numbers, KvError> {
        let zeros = if zero_points { Some(Plane::new(shape)?) } else { None };
        Ok(Numbers { scales: Plane::new(shape)?, zeros })
    }

    /// Quantises a row, whose numbers have this place.
    pub(super) fn quantise(&mut self, place: usize, row: &[f32], stored: &mut [i8]) {
        let zero = match &mut self.zeros {
            None => {
                self.scales.all()[place] = symmetric(row, stored);
                return;
            }
            Some(zeros) => &mut zeros.all()[place],
        };
        (self.scales.all()[place], *zero) = with_zero_point(row, stored);
    }

    /// The squared norm of a row as it is read again, whose numbers have this place.
    pub(super) fn square(&self, place: usize, stored: &[i8]) -> f64 {
        let scale = f64::from(self.scales.get(place));
        let zero = self.zeros.as_ref().map_or(0.0, |zeros| f64::from(zeros.get(place)));
        stored.iter().map(|x| ((f64::from(*x) - zero) * scale).powi(2)).sum()
    }

    /// Copies the numbers of a page's first tokens to another.
    pub(super) fn copy(&mut self, from: u32, to: u32, tokens: usize) {
        self.scales.copy(from, to, tokens);
        if let Some(zeros) = &mut self.zeros {
            zeros.copy(from, to, tokens);
        }
    }
}

/// A scale as single precision has it: 0 for 0 alone.
fn step(scale: f64) -> f32 {
    if scale == 0.0 { 0.0 } else { (scale as f32).max(f32::MIN_POSITIVE) }
}

/// The integer that stands for a number: off by half of the scale at most.
fn stored_as(x: f32, scale: f32, zero: f32, [least, most]: [f64; 2]) -> i8 {
    if scale == 0.0 {
        return 0;
    }
    (f64::from(x) / f64::from(scale) + f64::from(zero)).round_ties_even().clamp(least, most) as i8
}

/// Quantises a row so that 0 is stored as 0; gives the scale.
fn symmetric(row: &[f32], stored: &mut [i8]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = step(f64::from(most) / 127.0);
    for (stored, x) in stored.iter_mut().zip(row) {
        *stored = stored_as(*x, scale, 0.0, [-127.0, 127.0]);
    }
    scale
}

/// Quantises a row so that its least number, or 0, is stored as the least integer; gives the scale and what is stored for 0.
fn with_zero_point(row: &[f32], stored: &mut [i8]) -> (f32, f32) {
    let least = row.iter().fold(0.0f32, |least, x| least.min(*x));
    let most = row.iter().fold(0.0f32, |most, x| most.max(*x));
    let scale = step((f64::from(most) - f64::from(least)) / 255.0);
    let zero = if scale == 0.0 { 0.0 } else { (-128.0 - f64::from(least) / f64::from(scale)) as f32 };
    for (stored, x) in stored.iter_mut().zip(row) {
        *stored = stored_as(*x, scale, zero, [-128.0, 127.0]);
    }
    (scale, zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a row is off where it is read again, in scales.
    fn off(row: &[f32], zero_points: bool) -> f64 {
        let mut stored = vec![0; row.len()];
        let (scale, zero) = match zero_points {
            true => with_zero_point(row, &mut stored),
            false => (symmetric(row, &mut stored), 0.0),
        };
        let scale = f64::from(scale);
        let again = stored.iter().map(|stored| (f64::from(*stored) - f64::from(zero)) * scale);
        let off = again.zip(row).map(|(again, x)| (again - f64::from(*x)).abs()).fold(0.0, f64::max);
        if off == 0.0 { 0.0 } else { off / scale }
    }

    #[test]
    fn rows_are_off_by_half_a_scale_at_most() {
        let wave = |n: usize, factor: f32| (0..n).map(|i| (i as f32 * 0.7).sin() * factor).collect::<Vec<f32>>();
        let mut rows: Vec<Vec<f32>> = [1, 15, 17, 130].map(|n| wave(n, 3.0)).to_vec();
        rows.extend([vec![0.0; 4], vec![1e-44, -3e-42], vec![5.0; 3], vec![-5.0; 3], vec![f32::MAX, f32::MIN, 1.0]]);
        rows.extend([vec![f32::MIN_POSITIVE; 2], vec![1e30, 1e-30], wave(64, 1e-39), vec![100.0, 101.0, 100.5]]);
        for row in &rows {
            for zero_points in [false, true] {
                assert!(off(row, zero_points) <= 0.5 + 1e-9, "{row:?}, {zero_points}: {}", off(row, zero_points));
            }
        }
    }
}
