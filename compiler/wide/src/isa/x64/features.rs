//! Levels of the x86-64 instruction set: what there is to select from.

/// Which instruction set to compile for.
///
/// A value of this type that came from [`Features::detect`] is proof that this machine can run the code. The lowest level there is
/// needs AVX2, FMA, F16C, BMI1 and BMI2; the next adds AVX-512 F, VL, DQ and BW. Beyond it are AVX512_BF16 and AVX512_VNNI, either without
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    avx512: bool,
    bf16: bool,
    vnni: bool,
}

impl Features {
    /// What this machine has, or `None` where it lacks the lowest level (or is not an x86-64).
    #[must_use]
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let base = has!("avx2") && has!("fma") && has!("f16c") && has!("bmi1") && has!("bmi2");
            let avx512 = has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw");
            base.then_some(Self { avx512, bf16: avx512 && has!("avx512bf16"), vnni: avx512 && has!("avx512vnni") })
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// The same machine, its AVX-512 left unused.
    #[must_use]
    pub fn without_avx512(self) -> Self {
        Self::cross_avx2()
    }

    /// The same machine, its AVX512_BF16 left unused.
    #[must_use]
    pub fn without_bf16(self) -> Self {
        Self { bf16: false, ..self }
    }

    /// The same machine, its AVX512_VNNI left unused.
    #[must_use]
    pub fn without_vnni(self) -> Self {
        Self { vnni: false, ..self }
    }

    /// AVX2, FMA and F16C, whatever this machine is: for code that is looked at or run elsewhere.
    #[must_use]
    pub fn cross_avx2() -> Self {
        Self { avx512: false, bf16: false, vnni: false }
    }

    /// AVX-512 F, VL, DQ and BW, whatever this machine is: for code that is looked at or run elsewhere.
    #[must_use]
    pub fn cross_avx512() -> Self {
        Self { avx512: true, bf16: false, vnni: false }
    }

    /// As [`Features::cross_avx512`], and AVX512_BF16.
    #[must_use]
    pub fn cross_bf16() -> Self {
        Self { bf16: true, ..Self::cross_avx512() }
    }

    /// As [`Features::cross_avx512`], and AVX512_VNNI.
    #[must_use]
    pub fn cross_vnni() -> Self {
        Self { vnni: true, ..Self::cross_avx512() }
    }

    /// Whether AVX-512 may be used, which also doubles the vector registers to 32.
    #[must_use]
    pub fn avx512(self) -> bool {
        self.avx512
    }

    /// Whether AVX512_BF16 may be used, beside AVX-512.
    #[must_use]
    pub fn bf16(self) -> bool {
        self.bf16
    }

    /// Whether AVX512_VNNI may be used, beside AVX-512.
    #[must_use]
    pub fn vnni(self) -> bool {
        self.vnni
    }

    /// Bits of the widest vector: 256 or 512.
    #[must_use]
    pub fn max_vector_bits(self) -> u32 {
        if self.avx512 { 512 } else { 256 }
    }
}
