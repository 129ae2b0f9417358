//! `rhumb plot`: what it draws of every scheme, and what it refuses.

#[path = "common/command.rs"]
mod command;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use command::Folder;
use insta::assert_snapshot;
use rhumb::prelude::*;

/// The pictures of the README, and the commands that draw them.
const PICTURES: [(&str, &str); 3] = [
    ("alibi.svg", "plot alibi --heads 12 --size 640x400"),
    ("rope2d.svg", "plot 'rope2d {height = 24, width = 24}' --grid 24x24 --size 520x420"),
    (
        "tiles.svg",
        "plot --tiles --heads 8 --head-dim 64 --causal --scheme alibi --dims b=1,q=512,k=512 --lanes 4 --backend cranelift --kernels prefill --size 640x480",
    ),
];

/// Attributes and tensors of schemes that need some. All are drawn over a grid of 4 x 4 patches.
const NEEDS: [(&str, &str); 40] = [
    ("yarn", "{factor = 4.0, train_length = 64}"),
    ("dynamic_ntk", "{factor = 4.0, train_length = 8}"),
    ("longrope", "{long = [1.0, 2.0, 3.0, 4.0], short = [1.0, 1.0, 1.0, 1.0], train_length = 8}"),
    ("proportional_rope", "{fraction = 0.5}"),
    (
        "mrope",
        "{sections = [2.0, 1.0, 1.0], q_positions = %at_q, k_positions = %at_k} \
         --input at_q:i32[axis=3,q]=index --input at_k:i32[axis=3,k]=index",
    ),
    ("rope2d", "{height = 4, width = 4}"),
    ("axial_rope", "{dims = [4.0, 4.0], grid = [4.0, 4.0]}"),
    ("pope", "{queries = %q, keys = %k}"),
    ("dynamic_alibi", "{train_length = 8}"),
    ("alibi2d", "{width = 4}"),
    ("t5", "{table = %x} --input x:f32[bucket=32,h]"),
    ("window_table", "{table = %x, height = 4, width = 4} --input x:f32[offset=49,h]"),
    (
        "continuous_bias",
        "{w1 = %w1, b1 = %b1, w2 = %w2, height = 4, width = 4} \
         --input w1:f32[unit=5,c=2] --input b1:f32[unit=5] --input w2:f32[h,unit=5]",
    ),
    (
        "decomposed",
        "{queries = %q, rows = %y, columns = %x, height = 4, width = 4} --input y:f32[dy=7,d] --input x:f32[dx=7,d]",
    ),
    ("kerple", "{p = %p, a = %a} --input p:f32[h]=0.5 --input a:f32[h]=1"),
    ("fire", "{w1 = %w1, b1 = %b1, w2 = %w2} --input w1:f32[unit=5] --input b1:f32[unit=5] --input w2:f32[h,unit=5]"),
    ("forget_gate", "{log_forget = %f} --input f:f32[h,t=16]=-0.5"),
    ("shaw", "{queries = %q, table = %x, left = 4, right = 4} --input x:f32[distance=9,d]"),
    (
        "transformer_xl",
        "{queries = %q, distances = %r, u = %u, v = %w} --input r:f32[distance=16,d] --input u:f32[d] --input w:f32[d]",
    ),
    (
        "deberta",
        "{queries = %q, keys = %k, position_keys = %c, buckets = 8, max_distance = 16} --input c:f32[bucket=16,d]",
    ),
    (
        "cope",
        "{queries = %q, keys = %x, tokens = %t, embeddings = %e} \
         --input x:f32[u=16,d] --input t:i32[t=16]=index --input e:f32[p=8,d]",
    ),
    (
        "dape",
        "{queries = %q, keys = %x, w1 = %w1, b1 = %b1, w2 = %w2, b2 = %b2} --input x:f32[t=16,d] \
         --input w1:f32[unit=5,c=6] --input b1:f32[unit=5] --input w2:f32[h,unit=5] --input b2:f32[h]",
    ),
    ("learned_positions", "{q_table = %x, k_table = %y} --input x:f32[p=16,d] --input y:f32[p=16,d]"),
    ("temperature", "{period = 4}"),
    ("softcap", "{cap = 2.0}"),
    ("sliding_window", "{window = 5}"),
    ("prefix_lm", "{prefix = 3}"),
    ("key_lengths", "{lengths = 16}"),
    ("documents", "{keys = %x} --input x:i32[k]=0"),
    ("chunked", "{chunk = 4}"),
    ("dilated", "{window = 8, dilation = 2}"),
    ("strided", "{stride = 3}"),
    ("offset_set", "{offsets = [0.0, 1.0, 4.0]}"),
    ("neighbourhood", "{height = 4, width = 4, window = 3}"),
    ("shifted_window", "{height = 4, width = 4, window = 2}"),
    ("block_sparse", "{layout = [1.0, 0.0, 1.0, 1.0], columns = 2, block = 8}"),
    ("block_diffusion", "{length = 8, block = 4}"),
    ("token_tree", "{parents = [-1.0, 0.0, 0.0, 1.0]}"),
    ("retention", ""),
    ("qk_norm", ""),
];

