//! Each golden case as an attention that a user would write, with the tensors to bind.

use std::f64::consts::PI;

use rhumb::plugins::AlibiForm;
use rhumb::plugins::AttentionParts;
use rhumb::plugins::schemes::rope2d::{Bands, Coordinates, Layout, Order};
use rhumb::prelude::*;

use super::Golden;
use crate::common::{Tensor, Tensors};

/// What a case needs that rhumb has no scheme for.
pub(crate) const UNCOVERED: &[(&str, &str)] = &[];

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
    let mut a = Attention::heads(q[1] as u32)
        .head_dim(q[3] as u32)
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
    // Here queries are scaled inversely to keys.
    let inverse = golden.name.starts_with("xpos");
    let rotates = golden.has("k_rot") && (positions || grid) && !deinterleaved && !repeated && !inverse;
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
        "nope_llama4_temperature" => a.scheme(Temperature::llama4(16)),
        "ministral3_temperature" => a.scheme(Temperature::new(16)),
        "xpos_torchscale_odd" | "xpos_xtransformers" => {
            a.scheme(XPos::new().scale_base(param("scale_base")).center(param("center")))
        }
        "rope3d_cogvideox" | "rope3d_wan" | "rope3d_vjepa2_quirk" | "ropend_time_latlon_float" => {
            axial(golden, a, inputs)
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
        "alibi_falcon_scaled" => a.scheme(Alibi::falcon(golden["q"].shape()[3] as u32)),
        "alibi2d_croma" | "alibi2d_croma_original_h6" => {
            coordinates(golden, inputs, 0);
            a.scheme_with(|cx| {
                let (q, k) = (|name| cx.input(name, Elem::I32, [cx.q]), |name| cx.input(name, Elem::I32, [cx.k]));
                Alibi2d::at(q("q_y"), q("q_x"), k("k_y"), k("k_x"))
            })
        }
        "softcap_gemma2" | "softcap_gemma2_sliding" => a.softcap(param("softcap")),
        "sinks_gptoss_sliding" => {
            inputs.insert("sinks".to_owned(), golden["sinks"].clone());
            a.sinks()
        }
        "off_by_one_softmax" => a.sink(0.0),
        "sandwich" => a.scheme(Sandwich::new()),
        name if name.starts_with("mask_") => a,
        _ => learned(golden, a, inputs),
    }
}

/// Schemes of learned tensors, which are inputs.
fn learned(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    for name in [
        "table",
        "p",
        "a",
        "log_f",
        "mlp_w1",
        "mlp_b1",
        "mlp_w2",
        "mlp_b2",
        "logit_scale",
        "learned_bias",
        "rel_h",
        "rel_w",
        "pos_key",
        "pos_query",
        "pos_emb",
    ] {
        if golden.has(name) {
            inputs.insert(name.to_owned(), golden[name].clone());
        }
    }
    match golden.name.as_str() {
        "t5_bidirectional" => {
            a.scheme_with(|cx| T5::new(cx.input("table", Elem::F32, [fixed(cx, "bucket", 32), cx.h])))
        }
        "t5_causal" => a.scheme_with(|cx| {
            T5::new(cx.input("table", Elem::F32, [fixed(cx, "bucket", 32), cx.h])).causal().buckets(32, 64)
        }),
        "swin_table" => {
            a.scheme_with(|cx| WindowTable::new(cx.input("table", Elem::F32, [fixed(cx, "offset", 117), cx.h]), 5, 7))
        }
        "beit_table_cls" => a.scheme_with(|cx| {
            WindowTable::new(cx.input("table", Elem::F32, [fixed(cx, "offset", 66), cx.h]), 5, 4).class_token()
        }),
        "kerple_log" | "kerple_power" => {
            let log = golden.name == "kerple_log";
            a.scheme_with(move |cx| {
                let [p, a] = ["p", "a"].map(|name| cx.input(name, Elem::F32, [cx.h]));
                if log { Kerple::log(p, a) } else { Kerple::power(p, a) }
            })
        }
        "forget_gate_alibi" => {
            a.scheme_with(|cx| ForgetGate::new(cx.input("log_f", Elem::F32, [cx.h, cx.builder().axis("token")])))
        }
        "fire" => {
            inputs.insert("mlp_w1".to_owned(), golden["mlp_w1"].column(0));
            a.scheme_with(|cx| {
                let unit = fixed(cx, "unit", 32);
                let w2 = cx.input("mlp_w2", Elem::F32, [cx.h, unit]);
                let [w1, b1] = ["mlp_w1", "mlp_b1"].map(|name| cx.input(name, Elem::F32, [unit]));
                Fire::new(w1, b1, w2).output_bias(cx.input("mlp_b2", Elem::F32, [cx.h])).threshold(16.0)
            })
        }
        "swinv2_cpb_cosine" => {
            a.scheme_with(|cx| QkNorm::l2().logit_scale(cx.input("logit_scale", Elem::F32, [cx.h]))).scheme_with(|cx| {
                let unit = fixed(cx, "unit", 512);
                let w1 = cx.input("mlp_w1", Elem::F32, [unit, fixed(cx, "coordinate", 2)]);
                let b1 = cx.input("mlp_b1", Elem::F32, [unit]);
                ContinuousBias::new(w1, b1, cx.input("mlp_w2", Elem::F32, [cx.h, unit]), [6, 6])
            })
        }
        "retnet_retention" => {
            let scale = golden.meta["params"]["k_prescale"].as_f64().expect("a scale");
            a.scale(scale).scheme(Retention::new()).weights_with(|_, score| score)
        }
        _ => by_content(golden, a, inputs),
    }
}

