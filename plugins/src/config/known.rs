//! Which keys are known, and which unknown ones are refused.
//!
//! A configuration has some fifty keys, most of which have nothing to do with attention: they pass, known or not. A key that nobody here knows and
//! whose name speaks of attention is refused, since most such keys change what is computed without a word. A key that some family reads passes in
//! all: the code of the others does not read it either.

use rhumb_ir::closest;

use super::error::ConfigError;
use super::keys::Keys;

/// The keys that are read, for one family or another.
const READ: &[&str] = &[
    "alibi",
    "alibi_bias_max",
    "attention_chunk_size",
    "attention_k_eq_v",
    "attention_layers",
    "attention_multiplier",
    "attention_types",
    "attn_config",
    "attn_layer_offset",
    "attn_layer_period",
    "attn_logit_softcapping",
    "attn_scale",
    "attn_temperature_tuning",
    "compress_ratios",
    "compress_rope_theta",
    "d_kv",
    "d_model",
    "floor_scale",
    "full_attention_interval",
    "full_attn_idxs",
    "global_attn_every_n_layers",
    "global_head_dim",
    "global_rope_theta",
    "head_dim",
    "hidden_size",
    "is_decoder",
    "kv_lora_rank",
    "layer_types",
    "local_attention",
    "local_rope_theta",
    "max_position_embeddings",
    "max_seq_len",
    "max_window_layers",
    "model_type",
    "multi_query",
    "n_embd",
    "n_embed",
    "n_head",
    "n_heads",
    "n_layer",
    "n_layers",
    "n_positions",
    "new_decoder_architecture",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_attention_heads",
    "num_global_key_value_heads",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_kv_heads",
    "num_layers",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "per_layer_config",
    "position_embedding_type",
    "prefix_lm",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "query_pre_attn_scalar",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "rms_norm_eps",
    "rope_interleave",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "sliding_window",
    "sliding_window_pattern",
    "softmax_scale",
    "text_config",
    "use_bidirectional_attention",
    "use_qk_norm",
    "use_sliding_window",
    "v_head_dim",
    "window_size",
];

/// Keys whose names speak of attention and that change nothing between queries and keys, and the output: precision, projections and their
/// biases, dropout, norms that queries and keys come with, what else a model has beside its attention.
const IRRELEVANT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_flash_attn_2_enabled",
    "_sliding_window_pattern",
    "add_cross_attention",
    "add_qkv_bias",
    "apply_query_key_layer_scaling",
    "attention_bias",
    "attention_dropout",
    "attention_head_dim",
    "attention_out_bias",
    "attention_pdrop",
    "attention_probs_dropout_prob",
    "attention_qkv_bias",
    "attention_softmax_in_fp32",
    "attn_bias",
    "attn_dropout",
    "attn_impl",
    "attn_implementation",
    "attn_output_gate",
    "attn_pdrop",
    "attn_type",
    "attn_uses_sequence_id",
    "chunk_size_feed_forward",
    "classifier_head_dropout",
    "clip_qkv",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "deterministic_flash_attn",
    "final_logit_softcapping",
    "full_attn_mod",
    "head_dropout",
    "index_head_dim",
    "index_n_heads",
    "learned_pos_emb",
    "linear_key_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
    "lm_head_bias",
    "mask_init_id",
    "mask_token_id",
    "masked_softmax_fusion",
    "mlp_layer_types",
    "num_kv_shared_layers",
    "num_ln_in_parallel_attn",
    "offset_alibi",
    "output_attentions",
    "parallel_attn",
    "pruned_heads",
    "qk_layernorm",
    "qk_ln",
    "qkv_bias",
    "reorder_and_upcast_attn",
    "rotary",
    "routed_scaling_factor",
    "scalable_attention",
    "scale_attention_softmax_in_fp32",
    "use_attention_bias",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_pos_enc",
    "use_qkv_bias",
    "use_rotary_pos_emb",
];

/// What makes a name one that speaks of attention.
const TELLING: &[&str] = &[
    "alibi",
    "attention",
    "attn",
    "bidirectional",
    "causal",
    "chunk",
    "head",
    "kv_",
    "_kv",
    "mask",
    "ntk",
    "pos_",
    "position",
    "rope",
    "rotary",
    "sink",
    "sliding",
    "softcap",
    "softmax",
    "swa",
    "theta",
    "window",
    "yarn",
];

/// Refuses unknown keys that may change what attention computes.
pub(super) fn check(keys: &Keys<'_>) -> Result<(), ConfigError> {
    for (key, value) in keys.iter() {
        let known = READ.contains(&key.as_str()) || IRRELEVANT.contains(&key.as_str());
        let lower = key.to_lowercase();
        // What is off says nothing.
        let off = value.is_null() || value.as_bool() == Some(false);
        if !known && !off && TELLING.iter().any(|word| lower.contains(word)) {
            return Err(unknown(keys, key, READ));
        }
    }
    Ok(())
}

/// The error for an unknown key among these.
pub(super) fn unknown(keys: &Keys<'_>, key: &str, known: &[&str]) -> ConfigError {
    ConfigError::UnknownKey {
        key: keys.path(key),
        suggestion: closest(key, known.iter().copied()).map(|name| keys.path(name)),
    }
}
