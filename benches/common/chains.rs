//! The machine's peak: independent chains of multiply-adds of 128-bit vectors, with nothing to load or store.

/// Chains, enough to hide the latency of a multiply-add on every core of these years, few enough for 16 registers.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in a run.
const ROUNDS: usize = 100_000;
/// Multiplications and additions in a run.
pub(crate) const OPERATIONS: u64 = (2 * 4 * CHAINS * ROUNDS) as u64;

/// One run; `None` where the machine has no such instruction.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the instruction is there: it was looked for")]
pub(crate) fn run() -> Option<f32> {
    use std::arch::x86_64::{_mm_cvtss_f32, _mm_fmadd_ps, _mm_set1_ps};
    use std::hint::black_box;

    #[target_feature(enable = "fma")]
    fn chains() -> f32 {
        let (a, b) = (_mm_set1_ps(black_box(1.0)), _mm_set1_ps(black_box(1e-9)));
        let mut sums = [_mm_set1_ps(black_box(0.5)); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums).iter().map(|sum| _mm_cvtss_f32(*sum)).sum()
    }

    // SAFETY: `chains` needs the FMA extension, which was just found.
    std::arch::is_x86_feature_detected!("fma").then(|| unsafe { chains() })
}

/// One run; every AArch64 machine has the instruction.
#[cfg(target_arch = "aarch64")]
pub(crate) fn run() -> Option<f32> {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32, vgetq_lane_f32};
    use std::hint::black_box;

    #[target_feature(enable = "neon")]
    fn chains() -> f32 {
        let (a, b) = (vdupq_n_f32(black_box(1.0)), vdupq_n_f32(black_box(1e-9)));
        let mut sums = [vdupq_n_f32(black_box(0.5)); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = vfmaq_f32(*sum, a, b);
            }
        }
        black_box(sums).iter().map(|sum| vgetq_lane_f32::<0>(*sum)).sum()
    }

    Some(chains())
}

/// No other machine has code for it here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn run() -> Option<f32> {
    None
}
