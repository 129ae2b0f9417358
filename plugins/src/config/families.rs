//! The table of families, read from the configuration and the code of each in transformers 5.24.0.

use rhumb_ir::Pairing;

use super::family::{
    Bias, DefaultScaling, Family, Grows, HeadDim, Kv, Layers, Norm, Rotated, Scale, Sight, Told, Turns,
};

/// What most families have: Llama's.
const LLAMA: Family = Family {
    names: &["llama", "arcee"],
    heads: 32,
    kv: Kv::Heads,
    head_dim: HeadDim::Hidden,
    turns: Turns::Share,
    theta: 1e4,
    partial: 1.0,
    pairing: Pairing::Half,
    told: Told::Plain,
    rotated: Rotated::All,
    layers: Layers::Full,
    window: None,
    scale: Scale::HeadDim,
    softcap: None,
    sinks: false,
    bias: Bias::Nothing,
    sight: Sight::Causal,
    grows: Grows::Nothing,
    norm: Norm::Nothing,
};

const MISTRAL: Family =
    Family { names: &["mistral"], kv: Kv::Of(8), layers: Layers::Window, window: Some(4096), ..LLAMA };

const QWEN2: Family =
    Family { names: &["qwen2"], kv: Kv::Of(32), layers: Layers::Qwen2(28), window: Some(4096), ..LLAMA };

const QWEN3: Family = Family { names: &["qwen3"], head_dim: HeadDim::Of(128), ..QWEN2 };

const QWEN3_NEXT: Family = Family {
    names: &["qwen3_next"],
    heads: 16,
    kv: Kv::Of(2),
    head_dim: HeadDim::Of(256),
    partial: 0.25,
    layers: Layers::Interval(4),
    ..LLAMA
};

const GEMMA: Family =
    Family { names: &["gemma"], heads: 16, kv: Kv::Of(16), head_dim: HeadDim::Of(256), sight: Sight::Flag, ..LLAMA };

const GEMMA2: Family = Family {
    names: &["gemma2"],
    heads: 8,
    kv: Kv::Of(4),
    layers: Layers::Nth(2),
    window: Some(4096),
    scale: Scale::PreAttention(256.0),
    softcap: Some(Some(50.0)),
    ..GEMMA
};

const GEMMA3: Family = Family {
    names: &["gemma3_text", "gemma3"],
    told: Told::ByKind { full: ("rope_theta", 1e6), sliding: (Some("rope_local_base_freq"), 1e4), scales_all: false },
    layers: Layers::Every(6),
    softcap: Some(None),
    sight: Sight::FlagHalved(0),
    ..GEMMA2
};

const PHI3: Family = Family { names: &["phi3", "phi4"], told: Told::Phi3, layers: Layers::Window, ..LLAMA };

const DEEPSEEK_V3: Family = Family {
    names: &["deepseek_v3", "kimi_k2", "kimi_k25"],
    heads: 128,
    kv: Kv::Heads,
    head_dim: HeadDim::Latent(128, 64, 128),
    turns: Turns::Latent,
    pairing: Pairing::Interleaved,
    ..LLAMA
};

const COHERE: Family = Family { names: &["cohere"], heads: 64, theta: 5e5, pairing: Pairing::Interleaved, ..LLAMA };

const GPT_NEOX: Family =
    Family { names: &["gpt_neox"], heads: 64, kv: Kv::Same, head_dim: HeadDim::Divided, partial: 0.25, ..LLAMA };

const GPT2: Family = Family {
    names: &["gpt2"],
    heads: 12,
    kv: Kv::Same,
    head_dim: HeadDim::Divided,
    turns: Turns::Nothing,
    scale: Scale::Gpt2,
    ..LLAMA
};

const GLM: Family = Family {
    names: &["glm", "glm4"],
    kv: Kv::Of(2),
    head_dim: HeadDim::Of(128),
    partial: 0.5,
    pairing: Pairing::Interleaved,
    ..LLAMA
};

const T5: Family = Family {
    names: &["t5"],
    heads: 8,
    kv: Kv::Same,
    head_dim: HeadDim::DKv(64),
    turns: Turns::Nothing,
    scale: Scale::One,
    bias: Bias::Buckets,
    sight: Sight::Decoder,
    ..LLAMA
};

