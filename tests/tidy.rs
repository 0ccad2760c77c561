//! The shape of the project, checked: heads, sizes, who imports whom, who names which crate, examples and links.
//!
//! Texts are read as a reader would, line by line; nothing is compiled. When a test here fails because the code has
//! grown, what it says is what to write into the lists below, or a reason to think again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file, and of a test, bench or example.
const MOST_LINES: usize = 500;
const MOST_TEST_LINES: usize = 700;

/// Who imports whom in `src`, from the lowest module up; `^` marks an import of a higher one. `go` starts the default runtime, whose builder spawns with `go`; an `ErrGroup` cancels a context,
/// which is made of locks; a `SingleFlight` answers through a channel.
const GORUN: &str = "
    unwinding:
    local:
    join:
    go: join ^runtime
    runtime: join go
    sync: join go ^chan ^context ^time
    scope: join go sync
    chan: sync
    select: chan
    time: join go runtime chan
    context: sync chan time
    blocking: sync
    net: blocking
";

/// Which files name a third-party crate. One each is the aim.
const CRATES: &[(&str, &[&str])] = &[
    ("corosensei", &["scheduler/src/stack/coroutine.rs"]),
    ("crossbeam_channel", &["src/blocking.rs"]),
    ("crossbeam_deque", &["scheduler/src/queue/run_queue.rs"]),
    (
        "crossbeam_utils",
        &["scheduler/src/base/atomics.rs", "scheduler/src/seat/seats.rs", "scheduler/src/shared_timer/timer.rs"],
    ),
    (
        "libc",
        &[
            "scheduler/src/base/",
            "scheduler/src/io/",
            "scheduler/src/memory/",
            "scheduler/src/timer/clock.rs",
            "scheduler/src/tls/",
            "src/net/tcp_stream.rs",
        ],
    ),
    ("lock_api", &["src/sync/"]),
    ("loom", &["scheduler/src/base/atomics.rs", "src/sync/shim.rs"]),
    ("shuttle", &["scheduler/src/base/atomics.rs", "src/sync/shim.rs"]),
    ("socket2", &["src/net/"]),
];

/// Thread-locals of the crates' own: here only, as whoever else had one might look at it on another thread than it
/// thinks. (`goroutine_local!` declares one beside each key, which is used where it is a goroutine's own.)
const THREAD_LOCALS: &[&str] = &[
    "src/local/macros.rs",
    "scheduler/src/goroutine/current.rs",
    "scheduler/src/goroutine/storage/in_force.rs",
    "scheduler/src/tls/fork.rs",
    "scheduler/src/tls/self_test.rs",
];

/// Files whose public functions need no example.
const WITHOUT_EXAMPLES: &[&str] = &[
    // Not documented either: what `select!` expands to.
    "src/select/arm.rs",
    // Stands for `tls/mod.rs`, which has them, where that can't be had.
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One text file of the project.
struct Text {
    /// From the root.
    name: String,
    text: String,
}

impl Text {
    /// The lines that are no comment, without comments at their ends, up to the first test module.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let lines = lines.take_while(|(_, l)| !l.starts_with("#[cfg(test)]") && !l.starts_with("#[cfg(all(test"));
        lines.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
    }
}

/// All files below `dir` whose names end in `ending`, in order.
fn texts(dir: &str, ending: &str) -> Vec<Text> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                found.push(path);
            } else if !path.ends_with("target") {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    found.retain(|path| path.to_str().is_some_and(|name| name.ends_with(ending)));
    found.sort();
    found.into_iter().map(|path| read(path.strip_prefix(root()).unwrap().to_str().unwrap())).collect()
}

fn read(name: &str) -> Text {
    let text = fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    Text { name: name.to_owned(), text }
}

/// The code of both crates, and the files with their unit tests.
fn all_sources() -> Vec<Text> {
    ["src", "scheduler/src"].into_iter().flat_map(|dir| texts(dir, ".rs")).collect()
}

fn sources() -> Vec<Text> {
    all_sources().into_iter().filter(|f| !is_test(&f.name)).collect()
}

/// Files of unit tests and models.
fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.ends_with("/models.rs")
}

/// Everything else in Rust.
fn other_code() -> Vec<Text> {
    ["tests", "benches", "examples"].into_iter().flat_map(|dir| texts(dir, ".rs")).collect()
}

/// The documents at the top of both crates, and in `docs`.
fn documents() -> Vec<Text> {
    let names = fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".md")).collect();
    names.push("scheduler/README.md".to_owned());
    names.iter().map(|name| read(name)).chain(texts("docs", ".md")).collect()
}

