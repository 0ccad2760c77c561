//! The import graph of both crates, read from their syntax trees: no circle between files, and folders that import only
//! what is below them.
//!
//! An edge is a path in a file that leads into another file of the same crate; a file and its own `tests` and `models` are
//! left out, and so is what is compiled for tests only. Paths in macros' arguments count.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// The folders and files of `scheduler/src`, from the lowest up: each imports itself and what comes before it.
const SCHEDULER: &[&str] = &[
    "base",
    "memory",
    "tls",
    "config",
    "claim",
    "stack",
    "goroutine",
    "queue",
    "timer",
    "seat",
    "processor",
    "wait",
    "worker",
    "io",
    "shared_timer",
    "runtime",
];

/// A file of a crate, by its module's path: `base/atomics`, and `base` for `base/mod.rs`.
type Module = String;
type Graph = BTreeMap<Module, BTreeSet<Module>>;

struct Crate {
    modules: BTreeSet<Module>,
    /// What a module hands on, by the module, the name, and where it is: `pub use`. The root is "".
    handed_on: BTreeMap<(Module, String), Module>,
}

/// The paths in one file, each by its segments; and those of `pub use`.
#[derive(Default)]
struct Paths {
    all: Vec<Vec<String>>,
    handed_on: Vec<Vec<String>>,
    /// How many modules of the file are around what is visited.
    depth: usize,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let said: Vec<String> =
            list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect();
        list.path.is_ident("cfg") && said.iter().any(|word| word == "test") && !said.iter().any(|word| word == "not")
    })
}

impl Paths {
    /// A path as it would be at the top of the file.
    fn add(&mut self, mut path: Vec<String>) {
        for _ in 0..self.depth {
            match path.first().map(String::as_str) {
                Some("super") => drop(path.remove(0)),
                Some("crate") => break,
                // Inside of the file.
                _ => return,
            }
        }
        if self.depth > 0 && path.first().is_none_or(|first| first != "super" && first != "crate") {
            path.insert(0, "self".to_owned());
        }
        self.all.push(path);
    }

    fn of_use(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.of_use(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Name(name) => self.add(before.iter().cloned().chain([name.ident.to_string()]).collect()),
            syn::UseTree::Rename(name) => self.add(before.iter().cloned().chain([name.ident.to_string()]).collect()),
            syn::UseTree::Glob(_) => self.add(before.clone()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.of_use(before, tree)),
        }
    }

    /// Paths in what a macro is given.
    fn of_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons, mut after_dollar) = (Vec::new(), 0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.add(std::mem::take(&mut path));
                    }
                    // `$crate` names what the macro's user sees.
                    if !std::mem::take(&mut after_dollar) {
                        path.push(ident.to_string());
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Punct(punct) => {
                    after_dollar = punct.as_char() == '$';
                    self.add(std::mem::take(&mut path));
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.add(std::mem::take(&mut path));
                    self.of_tokens(group.stream());
                    colons = 0;
                }
                TokenTree::Literal(_) => self.add(std::mem::take(&mut path)),
            }
        }
        self.add(path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            let before = self.all.len();
            self.of_use(&mut Vec::new(), &item.tree);
            if !matches!(item.vis, syn::Visibility::Inherited) {
                self.handed_on.extend_from_slice(&self.all[before..]);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.of_tokens(call.tokens.clone());
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

impl Crate {
    /// The file into which a path of `from` leads, if it is one of the crate's.
    fn target(&self, from: &str, path: &[String]) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let mut at: Vec<&str> = if from.is_empty() { Vec::new() } else { from.split('/').collect() };
        let mut rest = rest;
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop();
                while let Some((name, more)) = rest.split_first().filter(|(name, _)| *name == "super") {
                    let _above = name;
                    at.pop();
                    rest = more;
                }
            }
            _ => return None,
        }
        for name in rest {
            if let Some(module) = self.handed_on.get(&(at.join("/"), name.clone())) {
                return (module != from).then(|| module.clone());
            }
            at.push(name);
            if !self.modules.contains(&at.join("/")) {
                at.pop();
                break;
            }
        }
        let found = at.join("/");
        (!found.is_empty() && found != from).then_some(found)
    }
}