/// Schemes of learned tensors that queries and keys meet.
fn by_content(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    match golden.name.as_str() {
        "pope_polar" => a.scheme_with(|cx| {
            Pope::new(cx.query(), cx.key()).phases(cx.input("learned_bias", Elem::F32, [cx.h, cx.d]))
        }),
        "shaw_relative_key" => a.scheme_with(|cx| {
            Shaw::new(cx.query(), cx.input("table", Elem::F32, [fixed(cx, "distance", 22), cx.d]), 16, 5)
        }),
        "vitdet_decomposed_relpos" => a.scheme_with(|cx| {
            let table = |name, length| cx.input(name, Elem::F32, [fixed(cx, name, length), cx.d]);
            Decomposed::new(cx.query(), table("rel_h", 11), table("rel_w", 9), [6, 5])
        }),
        "deberta_v2_disentangled" => a.scheme_with(|cx| {
            let table = |name| cx.input(name, Elem::F32, [cx.h, fixed(cx, name, 16), cx.d]);
            let scheme = Deberta::new(cx.query(), cx.key()).buckets(8, 64);
            scheme.position_keys(table("pos_key")).position_queries(table("pos_query"))
        }),
        "dape_alibi" => {
            inputs.insert("keys".to_owned(), golden["k"].clone());
            a.scheme_with(|cx| {
                let (token, unit, all) = (cx.builder().axis("token"), fixed(cx, "unit", 32), fixed(cx, "of_heads", 8));
                let input = |name: &str, dims: &[Axis]| cx.input(name, Elem::F32, dims.iter().copied());
                let learned = [
                    input("mlp_w1", &[unit, all]),
                    input("mlp_b1", &[unit]),
                    input("mlp_w2", &[cx.h, unit]),
                    input("mlp_b2", &[cx.h]),
                ];
                Dape::new(cx.query(), input("keys", &[cx.b, cx.g, token, cx.d]), learned)
            })
        }
        "cope_xtransformers" => {
            let tokens = golden["k"].shape()[2];
            inputs.insert("keys".to_owned(), golden["k"].clone());
            inputs.insert("tokens".to_owned(), Tensor::i32([tokens], (0..tokens as i32).collect::<Vec<_>>()));
            a.scheme_with(|cx| {
                let (token, index) = (cx.builder().axis("token"), cx.builder().axis("index"));
                let keys = cx.input("keys", Elem::F32, [cx.b, cx.g, token, cx.d]);
                let embeddings = cx.input("pos_emb", Elem::F32, [fixed(cx, "position", 12), cx.d]);
                Cope::new(cx.query(), keys, cx.input("tokens", Elem::I32, [index]), embeddings)
            })
        }
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

/// An axis of a learned tensor.
fn fixed(cx: &AttentionParts<'_>, name: &str, length: u32) -> Axis {
    cx.builder().axis_of(name, length)
}

fn axial(golden: &Golden, a: Attention, inputs: &mut Tensors) -> Attention {
    if golden.name == "rope3d_cogvideox" {
        return a.scheme(AxialRope::grid([3, 4, 5], [16, 24, 24]).reference([3.0, 6.0, 5.0]).prefix(4));
    }
    for side in ["q", "k"] {
        inputs.insert(format!("{side}_at"), golden[format!("{side}_pos").as_str()].clone());
    }
    let (elem, name) = (golden["q_pos"].elem(), golden.name.clone());
    a.scheme_with(move |cx| {
        let coordinate = fixed(cx, "coordinate", 3);
        let [q, k] = [("q_at", cx.q), ("k_at", cx.k)].map(|(name, token)| cx.input(name, elem, [token, coordinate]));
        match name.as_str() {
            "rope3d_wan" => AxialRope::at(q, k, [24, 20, 20]),
            "ropend_time_latlon_float" => AxialRope::at(q, k, [16, 24, 24]).base(256.0),
            _ => AxialRope::at(q, k, [10, 10, 10]).tiled(),
        }
    })
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
        "neighborhood_2d" => a.scheme(Neighbourhood::new(7, 7, 3)),
        "block_diffusion" => a.scheme(BlockDiffusion::new(int("seq_len"), int("block"))),
        other => panic!("{}: mask `{other}`", golden.name),
    }
}
