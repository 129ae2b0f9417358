//! Schemes in text, through the command.

#[path = "common/command.rs"]
mod command;

use insta::assert_snapshot;

use command::{Folder, floats};

#[test]
fn schemes_in_text_are_plugged_in() {
    let folder = Folder::new("plugins");
    folder.write("tilted.scheme", include_str!("../examples/tilted_alibi.scheme"));
    let (heads, plugin) = ("--heads 2 --head-dim 8", "--plugin tilted.scheme");
    let listed = folder.prints(&format!("schemes tilted_alibi {plugin}"));
    assert_snapshot!("plugin_schemes", listed);
    let spec = "--scheme 'tilted_alibi {slope = 0.25}'";
    let lowered = folder.prints(&format!("emit {heads} {plugin} {spec} --stage lowered"));
    assert!(lowered.contains("const 0.25") && !lowered.contains("scheme"), "{lowered}");
    let fused = folder.prints(&format!("emit {heads} {plugin} {spec} --stage fused"));
    assert!(fused.contains("base 2"), "{fused}");
    // The graph by name, and the kernel as the interpreter.
    let graph = folder.prints(&format!("emit {heads} {plugin} {spec} --stage ir"));
    assert!(graph.contains("scheme tilted_alibi.score"), "{graph}");
    folder.write("graph.txt", graph);
    for (line, out) in [("", "kernel"), ("--interpret", "reference")] {
        folder.prints(&format!("run graph.txt {plugin} --dims b=1,q=9,k=17 {line} --outputs {out}.safetensors"));
    }
    let [kernel, reference] =
        ["kernel", "reference"].map(|name| floats(&folder.read(&format!("{name}.safetensors")), "out"));
    assert_eq!(kernel.0, reference.0);
    assert!(kernel.1.iter().zip(&reference.1).all(|(a, b)| (a - b).abs() < 1e-6));
    let timed = folder.prints(&format!("bench graph.txt {plugin} --dims b=1,q=9,k=17 --seconds 0 --json"));
    assert!(timed.contains("median_ms"), "{timed}");
    // Mistakes in the file, and where they are.
    folder.write("wrong.scheme", "scheme wrong {\n  score = scroe\n}\n");
    folder.write("taken.scheme", "scheme rope { score = score }");
    let transcript: String = [
        format!("emit {heads} --plugin wrong.scheme --stage ir"),
        format!("emit {heads} --plugin taken.scheme --stage ir"),
        format!("emit {heads} --plugin nothing.scheme --stage ir"),
        format!("emit {heads} {plugin} --scheme 'tilted_alibi {{slope = -1}}' --stage ir"),
        format!("emit {heads} {plugin} --scheme tilted_alib --stage ir"),
        "run graph.txt --dims b=1,q=2,k=2".to_owned(),
    ]
    .iter()
    .map(|line| folder.fails(line, "") + "\n")
    .collect();
    assert_snapshot!("plugin_errors", transcript);
}

/// What is written in text is compiled to the code of the same scheme in Rust.
#[test]
fn the_code_is_that_of_schemes_in_rust() {
    let folder = Folder::new("plugin-code");
    folder.write(
        "own.scheme",
        "scheme own_alibi { score = score + 2 ^ (-8 * (head + 1) / heads) * (k_pos - q_pos) }
         scheme own_rope {
           axis pair = head_dim / 2
           theta = 10000 ^ (-2 * pair / head_dim)
           query = rotate(query, q_pos * theta, pair)
           key = rotate(key, k_pos * theta, pair)
         }",
    );
    for (own, built_in) in [("own_alibi", "alibi"), ("own_rope", "rope")] {
        let code = |scheme: &str| {
            folder.prints(&format!(
                "emit --heads 8 --head-dim 64 --causal --plugin own.scheme --scheme {scheme} --stage asm --target \
                 x86_64-unknown-linux-gnu"
            ))
        };
        assert_eq!(code(own), code(built_in), "{own} is compiled as {built_in}");
    }
}

#[test]
fn schemes_take_tensors_that_are_declared() {
    let folder = Folder::new("declared");
    let graph = "--heads 2 --head-dim 8 --causal --scheme 't5 {table = %table}' --input 'table: f32[bucket=32, h]'";
    let text = folder.prints(&format!("emit {graph} --stage ir"));
    assert!(text.contains("%table = input \"table\" : f32[bucket, h]"), "{text}");
    folder.write("t5.rhumb", text);
    let run = |graph: &str| folder.prints(&format!("run {graph} --dims b=1,q=5,k=5"));
    assert_eq!(run(graph), run("t5.rhumb"));
    // Queries and keys as they come have names too, and two schemes may take one tensor.
    let shaw = "--scheme 'shaw {queries = %q, table = %table, left = 4, right = 4}'";
    let both = format!("emit --heads 2 --head-dim 8 {shaw} {shaw} --input 'table: f32[distance=9, d]' --stage lowered");
    assert_eq!(folder.prints(&both).matches("input \"table\"").count(), 1);
    let of = |scheme: &str| format!("emit --heads 2 --head-dim 8 --stage ir --scheme '{scheme}'");
    let report: String = [
        of("t5"),
        of("t5 {table = %table}"),
        of("t5 {table = %table}") + " --input 'table: f32[bucket=16, h]'",
        of("t5 {table = %table}") + " --input 'table: f32[bucket, h]'",
        of("t5 {table = %table}") + " --input 'table: f32[bucket=32, h] = 0.5'",
        of("t5 {table = %table}") + " --input 'table: f32[bucket=32, h]' --input 'table: f32[bucket=32, h]'",
        of("alibi") + " --input 'k: f32[h]' --scheme 't5 {table = %k}'",
        "emit --heads 2 --head-dim 8 --stage ir --input 'table: f32[bucket=32, h]'".to_owned(),
    ]
    .iter()
    .map(|line| folder.fails(line, "") + "\n")
    .collect();
    assert_snapshot!(report);
}
