//! Each golden case as an attention that a user would write, with the tensors to bind.

use std::f64::consts::PI;

use rhumb::plugins::AlibiForm;
use rhumb::plugins::AttentionParts;
use rhumb::plugins::schemes::rope2d::{Bands, Coordinates, Layout, Order};
use rhumb::prelude::*;

use super::Golden;
use crate::common::{Tensor, Tensors};

/// What a case needs that rhumb has no scheme for.
pub(crate) const UNCOVERED: &[(&str, &str)] = &[
    ("xpos_torchscale_odd", "no xPos"),
    ("xpos_xtransformers", "no xPos"),
    ("rope3d_vjepa2_quirk", "no 3D RoPE"),
    ("rope3d_cogvideox", "no 3D RoPE"),
    ("rope3d_wan", "no 3D RoPE"),
    ("ropend_time_latlon_float", "no 3D RoPE"),
    ("swinv2_cpb_cosine", "no normalised queries and keys, no network over coordinates"),
    ("cope_xtransformers", "no cumulative sums over keys"),
    ("pope_polar", "no polar features of queries and keys"),
    ("shaw_relative_key", "no products of queries with tables of relative positions"),
    ("deberta_v2_disentangled", "no products of queries with tables of relative positions"),
    ("vitdet_decomposed_relpos", "no products of queries with tables of relative positions"),
    ("retnet_retention", "no attention without softmax"),
    ("fire", "no network over distances"),
    ("dape_alibi", "no network over heads"),
];

/// An attention, and what to bind besides `q`, `k` and `v`.
pub(crate) struct Setup {
    pub(crate) attention: Attention,
    pub(crate) inputs: Tensors,
    /// Whether the rotated queries and keys of the golden are what the key hooks make.
    pub(crate) rotates: bool,
}

/// The setup of a covered case.
pub(crate) fn setup(golden: &Golden) -> Setup {
    let (q, k, v) = (golden["q"].shape(), golden["k"].shape(), golden["v"].shape());
    let (queries, keys) = (q[2], k[2]);
    let mut inputs = Tensors::new();
    let mut a = Attention::new(q[1] as u32, q[3] as u32)
        .kv_heads(k[1] as u32)
        .value_dim(v[3] as u32)
        .scale(golden.number("scale"));
    if golden.has("lse") {
        a = a.lse();
    }
    if let Some(offset) = golden.meta["mask"]["q_offset"].as_i64() {
        a = a.q_offset(offset as i32);
    }
    for (name, len) in [("q_pos", queries), ("k_pos", keys)] {
        if golden.has(name) && golden[name].shape() == [q[0], len] {
            let elem = golden[name].elem();
            a = if name == "q_pos" { a.q_positions(elem, Batch::Each) } else { a.k_positions(elem, Batch::Each) };
            inputs.insert(name.to_owned(), golden[name].clone());
        }
    }

    let positions = inputs.contains_key("k_pos");
    let a = scheme(golden, a, &mut inputs);
    let a = mask(golden, a, &mut inputs);
    // Rotations by tensors of coordinates need those of queries for queries.
    let grid = golden.name.starts_with("rope2d") && !inputs.contains_key("k_y") && !inputs.contains_key("fx");
    let deinterleaved = golden.meta["params"].get("output_layout").is_some();
    let repeated = golden.name == "rope2d_sam2_cross";
    let rotates = golden.has("k_rot") && (positions || grid) && !deinterleaved && !repeated;
    Setup { attention: a, inputs, rotates }
}

