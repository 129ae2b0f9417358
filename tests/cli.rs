//! The `rhumb` command as users meet it: what it prints, what it refuses, and with which exit code.

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use command::{Folder, floats, words};
use half::{bf16, f16};
use insta::assert_snapshot;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

const ALIBI: &str = "--heads 2 --head-dim 8 --causal --scheme alibi";

/// A safetensors file with this header and so many bytes of data.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

/// A file of tensors of numbers between -1 and 1.
fn tensors(shapes: &[(&str, &[usize])]) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(_, shape)| (0..shape.iter().product()).flat_map(|_| next().to_le_bytes()).collect())
        .collect();
    let views = shapes
        .iter()
        .zip(&bytes)
        .map(|((name, shape), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a tensor")));
    safetensors::serialize(views, None).expect("a file")
}

#[test]
fn schemes_are_listed() {
    let folder = Folder::new("schemes");
    assert_snapshot!("schemes", folder.prints("schemes"));
    assert_snapshot!(folder.prints("schemes sliding_window"));
}

#[test]
fn what_is_most_likely_not_meant_is_told() {
    let folder = Folder::new("warnings");
    let line = "emit --heads 2 --head-dim 8 --scheme rope --scheme rope --scheme alibi --stage ir";
    let Output { status, stdout, stderr } = folder.rhumb(line, "");
    assert!(status.success() && !stdout.is_empty());
    assert_snapshot!(String::from_utf8(stderr).expect("UTF-8"));
    // A sum over all keys that the score of each reads.
    let Output { status, stderr, .. } =
        folder.rhumb("emit --heads 2 --head-dim 8 --causal --scheme retention --stage ir", "");
    let told = String::from_utf8(stderr).expect("UTF-8");
    assert!(
        status.success() && told.contains("a table over `b`, `h`, `q` and `k` is made before the softmax"),
        "{told}"
    );
}

#[test]
fn every_stage_is_printed() {
    let folder = Folder::new("emit");
    let target = "--target x86_64-unknown-linux-gnu";
    let mut stages = Vec::new();
    for stage in ["ir", "lowered", "fused", "plan", "clif", "asm"] {
        stages.push(folder.prints(&format!("emit {ALIBI} --stage {stage} {target}")));
    }
    for (index, stage) in stages.iter().enumerate() {
        assert!(!stage.is_empty() && !stages[..index].contains(stage), "stage {index} is new:\n{stage}");
    }
    assert_snapshot!("fused", stages[2]);
    assert!(stages[4].contains("f32x4"), "{}", stages[4]);
    assert!(stages[5].contains("xmm"), "{}", stages[5]);
    let wide = folder.prints(&format!("emit {ALIBI} --stage clif {target} --lanes 16"));
    assert!(wide.contains("f32x16"), "{wide}");
    // The same lanes by another generator: other code for the same CLIF.
    let second = format!("{target} --lanes 4 --backend clif-wide");
    assert_eq!(folder.prints(&format!("emit {ALIBI} --stage clif {second}")), stages[4]);
    assert_ne!(folder.prints(&format!("emit {ALIBI} --stage asm {second}")), stages[5]);

    // What is printed can be read: from a file, and from standard input.
    folder.write("alibi.txt", &stages[0]);
    assert_eq!(folder.prints(&format!("emit alibi.txt --stage fused {target}")), stages[2]);
    let piped = folder.rhumb(&format!("emit - --stage fused {target}"), &stages[0]);
    assert_eq!(String::from_utf8_lossy(&piped.stdout), stages[2]);
}

#[test]
fn a_stage_is_printed_even_if_a_later_one_fails() {
    let folder = Folder::new("emit-early");
    folder.write(
        "sum.txt",
        "graph two\naxis k = ?\n%x = input \"x\" : f32[k]\n%p = softmax %x over k\noutput \"p\" = %p : f32[k]\n",
    );
    assert!(folder.prints("emit sum.txt --stage lowered").starts_with("graph two\n"));
    assert_snapshot!(folder.fails("emit sum.txt --stage plan", ""));
}

#[test]
fn options_build_the_usual_graph() {
    let folder = Folder::new("options");
    let options = "--heads 4 --kv-heads 2 --head-dim 8 --value-dim 6 --scale 0.5 --softcap 30 --sinks --lse --window 5 \
                   --scheme 'rope {base = 500000.0, pairing = \"interleaved\"}' --scheme 'alibi {symmetric = true}'";
    let options = options.replace("symmetric = true", "form = \"symmetric\"");
    assert_snapshot!(folder.prints(&format!("emit {options} --stage ir")));
}

#[test]
fn proofs_are_printed() {
    let folder = Folder::new("explain");
    let proof = folder.prints(&format!("explain {ALIBI}"));
    assert!(
        proof.starts_with("output \"out\": ") && proof.contains("softmax-shift") && proof.contains("equals: "),
        "{proof}"
    );
    assert!(proof.contains("\ncost "), "{proof}");
}

/// Files of random inputs, of what a kernel makes of them, and of what the interpreter does.
fn in_and_out(folder: &Folder, graph: &str) -> [Vec<u8>; 3] {
    folder.prints(&format!("{graph} --dims b=1,q=3,k=5 --save-inputs in.safetensors --outputs random.safetensors"));
    for (output, options) in [("fast", ""), ("slow", "--interpret")] {
        folder.prints(&format!("{graph} --inputs in.safetensors --outputs {output}.safetensors {options}"));
    }
    let [inputs, random, fast, slow] =
        ["in", "random", "fast", "slow"].map(|name| folder.read(&format!("{name}.safetensors")));
    assert!(random == fast, "the inputs that were saved are those that were used");
    [inputs, fast, slow]
}

/// Tensors of 16 bits, random ones and those of files; the interpreter reads and writes the same.
#[test]
fn files_of_16_bits_go_in_and_out() {
    let folder = Folder::new("half");
    for (elem, dtype) in [("f16", Dtype::F16), ("bf16", Dtype::BF16)] {
        let graph = format!("run --heads 2 --head-dim 8 --lse --causal --elem {elem}");
        let [inputs, fast, slow] = in_and_out(&folder, &graph);
        for (file, name) in [(&inputs, "q"), (&inputs, "k"), (&inputs, "v"), (&fast, "out"), (&slow, "out")] {
            let file = SafeTensors::deserialize(file).expect("a sound file");
            assert_eq!(file.tensor(name).expect("a tensor").dtype(), dtype, "{name}");
        }
        let numbers = |file: &[u8]| -> Vec<f32> {
            let file = SafeTensors::deserialize(file).expect("a sound file");
            let data = file.tensor("out").expect("a tensor").data().to_vec();
            let bits = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            let number = |bits| if elem == "f16" { f16::from_bits(bits).into() } else { bf16::from_bits(bits).into() };
            bits.map(number).collect()
        };
        let (fast, slow) = (numbers(&fast), numbers(&slow));
        assert!(fast.len() == 2 * 3 * 8 && fast.iter().any(|x| *x != 0.0));
        assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() <= 0.01 * b.abs().max(1.0)), "{fast:?}, {slow:?}");
    }
    // Those of the file are of the other type.
    assert_snapshot!(folder.fails("run --heads 2 --head-dim 8 --elem f16 --inputs in.safetensors", ""));
}

