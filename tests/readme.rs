//! Every `rhumb` command that README.md shows, run as it stands there.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A command line as a shell splits it: words, those in single quotes one, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        for word in part.split_whitespace() {
            if word.starts_with('#') {
                return words;
            }
            words.push(word.to_owned());
        }
    }
    words
}

/// The lines of the README's shell blocks that begin with `rhumb`.
fn commands(readme: &str) -> Vec<&str> {
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.starts_with("rhumb ")).collect()
}

#[test]
fn the_commands_of_the_readme_run_in_their_order() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    // The configuration that the README's own program reads.
    let config =
        readme.split("let config = r#\"").nth(1).and_then(|rest| rest.split("\"#").next()).expect("a configuration");
    fs::write(folder.join("config.json"), config).expect("a file");

    fs::create_dir(folder.join("examples")).expect("a folder");
    let scheme = "examples/tilted_alibi.scheme";
    fs::copy(root.join(scheme), folder.join(scheme)).expect("a file");

    let commands = commands(&readme);
    assert!(commands.len() >= 7, "{commands:?}");
    for line in commands {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_rhumb"))
            .args(words(line).split_off(1))
            .current_dir(&folder)
            .output()
            .expect("starts");
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success() && stderr.is_empty(), "{line}: {status}\n{stderr}");
        let writes = line.contains("--outputs ") || line.contains(" -o ");
        assert_eq!(stdout.is_empty(), writes, "{line}: {}", String::from_utf8_lossy(&stdout));
    }
    assert!(folder.join("out.safetensors").is_file());
}
