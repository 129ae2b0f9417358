//! The machine's peak: independent chains of multiply-adds of one vector width, with nothing to load or store. All that measure a peak take
//! it from here.

/// Chains: enough to hide the latency of a multiply-add on two ports, few enough for 16 registers.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in a run: a fraction of a millisecond.
const ROUNDS: usize = 50_000;

/// One run of a width's chains.
pub(crate) type Run = fn() -> f32;

/// Multiplications and additions in a run of vectors of this many bits.
pub(crate) fn operations(bits: usize) -> u64 {
    (2 * bits / 32 * CHAINS * ROUNDS) as u64
}

/// The widths that this machine has, with their runs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> Vec<(usize, Run)> {
    let fma = is_x86_feature_detected!("fma");
    let all: [(bool, usize, Run); 3] = [
        (fma, 128, x86::chains_128),
        (fma, 256, x86::chains_256),
        (is_x86_feature_detected!("avx512f"), 512, x86::chains_512),
    ];
    all.into_iter().filter(|&(found, ..)| found).map(|(_, bits, run)| (bits, run)).collect()
}

/// Every AArch64 machine has 128 bits; wider vectors of some are not used by anything here.
#[cfg(target_arch = "aarch64")]
pub(crate) fn available() -> Vec<(usize, Run)> {
    vec![(128, arm::chains_128)]
}

/// No other machine has code for it here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn available() -> Vec<(usize, Run)> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "instructions that are looked for before they are used")]
mod x86 {
    use std::arch::x86_64::{
        _mm_cvtss_f32, _mm_fmadd_ps, _mm_set1_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32,
        _mm512_fmadd_ps, _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::{CHAINS, ROUNDS};

    macro_rules! chains {
        ($name:ident, $feature:tt, $set:ident, $add:ident, $first:ident) => {
            pub(super) fn $name() -> f32 {
                #[target_feature(enable = $feature)]
                fn chains() -> f32 {
                    let (a, b) = ($set(black_box(1.0)), $set(black_box(1e-9)));
                    let mut sums = [$set(black_box(0.5)); CHAINS];
                    for _ in 0..ROUNDS {
                        for sum in &mut sums {
                            *sum = $add(a, b, *sum);
                        }
                    }
                    black_box(sums).iter().map(|sum| $first(*sum)).sum()
                }

                assert!(is_x86_feature_detected!($feature), "this machine has no {}", $feature);
                // SAFETY: `chains` needs the one feature that the line above found.
                unsafe { chains() }
            }
        };
    }

    chains!(chains_128, "fma", _mm_set1_ps, _mm_fmadd_ps, _mm_cvtss_f32);
    chains!(chains_256, "fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);
    chains!(chains_512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32, vgetq_lane_f32};
    use std::hint::black_box;

    use super::{CHAINS, ROUNDS};

    pub(super) fn chains_128() -> f32 {
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

        // Every AArch64 target is compiled with NEON, so the call is safe as it stands.
        chains()
    }
}