fn scheme(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    let params = &golden.meta["params"];
    let param = |name: &str| params[name].as_f64().unwrap_or_else(|| panic!("{}: `{name}`", golden.name));
    let rope = || {
        let rope = Rope::new().rotary_dim(param("rotary_dim") as u32);
        if params["pairing"] == "interleaved" { rope.interleaved() } else { rope }
    };
    let by_base = || rope().base(param("base"));
    match golden.name.as_str() {
        "rope_half_causal_gqa"
        | "rope_half_noncausal_h3"
        | "rope_half_decode_offset"
        | "rope_half_float_positions"
        | "rope_packed_documents"
        | "rope_half_abf_base500k"
        | "rope_interleaved_cohere"
        | "rope_interleaved_partial_gptj"
        | "rope_partial_half_neox"
        | "rope_partial_interleaved_glm" => a.scheme(by_base()),
        name if name.starts_with("rope_") => scaled_rope(golden, a),
        name if name.starts_with("mrope_") => mrope(golden, a, inputs),
        "nope_llama4_temperature" => a.score_with(|cx, score| {
            score * (1.0 + 0.1 * (1.0 + ((cx.q_pos() + 1).cast(Elem::F32) / 16.0).floor()).log())
        }),
        "ministral3_temperature" => {
            a.score_with(|cx, score| score * (1.0 + 0.1 * (1.0 + (cx.q_pos().cast(Elem::F32) / 16.0).floor()).log()))
        }
        name if name.starts_with("rope2d") || name.starts_with("ropend") => rope2d(golden, a, inputs),
        "nope_causal_gqa" | "nope_full_dv" => a,
        "alibi_bloom_pow2" | "alibi_bloom_nonpow2_h6" => a.scheme(Alibi::new().form(AlibiForm::Key)),
        "alibi_mpt_nonpow2_h6" => a.scheme(Alibi::new().form(AlibiForm::Last)),
        "alibi_symmetric_encoder" | "alibi_sliding_window" => a.scheme(Alibi::new().symmetric()),
        "alibi_dynamic_active"
        | "alibi_dynamic_inactive"
        | "alibi_dynamic_bidirectional"
        | "alibi_dynamic_cerebras" => {
            a.scheme(DynamicAlibi::new(param("train_seq_len") as i32).alibi(Alibi::new().symmetric()))
        }
        "alibi2d_croma" | "alibi2d_croma_original_h6" => {
            coordinates(golden, inputs, 0);
            a.score_with(|cx, score| {
                let along = |q: &str, k: &str| {
                    let (q, k) = (cx.input(q, Elem::I32, [cx.q]), cx.input(k, Elem::I32, [cx.k]));
                    (q - k).cast(Elem::F32)
                };
                let (dy, dx) = (along("q_y", "k_y"), along("q_x", "k_x"));
                let slopes = Alibi::official_slopes(cx.heads().expect("a static count"));
                score - cx.per_head(slopes).expect("a slope per head") * (dy * dy + dx * dx).sqrt()
            })
        }
        "softcap_gemma2" | "softcap_gemma2_sliding" => a.softcap(param("softcap")),
        "sinks_gptoss_sliding" => {
            inputs.insert("sinks".to_owned(), golden["sinks"].clone());
            a.sinks()
        }
        "off_by_one_softmax" => a.sink(0.0),
        "sandwich" => a.score_with(|cx, score| {
            let (distance, heads) = (cx.q_index() - cx.k_index(), f64::from(cx.heads().expect("a static count")));
            let wave = |i: i32| (distance * 1e4f64.powf(-2.0 * f64::from(i) / 128.0)).cos();
            let sum = (1..64).fold(wave(0), |sum, i| sum + wave(i));
            score + sum * (heads / (8.0 * (cx.head().expect("heads") + 1).cast(Elem::F32)))
        }),
        "kerple_log" | "kerple_power" => {
            for name in ["p", "a"] {
                inputs.insert(name.to_owned(), golden[name].clone());
            }
            let log = golden.name == "kerple_log";
            a.score_with(move |cx, score| {
                let learned = |name: &str| cx.input(name, Elem::F32, [cx.h]).max(0.01);
                let (p, a) = (learned("p"), learned("a"));
                let distance = (cx.q_pos() - cx.k_pos()).max(0);
                score - if log { p * (1.0 + a * distance).log() } else { a * distance.pow(p.min(2.0)) }
            })
        }
        // No scheme here: the bias comes as a tensor.
        "t5_bidirectional"
        | "t5_causal"
        | "swin_table"
        | "beit_table_cls"
        | "forget_gate_alibi"
        | "alibi_falcon_scaled" => {
            inputs.insert("bias".to_owned(), golden["bias"].clone());
            a.bias(Batch::Shared)
        }
        name if name.starts_with("mask_") => a,
        name => panic!("`{name}` is neither covered nor named as uncovered"),
    }
}