/// Fails with everything that is wrong, not just the first.
#[track_caller]
fn nothing_wrong(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

#[test]
fn every_file_says_what_it_is() {
    let files = all_sources().into_iter().chain(other_code());
    nothing_wrong(
        files.filter(|f| !f.text.starts_with("//! ")).map(|f| format!("{}: no `//!` head", f.name)).collect(),
    );
}

#[test]
fn no_file_is_long() {
    let too_long = |files: Vec<Text>, most: usize| {
        let long = files.into_iter().map(|f| (f.text.lines().count(), f.name)).filter(move |(n, _)| *n > most);
        long.map(|(n, name)| format!("{name}: {n} lines")).collect::<Vec<_>>()
    };
    let mut wrong = too_long(all_sources(), MOST_LINES);
    wrong.extend(too_long(other_code(), MOST_TEST_LINES));
    nothing_wrong(wrong);
}

/// The module of a crate that a file belongs to.
fn module_of<'a>(name: &'a str, dir: &str) -> &'a str {
    let inside = &name[dir.len() + 1..];
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// For each module of the crate in `dir`, the modules it imports through `crate::`.
fn imports(dir: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lib = read(&format!("{dir}/lib.rs"));
    // Names that the root exports, by the module they come from.
    let mut exported = BTreeMap::new();
    for (_, line) in lib.code() {
        let path = line.trim().strip_prefix("pub use ").and_then(|path| path.strip_suffix(';'));
        if let Some((module, names)) = path.and_then(|path| path.split_once("::")) {
            for name in names.trim_matches(['{', '}']).split(',').map(str::trim) {
                exported.insert(name.to_owned(), module.to_owned());
            }
        }
    }
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in texts(dir, ".rs").iter().filter(|f| !f.name.ends_with("lib.rs") && !is_test(&f.name)) {
        let module = module_of(&file.name, dir);
        let found = imports.entry(module.to_owned()).or_default();
        for (_, line) in file.code() {
            // `$crate::` is a macro's, and names what its user sees.
            for (at, _) in line.match_indices("crate::").filter(|(at, _)| !line[..*at].ends_with('$')) {
                let rest = &line[at + "crate::".len()..];
                let names = match rest.strip_prefix('{') {
                    Some(names) => names.split('}').next().unwrap_or_default().split(',').collect(),
                    None => vec![rest],
                };
                for name in names {
                    let name = name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    let is_module =
                        ["", "/mod"].iter().any(|m| root().join(dir).join(format!("{name}{m}.rs")).exists());
                    // What the root defines itself, or hands on from another crate, is nobody's.
                    let from = exported.get(name).map(String::as_str).filter(|m| *m != "gorun_scheduler");
                    let Some(target) = is_module.then_some(name).or(from) else { continue };
                    if target != module {
                        found.insert(target.to_owned());
                    }
                }
            }
        }
    }
    imports
}

fn check_graph(dir: &str, graph: &str) {
    let found = imports(dir);
    let lines: Vec<(&str, Vec<&str>)> = graph
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(module, imported)| (module, imported.split_whitespace().collect()))
        .collect();
    let mut wrong = Vec::new();
    let listed: BTreeSet<&str> = lines.iter().map(|(module, _)| *module).collect();
    wrong.extend(found.keys().filter(|m| !listed.contains(m.as_str())).map(|m| format!("{m} is not in the graph")));
    let mut below = BTreeSet::new();
    for (module, imported) in lines {
        let Some(found) = found.get(module) else {
            wrong.push(format!("{module} is in the graph, but not in {dir}"));
            continue;
        };
        let stated: BTreeSet<&str> = imported.iter().map(|i| i.trim_start_matches('^')).collect();
        wrong.extend(found.iter().filter(|i| !stated.contains(i.as_str())).map(|i| format!("{module} imports {i}")));
        wrong.extend(stated.iter().filter(|i| !found.contains(**i)).map(|i| format!("{module} imports no {i}")));
        for import in imported {
            let (up, name) = import.strip_prefix('^').map_or((false, import), |name| (true, name));
            if up == below.contains(name) {
                wrong.push(format!("{module}: {name} is {} it", if up { "below" } else { "not below" }));
            }
        }
        below.insert(module);
    }
    if !wrong.is_empty() {
        wrong.push(format!("\nIn the listed order it would be:\n{}", rendered(&found, graph)));
    }
    nothing_wrong(wrong);
}

/// The graph as it is, in the order of the lines of `graph`; modules that are not in it come last.
fn rendered(found: &BTreeMap<String, BTreeSet<String>>, graph: &str) -> String {
    let listed = graph.lines().filter_map(|line| line.trim().split_once(':')).map(|(module, _)| module);
    let mut order: Vec<&str> = listed.filter(|module| found.contains_key(*module)).collect();
    let new: Vec<&str> = found.keys().map(String::as_str).filter(|module| !order.contains(module)).collect();
    order.extend(new);
    let place = |module: &str| order.iter().position(|m| *m == module).unwrap_or(usize::MAX);
    let mut text = String::new();
    for (at, module) in order.iter().enumerate() {
        let mut imported: Vec<&String> = found[*module].iter().collect();
        imported.sort_by_key(|import| place(import));
        text += &format!("    {module}:");
        for import in imported {
            text += &format!(" {}{import}", if place(import) > at { "^" } else { "" });
        }
        text += "\n";
    }
    text
}

