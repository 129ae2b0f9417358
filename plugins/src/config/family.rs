//! What a family of models has in common, and no key tells.

use rhumb_ir::Pairing;

/// A family: what its code does, and what stands in for keys that are left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its names in `model_type`.
    pub(super) names: &'static [&'static str],
    /// Query heads.
    pub(super) heads: u32,
    /// Key/value heads.
    pub(super) kv: Kv,
    /// Elements of a head.
    pub(super) head_dim: HeadDim,
    /// What of a head turns.
    pub(super) turns: Turns,
    /// Base of the frequencies.
    pub(super) theta: f64,
    /// The share of a head that turns.
    pub(super) partial: f64,
    /// Which elements pair up.
    pub(super) pairing: Pairing,
    /// How the rotation is told.
    pub(super) told: Told,
    /// The layers that rotate.
    pub(super) rotated: Rotated,
    /// What layers there are.
    pub(super) layers: Layers,
    /// The window where the key is left out.
    pub(super) window: Option<u32>,
    /// The factor on the product of query and key.
    pub(super) scale: Scale,
    /// The cap on scores where the key is left out; families without the key have none.
    pub(super) softcap: Option<Option<f64>>,
    /// Whether the weights have sinks.
    pub(super) sinks: bool,
    /// What is added to the score.
    pub(super) bias: Bias,
    /// Whether a query sees what comes after it.
    pub(super) sight: Sight,
    /// The factor on queries that grows with their position.
    pub(super) grows: Grows,
    /// The norm that queries and keys get where they are rotated.
    pub(super) norm: Norm,
}

/// Where the number of key/value heads comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kv {
    /// As many as query heads; there is no key.
    Same,
    /// Its key, or as many as query heads.
    Heads,
    /// Its key, or these.
    Of(u32),
    /// Falcon's: one unless `multi_query` is off or the architecture is the new one.
    Falcon,
    /// One unless `multi_query` is off.
    MultiQuery,
}

/// Where the size of a head comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeadDim {
    /// Its key, or `hidden_size` over the heads.
    Hidden,
    /// Its key, or this.
    Of(u32),
    /// `hidden_size` over the heads; there is no key.
    Divided,
    /// `d_kv`, or this.
    DKv(u32),
    /// Latent attention (MLA): elements of query and key that do not turn, that do, and of the value.
    Latent(u32, u32, u32),
    /// Gemma 4's: its key or 256 in sliding layers, `global_head_dim` or 512 in full ones.
    Global,
}

/// What of a head turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Turns {
    /// Nothing.
    Nothing,
    /// The share `partial` of it, from its first element.
    Share,
    /// As many elements as `rotary_dim` says, or 64, from the first.
    Fixed,
    /// The share `partial` of it, up to its last element.
    Tail,
    /// The rotary part of latent attention, the last.
    Latent,
    /// All of it, unless there is `alibi`.
    UnlessAlibi,
}

/// How the rotation is told, and what stands in where it is not told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// `rope_parameters` or `rope_scaling`; a plain rotation without.
    Plain,
    /// The same, and this scaling without.
    Default(DefaultScaling),
    /// An entry of `rope_parameters` for each kind of layer. Old files have `rope_scaling`, for full layers or for all, and bases by other keys:
    /// the key and the default of full layers, then those of sliding ones.
    ByKind { full: (&'static str, f64), sliding: (Option<&'static str>, f64), scales_all: bool },
    /// Phi-3's: `su` and `yarn` stand for `longrope`.
    Phi3,
    /// GPT-NeoX's: the base and the share that turns are `rotary_emb_base` and `rotary_pct`.
    NeoX,
    /// By the family's base; no key is read.
    Fixed,
    /// DeepSeek-V4's: `main` for sliding layers.
    V4,
}

/// The scaling of a model whose file does not tell it.
#[derive(Clone, Copy, Debug)]
pub(super) enum DefaultScaling {
    GptOss,
    Ministral3,
    Mistral4,
    Apertus,
    Gemma4,
}

/// Which layers rotate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rotated {
    All,
    /// Those with a window.
    Sliding,
    /// Those with a window; all, if there is no window.
    SlidingIfAny,
    /// As `no_rope_layers` or `no_rope_layer_interval` says: 1 rotates.
    Listed,
}

/// What layers there are, where `layer_types` does not say so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layers {
    /// All full; there is no `layer_types`.
    Full,
    /// All sliding if there is a window; there is no `layer_types`.
    Window,
    /// The same, with `use_sliding_window`.
    WindowIfUsed,
    /// All sliding if there is a window.
    WindowTyped,
    /// There is no rule: `layer_types` has to be there.
    Typed,
    /// Every `n`-th is full.
    Nth(u32),
    /// The same, and the last one.
    NthAndLast(u32),
    /// Every `n`-th is full, by `sliding_window_pattern` if it is there.
    Every(u32),
    /// The same; all are full without a window.
    EveryIfWindow(u32),
    /// With `use_sliding_window`, those from `max_window_layers` slide; or this.
    Qwen2(u32),
    /// With `use_sliding_window`, the first of every two slides below `max_window_layers`.
    Qwen2Moe,
    /// Every `full_attention_interval`-th is attention, the others are not.
    Interval(u32),
    /// Those that rotate are chunked.
    Chunked,
    /// With `use_sliding_window`, those that do not rotate slide.
    SmolLm3,
    /// Every `global_attn_every_n_layers`-th from the first is full.
    ModernBert,
    /// `attention_types`: global or local.
    GptNeo,
    /// `attn_layer_period` and `attn_layer_offset`.
    Jamba,
    /// `full_attn_idxs`.
    Lfm2,
    /// Keys are chosen by an indexer.
    Indexed,
    /// `compress_ratios`: 0 slides.
    V4,
}

/// The factor on the product of query and key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// `1 / sqrt(head_dim)`.
    HeadDim,
    /// `1 / sqrt(query_pre_attn_scalar)`, or of this.
    PreAttention(f64),
    /// 1.
    One,
    /// `attention_multiplier`, or 1.
    Multiplier,
    /// Like `HeadDim` unless `scale_attn_weights` is off; by layer if so told.
    Gpt2,
    /// `softmax_scale` of `attn_config`.
    Mpt,
}

/// What is added to the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bias {
    Nothing,
    Bloom,
    Mpt,
    Falcon,
    /// T5's buckets.
    Buckets,
}

/// Whether a query sees what comes after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sight {
    Causal,
    Both,
    /// Both ways with `use_bidirectional_attention`.
    Flag,
    /// The same, where a window then reaches `w // 2` each way, and this many more.
    FlagHalved(i32),
    /// Encoders see both ways, decoders are causal.
    Decoder,
}

/// The factor on queries that grows with their position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Grows {
    Nothing,
    /// On layers that do not rotate.
    Llama4,
    /// By `llama_4_scaling_beta` of the rotation.
    Beta,
}

/// The norm that queries and keys get after they are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Norm {
    Nothing,
    /// With `use_qk_norm`, on layers that rotate.
    Llama4,
    /// On all layers.
    All,
}