/// What is left of a folder's commands: standard output of one that succeeds.
fn lines(folder: &Folder, line: &str) -> Vec<String> {
    folder.prints(line).lines().map(str::to_owned).collect()
}

#[test]
fn alibi_has_a_line_for_each_head() {
    let folder = Folder::new("alibi");
    let text = folder.prints("plot alibi --heads 12");
    let slopes = Alibi::official_slopes(12);
    for (head, slope) in slopes.iter().enumerate() {
        let last = -slope * 128.0;
        assert!(text.contains(&format!("head {head}: 0 at 0, {last:.4} at 128\n")), "{slope}:\n{text}");
    }
    assert_eq!(folder.prints("plot alibi --heads 12 -o alibi.svg"), "");
    let svg = String::from_utf8(folder.read("alibi.svg")).expect("UTF-8");
    // Each has a line in the legend too, of two points; a curve has one for each distance.
    let curves: Vec<Vec<&str>> = svg
        .split("<polyline ")
        .filter_map(|line| Some(line.split("points=\"").nth(1)?.split('"').next()?.split_whitespace().collect()))
        .filter(|points: &Vec<&str>| points.len() > 100)
        .collect();
    assert_eq!(curves.len(), 12);
    assert!(curves.iter().all(|curve| curve[0] == curves[0][0]), "all start at a bias of 0");
    let ends: BTreeSet<&str> = curves.iter().filter_map(|curve| curve.last().copied()).collect();
    assert_eq!(ends.len(), 12, "and end apart");
}

#[test]
fn a_rotation_is_drawn_as_its_mean_cosine() {
    let folder = Folder::new("rope");
    let text = folder.prints("plot rope --head-dim 16 --distances=-20..100");
    let mean = |distance: f64| (0..8).map(|i| (distance * 10000f64.powf(-f64::from(i) / 8.0)).cos()).sum::<f64>() / 8.0;
    let (first, last) = (mean(-20.0), mean(100.0));
    assert!(text.contains(&format!("all heads: {first:.4} at -20, {last:.4} at 100\n")), "{first}, {last}:\n{text}");
    // What depends on the distance alone is the same at any position; the scheme reads positions.
    assert_eq!(folder.prints("plot rope --head-dim 16 --distances=-20..100 --position 1000000"), text);
    let far = folder.prints("plot xpos --head-dim 16 --position 100000");
    assert!(far.contains("score by distance"), "{far}");
}

#[test]
fn pictures_in_the_terminal() {
    let folder = Folder::new("terminal");
    assert_snapshot!("curves", folder.prints("plot alibi 'sliding_window {window = 90}' --heads 2"));
    assert_snapshot!("map", folder.prints("plot alibi causal --heads 2 --map --queries 8 --keys 16 --head 1"));
    assert_snapshot!("grid", folder.prints("plot 'rope2d {height = 9, width = 12}' --grid 9x12 --patch 2,3"));
}

