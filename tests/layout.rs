//! Layout of the code: what CONTRIBUTING.md promises, as far as a program can check it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree, Visibility};

/// A crate: the folder of its root, and its rooms from low to high. Rooms of one floor may not
/// import each other.
struct Rooms {
    root: &'static str,
    floors: &'static [&'static [&'static str]],
}

const OPERATORS: Rooms = Rooms {
    root: "operators/src",
    floors: &[
        &["data", "error"],
        &["algorithms"],
        &["flow"],
        &["epochs", "pauses"],
        &[
            "ingest", "predict", "label", "share", "unseen", "learn", "commit",
        ],
    ],
};

const CONNECTORS: Rooms = Rooms {
    root: "connectors/src",
    floors: &[
        &["files", "native", "schema"],
        &["kafka", "onnx"],
        &["format", "link"],
        &["knowledge_base", "sink", "source", "trainer"],
    ],
};

const PIPELINE: Rooms = Rooms {
    root: "pipeline",
    floors: &[
        &["config", "fault", "run_status"],
        &["error"],
        &["terminal", "learning"],
        &["link", "restore"],
        &["input", "commit", "report"],
        &["graph"],
        &["run"],
        &["commands"],
    ],
};

const CRATES: [&Rooms; 3] = [&OPERATORS, &CONNECTORS, &PIPELINE];

/// Greatest width of a comment, in characters.
const WIDTH: usize = 100;

#[test]
fn modules_do_not_import_upwards() {
    let upward: Vec<String> = CRATES.iter().flat_map(|rooms| rooms.upward()).collect();
    assert!(upward.is_empty(), "\n{}", upward.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let mut circles = Vec::new();
    for rooms in CRATES {
        let imports = rooms.imports();
        for file in imports.keys() {
            if reaches(&imports, file, file) {
                circles.push(format!("{}/{}", rooms.root, file.join("/")));
            }
        }
    }
    assert!(
        circles.is_empty(),
        "in a circle of imports:\n{}",
        circles.join("\n")
    );
}

#[test]
fn crate_roots_reexport_no_globs() {
    let globs = CRATES.iter().flat_map(|rooms| {
        let root = rooms.path("lib.rs");
        let items = parse(&root).items.into_iter();
        let reexports = items.filter_map(|item| match item {
            Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => Some(item),
            _ => None,
        });
        let globs = reexports.filter(|item| {
            let mut leaves = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut leaves);
            leaves
                .iter()
                .any(|leaf| leaf.last().is_some_and(|name| name == "*"))
        });
        let line = |item: syn::ItemUse| format!("{}:{}", root.display(), line_of(&item));
        globs.map(line).collect::<Vec<_>>()
    });
    let globs: Vec<String> = globs.collect();
    assert!(globs.is_empty(), "re-export by name: {}", globs.join(", "));
}

#[test]
fn type_names_are_unique_in_a_crate() {
    let mut twice = Vec::new();
    for rooms in CRATES {
        let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in rooms.files() {
            for item in parse(&file).items {
                let name = match &item {
                    Item::Struct(item) => &item.ident,
                    Item::Enum(item) => &item.ident,
                    Item::Trait(item) => &item.ident,
                    Item::Type(item) => &item.ident,
                    _ => continue,
                };
                let places = types.entry(name.to_string()).or_default();
                places.push(format!("{}:{}", file.display(), line_of(&item)));
            }
        }
        let several = types.into_iter().filter(|(_, places)| places.len() > 1);
        twice.extend(several.map(|(name, places)| format!("{name}: {}", places.join(", "))));
    }
    assert!(twice.is_empty(), "\n{}", twice.join("\n"));
}

#[test]
fn comments_fit_their_width() {
    let mut wide = Vec::new();
    for folder in [
        "operators",
        "connectors",
        "pipeline",
        "trainer",
        "tests",
        "benches",
    ] {
        for file in rust_files(&project().join(folder)) {
            let text = read(&file);
            for (number, line) in text.lines().enumerate() {
                if line.trim_start().starts_with("//") && line.chars().count() > WIDTH {
                    wide.push(format!("{}:{}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(
        wide.is_empty(),
        "wider than {WIDTH} columns:\n{}",
        wide.join("\n")
    );
}

#[test]
fn docs_say_more_than_see() {
    let mut empty = Vec::new();
    for file in CRATES.iter().flat_map(|rooms| rooms.files()) {
        let text = read(&file);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let is_doc = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("///"));
        for (number, line) in lines.iter().enumerate() {
            let alone = !is_doc(number.checked_sub(1).and_then(|before| lines.get(before)))
                && !is_doc(lines.get(number + 1));
            if alone && line.starts_with("/// See [") {
                empty.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(empty.is_empty(), "say what it is:\n{}", empty.join("\n"));
}

#[test]
fn graph_fits_a_screen() {
    let path = PIPELINE.path("graph/mod.rs");
    let lines = read(&path).lines().count();
    assert!(lines <= 150, "{} has {lines} lines", path.display());
    let build = parse(&path).items.into_iter().find_map(|item| match item {
        Item::Fn(item) if item.sig.ident == "build" => Some(item),
        _ => None,
    });
    let span = build.expect("graph::build").span();
    let lines = span.end().line + 1 - span.start().line;
    assert!(lines <= 70, "graph::build has {lines} lines with its docs");
}

#[test]
fn files_are_short() {
    let files = CRATES.iter().flat_map(|rooms| rooms.files());
    let mut lengths: Vec<usize> = files.map(|file| read(&file).lines().count()).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 150, "the median file has {median} lines");
}

#[test]
fn book_describes_what_exists() {
    let folder = project().join("docs/src");
    let pages = fs::read_dir(&folder).expect("docs/src").flatten();
    for page in pages.map(|page| page.path()).filter(|page| page.is_file()) {
        let planned = read(&page).contains("*(planned)*");
        assert!(!planned, "{} announces something", page.display());
    }
}

impl Rooms {
    fn path(&self, file: &str) -> PathBuf {
        project().join(self.root).join(file)
    }

    /// Source files, without those of unit tests.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = rust_files(&project().join(self.root));
        files.retain(|file| {
            let mut parts = file.components().map(|part| part.as_os_str());
            !parts.any(|part| part == "tests" || part == "tests.rs")
        });
        files
    }

    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&room))
    }

    /// Imports of a room from one that is not below it, one line each.
    fn upward(&self) -> Vec<String> {
        let exported = self.exported();
        let mut found = Vec::new();
        for file in self.files() {
            let module = self.module_of(&file);
            let Some(room) = module.first() else { continue };
            let floor = self.floor(room);
            let floor =
                floor.unwrap_or_else(|| panic!("{room} is on no floor: add it to this test"));
            for (path, line) in paths(&file, &module) {
                let target = path.first().map(|name| exported.get(name).unwrap_or(name));
                let above = target.filter(|target| *target != room);
                let Some(other) = above.and_then(|target| self.floor(target)) else {
                    continue;
                };
                if other >= floor {
                    let place = format!("{}:{line}", file.display());
                    let what = path.join("::");
                    let target = self.floors[floor].join("/, ");
                    found.push(format!(
                        "{place}: crate::{what} is not below {room}/: move it below {target}/, or \
                         what needs it above"
                    ));
                }
            }
        }
        found
    }

    /// Modules that each file imports from. A `mod.rs` is the face of its folder: what it
    /// re-exports of its children is not counted.
    fn imports(&self) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
        let files = self.files();
        let modules: BTreeSet<Vec<String>> =
            files.iter().map(|file| self.module_of(file)).collect();
        let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for file in files {
            let module = self.module_of(&file);
            let targets = imports.entry(module.clone()).or_default();
            for (path, _) in paths(&file, &module) {
                let prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
                let target = prefixes.into_iter().find(|prefix| modules.contains(prefix));
                targets.extend(target.filter(|target| !target.starts_with(&module)));
            }
        }
        imports
    }

    /// Names that the crate's root re-exports, with the room that they come from.
    fn exported(&self) -> BTreeMap<String, String> {
        let mut exported = BTreeMap::new();
        for item in parse(&self.path("lib.rs")).items {
            let Item::Use(item) = item else { continue };
            let mut leaves = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut leaves);
            for leaf in leaves {
                let inner = leaf
                    .iter()
                    .skip_while(|name| *name == "self" || *name == "crate");
                if let (Some(room), Some(name)) = (inner.clone().next(), leaf.last()) {
                    exported.insert(name.clone(), room.clone());
                }
            }
        }
        exported
    }

    /// Names of the modules that lead to a file, without the crate.
    fn module_of(&self, file: &Path) -> Vec<String> {
        let inner = file
            .strip_prefix(project().join(self.root))
            .expect("a file of the crate");
        let inner = inner.with_extension("");
        let names = inner.iter().map(|name| name.to_string_lossy().to_string());
        names
            .filter(|name| !["mod", "lib", "main"].contains(&&**name))
            .collect()
    }
}

/// Paths within the crate that a file names, with their lines: imports and others.
fn paths(file: &Path, module: &[String]) -> Vec<(Vec<String>, usize)> {
    let mut paths = Paths {
        module: module.to_vec(),
        found: Vec::new(),
    };
    paths.visit_file(&parse(file));
    paths.found
}

/// Whether imports lead from one file to another.
fn reaches(
    imports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    from: &Vec<String>,
    to: &Vec<String>,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Vec<String>> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(imports.get(module).into_iter().flatten());
        }
    }
    false
}

