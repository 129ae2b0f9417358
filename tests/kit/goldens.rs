//! Golden vectors that the kit writes: read again, and held against kernels.

use std::fs;
use std::path::PathBuf;

use rhumb::prelude::*;
use rhumb::testing::{SchemeTest, Shape};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::one_target;

const SHAPES: [Shape; 2] = [
    Shape { heads: 2, kv_heads: 2, head_dim: 8, queries: 0, keys: 3 },
    Shape { heads: 6, kv_heads: 2, head_dim: 8, queries: 3, keys: 11 },
];

/// A folder of a test, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an old folder");
    }
    folder
}

fn manifest(folder: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("an array of cases")
}

fn floats(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).expect("a tensor");
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    let bytes = tensor.data().chunks_exact(4).map(|bytes| bytes.try_into().expect("four bytes"));
    (tensor.shape().to_vec(), bytes.map(f32::from_le_bytes).collect())
}

fn view((shape, data): &(Vec<usize>, Vec<f32>)) -> TensorView<'_> {
    TensorView::from_slice(data, shape).expect("a view")
}

#[test]
fn files_hold_what_kernels_compute() {
    let (folder, registry) = (folder("goldens_of_alibi"), Registry::standard());
    let wrong = SchemeTest::new(&registry, || Alibi::new().symmetric()).shapes(&SHAPES);
    wrong.agrees_with(|p| p.score() + 0.0).goldens(&folder).run().expect_err("it is another formula");
    assert!(!folder.exists(), "nothing is written where a check fails");
    SchemeTest::new(&registry, || Alibi::new().symmetric())
        .shapes(&SHAPES)
        .targets(&one_target())
        .agrees_with(|p| p.score() - Alibi::official_slopes(p.heads)[p.head as usize] * (p.q_pos - p.k_pos).abs())
        .goldens(&folder)
        .run()
        .expect("it is the formula");
    let cases = manifest(&folder);
    let names: Vec<&str> = cases.iter().filter_map(|case| case["name"].as_str()).collect();
    assert_eq!(names, ["alibi_6on2x8_3x11", "alibi_6on2x8_3x11_indices"], "an empty attention is left out");
    for case in &cases {
        assert_eq!(case["file"], json!(format!("{}.safetensors", case["name"].as_str().expect("a name"))));
        assert_eq!((&case["scheme"], &case["source"]["kind"]), (&json!("alibi"), &json!("formula")));
        let bytes = fs::read(folder.join(case["file"].as_str().expect("a file"))).expect("a file");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for name in file.names() {
            assert_eq!(case["tensors"][name]["shape"], json!(file.tensor(name).expect("a tensor").shape()), "{name}");
        }
    }
    // The case whose positions are the indices is the attention that a user writes.
    let bytes = fs::read(folder.join("alibi_6on2x8_3x11_indices.safetensors")).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let [q, k, v, out] = ["q", "k", "v", "out"].map(|name| floats(&file, name));
    let graph = Attention::heads(6).head_dim(8).kv_heads(2).scheme(Alibi::new().symmetric()).build().expect("a graph");
    let kernel = Engine::host().expect("an engine").compile(&graph).expect("compiles");
    let mut made = vec![0.0f32; out.1.len()];
    let call = kernel.call().input("q", view(&q)).input("k", view(&k)).input("v", view(&v));
    call.output("out", TensorViewMut::from_slice(&mut made, &out.0).expect("a view")).run().expect("runs");
    let most = cases[1]["tolerance"]["f32_kernel_f64_tables"]["out_abs"].as_f64().expect("a tolerance");
    assert!(made.iter().zip(&out.1).all(|(a, b)| f64::from((a - b).abs()) <= most));
    assert!(most < 1e-4 && out.1.iter().any(|x| x.abs() > 0.1));
}

#[test]
fn lines_of_other_cases_stay() {
    let (folder, registry) = (folder("goldens_of_masks"), Registry::standard());
    let write = |window: i32| {
        let test = SchemeTest::new(&registry, || SlidingWindow::new(window)).shapes(&SHAPES[1..]);
        test.targets(&one_target()).goldens(&folder).run().expect("a mask");
    };
    write(3);
    let other = json!({ "name": "other", "file": "other.safetensors" });
    let mut lines = manifest(&folder);
    assert_eq!((lines.len(), &lines[0]["source"]["kind"]), (2, &json!("interpreter")));
    assert_eq!((&lines[0]["params"]["num_heads"], &lines[0]["mask"]["q_offset"]), (&json!(6), &json!(8)));
    lines.push(other.clone());
    fs::write(folder.join("manifest.json"), Value::from(lines).to_string()).expect("a manifest");
    write(4);
    let lines = manifest(&folder);
    assert!(lines.len() == 3 && lines.contains(&other), "{lines:?}");
    fs::write(folder.join("manifest.json"), "{").expect("a manifest");
    let failure = SchemeTest::new(None, || Causal).shapes(&SHAPES[1..]).targets(&one_target()).goldens(&folder).run();
    let failure = failure.expect_err("the manifest is broken").to_string();
    assert!(failure.contains("golden vectors") && failure.contains("manifest.json can't be written"), "{failure}");
}
