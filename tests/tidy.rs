//! The tree and what is written about it agree.

#[path = "tidy/circles.rs"]
mod circles;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rhumb::prelude::*;

/// The longest source file, in lines.
const MOST_LINES: usize = 500;

/// The longest function, in lines from its name to its last brace.
const MOST_OF_FUNCTION: usize = 70;

/// Crates, their folders, and the crates of the workspace that they import.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("rhumb-random", "random", &[]),
    ("rhumb-ir", "ir", &[]),
    ("rhumb-plugins", "plugins", &["rhumb-ir"]),
    ("clif-wide", "compiler/wide", &[]),
    ("rhumb-compiler", "compiler", &["clif-wide", "rhumb-ir", "rhumb-plugins"]),
    ("rhumb-runtime", "runtime", &["rhumb-compiler", "rhumb-ir", "rhumb-plugins"]),
    ("rhumb", "", &["rhumb-compiler", "rhumb-ir", "rhumb-plugins", "rhumb-random", "rhumb-runtime"]),
];

/// Where the compiler and the runtime meet plugins: to lower their ops.
const LOWERING: [&str; 2] = ["compiler/src/pipeline.rs", "runtime/src/engine.rs"];

/// Where `unsafe` may stand: the memory of the runtime, and tests and benchmarks that call machine code or map memory themselves.
const UNSAFE: [&str; 7] = [
    "runtime/src/memory.rs",
    "runtime/src/memory/",
    "compiler/wide/tests/it/jit.rs",
    "compiler/wide/examples/peak.rs",
    "benches/common/chains.rs",
    "tests/guard_pages.rs",
    "tests/memory.rs",
];

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
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/goldens/README.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        // Fences hold programs, not prose.
        let prose: String = text.split("```").step_by(2).collect();
        let paths = named_paths(&prose);
        let least = if page.contains('/') { 1 } else { 5 };
        assert!(paths.len() > least, "{page} names {} paths: are they still found?", paths.len());
        gone.extend(paths.iter().filter(|path| !root().join(path).exists()).map(|path| format!("{page}: {path}")));
    }
    assert!(gone.is_empty(), "these paths do not exist; name those that do:\n{}", gone.join("\n"));
}

/// What crates show in the registry is compiled: a piece of the front page, whose examples are tests.
#[test]
fn readmes_of_crates_show_their_front_pages() {
    for (name, folder, _) in CRATES.into_iter().filter(|(_, folder, _)| !folder.is_empty()) {
        let read = |file: &str| fs::read_to_string(root().join(folder).join(file)).expect("a page");
        let lines = read("src/lib.rs");
        let lines = lines.lines().filter_map(|line| line.strip_prefix("//!"));
        let front: String = lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
        let readme = read("README.md");
        let examples: Vec<&str> =
            readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty(), "the README of {name} has no example");
        for example in examples {
            assert!(front.contains(example), "the README of {name} has what its front page has not:\n{example}");
        }
    }
}

/// A declaration and its mathematics, documentation included.
#[test]
fn schemes_of_ones_own_take_a_dozen_lines() {
    for page in ["README.md", "plugins/README.md", "examples/custom_scheme.rs"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let from =
            text.find("scheme! {\n").map(|at| &text[at..]).unwrap_or_else(|| panic!("{page} declares no scheme"));
        let parts: Vec<&str> = from.split("\n}\n").take(2).collect();
        assert!(parts.len() == 2 && parts[1].contains("impl PositionScheme for"), "{page}:\n{from}");
        let is_said = |line: &&str| !line.trim().is_empty() && !line.starts_with("// ");
        // The split takes the last line of each part.
        let lines: usize = parts.iter().map(|part| part.lines().filter(is_said).count() + 1).sum();
        assert!(parts[0].contains(": f64 = ") && lines <= 12, "the scheme in {page} has {lines} lines");
    }
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
    let lines = sources().into_iter().map(|(name, text)| (name, text.lines().count()));
    let long: Vec<_> = lines.filter(|(_, lines)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "split these by topic: {long:?}");
}

