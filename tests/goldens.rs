//! Kernels against golden vectors of third-party implementations: see `goldens/README.md`.

mod common;
#[path = "common/golden_cases.rs"]
mod golden_cases;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Index;
use std::path::PathBuf;

use common::seeds::each_seed;
use common::{Layout, Tensor, Tensors, absolute, difference, engine, relative, run, targets};
use golden_cases::{Setup, UNCOVERED, setup};
use rhumb::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// How many cases pass; more may come, never fewer.
const COVERED: usize = 89;
/// How many of them have rotated queries and keys to compare with.
const ROTATED: usize = 26;

/// A case: its line of the manifest and its tensors.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) meta: Value,
    tensors: Tensors,
}

impl Golden {
    fn load(meta: Value) -> Golden {
        let bytes = fs::read(folder().join(file(&meta))).expect("a golden");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let mut tensors = Tensors::new();
        for (name, view) in file.tensors() {
            let (shape, words) = (view.shape().to_vec(), view.data().chunks_exact(4));
            let word = |bytes: &[u8]| bytes.try_into().expect("four bytes");
            let tensor = match view.dtype() {
                Dtype::F32 => Tensor::f32(shape, words.map(|x| f32::from_le_bytes(word(x))).collect::<Vec<_>>()),
                Dtype::I32 => Tensor::i32(shape, words.map(|x| i32::from_le_bytes(word(x))).collect::<Vec<_>>()),
                // What the third party has its angles from.
                Dtype::F64 if name == "inv_freq" => continue,
                // Masks, which cases state as rules.
                Dtype::U8 => continue,
                other => panic!("{name}: {other:?}"),
            };
            tensors.insert(name, tensor);
        }
        Golden { name: meta["name"].as_str().expect("a name").to_owned(), meta, tensors }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.meta[name].as_f64().expect("a number")
    }

    fn tolerance(&self, name: &str) -> f64 {
        self.meta["tolerance"]["f32_kernel_f64_tables"][name].as_f64().expect("a tolerance")
    }
}

