//! Layers of every family that is known, and configurations that are refused.

use rhumb_ir::{Extent, Op, Scalar, Verified};
use rhumb_plugins::{ConfigError, ModelConfig, Registry, lower};
use serde_json::{Value, json};

/// The configuration of a family: eight layers, four heads on two, of 16 elements, and what else is given.
fn config(model_type: &str, more: &Value) -> String {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "torch_dtype": "bfloat16",
    });
    let map = config.as_object_mut().expect("an object");
    for (key, value) in more.as_object().expect("an object") {
        match value {
            // What is not to be there.
            Value::String(absent) if absent == "-" => map.remove(key),
            value => map.insert(key.clone(), value.clone()),
        };
    }
    config.to_string()
}

/// What a reader wants to know of a graph: sizes, scale, schemes with their attributes, and what else there is.
fn summary(graph: &Verified) -> String {
    let size = |name: &str| {
        graph.axes().iter().find(|axis| axis.name == name).map(|axis| match axis.extent {
            Extent::Static(n) => n.to_string(),
            Extent::Dynamic => "?".to_owned(),
        })
    };
    let heads = size("h").unwrap_or_default();
    let mut words = vec![format!("{heads}/{} heads", size("g").unwrap_or(heads.clone()))];
    words.push(format!("{}/{}", size("d").unwrap_or_default(), size("e").unwrap_or_default()));
    let mut functions = Vec::new();
    for node in graph.nodes() {
        match &node.op {
            Op::Scheme { scheme, attrs, .. } => {
                let attrs: Vec<String> = attrs.iter().map(|(name, attr)| format!("{name} {attr:?}")).collect();
                let word = format!("{scheme}({})", attrs.join(", "));
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            Op::Const(Scalar::F32(x)) if *x != f64::NEG_INFINITY => words.push(format!("{x:.6}")),
            Op::Input { name, .. } if !["q", "k", "v"].contains(&name.as_str()) => words.push(format!("input {name}")),
            Op::Unary(unary, _) => functions.push(format!("{unary:?}").to_lowercase()),
            _ => {}
        }
    }
    words.extend(functions);
    words.join("  ").replace("Float(", "(").replace("Int(", "(")
}

fn layer(text: &str, index: u32, decoder: bool) -> Result<Verified, ConfigError> {
    let config = ModelConfig::from_json(text)?;
    let attention = if decoder { config.decoder_layer(index) } else { config.layer(index) }?;
    let graph = attention.build().unwrap_or_else(|error| panic!("{error}"));
    lower(&graph, &Registry::standard()).unwrap_or_else(|error| panic!("{error}"));
    Ok(graph)
}

/// All layers of a model, those that are alike told once.
fn layers(name: &str, more: &Value) -> String {
    let text = config(name, more);
    let mut told: Vec<(String, Vec<u32>)> = Vec::new();
    for index in 0..8 {
        let line = match layer(&text, index, false) {
            Ok(graph) => summary(&graph),
            Err(error) => error.finding(),
        };
        let line = line.replace(&format!("layer {index} "), "layer N ").replace(&format!("[{index}]"), "[N]");
        match told.iter_mut().find(|(known, _)| *known == line) {
            Some((_, indices)) => indices.push(index),
            None => told.push((line, vec![index])),
        }
    }
    let lines: Vec<String> = told.iter().map(|(line, indices)| format!("    {indices:?}  {line}\n")).collect();
    format!("{name} {more}\n{}", lines.concat())
}

fn report(cases: &[(&str, Value)]) -> String {
    cases.iter().map(|(name, more)| layers(name, more)).collect()
}

#[test]
fn families_with_a_rotation() {
    insta::assert_snapshot!(report(&[
        ("llama", json!({})),
        ("llama", json!({"num_key_value_heads": null, "head_dim": null, "rope_theta": 5e5})),
        ("arcee", json!({})),
        ("granite", json!({"attention_multiplier": 0.25})),
        ("granite", json!({})),
        ("cohere", json!({})),
        ("granitemoe", json!({"attention_multiplier": 0.25})),
        ("granitemoeshared", json!({"num_attention_heads": "-", "num_key_value_heads": "-"})),
        ("olmo2", json!({})),
        // What is clipped are queries, keys and values as they come.
        ("olmo", json!({"head_dim": "-", "clip_qkv": 8.0})),
        ("olmoe", json!({"num_attention_heads": "-", "num_key_value_heads": "-"})),
        ("internlm3", json!({"num_attention_heads": "-", "num_key_value_heads": "-", "head_dim": "-"})),
        ("internlm3", json!({"num_key_value_heads": null, "head_dim": null})),
        ("phi", json!({})),
        ("phi", json!({"partial_rotary_factor": 0.25})),
        ("stablelm", json!({})),
        ("glm", json!({})),
        ("glm4", json!({})),
        ("glm4_moe", json!({})),
        ("nemotron", json!({})),
        ("persimmon", json!({})),
        ("gpt_neox", json!({})),
        ("gpt_neox", json!({"rotary_pct": 0.5, "rotary_emb_base": 5000})),
        // What GPT-NeoX does not read, and what it alone reads.
        ("gpt_neox", json!({"partial_rotary_factor": 0.5, "rope_theta": 5000})),
        ("llama", json!({"rotary_pct": 0.5, "rotary_emb_base": 5000})),
        ("gptj", json!({"rotary_dim": 8, "rope_theta": 5000, "rope_scaling": {"type": "linear", "factor": 2}})),
        ("codegen", json!({"rotary_dim": 4})),
        ("ernie4_5", json!({})),
        ("helium", json!({})),
        ("seed_oss", json!({})),
        ("apertus", json!({})),
        ("hunyuan_v1_dense", json!({})),
        // A norm takes back what a scaling does to the length: it comes after it.
        ("hunyuan_v1_dense", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}})),
        (
            "hunyuan_v1_moe",
            json!({"rms_norm_eps": 1e-6, "rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1000.0}})
        ),
        ("gemma", json!({})),
        ("gemma", json!({"use_bidirectional_attention": true})),
        ("llama", json!({"is_causal": false})),
        (
            "qwen3_vl_text",
            json!({"rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": true}})
        ),
        ("qwen3_vl_moe_text", json!({"num_attention_heads": "-", "num_key_value_heads": "-", "head_dim": "-"})),
        ("qwen3_vl_moe", json!({"head_dim": null, "sliding_window": 8, "use_sliding_window": true})),
        ("qwen2_vl", json!({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}})),
        ("qwen2_5_vl_text", json!({})),
    ]));
}

