//! Which keys are known, and which unknown ones are refused.
//!
//! A configuration has some fifty keys, most of which have nothing to do with attention: they pass, known or not. A key that nobody here knows and
//! whose name speaks of attention is refused, since most such keys change what is computed without a word. A key that some family reads passes in
//! all: the code of the others does not read it either.

use rhumb_ir::closest;
use serde_json::Value;

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
    "is_causal",
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
    "num_decoder_layers",
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
    "qk_head_dim",
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
    "hc_sinkhorn_iters",
    "head_dropout",
    "index_head_dim",
    "index_n_heads",
    "indexer_rope_interleave",
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
    "soft_cap",
    "softcap",
    "softmax",
    "swa",
    "theta",
    "window",
    "yarn",
];

/// How positions are told that graphs know of, or leave to the inputs.
const POSITIONS: &[&str] = &["absolute", "learned_absolute", "rope", "rope_gptj", "rotary"];

/// The keys of MPT's `attn_config` that are read, and those that change nothing.
const MPT_READ: &[&str] = &[
    "alibi",
    "alibi_bias_max",
    "attn_type",
    "kv_n_heads",
    "prefix_lm",
    "rope",
    "sliding_window_size",
    "softmax_scale",
];
const MPT_IRRELEVANT: &[&str] = &[
    "attn_impl",
    "attn_pdrop",
    "attn_uses_sequence_id",
    "clip_qkv",
    "fused_qkv",
    "model_type",
    "qk_gn",
    "qk_ln",
    // These say how to rotate, where `rope` says that there is a rotation.
    "rope_dail_config",
    "rope_hf_config",
    "rope_impl",
    "rope_theta",
];

/// Refuses unknown keys that may change what attention computes.
pub(super) fn check(keys: &Keys<'_>) -> Result<(), ConfigError> {
    for (key, value) in keys.iter() {
        let known = READ.contains(&key.as_str()) || IRRELEVANT.contains(&key.as_str());
        if !known && is_telling(key, value) {
            return Err(unknown(keys, key, READ));
        }
    }
    check_positions(keys)
}

/// Whether a key speaks of attention, and says something.
fn is_telling(key: &str, value: &Value) -> bool {
    let lower = key.to_lowercase();
    // What is off says nothing, but for causality, which is on where it is not told.
    let off = value.is_null() || value.as_bool() == Some(false) && !lower.contains("causal");
    !off && TELLING.iter().any(|word| lower.contains(word))
}

fn check_positions(keys: &Keys<'_>) -> Result<(), ConfigError> {
    const KEY: &str = "position_embedding_type";
    match keys.text(&[KEY])?.value() {
        Some(found) if !POSITIONS.contains(&found) => Err(ConfigError::UnknownName {
            key: keys.path(KEY),
            what: "kind of positions",
            found: found.chars().take(40).collect(),
            suggestion: closest(found, POSITIONS.iter().copied()).map(str::to_owned),
            known: POSITIONS.iter().map(|name| (*name).to_owned()).collect(),
        }),
        _ => Ok(()),
    }
}

/// Refuses what there is of MPT's `attn_config` that its code in transformers does not compute.
pub(super) fn check_mpt(own: &Keys<'_>) -> Result<(), ConfigError> {
    let unsupported = |key: &str, found: String, reason: &str| ConfigError::Unsupported {
        key: own.path(key),
        found,
        reason: reason.to_owned(),
    };
    for (key, value) in own.iter() {
        let known = [MPT_READ, MPT_IRRELEVANT, IRRELEVANT].iter().any(|names| names.contains(&key.as_str()));
        if !known && is_telling(key, value) {
            return Err(unknown(own, key, MPT_READ));
        }
    }
    if own.flag_or(&["prefix_lm"], false)? {
        return Err(unsupported("prefix_lm", "true".to_owned(), "how long the prefix is no key tells"));
    }
    if own.flag_or(&["rope"], false)? {
        return Err(unsupported("rope", "true".to_owned(), "the family's code has ALiBi alone"));
    }
    if let Some(found) = own.text(&["attn_type"])?.value().filter(|found| *found != "multihead_attention") {
        let found: String = found.chars().take(40).collect();
        return Err(unsupported(
            "attn_type",
            format!("`{found}`"),
            "the family's code gives each query head a key of its own",
        ));
    }
    if let Some(window) = own.number(&["sliding_window_size"])?.value().filter(|window| *window != -1.0) {
        return Err(unsupported("sliding_window_size", window.to_string(), "the family's code has no windows"));
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