/// The functions of a source, with their lines: each ends at the brace that stands where its line begins, as rustfmt puts it.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else { continue };
        let is_head =
            words(before).all(|word| ["pub", "crate", "super", "const", "unsafe", "extern", "C"].contains(&word));
        let name = words(after).next().unwrap_or_default();
        if !is_head || before.contains('/') || !after.starts_with(name) || name.is_empty() {
            continue;
        }
        let ends = |line: &&str| indent(line) == indent(lines[at]) && line.trim_end().ends_with(['}', ';']);
        if let Some(more) = lines[at..].iter().position(ends) {
            found.push((name.to_owned(), more + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    let mut count = 0;
    for (name, text) in sources() {
        for (function, lines) in functions(&text) {
            count += 1;
            if lines > MOST_OF_FUNCTION {
                long.push(format!("{name}: {function}, {lines} lines"));
            }
        }
    }
    assert!(count > 4000, "{count} functions: are they still found?");
    assert!(long.is_empty(), "split these by topic:\n{}", long.join("\n"));
    let some = "fn one() {\n}\n    pub(crate) const fn two<T>(\n        x: T,\n    ) -> T {\n        x\n    }\nfn three() { 3 }\n";
    let found: Vec<(String, usize)> =
        [("one", 2), ("two", 5), ("three", 1)].map(|(name, n)| (name.to_owned(), n)).into();
    assert_eq!(functions(some), found);
}

/// A source without comments, character strings left as they are.
fn code(text: &str) -> String {
    let uncommented = |line: &str| match line.find("//") {
        // An address in a string is no comment.
        Some(at) if line[..at].matches('"').count().is_multiple_of(2) => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| uncommented(line) + "\n").collect()
}

/// Whether a source file has tests alone.
fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// The folder of a crate's sources.
fn source_of(folder: &str) -> String {
    if folder.is_empty() { "src/".to_owned() } else { format!("{folder}/src/") }
}

/// The code of a crate but its tests: files of tests, and modules of tests, which end a file.
fn code_of(folder: &str) -> Vec<(String, String)> {
    let found = sources().into_iter().filter(|(name, _)| name.starts_with(folder) && !is_test(name));
    let code: Vec<_> = found
        .map(|(name, text)| (name, code(&text).split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()))
        .collect();
    let least = if folder == "random/src/" { 1 } else { 6 };
    assert!(code.len() >= least, "{folder} has {} files", code.len());
    code
}

/// The words of a text: letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Names of workspace crates in a section of a manifest.
fn dependencies(folder: &str, section: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
    let section =
        text.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['=', '.']).next()).map(|name| name.trim().to_owned());
    names.filter(|name| CRATES.iter().any(|(known, ..)| known == name)).collect()
}

#[test]
fn imports_point_one_way() {
    for (name, folder, allowed) in CRATES {
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(dependencies(folder, "dependencies"), allowed, "dependencies of {name}");
        // Tests keep to the direction too, and draw random numbers.
        let mut tests = dependencies(folder, "dev-dependencies");
        tests.remove("rhumb-random");
        assert!(tests.is_subset(&allowed), "tests of {name} depend on {tests:?}");
        let own = name.replace('-', "_");
        let known = |word: &str| allowed.contains(&word.replace('_', "-")) || word == own;
        let source = source_of(folder);
        for (file, text) in code_of(&source) {
            let crates = words(&text).filter(|word| CRATES.iter().any(|(name, ..)| name.replace('-', "_") == *word));
            let foreign: BTreeSet<&str> = crates.filter(|word| *word != "rhumb" && !known(word)).collect();
            assert!(foreign.is_empty(), "{file} imports {foreign:?}");
        }
    }
    for folder in ["compiler/src/", "runtime/src/"] {
        for (file, text) in code_of(folder).into_iter().filter(|(file, _)| !LOWERING.contains(&file.as_str())) {
            assert!(!text.contains("rhumb_plugins"), "{file} imports plugins, and lowers nothing");
        }
    }
}

#[test]
fn the_compiler_and_the_runtime_know_no_scheme() {
    let registry = Registry::standard();
    let names: BTreeSet<String> = registry.schemes().map(|info| info.name.replace('_', "")).collect();
    assert!(names.contains("alibi") && names.contains("slidingwindow") && names.len() > 5, "{names:?}");
    for folder in ["compiler/src/", "compiler/wide/src/", "runtime/src/"] {
        for (file, text) in code_of(folder) {
            // In identifiers of either style, and in strings.
            let parts = words(&text).map(|word| word.replace('_', "").to_lowercase());
            let known: BTreeSet<String> = parts.filter(|word| names.contains(word)).collect();
            assert!(known.is_empty(), "{file} names {known:?}");
        }
    }
}

#[test]
fn unsafe_stands_in_its_modules() {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    // But for this one, which speaks of it.
    for (file, text) in sources().into_iter().filter(|(file, _)| file != "tests/tidy.rs") {
        let text = code(&text);
        let allowed = UNSAFE.iter().find(|path| file == **path || (path.ends_with('/') && file.starts_with(**path)));
        if words(&text).any(|word| word == "unsafe") {
            assert!(allowed.is_some(), "{file} has `unsafe`; it stands in {UNSAFE:?}");
            found.extend(allowed);
        }
        // Modules below one that allows it inherit that.
        let allows = text.contains("allow(unsafe_code");
        assert!(!allows || allowed.is_some(), "{file} allows `unsafe`");
        found.extend(allowed.filter(|_| allows));
    }
    assert_eq!(found.len(), UNSAFE.len(), "without `unsafe` are some of {UNSAFE:?}");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"));
    for (name, folder, _) in CRATES {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        assert!(text.contains("\n[lints]\nworkspace = true\n"), "{name} does not take the lints of the workspace");
    }
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