/// A rotation whose frequencies are scaled, by the kind of scaling.
fn scaled_rope(golden: &Golden, a: Attention) -> Attention {
    let (params, scaling) = (&golden.meta["params"], &golden.meta["params"]["scaling"]);
    let number = |name: &str| scaling[name].as_f64().unwrap_or_else(|| panic!("{}: `{name}`", golden.name));
    let list = |name: &str| -> Vec<f64> {
        let list = scaling[name].as_array().unwrap_or_else(|| panic!("{}: `{name}`", golden.name));
        list.iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    let base = params["base"].as_f64().expect("a base");
    let rotary_dim = params["rotary_dim"].as_u64().expect("a dimension") as u32;
    let pairing = if params["pairing"] == "interleaved" { Pairing::Interleaved } else { Pairing::Half };
    let train = || number("original_max_position") as i32;
    match scaling["type"].as_str().expect("a kind of scaling") {
        "linear" => a.scheme(Rope::new().base(base).pairing(pairing).rotary_dim(rotary_dim).factor(number("factor"))),
        "ntk" => a.scheme(Rope::new().base(base).pairing(pairing).rotary_dim(rotary_dim).ntk(number("factor"))),
        "dynamic_ntk" => a.scheme(DynamicNtk::new(number("factor"), train()).base(base)),
        "llama3" => {
            let rope = Llama3Rope::new().base(base).factor(number("factor")).train_length(train());
            a.scheme(rope.turns(number("low_freq_factor"), number("high_freq_factor")))
        }
        "proportional" => a.scheme(ProportionalRope::new(number("partial_rotary_factor")).base(base)),
        "yarn" => {
            let yarn = Yarn::new(number("factor"), train()).base(base).rotary_dim(rotary_dim);
            let yarn = yarn.pairing(pairing).betas(number("beta_fast"), number("beta_slow"));
            let yarn = yarn.start(params["rotary_start"].as_u64().unwrap_or(0) as u32);
            let yarn = if scaling["truncate"] == false { yarn.untruncated() } else { yarn };
            a.scheme(match scaling["mscale"].as_f64() {
                Some(mscale) => yarn.mscales(mscale, number("mscale_all_dim")),
                None => yarn,
            })
        }
        "longrope" => {
            let rope = LongRope::new(train(), list("short_factor"), list("long_factor")).base(base);
            let rope = rope.rotary_dim(rotary_dim).factor(number("max_position") / f64::from(train()));
            // Positions may reach beyond the number of keys.
            a.length(number("seq_len") as i32).scheme(rope)
        }
        other => panic!("{}: a scaling `{other}`", golden.name),
    }
}

/// A rotation by positions in time, height and width.
fn mrope(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    let params = &golden.meta["params"];
    let number = |value: &serde_json::Value| value.as_u64().expect("a whole number") as u32;
    let sections: Vec<u32> = params["mrope_section"].as_array().expect("sections").iter().map(number).collect();
    let layout = match params["layout"].as_str().expect("a layout") {
        "sections" => AxisLayout::Blocks,
        "interleaved" => AxisLayout::Interleaved,
        "ernie_hw_interleaved_t_last" => AxisLayout::FastSpace,
        other => panic!("{}: a layout `{other}`", golden.name),
    };
    let pairing = if params["pairing"] == "interleaved" { Pairing::Interleaved } else { Pairing::Half };
    let (base, rotary_dim) = (params["base"].as_f64().expect("a base"), number(&params["rotary_dim"]));
    for name in ["q_pos", "k_pos"] {
        inputs.insert(name.to_owned(), golden[name].clone());
    }
    a.scheme_with(move |cx| {
        let axis = cx.builder().axis_of("axis", 3);
        let (q, k) =
            (cx.input("q_pos", Elem::I32, [cx.b, cx.q, axis]), cx.input("k_pos", Elem::I32, [cx.b, cx.k, axis]));
        MRope::new(sections.clone(), q, k).layout(layout).base(base).pairing(pairing).rotary_dim(rotary_dim)
    })
}

fn rope2d(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    match golden.name.as_str() {
        "rope2d_eva02_timm" => a.scheme(Rope2d::grid(5, 7).interleaved().reference(16.0, 16.0).prefix(1)),
        "rope2d_timm_pixel_bands" => {
            let top = 224f64.log2() - 1.0;
            let bands: Vec<f64> = (0..8).map(|band| PI * (top * f64::from(band) / 7.0).exp2()).collect();
            let grid = Rope2d::grid(6, 5).interleaved().coordinates(Coordinates::Corners);
            a.scheme(grid.frequencies(bands))
        }
        "rope2d_pixtral" => a.scheme(Rope2d::grid(7, 5).bands(Bands::Alternating)),
        "rope2d_llama4_vision" => a.scheme(Rope2d::grid(5, 5).interleaved().order(Order::Xy).index_offset(1.0)),
        "rope2d_dinov3_hf" => {
            let grid = Rope2d::grid(4, 7).base(100.0).coordinates(Coordinates::Centres);
            a.scheme(grid.scale(2.0 * PI).prefix(5))
        }
        "rope2d_sam2_cross" => a.q_offset(0).scheme(Rope2d::grid(5, 5).interleaved().order(Order::Xy).repeat(2)),
        "rope2d_gemma4_vision" => a.scheme(Rope2d::grid(6, 5).base(100.0).layout(Layout::Split)),
        "rope2d_mixed_timm" => {
            let frequencies = &golden["freqs"];
            let pairs = frequencies.shape()[2] as u32;
            inputs.insert("fx".to_owned(), frequencies.first_index(0));
            inputs.insert("fy".to_owned(), frequencies.first_index(1));
            a.scheme_with(move |cx| {
                let pair = cx.builder().axis_of("pairs", pairs);
                let learned = |name| cx.input(name, Elem::F32, [cx.h, pair]);
                Rope2d::grid(6, 6).prefix(1).interleaved().learned(learned("fy"), learned("fx"))
            })
        }
        "rope2d_qwen2vl_vision" => {
            coordinates(golden, inputs, 0);
            a.scheme_with(|cx| at(cx, Elem::I32))
        }
        "ropend_latlon_float" => {
            coordinates(golden, inputs, 0);
            a.scheme_with(|cx| at(cx, Elem::F32).interleaved())
        }
        "ropend_lightglue_learned" => {
            coordinates(golden, inputs, 1);
            inputs.insert("fx".to_owned(), golden["proj"].column(0));
            inputs.insert("fy".to_owned(), golden["proj"].column(1));
            a.scheme_with(|cx| {
                let pair = cx.builder().axis_of("pairs", 32);
                let learned = |name| cx.input(name, Elem::F32, [pair]);
                let (fy, fx) = (learned("fy"), learned("fx"));
                at(cx, Elem::F32).interleaved().learned(fy, fx)
            })
        }
        name => panic!("`{name}` is neither covered nor named as uncovered"),
    }
}

/// A rotation by coordinates from the inputs `q_y`, `q_x`, `k_y` and `k_x`.
fn at(cx: &AttentionParts<'_>, elem: Elem) -> Rope2d {
    let (q, k) = (|name| cx.input(name, elem, [cx.q]), |name| cx.input(name, elem, [cx.k]));
    Rope2d::at(q("q_y"), q("q_x"), k("k_y"), k("k_x"))
}

/// Binds the columns of the golden's positions: `y` is column `first` of the two.
fn coordinates(golden: &Golden, inputs: &mut Tensors, first: usize) {
    for side in ["q", "k"] {
        let positions = &golden[format!("{side}_pos").as_str()];
        inputs.insert(format!("{side}_y"), positions.column(first));
        inputs.insert(format!("{side}_x"), positions.column(1 - first));
    }
}

fn mask(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    let mask = &golden.meta["mask"];
    let int = |name: &str| mask[name].as_i64().unwrap_or_else(|| panic!("{}: `{name}`", golden.name)) as i32;
    match mask["type"].as_str().expect("a type") {
        "none" => a,
        "causal" => a.scheme(Causal),
        "sliding_window_causal" => a.scheme(SlidingWindow::new(int("window"))),
        "sliding_window_symmetric" => a.scheme(SlidingWindow::new(int("window")).symmetric()),
        "chunked_causal" => a.scheme(Chunked::new(int("chunk"))).scheme(Causal),
        "prefix_lm" => a.scheme(PrefixLm::new(int("prefix"))),
        "dilated_symmetric" => a.scheme(Dilated::new(int("window"), int("dilation"))),
        "document_causal" => {
            let lengths =
                mask["lengths"].as_array().expect("lengths").iter().map(|len| len.as_u64().expect("a length"));
            let ids: Vec<i32> = lengths.zip(0..).flat_map(|(len, id)| vec![id; len as usize]).collect();
            for name in ["q_documents", "k_documents"] {
                inputs.insert(name.to_owned(), Tensor::i32([ids.len()], ids.clone()));
            }
            a.documents(Batch::Shared).scheme(Causal)
        }
        // 3x3 neighbourhoods in a grid of 7x7, moved inside at the edges.
        "neighborhood_2d" => a.mask_with(|cx| {
            let (i, j) = (cx.q_index(), cx.k_index());
            let (row, column) = ((i / 7).max(1).min(5), (i % 7).max(1).min(5));
            ((j / 7) - row).abs().le(1) & ((j % 7) - column).abs().le(1)
        }),
        // Blocks of 6 in a noised sequence of 24, then in the clean one (arXiv 2503.09573).
        "block_diffusion" => a.mask_with(|cx| {
            let (i, j) = (cx.q_index(), cx.k_index());
            let (noised_query, noised_key) = (i.lt(24), j.lt(24));
            let (q_block, k_block) = ((i % 24) / 6, (j % 24) / 6);
            (noised_query & noised_key & q_block.eq(k_block))
                | (noised_query & !noised_key & k_block.lt(q_block))
                | (!noised_query & !noised_key & k_block.le(q_block))
        }),
        other => panic!("{}: mask `{other}`", golden.name),
    }
}