#[test]
fn goruns_modules_import_downwards() {
    check_graph("src", GORUN);
}

#[test]
fn each_crate_is_named_where_it_belongs() {
    let mut wrong = Vec::new();
    for (name, places) in CRATES {
        let path = format!("{name}::");
        let mut unused: BTreeSet<&str> = places.iter().copied().collect();
        for file in sources() {
            if file.code().any(|(_, line)| has_word(line, name) && line.contains(&path)) {
                match places.iter().find(|place| file.name.starts_with(**place)) {
                    Some(place) => drop(unused.remove(place)),
                    None => wrong.push(format!("{} names {name}", file.name)),
                }
            }
        }
        wrong.extend(unused.into_iter().map(|place| format!("{place} does not name {name}")));
    }
    nothing_wrong(wrong);
}

#[test]
fn thread_locals_are_where_they_belong() {
    let with: Vec<_> = sources()
        .into_iter()
        .filter(|f| f.code().any(|(_, line)| has_word(line, "thread_local") && line.contains("thread_local!")))
        .map(|f| f.name)
        .collect();
    assert_eq!(with, THREAD_LOCALS);
}

#[test]
fn orderings_say_why() {
    const WEAK: [&str; 4] = ["Relaxed", "Acquire", "Release", "AcqRel"];
    // Names an ordering, a named invariant (C1), or another place.
    let explains = |comment: &str| {
        let words: Vec<&str> = comment.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        words.iter().any(|w| WEAK.contains(w) || ["SeqCst", "above", "below", "As", "as", "See", "see"].contains(w))
            || words.iter().any(|w| w.len() == 2 && w.starts_with(char::is_uppercase) && w.ends_with(char::is_numeric))
    };
    let mut wrong = Vec::new();
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (n, line) in file.code().filter(|(_, line)| !line.trim_start().starts_with("use ")) {
            if !WEAK.iter().any(|name| has_word(line, name)) {
                continue;
            }
            let near = &lines[n.saturating_sub(8)..n];
            if !near.iter().filter_map(|l| l.split_once("//")).any(|(_, comment)| explains(comment)) {
                wrong.push(format!("{}:{n}: why this ordering? {}", file.name, line.trim()));
            }
        }
    }
    nothing_wrong(wrong);
}

/// Whether the line begins a function of the public interface: `unreachable_pub` sees to it that `pub` means that.
fn begins_pub_fn(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("pub ") else { return false };
    let rest = ["const ", "async ", "unsafe "].iter().fold(rest, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    rest.starts_with("fn ")
}

/// What is callable has an example. Of traits all methods, as who implements one wants to see it done.
#[test]
fn every_public_function_has_an_example() {
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<&str> = WITHOUT_EXAMPLES.iter().copied().collect();
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        // In a public trait, or in a module that is hidden: until a `}` at the beginning of a line.
        let (mut in_trait, mut hidden) = (false, false);
        for (n, line) in file.code() {
            let above = || lines[..n - 1].iter().rev().take_while(|l| l.trim_start().starts_with(['/', '#']));
            let is_hidden = || above().any(|l| l.contains("doc(hidden)"));
            match line {
                "}" => (in_trait, hidden) = (false, false),
                _ if line.starts_with("pub trait ") => in_trait = true,
                _ if line.starts_with("pub mod ") && line.ends_with('{') => hidden = is_hidden(),
                _ => {}
            }
            let exported = line.starts_with("macro_rules!") && above().any(|l| l.contains("macro_export"));
            let is_public = begins_pub_fn(line) || exported || in_trait && line.starts_with("    fn ");
            // A fence that says nothing of its language, or something of how it is run.
            let has_example = || above().any(|l| l.contains("/// ```") && !l.contains("```text"));
            if is_public && !hidden && !is_hidden() && !has_example() {
                match WITHOUT_EXAMPLES.iter().find(|name| file.name == **name) {
                    Some(name) => drop(unused.remove(name)),
                    None => wrong.push(format!("{}:{n}: no example: {}", file.name, line.trim())),
                }
            }
        }
    }
    wrong.extend(unused.into_iter().map(|name| format!("{name} has examples, or nothing that needs one")));
    nothing_wrong(wrong);
}

/// As GitHub makes them: lower case, spaces to hyphens, punctuation gone.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn local_links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        for (_, rest) in document.text.match_indices("](").map(|(at, _)| document.text[at + 2..].split_at(0)) {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let directory = Path::new(&document.name).parent().unwrap();
            let file = if file.is_empty() { PathBuf::from(&document.name) } else { directory.join(file) };
            if !root().join(&file).exists() {
                wrong.push(format!("{}: {target} does not exist", document.name));
            } else if !heading.is_empty() {
                let text = fs::read_to_string(root().join(&file)).unwrap();
                let mut headings =
                    text.lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#')));
                if !headings.any(|h| h == heading) {
                    wrong.push(format!("{}: {target} has no such heading", document.name));
                }
            }
        }
    }
    nothing_wrong(wrong);
}