#[test]
fn families_with_windows_and_kinds_of_layers() {
    let window = json!({"sliding_window": 8});
    let linear = json!({"rope_type": "linear", "factor": 8.0});
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8});
    let mut kinds = ["full_attention"; 8];
    kinds[1] = "sliding_attention";
    insta::assert_snapshot!(report(&[
        ("mistral", json!({})),
        ("mistral", json!({"sliding_window": null})),
        ("mixtral", json!({})),
        ("mixtral", window.clone()),
        ("ministral", json!({})),
        ("ministral", json!({"sliding_window": null})),
        ("ministral3", json!({})),
        ("qwen2", window.clone()),
        ("qwen2", json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 5})),
        ("qwen2_moe", json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 5})),
        ("qwen3", json!({"head_dim": "-"})),
        ("qwen3_moe", json!({})),
        ("qwen3_moe", json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 5})),
        ("qwen3_next", json!({})),
        ("qwen3_5_text", json!({"full_attention_interval": 2})),
        ("qwen3_5_moe_text", json!({"num_attention_heads": "-", "num_key_value_heads": "-", "head_dim": "-"})),
        ("qwen3_5_moe", json!({"full_attention_interval": 2, "partial_rotary_factor": 0.5})),
        ("gemma2", json!({})),
        // A key of Gemma 3 that this family's code does not read.
        ("gemma2", json!({"sliding_window_pattern": 4})),
        ("gemma2", json!({"attn_logit_softcapping": null, "query_pre_attn_scalar": 24})),
        ("vaultgemma", json!({"num_attention_heads": "-", "num_key_value_heads": "-", "head_dim": "-"})),
        ("vaultgemma", json!({"use_bidirectional_attention": true, "attn_logit_softcapping": null})),
        ("gemma3_text", json!({})),
        ("gemma3_text", json!({"rope_theta": 2e6, "rope_local_base_freq": 5e3, "rope_scaling": linear})),
        ("gemma3_text", json!({"sliding_window": 10, "use_bidirectional_attention": true})),
        ("gemma3_text", json!({"sliding_window": 10, "is_causal": false})),
        ("gemma4_text", json!({"num_hidden_layers": 8})),
        ("gemma4_text", json!({"sliding_window": 10, "use_bidirectional_attention": "all"})),
        ("gemma4_text", json!({"global_head_dim": 32, "attention_k_eq_v": true, "num_global_key_value_heads": 1})),
        ("phi3", window.clone()),
        ("phimoe", json!({})),
        ("starcoder2", window.clone()),
        ("gpt_oss", json!({})),
        ("llama4_text", json!({})),
        (
            "llama4_text",
            json!({"attention_chunk_size": null, "no_rope_layers": [], "no_rope_layer_interval": 2, "use_qk_norm": false})
        ),
        ("llama4_text", json!({"is_causal": false})),
        ("cohere2", json!({})),
        ("olmo3", json!({"rope_theta": 1e4, "rope_scaling": yarn})),
        ("smollm3", json!({"use_sliding_window": true, "sliding_window": 8})),
        ("exaone4", json!({})),
        ("exaone4", json!({"sliding_window": null})),
        ("exaone4", json!({"sliding_window_pattern": "LG"})),
        ("exaone_moe", json!({"num_key_value_heads": "-", "num_attention_heads": "-", "sliding_window": 8})),
        ("modernbert", json!({})),
        (
            "modernbert",
            json!({"local_attention": 16, "global_attn_every_n_layers": 2, "global_rope_theta": 1e5, "local_rope_theta": 2e4})
        ),
        ("jamba", json!({})),
        ("lfm2", json!({"full_attn_idxs": [2, 5]})),
        (
            "lfm2_moe",
            json!({"layer_types": ["conv", "conv", "full_attention", "conv", "conv", "full_attention", "conv", "conv"],
            "num_key_value_heads": "-", "num_attention_heads": "-", "head_dim": "-"})
        ),
        ("qwen2", json!({"layer_types": kinds, "use_sliding_window": true})),
    ]));
}