/// Paths of one file.
struct Paths {
    module: Vec<String>,
    found: Vec<(Vec<String>, usize)>,
}

impl Paths {
    /// Notes a path that begins with `crate`, `self` or `super`.
    fn add(&mut self, names: &[String], line: usize) {
        let mut from = match names.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        for name in names {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(from.pop()),
                name => from.push(name.to_string()),
            }
        }
        self.found.push((from, line));
    }
}

impl<'a> Visit<'a> for Paths {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let mut leaves = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut leaves);
        for leaf in leaves {
            self.add(&leaf, line_of(item));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.add(&names.collect::<Vec<_>>(), line_of(path));
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let inner = list.parse_args_with(Punctuated::<Meta, syn::Token![,]>::parse_terminated);
            inner.is_ok_and(|inner| inner.iter().any(|meta| meta.path().is_ident("test")))
        }
        _ => false,
    })
}

/// Full paths of all leaves of an import.
fn flatten(tree: &UseTree, path: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, leaves);
            path.pop();
        }
        UseTree::Name(name) => leaves.push(with(path, &name.ident.to_string())),
        UseTree::Rename(name) => leaves.push(with(path, &name.ident.to_string())),
        UseTree::Glob(_) => leaves.push(with(path, "*")),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, path, leaves);
            }
        }
    }
}

fn with(path: &[String], name: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(name.to_string());
    path
}

fn line_of(item: &impl Spanned) -> usize {
    item.span().start().line
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(path: &Path) -> syn::File {
    syn::parse_file(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust files below a folder, in the order of their paths.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