/// Keys and values of 8 bits, and what scales them; the interpreter reads the same.
#[test]
fn files_of_8_bits_go_in() {
    let folder = Folder::new("bytes");
    for (elem, dtype, more) in [("i8", Dtype::I8, "--zero-points"), ("f8e4m3", Dtype::F8_E4M3, "")] {
        let graph = format!("run --heads 2 --head-dim 8 --causal --cache-elem {elem} {more}");
        let [inputs, fast, slow] = in_and_out(&folder, &graph);
        let inputs = SafeTensors::deserialize(&inputs).expect("a sound file");
        assert!(["k", "v"].iter().all(|name| inputs.tensor(name).is_ok_and(|tensor| tensor.dtype() == dtype)));
        let numbers = |file: &[u8]| -> Vec<f32> {
            let file = SafeTensors::deserialize(file).expect("a sound file");
            let data = file.tensor("out").expect("a tensor").data().to_vec();
            data.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        };
        let (fast, slow) = (numbers(&fast), numbers(&slow));
        assert!(fast.len() == 2 * 3 * 8 && fast.iter().any(|x| *x != 0.0));
        assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() <= 1e-3 * (1.0 + b.abs())), "{fast:?}, {slow:?}");
    }
    // Those of the file are of the other type.
    assert_snapshot!(folder.fails("run --heads 2 --head-dim 8 --cache-elem i8 --inputs in.safetensors", ""));
}