#[test]
fn families_without_a_rotation_and_latent_attention() {
    insta::assert_snapshot!(report(&[
        ("gpt2", json!({"head_dim": "-"})),
        ("gpt2", json!({"scale_attn_by_inverse_layer_idx": true})),
        ("gpt2", json!({"scale_attn_weights": false})),
        ("gpt_bigcode", json!({})),
        ("gpt_bigcode", json!({"multi_query": false})),
        ("opt", json!({})),
        ("gpt_neo", json!({})),
        ("gpt_neo", json!({"is_causal": false})),
        ("gpt_neo", json!({"attention_types": [[["global"], 3], [["local", "global"], 4]], "window_size": 4})),
        ("bloom", json!({})),
        ("mpt", json!({"attn_config": {"alibi_bias_max": 16, "softmax_scale": 0.5}})),
        ("mpt", json!({"attn_config": {"alibi": false}})),
        // As it was saved once, with all that configurations have.
        (
            "mpt",
            json!({"attn_config": {"_name_or_path": "", "attn_impl": "torch", "attn_type": "multihead_attention", "chunk_size_feed_forward": 0,
            "is_decoder": false, "num_beams": 1, "output_attentions": false, "pruned_heads": {}, "sliding_window_size": -1, "torch_dtype": null}})
        ),
        ("falcon", json!({})),
        ("falcon", json!({"multi_query": false, "num_key_value_heads": "-", "num_kv_heads": 2})),
        ("falcon", json!({"multi_query": false})),
        ("falcon", json!({"alibi": true})),
        ("t5", json!({"d_kv": 16})),
        (
            "umt5",
            json!({"d_kv": 16, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "is_decoder": true})
        ),
        ("deepseek_v2", json!({"num_key_value_heads": "-"})),
        (
            "deepseek_v3",
            json!({"num_key_value_heads": 4, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "rope_interleave": false})
        ),
        (
            "deepseek_v3",
            json!({"num_key_value_heads": "-", "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1}})
        ),
        ("deepseek_v3", json!({"num_key_value_heads": "-", "qk_head_dim": 192, "head_dim": 64})),
        ("youtu", json!({"num_attention_heads": "-", "num_key_value_heads": "-", "rope_interleave": false})),
        ("glm4_moe_lite", json!({"num_attention_heads": "-", "num_key_value_heads": "-"})),
        (
            "glm4_moe_lite",
            json!({"num_key_value_heads": "-", "rope_scaling": {"type": "yarn", "factor": 4, "mscale_all_dim": 0.7,
            "original_max_position_embeddings": 16}})
        ),
        ("mistral4", json!({"num_key_value_heads": "-"})),
        ("glm_moe_dsa", json!({"num_key_value_heads": "-"})),
        (
            "deepseek_v4",
            json!({"num_key_value_heads": 1, "compress_ratios": [0, 4, 128, 0, 4, 128, 0, 0], "qk_rope_head_dim": 8})
        ),
    ]));
}

#[test]
fn rotations_in_both_spellings() {
    let both = |rope: Value| [json!({ "rope_parameters": rope }), json!({ "rope_scaling": rope })];
    let types = [
        json!({"rope_type": "linear", "factor": 4.0}),
        json!({"type": "dynamic", "factor": 2.0}),
        json!({"rope_type": "yarn", "factor": 4.0}),
        json!({"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 16, "truncate": false, "beta_fast": 16, "attention_factor": 1.5}),
        json!({"rope_type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [1, 2, 3, 4, 5, 6, 7, 8],
            "original_max_position_embeddings": 16, "rope_theta": 5e5}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
        json!({"rope_type": "proportional", "partial_rotary_factor": 0.5}),
        json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
    ];
    let mut cases: Vec<(&str, Value)> = types.into_iter().flat_map(both).map(|more| ("llama", more)).collect();
    // In Phi-3 both are LongRoPE's names, and the length trained on is the model's.
    let lists =
        json!({"type": "yarn", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2, 2, 2]});
    cases.push(("phi3", json!({"rope_scaling": lists, "max_position_embeddings": 131_072})));
    cases.push(("phi3", json!({"rope_scaling": lists, "original_max_position_embeddings": 32})));
    // One for each kind of layers.
    cases.push(("gpt_oss", json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}, "sliding_attention": null}})));
    let report = report(&cases);
    for (new, old) in report.split("llama ").skip(1).collect::<Vec<_>>().chunks_exact(2).map(|pair| (pair[0], pair[1]))
    {
        assert_eq!(
            new.split_once('\n').expect("lines").1,
            old.split_once('\n').expect("lines").1.split("phi3").next().expect("a part")
        );
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_text_model_inside_is_found() {
    let text: Value = serde_json::from_str(&config("gemma3_text", &json!({}))).expect("JSON");
    let file = json!({"model_type": "gemma3", "text_config": text, "vision_config": {"num_attention_heads": 16}});
    let outer = summary(&layer(&file.to_string(), 5, false).expect("a layer"));
    assert_eq!(outer, summary(&layer(&text.to_string(), 5, false).expect("a layer")));
    // An old file, whose text model has no name.
    let mut unnamed = file.clone();
    unnamed["text_config"].as_object_mut().expect("an object").remove("model_type");
    assert_eq!(outer, summary(&layer(&unnamed.to_string(), 5, false).expect("a layer")));
    // Errors tell where.
    let mut wrong = file;
    wrong["text_config"]["rope_parameters"] = json!({"full_attention": {"rope_type": "linear"}});
    let error = layer(&wrong.to_string(), 5, false).expect_err("no factor");
    assert_eq!(error.finding(), "key `text_config.rope_parameters.full_attention.factor` is missing");
}

#[test]
fn decoders_and_encoders() {
    let text = config("t5", &json!({"d_kv": 16}));
    let (encoder, decoder) = (layer(&text, 0, false), layer(&text, 0, true));
    let (encoder, decoder) = (summary(&encoder.expect("a layer")), summary(&decoder.expect("a layer")));
    assert!(decoder.contains("causal") && !encoder.contains("causal"), "{encoder}\n{decoder}");
    // Decoders may have more layers than encoders.
    let text = config("t5", &json!({"d_kv": 16, "num_decoder_layers": 9}));
    layer(&text, 8, true).expect("a layer of the decoder");
    assert_eq!(
        layer(&text, 8, false).expect_err("no layer").finding(),
        "there is no layer 8: the model has 8, counted from 0"
    );
    assert_eq!(
        layer(&text, 9, true).expect_err("no layer").finding(),
        "there is no layer 9: the model has 9, counted from 0"
    );
}

#[test]
fn what_is_refused() {
    let cases = [sizes_and_keys(), rotations(), families()].into_iter().flatten();
    let mut report = String::new();
    for (name, more) in cases {
        let text = config(name, &more);
        // The second layer shows what the first does not.
        let error = layer(&text, 0, false).err().or_else(|| layer(&text, 1, false).err());
        let error = error.unwrap_or_else(|| panic!("{name} {more} is taken"));
        report += &format!("{name} {more}\n  {error}\n\n");
    }
    insta::assert_snapshot!(report);
}

/// Families, sizes and keys that there are not.
fn sizes_and_keys() -> Vec<(&'static str, Value)> {
    vec![
        ("lama", json!({})),
        ("xlstm", json!({})),
        ("llama", json!({"num_hidden_layers": "-", "num_hiden_layers": 8})),
        ("llama", json!({"num_hidden_layers": 3.5})),
        ("llama", json!({"num_attention_heads": 0})),
        ("llama", json!({"num_attention_heads": -4})),
        ("llama", json!({"num_attention_heads": "four"})),
        ("llama", json!({"num_attention_heads": 1e300})),
        ("llama", json!({"num_key_value_heads": 3})),
        ("llama", json!({"hidden_size": "-", "head_dim": null})),
        ("llama", json!({"hidden_size": 2, "head_dim": null})),
        ("llama", json!({"n_head": 8})),
        ("llama", json!({"rope_tetha": 5e5})),
        ("llama", json!({"sliding_widow": 8})),
        ("llama", json!({"use_logn_attn": true})),
        ("llama", json!({"causal_attention": false})),
        ("llama", json!({"logit_soft_cap": 30.0})),
        ("llama", json!({"position_embedding_type": "relative_key"})),
        ("llama", json!({"head_dim": null, "hidden_size": 66})),
        ("gpt2", json!({"head_dim": "-", "hidden_size": "-", "num_attention_heads": "-", "n_embd": 70, "n_head": 4})),
        ("falcon", json!({"multi_query": false, "num_key_value_heads": "-", "num_kv_heads": 3})),
    ]
}

/// How `rope` is told.
fn rotations() -> Vec<(&'static str, Value)> {
    vec![
        ("llama", json!({"rope_theta": -1})),
        ("llama", json!({"rope_theta": "10000"})),
        ("llama", json!({"rope_scaling": 4.0})),
        ("llama", json!({"rope_scaling": {"rope_type": "yarm", "factor": 4.0}})),
        ("llama", json!({"rope_scaling": {"rope_type": "spiral", "factor": 4.0}})),
        ("llama", json!({"rope_scaling": {"rope_type": "axial"}})),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 4.0}})),
        ("llama", json!({"rope_scaling": {"rope_type": "linear"}})),
        ("llama", json!({"rope_scaling": {"factor": 4.0}})),
        ("llama", json!({"rope_parameters": {"rope_theta": 5e5, "factor": 4.0}})),
        ("llama", json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0}}})),
        ("llama", json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "high_freq_factor": 4}})),
        ("llama", json!({"rope_scaling": {"rope_type": "linear", "factor": 0}})),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn"}})),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4, "betafast": 32}})),
        ("llama", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 0}})),
        ("llama", json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4}, "max_position_embeddings": "-"})),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}}),
        ),
        ("llama", json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 2], "long_factor": [1, 2]}})),
        ("llama", json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 2, 3, 4, 5, 6, 7, "8"]}})),
        ("llama", json!({"partial_rotary_factor": 0.2})),
        ("llama", json!({"partial_rotary_factor": 1.5})),
        ("llama", json!({"head_dim": 15})),
    ]
}