/// All families.
pub(super) const FAMILIES: &[Family] = &[
    LLAMA,
    MISTRAL,
    Family { names: &["mixtral"], theta: 1e6, window: None, ..MISTRAL },
    Family { names: &["ministral"], layers: Layers::WindowTyped, ..MISTRAL },
    Family {
        names: &["ministral3"],
        head_dim: HeadDim::Of(128),
        told: Told::Default(DefaultScaling::Ministral3),
        window: None,
        grows: Grows::Beta,
        ..MISTRAL
    },
    QWEN2,
    Family { names: &["qwen2_moe"], heads: 16, kv: Kv::Of(16), layers: Layers::Qwen2Moe, ..QWEN2 },
    QWEN3,
    Family { names: &["qwen3_moe"], kv: Kv::Of(4), layers: Layers::WindowIfUsed, ..QWEN3 },
    QWEN3_NEXT,
    Family { names: &["qwen3_5_text", "qwen3_5"], kv: Kv::Of(4), ..QWEN3_NEXT },
    Family { names: &["qwen3_5_moe_text", "qwen3_5_moe"], ..QWEN3_NEXT },
    Family {
        names: &["qwen2_vl_text", "qwen2_vl", "qwen2_5_vl_text", "qwen2_5_vl"],
        heads: 64,
        kv: Kv::Of(8),
        theta: 1e6,
        layers: Layers::Qwen2(80),
        ..QWEN2
    },
    Family { names: &["qwen3_vl_text", "qwen3_vl"], theta: 5e5, layers: Layers::Full, ..QWEN3 },
    Family { names: &["qwen3_vl_moe_text", "qwen3_vl_moe"], heads: 16, kv: Kv::Of(16), theta: 5e5, ..LLAMA },
    GEMMA,
    GEMMA2,
    Family { names: &["vaultgemma"], sight: Sight::Causal, ..GEMMA2 },
    GEMMA3,
    Family {
        names: &["gemma4_text", "gemma4"],
        head_dim: HeadDim::Global,
        told: Told::Default(DefaultScaling::Gemma4),
        layers: Layers::NthAndLast(6),
        window: Some(512),
        scale: Scale::One,
        softcap: None,
        sight: Sight::FlagHalved(1),
        ..GEMMA3
    },
    Family { names: &["phi"], partial: 0.5, ..LLAMA },
    PHI3,
    Family { names: &["phimoe"], kv: Kv::Of(8), theta: 1e6, told: Told::Plain, ..PHI3 },
    Family {
        names: &["gpt_oss"],
        heads: 64,
        kv: Kv::Of(8),
        head_dim: HeadDim::Of(64),
        theta: 1.5e5,
        told: Told::Default(DefaultScaling::GptOss),
        layers: Layers::Nth(2),
        window: Some(128),
        sinks: true,
        ..LLAMA
    },
    Family { names: &["deepseek_v2"], heads: 32, ..DEEPSEEK_V3 },
    DEEPSEEK_V3,
    Family { names: &["youtu"], heads: 16, ..DEEPSEEK_V3 },
    Family { names: &["glm4_moe_lite"], heads: 20, head_dim: HeadDim::Latent(192, 64, 256), ..DEEPSEEK_V3 },
    Family {
        names: &["glm_moe_dsa"],
        heads: 64,
        head_dim: HeadDim::Latent(192, 64, 256),
        layers: Layers::Indexed,
        ..DEEPSEEK_V3
    },
    Family {
        names: &["mistral4"],
        heads: 32,
        head_dim: HeadDim::Latent(64, 64, 128),
        told: Told::Default(DefaultScaling::Mistral4),
        grows: Grows::Beta,
        ..DEEPSEEK_V3
    },
    Family {
        names: &["deepseek_v4"],
        heads: 64,
        kv: Kv::Of(1),
        head_dim: HeadDim::Of(512),
        turns: Turns::Tail,
        partial: 64.0 / 512.0,
        pairing: Pairing::Interleaved,
        told: Told::V4,
        layers: Layers::V4,
        window: Some(128),
        sinks: true,
        ..LLAMA
    },
    Family {
        names: &["llama4_text", "llama4"],
        heads: 40,
        kv: Kv::Of(8),
        head_dim: HeadDim::Of(128),
        theta: 5e5,
        pairing: Pairing::Interleaved,
        rotated: Rotated::Listed,
        layers: Layers::Chunked,
        grows: Grows::Llama4,
        norm: Norm::Llama4,
        ..LLAMA
    },
    COHERE,
    Family {
        names: &["cohere2"],
        head_dim: HeadDim::Divided,
        theta: 1e4,
        rotated: Rotated::Sliding,
        layers: Layers::Every(4),
        window: Some(4096),
        ..COHERE
    },
    Family { names: &["olmo", "olmo2"], ..LLAMA },
    Family { names: &["olmoe"], heads: 16, ..LLAMA },
    Family {
        names: &["olmo3"],
        told: Told::ByKind { full: ("rope_theta", 5e5), sliding: (None, 5e5), scales_all: false },
        layers: Layers::Nth(4),
        window: Some(4096),
        ..LLAMA
    },
    Family { names: &["granite", "granitemoe", "granitemoeshared"], scale: Scale::Multiplier, ..LLAMA },
    Family { names: &["starcoder2"], heads: 24, kv: Kv::Of(2), layers: Layers::Window, ..LLAMA },
    Family { told: Told::NeoX, ..GPT_NEOX },
    Family {
        names: &["gptj", "codegen"],
        told: Told::Fixed,
        heads: 16,
        turns: Turns::Fixed,
        pairing: Pairing::Interleaved,
        partial: 1.0,
        ..GPT_NEOX
    },
    Family {
        names: &["falcon"],
        heads: 71,
        kv: Kv::Falcon,
        turns: Turns::UnlessAlibi,
        bias: Bias::Falcon,
        partial: 1.0,
        ..GPT_NEOX
    },
    GPT2,
    Family { names: &["bloom"], heads: 8, scale: Scale::HeadDim, bias: Bias::Bloom, ..GPT2 },
    Family { names: &["mpt"], heads: 16, scale: Scale::Mpt, bias: Bias::Mpt, ..GPT2 },
    Family { names: &["stablelm"], kv: Kv::Of(32), partial: 0.25, ..LLAMA },
    GLM,
    Family { names: &["glm4_moe"], heads: 96, kv: Kv::Of(8), head_dim: HeadDim::Hidden, pairing: Pairing::Half, ..GLM },
    Family {
        names: &["smollm3"],
        heads: 16,
        kv: Kv::Of(4),
        theta: 2e6,
        rotated: Rotated::Listed,
        layers: Layers::SmolLm3,
        ..LLAMA
    },
    Family {
        names: &["exaone4", "exaone_moe"],
        kv: Kv::Of(32),
        rotated: Rotated::SlidingIfAny,
        layers: Layers::EveryIfWindow(4),
        window: Some(4096),
        ..LLAMA
    },
    Family { names: &["nemotron"], heads: 48, partial: 0.5, ..LLAMA },
    Family { names: &["persimmon"], partial: 0.5, ..GPT_NEOX },
    Family { names: &["hunyuan_v1_dense", "hunyuan_v1_moe"], norm: Norm::All, ..LLAMA },
    Family { names: &["apertus"], theta: 1.2e7, told: Told::Default(DefaultScaling::Apertus), ..LLAMA },
    Family { names: &["internlm3"], kv: Kv::Of(2), head_dim: HeadDim::Of(128), ..LLAMA },
    Family { names: &["lfm2"], kv: Kv::Of(8), theta: 1e6, layers: Layers::Lfm2, ..LLAMA },
    Family { names: &["lfm2_moe"], kv: Kv::Of(8), theta: 1e6, layers: Layers::Typed, ..LLAMA },
    Family {
        names: &["ernie4_5"],
        heads: 16,
        kv: Kv::Of(2),
        head_dim: HeadDim::Of(128),
        theta: 5e5,
        pairing: Pairing::Interleaved,
        ..LLAMA
    },
    Family {
        names: &["helium"],
        heads: 20,
        kv: Kv::Of(20),
        head_dim: HeadDim::Of(128),
        theta: 1e5,
        pairing: Pairing::Interleaved,
        ..LLAMA
    },
    Family { names: &["seed_oss"], heads: 80, kv: Kv::Of(8), head_dim: HeadDim::Of(128), ..LLAMA },
    Family { names: &["jamba"], kv: Kv::Of(8), turns: Turns::Nothing, layers: Layers::Jamba, ..LLAMA },
    T5,
    Family { names: &["mt5", "umt5"], heads: 6, ..T5 },
    Family { names: &["gpt_neo"], heads: 16, scale: Scale::One, layers: Layers::GptNeo, window: Some(256), ..GPT2 },
    Family { names: &["opt"], scale: Scale::HeadDim, ..GPT2 },
    Family { names: &["gpt_bigcode"], kv: Kv::MultiQuery, ..GPT2 },
    Family {
        names: &["modernbert"],
        heads: 12,
        kv: Kv::Same,
        head_dim: HeadDim::Divided,
        told: Told::ByKind {
            full: ("global_rope_theta", 1.6e5),
            sliding: (Some("local_rope_theta"), 1e4),
            scales_all: true,
        },
        layers: Layers::ModernBert,
        window: Some(128),
        sight: Sight::Both,
        ..LLAMA
    },
];
