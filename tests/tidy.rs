//! The tree and what is written about it agree.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest source file, in lines.
const MOST_LINES: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, but for build output and hidden folders.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// Every source file: path from the root, and text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(root(), &mut found);
    let sources = found.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect()
}

/// The paths that a page of Markdown names: in code spans, if they have a slash and a file's or folder's form, and as targets of links.
fn named_paths(text: &str) -> Vec<String> {
    let is_path = |span: &str| {
        let chars = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        chars
            && span.contains('/')
            && (span.ends_with('/') || span.rsplit('/').next().is_some_and(|name| name.contains('.')))
    };
    let spans = text.split('`').skip(1).step_by(2).filter(|span| is_path(span));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"));
    spans.chain(links).map(str::to_owned).collect()
}

#[test]
fn pages_name_paths_that_exist() {
    let mut gone = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        // Fences hold programs, not prose.
        let prose: String = text.split("```").step_by(2).collect();
        let paths = named_paths(&prose);
        assert!(paths.len() > 5, "{page} names {} paths: are they still found?", paths.len());
        gone.extend(paths.iter().filter(|path| !root().join(path).exists()).map(|path| format!("{page}: {path}")));
    }
    assert!(gone.is_empty(), "these paths do not exist; name those that do:\n{}", gone.join("\n"));
}

#[test]
fn commands_of_the_readme_exist() {
    let text = fs::read_to_string(root().join("README.md")).expect("a page");
    let after = |flag: &str, folder: &str| -> Vec<PathBuf> {
        let names = text.split(flag).skip(1).filter_map(|rest| rest.split_whitespace().next());
        names.map(|name| Path::new(folder).join(format!("{name}.rs"))).collect()
    };
    let named = [after("--example ", "examples"), after("--bench ", "benches")].concat();
    assert!(!named.is_empty());
    for path in named {
        assert!(root().join(&path).exists(), "README.md names {}, which does not exist", path.display());
    }
}

#[test]
fn source_files_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split these by topic:\n{}", long.join("\n"));
}

#[test]
fn allowed_lints_have_reasons() {
    let mut bare = Vec::new();
    for (name, text) in sources() {
        let starts = text.match_indices("#[allow(").chain(text.match_indices("#![allow("));
        for (start, _) in starts {
            let line = text[..start].lines().count();
            // An attribute alone on its line: in a string or a comment it is something else.
            let head = text[..start].rsplit('\n').next().unwrap_or_default();
            let attribute = text[start..].split(")]").next().unwrap_or_default();
            if head.trim().is_empty() && !attribute.contains("reason =") {
                bare.push(format!("{name}:{line}: {attribute})]"));
            }
        }
    }
    assert!(bare.is_empty(), "say why, as in `#[allow(lint, reason = \"...\")]`:\n{}", bare.join("\n"));
}