/// What a family refuses.
fn families() -> Vec<(&'static str, Value)> {
    vec![
        ("qwen2_vl", json!({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})),
        (
            "phi3",
            json!({"rope_scaling": {"type": "su", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [1, 1, 1, 1, 1, 1, 1, 1],
            "short_mscale": 1.1, "long_mscale": 1.3}}),
        ),
        ("gemma2", json!({"layer_types": ["full_attention"]})),
        ("gemma2", json!({"layer_types": ["full_atention", "a", "a", "a", "a", "a", "a", "a"]})),
        ("gemma2", json!({"layer_types": ["linear_attention", "a", "a", "a", "a", "a", "a", "a"]})),
        ("gemma2", json!({"layer_types": [1, 2, 3, 4, 5, 6, 7, 8]})),
        ("gemma2", json!({"sliding_window": null})),
        ("gemma2", json!({"sliding_window": 0})),
        ("gemma2", json!({"attn_logit_softcapping": -50})),
        ("gemma3_text", json!({"rope_parameters": {"rope_type": "linear", "factor": 8}})),
        ("gemma3_text", json!({"use_bidirectional_attention": "sometimes"})),
        ("gpt_oss", json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}})),
        ("cohere2", json!({"head_dim": 32})),
        ("qwen3_next", json!({})),
        ("jamba", json!({})),
        ("lfm2", json!({"full_attn_idxs": [2]})),
        ("lfm2_moe", json!({"full_attn_idxs": [0, 1, 2]})),
        ("qwen3_5_moe_text", json!({})),
        ("youtu", json!({"num_key_value_heads": 2})),
        ("deepseek_v3", json!({"num_key_value_heads": 2})),
        ("deepseek_v3", json!({"num_key_value_heads": 4, "qk_head_dim": 128})),
        ("glm_moe_dsa", json!({"num_key_value_heads": 4})),
        ("ministral3", json!({"rope_parameters": {"rope_type": "yarn", "factor": 16}})),
        ("smollm3", json!({"no_rope_layers": [1, 0]})),
        ("smollm3", json!({"no_rope_layers": [2, 0, 0, 0, 0, 0, 0, 0]})),
        ("gpt_neo", json!({"attention_types": [[["global", "globl"], 4]]})),
        ("gpt_neo", json!({"attention_types": [[["local"], 0], 4]})),
        ("mpt", json!({"attn_config": {"prefix_lm": true}})),
        ("mpt", json!({"attn_config": {"alibi_bias_mx": 16}})),
        ("mpt", json!({"attn_config": {"alibi": false, "rope": true, "rope_theta": 5e5}})),
        ("mpt", json!({"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}})),
        ("mpt", json!({"attn_config": {"sliding_window_size": 128}})),
        ("t5", json!({"relative_attention_max_distance": 4})),
    ]
}

#[test]
fn texts_that_are_no_configuration() {
    let deep = "[".repeat(100_000);
    let mut report = String::new();
    for text in [
        "",
        "{",
        "[]",
        "7",
        "{\"model_type\": 7}",
        "{}",
        "{\"text_config\": []}",
        "{\"model_type\": \"llama\", \"x\": 1e999}",
        &deep,
    ] {
        let error = ModelConfig::from_json(text).expect_err("no configuration");
        report += &format!("{}\n  {error}\n\n", text.chars().take(40).collect::<String>());
    }
    let far = ModelConfig::from_json(&config("llama", &json!({"num_hidden_layers": 1_000_000_000}))).expect("a model");
    assert_eq!(far.layers(), 1_000_000_000);
    far.layer(999_999_999).expect("the last layer");
    let error = far.layer(1_000_000_000).expect_err("no such layer");
    report += &format!("{error}\n");
    insta::assert_snapshot!(report);
}

#[test]
fn what_has_nothing_to_do_with_attention_passes() {
    let more = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "pad_token_id": null, "attention_dropout": 0.1, "attention_bias": true,
        "rms_norm_eps": 1e-6, "quantization_config": {"bits": 4}, "auto_map": {"AutoConfig": "x"}, "tie_word_embeddings": false,
        "use_cache": true, "sliding_window_of_tomorrow": false, "rope_of_tomorrow": null, "some_new_thing": 3,
    });
    assert_eq!(
        layers("llama", &more).split_once('\n').map(|(_, rest)| rest.to_owned()),
        layers("llama", &json!({})).split_once('\n').map(|(_, rest)| rest.to_owned())
    );
}