/// The graph of the crate in `dir`.
fn graph(dir: &str) -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files = Vec::new();
    files_below(&root, &mut files);
    let module = |file: &Path| {
        let inside = file.strip_prefix(&root).unwrap().with_extension("");
        let name = inside.to_str().unwrap();
        name.strip_suffix("/mod").unwrap_or(name).to_owned()
    };
    files.retain(|file| !["tests", "models"].contains(&file.file_stem().unwrap().to_str().unwrap()));
    let paths: BTreeMap<Module, Paths> = files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let tree = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let mut paths = Paths::default();
            paths.visit_file(&tree);
            // The root is the module without a name.
            (Some(module(file)).filter(|name| name != "lib").unwrap_or_default(), paths)
        })
        .collect();
    let modules: BTreeSet<Module> = paths.keys().cloned().collect();
    let mut the_crate = Crate { modules, handed_on: BTreeMap::new() };
    // A path without `crate`, `self` or `super` may begin with a module of one's own.
    let own = |path: &Vec<String>| [&["self".to_owned()], path.as_slice()].concat();
    // Twice, as what is handed on may be handed on once more.
    for _ in 0..2 {
        let handed_on = paths.iter().flat_map(|(module, paths)| paths.handed_on.iter().map(move |path| (module, path)));
        let found = handed_on.filter_map(|(module, path)| {
            let target = the_crate.target(module, path).or_else(|| the_crate.target(module, &own(path)))?;
            Some(((module.clone(), path.last()?.clone()), target))
        });
        let found: Vec<_> =
            found.filter(|((module, name), _)| !the_crate.modules.contains(&format!("{module}/{name}"))).collect();
        the_crate.handed_on.extend(found);
    }
    let edges = paths.iter().filter(|(module, _)| !module.is_empty());
    edges
        .map(|(module, paths)| {
            let into_own = paths.all.iter().filter_map(|path| the_crate.target(module, &own(path)));
            let into_own = into_own
                .filter(|target| target.strip_prefix(module.as_str()).is_some_and(|inside| inside.starts_with('/')));
            let elsewhere = paths.all.iter().filter_map(|path| the_crate.target(module, path));
            (module.clone(), elsewhere.chain(into_own).filter(|target| target != module).collect())
        })
        .collect()
}

/// A circle that begins and ends with `start`, if there is one.
fn circle<'g>(graph: &'g Graph, start: &'g str) -> Option<Vec<&'g str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = vec![start];
    while let Some(at) = next.pop() {
        for target in graph.get(at).into_iter().flatten() {
            if target == start {
                let mut back = vec![start, at];
                while let Some(before) = came_from.get(*back.last().unwrap()) {
                    back.push(before);
                }
                back.reverse();
                return Some(back);
            }
            if !came_from.contains_key(target.as_str()) {
                came_from.insert(target.as_str(), at);
                next.push(target);
            }
        }
    }
    None
}

#[track_caller]
fn assert_no_circle(graph: &Graph) {
    let circles: Vec<String> =
        graph.keys().filter_map(|file| circle(graph, file)).map(|files| files.join(" -> ")).collect();
    assert!(circles.is_empty(), "\n{}\n", circles.join("\n"));
}

#[test]
fn no_files_of_the_scheduler_import_each_other_in_a_circle() {
    let graph = graph("scheduler/src");
    assert!(graph["wait/park"].contains("goroutine/block"), "the graph was read: {graph:?}");
    assert_no_circle(&graph);
}

#[test]
fn no_files_of_gorun_import_each_other_in_a_circle() {
    let graph = graph("src");
    assert!(graph["chan/sender"].contains("chan/handle"), "the graph was read: {graph:?}");
    assert_no_circle(&graph);
}

#[test]
fn the_schedulers_floors_import_only_what_is_below_them() {
    let graph = graph("scheduler/src");
    let floor = |module: &str| {
        let name = module.split('/').next().unwrap();
        SCHEDULER.iter().position(|floor| *floor == name).unwrap_or_else(|| panic!("{name} is not among the floors"))
    };
    let wrong: Vec<String> = graph
        .iter()
        .flat_map(|(file, targets)| targets.iter().map(move |target| (file, target)))
        .filter(|(file, target)| floor(target) > floor(file))
        .map(|(file, target)| format!("{file} imports {target}, which is above it"))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let used: BTreeSet<usize> = graph.keys().map(|file| floor(file)).collect();
    assert_eq!(used.len(), SCHEDULER.len(), "a floor without files");
}
