//! The shape of the project, checked: heads, sizes, which file names which crate, examples and links. (`floors` has imports.)
//!
//! Texts are read as a reader would, line by line; nothing is compiled. When a test here fails because the code has
//! grown, what it says is what to write into the lists below, or a reason to think again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file, and of a test, bench or example.
const MOST_LINES: usize = 500;
const MOST_TEST_LINES: usize = 700;

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
    ("socket2", &["src/net/"]),
    ("shuttle", &["scheduler/src/base/atomics.rs", "src/sync/shim.rs"]),
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