#[test]
fn files_go_in_and_out() {
    let folder = Folder::new("files");
    let kv: &[usize] = &[2, 2, 7, 8];
    folder.write("in.safetensors", tensors(&[("q", &[2, 4, 5, 8]), ("k", kv), ("v", kv), ("unused", &[3])]));
    let graph = "--heads 4 --kv-heads 2 --head-dim 8 --causal --lse --scheme rope --scheme alibi";
    let run = |rest: &str| folder.prints(&format!("run {graph} --inputs in.safetensors {rest}"));
    for (output, options) in [("one", "--threads 1"), ("two", "--threads 2"), ("slow", "--interpret")] {
        assert_eq!(run(&format!("--outputs {output}.safetensors {options}")), "");
    }
    let [one, two, slow] = ["one", "two", "slow"].map(|name| folder.read(&format!("{name}.safetensors")));
    assert!(one == two, "threads change no bit");
    let tensors = SafeTensors::deserialize(&one).expect("a sound file").tensors();
    assert!(one == safetensors::serialize(tensors, None).expect("bytes"), "the file is not what the library writes");
    for (name, shape) in [("out", vec![2, 4, 5, 8]), ("lse", vec![2, 4, 5])] {
        let ((found_shape, found), (_, expected)) = (floats(&one, name), floats(&slow, name));
        assert_eq!(found_shape, shape);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "{name} is {worst} away from the interpreter");
    }
    assert!(run("").contains("out: f32[2, 4, 5, 8]\n  min "));
}

/// A case of the layers of models: its configuration, and its file.
fn model(name: &str) -> (String, Vec<u8>) {
    let goldens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models");
    let manifest = fs::read_to_string(goldens.join("manifest.json")).expect("a manifest");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&manifest).expect("cases");
    let case = cases.iter().find(|case| case["name"] == name).expect("a case");
    (case["config"].to_string(), fs::read(goldens.join(format!("{name}.safetensors"))).expect("a golden"))
}

#[test]
fn layers_of_a_model_run_on_its_tensors() {
    let folder = Folder::new("model");
    for (name, layer) in
        [("gpt_oss_layer0", 0), ("llama4_layer0", 0), ("deepseek_v3_layer1", 1), ("modernbert_layer2", 2)]
    {
        let (config, tensors) = model(name);
        folder.write("config.json", config);
        folder.write("case.safetensors", &tensors);
        let options =
            format!("--config config.json --layer {layer} --inputs case.safetensors --outputs out.safetensors");
        assert_eq!(folder.prints(&format!("run {options}")), "");
        let ((shape, found), (_, expected)) = (floats(&folder.read("out.safetensors"), "out"), floats(&tensors, "out"));
        assert_eq!(shape, floats(&tensors, "out").0);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-5, "{name} is {worst} away");
    }
    assert_snapshot!("model_ir", folder.prints("emit --config config.json --layer 2 --stage ir"));
    let lse = folder.prints("emit --config config.json --layer 0 --lse --stage ir");
    assert!(lse.contains("output \"lse\""), "{lse}");
    assert!(folder.prints("explain --config config.json --layer 0").starts_with("output \"out\": "));
    let bench = "bench --config config.json --layer 0 --dims b=1,q=8,k=8 --threads 1 --seconds 0.01 --json";
    assert!(folder.prints(bench).contains("median_ms"));
    let (config, _) = model("llama_layer0");
    let piped = folder.rhumb("emit --config - --layer 1 --stage ir", &config);
    assert!(String::from_utf8_lossy(&piped.stdout).contains("scheme rope.query"));
}

