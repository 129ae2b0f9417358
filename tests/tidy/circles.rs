//! No two files of a crate import one another, directly or through others: each can be read with what it imports, and moved.
//!
//! A module that declares or re-exports another does not import it by that; what it re-exports counts as the file's that has it.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{File, ItemMod, ItemUse, UseTree, Visibility};

use super::{CRATES, is_test, source_of, sources};

/// Where a module is in its crate: the names of the modules from the root down.
type Module = Vec<String>;

/// What a file says of others.
#[derive(Default)]
struct Paths {
    /// Paths that it uses, as they are written.
    used: Vec<Vec<String>>,
    /// Names that it re-exports, and from where.
    exports: BTreeMap<String, Vec<String>>,
}

impl Paths {
    fn of_tree(&mut self, tree: &UseTree, mut before: Vec<String>, exported: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.of_tree(&path.tree, before, exported);
            }
            UseTree::Name(name) => self.of_name(before, name.ident.to_string(), name.ident.to_string(), exported),
            UseTree::Rename(name) => self.of_name(before, name.ident.to_string(), name.rename.to_string(), exported),
            UseTree::Glob(_) => self.used.push(before),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.of_tree(tree, before.clone(), exported));
            }
        }
    }

    fn of_name(&mut self, mut path: Vec<String>, name: String, known_as: String, exported: bool) {
        // `use crate::names::{self}` is of the module.
        if name != "self" {
            path.push(name);
        }
        if exported {
            self.exports.insert(known_as, path);
        } else {
            self.used.push(path);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.of_tree(&item.tree, Vec::new(), !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let test = item.attrs.iter().any(|attr| {
            attr.path().is_ident("cfg") && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.used.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// The files of a crate but its tests, by module.
fn modules(source: &str) -> BTreeMap<Module, Paths> {
    let mut found: BTreeMap<Module, Paths> = BTreeMap::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with(source) && !is_test(name)) {
        let path = name[source.len()..].trim_end_matches(".rs");
        let module = path.split('/').filter(|name| !["lib", "main", "mod"].contains(name)).map(str::to_owned);
        let file: File = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        found.entry(module.collect()).or_default().visit_file(&file);
    }
    found
}

/// The path from the root of the crate; none if it begins in another crate, or at an item of the file itself.
fn absolute(modules: &BTreeMap<Module, Paths>, module: &Module, path: &[String]) -> Option<Vec<String>> {
    let mut base = module.clone();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    let relative = rest.len() < path.len();
    base.extend(rest.iter().take(1).cloned());
    (relative || modules.contains_key(&base)).then(|| {
        base.extend(rest.iter().skip(1).cloned());
        base
    })
}

/// The module whose file has what a path names.
fn home(modules: &BTreeMap<Module, Paths>, path: &[String], depth: usize) -> Option<Module> {
    let (module, paths) = (0..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length]))?;
    let exported = path.get(module.len()).and_then(|name| paths.exports.get(name));
    let from = exported.and_then(|from| absolute(modules, module, from)).filter(|from| from != path && depth < 8);
    match from {
        Some(mut from) => {
            from.extend(path[module.len() + 1..].iter().cloned());
            home(modules, &from, depth + 1)
        }
        None => Some(module.clone()),
    }
}

/// The modules that each imports.
fn imports(modules: &BTreeMap<Module, Paths>) -> BTreeMap<&Module, BTreeSet<Module>> {
    let of = |module: &Module, paths: &Paths| {
        let homes = paths.used.iter().filter_map(|path| home(modules, &absolute(modules, module, path)?, 0));
        homes.filter(|home| home != module).collect()
    };
    modules.iter().map(|(module, paths)| (module, of(module, paths))).collect()
}

/// What is left when modules that import none of those left, or that none of those left import, are taken away: circles, and what is
/// between them.
fn circles(imports: &BTreeMap<&Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut left: BTreeSet<Module> = imports.keys().map(|module| (*module).clone()).collect();
    loop {
        let imported = |module: &Module| left.iter().any(|other| imports[other].contains(module));
        let kept = left.iter().filter(|module| imports[module].iter().any(|of| left.contains(of)) && imported(module));
        let kept: BTreeSet<Module> = kept.cloned().collect();
        if kept.len() == left.len() {
            return left;
        }
        left = kept;
    }
}

#[test]
fn no_two_files_import_one_another() {
    for (_, folder, _) in CRATES {
        let source = source_of(folder);
        let found = modules(&source);
        let imports = imports(&found);
        let count: usize = imports.values().map(BTreeSet::len).sum();
        assert!(count >= found.len() / 2, "{source}: {count} imports between {} files", found.len());
        let left = circles(&imports);
        let name = |module: &Module| if module.is_empty() { "the root".to_owned() } else { module.join("/") };
        let lines: Vec<String> = left
            .iter()
            .map(|module| {
                let of: Vec<String> = imports[module].intersection(&left).map(name).collect();
                format!("{} imports {}", name(module), of.join(", "))
            })
            .collect();
        assert!(left.is_empty(), "{source} has a circle of imports; move what both sides share:\n{}", lines.join("\n"));
    }
}

#[test]
fn circles_are_found_through_re_exports() {
    let parse = |text: &str| {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(text).expect("a file"));
        paths
    };
    let module = |path: &str| path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Module>();
    let of = |files: &[(&str, &str)]| {
        let found: BTreeMap<Module, Paths> = files.iter().map(|(path, text)| (module(path), parse(text))).collect();
        circles(&imports(&found)).into_iter().map(|module| module.join("/")).collect::<Vec<_>>()
    };
    // The parent hands on what `b` has, which imports what `a` has: no circle until `a` calls `b`.
    let parent = ("", "mod a; mod b; pub(crate) use b::B;");
    let (a, b) = (("a", "pub(crate) struct A;"), ("b", "use super::a::A; pub(crate) struct B(A);"));
    assert!(of(&[parent, a, b]).is_empty());
    assert_eq!(of(&[parent, ("a", "pub(crate) struct A(crate::B);"), b]), ["a", "b"]);
    assert_eq!(of(&[parent, ("a", "pub(crate) struct A; fn f() { super::b::B::new(); }"), b]), ["a", "b"]);
    // Tests import what they test.
    assert!(of(&[parent, ("a", "pub(crate) struct A; #[cfg(test)] mod tests { use crate::B; }"), b]).is_empty());
}
