//! Whether two strided regions of memory have a byte in common.

use smallvec::SmallVec;

use crate::layout::Layout;
use crate::limits::MAX_RANK;

/// Where a view's elements lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'v> {
    /// Address of the first element.
    pub(crate) address: usize,
    /// Size of an element in bytes.
    pub(crate) width: usize,
    /// Shape and strides.
    pub(crate) layout: &'v Layout,
}

/// Search steps before the answer is given up. Layouts that nest need a handful.
const MAX_STEPS: usize = 10_000;

/// Whether some byte may belong to both. Exact for all but contrived strides, where the search is given up and the answer is yes.
///
/// Two elements share a byte if `a + sum(i * s) + p = b + sum(j * t) + r` for indices `i`, `j` in the shapes and bytes `p`, `r` in the
/// elements. With each `i` of positive stride counted from its far end, that is a sum of bounded non-negative variables with
/// positive coefficients and a fixed total: a bounded knapsack, solved by depth-first search from the largest coefficient.
pub(crate) fn overlap(a: Region<'_>, b: Region<'_>) -> bool {
    let (Some(span_a), Some(span_b)) = (bytes(a), bytes(b)) else { return false };
    if span_a.1 < span_b.0 || span_b.1 < span_a.0 {
        return false;
    }
    // Both counted upwards from their lowest address, and then `a` down from its highest: high(a) - low(b) = sum of terms.
    let mut terms: SmallVec<[Term; 2 * MAX_RANK + 2]> = SmallVec::new();
    for region in [a, b] {
        terms.push(Term { step: 1, count: region.width as i128 - 1 });
        terms.extend(region.layout.dims().filter(|(size, stride)| *size > 1 && *stride != 0).map(|(size, stride)| {
            Term { step: stride.unsigned_abs() as i128 * region.width as i128, count: size as i128 - 1 }
        }));
    }
    terms.sort_unstable_by_key(|term| std::cmp::Reverse(term.step));
    terms.dedup_by(|next, kept| {
        let same = next.step == kept.step;
        if same {
            kept.count += next.count;
        }
        same
    });
    let mut steps = MAX_STEPS;
    reachable(&terms, span_a.1 - span_b.0, &mut steps)
}

/// A variable from 0 to `count`, times `step`.
#[derive(Clone, Copy)]
struct Term {
    step: i128,
    count: i128,
}

/// Whether the terms can sum to `total`, or the steps ran out.
fn reachable(terms: &[Term], total: i128, steps: &mut usize) -> bool {
    let Some((first, rest)) = terms.split_first() else { return total == 0 };
    *steps = steps.saturating_sub(1);
    if *steps == 0 {
        return true;
    }
    let rest_most: i128 = rest.iter().map(|term| term.step * term.count).sum();
    let most = (total.div_euclid(first.step)).min(first.count);
    let least = (total - rest_most + first.step - 1).div_euclid(first.step).max(0);
    (least..=most).any(|x| reachable(rest, total - x * first.step, steps))
}

/// The lowest and highest address of a byte; `None` for an empty region.
pub(crate) fn bytes(region: Region<'_>) -> Option<(i128, i128)> {
    let (low, high) = region.layout.reach()?;
    let at = |offset: isize| region.address as i128 + offset as i128 * region.width as i128;
    Some((at(low), at(high) + region.width as i128 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[usize], strides: &[isize]) -> Layout {
        Layout::new(shape, strides).expect("a layout")
    }

    fn brute(a: Region<'_>, b: Region<'_>) -> bool {
        let bytes = |region: Region<'_>| {
            let mut found = std::collections::BTreeSet::new();
            let dims: Vec<_> = region.layout.dims().collect();
            for mut index in 0..region.layout.len() {
                let mut address = region.address as isize;
                for (size, stride) in dims.iter().rev() {
                    address += (index % size) as isize * stride * region.width as isize;
                    index /= size;
                }
                found.extend((0..region.width as isize).map(|byte| address + byte));
            }
            found
        };
        !bytes(a).is_disjoint(&bytes(b))
    }

    #[test]
    fn agrees_with_listing_every_byte() {
        // A linear congruential generator: the cases are the same on every machine.
        let mut state = 1u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let mut both = [0; 2];
        for _ in 0..20_000 {
            let mut random = || {
                let rank = next(4) as usize;
                let shape: Vec<usize> = (0..rank).map(|_| next(5) as usize).collect();
                let strides: Vec<isize> = (0..rank).map(|_| next(25) as isize - 12).collect();
                (layout(&shape, &strides), 1000 + next(120) as usize, [1, 4][next(2) as usize])
            };
            let ((la, aa, wa), (lb, ab, wb)) = (random(), random());
            let a = Region { address: aa, width: wa, layout: &la };
            let b = Region { address: ab, width: wb, layout: &lb };
            let expected = brute(a, b);
            assert_eq!(overlap(a, b), expected, "{a:?} {b:?}");
            both[usize::from(expected)] += 1;
        }
        assert!(both.iter().all(|count| *count > 1500), "{both:?}");
    }

    /// `[batch, token, slot, head, dim]` buffers: slots interleave without touching.
    #[test]
    fn slots_of_a_packed_buffer_are_apart() {
        let slot = layout(&[2, 512, 8, 64], &[512 * 3 * 512, 3 * 512, 64, 1]);
        let at = |address: usize| Region { address, width: 4, layout: &slot };
        assert!(!overlap(at(0x1000), at(0x1000 + 512 * 4)));
        assert!(!overlap(at(0x1000 + 2 * 512 * 4), at(0x1000)));
        assert!(overlap(at(0x1000), at(0x1000 + 511 * 4)), "one element");
        assert!(overlap(at(0x1000), at(0x1000 + 3 * 512 * 4)), "the next token");
    }

    /// They do not meet, but all sums of strides would have to be looked at to tell: the answer is the safe one, and soon.
    #[test]
    fn contrived_strides_are_given_up_as_overlapping() {
        let strides: Vec<isize> = [1_000_003, 1_000_033, 1_000_037, 1_000_039, 1_000_081, 1_000_099].to_vec();
        let odd = layout(&[50; 6], &strides);
        let a = Region { address: 1 << 40, width: 4, layout: &odd };
        let b = Region { address: (1 << 40) + 2_000_002, width: 4, layout: &odd };
        assert!(overlap(a, b));
        // With room for the last byte of either between the two, there is nothing to look for.
        let far = Region { address: (1 << 40) + (1 << 36), ..b };
        assert!(!overlap(a, far));
    }
}