#[test]
fn configurations_are_refused_where_they_are_wrong() {
    let folder = Folder::new("model-errors");
    folder.write("config.json", model("llama_layer0").0);
    folder.write("misspelt.json", model("llama_layer0").0.replace("num_hidden_layers", "num_hiden_layers"));
    folder.write("unknown.json", model("llama_layer0").0.replace("\"llama\"", "\"lama\""));
    folder.write("text.json", "model_type: llama");
    let lines = [
        "emit --config none.json --layer 0 --stage ir",
        "emit --config config.json --stage ir",
        "emit --layer 0 --stage ir",
        "emit --config config.json --layer 2 --stage ir",
        "emit --config config.json --layer -1 --stage ir",
        "emit --config config.json --layer 0 --heads 4 --head-dim 8 --stage ir",
        "emit --config misspelt.json --layer 0 --stage ir",
        "emit --config unknown.json --layer 0 --stage ir",
        "emit --config text.json --layer 0 --stage ir",
    ];
    let report: Vec<String> = lines.iter().map(|line| folder.fails(line, "")).collect();
    assert_snapshot!("model_errors", report.join("\n"));
}

#[test]
fn random_inputs_follow_the_seed() {
    let folder = Folder::new("random");
    let run = |options: &str| folder.prints(&format!("run {ALIBI} --dims b=1,q=3,k=5 {options} --interpret"));
    assert_snapshot!(run("--seed 7"));
    assert_ne!(run("--seed 7"), run("--seed 8"));
    // Lengths may be 0: without keys every row is 0.
    assert_snapshot!(folder.prints(&format!("run {ALIBI} --dims b=1,q=1,k=0")), @"
    out: f32[1, 2, 1, 8]
      min 0.000000  max 0.000000  mean 0.000000
      0.000000 0.000000 0.000000 0.000000 0.000000 0.000000 ...
    ");
}

#[test]
fn timings_are_json() {
    let folder = Folder::new("bench");
    let bench = format!("bench {ALIBI} --dims b=1,q=40,k=50 --threads 1 --lanes 4 --seconds 0.01");
    let text = folder.prints(&format!("{bench} --json"));
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let report = report.as_object().expect("an object");
    let keys = ["compile_ms", "gbytes_per_s", "gflops", "lanes", "max_ms", "median_ms", "min_ms", "threads"];
    let mut all = [&keys[..], &["backend", "candidates", "pinned"]].concat();
    all.sort_unstable();
    assert_eq!(report.keys().collect::<Vec<_>>(), all);
    let number = |key: &str| report[key].as_f64().expect("a number");
    for key in keys {
        assert!(number(key) > 0.0, "{key} in {text}");
    }
    assert!(number("min_ms") <= number("median_ms") && number("median_ms") <= number("max_ms"), "{text}");
    assert_eq!((number("lanes"), number("threads")), (4.0, 1.0));
    // 4 q k d per head, of which 40 rows at the end of 50 keys see 10 + (40 + 1) / 2 on average.
    let expected = 4.0 * 40.0 * 30.5 * 8.0 * 2.0 / number("median_ms") / 1e6;
    assert!((number("gflops") / expected - 1.0).abs() < 0.05, "{text} where {expected} was expected");
    let text = folder.prints(&bench);
    assert!(text.contains("61.0 % of query-key pairs visible") && text.contains("\nchosen   pinned\n"), "{text}");

    assert_eq!((&report["pinned"], report["candidates"].as_array().map(Vec::len)), (&true.into(), Some(1)));
    let bench = bench.replace("--lanes 4", "");
    let text = folder.prints(&format!("{bench} --json"));
    let open: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let candidates = open["candidates"].as_array().expect("an array");
    assert_eq!((&open["pinned"], &open["lanes"]), (&false.into(), &candidates[0]["lanes"]), "{text}");
    let cycles = candidates.iter().map(|candidate| candidate["cycles_per_pair"].as_f64().expect("a number"));
    let cycles: Vec<f64> = cycles.collect();
    assert!(cycles[0] > 0.0 && cycles.is_sorted(), "{text}");
    let parts = candidates[0]["parts"].as_object().expect("an object");
    let sum: f64 = parts.values().filter_map(serde_json::Value::as_f64).sum();
    assert!((sum - cycles[0]).abs() < 1e-3, "{text}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = Folder::new("pipe");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rhumb"))
        .args(words(&format!("emit {ALIBI} --stage clif")))
        .current_dir(&folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let Output { status, stdout: _, stderr } = child.wait_with_output().expect("ends");
    assert!(status.success() && stderr.is_empty(), "{status}: {}", String::from_utf8_lossy(&stderr));
}

#[test]
fn mistakes_on_the_command_line() {
    let folder = Folder::new("command-line");
    let small = "--heads 2 --head-dim 16";
    let transcript: String = [
        "emit".to_owned(),
        "fly".to_owned(),
        format!("emit {small} --stage nope"),
        format!("emit graph.txt {small} --stage ir"),
        "emit --heads 2 --stage ir".to_owned(),
        "emit graph.txt --causal --stage ir".to_owned(),
        "emit --heads 0 --head-dim 16 --stage ir".to_owned(),
        "emit --heads 3 --kv-heads 2 --head-dim 16 --stage ir".to_owned(),
        "emit --heads 2 --head-dim 15 --scheme rope --stage ir".to_owned(),
        format!("emit {small} --window -3 --stage ir"),
        format!("emit {small} --scheme 'ropes {{base = 1.0}}' --stage ir"),
        format!("emit {small} --scheme 'rope {{bse = 1.0}}' --stage ir"),
        format!("emit {small} --scheme 'rope {{base = \"big\"}}' --stage ir"),
        format!("emit {small} --scheme 'rope {{base = }}' --stage ir"),
        format!("emit {small} --scheme 'rope {{base = 1.0' --stage ir"),
        format!("emit {small} --scheme 'ro pe' --stage ir"),
        format!("emit {small} --scheme '' --stage ir"),
        format!("emit {small} --scheme 'rope {{offset = %past}}' --stage ir"),
        format!("emit {small} --scheme sliding_window --stage ir"),
        format!("emit {small} --stage asm --target pdp11"),
        format!("emit {small} --stage asm --target aarch64-unknown-linux-gnu --lanes 5"),
        format!("emit {small} --stage asm --target aarch64-unknown-linux-gnu --backend clif-wide"),
        format!("emit {small} --stage asm --target x86_64-unknown-linux-gnu --backend cranelift --lanes 8"),
        "schemes alibj".to_owned(),
        format!("run {small} --dims b=1,q=2,k=2 --threads 0"),
        format!("run {small}"),
        format!("run {small} --dims b=1,x=3"),
        format!("run {small} --dims b=1,h=3"),
        format!("run {small} --dims b=1,q=two"),
        format!("run {small} --dims b=1,b=2"),
        format!("run {small} --dims b=1,q=1,k=1 --interpret --threads 2"),
        format!("bench {small}"),
    ]
    .iter()
    .map(|line| folder.fails(line, "") + "\n")
    .collect();
    assert!(!transcript.contains("\n[1]\n"), "the command line is wrong, not the input:\n{transcript}");
    assert_snapshot!(transcript);
    let nothing = folder.fails("", "");
    assert!(nothing.contains("Usage: rhumb <COMMAND>") && nothing.ends_with("[2]\n"), "{nothing}");
}

#[test]
fn mistakes_in_graphs() {
    let folder = Folder::new("graphs");
    folder.write("binary.txt", [0xff, 0xfe, 0x00]);
    folder.write("empty.txt", "");
    folder.write(
        "typo.txt",
        "graph typo\naxis q = ?\n%x = input \"x\" : f32[q]\n%y = exq %x\noutput \"y\" = %y : f32[q]\n",
    );
    folder.write("axes.txt", "graph axes\naxis q = ?\naxis k = ?\n%x = input \"x\" : f32[q]\n%y = softmax %x over k\noutput \"y\" = %y : f32[q]\n");
    let scheme =
        folder.prints("emit --heads 2 --head-dim 16 --causal --scheme alibi --stage ir").replace("alibi", "alibu");
    folder.write("scheme.txt", scheme);
    let lines = [
        "emit nowhere.txt --stage ir",
        "emit . --stage ir",
        "emit binary.txt --stage ir",
        "emit empty.txt --stage ir",
        "emit typo.txt --stage ir",
        "emit axes.txt --stage ir",
        "emit scheme.txt --stage lowered",
        "explain scheme.txt",
        "run scheme.txt --dims b=1,q=1,k=1",
    ];
    let mut transcript: String = lines.iter().map(|line| folder.fails(line, "") + "\n").collect();
    transcript += &folder.fails("emit - --stage ir", "axis q = ?\n");
    assert!(!transcript.contains("\n[2]\n"), "the input is wrong, not the command line:\n{transcript}");
    assert_snapshot!(transcript);
}

#[test]
fn mistakes_in_tensors() {
    let folder = Folder::new("tensors");
    let qkv: &[(&str, &[usize])] = &[("q", &[1, 2, 3, 8]), ("k", &[1, 2, 5, 8]), ("v", &[1, 2, 5, 8])];
    let good = tensors(qkv);
    let with = |name: &str, shape: &[usize]| {
        let changed: Vec<(&str, &[usize])> =
            qkv.iter().map(|(n, s)| if *n == name { (*n, shape) } else { (*n, *s) }).collect();
        tensors(&changed)
    };
    let info = |dtype: &str, shape: &str, from: usize, to: u64| {
        format!(r#"{{"q":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let mut long_header = good.clone();
    long_header[..8].copy_from_slice(&1_000_000u64.to_le_bytes());
    let mut endless_header = good.clone();
    endless_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let files = [
        ("empty", Vec::new()),
        ("seven_bytes", good[..7].to_vec()),
        ("cut_in_header", good[..40].to_vec()),
        ("cut_in_data", good[..good.len() - 5].to_vec()),
        ("trailing", [good.as_slice(), b"more"].concat()),
        ("long_header", long_header),
        ("endless_header", endless_header),
        ("text", b"these are no tensors, but a line of text".to_vec()),
        ("no_json", safetensors("{\"q\": ", 0)),
        ("unknown_type", safetensors(&info("F31", "[1]", 0, 4), 4)),
        ("wrong_size", safetensors(&info("F32", "[1,2,3,8]", 0, 8), 8)),
        ("backwards", safetensors(&info("F32", "[1]", 8, 4), 8)),
        ("beyond", safetensors(&info("F32", "[1,2,3,8]", 0, 192), 8)),
        ("overflow", safetensors(&info("F32", "[4294967296,4294967296,4]", 0, 8), 8)),
        ("overflow_bytes", safetensors(&info("F32", "[9223372036854775807]", 0, 8), 8)),
        ("negative", safetensors(&info("F32", "[-1]", 0, 4), 4)),
        ("half_precision", safetensors(&info("F16", "[1,2,3,8]", 0, 96), 96)),
        ("other_names", tensors(&[("Q", &[1, 2, 3, 8]), ("keys", &[1]), ("values", &[1])])),
        ("no_tensors", safetensors("{}", 0)),
        ("five_heads", with("q", &[1, 5, 3, 8])),
        ("bshd", with("q", &[1, 3, 2, 8])),
        ("rank", with("k", &[2, 5, 8])),
        ("batch", with("k", &[4, 2, 5, 8])),
        ("keys", with("v", &[1, 2, 6, 8])),
    ];
    let mut transcript = String::new();
    for (name, contents) in files {
        folder.write(&format!("{name}.safetensors"), contents);
        transcript += &folder.fails(&format!("run {ALIBI} --inputs {name}.safetensors"), "");
        transcript.push('\n');
    }
    folder.write("good.safetensors", good);
    for rest in [
        "--inputs nowhere.safetensors",
        "--inputs good.safetensors --dims k=6",
        "--inputs good.safetensors --outputs no/where.safetensors",
    ] {
        transcript += &folder.fails(&format!("run {ALIBI} {rest}"), "");
        transcript.push('\n');
    }
    let huge = format!("run {ALIBI} --dims b=1,q=1000000,k=4000000000000000");
    transcript += &folder.fails(&huge, "");
    assert!(!transcript.contains("\n[2]\n"), "the input is wrong, not the command line:\n{transcript}");
    assert_snapshot!(transcript);
    assert!(
        folder.prints(&format!("run {ALIBI} --inputs good.safetensors")).starts_with("out: "),
        "a good file still does"
    );
}