impl Index<&str> for Golden {
    type Output = Tensor;
    fn index(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no `{name}`", self.name))
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn manifest() -> Vec<Value> {
    let text = fs::read_to_string(folder().join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("an array of cases")
}

fn name(case: &Value) -> &str {
    case["name"].as_str().expect("a name")
}

fn file(case: &Value) -> &str {
    case["file"].as_str().expect("a file")
}

fn reason(case: &Value) -> Option<&'static str> {
    UNCOVERED.iter().find(|(uncovered, _)| *uncovered == name(case)).map(|(_, reason)| *reason)
}

fn covered() -> impl Iterator<Item = Golden> {
    manifest().into_iter().filter(|case| reason(case).is_none()).map(Golden::load)
}

#[test]
fn every_case_is_covered_or_named() {
    let manifest = manifest();
    for (uncovered, _) in UNCOVERED {
        assert!(manifest.iter().any(|case| name(case) == *uncovered), "`{uncovered}` is no case of the manifest");
    }
    for case in &manifest {
        match reason(case) {
            Some(reason) => println!("left out: {}: {reason}", name(case)),
            None => println!("runs: {}", name(case)),
        }
    }
    let covered = manifest.iter().filter(|case| reason(case).is_none()).count();
    println!("{covered} of {} cases run", manifest.len());
    assert!(covered >= COVERED, "{covered} cases are covered, which were {COVERED}");
}

#[test]
fn the_manifest_and_the_folder_hold_the_same_files() {
    let listed: BTreeSet<String> = manifest().iter().map(|case| file(case).to_owned()).collect();
    assert_eq!(listed.len(), manifest().len(), "a file is listed twice");
    // Layers of models have a manifest of their own, and a test: `models.rs`.
    let pages = ["README.md", "manifest.json", "models"];
    let entries = fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let entries: BTreeSet<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    let unlisted: Vec<&String> =
        entries.iter().filter(|name| !listed.contains(*name) && !pages.contains(&name.as_str())).collect();
    let absent: Vec<&String> = listed.difference(&entries).collect();
    assert!(unlisted.is_empty(), "manifest.json lacks {unlisted:?}: no test reads them");
    assert!(absent.is_empty(), "manifest.json lists {absent:?}, which are not there");
}

#[test]
fn the_manifest_tells_the_tensors_of_each_file() {
    for case in manifest() {
        let bytes = fs::read(folder().join(file(&case))).expect("a golden");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let told = case["tensors"].as_object().expect("tensors");
        let names: BTreeSet<&str> = told.keys().map(String::as_str).collect();
        let found: BTreeSet<String> = tensors.names().into_iter().map(ToOwned::to_owned).collect();
        assert_eq!(names, found.iter().map(String::as_str).collect(), "{}", name(&case));
        for (tensor, info) in told {
            let shape = tensors.tensor(tensor).expect("a tensor").shape().to_vec();
            assert_eq!(info["shape"], serde_json::json!(shape), "{}: `{tensor}`", name(&case));
        }
    }
}

/// Runs a comparison for each target, on all cores.
fn for_each_target(compare: impl Fn(usize, &Target) + Sync) {
    let targets = targets();
    let found = each_seed(0..targets.len() as u64, |number, _| compare(number as usize, &targets[number as usize]));
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
}

#[test]
fn attention_is_as_third_parties_compute_it() {
    for_each_target(|which, target| {
        let (one, two) = (engine(target, 1), engine(target, 2));
        let (mut failed, mut most_out, mut most_lse) = (Vec::new(), 0.0f64, 0.0f64);
        for (number, golden) in covered().enumerate() {
            // Each case on two threads for some of the targets, which are many.
            let engines = if (number + which).is_multiple_of(3) { vec![&one, &two] } else { vec![&one] };
            let Setup { attention, inputs, .. } = setup(&golden);
            let graph = attention.build().unwrap_or_else(|error| panic!("{}: {error}", golden.name));
            let (mut results, mut case_out, mut case_lse) = (Vec::new(), 0.0f64, 0.0f64);
            for (engine, layout) in engines.into_iter().flat_map(|engine| [(engine, Layout::Rows), (engine, bshd())]) {
                let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
                let mut inputs = inputs.clone();
                for name in ["q", "k", "v"] {
                    inputs.insert(name.to_owned(), golden[name].stored(&layout));
                }
                let mut outputs =
                    Tensors::from([("out".to_owned(), Tensor::unwritten(golden["out"].shape(), &layout))]);
                if golden.has("lse") {
                    outputs.insert("lse".to_owned(), Tensor::unwritten(golden["lse"].shape(), &Layout::Rows));
                }
                run(kernel.call(), &inputs, &mut outputs).unwrap_or_else(|error| panic!("{}: {error}", golden.name));

                let off = |name: &str| match outputs.get(name) {
                    Some(output) => difference(&output.values(), &golden[name].values(), absolute),
                    None => 0.0,
                };
                let (out, lse) = (off("out"), off("lse"));
                if !(out <= golden.tolerance("out_abs") && lse <= golden.tolerance("lse_abs")) {
                    failed.push(format!("{} ({layout:?}): out {out:.1e}, lse {lse:.1e}", golden.name));
                }
                (case_out, case_lse) = (case_out.max(out), case_lse.max(lse));
                let bits = |name: &str| outputs.get(name).map_or_else(Vec::new, Tensor::bits);
                results.push((bits("out"), bits("lse")));
            }
            println!("{}, {target}: out within {case_out:.1e}, lse within {case_lse:.1e}", golden.name);
            (most_out, most_lse) = (most_out.max(case_out), most_lse.max(case_lse));
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{}: threads or layouts matter", golden.name);
        }
        println!("{target}: out within {most_out:.1e}, lse within {most_lse:.1e}");
        assert!(failed.is_empty(), "{target}:\n{}", failed.join("\n"));
    });
}

#[test]
fn rotated_keys_and_queries_are_as_third_parties_compute_them() {
    for_each_target(|_, target| {
        let engine = engine(target, 2);
        let (mut count, mut most) = (0, 0.0f64);
        for golden in covered() {
            if !setup(&golden).rotates {
                continue;
            }
            count += 1;
            for (from, positions, expected) in [("k", "k_pos", "k_rot"), ("q", "q_pos", "q_rot")] {
                let Setup { attention, mut inputs, .. } = setup(&golden);
                let shape = golden[from].shape();
                // Queries turn by the same rule as keys do.
                let graph = attention.kv_heads(shape[1] as u32).q_offset(0).key_graph();
                let graph = graph.unwrap_or_else(|error| panic!("{}: {error}", golden.name));
                let kernel = engine.compile(&graph).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
                let positions = inputs.remove(positions);
                inputs = positions.map(|positions| ("k_pos".to_owned(), positions)).into_iter().collect();
                inputs.insert("k".to_owned(), golden[from].stored(&bshd()));
                let mut outputs = Tensors::from([("k_out".to_owned(), Tensor::unwritten(shape, &bshd()))]);
                run(kernel.call(), &inputs, &mut outputs).unwrap_or_else(|error| panic!("{}: {error}", golden.name));
                let off = difference(&outputs["k_out"].values(), &golden[expected].values(), relative);
                assert!(off <= 2e-6, "{} {expected}, {target}: {off:.1e}", golden.name);
                most = most.max(off);
            }
        }
        println!("{target}: {count} rotations within {most:.1e}");
        assert!(count >= ROTATED, "{count} rotations are compared, which were {ROTATED}");
    });
}

/// `[batch, heads, tokens, dim]` as it lies in memory when tokens come first.
fn bshd() -> Layout {
    Layout::Order(vec![0, 2, 1, 3])
}