#[test]
fn every_scheme_is_drawn() {
    let folder = Folder::new("schemes");
    let registry = Registry::standard();
    let names: BTreeSet<&str> = registry.schemes().map(|info| info.name.as_str()).collect();
    let unknown: Vec<_> = NEEDS.iter().map(|need| need.0).filter(|name| !names.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in names {
        let need = NEEDS.iter().find(|need| need.0 == name).map_or("", |need| need.1);
        let (attributes, inputs) =
            need.split_once("} ").map_or((need, ""), |(attributes, inputs)| (attributes, inputs));
        let close = if inputs.is_empty() { "" } else { "}" };
        let line = format!("plot '{name} {attributes}{close}' {inputs} --heads 3 --head-dim 8");
        let curves = folder.prints(&format!("{line} --distances 0..15"));
        assert!(curves.contains(" by distance"), "{curves}");
        let map = lines(&folder, &format!("{line} --map --queries 16 --keys 16"));
        assert_eq!(map.iter().filter(|line| line.starts_with('|')).count(), 16, "{name}");
        let grid = lines(&folder, &format!("{line} --grid 4x4"));
        assert_eq!(grid.iter().filter(|line| line.starts_with('|')).count(), 4, "{name}");
    }
}

#[test]
fn files_are_pictures_of_the_size_asked_for() {
    let folder = Folder::new("files");
    for (name, options) in [
        ("curves", "alibi rope --heads 3"),
        ("map", "alibi causal --map"),
        ("grid", "'rope2d {height = 8, width = 8}' --grid 8x8"),
        ("tiles", "--tiles --heads 2 --head-dim 8 --causal --dims b=1,q=200,k=200"),
    ] {
        assert_eq!(folder.prints(&format!("plot {options} -o {name}.png --size 320x240")), "");
        let bytes = folder.read(&format!("{name}.png"));
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!((info.width, info.height), (320, 240), "{name}");
        let colours: BTreeSet<&[u8]> = pixels.chunks_exact(3).collect();
        assert!(colours.len() > 8, "{name} has {} colours", colours.len());
        assert_eq!(folder.prints(&format!("plot {options} --output {name}.SVG --size 320x240")), "");
        let svg = String::from_utf8(folder.read(&format!("{name}.SVG"))).expect("UTF-8");
        assert!(svg.starts_with("<svg width=\"320\" height=\"240\"") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}

#[test]
fn tensors_come_from_a_file() {
    let folder = Folder::new("tensors");
    let table: Vec<u8> = (0..64).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![32, 2], &table).expect("a tensor");
    folder.write("table.safetensors", safetensors::serialize([("table", view)], None).expect("a file"));
    let options = "plot 't5 {table = %table}' --input 'table: f32[bucket=32, h]' --heads 2 --distances 0..3";
    let text = folder.prints(&format!("{options} --inputs table.safetensors"));
    assert!(
        text.contains("head 0: 0 at 0, 6.0000 at 3") && text.contains("head 1: 1.0000 at 0, 7.0000 at 3"),
        "{text}"
    );
    assert_ne!(folder.prints(&format!("{options} --seed 1")), folder.prints(&format!("{options} --seed 2")));
    assert_eq!(folder.prints(&format!("{options} --seed 1")), folder.prints(&format!("{options} --seed 1")));
}

#[test]
fn tiles_are_those_of_the_call() {
    let folder = Folder::new("tiles");
    let graph = "--heads 4 --kv-heads 2 --head-dim 8 --window 100";
    let text = folder.prints(&format!("plot --tiles {graph} --dims b=2,q=512,k=512 --at b=1,h=3"));
    let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')).collect();
    assert!(text.starts_with("tiles of up to ") && text.contains("b = 1") && rows.len() > 8, "{text}");
    // A band: later queries see later keys, and none all.
    let last = rows[rows.len() - 1];
    assert!(rows[0].ends_with('.') && last.starts_with('.') && !last.ends_with('.'), "{text}");
    for class in ["skipped", "pruned", "full", "masked"] {
        assert!(text.contains(&format!(" {class} ")), "{text}");
    }
    let all = folder.prints("plot --tiles --heads 2 --head-dim 8 --dims b=1,q=64,k=64");
    assert!(
        all.contains("skipped 0 (0.0 %)") && all.contains("(100.0 %)") && all.contains("(alike in 2 of 2)"),
        "{all}"
    );
}

#[test]
fn pictures_of_the_readme_are_what_the_command_draws() {
    let folder = Folder::new("readme");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a page");
    for (name, line) in PICTURES {
        assert!(readme.contains(&format!("](docs/plots/{name})")), "README.md does not show {name}");
        assert!(readme.contains(&format!("rhumb {}", line.split(" --size").next().unwrap_or(line))), "{line}");
        // Shapes of tiles are those of the architecture.
        if name == "tiles.svg" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        folder.prints(&format!("{line} -o {name}"));
        let drawn = folder.read(name);
        if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
            fs::write(root.join("docs/plots").join(name), &drawn).expect("written");
        }
        let kept = fs::read(root.join("docs/plots").join(name)).expect("a picture");
        assert!(
            drawn == kept,
            "docs/plots/{name} is not what `rhumb {line} -o {name}` draws: INSTA_UPDATE=always writes it anew"
        );
    }
}

#[test]
fn mistakes_in_plots() {
    let folder = Folder::new("mistakes");
    let small = "--heads 2 --head-dim 8";
    folder.write(
        "rows.txt",
        "graph rows\naxis k = ?\n%x = input \"x\" : f32[k]\n%1 = exp %x : f32[k]\noutput \"y\" = %1 : f32[k]\n",
    );
    let transcript: String = [
        "plot".to_owned(),
        "plot alibbi".to_owned(),
        "plot 'alibi {slope = 1.0'".to_owned(),
        "plot alibi -o alibi.jpg".to_owned(),
        "plot alibi -o alibi".to_owned(),
        "plot alibi -o nowhere/alibi.svg".to_owned(),
        "plot alibi --heads 0".to_owned(),
        "plot alibi --heads 4000000000".to_owned(),
        "plot rope --head-dim 7".to_owned(),
        "plot alibi --head 8".to_owned(),
        "plot alibi --distances 5..5".to_owned(),
        "plot alibi --distances 0..9999999".to_owned(),
        "plot alibi --query 5".to_owned(),
        "plot alibi --query 99999999999".to_owned(),
        "plot alibi --prefix 99999999999999999999".to_owned(),
        "plot alibi --grid 4x4 --prefix 18446744073709551615".to_owned(),
        "plot alibi --position 2147483647 --distances=-5..5".to_owned(),
        "plot alibi --map --grid 4x4".to_owned(),
        "plot alibi --map --queries 9 --keys 8".to_owned(),
        "plot alibi --map --keys 100000 --queries 100000".to_owned(),
        "plot alibi --grid 4x0".to_owned(),
        "plot alibi --grid 99999999999x99999999999".to_owned(),
        "plot alibi --grid 4x4 --patch 4,0".to_owned(),
        "plot alibi --size 10x10 -o alibi.png".to_owned(),
        "plot 'key_lengths {lengths = 0}'".to_owned(),
        "plot t5".to_owned(),
        "plot 't5 {table = %table}'".to_owned(),
        "plot 't5 {table = %table}' --input table:f64[h]".to_owned(),
        "plot 't5 {table = %table}' --input table:f32[bucket,h]".to_owned(),
        "plot 't5 {table = %table}' --input 'table:f32[h=3]'".to_owned(),
        "plot 't5 {table = %q}'".to_owned(),
        "plot 'documents {keys = %0}'".to_owned(),
        "plot alibi --input q:f32[h]".to_owned(),
        "plot 'kerple {p = %p, a = %a}' --input p:f32[h]=1e35 --input a:f32[h]=1e35".to_owned(),
        "plot --tiles".to_owned(),
        format!("plot {small} --tiles"),
        format!("plot --tiles {small}"),
        format!("plot --tiles {small} --dims b=1,q=8,k=8 --at x=1"),
        format!("plot --tiles {small} --dims b=1,q=8,k=8 --at h=2"),
        format!("plot --tiles {small} --dims b=0,q=8,k=8"),
        "plot --tiles rows.txt --dims k=5".to_owned(),
    ]
    .iter()
    .map(|line| folder.fails(line, "") + "\n")
    .collect();
    assert!(!transcript.contains("panicked"), "{transcript}");
    assert_snapshot!(transcript);
}

#[test]
fn graphs_are_drawn_by_graphviz() {
    let folder = Folder::new("dot");
    let line = "emit --heads 2 --head-dim 8 --causal --scheme alibi --stage dot";
    let dot = folder.prints(line);
    assert_eq!(folder.prints(line), dot);
    assert_snapshot!("dot", dot);
}
