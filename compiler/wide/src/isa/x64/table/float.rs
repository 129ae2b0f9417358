//! Floating-point arithmetic, comparison, conversion, and moves.

super::row::ops! {
    /// `a + b`.
    FADD {
        F32: [VEX_Vaddss_xmm_xmm_xmmm32, VEX_Vaddps_xmm_xmm_xmmm128, VEX_Vaddps_ymm_ymm_ymmm256],
            [EVEX_Vaddss_xmm_k1z_xmm_xmmm32_er, EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32, EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32, EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vaddsd_xmm_xmm_xmmm64, VEX_Vaddpd_xmm_xmm_xmmm128, VEX_Vaddpd_ymm_ymm_ymmm256],
            [EVEX_Vaddsd_xmm_k1z_xmm_xmmm64_er, EVEX_Vaddpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// `a - b`.
    FSUB {
        F32: [VEX_Vsubss_xmm_xmm_xmmm32, VEX_Vsubps_xmm_xmm_xmmm128, VEX_Vsubps_ymm_ymm_ymmm256],
            [EVEX_Vsubss_xmm_k1z_xmm_xmmm32_er, EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32, EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32, EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vsubsd_xmm_xmm_xmmm64, VEX_Vsubpd_xmm_xmm_xmmm128, VEX_Vsubpd_ymm_ymm_ymmm256],
            [EVEX_Vsubsd_xmm_k1z_xmm_xmmm64_er, EVEX_Vsubpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// `a * b`.
    FMUL {
        F32: [VEX_Vmulss_xmm_xmm_xmmm32, VEX_Vmulps_xmm_xmm_xmmm128, VEX_Vmulps_ymm_ymm_ymmm256],
            [EVEX_Vmulss_xmm_k1z_xmm_xmmm32_er, EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32, EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vmulsd_xmm_xmm_xmmm64, VEX_Vmulpd_xmm_xmm_xmmm128, VEX_Vmulpd_ymm_ymm_ymmm256],
            [EVEX_Vmulsd_xmm_k1z_xmm_xmmm64_er, EVEX_Vmulpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// `a / b`.
    FDIV {
        F32: [VEX_Vdivss_xmm_xmm_xmmm32, VEX_Vdivps_xmm_xmm_xmmm128, VEX_Vdivps_ymm_ymm_ymmm256],
            [EVEX_Vdivss_xmm_k1z_xmm_xmmm32_er, EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32, EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32, EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vdivsd_xmm_xmm_xmmm64, VEX_Vdivpd_xmm_xmm_xmmm128, VEX_Vdivpd_ymm_ymm_ymmm256],
            [EVEX_Vdivsd_xmm_k1z_xmm_xmmm64_er, EVEX_Vdivpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vdivpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// `a < b ? a : b`: the second operand when unordered or both zero.
    FMIN {
        F32: [VEX_Vminss_xmm_xmm_xmmm32, VEX_Vminps_xmm_xmm_xmmm128, VEX_Vminps_ymm_ymm_ymmm256],
            [EVEX_Vminss_xmm_k1z_xmm_xmmm32_sae, EVEX_Vminps_xmm_k1z_xmm_xmmm128b32, EVEX_Vminps_ymm_k1z_ymm_ymmm256b32, EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae];
        F64: [VEX_Vminsd_xmm_xmm_xmmm64, VEX_Vminpd_xmm_xmm_xmmm128, VEX_Vminpd_ymm_ymm_ymmm256],
            [EVEX_Vminsd_xmm_k1z_xmm_xmmm64_sae, EVEX_Vminpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vminpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae];
    }
    /// `a > b ? a : b`: the second operand when unordered or both zero.
    FMAX {
        F32: [VEX_Vmaxss_xmm_xmm_xmmm32, VEX_Vmaxps_xmm_xmm_xmmm128, VEX_Vmaxps_ymm_ymm_ymmm256],
            [EVEX_Vmaxss_xmm_k1z_xmm_xmmm32_sae, EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32, EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae];
        F64: [VEX_Vmaxsd_xmm_xmm_xmmm64, VEX_Vmaxpd_xmm_xmm_xmmm128, VEX_Vmaxpd_ymm_ymm_ymmm256],
            [EVEX_Vmaxsd_xmm_k1z_xmm_xmmm64_sae, EVEX_Vmaxpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vmaxpd_ymm_k1z_ymm_ymmm256b64, EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae];
    }
    /// Square root.
    SQRT {
        F32: [VEX_Vsqrtss_xmm_xmm_xmmm32, VEX_Vsqrtps_xmm_xmmm128, VEX_Vsqrtps_ymm_ymmm256],
            [EVEX_Vsqrtss_xmm_k1z_xmm_xmmm32_er, EVEX_Vsqrtps_xmm_k1z_xmmm128b32, EVEX_Vsqrtps_ymm_k1z_ymmm256b32, EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er];
        F64: [VEX_Vsqrtsd_xmm_xmm_xmmm64, VEX_Vsqrtpd_xmm_xmmm128, VEX_Vsqrtpd_ymm_ymmm256],
            [EVEX_Vsqrtsd_xmm_k1z_xmm_xmmm64_er, EVEX_Vsqrtpd_xmm_k1z_xmmm128b64, EVEX_Vsqrtpd_ymm_k1z_ymmm256b64, EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er];
    }
    /// `dst = a * b + dst`.
    FMA231 {
        F32: [VEX_Vfmadd231ss_xmm_xmm_xmmm32, VEX_Vfmadd231ps_xmm_xmm_xmmm128, VEX_Vfmadd231ps_ymm_ymm_ymmm256],
            [EVEX_Vfmadd231ss_xmm_k1z_xmm_xmmm32_er, EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32, EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vfmadd231sd_xmm_xmm_xmmm64, VEX_Vfmadd231pd_xmm_xmm_xmmm128, VEX_Vfmadd231pd_ymm_ymm_ymmm256],
            [EVEX_Vfmadd231sd_xmm_k1z_xmm_xmmm64_er, EVEX_Vfmadd231pd_xmm_k1z_xmm_xmmm128b64, EVEX_Vfmadd231pd_ymm_k1z_ymm_ymmm256b64, EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// `dst = a * b + dst` of pairs of `bf16`, the second of each pair before the first. With AVX512_BF16.
    DOT_BF16 {
        F32: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vdpbf16ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vdpbf16ps_ymm_k1z_ymm_ymmm256b32, EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32];
    }
    /// `dst = a * dst + b`.
    FMA213 {
        F32: [VEX_Vfmadd213ss_xmm_xmm_xmmm32, VEX_Vfmadd213ps_xmm_xmm_xmmm128, VEX_Vfmadd213ps_ymm_ymm_ymmm256],
            [EVEX_Vfmadd213ss_xmm_k1z_xmm_xmmm32_er, EVEX_Vfmadd213ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vfmadd213ps_ymm_k1z_ymm_ymmm256b32, EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er];
        F64: [VEX_Vfmadd213sd_xmm_xmm_xmmm64, VEX_Vfmadd213pd_xmm_xmm_xmmm128, VEX_Vfmadd213pd_ymm_ymm_ymmm256],
            [EVEX_Vfmadd213sd_xmm_k1z_xmm_xmmm64_er, EVEX_Vfmadd213pd_xmm_k1z_xmm_xmmm128b64, EVEX_Vfmadd213pd_ymm_k1z_ymm_ymmm256b64, EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er];
    }
    /// Comparison into a vector of all-ones or all-zeros lanes.
    FCMP {
        F32: [VEX_Vcmpss_xmm_xmm_xmmm32_imm8, VEX_Vcmpps_xmm_xmm_xmmm128_imm8, VEX_Vcmpps_ymm_ymm_ymmm256_imm8],
            [INVALID, INVALID, INVALID, INVALID];
        F64: [VEX_Vcmpsd_xmm_xmm_xmmm64_imm8, VEX_Vcmppd_xmm_xmm_xmmm128_imm8, VEX_Vcmppd_ymm_ymm_ymmm256_imm8],
            [INVALID, INVALID, INVALID, INVALID];
    }
    /// Comparison into a mask register.
    FCMP_K {
        F32: [INVALID, INVALID, INVALID],
            [EVEX_Vcmpss_kr_k1_xmm_xmmm32_imm8_sae, EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8, EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8, EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae];
        F64: [INVALID, INVALID, INVALID],
            [EVEX_Vcmpsd_kr_k1_xmm_xmmm64_imm8_sae, EVEX_Vcmppd_kr_k1_xmm_xmmm128b64_imm8, EVEX_Vcmppd_kr_k1_ymm_ymmm256b64_imm8, EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae];
    }
    /// Rounding by the mode in the immediate.
    ROUND {
        F32: [VEX_Vroundss_xmm_xmm_xmmm32_imm8, VEX_Vroundps_xmm_xmmm128_imm8, VEX_Vroundps_ymm_ymmm256_imm8],
            [EVEX_Vrndscaless_xmm_k1z_xmm_xmmm32_imm8_sae, EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8, EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8, EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae];
        F64: [VEX_Vroundsd_xmm_xmm_xmmm64_imm8, VEX_Vroundpd_xmm_xmmm128_imm8, VEX_Vroundpd_ymm_ymmm256_imm8],
            [EVEX_Vrndscalesd_xmm_k1z_xmm_xmmm64_imm8_sae, EVEX_Vrndscalepd_xmm_k1z_xmmm128b64_imm8, EVEX_Vrndscalepd_ymm_k1z_ymmm256b64_imm8, EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae];
    }
    /// Minimum or maximum (immediate) that orders -0 below +0.
    RANGE {
        F32: [INVALID, INVALID, INVALID],
            [EVEX_Vrangess_xmm_k1z_xmm_xmmm32_imm8_sae, EVEX_Vrangeps_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vrangeps_ymm_k1z_ymm_ymmm256b32_imm8, EVEX_Vrangeps_zmm_k1z_zmm_zmmm512b32_imm8_sae];
        F64: [INVALID, INVALID, INVALID],
            [EVEX_Vrangesd_xmm_k1z_xmm_xmmm64_imm8_sae, EVEX_Vrangepd_xmm_k1z_xmm_xmmm128b64_imm8, EVEX_Vrangepd_ymm_k1z_ymm_ymmm256b64_imm8, EVEX_Vrangepd_zmm_k1z_zmm_zmmm512b64_imm8_sae];
    }
    /// Sets the flags from two scalars.
    COMPARE {
        F32: [VEX_Vucomiss_xmm_xmmm32, INVALID, INVALID],
            [EVEX_Vucomiss_xmm_xmmm32_sae, INVALID, INVALID, INVALID];
        F64: [VEX_Vucomisd_xmm_xmmm64, INVALID, INVALID],
            [EVEX_Vucomisd_xmm_xmmm64_sae, INVALID, INVALID, INVALID];
    }
    /// Unaligned load.
    LOAD {
        F32: [VEX_Vmovss_xmm_m32, VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256],
            [EVEX_Vmovss_xmm_k1z_m32, EVEX_Vmovups_xmm_k1z_xmmm128, EVEX_Vmovups_ymm_k1z_ymmm256, EVEX_Vmovups_zmm_k1z_zmmm512];
        F64: [VEX_Vmovsd_xmm_m64, VEX_Vmovupd_xmm_xmmm128, VEX_Vmovupd_ymm_ymmm256],
            [EVEX_Vmovsd_xmm_k1z_m64, EVEX_Vmovupd_xmm_k1z_xmmm128, EVEX_Vmovupd_ymm_k1z_ymmm256, EVEX_Vmovupd_zmm_k1z_zmmm512];
    }
    /// Unaligned store.
    STORE {
        F32: [VEX_Vmovss_m32_xmm, VEX_Vmovups_xmmm128_xmm, VEX_Vmovups_ymmm256_ymm],
            [EVEX_Vmovss_m32_k1_xmm, EVEX_Vmovups_xmmm128_k1z_xmm, EVEX_Vmovups_ymmm256_k1z_ymm, EVEX_Vmovups_zmmm512_k1z_zmm];
        F64: [VEX_Vmovsd_m64_xmm, VEX_Vmovupd_xmmm128_xmm, VEX_Vmovupd_ymmm256_ymm],
            [EVEX_Vmovsd_m64_k1_xmm, EVEX_Vmovupd_xmmm128_k1z_xmm, EVEX_Vmovupd_ymmm256_k1z_ymm, EVEX_Vmovupd_zmmm512_k1z_zmm];
    }
    /// Signed lanes of the table's type to `f32`, as many lanes.
    INT_TO_F32 {
        I32: [INVALID, VEX_Vcvtdq2ps_xmm_xmmm128, VEX_Vcvtdq2ps_ymm_ymmm256],
            [INVALID, EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32, EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32, EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er];
    }
    /// Unsigned lanes to `f32`.
    UINT_TO_F32 {
        I32: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vcvtudq2ps_xmm_k1z_xmmm128b32, EVEX_Vcvtudq2ps_ymm_k1z_ymmm256b32, EVEX_Vcvtudq2ps_zmm_k1z_zmmm512b32_er];
    }
    /// Signed lanes to `f64`; the width is that of the `f64` vector.
    INT_TO_F64 {
        I32: [INVALID, VEX_Vcvtdq2pd_xmm_xmmm64, VEX_Vcvtdq2pd_ymm_xmmm128],
            [INVALID, EVEX_Vcvtdq2pd_xmm_k1z_xmmm64b32, EVEX_Vcvtdq2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er];
        I64: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vcvtqq2pd_xmm_k1z_xmmm128b64, EVEX_Vcvtqq2pd_ymm_k1z_ymmm256b64, EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er];
    }
    /// Unsigned lanes to `f64`; the width is that of the `f64` vector.
    UINT_TO_F64 {
        I32: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vcvtudq2pd_xmm_k1z_xmmm64b32, EVEX_Vcvtudq2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtudq2pd_zmm_k1z_ymmm256b32_er];
        I64: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vcvtuqq2pd_xmm_k1z_xmmm128b64, EVEX_Vcvtuqq2pd_ymm_k1z_ymmm256b64, EVEX_Vcvtuqq2pd_zmm_k1z_zmmm512b64_er];
    }
    /// `f32` lanes to signed lanes, truncating.
    F32_TO_INT {
        I32: [INVALID, VEX_Vcvttps2dq_xmm_xmmm128, VEX_Vcvttps2dq_ymm_ymmm256],
            [INVALID, EVEX_Vcvttps2dq_xmm_k1z_xmmm128b32, EVEX_Vcvttps2dq_ymm_k1z_ymmm256b32, EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae];
    }
    /// `f64` lanes to signed lanes, truncating; the width is that of the `f64` vector.
    F64_TO_INT {
        I32: [INVALID, VEX_Vcvttpd2dq_xmm_xmmm128, VEX_Vcvttpd2dq_xmm_ymmm256],
            [INVALID, EVEX_Vcvttpd2dq_xmm_k1z_xmmm128b64, EVEX_Vcvttpd2dq_xmm_k1z_ymmm256b64, EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae];
        I64: [INVALID, INVALID, INVALID],
            [INVALID, EVEX_Vcvttpd2qq_xmm_k1z_xmmm128b64, EVEX_Vcvttpd2qq_ymm_k1z_ymmm256b64, EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae];
    }
    /// A 32-bit signed integer to a scalar.
    GPR32_TO_FLOAT {
        F32: [VEX_Vcvtsi2ss_xmm_xmm_rm32, INVALID, INVALID],
            [EVEX_Vcvtsi2ss_xmm_xmm_rm32_er, INVALID, INVALID, INVALID];
        F64: [VEX_Vcvtsi2sd_xmm_xmm_rm32, INVALID, INVALID],
            [EVEX_Vcvtsi2sd_xmm_xmm_rm32_er, INVALID, INVALID, INVALID];
    }
    /// A 64-bit signed integer to a scalar.
    GPR64_TO_FLOAT {
        F32: [VEX_Vcvtsi2ss_xmm_xmm_rm64, INVALID, INVALID],
            [EVEX_Vcvtsi2ss_xmm_xmm_rm64_er, INVALID, INVALID, INVALID];
        F64: [VEX_Vcvtsi2sd_xmm_xmm_rm64, INVALID, INVALID],
            [EVEX_Vcvtsi2sd_xmm_xmm_rm64_er, INVALID, INVALID, INVALID];
    }
    /// A scalar to a 32-bit signed integer, truncating.
    FLOAT_TO_GPR32 {
        F32: [VEX_Vcvttss2si_r32_xmmm32, INVALID, INVALID],
            [EVEX_Vcvttss2si_r32_xmmm32_sae, INVALID, INVALID, INVALID];
        F64: [VEX_Vcvttsd2si_r32_xmmm64, INVALID, INVALID],
            [EVEX_Vcvttsd2si_r32_xmmm64_sae, INVALID, INVALID, INVALID];
    }
    /// A scalar to a 64-bit signed integer, truncating.
    FLOAT_TO_GPR64 {
        F32: [VEX_Vcvttss2si_r64_xmmm32, INVALID, INVALID],
            [EVEX_Vcvttss2si_r64_xmmm32_sae, INVALID, INVALID, INVALID];
        F64: [VEX_Vcvttsd2si_r64_xmmm64, INVALID, INVALID],
            [EVEX_Vcvttsd2si_r64_xmmm64_sae, INVALID, INVALID, INVALID];
    }
    /// A scalar of the table's type to the other float type.
    CONVERT_FROM {
        F32: [VEX_Vcvtss2sd_xmm_xmm_xmmm32, INVALID, INVALID],
            [EVEX_Vcvtss2sd_xmm_k1z_xmm_xmmm32_sae, INVALID, INVALID, INVALID];
        F64: [VEX_Vcvtsd2ss_xmm_xmm_xmmm64, INVALID, INVALID],
            [EVEX_Vcvtsd2ss_xmm_k1z_xmm_xmmm64_er, INVALID, INVALID, INVALID];
    }
    /// `f64` lanes to `f32` lanes; the width is that of the `f64` vector.
    DEMOTE {
        F64: [INVALID, VEX_Vcvtpd2ps_xmm_xmmm128, VEX_Vcvtpd2ps_xmm_ymmm256],
            [INVALID, EVEX_Vcvtpd2ps_xmm_k1z_xmmm128b64, EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64, EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er];
    }
    /// `f32` lanes to `f64` lanes; the width is that of the `f64` vector.
    PROMOTE {
        F32: [INVALID, VEX_Vcvtps2pd_xmm_xmmm64, VEX_Vcvtps2pd_ymm_xmmm128],
            [INVALID, EVEX_Vcvtps2pd_xmm_k1z_xmmm64b32, EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae];
    }
    /// Lanes of 16 bits without a sign, or of 8 with one, to 32; the width is that of the longer vector.
    WIDEN {
        I16: [INVALID, INVALID, VEX_Vpmovzxwd_ymm_xmmm128],
            [INVALID, INVALID, EVEX_Vpmovzxwd_ymm_k1z_xmmm128, EVEX_Vpmovzxwd_zmm_k1z_ymmm256];
        I8: [INVALID, INVALID, VEX_Vpmovsxbd_ymm_xmmm64],
            [INVALID, INVALID, EVEX_Vpmovsxbd_ymm_k1z_xmmm64, EVEX_Vpmovsxbd_zmm_k1z_xmmm128];
    }
    /// Floats of 16 bits to `f32`; the width is that of the `f32` vector.
    WIDEN_HALVES {
        I16: [INVALID, INVALID, VEX_Vcvtph2ps_ymm_xmmm128],
            [INVALID, INVALID, EVEX_Vcvtph2ps_ymm_k1z_xmmm128, EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae];
    }
}
